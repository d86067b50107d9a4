//! What goes wrong, and how often.

/// How often what goes wrong, in a thousand times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The end of a transaction gets no answer: it was lost, its answer was, or it arrives later.
    pub silent_end: u16,
    /// The end of a transaction is refused and the transaction aborted.
    pub refused_end: u16,
    /// The end of a transaction is answered late, after it was sent again.
    pub slow_end: u16,
    /// Sending within a transaction gets no answer; what was sent stays open.
    pub silent_send: u16,
    /// Making a producer, reading, and asking for committed offsets get no answer.
    pub silent_other: u16,
    /// Records are still on their way to who reads without waiting.
    pub late_arrival: u16,
    /// An append fails before, halfway or after.
    pub append: u16,
    /// A decided transaction's markers are written later.
    pub late_markers: u16,
    /// An open transaction runs into its timeout while time passes.
    pub timeout: u16,
}

impl Faults {
    /// Everything, often.
    pub const STORM: Faults = Faults {
        silent_end: 250,
        refused_end: 80,
        slow_end: 150,
        silent_send: 20,
        silent_other: 15,
        late_arrival: 200,
        append: 150,
        late_markers: 500,
        timeout: 60,
    };
}
