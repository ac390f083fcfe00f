//! A liar who is after somebody's money: it writes a person of another campus into its own documents with a card of its own,
//! pays with that card wherever it can, and sells under numbers that terminals of other campuses use next.
//!
//! Draws apart from all else. Leaves to others: everything else that a liar does (`liar`), what it can cost (`losses`).

use crate::chance::Chance;
use crate::crowd::{FIRST_CARD, own};
use crate::disk::Disk;
use crate::office;
use crate::world::World;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::documents::{Author, Documents, PersonChange};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::Mesh;
use yika_crdt::person::{Card, CardState, Person};
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest};
use yika_crdt::store::{Appended, Read, Store, StoreError, Tx, decode_row};

/// Keeps these draws apart from those of the liar.
const APART: u64 = 0x7417_E500;
/// Stolen cards are numbered from here, above the holder's own.
const FIRST_STOLEN_CARD: u64 = FIRST_CARD + 500_000;
/// Boots of terminals at which stolen cards are shown begin here.
const STOLEN_BOOT: u32 = 80_000;
const CLERK: OperatorId = OperatorId(9);

impl World {
    /// It tries to get at money, one way or another.
    pub fn steal(&mut self, n: usize) {
        let mut chance = Chance::new(self.plan.seed ^ APART ^ self.now_ms.unsigned_abs());
        let person = PersonId(1 + chance.below(self.plan.people));
        match chance.below(4) {
            0 => self.write_down(n, person),
            1 => self.sell_for_others(n, person, &mut chance),
            _ => self.pay_with_a_stolen_card(&mut chance),
        }
    }

    /// Writes a person of another campus into documents of its own campus, with one card more.
    fn write_down(&mut self, n: usize, person: PersonId) {
        let node = &self.boxes[n];
        let (me, at, campus) = (node.me, node.address, node.place.campus);
        let is_first = !self.crowd.stolen.contains_key(&n);
        let Some(campus) = campus.filter(|campus| is_first && *campus != office::HOME) else { return };
        let bodies = match self.as_if_unknown(n, person, campus) {
            Ok(bodies) if !bodies.is_empty() => bodies,
            _ => return,
        };
        self.crowd.stolen.insert(n, stolen_card(person));
        self.note(|| format!("{me} at {at} writes {person} down with a card of its own"));
        self.done("persons written down by liars");
        bodies.into_iter().for_each(|(channel, bodies)| self.append_at_will(n, channel, bodies));
    }

    /// The words that a box would write if it did not know of whom it writes.
    fn as_if_unknown(
        &self,
        n: usize,
        person: PersonId,
        campus: CampusId,
    ) -> Result<Vec<(Channel, Vec<Body>)>, StoreError> {
        let node = &self.boxes[n];
        let mut copy: Disk = node.disk.copy();
        let key = keys::person(person);
        let known = copy.get(&key)?.map(|row| decode_row::<Person>(&key, &row)).transpose()?;
        let Some(mut known) = known.filter(|known| known.home != campus) else { return Ok(Vec::new()) };
        let mut forget = Tx::new(&copy);
        forget.delete(key);
        let forgotten = forget.into_batch();
        copy.commit(&forgotten)?;
        known.home = campus;
        known.cards.push(Card { number: stolen_card(person), uid: None, state: CardState::Active, valid_until: None });
        let (mut mesh, mut documents) = (Mesh::load(&copy, node.me, node.place)?, Documents::load(&copy)?);
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: self.now_ms.unsigned_abs() };
        let mut tx = Tx::new(&copy);
        let by = Author { operator: CLERK, stamp };
        _ = documents.people(&mut mesh, &mut tx, by, vec![PersonChange::add(known)], &mut Vec::new())?;
        let appended = tx.into_batch().appended;
        let body = |bytes: &Vec<u8>| Entry::decode(bytes).ok().map(|entry| entry.body);
        let bodies = |(feed, part): (FeedId, Appended)| (feed.channel, part.entries.iter().filter_map(body).collect());
        Ok(appended.into_iter().map(bodies).collect())
    }

    /// Sells under a number that a terminal of another campus uses next: what that campus sells under it stands.
    fn sell_for_others(&mut self, n: usize, person: PersonId, chance: &mut Chance) {
        let campus = self.boxes[n].place.campus;
        let others = self.crowd.terminals.iter().filter(|terminal| Some(terminal.campus) != campus);
        let next: Vec<PurchaseId> = others.map(|terminal| terminal.id_after(1 + chance.below(3) as u32)).collect();
        let Some(id) = chance.pick(&next).copied() else { return };
        let fen = Fen(chance.between(1, 300));
        let me = self.boxes[n].me;
        self.note(|| format!("{me} sells {id} for a terminal of another campus"));
        self.done("sales for others by liars");
        let sale = self.made_up_sale(n, (id, person), (Source::Receivable, fen));
        self.append_at_will(n, Channel::Journal, vec![sale]);
    }

    /// The thief comes to an honest box with a card that a liar wrote down. Where a box of the holder's own campus lies, too,
    /// it may have agreed.
    fn pay_with_a_stolen_card(&mut self, chance: &mut Chance) {
        if self.losses.liars.iter().any(|liar| self.boxes[*liar].place.campus == Some(office::HOME)) {
            return;
        }
        let cards: Vec<CardNumber> = self.crowd.stolen.values().copied().collect();
        let honest = (0..self.boxes.len()).filter(|n| !self.losses.liars.contains(n) && self.boxes[*n].core.is_some());
        let honest: Vec<usize> = honest.collect();
        let (Some(card), Some(n)) = (chance.pick(&cards).copied(), chance.pick(&honest).copied()) else { return };
        let mut terminals = self.crowd.terminals.iter();
        let here = terminals.find(|terminal| Some(terminal.campus) == self.boxes[n].place.campus);
        let Some(terminal) = here.map(|terminal| terminal.id) else { return };
        self.requests += 1;
        let id = PurchaseId { terminal, boot: STOLEN_BOOT, seq: self.requests as u32 };
        let mode = Mode::Amount(Fen(chance.between(100, 900)));
        let request = PurchaseRequest { id, card, mode, terminal_time_ms: self.now_ms, offline: false, tariff: None };
        self.done("stolen cards shown");
        match self.tell(n, Command::Purchase { request, may_ask: true }) {
            Ok(Reply::Outcome(Outcome::Answered(Answer::Approved(sale)))) => {
                let (me, paid) = (self.boxes[n].me, Fen(own(&sale.paid)));
                self.fail(format!("{me} takes {paid} of a holder for card {card}, which a liar wrote down"));
            }
            Ok(Reply::Outcome(Outcome::Short { row, .. })) => {
                let me = self.boxes[n].me;
                self.fail(format!("{me} asks for money of {} for card {card}, which a liar wrote down", row.person));
            }
            _ => {}
        }
    }
}

fn stolen_card(person: PersonId) -> CardNumber {
    CardNumber(FIRST_STOLEN_CARD + person.0)
}
