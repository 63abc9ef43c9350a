//! Applies a switch under all locks.

use super::error::SwitchError;
use super::idle_login::IdleLogin;
use super::plan::{SwitchPlan, check_daemon, plan_from_disk};
use super::request::{DaemonPolicy, SwitchRequest};
use super::switch_record::record_last_switch;
use crate::accounts::lease::LeaseError;
use crate::accounts::owner::OwnerLocation;
use crate::accounts::profile::{LoginOwner, Profiles};
use crate::accounts::save::{LoginToKeep, SaveReport};
use crate::codex::{AuthFile, AuthSnapshot, Holder, Login, Program, daemon, find_codex};
use crate::history::running_turns::find_busy_conversations;
use crate::io::{atomic, events, message_with_causes};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time limit for stopping an idle daemon.
const DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for stopping a daemon that runs a turn: Codex 0.169 aborts the turn only after a
/// minute.
const BUSY_DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct SwitchReport {
    /// The plan as computed under the locks.
    pub plan: SwitchPlan,
    /// The result of saving the login that was live.
    pub saved_back: Option<SaveReport>,
    /// The quarantine path of a live auth.json that was no login.
    pub quarantined: Option<PathBuf>,
    pub daemon_stopped: bool,
    /// Codex programs that keep the old account until they end.
    pub still_running: Vec<Holder>,
    /// The errors of recording the switch. The new login is live nevertheless.
    pub record_errors: Vec<String>,
}

/// Switches the live login.
///
/// # Errors
/// See [`SwitchError`], which also describes the login that is live then.
pub fn apply(request: &SwitchRequest<'_>) -> Result<SwitchReport, SwitchError> {
    // Checked before anything is written, even a lock file.
    let plan = plan_from_disk(request)?;

    atomic::create_private_folder(request.codex_home)?;
    let deadline = Instant::now() + request.lock_timeout;
    let profiles = Profiles::of(request.manager_home);

    let accounts: Vec<_> = std::iter::once(request.to).chain(&plan.from).collect();
    // The locks on accounts come before Codex's own: a probe holds its account while it asks Codex.
    let _account_locks = profiles.lock_accounts(&accounts, request.now, request.lock_timeout)?;
    events::info!("locked the accounts");

    let mut daemon_stopped = false;
    loop {
        // Locked and planned again in each round, because Codex may have renewed the login meanwhile.
        let idle = IdleLogin::acquire(request, deadline)?;
        events::info!("took Codex's locks and read the live login again");

        if apply_daemon_policy(request, &idle.plan)? {
            events::info!("stopped Codex's background daemon");
            daemon_stopped = true;
        }

        let mut report = SwitchReport {
            plan: idle.plan.clone(),
            saved_back: None,
            quarantined: None,
            daemon_stopped,
            still_running: Vec::new(),
            record_errors: Vec::new(),
        };

        if report.plan.is_current {
            return Ok(report);
        }
        let is_replaced = replace_live_login(request, &profiles, &idle, &mut report)?;
        if is_replaced {
            return Ok(report);
        }
        events::info!(
            "Codex was started during the switch: the old login stays until the next attempt"
        );
    }
}

/// Saves the live login and replaces it by the login of the target. Returns false and leaves the old
/// login live if a Codex that was just started may renew the old login.
fn replace_live_login(
    request: &SwitchRequest<'_>,
    profiles: &Profiles,
    idle: &IdleLogin<'_>,
    report: &mut SwitchReport,
) -> Result<bool, SwitchError> {
    let (snapshot, login) = find_login_to_activate(request, idle)?;
    save_or_quarantine_live_login(request, profiles, &idle.live, report)?;
    if let Some(saved) = &report.saved_back {
        events::info!("saved the live login to the profile {}", saved.profile);
    }
    report.still_running = find_codex(request.codex_home);
    // `find_codex` also lists the npm launcher, whose Codex process is in the list too.
    report.still_running.retain(|holder| holder.name == "codex");

    // A Codex may have started while the daemon was stopped and the login was saved.
    if idle.may_be_renewed() {
        return Ok(false);
    }

    let new_owner = if request.force_stale {
        OwnerLocation::AssertedLive(request.codex_home)
    } else {
        OwnerLocation::Live(request.codex_home)
    };
    // The record is written before the file: a reader looks only at the homes that records name,
    // and the auth.json there decides which login is live.
    let record_owner = |owner| profiles.save_back(snapshot, login, owner, request.now);
    record_owner(new_owner)?;

    if !idle.try_replace_with(snapshot)? {
        // The target's login did not go live, so its profile owns it again.
        record_owner(OwnerLocation::Profile)?;
        return Ok(false);
    }
    events::info!("activated the login of {}", report.plan.profile);

    // After a crash or an error from here on, the record of the old login may still name this home.
    report.record_errors = record_switch(request, profiles, idle);
    for error in &report.record_errors {
        events::info!("cannot record the switch: {error}");
    }
    if report.record_errors.is_empty() {
        events::info!("recorded the owner of each login");
    }
    Ok(true)
}

/// Returns the login to activate: that of the profile in the plan.
fn find_login_to_activate<'i>(
    request: &SwitchRequest<'_>,
    idle: &'i IdleLogin<'_>,
) -> Result<(&'i AuthSnapshot, &'i Login), SwitchError> {
    let name = &idle.plan.profile;
    let target = idle.profiles.iter().find(|p| p.name == *name);
    let login = target.and_then(|p| Some((p.snapshot()?, p.login()?)));
    let login = login.ok_or_else(|| SwitchError::no_profile(request))?;
    // `lock_accounts` has released the lease of a killed probe, so this lease is of a running probe.
    if target.is_some_and(|p| p.file.owner == LoginOwner::Probe) {
        return Err(LeaseError::AlreadyLeased(name.clone()).into());
    }
    Ok(login)
}

/// Records that the profile owns the login that was live, and records the switch. Returns the errors: each record is
/// written even if another one cannot be.
fn record_switch(
    request: &SwitchRequest<'_>,
    profiles: &Profiles,
    idle: &IdleLogin<'_>,
) -> Vec<String> {
    let mut results = Vec::new();
    if let AuthFile::Present(old) = &idle.live
        && let Some(old_login) = &old.login
        && !old_login.identity.is_same(request.to)
    {
        let saved = profiles.save_back(old, old_login, OwnerLocation::Profile, request.now);
        results.push(saved.map(drop));
    }
    // Codex may have removed the auth.json of another account, whose record then still names this home.
    results.push(profiles.end_other_live_records(request.codex_home, request.to));

    let from = idle.plan.from.as_ref();
    // Replacing a login by a newer one of the same account is no switch.
    let is_same_account = from.is_some_and(|from| from.is_same(request.to));
    if !is_same_account {
        results.push(record_last_switch(request, from));
    }
    let errors = results.into_iter().filter_map(Result::err);
    errors.map(|e| message_with_causes(&e)).collect()
}

/// Saves the live login to its profile, or quarantines an auth.json that is no login.
fn save_or_quarantine_live_login(
    request: &SwitchRequest<'_>,
    profiles: &Profiles,
    live: &AuthFile,
    report: &mut SwitchReport,
) -> Result<(), SwitchError> {
    match profiles.extract_login_or_quarantine(live)? {
        LoginToKeep::Missing => {}
        LoginToKeep::Quarantined(path) => report.quarantined = Some(path),
        LoginToKeep::Login(old, login) => {
            // The old login stays live until the rename.
            let owner = OwnerLocation::Live(request.codex_home);
            let saved = profiles.save_back(old, login, owner, request.now)?;
            report.saved_back = Some(saved);
        }
    }
    Ok(())
}

/// Stops a running daemon if the policy requires it, even if the plan changes nothing. With
/// `Refuse`, fails if a daemon runs and the plan changes the login. Checks that no daemon runs
/// afterwards. Returns true if it stopped one.
fn apply_daemon_policy(
    request: &SwitchRequest<'_>,
    plan: &SwitchPlan,
) -> Result<bool, SwitchError> {
    let DaemonPolicy::Stop { codex_bin, env, .. } = request.daemon else {
        if !plan.is_current {
            check_daemon(request)?;
        }
        return Ok(false);
    };

    check_daemon(request)?;
    if daemon::find(request.codex_home).is_none() {
        return Ok(false);
    }

    let timeout = if find_busy_conversations(request.codex_home).is_empty() {
        DAEMON_STOP_TIMEOUT
    } else {
        BUSY_DAEMON_STOP_TIMEOUT
    };

    let program = Program::find(codex_bin, env)?;
    // Fails if a daemon runs afterwards, also one that another process has started.
    Ok(daemon::stop(&program, request.codex_home, env, timeout)?)
}
