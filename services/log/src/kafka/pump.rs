//! Serves what librdkafka tells consumers beside records (log lines, errors): nobody else polls those queues.

use super::context::Context;
use parking_lot::Mutex;
use rdkafka::consumer::BaseConsumer;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use thyme_core::{Error, Result};

const PAUSE: Duration = Duration::from_millis(100);

type Consumers = Mutex<Vec<Weak<BaseConsumer<Context>>>>;

pub struct Pump {
    consumers: Arc<Consumers>,
    stop: Arc<AtomicBool>,
    strays: Arc<AtomicU64>,
}

impl Pump {
    pub fn start() -> Result<Pump> {
        let consumers: Arc<Consumers> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let strays = Arc::new(AtomicU64::new(0));
        let (of_thread, stopping, counted) = (consumers.clone(), stop.clone(), strays.clone());
        std::thread::Builder::new()
            .name("kafka-events".to_string())
            .spawn(move || {
                while !stopping.load(Ordering::Acquire) {
                    serve(&of_thread, &counted);
                    std::thread::sleep(PAUSE);
                }
            })
            .map_err(|error| Error::internal(format!("starting a thread: {error}")))?;
        Ok(Pump { consumers, stop, strays })
    }

    /// How many records came by a queue that nobody reads: a cursor from before the last of them may miss one.
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Acquire)
    }

    pub fn add(&self, consumer: &Arc<BaseConsumer<Context>>) {
        self.consumers.lock().push(Arc::downgrade(consumer));
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn serve(consumers: &Consumers, strays: &AtomicU64) {
    let alive: Vec<Arc<BaseConsumer<Context>>> = {
        let mut consumers = consumers.lock();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.iter().filter_map(Weak::upgrade).collect()
    };
    for consumer in alive {
        // Errors have been told to the context; records come by their partition's own queue.
        while let Some(event) = consumer.poll(Duration::ZERO) {
            if event.is_ok() {
                strays.fetch_add(1, Ordering::AcqRel);
                tracing::warn!("a record came by the wrong queue of the Kafka consumer; its partition is read again");
            }
        }
    }
}
