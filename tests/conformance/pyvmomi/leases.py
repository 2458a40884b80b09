"""Leases as pyVmomi sees them: export to the end, abort, and what is refused while one is held."""
import ssl, sys, time, urllib.request
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
service = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
content = service.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
vm = next(each for each in view.view if each.name == "small")


def ready(lease):
    for _ in range(200):
        if lease.state != vim.HttpNfcLease.State.initializing:
            return lease
        time.sleep(0.02)
    raise SystemExit("the lease stayed initializing")


def refused(what, kind):
    try:
        task = what()
    except kind:
        return
    while task.info.state not in ("success", "error"):
        time.sleep(0.02)
    assert isinstance(task.info.error, kind), task.info


lease = ready(vm.ExportVm())
assert lease.state == vim.HttpNfcLease.State.ready, lease.state
refused(vm.PowerOnVM_Task, vim.fault.TaskInProgress)
refused(vm.Destroy_Task, vim.fault.TaskInProgress)
files = []
context = ssl._create_unverified_context()
cookie = service._stub.cookie.split(";")[0]
for device in lease.info.deviceUrl:
    assert device.url.startswith("https://*/"), device.url
    url = device.url.replace("*", f"{host}:{port}")
    body = urllib.request.urlopen(urllib.request.Request(url, headers={"Cookie": cookie}), context=context).read()
    assert body[:4] == b"KDMV" and len(body) % 512 == 0
    lease.HttpNfcLeaseProgress(50)
    files.append(vim.OvfManager.OvfFile(deviceId=device.key, path=device.targetId, size=len(body)))
try:
    urllib.request.urlopen(url, context=context)
    raise SystemExit("a disk without a session")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
manifest = lease.HttpNfcLeaseGetManifest()
assert len(manifest) == len(files) and all(len(entry.sha1) == 40 for entry in manifest), manifest
lease.HttpNfcLeaseComplete()
assert lease.state == vim.HttpNfcLease.State.done
params = vim.OvfManager.CreateDescriptorParams(ovfFiles=files, name="small")
described = content.ovfManager.CreateDescriptor(obj=vm, cdp=params)
assert not described.error and "disk-0.vmdk" in described.ovfDescriptor
parsed = content.ovfManager.ParseDescriptor(described.ovfDescriptor, vim.OvfManager.ParseDescriptorParams(locale="", deploymentOption=""))
assert [network.name for network in parsed.network] == ["VM Network"], parsed
datacenter = content.rootFolder.childEntity[0]
pool = datacenter.hostFolder.childEntity[0].resourcePool
asked = vim.OvfManager.CreateImportSpecParams(entityName="imported", locale="", deploymentOption="", diskProvisioning="thin")
spec = content.ovfManager.CreateImportSpec(described.ovfDescriptor, pool, datacenter.datastore[0], asked)
assert not spec.error and len(spec.fileItem) == len(files), spec
lease = ready(pool.ImportVApp(spec.importSpec, datacenter.vmFolder))
keys = {device.importKey for device in lease.info.deviceUrl}
assert {item.deviceId for item in spec.fileItem} <= keys, (spec.fileItem, keys)
assert any(each.name == "imported" for each in datacenter.vmFolder.childEntity)
lease.HttpNfcLeaseAbort()
assert lease.state == vim.HttpNfcLease.State.error
assert all(each.name != "imported" for each in datacenter.vmFolder.childEntity)
refused(lambda: lease.HttpNfcLeaseProgress(1), vim.fault.InvalidState)
Disconnect(service)
print("ok")
