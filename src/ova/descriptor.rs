//! What an .ovf says of its files, disks, networks and machine: as much as must be known before a host is asked.

use crate::xml::{self, Element, Limits};

use super::{Error, LARGEST_TEXT, is_plain};

/// The most files and disks of one machine.
const MOST: usize = 128;

/// A package of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub files: Vec<FilePart>,
    pub disks: Vec<DiskPart>,
    /// The names of the networks that its cards are on.
    pub networks: Vec<String>,
    /// The name that it gives to the machine.
    pub name: Option<String>,
}

/// A file that the descriptor names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    pub id: String,
    pub name: String,
    /// How long it says that it is. Some write how large the disk is that is in it.
    pub size: Option<u64>,
}

/// A disk that the descriptor names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPart {
    pub id: String,
    /// The file that holds it; `None`: it is empty.
    pub file: Option<String>,
    /// In bytes.
    pub capacity: u64,
    /// How much of it holds something, where it says so.
    pub populated: Option<u64>,
}

impl Package {
    /// Reads a descriptor. Errors: what is no OVF of one machine, or names files that cannot lie beside it.
    pub fn read(text: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Descriptor(what.to_owned());
        let limits = Limits { bytes: usize::try_from(LARGEST_TEXT).unwrap_or(usize::MAX), ..Limits::default() };
        let envelope = xml::parse(text, limits).map_err(|error| Error::Descriptor(error.to_string()))?;
        if envelope.name != "Envelope" {
            return Err(wrong("it is no OVF: its root is not an Envelope"));
        }
        if envelope.child("VirtualSystemCollection").is_some() {
            return Err(wrong("it holds several machines, which a standalone host does not take at once"));
        }
        let mut systems = envelope.all("VirtualSystem");
        let (Some(system), None) = (systems.next(), systems.next()) else {
            return Err(wrong("it does not hold exactly one machine"));
        };
        let parts = |section: &str, name: &'static str| -> Vec<Element> {
            envelope.all(section).flat_map(|section| section.all(name)).cloned().collect()
        };
        let files: Vec<FilePart> = parts("References", "File").iter().map(file).collect::<Result<_, _>>()?;
        let disks: Vec<DiskPart> = parts("DiskSection", "Disk").iter().map(disk).collect::<Result<_, _>>()?;
        if files.len() > MOST || disks.len() > MOST {
            return Err(wrong("it names more than 128 files or disks"));
        }
        for (index, part) in files.iter().enumerate() {
            if files.iter().take(index).any(|other| other.id == part.id || other.name.eq_ignore_ascii_case(&part.name))
            {
                return Err(Error::member(&part.name, "the descriptor names it twice"));
            }
        }
        for (index, disk) in disks.iter().enumerate() {
            let named = |disk: &DiskPart| disk.file.clone();
            if disk.file.as_ref().is_some_and(|id| files.iter().all(|file| file.id != *id)) {
                return Err(Error::member(&disk.id, "the disk's file is not among the References"));
            }
            if disks
                .iter()
                .take(index)
                .any(|other| other.id == disk.id || (named(other).is_some() && named(other) == named(disk)))
            {
                return Err(Error::member(&disk.id, "the disk, or its file, comes twice"));
            }
        }
        let networks = parts("NetworkSection", "Network")
            .iter()
            .filter_map(|network| network.get("name").map(str::to_owned))
            .collect();
        let name = system.text_at("Name").map(str::trim).filter(|name| !name.is_empty());
        let name = name.or_else(|| system.get("id")).map(str::to_owned);
        Ok(Self { files, disks, networks, name })
    }

    /// How much room its thin disks take, and whether that is the most that they can take: what they hold, where it says so.
    pub fn room(&self) -> (u64, bool) {
        let known = |disk: &DiskPart| disk.populated.or(disk.file.is_none().then_some(0));
        let room = self.disks.iter().map(|disk| known(disk).unwrap_or(disk.capacity));
        (room.fold(0, u64::saturating_add), self.disks.iter().any(|disk| known(disk).is_none()))
    }

    /// Whether a file of that length is as long as the descriptor says, or the descriptor does not say: govc writes what the host told it
    /// before the disk came, which is how large the disk is.
    pub fn fits(&self, file: &FilePart, length: u64) -> bool {
        let is_capacity = |size| self.disk_of(file).is_some_and(|disk| disk.capacity == size);
        file.size.is_none_or(|size| size == length || is_capacity(size))
    }

    /// The disk whose content a file is.
    pub fn disk_of(&self, file: &FilePart) -> Option<&DiskPart> {
        self.disks.iter().find(|disk| disk.file.as_deref() == Some(&file.id))
    }
}

fn file(part: &Element) -> Result<FilePart, Error> {
    let (id, name) = (part.get("id").unwrap_or_default(), part.get("href").unwrap_or_default());
    if id.is_empty() || !is_plain(name) {
        return Err(Error::member(name, "a file of an appliance lies beside its descriptor, under a plain name"));
    }
    if part.get("compression").is_some_and(|compression| !matches!(compression, "" | "identity")) {
        return Err(Error::member(name, "it is compressed as a whole, which is not read"));
    }
    if part.get("chunkSize").is_some() {
        return Err(Error::member(name, "it comes in chunks, which are not read"));
    }
    let size = match part.get("size") {
        None => None,
        Some(size) => Some(size.trim().parse().map_err(|_| Error::member(name, "its size is no number"))?),
    };
    Ok(FilePart { id: id.to_owned(), name: name.to_owned(), size })
}

fn disk(part: &Element) -> Result<DiskPart, Error> {
    let id = part.get("diskId").unwrap_or_default();
    let wrong = |what: &str| Error::member(id, what);
    if part.get("parentRef").is_some() {
        return Err(wrong("the disk builds on another"));
    }
    let number = part.get("capacity").and_then(|text| text.trim().parse::<u64>().ok());
    let unit = unit(part.get("capacityAllocationUnits").unwrap_or("byte"));
    let capacity = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let capacity = capacity.filter(|bytes| *bytes > 0 && *bytes <= 62 << 40);
    let capacity = capacity.ok_or_else(|| wrong("the disk's capacity is not 1 byte to 62 TiB"))?;
    let file = part.get("fileRef").filter(|file| !file.is_empty()).map(str::to_owned);
    let populated = part.get("populatedSize").and_then(|text| text.trim().parse().ok());
    Ok(DiskPart { id: id.to_owned(), file, capacity, populated: populated.filter(|bytes| *bytes <= capacity) })
}

/// `byte`, `byte * 2^20`, `MegaBytes`.
fn unit(text: &str) -> Option<u64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    match text.as_str() {
        "" | "byte" | "bytes" => Some(1),
        "kilobytes" | "kb" => Some(1 << 10),
        "megabytes" | "mb" => Some(1 << 20),
        "gigabytes" | "gb" => Some(1 << 30),
        other => {
            let power = other.strip_prefix("byte*2^")?.parse::<u32>().ok()?;
            1u64.checked_shl(power).filter(|_| power < 63)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ovf(references: &str, disks: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" \
             xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"><References>{references}</References><DiskSection>{disks}</DiskSection>\
             <NetworkSection><Network ovf:name=\"VM Network\"/></NetworkSection>\
             <VirtualSystem ovf:id=\"vm\"><Name>web-1</Name></VirtualSystem></Envelope>"
        )
    }

    const FILE: &str = "<File ovf:id=\"file1\" ovf:href=\"disk-0.vmdk\" ovf:size=\"10\"/>";
    const DISK: &str = "<Disk ovf:diskId=\"d1\" ovf:fileRef=\"file1\" ovf:capacity=\"2\" ovf:capacityAllocationUnits=\"byte * 2^30\"/>";

    #[test]
    fn a_package_is_read() {
        let package = Package::read(ovf(FILE, DISK).as_bytes()).unwrap();
        assert_eq!(package.name.as_deref(), Some("web-1"));
        assert_eq!(package.networks, ["VM Network"]);
        let file = &package.files[0];
        assert_eq!((file.size, package.disk_of(file).unwrap().capacity), (Some(10), 2 << 30));
        assert!(package.fits(file, 10) && !package.fits(file, 11));
        let told = |size: &str| Package::read(ovf(&FILE.replace("ovf:size=\"10\"", size), DISK).as_bytes()).unwrap();
        for vague in [told(""), told("ovf:size=\"2147483648\"")] {
            assert!(vague.fits(&vague.files[0], 11));
        }
        let other = told("ovf:size=\"2147483647\"");
        assert!(!other.fits(&other.files[0], 11));
    }

    #[test]
    fn what_leads_elsewhere_or_makes_no_sense_is_refused() {
        for href in ["../x.vmdk", "/etc/passwd", "http://h/x.vmdk", "a/b.vmdk", "", ".x", "a\\b"] {
            let references = format!("<File ovf:id=\"file1\" ovf:href=\"{href}\"/>");
            assert!(Package::read(ovf(&references, DISK).as_bytes()).is_err(), "{href:?}");
        }
        for references in [
            format!("{FILE}{FILE}"),
            "<File ovf:id=\"file1\" ovf:href=\"a\" ovf:compression=\"gzip\"/>".to_owned(),
            "<File ovf:id=\"file1\" ovf:href=\"a\" ovf:chunkSize=\"10\"/>".to_owned(),
            "<File ovf:id=\"file1\" ovf:href=\"a\" ovf:size=\"-1\"/>".to_owned(),
            String::new(),
        ] {
            assert!(Package::read(ovf(&references, DISK).as_bytes()).is_err(), "{references}");
        }
        for disk in [
            DISK.replace("\"2\"", "\"99999999999\""),
            DISK.replace("\"2\"", "\"0\""),
            DISK.replace("2^30", "2^99"),
            DISK.replace("ovf:fileRef", "ovf:parentRef=\"d0\" ovf:fileRef"),
            format!("{DISK}{DISK}"),
        ] {
            assert!(Package::read(ovf(FILE, &disk).as_bytes()).is_err(), "{disk}");
        }
        for text in [
            "",
            "<x/>",
            "<Envelope/>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><Envelope/>",
            "<Envelope><VirtualSystemCollection/></Envelope>",
        ] {
            assert_eq!(Package::read(text.as_bytes()).unwrap_err().kind(), "ova.invalid", "{text}");
        }
    }
}
