//! What an export asks of each of its featuresets, where the spine holds what they are asked with, and the columns that come of it.

use crate::chunk::SpineColumns;
use crate::columns::arrow_type;
use crate::deployment::Served;
use crate::plan::{GivenPlan, Planned};
use crate::question::ExportQuestion;
use crate::rows::ENTITY_ID;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::suggest;

/// One of an export's featuresets.
#[derive(Clone)]
pub(crate) struct PartPlan {
    pub planned: Arc<Planned>,
    /// What stands before the names of its columns: `F.` where featuresets are given as a list, so that a new feature of one never
    /// renames or clashes with one of another.
    pub prefix: String,
}

impl ExportQuestion {
    /// Its featuresets.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self.featuresets.as_slice() {
            [] => vec![&self.featureset],
            list => list.iter().map(String::as_str).collect(),
        }
    }

    /// Plans the features of each featureset.
    pub(crate) fn plan(&self, served: &Served) -> Result<Vec<PartPlan>> {
        if self.featuresets.is_empty() {
            let planned = served.plan(&self.featureset, self.features.as_deref())?;
            return Ok(vec![PartPlan { planned, prefix: String::new() }]);
        }
        if !self.featureset.is_empty() {
            return Err(Error::invalid("both featureset and featuresets are given").field("featuresets"));
        }
        let asked = self.features.as_deref().map(|features| by_featureset(features, &self.featuresets)).transpose()?;
        let mut plans: Vec<PartPlan> = Vec::with_capacity(self.featuresets.len());
        for name in &self.featuresets {
            let features = asked.as_ref().map(|asked| asked.get(name.as_str()).cloned().unwrap_or_default());
            if features.as_ref().is_some_and(Vec::is_empty) {
                return Err(Error::invalid(format!("no features of featureset '{name}' are asked for"))
                    .field("features")
                    .hint("leave the featureset out, or features to get all"));
            }
            let planned = served.plan(name, features.as_deref())?;
            if plans.iter().any(|plan| plan.planned.featureset == planned.featureset) {
                return Err(Error::invalid(format!("featureset '{name}' is named twice")).field("featuresets"));
            }
            plans.push(PartPlan { planned, prefix: format!("{name}.") });
        }
        Ok(plans)
    }
}

/// Features asked as `F.feature`.
fn by_featureset<'a>(features: &'a [String], featuresets: &[String]) -> Result<BTreeMap<&'a str, Vec<String>>> {
    let mut asked: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in features {
        let named = name.split_once('.').filter(|(featureset, _)| featuresets.iter().any(|known| known == featureset));
        let Some((featureset, feature)) = named else {
            let example = featuresets.first().map_or("", String::as_str);
            return Err(Error::invalid(format!("'{name}' is a feature of none of the featuresets"))
                .field("features")
                .hint(format!("of several featuresets write Featureset.feature, such as {example}.…")));
        };
        asked.entry(featureset).or_default().push(feature.to_string());
    }
    Ok(asked)
}

/// Where the spine holds what each featureset is asked with.
pub(crate) fn spine_columns(
    plans: &[PartPlan],
    question: &ExportQuestion,
    spine: &Schema,
) -> Result<Vec<SpineColumns>> {
    check_mapped(plans, question)?;
    if question.timestamp_column.is_empty() {
        return Err(Error::invalid("no timestamp column is named").field("timestamp_column"));
    }
    plans.iter().map(|plan| SpineColumns::find(plan, question, spine)).collect()
}

/// Whether every key that is given a column is one.
fn check_mapped(plans: &[PartPlan], question: &ExportQuestion) -> Result<()> {
    let knows = |plan: &PartPlan, name: &str| {
        name == ENTITY_ID || plan.planned.compiled.features.iter().any(|feature| feature.name == name)
    };
    for name in question.entity_columns.keys() {
        let is_known = |plan: &PartPlan| knows(plan, name.strip_prefix(plan.prefix.as_str()).unwrap_or(name));
        if !plans.iter().any(is_known) {
            let featuresets: Vec<String> = plans.iter().map(|plan| format!("'{}'", plan.planned.featureset)).collect();
            let what = if plans.len() == 1 { "featureset" } else { "featuresets" };
            let keys = plans.iter().flat_map(|plan| plan.planned.compiled.key_names());
            return Err(Error::invalid(format!("unknown key '{name}' of {what} {}", featuresets.join(", ")))
                .field("entity_columns")
                .hint(suggest::hint(name, keys)));
        }
    }
    Ok(())
}

impl SpineColumns {
    fn find(
        PartPlan { planned, prefix }: &PartPlan,
        question: &ExportQuestion,
        spine: &Schema,
    ) -> Result<SpineColumns> {
        let names = || spine.fields().iter().map(|field| field.name().as_str());
        let position = |column: &str, what: String| {
            spine.index_of(column).map_err(|_| {
                Error::invalid(format!("the spine has no column '{column}' for {what}"))
                    .field(column)
                    .hint(suggest::hint(column, names()))
            })
        };
        // That of this featureset before that of all.
        let mapped = |name: &str| {
            let of_all = question.entity_columns.get(name);
            question.entity_columns.get(&format!("{prefix}{name}")).or(of_all)
        };
        let only_key = planned.keys.len() == 1;
        let column_of = |given: &GivenPlan, is_key: bool| {
            let entity = || mapped(ENTITY_ID).filter(|_| is_key && only_key);
            let column = mapped(&given.name).or_else(entity).map_or(given.name.as_ref(), String::as_str);
            let what = if is_key { "key" } else { "request feature" };
            position(column, format!("{what} '{prefix}{}'", given.name))
        };
        let keys: Result<Vec<usize>> = planned.keys.iter().map(|key| column_of(key, true)).collect();
        let requests: Result<Vec<usize>> = planned.requests.iter().map(|given| column_of(given, false)).collect();
        Ok(SpineColumns {
            time: position(&question.timestamp_column, "the timestamp".to_string())?,
            time_name: question.timestamp_column.clone(),
            keys: keys?,
            requests: requests?,
        })
    }
}

/// The spine's columns, the features, the statuses. No name may stand twice.
pub(crate) fn joined_schema(plans: &[PartPlan], question: &ExportQuestion, spine: &Schema) -> Result<Schema> {
    let mut fields: Vec<Arc<ArrowField>> = spine.fields().iter().cloned().collect();
    let mut add = |name: String, data_type: ArrowType| {
        if spine.index_of(&name).is_ok() {
            return Err(Error::invalid(format!("the spine has a column '{name}', which is also an output"))
                .field(name.as_str())
                .hint("rename the column, or ask with features=[…] for others"));
        }
        fields.push(Arc::new(ArrowField::new(name, data_type, true)));
        Ok(())
    };
    for PartPlan { planned, prefix } in plans {
        for (name, slot) in &planned.wanted {
            add(format!("{prefix}{name}"), arrow_type(&planned.slots[*slot].data_type))?;
        }
    }
    for PartPlan { planned, prefix } in plans.iter().filter(|_| question.statuses) {
        for (name, _) in &planned.wanted {
            add(format!("{prefix}{name}__status"), ArrowType::Utf8)?;
        }
    }
    Ok(Schema::new_with_metadata(fields, spine.metadata().clone()))
}
