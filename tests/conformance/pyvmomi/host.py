"""The host itself as pyVmomi sees it: events, tasks, sensors, port groups, mounts, maintenance, its configuration, its end."""
import ssl, sys, time, urllib.request
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
service = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
content = service.RetrieveContent()
datacenter = content.rootFolder.childEntity[0]
system = datacenter.hostFolder.childEntity[0].host[0]
managers = system.configManager


def ended(task):
    for _ in range(1000):
        if task.info.state in ("success", "error"):
            return task.info
        time.sleep(0.01)
    raise SystemExit(f"{task} did not end")


def refused(what, kind):
    try:
        task = what()
    except kind:
        return
    raise SystemExit(f"{task}: it should have been refused")


# Sensors and devices.
sensors = system.runtime.healthSystemRuntime.systemHealthInfo.numericSensorInfo
assert {sensor.sensorType for sensor in sensors} >= {"temperature", "fan"}
assert all(sensor.healthState.key == "green" for sensor in managers.healthStatusSystem.runtime.systemHealthInfo.numericSensorInfo)
capable = [info.id for info in system.config.pciPassthruInfo if info.passthruCapable]
assert capable and capable[0] in [device.id for device in system.hardware.pciDevice]

# Events: by question, by collector, filtered.
template = next(vm for vm in datacenter.vmFolder.childEntity if vm.name == "debian-12")
assert ended(template.PowerOnVM_Task()).state == "success"
manager = content.eventManager
mine = vim.event.EventFilterSpec.ByEntity(entity=template, recursion="self")
events = manager.QueryEvents(vim.event.EventFilterSpec(entity=mine))
assert [type(event).__name__ for event in events] == ["vim.event.VmPoweredOnEvent"], events
assert events[0].vm.name == "debian-12" and events[0].vm.vm == template and events[0].userName == user
assert isinstance(manager.latestEvent, vim.event.VmPoweredOnEvent)
logins = manager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=["vim.event.UserLoginSessionEvent"]))
assert logins and logins[-1].userName == user and logins[-1].ipAddress
assert not manager.QueryEvents(vim.event.EventFilterSpec(userName=vim.event.EventFilterSpec.ByUsername(systemUser=False, userList=["x"])))
future = vim.event.EventFilterSpec.ByTime(beginTime=logins[-1].createdTime.replace(year=2200))
assert not manager.QueryEvents(vim.event.EventFilterSpec(time=future))
collector = manager.CreateCollectorForEvents(vim.event.EventFilterSpec())
collector.SetCollectorPageSize(5)
collector.RewindCollector()
first = collector.ReadNextEvents(1)
assert len(first) == 1 and collector.ReadNextEvents(1)[0].key > first[0].key
collector.ResetCollector()
assert not collector.ReadNextEvents(10)
manager.LogUserEvent(template, "said by hand")
assert collector.ReadNextEvents(10)[0].message == "said by hand"
assert 0 < len(collector.latestPage) <= 5 and isinstance(collector.latestPage[0], vim.event.GeneralUserEvent)
collector.DestroyCollector()

# Tasks: the newest, and no collectors of them.
recent = [task.info.descriptionId for task in content.taskManager.recentTask]
assert any(name.startswith("VirtualMachine.powerOn") for name in recent), recent
refused(lambda: content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec()), vmodl.fault.NotSupported)

# Port groups.
network = managers.networkSystem
spec = vim.host.PortGroup.Specification(name="lab", vlanId=42, vswitchName="vSwitch0", policy=vim.host.NetworkPolicy())
network.AddPortGroup(portgrp=spec)
assert [group.spec.vlanId for group in system.config.network.portgroup if group.spec.name == "lab"] == [42]
refused(lambda: network.AddPortGroup(portgrp=spec), vim.fault.AlreadyExists)
refused(lambda: network.RemovePortGroup("VM Network"), vim.fault.ResourceInUse)
network.RemovePortGroup("lab")
refused(lambda: network.RemovePortGroup("lab"), vim.fault.NotFound)

# NFS mounts.
mount = vim.host.NasVolume.Specification(remoteHost="10.0.1.5", remotePath="/export", localPath="isos", accessMode="readOnly", type="NFS")
store = managers.datastoreSystem.CreateNasDatastore(mount)
assert store.summary.type == "NFS" and store.info.nas.remotePath == "/export" and store in system.datastore
assert store.host[0].mountInfo.accessMode == "readOnly"
refused(lambda: managers.datastoreSystem.CreateNasDatastore(mount), vim.fault.DuplicateName)
managers.datastoreSystem.RemoveDatastore(store)
assert len(system.datastore) == 1
refused(lambda: managers.datastoreSystem.RemoveDatastore(system.datastore[0]), vim.fault.ResourceInUse)

# What starts with the host: places that push others, and what takes no part.
autostart = managers.autoStartManager
info = vim.host.AutoStartManager.AutoPowerInfo
def starting(order, action="powerOn", stop="systemDefault"):
    return info(key=template, startOrder=order, startDelay=-1, waitForHeartbeat="systemDefault", startAction=action, stopDelay=-1, stopAction=stop)
def configured(**what):
    autostart.ReconfigureAutostart(vim.host.AutoStartManager.Config(**what))
configured(defaults=vim.host.AutoStartManager.SystemDefaults(enabled=True, startDelay=9, stopAction="guestShutdown"))
assert autostart.config.defaults.startDelay == 9 and system.config.autoStart.defaults.enabled
for wrong in (starting(0), starting(2), starting(1, action="none"), starting(-1, action="perhaps"), starting(-1, stop="perhaps")):
    refused(lambda: configured(powerInfo=[wrong]), vmodl.fault.InvalidArgument)
configured(powerInfo=[starting(1)])
assert [(row.key, row.startOrder) for row in autostart.config.powerInfo] == [(template, 1)]
configured(powerInfo=[starting(-1, action="none", stop="none")])
assert not autostart.config.powerInfo

# PCI devices: named as the environment tells them, by one machine that runs, with all of its memory reserved.
assert ended(template.PowerOffVM_Task()).state == "success"
offered = template.environmentBrowser.QueryConfigTarget(None).pciPassthrough[0]
def handed(device, system_id):
    backing = vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo(deviceName="", id=offered.pciDevice.id, deviceId=device, systemId=system_id, vendorId=offered.pciDevice.vendorId)
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=vim.vm.device.VirtualPCIPassthrough(key=-1, backing=backing))
    return ended(template.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
number = hex(offered.pciDevice.deviceId % 2**16)[2:]
assert isinstance(handed("1", offered.systemId).error, vim.fault.InvalidDeviceBacking)
assert isinstance(handed(number, "elsewhere").error, vim.fault.InvalidDeviceBacking)
assert handed(number, offered.systemId).state == "success"
assert "sched.mem.min" in ended(template.PowerOnVM_Task()).error.reason
assert ended(template.ReconfigVM_Task(vim.vm.ConfigSpec(memoryReservationLockedToMax=True))).state == "success"
assert template.config.memoryAllocation.reservation == template.config.hardware.memoryMB
assert ended(template.PowerOnVM_Task()).state == "success"
assert isinstance(ended(template.CreateSnapshot_Task("a", "", True, False)).error, vim.fault.SnapshotIncompatibleDeviceInVm)
assert ended(template.PowerOffVM_Task()).state == "success"
held = next(device for device in template.config.hardware.device if isinstance(device, vim.vm.device.VirtualPCIPassthrough))
away = vim.vm.device.VirtualDeviceSpec(operation="remove", device=held)
assert ended(template.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[away]))).state == "success"
setting = vim.host.PciPassthruConfig(id=offered.pciDevice.id, passthruEnabled=False)
managers.pciPassthruSystem.UpdatePassthruConfig([setting])
told = next(row for row in system.config.pciPassthruInfo if row.id == offered.pciDevice.id)
assert not told.passthruEnabled and told.passthruActive, "not before the host was restarted"

# What a machine asks: it was moved, for its configuration says another place.
files = content.fileManager
assert template.runtime.question is None
ended(content.virtualDiskManager.CopyVirtualDisk_Task("[datastore1] debian-12/debian-12.vmdk", datacenter, "[datastore1] debian-12.vmdk", datacenter))
files.MakeDirectory("[datastore1] copy", datacenter)
for name in ("debian-12.vmx", "debian-12.nvram"):
    assert ended(files.CopyDatastoreFile_Task(f"[datastore1] debian-12/{name}", datacenter, f"[datastore1] copy/{name}", datacenter)).state == "success"
assert ended(content.virtualDiskManager.MoveVirtualDisk_Task("[datastore1] debian-12.vmdk", datacenter, "[datastore1] copy/debian-12.vmdk", datacenter)).state == "success"
taken = ended(datacenter.vmFolder.RegisterVM_Task("[datastore1] copy/debian-12.vmx", "copy", False, template.resourcePool)).result
task = taken.PowerOnVM_Task()
for _ in range(500):
    if taken.runtime.question:
        break
    time.sleep(0.01)
question = taken.runtime.question
assert question.message[0].id == "msg.uuid.altered" and task.info.state == "running"
choices = {choice.label: choice.key for choice in question.choice.choiceInfo}
assert question.choice.choiceInfo[question.choice.defaultIndex].label == "button.uuid.copiedTheVM"
refused(lambda: taken.AnswerVM("elsewhere", "2"), vmodl.fault.InvalidArgument)
refused(lambda: taken.AnswerVM(question.id, "3"), vmodl.fault.InvalidArgument)
before = taken.config.uuid
taken.AnswerVM(question.id, choices["button.uuid.copiedTheVM"])
assert ended(task).state == "success" and taken.runtime.question is None and taken.config.uuid != before
assert ended(taken.PowerOffVM_Task()).state == "success" and ended(taken.Destroy_Task()).state == "success"
assert ended(template.PowerOnVM_Task()).state == "success"

# Maintenance: not while a machine runs, and none is turned on in it.
assert isinstance(ended(system.EnterMaintenanceMode_Task(timeout=1)).error, vim.fault.Timedout)
refused(lambda: system.ShutdownHost_Task(force=False), vim.fault.InvalidState)
assert ended(template.PowerOffVM_Task()).state == "success"
assert ended(system.EnterMaintenanceMode_Task(timeout=5)).state == "success"
assert system.runtime.inMaintenanceMode and isinstance(manager.latestEvent, vim.event.EnteredMaintenanceModeEvent)
assert isinstance(ended(template.PowerOnVM_Task()).error, vim.fault.InvalidState)

# Its configuration: out by a URL with * for the host, and in again.
firmware = managers.firmwareSystem
url = firmware.BackupFirmwareConfiguration()
assert url.split("/")[2] == "*", url
context = ssl._create_unverified_context()
cookie = {"Cookie": service._stub.cookie.split(";")[0]}
bundle = urllib.request.urlopen(urllib.request.Request(url.replace("*", f"{host}:{port}"), headers=cookie), context=context).read()
assert bundle
try:
    urllib.request.urlopen(url.replace("*", f"{host}:{port}"), context=context)
    raise SystemExit("a configuration without a session")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
refused(lambda: firmware.RestoreFirmwareConfiguration(force=False), vim.fault.FileNotFound)
place = firmware.QueryFirmwareConfigUploadURL().replace("*", f"{host}:{port}")
urllib.request.urlopen(urllib.request.Request(place, data=b"nonsense", headers=cookie, method="PUT"), context=context)
refused(lambda: firmware.RestoreFirmwareConfiguration(force=False), vim.fault.InvalidBundle)
urllib.request.urlopen(urllib.request.Request(place, data=bundle, headers=cookie, method="PUT"), context=context)
firmware.RestoreFirmwareConfiguration(force=False)
time.sleep(0.3)
service = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
system = service.RetrieveContent().rootFolder.childEntity[0].hostFolder.childEntity[0].host[0]
assert ended(system.ExitMaintenanceMode_Task(timeout=5)).state == "success"
refused(lambda: system.ShutdownHost_Task(force=False), vim.fault.InvalidState)
system.ShutdownHost_Task(force=True)
print("ok")
