//! Whether the disk under the data folder is encrypted, as the kernel says of its block devices.
//!
//! Names, card numbers and keys lie in the data folder; who takes the box away must not be able to read them. Encrypting
//! is the disk's work (LUKS, its key in a TPM), because a key beside the data would protect nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Device layers looked through (LVM on RAID on LUKS …).
const LAYERS_MAX: u32 = 16;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtRest {
    /// Every device below is behind dm-crypt.
    Encrypted,
    /// At least one device below is not.
    Plain,
    /// The file system tells no device, or the kernel's files cannot be read.
    Unknown,
}

/// Looks at the file system that holds `dir`.
pub fn of(dir: &Path) -> AtRest {
    let Ok(dir) = dir.canonicalize() else { return AtRest::Unknown };
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return AtRest::Unknown };
    device(&mounts, &dir).map_or(AtRest::Unknown, |device| below(Path::new("/sys/dev/block"), &device))
}

/// Number (`major:minor`) of the device mounted nearest above `dir`, if it is a block device.
fn device(mounts: &str, dir: &Path) -> Option<String> {
    let of_line = |line: &str| -> Option<(usize, String)> {
        let mut words = line.split(' ');
        let (number, point) = (words.nth(2)?, words.nth(1)?);
        let point = PathBuf::from(point.replace("\\040", " "));
        // Device 0 is no block device: btrfs, overlay, tmpfs, a network.
        let known = dir.starts_with(&point) && !number.starts_with("0:");
        let deep = dir.starts_with(&point).then(|| point.components().count())?;
        Some((deep, if known { number.to_owned() } else { String::new() }))
    };
    // Of two mounts on one point the later one is seen.
    let nearest = mounts.lines().filter_map(of_line).max_by_key(|(deep, _)| *deep)?;
    (!nearest.1.is_empty()).then_some(nearest.1)
}

fn below(devices: &Path, number: &str) -> AtRest {
    let mut waiting = vec![(devices.join(number), 0)];
    while let Some((device, layer)) = waiting.pop() {
        if !device.exists() || layer > LAYERS_MAX {
            return AtRest::Unknown;
        }
        let kind = fs::read_to_string(device.join("dm/uuid")).unwrap_or_default();
        if kind.starts_with("CRYPT-") {
            continue;
        }
        let lower: Vec<PathBuf> =
            fs::read_dir(device.join("slaves")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        if lower.is_empty() {
            return AtRest::Plain;
        }
        waiting.extend(lower.into_iter().map(|path| (path, layer + 1)));
    }
    AtRest::Encrypted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    const MOUNTS: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 27 253:1 / /var/lib/yika\\040edge rw - ext4 /dev/mapper/data rw\n\
        31 27 0:40 / /tmp rw - tmpfs tmpfs rw\n";

    #[test]
    fn the_nearest_mount_counts() {
        let at = |path: &str| device(MOUNTS, Path::new(path));
        assert_eq!(at("/var/lib/yika edge/data").as_deref(), Some("253:1"));
        assert_eq!(at("/var/lib/other").as_deref(), Some("254:0"));
        assert_eq!(at("/tmp/x"), None, "memory has no device");
        assert_eq!(device("", Path::new("/")), None);
        assert_eq!(device("nonsense\n1 2\n", Path::new("/")), None);
    }

    #[test]
    fn encryption_counts_at_any_layer_and_only_if_on_every_path() {
        let root = tempfile::tempdir().unwrap();
        let device = |name: &str, uuid: &str, lower: &[&str]| {
            let path = root.path().join(name);
            fs::create_dir_all(path.join("dm")).unwrap();
            fs::create_dir_all(path.join("slaves")).unwrap();
            fs::write(path.join("dm/uuid"), uuid).unwrap();
            for name in lower {
                std::os::unix::fs::symlink(root.path().join(name), path.join("slaves").join(name)).unwrap();
            }
        };
        device("disk1", "", &[]);
        device("disk2", "", &[]);
        device("crypt", "CRYPT-LUKS2-0-data\n", &["disk1"]);
        device("volume", "LVM-x\n", &["crypt"]);
        device("raid", "", &["crypt", "disk2"]);
        assert_eq!(below(root.path(), "volume"), AtRest::Encrypted);
        assert_eq!(below(root.path(), "raid"), AtRest::Plain);
        assert_eq!(below(root.path(), "disk1"), AtRest::Plain);
        assert_eq!(below(root.path(), "none"), AtRest::Unknown);
    }
}
