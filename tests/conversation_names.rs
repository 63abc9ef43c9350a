//! Mistyped names of conversations: the error suggests the nearest ones, ready to paste.

use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::TestEnv;

#[test]
fn an_unknown_name_suggests_the_nearest_names() {
    let env = TestEnv::new();
    for (number, name) in [(1, "release notes"), (2, "parser"), (3, "billing")] {
        write(
            &env,
            &Conversation::new(number, 60, "A question", "An answer."),
        );
        let named = state(&env).execute(
            "UPDATE threads SET name = ?1 WHERE id = ?2",
            [name, &id(number)],
        );
        assert_eq!(named, Ok(1));
    }
    for command in ["resume", "show", "export"] {
        let run = env.run([command, "relase notes"]).code(1);
        assert!(
            run.stderr.contains("hint: did you mean: 'release notes'\n"),
            "{run}"
        );
        let run = env.run([command, "parsr"]).code(1);
        assert!(run.stderr.contains("hint: did you mean: parser\n"), "{run}");
        let run = env.run([command, "0199-unlike-all"]).code(1);
        assert!(!run.stderr.contains("did you mean"), "{run}");
    }
}
