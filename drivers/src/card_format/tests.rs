//! Vectors W1-W5, round trips, and bad input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use proptest::prelude::*;

struct Vector {
    name: &'static str,
    number: u32,
    dec10: &'static str,
    dec8: &'static str,
    comma: &'static str,
    joined: &'static str,
    reversed: &'static str,
    wg26: &'static str,
    wg34: &'static str,
}

#[rustfmt::skip]
const VECTORS: [Vector; 5] = [
    Vector { name: "W1", number: 0x0B3E_3636, dec10: "0188626486", dec8: "04077110", comma: "062,13878", joined: "06213878", reversed: "0909524491", wg26: "10011111000110110001101101", wg34: "0000010110011111000110110001101101" },
    Vector { name: "W2", number: 0x09F0_3056, dec10: "0166735958", dec8: "15741014", comma: "240,12374", joined: "24012374", reversed: "1446047753", wg26: "01111000000110000010101101", wg34: "0000010011111000000110000010101101" },
    Vector { name: "W3", number: 0x5630_F009, dec10: "1446047753", dec8: "03207177", comma: "048,61449", joined: "04861449", reversed: "0166735958", wg26: "00011000011110000000010011", wg34: "0010101100011000011110000000010011" },
    Vector { name: "W4", number: 0x0000_0001, dec10: "0000000001", dec8: "00000001", comma: "000,00001", joined: "00000001", reversed: "0016777216", wg26: "00000000000000000000000010", wg34: "0000000000000000000000000000000010" },
    Vector { name: "W5", number: 0xFFFF_FFFF, dec10: "4294967295", dec8: "16777215", comma: "255,65535", joined: "25565535", reversed: "4294967295", wg26: "01111111111111111111111111", wg34: "0111111111111111111111111111111111" },
];

#[test]
fn vectors_w1_to_w5_print() {
    for v in &VECTORS {
        assert_eq!(Form::Dec10.print(v.number), v.dec10, "{}", v.name);
        assert_eq!(Form::Dec8.print(v.number), v.dec8, "{}", v.name);
        assert_eq!(Form::Comma35.print(v.number), v.comma, "{}", v.name);
        assert_eq!(Form::Joined35.print(v.number), v.joined, "{}", v.name);
        assert_eq!(Form::Dec10.print(v.number.swap_bytes()), v.reversed, "{}", v.name);
        assert_eq!(WiegandBits::W26.encode(v.number), v.wg26, "{}", v.name);
        assert_eq!(WiegandBits::W34.encode(v.number), v.wg34, "{}", v.name);
    }
}

#[test]
fn vectors_w1_to_w5_read() {
    for v in &VECTORS {
        let low = Partial::new(v.number, LOW_24);
        let full = Partial::new(v.number, u32::MAX);
        assert_eq!(Form::Dec10.parse(v.dec10), Ok(full), "{}", v.name);
        assert_eq!(Form::Dec8.parse(v.dec8), Ok(low), "{}", v.name);
        assert_eq!(Form::Comma35.parse(v.comma), Ok(low), "{}", v.name);
        assert_eq!(Form::Joined35.parse(v.joined), Ok(low), "{}", v.name);
        assert_eq!(WiegandBits::W26.decode(v.wg26).unwrap().value(), v.number & LOW_24, "{}", v.name);
        assert_eq!(WiegandBits::W34.decode(v.wg34).unwrap().value(), v.number, "{}", v.name);
        let reversed = ReaderProfile { byte_order: ByteOrder::Reversed, ..ReaderProfile::DEC10 };
        assert_eq!(reversed.read(v.reversed).unwrap().number(), Some(v.number), "{}", v.name);
    }
}

#[test]
fn both_readings_of_eight_digits_from_the_field() {
    // UID 56 30 F0 09: one published example prints the first three bytes, another the last three.
    assert_eq!(Form::HighJoined35.print(0x5630_F009), "08612528");
    assert_eq!(Form::Joined35.print(0x5630_F009), "04861449");
    let high = ReaderProfile { field: Field::HighJoined, ..ReaderProfile::DEC10 };
    let known = high.read("08612528").unwrap();
    assert_eq!((known.value(), known.mask()), (0x5630_F000, 0xFFFF_FF00));
    assert!(known.matches(0x5630_F009) && !known.matches(0x5730_F009));
    assert_eq!(high.read("086,12528"), Ok(known));
    let plain = ReaderProfile { field: Field::High24, ..ReaderProfile::DEC10 };
    assert_eq!(plain.read("05648624"), Ok(known));
}

#[test]
fn a_three_byte_reader_never_invents_the_fourth_byte() {
    let low = ReaderProfile { bits: WiegandBits::W26, field: Field::Low24, ..ReaderProfile::DEC10 };
    let known = low.read("04077110").unwrap();
    assert_eq!(known.number(), None);
    assert!(known.matches(0x0B3E_3636) && known.matches(0xFF3E_3636));
    // The reversed byte order of a three-byte reading leaves the *last* byte of N open.
    let reversed = ReaderProfile { byte_order: ByteOrder::Reversed, ..low };
    assert!(reversed.read("04077110").unwrap().matches(0x3636_3E99));
}

#[test]
fn wedge_habits_are_accepted() {
    let read = |text: &str| ReaderProfile::DEC10.read(text).map(|known| known.value());
    assert_eq!(read(" 0188626486\r\n"), Ok(0x0B3E_3636));
    assert_eq!(read("188626486"), Ok(0x0B3E_3636), "leading zeros lost");
    assert_eq!(read("０１８８６２６４８６"), Ok(0x0B3E_3636), "full-width digits of an input method");
    assert_eq!(Form::Comma35.parse("062，13878").unwrap().value(), 0x3E_3636, "full-width comma");
}

#[test]
fn bad_text_is_refused_in_words() {
    let read = |text: &str| ReaderProfile::DEC10.read(text).unwrap_err();
    assert_eq!(read(" \r\n"), CardFormatError::Empty);
    assert_eq!(read("01886x6486"), CardFormatError::BadCharacter { position: 6, expected: "decimal digit" });
    assert_eq!(read("4294967296"), CardFormatError::OutOfRange { form: Form::Dec10 });
    assert_eq!(read(&"9".repeat(64)), CardFormatError::OutOfRange { form: Form::Dec10 });
    assert_eq!(read(&"9".repeat(65)), CardFormatError::TooLong { len: 65 });
    assert_eq!(Form::Dec8.parse("16777216"), Err(CardFormatError::OutOfRange { form: Form::Dec8 }));
    assert_eq!(Form::Joined35.parse("25600000"), Err(CardFormatError::OutOfRange { form: Form::Joined35 }));
    assert_eq!(Form::Joined35.parse("00065536"), Err(CardFormatError::OutOfRange { form: Form::Joined35 }));
    assert_eq!(
        Form::Comma35.parse("062,1a878"),
        Err(CardFormatError::BadCharacter { position: 6, expected: "decimal digit" })
    );
    assert!(Form::Comma35.parse(",").is_err() && Form::Comma35.parse("1,2,3").is_err());
}

#[test]
fn every_single_bit_error_of_a_frame_is_caught() {
    for v in &VECTORS {
        for (bits, frame) in [(WiegandBits::W26, v.wg26), (WiegandBits::W34, v.wg34)] {
            for place in 0..frame.len() {
                let flipped: String = frame
                    .char_indices()
                    .map(|(at, c)| match (at == place, c) {
                        (true, '0') => '1',
                        (true, _) => '0',
                        (false, c) => c,
                    })
                    .collect();
                let which = if place < frame.len() / 2 { "leading" } else { "trailing" };
                assert_eq!(bits.decode(&flipped), Err(CardFormatError::Parity { which }), "{} bit {place}", v.name);
            }
        }
    }
}

#[test]
fn frames_of_the_wrong_length_are_refused() {
    assert_eq!(WiegandBits::W26.decode(""), Err(CardFormatError::BitCount { got: 0, expected: 26 }));
    assert_eq!(WiegandBits::W26.decode(VECTORS[0].wg34), Err(CardFormatError::BitCount { got: 34, expected: 26 }));
    assert_eq!(WiegandBits::W34.decode(&"0".repeat(200)), Err(CardFormatError::BitCount { got: 200, expected: 34 }));
}

#[test]
fn profiles_that_contradict_themselves_are_refused() {
    let wg26_full = ReaderProfile { bits: WiegandBits::W26, ..ReaderProfile::DEC10 };
    assert!(matches!(wg26_full.read("1"), Err(CardFormatError::Profile(_))));
    let text = r#"{"bits":26,"field":"low_24","text":"bits","byte_order":"reversed"}"#;
    let profile: ReaderProfile = serde_json::from_str(text).unwrap();
    profile.validate().unwrap();
    assert_eq!(profile.bits, WiegandBits::W26);
    assert!(serde_json::from_str::<ReaderProfile>(r#"{"bits":27}"#).unwrap_err().to_string().contains("26 or 34"));
}

#[test]
fn enrolment_marks_what_was_presented() {
    let profile = ReaderProfile { byte_order: ByteOrder::Reversed, ..ReaderProfile::DEC10 };
    let lines = enrolment_lines(profile.read("0909524491").unwrap(), &profile);
    let marked: Vec<_> = lines.iter().filter(|line| line.presented).collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].text.as_deref(), Some("0909524491"));
    assert!(lines.iter().any(|line| line.text.as_deref() == Some("062,13878")));
    assert!(lines.iter().all(|line| line.text.is_some()));

    let low = ReaderProfile { bits: WiegandBits::W26, field: Field::Joined, ..ReaderProfile::DEC10 };
    let lines = enrolment_lines(low.read("06213878").unwrap(), &low);
    let dec10 = lines.iter().find(|l| l.form == Form::Dec10 && l.byte_order == ByteOrder::Canonical).unwrap();
    assert_eq!(dec10.text, None, "ten digits need the byte that this reader never saw");
}

#[test]
fn wg26_collisions_are_found() {
    assert!(wg26_collides(0x013E_3636, 0x0B3E_3636) && !wg26_collides(7, 7) && !wg26_collides(7, 8));
    let found = wg26_collisions([0x0B3E_3636, 5, 0x013E_3636, 5, 0x0B3E_3636]);
    assert_eq!(found, [Wg26Collision { low_24: 0x3E_3636, numbers: vec![0x013E_3636, 0x0B3E_3636] }]);
}

fn any_profile() -> impl Strategy<Value = ReaderProfile> {
    let bits = prop_oneof![Just(WiegandBits::W26), Just(WiegandBits::W34)];
    let order = prop_oneof![Just(ByteOrder::Canonical), Just(ByteOrder::Reversed)];
    let field = prop_oneof![
        Just(Field::Full),
        Just(Field::Low24),
        Just(Field::High24),
        Just(Field::Joined),
        Just(Field::HighJoined)
    ];
    let text = prop_oneof![Just(TextKind::Decimal), Just(TextKind::Hex), Just(TextKind::Bits)];
    (bits, order, field, text).prop_map(|(bits, byte_order, field, text)| ReaderProfile {
        bits,
        byte_order,
        field,
        text,
    })
}

proptest! {
    #[test]
    fn a_written_number_reads_back(profile in any_profile(), number: u32, other: u32) {
        prop_assume!(profile.validate().is_ok());
        let known = profile.read(&profile.write(number).unwrap()).unwrap();
        prop_assert!(known.matches(number));
        prop_assert_eq!(known.matches(other) && other != number, profile.confuses(number, other));
        if let Some(read) = known.number() { prop_assert_eq!(read, number); }
    }

    #[test]
    fn forms_round_trip(number: u32) {
        for form in Form::ALL {
            let known = form.parse(&form.print(number)).unwrap();
            prop_assert_eq!(known.value(), number & form.mask());
        }
    }

    #[test]
    fn arbitrary_text_never_panics(profile in any_profile(), text in ".{0,80}") {
        let _ = profile.read(&text);
        for form in Form::ALL { let _ = form.parse(&text); }
        let _ = WiegandBits::W26.decode(&text);
        let _ = WiegandBits::W34.decode(&text);
    }

    #[test]
    fn digits_and_commas_never_panic(profile in any_profile(), text in "[0-9a-fA-F,，０-９ ]{0,70}") {
        if let Ok(known) = profile.read(&text) {
            let again = profile.write(known.value()).unwrap();
            prop_assert_eq!(profile.read(&again).unwrap(), known);
        }
        for form in Form::ALL { let _ = form.parse(&text); }
    }
}
