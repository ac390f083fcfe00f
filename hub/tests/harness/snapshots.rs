//! Snapshots in the harness: cut by the pure hub, offered to whom lacks much, taken in by pure edges.

use super::{World, key_of};
use yika_crdt::channel::FeedId;
use yika_crdt::edge::{self, Reply};
use yika_crdt::ids::{NodeId, Seq};
use yika_crdt::snapshot::*;
use yika_crdt::store::Read;
use yika_crdt::sync::{Message, SnapshotWord};

/// A snapshot with its chunks.
#[derive(Clone)]
pub struct Cut {
    pub signed: SignedManifest,
    pub chunks: Vec<Vec<u8>>,
}

/// Reads all of it, or says what is wrong.
pub fn check(cut: &Cut, judge: Judge) -> Result<Steps, SnapshotRefused> {
    let mut check = Check::new(cut.signed.clone(), judge)?;
    cut.chunks.iter().try_for_each(|chunk| check.chunk(chunk))?;
    check.finish()
}

/// All steps, the closing one last.
pub fn steps(cut: &Cut, judge: Judge) -> Result<Vec<Step>, SnapshotRefused> {
    let mut steps = check(cut, judge)?;
    let mut all = Vec::new();
    for chunk in &cut.chunks {
        all.extend(steps.chunk(chunk)?);
    }
    all.push(steps.closing()?);
    Ok(all)
}

impl World {
    pub fn cut_snapshot(&self, audience: Audience, drop: Vec<(FeedId, Seq)>) -> Cut {
        let mut chunks = Vec::new();
        let key = key_of(NodeId::HUB);
        let cutter = Cutter { by: self.hub.hub.mesh.me, key: &key, audience, cut_ms: self.now_ms, drop };
        let mut sink = |chunk: &[u8]| {
            chunks.push(chunk.to_vec());
            Ok(())
        };
        let signed = yika_crdt::snapshot::cut(&self.hub.store, cutter, &mut sink).unwrap();
        Cut { signed, chunks }
    }

    pub fn judge(&self, n: usize) -> Judge {
        let edge = &self.edges[n];
        Judge::new(edge.place, edge.edge.mesh.nodes.values().map(|node| &node.record))
    }

    pub fn take_in(&mut self, n: usize, cut: &Cut) -> Result<(), SnapshotRefused> {
        for step in steps(cut, self.judge(n))? {
            assert_eq!(self.tell(n, edge::Command::Restore(Box::new(step))), Reply::Done);
        }
        Ok(())
    }

    /// After a greeting at the hub: what the peer lacks much of is offered.
    pub(super) fn offer_snapshots(&mut self, to: NodeId) {
        let directory = self.hub.hub.mesh.directory();
        let feeds = self.hub.store.feeds().unwrap();
        let end = self.ends.get_mut(&(NodeId::HUB, to)).unwrap();
        for audience in end.sync.hold_for_snapshots(&directory, &feeds) {
            let cut = self.cut_snapshot(audience, Vec::new());
            let offer = SnapshotWord::Offer(Box::new(cut.signed.clone()));
            self.cuts.insert(cut.signed.manifest.id(), cut);
            self.ends.get_mut(&(NodeId::HUB, to)).unwrap().sync.say(Message::Snapshot(Box::new(offer)));
        }
    }

    /// A box that is offered one has it at once; the answer.
    pub(super) fn on_snapshot_word(&mut self, to: NodeId, from: NodeId, word: SnapshotWord) -> Option<Message> {
        assert!(self.ends.get_mut(&(to, from)).unwrap().sync.on_snapshot_word(&word));
        let SnapshotWord::Offer(signed) = word else { return None };
        let id = signed.manifest.id();
        let cut = self.cuts[&id].clone();
        let n = self.index(to);
        let word = match self.take_in(n, &cut) {
            Ok(()) => SnapshotWord::Taken { id },
            Err(_) => SnapshotWord::Declined { id },
        };
        Some(Message::Snapshot(Box::new(word)))
    }
}
