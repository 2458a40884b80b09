"""Lists name, power state and address of every machine as pyVmomi's own samples do: a container view and the property collector."""

import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

PROPERTIES = ["name", "runtime.powerState", "guest.ipAddress"]

host, port, user, password = sys.argv[1:]
service = SmartConnect(host=host, port=int(port), user=user, pwd=password, disableSslCertValidation=True)
content = service.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
collector = vmodl.query.PropertyCollector
step = collector.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)
wanted = collector.FilterSpec(
    objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[step])],
    propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=PROPERTIES)],
)
page = content.propertyCollector.RetrievePropertiesEx([wanted], collector.RetrieveOptions())
while page:
    for found in page.objects:
        values = {each.name: each.val for each in found.propSet}
        print(*(values.get(name, "-") for name in PROPERTIES))
    page = content.propertyCollector.ContinueRetrievePropertiesEx(page.token) if page.token else None
view.Destroy()
Disconnect(service)
