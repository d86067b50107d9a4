//! Which other nodes can answer for which slices of the work (`docs/decisions/0025-forwarding.md`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A node that can answer for some slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherNode {
    /// Of its query service.
    pub url: Arc<str>,
    pub slices: BTreeSet<u16>,
    /// Those of them that are its own.
    pub owned: BTreeSet<u16>,
}

/// Other nodes, each with slices that it is to be asked about.
pub(crate) type Shares = Vec<(Arc<str>, BTreeSet<u16>)>;

/// Who has which slices elsewhere, at one moment.
#[derive(Debug, Default)]
pub struct HolderMap {
    others: Vec<OtherNode>,
    /// Where to begin among nodes that hold as much.
    turn: AtomicUsize,
}

impl HolderMap {
    pub fn new(others: Vec<OtherNode>) -> HolderMap {
        HolderMap { others, turn: AtomicUsize::default() }
    }

    /// Whether another node can be asked about a slice.
    pub fn has(&self, slice: u16) -> bool {
        self.others.iter().any(|node| node.slices.contains(&slice))
    }

    /// Whether its owner can be asked about a slice, and is another node.
    pub fn has_owner(&self, slice: u16) -> bool {
        self.others.iter().any(|node| node.slices.contains(&slice) && node.owned.contains(&slice))
    }

    /// Another node that holds all of these slices, and is none of `tried`.
    pub(crate) fn of_all(&self, slices: &BTreeSet<u16>, tried: &[Arc<str>]) -> Option<Arc<str>> {
        let (url, held) = self.best(slices, tried)?;
        (held.len() == slices.len()).then_some(url)
    }

    /// These slices shared out among other nodes, as few as they may be; a slice that none of them holds is the error.
    pub(crate) fn shares(&self, slices: &BTreeSet<u16>, tried: &[Arc<str>]) -> Result<Shares, u16> {
        let mut left = slices.clone();
        let mut shares = Vec::new();
        while let Some(slice) = left.first().copied() {
            let (url, held) = self.best(&left, tried).ok_or(slice)?;
            left.retain(|slice| !held.contains(slice));
            shares.push((url, held));
        }
        Ok(shares)
    }

    /// Who holds most of these slices, and which of them; in turn where several hold as many.
    fn best(&self, slices: &BTreeSet<u16>, tried: &[Arc<str>]) -> Option<(Arc<str>, BTreeSet<u16>)> {
        let untried = self.others.iter().filter(|node| !tried.contains(&node.url));
        let held = untried.map(|node| (node, node.slices.intersection(slices).count())).filter(|(_, held)| *held > 0);
        let held: Vec<(&OtherNode, usize)> = held.collect();
        let most = held.iter().map(|(_, held)| *held).max()?;
        let best: Vec<&OtherNode> = held.into_iter().filter(|(_, held)| *held == most).map(|(node, _)| node).collect();
        let turn = if best.len() > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let node = best[turn % best.len()];
        Some((node.url.clone(), node.slices.intersection(slices).copied().collect()))
    }
}

/// Who else holds what now.
pub trait Holders: Send + Sync {
    /// Asked by questions about what is not here.
    fn map(&self) -> Arc<HolderMap>;

    /// This node did not answer for what the map says that it holds.
    fn doubt(&self, url: &str);
}

/// For a node without others.
pub struct Nobody;

impl Holders for Nobody {
    fn map(&self) -> Arc<HolderMap> {
        Arc::default()
    }
    fn doubt(&self, _url: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(url: &str, slices: &[u16]) -> OtherNode {
        OtherNode { url: url.into(), slices: slices.iter().copied().collect(), owned: BTreeSet::new() }
    }

    fn set(slices: &[u16]) -> BTreeSet<u16> {
        slices.iter().copied().collect()
    }

    #[test]
    fn slices_are_shared_out_among_few_nodes() {
        let map = HolderMap::new(vec![node("b", &[1]), node("c", &[2, 3]), node("d", &[1, 2, 3])]);
        assert!(map.has(1) && !map.has(4));
        assert_eq!(map.shares(&set(&[1, 2, 3]), &[]), Ok(vec![("d".into(), set(&[1, 2, 3]))]));
        let without: Vec<Arc<str>> = vec!["d".into()];
        let shares = vec![("c".into(), set(&[2, 3])), ("b".into(), set(&[1]))];
        assert_eq!(map.shares(&set(&[1, 2, 3]), &without), Ok(shares));
        assert_eq!(map.shares(&set(&[1, 4]), &[]), Err(4));
        assert_eq!(map.of_all(&set(&[1, 3]), &[]), Some("d".into()));
        assert_eq!(map.of_all(&set(&[1, 3]), &without), None);
    }

    #[test]
    fn nodes_that_hold_as_much_are_asked_in_turn() {
        let map = HolderMap::new(vec![node("b", &[1, 2]), node("c", &[1]), node("d", &[1, 3])]);
        let asked: Vec<Arc<str>> = (0..6).filter_map(|_| map.of_all(&set(&[1]), &[])).collect();
        assert_eq!(asked, ["b", "c", "d", "b", "c", "d"].map(Arc::<str>::from));
    }
}
