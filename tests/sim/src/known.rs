//! What nodes know of the registry, people, blocks and policies: the same everywhere in the end, and in memory what the
//! rows say.
//!
//! Leaves to others: entries and rights (`verdict`), how it came there (`talk`, `snapshots`).

use crate::crowd::BY_HUB;
use crate::disk::Disk;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::DocKind;
use yika_crdt::edge::Edge;
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::VisitRow;
use yika_crdt::store::{Read, decode_row};

/// Kinds of rows that every node has, whole.
const EVERYWHERE: [(&[u8], &str); 6] = [
    (keys::PERSONS, "persons"),
    (keys::PERSON_CLAIMS, "persons of several campuses"),
    (keys::CAMPUSES, "campuses"),
    (keys::FENCES, "fences"),
    (keys::TARIFFS, "tariffs"),
    (keys::TERMINALS, "terminals"),
];

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(disk: &Disk, prefix: &[u8]) -> Rows {
    disk.scan(prefix, None, usize::MAX).unwrap_or_default().into_iter().collect()
}

/// Epochs of documents that a box of a campus holds.
fn epochs(disk: &Disk, campus: CampusId) -> Rows {
    let is_held = |key: &[u8]| match keys::epoch_kind(key) {
        Some(DocKind::People { .. }) => true,
        Some(DocKind::Policy(of) | DocKind::Visitors { campus: of, .. }) => of == campus,
        None => false,
    };
    rows(disk, keys::EPOCHS).into_iter().filter(|(key, _)| is_held(key)).collect()
}

/// Visitors of a campus.
fn visits(disk: &Disk, campus: CampusId) -> Rows {
    let is_ours = |key: &[u8], row: &[u8]| decode_row::<VisitRow>(key, row).is_ok_and(|visit| visit.campus == campus);
    rows(disk, keys::VISITORS).into_iter().filter(|(key, row)| is_ours(key, row)).collect()
}

fn difference(ours: &Rows, theirs: &Rows) -> Option<String> {
    let keys: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let key = keys.into_iter().find(|key| ours.get(*key) != theirs.get(*key))?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tell = |rows: &Rows| rows.get(key).map_or_else(|| "nothing".into(), |row| hex(row));
    Some(format!("row {}: headquarters has {}, it has {}", hex(key), tell(ours), tell(theirs)))
}

/// Where two texts begin to differ.
fn apart(by_rows: &str, in_memory: &str) -> String {
    let at = by_rows.lines().zip(in_memory.lines()).position(|(one, other)| one != other).unwrap_or_default();
    let around = |text: &str| text.lines().skip(at.saturating_sub(12)).take(24).map(str::trim).collect::<String>();
    format!("by its rows … {}, in memory … {}", around(by_rows), around(in_memory))
}

impl World {
    /// Headquarters and a box know the same of what both are told.
    pub fn compare_known(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(campus) = node.place.campus else { return };
        let mut parts: Vec<(&str, Rows, Rows)> = Vec::new();
        for (prefix, name) in EVERYWHERE {
            parts.push((name, rows(&self.hub.disk, prefix), rows(&node.disk, prefix)));
        }
        let both = |of: fn(&Disk, CampusId) -> Rows| (of(&self.hub.disk, campus), of(&node.disk, campus));
        let policy = |disk: &Disk, campus| rows(disk, &keys::policy(campus));
        for (name, (hub, own)) in [("epochs", both(epochs)), ("visitors", both(visits)), ("policy", both(policy))] {
            parts.push((name, hub, own));
        }
        let wrong = parts.iter().find_map(|(name, hub, own)| Some((*name, difference(hub, own)?)));
        if let Some((name, words)) = wrong {
            let me = node.me;
            return self.fail(format!("{me} and headquarters know other {name} in the end: {words}"));
        }
        let (Some(hub), Some(edge)) = (&self.hub.core, &node.core) else { return };
        let (theirs, ours) = (hub.mesh.people.read(), edge.mesh.people.read());
        let (me, people) = (node.me, self.people());
        let targets = (1..=people).flat_map(|person| {
            let card = CardNumber(crate::crowd::FIRST_CARD + person);
            [BlockTarget::Card(card), BlockTarget::Person(PersonId(person))]
        });
        let mut wrong = targets.into_iter().filter(|target| theirs.is_blocked(*target) != ours.is_blocked(*target));
        let wrong = wrong.find(|target| theirs.is_blocked(*target) || !self.is_blocked_beyond_a_fence(n, *target));
        let words = wrong.map(|target| format!("{me} and headquarters do not agree whether {target:?} is blocked"));
        drop((theirs, ours));
        if let Some(words) = words {
            self.fail(words);
        }
    }

    /// Whether a box holds a block that a fenced life wrote beyond its end: it came before the fence, and stays.
    fn is_blocked_beyond_a_fence(&self, n: usize, target: BlockTarget) -> bool {
        let disk = &self.boxes[n].disk;
        let feeds = disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        let of_blocks =
            |feed: &FeedId| matches!(feed.channel, Channel::Blocks(_)) && self.fenced.contains(&feed.writer);
        let is_told = |bytes: &Vec<u8>| matches!(Entry::decode(bytes), Ok(Entry { body: Body::Block(block), .. }) if block.target == target);
        feeds.filter(of_blocks).any(|feed| {
            let beyond = self.hub.disk.feed(&feed).unwrap_or_default().end.seq.next();
            disk.entries(&feed, beyond, usize::MAX).unwrap_or_default().iter().any(is_told)
        })
    }

    /// What a box has in memory is what it would read from its rows.
    pub fn compare_index(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(edge) = &node.core else { return };
        let fresh = match Edge::load(&node.disk, node.me, node.place) {
            Ok(fresh) => fresh,
            Err(error) => return self.fail(format!("{} cannot be read again: {error}", self.boxes[n].me)),
        };
        let same_people = *fresh.mesh.people.read() == *edge.mesh.people.read();
        let same_access = *fresh.mesh.access.read() == *edge.mesh.access.read();
        if !same_people || !same_access {
            let told = |edge: &Edge| match same_people {
                true => format!("{:#?}", *edge.mesh.access.read()),
                false => format!("{:#?}", *edge.mesh.people.read()),
            };
            let words = apart(&told(&fresh), &told(edge));
            self.fail(format!("{} knows in memory other things than its rows say: {words}", self.boxes[n].me));
        }
    }

    /// Whether a box that was put back lacks words of its own that every node has let go since (a snapshot does not give
    /// them back), or that only a box held that has burnt: it must be enrolled again.
    pub fn own_words_are_gone(&self, n: usize) -> bool {
        let node = &self.boxes[n];
        let holds = |disk: &Disk, feed: &FeedId, seq: Seq| disk.feed(feed).is_ok_and(|held| held.end.seq >= seq);
        let burnt = |address: &NodeId| self.boxes.iter().any(|other| other.gone && other.address == *address);
        let is_burnt = |(feed, seq): (&FeedId, &Seq)| {
            let mut there = self.boxes.iter().filter(|other| !other.gone);
            !holds(&self.hub.disk, feed, *seq) && !there.any(|other| holds(&other.disk, feed, *seq))
        };
        let mut told = node.lost.iter().filter(|(by, _)| burnt(by)).flat_map(|(_, lost)| lost);
        if self.was_put_back(n) && told.any(is_burnt) {
            return true;
        }
        let own = self.hub.disk.feeds().unwrap_or_default().into_iter().filter(|(feed, _)| feed.writer == node.me);
        let is_gone = |feed: &FeedId, pruned: Seq| node.disk.feed(feed).is_ok_and(|held| held.end.seq < pruned);
        self.was_put_back(n) && own.into_iter().any(|(feed, held)| is_gone(&feed, held.pruned))
    }

    /// Blocks and lifts that stood anywhere, though many nodes have let them go: read before any node does.
    pub fn note_words(&mut self) {
        let disks = std::iter::once(&self.hub.disk).chain(self.boxes.iter().map(|node| &node.disk));
        let words = &mut self.more.folk.words;
        for disk in disks {
            for (feed, held) in disk.feeds().unwrap_or_default() {
                if !matches!(feed.channel, Channel::Blocks(_)) {
                    continue;
                }
                let known = words.entry(feed).or_default();
                let next = Seq(known.len() as u64 + 1);
                if held.end.seq < next || held.pruned >= next {
                    continue;
                }
                for (seq, bytes) in (next.0..).map(Seq).zip(disk.entries(&feed, next, usize::MAX).unwrap_or_default()) {
                    let body = Entry::decode(&bytes).map(|entry| entry.body);
                    known.push((feed::entry_hash(&feed, seq, &bytes), body.ok()));
                }
            }
        }
    }

    /// Whether a box that lets entries go holds a block of a card that nobody has lifted, by how far it holds feeds.
    pub fn is_blocked_by_words(&mut self, n: usize, card: CardNumber) -> bool {
        self.note_words();
        let disk = &self.boxes[n].disk;
        let (mut blocks, mut lifted, mut ranges) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (feed, words) in &self.more.folk.words {
            let held = disk.feed(feed).unwrap_or_default().end.seq;
            for (seq, (hash, body)) in (1..=held.0).map(Seq).zip(words) {
                match body {
                    Some(Body::Block(block)) if crate::crowd::is_of(block.target, card) => {
                        blocks.insert((*feed, seq, *hash));
                    }
                    Some(Body::Lift(LiftRecord::One { block, .. })) if self.counts_at(n, *feed, seq) => {
                        lifted.insert((*block, feed.channel));
                    }
                    Some(Body::Lift(LiftRecord::Range { feed: of, from, to, .. })) if feed.channel == BY_HUB => {
                        ranges.push((*of, *from, *to));
                    }
                    _ => {}
                }
            }
        }
        let in_range =
            |feed: FeedId, seq| ranges.iter().any(|(of, from, to)| *of == feed && *from <= seq && seq <= *to);
        let is_lifted =
            |feed: FeedId, hash: Hash| [feed.channel, BY_HUB].iter().any(|by| lifted.contains(&(hash, *by)));
        blocks.into_iter().any(|(feed, seq, hash)| !is_lifted(feed, hash) && !in_range(feed, seq))
    }
}
