//! VMDKs in both directions against qemu-img: what is written here it reads, what it writes is read here, byte for byte.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ceso::backup::target::FolderTarget;
use ceso::backup::{BackupOptions, DiskForm, ExportOptions, InitOptions, Repository};
use ceso::vmdk::{CreateType, Descriptor, Form, Image, Source, StreamOptions, StreamReader, write_stream};
use sha2::{Digest, Sha256};

fn qemu_img(arguments: &[&str], paths: &[&Path]) -> String {
    let done = Command::new("qemu-img").args(arguments).args(paths).output().expect("qemu-img runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "qemu-img {arguments:?} {paths:?}: {told}");
    told
}

fn hash(path: &Path) -> String {
    hash_of(&Image::open(path, Form::Raw).unwrap())
}

/// The SHA-256 of a disk's size in sectors and of all blocks that are not zeros, with their places: holes are as good as zeros.
fn hash_of(source: &dyn Source) -> String {
    const BLOCK: u64 = 64 << 10;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK as usize];
    let mut at = 0;
    while let Some(data) = source.next_data(at).unwrap() {
        at = data.start / BLOCK * BLOCK;
        while at < data.end {
            let length = (source.size() - at).min(BLOCK);
            buffer.fill(0);
            source.read_at(at, &mut buffer[..length as usize]).unwrap();
            if buffer.iter().any(|byte| *byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&buffer);
            }
            at += BLOCK;
        }
    }
    hasher.update(source.size().div_ceil(512).to_le_bytes());
    format!("{:x}", hasher.finalize())
}

fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length / 8 + 1).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// The disks that are converted: name, file.
fn disks(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let disk = |name: &'static str, size: u64, parts: &[(u64, &[u8])]| {
        let path = folder.join(format!("{name}.raw"));
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        (name, path)
    };
    let random = noise(24 << 20, 1);
    let text: Vec<u8> = b"What is lost is lost. ".iter().copied().cycle().take(3 << 20).collect();
    let gib = 1u64 << 30;
    vec![
        disk("empty", 64 << 20, &[]),
        disk("full-random", 24 << 20, &[(0, &random)]),
        disk("one-sector", 512, &[(0, &[7; 512])]),
        disk("odd-sectors", (5 << 20) + 7 * 512, &[(0, &text), ((5 << 20) + 6 * 512, &[9; 512])]),
        disk("no-whole-sector", (1 << 20) + 100, &[(1000, &text[..5000]), ((1 << 20) + 50, &[1; 50])]),
        disk(
            "sparse-4-gib",
            4 * gib,
            &[(0, &text), (gib - 700, &random[..1 << 20]), (3 * gib + 12345, &text), (4 * gib - 1, &[255])],
        ),
        disk("beyond-4-gib", 4 * gib + (3 << 20) + 512, &[(4 * gib - 4096, &random[..1 << 20])]),
    ]
}

/// Holds what is in a VMDK, by qemu-img, against the raw disk.
fn qemu_img_reads(vmdk: &Path, wanted: &str) {
    let told = qemu_img(&["check", "-f", "vmdk"], &[vmdk]);
    assert!(told.contains("No errors"), "{}: {told}", vmdk.display());
    let raw = vmdk.with_extension("back");
    qemu_img(&["convert", "-f", "vmdk", "-O", "raw"], &[vmdk, &raw]);
    assert_eq!(hash(&raw), wanted, "{}", vmdk.display());
    std::fs::remove_file(raw).unwrap();
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_img_reads_every_form_that_a_backup_is_restored_to() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let target = Arc::new(FolderTarget::new(place.join("repository")));
    let repository = Repository::init(target, &InitOptions::default(), None).unwrap();
    for (name, raw) in disks(place) {
        let wanted = hash(&raw);
        let mut session = repository.begin(BackupOptions::default()).unwrap();
        let disk = session.disk(name, &Image::open(&raw, Form::Raw).unwrap(), None).unwrap();
        session.finish().unwrap();
        let reader = repository.read_disk(&disk).unwrap();
        for form in [DiskForm::StreamOptimized, DiskForm::Vmfs, DiskForm::MonolithicFlat] {
            let options = ExportOptions { form, ..ExportOptions::default() };
            let files = reader.export(&place.join(format!("{name}.vmdk")), &options).unwrap();
            let kind = Image::open(&files[0], Form::Vmdk).unwrap().create_type().unwrap();
            let told = qemu_img(&["info", "-f", "vmdk"], &[&files[0]]);
            assert!(told.contains(&format!("create type: {kind}")), "{told}");
            qemu_img_reads(&files[0], &wanted);
            for file in files {
                let stored = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
                assert!(stored < 40 << 20, "{}: {stored} bytes on the disk", file.display());
                std::fs::remove_file(file).unwrap();
            }
        }
        let again = place.join(format!("{name}.restored"));
        reader.restore(&again, 2).unwrap();
        assert_eq!(hash(&again), wanted);
        std::fs::remove_file(again).unwrap();
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_img_writes_every_form_and_it_is_read_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    for (name, raw) in disks(place) {
        let wanted = hash(&raw);
        for form in
            ["streamOptimized", "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]
        {
            let own = tempfile::tempdir_in(place).unwrap();
            let vmdk = own.path().join("disk.vmdk");
            qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", &format!("subformat={form}")], &[&raw, &vmdk]);
            let image = Image::open(&vmdk, Form::Detect).unwrap_or_else(|error| panic!("{name} as {form}: {error}"));
            assert_eq!(image.create_type().map(|kind| kind.to_string()).as_deref(), Some(form));
            assert_eq!(hash_of(&image), wanted, "{name} as {form}");
            // What is a hole to the image is zeros on the disk, and it is not read.
            let again = own.path().join("again.vmdk");
            let mut to = BufWriter::new(File::create(&again).unwrap());
            write_stream(&image, &mut to, &StreamOptions::default()).unwrap();
            drop(to);
            qemu_img_reads(&again, &wanted);
            if form == "streamOptimized" {
                let mut reader = StreamReader::new(BufReader::new(File::open(&vmdk).unwrap())).unwrap();
                let read = File::create(own.path().join("front")).unwrap();
                reader.write_to(&read).unwrap();
                assert_eq!(hash(&own.path().join("front")), wanted, "{name} front to back");
            }
        }
    }
}

/// A descriptor of ours over a flat file of anyone's.
#[test]
#[ignore = "needs qemu-img"]
fn qemu_img_reads_a_descriptor_over_a_flat_file() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = noise(3 << 20, 5);
    std::fs::write(folder.path().join("a b-flat.vmdk"), &bytes).unwrap();
    for kind in [CreateType::Vmfs, CreateType::MonolithicFlat] {
        let descriptor = Descriptor::new(kind, bytes.len() as u64, "a b-flat.vmdk");
        std::fs::write(folder.path().join("a b.vmdk"), descriptor.text()).unwrap();
        qemu_img_reads(&folder.path().join("a b.vmdk"), &hash(&folder.path().join("a b-flat.vmdk")));
    }
}
