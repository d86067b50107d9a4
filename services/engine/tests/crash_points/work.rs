//! The two kinds of work: a dataset with two pipelines, whose rows go to topics for others too, or with pipelines on the rows of these,
//! up to the third stage.

use crate::common::chained::{Chained, PIPELINES};
use crate::common::{DIRECT, ROUTED, World};
use std::sync::Arc;
use thyme_core::definition::Compiled;
use thyme_engine::{JobSpec, PipelineJob};
use thyme_state::Table;

/// The table of the pipeline that is dropped.
pub const OLD: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    Chains,
}

pub enum Work {
    Plain(World),
    Chains(Chained),
}

impl Work {
    pub fn new(kind: Kind) -> Work {
        match kind {
            Kind::Plain => Work::Plain(World::emitting()),
            Kind::Chains => Work::Chains(Chained::new()),
        }
    }

    pub fn compiled(&self) -> &Compiled {
        match self {
            Work::Plain(world) => &world.compiled,
            Work::Chains(world) => &world.compiled,
        }
    }

    pub fn spec(&self) -> JobSpec {
        match self {
            Work::Plain(world) => world.spec(true),
            Work::Chains(world) => world.spec(),
        }
    }

    /// Without the pipelines that are built while a machine runs.
    pub fn early(&self) -> JobSpec {
        match self {
            Work::Plain(world) => world.spec(false),
            Work::Chains(world) => {
                let mut spec = world.spec();
                spec.datasets[0].pipelines[0].feeds.clear();
                spec.datasets[0].routes.clear();
                spec
            }
        }
    }

    /// The tables that are ready when the build is.
    pub fn built(&self) -> Vec<u32> {
        match self {
            Work::Plain(_) => vec![DIRECT, ROUTED],
            Work::Chains(world) => PIPELINES[1..].iter().map(|name| world.table(name).id).collect(),
        }
    }

    pub fn old(&self) -> PipelineJob {
        let pipeline = self.compiled().pipelines["UserStats.compute"].clone();
        let table = Table { id: OLD, layout: Arc::new(pipeline.plan.layout.clone()), routed: false };
        PipelineJob { pipeline, table, emit: None, feeds: Vec::new() }
    }
}
