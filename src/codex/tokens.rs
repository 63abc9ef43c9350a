//! The forms of tokens and keys, in one table.
//!
//! [`find_token`] looks for a reason not to copy a file, so a match also has to prove that it is no name,
//! placeholder (`sk-your-key-here`, `ghp_xxxx…`) or example. [`redact`] replaces every match, because a message
//! loses little by it.

use super::auth;
use regex::{Captures, Regex, bytes};
use std::iter;
use std::ops::Range;
use std::sync::LazyLock;

/// A form of a token or key.
struct TokenForm {
    /// The description, with its article.
    name: &'static str,
    /// Matches a word, or the words of a key, from its beginning. It is in ASCII and matches only ASCII.
    pattern: &'static str,
    /// Tells a token from other text that matches.
    is_token: fn(&[u8]) -> bool,
}

const FORMS: [TokenForm; 10] = [
    TokenForm {
        name: "an API key",
        pattern: r"sk-[A-Za-z0-9_-]{29,}",
        is_token: is_random,
    },
    TokenForm {
        name: "a refresh token",
        pattern: r"rt_[A-Za-z0-9_-]{29,}",
        is_token: is_random,
    },
    TokenForm {
        name: "a GitHub token",
        pattern: r"(?:gh[opusr]_|github_pat_)[A-Za-z0-9_-]{36,}",
        is_token: is_random,
    },
    TokenForm {
        name: "a GitLab token",
        pattern: r"glpat-[A-Za-z0-9_-]{16,}",
        is_token: is_random,
    },
    TokenForm {
        name: "an AWS key",
        pattern: r"(?:AKIA|ASIA)[A-Za-z0-9_-]{16,}",
        is_token: is_aws_key,
    },
    TokenForm {
        name: "a Google key",
        pattern: r"AIza[A-Za-z0-9_-]{35,}",
        is_token: |word| word.len() == 39 && is_random(&word[4..]),
    },
    TokenForm {
        name: "a Slack token",
        pattern: r"xox[abeprs]-[A-Za-z0-9_-]{16,}",
        is_token: is_random,
    },
    TokenForm {
        name: "a private key",
        pattern: r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
        is_token: |_| true,
    },
    TokenForm {
        name: "a login token",
        pattern: r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{16,}",
        is_token: has_login_claims,
    },
    // Between the first line and the key material: escaped newlines of JSON, marks of quotes and comments,
    // PEM headers such as `Proc-Type: 4,ENCRYPTED`.
    TokenForm {
        name: "a private key",
        pattern: r#"PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|[ \t\r\n"'#>+|])*(?:(?:[ -~\t]*:[ -~\t\r]*)?\n){0,5}[A-Za-z0-9+/=]{40,}"#,
        is_token: |_| true,
    },
];

/// Matches words that may be tokens, for [`redact`]: anything that begins like a JWT or like a token of OpenAI.
const POSSIBLE_TOKEN: &str =
    r"eyJ[A-Za-z0-9_.+/=-]{6,}|(?:sk|rt|at|sess)[-_.][A-Za-z0-9_.+/=-]{6,}";

/// Matches long opaque words, for [`redact`].
const OPAQUE_WORD: &str = r"[A-Za-z0-9_+-]{40,}=*(?:\.[A-Za-z0-9_+=-]+)*";

/// Matches long words that are no tokens: names of rollouts, and words joined by hyphens.
const HARMLESS_WORD: &str = r"^(?:rollout-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z]{1,16}(?:[-_][a-z]{1,16})+)(?:\.[a-z]{1,5}){0,2}$";

/// The replacement of a token in text.
pub(super) const REPLACEMENT: &str = "[redacted]";

/// The compiled patterns of [`FORMS`]. All patterns are constant and tested, so none is `None`.
static FORM_PATTERNS: LazyLock<[Option<bytes::Regex>; FORMS.len()]> = LazyLock::new(|| {
    FORMS
        .each_ref()
        .map(|form| bytes::Regex::new(form.pattern).ok())
});

/// Matches what [`redact`] replaces.
static ANY_TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let forms = FORMS.each_ref().map(|form| form.pattern).join("|");
    let any = format!(r"(?-u:\b)(?:{POSSIBLE_TOKEN}|{forms})|{OPAQUE_WORD}");
    Regex::new(&any).ok()
});

static HARMLESS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(HARMLESS_WORD).ok());

/// Returns the description of the first token or key in a text.
pub(crate) fn find_token(text: &[u8]) -> Option<&'static str> {
    let mut forms = FORMS.iter().zip(FORM_PATTERNS.iter());
    let found = forms.find(|(form, pattern)| {
        let pattern = pattern.as_ref();
        pattern.is_none_or(|pattern| contains_token(text, pattern, form.is_token))
    });
    found.map(|(form, _)| form.name)
}

/// Returns true if a match that begins a word is a token. A rejected match may contain the beginning of a token,
/// so the search continues behind its first word.
fn contains_token(text: &[u8], pattern: &bytes::Regex, is_token: fn(&[u8]) -> bool) -> bool {
    let mut from = 0;
    while let Some(found) = pattern.find_at(text, from) {
        let is_inside_word = text[..found.start()]
            .last()
            .is_some_and(|byte| is_word_byte(*byte));
        if !is_inside_word && is_token(found.as_bytes()) {
            return true;
        }
        let word = text[found.start()..]
            .iter()
            .take_while(|byte| is_word_byte(**byte));
        from = found.start() + word.count();
    }
    false
}

/// Replaces possible tokens in a text.
pub(super) fn redact(text: &str) -> String {
    let replacement = |found: &Captures<'_>| {
        let is_harmless = HARMLESS
            .as_ref()
            .is_some_and(|word| word.is_match(&found[0]));
        if is_harmless {
            found[0].to_owned()
        } else {
            REPLACEMENT.to_owned()
        }
    };
    // Without the pattern, an empty text is the safe result.
    let pattern = ANY_TOKEN.as_ref();
    pattern.map_or(String::new(), |any| {
        any.replace_all(text, replacement).into_owned()
    })
}

/// Returns the places of the tokens and keys that [`find_token`] finds. They may overlap.
pub(super) fn token_places(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (form, pattern) in FORMS.iter().zip(FORM_PATTERNS.iter()) {
        let Some(pattern) = pattern else {
            // Without the pattern, an empty text is the safe result.
            return iter::once(0..text.len()).collect();
        };
        let mut from = 0;
        while let Some(token) = pattern.find_at(bytes, from) {
            let is_inside_word = token.start() > 0 && is_word_byte(bytes[token.start() - 1]);
            if is_inside_word || !(form.is_token)(token.as_bytes()) {
                let word = bytes[token.start()..].iter();
                from = token.start() + word.take_while(|b| is_word_byte(**b)).count().max(1);
                continue;
            }
            let end = end_of_secret(text, token.end());
            found.push(token.start()..end);
            from = end;
        }
    }
    found
}

/// Returns the end of a token or key of which the form matches only the beginning: a private key goes on for
/// several lines, and some tokens have parts after a dot.
fn end_of_secret(text: &str, end: usize) -> usize {
    let is_secret = |c: char| c.is_ascii_alphanumeric() || "-_.+/=".contains(c);
    let secret_len = |text: &str| text.find(|c| !is_secret(c)).unwrap_or(text.len());
    // Line breaks may be escaped.
    let line_break = |text: &str| {
        let next = text.trim_start_matches("\\n");
        text.len() - next.trim_start_matches(['\r', '\n', ' ', '\t']).len()
    };
    let mut end = end;
    loop {
        end += secret_len(&text[end..]);
        let gap = line_break(&text[end..]);
        let line = &text[end + gap..];
        let len = secret_len(line);
        let is_last = line[len + line_break(&line[len..])..].starts_with("-----END");
        if gap == 0 || len < 40 && !(len > 0 && is_last) {
            return end;
        }
        end += gap + len;
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Returns true if a part of the word is long and mixes letter cases and digits.
fn is_random(word: &[u8]) -> bool {
    let mut parts = word.split(|byte| matches!(byte, b'-' | b'_'));
    parts.any(|part| {
        let has = |of: fn(&u8) -> bool| part.iter().any(of);
        part.len() >= 16
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_digit)
    })
}

/// Matches AWS keys, except the documented example, which ends in `EXAMPLE`.
fn is_aws_key(word: &[u8]) -> bool {
    let rest = &word[4..];
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    rest.len() == 16
        && rest.iter().all(plain)
        && rest.iter().any(u8::is_ascii_digit)
        && !rest.ends_with(b"EXAMPLE")
}

/// Returns true if a JWT has an expiry or an issuer; JWTs of textbooks have neither.
fn has_login_claims(jwt: &[u8]) -> bool {
    let claims = std::str::from_utf8(jwt).ok().and_then(auth::claims);
    claims.is_some_and(|claims| claims.get("exp").or(claims.get("iss")).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `len` mixed letters and digits.
    fn random(len: usize) -> String {
        let all = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z";
        all.chars().cycle().take(len).collect()
    }

    fn jwt(claims: &str) -> String {
        use base64::Engine;
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part("{\"alg\":\"RS256\"}"),
            part(claims),
            random(43)
        )
    }

    #[test]
    fn tokens_and_keys_are_found_anywhere_in_a_text() {
        let base64 = random(64);
        for (token, what) in [
            (format!("sk-proj-{}_{}", random(40), random(30)), "API key"),
            (format!("sk-{}", random(48)), "API key"),
            (format!("rt_{}.{}", random(43), random(20)), "refresh token"),
            (format!("ghp_{}", random(36)), "GitHub"),
            (
                format!("github_pat_{}_{}", random(22), random(59)),
                "GitHub",
            ),
            ("AKIAQ3EGRZ7K2N5MXW4T".to_owned(), "AWS"),
            (format!("xoxb-123456789012-{}", random(24)), "Slack"),
            (format!("glpat-{}", random(20)), "GitLab"),
            (format!("AIza{}", random(35)), "Google"),
            (jwt("{\"exp\":1,\"sub\":\"x\"}"), "login"),
            (format!("eyJ.{}", jwt("{\"iss\":\"x\"}")), "login"),
            (
                format!("-----BEGIN PRIVATE KEY-----\n{base64}\n"),
                "private key",
            ),
            (
                format!("-----BEGIN RSA PRIVATE KEY-----\\n{base64}"),
                "private key",
            ),
            (
                format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{base64}"),
                "private key",
            ),
        ] {
            let redacted = redact(&format!("x {token} y"));
            let part = &random(31)[16..];
            assert!(!redacted.contains(part), "{redacted}");
            for text in [
                token.clone(),
                format!("# Setup\n\nexport KEY={token}\nand so on\n"),
                format!("key = \"{token}\""),
                format!("{{\"a\": \"{token}\"}}"),
            ] {
                let found = find_token(text.as_bytes());
                assert!(
                    found.is_some_and(|found| found.contains(what)),
                    "{text}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn matching_time_is_linear() {
        // Quadratic matching would take hours for these texts.
        for part in [
            "eyJ.",
            "eyJ-",
            "PRIVATE KEY-----:",
            "PRIVATE KEY-----\n",
            "sk-",
            "sk- ",
        ] {
            let text = part.repeat((4 << 20) / part.len());
            assert_eq!(find_token(text.as_bytes()), None, "{part:?}");
        }
    }

    #[test]
    fn words_names_and_examples_do_not_match() {
        for text in [
            "the risk-averse task-runner-for-long-hyphenated-names-of-things-v2",
            "sk-your-api-key-goes-here-and-nothing-else-matters",
            "sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "OPENAI_API_KEY=sk-...",
            "rt_the_name_of_some_function_that_is_very_long_indeed_2",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "xoxb-your-token-here",
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAYOURACCESSKEYIDX",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "a file that begins with -----BEGIN OPENSSH PRIVATE KEY----- is never to be committed, whatever it is",
            "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n",
            "eyJ is how a JWT begins",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b",
            "a1b2C3/sk-",
        ] {
            assert_eq!(find_token(text.as_bytes()), None, "{text}");
        }
        let inside = format!("task-{0}risk-{0}", random(40));
        assert_eq!(find_token(inside.as_bytes()), None);
        let textbook = jwt("{\"sub\":\"1234567890\",\"name\":\"John Doe\",\"iat\":1516239022}");
        assert_eq!(find_token(textbook.as_bytes()), None);
    }
}
