//! The account of a home and its windows, from the best source that can be had.
//!
//! Pasted `/status` text is used where the user gives it; else Codex is asked, and where it cannot
//! answer, the last observation of the account that still holds is used. [`observe`] looks at the account
//! of a home, [`observe_text`] at one that the user names; [`record`] notes the result. A probe is no
//! use of the account.

mod sources;

use self::sources::{remembered, take_live, take_reset, take_text};
use super::cooldown::{self, AccountEntry, CooldownFile, CooldownUpdate, LoginState};
use super::observations;
use crate::codex::app_server::{self, ProbeFailure, ProbeOptions, ProbeReport};
use crate::codex::auth::AuthFile;
use crate::codex::config::{CodexConfig, CredentialStore};
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::{Email, Identity, LoginKind};
use crate::codex::process::find_codex;
use crate::codex::program::{LOGIN_VARIABLES, Program};
use crate::codex::status_text::{self, StatusText, StatusTextError};
use crate::io::clock::{Timestamp, Zone};
use crate::io::document::DocumentError;
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use crate::io::{IoError, atomic};
use crate::quota::state::judge;
use crate::quota::window::Observation;
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How accounts are asked about, whichever they are.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The environment that Codex is given.
    pub env: &'a Environment,
    /// The Codex program; sought on `PATH` where there is none.
    pub codex_bin: Option<&'a Path>,
    /// The current instant.
    pub now: DateTime<Utc>,
    /// The zone of times.
    pub zone: Zone,
    /// How long Codex may take for each account; see [`ProbeOptions::deadline`].
    pub deadline: Duration,
    /// What is known already.
    pub known: &'a CooldownFile,
    /// Whether Codex may be asked. It is not for `--no-status` and `--dry-run`: a probe writes.
    pub ask_codex: bool,
}

/// What to look at, and which sources may be used.
#[derive(Debug, Clone, Copy)]
pub struct StatusOptions<'a> {
    /// The Codex home.
    pub home: &'a Path,
    /// How it is asked about.
    pub inquiry: Inquiry<'a>,
    /// Pasted `/status` text. Codex is not asked where there is one.
    pub status_text: Option<&'a str>,
    /// The weekly reset as the user says it is.
    pub reset_at: Option<DateTime<Utc>>,
}

/// The account of a home and what is known of its quota.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Whose home it is; `None` where nobody is signed in or it could not be learned.
    pub identity: Option<Identity>,
    /// Its plan.
    pub plan: Option<String>,
    /// Where Codex keeps the login.
    pub store: CredentialStore,
    /// The windows, with source and age.
    pub observation: Option<Observation>,
    /// Whether the observation was made now, not remembered.
    pub is_fresh: bool,
    /// Why Codex could not say, where it was to be asked.
    pub problem: Option<StatusProblem>,
    /// Facts that the user should know beside it.
    pub notes: Vec<String>,
    /// Whether the login of the home is at hand.
    pub login: LoginState,
}

impl StatusReport {
    /// Whether everything is there that can be: fresh windows, or a login that has none.
    pub fn is_complete(&self) -> bool {
        self.is_fresh || self.is_api_key()
    }

    /// Whether the login is an API key.
    pub fn is_api_key(&self) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|who| who.kind == LoginKind::ApiKey)
    }

    /// When the last exhausted window is free again; `None` where none is exhausted.
    pub fn next_available_at(&self, now: &DateTime<Utc>) -> Option<Timestamp> {
        let mut entry = AccountEntry::new(self.identity.clone()?);
        entry.observation.clone_from(&self.observation);
        judge(&entry, now).next_available_at
    }
}

/// Why there is no live figure. The texts are safe to print.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatusProblem {
    /// Nobody is signed in, so nothing was started.
    #[error("not signed in")]
    SignedOut,
    /// Codex could not read this file either.
    #[error("auth.json is {reason}: {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What stands there is no file that a login could be in.
    #[error("auth.json is {reason}: {}", path.display())]
    NoFile {
        /// What stands there.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The system does not let us read it.
    #[error("auth.json cannot be read ({reason}): {}", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Codex would spend the refresh token and could not store the new one.
    #[error("auth.json has a second hard link, through which Codex loses a renewed login: {}", .0.display())]
    HardLinked(PathBuf),
    /// Codex was asked and could not say.
    #[error(transparent)]
    Probe(#[from] ProbeFailure),
    /// The server refuses the token, and Codex could not renew it.
    #[error("the login is spent: {0}")]
    Spent(ProbeFailure),
    /// The figures are somebody else's; they were dropped.
    #[error("Codex answered for {live}, but auth.json is the login of {home}")]
    AnotherAccount {
        /// For whom Codex answered.
        live: String,
        /// Whose login the home holds.
        home: String,
    },
    /// The server's windows make no sense.
    #[error("the server's quota windows are not understood ({0} of them)")]
    NotUnderstood(usize),
}

/// Why the home could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The pasted text has no quota in it.
    #[error("the status text cannot be used")]
    Text(#[source] StatusTextError),
    /// The pasted text begins an account line without a readable address.
    #[error("the address in the account line of the status text cannot be read: {0:?}")]
    UnreadableAccount(String),
    /// The pasted text is about another account than the home.
    #[error("the status text is about {text}, but the home is signed in as {home}")]
    AnotherAccount {
        /// The account in the text.
        text: Email,
        /// The account of the home.
        home: Email,
    },
    /// The pasted text is about another account than the one that the user names.
    #[error("the status text is about {text}, not about {named}")]
    NotOfAccount {
        /// The account in the text.
        text: Email,
        /// The account that the user names.
        named: Email,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Looks at a home: who is signed in, and what is left of the quota. Writes nothing itself; Codex,
/// when it is asked, may renew the login in place, which is then simply the newest.
///
/// # Errors
/// The status text is no such text or about another account, auth.json cannot be read for reasons
/// of the file system, or the user stopped it. Everything else is a report with a problem.
pub fn observe(options: &StatusOptions) -> Result<StatusReport, StatusError> {
    let StatusOptions { home, inquiry, .. } = *options;
    let Inquiry { now, zone, .. } = inquiry;
    let text = match options.status_text {
        Some(text) => Some(status_text::parse(text, now, zone).map_err(StatusError::Text)?),
        None => None,
    };
    let config = CodexConfig::read(home);
    let path = home.join(AUTH_JSON);
    let read = || AuthFile::read(&path);
    let or_none = |auth: Result<AuthFile, IoError>| auth.unwrap_or_else(|e| AuthFile::not_read(&e));
    let before = read();
    let problem = obstacle(&path, config.store, before.as_ref());
    let before = or_none(before);
    if let Some(value) = text
        .as_ref()
        .and_then(|text| text.unreadable_account.as_ref())
    {
        return Err(StatusError::UnreadableAccount(value.clone()));
    }
    check_text(text.as_ref(), config.store, &before)?;

    let mut report = StatusReport {
        identity: None,
        plan: None,
        store: config.store,
        observation: None,
        is_fresh: false,
        problem: None,
        notes: notes(&config, inquiry.env),
        login: LoginState::Unknown,
    };
    let mut answer = None;
    match problem {
        Some(problem) => report.problem = Some(problem),
        None if is_api_key(&before, config.store) || !inquiry.ask_codex || text.is_some() => {}
        None => match ask(options) {
            Ok(answered) => answer = Some(answered),
            Err(problem) => report.problem = Some(problem),
        },
    }
    if is_interrupted() {
        return Err(StatusError::Interrupted);
    }

    // Codex may have renewed the login meanwhile; its account is the same.
    let auth = or_none(read());
    check_text(text.as_ref(), config.store, &auth)?;
    if config.store.reads_auth_json() || config.store == CredentialStore::Auto {
        report.identity = auth.login().map(|login| login.identity.clone());
        report.plan = auth.login().and_then(|login| login.plan.clone());
        report.login = login_state(&auth);
    }
    if let Some(answer) = answer {
        take_live(&mut report, answer, now, zone);
    }
    if let Some(text) = text {
        take_text(&mut report, text, zone.at(&now));
    }
    if report.observation.is_none() && !report.is_api_key() {
        report.observation = remembered(inquiry.known, report.identity.as_ref(), &now);
    }
    if let Some(reset_at) = options.reset_at.filter(|_| !report.is_api_key()) {
        take_reset(&mut report, zone.at(&reset_at), zone.at(&now));
    }
    report.plan = report.plan.take().or_else(|| {
        let who = report.identity.as_ref()?;
        inquiry.known.find(who)?.plan.clone()
    });
    Ok(report)
}

/// Looks at pasted `/status` text of an account that the user names. No home is read but for the
/// store of the live one, and Codex is not asked.
///
/// # Errors
/// The text is no such text, or names another account.
pub fn observe_text(
    text: &str,
    account: &Identity,
    home: &Path,
    inquiry: &Inquiry,
) -> Result<StatusReport, StatusError> {
    let Inquiry { now, zone, .. } = *inquiry;
    let text = status_text::parse(text, now, zone).map_err(StatusError::Text)?;
    if let Some(email) = text.email.as_ref().map(Email::new)
        && email != account.email
    {
        return Err(StatusError::NotOfAccount {
            text: email,
            named: account.email.clone(),
        });
    }
    let mut report = StatusReport {
        identity: Some(account.clone()),
        plan: None,
        store: CredentialStore::of(home),
        observation: None,
        is_fresh: false,
        problem: None,
        notes: Vec::new(),
        login: LoginState::Unknown,
    };
    take_text(&mut report, text, zone.at(&now));
    let known = inquiry.known;
    if report.observation.is_none() {
        report.observation = remembered(known, Some(account), &now);
    }
    let plan = || known.find(account)?.plan.clone();
    report.plan = report.plan.take().or_else(plan);
    Ok(report)
}

/// Notes a fresh observation of the account, and whether its login is at hand, in `cooldown.json`
/// of `manager_home`. Remembered figures are not noted again.
///
/// # Errors
/// The document cannot be read or written, or is of a newer version.
pub fn record(
    manager_home: &Path,
    report: &StatusReport,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<Option<CooldownUpdate<()>>, DocumentError> {
    let Some(identity) = report.identity.as_ref() else {
        return Ok(None);
    };
    if let Some(observation) = report.observation.as_ref().filter(|_| report.is_fresh) {
        atomic::create_private_folder(manager_home)?;
        observations::note(manager_home, identity, observation)?;
    }
    cooldown::update(manager_home, now, zone, |known| {
        if let Some(observation) = report.observation.clone().filter(|_| report.is_fresh) {
            known.observe(identity, observation);
        }
        let entry = known.entry(identity);
        if report.plan.is_some() {
            entry.plan.clone_from(&report.plan);
        }
        if report.login != LoginState::Unknown {
            entry.login = report.login;
        }
        if report.login == LoginState::Expired {
            entry.expired_at = Some(zone.at(now));
        }
        Ok(())
    })
    .map(Some)
}

fn notes(config: &CodexConfig, env: &Environment) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(problem) = &config.problem {
        notes.push(format!(
            "config.toml of the Codex home is not understood: {problem}"
        ));
    }
    if !config.store.reads_auth_json() {
        notes.push(format!(
            "Codex keeps its login by cli_auth_credentials_store = \"{}\", so auth.json may not count",
            config.store.name()
        ));
    }
    if env.get(LOGIN_VARIABLES[0]).is_some() {
        notes.push(format!(
            "{} is set: Codex started from here uses that, not the login of the home",
            LOGIN_VARIABLES[0]
        ));
    }
    notes
}

/// Why Codex must not be started, if so.
fn obstacle(
    path: &Path,
    store: CredentialStore,
    auth: Result<&AuthFile, &IoError>,
) -> Option<StatusProblem> {
    if has_second_link(path) {
        return Some(StatusProblem::HardLinked(path.to_path_buf()));
    }
    if !store.reads_auth_json() {
        return None;
    }
    let path = path.to_path_buf();
    match auth {
        Ok(AuthFile::Unreadable { reason, .. }) => Some(StatusProblem::Unreadable {
            path,
            reason: reason.clone(),
        }),
        Ok(AuthFile::Missing) => Some(StatusProblem::SignedOut),
        // Without a login that we know there may be one that Codex knows.
        Ok(AuthFile::Present(_)) => None,
        Err(e) => {
            let reason = e.source.to_string();
            Some(match e.source.raw_os_error() {
                Some(_) => StatusProblem::Denied { path, reason },
                None => StatusProblem::NoFile { path, reason },
            })
        }
    }
}

#[cfg(unix)]
fn has_second_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // A folder has one for each folder in it.
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.nlink() > 1)
}

#[cfg(not(unix))]
fn has_second_link(_path: &Path) -> bool {
    // The count of links is not to be had from the standard library here.
    false
}

fn is_api_key(auth: &AuthFile, store: CredentialStore) -> bool {
    store.reads_auth_json()
        && auth
            .login()
            .is_some_and(|login| login.identity.kind == LoginKind::ApiKey)
}

fn login_state(auth: &AuthFile) -> LoginState {
    if auth.login().is_some() {
        LoginState::Ok
    } else {
        LoginState::Unknown
    }
}

/// How long a Codex that runs already may take to renew a login before another is started. Two that
/// do so at once spend one token twice; Codex 0.169 survives that by reading auth.json again.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const RENEWAL_POLL_INTERVAL: Duration = Duration::from_millis(20);

fn ask(options: &StatusOptions) -> Result<ProbeReport, StatusProblem> {
    let inquiry = &options.inquiry;
    let program = Program::find(inquiry.codex_bin, inquiry.env).map_err(ProbeFailure::NoProgram)?;
    let end = Instant::now() + RENEWAL_PATIENCE;
    let is_due = || {
        let auth = AuthFile::read(&options.home.join(AUTH_JSON));
        auth.is_ok_and(|a| a.login().is_some_and(|l| l.is_renewal_due(&inquiry.now)))
    };
    while is_due() && !find_codex(options.home).is_empty() && Instant::now() < end {
        if is_interrupted() {
            return Err(ProbeFailure::Interrupted.into());
        }
        std::thread::sleep(RENEWAL_POLL_INTERVAL);
    }
    Ok(app_server::probe(&ProbeOptions {
        program: &program,
        home: options.home,
        env: inquiry.env,
        now: inquiry.now,
        zone: inquiry.zone,
        deadline: inquiry.deadline,
        renewal: app_server::RENEWAL_PATIENCE,
    }))
}

fn check_text(
    text: Option<&StatusText>,
    store: CredentialStore,
    auth: &AuthFile,
) -> Result<(), StatusError> {
    let named = text.and_then(|text| text.email.as_ref());
    let login = auth.login().filter(|_| store.reads_auth_json());
    match (named, login) {
        (Some(named), Some(login)) if Email::new(named) != login.identity.email => {
            Err(StatusError::AnotherAccount {
                text: Email::new(named),
                home: login.identity.email.clone(),
            })
        }
        _ => Ok(()),
    }
}
