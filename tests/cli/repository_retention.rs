//! Retention from the command line: the rules of the configuration and of flags, the plan that is printed and the one that is carried out.

use serde_json::{Value as Json, json};

use crate::support::Machine;

/// A machine with rules for one of its repositories, and backups of two disks in it: `web` often, `db` once.
fn with_backups(retention: &str) -> Machine {
    let machine = Machine::new();
    let place = machine.project().display().to_string();
    let machine = machine.user(format!("repositories: {{main: {{url: {place}/kept{retention}}}}}"));
    machine.run(&["repository", "init", "main", "--plain", "--grace", "0 s"]).ok();
    for (number, name) in ["web", "web", "db", "web"].iter().enumerate() {
        // Different contents of each, so that each has packs of its own.
        let bytes: Vec<u8> =
            (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761 + number as u32) >> 13) as u8).collect();
        machine.file("disk.img", bytes);
        machine.run(&["disk", "backup", "disk.img", "--repository", "main", "--group", name]).ok();
    }
    machine
}

fn json(machine: &Machine, arguments: &[&str]) -> Json {
    machine.run(&[arguments, &["--output", "json"]].concat()).ok().json()
}

fn count(machine: &Machine, arguments: &[&str]) -> usize {
    json(machine, arguments).as_array().unwrap().len()
}

#[test]
fn a_prune_follows_the_rules_of_the_configuration_and_carries_out_the_plan_that_it_printed() {
    let machine = with_backups(", retention: {keep_last: 2}");
    // To forget is more than to prune, and whoever may only prune is told how.
    let denied = machine.run(&["repository", "prune", "main"]);
    assert!(denied.code == 3 && denied.err.contains("repository.destroy"), "{denied:?}");
    assert!(denied.err.contains("--keep-all"), "{denied:?}");
    let kept = json(&machine, &["repository", "prune", "main", "--keep-all"]);
    assert_eq!((kept["forgotten"].as_array().unwrap().len(), kept["deleted"].as_u64()), (0, Some(0)));
    assert_eq!(count(&machine, &["repository", "list", "main"]), 4);

    let unrestricted = ["repository", "prune", "main", "--mode", "unrestricted"];
    let plan = json(&machine, &[&unrestricted[..], &["--dry-run"]].concat());
    assert_eq!(count(&machine, &["repository", "list", "main"]), 4);
    let done = json(&machine, &unrestricted);
    for field in ["forgotten", "kept", "deleted", "deleted_bytes", "copied", "marked"] {
        assert_eq!(plan[field], done[field], "{field}");
    }
    assert_eq!((plan["dry_run"].as_bool(), done["dry_run"].as_bool()), (Some(true), Some(false)));
    assert_eq!(done["forgotten"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!(done["forgotten"][0]["vm"], "web");
    assert!(done["deleted"].as_u64().unwrap() > 0, "its bytes went with it: {done}");
    let reasons: Vec<&Json> = done["kept"].as_array().unwrap().iter().map(|row| &row["kept_for"]).collect();
    assert_eq!(reasons, [&json!(["last"]), &json!(["last"]), &json!(["last"])]);
    assert_eq!(count(&machine, &["repository", "list", "main"]), 3);
    assert_eq!(count(&machine, &["catalog", "list"]), 3);
    assert_eq!(json(&machine, &["repository", "check", "main", "--read-data"])["clean"], true);
}

#[test]
fn a_plan_that_removes_much_or_the_last_good_backup_is_refused_until_it_is_meant() {
    let machine = with_backups("");
    let prune =
        |more: &[&str]| machine.run(&[&["repository", "prune", "main", "--mode", "unrestricted"], more].concat());
    let refused = prune(&["--keep-tag", "monthly"]);
    assert!(
        refused.code == 1 && refused.err.contains("backup.refused") && refused.err.contains("4 of 4"),
        "{refused:?}"
    );
    assert!(refused.err.contains("--yes"), "{refused:?}");
    // A dry run is a read, in every mode.
    let dry = ["repository", "prune", "main", "--keep-tag", "monthly", "--dry-run", "--output", "json"];
    let plan = machine.run(&[&dry[..], &["--mode", "restricted"]].concat()).ok().json();
    assert_eq!(machine.run(&dry[..6].iter().copied().filter(|word| *word != "--dry-run").collect::<Vec<_>>()).code, 3);
    assert!(plan["doubt"].as_str().unwrap().contains("4 of 4"), "{plan}");
    assert_eq!(count(&machine, &["repository", "list", "main"]), 4);
    // Without rules nothing is forgotten, and a rule that keeps nothing is none.
    prune(&[]).ok();
    assert_eq!(prune(&["--keep-last", "0"]).code, 2);
    assert_eq!(prune(&["--keep-all", "--keep-last", "1"]).code, 2);
    assert_eq!(count(&machine, &["repository", "list", "main"]), 4);
    prune(&["--keep-tag", "monthly", "--yes"]).ok();
    assert_eq!(count(&machine, &["repository", "list", "main"]), 0);
}

#[test]
fn rules_of_the_configuration_hold_for_what_it_names_and_forget_takes_them_too() {
    let machine = with_backups(", retention: {keep_daily: 7, keep_within: 1 week, keep_tags: [forever]}");
    let forget = ["repository", "forget", "main", "--mode", "restricted", "--dry-run"];
    let plan = json(&machine, &forget);
    assert_eq!((plan["forgotten"].as_array().unwrap().len(), plan["kept"].as_array().unwrap().len()), (0, 4));
    assert_eq!(plan["kept"][1]["kept_for"], json!(["daily", "within"]));
    // Flags go before the configuration.
    let plan = json(&machine, &[&forget[..], &["--keep-hourly", "1"]].concat());
    assert_eq!(plan["kept"].as_array().unwrap().len(), 2);
    // A place that is typed out has no configuration.
    let folder = machine.run(&["repository", "forget", "./kept", "--mode", "unrestricted"]);
    assert!(folder.code == 2 && folder.err.contains("--keep-last"), "{folder:?}");
    let pruned = json(&machine, &["repository", "prune", "./kept"]);
    assert_eq!(pruned["forgotten"], json!([]));
    // Scripts say for themselves whether they follow them.
    let text = "local r = backup.repository('main') local plan = r:prune({ dry_run = true }) return { #plan.kept, \
                #r:prune({ retention = r.retention, dry_run = true }).kept, r.retention.keep_within }";
    let done = machine.script(text, &["--output", "json", "--mode", "restricted"]).ok().json();
    assert_eq!(done, json!([0, 4, "7days"]));
    let meant = text.replace(", dry_run = true", "");
    let denied = machine.script(&meant, &[]);
    assert!(denied.code == 3 && denied.err.contains("repository.destroy"), "{denied:?}");
}
