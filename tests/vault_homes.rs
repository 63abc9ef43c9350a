//! Vaults of several homes, of homes with unusual names and modes, and of homes that change.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::restic::PASSWORD;
use crate::support::sample::{FIRST, line, put, put_at, rollout, sample_home_at, set_time};
use crate::vault::{backup, snapshots, vault_env};
use crate::vault_faults::{assert_error, assert_intact, replace_verb};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Creates another manager home that uses the same vault.
fn add_manager(env: &TestEnv, name: &str) -> PathBuf {
    let manager = env.path(name);
    fs::create_dir(&manager).unwrap();
    let config = env.manager_home().join("config.toml");
    fs::copy(config, manager.join("config.toml")).unwrap();
    manager
}

#[test]
fn forget_counts_machines_with_the_same_host_name_separately() {
    let Some(mut env) = vault_env() else { return };
    env.unset("CODEX_MANAGER_NOW");
    let usual = env.manager_home();
    let other = add_manager(&env, "other-manager");
    for manager in [&usual, &usual, &other, &usual, &other] {
        env.set("CODEX_MANAGER_HOME", manager);
        backup(&env);
    }
    let made = snapshots(&env);
    let ids: Vec<_> = made.iter().map(|s| s["id"].as_str().unwrap()).collect();
    let rules = ["vault", "forget", "--keep-last", "1"];
    let plan = env.run([&rules[..], &["--dry-run"]].concat()).code(0);
    for id in &ids {
        assert!(plan.stdout.contains(&id[..8]), "{plan}");
        assert!(!plan.stdout.contains(&id[..9]), "{plan}");
    }
    // Only the other machine knows which messages it has lost.
    let warning = "2 snapshots of other machines";
    assert!(plan.stderr.contains(warning), "{plan}");
    let _ = env.run([&rules[..], &["--yes"]].concat()).code(0);
    let kept = snapshots(&env);
    let kept: Vec<_> = kept.iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(kept, [ids[3], ids[4]]);
    // `vault restore latest` is suggested only where it is a snapshot of this machine.
    let hint = "newest one of this machine";
    let suggests = |env: &TestEnv| env.run(["vault", "snapshots"]).stderr.contains(hint);
    assert!(suggests(&env));
    env.set("CODEX_MANAGER_HOME", add_manager(&env, "third-manager"));
    assert!(!suggests(&env));
}

#[test]
fn homes_with_unusual_names_are_captured_and_restored() {
    let Some(mut env) = vault_env() else { return };
    for (i, name) in ["a home, 100 %", "line\nbreak", "-n", "ho\u{308}me"]
        .into_iter()
        .enumerate()
    {
        let home = env.path(name);
        sample_home_at(&home);
        put_at(&home, "skills/new\nline, 5 % [a]*?/ü b.md", "odd\n");
        env.set("CODEX_HOME", &home);
        let made = backup(&env);
        assert_eq!(made["skipped"].as_array().unwrap().len(), 0, "{made}");
        let id = made["snapshot"].as_str().unwrap();
        let new = format!("new-{i}");
        let args = ["vault", "restore", id, "--to", &new, "--auth", "archive"];
        let _ = env.run(args).code(0);
        let names = ["sessions", "skills", "config.toml", "auth.json"];
        let (old, new) = (env.tree(name), env.tree(&new));
        assert_same_tree(&old.only(&names), &new.only(&names));
        let list = env.run(["vault", "snapshots"]).code(0);
        assert_eq!(list.stdout.lines().count(), i + 2, "{list}");
    }
    let _ = env.run(["vault", "check"]).code(0);
}

#[test]
fn a_home_with_a_name_that_is_not_utf8_is_captured() {
    use std::os::unix::ffi::OsStrExt;
    let Some(mut env) = vault_env() else { return };
    let home = env.path("").join(std::ffi::OsStr::from_bytes(b"h\xffme"));
    sample_home_at(&home);
    let odd = home
        .join("skills")
        .join(std::ffi::OsStr::from_bytes(b"\xfe.md"));
    fs::create_dir_all(odd.parent().unwrap()).unwrap();
    fs::write(&odd, "odd\n").unwrap();
    env.set("CODEX_HOME", &home);
    let made = backup(&env);
    assert_eq!(made["skipped"].as_array().unwrap().len(), 0, "{made}");
    let id = made["snapshot"].as_str().unwrap();
    let _ = env.run(["vault", "restore", id, "--to", "new"]).code(0);
    let restored = env.path("new/skills").join(odd.file_name().unwrap());
    assert_eq!(fs::read_to_string(restored).unwrap(), "odd\n");
    let _ = env.run(["vault", "ls", id]).code(0);
    let _ = env.run(["vault", "drill", id]).code(0);
}

#[test]
fn modes_are_restored() {
    let Some(env) = vault_env() else { return };
    let modes = [
        ("skills/mine/run.sh", 0o755),
        ("skills/mine/private.md", 0o600),
        ("skills/mine/read-only.md", 0o444),
        ("config.toml", 0o640),
    ];
    for (name, mode) in modes {
        let path = put(&env, name, "text\n");
        set_time(&path, 1_790_000_000, 0);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    backup(&env);
    let _ = env.run(["vault", "restore", "--to", "new"]).code(0);
    for (name, mode) in modes {
        let restored = fs::metadata(env.path("new").join(name)).unwrap();
        assert_eq!(restored.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn while_restic_reads_a_truncated_file_is_captured_as_it_is_then_and_a_replaced_one_as_before() {
    let Some(env) = vault_env() else { return };
    let (truncated, replaced) = ("skills/mine/cut.md", "skills/mine/new.md");
    for name in [truncated, replaced] {
        let path = put(&env, name, "before\n".repeat(9));
        set_time(&path, 1_790_000_000, 0);
    }
    let rolled = put(&env, rollout(FIRST), line(1).repeat(3));
    set_time(&rolled, 1_790_000_000, 0);
    let home = env.codex_home().display().to_string();
    let script = format!(
        "if [ ! -e \"$HOME/done\" ]; then touch \"$HOME/done\"\n\
         printf 'after\\n' > '{home}/{truncated}'\n\
         printf 'other\\n' > '{home}/new'; mv '{home}/new' '{home}/{replaced}'\n\
         head -c 20 '{0}' > \"$HOME/cut\"; cat \"$HOME/cut\" > '{0}'; fi",
        rolled.display()
    );
    replace_verb(&env, "backup", &script);
    let made = backup(&env);
    let id = made["snapshot"].as_str().unwrap().to_owned();
    let cat = |path: &str| env.run(["vault", "cat", &id, path]).code(0).stdout;
    // A hard link shows the appended text. The replaced file was linked before its replacement.
    assert_eq!(cat(truncated), "after\n");
    assert_eq!(cat(replaced), "before\n".repeat(9));
    assert_eq!(cat(&rollout(FIRST).display().to_string()), "");
    assert_intact(&env, 1);
    let again = backup(&env);
    assert_eq!(again["skipped"].as_array().unwrap().len(), 0);
    let id = again["snapshot"].as_str().unwrap();
    let run = env.run(["vault", "cat", id, replaced]).code(0);
    assert_eq!(run.stdout, "other\n");
}

#[test]
fn a_changed_password_is_reported_and_the_new_one_works() {
    let Some(mut env) = vault_env() else { return };
    backup(&env);
    env.write("new-password", "another secret\n");
    let file = env.path("new-password").display().to_string();
    let changed = crate::vault::run_restic(&env, &["key", "passwd", "--new-password-file", &file]);
    let _ = changed.code(0);
    for args in [
        &["vault", "backup"][..],
        &["vault", "restore", "latest", "--to", "new"],
        &["vault", "forget", "--keep-last", "1"],
    ] {
        let run = env.run(args).code(1);
        assert_error(&run, "wrong vault password");
    }
    env.unset("RESTIC_PASSWORD");
    let flag = format!("--password-file={file}");
    let _ = env.run(["vault", "init", "vault", &flag]).code(0);
    backup(&env);
}

#[test]
fn a_password_file_that_others_can_read_is_reported() {
    let Some(mut env) = vault_env() else { return };
    let status = |env: &TestEnv| {
        let json = env.run(["doctor", "--json"]).json();
        let checks = json["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|c| c["id"] == "vault.password");
        check.map(|c| c["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status(&env), None, "the password is in a variable");
    env.unset("RESTIC_PASSWORD");
    let file = env.write("home/pw", format!("{PASSWORD}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let flag = format!("--password-file={}", file.display());
    let _ = env.run(["vault", "init", "vault", &flag]).code(0);
    assert_eq!(status(&env).as_deref(), Some("warn"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(status(&env).as_deref(), Some("ok"));
}

#[test]
fn vault_cat_prints_binary_files_unchanged() {
    let Some(env) = vault_env() else { return };
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    put(&env, "skills/mine/image.png", &bytes);
    backup(&env);
    let args = ["vault", "cat", "latest", "skills/mine/image.png"];
    let output = env.command(args).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, bytes);
    let json = env.run([&args[..], &["--json"]].concat()).code(0).json();
    assert_eq!(json["bytes"], bytes.len());
    assert!(json["text"].is_null());
}

#[test]
fn two_homes_in_one_vault_are_distinguished() {
    let Some(mut env) = vault_env() else { return };
    let usual = env.codex_home();
    let other = env.path("other-home");
    sample_home_at(&other);
    put_at(&other, "AGENTS.md", "of the other home\n");
    put(&env, "AGENTS.md", "of this home\n");
    env.set("CODEX_HOME", &other);
    backup(&env);
    let newest = |env: &TestEnv| {
        let run = env.run(["vault", "cat", "latest", "AGENTS.md"]).code(0);
        run.stdout
    };
    env.set("CODEX_HOME", &usual);
    let first = backup(&env);
    assert_eq!(newest(&env), "of this home\n");
    env.set("CODEX_HOME", &other);
    assert_eq!(newest(&env), "of the other home\n");
    let _ = env.run(["vault", "restore", "latest"]).code(0);
    let text = |home: &Path| fs::read_to_string(home.join("AGENTS.md")).unwrap();
    assert_eq!(text(&other), "of the other home\n");
    // A named snapshot is restored into any home.
    let id = first["snapshot"].as_str().unwrap();
    let _ = env.run(["vault", "restore", id]).code(0);
    assert_eq!(text(&other), "of this home\n");
}

#[test]
fn hints_about_a_password_that_is_not_stored_name_the_command_that_stores_it() {
    let Some(mut env) = vault_env() else { return };
    let again = env.run(["vault", "init", "vault"]).code(0);
    assert!(again.stderr.contains("is not stored"), "{again}");

    let stores = "codex-manager vault init URL --password-file FILE";
    assert!(again.stderr.contains(stores), "{again}");
    env.set("RESTIC_PASSWORD", "wrong");
    let wrong = env.run(["vault", "snapshots"]);
    assert!(
        wrong.stderr.contains("correct it where it is set"),
        "{wrong}"
    );
    assert!(!wrong.stderr.contains(stores), "{wrong}");
    env.unset("RESTIC_PASSWORD");
    for args in [
        &["backup", "--vault", "--no-status"][..],
        &["find", "--machines", "word"],
        &["history", "losses", "--vault"],
    ] {
        let run = env.run(args);
        assert!(run.stderr.contains(stores), "{args:?}: {run}");
    }
    let found = env.run(["doctor"]);
    assert!(found.stdout.contains("no password is stored"), "{found}");

    // The command of the hint stores the password, and says nothing about it with the variable.
    fs::write(env.path("pw"), format!("{PASSWORD}\n")).expect("write");
    let _ = env
        .run(["vault", "init", "vault", "--password-file", "pw"])
        .code(0);
    let _ = env.run(["vault", "snapshots"]).code(0);
    env.set("RESTIC_PASSWORD", PASSWORD);
    let again = env.run(["vault", "init", "vault"]).code(0);
    assert!(!again.stderr.contains("is not stored"), "{again}");
}
