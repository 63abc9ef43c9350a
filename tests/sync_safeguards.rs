//! Safeguards of `sync`: logins that must not be copied, and damage that must not spread.

use crate::support::env::TestEnv;
use crate::support::memory;
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

#[test]
fn files_with_logins_keys_databases_or_commands_are_not_synced() {
    for side in ["a", "cloud"] {
        let pair = Pair::new();
        for path in [
            ".credentials.json",
            "auth.json.bak",
            "auth.json~",
            "auth-work.json",
            "auth (1).json",
            "me_auth.json.bak",
            ".env",
            ".netrc",
            "key.age",
            "skills/x/id.pem",
            "mcp-oauth/tokens.json",
            "state_5.sqlite.backup",
            "backups/2026-11-01-100000-me@x.com-codex.tar.gz",
            "config.toml",
            "hooks.json",
        ] {
            pair.put(side, path, "x");
        }
        pair.put(side, "skills/x/notes.json", "{\"refresh_token\": \"rt\"}");
        pair.put(side, SKILL, "x");
        let json = pair.apply("a");
        let action = if side == "a" { "cloud" } else { "local" };
        assert_eq!(actions(&json), [format!("copy-to-{action} {SKILL}")]);
        assert_eq!(json["warnings"][0]["path"], "skills/x/notes.json");
    }
}

#[test]
fn a_login_named_like_a_conversation_or_prompts_is_not_synced() {
    let login = "{\n  \"tokens\": {\"access_token\": \"a\", \"refresh_token\": \"r\"}\n}\n";
    for side in ["a", "cloud"] {
        let pair = Pair::new();
        let disguised = [
            ROLLOUT,
            "sessions/2026/11/18/notes.jsonl",
            "history.jsonl",
            "session_index.jsonl",
        ];
        for path in disguised {
            pair.put(side, path, login);
        }
        pair.put("b", "history.jsonl", "{\"ts\":1,\"text\":\"of b\"}\n");
        // A conversation that mentions tokens is not a login.
        let talk = "archived_sessions/rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b456.jsonl";
        let output = format!("{{\"type\":\"x\",\"access_token\":\"a\"}}\n{login}");
        pair.put(side, talk, &output);
        for name in ["a", "b", "a"] {
            let run = pair.run(name, &["run", "--apply", "--json"]);
            let other = if side == "a" {
                pair.cloud()
            } else {
                pair.home("a")
            };
            for path in disguised {
                let there = fs::read_to_string(other.join(path)).unwrap_or_default();
                assert!(!there.contains("access_token"), "{path}: {run}");
                assert_eq!(pair.text(side, path), login, "{run}");
                if name == side {
                    assert!(run.json()["warnings"].to_string().contains(path), "{run}");
                }
            }
        }
        assert_eq!(pair.text("b", talk), output);
    }
}

#[test]
fn a_text_with_a_token_is_not_synced_but_prompts_are() {
    // Assembled at run time, so that secret scanners do not report this file.
    let token = format!("ghp{}{}", "_aB3dE6gH9jK2mN5pQ8", "rS1tU4vW7xY0zaB3dE6gH9");
    for side in ["a", "cloud"] {
        let pair = Pair::new();
        pair.put(
            side,
            "skills/x/setup.md",
            &format!("# Setup\n\n`{token}`\n"),
        );
        pair.put(side, "skills/x/deploy.sh", &format!("export T={token}\n"));
        pair.put(side, "skills/x/words.md", "set `GITHUB_TOKEN=ghp_xxxx…`\n");
        let prompt = format!("{{\"session_id\":\"s\",\"ts\":1,\"text\":\"{token}\"}}\n");
        pair.put(side, "history.jsonl", &prompt);
        let json = pair.apply("a");
        let to = if side == "a" { "cloud" } else { "local" };
        assert_eq!(
            actions(&json),
            ["history.jsonl", "skills/x/words.md"].map(|path| format!("copy-to-{to} {path}"))
        );
        let warnings = json["warnings"].as_array().unwrap();
        let paths: Vec<_> = warnings
            .iter()
            .map(|w| w["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["skills/x/deploy.sh", "skills/x/setup.md"]);
        let why = "is not synced: it contains what looks like a secret (github-token) in line 3; \
                   --allow-secrets syncs it once";
        assert_eq!(warnings[1]["reason"], why);
        assert!(!json.to_string().contains(&token));
    }
}

#[test]
fn each_kind_of_file_with_a_secret_is_held_back_until_it_is_allowed() {
    let tail = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zaB3dE6gH9";
    let texts = [
        (
            "AGENTS.md",
            ["rt", "_", tail].concat(),
            "codex-refresh-token",
        ),
        (
            "prompts/pay.md",
            ["sk", "_live_", tail].concat(),
            "stripe-key",
        ),
        (
            "skills/x/model.md",
            ["hf", "_", tail].concat(),
            "huggingface-token",
        ),
        (
            "skills/x/db.md",
            ["postgres://app:", tail, "@db/app"].concat(),
            "url-password",
        ),
    ];
    let pair = Pair::new();
    for (path, secret, _) in &texts {
        pair.put("a", path, &format!("# Text\n\nuse {secret}\n"));
    }
    pair.put("a", "skills/x/token.json", "{\"refresh_token\": \"rt\"}");
    let json = pair.apply("a");
    assert!(actions(&json).is_empty(), "{json}");
    for (path, _, kind) in &texts {
        let warnings = json["warnings"].as_array().unwrap();
        let warning = warnings.iter().find(|w| w["path"] == *path).unwrap();
        let reason = warning["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("({kind}) in line 3;")), "{reason}");
    }
    let allow = |path: &str| {
        let args = ["run", "--apply", "--json", "--allow-secrets", path];
        pair.run("a", &args).code(0)
    };
    let allowed = allow("AGENTS.md").json();
    assert_eq!(actions(&allowed), ["copy-to-cloud AGENTS.md"]);
    assert_eq!(pair.text("cloud", "AGENTS.md"), pair.text("a", "AGENTS.md"));
    // The other machine decides for itself, and a login is never allowed.
    assert!(actions(&pair.apply("b")).is_empty());
    let _ = allow("skills/x/token.json");
    assert!(!pair.cloud().join("skills/x/token.json").exists());
    // Only for that run.
    let changed = format!("{}more\n", pair.text("a", "AGENTS.md"));
    pair.put("a", "AGENTS.md", &changed);
    assert!(actions(&pair.apply("a")).is_empty());
}

#[test]
fn allow_secrets_accepts_paths_that_are_already_synced() {
    let token = format!("ghp{}{}", "_aB3dE6gH9jK2mN5pQ8", "rS1tU4vW7xY0zaB3dE6gH9");
    let pair = Pair::new();
    pair.put("a", "AGENTS.md", &token);
    pair.put("a", "prompts/pay.md", &token);
    let args = ["AGENTS.md", "prompts/pay.md"].map(|path| ["--allow-secrets", path]);
    let args = [&["run", "--apply"], args.as_flattened()].concat();
    for _ in 0..2 {
        let _ = pair.run("a", &args).code(0);
    }
}

#[test]
fn a_text_with_a_token_is_not_restored_to_the_cloud_but_a_conversation_is() {
    let token = format!("ghp{}{}", "_aB3dE6gH9jK2mN5pQ8", "rS1tU4vW7xY0zaB3dE6gH9");
    let pair = Pair::new();
    let kept = "backups-a/a-20261101T000000Z";
    let conversation = format!("{META}{{\"n\":\"{token}\"}}\n");
    pair.0.write(&format!("{kept}/{ROLLOUT}"), &conversation);
    for target in ["local", "cloud"] {
        let args = ["restore", "--target", target, "--apply"];
        let _ = pair.run("a", &args).code(0);
    }
    assert_eq!(pair.text("cloud", ROLLOUT), conversation);
    pair.0.write(&format!("{kept}/{SKILL}"), &token);
    let args = ["restore", "--target", "cloud", "--apply", "--json"];
    let left = pair.run("a", &args).code(6);
    assert!(
        left.stderr.contains("a secret (github-token) in line 1"),
        "{left}"
    );
    assert!(!left.to_string().contains(&token));
    assert_eq!(left.json()["skipped"][0]["path"], SKILL, "{left}");
    assert_eq!(left.json()["files"][0], ROLLOUT, "{left}");
    assert!(!pair.cloud().join(SKILL).exists());
    let _ = pair
        .run("a", &["restore", "--from", "a-20261101T000000Z", "--apply"])
        .code(0);
    assert_eq!(pair.text("a", SKILL), token);
}

#[test]
fn settings_that_run_commands_are_synced_only_if_named() {
    let pair = Pair::new();
    pair.put("cloud", "config.toml", "notify = [\"sh\"]\n");
    assert!(actions(&pair.apply("a")).is_empty());
    pair.configure("a", "[targets]\ninclude_roots = [\"config.toml\"]\n");
    assert_eq!(actions(&pair.apply("a")), ["copy-to-local config.toml"]);
    assert!(fs::exists(pair.home("a").join("config.toml")).unwrap());
}

#[test]
fn copies_of_settings_that_run_commands_are_synced_only_if_named() {
    let pair = Pair::new();
    let paths = [
        "config.toml.bak",
        "config.toml~",
        "config (1).toml",
        "config.toml.2026-11-20",
        "config-old.toml",
        ".config.toml.swp",
        "work.config.toml",
        "hooks.json.bak",
        "hooks.json~",
        "Hooks-old.json",
    ];
    pair.put_all("a", &paths);
    pair.put("a", "configure.toml", "x");
    pair.put("a", "skills/x/config.toml", "x");
    assert_eq!(
        actions(&pair.apply("a")),
        [
            "copy-to-cloud configure.toml",
            "copy-to-cloud skills/x/config.toml"
        ]
    );
    pair.configure("a", "[targets]\ninclude_roots = [\"config-old.toml\"]\n");
    assert_eq!(actions(&pair.apply("a")), ["copy-to-cloud config-old.toml"]);
}

const ROOTS: &str =
    "[targets]\ninclude_roots = [\"sessions\", \"history.jsonl\", \"skills\", \"AGENTS.md\"]\n";

#[test]
fn client_copies_and_placeholders_of_synced_roots_are_merged_named_or_awaited() {
    let pair = Pair::new();
    pair.configure("a", ROOTS);
    pair.put("a", "history.jsonl", "{\"ts\":1}\n");
    pair.put("a", "AGENTS.md", "x");
    pair.apply("a");
    pair.put("cloud", "history (1).jsonl", "{\"ts\":2}\n");
    pair.put("cloud", "AGENTS (1).md", "y");
    pair.put("cloud", "sessions (Selective Sync Conflict)/x", "x");
    let json = pair.apply("a");
    assert_eq!(pair.text("a", "history.jsonl"), "{\"ts\":1}\n{\"ts\":2}\n");
    let notes = json["notes"].as_array().unwrap();
    let named: Vec<_> = notes.iter().map(|n| n["path"].as_str().unwrap()).collect();
    assert_eq!(
        named,
        ["AGENTS (1).md", "sessions (Selective Sync Conflict)"]
    );
    fs::remove_file(pair.cloud().join("history (1).jsonl")).unwrap();
    fs::remove_file(pair.cloud().join("history.jsonl")).unwrap();
    pair.put("cloud", ".history.jsonl.icloud", "x");
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["waiting"][0]["path"], "history.jsonl");
    assert!(!fs::exists(pair.cloud().join("history.jsonl")).unwrap());
}

/// Puts a placeholder of iCloud Drive in the place of a file in the cloud folder; returns the paths of both.
fn evict(pair: &Pair, path: &str) -> [PathBuf; 2] {
    let file = pair.cloud().join(path);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let placeholder = file.with_file_name(format!(".{name}.icloud"));
    fs::rename(&file, &placeholder).unwrap();
    [file, placeholder]
}

/// Returns the reason of the notice about placeholders; none if there is no such notice. No other file is left out.
fn reason_of_placeholders(json: &serde_json::Value) -> Option<String> {
    assert_eq!(json["waiting"].as_array().unwrap().len(), 0, "{json}");
    match json["skipped"].as_array().unwrap().as_slice() {
        [] => None,
        [one] => {
            assert_eq!(one["path"], "placeholders", "{json}");
            one["reason"].as_str().map(str::to_owned)
        }
        _ => panic!("{json}"),
    }
}

#[test]
fn new_files_that_are_not_downloaded_are_named_in_one_line() {
    let pair = Pair::synced(&[("AGENTS.md", "text")]);
    // The placeholder of `_notes.md` has a name like a companion file of macOS.
    let new = [
        ROLLOUT,
        "skills/a.md",
        "skills/b.md",
        "skills/c.md",
        "skills/_notes.md",
    ];
    for path in new {
        pair.put("a", path, META);
    }
    pair.apply("a");
    let evicted = new.map(|path| evict(&pair, path));
    let nextcloud = pair.cloud().join("skills/a.md.nextcloud");
    fs::rename(&evicted[1][1], &nextcloud).unwrap();

    let named = format!("5 files: {ROLLOUT}, skills/_notes.md, skills/a.md, …;");
    for args in [&["plan", "--json"][..], &["run", "--apply", "--json"]] {
        let run = pair.run("b", args).code(6);
        assert!(actions(&run.json()).is_empty(), "{run}");
        let reason = reason_of_placeholders(&run.json()).expect("a notice");
        assert!(reason.contains(&named), "{reason}");
        assert!(reason.contains("run this command again"), "{reason}");
    }
    let json = pair.run("b", &["preflight", "--json"]).code(0).json();
    let mut checks = json["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["id"] == "sync.arrival");
    let check = check.unwrap_or_else(|| panic!("{json}"));
    assert_eq!(check["status"], "warn", "{check}");
    assert!(check["message"].to_string().contains(&named), "{check}");

    fs::rename(&nextcloud, &evicted[1][1]).unwrap();
    for [file, placeholder] in &evicted {
        fs::rename(placeholder, file).unwrap();
    }
    assert_eq!(actions(&pair.apply("b")).len(), 5);
}

#[test]
fn a_synced_conversation_that_is_not_downloaded_is_named_by_its_path() {
    let pair = Pair::synced(&[(ROLLOUT, META), (SKILL, "text")]);
    evict(&pair, ROLLOUT);
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["waiting"][0]["path"], ROLLOUT, "{run}");
    // Without a local file, it is one of the files that exist only as placeholders.
    fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    let reason = reason_of_placeholders(&run.json()).expect("a notice");
    assert!(reason.contains(&format!("1 file: {ROLLOUT};")), "{reason}");
}

#[test]
fn placeholders_of_files_that_are_not_synced_are_not_named() {
    let pair = Pair::new();
    let more = "[targets]\ninclude_roots = [\"sessions\", \"skills\"]\n\
                [filters]\nexclude_globs = [\"*.tmp\"]\n";
    pair.configure("b", more);
    pair.put("b", SKILL, "text");
    let name = ROLLOUT
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(".jsonl");
    for path in [
        "skills/..DS_Store.icloud",
        "skills/desktop.ini.nextcloud",
        "skills/.a (Bob's conflicted copy 2026-11-18).md.icloud",
        &format!("sessions/2026/11/18/.{name} (1).jsonl.icloud"),
        &format!("sessions/2026/11/18/.{name}.sync-conflict-20261118-101010-ABCDEF7.jsonl.icloud"),
        "skills/..codex-manager-tmp-1a2b.icloud",
        "skills/.~$table.xlsx.icloud",
        "skills/.a.part.icloud",
        "skills/.scratch.tmp.icloud",
        "skills/.auth.json.icloud",
        "prompts/.outside.md.icloud",
        ".AGENTS.md.icloud",
    ] {
        pair.put("cloud", path, "x");
    }
    let json = pair.apply("b");
    assert_eq!(reason_of_placeholders(&json), None);
    // A placeholder below a link counts as a file that the link keeps from being synced.
    let elsewhere = pair.0.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, pair.home("b").join("skills/linked")).unwrap();
    pair.put("cloud", "skills/linked/.a.md.icloud", "x");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["skipped"][0]["path"], "skills/linked", "{run}");
    assert_eq!(run.json()["skipped"].as_array().unwrap().len(), 1, "{run}");
}

#[test]
fn with_last_date_only_placeholders_of_older_days_are_not_named() {
    let pair = Pair::new();
    pair.configure("b", "[sync]\nsession_mode = \"last_date_only\"\n");
    let of_day = |day: &str| {
        let path = ROLLOUT.replace("11/18", &format!("11/{day}"));
        path.replace("11-18", &format!("11-{day}"))
    };
    for day in ["17", "18"] {
        pair.put("cloud", &of_day(day), META);
    }
    evict(&pair, &of_day("17"));
    assert_eq!(reason_of_placeholders(&pair.apply("b")), None);
    assert_eq!(pair.text("b", &of_day("18")), META);

    // On a machine without conversations, all days are placeholders.
    evict(&pair, &of_day("18"));
    fs::remove_file(pair.home("b").join(of_day("18"))).unwrap();
    let run = pair.run("b", &["plan", "--json"]).code(6);
    let reason = reason_of_placeholders(&run.json()).expect("a notice");
    assert!(
        reason.contains(&format!("1 file: {};", of_day("18"))),
        "{reason}"
    );
}

#[test]
fn zero_filled_files_never_win() {
    let files = [ROLLOUT, "history.jsonl", "AGENTS.md", SKILL];
    for side in ["a", "cloud"] {
        for whole in [true, false] {
            let pair = Pair::new();
            let text = format!("{META}{{\"ts\":1}}\n");
            for file in files {
                pair.put("a", file, &text);
            }
            pair.apply("a");
            pair.apply("b");
            pair.apply("a");
            for file in files {
                let zeros = if whole {
                    "\0".repeat(text.len())
                } else {
                    format!("{META}{}", "\0".repeat(100))
                };
                set_mtime(&pair.put(side, file, &zeros), 1_900_000_000);
            }
            let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
            let json = run.json();
            assert!(actions(&json).is_empty(), "{run}");
            let list = if side == "a" { "skipped" } else { "waiting" };
            assert_eq!(json[list].as_array().unwrap().len(), files.len(), "{run}");
            let code = if side == "a" { 0 } else { 6 };
            let _ = pair.run("b", &["run", "--apply"]).code(code);
            for file in files {
                assert_eq!(pair.text("b", file), text, "{file}");
            }
        }
    }
}

#[test]
fn a_damaged_compressed_file_does_not_stop_the_run() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    pair.put("a", SKILL, "x");
    let garbage = b"\x28\xb5\x2f\xfd\x04garbage garbage";
    let copy = format!("{ROLLOUT} (1).zst");
    fs::write(pair.cloud().join(&copy), garbage).unwrap();
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    assert_eq!(actions(&run.json()), [format!("copy-to-cloud {SKILL}")]);
    assert_eq!(run.json()["waiting"][0]["path"], copy.as_str());
    // A compressed file beside its plain form on this machine.
    fs::remove_file(pair.cloud().join(&copy)).unwrap();
    let packed = format!("{ROLLOUT}.zst");
    fs::write(pair.home("a").join(&packed), garbage).unwrap();
    pair.put("a", SKILL, "again");
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    assert_eq!(actions(&run.json()), [format!("copy-to-cloud {SKILL}")]);
    assert_eq!(run.json()["skipped"][0]["path"], packed.as_str());
}

/// Creates a file of `a` in two versions; a snapshot of the cloud folder has the first one.
fn overwritten(compression: &str) -> Pair {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(
            name,
            &format!("[backup]\ncompression = \"{compression}\"\n"),
        );
    }
    for n in 1..=3 {
        let file = pair.put("a", &format!("skills/s/f{n}"), &"one ".repeat(200));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    pair.apply("a");
    pair.apply("b");
    pair.apply("a");
    for n in 1..=3 {
        pair.put("a", &format!("skills/s/f{n}"), "two");
    }
    pair.apply("a");
    pair.apply("b");
    pair
}

fn snapshot(pair: &Pair) -> PathBuf {
    let mut entries = fs::read_dir(pair.0.path("backups-a")).unwrap().flatten();
    let snapshot = entries.find(|entry| entry.file_name() != ".codex-manager-unfinished");
    snapshot.unwrap().path()
}

#[test]
fn a_file_restored_to_the_cloud_keeps_its_mode_and_reaches_all_machines() {
    for compression in ["none", "zip"] {
        let pair = overwritten(compression);
        let _ = pair
            .run("a", &["restore", "--target", "cloud", "--apply"])
            .code(0);
        for name in ["a", "b", "a", "b"] {
            pair.apply(name);
        }
        for side in ["a", "b", "cloud"] {
            assert_eq!(pair.text(side, "skills/s/f2"), "one ".repeat(200), "{side}");
        }
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&pair.cloud().join("skills/s/f2")), 0o755);
    }
}

#[test]
fn a_damaged_snapshot_or_one_with_a_link_restores_nothing() {
    for compression in ["none", "zip"] {
        let pair = overwritten(compression);
        let kept = snapshot(&pair);
        if compression == "zip" {
            let mut bytes = fs::read(&kept).unwrap();
            let name = b".cloud/skills/s/f2";
            let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
            let extra = u16::from_le_bytes([bytes[at - 2], bytes[at - 1]]);
            let data = at + name.len() + usize::from(extra);
            for byte in &mut bytes[data + 2..data + 6] {
                *byte ^= 0x55;
            }
            fs::write(&kept, bytes).unwrap();
        } else {
            fs::write(kept.join(".cloud/skills/s/f2"), "cut").unwrap();
        }
        let _ = pair
            .run("a", &["restore", "--target", "cloud", "--apply"])
            .code(5);
        if compression == "none" {
            fs::remove_file(kept.join(".cloud/skills/s/f2")).unwrap();
            pair.put("a", "auth.json", &"x".repeat(800));
            symlink(
                pair.home("a").join("auth.json"),
                kept.join(".cloud/skills/s/f2"),
            )
            .unwrap();
            let _ = pair
                .run("a", &["restore", "--target", "cloud", "--apply"])
                .code(5);
        }
        assert_eq!(pair.text("cloud", "skills/s/f1"), "two");
    }
}

#[test]
fn the_newest_snapshot_stays_if_the_clock_goes_back() {
    let pair = Pair::new();
    pair.configure("a", "[backup]\nmax_backups = 1\n");
    let backups = pair.0.path("backups-a");
    for text in ["one", "two two", "three"] {
        pair.put("a", SKILL, text);
        let made = pair.apply("a")["snapshot"].as_str().map(str::to_owned);
        if let Some(made) = made {
            assert!(backups.join(&made).exists(), "{made}");
            let later = backups.join(made.replace("-2026", "-2027"));
            if !later.exists() {
                fs::rename(backups.join(made), later).unwrap();
            }
        }
    }
}

#[test]
fn control_characters_in_remote_names_are_not_printed() {
    let pair = Pair::new();
    pair.put("cloud", "skills/a\nerror: gone\u{1b}[2J", "x");
    let fork = ".codex-manager/forks/rollout-\u{1b}[31mz.0123456789abcdef.fork";
    pair.put("cloud", fork, "x");
    for args in [&["plan"][..], &["run", "--apply"], &["resolve"]] {
        let run = pair.run("a", args).code(0);
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(
            !output.contains('\u{1b}') && !output.contains("\nerror"),
            "{output}"
        );
    }
    assert!(!pair.home("a").join("skills").exists());
}

/// Returns a compressed file of a few kilobytes that decompresses to this many MB.
fn bomb(megabytes: usize) -> Vec<u8> {
    // Magic; no checksum, a window of 128 KB; then blocks that repeat one byte.
    let mut bytes = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    let blocks = megabytes * 8;
    for block in 1..=blocks {
        let is_last = u32::from(block == blocks);
        let header = (128 << 10 << 3) | (1 << 1) | is_last;
        bytes.extend(&u32::to_le_bytes(header)[..3]);
        bytes.push(b'x');
    }
    bytes
}

#[test]
fn a_decompression_bomb_fills_neither_memory_nor_disk() {
    let pair = Pair::new();
    pair.put("a", SKILL, "x");
    let packed = format!("{ROLLOUT}.zst");
    fs::create_dir_all(pair.cloud().join(ROLLOUT).parent().unwrap()).unwrap();
    let bytes = bomb(4000);
    fs::write(pair.cloud().join(&packed), &bytes).unwrap();
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    assert_eq!(actions(&run.json()), [format!("copy-to-cloud {SKILL}")]);
    let waiting = &run.json()["waiting"][0];
    assert_eq!(waiting["path"], packed.as_str());
    assert!(
        waiting["reason"]
            .as_str()
            .unwrap()
            .contains("cannot be decompressed"),
        "{run}"
    );
    // The file is refused even if a machine attests it.
    let run = pair.run("a", &["run", "--apply", "--accept-unlisted", "--json"]);
    let json = run.code(6).json();
    let skipped = &json["skipped"][0];
    assert_eq!(skipped["path"], packed.as_str(), "{json}");
    assert!(
        skipped["reason"].as_str().unwrap().contains("256 MB"),
        "{json}"
    );
    assert!(
        !pair.home("a").join("sessions").join("2026").exists() || {
            let folder = pair.home("a").join(ROLLOUT);
            fs::read_dir(folder.parent().unwrap()).unwrap().count() == 0
        }
    );
    // As a conflict copy, the content does not match the file name.
    fs::remove_file(pair.cloud().join(&packed)).unwrap();
    let forks = pair.cloud().join(".codex-manager/forks");
    fs::create_dir_all(&forks).unwrap();
    let conversation = ROLLOUT
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(".jsonl");
    let digest = codex_manager_core::io::hash::Sha256Digest::of(&bytes).to_string();
    for mark in ["0123456789abcdef", &digest[..16]] {
        fs::write(forks.join(format!("{conversation}.{mark}.fork")), &bytes).unwrap();
    }
    pair.put("a", "AGENTS.md", "x");
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(json["waiting"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(pair.text("cloud", "AGENTS.md"), "x");
}

/// Creates three machines that propagate deletions and share twelve skills.
fn propagating() -> Pair {
    let pair = Pair::new();
    for name in ["a", "b", "c"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    for n in 0..12 {
        pair.put("a", &format!("skills/s/{n}"), "one");
    }
    for name in ["a", "b", "c", "a", "b", "c"] {
        pair.apply(name);
    }
    pair
}

const GONE: &str = "skills/s/7";

#[test]
fn an_old_deletion_does_not_affect_a_recreated_file() {
    let pair = propagating();
    fs::remove_file(pair.home("b").join(GONE)).unwrap();
    for name in ["b", "a", "c"] {
        pair.apply(name);
        assert!(!pair.home(name).join(GONE).exists(), "{name}");
    }
    pair.put("c", GONE, "one");
    pair.apply("c");
    pair.apply("a");
    // `b` is off, and the file has not arrived in the cloud folder of `a`.
    fs::remove_file(pair.cloud().join(GONE)).unwrap();
    assert_eq!(actions(&pair.apply("a")), [format!("copy-to-cloud {GONE}")]);
    // A later deletion is treated as a new one.
    pair.apply("b");
    fs::remove_file(pair.home("b").join(GONE)).unwrap();
    for name in ["b", "a", "c"] {
        pair.apply(name);
        assert!(!pair.home(name).join(GONE).exists(), "{name}");
    }
}

#[test]
fn a_deletion_affects_only_the_deleted_content() {
    let changed = |pair: &Pair, side: &str| {
        let root = if side == "cloud" {
            pair.cloud()
        } else {
            pair.home(side)
        };
        let path = root.join(GONE);
        let before = path.metadata().unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before).unwrap();
    };
    // A change on the requested machine, with equal size and mtime.
    let pair = propagating();
    fs::remove_file(pair.home("b").join(GONE)).unwrap();
    pair.apply("b");
    changed(&pair, "a");
    assert_eq!(actions(&pair.apply("a")), [format!("copy-to-cloud {GONE}")]);
    // The same change in the cloud folder.
    let pair = propagating();
    fs::remove_file(pair.home("b").join(GONE)).unwrap();
    changed(&pair, "cloud");
    let run = pair.run("b", &["run", "--apply", "--json"]);
    assert!(!run.stdout.contains("delete-cloud"), "{run}");
    assert_eq!(pair.text("cloud", GONE), "two");
}

#[test]
fn a_deletion_is_not_synced_if_equality_was_inferred_from_mtime() {
    let pair = Pair::new();
    for (name, text) in [("a", "AAAA"), ("b", "BBBB")] {
        let more = "[sync]\ndelete_policy = \"propagate\"\ncompare = \"mtime\"\n";
        pair.configure(name, more);
        set_mtime(&pair.put(name, SKILL, text), 1_795_000_000);
    }
    for name in ["a", "b", "a"] {
        pair.apply(name);
    }
    assert_eq!(pair.text("b", SKILL), "BBBB");
    fs::remove_file(pair.home("b").join(SKILL)).unwrap();
    assert_eq!(
        actions(&pair.apply("b")),
        [format!("copy-to-local {SKILL}")]
    );
    pair.apply("a");
    for name in ["a", "b", "cloud"] {
        assert_eq!(pair.text(name, SKILL), "AAAA", "{name}");
    }
}

#[test]
fn without_manifests_partial_texts_wait_for_accept_unlisted_and_whole_ones_are_copied() {
    let pair = Pair::new();
    pair.configure("a", "[sync]\ncompare = \"mtime\"\n");
    pair.put("a", "skills/s/empty.md", "text");
    let cut = "x".repeat(4096);
    let hole = format!("{}{}tail\n", "text\n".repeat(900), "\0".repeat(600));
    for (path, text) in [
        ("skills/s/whole.md", "no newline"),
        ("skills/s/nothing.py", ""),
        ("skills/s/cut.md", &cut),
        ("skills/s/hole.md", &hole),
        ("skills/s/half.json", "{\"a\": [1,"),
        ("skills/s/empty.md", ""),
    ] {
        set_mtime(&pair.put("cloud", path, text), 1_900_000_000);
    }
    set_mtime(&pair.put("cloud", "skills/s/same.md", &cut), 1_900_000_000);
    pair.put("a", "skills/s/same.md", &cut);
    let run = pair.run("a", &["run", "--apply"]).code(6);
    assert!(run.stderr.contains("--accept-unlisted"), "{run}");
    for path in ["skills/s/whole.md", "skills/s/nothing.py"] {
        assert_eq!(pair.text("a", path), pair.text("cloud", path));
    }
    let waiting = pair.run("a", &["plan", "--json"]).code(6).json();
    let waiting = waiting["waiting"].as_array().unwrap();
    let paths: Vec<_> = waiting
        .iter()
        .map(|w| w["path"].as_str().unwrap())
        .collect();
    let expected = ["cut.md", "empty.md", "half.json", "hole.md"];
    assert_eq!(paths, expected.map(|name| format!("skills/s/{name}")));
    assert_eq!(pair.text("a", "skills/s/empty.md"), "text");
    let _ = pair
        .run("a", &["run", "--apply", "--accept-unlisted"])
        .code(0);
    assert_eq!(pair.text("a", "skills/s/half.json"), "{\"a\": [1,");
}

#[test]
fn a_plan_of_many_files_uses_little_memory() {
    const FILES: usize = 20_000;
    const BOUND: u64 = 64 << 20;
    let pair = Pair(TestEnv::new());
    pair.configure("a", "");
    for n in 0..FILES {
        let folder = pair.home("a").join(format!("skills/{:03}", n % 200));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{n:05}.md")), "text\n").unwrap();
    }
    let args = [
        "--manager-home",
        "manager-a",
        "sync",
        "-c",
        "a.toml",
        "plan",
        "--json",
    ];
    let (run, peak) = memory::run_measuring_memory(&pair.0, &args);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.json()["actions"].as_array().unwrap().len(), FILES);
    assert!(peak < BOUND, "{} MB", peak >> 20);
}

#[test]
fn files_missing_after_a_restore_from_an_archive_are_not_deleted() {
    let conversation = |n: u32| {
        let id = format!("01a1f78b-4d30-7ef3-b0ee-{n:012}");
        let meta = format!(
            "{{\"timestamp\":\"2026-11-18T10:00:00.000Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"timestamp\":\"2026-11-18T10:00:00.000Z\",\"cwd\":\"/p\"}}}}\n"
        );
        let path = format!("sessions/2026/11/18/rollout-2026-11-18T10-00-00-{id}.jsonl");
        (path, meta)
    };
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    let put = |name: &str, numbers: std::ops::Range<u32>| {
        for (path, meta) in numbers.map(conversation) {
            pair.put(name, &path, &meta);
        }
    };
    let home = pair.home("a");
    let manager = |args: &[&str]| {
        let home = home.to_str().unwrap();
        let mut all = vec!["--manager-home", "manager-a", "--codex-home", home, "-y"];
        all.extend(args);
        pair.0.run(all)
    };
    put("a", 0..40);
    for name in ["a", "b", "a"] {
        pair.apply(name);
    }
    let _ = manager(&["backup"]).code(0);
    put("a", 40..42);
    put("b", 42..44);
    for name in ["a", "b", "a"] {
        pair.apply(name);
    }
    let _ = manager(&["restore", "latest"]).code(0);
    assert!(!home.join(conversation(43).0).exists());
    let json = pair.apply("a");
    assert_eq!(actions(&json).len(), 4, "{json}");
    pair.apply("b");
    for (path, meta) in (0..44).map(conversation) {
        for name in ["a", "b", "cloud"] {
            assert_eq!(pair.text(name, &path), meta, "{name}");
        }
    }
    // Later deletions by the user are synced.
    fs::remove_file(home.join(conversation(1).0)).unwrap();
    let run = pair.run("a", &["run", "--apply"]).code(0);
    assert!(run.stdout.contains(", 1 deleted"), "{run}");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert!(run.stdout.contains(", 1 deleted"), "{run}");
    assert!(!pair.home("b").join(conversation(1).0).exists());
}

#[test]
fn a_changed_file_with_a_token_is_no_conflict() {
    let pair = Pair::synced(&[("AGENTS.md", "one")]);
    pair.put("a", "AGENTS.md", "two, of a");
    pair.apply("a");
    let token = ["sk", "-proj-", &"Ab3dEf6hIj9k".repeat(4)].concat();
    let mine = format!("three, of b\n{token}\n");
    pair.put("b", "AGENTS.md", &mine);
    pair.put("b", SKILL, "new");
    let run = pair.run("b", &["run", "--apply", "--json"]);
    let json = run.json();
    assert_eq!(json["conflicts"].as_array().unwrap().len(), 0, "{json}");
    assert_eq!(json["warnings"][0]["path"], "AGENTS.md", "{json}");
    assert_eq!(pair.text("cloud", SKILL), "new");
    assert_eq!(pair.text("b", "AGENTS.md"), mine);
    assert_eq!(pair.text("cloud", "AGENTS.md"), "two, of a");
    // A decision is not reported as applied if it was not.
    let keep = ["resolve", "AGENTS.md", "--keep", "local"];
    let _ = pair.run("b", &keep).code(1);
    pair.put("b", "AGENTS.md", "three, of b");
    let _ = pair.run("b", &["run", "--apply"]).code(2);
    let _ = pair.run("b", &keep).code(0);
    assert_eq!(pair.text("cloud", "AGENTS.md"), "three, of b");
}
