//! Pins of exports: what one stands on, and whether another can stand on the same (`docs/decisions/0027-pins.md`).

use crate::deployment::{Served, Source};
use crate::plan::Planned;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;
use thyme_core::definition::DefinitionHash;
use thyme_core::error::{Error, Result};
use thyme_core::pin::{Pin, Place};

/// What a pin is of: something that is defined, and the tables that it is read from.
#[derive(Clone)]
pub(crate) struct Pinned {
    /// `featureset 'F'`, for messages.
    pub name: String,
    pub definition: DefinitionHash,
    pub sources: Vec<Arc<Source>>,
}

impl View {
    /// The view that stands on a pin: a given one that can still be kept, or what the tables of the plans are now.
    pub fn pinned(self, plans: &[Arc<Planned>], given: Option<Pin>) -> Result<View> {
        let of: Result<Vec<Pinned>> = plans.iter().map(|planned| Pinned::of_plan(&self.served, planned)).collect();
        self.pinned_to(&of?, given)
    }

    /// The same of what is not a featureset's.
    pub fn pinned_to(mut self, of: &[Pinned], given: Option<Pin>) -> Result<View> {
        let pin = match given {
            Some(pin) => {
                self.check(&pin, of)?;
                pin
            }
            None => self.pin_now(of)?,
        };
        self.pin = Some(pin);
        Ok(self)
    }

    fn pin_now(&self, of: &[Pinned]) -> Result<Pin> {
        let mut pin = Pin {
            log: self.log()?,
            definitions: of.iter().map(|pinned| pinned.definition).collect(),
            appended_by: self.appended_by(),
            tables: Default::default(),
        };
        for source in of.iter().flat_map(|pinned| &pinned.sources) {
            let now = |partition: u16| -> Result<Place> {
                let bound = self.visible(source, partition)?.sequence_below;
                let next = bound.map_or_else(|| self.applied(source, partition), Ok)?;
                let horizon = self.horizon(source, partition)?.map(|horizon| horizon.earliest);
                Ok(Place { next, horizon })
            };
            let places: Result<Vec<Place>> = (0..source.partitions).map(now).collect();
            pin.tables.insert(source.served.table.id, places?);
        }
        Ok(pin)
    }

    /// Whether all that the pin says still holds in what is read.
    fn check(&self, pin: &Pin, of: &[Pinned]) -> Result<()> {
        if pin.log != self.log()? {
            return Err(broken("the pin is of another log", "ask the server that gave the pin, or ask without it"));
        }
        if let Some(other) = of.iter().find(|pinned| !pin.definitions.contains(&pinned.definition)) {
            let message = format!("the pin is of another definition of {}", other.name);
            return Err(broken(message, "commit that definition again, or ask without the pin"));
        }
        let mut looked_at = BTreeSet::new();
        for source in of.iter().flat_map(|pinned| &pinned.sources) {
            for partition in 0..source.partitions {
                let next = place(pin, source, partition)?.next;
                self.check_applied("the pin", source, partition, next).map_err(|error| error.field("pin"))?;
                // An erase takes rows out of tables on the dataset's own log; others are built anew, as another table.
                let log = source.served.log;
                if source.served.table.routed || !looked_at.insert((log, partition, next)) {
                    continue;
                }
                if self.state(source, partition)?.is_erased_from(log, partition, next)? {
                    let message = format!("keys of '{}' were erased since the pin was made", source.root);
                    return Err(broken(message, "ask without the pin"));
                }
            }
        }
        Ok(())
    }
}

impl Pinned {
    pub fn of_plan(served: &Served, planned: &Planned) -> Result<Pinned> {
        Ok(Pinned {
            name: format!("featureset '{}'", planned.featureset),
            definition: served.definition(&planned.featureset)?,
            sources: planned.sources().cloned().collect(),
        })
    }
}

/// How far a pin goes in a partition of a table.
pub(crate) fn place(pin: &Pin, source: &Source, partition: u16) -> Result<Place> {
    let places =
        pin.tables.get(&source.served.table.id).filter(|places| places.len() == usize::from(source.partitions));
    let place = places.and_then(|places| places.get(usize::from(partition)));
    place.copied().ok_or_else(|| {
        let message = format!("the pin does not have the table of '{}' as it is now", source.name);
        let hint = "ask for the features that the pin was made with; if these are they, the table was built anew since, without keys \
                    that were erased: ask without the pin";
        broken(message, hint)
    })
}

fn broken(message: impl Into<String>, hint: &str) -> Error {
    Error::precondition(message).field("pin").hint(hint)
}
