//! The attack suite: hostile scripts run through the real worker process.

mod bench;

use bench::Run;

#[test]
fn a_plain_script_prints_and_returns() {
    let run = Run::new("print('hello', 1, nil, {}) log.warn('x') return { answer = 42 }").go();
    assert_eq!(run.printed, ["hello\t1\tnil\ttable"]);
    assert_eq!(run.outcome(), "done {\"answer\":42}");
}
