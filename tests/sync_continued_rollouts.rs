//! Rollouts that a rewind or a fork continues: a sync neither deletes nor replaces them, whatever their names, and a
//! conversation that one machine archived and another one rewound stays one conversation.

use crate::rewinds::resumed;
use crate::support::copy_tree;
use crate::support::env::Run;
use crate::support::lab::{Lab, rollouts};
use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, meta_of};
use crate::support::two_machines::TwoMachines;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const PROPAGATE: &str = "[sync]\ndelete_policy = \"propagate\"\n";
const CONTINUED: &str = "a rewind or a fork continues";

#[track_caller]
fn ask(lab: &Lab, home: &Path, method: &str, params: Value) -> Value {
    let answer = lab
        .codex
        .app_server_request(home, &lab.backend, method, params);
    answer.unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// Forks a conversation, and adds a turn to the fork; returns its id.
fn fork(lab: &Lab, home: &Path, id: &str) -> String {
    let fork = ask(lab, home, "thread/fork", json!({"threadId": id}));
    let fork = fork["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(home, &fork, "of the fork");
    fork
}

fn delete(lab: &Lab, home: &Path, id: &str) {
    lab.codex
        .run(home, &lab.backend, &["delete", "--force", id])
        .expect_success();
}

/// Returns the rollouts of these threads in a home or in the cloud folder.
fn rollouts_of(root: &Path, ids: &[&str]) -> Vec<PathBuf> {
    let mut all = rollouts(root);
    all.retain(|path| {
        let name = path.to_string_lossy();
        ids.iter().any(|id| name.contains(*id))
    });
    all
}

/// Creates machines that propagate deletions, with a synced conversation of two turns; returns its id. Other
/// conversations make the deletions few.
fn propagating() -> Option<(TwoMachines, String)> {
    let two = TwoMachines::new()?;
    two.configure(PROPAGATE);
    for prompt in ["other", "another", "third"] {
        two.lab.say(prompt);
    }
    let id = two.lab.say("one");
    two.lab.resume(&two.lab.home(), &id, "two");
    Some((two, id))
}

#[test]
fn a_base_that_a_rewind_or_a_fork_continues_is_not_deleted() {
    for is_fork in [false, true] {
        for names in [["a", "b"], ["b", "a"]] {
            let Some((two, id)) = propagating() else {
                return;
            };
            let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
            two.sync(&["a", "b", "a"]);
            // `b` deletes the conversation, before it knows what continues it.
            delete(lab, b, &id);
            let (continued, texts) = if is_fork {
                (fork(lab, &a, &id), ["one", "two", "of the fork"].as_slice())
            } else {
                lab.edit(&a, &id, 1, "of a");
                (id.clone(), ["one", "of a"].as_slice())
            };
            two.sync(&names[..1]);
            let run = two.run_sync(names[1], &["plan", "--json"]).code(0);
            assert!(run.stdout.contains(CONTINUED), "{names:?}: {run}");
            two.sync(&[names[1], names[0], names[1]]);
            for home in [&a, b] {
                assert_eq!(resumed(lab, home, &continued), texts, "{names:?}");
            }
            let cloud = lab.world.path("cloud");
            assert_eq!(rollouts_of(&cloud, &[&id, &continued]).len(), 2);
            for name in names {
                let plan = two.run_sync(name, &["plan", "--json"]).code(0).json();
                assert_eq!(plan["actions"], json!([]), "{name}");
            }
            // Without what continues it, the conversation is deleted everywhere.
            two.sync(&["a", "b", "a"]);
            for id in [&continued, &id] {
                if !rollouts_of(&a, &[id]).is_empty() {
                    delete(lab, &a, id);
                }
            }
            two.sync(&["a", "b", "a"]);
            for root in [&a, b, &cloud] {
                assert_eq!(rollouts_of(root, &[&id, &continued]), Vec::<PathBuf>::new());
            }
        }
    }
}

#[test]
fn a_rewind_that_goes_on_while_another_machine_deletes_it_keeps_its_base() {
    for names in [["a", "b"], ["b", "a"]] {
        let Some((two, id)) = propagating() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        lab.edit(&a, &id, 1, "of a");
        two.sync(&["a", "b", "a"]);
        delete(lab, b, &id);
        lab.resume(&a, &id, "more");
        two.sync(&[names[0], names[1], names[0], names[1]]);
        for home in [&a, b] {
            assert_eq!(resumed(lab, home, &id), ["one", "of a", "more"]);
        }
    }
}

#[test]
fn a_deletion_of_a_conversation_deletes_all_its_rewinds() {
    let Some((two, id)) = propagating() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    lab.edit(&a, &id, 1, "of a");
    two.sync(&["a", "b", "a"]);
    delete(lab, b, &id);
    two.sync(&["b", "a", "b"]);
    for root in [&a, b, &lab.world.path("cloud")] {
        assert_eq!(rollouts_of(root, &[&id]), Vec::<PathBuf>::new());
    }
}

/// Checks that the manager lists a conversation once, and that Codex shows it with these messages, not archived.
#[track_caller]
fn assert_listed_once(two: &TwoMachines, name: &str, id: &str, texts: &[&str]) {
    let (lab, home) = (&two.lab, two.home(name));
    let archived = json!({"sourceKinds": ["exec"], "archived": true});
    let archived = ask(lab, &home, "thread/list", archived);
    assert_eq!(archived["data"], json!([]), "{name}");
    // Codex lists a conversation that was rewound once for each rollout, on one machine too.
    assert!(lab.listed_ids(&home).iter().any(|listed| listed == id));
    let archived = home.join("archived_sessions");
    for rollout in rollouts_of(&home, &[id]) {
        assert!(
            !rollout.starts_with(&archived),
            "{name}: {}",
            rollout.display()
        );
    }
    let home_arg = home.to_string_lossy().into_owned();
    let manager = |args: &[&str]| lab.manager([&["--codex-home", &*home_arg], args].concat());
    let sessions = manager(&["sessions", "--json"]).code(0).json();
    let sessions = sessions["sessions"].as_array().expect("sessions").iter();
    let own: Vec<_> = sessions.filter(|session| session["id"] == id).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(resumed(lab, &home, id), texts, "{name}");
    let _ = manager(&["history", "check"]).code(0);
}

#[test]
fn a_conversation_that_one_machine_archived_and_another_one_rewound_stays_one() {
    for names in [["a", "b"], ["b", "a"]] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        lab.say_in(b, "at home on b");
        let id = lab.say("one");
        lab.resume(&a, &id, "two");
        two.sync(&["a", "b", "a"]);
        ask(lab, &a, "thread/archive", json!({"threadId": id}));
        lab.edit(b, &id, 1, "of b");
        two.sync(&[names[0], names[1], names[0], names[1]]);
        for name in names {
            let plan = two.run_sync(name, &["plan", "--json"]).code(0).json();
            assert_eq!(plan["actions"], json!([]), "{name}");
            assert_listed_once(&two, name, &id, &["one", "of b"]);
        }
        // Archived with its rewind, it is archived everywhere.
        ask(lab, &a, "thread/archive", json!({"threadId": id}));
        two.sync(&["a", "b", "a"]);
        for home in [&a, b] {
            let archived = home.join("archived_sessions");
            let own = rollouts_of(home, &[&id]);
            assert!(own.iter().all(|path| path.starts_with(&archived)));
            assert_eq!(own.len(), 2);
        }
    }
}

#[test]
fn an_archiving_that_arrives_after_the_rewind_of_another_machine_does_not_apply() {
    for first in ["a", "b"] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        lab.say_in(b, "at home on b");
        let id = lab.say("one");
        lab.resume(&a, &id, "two");
        two.sync(&["a", "b", "a"]);
        let base = rollouts_of(&lab.world.path("cloud"), &[&id]).remove(0);
        let [cloud, early, of_a] = ["cloud", "early", "of-a"].map(|name| lab.world.path(name));
        crate::history_faults::copy(&cloud, &early);
        ask(lab, &a, "thread/archive", json!({"threadId": id}));
        two.sync(&["a"]);
        fs::rename(&cloud, &of_a).unwrap();
        fs::rename(&early, &cloud).unwrap();
        lab.edit(b, &id, 1, "of b");
        two.sync(&["b"]);
        // The manifest of `b` in the cloud folder is the newer one.
        for manifest in fs::read_dir(of_a.join(".codex-manager/machines")).unwrap() {
            let path = manifest.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("b-")
            {
                fs::remove_file(path).unwrap();
            }
        }
        crate::history_faults::copy(&of_a, &cloud);
        fs::remove_file(base).unwrap();
        let second = if first == "a" { "b" } else { "a" };
        two.sync(&[first, second, first, second]);
        for name in ["a", "b"] {
            assert_listed_once(&two, name, &id, &["one", "of b"]);
        }
    }
}

const FORK_ID: &str = "01a1f7c2-3b10-7ef3-b0ee-5caab8d3b456";
const FORK: &str =
    "sessions/2026/11/18/rollout-2026-11-18T11-00-00-01a1f7c2-3b10-7ef3-b0ee-5caab8d3b456.jsonl";

fn line(text: &str) -> String {
    format!(
        "{{\"timestamp\":\"2026-11-18T10:00:01.000Z\",\"ordinal\":1,\"type\":\"event_msg\",\"payload\":\
         {{\"type\":\"user_message\",\"message\":\"{text}\"}}}}\n"
    )
}

/// Returns a fork, or a rewind, that continues the whole `base`.
fn continuation(id: &str, base: &str) -> String {
    let meta = json!({"type": "session_meta", "payload": {"id": id, "history_base":
        {"thread_id": ID, "end_ordinal_exclusive": 2, "end_byte_offset": base.len()}}});
    format!("{meta}\n{}", line("continued"))
}

fn archived(path: &str) -> String {
    let name = path.rsplit('/').next().expect("a name");
    format!("archived_sessions/{name}")
}

/// The form of a rollout on one machine.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Compressed,
    Archived,
}

/// Writes the synced rollout on a machine, in another form.
fn put_in_form(pair: &Pair, name: &str, text: &str, form: Form) {
    let plain = pair.put(name, ROLLOUT, text);
    match form {
        Form::Plain => {}
        Form::Compressed => {
            let bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
            fs::write(plain.with_extension("jsonl.zst"), bytes).unwrap();
            fs::remove_file(plain).unwrap();
        }
        Form::Archived => {
            pair.put(name, &archived(ROLLOUT), text);
            fs::remove_file(plain).unwrap();
        }
    }
}

/// Returns all texts of the synced rollout in a home or in the cloud folder, uncompressed.
fn texts_of_rollout(root: &Path) -> Vec<String> {
    let texts = rollouts_of(root, &[ID]).into_iter().map(|path| {
        let bytes = fs::read(&path).unwrap();
        let is_compressed = path.extension().is_some_and(|e| e == "zst");
        let bytes = if is_compressed {
            zstd::decode_all(&*bytes).unwrap()
        } else {
            bytes
        };
        String::from_utf8(bytes).unwrap()
    });
    texts.collect()
}

/// Creates a conversation that `a` and `b` continued differently; the machine `forked` has a fork that continues its
/// own version. `a` has synced. Returns the machines and the texts of `a` and `b`.
fn diverged_base(forked: &str, forms: [Form; 2]) -> (Pair, [String; 2]) {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let texts = ["of a", "of b, which is longer"].map(|text| format!("{META}{}", line(text)));
    for ((name, text), form) in ["a", "b"].into_iter().zip(&texts).zip(forms) {
        put_in_form(&pair, name, text, form);
        if name == forked {
            pair.put(name, FORK, &continuation(FORK_ID, text));
        }
    }
    pair.apply("a");
    (pair, texts)
}

/// Adds a rewind on a machine that continues the whole `base`.
fn put_rewind(pair: &Pair, name: &str, base: &str) {
    let id = FORK_ID.replace("b456", &format!("b45{name}"));
    let path = ROLLOUT.replace(".jsonl", &format!("_{id}.jsonl"));
    pair.put(name, &path, &continuation(ID, base));
}

/// Creates a conversation that `a` and `b` continued differently by lines of equal lengths, and that the machines
/// `rewound` rewound then. `a` has synced. Returns the machines and the texts of `a` and `b`.
fn diverged_with_equal_lengths(rewound: &[&str]) -> (Pair, [String; 2]) {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let texts = ["a", "b"].map(|name| {
        let text = format!("{META}{}", line(name));
        pair.put(name, ROLLOUT, &text);
        if rewound.contains(&name) {
            put_rewind(&pair, name, &text);
        }
        if name == "a" {
            pair.apply(name);
        }
        text
    });
    (pair, texts)
}

fn policy(name: &str) -> String {
    format!("[conflict]\npolicy = \"{name}\"\n")
}

#[test]
fn a_continued_version_is_not_replaced_by_a_plain_compressed_or_archived_one() {
    use Form::{Archived, Compressed, Plain};
    for forms in [
        [Plain, Plain],
        [Plain, Compressed],
        [Compressed, Plain],
        [Plain, Archived],
        [Archived, Plain],
    ] {
        for (forked, losing, kept) in [
            ("b", "prefer_cloud", "local"),
            ("a", "prefer_local", "cloud"),
        ] {
            let (pair, [of_a, of_b]) = diverged_base(forked, forms);
            pair.configure("b", &policy(losing));
            for args in [&["plan"][..], &["run", "--apply"]] {
                let run = pair.run("b", args).code(2);
                let expected = format!("{CONTINUED} the {kept} version");
                assert!(run.stderr.contains(&expected), "{forms:?} {forked}: {run}");
            }
            assert_eq!(
                texts_of_rollout(&pair.home("b")),
                [&*of_b],
                "{forms:?} {forked}"
            );
            assert_eq!(
                texts_of_rollout(&pair.cloud()),
                [&*of_a],
                "{forms:?} {forked}"
            );
            // The conflict has an id, by which the user decides.
            let json = pair.run("b", &["resolve", "--json"]).code(0).json();
            assert_eq!(json["conflicts"][0]["session_id"], ID, "{json}");
            let keep = ["resolve", ID, "--keep", kept];
            let _ = pair.run("b", &keep).code(0);
            for name in ["b", "a", "b"] {
                let _ = pair.run(name, &["run", "--apply"]);
            }
            let expected = if kept == "local" { &of_b } else { &of_a };
            for root in [pair.home("a"), pair.home("b"), pair.cloud()] {
                assert_eq!(texts_of_rollout(&root), [&**expected], "{forms:?} {forked}");
                assert!(root.join(FORK).exists());
            }
        }
    }
}

/// Returns the versions that `resolve` offers in its list.
fn offered(list: &Run) -> Vec<String> {
    // The sentence can be wrapped.
    let text = list.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, offers) = text.split_once("; keep ").expect("an offer");
    let (offers, _) = offers.split_once(':').expect("the end of the offer");
    offers.split(", ").map(str::to_owned).collect()
}

/// Checks that each offered version can be kept, and that all others are refused and change nothing, with and without
/// `--dry-run`. `create` makes the machines; each try needs new ones.
#[track_caller]
fn assert_offers_are_true(create: impl Fn() -> Pair, what: &str, expected: &[&str]) {
    let listed = create().run("b", &["resolve"]).code(0);
    assert_eq!(offered(&listed), expected, "{listed}");
    for keep in ["local", "cloud", "fork", "both"] {
        let pair = create();
        let before = pair.tree();
        let args = ["resolve", what, "--keep", keep, "--dry-run"];
        let dry = pair.run("b", &args);
        crate::support::env::assert_same_tree(&before, &pair.tree());
        let run = pair.run("b", &args[..4]);
        assert_eq!(dry.code, run.code, "{keep}: {dry}{run}");
        assert_eq!(run.code == 0, expected.contains(&keep), "{keep}: {run}");
        if run.code != 0 {
            crate::support::env::assert_same_tree(&before, &pair.tree());
        }
    }
}

#[test]
fn resolve_offers_exactly_the_versions_that_can_be_kept() {
    // The fork continues one of the versions.
    for (forked, expected) in [("b", ["local", "both"]), ("a", ["cloud", "both"])] {
        let create = || diverged_base(forked, [Form::Plain; 2]).0;
        assert_offers_are_true(create, ID, &expected);
    }
    let equal_lengths = || diverged_with_equal_lengths(&["b"]).0;
    assert_offers_are_true(equal_lengths, ID, &["local", "both"]);
    let plain = || {
        let pair = Pair::new();
        pair.diverge();
        pair
    };
    assert_offers_are_true(plain, ID, &["local", "cloud", "both"]);
    // A rewind cannot become a conversation of its own, and neither can a file without an id in its name.
    let rewound = ROLLOUT.replace(".jsonl", &format!("_{FORK_ID}.jsonl"));
    let unnamed = "sessions/2026/11/18/rollout-old.jsonl".to_owned();
    for path in [rewound, unnamed] {
        let create = || {
            let pair = Pair::synced(&[(&path, META)]);
            for name in ["a", "b"] {
                pair.put(name, &path, &format!("{META}{}", line(name)));
            }
            pair.apply("a");
            pair
        };
        assert_offers_are_true(create, &path, &["local", "cloud"]);
    }
}

#[test]
fn a_decision_about_a_rewound_conversation_holds_on_both_machines() {
    let rewound = ["b"];
    for keep in ["local", "both"] {
        let (pair, [_, of_b]) = diverged_with_equal_lengths(&rewound);
        let _ = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
        for name in ["b", "a", "b"] {
            let _ = pair.run(name, &["run", "--apply"]);
        }
        for name in ["a", "b"] {
            assert_eq!(pair.text(name, ROLLOUT), of_b, "{rewound:?} {keep} {name}");
            let plan = pair.run(name, &["plan", "--json"]).json();
            assert_eq!(plan["actions"], json!([]), "{rewound:?} {keep} {name}");
        }
        let count = 1 + rewound.len() + usize::from(keep == "both");
        for root in [pair.home("a"), pair.home("b"), pair.cloud()] {
            assert_eq!(rollouts(&root).len(), count, "{rewound:?} {keep}");
        }
    }
}

#[test]
fn a_decision_does_not_replace_a_version_that_was_rewound_meanwhile() {
    let (pair, [of_a, _]) = diverged_with_equal_lengths(&["b"]);
    let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
    pair.apply("b");
    put_rewind(&pair, "a", &of_a);
    let run = pair.run("a", &["run", "--apply"]).code(2);
    let expected = format!("{CONTINUED} each version");
    assert!(run.stderr.contains(&expected), "{run}");
    assert_eq!(pair.text("a", ROLLOUT), of_a);
}

/// Creates machines of which `b` has a conversation that diverged: since its last sync only the version on the side
/// `changed` changed, `local` or `cloud`, and a fork continues the other one. Returns the text of the continued version.
fn one_sided(changed: &str) -> (Pair, String) {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let [of_a, of_b] =
        ["of a", "of b, which is longer"].map(|text| format!("{META}{}", line(text)));
    if changed == "cloud" {
        pair.put("b", ROLLOUT, &of_b);
        pair.apply("b");
        pair.put("a", ROLLOUT, &of_a);
        let _ = pair.run("a", &["resolve", ID, "--keep", "local"]).code(0);
        pair.put("b", FORK, &continuation(FORK_ID, &of_b));
        (pair, of_b)
    } else {
        pair.sync(&[(ROLLOUT, &of_a)]);
        pair.put("a", FORK, &continuation(FORK_ID, &of_a));
        pair.apply("a");
        pair.put("b", ROLLOUT, &of_b);
        (pair, of_a)
    }
}

#[test]
fn a_continued_version_waits_for_a_decision_although_only_one_side_changed() {
    for (changed, kept) in [("cloud", "local"), ("local", "cloud")] {
        assert_offers_are_true(|| one_sided(changed).0, ID, &[kept, "both"]);
        for keep in [kept, "both"] {
            let (pair, continued) = one_sided(changed);
            let run = pair.run("b", &["run", "--apply"]).code(2);
            assert!(run.stderr.contains(CONTINUED), "{changed}: {run}");
            let _ = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
            for name in ["b", "a", "b"] {
                pair.apply(name);
            }
            for root in [pair.home("a"), pair.home("b"), pair.cloud()] {
                assert_eq!(texts_of_rollout(&root), [&*continued], "{changed} {keep}");
                assert!(root.join(FORK).exists(), "{changed} {keep}");
                let others = if keep == "both" { 3 } else { 2 };
                assert_eq!(rollouts(&root).len(), others, "{changed} {keep}");
            }
            for name in ["a", "b"] {
                let plan = pair.run(name, &["plan", "--json"]).code(0).json();
                assert_eq!(plan["actions"], json!([]), "{changed} {keep}");
            }
        }
    }
}

/// Creates a conversation that both machines migrated to different bytes; that of the machine `longer` is longer. A fork
/// continues the version of the other machine. `a` has synced. Returns the text of the continued version.
fn migrated_twice(longer: &str) -> (Pair, String) {
    let pair = Pair::synced(&[(ROLLOUT, &format!("{META}{}", line("one")))]);
    let texts = ["a", "b"].map(|name| {
        let more = if name == longer { ",\"cwd\":\"/\"" } else { "" };
        let meta = format!("{{\"id\":\"{ID}\",\"history_mode\":\"paginated\"{more}}}");
        let meta = format!("{{\"type\":\"session_meta\",\"payload\":{meta}}}\n");
        let text = format!("{meta}{}", line("one"));
        pair.put(name, ROLLOUT, &text);
        if name != longer {
            pair.put(name, FORK, &continuation(FORK_ID, &text));
        }
        text
    });
    pair.apply("a");
    let [of_a, of_b] = texts;
    (pair, if longer == "a" { of_b } else { of_a })
}

#[test]
fn a_continued_version_is_not_replaced_by_one_that_codex_migrated() {
    for (longer, kept) in [("b", "cloud"), ("a", "local")] {
        assert_offers_are_true(|| migrated_twice(longer).0, ID, &[kept, "both"]);
        for keep in [kept, "both"] {
            let (pair, continued) = migrated_twice(longer);
            let run = pair.run("b", &["run", "--apply"]).code(2);
            let expected = format!("{CONTINUED} the {kept} version");
            assert!(run.stderr.contains(&expected), "{longer}: {run}");
            let _ = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
            for name in ["b", "a", "b"] {
                pair.apply(name);
            }
            for root in [pair.home("a"), pair.home("b"), pair.cloud()] {
                assert_eq!(texts_of_rollout(&root), [&*continued], "{longer} {keep}");
                assert!(root.join(FORK).exists(), "{longer} {keep}");
                let others = if keep == "both" { 3 } else { 2 };
                assert_eq!(rollouts(&root).len(), others, "{longer} {keep}");
            }
        }
    }
}

/// Checks that these deletions, and no others, wait for the fork.
#[track_caller]
fn assert_held(run: &Run, paths: &[&str]) {
    let json = run.json();
    let skipped = json["skipped"].as_array().expect("a list").iter();
    let held = skipped.filter(|file| file["reason"].to_string().contains("may continue it"));
    let held: Vec<_> = held
        .map(|file| {
            assert!(file["reason"].to_string().contains(FORK_ID), "{run}");
            file["path"].as_str().expect("a path")
        })
        .collect();
    assert_eq!(held, paths, "{run}");
}

/// Creates machines that share the rollouts `others`, a rollout, and a skill. `a` has published a fork that continues the
/// rollout and that is not in the cloud folder of `b` yet. Returns the machines and the text of the fork.
fn with_missing_fork(others: &[&str]) -> (Pair, String) {
    let base = one_line_at(ROLLOUT);
    let other_texts: Vec<_> = others.iter().map(|path| one_line_at(path)).collect();
    let mut files = vec![(ROLLOUT, &*base), (SKILL, "text")];
    files.extend(
        others
            .iter()
            .copied()
            .zip(other_texts.iter().map(|text| &**text)),
    );
    let pair = Pair::synced(&files);
    pair.configure("b", PROPAGATE);
    let fork = continuation(FORK_ID, &base);
    pair.put("a", FORK, &fork);
    pair.apply("a");
    fs::remove_file(pair.cloud().join(FORK)).unwrap();
    (pair, fork)
}

/// Returns the text of the conversation whose rollout is at `path`.
fn one_line_at(path: &str) -> String {
    format!("{}{}", meta_of(path), line("one"))
}

/// Returns the paths of rollouts that are older than the fork.
fn older_rollouts(count: usize) -> Vec<String> {
    let paths = (0..count).map(|n| {
        let id = ID.replace("b455", &format!("a{n:03}"));
        ROLLOUT.replace(ID, &id)
    });
    paths.collect()
}

#[test]
fn a_fork_that_cannot_be_read_yet_keeps_its_base() {
    let compressed = format!("{FORK}.zst");
    for (path, bytes) in [
        (FORK, None),
        (FORK, Some("")),
        (FORK, Some("\0\0\0\0\0\0\0\0")),
        (FORK, Some("{\"type\":\"session_meta\",\"payload\":{\"id\"")),
        (&compressed, Some("no frame of zstd")),
    ] {
        let (pair, fork) = with_missing_fork(&[]);
        if let Some(bytes) = bytes {
            pair.put("cloud", path, bytes);
        }
        fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
        let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
        assert_held(&run, &[ROLLOUT]);
        assert!(pair.cloud().join(ROLLOUT).exists(), "{bytes:?}");
        // Once it has arrived, the base comes back.
        let _ = fs::remove_file(pair.cloud().join(path));
        pair.put("cloud", FORK, &fork);
        pair.apply("b");
        assert!(pair.home("b").join(ROLLOUT).exists(), "{bytes:?}");
    }
}

#[test]
fn a_fork_that_cannot_be_read_on_this_machine_keeps_its_base() {
    for is_synced in [true, false] {
        for bytes in [
            "",
            "{\"type\":\"session_meta\",\"payload\":{\"id\"",
            "\0\0\0\0\0\0",
        ] {
            let (pair, fork) = with_missing_fork(&[]);
            pair.put("cloud", FORK, &fork);
            if is_synced {
                pair.apply("b");
            }
            pair.put("b", FORK, bytes);
            fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
            // A synced rollout that lost bytes may be a conflict, which stops the run.
            let run = pair.run("b", &["run", "--apply", "--json"]);
            assert!([2, 6].contains(&run.code), "{run}");
            assert!(pair.cloud().join(ROLLOUT).exists(), "{bytes:?}: {run}");
        }
    }
}

#[test]
fn a_fork_that_is_only_a_copy_of_the_client_keeps_its_base() {
    let (pair, fork) = with_missing_fork(&[]);
    let copy = FORK.replace(".jsonl", " (1).jsonl");
    pair.put("cloud", &copy, &fork);
    fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
    let _ = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert!(pair.cloud().join(ROLLOUT).exists());
    pair.apply("b");
    assert!(pair.home("b").join(ROLLOUT).exists());
}

#[test]
fn an_incomplete_fork_of_another_rollout_holds_back_no_deletion() {
    let (pair, fork) = with_missing_fork(&[]);
    // The fork continues another rollout, which its first line says.
    let half = fork.replace(ID, "01a1f78b-4d30-7ef3-b0ee-5caab8d3a999");
    pair.put("cloud", FORK, &half[..half.len() - 10]);
    fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(!pair.cloud().join(ROLLOUT).exists(), "{run}");
}

#[test]
fn many_deletions_are_counted_before_a_fork_holds_back_some() {
    let older = older_rollouts(10);
    let (pair, _) = with_missing_fork(&older.iter().map(|path| &**path).collect::<Vec<_>>());
    for path in older[..5].iter().map(String::as_str).chain([SKILL]) {
        fs::remove_file(pair.home("b").join(path)).unwrap();
    }
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert!(run.stderr.contains("--delete-many"), "{run}");
    assert!(pair.cloud().join(SKILL).exists(), "{run}");
    // Then only those wait that the fork may continue.
    let args = ["run", "--apply", "--json", "--delete-many"];
    let run = pair.run("b", &args).code(6);
    let held: Vec<_> = older[..5].iter().map(String::as_str).collect();
    assert_held(&run, &held);
    assert!(!pair.cloud().join(SKILL).exists(), "{run}");
    assert!(older.iter().all(|path| pair.cloud().join(path).exists()));
}

#[test]
fn a_fork_of_a_removed_machine_that_never_arrived_holds_back_no_deletion() {
    let (pair, _) = with_missing_fork(&[]);
    fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_held(&run, &[ROLLOUT]);
    // The machine that lists the fork is gone.
    let manifests = pair.cloud().join(".codex-manager/machines");
    for entry in fs::read_dir(manifests).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("a-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    pair.apply("b");
    assert!(!pair.cloud().join(ROLLOUT).exists());
}

#[test]
fn a_fork_that_only_a_former_manifest_lists_holds_back_no_deletion() {
    let base = format!("{META}{}", line("one"));
    let pair = Pair::synced(&[(ROLLOUT, &base), (SKILL, "text")]);
    pair.configure("b", PROPAGATE);
    let folders = ["codex-a", "manager-a"];
    for name in folders {
        copy_tree(&pair.0.path(name), &pair.0.path(&format!("image-{name}")));
    }
    pair.put("a", FORK, &continuation(FORK_ID, &base));
    pair.apply("a");
    fs::remove_file(pair.cloud().join(FORK)).unwrap();
    // The machine is put back, and has no fork any more.
    for name in folders {
        fs::remove_dir_all(pair.0.path(name)).unwrap();
        copy_tree(&pair.0.path(&format!("image-{name}")), &pair.0.path(name));
    }
    pair.apply("a");
    fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
    pair.apply("b");
    assert!(!pair.cloud().join(ROLLOUT).exists());
}

#[test]
fn a_fork_that_has_not_arrived_holds_back_no_decision() {
    let pair = Pair::new();
    let [_, of_b] = pair.diverge();
    pair.configure("b", PROPAGATE);
    let name = FORK.rsplit('/').next().expect("a name");
    let placeholder = FORK.replace(name, &format!(".{name}.icloud"));
    pair.put("cloud", &placeholder, "x");
    let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
    assert_eq!(pair.text("cloud", ROLLOUT), of_b);
}

#[test]
fn a_fork_that_is_not_downloaded_keeps_its_base() {
    let base = one_line_at(ROLLOUT);
    let newer_id = FORK_ID.replace("b456", "b457");
    let newer = FORK.replace(FORK_ID, &newer_id);
    let newer_text = one_line_at(&newer);
    let pair = Pair::synced(&[(ROLLOUT, &base), (&newer, &newer_text), (SKILL, "text")]);
    for name in ["a", "b"] {
        pair.configure(name, PROPAGATE);
    }
    pair.put("a", FORK, &continuation(FORK_ID, &base));
    pair.apply("a");
    let fork = pair.cloud().join(FORK);
    let name = fork.file_name().expect("a name").to_string_lossy();
    let placeholder = fork.with_file_name(format!(".{name}.icloud"));
    fs::rename(&fork, &placeholder).unwrap();
    for path in [ROLLOUT, &newer] {
        fs::remove_file(pair.home("b").join(path)).unwrap();
    }
    let args = ["run", "--apply", "--json", "--delete-many"];
    let run = pair.run("b", &args).code(6);
    // No rollout continues a newer one.
    assert!(!pair.cloud().join(&newer).exists(), "{run}");
    assert_held(&run, &[ROLLOUT]);
    assert_eq!(pair.text("cloud", ROLLOUT), base);
    // Once the fork is downloaded, the base comes back.
    fs::rename(&placeholder, &fork).unwrap();
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), base);
    // Without anything that continues it, the deletion is done.
    for path in [FORK, ROLLOUT] {
        fs::remove_file(pair.home("b").join(path)).unwrap();
    }
    let _ = pair.run("b", &["run", "--apply", "--delete-many"]).code(0);
    assert_eq!(rollouts(&pair.cloud()), Vec::<PathBuf>::new());
}

#[test]
fn a_file_that_is_no_conversation_cannot_be_kept_in_both_versions() {
    let pair = Pair::synced(&[(SKILL, "text")]);
    for name in ["a", "b"] {
        pair.put(name, SKILL, name);
    }
    pair.apply("a");
    for args in [&["--dry-run"][..], &[]] {
        let args = [&["resolve", SKILL, "--keep", "both"], args].concat();
        let _ = pair.run("b", &args).code(4);
    }
}

#[test]
fn resolve_says_why_a_version_of_a_rewind_cannot_be_kept() {
    // A fork continues the version of `b` of a rewind.
    let rewound = ROLLOUT.replace(".jsonl", &format!("_{FORK_ID}.jsonl"));
    let pair = Pair::synced(&[(&rewound, META)]);
    let texts = ["of a", "of b, longer"].map(|text| format!("{META}{}", line(text)));
    for (name, text) in ["a", "b"].into_iter().zip(&texts) {
        pair.put(name, &rewound, text);
    }
    let [other_id, other] = [FORK_ID, FORK].map(|text| text.replace("01a1f7c2", "01a1f7c3"));
    let fork = continuation(&other_id, &texts[1]).replace(ID, FORK_ID);
    pair.put("b", &other, &fork);
    pair.apply("a");
    for (keep, reason) in [("both", "rewound conversation"), ("cloud", CONTINUED)] {
        let run = pair
            .run("b", &["resolve", &rewound, "--keep", keep])
            .code(1);
        let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(reason), "{keep}: {run}");
        assert_eq!(text.contains(CONTINUED), keep == "cloud", "{run}");
    }
}

#[test]
fn resolve_offers_exactly_the_versions_that_can_be_kept_with_a_conflict_copy() {
    let with_copy = || {
        let pair = Pair::new();
        pair.configure("b", &policy("prefer_local"));
        pair.diverge();
        pair.apply("b");
        pair
    };
    assert_offers_are_true(with_copy, ID, &["local", "fork", "both"]);
    // A fork continues the version that the copy would replace.
    let continued = || {
        let pair = with_copy();
        let base = pair.text("b", ROLLOUT);
        pair.put("b", FORK, &continuation(FORK_ID, &base));
        pair
    };
    assert_offers_are_true(continued, ID, &["local", "both"]);
    // The conversation is not on this machine.
    let without = || {
        let pair = with_copy();
        fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
        pair
    };
    assert_offers_are_true(without, ID, &["local"]);
}

#[test]
fn both_versions_are_kept_where_a_fork_continues_one() {
    for forked in ["a", "b"] {
        let (pair, [of_a, of_b]) = diverged_base(forked, [Form::Plain; 2]);
        let both = ["resolve", ID, "--keep", "both", "--json"];
        let new_id = pair.run("b", &both).code(0).json()["new_id"].clone();
        let new_id = new_id.as_str().expect("an id");
        for name in ["b", "a", "b"] {
            pair.apply(name);
        }
        let (kept, other) = if forked == "a" {
            (of_a, of_b)
        } else {
            (of_b, of_a)
        };
        for name in ["a", "b"] {
            assert_eq!(pair.text(name, ROLLOUT), kept);
            let new = rollouts_of(&pair.home(name), &[new_id]).remove(0);
            let text = fs::read_to_string(new).unwrap();
            assert_eq!(text, other.replace(ID, new_id));
        }
    }
}

#[test]
fn the_command_that_resolve_suggests_shows_the_snapshot_and_undoes_nothing() {
    for keep in ["local", "cloud"] {
        let pair = Pair::new();
        pair.configure("b", "[sync]\ndry_run_default = false\n");
        let [of_a, of_b] = pair.diverge();
        let run = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
        let kept = if keep == "local" { of_b } else { of_a };
        let assert_kept = || {
            for root in ["b", "cloud"] {
                assert_eq!(pair.text(root, ROLLOUT), kept, "{keep}");
            }
        };
        assert_kept();
        let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, hint) = text
            .split_once(" sync restore ")
            .unwrap_or_else(|| panic!("no hint: {run}"));
        // The command ends with the configuration, which `Pair::run` names too.
        let hint = hint.split(' ').take_while(|word| *word != "-c");
        let args: Vec<_> = std::iter::once("restore").chain(hint).collect();
        let shown = pair.run("b", &args).code(0);
        assert!(shown.stdout.contains(ROLLOUT), "{shown}");
        assert_kept();
    }
}
