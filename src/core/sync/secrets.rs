//! Recognizes logins and keys, by name and by content.
//!
//! A file that is excluded by mistake is an inconvenience; a login that is copied gives an account away. So
//! copies of a login under any name that editors, clients and users choose count as logins.

use crate::codex::redaction::{self, SecretInText};
use crate::codex::{database, home};
use crate::io::file_open;
use memchr::memmem;
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

/// The byte order mark that some editors write before a text.
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

const LOGIN_REASON: &str = "a login is never synced";
const KEY_REASON: &str = "a key is never synced";

/// Files of this size or larger are only searched for tokens, not parsed.
const MAX_PARSED_BYTES: u64 = 1 << 20;

/// Upper bound for Codex logins, which have some thousand bytes.
const MAX_LOGIN_BYTES: u64 = 64 * 1024;

/// Overlap of two windows in bytes, so that a token that begins in one window and ends in the next is found.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Suffixes that editors and users add to the name of a copy.
const COPY_SUFFIXES: &[&str] = &[
    ".bak",
    ".backup",
    ".old",
    ".orig",
    ".save",
    ".saved",
    ".copy",
    ".tmp",
    ".swp",
    ".swo",
    ".new",
    ".disabled",
    ".gz",
    ".zst",
    "~",
    " copy",
];

/// Files that contain a login of a known program.
const LOGIN_NAMES: &[&str] = &[
    "credentials",
    "credentials.json",
    ".credentials",
    ".credentials.json",
    ".git-credentials",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".npmrc",
    ".pypirc",
    ".env",
    ".envrc",
    ".htpasswd",
];

/// Folders that contain logins and keys.
const SECRET_FOLDERS: &[&str] = &[".ssh", ".gnupg", ".aws", "mcp-oauth"];

const KEY_NAMES: &[&str] = &["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];

/// Extensions of key files. `.age`: exports with logins, and age identities.
const KEY_EXTENSIONS: &[&str] = &[
    ".key",
    ".pem",
    ".p12",
    ".pfx",
    ".ppk",
    ".age",
    ".jks",
    ".kdbx",
    ".keystore",
];

/// Strips the suffixes of copies from a lower-case name: `auth.json.bak`, `state_5.sqlite (1)~`.
pub(super) fn strip_copy_marks(name: &str) -> &str {
    let mut name = name;
    loop {
        match strip_copy_mark(name) {
            Some(shorter) if !shorter.is_empty() => name = shorter,
            _ => return name,
        }
    }
}

/// Strips one suffix of a copy, such as `.bak`, ` (1)` or `-2`.
fn strip_copy_mark(name: &str) -> Option<&str> {
    let mut suffixes = COPY_SUFFIXES.iter();
    if let Some(stem) = suffixes.find_map(|suffix| name.strip_suffix(suffix)) {
        return Some(stem);
    }
    let before_parenthesis = name.strip_suffix(')');
    if let Some((stem, _)) = before_parenthesis.and_then(|name| name.rsplit_once(" (")) {
        return Some(stem);
    }
    let without_digits = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if without_digits == name {
        return None;
    }
    without_digits.strip_suffix(['.', '-', '_', ' '])
}

/// Returns the reason if a file is never synced because its name is that of a login or key; otherwise `None`. `path` is
/// in lower case.
pub fn reason_to_refuse_name(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if path.split('/').any(|part| SECRET_FOLDERS.contains(&part)) {
        return Some(LOGIN_REASON);
    }

    if name.starts_with("rollout-") && name.strip_suffix(".jsonl").is_some() {
        // Fast path: most files of a home are rollouts.
        return None;
    }

    let bare = strip_copy_marks(name);
    let token_names = ["tokens.json", "token.json"];
    if has_stem_and_extension(name, "auth", ".json")
        || LOGIN_NAMES.contains(&bare)
        || token_names.contains(&bare)
        || is_environment_file(bare)
        || name.starts_with(".auth-")
        || name.contains("-codex.tar")
    {
        return Some(LOGIN_REASON);
    }

    let is_key = KEY_EXTENSIONS.iter().any(|end| bare.ends_with(end)) || KEY_NAMES.contains(&bare);
    is_key.then_some(KEY_REASON)
}

/// Returns true if `name` has the word `stem` and `extension` somewhere behind it, or `stem` directly before
/// `extension`. With `auth` and `.json`: `me_auth.json.bak`, `auth-work.json` and `auth (1).json`, but not
/// `author.json`.
pub(super) fn has_stem_and_extension(name: &str, stem: &str, extension: &str) -> bool {
    name.match_indices(stem).any(|(index, _)| {
        let (before, after) = (&name[..index], &name[index + stem.len()..]);
        let is_word = |c: char| c.is_alphanumeric();
        let is_separate = !before.ends_with(is_word) && !after.starts_with(is_word);
        after.starts_with(extension) || (is_separate && after.contains(extension))
    })
}

/// Matches `.env.local` and the like, but not examples meant to be shared.
fn is_environment_file(name: &str) -> bool {
    let examples = ["example", "sample", "template", "dist"];
    name.strip_prefix(".env.")
        .is_some_and(|kind| !examples.contains(&kind))
}

/// A reason not to sync a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSecret {
    /// The whole file is a login or a key.
    Whole(&'static str),
    InText(SecretInText),
    /// A rollout whose metadata have another id than its name.
    OtherConversation,
}

impl fmt::Display for FileSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(what) => write!(f, "it contains what looks like {what}"),
            Self::InText(SecretInText { kind, line }) => {
                write!(
                    f,
                    "it contains what looks like a secret ({kind}) in line {line}"
                )
            }
            Self::OtherConversation => {
                f.write_str("its first line has the id of another conversation")
            }
        }
    }
}

/// Searches a file for secrets like [`find_secret_in_text`]. Does not follow a link. Also finds a database and the files
/// beside it: two machines cannot share one, whatever its name.
///
/// # Errors
/// The file cannot be read.
pub(super) fn find_secret_in_file(path: &Path) -> io::Result<Option<FileSecret>> {
    let file = file_open::open_no_link(path)?;
    let size = file.metadata()?.len();
    let database_beside = home::database_of_sidecar(path);
    if database::is_database(path)
        || database_beside.is_some_and(|path| database::is_database(&path))
    {
        return Ok(Some(FileSecret::Whole("a database, or a part of one")));
    }
    find_secret_in_text(file, size)
}

/// Returns [`FileSecret::Whole`] if a content of `size` bytes is a login or a key. Otherwise returns the first secret
/// in its text. A content of [`MAX_PARSED_BYTES`] or more is only searched for secrets in its text.
pub(super) fn find_secret_in_text(from: impl Read, size: u64) -> io::Result<Option<FileSecret>> {
    if size < MAX_PARSED_BYTES {
        let bytes = read_parsable(from, size)?;
        let whole = classify_whole_secret(&bytes).map(FileSecret::Whole);
        return Ok(whole.or_else(|| find_secret(bytes).map(FileSecret::InText)));
    }
    let secret = find_secret_in_windows(from, MAX_PARSED_BYTES)?;
    Ok(secret.map(FileSecret::InText))
}

/// Searches a text of any size, `window` bytes at a time.
fn find_secret_in_windows(mut from: impl Read, window: u64) -> io::Result<Option<SecretInText>> {
    let mut bytes = Vec::new();
    let mut lines_before = 0;
    loop {
        let overlap = bytes.len();
        let read_bytes = from.by_ref().take(window).read_to_end(&mut bytes)?;

        // A token at the end of the window may continue in the next one. So the next window begins with the last bytes
        // of this one, from the first white space among them on if there is one, so that no word is cut.
        let last_bytes_start = bytes.len().saturating_sub(MAX_TOKEN_BYTES);
        let mut last_bytes = bytes[last_bytes_start..].iter();
        let white_space = last_bytes.position(u8::is_ascii_whitespace);
        let next_start = last_bytes_start + white_space.unwrap_or(0);
        let next_bytes = bytes[next_start..].to_vec();

        // A window without new bytes was searched before, unless it is the first one.
        let has_new_bytes = read_bytes > 0 || overlap == 0;
        let text = std::mem::replace(&mut bytes, next_bytes);
        let passed_lines = memchr::memchr_iter(b'\n', &text[..next_start]).count();

        if has_new_bytes && let Some(secret) = find_secret(text) {
            let line = lines_before + secret.line;
            return Ok(Some(SecretInText { line, ..secret }));
        }

        lines_before += passed_lines;
        if read_bytes == 0 {
            return Ok(None);
        }
    }
}

/// Searches a text in UTF-8 or in UTF-16, which some editors write.
fn find_secret(mut bytes: Vec<u8>) -> Option<SecretInText> {
    let secret = redaction::find_secret(&bytes);
    if secret.is_some() || !bytes.contains(&0) {
        return secret;
    }
    // In UTF-16, each byte of an ASCII text has a zero beside it.
    bytes.retain(|b| *b != 0);
    redaction::find_secret(&bytes)
}

/// Returns true if a file is a Codex login and nothing else, whatever its name.
///
/// # Errors
/// The file cannot be read.
pub(super) fn is_login(path: &Path) -> io::Result<bool> {
    let file = file_open::open_no_link(path)?;
    if file.metadata()?.len() > MAX_LOGIN_BYTES {
        return Ok(false);
    }

    let mut bytes = Vec::new();
    file.take(MAX_LOGIN_BYTES).read_to_end(&mut bytes)?;
    let text = bytes.strip_prefix(UTF8_BOM).unwrap_or(&bytes);
    let Ok(Value::Object(login)) = serde_json::from_slice(text) else {
        return Ok(false);
    };

    let tokens = [
        "access_token",
        "refresh_token",
        "id_token",
        "OPENAI_API_KEY",
    ];
    let has_token = |fields: &Map<String, Value>| {
        let mut values = tokens.iter().filter_map(|name| fields.get(*name)?.as_str());
        values.any(|value| !value.is_empty())
    };

    let nested_fields = login.get("tokens").and_then(Value::as_object);
    Ok(has_token(&login) || nested_fields.is_some_and(has_token))
}

/// Returns [`FileSecret::Whole`] if a content of `size` bytes is a login or a key: a JSON file with a token, a private
/// key, an export. `None` for other contents, and for a content of [`MAX_PARSED_BYTES`] or more, which is not read.
pub(super) fn find_whole_secret(from: impl Read, size: u64) -> io::Result<Option<FileSecret>> {
    Ok(classify_whole_secret(&read_parsable(from, size)?).map(FileSecret::Whole))
}

/// Reads a content if its `size` is below [`MAX_PARSED_BYTES`]; else returns no bytes.
fn read_parsable(from: impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if size < MAX_PARSED_BYTES {
        bytes.reserve_exact(usize::try_from(size).unwrap_or(0));
        from.take(MAX_PARSED_BYTES).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Returns the kind of a file that is a secret as a whole. `None` if only a part of the file can be a secret.
fn classify_whole_secret(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(UTF8_BOM).unwrap_or(bytes);
    let text = text.trim_ascii_start();
    let first_line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let is_private_key = first_line.starts_with(b"-----BEGIN ")
        && memmem::find(first_line, b"PRIVATE KEY-----").is_some();
    let is_age_file = first_line.starts_with(b"AGE-SECRET-KEY-")
        || first_line.starts_with(b"age-encryption.org/");
    if is_private_key || is_age_file {
        return Some("a key");
    }

    let is_json = text.starts_with(b"{") || text.starts_with(b"[");
    let names: [&[u8]; 3] = [
        b"\"refresh_token\"",
        b"\"access_token\"",
        b"\"OPENAI_API_KEY\"",
    ];
    let has_token = is_json && names.iter().any(|name| has_text_value(text, name));
    has_token.then_some("a login")
}

/// Returns true if the quoted `name` is a JSON key with a non-empty string as its value.
fn has_text_value(text: &[u8], name: &[u8]) -> bool {
    memmem::find_iter(text, name).any(|index| {
        let after_name = text[index + name.len()..].trim_ascii_start();
        let value = after_name.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| value.starts_with(b"\"") && !value.starts_with(b"\"\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_keys_are_recognized_by_name_in_any_copy() {
        for path in [
            ".credentials.json",
            "auth.json.bak",
            "auth.json~",
            "auth-work.json",
            "auth (1).json",
            "me_auth.json.bak",
            ".auth.json.swp",
            "oauth.json",
            ".env",
            ".env.local",
            "skills/x/.netrc",
            "key.age",
            "x.pem.old",
            "id_ed25519.bak",
            "mcp-oauth/tokens.json",
            "backups/2026-11-01-100000-me@x.com-codex.tar.gz",
        ] {
            assert!(reason_to_refuse_name(path).is_some(), "{path}");
        }
        for path in [
            "author.json",
            "skills/auth/skill.md",
            "skills/x/authors.json",
            "skills/x/.env.example",
            "agents.md",
            "skills/x/keys.md",
            "history.jsonl",
            "sessions/2026/11/18/rollout-2026-11-18t10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl",
        ] {
            assert_eq!(reason_to_refuse_name(path), None, "{path}");
        }
    }

    #[test]
    fn tokens_are_found_in_texts_of_any_size_and_in_utf_16() {
        let token = format!("sk-proj-{}", "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z");
        let wide = |text: &str| text.bytes().flat_map(|b| [b, 0]).collect::<Vec<u8>>();
        for before in [0, 10, 90, 95, 99, 100, 101, 199, 1000] {
            let text = format!("{}{token}{}", "a ".repeat(before), " b".repeat(500));
            for bytes in [text.clone().into_bytes(), wide(&text)] {
                let found = find_secret_in_windows(&*bytes, 100).unwrap();
                assert_eq!(
                    found.map(|found| found.kind),
                    Some("openai-key"),
                    "{before}"
                );
            }
        }
        // A token that begins within a word does not count.
        let text = format!("{}a{token}", "x".repeat(5 * MAX_TOKEN_BYTES));
        assert_eq!(find_secret_in_windows(text.as_bytes(), 100).unwrap(), None);
        assert_eq!(find_secret_in_windows(&b""[..], 100).unwrap(), None);
        let large = "line\n".repeat(300_000) + &token;
        let found = find_secret_in_text(large.as_bytes(), large.len() as u64).unwrap();
        let expected = FileSecret::InText(SecretInText {
            kind: "openai-key",
            line: 300_001,
        });
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn a_renamed_login_is_recognized_by_its_content() {
        let find = |text: &str| find_whole_secret(text.as_bytes(), text.len() as u64).unwrap();
        for text in [
            r#"{"tokens":{"refresh_token" : "rt"}}"#,
            "\u{feff}\n[{\"access_token\":\"a",
            r#"{"OPENAI_API_KEY":"k"}"#,
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
            "age-encryption.org/v1\n",
        ] {
            assert!(find(text).is_some(), "{text}");
        }
        for text in [
            "",
            r#"{"OPENAI_API_KEY":null,"refresh_token":""}"#,
            r#"{"properties":{"access_token":{"type":"string"}}}"#,
            "# notes\n\"refresh_token\": \"x\"",
            "-----BEGIN CERTIFICATE-----\n",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
