//! Frames on a stream, and the greeting: pure codecs without a socket.
//!
//! A frame is `length u32 BE | version u8 | payload`, the length counting the payload only.
//! Leaves to others: what a payload means, and the streams (`peer`).

use serde::{Deserialize, Serialize};
use yika_crdt::wire::FRAME_BYTES_MAX;

/// Version of the frame form.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 5;
/// Oldest sync protocol spoken.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest sync protocol spoken.
pub const PROTOCOL_MAX: u16 = 1;
/// Longest software name in a greeting; a longer one is cut by the sender, refused by the receiver.
pub const SOFTWARE_BYTES_MAX: usize = 64;
/// Longest greeting frame; room for fields of newer versions.
pub const GREETING_BYTES_MAX: usize = 1 << 10;
/// Most memory that a length promises before its bytes arrive.
pub(crate) const PIECE_BYTES_MAX: usize = 16 << 10;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the limit.
    #[error("a frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Length announced or given.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A form of a newer protocol.
    #[error("frame version {0}; this side knows {FRAME_VERSION}")]
    Version(u8),
}

/// The header of a payload of `payload_bytes`.
pub(crate) fn header(payload_bytes: usize) -> Result<[u8; FRAME_HEADER_BYTES], FrameError> {
    let too_long = FrameError::TooLong { bytes: payload_bytes, limit: FRAME_BYTES_MAX };
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(too_long);
    }
    let [a, b, c, d] = u32::try_from(payload_bytes).map_err(|_| too_long)?.to_be_bytes();
    Ok([a, b, c, d, FRAME_VERSION])
}

/// The payload length that a header announces, checked against `limit`.
pub(crate) fn payload_bytes(header: [u8; FRAME_HEADER_BYTES], limit: usize) -> Result<usize, FrameError> {
    let [a, b, c, d, version] = header;
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    let bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(FrameError::TooLong { bytes, limit });
    }
    Ok(bytes)
}

/// Header and payload in one piece.
pub fn encode_frame(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut bytes = header(payload.len())?.to_vec();
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Takes bytes as they come and gives whole frames back; holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    header: Vec<u8>,
    body: Vec<u8>,
    body_bytes: Option<usize>,
}

impl FrameDecoder {
    /// Reads from the front of `input` and moves it on; `Ok(None)` when more bytes are needed.
    ///
    /// After an error the stream has no meaning any more and must be closed.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let bytes = match self.body_bytes {
            Some(bytes) => bytes,
            None => {
                take(input, &mut self.header, FRAME_HEADER_BYTES);
                let Ok(header) = <[u8; FRAME_HEADER_BYTES]>::try_from(self.header.as_slice()) else {
                    return Ok(None);
                };
                let bytes = payload_bytes(header, FRAME_BYTES_MAX)?;
                self.body_bytes = Some(bytes);
                bytes
            }
        };
        take(input, &mut self.body, bytes);
        if self.body.len() < bytes {
            return Ok(None);
        }
        self.header.clear();
        self.body_bytes = None;
        Ok(Some(std::mem::take(&mut self.body)))
    }
}

fn take(input: &mut &[u8], into: &mut Vec<u8>, until: usize) {
    let (now, rest) = input.split_at(input.len().min(until - into.len()));
    into.extend_from_slice(now);
    *input = rest;
}

/// First frame in each direction on the control stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// Oldest sync protocol the sender speaks.
    pub protocol_min: u16,
    /// Newest sync protocol the sender speaks.
    pub protocol_max: u16,
    /// Program and version, for status pages.
    pub software: String,
}

/// Why a greeting is no basis to talk on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The bytes are not a greeting.
    #[error("malformed greeting: {0}")]
    Malformed(&'static str),
    /// The other side is newer than this one.
    #[error(
        "protocols {theirs_min} to {theirs_max} are newer than {PROTOCOL_MAX}, the newest known here: upgrade {who} first"
    )]
    TheyAreNewer {
        /// Oldest of theirs.
        theirs_min: u16,
        /// Newest of theirs.
        theirs_max: u16,
        /// Which side is older and must be upgraded.
        who: &'static str,
    },
    /// The other side is older than this one.
    #[error(
        "protocols {theirs_min} to {theirs_max} are older than {PROTOCOL_MIN}, the oldest known here: upgrade {who} first"
    )]
    TheyAreOlder {
        /// Oldest of theirs.
        theirs_min: u16,
        /// Newest of theirs.
        theirs_max: u16,
        /// Which side is older and must be upgraded.
        who: &'static str,
    },
}

impl Greeting {
    /// This build's greeting.
    pub fn ours(software: &str) -> Self {
        let mut end = software.len().min(SOFTWARE_BYTES_MAX);
        while !software.is_char_boundary(end) {
            end -= 1;
        }
        Self { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, software: software[..end].to_owned() }
    }

    /// Bytes of the frame's payload.
    pub fn encode(&self) -> Vec<u8> {
        yika_crdt::wire::encode(self)
    }

    /// Reads a greeting; bytes after the known fields belong to newer versions and are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, GreetingError> {
        if bytes.len() > GREETING_BYTES_MAX {
            return Err(GreetingError::Malformed("too long"));
        }
        let (greeting, _newer) = postcard::take_from_bytes::<Self>(bytes)
            .map_err(|_| GreetingError::Malformed("not the fields of a greeting"))?;
        if greeting.protocol_min > greeting.protocol_max {
            return Err(GreetingError::Malformed("its versions end before they begin"));
        }
        if greeting.software.len() > SOFTWARE_BYTES_MAX {
            return Err(GreetingError::Malformed("its software name is too long"));
        }
        Ok(greeting)
    }

    /// The newest protocol both speak. `us` and `them` name the two sides in words ("the hub", "this box").
    pub fn agree(&self, us: &'static str, them: &'static str) -> Result<u16, GreetingError> {
        let (theirs_min, theirs_max) = (self.protocol_min, self.protocol_max);
        if theirs_min > PROTOCOL_MAX {
            return Err(GreetingError::TheyAreNewer { theirs_min, theirs_max, who: us });
        }
        if theirs_max < PROTOCOL_MIN {
            return Err(GreetingError::TheyAreOlder { theirs_min, theirs_max, who: them });
        }
        Ok(theirs_max.min(PROTOCOL_MAX))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip_however_they_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            cut in 1usize..40,
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|p| encode_frame(p).unwrap()).collect();
            let (mut decoder, mut seen) = (FrameDecoder::default(), Vec::new());
            for mut piece in stream.chunks(cut) {
                while let Some(frame) = decoder.next(&mut piece).unwrap() {
                    seen.push(frame);
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert_eq!(seen, payloads);
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_promise_memory(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut decoder, mut input) = (FrameDecoder::default(), bytes.as_slice());
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            prop_assert!(decoder.body.capacity() <= 1024);
        }

        #[test]
        fn arbitrary_greetings_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(greeting) = Greeting::decode(&bytes) {
                prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
            }
        }
    }

    #[test]
    fn lengths_over_the_limit_and_other_versions_are_refused() {
        let mut input: &[u8] = &[0xff, 0xff, 0xff, 0xff, FRAME_VERSION];
        assert!(matches!(FrameDecoder::default().next(&mut input), Err(FrameError::TooLong { .. })));
        let mut input: &[u8] = &[0, 0, 0, 1, 9, 0];
        assert_eq!(FrameDecoder::default().next(&mut input), Err(FrameError::Version(9)));
        assert!(encode_frame(&vec![0; FRAME_BYTES_MAX]).is_ok());
        assert!(encode_frame(&vec![0; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_newer_peer_is_told_who_must_be_upgraded() {
        let newer = Greeting { protocol_min: 7, protocol_max: 9, software: String::new() };
        let said = newer.agree("the hub", "the box").unwrap_err().to_string();
        assert!(said.contains("upgrade the hub first"), "{said}");
        let older = Greeting { protocol_min: 0, protocol_max: 0, software: String::new() };
        let said = older.agree("the hub", "the box").unwrap_err().to_string();
        assert!(said.contains("upgrade the box first"), "{said}");
        let mut bytes = Greeting::ours("yika 0.1").encode();
        bytes.extend_from_slice(b"fields of tomorrow");
        assert_eq!(Greeting::decode(&bytes).unwrap().agree("", ""), Ok(PROTOCOL_MAX));
    }
}
