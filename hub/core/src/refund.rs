//! Refunds by headquarters: when the box that sold no longer may, because its day is cut or it is fenced.
//!
//! Leaves to others: refunds by boxes (`yika_crdt::sale`), their meeting with these (`journal`).

use super::journal::{cut_key, given_back_key, kept_key, seen};
use super::{CoreError, Hub, Reply, Turn, named, sale_error};
use crate::denial::{Denial, Kept};
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::sale::{GivenBack, share_back};
use yika_crdt::store::{Read, StoreError, decode_row};

/// What is to be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Made by the asker.
    pub(super) id: Hash,
    /// The sale.
    pub(super) of: PurchaseId,
    /// What kind.
    pub(super) kind: RefundKind,
    /// How much; everything that is left when absent.
    pub(super) amount: Option<Fen>,
    /// Who.
    pub(super) operator: OperatorId,
}

impl Hub {
    pub(super) fn refund<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        wanted: Wanted,
    ) -> Result<Reply, CoreError> {
        let key = named(b"!refund", &wanted.id);
        if let Some((known, back)) = turn.tx.get::<(Wanted, Vec<(Source, Fen)>)>(&key)? {
            return Ok(match known == wanted {
                true => Reply::Refunded { back, repeated: true },
                false => Reply::Denied(Denial::NumberUsed),
            });
        }
        if let Some(denied) = self.recovering(turn, Kept::GiveBack)? {
            return Ok(denied);
        }
        let Some(kept) = seen(turn, wanted.of)?.into_iter().find(|seen| !seen.reversed) else {
            return Ok(Reply::Denied(Denial::UnknownSale { sale: wanted.of }));
        };
        let Some(sale) = kept.place.sale(turn)? else {
            return Ok(Reply::Denied(Denial::UnknownSale { sale: wanted.of }));
        };
        let writer = kept.place.feed.writer;
        let cut: Option<Day> = turn.tx.get(&cut_key(writer))?;
        let box_may = cut.is_none_or(|cut| cut < sale.day) && !proof::sown("refunded_at_both_places");
        if box_may && !self.mesh.is_fenced(writer) {
            return Ok(Reply::Denied(Denial::BoxStillMay { writer, day: sale.day }));
        }
        let given: GivenBack = turn.tx.get(&given_back_key(&kept.place, sale.id))?.unwrap_or_default();
        let Some(back) = share_back(&sale.paid, &given, wanted.amount).map_err(sale_error)? else {
            return Ok(Reply::Denied(Denial::NotSoMuchLeft { sale: wanted.of }));
        };
        turn.tx.put(key, &(wanted, &back));
        turn.tx.put(kept_key(sale.id), &kept.place);
        let source = refund_source(&wanted.id);
        self.give_back_at_hub(turn, kept.place, &sale, &back, source)?;
        // The terminal's part of the id stays; a refund of the hub has no terminal of its own.
        let record = RefundRecord {
            id: wanted.of,
            of: wanted.of,
            person: sale.person,
            merchant: sale.merchant,
            kind: wanted.kind,
            back: back.clone(),
            operator: wanted.operator,
            day: self.today(turn),
        };
        self.tell_refund(turn, kept.place, record);
        if sale.person != PersonId(0) {
            self.share_out(turn, sale.person)?;
        }
        Ok(Reply::Refunded { back, repeated: false })
    }
}

/// What the transfers of a refund by headquarters follow from.
pub fn refund_source(id: &Hash) -> Hash {
    feed::digest("yika hub refund 1", &id.0)
}

/// Whether headquarters gives sales of a box's business day back: the box itself no longer may.
///
/// # Errors
/// Of storage.
pub fn is_cut<R: Read + ?Sized>(store: &R, writer: Writer, day: Day) -> Result<bool, StoreError> {
    let key = cut_key(writer);
    let cut: Option<Day> = store.get(&key)?.map(|bytes| decode_row(&key, &bytes)).transpose()?;
    Ok(cut.is_some_and(|cut| cut >= day))
}
