//! The command line of headquarters as its administrator meets it: words in two languages, answers for programs, exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use rusqlite::OpenFlags;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Store, Tx};
use yika_store::SqliteStore;
use yika_tests::process::{Finished, Launch};
use yika_tests::site::{BoxProgram, HubProgram, Reach};

const BOUND: Duration = Duration::from_secs(60);

/// One command with its exit code, in the language of a locale.
async fn asked(data: &Path, locale: &str, words: &[&str]) -> (i32, Finished) {
    let launch = Launch::binary("yika-hub").unwrap().name("asked").env("LC_ALL", locale).arg("--data").arg(data);
    let finished = launch.args(words).finish(BOUND).await.unwrap();
    (finished.status.code().unwrap(), finished)
}

#[tokio::test]
async fn a_wrong_word_is_told_from_a_failure_by_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("hub.toml");
    std::fs::write(&wrong, "[http]\nbnd = \"127.0.0.1:1\"\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (words, code, said) in [
        (vec!["sell"], 2, "there is no command sell"),
        (vec!["edge", "lst"], 2, "did you mean list?"),
        (vec!["--lang", "zh", "edge", "list", "--every"], 2, "没有参数 --every\n用法：yika-hub edge list"),
        (vec!["--lang=zh", "campus", "put", "c1"], 2, "缺少：<NAME>"),
        (vec!["--lang", "zh", "pools", "set", "--guest-fen", "x", "--float-fen", "1"], 2, "不能是“x”"),
        (vec!["serve", "--advertised", "nonsense"], 2, "the advertised address nonsense cannot be given to a box"),
        (vec!["serve", "--advertised", "0.0.0.0:7443", "--check-config"], 2, "which no other machine can dial"),
        (vec!["serve", "--check-config"], 0, "configuration is good"),
        (vec!["backup", "restore", "/nonexistent.backup"], 2, "cannot be read"),
        (vec!["--config", wrong, "status"], 2, "bnd"),
        (vec!["--config", "/nonexistent.toml", "status"], 2, "/nonexistent.toml"),
        (vec!["--lang", "fr", "status"], 2, "zh / en"),
        (vec!["--lang", "zh", "status"], 1, "没有运行中的总部"),
        (vec!["--lang", "zh", "edge", "rename", "x3", "A"], 2, "须为编号，如 n1"),
        (vec!["--lang", "zh", "top-up", "p1", "--fen", "12.5", "--request", "r"], 2, "12.50 元写作 1250"),
        (vec!["--lang", "zh", "serve"], 1, "yika-hub --data "),
        (vec!["edge", "token", "create", "--campus", "c1", "--ttl", "soon"], 2, "write 45s, 30m or 2h"),
        (vec!["edge", "release-suspense", "n1"], 2, "say --yes"),
        (vec!["top-up"], 2, "--request"),
        (vec!["top-up", "1", "--fen", "100", "--request", "r"], 2, "write it as in p17"),
        (vec!["user", "reset-admin", "chief"], 2, "no password came"),
        (vec!["status"], 1, "does not run here"),
        (vec!["tariff", "set", "/nonexistent.toml"], 2, "cannot read"),
        (vec!["version", "--json"], 0, "\"program\":\"yika-hub\""),
        (vec!["--help"], 0, "Exit codes: 0 done, 1 failed or refused, 2 wrong usage"),
    ] {
        let (got, finished) = asked(dir.path(), "C", &words).await;
        assert_eq!(got, code, "{words:?}: {finished:?}");
        assert!(format!("{}{}", finished.stdout, finished.stderr).contains(said), "{words:?}: {finished:?}");
    }
}

/// Rows ORG-3.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_and_what_was_refused_is_said_in_the_language_of_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    let (code, put) = asked(&hub.dir, "zh_CN.UTF-8", &["campus", "put", "c1", "东校区"]).await;
    assert_eq!((code, put.stdout.trim()), (0, "园区 c1 东校区已登记"), "{put:?}");
    let (_, put) = asked(&hub.dir, "C", &["campus", "put", "c1", "East"]).await;
    assert_eq!(put.stdout.trim(), "campus c1 East is registered");
    let (_, put) = asked(&hub.dir, "C", &["campus", "put", "c1", "东校区"]).await;
    assert_eq!(put.stdout.trim(), "campus c1 东校区 is registered");

    let token = ["edge", "token", "create", "--campus", "c1", "--name", "一食堂"];
    let (code, made) = asked(&hub.dir, "zh_CN.UTF-8", &token).await;
    let line = made.stdout.trim();
    assert!(code == 0 && line.parse::<yika_link::JoinString>().is_ok(), "one line and nothing else: {made:?}");
    let command = format!("在节点上运行：yika-edge init --join {line} --name '一食堂'");
    assert!(made.stderr.contains(&command) && made.stderr.contains("只有本机能连接"), "{made:?}");
    let far = [&token[..], &["--advertised", "hub.example.org:7443"]].concat();
    let (_, made) = asked(&hub.dir, "C", &far).await;
    assert!(made.stderr.contains("run on the box") && !made.stderr.contains("only this machine"), "{made:?}");
    let nowhere = ["edge", "token", "create", "--campus", "c1", "--advertised", "0.0.0.0:7443"];
    for (locale, words) in
        [("C", "link.advertised = \"HOST:PORT\""), ("zh_CN.UTF-8", "link.advertised = \"主机名:端口\"")]
    {
        let (code, refused) = asked(&hub.dir, locale, &nowhere).await;
        assert!(code == 1 && refused.stdout.is_empty() && refused.stderr.contains(words), "{refused:?}");
    }
    let till = ["terminal", "add", "--campus", "c1", "--kind", "till", "--name", "1 号窗"];
    let placed = [&till[..], &["--outlet", "u1", "--merchant", "m1"]].concat();
    let (code, made) = asked(&hub.dir, "C", &placed).await;
    assert!(code == 0 && made.stdout.contains("terminal t1 is registered"), "{made:?}");
    let (code, refused) = asked(&hub.dir, "C", &till).await;
    assert!(code == 1 && refused.stderr.contains("there are: u1 m1 (1 号窗)"), "{refused:?}");
    let door = ["terminal", "add", "--campus", "c1", "--kind", "door", "--name", "East gate", "--door", "d9"];
    let (code, refused) = asked(&hub.dir, "C", &door).await;
    assert!(code == 1 && refused.stderr.contains("c1 has no door d9; it has: –"), "{refused:?}");

    let sheet = dir.path().join("people.csv");
    let person = "姓名,证件类型,证件号码,工号,身份类别,园区,卡号\n王五,护照,E1234567,001,员工,东校区,7\n";
    std::fs::write(&sheet, format!("{person}李四,身份证,12,002,员工,东校区,8\n")).unwrap();
    let sheet = sheet.to_str().unwrap();
    let (code, imported) = asked(&hub.dir, "C", &["import", "people", sheet]).await;
    assert!(code == 3 && imported.stdout.contains("line 3: C 证件号码: a resident number has 18"), "{imported:?}");
    assert!(
        imported.stdout.contains("imported: 1 new, 0 to another campus, 0 changed, 0 as known, 1 row refused"),
        "{imported:?}"
    );
    let away = ["person", "move", "p1", "--campus"];
    let (code, refused) = asked(&hub.dir, "C", &[&away[..], &["c1"]].concat()).await;
    assert!(code == 1 && refused.stderr.contains("p1 is of campus c1 already"), "{refused:?}");
    let (code, refused) = asked(&hub.dir, "C", &[&away[..], &["c9"]].concat()).await;
    assert!(code == 1 && refused.stderr.contains("c9 is not a campus; known are c1"), "{refused:?}");
    asked(&hub.dir, "C", &["campus", "put", "c2", "西校区"]).await;
    let (_, moved) = asked(&hub.dir, "C", &[&away[..], &["c2"]].concat()).await;
    assert_eq!(moved.stdout.trim(), "p1 is moved from c1 to c2", "{moved:?}");
    let (_, back) = asked(&hub.dir, "C", &["import", "people", sheet]).await;
    assert!(back.stdout.contains("line 2: p1 moved from c2 to c1"), "{back:?}");
    let pay = ["top-up", "p1", "--fen", "8850", "--request", "v1"];
    let (_, paid) = asked(&hub.dir, "zh_CN.UTF-8", &pay).await;
    assert_eq!(paid.stdout.trim(), "已充值 88.50 元，现有 88.50 元", "{paid:?}");
    let (_, again) = asked(&hub.dir, "C", &[&["--lang", "zh"], &pay[..]].concat()).await;
    assert!(again.stdout.contains("没有重复充值"), "{again:?}");
    let other = ["top-up", "p1", "--fen", "1", "--request", "v1"];
    let (code, used) = asked(&hub.dir, "zh_CN.UTF-8", &other).await;
    assert!(code == 1 && used.stderr.contains("请换一个新编号"), "{used:?}");
    let (_, answer) = asked(&hub.dir, "zh_CN.UTF-8", &[&pay[..], &["--json"]].concat()).await;
    assert_eq!(answer.stdout.trim(), "{\"total_fen\":8850,\"repeated\":true}");
    let (code, refused) = asked(&hub.dir, "C", &["withdraw", "p1", "--fen", "9000", "--request", "w1"]).await;
    assert!(code == 1 && refused.stderr.contains("the balance is only 88.50 yuan"), "{refused:?}");
    let (_, renamed) = asked(&hub.dir, "C", &["edge", "rename", "n1", "x"]).await;
    assert!(renamed.stderr.contains("n1 is not"), "{renamed:?}");
}

/// The state in both languages, neither of which borrows from the other; the first line names headquarters.
#[tokio::test(flavor = "multi_thread")]
async fn status_speaks_one_language_and_its_code_calls_somebody_when_something_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    let chinese = |line: &str| line.chars().any(|letter| letter > '\u{2e7f}');
    for locale in ["C", "zh_CN.UTF-8"] {
        let (code, status) = asked(&hub.dir, locale, &["status"]).await;
        assert!(code == 0 && status.stdout.lines().count() > 8, "{status:?}");
        let lines = status.stdout.lines().skip(1);
        lines.for_each(|line| assert_eq!(chinese(line), locale != "C", "{line}"));
    }
    let (_, status) = asked(&hub.dir, "C", &["status"]).await;
    assert!(status.stdout.contains("lies on the disk of the database: both are lost together\n       → name a folder"));

    assert!(hub.process.terminate(BOUND).await.unwrap().success());
    let incarnation = Incarnation { generation: 1, counter: 1 };
    let feed = FeedId { writer: Writer { node: NodeId(7), incarnation }, channel: Channel::Journal };
    let mut database = SqliteStore::open(hub.database(), &yika_hub::store::options()).unwrap();
    let mut tx = Tx::new(&database);
    tx.put(keys::quarantine(&feed, Seq(3)), &"it cannot be read".to_owned());
    let batch = tx.into_batch();
    database.commit(&batch).unwrap();
    drop(database);
    let (code, status) = asked(&hub.dir, "zh_CN.UTF-8", &["status"]).await;
    assert!(code == 1 && status.stderr.contains("里没有运行中的总部"), "{status:?}");
    hub.restart().await.unwrap();
    let (code, status) = asked(&hub.dir, "C", &["status"]).await;
    assert_eq!(code, 3, "{status:?}");
    assert!(
        status.stdout.contains("[FAIL] 1 entry could not be used and is set aside")
            && status.stdout.contains("1 found wrong")
    );
    let (code, status) = asked(&hub.dir, "C", &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let findings = status["findings"].as_array().unwrap();
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["verdict"] == "wrong").collect();
    assert!(code == 3 && wrong.len() == 1, "{status}");
    assert!(wrong[0]["code"] == "quarantine" && wrong[0]["facts"]["count"] == "1", "{status}");
}

#[tokio::test]
async fn a_headquarters_that_does_not_answer_is_given_up_in_words() {
    let dir = tempfile::tempdir().unwrap();
    // As a frozen process: the socket is there, and nobody reads from it.
    let _frozen = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
    for (locale, words) in [("C", "has not answered within 10 s"), ("zh_CN.UTF-8", "总部 10 秒内没有答复")] {
        let (code, given_up) = asked(dir.path(), locale, &["status"]).await;
        assert!(code == 1 && given_up.stderr.contains(words), "{given_up:?}");
    }
}

/// The one object that a command prints for programs, with its exit code.
async fn object(data: &Path, code: i32, words: &[&str]) -> Value {
    let launch = Launch::binary("yika-hub").unwrap().name("asked").env("LC_ALL", "C").arg("--data").arg(data);
    let finished = launch.args(words).arg("--json").input("a long first password\n").finish(BOUND).await.unwrap();
    assert_eq!(finished.status.code(), Some(code), "{words:?}: {finished:?}");
    let (text, other) =
        if code == 0 { (&finished.stdout, &finished.stderr) } else { (&finished.stderr, &finished.stdout) };
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{words:?}: {e}: {finished:?}"));
    assert!(value.is_object() && value.get("Ok").is_none() && other.is_empty(), "{words:?}: {finished:?}");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_a_program_with_one_json_object() {
    let dir = tempfile::tempdir().unwrap();
    let hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    let edge = {
        hub.command(&["campus", "put", "c1", "东校区"]).await.unwrap();
        BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, "").await.unwrap()
    };
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_string_lossy().into_owned()
    };
    let people = "姓名,证件类型,证件号码,工号,身份类别,园区,卡号\n王五,护照,E1234567,001,员工,c1,7\n";
    let people = write("people.csv", people);
    let tariff = write("tariff.toml", include_str!("../../deploy/samples/tariff.toml"));
    let access = write("access.toml", include_str!("../../deploy/samples/access.toml"));
    let (fresh, restored) = (dir.path().join("fresh"), dir.path().join("restored"));
    let snapshot = dir.path().join("c1.snapshot").to_string_lossy().into_owned();
    let at = |words: &'static [&'static str]| object(&hub.dir, 0, words);

    assert_eq!(object(&fresh, 0, &["init", "--admin", "chief"]).await["login"], "chief");
    assert!(object(&fresh, 0, &["serve", "--check-config"]).await["link"].is_object());
    assert_eq!(at(&["version"]).await["program"], "yika-hub");
    assert_eq!(at(&["campus", "put", "c2", "西校区"]).await["name"], "西校区");
    let token = at(&["edge", "token", "create", "--campus", "c1"]).await;
    assert!(token["line"].as_str().unwrap().starts_with("yika-join:") && token["only_here"] == true, "{token}");
    assert_eq!(at(&["edge", "list"]).await["edges"][0]["name"], "east-1");
    assert_eq!(at(&["edge", "rename", "n1", "东一"]).await["name"], "东一");
    for changed in [true, false] {
        let set = object(&hub.dir, 0, &["tariff", "set", &tariff]).await;
        assert_eq!((&set["version"], &set["changed"]), (&1.into(), &changed.into()), "the same file changes nothing");
    }
    let till =
        ["terminal", "add", "--campus", "c1", "--kind", "till", "--name", "一号窗", "--outlet=1", "--merchant=1"];
    assert_eq!(object(&hub.dir, 0, &till).await["terminal"], 1);
    assert_eq!(at(&["terminal", "suspend", "t1"]).await["state"], "suspended");
    assert_eq!(at(&["terminal", "deploy", "t1"]).await["state"], "deployed");
    assert_eq!(object(&hub.dir, 0, &["import", "people", &people]).await["new"], 1);
    assert_eq!(object(&hub.dir, 0, &["access", "apply", "--campus", "c1", &access]).await["members_in"], 1);
    assert_eq!(at(&["access", "show", "--campus", "c1"]).await["groups"][0]["member_categories"][0], "employee");
    assert_eq!(at(&["top-up", "p1", "--fen", "9000", "--request", "v1"]).await["total_fen"], 9000);
    assert_eq!(at(&["top-up", "p1", "--fen", "100", "--request", "v2"]).await["repeated"], false);
    for repeated in [false, true] {
        let undone = at(&["top-up", "undo", "--request", "v2", "--reason", "twice"]).await;
        assert_eq!((&undone["left_fen"], &undone["repeated"]), (&9000.into(), &repeated.into()));
    }
    assert_eq!(at(&["withdraw", "p1", "--fen", "1000", "--request", "w1"]).await["left_fen"], 8000);
    assert_eq!(at(&["pools", "set", "--guest-fen", "500", "--float-fen", "100"]).await["guest_fen"], 500);
    assert_eq!(at(&["pools", "show"]).await["float_fen"], 100);
    assert_eq!(at(&["ledger", "verify"]).await["sum_fen"], 0);
    assert_eq!(at(&["card", "block", "7"]).await["card"], 7);
    assert_eq!(at(&["card", "lift", "7"]).await["lifted"], 1);
    assert_eq!(at(&["user", "add", "wang", "--name", "王", "--role", "cashier"]).await["login"], "wang");
    assert_eq!(at(&["user", "reset-admin", "admin"]).await["login"], "admin");
    let exported = object(&hub.dir, 0, &["snapshot", "export", "--campus", "c1", &snapshot]).await;
    assert!(!exported["parts"].as_array().unwrap().is_empty(), "{exported}");
    let made = at(&["backup", "create"]).await;
    let file = made["file"].as_str().unwrap();
    assert_eq!(object(&hub.dir, 0, &["backup", "verify", file]).await["books"]["sum_fen"], 0);
    assert!(at(&["backup", "list"]).await["backups"][0]["created_ms"].is_i64());
    assert!(at(&["status"]).await["recovering"].is_null());
    assert_eq!(at(&["list", "campuses"]).await["campuses"][1]["name"], "西校区");
    assert_eq!(at(&["list", "terminals"]).await["terminals"][0]["name"], "一号窗");
    assert_eq!(at(&["list", "people", "王五"]).await["people"][0]["staff_number"], "001");
    let users = at(&["list", "users"]).await;
    assert!(users["users"][1]["login"] == "wang" && users["users"][1].get("verifier").is_none(), "{users}");
    assert_eq!(at(&["list", "tariff"]).await["tariff"]["version"], 1);
    let key = hub.dir.join("master.key").to_string_lossy().into_owned();
    let put = object(&restored, 0, &["backup", "restore", file, "--older", "--master-key", &key]).await;
    let next = format!("yika-hub --data {} serve", restored.display());
    assert_eq!(put["next"], next, "{put}");

    // What is not done is one object, too, with the code that the words stand for.
    let refused = object(&hub.dir, 1, &["withdraw", "p1", "--fen", "9000", "--request", "w2"]).await;
    assert_eq!((&refused["code"], &refused["exit"]), (&"balance_too_small".into(), &1.into()), "{refused}");
    assert_eq!(object(&hub.dir, 1, &["card", "lift", "7"]).await["code"], "nothing_to_lift");
    assert_eq!(
        object(&hub.dir, 1, &["refund", "t9-1-1", "--request", "r1", "--reason", "wrong dish"]).await["code"],
        "unknown_terminal"
    );
    assert_eq!(object(&hub.dir, 2, &["edge", "lift-blocks", "n1"]).await["code"], "usage");
    assert_eq!(object(&hub.dir, 2, &["sell"]).await["code"], "usage");
    assert_eq!(object(&hub.dir, 2, &["edge"]).await["code"], "usage");
    assert_eq!(object(&hub.dir, 2, &["backup", "verify", "/nonexistent.backup"]).await["code"], "backup_unreadable");
    damage(Path::new(file));
    let unsound = object(&hub.dir, 3, &["backup", "verify", file]).await;
    let why = unsound["error"].as_str().unwrap();
    assert!(unsound["code"] == "backup_unsound" && why.contains("altered") && !why.contains("log"), "{unsound}");
    assert!(at(&["edge", "fence", "n1", "--reason", "stolen"]).await["writer"].as_str().unwrap().starts_with("n1"));
    assert_eq!(at(&["edge", "lift-blocks", "n1", "--yes"]).await["lifted"], 0);
    assert!(at(&["edge", "release-suspense", "n1", "--yes"]).await["writer"].is_string());
    drop(edge);
    let checks = audited(&hub, "backup.verify");
    assert_eq!(checks, ["outcome=sound", "outcome=unsound"], "a file that is not there was not checked");
    assert_eq!(audited(&hub, "card.lift").len(), 1, "nothing was lifted the second time");
}

/// The details of an act's lines in the audit.
fn audited(hub: &HubProgram, act: &str) -> Vec<String> {
    let database = rusqlite::Connection::open_with_flags(hub.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut lines = database.prepare("SELECT detail FROM audit WHERE act = ?1 ORDER BY number").unwrap();
    lines.query_map([act], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Turns a bit in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}
