//! Numbers of variable length (LEB128): each byte has seven bits of the number, the lowest first. All bytes except the
//! last have the highest bit set.

/// Appends a number in LEB128.
pub(super) fn push_varint(bytes: &mut Vec<u8>, number: i64) {
    let mut remaining = number.cast_unsigned();
    while remaining >= 0x80 {
        bytes.push(remaining.to_le_bytes()[0] | 0x80);
        remaining >>= 7;
    }
    bytes.push(remaining.to_le_bytes()[0]);
}

/// Reads the number at the beginning of `bytes`, and removes it from `bytes`. Returns `None` if the number is damaged.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = bytes.split_off_first()?;
        number |= i64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

/// Returns the length in bytes of the number at the beginning of `bytes`.
pub(super) fn varint_len(bytes: &[u8]) -> usize {
    let last = bytes.iter().position(|byte| *byte < 0x80);
    last.map_or(bytes.len(), |last| last + 1)
}
