//! Pasted `/status` text: `status --status-file`, `backup --status-file`.

use crate::cooldown::write_cooldown;
use crate::status::{entry, window, with_fake, without_codex};
use crate::support::env::{TestEnv, assert_same_tree};
use serde_json::{Value, json};

/// Text copied from `/status` of Codex 0.169, at [`crate::support::env::NOW`].
const PASTED: &str = "
  Model:               GPT-6.1-Sol (reasoning low, summaries auto)
  Account:             Alice@example.com (Plus)
  ChatGPT workspace:   alice@example.com (acct-alice)

  5h limit:            [██████████████████░░] 88% left (resets 14:08)
  Weekly limit:        [██░░░░░░░░░░░░░░░░░░] 9% left (resets 07:08 on 23 Nov)
";

#[test]
fn pasted_status_text_replaces_a_query_of_codex() {
    let env = without_codex();
    env.write("pasted.txt", PASTED);
    let run = env.run(["status", "--status-file", "pasted.txt"]).code(0);
    insta::assert_snapshot!(run, @"
    exit 0
    --- stdout
    alice@example.com (plus, acct-alice)
    5h      ███████░  88 % left, resets Fri 20 Nov 14:08, in 2 h 8 min
    weekly  █░░░░░░░   9 % left, resets Mon 23 Nov 07:08, in 2 d 19 h
    source: status-file, recorded Fri 20 Nov 12:00, just now
    --- stderr
    ");
    let entry = entry(&env);
    assert_eq!(
        entry["account_id"], "acct-alice",
        "the text is of the account of the home"
    );
    assert_eq!(entry["observation"]["source"], "status-file");

    let run = env.run_with_input(["status", "--json", "--status-file", "-"], PASTED);
    assert_eq!(
        run.code(0).json()["windows"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn status_records_the_last_conversation_as_a_use() {
    let env = without_codex();
    let rows = "CREATE TABLE threads(id TEXT, rollout_path TEXT, creator_account_id TEXT, updated_at INTEGER);
         INSERT INTO threads VALUES('a', '/a', 'acct-alice', 1763600000), ('b', '/b', 'acct-bob', 1763700000);";
    let database = rusqlite::Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    database.execute_batch(rows).unwrap();
    drop(database);
    env.write("pasted.txt", PASTED);
    env.run(["status", "--status-file", "pasted.txt"]).code(0);
    assert_eq!(entry(&env)["last_used_at"], "2025-11-20T00:53:20Z");
}

#[test]
fn pasted_figures_replace_those_recorded_by_a_clock_that_was_ahead() {
    let mut env = without_codex();
    env.write("full.txt", PASTED.replace("9% left", "0% left"));
    env.set("CODEX_MANAGER_NOW", "2027-11-20T12:00:00Z");
    env.run(["status", "--status-file", "full.txt"]).code(0);
    env.set("CODEX_MANAGER_NOW", crate::support::env::NOW);
    env.write("pasted.txt", PASTED);
    env.run(["status", "--status-file", "pasted.txt"]).code(0);
    let entry = entry(&env);
    assert_eq!(entry["observation"]["windows"][1]["used_percent"], 91.0);
    assert_eq!(entry["weekly"]["exhausted_until"], Value::Null);
    assert_eq!(entry["quota_end"], Value::Null);
}

#[test]
fn pasted_text_starts_no_probe() {
    let (env, fake) = with_fake(
        &window(40.0, 300, "2026-11-20T15:55:00Z"),
        &window(41.0, 10_080, "2026-11-24T15:55:00Z"),
    );
    let run = env.run_with_input(["status", "--json", "--status-file", "-"], PASTED);
    let printed = run.code(0).json();
    assert_eq!(
        (
            &printed["source"],
            printed["windows"].as_array().map(Vec::len)
        ),
        (&json!("status-file"), Some(2))
    );
    let args = ["backup", "--json", "--status-file", "-"];
    let printed = env.run_with_input(args, PASTED).code(0).json();
    assert_eq!(printed["status_source"], "status-file");
    assert_eq!(printed["reset_at"], "2026-11-23T07:08:00+00:00");
    assert_eq!(fake.calls(), [] as [&str; 0]);
}

#[test]
fn pasted_text_of_another_account_is_refused_and_nothing_is_written() {
    let env = without_codex();
    let before = env.tree("home");
    let text = PASTED.replace("Alice@", "bob@");
    let run = env
        .run_with_input(["status", "--status-file", "-"], &text)
        .code(5);
    insta::assert_snapshot!(run, @"
    exit 5
    --- stdout
    --- stderr
    error: the status text is about bob@example.com, but the home is signed in as alice@example.com

    hint: paste the /status of the live account; nothing was changed
    hint: or name the account of the text:
        codex-manager status NAME --status-file FILE
    ");
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn pasted_text_without_a_quota_is_refused_or_leaves_it_unknown() {
    let env = without_codex();
    let run = env
        .run_with_input(["status", "--status-file", "-"], "hello\n")
        .code(1);
    insta::assert_snapshot!(run, @"
    exit 1
    --- stdout
    --- stderr
    error: the status text cannot be used
      caused by: the status text names no account and no quota

    hint: paste the whole output of /status in Codex, including the lines of the limits
    ");
    let text = "Account: alice@example.com (Plus)\n";
    let run = env
        .run_with_input(["status", "--status-file", "-"], text)
        .code(6);
    assert!(
        run.stderr.contains("the status text shows no quota"),
        "{run}"
    );
    assert!(run.stdout.contains("quota unknown"), "{run}");
    let missing = env.run(["status", "--status-file", "absent.txt"]).code(1);
    assert!(
        missing
            .stderr
            .starts_with("error: cannot read: absent.txt\n"),
        "{missing}"
    );
}

/// Alice's screen in a terminal of 42 columns, where the reset time and the address are wrapped.
const NARROW: &str = "
  Account:
                         alice@example.co
                         m (Plus)
  Session:
                         01a1f7c9-4d30-7e

  5h limit:              88% left
                         (resets 14:08)
  Weekly limit:          0% left
                         (resets 06:41 on
                         24 Nov)
             ⚠ weekly limit: 0% left · /status
";

fn accounts(env: &TestEnv) -> Vec<Value> {
    let known = env.run(["cooldown", "--json"]).code(0).json();
    known["accounts"].as_array().expect("accounts").clone()
}

#[test]
fn a_status_pasted_from_a_narrow_terminal_is_read_unless_a_reset_time_is_incomplete() {
    let env = without_codex();
    let args = ["backup", "--json", "--status-file", "-"];
    let printed = env.run_with_input(args, NARROW).code(0).json();
    let archive = "2026-11-17-064100-alice@example.com-codex.tar.gz";
    assert_eq!(printed["archive"], archive);
    let known = accounts(&env);
    assert_eq!(known[0]["state"], "cooldown");
    assert_eq!(known[0]["next_available_at"], "2026-11-24T06:41:00+00:00");
    assert_eq!(known[0]["windows"].as_array().map(Vec::len), Some(2));

    let cut = NARROW.replace("24 Nov)", "");
    let before = env.tree("home");
    for command in ["status", "backup"] {
        let run = env.run_with_input([command, "--status-file", "-"], &cut);
        let run = run.code(1);
        assert!(
            run.stderr.contains("not a reset time: (resets 06:41 on"),
            "{run}"
        );
    }
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn figures_without_a_readable_account_are_refused() {
    let env = without_codex();
    let text = NARROW.replace("m (Plus)", "m");
    let before = env.tree("home");
    let run = env.run_with_input(["status", "--status-file", "-"], &text);
    insta::assert_snapshot!(run.code(1), @r#"
    exit 1
    --- stdout
    --- stderr
    error: the address in the account line of the status text cannot be read: "alice@example.co m"

    hint: copy /status again from a wider terminal; nothing was changed
    hint: or name the account of the text:
        codex-manager status NAME --status-file FILE
    "#);
    let run = env.run_with_input(["backup", "--status-file", "-"], &text);
    let _ = run.code(1);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn the_account_option_names_the_account_of_a_text_but_does_not_override_its_address() {
    let env = without_codex();
    write_cooldown(
        &env,
        &[json!({"email": "bob@example.com", "user_id": "user-bob", "plan": "pro"})],
    );
    let text = NARROW.replace("m (Plus)", "m");
    let args = ["status", "--status-file", "-", "--account", "bob"];
    insta::assert_snapshot!(env.run_with_input(args, &text).code(0), @"
    exit 0
    --- stdout
    bob@example.com (pro)
    5h      ███████░  88 % left, resets Fri 20 Nov 14:08, in 2 h 8 min
    weekly  ░░░░░░░░   0 % left, exhausted, resets Tue 24 Nov 06:41, in 3 d 18 h
    available again Tue 24 Nov 06:41, in 3 d 18 h
    source: status-file, recorded Fri 20 Nov 12:00, just now
    --- stderr
    ");
    let known = accounts(&env);
    let of = |email: &str| {
        known
            .iter()
            .find(|a| a["email"] == email)
            .expect("a known account")
    };
    assert_eq!(of("bob@example.com")["state"], "cooldown");
    assert_eq!(of("bob@example.com")["source"], "status-file");
    assert_eq!(of("alice@example.com")["observed_at"], Value::Null);

    // `--account` does not override the address in the text.
    let before = env.tree("home");
    let run = env.run_with_input(args, PASTED).code(5);
    let error = "error: the status text is about Alice@example.com, not about bob@example.com\n";
    assert!(run.stderr.starts_with(error), "{run}");
    let nobody = ["status", "--status-file", "-", "--account", "carol"];
    let run = env.run_with_input(nobody, &text).code(1);
    assert!(run.stderr.contains("no account or profile named"), "{run}");
    let dry = [
        "status",
        "--dry-run",
        "--status-file",
        "-",
        "--account",
        "alice@example.com",
    ];
    let _ = env.run_with_input(dry, PASTED).code(0);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn utf16_status_text_from_powershell_is_read() {
    let env = without_codex();
    let text = PASTED.trim_start().replace("Alice@", "bob@");
    let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
    let (little, big): (Vec<_>, Vec<_>) = units
        .map(|unit| (unit.to_le_bytes(), unit.to_be_bytes()))
        .unzip();
    for bytes in [little.concat(), big.concat()] {
        env.write("pasted.txt", bytes);
        let run = env.run(["status", "--status-file", "pasted.txt"]).code(5);
        let error = "the status text is about bob@example.com";
        assert!(run.stderr.contains(error), "{run}");
    }
}

#[test]
fn windows_without_a_known_length_set_the_cooldown_and_report_no_moved_reset() {
    let mut env = without_codex();
    let look = |env: &TestEnv| {
        let text = "Usage limit: [░░] 0% left (resets 12:36 on 22 Nov)\n\
                    Secondary usage limit: 40% left (resets 10:00 on 28 Nov)\n";
        env.run_with_input(["status", "--status-file", "-"], text)
            .code(0)
    };
    let _ = look(&env);
    let known = accounts(&env);
    assert_eq!(known[0]["state"], "cooldown");
    assert_eq!(known[0]["next_available_at"], "2026-11-22T12:36:00+00:00");
    assert_eq!(env.run(["recommend", "--ready-only"]).code(5).stdout, "");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let run = look(&env);
    assert!(!run.stderr.contains("moved"), "{run}");
}
