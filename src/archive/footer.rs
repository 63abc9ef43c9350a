//! The footer: an empty gzip member whose extra field tells where the manifest's members are.
//! Any gzip program reads it as nothing.

/// Its size in bytes.
pub const LEN: usize = 10 + 2 + 4 + 17 + 2 + 8;

const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
const EXTRA: [u8; 7] = [21, 0, b'C', b'M', 17, 0, 1];
const TAIL: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Where the manifest's members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Their first byte in the file.
    pub offset: u64,
    /// Their compressed length.
    pub len: u64,
}

impl Footer {
    /// The bytes at the end of the archive.
    pub fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..10].copy_from_slice(&HEAD);
        bytes[10..17].copy_from_slice(&EXTRA);
        bytes[17..25].copy_from_slice(&self.offset.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.len.to_le_bytes());
        bytes[33..].copy_from_slice(&TAIL);
        bytes
    }

    /// Reads it back; `None` for anything else.
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
