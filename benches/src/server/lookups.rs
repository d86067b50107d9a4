//! Single lookups compared with the brute force, as they are answered: of now.

use super::online::question;
use super::process::Server;
use crate::definitions::ALL_FEATURES;
use crate::failure::Outcome;
use crate::oracle::{self, Answer};
use crate::workload::random::Random;
use crate::workload::{SpineRow, Workload};
use thyme_proto::convert::time_from_wire;
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use thyme_proto::v1::value::Kind;

const CHECKS: usize = 1000;
/// The windows of which a lookup asks for every aggregate.
const WHOLE: [&str; 2] = ["1h", "24h"];

pub async fn check(server: &Server, workload: &Workload) -> Outcome<()> {
    let mut client = FeatureServiceClient::new(server.query.clone());
    let mut random = Random::new(13);
    let (mut questions, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..CHECKS {
        let key = workload.events[random.index(workload.events.len())].key;
        let response = client.get_features(question(key, ALL_FEATURES, &[])).await?.into_inner();
        let time = response.info.and_then(|info| info.ts).ok_or("an answer does not say of what time it is")?;
        questions.push(SpineRow { key, time: time_from_wire(&time)? });
        let answer: Outcome<Answer> = response.features.into_iter().map(named).collect();
        answers.push(answer?);
    }
    oracle::check(&workload.events, &questions, &answers, &WHOLE)
}

/// A feature by its name; null is `None`.
fn named(feature: v1::FeatureValue) -> Outcome<(String, Option<f64>)> {
    // What failed is sent as a null with its reason.
    if !feature.error.is_empty() {
        return Err(format!("{} failed: {}", feature.name, feature.error).into());
    }
    let number = match feature.value.and_then(|value| value.kind) {
        Some(Kind::Int64Value(number)) => Some(number as f64),
        Some(Kind::DoubleValue(number)) => Some(number),
        Some(Kind::NullValue(_)) => None,
        other => return Err(format!("{} is {other:?}", feature.name).into()),
    };
    Ok((feature.name, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_not_taken_for_a_null() {
        let sent = |kind: Option<Kind>, error: &str| v1::FeatureValue {
            name: "sum_1h".to_string(),
            value: Some(v1::Value { kind }),
            error: error.to_string(),
            ..Default::default()
        };
        let number = |kind| named(sent(Some(kind), "")).unwrap();
        assert_eq!(number(Kind::NullValue(0)), ("sum_1h".to_string(), None));
        assert_eq!(number(Kind::Int64Value(2)), ("sum_1h".to_string(), Some(2.0)));
        assert_eq!(number(Kind::DoubleValue(0.5)), ("sum_1h".to_string(), Some(0.5)));
        assert!(named(sent(Some(Kind::NullValue(0)), "no")).is_err());
        assert!(named(sent(None, "")).is_err() && named(sent(Some(Kind::BoolValue(true)), "")).is_err());
    }
}
