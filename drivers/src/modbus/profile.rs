//! Board profiles: addresses, polarity, pulse method, timings. Everything in which boards differ.
//!
//! Relays and inputs are numbered from 1, as printed on the boards. Leaves to others: where the
//! configuration is stored and who may change it.

use super::frame::Framing;
use crate::door::{DoorRef, PULSE_MS_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Boards on one line: with more, a poll round at 9600 baud takes longer than a second.
pub const BOARDS_PER_BUS_MAX: usize = 16;
/// Relays or inputs of one board that the driver reads at once.
pub const CHANNELS_PER_BOARD_MAX: u16 = 64;

/// One line: how it is reached and what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// How the line is reached.
    pub transport: Transport,
    /// The boards on it.
    pub boards: Vec<BoardProfile>,
}

/// How a line is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "a way to the board such as { kind = \"tcp\", address = \"10.0.8.21:502\" }"
)]
pub enum Transport {
    /// Modbus TCP, usually port 502.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A converter's transparent port (8234, 4196, 10000 ...): RTU frames over TCP.
    RtuOverTcp {
        /// `host:port`.
        address: String,
    },
    /// A serial line, 8 data bits.
    Rtu {
        /// Device file, such as `/dev/ttyUSB0`.
        path: String,
        /// Bits per second.
        #[serde(default = "default_baud")]
        baud: u32,
        /// Parity bit.
        #[serde(default)]
        parity: Parity,
    },
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// 8N1, the boards' default.
    #[default]
    None,
    /// 8E1.
    Even,
    /// 8O1.
    Odd,
}

/// One board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// For messages and events.
    pub name: String,
    /// Unit address, 1-247; 254 is "any device" on some boards, usable only when the board also answers
    /// as 254; 255 is what some Modbus TCP boards call themselves. 0 (broadcast) is never answered.
    #[serde(default = "default_unit")]
    pub unit: u8,
    /// Address of relay 1.
    #[serde(default)]
    pub coil_base: u16,
    /// Number of relays.
    #[serde(default = "default_channels")]
    pub relays: u16,
    /// Address of input 1.
    #[serde(default)]
    pub input_base: u16,
    /// Number of inputs; 0 = a board without inputs.
    #[serde(default = "default_channels")]
    pub inputs: u16,
    /// Who times a pulse.
    pub pulse: PulseMethod,
    /// Read the relay after unlocking and fail the command when it did not move.
    #[serde(default = "default_true")]
    pub verify_relay: bool,
    /// Fire signal, if wired to this board. It frees the escape doors of the whole line.
    #[serde(default)]
    pub fire: Option<InputWiring>,
    /// Pause between two polls of the inputs, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u32,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "default_response_timeout_ms")]
    pub response_timeout_ms: u32,
    /// Failures in a row after which the line counts as lost.
    #[serde(default = "default_lost_after")]
    pub line_lost_after_failures: u32,
    /// The doors.
    pub doors: Vec<DoorWiring>,
}

/// Who times a pulse. Prefer the board: then a dead edge cannot leave a door open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "method",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "who times a pulse, such as { method = \"edge_timed\" }"
)]
pub enum PulseMethod {
    /// Function 05 at `on_base` + relay - 1 with the time in 100 ms (Waveshare); `off_base` for relays
    /// that unlock by switching off.
    FlashCoil {
        /// Address of "on, then off" of relay 1.
        #[serde(default = "default_flash_on")]
        on_base: u16,
        /// Address of "off, then on" of relay 1.
        #[serde(default = "default_flash_off")]
        off_base: u16,
    },
    /// Function 10 with (mode, time in 100 ms) at `base` + 5 x (relay - 1) (聚英 type).
    Registers {
        /// Address of the two words of relay 1.
        #[serde(default = "default_pulse_register")]
        base: u16,
        /// Distance between relays.
        #[serde(default = "default_pulse_stride")]
        stride: u16,
        /// 2 or 4: sources disagree which one is on-then-off, so try it on the board.
        mode: u16,
    },
    /// On and off written by the edge. If the edge dies in between, the door stays unlocked until the
    /// edge is back: it then locks every door before anything else.
    EdgeTimed,
}

/// Level of a coil or an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// 1, energised, current flows.
    #[default]
    On,
    /// 0.
    Off,
}

impl Level {
    /// Whether a read bit has this level.
    pub fn is(self, bit: bool) -> bool {
        bit == self.bit()
    }

    /// The bit of this level.
    pub fn bit(self) -> bool {
        self == Level::On
    }
}

/// An input and the level at which it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an input such as { input = 1 }, or with its level { input = 1, level = \"off\" }"
)]
pub struct InputWiring {
    /// Input number from 1.
    pub input: u16,
    /// Level that means: door closed, button pressed, fire.
    #[serde(default)]
    pub level: Level,
}

/// One door on a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorWiring {
    /// The door's number, unique on the line.
    pub door: DoorRef,
    /// Relay number from 1.
    pub relay: u16,
    /// Relay level that unlocks: `off` for active-low boards and locks fed through the other contact.
    #[serde(default)]
    pub unlock_level: Level,
    /// Door contact; `level` means closed. Without it an opening can never be reported.
    #[serde(default)]
    pub contact: Option<InputWiring>,
    /// Exit button; `level` means pressed.
    #[serde(default)]
    pub exit_button: Option<InputWiring>,
    /// On an escape route: the fire signal frees it.
    #[serde(default)]
    pub escape: bool,
    /// How long the leaf may stand open, in milliseconds (ACS-24); counted from the end of a pulse. Where a door of the
    /// policy names this lock, the policy's own time holds.
    #[serde(default = "default_held_open_ms")]
    pub held_open_ms: u32,
}

impl Transport {
    /// Wrapping of the frames.
    pub fn framing(&self) -> Framing {
        match self {
            Transport::Tcp { .. } => Framing::Tcp,
            Transport::RtuOverTcp { .. } | Transport::Rtu { .. } => Framing::Rtu,
        }
    }

    /// Silence that must pass between two frames: 3.5 characters, at least 2 ms on a serial line.
    pub fn frame_gap(&self) -> Duration {
        match self {
            Transport::Tcp { .. } => Duration::ZERO,
            Transport::RtuOverTcp { .. } => Duration::from_millis(2),
            Transport::Rtu { baud, .. } => {
                // 3.5 characters of 11 bits.
                let micros = 38_500_000_u64.div_ceil(u64::from((*baud).max(1)));
                Duration::from_micros(micros.max(2_000))
            }
        }
    }
}

impl BusConfig {
    /// Every door on the line.
    pub fn doors(&self) -> impl Iterator<Item = DoorRef> + '_ {
        self.boards.iter().flat_map(|board| board.doors.iter().map(|door| door.door))
    }

    /// Everything that is wrong, each in words that say where and how to mend it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        self.check_transport(&mut problems);
        if self.boards.is_empty() {
            problems.push("boards: at least one is needed".to_owned());
        }
        if self.boards.len() > BOARDS_PER_BUS_MAX {
            let count = self.boards.len();
            problems.push(format!("boards: {count} on one line, at most {BOARDS_PER_BUS_MAX}; use a second line"));
        }
        let (mut units, mut doors) = (BTreeSet::new(), BTreeSet::new());
        for board in &self.boards {
            if !units.insert(board.unit) {
                problems.push(format!("board {:?}: unit {} is used twice on this line", board.name, board.unit));
            }
            for door in &board.doors {
                if !doors.insert(door.door) {
                    problems.push(format!("board {:?}: door {} is used twice", board.name, door.door));
                }
            }
            board.check(&mut problems);
        }
        if self.boards.len() > 1 && units.contains(&254) {
            problems.push("unit 254 means any device: it cannot share a line with other boards".to_owned());
        }
        if self.transport.framing() == Framing::Rtu && units.contains(&255) {
            problems.push("unit 255 exists on Modbus TCP only; set the board's own address".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    fn check_transport(&self, problems: &mut Vec<String>) {
        match &self.transport {
            Transport::Tcp { address } | Transport::RtuOverTcp { address } => {
                let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                if port.is_none_or(|port| port == 0) {
                    problems.push(format!("transport.address: {address:?} is not host:port, such as 10.0.8.21:502"));
                }
            }
            Transport::Rtu { path, baud, .. } => {
                if path.is_empty() {
                    problems.push("transport.path: name the serial device, such as /dev/ttyUSB0".to_owned());
                }
                if !(1_200..=921_600).contains(baud) {
                    problems.push(format!("transport.baud: {baud} is outside 1200..=921600"));
                }
            }
        }
    }
}

impl BoardProfile {
    fn check(&self, problems: &mut Vec<String>) {
        let mut say = |text: String| problems.push(format!("board {:?}: {text}", self.name));
        if !matches!(self.unit, 1..=247 | 254 | 255) {
            say(format!("unit {} is outside 1..=247 (254 = any device); 0 is never answered", self.unit));
        }
        if !(1..=CHANNELS_PER_BOARD_MAX).contains(&self.relays) {
            say(format!("relays = {} is outside 1..={CHANNELS_PER_BOARD_MAX}", self.relays));
        }
        if self.inputs > CHANNELS_PER_BOARD_MAX {
            say(format!("inputs = {} is above {CHANNELS_PER_BOARD_MAX}", self.inputs));
        }
        if self.coil_base.checked_add(self.relays).is_none() || self.input_base.checked_add(self.inputs).is_none() {
            say("coil_base or input_base runs past address 65535".to_owned());
        }
        if !(50..=1_000).contains(&self.poll_ms) {
            say(format!("poll_ms = {} is outside 50..=1000; 100 to 200 suits doors", self.poll_ms));
        }
        if !(20..=5_000).contains(&self.response_timeout_ms) {
            say(format!("response_timeout_ms = {} is outside 20..=5000", self.response_timeout_ms));
        }
        if !(1..=10).contains(&self.line_lost_after_failures) {
            say(format!("line_lost_after_failures = {} is outside 1..=10", self.line_lost_after_failures));
        }
        if let PulseMethod::Registers { base, stride, mode } = self.pulse {
            if mode != 2 && mode != 4 {
                say(format!("pulse.mode = {mode}: it is 2 or 4, try on the board which one ends by itself"));
            }
            let last = u32::from(base) + u32::from(stride) * u32::from(self.relays) + 1;
            if stride < 2 || last > 0xFFFF {
                say("pulse.stride must be at least 2 and the last relay must lie below 65536".to_owned());
            }
        }
        if let PulseMethod::FlashCoil { on_base, off_base } = self.pulse
            && (on_base.checked_add(self.relays).is_none() || off_base.checked_add(self.relays).is_none())
        {
            say("pulse.on_base or off_base runs past address 65535".to_owned());
        }
        if self.doors.is_empty() {
            say("no doors".to_owned());
        }
        self.check_doors(&mut say);
    }

    fn check_doors(&self, say: &mut impl FnMut(String)) {
        let mut relays = BTreeSet::new();
        let mut inputs = BTreeSet::new();
        let fire = self.fire.map(|wiring| ("fire".to_owned(), wiring));
        let of_doors = self.doors.iter().flat_map(|door| {
            let contact = door.contact.map(|wiring| (format!("door {} contact", door.door), wiring));
            let exit = door.exit_button.map(|wiring| (format!("door {} exit_button", door.door), wiring));
            contact.into_iter().chain(exit)
        });
        for (what, wiring) in fire.into_iter().chain(of_doors) {
            if !(1..=self.inputs).contains(&wiring.input) {
                say(format!("{what}: input {} is outside 1..={}", wiring.input, self.inputs));
            }
            if !inputs.insert(wiring.input) {
                say(format!("{what}: input {} is used twice", wiring.input));
            }
        }
        for door in &self.doors {
            if !(1..=self.relays).contains(&door.relay) {
                say(format!("door {}: relay {} is outside 1..={}", door.door, door.relay, self.relays));
            }
            if !relays.insert(door.relay) {
                say(format!("door {}: relay {} is used twice", door.door, door.relay));
            }
            if !(1_000..=600_000).contains(&door.held_open_ms) {
                say(format!("door {}: held_open_ms = {} is outside 1000..=600000", door.door, door.held_open_ms));
            }
            if door.unlock_level == Level::Off && matches!(self.pulse, PulseMethod::Registers { .. }) {
                say(format!("door {}: unlock_level off does not go with register pulses; use edge_timed", door.door));
            }
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("modbus configuration: {}", problems.join("; "))]
pub struct ConfigError {
    /// One sentence each.
    pub problems: Vec<String>,
}

/// A pulse in the boards' unit of 100 ms, rounded up.
pub fn pulse_ticks(duration_ms: u32) -> u16 {
    u16::try_from(duration_ms.min(PULSE_MS_MAX).div_ceil(100)).unwrap_or(u16::MAX)
}

fn default_baud() -> u32 {
    9_600
}
fn default_unit() -> u8 {
    1
}
fn default_channels() -> u16 {
    8
}
fn default_true() -> bool {
    true
}
fn default_poll_ms() -> u32 {
    150
}
fn default_response_timeout_ms() -> u32 {
    300
}
fn default_lost_after() -> u32 {
    2
}
fn default_flash_on() -> u16 {
    0x0200
}
fn default_flash_off() -> u16 {
    0x0400
}
fn default_pulse_register() -> u16 {
    3
}
fn default_pulse_stride() -> u16 {
    5
}
fn default_held_open_ms() -> u32 {
    15_000
}

#[cfg(test)]
mod tests;
