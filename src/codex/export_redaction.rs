//! Removes tokens and keys from texts that leave this machine.
//!
//! A reader of an export undoes escapes and base64 easily, so tokens behind them are removed too.

use super::encoded_text::{UnescapedText, base64_texts};
use super::tokens::{REPLACEMENT, find_token, token_places};
use std::ops::Range;

/// Replaces the tokens and keys in a text. Returns the text and their number.
pub(crate) fn redact_found(text: &str) -> (String, usize) {
    let mut found = token_places(text);
    let unescaped = UnescapedText::of(text);
    let mut decoded: Vec<Range<usize>> = base64_texts(&unescaped.text)
        .filter(|(_, hidden)| find_token(hidden).is_some())
        .map(|(place, _)| place)
        .collect();
    if !unescaped.is_original() {
        decoded.extend(token_places(&unescaped.text));
    }
    found.extend(decoded.iter().map(|place| unescaped.original(place)));
    found.sort_by_key(|place| (place.start, place.end));
    let mut redacted = String::with_capacity(text.len());
    let (mut at, mut count) = (0, 0);
    for place in found {
        if place.start >= at {
            redacted.push_str(&text[at..place.start]);
            redacted.push_str(REPLACEMENT);
            count += 1;
        }
        at = at.max(place.end);
    }
    redacted.push_str(&text[at..]);
    (redacted, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `len` mixed letters and digits.
    fn random(len: usize) -> String {
        let all = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z";
        all.chars().cycle().take(len).collect()
    }

    #[test]
    fn found_tokens_are_replaced_as_a_whole_and_counted() {
        let key = format!("sk-proj-{}", random(40));
        let text = format!("a {key} b rt_{}.{} c", random(43), random(20));
        assert_eq!(
            redact_found(&text),
            ("a [redacted] b [redacted] c".to_owned(), 2)
        );
        let lines = format!("{}\n", random(64)).repeat(5);
        let pem = format!(
            "x -----BEGIN PRIVATE KEY-----\n{lines}{}==\n-----END PRIVATE KEY----- y",
            random(22)
        );
        let (redacted, count) = redact_found(&pem);
        assert_eq!(count, 1);
        assert!(!redacted.contains(&random(20)), "{redacted}");
        assert!(
            redacted.starts_with("x ") && redacted.ends_with(" y"),
            "{redacted}"
        );
        for text in [
            "rt.block_on(async)",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b",
            "",
        ] {
            assert_eq!(redact_found(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn tokens_behind_escapes_and_base64_are_replaced() {
        use base64::Engine;
        let key = format!("sk-proj-{}", random(40));
        let base64 = base64::engine::general_purpose::STANDARD.encode(format!("user:{key}\n"));
        for hidden in [
            key.replace('-', r"\u002d"),
            key.replace('-', r"\\u002D"),
            key.replace('-', "&#45;"),
            key.replace('-', "&#x2d;"),
            key.replace('-', "%2D"),
            key.replace('-', r"\-"),
            key.replace("proj", "\u{1b}[31mproj\u{1b}[0m"),
            format!(r"x\n{key}"),
            base64.clone(),
            base64.replace('=', ""),
            format!("/path/{base64}/b?key={base64}"),
            base64.replace('=', r"\u003d"),
        ] {
            let (text, count) = redact_found(&format!("ü {{\"a\": \"{hidden}\"}} ü"));
            let expected = hidden.matches(&base64).count().max(1);
            assert_eq!(count, expected, "{hidden}: {text}");
            assert!(!text.contains(&random(20)), "{hidden}: {text}");
            assert!(!text.contains(&base64[..20]), "{hidden}: {text}");
            assert!(
                text.starts_with("ü {\"a\": \"") && text.ends_with("\"} ü"),
                "{text}"
            );
        }
    }

    #[test]
    fn encoded_text_without_tokens_is_kept() {
        for text in [
            r"C:\users\new \u00e4 \u002d 100% &amp; &#45;",
            "aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxkLCBoZWxsbyB3b3JsZA==",
            "\u{1b}[32mok\u{1b}[0m",
        ] {
            assert_eq!(redact_found(text), (text.to_owned(), 0));
        }
    }
}
