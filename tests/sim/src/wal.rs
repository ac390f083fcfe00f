//! SQLite's write-ahead log as bytes: where its last transaction lies, and what a death in the middle of writing it or a bad
//! sector makes of that.
//!
//! Leaves to others: whose log it is (`disk`), when it is damaged (`rot`).

use crate::chance::Chance;
use std::ops::Range;

/// Of the log, before its frames.
const HEADER_BYTES: usize = 32;
/// Of a frame, before its page.
const FRAME_HEADER_BYTES: usize = 24;
/// Where the log's header has the size of pages.
const PAGE_BYTES_AT: usize = 8;
/// Where the log's header has its salt, and where each frame repeats it.
const SALT: Range<usize> = 16..24;
const FRAME_SALT: Range<usize> = 8..16;
/// Where the last frame of a transaction, and no other, says how many pages the database has.
const PAGES_AT: usize = 4;

/// Where the last committed transaction lies, with the log's header where it is the first; `None` where there is none.
///
/// A log that was begun anew still has frames of its former round behind; they have another salt.
pub fn last_transaction(log: &[u8]) -> Option<Range<usize>> {
    let (page_bytes, salt) = (number(log, PAGE_BYTES_AT)?, log.get(SALT));
    let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
    let frames = log.get(HEADER_BYTES..)?.chunks_exact(frame_bytes);
    let (mut last, mut end) = (None, HEADER_BYTES);
    for frame in frames.take_while(|frame| frame.get(FRAME_SALT) == salt) {
        end += frame_bytes;
        if number(frame, PAGES_AT)? > 0 {
            last = Some(last.map_or(0, |before: Range<usize>| before.end)..end);
        }
    }
    last
}

/// Of what was written, only a beginning is there: the rest is missing, or whatever the sectors held.
pub fn tear(log: &mut Vec<u8>, written: Range<usize>, chance: &mut Chance) {
    let at = written.start + chance.below(written.len() as u64) as usize;
    if chance.one_in(2) {
        return log.truncate(at);
    }
    log[at..written.end].iter_mut().for_each(|byte| *byte ^= other_bits(chance));
}

/// One byte of what was written is another one.
pub fn flip(log: &mut [u8], written: Range<usize>, chance: &mut Chance) {
    let at = written.start + chance.below(written.len() as u64) as usize;
    log[at] ^= other_bits(chance);
}

/// At least one bit.
fn other_bits(chance: &mut Chance) -> u8 {
    1 + chance.below(255) as u8
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}
