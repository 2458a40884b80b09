//! Waiting for tasks and properties: over lost connections, ended sessions, truncated answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::checked;
use super::fake::{FakeHost, Reply, fault, right};
use crate::esxi::{Host, MoRef, Step, Vm, silent};

fn vm(id: &str) -> Vm {
    Vm {
        moref: MoRef::new("VirtualMachine", id),
        name: id.into(),
        instance_uuid: String::new(),
        path: String::new(),
        datastores: vec![],
        place: None,
    }
}

#[tokio::test]
async fn a_lost_connection_does_not_lose_the_task() {
    let waits = AtomicUsize::new(0);
    let fake = FakeHost::scripted(move |request, _| {
        (request.method == "WaitForUpdatesEx" && waits.fetch_add(1, Ordering::SeqCst) < 2).then_some(Reply::Close)
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    host.power_on(&checked(vm("1")), &silent).await.unwrap();
    assert_eq!((fake.count("PowerOnVM_Task"), fake.count("WaitForUpdatesEx")), (1, 3));
}

#[tokio::test]
async fn a_session_that_ends_during_a_wait_does_not_lose_the_task() {
    let waits = AtomicUsize::new(0);
    let fake = FakeHost::scripted(move |request, world| {
        if request.method == "WaitForUpdatesEx" && waits.fetch_add(1, Ordering::SeqCst) == 0 {
            world.sessions.clear();
            world.filters.clear();
        }
        None
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    host.power_on(&checked(vm("1")), &silent).await.unwrap();
    assert_eq!((fake.count("PowerOnVM_Task"), fake.count("Login")), (1, 2));
}

#[tokio::test]
async fn a_host_that_does_not_come_back_ends_the_wait() {
    let fake = FakeHost::scripted(|request, _| (request.method == "WaitForUpdatesEx").then_some(Reply::Close)).await;
    let mut options = fake.options();
    options.timeouts.reconnect = Duration::from_millis(300);
    let host = Host::connect(options, right()).await.unwrap();
    let error = host.power_on(&checked(vm("1")), &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.connection_lost");
    assert!(error.to_string().contains("task-"), "the task can be taken up again: {error}");
}

#[tokio::test]
async fn a_failed_task_is_a_typed_error_and_progress_is_told() {
    let fake = FakeHost::scripted(|request, world| {
        if request.method == "WaitForUpdatesEx" {
            // The task goes on by a step with every look at it.
            let task = world.objects.keys().find(|object| object.kind == "Task").cloned()?;
            let seen = world.count("WaitForUpdatesEx");
            let state = if seen < 3 { "running" } else { "error" };
            world.set(&task, "info.state", &format!("<val>{state}</val>"));
            world.set(&task, "info.progress", &format!("<val>{}</val>", seen * 40));
            world.set(&task, "info.error", &fault("NoDiskSpace", "<datastore>ds1</datastore>"));
        }
        None
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let told = Mutex::new(Vec::new());
    let progress = |step: Step<'_>| told.lock().unwrap().push((step.what.to_owned(), step.percent));
    let error = host.power_on(&checked(vm("1")), &progress).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.no_disk_space");
    assert!(error.to_string().contains("ds1"), "{error}");
    assert_eq!(*told.lock().unwrap(), [("power on".to_owned(), Some(40)), ("power on".to_owned(), Some(80))]);
}

#[tokio::test]
async fn a_truncated_answer_is_read_on_from_its_version() {
    let versions = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = versions.clone();
    let fake = FakeHost::scripted(move |request, world| {
        if request.method != "WaitForUpdatesEx" {
            return None;
        }
        let mut seen = seen.lock().unwrap();
        seen.push(request.call.text_at("version").unwrap_or_default().to_owned());
        match seen.len() {
            // The first part of the answer is about something else.
            1 => Some(Reply::Answer(
                "<returnval><version>t1</version><filterSet><filter type=\"PropertyFilter\">filter-x</filter><objectSet><kind>enter</kind>\
                 <obj type=\"Task\">another</obj></objectSet></filterSet><truncated>true</truncated></returnval>"
                    .into(),
            )),
            _ => {
                world.seen.push("rest".into());
                None
            }
        }
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    host.power_on(&checked(vm("1")), &silent).await.unwrap();
    assert_eq!(*versions.lock().unwrap(), ["", "t1"]);
}

#[tokio::test]
async fn a_task_that_the_host_has_forgotten_is_an_error_for_its_waiter_alone() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let unknown = MoRef::new("Task", "gone");
    let machine = checked(vm("1"));
    let (lost, done) = tokio::join!(host.wait_for_task(&unknown, &silent), host.power_on(&machine, &silent));
    assert_eq!(lost.unwrap_err().kind(), "esxi.task_forgotten");
    done.unwrap();
}

#[tokio::test]
async fn many_waits_share_one_collector_and_leave_nothing_on_the_host() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let vms: Vec<_> = (0..30).map(|number| checked(vm(&number.to_string()))).collect();
    let done = futures_util::future::join_all(vms.iter().map(|vm| host.power_on(vm, &silent))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(fake.count("CreatePropertyCollector"), 1);
    host.close().await.unwrap();
    assert_eq!(fake.count("DestroyPropertyCollector"), 1);
    assert!(fake.world.lock().unwrap().filters.is_empty());
}

#[tokio::test]
async fn a_host_that_says_nothing_new_without_end_is_not_asked_without_end() {
    let fake = FakeHost::scripted(|request, _| {
        let again = request.method == "WaitForUpdatesEx" && request.call.text_at("version") != Some("");
        again.then(|| Reply::Answer(String::new()))
    })
    .await;
    fake.world.lock().unwrap().set(&MoRef::new("VirtualMachine", "1"), "name", "<val>a</val>");
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let error = host.wait_for_address(&checked(vm("1")), Duration::from_millis(900)).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.timeout");
    assert!(fake.count("WaitForUpdatesEx") < 15, "{} requests", fake.count("WaitForUpdatesEx"));
}

#[tokio::test]
async fn filters_that_nobody_uses_do_not_pile_up() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    for number in 0..40 {
        host.power_on(&checked(vm(&number.to_string())), &silent).await.unwrap();
    }
    assert!(fake.world.lock().unwrap().filters.len() <= 16);
}

#[tokio::test]
async fn an_address_comes_from_the_cards_before_the_single_one() {
    let fake = FakeHost::scripted(|request, world| {
        if request.method == "WaitForUpdatesEx" {
            let machine = MoRef::new("VirtualMachine", "1");
            match world.count("WaitForUpdatesEx") {
                1 => world.set(&machine, "guest.ipAddress", "<val>fe80::1</val>"),
                2 => world.set(&machine, "guest.net", "<val><GuestNicInfo><ipAddress>169.254.3.4</ipAddress></GuestNicInfo></val>"),
                _ => world.set(
                    &machine,
                    "guest.net",
                    "<val><GuestNicInfo><ipAddress>2001:db8::1</ipAddress><ipAddress>10.0.0.9</ipAddress></GuestNicInfo></val>",
                ),
            }
        }
        None
    })
    .await;
    fake.world.lock().unwrap().set(&MoRef::new("VirtualMachine", "1"), "name", "<val>a</val>");
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let address = host.wait_for_address(&checked(vm("1")), Duration::from_secs(10)).await.unwrap();
    assert_eq!(address.to_string(), "10.0.0.9");
}

#[tokio::test]
async fn a_wait_takes_no_connection_from_the_others() {
    let fake = FakeHost::scripted(|request, _| {
        let again = request.method == "WaitForUpdatesEx" && request.call.text_at("version") != Some("");
        again.then_some(Reply::Silence)
    })
    .await;
    fake.world.lock().unwrap().set(&MoRef::new("VirtualMachine", "1"), "name", "<val>a</val>");
    let mut options = fake.options();
    options.max_connections = 1;
    let host = Host::connect(options, right()).await.unwrap();
    let (waited, ()) =
        tokio::join!(async { host.wait_for_address(&checked(vm("1")), Duration::from_secs(1)).await }, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            host.vm_info(&checked(vm("1"))).await.unwrap();
        });
    assert_eq!(waited.unwrap_err().kind(), "esxi.timeout");
}
