//! Full clones and new machines: what is asked of the host, and what is left when it goes wrong halfway.

use std::collections::BTreeMap;

use super::checked;
use super::fake::{FakeHost, Reply, Request, World, fault, right};
use crate::esxi::checked::Checked;
use crate::esxi::{CloneSpec, CreateSpec, Datastore, Error, Host, MoRef, Network, NewVm, Vm, silent};
use crate::units::Bytes;

const DEVICES: &str = r#"<val>
<VirtualDevice xsi:type="VirtualIDEController"><key>200</key><busNumber>0</busNumber></VirtualDevice>
<VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber><sharedBus>noSharing</sharedBus></VirtualDevice>
<VirtualDevice xsi:type="VirtualBusLogicController"><key>1001</key><busNumber>1</busNumber><sharedBus>noSharing</sharedBus></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2000</key><deviceInfo><label>Hard disk 1</label></deviceInfo>
 <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds1] golden/golden.vmdk</fileName><diskMode>persistent</diskMode><thinProvisioned>true</thinProvisioned></backing>
 <controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>1048576</capacityInKB></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2016</key><deviceInfo><label>Hard disk 2</label></deviceInfo>
 <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds2] golden/golden.vmdk</fileName><diskMode>independent_persistent</diskMode><thinProvisioned>false</thinProvisioned><eagerlyScrub>true</eagerlyScrub></backing>
 <controllerKey>1001</controllerKey><unitNumber>3</unitNumber><capacityInKB>2048</capacityInKB></VirtualDevice>
<VirtualDevice xsi:type="VirtualE1000e"><key>4000</key><backing xsi:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>VM Network</deviceName></backing>
 <connectable><startConnected>true</startConnected><connected>false</connected></connectable><macAddress>00:0c:29:00:00:01</macAddress></VirtualDevice>
<VirtualDevice xsi:type="VirtualCdrom"><key>3000</key></VirtualDevice></val>"#;

fn template() -> Checked<Vm> {
    let moref = MoRef::new("VirtualMachine", "golden");
    let datastores = vec!["ds1".into(), "ds2".into()];
    checked(Vm {
        moref,
        name: "golden".into(),
        instance_uuid: "u".into(),
        path: "[ds1] golden/golden.vmx".into(),
        datastores,
        place: None,
    })
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.into() })
}

fn datastore() -> Checked<Datastore> {
    checked(Datastore { moref: MoRef::new("Datastore", "ds1"), name: "ds1".into() })
}

fn network() -> Checked<Network> {
    checked(Network { moref: MoRef::new("Network", "net"), name: "LAN".into() })
}

fn prepare(world: &mut World) {
    let golden = MoRef::new("VirtualMachine", "golden");
    for (path, value) in [
        ("runtime.powerState", "<val>poweredOff</val>"),
        ("config.guestId", "<val>debian12_64Guest</val>"),
        ("config.annotation", "<val>made by hand</val>"),
        ("config.hardware.numCPU", "<val>2</val>"),
        ("config.hardware.numCoresPerSocket", "<val>2</val>"),
        ("config.hardware.memoryMB", "<val>1024</val>"),
        ("config.version", "<val>vmx-19</val>"),
        ("config.firmware", "<val>efi</val>"),
        ("config.bootOptions", "<val><efiSecureBootEnabled>true</efiSecureBootEnabled></val>"),
        ("config.hardware.device", DEVICES),
        (
            "config.extraConfig",
            "<val><OptionValue><key>guestinfo.userdata</key><value>secret</value></OptionValue><OptionValue><key>disk.EnableUUID</key>\
             <value>TRUE</value></OptionValue><OptionValue><key>nvram</key><value>golden.nvram</value></OptionValue></val>",
        ),
        (
            "layoutEx.file",
            "<val><VirtualMachineFileLayoutExFileInfo><key>1</key><name>[ds1] golden/golden.nvram</name><type>nvram</type><size>8684</size>\
             </VirtualMachineFileLayoutExFileInfo></val>",
        ),
    ] {
        world.set(&golden, path, value);
    }
}

async fn fake(script: impl Fn(&Request, &mut World) -> Option<Reply> + Send + Sync + 'static) -> (FakeHost, Host) {
    let fake = FakeHost::scripted(script).await;
    prepare(&mut fake.world.lock().unwrap());
    let host = Host::connect(fake.options(), right()).await.unwrap();
    (fake, host)
}

async fn clone(host: &Host, name: &str) -> Result<Vm, Error> {
    let network = network();
    let spec = CloneSpec {
        extra_config: BTreeMap::from([("guestinfo.metadata".into(), "mine".into())]),
        networks: vec![("VM Network", &network)],
        ..CloneSpec::default()
    };
    host.clone_vm(&template(), &new(name), &datastore(), &spec, &silent).await
}

#[tokio::test]
async fn a_clone_is_what_its_template_is() {
    let (fake, host) = fake(|_, _| None).await;
    let vm = clone(&host, "web-1").await.unwrap();
    assert_eq!(vm.path, "[ds1] web-1/web-1.vmx");
    let copies = fake.changes("CopyVirtualDisk_Task");
    let form = |index: usize, path: &str| copies[index].text_at(path).unwrap().to_owned();
    // Two disks of one name on two datastores do not collide; thin stays thin, and thick thick.
    assert_eq!(form(0, "destName"), "[ds1] web-1/web-1.vmdk");
    assert_eq!((form(0, "destSpec.diskType"), form(0, "destSpec.adapterType")), ("thin".into(), "lsiLogic".into()));
    assert_eq!(form(1, "destName"), "[ds1] web-1/web-1_1.vmdk");
    assert_eq!(
        (form(1, "destSpec.diskType"), form(1, "destSpec.adapterType")),
        ("eagerZeroedThick".into(), "busLogic".into())
    );
    assert_eq!(fake.changes("CopyDatastoreFile_Task")[0].text_at("destinationName"), Some("[ds1] web-1/web-1.nvram"));

    let call = fake.changes("CreateVM_Task").remove(0);
    let config = call.child("config").unwrap();
    let text = |path: &str| config.text_at(path).unwrap_or_default().to_owned();
    assert_eq!(
        (text("name"), text("version"), text("guestId")),
        ("web-1".into(), "vmx-19".into(), "debian12_64Guest".into())
    );
    assert_eq!(
        (text("annotation"), text("numCPUs"), text("numCoresPerSocket")),
        ("made by hand".into(), "2".into(), "2".into())
    );
    assert_eq!((text("firmware"), text("bootOptions.efiSecureBootEnabled")), ("efi".into(), "true".into()));
    let devices: Vec<_> = config.all("deviceChange").map(|change| change.child("device").unwrap()).collect();
    let kinds: Vec<_> = devices.iter().map(|device| device.xsi_type.as_deref().unwrap()).collect();
    assert_eq!(
        kinds,
        ["ParaVirtualSCSIController", "VirtualBusLogicController", "VirtualDisk", "VirtualDisk", "VirtualE1000e"]
    );
    assert_eq!(devices[1].text_at("busNumber"), Some("1"));
    assert_eq!(devices[3].text_at("controllerKey"), devices[1].text_at("key"));
    assert_eq!(
        (devices[3].text_at("unitNumber"), devices[3].text_at("backing.diskMode")),
        (Some("3"), Some("independent_persistent"))
    );
    assert_eq!((devices[4].text_at("backing.deviceName"), devices[4].text_at("macAddress")), (Some("LAN"), None));
    let keys: Vec<_> = config.all("extraConfig").map(|option| option.text_at("key").unwrap()).collect();
    assert_eq!(keys, ["disk.EnableUUID", "guestinfo.metadata"]);
}

/// The variables of a BIOS (the order of its drives, its clock) are a file too.
#[tokio::test]
async fn a_bios_keeps_its_variables_and_does_without_where_there_are_none_yet() {
    for there in [true, false] {
        let (fake, host) = fake(move |request, world| {
            (request.method == "CopyDatastoreFile_Task" && !there)
                .then(|| world.task(Err(fault("FileNotFound", "<file>[ds1] golden/golden.nvram</file>"))))
        })
        .await;
        fake.world.lock().unwrap().set(&MoRef::new("VirtualMachine", "golden"), "config.firmware", "<val>bios</val>");
        clone(&host, "web-1").await.unwrap();
        assert_eq!(fake.count("CopyDatastoreFile_Task"), 1, "{there}");
        for copied in fake.changes("CopyDatastoreFile_Task") {
            assert_eq!(copied.text_at("destinationName"), Some("[ds1] web-1/web-1.nvram"));
        }
        let config = fake.changes("CreateVM_Task").remove(0);
        assert_eq!(config.text_at("config.firmware"), Some("bios"));
    }
    // An EFI machine does not boot without them.
    let (fake, host) = fake(|request, world| {
        (request.method == "CopyDatastoreFile_Task").then(|| world.task(Err(fault("FileNotFound", ""))))
    })
    .await;
    assert_eq!(clone(&host, "web-1").await.unwrap_err().kind(), "esxi.file_not_found");
    assert_eq!(fake.count("CreateVM_Task"), 0);
}

#[tokio::test]
async fn a_clone_that_fails_takes_away_exactly_what_it_made() {
    for failing in ["CopyVirtualDisk_Task", "CopyDatastoreFile_Task", "CreateVM_Task"] {
        let (fake, host) = fake(move |request, world| {
            let again = request.method != "CopyVirtualDisk_Task" || world.count("CopyVirtualDisk_Task") == 2;
            (request.method == failing && again)
                .then(|| world.task(Err(fault("NoDiskSpace", "<datastore>ds1</datastore>"))))
        })
        .await;
        fake.world.lock().unwrap().files.extend(["[ds1] golden/golden.vmdk".into(), "[ds1] web-10/x".into()]);
        let before = fake.files();
        let error = clone(&host, "web-1").await.unwrap_err();
        assert_eq!(error.kind(), "esxi.no_disk_space", "{failing}: {error}");
        assert_eq!(fake.files(), before, "{failing}: {error}");
        assert!(!error.to_string().contains("Left behind"), "{error}");
    }
}

#[tokio::test]
async fn what_somebody_else_put_into_the_folder_stays_and_is_named() {
    let (fake, host) = fake(|request, world| {
        (request.method == "CreateVM_Task").then(|| {
            world.files.insert("[ds1] web-1/notes.txt".into());
            world.files.insert("[ds1] web-1/web-1.vmx".into());
            world.task(Err(fault("RestrictedVersion", "")))
        })
    })
    .await;
    let error = clone(&host, "web-1").await.unwrap_err();
    assert_eq!(error.kind(), "esxi.restricted_version");
    assert!(error.to_string().contains("[ds1] web-1 ("), "{error}");
    assert_eq!(fake.files(), ["[ds1] web-1", "[ds1] web-1/notes.txt"]);
}

#[tokio::test]
async fn what_cannot_be_taken_away_is_named() {
    let (fake, host) = fake(|request, world| match request.method.as_str() {
        "CreateVM_Task" => Some(world.task(Err(fault("NoDiskSpace", "")))),
        "DeleteVirtualDisk_Task" => Some(world.task(Err(fault("FileLocked", "")))),
        _ => None,
    })
    .await;
    let error = clone(&host, "web-1").await.unwrap_err();
    assert!(error.to_string().contains("Left behind") && error.to_string().contains("web-1_1.vmdk"), "{error}");
    assert!(fake.files().contains(&"[ds1] web-1/web-1.vmdk".to_owned()));
}

#[tokio::test]
async fn after_an_unknown_outcome_nothing_is_deleted() {
    let (fake, host) = fake(|request, _| (request.method == "CreateVM_Task").then_some(Reply::Close)).await;
    let error = clone(&host, "web-1").await.unwrap_err();
    assert_eq!(error.kind(), "esxi.connection_lost");
    assert!(error.to_string().contains("perhaps [ds1] web-1"), "{error}");
    assert_eq!(fake.count("DeleteDatastoreFile_Task") + fake.count("DeleteVirtualDisk_Task"), 0);
}

#[tokio::test]
async fn an_existing_folder_is_an_error_and_is_left_alone() {
    let (fake, host) = fake(|_, _| None).await;
    fake.world.lock().unwrap().files.extend(["[ds1] web-1".into(), "[ds1] web-1/precious.vmdk".into()]);
    let before = fake.files();
    assert_eq!(clone(&host, "web-1").await.unwrap_err().kind(), "esxi.file_already_exists");
    let spec = CreateSpec { disk: Some(Bytes(1 << 30)), ..CreateSpec::default() };
    let error = host.create_vm(&new("web-1"), &datastore(), &[], &spec, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.file_already_exists");
    assert_eq!(fake.files(), before);
    assert_eq!(fake.count("CreateVM_Task") + fake.count("DeleteDatastoreFile_Task"), 0);
}

#[tokio::test]
async fn a_template_that_cannot_be_cloned_is_refused_before_anything_is_made() {
    let cases: [(&str, &str, &str, &str); 6] = [
        ("runtime.powerState", "<val>poweredOn</val>", "esxi.invalid_power_state", "powered on"),
        ("runtime.powerState", "<val>suspended</val>", "esxi.invalid_power_state", "is suspended"),
        (
            "config.hardware.device",
            r#"<val><VirtualDevice xsi:type="VirtualTPM"><key>11000</key></VirtualDevice></val>"#,
            "esxi.invalid_argument",
            "TPM",
        ),
        (
            "config.hardware.device",
            r#"<val><VirtualDevice xsi:type="VirtualDisk"><key>1</key><deviceInfo><label>Hard disk 1</label></deviceInfo>
            <backing xsi:type="VirtualDiskRawDiskMappingVer1BackingInfo"><fileName>x</fileName></backing></VirtualDevice></val>"#,
            "esxi.invalid_argument",
            "RawDiskMapping",
        ),
        (
            "config.hardware.device",
            r#"<val><VirtualDevice xsi:type="VirtualVmxnet3"><key>1</key><backing><deviceName>Secret LAN</deviceName></backing></VirtualDevice></val>"#,
            "esxi.invalid_argument",
            "Secret LAN",
        ),
        (
            "config.hardware.device",
            r#"<val><VirtualDevice xsi:type="VirtualSriovEthernetCard"><key>1</key><macAddress>m</macAddress><backing><deviceName>VM Network</deviceName></backing></VirtualDevice></val>"#,
            "esxi.invalid_argument",
            "Sriov",
        ),
    ];
    for (path, value, kind, says) in cases {
        let (fake, host) = fake(|_, _| None).await;
        fake.world.lock().unwrap().set(&MoRef::new("VirtualMachine", "golden"), path, value);
        let error = clone(&host, "web-1").await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(says), "{error:?}");
        assert_eq!(fake.count("MakeDirectory"), 0);
    }
    let (fake, host) = fake(|_, _| None).await;
    fake.world.lock().unwrap().set(&MoRef::new("Datastore", "ds1"), "summary.freeSpace", "<val>1000</val>");
    let error = clone(&host, "web-1").await.unwrap_err();
    assert_eq!(error.kind(), "esxi.no_disk_space", "{error}");
    assert_eq!(fake.count("MakeDirectory"), 0);
}

#[tokio::test]
async fn a_clone_asks_for_what_its_disks_hold_and_not_for_what_lies_beside_them() {
    let file = |key: u32, kind: &str, size: u64| {
        format!(
            "<VirtualMachineFileLayoutExFileInfo><key>{key}</key><name>[ds1] golden/{key}</name><type>{kind}</type><size>{size}</size>\
             </VirtualMachineFileLayoutExFileInfo>"
        )
    };
    // The base and the delta of the thin disk, whose size is 1 GiB, and what a disk that was taken away has left.
    let files = |base, delta| {
        let files = [file(1, "diskDescriptor", 500), file(2, "diskExtent", base), file(3, "diskExtent", delta)];
        format!("<val>{}{}</val>", files.concat(), file(4, "diskExtent", 1 << 40))
    };
    let chain = "<val><VirtualMachineFileLayoutExDiskLayout><key>2000</key><chain><fileKey>1</fileKey><fileKey>2</fileKey></chain>\
                 <chain><fileKey>3</fileKey></chain></VirtualMachineFileLayoutExDiskLayout></val>";
    let thick: u64 = 2048 << 10;
    for (base, delta, needed) in [(5000, 700, 5700), (1 << 30, 1 << 30, 1 << 30)] {
        for (free, fits) in [(thick + needed, true), (thick + needed - 1, false)] {
            let (fake, host) = fake(|_, _| None).await;
            {
                let mut world = fake.world.lock().unwrap();
                let golden = MoRef::new("VirtualMachine", "golden");
                world.set(&golden, "layoutEx.file", &files(base, delta));
                world.set(&golden, "layoutEx.disk", chain);
                world.set(&MoRef::new("Datastore", "ds1"), "summary.freeSpace", &format!("<val>{free}</val>"));
            }
            match clone(&host, "web-1").await {
                Ok(_) => assert!(fits, "{base} and {delta} in {free}"),
                Err(error) => {
                    assert!(!fits && error.kind() == "esxi.no_disk_space", "{base} and {delta} in {free}: {error}")
                }
            }
        }
    }
}
