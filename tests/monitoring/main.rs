//! `examples/monitoring/`: every name in it exists, promtool accepts it, and a real Prometheus loads it and gets answers.

mod names;
mod prometheus;
mod promtool;

use std::path::PathBuf;

fn examples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/monitoring"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(examples().join(name)).unwrap()
}

/// The recording rules: what each is called, and its expression.
fn recorded() -> Vec<(String, String)> {
    rules("rules.yml", "record")
}

/// Name and expression of each rule of a file.
fn rules(file: &str, key: &str) -> Vec<(String, String)> {
    let parsed: serde_json::Value = serde_saphyr::from_str(&read(file)).unwrap();
    let groups = parsed["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| (rule[key].as_str().unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned())).collect()
}

/// The expressions of the dashboard.
fn shown() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}
