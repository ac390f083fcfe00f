//! The hub as a pure machine: commands in, entries, state rows and ledger rows out, all of one transaction.
//!
//! The same shape as `yika_crdt::edge`. Leaves to others, all in `yika-hub`: SQL, sockets, certificates, the words of what
//! is refused.
#![deny(clippy::float_arithmetic)]

mod address;
mod aside;
mod books;
mod cash;
pub mod denial;
pub mod enrol;
mod fence;
pub mod filling;
mod fork;
mod grant;
mod journal;
pub mod ledger;
mod notes;
mod people;
mod pools;
mod price;
mod receipts;
mod recover;
mod refund;
pub mod rights;
mod rows;
mod share;
mod tally;
mod unbacked;
mod upkeep;

pub use books::balances;
pub use cash::{Teller, top_up_source, undo_source, withdrawal_source};
pub use fence::{GRACE_MS, SKEW_MS, SWEEP_PERSONS_MAX};
pub use grant::{RECALL_MS_MAX, WAITING_MAX};
pub use notes::{access_rules, heard};
pub use people::{PERSON_IDS_MAX, next_person_id};
pub use pools::{POOL_FILLINGS_A_DAY_MAX, PoolSizes, pool_sizes};
pub use price::{PriceDoubt, price_doubts};
pub use receipts::{LEASE_MS, LEASE_RENEW_BELOW_MS, archived};
pub use recover::{Recovery, present_life};
pub use refund::{is_cut, refund_source};
pub use rows::TableRow;
pub use upkeep::{EPOCH_DAYS_MAX, VISITS_KEPT_DAYS};

use crate::denial::Denial;
use crate::filling::Rules;
use crate::rights::{PersonWallets, WalletError};
use books::Books;
use ed25519_dalek::SigningKey;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId, Place};
use yika_crdt::civil;
use yika_crdt::docs::{DocKind, PolicyAct, VisitorAct};
use yika_crdt::documents::{Documents, PersonChange, Say};
use yika_crdt::edge::DROP_ENTRIES_MAX;
use yika_crdt::entry::*;
use yika_crdt::feed::{Hash, Run, SignedHead};
use yika_crdt::fen::FenError;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::{Directory, Event, Mesh, RunRefused};
use yika_crdt::store::{IngestError, Read, StoreError, Tx};
use yika_crdt::sync::{Claim, Message, before};

/// Headquarters' civil time until campuses say otherwise: Beijing.
pub const HUB_UTC_OFFSET_MINUTES: i16 = 480;

/// Who this hub is.
pub struct Identity {
    /// Node 0 in its present life.
    pub me: Writer,
    /// Signs feeds and statements.
    pub key: SigningKey,
}

/// What the shell asks of the hub.
#[derive(Clone, Debug)]
pub enum Command {
    /// A run of an edge's feed arrived.
    Ingest(Box<Run>),
    /// A peer shows that a feed ends otherwise.
    Diverged(SignedHead),
    /// An edge has greeted and told what it holds: a hub that holds less of its own feeds was restored.
    Greeted {
        /// Who.
        from: Writer,
        /// The ends of its feeds, as it says.
        have: Vec<Claim>,
    },
    /// An edge is connected: it gets the time, a lease, its pools and its receipt.
    Connected(Writer),
    /// An operator says that this hub was restored from a backup.
    Restored,
    /// The other branch of a forked journal or of its cheques, as found at a cloned or rolled-back box, or at a sibling.
    Branch(Box<Run>),
    /// How large guest pools and terminal floats are.
    Pools(PoolSizes),
    /// An edge asks within a purchase.
    Ask {
        /// Who.
        from: Writer,
        /// For this row.
        row: Row,
        /// To raise its granted total to at least this.
        total: Fen,
    },
    /// A box does not give back what it was asked for.
    KeptBack {
        /// Who.
        from: Writer,
        /// Of this row.
        row: Row,
    },
    /// A token was made; its secret is only on the line that was printed.
    CreateToken {
        /// Hash of the secret.
        hash: [u8; 32],
        /// What it gives.
        row: enrol::TokenRow,
    },
    /// A box redeems a token with a key it has proved.
    Redeem {
        /// Hash of the secret.
        hash: [u8; 32],
        /// Its key.
        key: [u8; 32],
        /// Its name as shown.
        name: String,
    },
    /// A box can be dialled there.
    Address {
        /// The box.
        writer: Writer,
        /// `host:port`.
        address: String,
    },
    /// A box is called so.
    Rename {
        /// The box.
        node: NodeId,
        /// Its name as shown.
        name: String,
    },
    /// A campus, terminal or tariff is new or changed.
    Registry(Box<Body>),
    /// Something for one edge only: a terminal key, an operator.
    Tell {
        /// The edge.
        node: NodeId,
        /// What.
        body: Box<Body>,
    },
    /// Something for one life of an edge that it must hold in this version; told once.
    Provide {
        /// The life.
        to: Writer,
        /// Which version.
        version: u64,
        /// A terminal key or an operator.
        body: Box<Body>,
    },
    /// Nothing of the core's: rows of the hub's own tables go with it.
    Nothing,
    /// People as imported or edited: all of them are written, or none. An import is several commands
    /// ([`yika_crdt::documents::chunks`]).
    People {
        /// Who says so.
        operator: OperatorId,
        /// Whose home becomes another campus before the acts; in the same all or nothing.
        moves: BTreeMap<PersonId, CampusId>,
        /// What happens to whom.
        acts: Vec<PersonChange>,
    },
    /// Numbers for so many new persons: [`Reply::PersonIds`] names the first of them.
    PersonIds(u32),
    /// The access policy of a campus changes.
    Policy {
        /// Whose.
        campus: CampusId,
        /// Who says so.
        operator: OperatorId,
        /// What.
        act: Box<PolicyAct>,
    },
    /// Which groups of a campus are filled by which categories.
    AccessRules {
        /// Whose.
        campus: CampusId,
        /// All of them.
        rules: Rules,
    },
    /// A visitor of a campus is recorded or changed.
    Visitor {
        /// Whose.
        campus: CampusId,
        /// Who says so.
        operator: OperatorId,
        /// The visitor's id, drawn like a person's.
        visitor: PersonId,
        /// What.
        act: VisitorAct,
    },
    /// A document starts a new epoch without its history (yearly, after an erasure).
    Rebase(DocKind),
    /// Money paid in at a counter.
    TopUp {
        /// Made by the asker; the same id is posted once.
        id: Hash,
        /// For whom.
        person: PersonId,
        /// How much.
        amount: Fen,
        /// Who took it.
        by: Teller,
    },
    /// A top-up was a mistake: only the same operator, in the same shift.
    UndoTopUp {
        /// The top-up.
        of: Hash,
        /// Who undoes it.
        by: Teller,
    },
    /// Money paid out at a counter; rights at boxes are called back first.
    Withdraw {
        /// Made by the asker; the same id is posted once.
        id: Hash,
        /// To whom.
        person: PersonId,
        /// How much.
        amount: Fen,
        /// Who pays it out.
        by: Teller,
    },
    /// Headquarters gives back what the box no longer may: its day is cut, or it is fenced.
    Refund {
        /// Made by the asker; the same id is posted once.
        id: Hash,
        /// The sale.
        of: PurchaseId,
        /// What kind.
        kind: RefundKind,
        /// How much; everything that is left when absent.
        amount: Option<Fen>,
        /// Who.
        operator: OperatorId,
    },
    /// Rights of a fenced box are given back to their holders before it is safe; the worst case is booked to `loss`.
    ReleaseSuspense {
        /// The fenced life.
        writer: Writer,
        /// Who takes it upon himself.
        operator: OperatorId,
    },
    /// A card or person is blocked by headquarters.
    Block(BlockRecord),
    /// Every open block on the target is lifted.
    Lift {
        /// Whom.
        target: BlockTarget,
        /// Who says so.
        operator: OperatorId,
    },
    /// Every block that the fenced lives of a box wrote is lifted, also what of it is found later.
    LiftWritten {
        /// The box.
        node: NodeId,
        /// Who says so.
        operator: OperatorId,
    },
    /// A dead or stolen box ends.
    Fence {
        /// Its life.
        writer: Writer,
        /// Why.
        reason: String,
    },
    /// When boxes were last heard.
    Heard(Vec<(Writer, i64)>),
    /// Everything up to now is in a verified backup.
    Archived(Vec<(FeedId, Seq)>),
    /// Entries that snapshots and a verified backup hold may go.
    Drop(Arc<[(FeedId, Seq)]>),
    /// Time passes: leases are renewed, receipts written.
    Tick {
        /// Connected edges.
        connected: Vec<Writer>,
    },
}

impl Command {
    /// A person's home is another campus.
    pub fn move_person(operator: OperatorId, person: PersonId, to: CampusId) -> Command {
        Command::People { operator, moves: BTreeMap::from([(person, to)]), acts: Vec::new() }
    }
}

/// What the sender of a command is told once it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A run is stored up to here.
    Stored(FeedId, Seq),
    /// A run is not taken.
    Refused(RunRefused),
    /// Of an ask: the total is now at least what was asked.
    Granted(bool),
    /// Of an ask: other boxes were asked to give back; the grant follows, or nothing.
    Waiting,
    /// Of a withdrawal or an undoing: so much is available; the rest was called back from boxes, ask again in a moment.
    Short {
        /// Available now.
        available: Fen,
        /// Boxes that were asked to give back.
        recalled: usize,
    },
    /// Paid out, or undone: what the person can spend now, and whether this id was paid before.
    Paid {
        /// Everything the person can spend now, anywhere.
        left: Fen,
        /// Nothing new was posted.
        repeated: bool,
    },
    /// Given back: to which sources, and whether this id was posted before.
    Refunded {
        /// To each source.
        back: Vec<(Source, Fen)>,
        /// Nothing new was posted.
        repeated: bool,
    },
    /// The balance after a top-up, and whether this id was posted before.
    ToppedUp {
        /// Everything the person can spend now, anywhere.
        total: Fen,
        /// Nothing new was posted.
        repeated: bool,
    },
    /// Of a redemption: the life it made and its campus.
    Redeemed(Result<(enrol::Used, CampusId), enrol::TokenRefused>),
    /// The peer holds another branch of this feed: it is wanted from there on.
    Branch {
        /// The feed.
        feed: FeedId,
        /// First position wanted.
        from: Seq,
    },
    /// How many blocks were lifted.
    Lifted(usize),
    /// The first of the numbers that were asked for.
    PersonIds(PersonId),
    /// Done.
    Done,
    /// A part is done: ask again.
    More,
    /// Refused.
    Denied(Denial),
}

impl Reply {
    /// Whether nothing was done that needs a line of the audit: it is refused, asked again, or was done before.
    pub fn changed_nothing(&self) -> bool {
        match self {
            Reply::ToppedUp { repeated, .. } | Reply::Paid { repeated, .. } | Reply::Refunded { repeated, .. } => {
                *repeated
            }
            Reply::Denied(_) | Reply::Short { .. } => true,
            _ => false,
        }
    }
}

/// What else follows from a turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A feed has grown.
    Grown(FeedId),
    /// Who may hold what has changed.
    Directory(Directory),
    /// A node's life ended: its connection is closed.
    Fenced(Writer),
    /// To be said to an edge, if it is connected.
    Say(Writer, Message),
    /// The hub was restored: it goes on in this new life, and must be known to the edges under it.
    Recovering(Writer),
    /// Every living box has reported: the hub grants and pays again.
    Recovered,
    /// A feed is proved to have been written twice.
    Forked(FeedId),
    /// An entry is in quarantine.
    Quarantined {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// Why.
        cause: String,
    },
}

/// A failure of our own; the turn is rolled back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sums that cannot be.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// Sums that do not fit.
    #[error(transparent)]
    Sum(#[from] FenError),
    /// Invariant 8 does not hold: nothing of the turn is written, the hub stops posting.
    #[error("the books of {person} do not balance: {detail}")]
    Unbalanced {
        /// Whose.
        person: PersonId,
        /// How.
        detail: String,
    },
}

/// The pure hub.
pub struct Hub {
    /// What it knows of the mesh.
    pub mesh: Mesh,
    documents: Documents,
    key: SigningKey,
    /// Its life as of the last commit: a turn that was rolled back began no new one.
    life: Writer,
    /// Seconds by which the name of a new life is off.
    luck: u32,
    /// Being put together again after a restore.
    recovery: Option<Recovery>,
    /// Asks that wait for rights to be given back; forgotten at a restart, when boxes ask again.
    waiting: BTreeMap<Row, grant::Waiting>,
    /// Lives that are connected, as the shell said last: only these hear what they are asked.
    reached: BTreeSet<Writer>,
    /// Documents of visits in which a fenced box wrote what was not held here: their new epoch is ordered when it may be. A
    /// few months of a campus at most; after a restart siblings connect and pass it on again.
    unheard: BTreeSet<DocKind>,
}

/// One turn's means, handed down together.
struct Turn<'t, 's, R: Read + ?Sized> {
    tx: &'t mut Tx<'s, R>,
    stamp: Stamp,
    events: Vec<Event>,
    rows: &'t mut Vec<TableRow>,
    books: Books,
    effects: &'t mut Vec<Effect>,
    /// Terminals of which boxes answered ids that living boxes cannot hear from them.
    late: BTreeSet<TerminalId>,
}

impl Hub {
    /// Reads everything from the store.
    pub fn load<R: Read + ?Sized>(store: &R, identity: Identity) -> Result<Hub, StoreError> {
        let place = Place { node: NodeId::HUB, campus: None };
        let (me, recovery) = recover::present_life(store, identity.me)?;
        let mut mesh = Mesh::load(store, me, place)?;
        mesh.heard_on = fence::heard_on(store)?;
        let documents = Documents::load(store)?;
        let (waiting, reached, unheard) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Ok(Hub { mesh, documents, key: identity.key, life: me, luck: 0, recovery, waiting, reached, unheard })
    }

    /// Names a life that this start may have to begin so many seconds late: a clock that stands would name two lives alike.
    #[must_use]
    pub fn with_luck(self, luck: u32) -> Hub {
        Hub { luck, ..self }
    }

    /// Reads everything again after a turn was rolled back.
    pub fn reload<R: Read + ?Sized>(&mut self, store: &R) -> Result<(), StoreError> {
        let (me, recovery) = recover::present_life(store, self.life)?;
        let mut fresh = Mesh::load(store, me, self.mesh.place)?;
        fresh.heard_on = fence::heard_on(store)?;
        self.mesh.replace(fresh);
        self.documents = Documents::load(store)?;
        self.recovery = recovery;
        self.waiting.clear();
        Ok(())
    }

    /// The recovery that this hub is in, if it was restored.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The hub's own record: what edges check its feeds against.
    pub fn own_record(&self, name: &str) -> NodeRecord {
        let key = self.key.verifying_key().to_bytes();
        NodeRecord { writer: self.mesh.me, campus: None, key, name: name.to_owned(), address: None }
    }

    /// Handles one command. Errors roll the turn back.
    pub fn handle<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        command: Command,
        stamp: Stamp,
        rows: &mut Vec<TableRow>,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, CoreError> {
        let mut turn =
            Turn { tx, stamp, events: Vec::new(), rows, books: Books::default(), effects, late: BTreeSet::new() };
        let reply = match self.must_wait(&turn, &command)? {
            Some(denied) => denied,
            None => self.obey(&mut turn, command)?,
        };
        self.follow(&mut turn)?;
        self.close_books(&mut turn)?;
        let grown: Vec<_> = turn.tx.batch().appended.keys().map(|feed| Effect::Grown(*feed)).collect();
        turn.effects.extend(grown);
        Ok(reply)
    }

    fn obey<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, command: Command) -> Result<Reply, CoreError> {
        match command {
            Command::Nothing => Ok(Reply::Done),
            Command::Ingest(run) => self.ingest(turn, *run),
            Command::Diverged(head) => self.diverged(turn, head),
            Command::Branch(run) => self.branch(turn, *run),
            Command::Greeted { from, have } => self.greeted(turn, from, have),
            Command::Restored => self.restored(turn),
            Command::Connected(writer) => self.connected(turn, writer),
            Command::Ask { from, row, total } => self.ask(turn, from, row, total),
            Command::KeptBack { from, row } => self.kept_back(turn, from, row),
            Command::CreateToken { hash, row } => self.create_token(turn, hash, row),
            Command::Redeem { hash, key, name } => self.redeem(turn, hash, key, name, None),
            Command::Address { writer, address } => self.address(turn, writer, address),
            Command::Rename { node, name } => self.rename(turn, node, name),
            Command::Registry(body) => self.say(turn, Channel::Registry, *body),
            Command::Tell { node, body } => self.say(turn, Channel::Receipts(node), *body),
            Command::Provide { to, version, body } => self.provide(turn, to, version, *body),
            Command::People { operator, moves, acts } => self.people(turn, operator, moves, acts),
            Command::PersonIds(count) => self.person_ids(turn, count),
            Command::Policy { campus, operator, act } => self.policy(turn, campus, operator, *act),
            Command::AccessRules { campus, rules } => Ok(notes::keep_rules(turn.tx, campus, &rules)),
            Command::Visitor { campus, operator, visitor, act } => self.visitor(turn, operator, (campus, visitor, act)),
            Command::Rebase(kind) => self.rebase(turn, kind),
            Command::TopUp { id, person, amount, by } => self.top_up(turn, id, person, amount, by),
            Command::UndoTopUp { of, by } => self.undo_top_up(turn, of, by),
            Command::Withdraw { id, person, amount, by } => self.withdraw(turn, id, person, amount, by),
            Command::Refund { id, of, kind, amount, operator } => {
                self.refund(turn, refund::Wanted { id, of, kind, amount, operator })
            }
            Command::Pools(sizes) => self.resize_pools(turn, sizes),
            Command::Block(record) => self.say(turn, Channel::Blocks(BlockScope::Hub), Body::Block(record)),
            Command::Lift { target, operator } => self.lift(turn, target, operator),
            Command::LiftWritten { node, operator } => self.lift_written(turn, node, operator),
            Command::Fence { writer, reason } => self.fence(turn, writer, reason),
            Command::ReleaseSuspense { writer, operator } => self.advance(turn, writer, operator),
            Command::Heard(moments) => Ok(notes::keep_heard(turn.tx, &moments)),
            Command::Archived(marks) => self.all_archived(turn, marks),
            Command::Drop(feeds) => Ok(match Mesh::drop_entries(turn.tx, &feeds, DROP_ENTRIES_MAX)? {
                true => Reply::More,
                false => Reply::Done,
            }),
            Command::Tick { connected } => self.tick(turn, connected),
        }
    }

    fn say<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        channel: Channel,
        body: Body,
    ) -> Result<Reply, CoreError> {
        self.append(turn, channel, body)?;
        Ok(Reply::Done)
    }

    fn connected<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, writer: Writer) -> Result<Reply, CoreError> {
        self.reached.insert(writer);
        self.tell(turn, writer.node, Body::Time(turn.stamp.hub_time_ms))?;
        self.serve(turn, writer)?;
        Ok(Reply::Done)
    }

    fn provide<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        version: u64,
        body: Body,
    ) -> Result<Reply, CoreError> {
        let given = given_key(to, &body);
        if turn.tx.get::<u64>(&given)? != Some(version) {
            turn.tx.put(given, &version);
            if let Body::TerminalKey(key) = &body {
                self.tell_answered(turn, to.node, key.terminal)?;
            }
            self.tell(turn, to.node, body)?;
        }
        Ok(Reply::Done)
    }

    fn tick<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        connected: Vec<Writer>,
    ) -> Result<Reply, CoreError> {
        for writer in &connected {
            // A box whose line holds for months would go by its own clock alone.
            if self.serve(turn, *writer)? {
                self.tell_time(turn, *writer)?;
            }
        }
        self.reached = connected.into_iter().collect();
        self.forget_waiting(turn)?;
        self.fence_again(turn)?;
        self.sweep(turn)?;
        self.share_on(turn)?;
        self.rebase_unheard(turn)?;
        self.documents.turn_epochs(&mut self.mesh, turn.tx, Say::Now(turn.stamp), &mut turn.events)?;
        self.keep_up(turn)?;
        Ok(Reply::Done)
    }

    /// What a connected box is owed: a lease, its pools, its receipt. Whether the lease was renewed.
    fn serve<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, writer: Writer) -> Result<bool, CoreError> {
        let is_renewed = self.lease(turn, writer)?;
        self.fill_pools(turn, writer)?;
        self.receipt(turn, writer)?;
        Ok(is_renewed)
    }

    fn append<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        channel: Channel,
        body: Body,
    ) -> Result<Seq, StoreError> {
        let entry = Entry { stamp: turn.stamp, body };
        self.mesh.append(turn.tx, channel, &entry, &mut turn.events)
    }

    fn tell<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        node: NodeId,
        body: Body,
    ) -> Result<Seq, StoreError> {
        self.append(turn, Channel::Receipts(node), body)
    }

    fn ingest<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, run: Run) -> Result<Reply, CoreError> {
        let (feed, from) = (run.head.feed, run.from);
        if self.mesh.know_hub_life(turn.tx, &run.head) {
            turn.events.push(Event::Registry);
        }
        let of_visits = matches!(feed.channel, Channel::Campus(_)) && self.mesh.is_fenced(feed.writer);
        let passed_on = of_visits.then(|| run.clone());
        match self.mesh.ingest(turn.tx, run, &mut turn.events) {
            Ok(end) => Ok(Reply::Stored(feed, end.seq)),
            Err(RunRefused::Ingest(IngestError::Store(error))) => Err(error.into()),
            Err(refused) if refused.is_fork() && fork::is_heard_apart(&feed) => {
                Ok(Reply::Branch { feed, from: before(from) })
            }
            Err(refused) => {
                if let Some(run) = passed_on.filter(|_| matches!(refused, RunRefused::Fenced { .. })) {
                    self.hear_fenced(turn, &run)?;
                }
                Ok(Reply::Refused(refused))
            }
        }
    }

    /// Does what stored entries ask for: postings first, then what follows from them.
    fn follow<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        self.follow_documents(turn)?;
        let mut touched = BTreeSet::new();
        for event in std::mem::take(&mut turn.events) {
            match event {
                Event::Registry => {
                    turn.effects.push(Effect::Directory(self.mesh.directory()));
                    self.note_fences(turn)?;
                    self.judge_again(turn)?;
                }
                Event::Journal { feed, seq, entry } => {
                    let place = journal::Place { feed, seq, branch: None };
                    self.post(turn, place, &entry, &mut touched)?;
                }
                Event::Granted { feed, seq, grant } => {
                    let place = journal::Place { feed, seq, branch: None };
                    self.attempt(turn, place, &mut touched, |hub, turn| hub.on_granted(turn, feed, &grant))?;
                    self.post_waiting(turn, place, &grant, &mut touched)?;
                }
                Event::Quarantined { feed, seq, cause } => self.tell_quarantined(turn, feed, seq, cause),
                _ => {}
            }
        }
        self.release_late(turn)?;
        for person in touched {
            self.share_out(turn, person)?;
        }
        self.tell_late(turn)?;
        self.look_for_reports(turn)
    }

    fn today<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Day {
        civil::civil(turn.stamp.hub_time_ms, HUB_UTC_OFFSET_MINUTES).day
    }
}

/// All wallets of a person.
pub fn wallets_of<R: Read + ?Sized>(tx: &Tx<'_, R>, person: PersonId) -> Result<PersonWallets, StoreError> {
    Ok(tx.get(&keys::rights(person))?.unwrap_or_default())
}

/// Errors of the shared sale arithmetic, which stores nothing here.
fn sale_error(error: yika_crdt::sale::SaleError) -> CoreError {
    match error {
        yika_crdt::sale::SaleError::Store(error) => error.into(),
        yika_crdt::sale::SaleError::Sum(error) => error.into(),
        other => StoreError::Corrupt { place: "the refunds of a sale".into(), cause: other.to_string() }.into(),
    }
}

/// What a life of a box was given: by kind and number of the thing.
fn given_key(to: Writer, body: &Body) -> Vec<u8> {
    let thing = match body {
        Body::TerminalKey(key) => (1u8, u64::from(key.terminal.0)),
        Body::Operator(operator) => (2, u64::from(operator.operator.0)),
        _ => (0, 0),
    };
    named(b"!given", &(to, thing))
}

fn named<T: Serialize>(name: &[u8], value: &T) -> Vec<u8> {
    let mut key = name.to_vec();
    key.extend(yika_crdt::wire::encode(value));
    key
}
