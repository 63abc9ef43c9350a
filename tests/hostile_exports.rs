//! Hostile exports: each is refused with its reason, and nothing is changed.

use crate::login_kinds::key_beside_tokens;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::profiles::profile_login;
use crate::support::sample::alice;
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use crate::transfer::{carol, import, state};
use serde_json::{Value, json};
use sha2::Digest;
use std::fs;

/// An entry of a hostile export.
pub(crate) struct Entry {
    name: Vec<u8>,
    bytes: Vec<u8>,
    kind: tar::EntryType,
}

pub(crate) fn entry(name: &str, bytes: impl Into<Vec<u8>>) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        bytes: bytes.into(),
        kind: tar::EntryType::Regular,
    }
}

pub(crate) fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for Entry { name, bytes, kind } in entries {
        let mut head = tar::Header::new_gnu();
        head.set_size(bytes.len() as u64);
        head.set_mode(0o600);
        head.set_entry_type(*kind);
        let field = &mut head.as_old_mut().name;
        field[..name.len()].copy_from_slice(name);
        head.set_cksum();
        tar.append(&head, bytes.as_slice()).expect("append");
    }
    tar.into_inner().expect("a tar")
}

pub(crate) fn listed(name: &str, bytes: &[u8]) -> Value {
    json!({"path": name, "size": bytes.len(),
           "sha256": format!("{:x}", sha2::Sha256::digest(bytes))})
}

pub(crate) fn manifest(files: &[Value]) -> Value {
    json!({"schema": 1, "product": "codex-manager export", "created_at": null,
           "manager_version": "0", "with_logins": true, "with_archives": true, "files": files})
}

/// Creates an export of these files with a matching manifest.
pub(crate) fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
    let list: Vec<_> = files
        .iter()
        .map(|(name, bytes)| listed(name, bytes))
        .collect();
    let mut entries = vec![entry("export.json", manifest(&list).to_string())];
    entries.extend(files.iter().map(|(name, bytes)| entry(name, *bytes)));
    tar_of(&entries)
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn i12_i13_a_hostile_export_is_refused_with_the_reason_and_changes_nothing() {
    let profile = |email: &str| {
        json!({"schema": 1, "identity": {"email": email, "account_id": "acct-x", "user_id": "u"}})
            .to_string()
            .into_bytes()
    };
    let x = profile("x@example.com");
    let login = auth_json(&alice(0)).into_bytes();
    let good = package(&[("cooldown.json", br#"{"schema":1,"accounts":[]}"#)]);
    let with = |list: &[Value], entries: Vec<Entry>| {
        let mut all = vec![entry("export.json", manifest(list).to_string())];
        all.extend(entries);
        tar_of(&all)
    };
    let cd: &[u8] = br#"{"schema":1,"accounts":[]}"#;
    let archive = "backups/2026-11-17-155500-me@x.com-codex.tar.gz";
    let sidecar = "backups/2026-11-17-155500-me@x.com-codex.metadata.json";
    let mut cut = good.clone();
    cut.truncate(700);
    let mut flipped = good.clone();
    let at = flipped
        .windows(8)
        .rposition(|w| w == b"accounts")
        .expect("a match");
    flipped[at] ^= 1;
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"something");
    let mut link = entry("cooldown.json", "");
    link.kind = tar::EntryType::Symlink;
    let mut long = entry("././@LongLink", vec![b'a'; 100_000]);
    long.kind = tar::EntryType::GNULongName;
    let huge = json!({"path": "cooldown.json", "size": 1_u64 << 50, "sha256": "0".repeat(64)});
    let huge_archive = json!({"path": archive, "size": 1_u64 << 60, "sha256": "0".repeat(64)});
    let cases: Vec<(&str, Vec<u8>, &str)> =
        vec![
        ("empty", Vec::new(), "not an export"),
        ("text", b"hello".to_vec(), "not an export"),
        ("nul", vec![0; 4096], "not an export"),
        ("cut", cut, "damaged"),
        ("flipped", flipped, "does not match the manifest"),
        ("trailing", trailing, "data after its end"),
        (
            "age head without end",
            b"age-encryption.org/v1\n".repeat(9000),
            "header has no end",
        ),
        (
            "armored",
            b"-----BEGIN AGE ENCRYPTED FILE-----\n".to_vec(),
            "armored",
        ),
        (
            "another product",
            tar_of(&[entry(
                "export.json",
                json!({"schema": 1, "product": "x",
            "manager_version": "", "with_logins": false, "with_archives": false, "files": []})
                .to_string(),
            )]),
            "is not of a codex-manager export",
        ),
        (
            "newer",
            tar_of(&[entry("export.json", r#"{"schema": 99}"#)]),
            "newer codex-manager",
        ),
        (
            "no manifest",
            tar_of(&[entry("cooldown.json", cd)]),
            "does not begin",
        ),
        (
            "up",
            package(&[("profiles/../../x", cd)]),
            "manifest cannot be parsed",
        ),
        (
            "absolute",
            package(&[("/etc/x", cd)]),
            "manifest cannot be parsed",
        ),
        (
            "foreign name",
            package(&[("backups/evil.sh", cd)]),
            "a file that no export contains",
        ),
        ("lock", package(&[(".lock", b"")]), "a file that no export contains"),
        (
            "switch note",
            package(&[("profiles/.switch.json", cd)]),
            "a file that no export contains",
        ),
        (
            "history",
            package(&[("profiles/x/history/a.json", &login)]),
            "a file that no export contains",
        ),
        (
            "twice",
            package(&[("cooldown.json", cd), ("cooldown.json", cd)]),
            "a duplicate name",
        ),
        (
            "twice by case",
            package(&[
                ("profiles/x/profile.json", &x),
                ("profiles/X/profile.json", &x),
            ]),
            "a duplicate name",
        ),
        (
            "link",
            with(&[listed("cooldown.json", b"")], vec![link]),
            "instead of the file",
        ),
        (
            "long name",
            with(&[listed("cooldown.json", cd)], vec![long]),
            "oversized name",
        ),
        (
            "other entry",
            with(
                &[listed("cooldown.json", cd)],
                vec![entry("inventory.json", cd)],
            ),
            "instead of the file",
        ),
        (
            "unlisted",
            with(&[], vec![entry("cooldown.json", cd)]),
            "not in the manifest",
        ),
        (
            "missing",
            with(&[listed("cooldown.json", cd)], vec![]),
            "ends before",
        ),
        ("huge", with(&[huge], vec![]), "too large"),
        ("huge archive", with(&[huge_archive], vec![]), "disk space"),
        (
            "newer inside",
            package(&[("cooldown.json", br#"{"schema":9,"accounts":[]}"#)]),
            "newer",
        ),
        (
            "damaged inside",
            package(&[("cooldown.json", b"{")]),
            "cooldown.json cannot be parsed",
        ),
        (
            "no account",
            package(&[(
                "profiles/x/profile.json",
                br#"{"schema":1,"identity":null}"#,
            )]),
            "names no account",
        ),
        (
            "login of another account",
            package(&[
                ("profiles/x/profile.json", &x),
                ("profiles/x/auth.json", &login),
            ]),
            "login of another account",
        ),
        (
            "login alone",
            package(&[("profiles/x/auth.json", &login)]),
            "is missing",
        ),
        (
            "no login",
            package(&[
                ("profiles/x/profile.json", &x),
                ("profiles/x/auth.json", b"{}"),
            ]),
            "has no login",
        ),
        (
            "garbage login",
            package(&[
                ("profiles/x/profile.json", &x),
                ("profiles/x/auth.json", b"rt.x"),
            ]),
            "an auth.json that cannot be parsed",
        ),
        (
            "two of one",
            package(&[
                ("profiles/x/profile.json", &x),
                ("profiles/y/profile.json", &x),
            ]),
            "two profiles",
        ),
        ("no sidecar", package(&[(sidecar, b"{}")]), "is not a sidecar"),
        (
            "sidecar of another archive",
            package(&[
                (archive, b"bytes"),
                (
                    sidecar,
                    json!({"schema": 1, "product": "codex", "created_at": "2026-11-17T15:55:00Z",
                   "archive_sha256": "0".repeat(64)})
                    .to_string()
                    .as_bytes(),
                ),
            ]),
            "does not describe the archive",
        ),
    ];
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &carol());
    let _ = env.run(["profile", "save", "mine"]).code(0);
    let file = env.path("hostile");
    let before = state(&env);
    for (name, bytes, reason) in cases {
        fs::write(&file, bytes).expect("write");
        let code = if reason == "disk space" { 1 } else { 5 };
        for args in [&["--dry-run"][..], &[]] {
            let refused = import(&env, &file, args);
            // A dry run stages nothing, so free space is not checked.
            let code = if reason == "disk space" && !args.is_empty() {
                5
            } else {
                code
            };
            assert_eq!(refused.code, code, "{name}: {refused}");
            if code == 1 || reason != "disk space" {
                assert!(refused.stderr.contains(reason), "{name}: {refused}");
            }
            assert!(
                refused.stderr.contains("hostile") || code == 1,
                "{name}: {refused}"
            );
            assert_same_tree(&before, &state(&env));
        }
    }
    assert!(!env.path("home/x").exists());
    fs::write(&file, good).expect("write");
    let _ = import(&env, &file, &[]).code(0);
}

/// Earlier versions exported an API key as the login of the account of the tokens beside it.
#[test]
fn an_export_with_an_api_key_beside_tokens_brings_all_logins() {
    let env = TestEnv::new();
    let profile = |sign_in: &SignIn| {
        let identity = json!({"email": sign_in.email, "account_id": sign_in.account_id,
            "user_id": sign_in.user_id});
        json!({"schema": 1, "identity": identity}).to_string()
    };
    let (key, carol_login) = (key_beside_tokens(), auth_json(&carol()));
    let (of_alice, of_carol) = (profile(&alice(0)), profile(&carol()));
    let export = package(&[
        ("profiles/work/profile.json", of_alice.as_bytes()),
        ("profiles/work/auth.json", key.as_bytes()),
        ("profiles/carol/profile.json", of_carol.as_bytes()),
        ("profiles/carol/auth.json", carol_login.as_bytes()),
    ]);
    let file = env.write("out.export", export);
    let run = import(&env, &file, &[]).code(0).json();
    let email = run["profiles"][1]["email"].as_str().expect("text");
    assert!(email.starts_with("api-key-"), "{run}");
    assert_eq!(profile_login(&env, "work"), key);
    assert_eq!(profile_login(&env, "carol"), carol_login);
}
