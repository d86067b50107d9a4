//! The state layer against a brute force over plain lists of events.

mod canonical;
mod reads;
mod stores;
mod tables;
mod workload;
