//! A simulator for one test, and where the peers are.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use ceso::sim::{Options, Server};

pub const USER: &str = "user";
pub const PASSWORD: &str = "pass";

/// Options with the tests' account and a short boot.
pub fn options() -> Options {
    Options {
        username: USER.to_owned(),
        password: PASSWORD.into(),
        boot_delay: Duration::from_millis(20),
        ..Options::default()
    }
}

pub async fn start(options: Options) -> Server {
    Server::start(options).await.expect("the simulator starts")
}

/// A peer program: below `CESO_PEERS`, or where `tests/peers/prepare` puts it.
pub fn peer(path: &str) -> PathBuf {
    let folder = std::env::var_os("CESO_PEERS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers"));
    let program = folder.join(path);
    assert!(program.exists(), "{} is missing: run tests/peers/prepare, or set CESO_PEERS", program.display());
    program
}

/// Runs a client to its end while the simulator serves it.
pub async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("the client starts")).await.expect("it is waited for")
}

/// What a client printed, for a failing test.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
