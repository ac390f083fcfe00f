//! The person record of a collection file (feature ORG-3): fields, closed lists, identity numbers.
//!
//! Leaves to others: where a value stood in the file (`validate`), and who the person is in the registry.

use time::{Date, Month};
use yika_crdt::ids::CategoryId;

/// Language of words meant for a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lang {
    /// Chinese, the first language of the product.
    #[default]
    Zh,
    /// English.
    En,
}

impl Lang {
    /// The word of this language.
    pub(crate) fn pick<T>(self, zh: T, en: T) -> T {
        match self {
            Lang::Zh => zh,
            Lang::En => en,
        }
    }

    /// The same language as pages name it.
    pub(crate) fn of_pages(self) -> yika_ui::Lang {
        match self {
            Lang::Zh => yika_ui::Lang::Zh,
            Lang::En => yika_ui::Lang::En,
        }
    }
}

/// A closed list whose members are written in a file in several ways; the first two are Chinese and English.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $zh:literal, $en:literal $(, $alias:literal)*;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }
        impl $name {
            /// Every member, in the order of the list.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// How the member is written in a file of this language.
            pub fn word(self, lang: Lang) -> &'static str {
                match (self, lang) { $(($name::$variant, Lang::Zh) => $zh, ($name::$variant, Lang::En) => $en,)+ }
            }
            /// The member a cell means, in either language, if any. Case of Latin letters does not matter.
            pub fn parse(text: &str) -> Option<$name> {
                let text = text.to_lowercase();
                match text.as_str() {
                    $($zh | $en $(| $alias)* => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

closed_list! {
    /// Sex as the identity document states it.
    Sex {
        /// Male.
        Male => "男", "male", "m", "男性";
        /// Female.
        Female => "女", "female", "f", "女性";
    }
}

closed_list! {
    /// Kind of identity document.
    IdType {
        /// Resident identity card of 18 characters, checked by its check digit.
        ResidentId => "居民身份证", "resident_id", "身份证", "二代身份证", "id card", "resident id";
        /// Passport.
        Passport => "护照", "passport", "外国护照", "中国护照";
        /// Travel permit of a Hong Kong or Macau resident.
        HongKongMacauPermit => "港澳居民来往内地通行证", "hk_macau_permit", "港澳通行证", "回乡证";
        /// Travel permit of a Taiwan resident.
        TaiwanPermit => "台湾居民来往大陆通行证", "taiwan_permit", "台胞证";
        /// Permanent residence card of a foreigner.
        ForeignResident => "外国人永久居留身份证", "foreign_resident", "外国人永久居留证";
        /// Card of an officer or soldier.
        MilitaryId => "军官证", "military_id", "士兵证", "军人证";
        /// Any other document.
        Other => "其他", "other", "其它", "其他证件";
    }
}

closed_list! {
    /// Identity category (feature ORG-5): picks price list, limits, subsidy plan, default doors.
    Category {
        /// Employee.
        Employee => "员工", "employee", "正式员工", "在职员工", "职工", "staff";
        /// Contractor.
        Contractor => "外包", "contractor", "外包人员", "承包商", "劳务", "劳务派遣";
        /// Outsider allowed to eat here.
        Boarder => "搭伙", "boarder", "搭伙人员";
        /// Visitor.
        Visitor => "访客", "visitor", "临时访客";
        /// Special.
        Special => "特殊", "special", "特殊人员";
    }
}

/// The day that stands for a document without an end ("长期").
pub const LONG_TERM: Date = Date::MAX;

/// Key by which a person is the same person in every file.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NaturalKey {
    /// Kind of document.
    pub id_type: IdType,
    /// Number as normalised by the reader (half width, upper case, no blanks).
    pub id_number: String,
}

/// One person with, possibly, a card. Empty text means "not given".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersonRecord {
    /// Name; any Unicode, rare characters included.
    pub name: String,
    /// Pinyin as given; never guessed.
    pub pinyin: String,
    /// Sex, if given.
    pub sex: Option<Sex>,
    /// Kind of identity document.
    pub id_type: IdType,
    /// Number of the identity document.
    pub id_number: String,
    /// Telephone or mail.
    pub contact: String,
    /// First day of the document.
    pub id_valid_from: Option<Date>,
    /// Last day of the document; [`LONG_TERM`] when it never ends.
    pub id_valid_until: Option<Date>,
    /// Department name.
    pub department: String,
    /// Department number.
    pub department_code: String,
    /// Staff number, unique within the campus, leading zeros kept.
    pub staff_number: String,
    /// Identity category.
    pub category: Category,
    /// Campus, as its code or name.
    pub campus: String,
    /// Printed, logical card number.
    pub card_number: Option<u64>,
    /// Chip number as upper-case hexadecimal, two digits a byte.
    pub card_uid: String,
    /// Photo file name, without any folder.
    pub photo: String,
}

impl PersonRecord {
    /// Key by which the person is found again.
    pub fn natural_key(&self) -> NaturalKey {
        NaturalKey { id_type: self.id_type, id_number: self.id_number.clone() }
    }
}

/// Why an 18-character resident identity number is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResidentIdFault {
    /// Not 17 digits followed by a digit or X.
    Shape,
    /// Digits 7 to 14 are no date from 1900 on.
    BirthDate,
    /// The last character is not the check digit.
    CheckDigit,
}

/// Check digit (ISO 7064 MOD 11-2) of 17 digits, or `None` if they are not 17 digits.
pub fn resident_check_digit(digits: &str) -> Option<char> {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const DIGITS: [char; 11] = ['1', '0', 'X', '9', '8', '7', '6', '5', '4', '3', '2'];
    if digits.chars().count() != WEIGHTS.len() {
        return None;
    }
    let mut sum = 0;
    for (c, weight) in digits.chars().zip(WEIGHTS) {
        sum += c.to_digit(10)? * weight;
    }
    DIGITS.get((sum % 11) as usize).copied()
}

/// Checks a resident identity number in upper case (GB 11643-1999).
pub fn check_resident_id(number: &str) -> Result<(), ResidentIdFault> {
    let body = number.get(..17).ok_or(ResidentIdFault::Shape)?;
    let last = number.get(17..).ok_or(ResidentIdFault::Shape)?;
    let last_ok = last.len() == 1 && last.chars().all(|c| c.is_ascii_digit() || c == 'X');
    if !last_ok || !body.chars().all(|c| c.is_ascii_digit()) {
        return Err(ResidentIdFault::Shape);
    }
    let part = |range: std::ops::Range<usize>| -> Option<u16> { body.get(range)?.parse().ok() };
    let born = (|| {
        let month = Month::try_from(u8::try_from(part(10..12)?).ok()?).ok()?;
        let day = u8::try_from(part(12..14)?).ok()?;
        Date::from_calendar_date(i32::from(part(6..10)?), month, day).ok()
    })();
    if born.is_none_or(|date| date.year() < 1900) {
        return Err(ResidentIdFault::BirthDate);
    }
    match resident_check_digit(body) {
        Some(digit) if last.starts_with(digit) => Ok(()),
        _ => Err(ResidentIdFault::CheckDigit),
    }
}

/// An identity number fit to be shown: first three and last two characters, stars between.
pub fn mask_id(number: &str) -> String {
    const HEAD: usize = 3;
    const TAIL: usize = 2;
    let chars: Vec<char> = number.chars().collect();
    if chars.len() <= HEAD + TAIL {
        return "*".repeat(chars.len());
    }
    let stars = chars.len() - HEAD - TAIL;
    let head: String = chars.iter().take(HEAD).collect();
    let tail: String = chars.iter().skip(HEAD + stars).collect();
    format!("{head}{}{tail}", "*".repeat(stars))
}

impl Category {
    /// Number of the category in tariffs: its place in the list, from 1.
    pub fn id(self) -> CategoryId {
        let place = Category::ALL.iter().position(|c| *c == self).unwrap_or(0);
        CategoryId(u16::try_from(place).unwrap_or(0).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_numbers_are_checked() {
        // The worked example of GB 11643-1999, annex A.
        assert_eq!(check_resident_id("11010519491231002X"), Ok(()));
        assert_eq!(check_resident_id("440524188001010014"), Err(ResidentIdFault::BirthDate));
        assert_eq!(check_resident_id("110105194912310021"), Err(ResidentIdFault::CheckDigit));
        assert_eq!(check_resident_id("11010519491331002X"), Err(ResidentIdFault::BirthDate));
        assert_eq!(check_resident_id("11010519491231002"), Err(ResidentIdFault::Shape));
        assert_eq!(check_resident_id("中文中文中文"), Err(ResidentIdFault::Shape));
    }

    #[test]
    fn masking_never_shows_the_middle() {
        assert_eq!(mask_id("11010519491231002X"), "110*************2X");
        assert_eq!(mask_id("E1234"), "*****");
        assert_eq!(mask_id(""), "");
    }

    #[test]
    fn every_word_reads_back() {
        for lang in [Lang::Zh, Lang::En] {
            assert!(Sex::ALL.iter().all(|v| Sex::parse(v.word(lang)) == Some(*v)));
            assert!(IdType::ALL.iter().all(|v| IdType::parse(v.word(lang)) == Some(*v)));
            assert!(Category::ALL.iter().all(|v| Category::parse(v.word(lang)) == Some(*v)));
        }
    }
}
