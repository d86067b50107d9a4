//! What the tests of changes and of rows share: questions without a spine, asked in parts.

use crate::world::{World, wait};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_select::concat::concat_batches;
use std::ops::RangeInclusive;
use thyme_core::error::Result;
use thyme_core::key::{encode_key, vnode};
use thyme_core::value::Value;
use thyme_query::{RangeInfo, RangeQuestion};

/// All hash slices, cut in parts before these.
fn parts(cuts: &[u8]) -> Vec<RangeInclusive<u8>> {
    let mut cuts = cuts.to_vec();
    cuts.sort_unstable();
    let mut from = 0;
    let mut parts = Vec::new();
    for cut in cuts.into_iter().filter(|cut| *cut > 0) {
        if cut > from {
            parts.push(from..=cut - 1);
            from = cut;
        }
    }
    parts.push(from..=u8::MAX);
    parts
}

pub fn info(world: &World, question: &RangeQuestion) -> Result<RangeInfo> {
    wait(world.query.range_info(question.clone()))
}

/// The answer to a settled question, one part after the other.
pub fn batches_of(world: &World, settled: &RangeQuestion, cuts: &[u8]) -> Result<Vec<RecordBatch>> {
    wait(async {
        let mut batches: Vec<RecordBatch> = Vec::new();
        for part in parts(cuts) {
            let mut export = world.query.range(settled, part).await?;
            let before = batches.len();
            while let Some(batch) = export.next_batch().await? {
                assert!(batch.num_rows() > 0 && batch.schema() == export.schema());
                batches.push(batch);
            }
            if batches.len() == before {
                batches.push(RecordBatch::new_empty(export.schema()));
            }
            export.finish();
        }
        Ok(batches)
    })
}

/// All its rows.
pub fn rows_of(world: &World, settled: &RangeQuestion, cuts: &[u8]) -> Result<RecordBatch> {
    let batches = batches_of(world, settled, cuts)?;
    Ok(concat_batches(&batches[0].schema(), &batches).unwrap())
}

pub fn ask(world: &World, question: &RangeQuestion, cuts: &[u8]) -> Result<RecordBatch> {
    rows_of(world, &info(world, question)?.question, cuts)
}

/// Whether a row says the same as another one.
pub fn is_same_row(one: &[ArrayRef], row: usize, other: &[ArrayRef], other_row: usize) -> bool {
    one.iter().zip(other).all(|(one, other)| one.slice(row, 1) == other.slice(other_row, 1))
}

/// Where a key stands among others.
pub fn place(key: &Value) -> (u8, Vec<u8>) {
    let encoded = encode_key(std::slice::from_ref(key)).unwrap();
    (vnode(&encoded), encoded)
}
