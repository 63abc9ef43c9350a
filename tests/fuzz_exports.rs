//! Randomly changed exports and manifests of sync, with digests that fit again: none is read with other content, leads out
//! of the homes, or ends the program.

use crate::fuzz_inputs::RandomSource;
use crate::hostile_exports::{entry, listed, manifest, package, tar_of};
use crate::support::env::TestEnv;
use crate::support::pair::{Pair, SKILL};
use crate::support::sample::alice;
use crate::support::sign_in::auth_json;
use crate::support::variables;
use crate::sync_manifests::manifest_of;
use codex_manager_core::io::hash::Sha256Digest;
use codex_manager_core::io::progress::Silent;
use codex_manager_core::transfer::reader::{self, Package};
use codex_manager_core::transfer::seal::{DecryptionKey, ExportInput};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path};

const ARCHIVE: &str = "backups/2026-11-17-155500-me@x.com-codex.tar.gz";

/// The files of an export with each kind of part.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let identity =
        json!({"email": "alice@example.com", "account_id": "acct-alice", "user_id": "user-alice"});
    let profile = json!({"schema": 1, "identity": identity}).to_string();
    vec![
        ("profiles/work/profile.json", profile.into_bytes()),
        ("profiles/work/auth.json", auth_json(&alice(0)).into_bytes()),
        ("cooldown.json", br#"{"schema":1,"accounts":[]}"#.to_vec()),
        ("inventory.json", br#"{"schema":1,"backups":[]}"#.to_vec()),
        (
            "config.toml",
            b"[recommend]\nstrategy = \"stay\"\n".to_vec(),
        ),
        (
            ARCHIVE,
            b"an archive that is copied and not opened".to_vec(),
        ),
    ]
}

/// An age key, as a private key for the reader and a public one for the writer.
struct Key {
    public: age::x25519::Recipient,
    private: DecryptionKey,
}

impl Key {
    fn generate() -> Self {
        let identity = age::x25519::Identity::generate();
        Self {
            public: identity.to_public(),
            private: DecryptionKey::Identities(vec![Box::new(identity)]),
        }
    }

    fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        let recipients = std::iter::once(&self.public as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).expect("a recipient");
        let mut writer = encryptor.wrap_output(Vec::new()).expect("encrypt");
        writer.write_all(bytes).expect("encrypt");
        writer.finish().expect("encrypt")
    }

    fn read(&self, path: &Path) -> Option<Package> {
        let opened = ExportInput::open(path).ok()?;
        let content = opened.unlock(path, Some(&self.private)).ok()?;
        reader::read(content, path, None, &Silent).ok()
    }
}

/// Returns everything of a package that an import uses.
fn content(package: &Package) -> String {
    let Package {
        id: _,
        profiles,
        cooldown,
        inventory,
        observations,
        config,
        launches,
        archives,
        sidecars,
    } = package;
    format!(
        "{profiles:?} {cooldown:?} {inventory:?} {observations:?} {config:?} {launches:?} {archives:?} {sidecars:?}"
    )
}

#[track_caller]
fn assert_names_stay_inside(package: &Package, round: u64) {
    let names = package.archives.iter().map(|archive| &archive.name);
    for name in names
        .chain(package.profiles.keys())
        .chain(package.sidecars.keys())
    {
        let mut parts = Path::new(name).components();
        let is_one = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        assert!(is_one, "round {round}: {name:?}");
    }
}

#[test]
fn i12_i13_changed_exports_are_refused_or_read_like_the_original() {
    let env = TestEnv::new();
    let key = Key::generate();
    let path = env.path("changed.age");
    let write = |bytes: &[u8]| fs::write(&path, bytes).expect("write");
    let files = files();
    let borrowed: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (*name, &**bytes))
        .collect();
    let good = package(&borrowed);
    let sealed = key.seal(&good);
    write(&sealed);
    let original = content(&key.read(&path).expect("a good export"));

    let mut read = [0_u64; 4];
    for round in 0..variables::sequences(400) {
        let mut dice = RandomSource::of(round);
        let kind = usize::try_from(round % 4).expect("small");
        // The kinds 1 and 2 change what the manifest names, with digests that fit; the reader may accept such an export.
        let bytes = match kind {
            0 => {
                let mut tar = good.clone();
                dice.damage(&mut tar, round % 8 == 0);
                key.seal(&tar)
            }
            1 => {
                let mut files = files.clone();
                let file = dice.below(files.len());
                dice.damage(&mut files[file].1, false);
                let files: Vec<_> = files
                    .iter()
                    .map(|(name, bytes)| (*name, &**bytes))
                    .collect();
                key.seal(&package(&files))
            }
            2 => {
                let list: Vec<_> = borrowed
                    .iter()
                    .map(|(name, bytes)| listed(name, bytes))
                    .collect();
                let mut text = manifest(&list).to_string().into_bytes();
                dice.damage(&mut text, false);
                let mut entries = vec![entry("export.json", text)];
                entries.extend(borrowed.iter().map(|(name, bytes)| entry(name, *bytes)));
                key.seal(&tar_of(&entries))
            }
            _ => {
                let mut bytes = sealed.clone();
                dice.damage(&mut bytes, false);
                bytes
            }
        };
        write(&bytes);
        let Some(package) = key.read(&path) else {
            continue;
        };
        read[kind] += 1;
        assert_names_stay_inside(&package, round);
        if kind != 1 {
            assert_eq!(content(&package), original, "round {round}");
        }
        if kind == 3 {
            assert!(
                bytes == sealed,
                "round {round}: changed bytes were accepted"
            );
        }
    }
    // Some changes leave the content as it is, such as those in the unused bytes of a header.
    assert!(read[0] > 0 && read[1] > 0, "{read:?}");
}

#[test]
fn i12_changed_manifests_of_sync_bring_no_other_bytes_and_nothing_outside() {
    let pair = Pair::new();
    let files = [
        (SKILL, "of a"),
        ("prompts/p.md", "a prompt of a"),
        ("AGENTS.md", "be brief"),
    ];
    for (path, text) in files {
        pair.put("a", path, text);
    }
    pair.apply("a");
    let cloud = pair.copy_cloud();
    let list = manifest_of(&pair, "a");
    let text = fs::read_to_string(&list).unwrap();
    let (body, _) = text.trim_end().rsplit_once('\n').expect("lines");
    let outside = pair.0.path("outside");
    fs::write(&outside, "untouched").unwrap();

    let mut codes = std::collections::BTreeMap::new();
    for round in 0..variables::sequences(40) {
        let mut dice = RandomSource::of(round);
        pair.restore_cloud(&cloud);
        let mut changed = format!("{body}\n").into_bytes();
        dice.damage(&mut changed, false);
        // Also a path out of the home, and the name of another file.
        let changed = String::from_utf8_lossy(&changed);
        let changed = match dice.below(4) {
            0 => changed.replacen("skills/", "../../outside/", 1),
            1 => changed.replace("AGENTS.md", "auth.json"),
            _ => changed.into_owned(),
        };
        let end = json!({"end": Sha256Digest::of(changed.as_bytes()).to_string()});
        fs::write(&list, format!("{changed}{end}\n")).unwrap();
        for folder in ["codex-b", "manager-b"] {
            let _ = fs::remove_dir_all(pair.0.path(folder));
        }
        fs::create_dir_all(pair.home("b")).unwrap();
        let run = pair.run("b", &["run", "--apply", "--json"]);
        *codes.entry(run.code).or_insert(0) += 1;
        assert!((0..=6).contains(&run.code), "round {round}: {run}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
        let home = pair.0.tree("codex-b");
        for name in home
            .0
            .keys()
            .filter(|name| pair.home("b").join(name).is_file())
        {
            let name = name.to_str().unwrap();
            let of_a = files.iter().find(|(path, _)| *path == name);
            let of_a = of_a.unwrap_or_else(|| panic!("round {round}: {name} came: {run}"));
            assert_eq!(pair.text("b", name), of_a.1, "round {round}: {run}");
        }
    }
    assert!(codes.len() > 1, "{codes:?}");
}
