//! Engines of all slices of a log, each with a state of its own. Which of them works, vanishes or loses its state next, chance says.

use super::{Held, append, states_of};
use std::sync::Arc;
use thyme_core::slice::Slice;
use thyme_engine::{Engine, EngineHandle, EngineOptions, JobSpec, Role};
use thyme_log::chance::Chance;
use thyme_log::{Batch, EventLog};
use thyme_state::{StateStore, States};

/// Turns of a storm, for each slice.
const TURNS: usize = 12;

pub struct Sliced {
    states: Vec<Arc<StateStore>>,
    engines: Vec<Option<Engine>>,
    chance: Chance,
    /// Whether disks may be lost in a storm.
    pub loses_state: bool,
}

impl Held for Sliced {
    fn states(&self) -> States {
        States::new(self.states.clone())
    }
}

impl Sliced {
    pub fn new(slices: u16, seed: u64) -> Sliced {
        Sliced {
            states: states_of(slices).all().into_values().collect(),
            engines: (0..slices).map(|_| None).collect(),
            chance: Chance::new(seed),
            loses_state: false,
        }
    }

    /// Starts the engine of a slice, or the one that runs anew.
    fn start(&mut self, index: usize, spec: &JobSpec, log: &Arc<dyn EventLog>, tick_records: usize, role: Role) {
        self.engines[index] = None;
        let slice = Slice { index: index as u16, of: self.states.len() as u16 };
        let options = EngineOptions { tick_records, durable: false, role, slice, ..EngineOptions::default() };
        let mut engine = Engine::open(self.states[index].clone(), log.clone(), options).unwrap();
        engine.deploy(spec).unwrap();
        self.engines[index] = Some(engine);
    }

    /// All engines anew.
    pub fn start_all(&mut self, spec: &JobSpec, log: &Arc<dyn EventLog>, tick_records: usize, role: Role) {
        for index in 0..self.engines.len() {
            self.start(index, spec, log, tick_records, role);
        }
    }

    /// Turns of chance, in which `more` is written by and by; `look` is called after each.
    pub fn storm(&mut self, spec: &JobSpec, log: &Arc<dyn EventLog>, more: Vec<Batch>, mut look: impl FnMut(&Sliced)) {
        let turns = TURNS * self.engines.len();
        let share = more.len().div_ceil(turns / 3).max(1);
        let mut rest = more.into_iter();
        // The first makes the logs that all fill.
        self.restart(0, spec, log);
        for _ in 0..turns {
            let index = self.chance.below(self.engines.len());
            match self.chance.below(12) {
                0..3 => append(log, rest.by_ref().take(share).collect()),
                3 if self.loses_state => {
                    self.engines[index] = None;
                    self.states[index] = StateStore::in_memory().unwrap();
                }
                3 | 4 => self.restart(index, spec, log),
                _ if self.engines[index].is_none() => self.restart(index, spec, log),
                _ => {
                    if let Some(engine) = &mut self.engines[index] {
                        // What fails is tried again.
                        let _ = engine.step();
                    }
                }
            }
            look(self);
        }
        append(log, rest.collect());
    }

    fn restart(&mut self, index: usize, spec: &JobSpec, log: &Arc<dyn EventLog>) {
        let tick_records = self.chance.below(20) + 1;
        self.start(index, spec, log, tick_records, Role::Owner);
    }

    /// Works until no slice has anything left to do, in any order.
    pub fn run_to_end(&mut self) {
        let mut idle = vec![false; self.engines.len()];
        while idle.contains(&false) {
            let index = self.chance.below(self.engines.len());
            let worked = self.engines[index].as_mut().unwrap().step().unwrap();
            // What one has done may be work for others.
            if worked > 0 {
                idle.fill(false);
            }
            idle[index] = worked == 0;
        }
    }

    /// Drops state in all slices.
    pub fn drop_state(&mut self, consumers: &[u32]) {
        self.engines.iter_mut().flatten().for_each(|engine| engine.drop_state(consumers).unwrap());
    }

    /// Whether an engine of every slice runs.
    pub fn is_whole(&self) -> bool {
        self.engines.iter().all(Option::is_some)
    }

    /// Of the engines that run.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle::of_all(self.engines.iter().flatten().map(Engine::handle))
    }
}
