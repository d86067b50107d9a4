//! Pipelines on datasets that pipelines fill: in which order they are checked, cycles, and what an aggregated dataset takes over
//! from the raw one whose events its rows are. See `docs/decisions/0022-pipelines-on-aggregated-datasets.md`.

use super::compiled::{CompiledDataset, CompiledPipeline};
use super::findings::{About, Findings};
use super::pipelines::{Datasets, full_name};
use super::{Definitions, PipelineDef};
use crate::error::Error;
use crate::window::format_duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type Pipelines = BTreeMap<String, Arc<CompiledPipeline>>;

/// All pipelines but those of a cycle, which is reported once; a pipeline comes after those that fill what it reads.
pub(super) fn upstream_first<'a>(definitions: &'a Definitions, findings: &mut Findings) -> Vec<&'a PipelineDef> {
    let mut walk =
        Walk { definitions, done: BTreeSet::new(), in_cycles: BTreeSet::new(), ordered: Vec::new(), findings };
    for pipeline in &definitions.pipelines {
        walk.visit(&pipeline.dataset, &mut Vec::new());
    }
    let Walk { in_cycles, mut ordered, .. } = walk;
    ordered.retain(|pipeline| !in_cycles.contains(&full_name(pipeline)));
    ordered
}

struct Walk<'a, 'f> {
    definitions: &'a Definitions,
    /// Datasets whose pipelines are in order already.
    done: BTreeSet<&'a str>,
    in_cycles: BTreeSet<String>,
    ordered: Vec<&'a PipelineDef>,
    findings: &'f mut Findings,
}

impl<'a> Walk<'a, '_> {
    /// The pipelines that fill a dataset, after all that they depend on. `path` leads from a later dataset to this one.
    fn visit(&mut self, dataset: &'a str, path: &mut Vec<&'a PipelineDef>) {
        if self.done.contains(dataset) {
            return;
        }
        if let Some(start) = path.iter().position(|earlier| earlier.dataset == dataset) {
            self.report_cycle(&path[start..]);
            return;
        }
        let definitions = self.definitions;
        for pipeline in definitions.pipelines.iter().filter(|pipeline| pipeline.dataset == dataset) {
            path.push(pipeline);
            self.visit(&pipeline.input, path);
            path.pop();
            self.ordered.push(pipeline);
        }
        self.done.insert(dataset);
    }

    fn report_cycle(&mut self, cycle: &[&PipelineDef]) {
        self.in_cycles.extend(cycle.iter().map(|pipeline| full_name(pipeline)));
        let Some(first) = cycle.first() else { return };
        let names = cycle.iter().map(|pipeline| pipeline.dataset.as_str()).chain([first.dataset.as_str()]);
        let names: Vec<&str> = names.collect();
        let what = format!("pipeline '{}'", full_name(first));
        About::new(self.findings, first.location.as_ref(), what).wrong_hint(
            format!("datasets are filled from each other: {}", names.join(" <- ")),
            "a dataset cannot be computed from itself: read the raw dataset in one of these",
        );
    }
}

/// The pipeline that fills a dataset that another one reads. `None`: it was reported why not, here or there.
pub(super) fn upstream_of<'a>(
    input: &CompiledDataset,
    pipelines: &'a Pipelines,
    about: &mut About<'_>,
) -> Option<&'a Arc<CompiledPipeline>> {
    let [only] = input.pipelines.as_slice() else {
        about.wrong_hint(
            format!(
                "'{}' is filled by {} pipelines, so that a row of it is not one event's",
                input.name,
                input.pipelines.len()
            ),
            "make a dataset of each pipeline, and read that",
        );
        return None;
    };
    let upstream = pipelines.get(only)?;
    if let Some(history) = input.history.filter(|_| upstream.plan.layout.kept.is_some()) {
        about.report(
            Error::definition(format!(
                "the rows of '{}' need all events of '{}', which lets them go (history={})",
                input.name,
                upstream.root,
                format_duration(history)
            ))
            .field("history")
            .hint(format!("leave history= out of '{}', or read '{}' here", upstream.root, upstream.root)),
        );
        return None;
    }
    Some(upstream)
}

/// Whether rows of what the pipeline fills hold events of several keys of the raw dataset, or may: when one of these is erased, the
/// log of its rows is made anew.
pub(super) fn mixes_keys(pipeline: &CompiledPipeline) -> bool {
    pipeline.route.is_some()
}

/// A row of an aggregated dataset has the time, the partition count and the verdict of an event of its input; so it has its
/// watermark and its horizon.
pub(super) fn take_over(datasets: &mut Datasets, pipeline: &CompiledPipeline) {
    let Some(Some(input)) = datasets.get(&pipeline.input) else { return };
    let (partitions, max_lateness, history) = (input.partitions, input.max_lateness, input.history);
    if let Some(Some(filled)) = datasets.get_mut(&pipeline.dataset)
        && filled.pipelines.len() == 1
    {
        (filled.partitions, filled.max_lateness, filled.history) = (partitions, max_lateness, history);
    }
}
