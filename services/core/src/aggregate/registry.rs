//! The operators, one line each.

use super::AggregateOp;
use super::last_k::Parameters;
use super::operator::{Needs, Request};
use super::{avg, count, decay, distinct, extreme, last, last_k, percentile, sum, top_k, variance};
use crate::error::Result;

pub(super) fn plan(request: &Request<'_>) -> Result<Needs> {
    match &request.aggregate.op {
        AggregateOp::Count => count::plan(request),
        AggregateOp::Sum => sum::plan(request),
        AggregateOp::Avg => avg::plan(request),
        AggregateOp::Min => extreme::plan_min(request),
        AggregateOp::Max => extreme::plan_max(request),
        AggregateOp::ApproxPercentile { pct } => percentile::plan(request, *pct),
        AggregateOp::Last { dropnull } => last::plan_last(request, *dropnull),
        AggregateOp::First { dropnull } => last::plan_first(request, *dropnull),
        &AggregateOp::LastK { k, dedup, dropnull } => last_k::plan_last(request, Parameters { k, dedup, dropnull }),
        &AggregateOp::FirstK { k, dedup, dropnull } => last_k::plan_first(request, Parameters { k, dedup, dropnull }),
        AggregateOp::Stddev { sample } => variance::plan_stddev(request, *sample),
        AggregateOp::Variance { sample } => variance::plan_variance(request, *sample),
        AggregateOp::CountDistinct { approx } => distinct::plan(request, *approx),
        AggregateOp::TopK { k } => top_k::plan(request, *k),
        AggregateOp::ExpDecaySum { half_life } => decay::plan(request, half_life),
    }
}
