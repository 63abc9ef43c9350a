//! Determines the account of a home and its windows from the best available source.
//!
//! The sources are, in this order: `/status` text pasted by the user, an answer of Codex, and the
//! last observation that still holds. [`read_status`] reports the account of a home, [`report_from_text`]
//! one that the user names, and [`record_report`] stores the result. A probe does not count as a use of the account.

mod report;
mod sources;

pub use self::report::{StatusProblem, StatusReport};

pub use self::sources::override_reset;
use self::sources::{find_valid_observation, merge_answer, merge_status_text};
use super::cooldown::{self, CooldownFile};
use super::observations::{self, ObservationSpan};
use crate::accounts::Profiles;
use crate::codex::program::OVERRIDING_VARIABLES;
use crate::codex::{
    AUTH_JSON, AuthFile, CodexConfig, CredentialStore, Email, Identity, ProbeFailure, ProbeOptions,
    Program, Question, StatusText, StatusTextError, app_server, check_login_of, find_codex,
    status_text,
};
use crate::io::clock::Timestamp;
use crate::io::progress::check_interrupt;
use crate::io::{DocumentError, Environment, IoError, Zone, atomic};
use crate::quota::LoginState;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// The settings of a query, which are the same for every account.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    pub env: &'a Environment,
    pub manager_home: &'a Path,
    /// The Codex program; searched on `PATH` if `None`.
    pub codex_bin: Option<&'a Path>,
    pub now: DateTime<Utc>,
    /// The zone in which times are recorded.
    pub zone: Zone,
    /// The time limit for each account; see [`ProbeOptions`].
    pub timeout: Duration,
    /// The content of `cooldown.json`.
    pub cooldown: &'a CooldownFile,
    /// True if Codex may be asked. False for `--no-status` and `--dry-run`, because a probe may
    /// renew the login.
    pub ask_codex: bool,
}

/// An error of a query. [`read_status`] and [`report_from_text`] record nothing.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The pasted text cannot be parsed, or has neither an account nor a quota.
    #[error("the status text cannot be used")]
    Text(#[source] StatusTextError),
    /// The pasted text has an account line without a readable email.
    #[error("the address in the account line of the status text cannot be read: {0:?}")]
    UnreadableAccount(String),
    #[error("the status text is about {text}, but the home is signed in as {home}")]
    AnotherAccount { text: Email, home: Email },
    #[error("the status text is about {text}, not about {named}")]
    NotOfAccount { text: Email, named: Email },
    #[error("interrupted")]
    Interrupted,
}

/// Reports the account of a home and its quota. If `status_text` has the text of `/status` that the user pasted, Codex
/// is not asked. Writes nothing itself. Codex, if asked, may renew the login in place.
///
/// # Errors
/// The status text cannot be parsed or is about another account, or the user interrupts. Any other
/// failure is a report with a problem.
pub fn read_status(
    home: &Path,
    inquiry: &Inquiry,
    status_text: Option<&str>,
) -> Result<StatusReport, StatusError> {
    let Inquiry { now, zone, .. } = *inquiry;
    let parse = |text| status_text::parse(text, now, zone).map_err(StatusError::Text);
    let text = status_text.map(parse).transpose()?;

    let config = CodexConfig::read(home);
    let auth_path = home.join(AUTH_JSON);
    let read_auth = || AuthFile::read(&auth_path);
    let or_unreadable =
        |auth: Result<AuthFile, IoError>| auth.unwrap_or_else(|e| AuthFile::from_read_error(&e));

    let auth_before = read_auth();
    let obstacle = find_obstacle(&auth_path, config.store, auth_before.as_ref());
    let auth_before = or_unreadable(auth_before);
    check_account_of_text(text.as_ref(), config.store, &auth_before)?;

    let is_billed_by_use = is_billed_by_use(&auth_before, config.store);
    let answer = match obstacle {
        Some(problem) => Err(problem),
        // An account that is billed by use has no quota, and a text that the user pasted is used in place of its answer.
        None if is_billed_by_use || !inquiry.ask_codex || text.is_some() => Ok(None),
        None => probe_when_safe(home, inquiry, app_server::probe).map(Some),
    };

    check_interrupt().map_err(|_| StatusError::Interrupted)?;

    // Read again, because Codex may have renewed the login meanwhile.
    let auth = or_unreadable(read_auth());
    check_account_of_text(text.as_ref(), config.store, &auth)?;
    let mut report = StatusReport {
        store: config.store,
        notes: collect_notes(&config, inquiry.env),
        ..StatusReport::default()
    };
    if config.store.may_read_auth_json()
        && let Some(login) = auth.login()
    {
        report.identity = Some(login.identity.clone());
        report.plan.clone_from(&login.plan);
        report.login = LoginState::Ok;
        report.freshness = Some(login.freshness);
    }

    match answer {
        Ok(Some(answer)) => merge_answer(&mut report, answer, now, zone),
        Ok(None) => {}
        Err(problem) => report.problem = Some(problem),
    }
    if let Some(text) = text {
        merge_status_text(&mut report, text, zone.at(&now));
    }

    add_stored_figures(&mut report, inquiry.cooldown, &now);
    Ok(report)
}

/// Reports the quota in pasted `/status` text of a given account. Codex is not asked; of `home`
/// only the credential store is read.
///
/// # Errors
/// The text cannot be parsed, or names another account.
pub fn report_from_text(
    text: &str,
    account: &Identity,
    home: &Path,
    inquiry: &Inquiry,
) -> Result<StatusReport, StatusError> {
    let Inquiry { now, zone, .. } = *inquiry;
    let parsed = status_text::parse(text, now, zone).map_err(StatusError::Text)?;
    if let Some(email) = parsed.email.as_ref().map(Email::new)
        && email != account.email
    {
        return Err(StatusError::NotOfAccount {
            text: email,
            named: account.email.clone(),
        });
    }

    let mut report = StatusReport {
        identity: Some(account.clone()),
        store: CredentialStore::read(home),
        ..StatusReport::default()
    };
    merge_status_text(&mut report, parsed, zone.at(&now));
    add_stored_figures(&mut report, inquiry.cooldown, &now);
    Ok(report)
}

/// Adds figures from `cooldown.json` that the report lacks: an observation that still holds, banked resets, the plan.
fn add_stored_figures(report: &mut StatusReport, cooldown: &CooldownFile, now: &DateTime<Utc>) {
    if report.observation.is_none() && !report.is_billed_by_use() {
        report.observation = find_valid_observation(cooldown, report.identity.as_ref(), now);
    }

    let account = report.identity.as_ref();
    let stored_entry = account.and_then(|account| cooldown.find(account));
    if let Some(observation) = &mut report.observation {
        let stored_observation = stored_entry.and_then(|entry| entry.observation.as_ref());
        observation.inherit_reset_credits(stored_observation);
    }

    if report.plan.is_none() {
        report.plan = stored_entry.and_then(|entry| entry.plan.clone());
    }
}

/// Records a report in `cooldown.json` of `manager_home`: a fresh observation, the plan, the availability of the login.
/// Records fresh windows also in the history of the account. Records nothing if the report has no account.
///
/// `used_at` is the time of the last use of the account, according to its conversations. Returns warnings to print.
///
/// # Errors
/// A document cannot be read or written, or is of a newer version.
pub fn record_report(
    manager_home: &Path,
    report: &StatusReport,
    used_at: Option<Timestamp>,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<Vec<String>, DocumentError> {
    let Some(identity) = report.identity.as_ref() else {
        return Ok(Vec::new());
    };

    let fresh_observation = match &report.observation {
        Some(observation) if report.is_fresh => Some(observation),
        _ => None,
    };
    if let Some(observation) =
        fresh_observation.filter(|observation| !observation.windows.is_empty())
    {
        atomic::create_private_folder(manager_home)?;
        let span = ObservationSpan {
            observation: observation.clone(),
            until: observation.observed_at,
        };
        observations::add_spans(manager_home, identity, [span])?;
    }

    // The refusal of an old copy says nothing about a newer login of the account.
    let is_old_copy_refused =
        report.login == LoginState::Expired && has_newer_login(manager_home, identity, report);
    let ((), warnings) = cooldown::update(manager_home, now, zone, |file| {
        if let Some(observation) = fresh_observation {
            // Observations from a wrong clock would count as newer than this one.
            file.entry(identity).remove_future_observations(now);
            file.entry(identity).add_observation(observation.clone());
        }
        if let Some(at) = used_at {
            file.record_use(identity, at);
        }

        let entry = file.entry(identity);
        if report.plan.is_some() {
            entry.plan.clone_from(&report.plan);
        }
        if is_old_copy_refused {
            return;
        }
        // Without fresh figures, a login that the server refused before still counts as refused.
        let is_still_refused = entry.login == LoginState::Expired && !report.is_fresh;
        if report.login != LoginState::Unknown && !is_still_refused {
            entry.login = report.login;
        }
        if report.login == LoginState::Expired {
            entry.expired_at = Some(zone.at(now));
            entry.refused = report.freshness;
        }
    })?;

    Ok(warnings)
}

/// Returns true if the profile of the account knows a newer login than the probed login of `report`.
fn has_newer_login(manager_home: &Path, account: &Identity, report: &StatusReport) -> bool {
    let profile = Profiles::of(manager_home).find(account).ok().flatten();
    match (profile, report.freshness) {
        (Some(profile), Some(probed)) => profile.newest().is_newer_than(&probed),
        _ => false,
    }
}

fn collect_notes(config: &CodexConfig, env: &Environment) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(problem) = &config.problem {
        let note = format!("cannot parse config.toml of the Codex home: {problem}");
        notes.push(note);
    }
    if !config.store.always_reads_auth_json() {
        let store = config.store.auth_json_problem();
        notes.push(format!("{store}, so auth.json may be outdated"));
    }

    let mut variables = OVERRIDING_VARIABLES.into_iter();
    if let Some(name) = variables.find(|name| env.get(name).is_some()) {
        notes.push(format!(
            "{name} is set: a Codex started in this shell without codex-manager uses it instead of the login of the home"
        ));
    }

    notes
}

/// Returns the reason why Codex must not be started in the home of the auth.json at `path`; `None` if it may start.
pub fn find_obstacle(
    path: &Path,
    store: CredentialStore,
    auth: Result<&AuthFile, &IoError>,
) -> Option<StatusProblem> {
    // Codex may have its login elsewhere, so the content of the file is no obstacle.
    if !store.always_reads_auth_json() {
        return None;
    }

    let path = path.to_path_buf();
    match auth {
        Ok(AuthFile::Unreadable { reason, .. }) => Some(StatusProblem::Unreadable {
            path,
            reason: reason.clone(),
        }),
        Ok(AuthFile::Missing) => Some(StatusProblem::SignedOut),
        // A login that this program does not recognize is no obstacle, because a newer Codex may have other kinds.
        Ok(AuthFile::Present(_)) => None,
        Err(e) => {
            let reason = e.source.to_string();
            // An error without a system code is of `AuthFile::read` itself, which refuses special files.
            Some(match e.source.raw_os_error() {
                Some(_) => StatusProblem::Denied { path, reason },
                None => StatusProblem::NotAFile { path, reason },
            })
        }
    }
}

fn is_billed_by_use(auth: &AuthFile, store: CredentialStore) -> bool {
    let login = auth.login();
    store.always_reads_auth_json() && login.is_some_and(|l| l.identity.kind.is_billed_by_use())
}

/// The longest wait for a running Codex to renew a login that is due, before another Codex is
/// started. If both renewed at once, they would use one refresh token twice; Codex 0.169 recovers
/// from that by reading auth.json again.
const MAX_RENEWAL_WAIT: Duration = Duration::from_secs(5);

/// The interval at which auth.json is checked for a renewal.
const RENEWAL_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Sends these queries to Codex in a home. Each result is an error if Codex must not be started there, or if the login
/// is billed by use, for which Codex has no answers.
pub fn ask_questions<const N: usize>(
    home: &Path,
    inquiry: &Inquiry,
    questions: [Question; N],
) -> [Result<Value, StatusProblem>; N] {
    let path = home.join(AUTH_JSON);
    let store = CredentialStore::read(home);
    let auth = AuthFile::read(&path);

    let answers = match find_obstacle(&path, store, auth.as_ref()) {
        Some(problem) => Err(problem),
        None if auth.is_ok_and(|auth| is_billed_by_use(&auth, store)) => {
            Err(ProbeFailure::ApiKey.into())
        }
        None => probe_when_safe(home, inquiry, |options| app_server::ask(options, questions)),
    };

    match answers {
        Ok(answers) => answers.map(|answer| answer.map_err(StatusProblem::from)),
        Err(problem) => std::array::from_fn(|_| Err(problem.clone())),
    }
}

/// Checks that Codex can store a renewed login, finds Codex, checks that this home owns the login, waits while a
/// running Codex may be renewing the login, and calls `probe`.
fn probe_when_safe<R>(
    home: &Path,
    inquiry: &Inquiry,
    probe: impl FnOnce(&ProbeOptions) -> R,
) -> Result<R, StatusProblem> {
    check_login_of(home)?;
    let program = Program::find(inquiry.codex_bin, inquiry.env).map_err(ProbeFailure::NoProgram)?;

    let read_auth = || AuthFile::read(&home.join(AUTH_JSON));
    let uses_auth_json = CredentialStore::read(home).may_read_auth_json();
    let profiles = Profiles::of(inquiry.manager_home);
    let find_owner = |auth| profiles.find_owner_of_copy(&auth, home, &inquiry.now);
    let owner_home = read_auth().ok().and_then(find_owner);
    if uses_auth_json && let Some(owner_home) = owner_home {
        return Err(StatusProblem::OwnedElsewhere(owner_home));
    }

    let deadline = Instant::now() + MAX_RENEWAL_WAIT;
    let is_renewal_due =
        || read_auth().is_ok_and(|a| a.login().is_some_and(|l| l.is_renewal_due(&inquiry.now)));

    while is_renewal_due() && !find_codex(home).is_empty() && Instant::now() < deadline {
        check_interrupt().map_err(|_| ProbeFailure::Interrupted)?;
        std::thread::sleep(RENEWAL_POLL_INTERVAL);
    }

    Ok(probe(&ProbeOptions {
        program: &program,
        home,
        env: inquiry.env,
        now: inquiry.now,
        zone: inquiry.zone,
        timeout: inquiry.timeout,
        renewal_timeout: app_server::RENEWAL_TIMEOUT,
    }))
}

/// Fails if the account line of the text is unreadable or names another account.
fn check_account_of_text(
    text: Option<&StatusText>,
    store: CredentialStore,
    auth: &AuthFile,
) -> Result<(), StatusError> {
    if let Some(account_line) = text.and_then(|text| text.unreadable_account.clone()) {
        return Err(StatusError::UnreadableAccount(account_line));
    }

    let text_email = text.and_then(|text| text.email.as_ref()).map(Email::new);
    if store.always_reads_auth_json()
        && let (Some(text_email), Some(login)) = (text_email, auth.login())
        && !login.identity.kind.hides_account()
        && text_email != login.identity.email
    {
        return Err(StatusError::AnotherAccount {
            text: text_email,
            home: login.identity.email.clone(),
        });
    }
    Ok(())
}
