//! How boxes and terminals of a campus find each other: mDNS, also with the uplink cut. Discovery is never trust: what
//! is found is only an address to dial, and the certificate decides.
//!
//! Publishes the mesh port for siblings and the HTTP port for terminals. Leaves to others: dialling (`link`).

use crate::config;
use crate::identity::Identity;
use crate::link::{Hint, Links};
use anyhow::{Context, Result};
use mdns_sd::{IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::net::{IpAddr, SocketAddr};
use yika_crdt::ids::*;

/// What siblings publish and browse.
pub const SIBLINGS: &str = "_yika-edge._udp.local.";
/// What terminals browse.
pub const TERMINALS: &str = "_yika-term._tcp.local.";
/// The loopback interface of Linux.
const LOOPBACK: &str = "lo";
/// Version of the properties.
const PROPERTIES_VERSION: &str = "1";

/// The running discovery; says goodbye when dropped.
pub struct Discovery {
    daemon: Option<ServiceDaemon>,
}

impl Discovery {
    /// Publishes and browses. A box whose network does not allow it works all the same, with a word in the log.
    pub fn start(config: &config::Discovery, identity: &Identity, links: Links, http: SocketAddr) -> Discovery {
        if !config.mdns {
            return Discovery { daemon: None };
        }
        match start(config, identity, links, http) {
            Ok(daemon) => Discovery { daemon: Some(daemon) },
            Err(error) => {
                tracing::warn!(%error, "no mDNS; siblings are found by the registry's addresses only");
                Discovery { daemon: None }
            }
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take()
            && let Err(error) = daemon.shutdown()
        {
            tracing::debug!(%error, "no goodbye by mDNS");
        }
    }
}

fn start(config: &config::Discovery, identity: &Identity, links: Links, http: SocketAddr) -> Result<ServiceDaemon> {
    let daemon = ServiceDaemon::new().context("the mDNS port (UDP 5353)")?;
    choose_interfaces(&daemon, &config.interfaces)?;
    for (service, bound) in [(SIBLINGS, links.local_addr()?), (TERMINALS, http)] {
        if !is_reachable(bound, &config.interfaces) {
            tracing::info!(service, %bound, "not published: it listens on loopback only");
            continue;
        }
        daemon.register(described(service, bound, identity)?).with_context(|| format!("publishing {service}"))?;
    }
    let found = daemon.browse(SIBLINGS).context("looking for siblings")?;
    tokio::spawn(follow(found, identity.me.node, identity.campus, links));
    Ok(daemon)
}

/// All but loopback, or the named ones only.
fn choose_interfaces(daemon: &ServiceDaemon, names: &[String]) -> Result<()> {
    if names.is_empty() {
        let loopback = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        return daemon.disable_interface(loopback).context("leaving loopback out");
    }
    daemon.disable_interface(IfKind::All).context("choosing interfaces")?;
    let named: Vec<IfKind> = names.iter().cloned().map(IfKind::Name).collect();
    daemon.enable_interface(named).context("choosing interfaces")
}

/// Whether those who hear of it come to where this listens: at a loopback address others of this machine do, who are told
/// where its loopback interface is named.
fn is_reachable(bound: SocketAddr, named: &[String]) -> bool {
    !bound.ip().is_loopback() || named.iter().any(|name| name == LOOPBACK)
}

/// A port that listens at one address only is published with that one, else with all of the machine.
fn described(service: &str, bound: SocketAddr, identity: &Identity) -> Result<ServiceInfo> {
    let node = identity.me.node.0.to_string();
    let campus = identity.campus.0.to_string();
    // The life is in the name, so that a replaced box does not answer under its old one.
    let life = identity.me.incarnation;
    let instance = format!("yika-n{node}-{}-{}", life.generation, life.counter);
    let host = format!("yika-n{node}.local.");
    let properties =
        [("v", PROPERTIES_VERSION), ("node", node.as_str()), ("campus", campus.as_str()), ("path", "/terminal/v1")];
    if bound.ip().is_unspecified() {
        let info = ServiceInfo::new(service, &instance, &host, "", bound.port(), &properties[..]);
        return Ok(info.context("describing this box")?.enable_addr_auto());
    }
    let info = ServiceInfo::new(service, &instance, &host, bound.ip(), bound.port(), &properties[..]);
    info.context("describing this box")
}

async fn follow(found: Receiver<ServiceEvent>, me: NodeId, campus: CampusId, links: Links) {
    while let Ok(event) = found.recv_async().await {
        if let ServiceEvent::ServiceResolved(service) = event
            && let Some(hint) = hint_of(&service, me, campus)
        {
            tracing::info!(node = %hint.node, addr = %hint.addr, "a sibling was found");
            links.hint(hint);
        }
    }
}

/// A box of this campus that is not this one, at an IPv4 address of the network; everything else is not for us.
fn hint_of(service: &ResolvedService, me: NodeId, campus: CampusId) -> Option<Hint> {
    let number = |key: &str| service.get_property_val_str(key).and_then(|text| text.parse::<u32>().ok());
    let node = NodeId(number("node")?);
    let same_campus = number("campus") == Some(u32::from(campus.0));
    if !same_campus || node == me || node.is_hub() || service.get_port() == 0 {
        return None;
    }
    // Several interfaces give several answers; the smallest is as good as another and always the same.
    let addr = service.get_addresses_v4().into_iter().filter(|a| !a.is_loopback() && !a.is_unspecified()).min()?;
    Some(Hint { node, addr: SocketAddr::new(IpAddr::V4(addr), service.get_port()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_on_loopback_is_published_only_where_that_is_named() {
        let (card, both) = (["eth0".to_owned()], ["eth0".to_owned(), "lo".to_owned()]);
        for (bound, is_for_others) in [("127.0.0.1:7443", false), ("[::1]:7443", false), ("0.0.0.0:7443", true)] {
            let bound = bound.parse().expect("an address");
            assert_eq!([&[][..], &card].map(|named| is_reachable(bound, named)), [is_for_others; 2], "{bound}");
            assert!(is_reachable(bound, &both), "{bound}");
        }
    }
}
