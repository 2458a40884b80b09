"""What a host can be set to, as pyVmomi sees it: a certificate signed elsewhere, rulesets, services, options, counters, cloned sessions."""
import datetime, ssl, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
service = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
content = service.RetrieveContent()
system = content.rootFolder.childEntity[0].hostFolder.childEntity[0].host[0]
managers = system.configManager


def refused(what, kind):
    try:
        what()
    except kind as fault:
        return fault
    raise SystemExit("it should have been refused")


# A certificate over the host's own key, signed by an authority: kept at once, shown once the services are told.
certificates = managers.certificateManager
before = ssl.get_server_certificate((host, port))
request = x509.load_pem_x509_csr(certificates.GenerateCertificateSigningRequest(useIpAddressAsCommonName=True).encode())
assert request.is_signature_valid
names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == [host]
by_name = x509.load_pem_x509_csr(certificates.GenerateCertificateSigningRequestByDn("CN=esx,O=Company").encode())
assert by_name.subject.rfc4514_string() in ("O=Company,CN=esx", "CN=esx,O=Company")
refused(lambda: certificates.GenerateCertificateSigningRequestByDn("nothing"), vmodl.fault.InvalidArgument)
key, authority = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
now = datetime.datetime.now(datetime.timezone.utc)


def signed(public, first, last):
    made = x509.CertificateBuilder().subject_name(request.subject).issuer_name(authority).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now + first).not_valid_after(now + last)
    made = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


day = datetime.timedelta(days=1)
for wrong in ("", "x", signed(key.public_key(), -day, day), signed(request.public_key(), -2 * day, -day)):
    refused(lambda: certificates.InstallServerCertificate(wrong), vim.fault.HostConfigFault)
certificates.InstallServerCertificate(signed(request.public_key(), -day, 90 * day))
assert certificates.certificateInfo.issuer == "CN=authority" and certificates.certificateInfo.status == "good"
assert ssl.get_server_certificate((host, port)) == before
certificates.NotifyAffectedServices()
after = x509.load_pem_x509_certificate(ssl.get_server_certificate((host, port)).encode())
assert after.issuer == authority and after.public_key() == request.public_key()
assert bytes(byte & 0xFF for byte in system.config.certificate).decode().startswith("-----BEGIN CERTIFICATE-----")
certificates.ReplaceCACertificatesAndCRLs(caCert=[before])
assert certificates.ListCACertificates() == [before] and not certificates.ListCACertificateRevocationLists()

# Rulesets: switched, opened to some.
firewall = managers.firewallSystem
sets = {one.key: one for one in firewall.firewallInfo.ruleset}
assert sets["sshServer"].enabled and not sets["sshClient"].enabled and sets["sshServer"].rule[0].port == 22
firewall.DisableRuleset("sshServer")
hosts = vim.host.Ruleset.IpList(allIp=False, ipAddress=["10.0.1.7"], ipNetwork=[vim.host.Ruleset.IpNetwork(network="10.0.2.0", prefixLength=24)])
firewall.UpdateRuleset("sshClient", vim.host.Ruleset.RulesetSpec(allowedHosts=hosts))
sets = {one.key: one for one in system.config.firewall.ruleset}
assert not sets["sshServer"].enabled and sets["sshClient"].allowedHosts.ipNetwork[0].prefixLength == 24
refused(lambda: firewall.EnableRuleset("none"), vim.fault.NotFound)
hosts.ipAddress = ["not an address"]
refused(lambda: firewall.UpdateRuleset("sshClient", vim.host.Ruleset.RulesetSpec(allowedHosts=hosts)), vmodl.fault.InvalidArgument)

# Services and options.
services = managers.serviceSystem
services.StartService("TSM-SSH")
refused(lambda: services.StartService("TSM-SSH"), vim.fault.InvalidState)
assert next(one for one in system.config.service.service if one.key == "TSM-SSH").running
services.UpdateServicePolicy("TSM-SSH", "on")
options = managers.advancedOption
options.UpdateOptions([vim.option.OptionValue(key="UserVars.SuppressShellWarning", value=1)])
assert options.QueryOptions("UserVars.SuppressShellWarning")[0].value == 1
refused(lambda: options.UpdateOptions([vim.option.OptionValue(key="UserVars.SuppressShellWarning", value=7)]), vmodl.fault.InvalidArgument)

# Counters: in both forms, over both intervals, and what is asked for wrongly.
perf = content.perfManager
keys = {f"{one.groupInfo.key}.{one.nameInfo.key}.{one.rollupType}": one.key for one in perf.perfCounter}
assert perf.QueryPerfProviderSummary(system).refreshRate == 20
ids = perf.QueryAvailablePerfMetric(system, intervalId=20)
assert {one.counterId for one in ids} <= set(keys.values())
wanted = [vim.PerformanceManager.MetricId(counterId=keys["cpu.usage.average"], instance="*")]
spec = vim.PerformanceManager.QuerySpec(entity=system, metricId=wanted, intervalId=20, maxSample=3)
told = perf.QueryPerf([spec])[0]
assert len(told.value) == 17 and all(len(series.value) == len(told.sampleInfo) for series in told.value)
spec.format, spec.intervalId = "csv", 300
told = perf.QueryPerf([spec])[0]
assert told.sampleInfoCSV.startswith("300,") and len(told.value) == 17
spec.intervalId = 7
refused(lambda: perf.QueryPerf([spec]), vmodl.fault.InvalidArgument)
spec.intervalId, wanted[0].counterId = 20, 424242
refused(lambda: perf.QueryPerf([spec]), vmodl.fault.InvalidArgument)
machine = next(vm for vm in content.rootFolder.childEntity[0].vmFolder.childEntity if vm.name == "debian-12")
assert not perf.QueryAvailablePerfMetric(machine, intervalId=20)

# Tickets: for a console, and for a session of one's own.
refused(lambda: machine.AcquireTicket("webmks"), vim.fault.InvalidState)
ticket = content.sessionManager.AcquireCloneTicket()
other = SmartConnect(host=host, port=port, user=user, pwd=password, disableSslCertValidation=True)
other.content.sessionManager.Logout()
refused(lambda: other.content.sessionManager.CloneSession("wrong"), vim.fault.InvalidLogin)
assert other.content.sessionManager.CloneSession(ticket).userName == user
refused(lambda: other.content.sessionManager.CloneSession(ticket), vim.fault.InvalidLogin)
Disconnect(other)
Disconnect(service)
print("ok")
