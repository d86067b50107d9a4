//! The server as a process: ports, directories, gRPC beside HTTP.

use crate::support::*;
use std::sync::Arc;
use thyme_core::ErrorKind;
use thyme_proto::internal::v1 as internal;
use thyme_proto::v1;
use thyme_query::NoExtractors;
use thyme_server::{Config, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = TestServer::start(directory.path()).await;
    let error =
        Server::start(Config::ephemeral(directory.path()).unwrap(), Arc::new(NoExtractors)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("another server"), "{error}");
    first.server.stop().await.unwrap();
    TestServer::start(directory.path()).await.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_setting() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = TestServer::start(one.path()).await;
    let mut config = Config::ephemeral(two.path()).unwrap();
    config.query_addr = first.server.query_addr;
    let error = Server::start(config, Arc::new(NoExtractors)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains(&first.server.query_addr.port().to_string()) && text.contains("server.query_addr"), "{text}");
    first.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_and_http_share_the_ports() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    let url = |address: std::net::SocketAddr| format!("http://{address}");
    let channel =
        tonic::transport::Endpoint::new(url(server.server.control_addr.unwrap())).unwrap().connect().await.unwrap();
    let mut control = v1::control_service_client::ControlServiceClient::new(channel.clone());
    let request = v1::CommitRequest {
        definitions_json: user_definitions().to_string().into_bytes().into(),
        message: "first".to_string(),
        ..v1::CommitRequest::default()
    };
    let committed = control.commit(request).await.unwrap().into_inner();
    let commit = committed.commit.unwrap();
    assert_eq!(commit.state(), v1::CommitState::Active);
    assert!(!committed.plan.unwrap().changes.is_empty());
    let status = control.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.commit_id, commit.id);
    let wrong = v1::PlanRequest { definitions_json: "{}x".into(), remove: vec![] };
    let refused = control.plan(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        control.list_featuresets(v1::ListFeaturesetsRequest {}).await.unwrap().into_inner().featuresets.len(),
        1
    );

    let position = server.log("Order", some_orders(10)).await;
    let channel = tonic::transport::Endpoint::new(url(server.server.query_addr)).unwrap().connect().await.unwrap();
    let mut feature = v1::feature_service_client::FeatureServiceClient::new(channel.clone());
    let key = [("uid".to_string(), thyme_proto::convert::value_to_wire(&thyme_core::Value::str("u0")))];
    let request = v1::GetFeaturesRequest {
        featureset: "UserFeatures".to_string(),
        key: key.into(),
        at_least: position,
        ts: Some(prost_types::Timestamp { seconds: 1_705_320_000, nanos: 0 }),
        ..v1::GetFeaturesRequest::default()
    };
    let answer = feature.get_features(request).await.unwrap().into_inner();
    let orders = answer.features.iter().find(|value| value.name == "orders_1h").unwrap();
    assert_eq!(orders.value.clone().unwrap().kind, Some(v1::value::Kind::Int64Value(1)));

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "thyme.v1.FeatureService".to_string() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    // With one slice nobody has parts of questions to ask.
    let mut parts = internal::part_service_client::PartServiceClient::new(channel.clone());
    let refused = parts.read_part(internal::ReadPartRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    // A service of the other port is said to be unimplemented, not unreachable.
    let mut elsewhere = v1::control_service_client::ControlServiceClient::new(channel);
    let refused = elsewhere.get_status(v1::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    server.server.stop().await.unwrap();
}
