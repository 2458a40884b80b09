//! Dooms: the numbered announcements of packs that are being deleted, which writers look at before a backup becomes visible.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::format::{from_hashed, with_hash};
use super::id::Id;
use super::target::{Target, listed};

/// The largest doom that is read: a million packs, and a plan has fewer.
const LARGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Doom {
    /// The number of its name: a doom in the place of another is damaged.
    number: u32,
    uuid: String,
    packs: Vec<Id>,
}

fn name(number: u32) -> String {
    format!("dooms/{number:08}")
}

/// The dooms of a repository at one look.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dooms {
    /// The highest number, 0 where there is none.
    pub highest: u32,
    /// All that are there: whether each is done.
    pub numbers: BTreeMap<u32, bool>,
    /// The packs of all that are not done.
    pub packs: HashSet<Id>,
}

impl Dooms {
    /// Lists and reads them.
    pub fn read(target: &dyn Target) -> Result<Self> {
        let mut dooms = Self::default();
        for file in listed(target, "dooms")? {
            let (number, done) =
                parse(&file.name).ok_or_else(|| Error::damaged(&file.name, "its name is not that of a doom"))?;
            *dooms.numbers.entry(number).or_default() |= done;
            dooms.highest = dooms.highest.max(number);
        }
        for (number, _) in dooms.numbers.iter().filter(|(_, done)| !**done) {
            match packs(target, *number) {
                Ok(packs) => dooms.packs.extend(packs),
                // It was done and deleted after the list was made; what replaced the packs is seen by who lists the index later.
                Err(Error::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dooms)
    }

    /// Whether all were done.
    pub fn all_done(&self) -> bool {
        self.numbers.values().all(|done| *done)
    }
}

fn parse(file: &str) -> Option<(u32, bool)> {
    let text = file.strip_prefix("dooms/")?;
    let (digits, done) = text.strip_suffix(".done").map_or((text, false), |digits| (digits, true));
    let number = digits.parse().ok()?;
    (name(number).strip_prefix("dooms/") == Some(digits)).then_some((number, done))
}

/// The packs of a doom.
pub(super) fn packs(target: &dyn Target, number: u32) -> Result<Vec<Id>> {
    let file = name(number);
    let doom: Doom = from_hashed(&target.get_all(&file, LARGEST)?, &file)?;
    if doom.number != number {
        return Err(Error::damaged(file, format!("it is the doom {}", doom.number)));
    }
    Ok(doom.packs)
}

/// Announces that packs are being deleted. Returns the doom's number: the first that was free.
pub(super) fn announce(target: &dyn Target, packs: Vec<Id>, above: u32) -> Result<u32> {
    let mut doom = Doom { number: above, uuid: uuid::Uuid::new_v4().to_string(), packs };
    loop {
        let next = doom.number.checked_add(1);
        doom.number = next.ok_or_else(|| Error::Refused("there are no more numbers for dooms".to_owned()))?;
        match target.put(&name(doom.number), &with_hash(&doom)?) {
            Err(Error::Exists(_)) => {}
            other => return other.map(|()| doom.number),
        }
    }
}

/// What the file beside a doom says once it is done.
fn done_note(number: u32) -> String {
    format!("{number} is done")
}

/// Notes that the packs of some dooms are deleted, and deletes all dooms that are done but the highest of the repository.
pub(super) fn done(target: &dyn Target, numbers: &[u32]) -> Result<()> {
    for number in numbers {
        target.put(&format!("{}.done", name(*number)), &with_hash(&done_note(*number))?)?;
    }
    let files = listed(target, "dooms")?;
    let parsed: Vec<(u32, bool)> = files.iter().filter_map(|file| parse(&file.name)).collect();
    let highest = parsed.iter().map(|(number, _)| *number).max().unwrap_or_default();
    for number in parsed.iter().filter(|(number, done)| *done && *number != highest).map(|(number, _)| *number) {
        // The doom goes before its note: a note alone means nothing, a doom alone would be taken up.
        target.delete(&[name(number)])?;
        target.delete(&[format!("{}.done", name(number))])?;
    }
    Ok(())
}

/// Verifies a doom or its note, for a check.
pub(super) fn verify(target: &dyn Target, file: &str) -> Result<()> {
    match parse(file) {
        Some((number, false)) => packs(target, number).map(drop),
        Some((number, true)) => match from_hashed::<String>(&target.get_all(file, 1024)?, file)? {
            note if note == done_note(number) => Ok(()),
            note => Err(Error::damaged(file, format!("it says that {note}"))),
        },
        None => Err(Error::damaged(file, "its name is not that of a doom")),
    }
}
