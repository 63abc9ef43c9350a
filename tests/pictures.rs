//! The pictures of the README are what the program prints. `docs/pictures/make` makes them again.

use crate::cooldown::{entry, know};
use crate::prune::archives;
use crate::support::env::TestEnv;
use crate::support::sign_in::{SignIn, write_auth};
use anstyle_svg::Term;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Set to make the pictures rather than compare them.
const MAKE: &str = "CODEX_MANAGER_MAKE_PICTURES";

/// Commands with what they print, as a terminal would show it.
fn session(env: &TestEnv, commands: &[&[&str]]) -> String {
    let mut screen = String::new();
    for words in commands {
        if !screen.is_empty() {
            screen.push('\n');
        }
        let run = env.run(words.iter().chain(&["--color", "always"])).code(0);
        let line = format!(
            "\u{1b}[2m$\u{1b}[0m \u{1b}[1mcodex-manager {}\u{1b}[0m\n",
            words.join(" ")
        );
        screen.extend([line, run.stdout, run.stderr]);
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
fn accounts_look_like_their_picture() {
    let env = TestEnv::new();
    for name in ["home", "lab", "work"] {
        let login = SignIn::new(&format!("acct-{name}"), &format!("me@{name}.example"));
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    let mut work = entry("me@work.example", 100.0, "2026-11-23T09:30:00Z");
    work["last_used_at"] = json!("2026-11-20T10:30:00Z");
    let mut home = entry("me@home.example", 38.0, "2026-11-25T18:00:00Z");
    home["observation"]["windows"]
        .as_array_mut()
        .expect("windows")
        .insert(0, json!({"limit_id": "codex", "minutes": 300, "used_percent": 12, "resets_at": "2026-11-20T14:00:00Z"}));
    let mut lab = entry("me@lab.example", 91.0, "2026-11-26T07:00:00Z");
    for (account, profile) in [(&mut work, "work"), (&mut home, "home"), (&mut lab, "lab")] {
        account["profile"] = json!(profile);
    }
    know(&env, &[work, home, lab]);
    let screen = session(
        &env,
        &[&["recommend"], &["cooldown"], &["cooldown", "--timeline"]],
    );
    compare("accounts", &screen);
}

#[test]
fn a_prune_looks_like_its_picture() {
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
