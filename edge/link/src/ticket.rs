//! One-time tokens and the line that an operator pastes on a new box: strict text forms.
//!
//! Leaves to others: which tokens are valid (the enroller) and the connection (`join`).

use crate::identity::Pin;
use crate::join::is_name;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const TOKEN_PREFIX: &str = "yika1.";
/// How a join line begins.
pub const JOIN_PREFIX: &str = "yika-join:";
const CHECK_CHARS: usize = 8;
/// Longest join string looked at.
pub const JOIN_STRING_BYTES_MAX: usize = 640;
/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Why a text is no token or join string, in words for the person who pasted it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Empty.
    #[error("the join line is empty: paste the line that `yika-hub edge token create` printed")]
    Empty,
    /// Something else was pasted.
    #[error("the join line must begin with {JOIN_PREFIX}; copy the whole line, from the beginning")]
    Prefix,
    /// A space or line break inside.
    #[error("the join line has a space or line break in it: it is one line without spaces")]
    Space,
    /// Longer than any.
    #[error("the join line is longer than {JOIN_STRING_BYTES_MAX} characters: was it pasted twice?")]
    TooLong,
    /// Parts are missing: the end was not copied.
    #[error("the join line is incomplete: copy it to its end")]
    Incomplete,
    /// The check digits do not fit.
    #[error("the check digits do not fit: a character was lost or changed in copying")]
    Check,
    /// The address.
    #[error("{0:?} is not a hub address: expected host:port, as in hub.example.org:7443 or [2001:db8::1]:7443")]
    Address(String),
    /// The pin.
    #[error("the pin in the join line is malformed")]
    Pin,
    /// The token.
    #[error("a token is {TOKEN_PREFIX} and 43 characters (letters, digits, - and _)")]
    Token,
}

/// A one-time secret of 32 bytes; as text `yika1.` and base64url. Wiped when dropped, never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// A token of given random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// A new random token.
    pub fn generate() -> Result<Self, TicketError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut()).map_err(|_| TicketError::Token)?;
        Ok(Self(secret))
    }

    /// What the hub stores instead of the token.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"yika-token/1");
        hash.update(self.0.as_slice());
        hash.finalize().into()
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text to show once.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0.as_slice())))
    }
}

impl FromStr for Token {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let encoded = text.strip_prefix(TOKEN_PREFIX).ok_or(TicketError::Token)?;
        Ok(Self(Zeroizing::new(bytes32(encoded).ok_or(TicketError::Token)?)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The line to paste: `yika-join:<host:port>/<pin>/<token>[/<name>]/<check>`; pin, token and name in base64url, eight
/// check digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinString {
    /// Hub address, `host:port`.
    pub hub_addr: String,
    /// The authority's pin.
    pub pin: Pin,
    /// The one-time token.
    pub token: Token,
    /// The name that the box is to take, if headquarters wished one.
    pub name: Option<String>,
}

impl JoinString {
    /// The parts, with the address checked.
    pub fn new(hub_addr: &str, pin: Pin, token: Token) -> Result<Self, TicketError> {
        check_address(hub_addr)?;
        Ok(Self { hub_addr: hub_addr.to_owned(), pin, token, name: None })
    }

    /// The same with the name that the box is to take.
    #[must_use]
    pub fn named(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// The line to show once.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encode = |bytes: &[u8; 32]| URL_SAFE_NO_PAD.encode(bytes);
        let body = Zeroizing::new(format!(
            "{JOIN_PREFIX}{}/{}/{}{}",
            self.hub_addr,
            encode(&self.pin.0),
            encode(self.token.secret()),
            self.name.as_ref().map_or_else(String::new, |name| format!("/{}", URL_SAFE_NO_PAD.encode(name)))
        ));
        Zeroizing::new(format!("{}/{}", *body, check_digits(&body)))
    }
}

impl FromStr for JoinString {
    type Err = TicketError;

    /// Strict; spaces and line breaks around the line are forgiven.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TicketError::Empty);
        }
        let rest = text.strip_prefix(JOIN_PREFIX).ok_or(TicketError::Prefix)?;
        if text.len() > JOIN_STRING_BYTES_MAX {
            return Err(TicketError::TooLong);
        }
        if text.contains(char::is_whitespace) {
            return Err(TicketError::Space);
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let (addr, pin, token, name, check) = match parts.as_slice() {
            [addr, pin, token, check] => (addr, pin, token, None, check),
            [addr, pin, token, name, check] => (addr, pin, token, Some(name), check),
            _ => return Err(TicketError::Incomplete),
        };
        if check.len() < CHECK_CHARS {
            return Err(TicketError::Incomplete);
        }
        let body = &text[..text.len() - check.len() - 1];
        if *check != check_digits(body) {
            return Err(TicketError::Check);
        }
        let pin = Pin(bytes32(pin).ok_or(TicketError::Pin)?);
        let token = Token::new(bytes32(token).ok_or(TicketError::Token)?);
        let name = name.map(|encoded| name_in(encoded).ok_or(TicketError::Check)).transpose()?;
        Ok(Self::new(addr, pin, token)?.named(name))
    }
}

fn name_in(encoded: &str) -> Option<String> {
    let name = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    is_name(&name).then_some(name)
}

fn check_digits(body: &str) -> String {
    hex::encode(&Sha256::digest(body)[..CHECK_CHARS / 2])
}

fn bytes32(encoded: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
    bytes.as_slice().try_into().ok()
}

/// Whether a text is the `host:port` of a hub that a box could dial.
///
/// # Errors
/// [`TicketError::Address`].
pub fn check_address(addr: &str) -> Result<(), TicketError> {
    let refuse = || TicketError::Address(addr.chars().take(80).collect());
    let (host, port) = addr.rsplit_once(':').ok_or_else(refuse)?;
    let good_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    let good_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    if good_port && good_host { Ok(()) } else { Err(refuse()) }
}

/// A name of labels or four numbers.
fn is_host(host: &str) -> bool {
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= HOST_BYTES_MAX && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;

    fn sample() -> JoinString {
        JoinString::new("hub.example.org:7443", Pin([7; 32]), Token::new([9; 32])).unwrap()
    }

    #[test]
    fn each_mistake_has_its_words() {
        let line = sample().to_text();
        let parse = |text: &str| text.parse::<JoinString>();
        assert_eq!(parse(&format!("  {}\n", *line)), Ok(sample()));
        assert_eq!(parse(" \n"), Err(TicketError::Empty));
        assert_eq!(parse(&line[3..]), Err(TicketError::Prefix));
        assert_eq!(parse(&line[..line.len() - 1]), Err(TicketError::Incomplete));
        assert_eq!(parse(&line[..line.len() - 12]), Err(TicketError::Incomplete));
        assert_eq!(parse(&line.replacen('/', "/ ", 1)), Err(TicketError::Space));
        assert_eq!(parse(&line.replacen("hub.", "hud.", 1)), Err(TicketError::Check));
        assert_eq!(parse(&format!("{}{}", *line, "x".repeat(600))), Err(TicketError::TooLong));
        for addr in [
            "",
            "hub",
            "hub:",
            ":7443",
            "hub:0",
            "hub:07443",
            "hub:70000",
            "a b:1",
            "[::1:1",
            "hub/x:1",
            "300.1.2.3:1",
            "a..b:1",
        ] {
            let made = JoinString::new(addr, Pin([0; 32]), Token::new([0; 32]));
            assert!(matches!(made, Err(TicketError::Address(_))), "{addr}");
        }
        assert!(JoinString::new("[::1]:7443", Pin([0; 32]), Token::new([0; 32])).is_ok());
    }

    #[test]
    fn the_wished_name_travels_in_the_line_and_lines_without_one_stay_readable() {
        let named = sample().named(Some("east-2 东门".into()));
        let line = named.to_text();
        assert_eq!(line.parse(), Ok(named));
        assert_eq!(line[..line.len() - 1].parse::<JoinString>(), Err(TicketError::Incomplete));
        // As printed before lines could carry a name.
        let old = "yika-join:hub.example.org:7443/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc/\
                   CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";
        let old = format!("{old}/{}", check_digits(old));
        assert_eq!(*sample().to_text(), old);
        assert_eq!(old.parse(), Ok(sample()));
        let longest = JoinString::new(&format!("{}:7443", ["a"; 127].join(".")), Pin([7; 32]), Token::new([9; 32]));
        let longest = longest.unwrap().named(Some("园".repeat(crate::join::NAME_CHARS_MAX)));
        let line = longest.to_text();
        assert_eq!(line.parse(), Ok(longest), "{} bytes", line.len());
        for bad in ["", " x", "a\nb", &"x".repeat(41)] {
            let line = sample().named(Some(bad.to_owned())).to_text();
            assert_eq!(line.parse::<JoinString>(), Err(TicketError::Check), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", sample().token), "Token(..)");
    }

    proptest! {
        #[test]
        fn lines_and_tokens_round_trip(pin: [u8; 32], secret: [u8; 32], port in 1u16..) {
            let made = JoinString::new(&format!("10.0.0.1:{port}"), Pin(pin), Token::new(secret)).unwrap();
            prop_assert_eq!(made.to_text().parse(), Ok(made.clone()));
            prop_assert_eq!(made.token.to_text().parse(), Ok(made.token));
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,80}", tail in "[A-Za-z0-9/:._-]{0,140}") {
            let _ = text.parse::<JoinString>();
            let _ = text.parse::<Token>();
            let _ = format!("yika-join:{tail}").parse::<JoinString>();
            let _ = format!("yika1.{tail}").parse::<Token>();
        }

        #[test]
        fn one_changed_character_is_found(at in 10usize..140, to in "[A-Za-z0-9]") {
            let line = sample().to_text();
            let mut changed: Vec<char> = line.chars().collect();
            let at = at % changed.len();
            let to = to.chars().next().unwrap();
            prop_assume!(changed[at] != to);
            changed[at] = to;
            let changed: String = changed.into_iter().collect();
            prop_assert!(changed.parse::<JoinString>().is_err());
        }
    }
}
