//! Sales that a box reports without rights behind them, or at a place that is not their terminal's.
//!
//! They are posted as reported, because the meal may be eaten: what bounds a lying box is that somebody hears of it at once
//! and fences it. Leaves to others: what a holder owes (`rights`), prices (`price`).

use super::journal::Place;
use super::{CoreError, Hub, Turn};
use yika_crdt::Fen;
use yika_crdt::entry::PurchaseRecord;
use yika_crdt::store::Read;

impl Hub {
    /// Tells the first of each kind of a box and day. `overdrawn` is what the sale took beyond the rights of its box.
    pub(super) fn doubt_backing<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        sale: &PurchaseRecord,
        overdrawn: Fen,
    ) -> Result<(), CoreError> {
        // A hub that was restored does not know yet what it had granted, nor one to which a cheque is still on its way.
        let is_sure = self.recovery.is_none() && !self.awaits_cheques(turn)?;
        if overdrawn.is_positive() && is_sure {
            let detail =
                format!("{} of {}: {overdrawn} yuan were sold beyond the rights of the box", sale.id, sale.day);
            let mend = "the holder owes them; if its terminals did not sell by themselves, fence the box";
            self.alarm_once(turn, place, sale.day, "unbacked", format!("{detail}; {mend}"))?;
        }
        let terminal = self.mesh.terminals.get(&sale.id.terminal);
        let is_there = terminal.is_some_and(|t| (t.outlet, t.merchant) == (sale.outlet, sale.merchant));
        if !is_there {
            let told = format!("{} of {}: sold at {} for {}", sale.id, sale.day, sale.outlet, sale.merchant);
            let detail = match terminal {
                Some(t) => format!("{told}, where its terminal is at {} for {}", t.outlet, t.merchant),
                None => format!("{told}, by a terminal that is not known"),
            };
            self.alarm_once(turn, place, sale.day, "sold_elsewhere", detail)?;
        }
        Ok(())
    }
}
