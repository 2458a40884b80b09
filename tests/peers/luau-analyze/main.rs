//! Checks Luau files against a definition file, in strict mode, with Luau's new solver: `luau-analyze DEFINITIONS FILE…`.
//!
//! It reads no modules: `require("@ceso/NAME")` is given the type `CesoName` of the definitions. Errors go to standard output as
//! `FILE:LINE:COLUMN: MESSAGE`; the exit code is 1 where there is one.

use std::process::ExitCode;

use luau_analyze::{Checker, Severity};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(definitions) = arguments.next() else {
        eprintln!("luau-analyze DEFINITIONS FILE…");
        return ExitCode::from(2);
    };
    match check(&definitions, arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(message) => {
            println!("{message}");
            ExitCode::from(1)
        }
    }
}

fn check(definitions: &str, files: impl Iterator<Item = String>) -> Result<usize, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mut checker = Checker::new().map_err(|error| error.to_string())?;
    checker.add_definitions(&read(definitions)?).map_err(|error| format!("{definitions}: {error}"))?;
    let mut errors = 0;
    for file in files {
        let result = checker.check(&with_types(&read(&file)?)).map_err(|error| format!("{file}: {error}"))?;
        for found in result.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
            println!("{file}:{}:{}: {}", found.line + 1, found.col + 1, found.message);
            errors += 1;
        }
    }
    Ok(errors)
}

/// Writes `(nil :: any) :: CesoName` where a module of the standard library is required; lines stay as they are.
fn with_types(source: &str) -> String {
    let mut parts = source.split("require(\"@ceso/");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("\")").unwrap_or((part, ""));
        let mut letters = name.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        let name: String = first.into_iter().chain(letters).collect();
        text.push_str(&format!("((nil :: any) :: Ceso{name}){rest}"));
    }
    text
}
