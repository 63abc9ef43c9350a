//! Makes text of Codex and servers safe to print: removes tokens and control characters, limits the
//! length.
//!
//! Codex includes the body of a failed request in its error message, and that body may repeat the
//! token of the request.

use super::tokens::{REPLACEMENT, redact};
use regex::Regex;
use std::ffi::OsString;
use std::sync::LazyLock;

/// The longest printed message, in characters.
const MAX_CHARS: usize = 300;

/// Matches a name that marks its value as secret, and the value.
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)((?:token|secret|password|passwd|api[_-]?key|authorization|cookie)\\?"?\s*[:=]\s*\\?"?(?:bearer\s+|basic\s+)?|bearer\s+)[^\s"'\\,;}&]+"#,
    )
    .ok()
});

/// Returns `text` on one line, without possible tokens. Of more than 300 characters the middle is left out:
/// a chain of errors ends with its cause.
pub(crate) fn printable(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // The patterns are constant and tested, so this does not happen. An empty text is the safe result.
    line = NAMED.as_ref().map_or(String::new(), |pattern| {
        pattern.replace_all(&line, "${1}[redacted]").into_owned()
    });
    line = redact(&line);
    let count = line.chars().count();
    if count > MAX_CHARS {
        let begin = line.chars().take(MAX_CHARS / 2);
        let end = line.chars().skip(count - MAX_CHARS / 2);
        line = begin.chain(['…']).chain(end).collect();
    }
    line
}

/// Matches an option whose value is secret, such as `--api-key`.
static SECRET_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^-+[a-z_-]*(?:token|secret|password|passwd|key|authorization|header|cookie)$")
        .ok()
});

/// Matches the user and password in a URL.
static USER_INFO: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"://[^/\s@]+@").ok());

/// Formats a command line without possible tokens. An argument of several words is likely a prompt, and
/// is shown as `[text]`.
pub(crate) fn command_line(arguments: &[OsString]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut value_is_secret = false;
    for (i, argument) in arguments.iter().enumerate() {
        let text = argument.to_string_lossy();
        let has_blanks = text.contains(char::is_whitespace);
        words.push(if value_is_secret && !text.starts_with('-') {
            REPLACEMENT.into()
        } else if i > 0 && has_blanks {
            "[text]".into()
        } else {
            text.clone().into_owned()
        });
        // Without the pattern every value counts as secret.
        value_is_secret = SECRET_WORD
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(&text));
    }
    let line = words.join(" ");
    let line = match USER_INFO.as_ref() {
        Some(pattern) => pattern.replace_all(&line, "://[redacted]@").into_owned(),
        None => String::new(),
    };
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_token_is_redacted() {
        for token in [
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.c2ln",
            "sk-proj-0123456789",
            "sk-mock-0000",
            "rt.acct-alice.f1.2",
            "rt_68c1f0AbCdEf",
            "0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            let text = printable(&format!("GET failed: 503; body={token}, sorry"));
            assert_eq!(text, "GET failed: 503; body=[redacted], sorry", "{token}");
        }
        for text in [
            r#"{"refresh_token":"short","x":1}"#,
            r#"{\"refresh_token\":\"short\"}"#,
            "Authorization: Bearer short",
            "authorization=short",
            "bearer short",
        ] {
            assert!(!printable(text).contains("short"), "{}", printable(text));
        }
    }

    #[test]
    fn a_command_line_shows_neither_secrets_nor_prompts() {
        let shown =
            |words: &[&str]| command_line(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(
            shown(&[
                "/opt/my codex/codex",
                "exec",
                "--json",
                "fix the login of bob"
            ]),
            "/opt/my codex/codex exec --json [text]"
        );
        assert_eq!(
            shown(&[
                "codex",
                "--api-key",
                "hunter2",
                "-c",
                "x.bearer_token=abc",
                "--json"
            ]),
            "codex --api-key [redacted] -c x.bearer_token=[redacted] --json"
        );
        assert_eq!(
            shown(&["codex", "--remote", "wss://bob:pw@host/x"]),
            "codex --remote wss://[redacted]@host/x"
        );
        assert_eq!(shown(&["codex", "sk-proj-0123456789"]), "codex [redacted]");
        // A shell's own script, as in sh -c.
        assert_eq!(
            shown(&["sh", "-c", "TOKEN=abc codex\nexec"]),
            "sh -c [text]"
        );
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn harmless_text_is_kept() {
        let text = "GET http://127.0.0.1:1/backend-api/wham/usage failed: 401 Unauthorized; \
                    body={\"error\":{\"code\":\"token_expired\"}}";
        assert_eq!(printable(text), text);
        for name in [
            "sessions/2026/11/20/rollout-2026-11-20T06-00-00-01a1f789-1a2b-7c3d-8e4f-0123456789ab.jsonl.zst",
            "skills/a-skill-whose-name-says-all-that-it-is-good-for/x.md",
        ] {
            assert_eq!(printable(name), name);
        }
        let token = "rollout-2026-11-20T06-00-00-0123456789abcdef0123456789abcdef0123";
        assert_eq!(printable(token), REPLACEMENT);
    }

    #[test]
    fn output_is_one_line_of_limited_length() {
        assert_eq!(printable("a\n\u{1b}[31mb\tc"), "a [31mb c");
        assert_eq!(
            printable(&"ab ".repeat(1000)).chars().count(),
            MAX_CHARS + 1
        );
        let chain = format!("failed to start: {}: no such table", "in /home ".repeat(50));
        let shown = printable(&chain);
        assert!(shown.starts_with("failed to start: "), "{shown}");
        assert!(shown.ends_with(": no such table"), "{shown}");
    }
}
