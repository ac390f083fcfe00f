//! What a body must satisfy whoever signed it: sums that can be added up, parts that make the whole.
//!
//! Checked when an entry is applied: what fails stays in its chain and goes to quarantine. Leaves to others: whether the
//! writer had the right (`rights`, the hub).

use super::*;
use crate::tariff::{PORTIONS_MAX, PURCHASE_FEN_MAX};

/// Greatest cumulative total in fen that any row can come to: ten thousand billion yuan.
pub const TOTAL_FEN_MAX: i64 = 1_000_000_000_000_000;
/// Most sources that one sale is charged to.
pub const PARTS_MAX: usize = 32;

impl Body {
    /// Why the body cannot be used; `None` when it can.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Body::Purchase(sale) => sale_fault(sale),
            Body::Refund(refund) => parts_fault(&refund.back).or_else(|| {
                // Of a counted meal nothing is given back, by no source.
                let idle = refund.back.iter().any(|(_, part)| !part.is_positive());
                idle.then_some("every part of a refund gives something back")
            }),
            Body::Grant(grant) => {
                let words = grant.basis.iter().any(|b| !is_total(b.taken_in) || !is_difference(b.remaining));
                (words || !is_total(grant.total)).then_some("a granted total is out of range")
            }
            Body::Taken(taken) => (!is_total(taken.total)).then_some("a taken total is out of range"),
            Body::Answered(record) => (!record.numbers.is_well_formed()).then_some("answered numbers are no ranges"),
            _ => None,
        }
    }
}

fn sale_fault(sale: &PurchaseRecord) -> Option<&'static str> {
    let is_price = |fen: Fen| (0..=PURCHASE_FEN_MAX).contains(&fen.0);
    let Some(total) = sale.price.0.checked_add(sale.adjustment.0).map(Fen) else {
        return Some("the price of a sale is out of range");
    };
    if !is_price(sale.price) || !is_price(total) {
        return Some("the price of a sale is out of range");
    }
    if !is_difference(sale.balance) {
        return Some("the balance after a sale is out of range");
    }
    if let Mode::Portions { portions, .. } = sale.mode
        && !(1..=PORTIONS_MAX).contains(&portions)
    {
        return Some("the portions of a sale are out of range");
    }
    let paid: i64 = sale.paid.iter().map(|(_, part)| part.0).fold(0, i64::saturating_add);
    // A counted meal has a price for statistics, and nobody pays it.
    let due = if sale.mode == Mode::Count { Fen::ZERO } else { total };
    parts_fault(&sale.paid).or_else(|| (paid != due.0).then_some("the parts of a sale are not its price"))
}

fn parts_fault(parts: &[(Source, Fen)]) -> Option<&'static str> {
    if parts.len() > PARTS_MAX {
        return Some("too many sources in one record");
    }
    if parts.iter().any(|(_, part)| !(0..=PURCHASE_FEN_MAX).contains(&part.0)) {
        return Some("a part of a record is out of range");
    }
    let is_money = |source: &Source| match source {
        Source::Wallet(key) => matches!(key, WalletKey::Main | WalletKey::Subsidy(_)),
        Source::Guest | Source::Float | Source::Receivable => true,
    };
    if !parts.iter().all(|(source, _)| is_money(source)) {
        return Some("a source of a record holds no money");
    }
    let twice = parts.iter().enumerate().any(|(n, (source, _))| parts[..n].iter().any(|(other, _)| other == source));
    twice.then_some("a source stands twice in one record")
}

/// Whether a cumulative total can be one.
pub fn is_total(total: Fen) -> bool {
    (0..=TOTAL_FEN_MAX).contains(&total.0)
}

/// Whether an amount can be what one total is more or less than another.
fn is_difference(amount: Fen) -> bool {
    (-TOTAL_FEN_MAX..=TOTAL_FEN_MAX).contains(&amount.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(price: i64, adjustment: i64, paid: Vec<(Source, Fen)>) -> Body {
        Body::Purchase(PurchaseRecord {
            id: PurchaseId { terminal: TerminalId(1), boot: 1, seq: 1 },
            card: CardNumber(1),
            person: PersonId(1),
            category: CategoryId(1),
            outlet: OutletId(1),
            merchant: MerchantId(1),
            mode: Mode::Amount(Fen(price)),
            tariff: TariffVersion(1),
            period: None,
            price: Fen(price),
            adjustment: Fen(adjustment),
            paid,
            balance: Fen::ZERO,
            offline: false,
            terminal_time_ms: 0,
            day: Day(1),
        })
    }

    #[test]
    fn a_sale_that_mints_or_overflows_is_no_sale() {
        let main = Source::Wallet(WalletKey::Main);
        assert_eq!(sale(500, 0, vec![(main, Fen(500))]).fault(), None);
        assert_eq!(sale(500, -100, vec![(main, Fen(300)), (Source::Float, Fen(100))]).fault(), None);
        for (price, adjustment, paid) in [
            (-500, 0, vec![(main, Fen(-500))]),
            (500, 0, vec![(main, Fen(-500)), (Source::Float, Fen(1_000))]),
            (500, 0, vec![(main, Fen(250)), (main, Fen(250))]),
            (500, 0, vec![(main, Fen(499))]),
            (PURCHASE_FEN_MAX + 1, 0, vec![(main, Fen(PURCHASE_FEN_MAX + 1))]),
            (500, i64::MAX - 1, vec![(main, Fen(500))]),
            (500, -501, Vec::new()),
        ] {
            assert!(sale(price, adjustment, paid.clone()).fault().is_some(), "{price} {adjustment} {paid:?}");
        }
        assert!(sale(i64::MAX, 1, vec![(main, Fen(1))]).fault().is_some());
    }

    #[test]
    fn totals_are_bounded() {
        let row = Row { person: PersonId(1), wallet: WalletKey::Main };
        let grant =
            |total| Body::Grant(GrantRecord { row, total: Fen(total), last_day: None, basis: None, lease: None });
        assert_eq!(grant(0).fault(), None);
        assert!(grant(-1).fault().is_some() && grant(i64::MAX).fault().is_some());
    }

    /// The least number has no positive counterpart: it must neither end the program nor pass for a small one.
    #[test]
    fn the_least_number_of_all_is_no_balance_and_no_right() {
        for (balance, is_one) in [(-TOTAL_FEN_MAX, true), (-TOTAL_FEN_MAX - 1, false), (i64::MIN, false)] {
            let Body::Purchase(record) = sale(500, 0, vec![(Source::Float, Fen(500))]) else { unreachable!() };
            let fault = Body::Purchase(PurchaseRecord { balance: Fen(balance), ..record }).fault();
            assert_eq!(fault.is_none(), is_one, "{balance}");
            let row = Row { person: PersonId(1), wallet: WalletKey::Main };
            let basis = Statement {
                replica: Writer { node: NodeId(1), incarnation: Incarnation { generation: 1, counter: 1 } },
                row,
                remaining: Fen(balance),
                taken_in: Fen::ZERO,
                hub_time_ms: 1,
                signature: SignatureBytes([0; 64]),
            };
            let grant = GrantRecord { row, total: Fen(1), last_day: None, basis: Some(Box::new(basis)), lease: None };
            assert_eq!(Body::Grant(grant).fault().is_none(), is_one, "{balance}");
        }
    }
}
