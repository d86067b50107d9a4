//! Single lookups while another client asks for large batches without a pause: whether the short wait behind the long.

use super::online::{Caller, WARM_UP};
use super::process::{Server, channel};
use crate::failure::Outcome;
use crate::report::{Measure, median, percentile};
use crate::settings::Settings;
use crate::workload::Workload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;

pub const BESIDE_BATCHES: &str = "online.lookup_p99_beside_batches_ms";
/// As many as one call may have.
const BATCH_ROWS: usize = 100_000;
/// What an answer to so many rows may come to, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// Long enough for several batches.
const TURN: Duration = Duration::from_secs(4);
/// So that the slowest hundredth is not one lookup.
const LOOKUPS: usize = 2000;

pub async fn measure(settings: &Settings, server: &Server, workload: &Workload) -> Outcome<()> {
    let mut caller = Caller::new(server, workload);
    let batch = caller.batch_question(BATCH_ROWS);
    for _ in 0..WARM_UP {
        caller.unary().await?;
    }
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let alone = slowest_hundredth(&mut caller).await?;
        let other = Other::start(server.query_address.clone(), batch.clone())?;
        let beside = slowest_hundredth(&mut caller).await?;
        let batches = other.stop()?;
        eprintln!("  lookups: p99 {alone:.2} ms alone, {beside:.2} ms beside {batches} batches of {BATCH_ROWS} rows");
        times.push(beside);
        ratios.push(beside / alone);
    }
    let measure = Measure::new(BESIDE_BATCHES, median(times), "ms");
    settings.report(&measure.compared("the same lookups alone", median(ratios)));
    Ok(())
}

/// Of lookups for a turn, one after the other: the time in ms that one in a hundred takes longer than.
async fn slowest_hundredth(caller: &mut Caller<'_>) -> Outcome<f64> {
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < LOOKUPS || started.elapsed() < TURN {
        times.push(caller.unary().await?.as_secs_f64() * 1e3);
    }
    Ok(percentile(times, 0.99))
}

/// The client with the batches, on a thread of its own, so that its work on an answer holds up no lookup of this one.
struct Other {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<usize>>,
}

impl Other {
    /// Returns when its first batch is answered.
    fn start(address: String, batch: v1::BatchGetFeaturesRequest) -> Outcome<Other> {
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, first) = mpsc::channel();
        let of_thread = stop.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask_without_pause(&address, &batch, &of_thread, &answered))
        };
        let other = Other { stop, thread: std::thread::Builder::new().name("batches".to_string()).spawn(work)? };
        match first.recv() {
            Ok(()) => Ok(other),
            // It has ended before: with an error.
            Err(_) => Err(other.stop().err().unwrap_or_else(|| "no batch was answered".into())),
        }
    }

    /// How many batches were answered.
    fn stop(self) -> Outcome<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the client with the batches panicked")?
    }
}

async fn ask_without_pause(
    address: &str,
    batch: &v1::BatchGetFeaturesRequest,
    stop: &AtomicBool,
    answered: &mpsc::Sender<()>,
) -> Outcome<usize> {
    let mut features = FeatureServiceClient::new(channel(address)?).max_decoding_message_size(MOST_BYTES);
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        let rows = features.batch_get_features(batch.clone()).await?.into_inner().rows;
        if rows != BATCH_ROWS as u64 {
            return Err(format!("{rows} rows came back").into());
        }
        batches += 1;
        // Only the first is waited for.
        let _nobody_waits = answered.send(());
    }
    Ok(batches)
}
