//! The memory and the timers of the simulated board. Pure: the moment is an argument.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Coil address that switches every relay (Waveshare).
const ALL_RELAYS: u16 = 0x00FF;
const FLASH_ON: u16 = 0x0200;
const FLASH_OFF: u16 = 0x0400;
const PULSE_REGISTERS: u16 = 3;
const PULSE_STRIDE: u16 = 5;
/// Register mode taken as "on, then off".
const PULSE_MODE_ON: u16 = 4;
/// Register mode taken as "off, then on".
const PULSE_MODE_OFF: u16 = 2;
/// "Any device" address of some boards.
const ANY_UNIT: u8 = 0xFE;

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;

/// What the simulated board is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedBoard {
    /// Unit address.
    pub unit: u8,
    /// Number of relays, at most 64.
    pub relays: u16,
    /// Number of inputs, at most 64.
    pub inputs: u16,
    /// Doors that hang on the relays.
    pub doors: Vec<SimulatedDoor>,
}

/// A door whose contact follows its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedDoor {
    /// Relay that unlocks when on; from 1.
    pub relay: u16,
    /// Input of the contact, on when closed; from 1.
    pub contact: u16,
    /// How long after unlocking somebody pulls the door open, in milliseconds.
    pub open_after_ms: u32,
    /// How long it then stays open, in milliseconds.
    pub close_after_ms: u32,
}

impl Default for SimulatedBoard {
    /// Unit 1, eight relays and inputs; door 1 on relay 1 and input 1, door 2 on relay 2 and input 2.
    fn default() -> Self {
        let door = |number| SimulatedDoor { relay: number, contact: number, open_after_ms: 100, close_after_ms: 400 };
        SimulatedBoard { unit: 1, relays: 8, inputs: 8, doors: vec![door(1), door(2)] }
    }
}

/// One thing that changed; relays and inputs are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum BoardChange {
    /// A relay switched.
    Relay {
        /// Which one.
        relay: u16,
        /// To what.
        on: bool,
    },
    /// An input switched.
    Input {
        /// Which one.
        input: u16,
        /// To what.
        on: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Board {
    config: SimulatedBoard,
    relays: Vec<Relay>,
    inputs: Vec<bool>,
    doors: Vec<Leaf>,
    nobody_there: bool,
}

#[derive(Debug, Clone, Default)]
struct Relay {
    on: bool,
    /// When the pulse ends, and the state after it.
    pulse: Option<(Instant, bool)>,
    times_switched_on: u32,
    times_pulsed: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Leaf {
    unlocked_at: Option<Instant>,
    open_since: Option<Instant>,
    /// One visitor per unlocking.
    passed: bool,
}

impl Board {
    pub(super) fn new(mut config: SimulatedBoard) -> Self {
        config.relays = config.relays.min(64);
        config.inputs = config.inputs.min(64);
        let mut inputs = vec![false; usize::from(config.inputs)];
        for door in &config.doors {
            if let Some(contact) = slot(&mut inputs, door.contact) {
                *contact = true;
            }
        }
        Board {
            relays: vec![Relay::default(); usize::from(config.relays)],
            inputs,
            doors: vec![Leaf::default(); config.doors.len()],
            nobody_there: false,
            config,
        }
    }

    pub(super) fn is_addressed(&self, unit: u8) -> bool {
        unit == self.config.unit || unit == ANY_UNIT || unit == 0
    }

    pub(super) fn relay(&self, relay: u16) -> bool {
        relay.checked_sub(1).and_then(|at| self.relays.get(usize::from(at))).is_some_and(|relay| relay.on)
    }

    pub(super) fn times_switched_on(&self, relay: u16) -> u32 {
        relay.checked_sub(1).and_then(|at| self.relays.get(usize::from(at))).map_or(0, |relay| relay.times_switched_on)
    }

    pub(super) fn times_pulsed(&self, relay: u16) -> u32 {
        relay.checked_sub(1).and_then(|at| self.relays.get(usize::from(at))).map_or(0, |relay| relay.times_pulsed)
    }

    pub(super) fn set_input(&mut self, input: u16, on: bool, now: Instant) -> Vec<BoardChange> {
        let mut changes = self.tick(now);
        self.put_input(input, on, &mut changes);
        changes
    }

    pub(super) fn set_nobody_there(&mut self, nobody: bool, now: Instant) -> Vec<BoardChange> {
        let changes = self.tick(now);
        self.nobody_there = nobody;
        changes
    }

    pub(super) fn power_cycle(&mut self, relays_on: bool, now: Instant) -> Vec<BoardChange> {
        let mut changes = self.tick(now);
        for at in 0..self.config.relays {
            self.switch(at, relays_on, None, now, &mut changes);
        }
        changes
    }

    /// Lets time pass: pulses end, people pull doors open and let them fall shut.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<BoardChange> {
        let mut changes = Vec::new();
        for at in 0..self.config.relays {
            if let Some((end, after)) = self.relays[usize::from(at)].pulse
                && end <= now
            {
                self.switch(at, after, None, now, &mut changes);
            }
        }
        for index in 0..self.doors.len() {
            self.move_leaf(index, now, &mut changes);
        }
        changes
    }

    fn move_leaf(&mut self, index: usize, now: Instant, changes: &mut Vec<BoardChange>) {
        let config = self.config.doors[index].clone();
        let leaf = &mut self.doors[index];
        let due = |since: Option<Instant>, ms: u32| {
            since.is_some_and(|since| since + Duration::from_millis(u64::from(ms)) <= now)
        };
        if leaf.open_since.is_some() {
            if due(leaf.open_since, config.close_after_ms) {
                leaf.open_since = None;
                self.put_input(config.contact, true, changes);
            }
        } else if !leaf.passed && !self.nobody_there && due(leaf.unlocked_at, config.open_after_ms) {
            leaf.open_since = Some(now);
            leaf.passed = true;
            self.put_input(config.contact, false, changes);
        }
    }

    /// Carries out a request PDU: the reply PDU and what changed.
    pub(super) fn serve(&mut self, pdu: &[u8], now: Instant) -> (Vec<u8>, Vec<BoardChange>) {
        let mut changes = Vec::new();
        let reply = match *pdu {
            [function @ (1 | 2), a0, a1, c0, c1] => {
                self.read(function, u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1]))
            }
            [5, a0, a1, v0, v1] => self
                .write_coil(u16::from_be_bytes([a0, a1]), u16::from_be_bytes([v0, v1]), now, &mut changes)
                .map(|()| pdu.to_vec()),
            [0x0F, a0, a1, c0, c1, count, ref data @ ..] if data.len() == usize::from(count) => self
                .write_coils(u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1]), data, now, &mut changes)
                .map(|()| pdu[..5].to_vec()),
            [0x10, a0, a1, 0, 2, 4, m0, m1, t0, t1] => self
                .pulse_registers(
                    u16::from_be_bytes([a0, a1]),
                    u16::from_be_bytes([m0, m1]),
                    u16::from_be_bytes([t0, t1]),
                    now,
                    &mut changes,
                )
                .map(|()| pdu[..5].to_vec()),
            [1 | 2 | 5 | 0x0F | 0x10, ..] => Err(ILLEGAL_VALUE),
            _ => Err(ILLEGAL_FUNCTION),
        };
        let function = pdu.first().copied().unwrap_or(0);
        (reply.unwrap_or_else(|code| vec![function | 0x80, code]), changes)
    }

    fn read(&self, function: u8, start: u16, count: u16) -> Result<Vec<u8>, u8> {
        let bits: Vec<bool> = match function {
            1 => self.relays.iter().map(|relay| relay.on).collect(),
            _ => self.inputs.clone(),
        };
        let (start, count) = (usize::from(start), usize::from(count));
        if count == 0 {
            return Err(ILLEGAL_VALUE);
        }
        let bits = bits.get(start..start + count).ok_or(ILLEGAL_ADDRESS)?;
        let packed = bits.chunks(8).map(|byte| byte.iter().rev().fold(0u8, |acc, bit| acc << 1 | u8::from(*bit)));
        let mut reply = vec![function, u8::try_from(count.div_ceil(8)).map_err(|_| ILLEGAL_VALUE)?];
        reply.extend(packed);
        Ok(reply)
    }

    fn write_coil(&mut self, address: u16, value: u16, now: Instant, changes: &mut Vec<BoardChange>) -> Result<(), u8> {
        let relays = self.config.relays;
        let on = match value {
            0xFF00 => Ok(true),
            0 => Ok(false),
            _ => Err(ILLEGAL_VALUE),
        };
        match address {
            ALL_RELAYS => {
                let on = on?;
                for at in 0..relays {
                    self.switch(at, on, None, now, changes);
                }
            }
            _ if address < relays => self.switch(address, on?, None, now, changes),
            _ if (FLASH_ON..FLASH_ON + relays).contains(&address) => {
                self.pulse(address - FLASH_ON, true, value, now, changes);
            }
            _ if (FLASH_OFF..FLASH_OFF + relays).contains(&address) => {
                self.pulse(address - FLASH_OFF, false, value, now, changes);
            }
            _ => return Err(ILLEGAL_ADDRESS),
        }
        Ok(())
    }

    fn write_coils(
        &mut self,
        start: u16,
        count: u16,
        data: &[u8],
        now: Instant,
        changes: &mut Vec<BoardChange>,
    ) -> Result<(), u8> {
        if count == 0 || data.len() != usize::from(count).div_ceil(8) {
            return Err(ILLEGAL_VALUE);
        }
        let end = start.checked_add(count).filter(|end| *end <= self.config.relays).ok_or(ILLEGAL_ADDRESS)?;
        for at in start..end {
            let bit = usize::from(at - start);
            self.switch(at, data[bit / 8] >> (bit % 8) & 1 == 1, None, now, changes);
        }
        Ok(())
    }

    fn pulse_registers(
        &mut self,
        address: u16,
        mode: u16,
        ticks: u16,
        now: Instant,
        changes: &mut Vec<BoardChange>,
    ) -> Result<(), u8> {
        let offset = address.checked_sub(PULSE_REGISTERS).ok_or(ILLEGAL_ADDRESS)?;
        let relay = offset / PULSE_STRIDE;
        if !offset.is_multiple_of(PULSE_STRIDE) || relay >= self.config.relays {
            return Err(ILLEGAL_ADDRESS);
        }
        match mode {
            PULSE_MODE_ON => self.pulse(relay, true, ticks, now, changes),
            PULSE_MODE_OFF => self.pulse(relay, false, ticks, now, changes),
            _ => return Err(ILLEGAL_VALUE),
        }
        Ok(())
    }

    fn pulse(&mut self, at: u16, on: bool, ticks: u16, now: Instant, changes: &mut Vec<BoardChange>) {
        let end = now + Duration::from_millis(u64::from(ticks) * 100);
        self.relays[usize::from(at)].times_pulsed += 1;
        self.switch(at, on, Some((end, !on)), now, changes);
    }

    fn switch(
        &mut self,
        at: u16,
        on: bool,
        pulse: Option<(Instant, bool)>,
        now: Instant,
        changes: &mut Vec<BoardChange>,
    ) {
        let relay = &mut self.relays[usize::from(at)];
        relay.pulse = pulse;
        if relay.on == on {
            return;
        }
        relay.on = on;
        relay.times_switched_on += u32::from(on);
        let number = at + 1;
        changes.push(BoardChange::Relay { relay: number, on });
        for (door, leaf) in self.config.doors.iter().zip(&mut self.doors) {
            if door.relay == number {
                leaf.unlocked_at = on.then_some(now);
                leaf.passed = leaf.passed && !on;
            }
        }
    }

    fn put_input(&mut self, input: u16, on: bool, changes: &mut Vec<BoardChange>) {
        if let Some(bit) = slot(&mut self.inputs, input)
            && std::mem::replace(bit, on) != on
        {
            changes.push(BoardChange::Input { input, on });
        }
    }
}

/// The place of a number that starts at 1.
fn slot(bits: &mut [bool], number: u16) -> Option<&mut bool> {
    bits.get_mut(usize::from(number.checked_sub(1)?))
}
