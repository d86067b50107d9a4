//! For property tests, here and in the crates above.

/// How many cases to draw: usually, and in `make soak` (`THYME_SOAK`). Not by `PROPTEST_CASES`, which proptest puts above every number
/// that a test gives, also where a case takes seconds.
#[must_use]
pub fn cases(usual: u32, soak: u32) -> u32 {
    if std::env::var_os("THYME_SOAK").is_some() { soak } else { usual }
}
