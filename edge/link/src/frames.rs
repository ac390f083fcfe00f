//! Frames on a stream, whatever carries it, and the greeting.
//!
//! A frame is `length u32 BE | version u8 | payload`, the length counting the payload only.
//! Leaves to others: what a payload means, and the streams (`peer`).

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use yika_crdt::wire::FRAME_BYTES_MAX;

/// Version of the frame form.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 5;
/// Newest sync protocol spoken.
pub const PROTOCOL_MAX: u16 = Protocols::SPOKEN.max;
/// Longest software name in a greeting; a longer one is cut by the sender, refused by the receiver.
pub const SOFTWARE_BYTES_MAX: usize = 64;
/// Longest greeting frame; room for fields of newer versions.
pub const GREETING_BYTES_MAX: usize = 1 << 10;
/// Most memory that a length promises before its bytes arrive.
const PIECE_BYTES_MAX: usize = 16 << 10;

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
fn payload_bytes(header: [u8; FRAME_HEADER_BYTES], limit: usize) -> Result<usize, FrameError> {
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

/// Why a frame could not be read or written.
#[derive(Debug)]
pub enum StreamError {
    /// The bytes are wrong.
    Frame(FrameError),
    /// Stream or connection ended.
    Ended,
}

/// One frame of at most `limit` bytes.
///
/// # Errors
/// It is too long, of another form, or the stream ended.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Vec<u8>, StreamError> {
    let bytes = read_header(stream, limit).await?;
    read_body(stream, bytes).await
}

/// The length of the payload that follows.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<usize, StreamError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(|_| StreamError::Ended)?;
    payload_bytes(header, limit).map_err(StreamError::Frame)
}

/// Reads in pieces: memory grows with what arrived, not with what was announced.
pub(crate) async fn read_body(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> Result<Vec<u8>, StreamError> {
    let mut payload = Vec::new();
    while payload.len() < bytes {
        let start = payload.len();
        let piece = (bytes - start).min(PIECE_BYTES_MAX);
        payload.resize(start + piece, 0);
        let read = stream.read(&mut payload[start..]).await.map_err(|_| StreamError::Ended)?;
        if read == 0 {
            return Err(StreamError::Ended);
        }
        payload.truncate(start + read);
    }
    Ok(payload)
}

/// One frame; `Err` when it is too long or the connection ended.
pub(crate) async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> Result<(), StreamError> {
    let frame = encode_frame(payload).map_err(StreamError::Frame)?;
    stream.write_all(&frame).await.map_err(|_| StreamError::Ended)
}

/// Which sync protocols a program speaks, from the oldest to the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocols {
    /// Oldest.
    pub min: u16,
    /// Newest.
    pub max: u16,
}

impl Protocols {
    /// Those of this build.
    pub const SPOKEN: Protocols = Protocols { min: 1, max: 1 };
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
        "protocols {theirs_min} to {theirs_max} are newer than {known}, the newest known here: upgrade {who} first"
    )]
    TheyAreNewer {
        /// Oldest of theirs.
        theirs_min: u16,
        /// Newest of theirs.
        theirs_max: u16,
        /// The nearest of ours.
        known: u16,
        /// Which side is older and must be upgraded.
        who: &'static str,
    },
    /// The other side is older than this one.
    #[error(
        "protocols {theirs_min} to {theirs_max} are older than {known}, the oldest known here: upgrade {who} first"
    )]
    TheyAreOlder {
        /// Oldest of theirs.
        theirs_min: u16,
        /// Newest of theirs.
        theirs_max: u16,
        /// The nearest of ours.
        known: u16,
        /// Which side is older and must be upgraded.
        who: &'static str,
    },
}

impl Greeting {
    /// This build's greeting.
    pub fn ours(software: &str) -> Self {
        Self::of(Protocols::SPOKEN, software)
    }

    /// The greeting of a program that speaks these.
    pub fn of(protocols: Protocols, software: &str) -> Self {
        let mut end = software.len().min(SOFTWARE_BYTES_MAX);
        while !software.is_char_boundary(end) {
            end -= 1;
        }
        Self { protocol_min: protocols.min, protocol_max: protocols.max, software: software[..end].to_owned() }
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
    pub fn agree(&self, ours: Protocols, us: &'static str, them: &'static str) -> Result<u16, GreetingError> {
        let (theirs_min, theirs_max) = (self.protocol_min, self.protocol_max);
        if theirs_min > ours.max {
            return Err(GreetingError::TheyAreNewer { theirs_min, theirs_max, known: ours.max, who: us });
        }
        if theirs_max < ours.min {
            return Err(GreetingError::TheyAreOlder { theirs_min, theirs_max, known: ours.min, who: them });
        }
        Ok(theirs_max.min(ours.max))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use tokio::io::ReadBuf;

    /// A stream that gives at most `cut` bytes at once, and notes how much it was asked for.
    struct Pieces<'b> {
        bytes: &'b [u8],
        cut: usize,
        asked_max: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            self.asked_max = self.asked_max.max(into.remaining());
            let (now, rest) = self.bytes.split_at(self.bytes.len().min(self.cut).min(into.remaining()));
            into.put_slice(now);
            self.bytes = rest;
            Poll::Ready(Ok(()))
        }
    }

    /// All frames of a stream, and why there is no further one.
    fn read_all(stream: &mut Pieces<'_>) -> (Vec<Vec<u8>>, StreamError) {
        let mut frames = Vec::new();
        loop {
            let mut reading = pin!(read_frame(stream, FRAME_BYTES_MAX));
            match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(frame)) => frames.push(frame),
                Poll::Ready(Err(error)) => return (frames, error),
                Poll::Pending => panic!("what is there is read at once"),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_round_trip_however_they_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            cut in 1usize..40,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| encode_frame(p).unwrap()).collect();
            let mut stream = Pieces { bytes: &bytes, cut, asked_max: 0 };
            let (seen, end) = read_all(&mut stream);
            prop_assert_eq!(seen, payloads);
            prop_assert!(matches!(end, StreamError::Ended));
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_promise_memory(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = Pieces { bytes: &bytes, cut: usize::MAX, asked_max: 0 };
            read_all(&mut stream);
            prop_assert!(stream.asked_max <= PIECE_BYTES_MAX);
        }

        #[test]
        fn a_length_is_no_promise_of_memory(announced in PIECE_BYTES_MAX..=FRAME_BYTES_MAX, came in 0usize..200) {
            let mut bytes = header(announced).unwrap().to_vec();
            bytes.resize(FRAME_HEADER_BYTES + came, 7);
            let mut stream = Pieces { bytes: &bytes, cut: usize::MAX, asked_max: 0 };
            let (seen, end) = read_all(&mut stream);
            prop_assert!(seen.is_empty() && matches!(end, StreamError::Ended));
            prop_assert!(stream.asked_max <= PIECE_BYTES_MAX);
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
        let refused = |bytes: &[u8]| read_all(&mut Pieces { bytes, cut: usize::MAX, asked_max: 0 }).1;
        let endless = refused(&[0xff, 0xff, 0xff, 0xff, FRAME_VERSION]);
        assert!(matches!(endless, StreamError::Frame(FrameError::TooLong { .. })));
        assert!(matches!(refused(&[0, 0, 0, 1, 9, 0]), StreamError::Frame(FrameError::Version(9))));
        assert!(encode_frame(&vec![0; FRAME_BYTES_MAX]).is_ok());
        assert!(encode_frame(&vec![0; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_newer_peer_is_told_who_must_be_upgraded() {
        let newer = Greeting { protocol_min: 7, protocol_max: 9, software: String::new() };
        let said = newer.agree(Protocols::SPOKEN, "the hub", "the box").unwrap_err().to_string();
        assert!(said.contains("upgrade the hub first"), "{said}");
        let older = Greeting { protocol_min: 0, protocol_max: 0, software: String::new() };
        let said = older.agree(Protocols::SPOKEN, "the hub", "the box").unwrap_err().to_string();
        assert!(said.contains("upgrade the box first"), "{said}");
        let mut bytes = Greeting::ours("yika 0.1").encode();
        bytes.extend_from_slice(b"fields of tomorrow");
        assert_eq!(Greeting::decode(&bytes).unwrap().agree(Protocols::SPOKEN, "", ""), Ok(PROTOCOL_MAX));
        let both = Greeting::of(Protocols { min: 1, max: 4 }, "yika 0.9");
        assert_eq!(both.agree(Protocols { min: 2, max: 3 }, "", ""), Ok(3), "the newest that both speak");
    }
}
