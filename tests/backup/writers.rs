//! Four writers and a prune at once on one repository, as processes, some of them killed: nothing that was reported is lost.

use std::time::Duration;

use super::lab::{Dice, Ended, Image, Lab, reported, times, wait};
use super::servers::Server;

/// Rounds on a folder, or in the bucket of a server. Kills fall into so many milliseconds after a process began.
fn rounds(count: u64, server: Option<Server>, kills_within: u64) {
    let mut dice = Dice::new("rounds");
    let mut lab = Lab::on(server);
    let mut images: Vec<Image> =
        (0..4).map(|writer| Image::new(lab.path(&format!("image-{writer}")), 16, &mut dice)).collect();
    let (mut killed, mut raced, mut made) = (0u64, 0u64, 0u64);
    for round in 0..count {
        let when = format!("round {round}");
        // Something always goes while others rely on it.
        lab.forget(4, &mut dice);
        let mut running = Vec::new();
        for (writer, image) in images.iter_mut().enumerate() {
            (0..dice.below(6)).for_each(|_| image.change(&mut dice));
            image.write();
            running.push((Some(writer), lab.backup(&format!("home-{writer}"), &image.path)));
        }
        for _ in 0..2 {
            running.push((None, lab.prune("home-prune")));
        }
        let mut plans = Vec::new();
        for (writer, command) in running {
            let start = Duration::from_millis(if writer.is_some() { dice.below(150) } else { dice.below(500) });
            let kill = dice.percent(30).then(|| Duration::from_millis(dice.below(kills_within)));
            plans.push((writer, command, start, kill));
        }
        let ended: Vec<(Option<usize>, Ended)> = std::thread::scope(|scope| {
            let processes: Vec<_> = plans
                .into_iter()
                .map(|(writer, mut command, start, kill)| {
                    scope.spawn(move || {
                        std::thread::sleep(start);
                        (writer, wait(command.spawn().unwrap(), kill))
                    })
                })
                .collect();
            processes.into_iter().map(|process| process.join().unwrap()).collect()
        });
        for (writer, ended) in ended {
            match (writer, ended) {
                (_, Ended::Killed) => killed += 1,
                (Some(writer), Ended::Well(text)) => {
                    made += 1;
                    lab.reported.push((reported(&text), images[writer].hash()));
                }
                (None, Ended::Well(_)) => {}
                // A backup may say that a prune was faster; then nothing was reported.
                (Some(_), Ended::Badly(text)) if text.contains("a prune has deleted") => raced += 1,
                (writer, Ended::Badly(text)) => panic!("{when}: {writer:?}: {text}"),
            }
        }
        lab.verify(&when);
    }
    println!(
        "{count} rounds: {made} backups reported, {raced} said that a prune was faster, {killed} processes killed"
    );
    assert!(made > 0);
}

#[test]
fn four_writers_and_prunes_with_kills_lose_nothing_that_was_reported() {
    rounds(times("CESO_ROUNDS", 2), None, 1200);
}

#[test]
#[ignore = "long: 100 rounds take minutes; CESO_ROUNDS scales them"]
fn long_rounds_of_writers_and_prunes_lose_nothing_that_was_reported() {
    rounds(times("CESO_ROUNDS", 20), None, 1200);
}

#[test]
#[ignore = "needs versitygw; CESO_S3_ROUNDS scales it"]
fn versitygw_rounds_of_writers_and_prunes_lose_nothing_that_was_reported() {
    rounds(times("CESO_S3_ROUNDS", 4), Some(Server::versitygw()), 2500);
}

#[test]
#[ignore = "needs moto; CESO_S3_ROUNDS scales it"]
fn moto_rounds_of_writers_and_prunes_lose_nothing_that_was_reported() {
    rounds(times("CESO_S3_ROUNDS", 3), Some(Server::moto()), 2500);
}
