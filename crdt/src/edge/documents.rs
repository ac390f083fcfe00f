//! The edge's part in documents: changes taken in, alarms about them, and what operators of its campus change.
//!
//! Leaves to others: documents themselves (`crate::documents`), log-in and rights of operators (the console).

use super::{Edge, Reply};
use crate::channel::Channel;
use crate::docs::{PolicyAct, VisitorAct};
use crate::documents::{Author, PersonChange, Say};
use crate::entry::*;
use crate::gate::Shut;
use crate::ids::*;
use crate::mesh::Event;
use crate::sale::{Now, SaleError};
use crate::store::{Read, StoreError, Tx};

/// What operators of a campus change in its documents.
pub(super) enum DocumentAct {
    /// People of this home campus.
    People(Vec<PersonChange>),
    /// The campus' access policy.
    Policy(PolicyAct),
    /// A visitor of the campus.
    Visitor(PersonId, VisitorAct),
}

impl DocumentAct {
    /// The word of the audit and what it is about.
    fn audit(&self) -> (&'static str, String) {
        match self {
            DocumentAct::People(changes) => match changes.as_slice() {
                [one] => ("people.change", one.person.to_string()),
                many => ("people.change", format!("{} changes", many.len())),
            },
            DocumentAct::Policy(_) => ("policy.change", String::new()),
            DocumentAct::Visitor(visitor, _) => ("visitor.change", visitor.to_string()),
        }
    }
}

impl Edge {
    /// The turn is durable.
    pub fn committed(&mut self) {
        self.documents.committed();
        self.shut_before = self.shut;
    }

    /// Writes what an operator of this campus wants into its documents, and into the journal who did.
    pub(super) fn change_documents<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        operator: OperatorId,
        act: DocumentAct,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, StoreError> {
        let Some(campus) = self.mesh.place.campus else {
            return Ok(Reply::Denied("this box stands on no campus".into()));
        };
        let (word, detail) = act.audit();
        let (documents, mesh) = (&mut self.documents, &mut self.mesh);
        let by = Author { operator, stamp: now.stamp };
        let written = match act {
            DocumentAct::People(changes) => documents.people(mesh, tx, by, changes, events)?,
            DocumentAct::Policy(act) => documents.policy(mesh, tx, by, (campus, act), events)?,
            DocumentAct::Visitor(visitor, act) => documents.visitor(mesh, tx, by, (campus, visitor, act), events)?,
        };
        if let Err(denied) = written {
            return Ok(Reply::Denied(denied.to_string()));
        }
        let act = Body::Act(ActRecord { operator, act: word.into(), detail });
        self.mesh.append(tx, Channel::Journal, &Entry { stamp: now.stamp, body: act }, events)?;
        Ok(Reply::Done)
    }

    /// Goes on with re-bases that are under way.
    pub(super) fn turn_epochs<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let say = self.say(now);
        self.documents.turn_epochs(&mut self.mesh, tx, say, events)
    }

    /// What the gate allows a re-base to write.
    pub(super) fn say(&self, now: &Now) -> Say {
        match self.shut {
            None => Say::Now(now.stamp),
            Some(Shut::Forked | Shut::Fenced) => Say::Never,
            Some(_) => Say::Later,
        }
    }

    /// Takes in what came for documents in this turn; other events are left, and new ones added.
    pub(super) fn follow_documents<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let say = self.say(now);
        let came = self.documents.follow(&mut self.mesh, tx, say, events)?;
        self.tell_quarantined(tx, now, events)?;
        for alarm in came {
            self.append_or_hold(tx, Entry { stamp: now.stamp, body: Body::Alarm(alarm) }, events)?;
        }
        Ok(())
    }

    /// One alarm for all that went to quarantine, however many entries a run has.
    pub(super) fn tell_quarantined<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let bad: Vec<&Event> = events.iter().filter(|e| matches!(e, Event::Quarantined { .. })).collect();
        let Some(Event::Quarantined { feed, seq, cause }) = bad.first() else { return Ok(()) };
        let more = if bad.len() > 1 { format!(" (and {} more)", bad.len() - 1) } else { String::new() };
        let detail = format!("{feed} {seq}: {cause}{more}");
        self.alarm(tx, "quarantine", detail, now, events)
    }
}
