//! The facts of a refusal in words: numbers as they are, closed lists and the errors of other modules by their own words.

use super::{Refusal, filled};
use crate::access::AccessProblem;
use crate::backup::fault::Fault;
use crate::clock::in_largest_unit;
use crate::import::{self, Category, FileError};
use yika_crdt::Fen;
use yika_crdt::access::INTERVALS_MAX;
use yika_crdt::access::check::{NAME_CHARS_MAX as POLICY_NAME_CHARS_MAX, PULSE_MS_MAX, PolicyError};
use yika_crdt::channel::FeedId;
use yika_crdt::docs::act::NAME_BYTES_MAX;
use yika_crdt::docs::{ActError, DocError, DocId};
use yika_crdt::documents::{Denied, PERSON_CHANGES_MAX};
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::*;
use yika_crdt::tariff::SheetError;
use yika_crdt::tariff::check::REPEAT_TAP_SECONDS_MAX;
use yika_crdt::tariff::sheet::NAME_CHARS_MAX;
use yika_hub_core::denial::Kept;
use yika_ui::Lang;

/// Something that a refusal names.
pub trait Fact {
    /// In words.
    fn words(&self, lang: Lang) -> String;
}

/// What lies at a box of somebody's money.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtBox {
    /// The box as shown.
    pub name: String,
    /// How much.
    pub sum: Fen,
    /// Whether it can give it back.
    pub line: BoxLine,
}

/// The line to a box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoxLine {
    /// It is there.
    Connected,
    /// It is away; how long ago it was heard, in milliseconds.
    Silent(Option<i64>),
    /// Headquarters has ended it.
    Fenced,
}

/// What a device or a file was found to have, for whoever looks after the machine: pages in Chinese point to the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause(pub String);

/// Why a backup cannot be relied on, for whoever holds the file in his hands: the reason itself, in every language.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unsound {
    /// What is wrong with the file.
    Faulty(Fault),
    /// There is none.
    Missing,
    /// This user may not read it.
    Forbidden,
    /// It is a folder or a device.
    NoFile,
    /// As the system or the database says it.
    Other(String),
}

/// Key of the kit's words why a password is weak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weakness(pub &'static str);

macro_rules! said_as_they_are {
    ($($type:ty),+) => {$(
        impl Fact for $type {
            fn words(&self, _: Lang) -> String {
                self.to_string()
            }
        }
    )+};
}

said_as_they_are!(
    String, usize, u32, u64, Fen, Day, FeedId, Writer, NodeId, CampusId, PersonId, TerminalId, PurchaseId, DoorId
);

impl<T: Fact> Fact for Vec<T> {
    fn words(&self, lang: Lang) -> String {
        if self.is_empty() {
            return filled(lang, "none_yet", &[]);
        }
        let each: Vec<String> = self.iter().map(|one| one.words(lang)).collect();
        each.join(if lang == Lang::Zh { "、" } else { ", " })
    }
}

impl Fact for Box<Refusal> {
    fn words(&self, lang: Lang) -> String {
        Refusal::words(self, lang)
    }
}

impl Fact for AtBox {
    fn words(&self, lang: Lang) -> String {
        let (name, sum) = (("name", self.name.clone()), ("sum", self.sum.to_string()));
        match self.line {
            BoxLine::Connected => filled(lang, "at_box.connected", &[name, sum]),
            BoxLine::Silent(Some(ms)) => filled(lang, "at_box.silent", &[name, sum, ("age", span(lang, ms))]),
            BoxLine::Silent(None) => filled(lang, "at_box.unheard", &[name, sum]),
            BoxLine::Fenced => filled(lang, "at_box.fenced", &[name, sum]),
        }
    }
}

/// A length of time in its largest unit.
fn span(lang: Lang, ms: i64) -> String {
    let (key, number) = in_largest_unit(ms, ["span.seconds", "span.minutes", "span.hours", "span.days"]);
    filled(lang, key, &[("n", number.to_string())])
}

impl Fact for Cause {
    fn words(&self, lang: Lang) -> String {
        match lang {
            Lang::Zh => filled(lang, "cause", &[]),
            Lang::En => self.0.clone(),
        }
    }
}

impl Fact for Unsound {
    fn words(&self, lang: Lang) -> String {
        let said = |key: &str| filled(lang, key, &[]);
        match self {
            Unsound::Missing => said("unsound.missing"),
            Unsound::Forbidden => said("unsound.forbidden"),
            Unsound::NoFile => said("unsound.no_file"),
            Unsound::Other(detail) => filled(lang, "unsound.other", &[("detail", detail.clone())]),
            Unsound::Faulty(Fault::Length { found, wanted }) => {
                let key = if found < wanted { "unsound.cut_off" } else { "unsound.too_long" };
                filled(lang, key, &[("found", found.to_string()), ("wanted", wanted.to_string())])
            }
            Unsound::Faulty(Fault::Foreign { .. }) => said("unsound.foreign"),
            Unsound::Faulty(Fault::Newer) => said("unsound.newer"),
            Unsound::Faulty(Fault::OtherKey { hub }) => filled(lang, "unsound.other_key", &[("hub", hub.clone())]),
            Unsound::Faulty(Fault::Altered) => said("unsound.altered"),
        }
    }
}

impl Fact for Weakness {
    fn words(&self, lang: Lang) -> String {
        filled(lang, self.0, &[])
    }
}

impl Fact for DocId {
    fn words(&self, _: Lang) -> String {
        self.to_string()
    }
}

impl Fact for Kept {
    fn words(&self, lang: Lang) -> String {
        let key = match self {
            Kept::PayOut => "kept.pay_out",
            Kept::GiveBack => "kept.give_back",
            Kept::Release => "kept.release",
            Kept::Registry => "kept.registry",
            Kept::Enrolment => "kept.enrolment",
            Kept::NewPeople => "kept.new_people",
        };
        filled(lang, key, &[])
    }
}

impl Fact for BlockTarget {
    fn words(&self, lang: Lang) -> String {
        match self {
            BlockTarget::Card(card) => filled(lang, "target.card", &[("card", card.to_string())]),
            BlockTarget::Person(person) => person.to_string(),
        }
    }
}

impl Fact for FileError {
    fn words(&self, lang: Lang) -> String {
        self.message(match lang {
            Lang::Zh => import::Lang::Zh,
            Lang::En => import::Lang::En,
        })
    }
}

impl Fact for Denied {
    fn words(&self, lang: Lang) -> String {
        let said = |key, facts: &[(&str, String)]| filled(lang, key, facts);
        match self {
            Denied::TooManyPersons { count } => {
                said("denied.too_many", &[("count", count.to_string()), ("most", PERSON_CHANGES_MAX.to_string())])
            }
            Denied::UnknownCampus { campus, known } => {
                said("unknown_campus", &[("campus", campus.to_string()), ("known", known.words(lang))])
            }
            Denied::OtherHome { person, known, home } => said(
                "denied.other_home",
                &[("person", person.to_string()), ("known", known.to_string()), ("home", home.to_string())],
            ),
            Denied::UnknownPerson { person, home } => {
                said("denied.unknown_person", &[("person", person.to_string()), ("home", home.to_string())])
            }
            Denied::CardHeld { card, person, holder } => said(
                "denied.card_held",
                &[("card", card.to_string()), ("person", person.to_string()), ("holder", holder.to_string())],
            ),
            Denied::CardOfPerson { card, person } => {
                said("denied.card_of_person", &[("card", card.to_string()), ("person", person.to_string())])
            }
            Denied::VisitBackwards => said("denied.visit_backwards", &[]),
            Denied::UnknownVisitor { visitor, campus } => {
                said("denied.unknown_visitor", &[("visitor", visitor.to_string()), ("campus", campus.to_string())])
            }
            Denied::NotOurs { campus } => said("denied.not_ours", &[("campus", campus.to_string())]),
            Denied::Document(error) => error.words(lang),
        }
    }
}

impl Fact for DocError {
    fn words(&self, lang: Lang) -> String {
        let said = |key, facts: &[(&str, String)]| filled(lang, key, facts);
        match self {
            DocError::Act(ActError::OtherKind | ActError::NotAnAct) => said("act.other_kind", &[]),
            DocError::Act(ActError::Persons) | DocError::TooLarge(_) | DocError::Act(ActError::TooLong(_)) => {
                said("act.too_large", &[])
            }
            DocError::Act(ActError::Text(field)) => {
                said("act.text", &[("field", (*field).to_owned()), ("most", NAME_BYTES_MAX.to_string())])
            }
            DocError::Act(ActError::Range(field)) => said("act.range", &[("field", (*field).to_owned())]),
            DocError::Refused(doc) => said("document.refused", &[("doc", doc.to_string())]),
            DocError::Damaged { doc, cause } | DocError::Engine { doc, cause } => {
                said("document.broken", &[("doc", doc.to_string()), ("cause", Cause(cause.clone()).words(lang))])
            }
        }
    }
}

impl Fact for SheetError {
    fn words(&self, lang: Lang) -> String {
        let row = |row: &usize| ("row", row.to_string());
        let table = |name: &str| ("table", filled(lang, &format!("sheet.table.{}", name.replace(' ', "_")), &[]));
        let field = |name: &str| ("field", name.to_owned());
        let (key, facts) = match self {
            SheetError::TooManyRows { table: name, rows, rows_max } => {
                ("rows", vec![table(name), ("rows", rows.to_string()), ("most", rows_max.to_string())])
            }
            SheetError::PeriodName { row: at } => ("period_name", vec![row(at), ("most", NAME_CHARS_MAX.to_string())]),
            SheetError::PeriodMinutes { row: at, .. } => ("period_minutes", vec![row(at)]),
            SheetError::PeriodsOverlap { first, row: at, minute } => {
                let clock = format!("{:02}:{:02}", minute / 60, minute % 60);
                ("overlap", vec![("first", first.to_string()), row(at), ("clock", clock)])
            }
            SheetError::Twice { table: name, first, row: at } => {
                ("twice", vec![table(name), ("first", first.to_string()), row(at)])
            }
            SheetError::UnknownPeriod { row: at, period } => {
                ("unknown_period", vec![row(at), ("period", period.to_string())])
            }
            SheetError::Amount { table: name, row: at, field: which, amount, least, most } => {
                let bounds = [("amount", amount.to_string()), ("least", least.to_string()), ("most", most.to_string())];
                ("amount", [table(name), row(at), field(which)].into_iter().chain(bounds).collect())
            }
            SheetError::BasisPoints { row: at, basis_points } => {
                ("basis_points", vec![row(at), ("points", basis_points.to_string())])
            }
            SheetError::Times { row: at, field: which, times } => {
                ("times", vec![row(at), field(which), ("times", times.to_string())])
            }
            SheetError::RepeatTap(seconds) => {
                ("repeat_tap", vec![("seconds", seconds.to_string()), ("most", REPEAT_TAP_SECONDS_MAX.to_string())])
            }
            SheetError::GuestDay { per_purchase, per_card_day } => {
                ("guest_day", vec![("purchase", per_purchase.to_string()), ("day", per_card_day.to_string())])
            }
        };
        filled(lang, &format!("sheet.{key}"), &facts)
    }
}

impl Fact for AccessProblem {
    fn words(&self, lang: Lang) -> String {
        let table = |name: &str| ("table", filled(lang, &format!("access.table.{name}"), &[]));
        let (key, facts) = match self {
            AccessProblem::Policy(error) => return error.words(lang),
            AccessProblem::Twice { table: name, id } => ("twice", vec![table(name), ("id", id.to_string())]),
            AccessProblem::NotThere { table: name, id } => ("not_there", vec![table(name), ("id", id.to_string())]),
            AccessProblem::SetAndRemoved { table: name, id } => {
                ("set_and_removed", vec![table(name), ("id", id.to_string())])
            }
            AccessProblem::TooMany { table: name, most } => ("too_many", vec![table(name), ("most", most.to_string())]),
            AccessProblem::UnknownStaff { group, count, numbers } => (
                "unknown_staff",
                vec![("group", group.to_string()), ("count", count.to_string()), ("numbers", numbers.clone())],
            ),
            AccessProblem::UnknownCategory { group, category } => {
                let known: Vec<String> = Category::ALL.iter().map(|c| c.word(import::Lang::En).to_owned()).collect();
                let group = ("group", group.to_string());
                ("unknown_category", vec![group, ("category", category.clone()), ("known", known.words(lang))])
            }
        };
        filled(lang, &format!("access.{key}"), &facts)
    }
}

impl Fact for PolicyError {
    fn words(&self, lang: Lang) -> String {
        let (key, facts) = match self {
            PolicyError::Name { what, id } => {
                let what = filled(lang, &format!("access.thing.{}", what.replace(' ', "_")), &[]);
                ("name", vec![("what", what), ("id", id.to_string()), ("most", POLICY_NAME_CHARS_MAX.to_string())])
            }
            PolicyError::Timing { door, pulse_ms, held_open_ms } => (
                "timing",
                vec![
                    ("door", door.to_string()),
                    ("pulse", pulse_ms.to_string()),
                    ("held", held_open_ms.to_string()),
                    ("most", PULSE_MS_MAX.to_string()),
                ],
            ),
            PolicyError::Intervals { schedule, day, .. } => {
                let facts = [("schedule", schedule.0.to_string()), ("day", day_words(lang, day))];
                ("intervals", facts.into_iter().chain([("most", INTERVALS_MAX.to_string())]).collect())
            }
            PolicyError::Minutes { schedule, day, .. } => {
                ("minutes", vec![("schedule", schedule.0.to_string()), ("day", day_words(lang, day))])
            }
            PolicyError::NoDoor { group, door } => {
                ("no_door", vec![("group", group.0.to_string()), ("door", door.0.to_string())])
            }
            PolicyError::NoSchedule { group, door, schedule } => (
                "no_schedule",
                vec![
                    ("group", group.0.to_string()),
                    ("door", door.0.to_string()),
                    ("schedule", schedule.0.to_string()),
                ],
            ),
            PolicyError::HolidayKind { day, kind } => {
                ("holiday_kind", vec![("day", day.to_string()), ("kind", kind.to_string())])
            }
        };
        filled(lang, &format!("access.{key}"), &facts)
    }
}

/// `day 1` is Monday.
fn day_words(lang: Lang, day: &str) -> String {
    filled(lang, &format!("access.{}", day.replace(' ', "_")), &[])
}
