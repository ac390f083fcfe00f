//! Compound files (MS-CFB), the container of Excel 97 workbooks: a stream out of one, and a plain one around a stream.
//!
//! Strict: a chain of sectors in a circle, a table that names a sector twice, a length beyond the file is refused, because
//! readers follow them without end. Leaves to others: what a stream says (`xls`).

use std::collections::BTreeSet;

const SIGNATURE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// From here on numbers are no sectors.
const NO_SECTOR: u32 = 0xffff_fffa;
const TABLE_SECTOR: u32 = 0xffff_fffd;
const END_OF_CHAIN: u32 = 0xffff_fffe;
const FREE_SECTOR: u32 = 0xffff_ffff;
const HEADER_BYTES: usize = 512;
const ENTRY_BYTES: usize = 128;
const MINI_SECTOR_BYTES: usize = 64;
/// Shorter streams lie in the stream of the root, in sectors of their own.
const MINI_STREAM_BYTES: usize = 4_096;
/// Numbers of table sectors in the header.
const HEADER_TABLES: usize = 109;
/// Sectors of the files that are written here: large ones, so that the header names the whole table of any of them.
const SECTOR_BYTES: usize = 4_096;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|number| u32::from_le_bytes([number[0], number[1], number[2], number[3]]))
}

/// A file that was opened: its table of sectors and its directory.
pub(crate) struct Compound<'a> {
    bytes: &'a [u8],
    sector_bytes: usize,
    table: Vec<u32>,
    directory: Vec<u8>,
}

impl<'a> Compound<'a> {
    /// Opens a file; `None` when it is not a sound one.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<Compound<'a>> {
        let (shift, mini_shift) = (u16_at(bytes, 30)?, u16_at(bytes, 32)?);
        if !bytes.starts_with(&SIGNATURE) || !matches!(shift, 9 | 12) || mini_shift != 6 {
            return None;
        }
        let mut file = Compound { bytes, sector_bytes: 1 << shift, table: Vec::new(), directory: Vec::new() };
        for sector in file.table_sectors()? {
            file.table.extend(numbers(file.sector(sector)?));
        }
        file.directory = file.chain(u32_at(bytes, 48)?, usize::MAX)?;
        Some(file)
    }

    /// The sectors that hold the table, named by the header and by a chain of further sectors; each once.
    fn table_sectors(&self) -> Option<Vec<u32>> {
        let header = self.bytes.get(76..76 + 4 * HEADER_TABLES)?;
        let (mut named, mut further) = (numbers(header).collect::<Vec<u32>>(), BTreeSet::new());
        let mut next = u32_at(self.bytes, 68)?;
        while next < NO_SECTOR {
            if !further.insert(next) {
                return None;
            }
            let mut more: Vec<u32> = numbers(self.sector(next)?).collect();
            next = more.pop()?;
            named.extend(more);
        }
        named.retain(|sector| *sector < NO_SECTOR);
        let once: BTreeSet<&u32> = named.iter().collect();
        (once.len() == named.len()).then_some(named)
    }

    fn sector(&self, number: u32) -> Option<&'a [u8]> {
        let start = (number as usize).checked_add(1)?.checked_mul(self.sector_bytes)?;
        let end = start.checked_add(self.sector_bytes)?.min(self.bytes.len());
        self.bytes.get(start..end).filter(|sector| !sector.is_empty())
    }

    /// The first so many bytes of a chain of sectors, or all of it when it is shorter.
    fn chain(&self, first: u32, bytes_max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut next = first;
        while next != END_OF_CHAIN && out.len() < bytes_max {
            out.extend_from_slice(self.sector(next)?);
            // Longer than the file: the chain is a circle.
            if out.len() > self.bytes.len() {
                return None;
            }
            next = *self.table.get(next as usize)?;
        }
        out.truncate(bytes_max);
        Some(out)
    }

    /// The same of the root's own stream, which is cut into small sectors with a table of their own.
    fn mini_chain(&self, first: u32, bytes_max: usize) -> Option<Vec<u8>> {
        let root = self.directory.get(..ENTRY_BYTES)?;
        let stream = self.chain(u32_at(root, 116)?, self.length(root)?)?;
        let table: Vec<u32> = numbers(&self.chain(u32_at(self.bytes, 60)?, usize::MAX)?).collect();
        let mut out = Vec::new();
        let mut next = first;
        while next != END_OF_CHAIN && out.len() < bytes_max {
            let start = (next as usize).checked_mul(MINI_SECTOR_BYTES)?;
            let end = (start + MINI_SECTOR_BYTES).min(stream.len());
            out.extend_from_slice(stream.get(start..end)?);
            if end == start {
                return None;
            }
            next = *table.get(next as usize)?;
        }
        out.truncate(bytes_max);
        Some(out)
    }

    /// The length that an entry of the directory states; `None` when it is more than the file has.
    fn length(&self, entry: &[u8]) -> Option<usize> {
        let (low, high) = (u32_at(entry, 120)?, u32_at(entry, 124)?);
        // Files of small sectors may have anything in the upper half.
        let high = if self.sector_bytes == HEADER_BYTES { 0 } else { high };
        let length = usize::try_from(u64::from(high) << 32 | u64::from(low)).ok()?;
        (length <= self.bytes.len()).then_some(length)
    }

    /// The entry of a stream; large and small letters are the same.
    fn entry(&self, name: &str) -> Option<&[u8]> {
        let is_named = |entry: &&[u8]| {
            let units = entry[..64].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            let found: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            String::from_utf16_lossy(&found).eq_ignore_ascii_case(name)
        };
        self.directory.chunks_exact(ENTRY_BYTES).find(is_named)
    }

    /// Whether there is such a stream.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// A stream; `None` when there is none, or it is not whole.
    pub(crate) fn stream(&self, name: &str) -> Option<Vec<u8>> {
        let entry = self.entry(name)?;
        let (first, length) = (u32_at(entry, 116)?, self.length(entry)?);
        if length < MINI_STREAM_BYTES { self.mini_chain(first, length) } else { self.chain(first, length) }
    }
}

/// A file with nothing in it but this stream, filled up with zeros to whole sectors.
pub(crate) fn around(name: &str, stream: &[u8]) -> Vec<u8> {
    let data = stream.len().max(MINI_STREAM_BYTES).div_ceil(SECTOR_BYTES);
    let mut tables = 1;
    while tables * (SECTOR_BYTES / 4) < tables + 1 + data {
        tables += 1;
    }
    let directory = tables as u32;
    let mut out = header(tables, directory);
    let chain = (0..data as u32).map(|n| if n + 1 == data as u32 { END_OF_CHAIN } else { directory + 2 + n });
    let table = std::iter::repeat_n(TABLE_SECTOR, tables).chain([END_OF_CHAIN]).chain(chain);
    out.extend(table.flat_map(u32::to_le_bytes));
    fill(&mut out, (1 + tables) * SECTOR_BYTES, FREE_SECTOR.to_le_bytes()[0]);
    out.extend(entry("Root Entry", 5, 0, 0));
    out.extend(entry(name, 2, directory + 1, (data * SECTOR_BYTES) as u64));
    fill(&mut out, (2 + tables) * SECTOR_BYTES, 0);
    out.extend_from_slice(stream);
    fill(&mut out, (2 + tables + data) * SECTOR_BYTES, 0);
    out
}

fn fill(out: &mut Vec<u8>, length: usize, with: u8) {
    out.resize(length.max(out.len()), with);
}

fn header(tables: usize, directory: u32) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    fill(&mut out, 24, 0);
    for word in [0x3eu16, 4, 0xfffe, 12, 6] {
        out.extend(word.to_le_bytes());
    }
    fill(&mut out, 40, 0);
    let words = [1, tables as u32, directory, 0, MINI_STREAM_BYTES as u32, END_OF_CHAIN, 0, END_OF_CHAIN, 0];
    out.extend(words.into_iter().flat_map(u32::to_le_bytes));
    out.extend((0..tables as u32).flat_map(u32::to_le_bytes));
    fill(&mut out, HEADER_BYTES, FREE_SECTOR.to_le_bytes()[0]);
    fill(&mut out, SECTOR_BYTES, 0);
    out
}

fn entry(name: &str, kind: u8, first: u32, length: u64) -> Vec<u8> {
    let mut out: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let name_bytes = out.len() as u16 + 2;
    fill(&mut out, 64, 0);
    out.extend(name_bytes.to_le_bytes());
    out.extend([kind, 1]);
    // No siblings; the child of the root is the one stream.
    out.extend(
        [FREE_SECTOR, FREE_SECTOR, if kind == 5 { 1 } else { FREE_SECTOR }].into_iter().flat_map(u32::to_le_bytes),
    );
    fill(&mut out, 116, 0);
    out.extend(first.to_le_bytes());
    out.extend(length.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_stream_comes_out_as_it_went_in() {
        for length in [0, 1, 4_095, 4_096, 4_097, 70_000, 5_000_000] {
            let stream: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let file = around("Workbook", &stream);
            let out = Compound::open(&file).unwrap().stream("workbook").unwrap();
            assert!(out.starts_with(&stream) && out[length..].iter().all(|byte| *byte == 0), "{length}");
            assert!(Compound::open(&file).unwrap().stream("Book").is_none());
        }
    }

    /// The directory, the table and the stream in a circle; lengths beyond the file.
    #[test]
    fn what_never_ends_is_refused() {
        let file = around("Workbook", &[7; 10_000]);
        let with = |numbers: &[(usize, u32)]| {
            let mut altered = file.clone();
            numbers.iter().for_each(|(at, number)| altered[*at..at + 4].copy_from_slice(&number.to_le_bytes()));
            Compound::open(&altered).and_then(|file| file.stream("Workbook"))
        };
        let (table, directory) = (SECTOR_BYTES, 2 * SECTOR_BYTES);
        assert!(with(&[]).is_some(), "as it was");
        assert!(with(&[(table + 4, 1)]).is_none(), "the directory follows itself");
        assert!(with(&[(80, 0)]).is_none(), "a sector of the table twice");
        assert!(with(&[(68, 0), (directory - 4, 0)]).is_none(), "further sectors of the table that follow themselves");
        assert!(with(&[(68, 2)]).is_none(), "further sectors of the table that are none");
        let circle = with(&[(table + 4 * 3, 3)]);
        assert!(circle.is_some_and(|stream| stream.len() == 12_288), "a circle is cut at the length");
        assert!(with(&[(directory + ENTRY_BYTES + 120, u32::MAX)]).is_none(), "longer than the file");
        for end in 0..file.len() {
            let cut = Compound::open(&file[..end]).and_then(|file| file.stream("Workbook"));
            assert!(cut.is_none_or(|stream| stream.starts_with(&[7; 100])), "{end}");
        }
    }
}
