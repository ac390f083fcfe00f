//! What devices send: Modbus frames, card numbers, the terminals' interface.

use super::MEMORY_BYTES_MAX;
use crate::target::{Seen, Target, refused, taken};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use yika_drivers::card_format::{
    ByteOrder, Field, Form, ReaderProfile, TextKind, WiegandBits, enrolment_lines, readings,
};
use yika_drivers::modbus::frame::{Adu, Direction, Framing, crc16, decode, encode};
use yika_drivers::terminal::list::HeldList;
use yika_drivers::terminal::message::{
    Batch, BatchAnswer, BlockLine, CardLine, Heartbeat, HeartbeatAnswer, ListDelta, ParametersAnswer, Problem,
    Purchase, Refund, Reversal, SaleAnswer, SignIn, SignedIn, Swipe, SwipeAnswer, TimeAnswer, Totals,
};
use yika_drivers::terminal::sign::{Signed, verify_answer};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "modbus-tcp",
        about: "Modbus frames over TCP",
        input_bytes_max: 2 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: |bytes| modbus(Framing::Tcp, bytes),
        seeds: || frames(Framing::Tcp),
    },
    Target {
        name: "modbus-rtu",
        about: "Modbus frames on a serial line, with the checksum as it should be and as it is",
        input_bytes_max: 2 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: rtu,
        seeds: || frames(Framing::Rtu),
    },
    Target {
        name: "card",
        about: "what a card reader types: every form and profile",
        input_bytes_max: 512,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: card,
        seeds: cards,
    },
    Target {
        name: "terminal",
        about: "the terminals' interface: bodies of requests and answers",
        input_bytes_max: 16 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: terminal,
        seeds: bodies,
    },
    Target {
        name: "signature",
        about: "the terminals' interface: signed headers",
        input_bytes_max: 2 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: signature,
        seeds: headers,
    },
];

fn modbus(framing: Framing, bytes: &[u8]) -> Seen {
    let mut seen = Vec::new();
    for direction in [Direction::Request, Direction::Reply] {
        let mut rest = bytes;
        let mut frames = 0;
        seen.push(loop {
            match decode(framing, direction, rest) {
                Ok(Some((adu, length))) => {
                    assert!(length > 0 && length <= rest.len(), "a frame of {length} bytes out of {}", rest.len());
                    assert_eq!(encode(framing, &adu), rest[..length], "encoded again it is another frame");
                    rest = &rest[length..];
                    frames += 1;
                }
                other => break (frames.min(9), other.map_err(|error| refused(&error))),
            }
        });
    }
    format!("{seen:?}")
}

fn rtu(bytes: &[u8]) -> Seen {
    let as_it_is = modbus(Framing::Rtu, bytes);
    let body = bytes.get(..bytes.len().saturating_sub(2)).unwrap_or_default();
    let mended = [body, &crc16(body).to_le_bytes()].concat();
    as_it_is + &modbus(Framing::Rtu, &mended)
}

fn frames(framing: Framing) -> Vec<Vec<u8>> {
    let pdus: [&[u8]; 10] = [
        &[1, 0, 0, 0, 8],
        &[1, 1, 0b101],
        &[2, 0, 0, 0, 8],
        &[2, 1, 0],
        &[5, 0, 2, 0xff, 0],
        &[15, 0, 0, 0, 4, 1, 0b1111],
        &[15, 0, 0, 0, 4],
        &[16, 0, 3, 0, 2, 4, 0, 4, 0, 10],
        &[0x85, 2],
        &[3, 4, 0, 7, 0, 7],
    ];
    let adu = |pdu: &&[u8]| encode(framing, &Adu { transaction: 1, unit: 1, pdu: pdu.to_vec() });
    pdus.iter().map(adu).collect()
}

fn card(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let mut seen = Vec::new();
    for form in Form::ALL {
        let read = form.parse(text);
        if let Ok(part) = &read {
            assert_eq!(part.mask(), form.mask());
            let again = form.parse(&form.print(part.value()));
            assert_eq!(again.as_ref(), Ok(part), "printed as {form} it is another number");
        }
        seen.push(read.is_ok());
    }
    for profile in profiles() {
        let read = profile.read(text);
        if let Ok(part) = read {
            let written = profile.write(part.value());
            assert_eq!(written.and_then(|text| profile.read(&text)), Ok(part), "{profile:?}");
            let lines = enrolment_lines(part, &profile);
            assert!(lines.iter().any(|line| line.presented && line.text.is_some()), "{profile:?}");
        }
        seen.push(read.is_ok() || profile.read_long(text).is_some());
    }
    for bits in [WiegandBits::W26, WiegandBits::W34] {
        if let Ok(value) = bits.decode(text) {
            assert_eq!(bits.encode(value.value()), text);
        }
    }
    match readings(text) {
        Ok(read) => format!("{seen:?} {} {} {}", read.chips.len(), read.partial, read.number.is_some()),
        Err(error) => format!("{seen:?} {}", refused(&error)),
    }
}

/// Every profile that does not contradict itself.
fn profiles() -> impl Iterator<Item = ReaderProfile> {
    let all = [WiegandBits::W26, WiegandBits::W34].into_iter().flat_map(|bits| {
        [ByteOrder::Canonical, ByteOrder::Reversed].into_iter().flat_map(move |byte_order| {
            let fields = [Field::Full, Field::Low24, Field::High24, Field::Joined, Field::HighJoined];
            fields.into_iter().flat_map(move |field| {
                let texts = [TextKind::Decimal, TextKind::Hex, TextKind::Bits];
                texts.into_iter().map(move |text| ReaderProfile { bits, byte_order, field, text })
            })
        })
    });
    all.filter(|profile| profile.validate().is_ok())
}

fn cards() -> Vec<Vec<u8>> {
    let texts = [
        "0188626486",
        "0B3E3636",
        "062,13878",
        "06213878",
        "04 A1 B2 C3 D4 E5 80",
        "04A1B2C3D4E5F607",
        "10011111000110110001101101",
        "0000010110011111000110110001101101",
        "０１８８６２６４８６",
        " 0062004881 ",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Reads a body as one type; what it takes, it writes, and takes again.
fn body<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, bytes: &[u8], seen: &mut Vec<Seen>) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).unwrap_or_default();
        let again = serde_json::from_slice::<T>(&written);
        assert!(again.is_ok_and(|again| again == value), "{name} written and read is another");
        seen.push(format!("{name} {}", taken(&value)));
    }
}

fn terminal(bytes: &[u8]) -> Seen {
    let mut seen = Vec::new();
    body::<Purchase>("purchase", bytes, &mut seen);
    body::<Reversal>("reversal", bytes, &mut seen);
    body::<Refund>("refund", bytes, &mut seen);
    body::<Batch>("batch", bytes, &mut seen);
    body::<SignIn>("sign-in", bytes, &mut seen);
    body::<Heartbeat>("heartbeat", bytes, &mut seen);
    body::<Swipe>("swipe", bytes, &mut seen);
    body::<SaleAnswer>("sold", bytes, &mut seen);
    body::<BatchAnswer>("batch taken", bytes, &mut seen);
    body::<SignedIn>("signed in", bytes, &mut seen);
    body::<HeartbeatAnswer>("alive", bytes, &mut seen);
    body::<TimeAnswer>("time", bytes, &mut seen);
    body::<SwipeAnswer>("swiped", bytes, &mut seen);
    body::<Totals>("totals", bytes, &mut seen);
    body::<ParametersAnswer>("parameters", bytes, &mut seen);
    body::<Problem>("problem", bytes, &mut seen);
    body::<ListDelta<BlockLine>>("blocks", bytes, &mut seen);
    if let Ok(Swipe { card }) = serde_json::from_slice(bytes) {
        seen.push(format!("chip {}", card.chip().is_some()));
    }
    if let Ok(delta) = serde_json::from_slice::<ListDelta<CardLine>>(bytes) {
        let mut held = HeldList::default();
        let to = delta.to;
        let applied = held.apply(delta);
        assert_eq!(held.version(), if applied.is_ok() { to } else { 0 });
        seen.push(format!("cards {applied:?}"));
    }
    if seen.is_empty() {
        serde_json::from_slice::<Purchase>(bytes).err().map_or_else(Seen::new, |e| refused(&e))
    } else {
        seen.join(";")
    }
}

fn bodies() -> Vec<Vec<u8>> {
    let id = r#"{"terminal":1,"boot":2,"seq":3}"#;
    let number = r#"{"kind":"number","number":20000001}"#;
    let sale = |card: &str, mode: &str| {
        format!(r#"{{"id":{id},"card":{card},"mode":{mode},"time_ms":1800000000000,"tariff":4}}"#)
    };
    let amount = sale(number, r#"{"kind":"amount","fen":1250}"#);
    let reader = r#"{"kind":"reader","text":"0188626486","form":"8h10d","byte_order":"reversed"}"#;
    let fixed = sale(r#"{"kind":"uid","uid":"0b3e3636"}"#, r#"{"kind":"fixed"}"#);
    let portions = sale(reader, r#"{"kind":"portions","unit_fen":300,"portions":2}"#);
    let batch = format!(r#"{{"records":[{amount},{fixed}]}}"#);
    let texts = [
        amount.as_str(),
        &fixed,
        &portions,
        &sale(number, r#"{"kind":"count"}"#),
        &format!(r#"{{"id":{id},"of":{id}}}"#),
        &format!(r#"{{"id":{id},"of":{id},"reason":"correction","fen":250,"operator":4}}"#),
        &batch,
        r#"{"model":"maker P20","firmware":"1.2.3"}"#,
        r#"{"backlog":0,"storage_percent":3,"battery_percent":90,"printer_ready":true,"held":{"parameters":1,"blocks":2,"cards":3}}"#,
        r#"{"card":{"kind":"uid","uid":"04a1b2c3d4e580"}}"#,
        &format!(
            r#"{{"id":{id},"decision":"approved","fen":1250,"balance_fen":8750,"holder":"张*","category":1,"cashier_text":{{"zh":"成功","en":"sold"}},"holder_text":{{"zh":"","en":""}},"receipt":"t1-2-3","tariff":4,"day":"2027-01-15","server_time_ms":1}}"#
        ),
        r#"{"from":0,"to":7,"put":[{"card":20000001,"chip":188626486,"category":1}],"remove":[],"hash":"00"}"#,
        r#"{"from":6,"to":7,"put":[{"card":20000001}],"remove":[5],"hash":""}"#,
        r#"{"version":4,"parameters":{"periods":[{"period":1,"name":"午餐","from_minute":630,"until_minute":810}],"fixed":[{"this_outlet":true,"category":1,"period":1,"fen":1200}],"barred":[2],"limits":[],"repeat_tap_seconds":5},"hash":"","server_time_ms":1}"#,
        r#"{"code":"bad_signature","message":{"zh":"","en":""},"mend":{"zh":"","en":""},"server_time_ms":1}"#,
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}

const KEY: [u8; 32] = [5; 32];

fn signed() -> Signed {
    Signed { terminal: 12, key_version: 1, boot: 3, time_ms: 1_800_000_000_000, nonce: 7, signature: [0; 32] }
}

/// A header a line, name and value.
fn headers() -> Vec<Vec<u8>> {
    let lines = |signed: Signed| {
        let lines = signed.headers().map(|(name, value)| format!("{name}: {value}"));
        lines.join("\n").into_bytes()
    };
    let right = signed().sign(&KEY, "POST", "/terminal/v1/purchase", b"{}");
    right.into_iter().map(lines).chain([lines(signed())]).collect()
}

fn signature(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        values.insert(name, value);
    }
    match Signed::parse(|name| values.get(name).copied()) {
        Err(error) => refused(&error),
        Ok(signed) => {
            for (name, value) in signed.headers() {
                assert_eq!(values.get(name).copied(), Some(value.as_str()), "another spelling of {name} is the same");
            }
            let right = signed.verify(&KEY, "POST", "/terminal/v1/purchase", b"{}").is_ok();
            let answer = verify_answer(&KEY, &signed.signature, 200, b"{}", text);
            format!("{right} {}", answer.is_ok())
        }
    }
}
