//! Compares `docs/json-output.md` with the documents of all commands: exactly the listed keys. A command
//! without a row fails, and so does a row without a compared document.

use crate::cooldown::{entry, write_cooldown};
use crate::every_command::{Leaf, assert_orderly_exit, leaves, world};
use crate::history_check::home_with_all_differences;
use crate::python_import::python_home;
use crate::support::conversations::{Conversation, id, tool_output, write};
use crate::support::env::TestEnv;
use crate::support::profiles::save_alice_and_bob;
use crate::support::sample::{alice, bob};
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use crate::support::write_program;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The expected keys of an object.
#[derive(Debug, Clone, Default)]
struct Shape {
    keys: BTreeMap<String, Key>,
    /// True if keys may be data, such as file names.
    is_open: bool,
}

/// The documented properties of a key.
#[derive(Debug, Clone)]
struct Key {
    is_optional: bool,
    inner: Option<Shape>,
}

type Shapes = BTreeMap<String, Shape>;

/// Parses a cell of the table.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    shapes: &'a Shapes,
}

impl<'a> Reader<'a> {
    fn read(text: &'a str, shapes: &'a Shapes) -> Shape {
        let mut reader = Self {
            text,
            rest: text,
            shapes,
        };
        let shape = reader.shape();
        assert_eq!(reader.rest, "", "{text}");
        shape
    }

    fn take(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(mark);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self) -> &'a str {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let end = self.rest.find(|c| !is_word(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        assert!(!word.is_empty(), "{:?} in {}", self.rest, self.text);
        self.rest = rest;
        word
    }

    fn note(&mut self) {
        if self.take("(") {
            let (_, rest) = self.rest.split_once(')').expect("the end of a note");
            self.rest = rest;
        }
    }

    fn shape(&mut self) -> Shape {
        let mut shape = Shape::default();
        loop {
            if self.take("…") {
                let name = self.word();
                let of = self.shapes.get(name);
                let of = of.unwrap_or_else(|| panic!("no shape {name}: {}", self.text));
                shape.keys.extend(of.keys.clone());
                shape.is_open |= of.is_open;
            } else if self.take("*") {
                shape.is_open = true;
            } else {
                let is_quoted = self.take("`");
                let name = self.word();
                self.take("[]");
                let mut is_optional = self.take("?");
                assert!(!is_quoted || self.take("`"), "{name} in {}", self.text);
                is_optional |= self.take("?");
                self.note();
                let inner = self.take("{").then(|| {
                    let inner = self.shape();
                    assert!(self.take("}"), "{name} in {}", self.text);
                    inner
                });
                let key = Key { is_optional, inner };
                let twice = shape.keys.insert(name.to_owned(), key);
                assert!(twice.is_none(), "{name} twice in {}", self.text);
            }
            self.note();
            if !self.take(",") {
                return shape;
            }
        }
    }
}

/// Returns the first two cells of each row of the tables with this head.
fn table<'a>(text: &'a str, head: &str) -> Vec<(&'a str, &'a str)> {
    let start = text.find(&format!("| {head} | keys |")).expect("the table");
    let lines = text[start..].lines().skip(2);
    let rows = lines.map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<_> = rows
        .map(|row| row.split_once(" | ").expect("two cells"))
        .collect();
    assert!(!rows.is_empty(), "{head}");
    rows
}

/// Returns the documented shapes by command.
fn documented() -> Shapes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json-output.md");
    let text = fs::read_to_string(path).expect("read");
    let mut shapes = Shapes::new();
    // A shape may be made of those below it.
    for (name, keys) in table(&text, "shape").into_iter().rev() {
        let shape = Reader::read(keys, &shapes);
        shapes.insert(name.to_owned(), shape);
    }
    let mut commands = Shapes::new();
    for (names, keys) in table(&text, "command") {
        let shape = Reader::read(keys, &shapes);
        for name in names.split(", ") {
            let twice = commands.insert(name.trim_matches('`').to_owned(), shape.clone());
            assert!(twice.is_none(), "{name} has two rows");
        }
    }
    commands
}

/// Appends the differences between an object and its description to `wrong`.
fn compare(shape: &Shape, object: &Map<String, Value>, place: &str, wrong: &mut Vec<String>) {
    for (name, key) in &shape.keys {
        if !key.is_optional && !object.contains_key(name) {
            wrong.push(format!("{place}: documented and not there: {name}"));
        }
    }
    for (name, value) in object {
        let place = format!("{place}.{name}");
        let Some(key) = shape.keys.get(name) else {
            if !shape.is_open {
                wrong.push(format!("{place}: not documented"));
            }
            continue;
        };
        let values = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for object in values.iter().filter_map(Value::as_object) {
            match &key.inner {
                Some(inner) => compare(inner, object, &place, wrong),
                None => wrong.push(format!("{place}: its keys are not documented")),
            }
        }
    }
}

/// A run that prints a document: the row of the table, the environment, and the arguments.
pub(crate) struct Case {
    pub(crate) row: String,
    pub(crate) env: TestEnv,
    pub(crate) args: Vec<String>,
}

/// Creates [`world`] with two profiles, one of them with a history, and a `codex` that signs in.
pub(crate) fn world_of_two() -> TestEnv {
    let env = world();
    save_alice_and_bob(&env);
    write_auth(&env.codex_home(), &alice(1));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let login = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo codex-cli 0.169.0 && exit\n\
         [ \"$1\" = login ] || exit 1\n\
         umask 077; cat > \"$CODEX_HOME/auth.json\" <<'END'\n{}\nEND\n",
        auth_json(&bob())
    );
    write_program(&env.path("bin/codex"), &login);
    env.write(
        "home/.codex/sessions/2026/11/19/garbage.jsonl",
        "no conversation\n",
    );
    env
}

/// Returns a run of `leaf` with `more`, in an environment in which it prints a document.
pub(crate) fn case(leaf: &Leaf, more: &[&str]) -> Case {
    let row = leaf.words.join(" ");
    let mut env = if row.starts_with("history ") {
        home_with_all_differences()
    } else {
        world_of_two()
    };
    let mut args = leaf.with(more);
    match &*row {
        "use" => args.push("home".into()),
        "restore" => args.push("latest".into()),
        "launch" => args.extend(["home".into(), "--dry-run".into()]),
        "resume" => {
            let id = "01a1f78b-4d31-7ef3-b0ee-5caab8d3b455";
            let meta = serde_json::json!({"type": "session_meta", "payload":
                {"id": id, "creator_account_id": "acct-bob"}});
            let folder = "home/.codex/sessions/2026/11/20";
            env.write(
                &format!("{folder}/rollout-2026-11-20T06-00-00-{id}.jsonl"),
                format!("{meta}\n"),
            );
            args.extend([id.into(), "--dry-run".into()]);
        }
        "storage shrink" | "storage expand" => {
            let id = "01a1f78b-4d31-7ef3-b0ee-5caab8d3b455";
            let name = format!("rollout-2026-11-20T06-00-00-{id}.jsonl");
            let text = "{\"type\":\"x\"}\n".repeat(100);
            env.write(&format!("home/.codex/sessions/2026/11/20/{name}"), text);
            let all = ["storage", "shrink", "--older-than", "0s", "--min-size", "0"];
            match &*row {
                "storage shrink" => args.extend(all[2..].iter().map(|&arg| arg.to_owned())),
                _ => drop(env.run(all).code(0)),
            }
        }
        "storage trash" => args.push("--no-turns".into()),
        "profile rename" => args[2] = "home".into(),
        "profile show" | "profile remove" => args.insert(2, "home".into()),
        "profile restore-login" => {
            let _ = env.run(["use", "home"]).code(0);
            args.insert(2, "work".into());
        }
        "find" | "show" | "export" => {
            fs::remove_file(env.codex_home().join("state_5.sqlite")).expect("remove");
            let mut conversation = Conversation::new(1, 10, "one", "two");
            conversation.lines.push(tool_output("three"));
            write(&env, &conversation);
            let wanted = if row == "find" { "two".into() } else { id(1) };
            args.insert(1, wanted);
            if row == "export" {
                args.extend(["--out".into(), "exported.md".into()]);
            }
        }
        "profile undo" => {
            let _ = env.run(["profile", "remove", "home", "--yes"]).code(0);
        }
        "history undo" => drop(env.run(["history", "repair"])),
        "profile import" => {
            let _ = env.run(["profile", "export", "file"]).code(0);
        }
        "schedule remove" => drop(env.run(["schedule", "install", "backup"]).code(0)),
        "sync init" => {
            args.extend(["--cloud".into(), "home/cloud".into()]);
            let settings = env.manager_home().join("sync.toml");
            fs::remove_file(settings).expect("remove");
        }
        "sync forget" => {
            crate::vault::set_up(&mut env);
            let _ = env.run(["sync", "init", "--vault", "--force"]).code(0);
        }
        _ if row.starts_with("vault ") => vault_case(&mut env, &row, &mut args),
        "config import-python" => {
            python_home(&env, "home/.codexmgr");
        }
        "config edit" => {
            env.set("EDITOR", "printf 'color = \"never\"\\n' >");
        }
        _ => {}
    }
    Case { row, env, args }
}

/// Creates a vault with a snapshot, and adds the arguments that the command needs.
fn vault_case(env: &mut TestEnv, row: &str, args: &mut Vec<String>) {
    if row == "vault init" {
        env.set("RESTIC_PASSWORD", "secret");
        return;
    }
    crate::vault::set_up(env);
    let _ = env.run(["vault", "backup"]).code(0);
    match row {
        "vault forget" => args.extend(["--keep-last".into(), "1".into()]),
        "vault import" => {
            let backups = fs::read_dir(env.manager_home().join("backups")).expect("list");
            let mut paths = backups.map(|entry| entry.expect("entry").path());
            let archive = paths.find(|path| path.extension().is_some_and(|e| e == "gz"));
            args[2] = archive.expect("an archive").display().to_string();
        }
        _ => {}
    }
}

/// Returns runs whose keys depend on a flag.
fn variants() -> Vec<Case> {
    let moved = || {
        let env = world_of_two();
        write_cooldown(
            &env,
            &[
                entry("alice@example.com", 100.0, "2026-11-24T15:55:00Z"),
                entry("bob@example.com", 10.0, "2026-11-24T15:55:00Z"),
            ],
        );
        env
    };
    let case = |row: &str, args: &[&str]| {
        let env = moved();
        if args.contains(&"--undo") {
            let _ = env.run(["prune", "--keep-last", "1"]).code(0);
        }
        Case {
            row: row.to_owned(),
            env,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        }
    };
    let with_conversations = |row: &str, args: &[&str]| {
        let case = case(row, args);
        // The home has a database without these columns.
        fs::remove_file(case.env.codex_home().join("state_5.sqlite")).expect("remove");
        write(&case.env, &Conversation::new(1, 10, "one", "two"));
        case
    };
    vec![
        with_conversations("sessions", &["sessions", "--json"]),
        case("sessions --launched", &["sessions", "--launched", "--json"]),
        case(
            "status --account",
            &["status", "--account", "home", "--json"],
        ),
        case("status --all", &["status", "--all", "--json"]),
        case("status --history", &["status", "--history", "--json"]),
        case("recommend --use", &["recommend", "--use", "--json"]),
        case("storage", &["storage", "--json"]),
        case("usage --window", &["usage", "--window", "--json"]),
        case("usage --server", &["usage", "--server", "--json"]),
        with_conversations(
            "usage --server SESSION",
            &["usage", "--server", &id(1), "--json"],
        ),
        case("notify", &["notify", "--dry-run", "--json"]),
        {
            let case = case(
                "profile import --from",
                &["profile", "import", "--from", "codex-switch", "--json"],
            );
            let profiles = "home/.codex-switch/profiles";
            let login = auth_json(&SignIn::new("acct-carol", "carol@example.com"));
            case.env
                .write(&format!("{profiles}/carol/auth.json"), login);
            case.env
                .write(&format!("{profiles}/damaged/auth.json"), "{");
            case
        },
        case("man --dir", &["man", "--dir", "pages", "--json"]),
        case("prune", &["prune", "--undo", "--dry-run", "--json"]),
        case(
            "schedule install",
            &[
                "schedule", "install", "status", "--daily", "07:30", "--json",
            ],
        ),
    ]
}

#[test]
fn every_json_document_has_exactly_the_documented_keys() {
    let rows = documented();
    let mut every = leaves();
    let mut rows = rows;
    if crate::support::restic::program().is_none() {
        every.retain(|leaf| leaf.words[0] != "vault");
        rows.retain(|row, _| !row.starts_with("vault "));
    }
    let cases = every.iter().map(|leaf| case(leaf, &["--json", "--yes"]));
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for Case { row, env, args } in cases.chain(variants()) {
        let run = env.run(&args);
        assert_orderly_exit(&row, &run);
        let Ok(json) = serde_json::from_str::<Value>(&run.stdout) else {
            wrong.push(format!("{row}: {args:?}: no document\n{run}"));
            continue;
        };
        let mut document = json.as_object().expect("an object").clone();
        assert_eq!(document.remove("schema"), Some(1.into()), "{row}");
        let named = document.remove("command").expect("a command");
        let named = named.as_str().expect("a name");
        assert!(
            row.starts_with(named)
                || row == "recommend --use" && named == "use"
                || row == "login" && named == "profile login",
            "{row}: {named}"
        );
        match rows.get(&row) {
            Some(shape) => compare(shape, &document, &row, &mut wrong),
            None => wrong.push(format!("{row}: no row in docs/json-output.md")),
        }
        seen.insert(row);
    }
    for row in rows.keys().filter(|row| !seen.contains(*row)) {
        wrong.push(format!("{row}: documented, and never printed"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
