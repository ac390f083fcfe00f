//! What feeds say: every kind of entry, its stamp of time, and the version a reader must know to use it.
//!
//! Kinds are only ever added, at the end of [`Body`]; an entry of an unknown kind stays in its chain and goes to
//! quarantine. Leaves to others: the chain (`feed`), what follows from an entry (`edge`, hub).

mod check;

pub use check::{PARTS_MAX, TOTAL_FEN_MAX, is_total};

use crate::answered::Answered;
use crate::channel::Channel;
use crate::docs::DocId;
use crate::feed::{End, Hash, SignatureBytes};
use crate::fen::Fen;
use crate::ids::*;
use crate::reason::Reason;
use crate::tally::Tally;
use crate::tariff::sheet::{PeriodId, TariffSheet};
use crate::wire::{self, WireError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When an entry was written, by the writer's own clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Hub time in milliseconds since 1970 (UTC), as the writer knew it.
    pub hub_time_ms: i64,
    /// Which start of the box: raised at every boot of its operating system.
    pub boot: u32,
    /// Milliseconds since that boot, counting suspend.
    pub mono_ms: u64,
}

/// One entry of a feed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub stamp: Stamp,
    /// What.
    pub body: Body,
}

/// Newest entry kind this build writes and reads; announced in the greeting.
pub const KIND_NEWEST: u16 = 2;

impl Entry {
    /// Canonical bytes, as chained and sent.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads an entry; unknown kinds and other shapes are errors that quarantine it.
    pub fn decode(bytes: &[u8]) -> Result<Entry, WireError> {
        wire::decode(bytes, wire::ENTRY_BYTES_MAX)
    }
}

/// What an entry says. Grouped by channel; a body on a channel it does not belong to is refused ([`Body::belongs`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// registry: a campus exists, with its civil calendar.
    Campus(CampusRecord),
    /// registry: a node was enrolled.
    Node(NodeRecord),
    /// registry: a node's life ended; nothing after `last` is accepted.
    Fence(FenceRecord),
    /// registry: a new tariff.
    Tariff(Box<TariffSheet>),
    /// registry: a terminal or reader, or its new state.
    Terminal(TerminalRecord),
    /// registry: a document's new epoch.
    Rebase(RebaseRecord),
    /// people, campus: one change of a document.
    Change(ChangeRecord),
    /// blocks: a card or person is refused from here on.
    Block(BlockRecord),
    /// blocks: a block is withdrawn.
    Lift(LiftRecord),
    /// rights: cumulative totals the giver has granted the receiver.
    Grant(GrantRecord),
    /// journal: a sale.
    Purchase(PurchaseRecord),
    /// journal: a sale that was not made.
    Refused(RefusedRecord),
    /// journal: money given back for a sale of this writer.
    Refund(RefundRecord),
    /// journal: an id that must never be sold under (a reversal that came first).
    Void(PurchaseId),
    /// journal: a cheque became the receiver's.
    Taken(TakenRecord),
    /// journal: something happened at a door.
    Door(DoorRecord),
    /// journal: an operator did something at the edge.
    Act(ActRecord),
    /// journal: the business day ended here; what follows belongs to the next.
    Cut(Day),
    /// journal: something is wrong.
    Alarm(AlarmRecord),
    /// receipts: what the hub holds of the edge's journal.
    Receipt(ReceiptRecord),
    /// receipts: the edge may spend until then.
    Lease(LeaseRecord),
    /// receipts: hub time.
    Time(i64),
    /// receipts: a terminal's key, sealed to the edge.
    TerminalKey(SealedKeyRecord),
    /// receipts: an operator who may log in at the edge while it is cut off.
    Operator(OperatorRecord),
    /// receipts: a business day is settled.
    Settled(Day),
    /// receipts: ids of a terminal that boxes of its campus have answered.
    Answered(AnsweredRecord),
    /// receipts: the totals of the edge's journal at a cut, as the hub adds them up.
    Tally(TallyRecord),
    /// journal: money that was not given back.
    NotRefunded(NotRefundedRecord),
}

/// A campus as every node must know it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CampusRecord {
    /// Its number.
    pub campus: CampusId,
    /// Its name as shown.
    pub name: String,
    /// Minutes east of UTC.
    pub utc_offset_minutes: i16,
    /// When the business day is cut, minutes after local midnight.
    pub cut_minute: u16,
    /// Into how many documents its people are cut; chosen when the campus is made, later values are not heard.
    pub people_shards: u16,
}

/// A node of the mesh in one of its lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Node and life.
    pub writer: Writer,
    /// Campus of an edge.
    pub campus: Option<CampusId>,
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// Name as shown.
    pub name: String,
    /// Where other nodes may dial it (`host:port`), if known.
    pub address: Option<String>,
}

/// The end of a node's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FenceRecord {
    /// Node and life that ended.
    pub writer: Writer,
    /// Last accepted end of each of its feeds; a feed not listed ends at 0.
    pub last: Vec<(Channel, End)>,
    /// How far each life of headquarters had granted it rights: a restored one can tell what it does not know.
    pub granted: Vec<(Incarnation, Seq)>,
    /// Why, in the operator's words.
    pub reason: String,
}

impl FenceRecord {
    /// Two fences of one life: each was set where its hub's life knew of entries, so the later end of each feed holds.
    pub fn merge(&self, other: &FenceRecord) -> FenceRecord {
        let mut last: BTreeMap<Channel, End> = self.last.iter().copied().collect();
        for (channel, end) in &other.last {
            let known = last.entry(*channel).or_insert(*end);
            if (end.seq, end.hash) > (known.seq, known.hash) {
                *known = *end;
            }
        }
        let mut granted: BTreeMap<Incarnation, Seq> = self.granted.iter().copied().collect();
        for (life, seq) in &other.granted {
            let known = granted.entry(*life).or_insert(*seq);
            *known = (*known).max(*seq);
        }
        let (last, granted) = (last.into_iter().collect(), granted.into_iter().collect());
        FenceRecord { writer: self.writer, last, granted, reason: self.reason.clone().max(other.reason.clone()) }
    }
}

/// What a terminal is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TerminalKind {
    /// Sells meals (售饭机, web till).
    Till,
    /// Reads cards at a door.
    Door,
    /// Reads cards for attendance.
    Attendance,
}

/// Life of a terminal (TRM-2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TerminalState {
    /// Works.
    Deployed,
    /// Refused until deployed again (TRM-13).
    Suspended,
    /// Never again.
    Scrapped,
}

/// A registered terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminalRecord {
    /// Its number.
    pub terminal: TerminalId,
    /// Where it stands.
    pub campus: CampusId,
    /// What it is for.
    pub kind: TerminalKind,
    /// Where it sells; 0 for doors.
    pub outlet: OutletId,
    /// For whom it sells; 0 for doors.
    pub merchant: MerchantId,
    /// The door it reads for.
    pub door: Option<DoorId>,
    /// Its name as shown.
    pub name: String,
    /// Whether it works.
    pub state: TerminalState,
}

/// A document starts a new epoch: `new` replaces `old`, which counts up to `covered`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RebaseRecord {
    /// The document and epoch that end.
    pub old: DocId,
    /// How many of each writer's changes of `old` the new epoch contains.
    pub covered: Vec<(Writer, u64)>,
    /// The document and epoch that begin.
    pub new: DocId,
}

/// One Automerge change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// Of this document and epoch.
    pub doc: DocId,
    /// The uncompressed change chunk.
    pub change: Vec<u8>,
}

/// Whom a block stops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum BlockTarget {
    /// One card.
    Card(CardNumber),
    /// Every card of a person.
    Person(PersonId),
}

/// Why a card or person is blocked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum BlockReason {
    /// Reported lost (挂失).
    Lost,
    /// Frozen by an operator.
    Frozen,
    /// Cancelled for good.
    Cancelled,
    /// The person has left.
    Left,
}

/// A block; its identity is the hash of its entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Whom.
    pub target: BlockTarget,
    /// Why.
    pub reason: BlockReason,
    /// Who said so.
    pub operator: OperatorId,
}

/// The withdrawal of one block, or of all blocks a fenced writer wrote in a range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LiftRecord {
    /// One block, by the hash of its entry.
    One {
        /// The block.
        block: Hash,
        /// Who said so.
        operator: OperatorId,
    },
    /// All blocks of a writer's feed in the range; the hub only.
    Range {
        /// The feed.
        feed: crate::channel::FeedId,
        /// First position.
        from: Seq,
        /// Last position.
        to: Seq,
        /// Who said so.
        operator: OperatorId,
    },
}

/// Which money or counter a right is about (design section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum WalletKey {
    /// The holder's own money.
    Main,
    /// A grant of employer money, by batch.
    Subsidy(u32),
    /// Meals counted in a period.
    MealCount(u32),
    /// A strict limit rule's counter for one day.
    Limit(u16, Day),
    /// The box's pool for guests (person 0).
    Guest,
    /// The float of a terminal that decides alone (person 0).
    Float(TerminalId),
}

/// The row of rights: whose, and which wallet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The holder; person 0 for pools of a box.
    pub person: PersonId,
    /// The wallet.
    pub wallet: WalletKey,
}

/// A grant, or a cheque where the giver is an edge: a total that only grows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Whose money.
    pub row: Row,
    /// Everything ever granted from the feed's writer to the feed's receiver in this row.
    pub total: Fen,
    /// Last business day the wallet can be spent on.
    pub last_day: Option<Day>,
    /// On a cheque: the hub's newest signed word on the giver's right; the receiver takes at most that.
    pub basis: Option<Box<Statement>>,
    /// On a cheque: the giver's lease; untaken, the cheque lapses with it.
    pub lease: Option<LeaseRecord>,
}

/// The hub's signed word of what a replica may still give in a row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// The replica.
    pub replica: Writer,
    /// The row.
    pub row: Row,
    /// The replica's right when it was signed, as the hub knew it.
    pub remaining: Fen,
    /// Everything it had taken by cheque up to then, as the hub knew it: part of `remaining`, so it may be passed on.
    pub taken_in: Fen,
    /// When.
    pub hub_time_ms: i64,
    /// The hub's Ed25519 signature over the five above (purpose `statement`).
    pub signature: SignatureBytes,
}

impl Statement {
    /// What the signature covers.
    pub fn signed(&self) -> (Writer, Row, Fen, Fen, i64) {
        (self.replica, self.row, self.remaining, self.taken_in, self.hub_time_ms)
    }
}

/// How the sum of a sale is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// The cashier keys the sum (POS-6).
    Amount(Fen),
    /// The price of the period for the category (POS-7).
    Fixed,
    /// Unit price times portions (POS-8).
    Portions {
        /// Price of one.
        unit: Fen,
        /// How many, 1..=99.
        portions: u8,
    },
    /// One meal is counted, no money moves (POS-11).
    Count,
}

/// On whose account a part of a sale was charged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// The holder's right in a wallet.
    Wallet(WalletKey),
    /// The box's guest pool.
    Guest,
    /// The float of the terminal (a record that is a fact).
    Float,
    /// Owed by the holder: a fact beyond right and float.
    Receivable,
}

/// A sale, priced and charged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PurchaseRecord {
    /// The terminal's key.
    pub id: PurchaseId,
    /// The card as presented.
    pub card: CardNumber,
    /// Its holder; 0 for an unknown card sold to under the guest rule.
    pub person: PersonId,
    /// The holder's category, as the box knew it.
    pub category: CategoryId,
    /// Where.
    pub outlet: OutletId,
    /// For whom.
    pub merchant: MerchantId,
    /// How the price was found.
    pub mode: Mode,
    /// Priced with.
    pub tariff: TariffVersion,
    /// In this period.
    pub period: Option<PeriodId>,
    /// Price before adjustment.
    pub price: Fen,
    /// Surcharge (positive) or discount (negative).
    pub adjustment: Fen,
    /// What each source paid; sums to price + adjustment.
    pub paid: Vec<(Source, Fen)>,
    /// The holder's right left at this box afterwards, all wallets.
    pub balance: Fen,
    /// The terminal decided alone and tells afterwards.
    pub offline: bool,
    /// When the terminal says it happened (its own clock).
    pub terminal_time_ms: i64,
    /// Business day.
    pub day: Day,
}

impl PurchaseRecord {
    /// Whether something like this can be given back of the sale: to sources that have paid, and nothing only of a counted
    /// meal, for which nobody has.
    pub fn may_be_given(&self, back: &[(Source, Fen)]) -> bool {
        let has_paid = |source: &Source| self.paid.iter().any(|(paid, _)| paid == source);
        back.iter().all(|(source, _)| has_paid(source)) && back.is_empty() == self.paid.is_empty()
    }
}

/// A refusal: durable, so that the same id gets it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// The terminal's key.
    pub id: PurchaseId,
    /// The card as presented.
    pub card: CardNumber,
    /// What was asked.
    pub mode: Mode,
    /// Whether the terminal had decided it alone: the same id then asks for the same.
    pub offline: bool,
    /// Why not.
    pub reason: Reason,
    /// Business day.
    pub day: Day,
}

/// A refund that was refused: durable like any refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotRefundedRecord {
    /// The terminal's key.
    pub id: PurchaseId,
    /// The sale.
    pub of: PurchaseId,
    /// What kind was asked for.
    pub kind: RefundKind,
    /// How much was asked for; everything that was left when absent.
    pub amount: Option<Fen>,
    /// Who asked.
    pub operator: OperatorId,
    /// Why not.
    pub reason: Reason,
    /// Business day.
    pub day: Day,
}

/// What kind of giving back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RefundKind {
    /// The terminal never saw the answer (冲正).
    Reversal,
    /// The cashier keyed a wrong sum (纠错).
    Correction,
    /// The goods came back (退货).
    Refund,
}

/// A linked negative: money back to where it came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefundRecord {
    /// Its own key, made by whoever asked.
    pub id: PurchaseId,
    /// The sale.
    pub of: PurchaseId,
    /// Holder of the sale.
    pub person: PersonId,
    /// For whom was sold.
    pub merchant: MerchantId,
    /// What kind.
    pub kind: RefundKind,
    /// Given back to each source; at most what it paid less earlier refunds.
    pub back: Vec<(Source, Fen)>,
    /// Who did it; 0 for a terminal on its own.
    pub operator: OperatorId,
    /// Business day.
    pub day: Day,
}

/// A cheque taken in: the whole entry, so that the hub can post it without the giver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TakenRecord {
    /// Giver's feed to this writer.
    pub feed: crate::channel::FeedId,
    /// Position of the cheque.
    pub seq: Seq,
    /// The row.
    pub row: Row,
    /// The cumulative total taken from that giver in that row, with this cheque.
    pub total: Fen,
}

/// How a door event came about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DoorEvent {
    /// A card was let in.
    Granted,
    /// A card was refused.
    Denied(Reason),
    /// Somebody left by the button.
    Button,
    /// The contact says open; forced openings are [`DoorEvent::Forced`].
    Opened(OpenedBy),
    /// The contact says closed.
    Closed,
    /// Open without a grant.
    Forced,
    /// Open too long.
    HeldOpen,
    /// An operator opened it.
    Remote(OperatorId),
    /// The board does not answer.
    LineLost,
    /// The board answers again.
    LineBack,
    /// Fire: the door is free.
    Fire,
    /// Unlocking was sent to the hardware and not confirmed: the door may have opened.
    Unconfirmed,
}

/// Why a leaf could open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum OpenedBy {
    /// A card that was let in; the record names it.
    Card,
    /// The button to leave.
    Button,
    /// An operator, from afar.
    Remote(OperatorId),
    /// The door is held open by order.
    HeldOpen,
    /// Fire freed it.
    Fire,
    /// It happened while the hardware was not heard.
    Unobserved,
}

/// Something at a door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorRecord {
    /// When it happened, hub time as the box knew it; the entry's stamp says when it was written.
    pub at_ms: i64,
    /// Whether the box trusted its clock then.
    pub time_trusted: bool,
    /// The door.
    pub door: DoorId,
    /// The reader, if a card was involved.
    pub terminal: Option<TerminalId>,
    /// The card, if one was involved.
    pub card: Option<CardNumber>,
    /// Its holder, if known.
    pub person: Option<PersonId>,
    /// What.
    pub event: DoorEvent,
}

/// An operator's act at an edge, for the audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActRecord {
    /// Who.
    pub operator: OperatorId,
    /// What, as a short stable word: `login`, `block`, `lift`, `door.open`, `time.confirm` …
    pub act: String,
    /// On what, with before and after where it changes something.
    pub detail: String,
}

/// Something is wrong and somebody must look.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// A short stable word: `fork`, `quarantine`, `clock`, `forced_open` …
    pub kind: String,
    /// In words.
    pub detail: String,
}

/// What the hub holds of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The writer's life the marks speak of.
    pub incarnation: Incarnation,
    /// Durable at the hub up to here.
    pub held: Seq,
    /// In a verified archive or backup up to here; the edge may prune only under this.
    pub archived: Seq,
}

/// What the hub knows of a terminal's ids: a box that did not see their answers decides none of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnsweredRecord {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its boot.
    pub boot: u32,
    /// Numbers of that boot.
    pub numbers: Answered,
}

/// The totals that a journal comes to where it cut a day; the edge prunes only if its own are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TallyRecord {
    /// The writer's life.
    pub incarnation: Incarnation,
    /// The day that was cut.
    pub day: Day,
    /// The tally there.
    pub tally: Tally,
}

/// Permission to spend, renewed while the hub sees the box.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// For this life only.
    pub incarnation: Incarnation,
    /// Until this hub time.
    pub until_ms: i64,
    /// The hub's Ed25519 signature over writer and time (purpose `lease`): a cheque shows it to its receiver.
    pub signature: SignatureBytes,
}

impl LeaseRecord {
    /// What the signature covers.
    pub fn signed(&self, node: NodeId) -> (Writer, i64) {
        (Writer { node, incarnation: self.incarnation }, self.until_ms)
    }
}

/// A terminal key sealed to one box.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedKeyRecord {
    /// The terminal.
    pub terminal: TerminalId,
    /// Version of the key, raised at every change.
    pub version: u16,
    /// X25519 + ChaCha20-Poly1305, opened only by the box.
    pub sealed: Vec<u8>,
}

/// What an operator may do at an edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Everything on the box.
    Admin,
    /// Cards and people: loss, lift, look-ups.
    Clerk,
    /// Till only.
    Cashier,
    /// Reads everything, changes nothing.
    Auditor,
}

/// An operator's verifier for off-line log-in, valid until a date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// The operator.
    pub operator: OperatorId,
    /// Log-in name.
    pub login: String,
    /// Name as shown.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Argon2id verifier in PHC form; empty removes the operator.
    pub verifier: String,
    /// Until this hub time.
    pub valid_until_ms: i64,
}

impl Body {
    /// The id that it answers, of a journal entry that answers one.
    pub fn answers(&self) -> Option<PurchaseId> {
        match self {
            Body::Purchase(sale) => Some(sale.id),
            Body::Refused(refused) => Some(refused.id),
            Body::Refund(refund) => Some(refund.id),
            Body::NotRefunded(refused) => Some(refused.id),
            Body::Void(id) => Some(*id),
            _ => None,
        }
    }

    /// Whether this body may stand on that channel.
    pub fn belongs(&self, channel: Channel) -> bool {
        use Body::*;
        match channel {
            Channel::Registry => {
                matches!(self, Campus(_) | Node(_) | Fence(_) | Tariff(_) | Terminal(_) | Rebase(_))
            }
            Channel::People(_) | Channel::Campus(_) => matches!(self, Change(_)),
            Channel::Blocks(_) => matches!(self, Block(_) | Lift(_)),
            Channel::Rights(_) => matches!(self, Grant(_)),
            Channel::Journal => matches!(
                self,
                Purchase(_)
                    | Refused(_)
                    | Refund(_)
                    | NotRefunded(_)
                    | Void(_)
                    | Taken(_)
                    | Door(_)
                    | Act(_)
                    | Cut(_)
                    | Alarm(_)
            ),
            Channel::Receipts(_) => {
                matches!(
                    self,
                    Receipt(_)
                        | Lease(_)
                        | Time(_)
                        | TerminalKey(_)
                        | Operator(_)
                        | Settled(_)
                        | Answered(_)
                        | Tally(_)
                )
            }
        }
    }
}
