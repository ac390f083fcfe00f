//! Boxes find each other, and terminals find a box, on a campus network whose uplink is cut: against a real Avahi.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_tests::netns::{Namespace, Namespaces};
use yika_tests::process::{Launch, Process};
use yika_tests::site::until;
use yika_tests::skip::skipped;

const BOUND: Duration = Duration::from_secs(60);
/// Nobody is there: the registry's addresses lead nowhere, only mDNS does.
const NOWHERE: &str = "10.203.254.254:9";
const LINK: u16 = 7443;

fn at(host: &Namespace, program: &str, name: &str, dir: &Path) -> Launch {
    Launch::binary(program).unwrap().name(name).dir(dir).prefix(&host.exec()).env("LANG", "C")
}

async fn hub(host: &Namespace, dir: &Path) -> Process {
    let data = dir.join("hub");
    let hub = || at(host, "yika-hub", "hub", dir).arg("--data").arg(&data);
    hub().name("hub-init").args(&["init", "--name", "总部"]).run(BOUND).await.unwrap();
    let address = format!("{}:{LINK}", host.address());
    let mut process = hub().args(&["serve", "--link", &address, "--http", "127.0.0.1:0"]).start().await.unwrap();
    process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    hub().name("put").args(&["campus", "put", "c1", "东校区"]).run(BOUND).await.unwrap();
    process
}

async fn edge(hub: &Namespace, host: &Namespace, dir: &Path, name: &str) -> Process {
    let token = at(hub, "yika-hub", "token", dir).arg("--data").arg(dir.join("hub"));
    let line = token.args(&["edge", "token", "create", "--campus", "c1"]).run(BOUND).await.unwrap();
    let line = line.trim().parse::<yika_link::JoinString>().unwrap();
    let line = yika_link::JoinString::new(&format!("{}:{LINK}", hub.address()), line.pin, line.token).unwrap();
    let program = |words: &[&str]| at(host, "yika-edge", name, dir).arg("--data").arg(dir.join(name)).args(words);
    program(&["init", "--join", &line.to_text(), "--name", name]).run(BOUND).await.unwrap();
    let serve = ["serve", "--link", "0.0.0.0:7443", "--http", "0.0.0.0:8080", "--advertise", NOWHERE];
    let mut process = program(&serve).start().await.unwrap();
    process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    process
}

async fn status(host: &Namespace, dir: &Path, name: &str) -> Value {
    let launch = at(host, "yika-edge", "status", dir).arg("--data").arg(dir.join(name));
    let finished = launch.args(&["status", "--json"]).finish(BOUND).await.unwrap();
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"))
}

/// A private message bus and a real Avahi in a namespace.
struct Avahi {
    bus: PathBuf,
    _programs: [Process; 2],
}

impl Avahi {
    async fn start(host: &Namespace, dir: &Path) -> Avahi {
        let bus = dir.join("bus");
        let config = dir.join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow send_type=\"method_call\"/></policy></busconfig>",
            bus.display()
        );
        std::fs::write(&config, text).unwrap();
        let launch = Launch::program("dbus-daemon").unwrap().dir(dir).prefix(&host.exec());
        let config = format!("--config-file={}", config.display());
        let mut daemon = launch.args(&[&*config, "--nofork", "--print-address"]).start().await.unwrap();
        daemon.wait_for_output("unix:path=", BOUND).await.unwrap();
        let file = dir.join("avahi.conf");
        let text = "[server]\nuse-ipv4=yes\nuse-ipv6=no\nallow-interfaces=eth0\nenable-dbus=yes\n[wide-area]\nenable-wide-area=no\n";
        std::fs::write(&file, text).unwrap();
        let launch = Launch::program("avahi-daemon").unwrap().dir(dir).prefix(&host.exec());
        let launch = launch.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()));
        let launch = launch.args(&["--no-drop-root", "--no-chroot", "--no-rlimits", "--debug", "--file"]).arg(&file);
        let mut avahi = launch.start().await.unwrap();
        avahi.wait_for_output("Server startup complete", BOUND).await.unwrap();
        Avahi { bus, _programs: [daemon, avahi] }
    }

    fn tool(&self, program: &str, host: &Namespace, dir: &Path) -> Launch {
        let bus = format!("unix:path={}", self.bus.display());
        Launch::program(program).unwrap().dir(dir).prefix(&host.exec()).env("DBUS_SYSTEM_BUS_ADDRESS", bus)
    }
}

fn installed(program: &str) -> bool {
    let found = ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        skipped(&format!("{program} is not installed; apt-get install avahi-daemon avahi-utils dbus"), false);
    }
    found
}

/// Rows TRM-14.
#[tokio::test(flavor = "multi_thread")]
async fn siblings_and_terminals_find_a_box_with_the_uplink_cut() {
    if !Namespaces::available() || !["dbus-daemon", "avahi-daemon", "avahi-browse"].into_iter().all(installed) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut town = Namespaces::new().unwrap();
    town.switch("headquarters").unwrap();
    town.switch("campus").unwrap();
    let uplink = town.trunk("headquarters", "campus").unwrap();
    let headquarters = town.host("hub", "headquarters").unwrap();
    let [one, two, terminal] = ["one", "two", "term"].map(|name| town.host(name, "campus").unwrap());
    let _hub = hub(&headquarters, dir).await;
    let mut first = edge(&headquarters, &one, dir, "one").await;
    let _second = edge(&headquarters, &two, dir, "two").await;
    let met = async |host: &Namespace, name: &str| {
        let seen = status(host, dir, name).await;
        Ok(seen["siblings"][0]["connected"] == true)
    };
    until("the siblings' registry", BOUND, async || {
        Ok(status(&one, dir, "one").await["siblings"].as_array().is_some_and(|s| s.len() == 1))
    })
    .await
    .unwrap();

    uplink.down().unwrap();
    first.terminate(BOUND).await.unwrap();
    first.restart().await.unwrap();
    first.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    until("one sees two", BOUND, async || met(&one, "one").await).await.unwrap();
    until("two sees one", BOUND, async || met(&two, "two").await).await.unwrap();

    let avahi = Avahi::start(&terminal, dir).await;
    for (service, port) in [("_yika-term._tcp", 8080), ("_yika-edge._udp", LINK)] {
        until("the service in Avahi's eyes", BOUND, async || {
            let browse = avahi.tool("avahi-browse", &terminal, dir).args(&["--resolve", "--parsable", "--terminate"]);
            let found = browse.arg(service).finish(BOUND).await?.stdout;
            let here = |host: &Namespace| {
                let fields = format!(";{};{port};", host.address());
                found.lines().any(|line| line.starts_with('=') && line.contains(&fields) && line.contains("campus=1"))
            };
            Ok(here(&one) && here(&two))
        })
        .await
        .unwrap();
    }

    // A stranger's announcement is only an address: what answers there is not the box, and nothing follows from it.
    let publish = avahi.tool("avahi-publish", &terminal, dir).name("stranger");
    let words = ["-s", "yika-stranger", "_yika-edge._udp", "9", "v=1", "node=2", "campus=1", "path=/terminal/v1"];
    let mut stranger = publish.args(&words).start().await.unwrap();
    stranger.wait_for_output("Established", BOUND).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(met(&one, "one").await.unwrap() && met(&two, "two").await.unwrap());
}
