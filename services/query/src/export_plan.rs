//! The plan of an export in words: which tables it reads how, and which extractors it calls.

use crate::chunk::rows_at_once;
use crate::deployment::Served;
use crate::engine::QueryEngine;
use crate::plan::{CallPlan, Planned, ReadTable, ReadWhat};
use crate::summary::{ExportCall, ExportPlan, ExportRead};
use thyme_core::aggregate::{OutputPlan, TableLayout};
use thyme_core::error::Result;

impl QueryEngine {
    /// How an export of these features would get at them.
    pub fn export_plan(&self, featureset: &str, features: Option<&[String]>) -> Result<ExportPlan> {
        let served = self.served()?;
        let planned = served.plan(featureset, features)?;
        let chunk_rows = rows_at_once(std::iter::once(&*planned), false);
        let mut plan = ExportPlan { reads: Vec::new(), calls: Vec::new(), chunk_rows };
        self.add_to_plan(&mut plan, &served, &planned, "");
        Ok(plan)
    }

    /// Adds what is done for a featureset, whose own features are named with this prefix.
    pub(crate) fn add_to_plan(&self, plan: &mut ExportPlan, served: &Served, planned: &Planned, prefix: &str) {
        let commit_id = &served.deployment.commit_id;
        let is_native = |call: &CallPlan| self.is_native(commit_id, &call.featureset, &call.extractor);
        let names = Names { planned, prefix };
        plan.reads.extend(planned.reads.iter().map(|read| read_of(&names, read)));
        plan.calls.extend(planned.calls.iter().map(|call| call_of(&names, call, is_native(call))));
    }
}

/// Names of slots as the export's columns have them.
struct Names<'a> {
    planned: &'a Planned,
    prefix: &'a str,
}

impl Names<'_> {
    fn of(&self, slot: usize) -> String {
        let name = &self.planned.slots[slot].name;
        // That of another featureset is named with it already.
        if name.contains('.') { name.to_string() } else { format!("{}{name}", self.prefix) }
    }

    fn all(&self, slots: impl Iterator<Item = usize>) -> Vec<String> {
        slots.map(|slot| self.of(slot)).collect()
    }
}

fn read_of(names: &Names<'_>, read: &ReadTable) -> ExportRead {
    let mut described = ExportRead {
        table: read.source.name.clone(),
        key: names.all(read.key.iter().copied()),
        windows: Vec::new(),
        features: Vec::new(),
        one_by_one: Vec::new(),
        done: None,
    };
    match &read.what {
        ReadWhat::Newest { columns, .. } => {
            described.features = names.all(columns.iter().map(|(_, slot)| *slot));
        }
        ReadWhat::Windows { pipeline, plan, slots } => {
            described.features = names.all(slots.iter().copied());
            for (wanted, slot) in plan.outputs.iter().zip(slots) {
                let output = &pipeline.plan.outputs[wanted.output];
                let window = output.window.to_string();
                if !described.windows.contains(&window) {
                    described.windows.push(window);
                }
                if !slides(&pipeline.plan.layout, output) {
                    described.one_by_one.push(names.of(*slot));
                }
            }
        }
    }
    described
}

fn slides(layout: &TableLayout, output: &OutputPlan) -> bool {
    output.partials.iter().all(|partial| thyme_state::slides(&layout.partials[usize::from(*partial)]))
}

fn call_of(names: &Names<'_>, call: &CallPlan, native: bool) -> ExportCall {
    ExportCall {
        extractor: call.label.clone(),
        native,
        batch: call.batch,
        inputs: names.all(call.inputs.iter().copied()),
        outputs: names.all(call.outputs.iter().flatten().copied()),
    }
}
