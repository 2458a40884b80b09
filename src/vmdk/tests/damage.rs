//! Files that are cut, flipped or lie: an error that names the place, and never a byte that was not there.

use proptest::prelude::*;

use super::hand::{in_front, zlib};
use super::*;

const NUMBERS: [u64; 12] = [0, 1, 3, 21, 127, 129, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, u64::MAX];

/// What both readers say of a stream that must not be read.
fn refused(stream: &[u8]) -> [Error; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "disk.vmdk", stream);
    let image = match read_image(&path, Form::Vmdk).unwrap_err() {
        Error::At { error, .. } => *error,
        error => error,
    };
    [read_front(stream).unwrap_err(), image]
}

/// Both readers name the field.
fn names(stream: &[u8], wanted: &str) {
    for error in refused(stream) {
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    }
}

fn with(stream: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = stream.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

#[test]
fn a_header_that_lies_is_refused_with_the_field() {
    let stream = stream(&disk(700), &StreamOptions::default());
    let cases: &[(usize, &[u8], &str)] = &[
        (0, b"X", "neither a sparse VMDK"),
        (4, &9u32.to_le_bytes(), "version 9"),
        (8, &0x3_0021u32.to_le_bytes(), "at byte 8: flags"),
        (8, &0x1_0001u32.to_le_bytes(), "at byte 8: flags"),
        (12, &(1u64 << 63).to_le_bytes(), "at byte 12: capacity"),
        (12, &701u64.to_le_bytes(), "the header says 701"),
        (20, &0u64.to_le_bytes(), "at byte 20: grain size"),
        (20, &96u64.to_le_bytes(), "at byte 20: grain size"),
        (20, &(1u64 << 40).to_le_bytes(), "at byte 20: grain size"),
        (28, &(1u64 << 63).to_le_bytes(), "at byte 28: descriptor"),
        (28, &0u64.to_le_bytes(), "at byte 28: descriptor"),
        (36, &(1u64 << 21).to_le_bytes(), "descriptor"),
        (44, &0u32.to_le_bytes(), "at byte 44: entries of a grain table"),
        (44, &(1u32 << 31).to_le_bytes(), "at byte 44: entries of a grain table"),
        (56, &0u64.to_le_bytes(), "at byte 56: grain directory"),
        (56, &(1u64 << 63).to_le_bytes(), "at byte 56: grain directory"),
        (64, &0u64.to_le_bytes(), "at byte 64: overhead"),
        (64, &u64::MAX.to_le_bytes(), "at byte 64: overhead"),
        (64, &(1u64 << 30).to_le_bytes(), "the file ends"),
        (72, &[1], "at byte 72: unclean shutdown"),
        (73, b"\r\n", "at byte 73: newline check"),
        (77, &[2, 0], "at byte 77: compression"),
    ];
    for (at, bytes, wanted) in cases {
        let changed = with(&stream, *at, bytes);
        if *at == 0 {
            assert!(refused(&changed)[1].to_string().contains(wanted));
        } else {
            names(&changed, wanted);
        }
    }
    // A descriptor of 1 GiB, in an overhead that has room for it.
    let large = with(&with(&stream, 36, &(1u64 << 21).to_le_bytes()), 64, &(1u64 << 22).to_le_bytes());
    names(&large, "descriptor size: 2097152 sectors");
    // 62 TiB in the smallest grains would need 260 million bits of tables.
    let fine = with(&with(&stream, 12, &(62u64 << 31).to_le_bytes()), 20, &8u64.to_le_bytes());
    names(&fine, "grain tables");
}

#[test]
fn a_grain_that_lies_is_refused() {
    let plain = |fill: u8| zlib(&vec![fill; 64 << 10]);
    let read = hand::stream(400, &[(256, plain(2)), (0, plain(1))]);
    let mut wanted = vec![1; 400 * 512];
    wanted[128 * 512..256 * 512].fill(0);
    wanted[256 * 512..384 * 512].fill(2);
    wanted[384 * 512..].fill(0);
    assert!(read_front(&read).unwrap() == wanted, "grains come in any order");

    names(&hand::stream(400, &[(0, plain(1)), (0, plain(2))]), "comes twice");
    names(&hand::stream(400, &[(512, plain(1))]), "lies behind the disk, which has 400");
    names(&hand::stream(400, &[(1 << 63, plain(1))]), "lies behind the disk");
    names(&hand::stream(400, &[(64, plain(1))]), "is not the first of a grain");
    names(&hand::stream(400, &[(0, vec![7; 200 << 10])]), "204800 bytes for one grain");
    names(&hand::stream(400, &[(0, zlib(&[1; 512]))]), "it inflates to 512 bytes, not to 65536");
    names(&hand::stream(400, &[(0, zlib(&vec![0; 200 << 20]))]), "bytes for one grain");
    names(&hand::stream(400, &[(0, zlib(&vec![0; 8 << 20]))]), "does not end with the 65536 bytes of a grain");
    names(&hand::stream(400, &[(0, [plain(1), vec![1, 2]].concat())]), "its zlib stream ends after");
    let whole = plain(1);
    names(&hand::stream(400, &[(0, whole[..whole.len() - 5].to_vec())]), "of a grain");
    names(&hand::stream(400, &[(0, whole[..whole.len() / 2].to_vec())]), "is cut");
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    names(&hand::stream(400, &[(0, flipped)]), "damaged");
    // The last grain may hold what is left of the disk, or a whole grain.
    for length in [16, 128] {
        let last = hand::stream(400, &[(384, zlib(&vec![9; length * 512]))]);
        assert!(read_front(&last).unwrap()[384 * 512..] == [9; 16 * 512]);
    }
    names(&hand::stream(400, &[(384, zlib(&vec![9; 15 * 512]))]), "inflates to 7680");
}

#[test]
fn tables_that_do_not_name_the_grains_are_refused() {
    let bytes = disk(128 * 520);
    let stream = stream(&bytes, &StreamOptions::default());
    let sectors = stream.len() / 512;
    let u32_at = |at: usize| u32::from_le_bytes(stream[at..at + 4].try_into().unwrap());
    // EOS, footer, its marker, directory.
    let directory = (sectors - 4) * 512;
    let first_table = u32_at(directory) as usize * 512;
    let first_grain = u32_at(first_table);
    for entry in [0, 1, first_grain + 1, 5, u32::MAX, sectors as u32] {
        names(&with(&stream, first_table, &entry.to_le_bytes()), "grain");
    }
    names(&with(&stream, first_table + 4, &first_grain.to_le_bytes()), "are not the places of its grains");
    for entry in [0, 1, u32_at(directory) + 1, u32_at(directory + 4), u32::MAX] {
        names(&with(&stream, directory, &entry.to_le_bytes()), "grain directory");
    }
    names(&with(&stream, first_table - 512, &[9]), "a grain table of 9 sectors");
    names(&with(&stream, first_table - 500, &[7]), "of type 7");
    names(&with(&stream, first_table - 500, &[0]), "4 sectors follow");
    names(&with(&stream, directory - 512, &[2]), "a grain directory of 2 sectors");
    names(&with(&stream, directory + 512, &[2]), "footer");
    names(&with(&stream, directory + 1024 + 56, &[1]), "grain directory");
    names(&with(&stream, directory + 1024 + 12, &[1]), "footer");
    names(&with(&stream, stream.len() - 512, &[1]), "end of stream");
    names(&[stream.as_slice(), &[0; 512]].concat(), "bytes follow it");
    names(&[stream.as_slice(), b"x"].concat(), "bytes follow it");
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused() {
    for bytes in [disk(300), vec![0; 128 * 512 * 3]] {
        for stream in [stream(&bytes, &StreamOptions::default()), in_front(&bytes, true)] {
            let cut_ends = (0..stream.len()).step_by(509).chain(stream.len() - 4..stream.len());
            for end in cut_ends {
                let cut = &stream[..end];
                if let Ok(read) = read_front(cut) {
                    // In front of a directory's grains nothing can be missing but nothing.
                    assert!(read == bytes && cut.len() >= 64 << 10, "{end} of {}", stream.len());
                }
            }
        }
    }
}

#[test]
fn a_directory_in_front_of_the_grains_is_read_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = disk(128 * 600 + 9);
    for compressed in [true, false] {
        let whole = in_front(&bytes, compressed);
        let path = file(folder.path(), "disk.vmdk", &whole);
        assert!(read_image(&path, Form::Detect).unwrap() == bytes);
        let directory = u64::from_le_bytes(whole[56..64].try_into().unwrap()) as usize * 512;
        let table = u32::from_le_bytes(whole[directory..directory + 4].try_into().unwrap()) as usize * 512;
        let image_refuses = |changed: &[u8], wanted: &str| {
            let path = file(folder.path(), "changed.vmdk", changed);
            let error = read_image(&path, Form::Detect).unwrap_err().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
        };
        for entry in [0u32, 2, 21, 128, 1 << 20, u32::MAX] {
            image_refuses(&with(&whole, table + 4, &entry.to_le_bytes()), "grain");
            let both = with(&whole, table + 4, &entry.to_le_bytes());
            let redundant = u32::from_le_bytes(whole[21 * 512..21 * 512 + 4].try_into().unwrap()) as usize * 512;
            if entry != 0 || compressed {
                image_refuses(&with(&both, redundant + 4, &entry.to_le_bytes()), "grain");
            }
            image_refuses(&with(&whole, directory, &entry.to_le_bytes()), "grain");
        }
        if compressed {
            assert!(read_front(&whole).unwrap() == bytes);
            let mut padded = whole.clone();
            padded.resize(whole.len() + 70_000, 0);
            assert!(read_front(&padded[..padded.len() / 512 * 512]).unwrap() == bytes, "zeros behind are no harm");
            padded.push(1);
            assert!(read_front(&padded).is_err());
        } else {
            assert!(matches!(read_front(&whole), Err(Error::Unsupported(_))));
            image_refuses(&whole[..whole.len() - 512], "lies outside of the file");
            image_refuses(&whole[..4096], "overhead");
        }
    }
}

#[test]
fn a_descriptor_that_leads_elsewhere_or_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "a-flat.vmdk", &[1; 1024]);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    file(&folder.path().join("in"), "b", &[1; 1024]);
    std::os::unix::fs::symlink("a-flat.vmdk", folder.path().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let begin = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n";
    let extents = [
        ("RW 2 FLAT \"../etc/passwd\" 0", "plain name"),
        ("RW 2 FLAT \"/etc/passwd\" 0", "plain name"),
        ("RW 2 FLAT \"..\" 0", "plain name"),
        ("RW 2 FLAT \"in/b\" 0", "plain name"),
        ("RW 2 FLAT \"in\\b\" 0", "plain name"),
        ("RW 2 FLAT \"\" 0", "plain name"),
        ("RW 2 FLAT \"link\" 0", "a link"),
        ("RW 2 FLAT \"pipe\" 0", "no file"),
        ("RW 2 FLAT \"in\" 0", "no file"),
        ("RW 2 FLAT \"absent\" 0", "absent"),
        ("RW 3 FLAT \"a-flat.vmdk\" 0", "the descriptor says 1536 bytes"),
        ("RW 2 FLAT \"a-flat.vmdk\" 1", "from 512"),
        ("RW 2 FLAT \"a-flat.vmdk\" 99999999999999999999", "its offset"),
        ("RW 18446744073709551615 FLAT \"a-flat.vmdk\" 0", "up to 62 TiB"),
        ("RW -1 FLAT \"a-flat.vmdk\" 0", "up to 62 TiB"),
        ("RW 2 FLAT a-flat.vmdk", "in no quotes"),
        ("RW 2", "has no kind"),
        ("RW 2 SPARSE \"a-flat.vmdk\"", "does not have"),
        ("RW 2 VMFSRDM \"a-flat.vmdk\"", "VMFSRDM"),
        ("RW 133143986176 ZERO\nRW 1 ZERO", "larger than 62 TiB"),
        ("what is this", "neither an extent nor a value"),
        ("", "names no extent"),
    ];
    let refused = |text: &str, wanted: &str| {
        let path = file(folder.path(), "a.vmdk", text.as_bytes());
        let error = Image::open(&path, Form::Detect).map(drop).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    };
    for (extent, wanted) in extents {
        refused(&format!("{begin}{extent}\n"), wanted);
    }
    refused(&format!("{begin}{}", "RW 1 ZERO\n".repeat(600)), "more than 512 extents");
    let whole = format!("{begin}RW 2 FLAT \"a-flat.vmdk\" 0\n");
    refused(&whole.replace("CID=00000001", "CID=1234567890"), "no CID");
    refused(&whole.replace("CID=00000001", "CID=xyz"), "no CID");
    refused(&whole.replace("CID=00000001\n", ""), "no CID or no createType");
    refused(&whole.replace("parentCID=ffffffff", "parentCID=00000002"), "the child of another");
    refused(&whole.replace("monolithicFlat", "fullDevice"), "createType \"fullDevice\"");
    refused(&format!("{whole}CID=2\n"), "CID is said twice");
    refused("# Disk DescriptorFile\u{0}RW", "no CID or no createType");
    refused("COWD\u{1}", "COWD");
    let large = std::fs::OpenOptions::new().write(true).open(file(folder.path(), "large", whole.as_bytes())).unwrap();
    large.set_len(1 << 30).unwrap();
    let error = Image::open(&folder.path().join("large"), Form::Detect).map(drop).unwrap_err();
    assert!(error.to_string().contains("has 1073741824 bytes; if it is a raw disk"), "{error}");
    assert!(Image::open(&folder.path().join("large"), Form::Raw).is_ok());
}

#[test]
fn a_file_that_changes_while_it_is_read_gives_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = disk(128 * 8);
    let stream = stream(&bytes, &StreamOptions::default());
    let path = file(folder.path(), "disk.vmdk", &stream);
    let image = Image::open(&path, Form::Vmdk).unwrap();
    let changed = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    changed.write_all_at(&[0xff; 8], 128 * 512).unwrap();
    let mut read = vec![0; 4096];
    assert!(image.read_at(0, &mut read).unwrap_err().to_string().contains("not what was there"));
    changed.set_len(70_000).unwrap();
    assert!(image.read_at(64 << 10, &mut read).is_err());
}

/// A change to a file.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Number(usize, u64),
    Sector(usize, usize),
    Zero(usize),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0usize..1 << 30;
    prop_oneof![
        4 => (at(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        3 => (at(), proptest::sample::select(NUMBERS.to_vec())).prop_map(|(at, number)| Change::Number(at, number)),
        2 => (at(), at()).prop_map(|(from, to)| Change::Sector(from, to)),
        1 => at().prop_map(Change::Zero),
        1 => at().prop_map(Change::Cut),
        1 => (at(), proptest::collection::vec(any::<u8>(), 1..600)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

/// Carries a change out within the bytes that `within` names; half of the changes meet header and tables, which are small.
fn changed(mut bytes: Vec<u8>, change: &Change, dense: &[std::ops::Range<usize>]) -> Vec<u8> {
    let length = bytes.len();
    let wanted = |at: usize| match dense.get(at % (dense.len() + 1)) {
        Some(range) => range.start + at / 8 % range.len(),
        None => at % length,
    };
    // Another change may have cut the file.
    let place = |at: usize| wanted(at).min(length - 1);
    match change {
        Change::Flip(at, bits) => bytes[place(*at)] ^= bits,
        Change::Number(at, number) => {
            let at = place(*at) / 4 * 4;
            let end = (at + 8).min(length);
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        Change::Sector(from, to) => {
            let (from, to) = (place(*from) / 512 * 512, place(*to) / 512 * 512);
            bytes.copy_within(from..(from + 512).min(length), to.min(length - 512));
        }
        Change::Zero(at) => {
            let at = place(*at) / 512 * 512;
            bytes[at..(at + 512).min(length)].fill(0);
        }
        Change::Cut(at) => bytes.truncate(place(*at)),
        Change::Insert(at, new) => drop(bytes.splice(place(*at)..place(*at), new.iter().copied()).count()),
    }
    bytes
}

fn fits(bytes: &[u8], changed: &[u8], path: &Path) -> Result<(), TestCaseError> {
    if let Ok(read) = read_front(changed) {
        prop_assert!(read == bytes, "the reader gave other bytes");
    }
    std::fs::write(path, changed).unwrap();
    if let Ok(read) = read_image(path, Form::Vmdk) {
        prop_assert!(read == bytes, "the image gave other bytes");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_stream_is_an_error_or_the_same_disk(changes in proptest::collection::vec(change(), 1..3), front: bool) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = disk(700);
        let whole = if front { in_front(&bytes, true) } else { stream(&bytes, &StreamOptions::default()) };
        let dense = if front { [0..128, 21 * 512..64 << 10] } else { [0..128, whole.len() - 4608..whole.len()] };
        let hurt = changes.iter().fold(whole, |whole, change| match whole.len() {
            0..5000 => whole,
            _ => changed(whole, change, &dense),
        });
        fits(&bytes, &hurt, &folder.path().join("disk.vmdk"))?;
    }

    /// Its grains carry no checksum, and nothing repeats the size of a grain: all else of the structure is said twice.
    #[test]
    fn a_changed_structure_of_a_plain_disk_is_an_error_or_the_same_disk(change in change()) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = disk(700);
        let whole = in_front(&bytes, false);
        let (front, rest) = whole.split_at(64 << 10);
        let mut hurt = changed(front.to_vec(), &change, &[0..20, 28..128, 21 * 512..32 * 512]);
        if hurt.len() == front.len() && hurt[20..28] == front[20..28] {
            hurt.extend(rest);
            let path = folder.path().join("disk.vmdk");
            std::fs::write(&path, &hurt).unwrap();
            if let Ok(read) = read_image(&path, Form::Vmdk) {
                prop_assert!(read == bytes);
            }
        }
    }

    #[test]
    fn any_bytes_behind_a_magic_end_in_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), kind in 0usize..3) {
        let folder = tempfile::tempdir().unwrap();
        let magic: &[u8] = [b"KDMV\x03\x00\x00\x00".as_slice(), b"# Disk DescriptorFile\n", b"COWD"][kind];
        bytes.splice(0..0, magic.iter().copied());
        prop_assert!(read_front(&bytes).is_err());
        let path = file(folder.path(), "disk.vmdk", &bytes);
        prop_assert!(read_image(&path, Form::Detect).is_err());
    }
}

#[test]
fn what_is_no_disk_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for place in [pipe.as_path(), folder.path(), std::path::Path::new("/dev/zero")] {
        for form in [Form::Detect, Form::Raw, Form::Vmdk] {
            let error = Image::open(place, form).err().unwrap();
            assert_eq!(error.told().0, "vmdk.no_disk", "{error}");
        }
    }
    // Other programs' disks are no raw ones, unless somebody says so.
    let other = folder.path().join("disk.qcow2");
    std::fs::write(&other, [b"QFI\xfb".as_slice(), &[0; 1000]].concat()).unwrap();
    assert!(Image::open(&other, Form::Detect).err().unwrap().to_string().contains("qcow2"));
    assert_eq!(Image::open(&other, Form::Raw).unwrap().size(), 1004);
}
