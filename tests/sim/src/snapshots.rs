//! Snapshots and pruning as the two programs do it: headquarters cuts, keeps the last two of each audience, offers, and
//! says what may go; a box fetches chunk by chunk, checks the whole, and takes it in step by step, beside everything else.
//!
//! The same steps as `hub/src/snapshot.rs` and `edge/src/snapshot.rs` take with files; bounds are as small as histories
//! are short. Leaves to others: what is in a snapshot (`yika_crdt::snapshot`), what must hold in the end (`known`).

use crate::chance::Chance;
use crate::more::Work;
use crate::plan::{Class, Plan};
use crate::theme::Theme;
use crate::turn::NotDone;
use crate::world::{REST_MS, World};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use yika_crdt::channel::{self, FeedId};
use yika_crdt::edge;
use yika_crdt::feed::{End, Hash};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::snapshot::{
    self, Audience, CHUNK_BYTES, Check, Cutter, Fetch, Judge, Placed, SignedManifest, Step, cut,
};
use yika_crdt::store::{Read, StoreError};
use yika_crdt::sync::{FEEDS_PER_MESSAGE_MAX, Message, SnapshotWord};
use yika_hub_core as core;

/// Snapshots of one audience that are kept.
const KEPT: usize = 2;
/// A snapshot younger than this is not cut again, whoever asks.
const CUT_AGAIN_MS_MIN: i64 = 3_000;
/// A fetch of which nothing was heard for so long asks again.
const SILENT_MS_MAX: i64 = 20_000;
/// So long after the connection to headquarters was lost siblings send what the snapshot would have brought.
const GONE_MS_MAX: i64 = 10_000;
/// Keeps it apart from all else whether lines are thin.
const THIN_APART: u64 = 0x7819_0000;
/// Longest way of a chunk over a thin line.
const THIN_MS_MAX: i64 = 7_000;
/// Keeps it apart from all else whether headquarters is backed up seldom.
const SELDOM_APART: u64 = 0x5E1D_0000;

/// A snapshot with all its chunks.
#[derive(Clone)]
struct Part {
    signed: SignedManifest,
    bytes: Vec<u8>,
}

impl Part {
    fn chunk(&self, chunk: u32) -> Option<Vec<u8>> {
        self.bytes.chunks(CHUNK_BYTES).nth(chunk as usize).map(<[u8]>::to_vec)
    }
}

/// What a box has of snapshots.
#[derive(Default)]
struct Shelf {
    /// A half fetched one, which outlives the process.
    part: Option<Part>,
    fetch: Option<Fetch>,
    from: Option<Writer>,
    came_ms: i64,
    seen_ms: i64,
    told: bool,
    offers: BTreeMap<Audience, (Writer, SignedManifest)>,
    taking: Option<VecDeque<Step>>,
    /// Steps were taken in, and not the last.
    is_between: bool,
}

/// Snapshots at all nodes.
pub struct Snapshots {
    kept: BTreeMap<Audience, Vec<Part>>,
    shelves: BTreeMap<usize, Shelf>,
    /// Entries at the end of each feed that stay, whatever snapshots hold.
    keep_entries: u64,
    /// So many entries make a snapshot due.
    grown_min: u64,
    /// The box that is switched on late.
    pub late: Option<usize>,
}

impl Snapshots {
    /// Nothing is cut.
    pub fn new(plan: &Plan, chance: &mut Chance) -> Snapshots {
        let mut late = None;
        let (mut keep_entries, mut grown_min) = (0, 0);
        if plan.is(Theme::Pruning) {
            keep_entries = *chance.pick(&[0, 0, 3, 12, 60]).unwrap_or(&0);
            grown_min = 1 + chance.below(20);
            late = (plan.boxes.len() > 1 && chance.one_in(3)).then(|| chance.below(plan.boxes.len() as u64) as usize);
        }
        Snapshots { kept: BTreeMap::new(), shelves: BTreeMap::new(), keep_entries, grown_min, late }
    }

    fn newest(&self, audience: Audience) -> Option<&Part> {
        self.kept.get(&audience).and_then(|parts| parts.last())
    }

    fn part(&self, id: &Hash) -> Option<&Part> {
        self.kept.values().flatten().find(|part| part.signed.manifest.id() == *id)
    }

    fn shelf(&mut self, n: usize) -> &mut Shelf {
        self.shelves.entry(n).or_default()
    }

    /// Whether a box has taken in some of a snapshot and not the end of it: it knows more than its cursors say.
    pub fn is_between(&self, n: usize) -> bool {
        self.shelves.get(&n).is_some_and(|shelf| shelf.is_between)
    }
}

/// Entries of an audience's feeds beyond a snapshot.
fn grown<R: Read>(store: &R, audience: Audience, since: Option<&SignedManifest>) -> u64 {
    let feeds = store.feeds().unwrap_or_default();
    let beyond = |feed: &FeedId, end: Seq| {
        let base = since.and_then(|signed| signed.manifest.base(feed)).map_or(0, |base| base.seq.0);
        end.0.saturating_sub(base)
    };
    feeds.iter().filter(|(f, _)| audience.covers(f.channel)).map(|(f, held)| beyond(f, held.end.seq)).sum()
}

/// Entries that may leave every node: what has left this one, and what an older snapshot and a verified backup hold and is
/// not among the last ones.
fn droppable<R: Read>(
    store: &R,
    audience: Audience,
    older: Option<&SignedManifest>,
    keep_entries: u64,
) -> Result<Vec<(FeedId, Seq)>, StoreError> {
    let mut drop = Vec::new();
    for (feed, held) in store.feeds()?.into_iter().filter(|(feed, _)| audience.covers(feed.channel)) {
        let base = older.and_then(|signed| signed.manifest.base(&feed)).map_or(Seq::ZERO, |base| base.seq);
        let keep_from = Seq(held.end.seq.0.saturating_sub(keep_entries));
        let archived = core::archived(store, &feed)?;
        let is_archived = !proof::sown("dropped_before_it_is_in_a_backup");
        let safe = if is_archived { base.min(archived) } else { base };
        let upto = safe.min(keep_from).max(held.pruned);
        if upto > Seq::ZERO {
            drop.push((feed, upto));
        }
    }
    Ok(drop)
}

// Headquarters.
impl World {
    /// Makes a backup and proves it: what it holds counts as archived.
    pub fn back_up(&mut self) {
        if self.is_busy() {
            let is_seldom = self.plan.is(Theme::Days) && Chance::new(self.plan.seed ^ SELDOM_APART).one_in(3);
            let most_ms = if is_seldom { self.plan.busy_ms } else { 15_000 };
            self.soon(2_000, most_ms, Work::BackUp);
        }
        // What is told of it must have come to rest in the end.
        let is_late = self.now_ms - self.began_ms > self.plan.busy_ms + REST_MS / 3;
        if is_late || self.hub.core.is_none() || self.hub.is_unaware || self.hub.is_restored || self.hub_is_opening() {
            return;
        }
        let feeds = self.hub.disk.feeds().unwrap_or_default();
        let marks = feeds.into_iter().map(|(feed, held)| (feed, held.end.seq)).collect();
        if self.plan.has(Class::HubRestore) {
            self.hub.backup = Some((self.hub.disk.copy(), self.hub.books.clone(), self.hub.newest_ms));
        }
        if self.order(core::Command::Archived(marks)).is_ok() {
            self.note(|| "headquarters is backed up".into());
            self.done("backups");
        }
    }

    fn is_recovering(&self) -> bool {
        self.hub.core.as_ref().is_none_or(|hub| hub.recovery().is_some())
    }

    /// After a box has greeted: entries of which it lacks much, or lacks what is not kept, wait for an offer.
    pub fn hold_for_snapshots(&mut self, from: NodeId) {
        if !self.plan.is(Theme::Pruning) {
            return;
        }
        let Some(directory) = self.hub.core.as_ref().map(|hub| hub.mesh.directory()) else { return };
        let feeds = self.hub.disk.feeds().unwrap_or_default();
        let Some(sync) = self.sync_of(NodeId::HUB, from) else { return };
        let audiences = sync.hold_for_snapshots(&directory, &feeds);
        if !audiences.is_empty() {
            self.soon(5, 900, Work::Offer(from, audiences.into_iter().collect()));
        }
    }

    /// Offers a box snapshots, one audience after the other, or tells it that there is none.
    pub fn offer(&mut self, to: NodeId, mut audiences: VecDeque<Audience>) {
        let Some(audience) = audiences.pop_front().filter(|_| self.hub.core.is_some()) else { return };
        if !audiences.is_empty() {
            self.soon(5, 900, Work::Offer(to, audiences));
        }
        let word = match self.fresh_snapshot(audience, CUT_AGAIN_MS_MIN) {
            Some(part) => SnapshotWord::Offer(Box::new(part.signed)),
            None => SnapshotWord::Nothing(audience),
        };
        self.say(NodeId::HUB, to, Message::Snapshot(Box::new(word)));
    }

    /// The newest snapshot of an audience, cut anew when much has come since.
    fn fresh_snapshot(&mut self, audience: Audience, age_ms_min: i64) -> Option<Part> {
        let me = self.hub.core.as_ref()?.mesh.me;
        // Those of an earlier life are gone with it.
        self.more.snapshots.kept.values_mut().for_each(|parts| parts.retain(|part| part.signed.manifest.by == me));
        let newest = self.more.snapshots.newest(audience).cloned();
        if let Some(part) = &newest {
            let age_ms = self.now_ms - part.signed.manifest.cut_ms;
            let more = grown(&self.hub.disk, audience, Some(&part.signed));
            if more == 0 || (0..age_ms_min).contains(&age_ms) {
                return newest;
            }
        }
        if self.is_recovering() {
            return None;
        }
        let older = newest.as_ref().map(|part| &part.signed);
        let drop = droppable(&self.hub.disk, audience, older, self.more.snapshots.keep_entries).unwrap_or_default();
        let cut_ms = self.now_ms.max(older.map_or(0, |signed| signed.manifest.cut_ms + 1));
        let cutter = Cutter { by: me, key: &self.hub.key, audience, cut_ms, drop };
        let mut bytes = Vec::new();
        let written = cut(&self.hub.disk, cutter, &mut |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        });
        let signed = match written {
            Ok(signed) => signed,
            Err(error) => {
                self.fail(format!("no snapshot of {audience} is cut: {error}"));
                return None;
            }
        };
        self.note(|| format!("a snapshot of {audience} is cut: {} bytes", signed.manifest.bytes));
        self.done("snapshots cut");
        let part = Part { signed, bytes };
        let parts = self.more.snapshots.kept.entry(audience).or_default();
        parts.push(part.clone());
        if parts.len() > KEPT {
            parts.remove(0);
        }
        Some(part)
    }

    fn audiences(&self) -> Vec<Audience> {
        let campuses = self.boxes.iter().filter_map(|node| node.place.campus).map(Audience::Campus);
        let campuses: std::collections::BTreeSet<Audience> = campuses.collect();
        std::iter::once(Audience::Everyone).chain(campuses).collect()
    }

    /// Cuts what is due, lets entries go, and tells boxes that they may.
    pub fn cut_if_grown(&mut self) {
        if self.is_busy() {
            self.soon(1_500, 8_000, Work::Cut);
        }
        if self.is_recovering() || self.hub_is_opening() || self.hub.is_unaware {
            return;
        }
        for audience in self.audiences() {
            let newest = self.more.snapshots.newest(audience).map(|part| &part.signed);
            if grown(&self.hub.disk, audience, newest) < self.more.snapshots.grown_min {
                continue;
            }
            let Some(part) = self.fresh_snapshot(audience, 0).filter(|part| !part.signed.manifest.drop.is_empty())
            else {
                continue;
            };
            let drop: Arc<[(FeedId, Seq)]> = part.signed.manifest.drop.as_slice().into();
            let is_for = |n: &usize| audience.includes(self.boxes[*n].place);
            for n in (0..self.boxes.len()).filter(is_for).collect::<Vec<_>>() {
                let word = SnapshotWord::Offer(Box::new(part.signed.clone()));
                self.say(NodeId::HUB, self.boxes[n].address, Message::Snapshot(Box::new(word)));
            }
            self.note_words();
            while let Ok(core::Reply::More) = self.order(core::Command::Drop(Arc::clone(&drop))) {}
        }
    }

    /// How much longer a chunk takes where lines are thin: newer snapshots are offered meanwhile.
    pub fn thin_line_ms(&self, message: &Message) -> i64 {
        let is_chunk = matches!(message, Message::Snapshot(word) if matches!(**word, SnapshotWord::Chunk { .. }));
        let is_thin = is_chunk && self.plan.is(Theme::Pruning) && Chance::new(self.plan.seed ^ THIN_APART).one_in(3);
        let mut chance = Chance::new(self.plan.seed ^ THIN_APART ^ self.now_ms.unsigned_abs());
        if is_thin { chance.between(200, THIN_MS_MAX) } else { 0 }
    }

    /// A chunk that a peer has asked for.
    pub fn chunk_for(&mut self, from: NodeId, to: NodeId) -> Option<Message> {
        let (id, chunk) = self.sync_of(from, to)?.wanted()?;
        self.recall(from, to, &id);
        let kept = self.more.snapshots.part(&id).filter(|_| from.is_hub()).and_then(|part| part.chunk(chunk));
        let word = match kept {
            Some(bytes) => SnapshotWord::Chunk { id, chunk, bytes },
            None => SnapshotWord::Gone { id },
        };
        Some(Message::Snapshot(Box::new(word)))
    }

    /// The peer goes on with a snapshot that was offered on an earlier connection.
    fn recall(&mut self, from: NodeId, to: NodeId, id: &Hash) {
        let Some(signed) = self.more.snapshots.part(id).map(|part| part.signed.clone()) else { return };
        if let Some(sync) = self.sync_of(from, to).filter(|sync| from.is_hub() && !sync.has_offered(id)) {
            sync.on_offered(&signed);
        }
    }

    /// Somebody carries the newest snapshots to a box: the hub's word reaches it without a line.
    pub fn carry_stick(&mut self) {
        if self.is_busy() {
            self.soon(10_000, 60_000, Work::Stick);
        }
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        let Some(campus) = self.boxes[n].place.campus else { return };
        if self.hub_is_opening() || self.boxes[n].core.is_none() {
            return;
        }
        let audiences = [Audience::Everyone, Audience::Campus(campus)];
        let parts: Vec<Part> = audiences.into_iter().filter_map(|audience| self.fresh_snapshot(audience, 0)).collect();
        if parts.len() < audiences.len() {
            return;
        }
        let me = self.boxes[n].me;
        self.note(|| format!("snapshots are carried to {me}"));
        self.done("sticks");
        let Some(mut judge) = self.snapshot_judge(n) else { return };
        for part in parts {
            let Some((steps, wider)) = self.check_part(n, &part, judge) else { return };
            judge = wider;
            if self.lacks(n, &part.signed).0 == 0 {
                continue;
            }
            for step in steps {
                if self.restore_step(n, step) != Ok(true) {
                    return;
                }
            }
            self.let_go(n, &part.signed);
        }
    }
}

// A box.
impl World {
    fn snapshot_judge(&self, n: usize) -> Option<Judge> {
        let node = &self.boxes[n];
        let mesh = &node.core.as_ref()?.mesh;
        let judge = Judge::new(node.place, mesh.nodes.values().map(|known| &known.record));
        Some(judge.trusting(self.hub.key.verifying_key()))
    }

    /// What a box lacks that a snapshot brings: entries, of so many in all, and whether some of it is kept nowhere else.
    fn lacks(&self, n: usize, signed: &SignedManifest) -> (u64, u64, bool) {
        let node = &self.boxes[n];
        let (mut lacking, mut all, mut is_cut_off) = (0, 0, false);
        for (feed, base) in signed.manifest.feeds.iter().filter(|(feed, _)| feed.writer != node.me) {
            let held = node.disk.feed(feed).unwrap_or_default().end.seq;
            let dropped = signed.manifest.drop.iter().find(|(dropped, _)| dropped == feed).map(|(_, upto)| *upto);
            is_cut_off |= dropped.is_some_and(|upto| held < upto);
            lacking += base.seq.0.saturating_sub(held.0);
            all += base.seq.0;
        }
        (lacking, all, is_cut_off)
    }

    fn let_go(&mut self, n: usize, signed: &SignedManifest) {
        if signed.manifest.drop.is_empty() {
            return;
        }
        let drop: Arc<[(FeedId, Seq)]> = signed.manifest.drop.as_slice().into();
        self.done("entries let go");
        self.note_words();
        while self.tell(n, edge::Command::Drop(Arc::clone(&drop))) == Ok(edge::Reply::More) {}
    }

    /// A word about snapshots arrives.
    pub fn hears_of_snapshot(&mut self, (to, from): (NodeId, NodeId), peer: Writer, word: SnapshotWord) {
        if let SnapshotWord::Taken { id } = &word {
            self.recall(to, from, id);
        }
        let may = self.sync_of(to, from).is_none_or(|sync| sync.on_snapshot_word(&word));
        if !may {
            return self.fail(format!("{from} asks {to} for more chunks than anybody fetches at once"));
        }
        let Some(n) = self.index(to).filter(|_| peer.node.is_hub()) else { return };
        match word {
            SnapshotWord::Offer(signed) => self.offered(n, peer, *signed),
            SnapshotWord::Chunk { id, chunk, bytes } => self.came(n, peer, id, chunk, &bytes),
            SnapshotWord::Gone { id } if self.is_fetching(n, id, peer) => self.decline(n),
            _ => {}
        }
    }

    fn is_fetching(&mut self, n: usize, id: Hash, from: Writer) -> bool {
        let shelf = self.more.snapshots.shelf(n);
        shelf.taking.is_none() && shelf.from == Some(from) && shelf.fetch.as_ref().is_some_and(|f| f.id() == id)
    }

    fn offered(&mut self, n: usize, from: Writer, signed: SignedManifest) {
        let (id, me) = (signed.manifest.id(), self.boxes[n].me);
        let Some(judge) = self.snapshot_judge(n) else { return };
        if let Err(refused) = judge.admit(&signed) {
            self.note(|| format!("an offered snapshot is not taken: {refused}"));
            if self.honest() {
                self.fail(format!("{me}: a snapshot of headquarters is refused: {refused}"));
            }
            return self.say_of_snapshot(n, from, SnapshotWord::Declined { id });
        }
        self.let_go(n, &signed);
        let (lacking, all, is_cut_off) = self.lacks(n, &signed);
        if !is_cut_off && !snapshot::is_worth_it(lacking, all) {
            return self.say_of_snapshot(n, from, SnapshotWord::Declined { id });
        }
        let (audience, now_ms) = (signed.manifest.audience, self.now_ms);
        let shelf = self.more.snapshots.shelf(n);
        shelf.offers.insert(audience, (from, signed));
        let is_of = |fetch: &Fetch| fetch.signed().manifest.audience == audience;
        match &mut shelf.fetch {
            Some(fetch) if is_of(fetch) => {
                fetch.begin_again();
                (shelf.from, shelf.seen_ms) = (Some(from), now_ms);
                self.tell_siblings(n);
                self.ask_for_chunks(n);
            }
            Some(_) if shelf.from != Some(from) && shelf.taking.is_none() => self.decline(n),
            Some(_) => {}
            None => self.begin_fetch(n),
        }
    }

    fn begin_fetch(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let shelf = self.more.snapshots.shelf(n);
        if shelf.taking.is_some() || shelf.fetch.is_some() {
            return;
        }
        let Some((_, (from, signed))) = shelf.offers.pop_first() else { return };
        shelf.part = Some(Part { signed: signed.clone(), bytes: Vec::new() });
        shelf.fetch = Some(Fetch::new(signed, 0));
        (shelf.from, shelf.came_ms, shelf.seen_ms) = (Some(from), now_ms, now_ms);
        self.tell_siblings(n);
        self.ask_for_chunks(n);
    }

    fn ask_for_chunks(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let (Some(fetch), Some(from)) = (&mut shelf.fetch, shelf.from) else { return };
        let id = fetch.id();
        let wanted: Vec<u32> = std::iter::from_fn(|| fetch.ask()).collect();
        for chunk in wanted {
            self.say_of_snapshot(n, from, SnapshotWord::Want { id, chunk });
        }
        self.begin_taking(n);
    }

    fn came(&mut self, n: usize, from: Writer, id: Hash, chunk: u32, bytes: &[u8]) {
        let now_ms = self.now_ms;
        let shelf = self.more.snapshots.shelf(n);
        let (Some(fetch), Some(part)) = (&mut shelf.fetch, &mut shelf.part) else { return };
        if fetch.id() != id || shelf.from != Some(from) {
            return;
        }
        shelf.came_ms = now_ms;
        match fetch.judge(chunk, bytes) {
            Placed::Ignore => return,
            Placed::Keep => {
                part.bytes.extend_from_slice(bytes);
                fetch.keep();
            }
            Placed::Wrong => return self.fail(format!("chunk {chunk} of a snapshot is not what was signed")),
        }
        self.ask_for_chunks(n);
    }

    /// Gives it up: headquarters and siblings send entries. Begins with what is offered beside it.
    fn decline(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let fetching = shelf.fetch.as_ref().map(|fetch| (shelf.from, fetch.id()));
        self.give_up_fetch(n);
        if let Some((from, id)) = fetching {
            self.say_to_all(n, from, &SnapshotWord::Declined { id });
        }
        self.begin_fetch(n);
    }

    fn give_up_fetch(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        (shelf.part, shelf.fetch, shelf.taking, shelf.from, shelf.told) = (None, None, None, None, false);
    }

    /// All chunks are here: the whole is checked, and taken in step by step.
    fn begin_taking(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let is_whole = shelf.fetch.as_ref().is_some_and(Fetch::is_whole);
        if !is_whole || shelf.taking.is_some() {
            return;
        }
        let Some(part) = shelf.part.clone() else { return };
        let Some(judge) = self.snapshot_judge(n) else { return };
        let Some((steps, _)) = self.check_part(n, &part, judge) else { return self.decline(n) };
        self.more.snapshots.shelf(n).taking = Some(steps.into());
        let start = self.boxes[n].start;
        self.soon(1, 400, Work::Step { n, start });
    }

    /// A whole snapshot, checked and cut into steps; with whom it makes known.
    fn check_part(&mut self, n: usize, part: &Part, judge: Judge) -> Option<(Vec<Step>, Judge)> {
        let checked = Check::new(part.signed.clone(), judge).and_then(|mut check| {
            part.bytes.chunks(CHUNK_BYTES).try_for_each(|chunk| check.chunk(chunk))?;
            let mut steps = check.finish()?;
            let wider = steps.judge().clone();
            let mut all = Vec::new();
            for chunk in part.bytes.chunks(CHUNK_BYTES) {
                all.extend(steps.chunk(chunk)?);
            }
            all.push(steps.closing()?);
            Ok((all, wider))
        });
        match checked {
            Ok(checked) => Some(checked),
            Err(refused) => {
                let me = self.boxes[n].me;
                self.note(|| format!("{me} does not take a snapshot: {refused}"));
                if self.honest() {
                    self.fail(format!("{me}: a snapshot that headquarters cut is refused: {refused}"));
                }
                None
            }
        }
    }

    /// One step in one turn; `Ok(false)` when the box may not take it now.
    fn restore_step(&mut self, n: usize, step: Step) -> Result<bool, NotDone> {
        let closing = step.closing.clone();
        let is_last = closing.is_some();
        self.more.snapshots.shelf(n).is_between = true;
        match self.tell(n, edge::Command::Restore(Box::new(step)))? {
            edge::Reply::Done => {
                self.more.snapshots.shelf(n).is_between = !is_last;
                closing.iter().for_each(|signed| self.announce_bases(n, signed));
                Ok(true)
            }
            edge::Reply::Denied(words) => {
                self.note(|| format!("a step of a snapshot is denied: {words}"));
                Ok(false)
            }
            other => {
                self.fail(format!("a step of a snapshot is answered with {other:?}"));
                Ok(false)
            }
        }
    }

    /// Tells peers how far documents of others go on here, so that they need not send them.
    fn announce_bases(&mut self, n: usize, signed: &SignedManifest) {
        let (me, at) = (self.boxes[n].me, self.boxes[n].address);
        let is_told = |feed: &FeedId| feed.channel.class() == channel::Class::Documents && feed.writer != me;
        let feeds: Vec<FeedId> = signed.manifest.feeds.iter().map(|(feed, _)| *feed).filter(is_told).collect();
        for peer in self.peers(at) {
            for feed in &feeds {
                let held = self.boxes[n].disk.feed(feed).unwrap_or_default().end.seq;
                self.say(at, peer.node, Message::Stored(vec![(*feed, held)]));
            }
        }
    }

    /// The next step of what is being taken in.
    pub fn take_step(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let Some(step) = shelf.taking.as_mut().and_then(VecDeque::pop_front) else { return };
        let is_last = step.closing.is_some();
        match self.restore_step(n, step) {
            Ok(true) if is_last => self.taken(n),
            Ok(true) => {
                let start = self.boxes[n].start;
                self.soon(1, 400, Work::Step { n, start });
            }
            // The process has died with the task that took it in; it is gone on with at the next start.
            Err(_) if self.boxes[n].core.is_none() => {}
            Ok(false) | Err(_) => self.decline(n),
        }
    }

    fn taken(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let Some(id) = shelf.fetch.as_ref().map(Fetch::id) else { return };
        let (from, audience) = (shelf.from, shelf.fetch.as_ref().map(|fetch| fetch.signed().manifest.audience));
        let me = self.boxes[n].me;
        self.note(|| format!("{me} has taken a snapshot in"));
        self.done("snapshots taken");
        self.give_up_fetch(n);
        self.say_to_all(n, from, &SnapshotWord::Taken { id });
        let newer = audience.and_then(|audience| self.more.snapshots.shelf(n).offers.remove(&audience));
        if let Some((from, newer)) = newer.filter(|(_, newer)| newer.manifest.id() != id) {
            self.say_of_snapshot(n, from, SnapshotWord::Declined { id: newer.manifest.id() });
        }
        self.begin_fetch(n);
    }

    fn say_of_snapshot(&mut self, n: usize, to: Writer, word: SnapshotWord) {
        let at = self.boxes[n].address;
        self.say(at, to.node, Message::Snapshot(Box::new(word)));
    }

    /// Other boxes need not send what comes by the snapshot.
    fn tell_siblings(&mut self, n: usize) {
        let shelf = self.more.snapshots.shelf(n);
        let Some(fetch) = &shelf.fetch else { return };
        shelf.told = true;
        let (id, coming) = (fetch.id(), fetch.signed().manifest.feeds.clone());
        for feeds in coming.chunks(FEEDS_PER_MESSAGE_MAX) {
            let feeds: Vec<(FeedId, End)> = feeds.to_vec();
            self.say_to_all(n, None, &SnapshotWord::Coming { id, feeds });
        }
    }

    /// Says it to the other boxes, and to who sends the snapshot.
    fn say_to_all(&mut self, n: usize, from: Option<Writer>, word: &SnapshotWord) {
        for peer in self.peers(self.boxes[n].address) {
            if from == Some(peer) || !peer.node.is_hub() {
                self.say_of_snapshot(n, peer, word.clone());
            }
        }
    }

    /// A box's process has started: what the last one had fetched is gone on with.
    pub fn go_on_fetching(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let shelf = self.more.snapshots.shelf(n);
        (shelf.from, shelf.told, shelf.taking) = (None, false, None);
        shelf.offers.clear();
        shelf.fetch = shelf.part.as_ref().map(|part| {
            let kept = part.bytes.len().div_ceil(CHUNK_BYTES);
            Fetch::new(part.signed.clone(), kept as u32)
        });
        (shelf.came_ms, shelf.seen_ms) = (now_ms, now_ms);
        self.begin_taking(n);
    }

    /// Asks once more when nothing has come for long; siblings do not wait for what may not come.
    pub fn look_at_fetch(&mut self, n: usize) {
        let (at, now_ms) = (self.boxes[n].address, self.now_ms);
        if self.boxes[n].core.is_none() || self.is_still(n) {
            return;
        }
        let is_there = self.is_connected(at, NodeId::HUB);
        let shelf = self.more.snapshots.shelf(n);
        let Some(fetch) = shelf.fetch.as_mut().filter(|_| shelf.taking.is_none()) else { return };
        if shelf.from.is_some() && is_there {
            shelf.seen_ms = now_ms;
        }
        let is_silent = now_ms - shelf.came_ms >= SILENT_MS_MAX;
        let (id, tells) = (fetch.id(), shelf.told && (is_silent || now_ms - shelf.seen_ms >= GONE_MS_MAX));
        if is_silent {
            shelf.came_ms = now_ms;
            fetch.begin_again();
        }
        if tells {
            shelf.told = false;
            self.say_to_all(n, None, &SnapshotWord::Declined { id });
        }
        if is_silent {
            self.ask_for_chunks(n);
        }
    }
}
