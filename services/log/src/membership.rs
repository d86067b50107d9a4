//! Who of several nodes on one log owns which slices of its work, and who answers questions about which. The log's own group protocol
//! decides; an engine's outputs are safe without it, because whoever makes a producer fences the one before.

use std::collections::BTreeSet;
use std::fmt;
use thyme_core::Result;
use tokio::sync::watch;

/// The topic with an empty partition for each slice, and the group that shares them. No dataset's topic has a name without a version.
pub const WORK: &str = "owner";

/// The group of the nodes that answer questions. It shares out nothing.
pub const ANSWERS: &str = "answers";

/// A node that answers questions, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    /// Of the node, as in [`Node`].
    pub id: String,
    /// Of its query service.
    pub url: String,
    pub slices: BTreeSet<u16>,
    /// Those of them that are its own: it does not only keep them until somebody else answers for them.
    pub owned: BTreeSet<u16>,
}

/// `id http://host:port 0-2,5 0-1`; `-` for none.
impl fmt::Display for Answering {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} {}", self.id, self.url, runs_of(&self.slices), runs_of(&self.owned))
    }
}

fn runs_of(slices: &BTreeSet<u16>) -> String {
    let slices: Vec<u16> = slices.iter().copied().collect();
    let runs = slices.chunk_by(|slice, next| slice + 1 == *next).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u16::to_string).collect(),
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() { "-".to_string() } else { runs.join(",") }
}

fn read_runs(text: &str) -> Option<BTreeSet<u16>> {
    let mut slices = BTreeSet::new();
    for run in text.split(',').filter(|_| text != "-") {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        slices.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(slices)
}

impl Answering {
    /// Reads what was displayed; `None` for anything else.
    pub fn parse(text: &str) -> Option<Answering> {
        let [id, url, slices, owned] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (slices, owned) = (read_runs(slices)?, read_runs(owned)?);
        Some(Answering { id: id.to_string(), url: url.to_string(), slices, owned })
    }
}

/// A node's place among those that answer questions; dropping it takes back what it said.
pub trait Presence: Send + Sync {
    /// From now on this node answers for these slices, of which some are its own; for none it is not there.
    fn announce(&self, slices: &BTreeSet<u16>, owned: &BTreeSet<u16>);

    /// All that answer, this node too.
    fn answering(&self) -> Result<Vec<Answering>>;
}

/// Where there are no others.
pub struct Unseen;

impl Presence for Unseen {
    fn announce(&self, _slices: &BTreeSet<u16>, _owned: &BTreeSet<u16>) {}

    fn answering(&self) -> Result<Vec<Answering>> {
        Ok(Vec::new())
    }
}

/// A node as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Stays the same over restarts: a node that is back within the session timeout keeps what it owned.
    pub id: String,
    /// Where its control service can be asked.
    pub url: String,
}

/// A node's place in the group; dropping it stops taking part.
pub trait Member: Send + Sync {
    /// The slices whose work this node owns, as far as it knows.
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>>;

    /// Where the control service of a slice's owner can be asked; `None` while nobody owns it.
    fn owner(&self, slice: u16) -> Result<Option<String>>;
}

/// A node that never owns anything, whoever does.
#[derive(Default)]
pub struct Onlooker(watch::Sender<BTreeSet<u16>>);

impl Member for Onlooker {
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.0.subscribe()
    }

    fn owner(&self, _slice: u16) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The only node of a log that one process holds.
pub struct Alone {
    owns: watch::Sender<BTreeSet<u16>>,
    url: String,
}

impl Alone {
    pub fn new(node: Node) -> Alone {
        Alone { owns: watch::Sender::new(BTreeSet::from([0])), url: node.url }
    }
}

impl Member for Alone {
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.owns.subscribe()
    }

    fn owner(&self, _slice: u16) -> Result<Option<String>> {
        Ok(Some(self.url.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_answers_for_is_read_back() {
        let shown = |slices: &[u16], owned: &[u16]| {
            let (slices, owned) = (slices.iter().copied().collect(), owned.iter().copied().collect());
            let node = Answering { id: "a".to_string(), url: "http://10.0.0.1:8081".to_string(), slices, owned };
            assert_eq!(Answering::parse(&node.to_string()), Some(node.clone()));
            node.to_string()
        };
        assert_eq!(shown(&[0, 1, 2, 5, 7, 8], &[5]), "a http://10.0.0.1:8081 0-2,5,7-8 5");
        assert_eq!(shown(&[63], &[]), "a http://10.0.0.1:8081 63 -");
        for other in [
            "shop-member",
            "a http://10.0.0.1:8081 0",
            "a http://10.0.0.1:8081  0",
            "a x 1- -",
            "a x a -",
            "a x 1,,2 -",
        ] {
            assert_eq!(Answering::parse(other), None, "{other}");
        }
    }
}
