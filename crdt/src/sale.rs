//! Sales at an edge: the purchase decision, its answer, and everything given back (design sections 4 and 5).
//!
//! One function per request kind; each writes its journal entry and counters into the same turn. Leaves to others:
//! the decision itself (`decide`, `fact`), the rows it moves (`rows`), pruning (`prune`), taking back (`redo`), waiting for a grant (the shell).

mod decide;
mod fact;
pub mod prune;
mod recount;
mod redo;
mod rows;

pub use decide::{has_lease, may_sell};
pub use fact::FACT_AGE_MS_MAX;
pub use prune::last_cut;
pub(crate) use recount::count_day;
pub(crate) use redo::{mark_again, redo_journal};
pub(crate) use rows::row_of;
pub use rows::{Counters, put_rights, rights_of, take_grant};

use crate::channel::{Channel, FeedId};
use crate::civil;
use crate::entry::*;
use crate::feed::{self, Hash};
use crate::fen::{Fen, FenError};
use crate::ids::*;
use crate::keys;
use crate::mesh::{Event, Mesh};
use crate::proof;
use crate::reason::Reason;
use crate::rights::RightsError;
use crate::store::{Read, StoreError, Tx};
use crate::wire;
use decide::{Decided, decide};
use fact::Remark;
use rows::{Written, charge, count, give_back, uncount};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a terminal asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PurchaseRequest {
    /// The terminal's key.
    pub id: PurchaseId,
    /// The card.
    pub card: CardNumber,
    /// How the sum is found.
    pub mode: Mode,
    /// When, by the terminal's clock.
    pub terminal_time_ms: i64,
    /// Decided by the terminal alone; a fact that is never refused for money.
    pub offline: bool,
    /// Tariff that such a terminal showed, if it says so: a fact is priced by it.
    pub tariff: Option<TariffVersion>,
}

/// What a terminal asks to give back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefundRequest {
    /// Its own key.
    pub id: PurchaseId,
    /// The sale.
    pub of: PurchaseId,
    /// What kind.
    pub kind: RefundKind,
    /// How much; everything that is left when absent.
    pub amount: Option<Fen>,
    /// Who.
    pub operator: OperatorId,
}

/// The answer to a purchase id: the same for ever.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Sold.
    Approved(Box<PurchaseRecord>),
    /// Not sold.
    Refused(Reason),
    /// Given back.
    Refunded(Box<RefundRecord>),
    /// The id will never be sold under.
    Voided,
}

/// What became of a purchase request in this turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Answered; the answer leaves after the commit.
    Answered(Answer),
    /// Short of rights: somebody may have more. Nothing was written.
    Short {
        /// The row that pays.
        row: Row,
        /// How much is missing.
        missing: Fen,
    },
}

/// The moment and the means of a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Time to stamp with.
    pub stamp: Stamp,
    /// The clock may be used for leases and days.
    pub trusted: bool,
    /// A shortage may be answered by asking the hub or another box first.
    pub may_ask: bool,
}

/// Where the first answer to an id stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) feed: FeedId,
    pub(crate) seq: Seq,
    body: Hash,
}

/// What was given back so far for a sale.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GivenBack {
    sums: BTreeMap<Source, Fen>,
    /// A refund of nothing: of a meal that was only counted.
    counted: bool,
}

impl GivenBack {
    /// Adds a refund.
    pub fn add(&mut self, back: &[(Source, Fen)]) -> Result<(), FenError> {
        self.counted |= back.is_empty();
        for (source, amount) in back {
            let total = self.sums.entry(*source).or_default();
            *total = total.add(*amount)?;
        }
        Ok(())
    }

    /// Given back to one source.
    pub fn of(&self, source: Source) -> Fen {
        self.sums.get(&source).copied().unwrap_or_default()
    }

    /// How much more was given back than was paid, over all sources.
    pub fn beyond(&self, paid: &[(Source, Fen)]) -> Result<Fen, FenError> {
        let paid = |source| Fen::sum(paid.iter().filter(|(s, _)| *s == source).map(|(_, f)| *f));
        self.sums.iter().try_fold(Fen::ZERO, |sum, (source, back)| sum.add(back.sub(paid(*source)?)?.max(Fen::ZERO)))
    }
}

/// A failure of our own; the turn is rolled back and the box refuses until it is mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaleError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sums that cannot be: checked before anything is written.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// Sums that do not fit.
    #[error(transparent)]
    Sum(#[from] FenError),
}

/// The open business day of this box: moved by `cut` only.
pub fn open_day<R: Read + ?Sized>(tx: &Tx<'_, R>, mesh: &Mesh, now: &Now) -> Result<Day, StoreError> {
    match tx.get::<Day>(keys::OPEN_DAY)? {
        Some(day) => Ok(day),
        None => Ok(clock_day(mesh, now)),
    }
}

/// The business day that the clock says.
pub fn clock_day(mesh: &Mesh, now: &Now) -> Day {
    let (offset, cut) = calendar(mesh);
    civil::business_day(now.stamp.hub_time_ms, offset, cut)
}

/// Cuts the business day when the clock has passed into the next one.
pub fn cut_if_due<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<bool, SaleError> {
    let today = clock_day(mesh, now);
    let open = tx.get::<Day>(keys::OPEN_DAY)?;
    if now.trusted && open.is_some_and(|open| today > open) {
        proof::hit("day_cut");
        let day = open.unwrap_or(today);
        let cut = Entry { stamp: now.stamp, body: Body::Cut(day) };
        let seq = mesh.append(tx, Channel::Journal, &cut, events)?;
        prune::note_cut(mesh, tx, mesh.me, day, seq)?;
        tx.put(keys::OPEN_DAY.to_vec(), &today);
        // Of the day after the one that was open siblings' sales were counted as they came.
        if day.0.saturating_add(1) < today.0 {
            count_day(mesh, tx, today)?;
        }
        return Ok(true);
    }
    if open.is_none() && now.trusted {
        tx.put(keys::OPEN_DAY.to_vec(), &today);
        count_day(mesh, tx, today)?;
    }
    Ok(false)
}

fn refusal_of(request: &PurchaseRequest, reason: Reason, day: Day) -> RefusedRecord {
    let PurchaseRequest { id, card, mode, offline, .. } = *request;
    RefusedRecord { id, card, mode, offline, reason, day }
}

/// Decides a purchase. The same id gets its first answer again, also a refusal, also after a restart.
pub fn purchase<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<Outcome, SaleError> {
    let body = digest_of(&(&request.card, &request.mode, request.offline));
    let day = open_day(tx, mesh, now)?;
    if let Some(answer) = first_answer(tx, request.id, body)?.filter(|_| !proof::sown("id_decided_again")) {
        // A meal may have been eaten that nobody will ever pay: somebody must hear of it.
        if request.offline && answer == Answer::Refused(Reason::TooOld) {
            fact::tell(mesh, tx, (request.id, day), vec![Remark::Refused(Reason::TooOld)], now, events)?;
        }
        return Ok(Outcome::Answered(answer));
    }
    let (decided, remarks) = match request.offline {
        true if !proof::sown("fact_refused") => fact::decide(mesh, tx, request, now, day)?,
        _ => (decide(mesh, tx, request, now, day)?, Vec::new()),
    };
    let decided = match decided {
        Decided::Sell(record) => Body::Purchase(*record),
        Decided::Refuse(reason) => Body::Refused(refusal_of(request, reason, day)),
        Decided::Short { row, missing } => return Ok(Outcome::Short { row, missing }),
    };
    let answer = answer_of(&decided).unwrap_or(Answer::Voided);
    record(mesh, tx, request.id, body, decided, now, events)?;
    fact::tell(mesh, tx, (request.id, day), remarks, now, events)?;
    Ok(Outcome::Answered(answer))
}

/// Refuses an id durably with a reason the caller found (the bound of waiting was reached).
pub fn refuse<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    request: &PurchaseRequest,
    reason: Reason,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<Answer, SaleError> {
    let body = digest_of(&(&request.card, &request.mode, request.offline));
    if let Some(answer) = first_answer(tx, request.id, body)? {
        return Ok(answer);
    }
    let day = open_day(tx, mesh, now)?;
    let refused = refusal_of(request, reason, day);
    record(mesh, tx, request.id, body, Body::Refused(refused), now, events)?;
    Ok(Answer::Refused(reason))
}

/// Gives back all or part of a sale of this box's life, before its day is cut; a reversal of an unknown id voids it.
pub fn refund<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    request: &RefundRequest,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<Answer, SaleError> {
    let body = asked_back(request.of, request.kind, request.amount);
    if let Some(answer) = first_answer(tx, request.id, body)? {
        return Ok(answer);
    }
    let day = open_day(tx, mesh, now)?;
    let known = sale_of(mesh, tx, request.of)?;
    let mut refuse = |tx: &mut Tx<'_, R>, reason| {
        let RefundRequest { id, of, kind, amount, operator } = *request;
        let refused = Body::NotRefunded(NotRefundedRecord { id, of, kind, amount, operator, reason, day });
        let answer = answer_of(&refused).unwrap_or(Answer::Refused(reason));
        record(mesh, tx, id, body, refused, now, events)?;
        Ok(answer)
    };
    let sale = match known {
        Sale::Ours(sale) if sale.day == day || proof::sown("refund_after_the_cut") => sale,
        Sale::Ours(_) => {
            proof::hit("refund_after_the_cut_refused");
            return refuse(tx, Reason::DayCut);
        }
        Sale::Refused => return refuse(tx, Reason::Voided),
        Sale::Unknown if prune::is_too_old(tx, request.of)? => return refuse(tx, Reason::TooOld),
        Sale::Unknown if request.kind == RefundKind::Reversal => {
            if request.id != request.of {
                refuse(tx, Reason::Voided)?;
            }
            let void = digest_of(&request.of);
            if !proof::sown("void_forgotten") {
                record(mesh, tx, request.of, void, Body::Void(request.of), now, events)?;
            }
            return Ok(Answer::Voided);
        }
        Sale::Unknown | Sale::Elsewhere => return refuse(tx, Reason::NoSuchSale),
    };
    let mut given: GivenBack = tx.get(&keys::refunds(request.of))?.unwrap_or_default();
    let Some(back) = share_back(&sale.paid, &given, request.amount)? else {
        // A repeated reversal of what is reversed already is acknowledged, anything else is too much.
        let reversed = request.kind == RefundKind::Reversal;
        return refuse(tx, if reversed { Reason::Voided } else { Reason::OverRefund });
    };
    proof::hit("given_back");
    given.add(&back)?;
    if !proof::sown("refund_not_counted") {
        tx.put(keys::refunds(request.of), &given);
    }
    let refund = RefundRecord {
        id: request.id,
        of: request.of,
        person: sale.person,
        merchant: sale.merchant,
        kind: request.kind,
        back,
        operator: request.operator,
        day,
    };
    record(mesh, tx, request.id, body, Body::Refund(refund.clone()), now, events)?;
    Ok(Answer::Refunded(Box::new(refund)))
}

/// Takes a journal entry into counters: of this box when written, of a sibling when received.
pub fn apply_journal<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    seq: Seq,
    entry: &Entry,
) -> Result<(), SaleError> {
    let ours = feed.writer == mesh.me;
    match &entry.body {
        Body::Purchase(sale) => {
            if ours {
                charge(mesh, tx, sale)?;
            }
            if !ours && proof::sown("sales_of_siblings_not_counted") {
                return Ok(());
            }
            count(mesh, tx, Written { sale, at_ms: entry.stamp.hub_time_ms, ours })?;
        }
        Body::Refund(refund) => apply_refund(mesh, tx, feed, refund)?,
        Body::Cut(day) => prune::note_cut(mesh, tx, feed.writer, *day, seq)?,
        _ => {}
    }
    Ok(())
}

/// Takes a refund into counters, where the journal that gives back has sold, to a source that has paid.
fn apply_refund<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    refund: &RefundRecord,
) -> Result<(), SaleError> {
    let ours = feed.writer == mesh.me;
    let Some(Entry { stamp, body: Body::Purchase(sale) }) = entry_of_mark(tx, feed, refund.of)? else {
        return Ok(());
    };
    if !sale.may_be_given(&refund.back) {
        return Ok(());
    }
    let mut given: GivenBack = tx.get(&keys::refunds(refund.of))?.unwrap_or_default();
    let mut was_whole = false;
    if ours {
        give_back(mesh, tx, refund, &sale)?;
    } else {
        was_whole = share_back(&sale.paid, &given, None)?.is_none();
        given.add(&refund.back)?;
        tx.put(keys::refunds(refund.of), &given);
    }
    let is_whole = !was_whole && share_back(&sale.paid, &given, None)?.is_none();
    let written = Written { sale: &sale, at_ms: stamp.hub_time_ms, ours };
    uncount(mesh, tx, written, &refund.back, is_whole)
}

/// The entry that answers an id, if it stands in this feed.
fn entry_of_mark<R: Read + ?Sized>(tx: &Tx<'_, R>, feed: FeedId, of: PurchaseId) -> Result<Option<Entry>, StoreError> {
    let Some(mark) = tx.get::<Mark>(&keys::mark(of))?.filter(|mark| mark.feed == feed) else { return Ok(None) };
    Ok(tx.entry(&mark.feed, mark.seq)?.and_then(|bytes| Entry::decode(&bytes).ok()))
}

/// The answer that an entry stands for.
pub fn answer_of(body: &Body) -> Option<Answer> {
    match body {
        Body::Purchase(record) => Some(Answer::Approved(Box::new(record.clone()))),
        Body::Refused(record) => Some(Answer::Refused(record.reason)),
        // Nothing was left to give back, which is what a reversal wants.
        Body::NotRefunded(record) if record.reason == Reason::Voided => Some(Answer::Voided),
        Body::NotRefunded(record) => Some(Answer::Refused(record.reason)),
        Body::Refund(record) => Some(Answer::Refunded(Box::new(record.clone()))),
        Body::Void(_) => Some(Answer::Voided),
        _ => None,
    }
}

/// Appends the entry of an id and remembers where its answer stands.
fn record<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    id: PurchaseId,
    body: Hash,
    what: Body,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<(), SaleError> {
    let entry = Entry { stamp: now.stamp, body: what };
    let seq = mesh.append(tx, Channel::Journal, &entry, events)?;
    let feed = FeedId { writer: mesh.me, channel: Channel::Journal };
    mark(tx, id, Mark { feed, seq, body });
    apply_journal(mesh, tx, feed, seq, &entry)
}

/// A sibling's answer to an id counts here unless this box has given its own: the first answer stays.
pub fn mark_theirs<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    seq: Seq,
    answer: &Body,
) -> Result<(), StoreError> {
    let Some((id, body)) = asked(answer).filter(|_| !proof::sown("sibling_not_believed")) else { return Ok(()) };
    let known = tx.get::<Mark>(&keys::mark(id))?;
    if known.is_none_or(|known| known.feed.writer.node != mesh.me.node) {
        mark(tx, id, Mark { feed, seq, body });
    }
    Ok(())
}

/// The id that an entry answers, and the digest of what was asked, as far as the entry tells it.
fn asked(answer: &Body) -> Option<(PurchaseId, Hash)> {
    Some(match answer {
        Body::Purchase(sale) => (sale.id, digest_of(&(&sale.card, &sale.mode, sale.offline))),
        Body::Refused(refused) => (refused.id, digest_of(&(&refused.card, &refused.mode, refused.offline))),
        // Whether all or a part was asked for is not in the record (`may_have_asked`).
        Body::Refund(refund) => (refund.id, Hash::default()),
        Body::NotRefunded(refused) => (refused.id, asked_back(refused.of, refused.kind, refused.amount)),
        Body::Void(id) => (*id, digest_of(id)),
        _ => return None,
    })
}

fn mark<R: Read + ?Sized>(tx: &mut Tx<'_, R>, id: PurchaseId, mark: Mark) {
    tx.put(keys::mark(id), &mark);
}

/// The first answer to an id, from whichever journal of the campus holds it.
fn first_answer<R: Read + ?Sized>(tx: &Tx<'_, R>, id: PurchaseId, body: Hash) -> Result<Option<Answer>, SaleError> {
    let Some(mark) = tx.get::<Mark>(&keys::mark(id))? else {
        return Ok(prune::is_too_old(tx, id)?.then_some(Answer::Refused(Reason::TooOld)));
    };
    let Some(bytes) = tx.entry(&mark.feed, mark.seq)? else {
        return Ok(Some(Answer::Refused(Reason::TooOld)));
    };
    let entry = Entry::decode(&bytes).ok().map(|entry| entry.body);
    let Some((entry, answer)) = entry.and_then(|body| answer_of(&body).map(|answer| (body, answer))) else {
        return Err(
            StoreError::Corrupt { place: mark.feed.to_string(), cause: format!("no answer at {}", mark.seq) }.into()
        );
    };
    let is_the_same = match &entry {
        Body::Refund(refund) if mark.body == Hash::default() => may_have_asked(refund, body)?,
        _ => mark.body == body,
    };
    Ok(Some(match entry {
        _ if is_the_same => answer,
        Body::Void(id) if body == asked_back(id, RefundKind::Reversal, None) => answer,
        // A purchase that arrives after its own reversal.
        Body::Void(_) => Answer::Refused(Reason::Voided),
        _ => Answer::Refused(Reason::IdReused),
    }))
}

/// Whether this is what the refund was asked with: all that was left, or as much as was given back.
fn may_have_asked(refund: &RefundRecord, body: Hash) -> Result<bool, FenError> {
    let sum = Fen::sum(refund.back.iter().map(|(_, back)| *back))?;
    Ok([None, Some(sum)].into_iter().any(|amount| body == asked_back(refund.of, refund.kind, amount)))
}

enum Sale {
    Ours(Box<PurchaseRecord>),
    Refused,
    Elsewhere,
    Unknown,
}

fn sale_of<R: Read + ?Sized>(mesh: &Mesh, tx: &Tx<'_, R>, of: PurchaseId) -> Result<Sale, SaleError> {
    let Some(mark) = tx.get::<Mark>(&keys::mark(of))? else {
        return Ok(Sale::Unknown);
    };
    if mark.feed.writer != mesh.me {
        return Ok(Sale::Elsewhere);
    }
    let entry = tx.entry(&mark.feed, mark.seq)?.and_then(|bytes| Entry::decode(&bytes).ok());
    Ok(match entry.map(|e| e.body) {
        Some(Body::Purchase(record)) => Sale::Ours(Box::new(record)),
        Some(Body::Refused(_) | Body::Void(_)) => Sale::Refused,
        _ => Sale::Elsewhere,
    })
}

/// Shares an amount over the sources that paid, last one first; `None` if nothing or not so much is left. A sale that cost
/// nothing, a counted meal, is given back once, and by no source.
pub fn share_back(
    paid: &[(Source, Fen)],
    given: &GivenBack,
    amount: Option<Fen>,
) -> Result<Option<Vec<(Source, Fen)>>, SaleError> {
    let mut left = Vec::new();
    for (source, part) in paid.iter().rev() {
        left.push((*source, part.sub(given.of(*source))?.max(Fen::ZERO)));
    }
    let all = Fen::sum(left.iter().map(|(_, part)| *part))?;
    let mut wanted = amount.unwrap_or(all);
    if paid.is_empty() {
        return Ok((wanted == Fen::ZERO && !given.counted).then(Vec::new));
    }
    if !wanted.is_positive() || wanted > all {
        return Ok(None);
    }
    let mut back = Vec::new();
    for (source, part) in left {
        let share = part.min(wanted);
        if share.is_positive() {
            back.push((source, share));
            wanted = wanted.sub(share)?;
        }
    }
    Ok(Some(back))
}

fn calendar(mesh: &Mesh) -> (i16, u16) {
    let campus = mesh.place.campus.and_then(|c| mesh.campuses.get(&c));
    campus.map_or((480, 180), |c| (c.utc_offset_minutes, c.cut_minute))
}

/// The digest of a refund as it was asked for.
fn asked_back(of: PurchaseId, kind: RefundKind, amount: Option<Fen>) -> Hash {
    digest_of(&(of, kind, amount))
}

fn digest_of<T: Serialize>(value: &T) -> Hash {
    feed::digest("yika request 1", &wire::encode(value))
}
