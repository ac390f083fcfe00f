//! Words for what SQLite reports: damage is told from a device that refuses.

use rusqlite::ErrorCode;
use yika_crdt::store::StoreError;

/// Turns a database error into the store's own, naming what was attempted.
///
/// Public so that a product's tables in the same file (see [`crate::SqliteStore::commit_with`]) report alike.
pub fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match &error {
        rusqlite::Error::SqliteFailure(e, _)
            if matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            StoreError::Corrupt { place: format!("the database, while {doing}"), cause: error.to_string() }
        }
        rusqlite::Error::FromSqlConversionFailure(column, ..)
        | rusqlite::Error::IntegralValueOutOfRange(column, _)
        | rusqlite::Error::InvalidColumnType(column, ..) => {
            StoreError::Corrupt { place: format!("column {column} of a row, while {doing}"), cause: error.to_string() }
        }
        rusqlite::Error::SqliteFailure(e, _) if e.code == ErrorCode::DiskFull => {
            device(doing, format!("{error}; free space on the device, writing resumes by itself"))
        }
        _ => device(doing, error.to_string()),
    }
}

/// A refusal of the device or of this code's own checks before it.
pub(crate) fn device(doing: &'static str, cause: impl Into<String>) -> StoreError {
    StoreError::Device { doing, cause: cause.into() }
}

/// Damage at a named place.
pub(crate) fn corrupt(place: impl Into<String>, cause: impl Into<String>) -> StoreError {
    StoreError::Corrupt { place: place.into(), cause: cause.into() }
}
