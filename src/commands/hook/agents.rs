//! The snippet of `hook agents`, with which Codex looks up past conversations.

// Ten lines, because a model reads them in every conversation.
pub(super) const SNIPPET: &str = r#"## Past conversations

Before you solve a problem anew or ask what was decided, search past conversations:
- `codex-manager find --json --limit 5 WORDS` prints `hits[]` with `session_id`, `title`, `turn` and `snippet`.
  All words have to occur; `"two words"` is a phrase. Add `--here` for this folder. Exit code 5: nothing found.
- `codex-manager show --format md --max-bytes 20000 --turn N SESSION` prints the turn of a hit. Without
  `--turn N` it prints the conversation from its beginning.

Use other words before you give up. Do not quote tokens or keys that you find.
"#;
