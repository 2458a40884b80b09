//! The typed leaves of the configuration: host names and addresses, trust, fingerprints, modes.
//!
//! Each is read from text and refuses what it cannot mean; none of them touches the network or a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::redact;

/// The name that is always the simulator.
pub const SIMULATOR: &str = "sim";
/// The name of the host that `CESO_URL` describes.
pub const ENVIRONMENT: &str = "env";

/// Checks the name of a host or a repository: 1 to 64 letters, digits, `.`, `_`, `-`, the first a letter or a digit.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if fits {
        Ok(())
    } else {
        Err("a name has 1 to 64 letters, digits, \".\", \"_\" or \"-\", and begins with a letter or a digit".to_owned())
    }
}

/// The address of a host's API, always `https://HOST[:PORT]/sdk`.
///
/// Read from `esx1`, `esx1:8443`, `[fd00::1]`, `https://esx1` or `https://esx1/sdk`. Refused: another scheme, a user or password
/// inside (it would stand in files and process lists), another path, a query, a fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct HostUrl(url::Url);

impl HostUrl {
    pub fn url(&self) -> &url::Url {
        &self.0
    }

    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, 443 unless another is written.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// The host's IP address, where the URL is written with one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        self.host().parse().ok()
    }
}

impl FromStr for HostUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write esx1, esx1:8443 or https://esx1/sdk";
        let text = text.trim();
        // Before anything is printed: what stands before an "@" may be a password.
        if let Some((user, _)) = text.rsplit_once('@') {
            let user = user.split_once("://").map_or(user, |(_, user)| user);
            if let Some((_, password)) = user.split_once(':') {
                redact::know(&SecretString::from(password), "password in a URL");
            }
            return Err(format!(
                "an address holds no user and no password; {FORMS}, and give the user as \"username\""
            ));
        }
        let full = match text.split_once("://") {
            None => format!("https://{text}"),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => text.to_owned(),
            Some((scheme, _)) => {
                return Err(format!("the scheme {:?} is not https; ceso speaks to hosts over TLS only", clip(scheme)));
            }
        };
        let url =
            url::Url::parse(&full).map_err(|error| format!("{:?} is not an address ({error}); {FORMS}", clip(text)))?;
        if url.host_str().unwrap_or_default().is_empty() {
            return Err(format!("{:?} names no host; {FORMS}", clip(text)));
        }
        if url.port() == Some(0) {
            return Err("port 0 is no port".to_owned());
        }
        if !matches!(url.path().trim_end_matches('/'), "" | "/sdk") || url.query().is_some() || url.fragment().is_some()
        {
            return Err(format!("{:?} has a path, a query or a fragment; {FORMS}", clip(text)));
        }
        let mut url = url;
        url.set_path("/sdk");
        Ok(Self(url))
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The SHA-256 of a certificate in DER form. Read as 64 hexadecimal digits with or without `:` and a leading `SHA256:`
/// (or `sha256=`); written
/// as `AB:CD:…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER form.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bare = match bare.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") || prefix.eq_ignore_ascii_case("sha256=") => {
                bare.get(7..).unwrap_or_default()
            }
            _ => bare,
        };
        let digits: Vec<u32> = bare.chars().filter(|c| *c != ':').map_while(|c| c.to_digit(16)).collect();
        let wrong = || {
            let sha1 = if digits.len() == 40 { " (40 digits are a SHA-1 thumbprint, which is not enough)" } else { "" };
            format!("a fingerprint is the certificate's SHA-256: 64 hexadecimal digits, with or without \":\"{sha1}")
        };
        if digits.len() != 64 || bare.chars().any(|c| c != ':' && !c.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0u32, |value, digit| value * 16 + digit) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! as_text {
    ($type:ident, $format:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

as_text!(HostUrl, "host-url", "the address of a host");
as_text!(Fingerprint, "fingerprint", "the SHA-256 fingerprint of a certificate");

/// How a host's certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trust {
    /// It is signed by an authority that this machine knows, for the host's name.
    #[default]
    System,
    /// It is signed by an authority of this PEM file, for the host's name.
    CaFile(PathBuf),
    /// It is exactly this certificate.
    Fingerprint(Fingerprint),
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::CaFile(path) => write!(f, "ca_file {}", path.display()),
            Self::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint}"),
        }
    }
}

impl JsonSchema for Trust {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Trust".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "format": "trust" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// What scripts may do where nothing else is said; ordered from tight to loose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reads only, no secrets.
    Restricted,
    /// Also creating, changing, power, and destroying what the run itself made.
    #[default]
    Standard,
    /// Also destroying, overwriting and the host's configuration.
    Unrestricted,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Restricted, Self::Standard, Self::Unrestricted];

    pub fn name(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Standard => "standard",
            Self::Unrestricted => "unrestricted",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_each_form() {
        for (text, url) in [
            ("esx1", "https://esx1/sdk"),
            ("esx1:8443", "https://esx1:8443/sdk"),
            ("https://esx1", "https://esx1/sdk"),
            ("HTTPS://ESX1/sdk/", "https://esx1/sdk"),
            ("[fd00::1]:8443", "https://[fd00::1]:8443/sdk"),
            ("10.0.0.5", "https://10.0.0.5/sdk"),
        ] {
            assert_eq!(text.parse::<HostUrl>().map(|url| url.to_string()), Ok(url.to_owned()));
        }
        assert_eq!("[fd00::1]".parse::<HostUrl>().unwrap().ip(), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn an_address_that_would_carry_a_password_or_lose_tls_is_refused() {
        for text in [
            "http://esx1",
            "ftp://esx1",
            "https://root:hunter2@esx1",
            "root:hunter2@esx1",
            "https://esx1/ui",
            "https://esx1/sdk?x=1",
            "esx1#x",
            "",
            "https://",
            "esx 1",
            "esx1:99999",
            "esx1:0",
            "fd00::1",
            "javascript:alert(1)",
        ] {
            let error = text.parse::<HostUrl>().expect_err(text);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [plain.clone(), colons.clone(), format!("SHA256:{colons}"), format!(" sha256:{plain} ")] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), colons);
        }
        for text in ["", "ab", &"zz".repeat(32), &"ab".repeat(20), &"ab".repeat(33), "SHA256:é"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_stay_plain() {
        for name in ["lab", "esx-1.example", "A_1"] {
            assert!(check_name(name).is_ok());
        }
        for name in ["", ".", "../x", "a/b", "a b", "-x", "a\u{1b}[1m", "é", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
