//! Retention held against a model that asks of each backup by itself whether it stays.

use proptest::prelude::*;

use super::*;

fn backup(number: usize, group: u8, seconds: i64, failed: bool, tagged: bool) -> (Id, Manifest) {
    let manifest = Manifest {
        format: 1,
        uuid: number.to_string(),
        group: format!("vm-{group}"),
        name: String::new(),
        time: OffsetDateTime::from_unix_timestamp(seconds).unwrap(),
        tags: if tagged { vec!["keep".to_owned()] } else { Vec::new() },
        state: if failed { State::Failed } else { State::Complete },
        parent: None,
        disks: vec![crate::backup::manifest::Disk {
            name: "disk-0".to_owned(),
            size: 1,
            chunk_size: 65536,
            root: Id::ZERO,
            chunks: 1,
            added: 1,
        }],
        files: Vec::new(),
        details: serde_json::Value::Null,
    };
    (Id::of(number.to_string().as_bytes()), manifest)
}

fn empty((id, backup): (Id, Manifest)) -> (Id, Manifest) {
    (id, Manifest { disks: Vec::new(), ..backup })
}

/// A time after all of a test.
fn after_all() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap()
}

/// Whether a backup stays, said plainly: it is the newest of its period, and fewer than so many later periods have one.
fn stays(all: &[(Id, Manifest)], (id, one): &(Id, Manifest), keep: &Keep, now: OffsetDateTime) -> bool {
    let ahead = |b: &Manifest| b.time - now > time::Duration::HOUR;
    let good = |b: &Manifest| b.state == State::Complete && b.disks.len() == 1 && !ahead(b);
    let complete: Vec<_> = all.iter().filter(|(_, b)| b.group == one.group && good(b)).collect();
    let newest = complete.iter().map(|(_, b)| b.time).max();
    if one.tags.iter().any(|tag| keep.tags.contains(tag)) {
        return true;
    }
    if ahead(one) {
        return one.disks.len() == 1;
    }
    if !good(one) && one.state == State::Complete {
        return false;
    }
    if one.state == State::Failed {
        return newest.is_none_or(|newest| one.time > newest);
    }
    let later = |(other_id, other): &&&(Id, Manifest)| {
        (other.time, std::cmp::Reverse(*other_id)) > (one.time, std::cmp::Reverse(*id))
    };
    let date = |t: OffsetDateTime| t.date();
    type Period = Box<dyn Fn(OffsetDateTime) -> String>;
    let texts: [(u32, Period); 5] = [
        (keep.hourly, Box::new(move |t| format!("{} {}", date(t), t.hour()))),
        (keep.daily, Box::new(move |t| date(t).to_string())),
        (
            keep.weekly,
            Box::new(move |t| format!("{:?}", date(t).to_iso_week_date().0) + &date(t).iso_week().to_string()),
        ),
        (keep.monthly, Box::new(move |t| format!("{} {}", t.year(), t.month()))),
        (keep.yearly, Box::new(move |t| t.year().to_string())),
    ];
    if complete.iter().filter(later).count() < keep.last as usize {
        return true;
    }
    if keep.within.is_some_and(|within| newest.unwrap() - one.time <= within) {
        return true;
    }
    texts.iter().any(|(most, period)| {
        let own = period(one.time);
        let later: Vec<_> = complete.iter().filter(later).map(|(_, b)| period(b.time)).collect();
        !later.contains(&own) && later.iter().collect::<BTreeSet<_>>().len() < *most as usize
    })
}

proptest! {
    #[test]
    fn a_plan_keeps_what_the_model_keeps(
        times in prop::collection::vec((0u8..3, -400_000_000i64..400_000_000, prop::bool::weighted(0.2), prop::bool::weighted(0.1), 0u8..3, prop::bool::weighted(0.1)), 0..60),
        counts in prop::array::uniform6(0u32..6),
        within in prop::option::of(0u64..30_000_000),
        now in prop_oneof![Just(400_000_000i64), -1_000_000i64..1_000_000, -10_000i64..10_000],
    ) {
        // Some are close to each other: within hours, and within days.
        let all: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(n, (group, seconds, failed, tagged, scale, nothing))| {
                let one = backup(n, *group, seconds / [1, 400, 20_000][usize::from(*scale)], *failed, *tagged);
                if *nothing { empty(one) } else { one }
            })
            .collect();
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let within = within.map(Duration::from_secs);
        let keep = Keep { last, hourly, daily, weekly, monthly, yearly, within, tags: vec!["keep".to_owned()] };
        let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
        let plan = plan(&all, &keep, now);
        prop_assert_eq!(plan.decisions.len(), all.len());
        for decision in &plan.decisions {
            let one = all.iter().find(|(id, _)| *id == decision.id).unwrap();
            prop_assert_eq!(!decision.kept_for.is_empty(), stays(&all, one, &keep, now), "{:?}", one);
        }
    }
}

#[test]
fn empty_periods_and_failed_backups_do_not_count() {
    let day = 86_400;
    let all: Vec<_> = [(0, false), (10, false), (11, true), (400, false), (401, true)]
        .iter()
        .enumerate()
        .map(|(n, (days, failed))| backup(n, 1, days * day, *failed, false))
        .collect();
    let kept = |keep: &Keep| -> Vec<usize> {
        let plan = plan(&all, keep, after_all());
        let is_kept = |id: &Id| plan.decisions.iter().any(|d| d.id == *id && !d.kept_for.is_empty());
        (0..all.len()).filter(|n| is_kept(&all[*n].0)).collect()
    };
    assert_eq!(kept(&Keep { daily: 2, ..Keep::default() }), [1, 3, 4]);
    assert_eq!(kept(&Keep { last: 1, ..Keep::default() }), [3, 4]);
}

#[test]
fn a_plan_is_doubted_where_much_goes_or_the_last_good_backup_of_a_group() {
    let day = 86_400;
    let all = [
        backup(0, 1, 0, false, true),
        backup(1, 1, day, false, true),
        backup(2, 1, 2 * day, false, true),
        backup(3, 2, 0, false, false),
        backup(4, 2, day, true, true),
    ];
    let doubt = |keep: Keep| plan(&all, &keep, after_all()).doubt();
    let tags = vec!["keep".to_owned()];
    // Only one of five goes, but of the second group it is all that can be restored; a failed one is no comfort.
    let last_good = doubt(Keep { tags: tags.clone(), ..Keep::default() }).unwrap();
    assert!(last_good.contains("\"vm-2\""), "{last_good}");
    assert_eq!(doubt(Keep { tags, last: 1, ..Keep::default() }), None);
    assert_eq!(doubt(Keep { last: 2, ..Keep::default() }), None);
    let few = [&all[..3], &[backup(5, 1, 3 * day, false, false)]].concat();
    let most = plan(&few, &Keep { last: 1, ..Keep::default() }, after_all()).doubt().unwrap();
    assert!(most.contains("3 of 4"), "{most}");
}

#[test]
fn backups_of_a_fast_clock_and_empty_ones_take_no_place_of_a_good_one() {
    let day = 86_400;
    let now = 400 * day;
    let mut all: Vec<_> = (0..6).map(|n| backup(n, 1, now - (5 - n as i64) * day, false, false)).collect();
    all.push(backup(6, 1, now + 3600, false, false));
    let real = all.len();
    all.push(backup(7, 1, now + 3601, false, false));
    all.push(backup(8, 1, now + 4000 * day, false, false));
    all.push(empty(backup(9, 1, 253_402_300_799, false, false)));
    all.push(empty(backup(10, 1, now, false, false)));
    let kept = |keep: Keep| -> Vec<usize> {
        let plan = plan(&all, &keep, OffsetDateTime::from_unix_timestamp(now).unwrap());
        let is_kept = |id: &Id| plan.decisions.iter().any(|d| d.id == *id && !d.kept_for.is_empty());
        (0..all.len()).filter(|n| is_kept(&all[*n].0)).collect()
    };
    // The good ones stay by their own times, and what is ahead stays beside them.
    let month = Some(Duration::from_secs(30 * 86_400));
    assert_eq!(kept(Keep { within: month, ..Keep::default() }), (0..real + 2).collect::<Vec<_>>());
    assert_eq!(kept(Keep { last: 1, ..Keep::default() }), [6, 7, 8]);
    assert_eq!(kept(Keep { daily: 2, ..Keep::default() }), [4, 6, 7, 8]);
    // What is ahead or empty is no comfort for good ones that go.
    let none = plan(&all, &Keep { tags: vec!["x".to_owned()], ..Keep::default() }, after_all());
    assert!(none.doubt().is_some());
    let mut few = vec![backup(0, 1, now, false, false)];
    few.extend((1..4).map(|n| backup(n, 1, now + 4000 * day, false, false)));
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
    let gone = plan(&few, &Keep { tags: vec!["x".to_owned()], ..Keep::default() }, now).doubt().unwrap();
    assert!(gone.contains("1 of 1 good"), "{gone}");
}
