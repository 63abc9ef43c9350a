//! Finds the beginning and the end of private keys in PEM form.

use super::checks;
use std::ops::Range;

/// The shortest line of a private key, except its last line.
const MIN_KEY_LINE_BYTES: usize = 40;

/// The longest private key, without its first line.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// Returns true if `before`, the text before `PRIVATE KEY-----`, ends with the marker of a footer, such as
/// `-----END RSA `.
pub(super) fn is_key_footer(before: &[u8]) -> bool {
    let line = &before[before.len().saturating_sub("-----END ENCRYPTED ".len())..];
    memchr::memmem::find(line, b"-END ").is_some()
}

/// Returns the end of a private key whose first line ends at `start`. It is the beginning of the footer; in a key that
/// is cut off, the end of the last long line. `None` if no key follows.
pub(super) fn find_key_block_end(text: &[u8], start: usize) -> Option<usize> {
    const MAX_HEADER_BYTES: usize = 200;
    const MAX_MARK_BYTES: usize = 32;

    let text = &text[..text.len().min(start + MAX_KEY_BYTES)];
    let body = &text[start..];
    let footer_at = memchr::memmem::find(body, b"----");
    let body = &body[..footer_at.unwrap_or(body.len())];

    let mut key_end = None;
    let (mut run_start, mut longest_run) = (0, 0);
    for base64_run in body.split(|b| !is_key_char(*b)) {
        let key_run_len = if is_path_or_word(base64_run) {
            0
        } else {
            base64_run.len()
        };
        longest_run = longest_run.max(key_run_len);

        // PEM headers may precede the first long line. Only line numbers, quotes and other short marks precede each
        // later line.
        let (gap_start, max_gap) = match key_end {
            None => (0, MAX_HEADER_BYTES),
            Some(end) => (end, MAX_MARK_BYTES),
        };
        let run_end = run_start + base64_run.len();
        if key_run_len >= MIN_KEY_LINE_BYTES && run_start - gap_start <= max_gap {
            key_end = Some(run_end);
        }
        run_start = run_end + 1;
    }

    let is_complete = footer_at.is_some_and(|at| {
        let line = text[start + at..].trim_ascii_start();
        let after_dashes = line.iter().skip_while(|b| matches!(b, b'-' | b' '));
        after_dashes.take(3).eq(b"END")
    });

    // With a footer, the lines may be short, but one run must be as long as a random value.
    if is_complete {
        return (longest_run >= checks::MIN_RANDOM_BYTES).then_some(start + body.len());
    }
    key_end.map(|key_end| start + key_end)
}

/// Returns the place of the last part of a private key whose first line is missing. `before` ends inside its footer.
pub(super) fn find_key_before_footer(before: &[u8]) -> Option<Range<usize>> {
    /// The longest text without a long line: the last line of the key, which may be short, or marks between lines.
    const MAX_GAP_BYTES: usize = 100;

    let is_in_key = |b: &u8| *b != b'-' && !b.is_ascii_whitespace();
    let footer = memchr::memmem::rfind(before, b"-END ")?;
    let end = before[..footer].iter().rposition(is_in_key)? + 1;
    let body = &before[end.saturating_sub(MAX_KEY_BYTES)..end];
    let header = memchr::memmem::rfind(body, b"----");
    let body = &body[header.map_or(0, |at| at + "----".len())..];

    // Counts backwards from the end: all bytes, and the bytes up to the beginning of the first long line.
    let (mut len, mut key_len) = (0, 0);
    for base64_run in body.rsplit(|b| !is_key_char(*b)) {
        if len - key_len > MAX_GAP_BYTES {
            break;
        }
        len += base64_run.len();
        if base64_run.len() >= MIN_KEY_LINE_BYTES && !is_path_or_word(base64_run) {
            key_len = len;
        }
        len += 1;
    }
    (key_len > 0).then(|| end - key_len..end)
}

/// Returns true for a run of base64 characters that is no part of a key: `/usr/lib/python3/packages`. Without a capital, a
/// part of a key is in hexadecimal.
fn is_path_or_word(run: &[u8]) -> bool {
    // A diff begins its lines with `+`.
    let is_hex = run.iter().all(|b| b.is_ascii_hexdigit() || *b == b'+');
    !is_hex && !run.iter().any(u8::is_ascii_uppercase)
}

fn is_key_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}
