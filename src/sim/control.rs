//! Faults of a running simulator, asked for over HTTP: `/simulator/faults`, with the simulator's own account; and what it was asked:
//! `/simulator/requests`, how often each method, over how many connections.
//!
//! `GET` lists the rules with how often each came up, as JSON; `POST` adds rules, one a line, as `--fault` takes them: all of them or, where
//! one is wrong, none; `DELETE` forgets them. No real host has such a place, and nothing else is reachable through it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::faults::{Lie, Tally, Trouble, read};
use super::http::{Body, answer, status};
use super::server::Host;
use crate::error::Fault;

/// The longest list of rules.
const LONGEST: usize = 64 << 10;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says what was asked since the start.
pub fn requests(request: &Request<Incoming>, host: &Host) -> Response<Body> {
    if !knows(request, host) {
        return refused();
    }
    let requests = host.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let connections = host.connections.load(Ordering::Relaxed);
    let told = json!({ "simulator": true, "connections": connections, "requests": requests });
    answer(StatusCode::OK, "application/json", format!("{told}\n"))
}

fn refused() -> Response<Body> {
    let mut refused = status(StatusCode::UNAUTHORIZED, "The simulator's own account is asked for.");
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"ceso SIMULATOR\""));
    refused
}

/// Answers a request about the faults.
pub async fn faults(request: Request<Incoming>, host: &Host) -> Response<Body> {
    if !knows(&request, host) {
        return refused();
    }
    match *request.method() {
        Method::GET => {
            let rules: Vec<_> = host.faults.tally().iter().map(row).collect();
            answer(StatusCode::OK, "application/json", format!("{}\n", json!({ "simulator": true, "faults": rules })))
        }
        Method::DELETE => {
            host.clear_faults();
            status(StatusCode::OK, "Nothing goes wrong any more.")
        }
        Method::POST => {
            let whole = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), LONGEST).collect()).await;
            let Ok(Ok(whole)) = whole else { return status(StatusCode::BAD_REQUEST, "The rules did not come whole.") };
            match add(host, &String::from_utf8_lossy(&whole.to_bytes())) {
                Ok(count) => status(StatusCode::OK, &format!("{count} rules were added.")),
                Err(fault) => {
                    let hint = fault.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    status(StatusCode::BAD_REQUEST, &format!("{}{hint}", fault.message()))
                }
            }
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "GET lists the faults, POST adds some, DELETE forgets them."),
    }
}

fn knows(request: &Request<Incoming>, host: &Host) -> bool {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let given = given.and_then(|given| STANDARD.decode(given.trim()).ok());
    let own = format!("{}:{}", host.options.username, host.options.password.expose_secret());
    given.is_some_and(|given| given == own.as_bytes())
}

fn add(host: &Host, text: &str) -> Result<usize, Fault> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules = lines.map(read).collect::<Result<Vec<_>, _>>()?;
    let trial = super::faults::Faults::new(0);
    rules.iter().cloned().try_for_each(|rule| trial.add(rule))?;
    let count = rules.len();
    rules.into_iter().try_for_each(|rule| host.faults.add(rule))?;
    Ok(count)
}

fn row(tally: &Tally) -> serde_json::Value {
    let Tally { rule, seen, caught } = tally;
    let fault = match &rule.trouble {
        Trouble::Fault { kind, .. } => kind.clone(),
        Trouble::Delay(time) => format!("delay={}ms", time.as_millis()),
        Trouble::Late(time) => format!("late={}ms", time.as_millis()),
        Trouble::Drop => "drop".to_owned(),
        Trouble::DropAnswer => "drop-answer".to_owned(),
        Trouble::Status(code) => code.to_string(),
        Trouble::Expire => "expire".to_owned(),
        Trouble::Lie(Lie::Missing) => "lie=missing".to_owned(),
        Trouble::Lie(Lie::Everything) => "lie=everything".to_owned(),
        Trouble::Lie(Lie::Unknown) => "lie=unknown".to_owned(),
        Trouble::Ask(topic) => format!("ask={}", topic.word()),
        Trouble::LeaveDelta => "leave-delta".to_owned(),
        Trouble::Cut(bytes) => format!("cut={bytes}"),
        Trouble::NoRanges => "no-ranges".to_owned(),
        Trouble::Page => "page".to_owned(),
        Trouble::Fill(left) => format!("fill={left}"),
        Trouble::Partition(time) => format!("partition={}ms", time.as_millis()),
        Trouble::Restart { away, finishes } => {
            format!("{}={}ms", if *finishes { "restart-after" } else { "restart" }, away.as_millis())
        }
    };
    json!({
        "method": rule.method, "fault": fault, "times": rule.times, "after": rule.after, "chance": rule.chance,
        "seen": seen, "caught": caught,
    })
}
