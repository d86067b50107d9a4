//! Explanations on the wire.

use crate::answers::{feature_value, info, key_of_row, named};
use crate::summary;
use thyme_proto::convert::time_to_wire;
use thyme_proto::v1;
use thyme_query::{ContributingEvent, Explanation, ExportPlan, FeatureExplanation, How, LookupExplanation};

/// Events per value unless the request says otherwise.
const DEFAULT_EVENTS: usize = 20;

/// What of a full explanation was asked for.
pub(crate) struct Shown {
    max_events: usize,
    /// Empty is all.
    names: Vec<String>,
}

impl Shown {
    pub(crate) fn new(max_events: u32, names: Vec<String>) -> Shown {
        let max_events = if max_events == 0 { DEFAULT_EVENTS } else { max_events as usize };
        Shown { max_events, names }
    }

    fn explanations(&self, features: &[FeatureExplanation]) -> Vec<v1::Explanation> {
        let shown = |feature: &&FeatureExplanation| {
            self.names.is_empty() || self.names.iter().any(|name| **name == *feature.name)
        };
        features.iter().filter(shown).map(|feature| explanation(feature, self.max_events)).collect()
    }
}

/// A featureset's features: the asked ones, then what they were made from.
pub(crate) fn features(name: String, explained: &Explanation, max_events: u32) -> v1::ExplainResponse {
    let answer = &explained.answer;
    v1::ExplainResponse {
        name,
        key: key_of_row(answer, 0),
        explanations: Shown::new(max_events, Vec::new()).explanations(&explained.features),
        info: Some(info(&answer.standing, &answer.run.id, true)),
        plan: None,
    }
}

/// A dataset's row.
pub(crate) fn row(name: String, explained: &LookupExplanation, shown: &Shown) -> v1::ExplainResponse {
    let answer = &explained.answer;
    v1::ExplainResponse {
        name,
        key: named(&answer.key),
        explanations: shown.explanations(&explained.features),
        info: Some(info(&answer.standing, &answer.run.id, true)),
        plan: None,
    }
}

/// How an export would get at a featureset's features.
pub(crate) fn plan(name: String, plan: &ExportPlan) -> v1::ExplainResponse {
    v1::ExplainResponse { name, plan: Some(summary::plan(plan)), ..v1::ExplainResponse::default() }
}

fn explanation(feature: &FeatureExplanation, max_events: usize) -> v1::Explanation {
    let mut wire =
        v1::Explanation { value: Some(feature_value(&feature.name, &feature.value)), ..v1::Explanation::default() };
    match &feature.how {
        How::Given => wire.definition = "given with the question".to_string(),
        How::Window { source, operator, window, start, end, events, truncated } => {
            wire.definition = format!("{operator} over {window} of {source}");
            wire.window_start = start.map(time_to_wire);
            wire.window_end = Some(time_to_wire(*end));
            wire.events = events.iter().take(max_events).map(event).collect();
            wire.truncated = *truncated || events.len() > max_events;
        }
        How::Newest { source, event: newest } => {
            wire.definition = format!("newest row of {source}");
            wire.events = newest.iter().map(event).collect();
        }
        How::Extractor { name, inputs } => {
            wire.definition = format!("extractor {name}");
            wire.inputs = inputs.iter().map(|(name, _)| name.clone()).collect();
        }
    }
    wire.event_count = wire.events.len() as u64;
    wire
}

fn event(event: &ContributingEvent) -> v1::ExplainedEvent {
    v1::ExplainedEvent {
        event_time: Some(time_to_wire(event.time)),
        append_time: Some(time_to_wire(event.append_time)),
        partition: event.partition.into(),
        offset: event.offset,
        values: named(&event.values),
    }
}
