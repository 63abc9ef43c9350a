//! Tables: complete rows for programs, whole words for people, at every width.

use crate::cooldown::{entry, write_cooldown};
use crate::prune::archives;
use crate::support::conversations::{Conversation, write};
use crate::support::env::TestEnv;
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use crate::support::terminal::Terminal;
use crate::support::usage_lines::{at, context, conversation, count, store};
use serde_json::json;

const WIDTHS: [u16; 5] = [40, 60, 80, 100, 160];

/// Returns the stdout of a command on a terminal of this width.
pub(crate) fn shown(env: &TestEnv, args: &[&str], columns: u16) -> String {
    let mut command = env.command(args);
    command
        .env_remove("COLUMNS")
        .stderr(std::process::Stdio::null());
    let mut terminal = Terminal::watch(&mut command, columns);
    assert!(terminal.end().success(), "{args:?}: {}", terminal.text());
    terminal.text().replace('\r', "")
}

/// Returns the emails of thirty accounts, some of them long.
fn emails() -> Vec<String> {
    let domains = [
        "x.com",
        "acme-consulting.example",
        "very-long-client-company-name.example",
    ];
    let names = ["me", "contractor-daniel.novak", "d.novak+alias"];
    (0..30)
        .map(|i| format!("{}{i}@{}", names[i % 3], domains[i / 3 % 3]))
        .collect()
}

/// Creates thirty accounts with profiles, in several states.
fn thirty_accounts() -> TestEnv {
    let env = TestEnv::new();
    let entries = emails().into_iter().enumerate().map(|(i, email)| {
        let profile = format!("client-{i:02}");
        let login = SignIn::new(&format!("acct-{i}"), &email);
        let path = format!("home/.codex-manager/profiles/{profile}/auth.json");
        env.write(&path, auth_json(&login));
        if i == 4 {
            write_auth(&env.codex_home(), &login);
        }
        let used = [0.0, 12.0, 91.0, 100.0][i % 4];
        let mut entry = entry(&email, used, "2026-11-24T15:55:00Z");
        entry["plan"] = json!(["plus", "pro", "business"][i % 3]);
        entry["profile"] = json!(profile);
        entry["account_id"] = json!(format!("acct-{i}"));
        entry
    });
    let entries: Vec<_> = entries.collect();
    write_cooldown(&env, &entries);
    env
}

#[test]
fn both_windows_are_shown_at_80_columns() {
    let env = TestEnv::new();
    let entries = [("personal", 100), ("client", 88)].map(|(profile, used)| {
        let email = format!("{profile}.account@example.com");
        let mut account = entry(&email, 20.0, "2026-11-24T15:55:00Z");
        account["profile"] = json!(profile);
        account["plan"] = json!("plus");
        let windows = account["observation"]["windows"].as_array_mut();
        windows
            .expect("windows")
            .push(json!({"limit_id": "codex", "minutes": 300,
            "used_percent": used, "resets_at": "2026-11-20T14:25:00Z"}));
        account
    });
    write_cooldown(&env, &entries);
    let text = shown(&env, &["accounts"], 80);
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[0].contains("5H LEFT"), "{text}");
    for (row, left) in rows[1..].iter().zip(["12 %", " 0 %"]) {
        assert!(row.contains("80 %") && row.contains(left), "{text}");
    }
}

#[test]
fn reports_keep_one_line_for_each_row_at_40_columns() {
    let env = crate::session_picker::home();
    let used = [100_000, 0, 1000, 0];
    let lines = [context(at(0), "gpt-5"), count(at(0), used, used, None)];
    let _ = store(&env, &conversation(9), &lines);
    for (args, head, figure) in [
        (&["usage"][..], "DAY", ".0k"),
        (&["usage", "projects"], "PROJECT", ".0k"),
        (&["usage", "sessions"], "SESSION", ".0k"),
        (&["storage"], "PROJECT", " kB"),
    ] {
        let text = shown(&env, args, 40);
        let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
        assert!(
            lines.nth(1).is_some_and(|row| row.contains(figure)),
            "{text}"
        );
    }
}

#[test]
fn an_archived_conversation_is_shown_with_its_title_and_project_at_80_columns() {
    let env = TestEnv::new();
    let title = "Explain why the borrow checker refuses the table of merges";
    let made = Conversation {
        cwd: "/home/alice/payments-api".into(),
        archived: true,
        ..Conversation::new(1, 60, title, "Because.")
    };
    write(&env, &made);
    let text = shown(&env, &["sessions", "--archived"], 80);
    let row = text.lines().nth(1).unwrap_or_default();
    for part in ["payments-api", &title[..25], "archived"] {
        assert!(row.contains(part), "{part}: {text}");
    }
}

/// At 80 columns there may be no room for the column of the short window.
#[test]
fn a_cooldown_caused_by_the_short_window_names_that_window_on_a_terminal_but_not_in_tsv() {
    let env = TestEnv::new();
    let mut account = entry("me@x.com", 20.0, "2026-11-24T15:55:00Z");
    let short = json!({"limit_id": "codex", "minutes": 300, "used_percent": 100, "resets_at": "2026-11-20T14:00:00Z"});
    let windows = account["observation"]["windows"].as_array_mut();
    windows.expect("windows").push(short);
    write_cooldown(
        &env,
        &[account, entry("b@x.com", 100.0, "2026-11-24T15:55:00Z")],
    );
    let table = shown(&env, &["cooldown"], 80);
    let states = |table: &str| table.matches("cooldown").count();
    assert!(table.contains("cooldown 5h"), "{table}");
    assert_eq!(states(&table), 2, "{table}");
    let values = env.run(["cooldown", "--format", "tsv"]).code(0).stdout;
    assert!(
        !values.contains("cooldown 5h") && states(&values) == 2,
        "{values}"
    );
}

#[test]
fn each_piped_row_is_one_line_with_the_full_email() {
    let env = thirty_accounts();
    for args in [
        &["cooldown"][..],
        &["list"],
        &["profile", "list"],
        &["status", "--all", "--dry-run"],
    ] {
        let text = env.run(args).code(0).stdout;
        assert_eq!(text.lines().count(), 31, "{args:?}: {text}");
        for email in emails() {
            let rows = text
                .lines()
                .filter(|line| line.contains(&format!(" {email} ")));
            assert_eq!(rows.count(), 1, "{args:?} {email}: {text}");
        }
    }
}

/// Creates accounts of one client, whose profiles and addresses begin alike.
fn accounts_of_one_client() -> TestEnv {
    let env = TestEnv::new();
    let entries = (0..10).map(|i| {
        let profile = format!("contractor-daniel.novak{i}");
        let email = format!("{profile}@very-long-client-company.example");
        let login = SignIn::new(&format!("acct-{i}"), &email);
        let path = format!("home/.codex-manager/profiles/{profile}/auth.json");
        env.write(&path, auth_json(&login));
        let mut entry = entry(&email, 12.0, "2026-11-24T15:55:00Z");
        entry["profile"] = json!(profile);
        entry["account_id"] = json!(format!("acct-{i}"));
        entry["plan"] = json!("plus");
        entry
    });
    write_cooldown(&env, &entries.collect::<Vec<_>>());
    env
}

#[test]
fn shortened_emails_with_equal_beginnings_differ_at_every_width() {
    let env = accounts_of_one_client();
    for columns in WIDTHS {
        let text = shown(&env, &["cooldown"], columns);
        for i in 0..10 {
            let is_shown =
                |word: &str| word.starts_with("contr") && word.ends_with(&format!("ak{i}"));
            let count = text
                .split_whitespace()
                .filter(|word| is_shown(word))
                .count();
            assert_eq!(count, 1, "{columns}: novak{i}: {text}");
        }
    }
}

#[test]
fn reasons_of_a_recommendation_are_not_a_narrow_column() {
    let env = accounts_of_one_client();
    let text = shown(&env, &["recommend", "--explain"], 40);
    assert!(text.lines().count() <= 10 * 4, "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 40, "{line}");
    }
}

#[test]
fn list_cooldown_and_status_show_thirty_accounts_as_the_same_thirty_rows_with_the_plan() {
    let env = thirty_accounts();
    let list = shown(&env, &["list"], 80);
    assert_eq!(list.trim_end().lines().count(), 31, "{list}");
    assert!(
        list.lines().all(|line| line.chars().count() <= 80),
        "{list}"
    );
    let head = list.lines().next().unwrap();
    for name in ["PROFILE", "ACCOUNT", "PLAN", "STATE", "WEEKLY LEFT", "NEXT"] {
        assert!(head.contains(name), "{head}");
    }
    assert_eq!(list.matches(" business ").count(), 10, "{list}");
    let sorted = |text: &str| {
        let rows = text.lines().filter(|line| !line.contains("--dry-run"));
        let mut lines: Vec<_> = rows.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for args in [&["cooldown"][..], &["status", "--all", "--dry-run"]] {
        assert_eq!(sorted(&shown(&env, args, 80)), sorted(&list), "{args:?}");
    }
}

#[test]
fn emails_are_shortened_but_never_wrapped_at_any_width() {
    let env = thirty_accounts();
    for columns in WIDTHS {
        let text = shown(&env, &["cooldown"], columns);
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(columns), "{line}");
        }
        for email in emails() {
            let beginning =
                |word: &str| word.strip_suffix('…').is_some_and(|w| email.starts_with(w));
            let is_shown = |word: &str| word == email || beginning(word);
            assert!(
                text.split_whitespace().any(is_shown),
                "{columns}: {email}: {text}"
            );
        }
    }
}

#[test]
fn a_terminal_of_40_columns_shows_a_block_for_each_account() {
    let env = TestEnv::new();
    let mut alice = entry(
        "alice.of.the.first.department@example.com",
        38.0,
        "2026-11-24T15:55:00Z",
    );
    alice["plan"] = json!("plus");
    write_cooldown(&env, &[alice]);
    insta::assert_snapshot!(shown(&env, &["cooldown"], 40), @"
ACCOUNT
alice.of.the.first.department@example.c…
  PLAN         plus
  STATE        ready
  WEEKLY LEFT  █████░░░  62 %
  NEXT         4 d 3 h
  AT           Tue 24 Nov 15:55
  SEEN         live, 1 h ago
");
}

#[test]
fn archive_names_are_shown_in_full_at_80_columns_and_in_the_plan_of_prune_at_100() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    let prune = &["prune", "--keep-last=1", "--dry-run"][..];
    for (args, widths) in [(&["list-backups"][..], &[80, 100][..]), (prune, &[100][..])] {
        for &columns in widths {
            let text = shown(&env, args, columns);
            assert!(
                text.lines()
                    .all(|line| line.chars().count() <= usize::from(columns)),
                "{text}"
            );
            let names = [
                "2026-11-19-100000-alice@example.com",
                "2026-11-20-100000-alice@example.com",
            ];
            for name in names {
                assert!(text.split_whitespace().any(|word| word == name), "{text}");
            }
        }
    }
}

#[test]
fn the_kind_of_an_archive_is_shown_on_narrow_terminals() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    let prune = &["prune", "--keep-last=1", "--dry-run"][..];
    for (args, columns) in [(&["list-backups"][..], 60), (prune, 80)] {
        let text = shown(&env, args, columns);
        assert!(text.contains(" KIND "), "{text}");
        assert!(text.contains(" safety "), "{text}");
    }
}

#[test]
fn a_long_archive_name_is_shortened_and_its_row_stays_one_line() {
    let env = TestEnv::new();
    let email = "contractor-daniel.novak@very-long-client-company-name.example";
    write_auth(&env.codex_home(), &SignIn::new("acct-long", email));
    let _ = env.run(["backup", "--no-status"]).code(0);
    for args in [
        &["list-backups"][..],
        &["prune", "--keep-last=1", "--dry-run"],
    ] {
        let text = shown(&env, args, 80);
        let rows = text
            .lines()
            .filter(|line| line.contains(" 2026-11-20-1200"));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), 1, "{text}");
        assert!(rows[0].contains('…') && rows[0].contains(" full"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }
}

#[test]
fn the_kind_of_each_of_a_hundred_archives_with_long_names_is_shown_at_80_columns() {
    let env = TestEnv::new();
    let email = "contractor-daniel.novak@very-long-client-company-name.example";
    write_auth(&env.codex_home(), &SignIn::new("acct-long", email));
    let modes = ["auth", "sessions", "full"];
    for mode in modes {
        let _ = env
            .run(["backup", "--no-status", "--label", "wip", "--mode", mode])
            .code(0);
    }
    // A list with numbers of three digits.
    let backups = env.manager_home().join("backups");
    let name = |number: &str, end: &str| {
        backups.join(format!("2026-11-20-120000-{email}{number}-codex{end}"))
    };
    for i in 0..97 {
        for end in [".tar.gz", ".metadata.json"] {
            let copy = name(&format!("-{}", 10 + i), end);
            std::fs::hard_link(name("", end), copy).unwrap();
        }
    }
    let text = shown(&env, &["list-backups"], 80);
    let row = |mode: &str| {
        let is_row = |line: &&str| line.contains(&format!(" {mode} "));
        text.lines().filter(is_row).count()
    };
    let counts = modes.map(row);
    assert_eq!(counts.iter().sum::<usize>(), 100, "{counts:?}: {text}");
    assert_eq!(counts[1], 1, "{text}");
    let is_too_long = |line: &str| line.chars().count() > 80;
    assert!(!text.lines().any(is_too_long), "{text}");
}

#[test]
fn a_label_takes_no_room_from_the_names_and_sizes_of_archives() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T11:00:00Z");
    let label = "before the big refactoring of the parser";
    let _ = env.run(["backup", "--no-status", "--label", label]).code(0);
    let text = shown(&env, &["list-backups"], 80);
    let name = "2026-11-20-110000-alice@example.com";
    assert!(text.split_whitespace().any(|word| word == name), "{text}");
    assert!(text.contains(" CONV ") && text.contains(" SIZE"), "{text}");
    assert!(
        shown(&env, &["list-backups"], 90).contains(" befo"),
        "{text}"
    );
}

#[test]
fn long_profile_names_are_shown_in_full_at_100_columns() {
    let env = accounts_of_one_client();
    let text = shown(&env, &["list"], 100);
    for i in 0..10 {
        let name = format!("contractor-daniel.novak{i}");
        let count = text.split_whitespace().filter(|word| *word == name).count();
        assert_eq!(count, 1, "{name}: {text}");
    }
}

#[test]
fn the_email_of_a_recommendation_is_shown_in_full_at_80_columns() {
    let env = accounts_of_one_client();
    let text = shown(&env, &["recommend"], 80);
    let address = "  (contractor-daniel.novak0@very-long-client-company.example)";
    assert!(text.lines().any(|line| line == address), "{text}");
}

#[test]
fn timelines_status_checks_and_help_fit_narrow_terminals() {
    let env = thirty_accounts();
    for columns in [40, 60, 80] {
        for args in [
            &["cooldown", "--timeline"][..],
            &["status", "--dry-run"],
            &["status", "--history"],
            &["history", "check"],
            &["help"],
            &["prune", "-h"],
        ] {
            let text = shown(&env, args, columns);
            // A word longer than the column has its own line.
            let long = text.lines().find(|line| {
                line.chars().count() > usize::from(columns) && line.trim().contains(' ')
            });
            assert_eq!(long, None, "{columns}: {text}");
        }
    }
}

/// Returns the rows of tab-separated values after the heads, each with as many cells as there are heads.
fn tsv(env: &TestEnv, args: &[&str]) -> (Vec<String>, Vec<Vec<String>>) {
    let text = env.run(args.iter().chain(&["--format", "tsv"])).stdout;
    let mut lines = text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let heads = lines.next().unwrap_or_else(|| panic!("{args:?}: nothing"));
    let rows: Vec<_> = lines.collect();
    assert!(
        rows.iter().all(|row| row.len() == heads.len()),
        "{args:?}: {text}"
    );
    assert!(!rows.is_empty(), "{args:?}: {text}");
    (heads, rows)
}

#[test]
fn list_commands_print_tab_separated_values_and_refuse_them_together_with_json() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let _ = env.run(["profile", "save", "work"]).code(0);
    env.write(
        "home/.codex-manager/sync.toml",
        "[paths]\ncloud_root_dir = \"~/cloud\"\nbackup_dir = \"~/sync-backups\"\n",
    );
    env.write("home/cloud/prompts/there.md", "of another machine\n");
    for args in [
        &["list"][..],
        &["profile", "list"],
        &["cooldown"],
        &["list-backups"],
        &["status", "--all", "--dry-run"],
        &["storage"],
        &["config", "list"],
        &["schedule", "show"],
        &["sync", "plan"],
        &["prune", "--keep-last", "1", "--dry-run"],
    ] {
        let _ = tsv(&env, args);
        let _ = env
            .run(args.iter().chain(&["--format", "tsv", "--json"]))
            .code(4);
    }
}

#[test]
fn an_empty_list_prints_its_heads_as_tab_separated_values() {
    let env = TestEnv::new();
    write_cooldown(&env, &[entry("b@x.com", 100.0, "2026-11-24T15:55:00Z")]);
    let launches = env.run(["launches", "--format", "tsv"]).code(0).stdout;
    assert_eq!(
        launches,
        "STATE\tPROFILE\tSTARTED\tFOLDER\tCONVERSATION\tTITLE\n"
    );
}

#[test]
fn tab_separated_values_are_exact() {
    let env = TestEnv::new();
    let mut ready = entry("a@x.com", 62.0, "2026-11-24T15:55:00Z");
    ready["account_id"] = json!("acct-a");
    write_cooldown(&env, &[ready]);
    let (heads, rows) = tsv(&env, &["cooldown"]);
    let value = |head: &str| &rows[0][heads.iter().position(|h| h == head).unwrap()];
    assert_eq!(value("ACCOUNT"), "a@x.com");
    assert_eq!(value("WEEKLY LEFT"), "38");
    // For a ready account NEXT is the next reset, not the start of the window.
    assert_eq!(value("NEXT"), "2026-11-24T15:55:00+00:00");
    assert_eq!(value("ID"), "acct-a");
    assert_eq!(value("LIVE"), "false");
}

#[test]
fn accounts_with_one_email_are_distinguished() {
    let env = TestEnv::new();
    let of = |id: &str, used: f64| {
        let mut entry = entry("me@x.com", used, "2026-11-24T15:55:00Z");
        entry["account_id"] = json!(id);
        entry["user_id"] = json!("user-me");
        entry
    };
    write_cooldown(
        &env,
        &[of("aaaaaaaa-1111", 10.0), of("bbbbbbbb-2222", 20.0)],
    );
    let text = env.run(["cooldown"]).code(0).stdout;
    for name in ["me@x.com (aaaaaaaa)", "me@x.com (bbbbbbbb)"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn bars_and_numbers_show_the_quota_left_in_every_command() {
    let env = TestEnv::new();
    let login = SignIn::new("acct-a", "alice@example.com");
    write_auth(&env.codex_home(), &login);
    let mut alice = entry("alice@example.com", 75.0, "2026-11-24T15:55:00Z");
    alice["account_id"] = json!("acct-a");
    write_cooldown(&env, &[alice]);
    let _ = env.run(["profile", "save", "work"]).code(0);
    for args in [
        &["status", "--dry-run"][..],
        &["cooldown"],
        &["list"],
        &["current"],
    ] {
        let text = env.run(args).stdout;
        assert!(text.contains("██░░░░░░  25 %"), "{args:?}: {text}");
    }
}
