//! What all pages of headquarters share: the site behind them, who acts, which campus is looked at, how amounts, times
//! and ages are written.

use super::backups::BackupJobs;
use super::import::Imports;
use super::overview::Today;
use crate::clock::in_largest_unit;
use crate::desk::{Actor, Desk, DeskError};
use crate::import;
use crate::node::Busy;
use crate::refusal::Refusal;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use yika_crdt::Fen;
use yika_crdt::civil::{self, DAY_MS};
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_ui::{Choice, CurrentOperator, Lang, Page, Role, Saved, Ui, UiError};

/// Rows on a page of a list.
pub(super) const PAGE_ROWS: u32 = 20;
/// Longest text that a search looks at, in characters.
pub(super) const SEARCH_CHARS_MAX: usize = 64;

/// What stands behind the pages.
pub(super) struct Site {
    pub(super) desk: Desk,
    pub(super) imports: Imports,
    pub(super) today: Today,
    pub(super) backups: BackupJobs,
    alarms: AtomicU32,
}

impl Site {
    pub(super) fn new(desk: Desk) -> Site {
        Site {
            desk,
            imports: Imports::default(),
            today: Today::default(),
            backups: BackupJobs::default(),
            alarms: AtomicU32::new(0),
        }
    }

    /// Context of a page, with the campuses this operator may choose from.
    pub(super) fn page(&self, ui: &Ui, title: &str, active: &str) -> Page {
        let mut page = ui.page(title, active);
        let free = ui.operator.as_ref().is_some_and(|o| o.campus.is_none());
        if free {
            page.campuses = campus_choices(&self.desk.node.registry());
            page.alerts = self.alarms.load(Ordering::Relaxed);
        }
        page
    }

    /// Remembers how many alarms the bell shows.
    pub(super) fn set_alarms(&self, count: u64) {
        self.alarms.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The campus that lists are about: the operator's own, or the one he chose.
    pub(super) fn scope(&self, ui: &Ui) -> Scope {
        let registry = self.desk.node.registry();
        let own = ui.operator.as_ref().and_then(|o| o.campus.as_deref()).and_then(|c| c.parse().ok());
        let chosen = || ui.campus.as_deref().and_then(|c| c.parse().ok()).filter(|c| registry.campuses.contains_key(c));
        let campus: Option<CampusId> = own.or_else(chosen);
        let nodes = campus.map(|campus| {
            let boxes = registry.nodes.iter().filter(|(_, record)| record.campus == Some(campus));
            let mut nodes: Vec<u32> = boxes.map(|(writer, _)| writer.node.0).collect();
            nodes.dedup();
            nodes
        });
        Scope { campus, nodes }
    }
}

/// Which campus is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The campus; all when absent.
    pub(super) campus: Option<CampusId>,
    /// Its boxes, in all their lives.
    pub(super) nodes: Option<Vec<u32>>,
}

/// The signed-in operator, ready to act at the desk.
#[derive(Clone, Debug)]
pub struct Me {
    /// As the pages know him.
    pub operator: CurrentOperator,
    /// As the desk knows him.
    pub actor: Actor,
}

impl Me {
    /// Refuses operators of a single campus: what follows concerns all of them.
    ///
    /// # Errors
    /// [`UiError::OtherCampus`].
    pub fn of_headquarters(&self) -> Result<(), UiError> {
        if self.actor.campus.is_none() { Ok(()) } else { Err(UiError::OtherCampus) }
    }

    /// An administrator of headquarters.
    pub fn is_chief(&self) -> bool {
        self.operator.role == Role::Admin && self.of_headquarters().is_ok()
    }

    /// Refuses what lies on another campus than the operator's.
    ///
    /// # Errors
    /// [`UiError::OtherCampus`].
    pub fn may_see(&self, campus: Option<CampusId>) -> Result<(), UiError> {
        match (self.actor.campus, campus) {
            (Some(own), Some(campus)) if own == campus => Ok(()),
            (Some(_), _) => Err(UiError::OtherCampus),
            (None, _) => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Me {
    type Rejection = UiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Me, UiError> {
        let operator = CurrentOperator::from_request_parts(parts, state).await?;
        let broken = |what: &str| UiError::internal(format!("operator {}: {what}", operator.login), Saved::Nothing);
        let number = operator.id.parse().map_err(|_| broken("its number cannot be read"))?;
        let campus = operator.campus.as_deref().map(str::parse).transpose();
        let campus = campus.map_err(|_| broken("its campus cannot be read"))?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let origin = peer.map_or_else(|| "unknown".to_owned(), |ConnectInfo(address)| address.ip().to_string());
        let actor = Actor { who: operator.login.clone(), operator: number, campus, origin };
        Ok(Me { operator, actor })
    }
}

/// A refusal or failure of the desk as a page.
pub(super) fn failed(error: DeskError) -> UiError {
    match error {
        DeskError::Refused(refusal) => declined(&refusal),
        DeskError::Busy(detail) => UiError::unavailable(detail, Saved::Unknown),
    }
}

/// A failure to read as a page: nothing was to be saved.
pub(super) fn unread(error: impl Into<DeskError>) -> UiError {
    match error.into() {
        DeskError::Refused(refusal) => declined(&refusal),
        DeskError::Busy(detail) => UiError::unavailable(detail, Saved::Nothing),
    }
}

fn declined(refusal: &Refusal) -> UiError {
    UiError::Declined { zh: refusal.words(Lang::Zh), en: refusal.words(Lang::En) }
}

/// As [`unread`] for questions to the store.
pub(super) fn busy(error: Busy) -> UiError {
    UiError::unavailable(error, Saved::Nothing)
}

/// A path segment as an id, else "not found".
pub(super) fn id<T: std::str::FromStr>(text: &str) -> Result<T, UiError> {
    text.parse().map_err(|_| UiError::NotFound)
}

/// An amount with marks between thousands: `48,236.50`.
pub(super) fn yuan(fen: i64) -> String {
    let text = yika_crdt::Fen(fen).to_string();
    let (whole, rest) = text.split_once('.').unwrap_or((&text, "00"));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    format!("{sign}{}.{rest}", grouped(digits))
}

/// As [`yuan`] with a sign also above zero.
pub(super) fn signed_yuan(fen: i64) -> String {
    if fen > 0 { format!("+{}", yuan(fen)) } else { yuan(fen) }
}

/// A number with marks between thousands.
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An age in words: `12 秒`, `3 min`, `2 d`.
pub(super) fn age(ui: &Ui, age_ms: i64) -> String {
    let (key, number) = in_largest_unit(age_ms, ["age.seconds", "age.minutes", "age.hours", "age.days"]);
    ui.t_args(key, &[("n", &number.to_string())])
}

/// Name of a campus as shown, or its number.
pub(super) fn campus_name(registry: &RegistryView, campus: Option<CampusId>) -> String {
    match campus {
        None => "–".into(),
        Some(campus) => registry.campuses.get(&campus).map_or_else(|| campus.to_string(), |c| c.name.clone()),
    }
}

/// Name of a box as shown, or its number.
pub(super) fn node_name(ui: &Ui, registry: &RegistryView, node: NodeId) -> String {
    if node.is_hub() {
        return ui.t("word.headquarters").to_owned();
    }
    let record = registry.current(node).and_then(|writer| registry.nodes.get(&writer));
    record.map_or_else(|| node.to_string(), |record| record.name.clone())
}

/// Name of a terminal as shown, or its number.
pub(super) fn terminal_name(registry: &RegistryView, terminal: TerminalId) -> String {
    registry.terminals.get(&terminal).map_or_else(|| terminal.to_string(), |t| t.name.clone())
}

/// All campuses for a drop-down list.
pub(super) fn campus_choices(registry: &RegistryView) -> Vec<Choice> {
    registry.campuses.values().map(|c| Choice { value: c.campus.to_string(), text: c.name.clone() }).collect()
}

/// Entries of a drop-down list whose words are `prefix.value`.
pub(super) fn choices(ui: &Ui, prefix: &str, values: &[&str]) -> Vec<Choice> {
    let choice = |value: &&str| Choice {
        value: (*value).to_owned(),
        text: ui.t(&format!("{prefix}.{}", if value.is_empty() { "all" } else { value })).to_owned(),
    };
    values.iter().map(choice).collect()
}

/// The language of files and their errors.
pub(super) fn file_lang(ui: &Ui) -> import::Lang {
    match ui.lang {
        Lang::Zh => import::Lang::Zh,
        Lang::En => import::Lang::En,
    }
}

/// Beginning of the civil day of a moment, by headquarters' clock.
pub(super) fn midnight_ms(ui: &Ui, utc_ms: i64) -> i64 {
    day_begins_ms(ui, civil::civil(utc_ms, ui.kit.utc_offset_minutes).day)
}

/// Beginning of a civil day by headquarters' clock.
pub(super) fn day_begins_ms(ui: &Ui, day: Day) -> i64 {
    i64::from(day.0) * DAY_MS - i64::from(ui.kit.utc_offset_minutes) * 60_000
}

/// A date field, `2026-11-24`.
pub(super) fn parse_day(text: &str) -> Option<Day> {
    let (year, rest) = text.trim().split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    Some(civil::day_of(date))
}

/// The beginning of a text, for fields that are only looked for.
pub(super) fn shortened(text: &str) -> String {
    text.trim().chars().take(SEARCH_CHARS_MAX).collect()
}

/// Reason of a refusal in words of the page.
pub(super) fn reason_words(ui: &Ui, code: &str) -> String {
    let reason = yika_crdt::reason::Reason::ALL.into_iter().find(|r| r.code() == code);
    match (reason, ui.lang) {
        (Some(reason), Lang::Zh) => reason.words().0.to_owned(),
        (Some(reason), Lang::En) => reason.words().1.to_owned(),
        (None, _) => code.to_owned(),
    }
}

/// Who acted: a sign-in name, or the command line of the server.
pub(super) fn who_words(ui: &Ui, who: &str) -> String {
    if who == "console" { ui.t("word.console").to_owned() } else { who.to_owned() }
}

/// From where: the address, the command line of the server, or the box at which it was done.
pub(super) fn origin_words(ui: &Ui, registry: &RegistryView, origin: &str) -> String {
    at_box(registry, origin).map_or_else(|| who_words(ui, origin), |node| node_name(ui, registry, node))
}

/// The box at which something was done, if it was at one.
pub(super) fn at_box(registry: &RegistryView, origin: &str) -> Option<NodeId> {
    let node = origin.strip_prefix('n').and_then(|number| number.parse().ok().map(NodeId))?;
    registry.current(node).map(|_| node)
}

/// The detail of a line of the audit in words: facts by name, in the page's language where the name is known.
pub(super) fn detail_words(ui: &Ui, detail: &str) -> String {
    let said = |piece: &str| -> Option<String> {
        let (name, value) = piece.split_once('=')?;
        let key = format!("detail.{name}");
        ui.kit.words.has(&key).then(|| {
            // Roles are called the same everywhere.
            let code = if name == "role" { format!("role.{value}") } else { format!("{key}.{value}") };
            match (ui.kit.words.has(&code), name) {
                // Words for a sum that is no figure.
                (true, "sum") => ui.t(&code).to_owned(),
                (true, _) => ui.t_args(&key, &[("v", ui.t(&code))]),
                (false, _) => ui.t_args(&key, &[("v", value)]),
            }
        })
    };
    // A reason is an operator's own text and may hold what separates facts: what is no fact belongs to the one before.
    let mut words: Vec<String> = Vec::new();
    for piece in detail.split("; ") {
        match (said(piece), words.last_mut()) {
            (Some(fact), _) => words.push(fact),
            (None, Some(last)) => last.extend(["; ", piece]),
            (None, None) => words.push(piece.to_owned()),
        }
    }
    words.join(" · ")
}

/// What was done, as the audit or a box's journal calls it.
pub(super) fn act_words(ui: &Ui, act: &str) -> String {
    let key = format!("act.{act}");
    if ui.kit.words.has(&key) { ui.t(&key).to_owned() } else { act.to_owned() }
}

/// Something with a name, and its code where that says more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) code: String,
}

impl Named {
    fn of(name: impl Into<String>, code: impl ToString) -> Named {
        Named { name: name.into(), code: code.to_string() }
    }

    fn plain(text: &str) -> Named {
        Named { name: text.to_owned(), code: String::new() }
    }
}

/// An outlet in words: the registry has no names of outlets, only numbers.
pub(super) fn outlet_words(ui: &Ui, outlet: OutletId) -> Named {
    Named::of(ui.t_args("word.outlet", &[("n", &outlet.0.to_string())]), outlet)
}

/// A merchant in words.
pub(super) fn merchant_words(ui: &Ui, merchant: MerchantId) -> Named {
    Named::of(ui.t_args("word.merchant", &[("n", &merchant.0.to_string())]), merchant)
}

/// What an act was done to: a card by its number, what the registry lists by its name.
pub(super) fn object_words(ui: &Ui, registry: &RegistryView, object: &str) -> Named {
    if let Some(card) = object.strip_prefix("card ") {
        return Named::plain(&ui.t_args("block.card", &[("card", card)]));
    }
    let id = object.split_once('@').map_or(object, |(node, _)| node);
    if let Ok(node) = id.parse::<NodeId>()
        && registry.current(node).is_some()
        && id.starts_with('n')
    {
        return Named::of(node_name(ui, registry, node), object);
    }
    if let Some(campus) = object.strip_prefix('c').and_then(|_| object.parse().ok())
        && let Some(campus) = registry.campuses.get(&campus)
    {
        return Named::of(campus.name.clone(), object);
    }
    if let Some(terminal) = object.strip_prefix('t').and_then(|_| object.parse().ok())
        && let Some(terminal) = registry.terminals.get(&terminal)
    {
        return Named::of(terminal.name.clone(), object);
    }
    Named::plain(object)
}

/// A wallet's name in words.
pub(super) fn wallet_words(ui: &Ui, wallet: &str) -> String {
    let (kind, rest) = wallet.split_once('-').unwrap_or((wallet, ""));
    let word = ui.t(match kind {
        "main" => "wallet.main",
        "subsidy" => "wallet.subsidy",
        "meal" => "wallet.meal",
        "limit" => "wallet.limit",
        "guest" => "wallet.guest",
        "float" => "wallet.float",
        "receivable" => "wallet.receivable",
        _ => return wallet.to_owned(),
    });
    if rest.is_empty() { word.to_owned() } else { format!("{word} {rest}") }
}

/// 16 random bytes in hexadecimal: numbers of forms and jobs.
pub(super) fn draw() -> Result<String, UiError> {
    let mut bytes = [0u8; 16];
    crate::vault::random(&mut bytes).map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    Ok(hex::encode(bytes))
}

/// What somebody keyed as a sum of money, or that it is none, in words.
pub(super) fn keyed_amount(ui: &Ui, text: &str) -> Result<Fen, String> {
    text.trim().parse().map_err(|_| ui.t("top_up.not_an_amount").to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn amounts_have_marks_between_thousands() {
        assert_eq!(yuan(4_823_650), "48,236.50");
        assert_eq!(yuan(-10_000_005), "-100,000.05");
        assert_eq!((yuan(5), yuan(-99_900), signed_yuan(1)), ("0.05".into(), "-999.00".into(), "+0.01".into()));
        assert_eq!((count(999), count(1_000), count(12_846_000)), ("999".into(), "1,000".into(), "12,846,000".into()));
    }

    #[test]
    fn days_are_read_and_refused() {
        assert_eq!(parse_day("2026-11-24").unwrap().to_string(), "2026-11-24");
        for bad in ["", "2026-02-30", "24.11.2026", "2026-11", "x-y-z"] {
            assert_eq!(parse_day(bad), None, "{bad:?}");
        }
    }
}
