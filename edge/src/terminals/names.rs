//! Holders' masked names as displays show them, kept in memory: reading a person's row for every sale cost more than
//! the rest of the answer (a read transaction with its file locks, and a thread handed over).
//!
//! Emptied whenever people change and when full. Leaves to others: when people change (`lists`), the row (`node`).

use super::Terminals;
use super::refusal::Refusal;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use yika_crdt::ids::PersonId;
use yika_crdt::keys;
use yika_crdt::person::{Person, masked_name};

/// Most names kept, about 2 MiB; at the bound all are forgotten and read again as they are needed.
const NAMES_MAX: usize = 20_000;

/// The names known.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeMap<PersonId, Box<str>>>);

impl Names {
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn get(&self, person: PersonId) -> Option<String> {
        self.lock().get(&person).map(|name| name.to_string())
    }

    fn keep(&self, person: PersonId, name: &str) {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(person, name.into());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PersonId, Box<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminals {
    /// The holder's name, masked; nothing for guests.
    pub(super) fn holder_name(&self, person: PersonId) -> Result<Option<String>, Refusal> {
        if person == PersonId(0) {
            return Ok(None);
        }
        if let Some(name) = self.names.get(person) {
            return Ok(Some(name));
        }
        let record: Option<Person> = self.node.row(&keys::person(person))?;
        let name = record.map(|person| masked_name(&person.name));
        if let Some(name) = &name {
            self.names.keep(person, name);
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let names = Names::default();
        for n in 0..=NAMES_MAX as u64 {
            names.keep(PersonId(n), "王*");
        }
        assert_eq!(names.lock().len(), 1);
        assert_eq!(names.get(PersonId(NAMES_MAX as u64)).as_deref(), Some("王*"));
    }
}
