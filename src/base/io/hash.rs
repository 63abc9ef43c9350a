//! Digests: BLAKE3 for the content of archives, SHA-256 for everything else and for older archives.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, BufReader, Read, Write};

/// The 32 bytes of a digest, printed and serialized as 64 lower-case hex characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigestBytes(pub(crate) [u8; 32]);

impl DigestBytes {
    /// Parses 64 hex characters; `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digest = blake3::Hash::from_hex(text).ok()?;
        Some(Self(digest.into()))
    }
}

impl fmt::Display for DigestBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl Serialize for DigestBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DigestBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"a digest of 64 hex characters";
        Self::parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

/// A digest of a file, a member or an archive, with its algorithm: `{"blake3": "…"}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentDigest {
    Blake3(DigestBytes),
    /// In archives of older versions.
    Sha256(DigestBytes),
}

impl ContentDigest {
    /// Returns the BLAKE3 digest of `bytes`, which new archives contain.
    pub fn of(bytes: &[u8]) -> Self {
        Self::Blake3(DigestBytes(blake3::hash(bytes).into()))
    }

    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.digest() == *self
    }

    /// Returns a hasher with the algorithm of the digest.
    pub fn hasher(&self) -> ContentHasher {
        match self {
            Self::Blake3(_) => ContentHasher::default(),
            Self::Sha256(_) => ContentHasher::Sha256(Hasher::default()),
        }
    }

    /// Returns true if the digests prove different contents. Digests of two algorithms prove nothing.
    pub fn contradicts(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self != other
    }

    pub fn bytes(&self) -> DigestBytes {
        match self {
            Self::Blake3(bytes) | Self::Sha256(bytes) => *bytes,
        }
    }
}

/// An incremental computation of a [`ContentDigest`]. The default is BLAKE3, as in new archives.
#[derive(Clone)]
pub enum ContentHasher {
    /// On the heap, because its state takes two kilobytes.
    Blake3(Box<blake3::Hasher>),
    Sha256(Hasher),
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::Blake3(Box::default())
    }
}

impl ContentHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of the input so far. More input may follow.
    pub fn digest(&self) -> ContentDigest {
        match self {
            Self::Blake3(hasher) => ContentDigest::Blake3(DigestBytes(hasher.finalize().into())),
            Self::Sha256(hasher) => ContentDigest::Sha256(hasher.digest().0),
        }
    }

    /// Returns the digest of all bytes of `reader`, and their number.
    pub fn hash(mut self, reader: &mut impl Read) -> io::Result<(ContentDigest, u64)> {
        let size = match &mut self {
            Self::Blake3(hasher) => hash_all(reader, hasher)?,
            Self::Sha256(hasher) => hash_all(reader, &mut hasher.0)?,
        };
        Ok((self.digest(), size))
    }
}

/// A SHA-256 digest, printed and serialized as 64 lower-case hex characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256Digest(DigestBytes);

impl Sha256Digest {
    /// Returns the digest of all bytes of `reader`, and their number.
    pub fn of_reader(reader: &mut (impl Read + ?Sized)) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let size = hash_all(reader, &mut hasher.0)?;
        Ok((hasher.digest(), size))
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self(DigestBytes(Sha256::digest(bytes).into()))
    }

    /// Parses 64 hex characters; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        DigestBytes::parse(text).map(Self)
    }

    /// Returns the first 16 bytes: enough for identification, not against deliberate collisions.
    pub fn first_half(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0.0[..16]);
        half
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An incremental SHA-256 computation.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of the input so far. More input may follow.
    pub fn digest(&self) -> Sha256Digest {
        // A copy of the state, which is a hundred bytes, so that hashing can go on.
        Sha256Digest(DigestBytes(self.0.clone().finalize().into()))
    }
}

/// Returns the SHA-256 of `bytes` as 64 lower-case hex characters.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256Digest::of(bytes).to_string()
}

/// Returns the SHA-256 of all bytes of `reader`, and their number.
pub fn sha256_of_reader(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let (digest, size) = Sha256Digest::of_reader(reader)?;
    Ok((digest.to_string(), size))
}

/// Passes all bytes of `reader` to `hasher`, and returns their number.
fn hash_all(reader: &mut (impl Read + ?Sized), hasher: &mut impl Write) -> io::Result<u64> {
    // Larger than the buffer of `io::copy`, because BLAKE3 hashes several blocks at a time.
    io::copy(&mut BufReader::with_capacity(128 * 1024, reader), hasher)
}
