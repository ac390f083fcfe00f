//! The suspense of a fenced box is released: nobody may be able to spend it any more, and what was spent of it before
//! without headquarters having heard of it is spent a second time.
//!
//! Leaves to others: when it is released (`yika_hub_core`), what else one box can cost (`losses`).

use crate::crowd::own;
use crate::disk::Disk;
use crate::nodes::BoxNode;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Body, Entry, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::rights::RowState;
use yika_crdt::store::{Read, Tx};
use yika_hub_core::TableRow;
use yika_hub_core::ledger::{Account, Kind};
use yika_hub_core::rights::Replica;

impl World {
    /// After a turn of headquarters: what it has released.
    pub fn look_at_released(&mut self, rows: &[TableRow]) {
        let released = rows.iter().filter_map(|row| match row {
            TableRow::Transfer(transfer) if transfer.kind == Kind::Fence => match transfer.debit {
                Account::Suspense(person, WalletKey::Main, life) if person != PersonId(0) => Some((life, person)),
                _ => None,
            },
            _ => None,
        });
        for (life, person) in released.collect::<BTreeSet<_>>() {
            let replicas = self.replicas(person);
            self.check_cheques_are_heard(life, person, &replicas);
            let known = replicas.get(&life).cloned().unwrap_or_default();
            let unheard = self.spent_unheard(life, person, &known);
            self.note(|| {
                format!("what {life} had of {person} is released, {} of it are spent, unheard of", Fen(unheard))
            });
            self.losses.released((life, person), unheard.min(known.released.0));
        }
    }

    fn replicas(&self, person: PersonId) -> BTreeMap<Writer, Replica> {
        let wallets = yika_hub_core::wallets_of(&Tx::new(&self.hub.disk), person).unwrap_or_default();
        wallets.wallets.get(&WalletKey::Main).map(|wallet| wallet.replicas.clone()).unwrap_or_default()
    }

    /// A box that has taken a cheque of this life may spend it: unless it is fenced, too, it has told so by then.
    fn check_cheques_are_heard(&mut self, life: Writer, person: PersonId, known: &BTreeMap<Writer, Replica>) {
        if self.was_restored || self.hub_forked {
            return;
        }
        let tells = |n: &usize| {
            let me = self.boxes[*n].me;
            let is_sound = !self.was_put_back(*n) && !self.losses.is_copied(*n);
            me != life && is_sound && !self.fenced.contains(&me)
        };
        let silent = (0..self.boxes.len()).filter(tells).find_map(|n| {
            let (me, row) = (self.boxes[n].me, own_row(&self.boxes[n], person));
            let taken = row.granted_in.get(&life).copied().unwrap_or_default();
            let heard = known.get(&me).and_then(|replica| replica.taken_in.get(&life)).copied().unwrap_or_default();
            (taken > heard).then_some((me, taken, heard))
        });
        if let Some((me, taken, heard)) = silent {
            self.fail(format!(
                "what {life} had of {person} is released, and {me} took {taken} of it by cheque, of which headquarters \
                 has heard {heard}"
            ));
        }
    }

    /// What a life sold or passed on of a holder's own money, and neither headquarters nor a box that goes on has heard of:
    /// of all that run with its key.
    fn spent_unheard(&self, life: Writer, person: PersonId, known: &Replica) -> i64 {
        let goes_on = |node: &&BoxNode| !node.gone && !self.fenced.contains(&node.me);
        let others = self.boxes.iter().filter(goes_on).map(|node| &node.disk);
        let others: Vec<&Disk> = others.chain([&self.hub.disk]).collect();
        let heard: i64 = known.taken_out.values().map(|total| total.0).sum();
        let each = self.boxes.iter().filter(|node| node.me == life).map(|node| {
            let row = own_row(node, person);
            let passed = row.granted_out.iter().filter(|(to, _)| !to.node.is_hub());
            let passed: i64 = passed.map(|(_, total)| total.0).sum();
            sold_beyond(&node.disk, life, person, &others) + (passed - heard).max(0)
        });
        each.sum()
    }
}

/// A holder's own money at a box.
fn own_row(node: &BoxNode, person: PersonId) -> RowState {
    node.rights(person).rows.remove(&WalletKey::Main).unwrap_or_default()
}

/// Of a holder's own money, what the journal of a life says was sold beyond what others hold of it.
fn sold_beyond(disk: &Disk, life: Writer, person: PersonId, others: &[&Disk]) -> i64 {
    let feed = FeedId { writer: life, channel: Channel::Journal };
    let held = others.iter().map(|other| other.feed(&feed).map_or(Seq::ZERO, |held| held.end.seq));
    let entries = disk.entries(&feed, held.max().unwrap_or_default().next(), usize::MAX).unwrap_or_default();
    let sales = entries.iter().filter_map(|bytes| match Entry::decode(bytes).ok()?.body {
        Body::Purchase(sale) if sale.person == person => Some(own(&sale.paid)),
        _ => None,
    });
    sales.sum()
}
