//! What a recovery asks: the login that Codex may have renewed since a restore was killed is kept, and
//! whoever uses the home is in the way.

use super::login::Standing;
use super::swap::{FOLDER_SUFFIX, Guard};
use crate::accounts::profile::{ProfileError, Profiles};
use crate::accounts::save::OwnerLocation;
use crate::codex::auth::{AuthFile, AuthSnapshot, Login};
use crate::codex::process::{self, Holder, ProgramNames, Role};
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::secret::SecretBytes;
use crate::io::{IoError, atomic};
use std::path::Path;

/// Of the homes and profiles of this machine.
pub(super) struct Keeping<'a> {
    pub(super) manager_home: &'a Path,
    pub(super) env: &'a Environment,
    pub(super) now: Timestamp,
}

impl Guard for Keeping<'_> {
    /// The newer one of an account goes live, and another account's is saved. What no login is
    /// recognised in is kept as it is.
    fn keep_login(&self, going: &Path, coming: &Path) -> Result<(), IoError> {
        let Some((old, login)) = self.login_of(going, coming)? else {
            return Ok(());
        };
        let new = Standing::read(coming)?;
        match new.login() {
            Some(new) if new.identity.is_same(&login.identity) => {
                if login.freshness.is_newer_than(&new.freshness) {
                    atomic::write(coming, old.bytes.expose())?;
                }
                Ok(())
            }
            _ => self.save(going, &old, &login),
        }
    }

    fn save_login(&self, going: &Path, staying: &Path) -> Result<(), IoError> {
        let Some((old, login)) = self.login_of(going, staying)? else {
            return Ok(());
        };
        match Standing::read(staying)?.login() {
            Some(live) if live.identity.is_same(&login.identity) => Ok(()),
            _ => self.save(going, &old, &login),
        }
    }

    fn holders(&self, home: &Path) -> Vec<Holder> {
        let outside = process::outside_folders(home, self.env);
        let mut seen = process::inspect_home(home, &outside, &ProgramNames::default());
        // Other commands of ours look for an interrupted restore, too.
        let is_look = |role: &Role| matches!(role, Role::OtherProgram { open } if open.starts_with(FOLDER_SUFFIX));
        seen.processes.retain(|process| !is_look(&process.role));
        seen.holders()
    }
}

impl Keeping<'_> {
    /// The login at `path`. Other bytes there are kept, unless they are at `other`, too.
    fn login_of(
        &self,
        path: &Path,
        other: &Path,
    ) -> Result<Option<(AuthSnapshot, Login)>, IoError> {
        let profiles = Profiles::of(self.manager_home);
        let is_at_other = |bytes: &SecretBytes| match Standing::read(other) {
            Ok(Standing::Auth(AuthFile::Present(there))) => there.bytes == *bytes,
            Ok(Standing::Auth(AuthFile::Unreadable { bytes: there, .. })) => there == *bytes,
            _ => false,
        };
        match Standing::read(path)? {
            Standing::Auth(AuthFile::Missing) => {}
            Standing::Auth(AuthFile::Present(snapshot)) => match snapshot.login.clone() {
                Some(login) => return Ok(Some((snapshot, login))),
                None if is_at_other(&snapshot.bytes) => {}
                None => drop(profiles.quarantine_bytes(&snapshot.bytes)?),
            },
            Standing::Auth(AuthFile::Unreadable { bytes, .. }) if is_at_other(&bytes) => {}
            Standing::Auth(AuthFile::Unreadable { bytes, .. }) => {
                drop(profiles.quarantine_bytes(&bytes)?);
            }
            Standing::Wreck(_) => drop(profiles.quarantine(path, self.now)?),
        }
        Ok(None)
    }

    fn save(&self, path: &Path, auth: &AuthSnapshot, login: &Login) -> Result<(), IoError> {
        Profiles::of(self.manager_home)
            .save_back(auth, login, OwnerLocation::Profile, self.now)
            .map(drop)
            .map_err(|e| match e {
                ProfileError::Io(e) => e,
                other => IoError {
                    action: "save the login of",
                    path: path.to_path_buf(),
                    source: std::io::Error::other(other),
                },
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_no_login_is_recognised_in_is_kept_before_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let manager_home = at("manager");
        let env = Environment::default();
        let keeping = Keeping {
            manager_home: &manager_home,
            env: &env,
            now: Timestamp::parse_from_rfc3339("2026-11-20T10:00:00Z").unwrap(),
        };
        let kept = || {
            let folder = manager_home.join("profiles/.unreadable");
            let mut texts = Vec::new();
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let text = fs::read_to_string(&path);
                texts.push(text.unwrap_or_else(|_| fs::read_to_string(path.join("in")).unwrap()));
            }
            texts.sort();
            texts
        };
        let (going, coming) = (at("going"), at("coming"));
        fs::write(&coming, "{}").unwrap();
        keeping.keep_login(&going, &coming).unwrap();
        // What will be live as well needs not be kept.
        fs::write(&going, "{}").unwrap();
        keeping.keep_login(&going, &coming).unwrap();
        assert_eq!(kept(), [""; 0]);
        fs::write(&going, r#"{"a":1}"#).unwrap();
        keeping.keep_login(&going, &coming).unwrap();
        fs::write(&going, "torn").unwrap();
        keeping.save_login(&going, &coming).unwrap();
        fs::remove_file(&going).unwrap();
        fs::create_dir(&going).unwrap();
        fs::write(going.join("in"), "wreck").unwrap();
        // Whatever is to come.
        fs::remove_file(&coming).unwrap();
        fs::create_dir(&coming).unwrap();
        keeping.keep_login(&going, &coming).unwrap();
        assert_eq!(kept(), ["torn", "wreck", r#"{"a":1}"#]);
    }
}
