//! MAC addresses of network cards: what a document is matched with a machine by.

use std::fmt;
use std::str::FromStr;

/// The MAC address of one network card, written as `00:50:56:12:34:56`.
///
/// Parsing takes colons or hyphens and either case; a group address (`01:…`) and the address of zeros are no card's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// The text is not the MAC address of a network card.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address of a network card")]
pub struct NotAMac;

impl FromStr for MacAddress {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let separator = if text.contains(':') { ':' } else { '-' };
        let mut octets = [0_u8; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or(NotAMac)?;
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        let [first, ..] = octets;
        if parts.next().is_some() || first & 1 == 1 || octets == [0; 6] {
            return Err(NotAMac);
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_case_and_separator_is_one_address() {
        let mac: MacAddress = "00:50:56:AB:cd:01".parse().unwrap();
        assert_eq!(mac, "00-50-56-ab-CD-01".parse().unwrap());
        assert_eq!(mac.to_string(), "00:50:56:ab:cd:01");
    }

    #[test]
    fn what_no_card_has_is_refused() {
        for text in [
            "",
            ":",
            "00:50:56:ab:cd",
            "00:50:56:ab:cd:01:02",
            "00:50:56:ab:cd:1",
            "00:50:56:ab:cd:+1",
            "005056abcd01",
            "00:50:56:ab:cd:0g",
            "01:50:56:ab:cd:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "00:50-56:ab:cd:01",
            "00:50:56:ab:cd:é",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(NotAMac), "{text:?}");
        }
    }
}
