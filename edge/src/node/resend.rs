//! Asking siblings about a purchase that one of them may have answered, and answering them (design section 5).
//!
//! Bounded: when a sibling that served the terminal cannot say, the purchase is decided here and marked with an alarm;
//! the hub pairs it if it was sold twice. A sibling that says that it decides it just then is waited for as long as a
//! purchase may take, as is one that says that it has; the terminal asks again after that. Leaves to others: which ids are asked about (`yika_crdt::resend`).

use super::{ASK_MS_MAX, Busy, EdgeNode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::Command;
use yika_crdt::entry::AlarmRecord;
use yika_crdt::ids::*;
use yika_crdt::resend::{Question, Resends};
use yika_crdt::sale::Answer;
use yika_crdt::sold;
use yika_crdt::store::StoreError;
use yika_crdt::sync::Message;
use yika_link::PeerIdentity;

/// What a sibling says of an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SaidOfId {
    /// It is not answered there, and left to this box.
    Unknown,
    /// It is decided there, just now or before.
    Deciding,
}

/// Siblings that were asked and have not answered, when the wait for them is over.
#[derive(Default)]
struct Unanswered {
    /// They have said nothing.
    silent: BTreeSet<Writer>,
    /// They decide it, or have decided it.
    deciding: BTreeSet<Writer>,
}

/// A purchase under way; siblings that ask about it wait for its end.
pub(super) struct Deciding<'n> {
    node: &'n EdgeNode,
    id: PurchaseId,
    /// Somebody else may have answered it.
    was_asked: bool,
    /// A sibling that served this terminal before and could not be asked.
    unasked: Option<Writer>,
    /// A sibling that decides it, or has decided it.
    elsewhere: Option<Writer>,
    is_over: bool,
}

impl Deciding<'_> {
    /// The sibling that decides it, so that this box must not.
    pub(super) fn elsewhere(&self) -> Option<Writer> {
        self.elsewhere
    }

    /// It is decided, or it cannot be.
    pub(super) async fn end(mut self, answer: &Result<Answer, Busy>) {
        self.is_over = true;
        let answered_by = match (answer, self.was_asked) {
            (Ok(_), true) => self.node.answered_by(self.id).ok().flatten(),
            (Ok(_), false) => Some(self.node.me),
            (Err(_), _) => None,
        };
        let askers = self.node.resends().end(self.id, answered_by.map(|writer| writer.node));
        self.node.tell_unknown(askers, self.id);
        if let (Some(sibling), Ok(_)) = (self.unasked, answer) {
            let detail = format!("{} was decided without {sibling}, which served the terminal before", self.id);
            let alarm = AlarmRecord { kind: "unasked".into(), detail };
            if let Err(error) = self.node.call(Command::Alarm(alarm)).await {
                tracing::warn!(%error, "an alarm was not journaled");
            }
        }
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.node.resends().abandon(self.id);
        }
    }
}

impl EdgeNode {
    /// Asks siblings about an id if one of them may have answered it. Returns when it is answered, when nobody has
    /// answered it, or at the bound.
    pub(super) async fn ask_siblings(&self, id: PurchaseId, until: Instant) -> Result<Deciding<'_>, Busy> {
        let must_ask = self.resends().begin(id);
        let mut deciding =
            Deciding { node: self, id, was_asked: must_ask, unasked: None, elsewhere: None, is_over: false };
        if !must_ask || self.is_answered(id)? {
            return Ok(deciding);
        }
        // Listen before asking, so that nothing said in between is missed.
        let (said, grown) = (self.said_of_ids.subscribe(), self.ears.grown.subscribe());
        let asked = self.question_siblings(id);
        // What this box has let go no journal brings back: decided like anything that nobody speaks of.
        let is_old = self.look(|store| sold::is_too_old(store, id))?;
        let until = if is_old { until.min(Instant::now() + Duration::from_millis(ASK_MS_MAX)) } else { until };
        let left = self.wait_for_words(id, asked.keys().copied().collect(), until, (said, grown)).await?;
        for (sibling, words) in &asked {
            self.note_answer(*sibling, words, !left.silent.contains(sibling));
        }
        if !self.is_answered(id)? {
            deciding.unasked = self.served_before(id)?.filter(|w| left.silent.contains(w) || !asked.contains_key(w));
            deciding.elsewhere = left.deciding.first().copied().filter(|_| !is_old);
        }
        Ok(deciding)
    }

    /// Of a sibling's question: what to say at once.
    pub(super) fn on_question(&self, from: Writer, id: PurchaseId) -> Option<Message> {
        let question = self.resends().question(from.node, id);
        let is_unknown = match question {
            Question::Unknown => true,
            Question::Deciding => return Some(Message::Deciding(id)),
            Question::Wait => false,
            Question::Look => match self.is_answered(id) {
                // The journal tells the answer, and may take longer than a silent sibling is waited for; nobody takes that
                // of a box whose life is over.
                Ok(true) if !self.shut().is_some_and(|shut| shut.is_for_ever()) => return Some(Message::Deciding(id)),
                Ok(is_answered) => !is_answered,
                Err(_) => false,
            },
        };
        is_unknown.then_some(Message::Unknown(id))
    }

    /// A sibling's word that an id is unknown there.
    pub(super) fn on_unknown(&self, from: Writer, id: PurchaseId) {
        self.resends().unknown(from.node, id);
        // Nobody listens once it is decided.
        let _ = self.said_of_ids.send((from, id, SaidOfId::Unknown));
    }

    /// A sibling's word that it decides an id, or has decided it.
    pub(super) fn on_deciding(&self, from: Writer, id: PurchaseId) {
        let _ = self.said_of_ids.send((from, id, SaidOfId::Deciding));
    }

    /// A refund takes a number of its terminal, too.
    pub(super) fn note_refund(&self, id: PurchaseId) {
        let mut resends = self.resends();
        resends.begin(id);
        resends.end(id, Some(self.me.node));
    }

    /// Whether a peer is a box of the same campus.
    pub(super) fn is_sibling(&self, peer: &PeerIdentity) -> bool {
        let place = peer.place();
        place.campus.is_some() && place.campus == self.place.campus
    }

    /// Asks whoever of the campus is there and answers.
    fn question_siblings(&self, id: PurchaseId) -> BTreeMap<Writer, mpsc::Sender<Message>> {
        let peers = self.lock_peers();
        let there = peers.iter().filter(|(_, peer)| peer.answers() && self.is_sibling(peer.peer.identity()));
        let asked = there.filter(|(_, peer)| peer.words.try_send(Message::Answered(id)).is_ok());
        asked.map(|(writer, peer)| (*writer, peer.words.clone())).collect()
    }

    /// Waits until the id is answered or everybody asked has said that it is unknown: for [`ASK_MS_MAX`], and for who
    /// decides it just then until `last`.
    async fn wait_for_words(
        &self,
        id: PurchaseId,
        asked: BTreeSet<Writer>,
        last: Instant,
        (mut said, mut grown): (broadcast::Receiver<(Writer, PurchaseId, SaidOfId)>, broadcast::Receiver<FeedId>),
    ) -> Result<Unanswered, StoreError> {
        let soon = Instant::now() + Duration::from_millis(ASK_MS_MAX);
        let mut left = Unanswered { silent: asked, deciding: BTreeSet::new() };
        loop {
            let until = match (left.silent.is_empty(), left.deciding.is_empty()) {
                (true, true) => return Ok(left),
                (false, true) => soon,
                (_, false) => last,
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(left),
                word = said.recv() => match word {
                    Ok((from, of, SaidOfId::Unknown)) if of == id => {
                        left.silent.remove(&from);
                        left.deciding.remove(&from);
                    }
                    Ok((from, of, SaidOfId::Deciding)) if of == id && left.silent.remove(&from) => {
                        left.deciding.insert(from);
                    }
                    // Words were missed: the bound decides.
                    _ => {}
                },
                feed = grown.recv() => {
                    let is_journal = feed.is_ok_and(|feed| feed.channel == Channel::Journal && feed.writer != self.me);
                    if is_journal && self.is_answered(id)? {
                        return Ok(Unanswered::default());
                    }
                }
            }
        }
    }

    fn is_answered(&self, id: PurchaseId) -> Result<bool, StoreError> {
        self.look(|store| sold::is_known(store, id))
    }

    /// The sibling that answered the id before this one.
    fn served_before(&self, id: PurchaseId) -> Result<Option<Writer>, StoreError> {
        let before = PurchaseId { seq: id.seq.saturating_sub(1), ..id };
        Ok(self.answered_by(before)?.filter(|writer| writer.node != self.me.node))
    }

    fn answered_by(&self, id: PurchaseId) -> Result<Option<Writer>, StoreError> {
        self.look(|store| sold::answered_by(store, id))
    }

    fn tell_unknown(&self, askers: BTreeSet<NodeId>, id: PurchaseId) {
        if askers.is_empty() {
            return;
        }
        for peer in self.peers().into_iter().filter(|peer| askers.contains(&peer.node)) {
            self.say(peer, Message::Unknown(id));
        }
    }

    fn resends(&self) -> MutexGuard<'_, Resends> {
        self.resends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
