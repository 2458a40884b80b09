//! `ceso test`: runs the tests of playbooks, each against a simulator of its own, several at once, and tells what came of them.
//!
//! Isolation is by test: a fresh simulator, a fresh worker, nothing shared with the one before. No test reaches a configured host:
//! whatever name a playbook connects to is the test's simulator.
//!
//! ```text
//! files    which files hold tests        case    one test: simulator, worker, verdict
//! bench    what a test's handle does     show    the report, for people and as JSON      junit  for CI servers
//! ```

mod bench;
mod case;
mod files;
mod junit;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::case::{Case, Outcome, Verdict, World};
use self::files::TestFile;
use super::context::Context;
use super::globals::Globals;
use super::output::Format;
use crate::error::Fault;
use crate::run::interrupt::Interrupts;
use crate::run::suite::{Hold, Suite};

/// How often the signals are looked at while tests run.
const LOOK: Duration = Duration::from_millis(100);

/// `ceso test`.
pub fn command() -> Command {
    Command::new("test")
        .about("Run tests of playbooks (*_test.luau), each against a simulator of its own")
        .arg(
            Arg::new("PATH")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Folders to search for *_test.luau, or files [default: the current folder]"),
        )
        .arg(
            Arg::new("filter")
                .long("filter")
                .value_name("TEXT")
                .help("Run only the tests whose file or name has this text in it"),
        )
        .arg(
            Arg::new("jobs")
                .long("jobs")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=256))
                .help("How many tests run at the same time [default: the number of processors]"),
        )
        .arg(
            Arg::new("junit")
                .long("junit")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the results as JUnit XML too"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("The folder that tests may run playbooks from [default: the PATH that they were found in]"),
        )
        .arg(Arg::new("list").long("list").action(ArgAction::SetTrue).help("List the tests and run none"))
        .arg(
            Arg::new("fail-fast")
                .long("fail-fast")
                .action(ArgAction::SetTrue)
                .help("Begin no further test once one has failed"),
        )
        .arg(Format::argument())
}

/// Runs the tests.
pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let began = Instant::now();
    let config = context.config()?;
    let paths: Vec<PathBuf> = matches.get_many::<PathBuf>("PATH").unwrap_or_default().cloned().collect();
    let paths = if paths.is_empty() { vec![PathBuf::from(".")] } else { paths };
    let files = files::find(&paths, matches.get_one::<PathBuf>("root"))?;
    let jobs = match matches.get_one::<u16>("jobs") {
        Some(jobs) => usize::from(*jobs),
        None => std::thread::available_parallelism().map_or(2, usize::from),
    };
    let world = Arc::new(World::new(config, globals.clone())?);
    let interrupts = Interrupts::listen(None, true)
        .map_err(|error| Fault::new("ceso.signals", format!("signals cannot be awaited: {error}")).cause(error))?;
    let filter = matches.get_one::<String>("filter").map(|text| text.to_lowercase());
    let wanted = |file: &TestFile, name: &str| {
        filter.as_ref().is_none_or(|text| format!("{}: {name}", file.shown).to_lowercase().contains(text.as_str()))
    };

    let suites = each(jobs, &files, |file| world.suite(file));
    let mut cases = Vec::new();
    for (file, suite) in files.iter().zip(suites) {
        match suite.unwrap_or_else(|| Err(case::lost())) {
            Ok(suite) => {
                let Suite { setup, timeout, tests, .. } = suite;
                let tests = tests.into_iter().filter(|test| wanted(file, &test.name));
                cases.extend(tests.map(|test| Case::of(file, test, &setup, timeout)));
            }
            Err(ended) => cases.push(Case::broken(file, world.told(&ended, file))),
        }
    }
    if cases.is_empty() {
        return Err(nothing(&paths, files.len(), filter.as_deref()));
    }
    if matches.get_flag("list") {
        context.print(matches, &show::list(&cases))?;
        return Ok(ExitCode::from(u8::from(cases.iter().any(|case| case.broken.is_some()))));
    }

    let style = context.style(matches)?;
    let mut shown = show::Shown::new(style, &cases);
    let stop = AtomicBool::new(false);
    let fail_fast = matches.get_flag("fail-fast");
    let outcomes = run_all(jobs, &cases, &world, &interrupts, &stop, |index, outcome| {
        if fail_fast && matches!(outcome.verdict, Verdict::Failed(_)) {
            stop.store(true, Ordering::Relaxed);
        }
        shown.one(index, outcome)
    })?;
    let took = began.elapsed();
    if let Some(path) = matches.get_one::<PathBuf>("junit") {
        junit::write(path, &cases, &outcomes, took)?;
    }
    shown.end(&cases, &outcomes, took)?;
    if interrupts.take() {
        return Err(interrupts.fault().hint("the tests that had not ended say nothing"));
    }
    let failed = outcomes.iter().flatten().any(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
    Ok(ExitCode::from(u8::from(failed)))
}

/// Runs every case, several at once; `told` hears of each as soon as it has ended.
fn run_all(
    jobs: usize,
    cases: &[Case],
    world: &Arc<World>,
    interrupts: &Interrupts,
    stop: &AtomicBool,
    mut told: impl FnMut(usize, &Outcome) -> Result<(), Fault>,
) -> Result<Vec<Option<Outcome>>, Fault> {
    let next = AtomicUsize::new(0);
    let held: Mutex<Vec<Hold>> = Mutex::default();
    let hurry = interrupts.hurry();
    let mut outcomes: Vec<Option<Outcome>> = cases.iter().map(|_| None).collect();
    let mut problem = None;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(cases.len()) {
            let (sender, next, held) = (sender.clone(), &next, &held);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index).filter(|_| !stop.load(Ordering::Relaxed)) else { return };
                    let hold = Hold::new();
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(hold.clone());
                    let outcome = world.run(case, &hold);
                    if sender.send((index, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok((index, outcome)) => {
                    if let Err(fault) = told(index, &outcome) {
                        // Nobody can be told any more; what runs is ended.
                        problem.get_or_insert(fault);
                        stop.store(true, Ordering::Relaxed);
                    }
                    if let Some(place) = outcomes.get_mut(index) {
                        *place = Some(outcome);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if *hurry.borrow() {
                stop.store(true, Ordering::Relaxed);
                held.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                    .for_each(|hold| hold.end("ceso test was stopped"));
            }
        }
    });
    match problem {
        Some(fault) => Err(fault),
        None => Ok(outcomes),
    }
}

/// Does something with each item, several at once, and gives the results in order; nothing where a thread was lost.
fn each<T: Sync, R: Send>(jobs: usize, items: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let (index, Some(item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    (index, items.get(index))
                } {
                    let result = act(item);
                    if let Some(place) = results.get(index) {
                        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                    }
                }
            });
        }
    });
    results.into_iter().map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// There is nothing to run, which must not pass for success.
fn nothing(paths: &[PathBuf], files: usize, filter: Option<&str>) -> Fault {
    let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    match filter {
        Some(text) if files > 0 => {
            Fault::new("usage.no_tests", format!("no test in {} has {text:?} in its name", places.join(", ")))
                .hint("ceso test --list shows their names")
        }
        _ => Fault::new("usage.no_tests", format!("there are no tests in {}", places.join(", "))).hint(
            "a file of tests is named NAME_test.luau and returns { tests = { [\"what it promises\"] = function(t) … end } }",
        ),
    }
}
