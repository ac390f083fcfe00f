//! Cards and money of people: top-up, loss and lift, what a person holds (CRD-6, CRD-8, ACC-1, ACC-2).

use super::money::{request_id, voucher};
use super::{Actor, Desk, DeskError, facts, refused};
use crate::core::{Command, Reply, top_up_source};
use crate::refusal::Refusal;
use crate::rights::{PersonWallets, is_money};
use crate::store::TableRow;
use serde::Serialize;
use yika_crdt::Fen;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::person::Person;

/// Most that one top-up brings (customary cap of a named prepaid account: 5,000 yuan).
pub const TOP_UP_FEN_MAX: i64 = 500_000;

/// What a person has, and where it lies.
#[derive(Clone, Debug, Serialize)]
pub struct Holding {
    /// Each wallet.
    pub wallets: Vec<WalletView>,
    /// Everything that can be spent somewhere.
    pub total_fen: i64,
    /// Owed: facts beyond right.
    pub receivable_fen: i64,
}

/// One wallet.
#[derive(Clone, Debug, Serialize)]
pub struct WalletView {
    /// Its name: `main`, `subsidy-7` …
    pub wallet: String,
    /// Paid in less paid out.
    pub paid_in_fen: i64,
    /// Still at headquarters.
    pub available_fen: i64,
    /// At boxes: life, granted and not spent, fenced.
    pub at_boxes: Vec<(Writer, i64, bool)>,
    /// Spent less given back.
    pub spent_fen: i64,
}

impl Desk {
    /// Pays money in for a person. The same request number is posted once.
    ///
    /// # Errors
    /// When the amount or person is not right, the number was used for something else, or the hub cannot serve.
    pub async fn top_up(
        &self,
        actor: &Actor,
        person: PersonId,
        amount: Fen,
        request: &str,
    ) -> Result<(Fen, bool), DeskError> {
        self.reachable(actor, person)?;
        if !amount.is_positive() || amount.0 > TOP_UP_FEN_MAX {
            return refused(Refusal::TopUpRange { most: Fen(TOP_UP_FEN_MAX) });
        }
        let id = request_id("top-up", request)?;
        let detail = facts(&[("sum", &amount.to_string()), ("request", request)]);
        let voucher = voucher(actor, "top_up", top_up_source(&id), person, request);
        let command = Command::TopUp { id, person, amount, by: voucher.by };
        let rows = vec![TableRow::Voucher(voucher)];
        match self.act(actor, "account.top_up", person.to_string(), detail, command, rows).await? {
            Reply::ToppedUp { total, repeated } => Ok((total, repeated)),
            other => Err(DeskError::Busy(format!("the core answered a top-up with {other:?}"))),
        }
    }

    /// Reports a card or a person lost, frozen or cancelled: refused everywhere from the moment each node hears it.
    ///
    /// # Errors
    /// When the target is not known, or the hub cannot serve.
    pub async fn block(&self, actor: &Actor, target: BlockTarget, reason: BlockReason) -> Result<(), DeskError> {
        self.may_block(actor, target)?;
        let record = BlockRecord { target, reason, operator: actor.operator };
        let detail = facts(&[("block", &format!("{reason:?}").to_lowercase())]);
        self.act(actor, "card.block", target_name(target), detail, Command::Block(record), Vec::new()).await?;
        Ok(())
    }

    /// Lifts every open block on the target; how many there were.
    ///
    /// # Errors
    /// As [`Desk::block`].
    pub async fn lift(&self, actor: &Actor, target: BlockTarget) -> Result<usize, DeskError> {
        self.may_block(actor, target)?;
        let command = Command::Lift { target, operator: actor.operator };
        match self.act(actor, "card.lift", target_name(target), String::new(), command, Vec::new()).await? {
            Reply::Lifted(count) => Ok(count),
            other => Err(DeskError::Busy(format!("the core answered a lift with {other:?}"))),
        }
    }

    /// What a person holds.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub fn holding(&self, person: PersonId) -> Result<Holding, DeskError> {
        let wallets: PersonWallets = self.node.row(&keys::rights(person))?.unwrap_or_default();
        let sums = |e: yika_crdt::fen::FenError| DeskError::Busy(format!("the sums of {person}: {e}"));
        let mut views = Vec::new();
        let mut receivable = Fen::ZERO;
        for (key, wallet) in wallets.wallets.iter().filter(|(key, _)| is_money(**key)) {
            let mut at_boxes = Vec::new();
            for (writer, replica) in &wallet.replicas {
                at_boxes.push((*writer, replica.right().map_err(sums)?.0, replica.suspended));
            }
            receivable = receivable.add(wallet.owed().map_err(sums)?).map_err(sums)?;
            views.push(WalletView {
                wallet: crate::ledger::wallet_name(*key),
                paid_in_fen: wallet.deposits.sub(wallet.withdrawals).map_err(sums)?.0,
                available_fen: wallet.available().map_err(sums)?.0,
                at_boxes,
                spent_fen: wallet.spent().map_err(sums)?.0,
            });
        }
        let total = wallets.total().map_err(|e| DeskError::Busy(e.to_string()))?;
        Ok(Holding { wallets: views, total_fen: total.0, receivable_fen: receivable.0 })
    }

    /// A person as replicated.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub fn person(&self, person: PersonId) -> Result<Option<Person>, DeskError> {
        Ok(self.node.row(&keys::person(person))?)
    }

    pub(super) fn reachable(&self, actor: &Actor, person: PersonId) -> Result<(), DeskError> {
        let home = self.node.people.read().holder(person).map(|h| h.home);
        match home {
            Some(home) => actor.may_touch(home),
            None => refused(Refusal::UnknownPerson { person }),
        }
    }

    fn may_block(&self, actor: &Actor, target: BlockTarget) -> Result<(), DeskError> {
        let person = match target {
            BlockTarget::Person(person) => Some(person),
            BlockTarget::Card(card) => self.node.people.read().person_of(card),
        };
        match person {
            Some(person) => self.reachable(actor, person),
            None => refused(Refusal::UnknownTarget { target }),
        }
    }
}

fn target_name(target: BlockTarget) -> String {
    match target {
        BlockTarget::Card(card) => format!("card {card}"),
        BlockTarget::Person(person) => person.to_string(),
    }
}
