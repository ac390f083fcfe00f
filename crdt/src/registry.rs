//! What the registry says, as pages, links and terminals need it at every request: a view read from committed rows.
//!
//! Leaves to others: how the rows come about (`mesh`), what a peer that is not current is told (`link`).

use crate::entry::{CampusRecord, FenceRecord, NodeRecord, TerminalRecord};
use crate::ids::*;
use crate::keys;
use crate::mesh::for_each_row;
use crate::store::{Read, StoreError};
use crate::tariff::sheet::TariffSheet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The registry at one moment.
#[derive(Clone, Debug, Default)]
pub struct RegistryView {
    /// Terminals.
    pub terminals: BTreeMap<TerminalId, TerminalRecord>,
    /// Campuses.
    pub campuses: BTreeMap<CampusId, CampusRecord>,
    /// All lives of all nodes.
    pub nodes: BTreeMap<Writer, NodeRecord>,
    /// Ended lives.
    pub fences: BTreeMap<Writer, FenceRecord>,
    /// The newest tariff.
    pub tariff: Option<Arc<TariffSheet>>,
}

/// How the registry sees a life of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The newest life, not fenced.
    Current,
    /// Ended by headquarters.
    Fenced,
    /// A newer life of the node is registered.
    OldLife,
    /// Not listed.
    Unknown,
}

impl RegistryView {
    /// Reads it from committed rows.
    ///
    /// # Errors
    /// Of storage.
    pub fn load<R: Read + ?Sized>(store: &R) -> Result<RegistryView, StoreError> {
        let mut view = RegistryView::default();
        for_each_row(store, keys::TERMINALS, |r: TerminalRecord| _ = view.terminals.insert(r.terminal, r))?;
        for_each_row(store, keys::CAMPUSES, |r: CampusRecord| _ = view.campuses.insert(r.campus, r))?;
        for_each_row(store, keys::NODES, |r: NodeRecord| _ = view.nodes.insert(r.writer, r))?;
        for_each_row(store, keys::FENCES, |r: FenceRecord| _ = view.fences.insert(r.writer, r))?;
        for_each_row(store, keys::TARIFFS, |r: TariffSheet| view.tariff = Some(Arc::new(r)))?;
        Ok(view)
    }

    /// How a life stands.
    pub fn standing(&self, writer: Writer) -> Standing {
        if self.fences.contains_key(&writer) {
            return Standing::Fenced;
        }
        match self.current(writer.node) {
            Some(newest) if newest == writer => Standing::Current,
            Some(_) => Standing::OldLife,
            None => Standing::Unknown,
        }
    }

    /// The newest life of a node.
    pub fn current(&self, node: NodeId) -> Option<Writer> {
        let first = Writer { node, incarnation: Incarnation { generation: 0, counter: 0 } };
        self.nodes.range(first..).take_while(|(w, _)| w.node == node).last().map(|(w, _)| *w)
    }

    /// The newest lives of all edge boxes, fenced ones included.
    pub fn boxes(&self) -> Vec<&NodeRecord> {
        let newest = |writer: &Writer| self.current(writer.node) == Some(*writer);
        self.nodes.iter().filter(|(w, _)| !w.node.is_hub() && newest(w)).map(|(_, record)| record).collect()
    }
}
