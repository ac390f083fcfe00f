//! The store that hub and edge stand on: one SQLite file, one writer, durable before anything is told.
//!
//! Implements [`yika_crdt::store::Read`] and [`yika_crdt::store::Store`]. Never here: what the rows mean, the network,
//! a clock that decides anything.

mod checkpointer;
mod error;
pub mod files;
pub mod open;
pub mod parts;
mod queue;
pub mod reader;
mod rows;
pub mod store;
pub mod writer;

pub use error::failed;
pub use open::{Migration, Options, Synchronous};
pub use reader::{ReadPool, SqliteReader};
pub use rows::SEQ_MAX;
/// The database library, for products that keep tables of their own in the same file.
pub use rusqlite;
pub use store::{Checkpoint, SqliteStore};
pub use writer::{CallError, Health, Machine, Priority, Writer, WriterThread};
