//! The client on vcsim as a vCenter: one datacenter for a connection, folders, clusters, the vCenter's own clone.
//!
//! vcsim is no proof of what it does not do as a vCenter does: it clones extra configuration and drives in its own way, its snapshots
//! have no delta disks, and it takes a machine's place for granted. Where it differs the client follows the vCenter, and a test says so.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    CloneSpec, Content, CreateSpec, Datastore, Detail, EventFilter, FilePath, Host, Network, NewVm, NicChange, NicSpec,
    Placement, PowerState, Reconfigure, Search, SnapshotSpec, TaskFilter, Vm, silent,
};
use ceso::units::Bytes;

use crate::vcsim::{Vcsim, login, peer};

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.to_owned() })
}

async fn connect(vcsim: &Vcsim, datacenter: Option<&str>) -> Result<Host, ceso::esxi::Error> {
    let mut options = vcsim.options().await;
    options.datacenter = datacenter.map(str::to_owned);
    Host::connect(options, login("u", "p")).await
}

fn govc(vcsim: &Vcsim, arguments: &[&str]) -> String {
    let home = std::env::temp_dir();
    let output = Command::new(peer("bin/govc"))
        .args(arguments)
        .env("GOVC_URL", vcsim.url.as_str())
        .env("GOVC_USERNAME", "u")
        .env("GOVC_PASSWORD", "p")
        .env("GOVC_INSECURE", "true")
        .env("GOVC_PERSIST_SESSION", "false")
        .env("HOME", home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn vm(host: &Host, name: &str) -> Checked<Vm> {
    let all = host.lookup_vms().await.unwrap();
    let names: Vec<&String> = all.iter().map(|vm| &vm.name).collect();
    checked(all.iter().find(|vm| vm.name == name).unwrap_or_else(|| panic!("{name} among {names:?}")).clone())
}

async fn datastore(host: &Host) -> Checked<Datastore> {
    checked(host.lookup_datastores().await.unwrap().remove(0))
}

async fn network(host: &Host, name: &str) -> Checked<Network> {
    checked(host.lookup_networks().await.unwrap().into_iter().find(|network| network.name == name).unwrap())
}

fn at(folder: Option<&str>, place: Option<&str>) -> Placement {
    Placement { folder: folder.map(str::to_owned), place: place.map(str::to_owned) }
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_is_listed_by_folder_host_and_cluster() {
    let vcsim = Vcsim::vcenter(&["-vm", "2"]);
    govc(&vcsim, &["folder.create", "/DC0/vm/prod", "/DC0/vm/prod/web"]);
    govc(&vcsim, &["object.mv", "/DC0/vm/DC0_C0_RP0_VM0", "/DC0/vm/prod/web"]);
    govc(&vcsim, &["pool.create", "/DC0/host/DC0_C0/Resources/batch"]);
    let host = connect(&vcsim, None).await.unwrap();
    assert!(host.is_vcenter() && host.about().is_vcenter());
    let this = checked(host.lookup_host());
    for detail in [Detail::Lean, Detail::Full] {
        let mut rows = host.list_vms(&this, detail).await.unwrap();
        rows.sort_by(|a, b| a.vm.name.cmp(&b.vm.name));
        let names: Vec<&str> = rows.iter().map(|row| row.vm.name.as_str()).collect();
        assert_eq!(names, ["DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1", "DC0_H0_VM0", "DC0_H0_VM1"]);
        let folders: Vec<&str> =
            rows.iter().map(|row| row.vm.place.as_ref().unwrap().folder.as_deref().unwrap()).collect();
        assert_eq!(folders, ["prod/web", "", "", ""]);
        let places: Vec<_> = rows.iter().map(|row| (row.system.clone().unwrap(), row.cluster.as_deref())).collect();
        assert!(places[0].0.starts_with("DC0_C0_H") && places[0].1 == Some("DC0_C0"), "{places:?}");
        assert_eq!(places[2], ("DC0_H0".to_owned(), None));
    }
    let known = vm(&host, "DC0_C0_RP0_VM0").await;
    let info = host.vm_info(&known).await.unwrap();
    assert_eq!((info.row.vm.name.as_str(), info.row.cluster.as_deref()), ("DC0_C0_RP0_VM0", Some("DC0_C0")));
    assert_eq!(info.row.vm.place, known.place);
    // Its card is on a port group of a distributed switch, which has a name all the same.
    assert_eq!(info.hardware.nics[0].network.as_deref(), Some("DC0_DVPG0"));

    let places: Vec<(&str, String)> =
        host.list_places(&this).await.unwrap().into_iter().map(|row| (row.kind, row.path)).collect();
    for expected in [
        ("folder", "prod"),
        ("folder", "prod/web"),
        ("cluster", "DC0_C0"),
        ("host", "DC0_C0/DC0_C0_H0"),
        ("pool", "DC0_C0/batch"),
        ("host", "DC0_H0"),
    ] {
        assert!(places.iter().any(|(kind, path)| (*kind, path.as_str()) == expected), "{expected:?} in {places:?}");
    }
    let systems = host.list_systems(&this).await.unwrap();
    let systems: Vec<_> = systems.iter().map(|row| (row.name.as_str(), row.cluster.as_deref())).collect();
    let cluster = Some("DC0_C0");
    assert_eq!(systems, [("DC0_C0_H0", cluster), ("DC0_C0_H1", cluster), ("DC0_C0_H2", cluster), ("DC0_H0", None)]);
    assert_eq!(host.list_datastores(&this).await.unwrap()[0].datastore.name, "LocalDS_0");
    assert_eq!(network(&host, "DC0_DVPG0").await.moref.kind, "DistributedVirtualPortgroup");
    let facts = host.host_facts(&this).await.unwrap();
    assert!(facts.name == "DC0" && facts.product.contains("vCenter"), "{facts:?}");
    host.logout().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_connection_is_about_one_datacenter() {
    let vcsim = Vcsim::vcenter(&["-vm", "1", "-dc", "2"]);
    let sessions = || govc(&vcsim, &["session.ls"]).lines().count();
    let before = sessions();
    let error = connect(&vcsim, None).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.datacenter");
    assert!(error.to_string().contains("DC0, DC1") && error.hint().unwrap().contains("datacenter"), "{error}");
    let error = connect(&vcsim, Some("DC7")).await.err().unwrap();
    assert!(error.kind() == "esxi.datacenter" && error.to_string().contains("DC0, DC1"), "{error}");
    // What could not be used is no session that nobody ends.
    assert_eq!(sessions(), before);

    let one = connect(&vcsim, Some("DC1")).await.unwrap();
    let this = checked(one.lookup_host());
    let names: Vec<String> =
        one.list_vms(&this, Detail::Lean).await.unwrap().into_iter().map(|row| row.vm.name).collect();
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with("DC1_")), "{names:?}");
    let other = connect(&vcsim, Some("/DC0")).await.unwrap();
    let stranger = vm(&other, "DC0_H0_VM0").await;
    // Even who holds a reference of the other datacenter is told that there is no such machine.
    assert_eq!(one.lookup_vm(&stranger.moref).await.unwrap_err().kind(), "esxi.not_found");
    assert_eq!(one.lookup_datastores().await.unwrap().len(), 1);
    assert_ne!(one.lookup_datastores().await.unwrap()[0].moref, other.lookup_datastores().await.unwrap()[0].moref);
    let systems = one.list_systems(&this).await.unwrap();
    assert!(systems.iter().all(|row| row.name.starts_with("DC1_")));

    // Both have a machine of one name, at one path of a datastore of one name, and neither is seen by the other's connection.
    for host in [&one, &other] {
        let spec = CreateSpec {
            at: at(None, Some(&format!("{}_H0", host.host_facts(&checked(host.lookup_host())).await.unwrap().name))),
            disk: Some(Bytes(1 << 20)),
            ..CreateSpec::default()
        };
        let made = host.create_vm(&new("twin"), &datastore(host).await, &[], &spec, &silent).await.unwrap();
        assert_eq!(made.path, "[LocalDS_0] twin/twin.vmx");
    }
    let twin = vm(&one, "twin").await;
    one.power_on(&twin, &silent).await.unwrap();
    let untouched = vm(&other, "twin").await;
    assert_eq!(other.vm_info(&untouched).await.unwrap().row.power, PowerState::Off);
    other.destroy(&untouched, &silent).await.unwrap();
    assert_eq!(one.vm_info(&twin).await.unwrap().row.power, PowerState::On);

    // What happens in the one is not told to who looks at the other.
    let events = other.events(&checked(other.lookup_host()), &EventFilter::default(), Duration::ZERO).await.unwrap();
    assert!(events.iter().any(|event| event.vm.as_deref() == Some("DC0_C0_RP0_VM0")), "{events:?}");
    assert!(!events.iter().any(|event| event.vm.as_deref().is_some_and(|vm| vm.starts_with("DC1_"))), "{events:?}");
    let tasks = other.tasks(&checked(other.lookup_host()), &TaskFilter::default(), Duration::ZERO).await.unwrap();
    assert!(!tasks.iter().any(|task| task.operation.contains("powerOn") && task.entity.as_deref() == Some("twin")));
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_machines_of_one_name_are_called_by_their_paths() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    govc(&vcsim, &["folder.create", "/DC0/vm/prod", "/DC0/vm/test"]);
    let host = connect(&vcsim, None).await.unwrap();
    let spec = |folder: Option<&str>| CreateSpec { at: at(folder, Some("DC0_C0")), ..CreateSpec::default() };
    let first =
        host.create_vm(&new("web-1"), &datastore(&host).await, &[], &spec(Some("prod")), &silent).await.unwrap();
    let handle = vm(&host, "web-1").await;
    assert_eq!(handle.own_name(), "web-1");
    // Somebody else makes another of that name: vcsim takes any path for its files.
    govc(
        &vcsim,
        &[
            "vm.create",
            "-on=false",
            "-pool",
            "DC0_C0/Resources",
            "-folder",
            "test",
            "-ds",
            "LocalDS_0",
            "-net",
            "VM Network",
            "web-9",
        ],
    );
    govc(&vcsim, &["vm.change", "-vm", "web-9", "-name", "web-1"]);
    let mut names: Vec<String> = host.lookup_vms().await.unwrap().into_iter().map(|vm| vm.name).collect();
    names.sort();
    assert_eq!(names, ["/prod/web-1", "/test/web-1", "DC0_C0_RP0_VM0", "DC0_H0_VM0"]);
    // Who has held it since it was the only one is told its path, which other tables allow than its name.
    assert_eq!(host.lookup_vm(&first.moref).await.unwrap().name, "/prod/web-1");
    let called = vm(&host, "/prod/web-1").await;
    assert_eq!((called.own_name(), called.moref == first.moref), ("web-1", true));
    let info = host.vm_info(&called).await.unwrap();
    assert_eq!(info.row.vm.name, "/prod/web-1");
    host.power_on(&called, &silent).await.unwrap();
    host.power_off(&called, &silent).await.unwrap();
    host.rename_vm(&called, &new("web-2"), &silent).await.unwrap();
    let mut names: Vec<String> = host.lookup_vms().await.unwrap().into_iter().map(|vm| vm.name).collect();
    names.sort();
    assert_eq!(names, ["DC0_C0_RP0_VM0", "DC0_H0_VM0", "web-1", "web-2"]);
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_lets_a_machine_live_from_create_to_destroy() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    govc(&vcsim, &["folder.create", "/DC0/vm/prod"]);
    let host = connect(&vcsim, None).await.unwrap();
    let store = datastore(&host).await;
    let spec = |folder: Option<&str>, place: Option<&str>| CreateSpec {
        disk: Some(Bytes(64 << 20)),
        at: at(folder, place),
        ..CreateSpec::default()
    };
    let make = async |name: &str, spec: &CreateSpec| host.create_vm(&new(name), &store, &[], spec, &silent).await;
    // Nothing is chosen where there is a choice, and nothing is made before the place is known.
    let error = make("a", &spec(None, None)).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.place");
    assert!(error.hint().unwrap().contains("DC0_C0, DC0_H0"), "{:?}", error.hint());
    let error = make("a", &spec(Some("prd"), Some("DC0_C0"))).await.unwrap_err();
    assert!(error.kind() == "esxi.place" && error.hint().unwrap().contains("prod"), "{error}");
    let error = make("a", &spec(None, Some("DC0_C0/none"))).await.unwrap_err();
    assert!(error.kind() == "esxi.place" && error.hint().unwrap().contains("DC0_C0/DC0_C0_H1"), "{error}");
    assert!(
        !host
            .browse(&store, &FilePath::root(), Search { pattern: Some("*"), deep: false })
            .await
            .unwrap()
            .iter()
            .any(|row| row.path == "a")
    );

    let group = network(&host, "DC0_DVPG0").await;
    let plain = network(&host, "VM Network").await;
    let spec = spec(Some("prod"), Some("DC0_C0/DC0_C0_H1"));
    let made = host.create_vm(&new("web-1"), &store, &[&group, &plain], &spec, &silent).await.unwrap();
    assert!(govc(&vcsim, &["find", "/DC0/vm/prod", "-type", "m"]).contains("/DC0/vm/prod/web-1"));
    let web = vm(&host, "web-1").await;
    assert_eq!(web.moref, made.moref);
    let info = host.vm_info(&web).await.unwrap();
    assert_eq!(info.row.system.as_deref(), Some("DC0_C0_H1"));
    let networks: Vec<Option<&str>> = info.hardware.nics.iter().map(|nic| nic.network.as_deref()).collect();
    assert_eq!(networks, [Some("DC0_DVPG0"), Some("VM Network")]);

    let change = Reconfigure {
        cpus: Some(2),
        extra_config: BTreeMap::from([
            ("guestinfo.metadata".into(), "bWV0YQ==".into()),
            ("SET.guest.ipAddress".into(), "192.0.2.7".into()),
        ]),
        ..Reconfigure::default()
    };
    host.reconfigure(&web, &change, &silent).await.unwrap();
    let key = host
        .add_nic(&web, &NicSpec { network: &group, kind: "e1000e", mac: None, connected: true }, &silent)
        .await
        .unwrap();
    host.change_nic(&web, key, &NicChange { network: Some(&plain), ..NicChange::default() }, &silent).await.unwrap();
    host.power_on(&web, &silent).await.unwrap();
    assert_eq!(host.wait_for_address(&web, Duration::from_secs(20)).await.unwrap().to_string(), "192.0.2.7");
    host.create_snapshot(&web, &SnapshotSpec { name: "one".into(), ..SnapshotSpec::default() }, &silent).await.unwrap();
    let rows = host.snapshots(&web).await.unwrap();
    host.revert(&checked(rows[0].snapshot.clone()), &silent).await.unwrap();
    host.remove_snapshots(&web, &silent).await.unwrap();
    if host.vm_info(&web).await.unwrap().row.power == PowerState::On {
        host.power_off(&web, &silent).await.unwrap();
    }
    host.rename_vm(&web, &new("web-2"), &silent).await.unwrap();
    let web = vm(&host, "web-2").await;
    // vcsim looks for a file of the name that a machine is taken in under.
    host.unregister_vm(&web, &silent).await.unwrap();
    let file = FilePath::parse("web-1/web-1.vmx").unwrap();
    let back =
        host.register_vm(&new("web-1"), &store, &file, &at(Some("prod"), Some("DC0_H0")), &silent).await.unwrap();
    assert_eq!(host.vm_info(&checked(back)).await.unwrap().row.system.as_deref(), Some("DC0_H0"));
    host.destroy(&vm(&host, "web-1").await, &silent).await.unwrap();
    assert!(!govc(&vcsim, &["find", "/DC0/vm/prod", "-type", "m"]).contains("web"));
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_files_go_to_the_datacenter_that_is_meant() {
    let vcsim = Vcsim::vcenter(&["-vm", "1", "-dc", "2", "-folder", "1"]);
    // Each datacenter is in a folder here, so its path has two parts.
    let paths = govc(&vcsim, &["find", "/", "-type", "d"]);
    let one = connect(&vcsim, Some("DC1")).await.unwrap();
    let other = connect(&vcsim, Some(paths.lines().find(|path| path.ends_with("DC0")).unwrap())).await.unwrap();
    let store = datastore(&one).await;
    let file = FilePath::parse("isos/a b.iso").unwrap();
    one.make_directory(&store, &FilePath::parse("isos").unwrap(), false).await.unwrap();
    let content = b"content of DC1".repeat(1000);
    let open = || Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn std::io::Read + Send>);
    let sent = one
        .upload(&store, &file, Content { length: content.len() as u64, open: &open, sum: ceso::esxi::Sum::No }, &silent)
        .await
        .unwrap();
    assert_eq!(sent.bytes, content.len() as u64);
    let rows = one
        .browse(&store, &FilePath::parse("isos").unwrap(), Search { pattern: Some("*"), deep: false })
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.path.as_str()).collect::<Vec<_>>(), ["isos/a b.iso"]);
    let came =
        one.download(&store, &file, ceso::esxi::Had::default(), Box::<Vec<u8>>::default(), &silent).await.unwrap();
    assert_eq!(came.bytes, content.len() as u64);
    let theirs = datastore(&other).await;
    assert_eq!(theirs.name, store.name);
    let rows = other.browse(&theirs, &FilePath::root(), Search { pattern: Some("*"), deep: false }).await.unwrap();
    assert!(!rows.iter().any(|row| row.path == "isos"), "{rows:?}");
    one.delete_path(&store, &file, &silent).await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_clones_by_itself() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    govc(&vcsim, &["folder.create", "/DC0/vm/prod"]);
    let host = connect(&vcsim, None).await.unwrap();
    let (store, group) = (datastore(&host).await, network(&host, "DC0_DVPG0").await);
    let plain = network(&host, "VM Network").await;
    let spec = CreateSpec {
        disk: Some(Bytes(64 << 20)),
        cpus: 2,
        at: at(Some("prod"), Some("DC0_C0")),
        extra_config: BTreeMap::from([("guestinfo.userdata".into(), "dXNlcg==".into())]),
        ..CreateSpec::default()
    };
    host.create_vm(&new("golden"), &store, &[&group], &spec, &silent).await.unwrap();
    let golden = vm(&host, "golden").await;
    let requests = host.traffic().requests;
    // vcsim heeds no notes of a clone, and takes no extra configuration of the template over; a vCenter does both.
    let clone = CloneSpec {
        cpus: Some(1),
        notes: Some("a clone".into()),
        extra_config: BTreeMap::from([("guestinfo.metadata".into(), "bWV0YQ==".into())]),
        networks: vec![("DC0_DVPG0", &plain)],
        ..CloneSpec::default()
    };
    let made = checked(host.clone_vm(&golden, &new("web-1"), &store, &clone, &silent).await.unwrap());
    // A plan, a switch, a clone and its task, the new machine: no disk is copied file by file.
    assert!(host.traffic().requests - requests < 12, "{}", host.traffic().requests - requests);
    let info = host.vm_info(&made).await.unwrap();
    assert_eq!((info.row.vm.name.as_str(), info.row.power.clone(), info.row.cpus), ("web-1", PowerState::Off, Some(1)));
    assert_eq!(info.hardware.disks[0].size, Bytes(64 << 20));
    assert_ne!(info.hardware.disks[0].file, host.vm_info(&golden).await.unwrap().hardware.disks[0].file);
    assert_eq!(info.extra_config.get("guestinfo.metadata").map(String::as_str), Some("bWV0YQ=="));
    assert_eq!(info.hardware.nics[0].network.as_deref(), Some("VM Network"));
    // It is where the template is, for nothing else was said.
    assert!(govc(&vcsim, &["find", "/DC0/vm/prod", "-type", "m"]).contains("/DC0/vm/prod/web-1"));
    assert_eq!(info.row.cluster.as_deref(), Some("DC0_C0"));

    let elsewhere =
        CloneSpec { at: at(Some("/"), Some("DC0_H0")), networks: vec![("DC0_DVPG0", &group)], ..CloneSpec::default() };
    let made = checked(host.clone_vm(&golden, &new("web-2"), &store, &elsewhere, &silent).await.unwrap());
    assert_eq!(host.vm_info(&made).await.unwrap().row.system.as_deref(), Some("DC0_H0"));
    assert!(govc(&vcsim, &["find", "/DC0/vm", "-type", "m"]).contains("/DC0/vm/web-2"));

    // A linked clone builds on a snapshot, and the template's own is taken or none.
    let linked = || CloneSpec { linked: true, networks: vec![("DC0_DVPG0", &group)], ..CloneSpec::default() };
    let error = host.clone_vm(&golden, &new("web-3"), &store, &linked(), &silent).await.unwrap_err();
    assert!(error.kind() == "esxi.invalid_argument" && error.hint().unwrap().contains("snapshot"), "{error}");
    host.create_snapshot(&golden, &SnapshotSpec { name: "base".into(), ..SnapshotSpec::default() }, &silent)
        .await
        .unwrap();
    host.clone_vm(&golden, &new("web-3"), &store, &linked(), &silent).await.unwrap();
    host.power_on(&golden, &silent).await.unwrap();
    let error = host.clone_vm(&golden, &new("web-4"), &store, &linked(), &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_power_state");
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_says_which_host_to_connect_to() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    let host = connect(&vcsim, None).await.unwrap();
    let this = checked(host.lookup_host());
    let refused = [
        host.shutdown_order(&this).await.map(drop).unwrap_err(),
        host.shut_down(&this, false).await.unwrap_err(),
        host.enter_maintenance(&this, Duration::from_secs(1), &silent).await.unwrap_err(),
        host.port_groups(&this).await.map(drop).unwrap_err(),
        host.sensors(&this).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), "esxi.needs_host", "{error}");
        assert!(error.hint().unwrap().contains("DC0_C0_H0, DC0_C0_H1, DC0_C0_H2, DC0_H0"), "{:?}", error.hint());
    }
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_host_says_what_needs_a_vcenter() {
    let vcsim = Vcsim::start(&["-vm", "1"]);
    let error = connect(&vcsim, Some("DC0")).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.needs_vcenter");
    let host = connect(&vcsim, None).await.unwrap();
    let this = checked(host.lookup_host());
    assert_eq!(host.list_places(&this).await.unwrap_err().kind(), "esxi.needs_vcenter");
    assert_eq!(host.list_systems(&this).await.unwrap().len(), 1);
    let store = datastore(&host).await;
    for placement in [at(Some("prod"), None), at(None, Some("C0"))] {
        let spec = CreateSpec { at: placement, ..CreateSpec::default() };
        let error = host.create_vm(&new("a"), &store, &[], &spec, &silent).await.unwrap_err();
        assert_eq!(error.kind(), "esxi.needs_vcenter", "{error}");
    }
    let rows = host.browse(&store, &FilePath::root(), Search { pattern: Some("*"), deep: false }).await.unwrap();
    assert!(!rows.iter().any(|row| row.path == "a"), "{rows:?}");
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_vcenter_moves_machines_and_marks_templates() {
    let vcsim = Vcsim::vcenter(&["-vm", "1"]);
    let host = connect(&vcsim, None).await.unwrap();
    let this = checked(host.lookup_host());
    host.create_folder(&this, "prod").await.unwrap();
    host.create_folder(&this, "prod/web").await.unwrap();
    assert_eq!(host.create_folder(&this, "prod/web").await.unwrap_err().kind(), "esxi.duplicate_name");
    assert_eq!(host.create_folder(&this, "none/web").await.unwrap_err().kind(), "esxi.place");
    let moved = vm(&host, "DC0_C0_RP0_VM0").await;
    host.move_vm(&moved, &at(Some("prod/web"), Some("DC0_H0")), None, &silent).await.unwrap();
    let there = vm(&host, "DC0_C0_RP0_VM0").await;
    assert_eq!(there.place.as_ref().unwrap().folder.as_deref(), Some("prod/web"));
    let info = host.vm_info(&there).await.unwrap();
    assert_eq!((info.row.system.as_deref(), info.row.power), (Some("DC0_H0"), PowerState::On));
    // A place that is not there is found before anything is moved.
    let error = host.move_vm(&moved, &at(Some("nowhere"), Some("DC0_C0")), None, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.place");
    assert_eq!(host.vm_info(&there).await.unwrap().row.system.as_deref(), Some("DC0_H0"));

    assert!(host.mark_template(&there, true, &at(None, None), &silent).await.is_err(), "it runs");
    host.power_off(&there, &silent).await.unwrap();
    host.mark_template(&there, true, &at(None, None), &silent).await.unwrap();
    let rows = host.list_vms(&this, Detail::Full).await.unwrap();
    assert!(rows.iter().find(|row| row.vm.name == "DC0_C0_RP0_VM0").unwrap().template);
    // A template runs nowhere, so its clone must be told where to.
    let group = network(&host, "DC0_DVPG0").await;
    let clone =
        |place| CloneSpec { at: at(None, place), networks: vec![("DC0_DVPG0", &group)], ..CloneSpec::default() };
    let store = datastore(&host).await;
    let error = host.clone_vm(&there, &new("web-1"), &store, &clone(None), &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.place");
    host.clone_vm(&there, &new("web-1"), &store, &clone(Some("DC0_H0")), &silent).await.unwrap();
    assert!(!host.vm_info(&vm(&host, "web-1").await).await.unwrap().row.template);
    host.mark_template(&there, false, &at(None, Some("DC0_C0")), &silent).await.unwrap();

    let alone = Vcsim::start(&["-vm", "1"]);
    let host = connect(&alone, None).await.unwrap();
    let there = vm(&host, "ha-host_VM0").await;
    let refused = [
        host.move_vm(&there, &at(None, Some("C1")), None, &silent).await.unwrap_err(),
        host.mark_template(&there, true, &at(None, None), &silent).await.unwrap_err(),
        host.create_folder(&checked(host.lookup_host()), "prod").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), "esxi.needs_vcenter", "{error}");
    }
}
