//! One line for each journal entry, in words: for the live page and the outbox.
//!
//! Leaves to others: which entries (`live`, `outbox`).

use super::{App, cards, show};
use yika_crdt::Fen;
use yika_crdt::channel::FeedId;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_ui::{Ui, UiError};

/// What an entry is about, for filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// Sales, refusals, corrections.
    Till,
    /// Doors.
    Door,
    /// Operators, days, alarms, cheques.
    Other,
}

/// An entry in words.
#[derive(Clone, Debug)]
pub(super) struct EventLine {
    pub(super) about: About,
    pub(super) time: String,
    pub(super) seq: String,
    pub(super) box_name: String,
    pub(super) what: String,
    pub(super) who: String,
    pub(super) place: String,
    pub(super) tone: &'static str,
    pub(super) word: String,
    pub(super) money: String,
}

impl EventLine {
    fn set(&mut self, ui: &Ui, about: About, what: &str, (tone, word): (&'static str, &str)) {
        self.about = about;
        self.what = ui.t(what).to_owned();
        self.tone = tone;
        self.word = word.to_owned();
    }
}

impl App {
    /// The line of an entry; bytes that are none get a line, too.
    pub(super) fn event_line(&self, ui: &Ui, feed: FeedId, seq: Seq, bytes: &[u8]) -> Result<EventLine, UiError> {
        let entry = Entry::decode(bytes);
        let mut line = EventLine {
            about: About::Other,
            time: entry.as_ref().map_or_else(|_| "—".to_owned(), |e| ui.time_text(e.stamp.hub_time_ms)),
            seq: seq.to_string(),
            box_name: self.box_name(feed.writer),
            what: ui.t("event.unreadable").to_owned(),
            who: String::new(),
            place: String::new(),
            tone: "bad",
            word: String::new(),
            money: String::new(),
        };
        if let Ok(entry) = entry {
            self.tell(ui, &mut line, &entry.body)?;
        }
        Ok(line)
    }

    fn tell(&self, ui: &Ui, line: &mut EventLine, body: &Body) -> Result<(), UiError> {
        match body {
            Body::Purchase(_) | Body::Refused(_) | Body::NotRefunded(_) | Body::Refund(_) | Body::Void(_) => {
                return self.tell_sale(ui, line, body);
            }
            Body::Door(door) => {
                let (tone, word) = self.door_word(ui, &door.event);
                line.set(ui, About::Door, "event.door", (tone, &word));
                line.who = self.holder_text(door.person, door.card)?;
                line.place = self.door_name(door.door);
            }
            Body::Act(act) => {
                let key = format!("act.{}", act.act);
                let known = ui.kit.words.has(&key);
                line.set(ui, About::Other, "event.act", ("plain", if known { ui.t(&key) } else { &act.act }));
                line.who =
                    if act.operator == OperatorId(0) { String::new() } else { self.operator_name(ui, act.operator) };
                line.place = ui.act_detail(&act.detail);
            }
            Body::Cut(day) => line.set(ui, About::Other, "event.cut", ("info", &day.to_string())),
            Body::Alarm(alarm) => {
                line.set(ui, About::Other, "event.alarm", ("bad", &ui.alarm(&alarm.kind)));
                line.place = ui.alarm_detail(&alarm.kind, &alarm.detail);
            }
            Body::Taken(taken) => {
                line.set(ui, About::Other, "event.taken", ("info", &cards::wallet_name(ui, taken.row.wallet)));
                line.who = self.holder_text(Some(taken.row.person), None)?;
                line.money = show::money(taken.total);
            }
            _ => line.set(ui, About::Other, "event.unreadable", ("bad", "")),
        }
        Ok(())
    }

    /// What a till asked for and was answered.
    fn tell_sale(&self, ui: &Ui, line: &mut EventLine, body: &Body) -> Result<(), UiError> {
        match body {
            Body::Purchase(sale) => {
                line.set(ui, About::Till, "event.sale", ("ok", ui.t("event.sold")));
                let total = sale.price.add(sale.adjustment).unwrap_or(sale.price);
                line.who = self.holder_text(Some(sale.person), Some(sale.card))?;
                line.place = self.terminal_name(sale.id.terminal);
                line.money = show::money(if sale.mode == Mode::Count { Fen::ZERO } else { total });
            }
            Body::Refused(refused) => {
                line.set(ui, About::Till, "event.sale", ("bad", show::reason(ui, refused.reason)));
                let holder = self.node().people.read().person_of(refused.card);
                line.who = self.holder_text(holder, Some(refused.card))?;
                line.place = self.terminal_name(refused.id.terminal);
            }
            Body::NotRefunded(refused) => {
                let tone = if refused.reason == Reason::Voided { "plain" } else { "bad" };
                line.set(ui, About::Till, "event.refund", (tone, show::reason(ui, refused.reason)));
                line.place = self.terminal_name(refused.id.terminal);
            }
            Body::Refund(refund) => {
                line.set(ui, About::Till, "event.refund", ("info", ui.t("event.given_back")));
                line.who = self.holder_text(Some(refund.person), None)?;
                line.place = self.terminal_name(refund.id.terminal);
                let back = Fen::sum(refund.back.iter().map(|(_, part)| *part)).unwrap_or_default();
                line.money = show::back(back);
            }
            Body::Void(id) => {
                line.set(ui, About::Till, "event.void", ("plain", ui.t("event.voided")));
                line.place = self.terminal_name(id.terminal);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn door_word(&self, ui: &Ui, event: &DoorEvent) -> (&'static str, String) {
        let word = |tone, key: &str| (tone, ui.t(key).to_owned());
        match event {
            DoorEvent::Granted => word("ok", "door.granted"),
            DoorEvent::Denied(reason) => ("bad", show::reason(ui, *reason).to_owned()),
            DoorEvent::Button => word("info", "door.button"),
            DoorEvent::Opened(by) => word("plain", opened_by(by)),
            DoorEvent::Closed => word("plain", "door.closed"),
            DoorEvent::Forced => word("bad", "door.forced"),
            DoorEvent::HeldOpen => word("warn", "door.held"),
            DoorEvent::Remote(operator) => {
                ("info", ui.t_args("door.remote", &[("who", &self.operator_name(ui, *operator))]))
            }
            DoorEvent::LineLost => word("bad", "door.line_lost"),
            DoorEvent::LineBack => word("ok", "door.line_back"),
            DoorEvent::Fire => word("bad", "door.fire"),
            DoorEvent::Unconfirmed => word("bad", "door.unconfirmed"),
        }
    }

    /// Name and staff number of a holder where known, else the card.
    fn holder_text(&self, person: Option<PersonId>, card: Option<CardNumber>) -> Result<String, UiError> {
        let known = match person {
            Some(person) => self.person(person)?,
            None => None,
        };
        Ok(match (known, card) {
            (Some(person), _) => format!("{} {}", person.name, person.staff_number),
            (None, Some(card)) => show::masked_card(card),
            (None, None) => String::new(),
        })
    }

    fn box_name(&self, writer: Writer) -> String {
        let registry = self.node().registry();
        registry.nodes.get(&writer).map_or_else(|| writer.node.to_string(), |node| node.name.clone())
    }

    /// A door's name, or its number.
    pub(super) fn door_name(&self, door: DoorId) -> String {
        let access = self.node().access.read();
        access.doors.get(&door).map_or_else(|| door.to_string(), |d| d.name.clone())
    }
}

fn opened_by(by: &OpenedBy) -> &'static str {
    match by {
        OpenedBy::Card => "door.opened.card",
        OpenedBy::Button => "door.opened.button",
        OpenedBy::Remote(_) => "door.opened.remote",
        OpenedBy::HeldOpen => "door.opened.held",
        OpenedBy::Fire => "door.opened.fire",
        OpenedBy::Unobserved => "door.opened.unobserved",
    }
}
