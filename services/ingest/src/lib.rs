//! IngestService: rows of a dataset to records of its log, validated one by one; the erasure of keys.

pub mod rows;
