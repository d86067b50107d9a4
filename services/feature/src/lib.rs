//! FeatureService over gRPC ([`grpc`]), bulk transport over Arrow Flight ([`flight`]), and what nodes ask each other ([`parts`]). All only
//! translate: every answer comes from [`thyme_query::QueryEngine`], every accepted row from [`thyme_ingest::Ingestor`].

mod answers;
mod asking;
mod explain;
pub mod flight;
pub mod grpc;
pub mod parts;
mod runs;
mod stream;
mod summary;
mod task;
#[cfg(test)]
mod tests;
