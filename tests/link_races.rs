//! A process that exchanges a folder with a link, again and again, while commands work in it: nothing outside is read
//! into an archive, the index or the cloud folder, and nothing is written or moved there.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::pair::Pair;
use crate::support::sample::{put, sample_home};
use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A text of the files outside.
const OUTSIDE: &str = "text-from-outside";

const FOLDER: &str = "skills/mine/deep";

/// Returns the names of the files in the folder, and outside.
fn names() -> impl Iterator<Item = String> {
    (0..4).map(|n| format!("{n}.md"))
}

fn outside(env: &TestEnv) -> PathBuf {
    for name in names() {
        env.write(&format!("outside/{name}"), OUTSIDE);
    }
    env.path("outside")
}

/// A thread that exchanges a folder with a link until this is dropped. Then the folder is in its place.
struct Exchanging {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    paths: [PathBuf; 2],
}

fn exchange(paths: &[PathBuf; 2]) {
    // A command may have moved the folder away.
    let _ = renameat_with(CWD, &paths[0], CWD, &paths[1], RenameFlags::EXCHANGE);
}

impl Exchanging {
    fn start(env: &TestEnv, folder: &Path, target: &Path) -> Self {
        let link = env.path("link");
        // A restore that replaced the home while the link was in it leaves the folder here.
        let _ = fs::remove_file(&link);
        let _ = fs::remove_dir_all(&link);
        symlink(target, &link).unwrap();
        let paths = [folder.to_path_buf(), link];
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (is_over, paths) = (Arc::clone(&is_over), paths.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    exchange(&paths);
                }
            }
        });
        Self {
            is_over,
            thread: Some(thread),
            paths,
        }
    }
}

impl Drop for Exchanging {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        if self.paths[0].is_symlink() {
            exchange(&self.paths);
        }
    }
}

#[track_caller]
fn assert_orderly(run: &Run) {
    assert!((0..=6).contains(&run.code), "{run}");
}

/// Asserts that no archive in the backups folder has a text from outside.
#[track_caller]
fn assert_no_archive_leaks(env: &TestEnv) {
    let backups = fs::read_dir(env.manager_home().join("backups")).unwrap();
    let archives = backups.map(|entry| entry.unwrap().path());
    let archives = archives.filter(|path| path.extension().is_some_and(|end| end == "gz"));
    let mut count = 0;
    for archive in archives {
        let mut bytes = Vec::new();
        let mut reader = MultiGzDecoder::new(File::open(&archive).unwrap());
        // What follows the members is the index of the archive.
        let _ = reader.read_to_end(&mut bytes);
        assert!(!bytes.is_empty());
        let leaks = memchr::memmem::find(&bytes, OUTSIDE.as_bytes()).is_some();
        assert!(!leaks, "{}", archive.display());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_sync_during_link_swaps_writes_nothing_outside_the_cloud_folder() {
    let pair = Pair::new();
    for name in names() {
        pair.put("a", &format!("{FOLDER}/{name}"), "first");
    }
    pair.apply("a");
    let outside = outside(&pair.0);
    let before = Tree::of(&outside);
    for n in 0..80 {
        pair.put("a", &format!("{FOLDER}/{}.md", n % 4), &format!("run {n}"));
        pair.put("a", &format!("{FOLDER}/new-{n}.md"), "new");
        let exchanging = Exchanging::start(&pair.0, &pair.cloud().join(FOLDER), &outside);
        let run = pair.run("a", &["run", "--apply"]);
        drop(exchanging);
        assert_orderly(&run);
        assert_same_tree(&before, &Tree::of(&outside));
    }
    let left = pair.run("a", &["run", "--apply"]);
    assert_orderly(&left);
    assert_eq!(pair.text("cloud", &format!("{FOLDER}/new-79.md")), "new");
    for name in names() {
        assert!(
            !pair
                .text("a", &format!("{FOLDER}/{name}"))
                .contains(OUTSIDE)
        );
    }
}

#[test]
fn a_backup_during_link_swaps_contains_no_file_from_outside() {
    let env = TestEnv::new();
    sample_home(&env);
    for name in names() {
        put(&env, format!("{FOLDER}/{name}"), "the skill");
    }
    let outside = outside(&env);
    for n in 0..40 {
        put(&env, "AGENTS.md", format!("run {n}"));
        let exchanging = Exchanging::start(&env, &env.codex_home().join(FOLDER), &outside);
        let run = env.run(["backup", "--no-status"]);
        drop(exchanging);
        assert_orderly(&run);
    }
    assert_no_archive_leaks(&env);
}

#[test]
fn a_restore_during_link_swaps_changes_nothing_outside() {
    let env = TestEnv::new();
    sample_home(&env);
    for name in names() {
        put(&env, format!("{FOLDER}/{name}"), "the skill");
    }
    let run = env.run(["backup", "--no-status", "--json"]).code(0).json();
    let archive = run["archive"].as_str().unwrap().to_owned();
    let outside = outside(&env);
    let before = Tree::of(&outside);
    for n in 0..40 {
        for name in names() {
            put(&env, format!("{FOLDER}/{name}"), format!("run {n}"));
        }
        put(&env, format!("{FOLDER}/new-{n}.md"), "new");
        let exchanging = Exchanging::start(&env, &env.codex_home().join(FOLDER), &outside);
        let run = env.run(["restore", &archive, "--yes"]);
        drop(exchanging);
        assert_orderly(&run);
        assert_same_tree(&before, &Tree::of(&outside));
    }
    assert_no_archive_leaks(&env);
}

#[test]
fn the_index_and_the_trash_take_no_conversation_from_outside_during_link_swaps() {
    let env = TestEnv::new();
    let conversation = Conversation::new(1, 60, "one", "two");
    let path = write(&env, &conversation);
    let outside = env.path("outside");
    fs::create_dir(&outside).unwrap();
    let theirs = fs::read_to_string(&path).unwrap().replace("one", OUTSIDE);
    fs::write(outside.join(path.file_name().unwrap()), theirs).unwrap();
    let before = Tree::of(&outside);
    let id = id(1);
    let folder = path.parent().unwrap();
    let during = |args: &[&str]| {
        let exchanging = Exchanging::start(&env, folder, &outside);
        let run = env.run(args);
        drop(exchanging);
        assert_orderly(&run);
        assert_same_tree(&before, &Tree::of(&outside));
        run
    };
    for n in 0..20 {
        if path.exists() {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("two", &format!("two {n}"))).unwrap();
        }
        let found = during(&["find", OUTSIDE, "--json"]);
        assert!(!found.stdout.contains(&id), "{found}");
        let _ = if n % 2 == 0 {
            during(&["storage", "trash", &id, "--yes"])
        } else {
            during(&["storage", "undelete", &id, "--yes"])
        };
    }
    let _ = env.run(["storage", "undelete", &id, "--yes"]);
    assert!(!fs::read_to_string(&path).unwrap().contains(OUTSIDE));
}
