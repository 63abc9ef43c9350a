//! The footer: an empty gzip member at the end of an archive. Its extra field has the position of
//! the manifest's members. Gzip programs decode it to nothing.

/// Size of the encoded footer in bytes.
pub const LEN: usize = OFFSET_AT + 8 + 8 + TAIL.len();

/// The place of [`Footer::offset`], before that of [`Footer::len`]. Both take eight bytes.
const OFFSET_AT: usize = HEAD.len() + EXTRA.len();
const LEN_AT: usize = OFFSET_AT + 8;

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
        let (offset, len) = (self.offset.to_le_bytes(), self.len.to_le_bytes());
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&[&HEAD[..], &EXTRA, &offset, &len, &TAIL].concat());
        bytes
    }

    /// Decodes a footer. Returns `None` if `bytes` are not one.
    pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let read_u64 = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map(|raw| u64::from_le_bytes(*raw))
        };

        let (offset, len) = (read_u64(OFFSET_AT)?, read_u64(LEN_AT)?);
        let footer = Self { offset, len };
        // Every fixed byte has to match: the end of another gzip file can have a few of them by
        // chance.
        (footer.encode() == *bytes).then_some(footer)
    }
}
