//! A stream of bytes sealed in chunks: as long as one likes, without holding it in memory, and no part of it can be
//! altered, moved, or cut off unnoticed.
//!
//! Each chunk is sealed under a key of this stream alone; its nonce is its number and whether it is the last one, so a
//! stream that ends at another chunk does not open. Leaves to others: the key (`vault`), what is inside (`file`).

use anyhow::{Context, Result, bail};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// Bytes sealed at once.
pub const CHUNK_BYTES: usize = 256 << 10;
/// What sealing adds to a chunk.
pub const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;

/// Bytes that `plain` bytes take when sealed: even nothing takes a chunk, which says that nothing was cut off.
pub fn sealed_bytes(plain: u64) -> u64 {
    let chunks = plain.div_ceil(CHUNK_BYTES as u64).max(1);
    plain.saturating_add(chunks.saturating_mul(TAG_BYTES as u64))
}

fn nonce(number: u64, last: bool) -> XNonce {
    let mut nonce = [0u8; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[8] = u8::from(last);
    XNonce::from(nonce)
}

/// Seals what is written to it. [`Sealer::finish`] must be called, or the stream does not open.
pub struct Sealer<W> {
    out: W,
    cipher: XChaCha20Poly1305,
    about: Vec<u8>,
    number: u64,
    waiting: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// A new stream; `about` must be the same when it is opened.
    pub fn new(out: W, key: &[u8; 32], about: &[u8]) -> Sealer<W> {
        let cipher = XChaCha20Poly1305::new(&(*key).into());
        let waiting = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        Sealer { out, cipher, about: about.to_vec(), number: 0, waiting }
    }

    /// Seals the last chunk and gives back what was written to.
    ///
    /// # Errors
    /// Of what is written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let payload = Payload { msg: &self.waiting, aad: &self.about };
        let sealed = self.cipher.encrypt(&nonce(self.number, last), payload);
        let sealed = sealed.map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.waiting.clear();
        self.number += 1;
        self.out.write_all(&sealed)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until there is more: only then it is known not to be the last.
        if self.waiting.len() == CHUNK_BYTES {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Opens a sealed stream chunk by chunk; nothing of a chunk is given out before it is proved.
pub struct Opener<R> {
    from: R,
    cipher: XChaCha20Poly1305,
    about: Vec<u8>,
    number: u64,
    sealed: Vec<u8>,
    /// Sealed bytes of the next chunk that are read already.
    ahead: usize,
    open: Zeroizing<Vec<u8>>,
    at: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    /// Opens from the first sealed byte on.
    pub fn new(from: R, key: &[u8; 32], about: &[u8]) -> Opener<R> {
        Opener {
            from,
            cipher: XChaCha20Poly1305::new(&(*key).into()),
            about: about.to_vec(),
            number: 0,
            sealed: vec![0; CHUNK_BYTES + TAG_BYTES + 1],
            ahead: 0,
            open: Zeroizing::new(Vec::new()),
            at: 0,
            ended: false,
        }
    }

    /// Checks that the stream ends here.
    ///
    /// # Errors
    /// There is more, or the last chunk does not open.
    pub fn finish(mut self) -> Result<()> {
        let mut more = [0u8; 1];
        match self.read(&mut more).context("at the end of the file")? {
            0 => Ok(()),
            _ => bail!("the file goes on where it should end"),
        }
    }

    fn open_next(&mut self) -> io::Result<()> {
        // One byte more than a chunk is asked for: whether it is there says whether this chunk is the last.
        let mut filled = self.ahead;
        while filled < self.sealed.len() {
            match self.from.read(&mut self.sealed[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let last = filled < self.sealed.len();
        let chunk = if last { filled } else { CHUNK_BYTES + TAG_BYTES };
        let payload = Payload { msg: &self.sealed[..chunk], aad: &self.about };
        let open = self.cipher.decrypt(&nonce(self.number, last), payload).map_err(|_| {
            let at = self.number.saturating_mul((CHUNK_BYTES + TAG_BYTES) as u64);
            let words = format!("the file was cut off or altered (at or after sealed byte {at})");
            io::Error::new(io::ErrorKind::InvalidData, words)
        })?;
        self.open = Zeroizing::new(open);
        self.at = 0;
        self.number += 1;
        self.ended = last;
        self.ahead = filled - chunk;
        self.sealed.copy_within(chunk..filled, 0);
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.open.len() {
            if self.ended {
                return Ok(0);
            }
            self.open_next()?;
        }
        let given = into.len().min(self.open.len() - self.at);
        into[..given].copy_from_slice(&self.open[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &KEY, b"about");
        sealer.write_all(plain).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], key: &[u8; 32], about: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opener::new(sealed, key, about).read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn streams_of_every_awkward_length_come_back() {
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let plain: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let closed = sealed(&plain);
            assert_eq!(closed.len() as u64, sealed_bytes(len as u64), "{len}");
            assert_eq!(opened(&closed, &KEY, b"about").unwrap(), plain, "{len}");
        }
    }

    #[test]
    fn a_stream_that_was_cut_altered_or_reordered_does_not_open() {
        let one = CHUNK_BYTES + TAG_BYTES;
        let closed = sealed(&vec![3; 3 * CHUNK_BYTES + 5]);
        for cut in [0, 1, one, 2 * one, 3 * one, closed.len() - 1] {
            assert!(opened(&closed[..cut], &KEY, b"about").is_err(), "{cut}");
        }
        for at in [0, one, closed.len() - 1] {
            let mut altered = closed.clone();
            altered[at] ^= 1;
            assert!(opened(&altered, &KEY, b"about").is_err(), "{at}");
        }
        let swapped = [&closed[one..2 * one], &closed[..one], &closed[2 * one..]].concat();
        assert!(opened(&swapped, &KEY, b"about").is_err());
        let longer = [&closed[..], b"x"].concat();
        assert!(opened(&longer, &KEY, b"about").is_err());
        assert!(opened(&closed, &[8; 32], b"about").is_err());
        assert!(opened(&closed, &KEY, b"other").is_err());
    }
}
