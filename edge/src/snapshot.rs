//! Snapshots at a box: fetched from headquarters chunk by chunk, or read from a stick, checked whole, taken in step by
//! step beside sales and doors.
//!
//! A half fetched one stays in the data folder and is gone on with, also after a restart. Leaves to others: what is in
//! one (`yika_crdt::snapshot`), its file (`yika_store::parts`), the turn (`yika_crdt::edge`).

mod unsaid;

use self::unsaid::{SAY_AGAIN_MS, Unsaid};
use crate::node::EdgeNode;
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use yika_crdt::channel::FeedId;
use yika_crdt::edge::{Command, Reply};
use yika_crdt::feed::{End, Hash};
use yika_crdt::ids::{Seq, Writer};
use yika_crdt::registry::RegistryView;
use yika_crdt::snapshot::{self, Audience, Check, Fetch, Judge, Manifest, Placed, SignedManifest, Step, Steps};
use yika_crdt::store::Read;
use yika_crdt::sync::{FEEDS_PER_MESSAGE_MAX, SnapshotWord};
use yika_store::parts::Part;

/// Name of a half fetched snapshot in the data folder.
const FILE: &str = "snapshot.part";
/// Words of peers that wait for the fetching task; beyond, a peer says more than anybody who was asked.
pub const WORDS_WAITING_MAX: usize = 64;
/// A fetch of which nothing was heard for so long asks again; a chunk takes a while on a slow line.
const SILENT_MS_MAX: u64 = 120_000;
/// So long after the connection to headquarters was lost siblings send what the snapshot would have brought: a day may
/// pass until it comes. A line that breaks for a moment is back before.
pub const GONE_MS_MAX: u64 = 10_000;
/// How often a fetch is looked at.
const LOOK_MS: u64 = 1_000;
/// Steps made ready ahead of the writer.
const STEPS_AHEAD_MAX: usize = 2;

/// What a peer said of snapshots.
pub type Heard = (Writer, SnapshotWord);

/// What became of one part of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Whom it is for.
    pub audience: String,
    /// When it was cut, hub time.
    pub cut_ms: i64,
    /// Turns it took; 0 when it told nothing new.
    pub steps: usize,
    /// How long, in milliseconds.
    pub took_ms: u64,
}

/// Fetches and takes in what headquarters offers, until the process ends.
pub async fn run(node: Arc<EdgeNode>, dir: PathBuf, mut words: mpsc::Receiver<Heard>) {
    let (file, offers, unsaid) = (dir.join(FILE), BTreeMap::new(), Unsaid::default());
    let mut task = Task { node, file, fetching: None, offers, taking: None, unsaid };
    let [mut look, mut again] = [LOOK_MS, SAY_AGAIN_MS].map(|ms| interval(Duration::from_millis(ms)));
    for timer in [&mut look, &mut again] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    task.go_on().await;
    loop {
        let taken = async {
            match &mut task.taking {
                Some((_, handle)) => handle.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = words.recv() => match heard {
                Some((from, word)) => task.hear(from, word).await,
                None => return,
            },
            _ = look.tick(), if task.fetching.is_some() => task.look(),
            _ = again.tick(), if task.unsaid.is_waiting() => task.unsaid.say_again(),
            taken = taken => {
                let taken = taken.unwrap_or_else(|ended| Err(anyhow!("{ended}")));
                task.taken(taken).await;
            }
        }
    }
}

/// A snapshot on its way.
struct Fetching {
    fetch: Fetch,
    part: Arc<Part>,
    /// Who sends it; nobody right after a start.
    from: Option<Writer>,
    /// When the last chunk came.
    came: Instant,
    /// When its sender was connected last.
    seen: Instant,
    /// Siblings hold back what it brings.
    told: bool,
}

impl Fetching {
    /// Goes on after `kept` chunks.
    fn new(part: Part, kept: u32, from: Option<Writer>) -> Fetching {
        let (fetch, now) = (Fetch::new(part.signed().clone(), kept), Instant::now());
        Fetching { fetch, part: Arc::new(part), from, came: now, seen: now, told: false }
    }
}

fn has_passed(since: Instant, ms: u64) -> bool {
    since.elapsed() >= Duration::from_millis(ms)
}

struct Task {
    node: Arc<EdgeNode>,
    file: PathBuf,
    fetching: Option<Fetching>,
    /// Offered and not begun.
    offers: BTreeMap<Audience, (Writer, SignedManifest)>,
    taking: Option<(SignedManifest, JoinHandle<Result<Taken>>)>,
    unsaid: Unsaid,
}

impl Task {
    /// What the last run of the program had fetched.
    async fn go_on(&mut self) {
        let file = self.file.clone();
        let found = tokio::task::spawn_blocking(move || {
            let part = Part::resume(&file).ok()?;
            let kept = part.kept();
            Some((part, kept))
        });
        let Ok(Some((part, kept))) = found.await else { return };
        tracing::info!(kept, of = part.signed().manifest.chunks.len(), "going on with a half fetched snapshot");
        self.fetching = Some(Fetching::new(part, kept, None));
        self.begin_taking();
    }

    async fn hear(&mut self, from: Writer, word: SnapshotWord) {
        match word {
            SnapshotWord::Offer(signed) => self.offered(from, *signed).await,
            SnapshotWord::Chunk { id, chunk, bytes } => self.came(from, id, chunk, &bytes),
            SnapshotWord::Gone { id } if self.is_fetching(id, from) => {
                tracing::info!("headquarters keeps the half fetched snapshot no more; beginning with a newer one");
                self.decline();
            }
            _ => {}
        }
    }

    /// Whether chunks of it still come from there.
    fn is_fetching(&self, id: Hash, from: Writer) -> bool {
        let comes = |fetching: &Fetching| fetching.fetch.id() == id && fetching.from == Some(from);
        self.taking.is_none() && self.fetching.as_ref().is_some_and(comes)
    }

    async fn offered(&mut self, from: Writer, signed: SignedManifest) {
        let id = signed.manifest.id();
        let judged = match judge(&self.node) {
            Ok(judge) => judge.admit(&signed).map_err(|refused| refused.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(refused) = judged {
            tracing::warn!(%from, refused, "an offered snapshot is not taken");
            self.say(from, SnapshotWord::Declined { id });
            return;
        }
        let_go(&self.node, &signed.manifest);
        if !is_worth_it(&self.node, &signed.manifest) {
            self.say(from, SnapshotWord::Declined { id });
            return;
        }
        let audience = signed.manifest.audience;
        self.offers.insert(audience, (from, signed));
        match &mut self.fetching {
            // The connection is a new one, or the run of this program: what is half fetched goes on.
            Some(fetching) if fetching.fetch.signed().manifest.audience == audience => {
                fetching.from = Some(from);
                fetching.seen = Instant::now();
                fetching.fetch.begin_again();
                self.tell_siblings();
                self.ask();
            }
            // What was begun with a headquarters of an earlier life, or by the last run of the program, may never come.
            Some(fetching) if fetching.from != Some(from) && self.taking.is_none() => self.decline(),
            Some(_) => {}
            None => self.begin(),
        }
    }

    /// Asks once more when nothing has come for long. Siblings do not wait for what may not come.
    fn look(&mut self) {
        let Some(fetching) = self.fetching.as_mut().filter(|_| self.taking.is_none()) else { return };
        if fetching.from.is_some_and(|from| self.node.line_to(from).is_some()) {
            fetching.seen = Instant::now();
        }
        let is_silent = has_passed(fetching.came, SILENT_MS_MAX);
        if fetching.told && (is_silent || has_passed(fetching.seen, GONE_MS_MAX)) {
            tracing::info!("a snapshot does not come on; siblings send what they have");
            fetching.told = false;
            let id = fetching.fetch.id();
            self.node.tell_who_connects(Vec::new());
            self.say_to_all(None, SnapshotWord::Declined { id });
        }
        if let Some(fetching) = self.fetching.as_mut().filter(|_| is_silent) {
            fetching.came = Instant::now();
            fetching.fetch.begin_again();
            self.ask();
        }
    }

    /// Begins with what is offered, if nothing is on its way.
    fn begin(&mut self) {
        if self.taking.is_some() || self.fetching.is_some() {
            return;
        }
        while let Some((_, (from, signed))) = self.offers.pop_first() {
            match Part::begin(&self.file, signed.clone()) {
                Ok(part) => {
                    self.fetching = Some(Fetching::new(part, 0, Some(from)));
                    self.tell_siblings();
                    return self.ask();
                }
                Err(error) => {
                    tracing::warn!(%error, "a snapshot cannot be kept; entries are fetched");
                    self.say(from, SnapshotWord::Declined { id: signed.manifest.id() });
                }
            }
        }
    }

    fn ask(&mut self) {
        let Some(Fetching { fetch, from: Some(from), .. }) = &mut self.fetching else { return };
        let (from, id) = (*from, fetch.id());
        let mut wanted = Vec::new();
        while let Some(chunk) = fetch.ask() {
            wanted.push(chunk);
        }
        for chunk in wanted {
            self.say(from, SnapshotWord::Want { id, chunk });
        }
        self.begin_taking();
    }

    fn came(&mut self, from: Writer, id: Hash, chunk: u32, bytes: &[u8]) {
        let Some(Fetching { fetch, part, from: Some(sender), came, .. }) = &mut self.fetching else { return };
        if fetch.id() != id || *sender != from {
            return;
        }
        *came = Instant::now();
        match fetch.judge(chunk, bytes) {
            Placed::Ignore => return,
            Placed::Keep => match tokio::task::block_in_place(|| part.keep(chunk, bytes)) {
                Ok(()) => fetch.keep(),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot cannot be kept; entries are fetched");
                    return self.decline();
                }
            },
            Placed::Wrong => {
                tracing::warn!(%from, chunk, "a chunk of a snapshot is not what was signed; entries are fetched");
                return self.decline();
            }
        }
        self.ask();
    }

    /// Gives it up: headquarters and siblings send entries. Begins with what is offered beside it.
    fn decline(&mut self) {
        let fetching = self.fetching.as_ref().map(|fetching| (fetching.from, fetching.fetch.id()));
        self.give_up();
        if let Some((from, id)) = fetching {
            self.say_to_all(from, SnapshotWord::Declined { id });
        }
        self.begin();
    }

    fn give_up(&mut self) {
        self.fetching = None;
        self.node.tell_who_connects(Vec::new());
        let _ = std::fs::remove_file(&self.file);
    }

    /// All chunks are here: takes the snapshot in, beside everything else.
    fn begin_taking(&mut self) {
        let whole = self.fetching.as_ref().is_some_and(|fetching| fetching.fetch.is_whole());
        if !whole || self.taking.is_some() {
            return;
        }
        let Some(Fetching { part, .. }) = &self.fetching else { return };
        let (node, part, signed) = (Arc::clone(&self.node), Arc::clone(part), part.signed().clone());
        let handle = tokio::spawn(async move {
            part.sync()?;
            let checked = off_thread({
                let (node, part) = (Arc::clone(&node), Arc::clone(&part));
                move || check(&part, judge(&node)?)
            });
            take_in(&node, part, checked.await?).await
        });
        self.taking = Some((signed, handle));
    }

    async fn taken(&mut self, taken: Result<Taken>) {
        let Some((signed, _)) = self.taking.take() else { return };
        let from = self.fetching.as_ref().and_then(|fetching| fetching.from);
        let id = signed.manifest.id();
        self.give_up();
        match taken {
            Ok(taken) => {
                tracing::info!(
                    audience = taken.audience,
                    steps = taken.steps,
                    took_ms = taken.took_ms,
                    "a snapshot was taken in"
                );
                self.say_to_all(from, SnapshotWord::Taken { id });
                // One that was offered since is hardly newer.
                if let Some((from, newer)) = self.offers.remove(&signed.manifest.audience)
                    && newer.manifest.id() != id
                {
                    self.say(from, SnapshotWord::Declined { id: newer.manifest.id() });
                }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a snapshot was not taken in; entries are fetched");
                self.say_to_all(from, SnapshotWord::Declined { id });
            }
        }
        self.begin();
    }

    fn say(&mut self, to: Writer, word: SnapshotWord) {
        // Who is not connected holds nothing back: a connection begins anew.
        let Some(line) = self.node.line_to(to) else { return };
        if !self.unsaid.say(to, line, word) {
            self.node.hang_up(to, "this peer does not listen");
        }
    }

    /// Other boxes need not send what comes by the snapshot: those that are connected, and those that connect meanwhile.
    fn tell_siblings(&mut self) {
        let Some(fetching) = &mut self.fetching else { return };
        fetching.told = true;
        let (id, part) = (fetching.fetch.id(), Arc::clone(&fetching.part));
        let coming: &[(FeedId, End)] = &part.signed().manifest.feeds;
        let coming = coming.chunks(FEEDS_PER_MESSAGE_MAX);
        let words: Vec<_> = coming.map(|feeds| SnapshotWord::Coming { id, feeds: feeds.to_vec() }).collect();
        self.node.tell_who_connects(words.clone());
        words.into_iter().for_each(|word| self.say_to_all(None, word));
    }

    /// Says it to the other boxes, and to who sends the snapshot.
    fn say_to_all(&mut self, from: Option<Writer>, word: SnapshotWord) {
        for peer in self.node.peers() {
            if from == Some(peer) || !peer.node.is_hub() {
                self.say(peer, word.clone());
            }
        }
    }
}

/// What this box knows of keys.
fn judge(node: &EdgeNode) -> Result<Judge> {
    let registry = node.look(|store| RegistryView::load(store))?;
    let judge = Judge::new(node.place(), registry.nodes.values());
    Ok(match node.hub_key() {
        Some(key) => judge.trusting(key),
        None => judge,
    })
}

/// Whether a snapshot brings any feed of others further.
fn is_useful(node: &EdgeNode, manifest: &Manifest) -> bool {
    let brings = |store: &dyn Read| {
        for (feed, base) in manifest.feeds.iter().filter(|(feed, _)| feed.writer != node.writer()) {
            if store.feed(feed)?.end.seq < base.seq {
                return Ok(true);
            }
        }
        Ok(false)
    };
    node.look(brings).unwrap_or(false)
}

/// Whether fetching it beats entries: this box lacks much of it, or what it lacks is kept nowhere as entries.
fn is_worth_it(node: &EdgeNode, manifest: &Manifest) -> bool {
    let lacks = |store: &dyn Read| {
        let (mut lacking, mut all) = (0u64, 0u64);
        for (feed, base) in manifest.feeds.iter().filter(|(feed, _)| feed.writer != node.writer()) {
            let held = store.feed(feed)?.end.seq;
            let dropped = manifest.drop.iter().find(|(dropped, _)| dropped == feed).map(|(_, upto)| *upto);
            if dropped.is_some_and(|upto| held < upto) {
                return Ok(true);
            }
            lacking = lacking.saturating_add(base.seq.0.saturating_sub(held.0));
            all = all.saturating_add(base.seq.0);
        }
        Ok(snapshot::is_worth_it(lacking, all))
    };
    node.look(lacks).unwrap_or(false)
}

/// Lets entries go that headquarters says every node may let go.
fn let_go(node: &Arc<EdgeNode>, manifest: &Manifest) {
    if manifest.drop.is_empty() {
        return;
    }
    let (node, drop): (_, Arc<[(FeedId, Seq)]>) = (Arc::clone(node), manifest.drop.as_slice().into());
    tokio::spawn(async move { while let Ok(Reply::More) = node.call(Command::Drop(Arc::clone(&drop))).await {} });
}

/// Reads a whole part, and says what is wrong with it before anything of it is taken in.
fn check(part: &Part, judge: Judge) -> Result<Steps> {
    let mut check = Check::new(part.signed().clone(), judge)?;
    for chunk in part.chunks() {
        check.chunk(&chunk?)?;
    }
    Ok(check.finish()?)
}

/// Takes a checked part in: steps are made ready beside the writer, which takes one a turn.
async fn take_in(node: &Arc<EdgeNode>, part: Arc<Part>, steps: Steps) -> Result<Taken> {
    let begun = Instant::now();
    let manifest = part.signed().manifest.clone();
    let (ready, mut waiting) = mpsc::channel::<Step>(STEPS_AHEAD_MAX);
    let making = off_thread(move || make_steps(&part, steps, &ready));
    let mut done = 0;
    let applying = async {
        while let Some(step) = waiting.recv().await {
            match node.call(Command::Restore(Box::new(step))).await? {
                Reply::Done => done += 1,
                Reply::Denied(words) => bail!("{words}"),
                other => bail!("the core answered a step with {other:?}"),
            }
        }
        Ok(())
    };
    let (made, applied) = tokio::join!(making, applying);
    applied?;
    made?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Taken { audience: manifest.audience.to_string(), cut_ms: manifest.cut_ms, steps: done, took_ms })
}

fn make_steps(part: &Part, mut steps: Steps, ready: &mpsc::Sender<Step>) -> Result<()> {
    let stopped = || anyhow!("the writer takes no more steps");
    for chunk in part.chunks() {
        for step in steps.chunk(&chunk?)? {
            ready.blocking_send(step).map_err(|_| stopped())?;
        }
    }
    ready.blocking_send(steps.closing()?).map_err(|_| stopped())
}

/// Takes in a file from a stick: every part of it is checked before the first is taken in.
///
/// # Errors
/// In words: damaged, foreign, for another campus, or older than what this box has.
pub async fn import(node: &Arc<EdgeNode>, path: &Path) -> Result<Vec<Taken>> {
    let path = path.to_path_buf();
    let at = Arc::clone(node);
    let checked = off_thread(move || check_file(&at, &path)).await?;
    if !checked.iter().any(|(part, _)| is_useful(node, &part.signed().manifest)) {
        let cut_ms = checked.iter().map(|(part, _)| part.signed().manifest.cut_ms).max().unwrap_or_default();
        return Err(yika_crdt::snapshot::SnapshotRefused::Older { cut_ms }.into());
    }
    let mut taken = Vec::new();
    for (part, steps) in checked {
        let manifest = part.signed().manifest.clone();
        if is_useful(node, &manifest) {
            taken.push(take_in(node, Arc::new(part), steps).await?);
        } else {
            let audience = manifest.audience.to_string();
            taken.push(Taken { audience, cut_ms: manifest.cut_ms, steps: 0, took_ms: 0 });
        }
        let_go(node, &manifest);
    }
    Ok(taken)
}

fn check_file(node: &EdgeNode, path: &Path) -> Result<Vec<(Part, Steps)>> {
    let mut judge = judge(node)?;
    let mut checked = Vec::new();
    for part in Part::open_all(path)? {
        let steps = check(&part, judge.clone()).with_context(|| format!("{}", path.display()))?;
        // What follows stands on the registry in what came before.
        judge = steps.judge().clone();
        checked.push((part, steps));
    }
    Ok(checked)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| anyhow!("{ended}"))?
}
