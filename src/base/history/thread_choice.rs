//! Finds the conversations that a text names, in the same way for all commands.

use crate::codex::RolloutName;
use std::path::Path;

/// The least number of characters that select a conversation by the beginning of its title. A shorter text is more
/// likely a typing error, and `storage trash` acts on the selected conversation.
const MIN_TITLE_CHARS: usize = 3;

/// Returns the conversations in `threads` that `wanted` names. Four meanings are tried until one names a conversation:
/// an id or the path of a rollout, the beginning of an id, a title, the beginning of a title. Ids and beginnings are
/// compared without regard to case. `has_title` returns true if a title of the conversation passes the test.
pub fn find_named<T: Copy>(
    threads: &(impl Iterator<Item = T> + Clone),
    wanted: &str,
    id_of: impl Fn(T) -> String,
    has_title: impl Fn(T, &dyn Fn(&str) -> bool) -> bool,
) -> Vec<T> {
    if wanted.trim().is_empty() {
        return Vec::new();
    }

    let path_id = parse_thread_id_in_path(wanted);
    let key = path_id.unwrap_or_else(|| wanted.to_owned()).to_lowercase();
    let is_long_enough = key.chars().count() >= MIN_TITLE_CHARS;

    let begins_with_key = |title: &str| title.to_lowercase().starts_with(&key);
    let conditions: [&dyn Fn(T) -> bool; 4] = [
        &|thread| id_of(thread).to_lowercase() == key,
        &|thread| id_of(thread).to_lowercase().starts_with(&key),
        &|thread| has_title(thread, &|title| title == wanted),
        &|thread| is_long_enough && has_title(thread, &begins_with_key),
    ];

    let mut matches_by_condition = conditions.iter().map(|condition| {
        threads
            .clone()
            .filter(|thread| condition(*thread))
            .collect::<Vec<_>>()
    });
    matches_by_condition
        .find(|matches| !matches.is_empty())
        .unwrap_or_default()
}

/// Returns the id of the thread in the path or the file name of a rollout.
pub fn parse_thread_id_in_path(text: &str) -> Option<String> {
    let file = RolloutName::parse_any(Path::new(text))?;
    file.id().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_named_by_id_path_prefix_or_title() {
        const ID: &str = "01a10000-0000-7000-8000-000000000001";
        let all = [
            (ID, "fix it"),
            ("01a1", "02"),
            ("02", "01a2"),
            ("03", "fix it"),
        ];
        let found = |wanted: &str| {
            let found = find_named(
                &all.iter(),
                wanted,
                |one| one.0.into(),
                |one, fits| fits(one.1),
            );
            found.iter().map(|one| one.0).collect::<Vec<_>>()
        };
        assert_eq!(found("01A1"), ["01a1"], "a complete id wins");
        assert_eq!(found("01a"), [ID, "01a1"]);
        let path = format!("/x/sessions/rollout-2026-01-02T00-00-00-{ID}.jsonl.zst");
        assert_eq!(found(&path), [ID]);
        assert_eq!(found("01a2"), ["02"]);
        assert_eq!(found("02"), ["02"], "an id wins over a name");
        assert_eq!(found("fix it"), [ID, "03"]);
        assert_eq!(found("Fix"), [ID, "03"], "the beginning of a title");
        assert_eq!(found("fi"), Vec::<&str>::new(), "too short for a title");
        assert_eq!(found(" "), Vec::<&str>::new());
    }
}
