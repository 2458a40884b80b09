//! What is done inside a guest through its tools: programs run, files carried in and out.
//!
//! The guest's user and password go to the host with each call, and are told to nobody else. A program's output goes into files of the
//! guest that are fetched and removed. Specification: vSphere Web Services API, `GuestProcessManager`, `GuestFileManager`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::units::Span;
use crate::xml::Element;

use super::checked::Checked;
use super::endpoint::Endpoint;
use super::error::Error;
use super::host::{Host, Progress, Step};
use super::moref::MoRef;
use super::object::Vm;
use super::pieces::Form;
use super::property::{Query, boolean};
use super::soap::{Call, Method};
use super::transfer::{Content, Sink, Sum, Transferred};
use super::vm_list::text;

/// How soon a process is looked at first, and how far apart the looks come to be.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// A user of the guest.
#[derive(Debug, Clone, Copy)]
pub struct GuestLogin<'a> {
    pub user: &'a str,
    pub password: &'a SecretString,
}

impl GuestLogin<'_> {
    fn element(self) -> Element {
        Element::new("auth")
            .typed("NamePasswordAuthentication")
            .with(Element::leaf("interactiveSession", "false"))
            .with(Element::leaf("username", self.user))
            .with(Element::leaf("password", self.password.expose_secret()))
    }
}

/// A program to run in a guest.
#[derive(Debug)]
pub struct GuestProgram<'a> {
    /// Its absolute path.
    pub program: &'a str,
    pub arguments: &'a [String],
    /// `KEY=value`.
    pub environment: Vec<String>,
    pub directory: Option<&'a str>,
    /// The most of each output that is fetched, in bytes.
    pub limit: u64,
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRun {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Whether there was more output than was fetched.
    pub truncated: bool,
}

/// What a guest's tools tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// Such as `guestToolsRunning`.
    pub tools: Option<String>,
    pub tools_version: Option<String>,
    /// Whether programs can be run in it.
    pub ready: bool,
    pub hostname: Option<String>,
    /// Such as `Debian GNU/Linux 12 (64-bit)`.
    pub system: Option<String>,
    /// `linuxGuest`, `windowsGuest`, …
    pub family: Option<String>,
    pub nics: Vec<GuestNic>,
}

/// A network card as its guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestNic {
    pub mac: Option<String>,
    pub network: Option<String>,
    pub connected: bool,
    /// All of its addresses, link-local ones too.
    pub addresses: Vec<String>,
}

struct Managers {
    processes: MoRef,
    files: MoRef,
}

impl Host {
    /// Reads what a guest's tools tell of it.
    pub async fn guest_facts(&self, vm: &Checked<Vm>) -> Result<GuestFacts, Error> {
        let paths = [
            "guest.toolsRunningStatus",
            "guest.toolsVersion",
            "guest.guestOperationsReady",
            "guest.hostName",
            "guest.guestFullName",
            "guest.guestFamily",
            "guest.net",
        ];
        let objects = self.link.retrieve(&Query::object(&vm.moref, "VirtualMachine", &paths)).await?;
        let Some(object) = objects.first() else { return Ok(GuestFacts::default()) };
        let word = |path: &str| object.text(path).map(str::to_owned);
        let nics = object.get("guest.net").map(|net| net.children.as_slice()).unwrap_or_default();
        let nic = |nic: &Element| GuestNic {
            mac: text(nic, "macAddress"),
            network: text(nic, "network"),
            connected: nic.text_at("connected").and_then(boolean).unwrap_or(false),
            addresses: nic.all("ipAddress").map(|address| address.text.trim().to_owned()).collect(),
        };
        Ok(GuestFacts {
            tools: word("guest.toolsRunningStatus"),
            tools_version: word("guest.toolsVersion"),
            ready: object.flag("guest.guestOperationsReady").unwrap_or(false),
            hostname: word("guest.hostName"),
            system: word("guest.guestFullName"),
            family: word("guest.guestFamily"),
            nics: nics.iter().map(nic).collect(),
        })
    }

    async fn guest_managers(&self) -> Result<Managers, Error> {
        let instance = MoRef::new("ServiceInstance", "ServiceInstance");
        let content = self.link.call(&Call::new(&instance, Method::RetrieveServiceContent)).await?;
        let operations = content.at("returnval.guestOperationsManager").and_then(MoRef::read);
        let operations = operations.ok_or_else(|| self.lacks("guest operations"))?;
        let query = Query::object(&operations, "GuestOperationsManager", &["fileManager", "processManager"]);
        let objects = self.link.retrieve(&query).await?;
        let find = |name: &str| objects.iter().find_map(|object| object.reference(name));
        match (find("processManager"), find("fileManager")) {
            (Some(processes), Some(files)) => Ok(Managers { processes, files }),
            _ => Err(self.lacks("managers of guests' processes and files")),
        }
    }

    /// Runs a program in a guest to its end, and collects what it wrote.
    ///
    /// Errors: `esxi.invalid_guest_login`, `esxi.guest_operations_unavailable` where no tools run, `esxi.timeout` (then it is
    /// terminated), `esxi.file_not_found` where there is no such program.
    pub async fn run_in_guest(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        program: &GuestProgram<'_>,
        windows: bool,
        progress: Progress<'_>,
    ) -> Result<GuestRun, Error> {
        progress(Step { what: "run in the guest", percent: None });
        let ran = async {
            let managers = self.guest_managers().await?;
            let call = |this: &MoRef, method| Call::new(this, method).with_ref("vm", &vm.moref).with(login.element());
            let make = call(&managers.files, Method::CreateTemporaryDirectoryInGuest)
                .with_text("prefix", "ceso-")
                .with_text("suffix", "");
            let made = self.link.call(&make).await?;
            let folder = made.text_at("returnval").unwrap_or_default().to_owned();
            let done = self.run_into(vm, login, program, &managers, &folder, windows).await;
            let clear = call(&managers.files, Method::DeleteDirectoryInGuest)
                .with_text("directoryPath", &folder)
                .with_text("recursive", "true");
            let cleared = self.link.call(&clear).await;
            match (done, cleared) {
                (Ok(done), Ok(_)) => Ok(done),
                // What it did is done, whatever is left of its output.
                (Ok(done), Err(error)) => {
                    tracing::warn!(host = self.name(), %error, folder, "a folder of a guest was not removed");
                    Ok(done)
                }
                (Err(error), _) => Err(error),
            }
        };
        ran.await.map_err(|error: Error| error.doing(format!("run {} in the guest of {:?}", program.program, vm.name)))
    }

    async fn run_into(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        program: &GuestProgram<'_>,
        managers: &Managers,
        folder: &str,
        windows: bool,
    ) -> Result<GuestRun, Error> {
        let slash = if windows { '\\' } else { '/' };
        let [out, err] = ["out", "err"].map(|name| format!("{folder}{slash}{name}"));
        let (path, arguments) = if windows { for_cmd(program, &out, &err)? } else { for_sh(program, &out, &err)? };
        let mut spec =
            Element::new("spec").with(Element::leaf("programPath", path)).with(Element::leaf("arguments", arguments));
        if let Some(directory) = program.directory {
            spec = spec.with(Element::leaf("workingDirectory", directory));
        }
        spec = spec.with_all(program.environment.iter().map(|entry| Element::leaf("envVariables", entry)));
        let call = |this: &MoRef, method| Call::new(this, method).with_ref("vm", &vm.moref).with(login.element());
        let started = self.link.call(&call(&managers.processes, Method::StartProgramInGuest).with(spec)).await?;
        let pid = started.text_at("returnval").unwrap_or_default().trim().to_owned();
        let look = call(&managers.processes, Method::ListProcessesInGuest).with_text("pids", &pid);
        let began = std::time::Instant::now();
        let mut pause = FIRST;
        let exit_code = loop {
            let answer = self.link.call(&look).await?;
            let process = answer.all("returnval").find(|process| process.text_at("pid").map(str::trim) == Some(&pid));
            let code =
                process.and_then(|process| process.text_at("exitCode")).and_then(|code| code.trim().parse().ok());
            if let Some(code) = code {
                break code;
            }
            if process.is_none() {
                let reason = format!("the process {pid} is gone, and its end was not told");
                return Err(Error::BadAnswer { host: self.name().to_owned(), reason });
            }
            if began.elapsed() + pause > program.timeout {
                let end = call(&managers.processes, Method::TerminateProcessInGuest).with_text("pid", &pid);
                let ended = self.link.call(&end).await;
                let what = match ended {
                    Ok(_) => format!("the end of {}, which was terminated", program.program),
                    Err(error) => format!("the end of {}, which still runs ({error})", program.program),
                };
                return Err(Error::WaitedInVain { host: self.name().to_owned(), what, after: Span(program.timeout) });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        };
        let (stdout, more_out) = self.read_in_guest(vm, login, managers, &out, program.limit).await?;
        let (stderr, more_err) = self.read_in_guest(vm, login, managers, &err, program.limit).await?;
        Ok(GuestRun { exit_code, stdout, stderr, truncated: more_out || more_err })
    }

    /// The beginning of a guest's file, and whether there is more.
    async fn read_in_guest(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        managers: &Managers,
        path: &str,
        limit: u64,
    ) -> Result<(Vec<u8>, bool), Error> {
        let (at, size) = self.guest_source(vm, login, managers, path).await?;
        let mut response = self.link.fetch(reqwest::Method::GET, &at, None).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(self.refused(status, path));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next_piece(&mut response).await? {
            let room = limit.saturating_sub(bytes.len()).min(chunk.len());
            bytes.extend(chunk.iter().take(room));
            if room < chunk.len() {
                return Ok((bytes, true));
            }
        }
        let more = size.is_some_and(|size| size > bytes.len() as u64);
        Ok((bytes, more))
    }

    async fn guest_source(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        managers: &Managers,
        path: &str,
    ) -> Result<(Endpoint, Option<u64>), Error> {
        let call = Call::new(&managers.files, Method::InitiateFileTransferFromGuest)
            .with_ref("vm", &vm.moref)
            .with(login.element())
            .with_text("guestFilePath", path);
        let answer = self.link.call(&call).await?;
        let size = answer.text_at("returnval.size").and_then(|size| size.trim().parse().ok());
        Ok((self.endpoint(answer.text_at("returnval.url").unwrap_or_default()).await?, size))
    }

    /// Streams a file out of a guest. Errors: `esxi.file_not_found`, `esxi.invalid_guest_login`.
    pub async fn download_from_guest(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        path: &str,
        sink: Sink,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let got = async {
            let managers = self.guest_managers().await?;
            let (at, _) = self.guest_source(vm, login, &managers, path).await?;
            self.stream_out(&at, path, (Form::Any, Sum::Told), sink, progress).await
        };
        got.await.map_err(|error: Error| error.doing(format!("download {path} from the guest of {:?}", vm.name)))
    }

    /// Streams a file into a guest. Errors: `esxi.file_already_exists` unless it may be overwritten, `esxi.invalid_guest_login`.
    pub async fn upload_to_guest(
        &self,
        vm: &Checked<Vm>,
        login: GuestLogin<'_>,
        path: &str,
        content: Content<'_>,
        (overwrite, windows): (bool, bool),
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let sent = async {
            let managers = self.guest_managers().await?;
            let kind = if windows { "GuestWindowsFileAttributes" } else { "GuestPosixFileAttributes" };
            let call = Call::new(&managers.files, Method::InitiateFileTransferToGuest)
                .with_ref("vm", &vm.moref)
                .with(login.element())
                .with_text("guestFilePath", path)
                .with(Element::new("fileAttributes").typed(kind))
                .with_text("fileSize", content.length.to_string())
                .with_text("overwrite", overwrite.to_string());
            let answer = self.link.call(&call).await?;
            let at = self.endpoint(answer.text_at("returnval").unwrap_or_default()).await?;
            let refused = |status| self.refused(status, path);
            self.put(&at, "PUT guest file", &content, "upload", progress, &refused).await
        };
        sent.await.map_err(|error: Error| error.doing(format!("upload {path} to the guest of {:?}", vm.name)))
    }
}

/// The path and the arguments for a guest whose tools give both to a shell. What cannot be seen stays out: a line's end would be a
/// further command.
fn for_sh(program: &GuestProgram<'_>, out: &str, err: &str) -> Result<(String, String), Error> {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let mut words: Vec<String> = program.arguments.iter().map(|word| quoted(word)).collect();
    words.push(format!("< /dev/null > {} 2> {}", quoted(out), quoted(err)));
    check(program, |c| c == '\0')?;
    Ok((program.program.to_owned(), words.join(" ")))
}

/// The same for Windows, where `cmd.exe` is what redirects. What it would take for more than text is refused.
fn for_cmd(program: &GuestProgram<'_>, out: &str, err: &str) -> Result<(String, String), Error> {
    check(program, |c| c.is_control() || "\"%!^&|<>".contains(c))?;
    let quoted = |word: &str| format!("\"{word}\"");
    let words: Vec<String> = program.arguments.iter().map(|word| quoted(word)).collect();
    let line = format!("{} {} > {} 2> {}", quoted(program.program), words.join(" "), quoted(out), quoted(err));
    Ok((r"C:\Windows\System32\cmd.exe".to_owned(), format!("/c \"{line}\"")))
}

fn check(program: &GuestProgram<'_>, wrong: impl Fn(char) -> bool) -> Result<(), Error> {
    let all = || std::iter::once(program.program).chain(program.arguments.iter().map(String::as_str));
    if program.program.contains(['"', '$', '`', '\\', '\n']) && !program.program.contains(':')
        || all().any(|word| word.contains(&wrong))
    {
        let reason =
            "a program or an argument holds characters that its guest would take for more than text".to_owned();
        return Err(Error::Invalid { reason, hint: Some("upload a script with them, and run that".to_owned()) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program<'a>(program: &'a str, arguments: &'a [String]) -> GuestProgram<'a> {
        let (environment, directory) = (Vec::new(), None);
        GuestProgram { program, arguments, environment, directory, limit: 1, timeout: Duration::ZERO }
    }

    #[test]
    fn arguments_stay_words_whatever_is_in_them() {
        let words = ["a b".to_owned(), "it's; $(rm -rf /)".to_owned(), "x\ny".to_owned()];
        let (path, line) = for_sh(&program("/bin/echo", &words), "/tmp/o", "/tmp/e").unwrap();
        assert_eq!(path, "/bin/echo");
        assert_eq!(line, "'a b' 'it'\\''s; $(rm -rf /)' 'x\ny' < /dev/null > '/tmp/o' 2> '/tmp/e'");
        for wrong in ["/bin/echo\"; reboot; \"", "/bin/$(reboot)", "/bin/`x`", "/bin/a\nb"] {
            assert!(for_sh(&program(wrong, &[]), "o", "e").is_err(), "{wrong:?}");
        }
        let (path, line) = for_cmd(&program(r"C:\a.exe", &["b c".to_owned()]), r"C:\o", r"C:\e").unwrap();
        assert!(path.ends_with("cmd.exe"));
        assert_eq!(line, r#"/c ""C:\a.exe" "b c" > "C:\o" 2> "C:\e"""#);
        for wrong in ["a\"b", "%PATH%", "a&b", "a|b", "a\nb", "a^b"] {
            assert!(for_cmd(&program(r"C:\a.exe", &[wrong.to_owned()]), "o", "e").is_err(), "{wrong:?}");
        }
    }
}
