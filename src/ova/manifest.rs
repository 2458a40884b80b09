//! The sums of an appliance's files: `SHA256(disk-0.vmdk)= 9f86…`, one a line.

use std::io::Read;

use ring::digest::{self, Context};

use super::{Error, is_plain};

/// How a file is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    const ALL: [(Self, &'static str, usize); 3] =
        [(Self::Sha1, "SHA1", 40), (Self::Sha256, "SHA256", 64), (Self::Sha512, "SHA512", 128)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(own, ..)| *own == self).map_or("SHA256", |(_, name, _)| name)
    }
}

/// What a manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Each file with its algorithm and its sum in hexadecimal.
    pub sums: Vec<(String, Algorithm, String)>,
}

impl Manifest {
    /// Reads a manifest. Errors: a line that is none, a file that comes twice, a sum of another length than its algorithm's.
    pub fn read(text: &str) -> Result<Self, Error> {
        let mut sums: Vec<(String, Algorithm, String)> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str| Error::Manifest(format!("line {}: {what}", number + 1));
            let (head, sum) = line.rsplit_once('=').ok_or_else(|| wrong("it has no sum"))?;
            let (algorithm, name) = head
                .trim()
                .strip_suffix(')')
                .and_then(|head| head.split_once('('))
                .ok_or_else(|| wrong("it is not SHA256(FILE)= SUM"))?;
            let wanted = algorithm.trim().replace('-', "").to_ascii_uppercase();
            let known = Algorithm::ALL.iter().find(|(_, name, _)| *name == wanted);
            let (algorithm, _, length) = known.ok_or_else(|| wrong("its algorithm is none of SHA1, SHA256, SHA512"))?;
            let sum = sum.trim().to_ascii_lowercase();
            if sum.len() != *length || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong("its sum is not one of that algorithm"));
            }
            if !is_plain(name) || sums.iter().any(|(known, ..)| known == name) {
                return Err(wrong("its file is not a plain name, or comes twice"));
            }
            sums.push((name.to_owned(), *algorithm, sum));
        }
        Ok(Self { sums })
    }

    pub fn of(&self, name: &str) -> Option<(Algorithm, &str)> {
        self.sums.iter().find(|(own, ..)| own == name).map(|(_, algorithm, sum)| (*algorithm, sum.as_str()))
    }

    pub fn text(&self) -> String {
        self.sums.iter().map(|(name, algorithm, sum)| format!("{}({name})= {sum}\n", algorithm.name())).collect()
    }
}

/// A file's sums, as far as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summed {
    pub sum: String,
    pub bytes: u64,
}

/// Sums what a reader gives. SHA-1 is for old appliances, which have no other: it is no proof against who wants to deceive.
pub fn summed(mut from: impl Read, algorithm: Algorithm) -> Result<Summed, Error> {
    let mut sum = Summing::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(Error::io("read it"))?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { return Ok(sum.done()) };
        sum.update(piece);
    }
}

/// A sum under way.
#[derive(Clone)]
pub struct Summing {
    context: Context,
    bytes: u64,
}

impl Summing {
    pub fn new(algorithm: Algorithm) -> Self {
        let algorithm = match algorithm {
            Algorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => &digest::SHA256,
            Algorithm::Sha512 => &digest::SHA512,
        };
        Self { context: Context::new(algorithm), bytes: 0 }
    }

    pub fn update(&mut self, piece: &[u8]) {
        self.context.update(piece);
        self.bytes += piece.len() as u64;
    }

    pub fn done(self) -> Summed {
        Summed { sum: hex::encode(self.context.finish()), bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_others_write_it() {
        let (one, two) = ("a".repeat(40), "b".repeat(64));
        let text = format!("SHA1(a.ovf)= {one}\nSHA256(a b.vmdk) = {}\r\n\n", two.to_uppercase());
        let manifest = Manifest::read(&text).unwrap();
        assert_eq!(manifest.of("a.ovf"), Some((Algorithm::Sha1, one.as_str())));
        assert_eq!(manifest.of("a b.vmdk"), Some((Algorithm::Sha256, two.as_str())));
        assert_eq!(Manifest::read(&manifest.text()).unwrap(), manifest);
        for wrong in [
            "SHA256(a)".to_owned(),
            format!("SHA256(a)= {one}"),
            format!("MD5(a)= {one}"),
            format!("SHA256(../a)= {two}"),
            format!("SHA1(a)= {one}\nSHA1(a)= {one}"),
            format!("SHA1(a)= {}", "g".repeat(40)),
            "junk".to_owned(),
        ] {
            assert_eq!(Manifest::read(&wrong).unwrap_err().kind(), "ova.sum", "{wrong}");
        }
    }

    #[test]
    fn sums_are_those_that_everybody_knows() {
        let sum = |algorithm| summed(&b"abc"[..], algorithm).unwrap().sum;
        assert_eq!(sum(Algorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(sum(Algorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(sum(Algorithm::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
