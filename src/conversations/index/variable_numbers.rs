//! Numbers as bytes: seven bits in each, the lowest first. All but the last byte have the highest bit.

pub(super) fn push_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
}

/// Reads a number at the beginning of `bytes`, and advances it; `None` if it is damaged.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= i64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

/// Returns the number of bytes of the number at the beginning of `bytes`.
pub(super) fn number_len(bytes: &[u8]) -> usize {
    let last = bytes.iter().position(|byte| *byte < 0x80);
    last.map_or(bytes.len(), |last| last + 1)
}
