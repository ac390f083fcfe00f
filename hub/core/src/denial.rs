//! Why the core does not do what was asked: one closed list with the facts of each case.
//!
//! Leaves to others: words (`yika-hub`'s `refusal`), what follows from it.

use yika_crdt::Fen;
use yika_crdt::channel::FeedId;
use yika_crdt::docs::DocId;
use yika_crdt::documents::Denied;
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::*;

/// Nothing was changed, because …
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names of the facts say what they are.
pub enum Denial {
    /// Nobody has this number.
    UnknownPerson { person: PersonId },
    /// No block is open on the card or person.
    NothingToLift { target: BlockTarget },
    /// A restored hub does not know yet what it had given out.
    Recovering { kept: Kept, waiting_for: Vec<NodeId> },
    /// The asker's number stands for another movement.
    NumberUsed,
    /// Zero or less.
    NotPositive { amount: Fen },
    /// The sums of the account would not fit.
    BeyondBounds,
    /// No top-up has this number.
    UnknownTopUp,
    /// The asker's number stands for a top-up that was undone since.
    TopUpUndone,
    /// Somebody else took it, or in another shift.
    OthersTopUp,
    /// The holder has not so much anywhere.
    BalanceTooSmall { balance: Fen },
    /// So much is not there.
    NotEnough { available: Fen },
    /// Headquarters holds no such sale.
    UnknownSale { sale: PurchaseId },
    /// The box that sold gives back itself until its day is cut.
    BoxStillMay { writer: Writer, day: Day },
    /// Less than that is left of a sale.
    NotSoMuchLeft { sale: PurchaseId },
    /// A pool is smaller than nothing.
    PoolNegative,
    /// Not an edge of this registry.
    UnknownBox { node: NodeId },
    /// The box lives.
    NotFenced { node: NodeId },
    /// The box to be replaced stands elsewhere.
    BoxElsewhere { node: NodeId, campus: CampusId },
    /// No such campus.
    UnknownCampus { campus: CampusId, known: Vec<CampusId> },
    /// So many numbers of persons are not given at once.
    PersonNumbers { count: u32 },
    /// A document takes the act not.
    Document { denied: Denied },
    /// The document has an order for a new epoch already.
    RebaseUnderWay { doc: DocId },
    /// A branch of a journal cannot be posted.
    Branch { feed: FeedId, cause: String },
}

/// What a hub in recovery keeps back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Withdrawals, and top-ups to be undone.
    PayOut,
    /// Refunds by headquarters.
    GiveBack,
    /// Suspense released early.
    Release,
    /// Campuses, terminals, tariffs.
    Registry,
    /// New boxes.
    Enrolment,
    /// New people.
    NewPeople,
}

impl From<Denied> for Denial {
    fn from(denied: Denied) -> Denial {
        Denial::Document { denied }
    }
}
