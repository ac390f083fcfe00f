//! Which door hardware hangs on this box: named lines with their boards, a part of the edge's configuration.
//!
//! A door of the campus policy names its hardware as `modbus:BOARD/DOOR`: a board by its name, a door by its number in
//! that board's wiring. Leaves to others: addresses, polarity and timings of a board (`drivers::modbus::profile`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use yika_drivers::door::DoorRef;
use yika_drivers::modbus::{BoardProfile, BusConfig, Transport};

/// Most lines of one box.
pub const LINES_MAX: usize = 32;
/// Longest name of a line or board, in characters.
pub const NAME_CHARS_MAX: usize = 40;

/// Door hardware of this box, a part of its configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorsConfig {
    /// Modbus lines.
    pub bus: Vec<ModbusLine>,
}

/// A named Modbus line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusLine {
    /// Its name in messages and alarms.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// What hangs on it.
    pub boards: Vec<BoardProfile>,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("door hardware: {}", problems.join("; "))]
pub struct DoorsConfigError {
    /// One sentence each, with place and mending.
    pub problems: Vec<String>,
}

impl DoorsConfig {
    /// Checks everything that can be known without the hardware.
    ///
    /// # Errors
    /// All problems found.
    pub fn validate(&self) -> Result<(), DoorsConfigError> {
        let mut problems = Vec::new();
        if self.bus.len() > LINES_MAX {
            problems.push(format!("bus: {} lines, at most {LINES_MAX}; put some on another box", self.bus.len()));
        }
        let (mut lines, mut boards) = (BTreeSet::new(), BTreeSet::new());
        for line in &self.bus {
            check_name(&mut problems, "bus", &line.name);
            if !lines.insert(&line.name) {
                problems.push(format!("bus {:?}: the name is used twice; names tell lines apart", line.name));
            }
            for board in &line.boards {
                check_name(&mut problems, "board", &board.name);
                if !boards.insert(&board.name) {
                    let name = &board.name;
                    problems.push(format!("board {name:?}: the name is used twice on this box; doors are found by it"));
                }
            }
            if let Err(error) = line.driver().validate() {
                problems.extend(error.problems.into_iter().map(|problem| format!("bus {:?}: {problem}", line.name)));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(DoorsConfigError { problems }) }
    }
}

impl ModbusLine {
    /// The driver's part.
    pub(super) fn driver(&self) -> BusConfig {
        BusConfig { transport: self.transport.clone(), boards: self.boards.clone() }
    }

    /// Every door on the line with the name by which the policy finds it.
    pub(super) fn devices(&self) -> impl Iterator<Item = (DoorRef, String)> + '_ {
        let named = |board: &BoardProfile, door: DoorRef| format!("modbus:{}/{}", board.name, door.0);
        self.boards.iter().flat_map(move |b| b.doors.iter().map(move |d| (d.door, named(b, d.door))))
    }
}

fn check_name(problems: &mut Vec<String>, what: &str, name: &str) {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    if !fits || name.trim() != name || name.chars().any(|c| c.is_control() || c == '/') {
        problems.push(format!(
            "{what} {name:?}: a name has 1 to {NAME_CHARS_MAX} characters, no slash, and no space at its ends"
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    const SAMPLE: &str = r#"
        [[bus]]
        name = "north hall"
        transport = { kind = "tcp", address = "10.0.8.21:502" }
        [[bus.boards]]
        name = "board1"
        pulse = { method = "flash_coil" }
        fire = { input = 8 }
        [[bus.boards.doors]]
        door = 1
        relay = 1
        contact = { input = 1 }
        exit_button = { input = 3 }
        escape = true
    "#;

    #[test]
    fn the_sample_is_read_and_its_doors_have_names() {
        let config: DoorsConfig = toml::from_str(SAMPLE).unwrap();
        assert_eq!(config.validate(), Ok(()));
        let devices: Vec<_> = config.bus[0].devices().collect();
        assert_eq!(devices, [(DoorRef(1), "modbus:board1/1".to_owned())]);
        let again: DoorsConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    const COMMENTED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/edge.toml"));

    /// The commented examples of the installed settings, each line by itself and without its comment signs.
    fn examples() -> Vec<String> {
        let bare = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
        let lines: Vec<String> = COMMENTED.lines().filter_map(bare).collect();
        let begins = |line: &&String| *line == "[[doors.bus]]";
        let first = lines.iter().position(|line| begins(&line)).unwrap();
        let mut examples: Vec<String> = Vec::new();
        for line in &lines[first..] {
            if begins(&line) {
                examples.push(String::new());
            }
            *examples.last_mut().unwrap() += &format!("{line}\n");
        }
        examples
    }

    #[derive(Deserialize)]
    struct Settings {
        doors: DoorsConfig,
    }

    #[test]
    fn every_commented_example_can_be_used_as_it_stands() {
        let examples = examples();
        let read =
            |text: &str| toml::from_str::<Settings>(text).unwrap_or_else(|error| panic!("{error}\n{text}")).doors;
        let kinds: Vec<Transport> = examples.iter().map(|text| read(text).bus[0].transport.clone()).collect();
        let [Transport::Tcp { .. }, Transport::RtuOverTcp { .. }, Transport::Rtu { .. }] = kinds.as_slice() else {
            panic!("{kinds:?}");
        };
        for doors in examples.iter().map(|text| read(text)).chain([read(&examples.concat())]) {
            assert_eq!(doors.validate(), Ok(()));
            let locks: Vec<_> = doors.bus.iter().flat_map(|line| &line.boards).flat_map(|board| &board.doors).collect();
            assert!(!locks.is_empty() && locks.iter().all(|lock| lock.contact.is_some()), "{locks:?}");
        }
    }

    #[test]
    fn the_first_example_names_every_key_with_its_built_in_value() {
        let example = &examples()[0];
        let said: DoorsConfig = toml::from_str::<Settings>(example).unwrap().doors;
        let text = toml::to_string(&said).unwrap();
        for key in text.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key)) {
            assert!(example.lines().any(|line| line.starts_with(key) || line.contains(&format!("{key} = "))), "{key}");
        }
        // What is built in need not be written: without it the same is read.
        let built_in = ["unit", "response", "relays", "coil", "inputs", "input_base", "verify", "poll", "line_lost"];
        let built_in = [&built_in[..], &["unlock", "escape", "held"]].concat();
        let short = example.lines().filter(|line| !built_in.iter().any(|key| line.starts_with(key)));
        let short = short.map(|line| line.replace(", level = \"on\"", "") + "\n").collect::<String>();
        assert!(short.len() < example.len() - 200, "{short}");
        assert_eq!(toml::from_str::<Settings>(&short).unwrap().doors, said);
    }

    #[test]
    fn a_bare_number_for_an_input_is_answered_with_its_form() {
        let error = toml::from_str::<DoorsConfig>(&SAMPLE.replace("{ input = 3 }", "3")).unwrap_err().to_string();
        assert!(error.contains("an input such as { input = 1 }") && !error.contains("struct"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_told_and_not_ignored() {
        for (right, wrong) in [("escape", "escpae"), ("relay =", "relais ="), ("transport", "transprot")] {
            let error = toml::from_str::<DoorsConfig>(&SAMPLE.replace(right, wrong)).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{wrong}: {error}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let mut config: DoorsConfig = toml::from_str(SAMPLE).unwrap();
        let mut twin = config.bus[0].clone();
        twin.boards[0].doors[0].relay = 99;
        config.bus.push(twin);
        config.bus[0].boards[0].name = "a/b".into();
        config.bus.push(ModbusLine { name: String::new(), ..config.bus[0].clone() });
        let said = config.validate().unwrap_err().to_string();
        for wanted in
            ["bus \"north hall\": the name is used twice", "relay 99 is outside 1..=8", "board \"a/b\"", "bus \"\""]
        {
            assert!(said.contains(wanted), "{wanted} is not in: {said}");
        }
    }
}
