//! Finds secrets in texts by the table `forms.txt`.
//!
//! One pass over a text finds the keywords of all forms. At each keyword, the pattern of its form is tried on at
//! most [`MAX_FORM_BYTES`], so the time is linear in the size of the text, whatever it contains.

use super::checks::{self, FormCheck};
use super::private_key::{find_key_before_footer, find_key_block_end, is_key_footer};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::Regex;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

/// The longest part of a text that a pattern sees. Longer secrets are followed to their end.
const MAX_FORM_BYTES: usize = 1024;

/// The longest part of a text that a pattern of a name with a value sees. It is shorter because texts have many names.
const MAX_NAMED_BYTES: usize = 320;

/// The longest part of a value that is checked.
const MAX_CHECKED_BYTES: usize = 256;

/// The longest part of a value that is checked if it goes on to the end of its line.
const MAX_CHECKED_LINE_BYTES: usize = 4 * 1024;

/// The longest map, from its first key.
const MAX_MAP_BYTES: usize = 64 * 1024;

/// The longest part of a word that precedes a keyword in the word.
const MAX_BEFORE_KEYWORD_BYTES: usize = 64;

/// The rest of a name, an operator, and what may be between them: a type or closing quotes, the name of a value.
const ASSIGN: &str = r#"[A-Za-z0-9_.-]*(?:[ \t]*:?[ \t]{0,4}(?:[A-Za-z&<>?\[\]]+[ \t]{1,4}|[a-z]+)=[ \t]{0,4}|\\{0,4}["'`]?\*{0,2}\]?(?:[ \t]*(?::{0,3}=|[?+.|]{1,2}=|=>|->|:|,|\()(?:\*\*)?[ \t]*(?:[|>][+-]?\s+[+>| ]{0,4})?|>[\s>|+]*|[\s+>|0-9,-]*\\{0,4}["']?[vV]alue\\{0,4}["']?\s{0,4}[:=]\s{0,4}))"#;

/// A value: in quotes up to the closing one, which no backslash precedes, else up to a blank or punctuation.
const VALUE: &str = r#"(?:[bru@]?(?:"{3}|'{3})?(?:"((?:[^"\\\n]|\\[^\sA-Za-z0-9])+)|'((?:[^'\\\n]|\\[^\sA-Za-z0-9])+)|`([^`\n]+))|[bru@]?\\{1,4}(?:"([^"\\\n]+)|'([^'\\\n]+)|`([^`\n]+))|([^\s"'`<>,;&\\)\]}(]+))"#;

/// A word of a command: in quotes up to the closing one, else up to a blank or a mark that ends the command.
const WORD: &str = r#"\\{0,4}(?:"([^"\\\n]+)|'([^'\\\n]+)|([^\s"'\\;|&)]+))"#;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundSecret {
    pub(crate) kind: &'static str,
    pub(crate) place: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// A text in which only secrets are replaced. Placeholders and names are no secrets.
    Document,
    /// A message, in which placeholders and names may be replaced as well.
    Message,
}

/// The place at which a pattern begins, and the extent of the secret, as in `forms.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
enum FormPlace {
    /// At a keyword that begins a word.
    Start,
    /// At the beginning of the word around a keyword.
    Within,
    /// At a keyword, also inside a word.
    Any,
    /// Like `Any`; the secret is the block of lines that begins with the match, or ends with it.
    Block,
    /// Like `Any`; the secret ends with the line or at a quote.
    Line,
    /// Like `Any`; the secret is the rest of the map of YAML or JSON.
    Map,
    /// Like `Any`, unless the keyword continues a word in lower case.
    Name,
}

/// A line of `forms.txt`.
struct SecretForm {
    kind: &'static str,
    place: FormPlace,
    check: FormCheck,
    pattern_text: &'static str,
    /// Compiled when one of its keywords first occurs. `None` for an invalid pattern, which a unit test excludes.
    pattern: OnceLock<Option<Regex>>,
}

struct FormTable {
    forms: Vec<SecretForm>,
    keywords: AhoCorasick,
    /// The index in `forms` of the form of each keyword.
    form_of_keyword: Vec<usize>,
}

/// The forms of secrets in `forms.txt`; `None` if a line of it is malformed, which a unit test excludes.
static TABLE: LazyLock<Option<FormTable>> = LazyLock::new(|| {
    let mut forms = Vec::new();
    let mut keywords: Vec<String> = Vec::new();
    let mut form_of_keyword = Vec::new();
    let lines = include_str!("forms.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [kind, place, check, words, pattern_text, _source] =
            line.split_ascii_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };

        for word in words.split(',') {
            keywords.push(word.replace(r"\x20", " "));
            form_of_keyword.push(forms.len());
        }

        forms.push(SecretForm {
            kind,
            place: place.parse().ok()?,
            check: check.parse().ok()?,
            pattern_text,
            pattern: OnceLock::new(),
        });
    }

    let keywords = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(keywords)
        .ok()?;

    Some(FormTable {
        forms,
        keywords,
        form_of_keyword,
    })
});

/// Returns the secrets in a text, in the order of their ends. Their places begin and end at character boundaries, and
/// may overlap, because a secret may begin before its keyword.
pub(crate) fn find_secrets(text: &[u8], kind: TextKind) -> impl Iterator<Item = FoundSecret> {
    let table = TABLE.as_ref();

    // If the table is malformed, the whole text counts as secret.
    let whole_text = (table.is_none() && !text.is_empty()).then_some(FoundSecret {
        kind: "text",
        place: 0..text.len(),
    });

    let mut last_end = 0;
    let matches = table.into_iter().flat_map(move |table| {
        let hits = table.keywords.find_overlapping_iter(text);
        hits.filter_map(move |hit| {
            // A keyword inside the last secret does not begin another secret.
            if hit.start() < last_end {
                return None;
            }
            let form = &table.forms[table.form_of_keyword[hit.pattern().as_usize()]];
            let place = form.find_secret_at(text, hit.start(), kind)?;
            last_end = place.end;
            Some(FoundSecret {
                kind: form.kind,
                place,
            })
        })
    });

    whole_text.into_iter().chain(matches)
}

impl SecretForm {
    fn compile(&self) -> Option<Regex> {
        let text = self.pattern_text.replace("@ASSIGN", ASSIGN);
        let text = text.replace("@VALUE", VALUE).replace("@WORD", WORD);
        Regex::new(&format!(r"\A(?-u:{text})")).ok()
    }

    /// Returns the place of the secret of this form at the keyword that begins at `at`. `None` if the text there does
    /// not have this form, or is no secret.
    fn find_secret_at(&self, text: &[u8], at: usize, kind: TextKind) -> Option<Range<usize>> {
        let start = match self.place {
            FormPlace::Start if is_inside_word(text, at) => return None,
            FormPlace::Name if continues_word(text, at) => return None,
            FormPlace::Within => find_word_start(text, at)?,
            _ => at,
        };
        if self.check == FormCheck::Message && kind != TextKind::Message {
            return None;
        }
        let max_bytes = if self.check.is_name_with_value() {
            MAX_NAMED_BYTES
        } else {
            MAX_FORM_BYTES
        };
        let searched = &text[start..text.len().min(start + max_bytes)];
        let pattern = self.pattern.get_or_init(|| self.compile());
        let captures = pattern.as_ref()?.captures(searched)?;
        // The first group that matched is the secret; in a pattern without groups, the whole match.
        let matched = captures.iter().skip(1).flatten().next();
        let matched = matched.or(captures.get(0))?.range();
        // A secret that was redacted before stays as it is.
        if searched[matched.start..].starts_with(b"[redacted")
            || self.check.is_name_with_value()
                && checks::has_place_of_line(&searched[..matched.start])
        {
            return None;
        }

        let text_before = &text[..start];
        let value = start + matched.start..start + matched.end;
        let form_match = FormMatch {
            check: self.check,
            is_in_message: kind == TextKind::Message,
            text,
            before: &text[start.saturating_sub(MAX_BEFORE_KEYWORD_BYTES)..value.start],
            value,
        };
        match self.place {
            FormPlace::Block if is_key_footer(text_before) => find_key_before_footer(text_before),
            FormPlace::Block => Some(start..find_key_block_end(text, form_match.value.end)?),
            FormPlace::Map => form_match.find_secret_map(),
            FormPlace::Line => form_match.find_secret_line(),
            _ => form_match.find_secret_value(),
        }
    }
}

/// A part of a text that has the form of a secret. The `find_` methods return the place of the secret, which may be
/// longer than `value`, or `None` if the text is no secret.
struct FormMatch<'t> {
    check: FormCheck,
    is_in_message: bool,
    text: &'t [u8],
    /// The text from up to [`MAX_BEFORE_KEYWORD_BYTES`] before the form to the value.
    before: &'t [u8],
    /// The place of the value that the pattern found, which may be only the beginning of the secret.
    value: Range<usize>,
}

impl FormMatch<'_> {
    /// Returns true if `value` is a secret, as all values in a message are.
    fn is_secret(&self, value: &[u8], after: &[u8]) -> bool {
        self.is_in_message || self.check.accepts(self.before, value, after)
    }

    /// Returns the place of a secret with at least `len` bytes.
    fn place_of_len(&self, len: usize) -> Range<usize> {
        let start = self.value.start;
        start..find_secret_end(self.text, start + len)
    }

    fn find_secret_map(&self) -> Option<Range<usize>> {
        let (before_map, tail) = self.text.split_at(self.value.start);
        let len = map_len(before_map, tail);
        // Also in a message: a map `data:` alone is no secret.
        let is_secret = (self.check).accepts(self.before, &tail[..len], &tail[len..]);
        is_secret.then(|| self.place_of_len(len))
    }

    fn find_secret_line(&self) -> Option<Range<usize>> {
        let start = self.value.start;
        let tail = &self.text[start..];
        // First checks a bounded part: reading each line to its end at every keyword would take quadratic time.
        let checked = &tail[..tail.len().min(MAX_CHECKED_LINE_BYTES)];
        let is_secret = self.is_secret(&checked[..line_value_len(checked)], &[]);
        is_secret.then(|| start..start + line_value_len(tail))
    }

    fn find_secret_value(&self) -> Option<Range<usize>> {
        let start = self.value.start;
        let tail = &self.text[start..];
        if self.check == FormCheck::Password
            && let Some(len) = checks::phrase_len(self.before, tail)
        {
            return Some(start..start + len);
        }
        let find_secret_of_len = |len: usize| {
            let value = &tail[..len.min(MAX_CHECKED_BYTES)];
            // In Markdown, `**` ends bold text.
            let value = value.strip_suffix(b"**").unwrap_or(value);
            self.is_secret(value, &tail[len..])
                .then(|| self.place_of_len(len))
        };
        let len = self.value.len();
        let len_with_punctuation = match self.check {
            FormCheck::Password | FormCheck::Named => unquoted_password_len(self.before, tail),
            _ => len,
        };
        if len_with_punctuation <= len {
            return find_secret_of_len(len);
        }
        let with_punctuation = find_secret_of_len(len_with_punctuation);
        // Without the punctuation, the value may be a password, as in `password=Hunter2xyz<br>`, or the beginning of
        // code, as in `[Password1`. Reading to the end of each value that is code would take quadratic time.
        if with_punctuation.is_some() || checks::has_chars_of_code(&tail[..len]) {
            return with_punctuation;
        }
        find_secret_of_len(len)
    }
}

/// Returns true if `at` is inside a word, not at its beginning. A hyphen at the beginning of a word is not part of it,
/// as in the line `-token` of a diff.
fn is_inside_word(text: &[u8], at: usize) -> bool {
    match &text[..at] {
        [.., byte, b'-'] => byte.is_ascii_alphanumeric() || b"_-".contains(byte),
        [.., byte] => byte.is_ascii_alphanumeric() || *byte == b'_',
        [] => false,
    }
}

/// Returns true if the letters at `at` continue a word: `lob` in `global`, but not in `myLobKey`.
fn continues_word(text: &[u8], at: usize) -> bool {
    let previous_byte = at.checked_sub(1).map_or(b' ', |i| text[i]);
    previous_byte.is_ascii_alphabetic()
        && !(previous_byte.is_ascii_lowercase() && text[at].is_ascii_uppercase())
}

/// Returns the beginning of the word that the keyword at `at` continues. `None` if the keyword begins the word, or if
/// the word begins [`MAX_BEFORE_KEYWORD_BYTES`] or more before it.
fn find_word_start(text: &[u8], at: usize) -> Option<usize> {
    let bytes_before = text[..at].iter().rev().take(MAX_BEFORE_KEYWORD_BYTES);
    let prefix_len = bytes_before
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'~' | b'-'))
        .count();
    (prefix_len > 0 && prefix_len < MAX_BEFORE_KEYWORD_BYTES).then_some(at - prefix_len)
}

/// Returns the length of a map of JSON or YAML that begins with its first key.
fn map_len(before: &[u8], text: &[u8]) -> usize {
    let text = &text[..text.len().min(MAX_MAP_BYTES)];
    if before.trim_ascii_end().ends_with(b"{") {
        json_map_len(text)
    } else {
        yaml_map_len(before, text)
    }
}

fn json_map_len(text: &[u8]) -> usize {
    let (mut is_in_string, mut previous_byte) = (false, b' ');
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if previous_byte != b'\\' => is_in_string = !is_in_string,
            // A string ends with its line at the latest.
            b'\n' => is_in_string = false,
            b'}' if !is_in_string => return at,
            _ => {}
        }
        previous_byte = *byte;
    }
    text.len()
}

/// The map ends before the first line that is indented less than its first key. Lines may begin with line numbers and
/// marks of diffs.
fn yaml_map_len(before: &[u8], text: &[u8]) -> usize {
    let is_indent = |b: &&u8| b" \t>|+-:".contains(b) || b.is_ascii_digit() || !b.is_ascii();
    let line_before = before.iter().rev().take(MAX_FORM_BYTES);
    let key_column = line_before.take_while(|b| **b != b'\n').count();
    let mut line_starts = memchr::memchr_iter(b'\n', text).map(|at| at + 1);
    let is_outside = |at: &usize| {
        let line = &text[*at..];
        let indent = line.iter().take_while(is_indent).count();
        // Empty lines and comments do not end the map. `---` ends it, although it looks like marks of a diff.
        let is_ignored = matches!(line.get(indent), None | Some(b'\n' | b'\r' | b'#'));
        indent < key_column && (!is_ignored || line.starts_with(b"---"))
    };
    let len = line_starts.find(is_outside).unwrap_or(text.len());
    text[..len].trim_ascii_end().len()
}

/// Returns the length of a value up to the end of its line, or to a quote or bracket outside of JSON, so that
/// `state={"i_l":0}` is one value.
fn line_value_len(text: &[u8]) -> usize {
    static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let json = r#"\{\\{0,4}"(?:[^\n{}]|\{[^\n{}]*\})*\}"#;
        Regex::new(&format!(r#"\A(?-u:{json}|[^\n"'`\\{{}}()])*"#)).ok()
    });
    // The pattern is constant and tested, so it is always there.
    let value = VALUE.as_ref().and_then(|value| value.find(text));
    value.map_or(text.len(), |value| value.len())
}

/// Returns the length of an unquoted password with its punctuation, because generated passwords contain punctuation.
/// Zero if the value is in quotes or followed by other arguments.
fn unquoted_password_len(before: &[u8], text: &[u8]) -> usize {
    let is_quote = |b: &u8| b"\"'`\\".contains(b);
    let is_blank = |b: &u8| !b.is_ascii_graphic() || *b == b'\\';
    let text = &text[..text.len().min(MAX_NAMED_BYTES)];
    let value = &text[..text.iter().position(is_blank).unwrap_or(text.len())];
    // In `NAME=value` and `name: value`, all up to the end of the line is the value, also quotes and semicolons. A quote
    // before it would be closed behind it.
    let line = before.rsplit(|b| *b == b'\n').next().unwrap_or(before);
    let operator_at = line.trim_ascii_end().len().saturating_sub(1);
    let is_line = matches!(text.get(value.len()), None | Some(b'\n' | b'\r'))
        && !line.iter().any(is_quote)
        && !line[..operator_at].ends_with(b" ")
        && !line.ends_with(b"(");
    let is_end = |b: &u8| !is_line && (is_quote(b) || *b == b';');
    let value = &value[..value.iter().position(is_end).unwrap_or(value.len())];
    let end_tag = memchr::memmem::find(value, b"</");
    let value = &value[..end_tag.unwrap_or(value.len())];

    // As in `password=…&user=…`.
    let begins_argument = |part: &[u8]| {
        let is_name = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
        let name_len = part.iter().take_while(is_name).count();
        name_len > 0 && matches!(part.get(name_len), Some(b'=' | b':'))
    };
    let mut semicolons = memchr::memchr_iter(b';', value);
    let argument = semicolons.find(|at| begins_argument(&value[at + 1..]));
    let mut value = &value[..argument.unwrap_or(value.len())];
    let mut next_parts = value.split(|b| b"&,?".contains(b)).skip(1);
    if before.last().is_some_and(is_quote) || next_parts.any(begins_argument) {
        return 0;
    }

    // Cuts off the punctuation of the sentence, and a bracket that was opened before the value.
    while let [before_last @ .., last] = value {
        let is_part_of_value = match last {
            b')' => before_last.contains(&b'('),
            b']' => before_last.contains(&b'['),
            b'}' => before_last.contains(&b'{'),
            b'>' => before_last.contains(&b'<'),
            b',' | b'.' | b':' | b'*' | b';' | b'"' | b'\'' | b'`' => false,
            _ => true,
        };
        if is_part_of_value {
            break;
        }
        value = before_last;
    }
    value.len()
}

/// Returns the end of a secret, which is a character boundary. `end` is the end of the match, which may cover only the
/// beginning of the secret.
fn find_secret_end(text: &[u8], end: usize) -> usize {
    let is_secret = |b: &&u8| b.is_ascii_alphanumeric() || b"-_.+/=~".contains(b);
    let end = end + text[end..].iter().take_while(is_secret).count();
    let is_inside_char = |b: &&u8| (0x80..0xc0).contains(*b);
    end + text[end..].iter().take_while(is_inside_char).count()
}

#[cfg(test)]
mod tests {
    use super::super::redact_and_count;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_data_of_a_kubernetes_secret_are_one_secret_wherever_its_kind_is() {
        let entries = |before: &str, after: &str| -> String {
            let entry = |i| format!("{before}KEY_{i}{after}");
            (0..40).map(entry).collect()
        };
        let yaml = entries("  ", ": czNjcjN0UDRzcw==\n");
        let json = entries("\"", "\": \"czNjcjN0UDRzcw==\",\n ");
        for text in [
            format!("kind: Secret\nmetadata:\n  name: app\ndata:\n{yaml}type: Opaque\n"),
            format!("apiVersion: v1\ndata:\n{yaml}kind: Secret\nmetadata:\n  name: app\n"),
            format!("data:\n{yaml}immutable: true\nkind: Secret\n"),
            format!(
                "kind: Secret\ndata:\n  a: x\n\n# more\n{yaml}\n  # last\n{yaml}---\nkind: x\n"
            ),
            format!("data:\n  a: x\n#\n  \n{yaml}kind: Secret\n"),
            format!("{{\"data\": {{\n\"a\": \"b,\n {json}}},\n\"kind\": \"Secret\"}}"),
            format!("{{\"kind\":\"Secret\",\"data\":{{\"a\":\"x\",{json}}},\"type\":\"x\"}}"),
            format!(
                "- apiVersion: v1\n{}  kind: Secret\n",
                format!("data:\n{yaml}").replace("  ", "    ")
            ),
            format!(
                "{{\"data\": {{\n {json}\"b\": \"czNj\"\n}},\n\"kind\": \"Secret\", \"type\": \"x\"}}"
            ),
            format!(
                "{{\"data\":{{{}\"b\":\"{{}}czNj\"}},\"kind\":\"Secret\"}}",
                json.replace(['\n', ' '], "")
            ),
        ] {
            let found: Vec<_> = find_secrets(text.as_bytes(), TextKind::Document).collect();
            let [FoundSecret { place, .. }] = &found[..] else {
                panic!("{found:?}: {text}");
            };
            let kept = format!("{}{}", &text[..place.start], &text[place.end..]);
            assert!(!kept.contains("czNj") && kept.contains("Secret"), "{kept}");
            let other = text.replace("Secret", "ConfigMap");
            assert_eq!(
                find_secrets(other.as_bytes(), TextKind::Document).count(),
                0
            );
        }
    }

    #[test]
    fn data_of_a_kubernetes_secret_beyond_the_limit_end_at_a_character_boundary() {
        for before in ["kind: Secret\ndata:\n  a: bb", "kind: Secret\ndata: {a: bb"] {
            for first in ["", "b"] {
                let text = format!("{before}{first}{}", "ü".repeat(MAX_MAP_BYTES));
                assert_eq!(redact_and_count(&text).1, 1);
            }
        }
    }

    #[test]
    fn all_cookies_of_a_header_are_replaced_if_one_of_them_is_a_secret() {
        const LONG: &str = "q7m2k9v4c1x8b5n3z6l0j2h7";
        let harmless = |count: usize| "_ga_x=GS1.1.1700000000.1.0; pref=on; ".repeat(count);
        for count in [0, 10, 50, 100] {
            let cookies = format!(
                "{}sid={}; {}b={}",
                harmless(count),
                LONG,
                harmless(count),
                LONG
            );
            for (text, expected) in [
                (
                    format!("Cookie: {cookies}\nHost: x"),
                    "Cookie: [redacted]\nHost: x",
                ),
                (
                    format!("-H 'cookie: {cookies}' -v"),
                    "-H 'cookie: [redacted]' -v",
                ),
                (
                    format!("curl x \\\n  -b '{cookies}' -v"),
                    "curl x \\\n  -b '[redacted]' -v",
                ),
                (format!("curl -b sid={LONG} x"), "curl -b [redacted] x"),
                (
                    format!("Cookie: state={{\"i\":{{\"l\":0}}}}; sid={LONG}\nHost: x"),
                    "Cookie: [redacted]\nHost: x",
                ),
                (
                    format!("-H \"Cookie: a=b; g={{\\\"i_l\\\":0}}; {cookies}\" -v"),
                    "-H \"Cookie: [redacted]\" -v",
                ),
            ] {
                assert_eq!(redact_and_count(&text).0, expected);
            }
            let text = format!("Cookie: {}", harmless(count + 1));
            assert_eq!(redact_and_count(&text), (text, 0));
        }
    }

    #[test]
    fn each_form_has_a_pattern_lower_case_keywords_and_a_source() {
        let table = TABLE.as_ref().unwrap();
        let mut kinds = HashSet::new();
        for form in &table.forms {
            assert!(form.compile().is_some(), "{}", form.kind);
            assert!(kinds.insert(form.kind), "{} twice", form.kind);
        }
        let lines = include_str!("forms.txt").lines();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let columns: Vec<_> = line.split_ascii_whitespace().collect();
            assert_eq!(columns.len(), 6, "{line}");
            assert_eq!(columns[3], columns[3].to_ascii_lowercase(), "{line}");
            let source = ["https://", "gitleaks:", "-"].map(|start| columns[5].starts_with(start));
            assert!(source.contains(&true), "{line}");
        }
    }
}
