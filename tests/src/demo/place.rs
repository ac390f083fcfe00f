//! The folder of a demonstration: named so that every process finds it, and left as it was found when the start fails.
//!
//! Leaves to others: what is put into it (`world`).

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a folder is cleared again, and after what time.
const CLEAR_TRIES_MAX: usize = 20;
const CLEAR_AGAIN: Duration = Duration::from_millis(100);

/// A folder, and what was there before.
pub(super) struct Place {
    dir: PathBuf,
    /// The uppermost folder that had to be made for it.
    made: Option<PathBuf>,
    found: BTreeSet<OsString>,
}

impl Place {
    /// Makes the folder where it is missing. Its processes work in folders of their own, so its name is made absolute.
    pub(super) fn take(dir: &Path) -> Result<Place> {
        let dir = std::path::absolute(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        let made = dir.ancestors().take_while(|above| !above.exists()).last().map(Path::to_owned);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let found = names(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        Ok(Place { dir, made, found })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// After a failed start: removes what it made, and nothing else. Gives the error back, with what could not be removed.
    pub(super) async fn give_back(&self, error: anyhow::Error) -> anyhow::Error {
        let mut cleared = self.clear();
        // Programs that were killed a moment ago may still write.
        for _ in 0..CLEAR_TRIES_MAX {
            if cleared.is_ok() {
                break;
            }
            tokio::time::sleep(CLEAR_AGAIN).await;
            cleared = self.clear();
        }
        match cleared {
            Ok(()) => error,
            Err(left) => error.context(format!("{} could not be cleared ({left})", self.dir.display())),
        }
    }

    fn clear(&self) -> std::io::Result<()> {
        match &self.made {
            Some(made) if made.exists() => std::fs::remove_dir_all(made),
            Some(_) => Ok(()),
            None => names(&self.dir)?.difference(&self.found).try_for_each(|name| remove(&self.dir.join(name))),
        }
    }
}

fn names(dir: &Path) -> std::io::Result<BTreeSet<OsString>> {
    std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[tokio::test]
    async fn a_failed_start_leaves_the_folder_as_it_was_found() {
        let outer = tempfile::tempdir().unwrap();
        let fresh = outer.path().join("a").join("b");
        let place = Place::take(&fresh).unwrap();
        std::fs::write(place.dir().join("hub.log"), "words").unwrap();
        assert_eq!(place.give_back(anyhow::anyhow!("no")).await.to_string(), "no");
        assert!(!outer.path().join("a").exists(), "nothing was there before");

        std::fs::write(outer.path().join("mine"), "kept").unwrap();
        let place = Place::take(outer.path()).unwrap();
        std::fs::create_dir(place.dir().join("hub")).unwrap();
        std::fs::write(place.dir().join("hub").join("hub.db"), "").unwrap();
        place.give_back(anyhow::anyhow!("no")).await;
        assert_eq!(names(outer.path()).unwrap(), BTreeSet::from(["mine".into()]));
    }

    #[tokio::test]
    async fn a_relative_folder_gets_its_whole_name() {
        let relative = Path::new("..").join(format!("yika-demo-place-{}", std::process::id()));
        let place = Place::take(&relative).unwrap();
        assert!(place.dir().is_absolute() && relative.exists());
        place.give_back(anyhow::anyhow!("no")).await;
        assert!(!relative.exists());
    }
}
