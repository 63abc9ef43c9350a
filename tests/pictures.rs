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

/// Runs commands, and returns them with their output, as on a terminal.
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

/// Compares `screen` with the picture `name`, or creates the picture if [`MAKE`] is set.
fn compare(name: &str, screen: &str) {
    compare_picture(name, screen, &Term::new().render_svg(screen));
}

/// Seconds from a command to its output, and from the output to the next command.
const TYPED_SECS: f64 = 0.8;
const READ_SECS: f64 = 2.2;
/// Seconds for which the whole screen is shown.
const END_SECS: f64 = 6.0;

/// Renders a session as an endless animation: commands and their outputs appear in sequence. A viewer
/// without animations, or with reduced motion, shows the whole screen.
fn render_animation(screen: &str) -> String {
    let picture = Term::new().render_svg(screen);
    let is_command = |line: &str| line.starts_with("\u{1b}[2m$");
    let commands = screen.lines().filter(|line| is_command(line)).count();
    let step = TYPED_SECS + READ_SECS;
    let total = f64::from(u32::try_from(commands).unwrap()) * step + END_SECS;
    let (mut at, mut styles, mut lines) = (-READ_SECS, String::new(), Vec::new());
    for line in screen.lines() {
        if is_command(line) {
            at += READ_SECS;
        } else if lines.last().is_some_and(|(_, was_command)| *was_command) {
            at += TYPED_SECS;
        }
        lines.push((at, is_command(line)));
    }
    let mut rendered = String::new();
    let begin = regex::Regex::new(r#"^    <tspan x="10px" y="\d+px">"#).unwrap();
    for text in picture.lines() {
        let line = begin.find(text).map(|found| found.len());
        let Some(len) = line.filter(|_| !lines.is_empty()) else {
            rendered.extend([text, "\n"]);
            continue;
        };
        let percent = lines.remove(0).0 / total * 100.0;
        let class = format!("at-{}", (percent * 100.0).round());
        let rule = format!(
            "    .{class} {{ animation: {class} {total}s step-end infinite }}\n    \
             @keyframes {class} {{ 0% {{ visibility: hidden }} {percent:.2}% {{ visibility: visible }} }}\n"
        );
        if percent > 0.0 && !styles.contains(&rule) {
            styles += &rule;
        }
        let (head, rest) = text.split_at(len - 1);
        rendered.extend([head, " class=\"", &class, "\"", rest, "\n"]);
    }
    styles +=
        "    @media (prefers-reduced-motion: reduce) { tspan { animation: none !important } }\n";
    rendered.replacen("  </style>", &format!("{styles}  </style>"), 1)
}

fn compare_picture(name: &str, screen: &str, picture: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/pictures/{name}.svg"));
    let refers = picture.matches("http").count() > 1 || picture.contains("<script");
    assert!(!refers, "{name}.svg refers to an external resource");
    if std::env::var_os(MAKE).is_some() {
        return fs::write(&path, picture).expect("write");
    }
    // Compressors differ by a few bytes.
    let sizes = regex::Regex::new(r"\d+\.\d kB").unwrap();
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        sizes.replace_all(&known, "") == sizes.replace_all(picture, ""),
        "{} differs from this output:\n{screen}\nrun docs/pictures/make and check the picture",
        path.display()
    );
}

/// A home with three accounts, of which `work` is signed in and has no quota left.
fn accounts() -> TestEnv {
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
    env
}

#[test]
fn the_animated_picture_matches_the_output() {
    let env = accounts();
    env.write("home/.codex/config.toml", "model = \"gpt-5-codex\"\n");
    for n in 1..=9 {
        let name =
            format!("rollout-2026-11-1{n}T10-00-00-01a10000-0000-7000-8000-00000000000{n}.jsonl");
        let text = "{\"type\":\"event_msg\"}\n".repeat(2000);
        env.write(&format!("home/.codex/sessions/2026/11/1{n}/{name}"), &text);
    }
    let screen = session(
        &env,
        &[
            &["recommend"],
            &["use", "home"],
            &["backup", "--no-status"],
            &["restore", "latest"],
        ],
    );
    let home = format!("{}/", env.path("home").display());
    let screen = screen.replace(&home, "~/");
    compare_picture("tour", &screen, &render_animation(&screen));
}

#[test]
fn the_accounts_picture_matches_the_output() {
    let env = accounts();
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
