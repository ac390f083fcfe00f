//! The rules a selling terminal keeps: one key per sale, the same key on every retry, and a reversal before the next
//! sale while an outcome is unknown (POS-21).
//!
//! Leaves to others: signatures and tries (`client`), where the state is kept over a power cut.

use super::client::{Client, ClientError};
use super::message::*;
use serde::{Deserialize, Serialize};

/// What a terminal must keep over a power cut; written before each request leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TillState {
    /// Its boot number.
    pub boot: u32,
    /// The next sequence number.
    pub next_seq: u32,
    /// A sale of unknown outcome, to be undone before the next one.
    pub unknown: Option<SaleId>,
    /// The key of that reversal, once one was drawn: repeated with the same key.
    pub reversal: Option<SaleId>,
}

impl TillState {
    /// The first state of a boot.
    pub fn new(boot: u32) -> TillState {
        TillState { boot, next_seq: 1, unknown: None, reversal: None }
    }
}

/// Why a sale did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TillError {
    /// An earlier sale must be undone first and the edge does not answer.
    #[error("sale {of:?} is not undone yet: {cause}")]
    Reversal {
        /// The earlier sale.
        of: SaleId,
        /// Why.
        cause: ClientError,
    },
    /// This sale.
    #[error(transparent)]
    Sale(ClientError),
    /// Every sequence number of the boot is used: raise the boot number.
    #[error("all sequence numbers of boot {0} are used: raise the boot number")]
    Exhausted(u32),
}

/// A terminal that sells.
pub struct Till {
    client: Client,
    state: TillState,
}

impl Till {
    /// Goes on from a kept state.
    pub fn new(client: Client, state: TillState) -> Till {
        Till { client, state }
    }

    /// What to keep.
    pub fn state(&self) -> TillState {
        self.state
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Draws a key.
    ///
    /// # Errors
    /// When the boot's numbers are used up.
    pub fn draw(&mut self) -> Result<SaleId, TillError> {
        let seq = self.state.next_seq;
        self.state.next_seq = seq.checked_add(1).ok_or(TillError::Exhausted(self.state.boot))?;
        Ok(SaleId { terminal: self.client.identity().terminal, boot: self.state.boot, seq })
    }

    /// Sells; first undoes what is unknown. After an error the sale counts as not made, and is undone before the next.
    ///
    /// # Errors
    /// When there is no answer, or an earlier sale cannot be undone yet.
    pub async fn sell(&mut self, card: PresentedCard, mode: SaleMode) -> Result<SaleAnswer, TillError> {
        self.settle().await?;
        let id = self.draw()?;
        let purchase = Purchase { id, card, mode, time_ms: self.client.now_ms(), tariff: None };
        self.state.unknown = Some(id);
        let answer = self.client.purchase(&purchase).await;
        // An answer under another key is as good as none.
        let answer = answer.and_then(|a| match a.id == id {
            true => Ok(a),
            false => Err(ClientError::Unknown("the answer is for another key".into())),
        });
        if !answer.as_ref().is_err_and(ClientError::outcome_is_unknown) {
            self.state.unknown = None;
        }
        answer.map_err(TillError::Sale)
    }

    /// Undoes the sale whose outcome is unknown, if there is one. Answers what the edge said.
    ///
    /// # Errors
    /// When the edge does not answer; the reversal is still due, with the same key.
    pub async fn settle(&mut self) -> Result<Option<SaleAnswer>, TillError> {
        let Some(of) = self.state.unknown else {
            return Ok(None);
        };
        let id = match self.state.reversal {
            Some(id) => id,
            None => self.draw()?,
        };
        self.state.reversal = Some(id);
        let answer = self.client.reversal(&Reversal { id, of }).await;
        let answer = answer.map_err(|cause| TillError::Reversal { of, cause })?;
        self.state.unknown = None;
        self.state.reversal = None;
        Ok(Some(answer))
    }
}
