//! The picker on a terminal: typing, moving, leaving, resizing, and a terminal that is always restored.

use crate::cooldown::{entry, write_cooldown};
use crate::prune::archives;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::profiles::write_age_key;
use crate::support::sample::backup;
use crate::support::sign_in::{SignIn, api_key_auth_json, auth_json, write_auth};
use crate::support::terminal::{LINES, Terminal};
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The size of a terminal in columns and lines.
type Size = (u16, u16);

const WIDE: Size = (120, LINES);

/// Creates a home with three archives, of 18, 19 and 20 November.
fn three_archives() -> TestEnv {
    let mut env = TestEnv::new();
    let times = ["18", "19", "20"].map(|day| format!("2026-11-{day}T10:00:00Z"));
    archives(&mut env, &times.each_ref().map(String::as_str));
    env
}

/// Starts `restore --dry-run` without an archive, so that it asks.
fn ask(env: &TestEnv) -> Terminal {
    let terminal = Terminal::start(&mut env.command(["restore", "--dry-run", "--json"]));
    terminal.wait_for("which archive?", LIMIT);
    terminal
}

/// Returns the line of the selected entry.
fn selected(picture: &str) -> &str {
    let line = picture.lines().find(|line| line.starts_with("> "));
    line.unwrap_or_else(|| panic!("no entry is selected:\n{picture}"))
}

#[test]
fn each_archive_has_one_line_and_the_latest_is_selected() {
    let env = three_archives();
    let terminal = ask(&env);
    let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    let sizes = regex::Regex::new(r"\d+\.\d kB").unwrap();
    insta::assert_snapshot!(sizes.replace_all(&picture, "[SIZE]"), @r"
which archive?                                                                                                      3/3
> 1  Fri 20 Nov 10:00  2 conversations  [SIZE]  full  2026-11-20-100000-alice@example.com
  2  Thu 19 Nov 10:00  2 conversations  [SIZE]  full  2026-11-19-100000-alice@example.com
  3  Wed 18 Nov 10:00  2 conversations  [SIZE]  full  2026-11-18-100000-alice@example.com
enter choose · ↑↓ move · esc cancel · type to filter
");
}

#[test]
fn archives_are_offered_with_their_profile_and_label_at_80_columns() {
    let env = three_archives();
    let _ = env.run(["profile", "save", "work"]).code(0);
    backup(&env, &["--label", "before the update"]);
    let mut terminal = ask(&env);
    terminal.resize(80, LINES);
    let row = " kB  full  before the update  2026-";
    terminal.wait_until((80, LINES), LIMIT, |picture| picture.contains(row));
    // Only archives of several accounts have a column with the account.
    write_auth(&env.codex_home(), &SignIn::bob());
    backup(&env, &[]);
    let row = " kB  full  work             before the update  2026-";
    ask(&env).wait_until(WIDE, LIMIT, |picture| picture.contains(row));
}

#[test]
fn arrows_move_and_enter_chooses() {
    let env = three_archives();
    let mut terminal = ask(&env);
    terminal.type_keys("\x1b[B");
    let is_second = |picture: &str| selected(picture).contains("19 Nov");
    terminal.wait_until(WIDE, LIMIT, is_second);
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    // Nothing of the picker is left, and the plan is of the chosen archive.
    let left = terminal.picture(WIDE.0, WIDE.1);
    assert!(left.contains("2026-11-19-100000"), "{left}");
    assert!(!left.contains("enter choose"), "{left}");
    assert!(terminal.is_cooked());
}

#[test]
fn typing_filters_and_escape_and_control_c_change_nothing() {
    let env = three_archives();
    let before = env.tree("home");
    for key in ["\x1b", "\x03"] {
        let mut terminal = ask(&env);
        terminal.type_keys("18 nov");
        let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("1/3"));
        assert!(selected(&picture).contains("18 Nov"), "{picture}");
        terminal.type_keys(key);
        assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        let left = terminal.picture(WIDE.0, WIDE.1);
        assert!(
            left.starts_with("{\"error\":") && left.contains("\"cancelled\""),
            "{left}"
        );
        assert!(left.contains("nothing was changed"), "{left}");
        assert!(terminal.is_cooked());
    }
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn a_list_of_a_thousand_is_paged_and_filtered() {
    let env = three_archives();
    let backups = env.manager_home().join("backups");
    let name = |suffix: &str| backups.join(format!("2026-11-18-100000-alice@example.com{suffix}"));
    for i in 0..997 {
        for end in [".tar.gz", ".metadata.json"] {
            let copy = name(&format!("-{}-codex{end}", 1000 + i));
            fs::hard_link(name(&format!("-codex{end}")), copy).unwrap();
        }
    }
    let mut terminal = ask(&env);
    let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    assert!(picture.contains("1000/1000"), "{picture}");
    assert_eq!(picture.lines().count(), 20, "{picture}");
    terminal.type_keys("\x1b[6~");
    terminal.wait_until(WIDE, LIMIT, |p| selected(p).starts_with("> 19 "));
    terminal.type_keys("\x1b[F");
    terminal.wait_until(WIDE, LIMIT, |p| selected(p).starts_with("> 1000 "));
    terminal.type_keys("-1500");
    let is_filtered = |p: &str| p.contains(" 1/1000") && selected(p).contains("-1500");
    terminal.wait_until(WIDE, LIMIT, is_filtered);
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130));
}

#[test]
fn each_archive_has_one_line_after_a_resize() {
    let env = three_archives();
    let mut terminal = ask(&env);
    terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    for size in [(40, 10), (20, 5), (100, 30)] {
        terminal.forget();
        terminal.resize(size.0, size.1);
        let picture = terminal.wait_until(size, LIMIT, |picture| {
            let is_drawn = picture.contains("> 1  Fri 20 Nov") && picture.contains("enter");
            is_drawn && picture.lines().count() <= 5
        });
        assert!(
            selected(&picture).starts_with("> 1  Fri 20 Nov"),
            "{picture}"
        );
        if size.0 == 40 {
            insta::assert_snapshot!(picture, @r"
which archive?                      3/3
> 1  Fri 20 Nov 10:00  2 conversations
  2  Thu 19 Nov 10:00  2 conversations
  3  Wed 18 Nov 10:00  2 conversations
enter choose · ↑↓ move · esc cancel
");
        }
    }
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
}

#[test]
fn a_signal_ends_the_command_and_restores_the_terminal() {
    let env = three_archives();
    for signal in ["TERM", "HUP"] {
        let mut terminal = ask(&env);
        assert!(!terminal.is_cooked());
        terminal.signal(signal);
        assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        assert!(terminal.is_cooked());
        let left = terminal.picture(WIDE.0, WIDE.1);
        assert!(!left.contains("enter choose"), "{left}");
    }
}

/// Creates profiles, of which each has used another part of its weekly quota.
fn three_profiles() -> TestEnv {
    let env = TestEnv::new();
    let accounts = [("home", 100.0), ("work", 91.0), ("spare", 12.0)];
    let entries = accounts.map(|(name, used)| {
        let email = format!("{name}@example.com");
        let id = format!("acct-{name}");
        let path = format!("home/.codex-manager/profiles/{name}/auth.json");
        env.write(&path, auth_json(&SignIn::new(&id, &email)));
        let mut entry = entry(&email, used, "2026-11-24T15:55:00Z");
        entry["profile"] = name.into();
        entry["account_id"] = id.into();
        entry
    });
    write_cooldown(&env, &entries);
    env
}

#[test]
fn accounts_are_listed_in_order_of_recommendation_with_the_quota_left() {
    let env = three_profiles();
    let terminal = Terminal::start(&mut env.command(["use", "--dry-run"]));
    let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    insta::assert_snapshot!(picture, @r"
which account?                                                                                                      3/3
> spare  ready      88 %  spare@example.com
  work   ready       9 %  work@example.com
  home   cooldown    0 %  home@example.com
enter choose · ↑↓ move · esc cancel · type to filter
");
}

#[test]
fn an_account_that_is_not_recommended_is_not_preselected() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::alice());
    let _ = env.run(["profile", "save", "live"]).code(0);
    let key = "home/.codex-manager/profiles/key/auth.json";
    env.write(key, api_key_auth_json("sk-test-0000"));
    let terminal = Terminal::start(&mut env.command(["use", "--dry-run"]));
    let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    assert!(picture.contains("  key"), "{picture}");
    assert!(selected(&picture).contains("live"), "{picture}");
}

#[test]
fn an_account_with_a_moved_login_says_so() {
    let env = three_profiles();
    let export = ["profile", "export", "out.age", "--with-logins"];
    let key = write_age_key(&env);
    let args = [&export[..], &["--recipient", &key]].concat();
    let _ = env.run(args).code(0);
    let terminal = Terminal::start(&mut env.command(["use", "--dry-run"]));
    let picture = terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("enter choose"));
    let mut rows = picture.lines();
    let moved = rows.rfind(|row| row.contains("work")).expect("a row");
    assert!(moved.contains("login moved"), "{picture}");
}

#[test]
fn a_long_name_leaves_width_for_state_and_quota() {
    let env = three_profiles();
    let [spare, long] = ["spare", "a-client-with-a-long-name"];
    let _ = env.run(["profile", "rename", spare, long]).code(0);
    let mut terminal =
        Terminal::attend(env.command(["use", "--dry-run"]).env_remove("COLUMNS"), 40);
    terminal.wait_until((40, LINES), LIMIT, |picture| {
        picture.contains("enter choose") && selected(picture).ends_with("  ready      88 %")
    });
    // The filter knows the whole name.
    terminal.type_keys("with-a-l");
    terminal.wait_until((40, LINES), LIMIT, |picture| picture.contains("1/3"));
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
}

#[test]
fn profile_commands_without_a_name_show_a_list() {
    let env = three_profiles();
    for (args, shown) in [
        (&["show"][..], "spare@example.com"),
        (&["remove", "--dry-run"], "would move the profile spare"),
    ] {
        let args = [&["profile"], args].concat();
        let mut terminal = Terminal::start(&mut env.command(&args));
        let is_open = |picture: &str| picture.contains("which profile?") && picture.contains("3/3");
        terminal.wait_until(WIDE, LIMIT, is_open);
        terminal.type_keys("spa");
        terminal.wait_until(WIDE, LIMIT, |picture| picture.contains("1/3"));
        terminal.type_keys("\r");
        assert!(terminal.end().success(), "{}", terminal.text());
        let left = terminal.picture(WIDE.0, WIDE.1);
        assert!(left.contains(shown), "{left}");
    }
    for name in ["show", "remove", "restore-login"] {
        let run = env.run(["profile", name]).code(4);
        assert!(run.stderr.contains("which profile?"), "{run}");
        assert!(run.stderr.contains("codex-manager list"), "{run}");
    }
}

#[test]
fn a_signal_ends_launch_and_restores_the_terminal() {
    let env = three_archives();
    let _ = env.run(["profile", "save", "work"]).code(0);
    let mut terminal = Terminal::start(&mut env.command(["launch"]));
    terminal.wait_for("which account?", LIMIT);
    terminal.signal("TERM");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert!(terminal.is_cooked());
}

#[test]
fn without_a_capable_terminal_an_archive_argument_is_required() {
    let mut env = three_archives();
    let run = env.run(["restore", "--dry-run"]).code(4);
    assert!(run.stderr.contains("which archive?"), "{run}");
    env.set("TERM", "dumb");
    let mut terminal = Terminal::start(&mut env.command(["restore", "--dry-run"]));
    assert_eq!(terminal.end().code(), Some(4), "{}", terminal.text());
}
