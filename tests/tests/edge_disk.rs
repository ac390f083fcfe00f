//! A box whose disk fills up or rots: it refuses with the reason, lives, and goes on by itself when there is room again.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_tests::http::Client;
use yika_tests::process::{Finished, Launch, Port, Process};
use yika_tests::site::{HubProgram, until};
use yika_tests::small_disk::{SmallDisk, spoil_pages};

const BOUND: Duration = Duration::from_secs(60);
/// Enough for a fresh database, its log and its index.
const TMPFS_KIB: u32 = 4_096;

struct OneBox {
    data: PathBuf,
    http: Port,
    process: Process,
}

impl OneBox {
    async fn join(hub: &HubProgram, data: &Path) -> OneBox {
        hub.command(&["campus", "put", "c1", "东校区"]).await.unwrap();
        let line = hub.token("c1", &[]).await.unwrap();
        program(data).args(&["init", "--join", &line, "--name", "east"]).run(BOUND).await.unwrap();
        let http = Port::reserve().unwrap();
        let address = http.address().to_string();
        let serve = ["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", &address];
        let mut process = program(data).name("edge").args(&serve).start().await.unwrap();
        process.wait_for_http(http.number(), "/readyz", BOUND).await.unwrap();
        OneBox { data: data.to_owned(), http, process }
    }

    async fn ready(&self) -> (u16, String) {
        let answer = Client::new(format!("http://{}", self.http.address())).get("/readyz").await.unwrap();
        (answer.status.as_u16(), answer.text())
    }

    async fn status(&self) -> Value {
        let finished = program(&self.data).args(&["status", "--json"]).finish(BOUND).await.unwrap();
        serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"))
    }

    async fn doctor(&self) -> Finished {
        program(&self.data).arg("doctor").finish(BOUND).await.unwrap()
    }
}

fn program(data: &Path) -> Launch {
    Launch::binary("yika-edge").unwrap().env("LANG", "C").arg("--data").arg(data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_refused_in_words_and_the_box_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("box"), TMPFS_KIB).unwrap() else { return };
    let hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    let mut edge = OneBox::join(&hub, &disk.at).await;
    let filler = disk.fill().unwrap();
    // Time passes and headquarters writes: both want room.
    hub.command(&["campus", "put", "c2", "西校区"]).await.unwrap();
    until("the refusal", BOUND, async || Ok(edge.ready().await.0 == 503)).await.unwrap();
    let (_, words) = edge.ready().await;
    assert!(words.contains("full"), "{words}");
    let seen = edge.status().await;
    assert!(seen["state"] == "attention" && seen["refusing"].as_str().unwrap().contains("full"), "{seen}");
    let doctor = edge.doctor().await;
    assert!(doctor.status.code() == Some(3) && doctor.stdout.contains("[FAIL] disk"), "{doctor:?}");
    assert!(doctor.stdout.contains("writing resumes by itself"), "{doctor:?}");
    assert!(edge.process.is_running().unwrap());

    std::fs::remove_file(&filler).unwrap();
    until("writing again", BOUND, async || Ok(edge.ready().await.0 == 200)).await.unwrap();
    until("what headquarters wrote", BOUND, async || {
        let reader = yika_store::SqliteReader::open(disk.at.join("edge.db"), &yika_store::Options::default())?;
        Ok(yika_crdt::registry::RegistryView::load(&reader)?.campuses.len() == 2)
    })
    .await
    .unwrap();
    assert!(edge.process.is_running().unwrap());
    let stopped = edge.process.terminate(BOUND).await.unwrap();
    assert!(stopped.success(), "{}", edge.process.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_named_and_nothing_is_served_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    let data = dir.path().join("box");
    let mut edge = OneBox::join(&hub, &data).await;
    assert!(edge.process.terminate(BOUND).await.unwrap().success());
    // Every page but the first, which says what the file is.
    spoil_pages(&data.join("edge.db"), 1..).unwrap();
    let doctor = edge.doctor().await;
    assert!(doctor.status.code() == Some(3) && doctor.stdout.contains("[FAIL] database"), "{doctor:?}");
    assert!(doctor.stdout.contains("--replaces"), "how to mend it: {doctor:?}");
    let mut again = program(&data).args(&["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    again = again.name("again");
    let ended = again.finish(BOUND).await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("damaged") || ended.stderr.contains("malformed"), "{ended:?}");
    assert!(!ended.stdout.contains("ready"), "{ended:?}");
}
