//! What a history is about beside money, and how hard it is on machines. Told by the seed apart from the plan's own draws,
//! so that these stay as they were.
//!
//! Leaves to others: what each theme does (`snapshots`, `folk`, `days`, `limits`, `doors`, `machines`, `disk`, `rot`).

use crate::chance::Chance;
use serde::Serialize;

/// Keeps the draws of themes apart from those of the plan.
const APART: u64 = 0x7E3E_0000_0000_0001;

/// What more happens; each is drawn on or off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// Headquarters backs up, and every node lets entries go; who lacks them gets a snapshot, as does a box that is
    /// switched on late.
    Pruning,
    /// People and visitors are recorded, changed and moved, at boxes and at headquarters at once.
    Documents,
    /// Hours and days pass: leases end, days are cut, journals are let go.
    Days,
    /// The tariff limits what is bought.
    Limits,
    /// People go through doors, and who may is changed.
    Doors,
    /// A box stands still for a while, or its monotonic clock jumps.
    Suspend,
    /// A connection is lost in the middle of a message, and only one side knows.
    Torn,
    /// A disk takes some more commits, and not the next.
    DiskAt,
    /// Nodes keep what they know in the real store, in files.
    Sqlite,
    /// So, too, and a box may find the last page that it wrote rotten.
    Rot,
}

impl Theme {
    /// All of them.
    pub const ALL: [Theme; 10] = [
        Theme::Pruning,
        Theme::Documents,
        Theme::Days,
        Theme::Limits,
        Theme::Doors,
        Theme::Suspend,
        Theme::Torn,
        Theme::DiskAt,
        Theme::Sqlite,
        Theme::Rot,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Theme::Pruning => "pruning",
            Theme::Documents => "documents",
            Theme::Days => "days",
            Theme::Limits => "limits",
            Theme::Doors => "doors",
            Theme::Suspend => "suspend",
            Theme::Torn => "torn",
            Theme::DiskAt => "disk_at",
            Theme::Sqlite => "sqlite",
            Theme::Rot => "rot",
        }
    }

    /// The themes of a seed: half of the seeds have none, the others about a third of them.
    pub fn of(seed: u64) -> Vec<Theme> {
        let mut chance = Chance::new(seed ^ APART);
        if chance.one_in(2) {
            return Vec::new();
        }
        Theme::ALL.into_iter().filter(|theme| chance.one_in(theme.rarity())).collect()
    }

    /// Of so many seeds with themes one has this; files are slow.
    fn rarity(self) -> u64 {
        if self.keeps_files() { 10 } else { 3 }
    }

    /// Whether it has nodes keep what they know in files.
    pub fn keeps_files(self) -> bool {
        matches!(self, Theme::Sqlite | Theme::Rot)
    }

    /// Those that a list of names names.
    pub fn named(names: &str) -> Vec<Theme> {
        Theme::ALL.into_iter().filter(|theme| names.split([',', '+']).any(|name| name == theme.name())).collect()
    }
}
