//! The edge program as campus IT meets it: installing, asking, stopping, leaving; real hub, real box, real exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use yika_tests::http::Client;
use yika_tests::process::{Finished, Launch};
use yika_tests::site::{BoxProgram, HubProgram, Reach, until};

const BOUND: Duration = Duration::from_secs(60);

fn edge(dir: &Path) -> Launch {
    Launch::binary("yika-edge").unwrap().name("asked").arg("--data").arg(dir)
}

async fn asked(dir: &Path, words: &[&str]) -> (i32, Finished) {
    let finished = edge(dir).env("LANG", "C").args(words).finish(BOUND).await.unwrap();
    (finished.status.code().unwrap(), finished)
}

async fn status(edge: &BoxProgram) -> Value {
    let (_, finished) = asked(&edge.dir.join("data"), &["status", "--json"]).await;
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"))
}

async fn ready(edge: &BoxProgram) -> (u16, String) {
    let answer = Client::new(edge.url()).get("/readyz").await.unwrap();
    (answer.status.as_u16(), answer.text())
}

async fn site(dir: &Path) -> (HubProgram, BoxProgram) {
    let hub = HubProgram::start(dir, "总部").await.unwrap();
    hub.command(&["campus", "put", "c1", "东校区"]).await.unwrap();
    let edge = BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, "").await.unwrap();
    (hub, edge)
}

#[tokio::test]
async fn a_wrong_word_is_answered_with_the_way_out_and_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let wrong = dir.path().join("edge.toml");
    std::fs::write(&wrong, "[http]\nbnd = \"127.0.0.1:1\"\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (words, code, said) in [
        (vec!["sell"], 2, "there is no command sell"),
        (vec!["--config", wrong, "serve"], 2, "bnd"),
        (vec!["--config", "/nonexistent.toml", "serve"], 2, "/nonexistent.toml"),
        (vec!["serve"], 1, "yika-edge init --join"),
        (vec!["init", "--join", "yika-join:nonsense"], 2, "--join"),
        (vec!["status"], 1, "has not joined"),
        (vec!["leave", "--yes"], 1, "no membership"),
        (vec!["doctor"], 3, "yika-edge init --join"),
        (vec!["serve", "--check-config"], 0, "configuration is good; "),
        (vec!["config", "show", "--origin"], 0, "link.bind = \"0.0.0.0:7443\"  # built-in"),
        (vec!["version", "--json"], 0, "\"protocol\""),
        (vec!["--help"], 0, "Exit codes"),
    ] {
        let (got, finished) = asked(&data, &words).await;
        assert_eq!(got, code, "{words:?}: {finished:?}");
        assert!(format!("{}{}", finished.stdout, finished.stderr).contains(said), "{words:?}: {finished:?}");
    }
    // Nor is there a folder yet; in the language of the terminal.
    let nowhere = dir.path().join("nowhere");
    for (lang, said) in [("C", "this box has not joined"), ("zh_CN.UTF-8", "本机还没有加入任何园区")] {
        let finished = edge(&nowhere).env("LC_ALL", lang).arg("serve").finish(BOUND).await.unwrap();
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.contains(said) && finished.stderr.contains("yika-edge init --join"), "{finished:?}");
    }
}

/// In Chinese by a flag, whatever the system says.
async fn in_chinese(dir: &Path, words: &[&str]) -> (i32, String) {
    let (code, finished) = asked(dir, &[&["--lang", "zh"], words].concat()).await;
    (code, format!("{}{}", finished.stdout, finished.stderr))
}

/// The one object that a command prints for programs.
async fn object(dir: &Path, code: i32, words: &[&str]) -> Value {
    let (got, finished) = asked(dir, &[words, &["--json"]].concat()).await;
    assert_eq!(got, code, "{words:?}: {finished:?}");
    let text = if finished.stdout.is_empty() { &finished.stderr } else { &finished.stdout };
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{words:?}: {e}: {finished:?}"))
}

#[tokio::test]
async fn what_is_wrong_with_a_box_is_said_in_the_language_of_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (words, code, said) in [
        (vec!["sell"], 2, "没有命令 sell"),
        (vec!["serve", "--http", "here"], 2, "地址:端口"),
        (vec!["init", "--join", "yika-join:nonsense"], 2, "接入命令不完整"),
        (vec!["init", "--join", "hello"], 2, "yika-join: 开头"),
        (vec!["leave", "--yes"], 1, "没有登记"),
        (vec!["serve", "--check-config"], 0, "配置正确"),
        (vec!["doctor"], 3, "[故障] 登记"),
    ] {
        let (got, text) = in_chinese(&data, &words).await;
        assert!(got == code && text.contains(said), "{words:?}: {got}: {text}");
    }
    // A machine that never joined is told to join, and neither to start what has no folder nor to look at its disk.
    let (_, text) = in_chinese(&data, &["doctor"]).await;
    assert!(!text.contains("systemctl start") && !text.contains("磁盘"), "{text}");
    assert!(text.find("登记").unwrap() < text.find("程序").unwrap(), "{text}");
    assert_eq!(object(&data, 2, &["sell"]).await["code"], "usage");
    assert_eq!(object(&data, 1, &["status"]).await["code"], "failed");
    assert_eq!(object(&data, 3, &["doctor"]).await["running"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_joins_one_box_and_says_to_the_next_where_another_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    hub.command(&["campus", "put", "c1", "东校区"]).await.unwrap();
    let line = hub.token("c1", &[]).await.unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for name in ["", " east", &"x".repeat(41)] {
        let (code, text) = in_chinese(&first, &["init", "--join", &line, "--name", name]).await;
        assert!(code == 2 && text.contains("1 到 40 个字符"), "{name:?}: {text}");
    }
    // The whole command as headquarters prints it is as good as the line in it.
    let printed = format!("yika-edge init --join {line} --name 'east-1'");
    let joined = object(&first, 0, &["init", "--join", &printed, "--name", "east-1"]).await;
    assert_eq!((&joined["node"], &joined["campus"]), (&"n1@1.1".into(), &1.into()), "{joined}");
    let (code, text) = in_chinese(&first, &["init", "--join", &line]).await;
    assert!(code == 4 && text.contains("已经加入"), "{text}");
    let used = object(&second, 1, &["init", "--join", &line]).await;
    assert!(used["code"] == "used_token" && used["exit"] == 1, "{used}");
    let (code, text) = in_chinese(&second, &["init", "--join", &line]).await;
    assert!(code == 1 && text.contains("在总部重新制作：yika-hub edge token create --campus c1"), "{text}");
    assert_eq!(text.matches("用过").count(), 1, "said once: {text}");
}

/// Rows ORG-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_installed_asked_cut_off_stopped_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hub, mut edge) = site(dir.path()).await;
    let data = edge.dir.join("data");
    assert_eq!(Client::new(edge.url()).get("/healthz").await.unwrap().status, 200);
    until("the box opens", BOUND, async || Ok(ready(&edge).await.0 == 200)).await.unwrap();
    until("a lease", BOUND, async || Ok(status(&edge).await["state"] == "normal")).await.unwrap();
    let seen = status(&edge).await;
    assert_eq!((&seen["campus_name"], &seen["unsent"]), (&Value::from("东校区"), &Value::from(0)), "{seen}");
    assert!(seen["hub_heard_age_ms"].as_u64().unwrap() < 60_000 && seen["certificate_days"].as_i64().unwrap() > 700);
    let (code, finished) = asked(&data, &["doctor"]).await;
    assert_eq!(code, 0, "{finished:?}");
    let mode = std::fs::metadata(data.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, finished) = asked(&data, &["serve"]).await;
    assert_eq!(code, 4, "a second process on the same folder: {finished:?}");
    assert!(finished.stderr.contains("in use by a running box"), "{finished:?}");
    assert_eq!(asked(&data, &["leave", "--yes"]).await.0, 4, "a running box does not leave");
    figures(&edge).await;
    registry_knows_the_address(&edge).await;
    // A box that sells nothing is as well as any.
    let quiet = first_box(&hub).await;
    assert_eq!((&quiet["connected"], &quiet["behind"]), (&Value::from(true), &Value::from(0)), "{quiet}");
    assert!(quiet["standing"] == "normal" && quiet["heard_age_ms"].as_i64().unwrap() < 60_000, "{quiet}");
    // It says so again and again, not only when it connects; and headquarters remembers when it stops.
    let heard_ms = |seen: &Value| seen["heard_ms"].as_i64().unwrap();
    let again = async || Ok(heard_ms(&first_box(&hub).await) > heard_ms(&quiet));
    until("the box to say once more how long its journal is", Duration::from_secs(30), again).await.unwrap();
    assert!(status(&edge).await["hub_heard_age_ms"].as_u64().unwrap() < 5_000, "a quiet line is heard all the same");
    edge.cut_wan();
    hub.process.terminate(Duration::from_secs(10)).await.unwrap();
    hub.restart().await.unwrap();
    let kept = first_box(&hub).await;
    assert!(kept["connected"] == false && heard_ms(&kept) > heard_ms(&quiet), "{kept}, {quiet}");
    edge.heal_wan();

    hub.process.kill().await.unwrap();
    until("the state to be told", BOUND, async || Ok(status(&edge).await["state"] == "offline")).await.unwrap();
    assert_eq!(ready(&edge).await.0, 200, "ready without headquarters");
    let (code, finished) = asked(&data, &["doctor"]).await;
    assert!(code == 3 && finished.stdout.contains("check the uplink"), "{finished:?}");
    let chinese = edge_words(&data, "zh_CN.UTF-8").await;
    assert!(chinese.contains("脱机营业"), "{chinese}");
    a_lost_disk_is_no_reason_to_enrol(&data).await;

    let code = edge.process.terminate(Duration::from_secs(10)).await.unwrap();
    assert!(code.success(), "{code}{}", edge.process.tail());
    let left = std::fs::metadata(data.join("edge.db-wal")).map_or(0, |m| m.len());
    assert_eq!(left, 0, "the log is folded back at a stop");
    let (code, finished) = asked(&data, &["status"]).await;
    assert!(code == 3 && finished.stdout.starts_with("DOWN"), "{finished:?}");

    hub.restart().await.unwrap();
    assert_eq!(asked(&data, &["leave"]).await.0, 4, "only with --yes");
    std::fs::write(data.join("sessions"), "of operators of this membership").unwrap();
    let (code, finished) = asked(&data, &["leave", "--yes"]).await;
    assert_eq!(code, 0, "{finished:?}");
    assert!(!data.join("sessions").exists(), "nobody stays signed in");
    assert!(!data.join("node.key").exists() && data.join("left-n1-1-1").join("edge.db").exists());
    // The name that headquarters wished is in the line.
    let line = hub.token("c1", &["--name", "东门-2"]).await.unwrap();
    let (code, finished) = asked(&data, &["init", "--join", &line]).await;
    assert!(code == 0 && finished.stdout.contains("东门-2"), "{finished:?}");
    the_setting_of_a_taken_port_is_named(&data).await;
}

async fn the_setting_of_a_taken_port_is_named(data: &Path) {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let (code, finished) = asked(data, &["serve", "--link", &port, "--http", "127.0.0.1:0", "--no-mdns"]).await;
    let said = &finished.stderr;
    assert!(code == 1 && said.contains("link.bind: cannot listen on UDP") && said.contains(&port), "{finished:?}");
}

/// The folder of a running box is not there, as when its disk went away: nobody is to make a second box of it.
async fn a_lost_disk_is_no_reason_to_enrol(data: &Path) {
    let aside = data.with_extension("aside");
    std::fs::rename(data, &aside).unwrap();
    let (code, finished) = asked(data, &["doctor"]).await;
    let (_, status) = asked(data, &["status"]).await;
    std::fs::rename(&aside, data).unwrap();
    let said = &finished.stdout;
    assert!(code == 3 && said.contains("runs (process") && !said.contains("not started"), "{said}");
    assert!(said.contains("do not enrol again") && !said.contains("ss -lntup"), "{said}");
    assert!(status.stderr.contains("mount the disk") && status.stderr.contains("a second box"), "{status:?}");
}

async fn first_box(hub: &HubProgram) -> Value {
    let listed: Value = serde_json::from_str(&hub.command(&["edge", "list"]).await.unwrap()).unwrap();
    listed["edges"][0].clone()
}

async fn edge_words(data: &Path, lang: &str) -> String {
    edge(data).env("LC_ALL", lang).arg("status").finish(BOUND).await.unwrap().stdout
}

/// What monitoring scrapes.
async fn figures(edge: &BoxProgram) {
    let line = edge.process.stdout().unwrap();
    let ready: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let address = ready["metrics"].as_str().unwrap();
    let text = Client::new(format!("http://{address}")).get("/metrics").await.unwrap().text();
    for name in ["outbox_entries 0", "hub_connected 1", "writer_serving 1", "may_append 1", "lease_left_seconds "] {
        assert!(text.contains(&format!("yika_edge_{name}")), "{name}: {text}");
    }
}

/// Headquarters learns where siblings can dial the box.
async fn registry_knows_the_address(edge: &BoxProgram) {
    let wanted = edge.link_address().to_string();
    let known = async || {
        let path = edge.database();
        let reader = yika_store::SqliteReader::open(path, &yika_store::Options::default())?;
        let view = yika_crdt::registry::RegistryView::load(&reader)?;
        Ok(view.boxes().iter().any(|record| record.address.as_deref() == Some(&*wanted)))
    };
    until("the address in the registry", BOUND, known).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let (_hub, mut edge) = site(dir.path()).await;
    edge.process.terminate(BOUND).await.unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let launch = Launch::binary("yika-edge").unwrap().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let launch = launch.arg("--data").arg(edge.dir.join("data")).args(&["serve", "--no-mdns"]);
    let mut again = launch.args(&["--link", "127.0.0.1:0", "--http", "127.0.0.1:0"]).start().await.unwrap();
    let heard = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let n = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
            if String::from_utf8_lossy(&buffer[..n]).contains(wanted) {
                return;
            }
        }
    };
    tokio::task::block_in_place(|| heard("READY=1"));
    tokio::task::block_in_place(|| heard("WATCHDOG=1"));
    again.signal("TERM").await.unwrap();
    tokio::task::block_in_place(|| heard("STOPPING=1"));
    assert!(again.wait(BOUND).await.unwrap().success(), "{}", again.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_alarms_and_renews_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut edge) = site(dir.path()).await;
    edge.process.terminate(BOUND).await.unwrap();
    let data = edge.dir.join("data");
    put_expired_certificate(&hub, &data);
    let (_, finished) = asked(&data, &["doctor"]).await;
    assert!(finished.stdout.contains("[FAIL] certificate"), "{finished:?}");
    edge.restart().await.unwrap();
    until("the renewed certificate", BOUND, async || {
        Ok(status(&edge).await["certificate_days"].as_i64().is_some_and(|days| days > 700))
    })
    .await
    .unwrap();
    edge.process.restart().await.unwrap();
    until("it is used after a restart", BOUND, async || {
        let seen = status(&edge).await;
        Ok(seen["state"] == "normal" && seen["certificate_days"].as_i64().is_some_and(|days| days > 700))
    })
    .await
    .unwrap();
}

/// Signed by the hub's authority for the same life, with its dates long over.
fn put_expired_certificate(hub: &HubProgram, data: &Path) {
    let identity = yika_hub::identity::HubIdentity::load(&hub.dir).unwrap();
    let key = std::fs::read(data.join("node.key")).unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&key.try_into().unwrap());
    let (named, _) = yika_link::describe_certificate(&std::fs::read(data.join("node.crt")).unwrap()).unwrap();
    let past = yika_link::Validity { not_before_s: 1_600_000_000, not_after_s: 1_600_086_400 };
    let expired = identity.authority.issue_own(&key, named, past).unwrap();
    std::fs::write(data.join("node.crt"), expired).unwrap();
}

#[test]
fn units_and_samples_are_what_the_service_manager_and_the_program_accept() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sample = root.join("deploy/samples/edge.toml");
    // Commented values are the built-in ones: without the comment signs nothing changes but the examples.
    let built_in = yika_edge::config::Config::default();
    let sources = yika_edge::config::Sources { files: vec![sample.clone()], ..Default::default() };
    assert_eq!(yika_edge::config::load(&sources).unwrap().config, built_in);
    let text = std::fs::read_to_string(&sample).unwrap();
    let open: String = text.lines().map(|line| uncommented(line).to_owned() + "\n").collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.toml");
    std::fs::write(&file, open).unwrap();
    let sources = yika_edge::config::Sources { files: vec![file], ..Default::default() };
    let all = yika_edge::config::load(&sources).unwrap().config;
    assert_eq!((&all.link, &all.discovery, &all.data), (&built_in.link, &built_in.discovery, &built_in.data));
    assert_eq!((all.http.bind, all.doors.bus.len()), (built_in.http.bind, 3));
    yika_hub::config::Config::load(&[root.join("deploy/samples/hub.toml")], std::iter::empty()).unwrap();
    verify_units(root);
}

/// A setting's line without its comment sign; other lines as they are.
fn uncommented(line: &str) -> &str {
    let rest = line.strip_prefix('#').unwrap_or(line);
    let is_setting = rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    if is_setting { rest } else { line }
}

fn verify_units(root: &Path) {
    use std::io::Write;
    use std::process::Command;
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // `eprintln!` would be hidden by the test harness, which shows only the output of failed tests.
        let words = "SKIPPED: systemd-analyze is not installed; the units are not verified";
        let mut console = std::io::stderr();
        return writeln!(console, "{words}").unwrap();
    }
    for unit in ["yika-edge.service", "yika-hub.service"] {
        let path = root.join("deploy/systemd").join(unit);
        let done = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        // The programs are not installed where tests run, and systemd before 254 restarts without back-off.
        let known = ["is not executable", "'RestartSteps'", "'RestartMaxDelaySec'"];
        let is_new = |line: &str| line.contains(unit) && !known.iter().any(|words| line.contains(words));
        let wrong: Vec<&str> = said.lines().filter(|line| is_new(line)).collect();
        assert!(wrong.is_empty(), "{unit}: {wrong:?}");
    }
}
