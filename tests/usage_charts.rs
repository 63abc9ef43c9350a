//! The pages of `usage` and `storage`, opened by a real browser, and the rows that a terminal shows.

use crate::support::browser::Browser;
use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::usage_lines::{at, context, conversation, count, store, sum};
use crate::tables::shown;
use chrono::TimeDelta;
use std::fs;
use std::path::PathBuf;

const MODELS: [&str; 7] = [
    "gpt-5.5",
    "gpt-5",
    "gpt-5-mini",
    "o3",
    "gpt-4.1",
    "gpt-4o",
    "o4-mini",
];

/// Days before 19 November 2026 with use, and their number of tokens in thousands.
const DAYS: [(i64, u64); 9] = [
    (0, 900),
    (1, 40),
    (2, 350),
    (6, 10),
    (9, 2200),
    (20, 120),
    (35, 75),
    (100, 640),
    (300, 33),
];

/// Creates days of use with different numbers of models.
fn world() -> TestEnv {
    let env = TestEnv::new();
    for (number, (days, thousands)) in (1..).zip(DAYS) {
        let mut used = [0; 4];
        let mut lines = Vec::new();
        for (i, model) in (0..).zip(MODELS.iter().take(number as usize)) {
            let part = [thousands * 1000 / (i + 1), 0, 500, 0];
            used = sum(used, part);
            let when =
                at(0) - TimeDelta::days(days) + TimeDelta::minutes(i64::try_from(i).unwrap());
            lines.extend([context(when, model), count(when, used, part, None)]);
        }
        let made = Conversation {
            title: format!("Conversation number {number}"),
            cwd: format!(
                "/code/{}",
                if number % 2 == 0 {
                    "site"
                } else {
                    "a-tool-with-a-long-name/of-a-folder"
                }
            ),
            ..conversation(number)
        };
        store(&env, &made, &lines);
    }
    env
}

/// Writes a page that shows another one in a frame of this width, and says how wide its content and how bright its
/// background is, and whether a chart is shown in part or has a label of less than 9 pixels.
fn framed(env: &TestEnv, name: &str, width: u32) -> PathBuf {
    let page = fs::read_to_string(env.path(name)).unwrap();
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    // A figure of seven characters stays on a line.
    let script = "onload = () => { const d = f.contentDocument; const e = d.querySelector('.figures dd'); \
        const measure = text => { e.textContent = text; return e.offsetHeight; }; \
        const fits = !e || measure('1') === measure('115.46M') && e.scrollWidth <= e.clientWidth; \
        const part = c => c.scrollWidth > c.clientWidth; \
        const small = t => { const s = t.closest('.chart').firstElementChild; \
            return parseFloat(getComputedStyle(t).fontSize) * s.clientWidth / s.viewBox.baseVal.width < 9; }; \
        const all = (q, f) => [...d.querySelectorAll(q)].some(f); \
        document.body.dataset.seen = (fits ? '' : 'broken figure ') + \
        (all('.chart', part) ? 'part of a chart ' : '') + (all('.chart text', small) ? 'small label ' : '') + \
        d.documentElement.scrollWidth + ' ' + getComputedStyle(d.body).backgroundColor; }";
    let frame = format!(
        "<!doctype html><meta name=\"color-scheme\" content=\"light dark\"><body>\
         <iframe id=f width={width} height=900 style=\"border:0\" srcdoc=\"{page}\"></iframe><script>{script}</script></body></html>"
    );
    let path = env.path(&format!("{width}-{name}"));
    fs::write(&path, frame).unwrap();
    path
}

#[test]
fn html_pages_fit_phones_and_desktops_in_light_and_dark() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let (env, window) = (world(), crate::usage_window::world());
    let talk = TestEnv::new();
    let answer = format!(
        "A line of code:\n\n```rust\n{}\n```\n\n| a | b |\n|---|---|\n| {} | 2 |\n\n{}",
        "let name = call(argument);".repeat(20),
        "wide ".repeat(60),
        "/a/path/without/blanks".repeat(20),
    );
    write(&talk, &Conversation::new(1, 60, "A question", &answer));
    let talk_args = ["export", &id(1), "--format", "html", "--out"];
    let window_args = ["usage", "--window", "alice@x.com", "--html"];
    for (env, args, name) in [
        (&env, &["usage", "--html"][..], "usage.html"),
        (&env, &["storage", "--html"], "storage.html"),
        (&window, &window_args, "window.html"),
        (&talk, &talk_args, "talk.html"),
    ] {
        let path = env.path(name);
        let _ = env.run([args, &[path.to_str().unwrap()]].concat()).code(0);
        for width in [400, 1200] {
            for (scheme, background) in [("1", "rgb(255, 255, 255)"), ("0", "rgb(20, 23, 28)")] {
                let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
                let shown =
                    browser.open_with(&framed(env, name, width), &["--hide-scrollbars", &scheme]);
                let seen = format!("data-seen=\"{width} {background}\"");
                assert!(
                    shown.elements.contains(&seen),
                    "{name}, not {seen}: {shown:?}"
                );
            }
        }
    }
    let page = fs::read_to_string(env.path("usage.html")).unwrap();
    for part in [
        "Tokens</dt>",
        "Hours of the week",
        "<h2>Projects",
        "<h2>Models",
        "<h2>Accounts",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(
        page.matches("<dt>").count(),
        1 + 4,
        "the days and four figures"
    );
    // The newest day is the first.
    let [newest, oldest] = ["<td>2026-11-19</td>", "<td>2026-01-23</td>"].map(|day| page.find(day));
    assert!(newest.is_some() && newest < oldest, "{newest:?} {oldest:?}");
    let storage = fs::read_to_string(env.path("storage.html")).unwrap();
    assert!(
        storage.contains("chart map") && storage.contains("/code/site: "),
        "{storage}"
    );
}

#[test]
fn a_terminal_and_an_html_page_show_the_last_thirty_days_and_json_shows_all_days() {
    let env = TestEnv::new();
    for day in 0..40 {
        let used = [1000, 0, 0, 0];
        let when = at(0) - TimeDelta::days(day);
        let lines = [context(when, "gpt-5"), count(when, used, used, None)];
        store(&env, &conversation(u32::try_from(day + 1).unwrap()), &lines);
    }
    let screen = shown(&env, &["usage"], 80);
    let days: Vec<_> = screen
        .lines()
        .filter(|line| line.starts_with("2026-"))
        .collect();
    assert_eq!(days.len(), 30, "{screen}");
    assert!(days[29].starts_with("2026-11-19"), "{screen}");
    assert!(days.iter().all(|day| day.contains("   2 % ▍")), "{screen}");
    assert_eq!(screen.matches("SHARE").count(), 2, "{screen}");
    assert!(screen.contains("total: 40.0k tokens"), "{screen}");
    let all = shown(&env, &["usage", "--since", "2026-10-01"], 80);
    assert_eq!(
        all.lines().filter(|line| line.starts_with("2026-")).count(),
        40,
        "{all}"
    );
    let json = env.run(["usage", "--json"]).code(0).json();
    assert_eq!(json["rows"].as_array().unwrap().len(), 40);
    let path = env.path("storage.html");
    let _ = env
        .run(["storage", "--html", path.to_str().unwrap()])
        .code(0);
    let page = fs::read_to_string(path).unwrap();
    let (_, largest) = page.split_once("Largest conversations").unwrap();
    // One of 40 conversations of equal size, although the table has ten of them.
    assert_eq!(largest.matches("<td>2 %</td>").count(), 10, "{largest}");
    let path = env.path("usage.html");
    let _ = env.run(["usage", "--html", path.to_str().unwrap()]).code(0);
    let page = fs::read_to_string(path).unwrap();
    assert_eq!(page.matches("<tr><td>2026-").count(), 30);
    assert!(page.contains("<td>Total of all 40</td>"), "{page}");
}

#[test]
fn an_html_page_loads_nothing_has_no_secret_and_overwrites_nothing() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let env = world();
    let load = format!("<img src=http://{}/x>", browser.address());
    let hostile = Conversation {
        title: format!(
            "</title></table>{load}<script>fetch('http://{}/y')</script>",
            browser.address()
        ),
        cwd: format!("/code/{load}"),
        ..conversation(50)
    };
    let model = format!("</text></svg>{load}");
    let used = [9_000_000, 0, 10, 0];
    let lines = [context(at(2), &model), count(at(2), used, used, None)];
    store(&env, &hostile, &lines);
    let key = "sk-proj-1234567890abcdefghijklmnopqrstuvwxyzABCDEFGH";
    let secret = Conversation {
        title: format!("use {key}"),
        ..conversation(51)
    };
    store(
        &env,
        &secret,
        &[context(at(3), "gpt-5"), count(at(3), used, used, None)],
    );
    for by in ["daily", "sessions", "projects", "models"] {
        let path = env.path(&format!("{by}.html"));
        let run = env
            .run(["usage", by, "--html", path.to_str().unwrap()])
            .code(0);
        assert!(run.stdout.contains(".html"), "{run}");
        let page = browser.open(&path);
        assert_eq!(
            (page.connections, page.console.len()),
            (0, 0),
            "{by}: {:?}",
            page.console
        );
        let shown = &page.elements;
        assert!(
            !shown.contains("<img") && !shown.contains("<script"),
            "{by}: {shown}"
        );
        assert!(!shown.contains(key), "{by}");
    }
    let page = fs::read_to_string(env.path("sessions.html")).unwrap();
    assert!(
        page.contains(&id(50)[..13]) && page.contains("[redacted]"),
        "{page}"
    );
    let (_, rows) = page.split_once("<table class=\"rows\">").unwrap();
    let (rows, _) = rows.split_once("</table>").unwrap();
    assert_eq!(rows.matches("<tr><td>").count(), DAYS.len() + 2 + 1);
    // Nothing is overwritten, and nothing is left behind.
    let before = env.tree("");
    let path = env.path("daily.html");
    let run = env.run(["usage", "--html", path.to_str().unwrap()]).code(1);
    assert!(run.stderr.contains("exists already"), "{run}");
    crate::support::env::assert_same_tree(&before, &env.tree(""));
    // A home without use also gets a page.
    let path = env.path("empty.html");
    let args = [
        "usage",
        "--since",
        "2027-01-01",
        "--html",
        path.to_str().unwrap(),
    ];
    let _ = env.run(args).code(0);
    assert!(browser.open(&path).elements.contains("Total"));
}
