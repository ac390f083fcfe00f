//! Money out at headquarters: withdrawals, top-ups undone, sales given back, rights of a dead box, sizes of pools
//! (ACC-2, POS-16).
//!
//! Leaves to others: top-ups (`people`), what may be done (`core`).

use super::{Actor, Desk, DeskError, facts, refused};
use crate::clock::wall_ms;
use crate::core::{
    self, Command, PoolSizes, Reply, Teller, refund_source, top_up_source, undo_source, withdrawal_source,
};
use crate::ledger::wallet_name;
use crate::refusal::{AtBox, BoxLine, Refusal};
use crate::store::transactions::{self, SaleRow};
use crate::store::{TableRow, VoucherRow, statement};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::entry::{RefundKind, Source, WalletKey};
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;

/// A shift lasts a day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;
/// Longest request number, in characters.
pub(super) const REQUEST_CHARS_MAX: usize = 64;
/// How long a withdrawal waits for boxes to give rights back.
const GIVE_BACK_MS_MAX: u64 = 5_000;
const ASK_AGAIN_MS: u64 = 100;
/// Longest reason that an operator gives, in characters.
pub const REASON_CHARS_MAX: usize = 200;
/// Largest pool of a box, and largest float of a terminal.
pub const POOL_FEN_MAX: i64 = 10_000_000;

/// Who takes or gives money: until tellers sign on, a shift is an operator's day by headquarters' civil time.
pub fn teller(actor: &Actor) -> Teller {
    let civil_ms = wall_ms() + i64::from(core::HUB_UTC_OFFSET_MINUTES) * 60_000;
    Teller { operator: actor.operator, shift: civil_ms.div_euclid(DAY_MS).unsigned_abs() }
}

/// A reason in an operator's words.
pub(super) fn reason_of(text: &str, needed: bool) -> Result<String, DeskError> {
    let text = text.trim();
    match text.chars().count() {
        0 if needed => refused(Refusal::ReasonMissing { chars_max: REASON_CHARS_MAX }),
        chars if chars > REASON_CHARS_MAX || text.chars().any(char::is_control) => {
            refused(Refusal::ReasonMissing { chars_max: REASON_CHARS_MAX })
        }
        _ => Ok(text.to_owned()),
    }
}

/// The id of a movement from the number that the asker gave it.
pub(super) fn request_id(what: &str, request: &str) -> Result<Hash, DeskError> {
    match request.chars().count() {
        1..=REQUEST_CHARS_MAX => Ok(feed::digest(&format!("yika {what} request 1"), request.as_bytes())),
        _ => refused(Refusal::RequestNumber { chars_max: REQUEST_CHARS_MAX }),
    }
}

/// The voucher of a movement, without a reason.
pub(super) fn voucher(actor: &Actor, kind: &str, source: Hash, object: impl ToString, request: &str) -> VoucherRow {
    VoucherRow {
        source,
        kind: kind.to_owned(),
        object: object.to_string(),
        request: request.to_owned(),
        of: None,
        reason: String::new(),
        who: actor.who.clone(),
        by: teller(actor),
        at_ms: wall_ms(),
    }
}

/// A sale to be given back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundWish {
    /// The sale.
    pub sale: PurchaseId,
    /// How much, in fen; everything that is left when absent.
    pub fen: Option<i64>,
    /// A keyed sum was wrong; else the goods came back.
    pub correction: bool,
    /// Number made by the asker: the same is posted once.
    pub request: String,
    /// Why, in the operator's words.
    #[serde(default)]
    pub reason: String,
}

/// What was given back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GivenBack {
    /// To all sources together, in fen.
    pub fen: i64,
    /// It was a counted meal, which is no money.
    #[serde(default)]
    pub meal: bool,
    /// It had been posted before.
    pub repeated: bool,
}

/// What a payment, or what undoes one, left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaidOut {
    /// Everything the person can spend now, in fen.
    pub left_fen: i64,
    /// It had been posted before, and was not posted again.
    pub repeated: bool,
}

impl Desk {
    /// Pays money out to a person; what boxes hold is called back first, and waited for. Gives what is left.
    ///
    /// # Errors
    /// So much is not there or does not come back, the number was used for something else, or the hub cannot serve.
    pub async fn withdraw(
        &self,
        actor: &Actor,
        person: PersonId,
        amount: Fen,
        request: &str,
        reason: &str,
    ) -> Result<PaidOut, DeskError> {
        self.reachable(actor, person)?;
        let (id, reason) = (request_id("withdrawal", request)?, reason_of(reason, false)?);
        let voucher = VoucherRow { reason, ..voucher(actor, "withdrawal", withdrawal_source(&id), person, request) };
        let command = Command::Withdraw { id, person, amount, by: voucher.by };
        let detail = facts(&[("sum", &amount.to_string()), ("request", request), ("reason", &voucher.reason)]);
        self.pay_out(actor, "account.withdraw", (person, detail), command, voucher).await
    }

    /// Undoes a top-up whole: only who took it, in the shift in which he took it. Gives what the person has left.
    ///
    /// # Errors
    /// As [`Desk::withdraw`], it is somebody else's, or the reason is missing.
    pub async fn undo_top_up(&self, actor: &Actor, request: &str, reason: &str) -> Result<PaidOut, DeskError> {
        let (of, reason) = (request_id("top-up", request)?, reason_of(reason, true)?);
        let source = top_up_source(&of);
        let person = self.node.query(move |conn| statement::person_of(conn, &source)).await?;
        let Some(person) = person.map(PersonId) else { return refused(Refusal::UnknownTopUp {}) };
        self.reachable(actor, person)?;
        let voucher = voucher(actor, "undo", undo_source(&of), person, request);
        let voucher = VoucherRow { of: Some(source), reason, ..voucher };
        let command = Command::UndoTopUp { of, by: voucher.by };
        let detail = facts(&[("request", request), ("reason", &voucher.reason)]);
        self.pay_out(actor, "account.undo_top_up", (person, detail), command, voucher).await
    }

    async fn pay_out(
        &self,
        actor: &Actor,
        act: &str,
        (person, detail): (PersonId, String),
        command: Command,
        voucher: VoucherRow,
    ) -> Result<PaidOut, DeskError> {
        let until = tokio::time::Instant::now() + Duration::from_millis(GIVE_BACK_MS_MAX);
        let object = person.to_string();
        let rows = vec![TableRow::Voucher(voucher)];
        loop {
            match self.act(actor, act, object.clone(), detail.clone(), command.clone(), rows.clone()).await {
                Ok(Reply::Paid { left, repeated }) => return Ok(PaidOut { left_fen: left.0, repeated }),
                Ok(Reply::Short { .. }) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(ASK_AGAIN_MS)).await;
                }
                Ok(Reply::Short { available, .. }) | Err(DeskError::Refused(Refusal::NotEnough { available })) => {
                    return self.short(person, available).await;
                }
                Ok(other) => return Err(DeskError::Busy(format!("the core answered a payment with {other:?}"))),
                Err(other) => return Err(other),
            }
        }
    }

    /// Why no more than that is paid out: the rest lies at boxes, or there is none.
    async fn short(&self, person: PersonId, available: Fen) -> Result<PaidOut, DeskError> {
        let main = wallet_name(WalletKey::Main);
        let holding = self.holding(person)?;
        let wallet = holding.wallets.iter().find(|wallet| wallet.wallet == main);
        let (registry, edges) = (self.node.registry(), self.edges().await?);
        let lying = wallet.iter().flat_map(|wallet| &wallet.at_boxes).filter(|(_, right, _)| *right > 0);
        let out = lying.map(|(writer, right, suspended)| {
            let view = edges.iter().find(|edge| edge.writer == writer.to_string());
            let line = match view {
                _ if *suspended => BoxLine::Fenced,
                Some(view) if view.connected => BoxLine::Connected,
                view => BoxLine::Silent(view.and_then(|view| view.heard_age_ms)),
            };
            let name = registry.nodes.get(writer).map_or_else(|| writer.to_string(), |life| life.name.clone());
            AtBox { name, sum: Fen(*right), line }
        });
        match out.collect::<Vec<_>>() {
            none if none.is_empty() => refused(Refusal::NotEnough { available }),
            out => refused(Refusal::AtBoxes { available, out }),
        }
    }

    /// Gives a sale back when the box that sold no longer may: its day is cut, or it is fenced.
    ///
    /// # Errors
    /// The sale is not known, the box still may, not so much is left of it, or the hub cannot serve.
    pub async fn refund(&self, actor: &Actor, wish: &RefundWish) -> Result<GivenBack, DeskError> {
        let campus = self.node.registry().terminals.get(&wish.sale.terminal).map(|t| t.campus);
        match campus {
            Some(campus) => actor.may_touch(campus)?,
            None => return refused(Refusal::UnknownTerminal { terminal: wish.sale.terminal }),
        }
        let (id, reason) = (request_id("refund", &wish.request)?, reason_of(&wish.reason, true)?);
        let kind = if wish.correction { RefundKind::Correction } else { RefundKind::Refund };
        let amount = wish.fen.map(Fen);
        let command = Command::Refund { id, of: wish.sale, kind, amount, operator: actor.operator };
        let sum = amount.map_or_else(|| "rest".to_owned(), |amount| amount.to_string());
        let kind = if wish.correction { "correction" } else { "refund" };
        let voucher = VoucherRow { reason, ..voucher(actor, "refund", refund_source(&id), wish.sale, &wish.request) };
        let detail = facts(&[("sum", &sum), ("kind", kind), ("request", &wish.request), ("reason", &voucher.reason)]);
        let rows = vec![TableRow::Voucher(voucher)];
        match self.act(actor, "sale.refund", wish.sale.to_string(), detail, command, rows).await? {
            Reply::Refunded { back, repeated } => {
                let sum = Fen::sum(back.iter().map(|(_, fen): &(Source, Fen)| *fen));
                let sum = sum.map_err(|e| DeskError::Busy(format!("the sum given back: {e}")))?;
                let meal = sum == Fen::ZERO && self.is_counted_meal(wish.sale).await;
                Ok(GivenBack { fen: sum.0, meal, repeated })
            }
            other => Err(DeskError::Busy(format!("the core answered a refund with {other:?}"))),
        }
    }

    /// For words only: what is booked stays so where it cannot be read.
    async fn is_counted_meal(&self, id: PurchaseId) -> bool {
        let sales = self.node.query(move |conn| transactions::sales_of(conn, id)).await;
        sales.is_ok_and(|sales| sales.iter().any(SaleRow::is_counted))
    }

    /// Gives holders back what a fenced box had of their money before it is safe; the worst case is booked to `loss`.
    ///
    /// # Errors
    /// The box is not fenced, or the hub cannot serve.
    pub async fn release_suspense(&self, actor: &Actor, node: NodeId) -> Result<Writer, DeskError> {
        let registry = self.node.registry();
        let Some(writer) = registry.fences.keys().rev().find(|w| w.node == node).copied() else {
            return refused(Refusal::NotFenced { node });
        };
        if let Some(campus) = registry.nodes.get(&writer).and_then(|n| n.campus) {
            actor.may_touch(campus)?;
        }
        let command = Command::ReleaseSuspense { writer, operator: actor.operator };
        self.act(actor, "edge.release_suspense", writer.to_string(), String::new(), command, Vec::new()).await?;
        Ok(writer)
    }

    /// How large the pools of every box are.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn pools(&self) -> Result<PoolSizes, DeskError> {
        Ok(self.node.look_off_thread(|store| core::pool_sizes(store)).await?)
    }

    /// Sets how large the pools of every box are; they are filled up to it when next served, never emptied.
    ///
    /// # Errors
    /// A size is out of range, or the hub cannot serve.
    pub async fn set_pools(&self, actor: &Actor, sizes: PoolSizes) -> Result<(), DeskError> {
        if actor.campus.is_some() {
            return refused(Refusal::PoolsOfHeadquarters {});
        }
        if sizes.guest.0.max(sizes.float.0) > POOL_FEN_MAX {
            return refused(Refusal::PoolTooLarge { most: Fen(POOL_FEN_MAX) });
        }
        let detail = facts(&[("guest", &sizes.guest.to_string()), ("float", &sizes.float.to_string())]);
        self.act(actor, "pools.set", "pools".to_owned(), detail, Command::Pools(sizes), Vec::new()).await?;
        Ok(())
    }
}
