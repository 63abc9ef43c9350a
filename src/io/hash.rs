//! SHA-256 as lower-case hex.

use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// A running SHA-256.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest as 64 lower-case hex characters.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The digest of `bytes` as 64 lower-case hex characters.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest of everything that `reader` gives, and how many bytes that was.
pub fn sha256_of(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok((hasher.finish(), total));
        }
        hasher.update(&buffer[..n]);
        total += n as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}
