//! A look at an archive before the spreadsheet reader sees it: whether it unfolds too far, or into too many texts.
//!
//! Leaves to others: workbooks that are no archives (`xls`), what the cells say (`grid`).

use super::FileError;
use std::io::{self, Cursor, Read, Write};

/// Most parts of a workbook archive; ours have about a dozen.
const ARCHIVE_ENTRIES_MAX: usize = 2_000;
/// Most bytes of the shared text table, which the spreadsheet reader holds in memory whole.
const SHARED_STRINGS_BYTES_MAX: u64 = 192 * 1024 * 1024;
/// Most texts in that table; the reader has a place for each, and makes as many at once as the table says that it has.
const SHARED_TEXTS_MAX: u64 = 4_194_304;
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
        let mut part = part.take(part_max.saturating_add(1));
        let unfolded = if name.contains("sharedstrings") {
            let mut texts = SharedTexts::default();
            let unfolded = io::copy(&mut part, &mut texts).map_err(|e| damaged(&e))?;
            texts.end().map_err(|e| damaged(&e))?;
            unfolded
        } else {
            io::copy(&mut part, &mut io::sink()).map_err(|e| damaged(&e))?
        };
        if unfolded > part_max {
            return Err(bomb);
        }
        left -= unfolded;
    }
    Ok(())
}

/// Looks through the table of shared texts for how many there are, and how many it says there are.
#[derive(Default)]
struct SharedTexts {
    /// The end of what was looked through: a word may be cut in two.
    tail: Vec<u8>,
    texts: u64,
}

impl SharedTexts {
    const TELLS: &str = "uniqueCount";
    /// What follows the word: `="`, the number, `"`.
    const TOLD_BYTES: usize = 2 + 7 + 1;

    /// Whether the number of texts is told as every spreadsheet program does, and is small.
    fn is_small(told: &[u8]) -> bool {
        let rest = told.strip_prefix(b"=\"").or_else(|| told.strip_prefix(b"='")).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = rest.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        let is_ended = matches!(rest.get(digits), Some(b'"' | b'\''));
        is_ended && number.is_some_and(|number| number <= SHARED_TEXTS_MAX)
    }

    /// `whole` when nothing follows.
    fn look(&mut self, chunk: &[u8], whole: bool) -> io::Result<()> {
        let refused = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        let before = self.tail.len();
        self.tail.extend_from_slice(chunk);
        // Of another length where it is no text, which only makes the reader of it fail.
        let text = String::from_utf8_lossy(&self.tail);
        for (at, word) in text.match_indices(Self::TELLS) {
            let told = text.as_bytes().get(at + word.len()..).unwrap_or_default();
            if (whole || told.len() >= Self::TOLD_BYTES) && !Self::is_small(told) {
                return Err(refused("the table of texts says that it is immense"));
            }
        }
        let begins = ["<si", ":si"].into_iter().flat_map(|tag| text.match_indices(tag));
        self.texts += begins.filter(|(at, tag)| at + tag.len() > before).count() as u64;
        if self.texts > SHARED_TEXTS_MAX {
            return Err(refused("more texts than a sheet of people can have"));
        }
        let keep = self.tail.len().min(Self::TELLS.len() + Self::TOLD_BYTES);
        self.tail.drain(..self.tail.len() - keep);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.look(&[], true)
    }
}

impl Write for SharedTexts {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        self.look(chunk, false).map(|()| chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn looked_through(table: &str) -> Result<(), FileError> {
        let mut out = ZipWriter::new(Cursor::new(Vec::new()));
        out.start_file("xl/sharedStrings.xml", SimpleFileOptions::default()).unwrap();
        out.write_all(table.as_bytes()).unwrap();
        check_archive(&out.finish().unwrap().into_inner(), u64::MAX)
    }

    /// The reader reserves what the table says of itself, and an allocation that fails ends the program.
    #[test]
    fn a_table_of_texts_that_boasts_is_refused() {
        let table = |told: &str| format!("<sst xmlns=\"x\" count=\"9\" uniqueCount{told}><si><t>a</t></si></sst>");
        for told in ["=\"3\"", "='3'", "=\"4194304\""] {
            assert_eq!(looked_through(&table(told)), Ok(()), "{told}");
        }
        for told in ["=\"4194305\"", "=\"100000000000\"", " = \"3\"", "=\"&#57;9999999999\"", "=", ""] {
            assert!(matches!(looked_through(&table(told)), Err(FileError::Damaged { .. })), "{told}");
        }
        let cut = "<sst uniqueCount=\"3".to_owned();
        assert!(looked_through(&cut).is_err());
        // However it falls on the pieces in which it is read.
        for before in 0..200 {
            let table = format!("{}{}", " ".repeat(65_450 + before), table("=\"99999999999\""));
            assert!(looked_through(&table).is_err(), "{before}");
            assert_eq!(looked_through(&format!("{}{}", " ".repeat(65_450 + before), self::table_of(3))), Ok(()));
        }
    }

    fn table_of(texts: usize) -> String {
        format!("<x:sst uniqueCount=\"3\">{}</x:sst>", "<x:si/>".repeat(texts))
    }

    #[test]
    fn a_table_of_too_many_texts_is_refused() {
        assert_eq!(looked_through(&table_of(SHARED_TEXTS_MAX as usize)), Ok(()));
        let refused = looked_through(&table_of(SHARED_TEXTS_MAX as usize + 1));
        assert!(matches!(refused, Err(FileError::Damaged { .. })), "{refused:?}");
    }
}
