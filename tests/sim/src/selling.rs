//! A purchase at a box: siblings are asked who may have answered it, then it is decided, and short of rights others are
//! asked — the steps of the running box, as events.
//!
//! Leaves to others: decisions (`yika_crdt::sale`), which ids are asked about (`yika_crdt::resend`), terminals (`crowd`).

use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::resend::Question;
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest};
use yika_crdt::sold;
use yika_crdt::sync::Message;

/// Longest wait for one node that was asked.
const ASK_MS: i64 = 800;
/// Longest wait of one purchase for all.
const PURCHASE_WAIT_MS: i64 = 2_000;

/// A purchase under way.
pub struct Pending {
    request: PurchaseRequest,
    /// Which request of the terminal: an older bound does not end it.
    number: u64,
    until_ms: i64,
    wait: Wait,
    asked: BTreeMap<(Writer, Row), Fen>,
    /// Over which connection each was asked last.
    over: BTreeMap<NodeId, u64>,
    /// Somebody else may have answered it.
    was_asked: bool,
    unasked: Option<Writer>,
    /// It was answered before this request.
    was_known: bool,
}

/// Whom it waits for.
enum Wait {
    /// Siblings that have said nothing yet, and such that decide it just then.
    Siblings { asked: BTreeSet<Writer>, silent: BTreeSet<NodeId>, deciding: BTreeSet<NodeId> },
    /// A grant, up to this total.
    Rights { whom: Writer, row: Row, total: Fen },
    /// Nobody: it is being decided.
    Nobody,
}

impl World {
    /// A terminal asks a box.
    pub fn purchase(&mut self, n: usize, request: PurchaseRequest) {
        let id = request.id;
        let is_short = self.boxes[n].shut().is_some_and(|shut| shut.is_short());
        if self.boxes[n].core.is_none() || self.boxes[n].pending.contains_key(&id) {
            return;
        }
        if is_short {
            // The box waits for its gate, the terminal for its answer.
            return self.later(100, Event::Asked { n, request, start: self.boxes[n].start });
        }
        self.purchases += 1;
        self.touch(&request);
        let number = self.purchases;
        let node = &mut self.boxes[n];
        let must_ask = node.resends.begin(id);
        let pending = Pending {
            request,
            number,
            until_ms: self.now_ms + PURCHASE_WAIT_MS,
            wait: Wait::Nobody,
            asked: BTreeMap::new(),
            over: BTreeMap::new(),
            was_asked: must_ask,
            unasked: None,
            was_known: false,
        };
        node.pending.insert(id, pending);
        let me = self.boxes[n].address;
        let siblings = self.answering(n, |place| place == self.boxes[n].place.campus);
        let of_campus =
            self.boxes.iter().filter(|node| node.address != me && node.place.campus == self.boxes[n].place.campus);
        // Also where nobody is to be asked: who was asked first may stand still, and would not have told.
        if of_campus.filter(|node| !self.fenced.contains(&node.me)).any(|node| !siblings.contains(&node.me)) {
            self.taken_alone.insert(id);
        }
        if !must_ask || sold::is_known(&self.boxes[n].disk, id).unwrap_or(false) {
            return self.decide(n, id);
        }
        let over: BTreeMap<NodeId, u64> = siblings
            .iter()
            .filter_map(|sibling| Some((sibling.node, self.say_over(me, sibling.node, Message::Answered(id))?)))
            .collect();
        let silent = siblings.iter().map(|writer| writer.node).collect::<BTreeSet<_>>();
        let is_alone = silent.is_empty();
        if let Some(pending) = self.boxes[n].pending.get_mut(&id) {
            let asked = siblings.into_iter().collect();
            pending.over = over;
            pending.wait = Wait::Siblings { asked, silent, deciding: BTreeSet::new() };
        }
        match is_alone {
            true => self.siblings_said(n, id),
            false => self.later(ASK_MS, Event::Bound { n, id, number, start: self.boxes[n].start }),
        }
    }

    /// Peers of some campus that answer.
    fn answering(&self, n: usize, of: impl Fn(Option<CampusId>) -> bool) -> Vec<Writer> {
        let node = &self.boxes[n];
        let peers = self.peers(node.address).into_iter();
        peers.filter(|peer| !node.silent.contains(&peer.node) && of(self.campus_of(peer.node))).collect()
    }

    /// Who was asked has said nothing; false when that was over a connection that has ended.
    fn note_silent(&mut self, n: usize, id: PurchaseId, whom: NodeId) -> bool {
        let node = &self.boxes[n];
        let over = node.pending.get(&id).and_then(|pending| pending.over.get(&whom).copied());
        let holds = over.is_some_and(|number| self.holds(node.address, whom, number));
        if holds {
            self.boxes[n].silent.insert(whom);
        }
        holds
    }

    /// The bound of a wait is reached.
    pub fn bound(&mut self, n: usize, id: PurchaseId, number: u64) {
        let Some(pending) = self.boxes[n].pending.get(&id).filter(|pending| pending.number == number) else {
            return;
        };
        let pending_until_ms = pending.until_ms;
        match &pending.wait {
            Wait::Siblings { silent, deciding, .. } => {
                if !silent.is_empty() {
                    self.taken_alone.insert(id);
                }
                let is_old = sold::is_too_old(&self.boxes[n].disk, id).unwrap_or(false);
                let (silent, is_decided_there) = (silent.clone(), !deciding.is_empty() && !is_old);
                for sibling in silent {
                    self.note_silent(n, id, sibling);
                }
                match is_decided_there {
                    true if self.now_ms < pending_until_ms => {
                        let start = self.boxes[n].start;
                        self.later(pending_until_ms - self.now_ms, Event::Bound { n, id, number, start });
                    }
                    // The sibling decides: the terminal asks again.
                    true => self.over(n, id, None),
                    false => self.siblings_said(n, id),
                }
            }
            Wait::Rights { whom, row, .. } => {
                let asked = (*whom, *row);
                if !self.note_silent(n, id, asked.0.node)
                    && let Some(pending) = self.boxes[n].pending.get_mut(&id)
                {
                    pending.asked.remove(&asked);
                }
                self.decide(n, id);
            }
            Wait::Nobody => {}
        }
    }

    /// Everybody asked has spoken, or the bound is reached.
    fn siblings_said(&mut self, n: usize, id: PurchaseId) {
        let node = &mut self.boxes[n];
        let Some(pending) = node.pending.get_mut(&id) else { return };
        if let Wait::Siblings { asked, silent, .. } = &pending.wait
            && !sold::is_known(&node.disk, id).unwrap_or(false)
        {
            let before = PurchaseId { seq: id.seq.saturating_sub(1), ..id };
            let served = sold::answered_by(&node.disk, before).ok().flatten().filter(|w| w.node != node.me.node);
            pending.unasked = served.filter(|w| silent.contains(&w.node) || !asked.contains(w));
        }
        pending.wait = Wait::Nobody;
        self.decide(n, id);
    }

    fn decide(&mut self, n: usize, id: PurchaseId) {
        let me = self.boxes[n].address;
        let Some(pending) = self.boxes[n].pending.get_mut(&id) else { return };
        pending.wait = Wait::Nobody;
        let (request, until_ms) = (pending.request.clone(), pending.until_ms);
        let was_known = sold::is_known(&self.boxes[n].disk, id).unwrap_or(false);
        if let Some(pending) = self.boxes[n].pending.get_mut(&id) {
            pending.was_known = was_known;
        }
        let may_ask = !self.peers(me).is_empty();
        let (row, missing) = match self.tell(n, Command::Purchase { request, may_ask }) {
            Ok(Reply::Outcome(Outcome::Answered(answer))) => return self.over(n, id, Some(answer)),
            Ok(Reply::Outcome(Outcome::Short { row, missing })) => (row, missing),
            // Not done: the terminal asks again.
            Ok(Reply::Shut(_)) | Err(_) => return self.over(n, id, None),
            Ok(other) => return self.fail(format!("{me} answers a purchase with {other:?}")),
        };
        let has_time = self.now_ms + ASK_MS <= until_ms;
        let (whom, total) = match self.next_to_ask(n, id, row, missing) {
            Some(next) if has_time => next,
            // The terminal asks again.
            Some((whom, _)) if whom.node.is_hub() => return self.over(n, id, None),
            _ => return self.give_up(n, id, row),
        };
        let over = self.say_over(me, whom.node, Message::Ask { row, total });
        let start = self.boxes[n].start;
        let Some(pending) = self.boxes[n].pending.get_mut(&id) else { return };
        pending.over.extend(over.map(|number| (whom.node, number)));
        pending.asked.insert((whom, row), total);
        pending.wait = Wait::Rights { whom, row, total };
        self.purchases += 1;
        pending.number = self.purchases;
        let number = pending.number;
        self.tally.asks += 1;
        self.later(ASK_MS, Event::Bound { n, id, number, start });
    }

    /// The hub if it is there, else boxes; who gave what was asked for is asked again for more.
    fn next_to_ask(&self, n: usize, id: PurchaseId, row: Row, missing: Fen) -> Option<(Writer, Fen)> {
        let node = &self.boxes[n];
        let able = self.answering(n, |_| true);
        let hub_is_there = able.iter().any(|peer| peer.node.is_hub());
        let asked = &node.pending.get(&id)?.asked;
        let able = able.into_iter().filter(|peer| peer.node.is_hub() || !hub_is_there);
        able.filter_map(|peer| {
            let granted = node.granted_by(peer, row);
            let anew = asked.get(&(peer, row)).is_none_or(|total| granted >= *total);
            anew.then(|| granted.add(missing).ok()).flatten().map(|total| (peer, total))
        })
        .next()
    }

    fn give_up(&mut self, n: usize, id: PurchaseId, row: Row) {
        let Some(pending) = self.boxes[n].pending.get(&id) else { return };
        let request = pending.request.clone();
        let hub_is_there = self.answering(n, |_| true).iter().any(|peer| peer.node.is_hub());
        let reason = if matches!(row.wallet, WalletKey::Limit(..)) { Reason::OverDayLimit } else { Reason::NotEnough };
        let last = match hub_is_there {
            true => Command::Refuse { request, reason },
            false => Command::Purchase { request, may_ask: false },
        };
        match self.tell(n, last) {
            Ok(Reply::Answer(answer) | Reply::Outcome(Outcome::Answered(answer))) => self.over(n, id, Some(answer)),
            Ok(Reply::Shut(_)) | Err(_) => self.over(n, id, None),
            Ok(other) => self.fail(format!("a refusal is answered with {other:?}")),
        }
    }

    /// A purchase is answered, or cannot be now.
    fn over(&mut self, n: usize, id: PurchaseId, answer: Option<Answer>) {
        let Some(pending) = self.boxes[n].pending.remove(&id) else { return };
        let (at, me) = (self.boxes[n].address, self.boxes[n].me.node);
        let answered_by = match (&answer, pending.was_asked) {
            (Some(_), true) => sold::answered_by(&self.boxes[n].disk, id).ok().flatten().map(|writer| writer.node),
            (Some(_), false) => Some(me),
            (None, _) => None,
        };
        for asker in self.boxes[n].resends.end(id, answered_by) {
            self.say(at, asker, Message::Unknown(id));
        }
        if let (Some(sibling), Some(_)) = (pending.unasked, &answer) {
            self.tally.unasked += 1;
            let detail = format!("{id} was decided without {sibling}, which served the terminal before");
            _ = self.tell(n, Command::Alarm(AlarmRecord { kind: "unasked".into(), detail }));
        }
        if let Some(answer) = answer {
            self.answered(n, &pending.request, answer, pending.was_known);
        }
    }

    /// A sibling asks whether an id was answered here.
    pub fn asked_about(&mut self, n: usize, from: NodeId, id: PurchaseId) -> Option<Message> {
        let node = &mut self.boxes[n];
        let is_unknown = match node.resends.question(from, id) {
            Question::Unknown => true,
            Question::Deciding => return Some(Message::Deciding(id)),
            Question::Wait => false,
            Question::Look => match sold::is_known(&node.disk, id) {
                Ok(true) if !node.shut().is_some_and(|shut| shut.is_for_ever()) => return Some(Message::Deciding(id)),
                Ok(is_known) => !is_known,
                Err(_) => false,
            },
        };
        is_unknown.then_some(Message::Unknown(id))
    }

    /// A sibling says that an id is unknown there.
    pub fn unknown_at(&mut self, n: usize, from: NodeId, id: PurchaseId) {
        let node = &mut self.boxes[n];
        node.resends.unknown(from, id);
        let Some(pending) = node.pending.get_mut(&id) else { return };
        if let Wait::Siblings { silent, deciding, .. } = &mut pending.wait {
            silent.remove(&from);
            deciding.remove(&from);
            if silent.is_empty() && deciding.is_empty() {
                self.siblings_said(n, id);
            }
        }
    }

    /// A sibling says that it is deciding an id.
    pub fn decided_at(&mut self, n: usize, from: NodeId, id: PurchaseId) {
        let Some(pending) = self.boxes[n].pending.get_mut(&id) else { return };
        if let Wait::Siblings { silent, deciding, .. } = &mut pending.wait
            && silent.remove(&from)
        {
            deciding.insert(from);
        }
    }

    /// Somebody's journal has grown: what siblings are asked about may stand in it.
    pub fn look_at_pending(&mut self, n: usize) {
        let node = &self.boxes[n];
        let waits = node.pending.iter().filter(|(_, pending)| matches!(pending.wait, Wait::Siblings { .. }));
        let known: Vec<PurchaseId> =
            waits.map(|(id, _)| *id).filter(|id| sold::is_known(&node.disk, *id).unwrap_or(false)).collect();
        known.into_iter().for_each(|id| self.siblings_said(n, id));
    }

    /// Rights of a person have grown at a box.
    pub fn rights_grew(&mut self, n: usize, person: PersonId) {
        let node = &self.boxes[n];
        let met = |pending: &Pending| match pending.wait {
            Wait::Rights { whom, row, total } => row.person == person && node.granted_by(whom, row) >= total,
            _ => false,
        };
        let met: Vec<PurchaseId> = node.pending.iter().filter(|(_, p)| met(p)).map(|(id, _)| *id).collect();
        met.into_iter().for_each(|id| self.decide(n, id));
    }

    /// A peer will not grant what was asked.
    pub fn denied(&mut self, n: usize, from: Writer, of: Row, asked: Fen) {
        let denied = |pending: &Pending| matches!(pending.wait, Wait::Rights { whom, row, total } if (whom, row, total) == (from, of, asked));
        let denied: Vec<PurchaseId> =
            self.boxes[n].pending.iter().filter(|(_, p)| denied(p)).map(|(id, _)| *id).collect();
        self.tally.denials += denied.len() as u64;
        denied.into_iter().for_each(|id| self.decide(n, id));
    }
}
