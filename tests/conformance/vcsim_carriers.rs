//! A vCenter that has its hosts carry what goes in and out: vcsim names an address of its hosts, not the one that it was reached by.
//!
//! vcsim keeps nothing of what is sent by a lease, and gives the text of a disk's descriptor: what is shown is who is asked, by which
//! certificate, and that it is refused where the vCenter does not vouch for it.
#![allow(clippy::disallowed_methods)]

use ceso::esxi::checked::Checked;
use ceso::esxi::{Content, Host, Network, NewVm, Placement, Sink, SnapshotSpec, Vm, silent};

use crate::vcsim::{Vcsim, login, peer};

const OVF: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="7"/></References>
  <DiskSection><Info/><Disk ovf:capacity="16777216" ovf:capacityAllocationUnits="byte" ovf:diskId="d1" ovf:fileRef="file1"
    ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="LAN"><Description/></Network></NetworkSection>
  <VirtualSystem ovf:id="vm"><Info/><Name>vm</Name>
    <OperatingSystemSection ovf:id="1" vmw:osType="otherGuest"><Info/></OperatingSystemSection>
    <VirtualHardwareSection><Info/>
      <System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemIdentifier>vm</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>vmx-11</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>1 virtual CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:Connection>LAN</rasd:Connection><rasd:ElementName>nic</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>E1000</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>"#;

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

/// Connects by another name than vcsim knows itself by: what its leases name is one of its hosts, to whoever connects so.
async fn connect(vcsim: &Vcsim) -> Host {
    let mut options = vcsim.options().await;
    options.url.set_host(Some("localhost")).unwrap();
    Host::connect(options, login("u", "p")).await.unwrap()
}

async fn vm(host: &Host, name: &str) -> Checked<Vm> {
    checked(host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == name).unwrap())
}

async fn group(host: &Host) -> Checked<Network> {
    let networks = host.lookup_networks().await.unwrap();
    checked(networks.into_iter().find(|network| network.name == "DC0_DVPG0").unwrap())
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_has_its_hosts_carry_what_goes_in_and_out() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let source = vm(&host, "DC0_H0_VM0").await;
    host.create_snapshot(&source, &SnapshotSpec { name: "one".into(), ..SnapshotSpec::default() }, &silent)
        .await
        .unwrap();
    let snapshot = checked(host.snapshots(&source).await.unwrap().remove(0).snapshot);
    let lease = host.export_snapshot(&snapshot).await.unwrap();
    let file = lease.files.iter().find(|file| file.disk).unwrap();
    let shown = format!("{file:?}");
    assert!(shown.contains("https://127.0.0.1:"), "it is fetched from the address of a host: {shown}");
    let sink: Sink = Box::new(std::io::sink());
    let got = lease.during(async { lease.fetch(file, sink, &silent).await }).await.unwrap();
    assert!(got.bytes > 0);

    let (store, group) = (checked(host.lookup_datastores().await.unwrap().remove(0)), group(&host).await);
    let at = Placement { folder: None, place: Some("DC0_C0".into()) };
    let new = checked(NewVm { name: "appliance".into() });
    let networks = [("LAN".to_owned(), group)];
    let plan = host.import_plan(OVF, &new, &store, &networks, "thin", &at).await.unwrap();
    let lease = host.import(&plan, &new, &at).await.unwrap();
    let content = b"a disk".repeat(100_000);
    let open = || Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn std::io::Read + Send>);
    let file = lease.files.iter().find(|file| file.disk).unwrap();
    let content = Content { length: content.len() as u64, open: &open, sum: ceso::esxi::Sum::No };
    let sent = lease.during(async { lease.send(file, content, &silent).await }).await.unwrap();
    assert_eq!(sent.bytes, 600_000);
    let made = checked(host.imported(&lease).await.unwrap());
    let info = host.vm_info(&made).await.unwrap();
    assert_eq!((info.row.cluster.as_deref(), info.hardware.disks.len()), (Some("DC0_C0"), 1));
    assert_eq!(info.hardware.nics[0].network.as_deref(), Some("DC0_DVPG0"));
    host.logout().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_that_names_two_certificates_for_an_address_is_not_taken_at_its_word() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    // All of vcsim's hosts have one address and one certificate; now one of them says another.
    let other = rcgen::generate_simple_self_signed(["esx9".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esx9.pem");
    std::fs::write(&file, other.cert.pem()).unwrap();
    let installed = std::process::Command::new(peer("bin/govc"))
        .args(["host.cert.import", "-host", "DC0_H0"])
        .arg(&file)
        .env("GOVC_URL", vcsim.url.as_str())
        .env("GOVC_USERNAME", "u")
        .env("GOVC_PASSWORD", "p")
        .env("GOVC_INSECURE", "true")
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let host = connect(&vcsim).await;
    let source = vm(&host, "DC0_H0_VM0").await;
    host.create_snapshot(&source, &SnapshotSpec { name: "one".into(), ..SnapshotSpec::default() }, &silent)
        .await
        .unwrap();
    let snapshot = checked(host.snapshots(&source).await.unwrap().remove(0).snapshot);
    let error = host.export_snapshot(&snapshot).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.needs_host", "{error}");
    assert!(error.to_string().contains("different certificates"), "{error}");
    host.logout().await.unwrap();
}
