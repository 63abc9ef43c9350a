//! Recognizes a line of a rollout by its beginning, whose fields Codex always writes in the same order.

use memchr::memmem;

/// The longest time or kind of a line.
const MAX_FIELD_BYTES: usize = 40;

/// The longest type of a payload.
const MAX_TYPE_BYTES: usize = 64;

/// The beginning of a line in Codex's order: time, kind, payload.
pub(super) struct Envelope<'a> {
    /// The time of the line, unparsed.
    pub timestamp: &'a str,
    pub kind: &'a [u8],
    /// The bytes after the kind.
    rest: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Parses the beginning of a line; `None` if its fields are in another order.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"timestamp\":\"")?;
        let (timestamp, mut rest) = split_at_quote(rest, MAX_FIELD_BYTES)?;

        // Codex 0.169 numbers the lines of paginated conversations.
        if let Some(numbered) = rest.strip_prefix(b",\"ordinal\":") {
            let digits = numbered.iter().take_while(|b| b.is_ascii_digit()).count();
            rest = &numbered[digits..];
        }

        let (kind, rest) = split_at_quote(rest.strip_prefix(b",\"type\":\"")?, MAX_FIELD_BYTES)?;
        Some(Self {
            timestamp: std::str::from_utf8(timestamp).ok()?,
            kind,
            rest,
        })
    }

    /// Returns the type of the payload and the bytes after it, if the type is the first field.
    pub(super) fn payload_type_and_rest(&self) -> Option<(&'a [u8], &'a [u8])> {
        /// The longest metadata of a line, which Codex 0.169 puts before its payload.
        const MAX_METADATA_BYTES: usize = 1 << 10;
        const PAYLOAD_PREFIX: &[u8] = b",\"payload\":{\"type\":\"";
        let payload = self.rest.strip_prefix(PAYLOAD_PREFIX).or_else(|| {
            let at = memmem::find(truncate(self.rest, MAX_METADATA_BYTES), PAYLOAD_PREFIX)?;
            Some(&self.rest[at + PAYLOAD_PREFIX.len()..])
        })?;
        split_at_quote(payload, MAX_TYPE_BYTES)
    }
}

fn truncate(bytes: &[u8], max_bytes: usize) -> &[u8] {
    &bytes[..bytes.len().min(max_bytes)]
}

/// Splits `bytes` at the first quote, which is in neither part. `None` if the first `max_bytes` bytes have no quote, or
/// an escape before the quote.
fn split_at_quote(bytes: &[u8], max_bytes: usize) -> Option<(&[u8], &[u8])> {
    let at = truncate(bytes, max_bytes)
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))?;
    // A field with an escape is left to the JSON parser. Codex writes no escapes in these fields.
    (bytes[at] == b'"').then(|| (&bytes[..at], &bytes[at + 1..]))
}
