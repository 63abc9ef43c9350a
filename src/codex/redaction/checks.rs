//! Tells secrets from placeholders, names and code that have the same form.

use memchr::memmem;
use serde::Deserialize;

/// The shortest value that counts as random.
pub(super) const MIN_RANDOM_BYTES: usize = 16;

/// Only the beginning of a value is searched for words of placeholders.
const MAX_PLACEHOLDER_BYTES: usize = 80;

/// Words of placeholders, in lower case.
const PLACEHOLDERS: &str =
    "example xxxxx placeholder changeme change_me redacted ... **** dummy insert ____ …";

/// The condition for a match in a document to be a secret. In a message every match is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FormCheck {
    Any,
    /// Anything but a placeholder.
    Real,
    /// Anything but placeholders and words, joined or not.
    Varied,
    /// A value with a part of at least 16 bytes that is `Varied`; `=`, `;` and blanks separate the parts.
    Random,
    /// A password as a person may choose it: no word, variable or placeholder.
    Human,
    /// The password in a URL, however simple.
    Url,
    /// A value whose name marks it as secret.
    Named,
    /// A value with a name such as `password`.
    Password,
    /// A value with the name of a provider.
    Provider,
    /// Any value in a message; no value elsewhere.
    Message,
}

impl FormCheck {
    /// Returns true if the form is a name with a value.
    pub(super) fn has_name(self) -> bool {
        matches!(self, Self::Password | Self::Named | Self::Provider)
    }

    /// Returns true if `value` is a secret, judged with the texts `before` and `after` it.
    pub(super) fn accepts(self, before: &[u8], value: &[u8], after: &[u8]) -> bool {
        match self {
            Self::Any | Self::Message => true,
            Self::Real => !is_placeholder(value),
            Self::Varied => !is_placeholder(value) && looks_random(value),
            Self::Random => {
                let mut parts = value.split(|b| matches!(b, b'=' | b';' | b' '));
                parts.any(|part| {
                    part.len() >= MIN_RANDOM_BYTES && Self::Varied.accepts(before, part, after)
                })
            }
            Self::Human => is_human_password(password_part(value)),
            Self::Url => is_url_password(password_part(value)),
            Self::Password | Self::Named | Self::Provider => {
                NamedValue::new(before, value, after).is_secret(self)
            }
        }
    }
}

/// Returns the password of `user:password`, or the whole value if it has no colon.
fn password_part(value: &[u8]) -> &[u8] {
    value.rsplit(|b| *b == b':').next().unwrap_or(value)
}

fn is_placeholder(value: &[u8]) -> bool {
    // A long random value contains such a word by chance.
    let beginning = &value[..value.len().min(MAX_PLACEHOLDER_BYTES)];
    contains_any(beginning, PLACEHOLDERS)
        || contains_your(beginning)
        || value
            .chunk_by(|a, b| a == b)
            .any(|run| run.len() >= 8 && !b"A/".contains(&run[0]))
}

/// Returns true if a value contains `your` as the beginning of a word, or anywhere if the value is not random. One
/// random value of 40 letters in 20,000 contains it by chance.
fn contains_your(value: &[u8]) -> bool {
    let mut places = value.windows(4).enumerate();
    places.any(|(at, word)| {
        let is_start = at == 0 || !value[at - 1].is_ascii_alphanumeric();
        word.eq_ignore_ascii_case(b"your") && (is_start || !looks_random(value))
    })
}

/// Returns true if a value looks like random text and not like words, joined or not.
///
/// A value with letters and digits looks random in each of these cases: a third of the characters are of another kind
/// than the one before, five characters in a row have no vowel, a long word has several numbers, three numbers are
/// between letters, or the value is hexadecimal. A value without digits needs a long word, and capitals in a row or
/// five characters in a row without a vowel.
fn looks_random(value: &[u8]) -> bool {
    let kind = |b: u8| match b {
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        b'0'..=b'9' => 3,
        _ => 0,
    };
    let (mut changes, mut run, mut letters, mut longest) = (0, 0, 0, 0);
    let (mut digits, mut numbers, mut lower, mut upper) = (0, 0, false, false);
    let mut capitals = 0;
    let mut previous_kind = 0;
    for b in value {
        let kind = kind(*b);
        changes += usize::from(kind != 0 && previous_kind != 0 && kind != previous_kind);
        digits += usize::from(kind == 3);
        numbers += usize::from(kind == 3 && previous_kind != 3);
        lower |= kind == 1;
        upper |= kind == 2;
        capitals += usize::from(kind == 2 && previous_kind == 2);
        let is_vowel = b"aeiouyAEIOUY".contains(b);
        (run, letters) = match kind {
            0 => (0, 0),
            _ if is_vowel => (0, 0),
            3 => (run + 1, letters),
            _ => (run + 1, letters + 1),
        };
        if letters >= 3 {
            longest = longest.max(run);
        }
        previous_kind = kind;
    }
    let mut words = value.split(|b| !b.is_ascii_alphanumeric());
    let has_long_word = words.any(|word| word.len() >= 14);
    if digits == 0 {
        // Names such as `getUserName` have as many changes, but no capital beside another.
        return has_long_word
            && if lower && upper {
                capitals >= 2 || changes * 4 >= value.len() && (capitals >= 1 || longest >= 5)
            } else {
                lower && longest >= 5
            };
    }
    let is_hex = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b':');
    digits < value.len()
        && (changes * 3 >= value.len()
            || longest >= 5
            || has_long_word && numbers >= 2
            || value.iter().all(is_hex)
            || has_numbers_in_words(value))
}

/// Returns true if three numbers are between letters.
fn has_numbers_in_words(value: &[u8]) -> bool {
    let parts: Vec<_> = value
        .chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit())
        .collect();
    let is_between = |three: &&[&[u8]]| {
        three[1][0].is_ascii_digit()
            && three[0][0].is_ascii_alphabetic()
            && three[2][0].is_ascii_alphabetic()
    };
    parts.windows(3).filter(is_between).count() >= 3
}

/// Returns true if a value has only characters of tokens.
fn is_token(value: &[u8]) -> bool {
    value
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.+/=~:|%".contains(b))
}

/// Returns true unless the value is code, a placeholder or an example. The value need not look random, because only a
/// password has this place in a URL.
fn is_url_password(value: &[u8]) -> bool {
    const EXAMPLES: &str =
        "password passwd pass pwd pw secret token user foo bar p *** %s tiger guest";
    let lower = value.to_ascii_lowercase();
    !is_code(value)
        && !is_placeholder(value)
        && !EXAMPLES.split(' ').any(|word| word.as_bytes() == lower)
}

/// Returns true for text that a person may choose as a password: it has a digit or a mark such as `!`, or looks random.
fn is_human_password(value: &[u8]) -> bool {
    const COMMON: &str = "token user test foo my_ %s %d,";
    let has_mark = value
        .iter()
        .any(|b| b.is_ascii_digit() || b"!#%^&@~|".contains(b));
    value.len() >= 6
        && !is_code(value)
        && !is_number(value)
        && (has_mark || looks_random(value))
        && !is_placeholder(value)
        && !contains_any(value, COMMON)
}

/// Returns true if one of `words`, which are in lower case, is in the value.
fn contains_any(value: &[u8], words: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let mut words = words.split(' ');
    words.any(|word| memmem::find(&lower, word.as_bytes()).is_some())
}

/// Returns true for variables, calls, paths, URLs and other text that is no secret itself.
fn is_code(value: &[u8]) -> bool {
    value.first().is_some_and(|b| b"!#=@".contains(b))
        || value.starts_with(b"&#")
        || value.starts_with(b"/") && !looks_random(value)
        || value
            .iter()
            .any(|b| b"(){}[]<>$*`".contains(b) || b.is_ascii_whitespace())
        || contains_any(value, "// :: arn:")
}

/// Returns true for the name of a constant: `WIN32_ERROR`.
fn is_constant(value: &[u8]) -> bool {
    let is_name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    value.contains(&b'_') && value.iter().all(is_name)
}

/// Returns true for the name of a type: `Utf8PathBuf`, `HTTPProxy`. A password more likely ends in digits.
fn is_type_name(value: &[u8]) -> bool {
    let capitals = value.iter().take_while(|b| b.is_ascii_uppercase()).count();
    capitals > 0
        && value.last().is_some_and(u8::is_ascii_lowercase)
        && value[capitals - 1..].windows(2).all(|pair| match pair[0] {
            b'A'..=b'Z' => pair[1].is_ascii_lowercase(),
            b'0'..=b'9' => pair[1].is_ascii_digit() || pair[1].is_ascii_uppercase(),
            first => first.is_ascii_lowercase() && pair[1].is_ascii_alphanumeric(),
        })
}

/// Returns true for versions, dates and times: `^3.1.0`, `2026-11-20T13:00:00Z`.
fn is_number(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    letters <= 2 && digits < value.len()
}

/// A value with a name, as in `name = value`.
struct NamedValue<'a> {
    name: &'a [u8],
    value: &'a [u8],
    after: &'a [u8],
    /// The last character of the operator.
    operator: u8,
    is_quoted: bool,
    /// True if only an operator of one character is between name and value.
    is_tight: bool,
}

impl<'a> NamedValue<'a> {
    fn new(before: &'a [u8], value: &'a [u8], after: &'a [u8]) -> Self {
        let is_blank = |b: &u8| b.is_ascii_whitespace() || b"\"'`\\[*".contains(b);
        let operator = before.iter().rposition(|b| !is_blank(b)).unwrap_or(0);
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let name_end = before.iter().rposition(is_name).map_or(0, |at| at + 1);
        Self {
            name: &before[..name_end],
            value,
            after,
            operator: before.get(operator).copied().unwrap_or_default(),
            is_quoted: before.last().is_some_and(|b| b"\"'`".contains(b)),
            is_tight: operator == name_end && operator + 1 == before.len(),
        }
    }

    fn is_secret(&self, check: FormCheck) -> bool {
        if self.is_harmless_name()
            || self.name.ends_with(self.value)
            || is_placeholder(self.value)
            || contains_any(self.value, ":// arn: ::")
        {
            return false;
        }
        let is_upper = self
            .name
            .last()
            .is_some_and(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let value = self.value;
        // The token ends before a full stop, a control code or a letter of another script.
        let token_len = value.iter().position(|b| !b.is_ascii_graphic());
        let token = &value[..token_len.unwrap_or(value.len())];
        let next_byte = value.get(token.len()).or(self.after.first()).copied();
        let token = token.strip_suffix(b".").unwrap_or(token);
        let has_digit = token.iter().any(u8::is_ascii_digit);
        let is_variable = self.is_tight && self.operator == b'=' && is_upper;
        let is_argument = matches!(self.operator, b',' | b'(');
        let is_text = if self.is_quoted {
            !(self.value.starts_with(b"+") && self.value.ends_with(b"+"))
        } else {
            !is_argument && !self.is_name_in_code(token, next_byte)
        };
        let is_random_text = is_token(token)
            && looks_random(token)
            && is_text
            // A list may have the names of classes.
            && !(is_argument && is_type_name(token))
            && (self.is_quoted || has_digit || token.len() >= 28);
        let is_human_text = is_text && is_human_password(value);
        match check {
            FormCheck::Provider => {
                // With the name of a provider, letters alone are rarely code.
                let is_opaque = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let is_word = (!is_argument || is_upper) && token.iter().all(is_opaque);
                let is_random_text = is_token(token) && looks_random(token);
                token.len() >= 14 && is_text && (is_random_text || is_word)
            }
            FormCheck::Password if is_argument => is_human_text && is_upper,
            FormCheck::Password => {
                is_human_text || is_variable && value.len() >= 6 && !is_code(value)
            }
            _ => {
                token.len() >= MIN_RANDOM_BYTES && is_random_text
                    || value.len() >= 8
                        && is_human_text
                        && !is_argument
                        && (self.is_quoted || is_variable)
            }
        }
    }

    /// Returns true if a value without quotes is an identifier in code.
    fn is_name_in_code(&self, token: &[u8], next: Option<u8>) -> bool {
        let is_end = |b: u8| b"<>\\\"'`),*&".contains(&b) || !b.is_ascii_graphic();
        let is_path = token.iter().any(|b| b".?".contains(b));
        // A type, as in `const PASSWORD: WIN32_ERROR = …` or `(password: Uint8Array | string)`.
        let is_type = match self.after {
            [b' ', b'|' | b'=' | b'{', ..] | [b',' | b')', ..] => {
                is_constant(token) || is_type_name(token)
            }
            [b' ', ..] => is_constant(token),
            _ => false,
        };
        let is_loose = next.is_none_or(is_end) && !is_path && !is_type;
        // A field, as in `token=c.tokenOf` or `c.token=c.key2=void` of minified code.
        let value = self.value;
        let is_chain = value.windows(2).any(|two| two[0] == b'=' && two[1] != b'=');
        let has_digit = token.iter().any(u8::is_ascii_digit);
        let is_field = value.contains(&b'.') && (!has_digit || is_chain);
        let is_call = next == Some(b'(');
        is_call || (is_field || !self.is_tight) && !is_loose
    }

    /// Returns true if a name ends in a word that makes its value no secret: `token_type`, `secret_name`.
    fn is_harmless_name(&self) -> bool {
        const OTHER: &str = "hash digest key_id keyid name type url uri path file count len length checksum sha256 \
            integrity expires _at time date used publickeytoken commit version pubkey fingerprint public_key endpoint \
            encryption sha method author email fix manager class";
        let lower = self.name.to_ascii_lowercase();
        let lower = lower.strip_suffix(b"__").unwrap_or(&lower);
        OTHER
            .split(' ')
            .any(|word| lower.ends_with(word.as_bytes()))
    }
}
