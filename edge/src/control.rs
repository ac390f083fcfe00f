//! Questions to the running box over a Unix socket in its data folder, readable by its owner only.
//!
//! One JSON line each way. Leaves to others: the answers (`status`, `doctor`).

use crate::doors::Doors;
use crate::node::EdgeNode;
use crate::snapshot;
use crate::terminals::Board;
use crate::{doctor, status};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Name of the socket in the data folder.
pub const SOCKET: &str = "control.sock";
/// Questions answered at once; further ones wait.
const QUESTIONS_MAX: usize = 4;
/// Longest question.
const QUESTION_BYTES_MAX: u64 = 16_384;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How long an asker waits for the answer, and the box for the question.
const WAIT: Duration = Duration::from_secs(15);

/// The same for the taking in of a file.
const IMPORT_WAIT: Duration = Duration::from_secs(1_800);

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// [`status::Status`].
    Status,
    /// [`doctor::Report`].
    Doctor,
    /// To take in a snapshot from a file: `Result` of [`snapshot::Taken`] per part, or why not, in words.
    Import(PathBuf),
}

impl Question {
    /// How long an asker waits for the answer.
    fn wait(&self) -> Duration {
        match self {
            Question::Import(_) => IMPORT_WAIT,
            _ => WAIT,
        }
    }
}

/// Where the socket of a data folder is.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join(SOCKET)
}

/// Asks the box that runs on a data folder; `None` when none does.
///
/// # Errors
/// When there is one but it cannot be asked, or does not answer in time.
pub fn ask<T: DeserializeOwned>(dir: &Path, question: Question) -> Result<Option<T>> {
    let path = socket(dir);
    let mut stream = match BlockingStream::connect(&path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Err(e).with_context(|| format!("{}: run this as the box's user or as root", path.display()));
        }
        Err(e) => return Err(e).with_context(|| format!("cannot ask over {}", path.display())),
    };
    let wait = question.wait();
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(WAIT))?;
    let slow = || format!("the running box does not answer within {} s; see its log", wait.as_secs());
    stream.write_all(format!("{}\n", serde_json::to_string(&question)?).as_bytes()).with_context(slow)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).with_context(slow)?;
    let answer = serde_json::from_str(&answer).context("the running box is of another version; restart it")?;
    Ok(Some(answer))
}

async fn reply(question: Question, node: &Arc<EdgeNode>, doors: &Doors, board: &Board) -> Result<String> {
    Ok(match question {
        Question::Status => serde_json::to_string(&tokio::task::block_in_place(|| status::gather(node, doors, board)))?,
        Question::Doctor => serde_json::to_string(&doctor::examine(node, doors, board).await)?,
        Question::Import(file) => {
            let taken = snapshot::import(node, &file).await;
            serde_json::to_string(&taken.map_err(|error| format!("{error:#}")))?
        }
    })
}

/// Makes the socket; an old one of a process that is gone is replaced (the caller holds the folder's lock).
///
/// # Errors
/// When the folder does not take it.
pub fn listen(dir: &Path) -> Result<UnixListener> {
    let path = socket(dir);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the task is ended.
pub async fn serve(listener: UnixListener, node: Arc<EdgeNode>, doors: Doors, board: Arc<Board>) {
    let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (node, doors, board) = (Arc::clone(&node), doors.clone(), Arc::clone(&board));
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = answer(stream, &node, &doors, &board).await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no question can be taken");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, node: &Arc<EdgeNode>, doors: &Doors, board: &Board) -> Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(reading, QUESTION_BYTES_MAX));
    tokio::time::timeout(WAIT, reader.read_line(&mut line)).await.context("the question did not come in time")??;
    let question: Question = serde_json::from_str(&line)?;
    let said = tokio::time::timeout(question.wait(), reply(question, node, doors, board)).await??;
    writing.write_all(said.as_bytes()).await?;
    writing.shutdown().await?;
    Ok(())
}
