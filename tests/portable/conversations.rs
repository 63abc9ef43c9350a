//! `sessions`, `find`, `show`, `export`, `usage`.

use crate::machine::{Machine, id, prompt};
use std::fs;

#[test]
fn conversations_are_listed_and_found_by_their_words() {
    let machine = Machine::with_conversations();
    let list = machine.succeed(&["sessions", "--json"]).json();
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    assert_eq!(sessions[0]["id"], id(3).as_str());
    let found = machine.succeed(&["find", "flaky", "--json"]).stdout;
    assert!(found.contains(&id(3)) && !found.contains(&id(1)), "{found}");
    let index = machine.succeed(&["find", "release", "--json"]).stdout;
    assert!(index.contains(&id(2)) && !index.contains(&id(3)), "{index}");
}

#[test]
fn a_conversation_is_shown_and_exported() {
    let machine = Machine::with_conversations();
    let shown = machine.succeed(&["show", &id(1)]).stdout;
    assert!(
        shown.contains(&prompt(1)) && shown.contains("The answer to"),
        "{shown}"
    );
    for format in ["md", "html", "json"] {
        let out = machine.path(&format!("out.{format}"));
        let out = out.to_str().unwrap();
        machine.succeed(&["export", &id(1), "--format", format, "--out", out]);
        assert!(
            fs::read_to_string(out).unwrap().contains(&prompt(1)),
            "{format}"
        );
    }
    machine.succeed(&["export", &id(1), &id(2), "--out", "exports"]);
    assert_eq!(fs::read_dir(machine.path("exports")).unwrap().count(), 2);
}

#[test]
fn monthly_usage_counts_each_token_once() {
    let machine = Machine::with_conversations();
    let usage = machine.succeed(&["usage", "monthly", "--json"]).json();
    assert_eq!(usage["totals"]["input_tokens"], 3000, "{usage}");
    assert_eq!(usage["totals"]["output_tokens"], 300, "{usage}");
}
