//! The footer: an empty gzip member at the end of an archive. Its extra field has the position of
//! the manifest's members. Gzip programs decode it to nothing.

/// Size of the encoded footer in bytes.
pub const LEN: usize = 10 + 2 + 4 + 17 + 2 + 8;

const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
const EXTRA: [u8; 7] = [21, 0, b'C', b'M', 17, 0, 1];
const TAIL: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Position of the manifest's gzip members in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Byte offset of the first member.
    pub offset: u64,
    /// Compressed length of all members together, in bytes.
    pub len: u64,
}

impl Footer {
    /// Encodes the footer as the last [`LEN`] bytes of an archive.
    pub fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..10].copy_from_slice(&HEAD);
        bytes[10..17].copy_from_slice(&EXTRA);
        bytes[17..25].copy_from_slice(&self.offset.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.len.to_le_bytes());
        bytes[33..].copy_from_slice(&TAIL);
        bytes
    }

    /// Decodes a footer. Returns `None` if `bytes` are not one.
    pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let number = |from: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(raw)
        };
        let known = bytes[..10] == HEAD && bytes[10..17] == EXTRA && bytes[33..] == TAIL;
        known.then(|| Self {
            offset: number(17),
            len: number(25),
        })
    }
}
