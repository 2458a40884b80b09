//! Machines: how they are made, changed, powered and destroyed, and what a standalone host refuses.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ceso::sim::Options;

use super::client::{Client, DATACENTER, DISKS, FILES, FOLDER, POOL, card, disk, scsi, vm};
use super::started::{options, start};

const TEMPLATE: (&str, &str) = ("VirtualMachine", "1");

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_made_in_steps_and_takes_its_address_from_its_metadata() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let metadata = "instance-id: i-1\nlocal-hostname: web-1\nnetwork:\n  version: 2\n  ethernets:\n    nics:\n      match: {name: 'ens*'}\n      \
        addresses: [10.0.1.241/24]\n      routes: [{to: 0.0.0.0/0, via: 10.0.1.1}]\n      nameservers: {addresses: [10.0.1.1]}\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(metadata.as_bytes()).unwrap();
    let packed = STANDARD.encode(gzip.finish().unwrap());
    let made = client
        .clone_template("web-1", &[("guestinfo.metadata", &packed), ("guestinfo.metadata.encoding", "gzip+base64")])
        .await;
    assert_eq!(client.value(vm(&made), "config.hardware.device[2000].backing.thinProvisioned").await, "true");
    assert_eq!(client.value(vm(&made), "config.hardware.device[2000].capacityInBytes").await, (2u64 << 30).to_string());
    assert!(client.value(vm(&made), "config.hardware.device[4000].macAddress").await.starts_with("00:0c:29:"));
    assert_eq!(client.value(vm(&made), "guest.ipAddress").await, "");
    client.task("PowerOnVM_Task", vm(&made), "").await.unwrap();
    client.until(("VirtualMachine", &made), "guest.ipAddress", "10.0.1.241").await;
    assert_eq!(client.value(vm(&made), "guest.hostName").await, "web-1");
    assert_eq!(client.value(vm(&made), "guest.toolsRunningStatus").await, "guestToolsRunning");
    let net = client.property(vm(&made), "guest.net").await.unwrap().unwrap();
    assert_eq!(net.text_at("GuestNicInfo.ipConfig.ipAddress.prefixLength"), Some("24"));
    let by_ip = client
        .text("FindByIp", ("SearchIndex", "ha-searchindex"), "<ip>10.0.1.241</ip><vmSearch>true</vmSearch>")
        .await;
    assert_eq!(by_ip, made);

    client.call("ShutdownGuest", vm(&made), "").await.unwrap();
    client.until(("VirtualMachine", &made), "runtime.powerState", "poweredOff").await;
    assert_eq!(client.value(vm(&made), "guest.ipAddress").await, "");
    client.task("Destroy_Task", vm(&made), "").await.unwrap();
    assert_eq!(client.file(reqwest::Method::HEAD, "web-1/web-1.vmdk", None, None).await.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_instance_id_keeps_the_network_and_a_new_one_takes_the_new() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let seed = |id: &str, address: &str| {
        let text = format!(
            r#"{{"instance-id":"{id}","local-hostname":"a","network":{{"version":1,"config":[{{"type":"physical","name":"eth0",
            "subnets":[{{"type":"static","address":"{address}/24","gateway":"10.0.1.1"}}]}}]}}}}"#
        );
        STANDARD.encode(text)
    };
    let made = client
        .clone_template(
            "a",
            &[("guestinfo.metadata", &seed("i-1", "10.0.1.5")), ("guestinfo.metadata.encoding", "base64")],
        )
        .await;
    for (id, address, expected) in
        [("i-1", "10.0.1.5", "10.0.1.5"), ("i-1", "10.0.1.6", "10.0.1.5"), ("i-2", "10.0.1.6", "10.0.1.6")]
    {
        let change = format!(
            r#"<spec><extraConfig><key>guestinfo.metadata</key><value xsi:type="xsd:string">{}</value></extraConfig></spec>"#,
            seed(id, address)
        );
        client.task("ReconfigVM_Task", vm(&made), &change).await.unwrap();
        client.task("PowerOnVM_Task", vm(&made), "").await.unwrap();
        client.until(("VirtualMachine", &made), "guest.ipAddress", expected).await;
        client.task("PowerOffVM_Task", vm(&made), "").await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_data_asks_dhcp_and_an_empty_disk_boots_nothing() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    client.task("PowerOnVM_Task", TEMPLATE, "").await.unwrap();
    client.until(TEMPLATE, "guest.ipAddress", "10.0.1.100").await;
    assert_eq!(client.value(TEMPLATE, "guest.hostName").await, "debian");
    let config = format!(
        "<config><name>empty</name><files><vmPathName>[datastore1]</vmPathName></files>{}{}{}</config>{POOL}",
        scsi(),
        disk("[datastore1]", "65536"),
        card("VM Network")
    );
    let made = client.task("CreateVM_Task", FOLDER, &config).await.unwrap().unwrap().text;
    client.task("PowerOnVM_Task", vm(&made), "").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.value(vm(&made), "guest.toolsRunningStatus").await, "guestToolsNotRunning");
    assert_eq!(client.call("ShutdownGuest", vm(&made), "").await.unwrap_err().kind, "ToolsUnavailable");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_and_destruction_have_their_order() {
    let server = start(Options { vms: 1, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let off = client.task("PowerOffVM_Task", TEMPLATE, "").await.unwrap_err();
    assert_eq!(off.kind, "InvalidPowerState");
    assert_eq!(
        (off.detail.text_at("requestedState"), off.detail.text_at("existingState")),
        (Some("poweredOff"), Some("poweredOff"))
    );
    let id = client.machine("vm-0001").await;
    for method in ["Destroy_Task", "PowerOnVM_Task"] {
        assert_eq!(client.task(method, vm(&id), "").await.unwrap_err().kind, "InvalidPowerState", "{method}");
    }
    assert_eq!(client.call("UnregisterVM", vm(&id), "").await.unwrap_err().kind, "InvalidPowerState");
    client.task("SuspendVM_Task", vm(&id), "").await.unwrap();
    assert_eq!(client.value(vm(&id), "runtime.powerState").await, "suspended");
    client.task("PowerOnVM_Task", vm(&id), "").await.unwrap();
    client.task("ResetVM_Task", vm(&id), "").await.unwrap();
    client.task("PowerOffVM_Task", vm(&id), "").await.unwrap();
    client.task("Destroy_Task", vm(&id), "").await.unwrap();
    assert_eq!(client.property(vm(&id), "name").await.unwrap_err().kind, "ManagedObjectNotFound");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_under_way_holds_its_machine() {
    let server = start(Options { task_delay: Duration::from_millis(300), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let task = client.text("PowerOnVM_Task", TEMPLATE, "").await;
    let busy = client.call("PowerOffVM_Task", TEMPLATE, "").await.unwrap_err();
    assert_eq!((busy.kind.as_str(), busy.detail.text_at("task")), ("TaskInProgress", Some(task.as_str())));
    assert!(busy.message.contains("another task"), "{}", busy.message);
    assert_eq!(client.value(("Task", &task), "info.state").await, "running");
    client.finished(&task).await.unwrap();
    assert_eq!(client.value(("Task", &task), "info.entityName").await, "debian-12");
    let copy =
        r#"<sourceName>[datastore1] debian-12/debian-12.vmdk</sourceName><destName>[datastore1] c.vmdk</destName>"#;
    let task = client.text("CopyVirtualDisk_Task", DISKS, copy).await;
    client.call("CancelTask", ("Task", &task), "").await.unwrap();
    assert_eq!(client.finished(&task).await.unwrap_err().kind, "RequestCanceled");
    assert_eq!(client.file(reqwest::Method::HEAD, "c.vmdk", None, None).await.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_standalone_host_refuses_is_refused() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let clone = r#"<folder type="Folder">ha-folder-vm</folder><name>x</name><spec><location/><template>false</template><powerOn>false</powerOn></spec>"#;
    for (method, this, inside) in [
        ("CloneVM_Task", TEMPLATE, clone),
        ("MarkAsTemplate", TEMPLATE, ""),
        ("CreateFolder", FOLDER, "<name>x</name>"),
        ("CreateCollectorForTasks", ("TaskManager", "ha-taskmgr"), "<filter/>"),
    ] {
        assert_eq!(client.call(method, this, inside).await.unwrap_err().kind, "NotSupported", "{method}");
    }
    assert_eq!(client.call("CreateVM_Task", TEMPLATE, "").await.unwrap_err().kind, "MethodNotFound");
    assert_eq!(
        client.call("QueryHostConnectionInfo", ("HostSystem", "ha-host"), "").await.unwrap_err().kind,
        "NotImplemented"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_networks_and_disks_are_checked_before_anything_is_left_behind() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let config = |name: &str, devices: &str| {
        format!(
            "<config><name>{name}</name><files><vmPathName>[datastore1]</vmPathName></files>{devices}</config>{POOL}"
        )
    };
    let twice = client.task("CreateVM_Task", FOLDER, &config("debian-12", "")).await.unwrap_err();
    assert_eq!(
        (twice.kind.as_str(), twice.detail.text_at("name"), twice.detail.text_at("object")),
        ("DuplicateName", Some("debian-12"), Some("1"))
    );
    let devices = format!("{}{}{}", scsi(), disk("[datastore1]", "1024"), card("No Such Network"));
    assert_eq!(
        client.task("CreateVM_Task", FOLDER, &config("x", &devices)).await.unwrap_err().kind,
        "InvalidDeviceBacking"
    );
    assert_eq!(
        client.file(reqwest::Method::HEAD, "x/x.vmdk", None, None).await.status(),
        404,
        "the disk was taken back"
    );
    for (devices, kind) in [
        (format!("{}{}", scsi(), disk("[datastore1] none/none.vmdk", "")), "FileNotFound"),
        (format!("{}{}", scsi(), disk("[other] a.vmdk", "")), "InvalidDatastore"),
        (format!("{}{}", scsi(), disk("[datastore1] ../../etc/passwd", "")), "InvalidDatastorePath"),
        (disk("[datastore1]", "1024"), "InvalidController"),
        (format!("{}{}", scsi(), disk("[datastore1] debian-12/debian-12.nvram", "")), "InvalidDiskFormat"),
        (format!("{}{}{}", scsi(), disk("[datastore1]", "1024"), disk("[datastore1]", "1024")), "InvalidDeviceSpec"),
    ] {
        assert_eq!(
            client.task("CreateVM_Task", FOLDER, &config("x", &devices)).await.unwrap_err().kind,
            kind,
            "{devices}"
        );
    }
    for name in ["..", &"n".repeat(81), " "] {
        assert_eq!(
            client.task("CreateVM_Task", FOLDER, &config(name, "")).await.unwrap_err().kind,
            "InvalidName",
            "{name:?}"
        );
    }
    for (field, value) in [
        ("numCPUs", "0"),
        ("numCPUs", "9999"),
        ("memoryMB", "3"),
        ("guestId", "madeUp"),
        ("firmware", "open"),
        ("uuid", "x"),
    ] {
        let spec = format!("<spec><{field}>{value}</{field}></spec>");
        assert_eq!(
            client.task("ReconfigVM_Task", TEMPLATE, &spec).await.unwrap_err().kind,
            "InvalidArgument",
            "{field}={value}"
        );
    }
    let folder = client.file(reqwest::Method::HEAD, "x/x.vmx", None, None).await;
    assert_eq!(folder.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_reconfigured() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let made = client.clone_template("web-1", &[("a", "1"), ("b", "2")]).await;
    let spec = format!(
        r#"<spec><annotation>a note &lt;&amp;&gt;</annotation><numCPUs>4</numCPUs><memoryMB>4096</memoryMB>
        <deviceChange><operation>edit</operation><device xsi:type="VirtualDisk"><key>2000</key><capacityInKB>4194304</capacityInKB></device></deviceChange>{}
        <extraConfig><key>a</key><value xsi:type="xsd:string"></value></extraConfig>
        <extraConfig><key>c</key><value xsi:type="xsd:string">3</value></extraConfig></spec>"#,
        card("VM Network")
    );
    client.task("ReconfigVM_Task", vm(&made), &spec).await.unwrap();
    for (path, text) in [
        ("config.annotation", "a note <&>"),
        ("summary.config.numCpu", "4"),
        ("config.hardware.memoryMB", "4096"),
        ("config.hardware.device[2000].capacityInKB", "4194304"),
        ("summary.config.numEthernetCards", "2"),
        ("config.extraConfig[\"a\"].value", ""),
        ("config.extraConfig[\"b\"].value", "2"),
        ("config.extraConfig[\"c\"].value", "3"),
    ] {
        assert_eq!(client.value(vm(&made), path).await, text, "{path}");
    }
    let shrink = r#"<spec><deviceChange><operation>edit</operation><device xsi:type="VirtualDisk"><key>2000</key><capacityInKB>1024</capacityInKB></device></deviceChange></spec>"#;
    assert_eq!(client.task("ReconfigVM_Task", vm(&made), shrink).await.unwrap_err().kind, "InvalidDeviceSpec");
    let remove = r#"<spec><deviceChange><operation>remove</operation><fileOperation>destroy</fileOperation><device xsi:type="VirtualDisk"><key>2000</key><capacityInKB>0</capacityInKB></device></deviceChange></spec>"#;
    client.task("ReconfigVM_Task", vm(&made), remove).await.unwrap();
    assert_eq!(client.file(reqwest::Method::HEAD, "web-1/web-1-flat.vmdk", None, None).await.status(), 404);
    client.task("Rename_Task", vm(&made), "<newName>web-2</newName>").await.unwrap();
    assert_eq!(client.machine("web-2").await, made);
    assert_eq!(
        client.task("Rename_Task", vm(&made), "<newName>debian-12</newName>").await.unwrap_err().kind,
        "DuplicateName"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregistered_machine_comes_back_as_it_was() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let made = client.clone_template("web-1", &[("guestinfo.x", "a \"quoted\" | value")]).await;
    let mac = client.value(vm(&made), "config.hardware.device[4000].macAddress").await;
    client.call("UnregisterVM", vm(&made), "").await.unwrap();
    let register = format!("<path>[datastore1] web-1/web-1.vmx</path><asTemplate>false</asTemplate>{POOL}");
    let back = client.task("RegisterVM_Task", FOLDER, &register).await.unwrap().unwrap().text;
    assert_ne!(back, made);
    assert_eq!(client.value(vm(&back), "config.hardware.device[4000].macAddress").await, mac);
    assert_eq!(client.value(vm(&back), "config.extraConfig[\"guestinfo.x\"].value").await, "a \"quoted\" | value");
    assert_eq!(client.task("RegisterVM_Task", FOLDER, &register).await.unwrap_err().kind, "AlreadyExists");
    let not_one = register.replace("web-1.vmx", "web-1.vmdk");
    assert_eq!(client.task("RegisterVM_Task", FOLDER, &not_one).await.unwrap_err().kind, "InvalidVmConfig");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_copied_as_a_host_copies_them() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let copy = |to: &str, spec: &str| {
        format!(
            "<sourceName>[datastore1] debian-12/debian-12.vmdk</sourceName><destName>[datastore1] {to}</destName>{spec}<force>true</force>"
        )
    };
    client.task("CopyVirtualDisk_Task", DISKS, &copy("a.vmdk", "")).await.unwrap();
    let text = client.file(reqwest::Method::GET, "a.vmdk", None, None).await.text().await.unwrap();
    assert!(
        !text.contains("thinProvisioned") && text.contains("adapterType = \"buslogic\""),
        "no destSpec: preallocated and busLogic"
    );
    let again = client.task("CopyVirtualDisk_Task", DISKS, &copy("a.vmdk", "")).await.unwrap_err();
    assert_eq!(
        (again.kind.as_str(), again.detail.text_at("file")),
        ("FileAlreadyExists", Some("[datastore1] a.vmdk")),
        "force is for vCenter"
    );
    let thin = "<destSpec><diskType>thin</diskType><adapterType>lsiLogic</adapterType></destSpec>";
    client.task("CopyVirtualDisk_Task", DISKS, &copy("b.vmdk", thin)).await.unwrap();
    assert!(
        client
            .file(reqwest::Method::GET, "b.vmdk", None, None)
            .await
            .text()
            .await
            .unwrap()
            .contains("thinProvisioned = \"1\"")
    );
    assert_eq!(
        client.task("CopyVirtualDisk_Task", DISKS, &copy("no/such/c.vmdk", thin)).await.unwrap_err().kind,
        "FileNotFound"
    );
    client.task("PowerOnVM_Task", TEMPLATE, "").await.unwrap();
    assert_eq!(client.task("CopyVirtualDisk_Task", DISKS, &copy("c.vmdk", thin)).await.unwrap_err().kind, "FileLocked");
    let own = format!("<name>[datastore1] debian-12/debian-12.vmdk</name>{DATACENTER}");
    for (manager, method) in [(DISKS, "DeleteVirtualDisk_Task"), (FILES, "DeleteDatastoreFile_Task")] {
        assert_eq!(client.task(method, manager, &own).await.unwrap_err().kind, "FileLocked", "{method}");
    }
    client.task("DeleteVirtualDisk_Task", DISKS, &own.replace("debian-12/debian-12.vmdk", "b.vmdk")).await.unwrap();
    assert_eq!(client.file(reqwest::Method::HEAD, "b-flat.vmdk", None, None).await.status(), 404);
    server.stop().await;
}
