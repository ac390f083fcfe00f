//! Canonical bytes: one encoder and one bounded decoder for everything that is stored or sent.
//!
//! Leaves to others: framing on a socket (`link`) and what the values mean.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame, batch or chunk that any node sends or accepts.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest single entry; what is larger is refused before it is parsed.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

/// Why bytes are not a value of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than the limit for its kind.
    #[error("{bytes} bytes exceed the limit of {limit}")]
    TooLong {
        /// Length seen.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// Not the encoding of such a value.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
    /// The same value has another, shorter encoding.
    #[error("not the canonical encoding of its value")]
    NotCanonical,
    /// An amount that no row can come to.
    #[error("an amount is out of range")]
    OutOfRange,
}

/// Canonical bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Our types hold no maps with failing keys and no unsized sequences, the only errors this encoder knows.
    postcard::to_stdvec(value).unwrap_or_default()
}

/// Reads one value; refuses bytes over `limit`, trailing bytes and other encodings of the same value.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    let value = decode_lenient::<T>(bytes, limit)?;
    if encode(&value) != bytes {
        return Err(WireError::NotCanonical);
    }
    Ok(value)
}

/// Reads one value whose canonical form does not matter (nothing is hashed over it).
pub fn decode_lenient<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong { bytes: bytes.len(), limit });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|e| WireError::Malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;

    #[test]
    fn refuses_padding_and_tails() {
        assert_eq!(decode::<Seq>(&[5], 10), Ok(Seq(5)));
        assert_eq!(decode::<Seq>(&[0x85, 0x00], 10), Err(WireError::NotCanonical));
        assert_eq!(decode::<Seq>(&[5, 5], 10), Err(WireError::Trailing(1)));
        assert_eq!(decode::<Seq>(&[5, 5], 1), Err(WireError::TooLong { bytes: 2, limit: 1 }));
        assert!(matches!(decode::<Seq>(&[0x80], 10), Err(WireError::Malformed(_))));
    }
}
