//! The process's jail: landlock, resource limits and seccomp, closed in this order once the VM is up.
//!
//! Owns what the worker may ask of the kernel: to read and write the descriptors it has, memory that is not executable, the
//! clock, its own end. It must run on the worker's only thread (landlock binds the calling thread), and after everything that opens
//! a file: the VM, the time zone, the hash seeds. Sources: landlock(7), seccomp(2), setrlimit(2).

use std::time::Duration;

use crate::wire::{JailPart, Limits};

/// The parts of a full jail, in the order in which they are closed.
pub const PARTS: [&str; 3] = ["landlock", "limits", "seccomp"];

/// Whether every part holds.
pub fn is_full(parts: &[JailPart]) -> bool {
    PARTS.iter().all(|name| parts.iter().any(|part| part.name == *name && part.missing.is_none()))
}

/// Says in one line what is missing: `landlock: the kernel has none; seccomp: …`.
pub fn missing(parts: &[JailPart]) -> String {
    let reasons: Vec<String> = PARTS
        .iter()
        .filter_map(|name| match parts.iter().find(|part| part.name == *name) {
            None => Some(format!("{name}: not reported")),
            Some(part) => part.missing.as_ref().map(|why| format!("{name}: {why}")),
        })
        .collect();
    reasons.join("; ")
}

/// Closes the jail round this process for good, and tells which parts hold. `spare` is the memory that the VM may still take.
pub(super) fn close(limits: &Limits, spare: u64) -> Vec<JailPart> {
    let steps: [Result<(), String>; 3] = [landlock(), resources(limits, spare), system_calls()];
    PARTS.iter().zip(steps).map(|(name, step)| JailPart { name: (*name).to_owned(), missing: step.err() }).collect()
}

#[cfg(not(target_os = "linux"))]
fn landlock() -> Result<(), String> {
    Err("only Linux has it".to_owned())
}

#[cfg(not(target_os = "linux"))]
fn system_calls() -> Result<(), String> {
    Err("only Linux has it".to_owned())
}

/// Denies every access to files, and to TCP where the kernel knows how (ABI 4). What a kernel lacks, seccomp denies as well.
#[cfg(target_os = "linux")]
fn landlock() -> Result<(), String> {
    use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus};

    let close = |abi: ABI, network: bool| -> Result<RulesetStatus, landlock::RulesetError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))?;
        if network {
            rules = rules.handle_access(AccessNet::from_all(abi))?;
        }
        Ok(rules.create()?.restrict_self()?.ruleset)
    };
    let mut why = String::new();
    // The strongest that this kernel knows in full, so that nothing is dropped in silence.
    for (abi, network) in [(ABI::V5, true), (ABI::V4, true), (ABI::V3, false), (ABI::V2, false), (ABI::V1, false)] {
        match close(abi, network) {
            Ok(RulesetStatus::FullyEnforced) => return Ok(()),
            Ok(status) => why = format!("the kernel enforces it only as {status:?}"),
            Err(error) => why = format!("the kernel refused it: {error}"),
        }
    }
    Err(why)
}

/// No files written, none opened, no processes, no core; processor time and address space within the limits.
fn resources(limits: &Limits, spare: u64) -> Result<(), String> {
    let set = |resource, soft: u64, hard: u64| {
        let limit = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
        // SAFETY: setrlimit reads the struct and keeps no pointer to it.
        match unsafe { libc::setrlimit(resource, &limit) } {
            0 => Ok(()),
            _ => Err(format!("setrlimit: {}", std::io::Error::last_os_error())),
        }
    };
    // The soft limit ends the process with SIGXCPU, which tells the parent why.
    let seconds = ceiling(limits.cpu_time.0).saturating_add(1);
    set(libc::RLIMIT_CPU, seconds, seconds.saturating_add(2))?;
    let space = address_space()?.saturating_add(spare);
    set(libc::RLIMIT_AS, space, space)?;
    set(libc::RLIMIT_FSIZE, 0, 0)?;
    set(libc::RLIMIT_CORE, 0, 0)?;
    #[cfg(target_os = "linux")]
    set(libc::RLIMIT_NPROC, 0, 0)?;
    // poll(2) wants the limit to be no less than the descriptors it is given; 0, 1 and 2 are taken, so no other can be opened.
    set(libc::RLIMIT_NOFILE, 3, 3)
}

fn ceiling(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What the process has mapped now, in bytes.
#[cfg(target_os = "linux")]
fn address_space() -> Result<u64, String> {
    // Opened through procfs, which landlock has closed already: so it is read beforehand, by `prepare`.
    match MAPPED.load(std::sync::atomic::Ordering::Relaxed) {
        0 => Err("/proc/self/statm could not be read".to_owned()),
        bytes => Ok(bytes),
    }
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Result<u64, String> {
    Ok(1 << 32)
}

#[cfg(target_os = "linux")]
static MAPPED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Does what needs the system once, before the jail: the time zone, the hash seeds, the size of the mapping.
pub(super) fn prepare() {
    // Luau's os.date reads the time zone; under the jail that file cannot be opened.
    // SAFETY: the worker has one thread, and nothing else reads the environment.
    unsafe {
        libc::setenv(c"TZ".as_ptr(), c"UTC0".as_ptr(), 1);
        tzset();
    }
    // A hash map's first seed is asked of the kernel.
    std::hint::black_box(std::collections::hash_map::RandomState::new());
    #[cfg(target_os = "linux")]
    if let Ok(text) = std::fs::read_to_string("/proc/self/statm") {
        let pages: u64 = text.split_whitespace().next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
        MAPPED.store(pages * page_size(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
fn page_size() -> u64 {
    // SAFETY: sysconf takes a number and gives a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

unsafe extern "C" {
    /// tzset(3): not in the libc crate for every target.
    safe fn tzset();
}

/// Lets through what every script was found to need and kills the process at anything else.
#[cfg(target_os = "linux")]
fn system_calls() -> Result<(), String> {
    use std::collections::BTreeMap;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    let argument = |index, op, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value);
    let build = || -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let free = [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_brk,
            libc::SYS_futex,
            libc::SYS_exit_group,
            libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack,
            libc::SYS_clock_gettime,
            // Waiting for the parent with an eye on the deadline.
            libc::SYS_ppoll,
            libc::SYS_restart_syscall,
            // abort(3), on the way to the tgkill below.
            libc::SYS_rt_sigprocmask,
            libc::SYS_getpid,
            libc::SYS_gettid,
        ];
        for call in free {
            rules.insert(call, Vec::new());
        }
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_poll, Vec::new());
        let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![argument(2, executable, 0)?])?]);
        // The process may end itself by abort, and signal no other.
        let own = u64::from(std::process::id());
        rules.insert(
            libc::SYS_tgkill,
            vec![SeccompRule::new(vec![
                argument(0, SeccompCmpOp::Eq, own)?,
                argument(2, SeccompCmpOp::Eq, libc::SIGABRT as u64)?,
            ])?],
        );
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
    };
    let program = build().map_err(|error| format!("no filter for this machine: {error}"))?;
    seccompiler::apply_filter(&program).map_err(|error| format!("the kernel refused it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, missing: Option<&str>) -> JailPart {
        JailPart { name: name.to_owned(), missing: missing.map(str::to_owned) }
    }

    #[test]
    fn a_jail_with_a_part_missing_is_not_full_and_says_why() {
        let whole: Vec<_> = PARTS.iter().map(|name| part(name, None)).collect();
        assert!(is_full(&whole));
        assert!(!is_full(&whole[1..]));
        assert_eq!(missing(&whole[1..]), "landlock: not reported");
        let partial = [part("landlock", Some("no such thing")), part("limits", None), part("seccomp", None)];
        assert!(!is_full(&partial));
        assert_eq!(missing(&partial), "landlock: no such thing");
    }
}
