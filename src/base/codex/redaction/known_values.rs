//! Finds the tokens of the user's logins in a text by their values, whatever form they have.
//!
//! No table knows the forms of all tokens, but the logins themselves are on this machine. They are read when a text is
//! first searched that may have a part of a token. Memory keeps keyed digests of the parts.

use super::search::FoundSecret;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// The kind of a part of a login.
const KIND: &str = "stored-login";

/// The length of the parts of tokens that are compared. Shorter parts of a token are not found.
const PART_BYTES: usize = 16;

/// Parts with fewer different characters are no secrets: a line of hyphens, a placeholder of zeros.
const MIN_DIFFERENT_BYTES: u32 = 6;

/// Every header of a JWT and every payload begins with these characters, which encode `{"`.
const JWT_START: &[u8] = b"eyJ";

/// Digests of the parts of all tokens in the user's logins.
#[derive(Default)]
pub struct KnownValues {
    key: RandomState,
    parts: HashSet<u64, BuildHasherDefault<DigestHasher>>,
}

/// Takes a digest as its own hash.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

type ReadLogins = Arc<dyn Fn(&mut KnownValues) + Send + Sync>;

/// The logins of this process.
#[derive(Default)]
struct Logins {
    read: Option<ReadLogins>,
    /// `None` until a text needs them.
    values: Option<Arc<KnownValues>>,
}

static LOGINS: RwLock<Logins> = RwLock::new(Logins {
    read: None,
    values: None,
});

thread_local! {
    /// True while this thread reads the logins, which may log the files that it reads.
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Sets the function that reads the user's logins, for all later searches of this process.
pub fn set_logins(read: impl Fn(&mut KnownValues) + Send + Sync + 'static) {
    let mut logins = LOGINS.write().unwrap_or_else(PoisonError::into_inner);
    logins.read = Some(Arc::new(read));
    logins.values = None;
}

/// Reads the logins again for the next search. A server that runs for days calls this, because Codex renews logins.
pub fn forget_logins() {
    let mut logins = LOGINS.write().unwrap_or_else(PoisonError::into_inner);
    logins.values = None;
}

/// Returns the parts of a text that are parts of a known token, in order.
pub(super) fn find_known_secrets(text: &[u8]) -> Vec<FoundSecret> {
    if !long_runs(text).any(|run| is_like_random(&text[run])) {
        return Vec::new();
    }
    let places = read_values().map_or(Vec::new(), |values| values.find_places(text));
    let to_secret = |place| FoundSecret { kind: KIND, place };
    places.into_iter().map(to_secret).collect()
}

fn read_values() -> Option<Arc<KnownValues>> {
    let logins = LOGINS.read().unwrap_or_else(PoisonError::into_inner);
    if logins.values.is_some() || IS_READING.get() {
        return logins.values.clone();
    }
    let read = logins.read.clone()?;
    // Not held while files are read: a log of these reads is searched too.
    drop(logins);

    let mut values = KnownValues::default();
    IS_READING.set(true);
    read(&mut values);
    IS_READING.set(false);

    let values = Arc::new(values);
    let mut logins = LOGINS.write().unwrap_or_else(PoisonError::into_inner);
    logins.values = Some(Arc::clone(&values));
    Some(values)
}

impl KnownValues {
    /// Adds the secrets of an auth.json. In a damaged file, every long word counts as one.
    pub fn add_login(&mut self, auth: &[u8]) {
        match serde_json::from_slice(auth) {
            Ok(auth) => self.add_fields(&auth),
            Err(_) => self.add_token(auth),
        }
    }

    fn add_fields(&mut self, value: &Value) {
        match value {
            // An address is no token.
            Value::String(text) if text.contains("://") || text.contains('@') => {}
            Value::String(text) => self.add_token(text.as_bytes()),
            Value::Array(items) => items.iter().for_each(|item| self.add_fields(item)),
            Value::Object(fields) => {
                let secrets = fields.iter().filter(|(name, _)| !is_public(name));
                secrets.for_each(|(_, value)| self.add_fields(value));
            }
            _ => {}
        }
    }

    fn add_token(&mut self, token: &[u8]) {
        for run in long_runs(token).map(|run| &token[run]) {
            let shared_len = shared_header_len(run);
            for (start, part) in run.windows(PART_BYTES).enumerate() {
                let may_be_secret = is_like_random(part) && has_different_bytes(part);
                if start + PART_BYTES > shared_len && may_be_secret {
                    self.parts.insert(self.digest(part));
                }
            }
        }
    }

    fn digest(&self, part: &[u8]) -> u64 {
        self.key.hash_one(part)
    }

    fn find_places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        if self.parts.is_empty() {
            return places;
        }
        for run in long_runs(text) {
            for (offset, part) in text[run.clone()].windows(PART_BYTES).enumerate() {
                if !self.parts.contains(&self.digest(part)) {
                    continue;
                }
                let start = run.start + offset;
                match places.last_mut() {
                    Some(last) if last.end >= start => last.end = start + PART_BYTES,
                    _ => places.push(start..start + PART_BYTES),
                }
            }
        }
        places
    }
}

/// Returns true for fields of auth.json that identify or describe an account. Every other field may be a secret.
fn is_public(name: &str) -> bool {
    let ends = ["_id", "_mode", "_type", "_at", "_url", "email", "region"];
    name == "last_refresh" || ends.iter().any(|end| name.ends_with(end))
}

/// Returns the length of the beginning of a JWT that other tokens share: the header, and the first characters of the
/// payload. Zero for other tokens.
fn shared_header_len(token: &[u8]) -> usize {
    let header_len = memchr::memchr(b'.', token).filter(|_| token.starts_with(JWT_START));
    header_len.map_or(0, |len| len + 1 + JWT_START.len())
}

/// Returns false for a text of small letters and punctuation, as names of files and hosts are. Of 16 random characters in
/// base64 or hexadecimal, at least one is a capital letter or a digit. So a prompt with an email address does not wait until
/// all logins are read.
fn is_like_random(part: &[u8]) -> bool {
    let is_of_token = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    part.iter().any(is_of_token)
}

fn has_different_bytes(part: &[u8]) -> bool {
    let seen = part
        .iter()
        .fold(0_u128, |seen, byte| seen | 1 << (byte & 0x7f));
    seen.count_ones() >= MIN_DIFFERENT_BYTES
}

/// Returns the words of characters of tokens (`b64token` in RFC 6750) that are long enough for a part of a token.
fn long_runs(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].iter().position(is_token)?;
            let len = text[start..].iter().position(|b| !is_token(b));
            at = len.map_or(text.len(), |len| start + len);
            if at - start >= PART_BYTES {
                return Some(start..at);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOKEN: &str = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zLcF";

    fn known(auth: &Value) -> KnownValues {
        let mut values = KnownValues::default();
        values.add_login(auth.to_string().as_bytes());
        values
    }

    #[test]
    fn a_token_is_found_as_a_whole_in_pieces_and_inside_of_words() {
        let values = known(&json!({"tokens": {"refresh_token": TOKEN}}));
        for (text, expected) in [
            (format!("x {TOKEN} y"), &[(2, 2 + TOKEN.len())][..]),
            (format!("/p/{TOKEN}/a"), &[(3, 3 + TOKEN.len())]),
            (format!("zz{}zz", &TOKEN[7..27]), &[(2, 22)]),
            (
                format!("{} {}", &TOKEN[..17], &TOKEN[17..]),
                &[(0, 17), (18, 35)],
            ),
            (TOKEN[..PART_BYTES - 1].to_owned(), &[]),
            (TOKEN.to_lowercase(), &[]),
        ] {
            let places = values.find_places(text.as_bytes()).into_iter();
            let places: Vec<_> = places.map(|place| (place.start, place.end)).collect();
            assert_eq!(places, expected, "{text}");
        }
    }

    #[test]
    fn every_field_is_a_secret_unless_its_name_tells_that_it_is_public() {
        for name in [
            "OPENAI_API_KEY",
            "personal_access_token",
            "a_field_of_tomorrow",
        ] {
            let nested = json!({"agent_identity": [{name: TOKEN}]});
            assert_eq!(known(&nested).find_places(TOKEN.as_bytes()).len(), 1);
        }
        for name in ["account_id", "email", "last_refresh", "auth_mode"] {
            assert!(known(&json!({name: TOKEN})).parts.is_empty(), "{name}");
        }
        let mut damaged = KnownValues::default();
        damaged.add_login(format!("{{\"refresh_token\": \"{TOKEN}").as_bytes());
        assert_eq!(damaged.find_places(TOKEN.as_bytes()).len(), 1);
    }

    #[test]
    fn what_all_tokens_share_is_no_secret() {
        let header = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9";
        let payload = format!("eyJ{TOKEN}");
        let values = known(&json!({"access_token": format!("{header}.{payload}.{TOKEN}")}));
        let find = |text: &str| values.find_places(text.as_bytes()).len();
        assert_eq!(find(&format!("{header}.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x")), 0);
        assert_eq!(find(&payload), 1);
        assert_eq!(find(&format!("{}.{}", &header[26..], &payload[..9])), 1);
        let zeros = "0".repeat(64);
        assert_eq!(
            known(&json!({"x": zeros}))
                .find_places(zeros.as_bytes())
                .len(),
            0
        );
    }
}
