//! Probes the quota of several accounts at once, each in the home that may use its login.
//!
//! The live account is probed in the Codex home, as by `status`, and a profile in a scratch home.
//! An account whose login is in another Codex home is not probed; its last observation is reported.

use super::status::{self, Inquiry, StatusError, StatusReport};
use crate::accounts::{LeaseError, Profile, ProfileError, Profiles};
use crate::codex::{AuthFile, Identity, read_login};
use crate::io::clock::Timestamp;
use crate::io::parallel;
use std::path::Path;
use std::time::Duration;

/// The number of accounts that are probed at a time.
const MAX_CONCURRENT_PROBES: usize = 4;

/// The longest wait for another codex-manager process that holds a login.
const LEASE_TIMEOUT: Duration = Duration::from_secs(15);

/// No pasted text of `/status`, so Codex is asked.
const NO_TEXT: Option<&str> = None;

#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// The name of the account's profile. Only the live account may have none.
    pub profile: Option<String>,
    pub identity: Identity,
    /// True for the account of the live login, which is probed in the Codex home. Another account is probed in a
    /// scratch home with the login of its profile, unless another Codex home has that login.
    pub is_live: bool,
    /// The time of the last use of the account, according to its conversations.
    pub used_at: Option<Timestamp>,
}

#[derive(Debug)]
pub struct AccountProbe {
    pub target: ProbeTarget,
    /// The windows of the account, from this probe or from the last observation.
    pub report: StatusReport,
    /// The reason why the account was not probed, or why its login could not be returned to the profile.
    pub obstacle: Option<LeaseError>,
    pub warnings: Vec<String>,
}

impl AccountProbe {
    /// Returns true if the report is complete and the login is back in its profile.
    pub fn is_complete(&self) -> bool {
        self.report.is_complete() && self.obstacle.is_none()
    }

    /// Returns true if the login was moved to another machine, so that this machine cannot probe the account.
    pub fn is_moved(&self) -> bool {
        matches!(self.obstacle, Some(LeaseError::Moved(_)))
    }

    /// Returns the reason why there are no fresh windows, or why the login is not back in its profile. Safe to print.
    pub fn problem(&self) -> Option<String> {
        let problem = self.report.problem.as_ref().map(ToString::to_string);
        self.obstacle.as_ref().map(ToString::to_string).or(problem)
    }
}

/// Returns the accounts of all profiles and of the live login. The account of the live login comes first; the others
/// are ordered by the names of their profiles. An account whose login is missing or moved is included, and its probe
/// reports the obstacle.
///
/// # Errors
/// A profile cannot be read.
pub fn load_targets(
    codex_home: &Path,
    manager_home: &Path,
) -> Result<Vec<ProbeTarget>, ProfileError> {
    // An unreadable live login belongs to no known account; `status` reports the problem.
    let live_auth = read_login(codex_home).unwrap_or(AuthFile::Missing);
    let profiles = Profiles::of(manager_home).list()?;
    let live = live_auth.login().map(|login| &login.identity);

    let new_target = |profile: Option<&Profile>, identity: &Identity, is_live| ProbeTarget {
        profile: profile.map(|profile| profile.name.clone()),
        identity: identity.clone(),
        is_live,
        used_at: None,
    };

    let mut targets = Vec::new();
    for profile in &profiles {
        let Some(identity) = profile.identity() else {
            continue;
        };
        let is_live = profile.find_live_home(codex_home).is_some()
            && live.is_some_and(|live| live.is_same(identity));
        targets.push(new_target(Some(profile), identity, is_live));
    }

    // The live login may belong to no profile.
    if let Some(live) = live
        && !targets.iter().any(|target| target.is_live)
    {
        let (no_profile, is_live) = (None, true);
        targets.push(new_target(no_profile, live, is_live));
    }

    // The sort is stable, so the profiles stay in the order of their names.
    targets.sort_by_key(|target| !target.is_live);
    Ok(targets)
}

/// Probes each account, up to four at a time, and records each answer immediately. Returns the results
/// in the order of `targets`. `on_answer` is called after each probe.
///
/// # Errors
/// An answer cannot be recorded, or the user interrupts. Earlier answers are recorded.
pub fn probe_all(
    codex_home: &Path,
    inquiry: &Inquiry<'_>,
    targets: &[ProbeTarget],
    on_answer: &(dyn Fn() + Sync),
) -> Result<Vec<AccountProbe>, StatusError> {
    let mut probes = Vec::new();
    parallel::run_each_ordered(
        MAX_CONCURRENT_PROBES,
        targets,
        |target: &ProbeTarget| {
            let answer = probe_account(codex_home, inquiry, target);
            on_answer();
            answer
        },
        |probe: Result<AccountProbe, StatusError>| {
            probes.push(probe?);
            Ok::<_, StatusError>(())
        },
    )?;

    Ok(probes)
}

/// Probes one account and records the answer.
fn probe_account(
    codex_home: &Path,
    inquiry: &Inquiry<'_>,
    target: &ProbeTarget,
) -> Result<AccountProbe, StatusError> {
    let (report, obstacle) = if target.is_live {
        (status::read_status(codex_home, inquiry, NO_TEXT)?, None)
    } else {
        probe_profile(codex_home, inquiry, target)?
    };

    let mut warnings = Vec::new();
    // Without a question to Codex, the report has nothing new to record.
    if inquiry.ask_codex {
        let (manager_home, now, zone) = (inquiry.manager_home, &inquiry.now, inquiry.zone);
        warnings = status::record_report(manager_home, &report, target.used_at, now, zone)?;
    }

    Ok(AccountProbe {
        target: target.clone(),
        report,
        obstacle,
        warnings,
    })
}

/// Probes an account that is not live, in a scratch home. Also returns the reason why it was not probed, or why its
/// login could not be returned to the profile. Without a probe, reports the last observation.
fn probe_profile(
    codex_home: &Path,
    inquiry: &Inquiry<'_>,
    target: &ProbeTarget,
) -> Result<(StatusReport, Option<LeaseError>), StatusError> {
    let profiles = Profiles::of(inquiry.manager_home);
    let profile_folder = profiles.folder_of(target.profile.as_deref().unwrap_or_default());
    // Without Codex, the folder of the profile serves as the home, because it has the auth.json.
    let report_last_observation = || {
        let without_codex = Inquiry {
            ask_codex: false,
            ..*inquiry
        };
        read_scratch_status(&profile_folder, &without_codex)
    };

    // An account that is billed by use has no windows.
    if target.identity.kind.is_billed_by_use() || !inquiry.ask_codex {
        return Ok((report_last_observation()?, None));
    }

    let now = inquiry.zone.at(&inquiry.now);
    let lease = match profiles.acquire_lease(&target.identity, codex_home, now, LEASE_TIMEOUT) {
        Ok(lease) => lease,
        Err(LeaseError::Interrupted) => return Err(StatusError::Interrupted),
        Err(obstacle) => return Ok((report_last_observation()?, Some(obstacle))),
    };

    let report = read_scratch_status(lease.home(), inquiry);
    // The login returns to the profile even after an error or an interrupt, because Codex may have renewed it.
    let obstacle = lease.release().err();
    Ok((report?, obstacle))
}

/// Like [`status::read_status`], for a home that is not the Codex home.
fn read_scratch_status(home: &Path, inquiry: &Inquiry<'_>) -> Result<StatusReport, StatusError> {
    // Otherwise a `CODEX_SQLITE_HOME` of the user would make a scratch home use the real databases.
    let env = &inquiry.env.clone().with("CODEX_SQLITE_HOME", home);
    status::read_status(home, &Inquiry { env, ..*inquiry }, NO_TEXT)
}
