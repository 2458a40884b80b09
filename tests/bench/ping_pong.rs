//! A bare ping-pong between two processes over a socket pair: the least that a call to another process can cost.
//!
//! `ping-pong COUNT DEPTH SESSION` sends `COUNT` messages of 64 bytes to a second process, at most `DEPTH` of them unanswered, each with
//! a write of its own as a call is, and prints the microseconds for each. The second process (`ping-pong pong`) sends back what it
//! reads. It is in a session of its own (`apart`), as a worker is, or in the first one's (`together`): on a busy machine Linux gives
//! each session a share of the processors, which makes wake-ups between two of them slower.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;

const SIZE: usize = 64;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word] if word == "pong" => pong(),
        [count, depth, session] if session == "apart" || session == "together" => {
            ping(count.parse().expect("a number"), depth.parse().expect("a number"), session == "apart")
        }
        _ => panic!("usage: ping-pong COUNT DEPTH apart|together"),
    }
}

fn ping(count: u32, depth: u32, apart: bool) -> std::io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let own = std::env::current_exe()?;
    let mut command = if apart { Command::new("setsid") } else { Command::new(&own) };
    if apart {
        command.arg(&own);
    }
    let mut child = command.arg("pong").stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    // It holds our copy of the other end, and the second process would wait for its closing.
    drop(command);
    // The second process's start is none of the exchange.
    exchange(&mut ours, depth, depth)?;
    let begun = Instant::now();
    exchange(&mut ours, count, depth)?;
    println!("{:.3}", begun.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    drop(ours);
    child.wait().map(drop)
}

fn exchange(stream: &mut UnixStream, count: u32, depth: u32) -> std::io::Result<()> {
    let (mut sent, mut answered) = (0, 0);
    let mut buffer = vec![0; SIZE * depth as usize];
    let mut bytes = 0;
    while answered < count {
        while sent < count && sent - answered < depth {
            stream.write_all(&[1; SIZE])?;
            sent += 1;
        }
        bytes += stream.read(&mut buffer)?;
        answered += (bytes / SIZE) as u32;
        bytes %= SIZE;
    }
    Ok(())
}

fn pong() -> std::io::Result<()> {
    let mut stream = UnixStream::from(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
    let mut message = [0; SIZE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}
