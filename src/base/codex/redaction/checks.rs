//! Tells secrets from placeholders, names and code that have the same form.

use super::phrases::{MAX_PHRASE_WORDS, find_phrase, is_label, is_quoted_phrase, is_sentence};
use super::randomness::{
    MIN_DIGITLESS_BYTES, has_many_changes, is_joined_words, looks_generated, looks_random,
    looks_random_without_digits, words_of,
};
use memchr::memmem;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// The shortest value that counts as random.
pub(super) const MIN_RANDOM_BYTES: usize = 16;

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
            // A colour in a word makes it look random. The text is also searched without colours.
            Self::Random
            | Self::Human
            | Self::Url
            | Self::Password
            | Self::Named
            | Self::Provider
                if value.contains(&b'\x1b') =>
            {
                false
            }
            // The caller tries the forms with `Message` in messages only.
            Self::Any | Self::Message => true,
            Self::Kind => is_data_of_secret(after),
            Self::Real => !is_placeholder(value),
            Self::Varied => {
                !is_placeholder(value) && looks_random(value) && !is_joined_words(value)
            }
            Self::Random => {
                let named = NamedValue::parse(before, value, after);
                let mut parts = value.split(|b| matches!(b, b'=' | b';' | b' '));
                let has_random_part = parts.any(|part| {
                    part.len() >= MIN_RANDOM_BYTES && Self::Varied.accepts(before, part, after)
                });
                has_random_part
                    && !after.starts_with(b"(")
                    && !named.is_own_name()
                    && !named.is_place_in_code()
            }
            Self::Human => {
                let named = NamedValue::parse(before, value, after);
                let is_password = is_human_password(password_part(value))
                    || is_spaced_password(value)
                    || is_quoted_phrase(value, false);
                is_password && !named.is_harmless()
            }
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
    // In a command, a password in quotes may have blanks.
    !value.split(|b| *b == b' ').any(is_code)
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

    let looks_chosen = value.iter().any(is_digit_or_mark)
        || code_mark_count > 1
        || code_mark_count == 1 && looks_random_without_digits(value)
        || looks_random(value);
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
        let has_name_of_code = is_marked_name(value) || has_form_of_code(value);
        let may_be_password = looks_generated(value)
            && !has_name_of_code
            && (!has_form_of_call(value) || has_many_changes(value));
        if !may_be_password {
            return true;
        }
    }
    let is_short_path = value.starts_with(b"/") && !looks_random(value);
    let starts = [&b"~/"[..], b"./", b"../", b"--"];
    let is_path_or_flag = starts.iter().any(|start| value.starts_with(start));
    is_short_path || is_path_or_flag || is_path(value) || contains_any(value, "// :: arn:")
}

/// Returns true for a path of three names and more, of which at least half are words in lower case.
fn is_path(value: &[u8]) -> bool {
    let is_word = |name: &&&[u8]| {
        let has_form = |b: &u8| b.is_ascii_lowercase() || b"._-".contains(b);
        name.len() > 2 && name.iter().all(has_form)
    };
    let names: Vec<_> = value
        .strip_prefix(b"/")
        .unwrap_or(value)
        .split(|b| *b == b'/')
        .collect();
    names.len() > 2 && names.iter().filter(is_word).count() * 2 >= names.len()
}

fn is_uuid(value: &[u8]) -> bool {
    let lens = value.split(|b| *b == b'-').map(<[u8]>::len);
    let is_hex = |b: &u8| b.is_ascii_hexdigit() || *b == b'-';
    value.iter().all(is_hex) && lens.eq([8, 4, 4, 4, 12])
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

/// Returns true for a variable, a call, an index, a pattern, or text with an interpolation.
fn has_form_of_code(value: &[u8]) -> bool {
    static FORMS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?x-u)
            ^\$(?:[A-Z0-9_]+|[A-Za-z]?[a-z_.-]*(?:[A-Z][a-z]+)*[0-9]{0,3})$   # $name
            | ^[!\#=@](?:[a-z0-9_.-]*|[A-Z0-9_.-]*)$                          # #name
            | <[a-z][a-z_-]{2,}>                                              # me@<host>
            | ^[$\#@%&!*]*(?:<.*>|\[.*\]|\(.*\)|\{.*\})$                      # <name>
            | ^[$%\#@][{(] | ^\{\w+[=:]                                       # ${name, {name:
            | ^\$[\w:]*(?:->|\[)[\w>\[\]-]*$                                  # $name->field
            | ^[\w.:]+(?:\(.*\)|\[.*\]$|<.*>$)                                # name(a), name[a]
            | [$%\#@]\{\w.*\} | [$%]\(.*\) | \{\{.*\}\}                       # a${b}, a$(b)
            | \{(?:[0-9]?|[a-z_.]{3,})\} | \[-?[0-9]+\]                       # a{}, a{b}, a[0]
            | [aA]-[zZ] | 0-9                                                 # [A-Z0-9]+",
        )
        .ok()
    });
    FORMS.as_ref().is_none_or(|forms| forms.is_match(value))
}

/// Returns true for a call or an index before its end, such as `name(` before a string.
fn has_form_of_call(value: &[u8]) -> bool {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?-u)^[$&]?[\w.:]+(?:[({\[<]+[&$*]?\w*)+$").ok());
    FORM.as_ref().is_none_or(|form| form.is_match(value))
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
    /// True if no blank is between name, operator of one character and value.
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
            is_tight: operator_at == name_end
                && !before[operator_at + 1..]
                    .iter()
                    .any(|b| b.is_ascii_whitespace() || b"[*".contains(b)),
        }
    }

    fn is_secret(&self, check: FormCheck) -> bool {
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

        let looks_secret = match check {
            FormCheck::Provider => is_literal && self.is_provider_key(token),
            FormCheck::Password => is_literal && self.is_password() || self.is_assigned_password(),
            _ => {
                is_literal
                    && (self.is_random_token(token) || self.is_named_password())
                    && !is_joined_words(token)
            }
        };
        // Most values are words, so the name comes last.
        looks_secret
            && !(is_number(value)
                || is_placeholder(value)
                || contains_any(value, ":// arn: ::")
                || check != FormCheck::Password && is_path(value)
                || self.is_own_name()
                || self.is_place_in_code()
                || self.is_harmless())
    }

    /// Returns true for an argument of a call: `("DB_PASSWORD", "…")` or `password("…")`.
    fn is_argument(&self) -> bool {
        matches!(self.operator, b',' | b'(')
    }

    /// Returns true if the name ends like that of a variable, such as `DB_PASSWORD2`.
    fn has_upper_case_name(&self) -> bool {
        let end = &self.name[self.name.len().saturating_sub(2)..];
        !end.iter().any(u8::is_ascii_lowercase) && end.last().is_some_and(u8::is_ascii_alphanumeric)
    }

    fn is_variable_assignment(&self) -> bool {
        self.is_tight && self.operator == b'=' && self.has_upper_case_name()
    }

    /// Returns true if the value is the name again, as in `token = self.token` or `CLIENT_SECRET = "clientSecret"`.
    fn is_own_name(&self) -> bool {
        // A weak password: `DB_PASSWORD=password`.
        if self.is_variable_assignment() && !self.is_quoted {
            return self.name.ends_with(self.value);
        }
        let compact = |text: &[u8]| {
            let mut text = text.to_ascii_lowercase();
            text.retain(u8::is_ascii_alphanumeric);
            text
        };
        let member = self
            .value
            .rsplit(|b| b".:".contains(b))
            .next()
            .unwrap_or(self.value);
        let member = compact(member);
        !member.is_empty() && compact(self.name).ends_with(&member)
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
        let is_in_constant = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
        let is_constant = self.value.iter().all(is_in_constant);
        let is_listed = self.is_argument() && (!self.has_upper_case_name() || is_constant);
        let is_spaced = || {
            is_spaced_password(self.value)
                || is_quoted_phrase(self.value, self.is_variable_assignment())
        };
        !is_listed && (is_human_password(self.value) || self.is_quoted && is_spaced())
    }

    /// Returns true if the name ends in a word that makes the value no secret, or makes a UUID of it an id.
    fn is_harmless(&self) -> bool {
        const NAMES_OF_SECRET_UUIDS: &str =
            "key secret accesstoken authtoken apitoken servertoken password credential";
        let mut name = self.name.to_ascii_lowercase();
        name.retain(u8::is_ascii_alphanumeric);
        let mut secret_names = NAMES_OF_SECRET_UUIDS.split(' ');
        is_harmless_name(self.name)
            || is_uuid(self.value)
                && name.ends_with(b"token")
                && !secret_names.any(|end| name.ends_with(end.as_bytes()))
    }

    /// Returns true if the name is a file or a member, as in `reset-password.ts:204:` of grep, or if the value is a
    /// member of it, as in `PasswordDialog::OnOpen`.
    fn is_place_in_code(&self) -> bool {
        let is_end = |b: &u8| b.is_ascii_whitespace() || b"\"'`".contains(b);
        let word_start = self.name.iter().rposition(is_end).map_or(0, |at| at + 1);
        let word = &self.name[word_start..];
        let is_member = b":,".contains(&self.operator) && contains_any(word, ":: arn:");
        let is_file = word.iter().any(|b| b"./\\".contains(b));
        is_member
            || self.value.starts_with(b":")
            || !self.is_quoted && is_file && begins_with_line_number(self.value)
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
        let is_listed_class = self.is_argument() && (is_type_name(token) || is_joined_words(token));
        token.len() >= MIN_RANDOM_BYTES
            && is_unlike_name
            && !is_listed_class
            && has_only_token_chars(token)
            && looks_random(token)
    }

    fn is_named_password(&self) -> bool {
        // In YAML, code is not expected: `secret_key: x9$Kq;w7&Lm2|Zt5`.
        let is_random_in_yaml = self.operator == b':'
            && !self.is_tight
            && self.value.len() >= MIN_RANDOM_BYTES
            && looks_random(self.value);
        self.value.len() >= MIN_NAMED_PASSWORD_BYTES
            && !self.is_argument()
            && (self.is_quoted || self.is_variable_assignment() || is_random_in_yaml)
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
        // As in `user.password` or `user?.password2`. A password with a full stop has a digit.
        let has_access_mark = token.iter().any(|b| b".?".contains(b))
            && (!has_digit || is_assignment || token_continues || is_joined_words(token));

        // A type, as in `const PASSWORD: WIN32_ERROR = …` or `(password: Uint8Array | string)`.
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let is_type_annotation = match self.after {
            [b' ', b'=', ..] if token.iter().all(is_word) => true,
            [b' ', b'|' | b'=' | b'{', ..] | [b',' | b')', ..] => {
                is_constant_name(token) || is_type_name(token)
            }
            [b' ', ..] => is_constant_name(token),
            _ => false,
        };

        is_call || token_continues || has_access_mark || is_type_annotation
    }
}

/// Returns true if a name ends in a word that makes its value no secret: `token_type`, `secret_name`, `NextToken`.
fn is_harmless_name(name: &[u8]) -> bool {
    const HARMLESS_ENDINGS: &str = "hash digest keyid name type url uri path file count len length checksum sha256 \
        integrity expires time date used publickeytoken commit version pubkey fingerprint publickey endpoint \
        encryption sha method author email fix manager class bypass compass nexttoken pagetoken locktoken changetoken \
        clienttoken updatetoken requesttoken idempotencytoken startingtoken sequencetoken continuationtoken actiontoken \
        tokenverifier namespace";
    let mut compact = name.to_ascii_lowercase();
    // As in `created_at`, and in `__author_email__` of a Python package.
    let is_time = compact.ends_with(b"_at");
    compact.retain(u8::is_ascii_alphanumeric);
    // The id of a secret is none, but AppRole of Vault calls a password so.
    let is_id = words_of(name)
        .last()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"id"))
        && !compact.ends_with(b"secretid");
    let mut endings = HARMLESS_ENDINGS.split(' ');
    is_time || is_id || endings.any(|ending| compact.ends_with(ending.as_bytes()))
}

/// Returns true if a name goes on behind the place of a line in a file: `password.py-48-DATE`, as grep shows a line beside
/// the one that it found. The file has its name from a secret, the value has not.
pub(super) fn has_place_of_line(name: &[u8]) -> bool {
    let parts: Vec<_> = name.split(|b| *b == b'-').collect();
    parts.windows(2).any(|two| {
        let ending = two[0].rsplit(|b| *b == b'.').next().unwrap_or_default();
        let is_file = ending.len() < two[0].len() && ending.iter().all(u8::is_ascii_alphanumeric);
        is_file && !two[1].is_empty() && two[1].iter().all(u8::is_ascii_digit)
    })
}

/// Returns true for the number of a line in a file that grep found: `204:export type PasswordReset`.
fn begins_with_line_number(value: &[u8]) -> bool {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && matches!(value.get(digits), Some(b':' | b'-'))
}

/// Returns true for a number of code, such as `0x4000` or `6,htmlInputRadio` in an enumeration.
fn is_number(value: &[u8]) -> bool {
    let number = value.split(|b| b",;".contains(b)).next().unwrap_or(value);
    let is_decimal = number.len() < value.len() && number.iter().all(u8::is_ascii_digit);
    let hex = number.strip_prefix(b"0x").filter(|hex| hex.len() <= 16);
    is_decimal || hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}

/// Returns true for words with a digit or a mark that are no sentence: `Tr0ub4dor and three`.
fn is_spaced_password(value: &[u8]) -> bool {
    let words: Vec<_> = value.split(|b| *b == b' ').collect();
    let has_both = |word: &[u8]| {
        word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic)
    };
    let is_password = |word: &&[u8]| has_both(word) && is_human_password(word);
    (2..=MAX_PHRASE_WORDS).contains(&words.len())
        && !words.iter().any(|word| word.is_empty() || is_code(word))
        && is_human_password(&words.concat())
        && (!is_sentence(&words) || !is_label(&words) && words.iter().any(is_password))
}

/// Returns the length of the passphrase or the recovery words at the beginning of a text. `None` for other text, and
/// after a name that does not end like that of a password.
pub(super) fn phrase_len(before: &[u8], text: &[u8]) -> Option<usize> {
    const NAMES: &str =
        "password passwd pwd passphrase pass mnemonic seedphrase recoveryphrase secretphrase";
    let phrase = find_phrase(text, before.ends_with(b"="))?;
    let named = NamedValue::parse(before, phrase, &[]);
    let mut name = named.name.to_ascii_lowercase();
    // `--- PASS: one two three four` is the result of a test, and `second pass:` begins a sentence.
    let line = named
        .name
        .rsplit(|b| *b == b'\n')
        .next()
        .unwrap_or_default();
    let word = line
        .rsplit(|b| b" \t".contains(b))
        .next()
        .unwrap_or_default();
    let begins_line = !line[..line.len() - word.len()]
        .iter()
        .any(u8::is_ascii_alphabetic);
    let is_sentence_pass =
        named.operator == b':' && (word == b"PASS" || word == b"pass" && !begins_line);
    name.retain(u8::is_ascii_alphanumeric);
    // As in `- name: SMTP_PASSWORD`, `  value: …` of Kubernetes.
    let name = name.strip_suffix(b"value").unwrap_or(&name);
    let is_named = NAMES
        .split(' ')
        .any(|ending| name.ends_with(ending.as_bytes()));
    let are_groups = phrase.len() == 19 && phrase.split(|b| *b == b' ').all(|word| word.len() == 4);
    let is_assigned = b":=>".contains(&named.operator) || named.is_quoted;
    (is_named && is_assigned && (are_groups || !is_sentence_pass)).then_some(phrase.len())
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
    fn passwords_with_blanks_are_replaced_as_a_whole_in_each_syntax() {
        let quoted = [
            "export DB_PASSWORD=\"?\"",
            "DB_PASSWORD='?' ./run",
            "+DB_PASSWORD=\"?\"",
            "db:\n  password: \"?\"\n  port: 1",
            "+  smtp_pass: '?'",
            "{\"dbPassword\": \"?\", \"port\": 1}",
            r#"{"output": "{\"gpg_passphrase\": \"?\"}"}"#,
            "[db]\npassword = \"?\"\nport = 1",
            "WALLET_MNEMONIC: \"?\"",
            "mail_pwd: '?'",
            "docker run -e SMTP_PASS=\"?\" app",
            "tool --passphrase \"?\" -v",
        ];
        let unquoted = [
            "SMTP_PASSWORD=?",
            "PASS=?",
            "export MAIL_PWD=?\nA=1",
            "-SMTP_PASS=?\n A=1",
            "smtp:\n  password: ?\n  port: 1",
            "+  gpg_passphrase: ?",
            "WALLET_MNEMONIC: ?",
            "- name: SMTP_PASSWORD\n  value: ?\n",
            "    12\tSMTP_PASSWORD=?",
        ];
        let phrases = [
            "abcd efgh ijkl mnop",
            "correct horse battery staple",
            "this error length zebra saddle other kangaroo iceberg old lantern abandon acid",
        ];
        let others = [
            "Tr0ub4dor and three",
            "My d0g Rex!",
            "Correct Horse Battery Staple",
        ];
        let texts = quoted
            .iter()
            .flat_map(|text| phrases.iter().chain(&others).map(move |p| (text, p)));
        let texts = texts.chain(
            unquoted
                .iter()
                .flat_map(|text| phrases.iter().map(move |p| (text, p))),
        );
        for (text, phrase) in texts {
            let (redacted, count) = redact_and_count(&text.replace('?', phrase));
            assert_eq!(
                (redacted, count),
                (text.replace('?', "[redacted]"), 1),
                "{phrase}"
            );
        }
        // The command behind a variable stays.
        for command in ["psql -h db -U me app", "psql app main test", "pg_dump app"] {
            let (redacted, _) = redact_and_count(&format!("PGPASSWORD=hunter2 {command}"));
            assert_eq!(redacted, format!("PGPASSWORD=[redacted] {command}"));
        }
    }

    #[test]
    fn sentences_and_labels_after_the_name_of_a_password_stay() {
        for text in [
            "password: the string that is used here",
            "  password: Must be at least eight characters",
            "\"password\": \"Enter your new password\",",
            "\"pvkPassword\": \"Private key password 1\"",
            "\"password\": \"Mot de passe oublié\"",
            "--- PASS: all cases of this form",
            "PASS: walks over many nodes",
            "the second pass: walk over more nodes",
            "a dry run asks for no passphrase, but later runs always do",
            "const PASSWORD_PROMPT: &str = \"Enter password here now: \";",
            "PASSPHRASE=$(cat one two three)",
        ] {
            assert_eq!(redact_and_count(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn values_with_shell_characters_dots_or_colons_are_replaced_up_to_their_end() {
        for value in [
            "iv138j*m1$zlj6o#)ahe!l0x-q7m2k9v4",
            "x9$Kq;w7&Lm2|Zt5",
            "Zx8'kQ\"4vB`n2Lw7P",
            "0.48c78342-1635-48a6-accd-afbe01336365.C0tMmQqHnAp1h0gL8bngprlP:B3h5D+YgLv==",
            "8f2c1e9b7d6a4053.Qm7Zx2Kp9Lw4",
        ] {
            for text in [
                "A=1\nSECRET_KEY=?\nB=2",
                "app:\n  app_password: ?\n  port: 1",
                "+api_key: ?\n",
            ] {
                let (redacted, _) = redact_and_count(&text.replace('?', value));
                assert_eq!(redacted, text.replace('?', "[redacted]"), "{value}");
            }
        }
        let (redacted, _) = redact_and_count(r#"{"password": "ab\"c;d9\\x$e"}"#);
        assert_eq!(redacted, r#"{"password": "[redacted]"}"#);
    }

    #[test]
    fn names_of_files_classes_and_functions_are_no_names_of_values() {
        for text in [
            "src/reset-password.ts:204:export type PasswordReset2 = string;",
            "src/reset_password.py-48-DATE_FORMAT = '%Y-%m-%dT%H:%M:%S+0000'",
            "lib/access_token.rb:12:Xk9mQ2vL7pR4tW8z",
            "PasswordDialog::OnOpen2, TokenCache::Entry3",
            "const STORAGE_KEY = 'app_state_v1';",
            "secret_ref: 'V1LocalObjectReference',",
            "private_key: PKCS7PrivateKeyTypes,",
            "'enableK8sTokensViaDns': flags.AddEnableK8sTokensViaDnsFlag(a),",
            "MLKEM768PrivateKey = rust_openssl.hpke.MLKEM768PrivateKey",
            "('OAUTH2_CLIENT_SECRET', 'oauth2ClientSecret'), ('KEYPASSWD', 'KRB4LEVEL')",
            "--secret=projects/my-project/secrets/my-secret/versions/1",
            "CLIENT_SECRET_ID_TOKEN_ID=76d4a08a-9d1c-4f42-8b1c-0a4a4f0c6b11",
            "NextToken: \"x9K2mQ7pL4vR8tW1zB5n\"",
            "\"requestId\": \"c2f1e0d9-8b7a-4c6d-9e5f-3a2b1c0d9e8f\", \"token\": \"c2f1e0d9-8b7a-4c6d-9e5f-3a2b1c0d9e8f\"",
            "ssh -Q key: sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
            "password: Option<&'a [u8]>,",
            "<protocol>://<user>:<password>\\[rB]@\\[rB]<hostname>",
            "_PKCS1_MARKER = ('-----BEGIN RSA PRIVATE KEY-----',\n/usr/lib/python3/dist-packages/rsa/pem/key/parser.py:40: \
             '-----END RSA PRIVATE KEY-----')",
        ] {
            assert_eq!(redact_and_count(text), (text.to_owned(), 0));
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
