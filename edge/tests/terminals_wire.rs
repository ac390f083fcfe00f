//! The terminal interface against hostile and broken requests, on raw HTTP; and what describes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod terminals_hub;

use axum::body::Body as HttpBody;
use axum::http::{Request, StatusCode};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use terminals_hub::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;
use yika_crdt::ids::TerminalId;
use yika_drivers::card_format::Form;
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::sign::{self, Signed};
use yika_drivers::terminal::vectors;
use yika_edge::terminals::{Code, NONCES_PER_TERMINAL_MAX, REQUESTS_AT_ONCE_MAX, Route, openapi};

fn signed(campus: &Campus, nonce: u128, method: &str, path: &str, body: &[u8]) -> Signed {
    let time_ms = campus.node.time().0;
    let unsigned = Signed { terminal: TILL, key_version: 1, boot: 1, time_ms, nonce, signature: [0; 32] };
    unsigned.sign(&terminal_key(TILL), method, path, body).unwrap()
}

fn request(signed: &Signed, method: &str, path: &str, body: &[u8]) -> Request<HttpBody> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in signed.headers() {
        request = request.header(name, value);
    }
    request.body(HttpBody::from(body.to_vec())).unwrap()
}

/// Through the router as the listener hands it over.
async fn send(campus: &Campus, request: Request<HttpBody>) -> (StatusCode, Option<String>, Vec<u8>) {
    let answer = campus.terminals.router().oneshot(request).await.unwrap();
    let status = answer.status();
    let signature = answer.headers().get(sign::ANSWER_SIGNATURE).map(|v| v.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, signature, body.to_vec())
}

async fn refusal(campus: &Campus, request: Request<HttpBody>) -> (u16, String) {
    let (status, _, body) = send(campus, request).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert!(!problem.message.zh.is_empty() && !problem.mend.en.is_empty());
    (status.as_u16(), problem.code)
}

fn purchase_body(seq: u32) -> Vec<u8> {
    let id = SaleId { terminal: TILL, boot: 1, seq };
    let card = PresentedCard::Number { number: FIRST_CARD + 1 };
    let sale = Purchase { id, card, mode: SaleMode::Amount { fen: 1 }, time_ms: 0, tariff: None };
    serde_json::to_vec(&sale).unwrap()
}

const PURCHASE: &str = "/terminal/v1/purchase";

#[tokio::test(flavor = "multi_thread")]
async fn altered_replayed_and_malformed_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let body = purchase_body(1);
    let good = signed(&campus, 1, "POST", PURCHASE, &body);

    let altered = request(&good, "POST", PURCHASE, &purchase_body(2));
    assert_eq!(refusal(&campus, altered).await, (401, "bad_signature".into()));
    let elsewhere = request(&good, "POST", "/terminal/v1/refund", &body);
    assert_eq!(refusal(&campus, elsewhere).await, (401, "bad_signature".into()));
    let other_query = request(&good, "POST", "/terminal/v1/purchase?x=1", &body);
    assert_eq!(refusal(&campus, other_query).await, (401, "bad_signature".into()));
    for (name, value) in good.headers() {
        let mut missing = request(&good, "POST", PURCHASE, &body);
        missing.headers_mut().remove(name);
        assert_eq!(refusal(&campus, missing).await, (400, "bad_header".into()), "{name}");
        let mut twice = request(&good, "POST", PURCHASE, &body);
        twice.headers_mut().append(name, value.parse().unwrap());
        assert_eq!(refusal(&campus, twice).await, (400, "bad_header".into()), "{name}");
    }

    let (status, signature, answer) = send(&campus, request(&good, "POST", PURCHASE, &body)).await;
    assert_eq!(status, 200);
    sign::verify_answer(&terminal_key(TILL), &good.signature, 200, &answer, &signature.unwrap()).unwrap();
    assert_eq!(refusal(&campus, request(&good, "POST", PURCHASE, &body)).await, (409, "replayed".into()));
    let later = Signed { time_ms: good.time_ms + 1, ..good };
    let later = later.sign(&terminal_key(TILL), "POST", PURCHASE, &body).unwrap();
    assert_eq!(refusal(&campus, request(&later, "POST", PURCHASE, &body)).await, (409, "replayed".into()));
    let fresh_nonce = signed(&campus, 2, "POST", PURCHASE, &body);
    let (status, _, again) = send(&campus, request(&fresh_nonce, "POST", PURCHASE, &body)).await;
    let fen = |bytes: &[u8]| serde_json::from_slice::<SaleAnswer>(bytes).unwrap().balance_fen;
    assert_eq!((status.as_u16(), fen(&again)), (200, fen(&answer)), "sold once");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_message_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let unknown = String::from_utf8(purchase_body(1)).unwrap().replace("\"time_ms\"", "\"pin\":1,\"time_ms\"");
    let float = String::from_utf8(purchase_body(1)).unwrap().replace("\"fen\":1", "\"fen\":1.0");
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let cases: [(&[u8], u16, &str); 8] = [
        (b"", 400, "bad_body"),
        (b"null", 400, "bad_body"),
        (b"\xff\xfe\x00", 400, "bad_body"),
        (unknown.as_bytes(), 400, "bad_body"),
        (float.as_bytes(), 400, "bad_body"),
        (deep.as_bytes(), 400, "bad_body"),
        (&[b' '; 5_000], 413, "body_too_large"),
        (br#"{"id":{"terminal":10,"boot":1,"seq":0},"card":{"kind":"number","number":1},"mode":{"kind":"fixed"},"time_ms":0}"#, 422, "bad_id"),
    ];
    for (n, (body, status, code)) in cases.into_iter().enumerate() {
        let signed = signed(&campus, n as u128, "POST", PURCHASE, body);
        let said = refusal(&campus, request(&signed, "POST", PURCHASE, body)).await;
        assert_eq!(said, (status, code.to_owned()), "{}", String::from_utf8_lossy(&body[..body.len().min(90)]));
    }
    for (n, path) in [
        "/parameters?have=-1",
        "/parameters?have=1&have=2",
        "/lists/cards?have=x",
        "/totals",
        "/totals?boot=9999999999",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("{PREFIX}{path}");
        let signed = signed(&campus, 100 + n as u128, "GET", &path, b"");
        assert_eq!(refusal(&campus, request(&signed, "GET", &path, b"")).await, (400, "bad_query".into()), "{path}");
    }
    let get = Request::get(PURCHASE).body(HttpBody::empty()).unwrap();
    assert_eq!(refusal(&campus, get).await, (405, "bad_method".into()));
    let nowhere = Request::get("/terminal/v1/nowhere").body(HttpBody::empty()).unwrap();
    assert_eq!(refusal(&campus, nowhere).await, (404, "not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_an_earlier_run_of_the_box_is_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let heartbeat = serde_json::to_vec(&Heartbeat::default()).unwrap();
    let path = "/terminal/v1/heartbeat";
    let caught = signed(&campus, 5, "POST", path, &heartbeat);
    assert_eq!(send(&campus, request(&caught, "POST", path, &heartbeat)).await.0, 200);
    let campus = campus.restart(dir.path()).await;
    assert_eq!(refusal(&campus, request(&caught, "POST", path, &heartbeat)).await, (401, "stale_clock".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_places_wait_and_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Arc::new(Campus::new(dir.path(), 1, 1_000_000, 1).await);
    let many = REQUESTS_AT_ONCE_MAX as u32 * 3;
    assert!((many as usize) < NONCES_PER_TERMINAL_MAX);
    let asking = (1..=many).map(|seq| {
        let campus = Arc::clone(&campus);
        tokio::spawn(async move {
            let body = purchase_body(seq);
            let signed = signed(&campus, u128::from(seq), "POST", PURCHASE, &body);
            let (status, _, body) = send(&campus, request(&signed, "POST", PURCHASE, &body)).await;
            (status.as_u16(), serde_json::from_slice::<SaleAnswer>(&body).unwrap().decision)
        })
    });
    for answer in asking.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), (200, Decision::Approved));
    }
    let totals = campus.client(TILL).totals(1, None).await.unwrap();
    assert_eq!((totals.online.count, totals.lines.len()), (many, many as usize));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_given_up_and_takes_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let mut hanging = Vec::new();
    for _ in 0..REQUESTS_AT_ONCE_MAX + 8 {
        let mut stream = tokio::net::TcpStream::connect(campus.address).await.unwrap();
        stream
            .write_all(b"POST /terminal/v1/purchase HTTP/1.1\r\nhost: e\r\ncontent-length: 99\r\n\r\n{")
            .await
            .unwrap();
        hanging.push(stream);
    }
    let client = campus.client(TILL);
    let asked = std::time::Instant::now();
    client.time().await.unwrap();
    assert!(asked.elapsed().as_millis() < 2_000, "{:?}", asked.elapsed());
    let mut answer = [0; 12];
    hanging[0].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

/// A folder on a small file system of its own; needs root, as all of `deploy/test` does.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting a tmpfs needs root");
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_the_same_id_succeeds_later() {
    let disk = SmallDisk::new("16m");
    let dir = disk.0.path();
    let campus = Campus::new(dir, 1, 1_000_000, 1).await;
    let ballast = dir.join("ballast");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&ballast).unwrap());
    let mut seq = 0;
    let (refused, status, retry_after) = loop {
        seq += 1;
        assert!(seq < 10_000, "the disk never fills");
        let body = purchase_body(seq);
        let signed = signed(&campus, u128::from(seq), "POST", PURCHASE, &body);
        let answer = campus.terminals.router().oneshot(request(&signed, "POST", PURCHASE, &body)).await.unwrap();
        if answer.status() != 200 {
            break (body, answer.status().as_u16(), answer.headers().get("retry-after").cloned());
        }
    };
    assert_eq!((status, retry_after.unwrap().to_str().unwrap()), (503, "1"));
    let again = signed(&campus, 1 << 64, "POST", PURCHASE, &refused);
    assert_eq!(refusal(&campus, request(&again, "POST", PURCHASE, &refused)).await, (503, "box_not_ready".into()));
    std::fs::remove_file(&ballast).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    for nonce in (1u128 << 65).. {
        let again = signed(&campus, nonce, "POST", PURCHASE, &refused);
        let (status, _, body) = send(&campus, request(&again, "POST", PURCHASE, &refused)).await;
        if status == 200 {
            assert_eq!(serde_json::from_slice::<SaleAnswer>(&body).unwrap().decision, Decision::Approved);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the box does not recover");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let totals = campus.client(TILL).totals(1, None).await.unwrap();
    assert_eq!(totals.online.count, seq, "each id once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_why_its_door_stays_shut() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let card = |number| Swipe { card: PresentedCard::Number { number } };
    let reader = campus.client(READER);
    let known = reader.swipe(&card(FIRST_CARD + 1)).await.unwrap();
    let stranger = reader.swipe(&card(1)).await.unwrap();
    assert_eq!((known.opened, stranger.opened, known.door), (false, false, Some(5)));
    assert!(known.reason.is_some() && !known.text.zh.is_empty() && known.reason != stranger.reason, "{known:?}");
    assert!(campus.terminals.board().status(TerminalId(READER)).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_served_and_in_the_document_and_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let document = serde_json::to_value(openapi()).unwrap();
    let documented: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let table: BTreeSet<_> = Route::ALL.iter().map(|route| format!("{PREFIX}{}", route.path())).collect();
    assert_eq!(documented, table);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and not there");
    }
    let served = Request::get("/terminal/v1/openapi.json").body(HttpBody::empty()).unwrap();
    let (_, _, body) = send(&campus, served).await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), document);

    for language in ["zh", "en"] {
        let page = Request::get(format!("/terminal/v1/?lang={language}")).body(HttpBody::empty()).unwrap();
        let (status, _, body) = send(&campus, page).await;
        let page = String::from_utf8(body).unwrap();
        assert_eq!(status, 200);
        assert!(!page.contains("<script") && !page.contains("https://"), "nothing from elsewhere, no script");
        for route in Route::ALL {
            let path = format!("{PREFIX}{}", route.path());
            assert!(page.contains(&path), "{path}");
            let unsigned = Request::builder().method(route.method()).uri(&path).body(HttpBody::empty()).unwrap();
            assert_eq!(refusal(&campus, unsigned).await, (400, "bad_header".into()), "{path}");
        }
        for word in Code::ALL.map(Code::word) {
            assert!(page.contains(word), "{word}");
        }
        for vector in vectors::vectors().unwrap().vectors {
            assert!(page.contains(&vector.signature) && page.contains(&vector.answer_signature), "{}", vector.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_every_form_of_a_card_number_and_says_what_each_header_is() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let components = serde_json::to_value(openapi()).unwrap()["components"].clone();
    let named = |schema: &str| components["schemas"][schema]["enum"].as_array().unwrap().clone();
    let forms: Vec<_> = Form::ALL.iter().map(|form| serde_json::to_value(form).unwrap()).collect();
    assert_eq!(named("Form"), forms);
    assert_eq!(named("ByteOrder"), ["canonical", "reversed"]);
    let said = |schema: &str| components["schemas"][schema]["description"].as_str().unwrap().to_owned();
    assert!(forms.iter().all(|form| said("Form").contains(form.as_str().unwrap())), "{}", said("Form"));
    let headers = components["securitySchemes"].as_object().unwrap();
    assert_eq!(headers.len(), 6);
    let dumb: Vec<_> = headers.iter().filter(|(_, h)| h["description"].as_str().is_none_or(str::is_empty)).collect();
    assert!(dumb.is_empty(), "{dumb:?}");
    assert!(headers["x-yika-key"]["description"].as_str().unwrap().starts_with("Version of the key"));

    for (language, unsigned) in [("zh", "应答不签名"), ("en", "the answer is not signed")] {
        let page = Request::get(format!("/terminal/v1/?lang={language}")).body(HttpBody::empty()).unwrap();
        let page = String::from_utf8(send(&campus, page).await.2).unwrap();
        assert!(page.contains(unsigned), "{language}");
        for name in headers.keys().map(String::as_str).chain(forms.iter().filter_map(|form| form.as_str())) {
            assert!(page.contains(&format!("<code>{name}</code>")), "{name} in {language}");
        }
    }
    // What the page calls not signed is not, and what the edge decided is.
    let nowhere = Request::get("/terminal/v1/nowhere").body(HttpBody::empty()).unwrap();
    assert_eq!(send(&campus, nowhere).await.1, None);
    let body = b"{}";
    let bad = signed(&campus, 900, "POST", PURCHASE, body);
    assert!(send(&campus, request(&bad, "POST", PURCHASE, body)).await.1.is_some());
}

#[test]
fn noise_never_breaks_the_interface() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let campus = runtime.block_on(Campus::new(dir.path(), 1, 1_000, 1));
    let nonce = std::sync::atomic::AtomicU64::new(0);
    // Rightly signed bodies of almost the right shape, on every route.
    let texts = prop::sample::select(vec!["terminal", "boot", "seq", "kind", "number", "fen", "zz", "records", "card"]);
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        texts.clone().prop_map(|t| format!("\"{t}\"")),
        Just("null".to_owned()),
        Just("1e999".to_owned()),
    ];
    let json = leaf.prop_recursive(3, 24, 5, move |inner| {
        prop::collection::vec((texts.clone(), inner), 0..5).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        })
    });
    let bodies = prop_oneof![json.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..200)];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    proptest!(config, |(body in bodies, n in 0..Route::ALL.len(), query in "[a-z0-9=&%]{0,20}")| {
        let route = Route::ALL[n];
        let nonce = nonce.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = format!("{PREFIX}{}?{query}", route.path());
        let body = if route.is_read() { Vec::new() } else { body };
        let signed = signed(&campus, u128::from(nonce), route.method(), &path, &body);
        let (status, signature, _) = runtime.block_on(send(&campus, request(&signed, route.method(), &path, &body)));
        prop_assert!(status.is_client_error() || status == 200, "{status} on {path}");
        prop_assert!(signature.is_some(), "a known terminal gets a signed answer");
    });
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) },
        |(values in prop::collection::vec("[ -~]{0,70}", 6))| {
        let mut raw = Request::post(PURCHASE);
        let names = signed(&campus, 0, "POST", PURCHASE, b"").headers().map(|(name, _)| name);
        for (name, value) in names.iter().zip(&values) {
            raw = raw.header(*name, value);
        }
        let (status, signature, _) = runtime.block_on(send(&campus, raw.body(HttpBody::from("{}")).unwrap()));
        prop_assert!(status.is_client_error() && signature.is_none(), "{status}");
    });
    let still_there = runtime.block_on(campus.client(TILL).time());
    assert!(still_there.is_ok());
}
