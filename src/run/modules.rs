//! The files that a script may `require`: those under its own folder, and no link out of it.
//!
//! Owns the resolution of names and the opening of files. A name is relative to the folder of the playbook (`x`, `lib/x`) or, with
//! `./` and `../`, to the module that asks; it is made absolute as text before anything is opened, and the kernel is told to stay beneath
//! the folder and to follow no links (openat2(2)). Where it knows no openat2, each component is opened by itself.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

use crate::error::Fault;
use crate::units::Bytes;
use crate::wire::Value;

/// The longest name that is looked for.
const LONGEST: usize = 200;

/// What a name stands for, in the order in which it is tried.
const FORMS: [&str; 4] = [".luau", ".lua", "/init.luau", "/init.lua"];

/// The folder of one playbook.
pub struct Modules {
    folder: Option<OwnedFd>,
    limit: Bytes,
}

/// A module as it was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Its path under the folder: `lib/net.luau`. It is the module's name, in errors and when it requires others.
    pub name: String,
    pub text: Vec<u8>,
}

impl Module {
    /// The answer to [`crate::wire::FromWorker::Module`].
    pub fn into_value(self) -> Value {
        Value::Map(vec![("name".to_owned(), Value::Text(self.name)), ("text".to_owned(), Value::Bytes(self.text))])
    }
}

enum Opened {
    File(Vec<u8>),
    /// No such file; another form may exist.
    Absent,
}

impl Modules {
    /// The modules under a folder, each at most `limit` bytes.
    pub fn under(folder: &Path, limit: Bytes) -> Result<Self, Fault> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let opened =
            open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
                Fault::new(
                    "script.no_module",
                    format!("the script's folder {} cannot be opened: {error}", folder.display()),
                )
            })?;
        Ok(Self { folder: Some(opened), limit })
    }

    /// No modules: for a script that came from standard input, and for the REPL.
    pub fn none() -> Self {
        Self { folder: None, limit: Bytes(0) }
    }

    /// Finds what `require(name)` means in the module `from` (empty: the script itself).
    pub fn find(&self, name: &str, from: &str) -> Result<Module, Fault> {
        let Some(folder) = &self.folder else {
            return Err(Fault::new(
                "script.no_module",
                format!("{:?} was required by a script that has no folder", shorten(name)),
            )
            .hint("modules are found beside a script that is a file; require(\"@ceso/…\") works everywhere"));
        };
        let path = resolve(name, from)?;
        let exact = [".luau", ".lua"].iter().any(|ending| path.ends_with(ending));
        let forms: Vec<String> =
            if exact { vec![path.clone()] } else { FORMS.iter().map(|form| format!("{path}{form}")).collect() };
        for name in forms {
            match self.read(folder.as_fd(), &name)? {
                Opened::File(text) => return Ok(Module { name, text }),
                Opened::Absent => {}
            }
        }
        Err(Fault::new("script.no_module", format!("there is no module {:?}", shorten(&path)))
            .hint(format!("looked for {path}.luau, {path}.lua and {path}/init.luau under the script's folder")))
    }

    /// Finds the script that a test in the file `from` names: relative to that file, never out of the folder.
    ///
    /// Faults: `usage.file`.
    pub fn script(&self, name: &str, from: &str) -> Result<Module, Fault> {
        let relative =
            if name.starts_with("./") || name.starts_with("../") { name.to_owned() } else { format!("./{name}") };
        let refused = |why: &str| {
            Fault::new("usage.file", format!("t:run({:?}): {why}", shorten(name))).hint(
                "a playbook is a .luau file in the folder that ceso test was given, or below; --root names a wider folder",
            )
        };
        if name.starts_with('/') || ![".luau", ".lua"].iter().any(|ending| name.ends_with(ending)) {
            return Err(refused("it is no path of a .luau file, from the test's own folder"));
        }
        self.find(&relative, from).map_err(|fault| {
            let message = fault.message();
            match message.strip_prefix("require(").and_then(|rest| rest.split_once("): ")) {
                Some((_, why)) => refused(&why.replace("the script's folder", "the folder of the tests")),
                None => refused(message),
            }
        })
    }

    fn read(&self, folder: BorrowedFd<'_>, name: &str) -> Result<Opened, Fault> {
        let refused = |why: String| {
            Fault::new("script.module_refused", format!("the module {:?} cannot be read: {why}", shorten(name)))
        };
        let file = match open_beneath(folder, name) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Opened::Absent),
            Err(Errno::LOOP | Errno::XDEV) => {
                return Err(refused("it is a link, or leads out of the script's folder".to_owned())
                    .hint("copy the file into the folder"));
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        let about = fstat(&file).map_err(|error| refused(error.to_string()))?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(refused("it is no file".to_owned()));
        }
        let mut text = Vec::new();
        let most = self.limit.0.saturating_add(1);
        std::fs::File::from(file).take(most).read_to_end(&mut text).map_err(|error| refused(error.to_string()))?;
        if text.len() as u64 > self.limit.0 {
            return Err(Fault::new(
                "limit.source",
                format!(
                    "the module {:?} passes the limit of source, {} (setting sandbox.source)",
                    shorten(name),
                    self.limit
                ),
            )
            .hint("raise sandbox.source, or split the module"));
        }
        Ok(Opened::File(text))
    }
}

/// The path under the folder that a name means. It holds no `.`, no `..` and nothing that a file name cannot.
fn resolve(name: &str, from: &str) -> Result<String, Fault> {
    let refused = |why: &str| {
        Err(Fault::new("script.module_refused", format!("require({:?}): {why}", shorten(name)))
            .hint("write require(\"./x\"), require(\"x\") or require(\"@ceso/…\")"))
    };
    if name.is_empty() || name.len() > LONGEST {
        return refused("a module's name has 1 to 200 characters");
    }
    if name.starts_with(['/', '~']) || name.contains(['\\', ':', '%']) || name.chars().any(char::is_control) {
        return refused("a module's name is a path under the script's folder, written with /");
    }
    let relative = name.starts_with("./") || name.starts_with("../") || name == "." || name == "..";
    let mut parts: Vec<&str> = match from.rsplit_once('/') {
        Some((folder, _)) if relative => folder.split('/').collect(),
        _ => Vec::new(),
    };
    for part in name.split('/') {
        match part {
            "." => {}
            "" => return refused("a part of the path is empty"),
            ".." if parts.pop().is_none() => return refused("it leads out of the script's folder"),
            ".." => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return refused("it names a folder");
    }
    // The worker says which module asks, and it is not trusted.
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || parts.iter().any(|part| part.contains('\0')) {
        return refused("it leads out of the script's folder");
    }
    Ok(parts.join("/"))
}

fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW);

#[cfg(target_os = "linux")]
fn open_beneath(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};

    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(folder, name, READ, Mode::empty(), how) {
        // An old kernel, or a container's filter that knows no such call.
        Err(Errno::NOSYS | Errno::PERM) => open_each(folder, name),
        result => result,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    open_each(folder, name)
}

/// Opens one component after the other and follows none that is a link.
fn open_each(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let mut parts: Vec<&str> = name.split('/').collect();
    let last = parts.pop().ok_or(Errno::NOENT)?;
    let mut at: Option<OwnedFd> = None;
    for part in parts {
        let here = at.as_ref().map_or(folder, |at| at.as_fd());
        at = Some(match openat(here, part, READ | OFlags::DIRECTORY, Mode::empty()) {
            // A link that is asked to be a folder says so and not that it is a link.
            Err(Errno::NOTDIR) if is_link(here, part) => return Err(Errno::LOOP),
            result => result?,
        });
    }
    openat(at.as_ref().map_or(folder, |at| at.as_fd()), last, READ, Mode::empty())
}

fn is_link(folder: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_module_that_claims_to_lie_elsewhere_leads_nowhere() {
        for from in ["../../x", "/etc/x", "a/../../x", "./x", "a\0b/x"] {
            let found = super::resolve("./passwd", from);
            assert_eq!(found.unwrap_err().kind(), "script.module_refused", "{from}");
        }
    }

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("playbook");
        fs::create_dir_all(inner.join("lib/deep")).unwrap();
        fs::write(outer.path().join("secret.luau"), "return 'secret'").unwrap();
        fs::write(inner.join("a.luau"), "return 1").unwrap();
        fs::write(inner.join("old.lua"), "return 2").unwrap();
        fs::write(inner.join("lib/init.luau"), "return 3").unwrap();
        fs::write(inner.join("lib/deep/b.luau"), "return 4").unwrap();
        fs::write(inner.join("big.luau"), vec![b' '; 2000]).unwrap();
        symlink("../secret.luau", inner.join("link.luau")).unwrap();
        symlink(outer.path(), inner.join("out")).unwrap();
        symlink("a.luau", inner.join("inside.luau")).unwrap();
        symlink("/proc/self/environ", inner.join("magic.luau")).unwrap();
        outer
    }

    #[test]
    fn modules_are_found_by_the_names_that_people_write() {
        let outer = folder();
        let modules = Modules::under(&outer.path().join("playbook"), Bytes(1000)).unwrap();
        for (name, from, found) in [
            ("a", "", "a.luau"),
            ("./a", "", "a.luau"),
            ("a.luau", "", "a.luau"),
            ("old", "", "old.lua"),
            ("lib", "", "lib/init.luau"),
            ("lib/deep/b", "a.luau", "lib/deep/b.luau"),
            ("./deep/b", "lib/init.luau", "lib/deep/b.luau"),
            ("../init", "lib/deep/b.luau", "lib/init.luau"),
            ("../../a", "lib/deep/b.luau", "a.luau"),
            ("a", "lib/deep/b.luau", "a.luau"),
        ] {
            assert_eq!(modules.find(name, from).unwrap().name, found, "{name} from {from}");
        }
        assert_eq!(modules.find("nothing", "").unwrap_err().kind(), "script.no_module");
        assert_eq!(modules.find("big", "").unwrap_err().kind(), "limit.source");
        assert_eq!(Modules::none().find("a", "").unwrap_err().kind(), "script.no_module");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let outer = folder();
        let inside = outer.path().join("playbook");
        let modules = Modules::under(&inside, Bytes(1000)).unwrap();
        let absolute = outer.path().join("secret").display().to_string();
        for name in [
            "../secret",
            "./../secret",
            "lib/../../secret",
            "link",
            "out/secret",
            "inside",
            "magic",
            "/etc/passwd",
            "~/x",
            "..",
            ".",
            "",
            "a//b",
            "a\\b",
            "a\0b",
            "C:x",
            "%2e%2e/secret",
            &absolute,
            &"x".repeat(1000),
            "lib/..",
        ] {
            let fault = modules.find(name, "").unwrap_err();
            assert!(fault.is("script"), "{name}: {fault:?}");
        }
        assert!(modules.find("../../../secret", "lib/deep/b.luau").is_err());
    }

    #[test]
    fn an_old_kernel_is_as_strict() {
        let outer = folder();
        let folder = open(outer.path().join("playbook"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(open_each(folder.as_fd(), "lib/deep/b.luau").is_ok());
        for name in ["link.luau", "out/secret.luau", "inside.luau", "magic.luau"] {
            assert_eq!(open_each(folder.as_fd(), name).unwrap_err(), Errno::LOOP, "{name}");
        }
        assert!(open_each(folder.as_fd(), "nothing.luau").is_err());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let outer = folder();
        let inside = outer.path().join("playbook");
        rustix::fs::mknodat(rustix::fs::CWD, inside.join("pipe.luau"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        fs::create_dir(inside.join("folder.luau")).unwrap();
        let modules = Modules::under(&inside, Bytes(1000)).unwrap();
        assert_eq!(modules.find("pipe", "").unwrap_err().kind(), "script.module_refused");
        assert_eq!(modules.find("folder", "").unwrap_err().kind(), "script.module_refused");
    }
}
