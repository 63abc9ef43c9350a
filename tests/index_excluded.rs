//! The search index stays on its machine: no backup, export, sync or vault contains it.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::restic;
use crate::vault::{run_restic, set_up};
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Returns the file of the index.
fn index(env: &TestEnv) -> PathBuf {
    let folder = fs::read_dir(env.manager_home().join("index")).expect("list");
    let mut paths = folder.map(|entry| entry.expect("entry").path());
    let index = paths.find(|path| path.extension().is_some_and(|e| e == "sqlite"));
    index.expect("an index")
}

/// Returns a home with a searched conversation, and the name of the index.
fn searched_home() -> (TestEnv, String) {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "zebracrossing"));
    let _ = env.run(["find", "needle"]).code(0);
    let name = index(&env).file_name().expect("a name").to_owned();
    (env, name.to_str().expect("text").to_owned())
}

/// Returns the names and contents in an archive.
fn unpacked(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("read");
    let mut plain = Vec::new();
    match MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain) {
        Ok(_) => plain,
        Err(_) => bytes,
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

#[test]
fn backups_and_exports_do_not_contain_the_index() {
    let (env, name) = searched_home();
    let _ = env.run(["backup", "--no-status"]).code(0);
    let backups = walkdir::WalkDir::new(env.manager_home().join("backups"));
    let archives: Vec<_> = backups
        .into_iter()
        .map(|entry| entry.expect("entry").into_path())
        .filter(|path| path.extension().is_some_and(|e| e == "gz"))
        .collect();
    assert!(!archives.is_empty());
    for archive in archives {
        let content = unpacked(&archive);
        assert!(
            contains(&content, &id(1)),
            "the archive lacks the conversation"
        );
        assert!(!contains(&content, &name), "{}", archive.display());
    }
    let out = env.path("all.export");
    let _ = env
        .run(["profile", "export", out.to_str().expect("text")])
        .code(0);
    let content = unpacked(&out);
    assert!(contains(&content, "schema"), "the export is empty");
    for part in [&*name, "zebracrossing", "index/"] {
        assert!(!contains(&content, part), "{part}");
    }
}

#[test]
fn syncs_and_vaults_do_not_contain_the_index() {
    let (mut env, name) = searched_home();
    let config = format!(
        "[identity]\nmachine_id = \"a\"\n[paths]\ncloud_root_dir = {:?}\nlocal_state_dir = {:?}\n\
         backup_dir = {:?}\n",
        env.path("cloud"),
        env.codex_home(),
        env.path("saved"),
    );
    env.write("sync.toml", config);
    fs::create_dir_all(env.path("cloud")).expect("folder");
    let _ = env
        .run(["sync", "-c", "sync.toml", "run", "--apply"])
        .code(0);
    let cloud = walkdir::WalkDir::new(env.path("cloud"));
    let files: Vec<_> = cloud
        .into_iter()
        .map(|entry| entry.expect("entry").into_path().display().to_string())
        .collect();
    assert!(files.iter().any(|file| file.contains(&id(1))), "{files:?}");
    assert!(!files.iter().any(|file| file.contains(&name)), "{files:?}");
    if restic::program().is_none() {
        return;
    }
    set_up(&mut env);
    let _ = env.run(["vault", "backup"]).code(0);
    let files = run_restic(&env, &["ls", "latest"]).code(0).stdout;
    assert!(files.contains(&id(1)), "{files}");
    assert!(!files.contains(&name), "{files}");
}
