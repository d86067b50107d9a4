//! Many questions over one stream: each is answered as a call of its own answers it.

use super::grpc::{get, key, start};
use super::stack::{MINUTE, NOON, definitions};
use crate::stream::{IN_FLIGHT, answers};
use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thyme_core::{ErrorKind, Value};
use thyme_proto::convert::{time_to_wire, value_to_wire};
use thyme_proto::status::{from_message, from_status};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use thyme_proto::v1::stream_features_response::Outcome;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};

type Client = FeatureServiceClient<Channel>;
type Answers = Streaming<v1::StreamFeaturesResponse>;

fn ask(sequence: u64, request: v1::GetFeaturesRequest) -> v1::StreamFeaturesRequest {
    v1::StreamFeaturesRequest { sequence, request: Some(request), timeout: None }
}

/// A stream into which questions are put one by one.
async fn open(client: &mut Client) -> (mpsc::UnboundedSender<v1::StreamFeaturesRequest>, Answers) {
    let (sender, requests) = mpsc::unbounded();
    (sender, client.stream_features(requests).await.unwrap().into_inner())
}

async fn next(answers: &mut Answers) -> (u64, Outcome) {
    let answer = answers.message().await.unwrap().expect("the stream has ended");
    (answer.sequence, answer.outcome.unwrap())
}

fn response(outcome: Outcome) -> v1::GetFeaturesResponse {
    match outcome {
        Outcome::Response(response) => response,
        Outcome::Error(error) => panic!("{}", from_message(&error)),
    }
}

fn error(outcome: Outcome) -> thyme_core::Error {
    match outcome {
        Outcome::Error(error) => from_message(&error),
        Outcome::Response(response) => panic!("{response:?}"),
    }
}

/// A question that waits at the gate while that is closed.
async fn waiting(client: &mut Client) -> v1::GetFeaturesRequest {
    let answer = client.get_features(get("a")).await.unwrap().into_inner();
    v1::GetFeaturesRequest { at_least: answer.info.unwrap().position, ..get("a") }
}

/// Questions of all kinds, and between them some that are wrong.
fn questions(position: &str) -> Vec<v1::GetFeaturesRequest> {
    let mut wrong = [
        v1::GetFeaturesRequest { featureset: "UserFeature".into(), ..get("a") },
        v1::GetFeaturesRequest { features: vec!["oders".into()], ..get("a") },
        v1::GetFeaturesRequest { key: key("ui", "a"), ..get("a") },
        v1::GetFeaturesRequest { key: [("uid".to_string(), value_to_wire(&Value::Int(1)))].into(), ..get("a") },
        v1::GetFeaturesRequest { known_at: "soon".into(), ..get("a") },
        v1::GetFeaturesRequest { at_least: "soon".into(), ..get("a") },
    ]
    .into_iter()
    .cycle();
    let mut all = Vec::new();
    for user in ["a", "b", "c", "nobody"] {
        for minutes in [0, 10, 30, 90, 3_000] {
            for exclusive in [false, true] {
                let ts = Some(time_to_wire(NOON - minutes * MINUTE));
                let then = v1::GetFeaturesRequest { ts, exclusive, ..get(user) };
                // It says nothing of other keys' partitions.
                if user == "a" {
                    all.push(v1::GetFeaturesRequest { known_at: position.to_string(), ..then.clone() });
                }
                all.push(v1::GetFeaturesRequest { features: vec!["spend".into()], ..then.clone() });
                all.push(then);
            }
        }
        all.push(get(user));
        all.extend(wrong.by_ref().take(3));
    }
    all
}

#[tokio::test]
async fn answers_are_those_of_single_calls_bit_for_bit_and_in_order() {
    let (stack, mut client) = start().await;
    let position = client.get_features(get("a")).await.unwrap().into_inner().info.unwrap().position;
    stack.order(&[("a", 10, 100.0), ("c", 5, 0.1)]).await;
    let asked = questions(&position);
    let requests: Vec<_> = asked.iter().zip(0..).map(|(request, number)| ask(number * 7, request.clone())).collect();
    let mut answers = client.stream_features(stream::iter(requests)).await.unwrap().into_inner();
    let (mut errors, mut values) = (0, std::collections::BTreeSet::new());
    for (number, request) in asked.iter().enumerate() {
        let (sequence, outcome) = next(&mut answers).await;
        assert_eq!(sequence, number as u64 * 7);
        match (outcome, client.get_features(request.clone()).await) {
            (Outcome::Response(mut streamed), Ok(single)) => {
                let mut single = single.into_inner();
                let run_id = std::mem::take(&mut streamed.info.as_mut().unwrap().query_run_id);
                let recorded = stack.runs.0.lock().iter().filter(|run| *run.id == *run_id).count();
                assert_eq!(recorded, 1, "each question has a run of its own");
                assert_ne!(std::mem::take(&mut single.info.as_mut().unwrap().query_run_id), run_id);
                assert_eq!(streamed.encode_to_vec(), single.encode_to_vec(), "{request:?}");
                values.insert(single.encode_to_vec());
            }
            (Outcome::Error(streamed), Err(single)) => {
                assert_eq!(streamed.encode_to_vec(), single.details(), "{request:?}");
                errors += 1;
            }
            (streamed, single) => panic!("{request:?}: {streamed:?}, but {single:?}"),
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(errors, 12);
    assert!(values.len() > 40, "the questions should not all have one answer");
}

#[tokio::test]
async fn what_is_no_question_is_an_error_in_its_place() {
    let (_stack, mut client) = start().await;
    let timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let requests = [
        v1::StreamFeaturesRequest { sequence: 8, ..v1::StreamFeaturesRequest::default() },
        v1::StreamFeaturesRequest { timeout, ..ask(6, get("a")) },
        ask(9, get("a")),
    ];
    let mut answers = client.stream_features(stream::iter(requests)).await.unwrap().into_inner();
    for (asked, field) in [(8, "request"), (6, "timeout")] {
        let (sequence, outcome) = next(&mut answers).await;
        let error = error(outcome);
        assert_eq!((sequence, error.kind(), error.field_name()), (asked, ErrorKind::InvalidArgument, Some(field)));
    }
    let (sequence, outcome) = next(&mut answers).await;
    assert_eq!((sequence, response(outcome).features.len()), (9, 2));
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_last_and_what_came_before_it_is_answered() {
    let (_stack, mut client) = start().await;
    let too_large = "k".repeat(crate::grpc::MAX_MESSAGE_BYTES);
    let requests = [ask(1, get("a")), ask(2, get("b")), ask(3, get(&too_large)), ask(4, get("a"))];
    let mut answers = client.stream_features(stream::iter(requests)).await.unwrap().into_inner();
    for asked in [1, 2] {
        let (sequence, outcome) = next(&mut answers).await;
        assert_eq!((sequence, response(outcome).features.len()), (asked, 2));
    }
    let single = client.get_features(get(&too_large)).await.unwrap_err();
    assert_eq!(answers.message().await.unwrap_err().code(), single.code());
}

#[tokio::test]
async fn a_commit_in_mid_stream_answers_what_is_asked_after_it() {
    let (stack, mut client) = start().await;
    let (sender, mut answers) = open(&mut client).await;
    let mut fewer = definitions();
    fewer.featuresets[0].features.retain(|feature| feature.name != "spend");
    let commits = [(definitions(), "commit-1"), (fewer, "commit-2"), (definitions(), "commit-3")];
    for (definitions, commit_id) in commits {
        stack.commit(commit_id, &definitions);
        let of_spend = v1::GetFeaturesRequest { features: vec!["spend".into()], ..get("a") };
        for request in [get("a"), of_spend] {
            sender.unbounded_send(ask(1, request.clone())).unwrap();
            let (_, streamed) = next(&mut answers).await;
            match client.get_features(request).await {
                Ok(single) => {
                    let (streamed, single) = (response(streamed), single.into_inner());
                    assert_eq!(streamed.info.unwrap().commit_id, commit_id);
                    assert_eq!(streamed.features, single.features);
                }
                Err(status) => {
                    assert_eq!((error(streamed), commit_id), (from_status(&status), "commit-2"));
                }
            }
        }
    }
}

#[tokio::test]
async fn each_question_has_a_deadline_of_its_own() {
    let (stack, mut client) = start().await;
    let waiting = waiting(&mut client).await;
    stack.gate.close();
    let soon = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let requests = [
        v1::StreamFeaturesRequest { timeout: soon, ..ask(1, waiting.clone()) },
        v1::StreamFeaturesRequest { timeout: soon, ..ask(2, get("a")) },
        ask(3, waiting),
    ];
    let mut answers = client.stream_features(stream::iter(requests)).await.unwrap().into_inner();
    let late = error(next(&mut answers).await.1);
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    assert!(late.message().ends_with("within 50 ms"), "{late}");
    assert_eq!(response(next(&mut answers).await.1).features.len(), 2);
    stack.gate.open();
    assert_eq!(response(next(&mut answers).await.1).features.len(), 2);
}

#[tokio::test]
async fn no_question_outlasts_the_deadline_of_its_stream() {
    let (stack, mut client) = start().await;
    let waiting = waiting(&mut client).await;
    stack.gate.close();
    let long = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let asked =
        [ask(1, get("a")), ask(2, waiting.clone()), v1::StreamFeaturesRequest { timeout: long, ..ask(3, waiting) }];
    // More would come.
    let mut request = Request::new(stream::iter(asked).chain(stream::pending()));
    // Not by the client's library, which would end the call by itself.
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut answers = client.stream_features(request).await.unwrap().into_inner();
    assert_eq!(response(next(&mut answers).await.1).features.len(), 2);
    for asked in [2, 3] {
        let (sequence, outcome) = next(&mut answers).await;
        assert_eq!((sequence, error(outcome).kind()), (asked, ErrorKind::DeadlineExceeded));
    }
    let end = answers.message().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::DeadlineExceeded, "the deadline of the stream passed"));
    assert_eq!(*stack.gate.waiting.borrow(), (0, 2), "both have waited, and wait no more");
}

#[tokio::test]
async fn when_the_server_stops_what_was_read_is_answered_and_the_stream_ends() {
    let (stack, mut client) = start().await;
    let waiting = waiting(&mut client).await;
    stack.gate.close();
    let (sender, mut answers) = open(&mut client).await;
    sender.unbounded_send(ask(1, waiting)).unwrap();
    stack.gate.until_waiting(1).await;
    stack.stopping.send_replace(true);
    stack.gate.open();
    assert_eq!(response(next(&mut answers).await.1).features.len(), 2);
    let end = from_status(&answers.message().await.unwrap_err());
    assert_eq!((end.kind(), end.message()), (ErrorKind::Unavailable, "the server is stopping"));
}

#[tokio::test]
async fn the_work_ends_when_the_client_goes_away() {
    let (stack, mut client) = start().await;
    let waiting = waiting(&mut client).await;
    stack.gate.close();
    let (sender, answers) = open(&mut client).await;
    for sequence in 0..10 {
        sender.unbounded_send(ask(sequence, waiting.clone())).unwrap();
    }
    stack.gate.until_waiting(10).await;
    drop((sender, answers));
    stack.gate.until_waiting(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_are_under_way_as_a_stream_may_have() {
    let (stack, mut client) = start().await;
    let waiting = waiting(&mut client).await;
    stack.gate.close();
    let requests = stream::iter(0..300).map(move |sequence| ask(sequence, waiting.clone()));
    let mut answers = client.stream_features(requests).await.unwrap().into_inner();
    stack.gate.until_waiting(IN_FLIGHT).await;
    // Others are answered meanwhile: time enough to read more.
    for _ in 0..100 {
        client.get_features(get("a")).await.unwrap();
    }
    assert_eq!(*stack.gate.waiting.borrow(), (IN_FLIGHT, IN_FLIGHT));
    stack.gate.open();
    for sequence in 0..300 {
        assert_eq!(next(&mut answers).await.0, sequence);
    }
    assert_eq!(*stack.gate.waiting.borrow(), (0, IN_FLIGHT));
}

#[tokio::test]
async fn no_more_is_read_than_is_taken() {
    const ASKED: usize = 500;
    let (stack, _client) = start().await;
    let read = Arc::new(AtomicUsize::new(0));
    let counting = read.clone();
    let requests = stream::iter(0..ASKED as u64).map(move |sequence| {
        counting.fetch_add(1, Ordering::Relaxed);
        Ok(ask(sequence, get("a")))
    });
    let mut answers = answers(stack.query.clone(), MetadataMap::new(), requests, stack.stopping.subscribe());
    for taken in 0..ASKED {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.sequence, taken as u64);
        // Whatever was begun is done; nothing more is.
        while stack.runs.0.lock().len() < read.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        assert!(read.load(Ordering::Relaxed) <= taken + IN_FLIGHT, "{read:?} are read when {taken} are taken");
    }
    assert!(answers.next().await.is_none());
    assert_eq!((read.load(Ordering::Relaxed), stack.runs.0.lock().len()), (ASKED, ASKED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_not_read_from() {
    const ASKED: u64 = 2_000;
    let (stack, mut others) = start().await;
    // Answers repeat the key: some ten fill what the client takes in without being asked to.
    let large = "k".repeat(8_000);
    let endpoint = Endpoint::from_shared(stack.url.clone()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut client = FeatureServiceClient::new(endpoint.connect().await.unwrap());
    let requests = stream::iter(0..ASKED).map(move |sequence| ask(sequence, get(&large)));
    let mut answers = client.stream_features(requests).await.unwrap().into_inner();
    let begun = || stack.runs.0.lock().iter().filter(|run| run.entity_ids[0] != "a").count();
    let mut before = 0;
    loop {
        for _ in 0..100 {
            others.get_features(get("a")).await.unwrap();
        }
        let now = begun();
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    // Beside those in flight, what the windows and buffers below hold: half a megabyte.
    assert!(before < IN_FLIGHT + 150, "{before} of {ASKED} were begun");
    for sequence in 0..ASKED {
        assert_eq!(next(&mut answers).await.0, sequence);
    }
    assert_eq!(begun(), ASKED as usize);
}
