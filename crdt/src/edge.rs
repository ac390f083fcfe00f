//! The edge as a pure machine: commands in, a turn's writes and effects out; the shell brings clocks and sockets.
//!
//! Leaves to others: group commit (`yika-store`), connections (`yika-link`), terminals' wire forms (`yika-edge`).

mod documents;
mod rights;
mod snapshot;
mod time;

use self::documents::DocumentAct;
pub use self::snapshot::DROP_ENTRIES_MAX;
use self::time::HubLine;
use crate::channel::{BlockScope, Channel, FeedId, Place};
use crate::clock::{Clock, Ticks};
use crate::docs::{PolicyAct, VisitorAct};
use crate::documents::{Documents, PersonChange};
use crate::entry::*;
use crate::feed::{FeedError, Run, SignedHead};
use crate::fen::Fen;
use crate::gate::Shut;
use crate::ids::*;
use crate::keys;
use crate::mesh::{Directory, Event, Mesh, RunRefused};
use crate::proof;
use crate::reason::Reason;
use crate::sale::{self, Answer, Now, Outcome, PurchaseRequest, RefundRequest, SaleError};
use crate::shift::{self, Shift, SignOn};
use crate::snapshot::Step;
use crate::store::{IngestError, Read, StoreError, Tx};
use std::sync::Arc;

/// What the shell asks of the edge.
#[derive(Clone, Debug)]
pub enum Command {
    /// A terminal sells. With `may_ask`, a shortage comes back as [`Reply::Outcome`] `Short` and nothing is written.
    Purchase {
        /// The request.
        request: PurchaseRequest,
        /// Somebody reachable may have more rights.
        may_ask: bool,
    },
    /// The bound of waiting for rights was reached.
    Refuse {
        /// The request.
        request: PurchaseRequest,
        /// Why.
        reason: Reason,
    },
    /// A terminal or cashier gives back.
    Refund(RefundRequest),
    /// Something happened at a door that was decided and actuated already.
    Door(DoorRecord),
    /// An operator did something worth keeping.
    Act(ActRecord),
    /// Something is wrong.
    Alarm(AlarmRecord),
    /// An operator of this campus blocks a card or person.
    Block(BlockRecord),
    /// An operator of this campus lifts what this campus blocked.
    Lift {
        /// Whom.
        target: BlockTarget,
        /// Who says so.
        operator: OperatorId,
    },
    /// A cashier signs on at a web till of this box.
    SignOn {
        /// The till.
        terminal: TerminalId,
        /// The cashier.
        operator: OperatorId,
    },
    /// The open shift at a web till ends.
    SignOff {
        /// The till.
        terminal: TerminalId,
        /// Who ends it.
        operator: OperatorId,
    },
    /// A run of somebody's feed arrived.
    Ingest(Box<Run>),
    /// A peer shows that a feed ends otherwise.
    Diverged(SignedHead),
    /// Another box asks for rights while the hub is away.
    Ask {
        /// Who asks.
        from: Writer,
        /// For this row.
        row: Row,
        /// To raise our total to it to at least this.
        total: Fen,
    },
    /// A sibling says that it is low in a row while the hub is away.
    Level {
        /// Who says so.
        from: Writer,
        /// The row.
        row: Row,
        /// What it holds.
        right: Fen,
    },
    /// The hub wants rights back.
    Recall {
        /// Of this row.
        row: Row,
        /// All but this.
        keep: Fen,
    },
    /// Headquarters, proved by the handshake, says that this life has ended.
    Fenced,
    /// A connection to the hub begins; its node record, proved by the handshake.
    TrustHub(NodeRecord),
    /// The hub has greeted on it.
    HubGreeted {
        /// In this life.
        life: Writer,
        /// What it had said to this box alone ends there.
        said: Seq,
    },
    /// An operator confirms the time while no hub is there.
    ConfirmTime {
        /// The time.
        hub_time_ms: i64,
        /// Who.
        operator: OperatorId,
    },
    /// An operator changes people of this campus.
    People {
        /// Who.
        operator: OperatorId,
        /// All of them are written, or none.
        acts: Vec<PersonChange>,
    },
    /// An operator changes the access policy of this campus.
    Policy {
        /// Who.
        operator: OperatorId,
        /// What.
        act: Box<PolicyAct>,
    },
    /// An operator records or changes a visitor of this campus.
    Visitor {
        /// Who.
        operator: OperatorId,
        /// The visitor's id, drawn like a person's.
        visitor: PersonId,
        /// What.
        act: VisitorAct,
    },
    /// A step of a checked snapshot.
    Restore(Box<Step>),
    /// Entries that headquarters says every node may let go.
    Drop(Arc<[(FeedId, Seq)]>),
    /// Time passes: the day may be cut.
    Tick,
    /// After a start: peers were asked how far they hold this node's feeds, and what they held more was taken back.
    Asked {
        /// The hub was among them.
        hub: bool,
    },
}

/// What the sender of a command is told once it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Of a purchase.
    Outcome(Outcome),
    /// Of a refusal or refund.
    Answer(Answer),
    /// Of a sign-on.
    SignOn(SignOn),
    /// Of a sign-off: the shift that ended, if one was open.
    SignOff(Option<Shift>),
    /// Of a run: stored up to here.
    Stored(FeedId, Seq),
    /// Of a run that is not taken.
    Refused(RunRefused),
    /// Of a run of an own feed that does not continue it and proves nothing: more of it is wanted.
    Branch {
        /// The feed.
        feed: FeedId,
        /// First position wanted.
        from: Seq,
    },
    /// How many blocks were lifted, and how many only headquarters can lift.
    Lifted {
        /// Lifted.
        lifted: usize,
        /// Left.
        left: usize,
    },
    /// Of an ask: whether the total is now at least what was asked.
    Granted(bool),
    /// Nothing was done: this node may not append.
    Shut(Shut),
    /// Done.
    Done,
    /// A part is done: ask again.
    More,
    /// Refused, in words for the operator; nothing was written.
    Denied(String),
}

/// What else follows from a turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A feed of this node or received has grown.
    Grown(FeedId),
    /// Rights of a person at this box have grown: waiting purchases may be decided again.
    Rights(PersonId),
    /// Who may hold what has changed.
    Directory(Directory),
    /// A person, card or block changed.
    People,
    /// The hub's receipt moved.
    Receipt(ReceiptRecord),
    /// An entry is in quarantine.
    Quarantined {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// Why.
        cause: String,
    },
    /// An edge of this mesh has forked a feed.
    Forked(FeedId),
    /// A sale has left this row low: with the hub away, a sibling may level.
    Low {
        /// The row.
        row: Row,
        /// What is left of it here.
        right: Fen,
    },
    /// Whether this node may append has changed.
    Gate(Option<Shut>),
}

/// The pure edge.
pub struct Edge {
    /// What it knows of the mesh.
    pub mesh: Mesh,
    documents: Documents,
    pub(crate) clock: Clock,
    hub_line: Option<HubLine>,
    pub(crate) shut: Option<Shut>,
    /// As of the last commit.
    pub(crate) shut_before: Option<Shut>,
}

impl Edge {
    /// Reads everything from the store.
    pub fn load<R: Read + ?Sized>(store: &R, me: Writer, place: Place) -> Result<Edge, StoreError> {
        let mesh = Mesh::load(store, me, place)?;
        let clock = store.get(keys::CLOCK)?.map(|b| crate::store::decode_row(keys::CLOCK, &b)).transpose()?;
        let forked = store.get(keys::FORKED)?.map(|_| Shut::Forked);
        let fenced = store.get(keys::FENCED)?.filter(|_| !proof::sown("own_fence_forgotten"));
        let shut = forked.or(fenced.map(|_| Shut::Fenced));
        let (clock, documents) = (clock.unwrap_or_default(), Documents::load(store)?);
        Ok(Edge { mesh, documents, clock, hub_line: None, shut, shut_before: shut })
    }

    /// Reads everything again after a turn was rolled back; who shares the people index keeps sharing it.
    pub fn reload<R: Read + ?Sized>(&mut self, store: &R) -> Result<(), StoreError> {
        let fresh = Edge::load(store, self.mesh.me, self.mesh.place)?;
        self.mesh.replace(fresh.mesh);
        self.documents = fresh.documents;
        self.clock = fresh.clock;
        self.shut = self.shut_before;
        Ok(())
    }

    /// The clock, for status pages.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Handles one command. Only storage and impossible sums are errors: they roll the turn back.
    pub fn handle<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        command: Command,
        ticks: Ticks,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, SaleError> {
        let before = self.shut;
        if let Some(shut) = before.filter(|_| command.needs_open_gate()) {
            return Ok(Reply::Shut(shut));
        }
        let mut events = Vec::new();
        let now = self.now(tx, ticks);
        if self.shut.is_none() {
            sale::cut_if_due(&mut self.mesh, tx, &now, &mut events)?;
        }
        let reply = self.obey(tx, command, ticks, now, &mut events)?;
        if let Reply::Outcome(outcome) = &reply {
            rights::tell_low_rows(tx, outcome, effects)?;
        }
        self.follow(tx, ticks, &now, events, effects)?;
        if self.shut != before {
            effects.push(Effect::Gate(self.shut));
        }
        Ok(reply)
    }

    /// Stamps the command; the clock's mark is stored with whatever the command writes.
    fn now<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, ticks: Ticks) -> Now {
        let trusted = self.clock.is_trusted(ticks);
        let stamp = self.clock.stamp(ticks);
        tx.put(keys::CLOCK.to_vec(), &self.clock);
        Now { stamp, trusted, may_ask: false }
    }

    fn obey<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        command: Command,
        ticks: Ticks,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let mesh = &mut self.mesh;
        Ok(match command {
            Command::Purchase { request, may_ask } => {
                Reply::Outcome(sale::purchase(mesh, tx, &request, &Now { may_ask, ..now }, events)?)
            }
            Command::Refuse { request, reason } => {
                Reply::Answer(sale::refuse(mesh, tx, &request, reason, &now, events)?)
            }
            Command::Refund(request) => Reply::Answer(sale::refund(mesh, tx, &request, &now, events)?),
            Command::Door(record) => self.journal(tx, Body::Door(record), &now, events)?,
            Command::Act(record) => self.journal(tx, Body::Act(record), &now, events)?,
            Command::Alarm(record) => self.journal(tx, Body::Alarm(record), &now, events)?,
            Command::Block(record) => self.block(tx, record, &now, events)?,
            Command::Lift { target, operator } => self.lift(tx, target, operator, &now, events)?,
            Command::SignOn { terminal, operator } => {
                Reply::SignOn(shift::sign_on(mesh, tx, terminal, operator, &now, events)?)
            }
            Command::SignOff { terminal, operator } => {
                Reply::SignOff(shift::sign_off(mesh, tx, terminal, operator, &now, events)?)
            }
            Command::Ingest(run) => self.ingest(tx, *run, &now, events)?,
            Command::Diverged(head) => self.diverged(tx, head, &now, events)?,
            Command::Asked { hub } => self.asked(tx, hub, events)?,
            Command::Ask { from, row, total } => Reply::Granted(self.cheque(tx, from, row, total, &now, events)?),
            Command::Level { from, row, right } => Reply::Granted(self.level(tx, from, row, right, &now, events)?),
            Command::Recall { row, keep } => Reply::Granted(self.give_up(tx, row, keep, &now, events)?),
            Command::Fenced => {
                self.fenced(tx);
                Reply::Done
            }
            Command::TrustHub(record) => {
                let life = record.writer;
                mesh.trust_hub(tx, record);
                self.hub_connected(life, ticks);
                events.push(Event::Registry);
                Reply::Done
            }
            Command::HubGreeted { life, said } => {
                self.hub_said(life, said);
                Reply::Done
            }
            Command::ConfirmTime { hub_time_ms, operator } => {
                self.clock.move_forward(hub_time_ms, ticks);
                self.confirm_time(tx, hub_time_ms, operator, &now, events)?
            }
            Command::People { operator, acts } => {
                self.change_documents(tx, operator, DocumentAct::People(acts), &now, events)?
            }
            Command::Policy { operator, act } => {
                self.change_documents(tx, operator, DocumentAct::Policy(*act), &now, events)?
            }
            Command::Visitor { operator, visitor, act } => {
                self.change_documents(tx, operator, DocumentAct::Visitor(visitor, act), &now, events)?
            }
            Command::Restore(step) => self.restore(tx, &step, &now, events)?,
            Command::Drop(feeds) => Edge::drop_entries(tx, &feeds)?,
            Command::Tick => self.tick(tx, &now, events)?,
        })
    }

    fn block<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        record: BlockRecord,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let entry = Entry { stamp: now.stamp, body: Body::Block(record) };
        self.mesh.append(tx, blocks_of(self.mesh.place), &entry, events)?;
        Ok(Reply::Done)
    }

    /// Keeps the clock that an operator has moved, and who did.
    fn confirm_time<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        hub_time_ms: i64,
        operator: OperatorId,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        tx.put(keys::CLOCK.to_vec(), &self.clock);
        let act = ActRecord { operator, act: "time.confirm".into(), detail: hub_time_ms.to_string() };
        self.journal(tx, Body::Act(act), now, events)
    }

    /// Time has passed: documents go on with their epochs, and old entries leave the box.
    fn tick<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        self.turn_epochs(tx, now, events)?;
        if now.trusted && self.shut.is_none() {
            sale::prune::bring_totals_on(&self.mesh, tx)?;
            let today = sale::clock_day(&self.mesh, now);
            if let Some(day) = sale::prune::prune(&self.mesh, tx, today)? {
                self.tell_tally(tx, day, now, events)?;
            }
        }
        Ok(Reply::Done)
    }

    fn journal<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        body: Body,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let kept = self.append_or_hold(tx, Entry { stamp: now.stamp, body }, events)?;
        Ok(match self.shut {
            Some(shut) if !kept => Reply::Shut(shut),
            _ => Reply::Done,
        })
    }

    /// This box's totals are not what headquarters makes of its journal: nothing is let go, and somebody must look. Said
    /// once for each day that may not go.
    fn tell_tally<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        day: Day,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        if tx.get::<Day>(keys::TALLY_TOLD)? == Some(day) {
            return Ok(());
        }
        tx.put(keys::TALLY_TOLD.to_vec(), &day);
        let detail = format!("the totals of this box up to {day} are not those of headquarters; its journal is kept");
        self.alarm(tx, "totals", detail, now, events)
    }

    /// Lifts every open block that this campus wrote; the hub's stay.
    fn lift<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        target: BlockTarget,
        operator: OperatorId,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let channel = blocks_of(self.mesh.place);
        let open = self.mesh.people.read().open_blocks(target);
        let (ours, others): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, s)| Channel::Blocks(*s) == channel);
        for (block, _) in &ours {
            let lift = Body::Lift(LiftRecord::One { block: *block, operator });
            self.mesh.append(tx, channel, &Entry { stamp: now.stamp, body: lift }, events)?;
        }
        Ok(Reply::Lifted { lifted: ours.len(), left: others.len() })
    }

    fn ingest<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        run: Run,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let feed = run.head.feed;
        if feed.writer == self.mesh.me {
            return self.take_back(tx, run, now, events);
        }
        if self.mesh.know_hub_life(tx, &run.head) {
            events.push(Event::Registry);
        }
        if self.shows_a_fork(tx, &run, now, events)? {
            self.mesh.dispute(feed);
            return Ok(Reply::Refused(FeedError::NotTheSignedChain(feed).into()));
        }
        match self.mesh.ingest(tx, run, events) {
            Ok(end) => Ok(Reply::Stored(feed, end.seq)),
            Err(RunRefused::Ingest(IngestError::Store(error))) => Err(error.into()),
            Err(refused) => Ok(Reply::Refused(refused)),
        }
    }

    /// Does what entries ask for that were stored in this turn, and tells the shell.
    fn follow<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        ticks: Ticks,
        now: &Now,
        mut events: Vec<Event>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SaleError> {
        self.follow_documents(tx, now, &mut events)?;
        if events.iter().any(|e| matches!(e, Event::Blocks(_) | Event::Person(_))) {
            effects.push(Effect::People);
        }
        let mut later = Vec::new();
        for event in events {
            match event {
                Event::Registry => {
                    if self.mesh.is_fenced(self.mesh.me) && !proof::sown("own_fence_not_heard") {
                        self.fenced(tx);
                    }
                    effects.push(Effect::Directory(self.mesh.directory()));
                }
                Event::Rights(person) => effects.push(Effect::Rights(person)),
                Event::Granted { feed, seq, grant } => {
                    if feed.channel == Channel::Rights(self.mesh.me) {
                        self.attempt(tx, (feed, seq), &mut later, |edge, tx, later| {
                            edge.take_hub_grant(tx, feed, &grant, now, later)
                        })?;
                        effects.push(Effect::Rights(grant.row.person));
                    }
                }
                Event::Cheque { feed, seq, grant } => {
                    self.attempt(tx, (feed, seq), &mut later, |edge, tx, later| {
                        edge.take_cheque(tx, feed, seq, &grant, now, later)
                    })?;
                }
                Event::Forked(feed) => effects.push(Effect::Forked(feed)),
                Event::Receipt { by, receipt } => {
                    self.hear_receipt(tx, by, &receipt, ticks)?;
                    effects.push(Effect::Receipt(receipt));
                }
                Event::Time { said, hub_time_ms } => self.hear_time(tx, said, hub_time_ms, ticks),
                Event::Quarantined { feed, seq, cause } => effects.push(Effect::Quarantined { feed, seq, cause }),
                Event::Journal { feed, seq, entry } if feed.writer != self.mesh.me => {
                    sale::mark_theirs(&self.mesh, tx, feed, seq, &entry.body)?;
                    self.attempt(tx, (feed, seq), &mut later, |edge, tx, _| {
                        sale::apply_journal(&edge.mesh, tx, feed, seq, &entry)
                    })?;
                }
                Event::Blocks(_) | Event::Person(_) | Event::Journal { .. } => {}
                // Taken out by `follow_documents`.
                Event::Change { .. } | Event::Rebase { .. } | Event::Twice { .. } | Event::Contradiction(_) => {}
            }
        }
        self.tell_quarantined(tx, now, &mut later)?;
        for event in later {
            match event {
                Event::Rights(person) => effects.push(Effect::Rights(person)),
                Event::Quarantined { feed, seq, cause } => effects.push(Effect::Quarantined { feed, seq, cause }),
                _ => {}
            }
        }
        let grown = tx.batch().appended.keys().chain(tx.batch().bases.keys());
        effects.extend(grown.map(|feed| Effect::Grown(*feed)));
        Ok(())
    }

    /// Does what a stored entry asks for, or sets the entry aside where that comes to sums that cannot be: what it did
    /// is taken back, the rest of its run goes on.
    pub(crate) fn attempt<'s, R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'s, R>,
        (feed, seq): (FeedId, Seq),
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut Edge, &mut Tx<'s, R>, &mut Vec<Event>) -> Result<(), SaleError>,
    ) -> Result<(), SaleError> {
        let before = events.len();
        tx.save();
        let cause = match act(self, tx, events) {
            Ok(()) => {
                tx.release();
                return Ok(());
            }
            Err(SaleError::Store(error)) => return Err(error.into()),
            Err(SaleError::Rights(cause)) => cause.to_string(),
            Err(SaleError::Sum(cause)) => cause.to_string(),
        };
        tx.roll_back();
        events.truncate(before);
        Ok(self.mesh.quarantine(tx, feed, seq, cause, events)?)
    }
}

/// The channel this campus' blocks are written to.
fn blocks_of(place: Place) -> Channel {
    Channel::Blocks(place.campus.map_or(BlockScope::Hub, BlockScope::Campus))
}
