//! Enrolment: one-time tokens, and the nodes they make.
//!
//! Pure: a token's secret never comes here, only its hash. Redeeming is idempotent for one key until the token's time
//! ends. Leaves to others: certificates (`enrol` of the shell), the conversation (`yika-link`).

use super::{CoreError, Hub, Reply, Turn, named};
use crate::denial::Denial;
use serde::{Deserialize, Serialize};
use yika_crdt::channel::Channel;
use yika_crdt::entry::{Body, NodeRecord};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::Read;

/// Days a node's certificate lasts; renewed long before, and never enforced by date.
pub const CERTIFICATE_DAYS: u32 = 825;

/// A token as kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// The campus its box will stand on.
    pub campus: CampusId,
    /// Not after this hub time.
    pub expires_ms: i64,
    /// The box it replaces, if it is not a new one.
    pub replaces: Option<NodeId>,
    /// What it was redeemed for.
    pub used: Option<Used>,
}

/// A redeemed token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Used {
    /// The key that redeemed it.
    pub key: [u8; 32],
    /// The life it made.
    pub writer: Writer,
    /// When, Unix seconds: the certificate's dates follow from it.
    pub at_s: i64,
}

/// Why a token is not redeemed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRefused {
    /// No such token.
    Unknown,
    /// The time of this campus' token is over.
    Expired(CampusId),
    /// This campus' token was redeemed by another key.
    Used(CampusId),
}

impl Hub {
    pub(super) fn create_token<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        hash: [u8; 32],
        row: TokenRow,
    ) -> Result<Reply, CoreError> {
        if !self.mesh.campuses.contains_key(&row.campus) {
            let known = self.mesh.campuses.keys().copied().collect();
            return Ok(Reply::Denied(Denial::UnknownCampus { campus: row.campus, known }));
        }
        if let Some(node) = row.replaces {
            let lives = self.mesh.current(node);
            let stands = lives.and_then(|w| self.mesh.place_of(w)).and_then(|p| p.campus);
            if stands != Some(row.campus) {
                return Ok(Reply::Denied(Denial::BoxElsewhere { node, campus: row.campus }));
            }
        }
        turn.tx.put(token_key(&hash), &row);
        Ok(Reply::Done)
    }

    /// Makes a node of a proved key, or finds the one this token made before.
    pub(super) fn redeem<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        hash: [u8; 32],
        key: [u8; 32],
        name: String,
        address: Option<String>,
    ) -> Result<Reply, CoreError> {
        let Some(mut token) = turn.tx.get::<TokenRow>(&token_key(&hash))? else {
            return Ok(Reply::Redeemed(Err(TokenRefused::Unknown)));
        };
        if turn.stamp.hub_time_ms > token.expires_ms {
            return Ok(Reply::Redeemed(Err(TokenRefused::Expired(token.campus))));
        }
        if let Some(used) = token.used {
            let same = used.key == key;
            let campus = token.campus;
            return Ok(Reply::Redeemed(if same { Ok((used, campus)) } else { Err(TokenRefused::Used(campus)) }));
        }
        if let Some(replaced) = token.replaces.and_then(|node| self.mesh.current(node)) {
            self.fence(turn, replaced, format!("replaced by a box enrolled as {name:?}"))?;
        }
        let writer = self.next_life(token.replaces);
        let record = NodeRecord { writer, campus: Some(token.campus), key, name, address };
        self.append(turn, Channel::Registry, Body::Node(record))?;
        let used = Used { key, writer, at_s: turn.stamp.hub_time_ms.div_euclid(1000) };
        token.used = Some(used.clone());
        turn.tx.put(token_key(&hash), &token);
        Ok(Reply::Redeemed(Ok((used, token.campus))))
    }

    /// A new node in its first life, or the next life of a known one: of this generation, with zero rights.
    fn next_life(&self, replaces: Option<NodeId>) -> Writer {
        let generation = self.mesh.me.incarnation.generation;
        match replaces.and_then(|node| self.mesh.current(node)) {
            Some(last) => {
                let same = last.incarnation.generation == generation;
                let counter = if same { last.incarnation.counter.saturating_add(1) } else { 1 };
                if proof::sown("enrolled_again_in_the_same_life") {
                    return last;
                }
                Writer { node: last.node, incarnation: Incarnation { generation, counter } }
            }
            None => {
                let last = self.mesh.nodes.keys().map(|w| w.node.0).max().unwrap_or(0);
                let incarnation = Incarnation { generation, counter: 1 };
                Writer { node: NodeId(last.saturating_add(1)), incarnation }
            }
        }
    }
}

fn token_key(hash: &[u8; 32]) -> Vec<u8> {
    named(b"!token", hash)
}
