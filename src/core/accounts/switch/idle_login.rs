//! Holds Codex's lock on the live login at a moment when no Codex renews it, so that it can be
//! replaced.

use super::error::SwitchError;
use super::plan::{SwitchPlan, plan_switch};
use super::request::SwitchRequest;
use crate::accounts::profile::{Profile, Profiles};
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Holder, LoginLock, daemon, find_codex};
use crate::history::running_turns::find_busy_conversations;
use crate::io::progress::report_wait_since;
use crate::io::{IoError, atomic, is_interrupted};
use crate::journal::format_holders;
use std::path::Path;
use std::time::{Duration, Instant};

/// The interval at which a pending renewal by Codex is checked.
const RENEWAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The live login of a Codex home, with the plan for it. While the value exists, this process holds
/// Codex's locks on the login. No Codex was renewing the login when the value was created, or the
/// plan leaves the login in place.
pub(super) struct IdleLogin<'a> {
    codex_home: &'a Path,
    /// True if a Codex that reads the login would renew it; a switch at that moment would lose the
    /// renewed login.
    is_renewal_due: bool,
    pub(super) live: AuthFile,
    pub(super) profiles: Vec<Profile>,
    pub(super) plan: SwitchPlan,
    _lock: LoginLock,
}

impl<'a> IdleLogin<'a> {
    /// Locks the live login and plans the switch. Waits until no Codex can be renewing the login,
    /// unless the plan leaves the login in place. Codex 0.169 asks the server before it takes the locks,
    /// and discards the answer if it then finds the login of another account. An idle daemon renews
    /// nothing.
    ///
    /// # Errors
    /// The plan refuses, or the locks or a renewal last beyond `deadline`.
    pub(super) fn acquire(
        request: &SwitchRequest<'a>,
        deadline: Instant,
    ) -> Result<Self, SwitchError> {
        let started_at = Instant::now();
        loop {
            let idle = Self::lock_and_plan(request, deadline)?;
            if idle.plan.is_current || !idle.is_renewal_due {
                return Ok(idle);
            }

            let holders = find_possible_renewers(request.codex_home);
            if holders.is_empty() {
                return Ok(idle);
            }

            // Codex needs the locks to finish the renewal.
            drop(idle);
            if Instant::now() >= deadline {
                return Err(SwitchError::Renewing { holders });
            }
            if is_interrupted() {
                return Err(SwitchError::Interrupted);
            }

            report_wait_since(started_at, || {
                let programs = format_holders(&holders);
                format!("Codex, which may be renewing the login: {programs}")
            });
            std::thread::sleep(RENEWAL_POLL_INTERVAL);
        }
    }

    fn lock_and_plan(request: &SwitchRequest<'a>, deadline: Instant) -> Result<Self, SwitchError> {
        let time_left = deadline.saturating_duration_since(Instant::now());
        let lock = LoginLock::acquire(request.codex_home, time_left)?;
        let lock =
            lock.ok_or_else(|| SwitchError::Locked(LoginLock::held_path(request.codex_home)))?;

        let live = AuthFile::read(&request.codex_home.join(AUTH_JSON))?;
        let profiles = Profiles::of(request.manager_home).list()?;
        let now = request.now.to_utc();

        Ok(Self {
            codex_home: request.codex_home,
            is_renewal_due: live.login().is_some_and(|login| login.is_renewal_due(&now)),
            plan: plan_switch(&live, &profiles, request)?,
            live,
            profiles,
            _lock: lock,
        })
    }

    /// Returns true if a Codex that was started after this value took the locks may have read the login and would renew
    /// it. Codex waits for the locks, so the login is not renewed yet.
    pub(super) fn may_be_renewed(&self) -> bool {
        self.is_renewal_due && !find_codex(self.codex_home).is_empty()
    }

    /// Replaces the login by one rename. If a Codex that was started in that moment may renew the old login, restores
    /// the old login and returns false, because the renewed login would be lost.
    pub(super) fn try_replace_with(&self, new: &AuthSnapshot) -> Result<bool, IoError> {
        let path = self.codex_home.join(AUTH_JSON);
        atomic::write(&path, new.bytes.expose())?;
        match &self.live {
            AuthFile::Present(old) if self.may_be_renewed() => {
                atomic::write(&path, old.bytes.expose())?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }
}

/// Returns the Codex processes that may be renewing the login of `codex_home`.
fn find_possible_renewers(codex_home: &Path) -> Vec<Holder> {
    let mut holders = find_codex(codex_home);
    if let Some(daemon) = daemon::find(codex_home)
        && !find_busy_conversations(codex_home).is_empty()
    {
        holders.push(Holder::daemon(daemon.pid));
    }
    holders
}
