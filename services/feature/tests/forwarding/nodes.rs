//! Nodes over the states of a world.

use crate::world::{Functions, Runs, World, functions};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::Result;
use thyme_core::position::PositionSet;
use thyme_feature::parts::{GrpcPeers, service};
use thyme_query::{
    Answer, AppliedWatch, HolderMap, Holders, OtherNode, QueryEngine, QueryOptions, QueryParts, Question, not_applied,
};
use thyme_state::States;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// What a node believes of who holds what.
#[derive(Default)]
pub struct Believed {
    pub map: Mutex<Arc<HolderMap>>,
    pub doubted: Mutex<Vec<String>>,
}

impl Holders for Believed {
    fn map(&self) -> Arc<HolderMap> {
        self.map.lock().clone()
    }
    fn doubt(&self, url: &str) {
        self.doubted.lock().push(url.to_string());
    }
}

/// Notes for which slices is waited.
#[derive(Default)]
pub struct Waits {
    pub waited: Mutex<Vec<(BTreeSet<u16>, Duration)>>,
    /// Nothing is ever applied.
    pub stuck: Mutex<bool>,
    /// By log: what is erased here.
    pub erased: Mutex<BTreeMap<u32, Vec<u64>>>,
}

#[async_trait]
impl AppliedWatch for Waits {
    async fn wait_applied(&self, _: &PositionSet, slices: &BTreeSet<u16>, deadline: Duration) -> Result<()> {
        self.waited.lock().push((slices.clone(), deadline));
        if *self.stuck.lock() {
            tokio::time::sleep(deadline).await;
            return Err(not_applied(deadline));
        }
        Ok(())
    }

    fn erased_below(&self, log: u32, _: u16) -> Vec<u64> {
        self.erased.lock().get(&log).cloned().unwrap_or_default()
    }
}

pub struct Node {
    pub url: Arc<str>,
    pub held: BTreeSet<u16>,
    pub states: States,
    pub query: Arc<QueryEngine>,
    pub runs: Arc<Runs>,
    pub functions: Arc<Functions>,
    pub believed: Arc<Believed>,
    pub waits: Arc<Waits>,
    /// Of its server and its connections: without it nobody answers.
    runtime: Option<Runtime>,
}

impl Node {
    /// A node that holds these slices, and believes that it is alone.
    pub fn start(world: &World, held: &[u16]) -> Node {
        let held: BTreeSet<u16> = held.iter().copied().collect();
        let states = States::of_none(world.states.slices());
        world
            .states
            .all()
            .iter()
            .filter(|(slice, _)| held.contains(slice))
            .for_each(|(slice, state)| states.add(*slice, state));
        let (runs, functions) = (Arc::new(Runs::default()), Arc::new(functions()));
        let (believed, waits) = (Arc::new(Believed::default()), Arc::new(Waits::default()));
        let query = QueryEngine::new(QueryParts {
            states: states.clone(),
            extractors: functions.clone(),
            clock: world.clock.clone(),
            runs: runs.clone(),
            applied: waits.clone(),
            options: QueryOptions::default(),
        });
        let query = Arc::new(query.with_peers(believed.clone(), Arc::new(GrpcPeers::default())));
        query.deploy(world.deployment.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = query.clone();
        let url = runtime.block_on(async move {
            let listener = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(Server::builder().add_service(service(serving)).serve_with_incoming(listener));
            format!("http://{address}")
        });
        let url = url.into();
        Node { url, held, states, query, runs, functions, believed, waits, runtime: Some(runtime) }
    }

    /// Says to this node who holds what.
    pub fn knows(&self, others: &[&Node]) {
        let others = others.iter().map(|node| OtherNode {
            url: node.url.clone(),
            slices: node.held.clone(),
            owned: BTreeSet::new(),
        });
        *self.believed.map.lock() = Arc::new(HolderMap::new(others.collect()));
    }

    /// What comes of asking this node.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub fn ask(&self, question: Question) -> Result<Answer> {
        self.wait(self.query.answer(question))
    }

    /// Ends its server and all connections.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}
