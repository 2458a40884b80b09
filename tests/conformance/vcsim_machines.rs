//! The life of machines on vcsim: create, clone, configure, power, wait, destroy.
//!
//! vcsim is no proof for duplicate names, snapshots' files and disk contents.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    Asked, CloneSpec, ControllerKind, CreateSpec, Datastore, Detail, DiskContent, DiskSpec, Firmware, Host, Network,
    NewVm, NicChange, NicSpec, Placement, PortGroup, PowerState, Provisioning, Reconfigure, Slot, TaskFilter, Vm,
    silent,
};
use ceso::units::Bytes;

use crate::vcsim::{Vcsim, login};

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

async fn connect(vcsim: &Vcsim) -> Host {
    Host::connect(vcsim.options().await, login("u", "p")).await.unwrap()
}

async fn datastore(host: &Host) -> Checked<Datastore> {
    checked(host.lookup_datastores().await.unwrap().remove(0))
}

async fn network(host: &Host) -> Checked<Network> {
    checked(host.lookup_networks().await.unwrap().remove(0))
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.to_owned() })
}

async fn create(host: &Host, name: &str) -> Checked<Vm> {
    let spec = CreateSpec { disk: Some(Bytes(64 << 20)), guest_id: "debian12_64Guest".into(), ..CreateSpec::default() };
    let (datastore, network) = (datastore(host).await, network(host).await);
    checked(host.create_vm(&new(name), &datastore, &[&network], &spec, &silent).await.unwrap())
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_lets_a_machine_live_from_create_to_destroy() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let vm = create(&host, "web-1").await;
    assert_eq!((vm.name.as_str(), vm.path.as_str()), ("web-1", "[LocalDS_0] web-1/web-1.vmx"));
    assert_eq!(vm.datastores, ["LocalDS_0"]);

    let change = Reconfigure {
        cpus: Some(2),
        memory: Some(Bytes(2 << 30)),
        notes: Some("from <ceso> & friends".into()),
        extra_config: BTreeMap::from([
            ("guestinfo.metadata".into(), "bWV0YQ==".into()),
            ("guestinfo.gone".into(), "x".into()),
            ("SET.guest.ipAddress".into(), "192.0.2.7".into()),
        ]),
        ..Reconfigure::default()
    };
    host.reconfigure(&vm, &change, &silent).await.unwrap();
    let remove =
        Reconfigure { extra_config: BTreeMap::from([("guestinfo.gone".into(), String::new())]), ..Default::default() };
    host.reconfigure(&vm, &remove, &silent).await.unwrap();
    let info = host.vm_info(&vm).await.unwrap();
    assert_eq!((info.row.cpus, info.row.memory), (Some(2), Some(Bytes(2 << 30))));
    assert_eq!(info.row.notes.as_deref(), Some("from <ceso> & friends"));
    assert_eq!(info.extra_config.get("guestinfo.metadata").map(String::as_str), Some("bWV0YQ=="));
    assert!(!info.extra_config.contains_key("guestinfo.gone"));
    assert_eq!(info.firmware.as_str(), "efi");
    assert_eq!(info.row.guest_id.as_deref(), Some("debian12_64Guest"));
    let disk = &info.hardware.disks[0];
    assert_eq!(
        (disk.size, disk.thin, disk.file.as_str()),
        (Bytes(64 << 20), Some(true), "[LocalDS_0] web-1/web-1.vmdk")
    );
    assert_eq!(info.hardware.controller_of(disk).unwrap().kind.as_str(), "pvscsi");
    let nic = &info.hardware.nics[0];
    assert_eq!((nic.kind.as_str(), nic.network.as_deref()), ("vmxnet3", Some("VM Network")));

    host.power_on(&vm, &silent).await.unwrap();
    let again = host.power_on(&vm, &silent).await.unwrap_err();
    assert_eq!(again.kind(), "esxi.invalid_power_state");
    let address = host.wait_for_address(&vm, Duration::from_secs(20)).await.unwrap();
    assert_eq!(address.to_string(), "192.0.2.7");
    let error = host.destroy(&vm, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_power_state");
    assert!(error.hint().unwrap().contains("turn it off"), "{error:?}");
    host.reset(&vm, &silent).await.unwrap();
    host.suspend(&vm, &silent).await.unwrap();
    host.power_on(&vm, &silent).await.unwrap();
    host.shutdown_guest(&vm, Duration::from_secs(20), &silent).await.unwrap();
    assert_eq!(host.vm_info(&vm).await.unwrap().row.power, PowerState::Off);
    host.destroy(&vm, &silent).await.unwrap();
    let error = host.destroy(&vm, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.managed_object_not_found");
    assert!(host.lookup_vms().await.unwrap().iter().all(|vm| vm.name != "web-1"));
    assert_eq!(host.traffic().logins, 1);
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_gets_a_full_clone_of_its_template() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let template = create(&host, "debian-12").await;
    let secret = Reconfigure {
        extra_config: BTreeMap::from([
            ("guestinfo.userdata".into(), "secret".into()),
            ("disk.EnableUUID".into(), "TRUE".into()),
        ]),
        notes: Some("golden".into()),
        ..Default::default()
    };
    host.reconfigure(&template, &secret, &silent).await.unwrap();
    let (datastore, network) = (datastore(&host).await, network(&host).await);
    let spec = CloneSpec {
        cpus: Some(4),
        extra_config: BTreeMap::from([("guestinfo.metadata".into(), "mine".into())]),
        networks: vec![("VM Network", &network)],
        ..Default::default()
    };
    let steps = std::sync::Mutex::new(Vec::new());
    let progress = |step: ceso::esxi::Step<'_>| steps.lock().unwrap().push(step.what.to_owned());
    let clone = checked(host.clone_vm(&template, &new("web-1"), &datastore, &spec, &progress).await.unwrap());
    let (old, made) = (host.vm_info(&template).await.unwrap(), host.vm_info(&clone).await.unwrap());
    assert_eq!(made.hardware.disks[0].file, "[LocalDS_0] web-1/web-1.vmdk");
    assert_eq!(made.hardware.disks[0].size, old.hardware.disks[0].size);
    assert_eq!(made.row.guest_id, old.row.guest_id);
    assert_eq!(made.firmware, old.firmware);
    assert_eq!((made.row.cpus, made.row.memory, made.row.notes.as_deref()), (Some(4), old.row.memory, Some("golden")));
    assert_ne!(made.hardware.nics[0].mac, old.hardware.nics[0].mac);
    assert_eq!(made.hardware.nics[0].kind, old.hardware.nics[0].kind);
    assert!(!made.extra_config.contains_key("guestinfo.userdata"));
    assert_eq!(made.extra_config.get("guestinfo.metadata").map(String::as_str), Some("mine"));
    assert_eq!(made.extra_config.get("disk.EnableUUID").map(String::as_str), Some("TRUE"));

    // The folder is there now: it is never used again, and nothing of it is touched.
    let error = host.clone_vm(&template, &new("web-1"), &datastore, &spec, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.file_already_exists");
    assert!(host.vm_info(&clone).await.is_ok());

    // No network for a card: refused before anything is made; the newest event and the template are read.
    let nowhere = CloneSpec::default();
    let before = host.traffic().requests;
    let error = host.clone_vm(&template, &new("web-2"), &datastore, &nowhere, &silent).await.unwrap_err();
    assert_eq!((error.kind().as_str(), host.traffic().requests - before), ("esxi.invalid_argument", 2));

    host.power_on(&template, &silent).await.unwrap();
    let error = host.clone_vm(&template, &new("web-3"), &datastore, &spec, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_power_state");
    assert!(error.to_string().contains("powered on"), "{error}");
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_has_its_own_machines_cloned_with_their_devices() {
    let vcsim = Vcsim::start(&["-vm", "1", "-off"]);
    let host = connect(&vcsim).await;
    let template = checked(host.lookup_vms().await.unwrap().remove(0));
    let (datastore, network) = (datastore(&host).await, network(&host).await);
    let spec = CloneSpec { networks: vec![("VM Network", &network)], ..CloneSpec::default() };
    let clone = checked(host.clone_vm(&template, &new("copy"), &datastore, &spec, &silent).await.unwrap());
    let (old, made) = (host.vm_info(&template).await.unwrap(), host.vm_info(&clone).await.unwrap());
    let shape = |info: &ceso::esxi::VmInfo| {
        let disks = info.hardware.disks.iter().map(|disk| {
            let controller = info.hardware.controller_of(disk).unwrap();
            (disk.size, disk.unit, controller.kind.clone(), controller.bus)
        });
        let nics: Vec<_> = info.hardware.nics.iter().map(|nic| (nic.kind.clone(), nic.network.clone())).collect();
        (
            disks.collect::<Vec<_>>(),
            nics,
            info.firmware.clone(),
            info.hardware_version.clone(),
            info.row.guest_id.clone(),
        )
    };
    assert_eq!(shape(&made), shape(&old));
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_sees_nothing_left_of_a_machine_that_could_not_be_made() {
    let vcsim = Vcsim::start(&["-vm", "1", "-fault", "CreateVM_Task:0.5"]);
    let host = connect(&vcsim).await;
    let (datastore, network) = (datastore(&host).await, network(&host).await);
    let spec = CreateSpec { disk: Some(Bytes(64 << 20)), ..CreateSpec::default() };
    let (mut made, mut failed) = (0, 0);
    for number in 0..24 {
        let name = new(&format!("vm-{number}"));
        match host.create_vm(&name, &datastore, &[&network], &spec, &silent).await {
            Ok(_) => made += 1,
            Err(error) => {
                failed += 1;
                assert!(!error.to_string().contains("Left behind"), "{error}");
                // What is gone can be made again under the same name.
                while host.create_vm(&name, &datastore, &[&network], &spec, &silent).await.is_err() {}
            }
        }
    }
    assert!(made > 0 && failed > 0, "{made} made, {failed} failed");
    assert_eq!(host.lookup_vms().await.unwrap().len(), 25);
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_runs_many_tasks_over_one_wait() {
    let vcsim = Vcsim::start(&["-vm", "12", "-method-delay", "PowerOff:300"]);
    let host = connect(&vcsim).await;
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
    let vms: Vec<_> = rows.into_iter().map(|row| checked(row.vm)).collect();
    let results = futures_util::future::join_all(vms.iter().map(|vm| host.power_off(vm, &silent))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
    assert!(rows.iter().all(|row| row.power == PowerState::Off));
    // 12 calls and what the one wait takes: far fewer than asking each task again and again.
    assert!(host.traffic().requests < 80, "{:?}", host.traffic());
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_ends_a_session_in_the_middle_of_the_work_and_nobody_notices() {
    let vcsim = Vcsim::start(&["-vm", "1", "-off", "-idle", "1s"]);
    let host = connect(&vcsim).await;
    let vm = create(&host, "web-1").await;
    host.power_on(&vm, &silent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    host.power_off(&vm, &silent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    host.destroy(&vm, &silent).await.unwrap();
    assert!(host.traffic().logins >= 3, "{:?}", host.traffic());
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_waits_for_an_address_in_vain_and_says_so() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let vm = create(&host, "web-1").await;
    let error = host.wait_for_address(&vm, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.timeout");
    // The wait that was given up stands in nobody's way.
    host.power_on(&vm, &silent).await.unwrap();
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_says_what_it_is() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let this = checked(host.lookup_host());
    let facts = host.host_facts(&this).await.unwrap();
    assert!(facts.product.contains("ESXi") && facts.cpu_cores.is_some() && facts.memory.is_some(), "{facts:#?}");
    assert!(facts.licence.is_some() && !facts.maintenance, "{facts:#?}");
    let datastores = host.list_datastores(&this).await.unwrap();
    assert!(datastores[0].accessible && datastores[0].capacity > Bytes(0), "{datastores:?}");
    assert_eq!(host.list_networks(&this).await.unwrap()[0].network.name, "VM Network");
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_renames_machines_and_takes_them_out_of_its_inventory_and_in() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let vm = create(&host, "web-1").await;
    let store = datastore(&host).await;
    host.rename_vm(&vm, &new("web-2"), &silent).await.unwrap();
    let renamed = host.lookup_vm(&vm.moref).await.unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.path), ("web-2", &vm.path));
    let running = host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == "ha-host_VM0").unwrap();
    assert_eq!(host.unregister_vm(&checked(running), &silent).await.unwrap_err().kind(), "esxi.invalid_power_state");
    host.unregister_vm(&vm, &silent).await.unwrap();
    let file = ceso::esxi::FilePath::parse("web-1/web-1.vmx").unwrap();
    let back = host.register_vm(&new("web-1"), &store, &file, &Placement::default(), &silent).await.unwrap();
    assert_eq!((back.name.as_str(), &back.path), ("web-1", &vm.path));
    let none = ceso::esxi::FilePath::parse("web-1/none.vmx").unwrap();
    assert_eq!(
        host.register_vm(&new("x"), &store, &none, &Placement::default(), &silent).await.unwrap_err().kind(),
        "esxi.file_not_found"
    );
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_takes_hardware_disks_cards_and_drives_as_the_client_sends_them() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let (store, network) = (datastore(&host).await, network(&host).await);
    let vm = create(&host, "web-1").await;
    let change = Reconfigure {
        cpus: Some(4),
        memory: Some(Bytes(2 << 30)),
        cores_per_socket: Some(2),
        cpu_hot_add: Some(true),
        memory_hot_add: Some(true),
        firmware: Some(Firmware::Bios),
        guest_id: Some("otherLinux64Guest".into()),
        ..Reconfigure::default()
    };
    host.reconfigure(&vm, &change, &silent).await.unwrap();
    let info = host.vm_info(&vm).await.unwrap();
    assert_eq!((info.row.cpus, info.row.guest_id.as_deref()), (Some(4), Some("otherLinux64Guest")));
    assert_eq!((info.cpu_hot_add, info.memory_hot_add, info.firmware), (true, true, Firmware::Bios));

    let new = DiskContent::New { datastore: &store, size: Bytes(16 << 20), form: Provisioning::Thick };
    let slot = Slot { kind: Some(ControllerKind::Sata), bus: Some(0), unit: Some(3) };
    let spec = DiskSpec { content: new, slot: slot.clone(), independent: true };
    let key = host.add_disk(&vm, &spec, &silent).await.unwrap();
    let disk = host.disk_at(&vm, &slot).await.unwrap().expect("it is where it was asked for");
    assert_eq!((disk.key, disk.size, disk.mode.as_str()), (key, Bytes(16 << 20), "independent_persistent"));
    host.grow_disk(&vm, key, Bytes(32 << 20), &silent).await.unwrap();
    assert_eq!(host.disk_at(&vm, &slot).await.unwrap().unwrap().size, Bytes(32 << 20));
    let smaller = host.grow_disk(&vm, key, Bytes(8 << 20), &silent).await.unwrap_err();
    assert_eq!(smaller.kind(), "esxi.invalid_argument");
    host.remove_disk(&vm, &disk, false, &silent).await.unwrap();
    assert!(host.disk_at(&vm, &slot).await.unwrap().is_none());

    let spec = NicSpec { network: &network, kind: "e1000e", mac: Some("00:50:56:00:00:01"), connected: false };
    let key = host.add_nic(&vm, &spec, &silent).await.unwrap();
    let nic = |info: ceso::esxi::VmInfo| info.hardware.nics.into_iter().find(|nic| nic.key == key);
    let added = nic(host.vm_info(&vm).await.unwrap()).unwrap();
    assert_eq!((added.kind.as_str(), added.mac.as_deref()), ("e1000e", Some("00:50:56:00:00:01")));
    assert!(!added.start_connected);
    let change = NicChange { network: Some(&network), connected: Some(true), ..NicChange::default() };
    host.change_nic(&vm, key, &change, &silent).await.unwrap();
    assert!(nic(host.vm_info(&vm).await.unwrap()).unwrap().start_connected);
    host.remove_device(&vm, key, &silent).await.unwrap();
    assert!(nic(host.vm_info(&vm).await.unwrap()).is_none());

    let image = ceso::esxi::FilePath::parse("a.iso").unwrap();
    let open = || -> std::io::Result<Box<dyn std::io::Read + Send>> { Ok(Box::new(&b"content"[..])) };
    host.upload(&store, &image, ceso::esxi::Content { length: 7, open: &open, sum: ceso::esxi::Sum::No }, &silent)
        .await
        .unwrap();
    host.insert_image(&vm, None, (&store, &image), &silent).await.unwrap();
    let drive = host.vm_info(&vm).await.unwrap().hardware.drives.remove(0);
    assert_eq!(drive.file.as_deref(), Some("[LocalDS_0] a.iso"));
    host.connect_drive(&vm, &drive, false, &silent).await.unwrap();
    host.insert_image(&vm, Some(&drive), (&store, &image), &silent).await.unwrap();
    host.eject_image(&vm, &drive, &silent).await.unwrap();
    assert_eq!(host.vm_info(&vm).await.unwrap().hardware.drives[0].file, None);
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_tells_what_happened() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = Host::connect(vcsim.options().await, login("u", "p")).await.unwrap();
    let this = checked(host.lookup_host());
    let vm = checked(host.lookup_vms().await.unwrap().remove(0));
    host.power_off(&vm, &silent).await.unwrap();
    let filter = TaskFilter { operations: vec!["VirtualMachine.powerOff*".into()], ..TaskFilter::default() };
    let tasks = host.tasks(&this, &filter, Duration::from_secs(20)).await.unwrap();
    assert_eq!(tasks.iter().map(|task| task.state.as_str()).collect::<Vec<_>>(), ["success"]);
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_has_port_groups_added_and_removed() {
    let vcsim = Vcsim::start(&["-vm", "0"]);
    let host = Host::connect(vcsim.options().await, login("u", "p")).await.unwrap();
    let this = checked(host.lookup_host());
    let group = PortGroup { name: "lab".into(), vlan: 42, switch: "vSwitch0".into(), host_cards: vec![] };
    host.add_port_group(&this, &group).await.unwrap();
    host.add_port_group(&this, &group).await.unwrap_err();
    assert!(host.list_networks(&this).await.unwrap().iter().any(|row| row.network.name == "lab"));
    // vcsim makes its network, and does not list it among the host's port groups, as ESXi does.
    host.remove_port_group(&this, "lab").await.unwrap();
    assert!(host.list_networks(&this).await.unwrap().iter().all(|row| row.network.name != "lab"));
    assert_eq!(host.remove_port_group(&this, "lab").await.unwrap_err().kind(), "esxi.not_found");
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_goes_into_maintenance_and_out_of_it() {
    let vcsim = Vcsim::start(&["-vm", "0"]);
    let host = Host::connect(vcsim.options().await, login("u", "p")).await.unwrap();
    let this = checked(host.lookup_host());
    host.enter_maintenance(&this, Duration::from_secs(10), &silent).await.unwrap();
    assert!(host.host_facts(&this).await.unwrap().maintenance);
    host.exit_maintenance(&this, &silent).await.unwrap();
    assert!(!host.host_facts(&this).await.unwrap().maintenance);
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_is_looked_at_before_anything_is_written() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let host = connect(&vcsim).await;
    let this = checked(host.lookup_host());
    let networks = ["VM Network".to_owned()];
    let asked = Asked { networks: &networks, ..Asked::default() };
    let found = host.preflight(&this, &new("web-1"), asked, &|_, _, _| true).await.unwrap();
    assert_eq!((found.failures.as_slice(), found.datastore.as_deref()), (&[][..], Some("LocalDS_0")));
    create(&host, "web-1").await;
    let none = ["none".to_owned()];
    let asked =
        Asked { template: Some("ha-host_VM0"), networks: &none, space: Some(Bytes(1 << 60)), ..Asked::default() };
    let found = host.preflight(&this, &new("web-1"), asked, &|_, _, _| true).await.unwrap();
    let what: Vec<&str> = found.failures.iter().map(|finding| finding.what).collect();
    assert_eq!(what, ["name", "template", "space", "network"]);
    host.close().await.unwrap();
}
