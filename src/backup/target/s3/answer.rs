//! What a server's answer means: done, taken, to be asked again, or never.
//!
//! An error of the server is quoted by its code and message alone: the rest repeats what was signed.

use std::io;

use object_store::Error as StoreError;

/// Why a request did not do what it should.
#[derive(Debug)]
pub enum Refusal {
    /// The name exists, or is being written by another right now.
    Taken,
    /// Whether it was done is not known, or the server asks for patience: it may be asked again.
    Unclear(io::Error),
    /// Asking again would get the same answer.
    Final(io::Error),
}

/// The code and message that an S3 server gives, as far as they can be read.
pub fn code_and_message(body: &str) -> (&str, &str) {
    let between = |open: &str, close: &str| {
        let (_, rest) = body.split_once(open)?;
        rest.split_once(close).map(|(text, _)| text)
    };
    (between("<Code>", "</Code>").unwrap_or_default(), between("<Message>", "</Message>").unwrap_or_default())
}

/// One line that says what a server has answered.
pub fn told(status: u16, body: &str) -> String {
    let (code, message) = code_and_message(body);
    let mut line = format!("the server answers {status}");
    for part in [code, message] {
        if !part.is_empty() {
            line.push_str(if line.ends_with(|c: char| c.is_ascii_digit()) { " " } else { ": " });
            line.extend(part.chars().filter(|c| !c.is_control()).take(300));
        }
    }
    let advice = match code {
        "NoSuchBucket" => "make the bucket first",
        "RequestTimeTooSkewed" => "set this machine's clock",
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => "name the bucket's region",
        _ if (300..400).contains(&status) => "name the bucket's region, or its endpoint",
        _ => return line,
    };
    format!("{line} ({advice})")
}

/// Judges an answer that is no success.
pub fn judge(status: u16, body: &str) -> Refusal {
    let (code, _) = code_and_message(body);
    let error = |kind| io::Error::new(kind, told(status, body));
    match (status, code) {
        (412, _) | (409, "ConditionalRequestConflict" | "OperationAborted") => Refusal::Taken,
        (
            400,
            "RequestTimeout"
            | "IncompleteBody"
            | "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch",
        ) => Refusal::Unclear(error(io::ErrorKind::InvalidData)),
        (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded" | "QuotaExceededException") => {
            Refusal::Final(error(io::ErrorKind::StorageFull))
        }
        (501, _) => Refusal::Final(error(io::ErrorKind::Unsupported)),
        (408 | 429 | 500.., _) => Refusal::Unclear(error(io::ErrorKind::TimedOut)),
        (401 | 403, _) | (404, "XAdminUserNotFound") => Refusal::Final(error(io::ErrorKind::PermissionDenied)),
        (404, _) => Refusal::Final(error(io::ErrorKind::NotFound)),
        _ => Refusal::Final(error(io::ErrorKind::Other)),
    }
}

/// What a read, a list or a deletion came to that was no success.
#[derive(Debug)]
pub enum Failure {
    /// The name does not exist.
    Missing,
    /// The range begins behind the end.
    BehindTheEnd,
    /// It exists and must not be deleted yet.
    Locked,
    /// The connection broke, or the server asks for patience: it may be asked again.
    Unclear(io::Error),
    Other(io::Error),
}

/// Reads an error of the client: it has asked again by itself where that made sense.
pub fn failure(error: &StoreError) -> Failure {
    let text = chain(error);
    let (code, message) = refused_name(&text).unwrap_or_else(|| code_and_message(&text));
    let status = status_in(&text);
    let words = message.to_ascii_lowercase();
    if words.contains("worm") || words.contains("object lock") || words.contains("locked") || code == "ObjectLocked" {
        return Failure::Locked;
    }
    let line = match status {
        Some(status) => told(status, &text),
        None if code.is_empty() => last_cause(error),
        None => format!("the server answers {code}: {message}"),
    };
    let error = |kind| io::Error::new(kind, line);
    match (status, code) {
        (Some(416), _) | (_, "InvalidRange") => Failure::BehindTheEnd,
        // Without a status it is the answer for one name of a deletion of many, which another has deleted at the same time.
        (Some(404), "" | "NoSuchKey" | "NotFound") | (None, "NoSuchKey") => Failure::Missing,
        (Some(404), "XAdminUserNotFound") => Failure::Other(error(io::ErrorKind::PermissionDenied)),
        // A bucket that is missing is no file that is.
        (Some(404), _) => Failure::Other(error(io::ErrorKind::NotFound)),
        (Some(401 | 403), _) | (None, "AccessDenied") => Failure::Other(error(io::ErrorKind::PermissionDenied)),
        (Some(408 | 429 | 500..), _)
        | (None, "" | "InternalError" | "OperationAborted" | "SlowDown" | "ServiceUnavailable") => {
            Failure::Unclear(error(io::ErrorKind::TimedOut))
        }
        _ => Failure::Other(error(io::ErrorKind::Other)),
    }
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push('\n');
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// The innermost reason: what is around it repeats addresses.
pub fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

/// The code and message for one name of a deletion of many.
fn refused_name(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("request failed for key ")?;
    let (_, rest) = rest.split_once(": ")?;
    let (message, rest) = rest.split_once(" (code: ")?;
    rest.split_once(')').map(|(code, _)| (code, message))
}

fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_one_line_without_what_was_signed() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>It does\nnot match</Message>\
                    <StringToSign>AWS4-HMAC-SHA256 …</StringToSign></Error>";
        assert_eq!(told(403, body), "the server answers 403 SignatureDoesNotMatch: It doesnot match");
        assert_eq!(told(500, "<html>oops"), "the server answers 500");
        assert!(told(404, "<Code>NoSuchBucket</Code>").ends_with("(make the bucket first)"));
        assert!(told(301, "").ends_with("(name the bucket's region, or its endpoint)"));
    }

    #[test]
    fn only_what_may_end_otherwise_is_asked_again() {
        for (status, body) in
            [(503, "<Code>SlowDown</Code>"), (500, ""), (429, ""), (408, ""), (400, "<Code>BadDigest</Code>")]
        {
            assert!(matches!(judge(status, body), Refusal::Unclear(_)), "{status}");
        }
        for (status, body) in [
            (403, "<Code>InvalidAccessKeyId</Code>"),
            (404, "<Code>NoSuchBucket</Code>"),
            (501, ""),
            (301, ""),
            (507, ""),
        ] {
            assert!(matches!(judge(status, body), Refusal::Final(_)), "{status}");
        }
        assert!(matches!(judge(412, ""), Refusal::Taken));
        assert!(matches!(judge(409, "<Code>ConditionalRequestConflict</Code>"), Refusal::Taken));
    }
}
