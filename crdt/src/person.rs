//! A person and a card as decisions know them: plain values projected from documents.
//!
//! Leaves to others: ID numbers, contact and photos, which never leave the hub.

use crate::ids::{CampusId, CardNumber, CategoryId, Day, PersonId};
use serde::{Deserialize, Serialize};

/// Whether a person takes part (ORG-8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum PersonStatus {
    /// Takes part.
    Active,
    /// Not yet or for a while not.
    Suspended,
    /// Gone; money stays refundable.
    Left,
}

/// A person as replicated to every node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Person {
    /// Who.
    pub person: PersonId,
    /// Campus whose edges hold this person's rights.
    pub home: CampusId,
    /// Name as shown.
    pub name: String,
    /// Unique per institution.
    pub staff_number: String,
    /// Price and limit class.
    pub category: CategoryId,
    /// Whether the person takes part.
    pub status: PersonStatus,
    /// First and last day of validity, where set.
    pub valid: (Option<Day>, Option<Day>),
    /// The person's cards, the valid one first.
    pub cards: Vec<Card>,
    /// HMAC-SHA-256 of ID type and number under the hub's key: finds duplicates without the number.
    pub id_hash: [u8; 16],
}

/// Where a card is in its life (CRD-22), as far as terminals care.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum CardState {
    /// Handed out, not switched on.
    Issued,
    /// Trades and opens.
    Active,
    /// Dead for good.
    Cancelled,
}

impl CardState {
    /// Which card of several comes first: the one that trades.
    pub fn rank(self) -> u8 {
        match self {
            CardState::Active => 0,
            CardState::Issued => 1,
            CardState::Cancelled => 2,
        }
    }
}

/// A card in somebody's hand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Card {
    /// Printed number.
    pub number: CardNumber,
    /// Chip number as readers report it (canonical u32 form), if recorded.
    pub uid: Option<u64>,
    /// Its state.
    pub state: CardState,
    /// Last day, if any (CRD-16).
    pub valid_until: Option<Day>,
}

/// A name with its middle masked, so that whatever shows it tells the holder and not the queue: 王*, 王*明, 欧**明.
/// The one form in which names are masked, at the tills of boxes, at terminals and at headquarters.
pub fn masked_name(name: &str) -> String {
    let name = name.trim();
    let count = name.chars().count();
    let keeps = |n: usize| n == 0 || (count > 2 && n + 1 == count);
    let masked = name.chars().enumerate().map(|(n, letter)| if keeps(n) { letter } else { '*' });
    // That a name is one letter alone is not shown either.
    masked.chain((count == 1).then_some('*')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_ends_only() {
        assert_eq!(masked_name("王明"), "王*");
        assert_eq!(masked_name("王小明"), "王*明");
        assert_eq!(masked_name("欧阳小明"), "欧**明");
        assert_eq!(masked_name(" John Smith "), "J********h");
        assert_eq!(masked_name("王"), "王*");
        assert_eq!(masked_name(" "), "");
    }
}
