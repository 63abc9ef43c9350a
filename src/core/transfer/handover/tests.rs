//! Kills an export in every state, and changes profiles before the recovery: no login has two
//! owners, and none has none.

use super::*;
use crate::accounts::owner::OwnerLocation;
use crate::accounts::profile::LoginCopy;
use crate::codex::auth::{AuthSnapshot, Login};
use crate::codex::home::AUTH_JSON;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;

const NAMES: [&str; 2] = ["home", "work"];

fn now() -> Timestamp {
    Timestamp::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap()
}

/// Returns a login of the account of a profile, renewed on this day.
fn login_of(name: &str, day: u32) -> (AuthSnapshot, Login) {
    let token = |claims: &str| format!("x.{}.s", URL_SAFE_NO_PAD.encode(claims));
    let id = token(&format!(
        r#"{{"email":"{name}@x.com","https://api.openai.com/auth":{{"chatgpt_user_id":"u-{name}","chatgpt_account_id":"a-{name}"}}}}"#
    ));
    let access = token(r#"{"exp":1830000000}"#);
    let text = format!(
        r#"{{"tokens":{{"id_token":"{id}","access_token":"{access}","refresh_token":"rt.{name}.{day}"}},"last_refresh":"2026-11-{day:02}T00:00:00Z"}}"#
    );
    let snapshot = AuthSnapshot::parse(text.into_bytes()).unwrap();
    let login = snapshot.login.clone().unwrap();
    (snapshot, login)
}

/// Two profiles that own their logins, and a folder for an export of both.
struct HandoverFixture {
    root: tempfile::TempDir,
    profiles: Profiles,
}

impl HandoverFixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(&root.path().join("manager"));
        for name in NAMES {
            let (snapshot, login) = login_of(name, 1);
            let codex_home = root.path().join("codex");
            profiles
                .save_as(
                    name,
                    (&snapshot, &login),
                    &codex_home,
                    LoginCopy::Ordinary,
                    now(),
                )
                .unwrap();
        }
        fs::create_dir(root.path().join("disk")).unwrap();
        Self { root, profiles }
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("disk/out.age")
    }

    fn unmount(&self) {
        atomic::rename(
            &self.root.path().join("disk"),
            &self.root.path().join("gone"),
        )
        .unwrap();
    }

    fn mount(&self) {
        atomic::rename(
            &self.root.path().join("gone"),
            &self.root.path().join("disk"),
        )
        .unwrap();
    }

    fn unpublished(&self) -> TempFile {
        TempFile::create_beside(&self.target()).unwrap()
    }

    fn publish(&self, file: TempFile) -> Result<bool, TransferError> {
        let logins = NAMES.map(|name| MovedLogin {
            profile: name.into(),
            email: String::new(),
            account_id: None,
            bytes: login_of(name, 1).0.bytes,
        });
        let codex_home = self.root.path().join("codex");
        publish_export(
            &self.profiles,
            &logins,
            "id",
            file,
            &self.target(),
            &codex_home,
            now(),
        )
    }

    /// Records the move in the first `noted` profiles. Returns the export, the note, and the
    /// profiles as they were.
    fn note_moves(&self, noted: usize) -> (TempFile, PendingMove, Vec<Profile>) {
        let file = self.unpublished();
        let note = PendingMove {
            file: self.target(),
            unfinished: file.path().to_path_buf(),
            id: FileId::read(file.path()).unwrap(),
            inode: None,
            since: now(),
        };
        let before = self.profiles.list().unwrap();
        for profile in &before[..noted] {
            let moving = to_moving_record(profile, &note, "id");
            self.profiles.write_record(&profile.name, &moving).unwrap();
        }
        (file, note, before)
    }

    /// Leaves the state of an export that was killed after `noted` profiles had recorded the move.
    fn kill(&self, noted: usize, is_renamed: bool) {
        let (file, _, _) = self.note_moves(noted);
        if is_renamed {
            file.try_publish(&self.target()).unwrap();
        } else {
            file.keep();
        }
    }

    /// Leaves the state of a recovery that was killed after `settled` profiles.
    fn kill_recovery(&self, settled: usize, owner: LoginOwner) {
        for profile in &self.profiles.list().unwrap()[..settled] {
            let file = ProfileFile {
                owner,
                moving: None,
                ..profile.file.clone()
            };
            self.profiles.write_record(&profile.name, &file).unwrap();
        }
    }

    fn file_of(&self, name: &str) -> ProfileFile {
        self.profiles.find_by_name(name).unwrap().file
    }

    fn owners(&self) -> [LoginOwner; 2] {
        NAMES.map(|name| self.file_of(name).owner)
    }

    fn files_on_disk(&self) -> usize {
        fs::read_dir(self.root.path().join("disk")).unwrap().count()
    }
}

#[test]
fn a_kill_in_any_state_of_the_export_and_of_its_recovery_leaves_one_owner() {
    for (noted, is_renamed) in [(0, false), (1, false), (2, false), (2, true)] {
        let (owner, outcome) = if is_renamed {
            (LoginOwner::Moved, "Moved")
        } else {
            (LoginOwner::Profile, "Returned")
        };
        for settled in 0..=noted {
            let context = format!("{noted} {is_renamed} {settled}");
            let fixture = HandoverFixture::new();
            fixture.kill(noted, is_renamed);
            fixture.kill_recovery(settled, owner);
            if fixture.target().exists() {
                assert_eq!(fixture.owners(), [LoginOwner::Moved; 2], "{context}");
            }
            let outcomes = finish_interrupted(&fixture.profiles).unwrap();
            assert_eq!(outcomes.len(), noted - settled, "{context}");
            for (_, found) in outcomes {
                assert!(format!("{found:?}").starts_with(outcome), "{context}");
            }
            assert_eq!(fixture.owners(), [owner; 2], "{context}");
            assert_eq!(fixture.target().exists(), is_renamed, "{context}");
            let is_left = is_renamed || settled == noted;
            assert_eq!(fixture.files_on_disk(), usize::from(is_left), "{context}");
            assert_eq!(finish_interrupted(&fixture.profiles).unwrap(), []);
        }
    }
}

#[test]
fn recovery_finds_a_renamed_profile_and_leaves_one_that_was_signed_in_again() {
    for is_renamed in [false, true] {
        let fixture = HandoverFixture::new();
        fixture.kill(2, is_renamed);
        fixture.unmount();
        let unknown = MoveOutcome::Unknown(fixture.target());
        let outcomes = NAMES.map(|name| (name.to_owned(), unknown.clone()));
        assert_eq!(finish_interrupted(&fixture.profiles).unwrap(), outcomes);
        assert_eq!(fixture.owners(), [LoginOwner::Moved; 2]);
        // One profile is renamed. The account of the other one is signed in again.
        fixture.profiles.rename("work", "job", false).unwrap();
        let other_home = fixture.root.path().join("other");
        let (snapshot, login) = login_of("home", 2);
        fs::create_dir(&other_home).unwrap();
        fs::write(other_home.join(AUTH_JSON), snapshot.bytes.expose()).unwrap();
        let owner = OwnerLocation::Live(&other_home);
        fixture
            .profiles
            .save_back(&snapshot, &login, owner, now())
            .unwrap();
        let signed_in = fixture.file_of("home");
        assert_eq!(signed_in.owner, LoginOwner::Live);

        fixture.mount();
        let (owner, outcome) = if is_renamed {
            (LoginOwner::Moved, MoveOutcome::Moved(fixture.target()))
        } else {
            (LoginOwner::Profile, MoveOutcome::Returned)
        };
        let outcomes = [("job".to_owned(), outcome)];
        assert_eq!(finish_interrupted(&fixture.profiles).unwrap(), outcomes);
        assert_eq!(fixture.file_of("job").owner, owner);
        assert_eq!(fixture.file_of("home"), signed_in);
        assert_eq!(fixture.files_on_disk(), usize::from(is_renamed));
    }
}

#[test]
fn an_export_onto_an_existing_file_changes_nothing() {
    let fixture = HandoverFixture::new();
    let before = NAMES.map(|name| fixture.file_of(name));
    let file = fixture.unpublished();
    fs::write(fixture.target(), "another file").unwrap();
    assert!(!fixture.publish(file).unwrap());
    assert_eq!(NAMES.map(|name| fixture.file_of(name)), before);
    assert_eq!(fs::read(fixture.target()).unwrap(), b"another file");
    assert_eq!(fixture.files_on_disk(), 1);
}

/// As on NFS: wine keeps the first name of an open file with two links.
#[cfg(unix)]
#[test]
fn a_rename_that_was_done_but_reported_as_failed_moves_the_logins() {
    let fixture = HandoverFixture::new();
    let file = fixture.unpublished();
    // On a network file system, a repeated request finds the link that the first one created.
    fs::hard_link(file.path(), fixture.target()).unwrap();
    assert!(fixture.publish(file).unwrap());
    assert_eq!(fixture.owners(), [LoginOwner::Moved; 2]);
    assert!(fixture.file_of("work").moving.is_none());
    assert_eq!(fixture.files_on_disk(), 1);
}

#[test]
fn a_disk_that_is_missing_before_the_move_changes_nothing() {
    let fixture = HandoverFixture::new();
    let before = NAMES.map(|name| fixture.file_of(name));
    let file = fixture.unpublished();
    fixture.unmount();
    fixture.publish(file).unwrap_err();
    assert_eq!(NAMES.map(|name| fixture.file_of(name)), before);
}

#[test]
fn a_disk_that_disappears_before_the_rename_leaves_the_move_pending() {
    let fixture = HandoverFixture::new();
    let (file, note, before) = fixture.note_moves(2);
    fixture.unmount();
    rename_export(&fixture.profiles, &before, &note, "id", file).unwrap_err();
    assert_eq!(fixture.owners(), [LoginOwner::Moved; 2]);
    fixture.mount();
    let outcomes = NAMES.map(|name| (name.to_owned(), MoveOutcome::Returned));
    assert_eq!(finish_interrupted(&fixture.profiles).unwrap(), outcomes);
    assert_eq!(fixture.owners(), [LoginOwner::Profile; 2]);
    assert_eq!(fixture.files_on_disk(), 0);
}
