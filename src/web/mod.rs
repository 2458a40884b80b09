//! What lies at a URL that somebody named: fetched by HTTP or HTTPS, streamed, taken up again where it broke off.
//!
//! ```text
//! address   a URL: how it is read, how it is told without what may be secret in it, what lies beside it
//! allowed   which addresses may be connected to, asked at the moment of connecting
//! client    one request, with its redirects: each is checked as the first was
//! file      a file behind a URL: how long it is, whether it can be read from any place on
//! stream    its content front to back, or in small windows anywhere; never whole
//! ```
//!
//! A server is nobody that is trusted: certificates are verified, an answer that was not asked for is none, and what ends early, late or
//! never, or comes by drops, ends as an error. Nothing is sent but the request: no cookie, no password, no proxy, no referrer. The room
//! knows no host and no script, and decides nothing: who may be asked is said by the [`Rules`] of whoever fetches. Specification: RFC
//! 9110 (Range, If-Range, ETag), RFC 9112.

mod address;
mod allowed;
mod client;
mod error;
mod file;
mod stream;
#[cfg(test)]
mod tests;

pub use address::{Address, reserved};
pub use allowed::{Allowed, Resolver, keep};
pub use client::{Limits, Rules, Web};
pub use error::Error;
pub use file::File;
pub use stream::{Stream, Window};
