//! How many entries one reader, door or kind of alarm may write: a bucket per key, and a count of what did not fit.
//!
//! Leaves to others: what is done with what does not fit, and telling the count.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets by key. A bucket that is full again is forgotten at the next [`Quota::sweep`].
#[derive(Debug)]
pub(super) struct Quota<K> {
    burst: u32,
    refill: Duration,
    buckets: Mutex<BTreeMap<K, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    refilled_at: Instant,
    kept_back: u64,
}

impl<K: Ord + Clone> Quota<K> {
    /// `burst` at once, then one for each `refill_ms`.
    pub(super) fn new(burst: u32, refill_ms: u64) -> Quota<K> {
        Quota { burst, refill: Duration::from_millis(refill_ms), buckets: Mutex::default() }
    }

    /// Whether one more may be written; otherwise it is counted as kept back.
    pub(super) fn take(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Bucket { left: self.burst, refilled_at: now, kept_back: 0 };
        let bucket = buckets.entry(key).or_insert(fresh);
        self.refill(bucket, now);
        let left = bucket.left.checked_sub(1);
        match left {
            Some(left) => bucket.left = left,
            None => bucket.kept_back = bucket.kept_back.saturating_add(1),
        }
        left.is_some()
    }

    /// What was kept back since the last sweep, by key.
    pub(super) fn sweep(&self, now: Instant) -> Vec<(K, u64)> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        for (key, bucket) in buckets.iter_mut() {
            self.refill(bucket, now);
            let kept_back = std::mem::take(&mut bucket.kept_back);
            if kept_back > 0 {
                told.push((key.clone(), kept_back));
            }
        }
        buckets.retain(|_, bucket| bucket.left < self.burst);
        told
    }

    fn refill(&self, bucket: &mut Bucket, now: Instant) {
        let since = now.saturating_duration_since(bucket.refilled_at);
        let earned = since.as_nanos().checked_div(self.refill.as_nanos()).unwrap_or(0);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        bucket.left = bucket.left.saturating_add(earned).min(self.burst);
        // The part of a refill that has passed already is kept, unless the bucket is full.
        bucket.refilled_at = if bucket.left == self.burst { now } else { bucket.refilled_at + self.refill * earned };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_for_each_refill_and_the_rest_is_counted() {
        let quota = Quota::new(3, 1_000);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let taken = (0..100).filter(|n| quota.take("stuck", at(n * 100))).count();
        assert_eq!(taken, 3 + 9, "three at once, nine more in 9.9 s");
        assert!(quota.take("other", at(9_900)), "one reader does not silence another");
        assert_eq!(quota.sweep(at(9_900)), [("stuck", 88)]);
        assert_eq!(quota.sweep(at(9_900)), []);
        quota.sweep(at(60_000));
        assert!(quota.buckets.lock().is_ok_and(|buckets| buckets.is_empty()), "full buckets are forgotten");
    }
}
