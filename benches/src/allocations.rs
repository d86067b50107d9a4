//! The product's allocator, so that the engine's process is like the server's. It counts where it is told to, which is only in the
//! server whose allocations are measured.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts from now on.
pub fn begin() {
    IS_COUNTING.store(true, Ordering::Relaxed);
}

/// Allocations of all threads since then; one that grows is one more.
pub fn so_far() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn note() {
    if IS_COUNTING.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "no allocator goes without; each call is handed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        unsafe { MiMalloc.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(place, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn what_is_allocated_is_counted() {
        begin();
        let before = so_far();
        let mut many: Vec<Vec<u8>> = black_box((0..100).map(|size| vec![1; size + 1]).collect());
        many.iter_mut().for_each(|one| one.reserve(1000));
        assert!(black_box(so_far()) >= before + 200, "{} since {before}", so_far());
    }
}
