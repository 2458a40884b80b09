//! What a script may fetch: a URL is checked by the tables before it is asked for, and so is every URL that a redirect leads to.
//!
//! Tables know a URL by its scheme, host, port and path. A prefix ends behind the host at the least, or it would name other hosts
//! too. Addresses that no URL leads to by chance (this machine's own, link-local ones, metadata services) are never reached by a name,
//! nor under `"*"` alone: only where the URL itself holds the address, and an entry names that scheme, address and port. Where the caller was granted a table, that table
//! must name it; what a script asks for itself is then not enough.

use std::net::IpAddr;
use std::sync::Arc;

use super::bind::Binder;
use super::pass::Hosts;
use super::policy::Policy;
use super::table::Pattern;
use crate::error::Fault;
use crate::web::{Address, Limits, Rules, Web, reserved};

const NOUN: &str = "web";
const VERB: &str = "fetch";

impl Binder<'_> {
    /// A URL that the tables allow, and what fetches it and whatever lies where it leads to.
    ///
    /// Faults: `usage.url`, `door.denied`, `web.trust`.
    pub fn web(&self, url: &str) -> Result<(Arc<Web>, Address), Fault> {
        let address = Address::parse(url)?;
        self.check(NOUN, VERB, &address.name(), false)?;
        let door = self.door();
        let policy = Arc::new(door.policy.frozen());
        let (hosts, own) = (door.hosts.clone(), door.hosts.clone());
        let rules = Rules {
            url: Arc::new(move |address| may_ask(&policy, own.as_ref(), address)),
            address: Arc::new(move |ip| may_connect(hosts.as_ref(), ip)),
        };
        Ok((Arc::new(Web::new(rules, Limits::default())?), address))
    }

    /// Counts the URLs that redirects led to among what the call is about.
    pub fn went(&self, went: &[Address]) -> Result<(), Fault> {
        went.iter().try_for_each(|address| self.check(NOUN, VERB, &address.name(), false))
    }
}

fn may_ask(policy: &Policy, hosts: &dyn Hosts, address: &Address) -> Result<(), Fault> {
    let name = address.name();
    policy.check_now(NOUN, VERB, &name, false)?;
    let Some(ip) = address.literal() else { return Ok(()) };
    if let Some(whose) = reserved(ip)
        && !policy.names(NOUN, VERB, &address.origin())
    {
        return Err(Fault::new("door.network", format!("denied: {name}: the address is {whose}")).hint(format!(
            "\"*\" is not enough for it: an entry that names it would be {NOUN} = {{ {VERB} = \"{name}\" }}"
        )));
    }
    hosts.check_address(address.host(), ip)
}

/// Whether an address may be connected to that a name leads to.
fn may_connect(hosts: &dyn Hosts, ip: IpAddr) -> Result<(), Fault> {
    match reserved(ip) {
        Some(whose) => Err(Fault::new("door.network", format!("denied: the name leads to {ip}, which is {whose}"))
            .hint("such an address is never reached by a name: write the address itself into the URL, and name it in an entry")),
        None => hosts.check_address("of the URL", ip),
    }
}

/// What tables know a URL by, for the check of a call's words. Faults: `usage.url`.
pub(super) fn name_of(url: &str) -> Result<String, Fault> {
    Ok(Address::parse(url)?.name())
}

/// Checks a selector of URLs, and writes it as URLs are known; `given` says that it is a parameter's value, which may be none.
pub(super) fn selector(pattern: Pattern, given: bool) -> Result<Pattern, String> {
    let wrong = |text: &str, what: &str| Err(format!("{text:?}: {what}, such as \"https://images.example.com/*\""));
    match pattern {
        Pattern::Exact(text) => match Address::parse(&text) {
            Ok(address) => Ok(Pattern::Exact(address.name())),
            Err(_) if given => Ok(Pattern::Exact(text)),
            Err(_) => wrong(&text, "a selector is a URL, or how one begins"),
        },
        Pattern::Prefix(text) => match Address::parse(&text) {
            // What the URL reader adds, such as the slash behind a host, must have been written.
            Ok(address) if address.name() == text => Ok(Pattern::Prefix(text)),
            Ok(_) => wrong(&text, "how a URL begins is written plainly, with a slash behind its host"),
            Err(_) => wrong(&text, "a selector is a URL, or how one begins"),
        },
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Grant;
    use crate::door::modes::Mode;
    use crate::door::table::{Entry, Table};

    struct Anywhere;

    impl Hosts for Anywhere {
        fn connect<'a>(
            &'a self,
            _: Option<&'a str>,
        ) -> futures_util::future::BoxFuture<'a, Result<crate::door::object::Connected, Fault>> {
            Box::pin(async { Err(Fault::new("usage.host", "there is none")) })
        }

        fn check_address(&self, _: &str, _: IpAddr) -> Result<(), Fault> {
            Ok(())
        }
    }

    fn table(patterns: &[&str]) -> Table {
        let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        Table { entries: vec![Entry { noun: NOUN.to_owned(), verb: VERB.to_owned(), patterns, max: None }] }
    }

    fn policy(mode: Mode, needs: &[&str], grant: Option<&[&str]>) -> Policy {
        let Grant { mode, table: granted } = Grant { mode, table: grant.map(table) };
        let policy = Policy::new(mode, granted);
        policy.set_needs(table(needs));
        policy
    }

    fn ask(policy: &Policy, url: &str) -> Result<(), String> {
        may_ask(policy, &Anywhere, &Address::parse(url).unwrap()).map_err(|fault| fault.kind().to_owned())
    }

    #[test]
    fn a_url_is_asked_for_only_where_its_beginning_is_allowed() {
        let policy = policy(Mode::Standard, &["https://images.example.com/debian/*"], None);
        assert!(ask(&policy, "https://images.example.com/debian/12/x.ova?sig=1").is_ok());
        for url in [
            "http://images.example.com/debian/12/x.ova",
            "https://images.example.com/debian/../secret",
            "https://images.example.com.evil.example/debian/x",
            "https://images.example.com:8443/debian/x",
            "https://evil.example/?https://images.example.com/debian/x",
        ] {
            assert_eq!(ask(&policy, url).unwrap_err(), "door.denied", "{url}");
        }
    }

    #[test]
    fn nothing_is_fetched_in_mode_restricted() {
        let policy = policy(Mode::Restricted, &["*"], None);
        assert_eq!(ask(&policy, "https://images.example.com/x").unwrap_err(), "door.denied");
    }

    #[test]
    fn metadata_services_and_this_machine_are_reached_only_where_an_entry_names_them() {
        let urls = [
            "http://169.254.169.254/latest/meta-data/",
            "http://127.0.0.1:8000/x",
            "http://[::1]/x",
            "http://2130706433/",
        ];
        let all = policy(Mode::Unrestricted, &["*"], None);
        for url in urls {
            assert_eq!(ask(&all, url).unwrap_err(), "door.network", "{url}");
        }
        let named = policy(Mode::Standard, &["*", "http://127.0.0.1:8000/*"], None);
        assert!(ask(&named, urls[1]).is_ok() && ask(&named, urls[0]).is_err());
        assert!(ask(&named, "http://127.0.0.1:9000/x").is_err());
        // What a script asks for itself is not what its caller was granted.
        let asked = policy(Mode::Standard, &["http://127.0.0.1:8000/*"], Some(&["*"]));
        assert_eq!(ask(&asked, urls[1]).unwrap_err(), "door.network");
        let granted = policy(Mode::Standard, &["*"], Some(&["http://127.0.0.1:8000/*"]));
        assert!(ask(&granted, urls[1]).is_ok());
        for ip in ["127.0.0.1", "169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert_eq!(may_connect(&Anywhere, ip.parse().unwrap()).unwrap_err().kind(), "door.network", "{ip}");
        }
        assert!(may_connect(&Anywhere, "10.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_selector_that_would_name_other_hosts_too_is_refused() {
        let read = |text: &str| selector(Pattern::parse(text).unwrap(), false);
        for text in [
            "https://images.example.com*",
            "https://*",
            "http*",
            "images.example.com/*",
            "example.com",
            "https://u:p@h/*",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("*").unwrap(), Pattern::Any);
        assert_eq!(read("https://h/a*").unwrap(), Pattern::Prefix("https://h/a".to_owned()));
        assert_eq!(read("https://H:443/a?sig=1").unwrap(), Pattern::Exact("https://h/a".to_owned()));
        let given = |text: &str| selector(Pattern::Exact(text.to_owned()), true);
        assert_eq!(given("out.ova").unwrap(), Pattern::Exact("out.ova".to_owned()));
        assert_eq!(given("https://h/a?sig=1").unwrap(), Pattern::Exact("https://h/a".to_owned()));
    }
}
