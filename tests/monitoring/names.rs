//! What rules, alerts and dashboard name is what ceso tells, and what ceso tells is shown.

use std::collections::BTreeSet;

use ceso::metrics::{ALL, Kind};

use super::{recorded, rules, shown};

/// The names of series and of recorded rules in an expression, and the labels that it asks for with a value.
fn named(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in expression.chars().chain([' ']) {
        if c == '"' {
            quoted = !quoted;
        }
        if !quoted && (c.is_ascii_alphanumeric() || matches!(c, '_' | ':')) {
            word.push(c);
        } else if !word.is_empty() {
            names.insert(std::mem::take(&mut word));
        }
    }
    names.retain(|name| name.contains("ceso"));
    names
}

/// The family that a series belongs to.
fn family(series: &str) -> Option<&'static str> {
    let whole = |name: &str| ALL.iter().find(|family| family.name == name);
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| series.strip_suffix(end));
    let histogram = parts.filter_map(whole).find(|family| family.kind == Kind::Histogram);
    whole(series).filter(|family| family.kind != Kind::Histogram).or(histogram).map(|family| family.name)
}

#[test]
fn every_metric_in_rules_alerts_and_dashboard_exists() {
    let records: BTreeSet<String> = recorded().into_iter().map(|(name, _)| name).collect();
    let mut expressions: Vec<String> =
        recorded().into_iter().chain(rules("alerts.yml", "alert")).map(|(_, e)| e).collect();
    expressions.extend(shown());
    assert!(expressions.len() > 60);
    let mut wrong = Vec::new();
    for expression in &expressions {
        for name in named(expression) {
            let known = if name.contains(':') { records.contains(&name) } else { family(&name).is_some() };
            if !known {
                wrong.push(format!("{name} in {expression}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_is_used_and_every_family_is_watched() {
    let mut used: BTreeSet<String> = shown().iter().flat_map(|expression| named(expression)).collect();
    for (_, expression) in recorded().into_iter().chain(rules("alerts.yml", "alert")) {
        used.extend(named(&expression));
    }
    let unused: Vec<String> =
        recorded().into_iter().map(|(name, _)| name).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let watched: BTreeSet<&str> = used.iter().filter_map(|name| family(name)).collect();
    // What nobody can act on is not shown: what is to come, and what a query by hand is for.
    let by_hand = [
        "ceso_run_last_end_timestamp_seconds",
        "ceso_elevations_total",
        "ceso_promotions_total",
        "ceso_backups_total",
        "ceso_backup_duration_seconds",
        "ceso_catalog_entries",
        "ceso_catalog_size_bytes",
        "ceso_build_info",
    ];
    let missing: Vec<&str> = ALL
        .iter()
        .map(|family| family.name)
        .filter(|name| !watched.contains(name) && !by_hand.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_has_a_severity_and_says_what_to_do() {
    let parsed: serde_json::Value = serde_saphyr::from_str(&super::read("alerts.yml")).unwrap();
    for rule in parsed["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{rule}");
        for text in ["summary", "description", "runbook"] {
            assert!(rule["annotations"][text].as_str().is_some_and(|text| text.len() > 10), "{text}: {rule}");
        }
    }
}

#[test]
fn the_test_of_names_can_fail() {
    assert_eq!(family("ceso_operations_total"), Some("ceso_operations_total"));
    assert_eq!(family("ceso_operation_duration_seconds_bucket"), Some("ceso_operation_duration_seconds"));
    assert_eq!(family("ceso_operation_duration_seconds"), None);
    assert_eq!(family("ceso_operations_totals"), None);
    assert_eq!(named("rate(ceso_a{x=\"ceso_b\"}[5m]) / a:ceso_c:d").len(), 2);
}
