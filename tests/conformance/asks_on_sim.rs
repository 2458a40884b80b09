//! Machines that ask before they go on: what hangs on a question is told as that, and goes on when it is answered.
#![allow(clippy::disallowed_methods)]

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{Error, FilePath, Host, NewVm, Placement, PowerState, Reconfigure, Vm, silent};
use ceso::sim::{Options, Server, read_fault};

use crate::client_on_sim::{checked, named, start};

/// A machine that ran, copied with its folder and registered from there.
async fn copied(host: &Host, state: &Path, name: &str) -> Checked<Vm> {
    let template = named(host, "debian-12").await;
    host.power_on(&template, &silent).await.unwrap();
    host.power_off(&template, &silent).await.unwrap();
    let (from, to) = (state.join("datastore1/debian-12"), state.join("datastore1").join(name));
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The disk is 2 GiB of which next to nothing was written: its holes stay holes.
        let mut content = std::fs::File::open(entry.path()).unwrap().take(4 << 20);
        let mut copy = std::fs::File::create(to.join(entry.file_name())).unwrap();
        std::io::copy(&mut content, &mut copy).unwrap();
        copy.set_len(entry.metadata().unwrap().len()).unwrap();
    }
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    let path = FilePath::parse(&format!("{name}/debian-12.vmx")).unwrap();
    let new = checked(NewVm { name: name.to_owned() });
    checked(host.register_vm(&new, &store, &path, &Placement::default(), &silent).await.unwrap())
}

fn card(info: &ceso::esxi::VmInfo) -> Option<String> {
    info.hardware.nics[0].mac.clone()
}

async fn answered(host: &Host, vm: &Checked<Vm>, word: &str) -> ceso::esxi::Answered {
    let question = host.question(vm).await.unwrap().expect("a question");
    host.answer(vm, &question, question.choice(word).unwrap(), &silent).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_machine_asks_when_it_is_turned_on_and_goes_on_when_it_is_answered() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(Options { state: Some(state.path().to_owned()), ..Options::default() }).await;
    let vm = copied(&host, state.path(), "copy").await;
    let before = host.vm_info(&vm).await.unwrap();
    assert_eq!(before.hardware.disks[0].file, "[datastore1] copy/debian-12.vmdk", "its disk is the copy");
    let error = host.power_on(&vm, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.waits_for_answer", "{error}");
    let told = error.to_string();
    assert!(told.contains("moved or copied") && told.contains("2 \"I Copied It\" (proposed)"), "{told}");
    assert!(error.hint().unwrap().contains("vm:answer"));
    // The task goes on, and whoever comes meanwhile hears what it waits for.
    let busy = host.power_off(&vm, &silent).await.unwrap_err();
    assert_eq!(busy.kind(), "esxi.task_in_progress", "{busy}");
    assert!(busy.to_string().contains("waits for an answer"), "{busy}");
    let info = host.vm_info(&vm).await.unwrap();
    let question = info.question.expect("a question");
    assert_eq!((question.topic.as_str(), info.row.power), ("msg.uuid.altered", PowerState::Off));
    assert!(question.choice("I Copied").is_err());
    let done = host.answer(&vm, &question, question.choice("i copied it").unwrap(), &silent).await.unwrap();
    assert_eq!((done.power, done.next, done.failed), (PowerState::On, None, None));
    let late = host.answer(&vm, &question, question.choice("0").unwrap(), &silent).await.unwrap_err();
    assert_eq!(late.kind(), "esxi.invalid_argument", "it was answered: {late}");
    let after = host.vm_info(&vm).await.unwrap();
    assert_ne!(card(&before), card(&after), "a copy has addresses of its own");
    host.power_off(&vm, &silent).await.unwrap();
    host.power_on(&vm, &silent).await.unwrap();

    // One that was moved is what it was.
    let moved = copied(&host, state.path(), "moved").await;
    let before = host.vm_info(&moved).await.unwrap();
    host.power_on(&moved, &silent).await.unwrap_err();
    assert_eq!(answered(&host, &moved, "button.uuid.movedTheVM").await.power, PowerState::On);
    assert_eq!(card(&before), card(&host.vm_info(&moved).await.unwrap()));

    // An answer that refuses ends the task, and the machine stays off; one whose configuration says so is not asked.
    let third = copied(&host, state.path(), "third").await;
    host.power_on(&third, &silent).await.unwrap_err();
    let cancelled = answered(&host, &third, "Cancel").await;
    assert_eq!((cancelled.power, cancelled.next), (PowerState::Off, None));
    let keep =
        Reconfigure { extra_config: [("uuid.action".to_owned(), "keep".to_owned())].into(), ..Reconfigure::default() };
    host.reconfigure(&third, &keep, &silent).await.unwrap();
    host.power_on(&third, &silent).await.unwrap();
    server.stop().await;
}

/// Waits until a machine asks something.
async fn until_asked(host: &Host, vm: &Checked<Vm>) -> ceso::esxi::Question {
    for _ in 0..500 {
        if let Some(question) = host.question(vm).await.unwrap() {
            return question;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it asks nothing");
}

async fn running(options: Options) -> (Server, Host, Checked<Vm>) {
    let (server, host) = start(options).await;
    let vm = named(&host, "debian-12").await;
    host.power_on(&vm, &silent).await.unwrap();
    host.wait_for_address(&vm, Duration::from_secs(20)).await.unwrap();
    (server, host, vm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_whose_datastore_is_full_asks_and_goes_on_when_there_is_room() {
    let writes = Options { guest_writes: Some(Duration::from_millis(20)), ..Options::default() };
    let (server, host, vm) = running(writes).await;
    server.fill(0);
    let question = until_asked(&host, &vm).await;
    assert_eq!(question.topic, "msg.hbacommon.outofspace");
    assert!(question.text.contains("debian-12.vmdk"), "{}", question.text);
    // What would change it is refused, and whoever waits for its guest is told at once.
    let refused = host.power_off(&vm, &silent).await.unwrap_err();
    assert_eq!(refused.kind(), "esxi.question_pending", "{refused}");
    assert!(refused.hint().unwrap().contains("vm:answer"));
    let waited = host.wait_for_this_address(&vm, "192.0.2.1".parse().unwrap(), Duration::from_secs(60)).await;
    assert!(matches!(waited.unwrap_err().root(), Error::Asks { .. }));
    server.set_capacity(None);
    assert_eq!(answered(&host, &vm, "Retry").await.power, PowerState::On);
    server.fill(0);
    until_asked(&host, &vm).await;
    let ended = answered(&host, &vm, "Cancel").await;
    let off = ended.power == PowerState::Off || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.vm_info(&vm).await.unwrap().row.power == PowerState::Off
    };
    assert!(off, "who cancels ends it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_made_to_ask_waits_and_a_question_that_is_put_is_seen() {
    let (server, host, vm) = running(Options::default()).await;
    for (answer, applied) in [("No", false), ("Yes", true)] {
        server.fault(read_fault("ReconfigVM_Task:ask=door:1").unwrap()).unwrap();
        let change = Reconfigure { notes: Some(answer.to_owned()), ..Reconfigure::default() };
        let error = host.reconfigure(&vm, &change, &silent).await.unwrap_err();
        assert_eq!(error.kind(), "esxi.waits_for_answer", "{error}");
        let done = answered(&host, &vm, answer).await;
        assert_eq!(done.failed.is_none(), applied, "{done:?}");
        assert_eq!(host.vm_info(&vm).await.unwrap().row.notes.as_deref() == Some(answer), applied);
    }
    server.ask("debian-12", "door").unwrap();
    assert!(server.ask("debian-12", "door").is_err(), "one thing at a time");
    assert!(server.ask("debian-12", "other").is_err() && server.ask("nobody", "door").is_err());
    assert_eq!(until_asked(&host, &vm).await.topic, "msg.cdromdisconnect.locked");
    assert_eq!(answered(&host, &vm, "1").await.next, None);
    server.stop().await;
}
