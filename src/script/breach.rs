//! A way out of the VM, for tests: what a script could do that had taken over its process.
//!
//! Exists in debug builds only, and there only in a VM whose hardening is off; the attack suite proves with it that the process
//! boundary holds alone, and that it is this boundary which holds. No release binary has it.

use std::io::Read;
use std::rc::Rc;

use mlua::{Lua, LuaString, Table};

use super::calls::Calls;

pub(super) fn table(lua: &Lua, calls: &Rc<Calls>) -> mlua::Result<Table> {
    let breach = lua.create_table()?;
    let function = |name: &str, function: mlua::Function| breach.raw_set(name, function);
    function("read", lua.create_function(|_, path: String| said(std::fs::read_to_string(path)))?)?;
    function(
        "write",
        lua.create_function(|_, (path, text): (String, String)| {
            said(std::fs::write(path, text).map(|()| "written".to_owned()))
        })?,
    )?;
    function(
        "list",
        lua.create_function(|_, path: String| {
            said(std::fs::read_dir(path).map(|entries| entries.count().to_string()))
        })?,
    )?;
    function(
        "connect",
        lua.create_function(|_, address: String| {
            said(std::net::TcpStream::connect(address).map(|_| "connected".to_owned()))
        })?,
    )?;
    function(
        "send_datagram",
        lua.create_function(|_, address: String| {
            let sent = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"out", address));
            said(sent.map(|count| count.to_string()))
        })?,
    )?;
    function(
        "connect_unix",
        lua.create_function(|_, path: String| {
            said(std::os::unix::net::UnixStream::connect(path).map(|_| "connected".to_owned()))
        })?,
    )?;
    function(
        "execute",
        lua.create_function(|_, path: String| {
            said(std::process::Command::new(path).output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned()))
        })?,
    )?;
    // SAFETY: what these do to the process is their purpose.
    function("fork", lua.create_function(|_, ()| Ok(unsafe { libc::fork() }))?)?;
    function("kill", lua.create_function(|_, (pid, signal): (i32, i32)| Ok(unsafe { libc::kill(pid, signal) }))?)?;
    function("parent", lua.create_function(|_, ()| Ok(unsafe { libc::getppid() }))?)?;
    function("trace", lua.create_function(|_, pid: i32| Ok(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) }))?)?;
    function(
        "executable_memory",
        lua.create_function(|_, ()| {
            let (read, write, run) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
            let page = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    read | write | run,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            Ok(page != libc::MAP_FAILED)
        })?,
    )?;
    function(
        "raise_limits",
        lua.create_function(|_, ()| {
            let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            Ok(unsafe { libc::setrlimit(libc::RLIMIT_CPU, &limit) })
        })?,
    )?;
    function("thread", lua.create_function(|_, ()| Ok(std::thread::spawn(|| ()).join().is_ok()))?)?;
    function("abort", lua.create_function(|_, ()| -> mlua::Result<()> { std::process::abort() })?)?;
    function("panic", lua.create_function(|_, ()| -> mlua::Result<()> { panic!("as asked") })?)?;
    function(
        "segfault",
        lua.create_function(|_, ()| {
            // SAFETY: none; this is the crash that the parent must live through.
            unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
            Ok(())
        })?,
    )?;
    // Memory of the process rather than of the VM.
    function(
        "allocate",
        lua.create_function(|_, mebibytes: usize| {
            let block = vec![1u8; mebibytes << 20];
            Ok(std::hint::black_box(block.leak()).len())
        })?,
    )?;
    function(
        "spin",
        lua.create_function(|_, ()| -> mlua::Result<()> {
            loop {
                std::hint::spin_loop();
            }
        })?,
    )?;
    function(
        "block",
        lua.create_function(|_, ()| -> mlua::Result<()> {
            loop {
                std::thread::park();
            }
        })?,
    )?;
    let shared = Rc::clone(calls);
    // Bytes straight into the pipe.
    function(
        "raw",
        lua.create_function(move |_, bytes: LuaString| {
            shared.raw(&bytes.as_bytes());
            Ok(())
        })?,
    )?;
    function(
        "drain",
        lua.create_function(|_, ()| {
            let mut byte = [0; 1];
            said(std::io::stdin().read(&mut byte).map(|count| count.to_string()))
        })?,
    )?;
    Ok(breach)
}

fn said(result: std::io::Result<String>) -> mlua::Result<String> {
    Ok(result.unwrap_or_else(|error| format!("refused: {error}")))
}
