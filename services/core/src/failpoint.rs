//! Named places at which a test may end a process, hold it up or make it fail.
//!
//! In the product nothing happens there: a place costs one load of a pointer that is null, and stands where work is done by the tick,
//! by the batch or by the file, never by the record. Only code can install a hook. No setting and no environment variable does, and no
//! code outside of tests (`integration/test_architecture.py`). See `docs/decisions/0015-crash-points.md`.

use crate::Result;
use std::sync::OnceLock;

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A named place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$name,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$name => stringify!($name),)*
                }
            }
        }
    };
}

points! {
    /// A shard has read records.
    AfterPoll,
    /// Acceptance has judged the records of a tick.
    Accepted,
    /// A key was erased in the tick.
    Erased,
    /// A member that is being built begins a stretch of the log.
    BuildPass,
    /// A member that was built comes to where its shard stands.
    BuildTakeover,
    /// A router works off what the log has of its outputs already.
    GapReplay,
    /// An emitter has worked out its rows.
    Emitted,
    /// A round has been worked out; nothing of it is anywhere yet.
    WorkedOut,
    /// Some of a transaction's records are sent.
    MidSend,
    /// Some of its offsets are.
    AfterOffsets,
    /// All is sent, its end is not.
    BeforeEnd,
    /// The transaction is committed; the engine has not noted it.
    AfterEnd,
    /// The end got no answer.
    UnknownEnd,
    /// The transaction is committed and noted, the tick not written.
    BeforeTick,
    /// The tick is all there but for its write.
    TickReady,
    /// The tick is written; the engine has not noted it.
    AfterTick,
    /// The round is over.
    Published,
    /// A producer was made, which fences the one before.
    Fenced,
    /// What the log has of a router's outputs is read.
    CommittedRead,
    /// Topics are made and members resumed; the work is not taken over.
    Deploying,
    /// A table is dropped, its progress not.
    DropHalf,
    /// A full leaf is being split.
    LeafSplit,
    /// A frame of the journal is written, not synced.
    FrameWritten,
    /// A frame of the journal is synced, nobody told.
    FrameSynced,
    /// The copy for a checkpoint is made.
    CheckpointCopied,
    /// A file of a checkpoint is in the store.
    FileUploaded,
    /// All its files are, its manifest is not.
    BeforePointer,
    /// Its manifest is.
    AfterPointer,
    /// A file of a checkpoint is restored.
    FileRestored,
    /// An old checkpoint is deleted, its files not.
    PruneHalf,
    /// The work is given to this engine: its producer is made, nothing is deployed for it yet.
    Assigned,
    /// The work is another's: the producer is gone, what it sent for still runs.
    Revoked,
}

impl Point {
    /// Whether what stands before it has taken effect and is not noted in memory: after an error from here, the engine has to be
    /// opened again. An error from any other point leaves everything as it was.
    pub fn spoils_memory(self) -> bool {
        matches!(self, Point::AfterEnd | Point::AfterTick | Point::Published)
    }
}

/// What a test does at a point: return at once or later, return an error, never return.
pub type Hook = Box<dyn Fn(Point) -> Result<()> + Send + Sync>;

static HOOK: OnceLock<Hook> = OnceLock::new();

/// For tests: from now on every point of this process calls `hook`. False if there is one already.
pub fn install(hook: Hook) -> bool {
    HOOK.set(hook).is_ok()
}

/// A place where the work may end with an error.
#[inline]
pub fn pass(point: Point) -> Result<()> {
    match HOOK.get() {
        None => Ok(()),
        Some(hook) => hook(point),
    }
}

/// A place from where no error can be returned.
#[inline]
pub fn reach(point: Point) {
    if let Some(hook) = HOOK.get()
        && let Err(error) = hook(point)
    {
        debug_assert!(false, "an error was asked for where none can be returned: {error}");
    }
}
