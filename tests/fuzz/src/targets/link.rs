//! What arrives on a connection before and beside the messages: frames, greetings, enrolment, certificates.

use super::MEMORY_BYTES_MAX;
use super::nodes::{key, writer};
use crate::target::{Seen, Target, refused, taken};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use yika_crdt::ids::CampusId;
use yika_crdt::wire;
use yika_link::seal;
use yika_link::{
    Authority, Enroller, Granted, Greeting, JoinRefusal, JoinServer, NodeIdentity, Protocols, RenewReply, RenewRequest,
    Validity, csr, describe_certificate, encode_frame, limits, read_frame,
};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        about: "frames on a stream",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: frames,
        seeds: || vec![[framed(b"one"), framed(b""), framed(&[7; 300])].concat(), framed(&[1; 20_000])],
    },
    Target {
        name: "greeting",
        about: "the first frame of a connection",
        input_bytes_max: 2 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: greeting,
        seeds: || vec![Greeting::ours("yika-edge 0.1.0").encode(), Greeting::ours("").encode()],
    },
    Target {
        name: "join",
        about: "a box's question for enrolment, answered",
        input_bytes_max: 4 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: join,
        seeds: || vec![request("东门", &own_csr())],
    },
    Target {
        name: "certificate",
        about: "a node's certificate",
        input_bytes_max: limits::CERTIFICATE_BYTES_MAX + 64,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: certificate,
        seeds: certificates,
    },
    Target {
        name: "csr",
        about: "a request for a certificate",
        input_bytes_max: limits::CSR_BYTES_MAX + 64,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: request_for_a_certificate,
        seeds: || vec![own_csr()],
    },
    Target {
        name: "renewal",
        about: "question and answer of a renewal",
        input_bytes_max: 8 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: renewal,
        seeds: renewals,
    },
    Target {
        name: "sealed",
        about: "a secret that is sealed to this node",
        input_bytes_max: 1 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: sealed,
        seeds: || seal::seal(&key().verifying_key(), "key", b"a secret").into_iter().collect(),
    },
];

const VALID: Validity = Validity { not_before_s: 1_800_000_000, not_after_s: 1_900_000_000 };

fn framed(payload: &[u8]) -> Vec<u8> {
    encode_frame(payload).unwrap_or_default()
}

fn frames(bytes: &[u8]) -> Seen {
    let mut stream = bytes;
    let mut seen = 0;
    loop {
        let before = stream;
        let mut reading = pin!(read_frame(&mut stream, wire::FRAME_BYTES_MAX));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => panic!("what is there is read at once"),
            Poll::Ready(Err(error)) => return format!("{} {error:?}", seen.min(9)),
            Poll::Ready(Ok(payload)) => {
                assert!(before.starts_with(&framed(&payload)), "framed again it is something else");
                seen += 1;
            }
        }
    }
}

fn greeting(bytes: &[u8]) -> Seen {
    match Greeting::decode(bytes) {
        Err(error) => refused(&error),
        Ok(greeting) => {
            assert_eq!(Greeting::decode(&greeting.encode()).as_ref(), Ok(&greeting));
            taken(&greeting.agree(Protocols::SPOKEN, "the hub", "this box"))
        }
    }
}

fn authority() -> &'static Arc<Authority> {
    static AUTHORITY: OnceLock<Arc<Authority>> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let pems = match Authority::create("test", &[3; 32], VALID.not_before_s) {
            Ok(pems) => pems,
            Err(error) => panic!("an authority is made: {error}"),
        };
        match Authority::load(&pems.key_pem, &pems.certificate_pem) {
            Ok(authority) => Arc::new(authority),
            Err(error) => panic!("an authority is loaded: {error}"),
        }
    })
}

fn identity() -> NodeIdentity {
    NodeIdentity::edge(writer(7).node, writer(7).incarnation, CampusId(3))
}

/// Enrols everybody.
struct Everybody;

impl Enroller for Everybody {
    fn redeem(&self, _: [u8; 32], _: [u8; 32], _: &str) -> Result<Granted, JoinRefusal> {
        Ok(Granted { identity: identity(), valid: VALID, hub_name: "总部".to_owned() })
    }
}

fn own_csr() -> Vec<u8> {
    csr(&key(), "东门").unwrap_or_default()
}

/// As a box asks: the first form, a secret, the request, two names.
fn request(name: &str, csr: &[u8]) -> Vec<u8> {
    wire::encode(&(0u8, [9u8; 32], csr, name, "yika-edge 0.1.0"))
}

fn join(bytes: &[u8]) -> Seen {
    let server = JoinServer { authority: Arc::clone(authority()), enroller: Arc::new(Everybody) };
    let answer = server.answer(bytes);
    assert_eq!(server.answer(bytes), answer, "the same question gets another answer");
    match answer.first() {
        Some(0) => "granted".to_owned(),
        Some(1) => format!("refused {:?}", answer.get(1)),
        _ => panic!("no answer"),
    }
}

fn certificates() -> Vec<Vec<u8>> {
    let hub = NodeIdentity::hub(writer(0).incarnation);
    let made = [identity(), hub].map(|identity| authority().issue_own(&key(), identity, VALID));
    made.into_iter().flatten().chain([authority().certificate_der().to_vec()]).collect()
}

fn certificate(bytes: &[u8]) -> Seen {
    match describe_certificate(bytes) {
        Err(error) => refused(&error),
        Ok((identity, valid)) => {
            assert_eq!(identity.to_string().parse(), Ok(identity));
            assert!(identity.is_consistent());
            taken(&(identity, valid.not_before_s <= valid.not_after_s))
        }
    }
}

fn request_for_a_certificate(bytes: &[u8]) -> Seen {
    let own = key().verifying_key().to_bytes();
    match authority().issue_from_csr(bytes, &own, identity(), VALID) {
        Err(error) => refused(&error),
        Ok(issued) => {
            assert_eq!(describe_certificate(&issued).map(|(identity, _)| identity), Ok(identity()));
            "issued".to_owned()
        }
    }
}

fn renewal(bytes: &[u8]) -> Seen {
    let asked = RenewRequest::decode(bytes);
    if let Ok(request) = &asked {
        assert_eq!(request.encode(), bytes);
    }
    let answered = RenewReply::decode(bytes);
    if let Ok(reply) = &answered {
        assert_eq!(reply.encode(), bytes);
    }
    taken(&(asked, answered))
}

fn renewals() -> Vec<Vec<u8>> {
    vec![
        RenewRequest::V1 { csr: own_csr() }.encode(),
        RenewReply::Renewed { certificate_der: certificates().swap_remove(0) }.encode(),
        RenewReply::Refused { words: "headquarters is in recovery".to_owned() }.encode(),
    ]
}

fn sealed(bytes: &[u8]) -> Seen {
    match seal::open(&key(), "key", bytes) {
        Ok(secret) => format!("opened {}", secret.len()),
        Err(error) => refused(&error),
    }
}
