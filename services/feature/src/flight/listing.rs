//! What there is to exchange and put: datasets and featuresets with their Arrow schemas.

use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage, SchemaAsIpc, SchemaResult};
use arrow_schema::{Field as ArrowField, Schema};
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::definition::{Compiled, CompiledDataset, CompiledFeatureset, FeatureKind};
use thyme_core::{Error, Result, suggest};
use thyme_query::arrow_type;

/// One entry per dataset, then per featureset.
pub(crate) fn all(compiled: &Compiled) -> Result<Vec<FlightInfo>> {
    let datasets = compiled.datasets.values().map(|dataset| (dataset.name.clone(), dataset_schema(dataset)));
    let featuresets = compiled.featuresets.values().map(|set| (set.name.clone(), featureset_schema(set)));
    datasets.chain(featuresets).map(|(name, schema)| info(name, &schema)).collect()
}

fn info(name: String, schema: &Schema) -> Result<FlightInfo> {
    let info = FlightInfo::new().with_descriptor(FlightDescriptor::new_path(vec![name]));
    let info = info.with_total_records(-1).with_total_bytes(-1);
    info.try_with_schema(schema).map_err(|error| Error::internal(format!("writing a schema failed: {error}")))
}

/// The schema of a dataset or featureset.
pub(crate) fn schema_of(compiled: &Compiled, name: &str) -> Result<SchemaResult> {
    let schema = match (compiled.datasets.get(name), compiled.featuresets.get(name)) {
        (Some(dataset), _) => dataset_schema(dataset),
        (None, Some(featureset)) => featureset_schema(featureset),
        (None, None) => {
            let names = compiled.datasets.keys().chain(compiled.featuresets.keys()).map(String::as_str);
            return Err(Error::not_found(format!("unknown dataset or featureset '{name}'"))
                .field("descriptor")
                .hint(suggest::hint(name, names)));
        }
    };
    let message: IpcMessage = SchemaAsIpc::new(&schema, &Default::default())
        .try_into()
        .map_err(|error| Error::internal(format!("writing a schema failed: {error}")))?;
    Ok(SchemaResult { schema: message.0 })
}

fn dataset_schema(dataset: &Arc<CompiledDataset>) -> Schema {
    let fields = dataset.fields.iter().enumerate().map(|(column, field)| {
        let role = if dataset.key_columns.contains(&column) {
            "key"
        } else if column == dataset.time_column {
            "timestamp"
        } else {
            "field"
        };
        ArrowField::new(&field.name, arrow_type(&field.data_type), field.nullable).with_metadata(with_role(role))
    });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), kind("dataset"))
}

fn featureset_schema(featureset: &Arc<CompiledFeatureset>) -> Schema {
    let fields = featureset.features.iter().map(|feature| {
        let role = match feature.kind {
            FeatureKind::Key => "key",
            FeatureKind::Request => "request",
            FeatureKind::Ref(_) | FeatureKind::Extracted { .. } => "feature",
        };
        ArrowField::new(&feature.name, arrow_type(&feature.data_type), true).with_metadata(with_role(role))
    });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), kind("featureset"))
}

fn with_role(role: &str) -> HashMap<String, String> {
    HashMap::from([("thyme.role".to_string(), role.to_string())])
}

fn kind(kind: &str) -> HashMap<String, String> {
    HashMap::from([("thyme.kind".to_string(), kind.to_string())])
}
