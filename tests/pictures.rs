//! The pictures of the README match the output. `docs/pictures/make` creates them again.

use crate::cooldown::entry;
use crate::prune::archives;
use crate::support::env::TestEnv;
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::terminal::Terminal;
use anstyle_svg::Term;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The environment variable that writes the pictures instead of comparing them.
const MAKE: &str = "CODEX_MANAGER_MAKE_PICTURES";

/// The width of the terminal in the pictures.
const COLUMNS: u16 = 84;

/// Commands with what they print, as a terminal would show it.
fn session(env: &TestEnv, commands: &[&[&str]]) -> String {
    let mut screen = String::new();
    for words in commands {
        if !screen.is_empty() {
            screen.push('\n');
        }
        let mut command = env.command(*words);
        command.args(["--color", "always"]).env_remove("COLUMNS");
        let mut terminal = Terminal::watch(&mut command, COLUMNS);
        assert!(terminal.end().success(), "{}", terminal.text());
        let line = format!(
            "\u{1b}[2m$\u{1b}[0m \u{1b}[1mcodex-manager {}\u{1b}[0m\n",
            words.join(" ")
        );
        screen.extend([line, terminal.colored()]);
    }
    screen
}

/// Compares `screen` with the picture `name`, or makes that.
fn compare(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/pictures/{name}.svg"));
    let picture = Term::new().render_svg(screen);
    if std::env::var_os(MAKE).is_some() {
        return fs::write(&path, picture).expect("write");
    }
    // Compressors differ by a few bytes.
    let sizes = regex::Regex::new(r"\d+\.\d kB").unwrap();
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        sizes.replace_all(&known, "") == sizes.replace_all(&picture, ""),
        "{} shows something else than:\n{screen}\nrun docs/pictures/make, and look at it",
        path.display()
    );
}

#[test]
fn the_accounts_picture_matches_the_output() {
    let env = TestEnv::new();
    for name in ["home", "lab", "work"] {
        let login = SignIn::new(&format!("acct-{name}"), &format!("me@{name}.example"));
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    let path = env.manager_home().join("cooldown.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let seen = [
        ("home", 38.0, "2026-11-25T18:00:00Z"),
        ("lab", 91.0, "2026-11-26T07:00:00Z"),
        ("work", 100.0, "2026-11-23T09:30:00Z"),
    ];
    for account in document["accounts"].as_array_mut().expect("accounts") {
        let profile = account["profile"].as_str().expect("a profile").to_owned();
        let (_, used, resets_at) = seen[seen.iter().position(|s| s.0 == profile).unwrap()];
        let email = account["email"].as_str().expect("an email");
        account["observation"] = entry(email, used, resets_at)["observation"].take();
        account["last_used_at"] = match profile.as_str() {
            "work" => json!("2026-11-20T10:30:00Z"),
            _ => Value::Null,
        };
        if profile == "home" {
            let windows = account["observation"]["windows"].as_array_mut();
            windows.expect("windows").insert(0, json!({"limit_id": "codex", "minutes": 300, "used_percent": 12, "resets_at": "2026-11-20T14:00:00Z"}));
        }
    }
    fs::write(&path, document.to_string()).unwrap();
    let screen = session(
        &env,
        &[&["recommend"], &["cooldown"], &["cooldown", "--timeline"]],
    );
    compare("accounts", &screen);
}

#[test]
fn the_prune_picture_matches_the_output() {
    let mut env = TestEnv::new();
    archives(
        &mut env,
        &[
            "2026-10-20T10:00:00Z",
            "2026-11-10T10:00:00Z",
            "2026-11-19T09:00:00Z",
            "2026-11-19T17:20:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let rules = [
        "prune",
        "--keep-last=1",
        "--keep-daily=2",
        "--keep-monthly=2",
        "--dry-run",
    ];
    compare("prune", &session(&env, &[&rules]));
}
