//! A box that headquarters ends while it is alive and connected to the others: they hear of it and say nothing more to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::Path;
use std::time::Duration;
use yika_crdt::channel::Channel;
use yika_crdt::ids::Seq;
use yika_crdt::store::Read;
use yika_store::{Options, SqliteReader};
use yika_tests::http::Client;
use yika_tests::process::Launch;
use yika_tests::site::{BoxProgram, until};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(30);
/// Longer than an entry takes from box to box.
const A_WHILE: Duration = Duration::from_secs(3);

/// The last line in which a box says whether it is connected to another.
fn last_word(edge: &BoxProgram, of: &str) -> String {
    let log = edge.process.stderr().unwrap();
    log.lines().rfind(|line| line.contains(of) && line.contains("connected")).unwrap_or_default().to_owned()
}

fn registry_end(edge: &BoxProgram) -> Seq {
    let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
    let feeds = reader.feeds().unwrap().into_iter();
    feeds.filter(|(feed, _)| feed.channel == Channel::Registry).map(|(_, held)| held.end.seq).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_fenced_while_it_is_connected_is_cut_off_by_every_other_box() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 4, &|_| {}).await.unwrap();
    let (ended, others) = (&world.boxes[1], [&world.boxes[0], &world.boxes[2]]);
    let node = ended.node().unwrap();
    let of_ended = format!("peer=n{node}@");
    for edge in others {
        until("they are connected", BOUND, async || {
            let word = last_word(edge, &of_ended);
            Ok(!word.is_empty() && !word.contains("disconnected"))
        })
        .await
        .unwrap_or_else(|e| panic!("{}: {e}{}", edge.name, edge.process.tail()));
    }
    world.hub.command(&["edge", "fence", &format!("n{node}"), "--reason", "stolen"]).await.unwrap();
    for edge in others {
        until("the connection is ended", BOUND, async || Ok(last_word(edge, &of_ended).contains("fenced (11)")))
            .await
            .unwrap_or_else(|e| panic!("{}: {e}{}", edge.name, edge.process.tail()));
    }
    // It knows, says so, and sells nothing more, also after a restart without a line.
    let knows = async || {
        let ready = Client::new(world.boxes[1].url()).get("/readyz").await?;
        Ok(ready.status == 503 && ready.text().contains("fenced this box"))
    };
    until("it knows that it is fenced", BOUND, knows).await.unwrap();
    // Nothing that comes later reaches it by any way.
    let before = registry_end(ended);
    world.hub.command(&["campus", "put", "c3", "北校区"]).await.unwrap();
    for edge in others {
        until("the others hear of the new campus", BOUND, async || Ok(registry_end(edge) > before)).await.unwrap();
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(registry_end(ended), before, "told to a box that is fenced");
    world.boxes[1].cut_wan();
    world.boxes[1].restart().await.unwrap();
    until("it remembers", BOUND, async || {
        let ready = Client::new(world.boxes[1].url()).get("/readyz").await?;
        Ok(ready.status == 503 && ready.text().contains("fenced this box"))
    })
    .await
    .unwrap();
    the_named_way_back_is_open(&mut world, node).await;
    world.stop().await.unwrap();
}

/// What a box in this folder answers: exit code, and all that it says.
async fn said(data: &Path, words: &[&str]) -> (i32, String) {
    let edge = Launch::binary("yika-edge").unwrap().name("asked").arg("--data").arg(data).env("LANG", "C");
    let finished = edge.args(words).finish(BOUND).await.unwrap();
    (finished.status.code().unwrap(), format!("{}{}", finished.stdout, finished.stderr))
}

/// Every command is named before it is needed, and what refuses names the one that does not.
async fn the_named_way_back_is_open(world: &mut World, node: u32) {
    let (node, leave) = (format!("n{node}"), "yika-edge leave --yes --force");
    let data = world.boxes[1].dir.join("data");
    let campus = world.boxes[1].campus.clone();
    let token = format!("yika-hub edge token create --campus {campus} --replaces {node}");
    for words in [["status"], ["doctor"]] {
        let (code, running) = said(&data, &words).await;
        assert!(code == 3 && running.contains(&token) && running.contains(leave), "{words:?}: {running}");
        assert!(!running.contains("only here"), "{running}");
    }
    world.boxes[1].process.terminate(BOUND).await.unwrap();
    for words in [["status"], ["doctor"]] {
        let (code, stopped) = said(&data, &words).await;
        assert!(code == 3 && stopped.contains(&token) && stopped.contains(leave), "{words:?}: {stopped}");
    }
    let line = world.hub.token(&campus, &["--replaces", &node]).await.unwrap();
    let (code, early) = said(&data, &["init", "--join", &line]).await;
    assert!(code == 4 && early.contains("yika-edge leave --yes"), "{early}");
    let (code, bare) = said(&data, &["leave"]).await;
    assert!(code == 4 && bare.contains("yika-edge leave --yes"), "{bare}");
    assert_eq!(said(&data, &["leave", "--yes", "--force"]).await.0, 0);
    let (code, back) = said(&data, &["init", "--join", &line]).await;
    assert!(code == 0 && back.contains(&node), "{back}");
    world.boxes[1].heal_wan();
    world.boxes[1].restart().await.unwrap();
    let sells = async || Ok(Client::new(world.boxes[1].url()).get("/readyz").await?.status == 200);
    until("the box sells again", BOUND, sells).await.unwrap();
}
