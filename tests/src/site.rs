//! A hub and its campuses as real processes with real databases on loopback: what the demo and end-to-end tests run on.
//!
//! The line between headquarters and each box goes through a relay of ours, which cuts, delays and loses. Boxes of one
//! campus reach each other directly. Leaves to others: what is sold (`demo`), who compares the books (`books`).

use crate::process::{Launch, Port, Process};
use crate::relay::Relay;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_hub::desk::TokenMade;

/// How long a program may take to be ready.
pub const READY: Duration = Duration::from_secs(30);
/// How long one command may take.
pub const COMMAND: Duration = Duration::from_secs(60);
const READY_WORDS: &str = "\"ready\":true";

/// Headquarters.
pub struct HubProgram {
    pub dir: PathBuf,
    pub process: Process,
    /// First administrator's password, as `init` printed it.
    pub admin_password: String,
    link: Port,
    http: Port,
}

/// How a box is reached by boxes of other campuses.
pub enum Reach {
    /// Directly, at its own port.
    Direct,
    /// Through a relay that can be cut.
    Relayed,
}

/// A box.
pub struct BoxProgram {
    pub name: String,
    pub campus: String,
    pub dir: PathBuf,
    pub process: Process,
    /// Between this box and headquarters.
    pub uplink: Relay,
    /// Between other campuses and this box.
    pub inbound: Option<Relay>,
    link: Port,
    http: Port,
}

impl HubProgram {
    /// Makes a hub in `dir` and starts it.
    ///
    /// # Errors
    /// It does not start; with its last words.
    pub async fn start(dir: &Path, name: &str) -> Result<HubProgram> {
        let (link, http) = (Port::reserve()?, Port::reserve()?);
        std::fs::create_dir_all(dir)?;
        let data = dir.join("hub");
        let made = hub_launch(dir, &data)?.name("hub-init").args(&["init", "--name", name]).run(COMMAND).await?;
        let admin_password = made
            .split_once(" / ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .context("init did not print the first password")?
            .to_owned();
        let mut process = hub_serve(dir, &data, &link, &http)?.start().await?;
        process.wait_for_output(READY_WORDS, READY).await?;
        Ok(HubProgram { dir: data, process, admin_password, link, http })
    }

    /// Headquarters on a new machine, from a backup and the master key that was kept elsewhere; not started.
    ///
    /// # Errors
    /// The command's own words.
    pub async fn restore(&self, backup: &Path, data: &Path) -> Result<String> {
        let key = self.dir.join("master.key");
        let restore = hub_launch(self.workspace(), data)?.name("hub-restore").args(&["backup", "restore"]);
        restore.arg(backup).arg("--master-key").arg(key).run(COMMAND).await
    }

    /// Starts what was put into another data folder in place of what ran before, which must have ended.
    ///
    /// # Errors
    /// It does not start; with its last words.
    pub async fn start_in(&mut self, data: &Path) -> Result<()> {
        self.process = hub_serve(self.workspace(), data, &self.link, &self.http)?.start().await?;
        self.dir = data.to_owned();
        self.process.wait_for_output(READY_WORDS, READY).await?;
        Ok(())
    }

    /// Starts it again after it ended or was killed.
    ///
    /// # Errors
    /// It does not start; with its last words.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.restart().await?;
        self.process.wait_for_output(READY_WORDS, READY).await?;
        Ok(())
    }

    /// One command of `yika-hub`, which asks the running hub; gives the JSON object that it printed.
    ///
    /// # Errors
    /// The command's own words.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        hub_launch(self.workspace(), &self.dir)?.name("hub-command").arg("--json").args(words).run(COMMAND).await
    }

    /// The line that joins a box, of a token made with these further words.
    ///
    /// # Errors
    /// The command's own words.
    pub async fn token(&self, campus: &str, more: &[&str]) -> Result<String> {
        let made = self.command(&[&["edge", "token", "create", "--campus", campus], more].concat()).await?;
        let made: TokenMade = serde_json::from_str(&made).with_context(|| format!("not a token: {made}"))?;
        Ok(made.line)
    }

    /// A command with text on its standard input; gives what it printed.
    ///
    /// # Errors
    /// The command's own words.
    pub async fn command_with(&self, words: &[&str], input: &str) -> Result<String> {
        hub_launch(self.workspace(), &self.dir)?.name("hub-command").args(words).input(input).run(COMMAND).await
    }

    /// Asks the control socket, as the command line does.
    ///
    /// # Errors
    /// The hub's words.
    pub async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Vec<u8>) -> Result<T> {
        yika_hub::control::ask(&yika_hub::config::Config::socket(&self.dir), method, path, body).await
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join("hub.db")
    }

    /// Its console.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// Where boxes reach it directly.
    #[must_use]
    pub fn link_address(&self) -> std::net::SocketAddr {
        self.link.address()
    }

    fn workspace(&self) -> &Path {
        self.dir.parent().unwrap_or(Path::new("."))
    }
}

impl BoxProgram {
    /// Enrols a box with a fresh token and starts it; its line to headquarters goes through a relay.
    ///
    /// # Errors
    /// Enrolment is refused or the box does not start; with its last words.
    pub async fn join(hub: &HubProgram, campus: &str, name: &str, reach: Reach, config: &str) -> Result<BoxProgram> {
        BoxProgram::join_in_place_of(None, hub, campus, name, reach, config).await
    }

    /// The same for a box that replaces the one with this number.
    ///
    /// # Errors
    /// As [`BoxProgram::join`].
    pub async fn join_in_place_of(
        dead: Option<u32>,
        hub: &HubProgram,
        campus: &str,
        name: &str,
        reach: Reach,
        config: &str,
    ) -> Result<BoxProgram> {
        let uplink = Relay::start(0, hub.link.address(), 1).await?;
        let (link, http) = (Port::reserve()?, Port::reserve()?);
        let inbound = match reach {
            Reach::Direct => None,
            Reach::Relayed => Some(Relay::start(0, link.address(), 2).await?),
        };
        let dir = hub.workspace().join(name);
        std::fs::create_dir_all(&dir)?;
        let replaces = dead.map(|node| format!("--replaces=n{node}"));
        let line = hub.token(campus, &replaces.as_deref().into_iter().collect::<Vec<_>>()).await?;
        // The box knows headquarters by the relay's address.
        let line = line.parse::<yika_link::JoinString>()?;
        let line = yika_link::JoinString::new(&uplink.address().to_string(), line.pin, line.token)?;
        let init = edge_launch(&dir)?.name("init").args(&["init", "--join", &line.to_text(), "--name", name]);
        init.run(COMMAND).await?;
        let file = dir.join("edge.toml");
        std::fs::write(&file, config)?;
        let advertise = inbound.as_ref().map_or(link.address(), Relay::address);
        let serve = edge_launch(&dir)?.name("edge").arg("--config").arg(&file).args(&[
            "serve",
            "--link",
            &link.address().to_string(),
            "--advertise",
            &advertise.to_string(),
            "--http",
            &http.address().to_string(),
            "--metrics",
            "127.0.0.1:0",
            "--no-mdns",
        ]);
        let mut process = serve.start().await?;
        process.wait_for_output(READY_WORDS, READY).await?;
        Ok(BoxProgram { name: name.to_owned(), campus: campus.to_owned(), dir, process, uplink, inbound, link, http })
    }

    /// Pulls the line to everything outside the campus.
    pub fn cut_wan(&self) {
        self.uplink.cut();
        if let Some(inbound) = &self.inbound {
            inbound.cut();
        }
    }

    /// Mends it.
    pub fn heal_wan(&self) {
        self.uplink.heal();
        if let Some(inbound) = &self.inbound {
            inbound.heal();
        }
    }

    /// Starts it again after it ended or was killed.
    ///
    /// # Errors
    /// It does not start; with its last words.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.restart().await?;
        self.process.wait_for_output(READY_WORDS, READY).await?;
        Ok(())
    }

    /// One command of `yika-edge` on this box.
    ///
    /// # Errors
    /// The command's own words.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        edge_launch(&self.dir)?.name("command").args(words).run(COMMAND).await
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join("data").join("edge.db")
    }

    /// Its pages and terminal interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// Where other boxes reach it directly.
    #[must_use]
    pub fn link_address(&self) -> std::net::SocketAddr {
        self.link.address()
    }

    /// Its number in the mesh, from the file that enrolment wrote.
    ///
    /// # Errors
    /// The file is not there or not as expected.
    pub fn node(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.dir.join("data").join("node.toml"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("node = "));
        match line.and_then(|n| n.trim().parse().ok()) {
            Some(node) => Ok(node),
            None => bail!("{}: node.toml names no node", self.name),
        }
    }
}

fn hub_launch(work: &Path, data: &Path) -> Result<Launch> {
    Ok(Launch::binary("yika-hub")?.dir(work).arg("--data").arg(data))
}

fn hub_serve(work: &Path, data: &Path, link: &Port, http: &Port) -> Result<Launch> {
    let (link, http) = (link.address().to_string(), http.address().to_string());
    Ok(hub_launch(work, data)?.name("hub").args(&["serve", "--link", &link, "--http", &http]))
}

fn edge_launch(dir: &Path) -> Result<Launch> {
    Ok(Launch::binary("yika-edge")?.dir(dir).arg("--data").arg(dir.join("data")))
}

/// Asks again and again until the answer is yes.
///
/// # Errors
/// Of the question, or the time is over: the words say what was waited for.
pub async fn until(what: &str, bound: Duration, mut asked: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
    let start = std::time::Instant::now();
    loop {
        if asked().await? {
            return Ok(start.elapsed());
        }
        if start.elapsed() > bound {
            bail!("waited {} s in vain: {what}", bound.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
