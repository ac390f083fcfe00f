//! Identifiers: one newtype per kind of thing, so that two integers of different meaning never meet.
//!
//! Leaves to others: who hands the numbers out (hub registry, terminals) and how they are shown on a page.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            /// Accepts the displayed form and the bare number.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($prefix).unwrap_or(text);
                digits
                    .parse::<$inner>()
                    .map($name)
                    .map_err(|_| IdError { kind: stringify!($name), text: text.chars().take(40).collect(), prefix: $prefix })
            }
        }
    };
}

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: expected digits, as in {prefix}1")]
pub struct IdError {
    kind: &'static str,
    text: String,
    prefix: &'static str,
}

impl IdError {
    /// What would have been one.
    pub fn example(&self) -> String {
        format!("{}1", self.prefix)
    }
}

id!(
    /// A site with its own edges, terminals and staff (园区). Shown as `c3`.
    CampusId(u16), "c"
);
id!(
    /// A node of the mesh: 0 is the hub, every edge box has its own. Shown as `n7`.
    NodeId(u32), "n"
);
id!(
    /// A cardholder; 63-bit, drawn by the node that first records the person.
    PersonId(u64), "p"
);
id!(
    /// The logical card number as printed and typed (卡号).
    CardNumber(u64), ""
);
id!(
    /// A canteen terminal, cashier or door reader. Shown as `t12`.
    TerminalId(u32), "t"
);
id!(
    /// A door of a campus. Shown as `d5`.
    DoorId(u32), "d"
);
id!(
    /// A system user or counter clerk (操作员). Shown as `o4`.
    OperatorId(u32), "o"
);
id!(
    /// Who sells: canteen, shop, partner (商户). Shown as `m2`.
    MerchantId(u32), "m"
);
id!(
    /// A selling place that prices may differ by (网点 / 餐厅窗口组). Shown as `u2`.
    OutletId(u32), "u"
);
id!(
    /// Identity category of a holder (身份类别). Shown as `k1`.
    CategoryId(u16), "k"
);
id!(
    /// Version of the tariff document, raised by the hub at every change. Shown as `v9`.
    TariffVersion(u32), "v"
);

impl NodeId {
    /// The headquarters node.
    pub const HUB: NodeId = NodeId(0);

    /// True for the headquarters node.
    pub fn is_hub(self) -> bool {
        self == Self::HUB
    }
}

/// Which life of a node wrote something: raised at every enrolment, restore and replacement.
///
/// Ordered by hub generation first, so that everything after a hub recovery is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation {
    /// Raised whenever the hub itself was restored.
    pub generation: u32,
    /// Raised by the hub at each enrolment of the node.
    pub counter: u32,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.counter)
    }
}

/// One replica of rights and one writer of feeds: a node in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.incarnation)
    }
}

/// Position in a feed, counted from 1; 0 means "nothing yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Seq = Seq(0);

    /// The position after this one.
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The idempotency key of a purchase, made by the terminal: the same id gets the first answer again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PurchaseId {
    /// The terminal that asked.
    pub terminal: TerminalId,
    /// Raised by the terminal whenever it lost its counter (factory reset, replaced memory).
    pub boot: u32,
    /// Counted by the terminal from 1 within a boot.
    pub seq: u32,
}

impl fmt::Display for PurchaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.terminal, self.boot, self.seq)
    }
}

impl FromStr for PurchaseId {
    type Err = IdError;
    /// Accepts the displayed form only, `t12-1-345`.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { kind: "PurchaseId", text: text.chars().take(40).collect(), prefix: "t1-1-" };
        let mut parts = text.strip_prefix('t').ok_or_else(wrong)?.splitn(3, '-');
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).ok_or_else(wrong);
        Ok(PurchaseId { terminal: TerminalId(number()?), boot: number()?, seq: number()? })
    }
}

/// A business day as days since 1970-01-01 of the campus' civil calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::civil::date_of(*self) {
            Some(date) => write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
            None => write!(f, "day {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displayed_form_parses_back() {
        assert_eq!("c3".parse::<CampusId>(), Ok(CampusId(3)));
        assert_eq!("3".parse::<CampusId>(), Ok(CampusId(3)));
        assert_eq!(CampusId(3).to_string(), "c3");
    }

    #[test]
    fn a_wrong_text_says_what_was_expected() {
        let said = "c70000".parse::<CampusId>().map_err(|e| e.to_string());
        assert_eq!(said, Err("\"c70000\" is not a CampusId: expected digits, as in c1".to_owned()));
    }

    #[test]
    fn incarnations_of_a_later_generation_are_newer() {
        let before = Incarnation { generation: 1, counter: 9 };
        let after = Incarnation { generation: 2, counter: 1 };
        assert!(before < after);
    }
}
