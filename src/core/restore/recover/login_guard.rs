//! Protects logins when a restore or its recovery exchanges states: keeps a login that Codex has renewed since it was
//! staged.

use super::journal_pointer;
use crate::accounts::{OwnerLocation, ProfileError, Profiles};
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Holder, Login};
use crate::io::{Environment, IoError, SecretBytes, Timestamp, atomic};
use crate::journal::{self, RecoveryPolicy};
use crate::restore::plan::request::RestoreRequest;
use std::path::{Path, PathBuf};

/// The [`RecoveryPolicy`] of restores, which saves logins to the profiles of this machine.
pub(crate) struct LoginGuard<'a> {
    pub(crate) manager_home: &'a Path,
    pub(crate) env: &'a Environment,
    pub(crate) now: Timestamp,
}

impl<'a> LoginGuard<'a> {
    pub(crate) fn from_request(request: &'a RestoreRequest<'_>) -> Self {
        Self {
            manager_home: request.manager_home,
            env: request.env,
            now: request.now,
        }
    }
}

impl RecoveryPolicy for LoginGuard<'_> {
    /// Protects the outgoing login if the exchange replaces auth.json or the whole home.
    fn before_exchange(
        &self,
        home: &Path,
        outgoing: &Path,
        incoming: Option<&Path>,
    ) -> Result<(), IoError> {
        if outgoing == home.join(AUTH_JSON) {
            self.protect_login(outgoing, incoming)
        // An exchange of the whole home exchanges the login with it, and no step names auth.json.
        } else if outgoing == home {
            let incoming = incoming.map(|home| home.join(AUTH_JSON));
            self.protect_login(&home.join(AUTH_JSON), incoming.as_deref())
        } else {
            Ok(())
        }
    }

    fn lock_marker(&self, folder: &Path) -> Option<String> {
        journal_pointer::read_marker(self.manager_home, folder)
    }

    fn find_holders(&self, home: &Path, staging: &[PathBuf]) -> Vec<Holder> {
        journal::find_holders(home, staging, self.env)
    }

    /// Returns true for files that Codex creates again, and for auth.json: a restore saves the login under Codex's
    /// lock, a recovery in [`LoginGuard::before_exchange`].
    fn is_disposable(&self, home: &Path, path: &Path) -> bool {
        journal::is_recreated_by_codex(home, path) || path == home.join(AUTH_JSON)
    }
}

impl LoginGuard<'_> {
    /// Makes sure that the exchange loses no login. If both logins belong to one account, writes the newer one to
    /// `incoming`. Saves an outgoing login of another account to its profile. Copies outgoing bytes that are no
    /// recognized login into quarantine.
    fn protect_login(&self, outgoing: &Path, incoming: Option<&Path>) -> Result<(), IoError> {
        let incoming_auth = match incoming {
            Some(incoming) => read_auth_json(incoming)?,
            None => AuthFile::Missing,
        };

        let outgoing_auth = read_auth_json(outgoing)?;
        let (Some(snapshot), Some(login)) = (outgoing_auth.snapshot(), outgoing_auth.login())
        else {
            return self.quarantine(&outgoing_auth, &incoming_auth);
        };

        if let (Some(incoming_login), Some(incoming)) = (incoming_auth.login(), incoming)
            && incoming_login.identity.is_same(&login.identity)
        {
            // A refresh token works only once, so an older login of the same account no longer works.
            if login.freshness.is_newer_than(&incoming_login.freshness) {
                atomic::write(incoming, snapshot.bytes.expose())?;
            }
            return Ok(());
        }
        self.save_to_profile(outgoing, snapshot, login)
    }

    /// Copies the content of an auth.json without a recognized login into quarantine. Does nothing if `incoming` has
    /// the same bytes, or if there is no auth.json.
    fn quarantine(&self, outgoing: &AuthFile, incoming: &AuthFile) -> Result<(), IoError> {
        // Equal bytes stay in the home, so a copy in quarantine would only alarm the user.
        let differs = |bytes: &&SecretBytes| incoming.bytes() != Some(bytes);
        if let Some(bytes) = outgoing.bytes().filter(differs) {
            Profiles::of(self.manager_home).quarantine_bytes(bytes)?;
        }
        Ok(())
    }

    /// Saves the login in the file `auth_json` to the profile of its account.
    fn save_to_profile(
        &self,
        auth_json: &Path,
        snapshot: &AuthSnapshot,
        login: &Login,
    ) -> Result<(), IoError> {
        Profiles::of(self.manager_home)
            .save_back(snapshot, login, OwnerLocation::Profile, self.now)
            .map(drop)
            .map_err(|e| match e {
                ProfileError::Io(e) => e,
                other => IoError {
                    action: "save the login of",
                    path: auth_json.to_path_buf(),
                    source: std::io::Error::other(other),
                },
            })
    }
}

/// Reads an auth.json. An entry that cannot be a login, such as a folder, counts as missing: it has no login to keep,
/// and an error would leave the home half exchanged.
fn read_auth_json(path: &Path) -> Result<AuthFile, IoError> {
    match AuthFile::read(path) {
        Err(e) if AuthFile::cannot_be_login(&e) => Ok(AuthFile::Missing),
        auth => auth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn unrecognized_bytes_are_quarantined_before_they_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let manager_home = at("manager");
        let env = Environment::default();
        let guard = LoginGuard {
            manager_home: &manager_home,
            env: &env,
            now: Timestamp::parse_from_rfc3339("2026-11-20T10:00:00Z").unwrap(),
        };
        let kept = || {
            let folder = manager_home.join("profiles/.unreadable");
            let mut texts = Vec::new();
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                texts.push(fs::read_to_string(entry.path()).unwrap());
            }
            texts.sort();
            texts
        };
        let (outgoing, incoming) = (at("going"), at("coming"));
        fs::write(&incoming, "{}").unwrap();
        guard.protect_login(&outgoing, Some(&incoming)).unwrap();
        // Bytes that stay live need no copy.
        fs::write(&outgoing, "{}").unwrap();
        guard.protect_login(&outgoing, Some(&incoming)).unwrap();
        assert_eq!(kept(), [""; 0]);
        fs::write(&outgoing, r#"{"a":1}"#).unwrap();
        guard.protect_login(&outgoing, Some(&incoming)).unwrap();
        fs::write(&outgoing, "torn").unwrap();
        guard.protect_login(&outgoing, Some(&incoming)).unwrap();
        // A folder is no login, and does not stop the exchange.
        for path in [&outgoing, &incoming] {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        guard.protect_login(&outgoing, Some(&incoming)).unwrap();
        assert_eq!(kept(), ["torn", r#"{"a":1}"#]);
    }
}
