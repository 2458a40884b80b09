//! `/folder/PATH?dcPath=ha-datacenter&dsName=datastore1`: files over HTTPS, for who has a session.
//!
//! GET and HEAD (with Range where the options have it), PUT (written beside, then renamed: a cut-off upload leaves the old file), DELETE.
//! A running machine's disks are refused, as a host refuses them.

use std::io::SeekFrom;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::path::DatastorePath;
use super::{NAME, locked_by, materialise};
use crate::sim::http::{Body, Dropped, Head, answer, status};
use crate::sim::server::Host;

pub type Refusal = (StatusCode, String);

/// What a transfer meets: whether ranges are heeded, whether a file's last change is told, and after how many bytes it is cut off.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub ranges: bool,
    pub dates: bool,
    pub cut: Option<u64>,
}

const CUT: &str = "cut off on demand";

/// The refusal in whose place the connection is closed.
pub fn cut_off() -> Refusal {
    (StatusCode::IM_USED, CUT.to_owned())
}

/// What goes back to the client for a transfer.
pub fn answered(transfer: Result<Response<Body>, Refusal>) -> Result<Response<Body>, Dropped> {
    transfer.or_else(|refusal| match refusal {
        refusal if refusal == cut_off() => Err(Dropped),
        (code, text) => Ok(status(code, &text)),
    })
}

/// Answers one request on `/folder`.
pub async fn transfer(
    request: Request<Incoming>,
    head: &Head,
    host: &Arc<Host>,
    trouble: Trouble,
) -> Result<Response<Body>, Refusal> {
    host.count(&format!("{} folder", request.method()));
    authorise(head, host)?;
    let path = locate(&request)?;
    let file = {
        let world = host.world();
        materialise(&world, &path).map_err(|fault| (StatusCode::INTERNAL_SERVER_ERROR, fault.message))?;
        if *request.method() != Method::HEAD && locked_by(&world, &path).is_some_and(|vm| path.to_string() != vm.vmx) {
            return Err((StatusCode::FORBIDDEN, format!("{path} is locked: a running machine uses it.")));
        }
        world.datastore.resolve(&path).map_err(|fault| (StatusCode::FORBIDDEN, fault.message))?
    };
    match *request.method() {
        Method::GET | Method::HEAD => read(&request, &path, &file, trouble).await,
        Method::PUT | Method::POST => write(request, &path, &file, host, trouble.cut).await,
        Method::DELETE => {
            let world = host.world();
            let deleted = super::files::delete(&world, &path);
            deleted.map_err(|fault| {
                let code =
                    if fault.data.kind == "FileNotFound" { StatusCode::NOT_FOUND } else { StatusCode::FORBIDDEN };
                (code, fault.message)
            })?;
            Ok(status(StatusCode::OK, "deleted"))
        }
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "Files take GET, HEAD, PUT and DELETE.".to_owned())),
    }
}

pub fn authorise(head: &Head, host: &Host) -> Result<(), Refusal> {
    let mut world = host.world();
    world.expire_sessions();
    let session = head.cookie.as_deref().and_then(|cookie| world.sessions.call(cookie)).is_some();
    match session || head.ticket.as_deref().is_some_and(|ticket| world.sessions.redeem(ticket)) {
        true => Ok(()),
        false => Err((StatusCode::UNAUTHORIZED, "Log in first: the request has no live session's cookie.".to_owned())),
    }
}

/// The path in the URL, with its datacenter and its datastore checked.
fn locate<B>(request: &Request<B>) -> Result<DatastorePath, Refusal> {
    let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    let raw = request.uri().path().strip_prefix("/folder").unwrap_or_default();
    // Decoded part by part: an encoded slash is part of a name, and no name has one.
    let mut parts = Vec::new();
    for part in raw.split('/').filter(|part| !part.is_empty()) {
        let part = percent_decode_str(part).decode_utf8().map_err(|_| bad("The path is not UTF-8."))?;
        if part.contains('/') {
            return Err(bad("A file's name has no slash."));
        }
        parts.push(part.into_owned());
    }
    let path = DatastorePath::inside(&parts.join("/")).ok_or_else(|| bad("The path leads out of the datastore."))?;
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if !matches!(value("dcPath"), None | Some("ha-datacenter" | "/ha-datacenter")) {
        return Err((StatusCode::NOT_FOUND, "There is no such datacenter; there is ha-datacenter.".to_owned()));
    }
    match value("dsName") {
        Some(NAME) => Ok(path),
        Some(_) => Err((StatusCode::NOT_FOUND, format!("There is no such datastore; there is {NAME}."))),
        None => Err(bad("The request names no datastore (dsName).")),
    }
}

fn missing(path: &DatastorePath, error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::NotFound => (StatusCode::NOT_FOUND, format!("{path} was not found.")),
        std::io::ErrorKind::StorageFull => {
            (StatusCode::INSUFFICIENT_STORAGE, format!("{path}: the datastore is full."))
        }
        _ => (StatusCode::FORBIDDEN, format!("{path} cannot be accessed: {error}.")),
    }
}

async fn read(
    request: &Request<Incoming>,
    path: &DatastorePath,
    file: &std::path::Path,
    Trouble { ranges, dates, cut }: Trouble,
) -> Result<Response<Body>, Refusal> {
    let metadata = tokio::fs::metadata(file).await.map_err(|error| missing(path, &error))?;
    if metadata.is_dir() {
        return listing(path, file).await;
    }
    let length = metadata.len();
    let modified = metadata.modified().ok().filter(|_| dates).and_then(http_date);
    // A part of another state of the file is not what is wanted (RFC 9110, 13.1.5).
    let still = request.headers().get(IF_RANGE).is_none_or(|state| state.to_str().ok() == modified.as_deref());
    let header = request.headers().get(RANGE).filter(|_| ranges && still).and_then(|header| header.to_str().ok());
    let range = match header.map(|header| range(header, length)) {
        Some(Wish::Part(first, last)) => Some((first, last)),
        Some(Wish::Unsatisfiable) => {
            // Without a word: clients that read the end of a file print what comes.
            let mut response = answer(StatusCode::RANGE_NOT_SATISFIABLE, "text/plain; charset=utf-8", String::new());
            set(&mut response, CONTENT_RANGE, format!("bytes */{length}"));
            return Ok(response);
        }
        // A header that is no single range asks for the whole file (RFC 9110, 14.2).
        Some(Wish::Whole) | None => None,
    };
    let (first, count) = range.map_or((0, length), |(first, last)| (first, last - first + 1));
    let body = match *request.method() == Method::HEAD {
        true => http_body_util::Empty::new().map_err(|never| match never {}).boxed(),
        false => {
            let mut opened = tokio::fs::File::open(file).await.map_err(|error| missing(path, &error))?;
            opened.seek(SeekFrom::Start(first)).await.map_err(|error| missing(path, &error))?;
            stream(opened, count, cut)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    set(&mut response, CONTENT_TYPE, "application/octet-stream".to_owned());
    set(&mut response, CONTENT_LENGTH, count.to_string());
    if ranges {
        set(&mut response, ACCEPT_RANGES, "bytes".to_owned());
    }
    if let Some(modified) = modified {
        set(&mut response, LAST_MODIFIED, modified);
    }
    if let Some((first, last)) = range {
        set(&mut response, CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    }
    Ok(response)
}

fn http_date(time: std::time::SystemTime) -> Option<String> {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::from(time).format(form).ok()
}

fn set(response: &mut Response<Body>, name: hyper::header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(name, value);
    }
}

/// A file as a body, read piece by piece.
fn stream(file: tokio::fs::File, count: u64, cut: Option<u64>) -> Body {
    let stop = cut.map_or(0, |cut| count.saturating_sub(cut));
    let pieces = futures_util::stream::try_unfold((file, count), move |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        if left == stop {
            return Err(std::io::Error::other(CUT));
        }
        let want = usize::try_from((left - stop).min(256 << 10)).unwrap_or(256 << 10);
        let mut piece = vec![0; want];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        piece.truncate(read);
        Ok(Some((Frame::data(Bytes::from(piece)), (file, left - read as u64))))
    });
    boxed(StreamBody::new(pieces.map_ok(|frame: Frame<Bytes>| frame)))
}

/// A stream as a body.
pub fn boxed<S>(body: StreamBody<S>) -> Body
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static,
{
    body.boxed_unsync_safe()
}

/// `BoxBody` must be `Sync`; a stream that is polled by one connection only is made so by a lock that nobody waits for.
trait IntoBody {
    fn boxed_unsync_safe(self) -> Body;
}

impl<S> IntoBody for StreamBody<S>
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static,
{
    fn boxed_unsync_safe(self) -> Body {
        BoxBodyOf(std::sync::Mutex::new(Box::pin(self))).boxed()
    }
}

struct BoxBodyOf<B>(std::sync::Mutex<std::pin::Pin<Box<B>>>);

impl<B: hyper::body::Body> hyper::body::Body for BoxBodyOf<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let inner = self.get_mut().0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.as_mut().poll_frame(context)
    }
}

enum Wish {
    Part(u64, u64),
    Whole,
    Unsatisfiable,
}

/// `bytes=0-99`, `bytes=100-`, `bytes=-100`, against a file of that length.
fn range(header: &str, length: u64) -> Wish {
    let Some((first, last)) =
        header.trim().strip_prefix("bytes=").filter(|set| !set.contains(',')).and_then(|set| set.split_once('-'))
    else {
        return Wish::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        return match last.parse::<u64>() {
            Ok(0) => Wish::Unsatisfiable,
            Ok(_) if length == 0 => Wish::Unsatisfiable,
            Ok(count) => Wish::Part(length.saturating_sub(count), length - 1),
            Err(_) => Wish::Whole,
        };
    }
    let last = match last {
        "" => Some(length.saturating_sub(1)),
        text => text.parse::<u64>().ok().map(|last| last.min(length.saturating_sub(1))),
    };
    match (first.parse::<u64>(), last) {
        (Ok(first), Some(_)) if first >= length => Wish::Unsatisfiable,
        (Ok(first), Some(last)) if first <= last => Wish::Part(first, last),
        _ => Wish::Whole,
    }
}

async fn listing(path: &DatastorePath, file: &std::path::Path) -> Result<Response<Body>, Refusal> {
    let mut entries = tokio::fs::read_dir(file).await.map_err(|error| missing(path, &error))?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(|error| missing(path, &error))? {
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    let mut text =
        format!("<html><head><title>Index of {NAME}</title></head><body><h1>SIMULATOR: index of {NAME}</h1><ul>\n");
    for name in names {
        text.push_str("<li>");
        if crate::xml::escape(&name, &mut text).is_err() {
            text.push('?');
        }
        text.push_str("</li>\n");
    }
    text.push_str("</ul></body></html>\n");
    Ok(answer(StatusCode::OK, "text/html; charset=utf-8", text))
}

async fn write(
    request: Request<Incoming>,
    path: &DatastorePath,
    file: &std::path::Path,
    host: &Host,
    cut: Option<u64>,
) -> Result<Response<Body>, Refusal> {
    let folder = match file.parent() {
        Some(folder) if !path.is_root() => folder,
        _ => return Err((StatusCode::BAD_REQUEST, "The request names no file.".to_owned())),
    };
    if request.headers().contains_key(CONTENT_RANGE) {
        return Err((StatusCode::BAD_REQUEST, "A file is uploaded whole: Content-Range is not taken.".to_owned()));
    }
    if !tokio::fs::metadata(folder).await.is_ok_and(|metadata| metadata.is_dir()) {
        return Err((StatusCode::NOT_FOUND, format!("{} was not found.", path.parent())));
    }
    if tokio::fs::metadata(file).await.is_ok_and(|metadata| metadata.is_dir()) {
        return Err((StatusCode::CONFLICT, format!("{path} is a folder.")));
    }
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok());
    let free = host.world().datastore.space().1;
    if announced.is_some_and(|bytes: u64| bytes > free) {
        return Err((StatusCode::INSUFFICIENT_STORAGE, format!("{path}: the datastore has {free} bytes left.")));
    }
    let new = !tokio::fs::try_exists(file).await.unwrap_or(false);
    let beside = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(|error| missing(path, &error))?;
    let copy = beside.as_file().try_clone().map_err(|error| missing(path, &error))?;
    let mut writer = tokio::fs::File::from_std(copy);
    let mut body = request.into_body();
    let mut written = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("The upload of {path} ended early: {error}.")))?;
        if let Ok(data) = frame.into_data() {
            // An upload in chunks announces no length: it must not fill the file system that others use too.
            written += data.len() as u64;
            if cut.is_some_and(|cut| written > cut) {
                return Err(cut_off());
            }
            if written > free {
                return Err((
                    StatusCode::INSUFFICIENT_STORAGE,
                    format!("{path}: the datastore has {free} bytes left."),
                ));
            }
            writer.write_all(&data).await.map_err(|error| missing(path, &error))?;
        }
    }
    writer.flush().await.and(writer.sync_all().await).map_err(|error| missing(path, &error))?;
    beside.persist(file).map_err(|error| missing(path, &error.error))?;
    Ok(status(if new { StatusCode::CREATED } else { StatusCode::OK }, "stored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_leads_out_of_the_datastore() {
        let at = |url: &str| {
            locate(&Request::get(url).body(()).unwrap()).map(|path| path.to_string()).map_err(|(code, _)| code)
        };
        let good = "?dcPath=ha-datacenter&dsName=datastore1";
        assert_eq!(at(&format!("/folder/a%20b/c.vmdk{good}")).unwrap(), "[datastore1] a b/c.vmdk");
        for path in
            ["/folder/../x", "/folder/%2e%2e/x", "/folder/a%2f..%2fb", "/folder/%00", "/folder/a%5cb", "/folder/%ff"]
        {
            assert_eq!(at(&format!("{path}{good}")).unwrap_err(), StatusCode::BAD_REQUEST, "{path}");
        }
        assert_eq!(at("/folder/a?dsName=other").unwrap_err(), StatusCode::NOT_FOUND);
        assert_eq!(at("/folder/a?dcPath=x&dsName=datastore1").unwrap_err(), StatusCode::NOT_FOUND);
        assert_eq!(at("/folder/a").unwrap_err(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let part = |header: &str, length| match range(header, length) {
            Wish::Part(first, last) => Some((first, last)),
            _ => None,
        };
        assert_eq!(part("bytes=0-0", 10), Some((0, 0)));
        assert_eq!(part("bytes=5-", 10), Some((5, 9)));
        assert_eq!(part("bytes=-3", 10), Some((7, 9)));
        assert_eq!(part("bytes=-30", 10), Some((0, 9)));
        assert_eq!(part("bytes=0-99", 10), Some((0, 9)));
        assert!(matches!(range("bytes=10-", 10), Wish::Unsatisfiable));
        assert!(matches!(range("bytes=0-", 0), Wish::Unsatisfiable));
        for whole in ["bytes=3-1", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=--"] {
            assert!(matches!(range(whole, 10), Wish::Whole), "{whole}");
        }
    }
}
