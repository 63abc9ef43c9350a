//! The links to conversations that a run through the vault keeps for the next one.

use crate::support::pair::{META, ROLLOUT, SKILL, meta_of};
use crate::sync_vault::Machines;
use crate::vault_faults::replace_verb;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const OTHER: &str =
    "sessions/2026/07/01/rollout-2026-07-01T10-00-00-0199d101-7d2f-7aa0-8000-000000000002.jsonl";

/// Returns the folder of the links, if there is one.
fn kept(machines: &Machines) -> Option<PathBuf> {
    let folders = fs::read_dir(machines.0.path("manager-a/sync/staging/kept")).ok()?;
    let mut folders = folders.map(|folder| folder.unwrap().path());
    folders.next()
}

/// Returns the inode and the ctime of each kept file.
fn links(machines: &Machines) -> BTreeMap<String, (u64, i64, i64)> {
    let root = kept(machines).expect("a run kept its links");
    let entries = walkdir::WalkDir::new(&root).into_iter();
    let files = entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    let stat = |entry: walkdir::DirEntry| {
        let meta = entry.metadata().unwrap();
        let path = entry.path().strip_prefix(&root).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (path, (meta.ino(), meta.ctime(), meta.ctime_nsec()))
    };
    files.map(stat).collect()
}

fn inode(machines: &Machines, path: &str) -> u64 {
    machines.home("a").join(path).metadata().unwrap().ino()
}

#[test]
fn the_next_run_reuses_the_links_of_the_last_run_and_links_only_changed_files() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.put("a", OTHER, &meta_of(OTHER));
    machines.put("a", SKILL, "copied, because editors write in place");
    machines.apply("a");
    let first = links(&machines);
    let paths: Vec<_> = first.keys().map(String::as_str).collect();
    assert_eq!(paths, [OTHER, ROLLOUT]);
    for (path, (inode_of_link, ..)) in &first {
        assert_eq!(*inode_of_link, inode(&machines, path), "{path}");
    }
    // Codex appends in place, so the link shows it before the run.
    let longer = format!("{META}{{\"n\":1}}\n");
    machines.put("a", ROLLOUT, &longer);
    let plan = machines.sync("a", &["plan"]).code(0);
    assert!(plan.stdout.contains("longer on this machine"), "{plan}");
    machines.apply("a");
    let second = links(&machines);
    assert_eq!(second[OTHER], first[OTHER], "no link was made");
    assert_eq!(second[ROLLOUT].0, inode(&machines, ROLLOUT));
    machines.apply("b");
    assert_eq!(machines.text("b", ROLLOUT), longer);
    assert_eq!(machines.text("b", OTHER), meta_of(OTHER));
    // A run with what another machine changed.
    let longest = format!("{longer}{{\"n\":2}}\n");
    machines.put("b", ROLLOUT, &longest);
    machines.apply("b");
    machines.apply("a");
    assert_eq!(machines.text("a", ROLLOUT), longest);
    machines.put("a", SKILL, "another text");
    machines.apply("a");
    let third = links(&machines);
    assert_eq!(third[OTHER], first[OTHER]);
    assert_eq!(third[ROLLOUT].0, inode(&machines, ROLLOUT));
}

#[test]
fn a_plan_after_an_idle_run_stages_nothing() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    machines.apply("a");
    // Staging removes what was not published.
    let mark = kept(&machines).unwrap().join("mark");
    fs::write(&mark, "").unwrap();
    let plan = machines.sync("a", &["plan"]).code(0);
    assert!(mark.exists(), "{plan}");
    machines.put("a", SKILL, "new");
    machines.sync("a", &["plan"]).code(0);
    assert!(!mark.exists());
}

#[test]
fn a_plan_on_a_new_machine_keeps_no_links() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("b", ROLLOUT, META);
    machines.apply("b");
    machines.put("a", OTHER, &meta_of(OTHER));
    machines.sync("a", &["run", "--dry-run"]).code(0);
    assert_eq!(kept(&machines), None);
}

#[test]
fn a_compressed_conversation_is_not_downloaded_by_each_run() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    let plain = machines.home("a").join(ROLLOUT);
    let compressed = zstd::encode_all(META.as_bytes(), 3).unwrap();
    fs::write(plain.with_extension("jsonl.zst"), compressed).unwrap();
    fs::remove_file(&plain).unwrap();
    machines.apply("a");
    replace_verb(&machines.0, "restore", "echo 'Fatal: download' >&2; exit 1");
    machines.put("a", OTHER, &meta_of(OTHER));
    machines.apply("a");
    // Codex makes it plain again when it resumes it.
    fs::remove_file(plain.with_extension("jsonl.zst")).unwrap();
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    fs::remove_file(machines.0.path("bin/restic")).unwrap();
    machines.apply("b");
    assert_eq!(machines.text("b", ROLLOUT), META);
    assert_eq!(machines.text("b", OTHER), meta_of(OTHER));
}

#[test]
fn the_next_run_removes_the_links_to_deleted_conversations_and_one_through_a_folder_all_links() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let settings = fs::read_to_string(machines.0.path("a.toml")).unwrap();
    machines.0.write(
        "a.toml",
        settings.replace("[sync]\n", "[sync]\ndelete_policy = \"propagate\"\n"),
    );
    machines.put("a", ROLLOUT, META);
    machines.put("a", OTHER, &meta_of(OTHER));
    machines.apply("a");
    fs::remove_file(machines.home("a").join(OTHER)).unwrap();
    machines.apply("a");
    let left = links(&machines);
    for (path, (of_link, ..)) in &left {
        let of_home = machines.home("a").join(path).metadata();
        let of_home = of_home.map(|meta| meta.ino()).ok();
        assert_eq!(of_home, Some(*of_link), "{path}");
    }
    // A machine that goes back to a folder needs none.
    let cloud = machines.0.path("cloud");
    fs::create_dir_all(&cloud).unwrap();
    let settings = settings.replace("remote = \"vault\"\n", "").replace(
        "[paths]\n",
        &format!("[paths]\ncloud_root_dir = {cloud:?}\n"),
    );
    machines.0.write("a.toml", settings);
    let run = machines.command("a", &["run", "--apply"]).output().unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert_eq!(kept(&machines), None);
}
