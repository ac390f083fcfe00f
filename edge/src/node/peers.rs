//! What peers say to this box, and what it answers; how far they have shown that they hold its own feeds.
//!
//! Leaves to others: when it is said (`yika_link::sync`), what becomes of it (the core, behind [`EdgeNode::call`]),
//! questions about purchases (`resend`).

use super::{EdgeNode, SOFTWARE};
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::{Directory, RunRefused};
use yika_crdt::store::{Read, StoreError};
use yika_crdt::sync::{Claim, Known, Message, SnapshotWord};
use yika_link::PeerIdentity;
use yika_link::sync::{Greeting, Node, NotTaken};

/// How far peers have shown that they hold this box's own feeds.
#[derive(Default)]
pub(super) struct Losses(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    /// By node, as it greeted last: a hub that was restored meanwhile cannot give back what it held before.
    ends: BTreeMap<NodeId, BTreeMap<FeedId, Seq>>,
    /// Peers that said more than they could show; an alarm each, once.
    liars: BTreeMap<Writer, bool>,
}

impl Losses {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As each node has shown since it greeted last.
    pub(super) fn ends(&self) -> BTreeMap<NodeId, BTreeMap<FeedId, Seq>> {
        self.lock().ends.clone()
    }

    /// A node greets anew.
    fn begin(&self, from: NodeId) {
        self.lock().ends.remove(&from);
    }

    fn note(&self, from: NodeId, feed: FeedId, end: Seq) {
        self.lock().ends.entry(from).or_default().insert(feed, end);
    }

    fn note_liar(&self, peer: Writer) {
        self.lock().liars.entry(peer).or_insert(false);
    }

    /// True once for each peer that could not show what it said.
    fn must_tell(&self, peer: Writer) -> bool {
        self.lock().liars.get_mut(&peer).is_some_and(|told| !std::mem::replace(told, true))
    }
}

impl Node for EdgeNode {
    fn me(&self) -> Writer {
        self.me
    }

    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn software(&self) -> &str {
        SOFTWARE
    }

    fn directory(&self) -> Arc<Directory> {
        self.ears.directory.borrow().clone()
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.look(read)
    }

    fn known(&self) -> Option<&Mutex<Known>> {
        Some(&self.ears.known)
    }

    fn grown(&self) -> broadcast::Receiver<FeedId> {
        self.ears.grown.subscribe()
    }

    async fn ingest(&self, from: Writer, run: Box<Run>) -> Result<(FeedId, Seq), NotTaken> {
        let (feed, end) = (run.head.feed, run.head.end.seq);
        self.heard(from);
        match self.call(Command::Ingest(run)).await {
            Ok(Reply::Stored(feed, seq)) => Ok((feed, seq)),
            Ok(Reply::Branch { feed, from: wanted }) => Ok(self.own_wanted(from, feed, wanted)),
            // What a box that lost its database wrote may come before the registry that lists it.
            Ok(Reply::Refused(refused)) if feed.writer == self.me && !refused.may_pass() => {
                Ok(self.own_refused(from, feed, &refused.to_string()))
            }
            Ok(Reply::Refused(RunRefused::Fenced { feed, .. })) => {
                // The peer has not heard of the fence; what comes after it is of no use here, but no offence.
                Ok((feed, end))
            }
            Ok(Reply::Refused(refused)) if refused.is_fork() => {
                // Whoever passes a branch on in good faith must not be cut off for it: it is shown what is held here.
                tracing::error!(%from, %feed, "a peer holds another branch of this feed");
                let shown = self.look(|store| store.head_from(&feed, store.feed(&feed)?.end.seq));
                shown.ok().flatten().map(|head| self.say(from, Message::Diverged(Box::new(head))));
                Ok((feed, end))
            }
            Ok(Reply::Refused(refused)) => {
                tracing::warn!(%from, %feed, %refused, "a run was refused");
                Err(refused.into())
            }
            Ok(other) => Err(NotTaken::for_now(format!("the core answered a run with {other:?}"))),
            Err(busy) => Err(NotTaken::for_now(busy)),
        }
    }

    async fn on_message(&self, from: &PeerIdentity, message: Message) -> Option<Message> {
        let writer = from.writer();
        self.heard(writer);
        match message {
            Message::Renewed(reply) if writer.node.is_hub() => {
                // Nobody listens when nothing was asked.
                let _ = self.renewals.send(reply);
                None
            }
            Message::Snapshot(word) if writer.node.is_hub() => self.hear_of_a_snapshot(writer, *word),
            Message::Ask { row, total } => {
                let granted = self.call(Command::Ask { from: writer, row, total }).await;
                (granted != Ok(Reply::Granted(true))).then_some(Message::Denied { row, total })
            }
            Message::Denied { row, total } => {
                let _ = self.denied.send((writer, row, total));
                None
            }
            Message::Answered(id) if self.is_sibling(from) => self.on_question(writer, id),
            Message::Unknown(id) => {
                self.on_unknown(writer, id);
                None
            }
            Message::Deciding(id) => {
                self.on_deciding(writer, id);
                None
            }
            Message::Level { row, right } => {
                let _ = self.call(Command::Level { from: writer, row, right }).await;
                None
            }
            Message::Recall { row, keep } if writer.node.is_hub() => {
                let given = self.call(Command::Recall { row, keep }).await;
                (given != Ok(Reply::Granted(true))).then_some(Message::Denied { row, total: keep })
            }
            Message::Branch { feed, from } if writer.node.is_hub() || feed.writer == writer => {
                let run = tokio::task::block_in_place(|| {
                    self.look(|store| yika_crdt::sync::run_from(store, feed, from, self.me, &self.key))
                });
                run.ok().flatten().map(|run| Message::Other(Box::new(run)))
            }
            Message::Other(run) if run.head.feed.writer == self.me => self.take_back(run).await,
            Message::Diverged(head) => {
                tracing::error!(feed = %head.feed, "a peer holds another end of this feed");
                let _ = self.call(Command::Diverged(*head)).await;
                None
            }
            _ => None,
        }
    }

    fn on_stored(&self, from: &PeerIdentity, marks: &[(FeedId, Seq)]) {
        self.vitals.heard(from.node, self.ticks.now().mono_ms);
        for (feed, seq) in marks {
            if from.node.is_hub() && feed.writer == self.me && feed.channel == Channel::Journal {
                self.vitals.hub_has(*seq);
            }
        }
    }

    async fn on_greeted(node: &Arc<Self>, peer: &PeerIdentity, greeting: Greeting) -> Result<(), NotTaken> {
        if peer.node.is_hub() {
            let alone = FeedId { writer: peer.writer(), channel: Channel::Receipts(node.me.node) };
            let said = greeting.have.iter().find(|claim| claim.feed == alone).map_or(Seq::ZERO, |claim| claim.end.seq);
            let greeted = Command::HubGreeted { life: peer.writer(), said };
            node.call(greeted).await.map_err(NotTaken::for_now)?;
        }
        // What it holds first: whoever sees that it is connected must not take it for one that holds nothing.
        node.note_claims(peer, &greeting.have);
        node.vitals.met(peer.node, &greeting.software, node.ticks.now().mono_ms);
        tracing::info!(peer = %peer.writer(), "connected");
        if node.losses.must_tell(peer.writer()) {
            let detail = format!(
                "{} says that it holds this box's feeds and shows no head signed by this box for it: look at that box",
                peer.writer()
            );
            let _ = node.call(Command::Alarm(AlarmRecord { kind: "false_claim".into(), detail })).await;
        }
        node.ears.changed.send_modify(|n| *n += 1);
        Ok(())
    }
}

impl EdgeNode {
    /// How far a peer shows that it holds this box's own feeds.
    fn note_claims(&self, from: &PeerIdentity, have: &[Claim]) {
        self.losses.begin(from.node);
        let key = self.key.verifying_key();
        for claim in have.iter().filter(|claim| claim.feed.writer == self.me && claim.end.seq > Seq::ZERO) {
            // Waiting for what was never written would stop this box: only what its own key has signed counts.
            if !claim.is_signed_by(&key) {
                self.losses.note_liar(from.writer());
                return;
            }
            if from.node.is_hub() && claim.feed.channel == Channel::Journal {
                self.vitals.hub_has(claim.end.seq);
            }
            self.losses.note(from.node, claim.feed, claim.end.seq);
        }
    }

    /// A run of an own feed that does not continue ours and proves nothing: more of it is wanted, from further back.
    fn own_wanted(&self, from: Writer, feed: FeedId, wanted: Seq) -> (FeedId, Seq) {
        self.say(from, Message::Branch { feed, from: wanted });
        self.own_refused(from, feed, "not proved yet")
    }

    /// An own feed that does not continue as ours does, signed by our key: the peer is shown our end.
    fn own_refused(&self, from: Writer, feed: FeedId, refused: &str) -> (FeedId, Seq) {
        let end = self.look(|store| store.feed(&feed)).map(|state| state.end).unwrap_or_default();
        tracing::error!(%feed, refused, "a peer holds another continuation of this box's own feed");
        if end.seq > Seq::ZERO {
            self.say(from, Message::Diverged(Box::new(SignedHead::sign(feed, end, &self.key))));
        }
        (feed, end.seq)
    }

    /// For whoever fetches snapshots; what finds no room there is declined.
    fn hear_of_a_snapshot(&self, writer: Writer, word: SnapshotWord) -> Option<Message> {
        let Err(dropped) = self.snapshots.0.try_send((writer, word)) else { return None };
        tracing::warn!(%writer, "more is said of snapshots than was asked for");
        match dropped.into_inner() {
            // Headquarters would hold entries back until it hears what became of it.
            (_, SnapshotWord::Offer(signed)) => {
                let id = signed.manifest.id();
                Some(Message::Snapshot(Box::new(SnapshotWord::Declined { id })))
            }
            _ => None,
        }
    }

    /// A branch of an own feed, which a peer was asked for.
    async fn take_back(&self, run: Box<Run>) -> Option<Message> {
        let asked = run.from;
        match self.call(Command::Ingest(run)).await {
            // Each further question goes further back, so that they end.
            Ok(Reply::Branch { feed, from }) if from < asked => Some(Message::Branch { feed, from }),
            _ => None,
        }
    }
}
