//! The terminal interface over real HTTP: sales, refusals, re-sending, restarts, batches, lists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod terminals_hub;

use terminals_hub::*;
use yika_crdt::channel::Channel;
use yika_crdt::entry::{Body, TerminalState};
use yika_crdt::ids::{CampusId, PersonId};
use yika_drivers::terminal::client::{Client, ClientError, Identity, Patience};
use yika_drivers::terminal::list::HeldList;
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::simulator::{self, Mix, Plan, TerminalPlan, certify};
use yika_edge::terminals::Presence;

fn id(seq: u32) -> SaleId {
    SaleId { terminal: TILL, boot: 1, seq }
}

fn card(person: u64) -> PresentedCard {
    PresentedCard::Number { number: FIRST_CARD + person }
}

fn sale(seq: u32, fen: i64) -> Purchase {
    Purchase { id: id(seq), card: card(1), mode: SaleMode::Amount { fen }, time_ms: NOON_MS, tariff: None }
}

fn refund(seq: u32, of: u32, fen: Option<i64>) -> Refund {
    Refund { id: id(seq), of: id(of), reason: RefundReason::Correction, fen, operator: CASHIER }
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer {
        Err(ClientError::Problem { status, problem }) => (status, problem.code),
        other => panic!("no refusal of the interface: {other:?}"),
    }
}

fn timeless(answer: &SaleAnswer) -> SaleAnswer {
    SaleAnswer { server_time_ms: 0, ..answer.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_names_an_operator_that_the_box_knows_or_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), 1, 5_000, 1).await;
    let client = campus.client(TILL);
    client.purchase(&sale(1, 1_000)).await.unwrap();
    let stranger = Refund { operator: 999, ..refund(2, 1, Some(100)) };
    assert_eq!(code(client.refund(&stranger).await), (422, "unknown_operator".to_owned()));
    // Nothing was decided under the id: the same one serves again.
    let back = client.refund(&refund(2, 1, Some(100))).await.unwrap();
    assert_eq!((back.decision, back.fen), (Decision::Refunded, 100));
    let nobody = Refund { operator: 0, ..refund(3, 1, Some(100)) };
    assert_eq!(client.refund(&nobody).await.unwrap().decision, Decision::Refunded);

    let removed = campus.hub.say(Channel::Receipts(EDGE.node), vec![cashier("")]);
    campus.ingest(removed).await;
    assert_eq!(timeless(&client.refund(&refund(2, 1, Some(100))).await.unwrap()), timeless(&back), "the first answer");
    assert_eq!(code(client.refund(&refund(4, 1, Some(100))).await), (422, "unknown_operator".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_at_the_till() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 2, 5_000, 1).await;
    let client = campus.client(TILL);
    let told = SignIn { model: "T1".into(), firmware: "9".into() };
    let signed_in = client.sign_in(&told).await.unwrap();
    assert_eq!((signed_in.last_seq, signed_in.versions.parameters, signed_in.campus), (0, 1, 1));

    let sold = client.purchase(&sale(1, 1_250)).await.unwrap();
    assert_eq!((sold.decision, sold.fen, sold.balance_fen), (Decision::Approved, 1_250, Some(3_750)));
    assert_eq!((sold.holder.as_deref(), sold.category, sold.tariff), (Some("测**1"), Some(1), Some(1)));
    assert_eq!(sold.cashier_text.zh, "扣款 12.50 元,断网时本机还可扣 37.50 元(不是余额)");
    assert_eq!(sold.holder_text.zh, "扣款 12.50 元", "the share of a box is not told as a balance");
    let fixed = Purchase { mode: SaleMode::Fixed {}, ..sale(2, 1) };
    assert_eq!(client.purchase(&fixed).await.unwrap().fen, 1_200);
    let portions = Purchase { mode: SaleMode::Portions { unit_fen: 100, portions: 3 }, ..sale(3, 1) };
    assert_eq!(client.purchase(&portions).await.unwrap().fen, 300);
    let by_chip = Purchase { card: PresentedCard::Uid { uid: "0b3e3636".into() }, ..sale(4, 50) };
    assert_eq!(client.purchase(&by_chip).await.unwrap().decision, Decision::Approved);
    let refused = client.purchase(&sale(5, 9_000)).await.unwrap();
    assert_eq!((refused.decision, refused.reason.as_deref()), (Decision::Refused, Some("not_enough")));
    assert_eq!(refused.holder_text.zh, "余额不足");

    let back = client.refund(&refund(6, 1, Some(250))).await.unwrap();
    assert_eq!((back.decision, back.fen), (Decision::Refunded, 250));
    let over = client.refund(&refund(7, 1, Some(1_001))).await.unwrap();
    assert_eq!(over.reason.as_deref(), Some("over_refund"));

    let totals = client.totals(1, None).await.unwrap();
    assert_eq!(totals.online, KindTotal { count: 4, fen: 2_800 });
    assert_eq!((totals.refunds, totals.refused, totals.last_seq), (KindTotal { count: 1, fen: 250 }, 2, 7));
    let shift = client.totals(1, Some(4)).await.unwrap();
    assert_eq!((shift.online.count, shift.from_seq, shift.lines.len()), (1, 4, 4));

    let heartbeat = Heartbeat { backlog: 4, storage_percent: 2, ..Heartbeat::default() };
    assert_eq!(client.heartbeat(&heartbeat).await.unwrap().standing, Standing::Deployed);
    let status = campus.terminals.board().status(yika_crdt::ids::TerminalId(TILL)).unwrap();
    assert_eq!((status.presence, status.heartbeat.unwrap().backlog), (Presence::Online, 4));
    assert_eq!(status.model, Some(("T1".into(), "9".into())));

    // The same in the status of the box: who is on line, what is left to upload, what is not well and how to mend it.
    let (board, doors) = (campus.terminals.board(), &campus.doors);
    let seen = yika_edge::periphery::Periphery::of(&campus.node, board, doors, 0);
    let till = seen.terminals.iter().find(|t| t.terminal.0 == TILL).unwrap();
    assert_eq!((till.presence, till.backlog), (Some(Presence::Online), Some(4)));
    assert_eq!(till.model.as_deref(), Some("T1 9"));
    let behind: Vec<_> = till.problems.iter().map(|p| (p.wrong, p.seen[1].clone())).collect();
    assert_eq!(behind.len(), 1, "it holds no tariff yet: {behind:?}");
    assert!(!behind[0].0 && behind[0].1.contains("holds tariff 0 instead of 1"), "{behind:?}");
    let full = Heartbeat { storage_percent: 91, held: HeldVersions { parameters: 1, ..heartbeat.held }, ..heartbeat };
    client.heartbeat(&full).await.unwrap();
    let status = yika_edge::status::gather(&campus.node, doors, board);
    assert!(status.remarks.iter().any(|r| r.code == "terminal" && r.zh.contains("91%")), "{:?}", status.remarks);
    let report = yika_edge::doctor::examine(&campus.node, doors, board).await;
    let check = report.checks.iter().find(|c| c.code == "terminal").unwrap();
    assert!(check.en.contains("91 % full") && check.mend_en.contains("keep it connected"), "{check:?}");
    // What `--json` says reads back, and the words name the terminal.
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<yika_edge::status::Status>(&json).unwrap(), status);
    assert!(status.in_words(yika_ui::Lang::Zh).contains("在线 1"), "{}", status.in_words(yika_ui::Lang::Zh));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_comes_again_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let client = campus.client(TILL);
    let sold = client.purchase(&sale(1, 600)).await.unwrap();
    let refused = client.purchase(&sale(2, 600)).await.unwrap();
    assert_eq!(timeless(&client.purchase(&sale(1, 600)).await.unwrap()), timeless(&sold));
    drop(client);
    let mut campus = campus.restart(dir.path()).await;
    let more = campus.hub.grant(PersonId(1), 9_000);
    let run = campus.hub.say(Channel::Rights(EDGE), vec![more]);
    campus.ingest(run).await;
    let client = campus.client(TILL);
    assert_eq!(timeless(&client.purchase(&sale(1, 600)).await.unwrap()), timeless(&sold));
    assert_eq!(timeless(&client.purchase(&sale(2, 600)).await.unwrap()), timeless(&refused));
    assert_eq!(code(client.purchase(&sale(1, 601)).await), (409, "id_reused".into()));
    let told = SignIn { model: String::new(), firmware: String::new() };
    assert_eq!(client.sign_in(&told).await.unwrap().last_seq, 2);
}

/// Rows POS-21.
#[tokio::test(flavor = "multi_thread")]
async fn a_reversal_before_after_and_without_its_sale() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let client = campus.client(TILL);
    client.purchase(&sale(1, 600)).await.unwrap();
    let after = client.reversal(&Reversal { id: id(2), of: id(1) }).await.unwrap();
    assert_eq!((after.decision, after.fen), (Decision::Refunded, 600));
    let again = client.reversal(&Reversal { id: id(2), of: id(1) }).await.unwrap();
    assert_eq!(timeless(&again), timeless(&after));
    let under_a_new_id = client.reversal(&Reversal { id: id(3), of: id(1) }).await.unwrap();
    assert_eq!(under_a_new_id.decision, Decision::Voided);
    let before = client.reversal(&Reversal { id: id(5), of: id(4) }).await.unwrap();
    assert_eq!(before.decision, Decision::Voided);
    assert_eq!(client.purchase(&sale(4, 600)).await.unwrap().reason.as_deref(), Some("voided"));
    assert_eq!(client.purchase(&sale(6, 1_000)).await.unwrap().decision, Decision::Approved, "nothing is lost");
}

/// Rows POS-4, TRM-8.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_facts_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 500, 1).await;
    let client = campus.client(TILL);
    let unreadable = PresentedCard::Uid { uid: "zz".into() };
    let records = vec![
        sale(1, 400),
        sale(2, 400),                                // beyond the right: owed
        Purchase { card: card(77), ..sale(3, 300) }, // a stranger's: owed
        Purchase { card: unreadable, ..sale(4, 200) },
        sale(5, -1),
    ];
    let first = client.batch(&Batch { records: records[..3].to_vec() }).await.unwrap();
    assert!(first.records.iter().all(|r| r.state == RecordState::New) && !first.stopped);
    let all = client.batch(&Batch { records }).await.unwrap();
    let states: Vec<_> = all.records.iter().map(|r| r.state).collect();
    use RecordState::*;
    assert_eq!(states, [Seen, Seen, Seen, New, Refused]);
    assert_eq!(all.records[4].reason.as_deref(), Some("bad_amount"));
    assert_eq!(all.answered_through, Some(id(5)));
    let totals = client.totals(1, None).await.unwrap();
    assert_eq!(totals.offline, KindTotal { count: 4, fen: 1_300 });
    let disorder = Batch { records: vec![sale(9, 1), sale(8, 1)] };
    assert_eq!(code(client.batch(&disorder).await), (422, "bad_batch".into()));
    let long = Batch { records: (10..211).map(|n| sale(n, 1)).collect() };
    assert_eq!(code(client.batch(&long).await), (422, "bad_batch".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_becomes_known_keeps_its_first_answer() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let client = campus.client(TILL);
    let chip = PresentedCard::Uid { uid: "11223344556677".into() };
    let asked = Purchase { card: chip, ..sale(1, 100) };
    let first = client.purchase(&asked).await.unwrap();
    assert_eq!(first.reason.as_deref(), Some("unknown_card"));
    let eaten = Batch { records: vec![Purchase { id: id(5), ..asked.clone() }] };
    assert_eq!(client.batch(&eaten).await.unwrap().records[0].state, RecordState::New);
    let person = campus.node.row(&yika_crdt::keys::person(PersonId(1))).unwrap();
    let mut person: yika_crdt::person::Person = person.unwrap();
    person.cards[0].uid = Some(0x11_2233_4455_6677);
    campus.node.people.write().put(&person, None);
    assert_eq!(timeless(&client.purchase(&asked).await.unwrap()), timeless(&first));
    assert_eq!(client.batch(&eaten).await.unwrap().records[0].state, RecordState::Seen, "its answer was lost");
    let next = Purchase { id: id(6), ..asked };
    assert_eq!(client.purchase(&next).await.unwrap().decision, Decision::Approved);
}

/// Rows TRM-7, TRM-13.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), 1, 1_000, 3).await;
    let unsigned = |said: ClientError, code: &str| match said {
        ClientError::Unsigned { status: 401 | 403, problem: Some(problem), .. } => assert_eq!(problem.code, code),
        other => panic!("{other:?}"),
    };
    let patience = Patience { tries_max: 1, answer_wait_ms: 5_000 };
    let stranger = campus.client(99).patient(patience);
    unsigned(stranger.time().await.unwrap_err(), "unknown_terminal");
    let foreign = campus.client(FOREIGN).patient(patience);
    unsigned(foreign.time().await.unwrap_err(), "other_campus");
    let old_key = campus.client_with(TILL, 1, 2).patient(patience);
    unsigned(old_key.time().await.unwrap_err(), "wrong_key_version");
    let wrong =
        Client::new(Identity { key: zeroize::Zeroizing::new([9; 32]), ..campus.client(TILL).identity().clone() });
    unsigned(wrong.patient(patience).time().await.unwrap_err(), "bad_signature");

    assert_eq!(code(campus.client(READER).purchase(&sale(1, 1)).await), (403, "wrong_kind".into()));
    let swipe = Swipe { card: card(1) };
    assert_eq!(code(campus.client(TILL).swipe(&swipe).await), (403, "wrong_kind".into()));
    let neighbour = campus.client(TILL + 1);
    assert_eq!(code(neighbour.purchase(&sale(1, 1)).await), (422, "bad_id".into()));

    for (n, state, word, standing) in [
        (1, TerminalState::Suspended, "suspended", Standing::Suspended),
        (2, TerminalState::Scrapped, "scrapped", Standing::Scrapped),
    ] {
        let client = campus.client(TILL + n);
        client.time().await.unwrap();
        campus.register(Body::Terminal(till(TILL + n, CampusId(1), state))).await;
        assert_eq!(code(client.time().await), (403, word.into()));
        let mine = Purchase { id: SaleId { terminal: TILL + n, ..id(1) }, ..sale(1, 1) };
        assert_eq!(code(client.batch(&Batch { records: vec![mine] }).await), (403, word.into()));
        assert_eq!(client.heartbeat(&Heartbeat::default()).await.unwrap().standing, standing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_replaces_the_old_one_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    let patience = Patience { tries_max: 1, answer_wait_ms: 5_000 };
    let old = campus.client(TILL).patient(patience);
    old.time().await.unwrap();
    let record = Body::TerminalKey(sealed_key(TILL, 2, &[42; 32]));
    let run = campus.hub.say(Channel::Receipts(EDGE.node), vec![record]);
    campus.ingest(run).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(old.time().await.unwrap_err().to_string().contains("wrong_key_version"));
    let who = Identity { key: zeroize::Zeroizing::new([42; 32]), key_version: 2, ..old.identity().clone() };
    Client::new(who).time().await.unwrap();
}

/// Rows TRM-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_told_the_time_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    for drift_ms in [-86_400_000, -61_000, 7_000, 86_400_000] {
        let client = campus.client(TILL).patient(Patience { tries_max: 1, answer_wait_ms: 5_000 });
        client.set_clock_offset_ms(campus.node.time().0 - system_ms() + drift_ms);
        let told = client.heartbeat(&Heartbeat::default()).await;
        assert_eq!(code(told), (401, "stale_clock".into()), "{drift_ms}");
        client.heartbeat(&Heartbeat::default()).await.unwrap();
        client.set_clock_offset_ms(campus.node.time().0 - system_ms() + drift_ms);
        let time = client.time().await.unwrap();
        assert!((time.clock_ahead_ms - drift_ms).abs() < 2_000, "{time:?}");
    }
}

/// Rows TRM-4, TRM-5, TRM-6.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_parameters_by_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), 3, 1_000, 1).await;
    let client = campus.client(TILL);
    let (mut blocks, mut cards) = (HeldList::default(), HeldList::default());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while cards.len() < 3 {
        assert!(tokio::time::Instant::now() < deadline, "the list is never built");
        cards.apply(client.cards(cards.version()).await.unwrap()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(cards.get(FIRST_CARD + 1).unwrap().chip, Some(CHIP));
    blocks.apply(client.blocks(0).await.unwrap()).unwrap();
    assert!(blocks.is_empty());
    campus.block(FIRST_CARD + 2).await;
    while blocks.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the block never comes");
        blocks.apply(client.blocks(blocks.version()).await.unwrap()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(blocks.get(FIRST_CARD + 2).is_some());
    let delta = loop {
        let delta = client.cards(cards.version()).await.unwrap();
        if delta.to != cards.version() {
            break delta;
        }
        assert!(tokio::time::Instant::now() < deadline, "the card never goes");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!((delta.from, delta.remove.clone(), delta.put.len()), (cards.version(), vec![FIRST_CARD + 2], 0));

    let parameters = client.parameters(0).await.unwrap();
    let held = parameters.parameters.unwrap();
    assert_eq!((held.fixed.len(), held.barred.clone(), held.periods.len()), (1, vec![7], 1), "only of this outlet");
    assert!(client.parameters(parameters.version).await.unwrap().parameters.is_none());
}

/// Rows TRM-18.
#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_the_certification_list_holds() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 1_000, 1).await;
    for card in [1, FIRST_CARD + 1] {
        let boot = card as u32;
        let rules = certify::certify(&campus.client_with(TILL, boot, 1), card).await;
        let failed: Vec<_> = rules.iter().filter(|rule| rule.failed.is_some()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(rules.len() >= 25);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_sells_and_its_sums_are_the_journals() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 50, 20_000, 4).await;
    let hex = |terminal| terminal_key(terminal).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let tills = (TILL..TILL + 4).map(|terminal| TerminalPlan {
        terminal,
        key: hex(terminal),
        key_version: 1,
        edges: Vec::new(),
    });
    let mix = Mix {
        fixed: 20,
        portions: 10,
        count: 5,
        double_tap: 5,
        correction: 10,
        reversal: 5,
        resend: 20,
        offline: 5,
        ..Mix::default()
    };
    let plan = Plan {
        edges: vec!["127.0.0.1:1".into(), campus.address.to_string()],
        tills: tills.collect(),
        cards: vec![format!("{}-{}", FIRST_CARD + 1, FIRST_CARD + 60)],
        seed: 7,
        per_second: 0,
        count: Some(400),
        boot: Some(5),
        mix,
        retry_ms: 20,
        resend_all: true,
        ..Plan::default()
    };
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let log = dir.path().join("log.jsonl");
    let file = Box::new(std::fs::File::create(&log).unwrap());
    let summary = simulator::run(plan, Some(file), stopped).await.unwrap();
    assert_eq!((summary.contradictions, summary.left_open, summary.unanswered), (0, 0, 0), "{summary:#?}");
    assert!(
        summary.approved > 100 && summary.offline > 0 && summary.refunded > 0 && summary.resent > 300,
        "{summary:#?}"
    );
    assert!(summary.fail_overs >= 4 && summary.refused.contains_key("unknown_card"), "{summary:#?}");
    let mut sums = (0, 0, 0);
    for terminal in TILL..TILL + 4 {
        let totals = campus.client_with(terminal, 5, 1).totals(5, None).await.unwrap();
        sums = (sums.0 + totals.online.fen, sums.1 + totals.offline.fen, sums.2 + totals.refunds.fen);
    }
    assert_eq!(sums, (summary.approved_fen, summary.offline_fen, summary.refunded_fen), "{summary:#?}");
    let lines = std::fs::read_to_string(&log).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(first["answer"]["decision"].is_string() && first["request"]["id"]["seq"].is_u64(), "{first}");
}
