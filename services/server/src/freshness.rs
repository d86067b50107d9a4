//! How far this node is behind the log in slices that it answers for as a follower. An owner's own lag is a matter of its load, not of its
//! place.

use crate::nodes::LOOK_EVERY;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use thyme_engine::EngineHandle;
use thyme_state::States;

/// A follower that has not been at the end of the log for so long is not ready.
const STALE: Duration = Duration::from_secs(10);

/// By slice.
#[derive(Default)]
pub struct Freshness(Mutex<BTreeMap<u16, Seen>>);

/// When a slice was last seen at the end of the log, and how far it was from it when it was last asked.
#[derive(Clone, Copy)]
struct Seen {
    is_followed: bool,
    /// When it was owned last; of a follower, when it began to follow, until it comes to the end for the first time.
    fresh_at: Instant,
    was_fresh: bool,
    /// `None` while the log cannot be asked.
    lag: Option<u64>,
}

impl Freshness {
    pub fn look(&self, engine: &EngineHandle, states: &States, owned: &BTreeSet<u16>, holds_all: bool) {
        let held = states.held();
        // What a node only keeps nobody may own yet: then what routers of that slice make stands still, and it answers all the same.
        let lag = |engine: EngineHandle| if holds_all { engine.lag() } else { engine.own_lag() };
        let lag_of = |slice: u16| engine.slice(slice).ok().and_then(lag);
        let followed: BTreeMap<u16, Option<u64>> =
            held.difference(owned).map(|slice| (*slice, lag_of(*slice))).collect();
        let owned: BTreeSet<u16> = held.intersection(owned).copied().collect();
        note(&mut self.0.lock(), &owned, &followed, Instant::now());
    }

    /// How long ago this follower was last seen at the end of the log; `None` for the owner of all that it holds.
    pub fn behind(&self) -> Option<Duration> {
        behind(&self.0.lock(), Instant::now())
    }

    /// Why this follower should not be asked.
    pub fn stale(&self) -> Option<String> {
        stale(&self.0.lock(), Instant::now())
    }
}

/// What is seen of all slices that are held: of those that are followed, how far they are from the end of the log.
fn note(seen: &mut BTreeMap<u16, Seen>, owned: &BTreeSet<u16>, followed: &BTreeMap<u16, Option<u64>>, now: Instant) {
    seen.retain(|slice, _| owned.contains(slice) || followed.contains_key(slice));
    for &slice in owned {
        seen.insert(slice, Seen { is_followed: false, fresh_at: now, was_fresh: true, lag: None });
    }
    for (&slice, &lag) in followed {
        let new = Seen { is_followed: true, fresh_at: now, was_fresh: false, lag };
        let before = seen.get(&slice).copied().unwrap_or(new);
        let is_fresh = lag == Some(0);
        let fresh_at = if is_fresh { now } else { before.fresh_at };
        seen.insert(slice, Seen { fresh_at, was_fresh: before.was_fresh || is_fresh, ..new });
    }
}

/// Of the slices that are followed, the one that is furthest behind.
fn oldest(seen: &BTreeMap<u16, Seen>) -> Option<Seen> {
    seen.values().filter(|seen| seen.is_followed).min_by_key(|seen| (seen.was_fresh, seen.fresh_at)).copied()
}

fn behind(seen: &BTreeMap<u16, Seen>, now: Instant) -> Option<Duration> {
    oldest(seen).map(|seen| (now - seen.fresh_at).saturating_sub(LOOK_EVERY))
}

fn stale(seen: &BTreeMap<u16, Seen>, now: Instant) -> Option<String> {
    let seen = oldest(seen)?;
    let behind = now - seen.fresh_at;
    if seen.was_fresh && behind <= STALE {
        return None;
    }
    let lag = match seen.lag {
        Some(lag) => format!("{lag} records of the log are to be read"),
        None => "the log cannot be asked".to_string(),
    };
    Some(match seen.was_fresh {
        true => format!("this node follows and was last at the end of the log {} s ago: {lag}", behind.as_secs()),
        false => format!("this node follows and has not come to the end of the log yet: {lag}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_THE_END: Option<u64> = Some(0);
    const AWAY: Option<u64> = None;
    const SECOND: Duration = Duration::from_secs(1);

    /// A node that is looked at, at times of its own.
    struct Node {
        seen: BTreeMap<u16, Seen>,
        began: Instant,
    }

    impl Node {
        fn new() -> Node {
            Node { seen: BTreeMap::new(), began: Instant::now() }
        }

        fn look<const N: usize, const M: usize>(
            &mut self,
            after: Duration,
            owned: [u16; N],
            followed: [(u16, Option<u64>); M],
        ) {
            note(&mut self.seen, &BTreeSet::from(owned), &BTreeMap::from(followed), self.began + after);
        }

        fn stale(&self, after: Duration) -> Option<String> {
            stale(&self.seen, self.began + after)
        }

        fn behind(&self, after: Duration) -> Option<Duration> {
            behind(&self.seen, self.began + after)
        }
    }

    #[test]
    fn a_follower_may_be_asked_until_it_was_not_at_the_end_for_ten_seconds() {
        for (lag, told) in [(Some(7), "7 records of the log are to be read"), (AWAY, "the log cannot be asked")] {
            let mut node = Node::new();
            node.look(SECOND, [], [(0, AT_THE_END)]);
            assert_eq!(node.stale(SECOND), None);
            for second in 2..=11 {
                node.look(SECOND * second, [], [(0, lag)]);
                assert_eq!(node.stale(SECOND * second), None, "{second}");
            }
            let stale = node.stale(SECOND * 11 + Duration::from_millis(1));
            let wanted = format!("this node follows and was last at the end of the log 10 s ago: {told}");
            assert_eq!(stale, Some(wanted));
            // Time counts also while nobody looks.
            assert!(node.stale(SECOND * 41).unwrap().contains("40 s ago"));

            node.look(SECOND * 41, [], [(0, AT_THE_END)]);
            assert_eq!(node.stale(SECOND * 41), None);
            node.look(SECOND * 50, [], [(0, lag)]);
            assert_eq!(node.stale(SECOND * 50), None, "ten seconds from then on");
        }
    }

    #[test]
    fn who_never_was_at_the_end_may_not_be_asked_at_all() {
        for (lag, told) in [(Some(7), "7 records of the log are to be read"), (AWAY, "the log cannot be asked")] {
            let mut node = Node::new();
            node.look(SECOND, [], [(0, lag)]);
            let wanted = format!("this node follows and has not come to the end of the log yet: {told}");
            assert_eq!(node.stale(SECOND), Some(wanted));
            node.look(SECOND * 2, [], [(0, AT_THE_END)]);
            assert_eq!(node.stale(SECOND * 2), None);
        }
    }

    #[test]
    fn how_far_it_is_behind_is_the_time_since_it_was_at_the_end() {
        let mut node = Node::new();
        assert_eq!(node.behind(SECOND), None);
        node.look(SECOND, [], [(0, AT_THE_END)]);
        // Nobody has looked since.
        assert_eq!(node.behind(SECOND + LOOK_EVERY), Some(Duration::ZERO));
        node.look(SECOND * 2, [], [(0, Some(3))]);
        node.look(SECOND * 5, [], [(0, AWAY)]);
        assert_eq!(node.behind(SECOND * 5), Some(SECOND * 4 - LOOK_EVERY));
        node.look(SECOND * 6, [], [(0, AT_THE_END)]);
        assert_eq!(node.behind(SECOND * 6), Some(Duration::ZERO));
    }

    #[test]
    fn an_owner_is_never_behind_and_as_a_follower_goes_on_from_there() {
        let mut node = Node::new();
        node.look(SECOND, [0, 1], []);
        assert_eq!((node.stale(SECOND * 60), node.behind(SECOND * 60)), (None, None));
        node.look(SECOND * 60, [0, 1], []);
        node.look(SECOND * 61, [0], [(1, Some(7))]);
        assert_eq!(node.stale(SECOND * 70), None);
        assert_eq!(node.behind(SECOND * 70), Some(SECOND * 10 - LOOK_EVERY));
        assert!(node.stale(SECOND * 71).unwrap().contains("last at the end of the log 11 s ago: 7 records"));
        // It owns it again, or another node answers for it.
        for owned in [BTreeSet::from([0, 1]), BTreeSet::from([0])] {
            let mut seen = node.seen.clone();
            note(&mut seen, &owned, &BTreeMap::new(), node.began + SECOND * 72);
            assert_eq!(stale(&seen, node.began + SECOND * 100), None);
            assert_eq!(behind(&seen, node.began + SECOND * 100), None);
        }
    }

    #[test]
    fn of_several_slices_the_one_speaks_that_is_furthest_behind() {
        let mut node = Node::new();
        node.look(SECOND, [3], [(0, AT_THE_END), (1, AT_THE_END), (2, AT_THE_END)]);
        node.look(SECOND * 5, [3], [(0, AT_THE_END), (1, Some(5)), (2, AT_THE_END)]);
        node.look(SECOND * 14, [3], [(0, AT_THE_END), (1, Some(6)), (2, Some(9))]);
        assert!(node.stale(SECOND * 14).unwrap().contains("13 s ago: 6 records"));
        assert_eq!(node.behind(SECOND * 14), Some(SECOND * 13 - LOOK_EVERY));
        // One that never was at the end is further behind than any other.
        node.look(SECOND * 15, [3], [(0, Some(8)), (1, Some(6)), (2, Some(9)), (4, Some(4))]);
        let told = node.stale(SECOND * 15).unwrap();
        assert!(
            told.ends_with("has not come to the end of the log yet: 4 records of the log are to be read"),
            "{told}"
        );
    }
}
