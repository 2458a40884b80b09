//! The text that describes a disk: who it is, which files hold its content, and what kind of machine it was made for.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::error::{Error, Result};
use super::{LARGEST, SECTOR};

pub(super) const BEGINS: &str = "# Disk DescriptorFile";
/// The parent of a disk that has none.
const NO_PARENT: u32 = u32::MAX;
/// More files than a disk of 62 TiB in pieces of 2 GiB has are no disk, and each is held open.
const MOST_EXTENTS: usize = 512;

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Changes whenever the content does; never `ffffffff`.
    pub cid: u32,
    pub create_type: CreateType,
    /// In the order of the disk.
    pub extents: Vec<Extent>,
    /// `lsilogic`, `buslogic`, `ide` or `legacyESX`. Default: `lsilogic`.
    pub adapter: String,
    /// The virtual hardware that the disk was made for. Default of what is written: 13 (vSphere 6.5).
    pub hardware_version: u32,
    pub tools_version: Option<u32>,
    pub thin: bool,
    /// 16 bytes in hexadecimal, as `60 00 c2 9a …-…`.
    pub uuid: Option<String>,
}

/// How the content of a disk is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateType {
    StreamOptimized,
    MonolithicSparse,
    MonolithicFlat,
    /// A flat disk on a datastore of ESXi.
    Vmfs,
    TwoGbMaxExtentSparse,
    TwoGbMaxExtentFlat,
}

const TYPES: &[(CreateType, &str)] = &[
    (CreateType::StreamOptimized, "streamOptimized"),
    (CreateType::MonolithicSparse, "monolithicSparse"),
    (CreateType::MonolithicFlat, "monolithicFlat"),
    (CreateType::Vmfs, "vmfs"),
    (CreateType::TwoGbMaxExtentSparse, "twoGbMaxExtentSparse"),
    (CreateType::TwoGbMaxExtentFlat, "twoGbMaxExtentFlat"),
];

impl fmt::Display for CreateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TYPES.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A part of a disk, and the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    pub sectors: u64,
    pub kind: ExtentKind,
    /// A plain name in the folder of the descriptor; empty for zeros.
    pub file: String,
    /// The first sector of the file that belongs to it.
    pub offset: u64,
}

/// How an extent's file holds its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    Flat,
    Vmfs,
    Sparse,
    Zero,
}

impl Descriptor {
    /// The descriptor of a disk of so many bytes, rounded up to sectors, whose content lies in `file`.
    ///
    /// The defaults: CID `fffffffe`, adapter `lsilogic`, hardware 13. For a flat disk `file` is its `NAME-flat.vmdk`.
    pub fn new(create_type: CreateType, size: u64, file: impl Into<String>) -> Self {
        let kind = match create_type {
            CreateType::Vmfs => ExtentKind::Vmfs,
            CreateType::MonolithicFlat | CreateType::TwoGbMaxExtentFlat => ExtentKind::Flat,
            _ => ExtentKind::Sparse,
        };
        Self {
            cid: NO_PARENT - 1,
            create_type,
            extents: vec![Extent { sectors: size.div_ceil(SECTOR), kind, file: file.into(), offset: 0 }],
            adapter: "lsilogic".to_owned(),
            hardware_version: 13,
            tools_version: None,
            thin: false,
            uuid: None,
        }
    }

    /// The size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.extents.iter().map(|extent| extent.sectors * SECTOR).sum()
    }

    /// Whether bytes begin as a descriptor does.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.trim_ascii_start().starts_with(BEGINS.as_bytes())
    }

    /// Reads a descriptor.
    ///
    /// Errors: `Descriptor` names the line; `Unsupported` where the disk is a child of another or kept in a form that is not known.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |line: usize, what: String| Error::Descriptor { line: line + 1, what };
        // Embedded ones are filled up with zeros.
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        if !Self::is_one(text.as_bytes()) {
            return Err(wrong(0, format!("it does not begin with {BEGINS:?}")));
        }
        let mut disk = Self::new(CreateType::MonolithicFlat, 0, "");
        disk.extents.clear();
        let (mut cid, mut parent, mut create_type) = (None, None, None);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(extent) = extent(line).map_err(|what| what.told(number))? {
                if disk.extents.len() >= MOST_EXTENTS {
                    return Err(wrong(number, format!("it has more than {MOST_EXTENTS} extents")));
                }
                disk.extents.push(extent);
                if disk.extents.iter().map(|extent| extent.sectors).sum::<u64>() > LARGEST / SECTOR {
                    return Err(wrong(number, "the disk is larger than 62 TiB".to_owned()));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(wrong(number, format!("{:?} is neither an extent nor a value", shortened(line))));
            };
            let value = value.trim().trim_matches('"');
            let once = |slot: &mut Option<String>| match slot.replace(value.to_owned()) {
                None => Ok(()),
                Some(_) => Err(wrong(number, format!("{} is said twice", key.trim()))),
            };
            let hexadecimal = |value: &str| {
                u32::from_str_radix(value, 16)
                    .ok()
                    .filter(|_| value.len() <= 8 && !value.starts_with('+'))
                    .ok_or_else(|| wrong(number, format!("{:?} is no CID of 8 hexadecimal digits", shortened(value))))
            };
            match key.trim() {
                "CID" => {
                    disk.cid = hexadecimal(value)?;
                    once(&mut cid)?;
                }
                "parentCID" => {
                    if hexadecimal(value)? != NO_PARENT {
                        let what = "the disk is the child of another (a snapshot's delta): read the whole chain's disk";
                        return Err(Error::Unsupported(what.to_owned()));
                    }
                    once(&mut parent)?;
                }
                "createType" => {
                    let known = TYPES.iter().find(|(_, name)| name.eq_ignore_ascii_case(value));
                    let unknown = || Error::Unsupported(format!("a disk of createType {:?}", shortened(value)));
                    disk.create_type = known.ok_or_else(unknown)?.0;
                    once(&mut create_type)?;
                }
                "ddb.adapterType" => disk.adapter = value.chars().take(64).collect(),
                "ddb.virtualHWVersion" => disk.hardware_version = value.parse().unwrap_or_default(),
                "ddb.toolsVersion" => disk.tools_version = value.parse().ok(),
                "ddb.thinProvisioned" => disk.thin = value == "1",
                "ddb.uuid" => disk.uuid = Some(value.chars().take(64).collect()),
                _ => {}
            }
        }
        if cid.is_none() || create_type.is_none() {
            return Err(wrong(0, "it has no CID or no createType".to_owned()));
        }
        if disk.extents.is_empty() {
            return Err(wrong(0, "it names no extent".to_owned()));
        }
        Ok(disk)
    }

    /// Errors: `Option` where a value would not be read back as it is.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Option(what));
        if self.cid == NO_PARENT {
            return wrong("the CID ffffffff means that there is no disk".to_owned());
        }
        if self.size() > LARGEST {
            return wrong(format!("{} bytes are more than 62 TiB, the largest disk", self.size()));
        }
        let plain = !self.adapter.is_empty() && self.adapter.chars().all(|c| c.is_ascii_alphanumeric());
        if !plain {
            return wrong(format!("{:?} is no adapter: lsilogic, buslogic, ide or legacyESX", self.adapter));
        }
        let uuid = self.uuid.as_deref().unwrap_or_default();
        if !uuid.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ' ' | '-')) {
            return wrong(format!("{uuid:?} is no UUID"));
        }
        match self.extents.iter().find(|extent| extent.kind != ExtentKind::Zero && !is_plain(&extent.file)) {
            Some(extent) => wrong(format!("{:?} cannot stand in a descriptor", extent.file)),
            None => Ok(()),
        }
    }

    /// The text of the descriptor.
    pub fn text(&self) -> String {
        let sectors = self.extents.iter().map(|extent| extent.sectors).sum();
        let (cylinders, heads, track) = geometry(sectors, &self.adapter);
        let mut extents = String::new();
        for extent in &self.extents {
            let file = match extent.kind {
                ExtentKind::Flat => format!("FLAT \"{}\" {}", extent.file, extent.offset),
                ExtentKind::Vmfs => format!("VMFS \"{}\"", extent.file),
                ExtentKind::Sparse => format!("SPARSE \"{}\"", extent.file),
                ExtentKind::Zero => "ZERO".to_owned(),
            };
            let access = if self.create_type == CreateType::StreamOptimized { "RDONLY" } else { "RW" };
            // Writing to a String cannot fail.
            writeln!(extents, "{access} {} {file}", extent.sectors).ok();
        }
        let mut ddb = String::new();
        let mut add = |key: &str, value: &dyn fmt::Display| {
            writeln!(ddb, "ddb.{key} = \"{value}\"").ok();
        };
        add("adapterType", &self.adapter);
        add("geometry.cylinders", &cylinders);
        add("geometry.heads", &heads);
        add("geometry.sectors", &track);
        if self.thin {
            add("thinProvisioned", &1);
        }
        if let Some(version) = self.tools_version {
            add("toolsVersion", &version);
        }
        if let Some(uuid) = &self.uuid {
            add("uuid", uuid);
        }
        add("virtualHWVersion", &self.hardware_version);
        format!(
            "{BEGINS}\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID=ffffffff\ncreateType=\"{}\"\n\n\
             # Extent description\n{extents}\n# The Disk Data Base\n#DDB\n\n{ddb}",
            self.cid, self.create_type
        )
    }
}

/// Why a line that begins as an extent is none that can be read.
enum Unfit {
    Wrong(String),
    Unsupported(String),
}

impl Unfit {
    fn told(self, number: usize) -> Error {
        match self {
            Self::Wrong(what) => Error::Descriptor { line: number + 1, what },
            Self::Unsupported(what) => Error::Unsupported(what),
        }
    }
}

/// `RW 8388608 VMFS "name-flat.vmdk"`, `RW 5860 FLAT "name-flat.vmdk" 0`, `RW 63 ZERO`.
fn extent(line: &str) -> Result<Option<Extent>, Unfit> {
    let Some((access, rest)) = line.split_once(' ') else { return Ok(None) };
    if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
        return Ok(None);
    }
    let wrong = |what: &str| Unfit::Wrong(format!("extent: {what}: {:?}", shortened(line)));
    let (sectors, rest) = rest.trim_start().split_once(' ').ok_or_else(|| wrong("it has no kind"))?;
    let sectors = u64::from_str(sectors).ok().filter(|sectors| *sectors <= LARGEST / SECTOR);
    let sectors = sectors.ok_or_else(|| wrong("its size is no number of sectors up to 62 TiB"))?;
    let (kind, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    let kind = match kind {
        "FLAT" => ExtentKind::Flat,
        "VMFS" => ExtentKind::Vmfs,
        "SPARSE" => ExtentKind::Sparse,
        "ZERO" => ExtentKind::Zero,
        other => return Err(Unfit::Unsupported(format!("an extent of kind {:?}", shortened(other)))),
    };
    if kind == ExtentKind::Zero {
        return Ok(Some(Extent { sectors, kind, file: String::new(), offset: 0 }));
    }
    let quoted = rest.trim().strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (file, rest) = quoted.ok_or_else(|| wrong("its file stands in no quotes"))?;
    if !is_plain(file) {
        return Err(wrong("its file is no plain name in the folder of the descriptor"));
    }
    let offset = match rest.trim() {
        "" => 0,
        text => text.parse().ok().filter(|offset| *offset <= LARGEST / SECTOR).ok_or_else(|| wrong("its offset"))?,
    };
    Ok(Some(Extent { sectors, kind, file: file.to_owned(), offset }))
}

/// Whether a name names a file in the same folder, and reads back as itself.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '"' | char::REPLACEMENT_CHARACTER);
    !matches!(name, "" | "." | "..") && name.len() <= 255 && name.chars().all(fits)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Cylinders, heads and sectors of a track, as VMware counts them.
fn geometry(sectors: u64, adapter: &str) -> (u64, u64, u64) {
    const GIB: u64 = (1 << 30) / SECTOR;
    let (heads, track, most) = match sectors {
        _ if adapter.eq_ignore_ascii_case("ide") => (16, 63, 16383),
        small if small < GIB => (64, 32, 65535),
        medium if medium < 2 * GIB => (128, 32, 65535),
        _ => (255, 63, 65535),
    };
    ((sectors / (heads * track)).min(most), heads, track)
}
