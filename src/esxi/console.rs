//! What a machine shows: a picture of its console.
//!
//! Specification: vSphere Web Services API, `VirtualMachine.CreateScreenshot_Task`.

use super::checked::Checked;
use super::error::Error;
use super::files::split;
use super::host::{Host, Progress};
use super::object::Vm;
use super::soap::{Call, Method};
use super::task::Task;

/// The largest picture that is fetched.
const LARGEST: usize = 32 << 20;

impl Host {
    /// A picture of what a running machine shows, as PNG. The host writes it to the machine's folder, from where it is removed again.
    ///
    /// Errors: `esxi.invalid_power_state` where it is not on.
    pub async fn screenshot(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<Vec<u8>, Error> {
        let taken = async {
            let call = Call::new(&vm.moref, Method::CreateScreenshot);
            let path = Task::start(self, "take a screenshot", &call).await?.done(progress).await?;
            let path = path.map(|path| path.text.trim().to_owned()).unwrap_or_default();
            let bad = |reason: String| Error::BadAnswer { host: self.name().to_owned(), reason };
            let (datastore, file) = split(&path).ok_or_else(|| bad(format!("a screenshot at {path:?}")))?;
            let picture = self.read_picture(datastore, file).await;
            match (picture, self.delete_file(&path).await) {
                (Ok(picture), Ok(())) => Ok(picture),
                (Ok(_), Err(error)) => {
                    Err(Error::LeftBehind { host: self.name().to_owned(), left: vec![path], source: Box::new(error) })
                }
                (Err(error), _) => Err(error),
            }
        };
        taken.await.map_err(|error: Error| error.doing(format!("take a screenshot of {:?}", vm.name)))
    }

    async fn read_picture(&self, datastore: &str, file: &str) -> Result<Vec<u8>, Error> {
        let at = self.link.folder(datastore, file);
        let mut response = self.link.fetch(reqwest::Method::GET, &at, None).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(self.refused(status, file));
        }
        let mut bytes = Vec::new();
        let bad = |reason: &str| Error::BadAnswer { host: self.name().to_owned(), reason: reason.to_owned() };
        while let Some(chunk) = self.next_piece(&mut response).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST {
                return Err(bad("a screenshot larger than 32 MiB"));
            }
        }
        match bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            true => Ok(bytes),
            false => Err(bad("a screenshot that is no PNG")),
        }
    }
}
