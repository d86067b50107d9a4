//! How often a call makes the server allocate, beside an empty one. Counted where the allocator is this program's: in the server without
//! Python, for whatever the others were measured with.

use super::load;
use super::online::{Caller, WARM_UP};
use super::process::Server;
use crate::engine::ALL_WINDOWS;
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::Workload;
use std::path::Path;

pub const PER_CALL: &str = "online.allocations_per_call";
const CALLS: usize = 2000;

pub async fn measure(settings: &Settings, root: &Path, workload: &Workload) -> Outcome<()> {
    let mut server = Server::start_counting(&root.join("counted")).await?;
    load::commit(&server, &ALL_WINDOWS).await?;
    load::ingest(&server, &workload.events).await?;
    let mut caller = Caller::new(&server, workload);
    for _ in 0..WARM_UP {
        caller.floor().await?;
        caller.unary().await?;
    }
    let (mut empty, mut unary) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        let before = settled(&mut server).await?;
        for _ in 0..CALLS {
            caller.floor().await?;
        }
        let between = settled(&mut server).await?;
        for _ in 0..CALLS {
            caller.unary().await?;
        }
        // With what is recorded behind the calls.
        let after = settled(&mut server).await?;
        empty.push((between - before) as f64 / CALLS as f64);
        unary.push((after - between) as f64 / CALLS as f64);
    }
    let (empty, unary) = (median(empty), median(unary));
    eprintln!("  allocations: {unary:.1} per lookup, {empty:.1} per empty call");
    let measure = Measure::new(PER_CALL, unary, "allocations");
    settings.report(&measure.compared("grpc health check on the same server", unary / empty));
    server.stop().await
}

/// The count once the server does nothing any more.
async fn settled(server: &mut Server) -> Outcome<u64> {
    server.wait_until_quiet().await?;
    server.allocations()
}
