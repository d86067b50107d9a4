//! The numbers of deployments, as owners of slices note them ([`crate::notes`], `docs/decisions/0026-nodes-that-hold-what-they-own.md`):
//! of the n-th commit 3n while it is being built, 3n+1 once what is new in it is built in the slices of a node, 3n+2 once that is over,
//! however it ended.

pub fn begun(sequence: i64) -> u64 {
    3 * sequence.unsigned_abs()
}

pub fn built(sequence: i64) -> u64 {
    begun(sequence) + 1
}

pub fn over(sequence: i64) -> u64 {
    begun(sequence) + 2
}

/// Whether an owner of the second number fills logs that may be deleted, where the first was noted: only a commit that is over has left
/// logs behind. One that is being built has not, and who comes after an owner that had it built need not have built anything yet.
pub(crate) fn is_left_behind(noted: u64, own: u64) -> bool {
    let newest_over = ((noted + 1) / 3 * 3).saturating_sub(1);
    newest_over > own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_over_leaves_somebody_behind() {
        for own in [over(4), begun(5), built(5)] {
            for noted in [0, begun(4), built(4), over(4), begun(5), built(5)] {
                assert!(!is_left_behind(noted, own), "{noted} {own}");
            }
            assert!(is_left_behind(over(5), own) && is_left_behind(begun(6), own));
        }
        assert!(!is_left_behind(over(5), over(5)));
        assert!(!is_left_behind(0, 0) && !is_left_behind(built(0), 0) && is_left_behind(over(0), built(0)));
    }
}
