//! Screens at 40, 80 and 120 columns: no line is wider than the terminal, and the facts for which the user looks are
//! there.

use crate::cooldown::{entry, write_cooldown};
use crate::status::{window, with_fake_in};
use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::TestEnv;
use crate::support::restic;
use crate::support::sample::backup;
use crate::support::terminal::{LINES, Terminal};
use crate::width::{shown, too_long};
use crate::{session_picker, vault};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

const WIDTHS: [u16; 3] = [40, 80, 120];

const LONG: &str = "Explain why the borrow checker refuses the table of merges in the planner";

/// Creates a home with two profiles, of which `home` is exhausted, conversations of both, of which Codex does not list
/// one, archives of three days, a cloud folder, and a Codex that answers for the live account.
fn home() -> TestEnv {
    let mut env = session_picker::home();
    write(&env, &Conversation::new(9, 10, LONG, "It cannot."));
    for (day, label) in [
        ("18", "before the update of everything"),
        ("19", "nightly"),
        ("20", "nightly"),
    ] {
        env.set("CODEX_MANAGER_NOW", format!("2026-11-{day}T10:00:00Z"));
        backup(&env, &["--label", label]);
    }
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let accounts = [("work", "alice", 50.0), ("home", "bob", 100.0)];
    let entries = accounts.map(|(profile, name, used)| {
        let mut entry = entry(&format!("{name}@example.com"), used, "2026-11-24T15:55:00Z");
        entry["profile"] = profile.into();
        entry["account_id"] = format!("acct-{name}").into();
        entry
    });
    write_cooldown(&env, &entries);
    let cloud = env.path("cloud");
    std::fs::create_dir(&cloud).unwrap();
    let init = ["sync", "init", "--cloud", cloud.to_str().unwrap()];
    let _ = env.run(init).code(0);
    let forgotten = format!("DELETE FROM threads WHERE id = '{}'", id(1));
    state(&env).execute_batch(&forgotten).unwrap();
    env
}

/// Commands in the order in which they run in one home, and the facts that each shows, whatever the width. N1, N3 and
/// N9 are the short ids of conversations.
const SCREENS: [(&str, &[&str]); 17] = [
    (
        "status",
        &[
            "work (alice@example.com, plus, acct-alice)",
            "88 % left, resets Fri 20 Nov 15:55, in 3 h 55 min",
            "9 % left, resets Tue 24 Nov 15:55, in 4 d 3 h",
        ],
    ),
    (
        "status home --dry-run",
        &[
            "home (bob@example.com, pro, acct-bob)",
            "0 % left, exhausted",
            "available again Tue 24 Nov 15:55",
        ],
    ),
    (
        "list-backups",
        &[
            "work (alice@example.com)",
            "1",
            "Wed 18 Nov 10:00",
            "Thu 19 Nov 10:00",
            "Fri 20 Nov 10:00",
            "full",
            "5",
            "codex-manager restore latest",
        ],
    ),
    (
        "prune --keep-last 1 --dry-run",
        &[
            "keep",
            "last 1",
            "drop",
            "no rule",
            "2 archives would be moved to the trash",
        ],
    ),
    (
        "prune --keep-last 1",
        &[
            "2 archives moved to the trash",
            "codex-manager prune --undo",
        ],
    ),
    (
        "prune --undo --dry-run",
        &["would be moved back:", "made Wed 18 Nov 10:00"],
    ),
    (
        "prune --undo",
        &["made Wed 18 Nov 10:00", "made Thu 19 Nov 10:00"],
    ),
    (
        "history check",
        &[
            "1 on disk, not listed",
            "N1",
            "Fix the",
            "1 of another account",
            "N3 home Tune",
        ],
    ),
    (
        "history repair",
        &["add row N1 Fix the parser", "codex-manager history undo"],
    ),
    (
        "history undo --dry-run",
        &["would be restored to the state of Fri 20 Nov 12:00, just now"],
    ),
    (
        "history undo",
        &[
            "restored to the state of Fri 20 Nov 12:00, just now",
            "codex-manager history undo --snapshot 20261120T120000Z-2",
        ],
    ),
    (
        "sync plan",
        &[
            "5 → cloud folder (",
            ", 0 ← cloud folder, 0 conflicts; 0 files are the same on both sides",
            "copy-to-cloud",
            "N9",
            "Explain",
            "only on this machine",
            "codex-manager sync run --apply",
        ],
    ),
    (
        "sync run",
        &["5 → cloud folder (", "N9", "Explain", "nothing was changed"],
    ),
    (
        "sync run --apply --yes",
        &[
            "5 → cloud folder (",
            "0 ← cloud folder, 0 conflicts",
            "codex-manager sync run --apply",
        ],
    ),
    (
        "sync plan",
        &["nothing to do: 5 files are the same on both sides"],
    ),
    ("sync resolve", &["nothing needs a decision"]),
    ("doctor", &["signed in as work", "checks,"]),
];

#[test]
fn screens_fit_and_show_their_facts_at_40_80_and_120_columns() {
    for columns in WIDTHS {
        let mut env = home();
        let _fake = with_fake_in(
            &mut env,
            &window(12.0, 300, "2026-11-20T15:55:00Z"),
            &window(91.0, 10_080, "2026-11-24T15:55:00Z"),
        );
        for (line, facts) in SCREENS {
            assert_shows(&env, line, facts, columns);
        }
    }
}

/// Checks that the command fits the terminal, and shows the facts if its lines are joined.
#[track_caller]
fn assert_shows(env: &TestEnv, line: &str, facts: &[&str], columns: u16) {
    let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let (text, _) = shown(env, &args, columns);
    let long = too_long(&text, columns);
    assert!(long.is_empty(), "{line} at {columns}: {long:?}\n{text}");
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for fact in facts {
        let fact = [1, 3, 9].iter().fold((*fact).to_owned(), |fact, n| {
            fact.replace(&format!("N{n}"), &id(*n)[..13])
        });
        assert!(
            joined.contains(&fact),
            "{line} at {columns}: {fact}\n{text}"
        );
    }
}

#[test]
fn screens_of_the_vault_fit_and_show_their_facts_at_40_80_and_120_columns() {
    if restic::program().is_none() {
        return;
    }
    let mut env = home();
    vault::set_up(&mut env);
    let _ = vault::backup(&env);
    for columns in WIDTHS {
        for (line, facts) in [
            (
                "vault snapshots",
                &["work", "full", "codex-manager vault restore latest"][..],
            ),
            (
                "vault restore --dry-run",
                &["full snapshot of work", "would restore 5 conversations"],
            ),
            (
                "vault restore",
                &["was not confirmed", "codex-manager vault snapshots"],
            ),
            (
                "vault forget --keep-last 1 --dry-run",
                &["work (alice@example.com)", "keep"],
            ),
            ("vault ls latest", &["auth.json"]),
            ("vault restore 1234abcd", &["codex-manager vault snapshots"]),
        ] {
            assert_shows(&env, line, facts, columns);
        }
    }
}

#[test]
fn pickers_have_a_line_for_each_entry_at_40_80_and_120_columns() {
    let env = home();
    for columns in WIDTHS {
        for (line, facts, entries) in [
            (
                "restore --dry-run",
                &[
                    "> 1 Fri 20 Nov 10:00 5 conversations",
                    "3 Wed 18 Nov 10:00 5 conversations",
                ][..],
                3,
            ),
            (
                "use --dry-run",
                &["* work ready 50 %", "> home cooldown 0 %"],
                2,
            ),
            (
                "launch --dry-run",
                &["* work ready 50 %", "> home cooldown 0 %"],
                2,
            ),
        ] {
            let mut command = env.command(line.split(' '));
            command.env_remove("COLUMNS");
            let mut terminal = Terminal::attend(&mut command, columns);
            let is_drawn = |picture: &str| picture.contains("enter choose");
            let picture = terminal.wait_until((columns, LINES), LIMIT, is_drawn);
            assert_eq!(
                picture.lines().count(),
                entries + 2,
                "{columns}:\n{picture}"
            );
            let joined = picture.split_whitespace().collect::<Vec<_>>().join(" ");
            for fact in facts {
                assert!(
                    joined.contains(fact),
                    "{line} at {columns}: {fact}\n{picture}"
                );
            }
            terminal.type_keys("\x1b");
            assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        }
    }
}
