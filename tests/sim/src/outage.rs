//! Headquarters is away for long, boxes do not hear each other, and terminals turn to whoever answers, or give up.
//!
//! Leaves to others: terminals in quieter times (`crowd`), lines (`talk`).

use crate::crowd::person_of;
use crate::plan::Class;
use crate::strike::Mend;
use crate::talk::IDLE_MS;
use crate::world::{Event, World};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::RefundKind;
use yika_crdt::ids::*;
use yika_crdt::sale::{Answer, PurchaseRequest, RefundRequest};

impl World {
    /// No box hears headquarters for a while; sometimes none hears another either.
    pub fn outage(&mut self) {
        self.struck(Class::Outage);
        let (hub, siblings) = match self.chance.below(4) {
            0 => (true, true),
            1 => (false, true),
            _ => (true, false),
        };
        let last_ms = self.chance.between(6_000, 25_000);
        self.note(|| format!("an outage: headquarters {hub}, between boxes {siblings}"));
        let boxes: Vec<NodeId> = self.boxes.iter().filter(|node| !node.gone).map(|node| node.address).collect();
        for (i, one) in boxes.iter().enumerate() {
            if hub {
                self.cut_for(NodeId::HUB, *one, last_ms);
            }
            for other in boxes[i + 1..].iter().filter(|_| siblings) {
                self.cut_for(*one, *other, last_ms);
            }
        }
    }

    /// Cuts a line in both directions for so long.
    pub fn cut_for(&mut self, a: NodeId, b: NodeId, last_ms: i64) {
        self.net.cut.extend([(a, b), (b, a)]);
        self.later(IDLE_MS, Event::Silent(a, b));
        self.later(last_ms, Event::Mend(Mend::Line(a, b)));
    }

    /// A cashier whose terminal gets no answer turns to another box, or undoes what he does not know the outcome of. True
    /// when nothing is waited for any more.
    pub fn turn_elsewhere(&mut self, t: usize, request: &PurchaseRequest) -> bool {
        match self.chance.below(8) {
            0..=2 => self.go_to_sibling(t),
            3 if !request.offline => return self.undo_unknown(t, request),
            _ => {}
        }
        false
    }

    /// A terminal asks another box of its campus from here on.
    pub fn go_to_sibling(&mut self, t: usize) {
        let (campus, at) = (self.crowd.terminals[t].campus, self.crowd.terminals[t].at);
        let others = |n: &usize| *n != at && self.boxes[*n].place.campus == Some(campus) && !self.boxes[*n].gone;
        let others: Vec<usize> = (0..self.boxes.len()).filter(others).collect();
        if let Some(other) = self.chance.pick(&others).copied() {
            self.note(|| format!("terminal {t} goes to box {other}"));
            self.crowd.terminals[t].at = other;
        }
    }

    /// Undoes a sale of unknown outcome at whichever box the terminal asks.
    fn undo_unknown(&mut self, t: usize, request: &PurchaseRequest) -> bool {
        let n = self.crowd.terminals[t].at;
        let (number, of) = (self.crowd.terminals[t].next_id(), request.id);
        let undo = RefundRequest { id: number, of, kind: RefundKind::Reversal, amount: None, operator: OperatorId(0) };
        let (reply, me) = (self.tell(n, Command::Refund(undo)), self.boxes[n].me.node);
        self.trace(|| format!("{me} is asked to undo {of}: {reply:?}"));
        let person = person_of(request.card);
        match reply {
            Ok(Reply::Answer(answer)) => {
                self.boxes[n].resends.begin(number);
                self.boxes[n].resends.end(number, Some(me));
                match answer {
                    Answer::Voided => {
                        self.crowd.voided(of, person);
                        self.crowd.voided_at.insert((of, self.boxes[n].address));
                        // What was asked before may arrive after it.
                        let (request, start) = (request.clone(), self.boxes[n].start);
                        let after_ms = self.chance.between(5, 2_000);
                        self.later(after_ms, Event::Asked { n, request, start });
                    }
                    Answer::Refunded(refund) => {
                        self.tally.refunds += 1;
                        self.gave_back(of, &refund.back);
                        self.crowd.uncount(of, person, crate::crowd::own(&refund.back));
                    }
                    _ => {}
                }
                self.crowd.terminals[t].waiting = None;
                true
            }
            // It may be written, and nobody heard of it.
            Err(_) => {
                self.crowd.unheard(of, person);
                false
            }
            Ok(_) => false,
        }
    }
}
