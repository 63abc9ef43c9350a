//! Hostile archives: `restore` and `verify` refuse them and write nothing.

use crate::support::create_pipe;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::hostile::{Entry, Parts, bomb, digest, gzip, journal_naming};
use crate::support::sample::{
    alice, assert_same_home, backup, put, sample_home, state_database, text,
};
use crate::support::sign_in::auth_json;
use codex_manager_core::archive::footer;
use codex_manager_core::archive::reader::ArchiveReader;
use codex_manager_core::archive::verify::verify;
use codex_manager_core::io::progress::Silent;
use serde_json::json;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

pub(crate) const NAME: &str = "evil/2026-11-20-120000-alice@example.com-codex.tar.gz";

/// Message of the indexed reader for an entry that the manifest does not list.
const UNEXPECTED_ENTRY: &str = "not the entry that the manifest lists";
/// Message for an index that lists more than a member can hold.
const MEMBER_TOO_SMALL: &str = "files that are larger than their member";

/// One change of an archive.
type Edit = fn(&mut Parts);

/// A home with a valid archive of it.
pub(crate) struct HostileTest {
    pub(crate) env: TestEnv,
    pub(crate) good: Vec<u8>,
}

impl HostileTest {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// Like `new`, with additional files in the home.
    pub(crate) fn with(more: impl FnOnce(&TestEnv)) -> Self {
        let env = TestEnv::new();
        sample_home(&env);
        more(&env);
        let archive = backup(&env, &[]);
        let good = fs::read(archive).expect("read");
        // The first check creates folders and locks.
        let _ = env.run(["verify"]).code(0);
        let notes = env.manager_home().join("tmp/restores");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(notes)
            .expect("folder");
        Self { env, good }
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts::of(&self.good)
    }

    /// Asserts that both commands refuse this archive, print the reason, and change nothing.
    #[track_caller]
    pub(crate) fn assert_refused(&self, what: &str, archive: &[u8], because: &str) {
        let path = self.env.write(NAME, archive);
        self.assert_path_refused(what, &text(&path), because);
    }

    /// Like `assert_refused`, with an index and without. The indexed reader may report an unexpected entry
    /// where the other one has a more precise reason.
    #[track_caller]
    fn assert_parts_refused(&self, what: &str, parts: &Parts, because: &str) {
        self.assert_refused(what, &parts.pack_stream(), because);
        let path = text(&self.env.write(NAME, parts.pack()));
        self.assert_path_refused_with(what, &path, &[because, UNEXPECTED_ENTRY, MEMBER_TOO_SMALL]);
    }

    #[track_caller]
    fn assert_path_refused(&self, what: &str, path: &str, because: &str) {
        self.assert_path_refused_with(what, path, &[because]);
    }

    #[track_caller]
    fn assert_path_refused_with(&self, what: &str, path: &str, because: &[&str]) {
        let before = self.env.tree("");
        for args in [&["restore", path, "--yes"][..], &["verify", path]] {
            let run = self.env.run(args);
            let output = format!("{}{}", run.stdout, run.stderr);
            assert_eq!(run.code, 5, "{what}: {args:?}\n{run}");
            let reason = because.iter().find(|reason| output.contains(**reason));
            assert!(reason.is_some(), "{what}: {because:?}\n{run}");
            assert!(
                output.contains("evil/"),
                "{what}: the error names no path\n{run}"
            );
            assert!(!output.contains("panicked"), "{what}\n{run}");
            assert_same_tree(&before, &self.env.tree(""));
        }
    }
}

#[test]
fn a_repacked_archive_is_restored_and_verify_reports_its_missing_sidecar() {
    let world = HostileTest::new();
    let path = text(&world.env.write(NAME, world.parts().pack()));
    let _ = world.env.run(["restore", &path]).code(0);
    let run = world.env.run(["verify", &path]).code(5);
    assert!(run.stdout.contains("no sidecar"), "{run}");
}

#[test]
fn i12_names_that_leave_the_home_are_refused() {
    let world = HostileTest::new();
    let outside = text(&world.env.path("outside"));
    let long = vec![b'x'; 300];
    let deep = b"a/".repeat(2100);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("parent", b"../outside".to_vec(), "`..`"),
        ("parent within", b"sessions/../../outside".to_vec(), "`..`"),
        ("absolute", outside.into_bytes(), "absolute"),
        ("long component", long, "255 bytes"),
        ("long path", deep, "4095 bytes"),
    ];
    for (what, name, because) in cases {
        let entry = Entry::file(&name, "x");
        world.assert_parts_refused(what, &world.parts().with(entry.clone()), because);
        // With the entry in the manifest, and without a manifest.
        world.assert_parts_refused(what, &world.parts().with_listed(entry.clone()), "");
        let mut foreign = world.parts().with(entry);
        foreign.manifest = None;
        world.assert_refused(what, &foreign.pack(), because);
    }
}

#[test]
fn i12_devices_hard_links_and_links_in_place_of_logins_are_refused() {
    let world = HostileTest::new();
    let outside = text(&world.env.write("outside", "precious"));
    let cases: Vec<(&str, Entry, &str)> = vec![
        (
            "link out",
            Entry::special(b'2', "skills/l", &outside),
            "a link out",
        ),
        (
            "link up",
            Entry::special(b'2', "skills/l", "../../outside"),
            "a link out",
        ),
        (
            "hard link out",
            Entry::special(b'1', "skills/l", &outside),
            "a hard link",
        ),
        (
            "hard link in",
            Entry::special(b'1', "skills/l", "auth.json"),
            "a hard link",
        ),
        ("device", Entry::special(b'3', "skills/d", ""), "a device"),
        (
            "block device",
            Entry::special(b'4', "skills/d", ""),
            "a device",
        ),
        ("pipe", Entry::special(b'6', "skills/p", ""), "a pipe"),
        (
            "unknown",
            Entry::special(b'Z', "skills/z", ""),
            "unknown kind",
        ),
        (
            "sparse",
            Entry::special(b'S', "skills/s", ""),
            "unknown kind",
        ),
    ];
    for (what, entry, because) in cases {
        world.assert_parts_refused(what, &world.parts().with_listed(entry.clone()), because);
        let because = if entry.kind == b'2' {
            "not the link"
        } else {
            because
        };
        world.assert_parts_refused(what, &world.parts().with(entry), because);
    }
    for name in ["auth.json", "config.toml", "state_5.sqlite"] {
        let link = Entry::special(b'2', name, "notes.txt");
        let parts = world.parts().without(name).with_listed(link);
        world.assert_parts_refused(name, &parts, "a link in place of a login");
        let folder = Entry::file(format!("{name}/x"), "x");
        let parts = world.parts().without(name).with_listed(folder);
        world.assert_parts_refused(name, &parts, "a folder in place of a login");
    }
    let below = world
        .parts()
        .with_listed(Entry::special(b'2', "skills/l", "mine"))
        .with_listed(Entry::file("skills/l/x", "x"));
    world.assert_parts_refused("below a link", &below, "is below");
}

#[test]
fn i12_reserved_names_are_refused() {
    let world = HostileTest::new();
    // A restore journal that the next command would follow, and that removes a folder.
    let precious = world.env.path("precious");
    world.env.write("precious/file", "x");
    let journal = json!({
        "schema": 1, "state": "committed", "steps": [],
        "folders": [world.env.codex_home().join(".codex-manager-restore"), precious],
    });
    for name in [
        ".codex-manager-restore/journal.json",
        ".Codex-Manager-Restore/journal.json",
        ".codex-manager/x",
        ".codex-manager/sqlite/state_5.sqlite-journal",
    ] {
        let entry = Entry::file(name, journal.to_string());
        world.assert_parts_refused(
            name,
            &world.parts().with_listed(entry.clone()),
            "a name reserved for codex-manager",
        );
        let mut python = world.parts().with(entry);
        python.manifest = None;
        world.assert_refused(name, &python.pack(), "a name reserved for codex-manager");
    }
    assert!(precious.join("file").exists());
}

#[test]
fn i12_a_foreign_journal_in_the_home_is_reported_and_not_followed() {
    let world = HostileTest::new();
    let env = &world.env;
    env.write("precious/file", "x");
    let folder = env.codex_home().join(".codex-manager-restore");
    let journal = json!({
        "schema": 1, "state": "committed", "home": env.codex_home(), "begun": [0, 0], "steps": [],
        "folders": [&folder, env.path("precious")],
    });
    put(
        env,
        ".codex-manager-restore/journal.json",
        journal.to_string(),
    );
    // A command that only reads goes on without it; one that needs the whole home does not.
    for (command, code) in [("recommend", 0), ("backup", 5)] {
        let run = env.run([command]).code(code);
        let refused = run.stderr.contains("is not a private folder of this user");
        assert!(refused, "{run}");
    }
    // A private file that names a foreign folder.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("chmod");
    let run = env.run(["recommend"]).code(0);
    assert!(run.stderr.contains("are no staging folders"), "{run}");
    assert!(env.path("precious/file").exists());
}

#[test]
fn i12_an_archived_rollback_journal_removes_no_file() {
    let world = HostileTest::new();
    let env = &world.env;
    // SQLite removes the file that a rollback journal beside a database names.
    let victim = text(&env.write("victim", "precious"));
    let scratch = env.path("scratch");
    fs::create_dir_all(&scratch).expect("folder");
    state_database(&scratch.join("state_5.sqlite"), &scratch);
    let database = fs::read(scratch.join("state_5.sqlite")).expect("read");
    let journal = Entry::file("state_5.sqlite-journal", journal_naming(&victim));
    let parts = world.parts().with_listed(journal.clone());
    world.assert_parts_refused("ours", &parts, "a SQLite journal beside a database");
    let python = Parts {
        entries: vec![
            Entry::file("state_5.sqlite", database),
            journal,
            Entry::file("x.metadata.json", python_sidecar()),
        ],
        manifest: None,
        manifest_bytes: None,
        after_manifest: Vec::new(),
        footer_shift: 0,
    };
    world.assert_refused("python", &python.pack(), "journal");
    assert!(PathBuf::from(victim).exists());
}

fn python_sidecar() -> String {
    json!({
        "product": "codex", "email": "alice@example.com", "archive_name": "x.tar.gz",
        "created_at": "2026-11-17T16:00:00+00:00", "backup_mode": "full",
    })
    .to_string()
}

#[test]
fn duplicates_and_case_variants_are_refused() {
    let world = HostileTest::new();
    let twice = Entry::file("notes.txt", "another");
    world.assert_parts_refused("duplicate", &world.parts().with(twice.clone()), "twice");
    world.assert_parts_refused("listed twice", &world.parts().with_listed(twice), "twice");
    for name in ["AUTH.json", "Config.toml", "Sessions"] {
        let entry = Entry::file(name, "x");
        world.assert_parts_refused(name, &world.parts().with_listed(entry), "letter case");
    }
    let manifest = Entry::file(".codex-manager/manifest.json", "{}");
    world.assert_parts_refused("second manifest", &world.parts().with(manifest), "");
}

#[test]
fn a_manifest_that_contradicts_the_entries_is_refused() {
    let world = HostileTest::new();
    let cases: [(&str, Edit, &str); 12] = [
        (
            "digest",
            |p| p.manifest_mut()["files"][0]["sha256"] = digest(b"x").into(),
            "digest",
        ),
        (
            "no digest",
            |p| p.manifest_mut()["files"][0]["sha256"] = "".into(),
            "digest",
        ),
        (
            "size",
            |p| p.manifest_mut()["files"][0]["size"] = 1.into(),
            "size",
        ),
        (
            "content",
            |p| p.entry("notes.txt").content[0] ^= 1,
            "digest",
        ),
        (
            "missing",
            |p| p.entries.retain(|e| e.name != b"notes.txt"),
            "is missing",
        ),
        (
            "extra",
            |p| p.entries.push(Entry::file("more", "x")),
            "not in the manifest",
        ),
        (
            "escape",
            |p| p.manifest_mut()["files"][0]["path"] = "../x".into(),
            "manifest",
        ),
        (
            "newer",
            |p| p.manifest_mut()["schema"] = 2.into(),
            "newer codex-manager",
        ),
        (
            "no JSON",
            |p| p.manifest_bytes = Some(b"not JSON".to_vec()),
            "manifest",
        ),
        ("empty", |p| p.manifest_bytes = Some(Vec::new()), "manifest"),
        (
            "deep",
            |p| p.manifest_bytes = Some(vec![b'['; 1 << 20]),
            "manifest",
        ),
        (
            "huge",
            |p| p.manifest_bytes = Some(vec![b' '; 256 << 20]),
            "too large",
        ),
    ];
    for (what, edit, because) in cases {
        let mut parts = world.parts();
        edit(&mut parts);
        world.assert_parts_refused(what, &parts, because);
    }
}

#[test]
fn a_footer_with_a_wrong_offset_is_refused() {
    let world = HostileTest::new();
    for shift in [-1, 1, i64::MAX, -1_000_000] {
        let mut parts = world.parts();
        parts.footer_shift = shift;
        world.assert_refused("footer", &parts.pack(), "footer");
    }
}

#[test]
fn files_that_are_no_archive_are_refused() {
    let world = HostileTest::new();
    let mut foreign = world.parts();
    foreign.manifest = None;
    let mut garbage = world.good.clone();
    garbage.extend(b"trailing garbage");
    let mut more = world.good.clone();
    more.extend(gzip(&vec![7; 4 << 20]));
    for (what, archive, because) in [
        ("empty", Vec::new(), ""),
        ("text", b"hello".to_vec(), "damaged"),
        ("foreign", foreign.pack(), "not an archive of codex-manager"),
        (
            "foreign but empty",
            gzip(&[0; 1024]),
            "not an archive of codex-manager",
        ),
        ("trailing garbage", garbage, "damaged"),
        ("more after the end", more, "too much data after"),
    ] {
        world.assert_refused(what, &archive, because);
    }
    fs::remove_file(world.env.path(NAME)).expect("remove");
    fs::create_dir(world.env.path(NAME)).expect("folder");
    let path = text(&world.env.path(NAME));
    world.assert_path_refused("a folder", &path, "not an archive");
    fs::remove_dir(world.env.path(NAME)).expect("remove");
    create_pipe(&world.env.path(NAME)).expect("pipe");
    world.assert_path_refused("a pipe", &path, "not an archive");
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_before_they_are_unpacked() {
    let world = HostileTest::new();
    let bomb = bomb("notes.txt", 10);
    assert!(bomb.len() < 16 << 20);
    let began = std::time::Instant::now();
    world.assert_refused("bomb", &bomb, "claim to hold");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn a_truncated_archive_is_refused_unless_only_its_footer_is_missing() {
    let world = HostileTest::new();
    let path = world.env.path(NAME);
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    let tmp = world.env.path("tmp");
    let expected = ArchiveReader::open(&world.env.write(NAME, &world.good)).expect("good");
    let expected = expected.contents();
    let len = world.good.len();
    // Without the footer the rest is a complete tar.gz, as of another program.
    let without_footer = len - footer::LEN;
    let cuts = (0..len)
        .step_by((len / 150).max(1))
        .chain(without_footer - 20..len);
    for cut in cuts {
        fs::write(&path, &world.good[..cut]).expect("write");
        let report = verify(&path, &tmp, &Silent).expect("verify");
        let listed = !report.is_archive_good();
        assert_eq!(listed, cut != without_footer, "cut at {cut} of {len}");
    }
    fs::write(&path, &world.good[..without_footer]).expect("write");
    let left = ArchiveReader::open(&path).expect("opens");
    let left = left.contents();
    assert!(left.files.iter().eq(expected.files.iter()));
    assert_eq!(left.folders, expected.folders);
    assert_eq!(left.links, expected.links);
    for cut in [1, world.good.len() / 2, world.good.len() - 1] {
        world.assert_refused("cut", &world.good[..cut], "damaged");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_has_no_effect() {
    let world = HostileTest::new();
    let path = world.env.path(NAME);
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    let tmp = world.env.path("tmp");
    let good = ArchiveReader::open(&world.env.write(NAME, &world.good)).expect("good");
    let expected = good.contents();
    let bits = world.good.len() * 8;
    let positions: Vec<usize> = (0..300)
        .map(|i| i * bits / 300 + i % 8)
        // Every bit of both ends, which hold the headers and the footer.
        .chain(0..18 * 8)
        .chain(bits - 120 * 8..bits)
        .filter(|bit| *bit < bits)
        .collect();
    let (mut refused, mut meaningless) = (0, Vec::new());
    for bit in positions {
        let mut archive = world.good.clone();
        archive[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &archive).expect("write");
        let report = verify(&path, &tmp, &Silent).expect("verify");
        if !report.is_archive_good() {
            refused += 1;
            continue;
        }
        let archive = ArchiveReader::open(&path).expect("opens");
        let contents = archive.contents();
        assert!(contents.files.iter().eq(expected.files.iter()), "bit {bit}");
        assert_eq!(contents.folders, expected.folders, "bit {bit}");
        assert_eq!(contents.links, expected.links, "bit {bit}");
        meaningless.push(bit);
    }
    assert!(
        refused > 600,
        "{refused} refused, {meaningless:?} without effect"
    );
    for bit in [bits / 3, bits / 2, bits - 200] {
        let mut archive = world.good.clone();
        archive[bit / 8] ^= 1 << (bit % 8);
        world.assert_refused("flipped", &archive, "");
    }
}

#[test]
fn non_unicode_names_and_long_paths_are_restored() {
    let world = HostileTest::new();
    let env = &world.env;
    let home = env.codex_home();
    let odd = std::ffi::OsStr::from_bytes(b"skills/mine/\xff\xfe\n name");
    put(env, PathBuf::from(odd), "odd");
    let deep: PathBuf = std::iter::repeat_n("d".repeat(199), 19).collect();
    let deep = PathBuf::from("skills").join(deep).join("leaf");
    assert!(deep.as_os_str().len() > 3800);
    put(env, &deep, "deep");
    let before = env.tree("home/.codex");
    let archive = text(&backup(env, &[]));
    fs::remove_dir_all(home.join("skills")).expect("remove");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_home(&before, &env.tree("home/.codex"));
}

#[test]
fn control_characters_in_entry_names_are_not_printed() {
    let world = HostileTest::new();
    let entry = Entry::file("\x1b]0;owned\x07../x", "x");
    let path = text(&world.env.write(NAME, world.parts().with(entry).pack()));
    for args in [["restore", &path], ["verify", &path]] {
        let run = world.env.run(args).code(5);
        assert!(
            !format!("{}{}", run.stdout, run.stderr).contains('\x1b'),
            "{run}"
        );
    }
}

#[test]
fn i12_an_archived_sqlite_home_outside_the_home_is_refused_without_yes() {
    let world = HostileTest::new();
    let env = &world.env;
    let outside = env.path("elsewhere");
    fs::create_dir(&outside).expect("folder");
    let config = format!("sqlite_home = {:?}\n", text(&outside));
    let parts = world
        .parts()
        .without("config.toml")
        .with_listed(Entry::file("config.toml", config));
    let path = text(&env.write(NAME, parts.pack()));
    let before = env.tree("");
    let run = env.run(["restore", &path]).code(5);
    assert!(run.stderr.contains("outside the home"), "{run}");
    assert_same_tree(
        &before.only(&["home/.codex", "elsewhere"]),
        &env.tree("").only(&["home/.codex", "elsewhere"]),
    );
    let _ = env.run(["restore", &path, "--yes"]).code(0);
    assert!(outside.join("state_5.sqlite").exists());
}

#[test]
fn i6_the_archived_login_not_the_manifest_identifies_the_account() {
    let world = HostileTest::new();
    // The manifest names Alice, but the archived login is Bob's.
    let mut parts = world.parts();
    let bob = auth_json(&crate::support::sample::bob());
    parts.entry("auth.json").content = bob.clone().into_bytes();
    for file in parts.manifest_mut()["files"].as_array_mut().expect("files") {
        if file["path"] == "auth.json" {
            file["sha256"] = digest(bob.as_bytes()).into();
            file["size"] = bob.len().into();
        }
    }
    let path = text(&world.env.write(NAME, parts.pack()));
    let before = world.env.tree("home/.codex");
    let run = world.env.run(["restore", &path]).code(5);
    assert!(run.stderr.contains("bob@example.com"), "{run}");
    assert_same_tree(&before, &world.env.tree("home/.codex"));
    let live = fs::read_to_string(world.env.codex_home().join("auth.json")).expect("read");
    assert_eq!(live, auth_json(&alice(0)));
}

#[test]
fn i12_a_link_that_leaves_the_home_through_another_link_is_refused() {
    let world = HostileTest::new();
    let here = Entry::special(b'2', "x", ".");
    for (name, target) in [
        ("skills/l", "../x/../.bashrc"),
        ("skills/l", "../x/x/../../dir"),
        ("prompts-link", "x/../.bashrc"),
    ] {
        let parts = world.parts().with_listed(here.clone());
        let parts = parts.with_listed(Entry::special(b'2', name, target));
        world.assert_parts_refused(target, &parts, "a link out");
    }
}

/// Codex or a merge would write additional files through such a link.
#[test]
fn i12_a_link_in_place_of_the_prompts_or_the_session_index_is_refused() {
    let world = HostileTest::new();
    for name in ["history.jsonl", "session_index.jsonl"] {
        let parts = world.parts().without(name);
        let parts = parts.with_listed(Entry::special(b'2', name, "notes.txt"));
        world.assert_parts_refused(name, &parts, "a link in place of a login");
    }
}

#[test]
fn very_many_empty_entries_are_refused_early() {
    let world = HostileTest::new();
    let mut tar = Vec::new();
    for _ in 0..30_000 {
        Entry::file("skills/x", "").write(&mut tar);
    }
    world.assert_refused("headers alone", &gzip(&tar), "entries");
}

#[test]
fn void_entries_that_are_missing_or_repeated_are_refused() {
    let world = HostileTest::new();
    let void = |parts: &mut Parts, names: serde_json::Value| parts.manifest_mut()["void"] = names;
    let mut missing = world.parts();
    void(&mut missing, json!(["sessions/cut.jsonl"]));
    world.assert_refused("missing", &missing.pack_stream(), "is missing");
    let cut = Entry::file("sessions/cut.jsonl", "x");
    let mut twice = world.parts().with(cut.clone()).with(cut.clone());
    void(&mut twice, json!(["sessions/cut.jsonl"]));
    world.assert_refused("twice", &twice.pack_stream(), "twice in the archive");
    let mut once = world.parts().with(cut);
    void(&mut once, json!(["sessions/cut.jsonl"]));
    let path = text(&world.env.write(NAME, once.pack_stream()));
    let _ = world.env.run(["restore", &path, "--yes"]).code(0);
}

#[test]
fn the_first_missing_entry_by_path_is_named() {
    let world = HostileTest::new();
    let mut parts = world.parts();
    parts.entries.clear();
    let files = parts.manifest_mut()["files"].as_array().expect("a list");
    let paths = files
        .iter()
        .map(|file| file["path"].as_str().expect("text"));
    let first = paths.min().expect("a file");
    let because = format!("{first} is missing");
    world.assert_refused("all", &parts.pack_stream(), &because);
}
