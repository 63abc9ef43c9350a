//! Whole conversations that only copies have: what `backup`, `history losses`, `doctor`, `notify`, `sessions`, `find`,
//! `prune` and the vault do about them.

use crate::support::conversations::{Conversation, assistant, id, state, user, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::lab::Lab;
use crate::support::sample::{alice, bob, put};
use crate::support::sign_in::{SignIn, signed_in_home, write_auth};
use crate::support::{restic, variables};
use codex_manager_core::archive::ArchiveReader;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The number of seconds of 2026-11-20 00:00 UTC since 1970.
const FIRST_DAY: i64 = 1_795_132_800;

/// Sets the clock to this hour after [`FIRST_DAY`].
fn set_hour(env: &mut TestEnv, hour: i64) {
    let time = chrono::DateTime::from_timestamp(FIRST_DAY + hour * 3_600, 0).expect("a time");
    env.set("CODEX_MANAGER_NOW", time.to_rfc3339());
}

/// Makes a backup at this hour; returns its document.
fn back_up(env: &mut TestEnv, hour: i64) -> Value {
    set_hour(env, hour);
    // Without a change, two archives would have equal contents.
    put(env, "notes.txt", hour.to_string());
    env.run(["backup", "--no-status", "--json"]).code(0).json()
}

fn conversation(number: u32) -> Conversation {
    Conversation::new(
        number,
        60,
        &format!("question {number} apple fruit{number}"),
        "an answer",
    )
}

fn write_numbered(env: &TestEnv, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        write(env, &conversation(number));
    }
}

/// Deletes a conversation as Codex does.
fn delete(env: &TestEnv, number: u32) {
    fs::remove_file(env.codex_home().join(conversation(number).relative())).expect("remove");
    let delete = "DELETE FROM threads WHERE id=?1";
    state(env).execute(delete, [id(number)]).expect("delete");
}

/// Joins the lines of wrapped notes.
fn one_line(text: &str) -> String {
    text.replace("\n   ", "")
}

/// Returns the ids of the listed gone conversations.
fn gone(env: &TestEnv, code: i32) -> BTreeSet<String> {
    let json = env.run(["history", "losses", "--json"]).code(code).json();
    let rows = json["gone"].as_array().expect("a list").iter();
    rows.map(|row| row["session_id"].as_str().expect("an id").to_owned())
        .collect()
}

fn ids(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<String> {
    numbers.into_iter().map(id).collect()
}

/// Returns the names and the reasons of the archives that a prune with these arguments keeps.
fn kept(env: &TestEnv, args: &[&str]) -> Vec<(String, String)> {
    let args = [&["prune", "--json"], args].concat();
    let json = env.run(args).code(0).json();
    let rows = json["keep"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    rows.map(|row| (text(&row["archive"])[..17].to_owned(), text(&row["reason"])))
        .collect()
}

/// Returns a home that lost 5 of 6 conversations after its archive of hour 10.
fn lost_home() -> TestEnv {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=6);
    back_up(&mut env, 10);
    let _ = env.run(["find", "apple"]).code(0);
    (1..=5).for_each(|number| delete(&env, number));
    env
}

#[test]
fn a_backup_names_the_archive_of_vanished_conversations_once() {
    let mut env = lost_home();
    set_hour(&mut env, 11);
    put(&env, "notes.txt", "changed");
    let run = env.run(["backup", "--no-status"]).code(0);
    let expected = "5 conversations of Fri 20 Nov 10:00 are not in this home: codex-manager restore \
                    2026-11-20-100000-signed-out --merge";
    assert!(one_line(&run.stderr).contains(expected), "{run}");
    set_hour(&mut env, 12);
    put(&env, "notes.txt", "changed again");
    let run = env.run(["backup", "--no-status"]).code(0);
    assert!(!run.stderr.contains("not in this home"), "{run}");
    let _ = env
        .run([
            "restore",
            "2026-11-20-100000-signed-out",
            "--merge",
            "--yes",
        ])
        .code(0);
    assert_eq!(gone(&env, 0), ids([]));
    assert!(
        !env.run(["sessions"])
            .code(0)
            .stderr
            .contains("more in archives")
    );
}

fn find_check(env: &TestEnv, id: &str) -> Option<Value> {
    let json = env.run(["doctor", "--json"]).json();
    let mut checks = json["checks"].as_array().expect("a list").iter();
    checks.find(|check| check["id"] == id).cloned()
}

#[test]
fn a_home_that_lacks_a_part_of_its_newest_archive_gets_the_list_of_the_lost_conversations() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=10);
    back_up(&mut env, 10);
    (1..=3).for_each(|number| delete(&env, number));
    assert_eq!(back_up(&mut env, 11)["gone"], 3);
    let sessions = one_line(&env.run(["sessions"]).code(0).stderr);
    let hint = "3 more in archives: codex-manager history losses";
    assert!(sessions.contains(hint), "{sessions}");
    assert_eq!(gone(&env, 5), ids(1..=3));
    let check = find_check(&env, "home.gone").expect("a check");
    assert_eq!(
        (&check["status"], &check["message"]),
        (&json!("warn"), &json!("only in copies: 3 conversations"))
    );
    assert_eq!(
        find_check(&env, "home.conversations").expect("a check")["status"],
        "ok"
    );
}

#[test]
fn every_list_names_conversations_that_vanished() {
    let mut env = lost_home();
    assert_eq!(back_up(&mut env, 11)["gone"], 5);
    let run = env.run(["history", "losses"]).code(5);
    assert!(
        run.stdout.contains("whole conversations only in copies: 5"),
        "{run}"
    );
    assert!(run.stdout.contains("question 3 apple fruit3"), "{run}");
    let json = env.run(["history", "losses", "--json"]).code(5).json();
    let row = &json["gone"][0];
    assert_eq!(row["title"], "question 1 apple fruit1");
    assert_eq!(row["place"], "2026-11-20-100000-signed-out-codex.tar.gz");
    assert_eq!(row["last_live_at"], "2026-11-20T10:00:00+00:00");

    let sessions = one_line(&env.run(["sessions"]).code(0).stderr);
    assert!(
        sessions.contains("5 more in archives; an archive of "),
        "{sessions}"
    );
    assert_eq!(sessions.matches("codex-manager ").count(), 1, "{sessions}");
    let found = env.run(["find", "fruit3"]).code(5);
    assert!(
        one_line(&found.stderr).contains("1 in archives: codex-manager find --archives fruit3"),
        "{found}"
    );
    // The check of the conversations names the archive, so that none is needed for the lost ones.
    assert_eq!(find_check(&env, "home.gone"), None);
    let check = find_check(&env, "home.conversations").expect("a check");
    let message = check["message"].as_str().unwrap();
    assert!(
        message.starts_with("5 more in archives; an archive of "),
        "{message}"
    );
    let notices = env.run(["notify", "--dry-run", "--json"]).code(0).json();
    let kinds: Vec<_> = notices["notices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["kind"])
        .collect();
    assert!(kinds.contains(&&json!("lost-conversations")), "{notices}");
}

#[test]
fn the_printed_command_brings_one_conversation_back() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    let json = env.run(["history", "losses", "--json"]).code(5).json();
    let command = json["gone"][2]["command"].as_str().expect("a command");
    let words: Vec<_> = command.split(' ').skip(1).chain(["--yes"]).collect();
    let _ = env.run(words).code(0);
    assert_eq!(gone(&env, 5), ids([1, 2, 4, 5]));
}

#[test]
fn conversations_of_two_accounts_in_one_home_are_lost_and_come_back_whichever_is_live() {
    let mut env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    write_numbered(&env, 1..=3);
    back_up(&mut env, 9);
    write_auth(&env.codex_home(), &bob());
    for number in 4..=6 {
        let mut of_bob = conversation(number);
        of_bob.account = "acct-bob".into();
        write(&env, &of_bob);
    }
    back_up(&mut env, 10);
    (1..=5).for_each(|number| delete(&env, number));

    write_auth(&env.codex_home(), &alice(1));
    set_hour(&mut env, 11);
    let run = env.run(["backup", "--no-status"]).code(0);
    let command = "codex-manager restore 2026-11-20-100000-bob@example.com --merge";
    let warning = format!("5 conversations of Fri 20 Nov 10:00 are not in this home: {command}");
    assert!(one_line(&run.stderr).contains(&warning), "{run}");
    write_auth(&env.codex_home(), &bob());
    assert_eq!(back_up(&mut env, 12)["gone"], 5);

    // Each account keeps its newest archive. Two of the five conversations are in no other one than this.
    let names: BTreeSet<_> = kept(&env, &["--keep-last", "1"]).into_iter().collect();
    let expected = [
        ("2026-11-20-100000", "alone has 2 conversations"),
        ("2026-11-20-110000", "last 1"),
        ("2026-11-20-120000", "last 1"),
    ];
    let expected = expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()));
    assert_eq!(names, BTreeSet::from(expected));
    let json = env.run(["history", "losses", "--json"]).code(5).json();
    assert_eq!(json["gone"][0]["email"], "bob@example.com");
    let words = command.split(' ').skip(1).chain(["--yes"]);
    let _ = env.run(words).code(0);
    assert_eq!(gone(&env, 0), ids([]));
}

#[test]
fn conversations_that_only_the_vault_has_are_listed_and_come_back() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    crate::vault::set_up(&mut env);
    let _ = env
        .run(["config", "set", "vault.repository", "vault"])
        .code(0);
    // Snapshots have the time of the system.
    env.unset("CODEX_MANAGER_NOW");
    write_numbered(&env, 1..=6);
    crate::vault::backup(&env);
    (1..=5).for_each(|number| delete(&env, number));
    let losses = ["history", "losses", "--vault", "--json"];
    let json = env.run(losses).code(5).json();
    let rows = json["gone"].as_array().expect("a list");
    assert_eq!(rows.len(), 5, "{json}");
    let check = find_check(&env, "home.gone").expect("a check");
    assert_eq!(check["message"], "only in copies: 5 conversations");
    let sessions = one_line(&env.run(["sessions"]).code(0).stderr);
    let hint = "5 more in the vault: codex-manager history losses --vault";
    assert!(sessions.contains(hint), "{sessions}");
    for row in rows {
        let command = row["command"].as_str().expect("a command");
        let words: Vec<_> = command.split(' ').skip(1).chain(["--yes"]).collect();
        let _ = env.run(words).code(0);
    }
    assert_eq!(env.run(losses).code(0).json()["gone"], json!([]));
}

#[test]
fn archives_that_take_long_to_search_are_only_named() {
    let mut env = TestEnv::new();
    put(&env, "big", vec![b'x'; 17 << 20]);
    write_numbered(&env, 1..=4);
    back_up(&mut env, 10);
    (1..=3).for_each(|number| delete(&env, number));
    back_up(&mut env, 11);
    let found = env.run(["find", "fruit3"]).code(5);
    assert!(
        one_line(&found.stderr)
            .contains("archives were not searched: codex-manager find --archives"),
        "{found}"
    );
}

#[test]
fn a_conversation_that_codex_deleted_is_listed_but_is_no_loss() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=30);
    back_up(&mut env, 10);
    delete(&env, 1);
    delete(&env, 2);
    set_hour(&mut env, 11);
    let run = env.run(["backup", "--no-status"]).code(0);
    assert!(!run.stderr.contains("not in this home"), "{run}");
    assert_eq!(gone(&env, 0), ids([1, 2]));
    let notices = env.run(["notify", "--dry-run", "--json"]).code(0).json();
    assert_eq!(notices["notices"], json!([]));
}

#[test]
fn i16_prune_keeps_the_last_copy_of_a_gone_conversation_for_ninety_days() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    back_up(&mut env, 12);
    let kept_now = kept(&env, &["--keep-last", "1"]);
    let expected = (
        "2026-11-20-100000".to_owned(),
        "alone has 5 conversations".to_owned(),
    );
    assert_eq!(kept_now.len(), 2);
    assert_eq!(kept_now[1], expected);
    set_hour(&mut env, 11 + 89 * 24);
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 2);
    set_hour(&mut env, 12 + 90 * 24);
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 1);
}

#[test]
fn i16_prune_keeps_an_archive_with_damage_that_alone_has_a_gone_conversation() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    back_up(&mut env, 12);
    let folder = env.manager_home().join("backups");
    let path = folder.join("2026-11-20-100000-signed-out-codex.tar.gz");
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 1;
    fs::write(&path, bytes).unwrap();
    let _ = env.run(["verify", "--all"]).code(5);
    let kept = kept(&env, &["--keep-last", "1"]);
    assert!(
        kept.iter().any(|(name, _)| name == "2026-11-20-100000"),
        "{kept:?}"
    );
}

#[test]
fn a_conversation_that_came_back_from_the_trash_can_be_lost() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=4);
    back_up(&mut env, 10);
    let _ = env
        .run(["storage", "trash", &id(1), &id(2), &id(3), "--yes"])
        .code(0);
    write_numbered(&env, 1..=3);
    back_up(&mut env, 11);
    (1..=3).for_each(|number| delete(&env, number));
    assert_eq!(back_up(&mut env, 12)["gone"], 3);
    set_hour(&mut env, 13);
    let _ = env
        .run(["storage", "trash", "--empty-trash", "--yes"])
        .code(0);
}

#[test]
fn i16_a_home_that_is_gone_altogether_keeps_its_last_archive() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=4);
    back_up(&mut env, 10);
    back_up(&mut env, 11);
    fs::remove_dir_all(env.codex_home()).unwrap();
    let other = env.path("other");
    env.set("CODEX_HOME", &other);
    fs::create_dir(&other).unwrap();
    for hour in [12, 13] {
        set_hour(&mut env, hour);
        fs::write(other.join("AGENTS.md"), hour.to_string()).unwrap();
        let _ = env.run(["backup", "--no-status"]).code(0);
    }
    let names: Vec<_> = kept(&env, &["--keep-last", "1"])
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"2026-11-20-110000".to_owned()), "{names:?}");
}

#[test]
fn subagents_of_a_deleted_conversation_keep_no_archive() {
    let mut env = TestEnv::new();
    write_numbered(&env, [1, 2]);
    let child = Conversation {
        source: "subagent".into(),
        parent: Some(1),
        ..conversation(3)
    };
    write(&env, &child);
    back_up(&mut env, 10);
    delete(&env, 1);
    delete(&env, 3);
    assert_eq!(back_up(&mut env, 11)["gone"], 1);
    assert_eq!(gone(&env, 0), ids([1]));
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(0);
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 1);
}

#[test]
fn any_number_of_days_is_accepted() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    let _ = env
        .run(["config", "set", "prune.keep_gone", "4294967295"])
        .code(0);
    set_hour(&mut env, 24 * 365);
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 2);
}

#[test]
fn without_days_prune_keeps_no_copy_of_a_gone_conversation() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    let _ = env.run(["config", "set", "prune.keep_gone", "0"]).code(0);
    let kept = kept(&env, &["--keep-last", "1"]);
    assert_eq!(kept.len(), 1);
}

#[test]
fn an_accepted_loss_ends_with_the_return_of_the_conversation() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(5);
    assert_eq!(gone(&env, 5), ids(2..=5));
    let usage = env.run(["history", "losses", "--accept"]).code(4);
    assert!(usage.stderr.contains("--accept --all"), "{usage}");
    let _ = env.run(["history", "losses", "--accept", "--all"]).code(0);
    assert_eq!(gone(&env, 0), ids([]));
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 1);

    write_numbered(&env, [1]);
    back_up(&mut env, 12);
    delete(&env, 1);
    back_up(&mut env, 13);
    assert_eq!(gone(&env, 0), ids([1]));
}

#[test]
fn trashed_and_archived_conversations_are_not_gone() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=6);
    back_up(&mut env, 10);
    let numbered: Vec<_> = (1..=4).map(id).collect();
    let names: Vec<_> = numbered.iter().map(String::as_str).collect();
    let _ = env
        .run([&["storage", "trash", "--yes"], &names[..]].concat())
        .code(0);
    let archived = env.codex_home().join("archived_sessions");
    fs::create_dir_all(&archived).unwrap();
    let rollout = env.codex_home().join(conversation(5).relative());
    fs::rename(&rollout, archived.join(rollout.file_name().unwrap())).unwrap();
    assert_eq!(back_up(&mut env, 11)["gone"], 0);
    assert_eq!(gone(&env, 0), ids([]));

    let _ = env
        .run(["storage", "trash", "--empty-trash", "--yes"])
        .code(0);
    assert_eq!(back_up(&mut env, 12)["gone"], 0);
    assert_eq!(gone(&env, 0), ids([]));
    assert_eq!(kept(&env, &["--keep-last", "1"]).len(), 1);
}

#[test]
fn an_archive_of_another_machine_has_no_gone_conversation_of_this_home() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=6);
    back_up(&mut env, 10);
    // Another machine has another id, and a home at the same path.
    fs::remove_file(env.manager_home().join("vault/state.json")).expect("the id of this machine");
    fs::remove_dir_all(env.codex_home()).unwrap();
    write_numbered(&env, [7]);
    assert_eq!(back_up(&mut env, 11)["gone"], 0);
    assert_eq!(gone(&env, 0), ids([]));
}

#[test]
fn a_backup_with_exclusions_misses_no_conversation() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=6);
    back_up(&mut env, 10);
    set_hour(&mut env, 11);
    let run = env
        .run(["backup", "--no-status", "--exclude", "sessions", "--json"])
        .code(0);
    assert_eq!(run.json()["gone"], 0);
    assert!(!run.stderr.contains("not in this home"), "{run}");
}

#[test]
fn i16_prune_keeps_the_good_copy_behind_a_torn_one() {
    let mut env = TestEnv::new();
    write_numbered(&env, 1..=4);
    back_up(&mut env, 10);
    for number in 1..=3 {
        let path = env.codex_home().join(conversation(number).relative());
        fs::write(&path, vec![0; 400]).unwrap();
    }
    set_hour(&mut env, 11);
    let _ = env.run(["backup", "--no-status"]);
    (1..=3).for_each(|number| delete(&env, number));
    back_up(&mut env, 12);
    back_up(&mut env, 13);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let archives = archived_texts(&env);
    for number in 1..=3 {
        let text = conversation(number).text();
        let copies = archives.iter().filter_map(|files| files.get(&id(number)));
        assert!(copies.into_iter().any(|copy| *copy == text), "{number}");
    }
}

#[test]
fn i16_the_trash_of_archives_is_not_emptied_while_it_has_a_gone_conversation() {
    let mut env = lost_home();
    back_up(&mut env, 11);
    let _ = env.run(["config", "set", "prune.keep_gone", "0"]).code(0);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let _ = env.run(["config", "unset", "prune.keep_gone"]).code(0);
    let run = env.run(["prune", "--empty-trash", "--yes"]).code(5);
    assert!(
        run.stderr.contains("a conversation that the home lacks"),
        "{run}"
    );
    let _ = env.run(["history", "losses", "--accept", "--all"]).code(0);
    let _ = env.run(["prune", "--empty-trash", "--yes"]).code(0);
}

#[test]
fn i16_vault_forget_keeps_the_last_snapshot_of_a_gone_conversation() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    crate::vault::set_up(&mut env);
    let _ = env
        .run(["config", "set", "vault.repository", "vault"])
        .code(0);
    env.unset("CODEX_MANAGER_NOW");
    write_numbered(&env, 1..=4);
    crate::vault::backup(&env);
    (1..=3).for_each(|number| delete(&env, number));
    crate::vault::backup(&env);
    let forget = ["vault", "forget", "--keep-last", "1", "--yes", "--json"];
    let json = env.run(forget).code(0).json();
    assert_eq!(json["drop"], json!([]));
    assert_eq!(json["keep"][1]["reason"], "alone has 3 conversations");
    let accept = ["history", "losses", "--vault", "--accept", "--all"];
    let _ = env.run(accept).code(0);
    let json = env.run(forget).code(0).json();
    assert_eq!(json["drop"].as_array().unwrap().len(), 1);
}

/// Returns the texts of the conversations in each archive, by id.
fn archived_texts(env: &TestEnv) -> Vec<BTreeMap<String, String>> {
    let folder = fs::read_dir(env.manager_home().join("backups")).expect("backups");
    let paths = folder.map(|entry| entry.unwrap().path());
    let archives = paths.filter(|path| path.to_str().unwrap().ends_with(".tar.gz"));
    archives
        .map(|path| {
            let archive = ArchiveReader::open(&path).expect("an archive");
            let into = env.path("extracted");
            let _ = fs::remove_dir_all(&into);
            fs::create_dir(&into).unwrap();
            let mut texts = BTreeMap::new();
            for entry in archive.contents().files.iter() {
                let path = entry.path.as_path().to_path_buf();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with("rollout-") {
                    let file = fs::File::create(into.join(&name)).unwrap();
                    codex_manager_core::archive::file_extract::extract_entry(
                        &archive, &entry, &file,
                    )
                    .expect("extract");
                    let text = fs::read_to_string(into.join(&name)).unwrap();
                    let id = name[name.len() - 42..name.len() - 6].to_owned();
                    texts.insert(id, text);
                }
            }
            texts
        })
        .collect()
}

/// A home in which conversations come, grow and go, and what its archives must still have.
struct Model {
    env: TestEnv,
    dice: Dice,
    hour: i64,
    live: BTreeMap<u32, Conversation>,
    /// The live conversations whose rollouts a power cut filled with zeros.
    torn: BTreeSet<u32>,
    /// The text of each conversation at the last backup that had it whole.
    backed_up: BTreeMap<u32, String>,
    /// The hour at which each conversation left the home without a word to this program.
    vanished: BTreeMap<u32, i64>,
}

impl Model {
    fn any_live(&mut self) -> Option<u32> {
        let numbers: Vec<_> = self.live.keys().copied().collect();
        let index = usize::try_from(self.dice.below(numbers.len().max(1) as u64)).unwrap();
        numbers.get(index).copied()
    }

    fn make(&mut self) -> String {
        let number = u32::try_from(self.dice.below(60)).unwrap() + 1;
        if self.live.contains_key(&number) {
            return self.grow();
        }
        let made = conversation(number);
        write(&self.env, &made);
        self.live.insert(number, made);
        self.vanished.remove(&number);
        self.backed_up.remove(&number);
        format!("make {number}")
    }

    fn grow(&mut self) -> String {
        let Some(number) = self.any_live() else {
            return "nothing".into();
        };
        let text = format!("more {}", self.dice.below(1_000_000));
        let conversation = self.live.get_mut(&number).unwrap();
        conversation.lines.extend([user(&text), assistant("yes")]);
        write(&self.env, conversation);
        if self.torn.remove(&number) {
            // The home has a good copy again, so that none in an archive is kept until the next backup.
            self.backed_up.remove(&number);
        }
        format!("grow {number}")
    }

    fn tear(&mut self) -> String {
        let Some(number) = self.any_live() else {
            return "nothing".into();
        };
        let path = self.env.codex_home().join(self.live[&number].relative());
        fs::write(path, [0; 400]).unwrap();
        self.torn.insert(number);
        format!("tear {number}")
    }

    /// Codex deletes a conversation, or the disk loses some.
    fn vanish(&mut self, count: u64) -> String {
        let mut numbers = Vec::new();
        for _ in 0..count {
            if let Some(number) = self.any_live() {
                delete(&self.env, number);
                self.live.remove(&number);
                self.torn.remove(&number);
                self.vanished.insert(number, self.hour);
                numbers.push(number);
            }
        }
        format!("vanish {numbers:?}")
    }

    fn trash(&mut self) -> String {
        let number = self.any_live();
        let Some(number) = number.filter(|number| !self.torn.contains(number)) else {
            return "nothing".into();
        };
        let _ = self
            .env
            .run(["storage", "trash", &id(number), "--yes"])
            .code(0);
        if self.dice.below(2) == 0 {
            let _ = self
                .env
                .run(["storage", "trash", "--empty-trash", "--yes"])
                .code(0);
        }
        self.live.remove(&number);
        format!("trash {number}")
    }

    fn accept(&mut self) -> String {
        let Some(number) = self.vanished.keys().next().copied() else {
            return "nothing".into();
        };
        // A conversation that no archive has cannot be accepted.
        let run = self
            .env
            .run(["history", "losses", "--accept", &id(number), "--json"]);
        if !run.stdout.is_empty() && run.json()["accepted"] == json!([id(number)]) {
            self.vanished.remove(&number);
        }
        format!("accept {number}")
    }

    fn back_up(&mut self) -> String {
        set_hour(&mut self.env, self.hour);
        // Without a change, two archives would have equal contents.
        put(&self.env, "notes.txt", self.hour.to_string());
        let run = self.env.run(["backup", "--no-status"]);
        // Damaged files are no reason to end with 0.
        assert!([0, 6].contains(&run.code), "{run}");
        let whole = self
            .live
            .iter()
            .filter(|(number, _)| !self.torn.contains(number));
        for (number, conversation) in whole {
            self.backed_up.insert(*number, conversation.text());
        }
        "backup".into()
    }

    fn prune(&mut self, steps: &[String]) -> String {
        let count = (self.dice.below(3) + 1).to_string();
        set_hour(&mut self.env, self.hour);
        let _ = self.env.run(["prune", "--keep-last", &count]).code(0);
        let archives = archived_texts(&self.env);
        let recent = self
            .vanished
            .iter()
            .filter(|(_, hour)| self.hour - **hour < 90 * 24);
        for number in recent.map(|(number, _)| number).chain(&self.torn) {
            if let Some(text) = self.backed_up.get(number) {
                let mut copies = archives.iter().filter_map(|texts| texts.get(&id(*number)));
                assert!(
                    copies.any(|copy| copy == text),
                    "{number} is lost after {steps:#?}"
                );
            }
        }
        format!("prune {count}")
    }
}

#[test]
fn i16_in_random_sequences_prune_loses_no_conversation_of_the_last_ninety_days() {
    for seed in variables::seeds(4) {
        let mut model = Model {
            env: TestEnv::new(),
            dice: Dice::seeded(seed),
            hour: 0,
            live: BTreeMap::new(),
            torn: BTreeSet::new(),
            backed_up: BTreeMap::new(),
            vanished: BTreeMap::new(),
        };
        let mut steps = vec![format!("seed {seed}"), model.make(), model.back_up()];
        for _ in 0..60 {
            model.hour += [1, 24, 24 * 20][usize::try_from(model.dice.below(3)).unwrap()];
            let step = match model.dice.below(11) {
                0 | 1 => model.make(),
                2 => model.grow(),
                3 => model.vanish(1),
                4 => model.vanish(4),
                5 => model.trash(),
                6 => model.accept(),
                7 | 8 => model.back_up(),
                9 => model.tear(),
                _ => model.prune(&steps),
            };
            steps.push(format!("{} h: {step}", model.hour));
        }
        let last = model.prune(&steps);
        steps.push(last);
    }
}

/// A user's disk is lost, they sign in again and say one word.
#[test]
fn with_real_codex_a_lost_home_is_named_at_each_step_and_comes_back() {
    let Some(lab) = Lab::new() else {
        return;
    };
    let mut said: Vec<_> = (0..5)
        .map(|n| lab.say(&format!("plan {n} for terraform")))
        .collect();
    let _ = lab.manager(["find", "terraform"]).code(0);
    let archive = lab.back_up();
    let stem = archive.file_name().unwrap().to_str().unwrap();
    let stem = stem.strip_suffix("-codex.tar.gz").unwrap().to_owned();

    fs::rename(lab.home(), lab.world.path("lost")).unwrap();
    for command in [["sessions"], ["backup"], ["status"], ["find"], ["storage"]] {
        let words = command
            .iter()
            .chain(if command == ["find"] { &["x"][..] } else { &[] });
        let run = lab.manager(words);
        assert!(
            one_line(&run.stderr).contains("codex-manager restore latest"),
            "{run}"
        );
    }

    signed_in_home(&lab.home(), &lab.backend, &SignIn::alice());
    said.push(lab.say("hello"));
    let run = lab.manager(["backup", "--no-status"]).code(0);
    let merge = format!("are not in this home: codex-manager restore {stem} --merge");
    assert!(one_line(&run.stderr).contains(&merge), "{run}");
    let run = lab.manager(["history", "losses"]).code(5);
    assert!(run.stdout.contains("plan 3 for terraform"), "{run}");
    let run = lab.manager(["doctor"]);
    let finding = "5 more in archives; an archive of";
    assert!(run.stdout.contains(finding), "{run}");
    let run = lab.manager(["find", "terraform"]).code(5);
    assert!(
        one_line(&run.stderr).contains("5 in archives: codex-manager find --archives"),
        "{run}"
    );
    let run = lab.manager(["sessions"]).code(0);
    assert!(run.stderr.contains("5 more in archives"), "{run}");

    for word in ["more", "words"] {
        said.push(lab.say(word));
        let run = lab.manager(["backup", "--no-status"]).code(0);
        assert!(!run.stderr.contains("not in this home"), "{run}");
    }
    let prune = ["prune", "--keep-last", "1", "--keep-weekly", "4", "--json"];
    let json = lab.manager(prune).code(0).json();
    let keep = json["keep"].as_array().unwrap().iter();
    let kept = keep.map(|row| row["archive"].as_str().unwrap().to_owned());
    assert!(
        kept.collect::<Vec<_>>()
            .contains(&format!("{stem}-codex.tar.gz")),
        "{json}"
    );

    let _ = lab.manager(["restore", &stem, "--merge", "--yes"]).code(0);
    said.sort();
    assert_eq!(lab.listed_ids(&lab.home()), said);
    assert_eq!(gone(&lab.world, 0), ids([]));
}
