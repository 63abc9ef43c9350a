//! Whether a line is a JSON object, at several gigabytes a second.
//!
//! Nine of ten lines of a rollout are of no interest but for being whole. Most of their bytes are
//! in long strings, which [`memchr2`] passes over; `serde_json` looks at each byte, and is asked
//! about whatever this check is not sure of.

use memchr::memchr2;
use serde::de::IgnoredAny;

/// Whether `line` is one whole JSON object in UTF-8.
pub fn is_object(line: &[u8]) -> bool {
    if !line.starts_with(b"{") {
        return false;
    }
    let bytes = Bytes::of(line);
    if bytes.other && std::str::from_utf8(line).is_err() {
        return false;
    }
    let is_plain = !bytes.control && Check::new(line).whole().is_some();
    is_plain || serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Which kinds of bytes a line has.
struct Bytes {
    /// Control characters: never allowed within a string, rare outside.
    control: bool,
    /// What is not ASCII.
    other: bool,
}

impl Bytes {
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

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// Or the end of the array.
    FirstValue,
    Key,
    /// Or the end of the object.
    FirstKey,
    /// A comma, or the end of what is open.
    After,
}

struct Check<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A bit for each open bracket, the innermost lowest: set for an object.
    open: u64,
    depth: u32,
}

impl<'a> Check<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            open: 0,
            depth: 0,
        }
    }

    /// `None` where it is no JSON, or not the plain kind that this knows.
    fn whole(mut self) -> Option<()> {
        let mut next = Next::Value;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            next = match (next, byte) {
                (_, b' ') => next,
                (Next::Value | Next::FirstValue, b'"') => {
                    self.string()?;
                    Next::After
                }
                (Next::Value | Next::FirstValue, b'{') => self.opened(true, Next::FirstKey)?,
                (Next::Value | Next::FirstValue, b'[') => self.opened(false, Next::FirstValue)?,
                (Next::Value | Next::FirstValue, b't') => self.rest_of(b"rue")?,
                (Next::Value | Next::FirstValue, b'f') => self.rest_of(b"alse")?,
                (Next::Value | Next::FirstValue, b'n') => self.rest_of(b"ull")?,
                (Next::Value | Next::FirstValue, b'-' | b'0'..=b'9') => self.number(byte)?,
                (Next::Key | Next::FirstKey, b'"') => {
                    self.string()?;
                    self.colon()?;
                    Next::Value
                }
                (Next::After, b',') if self.open & 1 == 1 => Next::Key,
                (Next::After, b',') => Next::Value,
                (Next::After | Next::FirstKey, b'}') if self.open & 1 == 1 => self.closed(),
                (Next::After | Next::FirstValue, b']') if self.open & 1 == 0 => self.closed(),
                _ => return None,
            };
            if self.depth == 0 {
                let rest = &self.bytes[self.at..];
                return rest.iter().all(|b| *b == b' ').then_some(());
            }
        }
    }

    fn opened(&mut self, is_object: bool, next: Next) -> Option<Next> {
        self.depth += 1;
        self.open = (self.open << 1) | u64::from(is_object);
        (self.depth < u64::BITS).then_some(next)
    }

    fn closed(&mut self) -> Next {
        self.depth -= 1;
        self.open >>= 1;
        Next::After
    }

    /// The rest of a string behind its first quote.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some(());
            }
            self.at += match self.bytes.get(self.at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' => {
                    let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                    digits.iter().all(u8::is_ascii_hexdigit).then_some(6)?
                }
                _ => return None,
            };
        }
    }

    fn colon(&mut self) -> Option<()> {
        while self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        (self.bytes.get(self.at) == Some(&b':')).then(|| self.at += 1)
    }

    fn rest_of(&mut self, rest: &[u8]) -> Option<Next> {
        self.bytes.get(self.at..)?.starts_with(rest).then(|| {
            self.at += rest.len();
            Next::After
        })
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// The rest of a number; exponents are left to the other check.
    fn number(&mut self, first: u8) -> Option<Next> {
        let first = if first == b'-' {
            let digit = *self.bytes.get(self.at)?;
            self.at += 1;
            digit.is_ascii_digit().then_some(digit)?
        } else {
            first
        };
        let more = self.digits();
        if first == b'0' && more > 0 {
            return None;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            (self.digits() > 0).then_some(())?;
        }
        Some(Next::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn is_plain(line: &[u8]) -> bool {
        !Bytes::of(line).control && Check::new(line).whole().is_some()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_writes_is_json_and_mostly_plain(value in any_value()) {
            let text = json!({"timestamp": "x", "payload": value}).to_string();
            prop_assert!(is_object(text.as_bytes()));
            prop_assert!(is_plain(text.as_bytes()) || text.contains('e'), "{text}");
        }

        #[test]
        fn what_is_plain_is_json_however_it_was_damaged(
            value in any_value(),
            at in any::<prop::sample::Index>(),
            with in prop::sample::select(b"{}[]\",:\\ tfn0-.x\x00\xff".to_vec()),
            cut in any::<bool>(),
        ) {
            let mut bytes = json!({"a": value}).to_string().into_bytes();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = with;
            }
            let is_json = std::str::from_utf8(&bytes)
                .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            if is_plain(&bytes) && std::str::from_utf8(&bytes).is_ok() {
                prop_assert!(is_json, "{}", String::from_utf8_lossy(&bytes));
            }
            prop_assert_eq!(is_object(&bytes), is_json && bytes.starts_with(b"{"));
        }
    }

    #[test]
    fn zeros_in_the_middle_of_a_string_are_damage() {
        assert!(!is_object(b"{\"a\":\"x\0\0\0y\"}"));
        assert!(is_object(b"{ \"a\" : [1, -0.5, 1e9, {}, []] }"));
        assert!(!is_object(b"{\"a\":}"));
        assert!(!is_object(b"{\"a\":1}{\"b\":2}"));
    }
}
