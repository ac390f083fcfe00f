//! Certificate renewal over an established sync connection: the question, the answer, their bytes.
//!
//! Leaves to others: when to ask, and who answers (`Authority::renew`). Renewal keeps the key.

use crate::ca::CSR_BYTES_MAX;
use crate::identity::CERTIFICATE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use yika_crdt::wire;

const WORDS_BYTES_MAX: usize = 512;

/// Why bytes are no renewal message.
pub type RenewError = wire::WireError;

/// A box asks for later dates; `csr` proves that it still holds its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RenewRequest {
    /// First form.
    V1 {
        /// Certificate request, DER.
        csr: Vec<u8>,
    },
}

/// The hub's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RenewReply {
    /// The new certificate.
    Renewed {
        /// Certificate, DER.
        certificate_der: Vec<u8>,
    },
    /// Not renewed.
    Refused {
        /// Why, for the operator of the box.
        words: String,
    },
}

impl RenewRequest {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads a request, bounded.
    pub fn decode(bytes: &[u8]) -> Result<Self, RenewError> {
        wire::decode(bytes, CSR_BYTES_MAX + 16)
    }
}

impl RenewReply {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads a reply, bounded.
    pub fn decode(bytes: &[u8]) -> Result<Self, RenewError> {
        wire::decode(bytes, CERTIFICATE_BYTES_MAX.max(WORDS_BYTES_MAX) + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(request) = RenewRequest::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            if let Ok(reply) = RenewReply::decode(&bytes) {
                prop_assert_eq!(reply.encode(), bytes);
            }
        }

        #[test]
        fn both_round_trip(der in proptest::collection::vec(any::<u8>(), 0..600), words in "\\PC{0,60}") {
            let request = RenewRequest::V1 { csr: der.clone() };
            prop_assert_eq!(RenewRequest::decode(&request.encode()), Ok(request));
            for reply in [RenewReply::Renewed { certificate_der: der }, RenewReply::Refused { words }] {
                prop_assert_eq!(RenewReply::decode(&reply.encode()), Ok(reply));
            }
        }
    }
}
