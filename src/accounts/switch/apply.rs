//! Applies a switch under all locks.

use super::note::remember;
use super::plan::{plan, plan_switch};
use super::{DaemonPolicy, SwitchError, SwitchReport, SwitchRequest};
use crate::accounts::lease::LeaseError;
use crate::accounts::profile::{LoginOwner, Profiles};
use crate::accounts::save::OwnerLocation;
use crate::codex::auth::AuthFile;
use crate::codex::daemon::{self, Daemon};
use crate::codex::home::AUTH_JSON;
use crate::codex::login_lock::LoginLock;
use crate::codex::process::{Holder, find_codex, running_daemon_turns};
use crate::codex::program::Program;
use crate::io::atomic;
use crate::io::lock::LockError;
use crate::io::progress::is_interrupted;
use std::time::{Duration, Instant};

/// The interval at which a pending renewal by Codex is checked.
const RENEWAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The time limit for stopping an idle daemon.
const DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for stopping a daemon that runs a turn: Codex 0.169 lets the turn go on for a
/// minute before it cuts it off.
const BUSY_DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// Checks that the daemon, as it is now, does not prevent the switch. Changes nothing.
///
/// # Errors
/// A daemon runs and the policy is to refuse, or it runs turns.
pub fn check_daemon(request: &SwitchRequest<'_>) -> Result<(), SwitchError> {
    let Some(Daemon { pid, .. }) = daemon::find(request.codex_home) else {
        return Ok(());
    };
    let force = match request.daemon {
        DaemonPolicy::Leave => return Ok(()),
        DaemonPolicy::Refuse => return Err(SwitchError::Daemon(pid)),
        DaemonPolicy::Stop { force, .. } => force,
    };
    let turns = running_daemon_turns(request.codex_home);
    if turns.is_empty() || force {
        Ok(())
    } else {
        Err(SwitchError::DaemonAtWork { pid, turns })
    }
}

/// Switches the live login and calls `on_step` after each step.
///
/// # Errors
/// See [`SwitchError`]. Nothing was changed then, except that the live login may have been saved.
pub fn apply(
    request: &SwitchRequest<'_>,
    on_step: &dyn Fn(&str),
) -> Result<SwitchReport, SwitchError> {
    let home = request.codex_home;
    // Before anything is written, be it a lock.
    let first = plan(request)?;
    if !first.is_current
        && matches!(request.daemon, DaemonPolicy::Refuse)
        && let Some(daemon) = daemon::find(home)
    {
        return Err(SwitchError::Daemon(daemon.pid));
    }
    atomic::create_private_folder(home)?;
    let end = Instant::now() + request.patience;
    let profiles = Profiles::of(request.manager_home);
    let accounts: Vec<_> = std::iter::once(request.to).chain(&first.from).collect();
    let _account_locks = profiles.lock_accounts(&accounts, request.now, request.patience)?;
    on_step("locked the accounts");
    let mut daemon_stopped = false;
    let mut is_current = first.is_current;
    loop {
        let (lock, live) = lock_when_idle(request, is_current, end)?;
        on_step("took Codex's locks and read the live login again");
        let all = profiles.list()?;
        let plan = plan_switch(&live, &all, request)?;
        if is_current && !plan.is_current {
            // A newer login was saved since the first plan, so a renewal by Codex matters now.
            is_current = false;
            continue;
        }
        let is_needed = match request.daemon {
            DaemonPolicy::Refuse => !plan.is_current,
            DaemonPolicy::Leave => false,
            DaemonPolicy::Stop { .. } => true,
        };
        if is_needed && let Some(daemon) = daemon::find(home) {
            stop(request, daemon)?;
            on_step("stopped Codex's background daemon");
            daemon_stopped = true;
        }
        let mut report = SwitchReport {
            plan,
            saved_back: None,
            kept: None,
            daemon_stopped,
            still_running: Vec::new(),
        };
        if report.plan.is_current {
            return Ok(report);
        }
        let target = all.iter().find(|p| p.name == report.plan.profile);
        let Some((snapshot, login)) = target.and_then(|p| Some((p.snapshot()?, p.login()?))) else {
            return Err(SwitchError::NoProfile(request.to.clone()));
        };
        // What a killed probe left has been brought back by now.
        if target.is_some_and(|p| p.file.owner == LoginOwner::Probe) {
            return Err(LeaseError::AlreadyLeased(report.plan.profile).into());
        }
        save_back(request, &profiles, &live, &mut report)?;
        if let Some(saved) = &report.saved_back {
            on_step(&format!(
                "saved the live login to the profile {}",
                saved.profile
            ));
        }
        report.still_running = find_codex(home);
        report.still_running.retain(|holder| holder.name == "codex");
        // Nothing waits for the locks that we hold but what was started after the look above.
        if may_be_renewed(&live, request) && !find_codex(home).is_empty() {
            drop(lock);
            continue;
        }
        // Noted before it is so: whose login is live is read from the file, but which files to read
        // is known from the notes alone.
        let note = |owner| profiles.save_back(snapshot, login, owner, request.now);
        note(if request.force_stale {
            OwnerLocation::AssertedLive(home)
        } else {
            OwnerLocation::Live(home)
        })?;
        atomic::write(&home.join(AUTH_JSON), snapshot.bytes.expose())?;
        if let AuthFile::Present(old) = &live
            && may_be_renewed(&live, request)
            && !find_codex(home).is_empty()
        {
            // Started in this moment: it may have read the old login, and would lose the new one.
            atomic::write(&home.join(AUTH_JSON), old.bytes.expose())?;
            note(OwnerLocation::Profile)?;
            on_step("Codex was started during the switch: put the old login back and retry");
            drop(lock);
            continue;
        }
        on_step(&format!("put the login of {} live", report.plan.profile));
        // From here on a crash leaves a note only of a home that had the old login.
        if let AuthFile::Present(old) = &live
            && let Some(old_login) = &old.login
            && !old_login.identity.is_same(request.to)
        {
            profiles.save_back(old, old_login, OwnerLocation::Profile, request.now)?;
        }
        // The same account, renewed, is no switch.
        if !report
            .plan
            .from
            .as_ref()
            .is_some_and(|from| from.is_same(request.to))
        {
            remember(request, report.plan.from.as_ref())?;
        }
        on_step("recorded the owner of each login");
        return Ok(report);
    }
}

/// Saves the live login to its profile, or quarantines an auth.json that is no login.
fn save_back(
    request: &SwitchRequest<'_>,
    profiles: &Profiles,
    live: &AuthFile,
    report: &mut SwitchReport,
) -> Result<(), SwitchError> {
    match live {
        AuthFile::Present(old) => {
            if let Some(login) = &old.login {
                // Until the rename it is live.
                let owner = OwnerLocation::Live(request.codex_home);
                let saved = profiles.save_back(old, login, owner, request.now)?;
                report.saved_back = Some(saved);
            } else {
                report.kept = Some(profiles.quarantine_bytes(&old.bytes)?);
            }
        }
        AuthFile::Unreadable { bytes, .. } => {
            report.kept = Some(profiles.quarantine_bytes(bytes)?);
        }
        AuthFile::Missing => {}
    }
    Ok(())
}

/// Stops the daemon if the policy allows it, and checks that none runs afterwards.
fn stop(request: &SwitchRequest<'_>, daemon: Daemon) -> Result<(), SwitchError> {
    let DaemonPolicy::Stop {
        codex_bin,
        env,
        force,
    } = request.daemon
    else {
        return Err(SwitchError::Daemon(daemon.pid));
    };
    let turns = running_daemon_turns(request.codex_home);
    if !turns.is_empty() && !force {
        let pid = daemon.pid;
        return Err(SwitchError::DaemonAtWork { pid, turns });
    }
    let patience = if turns.is_empty() {
        DAEMON_STOP_TIMEOUT
    } else {
        BUSY_DAEMON_STOP_TIMEOUT
    };
    let program = Program::find(codex_bin, env)?;
    daemon::stop(&program, request.codex_home, env, patience)?;
    match daemon::find(request.codex_home) {
        Some(next) => Err(SwitchError::Daemon(next.pid)),
        None => Ok(()),
    }
}

/// Returns true if a Codex that reads this login would renew it; a switch at that moment would lose
/// the renewed login.
fn may_be_renewed(live: &AuthFile, request: &SwitchRequest<'_>) -> bool {
    let now = request.now.to_utc();
    live.login().is_some_and(|l| l.is_renewal_due(&now))
}

/// Takes Codex's locks once no Codex can be renewing the live login. Codex asks the server before
/// it takes the locks (0.169), and discards the answer if it then finds the login of another
/// account. An idle daemon renews nothing.
fn lock_when_idle(
    request: &SwitchRequest<'_>,
    is_current: bool,
    end: Instant,
) -> Result<(LoginLock, AuthFile), SwitchError> {
    let home = request.codex_home;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        let lock = LoginLock::acquire(home, rest).map_err(|e| match e {
            LockError::Io(e) => e.into(),
            LockError::Held(path) => SwitchError::Locked(path),
        })?;
        let live = AuthFile::read(&home.join(AUTH_JSON))?;
        let mut holders = Vec::new();
        let stays = is_current && live.login().is_some_and(|l| l.identity.is_same(request.to));
        if !stays && may_be_renewed(&live, request) {
            holders = find_codex(home);
            if let Some(daemon) =
                daemon::find(home).filter(|_| !running_daemon_turns(home).is_empty())
            {
                holders.push(Holder {
                    pid: Some(daemon.pid),
                    name: "codex".into(),
                    why: "background daemon".into(),
                });
            }
        }
        if holders.is_empty() {
            return Ok((lock, live));
        }
        drop(lock);
        if Instant::now() >= end {
            return Err(SwitchError::Renewing { holders });
        }
        if is_interrupted() {
            return Err(SwitchError::Interrupted);
        }
        std::thread::sleep(RENEWAL_POLL_INTERVAL);
    }
}
