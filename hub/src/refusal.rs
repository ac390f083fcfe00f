//! Why headquarters does not do what an operator asked: one closed list with the facts of each case.
//!
//! The words stand in `words/refusal.{zh,en}.words`, a message a code, and are made where they are read: by a page in its
//! operator's language, by the command line in that of its terminal. Leaves to others: what follows from a refusal.

mod facts;

pub use facts::{AtBox, BoxLine, Cause, Fact, Unsound, Weakness};

use crate::access::AccessProblem;
use crate::import::FileError;
use std::fmt;
use std::sync::LazyLock;
use yika_crdt::Fen;
use yika_crdt::channel::FeedId;
use yika_crdt::docs::DocId;
use yika_crdt::documents::Denied;
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::*;
use yika_crdt::tariff::SheetError;
use yika_hub_core::denial::{Denial, Kept};
use yika_ui::{Lang, Words};

/// The list, with each refusal's code and the facts that its words may name.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } => $code:literal;)+) => {
        /// Why an act is not done; nothing was changed.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(missing_docs)] // The words of each say what its facts are.
        pub enum Refusal { $($(#[$doc])* $name { $($field: $type),* },)+ }

        impl Refusal {
            /// Every code with the names of its facts.
            pub const ALL: &'static [(&'static str, &'static [&'static str])] =
                &[$(($code, &[$(stringify!($field)),*]),)+];

            /// A short stable word.
            pub fn code(&self) -> &'static str {
                match self { $(Refusal::$name { .. } => $code,)+ }
            }

            /// In words.
            pub fn words(&self, lang: Lang) -> String {
                match self {
                    $(Refusal::$name { $($field),* } => {
                        let facts: Vec<(&str, String)> = vec![$((stringify!($field), $field.words(lang))),*];
                        filled(lang, $code, &facts)
                    })+
                }
            }
        }
    };
}

refusals! {
    /// The operator works for one campus, and this lies on another or on all of them.
    OtherCampus { who: String, campus: CampusId } => "other_campus";
    /// Nobody has this number.
    UnknownPerson { person: PersonId } => "unknown_person";
    /// The card or person to be blocked is not known.
    UnknownTarget { target: BlockTarget } => "unknown_target";
    /// No block is open on the card or person.
    NothingToLift { target: BlockTarget } => "nothing_to_lift";
    /// A restored hub does not know yet what it had given out.
    Recovering { kept: Kept, waiting_for: Vec<NodeId> } => "recovering";

    /// The asker's number of a movement has no fitting length.
    RequestNumber { chars_max: usize } => "request_number";
    /// The asker's number stands for another movement.
    NumberUsed {} => "number_used";
    /// Zero or less.
    NotPositive { amount: Fen } => "not_positive";
    /// More than one top-up may bring.
    TopUpRange { most: Fen } => "top_up_range";
    /// The sums of the account would not fit.
    BeyondBounds {} => "beyond_bounds";
    /// No top-up has this number.
    UnknownTopUp {} => "unknown_top_up";
    /// The asker's number stands for a top-up that was undone since.
    TopUpUndone {} => "top_up_undone";
    /// Somebody else took it, or in another shift.
    OthersTopUp {} => "others_top_up";
    /// The reason is missing or too long.
    ReasonMissing { chars_max: usize } => "reason_missing";
    /// The holder has not so much anywhere.
    BalanceTooSmall { balance: Fen } => "balance_too_small";
    /// So much is not there.
    NotEnough { available: Fen } => "not_enough";
    /// The rest is at boxes that have not given it back.
    AtBoxes { available: Fen, out: Vec<AtBox> } => "at_boxes";
    /// Headquarters holds no such sale.
    UnknownSale { sale: PurchaseId } => "unknown_sale";
    /// The box that sold gives back itself until its day is cut.
    BoxStillMay { writer: Writer, day: Day } => "box_still_may";
    /// Less than that is left of a sale.
    NotSoMuchLeft { sale: PurchaseId } => "not_so_much_left";
    /// A pool is smaller than nothing.
    PoolNegative {} => "pool_negative";
    /// A pool is too large.
    PoolTooLarge { most: Fen } => "pool_too_large";
    /// Pools are for headquarters.
    PoolsOfHeadquarters {} => "pools_of_headquarters";

    /// Not an edge of this registry.
    UnknownBox { node: NodeId } => "unknown_box";
    /// The box lives.
    NotFenced { node: NodeId } => "not_fenced";
    /// The box to be replaced stands elsewhere.
    BoxElsewhere { node: NodeId, campus: CampusId } => "box_elsewhere";
    /// No such campus.
    UnknownCampus { campus: CampusId, known: Vec<CampusId> } => "unknown_campus";
    /// A token would live too long or not at all.
    TokenTime {} => "token_time";
    /// The configured address cannot be told to a box.
    AdvertisedAddress { address: String } => "advertised_address";
    /// Nobody has said under which address other machines reach headquarters.
    NoAdvertisedAddress { listens: String } => "no_advertised_address";

    /// A name with no fitting length, control characters, or space at its ends.
    BadName { chars_max: usize } => "bad_name";
    /// Numbers of campuses begin with 1.
    CampusZero {} => "campus_zero";
    /// Offset or cut out of range.
    CampusCalendar {} => "campus_calendar";
    /// Another campus has this name.
    CampusNameTaken { name: String } => "campus_name_taken";
    /// No such terminal.
    UnknownTerminal { terminal: TerminalId } => "unknown_terminal";
    /// Scrapped for good.
    TerminalScrapped { terminal: TerminalId } => "terminal_scrapped";
    /// No such kind of terminal.
    TerminalKind { kind: String } => "terminal_kind";
    /// A till without its place; those that its campus knows, if any.
    TillNeeds { known: Vec<String> } => "till_needs";
    /// A door reader without its door, or a door for something else.
    DoorNeeds {} => "door_needs";
    /// The access policy of the campus has no such door.
    UnknownDoor { door: DoorId, campus: CampusId, known: Vec<String> } => "unknown_door";
    /// A terminal of this campus that is not scrapped has this name.
    TerminalNameTaken { name: String, terminal: TerminalId } => "terminal_name_taken";
    /// Tariffs are for headquarters.
    TariffOfHeadquarters {} => "tariff_of_headquarters";
    /// The sheet cannot be used.
    BadTariff { problems: Vec<SheetError> } => "bad_tariff";

    /// The access policy cannot be put in force.
    BadAccess { problems: Vec<AccessProblem> } => "bad_access";

    /// A sign-in name with no fitting length.
    BadLogin { chars_max: usize } => "bad_login";
    /// The sign-in name is somebody's.
    LoginTaken { login: String } => "login_taken";
    /// No such role.
    UnknownRole { role: String } => "unknown_role";
    /// No such operator.
    UnknownOperator { operator: String } => "unknown_operator";
    /// Operators of headquarters are for headquarters.
    OperatorsOfHeadquarters {} => "operators_of_headquarters";
    /// The password is weak.
    WeakPassword { why: Weakness } => "weak_password";
    /// Somebody must be left who can do everything.
    LastAdministrator {} => "last_administrator";

    /// Backups are for headquarters.
    BackupsOfHeadquarters {} => "backups_of_headquarters";
    /// This hub has no place for them.
    NoBackupPlace {} => "no_backup_place";
    /// One is being made or checked.
    BackupUnderWay {} => "backup_under_way";
    /// There is no room for one.
    NoRoom { folder: String, free_bytes: u64, wanted_bytes: u64 } => "no_room";
    /// It was not made.
    BackupFailed { cause: Cause } => "backup_failed";
    /// It is not sound.
    BackupUnsound { file: String, why: Unsound } => "backup_unsound";
    /// It cannot be read at all: nothing was checked.
    BackupUnreadable { file: String, why: Unsound } => "backup_unreadable";
    /// No such file among them.
    UnknownBackup { file: String } => "unknown_backup";

    /// Snapshots are for headquarters.
    SnapshotsOfHeadquarters {} => "snapshots_of_headquarters";
    /// A snapshot was not written.
    SnapshotFailed { cause: Cause } => "snapshot_failed";

    /// The file of people cannot be used.
    File { error: FileError } => "file";
    /// The error file cannot be made.
    Workbook { cause: Cause } => "workbook";
    /// So many numbers of persons are not given at once.
    PersonNumbers { count: u32 } => "person_numbers";
    /// One of several acts is refused.
    OneOfSeveral { number: usize, refusal: Box<Refusal> } => "one_of_several";
    /// Who does not work for both campuses cannot take a person from one to the other.
    PersonElsewhere { person: PersonId, campus: CampusId } => "person_elsewhere";
    /// The campus is the person's home.
    AtHomeThere { person: PersonId, campus: CampusId } => "at_home_there";
    /// Somebody else of that campus has the person's staff number.
    StaffNumberTaken { number: String, campus: CampusId, holder: PersonId } => "staff_number_taken";
    /// Some people were done before the act was refused.
    Stopped { done: usize, all: usize, refusal: Box<Refusal> } => "stopped";
    /// Some people were done before headquarters could not write.
    StoppedBusy { done: usize, all: usize, cause: Cause } => "stopped_busy";
    /// A document takes the act not.
    Document { denied: Denied } => "document";
    /// The document has an order for a new epoch already.
    RebaseUnderWay { doc: DocId } => "rebase_under_way";
    /// A branch of a journal cannot be posted.
    Branch { feed: FeedId, cause: Cause } => "branch";

    /// `init`, where a hub is.
    HubAlready { folder: String } => "hub_already";
    /// The data folder holds no hub.
    NoHub { folder: String } => "no_hub";
    /// Another process works in the data folder.
    FolderInUse { folder: String } => "folder_in_use";
    /// Headquarters would start with the time of another year.
    ClockAhead { shows: Day, last: Day, days: u64 } => "clock_ahead";
    /// Nobody answers at the control socket.
    NotRunning { folder: String } => "not_running";
    /// Somebody does, but not in time.
    NoAnswer { seconds: u64 } => "no_answer";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(Lang::En))
    }
}

impl std::error::Error for Refusal {}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        Refusal::Document { denied }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Refusal {
        match denial {
            Denial::UnknownPerson { person } => Refusal::UnknownPerson { person },
            Denial::NothingToLift { target } => Refusal::NothingToLift { target },
            Denial::Recovering { kept, waiting_for } => Refusal::Recovering { kept, waiting_for },
            Denial::NumberUsed => Refusal::NumberUsed {},
            Denial::NotPositive { amount } => Refusal::NotPositive { amount },
            Denial::BeyondBounds => Refusal::BeyondBounds {},
            Denial::UnknownTopUp => Refusal::UnknownTopUp {},
            Denial::TopUpUndone => Refusal::TopUpUndone {},
            Denial::OthersTopUp => Refusal::OthersTopUp {},
            Denial::BalanceTooSmall { balance } => Refusal::BalanceTooSmall { balance },
            Denial::NotEnough { available } => Refusal::NotEnough { available },
            Denial::UnknownSale { sale } => Refusal::UnknownSale { sale },
            Denial::BoxStillMay { writer, day } => Refusal::BoxStillMay { writer, day },
            Denial::NotSoMuchLeft { sale } => Refusal::NotSoMuchLeft { sale },
            Denial::PoolNegative => Refusal::PoolNegative {},
            Denial::UnknownBox { node } => Refusal::UnknownBox { node },
            Denial::NotFenced { node } => Refusal::NotFenced { node },
            Denial::BoxElsewhere { node, campus } => Refusal::BoxElsewhere { node, campus },
            Denial::UnknownCampus { campus, known } => Refusal::UnknownCampus { campus, known },
            Denial::PersonNumbers { count } => Refusal::PersonNumbers { count },
            Denial::Document { denied } => Refusal::Document { denied },
            Denial::RebaseUnderWay { doc } => Refusal::RebaseUnderWay { doc },
            Denial::Branch { feed, cause } => Refusal::Branch { feed, cause: Cause(cause) },
        }
    }
}

/// The words of refusals, on top of the kit's (those of weak passwords are there).
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (zh, en) = (include_str!("../words/refusal.zh.words"), include_str!("../words/refusal.en.words"));
    // The files are a part of the program; the test below reads them, too.
    Words::kit().and_then(|words| words.with(zh, en)).unwrap_or_default()
});

/// The text of a code with its facts.
fn filled(lang: Lang, code: &str, facts: &[(&str, String)]) -> String {
    let facts: Vec<(&str, &str)> = facts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    WORDS.t_args(lang, code, &facts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::backup::fault::Fault;
    use std::collections::BTreeSet;
    use yika_crdt::docs::{ActError, DocError};

    #[test]
    fn every_refusal_has_its_words_in_both_languages() {
        assert_eq!(WORDS.gaps(), Vec::<String>::new());
        for (code, fields) in Refusal::ALL {
            let zh = WORDS.t(Lang::Zh, code);
            let places: BTreeSet<&str> = zh.split('{').skip(1).map(|part| part.split_once('}').unwrap().0).collect();
            assert_ne!(zh, *code, "{code} has no words");
            let fields: BTreeSet<&str> = fields.iter().copied().collect();
            assert!(places.is_subset(&fields), "{code}: {places:?} are not among {fields:?}");
        }
    }

    #[test]
    fn a_list_of_what_is_known_is_never_left_empty() {
        let refused = Refusal::UnknownCampus { campus: CampusId(9), known: Vec::new() };
        assert_eq!(refused.words(Lang::En), "c9 is not a campus; known are none yet");
        assert_eq!(refused.words(Lang::Zh), "没有园区 c9；已有园区：无");
    }

    #[test]
    fn no_english_sentence_stands_in_the_chinese_words() {
        for line in include_str!("../words/refusal.zh.words").lines().filter(|l| !l.starts_with('#')) {
            let (key, text) = line.split_once(" = ").unwrap();
            assert!(!reads_english(text), "{key}: {text}");
            assert!(text.chars().any(|c| c > '\u{2e7f}') || text.starts_with('{'), "{key}: {text}");
        }
    }

    /// Three plain words in a row, commands and places for facts aside.
    fn reads_english(text: &str) -> bool {
        let bare = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
        let mut run = 0;
        for word in bare.collect::<Vec<_>>().join("|").split_whitespace() {
            let plain = word.len() > 1 && word.bytes().all(|b| b.is_ascii_lowercase());
            run = if plain { run + 1 } else { 0 };
            if run == 3 {
                return true;
            }
        }
        false
    }

    #[test]
    fn what_documents_and_tariffs_refuse_is_worded_whole() {
        let (person, home, campus, card) = (PersonId(7), CampusId(1), CampusId(2), CardNumber(99));
        let doc = DocId { kind: yika_crdt::docs::DocKind::Policy(home), epoch: 1 };
        let act = |error| Denied::Document(DocError::Act(error));
        let denied = [
            Denied::TooManyPersons { count: 9 },
            Denied::UnknownCampus { campus, known: vec![home] },
            Denied::OtherHome { person, known: campus, home },
            Denied::UnknownPerson { person, home },
            Denied::CardHeld { card, person, holder: PersonId(8) },
            Denied::CardOfPerson { card, person },
            Denied::VisitBackwards,
            Denied::UnknownVisitor { visitor: person, campus },
            Denied::NotOurs { campus },
            act(ActError::OtherKind),
            act(ActError::Persons),
            act(ActError::Text("name")),
            act(ActError::Range("day")),
            Denied::Document(DocError::Refused(doc)),
            Denied::Document(DocError::Damaged { doc, cause: "a bit has fallen over".into() }),
        ];
        let (row, table) = (3, "fixed prices");
        let (amount, least, most) = (Fen(9), Fen(0), Fen(5));
        let problems = vec![
            SheetError::TooManyRows { table: "barred pairs", rows: 9, rows_max: 5 },
            SheetError::PeriodName { row },
            SheetError::PeriodMinutes { row, from_minute: 5, until_minute: 5 },
            SheetError::PeriodsOverlap { first: 1, row, minute: 630 },
            SheetError::Twice { table: "periods", first: 1, row },
            SheetError::UnknownPeriod { row, period: 4 },
            SheetError::Amount { table, row, field: "price", amount, least, most },
            SheetError::BasisPoints { row, basis_points: 99_999 },
            SheetError::Times { row, field: "times_per_day", times: 100 },
            SheetError::RepeatTap(99),
            SheetError::GuestDay { per_purchase: most, per_card_day: least },
        ];
        let mut all: Vec<Refusal> = denied.map(Refusal::from).into();
        all.push(Refusal::BadTariff { problems });
        for refusal in all {
            for lang in [Lang::Zh, Lang::En] {
                let words = refusal.words(lang);
                let bare = ["denied.", "sheet.", "act.", "document.", "cause"].iter().any(|key| words.contains(key));
                assert!(!words.contains('{') && !bare, "{words}");
            }
            assert!(!reads_english(&refusal.words(Lang::Zh)), "{}", refusal.words(Lang::Zh));
        }
    }

    #[test]
    fn money_at_boxes_is_named_with_its_box_and_what_is_known_of_it() {
        let out = [BoxLine::Connected, BoxLine::Silent(Some(7_300_000)), BoxLine::Silent(None), BoxLine::Fenced];
        let out = out.map(|line| AtBox { name: "A1".into(), sum: Fen(1_250), line });
        let refusal = Refusal::AtBoxes { available: Fen(0), out: out.into() };
        let (zh, en) = (refusal.words(Lang::Zh), refusal.to_string());
        assert!(zh.contains("现有 0.00 元可付") && zh.contains("A1 12.50 元（已连接）、"), "{zh}");
        assert!(zh.contains("2 小时前") && zh.contains("（未连接）") && zh.contains("已封禁"), "{zh}");
        assert!(en.contains("A1 12.50 (not connected, last heard 2 h ago)") && en.contains("lease"), "{en}");
        assert!(!zh.contains('{') && !reads_english(&zh), "{zh}");
    }

    #[test]
    fn facts_are_said_in_the_readers_language() {
        let refusal = Refusal::Recovering { kept: Kept::PayOut, waiting_for: vec![NodeId(2), NodeId(5)] };
        let (zh, en) = (refusal.words(Lang::Zh), refusal.to_string());
        assert!(zh.contains("n2、n5") && zh.contains("不能付款"), "{zh}");
        assert!(en.contains("n2, n5") && en.contains("nothing is paid out"), "{en}");
        let inner = Refusal::Document { denied: Denied::VisitBackwards };
        let nested = Refusal::OneOfSeveral { number: 3, refusal: Box::new(inner) };
        assert!(nested.words(Lang::Zh).contains("第 3 项") && nested.words(Lang::Zh).contains("离开时间"));
        assert!(nested.to_string().contains("act 3: the visit ends before it begins"), "{nested}");
        let cut = Unsound::Faulty(Fault::Length { found: 3_000, wanted: 1_013_033 });
        let cut = Refusal::BackupUnsound { file: "hub.bak".into(), why: cut };
        for (words, said) in [(cut.words(Lang::Zh), "文件不完整"), (cut.to_string(), "was cut off")] {
            assert!(words.contains(said) && words.contains("3000") && words.contains("1013033"), "{words}");
            assert!(!words.contains("journalctl") && !words.contains('{'), "the reason itself: {words}");
        }
        let technical = Refusal::BackupFailed { cause: Cause("No such file or directory".into()) };
        assert!(!technical.words(Lang::Zh).contains("No such") && technical.to_string().contains("No such"));
    }
}
