//! Terminals and the people in front of them: they ask until they are answered, and remember what they were told.
//!
//! The reference model of a purchase is here: an id has one answer for ever, nobody spends more than was ever paid in for
//! him, and who is blocked at a box is not served there. Leaves to others: what a box answers (`selling`).

use crate::folk::{CARDS_APART, card_of};
use crate::plan::Class;
use crate::talk::node_at;
use crate::theme::Theme;
use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest, RefundRequest};
use yika_crdt::store::{Read, decode_row};

/// A terminal asks again after this.
const RETRY_MS: i64 = 1_500;
/// Clocks of boxes may be so far behind headquarters' after days without it.
const LEASE_SKEW_MS: i64 = 180_000;
pub const BY_HUB: Channel = Channel::Blocks(BlockScope::Hub);
/// First card number; person n has this plus n.
pub const FIRST_CARD: u64 = 800_000;

/// A terminal.
pub struct Terminal {
    /// Its number.
    pub id: TerminalId,
    /// Its campus.
    pub campus: CampusId,
    /// The box it asks.
    pub at: usize,
    boot: u32,
    seq: u32,
    /// What it waits for.
    pub waiting: Option<PurchaseRequest>,
    /// What it decided alone and has not told yet.
    facts: Vec<PurchaseRequest>,
}

/// What everybody was told.
#[derive(Default)]
pub struct Crowd {
    /// All terminals.
    pub terminals: Vec<Terminal>,
    /// First answers.
    pub answers: BTreeMap<PurchaseId, (PurchaseRequest, Answer, NodeId)>,
    /// First answers of boxes that could not ask the box that had answered before.
    unpaired: BTreeMap<(PurchaseId, NodeId), Answer>,
    /// What boxes gave back of a sale, and what headquarters did.
    pub given: BTreeMap<PurchaseId, i64>,
    /// What headquarters gave back of a sale.
    pub given_by_hub: BTreeMap<PurchaseId, i64>,
    /// Of whom headquarters may have given something back though nobody heard of it.
    pub unsure: BTreeSet<PersonId>,
    /// Sales of which a box may have given something back though nobody heard of it.
    pub given_unheard: BTreeSet<PurchaseId>,
    /// Until when a refusal may come of money of a person that moved at headquarters.
    pub moved_until_ms: BTreeMap<PersonId, i64>,
    /// Of each person's own money, what was sold and not given back, as terminals know it.
    pub spent: BTreeMap<PersonId, i64>,
    /// Of that, what each sale counts for: however many boxes sold under its id, it was eaten once.
    counted: BTreeMap<PurchaseId, i64>,
    /// Cards that liars wrote down for themselves, by liar.
    pub stolen: BTreeMap<usize, CardNumber>,
    /// Ids whose sale somebody asked to undo, whether he heard of it or not.
    pub undone: BTreeSet<PurchaseId>,
    /// Ids that were given up: what boxes sell under them goes back.
    given_up: BTreeSet<PurchaseId>,
    /// By which box.
    pub voided_at: BTreeSet<(PurchaseId, NodeId)>,
    /// Sales of others that a liar voids.
    pub undone_by_liars: BTreeSet<PurchaseId>,
    /// People who came during the history, numbered after the others.
    pub newcomers: u64,
    /// What was ever paid in for a person.
    pub paid_in: BTreeMap<PersonId, i64>,
    /// Of that, what headquarters has said that it booked.
    pub booked_in: BTreeMap<PersonId, i64>,
    /// What was paid out to a person.
    pub paid_out: BTreeMap<PersonId, i64>,
    /// When each purchase of a person was last asked for, or answered.
    pub touched: BTreeMap<PersonId, BTreeMap<PurchaseId, i64>>,
}

/// The person of a card.
pub fn person_of(card: CardNumber) -> PersonId {
    PersonId((card.0 - FIRST_CARD) % CARDS_APART)
}

/// Own money in the parts of a sale.
pub fn own(parts: &[(Source, Fen)]) -> i64 {
    parts.iter().filter(|(source, _)| matches!(source, Source::Wallet(_))).map(|(_, part)| part.0).sum()
}

impl Crowd {
    /// A sale under an id; more of it may have been own money than at another box.
    fn count(&mut self, id: PurchaseId, person: PersonId, own: i64) {
        if !self.given_up.contains(&id) {
            let counted = self.counted.entry(id).or_default();
            let more = (own - *counted).max(0);
            *counted += more;
            *self.spent.entry(person).or_default() += more;
        }
    }

    /// So much of a sale is given back.
    pub fn uncount(&mut self, id: PurchaseId, person: PersonId, fen: i64) {
        let counted = self.counted.entry(id).or_default();
        *counted = (*counted - fen).max(0);
        *self.spent.entry(person).or_default() -= fen;
    }

    /// An id may have been voided, and nobody heard of it.
    pub fn unheard(&mut self, id: PurchaseId, person: PersonId) {
        self.undone.insert(id);
        let counted = self.counted.remove(&id).unwrap_or_default();
        *self.spent.entry(person).or_default() -= counted;
    }

    /// An id was voided: nothing is sold under it.
    pub fn voided(&mut self, id: PurchaseId, person: PersonId) {
        self.unheard(id, person);
        self.given_up.insert(id);
    }
}

/// What paid most of a sale.
fn paid_by(parts: &[(Source, Fen)]) -> &'static str {
    match parts.iter().max_by_key(|(_, part)| *part) {
        Some((Source::Wallet(_), _)) => "own",
        Some((Source::Guest, _)) => "guest",
        Some((Source::Float, _)) => "float",
        Some((Source::Receivable, _)) => "owed",
        None => "nothing",
    }
}

impl Terminal {
    /// A terminal at a box.
    pub fn new(id: TerminalId, campus: CampusId, at: usize) -> Terminal {
        Terminal { id, campus, at, boot: 1, seq: 0, waiting: None, facts: Vec::new() }
    }

    /// The id of its next request.
    pub fn next_id(&mut self) -> PurchaseId {
        self.seq += 1;
        self.id_after(0)
    }

    /// The id that it will use so many requests later, unless it starts anew.
    pub fn id_after(&self, requests: u32) -> PurchaseId {
        PurchaseId { terminal: self.id, boot: self.boot, seq: self.seq + requests }
    }
}

impl World {
    /// Somebody comes to a terminal.
    pub fn customer(&mut self, t: usize) {
        if self.is_busy() {
            let after_ms = self.chance.between(150, 2_500);
            self.later(after_ms, Event::Customer { t });
        }
        if self.plan.has(Class::Terminal) && self.chance.one_in(25) {
            self.terminal_trouble(t);
        }
        if self.crowd.terminals[t].waiting.is_some() || !self.is_busy() {
            return;
        }
        match self.chance.below(12) {
            0 => self.give_back(t),
            1 => self.ask_again(t),
            _ => self.sell(t),
        }
    }

    /// Power loss, another box, a queue that cannot wait.
    fn terminal_trouble(&mut self, t: usize) {
        self.struck(Class::Terminal);
        match self.chance.below(3) {
            0 => {
                let terminal = &mut self.crowd.terminals[t];
                // What it waited for is forgotten, sold or not; the next boot numbers anew.
                terminal.waiting = None;
                terminal.boot += 1;
                terminal.seq = 0;
            }
            1 => self.go_to_sibling(t),
            _ => {
                if self.crowd.terminals[t].waiting.is_none() {
                    let request = self.draw_request(t, true);
                    self.tally.facts += 1;
                    self.crowd.terminals[t].facts.push(request);
                }
            }
        }
    }

    fn draw_request(&mut self, t: usize, offline: bool) -> PurchaseRequest {
        let mut person = 1 + self.chance.below(self.plan.people);
        if self.crowd.newcomers > 0 && self.chance.one_in(4) {
            person = 1 + self.plan.people + self.chance.below(self.crowd.newcomers);
        }
        let fen = self.chance.between(100, 4_000);
        let terminal_time_ms = self.now_ms;
        let id = self.crowd.terminals[t].next_id();
        // A person who got another card uses it now and then.
        let other = self.plan.is(Theme::Documents) && self.more.chance.one_in(3);
        let (card, mode) = (card_of(person, u64::from(other)), Mode::Amount(Fen(self.more.limits.keyed(fen))));
        PurchaseRequest { id, card, mode, terminal_time_ms, offline, tariff: None }
    }

    fn sell(&mut self, t: usize) {
        let fact = self.crowd.terminals[t].facts.pop();
        let request = match fact {
            Some(fact) => fact,
            None => self.draw_request(t, false),
        };
        self.crowd.terminals[t].waiting = Some(request.clone());
        self.tally.purchases += 1;
        self.ask(t, request);
    }

    /// Sends a request to the terminal's box, which may not arrive.
    fn ask(&mut self, t: usize, request: PurchaseRequest) {
        let n = self.crowd.terminals[t].at;
        let lost = self.plan.has(Class::Terminal) && self.chance.one_in(30);
        if !lost {
            let after_ms = self.chance.between(1, 15);
            self.later(after_ms, Event::Asked { n, request: request.clone(), start: self.boxes[n].start });
        }
        self.later(RETRY_MS, Event::Retry { t, id: request.id });
    }

    /// A terminal that has no answer asks again.
    pub fn retry(&mut self, t: usize, id: PurchaseId) {
        let Some(request) = self.crowd.terminals[t].waiting.clone().filter(|request| request.id == id) else { return };
        self.tally.retries += 1;
        let at = self.crowd.terminals[t].at;
        if self.boxes[at].gone {
            let campus = self.boxes[at].place.campus;
            let living = |n: &usize| self.boxes[*n].place.campus == campus && !self.boxes[*n].gone;
            match (0..self.boxes.len()).find(living) {
                Some(other) => self.crowd.terminals[t].at = other,
                // The last box of its campus is gone, and with it the canteen.
                None => return self.crowd.terminals[t].waiting = None,
            }
        }
        if self.plan.has(Class::Outage) && self.turn_elsewhere(t, &request) {
            return;
        }
        self.ask(t, request);
    }

    /// A box has answered; the terminal hears of it, or not.
    pub fn answered(&mut self, n: usize, request: &PurchaseRequest, answer: Answer, was_known: bool) {
        let lost = self.plan.has(Class::Terminal) && self.chance.one_in(30);
        let me = self.boxes[n].me;
        let person = person_of(request.card);
        self.trace(|| format!("{me} answers {} of {person}: {}", request.id, told(&answer)));
        self.touch(request);
        self.judge(n, request, &answer, was_known);
        if lost {
            self.struck(Class::Terminal);
            return;
        }
        let waits = |terminal: &&mut Terminal| terminal.waiting.as_ref().is_some_and(|w| w.id == request.id);
        if let Some(terminal) = self.crowd.terminals.iter_mut().find(waits) {
            terminal.waiting = None;
        }
    }

    /// The reference model.
    fn judge(&mut self, n: usize, request: &PurchaseRequest, answer: &Answer, was_known: bool) {
        let by = self.boxes[n].address;
        if self.crowd.answers.contains_key(&request.id) && self.is_forgotten(request, answer) {
            return;
        }
        self.note_answered(request.id);
        match self.crowd.answers.get(&request.id) {
            Some((_, first, _)) if first == answer => {
                self.tally.first_answers += 1;
                return;
            }
            Some((_, first, whose)) if *whose == by && !self.was_put_back(n) => {
                let (first, now) = (told(first), told(answer));
                return self.fail(format!("{} was answered {first}, and then {now}", request.id));
            }
            // Two boxes that could not ask each other: headquarters pairs them.
            Some(_) => match self.crowd.unpaired.get(&(request.id, by)) {
                Some(first) if first == answer => return self.tally.first_answers += 1,
                Some(first) if !self.was_put_back(n) => {
                    let (first, now) = (told(first), told(answer));
                    return self.fail(format!("{} was answered {first}, and then {now}, by {by}", request.id));
                }
                _ => {
                    if !was_known && self.holds_answer(n, request.id) {
                        return self.fail(format!("{by} answers {} though it holds a sibling's answer", request.id));
                    }
                    self.crowd.unpaired.insert((request.id, by), answer.clone());
                }
            },
            None => _ = self.crowd.answers.insert(request.id, (request.clone(), answer.clone(), by)),
        }
        let is_sold = matches!(answer, Answer::Approved(_));
        if is_sold && self.crowd.voided_at.contains(&(request.id, by)) && !self.was_put_back(n) {
            return self.fail(format!("{by} sells {}, which it has voided", request.id));
        }
        if !was_known {
            self.check_decided(n, request, answer);
        }
        match answer {
            Answer::Approved(sale) => {
                self.tally.approved += 1;
                let person = person_of(request.card);
                let own = own(&sale.paid);
                self.crowd.count(request.id, person, own);
                *self.tally.approved_by.entry(paid_by(&sale.paid)).or_default() += 1;
                let is_liar = self.losses.liars.contains(&n);
                if !was_known && !request.offline && !is_liar && self.is_blocked(n, request.card) == Some(true) {
                    self.fail(format!("{by} sells to {}, which it holds a block of", request.card));
                }
                let fence = self.boxes[n].disk.get(&keys::fence(self.boxes[n].me));
                let is_told = self.boxes[n].told_fenced;
                if !was_known && (is_told || fence.is_ok_and(|fence| fence.is_some())) {
                    self.fail(format!("{by} sells though it holds its own fence"));
                }
                if !was_known && !request.offline {
                    self.check_lease(n, own);
                    self.check_price(request, &sale.paid);
                }
                self.check_spent(person);
            }
            Answer::Refused(Reason::NotEnough | Reason::NoLease) if request.offline => {
                self.fail(format!("{by} refuses {} for money, which is eaten", request.id));
            }
            Answer::Refused(Reason::NotEnough) if !was_known => {
                *self.tally.refused.entry(Reason::NotEnough.code()).or_default() += 1;
                self.judge_refusal_for_money(n, request);
            }
            Answer::Refused(reason) => *self.tally.refused.entry(reason.code()).or_default() += 1,
            Answer::Refunded(_) | Answer::Voided => {}
        }
    }

    /// Own money is spent under a lease of headquarters only, which ends.
    fn check_lease(&mut self, n: usize, own: i64) {
        let node = &self.boxes[n];
        let lease = node.disk.get(keys::LEASE).ok().flatten();
        let lease = lease.and_then(|bytes| decode_row::<LeaseRecord>(keys::LEASE, &bytes).ok());
        let until_ms = lease.filter(|lease| lease.incarnation == node.me.incarnation).map(|lease| lease.until_ms);
        let by_its_clock = node.core.as_ref().map(|core| core.clock().now_ms(node.ticks(self.now_ms)));
        let now_ms = by_its_clock.unwrap_or(i64::MIN).max(self.now_ms - LEASE_SKEW_MS);
        if own > 0 && until_ms.is_none_or(|until_ms| now_ms > until_ms) {
            self.fail(format!("{} spends a holder's money, and its lease was until {until_ms:?}", node.me));
        }
    }

    /// The discount on what is keyed.
    pub fn off(&self, keyed: Fen) -> i64 {
        if self.plan.odd_prices { (keyed.0 * 375 + 5_000) / 10_000 } else { 0 }
    }

    /// The discount is half a fen rounded up, once.
    fn check_price(&mut self, request: &PurchaseRequest, paid: &[(Source, Fen)]) {
        let Mode::Amount(fen) = request.mode else { return };
        let off = self.off(fen);
        let paid: i64 = paid.iter().map(|(_, part)| part.0).sum();
        if paid != fen.0 - off {
            self.fail(format!("{}: {fen} less {} was paid by {}", request.id, Fen(off), Fen(paid)));
        }
    }

    /// Nobody's own money is spent twice.
    fn check_spent(&mut self, person: PersonId) {
        let sum = |map: &BTreeMap<PersonId, i64>| map.get(&person).copied().unwrap_or_default();
        let (spent, out, paid_in) = (sum(&self.crowd.spent), sum(&self.crowd.paid_out), sum(&self.crowd.paid_in));
        let lost = self.forgotten(person) + self.may_be_lost(person);
        if spent + out > paid_in + lost && !self.hub_forked {
            self.tell_wallets(person);
            self.fail(format!("{person} spent {} and got {} of {}", Fen(spent), Fen(out), Fen(paid_in)));
        }
    }

    /// What fenced boxes were granted of a person after the backup that headquarters was restored from, without its log:
    /// nobody else knows of it (README, table of losses).
    fn forgotten(&self, person: PersonId) -> i64 {
        if !self.was_restored {
            return 0;
        }
        let tx = yika_crdt::store::Tx::new(&self.hub.disk);
        let wallets = yika_hub_core::wallets_of(&tx, person).unwrap_or_default();
        let replicas = wallets.wallets.get(&WalletKey::Main).map(|wallet| &wallet.replicas);
        let fenced = self.boxes.iter().filter(|node| self.fenced.contains(&node.me));
        let lacks = fenced.map(|node| {
            let row = node.rights(person).rows.remove(&WalletKey::Main).unwrap_or_default();
            let by_hub = row.granted_in.iter().filter(|(giver, _)| giver.node.is_hub());
            let known = replicas.and_then(|replicas| replicas.get(&node.me));
            let known = known.map_or(0, |replica| replica.granted.values().map(|total| total.0).sum());
            (by_hub.map(|(_, total)| total.0).sum::<i64>() - known).max(0)
        });
        lacks.sum()
    }

    /// Where a person's own money lies, as headquarters and each box know it.
    pub fn tell_wallets(&mut self, person: PersonId) {
        let tx = yika_crdt::store::Tx::new(&self.hub.disk);
        let wallets = yika_hub_core::wallets_of(&tx, person).unwrap_or_default();
        for (key, wallet) in &wallets.wallets {
            self.note(|| format!("{person} at headquarters: {key:?} {wallet:?}"));
        }
        for n in 0..self.boxes.len() {
            let (me, rights) = (self.boxes[n].me, self.boxes[n].rights(person));
            self.note(|| format!("{person} at {me}: {rights:?}"));
        }
        let held: Vec<String> =
            self.boxes.iter().map(|b| format!("{} at {}", b.right(person).unwrap_or_default(), b.me)).collect();
        self.note(|| format!("{person} may spend {}", held.join(", ")));
    }

    /// Whether a box holds the journal entry of a sibling that answers an id.
    fn holds_answer(&self, n: usize, id: PurchaseId) -> bool {
        let node = &self.boxes[n];
        let journals = node.disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        let mut journals = journals.filter(|feed| feed.channel == Channel::Journal && feed.writer != node.me);
        journals.any(|feed| {
            let entries = node.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
            entries.iter().any(|bytes| Entry::decode(bytes).is_ok_and(|entry| entry.body.answers() == Some(id)))
        })
    }

    /// Whether a box holds a block of a card that nobody has lifted, read from the entries themselves; `None` where they
    /// do not tell.
    pub fn is_blocked(&mut self, n: usize, card: CardNumber) -> Option<bool> {
        if self.plan.is(Theme::Pruning) {
            let tells = self.put_back.is_empty() && !self.hub_forked && !self.more.snapshots.is_between(n);
            return tells.then(|| self.is_blocked_by_words(n, card));
        }
        let disk = &self.boxes[n].disk;
        let feeds = disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        let (mut blocks, mut lifted) = (BTreeSet::new(), BTreeSet::new());
        let mut ranges = Vec::new();
        for feed in feeds.filter(|feed| matches!(feed.channel, Channel::Blocks(_))) {
            let entries = disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
            for (seq, bytes) in (1u64..).map(Seq).zip(entries) {
                match Entry::decode(&bytes).map(|entry| entry.body) {
                    Ok(Body::Block(block)) if is_of(block.target, card) => {
                        blocks.insert((feed, seq, feed::entry_hash(&feed, seq, &bytes)));
                    }
                    Ok(Body::Lift(LiftRecord::One { block, .. })) if self.counts_at(n, feed, seq) => {
                        lifted.insert((block, feed.channel));
                    }
                    Ok(Body::Lift(LiftRecord::Range { feed: of, from, to, .. })) if feed.channel == BY_HUB => {
                        ranges.push((of, from, to));
                    }
                    _ => {}
                }
            }
        }
        let in_range = |feed, seq| ranges.iter().any(|(of, from, to)| *of == feed && *from <= seq && seq <= *to);
        let is_lifted = |feed: FeedId, hash| [feed.channel, BY_HUB].iter().any(|by| lifted.contains(&(hash, *by)));
        Some(blocks.into_iter().any(|(feed, seq, hash)| !is_lifted(feed, hash) && !in_range(feed, seq)))
    }

    /// What a fenced life wrote beyond its end lifts nothing.
    pub fn counts_at(&self, n: usize, feed: FeedId, seq: Seq) -> bool {
        let key = keys::fence(feed.writer);
        let fence = self.boxes[n].disk.get(&key).ok().flatten();
        let Some(fence) = fence.and_then(|bytes| decode_row::<FenceRecord>(&key, &bytes).ok()) else { return true };
        let last = fence.last.iter().find(|(channel, _)| *channel == feed.channel);
        last.is_some_and(|(_, end)| seq <= end.seq)
    }

    /// A cashier gives back what was just sold at this terminal's box.
    fn give_back(&mut self, t: usize) {
        let n = self.crowd.terminals[t].at;
        let me = self.boxes[n].address;
        let id = self.crowd.terminals[t].id;
        let sold = self.crowd.answers.iter().rev().find_map(|(of, (_, answer, by))| match answer {
            Answer::Approved(_) if of.terminal == id && *by == me => Some(*of),
            _ => None,
        });
        let Some(of) = sold else { return };
        let amount = self.chance.one_in(2).then(|| Fen(1 + self.chance.below(300) as i64));
        self.give_back_at(t, of, amount);
    }

    /// A terminal's box gives back of what it sold: all of it, or so much.
    pub fn give_back_at(&mut self, t: usize, of: PurchaseId, amount: Option<Fen>) {
        let n = self.crowd.terminals[t].at;
        let me = self.boxes[n].address;
        let Some((_, Answer::Approved(sale), _)) = self.crowd.answers.get(&of) else { return };
        let (person, paid) = (person_of(sale.card), own(&sale.paid));
        let request = RefundRequest {
            id: self.crowd.terminals[t].next_id(),
            of,
            kind: RefundKind::Correction,
            amount,
            operator: OperatorId(1),
        };
        let number = request.id;
        let reply = self.tell(n, Command::Refund(request));
        self.trace(|| format!("{me} is asked to give back {of} of {person}: {reply:?}"));
        let back = match reply {
            Ok(Reply::Answer(Answer::Refunded(refund))) => {
                self.tally.refunds += 1;
                self.gave_back(of, &refund.back);
                self.check_day(of, refund.day);
                self.boxes[n].resends.begin(number);
                self.boxes[n].resends.end(number, Some(node_at(me)));
                own(&refund.back)
            }
            // It may be written, and nobody heard of it.
            Err(_) => {
                self.crowd.given_unheard.insert(of);
                paid
            }
            Ok(_) => 0,
        };
        self.crowd.uncount(of, person, back);
    }

    /// A box gives back only what it sold on the day that is still open.
    fn check_day(&mut self, of: PurchaseId, day: Day) {
        if let Answer::Approved(sale) = &self.crowd.answers[&of].1
            && sale.day != day
        {
            self.fail(format!("{of} of {:?} is given back on {day:?}", sale.day));
        }
    }

    /// No more is given back of a sale at its box than was paid.
    pub fn gave_back(&mut self, of: PurchaseId, back: &[(Source, Fen)]) {
        let sum = |parts: &[(Source, Fen)]| parts.iter().map(|(_, part)| part.0).sum::<i64>();
        let given = self.crowd.given.entry(of).or_default();
        *given += sum(back);
        let (given, paid) = (
            *given,
            match self.crowd.answers.get(&of).map(|(_, answer, _)| answer) {
                Some(Answer::Approved(sale)) => sum(&sale.paid),
                _ => return,
            },
        );
        if given > paid && self.honest() {
            self.fail(format!("of {of}, {} was paid and {} given back", Fen(paid), Fen(given)));
        }
    }

    /// A terminal that was answered asks again all the same: the first answer.
    fn ask_again(&mut self, t: usize) {
        let terminal = &self.crowd.terminals[t];
        let n = terminal.at;
        let me = self.boxes[n].address;
        let mine = |(id, (_, _, by)): &(&PurchaseId, &(PurchaseRequest, Answer, NodeId))| {
            id.terminal == terminal.id && *by == me
        };
        let known: Vec<PurchaseRequest> =
            self.crowd.answers.iter().filter(mine).map(|(_, (request, _, _))| request.clone()).collect();
        let newest = self.crowd.answers.range(..).rev().find(|(id, _)| id.terminal == terminal.id);
        let newest = newest.filter(|(id, _)| (id.boot, id.seq) == (terminal.boot, terminal.seq));
        let elsewhere = newest.filter(|(_, (.., by))| *by != me && self.plan.has(Class::Outage));
        let elsewhere = elsewhere.map(|(_, (request, ..))| request.clone());
        if let Some(request) = elsewhere.or_else(|| self.chance.pick(&known).cloned()) {
            let start = self.boxes[n].start;
            self.later(5, Event::Asked { n, request, start });
        }
    }

    /// A box that still owes a terminal its answer though it is open.
    pub fn still_asked(&self) -> Option<usize> {
        let owes = |terminal: &&Terminal| terminal.waiting.is_some() && self.boxes[terminal.at].shut().is_none();
        self.crowd.terminals.iter().find(owes).map(|terminal| terminal.at)
    }

    /// After the busy time, terminals tell what they decided alone.
    pub fn tell_facts(&mut self) {
        for t in 0..self.crowd.terminals.len() {
            if self.crowd.terminals[t].waiting.is_none() && !self.crowd.terminals[t].facts.is_empty() {
                self.sell(t);
            }
        }
    }
}

/// Whether a block is of a card.
pub fn is_of(target: BlockTarget, card: CardNumber) -> bool {
    match target {
        BlockTarget::Card(blocked) => blocked == card,
        BlockTarget::Person(person) => person == person_of(card),
    }
}

/// An answer in brief.
pub fn told(answer: &Answer) -> String {
    match answer {
        Answer::Approved(sale) => {
            let parts: Vec<String> = sale.paid.iter().map(|(source, part)| format!("{part} {source:?}")).collect();
            format!("sold for {}", parts.join(" and "))
        }
        Answer::Refused(reason) => format!("refused, {}", reason.code()),
        Answer::Refunded(refund) => format!("given back {:?}", refund.back),
        Answer::Voided => "voided".into(),
    }
}
