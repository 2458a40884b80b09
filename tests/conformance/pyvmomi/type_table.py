"""Writes the simulator's table of vim25 types (src/sim/vim25.txt) from pyVmomi's own type tables.

    python type_table.py > src/sim/vim25.txt

Only what the simulator serves is kept: the managed types below with their properties and methods, every data type that these
reach, and the types derived from them, up to API version 8.0.3.0. One line per type:

    d NAME BASE FIELD...          data type; FIELD is name[?]=type[[]][@version], `?` optional, version where newer than 6.5
    e NAME VALUE...               enumeration
    m NAME BASE FIELD...          managed type with its properties
    f OWNER METHOD RESULT FIELD.. method with its parameters; RESULT is a type or `void`
"""

import os
import sys

import pyVmomi

MANAGED = """ManagedObject ServiceInstance PropertyCollector PropertyFilter ViewManager View ManagedObjectView ContainerView ListView
SessionManager SearchIndex ExtensibleManagedObject ManagedEntity Folder Datacenter ComputeResource ResourcePool HostSystem Datastore
Network VirtualMachine Task TaskManager EventManager HistoryCollector PerformanceManager LicenseManager LicenseAssignmentManager
AuthorizationManager OptionManager UserDirectory HostLocalAccountManager FileManager VirtualDiskManager HostDatastoreBrowser
EnvironmentBrowser HostDatastoreSystem HostNetworkSystem HostStorageSystem HostServiceSystem HostFirewallSystem
HostVirtualNicManager HostDateTimeSystem HostAutoStartManager DiagnosticManager OvfManager
GuestOperationsManager GuestAuthManager GuestFileManager GuestProcessManager VirtualMachineSnapshot HttpNfcLease HostPowerSystem HostCpuSchedulerSystem HostMemorySystem
EventHistoryCollector HostFirmwareSystem HostHealthStatusSystem HostPciPassthruSystem HostCertificateManager""".split()

# Roots that nothing on a standalone host can fill: their families are left out, and a field of such a type with them.
LEFT_OUT = """Profile ApplyProfile PolicyOption ClusterAction DVPortConfigInfo DVSConfigInfo DVPortSetting
DVSFeatureCapability DistributedVirtualSwitchHostMember ClusterConfigInfo ClusterDasVmConfigInfo CustomizationSpec
VsanHostConfigInfo ScheduledTaskInfo AlarmInfo ProfileExecuteResult HostProfileConfigInfo ClusterConfigInfoEx VStorageObject
ClusterConfigSpec ClusterConfigSpecEx DVSConfigSpec DVSCreateSpec StoragePlacementSpec VirtualMachineProvisioningPolicy
HostVsanInternalSystemVsanObjectOperationResult NvdimmNamespaceCreateSpec VsanUpgradeSystemUpgradeHistoryItem
CustomizationIdentitySettings CustomizationIpGenerator OvfFault HostMultipathStateInfo HostSriovInfo""".split()

# Of the events, which are hundreds, those that a standalone host without its cluster has something to say by.
EVENTS = """Event EventArgument EntityEventArgument VmEventArgument HostEventArgument DatacenterEventArgument ManagedEntityEventArgument
ComputeResourceEventArgument DatastoreEventArgument NetworkEventArgument HostEvent VmEvent SessionEvent GeneralEvent GeneralUserEvent
TaskEvent UserLoginSessionEvent UserLogoutSessionEvent BadUsernameSessionEvent VmCreatedEvent VmRemovedEvent VmRegisteredEvent
VmRenamedEvent VmPoweredOnEvent VmPoweredOffEvent VmSuspendedEvent VmResettingEvent VmGuestShutdownEvent VmReconfiguredEvent
EnteringMaintenanceModeEvent EnteredMaintenanceModeEvent ExitMaintenanceModeEvent HostShutdownEvent NASDatastoreCreatedEvent
DatastoreRemovedOnHostEvent""".split()

NEWEST = "8.0.3.0"
PRIMITIVES = {"boolean": "boolean", "byte": "byte", "short": "short", "int": "int", "long": "long", "float": "float",
              "double": "double", "string": "string", "anyType": "anyType", "void": "void", "vmodl.DateTime": "dateTime",
              "vmodl.Binary": "base64Binary", "vmodl.TypeName": "string", "vmodl.MethodName": "string",
              "vmodl.PropertyPath": "string", "vmodl.URI": "anyURI", "vmodl.Any": "anyType"}

data, enums, managed, wire, versions = {}, {}, {}, {}, {}


def number(version):
    return tuple(int(part) for part in version.split("."))


def load():
    names = {"F_OPTIONAL": 1, "F_LINK": 2, "F_LINKABLE": 4, "F_SECRET": 8}

    def add_version(name, _ns, version_id, *_):
        versions[name] = version_id

    def create_data(name, wsdl, base, version, fields):
        wire[name] = wsdl
        data[name] = (wsdl, base, version, fields or [])

    def create_managed(name, wsdl, base, version, fields, methods):
        wire[name] = wsdl
        managed[name] = (wsdl, base, version, fields or [], methods or [])

    def create_enum(name, wsdl, version, values):
        wire[name] = wsdl
        enums[name] = (wsdl, values)

    class Quiet:
        def __getattr__(self, _):
            return lambda *a, **k: None

    scope = dict(names, AddVersion=add_version, CreateDataType=create_data, CreateManagedType=create_managed,
                 CreateEnumType=create_enum, AddVersionParent=lambda *a: None, AddBreakingChangesInfo=lambda *a: None,
                 newestVersions=Quiet(), ltsVersions=Quiet(), oldestVersions=Quiet())
    folder = os.path.dirname(pyVmomi.__file__)
    for name in ("core", "query", "vim"):
        with open(os.path.join(folder, f"_typeinfo_{name}.py"), encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("from ") and not line.startswith("import ")]
        exec(compile("".join(lines), name, "exec"), scope)  # the tables are calls of the functions above
    # What VmomiSupport itself defines in code.
    from pyVmomi import VmomiSupport
    for cls, name in ((VmomiSupport.types.vmodl.DynamicData, "vmodl.DynamicData"),
                      (VmomiSupport.types.vmodl.MethodFault, "vmodl.MethodFault")):
        wire.setdefault(name, name.rpartition(".")[2])
    data.setdefault("vmodl.DynamicData", ("DynamicData", "", "", []))
    data.setdefault("vmodl.MethodFault", ("MethodFault", "", "", [
        ("faultCause", "vmodl.LocalizedMethodFault", "", 1), ("faultMessage", "vmodl.LocalizableMessage[]", "", 1)]))
    wire.setdefault("vmodl.LocalizedMethodFault", "LocalizedMethodFault")
    data.setdefault("vmodl.LocalizedMethodFault", ("LocalizedMethodFault", "vmodl.DynamicData", "", [
        ("fault", "vmodl.MethodFault", "", 0), ("localizedMessage", "string", "", 1)]))
    wire.setdefault("vmodl.RuntimeFault", "RuntimeFault")
    data.setdefault("vmodl.RuntimeFault", ("RuntimeFault", "vmodl.MethodFault", "", []))
    managed.setdefault("vmodl.ManagedObject", ("ManagedObject", "", "", [], []))
    wire.setdefault("vmodl.ManagedObject", "ManagedObject")


def since(version):
    """The wire version of a field: '' where it is 6.5 or older, None where it is newer than what is served."""
    wire_version = versions.get(version, "")
    if not wire_version or not wire_version[0].isdigit() or "u" in wire_version:
        return "" if not wire_version.startswith("m") else None
    if number(wire_version) > number(NEWEST):
        return None
    return wire_version if number(wire_version) > (6, 5) else ""


def main():
    load()
    left_out = set(LEFT_OUT)
    children = {}
    for name, (_, base, _, _) in data.items():
        children.setdefault(base, []).append(name)

    def is_event(name):
        while name in data:
            if wire[name] in ("Event", "EventArgument"):
                return True
            name = data[name][1]
        return False

    def excluded(name):
        while name:
            wsdl = wire.get(name)
            if wsdl in left_out or (name.startswith("vim.event.") and is_event(name) and wsdl not in EVENTS):
                return True
            name = data[name][1] if name in data else ""
        return False

    keep, queue = set(), []

    def want(type_name):
        name = type_name.removesuffix("[]")
        if name in data and name not in keep and not excluded(name) and since(data[name][2]) is not None:
            keep.add(name)
            queue.append(name)
        elif name in enums:
            keep.add(name)

    by_wire = {wsdl: name for name, wsdl in wire.items()}
    served = [by_wire[name] for name in MANAGED]
    for name in served:
        for field in managed[name][3]:
            want(field[1])
        for method in managed[name][4]:
            for parameter in method[3]:
                want(parameter[1])
            want(method[4][1])
            want(method[4][2])
    want("vmodl.MethodFault")
    while queue:
        name = queue.pop()
        _, base, _, fields = data[name]
        if base:
            want(base)
        for field in fields:
            want(field[1])
        if name not in ("vmodl.DynamicData",):
            for child in children.get(name, []):
                want(child)

    def is_fault(name):
        while name and name != "vmodl.MethodFault":
            name = data[name][1] if name in data else ""
        return bool(name)

    def field_text(field, left_out_as=None):
        name, type_name, version, flags = field[0], field[1], field[2], field[3]
        version = since(version)
        if version is None:
            return None
        many = type_name.endswith("[]")
        bare = type_name.removesuffix("[]")
        if bare in PRIMITIVES:
            text = PRIMITIVES[bare]
        elif flags & 2:
            text = "string"
        elif is_fault(bare):
            text = "LocalizedMethodFault"
        elif bare in managed or bare == "vmodl.ManagedObject":
            text = "ManagedObjectReference"
        elif bare in keep:
            text = wire[bare]
        elif bare in enums:
            text = "string"
        elif bare in data and left_out_as is None:
            return None
        elif bare in data:  # a property of a family that is left out: known, and never with a value
            text = left_out_as
        else:
            text = "ManagedObjectReference"
        return f"{name}{'?' if flags & 1 else ''}={text}{'[]' if many else ''}{'@' + version if version else ''}"

    out = []
    for name in keep:
        if name in enums:
            wsdl, values = enums[name]
            out.append(" ".join(["e", wsdl] + [value for value in values if not value.startswith("_")]))
        else:
            wsdl, base, _, fields = data[name]
            texts = [text for text in map(field_text, fields) if text]
            if wsdl == "LocalizedMethodFault":  # the one place where a fault stands bare
                texts[0] = "fault=MethodFault"
            out.append(" ".join(["d", wsdl, wire.get(base, "-") or "-"] + texts))
    for name in served:
        wsdl, base, _, fields, methods = managed[name]
        texts = [text for text in (field_text(field, "anyType") for field in fields) if text]
        out.append(" ".join(["m", wsdl, wire.get(base, "-") or "-"] + texts))
        for method in methods:
            if since(method[2]) is None:
                continue
            result = field_text(("r", method[4][1], "", 0)) or "r=anyType"
            texts = [text for text in map(field_text, method[3]) if text]
            out.append(" ".join(["f", wsdl, method[1], result.partition("=")[2]] + texts))
    # Clients ask for the properties of any managed type; those that are not here have no objects, and need no more than a name.
    for name, (wsdl, base, _, _, _) in managed.items():
        if name not in served:
            out.append(f"m {wsdl} {wire.get(base, '-') or '-'}")
    print("\n".join(sorted(set(out))))


if __name__ == "__main__":
    sys.exit(main())
