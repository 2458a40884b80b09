//! Every form that is written is read back, front to back and anywhere.

use super::*;

#[test]
fn a_stream_reads_back_front_to_back_and_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for sectors in [0, 1, 127, 128, 129, 700, 128 * 512, 128 * 513 + 5] {
        let bytes = disk(sectors);
        let stream = stream(&bytes, &StreamOptions::default());
        assert_eq!(stream.len() % 512, 0);
        assert!(read_front(&stream).unwrap() == bytes, "{sectors}");
        let path = file(folder.path(), "disk.vmdk", &stream);
        assert!(read_image(&path, Form::Detect).unwrap() == bytes, "{sectors}");
        let mut reader = StreamReader::new(stream.as_slice()).unwrap();
        let whole = tempfile::tempfile().unwrap();
        reader.write_to(&whole).unwrap();
        let mut read = vec![0; bytes.len()];
        whole.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes && whole.metadata().unwrap().len() == bytes.len() as u64);
    }
}

#[test]
fn the_same_disk_gives_the_same_stream_with_any_number_of_threads() {
    let bytes = disk(128 * 1100 + 3);
    let once = stream(&bytes, &StreamOptions { threads: 1, ..StreamOptions::default() });
    for (threads, piece) in [(2, 1 << 20), (5, 64 << 10), (3, 32 << 20)] {
        let again = stream(&bytes, &StreamOptions { threads, piece, ..StreamOptions::default() });
        assert!(once == again, "{threads} threads, {piece} bytes at once");
    }
}

#[test]
fn a_size_that_is_no_multiple_of_sectors_is_rounded_up_with_zeros() {
    let mut bytes = disk(132);
    bytes.truncate(65 * 1024 + 100);
    let stream = stream(&bytes, &StreamOptions::default());
    bytes.resize(65 * 1024 + 512, 0);
    assert!(read_front(&stream).unwrap() == bytes);
}

#[test]
fn what_the_options_say_stands_in_the_descriptor() {
    let options = StreamOptions {
        name: "web-1-disk1.vmdk".to_owned(),
        adapter: "ide".to_owned(),
        hardware_version: 21,
        tools_version: Some(12_352),
        cid: 0x00c0_ffee,
        uuid: Some("60 00 c2 9a 00 00 00 00-00 00 00 00 00 00 00 01".to_owned()),
        ..StreamOptions::default()
    };
    let stream = stream(&disk(300), &options);
    let reader = StreamReader::new(stream.as_slice()).unwrap();
    let descriptor = reader.descriptor().unwrap();
    assert_eq!((descriptor.cid, descriptor.adapter.as_str()), (0x00c0_ffee, "ide"));
    assert_eq!((descriptor.hardware_version, descriptor.tools_version), (21, Some(12_352)));
    assert_eq!((descriptor.uuid.clone(), descriptor.size()), (options.uuid, 300 * 512));
    assert_eq!(descriptor.extents[0].file, "web-1-disk1.vmdk");
}

#[test]
fn options_that_no_reader_takes_are_refused() {
    let usual = StreamOptions::default;
    let wrong = [
        StreamOptions { level: 0, ..usual() },
        StreamOptions { level: 10, ..usual() },
        StreamOptions { piece: 96 << 10, ..usual() },
        StreamOptions { piece: 64 << 20, ..usual() },
        StreamOptions { cid: u32::MAX, ..usual() },
        StreamOptions { adapter: "ide\"\nddb.x = \"".to_owned(), ..usual() },
        StreamOptions { name: "../x".to_owned(), ..usual() },
        StreamOptions { uuid: Some("\"".to_owned()), ..usual() },
    ];
    for options in wrong {
        let ended = write_stream(&Bytes(vec![1; 512]), &mut Vec::new(), &options);
        assert!(matches!(ended, Err(Error::Option(_))), "{options:?}");
    }
}

/// A source or a stream that fails after some bytes.
struct Fails<T>(T, std::sync::atomic::AtomicU64);

impl<T: Source> Source for Fails<T> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        if at >= self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(std::io::Error::other("the source is gone"));
        }
        self.0.read_at(at, bytes)
    }
}

impl Write for Fails<Vec<u8>> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() as u64 > *self.1.get_mut() {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_source_that_fails_and_a_full_target_end_the_stream_with_their_error() {
    let bytes = disk(128 * 600);
    for at in [0, 3 << 20, 36 << 20] {
        let source = Fails(Bytes(bytes.clone()), at.into());
        let mut written = Vec::new();
        let ended = write_stream(&source, &mut written, &StreamOptions::default());
        assert!(matches!(ended, Err(Error::Source(error)) if error.to_string() == "the source is gone"));
        assert!(read_front(&written).is_err(), "a part is not taken for a whole");
        let mut target = Fails(Vec::new(), (at / 8).into());
        let ended = write_stream(&Bytes(bytes.clone()), &mut target, &StreamOptions::default());
        assert!(matches!(ended, Err(Error::Io { .. })));
    }
}

#[test]
fn holes_are_not_read() {
    struct Holes(std::sync::atomic::AtomicU64);
    impl Source for Holes {
        fn size(&self) -> u64 {
            2 << 40
        }

        fn read_at(&self, _: u64, bytes: &mut [u8]) -> std::io::Result<()> {
            self.0.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
            bytes.fill(5);
            Ok(())
        }

        fn next_data(&self, at: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
            let found = [1 << 30, 1 << 40].into_iter().find(|data| at < data + 4096);
            Ok(found.map(|data| data.max(at)..data + 4096))
        }
    }
    let source = Holes(0.into());
    let mut stream = Vec::new();
    let options = StreamOptions { piece: 64 << 10, ..StreamOptions::default() };
    let told = write_stream(&source, &mut stream, &options).unwrap();
    assert_eq!((told.grains, source.0.into_inner(), told.capacity), (2, 128 << 10, 2 << 40));
    assert!(stream.len() < 400 << 10, "{}", stream.len());
    let mut reader = StreamReader::new(stream.as_slice()).unwrap();
    let mut grain = Vec::new();
    assert_eq!(reader.next_grain(&mut grain).unwrap(), Some(1 << 30));
    assert_eq!(reader.next_grain(&mut grain).unwrap(), Some(1 << 40));
    assert_eq!(reader.next_grain(&mut grain).unwrap(), None);
}

#[test]
fn a_flat_disk_and_one_in_pieces_are_read_by_their_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = disk(600);
    file(folder.path(), "a-flat.vmdk", &bytes);
    for kind in [CreateType::Vmfs, CreateType::MonolithicFlat] {
        let text = Descriptor::new(kind, bytes.len() as u64, "a-flat.vmdk").text();
        let path = file(folder.path(), "a.vmdk", text.as_bytes());
        assert!(read_image(&path, Form::Vmdk).unwrap() == bytes);
        assert_eq!(Image::open(&path, Form::Detect).unwrap().create_type(), Some(kind));
        assert!(read_image(&path, Form::Raw).unwrap() == text.as_bytes());
    }
    file(folder.path(), "a-f001.vmdk", &bytes[..100 * 512]);
    let text = "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\
        RW 100 FLAT \"a-f001.vmdk\" 0\nRW 8 ZERO\nRW 492 FLAT \"a-flat.vmdk\" 108\n";
    let path = file(folder.path(), "b.vmdk", text.as_bytes());
    let mut wanted = bytes;
    wanted[100 * 512..108 * 512].fill(0);
    assert!(read_image(&path, Form::Detect).unwrap() == wanted);
    let image = Image::open(&path, Form::Detect).unwrap();
    let mut part = vec![0; 10 * 512];
    image.read_at(99 * 512, &mut part).unwrap();
    assert!(part == wanted[99 * 512..109 * 512]);
}

#[test]
fn what_is_no_vmdk_is_raw_unless_it_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "disk.raw", b"some bytes");
    assert_eq!(read_image(&path, Form::Detect).unwrap(), b"some bytes");
    assert!(matches!(Image::open(&path, Form::Vmdk), Err(Error::At { error, .. }) if error.is_damage()));
    let empty = file(folder.path(), "empty", b"");
    assert_eq!(read_image(&empty, Form::Detect).unwrap(), b"");
}

#[test]
fn a_descriptor_reads_back_as_it_was_written() {
    let mut disk = Descriptor::new(CreateType::Vmfs, 62 << 40, "web 1-flat.vmdk");
    disk.thin = true;
    disk.tools_version = Some(1);
    disk.uuid = Some("60 00 c2 9a-01".to_owned());
    disk.check().unwrap();
    assert_eq!(Descriptor::parse(disk.text().as_bytes()).unwrap(), disk);
    let text = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\n\
        # Extent description\nRW 133143986176 VMFS \"web 1-flat.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
        ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"65535\"\nddb.geometry.heads = \"255\"\n\
        ddb.geometry.sectors = \"63\"\nddb.thinProvisioned = \"1\"\nddb.toolsVersion = \"1\"\nddb.uuid = \"60 00 c2 9a-01\"\n\
        ddb.virtualHWVersion = \"13\"\n";
    assert_eq!(disk.text(), text);
}
