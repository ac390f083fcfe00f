//! Business actions on documents: one act is one change, and the change carries the act.
//!
//! Every act says which keys it writes; a change may do exactly that and nothing else, so values outside the schema
//! cannot enter a document, whoever signed them. Leaves to others: bytes (`chunk`) and order (`document`).

use super::chunk::Value;
use super::people::PersonAct;
use super::policy::PolicyAct;
use super::visitors::VisitorAct;
use super::{DocKind, people, policy, visitors};
use crate::ids::{OperatorId, PersonId};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most persons (or visitors) that one act touches: an import writes a change per small group.
pub const ACT_PERSONS_MAX: usize = 16;
/// Longest name, label or device in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest encoded act in a message; leaves room for its operations in a change.
pub const ACT_BYTES_MAX: usize = 4 << 10;
/// Latest and (negated) earliest day in a document, about the year 9999.
pub const DAY_MAX: i32 = 2_932_896;

/// The id of an act, made by whoever asked for it: the same id is the same act.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActId(pub u64);

/// One business action.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Act {
    /// Its id.
    pub id: ActId,
    /// Who did it.
    pub operator: OperatorId,
    /// What.
    pub body: ActBody,
}

/// What an act does, by the kind of document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ActBody {
    /// On people documents; up to [`ACT_PERSONS_MAX`] persons.
    People(Vec<(PersonId, PersonAct)>),
    /// On policy documents.
    Policy(Box<PolicyAct>),
    /// On visitors documents; up to [`ACT_PERSONS_MAX`] visitors.
    Visitors(Vec<(PersonId, VisitorAct)>),
}

/// Why an act is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The document is of another kind.
    #[error("the act does not belong on this kind of document")]
    OtherKind,
    /// Nobody or too many at once.
    #[error("an act touches 1 to {ACT_PERSONS_MAX} persons; split it")]
    Persons,
    /// A text is too long.
    #[error("{0} is longer than {NAME_BYTES_MAX} bytes or holds control characters")]
    Text(&'static str),
    /// A value is outside its range.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// The whole act is too large for one change.
    #[error("the act takes {0} bytes, at most {ACT_BYTES_MAX} fit; split it")]
    TooLong(usize),
    /// The message of a change is not an act.
    #[error("the message is not an act")]
    NotAnAct,
}

/// One effect of an act on a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// The key holds this value.
    Put(String, Value),
    /// The key is gone.
    Delete(String),
    /// Every key under the prefix is gone.
    DeleteUnder(String),
}

impl Act {
    /// Checks it against a kind of document, and says what it writes, in order.
    pub fn writes(&self, kind: &DocKind) -> Result<Vec<Write>, ActError> {
        let mut out = Vec::new();
        match (&self.body, kind) {
            (ActBody::People(acts), DocKind::People { .. }) => {
                count(acts.len())?;
                for (person, act) in acts {
                    people::writes(*person, act, &mut out)?;
                }
            }
            (ActBody::Policy(act), DocKind::Policy(_)) => policy::writes(act, &mut out)?,
            (ActBody::Visitors(acts), DocKind::Visitors { .. }) => {
                count(acts.len())?;
                for (visitor, act) in acts {
                    visitors::writes(*visitor, act, &mut out)?;
                }
            }
            _ => return Err(ActError::OtherKind),
        }
        Ok(out)
    }

    /// The message that carries it: base64url of its canonical bytes.
    pub fn to_message(&self) -> Result<String, ActError> {
        let bytes = wire::encode(self);
        match bytes.len() > ACT_BYTES_MAX {
            true => Err(ActError::TooLong(bytes.len())),
            false => Ok(to_base64(&bytes)),
        }
    }

    /// Reads a message; other spellings of the same act are refused.
    pub fn from_message(message: &str) -> Result<Act, ActError> {
        if message.len() > ACT_BYTES_MAX.div_ceil(3) * 4 {
            return Err(ActError::NotAnAct);
        }
        let bytes = from_base64(message).ok_or(ActError::NotAnAct)?;
        wire::decode(&bytes, ACT_BYTES_MAX).map_err(|_| ActError::NotAnAct)
    }
}

fn count(persons: usize) -> Result<(), ActError> {
    match (1..=ACT_PERSONS_MAX).contains(&persons) {
        true => Ok(()),
        false => Err(ActError::Persons),
    }
}

/// The net effect of writes: what each key holds afterwards, and which prefixes were emptied first.
#[derive(Default, Debug)]
pub(crate) struct Effect {
    pub(crate) keys: BTreeMap<String, Option<Value>>,
    pub(crate) emptied: Vec<String>,
}

impl Effect {
    pub(crate) fn of(writes: Vec<Write>) -> Effect {
        let mut effect = Effect::default();
        for write in writes {
            match write {
                Write::Put(key, value) => drop(effect.keys.insert(key, Some(value))),
                Write::Delete(key) => drop(effect.keys.insert(key, None)),
                Write::DeleteUnder(prefix) => {
                    for (key, value) in effect.keys.iter_mut() {
                        if key.starts_with(&prefix) {
                            *value = None;
                        }
                    }
                    effect.emptied.push(prefix);
                }
            }
        }
        effect
    }

    /// Whether an operation is part of the effect; leaving parts out is allowed (the value was there before).
    pub(crate) fn permits(&self, key: &str, put: Option<&Value>) -> bool {
        match self.keys.get(key) {
            Some(wanted) => wanted.as_ref() == put,
            None => put.is_none() && self.emptied.iter().any(|p| key.starts_with(p)),
        }
    }
}

/// Texts in documents: bounded, without control characters.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), ActError> {
    match text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(ActError::Text(what)),
    }
}

/// Days in documents.
pub(crate) fn check_day(what: &'static str, day: i32) -> Result<(), ActError> {
    match (-DAY_MAX..=DAY_MAX).contains(&day) {
        true => Ok(()),
        false => Err(ActError::Range(what)),
    }
}

/// Puts a value, or deletes the key where there is none.
pub(crate) fn put_or_delete(out: &mut Vec<Write>, key: String, value: Option<Value>) {
    out.push(match value {
        Some(value) => Write::Put(key, value),
        None => Write::Delete(key),
    });
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .enumerate()
            .fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..=group.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        for (i, letter) in group.iter().enumerate() {
            let digit = ALPHABET.iter().position(|a| a == letter)?;
            word |= (digit as u32) << (18 - 6 * i);
        }
        let whole = word.to_be_bytes();
        bytes.extend(whole.get(1..group.len())?);
    }
    // Another spelling (spare bits set, a lone letter) is not what we write.
    (to_base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn base64_round_trips_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..50), text in ".{0,40}") {
            prop_assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes));
            let _ = Act::from_message(&text);
        }
    }

    #[test]
    fn an_effect_permits_what_the_act_wrote_last() {
        let effect = Effect::of(vec![
            Write::Put("a/x".into(), Value::Uint(1)),
            Write::DeleteUnder("a/".into()),
            Write::Put("a/y".into(), Value::Uint(2)),
        ]);
        assert!(!effect.permits("a/x", Some(&Value::Uint(1))));
        assert!(effect.permits("a/x", None));
        assert!(effect.permits("a/other", None));
        assert!(effect.permits("a/y", Some(&Value::Uint(2))));
        assert!(!effect.permits("a/y", None));
        assert!(!effect.permits("b/y", None));
    }
}
