//! Copies of a login in another Codex home: the server accepts a refresh token once, so a renewal of the copy ends the
//! original.

use super::profile::{Profile, Profiles};
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot};
use crate::io::file_id;
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};

impl Profiles {
    /// Returns the other Codex home that owns the login in `home`, if that login is only a copy. An older login counts
    /// as a copy if Codex would renew it at `now`, because the original may have been renewed after the copy was made.
    /// Returns `None` if the profiles cannot be read.
    pub fn find_owner_of_copy(
        &self,
        auth: &AuthFile,
        home: &Path,
        now: &DateTime<Utc>,
    ) -> Option<PathBuf> {
        let copy = auth.snapshot()?;
        let login = copy.login.as_ref()?;
        let profile = self.find(&login.identity).ok()??;
        let (owner_home, original) = read_other_live_login(&profile, home)?;
        let is_copy = original.fingerprint() == copy.fingerprint();
        let is_older = original.freshness().is_newer_than(&copy.freshness());
        let may_be_copy = is_copy || (is_older && login.is_renewal_due(now));
        may_be_copy.then(|| owner_home.to_path_buf())
    }
}

/// Returns the recorded Codex home and its login of this account. Returns `None` if its auth.json is that of `home`.
fn read_other_live_login<'p>(
    profile: &'p Profile,
    home: &Path,
) -> Option<(&'p Path, AuthSnapshot)> {
    let owner_home = profile.other_live_home(home)?;
    let auth_file_id = |home: &Path| file_id::read_device_and_inode(&home.join(AUTH_JSON));
    if auth_file_id(home) == auth_file_id(owner_home) {
        return None;
    }
    let AuthFile::Present(original) = AuthFile::read(&owner_home.join(AUTH_JSON)).ok()? else {
        return None;
    };
    original.login.is_some().then_some((owner_home, original))
}
