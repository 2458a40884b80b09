"""Snapshots, consolidation and linked clones as pyVmomi drives them: what ceso does in one call, step by step."""
import sys, time
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
service = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
content = service.RetrieveContent()
datacenter = content.rootFolder.childEntity[0]
pool = datacenter.hostFolder.childEntity[0].resourcePool


def ended(task):
    for _ in range(1000):
        if task.info.state in ("success", "error"):
            return task.info
        time.sleep(0.01)
    raise SystemExit(f"{task} did not end")


def done(task):
    info = ended(task)
    assert info.state == "success", info.error
    return info.result


def refused(task, kind):
    info = ended(task)
    assert isinstance(info.error, kind), info


def named(name):
    return next(vm for vm in datacenter.vmFolder.childEntity if vm.name == name)


def disk(vm):
    return next(device for device in vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk))


template = named("debian-12")
base = disk(template).backing.fileName

# Snapshots: a tree, its names, a revert that goes back to what was, removal that keeps what is now.
one = done(template.CreateSnapshot_Task(name="one", description="first", memory=False, quiesce=False))
done(template.CreateSnapshot_Task(name="two", description="", memory=False, quiesce=False))
roots = template.snapshot.rootSnapshotList
assert [each.name for each in roots] == ["one"] and [each.name for each in roots[0].childSnapshotList] == ["two"]
assert template.snapshot.currentSnapshot == roots[0].childSnapshotList[0].snapshot
assert disk(template).backing.fileName != base and disk(template).backing.parent.parent.fileName == base
assert next(d for d in one.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)).backing.fileName == base
done(template.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="after two")))
one.RenameSnapshot(name="renamed", description="said anew")
assert template.snapshot.rootSnapshotList[0].name == "renamed"
assert template.snapshot.rootSnapshotList[0].description == "said anew"
done(one.RevertToSnapshot_Task())
assert template.config.annotation != "after two" and template.snapshot.currentSnapshot == one
done(one.RemoveSnapshot_Task(removeChildren=False))
assert [each.name for each in template.snapshot.rootSnapshotList] == ["two"]
done(template.RemoveAllSnapshots_Task())
assert template.snapshot is None
done(template.ConsolidateVMDisks_Task())
assert template.runtime.consolidationNeeded is False
assert disk(template).backing.fileName == base and disk(template).backing.parent is None

# A linked clone: a machine whose disk builds on the template's.
controller = vim.vm.device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing")
backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="[datastore1]", diskMode="persistent", thinProvisioned=True)
backing.parent = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=base, diskMode="persistent")
own = vim.vm.device.VirtualDisk(key=-2, controllerKey=-1, unitNumber=0, backing=backing, capacityInKB=0)
add = vim.vm.device.VirtualDeviceSpec.Operation.add
changes = [
    vim.vm.device.VirtualDeviceSpec(operation=add, device=controller),
    vim.vm.device.VirtualDeviceSpec(operation=add, fileOperation="create", device=own),
]
spec = vim.vm.ConfigSpec(name="child", guestId="debian12_64Guest", numCPUs=1, memoryMB=512, deviceChange=changes)
spec.files = vim.vm.FileInfo(vmPathName="[datastore1] child/child.vmx")
child = done(datacenter.vmFolder.CreateVM_Task(config=spec, pool=pool))
assert disk(child).backing.parent.fileName == base and disk(child).backing.fileName != base
assert disk(child).capacityInBytes == disk(template).capacityInBytes
done(child.PowerOnVM_Task())
refused(template.PowerOnVM_Task(), vim.fault.FileLocked)
done(child.PowerOffVM_Task())
# What is the parent's is detached before the child goes: a host deletes every disk that the machine has.
remove = vim.vm.device.VirtualDeviceSpec.Operation.remove
done(child.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(operation=remove, device=disk(child))])))
done(child.Destroy_Task())
done(template.PowerOnVM_Task())
done(template.PowerOffVM_Task())
Disconnect(service)
print("ok")
