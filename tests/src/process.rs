//! Starts, watches, stops and restarts real programs for tests, the demo and benches. Output goes to files
//! in the program's directory; every failure shows their last lines. Nothing outlives its owner.
//! Speaking to the programs is left to `http`, faults between them to `relay` and `netns`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::http;

/// Lines of each output shown in a failure message.
const TAIL_LINES: usize = 30;
/// At most this much of an output's end is read to find those lines.
const TAIL_BYTES: u64 = 65_536;
const POLL_MS: u64 = 10;
/// One try of `wait_for_http`.
const HTTP_TRY_MS: u64 = 1_000;
/// How long a killed program may take to vanish.
const KILL_MS: u64 = 5_000;
/// Ports given out lie below the range from which the system takes its own.
const PORT_FIRST: u16 = 18_000;
const PORT_COUNT: u32 = 14_000;
/// Kept instead of removed when this variable is set, to look at what programs left.
const KEEP_DIRECTORY: &str = "YIKA_TEST_KEEP";

/// What to start and how; starting it does not use it up, so that a restart is the same again.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    prefix: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Input,
    dir: Arc<Directory>,
}

#[derive(Clone, Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Lines,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take()
            && std::env::var_os(KEEP_DIRECTORY).is_some()
        {
            let path = temporary.keep();
            complain(&format!("{KEEP_DIRECTORY} is set: kept {}", path.display()));
        }
    }
}

impl Launch {
    /// One of the workspace's binaries, such as `yika-edge`, in a temporary directory of its own.
    ///
    /// # Errors
    /// The binary is missing or older than its sources; the message names the cargo command.
    pub fn binary(name: &str) -> Result<Self> {
        Self::program(locate(name)?)
    }

    /// Any program, found through `PATH` when it has no slash, in a temporary directory of its own.
    ///
    /// # Errors
    /// No temporary directory can be made.
    pub fn program(program: impl Into<PathBuf>) -> Result<Self> {
        let program = program.into();
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let temporary = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir();
        let temporary = temporary.context("no temporary directory: check TMPDIR")?;
        let dir = Directory { path: temporary.path().to_owned(), temporary: Some(temporary) };
        let (prefix, args, env) = Default::default();
        Ok(Self { name, program, prefix, args, env, input: Input::Nothing, dir: Arc::new(dir) })
    }

    /// The name in messages and of the output files; needed when two programs share a directory.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Works in an existing directory, which stays.
    #[must_use]
    pub fn dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.dir = Arc::new(Directory { path: path.into(), temporary: None });
        self
    }

    /// Words before the program, as `netns::Namespace::exec` gives them.
    #[must_use]
    pub fn prefix(mut self, words: &[impl AsRef<OsStr>]) -> Self {
        self.prefix = words.iter().map(|w| w.as_ref().to_owned()).collect();
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args(mut self, args: &[impl AsRef<OsStr>]) -> Self {
        self.args.extend(args.iter().map(|a| a.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Standard input: these bytes, then its end.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Standard input stays open for [`Process::say`].
    #[must_use]
    pub fn talk(mut self) -> Self {
        self.input = Input::Lines;
        self
    }

    /// Where the program works and its output files lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Starts the program. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The program cannot be started or its output files cannot be opened.
    pub async fn start(&self) -> Result<Process> {
        if self.program.components().count() > 1 && !self.program.exists() {
            bail!("{}: there is no program {}", self.name, self.program.display());
        }
        let out = Output::open(self.dir.path.join(format!("{}.out", self.name)))?;
        let err = Output::open(self.dir.path.join(format!("{}.err", self.name)))?;
        let mut child = spawn(self.command(&out, &err)?)
            .with_context(|| format!("{}: cannot start {}", self.name, self.program.display()))?;
        let mut stdin = child.stdin.take();
        if let Input::Bytes(bytes) = &self.input
            && let Some(mut pipe) = stdin.take()
        {
            let bytes = bytes.clone();
            // A program that does not read its input shows that by what it does, not here.
            tokio::spawn(async move { pipe.write_all(&bytes).await });
        }
        Ok(Process { launch: self.clone(), child, stdin, out, err })
    }

    /// Runs the program to its end, which must come within `bound` and be a success; gives its output.
    ///
    /// # Errors
    /// It did not start, did not end, or failed; with the last lines of its output.
    pub async fn run(&self, bound: Duration) -> Result<String> {
        let mut process = self.start().await?;
        let status = process.wait(bound).await?;
        if !status.success() {
            bail!("{} ended with {status}{}", self.name, process.tail());
        }
        process.stdout()
    }

    /// Runs the program to its end, which must come within `bound`; a failure is a result like another.
    ///
    /// # Errors
    /// It did not start or did not end.
    pub async fn finish(&self, bound: Duration) -> Result<Finished> {
        let mut process = self.start().await?;
        let status = process.wait(bound).await?;
        Ok(Finished { status, stdout: process.stdout()?, stderr: process.stderr()? })
    }

    fn command(&self, out: &Output, err: &Output) -> Result<Command> {
        let mut words: Vec<&OsStr> = Vec::new();
        if *SETPRIV {
            // The kernel kills the program when this one dies without a chance to clean up.
            words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(OsStr::new));
        }
        words.extend(self.prefix.iter().map(OsString::as_os_str));
        words.push(self.program.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&self.args).current_dir(&self.dir.path).kill_on_drop(true);
        // A group of its own: Ctrl-C reaches the owner alone, and a kill takes what the program started.
        command.process_group(0);
        for (key, _) in std::env::vars_os() {
            // The caller's own settings must not reach the program under test.
            if key.to_string_lossy().starts_with("YIKA_") {
                command.env_remove(key);
            }
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdout(out.file.try_clone()?).stderr(err.file.try_clone()?);
        command.stdin(if matches!(self.input, Input::Nothing) { Stdio::null() } else { Stdio::piped() });
        Ok(command)
    }
}

/// How a program ended and all it said.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A started program; killed when dropped, with what it started if it still runs then.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Output,
    err: Output,
}

impl Process {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// The program's working directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.launch.path()
    }

    /// Nothing when the program has ended and this was noticed.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// # Errors
    /// The system does not answer for this process.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().with_context(|| format!("{}: no state", self.launch.name))?.is_none())
    }

    /// Waits for a line with `needle` on either output since this start, and gives that line.
    ///
    /// # Errors
    /// The program ended or `bound` passed before; with the last lines of its output.
    pub async fn wait_for_output(&mut self, needle: &str, bound: Duration) -> Result<String> {
        let end = Instant::now() + bound;
        let mut readers = [Lines::from(&self.out)?, Lines::from(&self.err)?];
        loop {
            // Asked before reading, so that the last words of a program are still seen.
            let running = self.is_running()?;
            for reader in &mut readers {
                if let Some(line) = reader.find(needle, !running)? {
                    return Ok(line);
                }
            }
            self.still(running, end, bound, &format!("{needle:?} in its output")).await?;
        }
    }

    /// Waits until a GET of `http://127.0.0.1:port` + `path` succeeds (status 2xx), and gives the answer.
    ///
    /// # Errors
    /// The program ended or `bound` passed before; with the last lines of its output.
    pub async fn wait_for_http(&mut self, port: u16, path: &str, bound: Duration) -> Result<http::Answer> {
        let end = Instant::now() + bound;
        let client = http::Client::new(format!("http://127.0.0.1:{port}")).timeout(Duration::from_millis(HTTP_TRY_MS));
        loop {
            let seen = match client.get(path).await.and_then(http::Answer::ok) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let running = self.is_running()?;
            self.still(running, end, bound, &format!("an answer ({seen:#})")).await?;
        }
    }

    async fn still(&self, running: bool, end: Instant, bound: Duration, what: &str) -> Result<()> {
        if !running {
            bail!("{} ended before there was {what}{}", self.launch.name, self.tail());
        }
        if Instant::now() >= end {
            bail!("{}: after {bound:?} there was not {what}{}", self.launch.name, self.tail());
        }
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        Ok(())
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    /// `bound` passed before; the program goes on.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(bound, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("{}: no exit status", self.launch.name)),
            Err(_) => Err(anyhow!("{} still runs after {bound:?}{}", self.launch.name, self.tail())),
        }
    }

    /// Writes a line to the standard input of a program started with [`Launch::talk`].
    ///
    /// # Errors
    /// There is no such input, or the program has closed it.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        let name = &self.launch.name;
        let pipe = self.stdin.as_mut().ok_or_else(|| anyhow!("{name}: no input; start it with Launch::talk"))?;
        pipe.write_all(format!("{line}\n").as_bytes()).await.with_context(|| format!("{name}: input is closed"))
    }

    /// Ends the standard input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// `kill -9`, also of what it started, and waits until it is gone. Harmless when it has ended.
    ///
    /// # Errors
    /// The system refuses, or the process does not vanish.
    pub async fn kill(&mut self) -> Result<()> {
        if self.is_running()? {
            self.kill_group();
            self.child.start_kill().with_context(|| format!("{}: cannot kill", self.launch.name))?;
            self.wait(Duration::from_millis(KILL_MS)).await?;
        }
        Ok(())
    }

    fn kill_group(&self) {
        if let Some(id) = self.child.id() {
            // Best effort: the program itself is killed and waited for in any case.
            let mut kill = std::process::Command::new("kill");
            let _ = kill.args(["-s", "KILL", "--", &format!("-{id}")]).stderr(Stdio::null()).status();
        }
    }

    /// Asks it to stop (SIGTERM) and waits; kills it when `bound` passes.
    ///
    /// # Errors
    /// It had ended before, or did not stop within `bound`.
    pub async fn terminate(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal("TERM").await?;
        match self.wait(bound).await {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill().await?;
                Err(error.context("SIGTERM did not stop it; killed"))
            }
        }
    }

    /// Sends a signal by its name, such as `STOP`, `CONT` or `HUP`.
    ///
    /// # Errors
    /// The program has ended, or `kill` (Debian package procps) is missing.
    pub async fn signal(&mut self, signal: &str) -> Result<()> {
        let name = &self.launch.name;
        let Some(id) = self.child.try_wait()?.is_none().then(|| self.child.id()).flatten() else {
            bail!("{name}: has ended, no SIG{signal} sent{}", self.tail());
        };
        let sent = Command::new("kill").args(["-s", signal, &id.to_string()]).output().await;
        let sent = sent.context("cannot run kill: install the Debian package procps")?;
        if !sent.status.success() {
            bail!("{name}: SIG{signal} not sent: {}", String::from_utf8_lossy(&sent.stderr).trim());
        }
        Ok(())
    }

    /// Kills it when it runs, and starts the same again in the same directory. Output files go on growing;
    /// waiting looks only at what the new start wrote.
    ///
    /// # Errors
    /// As [`Process::kill`] and [`Launch::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        *self = self.launch.start().await?;
        Ok(())
    }

    /// The same, started otherwise from here on: with other words or settings.
    ///
    /// # Errors
    /// As [`Process::restart`].
    pub async fn restart_as(&mut self, change: impl FnOnce(Launch) -> Launch) -> Result<()> {
        self.kill().await?;
        *self = change(self.launch.clone()).start().await?;
        Ok(())
    }

    /// Standard output since this start; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        self.out.read()
    }

    /// Standard error since this start; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        self.err.read()
    }

    /// The last lines of both outputs, for a failure message.
    #[must_use]
    pub fn tail(&self) -> String {
        format!("\n{}{}", self.out.tail(), self.err.tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_group();
        }
        let _ = self.child.start_kill();
        // Waited for, so that its directory can be removed and its ports are free.
        let end = Instant::now() + Duration::from_millis(KILL_MS);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One output file; `start` is where the present run begins.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Output {
    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open output file {}", path.display()))?;
        let start = file.metadata()?.len();
        Ok(Self { path, file, start })
    }

    fn from(&self, start: u64) -> Result<File> {
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()));
        let mut file = file?;
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    }

    fn read(&self) -> Result<String> {
        let mut bytes = Vec::new();
        self.from(self.start)?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn tail(&self) -> String {
        let length = self.file.metadata().map_or(0, |m| m.len());
        let start = self.start.max(length.saturating_sub(TAIL_BYTES));
        let mut bytes = Vec::new();
        if let Err(error) = self.from(start).and_then(|mut f| Ok(f.read_to_end(&mut bytes)?)) {
            return format!("--- {error:#}\n");
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- last {} lines of {}\n{}\n", last.len(), self.path.display(), last.join("\n"))
    }
}

/// Reads an output as it grows, line by line.
struct Lines {
    file: File,
    partial: Vec<u8>,
}

impl Lines {
    fn from(output: &Output) -> Result<Self> {
        Ok(Self { file: output.from(output.start)?, partial: Vec::new() })
    }

    /// The first whole line with `needle`; at the `end` of a program its last line need not be whole.
    fn find(&mut self, needle: &str, end: bool) -> Result<Option<String>> {
        self.file.read_to_end(&mut self.partial)?;
        let whole = match self.partial.iter().rposition(|b| *b == b'\n') {
            _ if end => self.partial.len(),
            Some(at) => at + 1,
            None => return Ok(None),
        };
        let text = String::from_utf8_lossy(&self.partial[..whole]).into_owned();
        self.partial.drain(..whole);
        Ok(text.lines().find(|line| line.contains(needle)).map(str::to_owned))
    }
}

static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    let probe = std::process::Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
});

type Job = Box<dyn FnOnce() + Send>;

/// The kernel ties a child to the *thread* that started it, so one that lasts starts them all.
static STARTER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::spawn(move || queue.into_iter().for_each(|job| job()));
    jobs
});

fn spawn(mut command: Command) -> std::io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    let (answer, started) = mpsc::channel();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        let _ = answer.send(command.spawn());
    });
    STARTER.send(job).map_err(|_| std::io::Error::other("the starting thread is gone"))?;
    started.recv().map_err(std::io::Error::other)?
}

/// The workspace's binary `name`, built in the same profile as the caller.
///
/// # Errors
/// It is missing, or older than one of its sources; the message names the cargo command.
pub fn locate(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let folder = match folder.file_name().and_then(OsStr::to_str) {
        Some("deps" | "examples") => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    let release = if folder.ends_with("release") { " --release" } else { "" };
    let mend = format!("run: cargo build --bin {name}{release}");
    let path = folder.join(name);
    let built = path.metadata().and_then(|m| m.modified());
    let Ok(built) = built else {
        bail!("{} is missing; {mend}", path.display());
    };
    if let Some(source) = newer_source(&path, built) {
        bail!("{} is older than its source {}; {mend}", path.display(), source.display());
    }
    Ok(path)
}

/// A source changed after the binary was built: an old binary would prove nothing. Cargo lists the sources
/// of every binary in a file beside it.
fn newer_source(binary: &Path, built: SystemTime) -> Option<PathBuf> {
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let newer = |source: &PathBuf| source.metadata().and_then(|m| m.modified()).is_ok_and(|changed| changed > built);
    dependencies(&sources).into_iter().find(newer)
}

/// The prerequisites in a makefile rule, where a space in a path is escaped by a backslash.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let list = rule.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, list)| list);
    let paths = list.replace("\\ ", "\0");
    paths.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " "))).collect()
}

/// A port that is free for UDP and for TCP and is given to nobody else, in this process or another,
/// until this value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// # Errors
    /// No port is free, or the claims cannot be written to the temporary directory.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let owner = std::env::var("USER").unwrap_or_default();
        let claims = std::env::temp_dir().join(format!("yika-ports-{owner}"));
        std::fs::create_dir_all(&claims).with_context(|| format!("cannot make {}", claims.display()))?;
        let first = std::process::id().wrapping_mul(331);
        for _ in 0..PORT_COUNT {
            let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORT_COUNT;
            let number = PORT_FIRST + u16::try_from(offset)?;
            let claim = OpenOptions::new().create(true).append(true).open(claims.join(number.to_string()))?;
            if claim.try_lock().is_ok() && is_free(number) {
                return Ok(Self { number, _claim: claim });
            }
        }
        bail!("no free port from {PORT_FIRST} on: end programs that hold them")
    }

    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:number`.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn is_free(number: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, number);
    UdpSocket::bind(any).is_ok() && TcpListener::bind(any).is_ok()
}

pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

    use super::*;

    #[test]
    fn a_binary_older_than_a_source_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let [binary, old, new] = ["yika-x", "old name.rs", "new.rs"].map(|name| folder.path().join(name));
        let built = SystemTime::now();
        for (path, age_s) in [(&old, 60), (&new, 60), (&binary, 0)] {
            File::create(path).unwrap().set_modified(built - Duration::from_secs(age_s)).unwrap();
        }
        let escaped = old.display().to_string().replace(' ', "\\ ");
        let rule = format!("{}: {escaped} {}\n", binary.display(), new.display());
        std::fs::write(binary.with_extension("d"), &rule).unwrap();
        assert_eq!(dependencies(&rule), [old.clone(), new.clone()]);
        assert_eq!(newer_source(&binary, built), None);
        for changed in [new, old] {
            File::options().append(true).open(&changed).unwrap().set_modified(built + Duration::from_secs(1)).unwrap();
            assert_eq!(newer_source(&binary, built), Some(changed));
        }
    }
}
