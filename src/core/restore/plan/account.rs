//! Compares the account of the archive with the live one.

use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use crate::accounts::Profiles;
use crate::archive::{ArchiveReader, BackupMode};
use crate::codex::{AuthFile, CodexConfig, Identity, Login, home};
use crate::restore::error::RestoreError;

/// Fails if the archive belongs to another account than the live login, unless the request allows this. Also fails if
/// the archive has the mode `auth` and Codex does not read auth.json, or if the live auth.json is not a regular file or
/// is too large for a login. Checks nothing for `--to`, or if the plan restores no login.
pub(crate) fn check_account(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) -> Result<(), RestoreError> {
    if request.target != RestoreTarget::Home || !plan.wants_login {
        return Ok(());
    }

    // With a keyring, Codex 0.169 ignores auth.json. An archive of the mode `auth` is restored for its login, which
    // would then have no effect.
    let credential_store = CodexConfig::read(&request.folder).store;
    let is_login_archive = request.archive.metadata().mode == BackupMode::Auth;
    if is_login_archive && !credential_store.always_reads_auth_json() {
        return Err(RestoreError::OtherCredentialStore(
            credential_store.auth_json_problem(),
        ));
    }

    let live = AuthFile::read(&request.folder.join(home::AUTH_JSON))?;
    match archived_identity(request.archive) {
        Some(archived) => check_same_account(request, live.login(), &archived),
        None => Ok(()),
    }
}

/// Fails if `live_login` is a login of another account than `archived`, unless the request allows this.
pub(crate) fn check_same_account(
    request: &RestoreRequest<'_>,
    live_login: Option<&Login>,
    archived: &Identity,
) -> Result<(), RestoreError> {
    let other_login = live_login.filter(|login| !login.identity.is_same(archived));
    if let Some(other_login) = other_login
        && !request.may_switch_account
    {
        let profiles = Profiles::of(request.manager_home);
        return Err(RestoreError::AnotherAccount {
            archive: profiles.describe_account(archived),
            live: profiles.describe_account(&other_login.identity),
        });
    }
    Ok(())
}

/// Returns the account of the login in the archive. The Python tool records it in the metadata only.
pub(crate) fn archived_identity(archive: &ArchiveReader) -> Option<Identity> {
    if archive.is_python() {
        archive.metadata().identity()
    } else {
        archive.contents().account_auth.as_ref()?.identity.clone()
    }
}
