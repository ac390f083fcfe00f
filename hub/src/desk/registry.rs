//! Campuses, boxes, terminals and tariffs: what the registry lists.

use super::money::reason_of;
use super::{Actor, Desk, DeskError, facts, refused};
use crate::clock::wall_ms;
use crate::core::enrol::TokenRow;
use crate::core::{Command, Reply};
use crate::refusal::Refusal;
use crate::store::{TableRow, TerminalKeyRow};
use crate::vault::random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_crdt::tariff::sheet::TariffSheet;
use yika_link::{JoinString, Token};
use zeroize::Zeroizing;

/// Longest name of a campus, terminal or box, in characters.
pub const NAME_CHARS_MAX: usize = 40;
/// A token lives at most so long.
pub const TOKEN_TTL_S_MAX: i64 = 7 * 24 * 3600;

/// Outlets named to somebody who gave none.
const PLACES_NAMED_MAX: usize = 12;

/// A terminal to be registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTerminal {
    /// Where it stands.
    pub campus: CampusId,
    /// `till`, `door` or `attendance`.
    pub kind: String,
    /// Its name as shown.
    pub name: String,
    /// Where it sells.
    #[serde(default = "no_outlet")]
    pub outlet: OutletId,
    /// For whom it sells.
    #[serde(default = "no_merchant")]
    pub merchant: MerchantId,
    /// The door it reads for.
    #[serde(default)]
    pub door: Option<DoorId>,
}

fn no_outlet() -> OutletId {
    OutletId(0)
}

fn no_merchant() -> MerchantId {
    MerchantId(0)
}

/// A registered terminal with its key, which is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TerminalMade {
    /// Its number.
    pub terminal: TerminalId,
    /// Version of the key.
    pub version: u16,
    /// 32 bytes in hexadecimal.
    pub key: String,
}

/// A one-time token to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Campus of the box.
    pub campus: CampusId,
    /// How long it lives, in seconds.
    pub ttl_s: i64,
    /// The box it replaces.
    #[serde(default)]
    pub replaces: Option<NodeId>,
    /// The name that the box is to take; its host's name when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Where this box is to dial headquarters, `host:port`; as configured when absent.
    #[serde(default)]
    pub advertised: Option<String>,
}

/// What is pasted on the box; shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenMade {
    /// The line that joins it.
    pub line: String,
    /// The whole command.
    pub command: String,
    /// Where the box is to dial headquarters.
    pub address: String,
    /// Nobody beyond this machine reaches that.
    pub only_here: bool,
}

/// The tariff in force after one was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TariffSet {
    /// Its version.
    pub version: TariffVersion,
    /// It is another one than before.
    pub changed: bool,
}

impl Desk {
    /// Adds a campus or changes its name and calendar.
    ///
    /// # Errors
    /// When a value is out of range, or the hub cannot serve.
    pub async fn put_campus(&self, actor: &Actor, mut record: CampusRecord) -> Result<(), DeskError> {
        actor.may_touch(record.campus)?;
        named(&record.name)?;
        if record.campus.0 == 0 {
            return refused(Refusal::CampusZero {});
        }
        if !(-14 * 60..=14 * 60).contains(&record.utc_offset_minutes) || record.cut_minute >= 24 * 60 {
            return refused(Refusal::CampusCalendar {});
        }
        let twin = self.node.registry().campuses.values().any(|c| c.campus != record.campus && c.name == record.name);
        if twin {
            return refused(Refusal::CampusNameTaken { name: record.name });
        }
        if let Some(known) = self.node.registry().campuses.get(&record.campus) {
            // How its people are cut into documents is settled once.
            record.people_shards = known.people_shards;
        }
        let (object, detail) = (record.campus.to_string(), record.name.clone());
        self.act(actor, "campus.put", object, detail, registry(Body::Campus(record)), Vec::new()).await?;
        Ok(self.node.refresh_registry()?)
    }

    /// Where boxes are told to dial headquarters.
    ///
    /// # Errors
    /// It listens on every address and nobody has said which of them others reach.
    pub fn dialled(&self) -> Result<&str, Refusal> {
        dialable(&self.advertised)
    }

    /// Makes a one-time token; the line to paste on the box is shown this once.
    ///
    /// # Errors
    /// When the campus or the box to be replaced is not known, no address can be told, or the hub cannot serve.
    pub async fn create_token(&self, actor: &Actor, new: NewToken) -> Result<TokenMade, DeskError> {
        let NewToken { campus, ttl_s, replaces, name, advertised } = new;
        actor.may_touch(campus)?;
        if !(1..=TOKEN_TTL_S_MAX).contains(&ttl_s) {
            return refused(Refusal::TokenTime {});
        }
        if let Some(name) = &name {
            named(name)?;
        }
        let address = match &advertised {
            Some(address) => dialable(address)?,
            None => self.dialled()?,
        };
        let token = Token::generate().map_err(|e| DeskError::Busy(e.to_string()))?;
        let hash = token.hash();
        let line = JoinString::new(address, self.pin, token)
            .map_err(|_| Refusal::AdvertisedAddress { address: address.to_owned() })?
            .named(name.clone());
        let row = TokenRow { campus, expires_ms: wall_ms().saturating_add(ttl_s * 1000), replaces, used: None };
        let replaced = replaces.map_or_else(String::new, |node| node.to_string());
        let detail = facts(&[("replaces", &replaced), ("name", name.as_deref().unwrap_or_default())]);
        let command = Command::CreateToken { hash, row };
        self.act(actor, "edge.token", campus.to_string(), detail, command, Vec::new()).await?;
        let line = line.to_text().to_string();
        // The line has the name in it; the command shows it to whoever pastes it.
        let command = match &name {
            Some(name) => format!("yika-edge init --join {line} --name {}", quoted(name)),
            None => format!("yika-edge init --join {line}"),
        };
        Ok(TokenMade { line, command, address: address.to_owned(), only_here: only_here(address) })
    }

    /// Gives a box another name; pages show it at once, those of the box as soon as it hears of it.
    ///
    /// # Errors
    /// When the name does not do, the box is not known, or the hub cannot serve.
    pub async fn rename_box(&self, actor: &Actor, node: NodeId, name: &str) -> Result<(), DeskError> {
        named(name)?;
        let registry_view = self.node.registry();
        let living = registry_view.current(node).filter(|w| !w.node.is_hub());
        let Some(record) = living.and_then(|writer| registry_view.nodes.get(&writer)) else {
            return refused(Refusal::UnknownBox { node });
        };
        if let Some(campus) = record.campus {
            actor.may_touch(campus)?;
        }
        let detail = facts(&[("before", &record.name), ("name", name)]);
        let command = Command::Rename { node, name: name.to_owned() };
        self.act(actor, "edge.rename", node.to_string(), detail, command, Vec::new()).await?;
        Ok(self.node.refresh_registry()?)
    }

    /// Registers a terminal and makes its key.
    ///
    /// # Errors
    /// When a value is wrong, or the hub cannot serve.
    pub async fn register_terminal(&self, actor: &Actor, new: NewTerminal) -> Result<TerminalMade, DeskError> {
        actor.may_touch(new.campus)?;
        named(&new.name)?;
        let _drawing = self.drawing.lock().await;
        let registry_view = self.node.registry();
        if !registry_view.campuses.contains_key(&new.campus) {
            let known = registry_view.campuses.keys().copied().collect();
            return refused(Refusal::UnknownCampus { campus: new.campus, known });
        }
        let kind = match new.kind.as_str() {
            "till" => TerminalKind::Till,
            "door" => TerminalKind::Door,
            "attendance" => TerminalKind::Attendance,
            other => return refused(Refusal::TerminalKind { kind: other.to_owned() }),
        };
        if kind == TerminalKind::Till && (new.outlet.0 == 0 || new.merchant.0 == 0) {
            return refused(Refusal::TillNeeds { known: places(&registry_view, new.campus) });
        }
        if (kind == TerminalKind::Door) != new.door.is_some() {
            return refused(Refusal::DoorNeeds {});
        }
        if let Some(door) = new.door {
            self.check_door(actor, new.campus, door).await?;
        }
        let namesake = registry_view
            .terminals
            .values()
            .find(|t| t.campus == new.campus && t.name == new.name && t.state != TerminalState::Scrapped);
        if let Some(TerminalRecord { terminal, .. }) = namesake {
            return refused(Refusal::TerminalNameTaken { name: new.name, terminal: *terminal });
        }
        let last = registry_view.terminals.keys().next_back().map_or(0, |t| t.0);
        let terminal = TerminalId(last.saturating_add(1));
        let record = TerminalRecord {
            terminal,
            campus: new.campus,
            kind,
            outlet: new.outlet,
            merchant: new.merchant,
            door: new.door,
            name: new.name.clone(),
            state: TerminalState::Deployed,
        };
        let (key_row, made) = self.make_key(terminal, 1)?;
        let rows = vec![TableRow::TerminalKey(key_row)];
        self.act(actor, "terminal.register", terminal.to_string(), new.name, registry(Body::Terminal(record)), rows)
            .await?;
        self.node.refresh_registry()?;
        self.node.ears().provision.send_modify(|n| *n += 1);
        Ok(made)
    }

    /// Suspends, deploys or scraps a terminal.
    ///
    /// # Errors
    /// When it is not known or scrapped, or the hub cannot serve.
    pub async fn set_terminal_state(
        &self,
        actor: &Actor,
        terminal: TerminalId,
        state: TerminalState,
    ) -> Result<(), DeskError> {
        let _drawing = self.drawing.lock().await;
        let Some(record) = self.node.registry().terminals.get(&terminal).cloned() else {
            return refused(Refusal::UnknownTerminal { terminal });
        };
        actor.may_touch(record.campus)?;
        if record.state == TerminalState::Scrapped {
            return refused(Refusal::TerminalScrapped { terminal });
        }
        let detail = facts(&[("state", &format!("{state:?}").to_lowercase())]);
        let record = TerminalRecord { state, ..record };
        self.act(actor, "terminal.state", terminal.to_string(), detail, registry(Body::Terminal(record)), Vec::new())
            .await?;
        Ok(self.node.refresh_registry()?)
    }

    /// Puts a new tariff in force; its version is the next one. The one in force stays as it is.
    ///
    /// # Errors
    /// Everything that is wrong with the sheet, or the hub cannot serve.
    pub async fn set_tariff(&self, actor: &Actor, mut sheet: TariffSheet) -> Result<TariffSet, DeskError> {
        if actor.campus.is_some() {
            return refused(Refusal::TariffOfHeadquarters {});
        }
        let _drawing = self.drawing.lock().await;
        let in_force = self.node.registry().tariff.clone();
        let last = in_force.as_ref().map_or(TariffVersion(0), |tariff| tariff.version);
        sheet.version = last;
        if in_force.is_some_and(|tariff| *tariff == sheet) {
            return Ok(TariffSet { version: last, changed: false });
        }
        sheet.version = TariffVersion(last.0.saturating_add(1));
        if let Err(problems) = sheet.validate() {
            return refused(Refusal::BadTariff { problems });
        }
        let version = sheet.version;
        let command = registry(Body::Tariff(Box::new(sheet)));
        self.act(actor, "tariff.set", version.to_string(), String::new(), command, Vec::new()).await?;
        self.node.refresh_registry()?;
        Ok(TariffSet { version, changed: true })
    }

    /// Ends the life of a dead or stolen box.
    ///
    /// # Errors
    /// When it is not an edge of this registry, or the hub cannot serve.
    pub async fn fence(&self, actor: &Actor, node: NodeId, reason: &str) -> Result<Writer, DeskError> {
        let registry_view = self.node.registry();
        let Some(writer) = registry_view.current(node).filter(|w| !w.node.is_hub()) else {
            return refused(Refusal::UnknownBox { node });
        };
        if let Some(campus) = registry_view.nodes.get(&writer).and_then(|n| n.campus) {
            actor.may_touch(campus)?;
        }
        let reason = reason_of(reason, true)?;
        let detail = facts(&[("reason", &reason)]);
        let command = Command::Fence { writer, reason };
        self.act(actor, "edge.fence", writer.to_string(), detail, command, Vec::new()).await?;
        self.node.refresh_registry()?;
        Ok(writer)
    }

    /// Lifts every block that the fenced lives of a box wrote; how many there were.
    ///
    /// # Errors
    /// No life of the box is fenced, or the hub cannot serve.
    pub async fn lift_written(&self, actor: &Actor, node: NodeId) -> Result<usize, DeskError> {
        let registry_view = self.node.registry();
        let newest = registry_view.nodes.keys().rev().find(|writer| writer.node == node && !node.is_hub());
        let Some(writer) = newest else { return refused(Refusal::UnknownBox { node }) };
        if let Some(campus) = registry_view.nodes.get(writer).and_then(|n| n.campus) {
            actor.may_touch(campus)?;
        }
        let command = Command::LiftWritten { node, operator: actor.operator };
        match self.act(actor, "edge.lift", node.to_string(), String::new(), command, Vec::new()).await? {
            Reply::Lifted(count) => Ok(count),
            other => Err(DeskError::Busy(format!("the core answered a lift with {other:?}"))),
        }
    }

    fn make_key(&self, terminal: TerminalId, version: u16) -> Result<(TerminalKeyRow, TerminalMade), DeskError> {
        let mut key = Zeroizing::new([0u8; 32]);
        let no_randomness = |e: anyhow::Error| DeskError::Busy(e.to_string());
        random(key.as_mut()).map_err(no_randomness)?;
        let sealed = self.node.vault.seal("terminal key", key.as_ref()).map_err(no_randomness)?;
        let made = TerminalMade { terminal, version, key: hex::encode(key.as_ref()) };
        Ok((TerminalKeyRow { terminal, version, sealed }, made))
    }
}

fn registry(body: Body) -> Command {
    Command::Registry(Box::new(body))
}

/// Outlets of a campus with their merchants, each with the name of one till that stands there.
fn places(registry: &RegistryView, campus: CampusId) -> Vec<String> {
    let mut places: BTreeMap<(OutletId, MerchantId), &str> = BTreeMap::new();
    for till in registry.terminals.values().filter(|t| t.campus == campus && t.kind == TerminalKind::Till) {
        places.entry((till.outlet, till.merchant)).or_insert(&till.name);
    }
    let mut words: Vec<String> = places
        .iter()
        .take(PLACES_NAMED_MAX)
        .map(|((outlet, merchant), till)| format!("{outlet} {merchant} ({till})"))
        .collect();
    if words.is_empty() {
        words.push("–".to_owned());
    }
    words
}

/// An address that a box can be told to dial, as far as it shows: a host and a port, and not "every address of this one".
///
/// # Errors
/// Why it cannot be told.
pub fn dialable(address: &str) -> Result<&str, Refusal> {
    if address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified()) {
        return Err(Refusal::NoAdvertisedAddress { listens: address.to_owned() });
    }
    match yika_link::check_address(address) {
        Ok(()) => Ok(address),
        Err(_) => Err(Refusal::AdvertisedAddress { address: address.to_owned() }),
    }
}

/// Whether only programs of this very machine reach an address.
pub fn only_here(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost")),
    }
}

/// A text as one word of a shell, quoted where it must be.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn named(name: &str) -> Result<(), DeskError> {
    let chars = name.chars().count();
    match chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) || name.trim() != name {
        true => refused(Refusal::BadName { chars_max: NAME_CHARS_MAX }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_boxes_are_told_to_dial_is_a_host_and_a_port() {
        for good in ["hub.example.org:7443", "10.0.0.7:7443", "[2001:db8::1]:7443", "127.0.0.1:7443", "hub:1"] {
            assert_eq!(dialable(good), Ok(good));
        }
        for bad in ["nonsense", "hub:", "hub:0", "hub:70000", ":7443", "a b:1", "300.1.2.3:7443", "hub..org:1", "-a:1"]
        {
            let address = bad.to_owned();
            assert_eq!(dialable(bad), Err(Refusal::AdvertisedAddress { address }));
        }
        for everywhere in ["0.0.0.0:7443", "[::]:7443"] {
            assert!(matches!(dialable(everywhere), Err(Refusal::NoAdvertisedAddress { .. })), "{everywhere}");
        }
    }

    #[test]
    fn an_address_of_this_machine_alone_is_known() {
        let here = ["127.0.0.1:7443", "127.9.9.9:1", "[::1]:7443", "[::ffff:127.0.0.1]:7", "localhost:7443"];
        assert!(here.into_iter().all(only_here));
        assert!(!["10.0.0.7:7443", "hub.example.org:7443", "localhost.example.org:1"].into_iter().any(only_here));
    }

    #[test]
    fn a_word_of_a_shell_is_quoted_where_it_must_be() {
        assert_eq!(quoted("/var/lib/yika-hub"), "/var/lib/yika-hub");
        assert_eq!(
            [quoted(""), quoted("a b"), quoted("it's"), quoted("食堂")],
            ["''", "'a b'", "'it'\\''s'", "'食堂'"]
        );
    }
}
