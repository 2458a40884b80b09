"""Checks recorded requests of ceso's client, field by field, against pyVmomi's type tables.

    check_requests.py FOLDER

FOLDER holds one file per request, named NUMBER@VERSION.xml (VERSION: the negotiated API version), and methods.txt with every method
that the client can send, one a line. Checked: that the method and every field exist and are not newer than the negotiated version, the
order, what is required, how often a field may come, the type of every value, of every reference and of every `xsi:type`, and that
each property path of a query leads somewhere. A method without a request is an error. Ends with 1 and one line for each error.
"""

import datetime
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from pyVmomi import VmomiSupport as vmomi
from pyVmomi import vim, vmodl  # noqa: F401  (loads the tables)

SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
VIM = "{urn:vim25}"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
RANGES = {"int": 2**31, "long": 2**63, "short": 2**15, "byte": 2**7}


class Checker:
    def __init__(self, version):
        self.version = vmomi.GetVersionFromVersionUri("urn:vim25/" + version)
        self.errors = []

    def error(self, where, what):
        self.errors.append(f"{where}: {what}")

    def known_since(self, where, version):
        if not vmomi.IsChildVersion(self.version, version):
            self.error(where, f"is newer ({version}) than the negotiated {self.version}")

    def request(self, root):
        body = root.find(SOAP + "Body")
        if root.tag != SOAP + "Envelope" or body is None or len(body) != 1:
            self.error("envelope", "is not a SOAP envelope with one call")
            return None
        call = body[0]
        name = call.tag.removeprefix(VIM)
        try:
            method = vmomi.GuessWsdlMethod(name)
        except KeyError:
            self.error(name, "is not a method of vim25")
            return name
        self.known_since(name, method.info.version)
        children = list(call)
        if not children or children[0].tag != VIM + "_this":
            self.error(name, "does not begin with _this")
            return name
        self.reference(f"{name}._this", children[0], method.info.type)
        self.fields(name, children[1:], method.info.params)
        return name

    def fields(self, where, elements, infos):
        """Elements against fields: known, in order, as often as they may come, and none missing."""
        infos = list(infos)
        at = 0
        seen = {}
        for element in elements:
            if not element.tag.startswith(VIM):
                self.error(where, f"<{element.tag}> is not in the namespace urn:vim25")
                continue
            name = element.tag.removeprefix(VIM)
            index = next((i for i, info in enumerate(infos) if info.name == name), None)
            if index is None:
                self.error(where, f"has no field {name}")
                continue
            if index < at:
                self.error(where, f"{name} comes too late")
            at = max(at, index)
            info = infos[index]
            field = f"{where}.{name}"
            self.known_since(field, info.version)
            seen[name] = seen.get(name, 0) + 1
            kind = info.type
            if issubclass(kind, vmomi.Array):
                kind = kind.Item
            elif seen[name] > 1:
                self.error(field, "comes more than once")
            self.value(field, element, kind)
        for info in infos:
            if not info.flags & vmomi.F_OPTIONAL and info.name not in seen and not issubclass(info.type, vmomi.Array):
                self.error(where, f"lacks the required field {info.name}")

    def value(self, where, element, kind):
        text = element.text or ""
        stated = element.get(XSI_TYPE)
        if kind is object:
            if stated != "xsd:string" or len(element):
                self.error(where, f"an any-value of type {stated} is not checked by this script")
        elif issubclass(kind, vmomi.ManagedObject):
            self.reference(where, element, kind)
        elif issubclass(kind, vmomi.DataObject):
            self.data(where, element, kind, stated)
        elif len(element) or stated:
            self.error(where, f"should be a plain {kind.__name__}")
        elif issubclass(kind, vmomi.Enum):
            if text not in kind.values:
                self.error(where, f"{text!r} is not one of {kind.values}")
        elif kind is bool:
            if text not in ("true", "false"):
                self.error(where, f"{text!r} is no boolean")
        elif kind.__name__ in RANGES or kind in (int,):
            limit = RANGES.get(kind.__name__, 2**31)
            try:
                if not -limit <= int(text) < limit:
                    self.error(where, f"{text} is out of range for {kind.__name__}")
            except ValueError:
                self.error(where, f"{text!r} is no {kind.__name__}")
        elif kind is type:
            self.type_named(where, text)
        elif issubclass(kind, datetime.datetime):
            try:
                datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
            except ValueError:
                self.error(where, f"{text!r} is no time")
        elif issubclass(kind, str):
            pass
        else:
            self.error(where, f"values of type {kind} are not checked by this script")

    def type_named(self, where, name):
        try:
            return vmomi.GetWsdlType("urn:vim25", name)
        except KeyError:
            self.error(where, f"{name!r} is no type")

    def reference(self, where, element, kind):
        name = element.get("type")
        if not (element.text or "").strip() or name is None:
            self.error(where, "is not a reference")
            return
        found = self.type_named(where, name)
        if found and not issubclass(found, kind):
            self.error(where, f"is a {name}, not a {kind.__name__}")

    def data(self, where, element, kind, stated):
        if stated is not None:
            found = self.type_named(where, stated)
            if found is None:
                return
            if not issubclass(found, kind):
                self.error(where, f"is a {stated}, not a {kind.__name__}")
                return
            kind = found
            self.known_since(where, kind._version)
        where = f"{where}<{kind.__name__.split('.')[-1]}>"
        self.fields(where, list(element), kind._GetPropertyList())
        paths = {"PropertySpec": ("type", "pathSet"), "TraversalSpec": ("type", "path")}.get(kind.__name__.split(".")[-1])
        if paths:
            start = self.type_named(where, element.findtext(VIM + paths[0], ""))
            for path in element.findall(VIM + paths[1]):
                self.path(f"{where} {path.text}", start, path.text or "")

    def path(self, where, kind, path):
        """A property path leads from a type to a property that the negotiated version has."""
        for name in path.split("."):
            if kind is None:
                return
            try:
                info = kind._GetPropertyInfo(name)
            except (AttributeError, KeyError):
                self.error(where, f"{kind.__name__} has no property {name}")
                return
            self.known_since(where, info.version)
            kind = info.type


def main():
    folder = Path(sys.argv[1])
    methods = set((folder / "methods.txt").read_text().split())
    covered = set()
    failures = set()
    files = sorted(folder.glob("*@*.xml"))
    for file in files:
        checker = Checker(file.stem.split("@", 1)[1])
        name = checker.request(ElementTree.parse(file).getroot())
        covered.add(name)
        failures.update(checker.errors)
    failures.update(f"{name}: no request was recorded" for name in methods - covered)
    failures.update(f"{name}: is sent but is not in the client's list" for name in covered - methods)
    for failure in sorted(failures, key=str):
        print(failure)
    print(f"{len(files)} requests of {len(covered)} methods, {len(failures)} errors")
    return 1 if failures or not files else 0


if __name__ == "__main__":
    sys.exit(main())
