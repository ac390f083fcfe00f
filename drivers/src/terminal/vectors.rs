//! Worked examples of signatures for other makers' devices, as shown on the interface's page.
//!
//! `vectors.json` was computed by another implementation (Python's `hmac`); the tests of this module hold ours to it.

use serde::Deserialize;

/// The file as published.
pub const JSON: &str = include_str!("vectors.json");

/// The examples, all under one key.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vectors {
    /// The terminal key, hexadecimal.
    pub key: String,
    /// The examples.
    pub vectors: Vec<Vector>,
}

/// A request and its answer.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What it shows.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The terminal.
    pub terminal: u32,
    /// Version of its key.
    pub key_version: u16,
    /// Its boot number.
    pub boot: u32,
    /// Its clock.
    pub time_ms: i64,
    /// 32 hexadecimal digits.
    pub nonce: String,
    /// The request's body.
    pub body: String,
    /// What is signed.
    pub signed_text: String,
    /// The signature.
    pub signature: String,
    /// HTTP status of the answer.
    pub answer_status: u16,
    /// Its body.
    pub answer_body: String,
    /// What the edge signs.
    pub answer_text: String,
    /// Its signature.
    pub answer_signature: String,
}

/// Reads the examples.
///
/// # Errors
/// When the file is not in its form, which the tests exclude.
pub fn vectors() -> Result<Vectors, serde_json::Error> {
    serde_json::from_str(JSON)
}
