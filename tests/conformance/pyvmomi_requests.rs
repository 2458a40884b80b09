//! Every request that the client can send, checked field by field against pyVmomi's type tables.
//!
//! The client is driven through everything that it can do, against vcsim (which speaks API 6.5, the oldest version: a newer field shows),
//! while an observer records what is sent. A method that no test drives is an error.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    AutostartDefaults, AutostartSetting, CloneSpec, Content, ControllerKind, CreateSpec, Datastore, Detail,
    DiskContent, DiskSpec, EventFilter, FilePath, Firmware, GuestLogin, GuestProgram, Host, HostOptions, Method,
    Network, NewVm, NfsMount, NicChange, NicSpec, Observer, OvfFile, Placement, PortGroup, Provisioning, Reconfigure,
    Search, Slot, SnapshotSpec, StopAction, TaskFilter, silent,
};
use ceso::units::Bytes;

use crate::vcsim::{Vcsim, login, peer};

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.to_owned() })
}

/// Does what a vCenter alone can do, and what it is asked in another way.
async fn on_a_vcenter(mut options: HostOptions) {
    // By another name than it knows itself by: what its leases name is one of its hosts then.
    options.url.set_host(Some("localhost")).unwrap();
    let host = Host::connect(options, login("u", "p")).await.unwrap();
    let this = checked(host.lookup_host());
    host.list_vms(&this, Detail::Full).await.unwrap();
    host.list_places(&this).await.unwrap();
    host.list_systems(&this).await.unwrap();
    host.events(&this, &EventFilter::default(), Duration::ZERO).await.unwrap();
    host.tasks(&this, &TaskFilter::default(), Duration::ZERO).await.unwrap();
    host.create_folder(&this, "prod").await.unwrap();
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let networks = host.lookup_networks().await.unwrap();
    let group = checked(networks.into_iter().find(|network| network.name == "DC1_DVPG0").unwrap());
    let at = |folder: &str, place: &str| Placement { folder: Some(folder.into()), place: Some(place.into()) };
    let spec = CreateSpec { disk: Some(Bytes(1 << 20)), at: at("prod", "DC1_C0/DC1_C0_H1"), ..CreateSpec::default() };
    let made = host.create_vm(&new("golden"), &datastore, &[&group], &spec, &silent).await.unwrap();
    let golden = checked(host.lookup_vm(&made.moref).await.unwrap());
    let clone = CloneSpec {
        cpus: Some(2),
        memory: Some(Bytes(1 << 30)),
        notes: Some("clone".into()),
        extra_config: BTreeMap::from([("guestinfo.a".into(), "b".into())]),
        linked: false,
        trial: false,
        without_nics: false,
        networks: vec![("DC1_DVPG0", &group)],
        at: at("/", "DC1_C0/DC1_C0_H2"),
        stop: None,
    };
    let vm = checked(host.clone_vm(&golden, &new("clone"), &datastore, &clone, &silent).await.unwrap());
    host.create_snapshot(&golden, &SnapshotSpec { name: "base".into(), ..SnapshotSpec::default() }, &silent)
        .await
        .unwrap();
    let linked = CloneSpec { linked: true, networks: vec![("DC1_DVPG0", &group)], ..CloneSpec::default() };
    host.clone_vm(&golden, &new("linked"), &datastore, &linked, &silent).await.unwrap();
    host.move_vm(&vm, &at("prod", "DC1_H0"), Some(&datastore), &silent).await.unwrap();
    host.mark_template(&vm, true, &Placement::default(), &silent).await.unwrap();
    host.mark_template(&vm, false, &at("", "DC1_C0/DC1_C0_H2"), &silent).await.unwrap();
    let file = FilePath::parse("clone/clone.vmx").unwrap();
    let snapshot = checked(host.snapshots(&golden).await.unwrap().remove(0).snapshot);
    let lease = host.export_snapshot(&snapshot).await.unwrap();
    lease.during(async { Ok::<(), ceso::esxi::Error>(()) }).await.unwrap();
    host.unregister_vm(&vm, &silent).await.unwrap();
    host.register_vm(&new("clone"), &datastore, &file, &at("prod", "DC1_C0/DC1_C0_H2"), &silent).await.unwrap();
    host.logout().await.unwrap();
}

/// Does everything that the client can do, on a server where all of it succeeds.
async fn everything(options: HostOptions) {
    let host = Host::connect(options, login("u", "p")).await.unwrap();
    let this = checked(host.lookup_host());
    host.list_vms(&this, Detail::Lean).await.unwrap();
    host.list_vms(&this, Detail::Full).await.unwrap();
    host.list_datastores(&this).await.unwrap();
    host.list_networks(&this).await.unwrap();
    host.host_facts(&this).await.unwrap();
    host.sensors(&this).await.unwrap();
    host.passthrough_devices(&this).await.unwrap();
    let since = Some(time::OffsetDateTime::UNIX_EPOCH);
    let filter = EventFilter { since, until: Some(time::OffsetDateTime::now_utc()), ..EventFilter::default() };
    // vcsim has no such question of a standalone host; the request is checked all the same.
    println!("events: {:?}", host.events(&this, &filter, Duration::ZERO).await.map(|events| events.len()));
    host.tasks(
        &this,
        &TaskFilter { since: Some(time::OffsetDateTime::now_utc()), ..TaskFilter::default() },
        Duration::from_secs(1),
    )
    .await
    .unwrap();
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let network = checked(host.lookup_networks().await.unwrap().remove(0));

    let mut spec = CreateSpec {
        disk: Some(Bytes(64 << 20)),
        notes: Some("notes".into()),
        extra_config: BTreeMap::from([("guestinfo.a".into(), "b".into())]),
        ..CreateSpec::default()
    };
    let template = checked(host.create_vm(&new("template"), &datastore, &[&network], &spec, &silent).await.unwrap());
    for (name, controller) in
        [("lsi", ControllerKind::LsiLogic), ("sata", ControllerKind::Sata), ("nvme", ControllerKind::Nvme)]
    {
        spec.controller = controller;
        spec.firmware = Firmware::Bios;
        host.create_vm(&new(name), &datastore, &[], &spec, &silent).await.unwrap();
    }
    host.lookup_vms().await.unwrap();
    let clone = CloneSpec {
        cpus: Some(2),
        memory: Some(Bytes(1 << 30)),
        notes: Some("clone".into()),
        extra_config: BTreeMap::from([("SET.guest.ipAddress".into(), "192.0.2.9".into())]),
        linked: false,
        trial: false,
        without_nics: false,
        networks: vec![("VM Network", &network)],
        ..CloneSpec::default()
    };
    let vm = checked(host.clone_vm(&template, &new("clone"), &datastore, &clone, &silent).await.unwrap());
    let change = Reconfigure {
        cpus: Some(1),
        memory: Some(Bytes(512 << 20)),
        notes: Some(String::new()),
        extra_config: BTreeMap::from([("guestinfo.b".into(), String::new())]),
        cores_per_socket: Some(1),
        cpu_hot_add: Some(true),
        memory_hot_add: Some(false),
        firmware: Some(Firmware::Efi),
        secure_boot: Some(false),
        guest_id: Some("otherGuest".into()),
    };
    host.reconfigure(&vm, &change, &silent).await.unwrap();
    host.vm_info(&vm).await.unwrap();
    for _ in 0..2 {
        host.attach_seed(&vm, bytes::Bytes::from_static(b"image"), &silent).await.unwrap();
    }
    assert!(host.detach_seed(&vm, &silent).await.unwrap() && !host.detach_seed(&vm, &silent).await.unwrap());
    host.power_on(&vm, &silent).await.unwrap();
    host.wait_for_address(&vm, Duration::from_secs(20)).await.unwrap();
    host.reset(&vm, &silent).await.unwrap();
    host.suspend(&vm, &silent).await.unwrap();
    host.power_on(&vm, &silent).await.unwrap();
    host.shutdown_guest(&vm, Duration::from_secs(20), &silent).await.unwrap();
    host.power_on(&vm, &silent).await.unwrap();
    // A wait under way that does not notice a new filter is cancelled: nothing changes that would wake it.
    let (waited, found) = tokio::join!(host.wait_for_address(&template, Duration::from_secs(2)), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.wait_for_address(&vm, Duration::from_secs(20)).await
    });
    assert_eq!(waited.unwrap_err().kind(), "esxi.timeout");
    found.unwrap();
    host.power_off(&vm, &silent).await.unwrap();
    for name in ["one", "two"] {
        let spec = SnapshotSpec { name: name.into(), memory: true, ..SnapshotSpec::default() };
        host.create_snapshot(&vm, &spec, &silent).await.unwrap();
    }
    let rows = host.snapshots(&vm).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.depth, row.current)).collect::<Vec<_>>(), [(0, false), (1, true)]);
    let [first, second] = [0, 1].map(|at| checked(rows[at].snapshot.clone()));
    host.revert(&first, &silent).await.unwrap();
    // Not the one that the machine goes on from: that ends vcsim.
    host.remove_snapshot(&vm, &second, false, &silent).await.unwrap();
    host.remove_snapshots(&vm, &silent).await.unwrap();
    assert!(host.snapshots(&vm).await.unwrap().is_empty());
    assert!(host.linked_clones(&vm, false).await.unwrap().is_empty());
    host.destroy(&vm, &silent).await.unwrap();
    // A machine that is not of our making has other devices.
    let other = host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == "ha-host_VM0").unwrap();
    let other = checked(other);
    host.power_off(&other, &silent).await.unwrap();
    let plain = CloneSpec { networks: vec![("VM Network", &network)], ..CloneSpec::default() };
    host.clone_vm(&other, &new("other"), &datastore, &plain, &silent).await.unwrap();
    // Filters that nobody uses are destroyed when they have become many.
    for number in 0..20 {
        let change = Reconfigure { notes: Some(format!("{number}")), ..Reconfigure::default() };
        host.reconfigure(&template, &change, &silent).await.unwrap();
    }
    moved_in_and_out(&host, &datastore).await;
    hardware(&host, &datastore, &network).await;
    files(&host, &datastore).await;
    appliances(&host, &datastore, &network).await;
    host.logout().await.unwrap();
}

/// Disks, cards and drives, with each field that can be sent.
async fn hardware(host: &Host, store: &Checked<Datastore>, network: &Checked<Network>) {
    let spec = CreateSpec { disk: Some(Bytes(64 << 20)), ..CreateSpec::default() };
    let vm = checked(host.create_vm(&new("hardware"), store, &[network], &spec, &silent).await.unwrap());
    let slot = Slot { kind: Some(ControllerKind::Nvme), bus: Some(1), unit: Some(2) };
    for form in [Provisioning::Thin, Provisioning::EagerZeroed] {
        let content = DiskContent::New { datastore: store, size: Bytes(16 << 20), form };
        host.add_disk(&vm, &DiskSpec { content, slot: Slot::default(), independent: false }, &silent).await.unwrap();
    }
    let path = FilePath::parse("hardware.vmdk").unwrap();
    host.create_disk(store, &path, Bytes(8 << 20), Provisioning::Thin, &silent).await.unwrap();
    let there = DiskContent::There { datastore: store, path: &path };
    let added = host.add_disk(&vm, &DiskSpec { content: there, slot: slot.clone(), independent: true }, &silent).await;
    println!("put in: {added:?}");
    let disk = host.vm_info(&vm).await.unwrap().hardware.disks.remove(1);
    host.grow_disk(&vm, disk.key, Bytes(32 << 20), &silent).await.unwrap();
    host.remove_disk(&vm, &disk, true, &silent).await.unwrap();
    let spec = NicSpec { network, kind: "vmxnet3", mac: Some("00:50:56:00:00:02"), connected: true };
    let key = host.add_nic(&vm, &spec, &silent).await.unwrap();
    let change = NicChange { network: Some(network), mac: Some("00:50:56:00:00:03"), connected: Some(false) };
    host.change_nic(&vm, key, &change, &silent).await.unwrap();
    host.remove_device(&vm, key, &silent).await.unwrap();
    let open = || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(&b"content"[..])) };
    let image = FilePath::parse("hardware.iso").unwrap();
    host.upload(store, &image, Content { length: 7, open: &open, sum: ceso::esxi::Sum::No }, &silent).await.unwrap();
    host.insert_image(&vm, None, (store, &image), &silent).await.unwrap();
    let drive = host.vm_info(&vm).await.unwrap().hardware.drives.remove(0);
    host.insert_image(&vm, Some(&drive), (store, &image), &silent).await.unwrap();
    host.connect_drive(&vm, &drive, false, &silent).await.unwrap();
    host.eject_image(&vm, &drive, &silent).await.unwrap();
}

/// Another name, out of the inventory, and in again.
async fn moved_in_and_out(host: &Host, datastore: &Checked<Datastore>) {
    let spec = CreateSpec { disk: Some(Bytes(64 << 20)), ..CreateSpec::default() };
    let vm = checked(host.create_vm(&new("moved"), datastore, &[], &spec, &silent).await.unwrap());
    let file = FilePath::parse("moved/moved.vmx").unwrap();
    host.rename_vm(&vm, &new("renamed"), &silent).await.unwrap();
    host.unregister_vm(&vm, &silent).await.unwrap();
    host.register_vm(&new("moved"), datastore, &file, &Placement::default(), &silent).await.unwrap();
}

const OVF: &str = r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="7"/></References>
  <DiskSection><Info/><Disk ovf:capacity="16777216" ovf:capacityAllocationUnits="byte" ovf:diskId="d1" ovf:fileRef="file1"
    ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="VM Network"><Description/></Network></NetworkSection>
  <VirtualSystem ovf:id="vm"><Info/><Name>vm</Name>
    <OperatingSystemSection ovf:id="1" vmw:osType="otherGuest"><Info/></OperatingSystemSection>
    <VirtualHardwareSection><Info/><System><vssd:ElementName>x</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>scsi</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>"#;

/// Machines in by a lease, one whole and one that fails, and one out, which vcsim does not know.
async fn appliances(host: &Host, store: &Checked<Datastore>, network: &Checked<Network>) {
    let networks = [("VM Network".to_owned(), checked((**network).clone()))];
    for (name, fails) in [("imported-1", false), ("imported-2", true)] {
        let plan = host.import_plan(OVF, &new(name), store, &networks, "thin", &Placement::default()).await.unwrap();
        assert_eq!(plan.files.len(), 1, "{:?}", plan.warnings);
        let lease = host.import(&plan, &new(name), &Placement::default()).await.unwrap();
        let open = || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(&b"content"[..])) };
        let done = lease.during(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for file in &lease.files {
                lease.send(file, Content { length: 7, open: &open, sum: ceso::esxi::Sum::No }, &silent).await?;
            }
            match fails {
                true => Err(ceso::esxi::Error::Local { reason: "it fails".to_owned() }),
                false => Ok(()),
            }
        });
        assert_eq!(done.await.is_err(), fails);
        if !fails {
            assert_eq!(host.imported(&lease).await.unwrap().name, name);
        }
    }
    let vm = host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == "imported-1").unwrap();
    let vm = checked(vm);
    let refused = host.export(&vm).await.map(drop).unwrap_err();
    println!("export: {refused}");
    let file = OvfFile {
        device: "/imported-1/VirtualLsiLogicController0:0".into(),
        path: "disk.vmdk".into(),
        size: 7,
        capacity: 16 << 20,
    };
    println!("describe: {:?}", host.descriptor(&vm, None, "imported-1", &[file]).await.map(|text| text.len()));
    let stores = [checked((**store).clone())];
    println!("variables: {:?}", host.nvram(&vm, &stores).await.map(|found| found.is_some()));
}

/// Everything that is done to files and disks. What vcsim cannot do is sent all the same.
async fn files(host: &Host, store: &Checked<Datastore>) {
    let at = |path: &str| FilePath::parse(path).unwrap();
    host.make_directory(store, &at("files/a"), true).await.unwrap();
    let open = || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(&b"content"[..])) };
    let sent = host
        .upload(store, &at("files/a/one.txt"), Content { length: 7, open: &open, sum: ceso::esxi::Sum::No }, &silent)
        .await
        .unwrap();
    assert_eq!(sent.bytes, 7);
    assert_eq!(host.read_small(store, &at("files/a/one.txt"), 100).await.unwrap(), b"content");
    host.copy_path((store, &at("files/a/one.txt")), (store, &at("files/two.txt")), &silent).await.unwrap();
    host.move_path((store, &at("files/two.txt")), (store, &at("files/three.txt")), &silent).await.unwrap();
    let rows = host.browse(store, &at("files"), Search { pattern: Some("*.txt"), deep: true }).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(names, ["files/a/one.txt", "files/three.txt"]);
    let disk = at("files/disk.vmdk");
    host.create_disk(store, &disk, Bytes(8 << 20), Provisioning::Thin, &silent).await.unwrap();
    for (what, done) in [
        ("info", host.disk_info(store, &disk).await.map(drop)),
        ("extend", host.extend_disk(store, &disk, Bytes(16 << 20), &silent).await),
        ("inflate", host.inflate_disk(store, &disk, &silent).await),
        ("copy", host.copy_disk_file((store, &disk), (store, &at("files/copy.vmdk")), None, &silent).await),
        ("move", host.move_disk((store, &disk), (store, &at("files/moved.vmdk")), &silent).await),
    ] {
        // The request was made, and is checked; what the server makes of it is another matter.
        println!("{what}: {}", done.map_or_else(|error| error.to_string(), |()| "done".to_owned()));
    }
    host.delete_path(store, &at("files"), &silent).await.unwrap();
}

/// What vcsim does not have: renamed snapshots, consolidation, disks on others.
async fn beyond_vcsim(options: HostOptions, server: &ceso::sim::Server) {
    let host = Host::connect(options, login("root", "p")).await.unwrap();
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let network = checked(host.lookup_networks().await.unwrap().remove(0));
    let template = host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == "debian-12").unwrap();
    let template = checked(template);
    let linked = CloneSpec { linked: true, networks: vec![("VM Network", &network)], ..CloneSpec::default() };
    let child = checked(host.clone_vm(&template, &new("child"), &datastore, &linked, &silent).await.unwrap());
    assert_eq!(host.linked_clones(&template, true).await.unwrap(), ["child"]);
    let spec = SnapshotSpec { name: "one".into(), ..SnapshotSpec::default() };
    let taken = checked(host.create_snapshot(&child, &spec, &silent).await.unwrap().snapshot);
    host.rename_snapshot(&taken, "other").await.unwrap();
    // A linked clone without deltas of its own is refused it: the template has nothing to merge, and is asked all the same.
    host.consolidate(&template, &silent).await.unwrap();
    in_the_guest(&host, &child).await;
    host.track_changes(&child, true, &silent).await.unwrap();
    let spec = SnapshotSpec { name: "two".into(), ..SnapshotSpec::default() };
    let two = checked(host.create_snapshot(&child, &spec, &silent).await.unwrap().snapshot);
    let frozen = host.frozen_disks(&two).await.unwrap().remove(0);
    host.changed_areas(&child, &two, &frozen, ceso::esxi::ALLOCATED).await.unwrap();
    let lease = host.export_snapshot(&two).await.unwrap();
    lease.during(async { Ok::<(), ceso::esxi::Error>(()) }).await.unwrap();
    println!("describe: {:?}", host.descriptor(&child, Some(&two), "child", &[]).await.map(|text| text.len()));
    // An answer that is lost: its task is looked for.
    server.fault(ceso::sim::read_fault("PowerOnVM_Task:drop-answer:1").unwrap()).unwrap();
    host.power_on(&child, &silent).await.unwrap();
    host.power_off(&child, &silent).await.unwrap();
    host.destroy(&child, &silent).await.unwrap();
    assert!(host.linked_clones(&template, true).await.unwrap().is_empty());
    asked(&host, server, &template).await;
    administer(&host).await;
    host.logout().await.unwrap();
}

/// A clone that is to be given up while its disk is copied.
async fn given_up(options: HostOptions) {
    let host = Host::connect(options, login("root", "p")).await.unwrap();
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let network = checked(host.lookup_networks().await.unwrap().remove(0));
    let template = host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == "debian-12").unwrap();
    let began = std::time::Instant::now();
    let stop = Some(ceso::esxi::Stop(std::sync::Arc::new(move || began.elapsed() > Duration::from_secs(1))));
    let spec = CloneSpec { stop, networks: vec![("VM Network", &network)], ..CloneSpec::default() };
    let error = host.clone_vm(&checked(template), &new("given-up"), &datastore, &spec, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "script.cancelled", "{error}");
    host.logout().await.unwrap();
}

/// A question and its answer, a PCI device, and what starts with the host.
async fn asked(host: &Host, server: &ceso::sim::Server, vm: &Checked<ceso::esxi::Vm>) {
    let this = checked(host.lookup_host());
    host.attach_pci(vm, "0000:0c:00.0", &silent).await.unwrap();
    let held = host.vm_info(vm).await.unwrap().hardware.pci.remove(0);
    host.detach_pci(vm, &held, true, &silent).await.unwrap();
    server.fault(ceso::sim::read_fault("PowerOnVM_Task:ask=moved:1").unwrap()).unwrap();
    assert_eq!(host.power_on(vm, &silent).await.unwrap_err().kind(), "esxi.waits_for_answer");
    let question = host.question(vm).await.unwrap().unwrap();
    host.answer(vm, &question, question.choice("2").unwrap(), &silent).await.unwrap();
    host.power_off(vm, &silent).await.unwrap();
    let defaults = AutostartDefaults {
        enabled: Some(true),
        start_delay: Some(Duration::from_secs(5)),
        stop_delay: Some(Duration::from_secs(6)),
        wait_for_heartbeat: Some(true),
        stop_action: Some(StopAction::GuestShutdown),
    };
    host.set_autostart_defaults(&this, &defaults).await.unwrap();
    let setting = AutostartSetting { order: Some(1), ..AutostartSetting::STARTED };
    host.set_autostart(vm, &setting).await.unwrap();
    let told = host.autostart(&this).await.unwrap();
    assert!(told.enabled && told.stop_action == StopAction::GuestShutdown && told.of(vm) == Some(&setting));
    host.set_autostart(vm, &AutostartSetting::LEFT_ALONE).await.unwrap();
    assert!(host.autostart(&this).await.unwrap().machines.is_empty());
}

/// Everything that is done to a host itself, its end included.
async fn administer(host: &Host) {
    let this = checked(host.lookup_host());
    assert!(host.shutdown_order(&this).await.unwrap().is_empty());
    let group = PortGroup { name: "lab".into(), vlan: 42, switch: "vSwitch0".into(), host_cards: vec![] };
    host.add_port_group(&this, &group).await.unwrap();
    assert_eq!(host.port_groups(&this).await.unwrap().iter().find(|own| own.name == "lab"), Some(&group));
    assert!(host.machines_on(&this, "lab").await.unwrap().is_empty());
    host.remove_port_group(&this, "lab").await.unwrap();
    for version_4 in [false, true] {
        let (server, path) = ("10.0.1.5".to_owned(), "/export".to_owned());
        let mount = NfsMount { name: "isos".into(), server, path, read_only: version_4, version_4 };
        let made = checked(host.mount_nfs(&this, &mount).await.unwrap());
        host.unmount_nfs(&this, &made).await.unwrap();
    }
    host.enter_maintenance(&this, Duration::from_secs(5), &silent).await.unwrap();
    let kept = host.backup_configuration(&this).await.unwrap();
    let refused = host.restore_configuration(&this, b"x".to_vec(), false).await.unwrap_err();
    assert_eq!(refused.kind(), "esxi.invalid_bundle", "{refused}");
    host.exit_maintenance(&this, &silent).await.unwrap();
    assert_eq!(host.restore_configuration(&this, kept, true).await.unwrap_err().kind(), "esxi.invalid_state");
    host.shut_down(&this, true).await.unwrap();
    // One that is down is asked once more, for the other request: it goes on its way all the same.
    drop(host.shut_down(&this, false).await);
}

/// A guest's programs and files, each call with a password that the record must not hold.
async fn in_the_guest(host: &Host, vm: &Checked<ceso::esxi::Vm>) {
    host.power_on(vm, &silent).await.unwrap();
    host.wait_for_address(vm, Duration::from_secs(20)).await.unwrap();
    assert!(host.guest_facts(vm).await.unwrap().ready);
    let password = "ceso-guest".to_owned().into();
    let login = GuestLogin { user: "root", password: &password };
    let arguments = ["it's".to_owned()];
    let mut program = GuestProgram {
        program: "/bin/echo",
        arguments: &arguments,
        environment: vec!["A=b".into()],
        directory: Some("/root"),
        limit: 100,
        timeout: Duration::from_secs(10),
    };
    let done = host.run_in_guest(vm, login, &program, false, &silent).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_slice()), (0, &b"it's\n"[..]));
    let long = ["1000".to_owned()];
    (program.program, program.arguments, program.timeout) = ("/bin/sleep", &long, Duration::from_millis(300));
    assert_eq!(host.run_in_guest(vm, login, &program, false, &silent).await.unwrap_err().kind(), "esxi.timeout");
    let open = || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(&b"content"[..])) };
    for windows in [false, true] {
        let content = Content { length: 7, open: &open, sum: ceso::esxi::Sum::No };
        host.upload_to_guest(vm, login, "/tmp/a", content, (true, windows), &silent).await.unwrap();
    }
    let done = host.download_from_guest(vm, login, "/tmp/a", Box::new(std::io::sink()), &silent).await.unwrap();
    assert_eq!(done.bytes, 7);
    assert!(host.screenshot(vm, &silent).await.unwrap().len() > 100);
    host.power_off(vm, &silent).await.unwrap();
}

/// Fails in the middle, so that what was made is taken away again.
async fn failures(options: HostOptions) {
    let host = Host::connect(options, login("u", "p")).await.unwrap();
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let spec = CreateSpec { disk: Some(Bytes(64 << 20)), ..CreateSpec::default() };
    let error = host.create_vm(&new("never"), &datastore, &[], &spec, &silent).await.unwrap_err();
    assert!(error.kind().starts_with("esxi.system_error") && !error.to_string().contains("Left behind"), "{error}");
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim and pyVmomi"]
async fn pyvmomi_knows_every_request_that_the_client_can_send() {
    let folder = tempfile::tempdir().unwrap();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let record = bodies.clone();
    let observer: Observer = Arc::new(move |version: &str, body: &str| {
        record.lock().unwrap().push((version.to_owned(), body.to_owned()));
    });
    let vcsim = Vcsim::start(&["-vm", "3"]);
    let mut options = vcsim.options().await;
    options.observer = Some(observer.clone());
    options.page_size = 2;
    options.operation_id = Some("run-1".into());
    everything(options).await;
    let vcenter = Vcsim::vcenter(&["-vm", "1", "-dc", "2"]);
    let mut options = vcenter.options().await;
    options.observer = Some(observer.clone());
    options.datacenter = Some("DC1".into());
    options.page_size = 2;
    on_a_vcenter(options).await;
    let failing = Vcsim::start(&["-vm", "1", "-fault", "CreateVM_Task:1"]);
    let mut options = failing.options().await;
    options.observer = Some(observer.clone());
    failures(options).await;

    let password = "p".to_owned().into();
    let server = ceso::sim::Server::start(ceso::sim::Options { password, ..Default::default() }).await.unwrap();
    let trust = ceso::esxi::Trust::Fingerprint(server.fingerprint().parse().unwrap());
    let mut options = HostOptions::new("sim", server.url().parse().unwrap(), trust);
    options.observer = Some(observer.clone());
    beyond_vcsim(options, &server).await;

    let (password, task_delay) = ("p".to_owned().into(), Duration::from_secs(5));
    let slow =
        ceso::sim::Server::start(ceso::sim::Options { password, task_delay, ..Default::default() }).await.unwrap();
    let trust = ceso::esxi::Trust::Fingerprint(slow.fingerprint().parse().unwrap());
    let mut options = HostOptions::new("slow", slow.url().parse().unwrap(), trust);
    options.observer = Some(observer.clone());
    given_up(options).await;

    for (number, (version, body)) in bodies.lock().unwrap().iter().enumerate() {
        assert!(!body.contains(">p<") && !body.contains("ceso-guest"), "a password was shown: {body}");
        std::fs::write(folder.path().join(format!("{number:04}@{version}.xml")), body).unwrap();
    }
    let methods: Vec<&str> = Method::ALL.iter().map(|method| method.wire_name()).collect();
    std::fs::write(folder.path().join("methods.txt"), methods.join("\n")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/pyvmomi/check_requests.py");
    let output = Command::new(peer("venv/bin/python")).arg(script).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" 0 errors"), "{said}");
    println!("{said}");
}

#[test]
#[ignore = "needs pyVmomi"]
fn pyvmomi_finds_what_is_wrong_in_a_request() {
    let envelope = |call: &str| {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><s:Body>{call}</s:Body></s:Envelope>"
        )
    };
    let this = "<_this type=\"VirtualMachine\">1</_this>";
    for (call, complaint) in [
        ("<NoSuch xmlns=\"urn:vim25\"><_this type=\"VirtualMachine\">1</_this></NoSuch>".to_owned(), "is not a method"),
        (format!("<ReconfigVM_Task xmlns=\"urn:vim25\">{this}</ReconfigVM_Task>"), "lacks the required field spec"),
        (
            format!("<ReconfigVM_Task xmlns=\"urn:vim25\">{this}<spec><memoryMB>4</memoryMB><numCPUs>1</numCPUs></spec></ReconfigVM_Task>"),
            "numCPUs comes too late",
        ),
        (
            format!("<ReconfigVM_Task xmlns=\"urn:vim25\">{this}<spec><rebootPowerOff>true</rebootPowerOff></spec></ReconfigVM_Task>"),
            "is newer",
        ),
        (format!("<ReconfigVM_Task xmlns=\"urn:vim25\">{this}<spec><colour>1</colour></spec></ReconfigVM_Task>"), "has no field colour"),
        (
            format!("<ReconfigVM_Task xmlns=\"urn:vim25\">{this}<spec><numCPUs>many</numCPUs></spec></ReconfigVM_Task>"),
            "'many' is no int",
        ),
        ("<PowerOnVM_Task xmlns=\"urn:vim25\"><_this type=\"Folder\">1</_this></PowerOnVM_Task>".to_owned(), "not a"),
        (
            "<CreateFilter xmlns=\"urn:vim25\"><_this type=\"PropertyCollector\">1</_this><spec><propSet><type>VirtualMachine</type>\
             <pathSet>guest.colour</pathSet></propSet><objectSet><obj type=\"Task\">1</obj></objectSet></spec>\
             <partialUpdates>false</partialUpdates></CreateFilter>"
                .to_owned(),
            "has no property colour",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0@6.5.xml"), envelope(&call)).unwrap();
        std::fs::write(folder.path().join("methods.txt"), "").unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/pyvmomi/check_requests.py");
        let output = Command::new(peer("venv/bin/python")).arg(script).arg(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(complaint), "{call}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}
