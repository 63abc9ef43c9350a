//! `status`: shows an account and its remaining quota.

pub(super) mod accounts;
mod history;

use crate::accounts::profile::Profiles;
use crate::codex::app_server::ProbeFailure;
use crate::codex::auth::AuthFile;
use crate::codex::config::read_login;
use crate::codex::status_text;
use crate::commands::account::{accounts_and_profiles, warn_all};
use crate::commands::refresh;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::cooldown::{self, CooldownFile};
use crate::inventory::remedies;
use crate::inventory::resolve::resolve;
use crate::inventory::status::{self, StatusProblem, StatusReport};
use crate::io::IoContext;
use crate::io::file_open;
use crate::io::progress::waiting_for_input;
use crate::io::shell;
use crate::io::time_format;
use crate::quota::window::Observation;
use crate::ui::time::{full, rfc3339_of};
use crate::ui::windows::{self, SpendCapJson, WindowJson};
use crate::ui::{Style, Ui};
use chrono::Duration;
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The limit on the size of a status text, in bytes. Real ones are below 4 kB.
const MAX_STATUS_TEXT_BYTES: u64 = 1024 * 1024;

/// Show the quota windows of the live account, of another, or of all
///
/// Codex itself runs the query (`codex app-server`; at most 10 seconds, or 40 if it renews the login). If
/// it cannot answer, the last known figures are shown. With --status-file, pasted text is used instead.
/// Figures are shown with their source and age, and recorded for `cooldown` and `recommend`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager status
  codex-manager status --json
  codex-manager status --account work
  codex-manager status --all                     # all profiles, several at a time
  codex-manager status --history --account work  # figures over time, moved resets
  codex-manager status --status-file pasted.txt  # if Codex cannot answer
  codex-manager status --status-file pasted.txt --account work")]
pub(crate) struct StatusArgs {
    /// Use text pasted from Codex's /status instead of a query; - is standard input
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// Show this account, live or not: a profile, an email, or a unique prefix of one. With --status-file: the
    /// account of the pasted text
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Query all accounts with a saved login
    #[arg(long, conflicts_with_all = ["account", "status_file"])]
    all: bool,
    /// Show recorded figures over time and resets that moved; makes no query
    #[arg(long, conflicts_with_all = ["all", "status_file"])]
    history: bool,
    /// Query only if the figures of the live account are older than this, such as 30min or 1d
    #[arg(long, value_name = "DURATION", conflicts_with = "status_file")]
    if_older: Option<String>,
    /// Show the last known figures; make no query, write nothing
    #[arg(long)]
    dry_run: bool,
}

impl StatusArgs {
    /// # Errors
    /// The status text or `auth.json` cannot be read, the text is about another account, or the figures
    /// cannot be recorded.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        if self.history {
            return history::show(self.account.as_deref(), context);
        }
        if self.all {
            return accounts::all(self.dry_run, context);
        }
        let text = self.status_file.as_deref().map(read_text).transpose()?;
        match (&self.account, &text) {
            (Some(account), Some(text)) => self.run_on_text_of(account, text, context),
            (Some(account), None) => accounts::one(account, self.dry_run, context),
            (None, _) => self.run_on_live(text.as_deref(), context),
        }
    }

    fn run_on_live(&self, text: Option<&str>, context: &Context) -> Result<Outcome, CommandError> {
        let known = load_known(context)?;
        let is_query = !self.dry_run && !self.is_recent_enough(context, &known)?;
        let report = refresh::observe_live(context, &known, text, is_query)?;
        let is_recorded = !is_query || refresh::record(context, &report);
        show(context, &report, None);
        if !self.dry_run {
            history::note_moved_resets(&report, context)?;
        }
        // Without a query, the last observation is a complete result.
        let is_remembered = !is_query && report.observation.is_some();
        Ok(Outcome::partial_if(
            !is_recorded || !report.is_complete() && !is_remembered,
        ))
    }

    fn run_on_text_of(
        &self,
        account: &str,
        text: &str,
        context: &Context,
    ) -> Result<Outcome, CommandError> {
        let (accounts, _) = accounts_and_profiles(context)?;
        let entry = &accounts[resolve(accounts.iter().map(|a| &a.entry), account)?].entry;
        let known = load_known(context)?;
        let report = status::observe_text(
            text,
            &entry.identity,
            &context.settings.codex_home,
            &refresh::inquiry(context, &known, false),
        )?;
        let is_recorded = self.dry_run || refresh::record(context, &report);
        show(context, &report, entry.profile.as_deref());
        if !self.dry_run {
            history::note_moved_resets(&report, context)?;
        }
        Ok(Outcome::partial_if(!is_recorded || !report.is_complete()))
    }
}

/// Reads the last known figures from `cooldown.json`.
fn load_known(context: &Context) -> Result<CooldownFile, CommandError> {
    let settings = &context.settings;
    let known = cooldown::load(&settings.manager_home, &context.now(), settings.zone)?;
    warn_all(&context.ui, &known.warnings);
    Ok(known.file)
}

impl StatusArgs {
    /// Returns true if the figures of the live account are younger than `--if-older`.
    fn is_recent_enough(
        &self,
        context: &Context,
        known: &CooldownFile,
    ) -> Result<bool, CommandError> {
        let Some(text) = &self.if_older else {
            return Ok(false);
        };
        let limit = time_format::parse_span(text).ok_or_else(|| {
            CommandError::usage(format!("--if-older is not a duration: {text:?}"))
                .hint("write 30min, 12h or 1d")
        })?;
        let live = read_login(&context.settings.codex_home)
            .unwrap_or_else(|e| AuthFile::from_read_error(&e));
        let seen = live
            .login()
            .and_then(|login| known.find(&login.identity))
            .and_then(|entry| entry.observation.as_ref());
        let age = seen.map(|seen| context.now().signed_duration_since(seen.observed_at));
        Ok(age.is_some_and(|age| age >= Duration::zero() && age < limit))
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        waiting_for_input(|| stdin.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    } else {
        file_open::open_given(path)
            .and_then(|file| file.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    };
    read.at("read", path)?;
    Ok(status_text::decode(&bytes))
}

/// One account in JSON. Its keys are an interface.
#[derive(Serialize)]
pub(super) struct StatusJson {
    /// Present only if the account was named on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    email: Option<String>,
    account_id: Option<String>,
    plan: Option<String>,
    windows: Vec<WindowJson>,
    spend_cap: Option<SpendCapJson>,
    source: Option<&'static str>,
    observed_at: Option<String>,
    session_start_at: Option<String>,
    next_available_at: Option<String>,
    store: &'static str,
    pub(super) problem: Option<String>,
}

impl StatusJson {
    pub(super) fn of(report: &StatusReport, context: &Context) -> Self {
        let seen = report.observation.as_ref();
        let who = report.identity.as_ref();
        let next = report.next_available_at(&context.now());
        Self {
            profile: None,
            email: who.map(|who| who.email.to_string()),
            account_id: who.and_then(|who| who.account_id.clone()),
            plan: report.plan.clone(),
            windows: seen
                .map(|seen| seen.windows.iter().map(Into::into).collect())
                .unwrap_or_default(),
            spend_cap: seen.and_then(|seen| Some(SpendCapJson::from(seen.spend_cap?))),
            source: seen.map(|seen| seen.source.name()),
            observed_at: seen.map(|seen| rfc3339_of(&seen.observed_at)),
            session_start_at: seen
                .and_then(Observation::session_start_at)
                .as_ref()
                .map(rfc3339_of),
            next_available_at: next.as_ref().map(rfc3339_of),
            store: report.store.name(),
            problem: report.problem.as_ref().map(ToString::to_string),
        }
    }
}

pub(super) fn show(context: &Context, report: &StatusReport, profile: Option<&str>) {
    let now = context.now();
    let seen = report.observation.as_ref();
    let next = report.next_available_at(&now);
    context.ui.document(
        "status",
        &StatusJson {
            profile: profile.map(ToOwned::to_owned),
            ..StatusJson::of(report, context)
        },
    );
    let (ui, zone) = (&context.ui, context.settings.zone);
    ui.line(account_line(ui, report));
    match seen {
        None if report.is_api_key() => {
            ui.line("an API key is billed by use and has no quota windows");
        }
        None => ui.line("quota unknown"),
        Some(seen) => {
            for line in windows::lines(ui, seen, zone, &now) {
                ui.line(line);
            }
            if seen.windows.is_empty() && seen.spend_cap.is_none() {
                ui.line("the server reports no quota windows");
            }
            if let Some(at) = next {
                let when = full(&at.to_utc(), zone, &now);
                ui.line(format!("available again {when}"));
            }
            ui.line(ui.paint(Style::Dim, windows::origin(seen, zone, &now)));
        }
    }
    for note in &report.notes {
        ui.warn(note);
    }
    if let Some(problem) = &report.problem {
        ui.warn(format!("no live figures: {problem}"));
        if let Some(hint) = hint(problem, report, context) {
            ui.note(format!("{} {hint}", ui.paint(Style::Strong, "hint:")));
        }
    }
}

fn account_line(ui: &Ui, report: &StatusReport) -> String {
    let Some(who) = &report.identity else {
        return "the live account is unknown".into();
    };
    let facts: Vec<_> = [report.plan.as_deref(), who.account_id.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let name = ui.paint(Style::Strong, who);
    if facts.is_empty() {
        name
    } else {
        format!("{name} ({})", facts.join(", "))
    }
}

/// Returns the fix for a problem, if there is one.
fn hint(problem: &StatusProblem, report: &StatusReport, context: &Context) -> Option<String> {
    let settings = &context.settings;
    let saved = || {
        // With another credential store Codex ignores auth.json, so restoring it would not help.
        let is_read = report.store.reads_auth_json();
        let homes = (&settings.codex_home, &settings.manager_home);
        is_read.then(|| remedies::saved_login(homes.0, homes.1))?
    };
    Some(match problem {
        StatusProblem::SignedOut | StatusProblem::Probe(ProbeFailure::NotSignedIn) => match saved()
        {
            Some(command) => {
                format!("sign in with codex login, or restore the last login: {command}")
            }
            None => "sign in with codex login".into(),
        },
        StatusProblem::Unreadable { .. } => match saved() {
            Some(command) => format!("restore the last saved login: {command}"),
            None => "sign in again with codex login".into(),
        },
        StatusProblem::NoFile { path, .. } => {
            let aside = remedies::put_aside(path);
            let then = saved().unwrap_or_else(|| "codex login".into());
            format!("move it aside: {aside}; then {then}")
        }
        StatusProblem::Denied { path, .. } => {
            let word = shell::word(&path.to_string_lossy());
            format!("make it readable: chmod u+rw {word}")
        }
        StatusProblem::HardLinked(path) => {
            format!("make it a separate file: {}", remedies::make_its_own(path))
        }
        StatusProblem::Spent(_) => {
            let profiles = Profiles::of(&settings.manager_home);
            let who = report.identity.as_ref();
            let profile = who.and_then(|who| profiles.find(who).ok().flatten());
            let name = profile.map_or("NAME".into(), |profile| shell::word(&profile.name));
            format!("sign in again with codex-manager profile login {name}")
        }
        StatusProblem::Probe(ProbeFailure::NoProgram(_)) => {
            "install Codex, or name it with --codex-bin FILE".into()
        }
        StatusProblem::Probe(
            ProbeFailure::Network(_) | ProbeFailure::TimedOut(_) | ProbeFailure::Server(_),
        ) => "try again later, or use pasted /status text: --status-file FILE".into(),
        StatusProblem::AnotherAccount { .. } => {
            "the account may have been switched during the query: run the same command again".into()
        }
        StatusProblem::Probe(_) | StatusProblem::NotUnderstood(_) => return None,
    })
}
