//! Applying edges' journals to wallets and books: idempotent by position, in any order of feeds.
//!
//! Leaves to others: the arithmetic (`rights`), the transfers (`ledger`), who may send what (`mesh`).

use super::{CoreError, Hub, Seen, TableRow, Turn, check, named, wallets_of};
use crate::ledger::{Account, Kind, Posting};
use std::collections::BTreeSet;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::Read;

impl Hub {
    /// Posts one journal entry. The feed's chain makes sure that each is seen once.
    pub(super) fn post<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        entry: &Entry,
        touched: &mut BTreeSet<PersonId>,
    ) -> Result<(), CoreError> {
        let at_ms = entry.stamp.hub_time_ms;
        match &entry.body {
            Body::Purchase(sale) => {
                touched.insert(sale.person);
                self.post_sale(turn, feed, seq, at_ms, sale)?;
            }
            Body::Refund(refund) => {
                touched.insert(refund.person);
                self.post_refund(turn, feed, seq, at_ms, refund)?;
            }
            Body::Taken(taken) => {
                touched.insert(taken.row.person);
                self.post_taken(turn, feed, seq, taken)?;
            }
            Body::Refused(record) => turn.rows.push(TableRow::Refusal { feed, seq, at_ms, record: record.clone() }),
            Body::Door(record) => turn.rows.push(TableRow::Door { feed, seq, at_ms, record: record.clone() }),
            Body::Act(act) => {
                let (word, detail) = (act.act.clone(), format!("{}: {}", act.operator, act.detail));
                turn.rows.push(TableRow::Note { feed, seq, at_ms, kind: "act", word, detail });
            }
            Body::Alarm(alarm) => {
                let (word, detail) = (alarm.kind.clone(), alarm.detail.clone());
                turn.rows.push(TableRow::Note { feed, seq, at_ms, kind: "alarm", word, detail });
            }
            _ => {}
        }
        Ok(())
    }

    fn post_sale<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        at_ms: i64,
        sale: &PurchaseRecord,
    ) -> Result<(), CoreError> {
        let mut wallets = wallets_of(turn.tx, sale.person)?;
        let mut covered = std::collections::BTreeMap::new();
        for (source, amount) in &sale.paid {
            match source {
                Source::Wallet(key) => {
                    let replica = wallets.wallet(*key).replica(feed.writer)?;
                    covered.insert(*key, replica.right()?.max(Fen::ZERO));
                    replica.used = replica.used.add(*amount)?;
                }
                Source::Guest | Source::Float | Source::Receivable => {
                    let wallet = wallets.wallet(WalletKey::Main);
                    wallet.receivable = wallet.receivable.add(*amount)?;
                }
            }
        }
        let total = sale.price.add(sale.adjustment)?;
        wallets.note_spent(sale.day, total)?;
        turn.tx.put(keys::rights(sale.person), &wallets);
        let mut posting = Posting::new(source_of(feed, seq), sale.day);
        posting.purchase(sale, feed.writer, |key, amount| amount.min(covered.get(&key).copied().unwrap_or_default()));
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        let record = Box::new(sale.clone());
        let received_ms = turn.stamp.hub_time_ms;
        turn.rows.push(TableRow::Sale { feed, seq, at_ms, received_ms, record });
        self.pair(turn, feed, seq, at_ms, sale)
    }

    /// One id sold at two boxes: the younger sale is reversed by the hub, its money goes back to the holder.
    fn pair<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        at_ms: i64,
        sale: &PurchaseRecord,
    ) -> Result<(), CoreError> {
        let key = keys::mark(sale.id);
        let this = Seen { feed, seq, at_ms };
        let Some(other) = turn.tx.get::<Seen>(&key)? else {
            turn.tx.put(key, &this);
            return Ok(());
        };
        let (older, younger) = match (other.at_ms, other.feed) <= (at_ms, feed) {
            true => (other, this),
            false => (this, other),
        };
        turn.tx.put(key, &older);
        let reversed_key = named(b"!paired", &(younger.feed, younger.seq));
        if turn.tx.get::<bool>(&reversed_key)?.is_some() {
            return Ok(());
        }
        turn.tx.put(reversed_key, &true);
        let Some(bytes) = turn.tx.entry(&younger.feed, younger.seq)? else { return Ok(()) };
        let Ok(Entry { body: Body::Purchase(second), .. }) = Entry::decode(&bytes) else { return Ok(()) };
        self.reverse_at_hub(turn, younger, &second)
    }

    fn reverse_at_hub<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        of: Seen,
        sale: &PurchaseRecord,
    ) -> Result<(), CoreError> {
        let mut wallets = wallets_of(turn.tx, sale.person)?;
        let source = feed::digest("yika pair 1", &source_of(of.feed, of.seq).0);
        let mut posting = Posting::new(source, sale.day);
        for (source, amount) in &sale.paid {
            let credit = match source {
                Source::Wallet(key) => {
                    wallets.wallet(*key).deposit(*amount)?;
                    Account::Holder(sale.person, *key)
                }
                _ => {
                    let wallet = wallets.wallet(WalletKey::Main);
                    wallet.receivable = wallet.receivable.sub(*amount)?;
                    Account::Receivable(sale.person)
                }
            };
            posting.transfer(Kind::Refund, Account::Merchant(sale.merchant), credit, *amount);
        }
        turn.tx.put(keys::rights(sale.person), &wallets);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        let record = RefundRecord {
            id: sale.id,
            of: sale.id,
            person: sale.person,
            merchant: sale.merchant,
            kind: RefundKind::Reversal,
            back: sale.paid.clone(),
            operator: OperatorId(0),
            day: sale.day,
        };
        let feed = FeedId { writer: self.mesh.me, channel: Channel::Registry };
        let (at_ms, record) = (turn.stamp.hub_time_ms, Box::new(record));
        turn.rows.push(TableRow::Refund { feed, seq: of.seq, at_ms, record });
        Ok(())
    }

    fn post_refund<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        at_ms: i64,
        refund: &RefundRecord,
    ) -> Result<(), CoreError> {
        let mut wallets = wallets_of(turn.tx, refund.person)?;
        for (source, amount) in &refund.back {
            match source {
                Source::Wallet(key) => {
                    let replica = wallets.wallet(*key).replica(feed.writer)?;
                    replica.returned = replica.returned.add(*amount)?;
                }
                _ => {
                    let wallet = wallets.wallet(WalletKey::Main);
                    wallet.receivable = wallet.receivable.sub(*amount)?;
                }
            }
        }
        turn.tx.put(keys::rights(refund.person), &wallets);
        let mut posting = Posting::new(source_of(feed, seq), refund.day);
        posting.refund(refund, feed.writer);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        turn.rows.push(TableRow::Refund { feed, seq, at_ms, record: Box::new(refund.clone()) });
        Ok(())
    }

    /// A cheque counts at its giver until the receiver's journal says it was taken.
    fn post_taken<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        taken: &TakenRecord,
    ) -> Result<(), CoreError> {
        let (giver, taker) = (taken.feed.writer, feed.writer);
        let (person, key) = (taken.row.person, taken.row.wallet);
        let mut wallets = wallets_of(turn.tx, person)?;
        let wallet = wallets.wallet(key);
        let from_giver = wallet.replica(taker)?.taken_in.entry(giver).or_default();
        let amount = taken.total.sub(*from_giver)?.max(Fen::ZERO);
        *from_giver = from_giver.add(amount)?;
        let right_before = wallet.replica(giver)?.right()?.max(Fen::ZERO);
        let to_taker = wallet.replica(giver)?.taken_out.entry(taker).or_default();
        *to_taker = to_taker.add(amount)?;
        turn.tx.put(keys::rights(person), &wallets);
        let mut posting = Posting::new(source_of(feed, seq), self.today(turn));
        let (from, to) = (Account::Right(person, key, giver), Account::Right(person, key, taker));
        let covered = amount.min(right_before);
        posting.transfer(Kind::Cheque, from, to, covered);
        posting.transfer(Kind::Cheque, Account::Receivable(person), to, amount.sub(covered)?);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        check(person, &wallets)
    }

    /// A box gives rights back: its rights feed to the hub says the cumulative total.
    pub(super) fn post_return<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        grant: &GrantRecord,
        touched: &mut BTreeSet<PersonId>,
    ) -> Result<(), CoreError> {
        let to_hub = matches!(feed.channel, Channel::Rights(receiver) if receiver.node.is_hub());
        if !to_hub {
            return Ok(());
        }
        let (person, key) = (grant.row.person, grant.row.wallet);
        let mut wallets = wallets_of(turn.tx, person)?;
        let replica = wallets.wallet(key).replica(feed.writer)?;
        // Never more than the box had: what it returns beyond that it did not have.
        let amount = grant.total.sub(replica.back)?.min(replica.right()?).max(Fen::ZERO);
        replica.back = replica.back.add(amount)?;
        let total = replica.back;
        turn.tx.put(keys::rights(person), &wallets);
        let source = feed::digest("yika return 1", &yika_crdt::wire::encode(&(feed, grant.row, total)));
        let mut posting = Posting::new(source, self.today(turn));
        posting.transfer(Kind::Return, Account::Right(person, key, feed.writer), Account::Holder(person, key), amount);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        touched.insert(person);
        check(person, &wallets)
    }
}

/// Identity of a journal position in the books.
fn source_of(feed: FeedId, seq: Seq) -> Hash {
    feed::digest("yika journal 1", &yika_crdt::wire::encode(&(feed, seq)))
}
