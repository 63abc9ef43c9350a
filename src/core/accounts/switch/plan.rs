//! Plans a switch without changing anything.

use super::error::SwitchError;
use super::request::{DaemonPolicy, SwitchRequest};
use crate::accounts::lease::LeaseError;
use crate::accounts::profile::find_own_profile;
use crate::accounts::profile::{LoginOwner, Profile, ProfileError, Profiles};
use crate::accounts::save::SaveOutcome;
use crate::accounts::save::predict_save_outcome;
use crate::codex::{
    AUTH_JSON, AuthFile, AuthSnapshot, Daemon, Identity, Login, check_login_replaceable, daemon,
};
use crate::history::running_turns::find_busy_conversations;
use crate::io::OrdinaryPath;
use serde::Serialize;
use std::path::Path;

/// The planned effect of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchPlan {
    /// The account that is signed in now.
    pub from: Option<Identity>,
    /// The profile with the login to activate; empty if the account is live and has no profile.
    pub profile: String,
    /// True if there is nothing to do: the account is live, and its profile has no newer login.
    pub is_current: bool,
    /// The effect of saving the live login.
    pub save_back: Option<PlannedSave>,
    /// The reason why the live auth.json is not a login. The file goes to quarantine.
    pub unreadable: Option<String>,
    /// True if the home has no auth.json.
    pub is_missing: bool,
    /// The profile that was live in this home, according to its record, if the home has no auth.json.
    pub last_live: Option<String>,
    /// True if the login to activate is older than the newest observed one.
    pub is_stale: bool,
}

/// The effect of saving the live login, which a switch does first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSave {
    /// The profile of the account; `None` if it has none yet.
    pub profile: Option<String>,
    pub outcome: SaveOutcome,
}

/// Plans a switch to the account `request.to`, given the live login and all profiles.
///
/// Reads the auth.json of the Codex homes that may have the target's login, and writes nothing.
///
/// # Errors
/// See [`SwitchError`].
pub(crate) fn plan_switch(
    live: &AuthFile,
    profiles: &[Profile],
    request: &SwitchRequest<'_>,
) -> Result<SwitchPlan, SwitchError> {
    let from = live.login().map(|l| l.identity.clone());
    let target = find_own_profile(profiles, request.to)?;
    let is_live_account = from.as_ref().is_some_and(|from| from.is_same(request.to));

    // A live login that is older than the one in the profile is replaced, although the account stays the same.
    let both_logins = live.login().zip(target.and_then(Profile::login));
    let has_older_login = is_live_account
        && both_logins.is_some_and(|(live, saved)| saved.freshness.is_newer_than(&live.freshness));

    let is_missing = matches!(live, AuthFile::Missing);
    // Without auth.json, only the record of a profile tells which account was live in this home.
    let was_live_here = |p: &&Profile| is_missing && p.is_recorded_in(request.codex_home);
    let last_live = profiles.iter().find(was_live_here);
    // The parts of a plan that replaces the login are set below.
    let mut plan = SwitchPlan {
        profile: target.map(|p| p.name.clone()).unwrap_or_default(),
        is_current: is_live_account && !has_older_login,
        save_back: None,
        unreadable: None,
        is_missing,
        last_live: last_live.map(|p| p.name.clone()),
        is_stale: false,
        from,
    };
    if plan.is_current {
        return Ok(plan);
    }

    let Some(target) = target else {
        return Err(SwitchError::no_profile(request));
    };
    check_usable_login(target, request)?;
    check_other_homes(target, has_older_login, request)?;

    plan.is_stale = target.is_stale();
    if plan.is_stale && !request.force_stale {
        let profile = target.name.clone();
        return Err(SwitchError::Stale { profile });
    }

    // The live login leaves the home: it goes to its own profile, or to quarantine if it is no login.
    match live {
        AuthFile::Present(snapshot) => match &snapshot.login {
            Some(login) => plan.save_back = Some(plan_save_back(profiles, snapshot, login)?),
            None => plan.unreadable = Some("without a login that codex-manager recognizes".into()),
        },
        AuthFile::Unreadable { reason, .. } => plan.unreadable = Some(reason.clone()),
        AuthFile::Missing => {}
    }

    Ok(plan)
}

fn plan_save_back(
    profiles: &[Profile],
    snapshot: &AuthSnapshot,
    login: &Login,
) -> Result<PlannedSave, ProfileError> {
    let profile = find_own_profile(profiles, &login.identity)?;
    Ok(PlannedSave {
        profile: profile.map(|p| p.name.clone()),
        outcome: predict_save_outcome(profile, snapshot, login),
    })
}

/// Checks that the target's profile has a login that this machine may use.
fn check_usable_login(target: &Profile, request: &SwitchRequest<'_>) -> Result<(), SwitchError> {
    let profile = target.name.clone();

    if let Some(account) = target.other_account() {
        let folder = Profiles::of(request.manager_home).folder_of(&profile);
        let auth_json = folder.join(AUTH_JSON);
        return Err(SwitchError::OtherAccount {
            profile,
            account: account.to_string(),
            auth_json,
        });
    }
    if let Some(reason) = target.damaged.clone() {
        return Err(LeaseError::Damaged { profile, reason }.into());
    }
    if target.file.owner == LoginOwner::Moved {
        return Err(LeaseError::Moved(profile).into());
    }
    if target.login().is_some() {
        return Ok(());
    }

    let reason = match &target.auth {
        AuthFile::Missing => "missing".into(),
        AuthFile::Unreadable { reason, .. } => reason.clone(),
        AuthFile::Present(_) => "without one".into(),
    };
    Err(SwitchError::NoLogin { profile, reason })
}

/// Fails if the target is live in another Codex home, or may be live in a Codex home that cannot be read.
/// `has_older_login` is true if this home has an older login of the same account.
fn check_other_homes(
    target: &Profile,
    has_older_login: bool,
    request: &SwitchRequest<'_>,
) -> Result<(), SwitchError> {
    // With an older login in this home, the newer one may be in the recorded home, which is therefore checked first.
    let recorded_home = target.file.live_home.as_deref();
    let first_home = if has_older_login {
        recorded_home.unwrap_or(request.codex_home)
    } else {
        request.codex_home
    };

    let profile = target.name.clone();
    let this_home = request.codex_home.canonical_or_self();
    // This switch replaces the outdated login in this home.
    let is_replaced = |home: &Path| has_older_login && home.canonical_or_self() == this_home;
    if let Some(home) = target.find_live_home(first_home)
        && !is_replaced(&home)
    {
        let profiles = Profiles::of(request.manager_home);
        // A switch would overwrite the record of the isolated login. This also applies to an API key.
        if let Some(isolated) = profiles.isolation_error(&profile, &home) {
            return Err(isolated.into());
        }
        if target.is_renewable() {
            return Err(SwitchError::LiveElsewhere { profile, home });
        }
    }

    // The login of this home was read already, so only another home is an obstacle.
    if let Some(home) = target.unreadable_home()
        && home != this_home
        && target.is_renewable()
        && !request.force_stale
    {
        let home = home.to_path_buf();
        return Err(LeaseError::HomeUnreadable { profile, home }.into());
    }
    Ok(())
}

/// Plans a switch from the current state on disk. Takes no lock and writes nothing. A login that a
/// killed launch left in its isolated home counts as returned: [`apply`](super::apply()) returns it
/// first.
///
/// # Errors
/// See [`SwitchError`]. A plan that replaces the login fails if no rename can replace auth.json, or if the daemon
/// prevents the switch.
pub fn plan_from_disk(request: &SwitchRequest<'_>) -> Result<SwitchPlan, SwitchError> {
    let auth_path = request.codex_home.join(AUTH_JSON);
    let live = AuthFile::read(&auth_path)?;
    let profiles = Profiles::of(request.manager_home);
    let saved = profiles.list()?.into_iter();
    let returned = saved.map(|p| profiles.simulate_isolation_return(p));
    let plan = plan_switch(&live, &returned.collect::<Vec<_>>(), request)?;
    if !plan.is_current {
        check_login_replaceable(&auth_path).map_err(LeaseError::from)?;
        check_daemon(request)?;
    }
    Ok(plan)
}

/// Checks that the daemon, as it is now, does not prevent the switch. Changes nothing.
///
/// # Errors
/// A daemon runs and the policy is to refuse; or it runs turns, and `force` is false.
pub(super) fn check_daemon(request: &SwitchRequest<'_>) -> Result<(), SwitchError> {
    let Some(Daemon { pid, .. }) = daemon::find(request.codex_home) else {
        return Ok(());
    };

    let force = match request.daemon {
        DaemonPolicy::Leave => return Ok(()),
        DaemonPolicy::Refuse => return Err(SwitchError::Daemon(pid)),
        DaemonPolicy::Stop { force, .. } => force,
    };

    let turns = find_busy_conversations(request.codex_home);
    if !turns.is_empty() && !force {
        return Err(SwitchError::DaemonAtWork { pid, turns });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::profile::ProfileFile;
    use crate::codex::auth::{AuthSnapshot, Freshness, Login};
    use crate::io::clock::Timestamp;
    use crate::io::secret::SecretBytes;
    use std::time::Duration;

    fn who(name: &str) -> Identity {
        Identity {
            account_id: Some(name.into()),
            user_id: Some(name.into()),
            ..Identity::from_email(format!("{name}@x.com"))
        }
    }

    fn fresh(day: i64) -> Freshness {
        Freshness {
            last_refresh: chrono::DateTime::from_timestamp(day * 86_400, 0),
            ..Freshness::default()
        }
    }

    fn auth(name: &str, day: i64) -> AuthFile {
        AuthFile::Present(AuthSnapshot {
            bytes: SecretBytes::new(format!("{name} {day}").into_bytes()),
            login: Some(Login {
                identity: who(name),
                plan: None,
                freshness: fresh(day),
            }),
        })
    }

    fn profile(name: &str, day: i64, newest: i64) -> Profile {
        Profile {
            name: name.into(),
            file: ProfileFile {
                identity: Some(who(name)),
                newest: fresh(newest),
                ..ProfileFile::default()
            },
            auth: auth(name, day),
            damaged: None,
            unusable: None,
        }
    }

    fn plan(
        live: &AuthFile,
        profiles: &[Profile],
        to: &str,
        force_stale: bool,
    ) -> Result<SwitchPlan, String> {
        let nowhere = Path::new("/nonexistent");
        let to = who(to);
        let request = SwitchRequest {
            codex_home: nowhere,
            manager_home: nowhere,
            to: &to,
            force_stale,
            daemon: DaemonPolicy::Refuse,
            now: Timestamp::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap(),
            lock_timeout: Duration::ZERO,
        };
        plan_switch(live, profiles, &request).map_err(|e| e.to_string())
    }

    #[test]
    fn a_newer_live_login_is_saved_and_an_older_one_is_not() {
        let all = [profile("a", 2, 2), profile("b", 2, 2)];
        let saved = |live: &AuthFile| {
            let saved = plan(live, &all, "b", false).unwrap().save_back?;
            Some((saved.profile, saved.outcome))
        };
        let a = || Some("a".to_owned());
        assert_eq!(saved(&auth("a", 3)), Some((a(), SaveOutcome::Updated)));
        assert_eq!(saved(&auth("a", 2)), Some((a(), SaveOutcome::Unchanged)));
        assert_eq!(saved(&auth("a", 1)), Some((a(), SaveOutcome::KeptNewer)));
        assert_eq!(saved(&auth("c", 1)), Some((None, SaveOutcome::Created)));
        assert_eq!(saved(&AuthFile::Missing), None);
    }

    #[test]
    fn an_unreadable_live_login_is_in_the_plan_with_the_reason() {
        let all = [profile("a", 2, 2), profile("b", 2, 2)];
        let none = AuthFile::Unreadable {
            bytes: SecretBytes::new(vec![0]),
            reason: "filled with NUL bytes".into(),
        };
        let planned = plan(&none, &all, "b", false).unwrap();
        assert_eq!(planned.unreadable.as_deref(), Some("filled with NUL bytes"));
    }

    #[test]
    fn a_login_older_than_the_newest_seen_needs_force() {
        let all = [profile("a", 2, 3)];
        assert!(
            plan(&AuthFile::Missing, &all, "a", false)
                .unwrap_err()
                .contains("older")
        );
        assert!(plan(&AuthFile::Missing, &all, "a", true).unwrap().is_stale);
    }

    #[test]
    fn a_login_that_cannot_go_live_is_refused_with_the_reason_unless_it_is_live_already() {
        let mut moved = profile("a", 2, 2);
        moved.file.owner = LoginOwner::Moved;
        let mut mixed = profile("b", 2, 2);
        mixed.auth = auth("c", 9);
        let mut empty = profile("d", 2, 2);
        empty.auth = AuthFile::Missing;
        let all = [moved, mixed, empty];
        for (to, reason) in [
            ("a", "moved"),
            ("b", "login of c@x.com"),
            ("d", "missing"),
            ("e", "no profile has a login"),
        ] {
            let error = plan(&AuthFile::Missing, &all, to, true).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let current = plan(&auth("e", 1), &all, "e", false).unwrap();
        assert!(current.is_current);
    }

    #[test]
    fn a_login_recorded_in_an_unreadable_home_needs_force() {
        let mut lost = profile("a", 2, 2);
        lost.file.owner = LoginOwner::Live;
        lost.file.live_home = Some("/nonexistent/disk".into());
        let all = [lost];
        let error = plan(&AuthFile::Missing, &all, "a", false).unwrap_err();
        assert!(error.contains("/nonexistent/disk"), "{error}");
        plan(&AuthFile::Missing, &all, "a", true).unwrap();
    }
}
