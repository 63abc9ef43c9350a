//! Finds the conversations that a text names, in the same way for all commands.

use crate::codex::rollout::RolloutName;
use std::path::Path;

/// Returns those of `all` that `wanted` names: by an id or the path of a rollout, else by the beginning of an id,
/// else by a name. Ids are compared without regard to case.
pub(crate) fn named<T: Copy>(
    all: &(impl Iterator<Item = T> + Clone),
    wanted: &str,
    id: impl Fn(T) -> String,
    has_name: impl Fn(T, &str) -> bool,
) -> Vec<T> {
    if wanted.trim().is_empty() {
        return Vec::new();
    }
    let of_path = id_in_path(wanted);
    let lower = of_path.unwrap_or_else(|| wanted.to_owned()).to_lowercase();
    let tests: [&dyn Fn(T) -> bool; 3] = [
        &|one| id(one).to_lowercase() == lower,
        &|one| id(one).to_lowercase().starts_with(&lower),
        &|one| has_name(one, wanted),
    ];
    let fitting = tests.map(|test| all.clone().filter(|one| test(*one)).collect::<Vec<_>>());
    let found = fitting.into_iter().find(|found| !found.is_empty());
    found.unwrap_or_default()
}

/// Returns the id in the path or the name of a rollout.
pub(crate) fn id_in_path(text: &str) -> Option<String> {
    let file = RolloutName::of_any(Path::new(text))?;
    file.id().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_named_by_id_path_prefix_or_name() {
        const ID: &str = "01a10000-0000-7000-8000-000000000001";
        let all = [
            (ID, "fix it"),
            ("01a1", "02"),
            ("02", "01a2"),
            ("03", "fix it"),
        ];
        let found = |wanted: &str| {
            let found = named(
                &all.iter(),
                wanted,
                |one| one.0.into(),
                |one, name| one.1 == name,
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
        assert_eq!(found(" "), Vec::<&str>::new());
    }
}
