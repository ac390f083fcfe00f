//! Who may pass which door now, from memory only; and the same in words.
//!
//! Leaves to others: the rules (`crdt::access`), blocks (`crdt::people`), moving anything (`doors`).

use super::hardware::Place;
use crate::node::EdgeNode;
use serde::Serialize;
use std::collections::BTreeMap;
use yika_crdt::access::{self, Explanation, Holder, Why};
use yika_crdt::civil::{Civil, civil};
use yika_crdt::entry::{BlockTarget, TerminalRecord, TerminalState};
use yika_crdt::ids::*;
use yika_crdt::people;
use yika_crdt::reason::Reason;

/// The present, as the box knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    /// Hub time.
    pub(super) at_ms: i64,
    /// Whether the clock is trusted. Doors decide by the best time known and say so in the event.
    pub(super) time_trusted: bool,
    /// The campus' civil time.
    pub(super) civil: Civil,
}

impl Moment {
    /// Now; `None` while the registry does not say where the campus' days begin.
    pub(super) fn now(node: &EdgeNode) -> Option<Moment> {
        let campus = node.place().campus?;
        let offset = node.registry().campuses.get(&campus)?.utc_offset_minutes;
        let (at_ms, time_trusted) = node.time();
        Some(Moment { at_ms, time_trusted, civil: civil(at_ms, offset) })
    }
}

/// The card may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pass {
    pub(super) door: DoorId,
    pub(super) person: PersonId,
    /// How long the lock is opened.
    pub(super) pulse_ms: u32,
    /// Where the lock hangs, if this box knows.
    pub(super) place: Option<Place>,
}

/// The card may not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) person: Option<PersonId>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason, person: None }
    }
}

/// The door a reader reads for, if the reader may read at all.
pub(super) fn door_of(node: &EdgeNode, reader: &TerminalRecord) -> Result<DoorId, Reason> {
    let works = reader.state == TerminalState::Deployed && node.place().campus == Some(reader.campus);
    reader.door.filter(|_| works).ok_or(Reason::TerminalNotAllowed)
}

/// Whether the card opens the door at this moment: a block wins, then the card and its holder, then the policy.
pub(super) fn decide(
    node: &EdgeNode,
    places: &BTreeMap<String, Place>,
    door: DoorId,
    card: CardNumber,
    at: Moment,
) -> Result<Pass, Refusal> {
    let holder = {
        let people = node.people.read();
        match people.usable_at(card, at.civil.day, at.at_ms) {
            Ok((person, holder)) => as_holder(person, holder),
            Err(reason) => return Err(Refusal { reason, person: people.person_of(card) }),
        }
    };
    let access = node.access.read();
    let person = holder.person;
    access::decide(&access.index, door, &holder, at.civil)
        .map_err(|reason| Refusal { reason, person: Some(person) })?;
    let facts = access.doors.get(&door);
    let (pulse_ms, place) = facts.map_or((0, None), |f| (f.pulse_ms, places.get(&f.device).copied()));
    Ok(Pass { door, person, pulse_ms, place })
}

fn as_holder(person: PersonId, holder: &people::Holder) -> Holder {
    Holder { person, status: holder.status, valid: holder.valid }
}

/// Chinese, then English.
pub type Words = (String, String);

/// Why a card opens a door at present, or why not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WhyOrWhyNot {
    /// The holder, if the card is known.
    pub person: Option<PersonId>,
    /// `None`: it opens.
    pub refused: Option<Reason>,
    /// What led to it, one sentence each.
    pub words: Vec<Words>,
}

/// The decision with everything that led to it.
pub(super) fn explain(node: &EdgeNode, door: DoorId, card: CardNumber, at: Moment) -> WhyOrWhyNot {
    let mut words = Vec::new();
    let mut say = |zh: String, en: String| words.push((zh, en));
    if !at.time_trusted {
        say(
            "本节点时钟未经总部确认,按已知时间判断".into(),
            "the clock is not confirmed; decided by the best time known".into(),
        );
    }
    let people = node.people.read();
    let person = people.person_of(card);
    let usable = people.usable_at(card, at.civil.day, at.at_ms);
    if people.is_blocked(BlockTarget::Card(card)) {
        say(format!("卡 {card} 已挂失或冻结"), format!("card {card} is blocked"));
    }
    if let Some(person) = person.filter(|p| people.is_blocked(BlockTarget::Person(*p))) {
        say(format!("持卡人 {person} 的全部卡已冻结"), format!("all cards of {person} are blocked"));
    }
    let holder = match usable {
        Ok((person, holder)) => as_holder(person, holder),
        Err(reason) => {
            let (zh, en) = reason.words();
            say(zh.into(), en.into());
            return WhyOrWhyNot { person, refused: Some(reason), words };
        }
    };
    drop(people);
    let explanation = access::explain(&node.access.read().index, door, &holder, at.civil);
    say_policy(&explanation, door, &mut say);
    WhyOrWhyNot { person, refused: explanation.decision.err(), words }
}

fn say_policy(explanation: &Explanation, door: DoorId, say: &mut impl FnMut(String, String)) {
    if !explanation.door_known {
        say(format!("门禁方案中没有门 {door}"), format!("the policy knows no door {door}"));
    }
    if let Some(kind) = explanation.holiday {
        say(format!("今天是第 {kind} 类节假日"), format!("today is a holiday of kind {kind}"));
    }
    if explanation.groups.is_empty() {
        say("持卡人不在任何权限组".into(), "the holder is in no access group".into());
    }
    for (group, why) in &explanation.groups {
        let (zh, en) = why_words(*why);
        say(format!("权限组 {}:{zh}", group.0), format!("group {}: {en}", group.0));
    }
    if let Err(reason) = explanation.decision {
        let (zh, en) = reason.words();
        say(zh.into(), en.into());
    }
}

fn why_words(why: Why) -> Words {
    match why {
        Why::Opens(s) => (format!("时段 {} 允许通行", s.0), format!("schedule {} opens the door", s.0)),
        Why::DoorNotInGroup => ("不含此门".into(), "the door is not in it".into()),
        Why::NoSuchSchedule(s) => (format!("时段 {} 不存在", s.0), format!("schedule {} does not exist", s.0)),
        Why::OutsideTime(s) => (format!("不在时段 {} 内", s.0), format!("schedule {} does not hold at this time", s.0)),
        Why::Holiday(s, kind) => (
            format!("时段 {} 平日允许,节假日第 {kind} 类不允许", s.0),
            format!("schedule {} would open on a weekday, the holiday of kind {kind} replaces it", s.0),
        ),
    }
}
