//! Tests of the settings `folders.PATH` and `shared_logins.PATH`, which have one value per folder.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::profiles::alice_and_bob;
use serde_json::{Value, json};
use std::fs;

const FILE: &str = "home/.codex-manager/config.toml";

fn file(env: &TestEnv) -> String {
    fs::read_to_string(env.path(FILE)).unwrap()
}

/// Returns the settings of `config list --json` that have a folder.
fn listed(env: &TestEnv) -> Vec<Value> {
    let list = env.run(["config", "list", "--json"]).code(0).json();
    let settings = list["settings"].as_array().expect("settings").clone();
    let of_folders = settings.into_iter().filter(|setting| {
        let key = setting["key"].as_str().expect("a key");
        key.starts_with("folders.") || key.starts_with("shared_logins.")
    });
    of_folders.collect()
}

#[test]
fn an_account_of_a_folder_is_set_shown_and_removed() {
    let env = TestEnv::new();
    env.write(
        FILE,
        "# mine\ntimezone = \"UTC\"\n\n[folders]\n# billed\n\"~/code\" = \"work\" # kept\n",
    );
    let before = file(&env);
    let run = env
        .run(["config", "set", "folders.~/code/a.b c", "client-a"])
        .code(0);
    insta::assert_snapshot!(run, @r"
    exit 0
    --- stdout
    folders.~/code/a.b c: not set → client-a
    --- stderr
    there is no profile client-a yet; create it with:
        codex-manager profile login client-a
    ");
    let _ = env
        .run(["config", "set", "shared_logins.~/code/", "true"])
        .code(0);
    assert_eq!(
        file(&env),
        format!("{before}\"~/code/a.b c\" = \"client-a\"\n\n[shared_logins]\n\"~/code/\" = true\n")
    );
    let entry = |key: &str, value: Value, default: Value| json!({ "key": key, "value": value, "default": default, "origin": "file" });
    assert_eq!(
        listed(&env),
        [
            entry("folders.~/code", json!("work"), Value::Null),
            entry("folders.~/code/a.b c", json!("client-a"), Value::Null),
            entry("shared_logins.~/code/", json!(true), json!(false)),
        ]
    );
    let shown = env.run(["config", "list"]).code(0).stdout;
    let lines: Vec<_> = shown.lines().rev().take(3).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    shared_logins.~/code/ = true
    folders.~/code/a.b c = client-a
    folders.~/code = work
    ");
    for (key, value) in [
        ("folders.~/code", "work"),
        ("folders.~/code/sub", "-"),
        ("shared_logins.~/code", "true"),
        ("shared_logins.~", "false"),
    ] {
        let run = env.run(["config", "get", key]).code(0);
        assert_eq!((run.stdout.trim_end(), &*run.stderr), (value, ""), "{key}");
    }
    // No command reports them as unknown settings.
    let run = env.run(["list-backups"]).code(0);
    assert!(!run.stderr.contains("config.toml"), "{run}");
    let _ = env.run(["config", "unset", "folders.~/code/a.b c"]).code(0);
    let _ = env.run(["config", "unset", "shared_logins.~/code"]).code(0);
    // The empty tables stay.
    let left = file(&env).replace("[shared_logins]", "");
    assert_eq!(left.trim_end(), before.trim_end());
    let run = env.run(["config", "unset", "shared_logins.~/code"]).code(0);
    assert_eq!(
        run.stdout,
        "shared_logins.~/code is already not set; nothing was changed\n"
    );
}

#[test]
fn spellings_of_the_same_folder_share_one_entry() {
    let env = TestEnv::new();
    let home = env.path("home");
    let whole = format!("folders.{}/code/", home.display());
    let _ = env.run(["config", "set", "folders.~/code", "a"]).code(0);
    let _ = env.run(["config", "set", &whole, "b"]).code(0);
    assert_eq!(file(&env), "[folders]\n\"~/code\" = \"b\"\n");
    let get = env.run(["config", "get", &whole, "--json"]).code(0).json();
    assert_eq!(
        (&get["key"], &get["value"]),
        (&json!("folders.~/code"), &json!("b"))
    );
    let unset = env
        .run(["config", "unset", &whole, "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&unset["before"], &unset["after"]),
        (&json!("b"), &Value::Null)
    );
    assert_eq!(file(&env), "[folders]\n");
}

#[test]
fn keys_without_a_folder_and_invalid_profile_names_are_refused() {
    let env = TestEnv::new();
    env.write(FILE, "timezone = \"UTC\"\n");
    let before = env.tree("home");
    for (key, value) in [
        ("folders", "work"),
        ("folders.", "work"),
        ("folders.work", "work"),
        ("folders..", "work"),
        ("shared_logins.~bob/work", "true"),
        ("folders.~/code", "../work"),
        ("folders.~/code", ""),
        ("shared_logins.~/code", "yes"),
    ] {
        let run = env.run(["config", "set", key, value]).code(4);
        assert!(run.stderr.contains("hint: "), "{run}");
        assert_same_tree(&before, &env.tree("home"));
    }
    let run = env.run(["config", "get", "folders.work"]).code(4);
    insta::assert_snapshot!(run.stderr, @r#"
    error: the folder of "folders.work" is not an absolute path

    hint: give an absolute path, or one that begins with ~, such as folders.~/code
    "#);
    let dry = ["config", "set", "folders.~/code", "work", "--dry-run"];
    let _ = env.run(dry).code(0);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn an_invalid_entry_is_reported_with_the_command_that_removes_it() {
    let env = TestEnv::new();
    env.write(FILE, "[folders]\n\"~/my work\" = \"../work\"\n");
    let run = env.run(["list-backups"]).code(4);
    insta::assert_snapshot!(run.stderr, @r"
    error: folders.~/my work must be the name of a profile: [ROOT]/home/.codex-manager/config.toml

    hint: reset it to the default:
        codex-manager config unset 'folders.~/my work'
    ");
    let (_, command) = run.stderr.split_once("codex-manager ").expect("a command");
    assert_eq!(command.trim_end(), "config unset 'folders.~/my work'");
    let _ = env.run(["config", "unset", "folders.~/my work"]).code(0);
    let _ = env.run(["list-backups"]).code(0);
    // A key that is not a folder has no effect, and each command warns about it.
    env.write(FILE, "[folders]\nwork = \"work\"\n");
    let run = env.run(["list-backups"]).code(0);
    let warning = "warning: config.toml: the folder of \"folders.work\" is not an absolute path\n";
    assert!(run.stderr.starts_with(warning), "{run}");
}

#[test]
fn wrap_is_refused_for_unsupported_shells_and_prompt_options() {
    let env = TestEnv::new();
    for args in [
        &["hook", "tmux", "--wrap"][..],
        &["hook", "starship", "--wrap"],
        &["hook", "bash", "--wrap", "--every", "2h"],
        &["hook", "bash", "--wrap", "--format", "{label}"],
    ] {
        let run = env.run(args).code(4);
        assert_eq!(run.stdout, "", "{args:?}");
    }
    let json = env.run(["hook", "zsh", "--wrap", "--json"]).code(0).json();
    let snippet = env.run(["hook", "zsh", "--wrap"]).code(0).stdout;
    assert_eq!(
        (&json["shell"], &json["snippet"]),
        (&json!("zsh"), &json!(snippet))
    );
}

#[test]
fn a_renamed_profile_keeps_its_folders() {
    let env = alice_and_bob();
    let acme = env.path("home/clients/acme");
    fs::create_dir_all(&acme).unwrap();
    for (folder, profile) in [
        ("~/clients/acme", "home"),
        ("~/own", "work"),
        ("~/old", "Home"),
    ] {
        let _ = env
            .run(["config", "set", &format!("folders.{folder}"), profile])
            .code(0);
    }
    let before = file(&env);
    let run = env
        .run(["profile", "rename", "home", "client", "--dry-run"])
        .code(0);
    insta::assert_snapshot!(run, @r"
    exit 0
    --- stdout
    would rename home to client
    would change the setting folders.~/clients/acme: home → client
    would change the setting folders.~/old: home → client
    --- stderr
    nothing was written (--dry-run)
    ");
    assert_eq!(file(&env), before);

    let run = env
        .run(["profile", "rename", "home", "client", "--json"])
        .code(0)
        .json();
    let settings = ["folders.~/clients/acme", "folders.~/old"];
    assert_eq!(run["settings"], json!(settings));
    let of = |profile: &str| {
        let listed = listed(&env).into_iter();
        let of_profile = listed.filter(|setting| setting["value"] == *profile);
        of_profile
            .map(|setting| setting["key"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("client"), settings);
    assert_eq!(of("work"), ["folders.~/own"]);

    // `profile save` renames the profile of the live account.
    let _ = env.run(["profile", "save", "own"]).code(0);
    assert_eq!(of("own"), ["folders.~/own"]);
    let _ = env.run(["profile", "rename", "own", "own"]).code(0);
}

#[test]
fn a_folder_whose_account_does_not_exist_is_reported() {
    let env = alice_and_bob();
    let acme = env.path("home/clients/acme");
    fs::create_dir_all(&acme).unwrap();
    let key = "folders.~/clients/acme";
    let _ = env.run(["config", "set", key, "nobody"]).code(0);
    for verb in ["recommend", "current", "launch"] {
        let mut command = env.command([verb]);
        let output = command.current_dir(&acme).output().unwrap();
        let run = Run::of_output(output);
        let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("config unset 'folders.~/clients/acme'"),
            "{run}"
        );
        assert!(!text.contains("codex-manager launch"), "{run}");
    }
}
