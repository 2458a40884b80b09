//! Who has a run done: the user of this machine who started the process.
//!
//! Not out of the environment, which anybody can set: the user is the kernel's, the name that of `/etc/passwd`.

use std::io::Read;

/// The largest list of users that is read.
const LARGEST: u64 = 1 << 20;

/// The principal as records name it: `root (uid 0)`, or `uid 1000` where this machine's list has no name.
pub fn principal() -> String {
    let uid = rustix::process::getuid().as_raw();
    let mut list = String::new();
    let read = std::fs::File::open("/etc/passwd").and_then(|file| file.take(LARGEST).read_to_string(&mut list));
    match read.ok().and_then(|_| name_of(&list, uid)) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

fn name_of(list: &str, uid: u32) -> Option<&str> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_list_and_nothing_else() {
        let list = "root:x:0:0:root:/root:/bin/sh\nbroken\nops:x:1000:1000::/home/ops:/bin/sh\n:x:7:7::/:\n";
        assert_eq!(name_of(list, 0), Some("root"));
        assert_eq!(name_of(list, 1000), Some("ops"));
        assert_eq!(name_of(list, 100), None);
        assert_eq!(name_of(list, 7), None);
        assert!(principal().contains("uid "));
    }
}
