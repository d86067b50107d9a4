//! What a commit would do: shown to people, kept in the catalog.

use serde::{Deserialize, Serialize};

/// The difference between two deployments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub added: Vec<PlanItem>,
    pub changed: Vec<PlanItem>,
    pub renamed: Vec<Renamed>,
    pub removed: Vec<PlanItem>,
    /// Tables and logs that stay as they are.
    pub kept: Vec<StateItem>,
    /// New tables and logs without a predecessor.
    pub built: Vec<StateItem>,
    /// New tables and logs that take over from an older version.
    pub rebuilt: Vec<StateItem>,
    pub dropped: Vec<StateItem>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanItem {
    /// `dataset`, `source`, `pipeline`, `featureset`, `feature`, `extractor`, `module`.
    pub kind: String,
    /// `Order`, `UserStats.compute`, `UserFeatures.spend_7d`.
    pub name: String,
    /// What changed, one phrase each; empty for added and removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    pub featureset: String,
    pub id: u32,
    pub from: String,
    pub to: String,
}

/// A table or log, by its catalog identity: `pipeline:UserStats.compute@2`, `raw:Order@1`, `log:Order@1`, `route:Order@1:carrier`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateItem {
    pub identity: String,
    /// The identity it takes over from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The raw dataset whose log is replayed to build it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// How many log records that is; filled in by who knows the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_records: Option<u64>,
}

impl Plan {
    /// Nothing to do: the commit's content is what is there.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.renamed.is_empty() && self.removed.is_empty()
    }
    /// For people: what is added (`+`), changed (`~`), renamed (`>`) and removed (`-`), then the state, then warnings.
    pub fn render(&self) -> String {
        let mut lines = Vec::new();
        for (sign, items) in [('+', &self.added), ('~', &self.changed)] {
            lines.extend(items.iter().map(|item| item.render(sign)));
        }
        for Renamed { featureset, id, from, to } in &self.renamed {
            lines.push(format!("> feature {featureset}.{to} (id {id}) was {from}, which still answers, as deprecated"));
        }
        lines.extend(self.removed.iter().map(|item| item.render('-')));
        if self.is_empty() {
            lines.push("nothing changes".to_string());
        }
        let state = [("keep", &self.kept), ("build", &self.built), ("rebuild", &self.rebuilt), ("drop", &self.dropped)];
        if state.iter().any(|(_, items)| !items.is_empty()) {
            lines.push(String::new());
            lines.push("state".to_string());
        }
        for (verb, items) in state {
            lines.extend(items.iter().map(|item| item.render(verb)));
        }
        if !self.warnings.is_empty() {
            lines.push(String::new());
            lines.push("warnings".to_string());
            lines.extend(self.warnings.iter().map(|warning| format!("  ! {warning}")));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

impl PlanItem {
    fn render(&self, sign: char) -> String {
        let details = if self.details.is_empty() { String::new() } else { format!(": {}", self.details.join("; ")) };
        format!("{sign} {} {}{details}", self.kind, self.name)
    }
}

impl StateItem {
    fn render(&self, verb: &str) -> String {
        let mut line = format!("  {verb:<8}{}", self.identity);
        if let Some(replaces) = &self.replaces {
            line.push_str(&format!(" for {replaces}"));
        }
        let replays = matches!(verb, "build" | "rebuild");
        if let (true, Some(input)) = (replays, &self.input) {
            line.push_str(&format!(", replaying {input}"));
            if let Some(records) = self.replay_records {
                line.push_str(&format!(" ({records} records)"));
            }
        }
        line
    }
}
