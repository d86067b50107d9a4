//! What an answer costs with more data: ten times the events on the same keys, a hundred times the keys with an event each.
//! Two servers, loaded one after the other and asked in turns.

use super::online::{CALLS, Caller, WARM_UP};
use super::{export, loaded, lookups};
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::{Shape, Spread, Workload};

const INGEST: &str = "growth.ingest_events_ratio";
const EXPORT: &str = "growth.export_rows_ratio";
const UNARY: &str = "growth.unary_p50_ratio";
const MORE_EVENTS: usize = 10;
const MORE_KEYS: usize = 100;
/// All within a day, so that a lookup finds the key's event. The spine is for the check alone.
const MANY_KEYS: Shape =
    Shape { events: 10_000_000, keys: 10_000_000, spine: 20_000, days: 1, spread: Spread::Even, ..Shape::STANDARD };

pub async fn measure(settings: &Settings) -> Outcome<()> {
    if settings.wants_any(&[INGEST, EXPORT]) {
        with_more_events(settings).await?;
    }
    if settings.wants(UNARY) {
        with_more_keys(settings).await?;
    }
    Ok(())
}

async fn with_more_events(settings: &Settings) -> Outcome<()> {
    let shape = settings.scaled(Shape::GROWN);
    eprintln!("growth: {} events beside one in {MORE_EVENTS} of them", shape.events);
    let mut many = Workload::generate(&shape);
    let few = many.thinned(&shape, MORE_EVENTS);
    // Both are asked the same.
    many.spine.clone_from(&few.spine);
    let directory = settings.directory()?;
    let (of_few, rate_of_few) = loaded(settings, &directory.path().join("few"), &few).await?;
    let (of_many, rate_of_many) = loaded(settings, &directory.path().join("many"), &many).await?;
    let peer = format!("{} events", few.events.len());
    settings.report(&Measure::new(INGEST, rate_of_many / rate_of_few, "ratio").over(&peer));
    if !settings.wants(EXPORT) {
        return Ok(());
    }
    let mut sorted = few.spine.clone();
    sorted.sort_by_key(|row| (row.key, row.time));
    export::check(&few, &export::export(&of_few, &sorted).await?)?;
    export::check(&many, &export::export(&of_many, &sorted).await?)?;
    let mut ratios = Vec::new();
    for _ in 0..settings.runs {
        let rate_of_few = export::rows_per_cpu_second("growth, few events", &of_few, &sorted).await?;
        let rate_of_many = export::rows_per_cpu_second("growth, many events", &of_many, &sorted).await?;
        ratios.push(rate_of_many / rate_of_few);
    }
    settings.report(&Measure::new(EXPORT, median(ratios), "ratio").over(&peer));
    Ok(())
}

async fn with_more_keys(settings: &Settings) -> Outcome<()> {
    let shape = settings.scaled(MANY_KEYS);
    let fewer = Shape { events: shape.events / MORE_KEYS, keys: shape.keys / MORE_KEYS, ..shape };
    eprintln!("growth: {} keys beside {}", shape.keys, fewer.keys);
    let (many, few) = (Workload::generate(&shape), Workload::generate(&fewer));
    let directory = settings.directory()?;
    let (of_few, _) = loaded(settings, &directory.path().join("few"), &few).await?;
    let (of_many, _) = loaded(settings, &directory.path().join("many"), &many).await?;
    lookups::check(&of_few, &few).await?;
    lookups::check(&of_many, &many).await?;
    let (mut ask_few, mut ask_many) = (Caller::new(&of_few, &few), Caller::new(&of_many, &many));
    let mut ratios = Vec::new();
    for _ in 0..settings.runs {
        let p50_of_few = p50_in_us(&mut ask_few).await?;
        let p50_of_many = p50_in_us(&mut ask_many).await?;
        eprintln!("  unary {p50_of_many:.0} µs with {} keys, {p50_of_few:.0} µs with {}", shape.keys, fewer.keys);
        ratios.push(p50_of_many / p50_of_few);
    }
    settings.report(&Measure::new(UNARY, median(ratios), "ratio").over(&format!("{} keys", fewer.keys)));
    Ok(())
}

/// Of lookups of random keys, one after the other: not in turns with the other server's, which would push this one's data out
/// of the processor's caches and make the two alike.
async fn p50_in_us(caller: &mut Caller<'_>) -> Outcome<f64> {
    for _ in 0..WARM_UP {
        caller.unary().await?;
    }
    let mut times = Vec::new();
    for _ in 0..CALLS {
        times.push(caller.unary().await?.as_secs_f64() * 1e6);
    }
    Ok(median(times))
}
