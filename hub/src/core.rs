//! The hub as a pure machine: commands in, entries, state rows and ledger rows out, all of one transaction.
//!
//! The same shape as `yika_crdt::edge`. Leaves to others: SQL (`store`), sockets (`link`), certificates (`enrol`).

pub mod enrol;
mod journal;
mod people;

pub use people::{PERSON_IDS_MAX, next_person_id};

use crate::ledger::{Account, Kind, Posting, Transfer};
use crate::rights::{PersonWallets, WalletError};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId, Place};
use yika_crdt::civil;
use yika_crdt::docs::{DocKind, PolicyAct, VisitorAct};
use yika_crdt::documents::{Documents, PersonChange, Say};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Hash, Run, SignedHead};
use yika_crdt::fen::FenError;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::{Directory, Event, Mesh, RunRefused};
use yika_crdt::store::{IngestError, Read, StoreError, Tx};

/// How long a lease lasts from its signing.
pub const LEASE_MS: i64 = 72 * 3_600_000;
/// A lease is renewed when less than this is left of it.
pub const LEASE_RENEW_BELOW_MS: i64 = LEASE_MS - 3_600_000;
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
    /// An edge is connected: it gets the time, a lease and its receipt.
    Connected(Writer),
    /// An edge asks within a purchase.
    Ask {
        /// Who.
        from: Writer,
        /// For this row.
        row: Row,
        /// To raise its granted total to at least this.
        total: Fen,
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
        /// What happens to whom.
        acts: Vec<PersonChange>,
    },
    /// A person's home is another campus.
    MovePerson {
        /// Who says so.
        operator: OperatorId,
        /// Who moves.
        person: PersonId,
        /// Whereto.
        to: CampusId,
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
    /// A dead or stolen box ends.
    Fence {
        /// Its life.
        writer: Writer,
        /// Why.
        reason: String,
    },
    /// Everything up to now is in a verified backup.
    Archived(Vec<(FeedId, Seq)>),
    /// Time passes: leases are renewed, receipts written.
    Tick {
        /// Connected edges.
        connected: Vec<Writer>,
    },
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
    /// The balance after a top-up, and whether this id was posted before.
    ToppedUp {
        /// Everything the person can spend now, anywhere.
        total: Fen,
        /// Nothing new was posted.
        repeated: bool,
    },
    /// Of a redemption: the life it made and its campus.
    Redeemed(Result<(enrol::Used, CampusId), enrol::TokenRefused>),
    /// How many blocks were lifted.
    Lifted(usize),
    /// The first of the numbers that were asked for.
    PersonIds(PersonId),
    /// Done.
    Done,
    /// Refused, in words for the operator.
    Denied(String),
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

/// A row for the hub's own tables, written in the same transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableRow {
    /// A movement of money.
    Transfer(Transfer),
    /// A sale as reports and pages see it.
    Sale {
        /// Which journal it stands in.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When it was written there.
        at_ms: i64,
        /// When the hub stored it.
        received_ms: i64,
        /// The sale.
        record: Box<PurchaseRecord>,
    },
    /// A refusal.
    Refusal {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: RefusedRecord,
    },
    /// Money given back.
    Refund {
        /// Which journal; of the hub itself for reversals of duplicates.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: Box<RefundRecord>,
    },
    /// Something at a door.
    Door {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: DoorRecord,
    },
    /// An act or alarm of an edge.
    Note {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// `act` or `alarm`.
        kind: &'static str,
        /// The short word.
        word: String,
        /// In words.
        detail: String,
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
}

/// One turn's means, handed down together.
struct Turn<'t, 's, R: Read + ?Sized> {
    tx: &'t mut Tx<'s, R>,
    stamp: Stamp,
    events: Vec<Event>,
    rows: &'t mut Vec<TableRow>,
}

impl Hub {
    /// Reads everything from the store.
    pub fn load<R: Read + ?Sized>(store: &R, identity: Identity) -> Result<Hub, StoreError> {
        let place = Place { node: NodeId::HUB, campus: None };
        let mesh = Mesh::load(store, identity.me, place)?;
        Ok(Hub { mesh, documents: Documents::load(store)?, key: identity.key })
    }

    /// Reads everything again after a turn was rolled back.
    pub fn reload<R: Read + ?Sized>(&mut self, store: &R) -> Result<(), StoreError> {
        let fresh = Mesh::load(store, self.mesh.me, self.mesh.place)?;
        self.mesh.replace(fresh);
        self.documents = Documents::load(store)?;
        Ok(())
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
        let mut turn = Turn { tx, stamp, events: Vec::new(), rows };
        let reply = self.obey(&mut turn, command, effects)?;
        self.follow(&mut turn, effects)?;
        effects.extend(turn.tx.batch().appended.keys().map(|feed| Effect::Grown(*feed)));
        Ok(reply)
    }

    fn obey<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        command: Command,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, CoreError> {
        Ok(match command {
            Command::Ingest(run) => return self.ingest(turn, *run),
            Command::Diverged(head) => {
                let ours = turn.tx.end_at(&head.feed, head.end.seq)?;
                if ours.is_some_and(|ours| ours != head.end)
                    && let Some(own) = turn.tx.head_from(&head.feed, head.end.seq)?
                {
                    self.mesh.prove_fork(turn.tx, &own, &head);
                }
                Reply::Done
            }
            Command::Connected(writer) => {
                self.tell(turn, writer.node, Body::Time(turn.stamp.hub_time_ms))?;
                self.lease(turn, writer)?;
                self.receipt(turn, writer)?;
                Reply::Done
            }
            Command::Ask { from, row, total } => Reply::Granted(self.raise(turn, from, row, total)?),
            Command::CreateToken { hash, row } => return self.create_token(turn, hash, row),
            Command::Redeem { hash, key, name } => return self.redeem(turn, hash, key, name, None),
            Command::Address { writer, address } => {
                let known = self.mesh.nodes.get(&writer).map(|n| n.record.clone());
                if let Some(record) = known.filter(|r| r.address.as_ref() != Some(&address)) {
                    let record = NodeRecord { address: Some(address), ..record };
                    self.append(turn, Channel::Registry, Body::Node(record))?;
                }
                Reply::Done
            }
            Command::Registry(body) => {
                self.append(turn, Channel::Registry, *body)?;
                Reply::Done
            }
            Command::Tell { node, body } => {
                self.tell(turn, node, *body)?;
                Reply::Done
            }
            Command::Nothing => Reply::Done,
            Command::Provide { to, version, body } => {
                let given = given_key(to, &body);
                if turn.tx.get::<u64>(&given)? != Some(version) {
                    turn.tx.put(given, &version);
                    self.tell(turn, to.node, *body)?;
                }
                Reply::Done
            }
            Command::People { operator, acts } => return self.people(turn, operator, acts),
            Command::MovePerson { operator, person, to } => return self.move_person(turn, operator, person, to),
            Command::PersonIds(count) => return self.person_ids(turn, count),
            Command::Policy { campus, operator, act } => return self.policy(turn, campus, operator, *act),
            Command::Visitor { campus, operator, visitor, act } => {
                return self.visitor(turn, operator, (campus, visitor, act));
            }
            Command::Rebase(kind) => return self.rebase(turn, kind),
            Command::TopUp { id, person, amount } => return self.top_up(turn, id, person, amount),
            Command::Block(record) => {
                self.append(turn, Channel::Blocks(BlockScope::Hub), Body::Block(record))?;
                Reply::Done
            }
            Command::Lift { target, operator } => {
                let open = self.mesh.people.read().open_blocks(target);
                for (block, _) in &open {
                    let lift = Body::Lift(LiftRecord::One { block: *block, operator });
                    self.append(turn, Channel::Blocks(BlockScope::Hub), lift)?;
                }
                Reply::Lifted(open.len())
            }
            Command::Fence { writer, reason } => return self.fence(turn, writer, reason, effects),
            Command::Archived(marks) => {
                for (feed, seq) in marks {
                    turn.tx.put(archived_key(&feed), &seq);
                    self.receipt(turn, feed.writer)?;
                }
                Reply::Done
            }
            Command::Tick { connected } => {
                for writer in connected {
                    self.lease(turn, writer)?;
                    self.receipt(turn, writer)?;
                }
                self.documents.turn_epochs(&mut self.mesh, turn.tx, Say::Now(turn.stamp), &mut turn.events)?;
                Reply::Done
            }
        })
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
        let feed = run.head.feed;
        match self.mesh.ingest(turn.tx, run, &mut turn.events) {
            Ok(end) => Ok(Reply::Stored(feed, end.seq)),
            Err(RunRefused::Ingest(IngestError::Store(error))) => Err(error.into()),
            Err(refused) => Ok(Reply::Refused(refused)),
        }
    }

    /// A lease entry is durable here before it can be sent; renewed when an hour of it has passed.
    fn lease<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, to: Writer) -> Result<(), StoreError> {
        if self.mesh.is_fenced(to) || self.mesh.current(to.node) != Some(to) {
            return Ok(());
        }
        let key = lease_key(to);
        let signed: i64 = turn.tx.get(&key)?.unwrap_or_default();
        let now_ms = turn.stamp.hub_time_ms;
        if signed.saturating_sub(now_ms) < LEASE_RENEW_BELOW_MS {
            let until_ms = now_ms.saturating_add(LEASE_MS);
            turn.tx.put(key, &until_ms);
            self.tell(turn, to.node, Body::Lease(LeaseRecord { incarnation: to.incarnation, until_ms }))?;
        }
        Ok(())
    }

    /// Tells an edge what of its journal is held and archived, if that has moved.
    fn receipt<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, of: Writer) -> Result<(), StoreError> {
        let feed = FeedId { writer: of, channel: Channel::Journal };
        let held = turn.tx.feed(&feed)?.end.seq;
        let archived = turn.tx.get(&archived_key(&feed))?.unwrap_or_default();
        let receipt = ReceiptRecord { incarnation: of.incarnation, held, archived };
        let key = told_key(of);
        if turn.tx.get::<ReceiptRecord>(&key)? != Some(receipt) {
            turn.tx.put(key, &receipt);
            self.tell(turn, of.node, Body::Receipt(receipt))?;
        }
        Ok(())
    }

    /// Raises a box's granted total to at least `total` if so much is available.
    fn raise<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        row: Row,
        total: Fen,
    ) -> Result<bool, CoreError> {
        if self.mesh.is_fenced(to) || self.mesh.current(to.node) != Some(to) {
            return Ok(false);
        }
        let mut wallets = wallets_of(turn.tx, row.person)?;
        let wallet = wallets.wallet(row.wallet);
        let before = wallet.replicas.get(&to).map(|r| r.granted).unwrap_or_default();
        match wallet.grant_up_to(to, total) {
            Ok(None) => Ok(true),
            Ok(Some(granted)) => {
                turn.tx.put(keys::rights(row.person), &wallets);
                self.write_grant(turn, to, row, granted, granted.sub(before)?)?;
                Ok(true)
            }
            Err(WalletError::NotAvailable { .. } | WalletError::NotPositive(_)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Writes the grant entry with the hub's signed word on it, and posts it.
    fn write_grant<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        row: Row,
        total: Fen,
        amount: Fen,
    ) -> Result<(), CoreError> {
        let wallets = wallets_of(turn.tx, row.person)?;
        let wallet = wallets.wallets.get(&row.wallet);
        let back = wallet.and_then(|w| w.replicas.get(&to)).map(|r| r.back).unwrap_or_default();
        let hub_time_ms = turn.stamp.hub_time_ms;
        let remaining = total.sub(back)?;
        let signature = feed::sign("statement", &(to, row, remaining, hub_time_ms), &self.key);
        let basis = Some(Box::new(Statement { replica: to, row, remaining, hub_time_ms, signature }));
        let last_day = wallet.and_then(|w| w.last_day);
        let seq = self.append(turn, Channel::Rights(to), Body::Grant(GrantRecord { row, total, last_day, basis }))?;
        let source = feed::digest("yika grant 1", &yika_crdt::wire::encode(&(self.mesh.me, to, seq)));
        let mut posting = Posting::new(source, self.today(turn));
        let (holder, right) = (Account::Holder(row.person, row.wallet), Account::Right(row.person, row.wallet, to));
        posting.transfer(Kind::Grant, holder, right, amount);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        Ok(())
    }

    fn top_up<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        id: Hash,
        person: PersonId,
        amount: Fen,
    ) -> Result<Reply, CoreError> {
        if self.mesh.people.read().holder(person).is_none() {
            return Ok(Reply::Denied(format!("{person} is not a person of this registry")));
        }
        let mut wallets = wallets_of(turn.tx, person)?;
        match turn.tx.get::<(PersonId, Fen)>(&top_up_key(&id))? {
            Some(known) if known == (person, amount) => {
                return Ok(Reply::ToppedUp { total: wallets.total()?, repeated: true });
            }
            Some(_) => return Ok(Reply::Denied("this number was used for another top-up".into())),
            None => {}
        }
        if let Err(refused) = wallets.wallet(WalletKey::Main).deposit(amount) {
            return Ok(Reply::Denied(refused.to_string()));
        }
        turn.tx.put(top_up_key(&id), &(person, amount));
        turn.tx.put(keys::rights(person), &wallets);
        let mut posting = Posting::new(feed::digest("yika top-up 1", &id.0), self.today(turn));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(person, WalletKey::Main), amount);
        turn.rows.extend(posting.transfers.into_iter().map(TableRow::Transfer));
        self.level(turn, person)?;
        Ok(Reply::ToppedUp { total: wallets.total()?, repeated: false })
    }

    /// Brings the boxes of the home campus up to their share (sizing, design section 4).
    fn level<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, person: PersonId) -> Result<(), CoreError> {
        let Some(home) = self.mesh.people.read().holder(person).map(|h| h.home) else { return Ok(()) };
        let boxes = self.living_boxes(home);
        let mut wallets = wallets_of(turn.tx, person)?;
        let mean = wallets.mean_daily();
        let today = self.today(turn);
        for key in wallets.wallets.keys().copied().collect::<Vec<_>>() {
            let wallet = wallets.wallet(key);
            if wallet.last_day.is_some_and(|last| last < today) {
                continue;
            }
            for (to, amount) in wallet.shortfalls(&boxes, mean)? {
                let total = wallets.wallet(key).grant(to, amount)?;
                turn.tx.put(keys::rights(person), &wallets);
                self.write_grant(turn, to, Row { person, wallet: key }, total, amount)?;
            }
        }
        check(person, &wallets)
    }

    /// The living boxes of a campus.
    pub fn living_boxes(&self, campus: CampusId) -> Vec<Writer> {
        let lives = self.mesh.nodes.iter().filter(|(_, n)| n.record.campus == Some(campus)).map(|(w, _)| *w);
        lives.filter(|w| !self.mesh.is_fenced(*w) && self.mesh.current(w.node) == Some(*w)).collect()
    }

    fn fence<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        reason: String,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, CoreError> {
        if writer.node.is_hub() || !self.mesh.nodes.contains_key(&writer) {
            return Ok(Reply::Denied(format!("{writer} is not an edge of this registry")));
        }
        if self.mesh.is_fenced(writer) {
            return Ok(Reply::Done);
        }
        let mut last = Vec::new();
        for (feed, held) in turn.tx.feeds()? {
            if feed.writer == writer {
                last.push((feed.channel, held.end));
            }
        }
        self.append(turn, Channel::Registry, Body::Fence(FenceRecord { writer, last, reason }))?;
        self.fence_documents(turn, writer)?;
        effects.push(Effect::Fenced(writer));
        Ok(Reply::Done)
    }

    fn follow<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), CoreError> {
        self.follow_documents(turn)?;
        let mut touched = std::collections::BTreeSet::new();
        for event in std::mem::take(&mut turn.events) {
            match event {
                Event::Registry => effects.push(Effect::Directory(self.mesh.directory())),
                Event::Journal { feed, seq, entry } => self.post(turn, feed, seq, &entry, &mut touched)?,
                Event::Granted { feed, grant } if !feed.writer.node.is_hub() => {
                    self.post_return(turn, feed, &grant, &mut touched)?;
                }
                Event::Quarantined { feed, seq, cause } => effects.push(Effect::Quarantined { feed, seq, cause }),
                _ => {}
            }
        }
        for person in touched {
            self.level(turn, person)?;
        }
        Ok(())
    }

    fn today<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Day {
        civil::civil(turn.stamp.hub_time_ms, HUB_UTC_OFFSET_MINUTES).day
    }
}

/// All wallets of a person.
pub fn wallets_of<R: Read + ?Sized>(tx: &Tx<'_, R>, person: PersonId) -> Result<PersonWallets, StoreError> {
    Ok(tx.get(&keys::rights(person))?.unwrap_or_default())
}

/// Sums are checked in production: what does not balance is not written.
fn check(person: PersonId, wallets: &PersonWallets) -> Result<(), CoreError> {
    for wallet in wallets.wallets.values() {
        wallet.check().map_err(|detail| CoreError::Unbalanced { person, detail })?;
    }
    Ok(())
}

fn lease_key(of: Writer) -> Vec<u8> {
    named(b"!leased", &of)
}

fn told_key(of: Writer) -> Vec<u8> {
    named(b"!told", &of)
}

fn archived_key(feed: &FeedId) -> Vec<u8> {
    named(b"!archived", feed)
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

fn top_up_key(id: &Hash) -> Vec<u8> {
    named(b"!topup", id)
}

fn named<T: Serialize>(name: &[u8], value: &T) -> Vec<u8> {
    let mut key = name.to_vec();
    key.extend(yika_crdt::wire::encode(value));
    key
}

/// A sale id seen at the hub: where it was first posted from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Seen {
    feed: FeedId,
    seq: Seq,
    at_ms: i64,
}
