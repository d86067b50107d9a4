//! A slice that is here and not answered for yet: it is as soon as its state is where the logs were when it came, whatever else this node is
//! busy with.

use parking_lot::Mutex;
use std::sync::Arc;
use thyme_control::SliceGoal;
use thyme_engine::EngineHandle;
use thyme_state::{StateStore, States};
use tokio::task::JoinHandle;

pub struct Coming {
    /// Until it is answered for, or not to be any more.
    is_awaited: Arc<Mutex<bool>>,
    watching: Option<JoinHandle<()>>,
}

impl Coming {
    /// The slice is added to `states` once its engine has come to the goal.
    pub fn watch(slice: u16, goal: SliceGoal, engine: EngineHandle, state: &Arc<StateStore>, states: States) -> Coming {
        let is_awaited = Arc::new(Mutex::new(true));
        let (awaited, state, of_slice) = (is_awaited.clone(), state.clone(), engine.clone());
        let is_over = move || {
            let mut is_awaited = awaited.lock();
            if *is_awaited && goal.is_reached(&of_slice) {
                tracing::info!(slice, "this node answers for the slice");
                states.add(slice, &state);
                *is_awaited = false;
            }
            !*is_awaited
        };
        let watching = (!is_over()).then(|| tokio::spawn(async move { engine.wait_until(is_over).await }));
        Coming { is_awaited, watching }
    }

    /// The slice is not to be answered for any more. If it is by now, that is for the caller to end.
    pub fn give_up(&self) {
        *self.is_awaited.lock() = false;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.give_up();
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}
