//! What terminal and edge say to each other, as JSON. Unknown fields are refused; every text has a longest length.
//!
//! Leaves to others: what the words lead to (the edge), signatures (`sign`), and versions of lists (`list`).

use crate::card_format::{ByteOrder, Form, READER_TEXT_LEN_CHARS_MAX};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use super::list::{BlockLine, CardLine, ListDelta};

/// Largest request body, in bytes.
pub const BODY_LEN_BYTES_MAX: usize = 256 * 1024;
/// Most records of an offline batch.
pub const BATCH_RECORDS_MAX: usize = 200;
/// Longest text of a terminal about itself, in characters.
pub const TEXT_LEN_CHARS_MAX: usize = 64;
/// Where all routes of this version stand.
pub const PREFIX: &str = "/terminal/v1";

/// The idempotency key of a sale or refund: the same key gets the first answer again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleId {
    /// The terminal that made the key.
    pub terminal: u32,
    /// Raised by the terminal whenever it lost its counter (factory reset, replaced memory).
    pub boot: u32,
    /// Counted from 1 within a boot, over sales, refunds and reversals alike.
    pub seq: u32,
}

/// A card as presented.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PresentedCard {
    /// The printed card number (卡号).
    Number {
        /// The number.
        number: u64,
    },
    /// The chip's UID as read, 4 or 7 bytes in transmission order.
    Uid {
        /// 8 or 14 lower-case hexadecimal digits.
        #[serde(deserialize_with = "bounded::<_, 14>")]
        #[schema(max_length = 14, example = "0b3e3636")]
        uid: String,
    },
    /// What a keyboard-wedge or Wiegand reader delivers.
    Reader {
        /// The text.
        #[serde(deserialize_with = "bounded::<_, READER_TEXT_LEN_CHARS_MAX>")]
        #[schema(max_length = 64, example = "0188626486")]
        text: String,
        /// How the reader writes numbers.
        form: Form,
        /// The reader's byte order.
        byte_order: ByteOrder,
    },
}

impl PresentedCard {
    /// The chip number in the form that card records hold: 4 bytes big-endian, or 7 bytes big-endian.
    /// `None` for a printed number, and for a text that is not in its form or does not carry the whole number.
    pub fn chip(&self) -> Option<u64> {
        match self {
            PresentedCard::Number { .. } => None,
            PresentedCard::Uid { uid } => {
                let bytes = hex::decode(uid)
                    .ok()
                    .filter(|_| !uid.bytes().any(|b| b.is_ascii_uppercase()))
                    .filter(|bytes| matches!(bytes.len(), 4 | 7))?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            PresentedCard::Reader { text, form, byte_order } => {
                let read = form.parse(text).ok()?;
                let read = if *byte_order == ByteOrder::Reversed { read.reversed() } else { read };
                read.number().map(u64::from)
            }
        }
    }
}

/// How the sum of a sale is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SaleMode {
    /// The cashier keys the sum.
    Amount {
        /// In fen, above zero.
        fen: i64,
    },
    /// The price of the current period for the holder's category.
    Fixed {},
    /// Unit price times portions.
    Portions {
        /// Price of one, in fen.
        unit_fen: i64,
        /// How many, 1..=99.
        portions: u8,
    },
    /// One meal is counted, no money moves.
    Count {},
}

/// A sale. On `purchase` the edge decides; in a `batch` the terminal has decided and this is a fact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Purchase {
    /// Its key.
    pub id: SaleId,
    /// The card.
    pub card: PresentedCard,
    /// How the sum is found.
    pub mode: SaleMode,
    /// When, by the terminal's clock, milliseconds since 1970.
    pub time_ms: i64,
    /// Version of the tariff that the terminal showed, if it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tariff: Option<u32>,
}

/// The outcome of a sale is unknown: undo it, whether or not it was made. Repeated until answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reversal {
    /// Its own key.
    pub id: SaleId,
    /// The sale of the same terminal.
    pub of: SaleId,
}

/// Why money goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// The cashier keyed a wrong sum (纠错).
    Correction,
    /// The goods came back (退货).
    Refund,
}

/// Money back for a sale, all or part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// Its own key.
    pub id: SaleId,
    /// The sale.
    pub of: SaleId,
    /// Why.
    pub reason: RefundReason,
    /// How much in fen; all that is left when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fen: Option<i64>,
    /// The cashier's number as headquarters gave it, without its letters; 0 while nobody is signed in at the terminal.
    /// A number that the box does not know is refused as `unknown_operator`.
    pub operator: u32,
}

/// A text in both languages.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Words {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

impl Words {
    /// Pairs the two.
    pub fn new(zh: impl Into<String>, en: impl Into<String>) -> Words {
        Words { zh: zh.into(), en: en.into() }
    }
}

/// What became of a request about money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Sold.
    Approved,
    /// Not sold, not given back.
    Refused,
    /// Given back.
    Refunded,
    /// The sale does not exist and never will.
    Voided,
}

/// The answer to `purchase`, `reversal` and `refund`; durable at the edge before it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SaleAnswer {
    /// The key of the request.
    pub id: SaleId,
    /// What became of it.
    pub decision: Decision,
    /// Code of the refusal, from the closed list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "not_enough")]
    pub reason: Option<String>,
    /// Charged (or, when refunded, given back) in fen; 0 when refused.
    pub fen: i64,
    /// What this box can still charge off line, in fen, all wallets: a share of the holder's money, not the balance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance_fen: Option<i64>,
    /// The holder's name with its middle masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The holder's category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<u16>,
    /// For the cashier's display.
    pub cashier_text: Words,
    /// For the holder's display.
    pub holder_text: Words,
    /// Number to print on a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Tariff version of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tariff: Option<u32>,
    /// Business day, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The edge's clock.
    pub server_time_ms: i64,
}

/// Sales decided by the terminal alone, ordered by boot and sequence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 200.
    #[schema(max_items = 200)]
    pub records: Vec<Purchase>,
}

/// What became of one record of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// Taken in.
    New,
    /// Was taken in before.
    Seen,
    /// Not taken in as a sale; journaled with its reason.
    Refused,
}

/// The answer to one record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordAnswer {
    /// Its key.
    pub id: SaleId,
    /// What became of it.
    pub state: RecordState,
    /// Code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// In the order of the records; fewer when the edge had to stop.
    pub records: Vec<RecordAnswer>,
    /// Every record of the batch up to and including this one is answered: the terminal deletes those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_through: Option<SaleId>,
    /// The edge stopped before the end: send the rest again.
    pub stopped: bool,
    /// The edge's clock.
    pub server_time_ms: i64,
}

/// A terminal says who it is and what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Maker and model.
    #[serde(deserialize_with = "bounded::<_, TEXT_LEN_CHARS_MAX>")]
    #[schema(max_length = 64)]
    pub model: String,
    /// Version of its software.
    #[serde(deserialize_with = "bounded::<_, TEXT_LEN_CHARS_MAX>")]
    #[schema(max_length = 64)]
    pub firmware: String,
}

/// Whether a terminal may work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Works.
    Deployed,
    /// Must lock itself until deployed again.
    Suspended,
    /// Never again.
    Scrapped,
}

/// Versions at the edge; a terminal that holds another one asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// Of the parameters (the tariff version); 0 when there are none.
    pub parameters: u32,
    /// Of the block list.
    pub blocks: u64,
    /// Of the card list.
    pub cards: u64,
}

/// The answer to a sign-in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// The terminal's name as registered.
    pub name: String,
    /// Its campus.
    pub campus: u16,
    /// Where it sells.
    pub outlet: u32,
    /// For whom.
    pub merchant: u32,
    /// Version of the key in use.
    pub key_version: u16,
    /// Highest sequence of this boot that the edge knows; the terminal goes on after it.
    pub last_seq: u32,
    /// What to fetch.
    pub versions: Versions,
    /// The edge's clock: the terminal sets its own by it.
    pub server_time_ms: i64,
    /// How far the terminal's clock was ahead, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// The state of a terminal, sent every few seconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Records not yet uploaded.
    pub backlog: u32,
    /// How full the record storage is, 0..=100.
    #[schema(maximum = 100)]
    pub storage_percent: u8,
    /// Battery, 0..=100, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub battery_percent: Option<u8>,
    /// The printer works and has paper; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printer_ready: Option<bool>,
    /// What the terminal holds.
    pub held: HeldVersions,
}

/// Versions held by a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldVersions {
    /// Parameters.
    pub parameters: u32,
    /// Block list.
    pub blocks: u64,
    /// Card list.
    pub cards: u64,
}

/// The answer to a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatAnswer {
    /// A terminal that is not deployed locks itself.
    pub standing: Standing,
    /// What to fetch.
    pub versions: Versions,
    /// The edge's clock.
    pub server_time_ms: i64,
    /// How far the terminal's clock was ahead, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// The edge's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeAnswer {
    /// Milliseconds since 1970 (UTC).
    pub server_time_ms: i64,
    /// How far the terminal's clock was ahead, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// A card at a reader that the edge decides for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Swipe {
    /// The card.
    pub card: PresentedCard,
}

/// The answer to a swipe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SwipeAnswer {
    /// The door was told to open.
    pub opened: bool,
    /// Which door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<u32>,
    /// Code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The holder's name with its middle masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// For the reader's display.
    pub text: Words,
    /// The edge's clock.
    pub server_time_ms: i64,
}

/// Count and sum of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct KindTotal {
    /// How many.
    pub count: u32,
    /// Their sum in fen.
    pub fen: i64,
}

/// One sequence number as the edge knows it, to find differences by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TotalLine {
    /// The sequence number.
    pub seq: u32,
    /// What became of it.
    pub decision: Decision,
    /// Its amount in fen.
    pub fen: i64,
}

/// What the edge holds of one boot of a terminal: on the open business day, or from a number on (a shift).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Of this boot.
    pub boot: u32,
    /// Highest sequence known.
    pub last_seq: u32,
    /// Numbers from this one on were looked at; a boot with more is not counted whole.
    pub from_seq: u32,
    /// Sales decided by the edge.
    pub online: KindTotal,
    /// Sales decided by the terminal.
    pub offline: KindTotal,
    /// Given back: refunds, corrections and reversals.
    pub refunds: KindTotal,
    /// Refusals.
    pub refused: u32,
    /// The newest sequence numbers in ascending order, at most [`TOTAL_LINES_MAX`].
    pub lines: Vec<TotalLine>,
}

/// Most lines of a totals answer.
pub const TOTAL_LINES_MAX: usize = 2_000;

/// The answer to `parameters`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ParametersAnswer {
    /// Version at the edge.
    pub version: u32,
    /// Absent when the terminal holds this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// SHA-256 of the canonical JSON of the parameters of this version, for comparison between terminals.
    pub hash: String,
    /// The edge's clock.
    pub server_time_ms: i64,
}

/// Prices and limits as far as they concern one terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Parameters {
    /// Meal periods.
    pub periods: Vec<Period>,
    /// Fixed prices; the most specific row wins: outlet before category before period.
    pub fixed: Vec<FixedPrice>,
    /// Categories that may not spend here.
    pub barred: Vec<u16>,
    /// Caps by category.
    pub limits: Vec<LimitLine>,
    /// The same card and amount within so many seconds is refused; 0 = off.
    pub repeat_tap_seconds: u8,
}

/// A meal period; may cross midnight.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// Its number.
    pub period: u8,
    /// Its name.
    pub name: String,
    /// First minute of the day.
    pub from_minute: u16,
    /// First minute after it.
    pub until_minute: u16,
}

/// A fixed price; absent fields match everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FixedPrice {
    /// The row is for this terminal's outlet alone.
    pub this_outlet: bool,
    /// Only this category.
    pub category: Option<u16>,
    /// Only in this period.
    pub period: Option<u8>,
    /// In fen.
    pub fen: i64,
}

/// Caps of a category.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitLine {
    /// The category; absent for all without a line of their own.
    pub category: Option<u16>,
    /// Largest single purchase, in fen.
    pub per_purchase_fen: Option<i64>,
    /// Largest sum in a meal period, in fen.
    pub per_meal_fen: Option<i64>,
    /// Largest sum in a business day, in fen.
    pub per_day_fen: Option<i64>,
    /// Most purchases in a meal period; 0 = no cap.
    pub times_per_meal: u8,
    /// Most purchases in a business day; 0 = no cap.
    pub times_per_day: u8,
}

/// Every answer that is not 200.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable word.
    #[schema(example = "bad_signature")]
    pub code: String,
    /// What is wrong.
    pub message: Words,
    /// What to do.
    pub mend: Words,
    /// The edge's clock.
    pub server_time_ms: i64,
}

/// Reads a text of at most `MAX` characters.
fn bounded<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.chars().count() > MAX {
        return Err(serde::de::Error::custom(format_args!("text longer than {MAX} characters")));
    }
    Ok(text)
}
