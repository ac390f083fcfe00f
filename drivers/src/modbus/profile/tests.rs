//! A configuration as written by hand, and every way to get it wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "transport": {"kind": "rtu_over_tcp", "address": "10.0.8.21:8234"},
        "boards": [{
            "name": "gate",
            "pulse": {"method": "flash_coil"},
            "fire": {"input": 8, "level": "off"},
            "doors": [
                {"door": 1, "relay": 1, "contact": {"input": 1}, "exit_button": {"input": 2}, "escape": true},
                {"door": 2, "relay": 2, "unlock_level": "off", "contact": {"input": 3, "level": "off"}},
            ],
        }],
    })
}

fn parse(value: Value) -> Result<BusConfig, serde_json::Error> {
    serde_json::from_value(value)
}

#[test]
fn a_short_configuration_gets_the_customary_values() {
    let config = parse(good()).unwrap();
    config.validate().unwrap();
    let board = &config.boards[0];
    assert_eq!((board.unit, board.coil_base, board.relays, board.input_base, board.inputs), (1, 0, 8, 0, 8));
    assert_eq!(board.pulse, PulseMethod::FlashCoil { on_base: 0x0200, off_base: 0x0400 });
    assert_eq!((board.poll_ms, board.line_lost_after_failures, board.verify_relay), (150, 2, true));
    assert_eq!(board.doors[0].held_open_ms, 15_000);
    assert_eq!(config.doors().collect::<Vec<_>>(), [DoorRef(1), DoorRef(2)]);
    let again = parse(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let serial = json!({"kind": "rtu", "path": "/dev/ttyUSB0"});
    let serial: Transport = serde_json::from_value(serial).unwrap();
    assert_eq!(serial.frame_gap(), Duration::from_micros(4_011));
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let door = |wiring: Value| json!([wiring]);
    for (place, value, words) in [
        ("/transport/address", json!("10.0.8.21"), "not host:port"),
        ("/transport/address", json!("10.0.8.21:0"), "not host:port"),
        ("/boards", json!([]), "at least one"),
        ("/boards/0/unit", json!(0), "unit 0 is outside"),
        ("/boards/0/unit", json!(250), "unit 250 is outside"),
        ("/boards/0/unit", json!(255), "Modbus TCP only"),
        ("/boards/0/relays", json!(65), "relays = 65"),
        ("/boards/0/coil_base", json!(65_535), "past address 65535"),
        ("/boards/0/poll_ms", json!(10), "poll_ms = 10"),
        ("/boards/0/response_timeout_ms", json!(0), "response_timeout_ms = 0"),
        ("/boards/0/line_lost_after_failures", json!(0), "line_lost_after_failures = 0"),
        ("/boards/0/pulse", json!({"method": "registers", "mode": 1}), "it is 2 or 4"),
        ("/boards/0/pulse", json!({"method": "registers", "mode": 4, "base": 65_535}), "below 65536"),
        ("/boards/0/pulse", json!({"method": "registers", "mode": 4}), "use edge_timed"),
        ("/boards/0/pulse", json!({"method": "flash_coil", "on_base": 65_535}), "past address 65535"),
        ("/boards/0/doors", json!([]), "no doors"),
        ("/boards/0/doors", door(json!({"door": 1, "relay": 0})), "relay 0 is outside"),
        ("/boards/0/doors", door(json!({"door": 1, "relay": 9})), "relay 9 is outside 1..=8"),
        ("/boards/0/doors", door(json!({"door": 1, "relay": 1, "contact": {"input": 9}})), "input 9 is outside"),
        ("/boards/0/doors", door(json!({"door": 1, "relay": 1, "contact": {"input": 8}})), "input 8 is used twice"),
        ("/boards/0/doors", door(json!({"door": 1, "relay": 1, "held_open_ms": 5})), "held_open_ms = 5"),
        ("/boards/0/doors", json!([{"door": 1, "relay": 1}, {"door": 1, "relay": 2}]), "door d1 is used twice"),
        ("/boards/0/doors", json!([{"door": 1, "relay": 1}, {"door": 2, "relay": 1}]), "relay 1 is used twice"),
    ] {
        let mut config = good();
        match config.pointer_mut(place) {
            Some(found) => *found = value.clone(),
            None => {
                let (parent, key) = place.rsplit_once('/').unwrap();
                config.pointer_mut(parent).unwrap()[key] = value.clone();
            }
        }
        let error = parse(config).unwrap().validate().unwrap_err().to_string();
        assert!(error.contains(words), "{place} = {value}: {error}");
    }
}

#[test]
fn boards_on_one_line_do_not_share_addresses() {
    let mut config = good();
    let board = config["boards"][0].clone();
    config["boards"].as_array_mut().unwrap().push(board);
    let error = parse(config.clone()).unwrap().validate().unwrap_err();
    assert!(error.problems.iter().any(|text| text.contains("unit 1 is used twice")), "{error}");
    assert!(error.problems.iter().any(|text| text.contains("door d1 is used twice")), "{error}");
    config["boards"][1]["unit"] = json!(254);
    let error = parse(config).unwrap().validate().unwrap_err();
    assert!(error.problems.iter().any(|text| text.contains("254 means any device")), "{error}");
}

#[test]
fn unknown_and_misspelt_keys_are_refused() {
    for (place, key) in [("", "baud"), ("/transport", "port"), ("/boards/0", "poll"), ("/boards/0/doors/0", "relais")] {
        let mut config = good();
        config.pointer_mut(place).unwrap()[key] = json!(1);
        assert!(parse(config).unwrap_err().to_string().contains(key), "{place} {key}");
    }
    let mut config = good();
    config["boards"][0].as_object_mut().unwrap().remove("pulse");
    assert!(parse(config).unwrap_err().to_string().contains("pulse"), "who times a pulse must be said");
}

#[test]
fn pulse_time_is_rounded_up_to_the_boards_unit() {
    assert_eq!([100, 101, 700, 120_000, u32::MAX].map(pulse_ticks), [1, 2, 7, 1_200, 1_200]);
}
