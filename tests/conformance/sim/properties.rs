//! The property collector: what is read, in which pages, and what is heard of changes.

use ceso::sim::Options;
use ceso::xml::Element;

use super::client::{COLLECTOR, Client, vm};
use super::started::{options, start};

/// A spec for the names and power states of all machines, through a container view.
fn through(view: &str) -> String {
    format!(
        r#"<propSet><type>VirtualMachine</type><pathSet>name</pathSet><pathSet>runtime.powerState</pathSet></propSet>
        <objectSet><obj type="ContainerView">{view}</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><name>v</name>
        <type>ContainerView</type><path>view</path></selectSet></objectSet>"#
    )
}

async fn all_machines(client: &mut Client) -> String {
    let inside =
        r#"<container type="Folder">ha-folder-root</container><type>VirtualMachine</type><recursive>true</recursive>"#;
    client.text("CreateContainerView", ("ViewManager", "ViewManager"), inside).await
}

fn names(objects: &[&Element]) -> Vec<String> {
    objects.iter().map(|object| object.at("propSet.val").unwrap().text.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_to_the_whole() {
    let server = start(Options { vms: 25, page_size: Some(10), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let view = all_machines(&mut client).await;
    let spec = format!("<specSet>{}</specSet>", through(&view));
    let whole = client.call("RetrieveProperties", COLLECTOR, &spec).await.unwrap();
    let whole = names(&whole.all("returnval").collect::<Vec<_>>());
    assert_eq!(whole.len(), 26);
    let ask = format!("{spec}<options><maxObjects>20</maxObjects></options>");
    let mut answer = client.call("RetrievePropertiesEx", COLLECTOR, &ask).await.unwrap();
    let mut joined = Vec::new();
    let mut pages = 0;
    loop {
        let page = answer.child("returnval").unwrap().clone();
        pages += 1;
        joined.extend(names(&page.all("objects").collect::<Vec<_>>()));
        let Some(token) = page.text_at("token") else { break };
        let next = format!("<token>{token}</token>");
        answer = client.call("ContinueRetrievePropertiesEx", COLLECTOR, &next).await.unwrap();
        let again = client.call("ContinueRetrievePropertiesEx", COLLECTOR, &next).await.unwrap_err();
        assert_eq!(again.kind, "InvalidProperty", "a token serves once");
    }
    assert_eq!((pages, joined), (3, whole));
    let first = client.call("RetrievePropertiesEx", COLLECTOR, &ask).await.unwrap();
    let token = format!("<token>{}</token>", first.text_at("returnval.token").unwrap());
    client.call("CancelRetrievePropertiesEx", COLLECTOR, &token).await.unwrap();
    client.call("ContinueRetrievePropertiesEx", COLLECTOR, &token).await.unwrap_err();
    let zero = format!("{spec}<options><maxObjects>0</maxObjects></options>");
    assert_eq!(client.call("RetrievePropertiesEx", COLLECTOR, &zero).await.unwrap_err().kind, "InvalidArgument");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_carry_their_types() {
    let server = start(Options { vms: 1, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let id = client.machine("vm-0001").await;
    for (path, xsi_type, text) in [
        ("name", "string", "vm-0001"),
        ("summary.runtime.powerState", "VirtualMachinePowerState", "poweredOn"),
        ("config.hardware.memoryMB", "int", "1024"),
        ("config.hardware.device[2000].capacityInBytes", "long", "17179869184"),
        ("config.template", "boolean", "false"),
        ("parent", "ManagedObjectReference", "ha-folder-vm"),
        ("config.extraConfig[\"nvram\"].value", "string", "vm-0001.nvram"),
        ("guest.ipAddress", "string", "10.1.0.1"),
    ] {
        let value = client.property(vm(&id), path).await.unwrap().unwrap();
        assert_eq!((value.xsi_type.as_deref(), value.text.as_str()), (Some(xsi_type), text), "{path}");
    }
    let devices = client.property(vm(&id), "config.hardware.device").await.unwrap().unwrap();
    assert_eq!(devices.xsi_type.as_deref(), Some("ArrayOfVirtualDevice"));
    assert!(devices.children.iter().all(|device| device.name == "VirtualDevice" && device.xsi_type.is_some()));
    let option = client.property(vm(&id), "config.extraConfig[\"nvram\"]").await.unwrap().unwrap();
    assert_eq!(option.xsi_type.as_deref(), Some("OptionValue"));
    assert!(client.property(vm(&id), "snapshot").await.unwrap().is_none(), "known, and without a value");
    assert!(client.property(vm(&id), "config.extraConfig[\"none\"].value").await.unwrap().is_none());
    for wrong in ["nonsense", "config.nonsense", "config.hardware.device.key", "name.x", "config.", ""] {
        assert_eq!(client.property(vm(&id), wrong).await.unwrap_err().kind, "InvalidProperty", "{wrong:?}");
    }
    let gone = client.property(vm("4711"), "name").await.unwrap_err();
    assert_eq!((gone.kind.as_str(), gone.detail.text_at("obj")), ("ManagedObjectNotFound", Some("4711")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_is_not_sent_newer_fields_and_may_not_send_them() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let device = "config.hardware.device[4000]";
    let newest = client.property(vm("1"), device).await.unwrap().unwrap();
    assert!(newest.at("connectable.migrateConnect").is_some());
    client.action = "urn:vim25/6.5".to_owned();
    let older = client.property(vm("1"), device).await.unwrap().unwrap();
    assert!(older.at("connectable.migrateConnect").is_none());
    let spec = "<spec><rebootPowerOff>true</rebootPowerOff></spec>";
    assert_eq!(client.call("ReconfigVM_Task", ("VirtualMachine", "1"), spec).await.unwrap_err().kind, "InvalidRequest");
    client.action = "urn:vim25/8.0.1.0".to_owned();
    client.task("ReconfigVM_Task", ("VirtualMachine", "1"), spec).await.unwrap();
    client.action = "urn:vim25/9.1.0.0".to_owned();
    assert_eq!(client.value(vm("1"), "name").await, "debian-12", "a newer client speaks to the newest that there is");
    client.action = "urn:pbm/2.0".to_owned();
    assert_eq!(client.property(vm("1"), "name").await.unwrap_err().kind, "InvalidRequest");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traversals_refer_to_each_other_by_name() {
    let server = start(Options { vms: 2, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let spec = r#"<specSet><propSet><type>ManagedEntity</type><pathSet>name</pathSet></propSet>
        <objectSet><obj type="Folder">ha-folder-root</obj><selectSet xsi:type="TraversalSpec"><name>folder</name><type>Folder</type>
        <path>childEntity</path><selectSet><name>folder</name></selectSet><selectSet><name>datacenter</name></selectSet></selectSet>
        <selectSet xsi:type="TraversalSpec"><name>datacenter</name><type>Datacenter</type><path>vmFolder</path>
        <selectSet><name>folder</name></selectSet></selectSet></objectSet></specSet>"#;
    let answer = client.call("RetrieveProperties", COLLECTOR, spec).await.unwrap();
    let found = names(&answer.all("returnval").collect::<Vec<_>>());
    assert_eq!(found, ["ha-folder-root", "ha-datacenter", "vm", "debian-12", "vm-0001", "vm-0002"]);
    let wrong =
        spec.replace("<name>datacenter</name></selectSet></selectSet>", "<name>nobody</name></selectSet></selectSet>");
    assert_eq!(client.call("RetrieveProperties", COLLECTOR, &wrong).await.unwrap_err().kind, "InvalidArgument");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_heard_as_enter_modify_and_leave() {
    let server = start(Options { vms: 1, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let view = all_machines(&mut client).await;
    let filter = format!("<spec>{}</spec><partialUpdates>false</partialUpdates>", through(&view));
    client.call("CreateFilter", COLLECTOR, &filter).await.unwrap();
    let wait = |version: &str, seconds: u32| {
        format!("<version>{version}</version><options><maxWaitSeconds>{seconds}</maxWaitSeconds></options>")
    };
    let kinds = |answer: &Element| -> Vec<(String, String)> {
        let objects = answer.at("returnval.filterSet").into_iter().flat_map(|set| set.all("objectSet"));
        objects
            .map(|object| (object.text_at("kind").unwrap().to_owned(), object.text_at("obj").unwrap().to_owned()))
            .collect()
    };
    let first = client.call("WaitForUpdatesEx", COLLECTOR, &wait("", 0)).await.unwrap();
    assert_eq!(kinds(&first).len(), 2);
    let version = first.text_at("returnval.version").unwrap().to_owned();
    let nothing = client.call("WaitForUpdatesEx", COLLECTOR, &wait(&version, 0)).await.unwrap();
    assert!(nothing.children.is_empty(), "no news, no update set");
    let stale = client.call("WaitForUpdatesEx", COLLECTOR, &wait("77", 0)).await.unwrap_err();
    assert_eq!(stale.kind, "InvalidCollectorVersion");

    let mut other = Client::logged_in(&server).await;
    let running = other.machine("vm-0001").await;
    other.call("PowerOffVM_Task", vm(&running), "").await.unwrap();
    let modified = client.call("WaitForUpdatesEx", COLLECTOR, &wait(&version, 10)).await.unwrap();
    assert_eq!(kinds(&modified), [("modify".to_owned(), running)]);
    let change = modified.at("returnval.filterSet.objectSet.changeSet").unwrap();
    assert_eq!((change.text_at("name"), change.text_at("val")), (Some("runtime.powerState"), Some("poweredOff")));

    let made = other.clone_template("web-1", &[]).await;
    let mut version = modified.text_at("returnval.version").unwrap().to_owned();
    let mut heard = Vec::new();
    while !heard.contains(&("enter".to_owned(), made.clone())) {
        let answer = client.call("WaitForUpdatesEx", COLLECTOR, &wait(&version, 10)).await.unwrap();
        version = answer.text_at("returnval.version").unwrap().to_owned();
        heard.extend(kinds(&answer));
    }
    other.task("Destroy_Task", vm(&made), "").await.unwrap();
    let left = client.call("WaitForUpdatesEx", COLLECTOR, &wait(&version, 10)).await.unwrap();
    assert_eq!(kinds(&left), [("leave".to_owned(), made)]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_leaves_the_rest_for_the_next() {
    let server = start(Options { vms: 24, update_size: Some(10), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let view = all_machines(&mut client).await;
    let filter = format!("<spec>{}</spec><partialUpdates>false</partialUpdates>", through(&view));
    client.call("CreateFilter", COLLECTOR, &filter).await.unwrap();
    let (mut version, mut sizes) = (String::new(), Vec::new());
    loop {
        let wait = format!("<version>{version}</version><options><maxWaitSeconds>0</maxWaitSeconds></options>");
        let answer = client.call("WaitForUpdatesEx", COLLECTOR, &wait).await.unwrap();
        let set = answer.child("returnval").unwrap();
        version = set.text_at("version").unwrap().to_owned();
        sizes.push(set.child("filterSet").unwrap().all("objectSet").count());
        if set.text_at("truncated") != Some("true") {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_called_off() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let mut other = Client { cookie: client.cookie.clone(), ..Client::new(&server) };
    let spec = r#"<spec><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type="VirtualMachine">1</obj>
        </objectSet></spec><partialUpdates>false</partialUpdates>"#;
    client.call("CreateFilter", COLLECTOR, spec).await.unwrap();
    let first = client.call("WaitForUpdates", COLLECTOR, "").await.unwrap();
    let version = format!("<version>{}</version>", first.text_at("returnval.version").unwrap());
    let waiting = tokio::spawn(async move { client.call("WaitForUpdates", COLLECTOR, &version).await });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    other.call("CancelWaitForUpdates", COLLECTOR, "").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind, "RequestCanceled");
    server.stop().await;
}
