"""pyVmomi against the simulator: connect, container view, property reads, create, power, WaitForUpdates, destroy.

    python inventory.py HOST PORT USER PASSWORD
"""

import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

host, port, user, password = sys.argv[1:5]


def wait(collector, task):
    """Waits for a task with CreateFilter and WaitForUpdates, as pyVim's WaitForTask does."""
    spec = vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=task)],
        propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.Task, pathSet=["info.state", "info.error", "info.result"])])
    watch = collector.CreateFilter(spec, True)
    version, state = None, None
    try:
        while state not in ("success", "error"):
            update = collector.WaitForUpdates(version)
            for filter_set in update.filterSet:
                for object_set in filter_set.objectSet:
                    for change in object_set.changeSet:
                        if change.name == "info.state":
                            state = change.val
            version = update.version
    finally:
        watch.Destroy()
    if state == "error":
        raise task.info.error
    return task.info.result


def read_all(entity):
    """Reads every property that the negotiated version has; pyVmomi itself refuses the newer ones."""
    for prop in entity._GetPropertyList():
        try:
            getattr(entity, prop.name)
        except vmodl.fault.MethodNotFound:
            pass


try:
    SmartConnect(host=host, port=int(port), user=user, pwd="wrong", disableSslCertValidation=True)
    raise SystemExit("a wrong password was taken")
except vim.fault.InvalidLogin:
    pass

si = SmartConnect(host=host, port=int(port), user=user, pwd=password, disableSslCertValidation=True)
content = si.RetrieveContent()
assert content.about.apiType == "HostAgent", content.about
assert content.about.version == "8.0.3"
assert content.sessionManager.currentSession.userName == user
datacenter = content.rootFolder.childEntity[0]
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
names = {vm.name: vm for vm in view.view}
assert "debian-12" in names and "vm-0001" in names, sorted(names)

template = names["debian-12"]
assert template.runtime.powerState == "poweredOff"
assert template.config.guestId == "debian12_64Guest" and template.config.firmware == "efi"
disk = [d for d in template.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)][0]
assert disk.backing.thinProvisioned and disk.backing.fileName == "[datastore1] debian-12/debian-12.vmdk"
# Every property of every object in the view can be read.
for vm in view.view:
    read_all(vm)
machine = names["vm-0001"]
assert machine.runtime.powerState == "poweredOn" and machine.guest.ipAddress and machine.guest.net[0].ipAddress
for entity in [content.rootFolder, datacenter, datacenter.vmFolder, *datacenter.hostFolder.childEntity,
               *datacenter.datastore, *datacenter.network, *datacenter.hostFolder.childEntity[0].host,
               datacenter.hostFolder.childEntity[0].resourcePool]:
    read_all(entity)

# Retrieved in pages.
collector = content.propertyCollector
spec = vmodl.query.PropertyCollector.FilterSpec(
    objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[
        vmodl.query.PropertyCollector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)])],
    propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.VirtualMachine, pathSet=["name", "summary.runtime.powerState"])])
result = collector.RetrievePropertiesEx([spec], vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=1))
found = []
while True:
    found += [o.propSet[0].val for o in result.objects]
    if not result.token:
        break
    result = collector.ContinueRetrievePropertiesEx(result.token)
assert sorted(found) == sorted(names), found

pool = datacenter.hostFolder.childEntity[0].resourcePool
device = vim.vm.device
controller = device.VirtualDeviceSpec(operation="add", device=device.ParaVirtualSCSIController(
    key=-1, busNumber=0, sharedBus="noSharing"))
new_disk = device.VirtualDeviceSpec(operation="add", fileOperation="create", device=device.VirtualDisk(
    key=-2, controllerKey=-1, unitNumber=0, capacityInKB=65536,
    backing=device.VirtualDisk.FlatVer2BackingInfo(fileName="[datastore1]", diskMode="persistent", thinProvisioned=True)))
card = device.VirtualDeviceSpec(operation="add", device=device.VirtualVmxnet3(
    key=-3, backing=device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")))
config = vim.vm.ConfigSpec(
    name="made-by-pyvmomi", numCPUs=2, memoryMB=512, guestId="debian12_64Guest", annotation="a note",
    files=vim.vm.FileInfo(vmPathName="[datastore1]"), deviceChange=[controller, new_disk, card],
    extraConfig=[vim.option.OptionValue(key="guestinfo.hello", value="world")])
made = wait(collector, datacenter.vmFolder.CreateVM_Task(config, pool))
assert made.name == "made-by-pyvmomi" and made.config.hardware.numCPU == 2
mac = [d.macAddress for d in made.config.hardware.device if isinstance(d, device.VirtualEthernetCard)][0]
assert mac.startswith("00:0c:29:"), mac
assert {o.key: o.value for o in made.config.extraConfig}["guestinfo.hello"] == "world"
try:
    wait(collector, datacenter.vmFolder.CreateVM_Task(config, pool))
    raise SystemExit("a duplicate name was taken")
except vim.fault.DuplicateName as fault:
    assert fault.name == "made-by-pyvmomi" and fault.object == made
wait(collector, made.PowerOnVM_Task())
assert made.runtime.powerState == "poweredOn"
try:
    wait(collector, made.Destroy_Task())
    raise SystemExit("a running machine was destroyed")
except vim.fault.InvalidPowerState as fault:
    assert fault.existingState == "poweredOn"
wait(collector, made.PowerOffVM_Task())
try:
    made.CloneVM_Task(datacenter.vmFolder, "copy", vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False))
    raise SystemExit("a standalone host cloned")
except vmodl.fault.NotSupported:
    pass
wait(collector, made.ReconfigVM_Task(vim.vm.ConfigSpec(memoryMB=1024)))
assert made.config.hardware.memoryMB == 1024
wait(collector, made.Destroy_Task())
try:
    made.name
    raise SystemExit("a destroyed machine answered")
except vmodl.fault.ManagedObjectNotFound as fault:
    assert fault.obj == made
view.Destroy()
Disconnect(si)
print("ok")
