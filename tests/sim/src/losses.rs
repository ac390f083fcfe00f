//! What one box can cost at most, as the README's table of losses states it, computed for the boxes of a history.
//!
//! A box that lost its end spends again what only it held; of two with one key both spend what both were granted; on one
//! word of headquarters each box takes from a liar at most what it says; what a fenced box sold under its lease and nobody
//! has told by the time its suspense is released. Beyond that nobody's money is spent twice. Leaves to others: what boxes do
//! (`clone`, `liar`, `strike`), what is released (`released`), what was spent (`crowd`).

use crate::disk::Disk;
use crate::nodes::BoxNode;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Body, Entry, Source, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::rights::{PersonRights, RowState};
use yika_crdt::store::{Read, decode_row};

/// The bounds, and whom they come from.
#[derive(Default)]
pub struct Losses {
    /// Lives that operators must look at: copied, or of a liar.
    pub doubtful: BTreeSet<Writer>,
    /// Lives in whose place another box was enrolled.
    pub replaced: BTreeSet<Writer>,
    /// Boxes of which nothing is left.
    pub burnt: BTreeSet<usize>,
    /// Boxes that sign what they may not.
    pub liars: BTreeSet<usize>,
    /// Lives that were fenced after the backup from which headquarters was restored.
    pub fences: BTreeSet<Writer>,
    sums: BTreeMap<PersonId, i64>,
    pairs: Vec<Pair>,
    /// What was passed on beyond a right: by whom, to whom, of whom, and on which word of headquarters, which says so much.
    passed_on: BTreeMap<(Writer, Writer, PersonId, i64), i64>,
    /// What was released of a fenced life though it was spent.
    released: BTreeMap<(Writer, PersonId), i64>,
}

/// Two boxes with one key.
struct Pair {
    one: usize,
    other: usize,
    /// What had left each holder's right when the copy was made.
    gone: BTreeMap<PersonId, i64>,
    /// What was sold by then.
    sold: BTreeSet<PurchaseId>,
    /// Refunds made by then.
    refunds: BTreeSet<PurchaseId>,
}

impl Losses {
    /// So much of each holder's money may be spent a second time.
    pub fn may_be_spent_again(&mut self, sums: BTreeMap<PersonId, i64>) {
        sums.into_iter().for_each(|(person, sum)| *self.sums.entry(person).or_default() += sum);
    }

    /// A box was copied.
    pub fn copied(&mut self, one: usize, other: usize, copy: &BoxNode) {
        let (mut sold, mut refunds) = (BTreeSet::new(), BTreeSet::new());
        for entry in copy.journal() {
            _ = match entry.body {
                Body::Purchase(sale) => sold.insert(sale.id),
                Body::Refund(refund) => refunds.insert(refund.id),
                _ => false,
            };
        }
        self.pairs.push(Pair { one, other, gone: gone(&copy.disk), sold, refunds });
    }

    /// Whether a box is one of two with one key.
    pub fn is_copied(&self, n: usize) -> bool {
        self.pairs.iter().any(|pair| pair.one == n || pair.other == n)
    }

    /// A liar passes on what it keeps, on a word of headquarters: the receiver takes what it says, once.
    pub fn passed_on(&mut self, from: Writer, to: Writer, person: PersonId, (word_ms, remaining): (i64, i64)) {
        if self.passed_on.insert((from, to, person, word_ms), remaining.max(0)).is_none() {
            *self.sums.entry(person).or_default() += remaining.max(0);
        }
    }

    /// What the words allow that a liar has shown to a box.
    fn allowed_by_words(&self, from: Writer, to: Writer, person: PersonId) -> i64 {
        let shown = self.passed_on.range((from, to, person, i64::MIN)..=(from, to, person, i64::MAX));
        shown.map(|(_, remaining)| remaining).sum()
    }

    /// Of what is released of a fenced life's rights, so much was spent: as much as ever, if that was more.
    pub fn released(&mut self, of: (Writer, PersonId), spent: i64) {
        let released = self.released.entry(of).or_default();
        *released = spent.max(*released);
    }
}

impl BoxNode {
    /// Its own journal.
    fn journal(&self) -> Vec<Entry> {
        let feed = FeedId { writer: self.me, channel: Channel::Journal };
        let entries = self.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
        entries.iter().filter_map(|bytes| Entry::decode(bytes).ok()).collect()
    }

    /// What it has given back of a holder's own money since it was copied, of sales that were made before.
    fn given_back(&self, pair: &Pair, person: PersonId) -> BTreeMap<PurchaseId, i64> {
        let mut given = BTreeMap::new();
        for entry in self.journal() {
            if let Body::Refund(refund) = entry.body
                && refund.person == person
                && pair.sold.contains(&refund.of)
                && !pair.refunds.contains(&refund.id)
            {
                let own = refund.back.iter().filter(|(source, _)| *source == Source::Wallet(WalletKey::Main));
                *given.entry(refund.of).or_default() += own.map(|(_, part)| part.0).sum::<i64>();
            }
        }
        given
    }

    /// Of each holder's money, what has left its right since an older copy of its disk.
    pub fn spent_since(&self, copy: &Disk) -> BTreeMap<PersonId, i64> {
        let before = gone(copy);
        let since = |(person, now): (PersonId, i64)| (person, now - before.get(&person).copied().unwrap_or_default());
        gone(&self.disk).into_iter().map(since).filter(|(_, sum)| *sum > 0).collect()
    }
}

/// What has left each holder's right at a box, ever.
fn gone(disk: &Disk) -> BTreeMap<PersonId, i64> {
    rows(disk).into_iter().map(|(person, row)| (person, went(&row))).collect()
}

fn went(row: &RowState) -> i64 {
    row.granted_out.values().map(|total| total.0).sum::<i64>() + row.used.0 - row.returned.0
}

/// Each holder's own money at a box.
fn rows(disk: &Disk) -> BTreeMap<PersonId, RowState> {
    let rows = disk.scan(keys::RIGHTS, None, usize::MAX).unwrap_or_default();
    let main = |(key, bytes): (Vec<u8>, Vec<u8>)| {
        let mut rights: PersonRights = decode_row(&key, &bytes).ok()?;
        Some((keys::person_of_rights(&key)?, rights.rows.remove(&WalletKey::Main)?))
    };
    rows.into_iter().filter_map(main).collect()
}

impl World {
    /// Of a holder's money, what the README's table lets be spent beyond what was paid in.
    pub fn may_be_lost(&self, person: PersonId) -> i64 {
        let pairs = self.losses.pairs.iter().map(|pair| self.held_by_both(pair, person));
        let released = self.losses.released.iter().filter(|((_, of), _)| *of == person).map(|(_, spent)| spent);
        self.losses.sums.get(&person).copied().unwrap_or_default() + pairs.sum::<i64>() + released.sum::<i64>()
    }

    /// What a box has taken of a liar's cheques is what the liar may pass on, and beyond that what each word of
    /// headquarters says, once, however often it is shown.
    pub fn check_taken_of_liars(&mut self, n: usize) {
        let me = self.boxes[n].me;
        for liar in self.losses.liars.clone() {
            let from = self.boxes[liar].me;
            for person in (1..=self.people()).map(PersonId).filter(|_| from != me) {
                let main = |n: usize| self.boxes[n].rights(person).rows.remove(&WalletKey::Main).unwrap_or_default();
                let taken = main(n).granted_in.get(&from).map_or(0, |total| total.0);
                let passed_on = main(liar).granted_out.get(&me).map_or(0, |total| total.0);
                let allowed = passed_on + self.losses.allowed_by_words(from, me, person);
                if taken > allowed {
                    let (taken, allowed) = (Fen(taken), Fen(allowed));
                    return self
                        .fail(format!("{me} has taken {taken} of {person} from {from}, which may give {allowed}"));
                }
            }
        }
    }

    /// What both of two boxes with one key were granted, less what had gone when the copy was made: both may spend it, and
    /// what both have given back of one sale that was made before.
    fn held_by_both(&self, pair: &Pair, person: PersonId) -> i64 {
        let granted = |n: usize| {
            let mut rights = self.boxes[n].rights(person);
            rights.rows.remove(&WalletKey::Main).unwrap_or_default().granted_in
        };
        let (one, other) = (granted(pair.one), granted(pair.other));
        let both = one.iter().map(|(giver, total)| total.0.min(other.get(giver).map_or(0, |total| total.0)));
        let [given, again] = [pair.one, pair.other].map(|n| self.boxes[n].given_back(pair, person));
        let twice = given.iter().map(|(of, sum)| (*sum).min(again.get(of).copied().unwrap_or_default()));
        let granted = both.sum::<i64>() + twice.sum::<i64>();
        (granted - pair.gone.get(&person).copied().unwrap_or_default()).max(0)
    }
}
