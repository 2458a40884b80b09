//! The trial with a guest that writes: what a host tells of changed blocks, held against what its disk holds before and after.
//!
//! Two snapshots are taken, one before the guest is turned on and one while it runs; both are exported, and every block that differs must
//! lie in what the host says has changed, and every block that holds something in what it says is allocated. Of each block a sum is kept,
//! so a disk is never held in memory.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Trials, is_away};
use crate::catalog::Fact;
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, ALLOCATED, Changed, CloneSpec, NewVm, Snapshot, Vm};
use crate::units::Bytes;
use crate::vmdk::{self, StreamReader};

/// The largest disk that is held in sums.
const LARGEST: u64 = 64 << 30;
/// How long a guest may take until its tools run; one without tools has then had the time to write.
const BOOT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

/// A disk's blocks that hold something: where each begins, how long it is, and its sum.
type Blocks = BTreeMap<u64, (u64, [u8; 16])>;

impl Trials<'_> {
    /// Has a clone of the template write, and compares.
    pub(super) async fn written(&mut self, template: &Checked<Vm>, new: &Checked<NewVm>) -> Result<(), Fault> {
        let (client, store, pass) = (self.client(), &self.bound.datastore, self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let notes = Some(format!("{}this clone is thrown away; if no probe runs, it may be removed", super::MARK));
        let spec = CloneSpec { notes, without_nics: true, ..CloneSpec::default() };
        self.go_on()?;
        pass.note_probing(&self.bound.host.host, vec![new.name.clone()]).await;
        let made = client.clone_vm(template, new, store, &spec, &progress).await?;
        let vm = Arc::new(pass.made(&self.bound.host.host, made));
        self.guest = Some(vm.clone());
        if let Err(error) = client.track_changes(&vm, true, &progress).await {
            return self.unknown(error);
        }
        let before = self.snapshot(&vm, "probe 1").await?;
        let frozen = client.frozen_disks(&before).await?.into_iter().next();
        let since = frozen.filter(|disk| disk.disk.size.0 <= LARGEST).and_then(|disk| disk.change_id);
        let Some(since) = since else {
            return self.untold("its first disk is larger than 64 GiB, or is not tracked".to_owned());
        };
        if let Err(error) = client.power_on(&vm, &progress).await {
            return self.unknown(error);
        }
        let began = Instant::now();
        while began.elapsed() < BOOT && client.vm_info(&vm).await?.row.tools.as_deref() != Some("guestToolsRunning") {
            self.go_on()?;
            tokio::time::sleep(LOOK).await;
        }
        let after = self.snapshot(&vm, "probe 2").await?;
        client.power_off(&vm, &progress).await?;
        let Some(disk) = client.frozen_disks(&after).await?.into_iter().next() else {
            return self.untold("its snapshot has no disk".to_owned());
        };
        let told = match client.asked_areas(&vm, &after, &disk, &since).await {
            Ok(told) => told,
            Err(error) => return self.unknown(error),
        };
        let allocated = client.asked_areas(&vm, &after, &disk, ALLOCATED).await;
        let mut held = Vec::new();
        for snapshot in [&before, &after] {
            match self.blocks(snapshot).await {
                Ok(blocks) => held.push(blocks),
                // Without the content nothing can be compared.
                Err(error) => return self.unknown(error),
            }
        }
        let [before, after] = held.try_into().unwrap_or_default();
        let differ = differing(&before, &after);
        let written = compared(&differ, &told);
        self.note("written_areas", Ok(()), |()| written)?;
        let all: Vec<(u64, u64)> = after.iter().map(|(start, (length, _))| (*start, *length)).collect();
        self.note("written_allocated", allocated, |told| match &told.full {
            // A thick disk, or a host that does not tell: then all is read, and nothing is lost.
            Some(why) => (None, why.clone()),
            None => compared(&all, &told),
        })?;
        client.remove_snapshots(&vm, &progress).await.map_err(Fault::from)
    }

    /// The trial could not be made: that says nothing against the host.
    fn untold(&mut self, seen: String) -> Result<(), Fault> {
        self.facts.push(Fact { name: "written_areas".to_owned(), works: None, seen, figure: None });
        self.go_on()
    }

    fn unknown(&mut self, error: esxi::Error) -> Result<(), Fault> {
        match is_away(&error) {
            true => Err(error.into()),
            false => self.untold(error.to_string()),
        }
    }

    /// What the first disk of a snapshot holds.
    async fn blocks(&self, snapshot: &Checked<Snapshot>) -> Result<Blocks, esxi::Error> {
        let pass = self.pass;
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let lease = self.client().export_snapshot(snapshot).await?;
        let all = async {
            let Some(file) = lease.files.iter().find(|file| file.disk) else { return Ok(Ok(Blocks::new())) };
            let (from, to) = std::io::pipe().map_err(|error| esxi::Error::Local { reason: error.to_string() })?;
            let reading = tokio::task::spawn_blocking(move || read(BufReader::with_capacity(1 << 20, from)));
            let fetched = lease.fetch(file, Box::new(to), &progress).await.map(drop);
            let read = reading.await.map_err(|error| esxi::Error::Local { reason: error.to_string() })?;
            fetched.map(|()| read)
        };
        let local = |error: vmdk::Error| esxi::Error::Local { reason: format!("the exported disk: {error}") };
        lease.during(all).await?.map_err(local)
    }
}

/// Reads a disk's stream to its end. Blocks of zeros are as good as none.
fn read(mut from: impl Read) -> Result<Blocks, vmdk::Error> {
    let mut reader = StreamReader::new(&mut from)?;
    let (mut blocks, mut bytes) = (Blocks::new(), Vec::new());
    while let Some(at) = reader.next_grain(&mut bytes)? {
        if bytes.iter().any(|byte| *byte != 0) {
            let mut sum = [0; 16];
            sum.iter_mut().zip(Sha256::digest(&bytes)).for_each(|(own, byte)| *own = byte);
            blocks.insert(at, (bytes.len() as u64, sum));
        }
    }
    drop(reader);
    // Whoever sends must not find that nobody takes the rest.
    drop(std::io::copy(&mut from, &mut std::io::sink()));
    Ok(blocks)
}

/// Where two contents differ.
fn differing(before: &Blocks, after: &Blocks) -> Vec<(u64, u64)> {
    let changed = after.iter().filter(|(start, block)| before.get(start) != Some(block));
    let gone = before.iter().filter(|(start, _)| !after.contains_key(start));
    let mut all: Vec<(u64, u64)> = changed.chain(gone).map(|(start, (length, _))| (*start, *length)).collect();
    all.sort_unstable();
    all
}

/// Whether every block lies in what was told.
fn compared(blocks: &[(u64, u64)], told: &Changed) -> (Option<bool>, String) {
    let within = |(start, length): &(u64, u64)| {
        let at = told.areas.partition_point(|(first, count)| first + count <= *start);
        told.areas.get(at).is_some_and(|(first, _)| *first < start + length)
    };
    let missed = blocks.iter().filter(|block| !within(block)).count();
    let of = told.full.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let areas: u64 = told.areas.iter().map(|(_, length)| length).sum();
    let seen = format!("{} of {} blocks were told, in {}{of}", blocks.len() - missed, blocks.len(), Bytes(areas));
    match (blocks.is_empty(), missed) {
        (true, _) => (None, "the guest wrote nothing".to_owned()),
        (false, 0) => (Some(told.full.is_none()), seen),
        (false, _) => (Some(false), seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_was_not_told_is_missed_and_more_than_was_written_is_not() {
        let told = |areas: &[(u64, u64)]| Changed { areas: areas.to_vec(), full: None };
        let blocks = [(0, 64), (128, 64)];
        assert_eq!(compared(&blocks, &told(&[(0, 64), (128, 64)])).0, Some(true));
        assert_eq!(compared(&blocks, &told(&[(0, 1000)])).0, Some(true));
        assert_eq!(compared(&blocks, &told(&[(10, 1), (190, 1)])).0, Some(true), "part of a block is told");
        assert_eq!(compared(&blocks, &told(&[(64, 64)])).0, Some(false));
        assert_eq!(compared(&blocks, &told(&[(0, 64), (192, 64)])).0, Some(false));
        assert_eq!(compared(&[], &told(&[])).0, None);
        let whole = Changed { areas: vec![(0, 1000)], full: Some("why".to_owned()) };
        assert_eq!(compared(&blocks, &whole).0, Some(false), "it does not tell");
    }

    #[test]
    fn contents_differ_where_a_block_is_other_came_or_went() {
        let block = |sum: u8| (64, [sum; 16]);
        let before = Blocks::from([(0, block(1)), (64, block(2)), (128, block(3))]);
        let after = Blocks::from([(0, block(1)), (64, block(9)), (192, block(4))]);
        assert_eq!(differing(&before, &after), [(64, 64), (128, 64), (192, 64)]);
    }
}
