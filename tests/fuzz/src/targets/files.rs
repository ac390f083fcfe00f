//! Files that programs write and that come back damaged, cut off, or from elsewhere.

use super::drawn;
use super::nodes::writer;
use crate::target::{Seen, Target, refused, taken};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use yika_crdt::feed::Hash;
use yika_crdt::snapshot::{Audience, CHUNK_BYTES, Manifest, SNAPSHOT_VERSION, chunk_hash};
use yika_crdt::wire;
use yika_edge::mirror;
use yika_hub::backup::file::{self, Part};
use yika_hub::backup::log::record::{self, RECORD_BYTES_MAX, Record, Tally};
use yika_hub::backup::log::segment::{self, Begun, Next, SegmentReader, SegmentWriter};
use yika_hub::vault::Vault;
use yika_store::parts;

const MEMORY_BYTES_MAX: usize = super::MEMORY_BYTES_MAX;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "backup",
        about: "a backup of headquarters",
        input_bytes_max: 16 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: backup,
        seeds: || made(|path, vault| file::write(path, vault, "总部", writer(0), 42, backup_parts())),
    },
    Target {
        name: "log",
        about: "a file of headquarters' log",
        input_bytes_max: 16 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: log,
        seeds: || made(write_log),
    },
    Target {
        name: "record",
        about: "a record of headquarters' log, opened",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: log_record,
        seeds: || drawn_records(12),
    },
    Target {
        name: "stick",
        about: "a snapshot as a file",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: stick,
        seeds: || made(|path, _| Ok(parts::write(path, stick_parts())?)),
    },
    Target {
        name: "mirror",
        about: "where a box's own feeds end, beside its database",
        input_bytes_max: 10 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: mirror_file,
        seeds: mirrors,
    },
];

/// A folder for all inputs, with a master key that is the same in every run.
struct Place {
    dir: TempDir,
    vault: Vault,
}

fn place() -> Option<&'static Place> {
    static PLACE: OnceLock<Option<Place>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().ok()?;
        std::fs::write(dir.path().join(yika_hub::vault::MASTER), [6; 32]).ok()?;
        let vault = Vault::open(dir.path()).ok()?;
        Some(Place { dir, vault })
    };
    PLACE.get_or_init(make).as_ref()
}

/// A file as the program writes it.
fn made(write: impl FnOnce(&Path, &Vault) -> anyhow::Result<()>) -> Vec<Vec<u8>> {
    let Some(place) = place() else { return Vec::new() };
    let path = place.dir.path().join("made");
    let _ = std::fs::remove_file(&path);
    write(&path, &place.vault).and_then(|()| Ok(std::fs::read(&path)?)).into_iter().collect()
}

fn input(bytes: &[u8]) -> Option<(&'static Place, PathBuf)> {
    let place = place()?;
    let path = place.dir.path().join("input");
    std::fs::write(&path, bytes).ok()?;
    Some((place, path))
}

fn backup_parts() -> Vec<Part<'static>> {
    vec![
        Part { name: "hub.db", bytes: 3, content: Box::new(&b"abc"[..]) },
        Part { name: "hub.toml", bytes: 700, content: Box::new(&[5; 700][..]) },
    ]
}

fn backup(bytes: &[u8]) -> Seen {
    let Some((place, path)) = input(bytes) else { return "no file".to_owned() };
    let into = place.dir.path().join("unpacked");
    let _ = std::fs::remove_dir_all(&into);
    if std::fs::create_dir(&into).is_err() {
        return "no folder".to_owned();
    }
    let head = file::head(&path);
    match file::unpack(&path, &place.vault, &["hub.db", "hub.toml"], &into) {
        Err(error) => format!("{} {}", head.is_ok(), refused(&error.root_cause())),
        Ok(_) => {
            assert!(std::fs::read(into.join("hub.db")).is_ok_and(|part| part == b"abc"), "another database comes out");
            "unpacked".to_owned()
        }
    }
}

fn write_log(path: &Path, vault: &Vault) -> anyhow::Result<()> {
    let begun = Begun { name: "总部", life: writer(0), number: 1, first: 7, previous: Hash([3; 32]), created_ms: 42 };
    let mut log = SegmentWriter::create(path.to_path_buf(), vault, &begun)?;
    log.append(drawn_records(3).iter().map(Vec::as_slice))
}

fn log(bytes: &[u8]) -> Seen {
    let Some((place, path)) = input(bytes) else { return "no file".to_owned() };
    let head = segment::head(&path).is_ok();
    let (_, mut reader) = match SegmentReader::open(&path, &place.vault) {
        Err(error) => return format!("{head} {}", refused(&error.root_cause())),
        Ok(opened) => opened,
    };
    let written = drawn_records(3);
    for count in 0.. {
        match reader.read() {
            Err(error) => return format!("{count} {}", refused(&error.root_cause())),
            Ok(Next::End) => return format!("{count} end"),
            Ok(Next::Torn(left)) => {
                assert!(left <= bytes.len() as u64, "more is torn than there is");
                return format!("{count} torn");
            }
            Ok(Next::Record(record)) => assert_eq!(Some(&record), written.get(count), "a record that nobody wrote"),
        }
    }
    unreachable!("records do not end")
}

/// Drawn by hand: the type that is written borrows what the one that is read owns.
fn drawn_records(count: usize) -> Vec<Vec<u8>> {
    let batches = drawn::<yika_crdt::store::Batch>(6, count);
    let rows = drawn::<Vec<yika_hub::store::TableRow>>(7, count);
    let record = |(n, (batch, rows)): (usize, (Vec<u8>, Vec<u8>))| {
        let head = wire::encode(&(n as u64 + 7, Hash([3; 32]), 1_800_000_000_000i64));
        [head, batch, rows].concat()
    };
    batches.into_iter().zip(rows).enumerate().map(record).collect()
}

fn log_record(bytes: &[u8]) -> Seen {
    match wire::decode_lenient::<Record>(bytes, RECORD_BYTES_MAX) {
        Err(error) => refused(&error),
        Ok(read) => {
            let written = record::encode(read.turn, read.previous, read.at_ms, &read.batch, &read.rows);
            let again = wire::decode_lenient::<Record>(&written, RECORD_BYTES_MAX);
            let same = again.is_ok_and(|again| {
                (again.turn, again.batch, again.rows) == (read.turn, read.batch.clone(), read.rows.clone())
            });
            assert!(same, "written again it is another record");
            let mut tally = Tally::default();
            tally.add(&read);
            taken(&(tally.to_string(), read.rows.first()))
        }
    }
}

fn stick_parts() -> Vec<(yika_crdt::snapshot::SignedManifest, Box<dyn std::io::Read>)> {
    let data = vec![7; 300];
    let manifest = Manifest {
        version: SNAPSHOT_VERSION,
        by: writer(0),
        audience: Audience::Everyone,
        cut_ms: 1,
        feeds: Vec::new(),
        drop: Vec::new(),
        items: 1,
        bytes: data.len() as u64,
        chunks: data.chunks(CHUNK_BYTES).map(chunk_hash).collect(),
    };
    vec![(manifest.sign(&super::nodes::key()), Box::new(std::io::Cursor::new(data)))]
}

fn stick(bytes: &[u8]) -> Seen {
    let Some((_, path)) = input(bytes) else { return "no file".to_owned() };
    match parts::Part::open_all(&path) {
        Err(error) => refused(&error),
        Ok(parts) => {
            let mut seen = Vec::new();
            for part in &parts {
                let chunks: Vec<bool> = part.chunks().map(|chunk| chunk.is_ok()).collect();
                assert!(part.kept() as usize <= chunks.len());
                seen.push((chunks, part.kept()));
            }
            taken(&seen)
        }
    }
}

fn mirror_file(bytes: &[u8]) -> Seen {
    let Some(place) = place() else { return "no folder".to_owned() };
    if std::fs::write(place.dir.path().join(mirror::FILE), bytes).is_err() {
        return "no file".to_owned();
    }
    match mirror::read(place.dir.path()) {
        Ok(said) => taken(&said),
        Err(error) => refused(&error),
    }
}

fn mirrors() -> Vec<Vec<u8>> {
    use sha2::{Digest, Sha256};
    drawn::<mirror::Kept>(8, 2)
        .into_iter()
        .map(|record| {
            let mut place = Sha256::digest(&record)[..8].to_vec();
            place.push(record.len() as u8);
            place.extend(record);
            place.resize(4_096, 0);
            [place.clone(), place].concat()
        })
        .collect()
}
