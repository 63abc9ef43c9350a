//! Random trees of files with random changes between backups. `restore`, and any tar, recreate the
//! archived tree exactly.

use crate::support::archives::{COPYING, create_archive, open_source, restore_archive};
use crate::support::env::{TestEnv, Tree, assert_same_tree};
use crate::support::variables::{self, SEED};
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::manifest::ArchiveManifest;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const MIB: usize = 1 << 20;

/// Sizes around each limit of the format, in bytes.
const SIZES: [usize; 15] = [
    0,
    1,
    511,
    512,
    513,
    5000,
    MIB - 1,
    MIB,
    MIB + 1,
    4 * MIB - 1,
    4 * MIB,
    4 * MIB + 1,
    8 * MIB,
    8 * MIB + 512,
    9 * MIB + 7,
];

/// Targets of links, most of them in the home. `~` stands for its path.
const LINKS: [&[u8]; 10] = [
    b"some where/else",
    b"no text \xff\xfe",
    b"./a//b/",
    b"a/../b",
    &[b'l'; 120],
    b"~",
    b"~/prompts/../mine",
    b"~/prompts/../../mine",
    b"../../../../mine",
    b"/no/such/place",
];

/// Names that Codex uses, and names that only look like them.
const TOPS: [&str; 13] = [
    "auth.json",
    "config.toml",
    "Config.toml",
    "CONFIG.TOML",
    "installation_id",
    "state_5.sqlite",
    "mine.sqlite",
    "sqlite",
    "Skills",
    "SKILLS",
    "AGENTS.override.md",
    "history.jsonl",
    "version.json",
];

/// An entry below the home.
#[derive(Clone, Debug)]
enum Node {
    File { size: usize, seed: u64, mode: u32 },
    Folder(u32),
    Link(&'static [u8]),
}

/// A change of a file, which is given by its index among the existing ones.
#[derive(Clone, Debug)]
enum Change {
    Append(usize, usize),
    Truncate(usize),
    /// Other bytes with the same size and modification time.
    InPlace(usize),
    /// A different file at the same path, with the same size and time.
    Replace(usize),
    Delete(usize),
    Add(PathBuf, Node),
    Rename(usize, PathBuf),
    Mode(usize, u32),
    Touch(usize, u32),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z]{1,8}",
        1 => "[ a-zé\n\t\\\\'\"*?-]{1,12}",
    ]
    .prop_map(String::into_bytes)
    .boxed()
    .prop_union(
        prop_oneof![
            prop::collection::vec(1..=255_u8, 1..40),
            (1..=255_usize).prop_map(|n| vec![b'l'; n]),
        ]
        .boxed(),
    )
    .prop_filter_map("a plain name", |name| {
        let is_plain = !name.contains(&b'/') && name != b"." && name != b"..";
        is_plain.then_some(name)
    })
}

/// Paths below folders of Codex and of the user, and at paths where Codex has files.
fn path() -> impl Strategy<Value = PathBuf> {
    let top = prop::sample::select(vec!["skills", "prompts", "mine", "sessions/2026"]);
    let odd = prop::sample::select(TOPS.to_vec());
    let below = prop_oneof![
        4 => (top, prop::collection::vec(name(), 1..4)),
        1 => (odd, prop::collection::vec(name(), 1..3)),
    ];
    let known = prop::sample::select(vec!["x.sqlite", "state_5.sqlite", "auth.json"]);
    prop_oneof![
        10 => below.prop_map(|(top, names)| {
            let mut path = PathBuf::from(top);
            path.extend(names.iter().map(|n| OsStr::from_bytes(n)));
            path
        }),
        1 => known.prop_map(|name| Path::new("sqlite").join(name)),
        // `auth.json` is excluded: as a file it would have to be a login.
        1 => prop::sample::select(TOPS[1..].to_vec()).prop_map(PathBuf::from),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let size = prop_oneof![5 => 0..6_usize, 2 => 6..SIZES.len()].prop_map(|i| SIZES[i]);
    let mode = prop::sample::select(vec![0o600, 0o644, 0o755, 0o444, 0o400]);
    prop_oneof![
        8 => (size, any::<u64>(), mode).prop_map(|(size, seed, mode)| Node::File { size, seed, mode }),
        1 => prop::sample::select(vec![0o755, 0o700, 0o555, 0o077, 0]).prop_map(Node::Folder),
        1 => prop::sample::select(LINKS.to_vec()).prop_map(Node::Link),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let which = any::<prop::sample::Index>().prop_map(|i| i.index(1 << 20));
    let by = prop::sample::select(vec![1, 511, 512, 70_000, MIB, 4 * MIB]);
    prop_oneof![
        3 => (which.clone(), by).prop_map(|(i, by)| Change::Append(i, by)),
        1 => which.clone().prop_map(Change::Truncate),
        3 => which.clone().prop_map(Change::InPlace),
        1 => which.clone().prop_map(Change::Replace),
        1 => which.clone().prop_map(Change::Delete),
        2 => (path(), node()).prop_map(|(path, node)| Change::Add(path, node)),
        1 => (which.clone(), path()).prop_map(|(i, path)| Change::Rename(i, path)),
        1 => (which.clone(), prop::sample::select(vec![0o600, 0o640])).prop_map(|(i, m)| Change::Mode(i, m)),
        1 => (which, any::<u32>()).prop_map(|(i, at)| Change::Touch(i, at)),
    ]
}

/// Bytes that compress, and differ between seeds and positions.
fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut block = [0; 4096];
    let mut state = seed | 1;
    for byte in &mut block[..512] {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[0];
    }
    let mut bytes = Vec::with_capacity(size + block.len());
    while bytes.len() < size {
        block[..8].copy_from_slice(&(bytes.len() as u64 ^ seed).to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(size);
    bytes
}

/// Returns the target of a link in this home.
fn target_in(home: &Path, target: &[u8]) -> PathBuf {
    match target.strip_prefix(b"~") {
        Some(rest) => {
            let mut text = home.as_os_str().to_owned();
            text.push(OsStr::from_bytes(rest));
            text.into()
        }
        None => OsStr::from_bytes(target).into(),
    }
}

/// Creates the entry. Does nothing if the name is taken, or if a parent is a file.
fn create_node(home: &Path, path: &Path, node: &Node) {
    let path = home.join(path);
    let parent = path.parent().expect("parent");
    if path.symlink_metadata().is_ok() || fs::create_dir_all(parent).is_err() {
        return;
    }
    match node {
        Node::Folder(mode) => {
            if fs::create_dir(&path).is_ok() {
                // Unreadable entries have tests of their own.
                let root = rustix::process::geteuid().is_root();
                set_mode(&path, if root { *mode } else { mode | 0o700 });
            }
        }
        Node::Link(target) => symlink(target_in(home, target), path).unwrap_or(()),
        Node::File { size, seed, mode } => {
            if let Ok(mut file) = File::create(&path) {
                file.write_all(&content(*size, *seed)).expect("write");
                set_mode(&path, *mode);
                set_time(&file, seed.to_le_bytes()[0].into(), *seed);
            }
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn set_time(file: &File, days: u64, nanos: u64) {
    let nanos = u32::try_from(nanos % 1_000_000_000).expect("in range");
    let at = SystemTime::UNIX_EPOCH + Duration::new(days * 86_400, nanos);
    file.set_modified(at).expect("set time");
}

/// Returns all files, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder).expect("list").flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().expect("kind");
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

fn apply(home: &Path, change: &Change) {
    let all = files(home);
    let pick = |i: usize| all.get(i % all.len().max(1)).cloned();
    let open = |path: &Path| {
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("open")
    };
    match change {
        Change::Add(path, node) => create_node(home, path, node),
        Change::Append(i, by) => {
            let Some(path) = pick(*i) else { return };
            let mut file = File::options().append(true).open(path).expect("open");
            file.write_all(&content(*by, 7)).expect("append");
        }
        Change::Truncate(i) => {
            let Some(path) = pick(*i) else { return };
            let file = open(&path);
            file.set_len(file.metadata().expect("meta").len() / 2)
                .expect("truncate");
        }
        Change::InPlace(i) => {
            let Some(path) = pick(*i) else { return };
            let file = open(&path);
            let meta = file.metadata().expect("meta");
            if meta.len() > 0 {
                let mut byte = [0];
                let at = meta.len() / 2;
                file.read_exact_at(&mut byte, at).expect("read");
                file.write_all_at(&[byte[0] ^ 1], at).expect("write");
                file.set_modified(meta.modified().expect("time"))
                    .expect("set time");
            }
        }
        Change::Replace(i) => {
            let Some(path) = pick(*i) else { return };
            let meta = path.metadata().expect("meta");
            let beside = home.join("beside");
            let mut file = File::create(&beside).expect("create");
            let size = usize::try_from(meta.len()).expect("in range");
            file.write_all(&content(size, 99)).expect("write");
            file.set_modified(meta.modified().expect("time"))
                .expect("set time");
            fs::set_permissions(&beside, meta.permissions()).expect("chmod");
            fs::rename(beside, path).expect("rename");
        }
        Change::Delete(i) => {
            if let Some(path) = pick(*i) {
                fs::remove_file(path).expect("remove");
            }
        }
        Change::Rename(i, to) => {
            let Some(path) = pick(*i) else { return };
            let to = home.join(to);
            if to.symlink_metadata().is_err()
                && fs::create_dir_all(to.parent().expect("parent")).is_ok()
            {
                let _ = fs::rename(path, to);
            }
        }
        Change::Mode(i, mode) => {
            if let Some(path) = pick(*i) {
                set_mode(&path, *mode);
            }
        }
        Change::Touch(i, at) => {
            if let Some(path) = pick(*i) {
                set_time(
                    &File::open(path).expect("open"),
                    u64::from(at % 20_000),
                    u64::from(*at),
                );
            }
        }
    }
}

/// Returns the tree without its root and without entries that only this program's archives hold.
fn tree_below(folder: &Path) -> Tree {
    let mut tree = Tree::of(folder);
    tree.0
        .retain(|path, _| !path.as_os_str().is_empty() && !path.starts_with(".codex-manager"));
    tree
}

/// Returns the tree that a restore has to create: everything except what the archive lists as
/// skipped. A link into the home follows the home's path, and every folder is accessible to its
/// owner.
fn expected(home: &Path, manifest: &ArchiveManifest) -> Tree {
    let mut tree = tree_below(home);
    let lacks = |path: &Path| {
        let mut skipped = manifest.skipped.iter();
        skipped.any(|s| path.starts_with(s.as_path()))
    };
    tree.0.retain(|path, _| !lacks(path));
    for (path, text) in &mut tree.0 {
        if let Some(mode) = text.strip_prefix("folder ") {
            let mode = u32::from_str_radix(mode, 8).expect("a mode");
            *text = format!("folder {:o}", mode | 0o700);
        } else if let Some(target) = text.strip_prefix("link ")
            && let Ok(rest) = Path::new(target).strip_prefix(home)
        {
            let up = path.components().skip(1).map(|_| "..");
            let target = up.collect::<PathBuf>().join(rest);
            let is_home = target.as_os_str().is_empty();
            let target = if is_home { Path::new(".") } else { &target };
            *text = format!("link {}", target.display());
        }
    }
    tree
}

/// Truncates times to whole seconds, as in tar headers.
fn in_seconds(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for text in tree.0.values_mut() {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        if words[0] == "file" {
            let seconds = words[3].split('.').next().unwrap_or_default();
            *text = [&words[..3], &[seconds.to_owned()], &words[4..]]
                .concat()
                .join(" ");
        }
    }
    tree
}

fn untar(env: &TestEnv, archive: &Path, into: &str) -> PathBuf {
    let folder = env.path(into);
    fs::create_dir(&folder).expect("folder");
    let status = Command::new("tar")
        .arg("-xpzf")
        .arg(archive)
        .args(["--no-same-owner", "-C"])
        .arg(&folder)
        .status()
        .expect("tar");
    assert!(status.success(), "tar: {status}");
    folder
}

fn check(nodes: &[(PathBuf, Node)], rounds: &[Vec<Change>]) {
    let env = TestEnv::new();
    let home = env.codex_home();
    fs::create_dir_all(&home).expect("folder");
    for (path, node) in nodes {
        create_node(&home, path, node);
    }
    // Restoring an empty archive is refused.
    let always = Node::File {
        size: 1,
        seed: 1,
        mode: 0o600,
    };
    create_node(&home, Path::new("AGENTS.md"), &always);
    let first = create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    let mut archives = vec![(first.0.clone(), expected(&home, &first.1.manifest))];
    assert_deterministic(&env, &first.0);
    for (i, changes) in rounds.iter().enumerate() {
        for change in changes {
            apply(&home, change);
        }
        create_node(&home, Path::new("AGENTS.md"), &always);
        let source = open_source(&archives[i].0, COPYING).expect("a source");
        let name = format!("{}.tar.gz", i + 1);
        let taken =
            create_archive(&env, &name, Compression::Default, Some(&source)).expect("archived");
        archives.push((taken.0, expected(&home, &taken.1.manifest)));
    }
    for (i, (archive, tree)) in archives.iter().enumerate() {
        let restored = restore_archive(&env, archive, &format!("restored-{i}"));
        assert_same_tree(tree, &tree_below(&restored));
        let unpacked = untar(&env, archive, &format!("unpacked-{i}"));
        assert_same_tree(&in_seconds(tree), &in_seconds(&tree_below(&unpacked)));
    }
}

/// Asserts that a second backup of the same home has the same members.
fn assert_deterministic(env: &TestEnv, first: &Path) {
    let (again, packed) =
        create_archive(env, "again.tar.gz", Compression::Default, None).expect("archived");
    let (first, again) = (
        fs::read(first).expect("read"),
        fs::read(again).expect("read"),
    );
    let members = packed.manifest.members.last();
    let end = usize::try_from(members.map_or(0, |m| m.offset + m.len)).expect("in range");
    assert!(first[..end] == again[..end]);
}

#[test]
fn any_tree_is_restored_from_each_of_its_archives() {
    let cases = u32::try_from(variables::sequences(24)).expect("in range");
    let seed = variables::seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let nodes = prop::collection::vec((path(), node()), 0..14);
    let rounds = prop::collection::vec(prop::collection::vec(change(), 0..6), 0..3);
    let outcome = TestRunner::new_with_rng(config, rng).run(&(nodes, rounds), |(nodes, rounds)| {
        check(&nodes, &rounds);
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{SEED}={seed}: {e}");
    }
}
