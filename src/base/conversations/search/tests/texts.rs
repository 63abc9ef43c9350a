//! Random texts of words with accents, code, symbols, and scripts without blanks.

use super::random::Random;

pub(super) const WORDS: &[&str] = &[
    "parser",
    "Parser",
    "parse",
    "error",
    "Ärger",
    "arger",
    "café",
    "CAFÉ",
    "ＡＢＣ",
    "abc",
    "Straße",
    "STRASSE",
    "Łódź",
    "lodz",
    "Ørsted",
    "naïve",
    "übung",
    "ΟΔΟΣ",
    "οδός",
    "привет",
    "Ёлка",
    "E0499",
    "x86",
    "42",
    "a",
    "и",
    "don't",
    "fooBar",
    "HTTPServer2",
    "foo",
];
pub(super) const CODE: &[&str] = &[
    "foo_bar.rs",
    "src/main.rs",
    "--flag",
    "std::io",
    "C++",
    "a->b",
    "foo.bar",
    "e-mail",
    "v1.2.3",
];
pub(super) const SYMBOLS: &[&str] = &["🚀", "👍🏽", "✅", "→", "❤️"];
pub(super) const UNSPACED: &[&str] = &[
    "日本語",
    "東京都庁",
    "ひらがな",
    "カタカナ版",
    "中文搜索引擎",
    "漢字",
    "한국어판",
    "ภาษาไทย",
];
pub(super) const GLUE: &[&str] = &[" ", " ", " ", "\n", ", ", ". ", " (", ") ", "-", "/", "  "];

pub(super) fn text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(8) {
        let part = match random.below(10) {
            0..=5 => *random.pick(WORDS),
            6..=7 => *random.pick(CODE),
            8 => *random.pick(SYMBOLS),
            _ => *random.pick(UNSPACED),
        };
        if part.chars().all(|c| c as u32 > 0x3000) && random.is_one_in(2) {
            text.push_str(random.pick::<&str>(UNSPACED));
        }
        text.push_str(part);
        text.push_str(random.pick::<&str>(GLUE));
    }
    text
}
