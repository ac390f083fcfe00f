//! The list of targets. Leaves to others: each of them.

mod change;
mod drivers;
mod files;
mod link;
mod nodes;
mod peer;
mod settings;
mod sheets;
mod snapshot;
mod texts;

use crate::dice::Dice;
use crate::draw::draw;
use crate::target::Target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use yika_crdt::wire;

/// Every target.
pub fn all() -> impl Iterator<Item = &'static Target> {
    [
        nodes::TARGETS,
        change::TARGETS,
        snapshot::TARGETS,
        peer::TARGETS,
        link::TARGETS,
        drivers::TARGETS,
        sheets::TARGETS,
        settings::TARGETS,
        files::TARGETS,
        texts::TARGETS,
    ]
    .into_iter()
    .flatten()
}

/// Canonical bytes of so many drawn values.
fn drawn<T: Serialize + DeserializeOwned>(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    (0..count).filter_map(|_| draw::<T>(&mut dice)).map(|value| wire::encode(&value)).collect()
}

/// Memory that a decoder may take whatever the input says: its own buffers, and a few dozen bytes for each of an input.
const MEMORY_BYTES_MAX: usize = 8 << 20;
