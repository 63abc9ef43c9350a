//! Recognizes tokens and keys within a text, by forms that no other text has.
//!
//! Words, names and placeholders (`sk-your-key-here`, `ghp_xxxx…`) do not match: a token has a long part that
//! mixes lower-case and upper-case letters and digits.

use super::auth;
use memchr::memmem;

/// The prefix of a token, its description, and a test for the rest of the word.
type TokenPattern = (&'static str, &'static str, fn(&[u8]) -> bool);

const TOKEN_PATTERNS: &[TokenPattern] = &[
    ("sk-", "an API key", |rest| {
        rest.len() >= 29 && is_random(rest)
    }),
    ("rt_", "a refresh token", |rest| {
        rest.len() >= 29 && is_random(rest)
    }),
    ("ghp_", GITHUB, is_github_token),
    ("gho_", GITHUB, is_github_token),
    ("ghu_", GITHUB, is_github_token),
    ("ghs_", GITHUB, is_github_token),
    ("ghr_", GITHUB, is_github_token),
    ("github_pat_", GITHUB, is_github_token),
    ("glpat-", "a GitLab token", is_random),
    ("AKIA", "an AWS key", is_aws_key),
    ("ASIA", "an AWS key", is_aws_key),
    ("AIza", "a Google key", |rest| {
        rest.len() == 35 && is_random(rest)
    }),
    ("xoxa-", SLACK, is_random),
    ("xoxb-", SLACK, is_random),
    ("xoxe-", SLACK, is_random),
    ("xoxp-", SLACK, is_random),
    ("xoxr-", SLACK, is_random),
    ("xoxs-", SLACK, is_random),
    ("AGE-SECRET-KEY-1", "a private key", |rest| {
        rest.len() == 58
            && rest
                .iter()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    }),
];

const GITHUB: &str = "a GitHub token";
const SLACK: &str = "a Slack token";

/// Returns the description of the first token or key in a text.
pub(crate) fn find_token(text: &[u8]) -> Option<&'static str> {
    let of_forms = TOKEN_PATTERNS.iter().find(|(begin, _, is_one)| {
        let mut words = words_after(text, begin.as_bytes());
        words.any(|rest| is_one(word(rest)))
    });
    let is_jwt = || memmem::find(text, b"eyJ").is_some_and(|at| has_login_jwt(&text[at..]));
    let has_key = || {
        let mut keys = memmem::find_iter(text, "PRIVATE KEY");
        keys.any(|at| is_private_key(&text[at..]))
    };
    match of_forms {
        Some((_, what, _)) => Some(what),
        None if is_jwt() => Some("a login token"),
        None => has_key().then_some("a private key"),
    }
}

/// Returns the text after each occurrence of `begin` at the start of a word.
fn words_after<'a>(text: &'a [u8], begin: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::find_iter(text, begin).filter_map(move |at| {
        let is_apart = at == 0 || !is_word_byte(text[at - 1]);
        is_apart.then(|| &text[at + begin.len()..])
    })
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !is_word_byte(*byte));
    &text[..end.unwrap_or(text.len())]
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

fn is_github_token(rest: &[u8]) -> bool {
    rest.len() >= 36 && is_random(rest)
}

/// Matches AWS keys, except the documented example, which ends in `EXAMPLE`.
fn is_aws_key(rest: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    rest.len() == 16
        && rest.iter().all(plain)
        && rest.iter().any(u8::is_ascii_digit)
        && !rest.ends_with(b"EXAMPLE")
}

/// Returns true if the text contains a JWT with an expiry or an issuer; JWTs of textbooks have neither. Looks
/// at each triple of parts once, so the time is linear.
fn has_login_jwt(text: &[u8]) -> bool {
    let mut words = text.split(|b| !is_word_byte(*b) && *b != b'.');
    words.any(|word| {
        let mut parts = word.split(|b| *b == b'.');
        let mut previous = [parts.next(), parts.next()];
        parts.any(|third| {
            let [first, second] = previous;
            previous = [second, Some(third)];
            let is_one = third.len() >= 16 && first.is_some_and(|part| part.starts_with(b"eyJ"));
            is_one && second.is_some_and(has_login_claims)
        })
    })
}

fn has_login_claims(claims: &[u8]) -> bool {
    let claims = std::str::from_utf8(claims).ok();
    let claims = claims.and_then(|claims| auth::claims(&format!(".{claims}.")));
    claims.is_some_and(|claims| claims.get("exp").or(claims.get("iss")).is_some())
}

/// Returns true if key material follows the first line of a private key, in a text of any kind.
fn is_private_key(text: &[u8]) -> bool {
    const MIN_KEY_CHARS: usize = 40;
    /// Longer than anything between a first line and the key material.
    const MAX_SEARCHED_BYTES: usize = 2048;
    let text = &text[..text.len().min(MAX_SEARCHED_BYTES)];
    let rest = text.strip_prefix(b"PRIVATE KEY").unwrap_or(text);
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let Some(mut rest) = rest.strip_prefix(b"-----") else {
        return false;
    };
    // JSON escapes newlines, and quoted or commented text has a prefix on each line.
    while let Some((first, more)) = rest.split_first() {
        rest = match first {
            b'\\' if more.starts_with(b"n") || more.starts_with(b"r") => &more[1..],
            b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'#' | b'>' | b'+' | b'|' => more,
            _ => break,
        };
    }
    let of_key = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let is_key = |text: &[u8]| text.iter().take_while(of_key).count() >= MIN_KEY_CHARS;
    // Skips PEM headers such as `Proc-Type: 4,ENCRYPTED`.
    let named = rest.split(|b| *b == b'\n').take(6);
    let mut lines = named.skip_while(|line| line.is_empty() || line.contains(&b':'));
    is_key(rest) || lines.next().is_some_and(is_key)
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
