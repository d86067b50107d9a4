//! Which nodes answer questions, and about which slices: members of a consumer group that are called by their address and their slices.
//! A client's name is all that it can say about itself there, so one whose slices change joins anew.

use super::Connection;
use super::seat::{PAUSE, POLL, Wish, sit};
use super::topics::ASK;
use crate::membership::{ANSWERS, Answering, Node, Presence};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use thyme_core::{Error, Result};
use tokio::sync::watch;

/// What the thread is to do.
#[derive(Clone, PartialEq, Eq)]
enum Wanted {
    /// These slices, and which of them are its own.
    Announce(BTreeSet<u16>, BTreeSet<u16>),
    Leave,
}

pub struct KafkaPresence {
    connection: Arc<Connection>,
    wanted: watch::Sender<Wanted>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaPresence {
    pub fn start(connection: Arc<Connection>, node: Node) -> Result<KafkaPresence> {
        let wanted = watch::Sender::new(Wanted::Announce(BTreeSet::new(), BTreeSet::new()));
        let part = Part { connection: connection.clone(), node, wanted: wanted.subscribe() };
        let thread = std::thread::Builder::new()
            .name("thyme-presence".to_string())
            .spawn(move || part.run())
            .map_err(|error| Error::internal(format!("starting the thread that announces this node: {error}")))?;
        Ok(KafkaPresence { connection, wanted, thread: Some(thread) })
    }
}

impl Presence for KafkaPresence {
    fn announce(&self, slices: &BTreeSet<u16>, owned: &BTreeSet<u16>) {
        self.wanted.send_if_modified(|wanted| {
            let now = Wanted::Announce(slices.clone(), owned.clone());
            std::mem::replace(wanted, now.clone()) != now
        });
    }

    fn answering(&self) -> Result<Vec<Answering>> {
        let group = self.connection.settings.full_name(ANSWERS);
        let groups = self.connection.topics.client().fetch_group_list(Some(&group), ASK);
        let groups = groups.map_err(|error| self.connection.failed("asking who answers questions", &error))?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        Ok(members.filter_map(|member| Answering::parse(member.client_id())).collect())
    }
}

impl Drop for KafkaPresence {
    fn drop(&mut self) {
        self.wanted.send_replace(Wanted::Leave);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that announces this node panicked");
        }
    }
}

/// What the thread works with.
struct Part {
    connection: Arc<Connection>,
    node: Node,
    wanted: watch::Receiver<Wanted>,
}

impl Part {
    fn run(&self) {
        loop {
            match self.wanted() {
                Wanted::Leave => break,
                Wanted::Announce(slices, _) if slices.is_empty() => {
                    self.connection.kept_out.forget(ANSWERS);
                    std::thread::sleep(POLL);
                }
                Wanted::Announce(slices, owned) => {
                    if let Err(error) = self.take_part(slices, owned) {
                        self.connection.kept_out.note(ANSWERS, error);
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        }
        self.connection.kept_out.forget(ANSWERS);
    }

    fn wanted(&self) -> Wanted {
        self.wanted.borrow().clone()
    }

    /// Is a member, called so, as long as that is wanted.
    fn take_part(&self, slices: BTreeSet<u16>, owned: BTreeSet<u16>) -> Result<()> {
        let settings = &self.connection.settings;
        let Node { id, url } = self.node.clone();
        let name = Answering { id, url, slices: slices.clone(), owned: owned.clone() }.to_string();
        let config = settings.present(&settings.full_name(ANSWERS), &name);
        let wanted = Wanted::Announce(slices, owned);
        // A member has a topic. What it is given of that is nothing to it.
        let wish = || if self.wanted() == wanted { Wish::Stay } else { Wish::Go };
        sit(&self.connection, ANSWERS, &config, &Arc::default(), wish)
    }
}
