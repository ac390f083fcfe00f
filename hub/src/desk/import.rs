//! Importing a people-and-cards file (ORG-3, ORG-4, ORG-7): dry run, then the same file again for good.
//!
//! A file is judged whole against the registry before anything is written; rows are then applied in groups, each group in
//! one transaction, so that an interrupted import is simply repeated: until then two who swap a number may share it. Leaves to others: reading the file (`import`).

use super::moving::{MOVED, moved_facts};
use super::numbers::{self, Claim, Holders, Number, Taken};
use super::{Actor, Desk, DeskError, audit, facts, refused};
use crate::core::{Command, Reply};
use crate::import::{self, Column, Header, Keys, LONG_TERM, Lang, Limits, NaturalKey, PersonRecord, Plan};
use crate::refusal::{Cause, Refusal};
use crate::store::{ProfileRow, TableRow, people};
use crate::vault::Vault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::Date;
use yika_crdt::docs::shard_of;
use yika_crdt::documents::PersonChange;
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};

/// People written in one transaction.
pub(super) const GROUP_PERSONS_MAX: usize = 1_024;
/// Refused rows shown; the error workbook holds them all.
pub const ROWS_SHOWN_MAX: usize = 200;

/// What an import did, or would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// Nothing was written.
    pub dry_run: bool,
    /// People entered.
    pub new: usize,
    /// People changed who stay at their campus.
    pub changed: usize,
    /// People whose home becomes another campus, the first of them in `moves`.
    pub moved: usize,
    /// The first of those who move.
    pub moves: Vec<ImportMove>,
    /// People known exactly so.
    pub same: usize,
    /// Rows refused, the first of them in `rows`.
    pub refused: usize,
    /// The first refused rows.
    pub rows: Vec<ImportRow>,
    /// Oddities that stop nothing.
    pub warnings: Vec<String>,
}

/// A refused row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportRow {
    /// Line in the file.
    pub line: u32,
    /// What is wrong, and how to mend it.
    pub errors: Vec<String>,
}

/// A row by which a person's home becomes another campus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportMove {
    /// Line in the file.
    pub line: u32,
    /// Who.
    pub person: PersonId,
    /// As the file names the person.
    pub name: String,
    /// The campus that the person leaves.
    pub from: CampusId,
    /// The person's new home.
    pub to: CampusId,
}

/// How far an import has come: rows done of all.
pub type Progress = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// Whom the registry knows of those that a file names.
struct Known {
    people: BTreeMap<PersonId, ProfileRow>,
    /// Who has the staff numbers of the file.
    numbers: Holders,
}

/// A row of the file that changes something, and what is wrong with it.
struct Judged<'a> {
    line: u32,
    keys: Keys,
    before: Option<&'a ProfileRow>,
    /// Absent where a cell is wrong.
    record: Option<&'a PersonRecord>,
    errors: Vec<String>,
}

/// One person to be written; who is new has no number yet.
struct Entering {
    line: u32,
    person: Option<PersonId>,
    /// The present home, where it is another one.
    from: Option<CampusId>,
    home: CampusId,
    record: PersonRecord,
}

impl Entering {
    fn moves(&self) -> Option<ImportMove> {
        let name = self.record.name.clone();
        Some(ImportMove { line: self.line, person: self.person?, name, from: self.from?, to: self.home })
    }
}

impl Desk {
    /// Reads a file and enters its people; with `dry_run` only says what would happen.
    ///
    /// # Errors
    /// When the file as a whole cannot be used, or the hub cannot serve. Wrong rows are in the report.
    pub async fn import_people(
        &self,
        actor: &Actor,
        file_name: &str,
        bytes: impl Into<Arc<Vec<u8>>>,
        dry_run: bool,
        lang: Lang,
        progress: Progress,
    ) -> Result<ImportReport, DeskError> {
        let sheet = self.read_file(file_name, bytes.into()).await?;
        let warnings = sheet.warnings.iter().map(|w| w.message(lang)).collect();
        let header = sheet.header.clone();
        // Nobody takes a number or moves between the look and the last row.
        let _profiles = match dry_run {
            true => None,
            false => Some(self.profiles.lock().await),
        };
        let (plan, known) = self.judge(sheet).await?;
        let (entering, errors) = self.place(actor, &plan, &known, (&header, lang));
        let new = entering.iter().filter(|e| e.person.is_none()).count();
        let mut moves: Vec<ImportMove> = entering.iter().filter_map(Entering::moves).collect();
        moves.sort_by_key(|one| one.line);
        let report = ImportReport {
            dry_run,
            new,
            changed: entering.len() - new - moves.len(),
            moved: moves.len(),
            moves: moves.into_iter().take(ROWS_SHOWN_MAX).collect(),
            same: plan.same.len(),
            refused: errors.len(),
            rows: errors.into_iter().take(ROWS_SHOWN_MAX).collect(),
            warnings,
        };
        if !dry_run {
            self.enter(actor, entering, &progress).await?;
        }
        Ok(report)
    }

    /// The refused rows of a file as a workbook in the form of the template, with the words why in a last column.
    ///
    /// # Errors
    /// As [`Desk::import_people`].
    pub async fn import_errors(
        &self,
        actor: &Actor,
        file_name: &str,
        bytes: impl Into<Arc<Vec<u8>>>,
        lang: Lang,
    ) -> Result<Vec<u8>, DeskError> {
        let sheet = self.read_file(file_name, bytes.into()).await?;
        let wrong = sheet.rows.iter().filter(|row| row.record.is_err());
        let mut cells: BTreeMap<u32, Vec<String>> = wrong.map(|row| (row.line, row.cells.clone())).collect();
        let header = sheet.header.clone();
        let (plan, known) = self.judge(sheet).await?;
        let (_, errors) = self.place(actor, &plan, &known, (&header, lang));
        let records = plan.new.iter().map(|p| (p.line, &p.record));
        let records = records.chain(plan.changed.iter().map(|c| (c.line, &c.after)));
        cells.extend(records.map(|(line, record)| (line, import::record_cells(record, lang))));
        let row = |row: ImportRow| (cells.remove(&row.line).unwrap_or_default(), row.errors.join("; "));
        let refused: Vec<(Vec<String>, String)> = errors.into_iter().map(row).collect();
        let made = tokio::task::spawn_blocking(move || import::refused_xlsx(refused, lang)).await;
        let made = made.map_err(|e| DeskError::Busy(e.to_string()))?;
        Ok(made.map_err(|e| Refusal::Workbook { cause: Cause(e.to_string()) })?)
    }

    async fn read_file(&self, file_name: &str, bytes: Arc<Vec<u8>>) -> Result<import::Sheet, DeskError> {
        let name = file_name.to_owned();
        let read = tokio::task::spawn_blocking(move || import::read_people(&name, &bytes, &Limits::default()));
        let sheet = read.await.map_err(|e| DeskError::Busy(e.to_string()))?;
        let mut sheet = sheet.map_err(|error| Refusal::File { error })?;
        self.name_campuses(&mut sheet);
        Ok(sheet)
    }

    /// Compares the file with the registry; also the people it names who are known.
    async fn judge(&self, sheet: import::Sheet) -> Result<(Plan, Known), DeskError> {
        let (vault, index) = (Arc::clone(&self.node.vault), self.node.people.clone());
        let numbered: Vec<_> = sheet.rows.iter().filter_map(|row| self.number_of(&row.keys())).collect();
        let judged = self
            .node
            .query(move |conn| {
                let mut profiles: BTreeMap<NaturalKey, ProfileRow> = BTreeMap::new();
                for key in sheet.rows.iter().filter_map(|row| row.keys().identity) {
                    if let Some(mut profile) = people::by_id_hash(conn, &id_hash(&vault, &key))? {
                        // Where somebody is at home is what the documents say.
                        if let Some(holder) = index.read().holder(PersonId(profile.person)) {
                            profile.campus = holder.home.0;
                        }
                        profiles.insert(key, profile);
                    }
                }
                let mut numbers = Holders::new();
                for (campus, number) in numbered {
                    let holders = people::by_staff_number(conn, campus.0, &number)?;
                    numbers.insert((campus, number), holders.into_iter().map(PersonId).collect());
                }
                let plan = import::plan(|key| profiles.get(key).and_then(|p| record_of(&vault, p)), &sheet.rows);
                let people = profiles.into_values().map(|p| (PersonId(p.person), p)).collect();
                Ok((plan, Known { people, numbers }))
            })
            .await?;
        Ok(judged)
    }

    /// Finds each row's campus and person; refused rows with everything that is wrong with them, in the file's order.
    fn place(
        &self,
        actor: &Actor,
        plan: &Plan,
        known: &Known,
        told: (&Header, Lang),
    ) -> (Vec<Entering>, Vec<ImportRow>) {
        let mut rows = self.judged(actor, plan, known, told);
        self.judge_numbers(&mut rows, known, told);
        let (mut entering, mut refused) = (Vec::new(), Vec::new());
        for Judged { line, before, record, errors, .. } in rows {
            let home = record.and_then(|record| Some((record, self.campus_named(&record.campus)?)));
            match home {
                Some((record, home)) if errors.is_empty() => {
                    let from = before.map(|p| CampusId(p.campus)).filter(|from| *from != home);
                    let person = before.map(|p| PersonId(p.person));
                    entering.push(Entering { line, person, from, home, record: record.clone() });
                }
                _ => refused.push(ImportRow { line, errors }),
            }
        }
        refused.sort_by_key(|row| row.line);
        (entering, refused)
    }

    /// Each row by itself: its cells and what the registry has against it.
    fn judged<'a>(
        &self,
        actor: &Actor,
        plan: &'a Plan,
        known: &'a Known,
        (header, lang): (&Header, Lang),
    ) -> Vec<Judged<'a>> {
        let by_hash: BTreeMap<[u8; 16], &ProfileRow> = known.people.values().map(|p| (p.id_hash, p)).collect();
        let before = |keys: &Keys| -> Option<&ProfileRow> {
            by_hash.get(&id_hash(&self.node.vault, keys.identity.as_ref()?)).copied()
        };
        let fresh = plan.new.iter().map(|p| (p.line, &p.record));
        let changed = plan.changed.iter().map(|c| (c.line, &c.after));
        let sound = fresh.chain(changed).map(|(line, record)| (line, Keys::of(record), Some(record), Vec::new()));
        let wrong = plan.errors.iter().map(|row| {
            let errors = row.errors.iter().map(|error| import::reason(error, lang)).collect();
            (row.line, row.sound.clone(), None, errors)
        });
        let judge = |(line, keys, record, mut errors): (u32, Keys, Option<&'a PersonRecord>, Vec<String>)| {
            let before = before(&keys);
            errors.extend(self.objections(actor, &keys, before, (header, lang)));
            Judged { line, keys, before, record, errors }
        };
        sound.chain(wrong).map(judge).collect()
    }

    /// The rows against each other and against who has their staff numbers: clerks and doors' rules could not tell whom a
    /// number means.
    fn judge_numbers(&self, rows: &mut [Judged<'_>], known: &Known, (header, lang): (&Header, Lang)) {
        let claim = |row: &Judged<'_>| -> Option<Claim> {
            // Who stands in the row is not known when its document is wrong.
            row.keys.identity.as_ref()?;
            let (person, now) = (row.before.map(|p| PersonId(p.person)), self.number_of(&row.keys)?);
            Some(Claim { person, now, sound: row.record.is_some() && row.errors.is_empty() })
        };
        let claims = rows.iter().enumerate().filter_map(|(place, row)| Some((place, claim(row)?)));
        let (places, claims): (Vec<usize>, Vec<Claim>) = claims.unzip();
        let taken = numbers::judge(&claims, &known.numbers);
        let line_of = |claim: usize| places.get(claim).and_then(|place| rows.get(*place)).map_or(0, |row| row.line);
        let words = |(claim, taken): (&Claim, Option<Taken>)| {
            let why = match taken? {
                Taken::By(holder) => taken_by(&claim.now, holder, lang),
                Taken::Row(first) => taken_in_line(line_of(first), lang),
            };
            Some(format!("{}: {why}", header.name(Column::StaffNumber, lang)))
        };
        let told: Vec<Option<String>> = claims.iter().zip(taken).map(words).collect();
        for (place, words) in places.into_iter().zip(told) {
            rows[place].errors.extend(words);
        }
    }

    /// The staff number of a row at its campus, where there is such a campus.
    fn number_of(&self, keys: &Keys) -> Option<Number> {
        Some((self.campus_named(&keys.campus)?, keys.staff_number.clone())).filter(|(_, number)| !number.is_empty())
    }

    /// What the registry has against a row of a person whom it may know already; each with its column and how to mend it.
    fn objections(
        &self,
        actor: &Actor,
        keys: &Keys,
        before: Option<&ProfileRow>,
        (header, lang): (&Header, Lang),
    ) -> Vec<String> {
        let at = |column, what: &str, mend: &str| format!("{}: {what} → {mend}", header.name(column, lang));
        let mut words = Vec::new();
        match self.campus_named(&keys.campus) {
            Some(home) => words.extend(self.campus_objection(actor, home, before, (header, lang))),
            // An empty cell is told as such.
            None if keys.campus.is_empty() => {}
            None => {
                let (missing, one_of) = lang.pick(("没有这个园区", "可填："), ("no such campus", "one of: "));
                let mend = match self.campus_names() {
                    none if none.is_empty() => {
                        lang.pick("还没有园区，请先添加", "there is none yet, add one first").to_owned()
                    }
                    all => format!("{one_of}{}", all.join(lang.pick("、", ", "))),
                };
                words.push(at(Column::Campus, &format!("{missing} {:?}", keys.campus), &mend));
            }
        }
        words.extend(self.chip_objection(keys, before, (header, lang)));
        let Some(card) = keys.card_number else { return words };
        if before.and_then(|before| before.card).is_some_and(|held| held != card) {
            let (held, mend) = lang.pick(
                ("此人已有一张卡，导入不能换卡", "只改资料时请留空；补卡功能尚未提供"),
                (
                    "this person has a card, which an import does not replace",
                    "leave the cell empty to change the rest; replacing cards is not there yet",
                ),
            );
            words.push(at(Column::CardNumber, held, mend));
        }
        let holder = self.node.people.read().person_of(CardNumber(card));
        // Who stands in the row is not known when its document is wrong.
        if keys.identity.is_some() && holder.is_some() && holder != before.map(|before| PersonId(before.person)) {
            let (taken, mend) = lang.pick(
                ("此卡号属于另一人", "请核对卡面号码，或换一张卡"),
                ("this card number is another person's", "compare it with the card, or take another card"),
            );
            words.push(at(Column::CardNumber, &format!("{taken}: {card}"), mend));
        }
        words
    }

    /// Why a row may not have its chip: readers cannot tell whose card it is.
    fn chip_objection(
        &self,
        keys: &Keys,
        before: Option<&ProfileRow>,
        (header, lang): (&Header, Lang),
    ) -> Option<String> {
        let chip = u64::from_str_radix(&keys.card_uid, 16).ok()?;
        let people = self.node.people.read();
        let holder = people.card_of_uid(chip).and_then(|card| people.person_of(card))?;
        // Who stands in the row is not known when its document is wrong.
        if keys.identity.is_none() || Some(holder) == before.map(|before| PersonId(before.person)) {
            return None;
        }
        let (taken, mend) = lang.pick(
            ("此物理卡号在另一人的卡上", "请在读卡器上核对，或换一张卡"),
            ("this chip is on another person's card", "read the card again, or take another card"),
        );
        Some(format!("{}: {taken}: {} → {mend}", header.name(Column::CardUid, lang), keys.card_uid))
    }

    /// Why this operator may not enter a row at a campus, or not take the person there from his own.
    fn campus_objection(
        &self,
        actor: &Actor,
        home: CampusId,
        before: Option<&ProfileRow>,
        (header, lang): (&Header, Lang),
    ) -> Option<String> {
        if let Err(refused) = actor.may_touch(home) {
            return Some(refused.words(lang.of_pages()));
        }
        let before = before?;
        let elsewhere = actor.may_move(PersonId(before.person), CampusId(before.campus), home).err()?;
        let mend = lang.pick("请总部转园区，或删去此行", "have headquarters move the person, or leave the row out");
        Some(format!("{}: {} → {mend}", header.name(Column::Campus, lang), elsewhere.words(lang.of_pages())))
    }

    /// An empty file to fill in, with the campuses that there are.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn import_template(&self, actor: &Actor, lang: Lang) -> Result<Vec<u8>, DeskError> {
        let registry = self.node.registry();
        let mine = registry.campuses.values().filter(|campus| actor.may_touch(campus.campus).is_ok());
        let campuses: Vec<(String, String)> = mine.map(|c| (c.campus.to_string(), c.name.clone())).collect();
        Ok(import::template_xlsx(lang, &campuses).map_err(|e| Refusal::Workbook { cause: Cause(e.to_string()) })?)
    }

    fn campus_names(&self) -> Vec<String> {
        self.node.registry().campuses.values().map(|c| format!("{} {}", c.campus, c.name)).collect()
    }

    async fn enter(&self, actor: &Actor, mut entering: Vec<Entering>, progress: &Progress) -> Result<(), DeskError> {
        self.number(&mut entering).await?;
        // Neighbours in a document are written together.
        let registry = self.node.registry();
        entering.sort_by_cached_key(|one| {
            let shards = registry.campuses.get(&one.home).map_or(1, |c| c.people_shards);
            (one.home, one.person.map(|person| shard_of(person, shards)))
        });
        let (done, entered) = self.enter_groups(actor, &entering, progress).await;
        // Also where it stopped half way: who came in before that has his category.
        let followed = self.follow_categories(actor).await;
        entered.and(followed).map_err(|error| error.after(done, entering.len()))
    }

    /// Enters group after group, each whole or not at all; how many people were entered, and why no more.
    async fn enter_groups(
        &self,
        actor: &Actor,
        entering: &[Entering],
        progress: &Progress,
    ) -> (usize, Result<(), DeskError>) {
        let (mut done, all) = (0, entering.len());
        for group in entering.chunks(GROUP_PERSONS_MAX) {
            if let Err(error) = self.enter_group(actor, group, (done + group.len(), all)).await {
                return (done, Err(error));
            }
            done += group.len();
            progress(done, all);
        }
        (done, Ok(()))
    }

    async fn enter_group(&self, actor: &Actor, group: &[Entering], upto: (usize, usize)) -> Result<(), DeskError> {
        let mut rows = Vec::with_capacity(group.len());
        let mut acts = Vec::with_capacity(group.len());
        let mut moves = BTreeMap::new();
        for one in group {
            let Some(person) = one.person else { continue };
            rows.push(TableRow::Profile(Box::new(profile_of(&self.node.vault, person, one)?)));
            acts.push(PersonChange::add(person_of(&self.node.vault, person, one)));
            if let Some(from) = one.from {
                moves.insert(person, one.home);
                rows.push(audit(actor, MOVED, person.to_string(), moved_facts(from, one.home)));
            }
        }
        let detail = facts(&[("done", &upto.0.to_string()), ("all", &upto.1.to_string())]);
        let command = Command::People { operator: actor.operator, moves, acts };
        self.act(actor, "people.import", group.len().to_string(), detail, command, rows).await?;
        Ok(())
    }

    /// Gives numbers to those who are new.
    async fn number(&self, entering: &mut [Entering]) -> Result<(), DeskError> {
        let fresh: Vec<&mut Entering> = entering.iter_mut().filter(|e| e.person.is_none()).collect();
        let Ok(count @ 1..) = u32::try_from(fresh.len()) else { return Ok(()) };
        match self.node.call(Command::PersonIds(count)).await? {
            Reply::PersonIds(first) => {
                for (one, number) in fresh.into_iter().zip(first.0..) {
                    one.person = Some(PersonId(number));
                }
                Ok(())
            }
            Reply::Denied(denial) => refused(denial),
            other => Err(DeskError::Busy(format!("the core answered a wish for numbers with {other:?}"))),
        }
    }

    /// Writes campuses by number, so that a file that names them is compared as what it means.
    fn name_campuses(&self, sheet: &mut import::Sheet) {
        for record in sheet.rows.iter_mut().filter_map(|row| row.record.as_mut().ok()) {
            if let Some(campus) = self.campus_named(&record.campus) {
                record.campus = campus.to_string();
            }
        }
    }

    /// A campus by number (`c1`, `1`) or name.
    fn campus_named(&self, text: &str) -> Option<CampusId> {
        let registry = self.node.registry();
        let by_name = registry.campuses.values().find(|c| c.name == text).map(|c| c.campus);
        by_name.or_else(|| text.parse().ok().filter(|c| registry.campuses.contains_key(c)))
    }
}

fn taken_by((_, number): &Number, holder: PersonId, lang: Lang) -> String {
    let (taken, mend) = lang.pick(
        ("此工号属于本园区的另一人", "请核对工号；对方已改用别的工号时，把对方的新工号也写进本文件"),
        (
            "this staff number is another person's of the campus",
            "check it; where that person has another number now, write that into this file, too",
        ),
    );
    format!("{taken}: {number} ({holder}) → {mend}")
}

fn taken_in_line(line: u32, lang: Lang) -> String {
    match lang {
        Lang::Zh => format!("工号与第 {line} 行重复 → 请只保留正确的一行"),
        Lang::En => format!("same staff number as line {line} → keep only the right line"),
    }
}

fn person_of(vault: &Vault, person: PersonId, one: &Entering) -> Person {
    let record = &one.record;
    let card = record.card_number.map(|number| Card {
        number: CardNumber(number),
        uid: u64::from_str_radix(&record.card_uid, 16).ok(),
        state: CardState::Active,
        valid_until: None,
    });
    Person {
        person,
        home: one.home,
        name: record.name.clone(),
        staff_number: record.staff_number.clone(),
        category: record.category.id(),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: card.into_iter().collect(),
        id_hash: id_hash(vault, &record.natural_key()),
    }
}

fn id_hash(vault: &Vault, key: &NaturalKey) -> [u8; 16] {
    vault.keyed_hash("identity document", format!("{}\0{}", key.id_type.word(Lang::En), key.id_number).as_bytes())
}

fn profile_of(vault: &Vault, person: PersonId, one: &Entering) -> Result<ProfileRow, DeskError> {
    let record = &one.record;
    let seal =
        |purpose: &str, text: &str| vault.seal(purpose, text.as_bytes()).map_err(|e| DeskError::Busy(e.to_string()));
    Ok(ProfileRow {
        person: person.0,
        id_hash: id_hash(vault, &record.natural_key()),
        id_type: record.id_type.word(Lang::En).to_owned(),
        id_sealed: seal("id number", &record.id_number)?,
        contact_sealed: seal("contact", &record.contact)?,
        name: record.name.clone(),
        pinyin: record.pinyin.clone(),
        sex: record.sex.map_or("", |s| s.word(Lang::En)).to_owned(),
        id_valid_from: date_text(record.id_valid_from),
        id_valid_until: date_text(record.id_valid_until),
        department: record.department.clone(),
        department_code: record.department_code.clone(),
        staff_number: record.staff_number.clone(),
        category: record.category.word(Lang::En).to_owned(),
        campus: one.home.0,
        card: record.card_number,
        card_uid: record.card_uid.clone(),
        photo: record.photo.clone(),
    })
}

/// A profile as the record of a file, to compare with; `None` when it cannot be opened.
fn record_of(vault: &Vault, profile: &ProfileRow) -> Option<PersonRecord> {
    let open = |purpose: &str, sealed: &[u8]| -> Option<String> {
        String::from_utf8(vault.open_sealed(purpose, sealed).ok()?.to_vec()).ok()
    };
    Some(PersonRecord {
        name: profile.name.clone(),
        pinyin: profile.pinyin.clone(),
        sex: import::Sex::parse(&profile.sex),
        id_type: import::IdType::parse(&profile.id_type)?,
        id_number: open("id number", &profile.id_sealed)?,
        contact: open("contact", &profile.contact_sealed)?,
        id_valid_from: date_of(&profile.id_valid_from),
        id_valid_until: date_of(&profile.id_valid_until),
        department: profile.department.clone(),
        department_code: profile.department_code.clone(),
        staff_number: profile.staff_number.clone(),
        category: import::Category::parse(&profile.category)?,
        campus: CampusId(profile.campus).to_string(),
        card_number: profile.card,
        card_uid: profile.card_uid.clone(),
        photo: profile.photo.clone(),
    })
}

const LONG_TERM_TEXT: &str = "long-term";

fn date_text(date: Option<Date>) -> String {
    match date {
        None => String::new(),
        Some(LONG_TERM) => LONG_TERM_TEXT.to_owned(),
        Some(date) => format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
    }
}

fn date_of(text: &str) -> Option<Date> {
    if text == LONG_TERM_TEXT {
        return Some(LONG_TERM);
    }
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}
