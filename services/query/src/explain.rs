//! Explanations: for every value the window it came from, its bounds, and the events inside.

use crate::answer::{ContributingEvent, Explanation, FeatureExplanation, FeatureValue, How, LookupExplanation};
use crate::ask::{Evaluated, answer_of};
use crate::ask_lookup::{LookedUp, lookup_answer};
use crate::deployment::Source;
use crate::engine::QueryEngine;
use crate::plan::{ReadTable, ReadWhat};
use crate::question::{LookupQuestion, Question};
use crate::recorder::Recorder;
use crate::view::View;
use std::sync::Arc;
use thyme_core::aggregate::{AggregateDef, OutputPlan, Scan, WindowRead};
use thyme_core::definition::{CompiledDataset, CompiledPipeline};
use thyme_core::error::{Error, Result};
use thyme_core::key;
use thyme_core::time::Micros;
use thyme_core::value::Value;
use thyme_core::window::Window;
use thyme_state::{Event, Snapshot, Visible};

/// One table's events of one key, seen as the question sees them.
struct Evidence<'a> {
    view: &'a View,
    state: &'a Snapshot,
    source: &'a Source,
    key: Vec<u8>,
    visible: Visible,
    at: Micros,
    limit: usize,
}

impl QueryEngine {
    /// Value, window bounds and contributing events of each feature of one entity.
    pub async fn explain(&self, question: Question) -> Result<Explanation> {
        let mut recorder = Recorder::of_question(self, &question);
        let result = self.explain_with(&question, &mut recorder).await;
        recorder.finish(self, result, |explanation, run| explanation.answer.run = run)
    }

    async fn explain_with(&self, question: &Question, recorder: &mut Recorder) -> Result<Explanation> {
        if question.keys.len() != 1 {
            return Err(Error::invalid("an explanation is about one entity").field("keys"));
        }
        let evaluated = self.evaluate(question, recorder).await?;
        self.refuse_elsewhere("an explanation", &evaluated.view, &evaluated.elsewhere.slices)?;
        let features = explain_slots(&evaluated, self.options().explained_events)?;
        Ok(Explanation { answer: answer_of(question, evaluated, recorder)?, features })
    }

    /// The same for a row of a dataset.
    pub async fn explain_lookup(&self, question: LookupQuestion) -> Result<LookupExplanation> {
        let mut recorder = Recorder::of_lookup(self, &question);
        let result = self.explain_lookup_with(&question, &mut recorder).await;
        recorder.finish(self, result, |explanation, run| explanation.answer.run = run)
    }

    async fn explain_lookup_with(
        &self,
        question: &LookupQuestion,
        recorder: &mut Recorder,
    ) -> Result<LookupExplanation> {
        let looked_up = self.look_up(question, recorder).await?;
        self.refuse_elsewhere("an explanation", &looked_up.view, &looked_up.elsewhere.slices)?;
        let features = explain_row(&looked_up, self.options().explained_events)?;
        Ok(LookupExplanation { answer: lookup_answer(question, looked_up, recorder)?, features })
    }
}

/// The wanted features first, then what they were made from.
fn explain_slots(evaluated: &Evaluated, limit: usize) -> Result<Vec<FeatureExplanation>> {
    let planned = &evaluated.planned;
    let mut order: Vec<usize> = planned.wanted.iter().map(|(_, slot)| *slot).collect();
    order.extend((0..planned.slots.len()).filter(|slot| !planned.wanted.iter().any(|(_, wanted)| wanted == slot)));
    let mut hows: Vec<Option<How>> = vec![None; planned.slots.len()];
    for read in &planned.reads {
        explain_read(evaluated, read, limit, &mut hows)?;
    }
    for call in &planned.calls {
        let inputs = call.inputs.iter().map(|&slot| {
            let value = evaluated.rows.slots[slot].first().map(|given| given.value.clone());
            (planned.slots[slot].name.to_string(), value.unwrap_or_default())
        });
        let inputs: Vec<(String, Value)> = inputs.collect();
        let name = format!("{}.{}", call.featureset, call.extractor);
        for slot in call.outputs.iter().flatten() {
            hows[*slot] = Some(How::Extractor { name: name.clone(), inputs: inputs.clone() });
        }
    }
    let explained = order.into_iter().map(|slot| FeatureExplanation {
        name: planned.slots[slot].name.clone(),
        data_type: planned.slots[slot].data_type.clone(),
        value: evaluated.rows.slots[slot].first().cloned().unwrap_or_else(|| FeatureValue::ok(Value::Null)),
        how: hows[slot].take().unwrap_or(How::Given),
    });
    Ok(explained.collect())
}

fn explain_read(evaluated: &Evaluated, read: &ReadTable, limit: usize, hows: &mut [Option<How>]) -> Result<()> {
    let components: Vec<Value> = read.key.iter().map(|&slot| evaluated.rows.slots[slot][0].value.clone()).collect();
    let (Some(key), Some(at)) = (key::encode_key(&components), evaluated.rows.times[0]) else { return Ok(()) };
    let evidence = Evidence::new(&evaluated.view, &read.source, key, at, limit)?;
    match &read.what {
        ReadWhat::Windows { pipeline, plan, slots } => {
            for (output, &slot) in plan.outputs.iter().zip(slots) {
                hows[slot] = Some(evidence.window(pipeline, &pipeline.plan.outputs[output.output])?);
            }
        }
        ReadWhat::Newest { dataset, columns } => {
            let newest = evidence.newest(dataset)?;
            for &(column, slot) in columns {
                let source = format!("{}.{}", dataset.name, dataset.fields[column].name);
                hows[slot] = Some(How::Newest { source, event: newest.clone() });
            }
        }
    }
    Ok(())
}

fn explain_row(looked_up: &LookedUp, limit: usize) -> Result<Vec<FeatureExplanation>> {
    let LookedUp { view, plan, key, at, row, .. } = looked_up;
    let (Some(values), Some(encoded)) = (&row.values, key::encode_key(key)) else { return Ok(Vec::new()) };
    let dataset = &plan.dataset;
    let mut hows: Vec<Option<How>> = vec![None; dataset.fields.len()];
    for read in &plan.reads {
        let evidence = Evidence::new(view, &read.source, encoded.clone(), *at, limit)?;
        match &read.windows {
            Some(windows) => {
                for (output, &column) in windows.pipeline.plan.outputs.iter().zip(&windows.pipeline.output_columns) {
                    hows[column] = Some(evidence.window(&windows.pipeline, output)?);
                }
            }
            None => {
                let newest = evidence.newest(dataset)?;
                for (how, field) in hows.iter_mut().zip(&dataset.fields) {
                    let source = format!("{}.{}", dataset.name, field.name);
                    *how = Some(How::Newest { source, event: newest.clone() });
                }
            }
        }
    }
    let fields = dataset.fields.iter().zip(values).zip(hows).map(|((field, value), how)| FeatureExplanation {
        name: Arc::from(field.name.as_str()),
        data_type: field.data_type.clone(),
        value: value.clone(),
        how: how.unwrap_or(How::Given),
    });
    Ok(fields.collect())
}

impl<'a> Evidence<'a> {
    fn new(view: &'a View, source: &'a Source, key: Vec<u8>, at: Micros, limit: usize) -> Result<Evidence<'a>> {
        let partition = key::partition(&key, source.partitions);
        let (state, visible) = (view.state(source, partition)?, view.visible(source, partition)?);
        Ok(Evidence { view, state, source, key, visible, at, limit })
    }

    fn window(&self, pipeline: &CompiledPipeline, output: &OutputPlan) -> Result<How> {
        let end = self.view.read_time(self.at).unwrap_or(Micros::MIN);
        let start = match output.window {
            Window::Length(_) => Some(output.window.start(self.at)),
            Window::Forever => None,
        };
        let names: Vec<Arc<str>> = pipeline.plan.column_sources.iter().map(|name| Arc::from(name.as_str())).collect();
        let predicate = predicate_of(pipeline, output);
        let (events, truncated) = self.newest_events(start, end, predicate)?;
        Ok(How::Window {
            source: format!("{}.{}{}", pipeline.dataset, output.name, self.filter(pipeline, &output.name)),
            operator: self.operator(pipeline, &output.name),
            window: output.window.to_string(),
            start,
            end,
            events: events.into_iter().map(|event| contributing(event, &names)).collect(),
            truncated,
        })
    }

    /// The aggregate as written.
    fn written(&self, pipeline: &CompiledPipeline, output: &str) -> Option<&AggregateDef> {
        let pipelines = &self.view.served.compiled().definitions.pipelines;
        let written = pipelines.iter().find(|known| format!("{}.{}", known.dataset, known.name) == pipeline.name)?;
        written.aggregates.iter().find(|known| known.name == output)
    }

    /// The operator as written, such as `sum(amount)`.
    fn operator(&self, pipeline: &CompiledPipeline, output: &str) -> String {
        let Some(aggregate) = self.written(pipeline, output) else { return output.to_string() };
        let kind = serde_json::to_value(&aggregate.op).ok().and_then(|op| Some(op.get("kind")?.as_str()?.to_string()));
        format!("{}({})", kind.unwrap_or_default(), aggregate.of.as_deref().unwrap_or(""))
    }

    /// Which rows count, such as ` where items > 1`.
    fn filter(&self, pipeline: &CompiledPipeline, output: &str) -> String {
        let predicate = self.written(pipeline, output).and_then(|aggregate| aggregate.predicate.as_ref());
        predicate.map(|predicate| format!(" where {predicate}")).unwrap_or_default()
    }

    /// The newest events of `[start, end]` for which the predicate is true, newest first, and whether there are more.
    fn newest_events(&self, start: Option<Micros>, end: Micros, predicate: Option<u16>) -> Result<(Vec<Event>, bool)> {
        let table = &self.source.served.table;
        let start = start.unwrap_or(Micros::MIN);
        // A window that ends at `end` and begins at `start`: `end` is T - 1 µs when the question is exclusive.
        let window = match end.checked_sub(start) {
            Some(length) if length < 0 => return Ok((Vec::new(), false)),
            Some(length) => Window::Length(length),
            None => Window::Forever,
        };
        let limit = u32::try_from(self.limit + 1).ok();
        let scan = Scan { column: None, predicate, skip_null: false, newest_first: true, limit };
        let read = WindowRead { window, partials: Vec::new(), scans: vec![scan] };
        let data = self.state.read(table, &self.key, end, std::slice::from_ref(&read), &self.visible)?;
        let items = data.into_iter().next().and_then(|window| window.scans.into_iter().next()).unwrap_or_default();
        let truncated = items.len() > self.limit;
        let Some(oldest) = items.iter().take(self.limit).next_back() else { return Ok((Vec::new(), false)) };
        let mut events = self.state.events(table, &self.key, oldest.time, end, &self.visible, None)?;
        events.retain(|event| {
            let counts = predicate.is_none_or(|bit| event.predicates & (1 << bit) != 0);
            counts && (event.time, event.origin) >= (oldest.time, oldest.origin)
        });
        events.reverse();
        Ok((events, truncated))
    }

    fn newest(&self, dataset: &CompiledDataset) -> Result<Option<ContributingEvent>> {
        let Some(until) = self.view.read_time(self.at) else { return Ok(None) };
        let newest = self.state.newest(&self.source.served.table, &self.key, until, &self.visible)?;
        let names: Vec<Arc<str>> = dataset.fields.iter().map(|field| Arc::from(field.name.as_str())).collect();
        Ok(newest.map(|event| contributing(event, &names)))
    }
}

/// The `where=` of an output, from what it reads.
fn predicate_of(pipeline: &CompiledPipeline, output: &OutputPlan) -> Option<u16> {
    let of_scan = output.scan.and_then(|scan| scan.predicate);
    let layout = &pipeline.plan.layout;
    of_scan.or_else(|| output.partials.iter().find_map(|&partial| layout.partials[usize::from(partial)].predicate))
}

fn contributing(event: Event, names: &[Arc<str>]) -> ContributingEvent {
    ContributingEvent {
        time: event.time,
        append_time: event.append_time,
        partition: event.origin.partition,
        offset: event.origin.offset,
        values: names.iter().cloned().zip(event.values).collect(),
    }
}
