//! `restore`: an archive goes back into the Codex home, or into a folder.

use super::account::{self, warn_all, warn_not_recorded};
use super::list_backups::entries_of;
use super::restore_session;
use super::verify::find_archive;
use crate::accounts::login_selection::{AuthOutcome, AuthPolicy};
use crate::archive::entry_name::EntryName;
use crate::archive::metadata::Mode;
use crate::archive::reader::Archive;
use crate::archive::restore::RestoreError;
use crate::archive::restore::apply::{self, RestoreReport, RestoreRequest};
use crate::archive::restore::plan::{RestorePlan, Selection, Target};
use crate::archive::restore::safety::SAFETY_LABEL;
use crate::codex::daemon;
use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::catalog;
use crate::inventory::records::ArchiveRecord;
use crate::inventory::resolve;
use crate::inventory::store;
use crate::io::quantity::pluralize;
use crate::io::shell;
use crate::io::tree;
use crate::sync::restored::Marks;
use crate::ui::Style;
use crate::ui::time::bytes;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long Codex may take to stop its daemon.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Put an archive back
///
/// Everything is checked before anything is touched, what will change is archived first, and the
/// new state is exchanged for the old in one step: a crash leaves the one or the other. The live
/// login is kept when it is newer than the archive's.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag on the command line"
)]
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager restore latest
  codex-manager restore me@example.com --dry-run
  codex-manager restore latest --only sessions/2026/11 --only config.toml
  codex-manager restore latest --session 01a1f78b      # one conversation
  codex-manager restore latest --to ~/elsewhere        # a home of its own")]
pub struct RestoreArgs {
    /// A name under backups/, a path, an account, or `latest`
    #[arg(value_name = "ARCHIVE|ACCOUNT|latest")]
    what: Option<String>,
    /// Only this file or folder, relative to the Codex home; may be given several times
    #[arg(long, value_name = "PATH", num_args = 1..)]
    only: Vec<PathBuf>,
    /// Only this conversation: its id, the beginning of one, or its name
    #[arg(long, value_name = "ID|NAME")]
    session: Option<String>,
    /// Into this empty or new folder instead of the Codex home
    #[arg(long, value_name = "DIR", conflicts_with = "merge")]
    to: Option<PathBuf>,
    /// Which login goes live
    #[arg(long, value_enum, default_value = "newest")]
    auth: AuthPolicy,
    /// Keep what exists only here, and the longer of two conversations
    #[arg(long)]
    merge: bool,
    /// Stop Codex's background daemon first
    #[arg(long)]
    stop_daemon: bool,
    /// Do not archive what will change
    #[arg(long)]
    no_safety_backup: bool,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

impl RestoreArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`RestoreError`]; unless it says otherwise nothing was changed.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let (folder, target) = match &self.to {
            Some(folder) => (context.env.absolute(folder), Target::Elsewhere),
            None => (settings.codex_home.clone(), Target::Home),
        };
        let is_among = |home: &PathBuf| {
            // One that is there already makes a folder around it no empty one.
            tree::lies_in(&folder, home) || (!home.exists() && tree::lies_in(home, &folder))
        };
        let homes = [&settings.codex_home, &settings.manager_home];
        if target == Target::Elsewhere && homes.into_iter().any(is_among) {
            return Err(RestoreError::AmongHomes(folder).into());
        }
        let path = self.resolve(context)?;
        let archive = Archive::open(&path)?;
        let selection = self.selection(&archive)?;
        let mut request = RestoreRequest {
            archive: &archive,
            folder,
            target,
            selection,
            merge: self.merge,
            auth: self.auth,
            may_switch_account: settings.assume_yes,
            may_write_outside: settings.assume_yes,
            safety_backup: !self.no_safety_backup,
            ignores_case: None,
            manager_home: &settings.manager_home,
            env: &context.env,
            now: context.local_now(),
        };
        let plan = match apply::plan(&request) {
            Err(RestoreError::AnotherAccount { archive, live })
                if !self.dry_run && Self::agrees(context, &archive, &live) =>
            {
                request.may_switch_account = true;
                apply::plan(&request)?
            }
            other => other?,
        };
        if self.dry_run {
            let holders = apply::holders(&request);
            show_plan(context, &archive, &request, &plan);
            for holder in holders {
                context
                    .ui
                    .warn(format_args!("the Codex home is in use: {holder}"));
            }
            return Ok(Outcome::Done);
        }
        if self.stop_daemon && target == Target::Home {
            stop_daemon(context)?;
        }
        let bar = context.ui.bar("restoring", plan.bytes);
        // Before anything is exchanged: a sync is not to take for deleted what the archive lacks.
        let marks = match target {
            Target::Home if !plan.partial || !plan.removed.is_empty() => {
                Some(Marks::leave(&settings.manager_home, &request.folder)?)
            }
            _ => None,
        };
        let applied = apply::apply(&request, &bar);
        drop(bar);
        if let (Err(RestoreError::Busy(_)), Some(marks)) = (&applied, marks) {
            marks.take_back();
        }
        let mut report = applied?;
        let is_noted = note(context, target, &mut report);
        show_done(context, &archive, &request, &report);
        Ok(Outcome::partial_if(!is_noted))
    }

    fn agrees(context: &Context, archive: &str, live: &str) -> bool {
        let question = format!(
            "{live} is signed in; the archive is of {archive}. Save the live login to its profile and go on?"
        );
        context.ui.confirm(question) == Some(true)
    }

    /// The archive that was meant.
    fn resolve(&self, context: &Context) -> Result<PathBuf, CommandError> {
        let Some(what) = self.what.as_deref() else {
            return pick(context);
        };
        let is_path = what.ends_with(".tar.gz") || what.contains(['/', '\\']);
        if is_path {
            return find_archive(context, Path::new(what));
        }
        let backups = store::backups(&context.settings.manager_home);
        let records = store::archives(&context.settings.manager_home)?;
        let found = if what == LATEST {
            best_of(&records, |_| true)
        } else {
            if let Ok(path) = find_archive(context, Path::new(what)) {
                return Ok(path);
            }
            let accounts: Vec<_> = account::known_accounts(context)?
                .into_iter()
                .map(|a| account::with_verdict(a, context))
                .collect();
            let entries = entries_of(&accounts, &records);
            let wanted = &entries[resolve::resolve(&entries, what)?].identity;
            best_of(&records, |r| {
                r.metadata.identity().is_some_and(|i| i.is_same(wanted))
            })
        };
        found.map(|r| backups.join(&r.path)).ok_or_else(|| {
            CommandError::failed(format!("no archive to restore: {what}")).hint(
                if records.is_empty() {
                    "make the first one: codex-manager backup"
                } else {
                    "list them with: codex-manager list-backups"
                },
            )
        })
    }

    fn selection(&self, archive: &Archive) -> Result<Selection, CommandError> {
        let mut selection = Selection::default();
        for path in &self.only {
            let name = EntryName::of_path(path).map_err(|reason| {
                CommandError::usage(format!(
                    "--only takes paths relative to the Codex home ({reason}): {}",
                    path.display()
                ))
            })?;
            selection.only.push(name.as_path().to_path_buf());
        }
        if let Some(wanted) = &self.session {
            selection.conversations = restore_session::conversations(archive, wanted)?;
        }
        Ok(selection)
    }
}

/// Notes what is done; whether all of it is noted.
fn note(context: &Context, target: Target, report: &mut RestoreReport) -> bool {
    let (ui, settings) = (&context.ui, &context.settings);
    let (manager, now, zone) = (&settings.manager_home, context.now(), settings.zone);
    let mut failures: Vec<CommandError> = Vec::new();
    failures.extend(report.unsettled.take().map(Into::into));
    if let Some(safety) = &report.safety {
        let noted = store::note_archive(manager, safety, &now, zone);
        warn_all(ui, &noted.warnings);
        failures.extend(noted.failures.into_iter().map(Into::into));
    }
    if target == Target::Home {
        match store::note_profiles(manager, &now, zone) {
            Ok(noted) => warn_all(ui, &noted.warnings),
            Err(e) => failures.push(e.into()),
        }
    }
    warn_not_recorded(ui, failures)
}

/// How the newest archive is called.
pub const LATEST: &str = "latest";

/// Lets somebody at a terminal choose; elsewhere the archive has to be named.
fn pick(context: &Context) -> Result<PathBuf, CommandError> {
    let manager = &context.settings.manager_home;
    let mut records = store::archives(manager)?;
    records.retain(ArchiveRecord::is_usable);
    records.sort_by_key(|r| std::cmp::Reverse(r.metadata.created_at));
    let choices: Vec<_> = records
        .iter()
        .map(|r| {
            let made = account::absolute(&r.metadata.created_at, context);
            format!("{made}  {:8}  {}", r.metadata.mode.name(), r.path)
        })
        .collect();
    match context.ui.pick("which archive?", &choices) {
        Some(i) => Ok(store::backups(manager).join(&records[i].path)),
        None => Err(CommandError::usage("which archive?")
            .hint("codex-manager restore latest, or a name from codex-manager list-backups")),
    }
}

/// The newest full archive that `wanted` takes; where there is none, the newest of any mode.
/// Safety backups are put back by their names alone.
fn best_of(
    records: &[ArchiveRecord],
    wanted: impl Fn(&ArchiveRecord) -> bool,
) -> Option<&ArchiveRecord> {
    records
        .iter()
        .filter(|r| r.is_usable() && wanted(r))
        .filter(|r| r.metadata.label.as_deref() != Some(SAFETY_LABEL))
        .max_by_key(|r| {
            (
                r.metadata.mode == Mode::Full,
                r.metadata.created_at,
                r.metadata.mode == Mode::Sessions,
            )
        })
}

fn stop_daemon(context: &Context) -> Result<(), CommandError> {
    let settings = &context.settings;
    if daemon::find(&settings.codex_home).is_none() {
        return Ok(());
    }
    let program = Program::find(settings.codex_bin.as_deref(), &context.env)
        .map_err(|e| CommandError::failed("cannot stop Codex's background daemon").because(e))?;
    daemon::stop(&program, &settings.codex_home, &context.env, STOP_PATIENCE)
        .map_err(|e| CommandError::codex_running(e.to_string()))?;
    context.ui.note("stopped Codex's background daemon");
    Ok(())
}

/// The JSON document. Its keys are a contract.
#[derive(Serialize)]
struct RestoreJson<'a> {
    archive: String,
    email: Option<&'a str>,
    target: &'a Path,
    files: u64,
    bytes: u64,
    removed: Vec<String>,
    safety_backup: Option<String>,
    auth: Option<AuthOutcome>,
    notes: &'a [String],
    dry_run: bool,
}

fn name_of(archive: &Archive) -> String {
    archive
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn shown(names: &[EntryName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn show_plan(
    context: &Context,
    archive: &Archive,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) {
    let removed = shown(&plan.removed.sorted());
    context.ui.document(
        "restore",
        &RestoreJson {
            archive: name_of(archive),
            email: archive.metadata().email.as_deref(),
            target: &request.folder,
            files: plan.writes.len() as u64 + u64::from(plan.wants_login),
            bytes: plan.bytes,
            removed: removed.clone(),
            safety_backup: None,
            auth: (!plan.wants_login).then_some(AuthOutcome::Skipped),
            notes: &[],
            dry_run: true,
        },
    );
    let ui = &context.ui;
    ui.report(format_args!(
        "would put back {} ({}) into {}",
        pluralize(plan.writes.len() + usize::from(plan.wants_login), "file"),
        bytes(plan.bytes),
        request.folder.display(),
    ));
    if request.target == Target::Home {
        ui.report(format_args!(
            "  {} replaced, {} added, {} removed",
            plan.writes.len() - plan.added.len(),
            plan.added.len(),
            removed.len(),
        ));
    }
    for path in &removed {
        ui.report(ui.paint(Style::Warn, format_args!("  remove {path}")));
    }
    ui.note("dry run: nothing was written");
}

fn show_done(
    context: &Context,
    archive: &Archive,
    request: &RestoreRequest<'_>,
    report: &RestoreReport,
) {
    let safety = report.safety.as_ref().map(|s| {
        catalog::relative_name(&store::backups(&context.settings.manager_home), &s.archive)
    });
    context.ui.document(
        "restore",
        &RestoreJson {
            archive: name_of(archive),
            email: archive.metadata().email.as_deref(),
            target: &request.folder,
            files: report.files,
            bytes: report.bytes,
            removed: shown(&report.removed.sorted()),
            safety_backup: safety.clone(),
            auth: Some(report.auth),
            notes: &report.notes,
            dry_run: false,
        },
    );
    let ui = &context.ui;
    ui.report(format_args!(
        "{} {}, {}, into {}",
        ui.paint(Style::Good, "restored"),
        pluralize(report.files, "file"),
        bytes(report.bytes),
        request.folder.display(),
    ));
    ui.report(match report.auth {
        AuthOutcome::Restored => "login: as in the archive",
        AuthOutcome::KeptNewer => "login: kept the newer one",
        AuthOutcome::Skipped => "login: not touched",
    });
    if !report.removed.is_empty() {
        let removed = pluralize(report.removed.len(), "file");
        ui.report(format_args!("removed {removed} that the archive lacks"));
    }
    for note in &report.notes {
        ui.note(format_args!("note: {note}"));
    }
    match safety {
        Some(safety) => ui.note(format_args!(
            "undo with: codex-manager restore {}",
            shell::word(&safety)
        )),
        None if request.target == Target::Elsewhere => ui.note(format_args!(
            "use it with: CODEX_HOME={} codex",
            shell::word(&request.folder.to_string_lossy())
        )),
        None => {}
    }
}
