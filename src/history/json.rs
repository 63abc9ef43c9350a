//! Whether a line is a whole JSON object, at the speed of memory for long ones.

use serde::de::IgnoredAny;

/// A line up to this long is parsed. Longer ones are nearly all there is in a rollout.
const MAX_PARSED_BYTES: usize = 512;

/// Whether `line`, which begins as Codex begins its lines, is one whole JSON object in UTF-8.
///
/// A line breaks where a write broke off: its end is missing, or is the end of another, or a crash
/// left zeros. So a long line counts as whole when it is text without control characters and ends
/// as its payload and itself must; what stands between is not parsed.
pub fn is_complete(line: &[u8]) -> bool {
    if line.len() > MAX_PARSED_BYTES && line.ends_with(b"}}") {
        let bytes = ByteClasses::of(line);
        if !bytes.control {
            return !bytes.other || std::str::from_utf8(line).is_ok();
        }
    }
    std::str::from_utf8(line).is_ok() && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Which kinds of bytes a line has.
struct ByteClasses {
    /// Control characters: never allowed within a string, rare outside.
    control: bool,
    /// What is not ASCII.
    other: bool,
}

impl ByteClasses {
    fn of(line: &[u8]) -> Self {
        // Without an early end the compiler takes 32 bytes at a time.
        let (mut lowest, mut all) = (u8::MAX, 0);
        for byte in line {
            lowest = lowest.min(*byte);
            all |= *byte;
        }
        Self {
            control: lowest < b' ',
            other: all >= 0x80,
        }
    }
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
    fn a_long_line_is_broken_where_a_write_breaks_off() {
        assert!(is_complete(&long(b"", b"\"}}")));
        assert!(is_complete(&long("ü".as_bytes(), b"\"}}")));
        assert!(is_complete(&long(b"", b"\"} }")));
        assert!(!is_complete(&long(b"", b"")));
        assert!(!is_complete(&long(b"", b"\"}")));
        assert!(!is_complete(&long(b"\0\0\0", b"\"}}")));
        assert!(!is_complete(&long(b"\xff", b"\"}}")));
    }

    #[test]
    fn a_short_line_is_parsed() {
        assert!(is_complete(b"{\"a\":{}}"));
        for broken in [
            "{\"a\":}",
            "{\"a\":1}{\"b\":{}}",
            "{\"a\":{]}}",
            "{\"a\":{}",
        ] {
            assert!(!is_complete(broken.as_bytes()), "{broken}");
        }
    }
}
