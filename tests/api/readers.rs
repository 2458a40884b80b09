//! `ceso doc`, `ceso types`, `ceso completion`: what readers, editors and shells get from the real command.

use std::path::Path;

use crate::support::Machine;

fn committed(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn what_is_printed_is_what_is_committed() {
    let machine = Machine::new();
    assert_eq!(machine.run(&["types"]).ok().out, committed("lua/types/ceso.d.luau"));
    assert_eq!(machine.run(&["doc", "--markdown"]).ok().out, committed("lua/reference.md"));
}

#[test]
fn one_page_is_for_people_and_its_data_for_programs() {
    let machine = Machine::new();
    let page = machine.run(&["doc", "vm:clone"]).ok().out;
    for part in ["host:clone({", "template", "required", "copy_from = \"{template}\"", "standard, unrestricted"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let data = machine.run(&["doc", "vm.clone", "--output", "json"]).ok().json();
    assert_eq!(data["arguments"]["properties"]["memory"]["format"], "bytes");
    let all = machine.run(&["doc", "--output", "json"]).ok().json();
    assert!(all.as_array().unwrap().iter().any(|row| row["name"] == "vm.clone" && row["effect"] == "change"));
}

#[test]
fn a_name_that_is_not_there_is_a_usage_error_with_the_nearest() {
    let machine = Machine::new();
    let done = machine.run(&["doc", "vm.colne"]).failed(2, "usage.name");
    assert!(done.err.contains("vm.clone"), "{done:?}");
    machine.run(&["doc", "\u{1b}]0;x\u{7}"]).failed(2, "usage.name");
}

#[test]
fn completion_knows_the_workflows_and_their_flags() {
    let machine = Machine::new();
    let folder = machine.home().join("workflows/lab");
    std::fs::create_dir_all(&folder).unwrap();
    let script = "return { summary = \"Greet\", params = { loudly = { type = \"bool\", default = false } }, run = function() end }";
    std::fs::write(folder.join("greet.luau"), script).unwrap();
    std::fs::write(folder.join("broken.luau"), "return {").unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = machine.run(&["completion", shell]).ok();
        for part in ["clone", "wait-timeout", "greet", "loudly", "completion", "doctor"] {
            assert!(done.out.contains(part), "{shell} {part}");
        }
        assert!(done.err.contains("lab broken") && !done.out.contains("broken"), "{done:?}");
    }
    assert_eq!(machine.run(&["completion", "tcsh"]).code, 2);
}

#[test]
fn bash_completes_a_workflow_s_flag() {
    let machine = Machine::new();
    let script = machine.run(&["completion", "bash"]).ok().out;
    let file = machine.project().join("ceso.bash");
    std::fs::write(&file, script).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=(ceso vm clone --wait-t); COMP_CWORD=3; _ceso ceso --wait-t clone; echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let output = std::process::Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "--wait-timeout", "{output:?}");
}
