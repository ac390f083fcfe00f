//! What the hub knows of journals beyond their money: their totals at each cut, and which ids they answer; told to boxes.
//!
//! Leaves to others: what a box does with it (`yika_crdt::sale::prune`).

use super::journal::Place;
use super::{CoreError, Hub, Turn, named};
use yika_crdt::answered::Answered;
use yika_crdt::channel::FeedId;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::tally::{Totals, TotalsSum};

/// Boots of a terminal whose answered numbers a box is told: the newest.
const BOOTS_TOLD_MAX: usize = 8;
/// Boots read at once.
const BOOT_ROWS: usize = 1_024;

impl Hub {
    /// A journal has cut a day: its box is told what its totals come to here. The sum is carried on with every entry, so
    /// that a cut is as short however much of a journal lies before it.
    pub(super) fn tally<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        day: Day,
    ) -> Result<(), CoreError> {
        let writer = feed.writer;
        let sum: TotalsSum = turn.tx.get(&totals_key(writer))?.unwrap_or_default();
        if self.is_alive(writer) {
            let record = TallyRecord { incarnation: writer.incarnation, day, tally: sum.at(seq) };
            self.tell(turn, writer.node, Body::Tally(record))?;
        }
        Ok(())
    }

    /// A journal has moved the totals of a row.
    pub(super) fn note_totals<R: Read + ?Sized>(
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        row: Row,
        (before, after): (Totals, Totals),
    ) -> Result<(), StoreError> {
        let mut sum: TotalsSum = turn.tx.get(&totals_key(writer))?.unwrap_or_default();
        sum.change(row, before, after);
        turn.tx.put(totals_key(writer), &sum);
        Ok(())
    }

    /// A box has answered an id. Of a fenced box, or another branch, no living box gets the entry: those of the terminal's
    /// campus are told at the end of the turn.
    pub(super) fn note_answered<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        id: PurchaseId,
    ) -> Result<(), StoreError> {
        let key = keys::terminal_mark(id.terminal, id.boot);
        let mut answered: Answered = turn.tx.get(&key)?.unwrap_or_default();
        if !answered.contains(id.seq) {
            answered.add(id.seq);
            turn.tx.put(key, &answered);
        }
        if place.branch.is_some() || self.mesh.is_fenced(place.feed.writer) {
            turn.late.insert(id.terminal);
        }
        Ok(())
    }

    /// Tells living boxes of ids that a box answered which they cannot hear.
    pub(super) fn tell_late<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), StoreError> {
        for terminal in std::mem::take(&mut turn.late) {
            let Some(campus) = self.mesh.terminals.get(&terminal).map(|record| record.campus) else { continue };
            for writer in self.living_boxes(campus) {
                self.tell_answered(turn, writer.node, terminal)?;
            }
        }
        Ok(())
    }

    /// Tells a box which ids of a terminal are answered, so that it decides none of them; with the terminal's key, because
    /// without it the box serves nothing of that terminal.
    pub(super) fn tell_answered<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        node: NodeId,
        terminal: TerminalId,
    ) -> Result<(), StoreError> {
        let prefix = keys::terminal_marks(terminal);
        let mut newest = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = turn.tx.scan(&prefix, after.as_deref(), BOOT_ROWS)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            newest.extend(rows);
            newest.drain(..newest.len().saturating_sub(BOOTS_TOLD_MAX));
        }
        for (key, bytes) in newest {
            let Some(boot) = key.last_chunk::<4>().map(|boot| u32::from_be_bytes(*boot)) else { continue };
            let numbers: Answered = decode_row(&key, &bytes)?;
            self.tell(turn, node, Body::Answered(AnsweredRecord { terminal, boot, numbers }))?;
        }
        Ok(())
    }
}

/// What the totals of a journal come to.
fn totals_key(writer: Writer) -> Vec<u8> {
    named(b"!tally", &writer)
}
