//! Whether this node may append to its own feeds: not before it has asked its peers how far they hold them, and not
//! while its database is behind what it wrote before (design section 4, clones and roll-backs).
//!
//! Appending from an older state would write positions a second time: a fork, and money spent twice. Leaves to
//! others: asking (shell), the copy of the ends outside the database (`yika-edge`), taking entries back (`takeback`).

use crate::channel::{Channel, FeedId};
use crate::edge::{Command, Edge, Reply};
use crate::entry::Entry;
use crate::feed::End;
use crate::ids::{Day, Seq, Writer};
use crate::keys;
use crate::mesh::Event;
use crate::proof;
use crate::sale::{self, SaleError};
use crate::store::{Read, StoreError, Tx, decode_row};
use serde::{Deserialize, Serialize};

/// Journal entries that wait while the gate is shut; at the bound the newest are refused, doors open all the same.
pub const HELD_ENTRIES_MAX: u64 = 200_000;
/// Waiting entries appended in one turn when the gate opens; with more of them it stays shut until the last is appended,
/// so that nothing comes between.
pub const APPEND_HELD_MAX: usize = 1_024;

/// Where all own feeds end, in brief.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OwnEnds {
    /// The journal's end.
    pub journal: End,
    /// Entries of all own feeds together.
    pub entries: u64,
}

impl OwnEnds {
    /// From the end of each own channel.
    pub fn of(ends: impl IntoIterator<Item = (Channel, End)>) -> OwnEnds {
        let mut own = OwnEnds::default();
        for (channel, end) in ends {
            own.entries = own.entries.saturating_add(end.seq.0);
            if channel == Channel::Journal {
                own.journal = end;
            }
        }
        own
    }

    /// Whether a state with these ends is older than one with `kept`, or of another branch.
    pub fn is_behind(&self, kept: &OwnEnds) -> bool {
        let other_branch = self.journal.seq == kept.journal.seq && self.journal.hash != kept.journal.hash;
        self.journal.seq < kept.journal.seq || self.entries < kept.entries || other_branch
    }
}

/// Whether a store is that of a life that has not begun: it has appended nothing, and nobody has granted it anything.
///
/// # Errors
/// Of storage.
pub fn is_new<R: Read + ?Sized>(store: &R, me: Writer) -> Result<bool, StoreError> {
    let is_of_it = |feed: &FeedId| feed.writer == me || feed.channel == Channel::Rights(me);
    Ok(!store.feeds()?.iter().any(|(feed, held)| is_of_it(feed) && held.end.seq > Seq::ZERO))
}

/// Why nothing may be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Shut {
    /// Just started: peers are being asked. Short.
    Asking,
    /// The ends outside the database are lost: only the hub can say whether the database is the newest.
    Unsure,
    /// The database is older than what this box wrote: until peers have given back as much.
    Behind(OwnEnds),
    /// Peers hold another continuation signed with this box's key: for ever, the box must be enrolled again.
    Forked,
    /// Headquarters has ended this life: what it writes from here on is taken by nobody. For ever, the box must be
    /// enrolled again.
    Fenced,
    /// Peers were asked; what has waited is being appended. Short.
    Opening,
}

impl Shut {
    /// Whether it ends by itself within seconds: who wants to append waits for that.
    pub fn is_short(&self) -> bool {
        matches!(self, Shut::Asking | Shut::Opening)
    }

    /// What it is, for the operator.
    pub fn words(&self, held: Seq) -> String {
        match self {
            Shut::Asking => "asking the other boxes and headquarters how far they hold this box's journal".into(),
            Shut::Opening => "appending what has waited since the start".into(),
            Shut::Unsure => "the journal's end beside the key is lost; headquarters must confirm this database".into(),
            Shut::Behind(kept) => format!(
                "the database is older than what this box wrote (journal {held}, written {}): it was put back from a \
                 copy; nothing is spent until headquarters or another box has given back the rest",
                kept.journal.seq
            ),
            Shut::Forked => "another box writes with this box's key: nothing is spent; enrol this box again with \
                             --replaces"
                .into(),
            Shut::Fenced => {
                "headquarters has fenced this box and takes nothing more from it: enrol it again with --replaces".into()
            }
        }
    }

    /// Whether only a new enrolment ends it.
    pub fn is_for_ever(&self) -> bool {
        matches!(self, Shut::Forked | Shut::Fenced)
    }
}

impl Command {
    /// Whether a peer said it: such a command is refused at once while the gate is shut, because waiting would stop what
    /// opens it.
    pub fn is_of_peer(&self) -> bool {
        matches!(self, Command::Ask { .. } | Command::Level { .. } | Command::Recall { .. })
    }

    /// Whether it would append to this node's own feeds and cannot wait as a held entry.
    pub fn needs_open_gate(&self) -> bool {
        !matches!(
            self,
            Command::Door(_)
                | Command::Act(_)
                | Command::Alarm(_)
                | Command::Ingest(_)
                | Command::Diverged(_)
                | Command::Fenced
                | Command::TrustHub(_)
                | Command::HubGreeted { .. }
                | Command::ConfirmTime { .. }
                | Command::Restore(_)
                | Command::Drop(_)
                | Command::Tick
                | Command::Asked { .. }
        )
    }
}

impl Edge {
    /// After loading: nothing is appended until peers were asked, and longer if `found` says so.
    pub fn started(mut self, found: Option<Shut>) -> Edge {
        self.shut = self.shut.or(found).or(Some(Shut::Asking));
        self.shut_before = self.shut;
        self
    }

    /// Why nothing may be appended, if so.
    pub fn shut(&self) -> Option<Shut> {
        self.shut
    }

    /// Peers were asked: opens unless the database is still behind. With more waiting than one turn appends it is asked
    /// again until all of it is appended.
    pub(crate) fn asked<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        hub: bool,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let opens = match self.shut {
            None | Some(Shut::Forked | Shut::Fenced) => false,
            Some(Shut::Asking | Shut::Opening) => true,
            Some(Shut::Unsure) => hub,
            Some(Shut::Behind(_)) if proof::sown("behind_and_open") => true,
            Some(Shut::Behind(kept)) => !self.own_ends(tx)?.is_behind(&kept),
        };
        if opens {
            if matches!(self.shut, Some(Shut::Behind(_))) {
                proof::hit("caught_up_and_opened");
            }
            // What was taken back was counted as it came, and siblings' journals perhaps before it.
            if matches!(self.shut, Some(Shut::Behind(_) | Shut::Unsure))
                && let Some(open) = tx.get::<Day>(keys::OPEN_DAY)?
            {
                sale::count_day(&self.mesh, tx, open)?;
            }
            self.shut = if self.append_held(tx, events)? { None } else { Some(Shut::Opening) };
        }
        Ok(match self.shut {
            None => Reply::Done,
            Some(Shut::Opening) => Reply::More,
            Some(shut) => Reply::Shut(shut),
        })
    }

    /// Headquarters has ended this life: nothing is appended from here on, also after a restart.
    pub(crate) fn fenced<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>) {
        if !self.shut.is_some_and(|shut| shut.is_for_ever()) {
            proof::hit("own_fence_heard");
            tx.put(keys::FENCED.to_vec(), &true);
            self.shut = Some(Shut::Fenced);
        }
    }

    /// Appends to the journal, or keeps the entry until that is allowed; false where too many wait already, and nothing is
    /// written.
    pub(crate) fn append_or_hold<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        entry: Entry,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        if self.shut.is_none() {
            self.mesh.append(tx, Channel::Journal, &entry, events)?;
            return Ok(true);
        }
        let number = next_held(tx)?;
        if number >= HELD_ENTRIES_MAX {
            return Ok(false);
        }
        if !proof::sown("lost_while_the_gate_is_shut") {
            proof::hit("held_at_the_gate");
            tx.put(keys::held(number), &entry);
        }
        Ok(true)
    }

    /// Appends what has waited, in its order and with its own stamps, as much as one turn may. True if that was all.
    fn append_held<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        let mut rows = tx.scan(keys::HELD, None, APPEND_HELD_MAX + 1)?;
        let is_all = rows.len() <= APPEND_HELD_MAX;
        rows.truncate(APPEND_HELD_MAX);
        for (key, bytes) in rows {
            let entry: Entry = decode_row(&key, &bytes)?;
            self.mesh.append(tx, Channel::Journal, &entry, events)?;
            tx.delete(key);
        }
        Ok(is_all)
    }

    fn own_ends<R: Read + ?Sized>(&self, tx: &Tx<'_, R>) -> Result<OwnEnds, StoreError> {
        let mut ends = Vec::new();
        for (feed, _) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.writer == self.mesh.me) {
            ends.push((feed.channel, tx.feed(&feed)?.end));
        }
        Ok(OwnEnds::of(ends))
    }
}

/// The number of the next entry that has to wait. Numbers have no gaps, so the largest is found by halving; while the
/// gate opens the first are gone.
fn next_held<R: Read + ?Sized>(tx: &Tx<'_, R>) -> Result<u64, StoreError> {
    let is_held = |number: u64| Ok::<bool, StoreError>(tx.get_bytes(&keys::held(number))?.is_some());
    let first = match is_held(0)? {
        true => Some(0),
        false => tx.scan(keys::HELD, None, 1)?.first().and_then(|(key, _)| keys::held_number(key)),
    };
    let Some(first) = first else { return Ok(0) };
    let (mut held, mut free) = (first, HELD_ENTRIES_MAX);
    while free - held > 1 {
        let middle = held + (free - held) / 2;
        if is_held(middle)? {
            held = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}
