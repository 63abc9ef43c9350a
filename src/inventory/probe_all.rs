//! The quota of several accounts at once: each is asked where the owner copy of its login is.
//!
//! The live account is asked in its home, as `status` does; a profile in a scratch home of its own.
//! A login that is owned elsewhere is not asked about: what was seen last of it stands in.

use super::status::{self, Inquiry, StatusError, StatusOptions, StatusReport};
use crate::accounts::lease::LeaseError;
use crate::accounts::profile::{Profile, Profiles};
use crate::codex::auth::AuthFile;
use crate::codex::config::read_login;
use crate::codex::identity::{Identity, LoginKind};
use crate::io::document::DocumentError;
use crate::io::parallel;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many accounts are asked at a time.
const MAX_CONCURRENT_PROBES: usize = 4;

/// How long another process of ours may keep a login from being asked about.
const LEASE_TIMEOUT: Duration = Duration::from_secs(15);

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct ProbeAllOptions<'a> {
    /// The Codex home.
    pub codex_home: &'a Path,
    /// The manager home.
    pub manager_home: &'a Path,
    /// How each account is asked about.
    pub inquiry: Inquiry<'a>,
}

/// Where an account is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeLocation {
    /// In the Codex home, where it is signed in.
    Live,
    /// In a scratch home, with the login of its profile.
    Scratch,
    /// Nowhere: another Codex home has its login.
    Elsewhere(PathBuf),
}

/// An account to ask about.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// Its profile; the live account may have none.
    pub profile: Option<String>,
    /// Who it is.
    pub identity: Identity,
    /// Where.
    pub place: ProbeLocation,
}

/// What was found of one account.
#[derive(Debug)]
pub struct AccountProbe {
    /// The account.
    pub target: ProbeTarget,
    /// Its windows, fresh or remembered.
    pub report: StatusReport,
    /// Why it was not asked, or its login not put back where it belongs.
    pub obstacle: Option<LeaseError>,
    /// What noting the answer warned of.
    pub warnings: Vec<String>,
}

/// Why a survey ended early. What was found until then is noted.
#[derive(Debug, thiserror::Error)]
pub enum ProbeAllError {
    /// An account could not be looked at.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// An answer could not be noted.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl AccountProbe {
    /// Whether everything is there that can be.
    pub fn is_complete(&self) -> bool {
        self.report.is_complete() && self.obstacle.is_none()
    }

    /// Why there is no live figure. Safe to print.
    pub fn problem(&self) -> Option<String> {
        let problem = self.report.problem.as_ref().map(ToString::to_string);
        self.obstacle.as_ref().map(ToString::to_string).or(problem)
    }
}

/// Every account whose login is at hand: that of the live home first, then the profiles by name.
pub fn targets(live: &AuthFile, profiles: &[Profile], codex_home: &Path) -> Vec<ProbeTarget> {
    let live = live.login().map(|login| &login.identity);
    let mut targets: Vec<_> = profiles
        .iter()
        .filter_map(|profile| {
            let identity = profile.identity()?.clone();
            let place = match profile.live_in(codex_home) {
                Some(_) if live.is_some_and(|live| live.is_same(&identity)) => ProbeLocation::Live,
                Some(home) => ProbeLocation::Elsewhere(home),
                None => ProbeLocation::Scratch,
            };
            Some(ProbeTarget {
                profile: Some(profile.name.clone()),
                identity,
                place,
            })
        })
        .collect();
    if let Some(live) = live
        && targets.iter().all(|s| s.place != ProbeLocation::Live)
    {
        targets.push(ProbeTarget {
            profile: None,
            identity: live.clone(),
            place: ProbeLocation::Live,
        });
    }
    targets.sort_by_key(|target| target.place != ProbeLocation::Live);
    targets
}

/// Asks about each account, several at a time, and notes each answer as it comes. The findings
/// have the order of the subjects.
///
/// # Errors
/// An auth.json cannot be read, an answer cannot be noted, or the user stopped it.
pub fn probe_all(
    options: &ProbeAllOptions<'_>,
    targets: &[ProbeTarget],
) -> Result<Vec<AccountProbe>, ProbeAllError> {
    let mut probes = Vec::new();
    parallel::ordered::<_, _, _, ProbeAllError>(
        MAX_CONCURRENT_PROBES,
        |target: &ProbeTarget| probe(options, target),
        |probe: Result<AccountProbe, ProbeAllError>| {
            probes.push(probe?);
            Ok(())
        },
        |submit| {
            for target in targets {
                if submit.submit(target).is_err() {
                    break;
                }
            }
            Ok(())
        },
    )?;
    Ok(probes)
}

/// Asks about one account and notes the answer.
fn probe(
    options: &ProbeAllOptions<'_>,
    target: &ProbeTarget,
) -> Result<AccountProbe, ProbeAllError> {
    let (report, obstacle) = match target.place {
        ProbeLocation::Live => (
            observe(options, options.codex_home, options.inquiry.ask_codex)?,
            None,
        ),
        _ => probe_profile(options, target)?,
    };
    let mut warnings = Vec::new();
    if options.inquiry.ask_codex {
        let noted = status::record(
            options.manager_home,
            &report,
            &options.inquiry.now,
            options.inquiry.zone,
        )?;
        warnings = noted.map(|noted| noted.warnings).unwrap_or_default();
    }
    Ok(AccountProbe {
        target: target.clone(),
        report,
        obstacle,
        warnings,
    })
}

fn probe_profile(
    options: &ProbeAllOptions<'_>,
    target: &ProbeTarget,
) -> Result<(StatusReport, Option<LeaseError>), ProbeAllError> {
    let profiles = Profiles::of(options.manager_home);
    let folder = profiles.folder_of(target.profile.as_deref().unwrap_or_default());
    let is_api_key = target.identity.kind == LoginKind::ApiKey;
    if is_api_key || !options.inquiry.ask_codex {
        return Ok((observe(options, &folder, false)?, None));
    }
    let now = options.inquiry.zone.at(&options.inquiry.now);
    let lease =
        match profiles.acquire_lease(&target.identity, options.codex_home, now, LEASE_TIMEOUT) {
            Ok(lease) => lease,
            Err(LeaseError::Interrupted) => return Err(StatusError::Interrupted.into()),
            Err(obstacle) => return Ok((observe(options, &folder, false)?, Some(obstacle))),
        };
    let report = observe(options, lease.home(), true);
    // Whatever was answered, and also when the user stops it: Codex may have renewed the login.
    let obstacle = lease.release().err();
    Ok((report?, obstacle))
}

fn observe(
    options: &ProbeAllOptions<'_>,
    home: &Path,
    ask_codex: bool,
) -> Result<StatusReport, StatusError> {
    let is_live = home == options.codex_home;
    // The databases of a scratch home are its own, wherever those of other homes are.
    let scratch_env =
        (!is_live).then(|| options.inquiry.env.clone().with("CODEX_SQLITE_HOME", home));
    status::observe(&StatusOptions {
        home,
        inquiry: Inquiry {
            env: scratch_env.as_ref().unwrap_or(options.inquiry.env),
            ask_codex,
            ..options.inquiry
        },
        status_text: None,
        reset_at: None,
    })
}

/// Reads what decides about the subjects, and lists them.
///
/// # Errors
/// The file system refuses, or a document is of a newer version.
pub fn load_targets(
    codex_home: &Path,
    manager_home: &Path,
) -> Result<Vec<ProbeTarget>, crate::accounts::profile::ProfileError> {
    // One that cannot be read is nobody's; `status` says why.
    let live = read_login(codex_home).unwrap_or(AuthFile::Missing);
    let profiles = Profiles::of(manager_home).list()?;
    Ok(targets(&live, &profiles, codex_home))
}
