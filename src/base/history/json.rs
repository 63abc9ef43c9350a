//! Checks that a line is a complete JSON object, for long lines without parsing them.

use serde::de::IgnoredAny;

/// The length, in bytes, up to which every line is parsed. Longer lines are nearly all bytes of a rollout.
const MAX_PARSED_BYTES: usize = 512;

/// Returns true if `line`, which begins as Codex's lines do, is one complete JSON object in UTF-8.
///
/// An interrupted write damages a line in one of three ways: the end is missing, the end of another
/// line follows, or a crash left zeros. So a long line counts as complete if it is UTF-8 without
/// control characters and ends with the two braces that close payload and line. The text between is
/// not parsed.
pub(crate) fn is_complete_object(line: &[u8]) -> bool {
    if line.len() > MAX_PARSED_BYTES && line.ends_with(b"}}") {
        // No early exit: the compiler vectorizes this loop to 32 bytes at a time.
        let (mut lowest, mut all_bits) = (u8::MAX, 0);
        for byte in line {
            lowest = lowest.min(*byte);
            all_bits |= *byte;
        }

        // JSON forbids control characters in strings, and they are rare outside of them.
        let has_control = lowest < b' ';
        if !has_control {
            return all_bits.is_ascii() || std::str::from_utf8(line).is_ok();
        }
    }

    std::str::from_utf8(line).is_ok() && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(middle: &[u8], end: &[u8]) -> Vec<u8> {
        let mut line = b"{\"type\":\"x\",\"payload\":{\"text\":\"".to_vec();
        line.extend(vec![b'y'; MAX_PARSED_BYTES]);
        line.extend(middle);
        line.extend(end);
        line
    }

    #[test]
    fn a_long_line_of_an_interrupted_write_is_incomplete() {
        assert!(is_complete_object(&long(b"", b"\"}}")));
        assert!(is_complete_object(&long("ü".as_bytes(), b"\"}}")));
        assert!(is_complete_object(&long(b"", b"\"} }")));
        assert!(!is_complete_object(&long(b"", b"")));
        assert!(!is_complete_object(&long(b"", b"\"}")));
        assert!(!is_complete_object(&long(b"\0\0\0", b"\"}}")));
        assert!(!is_complete_object(&long(b"\xff", b"\"}}")));
    }

    #[test]
    fn a_short_line_is_complete_only_if_it_is_one_valid_json_object() {
        assert!(is_complete_object(b"{\"a\":{}}"));
        for broken in [
            "{\"a\":}",
            "{\"a\":1}{\"b\":{}}",
            "{\"a\":{]}}",
            "{\"a\":{}",
        ] {
            assert!(!is_complete_object(broken.as_bytes()), "{broken}");
        }
    }
}
