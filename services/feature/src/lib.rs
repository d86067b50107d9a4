//! FeatureService over gRPC ([`grpc`]) and bulk transport over Arrow Flight ([`flight`]). Both only translate: every answer
//! comes from [`thyme_query::QueryEngine`], every accepted row from [`thyme_ingest::Ingestor`].

mod answers;
mod asking;
mod explain;
pub mod flight;
pub mod grpc;
mod runs;
#[cfg(test)]
mod tests;
