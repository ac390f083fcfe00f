//! Applying edges' journals to wallets and books: idempotent by position, in any order of feeds.
//!
//! Leaves to others: totals (`rights`), what they come to (`books`), who may send what (`mesh`).

use super::books::{Owner, right_account};
use super::fork::is_heard_apart;
use super::{CoreError, Hub, TableRow, Turn, named};
use crate::ledger::{Account, Kind, Posting};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::proof;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{GivenBack, share_back};
use yika_crdt::store::{KeyValue, Read, StoreError, decode_row};
use yika_crdt::tariff;

/// Where an entry stands: in a journal, or on the other branch of a forked one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// The journal.
    pub(super) feed: FeedId,
    /// Position.
    pub(super) seq: Seq,
    /// On the other branch: the hash of the entry.
    pub(super) branch: Option<Hash>,
}

impl Place {
    /// Its identity in the books.
    fn source(&self) -> Hash {
        match self.branch {
            Some(hash) => feed::digest("yika branch 1", &hash.0),
            None => feed::digest("yika journal 1", &yika_crdt::wire::encode(&(self.feed, self.seq))),
        }
    }

    /// Where the entry of another branch is kept.
    pub(super) fn branch_key(&self) -> Vec<u8> {
        named(BRANCH, self)
    }

    fn entry<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Result<Option<Entry>, StoreError> {
        let bytes = match self.branch {
            Some(_) => turn.tx.get_bytes(&self.branch_key())?,
            None => turn.tx.entry(&self.feed, self.seq)?,
        };
        Ok(bytes.and_then(|bytes| Entry::decode(&bytes).ok()))
    }

    /// The sale that stands here.
    pub(super) fn sale<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Result<Option<PurchaseRecord>, StoreError> {
        Ok(match self.entry(turn)?.map(|entry| entry.body) {
            Some(Body::Purchase(sale)) => Some(sale),
            _ => None,
        })
    }
}

/// A sale seen at the hub under an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// When it was written.
    pub(super) at_ms: i64,
    /// Where it stands.
    pub(super) place: Place,
    /// The hub has reversed it: the id was sold before at another box.
    pub(super) reversed: bool,
}

/// An id that a box has answered otherwise than by a sale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct NotSold {
    place: Place,
    /// Reversed before it was known to be sold; otherwise refused.
    voided: bool,
}

/// What boxes made of one id.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Answers {
    /// The one that stands first, then the oldest.
    sales: Vec<Seen>,
    not_sold: Option<NotSold>,
}

/// Sales remembered of one id: of each box of a campus and each branch of a fork, one.
const SALES_OF_AN_ID_MAX: usize = 16;

fn answers<R: Read + ?Sized>(turn: &Turn<'_, '_, R>, id: PurchaseId) -> Result<Answers, StoreError> {
    Ok(turn.tx.get(&keys::mark(id))?.unwrap_or_default())
}

/// All sales under an id, the one that stands first.
pub(super) fn seen<R: Read + ?Sized>(turn: &Turn<'_, '_, R>, id: PurchaseId) -> Result<Vec<Seen>, StoreError> {
    Ok(answers(turn, id)?.sales)
}

/// What was given back for a sale at this place, whoever did it. Each branch of a fork has sold for itself.
pub(super) fn given_back_key(place: &Place, of: PurchaseId) -> Vec<u8> {
    named(b"!back", &(place.feed.writer, place.branch.is_some(), of))
}

/// The sale of an id of which headquarters gave something back.
pub(super) fn kept_key(id: PurchaseId) -> Vec<u8> {
    named(b"!kept", &id)
}

/// Where a journal has sold under an id of another campus' terminal.
fn foreign_sale_key(place: &Place, id: PurchaseId) -> Vec<u8> {
    named(b"!foreign sale", &(place.feed.writer, place.branch.is_some(), id))
}

/// The newest time in a writer's journal.
pub(super) fn heard_key(writer: Writer) -> Vec<u8> {
    named(b"!heard", &writer)
}

/// The last day that a writer's journal has cut.
pub(super) fn cut_key(writer: Writer) -> Vec<u8> {
    named(b"!cut", &writer)
}

/// Prefix of entries of other branches; feed, position and hash follow.
const BRANCH: &[u8] = b"!branch";
/// Branches that are looked at where one entry is sought.
const BRANCHES_READ_MAX: usize = 16;

fn waiting_cheque_key(taken: &TakenRecord, by: &Place) -> Vec<u8> {
    named(WAITING_CHEQUES, &(taken.feed, taken.seq, by))
}

/// Prefix of cheques that are taken, and of which the giver's word has not come yet, or says less and may stand on another
/// branch; the giver follows.
const WAITING_CHEQUES: &[u8] = b"!cheque";
/// Of one giver so many are looked at; where there are more, some are taken to be of boxes that go on.
const WAITING_READ_MAX: usize = 1_024;

impl Hub {
    /// Whether a box that goes on has taken any cheque of which the giver's word has not come yet.
    pub(super) fn awaits_cheques<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Result<bool, StoreError> {
        if turn.tx.scan(WAITING_CHEQUES, None, 1)?.is_empty() {
            return Ok(false);
        }
        self.is_awaited(turn.tx.scan(WAITING_CHEQUES, None, WAITING_READ_MAX)?)
    }

    /// Whether a box that goes on has taken a cheque of this giver whose word on it has not come yet: it may be spent.
    pub(super) fn awaits_cheque_of<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        giver: Writer,
    ) -> Result<bool, StoreError> {
        self.is_awaited(turn.tx.scan(&named(WAITING_CHEQUES, &giver), None, WAITING_READ_MAX)?)
    }

    fn is_awaited(&self, rows: Vec<KeyValue>) -> Result<bool, StoreError> {
        let mut awaits = rows.len() == WAITING_READ_MAX;
        for (key, bytes) in &rows {
            let (place, _): (Place, TakenRecord) = decode_row(key, bytes)?;
            awaits |= !self.mesh.is_fenced(place.feed.writer);
        }
        Ok(awaits)
    }

    /// Posts one journal entry. The feed's chain makes sure that each is seen once. The box has answered the id of an
    /// entry also where the entry cannot be posted.
    pub(super) fn post<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        entry: &Entry,
        touched: &mut BTreeSet<PersonId>,
    ) -> Result<(), CoreError> {
        let (feed, at_ms) = (place.feed, entry.stamp.hub_time_ms);
        if place.branch.is_none() {
            let heard: i64 = turn.tx.get(&heard_key(feed.writer))?.unwrap_or(i64::MIN);
            turn.tx.put(heard_key(feed.writer), &heard.max(at_ms));
        }
        self.attempt(turn, place, touched, |hub, turn| hub.post_body(turn, place, entry))?;
        match entry.body.answers() {
            Some(id) if self.speaks_for(place, id) => Ok(self.note_answered(turn, place, id)?),
            Some(id) => {
                let detail = format!("{} answered {id}, a terminal of another campus", feed.writer);
                Hub::alarm(turn, place, "foreign_terminal", detail);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What an entry moves and tells; gives whose rights may have to be levelled.
    fn post_body<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        entry: &Entry,
    ) -> Result<Option<PersonId>, CoreError> {
        let (feed, seq, at_ms) = (place.feed, place.seq, entry.stamp.hub_time_ms);
        match &entry.body {
            Body::Purchase(sale) => {
                self.post_sale(turn, place, at_ms, sale)?;
                return Ok(Some(sale.person));
            }
            Body::Refund(refund) => {
                self.post_refund(turn, place, at_ms, refund)?;
                return Ok(Some(refund.person));
            }
            Body::Taken(taken) => {
                self.post_taken(turn, place, taken, (place.source(), None))?;
                return Ok(Some(taken.row.person));
            }
            Body::Cut(day) if place.branch.is_none() => {
                let held: Option<Day> = turn.tx.get(&cut_key(feed.writer))?;
                turn.tx.put(cut_key(feed.writer), &held.map_or(*day, |held| held.max(*day)));
                self.tally(turn, feed, seq, *day)?;
                // Every box writes this once a day, and has just written it: of no other word it knows so well how old it is.
                self.tell_time(turn, feed.writer)?;
            }
            Body::Refused(record) => {
                turn.rows.push(TableRow::Refusal { feed, seq, at_ms, record: record.clone() });
                self.post_not_sold(turn, NotSold { place, voided: false }, record.id)?;
            }
            Body::Void(id) => self.post_not_sold(turn, NotSold { place, voided: true }, *id)?,
            // Nothing was left to give back, and the terminal was told so.
            Body::NotRefunded(refused) if refused.reason == Reason::Voided => {}
            Body::NotRefunded(refused) => {
                let record = self.as_refusal(turn, refused)?;
                turn.rows.push(TableRow::Refusal { feed, seq, at_ms, record });
            }
            Body::Door(record) => turn.rows.push(TableRow::Door { feed, seq, at_ms, record: record.clone() }),
            Body::Act(act) => turn.rows.push(TableRow::Act { feed, seq, at_ms, record: act.clone() }),
            Body::Alarm(alarm) => {
                let (word, detail) = (alarm.kind.clone(), alarm.detail.clone());
                turn.rows.push(TableRow::Alarm { feed, seq, at_ms, word, detail });
            }
            _ => {}
        }
        Ok(None)
    }

    /// Whether a journal may say what became of an id: a box answers the terminals of its own campus only.
    fn speaks_for(&self, place: Place, id: PurchaseId) -> bool {
        let campus = self.mesh.place_of(place.feed.writer).and_then(|place| place.campus);
        if proof::sown("box_speaks_for_another_campus") {
            return true;
        }
        self.mesh.terminals.get(&id.terminal).is_none_or(|terminal| Some(terminal.campus) == campus)
    }

    /// Something that a person at headquarters must look at.
    pub(super) fn alarm<R: Read + ?Sized>(turn: &mut Turn<'_, '_, R>, place: Place, word: &str, detail: String) {
        let (feed, seq, at_ms, word) = (place.feed, place.seq, turn.stamp.hub_time_ms, word.to_owned());
        turn.rows.push(TableRow::Alarm { feed, seq, at_ms, word, detail });
    }

    /// A refused refund among the refusals: with the card of its sale, if that is known.
    fn as_refusal<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        refused: &NotRefundedRecord,
    ) -> Result<RefusedRecord, CoreError> {
        let sale = match seen(turn, refused.of)?.first() {
            Some(seen) => seen.place.sale(turn)?,
            None => None,
        };
        let card = sale.map_or(CardNumber(0), |sale| sale.card);
        let mode = Mode::Amount(refused.amount.unwrap_or_default());
        Ok(RefusedRecord { id: refused.id, card, mode, offline: false, reason: refused.reason, day: refused.day })
    }

    fn post_sale<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        at_ms: i64,
        sale: &PurchaseRecord,
    ) -> Result<(), CoreError> {
        let writer = place.feed.writer;
        let mut posting = Posting::new(place.source(), sale.day);
        let overdrawn = self.move_sale(turn, writer, sale, &sale.paid, &mut posting, Sign::Charge)?;
        turn.post(posting)?;
        self.doubt_backing(turn, place, sale, overdrawn)?;
        let doubt = self.doubt_price(turn, place, sale)?;
        let record = Box::new(sale.clone());
        let (feed, seq, received_ms) = (place.feed, place.seq, turn.stamp.hub_time_ms);
        turn.rows.push(TableRow::Sale { feed, seq, at_ms, received_ms, record, doubt });
        self.pair(turn, Seen { at_ms, place, reversed: false }, sale.id)
    }

    /// Moves the parts of a sale, or of what the selling box gave back of it, through wallets and books; returns what it
    /// took beyond the box's rights.
    fn move_sale<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        sale: &PurchaseRecord,
        parts: &[(Source, Fen)],
        posting: &mut Posting,
        sign: Sign,
    ) -> Result<Fen, CoreError> {
        let mut overdrawn = Fen::ZERO;
        let (person, pool) = (Owner::Person(sale.person), Owner::Pool(writer));
        let merchant = Account::Merchant(sale.merchant);
        let owed = Account::Receivable(sale.person);
        for (source, amount) in parts.iter().filter(|(_, amount)| *amount != Fen::ZERO) {
            let signed = sign.of(*amount)?;
            let (owner, key) = match source {
                Source::Wallet(key) => (person, *key),
                Source::Guest => (pool, WalletKey::Guest),
                Source::Float => (pool, WalletKey::Float(sale.id.terminal)),
                Source::Receivable => {
                    let wallet = self.open(turn, person)?.wallet(WalletKey::Main);
                    wallet.charged = wallet.charged.add(signed)?;
                    posting.shift(sign.kind(), owed, merchant, signed);
                    overdrawn = overdrawn.add(*amount)?;
                    continue;
                }
            };
            let replica = self.replica_of(self.open(turn, owner)?.named(key)?, writer);
            let (before, was) = ((replica.used, replica.returned), replica.overdrawn()?);
            sign.count(replica, *amount)?;
            overdrawn = overdrawn.add(replica.overdrawn()?.sub(was)?.max(Fen::ZERO))?;
            let after = (replica.used, replica.returned);
            let right = right_account(owner, key, writer, replica);
            let row = Row { person: if owner == pool { PersonId(0) } else { sale.person }, wallet: key };
            Hub::note_totals(turn, writer, row, (before, after))?;
            if owner == pool {
                // The pool paid for the holder, who owes it.
                let wallet = self.open(turn, owner)?.wallet(key);
                wallet.deposits = wallet.deposits.add(signed)?;
                let main = self.open(turn, person)?.wallet(WalletKey::Main);
                main.charged = main.charged.add(signed)?;
                posting.shift(sign.kind(), owed, Account::PoolSource, signed);
            }
            posting.shift(sign.kind(), right, merchant, signed);
        }
        let total = Fen::sum(parts.iter().map(|(_, part)| *part))?;
        let sheet = self.mesh.tariff_of(turn.tx, sale.tariff)?;
        let counter = sheet.and_then(|sheet| tariff::strict_counter(&sheet, sale.category, sale.day));
        let wallets = self.open(turn, person)?;
        if let Some((key, _)) = counter.filter(|_| sale.person != PersonId(0) && total != Fen::ZERO)
            && let Ok(counter) = wallets.named(key)
        {
            // Where there is no room nothing was ever granted of it, and the sale itself counts all the same.
            sign.count(self.replica_of(counter, writer), total)?;
        }
        wallets.note_spent(sale.day, sign.of(total)?)?;
        Ok(overdrawn)
    }

    /// One id sold at two boxes: all but the oldest sale are reversed by the hub, their money goes back to the holder. Of
    /// which headquarters itself gave back stays in place of the oldest.
    fn pair<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        this: Seen,
        id: PurchaseId,
    ) -> Result<(), CoreError> {
        if proof::sown("sold_twice_and_charged_twice") {
            turn.tx.put(keys::mark(id), &Answers { sales: vec![this], not_sold: None });
            return Ok(());
        }
        if !self.speaks_for(this.place, id) {
            // Charged as a fact, and alarmed; it must not undo what the terminal's own campus sold. Its box may give it back.
            turn.tx.put(foreign_sale_key(&this.place, id), &this.place);
            return Ok(());
        }
        let mut all = answers(turn, id)?;
        let same = |seen: &&Seen| {
            seen.place.feed == this.place.feed && seen.place.branch.is_some() == this.place.branch.is_some()
        };
        if all.sales.iter().any(|seen| same(&seen)) || all.sales.len() >= SALES_OF_AN_ID_MAX {
            let detail = format!("{id} stands twice in {}", this.place.feed);
            return self.reverse(turn, this.place, "sold_twice", detail);
        }
        all.sales.push(this);
        all.sales.sort();
        // What headquarters gave back it gave back of the one that stood: that one stays, whatever older one is found.
        if let Some(kept) = turn.tx.get::<Place>(&kept_key(id))? {
            all.sales.sort_by_key(|seen| seen.place != kept);
        }
        for one in all.sales.iter_mut().skip(1).filter(|one| !one.reversed) {
            one.reversed = true;
            proof::hit("sold_at_two_boxes");
            let detail = format!("{id} was sold twice; the sale at {} is reversed", one.place.feed);
            self.reverse(turn, one.place, "sold_twice", detail)?;
        }
        if let Some(other) = all.not_sold {
            self.meet(turn, other, id, &mut all.sales)?;
        }
        turn.tx.put(keys::mark(id), &all);
        Ok(())
    }

    /// A refusal, or a reversal of an id that was unknown to its box: it may meet a sale of another box.
    fn post_not_sold<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        this: NotSold,
        id: PurchaseId,
    ) -> Result<(), CoreError> {
        if !self.speaks_for(this.place, id) {
            return Ok(());
        }
        let mut all = answers(turn, id)?;
        if all.not_sold.is_none_or(|known| this.voided && !known.voided) {
            all.not_sold = Some(this);
        }
        self.meet(turn, this, id, &mut all.sales)?;
        turn.tx.put(keys::mark(id), &all);
        Ok(())
    }

    /// The terminal has given up a sale that a box of its campus voided: that sale is reversed. One that was refused
    /// elsewhere stands, because nobody but the cashier knows which answer was seen.
    fn meet<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        other: NotSold,
        id: PurchaseId,
        sales: &mut [Seen],
    ) -> Result<(), CoreError> {
        let campus = |hub: &Hub, place: Place| hub.mesh.place_of(place.feed.writer).and_then(|place| place.campus);
        for sale in sales.iter_mut().filter(|sale| !sale.reversed) {
            let (sold, place) = (sale.place.feed, other.place);
            if other.voided && campus(self, sale.place) == campus(self, place) && !proof::sown("late_reversal_lost") {
                sale.reversed = true;
                let detail = format!("{id} was voided at {}; the sale at {sold} is reversed", place.feed);
                self.reverse(turn, sale.place, "voided", detail)?;
            } else {
                let what = if other.voided { "voided" } else { "refused" };
                let detail =
                    format!("{id} was {what} at {} and sold at {sold}: ask the cashier which it was", place.feed);
                Hub::alarm(turn, place, "answered_twice", detail);
            }
        }
        Ok(())
    }

    fn reverse<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        word: &str,
        detail: String,
    ) -> Result<(), CoreError> {
        let Some(sale) = place.sale(turn)? else { return Ok(()) };
        let given: GivenBack = turn.tx.get(&given_back_key(&place, sale.id))?.unwrap_or_default();
        let Some(back) = share_back(&sale.paid, &given, None).map_err(super::sale_error)? else { return Ok(()) };
        let source = feed::digest("yika pair 1", &place.source().0);
        self.give_back_at_hub(turn, place, &sale, &back, source)?;
        let record = RefundRecord {
            id: sale.id,
            of: sale.id,
            person: sale.person,
            merchant: sale.merchant,
            kind: RefundKind::Reversal,
            back,
            operator: OperatorId(0),
            day: sale.day,
        };
        Hub::alarm(turn, place, word, detail);
        self.tell_refund(turn, place, record);
        Ok(())
    }

    /// A refund of the hub's own, for the tables.
    pub(super) fn tell_refund<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>, place: Place, record: RefundRecord) {
        let feed = FeedId { writer: self.mesh.me, channel: Channel::Registry };
        let (at_ms, record) = (turn.stamp.hub_time_ms, Box::new(record));
        turn.rows.push(TableRow::Refund { feed, seq: place.seq, at_ms, record });
    }

    /// The hub gives back: wallet money becomes available, what was owed is owed no more.
    pub(super) fn give_back_at_hub<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        sale: &PurchaseRecord,
        back: &[(Source, Fen)],
        source: Hash,
    ) -> Result<(), CoreError> {
        let mut given: GivenBack = turn.tx.get(&given_back_key(&place, sale.id))?.unwrap_or_default();
        given.add(back)?;
        turn.tx.put(given_back_key(&place, sale.id), &given);
        let mut posting = Posting::new(source, sale.day);
        let merchant = Account::Merchant(sale.merchant);
        let person = Owner::Person(sale.person);
        for (source, amount) in back {
            let credit = match source {
                Source::Wallet(key) => {
                    let wallet = self.open(turn, person)?.wallet(*key);
                    wallet.refunded = wallet.refunded.add(*amount)?;
                    person.holder(*key)
                }
                _ => {
                    let wallet = self.open(turn, person)?.wallet(WalletKey::Main);
                    wallet.charged = wallet.charged.sub(*amount)?;
                    Account::Receivable(sale.person)
                }
            };
            posting.transfer(Kind::Refund, merchant, credit, *amount);
        }
        let total = Fen::sum(back.iter().map(|(_, part)| *part))?;
        self.open(turn, person)?.note_spent(sale.day, total.negated()?)?;
        Ok(turn.post(posting)?)
    }

    /// A refund by the box that sold. What exceeds the sale, because the hub gave back too, is charged again.
    fn post_refund<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        at_ms: i64,
        refund: &RefundRecord,
    ) -> Result<(), CoreError> {
        let same = |s: &&Seen| s.place.feed == place.feed && s.place.branch.is_some() == place.branch.is_some();
        let sold = match seen(turn, refund.of)?.iter().find(same) {
            Some(seen) => Some(seen.place),
            None => turn.tx.get(&foreign_sale_key(&place, refund.of))?,
        };
        let sale = match sold {
            Some(at) => at.sale(turn)?,
            None => None,
        };
        let Some(sale) = sale.filter(|sale| sale.person == refund.person && sale.merchant == refund.merchant) else {
            let detail = format!("{} gives back {}, which this journal has not sold", refund.id, refund.of);
            Hub::alarm(turn, place, "refund", detail);
            return Ok(());
        };
        let key = given_back_key(&place, refund.of);
        let mut given: GivenBack = turn.tx.get(&key)?.unwrap_or_default();
        let is_again =
            sale.paid.is_empty() && share_back(&sale.paid, &given, None).map_err(super::sale_error)?.is_none();
        if is_again || !sale.may_be_given(&refund.back) {
            let what = if is_again { "gives a meal back again" } else { "gives back what was not paid" };
            Hub::alarm(turn, place, "refund", format!("{} {what} for {}", refund.id, refund.of));
            return Ok(());
        }
        let surplus = given.beyond(&sale.paid)?;
        given.add(&refund.back)?;
        let surplus = given.beyond(&sale.paid)?.sub(surplus)?;
        turn.tx.put(key, &given);
        let mut posting = Posting::new(place.source(), refund.day);
        self.move_sale(turn, place.feed.writer, &sale, &refund.back, &mut posting, Sign::Refund)?;
        if surplus.is_positive() && !proof::sown("surplus_of_two_refunds_kept") {
            let wallet = self.open(turn, Owner::Person(sale.person))?.wallet(WalletKey::Main);
            wallet.charged = wallet.charged.add(surplus)?;
            let owed = Account::Receivable(sale.person);
            posting.transfer(Kind::Surplus, owed, Account::Merchant(sale.merchant), surplus);
            let detail = format!("{surplus} more was given back for {} than was paid; charged again", refund.of);
            Hub::alarm(turn, place, "refund", detail);
        }
        turn.post(posting)?;
        let (feed, seq) = (place.feed, place.seq);
        turn.rows.push(TableRow::Refund { feed, seq, at_ms, record: Box::new(refund.clone()) });
        Ok(())
    }

    /// A cheque counts at its giver until the receiver's journal says it was taken, and its giver's that it was given.
    fn post_taken<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        taken: &TakenRecord,
        (source, shown): (Hash, Option<Fen>),
    ) -> Result<(), CoreError> {
        let (giver, taker) = (taken.feed.writer, place.feed.writer);
        if taken.feed.channel != Channel::Rights(taker) || giver == taker || giver.node.is_hub() {
            Hub::alarm(turn, place, "cheque", format!("{taker} took what is no cheque to it: {}", taken.feed));
            return Ok(());
        }
        let given = given(turn, taken, shown)?;
        if given.is_none_or(|given| taken.total > given) {
            let key = waiting_cheque_key(taken, &place);
            let is_known = turn.tx.get_bytes(&key)?.is_some();
            if !proof::sown("cheque_before_its_giver_lost") {
                turn.tx.put(key, &(place, taken));
            }
            let Some(given) = given else { return Ok(()) };
            if !is_known {
                let detail = format!("{taker} took {} where {giver} gave {given}", taken.total);
                Hub::alarm(turn, place, "cheque", detail);
            }
        }
        let given = given.unwrap_or_default();
        let total = taken.total.min(given).max(Fen::ZERO);
        let owner = Owner::Person(taken.row.person);
        let key = taken.row.wallet;
        let wallets = self.open(turn, owner)?;
        let replica = wallets.wallets.get(&key).and_then(|wallet| wallet.replicas.get(&taker));
        let held = replica.and_then(|replica| replica.taken_in.get(&giver)).copied().unwrap_or_default();
        let amount = if proof::sown("cheque_taken_twice") { total } else { total.sub(held)? };
        if !amount.is_positive() {
            return Ok(());
        }
        let wallet = wallets.named(key)?;
        let taking = self.replica_of(wallet, taker);
        taking.taken_in.insert(giver, total);
        let to = right_account(owner, key, taker, taking);
        let giving = self.replica_of(wallet, giver);
        let given_out = giving.taken_out.entry(taker).or_default();
        *given_out = given_out.add(amount)?;
        let from = right_account(owner, key, giver, giving);
        if crate::rights::is_money(key) {
            let mut posting = Posting::new(source, self.today(turn));
            posting.transfer(Kind::Cheque, from, to, amount);
            turn.post(posting)?;
        }
        Ok(())
    }

    /// The entry of a giver has come, on the branch that is held or on another: what boxes had taken by it counts, beside
    /// what was posted of it before.
    pub(super) fn post_waiting<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        given: Place,
        grant: &GrantRecord,
        touched: &mut BTreeSet<PersonId>,
    ) -> Result<(), CoreError> {
        if !is_heard_apart(&given.feed) {
            return Ok(());
        }
        let prefix = named(WAITING_CHEQUES, &(given.feed, given.seq));
        for (key, bytes) in turn.tx.scan(&prefix, None, WAITING_READ_MAX)? {
            let (place, taken): (Place, TakenRecord) = decode_row(&key, &bytes)?;
            let shown = Some(grant.total).filter(|_| grant.row == taken.row);
            let (source, settles) = match given.branch {
                None => {
                    proof::hit("cheque_before_its_giver");
                    (place.source(), true)
                }
                Some(_) if shown.is_none() => continue,
                Some(_) => {
                    proof::hit("cheque_on_another_branch");
                    let source = feed::digest("yika cheque 1", &[place.source().0, given.source().0].concat());
                    (source, grant.total >= taken.total)
                }
            };
            self.attempt(turn, place, touched, |hub, turn| {
                // What the branch that is held says less is alarmed, and waits on for another.
                if settles {
                    turn.tx.delete(key);
                }
                hub.post_taken(turn, place, &taken, (source, shown)).map(|()| Some(taken.row.person))
            })?;
        }
        Ok(())
    }

    /// A total on a rights feed: a return to the hub, a cheque between boxes, or a grant of a former life of the hub.
    pub(super) fn on_granted<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        grant: &GrantRecord,
    ) -> Result<Option<PersonId>, CoreError> {
        let Channel::Rights(receiver) = feed.channel else { return Ok(None) };
        if feed.writer == self.mesh.me {
            return Ok(None);
        }
        if feed.writer.node.is_hub() {
            return self.grant_of_former_life(turn, feed, receiver, grant).map(|()| None);
        }
        let touched = Some(grant.row.person);
        if !receiver.node.is_hub() {
            return Ok(touched);
        }
        let owner =
            if grant.row.person == PersonId(0) { Owner::Pool(feed.writer) } else { Owner::Person(grant.row.person) };
        if !grant.total.is_positive() {
            return Ok(touched);
        }
        let replica = self.replica_of(self.open(turn, owner)?.named(grant.row.wallet)?, feed.writer);
        let back = replica.back.entry(receiver.incarnation).or_default();
        *back = match proof::sown("returns_as_deltas") {
            true => back.add(grant.total)?,
            false => grant.total.max(*back),
        };
        Ok(touched)
    }
}

/// What a giver's feed says of a cheque where its box says it stands, on the branch that says most; `None` while no branch
/// is known to reach so far. `shown` has just come.
fn given<R: Read + ?Sized>(
    turn: &Turn<'_, '_, R>,
    taken: &TakenRecord,
    shown: Option<Fen>,
) -> Result<Option<Fen>, StoreError> {
    let at = (taken.feed, taken.seq);
    let apart = turn.tx.scan(&named(BRANCH, &at), None, BRANCHES_READ_MAX)?.into_iter().map(|(_, bytes)| bytes);
    let entries = turn.tx.entry(&taken.feed, taken.seq)?.into_iter().chain(apart);
    let totals = entries.map(|bytes| match Entry::decode(&bytes).map(|entry| entry.body) {
        Ok(Body::Grant(grant)) if grant.row == taken.row => grant.total,
        _ => Fen::ZERO,
    });
    let is_past = turn.tx.feed(&taken.feed)?.end.seq >= taken.seq;
    Ok(totals.chain(shown).max().or(is_past.then_some(Fen::ZERO)))
}

/// Whether a sale is charged or given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Charge,
    Refund,
}

impl Sign {
    fn of(self, amount: Fen) -> Result<Fen, yika_crdt::fen::FenError> {
        if self == Sign::Charge { Ok(amount) } else { amount.negated() }
    }

    fn kind(self) -> Kind {
        if self == Sign::Charge { Kind::Purchase } else { Kind::Refund }
    }

    fn count(self, replica: &mut crate::rights::Replica, amount: Fen) -> Result<(), CoreError> {
        let total = if self == Sign::Charge { &mut replica.used } else { &mut replica.returned };
        *total = total.add(amount)?;
        Ok(())
    }
}
