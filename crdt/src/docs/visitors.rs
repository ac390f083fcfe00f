//! Visitors documents: temporary cards with their validity, as keys `visitor/field`.
//!
//! Leaves to others: the registry winning over a visitor entry with the same card number (the tables, with an alarm).

use super::act::{ActError, Write, check_text, put_or_delete};
use super::chunk::Value;
use super::people::{int, text, uint};
use super::view::Fields;
use crate::access::GroupId;
use crate::ids::{CardNumber, PersonId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most access groups of one visitor.
pub const VISITOR_GROUPS_MAX: usize = 8;
/// Latest moment of a validity, in milliseconds since 1970.
pub const VISIT_MS_MAX: i64 = 1 << 48;

/// A visitor with a temporary card.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Visitor {
    /// The visitor's id, drawn like a person's.
    pub visitor: PersonId,
    /// Name as shown.
    pub name: String,
    /// Whom the visit is to.
    pub host: Option<PersonId>,
    /// Printed number of the temporary card.
    pub card: CardNumber,
    /// Its chip number, if recorded.
    pub uid: Option<u64>,
    /// First moment of validity, hub time in milliseconds.
    pub from_ms: i64,
    /// First moment after it.
    pub until_ms: i64,
    /// Access groups of the visit.
    pub groups: BTreeSet<GroupId>,
    /// The card was given back or taken.
    pub ended: bool,
}

/// What happens to a visitor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum VisitorAct {
    /// The visit is recorded, or all of it is set again; the id inside is ignored for the act's own.
    Add(Visitor),
    /// Another end of the validity.
    SetUntil(i64),
    /// The visit is over, whatever its validity.
    End,
    /// The visitor is erased.
    Remove,
}

/// What changed, as plain values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VisitorsPatch {
    /// Visitors touched, whole.
    pub upserted: Vec<Visitor>,
    /// Visitors that are not (or not wholly) in the document.
    pub removed: Vec<PersonId>,
}

pub(super) fn writes(
    visitor: PersonId,
    act: &VisitorAct,
    out: &mut Vec<Write>,
) -> Result<(), ActError> {
    if visitor.0 == 0 || visitor.0 > i64::MAX as u64 {
        return Err(ActError::Range("visitor id"));
    }
    let key = |field: &str| format!("{:x}/{field}", visitor.0);
    match act {
        VisitorAct::Add(v) => {
            check_text("name", &v.name)?;
            check_ms(v.from_ms)?;
            check_ms(v.until_ms)?;
            if v.groups.len() > VISITOR_GROUPS_MAX {
                return Err(ActError::Range("number of groups"));
            }
            out.push(Write::Put(key("n"), Value::Text(v.name.clone())));
            put_or_delete(out, key("p"), v.host.map(|p| Value::Uint(p.0)));
            out.push(Write::Put(key("c"), Value::Uint(v.card.0)));
            put_or_delete(out, key("i"), v.uid.map(Value::Uint));
            out.push(Write::Put(key("f"), Value::Int(v.from_ms)));
            out.push(Write::Put(key("u"), Value::Int(v.until_ms)));
            put_or_delete(out, key("x"), v.ended.then_some(Value::True));
            out.push(Write::DeleteUnder(key("g/")));
            out.extend(
                v.groups
                    .iter()
                    .map(|g| Write::Put(key(&format!("g/{}", g.0)), Value::True)),
            );
        }
        VisitorAct::SetUntil(ms) => {
            check_ms(*ms)?;
            out.push(Write::Put(key("u"), Value::Int(*ms)));
        }
        VisitorAct::End => out.push(Write::Put(key("x"), Value::True)),
        VisitorAct::Remove => out.push(Write::DeleteUnder(key(""))),
    }
    Ok(())
}

fn check_ms(ms: i64) -> Result<(), ActError> {
    match (0..=VISIT_MS_MAX).contains(&ms) {
        true => Ok(()),
        false => Err(ActError::Range("visit time")),
    }
}

pub(super) fn project<F: Fields>(doc: &F, visitors: &BTreeSet<PersonId>) -> VisitorsPatch {
    let mut patch = VisitorsPatch::default();
    for visitor in visitors {
        match visitor_in(doc, *visitor) {
            Some(found) => patch.upserted.push(found),
            None => patch.removed.push(*visitor),
        }
    }
    patch
}

fn visitor_in<F: Fields>(doc: &F, visitor: PersonId) -> Option<Visitor> {
    let prefix = format!("{:x}/", visitor.0);
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    let mut groups = BTreeSet::new();
    for (key, value) in doc.under(&prefix) {
        let rest = key.get(prefix.len()..)?;
        match rest.strip_prefix("g/") {
            Some(group) => groups.extend(group.parse().ok().map(GroupId)),
            None => drop(fields.insert(rest.to_owned(), value)),
        }
    }
    Some(Visitor {
        visitor,
        name: text(&fields, "n")?,
        host: uint(&fields, "p").map(PersonId),
        card: CardNumber(uint(&fields, "c")?),
        uid: uint(&fields, "i"),
        from_ms: int(&fields, "f")?,
        until_ms: int(&fields, "u")?,
        groups,
        ended: fields.contains_key("x"),
    })
}
