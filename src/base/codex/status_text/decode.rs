//! Decodes the encodings in which terminals and shells save text.

/// Decodes UTF-8, or UTF-16 with a byte order mark, which `>` of Windows `PowerShell` 5 writes. Invalid
/// bytes become U+FFFD.
pub fn decode(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn decode_utf16(bytes: &[u8], to_unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes
        .chunks_exact(2)
        .map(|pair| to_unit([pair[0], pair[1]]));
    String::from_utf16_lossy(&units.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_is_decoded_by_its_byte_order_mark_and_other_text_as_utf8() {
        let text = "Account: ä@x.com (Plus)\r\n│ 5h limit: [██] 88% left │\u{1f600}";
        let little = text.encode_utf16().flat_map(u16::to_le_bytes);
        let little: Vec<u8> = [0xff, 0xfe].into_iter().chain(little).collect();
        assert_eq!(decode(&little), text);
        let big = text.encode_utf16().flat_map(u16::to_be_bytes);
        let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(big).collect();
        assert_eq!(decode(&big), text);
        assert_eq!(decode(text.as_bytes()), text);
        assert_eq!(decode(b"a\xffb"), "a\u{fffd}b");
    }
}
