//! The number of conversations in an archive, and the archive that `latest` takes by it.

use crate::damaged_texts::{edit_manifest, edit_sidecar};
use crate::support::conversations::{Conversation, assistant, id, write, write_rewound};
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::restic;
use crate::vault::set_up;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const BEFORE: &str = "2026-11-20T11:00:00Z";
const AFTER: &str = "2026-11-20T12:00:00Z";

fn conversation(number: u32, title: &str) -> Conversation {
    Conversation::new(number, 60, title, "Done.")
}

/// Writes a conversation of a subagent of the first conversation. Codex lists it only there.
fn write_child(env: &TestEnv, number: u32) {
    let mut child = conversation(number, "a subagent");
    child.source = "subagent".into();
    child.parent = Some(1);
    write(env, &child);
}

fn back_up(env: &TestEnv) -> PathBuf {
    // Damaged files are no reason to end with 0.
    let run = env.run(["backup", "--no-status", "--json"]);
    let name = run.json()["archive"]
        .as_str()
        .expect("an archive")
        .to_owned();
    env.manager_home().join("backups").join(name)
}

/// Returns the numbers of conversations in `list-backups`, the newest archive first.
fn counts(env: &TestEnv) -> Vec<Value> {
    let json = env.run(["list-backups", "--json"]).code(0).json();
    let backups = json["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| backup["conversations"].clone())
        .collect()
}

/// Each way in which a power cut leaves a rollout.
fn damaged_forms(text: &str) -> [(&'static str, Vec<u8>); 5] {
    let first_line = text.lines().next().unwrap();
    let zeros_at_start = [&[0; 64], &text.as_bytes()[64..]].concat();
    let long_first_line = format!(
        "{}{}",
        &first_line[..first_line.len() - 2],
        " ".repeat(9000)
    );
    [
        ("empty", Vec::new()),
        ("zero-filled", vec![0; text.len()]),
        ("zeros at the start", zeros_at_start),
        ("cut in the first line", first_line[..40].into()),
        ("cut in a long first line", long_first_line.into()),
    ]
}

fn rollouts(env: &TestEnv) -> Vec<Vec<u8>> {
    let files = walkdir::WalkDir::new(env.codex_home().join("sessions")).into_iter();
    let files = files
        .map(Result::unwrap)
        .filter(|file| file.file_type().is_file());
    files.map(|file| fs::read(file.path()).unwrap()).collect()
}

/// Returns the archive that a dry run of `restore` with these arguments would restore.
fn chosen(env: &TestEnv, args: &[&str]) -> (PathBuf, Run) {
    let run = env.run([args, &["--dry-run", "--json"]].concat()).code(0);
    let name = run.json()["archive"].as_str().unwrap().to_owned();
    (env.manager_home().join("backups").join(name), run)
}

#[test]
fn list_backups_counts_the_conversations_that_can_be_read() {
    let mut env = TestEnv::new();
    env.set("CODEX_MANAGER_NOW", BEFORE);
    for number in 1..=3 {
        write(&env, &conversation(number, "kept"));
    }
    write_rewound(&env, &conversation(3, "kept"), 2);
    write_child(&env, 11);
    let mut archived = conversation(4, "archived");
    archived.archived = true;
    let path = write(&env, &archived);
    let compressed = zstd::encode_all(archived.text().as_bytes(), 1).unwrap();
    fs::write(path.with_extension("jsonl.zst"), compressed).unwrap();
    fs::remove_file(&path).unwrap();
    back_up(&env);
    assert_eq!(counts(&env), [json!(4)]);

    let good = conversation(5, "damaged").text();
    for (number, (_, bytes)) in (5..).zip(damaged_forms(&good)) {
        let path = write(&env, &conversation(number, "damaged"));
        fs::write(&path, bytes).unwrap();
    }
    let torn = conversation(10, "torn");
    let path = write(&env, &torn);
    fs::write(&path, &torn.text()[..torn.text().len() - 20]).unwrap();
    // The next backup copies what did not change, and counts the same.
    for _ in 0..2 {
        env.set("CODEX_MANAGER_NOW", AFTER);
        back_up(&env);
        assert_eq!(
            counts(&env)[0],
            json!(5),
            "a conversation with a torn end can be read"
        );
    }
    write(&env, &conversation(5, "repaired"));
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:01:00Z");
    back_up(&env);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:02:00Z");
    let _ = env.run(["backup", "--no-status", "--mode", "auth"]);
    assert_eq!(counts(&env)[..2], [json!(0), json!(6)]);

    let tsv = env.run(["list-backups", "--format", "tsv"]).code(0).stdout;
    let rows = tsv.lines().map(|line| line.split('\t').nth(4).unwrap());
    assert_eq!(
        rows.take(3).collect::<Vec<_>>(),
        ["CONV", "0", "6"],
        "{tsv}"
    );
    let table = env.run(["list-backups"]).code(0);
    assert!(table.stdout.contains("  CONV  "), "{table}");
}

#[test]
fn latest_skips_an_archive_whose_conversations_cannot_be_read_and_says_so() {
    let form_count = damaged_forms("0123456789".repeat(9).as_str()).len();
    for form in 0..form_count {
        let mut env = TestEnv::new();
        env.set("CODEX_MANAGER_NOW", BEFORE);
        let paths = [1, 2].map(|number| write(&env, &conversation(number, "kept")));
        let good = back_up(&env);
        let good_text = fs::read(&paths[0]).unwrap();
        let text = conversation(1, "kept").text();
        let (description, bytes) = damaged_forms(&text)[form].clone();
        for path in &paths {
            fs::write(path, &bytes).unwrap();
        }
        env.set("CODEX_MANAGER_NOW", AFTER);
        let damaged = back_up(&env);
        assert_eq!(counts(&env), [json!(0), json!(2)], "{description}");

        let (archive, run) = chosen(&env, &["restore", "latest"]);
        assert_eq!(archive, good, "{description}");
        let name = damaged.file_name().unwrap().to_str().unwrap();
        let warning = format!("{name} is newer, but none of its conversations can be read");
        assert!(run.stderr.contains(&warning), "{description}: {run}");
        let since = env.run(["diff", "--json"]).json()["archive"].to_string();
        assert!(
            good.to_str().unwrap().contains(since.trim_matches('"')),
            "{since}"
        );
        let hint = "restore the newest good one with:\n    codex-manager restore latest";
        let listed = env.run(["list-backups"]).code(0);
        assert!(listed.stderr.contains(hint), "{listed}");

        let keep = ["prune", "--keep-last", "1", "--dry-run", "--json"];
        let plan = env.run(keep).code(0).json();
        assert_eq!(plan["drop"], json!([]), "{description}: {plan}");
        let conversations = [0, 1].map(|row| plan["keep"][row]["conversations"].clone());
        assert_eq!(conversations, [json!(0), json!(2)], "{plan}");

        let _ = env.run(["restore", "latest", "--yes"]).code(0);
        assert!(rollouts(&env).contains(&good_text), "{description}");
    }
}

#[test]
fn latest_reads_an_archive_of_an_older_version_which_has_no_count() {
    let mut env = TestEnv::new();
    let mut made = Vec::new();
    for at in ["2026-11-20T09:00:00Z", "2026-11-20T10:00:00Z", BEFORE] {
        env.set("CODEX_MANAGER_NOW", at);
        let path = write(&env, &conversation(1, "kept"));
        if at != "2026-11-20T09:00:00Z" {
            fs::write(&path, [0; 300]).unwrap();
        }
        made.push(back_up(&env));
    }
    for archive in &made {
        forget_count(archive);
    }
    env.set("CODEX_MANAGER_NOW", AFTER);
    assert_eq!(counts(&env), [Value::Null, Value::Null, Value::Null]);
    let table = env.run(["list-backups"]).code(0);
    assert!(table.stdout.contains("     ?  "), "{table}");
    let before = env.tree("home");
    let (archive, run) = chosen(&env, &["restore", "latest"]);
    assert_eq!(archive, made[0], "{run}");
    assert!(run.stderr.contains("can be read"), "{run}");
    assert_same_tree(&before, &env.tree("home"));

    // Without a readable one, the newest is the latest.
    fs::remove_file(&made[0]).unwrap();
    assert_eq!(chosen(&env, &["restore", "latest"]).0, made[2]);
}

/// Removes the number of conversations from the sidecar of an archive.
fn forget_count(archive: &Path) {
    edit_sidecar(archive, |sidecar| {
        let removed = sidecar.as_object_mut().unwrap().remove("conversations");
        assert!(removed.is_some(), "{sidecar}");
    });
}

#[test]
fn a_backup_after_one_of_an_older_version_reads_the_rollouts_once_to_count_them() {
    let mut env = TestEnv::new();
    let mut long = conversation(1, "kept");
    let answers = (0..2000).map(|number| assistant(&format!("answer {number}")));
    long.lines.extend(answers);
    let path = write(&env, &long);
    crate::support::sample::set_time(&path, 1_790_000_000, 0);
    let mut back_up_at = |minute: u32| {
        env.set("CODEX_MANAGER_NOW", format!("2026-11-20T11:{minute}:00Z"));
        let run = env.run(["backup", "--no-status", "--json"]).code(0).json();
        let archive = run["archive"].as_str().expect("an archive");
        let path = env.manager_home().join("backups").join(archive);
        (path, run["reused_bytes"].as_u64().expect("bytes"))
    };
    let (_, none_reused) = back_up_at(10);
    let (archive, all_reused) = back_up_at(20);
    assert!(all_reused > none_reused);
    edit_manifest(&archive, |manifest| {
        let metadata = manifest["metadata"].as_object_mut().expect("an object");
        assert!(metadata.remove("conversations").is_some());
    });
    forget_count(&archive);
    assert!(back_up_at(30).1 < all_reused);
    assert_eq!(back_up_at(40).1, all_reused);
}

#[test]
fn a_sidecar_names_its_archive() {
    let env = TestEnv::new();
    write(&env, &conversation(1, "kept"));
    let archive = back_up(&env);
    let sidecar = archive
        .to_str()
        .unwrap()
        .replace(".tar.gz", ".metadata.json");
    let name = Path::new(&sidecar).file_name().unwrap().to_str().unwrap();
    for argument in [&*sidecar, name] {
        assert_eq!(chosen(&env, &["restore", argument]).0, archive);
        let _ = env.run(["verify", argument]).code(0);
        let _ = env.run(["diff", argument]).code(0);
    }
    fs::remove_file(&archive).unwrap();
    let run = env.run(["restore", name, "--dry-run"]).code(1);
    assert!(run.stderr.contains("-codex.tar.gz"), "{run}");
}

#[test]
fn the_vault_lists_conversations_and_restores_a_snapshot_that_has_some() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    set_up(&mut env);
    env.set("CODEX_MANAGER_NOW", BEFORE);
    let paths = [1, 2].map(|number| write(&env, &conversation(number, "kept")));
    write_child(&env, 3);
    let good = env.run(["vault", "backup", "--json"]).code(0).json();
    for path in &paths {
        fs::write(path, [0; 500]).unwrap();
    }
    // Unreadable rollouts are no hard links, so that each backup finds them again.
    for path in &paths {
        crate::support::sample::set_time(path, 1_790_000_000, 0);
    }
    env.set("CODEX_MANAGER_NOW", AFTER);
    for _ in 0..2 {
        let _ = env.run(["vault", "backup"]);
    }
    let listed = env.run(["vault", "snapshots", "--json"]).code(0).json();
    let listed = listed["snapshots"].as_array().unwrap().clone();
    let conversations: Vec<_> = listed.iter().map(|s| s["conversations"].clone()).collect();
    assert_eq!(conversations, [json!(2), json!(0), json!(0)]);
    let table = env.run(["vault", "snapshots"]).code(0);
    assert!(table.stdout.contains("  CONV  "), "{table}");
    let forget = ["vault", "forget", "--keep-last", "1", "--dry-run", "--json"];
    let plan = env.run(forget).code(0).json();
    let has_good = |row: &Value| row["conversations"] == json!(2);
    assert!(
        plan["keep"].as_array().unwrap().iter().any(has_good),
        "{plan}"
    );
    let run = env.run(["vault", "restore", "latest", "--dry-run", "--json"]);
    assert_eq!(run.code(0).json()["archive"], good["snapshot"]);
}

#[test]
fn the_picker_shows_conversations_and_sizes_and_starts_at_the_good_archive() {
    use crate::support::terminal::Terminal;
    let mut env = TestEnv::new();
    env.set("CODEX_MANAGER_NOW", BEFORE);
    write(&env, &conversation(1, "kept"));
    back_up(&env);
    fs::remove_dir_all(env.codex_home()).unwrap();
    fs::create_dir(env.codex_home()).unwrap();
    env.set("CODEX_MANAGER_NOW", AFTER);
    let empty = back_up(&env);
    let mut terminal = Terminal::attend(&mut env.command(["restore", "--dry-run"]), 80);
    terminal.wait_for("which archive?", std::time::Duration::from_secs(60));
    terminal.wait_for("1 conversation ", std::time::Duration::from_secs(60));
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    let text = terminal.text();
    let row = "> 2  Fri 20 Nov 11:00  1 conversation ";
    assert!(
        text.contains(row) && text.contains(" kB  full  2026-11-20-110000-sig"),
        "{text}"
    );
    assert!(text.contains("would restore 1 conversation"), "{text}");
    let name = empty.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(!text.contains(&format!("{name}: full archive")), "{text}");
}

#[test]
fn a_restore_names_the_conversations_that_it_removes() {
    let mut env = TestEnv::new();
    env.set("CODEX_MANAGER_NOW", BEFORE);
    for number in 1..=2 {
        write(&env, &conversation(number, "kept"));
    }
    back_up(&env);
    // The ids of these begin with a time before the archive.
    write(&env, &conversation(3, "older one"));
    env.set("CODEX_MANAGER_NOW", AFTER);
    let preview = env.run(["restore", "latest", "--dry-run"]).code(0);
    let removal =
        "removes 1 conversation that is not in the archive (\"older one\"); keep it with --merge";
    assert!(preview.stdout.contains(removal), "{preview}");
    assert!(!preview.stdout.contains(".jsonl"), "{preview}");
    let verbose = env.run(["restore", "latest", "--dry-run", "-v"]).code(0);
    assert!(
        verbose.stdout.contains(&format!("{}.jsonl", id(3))),
        "{verbose}"
    );

    let path = env
        .codex_home()
        .join(conversation(3, "older one").relative());
    let newer = path
        .with_file_name("rollout-2026-11-20T12-30-00-01af1f78-0000-7000-8000-000000000001.jsonl");
    fs::rename(&path, newer).unwrap();
    let run = env.run(["restore", "latest", "--merge", "--yes"]).code(0);
    assert!(
        run.stdout.starts_with("restored 2 conversations, "),
        "{run}"
    );
    assert!(!run.stdout.contains("removed"), "{run}");
    let run = env.run(["restore", "latest", "--yes"]).code(0);
    let removed = "removed 1 conversation that is newer than the archive (";
    assert!(run.stdout.contains(removed), "{run}");

    for number in 4..=8 {
        write(&env, &conversation(number, &format!("number {number}")));
    }
    let preview = env.run(["restore", "latest", "--dry-run"]).code(0);
    let removal = "removes 5 conversations that are not in the archive (\"number 8\", \"number 7\", \"number 6\" \
                   and 2 more); keep them with --merge";
    assert!(preview.stdout.contains(removal), "{preview}");
    let one = env.run(["restore", "latest", "--only", "config.toml", "--dry-run"]);
    assert!(!one.stdout.contains("conversation"), "{one}");
}
