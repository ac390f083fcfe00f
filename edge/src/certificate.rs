//! Keeps this box's certificate fresh: asks headquarters for later dates in good time, and when it has expired. The
//! key stays, and nothing stops meanwhile: mesh TLS does not look at dates.
//!
//! Leaves to others: the words (`yika_link::RenewRequest`), who signs (hub).

use crate::identity::{self, Identity};
use crate::link::Links;
use crate::node::EdgeNode;
use std::sync::Arc;
use std::time::Duration;
use yika_crdt::ids::NodeId;
use yika_crdt::sync::Message;
use yika_link::{RenewReply, RenewRequest, csr, describe_certificate};

/// Renewal is asked for when less than this part of the validity is left.
const LEFT_PART: i64 = 3;
/// How often it is looked at.
const LOOK_S: u64 = 10;
/// How long an unanswered question waits before it is asked again.
const ASK_AGAIN_S: u64 = 600;

/// Runs until the task is ended.
pub async fn keep_fresh(node: Arc<EdgeNode>, identity: Identity, links: Links) {
    let mut replies = node.renewals();
    loop {
        if !is_due(&node) || !ask(&node, &identity) {
            tokio::time::sleep(Duration::from_secs(LOOK_S)).await;
            continue;
        }
        let waited = tokio::time::timeout(Duration::from_secs(ASK_AGAIN_S), replies.recv()).await;
        if let Ok(Ok(reply)) = waited {
            match take(&node, &identity, &links, &reply) {
                Ok(()) => tracing::info!("the certificate was renewed"),
                Err(error) => {
                    tracing::error!(%error, "the certificate was not renewed");
                    tokio::time::sleep(Duration::from_secs(ASK_AGAIN_S)).await;
                }
            }
        }
    }
}

/// By hub time, which is all that counts here.
fn is_due(node: &EdgeNode) -> bool {
    let (now_ms, true) = node.time() else { return false };
    let Ok((_, validity)) = describe_certificate(&node.vitals().certificate_der()) else { return true };
    let left_s = validity.not_after_s.saturating_sub(now_ms / 1000);
    left_s < validity.not_after_s.saturating_sub(validity.not_before_s) / LEFT_PART
}

fn ask(node: &EdgeNode, identity: &Identity) -> bool {
    let Some(hub) = node.peers().into_iter().find(|writer| writer.node == NodeId::HUB) else { return false };
    match csr(&identity.key, &identity.me.to_string()) {
        Ok(csr) => node.say(hub, Message::Renew(RenewRequest::V1 { csr }.encode())),
        Err(error) => {
            tracing::error!(%error, "no certificate request can be made");
            false
        }
    }
}

/// Checks, stores and uses it, in that order.
fn take(node: &EdgeNode, identity: &Identity, links: &Links, reply: &[u8]) -> anyhow::Result<()> {
    let certificate_der = match RenewReply::decode(reply)? {
        RenewReply::Renewed { certificate_der } => certificate_der,
        RenewReply::Refused { words } => anyhow::bail!("headquarters refused: {words}"),
    };
    let (named, _) = describe_certificate(&certificate_der)?;
    anyhow::ensure!(named.writer() == identity.me, "it names {named}, this box is {}", identity.me);
    links.use_certificate(identity, &certificate_der)?;
    tokio::task::block_in_place(|| identity::keep_certificate(node.vitals().dir(), &certificate_der))?;
    node.vitals().set_certificate(&certificate_der);
    Ok(())
}
