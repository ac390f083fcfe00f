//! Writing rows in the transaction of a turn. Sums of accounts are written once per turn and account, and checked there.

use super::rows::*;
use crate::core::{self, PriceDoubt};
use crate::ledger::{Account, Transfer};
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::channel::FeedId;
use yika_crdt::entry::*;
use yika_crdt::ids::Seq;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, params};

/// Writes all rows of a turn.
///
/// # Errors
/// Of the database, or when an account that must not would go below zero: then nothing of the turn is written.
pub fn rows(tx: &Connection, rows: &[TableRow], now_ms: i64) -> Result<(), StoreError> {
    let mut sums = Sums::default();
    for row in rows {
        match row {
            TableRow::Core(row) => core_row(tx, row, now_ms, &mut sums)?,
            TableRow::Profile(row) => super::people::write_profile(tx, row, now_ms)?,
            TableRow::Operator(row) => operator(tx, row, now_ms)?,
            TableRow::TerminalKey(row) => terminal_key(tx, row)?,
            TableRow::Audit(row) => audit(tx, row)?,
            TableRow::Backup(row) => backup(tx, row)?,
            TableRow::Voucher(row) => voucher(tx, row)?,
        }
    }
    sums.write(tx)
}

fn backup(tx: &Connection, row: &BackupRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO backups (at_ms, file, bytes, took_ms, entries, turn) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let turn = row.turn.map(|turn| turn as i64);
    let values = params![row.at_ms, row.file, row.bytes as i64, row.took_ms, row.entries as i64, turn];
    tx.execute(sql, values).map(|_| ()).map_err(failed("remembering a backup"))
}

fn voucher(tx: &Connection, r: &VoucherRow) -> Result<(), StoreError> {
    // An order that is asked again is answered again; its voucher stands.
    let sql = "INSERT INTO vouchers (source, kind, object, request, of, reason, who, operator, shift, at_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (source) DO NOTHING";
    let of = r.of.map(|of| of.0);
    let (operator, shift) = (r.by.operator.0, r.by.shift as i64);
    let values = params![r.source.0, r.kind, r.object, r.request, of, r.reason, r.who, operator, shift, r.at_ms];
    tx.execute(sql, values).map(|_| ()).map_err(failed("writing a voucher"))
}

fn core_row(tx: &Connection, row: &core::TableRow, now_ms: i64, sums: &mut Sums) -> Result<(), StoreError> {
    match row {
        core::TableRow::Transfer(transfer) => {
            sums.add(transfer)?;
            write_transfer(tx, transfer, now_ms)
        }
        core::TableRow::Sale { feed, seq, at_ms, received_ms, record, doubt } => {
            sale(tx, feed, *seq, (*at_ms, *received_ms), record, *doubt)
        }
        core::TableRow::Refund { feed, seq, at_ms, record } => refund(tx, feed, *seq, *at_ms, record),
        core::TableRow::Refusal { feed, seq, at_ms, record } => refusal(tx, feed, *seq, *at_ms, record),
        core::TableRow::Door { feed, seq, record, .. } => door(tx, feed, *seq, record),
        core::TableRow::Act { feed, seq, at_ms, record } => {
            audit(tx, &super::acts::line(tx, feed, *at_ms, record)?)?;
            note(tx, feed, (*seq, *at_ms), "act", &record.act, &format!("{}: {}", record.operator, record.detail))
        }
        core::TableRow::Alarm { feed, seq, at_ms, word, detail } => {
            note(tx, feed, (*seq, *at_ms), "alarm", word, detail)
        }
    }
}

/// Movements of a turn by account.
#[derive(Default)]
struct Sums(BTreeMap<Account, (Fen, Fen)>);

impl Sums {
    fn add(&mut self, transfer: &Transfer) -> Result<(), StoreError> {
        let too_much = |e: yika_crdt::fen::FenError| out_of_books(format!("a turn's sums: {e}"));
        let credit = &mut self.0.entry(transfer.credit).or_default().0;
        *credit = credit.add(transfer.amount).map_err(too_much)?;
        let debit = &mut self.0.entry(transfer.debit).or_default().1;
        *debit = debit.add(transfer.amount).map_err(too_much)?;
        Ok(())
    }

    fn write(self, tx: &Connection) -> Result<(), StoreError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let doing = "posting to an account";
        let mut statement = tx
            .prepare_cached(
                "INSERT INTO accounts (account, credits, debits, person) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (account) DO UPDATE SET credits = credits + excluded.credits, debits = debits + excluded.debits
                 RETURNING credits - debits",
            )
            .map_err(failed(doing))?;
        for (account, (credits, debits)) in self.0 {
            let key = account.to_string();
            let person = account.person().map(|p| p.0 as i64);
            let balance: i64 = statement
                .query_row(params![key, credits.0, debits.0, person], |row| row.get(0))
                .map_err(failed(doing))?;
            if balance < 0 && account.is_bounded() {
                return Err(out_of_books(format!("account {key} would come to {}", Fen(balance))));
            }
        }
        Ok(())
    }
}

fn out_of_books(cause: String) -> StoreError {
    StoreError::Corrupt { place: "the books".into(), cause }
}

fn write_transfer(tx: &Connection, t: &Transfer, now_ms: i64) -> Result<(), StoreError> {
    let person = t.credit.person().or(t.debit.person()).map(|p| p.0 as i64);
    tx.prepare_cached(
        "INSERT INTO transfers (source, part, kind, debit, credit, amount, day, posted_ms, person)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .and_then(|mut s| {
        let (debit, credit) = (t.debit.to_string(), t.credit.to_string());
        s.execute(params![t.source.0, t.part, t.kind.name(), debit, credit, t.amount.0, t.day.0, now_ms, person])
    })
    .map_err(failed("writing a transfer"))?;
    Ok(())
}

fn sale(
    tx: &Connection,
    feed: &FeedId,
    seq: Seq,
    (at_ms, received_ms): (i64, i64),
    r: &PurchaseRecord,
    doubt: Option<PriceDoubt>,
) -> Result<(), StoreError> {
    let (node, generation, counter) = writer(feed);
    let total = r.price.0.saturating_add(r.adjustment.0);
    let paid: Vec<String> = r.paid.iter().map(|(source, part)| format!("{}:{}", source_name(source), part.0)).collect();
    let due = match doubt {
        Some(PriceDoubt::Due(total)) => Some(total.0),
        _ => None,
    };
    tx.prepare_cached(
        "INSERT INTO sales (node, generation, counter, seq, at_ms, received_ms, day, terminal, boot, serial, card,
                            person, category, outlet, merchant, mode, period, price, adjustment, total, balance,
                            offline, paid, doubt, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                 ?23, ?24, ?25)",
    )
    .and_then(|mut s| {
        s.execute(params![
            node,
            generation,
            counter,
            seq.0 as i64,
            at_ms,
            received_ms,
            r.day.0,
            r.id.terminal.0,
            r.id.boot,
            r.id.seq,
            r.card.0 as i64,
            r.person.0 as i64,
            r.category.0,
            r.outlet.0,
            r.merchant.0,
            mode_name(&r.mode),
            r.period.map(|p| p.0),
            r.price.0,
            r.adjustment.0,
            total,
            r.balance.0,
            r.offline,
            paid.join(" "),
            doubt.map(PriceDoubt::name),
            due,
        ])
    })
    .map_err(failed("writing a sale"))?;
    Ok(())
}

fn refund(tx: &Connection, feed: &FeedId, seq: Seq, at_ms: i64, r: &RefundRecord) -> Result<(), StoreError> {
    let (node, generation, counter) = writer(feed);
    let total = r.back.iter().fold(0i64, |sum, (_, part)| sum.saturating_add(part.0));
    let kind = match r.kind {
        RefundKind::Reversal => "reversal",
        RefundKind::Correction => "correction",
        RefundKind::Refund => "refund",
    };
    tx.prepare_cached(
        "INSERT INTO refunds (node, generation, counter, seq, at_ms, day, kind, terminal, boot, serial, of_terminal,
                              of_boot, of_serial, person, merchant, total, operator)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )
    .and_then(|mut s| {
        s.execute(params![
            node,
            generation,
            counter,
            seq.0 as i64,
            at_ms,
            r.day.0,
            kind,
            r.id.terminal.0,
            r.id.boot,
            r.id.seq,
            r.of.terminal.0,
            r.of.boot,
            r.of.seq,
            r.person.0 as i64,
            r.merchant.0,
            total,
            r.operator.0,
        ])
    })
    .map_err(failed("writing a refund"))?;
    Ok(())
}

fn refusal(tx: &Connection, feed: &FeedId, seq: Seq, at_ms: i64, r: &RefusedRecord) -> Result<(), StoreError> {
    let (node, generation, counter) = writer(feed);
    tx.prepare_cached(
        "INSERT INTO refusals (node, generation, counter, seq, at_ms, day, terminal, boot, serial, card, reason, mode, asked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )
    .and_then(|mut s| {
        s.execute(params![
            node,
            generation,
            counter,
            seq.0 as i64,
            at_ms,
            r.day.0,
            r.id.terminal.0,
            r.id.boot,
            r.id.seq,
            r.card.0 as i64,
            r.reason.code(),
            mode_name(&r.mode),
            asked(&r.mode).map(|sum| sum.0),
        ])
    })
    .map_err(failed("writing a refusal"))?;
    Ok(())
}

fn door(tx: &Connection, feed: &FeedId, seq: Seq, r: &DoorRecord) -> Result<(), StoreError> {
    let (node, generation, counter) = writer(feed);
    let (event, reason) = match &r.event {
        DoorEvent::Granted => ("granted", None),
        DoorEvent::Denied(reason) => ("denied", Some(reason.code().to_owned())),
        DoorEvent::Button => ("button", None),
        DoorEvent::Opened(by) => ("opened", Some(opened_by(*by))),
        DoorEvent::Closed => ("closed", None),
        DoorEvent::Forced => ("forced", None),
        DoorEvent::HeldOpen => ("held_open", None),
        DoorEvent::Remote(operator) => ("remote", Some(operator.to_string())),
        DoorEvent::LineLost => ("line_lost", None),
        DoorEvent::LineBack => ("line_back", None),
        DoorEvent::Fire => ("fire", None),
        DoorEvent::Unconfirmed => ("unconfirmed", None),
    };
    let (card, person) = (r.card.map(|c| c.0 as i64), r.person.map(|p| p.0 as i64));
    tx.prepare_cached(
        "INSERT INTO door_events (node, generation, counter, seq, at_ms, door, terminal, card, person, event, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )
    .and_then(|mut s| {
        let terminal = r.terminal.map(|t| t.0);
        s.execute(params![
            node,
            generation,
            counter,
            seq.0 as i64,
            r.at_ms,
            r.door.0,
            terminal,
            card,
            person,
            event,
            reason
        ])
    })
    .map_err(failed("writing a door event"))?;
    Ok(())
}

fn opened_by(by: OpenedBy) -> String {
    match by {
        OpenedBy::Card => "card".into(),
        OpenedBy::Button => "button".into(),
        OpenedBy::Remote(operator) => operator.to_string(),
        OpenedBy::HeldOpen => "held_open".into(),
        OpenedBy::Fire => "fire".into(),
        OpenedBy::Unobserved => "unobserved".into(),
    }
}

fn note(
    tx: &Connection,
    feed: &FeedId,
    (seq, at_ms): (Seq, i64),
    kind: &str,
    word: &str,
    detail: &str,
) -> Result<(), StoreError> {
    let (node, generation, counter) = writer(feed);
    tx.prepare_cached(
        "INSERT INTO notes (node, generation, counter, seq, at_ms, kind, word, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .and_then(|mut s| s.execute(params![node, generation, counter, seq.0 as i64, at_ms, kind, word, detail]))
    .map_err(failed("writing an act or alarm"))?;
    Ok(())
}

fn operator(tx: &Connection, r: &OperatorRow, now_ms: i64) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO operators (operator, login, name, role, campus, verifier, must_change, active, credential_epoch,
                                changed_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (operator) DO UPDATE SET login = excluded.login, name = excluded.name, role = excluded.role,
             campus = excluded.campus, verifier = excluded.verifier, must_change = excluded.must_change,
             active = excluded.active, credential_epoch = excluded.credential_epoch, changed_ms = excluded.changed_ms",
    )
    .and_then(|mut s| {
        s.execute(params![
            r.operator.0,
            r.login,
            r.name,
            r.role,
            r.campus.map(|c| c.0),
            r.verifier,
            r.must_change,
            r.active,
            r.credential_epoch as i64,
            now_ms,
        ])
    })
    .map_err(failed("writing an operator"))?;
    Ok(())
}

fn terminal_key(tx: &Connection, r: &TerminalKeyRow) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO terminal_keys (terminal, version, sealed) VALUES (?1, ?2, ?3)
         ON CONFLICT (terminal) DO UPDATE SET version = excluded.version, sealed = excluded.sealed",
    )
    .and_then(|mut s| s.execute(params![r.terminal.0, r.version, r.sealed]))
    .map_err(failed("writing a terminal key"))?;
    Ok(())
}

fn audit(tx: &Connection, r: &AuditRow) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO audit (number, at_ms, who, act, object, detail, origin)
         VALUES ((SELECT coalesce(max(number), 0) + 1 FROM audit), ?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .and_then(|mut s| s.execute(params![r.at_ms, r.who, r.act, r.object, r.detail, r.origin]))
    .map_err(failed("writing the audit"))?;
    Ok(())
}

fn writer(feed: &FeedId) -> (u32, u32, u32) {
    let writer = feed.writer;
    (writer.node.0, writer.incarnation.generation, writer.incarnation.counter)
}

/// The sum that a mode names; a fixed price follows from the holder, who may be nobody.
fn asked(mode: &Mode) -> Option<Fen> {
    match mode {
        // A refund of everything that is left names no sum.
        Mode::Amount(sum) => Some(*sum).filter(|sum| sum.is_positive()),
        Mode::Portions { unit, portions } => unit.times(u32::from(*portions)).ok(),
        Mode::Fixed | Mode::Count => None,
    }
}

/// Name of a sale's mode in tables, reports and the API.
fn mode_name(mode: &Mode) -> &'static str {
    match mode {
        Mode::Amount(_) => "amount",
        Mode::Fixed => "fixed",
        Mode::Portions { .. } => "portions",
        Mode::Count => "count",
    }
}

fn source_name(source: &Source) -> String {
    match source {
        Source::Wallet(wallet) => crate::ledger::wallet_name(*wallet),
        Source::Guest => "guest".into(),
        Source::Float => "float".into(),
        Source::Receivable => "receivable".into(),
    }
}
