//! Passwords: the rule for new ones, hashing and verification with Argon2id.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use thiserror::Error;

/// Shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 10;

/// Longest password, in bytes of UTF-8; longer ones are refused before any computation.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// Passwords everybody tries first, one a line, all lower case and at least as long as the minimum.
const COMMON: &str = include_str!("common.txt");

/// Cost of one Argon2id computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashCost {
    /// 19 MiB, two passes, one lane: the OWASP password storage advice, and bearable on an edge box.
    fn default() -> Self {
        HashCost { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

/// A password could not be hashed, or a session token not made.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The cost or the password is out of Argon2's range.
    #[error("password hashing: {0}; mend the Argon2 settings")]
    Hash(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

/// PHC string of a password (`$argon2id$v=19$m=…`), with a random salt.
///
/// # Errors
/// When the cost is out of range or the system gives no randomness.
pub fn hash_password(password: &str, cost: HashCost) -> Result<String, PasswordError> {
    let hash_error = |error: &dyn std::fmt::Display| PasswordError::Hash(error.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|error| hash_error(&error))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| hash_error(&error))
}

/// Whether a password belongs to a PHC string; `false` for anything malformed. Compares in constant time.
pub fn verify_password(password: &str, verifier: &str) -> bool {
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    PasswordHash::new(verifier).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// The rule for new passwords. `names` are the operator's names, which a password must not be.
///
/// # Errors
/// Key of the reason in the kit's words.
pub fn check_password(password: &str, names: &[&str]) -> Result<(), &'static str> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err("password.short");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err("password.long");
    }
    let lower = password.to_lowercase();
    let letters = |text: &str| -> String {
        let kept = text.chars().filter(|c| c.is_alphabetic());
        kept.collect::<String>().to_lowercase()
    };
    let names = || names.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty());
    if names().any(|name| lower == name) {
        return Err("password.is_name");
    }
    if names().map(|name| letters(&name)).any(|name| !name.is_empty() && name == letters(&lower)) {
        return Err("password.near_name");
    }
    if COMMON.lines().any(|common| common == lower) || is_run(&lower) {
        return Err("password.common");
    }
    Ok(())
}

/// One character repeated, or each the neighbour of the one before it (`aaaaaaaaaa`, `1234567890`).
fn is_run(text: &str) -> bool {
    let codes: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
    let steps: Vec<i64> = codes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    [-1, 0, 1].iter().any(|step| steps.iter().all(|other| other == step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // tests may panic
    use super::*;

    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn a_verifier_accepts_its_password_and_no_other() {
        let verifier = hash_password("莲花山下的石桥 7", CHEAP).unwrap();
        assert!(verifier.starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        assert!(verify_password("莲花山下的石桥 7", &verifier));
        assert!(!verify_password("莲花山下的石桥 8", &verifier));
        assert_ne!(verifier, hash_password("莲花山下的石桥 7", CHEAP).unwrap());
    }

    #[test]
    fn malformed_verifiers_let_nobody_in() {
        for verifier in ["", "x", "$argon2id$", "$1$abc$def", "$argon2id$v=19$m=64,t=1,p=1$$"] {
            assert!(!verify_password("", verifier));
            assert!(!verify_password("x", verifier));
        }
    }

    #[test]
    fn the_rule_names_its_reason() {
        let check = |password: &str| check_password(password, &["zhangwei2024", "张伟"]);
        assert_eq!(check("short"), Err("password.short"));
        assert_eq!(check("ZhangWei2024"), Err("password.is_name"));
        assert_eq!(check("zhangwei2025"), Err("password.near_name"));
        assert_eq!(check("Password123"), Err("password.common"));
        assert_eq!(check("aaaaaaaaaaaa"), Err("password.common"));
        assert_eq!(check("23456789:;"), Err("password.common"));
        assert_eq!(check(&"é".repeat(200)), Err("password.long"));
        assert_eq!(check("canteen-bridge-9"), Ok(()));
    }

    #[test]
    fn the_common_list_holds_only_what_the_length_rule_lets_through() {
        for line in COMMON.lines() {
            assert!(line.chars().count() >= PASSWORD_CHARS_MIN, "{line}");
            assert_eq!(line, line.to_lowercase());
        }
    }
}
