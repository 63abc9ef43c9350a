//! `profile export` and `import`: the file, the ownership of logins, and faults.

#![allow(
    clippy::print_stdout,
    reason = "how often each state was met is shown when a test fails, or with --nocapture"
)]

use crate::support::copy_tree;
use crate::support::env::{PROGRAM, Run, TestEnv, Tree, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample, sample_evenly};
use crate::support::profiles::{alice_and_bob, folder, owner, write_age_key};
use crate::support::sample::{alice, backup, bob, comparable, put, sample_home, text};
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use age::secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Creates an environment in which Alice and Bob have profiles, and Carol is signed in.
fn env_with_profiles() -> TestEnv {
    let env = alice_and_bob();
    write_auth(&env.codex_home(), &carol());
    env.write("pass", "correct horse\n");
    env
}

pub(crate) fn carol() -> SignIn {
    SignIn::new("acct-carol", "carol@example.com").issued_at(crate::support::sample::RENEWED)
}

fn export(env: &TestEnv, args: &[&str]) -> Run {
    env.run([&["profile", "export", "--json"], args].concat())
}

pub(crate) fn import(env: &TestEnv, file: &Path, args: &[&str]) -> Run {
    let file = text(file);
    env.run([&["profile", "import", &file, "--json"], args].concat())
}

/// Creates a second machine with the same key.
fn other_machine(env: &TestEnv) -> TestEnv {
    let other = TestEnv::new();
    for name in ["key.txt", "pass"] {
        if let Ok(text) = fs::read(env.path(name)) {
            other.write(name, text);
        }
    }
    other
}

fn kept(env: &TestEnv, name: &str) -> Option<String> {
    fs::read_to_string(folder(env, name).join("auth.json")).ok()
}

/// Returns the tree of the manager home without times, locks and empty work folders.
pub(crate) fn state(env: &TestEnv) -> Tree {
    let mut tree = comparable(&env.tree("home/.codex-manager"));
    tree.0.retain(|path, text| {
        path.file_name().is_none_or(|name| name != ".lock") && !text.starts_with("folder")
    });
    for text in tree.0.values_mut() {
        // Kind, mode, size, digest.
        let words: Vec<_> = text.split(' ').collect();
        *text = [&words[..3], &words[4..]].concat().join(" ");
    }
    tree
}

#[test]
fn the_command_that_imports_an_export_is_quoted() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let options = ["--with-logins", "--recipient", &key];
    let args = [&["profile", "export", "my logins.age"], &options[..]].concat();
    let run = env.run(args).code(0);
    let command = "codex-manager profile import '[ROOT]/my logins.age'";
    assert!(run.stderr.contains(command), "{run}");
}

#[test]
fn exported_logins_work_on_the_other_machine_and_are_refused_locally() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let args = ["out.age", "--with-logins", "--recipient", &key];
    let printed = export(&env, &args).code(0);
    let view = printed.json();
    assert_eq!(view["encrypted"], "recipient");
    let moved: Vec<_> = view["logins"].as_array().expect("logins").iter().collect();
    assert_eq!(moved.len(), 2, "{printed}");
    let file = env.path("out.age");
    assert_eq!(
        file.metadata().expect("stat").permissions().mode() & 0o777,
        0o600
    );
    let bytes = fs::read(&file).expect("read");
    for secret in [alice(0).refresh_token(), bob().refresh_token()] {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        assert!(!format!("{printed}").contains(&secret));
    }
    for name in ["work", "home"] {
        assert_eq!(owner(&env, name), "moved");
        let refused = env.run(["use", name]).code(5);
        assert!(
            refused.stderr.contains("moved to another machine"),
            "{refused}"
        );
    }
    let known = env.run(["cooldown", "--json"]).code(0).json();
    let logins = known["accounts"].as_array().expect("accounts").iter();
    assert!(
        logins.filter(|a| a["login"] == "moved").count() == 2,
        "{known}"
    );

    let other = other_machine(&env);
    let printed = import(&other, &file, &["--identity", "key.txt"]).code(0);
    assert!(!format!("{printed}").contains(&alice(0).refresh_token()));
    assert_eq!(kept(&other, "work"), Some(auth_json(&alice(0))));
    assert_eq!(owner(&other, "home"), "profile");
    let _ = other.run(["use", "work"]).code(0);
    let live = fs::read_to_string(other.codex_home().join("auth.json")).expect("read");
    assert_eq!(live, auth_json(&alice(0)));
    for (path, _) in other.tree("home/.codex-manager").0 {
        let meta = other
            .manager_home()
            .join(&path)
            .symlink_metadata()
            .expect("stat");
        let mode = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn an_encrypted_export_with_a_wrong_byte_is_called_damaged() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    let whole = fs::read(env.path("out.age")).expect("read");
    let cut = whole[..whole.len() - 1].to_vec();
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    let other = other_machine(&env);
    for bytes in [cut, flipped] {
        let file = other.write("broken.age", bytes);
        let refused = import(&other, &file, &["--identity", "key.txt"]).code(5);
        assert!(
            refused.stderr.contains("the export is damaged"),
            "{refused}"
        );
        let save = "codex-manager profile save NAME --from FILE";
        assert!(refused.stderr.contains(save), "{refused}");
    }
    let _ = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
}

#[test]
fn profiles_that_an_import_would_refuse_are_left_out_with_their_logins() {
    let env = env_with_profiles();
    let profiles = env.manager_home().join("profiles");
    for copy in ["zcopy", "z copy"] {
        copy_tree(&profiles.join("work"), &profiles.join(copy));
    }
    let key = write_age_key(&env);
    let printed = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(6);
    let view = printed.json();
    let left = view["left"].as_array().expect("a list").iter();
    let left: Vec<_> = left
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(left, ["z copy", "zcopy"], "{printed}");
    let other = other_machine(&env);
    let _ = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    assert_eq!(kept(&other, "work"), Some(auth_json(&alice(0))));
}

#[test]
fn a_private_key_as_recipient_is_refused_and_not_printed() {
    let env = env_with_profiles();
    let private = "AGE-SECRET-KEY-1QQQQ";
    let args = ["out.age", "--with-logins", "--recipient", private];
    let refused = export(&env, &args).code(4);
    assert!(!format!("{refused}").contains(private), "{refused}");
}

#[test]
fn a_live_login_is_not_exported_and_is_reported() {
    let env = env_with_profiles();
    let _ = env.run(["use", "work"]).code(0);
    let key = write_age_key(&env);
    let args = ["out.age", "--with-logins", "--recipient", &key];
    let printed = export(&env, &args).code(6);
    let view = printed.json();
    let left = view["left"].as_array().expect("a list");
    assert_eq!(left.len(), 1, "{printed}");
    assert_eq!(left[0]["name"], "work");
    assert!(
        printed
            .stderr
            .contains("the live account of [ROOT]/home/.codex"),
        "{printed}"
    );
    assert_eq!(owner(&env, "work"), "live");
    assert_eq!(owner(&env, "home"), "moved");
    let other = other_machine(&env);
    let _ = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    assert_eq!(kept(&other, "work"), None);
    let refused = other.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    assert_eq!(kept(&other, "home"), Some(auth_json(&bob())));
}

#[test]
fn a_profile_imported_without_its_login_causes_no_warning_but_a_missing_own_login_does() {
    let env = env_with_profiles();
    let _ = export(&env, &["out.export"]).code(0);
    let other = other_machine(&env);
    let _ = import(&other, &env.path("out.export"), &[]).code(0);
    assert_eq!(kept(&other, "work"), None);
    let run = other.run(["list"]).code(0);
    let is_marked = |line: &str| line.starts_with("! ") && line.contains("  moved");
    assert!(run.stdout.lines().any(is_marked), "{run}");
    assert_eq!(run.stderr, "", "{run}");
    let shown = other.run(["profile", "show", "work", "--json"]).code(0);
    assert_eq!(shown.json()["problem"], Value::Null, "{shown}");

    // A missing login that this machine owns is still reported.
    write_auth(&other.codex_home(), &carol());
    let _ = other.run(["profile", "save", "carol"]).code(0);
    fs::remove_file(folder(&other, "carol").join("auth.json")).expect("removed");
    let run = other.run(["list"]).code(0);
    assert!(
        run.stderr
            .contains("profile carol: its auth.json is missing"),
        "{run}"
    );
}

#[test]
fn logins_are_exported_only_on_request_and_only_encrypted() {
    let env = env_with_profiles();
    sample_home(&env);
    write_auth(&env.codex_home(), &carol());
    let _ = backup(&env, &[]);
    let before = state(&env);
    let view = export(&env, &["out.export"]).code(0).json();
    assert_eq!(view["encrypted"], Value::Null);
    assert_eq!(view["logins"], json!([]));
    assert_same_tree(&before, &state(&env));
    let bytes = fs::read(env.path("out.export")).expect("read");
    for login in [alice(0), bob(), carol()] {
        let (id, access) = login.tokens();
        for secret in [id, access, login.refresh_token()] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
    }
    for flag in ["--with-logins", "--with-archives"] {
        let refused = export(&env, &["open", flag]).code(4);
        assert!(refused.stderr.contains("--passphrase-file"), "{refused}");
        assert!(!env.path("open").exists());
    }
    let _ = export(&env, &["out.export"]).code(5);
    let _ = export(&env, &["nowhere/out"]).code(1);
    let _ = export(&env, &["x", "--recipient", "age1nothing"]).code(4);
    assert_same_tree(&before, &state(&env));
}

#[test]
fn i9_a_second_import_changes_nothing_and_keeps_newer_data() {
    let env = env_with_profiles();
    sample_home(&env);
    write_auth(&env.codex_home(), &carol());
    let archive = backup(&env, &[]);
    env.write("home/.codex-manager/config.toml", "timezone = \"UTC\"\n");
    env.write(
        "home/.codex-manager/launches.jsonl",
        "{\"launch_id\":\"l1\"}\n",
    );
    env.write(
        "dumps/21apr_old@example.com_auth.json",
        auth_json(&alice(0)),
    );
    let _ = env.run(["normalize", "dumps"]).code(0);
    let key = write_age_key(&env);
    let args = ["out.age", "--with-logins", "--with-archives"];
    let _ = export(&env, &[&args[..], &["--recipient", &key]].concat()).code(0);
    let other = other_machine(&env);
    let take = |args: &[&str]| {
        import(
            &other,
            &env.path("out.age"),
            &[&["--identity", "key.txt"], args].concat(),
        )
        .code(0)
        .json()
    };
    let empty = other.tree("");
    let dry = take(&["--dry-run"]);
    assert_same_tree(&empty, &other.tree(""));
    let file = text(&env.path("out.age"));
    let args = ["profile", "import", &file, "--identity", "key.txt", "-n"];
    let shown = other.run(args).code(0);
    for line in [
        "  1 archive\n",
        "  1 record of legacy files\n",
        "  1 launch\n",
    ] {
        assert!(shown.stdout.contains(line), "{shown}");
    }
    let mut done = take(&[]);
    assert_eq!(done["dry_run"], false);
    done["dry_run"] = json!(true);
    assert_eq!(dry, done, "the plan differs from the result");
    assert_eq!(done["archives"][0]["outcome"], "added");
    assert_eq!(done["records"], 1);
    assert_eq!(done["launches"], 1);
    assert_eq!(done["config"], "added");
    let once = state(&other);
    let again = take(&[]);
    assert_eq!(again["archives"][0]["outcome"], "present");
    assert_eq!(again["profiles"][0]["login"], "same");
    assert_eq!(again["accounts"], json!([]));
    assert_same_tree(&once, &state(&other));
    let _ = other.run(["verify", "--all"]).code(0);
    let name = archive.file_name().expect("a name");
    assert!(other.manager_home().join("backups").join(name).exists());

    // The login was renewed here since. The old one does not come back, whether its copy or only
    // its fingerprint is kept.
    write_auth(&other.codex_home(), &alice(3));
    let _ = other.run(["profile", "save", "work"]).code(0);
    write_auth(&other.codex_home(), &carol());
    let work = |printed: &Value| {
        let mut profiles = printed["profiles"].as_array().expect("profiles").iter();
        profiles.find(|p| p["name"] == "work").expect("work")["login"].clone()
    };
    assert_eq!(work(&take(&[])), "older");
    assert_eq!(kept(&other, "work"), Some(auth_json(&alice(3))));
    fs::remove_file(folder(&other, "work").join("auth.json")).expect("remove");
    assert_eq!(work(&take(&[])), "older");
    assert_eq!(kept(&other, "work"), None);
}

#[test]
fn conflicting_names_get_a_number_and_archives_are_never_overwritten() {
    let env = env_with_profiles();
    sample_home(&env);
    write_auth(&env.codex_home(), &carol());
    let archive = backup(&env, &[]);
    let key = write_age_key(&env);
    let args = [
        "out.age",
        "--with-logins",
        "--with-archives",
        "--recipient",
        &key,
    ];
    let _ = export(&env, &args).code(0);
    let other = other_machine(&env);
    // Here another account has the profile `work`, and another archive has the same name.
    write_auth(&other.codex_home(), &carol());
    let _ = other.run(["profile", "save", "work"]).code(0);
    let name = archive
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name");
    let place = format!("home/.codex-manager/backups/{name}");
    other.write(&place, "mine");
    // The sidecar of an archive that is gone is in the place of the next number's sidecar.
    let lone_sidecar = place.replace("-codex.tar.gz", "-2-codex.metadata.json");
    other.write(&lone_sidecar, "{}");
    other.write("home/.codex-manager/config.toml", "timezone = \"UTC\"\n");
    let printed = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    let view = printed.json();
    let profiles = view["profiles"].as_array().expect("profiles");
    let work = profiles.iter().find(|p| p["name"] == "work").expect("work");
    assert_eq!(work["profile"], "work-2", "{printed}");
    assert_eq!(kept(&other, "work"), Some(auth_json(&carol())));
    assert_eq!(kept(&other, "work-2"), Some(auth_json(&alice(0))));
    assert_eq!(fs::read(other.path(&place)).expect("read"), b"mine");
    let saved_as = view["archives"][0]["saved_as"].as_str().expect("a name");
    assert_eq!(saved_as, name.replace("-codex", "-3-codex"));
    let path = other.manager_home().join("backups").join(saved_as);
    assert_eq!(
        fs::read(path).expect("read"),
        fs::read(&archive).expect("read")
    );
    let _ = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    let archives = fs::read_dir(other.manager_home().join("backups")).expect("list");
    let archives = archives
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|e| e == "gz"));
    assert_eq!(archives.count(), 2);
}

#[test]
fn a_damaged_inventory_is_reported_and_left_out() {
    let env = env_with_profiles();
    fs::write(env.manager_home().join("inventory.json"), "{").unwrap();
    let done = export(&env, &["out.age"]).code(6).json();
    let left = json!([{ "name": "inventory.json", "reason": "it is damaged" }]);
    assert_eq!(done["left"], left);
}

#[test]
fn a_mismatched_sidecar_is_left_out_and_its_archive_exported() {
    for wrong in ["{", "{\"schema\":99}", "of another"] {
        let env = env_with_profiles();
        let archive = backup(&env, &[]);
        let sidecar = text(&archive).replace(".tar.gz", ".metadata.json");
        if wrong == "of another" {
            put(&env, "more.txt", "of a later time");
            let other = backup(&env, &[]);
            let other = text(&other).replace(".tar.gz", ".metadata.json");
            fs::copy(other, &sidecar).unwrap();
        } else {
            fs::write(&sidecar, wrong).unwrap();
        }
        let key = write_age_key(&env);
        let args = ["out.age", "--with-archives", "--recipient", &key];
        let done = export(&env, &args).code(6).json();
        let name = Path::new(&sidecar).file_name().unwrap().to_str().unwrap();
        assert_eq!(done["left"][0]["name"], name, "{wrong}");
        let there = other_machine(&env);
        let _ = import(&there, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
        let _ = there.run(["verify", "--all", "--repair"]).code(0);
    }
}

#[test]
fn an_imported_newer_login_of_the_live_account_goes_live() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    let other = other_machine(&env);
    write_auth(
        &other.codex_home(),
        &alice(0).issued_at(1_700_000_000).family("mine"),
    );
    let printed = import(&other, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    assert_eq!(printed.json()["live"], json!(["work"]), "{printed}");
    let live = fs::read_to_string(other.codex_home().join("auth.json")).expect("read");
    assert_eq!(live, auth_json(&alice(0)));
    assert_eq!(owner(&other, "work"), "live");
    // The previous login is in the history.
    let history = fs::read_dir(folder(&other, "work").join("history")).expect("history");
    assert_eq!(history.count(), 1);
}

#[test]
fn a_moved_login_comes_back_only_with_its_export() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    // An older copy of the login does not become the owner.
    let older = alice(0).issued_at(1_700_000_000);
    let dump = env.write("old_auth.json", auth_json(&older));
    let _ = env
        .run(["profile", "save", "work", "--from", &text(&dump)])
        .code(0);
    assert_eq!(owner(&env, "work"), "moved");
    let _ = import(&env, &env.path("out.age"), &["--identity", "key.txt"]).code(0);
    assert_eq!(owner(&env, "work"), "profile");
    let _ = env.run(["use", "work"]).code(0);
}

#[test]
fn a_wrong_key_is_refused_and_changes_nothing() {
    let env = env_with_profiles();
    let public = write_age_key(&env);
    let _ = export(
        &env,
        &["pass.age", "--with-logins", "--passphrase-file", "pass"],
    )
    .code(0);
    let _ = import(&env, &env.path("pass.age"), &["--passphrase-file", "pass"]).code(0);
    let _ = export(&env, &["key.age", "--with-logins", "--recipient", &public]).code(0);
    let other = TestEnv::new();
    let wrong = age::x25519::Identity::generate();
    other.write("key.txt", wrong.to_string().expose_secret());
    other.write("pass", "wrong horse\n");
    other.write("empty", "");
    let before = other.tree("");
    for (file, args, code, text) in [
        (
            "pass.age",
            &["--passphrase-file", "pass"][..],
            5,
            "wrong passphrase",
        ),
        (
            "pass.age",
            &["--identity", "key.txt"],
            4,
            "--passphrase-file",
        ),
        ("pass.age", &[], 4, "--passphrase-file"),
        ("pass.age", &["--passphrase-file", "empty"], 4, "is empty"),
        ("key.age", &["--identity", "key.txt"], 5, "none of the keys"),
        ("key.age", &["--identity", "empty"], 4, "no age key"),
        ("key.age", &["--identity", "nowhere"], 1, "nowhere"),
        ("key.age", &[], 4, "--identity"),
    ] {
        let refused = import(&other, &env.path(file), args).code(code);
        assert!(refused.stderr.contains(text), "{file} {args:?} {refused}");
        assert!(!refused.stderr.contains("horse"), "{refused}");
        assert_same_tree(&before, &other.tree(""));
    }
}

#[test]
fn a_modified_header_is_damage_and_a_costly_passphrase_is_refused() {
    let env = env_with_profiles();
    let _ = export(&env, &["out.age", "--passphrase-file", "pass"]).code(0);
    let bytes = fs::read(env.path("out.age")).expect("read");
    let end = bytes
        .windows(4)
        .position(|part| part == b"--- ")
        .expect("a header");
    let header = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let mut damaged = bytes.clone();
    damaged[end + 4] = if damaged[end + 4] == b'A' { b'B' } else { b'A' };
    let costly = [header.replace(" 17\n", " 25\n").as_bytes(), &bytes[end..]].concat();
    let other = other_machine(&env);
    for (name, bytes, text) in [
        (
            "damaged.age",
            damaged,
            "the export is damaged (its age header)",
        ),
        (
            "costly.age",
            costly,
            "the work factor of the passphrase is above 18",
        ),
    ] {
        let file = other.write(name, bytes);
        let pass = other.write("pass", fs::read(env.path("pass")).expect("read"));
        let before = state(&other);
        let refused = import(
            &other,
            &file,
            &["--passphrase-file", pass.to_str().expect("text")],
        );
        assert_eq!(refused.code, 5, "{refused}");
        assert!(refused.stderr.contains(text), "{refused}");
        assert_same_tree(&before, &state(&other));
    }
}

#[test]
fn a_modified_or_truncated_ciphertext_is_refused() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    let bytes = fs::read(env.path("out.age")).expect("read");
    let other = other_machine(&env);
    let before = state(&other);
    let mut dice = Dice::new();
    for _ in 0..40 {
        let mut bad = bytes.clone();
        let at = usize::try_from(dice.below(bad.len() as u64)).expect("in range");
        if dice.below(2) == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1;
        }
        let file = other.write("bad.age", bad);
        let refused = import(&other, &file, &["--identity", "key.txt"]);
        assert_eq!(refused.code, 5, "{at}: {refused}");
        assert_same_tree(&before, &state(&other));
    }
}

/// Returns whether the machine and the export own a profile's login. Neither does while the move is pending.
fn owners(env: &TestEnv, name: &str, file: &Path) -> (bool, bool) {
    let may_use = env.run(["use", name, "--dry-run"]).code == 0;
    (may_use, file.exists())
}

#[test]
fn i2_i3_an_export_that_is_killed_or_out_of_space_anywhere_leaves_one_owner() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let file = env.path("out.age");
    let args = [
        "profile",
        "export",
        "out.age",
        "--with-logins",
        "--recipient",
        &key,
    ];
    let all = points(&env, &args);
    let take_back = || {
        if file.exists() {
            let _ = import(&env, &file, &["--identity", "key.txt"]).code(0);
            fs::remove_file(&file).expect("remove");
        }
    };
    take_back();
    for fault in [
        Fault::Killed,
        Fault::Once("ENOSPC"),
        Fault::FromThenOn("ENOSPC"),
    ] {
        let (mut here, mut there) = (0, 0);
        for point in sample(&all, &mut dice) {
            let _ = run_with_fault(&env, &args, &point, fault);
            for name in ["work", "home"] {
                let (may_use, exists) = owners(&env, name, &file);
                assert!(!(may_use && exists), "{point:?}: two owners of {name}");
            }
            // Any command on profiles resolves the pending move.
            let printed = env.run(["profile", "list"]).code(0);
            for name in ["work", "home"] {
                let (may_use, exists) = owners(&env, name, &file);
                let context = format!("{fault:?} {point:?} {name}\n{printed}");
                assert!(may_use != exists, "{context}");
                let expected = if exists { "moved" } else { "profile" };
                assert_eq!(owner(&env, name), expected, "{context}");
            }
            if file.exists() {
                there += 1;
            } else {
                here += 1;
            }
            take_back();
            assert_eq!(kept(&env, "work"), Some(auth_json(&alice(0))), "{point:?}");
            assert_eq!(kept(&env, "home"), Some(auth_json(&bob())), "{point:?}");
            let is_stray = |entry: &fs::DirEntry| {
                let name = entry.file_name();
                name.to_string_lossy().contains("codex-manager-tmp")
            };
            let stray = fs::read_dir(env.path("")).expect("list");
            assert!(stray.flatten().filter(is_stray).count() <= 1, "{point:?}");
        }
        println!("{fault:?}: the login stayed {here} times and moved {there} times");
        assert!(here > 0 && there > 0, "{here} {there}");
    }
}

#[test]
fn i2_a_recovery_of_an_export_that_is_killed_anywhere_leaves_one_owner() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    let (file, unfinished) = (env.path("out.age"), env.path(".codex-manager-tmp-0"));
    let bytes = fs::read(&file).expect("read");
    let note_of = |name| folder(&env, name).join("profile.json");
    let moved = ["work", "home"].map(|name| {
        let text = fs::read(note_of(name)).expect("read");
        (name, serde_json::from_slice::<Value>(&text).expect("JSON"))
    });
    for is_renamed in [false, true] {
        // Reproduces the state after a killed export of an earlier version.
        let kill_export = || {
            let _ = (fs::remove_file(&file), fs::remove_file(&unfinished));
            let at = if is_renamed { &file } else { &unfinished };
            fs::write(at, &bytes).expect("write");
            let meta = at.metadata().expect("stat");
            for (name, note) in &moved {
                let mut note = note.clone();
                note["moving"] = json!({"file": file, "unfinished": unfinished,
                    "inode": [meta.dev(), meta.ino()], "since": "2026-11-20T12:00:00Z"});
                fs::write(note_of(name), note.to_string()).expect("write");
            }
        };
        let expected = if is_renamed { "moved" } else { "profile" };
        kill_export();
        for name in ["work", "home"] {
            let _ = env.run(["use", name, "--dry-run"]).code(5);
        }
        let printed = env.run(["profile", "list"]).code(0);
        let warning = if is_renamed {
            "an interrupted export was complete: the login of work is in"
        } else {
            "an interrupted export was undone: work has its login again"
        };
        assert!(printed.stderr.contains(warning), "{printed}");
        assert!(!unfinished.exists());
        kill_export();
        let all = points(&env, &["profile", "list"]);
        for point in sample_evenly(12, &all, &mut dice) {
            kill_export();
            let _ = run_with_fault(&env, &["profile", "list"], &point, Fault::Killed);
            for name in ["work", "home"] {
                let (may_use, exists) = owners(&env, name, &file);
                assert!(!(may_use && exists), "{point:?}: two owners of {name}");
            }
            let _ = env.run(["profile", "list"]).code(0);
            for name in ["work", "home"] {
                assert_eq!(owner(&env, name), expected, "{point:?}");
            }
            assert_eq!(file.exists(), is_renamed, "{point:?}");
        }
    }
}

#[test]
fn i2_an_import_that_is_killed_anywhere_is_finished_by_the_next() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = env_with_profiles();
    sample_home(&env);
    write_auth(&env.codex_home(), &carol());
    let _ = backup(&env, &[]);
    let key = write_age_key(&env);
    let args = [
        "out.age",
        "--with-logins",
        "--with-archives",
        "--recipient",
        &key,
    ];
    let _ = export(&env, &args).code(0);
    let file = text(&env.path("out.age"));
    let import = ["profile", "import", &file, "--identity", "key.txt"];
    let whole = other_machine(&env);
    let all = points(&whole, &import);
    let _ = whole.run(import).code(0);
    let expected = state(&whole);
    let digest_free = |tree: &Tree| {
        let mut tree = tree.clone();
        // The inventory contains mtimes.
        tree.0.retain(|path, _| !path.ends_with("inventory.json"));
        tree
    };
    for point in sample(&all, &mut dice) {
        let other = other_machine(&env);
        let _ = run_with_fault(&other, &import, &point, Fault::Killed);
        for (name, login) in [("work", alice(0)), ("home", bob())] {
            let found = kept(&other, name);
            assert!(
                found.is_none_or(|text| text == auth_json(&login)),
                "{point:?}"
            );
        }
        let _ = other.run(import).code(0);
        assert_same_tree(&digest_free(&expected), &digest_free(&state(&other)));
        let _ = other.run(["verify", "--all"]).code(0);
    }
}

#[test]
fn a_killed_export_with_a_missing_file_returns_its_login_only_by_profile_save_from() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    // Reproduces the state of an earlier version, killed between its two writes of profile.json.
    let note = folder(&env, "work").join("profile.json");
    let mut open: Value = serde_json::from_slice(&fs::read(&note).expect("read")).expect("JSON");
    open["moving"] = json!({"file": env.path("out.age"), "unfinished": env.path(".none"),
                            "inode": [1, 1], "since": "2026-11-20T12:00:00Z"});
    fs::write(&note, open.to_string()).expect("write");
    fs::rename(env.path("out.age"), env.path("stick.age")).expect("move the export");
    let printed = env.run(["profile", "list"]).code(0);
    assert!(
        printed.stderr.contains("connect its disk")
            && printed.stderr.contains("profile save work --from"),
        "{printed}"
    );
    assert_eq!(owner(&env, "work"), "moving");
    let _ = env.run(["use", "work"]).code(5);
    let own = text(&folder(&env, "work").join("auth.json"));
    let saved = env.run(["profile", "save", "work", "--from", &own]).code(0);
    let consequence = "work takes its login back; do not import the export on another machine";
    assert!(saved.stdout.contains(consequence), "{saved}");
    assert!(!saved.stderr.contains("logs the account out"), "{saved}");
    assert_eq!(owner(&env, "work"), "profile");
    let _ = env.run(["use", "work"]).code(0);
}

#[test]
fn i11_a_dry_run_of_an_export_writes_nothing() {
    let env = env_with_profiles();
    let before = env.tree("");
    let view = export(&env, &["out.age", "--with-logins", "--dry-run"])
        .code(0)
        .json();
    assert_eq!(view["dry_run"], true);
    assert_eq!(view["logins"].as_array().expect("logins").len(), 2);
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn memory_use_does_not_depend_on_the_size_of_archives() {
    const LIMIT_KIB: u64 = 180_000;
    let env = TestEnv::new();
    sample_home(&env);
    let mut dice = Dice::new();
    let noise = dice.bytes(6 << 20);
    for i in 0..8 {
        put(&env, format!("sessions/2026/11/17/big-{i}.bin"), &noise);
        let _ = backup(&env, &[]);
    }
    let key = write_age_key(&env);
    let limited = |args: &str| {
        let script = format!("ulimit -v {LIMIT_KIB}; exec {PROGRAM} -q profile {args}");
        let mut command = env.other_program("sh");
        let output = command.args(["-c", &script]).output().expect("sh");
        assert!(output.status.success(), "{args}: {output:?}");
    };
    limited(&format!("export out.age --with-archives --recipient {key}"));
    let size = env.path("out.age").metadata().expect("stat").len();
    assert!(size / 1024 > LIMIT_KIB, "{size}");
    limited("import out.age --identity key.txt --manager-home other");
    let archives = fs::read_dir(env.path("other/backups")).expect("list");
    assert_eq!(archives.count(), 16, "with their sidecars");
}

#[test]
fn a_restore_does_not_restore_a_moved_login_by_default() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let key = write_age_key(&env);
    let _ = export(&env, &["out.age", "--with-logins", "--recipient", &key]).code(0);
    assert_eq!(owner(&env, "work"), "moved");
    let printed = env.run(["restore", &archive, "--yes"]).code(0);
    assert!(printed.stderr.contains("on another machine"), "{printed}");
    let live = || fs::read_to_string(env.codex_home().join("auth.json")).expect("read");
    assert_eq!(live(), auth_json(&carol()));
    let _ = env
        .run(["restore", &archive, "--yes", "--auth", "archive"])
        .code(0);
    assert_eq!(live(), auth_json(&alice(0)));
}

#[test]
fn an_unsaved_renewed_login_in_an_exported_archive_is_not_restored_on_another_machine() {
    let env = TestEnv::new();
    sample_home(&env);
    let _ = env.run(["profile", "save", "work"]).code(0);
    // Codex renews the live login.
    write_auth(&env.codex_home(), &alice(2));
    let _ = backup(&env, &[]);
    let key = write_age_key(&env);
    fs::create_dir(env.path("second-home")).expect("folder");
    for (file, home) in [("a.age", "home/.codex"), ("b.age", "second-home")] {
        let args = ["--codex-home", home, "profile", "export", file];
        let options = ["--with-archives", "--recipient", &key];
        let _ = env.run([&args[..], &options].concat()).code(0);
    }

    // The other machine does not see the home.
    fs::rename(env.codex_home(), env.path("away")).expect("rename");
    for file in ["a.age", "b.age"] {
        let other = other_machine(&env);
        fs::create_dir_all(other.codex_home()).expect("folder");
        let _ = import(&other, &env.path(file), &["--identity", "key.txt"]).code(0);
        let restored = other.run(["restore", "latest", "--yes"]).code(0);
        assert!(restored.stderr.contains("on another machine"), "{restored}");
        assert!(!other.codex_home().join("auth.json").exists(), "{restored}");
        // Restoring the login alone would leave it out as well.
        let current = other.run(["current"]);
        assert!(!current.stderr.contains("--only auth.json"), "{current}");
    }
}

#[test]
fn no_import_or_save_creates_a_profile_that_hides_a_newer_removed_one() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let with_logins = ["old.age", "--with-logins", "--recipient", &key];
    let _ = export(&env, &with_logins).code(0);
    let old = env.path("old.age");
    let _ = import(&env, &old, &["--identity", "key.txt"]).code(0);
    write_auth(&env.codex_home(), &alice(2));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let _ = export(&env, &["plain"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);

    let before = state(&env);
    let undo = "codex-manager profile undo work";
    for file in [&old, &env.path("plain")] {
        let file = text(file);
        let args = ["profile", "import", &file, "--identity", "key.txt"];
        let printed = env.run(args).code(0);
        assert!(format!("{printed}").contains(undo), "{printed}");
        assert!(!folder(&env, "work").exists(), "{printed}");
    }
    let dump = text(&env.write("old.json", auth_json(&alice(0))));
    for flag in ["--dry-run", "--quiet"] {
        let args = ["profile", "save", "new", "--from", &dump, flag];
        let refused = env.run(args).code(5);
        assert!(refused.stderr.contains(undo), "{refused}");
    }
    assert_same_tree(&before, &state(&env));

    let _ = env.run(["profile", "undo", "work"]).code(0);
    let _ = env.run(["use", "work"]).code(0);
    let live = fs::read_to_string(env.codex_home().join("auth.json")).expect("read");
    assert_eq!(live, auth_json(&alice(2)));
}

#[test]
fn a_moved_login_stays_moved_after_its_profile_is_removed_and_saved_again() {
    let env = env_with_profiles();
    let login = fs::read(folder(&env, "work").join("auth.json")).expect("read");
    env.write("dump.json", login);
    let key = write_age_key(&env);
    let args = ["out.age", "--with-logins", "--recipient", &key];
    let _ = export(&env, &args).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    let _ = env
        .run(["profile", "save", "work", "--from", "dump.json"])
        .code(0);
    let refused = env.run(["use", "work"]).code(5);
    assert!(
        refused.stderr.contains("moved to another machine"),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("codex-manager profile login work"),
        "{refused}"
    );
    // A new sign-in is a separate login.
    write_auth(&env.codex_home(), &alice(2));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let _ = env.run(["use", "work"]).code(0);
}

#[test]
fn an_account_is_available_again_after_a_new_sign_in() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let args = ["out.age", "--with-logins", "--recipient", &key];
    let _ = export(&env, &args).code(0);
    let login = || {
        let known = env.run(["cooldown", "--json"]).code(0).json();
        let accounts = known["accounts"].as_array().expect("accounts").clone();
        let alices = accounts
            .iter()
            .find(|a| a["email"] == "alice@example.com")
            .expect("alice");
        alices["login"].clone()
    };
    assert_eq!(login(), "moved");
    write_auth(&env.codex_home(), &alice(0));
    assert_eq!(login(), "moved", "the moved login was restored");
    write_auth(&env.codex_home(), &alice(2));
    assert_eq!(login(), "ok");
    let printed = env.run(["recommend", "--json"]).code(0).json();
    let named = printed["candidates"].as_array().expect("candidates").iter();
    assert!(
        named.clone().any(|c| c["email"] == "alice@example.com"),
        "{printed}"
    );
}

#[test]
fn an_import_without_logins_keeps_local_logins_usable() {
    let env = env_with_profiles();
    write_auth(&env.codex_home(), &alice(2));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let _ = export(&env, &["out.tar.gz"]).code(0);
    let other = TestEnv::new();
    write_auth(&other.codex_home(), &alice(0));
    let _ = import(&other, &env.path("out.tar.gz"), &[]).code(0);
    let _ = other.run(["profile", "save", "work"]).code(0);
    write_auth(&other.codex_home(), &bob());
    let _ = other.run(["use", "work"]).code(0);
}

#[test]
fn i5_a_profile_imported_without_its_login_refuses_an_older_one_and_takes_the_login_itself() {
    let env = env_with_profiles();
    let key = write_age_key(&env);
    let other = other_machine(&env);
    let old = text(&other.write("old.json", auth_json(&alice(1))));
    let _ = export(&env, &["first"]).code(0);
    let _ = import(&other, &env.path("first"), &[]).code(0);

    // The login is renewed on the first machine, and the profile of the second one learns of it.
    write_auth(&env.codex_home(), &alice(3));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let _ = export(&env, &["second"]).code(0);
    let _ = import(&other, &env.path("second"), &[]).code(0);
    let once = state(&other);
    let _ = import(&other, &env.path("second"), &[]).code(0);
    assert_same_tree(&once, &state(&other));

    let _ = other.run(["profile", "save", "work", "--from", &old]);
    let refused = other.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("profile login work"), "{refused}");

    // The login itself can still come.
    let args = ["third", "--with-logins", "--recipient", &key];
    let _ = export(&env, &args).code(0);
    let _ = import(&other, &env.path("third"), &["--identity", "key.txt"]).code(0);
    assert_eq!(kept(&other, "work"), Some(auth_json(&alice(3))));
    let _ = other.run(["use", "work"]).code(0);
}
