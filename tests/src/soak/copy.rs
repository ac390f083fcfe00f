//! Copies of a box's database, as a backup makes them: the database only, so that what lies beside it stays.

use crate::site::BoxProgram;
use anyhow::{Context, Result};
use std::path::Path;
use yika_crdt::store::Read;
use yika_store::{Options, SqliteReader};

const FILES: [&str; 3] = ["edge.db", "edge.db-wal", "edge.db-shm"];

/// Copies the database of a box that has ended into a folder.
pub(super) fn take(edge: &BoxProgram, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    replace(edge.database().parent().context("a database lies in a folder")?, into)
}

/// Puts the copy in place of what the box, which has ended, has.
pub(super) fn put_back(edge: &BoxProgram, from: &Path) -> Result<()> {
    replace(from, edge.database().parent().context("a database lies in a folder")?)
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    for name in FILES {
        let (from, to) = (from.join(name), to.join(name));
        if to.exists() {
            std::fs::remove_file(&to)?;
        }
        if from.exists() {
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy to {}", to.display()))?;
        }
    }
    Ok(())
}

/// Whether headquarters holds everything that a box wrote: what nobody else holds is lost with the disk, and no test can
/// ask for it.
pub(super) fn is_held(edge: &BoxProgram, hub: &Path) -> Result<bool> {
    let feeds = |database: &Path| -> Result<_> { Ok(SqliteReader::open(database, &Options::default())?.feeds()?) };
    let (node, held) = (edge.node()?, feeds(hub)?);
    let own = feeds(&edge.database())?.into_iter().filter(|(feed, _)| feed.writer.node.0 == node);
    Ok(own
        .into_iter()
        .all(|(feed, state)| held.iter().any(|(at_hub, there)| *at_hub == feed && there.end == state.end)))
}
