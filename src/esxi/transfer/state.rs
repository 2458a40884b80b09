//! What a host says of a file that tells one state of it from another: what a download that broke off may go on behind.
//!
//! Hosts differ. Some send an ETag or a Last-Modified with a file; of others the datastore's browser says when it was changed. A time
//! counts only where it lay some seconds back when it was looked at: file systems count in seconds, and what is changed twice in one of
//! them has one time. Specification: RFC 9110, 8.8 and 13.1.5; vSphere Web Services API, `FileInfo.modification`.

use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderName, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::esxi::browse::Search;
use crate::esxi::checked::Checked;
use crate::esxi::error::Error;
use crate::esxi::file_path::FilePath;
use crate::esxi::host::Host;
use crate::esxi::object::Datastore;

/// How far back a time must lie, in seconds.
const SETTLED: i64 = 2;

/// One state of a file, as far as its host says what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    pub length: Option<u64>,
    /// Its tag, which is the same only for the same bytes.
    tag: Option<String>,
    /// When it was changed, as HTTP says it.
    modified: Option<String>,
    /// When it was changed, as the datastore's browser says it.
    changed: Option<String>,
    /// When that was looked at, by the host's clock.
    seen: Option<String>,
}

impl FileState {
    pub(in crate::esxi) fn of(response: &Response) -> Self {
        let length = match response.headers().contains_key(CONTENT_RANGE) {
            true => part(response).and_then(|(_, total)| total),
            false => text(response, CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()),
        };
        let owned = |name| text(response, name).map(str::to_owned);
        // A weak tag says that two files mean the same, and not that they are.
        let tag = owned(ETAG).filter(|tag| tag.starts_with('"'));
        Self { length, tag, modified: owned(LAST_MODIFIED), changed: None, seen: owned(DATE) }
    }

    /// Whether the file has certainly been changed from the one to the other.
    pub(in crate::esxi) fn differs(&self, now: &Self) -> bool {
        fn other<T: PartialEq>(one: Option<&T>, now: Option<&T>) -> bool {
            matches!((one, now), (Some(one), Some(now)) if one != now)
        }
        other(self.length.as_ref(), now.length.as_ref())
            || other(self.tag.as_ref(), now.tag.as_ref())
            || other(self.modified.as_ref(), now.modified.as_ref())
            || other(self.changed.as_ref(), now.changed.as_ref())
    }

    /// Whether the file is still as it was; `None` where that cannot be known.
    pub fn is_still(&self, now: &Self) -> Option<bool> {
        if self.differs(now) {
            return Some(false);
        }
        let tag = self.tag.is_some() && now.tag.is_some();
        let modified = self.settled_by_http().is_some() && now.modified.is_some();
        let changed = self.settled_by_browser() && now.changed.is_some();
        (self.length.is_some() && now.length.is_some() && (tag || modified || changed)).then_some(true)
    }

    /// What a host is to hold against the file before it sends a part of it (If-Range).
    pub(in crate::esxi) fn condition(&self) -> Option<&str> {
        self.tag.as_deref().or_else(|| self.settled_by_http())
    }

    fn settled_by_http(&self) -> Option<&str> {
        let modified = self.modified.as_deref()?;
        let time = OffsetDateTime::parse(modified, &Rfc2822).ok()?;
        self.is_settled(time).then_some(modified)
    }

    fn settled_by_browser(&self) -> bool {
        let time = self.changed.as_deref().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        time.is_some_and(|time| self.is_settled(time))
    }

    fn is_settled(&self, time: OffsetDateTime) -> bool {
        let seen = self.seen.as_deref().and_then(|seen| OffsetDateTime::parse(seen, &Rfc2822).ok());
        seen.is_some_and(|seen| (seen - time).whole_seconds() >= SETTLED)
    }
}

impl Host {
    /// Looks at what a file is now. Errors: `esxi.file_not_found`.
    pub async fn file_state(&self, datastore: &Checked<Datastore>, path: &FilePath) -> Result<FileState, Error> {
        let file = path.on(&datastore.name);
        let look = async {
            let at = self.link.folder(&datastore.name, path.as_str());
            let response = self.link.fetch(reqwest::Method::HEAD, &at, None).await?;
            let mut state = match response.status().as_u16() {
                200 | 206 => FileState::of(&response),
                status => return Err(self.refused(status, &file)),
            };
            if state.tag.is_none() && state.modified.is_none() {
                state.changed = self.changed(datastore, path).await?;
            }
            Ok(state)
        };
        look.await.map_err(|error: Error| error.doing(format!("look at {file}")))
    }

    /// When the browser says that a file was changed last; nothing where it does not say, or may not be asked.
    async fn changed(&self, datastore: &Checked<Datastore>, path: &FilePath) -> Result<Option<String>, Error> {
        let search = Search { pattern: Some(path.name()), deep: false };
        match self.browse(datastore, &path.parent(), search).await {
            Ok(rows) => Ok(rows.into_iter().find(|row| row.path == path.as_str()).and_then(|row| row.modified)),
            Err(error) if matches!(error.root(), Error::Vim { .. } | Error::Lacking { .. }) => {
                tracing::info!(host = self.name(), "when {path} was changed is not told: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The first byte of the part that an answer says it is, and the length of the whole.
pub(super) fn part(response: &Response) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(response, CONTENT_RANGE)?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first.unwrap_or(u64::MAX), total.trim().parse().ok()))
}

fn text(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(length: u64) -> FileState {
        let seen = Some("Wed, 04 Mar 2026 10:00:05 GMT".to_owned());
        FileState { length: Some(length), seen, ..FileState::default() }
    }

    #[test]
    fn a_file_is_still_the_same_only_where_the_host_says_something_that_shows_it() {
        let tagged = |tag: &str| FileState { tag: Some(tag.to_owned()), ..state(9) };
        assert_eq!(tagged("\"a\"").is_still(&tagged("\"a\"")), Some(true));
        assert_eq!(tagged("\"a\"").is_still(&tagged("\"b\"")), Some(false));
        assert_eq!(tagged("\"a\"").is_still(&FileState { length: Some(8), ..tagged("\"a\"") }), Some(false));
        assert_eq!(state(9).is_still(&state(9)), None, "a length alone shows nothing");
        assert_eq!(state(9).is_still(&state(8)), Some(false));
        assert_eq!(tagged("\"a\"").is_still(&state(9)), None);
        let unknown = FileState { length: None, ..tagged("\"a\"") };
        assert_eq!(unknown.is_still(&unknown), None);
    }

    #[test]
    fn a_time_counts_only_where_it_lay_back_when_it_was_looked_at() {
        let by_http = |time: &str| FileState { modified: Some(time.to_owned()), ..state(9) };
        let by_browser = |time: &str| FileState { changed: Some(time.to_owned()), ..state(9) };
        for (time, browsed, known) in [
            ("Wed, 04 Mar 2026 10:00:03 GMT", "2026-03-04T10:00:03Z", Some(true)),
            ("Wed, 04 Mar 2026 10:00:04 GMT", "2026-03-04T10:00:03.5Z", None),
            ("Wed, 04 Mar 2026 10:00:05 GMT", "2026-03-04T10:00:05Z", None),
            ("Wed, 04 Mar 2026 11:00:05 GMT", "2026-03-04T11:00:05Z", None),
            ("some day", "some day", None),
        ] {
            assert_eq!(by_http(time).is_still(&by_http(time)), known, "{time}");
            assert_eq!(by_browser(browsed).is_still(&by_browser(browsed)), known, "{browsed}");
            assert_eq!(by_http(time).condition().is_some(), known.is_some(), "{time}");
        }
        let old = by_http("Wed, 04 Mar 2026 09:00:00 GMT");
        assert_eq!(old.is_still(&by_http("Wed, 04 Mar 2026 09:00:01 GMT")), Some(false));
        assert_eq!(old.is_still(&by_browser("2026-03-04T09:00:00Z")), None, "nothing that both have");
        assert_eq!(FileState { seen: None, ..old.clone() }.is_still(&old), None, "no clock to hold it against");
    }
}
