//! The cable between a campus and everybody else is pulled, in network namespaces with real addresses: both sides go on
//! selling to the same people, nobody gets more than he has, and the books meet when the cable is back.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_drivers::terminal::client::Client;
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::simulator::TerminalPlan;
use yika_hub::control::{PersonLine, TopUpWish, ToppedUp};
use yika_hub::desk::TerminalMade;
use yika_tests::books::{Books, Journal, compare};
use yika_tests::netns::{Exposed, Namespace, Namespaces};
use yika_tests::process::{Launch, Process};
use yika_tests::site::until;

const BOUND: Duration = Duration::from_secs(60);
const LINK: u16 = 7443;
const HTTP: u16 = 8080;
const PAID_FEN: i64 = 15_000;
const MEAL_FEN: i64 = 700;
const PEOPLE_PER_CAMPUS: usize = 5;
/// Nothing but money limits what one person buys.
const TARIFF: &str = "version = 0
barred = []
repeat_tap_seconds = 0
periods = []
fixed = []
adjustments = []
limits = []
[guest]
per_purchase = 0
per_card_day = 0
";

/// Headquarters in its namespace.
struct Hub {
    host: Namespace,
    dir: PathBuf,
    _process: Process,
}

/// A box with a till, which stands before the namespace and knocks at its door.
struct Campus {
    dir: PathBuf,
    process: Process,
    till: Client,
    terminal: u32,
    sold: u32,
    _door: Exposed,
}

fn at(host: &Namespace, program: &str, name: &str, dir: &Path) -> Launch {
    Launch::binary(program).unwrap().name(name).dir(dir).prefix(&host.exec()).env("LANG", "C")
}

impl Hub {
    async fn start(host: Namespace, dir: &Path) -> Hub {
        let data = dir.join("hub");
        let hub = |name: &str| at(&host, "yika-hub", name, dir).arg("--data").arg(&data);
        hub("hub-init").args(&["init", "--name", "总部"]).run(BOUND).await.unwrap();
        let address = format!("{}:{LINK}", host.address());
        let mut process =
            hub("hub").args(&["serve", "--link", &address, "--http", "127.0.0.1:0"]).start().await.unwrap();
        process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
        let hub = Hub { host, dir: dir.to_owned(), _process: process };
        for (campus, name) in [("c1", "东校区"), ("c2", "西校区")] {
            hub.command(&["campus", "put", campus, name]).await;
        }
        let tariff = dir.join("tariff.toml");
        std::fs::write(&tariff, TARIFF).unwrap();
        hub.command(&["tariff", "set", &tariff.to_string_lossy()]).await;
        hub
    }

    async fn command(&self, words: &[&str]) -> String {
        let launch = at(&self.host, "yika-hub", "command", &self.dir).arg("--data").arg(self.dir.join("hub"));
        launch.arg("--json").args(words).run(BOUND).await.unwrap()
    }

    /// The control socket is a file: namespaces of networks do not hide it.
    async fn ask<T: serde::de::DeserializeOwned>(&self, method: &str, path: &str, body: Vec<u8>) -> T {
        let socket = yika_hub::config::Config::socket(&self.dir.join("hub"));
        yika_hub::control::ask(&socket, method, path, body).await.unwrap()
    }

    async fn people(&self) -> Vec<PersonLine> {
        let file = self.dir.join("people.xlsx");
        let sheet = yika_hub::import::demo_people(7, &["东校区", "西校区"], PEOPLE_PER_CAMPUS).unwrap();
        std::fs::write(&file, sheet).unwrap();
        self.command(&["import", "people", &file.to_string_lossy()]).await;
        let people: Vec<PersonLine> = self.ask("GET", "/v1/people?limit=100&offset=0", Vec::new()).await;
        for person in &people {
            let wish = TopUpWish { person: person.person, fen: PAID_FEN, request: format!("in-{}", person.person.0) };
            let _: ToppedUp = self.ask("POST", "/v1/top-up", serde_json::to_vec(&wish).unwrap()).await;
        }
        people
    }

    fn database(&self) -> PathBuf {
        self.dir.join("hub").join("hub.db")
    }
}

impl Campus {
    async fn join(hub: &Hub, host: &Namespace, campus: &str, name: &str) -> Campus {
        let line = hub.command(&["edge", "token", "create", "--campus", campus]).await;
        let made: yika_hub::desk::TokenMade = serde_json::from_str(&line).unwrap();
        let line = made.line.parse::<yika_link::JoinString>().unwrap();
        let line = yika_link::JoinString::new(&format!("{}:{LINK}", hub.host.address()), line.pin, line.token).unwrap();
        let dir = hub.dir.join(name);
        let program = |words: &[&str]| at(host, "yika-edge", name, &hub.dir).arg("--data").arg(&dir).args(words);
        program(&["init", "--join", &line.to_text(), "--name", name]).run(BOUND).await.unwrap();
        let (link, http) = (format!("0.0.0.0:{LINK}"), format!("0.0.0.0:{HTTP}"));
        let mut process = program(&["serve", "--no-mdns", "--link", &link, "--http", &http]).start().await.unwrap();
        process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
        let words = ["terminal", "add", "--campus", campus, "--kind", "till", "--name", "1 号窗", "--outlet", "1"];
        let made = hub.command(&[&words[..], &["--merchant", "1"]].concat()).await;
        let made: TerminalMade = serde_json::from_str(&made).unwrap();
        let door = host.expose(HTTP).await.unwrap();
        let url = format!("http://127.0.0.1:{}", door.port());
        let plan = TerminalPlan {
            terminal: made.terminal.0,
            key: made.key,
            key_version: made.version,
            edges: vec![url.clone()],
        };
        let till = Client::new(plan.identity(&url, 1).unwrap());
        Campus { dir, process, till, terminal: plan.terminal, sold: 0, _door: door }
    }

    async fn buy(&mut self, card: u64) -> SaleAnswer {
        self.sold += 1;
        let purchase = Purchase {
            id: SaleId { terminal: self.terminal, boot: 1, seq: self.sold },
            card: PresentedCard::Number { number: card },
            mode: SaleMode::Amount { fen: MEAL_FEN },
            time_ms: self.till.now_ms(),
            tariff: None,
        };
        self.till.purchase(&purchase).await.unwrap()
    }

    /// Buys until it is refused; what was paid, without what the guest rule gave.
    async fn spend_all(&mut self, card: u64) -> i64 {
        let mut paid = 0;
        loop {
            let answer = self.buy(card).await;
            match answer.decision {
                Decision::Approved => paid += answer.fen,
                _ => {
                    assert_eq!(answer.reason.as_deref(), Some("not_enough"), "{answer:?}");
                    return paid;
                }
            }
        }
    }

    fn database(&self) -> PathBuf {
        self.dir.join("edge.db")
    }

    fn node(&self) -> u32 {
        yika_edge::identity::Identity::load(&self.dir).unwrap().unwrap().me.node.0
    }

    fn journal(&self) -> Journal {
        Journal::read(&self.database(), self.node()).unwrap()
    }
}

/// Rows POS-1, POS-3.
#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_cable_costs_nobody_money_and_gives_nobody_more_than_he_has() {
    if !Namespaces::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut town = Namespaces::new().unwrap();
    ["headquarters", "east", "west"].into_iter().for_each(|switch| town.switch(switch).unwrap());
    let uplink = town.trunk("headquarters", "east").unwrap();
    town.trunk("headquarters", "west").unwrap();
    let headquarters = town.host("hub", "headquarters").unwrap();
    let [one, two] = [("one", "east"), ("two", "west")].map(|(name, switch)| town.host(name, switch).unwrap());
    let hub = Hub::start(headquarters, dir.path()).await;
    // Nobody is a guest here: what is sold is paid by its eater.
    hub.command(&["pools", "set", "--guest-fen", "0", "--float-fen", "0"]).await;
    let mut east = Campus::join(&hub, &one, "c1", "one").await;
    let mut west = Campus::join(&hub, &two, "c2", "two").await;
    let people = hub.people().await;
    let cards: Vec<u64> = people.iter().filter_map(|person| person.card).collect();
    assert_eq!(cards.len(), 2 * PEOPLE_PER_CAMPUS);
    for campus in [&mut east, &mut west] {
        until("people, keys and money at the box", BOUND, async || {
            let known = campus.till.time().await.is_ok();
            Ok(known && campus.buy(cards[0]).await.decision == Decision::Approved)
        })
        .await
        .unwrap();
    }

    uplink.down().unwrap();
    // A top-up in between is at headquarters and helps the west only.
    let wish = TopUpWish { person: people[0].person, fen: 3 * MEAL_FEN, request: "during the cut".into() };
    let _: ToppedUp = hub.ask("POST", "/v1/top-up", serde_json::to_vec(&wish).unwrap()).await;
    let (mut in_the_east, mut in_the_west) = (0, 0);
    for card in &cards {
        in_the_east += east.spend_all(*card).await;
        in_the_west += west.spend_all(*card).await;
    }
    assert!(in_the_east > 0 && in_the_west > 0, "{in_the_east} in the east, {in_the_west} in the west");
    let before = Books::read(&hub.database()).unwrap();
    assert!(!before.holds(&[east.journal()]), "the cable was not out: headquarters holds what was sold behind it");

    uplink.up().unwrap();
    until("the books hold everything", BOUND, async || {
        Ok(Books::read(&hub.database())?.holds(&[east.journal(), west.journal()]))
    })
    .await
    .unwrap();
    let compared = compare(&[east.journal(), west.journal()], &Books::read(&hub.database()).unwrap());
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    let conn = rusqlite::Connection::open(hub.database()).unwrap();
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT count(*) FROM accounts WHERE person > 0 AND credits < debits"), 0, "somebody owes");
    // With everybody in reach again what is left can be spent to the last meal, and nothing more.
    for card in &cards {
        east.spend_all(*card).await;
        west.spend_all(*card).await;
    }
    until("the books hold everything", BOUND, async || {
        Ok(Books::read(&hub.database())?.holds(&[east.journal(), west.journal()]))
    })
    .await
    .unwrap();
    let most =
        "SELECT max(spent) FROM (SELECT sum(amount) AS spent FROM transfers WHERE kind = 'purchase' GROUP BY person)";
    assert!(number(most) <= PAID_FEN + 3 * MEAL_FEN, "{}", number(most));
    let all = PAID_FEN * people.len() as i64 + 3 * MEAL_FEN;
    let left = number("SELECT sum(credits - debits) FROM accounts WHERE person > 0");
    let sold = compare(&[east.journal(), west.journal()], &Books::read(&hub.database()).unwrap()).hub_sum_fen;
    assert_eq!(left + sold, all, "money was made or lost");
    assert!(left < MEAL_FEN * 2 * people.len() as i64, "{left} fen could not be spent");
    for campus in [&mut east, &mut west] {
        assert!(campus.process.terminate(BOUND).await.unwrap().success());
    }
}
