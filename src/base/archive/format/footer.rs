//! The footer: an empty gzip member at the end of an archive. Its extra field has the position of
//! the manifest's members. Gzip programs decode it to nothing.

/// Size of the encoded footer in bytes.
pub const LEN: usize = 10 + 2 + 4 + 17 + 2 + 8;

// The magic number, deflate, the flag of an extra field, no time, no hint, an unknown system: no
// byte depends on the machine that writes.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
// The length of the extra field, then its only subfield as RFC 1952 defines it: the id `CM`, a
// length, and here the version of this footer.
const EXTRA: [u8; 7] = [21, 0, b'C', b'M', 17, 0, 1];
// An empty final block of deflate, then the CRC and the length of no bytes.
const TAIL: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Position of the manifest's gzip members in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Byte offset of the first member.
    pub offset: u64,
    /// Compressed length of all members together, in bytes.
    pub len: u64,
}

impl Footer {
    /// Encodes the footer as the last [`LEN`] bytes of an archive.
    pub(crate) fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..10].copy_from_slice(&HEAD);
        bytes[10..17].copy_from_slice(&EXTRA);
        bytes[17..25].copy_from_slice(&self.offset.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.len.to_le_bytes());
        bytes[33..].copy_from_slice(&TAIL);
        bytes
    }

    /// Decodes a footer. Returns `None` if `bytes` are not one.
    pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let read_u64 = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map(|raw| u64::from_le_bytes(*raw))
        };

        // Every fixed byte has to match: the end of another gzip file can have a few of them by
        // chance.
        let is_footer = bytes[..10] == HEAD && bytes[10..17] == EXTRA && bytes[33..] == TAIL;
        is_footer.then_some(())?;

        let (offset, len) = (read_u64(17)?, read_u64(25)?);
        Some(Self { offset, len })
    }
}
