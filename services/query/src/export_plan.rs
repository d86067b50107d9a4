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
        Ok(self.plan_of(&served, &planned, rows_at_once(&planned, false)))
    }

    pub(crate) fn plan_of(&self, served: &Served, planned: &Planned, chunk_rows: usize) -> ExportPlan {
        let commit_id = &served.deployment.commit_id;
        let is_native = |call: &CallPlan| self.is_native(commit_id, &call.featureset, &call.extractor);
        ExportPlan {
            reads: planned.reads.iter().map(|read| read_of(planned, read)).collect(),
            calls: planned.calls.iter().map(|call| call_of(planned, call, is_native(call))).collect(),
            chunk_rows,
        }
    }
}

fn names(planned: &Planned, slots: impl Iterator<Item = usize>) -> Vec<String> {
    slots.map(|slot| planned.slots[slot].name.to_string()).collect()
}

fn read_of(planned: &Planned, read: &ReadTable) -> ExportRead {
    let mut described = ExportRead {
        table: read.source.name.clone(),
        key: names(planned, read.key.iter().copied()),
        windows: Vec::new(),
        features: Vec::new(),
        one_by_one: Vec::new(),
        done: None,
    };
    match &read.what {
        ReadWhat::Newest { columns, .. } => {
            described.features = names(planned, columns.iter().map(|(_, slot)| *slot));
        }
        ReadWhat::Windows { pipeline, plan, slots } => {
            described.features = names(planned, slots.iter().copied());
            for (wanted, slot) in plan.outputs.iter().zip(slots) {
                let output = &pipeline.plan.outputs[wanted.output];
                let window = output.window.to_string();
                if !described.windows.contains(&window) {
                    described.windows.push(window);
                }
                if !slides(&pipeline.plan.layout, output) {
                    described.one_by_one.push(planned.slots[*slot].name.to_string());
                }
            }
        }
    }
    described
}

fn slides(layout: &TableLayout, output: &OutputPlan) -> bool {
    output.partials.iter().all(|partial| thyme_state::slides(&layout.partials[usize::from(*partial)]))
}

fn call_of(planned: &Planned, call: &CallPlan, native: bool) -> ExportCall {
    ExportCall {
        extractor: call.label.clone(),
        native,
        batch: call.batch,
        inputs: names(planned, call.inputs.iter().copied()),
        outputs: names(planned, call.outputs.iter().flatten().copied()),
    }
}
