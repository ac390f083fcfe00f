//! The desk: what an operator of headquarters can do, one function an act, each refused in words or done and audited.
//!
//! Pages, the API and the command line all come through here. Leaves to others: who is signed in (console), decisions on
//! money and rights (`core`), the words of refusals (`refusal`).

mod access;
mod backup;
mod edges;
mod import;
mod money;
mod moving;
mod numbers;
mod operators;
mod people;
mod profile;
mod registry;
mod snapshot;
mod status;

pub use backup::{BackupFile, BackupsView, is_readable, prove_backup};
pub use edges::{EdgeView, JOURNAL_TAIL_MAX, JournalLine, LATE_AFTER_MS, OFFLINE_AFTER_MS, Quarantined, Standing};
pub use import::{ImportMove, ImportReport, ImportRow, Progress, ROWS_SHOWN_MAX};
pub use money::{GivenBack, POOL_FEN_MAX, PaidOut, REASON_CHARS_MAX, RefundWish, teller};
pub use operators::NewOperator;
pub use people::{Holding, TOP_UP_FEN_MAX, WalletView};
pub use profile::Private;
pub use registry::{
    NAME_CHARS_MAX, NewTerminal, NewToken, TOKEN_TTL_S_MAX, TariffSet, TerminalMade, TokenMade, dialable, only_here,
    quoted,
};
pub use snapshot::ExportedPart;
pub use status::HubStatus;

use crate::backup::Backups;
use crate::clock::wall_ms;
use crate::core::{Command, Reply};
use crate::machine::Order;
use crate::node::{Busy, HubNode};
use crate::refusal::Refusal;
use crate::store::{AuditRow, TableRow};
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_link::Pin;
use yika_ui::Lang;

/// Who acts.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Sign-in name, or `console` for the command line on the machine itself.
    pub who: String,
    /// Operator number; 0 for the command line.
    pub operator: OperatorId,
    /// Campus whose data he may touch; `None` for all.
    pub campus: Option<CampusId>,
    /// Address the act came from.
    pub origin: String,
}

impl Actor {
    /// The administrator of the machine, by the command line.
    pub fn console() -> Actor {
        Actor { who: "console".into(), operator: OperatorId(0), campus: None, origin: "console".into() }
    }

    /// Refuses what lies on another campus.
    ///
    /// # Errors
    /// In words.
    pub fn may_touch(&self, campus: CampusId) -> Result<(), DeskError> {
        match self.campus {
            Some(own) if own != campus => Err(self.other_campus(own)),
            _ => Ok(()),
        }
    }

    fn other_campus(&self, own: CampusId) -> DeskError {
        DeskError::Refused(Refusal::OtherCampus { who: self.who.clone(), campus: own })
    }
}

/// Why an act was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The request cannot be met; nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// Headquarters cannot serve; nothing was changed, try again.
    #[error("{0}")]
    Busy(String),
}

impl DeskError {
    /// In words: of a refusal for the operator, of a failure for the log.
    pub fn words(&self, lang: Lang) -> String {
        match self {
            DeskError::Refused(refusal) => refusal.words(lang),
            DeskError::Busy(detail) => detail.clone(),
        }
    }
}

impl From<Busy> for DeskError {
    fn from(busy: Busy) -> DeskError {
        DeskError::Busy(busy.to_string())
    }
}

impl From<yika_crdt::store::StoreError> for DeskError {
    fn from(error: yika_crdt::store::StoreError) -> DeskError {
        DeskError::Busy(error.to_string())
    }
}

impl From<Refusal> for DeskError {
    fn from(refusal: Refusal) -> DeskError {
        DeskError::Refused(refusal)
    }
}

fn refused<T>(refusal: impl Into<Refusal>) -> Result<T, DeskError> {
    Err(DeskError::Refused(refusal.into()))
}

/// The detail of a line of the audit: facts by name, which pages show in words.
pub(crate) fn facts(pairs: &[(&str, &str)]) -> String {
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// A line of the audit.
fn audit(actor: &Actor, act: &str, object: String, detail: String) -> TableRow {
    TableRow::Audit(AuditRow {
        at_ms: wall_ms(),
        who: actor.who.clone(),
        act: act.to_owned(),
        object,
        detail,
        origin: actor.origin.clone(),
    })
}

/// The desk over a running hub.
#[derive(Clone)]
pub struct Desk {
    /// The hub.
    pub node: Arc<HubNode>,
    /// Where boxes reach it, `host:port`.
    pub advertised: String,
    /// Pin of its authority.
    pub pin: Pin,
    /// Held while a number is drawn or a whole row is written back, so that nobody else does the same in between.
    drawing: Arc<tokio::sync::Mutex<()>>,
    /// The same for people's profiles: imports take long, and only who moves or imports people waits for them.
    profiles: Arc<tokio::sync::Mutex<()>>,
    /// Where backups go, if any are made.
    backups: Option<Arc<Backups>>,
}

impl Desk {
    /// A desk.
    pub fn new(node: Arc<HubNode>, advertised: String, pin: Pin) -> Desk {
        Desk { node, advertised, pin, drawing: Arc::default(), profiles: Arc::default(), backups: None }
    }

    /// The same desk, where backups can be made.
    #[must_use]
    pub fn with_backups(self, backups: Arc<Backups>) -> Desk {
        Desk { backups: Some(backups), ..self }
    }

    /// Writes a line of the audit alone: somebody looked at something, or took it away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note(&self, actor: &Actor, act: &str, object: String, detail: String) -> Result<(), DeskError> {
        self.act(actor, act, object, detail, Command::Nothing, Vec::new()).await.map(|_| ())
    }

    /// Does a command with its audit line in one transaction.
    async fn act(
        &self,
        actor: &Actor,
        act: &str,
        object: String,
        detail: String,
        command: Command,
        mut rows: Vec<TableRow>,
    ) -> Result<Reply, DeskError> {
        rows.push(audit(actor, act, object, detail));
        match self.node.call(Order { command, rows }).await? {
            Reply::Denied(denial) => refused(denial),
            reply => Ok(reply),
        }
    }
}
