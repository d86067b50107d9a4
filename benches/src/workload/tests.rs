use super::*;
use std::collections::HashMap;

const SMALL: Shape = Shape { events: 20_000, keys: 500, spine: 2_000, ..Shape::STANDARD };

#[test]
fn the_seed_decides_everything() {
    let key = |workload: &Workload| -> Vec<_> {
        workload.events.iter().map(|event| (event.key, event.time, event.cents, event.arrival)).collect()
    };
    let (first, second) = (Workload::generate(&SMALL), Workload::generate(&SMALL));
    assert_eq!(key(&first), key(&second));
    assert_eq!(first.spine, second.spine);
    let other = Workload::generate(&Shape { seed: 1, ..SMALL });
    assert_ne!(key(&first), key(&other));
}

#[test]
fn disorder_is_there_and_bounded() {
    let workload = Workload::generate(&SMALL);
    let mut greatest = i64::MIN;
    let mut behind = 0;
    for event in &workload.events {
        greatest = greatest.max(event.time);
        assert!(greatest - event.time <= DISORDER);
        behind += usize::from(event.time < greatest);
    }
    assert!(behind > workload.events.len() / 10);
}

#[test]
fn keys_are_skewed_and_questions_meet_the_window_edges() {
    let workload = Workload::generate(&SMALL);
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for event in &workload.events {
        *counts.entry(event.key).or_default() += 1;
    }
    let hottest = counts.values().max().copied().unwrap_or_default();
    assert!(hottest > workload.events.len() / 10, "hottest={hottest}");
    let exists: std::collections::HashSet<(i64, i64)> =
        workload.events.iter().map(|event| (event.key, event.time)).collect();
    let at = workload.spine.iter().filter(|row| exists.contains(&(row.key, row.time))).count();
    let after = workload
        .spine
        .iter()
        .filter(|row| WINDOWS.iter().any(|(_, length)| exists.contains(&(row.key, row.time - length))))
        .count();
    assert!(at > 300 && after > 150, "at={at} after={after}");
}

#[test]
fn an_even_spread_leaves_no_key_without_its_event() {
    let workload = Workload::generate(&Shape { events: 500, keys: 500, days: 1, spread: Spread::Even, ..SMALL });
    let mut keys: Vec<i64> = workload.events.iter().map(|event| event.key).collect();
    assert!(!keys.is_sorted(), "keys come in no order of theirs");
    keys.sort_unstable();
    assert_eq!(keys, (0..500).collect::<Vec<i64>>());
}

#[test]
fn what_is_thinned_is_a_part_and_is_asked_for() {
    let whole = Workload::generate(&SMALL);
    let part = whole.thinned(&SMALL, 10);
    assert_eq!((part.events.len(), part.spine.len()), (SMALL.events / 10, SMALL.spine));
    assert!(part.events.is_sorted_by_key(|event| event.arrival));
    let exists = |workload: &Workload| -> std::collections::HashSet<(i64, i64)> {
        workload.events.iter().map(|event| (event.key, event.time)).collect()
    };
    let (of_whole, of_part) = (exists(&whole), exists(&part));
    assert!(of_part.is_subset(&of_whole));
    let at = part.spine.iter().filter(|row| of_part.contains(&(row.key, row.time))).count();
    assert!(at > 300, "at={at}");
}
