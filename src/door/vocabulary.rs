//! The nouns and verbs that a capability table may name.
//!
//! A test in `ops/` holds this list against the declarations: every declared touch is here, and everything here is touched.

/// A noun, its verbs, and what each verb allows.
pub struct Noun {
    pub name: &'static str,
    pub verbs: &'static [(&'static str, &'static str)],
}

/// All of them, in the order of the reference.
pub const NOUNS: &[Noun] = &[
    Noun {
        name: "host",
        verbs: &[
            ("connect", "connect to a host by name; the host that the run was started for needs no entry"),
            ("read", "read the host's facts: hardware, version, licence, sensors, events, tasks"),
            ("administer", "change the host itself: mounts, port groups, maintenance mode, a configuration put back"),
            ("passthrough", "give PCI devices of the host to machines, and take them out"),
            ("copy_config", "download the host's configuration, with its password hashes and private keys"),
            ("shut_down", "shut the host down, or restart it"),
        ],
    },
    Noun {
        name: "vm",
        verbs: &[
            ("read", "see the machine in lists, read its hardware, state and addresses"),
            ("create", "make a machine of that name"),
            ("copy_from", "clone the machine: its disks' content becomes another machine's"),
            ("configure", "change processors, memory, notes, extra configuration, cloud-init data"),
            (
                "rename",
                "give the machine another name, on its old name and its new one: other entries go by the new one then",
            ),
            (
                "register",
                "take the machine out of the inventory, or a configuration file into it with all disks that it names",
            ),
            (
                "guest",
                "run programs in the machine's guest and carry files in and out, as a user of the guest; see its console",
            ),
            ("reach", "connect to an address that the machine's guest reports: whether a port or a URL answers"),
            ("snapshot", "take snapshots, name them, merge deltas that no snapshot owns"),
            ("revert", "go back to a snapshot: what was written since is lost"),
            ("remove_snapshot", "remove snapshots: there is no way back to them"),
            ("power", "turn on, turn off, reset, suspend, shut the guest down"),
            ("migrate", "move the machine to another folder, host, cluster or datastore of a vCenter"),
            (
                "answer",
                "answer what the machine asks before it goes on: an answer may change its identity, or turn it off",
            ),
            ("destroy", "remove the machine and its disks for good"),
        ],
    },
    Noun {
        name: "datastore",
        verbs: &[
            ("read", "see the datastore, its space, and the names and sizes of its files"),
            ("write", "put machines, disks, files and folders on it"),
            ("copy_from", "read what its files and disks hold: copy, move and download them"),
            ("delete", "delete files, folders and disks on it for good, and move them away"),
        ],
    },
    Noun {
        name: "secret",
        verbs: &[(
            "use",
            "put the secret of that name, unseen, into cloud-init data for the machines that it may go to",
        )],
    },
    Noun {
        name: "repository",
        verbs: &[
            ("read", "open the repository, list its backups, check it, and see what it holds"),
            ("create", "make a repository at that place"),
            ("write", "put backups into it"),
            ("copy_from", "read the disks of its backups: their content becomes a file or a machine"),
            ("prune", "remove what no backup needs, make its index anew, take away leases that are left"),
            ("keys", "add, remove and rotate the keys that open it"),
            ("destroy", "forget backups for good"),
        ],
    },
    Noun {
        name: "catalog",
        verbs: &[
            ("read", "see what the catalog knows of the machine; with \"*\" also runs, hosts, repositories and tags"),
            ("write", "make the catalog anew from the repositories"),
        ],
    },
    Noun {
        name: "web",
        verbs: &[(
            "fetch",
            "fetch what lies at a URL, named as \"https://HOST/PATH\" or by how it begins; under \"*\" not from this machine itself, nor \
             from link-local addresses and metadata services",
        )],
    },
    Noun { name: "network", verbs: &[("read", "see the network"), ("use", "connect a machine to it")] },
];

/// The verbs of a noun, or `None` where there is no such noun.
pub fn verbs(noun: &str) -> Option<impl Iterator<Item = &'static str>> {
    NOUNS.iter().find(|known| known.name == noun).map(|known| known.verbs.iter().map(|(verb, _)| *verb))
}
