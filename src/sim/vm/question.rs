//! Questions that a machine asks before it goes on: what waits for the answer, and who may give it.
//!
//! A machine asks one thing at a time. Until it is answered the task that brought it up goes on running, and what would change the
//! machine is refused as `QuestionPending`. The words and the choices are a host's own (`msg.uuid.altered`, `msg.hbacommon.outofspace`).
//! Specification: vSphere Web Services API, `VirtualMachine.AnswerVM`, `VirtualMachineQuestionInfo`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Vm;
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::server::Host;
use crate::sim::value::{Data, Ref};
use crate::sim::world::World;

/// What a machine may ask, by the word that a test asks for it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `moved`: its configuration lies elsewhere than when it ran last.
    Moved,
    /// `space`: a disk of a running machine cannot grow any more.
    Space,
    /// `door`: the guest has locked the door of its CD-ROM drive.
    Door,
}

/// All topics with their words.
pub const TOPICS: [(&str, Topic); 3] = [("moved", Topic::Moved), ("space", Topic::Space), ("door", Topic::Door)];

/// A choice: what a host calls it, and what it shows. Its key is its number, from 0.
type Choice = (&'static str, &'static str);

/// A question as it is put.
#[derive(Debug, Clone)]
pub struct Asked {
    topic: Topic,
    /// What it is about: the name of a disk.
    about: String,
}

/// A question that waits, and the one who waits for its answer.
#[derive(Debug)]
struct Pending {
    id: String,
    asked: Asked,
    answer: oneshot::Sender<usize>,
}

/// The questions that wait, by machine.
#[derive(Debug, Default)]
pub struct Questions {
    begun: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Questions {
    /// Whether a machine waits for an answer.
    pub fn waits(&self, vm: u64) -> bool {
        self.pending.contains_key(&vm)
    }

    /// Drops what a machine that is gone has asked.
    pub fn forget(&mut self, vm: u64) {
        self.pending.remove(&vm);
    }
}

impl Topic {
    pub fn word(self) -> &'static str {
        TOPICS.iter().find(|(_, topic)| *topic == self).map_or("", |(word, _)| word)
    }

    fn message(self) -> &'static str {
        match self {
            Self::Moved => "msg.uuid.altered",
            Self::Space => "msg.hbacommon.outofspace",
            Self::Door => "msg.cdromdisconnect.locked",
        }
    }

    fn choices(self) -> &'static [Choice] {
        match self {
            Self::Moved => &[
                ("button.uuid.cancel", "Cancel"),
                ("button.uuid.movedTheVM", "I Moved It"),
                ("button.uuid.copiedTheVM", "I Copied It"),
            ],
            Self::Space => &[("button.retry", "Retry"), ("button.abort", "Cancel")],
            Self::Door => &[("button.yes", "Yes"), ("button.no", "No")],
        }
    }

    fn usual(self) -> usize {
        match self {
            Self::Moved => 2,
            Self::Space => 0,
            Self::Door => 1,
        }
    }

    /// Whether that answer ends what was asked about.
    pub fn refuses(self, choice: usize) -> bool {
        match self {
            Self::Moved => choice == 0,
            Self::Space | Self::Door => choice == 1,
        }
    }
}

impl Asked {
    pub fn new(topic: Topic, about: impl Into<String>) -> Self {
        Self { topic, about: about.into() }
    }

    /// A question that somebody asked for, about that machine.
    pub fn canned(topic: Topic, vm: &Vm) -> Self {
        let disk = vm.disk_files().next().and_then(|file| file.rsplit('/').next()).unwrap_or("disk.vmdk");
        Self::new(topic, disk)
    }

    pub fn topic(&self) -> Topic {
        self.topic
    }

    fn text(&self) -> String {
        let says = match self.topic {
            Topic::Moved => "This virtual machine might have been moved or copied. In order to configure certain management and networking \
                 features, VMware ESX needs to know if this virtual machine was moved or copied. If you don't know, answer \"I Copied It\"."
                .to_owned(),
            Topic::Space => format!(
                "There is no more space for virtual disk '{}'. You might be able to continue this session by freeing disk space on the \
                 relevant volume, and clicking Retry. Click Cancel to terminate this session.",
                self.about
            ),
            Topic::Door => "The guest operating system has locked the CD-ROM door and is probably using the CD-ROM, which can prevent the \
                 guest from recognizing media changes. If possible, eject the CD-ROM from inside the guest before disconnecting. \
                 Disconnect anyway and override the lock?"
                .to_owned(),
        };
        format!("{}:{says}", self.topic.message())
    }

    /// The fault of a task that was ended by its answer.
    pub fn ended(&self) -> VimFault {
        let reason = format!("The operation was canceled by the answer to {}.", self.topic.message());
        VimFault::new("GenericVmConfigFault", reason.clone()).with("reason", reason)
    }
}

/// Puts a question to a machine and waits for its answer: the number of the choice. Faults: the machine asks something already.
pub async fn ask(host: &Arc<Host>, object: &Ref, asked: Asked) -> Result<usize, VimFault> {
    let answered = put(host, object, asked)?;
    // The sender goes with the machine.
    answered.await.map_err(|_| VimFault::not_found(object))
}

/// Puts a question to a machine. Faults: it asks something already.
pub fn put(host: &Arc<Host>, object: &Ref, asked: Asked) -> Result<oneshot::Receiver<usize>, VimFault> {
    let mut world = host.world();
    let id = world.vm(object)?.id;
    if let Some(other) = world.questions.pending.get(&id) {
        return Err(pending(&other.asked));
    }
    world.questions.begun += 1;
    let (answer, answered) = oneshot::channel();
    let question = Pending { id: world.questions.begun.to_string(), asked, answer };
    world.questions.pending.insert(id, question);
    world.touch(object);
    host.announce(world.tick());
    Ok(answered)
}

fn pending(asked: &Asked) -> VimFault {
    let text = asked.text();
    let message = "The operation is not allowed at the moment since the virtual machine has a question pending";
    VimFault::new("QuestionPending", format!("{message}: '{text}'.")).with("text", text)
}

/// Refuses what would change a machine that waits for an answer.
pub fn check(world: &World, object: &Ref) -> Result<(), VimFault> {
    let vm = world.vm(object)?;
    world.questions.pending.get(&vm.id).map_or(Ok(()), |question| Err(pending(&question.asked)))
}

/// `runtime.question` of a machine.
pub fn info(world: &World, vm: &Vm) -> Option<Data> {
    let Pending { id, asked, .. } = world.questions.pending.get(&vm.id)?;
    let choices = asked.topic.choices().iter().zip(0u32..).map(|((label, summary), key)| {
        Data::new("ElementDescription").with("label", *label).with("summary", *summary).with("key", key.to_string())
    });
    let choice = Data::new("ChoiceOption")
        .with("choiceInfo", choices.collect::<Vec<_>>())
        .with("defaultIndex", i32::try_from(asked.topic.usual()).unwrap_or_default());
    let message = Data::new("VirtualMachineMessage").with("id", asked.topic.message()).with("text", asked.text());
    Some(
        Data::new("VirtualMachineQuestionInfo")
            .with("id", id.clone())
            .with("text", asked.text())
            .with("choice", choice)
            .with("message", vec![message]),
    )
}

/// `AnswerVM`: only the question that waits is answered, and only with a choice that it has.
pub fn answer(world: &mut World, call: &Call) -> Answer {
    let vm = world.vm(&call.this)?.id;
    let wanted = call.text("questionId")?;
    let waiting = world.questions.pending.get(&vm).filter(|question| question.id == wanted);
    let Some(question) = waiting else {
        return Err(VimFault::invalid_argument("questionId", "the machine asks no such question"));
    };
    let choices = question.asked.topic.choices().len();
    let key = call.text("answerChoice")?;
    let choice = key.parse::<usize>().ok().filter(|choice| *choice < choices && *key == choice.to_string());
    let Some(choice) = choice else {
        return Err(VimFault::invalid_argument("answerChoice", "the question has no such choice"));
    };
    if let Some(question) = world.questions.pending.remove(&vm)
        && question.answer.send(choice).is_err()
    {
        tracing::debug!(vm, "nobody waits for the answer any more");
    }
    world.touch(&call.this);
    Ok(Reply::Nothing)
}
