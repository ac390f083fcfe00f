//! Request and answer signatures: HMAC-SHA-256 with the terminal's key over a text of fixed lines.
//!
//! Pure: time and nonce come in as arguments. Leaves to others: who is allowed what, and the window of nonces (edge).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Header naming the terminal, decimal.
pub const TERMINAL: &str = "x-yika-terminal";
/// Header with the version of the key that signed, decimal.
pub const KEY_VERSION: &str = "x-yika-key";
/// Header with the terminal's boot number, decimal.
pub const BOOT: &str = "x-yika-boot";
/// Header with the terminal's clock, decimal milliseconds since 1970.
pub const TIME: &str = "x-yika-time";
/// Header with 16 random bytes, 32 lower-case hexadecimal digits, never used twice.
pub const NONCE: &str = "x-yika-nonce";
/// Header with the request's signature, 64 lower-case hexadecimal digits.
pub const SIGNATURE: &str = "x-yika-signature";
/// Answer header with the edge's signature, 64 lower-case hexadecimal digits.
pub const ANSWER_SIGNATURE: &str = "x-yika-answer-signature";

/// Longest path and query that is signed, in bytes.
pub const PATH_LEN_BYTES_MAX: usize = 512;
/// Length of a terminal key.
pub const KEY_LEN_BYTES: usize = 32;

/// Who signs what and when: the signed headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The terminal.
    pub terminal: u32,
    /// Version of its key.
    pub key_version: u16,
    /// Its boot number.
    pub boot: u32,
    /// Its clock, milliseconds since 1970.
    pub time_ms: i64,
    /// Drawn at random for this request.
    pub nonce: u128,
    /// HMAC-SHA-256.
    pub signature: [u8; 32],
}

/// Why headers or a signature are refused. The values themselves are never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is absent or repeated.
    #[error("header {0} is missing or given twice")]
    Missing(&'static str),
    /// A header is not of its form.
    #[error("header {name} is not {form}")]
    Malformed {
        /// Its name.
        name: &'static str,
        /// What it should be.
        form: &'static str,
    },
    /// The path is longer than [`PATH_LEN_BYTES_MAX`].
    #[error("the path is longer than {PATH_LEN_BYTES_MAX} bytes")]
    PathTooLong,
    /// The signature is not of this key and this request.
    #[error("the signature does not match: check key, key version, and that the bytes signed are the bytes sent")]
    Wrong,
}

impl Signed {
    /// Signs a request. `path` is path and query exactly as in the request line.
    ///
    /// # Errors
    /// When the path is too long.
    pub fn sign(
        self,
        key: &[u8; KEY_LEN_BYTES],
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Self, SignatureError> {
        let text = self.text(method, path, body)?;
        let signature = mac(key, text.as_bytes()).finalize().into_bytes().into();
        Ok(Signed { signature, ..self })
    }

    /// Checks the signature in constant time.
    ///
    /// # Errors
    /// When it is not of this key and request.
    pub fn verify(
        &self,
        key: &[u8; KEY_LEN_BYTES],
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        let text = self.text(method, path, body)?;
        mac(key, text.as_bytes()).verify_slice(&self.signature).map_err(|_| SignatureError::Wrong)
    }

    /// The signed text: seven lines joined by `\n`, none at the end.
    ///
    /// # Errors
    /// When the path is too long.
    pub fn text(&self, method: &str, path: &str, body: &[u8]) -> Result<String, SignatureError> {
        if path.len() > PATH_LEN_BYTES_MAX {
            return Err(SignatureError::PathTooLong);
        }
        let Signed { terminal, boot, time_ms, nonce, .. } = self;
        let body = sha256_hex(body);
        Ok(format!("{method}\n{path}\n{terminal}\n{boot}\n{time_ms}\n{nonce:032x}\n{body}"))
    }

    /// The headers to send, name and value.
    pub fn headers(&self) -> [(&'static str, String); 6] {
        [
            (TERMINAL, self.terminal.to_string()),
            (KEY_VERSION, self.key_version.to_string()),
            (BOOT, self.boot.to_string()),
            (TIME, self.time_ms.to_string()),
            (NONCE, format!("{:032x}", self.nonce)),
            (SIGNATURE, hex::encode(self.signature)),
        ]
    }

    /// Reads the headers; `header` answers the one value of a name, `None` when absent, repeated or not ASCII.
    ///
    /// # Errors
    /// When a header is missing or not in the one accepted spelling.
    pub fn parse<'h>(header: impl Fn(&'static str) -> Option<&'h str>) -> Result<Signed, SignatureError> {
        let get = |name| header(name).ok_or(SignatureError::Missing(name));
        let nonce_form = "32 lower-case hexadecimal digits";
        let nonce: [u8; 16] =
            lower_hex(get(NONCE)?).ok_or(SignatureError::Malformed { name: NONCE, form: nonce_form })?;
        let signature_form = "64 lower-case hexadecimal digits";
        let signature =
            lower_hex(get(SIGNATURE)?).ok_or(SignatureError::Malformed { name: SIGNATURE, form: signature_form })?;
        Ok(Signed {
            terminal: decimal(TERMINAL, get(TERMINAL)?)?,
            key_version: decimal(KEY_VERSION, get(KEY_VERSION)?)?,
            boot: decimal(BOOT, get(BOOT)?)?,
            time_ms: decimal(TIME, get(TIME)?)?,
            nonce: u128::from_be_bytes(nonce),
            signature,
        })
    }
}

/// The edge's signature of an answer: it names the request by that request's signature.
pub fn sign_answer(key: &[u8; KEY_LEN_BYTES], request: &[u8; 32], status: u16, body: &[u8]) -> [u8; 32] {
    mac(key, answer_text(request, status, body).as_bytes()).finalize().into_bytes().into()
}

/// Checks an answer's signature header in constant time.
///
/// # Errors
/// When it is not of this key, request and answer.
pub fn verify_answer(
    key: &[u8; KEY_LEN_BYTES],
    request: &[u8; 32],
    status: u16,
    body: &[u8],
    signature: &str,
) -> Result<(), SignatureError> {
    let form = "64 lower-case hexadecimal digits";
    let signature: [u8; 32] = lower_hex(signature).ok_or(SignatureError::Malformed { name: ANSWER_SIGNATURE, form })?;
    let text = answer_text(request, status, body);
    mac(key, text.as_bytes()).verify_slice(&signature).map_err(|_| SignatureError::Wrong)
}

fn answer_text(request: &[u8; 32], status: u16, body: &[u8]) -> String {
    format!("ANSWER\n{}\n{status}\n{}", hex::encode(request), sha256_hex(body))
}

fn mac(key: &[u8; KEY_LEN_BYTES], text: &[u8]) -> Hmac<Sha256> {
    // The two arrays are of fixed length and HMAC takes keys of any, so this form cannot fail.
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block_key(key).into());
    mac.update(text);
    mac
}

/// A key of one SHA-256 block, padded with zeros as RFC 2104 pads a shorter key.
fn block_key(key: &[u8; KEY_LEN_BYTES]) -> [u8; 64] {
    let mut block = [0; 64];
    block[..KEY_LEN_BYTES].copy_from_slice(key);
    block
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut bytes = [0; N];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Reads a number in its one spelling: no sign but a leading minus, no leading zeros.
fn decimal<T: std::str::FromStr + ToString>(name: &'static str, text: &str) -> Result<T, SignatureError> {
    let value = text.parse::<T>().ok().filter(|value| value.to_string() == text);
    value.ok_or(SignatureError::Malformed { name, form: "a decimal number in its range" })
}
