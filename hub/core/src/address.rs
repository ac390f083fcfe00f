//! What the registry says of a box that is there: its name, and where it can be dialled. The latter it says itself, and a
//! change is an entry at every node, so a box may not say what it likes.

use super::{CoreError, Hub, Reply, Turn, named};
use crate::denial::Denial;
use yika_crdt::channel::Channel;
use yika_crdt::entry::{Body, NodeRecord};
use yika_crdt::ids::{NodeId, Writer};
use yika_crdt::store::Read;

/// Longest address: a name of the longest kind, and its port.
const ADDRESS_BYTES_MAX: usize = 260;
/// Changes of one box's address within [`WINDOW_MS`]; further ones are not listened to.
const CHANGES_MAX: u32 = 12;
const WINDOW_MS: i64 = 3_600_000;

impl Hub {
    /// Gives the present life of a box another name; whatever else its record says stays.
    pub(super) fn rename<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        node: NodeId,
        name: String,
    ) -> Result<Reply, CoreError> {
        let newest = self.mesh.nodes.iter().rev().find(|(writer, _)| writer.node == node && !node.is_hub());
        let living = newest.filter(|(writer, _)| !self.mesh.is_fenced(**writer));
        let Some(record) = living.map(|(_, known)| known.record.clone()) else {
            return Ok(Reply::Denied(Denial::UnknownBox { node }));
        };
        self.append(turn, Channel::Registry, Body::Node(NodeRecord { name, ..record }))?;
        Ok(Reply::Done)
    }

    pub(super) fn address<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        address: String,
    ) -> Result<Reply, CoreError> {
        let known = self.mesh.nodes.get(&writer).map(|node| node.record.clone());
        let changed = known.filter(|record| record.address.as_ref() != Some(&address));
        let Some(record) = changed.filter(|_| is_address(&address)) else { return Ok(Reply::Done) };
        let (key, now_ms) = (named(b"!moved", &writer), turn.stamp.hub_time_ms);
        let (since_ms, changes): (i64, u32) = turn.tx.get(&key)?.unwrap_or((now_ms, 0));
        let (since_ms, changes) = if now_ms - since_ms > WINDOW_MS { (now_ms, 0) } else { (since_ms, changes) };
        if changes < CHANGES_MAX {
            turn.tx.put(key, &(since_ms, changes + 1));
            let record = NodeRecord { address: Some(address), ..record };
            self.append(turn, Channel::Registry, Body::Node(record))?;
        }
        Ok(Reply::Done)
    }
}

/// Whether a text can be dialled: `host:port`, an IPv6 host in brackets.
fn is_address(text: &str) -> bool {
    let is_host = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
    };
    let parts = text.rsplit_once(':').filter(|_| text.len() <= ADDRESS_BYTES_MAX);
    parts.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn only_what_can_be_dialled_is_an_address() {
        let good = ["10.0.0.1:7443", "box-1.example.org:1", "[2001:db8::1]:7443"];
        let bad = ["", "x", ":7443", "host:0", "host:70000", "a b:1", "箱:1"];
        assert!(good.iter().all(|text| is_address(text)));
        assert!(!bad.iter().any(|text| is_address(text)));
    }
}
