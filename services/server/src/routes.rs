//! The routes of the two ports: gRPC with health and reflection beside HTTP.

use crate::adapters::RunBook;
use crate::config::Config;
use axum::Router;
use std::sync::Arc;
use thyme_control::Controller;
use thyme_core::{Error, Result};
use thyme_feature::flight::Spines;
use thyme_gateway::{ControlGateway, Health, QueryGateway};
use thyme_ingest::Ingestor;
use thyme_query::QueryEngine;
use tokio::sync::watch;

/// What the routes are made of.
pub struct Parts {
    pub config: Config,
    /// Whether there may be nodes that ask this one for parts of questions.
    pub has_peers: bool,
    pub controller: Arc<Controller>,
    pub query: Arc<QueryEngine>,
    pub ingestor: Arc<Ingestor>,
    pub spines: Arc<Spines>,
    pub book: Arc<RunBook>,
    pub health: Arc<dyn Health>,
    pub stopping: watch::Receiver<bool>,
}

impl Parts {
    pub async fn control_routes(&self) -> Result<Router> {
        let control = thyme_control::grpc::service(self.controller.clone());
        let ingest = thyme_ingest::grpc::service(self.ingestor.clone());
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        reporter.set_service_status("thyme.v1.ControlService", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("thyme.v1.IngestService", tonic_health::ServingStatus::Serving).await;
        let grpc = tonic::service::Routes::new(control).add_service(ingest).add_service(grpc_health);
        let gateway = ControlGateway {
            controller: self.controller.clone(),
            ingestor: self.ingestor.clone(),
            max_bytes: self.config.ingest.max_bytes,
            max_rows: self.config.ingest.max_rows,
        };
        let services = ["thyme.v1.ControlService", "thyme.v1.IngestService"];
        self.finish(grpc, &services, thyme_gateway::control_routes(Arc::new(gateway)))
    }

    pub async fn query_routes(&self) -> Result<Router> {
        let feature = thyme_feature::grpc::service(self.query.clone(), self.book.clone(), self.stopping.clone());
        let ingestor = (!self.config.query_only).then(|| self.ingestor.clone());
        let flight = thyme_feature::flight::service(self.query.clone(), ingestor, self.spines.clone());
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        reporter.set_service_status("thyme.v1.FeatureService", tonic_health::ServingStatus::Serving).await;
        let mut grpc = tonic::service::Routes::new(feature).add_service(flight).add_service(grpc_health);
        if self.has_peers {
            grpc = grpc.add_service(thyme_feature::parts::service(self.query.clone()));
        }
        let gateway = QueryGateway {
            query: self.query.clone(),
            runs: self.book.clone(),
            max_bytes: self.config.ingest.max_bytes,
        };
        self.finish(grpc, &["thyme.v1.FeatureService"], thyme_gateway::query_routes(Arc::new(gateway)))
    }

    /// `services` are those that reflection lists, beside health; in both its versions, since stock clients speak either.
    fn finish(&self, grpc: tonic::service::Routes, services: &[&str], http: Router) -> Result<Router> {
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(thyme_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let wrong = |error| Error::internal(format!("building the reflection service: {error}"));
        let grpc = grpc.add_service(reflection().build_v1().map_err(wrong)?);
        let grpc = grpc.add_service(reflection().build_v1alpha().map_err(wrong)?).into_axum_router();
        let health = thyme_gateway::health_routes(self.health.clone());
        Ok(http.merge(health).merge(grpc).fallback(thyme_gateway::not_found))
    }
}
