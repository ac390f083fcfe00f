//! Marks for the proof (`tests/sim`): rare branches that a history has taken, and faults that are sown to be found.
//!
//! Empty without the feature `proof`, which no program of the product is built with: [`hit`] does nothing, and nothing is
//! [`sown`]. Leaves to others: which marks must be hit, and what must notice a fault (`yika-sim`).

/// A rare branch is taken.
#[inline(always)]
pub fn hit(mark: &'static str) {
    #[cfg(feature = "proof")]
    marks::HITS.with_borrow_mut(|hits| *hits.entry(mark).or_default() += 1);
    let _ = mark;
}

/// Whether this fault is sown in this thread.
#[inline(always)]
pub fn sown(fault: &'static str) -> bool {
    #[cfg(feature = "proof")]
    return marks::SOWN.get() == Some(fault);
    #[cfg(not(feature = "proof"))]
    {
        let _ = fault;
        false
    }
}

#[cfg(feature = "proof")]
pub use marks::{sow, take_hits};

#[cfg(feature = "proof")]
mod marks {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    thread_local! {
        pub(super) static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
        pub(super) static SOWN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// How often each mark was hit in this thread since the last call.
    pub fn take_hits() -> BTreeMap<&'static str, u64> {
        HITS.take()
    }

    /// Sows a fault in this thread, or takes it out again.
    pub fn sow(fault: Option<&'static str>) {
        SOWN.set(fault);
    }
}
