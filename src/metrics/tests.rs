use std::collections::BTreeSet;
use std::time::Instant;

use super::*;

/// Counts one of everything that can be counted.
fn count_everything() {
    enable().unwrap();
    let host = HostLabel::new("lab");
    let of = Operation { name: "vm.power_on", effect: "change", mode: "standard" };
    operation(of, "denied", Some(Duration::from_millis(5)));
    operation(of, "unknown", None);
    limit("limit.run_time", "standard");
    limit("limit.whatever a script says", "standard");
    Run::begin("run", "standard").end(Outcome::Done);
    worker_spawned();
    worker_ended("done", Some((Duration::from_millis(10), 1 << 20)));
    worker_ended("done", Some((Duration::from_millis(10), 1 << 10)));
    audit_written("read", 7);
    audit_failed();
    audit_synced(Duration::from_micros(300));
    witness_lag("syslog", 3, Duration::from_secs(1));
    drop(host.opened(true));
    host.login("done");
    host.retry("lost");
    host.request("Login", "answered", Duration::from_millis(2));
    host.bytes(10, 20);
    host.task("success", Instant::now());
}

#[test]
fn everything_that_is_counted_is_told() {
    count_everything();
    let text = text().unwrap();
    let to_come = |family: &Family| family.help.ends_with("No samples yet.");
    for family in ALL {
        let series = text.lines().any(|line| {
            line.strip_prefix(family.name).is_some_and(|rest| {
                rest.starts_with(['{', ' ']) || rest.starts_with("_count") || rest.starts_with("_bucket")
            })
        });
        assert_eq!(series, !to_come(family), "{}: {text}", family.name);
        assert!(text.contains(&format!("# HELP {} ", family.name)), "{}", family.name);
        assert_eq!(text.matches(&format!("# TYPE {} ", family.name)).count(), 1, "{}", family.name);
    }
    assert!(text.contains("ceso_limits_hit_total{limit=\"other\",mode=\"standard\"}"), "{text}");
    assert!(text.contains("ceso_worker_memory_peak_bytes 1048576"), "{text}");
    assert!(text.contains("ceso_denials_total{mode=\"standard\",operation=\"vm.power_on\"}"), "{text}");
}

#[test]
fn names_follow_prometheus_conventions() {
    let mut names = BTreeSet::new();
    for family in ALL {
        assert!(names.insert(family.name), "{} is declared twice", family.name);
        assert!(family.name.starts_with("ceso_") && !family.name.contains("milli"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        assert_eq!(family.buckets.is_empty(), family.kind != Kind::Histogram, "{}", family.name);
        assert!(family.buckets.is_sorted() && family.help.ends_with('.'), "{}", family.name);
        assert!(!family.labels.iter().any(|label| ["le", "instance", "job", "quantile"].contains(label)));
    }
}

#[test]
fn a_label_takes_no_text_that_a_configuration_would_refuse() {
    enable().unwrap();
    for name in ["", "a\"b", "a\nb", "a\\", "ä", " ", &"x".repeat(1 << 20)] {
        let label = HostLabel::new(name);
        assert_eq!(label.as_str(), "other");
        label.login("failed");
    }
    assert_eq!(HostLabel::new("esx-1.lab_2").as_str(), "esx-1.lab_2");
    for n in 0..1000 {
        HostLabel::new(&format!("flood-{n}")).login("failed");
    }
    let text = text().unwrap();
    let hosts: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split("host=\"").nth(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(hosts.len() <= 201 && hosts.contains("other"), "{}", hosts.len());
}

#[test]
fn a_fault_is_one_of_a_few_outcomes() {
    for (kind, outcome) in [
        ("door.denied", Outcome::Denied),
        ("limit.calls", Outcome::Limited),
        ("script.cancelled", Outcome::Cancelled),
        ("script.error", Outcome::Failed),
        ("esxi.timeout", Outcome::Failed),
        ("", Outcome::Failed),
    ] {
        assert_eq!(Outcome::of_fault(kind), outcome, "{kind}");
    }
}
