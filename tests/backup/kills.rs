//! `kill -9` at any moment of a backup, a prune, a rotation of the keys and a copy: nothing that was reported is lost.

use std::time::{Duration, Instant};

use super::lab::{Dice, Ended, Image, Lab, Work, clean, reported, restored, times, wait};

/// How long each kind of work takes here, by what it took so far.
struct Usual([Duration; 4]);

impl Usual {
    fn note(&mut self, work: Work, took: Duration) {
        let usual = &mut self.0[work as usize];
        *usual = (*usual + took) / 2;
    }

    /// A moment of the work, or one after its end.
    fn moment(&self, work: Work, dice: &mut Dice) -> Duration {
        self.0[work as usize].mul_f64(dice.below(1100) as f64 / 1000.0)
    }
}

fn kill(count: u64) {
    let mut dice = Dice::new("kills");
    let mut lab = Lab::new();
    let mut image = Image::new(lab.path("image"), 24, &mut dice);
    let mut usual = Usual([Duration::from_millis(60); 4]);
    let (mut killed, mut known, mut round) = ([0u64; 4], [false; 4], 0);
    while killed.iter().sum::<u64>() < count {
        round += 1;
        assert!(round < 40 + count * 10, "processes end before they are killed: {killed:?}");
        let work = match dice.below(10) {
            0..4 => Work::Backup,
            4..6 => Work::Prune,
            6..8 => Work::Rotate,
            _ => Work::Copy,
        };
        let next = format!("passphrase {round}");
        let command = match work {
            Work::Backup => {
                (0..dice.below(9)).for_each(|_| image.change(&mut dice));
                image.write();
                lab.backup("home", &image.path)
            }
            Work::Prune => {
                lab.forget(2, &mut dice);
                lab.prune("home")
            }
            Work::Rotate => lab.rotate("home", &next),
            Work::Copy => lab.copy("home"),
        };
        // The first of each kind shows how long it takes.
        let limit = std::mem::replace(&mut known[work as usize], true).then(|| usual.moment(work, &mut dice));
        let began = Instant::now();
        let mut command = command;
        let ended = wait(command.spawn().unwrap(), limit);
        let took = began.elapsed();
        let when = format!("round {round}, {work:?} killed after {limit:?}");
        match ended {
            Ended::Killed => {
                killed[work as usize] += 1;
                if work == Work::Rotate {
                    lab.passphrases.push(next);
                }
            }
            Ended::Well(text) => {
                usual.note(work, took);
                match work {
                    Work::Backup => lab.reported.push((reported(&text), image.hash())),
                    Work::Rotate => lab.passphrases = vec![next],
                    _ => {}
                }
            }
            Ended::Badly(text) => panic!("{when}: {text}"),
        }
        lab.verify(&when);
        let second = lab.open_second();
        clean(&second, &when);
        // What was copied is what was backed up: the repository says by whose UUID.
        let repository = lab.open();
        let copies = second.backups().unwrap();
        for (id, hash) in &lab.reported {
            let (_, manifest) = repository.backup(&id.to_string()).unwrap();
            if let Some((copy, _)) = copies.iter().find(|(_, copy)| copy.uuid == manifest.uuid) {
                assert_eq!(restored(&second, *copy), *hash, "{when}");
            } else {
                assert!(work != Work::Copy || limit.is_some_and(|limit| took >= limit), "{when}");
            }
        }
        if copies.len() > 2 {
            second.target().delete(&[format!("manifests/{}", copies[0].0)]).unwrap();
        }
        if lab.reported.len() > 4 {
            lab.forget(3, &mut dice);
        }
    }
    // In the end the repository is as good as new.
    let repository = lab.open();
    repository.unlock(true).unwrap();
    lab.forget(0, &mut dice);
    println!("usual times {:?}", usual.0);
    println!("killed {killed:?} of backups, prunes, rotations and copies in {round} rounds");
}

#[test]
fn a_killed_process_loses_nothing_that_was_reported() {
    kill(times("CESO_KILLS", 5));
}

#[test]
#[ignore = "long: 200 kills take minutes; CESO_KILLS scales them"]
fn long_kills_lose_nothing_that_was_reported() {
    kill(times("CESO_KILLS", 40));
}
