//! Nodes that hold some slices answer as one that holds everything (`docs/decisions/0025-forwarding.md`): query engines over shared
//! states, gRPC between them. A read of a slice that a node does not hold is an error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod lost;
mod nodes;
mod parity;
mod refused;
#[path = "../../../query/tests/query/world.rs"]
#[expect(dead_code, reason = "the tests of the query engine use all of it")]
mod world;
