//! Why a connection ended: numbered codes that travel, and the reason as the caller sees it.
//!
//! Leaves to others: the words of each refusal (they are made where the refusal is decided).

use crate::tls;
use std::fmt;

/// Longest words sent with a close; longer ones are cut at a character boundary.
pub const CLOSE_WORDS_BYTES_MAX: usize = 512;

/// QUIC error codes that carry a TLS alert (RFC 9001, section 4.8).
const TLS_ALERT_CODES: std::ops::Range<u64> = 0x100..0x200;

/// The number that travels with a close. Codes of this crate are below 1,000; callers use 1,000 and above.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CloseCode(pub u32);

impl CloseCode {
    /// Ended on purpose, nothing wrong.
    pub const NORMAL: CloseCode = CloseCode(0);
    /// The process stops.
    pub const SHUTDOWN: CloseCode = CloseCode(1);
    /// Another connection of the same peer took over.
    pub const REPLACED: CloseCode = CloseCode(2);
    /// No client certificate was shown on the sync protocol.
    pub const NO_CERTIFICATE: CloseCode = CloseCode(10);
    /// The node was fenced.
    pub const FENCED: CloseCode = CloseCode(11);
    /// The registry does not know the node.
    pub const UNKNOWN: CloseCode = CloseCode(12);
    /// A newer life of the node exists.
    pub const OLD_INCARNATION: CloseCode = CloseCode(13);
    /// The two sides share no protocol version, or one said what the protocol forbids.
    pub const PROTOCOL: CloseCode = CloseCode(20);
    /// What was said cannot be taken at present: a full disk, a registry that is on its way. Passes by itself.
    pub const UNAVAILABLE: CloseCode = CloseCode(21);
    /// A frame is longer than the limit.
    pub const FRAME_TOO_LONG: CloseCode = CloseCode(30);
    /// Bytes that are not of this protocol.
    pub const MALFORMED: CloseCode = CloseCode(31);
    /// This endpoint does not enrol anybody.
    pub const NO_ENROLMENT: CloseCode = CloseCode(40);
    /// Too many attempts to enrol.
    pub const TOO_MANY_ATTEMPTS: CloseCode = CloseCode(41);

    /// True where trying again soon cannot help and an operator must act first.
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::NO_CERTIFICATE | Self::FENCED | Self::UNKNOWN | Self::OLD_INCARNATION | Self::PROTOCOL)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NORMAL => "normal",
            Self::SHUTDOWN => "shutdown",
            Self::REPLACED => "replaced",
            Self::NO_CERTIFICATE => "no certificate",
            Self::FENCED => "fenced",
            Self::UNKNOWN => "unknown node",
            Self::OLD_INCARNATION => "old incarnation",
            Self::PROTOCOL => "protocol",
            Self::UNAVAILABLE => "unavailable",
            Self::FRAME_TOO_LONG => "frame too long",
            Self::MALFORMED => "malformed",
            Self::NO_ENROLMENT => "no enrolment here",
            Self::TOO_MANY_ATTEMPTS => "too many attempts",
            _ => return write!(f, "code {}", self.0),
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    /// The other side closed it and said why.
    #[error("closed by the other side: {code}: {words}")]
    ByPeer {
        /// Its code.
        code: CloseCode,
        /// Its words.
        words: String,
    },
    /// This side closed it.
    #[error("closed by this side: {code}: {words}")]
    ByUs {
        /// Our code.
        code: CloseCode,
        /// Our words.
        words: String,
    },
    /// TLS failed on either side (foreign certificate, wrong peer, no shared protocol).
    #[error("the handshake was refused: {words}")]
    Handshake {
        /// What TLS said.
        words: String,
    },
    /// The other process restarted and does not know the connection.
    #[error("the other side restarted")]
    Reset,
    /// Nothing was heard within the idle time.
    #[error("nothing heard from the other side within the idle time")]
    TimedOut,
    /// A fault of the transport below.
    #[error("transport: {words}")]
    Transport {
        /// What it said.
        words: String,
    },
}

impl CloseReason {
    /// The code that the other side closed with, if it did.
    pub fn by_peer(&self) -> Option<CloseCode> {
        match self {
            Self::ByPeer { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The code that travelled, if one did.
    pub fn code(&self) -> Option<CloseCode> {
        match self {
            Self::ByPeer { code, .. } | Self::ByUs { code, .. } => Some(*code),
            _ => None,
        }
    }

    fn below(code: u64, words: &str) -> Self {
        let words = clip(tls::plain(words)).to_owned();
        if TLS_ALERT_CODES.contains(&code) { Self::Handshake { words } } else { Self::Transport { words } }
    }

    pub(crate) fn from_quinn(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::ByPeer {
                code: CloseCode(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)),
                words: clip(&String::from_utf8_lossy(&close.reason)).to_owned(),
            },
            E::ConnectionClosed(close) => Self::below(close.error_code.into(), &close.to_string()),
            E::TransportError(error) => Self::below(error.code.into(), &error.to_string()),
            E::Reset => Self::Reset,
            E::TimedOut => Self::TimedOut,
            E::LocallyClosed => Self::ByUs { code: CloseCode::NORMAL, words: "closed".to_owned() },
            other => Self::Transport { words: other.to_string() },
        }
    }
}

/// Words cut to [`CLOSE_WORDS_BYTES_MAX`] at a character boundary.
pub(crate) fn clip(words: &str) -> &str {
    let mut end = words.len().min(CLOSE_WORDS_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters() {
        let long = "园".repeat(400);
        assert!(clip(&long).len() <= CLOSE_WORDS_BYTES_MAX);
        assert!(clip(&long).chars().all(|c| c == '园'));
        assert_eq!(clip("short"), "short");
    }
}
