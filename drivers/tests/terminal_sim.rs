//! The simulator as a program: plans and flags, an edge that is not there, what it prints and leaves as exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_yika-terminal-sim")).args(arguments).output().unwrap()
}

#[test]
fn a_plan_that_cannot_be_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    std::fs::write(&plan, "edges = [\"127.0.0.1:1\"]\ncards = [\"1\"]\nspeed = 3\n").unwrap();
    let unknown = simulate(&["--plan", plan.to_str().unwrap(), "--count", "1"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("plan.toml") && said.contains("speed"), "{said}");
    let none = simulate(&["--edge", "127.0.0.1:1", "--card", "1", "--count", "1"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("0 terminals"));
    let word = simulate(&["--edge", "127.0.0.1:1", "--card", "1", "--count", "1", "--terminal", "till", "--key", "07"]);
    assert!(word.status.code() == Some(2) && String::from_utf8_lossy(&word.stderr).contains("as in 3 or t3"));
    let short = simulate(&["--edge", "127.0.0.1:1", "--card", "1", "--count", "1", "--terminal", "t3", "--key", "07"]);
    assert!(String::from_utf8_lossy(&short.stderr).contains("the key of terminal 3 is not 64"));
}

#[test]
fn an_edge_that_is_not_there_is_counted_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, log) = (dir.path().join("plan.json"), dir.path().join("log.jsonl"));
    let key = "07".repeat(32);
    let text = format!(
        r#"{{"edges":["http://127.0.0.1:1","http://127.0.0.1:2"],"cards":["5-6"],"count":2,"per_second":0,
            "give_up_ms":80,"retry_ms":10,"tills":[{{"terminal":10,"key":"{key}"}}]}}"#
    );
    std::fs::write(&plan, text).unwrap();
    let out = simulate(&["--plan", plan.to_str().unwrap(), "--log", log.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("nobody answered"), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((summary["approved"].as_u64(), summary["contradictions"].as_u64()), (Some(0), Some(0)));
    // The second sale is not begun while the first is not undone.
    assert!(summary["unanswered"].as_u64() >= Some(2) && summary["left_open"].as_u64() == Some(1), "{summary}");
    assert!(summary["fail_overs"].as_u64() > Some(0) && summary["retries"].as_u64() > Some(2), "{summary}");
    let lines = std::fs::read_to_string(log).unwrap();
    let kinds: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .inspect(|line| assert!(line["answer"].is_null() && line["error"].is_string(), "{line}"))
        .map(|line| line["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds[..2], ["purchase", "reversal"]);
}

#[test]
fn amounts_are_set_by_a_flag_and_a_reader_that_goes_away_is_no_failure() {
    let key = "07".repeat(32);
    let run = ["--edge", "127.0.0.1:1", "--card", "1", "--count", "1", "--terminal", "t3", "--key", &key];
    for (fen, said) in
        [("12.50", "as in 850"), ("900-100", "amounts of 900 to 100 fen"), ("0", "amounts of 0 to 0 fen")]
    {
        let out = simulate(&[&run[..], &["--fen", fen]].concat());
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && words.contains(said), "{fen}: {words}");
    }
    // What `| head` does: it reads nothing more.
    let (pipe, end) = std::io::pipe().unwrap();
    drop(pipe);
    let certify = ["certify", "--edge", "http://127.0.0.1:1", "--terminal", "10", "--key", &key];
    let mut child = Command::new(env!("CARGO_BIN_EXE_yika-terminal-sim"));
    let out = child.args(certify).stdout(end).stderr(std::process::Stdio::piped()).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(0) && words.is_empty(), "{:?}: {words}", out.status);
}

#[test]
fn certification_of_nothing_fails_with_exit_code_one() {
    let key = "07".repeat(32);
    let out = simulate(&["certify", "--edge", "http://127.0.0.1:1", "--terminal", "10", "--key", &key, "--json"]);
    assert_eq!(out.status.code(), Some(1));
    let rules: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
    assert!(rules.len() >= 25 && rules.iter().all(|rule| rule["failed"].is_string()));
}

/// A box that lets nobody in, as one that does not know the terminal: it cannot sign that.
fn barring_box() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let body = serde_json::json!({
        "code": "unknown_terminal", "server_time_ms": 0,
        "message": { "zh": "本机不认识该终端", "en": "this box does not know the terminal" },
        "mend": { "zh": "请在总部登记", "en": "register it at headquarters" },
    })
    .to_string();
    let answer =
        format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Head and body come in one or two packets; the answer is the same.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_terminal_that_is_not_let_in_says_so_once_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let key = "07".repeat(32);
    for kind in ["tills", "readers"] {
        let plan = dir.path().join(format!("{kind}.json"));
        let text = format!(
            r#"{{"edges":["http://{}"],"cards":["5"],"seconds":60,"give_up_ms":400,"retry_ms":10,"swipes_per_second":20,
                "{kind}":[{{"terminal":10,"key":"{key}"}}]}}"#,
            barring_box()
        );
        std::fs::write(&plan, text).unwrap();
        let begun = Instant::now();
        let out = simulate(&["--plan", plan.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && begun.elapsed() < Duration::from_secs(20), "{said}");
        let word = "does not let terminal t10 in: unknown_terminal: this box does not know the terminal (register it";
        assert_eq!(said.matches(word).count(), 1, "{said}");
        assert!(!said.contains('\x1b'), "colours are for people: {said:?}");
        let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(summary["problems"]["unknown_terminal"].as_u64(), Some(1), "{summary}");
    }
}

#[test]
fn a_reader_alone_ends_with_its_count_and_an_absent_edge_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let key = "07".repeat(32);
    let counted =
        ["--edge", "127.0.0.1:1", "--card", "1", "--count", "2", "--terminal", "t3", "--key", &key, "--reader"];
    let out = simulate(&counted);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("no answer from 127.0.0.1:1").count(), 1, "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(summary["unanswered"].as_u64(), Some(2), "{summary}");
    let plan = dir.path().join("plan.json");
    let text = format!(
        r#"{{"edges":["127.0.0.1:1"],"cards":["5"],"count":1000,"per_second":0,"give_up_ms":80,"retry_ms":10,
            "tills":[{{"terminal":10,"key":"{key}"}}]}}"#
    );
    std::fs::write(&plan, text).unwrap();
    let begun = Instant::now();
    let out = simulate(&["--plan", plan.to_str().unwrap()]);
    assert!(out.status.code() == Some(1) && begun.elapsed() < Duration::from_secs(20), "{out:?}");
}
