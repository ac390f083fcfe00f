//! Purchase, reversal, refund, offline batch, swipe: from the interface's words to the core's and back.
//!
//! Leaves to others: decisions and durability (`node`), doors (`doors`).

use super::Terminals;
use super::gate::Caller;
use super::refusal::{Code, Refusal};
use crate::node::Busy;
use futures::future::join_all;
use yika_crdt::Fen;
use yika_crdt::entry::{Body, Mode, OperatorRecord, PurchaseRecord, RefundKind, RefundRecord};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::people::People;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest, RefundRequest};
use yika_crdt::sold;
use yika_crdt::tariff::{PORTIONS_MAX, PURCHASE_FEN_MAX};
use yika_drivers::terminal::message::*;

/// A chip that no card record names is journaled as this plus the chip number, so that the refusal says what was
/// presented. Above every printed number and every chip of up to 7 bytes.
const UNKNOWN_CHIP: u64 = 1 << 62;

impl Terminals {
    pub(super) async fn purchase(&self, caller: &Caller, asked: Purchase) -> Result<SaleAnswer, Refusal> {
        let id = own_id(caller, asked.id)?;
        let mode = mode_of(asked.mode)?;
        let card = card_of(&self.node.people.read(), &asked.card)?;
        let terminal_time_ms = asked.time_ms;
        let request = PurchaseRequest { id, card, mode, terminal_time_ms, offline: false, tariff: None };
        let answer = self.sell(request, &asked.card).await?;
        self.sale_answer(caller, asked.id, &answer)
    }

    /// Sells; an id that was first asked with a chip that nobody's card had then is asked with it again.
    async fn sell(&self, request: PurchaseRequest, presented: &PresentedCard) -> Result<Answer, Busy> {
        let answer = self.node.purchase(request.clone()).await?;
        if answer == Answer::Refused(Reason::IdReused)
            && let Some(card) = self.first_card(request.id, presented)?
        {
            return self.node.purchase(PurchaseRequest { card, ..request }).await;
        }
        Ok(answer)
    }

    pub(super) async fn reversal(&self, caller: &Caller, asked: Reversal) -> Result<SaleAnswer, Refusal> {
        let (id, of) = (own_id(caller, asked.id)?, own_id(caller, asked.of)?);
        let operator = OperatorId(0);
        let request = RefundRequest { id, of, kind: RefundKind::Reversal, amount: None, operator };
        let answer = self.node.refund(request).await?;
        self.sale_answer(caller, asked.id, &answer)
    }

    pub(super) async fn refund(&self, caller: &Caller, asked: Refund) -> Result<SaleAnswer, Refusal> {
        let (id, of) = (own_id(caller, asked.id)?, own_id(caller, asked.of)?);
        let kind = match asked.reason {
            RefundReason::Correction => RefundKind::Correction,
            RefundReason::Refund => RefundKind::Refund,
        };
        let amount = asked.fen.map(possible).transpose()?;
        self.check_operator(id, OperatorId(asked.operator))?;
        let request = RefundRequest { id, of, kind, amount, operator: OperatorId(asked.operator) };
        let answer = self.node.refund(request).await?;
        self.sale_answer(caller, asked.id, &answer)
    }

    /// A refund is journaled under its cashier's number: one that nobody has would name nobody. An id that was answered
    /// before gets that answer again, whatever became of its cashier since.
    fn check_operator(&self, id: PurchaseId, operator: OperatorId) -> Result<(), Refusal> {
        if operator == OperatorId(0) || self.node.look(|store| sold::is_known(store, id))? {
            return Ok(());
        }
        let record: Option<OperatorRecord> = self.node.row(&keys::operator(operator))?;
        // An empty verifier is how headquarters removes an operator.
        match record.is_some_and(|record| !record.verifier.is_empty()) {
            true => Ok(()),
            false => Err(Refusal::because(
                Code::UnknownOperator,
                format!("编号 {}", operator.0),
                format!("number {}", operator.0),
            )),
        }
    }

    /// Facts: whatever is in them is answered record by record, so that no record can hold up those behind it.
    pub(super) async fn batch(&self, caller: &Caller, asked: Batch) -> Result<BatchAnswer, Refusal> {
        let requests = self.facts(caller, &asked.records)?;
        let known = |store: &dyn yika_crdt::store::Read| {
            requests.iter().map(|request| sold::is_known(store, request.id)).collect::<Result<Vec<_>, _>>()
        };
        let seen = self.node.look(known)?;
        let asked_cards = asked.records.iter().map(|record| &record.card);
        let answers =
            join_all(requests.into_iter().zip(asked_cards).map(|(request, card)| self.sell(request, card))).await;
        let mut records = Vec::with_capacity(answers.len());
        let mut stopped = false;
        for ((record, answer), seen) in asked.records.iter().zip(answers).zip(seen) {
            match answer {
                Ok(answer) => records.push(record_answer(record.id, &answer, seen)),
                Err(Busy(cause)) => {
                    // What is behind it may be stored; sent again, it is `seen`.
                    tracing::warn!(terminal = %caller.record.terminal, cause, "a batch stops");
                    stopped = true;
                    break;
                }
            }
        }
        let answered_through = records.last().map(|record: &RecordAnswer| record.id);
        Ok(BatchAnswer { records, answered_through, stopped, server_time_ms: caller.now_ms })
    }

    fn facts(&self, caller: &Caller, records: &[Purchase]) -> Result<Vec<PurchaseRequest>, Refusal> {
        if records.len() > BATCH_RECORDS_MAX {
            return Err(Refusal::because(
                Code::BadBatch,
                format!("共 {} 笔", records.len()),
                format!("{} records", records.len()),
            ));
        }
        let people = self.node.people.read();
        let mut requests: Vec<PurchaseRequest> = Vec::with_capacity(records.len());
        for (n, record) in records.iter().enumerate() {
            let id = own_id(caller, record.id)
                .map_err(|r| Refusal::because(r.code, format!("序号 {n} 的记录"), format!("record {n}")))?;
            if requests.last().is_some_and(|before| before.id >= id) {
                return Err(Refusal::because(
                    Code::BadBatch,
                    format!("序号 {n} 的记录不在前一笔之后"),
                    format!("record {n} is not after the one before it"),
                ));
            }
            // A card that cannot be read is a card nobody knows: the meal was eaten all the same.
            let card = card_of(&people, &record.card).unwrap_or(CardNumber(0));
            let mode = core_mode(record.mode);
            let (terminal_time_ms, tariff) = (record.time_ms, record.tariff.map(TariffVersion));
            requests.push(PurchaseRequest { id, card, mode, terminal_time_ms, offline: true, tariff });
        }
        Ok(requests)
    }

    pub(super) async fn swipe(&self, caller: &Caller, asked: Swipe) -> Result<SwipeAnswer, Refusal> {
        let card = card_of(&self.node.people.read(), &asked.card)?;
        let answer = self.doors.swipe(&caller.record, card).await;
        let (reason, holder, text) = match answer {
            Ok(person) => (None, self.holder_name(person)?, Words::new("请通行", "Please pass")),
            Err(reason) => (Some(reason.code().to_owned()), None, words(reason)),
        };
        let door = caller.record.door.map(|door| door.0);
        Ok(SwipeAnswer { opened: reason.is_none(), door, reason, holder, text, server_time_ms: caller.now_ms })
    }

    /// The card an id was first asked with, if that was this very chip before a card record named it.
    fn first_card(&self, id: PurchaseId, presented: &PresentedCard) -> Result<Option<CardNumber>, Busy> {
        let Some(chip) = presented.chip() else { return Ok(None) };
        let card = self.node.look(|store| sold::card_of(store, id))?;
        Ok(card.filter(|card| *card == unknown_chip(chip)))
    }

    fn sale_answer(&self, caller: &Caller, id: SaleId, answer: &Answer) -> Result<SaleAnswer, Refusal> {
        let blank = SaleAnswer {
            id,
            decision: Decision::Voided,
            reason: None,
            fen: 0,
            balance_fen: None,
            holder: None,
            category: None,
            cashier_text: Words::default(),
            holder_text: Words::default(),
            receipt: None,
            tariff: None,
            day: None,
            server_time_ms: caller.now_ms,
        };
        Ok(match answer {
            Answer::Approved(record) => approved(blank, record, self.holder_name(record.person)?),
            Answer::Refunded(record) => refunded(blank, record, self.holder_name(record.person)?),
            Answer::Refused(Reason::IdReused) => return Err(Code::IdReused.into()),
            Answer::Refused(reason) => SaleAnswer {
                decision: Decision::Refused,
                reason: Some(reason.code().to_owned()),
                cashier_text: words(*reason),
                holder_text: words(*reason),
                ..blank
            },
            Answer::Voided => {
                let text = Words::new("原交易未成立,未扣款", "The sale does not stand; nothing is charged");
                SaleAnswer { cashier_text: text.clone(), holder_text: text, ..blank }
            }
        })
    }
}

fn approved(blank: SaleAnswer, record: &PurchaseRecord, holder: Option<String>) -> SaleAnswer {
    let paid = sold::amount_of(&Body::Purchase(record.clone()));
    let credit = sold::credit_of(record);
    // The holder is not told the box's share of his money: he would take it for his balance.
    let (cashier_text, holder_text) = match record.mode {
        Mode::Count => {
            let text = Words::new("计次 1", "One meal counted");
            (text.clone(), text)
        }
        _ if credit.is_positive() => {
            let text = Words::new(
                format!("扣款 {paid} 元,其中赊账 {credit} 元待结清"),
                format!("Charged {paid} yuan, {credit} of it on credit, to be settled"),
            );
            (text.clone(), text)
        }
        _ => (
            Words::new(
                format!("扣款 {paid} 元,断网时本机还可扣 {} 元(不是余额)", record.balance),
                format!("Charged {paid} yuan; {} more can be charged here off line (not the balance)", record.balance),
            ),
            Words::new(format!("扣款 {paid} 元"), format!("Charged {paid} yuan")),
        ),
    };
    SaleAnswer {
        decision: Decision::Approved,
        fen: paid.0,
        balance_fen: Some(record.balance.0),
        holder,
        category: Some(record.category.0),
        cashier_text,
        holder_text,
        receipt: Some(record.id.to_string()),
        tariff: Some(record.tariff.0),
        day: Some(record.day.to_string()),
        ..blank
    }
}

fn refunded(blank: SaleAnswer, record: &RefundRecord, holder: Option<String>) -> SaleAnswer {
    let back = sold::amount_of(&Body::Refund(record.clone()));
    let text = Words::new(format!("退回 {back} 元"), format!("{back} yuan given back"));
    SaleAnswer {
        decision: Decision::Refunded,
        fen: back.0,
        holder,
        cashier_text: text.clone(),
        holder_text: text,
        receipt: Some(record.id.to_string()),
        day: Some(record.day.to_string()),
        ..blank
    }
}

fn record_answer(id: SaleId, answer: &Answer, seen: bool) -> RecordAnswer {
    let (state, reason) = match answer {
        Answer::Refused(reason) => (RecordState::Refused, Some(reason.code().to_owned())),
        _ if seen => (RecordState::Seen, None),
        _ => (RecordState::New, None),
    };
    RecordAnswer { id, state, reason }
}

fn own_id(caller: &Caller, id: SaleId) -> Result<PurchaseId, Refusal> {
    let terminal = TerminalId(id.terminal);
    if terminal != caller.record.terminal || id.seq == 0 {
        return Err(Code::BadId.into());
    }
    Ok(PurchaseId { terminal, boot: id.boot, seq: id.seq })
}

fn core_mode(mode: SaleMode) -> Mode {
    match mode {
        SaleMode::Amount { fen } => Mode::Amount(Fen(fen)),
        SaleMode::Fixed {} => Mode::Fixed,
        SaleMode::Portions { unit_fen, portions } => Mode::Portions { unit: Fen(unit_fen), portions },
        SaleMode::Count {} => Mode::Count,
    }
}

/// The mode, where its sum can be one of a sale.
fn mode_of(mode: SaleMode) -> Result<Mode, Refusal> {
    match mode {
        SaleMode::Amount { fen } => _ = possible(fen)?,
        SaleMode::Portions { unit_fen, portions } => {
            if portions == 0 || portions > PORTIONS_MAX {
                return Err(Refusal::because(
                    Code::BadAmount,
                    format!("{portions} 份,须为 1 到 {PORTIONS_MAX}"),
                    format!("{portions} portions, 1 to {PORTIONS_MAX} can be"),
                ));
            }
            let sum = possible(unit_fen)?.times(u32::from(portions));
            possible(
                sum.map_err(|error| Refusal::because(Code::BadAmount, "超出可以计算的范围", error.to_string()))?.0,
            )?;
        }
        SaleMode::Fixed {} | SaleMode::Count {} => {}
    }
    Ok(core_mode(mode))
}

fn possible(fen: i64) -> Result<Fen, Refusal> {
    if (1..=PURCHASE_FEN_MAX).contains(&fen) {
        return Ok(Fen(fen));
    }
    Err(Refusal::because(
        Code::BadAmount,
        format!("{fen} 分,须为 1 到 {PURCHASE_FEN_MAX}"),
        format!("{fen} fen, 1 to {PURCHASE_FEN_MAX} can be"),
    ))
}

/// The card number of what was presented; of a chip that no record names, a number that no card has.
fn card_of(people: &People, presented: &PresentedCard) -> Result<CardNumber, Refusal> {
    match presented {
        PresentedCard::Number { number } if *number < UNKNOWN_CHIP => Ok(CardNumber(*number)),
        PresentedCard::Number { .. } => Err(Refusal::because(Code::BadCard, "号码过大", "the number is too large")),
        PresentedCard::Uid { .. } | PresentedCard::Reader { .. } => {
            let chip = presented.chip().ok_or(Code::BadCard)?;
            Ok(people.card_of_uid(chip).unwrap_or_else(|| unknown_chip(chip)))
        }
    }
}

fn unknown_chip(chip: u64) -> CardNumber {
    CardNumber(UNKNOWN_CHIP | chip)
}

fn words(reason: Reason) -> Words {
    let (zh, en) = reason.words();
    Words::new(zh, en)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_cannot_be_are_refused_before_anything_is_decided() {
        for mode in [
            SaleMode::Amount { fen: 0 },
            SaleMode::Amount { fen: -1 },
            SaleMode::Amount { fen: i64::MAX },
            SaleMode::Portions { unit_fen: 1, portions: 0 },
            SaleMode::Portions { unit_fen: 1, portions: 100 },
            SaleMode::Portions { unit_fen: PURCHASE_FEN_MAX, portions: 2 },
        ] {
            assert_eq!(mode_of(mode).map_err(|r| r.code), Err(Code::BadAmount), "{mode:?}");
        }
        assert!(mode_of(SaleMode::Amount { fen: PURCHASE_FEN_MAX }).is_ok());
    }
}
