//! Tells random text from words.

/// The shortest value without digits and quotes that counts as random after a name that only marks it as secret.
pub(super) const MIN_DIGITLESS_BYTES: usize = 28;

/// Returns true if a value looks like random text and not like words, joined or not.
pub(super) fn looks_random(value: &[u8]) -> bool {
    let mut words = value.split(|b| !b.is_ascii_alphanumeric());
    let has_long_word = words.any(|word| word.len() >= 14);
    if !value.iter().any(u8::is_ascii_digit) {
        let is_long = has_long_word || value.len() >= MIN_DIGITLESS_BYTES;
        return is_long && looks_random_without_digits(value);
    }

    if value.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let has_two_numbers = || {
        let numbers = value.split(|b| !b.is_ascii_digit());
        numbers.filter(|number| !number.is_empty()).count() >= 2
    };
    let is_hex = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b':');
    let has_both = |word: &&[u8]| {
        word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic)
    };
    let words = value.split(|b| !b.is_ascii_alphanumeric());
    has_many_changes(value)
        || words.filter(has_both).count() >= 5
        || has_vowelless_run(value)
        || (has_long_word && has_two_numbers())
        || value.iter().all(is_hex)
        || has_three_inner_numbers(value)
}

pub(super) fn looks_random_without_digits(value: &[u8]) -> bool {
    if !value.iter().any(u8::is_ascii_uppercase) {
        return has_vowelless_run(value);
    }
    // Without lower case, all pairs of letters are capitals, so the conditions below would tell nothing.
    if !value.iter().any(u8::is_ascii_lowercase) {
        return false;
    }

    // `ASAuthorizationAppleIDButton`: the parts in lower case are long, in random letters they are short.
    let lower_runs = value.split(|b| !b.is_ascii_lowercase());
    let run_count = lower_runs.filter(|run| !run.is_empty()).count();
    let lower_count = value.iter().filter(|b| b.is_ascii_lowercase()).count();
    if lower_count >= 4 * run_count {
        return false;
    }

    let are_capitals = |pair: &&[u8]| pair.iter().all(u8::is_ascii_uppercase);
    let capital_pairs = value.windows(2).filter(are_capitals).count();
    // Names such as `getUserName` have as many changes, but no capital beside another.
    let has_many_changes = count_kind_changes(value) * 4 >= value.len();
    let has_vowelless_word = || words_of(value).any(has_vowelless_run);
    capital_pairs >= 2 || (has_many_changes && (capital_pairs >= 1 || has_vowelless_word()))
}

/// Counts the changes between lower case, upper case and digits, such as four in `aB3c4`.
fn count_kind_changes(value: &[u8]) -> usize {
    let kind = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let is_change =
        |pair: &&[u8]| pair.iter().all(u8::is_ascii_alphanumeric) && kind(pair[0]) != kind(pair[1]);
    value.windows(2).filter(is_change).count()
}

/// Returns true if a third of the neighbours or more differ in kind. In random letters and digits, two fifths do; in
/// joined words, few.
pub(super) fn has_many_changes(value: &[u8]) -> bool {
    let count = value.iter().filter(|b| b.is_ascii_alphanumeric()).count();
    count_kind_changes(value) * 3 >= count
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

/// Returns the words that are joined by marks or capitals: `my`, `User` and `Id2` of `my-UserId2`.
pub(super) fn words_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let joined = value.split(|b| !b.is_ascii_alphanumeric());
    joined.flat_map(|words| {
        words.chunk_by(|a, b| !(a.is_ascii_lowercase() && b.is_ascii_uppercase()))
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

/// Returns true for text as a generator of passwords makes it: at least 8 characters without a blank, and letters with
/// digits or of both cases.
pub(super) fn looks_generated(value: &[u8]) -> bool {
    let has = |is_kind: fn(&u8) -> bool| value.iter().any(is_kind);
    value.len() >= 8
        && !has(u8::is_ascii_whitespace)
        && has(u8::is_ascii_alphabetic)
        && (has(u8::is_ascii_digit) || has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase))
}

/// Returns true for words that are joined by marks or capitals, as names of code are: `app_state_v1`, `authToken2`.
pub(super) fn is_joined_words(value: &[u8]) -> bool {
    // The shortest words, on average: random text has capitals at shorter distances.
    const MIN_WORD_BYTES: usize = 3;

    let has = |is_kind: fn(&u8) -> bool| value.iter().any(is_kind);
    let is_mark = |b: &u8| b"_-.:/".contains(b);
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let starts_word =
        |a: &u8, b: &u8| is_mixed && !a.is_ascii_uppercase() && b.is_ascii_uppercase();
    // A number is a part of a word: `K8s`, `V1`, `x509`.
    let is_word = |word: &[u8]| {
        let mut numbers = word
            .split(|b| !b.is_ascii_digit())
            .filter(|number| !number.is_empty());
        let letters: Vec<u8> = word
            .iter()
            .copied()
            .filter(u8::is_ascii_alphabetic)
            .collect();
        let is_short =
            numbers.next().is_none_or(|number| number.len() <= 3) && numbers.next().is_none();
        is_short && !has_vowelless_run(&letters)
    };
    let are_digits = |a: &u8, b: &u8| a.is_ascii_digit() && b.is_ascii_digit();
    let numbers = value
        .chunk_by(are_digits)
        .filter(|part| part[0].is_ascii_digit())
        .count();
    let is_text = value
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || is_mark(b));
    let words: Vec<&[u8]> = value
        .split(is_mark)
        .flat_map(|part| part.chunk_by(|a, b| !starts_word(a, b)))
        .collect();
    is_text
        && words.len() > 1
        && (!is_mixed || numbers <= 2)
        && value.len() >= MIN_WORD_BYTES * words.len()
        && words.iter().all(|word| is_word(word))
        && !(is_mixed && looks_random_without_digits(value))
}
