//! Checks of container files before the spreadsheet reader sees them: archives that unfold too far, sheets too wide.
//!
//! Leaves to others: what the cells say (`grid`).

use super::FileError;
use std::io::{Cursor, Read};

/// Most parts of a workbook archive; ours have about a dozen.
const ARCHIVE_ENTRIES_MAX: usize = 2_000;
/// Most bytes of the shared text table, which the spreadsheet reader holds in memory whole.
const SHARED_STRINGS_BYTES_MAX: u64 = 192 * 1024 * 1024;
/// Most cells of an `.xls` sheet, counted as rows × columns, because the reader holds them as a rectangle.
const XLS_CELLS_MAX: u64 = 4_194_304;
/// Most bytes of parts other than sheets and shared text; such parts become trees in memory.
const PART_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Unfolds every part of an archive into nothing and refuses it at the limit, whatever sizes it declares.
pub(crate) fn check_archive(bytes: &[u8], inflated_bytes_max: u64) -> Result<(), FileError> {
    let damaged = |e: &dyn std::fmt::Display| FileError::Damaged { what: e.to_string() };
    let bomb = FileError::Bomb { bytes_max: inflated_bytes_max };
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(&e))?;
    if archive.len() > ARCHIVE_ENTRIES_MAX {
        return Err(FileError::Damaged { what: format!("more than {ARCHIVE_ENTRIES_MAX} parts") });
    }
    let mut declared: u64 = 0;
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(|e| damaged(&e))?;
        declared = declared.saturating_add(part.size());
    }
    if declared > inflated_bytes_max {
        return Err(bomb);
    }
    let mut left = inflated_bytes_max;
    for index in 0..archive.len() {
        let part = archive.by_index(index).map_err(|e| damaged(&e))?;
        let name = part.name().map_err(|e| damaged(&e))?.to_lowercase();
        let part_max = if name.contains("sharedstrings") {
            SHARED_STRINGS_BYTES_MAX
        } else if name.contains("worksheets/") || name.contains("media/") {
            left
        } else {
            PART_BYTES_MAX
        };
        let part_max = part_max.min(left);
        let unfolded =
            std::io::copy(&mut part.take(part_max.saturating_add(1)), &mut std::io::sink()).map_err(|e| damaged(&e))?;
        if unfolded > part_max {
            return Err(bomb);
        }
        left -= unfolded;
    }
    Ok(())
}

const SECTOR_FREE: u32 = 0xffff_fffa;

/// Follows the workbook stream of a compound file (MS-CFB) and refuses sheets whose rectangle would not fit in memory.
pub(crate) fn check_xls(bytes: &[u8]) -> Result<(), FileError> {
    let file = Compound::open(bytes).ok_or(FileError::Damaged { what: "compound file header".into() })?;
    let Some(stream) = file.workbook() else {
        return Err(if file.stream("EncryptedPackage").is_some() {
            FileError::Encrypted
        } else {
            FileError::Damaged { what: "no workbook inside".into() }
        });
    };
    check_records(&stream)
}

/// Walks the records of a BIFF stream. Cell records start with row and column.
fn check_records(stream: &[u8]) -> Result<(), FileError> {
    const BOF: u16 = 0x0809;
    const FILE_PASS: u16 = 0x002f;
    const CELLS: [u16; 14] = [
        0x0003, 0x0004, 0x0005, 0x0006, 0x00bd, 0x00be, 0x00d6, 0x00fd, 0x0201, 0x0203, 0x0204, 0x0205, 0x027e, 0x0406,
    ];
    let (mut at, mut rows, mut columns) = (0_usize, 0_u64, 0_u64);
    while let (Some(kind), Some(length)) = (u16_at(stream, at), u16_at(stream, at + 2)) {
        let body = at + 4;
        match kind {
            FILE_PASS => return Err(FileError::Encrypted),
            BOF => (rows, columns) = (0, 0),
            kind if CELLS.contains(&kind) && length >= 4 => {
                // A record of many cells ends with its last column.
                let last_at = if matches!(kind, 0x00bd | 0x00be) { body + usize::from(length) - 2 } else { body + 2 };
                rows = rows.max(u64::from(u16_at(stream, body).unwrap_or(0)) + 1);
                columns = columns.max(u64::from(u16_at(stream, body + 2).unwrap_or(0)) + 1);
                columns = columns.max(u64::from(u16_at(stream, last_at).unwrap_or(0)) + 1);
                if rows * columns > XLS_CELLS_MAX {
                    return Err(FileError::Damaged {
                        what: format!(
                            "a sheet spans {rows} rows × {columns} columns; the limit is {XLS_CELLS_MAX} cells"
                        ),
                    });
                }
            }
            _ => {}
        }
        at = body + usize::from(length);
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// As much of a compound file as it takes to find a stream.
struct Compound<'a> {
    bytes: &'a [u8],
    sector_bytes: usize,
    table: Vec<u32>,
    directory: Vec<u8>,
}

impl<'a> Compound<'a> {
    fn open(bytes: &'a [u8]) -> Option<Compound<'a>> {
        let shift = u16_at(bytes, 30)?;
        if !(7..=12).contains(&shift) {
            return None;
        }
        let sector_bytes = 1_usize << shift;
        let mut file = Compound { bytes, sector_bytes, table: Vec::new(), directory: Vec::new() };
        let sectors_max = bytes.len() / sector_bytes + 1;
        let mut table_sectors: Vec<u32> = (0..109).filter_map(|i| u32_at(bytes, 76 + 4 * i)).collect();
        let mut next = u32_at(bytes, 68)?;
        for _ in 0..sectors_max {
            let Some(sector) = file.sector(next) else {
                break;
            };
            let entries = sector_bytes / 4 - 1;
            table_sectors.extend((0..entries).filter_map(|i| u32_at(sector, 4 * i)));
            next = u32_at(sector, 4 * entries)?;
        }
        for sector in table_sectors.into_iter().filter(|s| *s < SECTOR_FREE).take(sectors_max) {
            let Some(sector) = file.sector(sector) else {
                continue;
            };
            let entries: Vec<u32> = (0..sector_bytes / 4).filter_map(|i| u32_at(sector, 4 * i)).collect();
            file.table.extend(entries);
        }
        file.directory = file.chain(u32_at(bytes, 48)?);
        Some(file)
    }

    fn sector(&self, number: u32) -> Option<&'a [u8]> {
        let start = (number as usize).checked_add(1)?.checked_mul(self.sector_bytes)?;
        let end = start.checked_add(self.sector_bytes)?.min(self.bytes.len());
        self.bytes.get(start..end)
    }

    /// Bytes of a chain of sectors; a chain in a circle ends at the number of sectors there are.
    fn chain(&self, first: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut next = first;
        for _ in 0..=self.bytes.len() / self.sector_bytes {
            let Some(sector) = self.sector(next) else {
                break;
            };
            out.extend_from_slice(sector);
            match self.table.get(next as usize) {
                Some(following) => next = *following,
                None => break,
            }
        }
        out
    }

    fn workbook(&self) -> Option<Vec<u8>> {
        self.stream("Workbook").or_else(|| self.stream("Book"))
    }

    fn stream(&self, name: &str) -> Option<Vec<u8>> {
        const ENTRY_BYTES: usize = 128;
        let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let entry = self.directory.chunks_exact(ENTRY_BYTES).find(|entry| {
            let length = usize::from(u16_at(entry, 64).unwrap_or(0)).saturating_sub(2);
            length == wanted.len() && entry.starts_with(&wanted)
        })?;
        Some(self.chain(u32_at(entry, 116)?))
    }
}
