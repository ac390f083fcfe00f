//! Vectors M1-M10 and T1-T5 on the pure codec, round trips, and bad input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use Direction::{Reply, Request};
use proptest::prelude::*;

const M: [(&str, Direction, &str); 13] = [
    ("M1", Request, "01050000ff008c3a"),
    ("M1 echo", Reply, "01050000ff008c3a"),
    ("M2", Request, "010500000000cdca"),
    ("M3", Request, "01050001ff00ddfa"),
    ("M4", Request, "0101000000083dcc"),
    ("M4 reply", Reply, "01010102d049"),
    ("M5", Request, "01020000000879cc"),
    ("M5 reply", Reply, "01020105618b"),
    ("M6", Request, "010f0000000801ffbed5"),
    ("M6 reply", Reply, "010f00000008540d"),
    ("M7", Request, "0105020000078db0"),
    ("M8", Request, "fe1000030002040004000a416b"),
    ("M9", Reply, "018102c191"),
];

#[test]
fn vectors_m1_to_m10() {
    for (name, direction, text) in M.into_iter().chain([("M10", Request, "010500ffff00bc0a")]) {
        let bytes = hex::decode(text).unwrap();
        let (adu, len) = decode(Framing::Rtu, direction, &bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len(), "{name}");
        assert_eq!((adu.unit, &adu.pdu[..]), (bytes[0], &bytes[1..len - 2]), "{name}");
        assert_eq!(hex::encode(encode(Framing::Rtu, &adu)), text, "{name}");
    }
}

#[test]
fn vectors_t1_to_t5() {
    for (name, direction, text) in [
        ("T1", Request, "000100000006010100000008"),
        ("T1 reply", Reply, "00010000000401010104"),
        ("T2", Request, "00020000000601050003ff00"),
        ("T2 reply", Reply, "00020000000601050003ff00"),
        ("T3", Request, "000400000008010f00000008010a"),
        ("T3 reply", Reply, "000400000006010f00000008"),
        ("T4", Request, "000600000006010101000008"),
        ("T4 reply", Reply, "000600000003018102"),
        ("T5", Request, "000700000006090100000008"),
        ("T5 reply", Reply, "000700000003098104"),
        ("T5 reply of a gateway", Reply, "00070000000309810b"),
    ] {
        let bytes = hex::decode(text).unwrap();
        let (adu, len) = decode(Framing::Tcp, direction, &bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len(), "{name}");
        assert_eq!((adu.unit, &adu.pdu[..]), (bytes[6], &bytes[7..]), "{name}");
        assert_eq!(hex::encode(encode(Framing::Tcp, &adu)), text, "{name}");
    }
}

#[test]
fn incomplete_frames_wait_and_broken_ones_are_named() {
    for (_, direction, text) in M {
        let bytes = hex::decode(text).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(decode(Framing::Rtu, direction, &bytes[..cut]), Ok(None));
        }
        let mut broken = bytes.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert!(matches!(decode(Framing::Rtu, direction, &broken), Err(FrameError::Crc { .. })));
    }
    let tcp = |text: &str| decode(Framing::Tcp, Reply, &hex::decode(text).unwrap());
    assert_eq!(tcp("0001000100040101"), Err(FrameError::Protocol(1)));
    assert_eq!(tcp("00010000000101"), Err(FrameError::Length(1)));
    assert_eq!(tcp("0001000000ff01"), Err(FrameError::Length(255)));
    assert_eq!(decode(Framing::Rtu, Request, &[1, 0x2B]), Err(FrameError::Function(0x2B)));
}

fn any_framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Tcp), Just(Framing::Rtu)]
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Request), Just(Reply)]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        framing in any_framing(), direction in any_direction(), bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(Some((adu, len))) = decode(framing, direction, &bytes) {
            prop_assert!(len <= bytes.len());
            prop_assert_eq!(encode(framing, &adu), &bytes[..len]);
        }
    }

    #[test]
    fn tcp_round_trips(transaction: u16, unit: u8, pdu in prop::collection::vec(any::<u8>(), 1..=PDU_LEN_BYTES_MAX)) {
        let adu = Adu { transaction, unit, pdu };
        let bytes = encode(Framing::Tcp, &adu);
        prop_assert!(bytes.len() <= FRAME_LEN_BYTES_MAX);
        prop_assert_eq!(decode(Framing::Tcp, Reply, &bytes), Ok(Some((adu, bytes.len()))));
    }
}

/// A count is a byte, and a frame with as many bytes as it can say is longer than any: what decodes can be sent again.
#[test]
fn a_serial_frame_longer_than_any_is_refused_at_its_count() {
    for (direction, head, most) in [(Reply, &[1, 3][..], 251), (Request, &[1, 16, 0, 0, 0, 2][..], 247)] {
        let frame = |count: u8| {
            let mut frame = [head, &[count]].concat();
            frame.resize(frame.len() + usize::from(count), 7);
            frame.extend(crc16(&frame).to_le_bytes());
            frame
        };
        let longest = frame(most);
        let (adu, length) = decode(Framing::Rtu, direction, &longest).unwrap().unwrap();
        assert_eq!((adu.pdu.len(), length), (PDU_LEN_BYTES_MAX, longest.len()));
        assert_eq!(encode(Framing::Rtu, &adu), longest);
        let refused = decode(Framing::Rtu, direction, &frame(most + 1)[..7]);
        assert_eq!(refused, Err(FrameError::TooLong(PDU_LEN_BYTES_MAX + 1)));
    }
}
