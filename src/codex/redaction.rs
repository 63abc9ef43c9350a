//! Text of others made fit to print: no token, no control character, no end of page.
//!
//! Codex puts the body of a failed request into its error message, and a server may echo there
//! what it was sent.

use regex::Regex;
use std::sync::LazyLock;

/// What is left of a message, in characters.
const MAX_CHARS: usize = 300;

const REPLACEMENT: &str = "[redacted]";

/// A name that says its value is secret, up to the value.
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)((?:token|secret|password|passwd|api[_-]?key|authorization|cookie)\\?"?\s*[:=]\s*\\?"?(?:bearer\s+|basic\s+)?|bearer\s+)[^\s"'\\,;}&]+"#,
    )
    .ok()
});

/// What looks like a token by itself: a JWT, an API key, a refresh token, a long opaque word.
static SHAPED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"\beyJ[A-Za-z0-9_.+/=-]{6,}|\b(?:sk|rt|at|sess)[-_.][A-Za-z0-9_.+/=-]{6,}|[A-Za-z0-9_+-]{40,}=*(?:\.[A-Za-z0-9_+=-]+)*",
    )
    .ok()
});

/// `text` on one line, without anything that may be a token, cut to a readable length.
pub fn printable(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    for (pattern, with) in [(&NAMED, "${1}[redacted]"), (&SHAPED, REPLACEMENT)] {
        line = match pattern.as_ref() {
            Some(pattern) => pattern.replace_all(&line, with).into_owned(),
            // Unreachable with a pattern that the tests use; nothing is the safe answer.
            None => String::new(),
        };
    }
    if line.chars().count() > MAX_CHARS {
        line = line.chars().take(MAX_CHARS).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_token_comes_through() {
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
    fn what_helps_is_kept() {
        let text = "GET http://127.0.0.1:1/backend-api/wham/usage failed: 401 Unauthorized; \
                    body={\"error\":{\"code\":\"token_expired\"}}";
        assert_eq!(printable(text), text);
    }

    #[test]
    fn text_is_one_line_of_bounded_length() {
        assert_eq!(printable("a\n\u{1b}[31mb\tc"), "a [31mb c");
        assert_eq!(
            printable(&"ab ".repeat(1000)).chars().count(),
            MAX_CHARS + 1
        );
    }
}
