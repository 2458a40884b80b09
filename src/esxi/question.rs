//! What a machine asks before it goes on: read, answered, and seen where a task waits for it.
//!
//! A task whose machine asks something runs until somebody answers, without an end. So each that takes longer than a moment is watched
//! for a question; one that is found ends the wait with an error that tells it, and the task goes on once it is answered.
//! Specification: vSphere Web Services API, `VirtualMachine.AnswerVM`, `VirtualMachineQuestionInfo`, `ChoiceOption`.

use std::time::Duration;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::{Host, Progress, Step};
use super::moref::MoRef;
use super::object::Vm;
use super::property::{From, Query, Traversal};
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_list::{PowerState, text};
use super::watch::Awaited;

/// How long a task may run before its machine is watched for a question: most have ended by then.
const MOMENT: Duration = Duration::from_millis(1500);
pub(super) const PATH: &str = "runtime.question";

/// A question that a machine asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the host calls this one; the next has another.
    pub id: String,
    /// What kind of question it is, such as `msg.uuid.altered`; empty where the host does not say.
    pub topic: String,
    pub text: String,
    pub choices: Vec<Choice>,
}

/// An answer that can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub key: String,
    /// The host's word for it, such as `button.uuid.copiedTheVM`.
    pub label: String,
    /// As it is shown, such as `I Copied It`.
    pub text: String,
    /// Whether it is the one that the host proposes.
    pub proposed: bool,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub power: PowerState,
    /// What the machine asks now.
    pub next: Option<Question>,
    /// Why a task that had waited failed, if it did.
    pub failed: Option<String>,
}

impl Question {
    /// Reads `runtime.question`; `None` where it is empty.
    pub(super) fn read(info: &Element) -> Option<Self> {
        let id = text(info, "id")?;
        let said = text(info, "text").unwrap_or_default();
        let proposed = info.text_at("choice.defaultIndex").and_then(|index| index.trim().parse::<usize>().ok());
        let choices = info.child("choice").into_iter().flat_map(|choice| choice.all("choiceInfo")).enumerate();
        let choices = choices.map(|(index, choice)| {
            let label = text(choice, "label").unwrap_or_default();
            Choice {
                key: text(choice, "key").unwrap_or_default(),
                // An underscore stands before the letter that a dialog would underline.
                text: text(choice, "summary").unwrap_or_else(|| label.clone()).replace('_', ""),
                label,
                proposed: proposed == Some(index),
            }
        });
        // Its kind stands before the text, or in the message that it is made of.
        let (topic, words) = match said.split_once(':') {
            Some((topic, words)) if topic.starts_with("msg.") && !topic.contains(' ') => (topic.to_owned(), words),
            _ => (text(info, "message.id").unwrap_or_default(), said.as_str()),
        };
        Some(Self { id, topic, text: words.trim().to_owned(), choices: choices.collect() })
    }

    /// The choice that a word means: its key, its label or its text, in any case. Errors: `esxi.invalid_argument`.
    pub fn choice(&self, word: &str) -> Result<&Choice, Error> {
        let same = |own: &str| own.replace('_', "").eq_ignore_ascii_case(word.replace('_', "").trim());
        let found = self.choices.iter().find(|choice| choice.key == word.trim());
        found.or_else(|| self.choices.iter().find(|choice| same(&choice.label) || same(&choice.text))).ok_or_else(
            || {
                let shown: String = word.chars().filter(|c| !c.is_control()).take(60).collect();
                Error::Invalid {
                    reason: format!("{shown:?} is no answer to this question"),
                    hint: Some(format!("the answers are: {}", self.answers())),
                }
            },
        )
    }

    /// The answers in a line.
    pub fn answers(&self) -> String {
        let told = self.choices.iter().map(|choice| {
            let proposed = if choice.proposed { " (proposed)" } else { "" };
            format!("{} {:?}{proposed}", choice.key, choice.text)
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Host {
    /// What a machine asks now; `None` where it asks nothing.
    pub async fn question(&self, vm: &Checked<Vm>) -> Result<Option<Question>, Error> {
        self.asked(&vm.moref).await
    }

    pub(super) async fn asked(&self, vm: &MoRef) -> Result<Option<Question>, Error> {
        let objects = self.link.retrieve(&Query::object(vm, "VirtualMachine", &[PATH])).await?;
        Ok(objects.iter().find_map(|object| object.get(PATH)).and_then(Question::read))
    }

    /// Answers what a machine asks, and waits for what had waited for it.
    ///
    /// Only the question that was read is answered: where the machine asks something else by now, nothing is. Errors:
    /// `esxi.invalid_argument` from the host for that.
    pub async fn answer(
        &self,
        vm: &Checked<Vm>,
        question: &Question,
        choice: &Choice,
        progress: Progress<'_>,
    ) -> Result<Answered, Error> {
        let answered = async {
            progress(Step { what: "answer", percent: None });
            // Read before: what had waited may have ended by the time that the answer is taken.
            let waiting = self.running_on(&vm.moref).await?;
            let call = Call::new(&vm.moref, Method::AnswerVm)
                .with_text("questionId", &question.id)
                .with_text("answerChoice", &choice.key);
            self.link.call(&call).await?;
            let mut failed = None;
            for task in waiting {
                match Task::resume_on(self, task, &vm.moref).done(progress).await {
                    Err(error) if !matches!(error.root(), Error::Asks { .. }) => failed = Some(error.to_string()),
                    _ => {}
                }
            }
            let query = Query::object(&vm.moref, "VirtualMachine", &[PATH, "runtime.powerState"]);
            let objects = self.link.retrieve(&query).await?;
            let power = objects.iter().find_map(|object| object.text("runtime.powerState")).unwrap_or_default();
            let next = objects.iter().find_map(|object| object.get(PATH)).and_then(Question::read);
            // Until the machine has taken it in, the host may go on telling what was answered.
            let next = next.filter(|next| next.id != question.id);
            Ok(Answered { power: PowerState::read(power), next, failed })
        };
        answered.await.map_err(|error: Error| error.doing(format!("answer {:?}", vm.name)))
    }

    /// The tasks that are at work on a machine.
    async fn running_on(&self, vm: &MoRef) -> Result<Vec<MoRef>, Error> {
        let step = Traversal { name: "recent", kind: "ManagedEntity", path: "recentTask", then: &[] };
        let query = Query {
            properties: vec![("Task", vec!["info.state"])],
            from: vec![From { object: vm.clone(), skip: true, steps: vec![step] }],
        };
        let objects = self.link.retrieve(&query).await?;
        let at_work =
            objects.into_iter().filter(|object| matches!(object.text("info.state"), Some("running" | "queued")));
        Ok(at_work.map(|object| object.moref).collect())
    }

    /// Waits until a machine asks something; for ever where it does not, or where it is nobody's to say.
    pub(super) async fn until_asked(&self, vm: Option<MoRef>) -> Error {
        let Some(vm) = vm else { return std::future::pending().await };
        tokio::time::sleep(MOMENT).await;
        let mut watch = self.monitor.watch(Awaited {
            object: vm,
            kind: "VirtualMachine",
            paths: &[PATH],
            until: Box::new(|state| state.get(PATH).is_some_and(|info| Question::read(info).is_some())),
        });
        loop {
            match watch.next().await {
                Ok(state) => {
                    if let Some(question) = state.get(PATH).and_then(Question::read) {
                        return self.asks(question);
                    }
                }
                // Whoever waits for the task hears of what went wrong from there.
                Err(error) => {
                    tracing::debug!(host = self.name(), "a machine is no longer watched for a question: {error}");
                    return std::future::pending().await;
                }
            }
        }
    }

    pub(super) fn asks(&self, question: Question) -> Error {
        Error::Asks { host: self.name().to_owned(), question: Box::new(question) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn question(text: &str) -> Option<Question> {
        Question::read(&parse(text.as_bytes(), Limits::default()).unwrap())
    }

    #[test]
    fn a_question_is_read_as_hosts_write_it() {
        let new = question(
            "<val><id>1</id><text>msg.uuid.altered:Moved or copied?</text><choice><choiceInfo><label>button.uuid.cancel</label>\
             <summary>Cancel</summary><key>0</key></choiceInfo><choiceInfo><label>button.uuid.copiedTheVM</label>\
             <summary>I _Copied It</summary><key>2</key></choiceInfo><defaultIndex>1</defaultIndex></choice></val>",
        )
        .unwrap();
        assert_eq!((new.topic.as_str(), new.text.as_str()), ("msg.uuid.altered", "Moved or copied?"));
        for word in ["2", "I Copied It", "i _copied it", "BUTTON.UUID.COPIEDTHEVM"] {
            assert_eq!(new.choice(word).unwrap().key, "2", "{word}");
        }
        assert_eq!(new.answers(), "0 \"Cancel\", 2 \"I Copied It\" (proposed)");
        for word in ["", "1", "copied", "\u{1b}[2J"] {
            assert!(new.choice(word).is_err(), "{word:?}");
        }
        let old =
            question("<val><id>7</id><text>Ratio 1:2?</text><message><id>msg.other</id></message></val>").unwrap();
        assert_eq!((old.topic.as_str(), old.text.as_str(), old.choices.len()), ("msg.other", "Ratio 1:2?", 0));
        assert_eq!(question("<val/>"), None);
    }
}
