//! Staff numbers of an import (ORG-7): one person's of a campus each, also where people of one file change theirs among
//! each other. Doors' rules and clerks name people by them.
//!
//! Leaves to others: looking the present holders up, and telling (`import`).

use std::collections::BTreeMap;
use yika_crdt::ids::*;

/// A staff number and its campus.
pub(super) type Number = (CampusId, String);
/// Who has which number before the import. Older registries hold numbers that two share.
pub(super) type Holders = BTreeMap<Number, Vec<PersonId>>;

/// A row that would be entered.
pub(super) struct Claim {
    /// Who, where the registry knows the person.
    pub(super) person: Option<PersonId>,
    /// The number of the row.
    pub(super) now: Number,
    /// Nothing else is wrong with the row.
    pub(super) sound: bool,
}

/// Why a row may not have its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// By somebody who keeps it.
    By(PersonId),
    /// By another row, which names the campus differently.
    Row(usize),
}

/// What keeps each row from its number, if anything does: a row that is refused gives its old number to nobody.
pub(super) fn judge(claims: &[Claim], holders: &Holders) -> Vec<Option<Taken>> {
    let sound = claims.iter().enumerate().filter(|(_, claim)| claim.sound);
    let rows: BTreeMap<PersonId, usize> = sound.filter_map(|(row, claim)| Some((claim.person?, row))).collect();
    let mut taken = vec![None; claims.len()];
    // Rows that wait for another one, by that one.
    let mut waiting: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut takers: BTreeMap<&Number, usize> = BTreeMap::new();
    for (row, claim) in claims.iter().enumerate() {
        let holders = holders.get(&claim.now).map_or(&[][..], Vec::as_slice);
        // Who has it keeps it, also where another has it, too.
        if claim.person.is_some_and(|person| holders.contains(&person)) {
            continue;
        }
        for holder in holders {
            match rows.get(holder).filter(|other| claims[**other].now != claim.now) {
                Some(other) => waiting.entry(*other).or_default().push(row),
                None => taken[row] = Some(Taken::By(*holder)),
            }
        }
        if claim.sound && taken[row].is_none() {
            let first = *takers.entry(&claim.now).or_insert(row);
            taken[row] = (first != row).then_some(Taken::Row(first));
        }
    }
    let mut refused: Vec<usize> = (0..claims.len()).filter(|row| taken[*row].is_some()).collect();
    while let Some(row) = refused.pop() {
        for waits in waiting.remove(&row).into_iter().flatten() {
            if let (true, None, Some(person)) = (claims[waits].sound, taken[waits], claims[row].person) {
                taken[waits] = Some(Taken::By(person));
                refused.push(waits);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        (CampusId(1), text.to_owned())
    }

    /// Rows as (person, number now).
    fn judged(rows: &[(u64, &str)], held: &[(&str, u64)]) -> Vec<Option<Taken>> {
        let claim = |(person, now): &(u64, &str)| Claim {
            person: (*person > 0).then_some(PersonId(*person)),
            now: number(now),
            sound: true,
        };
        let claims: Vec<Claim> = rows.iter().map(claim).collect();
        let mut holders = Holders::new();
        held.iter().for_each(|(text, person)| holders.entry(number(text)).or_default().push(PersonId(*person)));
        judge(&claims, &holders)
    }

    #[test]
    fn numbers_go_round_among_the_rows_of_a_file() {
        let held = [("a", 1), ("b", 2), ("c", 3)];
        assert_eq!(judged(&[(1, "b"), (2, "a")], &held), [None; 2], "two swap");
        assert_eq!(judged(&[(1, "b"), (2, "c"), (3, "d")], &held), [None; 3], "a chain");
        assert_eq!(judged(&[(0, "a"), (1, "z")], &held), [None; 2], "a new one takes what is given up");
    }

    #[test]
    fn who_waits_for_a_refused_row_is_refused_with_it() {
        let held = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        let by = |person| Some(Taken::By(PersonId(person)));
        // Person 4 keeps his number, so 3 stays, so 2 stays, so 1 does.
        let chain = [(1, "b"), (2, "c"), (3, "d")];
        assert_eq!(judged(&chain, &held), [by(2), by(3), by(4)]);
        assert_eq!(judged(&[(0, "a")], &held), [by(1)]);
    }

    #[test]
    fn who_had_one_number_with_another_before_may_keep_or_leave_it() {
        let held = [("a", 1), ("a", 2)];
        let by = |person| Some(Taken::By(PersonId(person)));
        assert_eq!(judged(&[(1, "a")], &held), [None], "only something else of him changes");
        assert_eq!(judged(&[(1, "b"), (0, "a")], &held), [None, by(2)]);
        assert_eq!(judged(&[(1, "b"), (2, "c"), (0, "a")], &held), [None; 3]);
    }

    #[test]
    fn a_row_with_another_fault_is_told_of_its_number_only_where_nobody_gives_it_up() {
        let rows = |wanted: &str| {
            let claim = |person, now, sound| Claim { person: Some(PersonId(person)), now: number(now), sound };
            [claim(1, wanted, false), claim(2, "a", true)]
        };
        let holders: Holders = [("a", 1), ("b", 2), ("c", 3)].map(|(n, p)| (number(n), vec![PersonId(p)])).into();
        let by = |person| Some(Taken::By(PersonId(person)));
        assert_eq!(judge(&rows("b"), &holders), [None, by(1)]);
        assert_eq!(judge(&rows("c"), &holders), [by(3), by(1)]);
    }

    #[test]
    fn two_rows_that_name_the_campus_differently_do_not_both_take_a_number() {
        assert_eq!(judged(&[(0, "a"), (0, "a")], &[]), [None, Some(Taken::Row(0))]);
    }
}
