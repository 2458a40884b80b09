//! Many hosts at once: which of the configured ones are meant, and a connection to each, none of which holds up another.

use std::time::Duration;

use futures_util::future::join_all;
use wildmatch::WildMatch;

use super::bind::{Binder, BoundHost};
use crate::config::SIMULATOR;
use crate::error::Fault;
use crate::units::Span;

/// Which of the configured hosts are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A name, in which `*` stands for any characters and `?` for one; none selects all.
    pub name: Option<String>,
    /// Words of which a host has each as a tag.
    pub tags: Vec<String>,
}

/// A host that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    pub name: String,
    pub tags: Vec<String>,
}

impl Selection {
    fn selects(&self, host: &KnownHost) -> bool {
        let named = self.name.as_ref().is_none_or(|pattern| WildMatch::new(pattern).matches(&host.name));
        named && self.tags.iter().all(|tag| host.tags.contains(tag))
    }
}

impl Binder<'_> {
    /// The configured hosts that are meant and may be connected to, each with its connection or why there is none within the time.
    ///
    /// Faults: `usage.unknown_host` where none is meant.
    pub async fn connect_many(
        &self,
        selection: &Selection,
        patience: Duration,
    ) -> Result<Vec<(String, Result<BoundHost, Fault>)>, Fault> {
        self.filtered("host", "connect")?;
        let known = self.door().hosts.host_names();
        let mut chosen: Vec<String> =
            known.iter().filter(|host| selection.selects(host)).map(|host| host.name.clone()).collect();
        // The simulator is no configured host: it is meant only where it is named.
        if selection.name.as_deref() == Some(SIMULATOR) && selection.tags.is_empty() {
            chosen.push(SIMULATOR.to_owned());
        }
        let Some(first) = chosen.first().cloned() else {
            let message = "no configured host is of that name and has these tags";
            return Err(
                Fault::new("usage.unknown_host", message).hint("`ceso host list` lists the hosts with their tags")
            );
        };
        chosen.retain(|name| self.door().policy.allows("host", "connect", name, false));
        if chosen.is_empty() {
            self.check("host", "connect", &first, false)?;
        }
        for name in &chosen {
            self.check("host", "connect", name, false)?;
        }
        let connecting = chosen.into_iter().map(|name| async move {
            let connected = match tokio::time::timeout(patience, self.door().connect(Some(&name))).await {
                Ok(connected) => connected.map(|host| self.bound_host(host)),
                Err(_) => Err(Fault::new(
                    "esxi.timeout",
                    format!("host {name} was not connected to within {}", Span(patience)),
                )
                .hint(format!("look whether it answers: ceso host check {name}"))
                .retry()),
            };
            (name, connected)
        });
        Ok(join_all(connecting).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_select_by_star_and_question_mark() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("web-*", "web-1", true),
            ("web-*", "db-1", false),
            ("*-1", "web-1", true),
            ("*-1", "web-11", false),
            ("w?b-*-eu", "web-1-eu", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("esx1", "esx1", true),
            ("esx1", "esx10", false),
            ("", "a", false),
        ] {
            let by_name = Selection { name: Some(pattern.into()), tags: Vec::new() };
            assert_eq!(by_name.selects(&KnownHost { name: name.into(), tags: Vec::new() }), is, "{pattern} {name}");
        }
    }

    #[test]
    fn every_tag_that_is_asked_for_is_there() {
        let host = KnownHost { name: "esx1".into(), tags: vec!["prod".into(), "eu".into()] };
        let tags = |tags: &[&str]| Selection { name: None, tags: tags.iter().map(|tag| (*tag).to_owned()).collect() };
        assert!(tags(&[]).selects(&host) && tags(&["eu", "prod"]).selects(&host));
        assert!(!tags(&["prod", "us"]).selects(&host));
    }
}
