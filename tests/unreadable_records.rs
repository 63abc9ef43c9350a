//! A record of the manager home that cannot be read: the other accounts and commands work, and it is never taken for
//! one that does not exist.

use crate::support::env::TestEnv;
use crate::support::profiles::{alice_and_bob, folder};
use crate::support::sample::{FIRST, backup, put, rollout, sample_home, text};
use crate::support::sign_in::{SignIn, write_auth};
use std::fs;
use std::path::Path;

fn carol() -> SignIn {
    SignIn::new("acct-carol", "carol@example.com")
}

/// Puts a folder in place of the file at `path`, which can then not be read, even by root.
fn make_unreadable(path: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.join("inside")).expect("folder");
}

/// Returns a home of Alice with the profiles `work`, `home` and `third`; the record of `third` cannot be read.
fn with_unreadable_profile() -> TestEnv {
    let env = alice_and_bob();
    write_auth(&env.codex_home(), &carol());
    let _ = env.run(["profile", "save", "third"]).code(0);
    let _ = env.run(["use", "work"]).code(0);
    make_unreadable(&folder(&env, "third").join("profile.json"));
    env
}

#[test]
fn an_unreadable_profile_is_listed_and_the_other_accounts_work() {
    let env = with_unreadable_profile();
    put(&env, "notes.txt", "a note");
    let archive = text(&backup(&env, &[]));
    let listed = env.run(["profile", "list"]).code(6);
    assert!(listed.stdout.contains("third"), "{listed}");
    for words in [
        &["list"][..],
        &["current"],
        &["sessions"],
        &["usage", "accounts"],
        &["cooldown"],
        &["restore", &archive, "--dry-run"],
        &["doctor"],
    ] {
        let run = env.run(words);
        assert!(![1, 4].contains(&run.code), "{words:?}: {run}");
    }
    let _ = env.run(["use", "home"]).code(0);
    let refused = env.run(["use", "third"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("profile.json"), "{refused}");
    let record = folder(&env, "third").join("profile.json");
    assert!(record.join("inside").exists(), "the record was changed");
}

#[test]
fn a_login_gets_no_second_profile_while_a_profile_of_an_unknown_account_cannot_be_read() {
    let env = with_unreadable_profile();
    let login = folder(&env, "third").join("auth.json");
    make_unreadable(&login);
    write_auth(&env.codex_home(), &carol());
    for words in [&["profile", "save", "fourth"][..], &["use", "work"]] {
        let refused = env.run(words);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(refused.stderr.contains("third"), "{refused}");
    }
    let names = fs::read_dir(env.manager_home().join("profiles")).expect("list");
    let names = names.map(|entry| entry.expect("entry").file_name().into_string());
    let mut names: Vec<_> = names
        .flatten()
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, ["home", "third", "work"]);

    // A login whose profile is known is saved as before.
    write_auth(&env.codex_home(), &crate::support::sample::alice(1));
    let _ = env.run(["use", "home"]).code(0);
}

#[test]
fn unreadable_records_of_quota_and_archives_are_moved_aside_and_begun_again() {
    let env = alice_and_bob();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let manager = env.manager_home();
    for name in ["cooldown.json", "inventory.json", "profiles/.switch.json"] {
        make_unreadable(&manager.join(name));
    }
    fs::create_dir_all(manager.join("observations/x.json")).expect("folder");
    let sidecar = archive.replace(".tar.gz", ".json");
    make_unreadable(Path::new(&sidecar));

    let made = env.run(["backup", "--no-status"]).code(0);
    assert!(made.stderr.contains("cooldown.json"), "{made}");
    for name in ["cooldown.json", "inventory.json"] {
        assert!(manager.join(name).is_file(), "{name}");
        assert!(
            manager.join(format!("{name}.damaged/inside")).exists(),
            "{name}"
        );
    }
    let _ = env.run(["use", "home"]).code(0);
    let _ = env.run(["use", "-"]).code(0);
    let _ = env.run(["list-backups"]);
}

#[test]
fn a_restored_conversation_whose_losses_cannot_be_recorded_is_not_reported_as_complete() {
    let env = alice_and_bob();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, rollout(FIRST), "{}\n");
    fs::write(env.manager_home().join("losses.json"), "{\"schema\":99}").expect("write");
    let run = env
        .run(["restore", &archive, "--session", FIRST, "--yes"])
        .code(6);
    assert!(run.stderr.contains("losses.json"), "{run}");
}
