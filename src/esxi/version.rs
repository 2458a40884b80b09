//! Which API version is spoken: the newest that both sides know.
//!
//! Specification: `vimServiceVersions.xml` of a host; VMware's release history of `urn:vim25`.

use crate::xml::Element;

use super::error::Error;

/// The versions that this client knows, newest first. The oldest is 6.5.
const KNOWN: &[&str] = &[
    "9.1.0.0", "9.0.0.0", "8.0.3.1", "8.0.3.0", "8.0.2.0", "8.0.1.0", "8.0.0.2", "8.0.0.1", "8.0.0.0", "7.0.3.2",
    "7.0.3.1", "7.0.3.0", "7.0.2.1", "7.0.2.0", "7.0.1.1", "7.0.1.0", "7.0.0.2", "7.0.0.0", "6.9.1", "6.8.7", "6.7.3",
    "6.7.2", "6.7.1", "6.7", "6.5",
];

/// Whether a version is one that this client can speak.
pub(super) fn is_known(version: &str) -> bool {
    KNOWN.contains(&version)
}

/// Picks the version out of a host's `vimServiceVersions.xml`.
pub(super) fn negotiate(host: &str, versions: &Element) -> Result<&'static str, Error> {
    let namespace =
        versions.all("namespace").find(|namespace| namespace.text_at("name").map(str::trim) == Some("urn:vim25"));
    let Some(namespace) = namespace.filter(|_| versions.name == "namespaces") else {
        let seen = format!("XML without the namespace urn:vim25: <{}>", versions.name);
        return Err(Error::NotAHost { host: host.to_owned(), seen });
    };
    let prior = namespace.child("priorVersions").into_iter().flat_map(|prior| prior.all("version"));
    let offered: Vec<&str> = namespace.all("version").chain(prior).map(|version| version.text.trim()).collect();
    KNOWN.iter().copied().find(|known| offered.contains(known)).ok_or_else(|| Error::TooOld {
        host: host.to_owned(),
        newest: offered.first().map(|version| version.chars().take(20).collect()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn offered(newest: &str, prior: &[&str]) -> Result<&'static str, Error> {
        let prior: String = prior.iter().map(|version| format!("<version>{version}</version>")).collect();
        let text = format!(
            "<namespaces><namespace><name>urn:other</name><version>9.0.0.0</version></namespace><namespace><name>urn:vim25</name>\
             <version>{newest}</version><priorVersions>{prior}</priorVersions></namespace></namespaces>"
        );
        negotiate("h", &parse(text.as_bytes(), Limits::default()).unwrap())
    }

    #[test]
    fn the_newest_version_that_both_know_is_taken() {
        assert_eq!(offered("8.0.3.0", &["8.0.2.0", "6.5"]).unwrap(), "8.0.3.0");
        assert_eq!(offered("12.0.0.0", &["9.0.0.0", "8.0.3.0"]).unwrap(), "9.0.0.0");
        assert_eq!(offered("6.5", &["6.0", "5.5"]).unwrap(), "6.5");
        assert!(matches!(offered("6.0", &["5.5"]), Err(Error::TooOld { newest, .. }) if newest == "6.0"));
    }

    #[test]
    fn xml_that_is_no_version_list_is_no_host() {
        assert!(matches!(negotiate("h", &Element::new("rss")), Err(Error::NotAHost { .. })));
    }
}
