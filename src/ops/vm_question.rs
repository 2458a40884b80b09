//! Operations on what a machine asks before it goes on: told, and answered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

/// Tells what a machine asks before it goes on; nil where it asks nothing.
///
/// A machine that was copied asks when it is turned on, one that finds no more room on its datastore while it runs. Until it is answered it
/// stands still, and so does the task that waits for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetQuestion {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// A question that a machine asks.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmQuestion")]
pub struct Question {
    /// What the host calls this very question; the next has another.
    pub id: String,
    /// What kind of question it is, such as `msg.uuid.altered` (moved or copied) or `msg.hbacommon.outofspace`.
    pub topic: String,
    /// What it asks.
    pub text: String,
    /// The answers that can be given.
    pub choices: Vec<Choice>,
}

/// An answer that can be given.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmChoice")]
pub struct Choice {
    /// Its key, such as `2`.
    pub key: String,
    /// The host's word for it, such as `button.uuid.copiedTheVM`.
    pub label: String,
    /// As it is shown, such as `I Copied It`.
    pub text: String,
    /// Whether it is the one that the host proposes.
    pub proposed: bool,
}

impl From<esxi::Question> for Question {
    fn from(question: esxi::Question) -> Self {
        let choice = |choice: esxi::Choice| Choice {
            key: choice.key,
            label: choice.label,
            text: choice.text,
            proposed: choice.proposed,
        };
        Self {
            id: question.id,
            topic: question.topic,
            text: question.text,
            choices: question.choices.into_iter().map(choice).collect(),
        }
    }
}

impl Operation for GetQuestion {
    const NAME: &'static str = "vm.question";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("question");
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "local asks = vm:question()\nif asks then\n  print(asks.topic, asks.text)\nend";

    type Bound = BoundVm;
    type Output = Option<Question>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_anew(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, _: &Pass<'_>) -> Result<Option<Question>, Fault> {
        Ok(bound.host.client.question(&bound.vm).await?.map(Question::from))
    }
}

/// Answers what a machine asks, and waits for what had waited for the answer: a power-on goes on then, or ends.
///
/// An answer may cost data: `Cancel` to a machine without room turns it off. Where the machine asks nothing, or something else than the
/// `topic` that is given, nothing is answered. Errors: `esxi.no_question`, `esxi.other_question`, `esxi.invalid_argument` with the answers
/// that there are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerQuestion {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The answer: its key, its label or its text, in any case.
    pub choice: String,
    /// The kind of question that is meant, such as `msg.uuid.altered`. Default: whatever it asks.
    pub topic: Option<String>,
}

/// What came of an answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmAnswered")]
pub struct Answered {
    /// Whether the machine runs now.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// What it asks now; nil where that was all.
    pub next: Option<Question>,
    /// Why the task that had waited failed: for an answer that refuses it does.
    pub failed: Option<String>,
}

impl Operation for AnswerQuestion {
    const NAME: &'static str = "vm.answer";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("answer");
    const POSITIONAL: &'static [&'static str] = &["choice"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "answer", Selector::Argument("vm"))];
    const USAGE: &'static str =
        "if vm:question() then\n  vm:answer({ choice = \"I Copied It\", topic = \"msg.uuid.altered\" })\nend";

    type Bound = BoundVm;
    type Output = Answered;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "answer").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Answered, Fault> {
        let (client, vm) = (&bound.host.client, &bound.vm);
        let Some(question) = client.question(vm).await? else {
            return Err(Fault::new("esxi.no_question", format!("{:?} on {} asks nothing", vm.name, bound.host.name))
                .hint("somebody may have answered it meanwhile: vm:question() tells what it asks"));
        };
        if self.topic.as_ref().is_some_and(|topic| *topic != question.topic) {
            let message = format!(
                "{:?} on {} asks something else, {}: {}",
                vm.name, bound.host.name, question.topic, question.text
            );
            return Err(
                Fault::new("esxi.other_question", message).hint(format!("its answers are: {}", question.answers()))
            );
        }
        let choice = question.choice(&self.choice)?;
        let answered = client.answer(vm, &question, choice, &|step| pass.step(step)).await?;
        Ok(Answered {
            power: answered.power.as_str().to_owned(),
            next: answered.next.map(Question::from),
            failed: answered.failed,
        })
    }
}
