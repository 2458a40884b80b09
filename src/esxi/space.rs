//! The space of a datastore: what does not fit is refused before it is sent, and what did not fit is told with how much was missing.

use crate::units;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::object::Datastore;
use super::property::Query;

impl Host {
    /// Refuses what does not fit, before anything is sent.
    pub(super) async fn check_space(&self, datastore: &Datastore, needed: u64) -> Result<(), Error> {
        match self.free_space(datastore).await? {
            Some(free) if needed > free => Err(self.no_space(datastore, needed, free)),
            _ => Ok(()),
        }
    }

    /// Says how much was missing where the host only says that there was too little.
    pub(super) async fn missing_space(&self, datastore: &Datastore, needed: u64, error: Error) -> Error {
        let full = error.is("NoDiskSpace") || matches!(error.root(), Error::Transfer { status: 507, .. });
        if !full {
            return error;
        }
        match self.free_space(datastore).await {
            Ok(Some(free)) if needed > free => error.because(self.no_space(datastore, needed, free)),
            _ => error,
        }
    }

    /// Says how much was missing where a copy did not fit.
    pub(super) async fn with_space<T>(
        &self,
        datastore: &Datastore,
        needed: Option<u64>,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        match (result, needed) {
            (Err(error), Some(needed)) => Err(self.missing_space(datastore, needed, error).await),
            (result, _) => result,
        }
    }

    /// How much is missing for what needs that much, or at `most` that much; `None` where there is room for it.
    pub async fn lacking(&self, datastore: &Checked<Datastore>, needed: u64, most: bool) -> Option<Error> {
        match self.free_space(datastore).await {
            Ok(Some(free)) if needed > free => {
                let (host, datastore) = (self.name().to_owned(), datastore.name.clone());
                let (needed, free) = (units::Bytes(needed), units::Bytes(free));
                Some(Error::NoSpace { host, datastore, needed, free, most })
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(host = self.name(), "how much is free was not learned: {error}");
                None
            }
        }
    }

    fn no_space(&self, datastore: &Datastore, needed: u64, free: u64) -> Error {
        let (needed, free) = (units::Bytes(needed), units::Bytes(free));
        Error::NoSpace { host: self.name().to_owned(), datastore: datastore.name.clone(), needed, free, most: false }
    }

    async fn free_space(&self, datastore: &Datastore) -> Result<Option<u64>, Error> {
        let query = Query::object(&datastore.moref, "Datastore", &["summary.freeSpace"]);
        let objects = self.link.retrieve(&query).await?;
        Ok(objects.iter().find_map(|object| object.number("summary.freeSpace")))
    }
}
