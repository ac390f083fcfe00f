//! What is seen of the programs from outside: their memory, whether they are ready, whether one of them panicked.

use super::PROGRAMS;
use crate::http::Client;
use crate::world::World;
use anyhow::Result;
use std::collections::BTreeMap;

/// Resident memory of each program, in KiB; of one that does not run, nothing.
pub(super) fn memory(world: &World) -> BTreeMap<&'static str, u64> {
    let boxes = world.boxes.iter().map(|edge| &edge.process);
    let processes = boxes.chain([&world.hub.process]);
    let seen = PROGRAMS.into_iter().zip(processes);
    seen.filter_map(|(name, process)| Some((name, resident_kib(process.id()?)?))).collect()
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether every program says that it is ready.
pub(super) async fn all_ready(world: &World) -> bool {
    let mut urls: Vec<String> = world.boxes.iter().map(|edge| edge.url()).collect();
    urls.push(world.hub.url());
    for url in urls {
        let is_ready = Client::new(url).get("/readyz").await.is_ok_and(|answer| answer.status == 200);
        if !is_ready {
            return false;
        }
    }
    true
}

/// Lines in which a program said that it panicked.
pub(super) fn panics(world: &World) -> Result<Vec<String>> {
    let boxes = world.boxes.iter().map(|edge| edge.dir.join("edge.err"));
    let logs = boxes.chain([world.dir.join("hub.err")]);
    let mut found = Vec::new();
    for log in logs {
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        found.extend(lines.map(|line| format!("{}: {line}", log.display())));
    }
    Ok(found)
}
