//! What operators did at boxes, as lines of the audit beside what was done at headquarters: one list for the auditor.
//!
//! A box tells an act by a short word and a detail of its own (`ActRecord`); here both get the names that acts of
//! headquarters have. The origin of such a line is the box. Leaves to others: words of pages.

use super::read::{self, AuditQuery};
use super::rows::AuditRow;
use yika_crdt::channel::FeedId;
use yika_crdt::entry::ActRecord;
use yika_crdt::ids::{OperatorId, PersonId, PurchaseId};
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, params};

/// A refund at the counter of a box.
const COUNTER_REFUND: &str = "sale.counter_refund";
const COUNTER_REFUND_REFUSED: &str = "sale.counter_refund_refused";
/// Lines of one sale's refunds that are looked at.
const REFUNDS_READ_MAX: u32 = 200;

/// An act in the terms of the audit.
#[derive(Default)]
struct Told {
    act: String,
    /// Who, where no operator is named.
    stranger: String,
    object: String,
    detail: String,
}

/// The line of the audit for an act of a box.
///
/// # Errors
/// Of the database.
pub(super) fn line(tx: &Connection, feed: &FeedId, at_ms: i64, record: &ActRecord) -> Result<AuditRow, StoreError> {
    let login = match record.operator {
        OperatorId(0) => None,
        operator => read::operator_by_id(tx, operator)?.map(|row| row.login),
    };
    let mut told = tell(record);
    if let (COUNTER_REFUND | COUNTER_REFUND_REFUSED, Ok(sale)) = (told.act.as_str(), told.object.parse::<PurchaseId>())
    {
        told.object = buyer(tx, sale)?.map_or(told.object, |person| person.to_string());
    }
    let who = login.unwrap_or_else(|| match record.operator {
        OperatorId(0) => told.stranger,
        operator => operator.to_string(),
    });
    let object = if told.object.is_empty() { who.clone() } else { told.object };
    let origin = feed.writer.node.to_string();
    Ok(AuditRow { at_ms, who, act: told.act, object, detail: told.detail, origin })
}

/// Who bought, if headquarters has the sale and knows its buyer.
fn buyer(tx: &Connection, sale: PurchaseId) -> Result<Option<PersonId>, StoreError> {
    let sql = "SELECT person FROM sales WHERE terminal = ?1 AND boot = ?2 AND serial = ?3 AND person != 0 LIMIT 1";
    let mut statement = tx.prepare_cached(sql).map_err(failed("finding a buyer"))?;
    let id = params![sale.terminal.0, sale.boot, sale.seq];
    let person: Option<i64> =
        statement.query_row(id, |row| row.get(0)).optional().map_err(failed("finding a buyer"))?;
    Ok(person.map(|person| PersonId(person as u64)))
}

fn tell(record: &ActRecord) -> Told {
    let detail = record.detail.as_str();
    let sign_in = |what: &str| {
        let act = format!("sign_in.{what}");
        match detail.split_once(' ') {
            // Nobody's account: the name that was tried, and from where.
            Some((name, from)) if record.operator == OperatorId(0) => {
                Told { act, stranger: name.to_owned(), detail: format!("from={from}"), ..Told::default() }
            }
            _ => Told { act, detail: format!("from={detail}"), ..Told::default() },
        }
    };
    match record.act.as_str() {
        "login" => sign_in("accepted"),
        "login.refused" => sign_in("refused"),
        "login.locked" => sign_in("locked"),
        "logout" => sign_in("out"),
        "block" => told("card.block", detail, " as ", |reason| format!("block={}", reason.to_lowercase())),
        "lift" => told("card.lift", detail, ": ", |what| {
            let mut counts = what.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
            let (lifted, kept) = (counts.next().unwrap_or("0"), counts.next().unwrap_or("0"));
            if kept == "0" { format!("lifted={lifted}") } else { format!("lifted={lifted}; kept={kept}") }
        }),
        "refund" => refund_told(COUNTER_REFUND, detail),
        "refund.refused" => refund_told(COUNTER_REFUND_REFUSED, detail),
        "door.open" => told("door.open", detail, ": ", |why| format!("reason={why}")),
        act @ ("till.sign_on" | "till.sign_off" | "till.typed_card") => told(act, detail, " ", str::to_owned),
        act => Told { act: act.to_owned(), detail: detail.to_owned(), ..Told::default() },
    }
}

/// A refund at a counter that was asked for, or refused: of which sale, how much, why.
fn refund_told(act: &str, detail: &str) -> Told {
    told(act, detail, " ", |asked| match asked.split_once(": ") {
        Some((sum, reason)) => {
            let sum = if sum == "all" { "rest" } else { sum };
            let sale = detail.split(' ').next().unwrap_or_default();
            format!("sale={sale}; sum={sum}; reason={reason}")
        }
        None => asked.to_owned(),
    })
}

/// An act whose detail begins with its object; of another shape it is kept as it is.
fn told(act: &str, detail: &str, between: &str, rest: impl FnOnce(&str) -> String) -> Told {
    let (object, detail) = match detail.split_once(between) {
        Some((object, detail)) => (object_of(object), rest(detail)),
        None => (String::new(), detail.to_owned()),
    };
    Told { act: act.to_owned(), object, detail, ..Told::default() }
}

/// Cards and persons as headquarters writes them.
fn object_of(text: &str) -> String {
    match text.split_once(':') {
        Some(("card", card)) => format!("card {card}"),
        Some(("person", person)) => format!("p{person}"),
        _ => text.to_owned(),
    }
}

/// Who gave back at the counter of a box, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CounterRefund {
    /// When it was asked, by the box's clock: right before the refund itself.
    pub at_ms: i64,
    /// Sign-in name.
    pub who: String,
    /// In the operator's words.
    pub reason: String,
}

/// The counter refunds of a sale, newest first.
///
/// # Errors
/// Of the database.
pub fn counter_refunds(conn: &Connection, sale: PurchaseId, buyer: PersonId) -> Result<Vec<CounterRefund>, StoreError> {
    let object = if buyer == PersonId(0) { sale.to_string() } else { buyer.to_string() };
    let (act, detail) = (COUNTER_REFUND.into(), format!("sale={sale}; "));
    let query = AuditQuery { object, act, detail, limit: REFUNDS_READ_MAX, ..AuditQuery::default() };
    // The query takes acts by their beginning, and those that were refused begin alike.
    let lines = read::audit(conn, &query)?.into_iter().filter(|line| line.row.act == COUNTER_REFUND);
    let reason = |detail: &str| detail.split_once("; reason=").map_or_else(String::new, |(_, why)| why.to_owned());
    Ok(lines
        .map(|line| CounterRefund { at_ms: line.row.at_ms, who: line.row.who, reason: reason(&line.row.detail) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(act: &str, operator: u32, detail: &str) -> (String, String, String, String) {
        let operator = OperatorId(operator);
        let told = tell(&ActRecord { operator, act: act.into(), detail: detail.into() });
        (told.act, told.stranger, told.object, told.detail)
    }

    fn is(told: (String, String, String, String), wanted: [&str; 4]) {
        assert_eq!([told.0.as_str(), &told.1, &told.2, &told.3], wanted);
    }

    #[test]
    fn acts_of_boxes_are_told_in_the_terms_of_headquarters() {
        is(told("block", 3, "card:10000006 as Lost"), ["card.block", "", "card 10000006", "block=lost"]);
        is(told("lift", 3, "person:4: 1 lifted, 0 left"), ["card.lift", "", "p4", "lifted=1"]);
        let refund = told("refund", 3, "t5-1-204 5.00: cold; again: yes");
        is(refund, [COUNTER_REFUND, "", "t5-1-204", "sale=t5-1-204; sum=5.00; reason=cold; again: yes"]);
        let refused = told("refund.refused", 3, "t5-1-204 all: cold");
        is(refused, [COUNTER_REFUND_REFUSED, "", "t5-1-204", "sale=t5-1-204; sum=rest; reason=cold"]);
        is(told("login.refused", 0, "mallory 10.0.0.9"), ["sign_in.refused", "mallory", "", "from=10.0.0.9"]);
        is(told("login", 3, "10.0.0.9"), ["sign_in.accepted", "", "", "from=10.0.0.9"]);
        is(told("door.open", 3, "d1: guest; unlocked"), ["door.open", "", "d1", "reason=guest; unlocked"]);
    }

    #[test]
    fn a_detail_of_another_shape_is_kept_as_it_is() {
        is(told("dance", 3, "x: y"), ["dance", "", "", "x: y"]);
        is(told("block", 3, "nonsense"), ["card.block", "", "", "nonsense"]);
    }
}
