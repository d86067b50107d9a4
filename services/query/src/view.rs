//! The one view of the state that a question reads: a snapshot of each slice, `known_at`, `exclusive`; and what the answer stands on.

use crate::answer::{Mode, Standing};
use crate::deployment::{Served, Source};
use crate::part::PartStanding;
use crate::pin::place;
use crate::question::{Asking, At};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use thyme_core::aggregate::WindowRead;
use thyme_core::error::{Error, ErrorKind, Result};
use thyme_core::pin::{LogTag, Pin};
use thyme_core::position::KnownAt;
use thyme_core::slice::log_of_note;
use thyme_core::time::{Clock, ClockMode, Micros, format_time};
use thyme_core::window::{Window, format_duration};
use thyme_state::{Snapshot, Snapshots, Visible};

pub(crate) struct View {
    pub served: Arc<Served>,
    snapshots: Snapshots,
    known_at: Option<KnownAt>,
    /// What an export stands on, which `known_at` is a part of.
    pub pin: Option<Pin>,
    pub exclusive: bool,
    /// The answer to "now" in this view.
    pub now: Micros,
    /// What was asked under the pin, and is not kept any more.
    lost: OnceLock<Error>,
}

impl View {
    pub fn new(served: Arc<Served>, snapshots: Snapshots, asking: &Asking, clock: &dyn Clock) -> Result<View> {
        let (known_at, exclusive) = (asking.known_at.clone(), asking.exclusive);
        let mut view = View { served, snapshots, known_at, pin: None, exclusive, now: 0, lost: OnceLock::new() };
        view.now = match view.served.deployment.clock {
            ClockMode::Wall => clock.now(),
            ClockMode::Event => view.greatest_event_time()?.unwrap_or(0),
        };
        Ok(view)
    }

    /// Whether there are slices that it does not read.
    pub fn is_partial(&self) -> bool {
        !self.snapshots.has_all()
    }

    /// How many slices there are, here and elsewhere.
    pub fn slices(&self) -> u16 {
        self.snapshots.slices()
    }

    pub fn all_slices(&self) -> BTreeSet<u16> {
        (0..self.slices()).collect()
    }

    pub fn slices_elsewhere(&self) -> BTreeSet<u16> {
        self.all_slices().into_iter().filter(|slice| !self.has(*slice)).collect()
    }

    #[inline]
    pub fn has(&self, slice: u16) -> bool {
        self.snapshots.has(slice)
    }

    /// The slice of a partition, if it is not here.
    #[inline]
    pub fn elsewhere(&self, source: &Source, partition: u16) -> Option<u16> {
        self.snapshots.of(partition, source.partitions).err().map(|elsewhere| elsewhere.slice)
    }

    /// The greatest accepted event time in the slices that are here.
    pub fn greatest_event_time(&self) -> Result<Option<Micros>> {
        self.snapshots.greatest_event_time()
    }

    /// The state with a partition of a table: what is read of its keys, and how far it is.
    #[inline]
    pub fn state(&self, source: &Source, partition: u16) -> Result<&Snapshot> {
        Ok(self.snapshots.of(partition, source.partitions)?)
    }

    /// The last instant whose events count at T; `None` if there is no instant before it.
    pub fn read_time(&self, at: Micros) -> Option<Micros> {
        if self.exclusive { at.checked_sub(1) } else { Some(at) }
    }

    /// The windows to read up to [`View::read_time`]. An exclusive window is `[T - w, T)`: it ends a microsecond earlier and begins
    /// where the closed one does.
    pub fn windows<'a>(&self, windows: &'a [WindowRead]) -> Cow<'a, [WindowRead]> {
        if !self.exclusive {
            return Cow::Borrowed(windows);
        }
        let shorten = |read: &WindowRead| {
            let window = match read.window {
                Window::Length(length) => Window::Length(length - 1),
                Window::Forever => Window::Forever,
            };
            WindowRead { window, ..read.clone() }
        };
        Cow::Owned(windows.iter().map(shorten).collect())
    }

    /// The log that the state is made from.
    pub fn log(&self) -> Result<LogTag> {
        let note = self.snapshots.iter().next().map(|first| first.log_identity()).transpose()?.flatten();
        Ok(LogTag::of(log_of_note(note.as_deref())))
    }

    /// The time that `known_at` is, if it is one.
    pub fn appended_by(&self) -> Option<Micros> {
        match &self.known_at {
            Some(KnownAt::AppendTime(time)) => Some(*time),
            Some(KnownAt::Position(_)) | None => None,
        }
    }

    /// How far a table has been applied in one partition of its log.
    pub fn applied(&self, source: &Source, partition: u16) -> Result<u64> {
        Ok(self.state(source, partition)?.progress(source.served.consumer, partition)?.unwrap_or(0))
    }

    /// Which events of this table and partition the question may see.
    pub fn visible(&self, source: &Source, partition: u16) -> Result<Visible> {
        if let Some(pin) = &self.pin {
            let sequence_below = Some(place(pin, source, partition)?.next);
            return Ok(Visible { sequence_below, appended_by: pin.appended_by });
        }
        match &self.known_at {
            None => Ok(Visible::ALL),
            Some(KnownAt::AppendTime(time)) => Ok(Visible { appended_by: Some(*time), ..Visible::ALL }),
            Some(KnownAt::Position(position)) => {
                let bound = position.get(source.served.log, partition).ok_or_else(|| {
                    Error::invalid(format!("the position says nothing about '{}', partition {partition}", source.name))
                        .field("known_at")
                        .hint("pass the position of an answer about the same keys and features")
                })?;
                let applied = self.check_applied("the position", source, partition, bound);
                applied.map_err(|error| error.field("known_at"))?;
                Ok(Visible { sequence_below: Some(bound), ..Visible::ALL })
            }
        }
    }

    /// Refuses a bound that the state has not come to yet.
    pub fn check_applied(&self, what: &str, source: &Source, partition: u16, bound: u64) -> Result<()> {
        let applied = self.applied(source, partition)?;
        if applied >= bound {
            return Ok(());
        }
        let name = &source.name;
        let message = format!("{what} is ahead of this node's state of '{name}': offset {bound}, applied {applied}");
        Err(Error::unavailable(message))
    }

    /// Watermark of one partition: every event before it that is not late has been applied. `None` where nothing is ever late,
    /// or nothing has come yet.
    fn watermark(&self, source: &Source, partition: u16) -> Result<Option<Micros>> {
        let Some(max_lateness) = source.max_lateness else { return Ok(None) };
        let greatest = if source.served.table.routed {
            let routed = self.state(source, partition)?.routed_sources(source.served.log, partition)?;
            if routed.len() < usize::from(source.source_partitions) {
                return Ok(None);
            }
            // An empty source partition may still bring anything.
            routed.iter().map(|(_, progress)| progress.greatest_event_time).min().flatten()
        } else {
            let acceptance = self.state(source, partition)?.acceptance(source.served.log, partition)?;
            acceptance.and_then(|acceptance| acceptance.greatest_event_time)
        };
        Ok(greatest.map(|greatest| greatest.saturating_sub(max_lateness)))
    }

    /// The earliest T that a table answers in one partition, with the reason why an earlier one is refused. Of the same snapshot as
    /// what is read: as long as T is not before it, what T can need is there. Under a pin the one of then, and from where on that is so.
    pub fn horizon(&self, source: &Source, partition: u16) -> Result<Option<Horizon>> {
        let Some(history) = source.history else { return Ok(None) };
        let kept_from = self.watermark(source, partition)?.map(|watermark| watermark.saturating_sub(history));
        let earliest = match &self.pin {
            None => kept_from,
            Some(pin) => place(pin, source, partition)?.horizon,
        };
        if earliest.or(kept_from).is_none() {
            return Ok(None);
        }
        let (earliest, kept_from) = (earliest.unwrap_or(Micros::MIN), kept_from.unwrap_or(Micros::MIN));
        Ok(Some(Horizon { earliest, kept_from, history, dataset: source.root.clone() }))
    }

    /// Refuses a T that was answered when the pin was made, and now lies before the horizon. An extractor may hide that a lookup failed: see
    /// [`View::check_lost`].
    pub fn check_kept(&self, horizon: &Horizon, at: Micros) -> Result<()> {
        if at >= horizon.kept_from {
            return Ok(());
        }
        let error = horizon.lost(at);
        self.lost.get_or_init(|| error.clone());
        Err(error)
    }

    /// Whether anything was refused so far because it is not kept any more.
    pub fn check_lost(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// What the partitions stand on that were read here.
    pub fn standing_of(&self, touched: &Touched) -> Result<PartStanding> {
        let mut standing = PartStanding::default();
        for (source, partitions) in touched.0.values() {
            for &partition in partitions {
                let mut applied = self.applied(source, partition)?;
                if let Some(bound) = self.visible(source, partition)?.sequence_below {
                    applied = applied.min(bound);
                }
                standing.applied(source.served.log, partition, applied);
                standing.watermark(self.watermark(source, partition)?);
            }
        }
        Ok(standing)
    }

    /// What an answer says about itself, given what was read of it, here and elsewhere, and its greatest T.
    pub fn standing(&self, at: &At, ts: Micros, read: PartStanding) -> Standing {
        let watermark = read.watermark.flatten();
        Standing {
            mode: if *at == At::Now { Mode::Online } else { Mode::PointInTime },
            ts,
            watermark,
            position: read.position,
            is_final: watermark.is_some_and(|watermark| ts < watermark),
            commit_id: self.served.deployment.commit_id.clone(),
        }
    }
}

/// From where on a dataset with a `history=` answers.
pub(crate) struct Horizon {
    pub earliest: Micros,
    /// Later than that where the watermark has moved on since a pin.
    kept_from: Micros,
    history: i64,
    dataset: Arc<str>,
}

impl Horizon {
    pub fn check(&self, at: Micros) -> Result<()> {
        if at >= self.earliest {
            return Ok(());
        }
        Err(Error::new(ErrorKind::OutOfRange, self.reason(at)).field("ts").hint(
            "ask at the horizon or later; a longer history= on the dataset, committed, builds its state anew from the log",
        ))
    }

    pub fn reason(&self, at: Micros) -> String {
        self.before(at, self.earliest)
    }

    fn before(&self, at: Micros, horizon: Micros) -> String {
        format!(
            "{} is before the horizon {}: '{}' has history={} below its watermark",
            format_time(at),
            format_time(horizon),
            self.dataset,
            format_duration(self.history)
        )
    }

    fn lost(&self, at: Micros) -> Error {
        let message = format!("{}, which has moved on since the pin was made", self.before(at, self.kept_from));
        let hint = "leave out the rows before the horizon, or ask without the pin, which gives them as ERROR";
        Error::new(ErrorKind::OutOfRange, message).field("pin").hint(hint)
    }
}

/// Which partitions of which tables an answer has read.
#[derive(Default)]
pub(crate) struct Touched(BTreeMap<u32, (Arc<Source>, BTreeSet<u16>)>);

impl Touched {
    pub fn partition(&mut self, source: &Arc<Source>, partition: u16) {
        self.entry(source).insert(partition);
    }

    pub fn all(&mut self, source: &Arc<Source>) {
        let partitions = source.partitions;
        self.entry(source).extend(0..partitions);
    }

    fn entry(&mut self, source: &Arc<Source>) -> &mut BTreeSet<u16> {
        &mut self.0.entry(source.served.table.id).or_insert_with(|| (source.clone(), BTreeSet::new())).1
    }
}
