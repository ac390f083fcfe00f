//! Lets days pass for headquarters that does not run: its clock never goes back behind what it stamped, so that one
//! entry stamped later is enough, and the boxes follow its clock. Leaves to others: starting it again (`site`).

use anyhow::{Context, Result};
use std::path::Path;
use yika_crdt::entry::Body;
use yika_crdt::store::Read;
use yika_hub::clock::{HubClock, wall_ms};
use yika_hub::core::{Command, Hub, Identity, Reply};
use yika_hub::identity::HubIdentity;
use yika_hub::machine::{Ears, HubMachine, Order};
use yika_hub::node::HubNode;
use yika_store::{SqliteStore, Writer};

const DAY_MS: i64 = 24 * 3_600_000;

/// So many days after the present moment, for the hub in `data`.
///
/// # Errors
/// It cannot be opened, or does not take the entry.
pub fn hub_days_later(data: &Path, days: i64) -> Result<()> {
    hub_at(data, wall_ms() + days * DAY_MS)
}

/// That moment, which must not be before what it has stamped; there its clock stands until the machine's has come so far.
///
/// # Errors
/// As [`hub_days_later`].
pub fn hub_at(data: &Path, hub_time_ms: i64) -> Result<()> {
    let identity = HubIdentity::load(data)?;
    let identity = {
        let life = HubNode::life(&identity, data)?;
        identity.in_life(life)?
    };
    let store = SqliteStore::open(data.join("hub.db"), &yika_hub::store::options())?;
    let hub = Hub::load(&store, Identity { me: identity.me, key: identity.key.clone() })?;
    let record = Body::Node(hub.own_record(&identity.name));
    let ears = Ears::new(hub.mesh.directory(), store.feeds()?.into_iter().map(|(feed, _)| feed));
    let clock = HubClock::after(hub_time_ms);
    let (writer, thread) = Writer::spawn(HubMachine::new(hub, clock, ears), store)?;
    let reply = writer.call_blocking(Order::from(Command::Registry(Box::new(record))))?;
    anyhow::ensure!(reply == Reply::Done, "the hub answered {reply:?}");
    drop(writer);
    thread.join().context("the writer thread ended badly")?;
    Ok(())
}
