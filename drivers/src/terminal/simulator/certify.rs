//! The certification list: what an edge promises to a terminal, tried rule by rule with one till's key (TRM-18).
//!
//! A maker runs it against a test edge before connecting a device, and reads in words what a device must cope with.
//! It sells for the smallest sum with the card it is given; an unknown card is refused, which serves as well.

use crate::terminal::client::{Client, ClientError, RawAnswer};
use crate::terminal::list::HeldList;
use crate::terminal::message::*;
use crate::terminal::sign::{self, Signed, sha256_hex};
use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;

/// One rule and how it went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Rule {
    /// What must hold.
    pub rule: Words,
    /// What was seen instead; absent when it holds.
    pub failed: Option<String>,
}

/// Tries every rule, in order.
pub async fn certify(client: &Client, card: u64) -> Vec<Rule> {
    let mut list = List { client, card, seq: 0, rules: Vec::new() };
    list.signing_in().await;
    list.signatures().await;
    list.clock_and_nonce().await;
    list.forms().await;
    list.ids().await;
    list.undoing().await;
    list.facts().await;
    list.downloads().await;
    list.rules
}

type Held = Result<(), String>;

struct List<'c> {
    client: &'c Client,
    card: u64,
    seq: u32,
    rules: Vec<Rule>,
}

impl List<'_> {
    fn rule(&mut self, zh: &str, en: &str, held: Held) {
        self.rules.push(Rule { rule: Words::new(zh, en), failed: held.err() });
    }

    fn draw(&mut self) -> SaleId {
        self.seq += 1;
        let who = self.client.identity();
        SaleId { terminal: who.terminal, boot: who.boot, seq: self.seq }
    }

    fn sale(&mut self) -> Purchase {
        let id = self.draw();
        let card = PresentedCard::Number { number: self.card };
        Purchase { id, card, mode: SaleMode::Amount { fen: 1 }, time_ms: self.client.now_ms(), tariff: None }
    }

    async fn signing_in(&mut self) {
        let told = SignIn { model: "certification".into(), firmware: env!("CARGO_PKG_VERSION").into() };
        let signed_in = self.client.sign_in(&told).await;
        if let Ok(answer) = &signed_in {
            self.seq = answer.last_seq;
        }
        let key_version = self.client.identity().key_version;
        let held = said(signed_in).and_then(|a| must(a.key_version == key_version, "another key version"));
        self.rule(
            "签到成功,应答签名正确",
            "Sign-in is answered, and the answer is signed with the terminal's key",
            held,
        );
        let time = said(self.client.time().await).and_then(|t| must(t.server_time_ms > 0, "no time"));
        self.rule("返回服务器时间", "The time is told", time);
        let beat = Heartbeat { storage_percent: 1, ..Heartbeat::default() };
        let beat = said(self.client.heartbeat(&beat).await);
        let held = beat.and_then(|b| must(b.standing == Standing::Deployed, "the terminal is not deployed"));
        self.rule("心跳返回启停状态与版本", "A heartbeat tells whether to lock, and versions", held);
    }

    async fn signatures(&mut self) {
        let held = match self.signed("/time", b"", |signed| signed.signature[0] ^= 1).await {
            Ok(answer) if answer.signature.is_empty() => problem(&answer, 401, "bad_signature"),
            Ok(_) => Err("the refusal carries a signature although nobody is proved".into()),
            Err(error) => Err(error),
        };
        self.rule("签名错误:401 bad_signature,应答不签名", "A wrong signature: 401 bad_signature, not signed", held);
        let held = self.refused("/time", b"", 401, "wrong_key_version", |signed| signed.key_version ^= 0x8000).await;
        self.rule("密钥版本错误:401 wrong_key_version", "A wrong key version: 401 wrong_key_version", held);
        let held = self.refused("/time", b"", 401, "unknown_terminal", |signed| signed.terminal = u32::MAX).await;
        self.rule("未登记终端:401 unknown_terminal", "An unregistered terminal: 401 unknown_terminal", held);
    }

    async fn clock_and_nonce(&mut self) {
        let sale = self.sale();
        let body = json(&sale);
        let held = self.refused_signed(&body, "stale_clock", |signed| signed.time_ms -= 3_600_000).await;
        self.rule(
            "时钟偏差过大:401 stale_clock 并附服务器时间",
            "A wrong clock: 401 stale_clock with the edge's time",
            held,
        );
        let held = match self.client.sign(&Method::POST, "/purchase", &body) {
            Ok(signed) => {
                let first = self.send("/purchase", &signed, &body).await;
                let again = self.send("/purchase", &signed, &body).await;
                first.and_then(|a| ok(&a)).and(again).and_then(|a| problem(&a, 409, "replayed"))
            }
            Err(error) => Err(error.to_string()),
        };
        self.rule("随机数重复:409 replayed", "The same request byte by byte: 409 replayed", held);
    }

    async fn forms(&mut self) {
        let id = self.draw();
        let text = |fen: &str, more: &str| {
            let SaleId { terminal, boot, seq } = id;
            let id = format!(r#"{{"terminal":{terminal},"boot":{boot},"seq":{seq}}}"#);
            let card = self.card;
            format!(
                r#"{{"id":{id},"card":{{"kind":"number","number":{card}}},"mode":{{"kind":"amount","fen":{fen}}},"time_ms":0{more}}}"#
            )
        };
        let cases = [
            (
                "未知字段:400 bad_body",
                "An unknown field: 400 bad_body",
                text("1", r#","pin":1"#).into_bytes(),
                400,
                "bad_body",
            ),
            ("非 UTF-8:400 bad_body", "Not UTF-8: 400 bad_body", b"\xff\xfe".to_vec(), 400, "bad_body"),
            (
                "小数金额:400 bad_body",
                "An amount with decimals: 400 bad_body",
                text("1.5", "").into_bytes(),
                400,
                "bad_body",
            ),
            (
                "溢出金额:400 bad_body",
                "An overflowing amount: 400 bad_body",
                text("9223372036854775808", "").into_bytes(),
                400,
                "bad_body",
            ),
            (
                "负金额:422 bad_amount",
                "A negative amount: 422 bad_amount",
                text("-1", "").into_bytes(),
                422,
                "bad_amount",
            ),
            (
                "过大金额:422 bad_amount",
                "Too large an amount: 422 bad_amount",
                text("9000000000", "").into_bytes(),
                422,
                "bad_amount",
            ),
            (
                "过长内容:413 body_too_large",
                "Too long a body: 413 body_too_large",
                vec![b' '; BODY_LEN_BYTES_MAX + 1],
                413,
                "body_too_large",
            ),
        ];
        for (zh, en, body, status, code) in cases {
            let held = self.refused("/purchase", &body, status, code, |_| {}).await;
            self.rule(zh, en, held);
        }
    }

    async fn ids(&mut self) {
        let sale = self.sale();
        let first = said(self.client.purchase(&sale).await);
        let again = said(self.client.purchase(&sale).await);
        let held = first.and_then(|first| must(super::tally::same_answer(&first, &again?), "another answer came"));
        self.rule("同一流水号重发:结果相同", "The same id again: the same answer", held);
        let other = Purchase { mode: SaleMode::Amount { fen: 2 }, ..sale.clone() };
        let held = refusal(self.client.purchase(&other).await, "id_reused");
        self.rule("同一流水号不同内容:409 id_reused", "The same id with another body: 409 id_reused", held);
        let foreign = Purchase { id: SaleId { terminal: sale.id.terminal ^ 1, ..sale.id }, ..sale };
        let held = refusal(self.client.purchase(&foreign).await, "bad_id");
        self.rule("他机流水号:422 bad_id", "Another terminal's id: 422 bad_id", held);
    }

    async fn undoing(&mut self) {
        let never = self.sale();
        let reversal = Reversal { id: self.draw(), of: never.id };
        let held = decided(self.client.reversal(&reversal).await, Decision::Voided);
        self.rule("冲正先于消费到达:作废该流水号", "A reversal before its sale: the id is voided", held);
        let held = said(self.client.purchase(&never).await)
            .and_then(|a| must(a.reason.as_deref() == Some("voided"), "the sale was made after all"));
        self.rule("被冲正的消费后到:拒绝 voided", "The sale that comes after its reversal: refused as voided", held);
        let held = decided(self.client.reversal(&reversal).await, Decision::Voided);
        self.rule("冲正重发:结果相同", "The reversal again: the same answer", held);
        let refund =
            Refund { id: self.draw(), of: self.draw(), reason: RefundReason::Refund, fen: Some(1), operator: 0 };
        let held = said(self.client.refund(&refund).await)
            .and_then(|a| must(a.reason.as_deref() == Some("no_such_sale"), "no refusal no_such_sale"));
        self.rule("退款无原交易:拒绝 no_such_sale", "A refund without its sale: refused as no_such_sale", held);
    }

    async fn facts(&mut self) {
        let batch = Batch { records: vec![self.sale(), self.sale()] };
        let first = said(self.client.batch(&batch).await);
        let last = batch.records.last().map(|r| r.id);
        let held = first.and_then(|a| must(a.answered_through == last && !a.stopped, "not every record is answered"));
        self.rule("脱机流水逐条应答", "Every record of a batch is answered", held);
        let again = said(self.client.batch(&batch).await);
        let held = again.and_then(|a| must(a.records.iter().all(|r| r.state != RecordState::New), "taken in twice"));
        self.rule("脱机流水重传:不重复入账", "The batch again: nothing is taken in twice", held);
        let backwards = Batch { records: batch.records.into_iter().rev().collect() };
        let held = refusal(self.client.batch(&backwards).await, "bad_batch");
        self.rule("批次顺序错误:422 bad_batch", "A batch out of order: 422 bad_batch", held);
        let totals = said(self.client.totals(self.client.identity().boot, None).await);
        let last_seq = self.seq;
        let held = totals.and_then(|t| must(t.last_seq == last_seq, "the totals do not know the last number"));
        self.rule("合计含全部流水号", "The totals know the last sequence number", held);
    }

    async fn downloads(&mut self) {
        let (mut blocks, mut cards) = (HeldList::default(), HeldList::default());
        let held = match (self.client.blocks(0).await, self.client.cards(0).await) {
            (Ok(all), Ok(allowed)) => blocks.apply(all).and(cards.apply(allowed)).map_err(|e| e.to_string()),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        };
        self.rule("名单全量下载,校验一致", "Whole lists hash to what they say", held);
        let held = said(self.client.blocks(blocks.version()).await)
            .and_then(|delta| blocks.apply(delta).map_err(|e| e.to_string()));
        self.rule("名单增量下载", "The difference from the version held applies", held);
        let held = said(self.client.parameters(0).await).and_then(|answer| {
            let parameters = answer.parameters.ok_or("no parameters although none are held")?;
            let value = serde_json::to_value(&parameters).map_err(|e| e.to_string())?;
            must(sha256_hex(value.to_string().as_bytes()) == answer.hash, "the hash is another one")
        });
        self.rule("参数下载,校验一致", "Parameters hash to what they say", held);
    }

    /// Sends a request signed rightly and then altered.
    async fn signed(&self, route: &str, body: &[u8], alter: impl Fn(&mut Signed)) -> Result<RawAnswer, String> {
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let mut signed = self.client.sign(&method, route, body).map_err(|e| e.to_string())?;
        alter(&mut signed);
        self.send(route, &signed, body).await
    }

    async fn refused(&self, route: &str, body: &[u8], status: u16, code: &str, alter: impl Fn(&mut Signed)) -> Held {
        problem(&self.signed(route, body, alter).await?, status, code)
    }

    /// A purchase altered before it is signed; its refusal must be signed.
    async fn refused_signed(&self, body: &[u8], code: &str, alter: impl Fn(&mut Signed)) -> Held {
        let who = self.client.identity();
        let mut signed = self.client.sign(&Method::POST, "/purchase", body).map_err(|e| e.to_string())?;
        alter(&mut signed);
        let path = format!("{PREFIX}/purchase");
        let signed = signed.sign(&who.key, "POST", &path, body).map_err(|e| e.to_string())?;
        let answer = self.send("/purchase", &signed, body).await?;
        sign::verify_answer(&who.key, &signed.signature, answer.status, &answer.body, &answer.signature)
            .map_err(|error| format!("the refusal is not signed: {error}"))?;
        problem(&answer, 401, code)
    }

    async fn send(&self, route: &str, signed: &Signed, body: &[u8]) -> Result<RawAnswer, String> {
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let body = Bytes::copy_from_slice(body);
        self.client.exchange(&method, route, signed, body).await.map_err(|e| e.to_string())
    }
}

fn must(holds: bool, otherwise: &str) -> Held {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn said<T>(answer: Result<T, ClientError>) -> Result<T, String> {
    answer.map_err(|error| error.to_string())
}

fn ok(answer: &RawAnswer) -> Held {
    must(answer.status == 200, &format!("status {}", answer.status))
}

fn problem(answer: &RawAnswer, status: u16, code: &str) -> Held {
    let said: Problem = serde_json::from_slice(&answer.body).map_err(|e| format!("{}: {e}", answer.status))?;
    let words = !said.message.zh.is_empty() && !said.message.en.is_empty();
    let right = answer.status == status && said.code == code && words && said.server_time_ms > 0;
    must(right, &format!("{} {}", answer.status, said.code))
}

fn refusal<T>(answer: Result<T, ClientError>, code: &str) -> Held {
    match answer {
        Err(ClientError::Problem { problem, .. }) if problem.code == code => Ok(()),
        Err(other) => Err(other.to_string()),
        Ok(_) => Err("it was accepted".into()),
    }
}

fn decided(answer: Result<SaleAnswer, ClientError>, decision: Decision) -> Held {
    let answer = said(answer)?;
    must(answer.decision == decision, &format!("{:?}", answer.decision))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
