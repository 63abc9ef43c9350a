//! Chooses the login that goes live, stages it, and saves the live login that it replaces.

use crate::accounts::profile::is_login_of;
use crate::accounts::{
    AccountLocks, AuthOutcome, AuthPolicy, LoginCandidates, LoginChoice, LoginDecision, LoginOwner,
    OwnerLocation, Profile, Profiles, login_selection,
};
use crate::archive::{ArchiveReader, file_extract, set_attributes};
use crate::codex::{
    AuthFile, AuthSnapshot, CONFIG_TOML, CodexConfig, CredentialStore, Freshness, HomeEntryKind,
    Login, LoginLock, home, login_lock,
};
use crate::io::replacement::is_mount_point;
use crate::io::{
    IoContext, IoError, SecretBytes, atomic, file_id, file_open, links, modified_ns, shell,
};
use crate::restore::error::RestoreError;
use crate::restore::plan::account::{archived_identity, check_same_account};
use crate::restore::plan::request::{RestoreRequest, RestoreTarget};
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::stage::extract::MAX_LOGIN_BYTES;
use crate::restore::stage::staged_home::ArchivedLogin;
use crate::restore::stage::workspace::Workspace;
use std::io::Read as _;
use std::path::Path;

/// Chooses the login that goes live and stages it. Before that, saves the live login that it replaces to its profile.
/// If the live login stays, stages it only if the whole home is exchanged or auth.json has a second hard link.
///
/// Takes the locks on the accounts, then Codex's own lock on the login. They are held until the result is dropped.
pub(crate) fn stage_login(work: &mut Workspace<'_>) -> Result<StagedLogin, RestoreError> {
    let exchanges_whole_home = work.stage.home().is_whole && !work.exchanges_files;
    let (request, plan, stage) = (work.request, &work.plan, &work.stage);
    let notes = &mut work.notes;
    let staged_path = stage.home().staged.join(home::AUTH_JSON);

    if plan.target == RestoreTarget::Elsewhere {
        let auth_path = request.folder.join(home::AUTH_JSON);
        return stage_login_elsewhere(stage.login.as_ref(), &staged_path, &auth_path, notes);
    }

    let home = &stage.home().live;
    let live_path = home.join(home::AUTH_JSON);
    let mut staged_login = lock_accounts_and_login(request, plan, home, &live_path)?;

    let live = read_live_login(stage.login.is_some(), &live_path)?;
    let archived = stage.login.as_ref().map(|login| &login.bytes);
    let store = stage.read_settings().store;
    let chosen = choose_login(request, archived, store, &live, notes)?;
    if let Some(chosen) = &chosen {
        staged_login.outcome = chosen.decision.outcome;
    }

    let replacement = chosen.and_then(|chosen| Some((chosen.decision, chosen.replacement?)));
    let Some((decision, snapshot)) = replacement else {
        // The live login stays. It is copied, not hard-linked: Codex loses a login that it renews through a hard link.
        if exchanges_whole_home || file_id::has_second_link(&live_path) {
            stage_live_login(&live_path, &staged_path)?;
        }
        return Ok(staged_login);
    };

    staged_login.replaced = save_or_quarantine_live_login(request, home, &live, notes)?;

    // The login of the archive keeps its time. One of the profile gets the current time.
    let mtime_ns = match &stage.login {
        Some(login) if decision.choice == LoginChoice::Archive => Some(login.mtime_ns),
        _ => None,
    };
    write_auth_json(&staged_path, snapshot.bytes.expose(), mtime_ns)?;

    staged_login.replacement = Some(snapshot);
    Ok(staged_login)
}

/// Fails if the login of the archive would replace a mounted auth.json. Called before the safety backup is made.
///
/// # Errors
/// [`RestoreError::MountedFile`], and those of the choice.
pub(crate) fn refuse_mounted_login(work: &Workspace<'_>) -> Result<(), RestoreError> {
    let (request, stage) = (work.request, &work.stage);
    let live_path = stage.home().live.join(home::AUTH_JSON);
    let Some(archived) = stage.login.as_ref().filter(|_| is_mount_point(&live_path)) else {
        return Ok(());
    };
    let (live, store) = (AuthFile::read(&live_path)?, stage.read_settings().store);
    let mut notes = Vec::new();
    let chosen = choose_login(request, Some(&archived.bytes), store, &live, &mut notes)?;
    match chosen.and_then(|chosen| chosen.replacement) {
        Some(_) => Err(RestoreError::MountedFile(live_path)),
        None => Ok(()),
    }
}

/// The login that a restore would make live.
#[derive(Debug, Default)]
pub struct LoginPreview {
    pub outcome: AuthOutcome,
    /// True if the restore would make another login live in the home than before.
    pub is_replaced: bool,
    /// Sentences for the user about the choice.
    pub notes: Vec<String>,
}

/// Chooses the login like the restore, but takes no locks and writes nothing. Returns `None` if the choice needs the
/// login of a snapshot that is not downloaded.
///
/// # Errors
/// The archive or a login cannot be read, the archive belongs to another account than the request allows, or the login
/// would replace a mounted auth.json.
pub fn preview_login(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) -> Result<Option<LoginPreview>, RestoreError> {
    let mut preview = LoginPreview::default();
    if !plan.wants_login {
        return Ok(Some(preview));
    }

    // The archive is in a snapshot that is not downloaded, so its login cannot be read. A restore to another folder
    // takes the archived login anyway. A restore of the home compares the login with others, so the choice is unknown.
    if !request.archive.path().is_file() {
        preview.outcome = AuthOutcome::Restored;
        let is_elsewhere = plan.target == RestoreTarget::Elsewhere;
        return Ok(is_elsewhere.then_some(preview));
    }

    let archived = SecretBytes::new(unpack_file(request.archive, HomeEntryKind::Auth)?);
    let live_path = request.folder.join(home::AUTH_JSON);
    if plan.target == RestoreTarget::Elsewhere {
        preview.outcome = AuthOutcome::Restored;
        let warning = describe_copied_login(&archived, &live_path);
        preview.notes.extend(warning);
        return Ok(Some(preview));
    }

    let config = if plan.writes.contains(Path::new(CONFIG_TOML)) {
        let text = unpack_file(request.archive, HomeEntryKind::Config)?;
        CodexConfig::parse(&String::from_utf8_lossy(&text))
    } else {
        CodexConfig::read(&request.folder)
    };

    let live = AuthFile::read(&live_path)?;
    let notes = &mut preview.notes;
    let chosen = choose_login(request, Some(&archived), config.store, &live, notes)?;
    // Without a choice, the live login stays.
    if let Some(chosen) = chosen {
        preview.outcome = chosen.decision.outcome;
        preview.is_replaced = chosen.replacement.is_some();
    }
    if preview.is_replaced && is_mount_point(&live_path) {
        return Err(RestoreError::MountedFile(live_path));
    }
    Ok(Some(preview))
}

/// Returns the content of the archived file of this kind, at most [`MAX_LOGIN_BYTES`] of it.
fn unpack_file(archive: &ArchiveReader, kind: HomeEntryKind) -> Result<Vec<u8>, RestoreError> {
    let mut bytes = Vec::new();
    let file = file_extract::extract_to_temp_file(archive, kind)?;
    let mut limited = file.take(MAX_LOGIN_BYTES as u64);
    limited.read_to_end(&mut bytes).at("read", archive.path())?;
    Ok(bytes)
}

/// If a login is restored, locks the accounts of the live login and of the archived login. Then takes Codex's lock, if
/// the home exists.
fn lock_accounts_and_login(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    home: &Path,
    live_path: &Path,
) -> Result<StagedLogin, RestoreError> {
    // Read only to find the account to lock. Codex may still renew the login, so it is read again under Codex's lock.
    let live_auth = read_live_login(plan.wants_login, live_path)?;
    let archived_account = archived_identity(request.archive);
    let live_account = live_auth.login().map(|login| &login.identity);

    let mut accounts = Vec::new();
    if plan.wants_login {
        accounts.extend(live_account.into_iter().chain(&archived_account));
    }

    let profiles = Profiles::of(request.manager_home);
    let account_locks =
        profiles.lock_accounts(&accounts, request.now, login_lock::REFRESH_TIMEOUT)?;

    // The accounts are locked first, as in a switch: the same order everywhere prevents deadlocks, and Codex waits for
    // the shortest time.
    let mut lock = None;
    if home.exists() {
        let acquired = LoginLock::acquire(home, login_lock::REFRESH_TIMEOUT)?;
        lock = Some(acquired.ok_or_else(|| login_lock::timeout_error(home))?);
    }

    Ok(StagedLogin {
        _account_locks: Some(account_locks),
        _lock: lock,
        ..StagedLogin::default()
    })
}

/// Reads the live auth.json if the restore may replace it. Otherwise returns [`AuthFile::Missing`] without a check: the
/// entry stays in place, even if it is a folder.
fn read_live_login(may_replace: bool, live_path: &Path) -> Result<AuthFile, IoError> {
    if may_replace {
        AuthFile::read(live_path)
    } else {
        Ok(AuthFile::Missing)
    }
}

/// Stages the login of the archive for `--to`, if the plan wants it. `auth_path` is its path after the restore.
fn stage_login_elsewhere(
    archived: Option<&ArchivedLogin>,
    staged: &Path,
    auth_path: &Path,
    notes: &mut Vec<String>,
) -> Result<StagedLogin, RestoreError> {
    let Some(login) = archived else {
        return Ok(StagedLogin::default());
    };

    write_auth_json(staged, login.bytes.expose(), Some(login.mtime_ns))?;
    notes.extend(describe_copied_login(&login.bytes, auth_path));
    Ok(StagedLogin {
        outcome: AuthOutcome::Restored,
        ..StagedLogin::default()
    })
}

/// Returns a warning about a login that is restored to `auth_path` in another folder, if Codex renews it.
fn describe_copied_login(archived: &SecretBytes, auth_path: &Path) -> Option<String> {
    let snapshot = AuthSnapshot::parse(archived.expose().to_vec()).ok()?;
    let login = snapshot.login?;
    // Before `codex login` signs in to a home, Codex 0.169 and 0.171 revoke the login there, and so the original.
    let quoted_path = shell::quote_if_needed(&auth_path.to_string_lossy());
    login.identity.kind.is_renewable().then(|| {
        format!(
            "the login in this folder is a copy: if two homes use it, or codex login replaces it, it stops working in \
             both; for a login of its own, first remove the copy: rm {quoted_path}"
        )
    })
}

struct ChosenLogin {
    decision: LoginDecision,
    /// The login that replaces the live one; `None` if the live login stays.
    replacement: Option<AuthSnapshot>,
}

/// Chooses between the logins of the archive, of the profile and of the home. Returns `None` if no login can be
/// restored, and adds the reason to `notes`. `archived` is the archive's auth.json, if the restore wants it. Writes
/// nothing.
fn choose_login(
    request: &RestoreRequest<'_>,
    archived: Option<&SecretBytes>,
    store: CredentialStore,
    live: &AuthFile,
    notes: &mut Vec<String>,
) -> Result<Option<ChosenLogin>, RestoreError> {
    let parsed = archived.and_then(|bytes| parse_archived_login(bytes, store, notes));
    let Some((archived_auth, login)) = parsed else {
        return Ok(None);
    };
    check_same_account(request, live.login(), &login.identity)?;

    let profiles = Profiles::of(request.manager_home);
    let (profile, trashed_login) = if let Some(profile) = profiles.find(&login.identity)? {
        (Some(profile), None)
    } else {
        // The profile may be removed: its record stays, and its login is in the trash.
        let removed = profiles.find_removed(&login.identity);
        let trashed_login = removed.and_then(|removed| removed.usable_login);
        // A removed profile has no name, so messages and commands name the account by its email.
        let email = login.identity.email.as_str();
        (
            profiles.recall_removed_profile(email, &login),
            trashed_login,
        )
    };
    let profile = profile.as_ref();
    let profile_auth = profile.and_then(Profile::snapshot);
    let saved_auth = profile_auth.or(trashed_login.as_ref());

    let is_of_account = |auth: &&AuthSnapshot| is_login_of(auth, &login.identity);
    let fingerprint = archived_auth.fingerprint();
    let decision = login_selection::select_login(
        request.auth,
        &LoginCandidates {
            live: live.snapshot().filter(is_of_account),
            archive: &archived_auth,
            profile: saved_auth.filter(is_of_account),
            newest_seen: profile.map(Profile::newest).unwrap_or_default(),
            is_spent: profile.is_some_and(|p| p.file.superseded.contains(&fingerprint)),
        },
    );

    // Two homes with one login renew it in turn, and each renewal signs the other home out. With `--auth archive`, the
    // user says that no other home has the login.
    let forbids_other_owner =
        request.auth != AuthPolicy::Archive && decision.choice != LoginChoice::KeepLive;
    if forbids_other_owner && let Some(obstacle) = describe_other_owner(request, profile, &login) {
        notes.push(format!("the login was not restored: {obstacle}"));
        return Ok(None);
    }

    note_consequences(request, decision, profile, &login, notes);
    let replacement = match decision.choice {
        LoginChoice::KeepLive => None,
        LoginChoice::Profile => saved_auth.cloned(),
        LoginChoice::Archive => Some(archived_auth),
    };
    Ok(Some(ChosenLogin {
        decision,
        replacement,
    }))
}

/// Adds sentences about the consequences of `decision` to `notes`. `archived` is the login of the archive.
fn note_consequences(
    request: &RestoreRequest<'_>,
    decision: LoginDecision,
    profile: Option<&Profile>,
    archived: &Login,
    notes: &mut Vec<String>,
) {
    if decision.is_stale && decision.choice != LoginChoice::KeepLive {
        notes.push(
            "a newer login of this account was seen, so the refresh token of this one is probably \
             spent; if Codex refuses it: codex-manager profile login NAME"
                .into(),
        );
    }

    // The login is newer than every recorded one, so another machine may be using it, unless this machine made the
    // archive.
    let archive_machine = &request.archive.metadata().machine;
    let is_of_this_machine = archive_machine.is_some() && *archive_machine == request.machine;
    let newest_seen = profile.map(Profile::newest).unwrap_or_default();
    if !is_of_this_machine
        && decision.choice == LoginChoice::Archive
        && archived.identity.kind.is_renewable()
        && archived.freshness.is_newer_than(&newest_seen)
    {
        let name = profile.map_or("NAME", |profile| &profile.name);
        notes.push(format!(
            "this machine has no record of the login from the archive: if another machine still uses it, one of the \
             two will be logged out; to prevent this, sign in here with: codex-manager profile login {name}, or \
             restore with --auth skip"
        ));
    }

    // The profile's login is also chosen if both are equal. That outcome is `Restored` and needs no note.
    if decision.choice == LoginChoice::Profile && decision.outcome == AuthOutcome::KeptNewer {
        let profile = if profile.is_some_and(|profile| profile.auth.login().is_some()) {
            "the profile"
        } else {
            "the removed profile"
        };
        notes.push(format!(
            "{profile} has a newer login than the archive, so its login is restored"
        ));
    }
}

/// Returns the login in the archive, if Codex would read it. Otherwise returns `None` and adds the reason to `notes`. A
/// missing or signed-out auth.json gets no note.
fn parse_archived_login(
    archived: &SecretBytes,
    store: CredentialStore,
    notes: &mut Vec<String>,
) -> Option<(AuthSnapshot, Login)> {
    if !store.always_reads_auth_json() {
        notes.push(format!(
            "the login was not restored: {}",
            store.auth_json_problem()
        ));
        return None;
    }

    let Ok(archived) = AuthSnapshot::parse(archived.expose().to_vec()) else {
        notes.push("the archive's auth.json cannot be read; the live login was kept".into());
        return None;
    };

    if archived.login.is_none() && !archived.is_signed_out() {
        notes.push(
            "the archive's auth.json has no login that codex-manager recognizes; it was not restored"
                .into(),
        );
    }

    let login = archived.login.clone()?;
    Some((archived, login))
}

/// Returns a clause about the home or the machine that owns the account's login now; `None` if this home may use the
/// login. `profile` is the profile of the account.
fn describe_other_owner(
    request: &RestoreRequest<'_>,
    profile: Option<&Profile>,
    login: &Login,
) -> Option<String> {
    let recorded_home = profile.and_then(|p| p.other_live_home(&request.folder));
    if let Some(other_home) = recorded_home.or_else(|| signed_in_source_home(request, login)) {
        let account = match profile {
            Some(profile) => profile.name.clone(),
            None => login.identity.email.to_string(),
        };
        return Some(format!(
            "{account} is signed in to another Codex home: {}; switch that home to another account, then this one: \
             codex-manager use {account}; --auth archive ignores that home",
            other_home.display()
        ));
    }

    let profile = profile.filter(|profile| profile.file.owner == LoginOwner::Moved)?;
    let newest = profile.newest();
    // An import without logins creates a profile whose newest login is unknown, because it is on the other machine.
    let is_obsolete = newest == Freshness::default() || !login.freshness.is_newer_than(&newest);
    is_obsolete.then(|| {
        let name = &profile.name;
        format!(
            "a restore would end the login of {name} on another machine; sign in here with: codex-manager profile \
             login {name}; if that machine no longer needs it: --auth archive"
        )
    })
}

/// Returns the home of which the archive was made, if it is another home of this machine and signed in to the account
/// of `login`. If the user saved no profile, no record names that home.
fn signed_in_source_home<'a>(request: &RestoreRequest<'a>, login: &Login) -> Option<&'a Path> {
    let metadata = request.archive.metadata();
    // The archive was made of this home, or of a home with the same path on another machine.
    if metadata.is_of_home_path(&request.folder) || !login.identity.kind.is_renewable() {
        return None;
    }

    let source_home = Path::new(&metadata.source_codex_home);
    let auth = AuthFile::read(&source_home.join(home::AUTH_JSON)).ok()?;
    let is_signed_in = auth.login()?.identity.is_same(&login.identity);
    is_signed_in.then_some(source_home)
}

/// Saves the live login to its profile before it is replaced, and returns it. If auth.json is no recognized login,
/// copies it into quarantine and returns `None`. Adds a note in both cases.
fn save_or_quarantine_live_login(
    request: &RestoreRequest<'_>,
    home: &Path,
    live: &AuthFile,
    notes: &mut Vec<String>,
) -> Result<Option<AuthSnapshot>, RestoreError> {
    let profiles = Profiles::of(request.manager_home);

    if let (Some(snapshot), Some(login)) = (live.snapshot(), live.login()) {
        // The live home stays the owner until the exchange is done.
        let saved = profiles.save_back(snapshot, login, OwnerLocation::Live(home), request.now)?;
        let name = saved.profile;
        notes.push(format!("the live login was saved to the profile {name}"));
        return Ok(Some(snapshot.clone()));
    }

    // The bytes may be a login of a kind that this version does not know.
    if let Some(bytes) = live.bytes() {
        let copy = profiles.quarantine_bytes(bytes)?;
        notes.push(format!(
            "auth.json held no login that codex-manager recognizes; it was kept in {}",
            copy.display()
        ));
    }
    Ok(None)
}

/// The result of staging the login, with the locks that keep Codex and other codex-manager processes from changing a
/// login.
#[derive(Debug, Default)]
pub(crate) struct StagedLogin {
    pub(crate) outcome: AuthOutcome,
    /// The live login that is replaced.
    replaced: Option<AuthSnapshot>,
    /// The login that replaces it.
    replacement: Option<AuthSnapshot>,
    _account_locks: Option<AccountLocks>,
    _lock: Option<LoginLock>,
}

impl StagedLogin {
    /// Returns true if another login goes live.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replacement.is_some()
    }

    /// Records the owners of both logins after the exchange. The logins themselves were saved before, so a kill in
    /// between leaves a wrong record, but loses no login.
    pub(crate) fn record_owners(&self, request: &RestoreRequest<'_>) -> Result<(), RestoreError> {
        let profiles = Profiles::of(request.manager_home);
        let live_location = match request.auth {
            AuthPolicy::Archive => OwnerLocation::AssertedLive(&request.folder),
            AuthPolicy::Newest | AuthPolicy::Skip => OwnerLocation::Live(&request.folder),
        };

        let owners = [
            (&self.replaced, OwnerLocation::Profile),
            (&self.replacement, live_location),
        ];
        for (snapshot, location) in owners {
            if let Some(snapshot) = snapshot
                && let Some(login) = &snapshot.login
                // A restore creates no profile of an account that the user never saved.
                && profiles.find(&login.identity)?.is_some()
            {
                profiles.save_back(snapshot, login, location, request.now)?;
            }
        }

        Ok(())
    }
}

/// Writes a new auth.json with mode 0600. Without `mtime_ns`, the file keeps the current time.
fn write_auth_json(path: &Path, bytes: &[u8], mtime_ns: Option<i64>) -> Result<(), IoError> {
    atomic::write(path, bytes)?;
    match mtime_ns {
        Some(mtime_ns) => set_attributes(path, 0o600, mtime_ns),
        None => Ok(()),
    }
}

/// Stages the live auth.json: a login as a copy with the same modification time, any other entry as it is. Does nothing
/// if there is no auth.json.
fn stage_live_login(live: &Path, staged: &Path) -> Result<(), IoError> {
    let Some((_, meta)) = file_id::stat(live)? else {
        return Ok(());
    };
    if !meta.is_file() || meta.len() > MAX_LOGIN_BYTES as u64 {
        return links::link_or_copy_tree(live, staged);
    }
    let bytes = file_open::read(live).at("read", live)?;
    write_auth_json(staged, &bytes, Some(modified_ns(&meta)))
}
