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
pub(super) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    names: BTreeMap<PersonId, Box<str>>,
    /// How often all were forgotten: a name that was read before that may be an old one.
    forgotten: u64,
}

impl Names {
    pub(super) fn forget(&self) {
        let mut known = self.lock();
        known.names.clear();
        known.forgotten += 1;
    }

    /// A name that is known, or how often all were forgotten before it is read.
    fn get(&self, person: PersonId) -> Result<String, u64> {
        let known = self.lock();
        known.names.get(&person).map(|name| name.to_string()).ok_or(known.forgotten)
    }

    /// Keeps a name that was read when they had been forgotten so often.
    fn keep(&self, person: PersonId, name: &str, forgotten: u64) {
        let mut known = self.lock();
        if known.forgotten != forgotten {
            return;
        }
        if known.names.len() >= NAMES_MAX {
            known.names.clear();
        }
        known.names.insert(person, name.into());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminals {
    /// The holder's name, masked; nothing for guests.
    pub(super) fn holder_name(&self, person: PersonId) -> Result<Option<String>, Refusal> {
        if person == PersonId(0) {
            return Ok(None);
        }
        let forgotten = match self.names.get(person) {
            Ok(name) => return Ok(Some(name)),
            Err(forgotten) => forgotten,
        };
        let record: Option<Person> = self.node.row(&keys::person(person))?;
        let name = record.map(|person| masked_name(&person.name));
        if let Some(name) = &name {
            self.names.keep(person, name, forgotten);
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
            names.keep(PersonId(n), "王*", 0);
        }
        assert_eq!(names.lock().names.len(), 1);
        assert_eq!(names.get(PersonId(NAMES_MAX as u64)).as_deref(), Ok("王*"));
    }

    #[test]
    fn a_name_that_was_read_before_a_change_is_not_kept() {
        let names = Names::default();
        let before = names.get(PersonId(1)).unwrap_err();
        names.forget();
        names.keep(PersonId(1), "王*", before);
        assert_eq!(names.get(PersonId(1)), Err(1));
    }
}
