//! Modbus frames: RTU (address, PDU, CRC) and TCP (transaction, length, unit, PDU). Pure.
//!
//! The simulator speaks with it, and the client uses it for the one request that `tokio-modbus` cannot
//! confirm (the boards' own pulse timer).
//!
//! Leaves to others: what a PDU means (`simulator`, `line`) and timing between frames.

/// Longest PDU of the standard, in bytes.
pub const PDU_LEN_BYTES_MAX: usize = 253;
/// Longest frame of either framing, in bytes (TCP: 7 + 253).
pub const FRAME_LEN_BYTES_MAX: usize = 260;

/// How a PDU is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP: transaction number, length, unit.
    Tcp,
    /// Serial line, and transparent converters ("RTU over TCP").
    Rtu,
}

/// Which way a frame travels; RTU frames have no length field, so it decides where they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From us to the board.
    Request,
    /// From the board to us.
    Reply,
}

/// A frame without its wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adu {
    /// Transaction number; 0 in RTU.
    pub transaction: u16,
    /// Unit (slave) address.
    pub unit: u8,
    /// Function code and data.
    pub pdu: Vec<u8>,
}

/// Bytes that are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// RTU checksum.
    #[error("CRC is {got:04x}, computed {computed:04x}: noise, wrong baud rate or parity")]
    Crc {
        /// As received.
        got: u16,
        /// As computed.
        computed: u16,
    },
    /// RTU function code whose length is not known.
    #[error("function {0:#04x} is not one this driver speaks")]
    Function(u8),
    /// RTU count of bytes.
    #[error("a PDU of {0} bytes, at most {PDU_LEN_BYTES_MAX} are one: noise, or another device on the line")]
    TooLong(usize),
    /// TCP protocol number.
    #[error("protocol number is {0}, Modbus TCP has 0: is this a transparent (RTU over TCP) port?")]
    Protocol(u16),
    /// TCP length field.
    #[error("length field is {0}, outside 2..=254")]
    Length(u16),
}

/// CRC-16/MODBUS; sent low byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

/// Wraps a PDU of at most [`PDU_LEN_BYTES_MAX`] bytes (longer ones are cut, which no caller does).
pub fn encode(framing: Framing, adu: &Adu) -> Vec<u8> {
    let pdu = &adu.pdu[..adu.pdu.len().min(PDU_LEN_BYTES_MAX)];
    let mut frame = Vec::with_capacity(pdu.len() + 7);
    match framing {
        Framing::Tcp => {
            let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
            frame.extend(adu.transaction.to_be_bytes());
            frame.extend([0, 0]);
            frame.extend(length.to_be_bytes());
            frame.push(adu.unit);
            frame.extend(pdu);
        }
        Framing::Rtu => {
            frame.push(adu.unit);
            frame.extend(pdu);
            frame.extend(crc16(&frame).to_le_bytes());
        }
    }
    frame
}

/// Takes one frame from the front of `bytes`: the frame and its length, or `None` while it is incomplete.
pub fn decode(framing: Framing, direction: Direction, bytes: &[u8]) -> Result<Option<(Adu, usize)>, FrameError> {
    match framing {
        Framing::Tcp => decode_tcp(bytes),
        Framing::Rtu => decode_rtu(direction, bytes),
    }
}

fn decode_tcp(bytes: &[u8]) -> Result<Option<(Adu, usize)>, FrameError> {
    let [t0, t1, p0, p1, l0, l1, unit, rest @ ..] = bytes else {
        return Ok(None);
    };
    let protocol = u16::from_be_bytes([*p0, *p1]);
    if protocol != 0 {
        return Err(FrameError::Protocol(protocol));
    }
    let length = u16::from_be_bytes([*l0, *l1]);
    if !(2..=254).contains(&length) {
        return Err(FrameError::Length(length));
    }
    let pdu_len = usize::from(length) - 1;
    let Some(pdu) = rest.get(..pdu_len) else {
        return Ok(None);
    };
    let adu = Adu { transaction: u16::from_be_bytes([*t0, *t1]), unit: *unit, pdu: pdu.to_vec() };
    Ok(Some((adu, 7 + pdu_len)))
}

fn decode_rtu(direction: Direction, bytes: &[u8]) -> Result<Option<(Adu, usize)>, FrameError> {
    let Some(pdu_len) = rtu_pdu_len(direction, bytes)? else {
        return Ok(None);
    };
    if pdu_len > PDU_LEN_BYTES_MAX {
        return Err(FrameError::TooLong(pdu_len));
    }
    let end = 1 + pdu_len;
    let (Some(body), Some([low, high])) = (bytes.get(..end), bytes.get(end..end + 2)) else {
        return Ok(None);
    };
    let (got, computed) = (u16::from_le_bytes([*low, *high]), crc16(body));
    if got != computed {
        return Err(FrameError::Crc { got, computed });
    }
    Ok(Some((Adu { transaction: 0, unit: body[0], pdu: body[1..].to_vec() }, end + 2)))
}

/// Length of the PDU that starts at the second byte; `None` while the bytes that tell it are missing.
fn rtu_pdu_len(direction: Direction, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(function) = bytes.get(1).copied() else {
        return Ok(None);
    };
    let counted = |at: usize, before: usize| bytes.get(at).map(|count| before + usize::from(*count));
    match (direction, function) {
        (Direction::Request, 0x01..=0x06) => Ok(Some(5)),
        (Direction::Request, 0x0F | 0x10) => Ok(counted(6, 6)),
        (Direction::Reply, 0x01..=0x04) => Ok(counted(2, 2)),
        (Direction::Reply, 0x05 | 0x06 | 0x0F | 0x10) => Ok(Some(5)),
        (Direction::Reply, 0x80..) => Ok(Some(2)),
        (_, function) => Err(FrameError::Function(function)),
    }
}

#[cfg(test)]
mod tests;
