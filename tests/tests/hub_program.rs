//! The command line of headquarters as its administrator meets it: words in two languages, answers for programs, exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::Path;
use std::time::Duration;
use yika_tests::process::{Finished, Launch};
use yika_tests::site::HubProgram;

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
        (vec!["sell"], 2, "unrecognized subcommand"),
        (vec!["--config", wrong, "status"], 2, "bnd"),
        (vec!["--config", "/nonexistent.toml", "status"], 2, "/nonexistent.toml"),
        (vec!["--lang", "fr", "status"], 2, "zh or en"),
        (vec!["edge", "token", "create", "--campus", "c1", "--ttl", "soon"], 2, "write 45s, 30m or 2h"),
        (vec!["edge", "release-suspense", "n1"], 2, "say --yes"),
        (vec!["top-up"], 2, "--request"),
        (vec!["top-up", "1", "--fen", "100", "--request", "r"], 2, "write it as in p17"),
        (vec!["user", "reset-admin", "chief"], 2, "no password came"),
        (vec!["status"], 1, "does not run here"),
        (vec!["tariff", "set", "/nonexistent.toml"], 1, "cannot read"),
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
    let (_, quiet) = asked(&hub.dir, "C", &["campus", "put", "c1", "东校区", "--json"]).await;
    assert_eq!(quiet.stdout, "", "a program reads the exit code");

    let token = ["edge", "token", "create", "--campus", "c1", "--name", "一食堂"];
    let (code, made) = asked(&hub.dir, "zh_CN.UTF-8", &token).await;
    let line = made.stdout.trim();
    assert!(code == 0 && line.parse::<yika_link::JoinString>().is_ok(), "one line and nothing else: {made:?}");
    let command = format!("在节点上运行：yika-edge init --join {line} --name '一食堂'");
    assert!(made.stderr.contains(&command), "{made:?}");
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
    assert!(imported.stdout.contains("imported: 1 new, 0 changed, 0 as known, 1 rows refused"), "{imported:?}");
    let pay = ["top-up", "p1", "--fen", "8850", "--request", "v1"];
    let (_, paid) = asked(&hub.dir, "zh_CN.UTF-8", &pay).await;
    assert_eq!(paid.stdout.trim(), "已充值 88.50 元，现有 88.50 元", "{paid:?}");
    let (_, again) = asked(&hub.dir, "C", &[&["--lang", "zh"], &pay[..]].concat()).await;
    assert!(again.stdout.contains("没有重复充值"), "{again:?}");
    let (_, answer) = asked(&hub.dir, "zh_CN.UTF-8", &[&pay[..], &["--json"]].concat()).await;
    assert_eq!(answer.stdout.trim(), "{\"total_fen\":8850,\"repeated\":true}");
    let (code, refused) = asked(&hub.dir, "C", &["withdraw", "p1", "--fen", "9000", "--request", "w1"]).await;
    assert!(code == 1 && refused.stderr.contains("88.50 yuan are available"), "{refused:?}");
    let (_, renamed) = asked(&hub.dir, "C", &["edge", "rename", "n1", "x"]).await;
    assert!(renamed.stderr.contains("n1 is not"), "{renamed:?}");
}
