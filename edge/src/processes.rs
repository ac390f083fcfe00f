//! Whether a box runs on a data folder that cannot be asked for it: its socket went away with the disk.
//!
//! Read from the system's list of processes, with the arguments, environment and folder each was started with. Leaves to
//! others: what that means (`doctor`).

use crate::cli;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Where the system lists processes.
const PROCESSES: &str = "/proc";
/// Longest list of arguments or environment that is read.
const LIST_BYTES_MAX: usize = 1 << 20;

/// The process that serves a data folder, if one does.
pub(crate) fn serving(dir: &Path) -> Option<u32> {
    let processes = std::fs::read_dir(PROCESSES).ok()?;
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| *number != std::process::id()).find(|number| serves(*number, dir))
}

fn serves(number: u32, dir: &Path) -> bool {
    let process = Path::new(PROCESSES).join(number.to_string());
    let words = list(&process.join("cmdline"));
    let is_box = words.first().is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("yika-edge")));
    if !is_box {
        return false;
    }
    let env = list(&process.join("environ")).into_iter().filter_map(|pair| {
        let at = pair.as_bytes().iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.as_bytes().split_at(at);
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(&value[1..]).to_owned()))
    });
    let Some(told) = cli::folder_served(&words, env.collect()) else { return false };
    let began_in = std::fs::read_link(process.join("cwd")).unwrap_or_default();
    std::path::absolute(dir).is_ok_and(|dir| began_in.join(told) == dir)
}

/// Texts that end with a zero byte; none of what may not be read.
fn list(path: &Path) -> Vec<OsString> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let texts = bytes[..bytes.len().min(LIST_BYTES_MAX)].split(|byte| *byte == 0);
    texts.filter(|text| !text.is_empty()).map(|text| OsString::from_vec(text.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn the_folder_is_read_from_the_arguments_of_a_serving_box() {
        let of = |words: &[&str]| cli::folder_served(&words.iter().map(OsString::from).collect::<Vec<_>>(), Vec::new());
        assert_eq!(of(&["yika-edge", "--data", "/d", "serve"]), Some("/d".into()));
        assert_eq!(of(&["yika-edge", "serve", "--data=d"]), Some("d".into()));
        assert_eq!(of(&["yika-edge", "--data", "/d", "serve", "--check-config"]), None);
        assert_eq!(of(&["yika-edge", "--data", "/d", "status"]), None);
        let env = vec![("YIKA__DATA".into(), "/e".into())];
        assert_eq!(cli::folder_served(&["yika-edge".into(), "serve".into()], env), Some("/e".into()));
    }
}
