//! The one table of routes: the router, the OpenAPI document and the readable page are made from it.
//!
//! Leaves to others: what a route does (`sell`, `tell`, `totals`, `lists`).

use axum::routing::MethodFilter;
use yika_crdt::entry::TerminalKind;
use yika_drivers::terminal::message::BODY_LEN_BYTES_MAX;

/// Largest body of a route that takes no batch, in bytes.
pub const SMALL_BODY_LEN_BYTES_MAX: usize = 4 * 1024;

/// What a terminal may ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Route {
    /// Mutual check, time, versions (TRM-7).
    SignIn,
    /// The edge's clock (TRM-10).
    Time,
    /// State told, versions learnt (TRM-3).
    Heartbeat,
    /// Periods, prices, limits (TRM-4).
    Parameters,
    /// Refused cards (TRM-5).
    Blocks,
    /// Cards that may be served alone (TRM-6).
    Cards,
    /// A sale that the edge decides.
    Purchase,
    /// A sale of unknown outcome is undone (POS-21).
    Reversal,
    /// Money back (POS-20, 22).
    Refund,
    /// Sales that the terminal decided (TRM-8).
    Batch,
    /// Count and sum of the day or shift (POS-28).
    Totals,
    /// A card at a door reader.
    Swipe,
}

use Route::*;

impl Route {
    /// Every route.
    pub const ALL: [Route; 12] =
        [SignIn, Time, Heartbeat, Parameters, Blocks, Cards, Purchase, Reversal, Refund, Batch, Totals, Swipe];

    /// Below the prefix.
    pub fn path(self) -> &'static str {
        match self {
            SignIn => "/sign-in",
            Time => "/time",
            Heartbeat => "/heartbeat",
            Parameters => "/parameters",
            Blocks => "/lists/blocks",
            Cards => "/lists/cards",
            Purchase => "/purchase",
            Reversal => "/reversal",
            Refund => "/refund",
            Batch => "/batch",
            Totals => "/totals",
            Swipe => "/swipe",
        }
    }

    /// Reads have no body.
    pub fn is_read(self) -> bool {
        matches!(self, Time | Parameters | Blocks | Cards | Totals)
    }

    /// `GET` or `POST`.
    pub fn method(self) -> &'static str {
        if self.is_read() { "GET" } else { "POST" }
    }

    pub(super) fn filter(self) -> MethodFilter {
        if self.is_read() { MethodFilter::GET } else { MethodFilter::POST }
    }

    /// Longest body, in bytes.
    pub fn body_len_bytes_max(self) -> usize {
        match self {
            Batch => BODY_LEN_BYTES_MAX,
            _ if self.is_read() => 0,
            _ => SMALL_BODY_LEN_BYTES_MAX,
        }
    }

    /// Whether a terminal of this kind may use it.
    pub fn serves(self, kind: TerminalKind) -> bool {
        match self {
            SignIn | Time | Heartbeat => true,
            Swipe => kind == TerminalKind::Door,
            _ => kind == TerminalKind::Till,
        }
    }

    /// A terminal that is not deployed learns this from a heartbeat, and nothing else is served to it.
    pub fn serves_locked(self) -> bool {
        self == Heartbeat
    }

    /// These set a wrong clock right, so they cannot demand a right one.
    pub fn tolerates_drift(self) -> bool {
        matches!(self, SignIn | Time)
    }

    /// A long read or a long write: few at once, so that sales are not held up.
    pub fn is_heavy(self) -> bool {
        matches!(self, Batch | Blocks | Cards | Totals)
    }

    /// Query parameters, with what they mean: Chinese, English.
    pub fn query(self) -> &'static [(&'static str, bool, (&'static str, &'static str))] {
        match self {
            Parameters | Blocks | Cards => {
                &[("have", false, ("已有的版本;0 或不填:全量", "version held; 0 or absent: everything"))]
            }
            Totals => &[
                ("boot", true, ("启动号", "boot number")),
                (
                    "from",
                    false,
                    (
                        "本班第一个序号;不填:当前营业日",
                        "first sequence number of the shift; absent: the open business day",
                    ),
                ),
            ],
            _ => &[],
        }
    }

    /// One line on what it is for: Chinese, English.
    pub fn summary(self) -> (&'static str, &'static str) {
        match self {
            SignIn => ("签到:双向校验、校时、版本", "Sign in: mutual check, time, versions"),
            Time => ("取服务器时间", "The edge's clock"),
            Heartbeat => ("心跳:上报状态,取版本与启停状态", "Tell the state, learn versions and whether to lock"),
            Parameters => ("参数:餐次、定额、限额、重复刷卡间隔", "Periods, fixed prices, limits, repeat-tap seconds"),
            Blocks => ("黑名单,全量或增量", "Refused cards, whole or by difference"),
            Cards => ("白名单,全量或增量", "Cards to serve alone, whole or by difference"),
            Purchase => ("消费(联机)", "Sell: the edge decides"),
            Reversal => ("冲正:结果不明的消费", "Undo a sale of unknown outcome"),
            Refund => ("纠错或退款", "Correct or refund a sale"),
            Batch => ("脱机流水上传", "Upload sales decided by the terminal"),
            Totals => ("日或班次合计与流水核对", "Totals of the day or shift, to compare"),
            Swipe => ("门禁刷卡", "A card at a door reader"),
        }
    }
}
