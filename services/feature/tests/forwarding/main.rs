//! Nodes that hold some slices answer as one that holds everything (`docs/decisions/0025-forwarding.md`): query engines over shared
//! states, gRPC between them. Where a node does not hold a slice it has an empty state, so that a read in the wrong place shows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod lost;
mod nodes;
mod parity;
mod refused;
#[path = "../../../query/tests/query/world.rs"]
#[expect(dead_code, reason = "the tests of the query engine use all of it")]
mod world;
