//! Sales at an edge: the purchase decision, its answer, and everything given back (design sections 4 and 5).
//!
//! One function per request kind; each writes its journal entry and counters into the same turn. Leaves to others:
//! prices (`tariff`), arithmetic of rights (`rights`), waiting for a grant (`edge`), durability (store).

use crate::channel::{Channel, FeedId};
use crate::civil;
use crate::entry::*;
use crate::feed::{self, Hash};
use crate::fen::{Fen, FenError};
use crate::ids::*;
use crate::keys;
use crate::mesh::{Event, Mesh};
use crate::people::Holder;
use crate::reason::Reason;
use crate::rights::{PersonRights, RightsError};
use crate::store::{Read, StoreError, Tx};
use crate::tariff::sheet::{PeriodId, TariffSheet};
use crate::tariff::{self, Quote, Spent};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Money given back so far for a sale, by source.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct GivenBack(BTreeMap<Source, Fen>);

/// What a person has bought on the open business day, as far as this box knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    day: Day,
    day_sum: Fen,
    day_times: u32,
    meals: BTreeMap<PeriodId, (Fen, u32)>,
    guest_sum: Fen,
    last: Option<(TerminalId, Fen, i64)>,
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
        mesh.append(tx, Channel::Journal, &Entry { stamp: now.stamp, body: Body::Cut(open.unwrap_or(today)) }, events)?;
        tx.put(keys::OPEN_DAY.to_vec(), &today);
        return Ok(true);
    }
    if open.is_none() && now.trusted {
        tx.put(keys::OPEN_DAY.to_vec(), &today);
    }
    Ok(false)
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
    if let Some(answer) = first_answer(tx, request.id, body)? {
        return Ok(Outcome::Answered(answer));
    }
    let day = open_day(tx, mesh, now)?;
    let decided = match decide(mesh, tx, request, now, day)? {
        Decided::Sell(record) => Body::Purchase(*record),
        Decided::Refuse(reason) => {
            Body::Refused(RefusedRecord { id: request.id, card: request.card, mode: request.mode, reason, day })
        }
        Decided::Short { row, missing } => return Ok(Outcome::Short { row, missing }),
    };
    let answer = answer_of(&decided).unwrap_or(Answer::Voided);
    record(mesh, tx, request.id, body, decided, now, events)?;
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
    let refused = RefusedRecord { id: request.id, card: request.card, mode: request.mode, reason, day };
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
    let body = digest_of(&(&request.of, request.kind, request.amount));
    if let Some(answer) = first_answer(tx, request.id, body)? {
        return Ok(answer);
    }
    let day = open_day(tx, mesh, now)?;
    let sale = match sale_of(mesh, tx, request.of)? {
        Sale::Ours(sale) if sale.day == day => sale,
        Sale::Ours(_) => return Ok(Answer::Refused(Reason::DayCut)),
        Sale::Refused => return Ok(Answer::Voided),
        Sale::Unknown if request.kind == RefundKind::Reversal => {
            let void = digest_of(&request.of);
            record(mesh, tx, request.of, void, Body::Void(request.of), now, events)?;
            return Ok(Answer::Voided);
        }
        Sale::Unknown | Sale::Elsewhere => return Ok(Answer::Refused(Reason::NoSuchSale)),
    };
    let mut given: GivenBack = tx.get(&keys::refunds(request.of))?.unwrap_or_default();
    let Some(back) = share_back(&sale.paid, &given, request.amount)? else {
        // A repeated reversal of what is reversed already is acknowledged, anything else is too much.
        let reversed = request.kind == RefundKind::Reversal;
        return Ok(if reversed { Answer::Voided } else { Answer::Refused(Reason::OverRefund) });
    };
    for (source, amount) in &back {
        let total = given.0.entry(*source).or_default();
        *total = total.add(*amount)?;
    }
    tx.put(keys::refunds(request.of), &given);
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

/// Takes a journal entry into counters and marks: of this box when written, of a sibling when received.
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
            if !ours {
                let body = digest_of(&(&sale.card, &sale.mode, sale.offline));
                mark(tx, sale.id, Mark { feed, seq, body });
            } else {
                charge(tx, sale)?;
            }
            count(tx, sale, entry.stamp.hub_time_ms)?;
        }
        Body::Refused(refused) if !ours => {
            let body = digest_of(&(&refused.card, &refused.mode, false));
            mark(tx, refused.id, Mark { feed, seq, body });
        }
        Body::Void(id) if !ours => mark(tx, *id, Mark { feed, seq, body: digest_of(id) }),
        Body::Refund(refund) => {
            if ours {
                give_back(tx, refund)?;
            }
            uncount(tx, refund)?;
        }
        _ => {}
    }
    Ok(())
}

/// Does again what an entry of this box's own journal did when it was written: marks, counters, rights, the open day.
/// Its charge was right when it was made, so it is not judged again; the grants it stood on may arrive after it.
pub(crate) fn redo_journal<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    seq: Seq,
    entry: &Entry,
) -> Result<(), SaleError> {
    let day = match &entry.body {
        Body::Purchase(sale) => {
            let body = digest_of(&(&sale.card, &sale.mode, sale.offline));
            mark(tx, sale.id, Mark { feed, seq, body });
            each_row(tx, sale.person, sale.id.terminal, &sale.paid, |row, part| {
                row.used = row.used.add(part)?;
                Ok(())
            })?;
            count(tx, sale, entry.stamp.hub_time_ms)?;
            Some(sale.day)
        }
        Body::Refused(refused) => {
            // Only sales that a terminal did not decide alone are refused.
            let body = digest_of(&(&refused.card, &refused.mode, false));
            mark(tx, refused.id, Mark { feed, seq, body });
            Some(refused.day)
        }
        Body::Refund(refund) => {
            let asked = Fen::sum(refund.back.iter().map(|(_, part)| *part))?;
            let amount = (refund.kind != RefundKind::Reversal).then_some(asked);
            mark(tx, refund.id, Mark { feed, seq, body: digest_of(&(&refund.of, refund.kind, amount)) });
            let mut given: GivenBack = tx.get(&keys::refunds(refund.of))?.unwrap_or_default();
            for (source, part) in &refund.back {
                let total = given.0.entry(*source).or_default();
                *total = total.add(*part)?;
            }
            tx.put(keys::refunds(refund.of), &given);
            apply_journal(mesh, tx, feed, seq, entry)?;
            Some(refund.day)
        }
        Body::Void(id) => {
            mark(tx, *id, Mark { feed, seq, body: digest_of(id) });
            None
        }
        Body::Taken(taken) => {
            let grant = GrantRecord { row: taken.row, total: taken.total, last_day: None, basis: None };
            take_grant(tx, taken.feed.writer, &grant)?;
            None
        }
        Body::Cut(day) => Some(Day(day.0.saturating_add(1))),
        _ => None,
    };
    let open = tx.get::<Day>(keys::OPEN_DAY)?;
    if let Some(day) = day.filter(|day| open.is_none_or(|open| *day > open)) {
        tx.put(keys::OPEN_DAY.to_vec(), &day);
    }
    Ok(())
}

/// Merges what the hub granted this box, or a sibling's cheque that the journal has taken.
pub fn take_grant<R: Read + ?Sized>(tx: &mut Tx<'_, R>, giver: Writer, grant: &GrantRecord) -> Result<(), SaleError> {
    let key = keys::rights(grant.row.person);
    let mut rights: PersonRights = tx.get(&key)?.unwrap_or_default();
    let row = rights.row(grant.row.wallet)?;
    row.merge_granted_in(giver, grant.total)?;
    row.last_day = row.last_day.max(grant.last_day);
    if giver.node.is_hub() && grant.basis.is_some() {
        row.statement = grant.basis.clone();
    }
    tx.put(key, &rights);
    Ok(())
}

/// Rights of one person at this box.
pub fn rights_of<R: Read + ?Sized>(tx: &Tx<'_, R>, person: PersonId) -> Result<PersonRights, StoreError> {
    Ok(tx.get(&keys::rights(person))?.unwrap_or_default())
}

/// The answer that an entry stands for.
pub fn answer_of(body: &Body) -> Option<Answer> {
    match body {
        Body::Purchase(record) => Some(Answer::Approved(Box::new(record.clone()))),
        Body::Refused(record) => Some(Answer::Refused(record.reason)),
        Body::Refund(record) => Some(Answer::Refunded(Box::new(record.clone()))),
        Body::Void(_) => Some(Answer::Voided),
        _ => None,
    }
}

enum Decided {
    Sell(Box<PurchaseRecord>),
    Refuse(Reason),
    Short { row: Row, missing: Fen },
}

impl From<Reason> for Decided {
    fn from(reason: Reason) -> Self {
        Decided::Refuse(reason)
    }
}

fn decide<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    day: Day,
) -> Result<Decided, SaleError> {
    let Some(terminal) = mesh.terminals.get(&request.id.terminal).filter(|t| may_sell(mesh, t)) else {
        return Ok(Reason::TerminalNotAllowed.into());
    };
    let Some(sheet) = mesh.tariff() else {
        return Ok(Reason::NoPrice.into());
    };
    let people = mesh.people.read();
    let (person, holder) = match people.usable_at(request.card, day, now.stamp.hub_time_ms) {
        Ok(known) => known,
        Err(reason) if request.offline => {
            return fact_of_stranger(terminal, &sheet, request, day, reason);
        }
        Err(reason) => return Ok(reason.into()),
    };
    let (offset, _) = calendar(mesh);
    let period = tariff::period_at(&sheet, civil::civil(now.stamp.hub_time_ms, offset).minute);
    let quote = match tariff::price(&sheet, holder.category, terminal.outlet, period, request.mode) {
        Ok(quote) => quote,
        Err(reason) => return Ok(reason.into()),
    };
    let counters = counters_of(tx, person, day)?;
    let sale = Pricing { terminal, sheet: &sheet, person, holder, period, quote, day };
    if !request.offline
        && let Some(reason) = over_limit(&sale, &counters, now)
    {
        return Ok(reason.into());
    }
    pay(mesh, tx, request, now, &sale, &counters)
}

/// Everything known of a sale before the money.
struct Pricing<'a> {
    terminal: &'a TerminalRecord,
    sheet: &'a Arc<TariffSheet>,
    person: PersonId,
    holder: &'a Holder,
    period: Option<PeriodId>,
    quote: Quote,
    day: Day,
}

fn over_limit(sale: &Pricing<'_>, counters: &Counters, now: &Now) -> Option<Reason> {
    let window_ms = i64::from(sale.sheet.repeat_tap_seconds) * 1000;
    if let Some((terminal, total, at_ms)) = counters.last {
        let same = terminal == sale.terminal.terminal && total == sale.quote.total;
        if same && now.stamp.hub_time_ms.saturating_sub(at_ms) < window_ms {
            return Some(Reason::RepeatTap);
        }
    }
    let (meal_sum, meal_times) = sale.period.and_then(|p| counters.meals.get(&p).copied()).unwrap_or_default();
    let spent = Spent { meal_sum, day_sum: counters.day_sum, meal_times, day_times: counters.day_times };
    tariff::check_limits(sale.sheet, sale.holder.category, &spent, sale.quote.total).err()
}

fn pay<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    sale: &Pricing<'_>,
    counters: &Counters,
) -> Result<Decided, SaleError> {
    let rights = rights_of(tx, sale.person)?;
    let total = if request.mode == Mode::Count { Fen::ZERO } else { sale.quote.total };
    let balance = rights.balance(sale.day)?;
    let leased = has_lease(mesh, now);
    let wallets = rights.wallets()?;
    if leased || total == Fen::ZERO {
        match tariff::split(&wallets, total, sale.day) {
            Ok(parts) => {
                let paid = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
                return Ok(sold(request, sale, paid, balance.sub(total)?));
            }
            Err(short) if now.may_ask && !request.offline => {
                let row = Row { person: sale.person, wallet: WalletKey::Main };
                return Ok(Decided::Short { row, missing: short.missing });
            }
            Err(_) => {}
        }
    }
    if request.offline {
        let wallets: &[_] = if leased { &wallets } else { &[] };
        return fact(tx, request, sale, wallets, total, balance);
    }
    if now.may_ask && leased {
        return Ok(Reason::NotEnough.into());
    }
    if guest_pays(tx, sale, counters, total)? {
        return Ok(sold(request, sale, vec![(Source::Guest, total)], balance));
    }
    Ok(if leased { Reason::NotEnough } else { Reason::NoLease }.into())
}

/// A record that is a fact: charged to rights, then the terminal's float, then what the holder owes.
fn fact<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    sale: &Pricing<'_>,
    wallets: &[(WalletKey, Fen, Option<Day>)],
    total: Fen,
    balance: Fen,
) -> Result<Decided, SaleError> {
    let have = Fen::sum(wallets.iter().filter(|w| w.2.is_none_or(|l| l >= sale.day)).map(|w| w.1.max(Fen::ZERO)))?;
    let from_rights = have.min(total);
    let parts = tariff::split(wallets, from_rights, sale.day).unwrap_or_default();
    let mut paid: Vec<_> = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
    let mut rest = total.sub(from_rights)?;
    let float = rights_of(tx, PersonId(0))?.row(WalletKey::Float(request.id.terminal))?.right()?.max(Fen::ZERO);
    let from_float = float.min(rest);
    if from_float.is_positive() {
        paid.push((Source::Float, from_float));
        rest = rest.sub(from_float)?;
    }
    if rest.is_positive() {
        paid.push((Source::Receivable, rest));
    }
    Ok(sold(request, sale, paid, balance.sub(from_rights)?))
}

/// A fact about a card this box cannot use: the meal was eaten, so it is recorded and owed.
fn fact_of_stranger(
    terminal: &TerminalRecord,
    sheet: &TariffSheet,
    request: &PurchaseRequest,
    day: Day,
    reason: Reason,
) -> Result<Decided, SaleError> {
    let (Mode::Amount(total), true) = (request.mode, reason != Reason::TerminalNotAllowed) else {
        return Ok(reason.into());
    };
    if !total.is_positive() || total > Fen(tariff::PURCHASE_FEN_MAX) {
        return Ok(Reason::BadAmount.into());
    }
    Ok(Decided::Sell(Box::new(PurchaseRecord {
        id: request.id,
        card: request.card,
        person: PersonId(0),
        category: CategoryId(0),
        outlet: terminal.outlet,
        merchant: terminal.merchant,
        mode: request.mode,
        tariff: sheet.version,
        period: None,
        price: total,
        adjustment: Fen::ZERO,
        paid: vec![(Source::Receivable, total)],
        balance: Fen::ZERO,
        offline: true,
        terminal_time_ms: request.terminal_time_ms,
        day,
    })))
}

fn guest_pays<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    sale: &Pricing<'_>,
    counters: &Counters,
    total: Fen,
) -> Result<bool, SaleError> {
    let rule = &sale.sheet.guest;
    let pool = rights_of(tx, PersonId(0))?.row(WalletKey::Guest)?.right()?;
    Ok(total <= rule.per_purchase && counters.guest_sum.add(total)? <= rule.per_card_day && total <= pool)
}

fn sold(request: &PurchaseRequest, sale: &Pricing<'_>, paid: Vec<(Source, Fen)>, balance: Fen) -> Decided {
    let paid = paid.into_iter().filter(|(_, part)| part.is_positive()).collect();
    Decided::Sell(Box::new(PurchaseRecord {
        id: request.id,
        card: request.card,
        person: sale.person,
        category: sale.holder.category,
        outlet: sale.terminal.outlet,
        merchant: sale.terminal.merchant,
        mode: request.mode,
        tariff: sale.sheet.version,
        period: sale.period,
        price: sale.quote.price,
        adjustment: sale.quote.adjustment,
        paid,
        balance,
        offline: request.offline,
        terminal_time_ms: request.terminal_time_ms,
        day: sale.day,
    }))
}

/// Whether a terminal sells at this box.
pub fn may_sell(mesh: &Mesh, terminal: &TerminalRecord) -> bool {
    terminal.kind == TerminalKind::Till
        && terminal.state == TerminalState::Deployed
        && mesh.place.campus == Some(terminal.campus)
}

/// Whether this life may spend: it holds a lease that is not over, judged by a clock that can be trusted.
pub fn has_lease(mesh: &Mesh, now: &Now) -> bool {
    !mesh.is_fenced(mesh.me) && mesh.lease.is_some_and(|lease| now.trusted && now.stamp.hub_time_ms <= lease.until_ms)
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

fn mark<R: Read + ?Sized>(tx: &mut Tx<'_, R>, id: PurchaseId, mark: Mark) {
    tx.put(keys::mark(id), &mark);
}

/// The first answer to an id, from whichever journal of the campus holds it.
fn first_answer<R: Read + ?Sized>(tx: &Tx<'_, R>, id: PurchaseId, body: Hash) -> Result<Option<Answer>, SaleError> {
    let Some(mark) = tx.get::<Mark>(&keys::mark(id))? else {
        return Ok(None);
    };
    let Some(bytes) = tx.entry(&mark.feed, mark.seq)? else {
        return Ok(Some(Answer::Refused(Reason::TooOld)));
    };
    let Some(answer) = Entry::decode(&bytes).ok().and_then(|e| answer_of(&e.body)) else {
        return Err(
            StoreError::Corrupt { place: mark.feed.to_string(), cause: format!("no answer at {}", mark.seq) }.into()
        );
    };
    Ok(Some(match answer {
        // A purchase that arrives after its own reversal.
        Answer::Voided if mark.body != body => Answer::Refused(Reason::Voided),
        _ if mark.body != body => Answer::Refused(Reason::IdReused),
        answer => answer,
    }))
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

/// Shares an amount over the sources that paid, last one first; `None` if nothing or not so much is left.
fn share_back(
    paid: &[(Source, Fen)],
    given: &GivenBack,
    amount: Option<Fen>,
) -> Result<Option<Vec<(Source, Fen)>>, SaleError> {
    let mut left = Vec::new();
    for (source, part) in paid.iter().rev() {
        left.push((*source, part.sub(given.0.get(source).copied().unwrap_or_default())?));
    }
    let all = Fen::sum(left.iter().map(|(_, part)| *part))?;
    let mut wanted = amount.unwrap_or(all);
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

/// Charges this box's rights with a sale of its own.
fn charge<R: Read + ?Sized>(tx: &mut Tx<'_, R>, sale: &PurchaseRecord) -> Result<(), SaleError> {
    each_row(tx, sale.person, sale.id.terminal, &sale.paid, |row, part| row.spend(part))
}

fn give_back<R: Read + ?Sized>(tx: &mut Tx<'_, R>, refund: &RefundRecord) -> Result<(), SaleError> {
    each_row(tx, refund.person, refund.of.terminal, &refund.back, |row, part| row.give_back(part))
}

fn each_row<R: Read + ?Sized>(
    tx: &mut Tx<'_, R>,
    person: PersonId,
    terminal: TerminalId,
    parts: &[(Source, Fen)],
    act: impl Fn(&mut crate::rights::RowState, Fen) -> Result<(), RightsError>,
) -> Result<(), SaleError> {
    for (source, part) in parts {
        let (owner, wallet) = match source {
            Source::Wallet(wallet) => (person, *wallet),
            Source::Guest => (PersonId(0), WalletKey::Guest),
            Source::Float => (PersonId(0), WalletKey::Float(terminal)),
            Source::Receivable => continue,
        };
        let mut rights = rights_of(tx, owner)?;
        act(rights.row(wallet)?, *part)?;
        tx.put(keys::rights(owner), &rights);
    }
    Ok(())
}

/// Counters of the open day; those of an earlier day start again from nothing.
fn counters_of<R: Read + ?Sized>(tx: &Tx<'_, R>, person: PersonId, day: Day) -> Result<Counters, StoreError> {
    let counters = tx.get::<Counters>(&keys::counters(person))?.filter(|c| c.day == day);
    Ok(counters.unwrap_or(Counters { day, ..Counters::default() }))
}

fn count<R: Read + ?Sized>(tx: &mut Tx<'_, R>, sale: &PurchaseRecord, at_ms: i64) -> Result<(), SaleError> {
    let mut counters = counters_of(tx, sale.person, sale.day)?;
    let total = sale.price.add(sale.adjustment)?;
    counters.day_sum = counters.day_sum.add(total)?;
    counters.day_times = counters.day_times.saturating_add(1);
    if let Some(period) = sale.period {
        let (sum, times) = counters.meals.entry(period).or_default();
        *sum = sum.add(total)?;
        *times = times.saturating_add(1);
    }
    let guest = sale.paid.iter().filter(|(source, _)| *source == Source::Guest).map(|(_, part)| *part);
    counters.guest_sum = counters.guest_sum.add(Fen::sum(guest)?)?;
    counters.last = Some((sale.id.terminal, total, at_ms));
    tx.put(keys::counters(sale.person), &counters);
    Ok(())
}

/// A refund frees the day's sum again, not the number of meals.
fn uncount<R: Read + ?Sized>(tx: &mut Tx<'_, R>, refund: &RefundRecord) -> Result<(), SaleError> {
    let mut counters = counters_of(tx, refund.person, refund.day)?;
    let back = Fen::sum(refund.back.iter().map(|(_, part)| *part))?;
    counters.day_sum = counters.day_sum.sub(back)?.max(Fen::ZERO);
    counters.last = None;
    tx.put(keys::counters(refund.person), &counters);
    Ok(())
}

fn calendar(mesh: &Mesh) -> (i16, u16) {
    let campus = mesh.place.campus.and_then(|c| mesh.campuses.get(&c));
    campus.map_or((480, 180), |c| (c.utc_offset_minutes, c.cut_minute))
}

fn digest_of<T: Serialize>(value: &T) -> Hash {
    feed::digest("yika request 1", &wire::encode(value))
}
