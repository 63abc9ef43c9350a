//! Counts with their noun.

use std::fmt::Display;

/// Formats a count with its noun: "1 file", "2 files", "0 entries".
pub fn pluralize<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        return format!("{count} {noun}");
    }
    if noun.ends_with("ch") {
        return format!("{count} {noun}es");
    }

    // "entries", but "days" and "keys".
    match noun
        .strip_suffix('y')
        .filter(|stem| !stem.ends_with(['a', 'e', 'o']))
    {
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_counts_but_one_are_plural() {
        assert_eq!(pluralize(0_usize, "file"), "0 files");
        assert_eq!(pluralize(1_u64, "file"), "1 file");
        assert_eq!(pluralize(1_i64, "day"), "1 day");
        assert_eq!(pluralize(2_i64, "day"), "2 days");
        assert_eq!(pluralize(2_usize, "entry"), "2 entries");
        assert_eq!(pluralize(3_usize, "launch"), "3 launches");
    }
}
