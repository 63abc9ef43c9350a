//! Archives of versions that wrote SHA-256 in place of BLAKE3.

use crate::support::env::TestEnv;
use crate::support::hostile::{Parts, digest};
use crate::support::sample::{assert_same_home, backup, put, sample_home, text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const LARGE: &str =
    "sessions/2026/11/18/rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl";

fn sidecar_of(archive: &Path) -> PathBuf {
    PathBuf::from(text(archive).replace(".tar.gz", ".metadata.json"))
}

fn in_backups(env: &TestEnv, backup: &Value) -> PathBuf {
    let name = backup["archive"].as_str().expect("a name");
    env.manager_home().join("backups").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

fn manifest_of(archive: &Path) -> Value {
    let tar = flate2::read::MultiGzDecoder::new(fs::File::open(archive).expect("open"));
    let mut tar = tar::Archive::new(tar);
    let mut entries = tar.entries().expect("entries").map(Result::unwrap);
    let is_manifest = |e: &tar::Entry<'_, _>| e.path_bytes().ends_with(b"manifest.json");
    serde_json::from_reader(entries.find(is_manifest).expect("a manifest")).expect("JSON")
}

fn file<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let mut files = manifest["files"].as_array().expect("files").iter();
    files.find(|file| file["path"] == name).expect("a file")
}

/// Makes an archive of the sample home as an older version did.
fn older_archive(env: &TestEnv) -> PathBuf {
    sample_home(env);
    put(
        env,
        LARGE,
        "a line of a large conversation\n".repeat(200_000),
    );
    put(
        env,
        "skills/mine/large",
        "another large file\n".repeat(300_000),
    );
    // Older than the clock tick in which the backup begins.
    env.tick();
    let archive = backup(env, &[]);
    let bytes = Parts::of(&fs::read(&archive).expect("read")).pack();
    fs::write(&archive, &bytes).expect("write");
    let mut sidecar = read_json(&sidecar_of(&archive));
    let fields = sidecar.as_object_mut().expect("an object");
    fields.remove("archive_blake3").expect("the digest");
    fields.insert("archive_sha256".into(), digest(&bytes).into());
    fields.insert("archive_bytes".into(), bytes.len().into());
    fs::write(sidecar_of(&archive), sidecar.to_string()).expect("write");
    archive
}

#[test]
fn new_archives_have_blake3_digests_only() {
    let env = TestEnv::new();
    sample_home(&env);
    put(
        &env,
        LARGE,
        "a line of a large conversation\n".repeat(200_000),
    );
    let archive = backup(&env, &[]);
    let sidecar = read_json(&sidecar_of(&archive));
    assert_eq!(sidecar["archive_blake3"].as_str().expect("hex").len(), 64);
    let manifest = manifest_of(&archive);
    assert_eq!(
        manifest["account_auth"]["blake3"]
            .as_str()
            .expect("hex")
            .len(),
        64
    );
    for list in ["files", "members"] {
        for entry in manifest[list].as_array().expect("a list") {
            assert_eq!(entry["blake3"].as_str().expect("hex").len(), 64, "{entry}");
        }
    }
    assert!(!sidecar.to_string().contains("sha256"), "{sidecar}");
    assert!(!manifest.to_string().contains("sha256"), "{manifest}");
}

#[test]
fn an_older_archive_is_listed_verified_and_restored() {
    let env = TestEnv::new();
    let archive = older_archive(&env);
    let listed = env.run(["list-backups", "--json"]).code(0).json();
    assert!(listed["backups"][0]["problem"].is_null(), "{listed}");
    let verified = env.run(["verify", "latest", "--json"]).code(0).json();
    assert_eq!(verified["archives"][0]["ok"], true, "{verified}");
    let out = text(&env.path("out"));
    let _ = env.run(["restore", "latest", "--to", &out]).code(0);
    let live = fs::read(env.codex_home().join(LARGE)).expect("read");
    let restored = fs::read(env.path("out").join(LARGE)).expect("read");
    assert!(restored == live);

    fs::remove_file(sidecar_of(&archive)).expect("remove");
    let _ = env.run(["verify", "--all", "--repair"]).code(0);
    let sidecar = read_json(&sidecar_of(&archive));
    assert_eq!(sidecar["archive_blake3"].as_str().expect("hex").len(), 64);
    let _ = env.run(["verify", "latest"]).code(0);
}

#[test]
fn damage_in_an_older_archive_is_found() {
    let env = TestEnv::new();
    let archive = older_archive(&env);
    let mut parts = Parts::of(&fs::read(&archive).expect("read"));
    parts.manifest_mut()["files"][0]["sha256"] = digest(b"another").into();
    fs::write(&archive, parts.pack()).expect("write");
    let run = env.run(["verify", "latest"]).code(5);
    assert!(run.stdout.contains("does not match its digest"), "{run}");
}

#[test]
fn the_next_backup_copies_from_an_older_archive() {
    let env = TestEnv::new();
    let older = older_archive(&env);
    let mut lines = fs::read(env.codex_home().join(LARGE)).expect("read");
    lines.extend(b"one more line\n");
    put(&env, LARGE, &lines);
    let next = env.run(["backup", "--no-status", "--json"]).code(0).json();
    assert!(next["reused_bytes"].as_u64() > Some(0), "{next}");
    let next = in_backups(&env, &next);
    let manifest = manifest_of(&next);
    let before = manifest_of(&older);
    // A copied file keeps its digest; one that was read gets a new one.
    let copied = file(&manifest, "skills/mine/large");
    assert_eq!(
        copied["sha256"],
        file(&before, "skills/mine/large")["sha256"]
    );
    assert!(file(&manifest, LARGE)["sha256"].is_null());
    let _ = env.run(["verify", "--all"]).code(0);
    let out = text(&env.path("out"));
    let _ = env.run(["restore", &text(&next), "--to", &out]).code(0);
    for name in [LARGE, "skills/mine/large"] {
        let live = fs::read(env.codex_home().join(name)).expect("read");
        let restored = fs::read(env.path("out").join(name)).expect("read");
        assert!(restored == live, "{name}");
    }
    let again = env.run(["backup", "--no-status", "--json"]).code(0).json();
    let again = in_backups(&env, &again);
    let before = env.tree("home/.codex");
    let _ = env.run(["restore", &text(&again), "--yes"]).code(0);
    assert_same_home(&before, &env.tree("home/.codex"));
}
