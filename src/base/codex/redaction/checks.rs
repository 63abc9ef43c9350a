//! Tells secrets from placeholders, names and code that have the same form.

use memchr::memmem;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// The shortest value that counts as random.
pub(super) const MIN_RANDOM_BYTES: usize = 16;

/// The shortest value without digits and quotes that counts as random after a name that only marks it as secret.
const MIN_DIGITLESS_BYTES: usize = 28;

/// The shortest value with the name of a provider that counts as a secret.
const MIN_PROVIDER_BYTES: usize = 14;

/// The shortest value that counts as a password, except in a URL.
const MIN_PASSWORD_BYTES: usize = 6;

/// The shortest value that counts as a password if its name only marks it as secret, such as `token`.
const MIN_NAMED_PASSWORD_BYTES: usize = 8;

/// The length of the beginning of a value that is searched for [`PLACEHOLDER_WORDS`].
const MAX_PLACEHOLDER_BYTES: usize = 80;

/// The longest text behind the data of a Kubernetes object in which its kind is searched.
const MAX_KIND_DISTANCE_BYTES: usize = 200;

/// Words that mark a value as a placeholder, in lower case.
const PLACEHOLDER_WORDS: &str =
    "example xxxxx placeholder changeme change_me redacted ... **** dummy insert ____ …";

/// The condition for a match in a document to be a secret. In a message, every match is a secret, except for `Kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
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
    /// The data of a Kubernetes object that `kind: Secret` follows.
    Kind,
    /// Any value in a message; no value elsewhere.
    Message,
}

impl FormCheck {
    /// Returns true if the form is a name with a value.
    pub(super) fn is_name_with_value(self) -> bool {
        matches!(self, Self::Password | Self::Named | Self::Provider)
    }

    /// Returns true if `value` is a secret, judged with the texts `before` and `after` it.
    pub(super) fn accepts(self, before: &[u8], value: &[u8], after: &[u8]) -> bool {
        match self {
            // The caller tries the forms with `Message` in messages only.
            Self::Any | Self::Message => true,
            Self::Kind => is_data_of_secret(after),
            Self::Real => !is_placeholder(value),
            Self::Varied => !is_placeholder(value) && looks_random(value),
            Self::Random => {
                let mut parts = value.split(|b| matches!(b, b'=' | b';' | b' '));
                parts.any(|part| {
                    part.len() >= MIN_RANDOM_BYTES && Self::Varied.accepts(before, part, after)
                })
            }
            Self::Human => is_human_password(password_part(value)),
            Self::Url => has_url_password(value),
            Self::Password | Self::Named | Self::Provider => {
                NamedValue::parse(before, value, after).is_secret(self)
            }
        }
    }
}

/// Returns true if `kind: Secret` follows the data of a Kubernetes object, as in the output of `kubectl get`.
fn is_data_of_secret(after: &[u8]) -> bool {
    static KIND: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let indent = r"[^A-Za-z]*";
        Regex::new(&format!(
            r#"(?-u)^{indent}(?:immutable\W{{1,4}}\w+{indent})?kind["']?\s{{0,4}}:\s{{0,16}}["']?Secret\b"#
        ))
        .ok()
    });
    // Bounded, because the text after may be long and is searched for each object.
    let after = &after[..after.len().min(MAX_KIND_DISTANCE_BYTES)];
    KIND.as_ref().is_none_or(|kind| kind.is_match(after))
}

/// Returns the password of `user:password`, or the whole value if it has no colon.
fn password_part(value: &[u8]) -> &[u8] {
    value.rsplit(|b| *b == b':').next().unwrap_or(value)
}

fn is_placeholder(value: &[u8]) -> bool {
    // A long random value may contain a placeholder word by chance, so only its beginning is searched.
    let beginning = &value[..value.len().min(MAX_PLACEHOLDER_BYTES)];
    // A run of one character is filler, except in base64: zero bytes are a run of `A`, and 0xff bytes a run of `/`.
    let is_filler = |run: &[u8]| run.len() >= 8 && !b"A/".contains(&run[0]);
    contains_any(beginning, PLACEHOLDER_WORDS)
        || contains_your(beginning)
        || value.chunk_by(|a, b| a == b).any(is_filler)
}

/// Returns true if a word of the value begins with `your`. Elsewhere, `your` counts only in a value that does not look
/// random, because one in 20,000 random values of 40 letters contains it by chance.
fn contains_your(value: &[u8]) -> bool {
    let mut places = value.windows(4).enumerate();
    places.any(|(at, word)| {
        let is_start = at == 0 || !value[at - 1].is_ascii_alphanumeric();
        word.eq_ignore_ascii_case(b"your") && (is_start || !looks_random(value))
    })
}

/// Returns true if a value looks like random text and not like words, joined or not.
fn looks_random(value: &[u8]) -> bool {
    let mut words = value.split(|b| !b.is_ascii_alphanumeric());
    let has_long_word = words.any(|word| word.len() >= 14);
    if !value.iter().any(u8::is_ascii_digit) {
        return has_long_word && looks_random_without_digits(value);
    }

    if value.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let has_two_numbers = || {
        let numbers = value.split(|b| !b.is_ascii_digit());
        numbers.filter(|number| !number.is_empty()).count() >= 2
    };
    let is_hex = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b':');
    // In random letters and digits, two fifths of the neighbours or more differ in kind; in joined words, few do.
    let has_many_changes = count_kind_changes(value) * 3 >= value.len();
    has_many_changes
        || has_vowelless_run(value)
        || (has_long_word && has_two_numbers())
        || value.iter().all(is_hex)
        || has_three_inner_numbers(value)
}

fn looks_random_without_digits(value: &[u8]) -> bool {
    if !value.iter().any(u8::is_ascii_uppercase) {
        return has_vowelless_run(value);
    }
    // Without lower case, all pairs of letters are capitals, so the conditions below would tell nothing.
    if !value.iter().any(u8::is_ascii_lowercase) {
        return false;
    }

    let are_capitals = |pair: &&[u8]| pair.iter().all(u8::is_ascii_uppercase);
    let capital_pairs = value.windows(2).filter(are_capitals).count();
    // Names such as `getUserName` have as many changes, but no capital beside another.
    let has_many_changes = count_kind_changes(value) * 4 >= value.len();
    capital_pairs >= 2 || (has_many_changes && (capital_pairs >= 1 || has_vowelless_run(value)))
}

/// Counts the changes between lower case, upper case and digits, such as four in `aB3c4`.
fn count_kind_changes(value: &[u8]) -> usize {
    let kind = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let is_change =
        |pair: &&[u8]| pair.iter().all(u8::is_ascii_alphanumeric) && kind(pair[0]) != kind(pair[1]);
    value.windows(2).filter(is_change).count()
}

/// Returns true if a run of at least five letters and digits has no vowel. The run must have three letters, so that
/// numbers alone do not count.
fn has_vowelless_run(value: &[u8]) -> bool {
    let ends_run = |b: &u8| !b.is_ascii_alphanumeric() || b"aeiouyAEIOUY".contains(b);
    let mut runs = value.split(ends_run);
    runs.any(|run| {
        let letters = run.iter().filter(|b| b.is_ascii_alphabetic()).count();
        run.len() >= 5 && letters >= 3
    })
}

fn has_three_inner_numbers(value: &[u8]) -> bool {
    // `a12bc` has the parts `a`, `12`, `b` and `c`.
    let are_digits = |a: &u8, b: &u8| a.is_ascii_digit() && b.is_ascii_digit();
    let parts: Vec<_> = value.chunk_by(are_digits).collect();
    let is_between_letters = |parts: &&[&[u8]]| {
        parts[1][0].is_ascii_digit()
            && parts[0][0].is_ascii_alphabetic()
            && parts[2][0].is_ascii_alphabetic()
    };
    parts.windows(3).filter(is_between_letters).count() >= 3
}

fn has_only_token_chars(value: &[u8]) -> bool {
    let is_token_char = |b: &u8| b.is_ascii_alphanumeric() || b"-_.+/=~:|%".contains(b);
    value.iter().all(is_token_char)
}

/// Returns true if `value` is `user:password` or a password.
fn has_url_password(value: &[u8]) -> bool {
    // The user and the password may have colons, so the password begins after the first or after the last one.
    let after_first_colon = value.splitn(2, |b| *b == b':').last().unwrap_or(value);
    is_url_password(after_first_colon) || is_url_password(password_part(value))
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

/// Returns true for text that a person may choose as a password: it has a digit or a mark such as `!`, has several
/// marks that are usual in code, or looks random.
fn is_human_password(value: &[u8]) -> bool {
    const PARTS_OF_EXAMPLES: &str = "token user test foo my_ %d,";
    let is_digit_or_mark = |b: &u8| b.is_ascii_digit() || b"!#%^&@~|".contains(b);
    let code_mark_count = value.iter().filter(|b| b"$*<>(){}[]".contains(b)).count();
    // `%s` before a letter or digit may be a part of a random password.
    let is_format_field = |at: usize| value.get(at + 2).is_none_or(|b| !b.is_ascii_alphanumeric());

    let looks_chosen =
        value.iter().any(is_digit_or_mark) || code_mark_count > 1 || looks_random(value);
    value.len() >= MIN_PASSWORD_BYTES
        && looks_chosen
        && !is_code(value)
        && !is_version_or_date(value)
        && !is_placeholder(value)
        && !contains_any(value, PARTS_OF_EXAMPLES)
        && !memmem::find_iter(value, b"%s").any(is_format_field)
}

/// Returns true if the value contains one of `words`, which are in lower case and separated by blanks.
fn contains_any(value: &[u8], words: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let mut words = words.split(' ');
    words.any(|word| memmem::find(&lower, word.as_bytes()).is_some())
}

/// Returns true for variables, calls, paths, URLs and other text that is no secret itself.
fn is_code(value: &[u8]) -> bool {
    if has_chars_of_code(value) {
        // A generated password may contain the characters of code.
        let may_be_password =
            looks_generated(value) && !is_marked_name(value) && !has_form_of_code(value);
        if !may_be_password {
            return true;
        }
    }
    let is_path = value.starts_with(b"/") && !looks_random(value);
    is_path || contains_any(value, "// :: arn:")
}

/// Returns true for text with characters of code. Outside of code, only generated passwords often have them.
pub(super) fn has_chars_of_code(value: &[u8]) -> bool {
    let is_char_of_code = |b: &u8| b"(){}[]<>$*`".contains(b) || b.is_ascii_whitespace();
    value.first().is_some_and(|b| b"!#=@".contains(b))
        || value.starts_with(b"&#")
        || value.iter().any(is_char_of_code)
}

/// Returns true for a name or path behind a mark: `$dbPassword2`, `!GetSecretValue`, `@string/password`.
fn is_marked_name(value: &[u8]) -> bool {
    let Some((mark, name)) = value.split_first() else {
        return false;
    };
    let has_digit = name.iter().any(u8::is_ascii_digit);
    // Behind another mark than `$` and `*`, a word with digits is rather a password: `!Summer2024`.
    let is_mark = b"$*".contains(mark) || (b"!#=@".contains(mark) && !has_digit);
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"_.:/-".contains(b);
    // The digits at the end of `dbPassword2` do not make the name random.
    let last_non_digit = name.iter().rposition(|b| !b.is_ascii_digit());
    let name_without_number = &name[..last_non_digit.map_or(0, |at| at + 1)];
    is_mark && name.iter().all(is_name) && !looks_random(name_without_number)
}

/// Returns true for text as a generator of passwords makes it: at least 8 characters without a blank, and letters with
/// digits or of both cases.
fn looks_generated(value: &[u8]) -> bool {
    let has = |is_kind: fn(&u8) -> bool| value.iter().any(is_kind);
    value.len() >= 8
        && !has(u8::is_ascii_whitespace)
        && has(u8::is_ascii_alphabetic)
        && (has(u8::is_ascii_digit) || has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase))
}

/// Returns true for a variable, a call, an index, a pattern, or text with an interpolation.
fn has_form_of_code(value: &[u8]) -> bool {
    static FORMS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?x-u)
            ^\$(?:[A-Z0-9_]+|[A-Za-z]?[a-z_.-]*(?:[A-Z][a-z]+)*[0-9]{0,3})$   # $name
            | ^[!\#=@](?:[a-z0-9_.-]*|[A-Z0-9_.-]*)$                          # #name
            | ^[$\#@%&!*]*(?:<.*>|\[.*\]|\(.*\)|\{.*\})$                      # <name>
            | ^[$%\#@][{(] | ^\{\w+[=:]                                       # ${name, {name:
            | ^\$[\w:]*(?:->|\[)[\w>\[\]-]*$                                  # $name->field
            | ^[\w.:]+(?:\(.*\)|\[.*\]$|<.*>$)                                # name(a), name[a]
            | ^[$&]?[\w.:]+[({\[<][&$]?\w*$                                   # name(, before a string
            | [$%\#@]\{\w.*\} | [$%]\(.*\) | \{\{.*\}\}                       # a${b}, a$(b)
            | \{(?:[0-9]?|[a-z_.]{3,})\} | \[-?[0-9]+\]                       # a{}, a{b}, a[0]
            | [aA]-[zZ] | 0-9                                                 # [A-Z0-9]+",
        )
        .ok()
    });
    FORMS.as_ref().is_none_or(|forms| forms.is_match(value))
}

/// Returns true for the name of a constant: `WIN32_ERROR`.
fn is_constant_name(value: &[u8]) -> bool {
    let is_name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    value.contains(&b'_') && value.iter().all(is_name)
}

/// Returns true for the name of a type: `Utf8PathBuf`, `HTTPProxy`. A password more likely ends in digits.
fn is_type_name(value: &[u8]) -> bool {
    let capitals = value.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let ends_in_lower_case = value.last().is_some_and(u8::is_ascii_lowercase);
    if capitals == 0 || !ends_in_lower_case {
        return false;
    }
    // The last of the capitals begins the first word: the `P` of `HTTPProxy`.
    let words = &value[capitals - 1..];
    words.windows(2).all(|pair| match pair[0] {
        b'A'..=b'Z' => pair[1].is_ascii_lowercase(),
        b'0'..=b'9' => pair[1].is_ascii_digit() || pair[1].is_ascii_uppercase(),
        first => first.is_ascii_lowercase() && pair[1].is_ascii_alphanumeric(),
    })
}

/// Returns true for versions, dates and times: `^3.1.0`, `2026-11-20T13:00:00Z`.
fn is_version_or_date(value: &[u8]) -> bool {
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
    fn parse(before: &'a [u8], value: &'a [u8], after: &'a [u8]) -> Self {
        let may_follow_operator = |b: &u8| b.is_ascii_whitespace() || b"\"'`\\[*".contains(b);
        let operator_at = before.iter().rposition(|b| !may_follow_operator(b));
        let operator_at = operator_at.unwrap_or(0);
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let name_end = before.iter().rposition(is_name).map_or(0, |at| at + 1);

        Self {
            name: &before[..name_end],
            value,
            after,
            operator: before.get(operator_at).copied().unwrap_or_default(),
            is_quoted: before.last().is_some_and(|b| b"\"'`".contains(b)),
            // The operator follows the name, and the value follows the operator, without anything between them.
            is_tight: operator_at == name_end && operator_at + 1 == before.len(),
        }
    }

    fn is_secret(&self, check: FormCheck) -> bool {
        if self.is_harmless_name()
            // `token = token` names a variable.
            || self.name.ends_with(self.value)
            || is_placeholder(self.value)
            || contains_any(self.value, ":// arn: ::")
        {
            return false;
        }

        let value = self.value;
        // The token ends before a blank, a control code or a letter of another script. A full stop at its end belongs
        // to the sentence.
        let visible_len = value.iter().position(|b| !b.is_ascii_graphic());
        let visible = &value[..visible_len.unwrap_or(value.len())];
        let next_byte = value.get(visible.len()).or(self.after.first()).copied();
        let token = visible.strip_suffix(b".").unwrap_or(visible);

        let is_literal = if self.is_quoted {
            // Not the code between two strings: `"…"+name+"…"`.
            !(value.starts_with(b"+") && value.ends_with(b"+"))
        } else {
            !self.is_argument() && !self.is_name_in_code(token, next_byte)
        };

        match check {
            FormCheck::Provider => is_literal && self.is_provider_key(token),
            FormCheck::Password => is_literal && self.is_password() || self.is_assigned_password(),
            _ => is_literal && (self.is_random_token(token) || self.is_named_password()),
        }
    }

    /// Returns true for an argument of a call: `("DB_PASSWORD", "…")` or `password("…")`.
    fn is_argument(&self) -> bool {
        matches!(self.operator, b',' | b'(')
    }

    /// Returns true if the name ends like that of a variable, such as `DB_PASSWORD`.
    fn has_upper_case_name(&self) -> bool {
        let last = self.name.last();
        last.is_some_and(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    }

    fn is_variable_assignment(&self) -> bool {
        self.is_tight && self.operator == b'=' && self.has_upper_case_name()
    }

    fn is_provider_key(&self, token: &[u8]) -> bool {
        // After the name of a provider, a word in lower case is rarely code.
        let is_lower_or_digit = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_lower_word = token.iter().all(is_lower_or_digit)
            && (!self.is_argument() || self.has_upper_case_name());
        let is_random = has_only_token_chars(token) && looks_random(token);
        token.len() >= MIN_PROVIDER_BYTES && (is_lower_word || is_random)
    }

    fn is_password(&self) -> bool {
        // As an argument, a value is a password only after the name of a variable: `("DB_PASSWORD", "…")`.
        (!self.is_argument() || self.has_upper_case_name()) && is_human_password(self.value)
    }

    /// Returns true for the value of a variable, which may be a simple word: `DB_PASSWORD=postgres`.
    fn is_assigned_password(&self) -> bool {
        let is_long_enough = self.value.len() >= MIN_PASSWORD_BYTES;
        self.is_variable_assignment() && is_long_enough && !is_code(self.value)
    }

    fn is_random_token(&self, token: &[u8]) -> bool {
        let has_digit = token.iter().any(u8::is_ascii_digit);
        let is_unlike_name = self.is_quoted || has_digit || token.len() >= MIN_DIGITLESS_BYTES;
        // A list of arguments may contain the names of classes.
        let is_listed_class = self.is_argument() && is_type_name(token);
        token.len() >= MIN_RANDOM_BYTES
            && is_unlike_name
            && !is_listed_class
            && has_only_token_chars(token)
            && looks_random(token)
    }

    fn is_named_password(&self) -> bool {
        self.value.len() >= MIN_NAMED_PASSWORD_BYTES
            && !self.is_argument()
            && (self.is_quoted || self.is_variable_assignment())
            && is_human_password(self.value)
    }

    /// Returns true if a value without quotes is an identifier in code.
    fn is_name_in_code(&self, token: &[u8], next_byte: Option<u8>) -> bool {
        let is_call = next_byte == Some(b'(');

        // A field, as in `token=c.tokenOf` or `c.token=c.key2=void` of minified code.
        let value = self.value;
        let is_assignment = value.windows(2).any(|two| two[0] == b'=' && two[1] != b'=');
        let has_digit = token.iter().any(u8::is_ascii_digit);
        let is_field = value.contains(&b'.') && (!has_digit || is_assignment);

        // Without blanks around the operator, only a call or a field is code.
        if self.is_tight && !is_field {
            return is_call;
        }

        let is_end = |b: u8| b"<>\\\"'`),*&".contains(&b) || !b.is_ascii_graphic();
        let token_continues = next_byte.is_some_and(|b| !is_end(b));
        // As in `user.password` or `user?.password`.
        let has_access_mark = token.iter().any(|b| b".?".contains(b));

        // A type, as in `const PASSWORD: WIN32_ERROR = …` or `(password: Uint8Array | string)`.
        let is_type_annotation = match self.after {
            [b' ', b'|' | b'=' | b'{', ..] | [b',' | b')', ..] => {
                is_constant_name(token) || is_type_name(token)
            }
            [b' ', ..] => is_constant_name(token),
            _ => false,
        };

        is_call || token_continues || has_access_mark || is_type_annotation
    }

    /// Returns true if a name ends in a word that makes its value no secret: `token_type`, `secret_name`.
    fn is_harmless_name(&self) -> bool {
        const HARMLESS_ENDINGS: &str = "hash digest key_id keyid name type url uri path file count len length checksum sha256 \
            integrity expires _at time date used publickeytoken commit version pubkey fingerprint public_key endpoint \
            encryption sha method author email fix manager class";
        let lower = self.name.to_ascii_lowercase();
        // As in `__author_email__` of a Python package.
        let lower = lower.strip_suffix(b"__").unwrap_or(&lower);
        let mut endings = HARMLESS_ENDINGS.split(' ');
        endings.any(|ending| lower.ends_with(ending.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::redact_and_count;

    #[test]
    fn passwords_of_generators_are_replaced_although_they_have_characters_of_code() {
        for password in [
            "J#d%Mtm7Cnv*%$fCJ@",
            "@w%apu%7fV*&w^ul8L",
            "pF[9!x$<Q)t}R2m^zW",
            "wD!rIPO%sJk19&NXTc",
        ] {
            for text in [
                "export DB_PASSWORD='?'",
                "db:\n  password: \"?\"",
                r#"{"body": "{\"password\": \"?\"}"}"#,
                "define('DB_PASSWORD', '?');",
                "mysqldump --password='?' db",
                "CREATE USER me IDENTIFIED BY '?'",
                "DB_PASSWORD=?\nexport A=1",
                "Server=db;Password=?;Encrypt=True",
            ] {
                // VALUE does not begin with `@`.
                let text = if text.contains("=?") {
                    text.replace('?', "x?")
                } else {
                    text.to_owned()
                };
                let (redacted, count) = redact_and_count(&text.replace('?', password));
                assert_eq!(count, 1, "{redacted}");
                assert!(!redacted.contains(&password[12..]), "{redacted}");
            }
        }
        let (redacted, _) = redact_and_count("postgres://app:$!&wg7OwHM(cs!j%&B@db/app");
        assert_eq!(redacted, "postgres://[redacted]@db/app");
    }

    #[test]
    fn a_password_before_punctuation_is_replaced_without_it() {
        for text in [
            "password=?<br>",
            "<td>password: ?<br></td>",
            "[password=?](https://host/x)",
            "PASSWORD=?(admin)",
            "password=?,{}",
            "?password=?&ids[0]=3",
            "password=?>{}",
            "DB_PASSWORD=?<newline>",
        ] {
            let (before, after) = text.rsplit_once('?').unwrap();
            let (redacted, count) = redact_and_count(&format!("{before}Hunter2xyz{after}"));
            assert_eq!(redacted, format!("{before}[redacted]{after}"));
            assert_eq!(count, 1);
        }
    }

    #[test]
    fn names_after_a_dollar_at_asterisk_or_exclamation_mark_are_no_passwords() {
        for text in [
            "DBPassword: !ImportValue shared",
            "Password: !FindInMap [a, b, c]",
            "password: !GetSecretValue",
            "this.hidePassword = !hidePassword;",
            "SET password = @NewPassword",
            "android:password=\"@string/passwordHint\"",
            "password: *PasswordRef1",
            "$password = $env:DB_PASSWORD",
            "tool --password $HOME/pw1/x",
            "tool --password $DB_PASSWORD_v2",
            "PASSWORD=$DB_PASSWORD_v2",
            "PASSWORD=$Prefix_DB",
            "PASSWORD=\"$dbPassword2024\"",
            "password: \"$db2Password\"",
            "password: \"$DBPassword\"",
        ] {
            assert_eq!(redact_and_count(text), (text.to_owned(), 0));
        }
    }
}
