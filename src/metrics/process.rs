//! The families that every Prometheus client has of its own process: `process_…`, in the words that dashboards expect.

use std::fmt::Write as _;

/// The names, with kind and help, in the order in which they are told.
pub const FAMILIES: &[(&str, &str, &str)] = &[
    ("process_cpu_seconds_total", "counter", "Processor time of this process."),
    ("process_resident_memory_bytes", "gauge", "Memory of this process."),
    ("process_start_time_seconds", "gauge", "When this process began, in seconds since 1970."),
];

/// Adds those that this machine tells.
pub fn append(out: &mut String) {
    for (name, kind, help) in FAMILIES {
        let value = match *name {
            "process_cpu_seconds_total" => cpu(),
            "process_resident_memory_bytes" => resident(),
            _ => started(),
        };
        if let Some(value) = value {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
}

fn cpu() -> Option<f64> {
    // SAFETY: getrusage writes the struct and keeps no pointer to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
    }?;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * sysconf(libc::_SC_PAGESIZE)?)
}

/// Computed from the boot and the process's start after it, as `/proc` has them.
fn started() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; the numbers follow the last one.
    let ticks: f64 = stat.rsplit(')').next()?.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / sysconf(libc::_SC_CLK_TCK)?)
}

fn sysconf(name: libc::c_int) -> Option<f64> {
    // SAFETY: sysconf takes a number and gives one.
    let value = unsafe { libc::sysconf(name) };
    (value > 0).then_some(value as f64)
}
