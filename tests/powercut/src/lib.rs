//! A power cut for SQLite: a VFS over the operating system's own that remembers, for every file, what
//! was synced and what was only written. A cut yields an image with everything synced and a seeded,
//! possibly torn, subset of the rest. The device can also break without losing anything, and be mended.
//! Opening the image again (with the normal VFS) is the caller's work.

pub mod deny;
mod disk;
mod vfs;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::Disk;

/// One simulated disk, registered with SQLite under a VFS name for the life of the process.
#[derive(Clone)]
pub struct PowerCut {
    name: String,
    disk: Arc<Disk>,
}

/// The files left on the disk by a cut. The folder is removed when this value is dropped.
pub struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    /// Folder holding the files that survived, under the file names they had.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Path in the image of a file with this name (files of all folders are laid flat by name).
    #[must_use]
    pub fn path(&self, file_name: &str) -> PathBuf {
        self.dir.path().join(file_name)
    }

    /// Keeps the folder after this value is gone, to look at a failed run.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

impl PowerCut {
    /// Registers a VFS called `name`; open databases with `file:…?vfs=name` or
    /// `Connection::open_with_flags_and_vfs`. The name must be new in this process.
    ///
    /// # Errors
    /// The name is taken, holds a NUL, or SQLite refuses the registration.
    pub fn register(name: &str) -> io::Result<Self> {
        let disk = Arc::new(Disk::default());
        vfs::register(name, &disk)?;
        Ok(Self { name: name.to_owned(), disk })
    }

    /// The VFS name to open databases with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes, truncations and syncs seen since registration or `restore_power`.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk.operations()
    }

    /// Cuts the power before operation number `operation` (counted as in `operations`): that one and
    /// every later one fails. `seed` draws what unsynced data survives; fetch it by `take_image`.
    pub fn arm(&self, operation: u64, seed: u64) {
        self.disk.arm(operation, seed);
    }

    /// Breaks the device before operation number `operation`: that one and every later one fails, with `reads` reading
    /// too, until [`PowerCut::mend`]. Nothing that was written is lost.
    pub fn break_at(&self, operation: u64, reads: bool) {
        self.disk.break_at(operation, reads);
    }

    /// The device works again.
    pub fn mend(&self) {
        self.disk.mend();
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.disk.is_cut()
    }

    /// Cuts the power at once: every later write or sync fails with an I/O error.
    ///
    /// # Errors
    /// The image cannot be written to the temporary folder.
    pub fn cut(&self, seed: u64) -> io::Result<Image> {
        self.disk.cut(seed);
        self.take_image()
    }

    /// The image of the cut that has happened.
    ///
    /// # Errors
    /// No cut has happened, or the image cannot be written to the temporary folder.
    pub fn take_image(&self) -> io::Result<Image> {
        let files = self.disk.image().ok_or_else(|| {
            io::Error::other("power cut: no cut has happened; call cut() or arm() a reachable operation")
        })?;
        let dir = tempfile::Builder::new().prefix("yika-powercut-").tempdir()?;
        for (path, bytes) in files {
            let Some(name) = path.file_name() else {
                continue;
            };
            std::fs::write(dir.path().join(name), bytes)?;
        }
        Ok(Image { dir })
    }

    /// Forgets all files and counts and lets writes pass. Close every connection of this VFS first.
    pub fn restore_power(&self) {
        self.disk.reset();
    }
}
