//! Quoting for a Unix shell, for commands that people copy.

/// Returns `word` quoted, if a shell would split or expand it.
pub fn quote_if_needed(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        single_quote(word)
    }
}

pub fn single_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_metacharacters_are_quoted() {
        assert_eq!(quote_if_needed("/home/a/.codex"), "/home/a/.codex");
        assert_eq!(quote_if_needed("a b"), "'a b'");
        assert_eq!(quote_if_needed("o'b$(id)"), r"'o'\''b$(id)'");
        assert_eq!(quote_if_needed(""), "''");
    }
}
