//! The operating system's clocks as the core wants them: which boot, time since it counting suspend, wall clock.
//!
//! Leaves to others: what hub time follows from them (`yika_crdt::clock`).

use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use yika_crdt::clock::Ticks;

/// Where the kernel names the present boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads ticks of one boot.
#[derive(Clone, Copy, Debug)]
pub struct TickSource {
    boot: u32,
    new_boot: bool,
}

impl TickSource {
    /// Finds out whether the operating system was started since the last time; `file` keeps the count.
    ///
    /// # Errors
    /// When the count cannot be read or written; then the box must not start, or stamps could go back.
    pub fn open(file: &Path) -> std::io::Result<TickSource> {
        let now = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let kept = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let (count, id) = kept.split_once(' ').unwrap_or(("0", ""));
        let count: u32 = count.parse().unwrap_or(0);
        if !now.is_empty() && id.trim() == now && count > 0 {
            return Ok(TickSource { boot: count, new_boot: false });
        }
        let boot = count.saturating_add(1);
        yika_store::files::write_durably(file, format!("{boot} {now}\n").as_bytes(), 0o600)?;
        Ok(TickSource { boot, new_boot: true })
    }

    /// Whether the operating system was started since the last time.
    pub fn is_new_boot(&self) -> bool {
        self.new_boot
    }

    /// Now.
    pub fn now(&self) -> Ticks {
        let mono = clock_gettime(ClockId::Boottime);
        let mono_ms = mono.tv_sec.saturating_mul(1000).saturating_add(mono.tv_nsec / 1_000_000);
        // Asked of the C library, where a test can set it wrong; a clock before 1970 is as wrong as one that shows 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ticks {
            boot: self.boot,
            mono_ms: u64::try_from(mono_ms).unwrap_or(0),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn the_boot_is_counted_once_per_start_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("boot");
        let first = TickSource::open(&file).unwrap();
        assert_eq!(TickSource::open(&file).unwrap().boot, first.boot);
        std::fs::write(&file, "7 another-boot\n").unwrap();
        assert_eq!(TickSource::open(&file).unwrap().boot, 8);
        assert!(first.now().mono_ms > 0);
    }
}
