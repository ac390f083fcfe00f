//! Sign-in, time, heartbeat, parameters: what a terminal tells and learns besides sales.

use super::Terminals;
use super::gate::Caller;
use super::refusal::{Code, Refusal};
use yika_crdt::Fen;
use yika_crdt::entry::{TerminalRecord, TerminalState};
use yika_crdt::sold;
use yika_crdt::tariff::sheet::{Limit, TariffSheet};
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::sign::sha256_hex;

impl Terminals {
    pub(super) fn sign_in(&self, caller: &Caller, told: SignIn) -> Result<SignedIn, Refusal> {
        let TerminalRecord { terminal, campus, outlet, merchant, ref name, .. } = caller.record;
        let boot = caller.signed.boot;
        let last_seq = self.node.look(|s| sold::last_seq(s, terminal, boot))?;
        self.board.signed_in(terminal, told.model, told.firmware);
        Ok(SignedIn {
            name: name.clone(),
            campus: campus.0,
            outlet: outlet.0,
            merchant: merchant.0,
            key_version: caller.signed.key_version,
            last_seq,
            versions: self.versions(),
            server_time_ms: caller.now_ms,
            clock_ahead_ms: caller.ahead_ms,
        })
    }

    pub(super) fn tell_time(&self, caller: &Caller) -> TimeAnswer {
        TimeAnswer { server_time_ms: caller.now_ms, clock_ahead_ms: caller.ahead_ms }
    }

    pub(super) fn heartbeat(&self, caller: &Caller, told: Heartbeat) -> Result<HeartbeatAnswer, Refusal> {
        if told.storage_percent > 100 || told.battery_percent.is_some_and(|p| p > 100) {
            return Err(Refusal::because(Code::BadBody, "百分数大于 100", "a percentage is above 100"));
        }
        self.board.beat(caller.record.terminal, told);
        let standing = match caller.record.state {
            TerminalState::Deployed => Standing::Deployed,
            TerminalState::Suspended => Standing::Suspended,
            TerminalState::Scrapped => Standing::Scrapped,
        };
        Ok(HeartbeatAnswer {
            standing,
            versions: self.versions(),
            server_time_ms: caller.now_ms,
            clock_ahead_ms: caller.ahead_ms,
        })
    }

    pub(super) fn parameters(&self, caller: &Caller, have: u32) -> Result<ParametersAnswer, Refusal> {
        let registry = self.node.registry();
        let Some(sheet) = &registry.tariff else {
            return Err(Refusal::because(
                Code::BoxNotReady,
                "本节点还没有收到价目",
                "no tariff has reached this box yet",
            ));
        };
        let version = sheet.version.0;
        let parameters = parameters_of(sheet, &caller.record);
        // Through a value, whose fields are sorted by name: one spelling for all makers.
        let canonical = serde_json::to_value(&parameters).and_then(|value| serde_json::to_vec(&value));
        let canonical = canonical.map_err(Refusal::not_ready)?;
        Ok(ParametersAnswer {
            version,
            parameters: (have != version).then_some(parameters),
            hash: sha256_hex(&canonical),
            server_time_ms: caller.now_ms,
        })
    }

    fn versions(&self) -> Versions {
        let parameters = self.node.registry().tariff.as_ref().map_or(0, |sheet| sheet.version.0);
        let (blocks, cards) = self.lists.versions();
        Versions { parameters, blocks, cards }
    }
}

fn parameters_of(sheet: &TariffSheet, terminal: &TerminalRecord) -> Parameters {
    let here = |outlet: &Option<_>| outlet.is_none_or(|o| o == terminal.outlet);
    let periods = sheet.periods.iter().map(|p| Period {
        period: p.id.0,
        name: p.name.clone(),
        from_minute: p.from_minute,
        until_minute: p.until_minute,
    });
    let fixed = sheet.fixed.iter().filter(|f| here(&f.outlet)).map(|f| FixedPrice {
        this_outlet: f.outlet.is_some(),
        category: f.category.map(|c| c.0),
        period: f.period.map(|p| p.0),
        fen: f.price.0,
    });
    let barred = sheet.barred.iter().filter(|(_, outlet)| *outlet == terminal.outlet);
    Parameters {
        periods: periods.collect(),
        fixed: fixed.collect(),
        barred: barred.map(|(category, _)| category.0).collect(),
        limits: sheet.limits.iter().map(limit_line).collect(),
        repeat_tap_seconds: sheet.repeat_tap_seconds,
    }
}

fn limit_line(limit: &Limit) -> LimitLine {
    let fen = |cap: Option<Fen>| cap.map(|fen| fen.0);
    LimitLine {
        category: limit.category.map(|c| c.0),
        per_purchase_fen: fen(limit.per_purchase),
        per_meal_fen: fen(limit.per_meal),
        per_day_fen: fen(limit.per_day),
        times_per_meal: limit.times_per_meal,
        times_per_day: limit.times_per_day,
    }
}
