//! Short texts that people paste and programs print: join lines, identities, numbers, amounts.

use super::MEMORY_BYTES_MAX;
use crate::target::{Seen, Target, refused};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::str::FromStr;
use yika_crdt::Fen;
use yika_crdt::ids::{CampusId, CardNumber, NodeId, OperatorId, PersonId, PurchaseId, TerminalId};
use yika_link::{JoinString, NodeIdentity, Pin, Token, check_address};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "join-line",
        about: "the line that an operator pastes on a new box, its check digits made right",
        input_bytes_max: 1 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: join_line,
        seeds: join_lines,
    },
    Target {
        name: "text",
        about: "identities, pins, numbers with their letter, amounts, addresses",
        input_bytes_max: 512,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: text,
        seeds: texts,
    },
];

fn join_line(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let as_it_is = pasted(text);
    let body = text.trim().rsplit_once('/').map_or(text.trim(), |(body, _)| body);
    let mended = format!("{body}/{}", hex::encode(&Sha256::digest(body)[..4]));
    format!("{as_it_is} {}", pasted(&mended))
}

fn pasted(text: &str) -> Seen {
    let token = text.parse::<Token>();
    if let Ok(token) = &token {
        assert_eq!(token.to_text().as_str(), text, "another spelling is the same token");
    }
    match text.parse::<JoinString>() {
        Err(error) => refused(&error),
        Ok(line) => {
            assert_eq!(line.to_text().as_str(), text.trim(), "another spelling is the same line");
            assert_eq!(check_address(&line.hub_addr), Ok(()));
            format!("taken {}", line.name.is_some())
        }
    }
}

fn join_lines() -> Vec<Vec<u8>> {
    let line = |address, name: Option<&str>| {
        let line = JoinString::new(address, Pin([7; 32]), Token::new([9; 32]));
        line.map(|line| line.named(name.map(str::to_owned)).to_text().as_bytes().to_vec())
    };
    let lines = [
        line("hub.example.org:7443", None),
        line("[2001:db8::1]:7443", Some("east-2 东门")),
        line("10.0.0.1:1", Some("园")),
    ];
    lines.into_iter().flatten().chain([Token::new([9; 32]).to_text().as_bytes().to_vec()]).collect()
}

/// Reads a text as one type; what it takes, it prints, and takes again.
fn one<T: FromStr + Display + PartialEq>(text: &str, seen: &mut String) {
    let read = text.parse::<T>().ok();
    if let Some(value) = &read {
        let printed = value.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == *value), "{text:?} is printed as {printed:?}");
    }
    seen.push(if read.is_some() { 'y' } else { 'n' });
}

fn text(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let mut seen = String::new();
    one::<CampusId>(text, &mut seen);
    one::<NodeId>(text, &mut seen);
    one::<PersonId>(text, &mut seen);
    one::<CardNumber>(text, &mut seen);
    one::<TerminalId>(text, &mut seen);
    one::<OperatorId>(text, &mut seen);
    one::<PurchaseId>(text, &mut seen);
    one::<Fen>(text, &mut seen);
    one::<Pin>(text, &mut seen);
    one::<NodeIdentity>(text, &mut seen);
    if let Ok(identity) = text.parse::<NodeIdentity>() {
        assert_eq!(identity.to_string(), text, "another spelling is the same identity");
    }
    seen.push(if check_address(text).is_ok() { 'y' } else { 'n' });
    seen
}

fn texts() -> Vec<Vec<u8>> {
    let texts = [
        "yika:node/7/incarnation/1.1/campus/3/role/edge",
        "yika:node/0/incarnation/2.5/campus/-/role/hub",
        "c3",
        "p9223372036854775807",
        "20000001",
        "t12-1-345",
        "12.50",
        "-0.05",
        "hub.example.org:7443",
        "[::1]:7443",
        "sha256:0707070707070707070707070707070707070707070707070707070707070707",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
