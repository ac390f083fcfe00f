//! The link between nodes: QUIC, mutual TLS, enrolment.
//!
//! The only crate that names quinn, rustls, rcgen and X.509 (invariant 2). It moves framed bytes between nodes
//! whose identity it has proved and knows nothing of what the bytes mean.
//! Leaves to others: feeds and sync (`yika-crdt`), who is fenced (the caller's [`Admission`] function), where keys
//! and certificates are kept.

mod ca;
mod close;
mod dialer;
mod endpoint;
mod frames;
mod identity;
mod join;
mod peer;
mod renew;
pub mod seal;
pub mod sync;
mod ticket;
mod tls;

pub use ca::{Authority, AuthorityPems, CaError, Validity, csr, describe_certificate, pin_of_ca};
pub use close::{CloseCode, CloseReason};
pub use dialer::{DialState, Dialer, Target};
pub use endpoint::{EndpointKeys, Link, LinkConfig, LinkError};
pub use frames::{
    FRAME_HEADER_BYTES, FRAME_VERSION, FrameError, Greeting, GreetingError, PROTOCOL_MAX, Protocols, StreamError,
    encode_frame, read_frame,
};
pub use identity::{IdentityError, NodeIdentity, PeerIdentity, Pin, Role};
pub use join::{
    Enroller, Granted, JoinError, JoinRefusal, JoinServer, Joined, NAME_CHARS_MAX, RefusalCode, is_name, join,
};
pub use peer::{Counters, Peer, Received, SendError};
pub use renew::{RenewError, RenewReply, RenewRequest};
pub use ticket::{JOIN_PREFIX, JoinString, TicketError, Token, check_address};
pub use tls::{Admission, Expected};

/// Every limit of the link, unit last; each says what happens when it is reached.
pub mod limits {
    pub use crate::ca::{CSR_BYTES_MAX, ROOT_VALID_DAYS};
    pub use crate::close::CLOSE_WORDS_BYTES_MAX;
    pub use crate::dialer::{BACKOFF_FIRST_MS, BACKOFF_MS_MAX, BACKOFF_REFUSED_MS_MAX, PATIENCE_FIRST_MS, STABLE_MS};
    pub use crate::endpoint::limits::*;
    pub use crate::frames::{GREETING_BYTES_MAX, SOFTWARE_BYTES_MAX};
    pub use crate::identity::{CERTIFICATE_BYTES_MAX, IDENTITY_URI_BYTES_MAX};
    pub use crate::join::{
        JOIN_ADDRESSES_MAX, JOIN_ATTEMPTS_PER_ADDRESS_PER_S_MAX, JOIN_ATTEMPTS_PER_S_MAX, JOIN_TIMEOUT_MS,
        NAME_BYTES_MAX,
    };
    pub use crate::peer::{FRAME_COST_BYTES_MIN, RECEIVE_QUEUE_BYTES_MAX, SEND_QUEUE_BYTES_MAX};
    pub use crate::ticket::JOIN_STRING_BYTES_MAX;
}
