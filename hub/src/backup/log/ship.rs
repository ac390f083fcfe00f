//! Carries records from the outbox to the log's folder, on a thread of its own: a folder on a dead mount blocks this
//! thread and nothing else.
//!
//! Leaves to others: what a restore makes of the files (`replay`), making the backups that they belong to (`desk`).

use super::segment::{self, Begun, SegmentWriter};
use super::{LogState, replay};
use crate::backup::{Backups, stamp};
use crate::clock::wall_ms;
use crate::core::Command;
use crate::machine::Order;
use crate::node::HubNode;
use crate::store::outbox::{self, Archived, Waiting};
use crate::store::{self, TableRow};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use yika_store::SqliteReader;

/// The outbox is looked at so often.
const LOOK_EVERY_MS: u64 = 100;
/// Pause after the folder refused.
const RETRY_EVERY_MS: u64 = 2_000;
/// Bytes written and synced at once.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The same trouble is alarmed again after so long.
const ALARM_EVERY_MS: u64 = 15 * 60_000;

/// The thread that carries records.
pub struct Shipping {
    stop: Arc<AtomicBool>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Shipping {
    /// Starts it for the log of this hub in `dir`.
    ///
    /// # Errors
    /// The database cannot be read, or the system gives no thread.
    pub fn start(node: Arc<HubNode>, backups: Arc<Backups>, dir: PathBuf) -> Result<Shipping> {
        let reader = SqliteReader::open(backups.database(), &store::options())?;
        let archived = outbox::position(reader.connection())?.archived;
        let mut shipper = Shipper { node, backups, dir, reader, archived, open: None, alarmed_at: None };
        shipper.look_for_newest_segment();
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ended) = tokio::sync::oneshot::channel();
        let stopping = Arc::clone(&stop);
        let run = move || {
            shipper.run(&stopping);
            // Nobody waits any more if the hub stopped without it.
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("yika-log".to_owned()).spawn(run).context("the log gets no thread")?;
        Ok(Shipping { stop, ended })
    }

    /// Lets it carry what waits and ends it; gives up after `bound`, when the next start goes on.
    pub async fn stop(self, bound: Duration) {
        self.stop.store(true, Ordering::Release);
        if tokio::time::timeout(bound, self.ended).await.is_err() {
            tracing::warn!("the log's folder did not take the last records; they wait for the next start");
        }
    }
}

/// A file that is being written.
struct Open {
    writer: SegmentWriter,
    path: PathBuf,
    /// The newest backup when it was begun.
    base: Option<u64>,
    holds_records: bool,
}

struct Shipper {
    node: Arc<HubNode>,
    backups: Arc<Backups>,
    dir: PathBuf,
    reader: SqliteReader,
    archived: Archived,
    open: Option<Open>,
    alarmed_at: Option<Instant>,
}

/// What the database says at one moment.
struct Seen {
    waiting: Vec<Waiting>,
    /// The last turn in the newest backup.
    base: Option<u64>,
}

impl Shipper {
    fn run(&mut self, stop: &AtomicBool) {
        loop {
            let last = stop.load(Ordering::Acquire);
            let pause_ms = match self.pass() {
                Ok(()) => LOOK_EVERY_MS,
                Err(error) => {
                    self.trouble(&error);
                    RETRY_EVERY_MS
                }
            };
            let until = Instant::now() + Duration::from_millis(pause_ms);
            while Instant::now() < until && !stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS / 2));
            }
            if last {
                return;
            }
        }
    }

    /// The folder must hold the file that was written last: another folder, or one whose disk is not mounted, holds
    /// nothing of the log.
    fn look_for_newest_segment(&mut self) {
        let segment = &self.archived.segment;
        if !segment.is_empty() && !self.dir.join(segment).exists() {
            tracing::error!(dir = %self.dir.display(), segment, "the log's folder does not hold its newest file");
            self.begin_again(self.archived.turn + 1);
        }
    }

    /// The folder holds nothing that a backup could be continued with before `turn`.
    fn begin_again(&mut self, turn: u64) {
        self.open = None;
        self.archived.whole_from = turn;
        self.archived.segment.clear();
    }

    /// Carries everything that waits.
    fn pass(&mut self) -> Result<()> {
        loop {
            let seen = self.look()?;
            // Looked at after the rows: a backup that begins from here on holds all of them.
            let under_way = self.backups.under_way.is();
            let (Some(first), Some(last)) = (seen.waiting.first(), seen.waiting.last()) else {
                self.tell(self.is_based(&seen), None, None);
                return Ok(());
            };
            let (first, last) = (first.turn, last.turn);
            if first != self.archived.turn + 1 {
                tracing::error!(from = self.archived.turn + 1, to = first - 1, "turns are missing in the log");
                self.begin_again(first);
            }
            if self.is_based(&seen) {
                self.tell(true, Some(wall_ms()), None);
                self.write(&seen)?;
                self.alarmed_at = None;
            } else if under_way {
                self.tell(false, None, None);
                return Ok(());
            } else {
                // Without a backup to continue it would be of no use.
                self.begin_again(last + 1);
            }
            self.archived.turn = last;
            self.node.ears().archived.send_replace(self.archived.clone());
        }
    }

    fn look(&self) -> Result<Seen> {
        let after = self.archived.turn;
        Ok(self.reader.snapshot(|reader| {
            let conn = reader.connection();
            let waiting = outbox::waiting(conn, after, BATCH_BYTES_MAX)?;
            Ok(Seen { waiting, base: outbox::newest_base(conn)? })
        })?)
    }

    fn is_based(&self, seen: &Seen) -> bool {
        seen.base.is_some_and(|base| base + 1 >= self.archived.whole_from)
    }

    fn write(&mut self, seen: &Seen) -> Result<()> {
        if let Some(open) = self.open.as_ref().filter(|open| !open.writer.is_there()) {
            let path = open.path.display().to_string();
            self.begin_again(self.archived.turn + 1);
            bail!("{path} is gone: is its disk mounted? The log goes on from the next backup");
        }
        // Each backup begins a file, so that files can go with backups.
        if self.open.as_ref().is_none_or(|open| open.base != seen.base) {
            self.open = None;
            self.begin(seen)?;
            if let Err(error) = self.forget_old() {
                tracing::warn!(%error, "old files of the log could not be removed");
            }
        }
        let Some(open) = &mut self.open else { bail!("no file of the log is open") };
        match open.writer.append(seen.waiting.iter().map(|waiting| waiting.record.as_slice())) {
            Ok(()) => {
                open.holds_records = true;
                Ok(())
            }
            Err(error) => {
                // What it ends with is not whole: the next file begins with the same turn.
                if let Some(open) = self.open.take().filter(|open| !open.holds_records) {
                    let _ = std::fs::remove_file(&open.path);
                }
                Err(error)
            }
        }
    }

    fn begin(&mut self, seen: &Seen) -> Result<()> {
        let Some(first) = seen.waiting.first() else { return Ok(()) };
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let (life, created_ms, number) = (self.node.writer(), wall_ms(), self.archived.number + 1);
        let generation = life.incarnation.generation;
        let name = format!("yika-hub-{}-g{generation}-{number:06}.{}", stamp(created_ms)?, segment::ENDING);
        let path = self.dir.join(&name);
        let begun =
            Begun { name: &self.node.name, life, number, first: first.turn, previous: first.previous, created_ms };
        let writer = SegmentWriter::create(path.clone(), &self.node.vault, &begun)?;
        self.archived.segment = name;
        self.archived.number = number;
        self.open = Some(Open { writer, path, base: seen.base, holds_records: false });
        Ok(())
    }

    /// Removes files that no kept backup is continued with.
    fn forget_old(&self) -> Result<()> {
        let folder = self.backups.dir.join("").display().to_string();
        let kept = outbox::oldest_kept(self.reader.connection(), &folder, self.backups.keep)?;
        let Some(kept) = kept else { return Ok(()) };
        let ours = replay::files(&self.dir, &self.node.vault)?.ours;
        for pair in ours.windows(2) {
            let [(path, _), (_, next)] = pair else { continue };
            if next.first <= kept + 1 {
                std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn trouble(&mut self, error: &anyhow::Error) {
        let words = format!("{error:#}");
        tracing::error!(error = words, "the log waits for its folder");
        let since = self.node.ears().log.borrow().as_ref().and_then(|log| log.waiting_since_ms);
        let based = self.look().is_ok_and(|seen| self.is_based(&seen));
        self.tell(based, since.or_else(|| Some(wall_ms())), Some(words.clone()));
        if self.alarmed_at.is_none_or(|at| at.elapsed() >= Duration::from_millis(ALARM_EVERY_MS)) {
            self.alarmed_at = Some(Instant::now());
            self.alarm(words);
        }
    }

    fn alarm(&self, detail: String) {
        let alarm = TableRow::alarm(self.node.writer(), "log", detail);
        let order = Order { command: Command::Nothing, rows: vec![alarm] };
        if let Err(error) = self.node.call_blocking(order) {
            tracing::error!(%error, "the log's alarm could not be written");
        }
    }

    /// Since when turns wait is kept until they wait no more.
    fn tell(&self, based: bool, waiting_since_ms: Option<i64>, trouble: Option<String>) {
        let dir = self.dir.clone();
        self.node.ears().log.send_if_modified(|was| {
            let since = was.as_ref().and_then(|was| was.waiting_since_ms);
            let waiting_since_ms = waiting_since_ms.map(|now| since.unwrap_or(now));
            let state = Some(LogState { dir, based, waiting_since_ms, trouble });
            let changed = *was != state;
            *was = state;
            changed
        });
    }
}
