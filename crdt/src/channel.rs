//! Feeds' names and audiences: who writes a channel, and who may hold it whole.
//!
//! Leaves to others: the chain itself (`feed`) and what the entries mean (`entry`).

use crate::ids::{CampusId, Incarnation, NodeId, Writer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose blocks a block channel carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum BlockScope {
    /// Written by the hub; it may lift any block.
    Hub,
    /// Written by the edges of one campus; they lift only their own campus' blocks.
    Campus(CampusId),
}

/// What a feed is about; with the writer it names the feed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Channel {
    /// Hub → every node: nodes, tariffs, calendars, terminals, fences, re-bases.
    Registry,
    /// Hub and edges of the campus → every node: changes of the people documents of that home campus.
    People(CampusId),
    /// Hub and edges of the campus → hub and edges of the campus: policy and visitors.
    Campus(CampusId),
    /// Hub or edges of a campus → every node: blocks and lifts.
    Blocks(BlockScope),
    /// Giver → that receiver and the hub: rights rows and cheques.
    Rights(Writer),
    /// An edge → hub and siblings: what happened.
    Journal,
    /// Hub → that edge: receipts, leases, settled days, time, sealed keys, operators.
    Receipts(NodeId),
}

/// Order in which a busy link serves channels: lower first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Class {
    /// Greetings, cursors, questions within a purchase.
    Control,
    /// Blocks and lifts, and the registry that says who may write them.
    Blocks,
    /// Rights, leases, receipts.
    Rights,
    /// Journals.
    Journal,
    /// Document changes.
    Documents,
    /// Snapshots.
    Snapshot,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Class; 6] =
        [Class::Control, Class::Blocks, Class::Rights, Class::Journal, Class::Documents, Class::Snapshot];
}

/// A feed: one writer in one life, one channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FeedId {
    /// The only node that appends.
    pub writer: Writer,
    /// What it is about.
    pub channel: Channel,
}

/// What a node is, as far as audiences go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// The campus of an edge; `None` for the hub.
    pub campus: Option<CampusId>,
}

impl Channel {
    /// The service class of the channel.
    pub fn class(self) -> Class {
        match self {
            // The registry goes with them: nothing of a writer can be taken before the registry that lists it.
            Channel::Blocks(_) | Channel::Registry => Class::Blocks,
            Channel::Rights(_) | Channel::Receipts(_) => Class::Rights,
            Channel::Journal => Class::Journal,
            Channel::People(_) | Channel::Campus(_) => Class::Documents,
        }
    }

    /// Whether a node at `writer` may write this channel at all.
    pub fn may_write(self, writer: Place) -> bool {
        match self {
            Channel::Registry | Channel::Receipts(_) | Channel::Blocks(BlockScope::Hub) => writer.node.is_hub(),
            Channel::People(c) | Channel::Campus(c) => writer.node.is_hub() || writer.campus == Some(c),
            Channel::Blocks(BlockScope::Campus(c)) => writer.campus == Some(c),
            Channel::Rights(receiver) => receiver.node != writer.node,
            Channel::Journal => !writer.node.is_hub(),
        }
    }
}

impl FeedId {
    /// Whether `asker` belongs to the audience of this feed, written by a node at `writer`.
    ///
    /// A feed that fails this is neither sent to the asker nor accepted from it.
    pub fn may_hold(&self, writer: Place, asker: Place) -> bool {
        if asker.node == self.writer.node || asker.node.is_hub() {
            return true;
        }
        match self.channel {
            Channel::Registry | Channel::People(_) | Channel::Blocks(_) => true,
            Channel::Campus(c) => asker.campus == Some(c),
            Channel::Rights(receiver) => receiver.node == asker.node,
            Channel::Journal => writer.campus.is_some() && writer.campus == asker.campus,
            Channel::Receipts(node) => node == asker.node,
        }
    }

    /// The writer's node.
    pub fn node(&self) -> NodeId {
        self.writer.node
    }

    /// The writer's life.
    pub fn incarnation(&self) -> Incarnation {
        self.writer.incarnation
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Registry => write!(f, "registry"),
            Channel::People(c) => write!(f, "people/{c}"),
            Channel::Campus(c) => write!(f, "campus/{c}"),
            Channel::Blocks(BlockScope::Hub) => write!(f, "blocks/hub"),
            Channel::Blocks(BlockScope::Campus(c)) => write!(f, "blocks/{c}"),
            Channel::Rights(receiver) => write!(f, "rights/{receiver}"),
            Channel::Journal => write!(f, "journal"),
            Channel::Receipts(node) => write!(f, "receipts/{node}"),
        }
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
    }

    fn edge(node: u32, campus: u16) -> Place {
        Place { node: NodeId(node), campus: Some(CampusId(campus)) }
    }

    const HUB: Place = Place { node: NodeId::HUB, campus: None };

    #[test]
    fn journals_stay_on_their_campus_and_at_the_hub() {
        let feed = FeedId { writer: writer(1), channel: Channel::Journal };
        assert!(feed.may_hold(edge(1, 1), HUB));
        assert!(feed.may_hold(edge(1, 1), edge(2, 1)));
        assert!(!feed.may_hold(edge(1, 1), edge(3, 2)));
    }

    #[test]
    fn rights_go_to_their_receiver_and_the_hub_only() {
        let feed = FeedId { writer: writer(1), channel: Channel::Rights(writer(3)) };
        assert!(feed.may_hold(edge(1, 1), edge(3, 2)));
        assert!(feed.may_hold(edge(1, 1), HUB));
        assert!(!feed.may_hold(edge(1, 1), edge(2, 1)));
    }

    #[test]
    fn an_edge_may_not_write_what_belongs_to_the_hub_or_another_campus() {
        assert!(!Channel::Registry.may_write(edge(1, 1)));
        assert!(!Channel::Receipts(NodeId(1)).may_write(edge(1, 1)));
        assert!(!Channel::Blocks(BlockScope::Hub).may_write(edge(1, 1)));
        assert!(!Channel::People(CampusId(2)).may_write(edge(1, 1)));
        assert!(Channel::People(CampusId(1)).may_write(edge(1, 1)));
        assert!(!Channel::Journal.may_write(HUB));
    }
}
