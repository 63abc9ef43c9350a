//! Tells passphrases from sentences, labels and commands.

/// The longest passphrase: 24 recovery words.
const MAX_CHECKED_PHRASE_BYTES: usize = 256;

/// Words of sentences and labels, in lower case. A passphrase has few of them.
const SENTENCE_WORDS: &str = "a an the and or of to in on at by is are be was for with from into this that must can \
    not no has have will please enter your you my new than only if it as we minimum characters digits required invalid \
    reset forgot login user email";

/// Commands before which a password is given as a variable: `PGPASSWORD=… psql app`.
const COMMANDS: &str = "psql createdb dropdb createuser mysql mysqldump mongosh restic borg rclone npm npx node cargo \
    python python3 make docker git sudo bash sh curl ssh env go exec";

/// The fewest words of a passphrase.
const MIN_PHRASE_WORDS: usize = 4;

/// The most words of a passphrase: the recovery words of a wallet.
pub(super) const MAX_PHRASE_WORDS: usize = 24;

/// Returns the passphrase or the recovery words at the beginning of a text: four words and more in lower case, and no
/// sentence or command. `is_assigned` is true behind `NAME=`, where a command may follow the password.
pub(super) fn find_phrase(text: &[u8], is_assigned: bool) -> Option<&[u8]> {
    let text = &text[..text.len().min(MAX_CHECKED_PHRASE_BYTES)];
    let is_phrase = |b: &u8| b.is_ascii_lowercase() || *b == b' ';
    let run = text.iter().take_while(|b| is_phrase(b)).count();
    let phrase = text[..run].trim_ascii_end();
    let words: Vec<_> = phrase.split(|b| *b == b' ').collect();
    // Bytes up to 0xdf begin letters of other languages; marks such as a Chinese comma begin with larger ones.
    let goes_on = |b: &u8| {
        b.is_ascii_alphanumeric() || b"-_=/:.$&|@~(?!".contains(b) || (0x80..0xe0).contains(b)
    };
    let is_secret = (MIN_PHRASE_WORDS..=MAX_PHRASE_WORDS).contains(&words.len())
        && text.get(run).is_none_or(|b| !goes_on(b))
        && !(is_assigned && is_one_of(words[1], COMMANDS))
        && words.iter().all(|word| (3..=9).contains(&word.len()))
        && !is_sentence(&words);
    is_secret.then_some(phrase)
}

/// Returns true for a quoted passphrase of plain words that are no sentence: four words and more in one style, or any
/// words that are assigned to a variable.
pub(super) fn is_quoted_phrase(value: &[u8], is_variable: bool) -> bool {
    let words: Vec<_> = value.split(|b| *b == b' ').collect();
    let are_lower = words
        .iter()
        .all(|word| word.iter().all(u8::is_ascii_lowercase));
    let is_capitalized = |word: &&[u8]| {
        word.split_first().is_some_and(|(first, rest)| {
            first.is_ascii_uppercase() && rest.iter().all(u8::is_ascii_lowercase)
        })
    };
    let is_style_of_phrase = are_lower || words.iter().all(is_capitalized);
    let min_words = if is_variable { 2 } else { MIN_PHRASE_WORDS };
    (min_words..=MAX_PHRASE_WORDS).contains(&words.len())
        && !words
            .iter()
            .any(|word| word.is_empty() || !word.iter().all(u8::is_ascii_alphabetic))
        && (is_style_of_phrase || is_variable)
        && !is_sentence(&words)
}

/// Returns true for a label, and if more than a third of the words are words of sentences.
pub(super) fn is_sentence(words: &[&[u8]]) -> bool {
    let sentence_words = words
        .iter()
        .filter(|word| is_one_of(word, SENTENCE_WORDS))
        .count();
    is_label(words) || sentence_words * 3 > words.len()
}

/// Returns true if a word says that the other words describe a password: `Password of the database`.
pub(super) fn is_label(words: &[&[u8]]) -> bool {
    words
        .iter()
        .any(|word| is_one_of(word, "password passwords passphrase passwd pwd"))
}

/// Returns true if `word` is one of `words` without its punctuation; they are in lower case and separated by blanks.
fn is_one_of(word: &[u8], words: &str) -> bool {
    let letters: Vec<u8> = word
        .iter()
        .copied()
        .filter(u8::is_ascii_alphanumeric)
        .collect();
    let mut words = words.split_ascii_whitespace();
    words.any(|known| letters.eq_ignore_ascii_case(known.as_bytes()))
}
