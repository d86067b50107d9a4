//! What the status shows of checkpoints. Whoever takes them fills the board; without checkpoints it stays empty.

use crate::model::Time;
use parking_lot::Mutex;
use serde::Serialize;
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

#[derive(Default)]
pub struct CheckpointBoard(Mutex<Option<CheckpointStatus>>);

impl CheckpointBoard {
    pub fn update(&self, change: impl FnOnce(&mut CheckpointStatus)) {
        change(self.0.lock().get_or_insert_default());
    }

    /// As of `now`; `None` where no checkpoints are taken.
    pub fn status(&self, now: Micros) -> Option<CheckpointStatus> {
        let mut status = self.0.lock().clone()?;
        let age = |at: Micros| now.saturating_sub(at).max(0) as f64 / 1e6;
        status.age_seconds = status.current_at.map(age);
        Some(status)
    }
}
