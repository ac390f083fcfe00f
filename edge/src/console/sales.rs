//! What a person bought at this campus since the day was cut, and giving it back at the counter (退货, POS-22): sales that
//! a till may no longer correct.
//!
//! The page draws the refund's id under the counter of this life of the box (terminal 0), so that the same form sent twice
//! gives back once. Leaves to others: whether it may be (`yika_crdt::sale`), corrections at the till (`till`).

use super::{App, operator_id, show};
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::Command;
use yika_crdt::entry::{ActRecord, Body, Entry, Mode, PurchaseRecord, RefundKind, RefundRecord};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, GivenBack, RefundRequest, last_cut, share_back};
use yika_crdt::sold;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_ui::{CurrentOperator, Page, Saved, Ui, UiError, View};

/// Newest sales shown of a person.
const SALES_SHOWN_MAX: usize = 30;
/// Entries looked through for them, all journals of the campus together: a page is no search through a day.
const ENTRIES_READ_MAX: u64 = 20_000;
/// Entries looked through at once, the newest first.
const ENTRIES_AT_ONCE: u64 = 1_000;
/// Bytes of entries read at once.
const READ_BYTES: usize = 1 << 18;
/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 100;
/// The counter of a box: no terminal has this number.
const COUNTER: TerminalId = TerminalId(0);
/// Lives of a box that its counter tells apart; later ones begin again.
const LIVES_OF_A_BOX: u32 = 4_096;
/// Of these, lives in one generation of headquarters.
const LIVES_OF_A_GENERATION: u32 = 256;

/// A sale of the open day.
pub(super) struct SaleRow {
    pub(super) time: String,
    pub(super) till: String,
    pub(super) mode: String,
    pub(super) total: String,
    pub(super) back: String,
    /// Where it can be given back: a page of this box, if something is left.
    pub(super) refund: Option<String>,
    /// Who may give it back, if not this box.
    pub(super) elsewhere: String,
}

#[derive(Template)]
#[template(path = "cards/refund.html")]
pub(super) struct RefundPage {
    page: Page,
    object: String,
    href: String,
    seq: u32,
    left: String,
    /// A counted meal: taken back once and whole, and no money.
    counted: bool,
    sum: String,
    reason: String,
    problem: String,
}

#[derive(Deserialize)]
pub(super) struct RefundForm {
    seq: u32,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    reason: String,
}

/// A sale found in a journal.
struct Sold {
    sale: Box<PurchaseRecord>,
    at_ms: i64,
    by: Writer,
    given: GivenBack,
}

impl Sold {
    /// What is left to be given back: nothing, but once, of a counted meal.
    fn left(&self) -> Result<Option<Fen>, UiError> {
        let left = share_back(&self.sale.paid, &self.given, None).map_err(|e| UiError::internal(e, Saved::Nothing))?;
        let sum = left.map(|parts| Fen::sum(parts.into_iter().map(|(_, part)| part)));
        sum.transpose().map_err(|e| UiError::internal(e, Saved::Nothing))
    }
}

/// The question before a sale is given back.
pub(super) async fn ask(
    ui: Ui,
    State(app): State<App>,
    Path(of): Path<(u32, u32, u32)>,
) -> Result<View<RefundPage>, UiError> {
    let (sold, of) = app.own_sale(of)?;
    let form = RefundForm { seq: app.next_refund()?, sum: String::new(), reason: String::new() };
    Ok(View::new(question(&app, &ui, &sold, of, form, String::new())?))
}

/// Gives a sale back, whole or in part.
pub(super) async fn give_back(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path(of): Path<(u32, u32, u32)>,
    Form(form): Form<RefundForm>,
) -> Result<Response, UiError> {
    let (sold, of) = app.own_sale(of)?;
    let refuse = |form: RefundForm, words: &str| -> Result<Response, UiError> {
        Ok(View::invalid(question(&app, &ui, &sold, of, form, words.to_owned())?).into_response())
    };
    let (amount, reason) = match wish(&form) {
        Ok(wish) => wish,
        Err(word) => return refuse(form, ui.t(word)),
    };
    let id = PurchaseId { terminal: COUNTER, boot: app.counter(), seq: form.seq };
    let again = app.look(|store| sold::is_known(store, id))?;
    if !again && form.seq != app.next_refund()? {
        return refuse(form, ui.t("refund.meanwhile"));
    }
    let operator = operator_id(&me)?;
    let asked = amount.map_or_else(|| "all".to_owned(), |sum| sum.to_string());
    let told = |act: &str| ActRecord { operator, act: act.into(), detail: format!("{of} {asked}: {reason}") };
    if !again {
        // Before the money: a reason without a refund is seen and harmless, a refund without its reason is neither.
        let act = Command::Act(told("refund"));
        app.node().call(act).await.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    }
    let request = RefundRequest { id, of, kind: RefundKind::Refund, amount, operator };
    let answer = app.node().refund(request).await.map_err(|e| UiError::unavailable(e, Saved::Unknown))?;
    match answer {
        Answer::Refunded(refund) if is_what_was_asked(&refund, of, amount) => {
            let page = format!("/cards/people/{}?done=refund", sold.sale.person.0);
            if ui.htmx {
                return Ok([("hx-redirect", page)].into_response());
            }
            Ok(Redirect::to(&page).into_response())
        }
        Answer::Refunded(_) | Answer::Refused(Reason::IdReused | Reason::TooOld) => {
            refuse(form, ui.t("refund.meanwhile"))
        }
        // The refusal has taken the number. Who reads only what was asked would take it for given back.
        Answer::Refused(why) => {
            let act = Command::Act(told("refund.refused"));
            app.node().call(act).await.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
            let form = RefundForm { seq: app.next_refund()?, ..form };
            refuse(form, show::reason(&ui, why))
        }
        other => Err(UiError::internal(format!("the core answered a refund with {other:?}"), Saved::Unknown)),
    }
}

/// How much is to be given back (all that is left when `None`) and why, or the key of what is wrong with the form.
fn wish(form: &RefundForm) -> Result<(Option<Fen>, String), &'static str> {
    let reason = form.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
        return Err("refund.no_reason");
    }
    let amount = match form.sum.trim() {
        "" => None,
        text => Some(text.parse::<Fen>().ok().filter(|sum| sum.is_positive()).ok_or("refund.bad_sum")?),
    };
    Ok((amount, reason.to_owned()))
}

/// Whether a first answer is the one to this question, and not to another form under the same number.
fn is_what_was_asked(refund: &RefundRecord, of: PurchaseId, amount: Option<Fen>) -> bool {
    let back = sold::amount_of(&Body::Refund(refund.clone()));
    refund.of == of && amount.is_none_or(|sum| sum == back)
}

fn question(
    app: &App,
    ui: &Ui,
    sold: &Sold,
    of: PurchaseId,
    form: RefundForm,
    problem: String,
) -> Result<RefundPage, UiError> {
    let who = app.holder_name(sold.sale.person, sold.sale.card)?;
    let counted = sold.sale.mode == Mode::Count;
    let total = match counted {
        true => ui.t("till.one_meal").to_owned(),
        false => show::money(sold::amount_of(&Body::Purchase((*sold.sale).clone()))),
    };
    Ok(RefundPage {
        page: ui.page("refund.title", "/cards"),
        object: format!("{who} · {} · {} · {total}", app.terminal_name(of.terminal), ui.time_text(sold.at_ms)),
        href: href(of),
        seq: form.seq,
        left: show::money(sold.left()?.unwrap_or_default()),
        counted,
        sum: form.sum,
        reason: form.reason,
        problem,
    })
}

fn href(of: PurchaseId) -> String {
    format!("/cards/refund/{}/{}/{}", of.terminal.0, of.boot, of.seq)
}

impl App {
    /// The counter of this life of the box.
    fn counter(&self) -> u32 {
        counter_of(self.node().writer())
    }

    /// The number of the next refund.
    fn next_refund(&self) -> Result<u32, UiError> {
        self.look(|store| sold::next_seq(store, COUNTER, self.counter()))
    }

    /// What a person bought on the open day, at whichever box of the campus, the newest first; and whether there may be
    /// older ones.
    pub(super) fn sales_of(&self, ui: &Ui, person: PersonId, may_serve: bool) -> Result<(Vec<SaleRow>, bool), UiError> {
        let (mut found, older) = self.look(|store| todays_sales(store, person, ENTRIES_READ_MAX))?;
        found.sort_by_key(|sold| std::cmp::Reverse(sold.at_ms));
        let rows = found.iter().take(SALES_SHOWN_MAX).map(|sold| self.sale_row(ui, sold, may_serve));
        Ok((rows.collect::<Result<_, _>>()?, older || found.len() > SALES_SHOWN_MAX))
    }

    fn sale_row(&self, ui: &Ui, sold: &Sold, may_serve: bool) -> Result<SaleRow, UiError> {
        let (sale, left) = (&sold.sale, sold.left()?);
        let total = sold::amount_of(&Body::Purchase((**sale).clone()));
        let back = total.sub(left.unwrap_or_default()).map_err(|e| UiError::internal(e, Saved::Nothing))?;
        let (counted, meal) = (sale.mode == Mode::Count, || ui.t("till.one_meal").to_owned());
        let me = self.node().writer();
        let ours = sold.by == me;
        let registry = self.node().registry();
        let name = registry.nodes.get(&sold.by).map_or_else(|| sold.by.node.to_string(), |record| record.name.clone());
        let elsewhere = match sold.by.node == me.node {
            // An earlier life of this very box, which may give nothing back any more.
            true => ui.t("sales.earlier_life").to_owned(),
            false => ui.t_args("sales.other_box", &[("name", &name)]),
        };
        Ok(SaleRow {
            time: ui.clock_text(sold.at_ms),
            till: self.terminal_name(sale.id.terminal),
            mode: show::mode(ui, &sale.mode),
            total: if counted { meal() } else { show::money(total) },
            back: match back.is_positive() || left.is_none() {
                true if counted => meal(),
                true => show::back(back),
                false => String::new(),
            },
            refund: (ours && may_serve && left.is_some()).then(|| href(sale.id)),
            elsewhere: if ours { String::new() } else { elsewhere },
        })
    }

    /// A sale that this box made, with what is left of it.
    fn own_sale(&self, (terminal, boot, seq): (u32, u32, u32)) -> Result<(Sold, PurchaseId), UiError> {
        let of = PurchaseId { terminal: TerminalId(terminal), boot, seq };
        let by = self.node().writer();
        let found = self.look(|store| {
            let ours = sold::answered_by(store, of)? == Some(by);
            let entry = if ours { sold::entry_of(store, of)? } else { None };
            let given = given_back(store, of)?;
            Ok(entry.and_then(|entry| match entry.body {
                Body::Purchase(sale) => Some(Sold { sale: Box::new(sale), at_ms: entry.stamp.hub_time_ms, by, given }),
                _ => None,
            }))
        })?;
        found.map(|sold| (sold, of)).ok_or(UiError::NotFound)
    }
}

/// The counter of a life of a box: another life never draws the same numbers.
fn counter_of(Writer { node, incarnation }: Writer) -> u32 {
    let life = incarnation.generation.wrapping_mul(LIVES_OF_A_GENERATION).wrapping_add(incarnation.counter);
    node.0.wrapping_mul(LIVES_OF_A_BOX).wrapping_add(life % LIVES_OF_A_BOX)
}

fn given_back(store: &dyn Read, of: PurchaseId) -> Result<GivenBack, StoreError> {
    let key = keys::refunds(of);
    Ok(store.get(&key)?.map(|bytes| decode_row(&key, &bytes)).transpose()?.unwrap_or_default())
}

/// The newest sales to a person in the journals of this campus since each has cut its day, and whether a journal was not
/// looked through to its cut; at most `entries_max` entries are read.
fn todays_sales(store: &dyn Read, person: PersonId, entries_max: u64) -> Result<(Vec<Sold>, bool), StoreError> {
    let journals: Vec<_> = store.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal).collect();
    let share = entries_max / (journals.len() as u64).max(1);
    let (mut found, mut older) = (Vec::new(), false);
    for (feed, held) in journals {
        let begin = last_cut(store, feed.writer)?.max(held.pruned);
        let reached = sales_back(store, feed, (begin, held.end.seq), share, person, &mut found)?;
        older |= reached > begin;
    }
    Ok((found, older))
}

/// Walks a journal back from its end and gives the position above which all was looked through.
fn sales_back(
    store: &dyn Read,
    feed: FeedId,
    (begin, end): (Seq, Seq),
    entries_max: u64,
    person: PersonId,
    found: &mut Vec<Sold>,
) -> Result<Seq, StoreError> {
    let floor = begin.0.max(end.0.saturating_sub(entries_max));
    let enough = found.len() + SALES_SHOWN_MAX;
    let mut refunds: BTreeMap<PurchaseId, GivenBack> = BTreeMap::new();
    let mut above = end.0;
    while above > floor && found.len() <= enough {
        let below = floor.max(above.saturating_sub(ENTRIES_AT_ONCE));
        // A refund stands behind its sale: seen from the end, it comes first.
        for entry in entries_between(store, feed, Seq(below), Seq(above))?.into_iter().rev() {
            let at_ms = entry.stamp.hub_time_ms;
            match entry.body {
                Body::Refund(refund) if refund.person == person => {
                    let given = refunds.entry(refund.of).or_default().add(&refund.back);
                    given.map_err(|e| StoreError::Corrupt { place: feed.to_string(), cause: e.to_string() })?;
                }
                Body::Purchase(sale) if sale.person == person => {
                    let given = refunds.remove(&sale.id).unwrap_or_default();
                    found.push(Sold { sale: Box::new(sale), at_ms, by: feed.writer, given });
                }
                _ => {}
            }
        }
        above = below;
    }
    Ok(Seq(above))
}

/// The entries of a feed after one position up to another.
fn entries_between(store: &dyn Read, feed: FeedId, after: Seq, last: Seq) -> Result<Vec<Entry>, StoreError> {
    let (mut entries, mut next) = (Vec::new(), after.next());
    while next <= last {
        let read = store.entries(&feed, next, READ_BYTES)?;
        if read.is_empty() {
            break;
        }
        let wanted = usize::try_from(last.0 - next.0).unwrap_or(usize::MAX).saturating_add(1);
        entries.extend(read.iter().take(wanted).filter_map(|bytes| Entry::decode(bytes).ok()));
        next = Seq(next.0 + read.len() as u64);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::collections::BTreeSet;
    use yika_crdt::entry::{Mode, Source, Stamp, WalletKey};
    use yika_crdt::feed::{End, SignedHead};
    use yika_crdt::store::{FeedState, KeyValue};

    const WRITER: Writer = Writer { node: NodeId(1), incarnation: Incarnation { generation: 1, counter: 1 } };

    /// One journal and nothing else.
    struct Journal(Vec<Vec<u8>>);

    impl Read for Journal {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }
        fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<KeyValue>, StoreError> {
            Ok(Vec::new())
        }
        fn feed(&self, _: &FeedId) -> Result<FeedState, StoreError> {
            let end = End { seq: Seq(self.0.len() as u64), ..End::default() };
            Ok(FeedState { end, ..FeedState::default() })
        }
        fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
            let feed = FeedId { writer: WRITER, channel: Channel::Journal };
            Ok(vec![(feed, self.feed(&feed)?)])
        }
        fn entries(&self, _: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
            let (mut taken, mut bytes) = (Vec::new(), 0);
            for entry in self.0.iter().skip(from.0 as usize - 1) {
                taken.push(entry.clone());
                bytes += entry.len();
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(taken)
        }
        fn head_from(&self, _: &FeedId, _: Seq) -> Result<Option<SignedHead>, StoreError> {
            Ok(None)
        }
        fn head_upto(&self, _: &FeedId, _: Seq) -> Result<Option<SignedHead>, StoreError> {
            Ok(None)
        }
    }

    fn id(seq: u32) -> PurchaseId {
        PurchaseId { terminal: TerminalId(1), boot: 1, seq }
    }

    fn sale(seq: u32, person: u64) -> Body {
        Body::Purchase(PurchaseRecord {
            id: id(seq),
            card: CardNumber(person),
            person: PersonId(person),
            category: CategoryId(1),
            outlet: OutletId(1),
            merchant: MerchantId(1),
            mode: Mode::Amount(Fen(500)),
            tariff: TariffVersion(1),
            period: None,
            price: Fen(500),
            adjustment: Fen::ZERO,
            paid: vec![(Source::Wallet(WalletKey::Main), Fen(500))],
            balance: Fen(1),
            offline: false,
            terminal_time_ms: 0,
            day: Day(1),
        })
    }

    fn refund(seq: u32, of: u32, person: u64) -> Body {
        Body::Refund(RefundRecord {
            id: id(seq),
            of: id(of),
            person: PersonId(person),
            merchant: MerchantId(1),
            kind: RefundKind::Refund,
            back: vec![(Source::Wallet(WalletKey::Main), Fen(200))],
            operator: OperatorId(1),
            day: Day(1),
        })
    }

    /// 2,500 entries of which person 1 bought the first, one in the middle (given back in part later) and one near the end.
    fn journal() -> Journal {
        let bodies = (1..=2_500).map(|seq| match seq {
            1 | 1_200 | 2_490 => sale(seq, 1),
            2_000 => refund(seq, 1_200, 1),
            _ => sale(seq, 2),
        });
        let stamp = |seq: usize| Stamp { hub_time_ms: seq as i64, boot: 1, mono_ms: 0 };
        Journal(bodies.enumerate().map(|(n, body)| Entry { stamp: stamp(n), body }.encode()).collect())
    }

    #[test]
    fn the_newest_sales_come_first_with_what_was_given_back() {
        let (found, older) = todays_sales(&journal(), PersonId(1), 20_000).unwrap();
        let seen: Vec<(u32, Fen)> =
            found.iter().map(|sold| (sold.sale.id.seq, sold.left().unwrap().unwrap())).collect();
        assert_eq!(seen, [(2_490, Fen(500)), (1_200, Fen(300)), (1, Fen(500))]);
        assert!(!older);
    }

    #[test]
    fn a_bounded_look_says_that_there_may_be_older_ones() {
        let (found, older) = todays_sales(&journal(), PersonId(1), 1_400).unwrap();
        let seen: Vec<u32> = found.iter().map(|sold| sold.sale.id.seq).collect();
        assert_eq!((seen.as_slice(), older), ([2_490, 1_200].as_slice(), true));
        let (found, older) = todays_sales(&journal(), PersonId(2), 20_000).unwrap();
        assert!(older && found.len() > SALES_SHOWN_MAX && found.len() <= 1_000, "{}", found.len());
    }

    #[test]
    fn no_two_lives_of_any_two_boxes_have_one_counter() {
        let mut counters = BTreeSet::new();
        let mut lives = 0;
        for node in [1, 2, 3, 255, 256, 4_095, 4_096, 100_000] {
            for generation in 1..8 {
                for counter in 1..LIVES_OF_A_GENERATION {
                    let incarnation = Incarnation { generation, counter };
                    counters.insert(counter_of(Writer { node: NodeId(node), incarnation }));
                    lives += 1;
                }
            }
        }
        assert_eq!(counters.len(), lives);
    }
}
