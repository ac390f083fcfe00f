//! Opening the file: flags, pragmas, migrations, all behind one function.
//!
//! Leaves to others: reading (`rows`), writing (`store`).

use crate::error::{corrupt, device, failed};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use std::path::Path;
use std::time::Duration;
use yika_crdt::store::StoreError;

/// Marks the file as ours: "YIKA".
pub const APPLICATION_ID: i32 = 0x5949_4B41;
/// Page size of a new file.
pub const PAGE_BYTES: u32 = 2048;
/// How long a statement waits for another process (backup, doctor) that holds the file.
pub const BUSY_WAIT_MS: u64 = 2_000;
/// Page cache of the writing connection.
pub const CACHE_KIB: i32 = 8 * 1024;
/// Prepared statements kept per connection.
pub const STATEMENTS_MAX: usize = 64;

/// One numbered step of a schema; its file never changes once released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Migration {
    /// Counted from 1 without gaps.
    pub number: u32,
    /// Statements, run in one transaction.
    pub sql: &'static str,
}

/// The store's own schema.
pub const MIGRATIONS: &[Migration] = &[Migration { number: 1, sql: include_str!("../sql/0001_feeds_and_state.sql") }];

/// When SQLite waits for the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// At every commit: the only mode a product runs in.
    #[default]
    Full,
    /// Never. Exists so that the power-cut test can show that it goes red; loses answered purchases.
    OffForPowerCutTestOnly,
}

impl Synchronous {
    fn pragma(self) -> &'static str {
        match self {
            Synchronous::Full => "FULL",
            Synchronous::OffForPowerCutTestOnly => "OFF",
        }
    }
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Durability mode.
    pub synchronous: Synchronous,
    /// Name of a registered SQLite VFS; the platform's own when `None`.
    pub vfs: Option<String>,
    /// Name of the product whose tables live in the same file, with [`Options::product_migrations`].
    pub product_name: &'static str,
    /// The product's schema steps, applied after the store's own.
    pub product_migrations: &'static [Migration],
    /// Size limit of the file, in pages; a commit beyond it fails as on a full disk. No limit when `None`.
    pub pages_max: Option<u32>,
    /// Over this the write-ahead log is folded back even when the node is busy; bytes.
    /// [`crate::store::WAL_BYTES_SOFT_MAX`] when `None`.
    pub wal_bytes_soft_max: Option<u64>,
}

/// Opens for writing and brings the schema up to date.
pub(crate) fn open_writing(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = open(path, flags, options)?;
    check_ours(&conn, path)?;
    set(&conn, "page_size", PAGE_BYTES)?;
    let mode: String = conn
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed("switching to a write-ahead log"))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(device(
            "switching to a write-ahead log",
            format!("the file system of {} allows only {mode:?}; use a local disk", path.display()),
        ));
    }
    set(&conn, "synchronous", options.synchronous.pragma())?;
    set(&conn, "cache_size", -CACHE_KIB)?;
    set(&conn, "foreign_keys", true)?;
    // A statement is prepared once. Without this SQLite prepares one anew for each value that is bound to it, where a partial
    // index, or one over an expression, makes it look whether the value changes the plan.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed("keeping plans stable"))?;
    // Ours alone decides when to checkpoint (`store`).
    set(&conn, "wal_autocheckpoint", 0)?;
    if let Some(pages) = options.pages_max {
        set(&conn, "max_page_count", pages)?;
    }
    migrate_store(&mut conn, MIGRATIONS)?;
    if !options.product_migrations.is_empty() {
        migrate_product(&mut conn, options.product_name, options.product_migrations)?;
    }
    Ok(conn)
}

/// Opens for reading only; the file must exist and be ours.
pub(crate) fn open_reading(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open(path, flags, options)?;
    check_ours(&conn, path)?;
    set(&conn, "query_only", true)?;
    Ok(conn)
}

/// Opens a second writing connection that only folds the log back.
pub(crate) fn open_folding(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open(path, flags, options)?;
    set(&conn, "synchronous", options.synchronous.pragma())?;
    set(&conn, "wal_autocheckpoint", 0)?;
    Ok(conn)
}

fn open(path: &Path, flags: OpenFlags, options: &Options) -> Result<Connection, StoreError> {
    let conn = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str()),
        None => Connection::open_with_flags(path, flags),
    }
    .map_err(|e| device("opening the database", format!("{}: {e}", path.display())))?;
    conn.busy_timeout(Duration::from_millis(BUSY_WAIT_MS)).map_err(failed("setting the busy timeout"))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    set(&conn, "temp_store", "MEMORY")?;
    // Memory-mapped reads turn a failing disk into a signal that kills the process.
    set(&conn, "mmap_size", 0)?;
    set(&conn, "trusted_schema", false)?;
    set(&conn, "cell_size_check", true)?;
    Ok(conn)
}

fn set(conn: &Connection, pragma: &'static str, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
    // Some pragmas answer with a row, some do not; either is fine.
    conn.pragma_update(None, pragma, value)
        .or_else(|e| match e {
            rusqlite::Error::ExecuteReturnedResults => Ok(()),
            e => Err(e),
        })
        .map_err(failed(pragma))
}

/// Refuses somebody else's database before anything is written into it.
fn check_ours(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let id: i32 = pragma(conn, "application_id")?;
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed("reading the schema"))?;
    if id == APPLICATION_ID || (id == 0 && tables == 0) {
        return Ok(());
    }
    Err(corrupt(path.display().to_string(), format!("is a database of another program (application_id {id:#x})")))
}

pub(crate) fn pragma<T: rusqlite::types::FromSql>(conn: &Connection, name: &'static str) -> Result<T, StoreError> {
    conn.pragma_query_value(None, name, |row| row.get(0)).map_err(failed(name))
}

/// Applies the missing steps of the store's own schema, one transaction each.
pub(crate) fn migrate_store(conn: &mut Connection, migrations: &[Migration]) -> Result<(), StoreError> {
    let held: u32 = pragma(conn, "user_version")?;
    for step in missing("the store", held, migrations)? {
        let tx = begin(conn)?;
        tx.execute_batch(step.sql).map_err(failed("upgrading the schema"))?;
        set(&tx, "user_version", step.number)?;
        set(&tx, "application_id", APPLICATION_ID)?;
        tx.commit().map_err(failed("upgrading the schema"))?;
    }
    Ok(())
}

fn migrate_product(conn: &mut Connection, name: &'static str, migrations: &[Migration]) -> Result<(), StoreError> {
    let held: Option<u32> = conn
        .query_row("SELECT version FROM products WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(failed("reading the product's version"))?;
    for step in missing(name, held.unwrap_or(0), migrations)? {
        let tx = begin(conn)?;
        tx.execute_batch(step.sql).map_err(failed("upgrading the product's schema"))?;
        tx.execute(
            "INSERT INTO products (name, version) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            (name, step.number),
        )
        .map_err(failed("upgrading the product's schema"))?;
        tx.commit().map_err(failed("upgrading the product's schema"))?;
    }
    Ok(())
}

fn begin(conn: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed("beginning a transaction"))
}

/// The steps above `held`; refuses gaps in the numbering and a file of a newer program.
fn missing<'m>(part: &str, held: u32, migrations: &'m [Migration]) -> Result<&'m [Migration], StoreError> {
    let doing = "upgrading the schema";
    for (index, step) in migrations.iter().enumerate() {
        if step.number as usize != index + 1 {
            return Err(device(doing, format!("steps of {part} are numbered with a gap at {}", step.number)));
        }
    }
    migrations.get(held as usize..).ok_or_else(|| {
        device(
            doing,
            format!(
                "the file has version {held} of {part}, this program knows {}; install the newer program",
                migrations.len()
            ),
        )
    })
}
