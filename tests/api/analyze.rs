//! The definitions that `ceso types` prints, under Luau's own type checker in strict mode.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the checker says of these files; empty where all is well.
fn analyze(files: &[PathBuf]) -> String {
    let peers = std::env::var_os("CESO_PEERS").map_or_else(|| root().join("target/peers"), PathBuf::from);
    let checker = peers.join("bin/luau-analyze");
    let output = Command::new(&checker).arg(root().join("lua/types/ceso.d.luau")).args(files).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: run tests/peers/prepare", checker.display()));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "luau") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
#[ignore = "needs luau-analyze"]
fn luau_analyze_finds_no_error_in_what_ships() {
    let files: Vec<PathBuf> = ["examples", "lua/workflows", "lua/std"].into_iter().flat_map(scripts).collect();
    assert_eq!(analyze(&files), "");
}

#[test]
#[ignore = "needs luau-analyze"]
fn luau_analyze_accepts_every_example_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = ceso::ops::all()
        .iter()
        .map(|declared| {
            let path = folder.path().join(format!("{}.luau", declared.name));
            // The values that an example leaves unused are for its reader.
            let text = format!(
                "local host = esxi.connect()\nlocal vm = host:vm(\"x\")\nlocal file = (nil :: any) :: file\nprint(host, vm, file)\ndo\n{}\nend\n",
                declared.usage
            );
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    assert_eq!(analyze(&files), "");
    let path = folder.path().join("usage_test.luau");
    let usages: String = ceso::ops::of_tests()
        .iter()
        .map(|declared| format!("[{:?}] = function(t: test)\n{}\nend,\n", declared.name, declared.usage))
        .collect();
    std::fs::write(&path, format!("local suite: Suite = {{ tests = {{\n{usages}}} }}\nreturn suite\n")).unwrap();
    assert_eq!(analyze(&[path]), "");
}

#[test]
#[ignore = "needs luau-analyze"]
fn luau_analyze_finds_what_is_wrong_in_a_script() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (line, part)) in [
        ("vm:power_onn()", "'power_onn' not found"),
        ("vm:ensure_power(\"onn\")", "\"suspended\""),
        ("host:clone({ template = \"a\" })", "missing field 'name'"),
        ("host:create({ name = 1, datastore = \"d\" })", "'string', but got 'number'"),
        ("vm:configure({ memory = true })", "(number | string)?"),
        ("print(vm.nam)", "'nam' not found"),
        ("print(vm:info().disks[1].sice)", "'sice' not found"),
        ("cloudinit.build({ hostnam = \"x\" })", "missing field 'hostname'"),
        ("vm:set_guestinfo({ hostname = \"x\" })", "missing field 'document'"),
        ("host:find({ name = 2 })", "'string', but got 'number'"),
        ("vm.name = \"y\" + 1", ""),
        ("log.infoo(\"x\")", "'infoo' not found"),
        ("local fleet = require(\"@ceso/fleet\")\nfleet.address(1, 2, 3)", "'string', but got 'number'"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.luau"));
        std::fs::write(&path, format!("local host = esxi.connect()\nlocal vm = host:vm(\"x\")\nprint(vm)\n{line}\n"))
            .unwrap();
        let said = analyze(&[path]);
        assert!(!said.is_empty() && said.contains(part), "{line}: {said}");
    }
}
