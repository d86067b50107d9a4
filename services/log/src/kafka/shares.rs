//! Who has which slices of the work, as the group says; and slices that nobody has.
//!
//! The group moves slices in two steps: who is to give one away lets go of it and joins again, and then another gets it. Where that node is
//! killed in between and comes back under its name, it is given what it was to keep, and has nothing to let go of: nobody joins again,
//! and the group, which takes itself for settled, leaves the slice to nobody. A member then gives back its seat, so that all is shared anew.

use super::Connection;
use super::topics::ASK;
use crate::membership::WORK;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use thyme_core::Result;

/// How often it is looked whether all slices have an owner.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a slice may be nobody's in a settled group: more than a member takes to join again. Doubled after each call for new shares, which
/// did not help then, up to the second figure.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));

/// Who has which slices: members are called by their address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// No member is joining or leaving.
    is_settled: bool,
    of_members: BTreeMap<String, BTreeSet<u16>>,
}

impl Shares {
    pub fn of(connection: &Connection) -> Result<Shares> {
        let group = connection.settings.full_name(WORK);
        let groups = connection.topics.client().fetch_group_list(Some(&group), ASK);
        let groups = groups.map_err(|error| connection.failed("asking who owns the work", &error))?;
        let mut shares = Shares::default();
        for group in groups.groups() {
            shares.is_settled = group.state() == "Stable";
            for member in group.members() {
                let owned = shares.of_members.entry(member.client_id().to_string()).or_default();
                owned.extend(partitions_of(member.assignment()));
            }
        }
        Ok(shares)
    }

    pub fn owner(&self, slice: u16) -> Option<&str> {
        self.of_members.iter().find(|(_, owned)| owned.contains(&slice)).map(|(member, _)| member.as_str())
    }

    /// The member with the fewest slices, where some of so many are nobody's.
    fn who_has_least(&self, slices: u16) -> Option<&str> {
        if !self.is_settled || (0..slices).all(|slice| self.owner(slice).is_some()) {
            return None;
        }
        let least = self.of_members.iter().min_by_key(|(_, owned)| owned.len());
        least.map(|(member, _)| member.as_str())
    }
}

/// Looks for slices that stay nobody's, for one member.
pub struct Leftovers {
    slices: u16,
    member: String,
    looked: Instant,
    /// Since when it has been this member's to do something.
    since: Option<Instant>,
    patience: Duration,
}

impl Leftovers {
    pub fn new(slices: u16, member: &str) -> Leftovers {
        let looked = Instant::now();
        Leftovers { slices, member: member.to_string(), looked, since: None, patience: PATIENCE.0 }
    }

    /// Whether this member is to give back its seat, so that the group shares out everything anew.
    pub fn call_for_a_new_share(&mut self, ask: impl FnOnce() -> Result<Shares>) -> bool {
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        // While the group cannot be asked it does not share anything out either.
        let is_for_this = ask().is_ok_and(|shares| shares.who_has_least(self.slices) == Some(self.member.as_str()));
        if !is_for_this {
            self.since = None;
            self.patience = PATIENCE.0;
            return false;
        }
        let is_over = self.since.get_or_insert_with(Instant::now).elapsed() > self.patience;
        if is_over {
            tracing::warn!(
                "slices of the work are nobody's though the group is settled: it is made to share them anew"
            );
            self.since = None;
            self.patience = (self.patience * 2).min(PATIENCE.1);
        }
        is_over
    }
}

/// The partitions of an assignment in the consumer protocol: its version (16 bits), and for each topic (their number in 32 bits) its
/// name and its partitions. There is only one topic.
fn partitions_of(assignment: Option<&[u8]>) -> Vec<u16> {
    let read = |bytes: &[u8]| {
        let (_version, rest) = bytes.split_first_chunk::<2>()?;
        let (topics, rest) = rest.split_first_chunk::<4>()?;
        if i32::from_be_bytes(*topics) < 1 {
            return None;
        }
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(usize::try_from(i16::from_be_bytes(*length)).ok()?..)?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (numbers, _) = rest.as_chunks::<4>();
        let numbers = numbers.get(..usize::try_from(i32::from_be_bytes(*count)).ok()?)?;
        numbers.iter().map(|number| u16::try_from(i32::from_be_bytes(*number)).ok()).collect()
    };
    assignment.and_then(read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(is_settled: bool, of_members: &[(&str, &[u16])]) -> Shares {
        let of_member = |(member, owned): &(&str, &[u16])| (member.to_string(), owned.iter().copied().collect());
        Shares { is_settled, of_members: of_members.iter().map(of_member).collect() }
    }

    #[test]
    fn who_has_least_calls_for_new_shares_where_slices_are_nobodys() {
        let left = shares(true, &[("a", &[2, 3]), ("b", &[])]);
        assert_eq!((left.owner(2), left.owner(0)), (Some("a"), None));
        assert_eq!(left.who_has_least(4), Some("b"));
        assert_eq!(shares(false, &[("a", &[2, 3]), ("b", &[])]).who_has_least(4), None, "they are on their way");
        assert_eq!(shares(true, &[("a", &[2, 3]), ("b", &[0, 1])]).who_has_least(4), None);
        assert_eq!(shares(true, &[("b", &[0]), ("a", &[2]), ("c", &[3])]).who_has_least(4), Some("a"), "one does it");
        assert_eq!(shares(true, &[]).who_has_least(4), None);
    }

    #[test]
    fn an_assignment_tells_its_partitions() {
        let nothing: &[u16] = &[];
        assert_eq!(partitions_of(None), nothing);
        assert_eq!(partitions_of(Some(&[0, 3])), nothing);
        assert_eq!(partitions_of(Some(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0])), nothing);
        let two = [0, 3, 0, 0, 0, 1, 0, 2, b's', b'.', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0];
        assert_eq!(partitions_of(Some(&two)), [1, 3]);
        assert_eq!(partitions_of(Some(&two[..20])), nothing, "cut short");
    }
}
