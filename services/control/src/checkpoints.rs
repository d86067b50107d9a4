//! What the status shows of checkpoints. Whoever takes them fills the board; without checkpoints it stays empty.

use crate::model::Time;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use thyme_core::time::Micros;

/// As JSON, the `checkpoints` of the status.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckpointStatus {
    pub url: String,
    /// The newest checkpoint; `None` while none is known.
    pub number: Option<u64>,
    pub taken_at: Option<Time>,
    /// How long ago the state was as the newest checkpoint has it; 0 while nothing has changed since. Set when it is asked for.
    pub age_seconds: Option<f64>,
    pub size_bytes: u64,
    /// What had to be sent for it.
    pub uploaded_bytes: u64,
    pub duration_seconds: f64,
    /// Since the server started.
    pub failures: u64,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
    /// What the state was restored from when the server started.
    pub restored: Option<u64>,
    /// Damaged checkpoints that were passed over then.
    pub unusable: Vec<String>,
    /// Of a follower: the newest checkpoint that its own state was compared with at the same place, and equal to.
    pub compared: Option<u64>,
    /// Another state at the same place had another digest.
    pub diverged: Option<String>,
    /// When the newest checkpoint was last seen to be as the state.
    #[serde(skip)]
    pub current_at: Option<Micros>,
}

/// By slice.
#[derive(Default)]
pub struct CheckpointBoard(Mutex<BTreeMap<u16, CheckpointStatus>>);

impl CheckpointBoard {
    pub fn update(&self, slice: u16, change: impl FnOnce(&mut CheckpointStatus)) {
        change(self.0.lock().entry(slice).or_default());
    }

    /// The slice is not here any more.
    pub fn remove(&self, slice: u16) {
        self.0.lock().remove(&slice);
    }

    /// Whether another state of the slice at the same place had another digest.
    pub fn is_diverged(&self, slice: u16) -> bool {
        self.0.lock().get(&slice).is_some_and(|status| status.diverged.is_some())
    }

    /// Whether the slice's state was compared with this checkpoint.
    pub fn is_compared(&self, slice: u16, number: u64) -> bool {
        self.0.lock().get(&slice).is_some_and(|status| status.compared == Some(number))
    }

    /// As of `now`, of all slices together: what could be restored is as old as the oldest newest. `None` where no checkpoints are taken.
    pub fn status(&self, now: Micros) -> Option<CheckpointStatus> {
        let mut status = self.0.lock().values().cloned().reduce(with)?;
        let age = |at: Micros| now.saturating_sub(at).max(0) as f64 / 1e6;
        status.age_seconds = status.current_at.map(age);
        Some(status)
    }
}

/// Each slice counts its checkpoints for itself: the greatest number, if all have one, and the time of the oldest.
fn with(mut all: CheckpointStatus, other: CheckpointStatus) -> CheckpointStatus {
    all.number = all.number.zip(other.number).map(|(one, another)| one.max(another));
    all.taken_at = all.taken_at.min(other.taken_at);
    all.current_at = all.current_at.min(other.current_at);
    all.size_bytes += other.size_bytes;
    all.uploaded_bytes += other.uploaded_bytes;
    all.duration_seconds = all.duration_seconds.max(other.duration_seconds);
    all.failures += other.failures;
    all.trouble = all.trouble.or(other.trouble);
    all.restored = all.restored.zip(other.restored).map(|(one, another)| one.max(another));
    all.unusable.extend(other.unusable);
    // Slices that this node owns are compared elsewhere.
    all.compared = all.compared.max(other.compared);
    all.diverged = all.diverged.or(other.diverged);
    all
}
