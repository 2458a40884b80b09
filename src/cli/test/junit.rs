//! The results as JUnit XML, in the form that CI servers read.

use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::case::{Case, Outcome, Verdict};
use super::show;
use crate::error::Fault;

/// Writes the file whole, beside its place first.
pub fn write(path: &Path, cases: &[Case], outcomes: &[Option<Outcome>], took: Duration) -> Result<(), Fault> {
    let failed = |error: String| {
        Fault::new("output.failed", format!("{}: the results were not written: {error}", path.display()))
            .hint("mind the folder, its space and its permissions")
    };
    let text = report(cases, outcomes, took).to_string().map_err(|error| failed(error.to_string()))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        use std::io::Write as _;
        file.write_all(text.as_bytes())?;
        readable(file.as_file())?;
        file.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| failed(error.to_string()))
}

/// A temporary file is its owner's alone; a report is for the CI server too.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn report(cases: &[Case], outcomes: &[Option<Outcome>], took: Duration) -> Report {
    let mut report = Report::new("ceso test");
    report.set_time(took);
    let mut suites: Vec<TestSuite> = Vec::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        let shown = case.file.shown.as_str();
        if suites.last().is_none_or(|suite| suite.name.as_str() != shown) {
            suites.push(TestSuite::new(shown));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(one(case, outcome.as_ref()));
        }
    }
    for mut suite in suites {
        let sum = suite.test_cases.iter().filter_map(|case| case.time).sum();
        suite.set_time(sum);
        report.add_test_suite(suite);
    }
    report
}

fn one(case: &Case, outcome: Option<&Outcome>) -> TestCase {
    let mut status = match outcome.map(|outcome| &outcome.verdict) {
        Some(Verdict::Passed) => TestCaseStatus::success(),
        Some(Verdict::Failed(_)) => TestCaseStatus::non_success(match case.broken {
            Some(_) => NonSuccessKind::Error,
            None => NonSuccessKind::Failure,
        }),
        Some(Verdict::Skipped(_)) | None => TestCaseStatus::skipped(),
    };
    match outcome.map(|outcome| &outcome.verdict) {
        Some(Verdict::Failed(failure)) => {
            status.set_message(failure.message.as_str()).set_type(failure.kind.as_str());
            status.set_description(show::failed(failure, outcome));
        }
        Some(Verdict::Skipped(why)) => {
            status.set_message(why.as_str());
        }
        Some(Verdict::Passed) => {}
        None => {
            status.set_message("not run");
        }
    }
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(case.file.inside.trim_end_matches(".luau").trim_end_matches(".lua").replace('/', "."));
    if let Some(outcome) = outcome {
        test.set_time(outcome.took);
        if !outcome.output.is_empty() {
            test.set_system_out(outcome.output.as_str());
        }
    }
    test.extra.insert("file".into(), case.file.shown.as_str().into());
    test.extra.insert("line".into(), case.line.to_string().as_str().into());
    test
}
