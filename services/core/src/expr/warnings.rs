//! What went wrong per row without stopping it: each kind makes a null and is counted.

/// Counters by kind; plain numbers, added up by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warnings {
    /// An integer result beyond 64 bits, a Decimal beyond 20 digits before the point, or a time beyond what can be written.
    pub overflow: u64,
    pub division_by_zero: u64,
    /// An expression made a NaN or an infinity.
    pub not_finite: u64,
    /// A cast of a value that has no counterpart in the target type.
    pub failed_cast: u64,
    /// `json_extract` over text that is not JSON.
    pub bad_json: u64,
}

impl Warnings {
    /// Stable name and count of every kind.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("overflow", self.overflow),
            ("division_by_zero", self.division_by_zero),
            ("not_finite", self.not_finite),
            ("failed_cast", self.failed_cast),
            ("bad_json", self.bad_json),
        ]
    }

    pub fn total(&self) -> u64 {
        self.counts().iter().map(|(_, count)| count).sum()
    }

    pub fn add(&mut self, other: &Warnings) {
        self.overflow += other.overflow;
        self.division_by_zero += other.division_by_zero;
        self.not_finite += other.not_finite;
        self.failed_cast += other.failed_cast;
        self.bad_json += other.bad_json;
    }
}
