//! Files that people write: settings of both programs, tariff, access policy.

use super::MEMORY_BYTES_MAX;
use super::nodes::writer;
use crate::target::{Seen, Target, refused, taken};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use yika_crdt::Fen;
use yika_crdt::access::Policy;
use yika_crdt::docs::{Act, ActBody, ActId, DocId, DocKind, Document, Patch, PolicyAct};
use yika_crdt::entry::{Body, Entry, Mode, Stamp};
use yika_crdt::ids::{CampusId, CategoryId, OperatorId, OutletId, PersonId};
use yika_crdt::tariff::sheet::TariffSheet;
use yika_crdt::tariff::{period_at, price, strict_counter};
use yika_edge::config::{self, Sources};
use yika_hub::access::{AccessSheet, Members, Rules};
use yika_hub::config::Config as HubConfig;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "tariff",
        about: "a tariff as a file",
        input_bytes_max: 16 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: tariff,
        seeds: || vec![include_bytes!("../../../../deploy/samples/tariff.toml").to_vec()],
    },
    Target {
        name: "access",
        about: "an access policy as a file",
        input_bytes_max: 16 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: access,
        seeds: || vec![include_bytes!("../../../../deploy/samples/access.toml").to_vec()],
    },
    Target {
        name: "edge-toml",
        about: "settings of a box",
        input_bytes_max: 24 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: edge,
        seeds: || sample(include_str!("../../../../deploy/samples/edge.toml")),
    },
    Target {
        name: "hub-toml",
        about: "settings of headquarters",
        input_bytes_max: 8 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: hub,
        seeds: || sample(include_str!("../../../../deploy/samples/hub.toml")),
    },
];

/// A sample as it is, and with every setting that it shows in comments.
fn sample(text: &str) -> Vec<Vec<u8>> {
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with([' ', '#']) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(bare).collect();
    vec![text.as_bytes().to_vec(), all.join("\n").into_bytes()]
}

fn tariff(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let sheet: TariffSheet = match toml::from_str(text) {
        Err(error) => return refused(&error.message()),
        Ok(sheet) => sheet,
    };
    let written = toml::to_string_pretty(&sheet);
    let read = written.ok().and_then(|text| toml::from_str(&text).ok());
    assert_eq!(read.as_ref(), Some(&sheet), "written and read is another");
    if let Err(errors) = sheet.validate() {
        return refused(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"));
    }
    // What is in force is an entry, too, and gives every sale a price or a reason.
    let entry = Entry { stamp: Stamp::default(), body: Body::Tariff(Box::new(sheet.clone())) };
    assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry), "a good tariff is no entry");
    assert_eq!(entry.body.fault(), None);
    let mut seen = Vec::new();
    let modes = [Mode::Amount(Fen(1_250)), Mode::Fixed, Mode::Portions { unit: Fen(301), portions: 3 }, Mode::Count];
    for minute in [0, 450, 720, 1_080, 1_439] {
        let period = period_at(&sheet, minute);
        for mode in modes {
            let quote = price(&sheet, CategoryId(1), OutletId(1), period, mode);
            if let Ok(quote) = &quote {
                let total = quote.price.add(quote.adjustment);
                assert!(total.is_ok_and(|total| total >= Fen::ZERO), "a price below zero: {quote:?}");
            }
            seen.push(quote.is_ok());
        }
    }
    let strict = strict_counter(&sheet, CategoryId(1), yika_crdt::ids::Day(20_000)).is_some();
    taken(&(seen, strict, sheet.periods.len().min(3), sheet.limits.len().min(3)))
}

fn access(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let sheet: AccessSheet = match toml::from_str(text) {
        Err(error) => return refused(&error.message()),
        Ok(sheet) => sheet,
    };
    let written = toml::to_string(&sheet);
    let read = written.ok().and_then(|text| toml::from_str(&text).ok());
    assert_eq!(read.as_ref(), Some(&sheet), "written and read is another");
    let staff: BTreeMap<String, PersonId> =
        (1..).map(PersonId).zip(sheet.staff()).map(|(p, s)| (s.to_owned(), p)).collect();
    let numbers: BTreeMap<PersonId, String> = staff.iter().map(|(number, person)| (*person, number.clone())).collect();
    let categories = BTreeMap::from([("employee".to_owned(), vec![PersonId(900), PersonId(901)])]);
    let who = Members { staff, categories };
    let plan = match sheet.plan(&Policy::default(), &Rules::default(), &who) {
        Err(problems) => return refused(&format!("{problems:?}")),
        Ok(plan) => plan,
    };
    let policy = put_in_force(&plan.acts);
    // Put in force again nothing changes, and what is shown is what is in force.
    let again = sheet.plan(&policy, &plan.rules, &who);
    assert!(again.is_ok_and(|again| again.acts.is_empty()), "the same file twice changes something");
    let number = |person: PersonId| numbers.get(&person).cloned().unwrap_or_else(|| "?".to_owned());
    let shown = toml::to_string(&AccessSheet::of(&policy, &plan.rules, &who, number));
    let shown = shown.ok().and_then(|text| toml::from_str::<AccessSheet>(&text).ok());
    let same = shown.and_then(|shown| shown.plan(&policy, &plan.rules, &who).ok());
    assert!(same.is_some_and(|same| same.acts.is_empty()), "what is shown is not what is in force");
    let kinds: BTreeSet<String> = plan.acts.iter().map(|act| format!("{act:?}").chars().take(8).collect()).collect();
    taken(&kinds)
}

/// What a campus' policy is after these acts.
fn put_in_force(acts: &[PolicyAct]) -> Policy {
    let mut document = Document::new(DocId { kind: DocKind::Policy(CampusId(1)), epoch: 1 });
    for (n, act) in acts.iter().enumerate() {
        let body = ActBody::Policy(Box::new(act.clone()));
        let act = Act { id: ActId(n as u64), operator: OperatorId(1), body };
        if let Err(error) = document.author(writer(0), &act, 1_800_000_000) {
            panic!("an act of a plan that is sound cannot be written: {error}: {act:?}");
        }
    }
    let mut policy = Policy::default();
    if let Patch::Policy(patch) = document.project_all() {
        patch.apply_to(&mut policy);
    }
    policy
}

fn file(name: &str, bytes: &[u8]) -> Option<PathBuf> {
    static DIR: OnceLock<Option<TempDir>> = OnceLock::new();
    let path = DIR.get_or_init(|| tempfile::tempdir().ok()).as_ref()?.path().join(name);
    std::fs::write(&path, bytes).ok().map(|()| path)
}

fn edge(bytes: &[u8]) -> Seen {
    let Some(path) = file("edge.toml", bytes) else { return "no file".to_owned() };
    match config::load(&Sources { files: vec![path], ..Sources::default() }) {
        Err(error) => refused(&error.root_cause()),
        Ok(loaded) => {
            let written = toml::to_string(&loaded.config);
            let read = written.ok().and_then(|text| toml::from_str::<config::Config>(&text).ok());
            assert_eq!(read.as_ref(), Some(&loaded.config), "written and read is another");
            let _ = loaded.show(true);
            taken(&loaded.config)
        }
    }
}

fn hub(bytes: &[u8]) -> Seen {
    let Some(path) = file("hub.toml", bytes) else { return "no file".to_owned() };
    match HubConfig::load(&[path], std::iter::empty()) {
        Err(error) => refused(&error.root_cause()),
        Ok(loaded) => {
            let written = toml::to_string(&loaded);
            let read = written.ok().and_then(|text| toml::from_str::<HubConfig>(&text).ok());
            assert_eq!(read.as_ref(), Some(&loaded), "written and read is another");
            taken(&loaded)
        }
    }
}
