//! What the machine and others can do in the same run: the disk, PostgreSQL, a bare QUIC connection.
//!
//! Leaves to others: our own figures.

use crate::size::Size;
use crate::table::{Row, Times, nanos};
use anyhow::{Context, Result, bail};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DISK_SECONDS: Size<u64> = Size(2, 1);
const ECHOES: Size<usize> = Size(5_000, 100);
/// About one purchase on the wire.
const ECHO_BYTES: usize = 128;
const SQLITE_SECONDS: Size<u64> = Size(4, 1);
const SQLITE_PEOPLE: i64 = 20_000;
const PGBENCH_SCALE: Size<u32> = Size(50, 1);
const PGBENCH_SECONDS: Size<u32> = Size(12, 1);
/// With so many clients.
pub const PGBENCH_CLIENTS: [u32; 3] = [1, 8, 32];

/// One 4 KiB overwrite + `fdatasync`, again and again.
#[derive(Clone, Copy)]
pub struct Disk {
    pub p50_us: f64,
    pub p99_us: f64,
    pub per_second: f64,
}

impl Disk {
    pub async fn measure() -> Result<Disk> {
        tokio::task::spawn_blocking(overwrite_and_sync).await?
    }
}

fn overwrite_and_sync() -> Result<Disk> {
    let file = tempfile::tempfile()?;
    let (begun, bound) = (Instant::now(), Duration::from_secs(DISK_SECONDS.get()));
    let mut times = Vec::new();
    while begun.elapsed() < bound {
        let started = Instant::now();
        file.write_all_at(&[times.len() as u8; 4_096], 0)?;
        file.sync_data()?;
        times.push(nanos(started));
    }
    let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
    let times = Times::new(times);
    Ok(Disk { p50_us: times.p50(), p99_us: times.p99(), per_second })
}

pub async fn rows() -> Result<Vec<Row>> {
    let disk = Disk::measure().await?;
    let row = Row::new("limit: 4 KiB overwrite + fdatasync");
    let mut rows = vec![row.us(disk.p50_us, disk.p99_us).value(disk.per_second, "/s")];
    let (times, rate) = echo().await?;
    rows.push(Row::new("peer: quinn echo of 128 bytes").times(&times).value(rate, "/s"));
    let times = tokio::task::spawn_blocking(sqlite_alone).await??;
    let row = Row::new("peer: SQLite alone, one purchase a transaction").times(&times);
    rows.push(
        row.value(times.len() as f64 / SQLITE_SECONDS.get() as f64, "/s").note("WAL, synchronous=FULL, one writer"),
    );
    Ok(rows)
}

/// The least a purchase needs: an entry, its id, the wallet's new sum, durable.
fn sqlite_alone() -> Result<Times> {
    let dir = tempfile::tempdir()?;
    let mut conn = rusqlite::Connection::open(dir.path().join("alone.db"))?;
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL);
         CREATE TABLE ids (till INTEGER, serial INTEGER, seq INTEGER NOT NULL, PRIMARY KEY (till, serial)) WITHOUT ROWID;
         CREATE TABLE wallets (person INTEGER PRIMARY KEY, fen INTEGER NOT NULL);",
    )?;
    let (begun, bound) = (Instant::now(), Duration::from_secs(SQLITE_SECONDS.get()));
    let mut times = Vec::new();
    while begun.elapsed() < bound {
        let seq = times.len() as i64;
        let started = Instant::now();
        let tx = conn.transaction()?;
        tx.prepare_cached("INSERT INTO entries VALUES (?1, ?2)")?.execute((seq, [seq as u8; ECHO_BYTES]))?;
        tx.prepare_cached("INSERT INTO ids VALUES (?1, ?2, ?3)")?.execute((seq % 64, seq / 64, seq))?;
        tx.prepare_cached("INSERT INTO wallets VALUES (?1, ?2) ON CONFLICT DO UPDATE SET fen = fen - excluded.fen")?
            .execute((seq.wrapping_mul(7_919) % SQLITE_PEOPLE, 1_200))?;
        tx.commit()?;
        times.push(nanos(started));
    }
    Ok(Times::new(times))
}

/// A question and its answer on one stream of a bare connection.
async fn echo() -> Result<(Times, f64)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    let server = Endpoint::server(config, "127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut answer, mut question) = connection.accept_bi().await.unwrap();
        let mut bytes = [0; ECHO_BYTES];
        while question.read_exact(&mut bytes).await.is_ok() && answer.write_all(&bytes).await.is_ok() {}
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = Endpoint::client("127.0.0.1:0".parse()?)?;
    client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = client.connect(address, "localhost")?.await?;
    let (mut question, mut answer) = connection.open_bi().await?;
    let mut times = Vec::with_capacity(ECHOES.get());
    let begun = Instant::now();
    let mut bytes = [0; ECHO_BYTES];
    for _ in 0..ECHOES.get() {
        let started = Instant::now();
        question.write_all(&bytes).await?;
        answer.read_exact(&mut bytes).await?;
        times.push(nanos(started));
    }
    Ok((Times::new(times), ECHOES.get() as f64 / begun.elapsed().as_secs_f64()))
}

/// What `pgbench -N -M prepared -j 2` says.
pub struct Pgbench {
    /// Simulated clients.
    pub clients: u32,
    /// Transactions per second.
    pub tps: f64,
    /// Mean latency.
    pub latency_ms: f64,
}

/// With each number of clients; `None` where there is no PostgreSQL.
pub fn pgbench() -> Result<Option<Vec<Pgbench>>> {
    let Some(bin) = newest_postgres() else { return Ok(None) };
    let cluster = Cluster::start(bin)?;
    let scale = PGBENCH_SCALE.get().to_string();
    cluster.run("pgbench", &["-q", "-i", "-s", &scale, "postgres"])?;
    PGBENCH_CLIENTS.into_iter().map(|clients| pgbench_with(&cluster, clients)).collect::<Result<_>>().map(Some)
}

fn pgbench_with(cluster: &Cluster, clients: u32) -> Result<Pgbench> {
    cluster.run("psql", &["-c", "CHECKPOINT", "postgres"])?;
    let (seconds, count) = (PGBENCH_SECONDS.get().to_string(), clients.to_string());
    let threads = clients.min(2).to_string();
    let options = ["-n", "-N", "-M", "prepared", "-c", &count, "-j", &threads, "-T", &seconds, "postgres"];
    let said = cluster.run("pgbench", &options)?;
    let figure = |mark: &str| -> Result<f64> {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(mark));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).with_context(|| format!("pgbench tells no {mark:?}: {said}"))
    };
    Ok(Pgbench { clients, tps: figure("tps = ")?, latency_ms: figure("latency average = ")? })
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|bin| bin.join("pgbench").exists()).max()
}

/// A PostgreSQL of our own, as shipped, in a temporary folder on a Unix socket there.
struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    as_postgres: bool,
}

impl Cluster {
    fn start(bin: PathBuf) -> Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("yika-pg-").tempdir()?;
        let as_postgres = rustix_is_root();
        if as_postgres {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
        }
        let cluster = Cluster { bin, dir, as_postgres };
        let data = cluster.data();
        cluster.run("initdb", &["-U", "postgres", "--no-sync", "-A", "trust", "-D", &data])?;
        let options = format!("-k {} -c listen_addresses= -c synchronous_commit=on", cluster.dir.path().display());
        cluster.run("pg_ctl", &["-w", "-D", &data, "-l", &format!("{data}.log"), "-o", &options, "start"])?;
        Ok(cluster)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let program = self.bin.join(program);
        // PostgreSQL refuses to run as root.
        let mut command = if self.as_postgres { Command::new("setpriv") } else { Command::new(&program) };
        if self.as_postgres {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(&program);
        }
        let dir: &Path = self.dir.path();
        command.args(words).current_dir(dir).env("PGHOST", dir).env("PGUSER", "postgres");
        // Its server keeps the output open: a file ends with the program, a pipe would not.
        let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        command.stdout(out.reopen()?).stderr(err.reopen()?);
        let status = command.status().with_context(|| program.display().to_string())?;
        if !status.success() {
            bail!("{}: {status}: {}", program.display(), std::fs::read_to_string(err.path())?);
        }
        Ok(std::fs::read_to_string(out.path())?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl", &["-m", "immediate", "-D", &self.data(), "stop"]);
    }
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}
