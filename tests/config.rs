//! `config` shows settings with their source, changes them without losing a comment, and never writes an
//! invalid value.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{backup, sample_home};
use crate::support::write_program;
use serde_json::{Value, json};
use std::fs;

const FILE: &str = "home/.codex-manager/config.toml";

fn setting(env: &TestEnv, args: &[&str], key: &str) -> Value {
    let mut all = vec!["config", "list", "--json"];
    all.extend(args);
    let list = env.run(all).code(0).json();
    let settings = list["settings"].as_array().expect("settings");
    let found = settings.iter().find(|s| s["key"] == key);
    found.expect("a known key").clone()
}

#[test]
fn settings_follow_the_order_of_precedence() {
    let mut env = TestEnv::new();
    let origin = |env: &TestEnv, args: &[&str], key: &str| {
        let setting = setting(env, args, key);
        (setting["value"].clone(), setting["origin"].clone())
    };
    env.unset("TZ");
    assert_eq!(
        origin(&env, &[], "codex.home"),
        (json!("~/.codex"), json!("default"))
    );
    env.write(FILE, "codex.home = '/from/file'\ncolor = 'always'\n");
    assert_eq!(
        origin(&env, &[], "codex.home"),
        (json!("/from/file"), json!("file"))
    );
    env.set("CODEX_HOME", "/from/env").set("NO_COLOR", "1");
    assert_eq!(
        origin(&env, &[], "codex.home"),
        (json!("/from/env"), json!("environment"))
    );
    assert_eq!(
        origin(&env, &[], "color"),
        (json!("never"), json!("environment"))
    );
    assert_eq!(
        origin(&env, &["--codex-home", "/from/flag"], "codex.home"),
        (json!("/from/flag"), json!("flag"))
    );
    // TZ is the only exception, because it describes the machine.
    env.set("TZ", "Europe/Berlin");
    assert_eq!(
        origin(&env, &[], "timezone"),
        (json!("Europe/Berlin"), json!("environment"))
    );
    env.write(FILE, "timezone = 'Asia/Kolkata'\n");
    assert_eq!(
        origin(&env, &[], "timezone"),
        (json!("Asia/Kolkata"), json!("file"))
    );
    assert_eq!(
        origin(&env, &["--timezone", "UTC"], "timezone"),
        (json!("UTC"), json!("flag"))
    );
}

#[test]
fn set_and_unset_keep_the_rest_of_the_file() {
    let env = TestEnv::new();
    let text = "# mine\ntimezone = \"UTC\" # here\n\n[other]\nkept = true\n";
    env.write(FILE, text);
    let run = env.run(["config", "set", "prune.keep_last", "7"]).code(0);
    insta::assert_snapshot!(run, @r"
    exit 0
    --- stdout
    prune.keep_last: the default → 7
    --- stderr
    ");
    let run = env.run(["config", "get", "prune.keep_last"]).code(0);
    assert_eq!(run.stdout, "7\n");
    let _ = env.run(["config", "unset", "prune.keep_last"]).code(0);
    // The empty table stays.
    let left = fs::read_to_string(env.path(FILE)).unwrap();
    assert_eq!(left.replace("[prune]", "").trim(), text.trim());
    let run = env.run(["config", "unset", "prune.keep_last"]).code(0);
    assert_eq!(
        run.stdout,
        "prune.keep_last is already the default; nothing was changed\n"
    );
}

#[test]
fn invalid_values_are_refused_and_the_file_is_unchanged() {
    let env = TestEnv::new();
    env.write(FILE, "timezone = \"UTC\"\n");
    let before = env.tree("home");
    for args in [
        ["set", "timezone", "Mars/Olympus"],
        ["set", "timezon", "UTC"],
        ["set", "prune.keep_last", "-1"],
        ["set", "backup.exclude", "[\"{\"]"],
    ] {
        let run = env.run(["config"].iter().chain(&args)).code(4);
        assert!(run.stderr.contains("hint: "), "{run}");
        assert_same_tree(&before, &env.tree("home"));
    }
    let run = env.run(["config", "get", "timezon"]).code(4);
    insta::assert_snapshot!(run.stderr, @r#"
    error: unknown setting "timezon"; did you mean timezone?

    hint: list all settings:
        codex-manager config list
    "#);
}

#[test]
fn an_invalid_value_stops_list_backups_and_config_list_but_not_config_unset_and_path() {
    let env = TestEnv::new();
    env.write(FILE, "color = 'blue'\n");
    let run = env.run(["list-backups"]).code(4);
    insta::assert_snapshot!(run.stderr, @r"
    error: color must be one of auto, always, never: [ROOT]/home/.codex-manager/config.toml

    hint: reset it to the default:
        codex-manager config unset color
    ");
    let _ = env.run(["config", "list"]).code(4);
    let _ = env.run(["config", "unset", "color"]).code(0);
    let _ = env.run(["list-backups"]).code(0);
    env.write(FILE, "= broken");
    let _ = env.run(["config", "set", "color", "never"]).code(4);
    assert_eq!(fs::read_to_string(env.path(FILE)).unwrap(), "= broken");
    assert!(
        env.run(["config", "path"])
            .code(0)
            .stdout
            .ends_with("config.toml\n")
    );
}

#[test]
fn the_error_of_a_typo_is_one_line_and_accounts_list_and_recommend_use_the_defaults() {
    let env = TestEnv::new();
    for (text, problem) in [
        (
            "color = 'never'\n\ntimezone = UTC\n",
            "not valid TOML in line 3: string values must be quoted, expected literal string",
        ),
        (
            "color = 'never'\n[recommend]\nstrategy = 'lur'\n",
            "recommend.strategy must be one of ",
        ),
        ("color = [\n", "not valid TOML in line 1: "),
    ] {
        env.write(FILE, text);
        let run = env.run(["list-backups"]).code(4);
        let (error, _) = run.stderr.split_once('\n').unwrap();
        assert!(error.starts_with(&format!("error: {problem}")), "{run}");
        assert!(error.ends_with("/home/.codex-manager/config.toml"), "{run}");
        for command in ["accounts", "list", "recommend"] {
            let run = env.run([command]);
            assert_ne!(run.code, 4, "{run}");
            let warning = format!("warning: {problem}");
            assert!(run.stderr.starts_with(&warning), "{run}");
            assert!(run.stderr.contains("; the defaults are used\n"), "{run}");
        }
    }
}

#[test]
fn the_message_of_a_typo_does_not_repeat_the_line_because_it_may_be_a_password() {
    let env = TestEnv::new();
    env.write("home/.codex/config.toml", "");
    let typo = "repository = rest:http://me:fishbone9@nas/\n";
    for (file, command) in [
        ("config.toml", ["config", "list"]),
        ("sync.toml", ["sync", "plan"]),
        ("prices.toml", ["usage", "models"]),
    ] {
        let path = format!("home/.codex-manager/{file}");
        env.write(&path, format!("\n{typo}"));
        let run = env.run(command);
        assert!(run.stderr.contains("line 2: "), "{run}");
        assert!(!run.stderr.contains("fishbone9"), "{run}");
        env.write(&path, "");
    }
}

#[test]
fn unknown_keys_cause_a_warning_except_in_recommend() {
    let env = TestEnv::new();
    env.write(FILE, "recomend.strategy = 'lru'\n");
    let warning = "warning: config.toml: unknown setting \"recomend.strategy\"; did you mean recommend.strategy?\n";
    assert!(
        env.run(["list-backups"])
            .code(0)
            .stderr
            .starts_with(warning)
    );
    assert!(
        env.run(["config", "list"])
            .code(0)
            .stderr
            .starts_with(warning)
    );
    assert!(!env.run(["recommend"]).stderr.contains("config.toml"));
}

#[test]
fn backup_normalize_and_recommend_use_their_settings() {
    let env = TestEnv::new();
    sample_home(&env);
    env.write(
        FILE,
        "backup.exclude = ['AGENTS.md']\nrecommend.strategy = 'most-left'\nnormalize.session_duration_hours = 3\n",
    );
    let archive = backup(&env, &["--exclude", "notes.txt"]);
    let _ = env
        .run(["restore", archive.to_str().unwrap(), "--to", "copy"])
        .code(0);
    assert!(!env.path("copy/AGENTS.md").exists());
    assert!(!env.path("copy/notes.txt").exists());
    assert!(env.path("copy/history.jsonl").exists());
    let records = env.run(["normalize", "--json"]).code(0).json();
    assert_eq!(
        records["records"][0]["inferred_session_duration_seconds"],
        10_800
    );
    assert_eq!(
        env.run(["recommend", "--json"]).code(0).json()["strategy"],
        "most-left"
    );
    let flag = ["recommend", "--json", "--strategy", "lru"];
    assert_eq!(env.run(flag).code(0).json()["strategy"], "lru");
}

#[test]
fn config_writes_through_a_symbolic_link() {
    let env = TestEnv::new();
    let real = env.write("dotfiles/config.toml", "timezone = 'UTC'\n");
    fs::create_dir_all(env.manager_home()).unwrap();
    std::os::unix::fs::symlink(&real, env.path(FILE)).unwrap();
    let _ = env.run(["config", "set", "color", "never"]).code(0);
    assert!(env.path(FILE).is_symlink());
    assert!(
        fs::read_to_string(real)
            .unwrap()
            .contains("color = \"never\"")
    );
}

#[test]
fn a_linked_file_keeps_its_mode_and_a_dangling_link_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut env = TestEnv::new();
    let real = env.write("dotfiles/config.toml", "timezone = 'UTC'\n");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir_all(env.manager_home()).unwrap();
    std::os::unix::fs::symlink(&real, env.path(FILE)).unwrap();
    let _ = env.run(["config", "set", "color", "never"]).code(0);
    let mode = fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    fs::remove_file(&real).unwrap();
    env.set("EDITOR", "true");
    for args in [
        &["config", "set", "color", "always"][..],
        &["config", "set", "color", "always", "--dry-run"],
        &["config", "edit"],
    ] {
        let run = env.run(args).code(1);
        assert!(run.stderr.contains("config.toml"), "{run}");
        assert!(env.path(FILE).is_symlink() && !real.exists());
    }
}

#[test]
fn edit_saves_only_a_valid_file_that_no_other_process_has_changed() {
    let mut env = TestEnv::new();
    env.write(FILE, "timezone = 'UTC' # kept\n");
    let before = env.tree("home");
    let _ = env.run(["config", "edit"]).code(4);
    let editor = |env: &TestEnv, text: &str| {
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"{text}\" >> \"$2\"\n");
        write_program(&env.path("bin/editor"), &script);
    };
    env.set("EDITOR", "editor --wait");
    editor(&env, "color = 'blue'");
    let run = env.run(["config", "edit"]).code(4);
    assert!(run.stderr.contains("config.rejected.toml"), "{run}");
    let kept = env.manager_home().join("config.rejected.toml");
    assert!(
        fs::read_to_string(&kept)
            .unwrap()
            .ends_with("color = 'blue'\n")
    );
    assert_eq!(
        fs::read_to_string(env.path(FILE)).unwrap(),
        "timezone = 'UTC' # kept\n"
    );
    editor(&env, "color = 'never'");
    let _ = env.run(["config", "edit", "--dry-run"]).code(0);
    assert_eq!(
        before
            .0
            .get(std::path::Path::new(".codex-manager/config.toml")),
        env.tree("home")
            .0
            .get(std::path::Path::new(".codex-manager/config.toml"))
    );
    let _ = env.run(["config", "edit"]).code(0);
    assert_eq!(
        fs::read_to_string(env.path(FILE)).unwrap(),
        "timezone = 'UTC' # kept\ncolor = 'never'\n"
    );
    // Another process changes the file while the editor is open.
    write_program(
        &env.path("bin/editor"),
        &format!(
            "#!/bin/sh\necho '# edited' >> \"$2\"\n'{}' config set color always\n",
            env!("CARGO_BIN_EXE_codex-manager")
        ),
    );
    let _ = env.run(["config", "edit"]).code(2);
    assert!(
        fs::read_to_string(env.path(FILE))
            .unwrap()
            .contains("always")
    );
    // `config edit` can also repair a file that is not TOML.
    env.write(FILE, "= broken");
    write_program(
        &env.path("bin/editor"),
        "#!/bin/sh\necho 'color = \"auto\"' > \"$2\"\n",
    );
    let _ = env.run(["config", "edit"]).code(0);
    assert_eq!(
        fs::read_to_string(env.path(FILE)).unwrap(),
        "color = \"auto\"\n"
    );
}

#[test]
fn without_an_editor_an_unreadable_file_gets_a_hint_to_fix_it_by_hand() {
    let env = TestEnv::new();
    env.write(FILE, "color = [");
    let run = env.run(["list-backups"]).code(4);
    assert!(run.stderr.contains("codex-manager config edit"), "{run}");
    let run = env.run(["config", "edit"]).code(4);
    assert!(run.stderr.contains("by hand: [ROOT]/home"), "{run}");
    assert!(!run.stderr.contains("config set"), "{run}");
}

#[test]
fn a_config_of_a_newer_version_is_refused_and_unchanged() {
    let env = TestEnv::new();
    for (schema, code) in [("1", 0), ("2", 5), ("'x'", 4)] {
        env.write(FILE, format!("schema = {schema}\ncolor = 'never'\n"));
        let file = || env.tree("home/.codex-manager").only(&["config.toml"]);
        let before = file();
        let run = env.run(["list-backups"]).code(code);
        assert_eq!(run.stderr.contains("schema"), code != 0, "{run}");
        assert!(!run.stderr.contains("unknown"), "{run}");
        if code != 0 {
            let run = env.run(["config", "set", "color", "always"]);
            assert_eq!(run.code, code, "{run}");
            let doctor = env.run(["doctor"]).code(5);
            assert!(doctor.stdout.contains("schema"), "{doctor}");
            assert_same_tree(&before, &file());
        }
    }
}

#[test]
fn a_backup_refuses_a_setting_that_excludes_the_whole_home() {
    let env = TestEnv::new();
    sample_home(&env);
    for glob in ["", "/"] {
        let list = format!("[\"{glob}\"]");
        env.write(FILE, format!("backup.exclude = {list}\n"));
        let run = env.run(["backup"]).code(4);
        assert!(run.stderr.contains("config unset backup.exclude"), "{run}");
    }
}

#[test]
fn long_paths_are_shown_in_full_and_the_list_fits_80_columns() {
    let mut env = TestEnv::new();
    let home = "/home/somebody/with a long/name-that-has-no-room/in-the-table/.codex";
    env.set("CODEX_HOME", home);
    let _ = env
        .run([
            "config",
            "set",
            "backup.exclude",
            "[\"logs_*.sqlite\", \"*.tmp\"]",
        ])
        .code(0);
    let shown = env.run(["config", "list"]).code(0).stdout;
    let is_row = |line: &str| line.starts_with("codex.home ") && line.contains(home);
    assert!(shown.lines().any(is_row), "in a pipe: {shown}");
    let on_terminal = crate::tables::shown(&env, &["config", "list"], 80);
    let row = "codex.home                        …he-table/.codex  environment  ";
    assert!(on_terminal.contains(row), "{on_terminal}");
    let whole = format!("codex.home = {home}");
    for line in [&*whole, "backup.exclude = logs_*.sqlite, *.tmp"] {
        assert!(
            on_terminal.lines().any(|shown| shown == line),
            "{on_terminal}"
        );
    }
    let long: Vec<_> = on_terminal
        .lines()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(long.iter().all(|line| **line == whole), "{long:?}");
}

#[test]
fn tab_separated_settings_have_a_row_for_each_folder() {
    let env = TestEnv::new();
    let _ = env.run(["config", "set", "folders./acme", "work"]).code(0);
    let shown = env
        .run(["config", "list", "--format", "tsv"])
        .code(0)
        .stdout;
    let row = "folders./acme\twork\tfile\tthe account of a folder";
    assert!(shown.lines().any(|line| line == row), "{shown}");
}
