//! The pictures of the README match the output. `docs/pictures/make` creates them again.

use crate::cooldown::entry;
use crate::prune::archives;
use crate::support::conversations::{Conversation, write};
use crate::support::env::TestEnv;
use crate::support::fake_codex::FakeCodex;
use crate::support::pauses::EVENT_LIMIT;
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::terminal::Terminal;
use anstyle_svg::Term;
use serde_json::{Value, json};
use std::collections::HashSet;
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

/// Renders a screen. Dimmed text is brighter than the library has it, which is hard to read on a small screen.
fn render(screen: &str) -> String {
    let picture = Term::new().min_width_px(0).render_svg(screen);
    picture.replace("opacity: 0.4", "opacity: 0.65")
}

/// Compares `screen` with the picture `name`, or creates the picture if [`MAKE`] is set.
fn compare(name: &str, screen: &str) {
    compare_picture(name, screen, &render(screen));
}

/// The terminal of the animation: narrow, so that its text is large on a page.
const FRAME: (u16, u16) = (72, 19);

/// Seconds for which each frame is shown.
const FRAME_SECS: f64 = 3.5;

/// The part by which the picture is larger than its text.
const ZOOM: f64 = 1.25;

/// Renders screens as an endless animation. A viewer without animations, or with reduced motion, shows `still`.
fn render_animation(frames: &[String], still: usize) -> String {
    let pictures = frames.iter().map(|frame| render(frame));
    let pictures: Vec<_> = pictures.collect();
    let style = |picture: &str| {
        let (_, rest) = picture.split_once("<style>\n").expect("a style");
        rest.split_once("  </style>").expect("its end").0.to_owned()
    };
    let body = |picture: &str| {
        let from = picture.find("  <text").expect("a text");
        picture[from..].replace("</svg>", "")
    };
    let total = f64::from(u32::try_from(frames.len()).unwrap()) * FRAME_SECS;
    let (mut styles, mut bodies) = (Vec::new(), String::new());
    for (number, picture) in (0_u32..).zip(&pictures) {
        styles.extend(style(picture).lines().map(str::to_owned));
        let [from, to] = [number, number + 1].map(|n| f64::from(n) * FRAME_SECS / total * 100.0);
        let base = if number == u32::try_from(still).unwrap() {
            "visible"
        } else {
            "hidden"
        };
        styles.push(format!(
            "    .frame-{number} {{ visibility: {base}; animation: frame-{number} {total}s step-end infinite }}"
        ));
        styles.push(format!(
            "    @keyframes frame-{number} {{ 0% {{ visibility: hidden }} {from:.2}% {{ visibility: visible }} {to:.2}% {{ visibility: hidden }} }}"
        ));
        let body = body(picture);
        let parts = [
            "  <g class=\"frame-",
            &number.to_string(),
            "\">\n",
            body.trim_end(),
            "\n  </g>\n",
        ];
        bodies.extend(parts);
    }
    let mut seen = HashSet::new();
    let is_block = |line: &str| line.len() < 8 || !line.ends_with('}');
    styles.retain(|line| is_block(line) || seen.insert(line.clone()));
    let size = regex::Regex::new(r#"width="(\d+)px" height="(\d+)px""#).unwrap();
    let sizes = pictures.iter().map(|picture| {
        let found = size.captures(picture).expect("a size");
        [&found[1], &found[2]].map(|number| number.parse::<f64>().unwrap())
    });
    let [width, height] = sizes.fold([0.0, 0.0], |[w, h], [x, y]| {
        [f64::max(w, x), f64::max(h, y)]
    });
    format!(
        "<svg width=\"{}px\" height=\"{}px\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n  \
         <style>\n{}\n    @media (prefers-reduced-motion: reduce) {{ g {{ animation: none !important }} }}\n  </style>\n\n  \
         <rect width=\"100%\" height=\"100%\" y=\"0\" rx=\"4.5\" class=\"bg\" />\n\n{bodies}</svg>\n",
        width * ZOOM,
        height * ZOOM,
        styles.join("\n"),
    )
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

/// Creates a home with three accounts, of which `work` is signed in and has no quota left.
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

/// Creates a home with conversations of the last days, and a Codex that only starts.
fn conversations_to_find() -> TestEnv {
    let mut env = accounts();
    let codex = FakeCodex::new(&env.path("bin"));
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    for (number, minutes, project, account, question, answer) in [
        (
            1,
            40,
            "shop",
            "home",
            "Checkout is slow on Mondays",
            "The cart query has no index on `user_id`.",
        ),
        (
            2,
            60 * 26,
            "shop",
            "home",
            "Payments fail twice a day",
            "The gateway answers 503, and we retry at once. With exponential backoff and a little jitter the retries no longer come together.",
        ),
        (
            3,
            60 * 50,
            "blog",
            "lab",
            "Draft the post about caching",
            "Three sections: what, when, and when not.",
        ),
        (
            4,
            60 * 75,
            "shop",
            "work",
            "Upgrade to the new SDK",
            "The client now retries by itself; our backoff is needless there.",
        ),
        (
            5,
            60 * 99,
            "infra",
            "work",
            "Rotate the certificates",
            "All five are renewed.",
        ),
    ] {
        let mut conversation = Conversation::new(number, minutes, question, answer);
        conversation.cwd = format!("/home/me/{project}");
        conversation.account = format!("acct-{account}");
        write(&env, &conversation);
    }
    env
}

#[test]
fn the_animated_picture_matches_the_output() {
    let env = conversations_to_find();
    let mut command = env.command(["find"]);
    command.args(["--color", "always"]).env_remove("COLUMNS");
    let mut terminal = Terminal::start(&mut command);
    let (columns, lines) = FRAME;
    terminal.resize(columns, lines);
    let prompt = "\u{1b}[2m$\u{1b}[0m \u{1b}[1mcodex-manager find\u{1b}[0m\n";
    let shot = |terminal: &Terminal, is_wanted: &dyn Fn(&str) -> bool| {
        terminal.wait_until(FRAME, EVENT_LIMIT, is_wanted);
        prompt.to_owned() + &terminal.colored_picture(columns, lines)
    };
    let all = shot(&terminal, &|p| {
        p.contains("Rotate") && p.contains("user:") && p.contains("\nenter ")
    });
    terminal.type_keys("retry backoff");
    let found = shot(&terminal, &|p| {
        p.contains("together.") && p.contains("turn 1, assistant:\n")
    });
    terminal.type_keys("\r");
    // The conversation belongs to an account that is not live.
    let _ = shot(&terminal, &|p| p.contains("[y/N]"));
    terminal.type_keys("y\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    let resumed = shot(&terminal, &|_| true);
    let frames = [all, found, resumed];
    compare_picture("tour", &frames.concat(), &render_animation(&frames, 1));
}

#[test]
fn the_accounts_picture_matches_the_output() {
    let env = accounts();
    let screen = session(
        &env,
        &[&["recommend"], &["accounts"], &["accounts", "--timeline"]],
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
