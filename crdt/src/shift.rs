//! Cashiers at the web tills of this box: who signed on to which terminal, and the boot its sales are numbered under.
//!
//! One row per terminal, written in the turn of the journal's act. Leaves to others: totals, which follow from the
//! journal (`sold`), and who may sign on (pages).

use crate::channel::Channel;
use crate::entry::*;
use crate::ids::*;
use crate::keys;
use crate::mesh::{Event, Mesh};
use crate::reason::Reason;
use crate::sale::{self, Now};
use crate::store::{Read, StoreError, Tx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Boots drawn by one node are this far apart; the rest tells the boxes of a campus apart (at most so many), so that two
/// of them at which the same terminal is signed on never number sales alike.
const BOOT_STEP: u32 = 32;

/// A cashier's time at a till (POS-28).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shift {
    /// The till.
    pub terminal: TerminalId,
    /// The cashier.
    pub operator: OperatorId,
    /// Sales of this shift carry it in their ids; every shift of a terminal has a greater one.
    pub boot: u32,
    /// Hub time of the sign-on.
    pub from_ms: i64,
    /// Hub time of the sign-off.
    pub until_ms: Option<i64>,
}

impl Shift {
    /// Whether nobody has signed off yet.
    pub fn is_open(&self) -> bool {
        self.until_ms.is_none()
    }
}

/// What became of a sign-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignOn {
    /// The cashier's shift: new, or the one still open.
    Open(Shift),
    /// Somebody else's shift is open.
    Taken(Shift),
    /// The terminal cannot be used.
    Refused(Reason),
}

/// Signs a cashier on. Asked again, it gives the shift that is open already.
pub fn sign_on<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    terminal: TerminalId,
    operator: OperatorId,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<SignOn, StoreError> {
    if !mesh.terminals.get(&terminal).is_some_and(|t| sale::may_sell(mesh, t)) {
        return Ok(SignOn::Refused(Reason::TerminalNotAllowed));
    }
    let last = tx.get::<Shift>(&keys::shift(terminal))?;
    if let Some(open) = last.filter(Shift::is_open) {
        return Ok(if open.operator == operator { SignOn::Open(open) } else { SignOn::Taken(open) });
    }
    let Some(boot) = next_boot(last.map(|s| s.boot), rank(mesh), now.stamp.hub_time_ms) else {
        return Ok(SignOn::Refused(Reason::BoxNotReady));
    };
    let shift = Shift { terminal, operator, boot, from_ms: now.stamp.hub_time_ms, until_ms: None };
    keep(mesh, tx, &shift, operator, "till.sign_on", now, events)?;
    Ok(SignOn::Open(shift))
}

/// Ends the open shift at a terminal, whoever began it; the shift as it ended, or `None` if none was open.
pub fn sign_off<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    terminal: TerminalId,
    operator: OperatorId,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<Option<Shift>, StoreError> {
    let Some(open) = tx.get::<Shift>(&keys::shift(terminal))?.filter(Shift::is_open) else { return Ok(None) };
    let ended = Shift { until_ms: Some(now.stamp.hub_time_ms), ..open };
    keep(mesh, tx, &ended, operator, "till.sign_off", now, events)?;
    Ok(Some(ended))
}

fn keep<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    shift: &Shift,
    operator: OperatorId,
    act: &str,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<(), StoreError> {
    tx.put(keys::shift(shift.terminal), shift);
    let detail = format!("{} boot {} of {}", shift.terminal, shift.boot, shift.operator);
    let body = Body::Act(ActRecord { operator, act: act.to_owned(), detail });
    mesh.append(tx, Channel::Journal, &Entry { stamp: now.stamp, body }, events)?;
    Ok(())
}

/// How many boxes of this campus, ended ones too, were enrolled before this one.
fn rank(mesh: &Mesh) -> u32 {
    let ours = mesh.nodes.iter().filter(|(_, node)| node.record.campus == mesh.place.campus);
    let before: BTreeSet<NodeId> = ours.map(|(writer, _)| writer.node).filter(|node| *node < mesh.me.node).collect();
    before.len() as u32
}

/// A boot greater than the last one, near the hub time in seconds, so that it is greater than a sibling's, too.
fn next_boot(last: Option<u32>, rank: u32, hub_time_ms: i64) -> Option<u32> {
    let seconds = u32::try_from(hub_time_ms.div_euclid(1000).max(0)).ok()?;
    let after_last = last.map_or(Some(0), |boot| boot.checked_add(BOOT_STEP))?;
    let slot = seconds.max(after_last) / BOOT_STEP * BOOT_STEP;
    Some(slot + rank % BOOT_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_boxes_in_the_same_second_draw_different_boots() {
        let at_ms = 1_795_494_600_000;
        assert_ne!(next_boot(None, 1, at_ms), next_boot(None, 2, at_ms));
        assert_eq!(next_boot(Some(u32::MAX), 1, at_ms), None);
    }

    proptest! {
        /// Whatever the clock does, a boot is greater than the one before and keeps the box's mark.
        #[test]
        fn boots_grow(last in 0u32..u32::MAX - 64, rank in 0u32..100, at_ms in any::<u32>().prop_map(|s| i64::from(s) * 500)) {
            let boot = next_boot(Some(last), rank, at_ms);
            prop_assert!(boot.is_some_and(|b| b > last && b % BOOT_STEP == rank % BOOT_STEP), "{boot:?}");
        }
    }
}
