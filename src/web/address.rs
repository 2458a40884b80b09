//! A URL that somebody named, and the addresses that no URL leads to by chance.
//!
//! What tables and errors know of it is its scheme, host, port and path: a query may be a signature, which is as good as a password.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use secrecy::SecretString;
use url::{Host, Url};

use super::error::Error;
use crate::redact;

/// The longest URL: those that are signed have some hundred characters.
const LONGEST: usize = 4096;

/// Values of a query that are as long as this may be signatures or tokens.
const TOKEN: usize = 12;

/// A URL of http or https, in its one written form.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads a URL. Errors: another scheme, a name or a password in it, a fragment, a path with hidden slashes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(Error::url(format!("it is longer than {LONGEST} characters")));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || redact::is_hidden(c)) {
            return Err(Error::url("it holds a character that cannot be seen"));
        }
        // What stands in it may be a password: the reader's own words about it are not repeated.
        let url = Url::parse(text).map_err(|_| Error::url("it cannot be read"))?;
        Self::checked(url)
    }

    fn checked(url: Url) -> Result<Self, Error> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::url("it is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::url("it carries a user name or a password, which would be told with it"));
        }
        if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
            return Err(Error::url("it names no host"));
        }
        if url.fragment().is_some() {
            return Err(Error::url("it has a fragment (#), which no server sees"));
        }
        let path = url.path().to_ascii_lowercase();
        if ["%2f", "%5c", "%00", "%2e%2e"].iter().any(|hidden| path.contains(hidden)) {
            return Err(Error::url("its path hides a slash, or folders above it"));
        }
        let address = Self(url);
        address.hide();
        Ok(address)
    }

    /// Long values of a query are kept out of everything that leaves this process.
    fn hide(&self) {
        for value in self.0.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            if value.1.len() >= TOKEN {
                redact::know(&SecretString::from(value.1), "a value in the query of a URL".to_owned());
            }
        }
    }

    /// Whether a text is meant as a URL, and not as the name of a file.
    pub fn is_meant(text: &str) -> bool {
        let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        begins("http://") || begins("https://")
    }

    /// Where a redirect leads. Errors: as of [`Address::parse`]; from https to http.
    pub(super) fn follow(&self, location: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Answer { name: self.name(), reason: format!("a redirect that {what}") };
        if location.len() > LONGEST {
            return Err(wrong("is too long"));
        }
        let mut to = self.0.join(location).map_err(|_| wrong("cannot be read"))?;
        to.set_fragment(None);
        if self.0.scheme() == "https" && to.scheme() != "https" {
            return Err(wrong("leads from https to http"));
        }
        Self::checked(to).map_err(|error| wrong(&format!("leads to what is no URL to follow ({error})")))
    }

    /// The URL of a file of that plain name in the same folder.
    pub fn beside(&self, name: &str) -> Result<Self, Error> {
        let mut url = self.0.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop().push(name),
            Err(()) => return Err(Error::url("it has no path")),
        };
        Self::checked(url)
    }

    /// As tables and people know it: scheme, host, port and path.
    pub fn name(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.into()
    }

    /// The last part of its path, decoded.
    pub fn file_name(&self) -> String {
        let last = self.0.path_segments().and_then(Iterator::last).unwrap_or_default();
        percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned()
    }

    /// Scheme, host and port, with the slash behind them.
    pub fn origin(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.set_path("/");
        url.into()
    }

    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Its host, where that is an address and no name.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

/// Without the query.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Why an address is none that a URL may lead to by chance: this machine's own services, and those that a network keeps for its
/// machines, which take whoever asks for the machine itself. `None` for all others.
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => reserved_v4(v4),
        IpAddr::V6(v6) => reserved_v6(v6),
    }
}

fn reserved_v4(address: Ipv4Addr) -> Option<&'static str> {
    // Metadata services outside of the link-local range: Alibaba's, Azure's, Oracle's.
    const SERVICES: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    match address {
        _ if address.is_loopback() => Some("this machine's own"),
        _ if address.is_link_local() => Some("link-local, where metadata services are"),
        _ if SERVICES.contains(&address) => Some("a metadata service's"),
        _ if address.octets()[0] == 0 || address.octets()[0] >= 240 => Some("no machine's"),
        _ if address.is_multicast() => Some("a group's"),
        _ => None,
    }
}

fn reserved_v6(address: Ipv6Addr) -> Option<&'static str> {
    // Metadata services: Amazon's and Google's.
    const SERVICES: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
    let [a, b, c, d, _, _, g, h] = address.segments();
    let v4 = |high: u16, low: u16| reserved_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address {
        _ if address.is_loopback() => Some("this machine's own"),
        _ if address.is_unspecified() => Some("no machine's"),
        _ if a & 0xffc0 == 0xfe80 => Some("link-local, where metadata services are"),
        _ if address.is_multicast() => Some("a group's"),
        _ if SERVICES.contains(&address) => Some("a metadata service's"),
        // IPv4 by other ways of writing: compatible, translated (NAT64), 6to4.
        _ if (a, b, c, d) == (0, 0, 0, 0) => v4(g, h),
        _ if (a, b) == (0x64, 0xff9b) => v4(g, h),
        _ if a == 0x2002 => v4(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_what_may_be_secret_in_it() {
        let address = Address::parse("HTTPS://Example.COM:443/a/../b/x%20y.ova?X-Signature=0123456789abcdef0").unwrap();
        assert_eq!(address.name(), "https://example.com/b/x%20y.ova");
        assert_eq!(format!("{address:?}"), address.name());
        assert_eq!((address.file_name().as_str(), address.host()), ("x y.ova", "example.com"));
        assert_eq!(address.origin(), "https://example.com/");
        assert!(!redact::text("of 0123456789abcdef0").contains("0123456789abcdef0"));
        let beside = address.beside("x disk?1.vmdk").unwrap();
        assert_eq!(beside.name(), "https://example.com/b/x%20disk%3F1.vmdk");
        assert_eq!(beside.url().query(), Some("X-Signature=0123456789abcdef0"), "a token may be for the folder");
    }

    #[test]
    fn what_is_no_plain_url_is_refused_and_not_repeated() {
        for text in [
            "",
            "example.com/x.ova",
            "file:///etc/passwd",
            "ftp://h/x",
            "javascript:x",
            "https://",
            "http://:80/",
            "https://user:hunter2@example.com/x",
            "https://hunter2@example.com/x",
            "https://example.com/x#y",
            "https://example.com/a%2f..%2fb",
            "https://example.com/a%5Cb",
            "https://example.com/%2e%2e%2Fb",
            "https://example.com/a b",
            "https://example.com/a\nb",
            "https://exam\u{200b}ple.com/",
            "http://[::1/",
            "http://h:99999/",
            "http://h:0/",
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Address::parse(&format!("https://h/{}", "x".repeat(5000))).is_err());
        assert!(Address::is_meant("HTTP://x") && !Address::is_meant("http.ova") && !Address::is_meant("ü"));
    }

    #[test]
    fn a_redirect_never_leaves_tls_or_leads_to_what_is_no_url() {
        let from = Address::parse("https://example.com/a/x.ova").unwrap();
        assert_eq!(from.follow("../y.ova?z#f").unwrap().name(), "https://example.com/y.ova");
        assert_eq!(from.follow("//other.example/y").unwrap().name(), "https://other.example/y");
        for location in
            ["http://example.com/x", "file:///etc/passwd", "https://u:p@example.com/", "https://[", "data:x"]
        {
            assert!(from.follow(location).is_err(), "{location}");
        }
        let plain = Address::parse("http://example.com/x").unwrap();
        assert!(plain.follow("https://example.com/x").is_ok() && plain.follow("http://b/x").is_ok());
    }

    #[test]
    fn addresses_that_no_url_leads_to_by_chance_are_known_in_every_way_of_writing() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
        ] {
            assert!(reserved(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in
            ["10.0.0.1", "192.168.1.1", "1.1.1.1", "fd00::1", "2001:db8::1", "64:ff9b::1.1.1.1", "100.64.0.1"]
        {
            assert_eq!(reserved(address.parse().unwrap()), None, "{address}");
        }
        // What a browser reads as an address is one here too.
        for text in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"] {
            assert!(reserved(Address::parse(text).unwrap().literal().unwrap()).is_some(), "{text}");
        }
    }
}
