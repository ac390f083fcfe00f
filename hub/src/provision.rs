//! What a box must have of its campus beside the feeds everybody gets: keys of its terminals, operators who may sign in
//! there while it is cut off.
//!
//! Compared at each connection and after each change; the core writes only what the box was not told yet. Leaves to
//! others: making keys and operators (`desk`).

use crate::core::Command;
use crate::node::{Busy, HubNode};
use crate::store::{OperatorRow, read};
use std::sync::Arc;
use std::time::Duration;
use yika_crdt::entry::*;
use yika_link::PeerIdentity;

/// An operator may sign in at a cut-off box for so long after headquarters last said so.
pub const OFFLINE_SIGN_IN_MS: i64 = 30 * 24 * 3_600_000;
/// That date is renewed once in this time.
pub const OFFLINE_SIGN_IN_RENEW_MS: i64 = 7 * 24 * 3_600_000;
const WEEK_BITS: u32 = 20;

/// How often it is looked at what a box lacks, beside every change.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A line may stay up for longer than an operator's date.
    pub look: Duration,
    /// After a failure.
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { look: Duration::from_secs(3_600), retry: Duration::from_secs(10) }
    }
}

/// Tells a connected box what it lacks, now, after every change and as time passes, until the connection ends.
pub async fn keep_up(node: Arc<HubNode>, peer: PeerIdentity, pace: Pace, wall_ms: impl Fn() -> i64) {
    let mut wanted = node.ears().provision.subscribe();
    loop {
        wanted.borrow_and_update();
        let pause = match once(&node, &peer, wall_ms()).await {
            Ok(()) => pace.look,
            Err(error) => {
                tracing::warn!(peer = %peer.writer(), %error, "a box could not be given its keys and operators");
                pace.retry
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn once(node: &Arc<HubNode>, peer: &PeerIdentity, wall_ms: i64) -> anyhow::Result<()> {
    let Some(campus) = peer.place().campus else { return Ok(()) };
    let box_key = ed25519_dalek::VerifyingKey::from_bytes(&peer.key)?;
    let registry = node.registry();
    for row in node.query(read::terminal_keys).await? {
        let here = registry.terminals.get(&row.terminal).is_some_and(|t| t.campus == campus);
        if here {
            let key = node.vault.open_sealed("terminal key", &row.sealed)?;
            let sealed = yika_link::seal::seal(&box_key, "terminal key", &key)?;
            let record = SealedKeyRecord { terminal: row.terminal, version: row.version, sealed };
            give(node, peer, u64::from(row.version), Body::TerminalKey(record)).await?;
        }
    }
    let week = wall_ms / OFFLINE_SIGN_IN_RENEW_MS;
    for operator in node.query(read::operators).await?.into_iter().filter(|o| o.campus == Some(campus)) {
        // A change of the operator raises the epoch; each week renews the date.
        let version = operator.credential_epoch << WEEK_BITS | u64::try_from(week).unwrap_or(0);
        give(node, peer, version, Body::Operator(record_of(&operator, wall_ms))).await?;
    }
    Ok(())
}

async fn give(node: &Arc<HubNode>, peer: &PeerIdentity, version: u64, body: Body) -> Result<(), Busy> {
    node.call(Command::Provide { to: peer.writer(), version, body: Box::new(body) }).await?;
    Ok(())
}

fn record_of(row: &OperatorRow, wall_ms: i64) -> OperatorRecord {
    let usable = row.active && !row.must_change;
    OperatorRecord {
        operator: row.operator,
        login: row.login.clone(),
        name: row.name.clone(),
        role: match row.role.as_str() {
            "admin" => Role::Admin,
            "clerk" => Role::Clerk,
            "cashier" => Role::Cashier,
            _ => Role::Auditor,
        },
        verifier: if usable { row.verifier.clone() } else { String::new() },
        valid_until_ms: wall_ms.saturating_add(OFFLINE_SIGN_IN_MS),
    }
}
