//! Statements that SQLite refuses on demand: what a VFS cannot make fail alone, since a rollback writes nothing.
#![allow(unsafe_code)] // An authorizer is a C callback with a raw pointer.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

use rusqlite::{Connection, ffi};

/// Bit of [`deny`] for `BEGIN`.
pub const BEGIN: u8 = 1;
/// Bit of [`deny`] for `COMMIT`.
pub const COMMIT: u8 = 2;
/// Bit of [`deny`] for `ROLLBACK`.
pub const ROLLBACK: u8 = 4;

/// From here on the connection refuses the statements whose bits are set in `denied` when it prepares them; what it has
/// prepared before it prepares again.
pub fn deny(conn: &Connection, denied: &'static AtomicU8) {
    let data: *const AtomicU8 = denied;
    // SAFETY: the connection is open, and the callback's data is never freed.
    unsafe { ffi::sqlite3_set_authorizer(conn.handle(), Some(authorize), data.cast_mut().cast()) };
}

unsafe extern "C" fn authorize(
    data: *mut c_void,
    action: c_int,
    word: *const c_char,
    _: *const c_char,
    _: *const c_char,
    _: *const c_char,
) -> c_int {
    if action != ffi::SQLITE_TRANSACTION || word.is_null() {
        return ffi::SQLITE_OK;
    }
    // SAFETY: the data is the static of `deny`; SQLite passes a NUL-terminated word.
    let (denied, word) = unsafe { ((*data.cast::<AtomicU8>()).load(Ordering::SeqCst), CStr::from_ptr(word)) };
    let bit = match word.to_bytes() {
        b"BEGIN" => BEGIN,
        b"COMMIT" => COMMIT,
        b"ROLLBACK" => ROLLBACK,
        _ => 0,
    };
    if denied & bit == 0 { ffi::SQLITE_OK } else { ffi::SQLITE_DENY }
}
