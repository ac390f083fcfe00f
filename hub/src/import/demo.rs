//! Invented people for demonstrations: plausible names, valid but never assigned identity numbers, same for a seed.
//!
//! Leaves to others: where the file is kept and who imports it.

use super::record::{Category, IdType, LONG_TERM, Lang, PersonRecord, Sex, resident_check_digit};
use super::write::{WriteError, export_xlsx};

/// Area code that no county has: a number with it belongs to nobody.
const AREA_CODE: &str = "999999";
/// First card number; campuses follow each other without a gap.
const FIRST_CARD_NUMBER: u64 = 10_000_001;

/// Characters and pinyin.
const SURNAMES: [(&str, &str); 16] = [
    ("王", "wang"),
    ("李", "li"),
    ("张", "zhang"),
    ("刘", "liu"),
    ("陈", "chen"),
    ("杨", "yang"),
    ("赵", "zhao"),
    ("黄", "huang"),
    ("周", "zhou"),
    ("吴", "wu"),
    ("徐", "xu"),
    ("孙", "sun"),
    ("欧阳", "ouyang"),
    ("马", "ma"),
    ("朱", "zhu"),
    ("胡", "hu"),
];
/// Characters and pinyin.
const GIVEN: [(&str, &str); 20] = [
    ("伟", "wei"),
    ("芳", "fang"),
    ("娜", "na"),
    ("敏", "min"),
    ("静", "jing"),
    ("磊", "lei"),
    ("洋", "yang"),
    ("勇", "yong"),
    ("艳", "yan"),
    ("杰", "jie"),
    ("涛", "tao"),
    ("明", "ming"),
    ("超", "chao"),
    ("霞", "xia"),
    ("平", "ping"),
    ("刚", "gang"),
    ("婷", "ting"),
    ("峰", "feng"),
    ("雪", "xue"),
    ("𬭚", "chun"),
];
/// Names and codes.
const DEPARTMENTS: [(&str, &str); 5] =
    [("行政部", "0101"), ("生产部", "0201"), ("研发部", "0301"), ("后勤部", "0401"), ("财务部", "0501")];

/// A collection file of invented people, `per_campus` for each campus. Equal arguments give equal people.
///
/// # Errors
/// [`WriteError`] if the workbook cannot be assembled.
pub fn demo_people(seed: u64, campuses: &[&str], per_campus: usize) -> Result<Vec<u8>, WriteError> {
    export_xlsx(&demo_records(seed, campuses, per_campus), Lang::Zh)
}

/// The people of [`demo_people`] as records.
pub fn demo_records(seed: u64, campuses: &[&str], per_campus: usize) -> Vec<PersonRecord> {
    let mut dice = Dice(seed);
    let mut people = Vec::with_capacity(campuses.len() * per_campus);
    for campus in campuses {
        for _ in 0..per_campus {
            let serial = people.len() as u64;
            people.push(person(&mut dice, campus, serial));
        }
    }
    people
}

fn person(dice: &mut Dice, campus: &str, serial: u64) -> PersonRecord {
    let surname = dice.pick(&SURNAMES);
    let first = dice.pick(&GIVEN);
    let second = if dice.below(3) > 0 { dice.pick(&GIVEN) } else { ("", "") };
    let department = dice.pick(&DEPARTMENTS);
    // Serial and birth date together are unique: 499 sequence pairs a day, days in turn.
    let day = serial / 499;
    let sex = if dice.below(2) == 0 { Sex::Male } else { Sex::Female };
    let sequence = (serial % 499) * 2 + u64::from(sex == Sex::Male);
    let born = format!("{:04}{:02}{:02}", 1965 + (day / 336) % 40, day / 28 % 12 + 1, day % 28 + 1);
    let category = match dice.below(20) {
        0..=2 => Category::Contractor,
        3 => Category::Boarder,
        _ => Category::Employee,
    };
    PersonRecord {
        name: format!("{}{}{}", surname.0, first.0, second.0),
        pinyin: format!("{} {}{}", surname.1, first.1, second.1),
        sex: Some(sex),
        id_type: IdType::ResidentId,
        id_number: resident_number(&born, sequence),
        contact: format!("1990000{:04}", serial % 10_000),
        id_valid_from: None,
        id_valid_until: Some(LONG_TERM),
        department: department.0.into(),
        department_code: department.1.into(),
        staff_number: format!("{:06}", serial + 1),
        category,
        campus: campus.into(),
        card_number: Some(FIRST_CARD_NUMBER + serial),
        card_uid: format!("{:08X}", 0x0400_0000 + serial),
        photo: String::new(),
    }
}

/// A resident number of the unassigned area with a right check digit.
pub(crate) fn resident_number(born: &str, sequence: u64) -> String {
    let body = format!("{AREA_CODE}{born}{:03}", sequence % 1000);
    let digit = resident_check_digit(&body).unwrap_or('?');
    format!("{body}{digit}")
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        let at = self.below(list.len() as u64) as usize;
        list.get(at).copied().unwrap_or_default()
    }
}
