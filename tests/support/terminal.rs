//! A pseudo-terminal with a program on it: what a person would type goes in, what a person would see comes out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a test waits for a text before it fails; not a measure of anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    /// Every byte that came, what a person saw of it, and how much of that was waited for already.
    bytes: Vec<u8>,
    seen: String,
    taken: usize,
}

impl Terminal {
    /// Starts a program on a terminal of its own, 100 columns wide.
    pub fn start(mut command: Command) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: openpty writes two descriptors and reads the size; both descriptors are then owned here alone.
        let (ours, theirs) = unsafe {
            let made = libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null_mut(), &size);
            assert_eq!(made, 0, "a pseudo-terminal: {}", std::io::Error::last_os_error());
            libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
            (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        command
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs.try_clone().unwrap()))
            .stderr(Stdio::from(theirs));
        // SAFETY: between fork and exec only system calls that may be made there.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        let keys = File::from(ours);
        let mut output = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal reports an error once the program is gone.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, bytes: Vec::new(), seen: String::new(), taken: 0 }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the text is shown behind all that was waited for before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.taken..].find(text) {
                self.taken += at + text.len();
                return;
            }
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} did not come; there was: {}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {text:?}; there was: {}", self.seen),
            }
        }
    }

    /// Waits for the next prompt: from then on the program reads keys one by one.
    #[track_caller]
    pub fn prompt(&mut self) {
        self.expect(")> ");
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.seen = plain(&String::from_utf8_lossy(&self.bytes));
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(500)) {
                    self.take(&bytes);
                }
                return (status, std::mem::take(&mut self.seen));
            }
            assert!(Instant::now() < until, "it does not end; there was: {}", self.seen);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The text without what moves the cursor and colours; a terminal's own redrawing stays.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|c| c.is_ascii_alphabetic());
                }
            }
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}
