//! `doctor`: looks everything over and names the command that mends what is wrong.

use crate::archive::restore::pending;
use crate::archive::restore::swap::Recovery;
use crate::codex::auth::AuthFile;
use crate::codex::config::CodexConfig;
use crate::codex::daemon;
use crate::codex::home::AUTH_JSON;
use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::catalog;
use crate::inventory::cooldown;
use crate::inventory::records::InventoryFile;
use crate::inventory::store;
use crate::io::document::{self, Found};
use crate::io::{atomic, staging, tree};
use crate::ui::{Style, Ui};
use clap::Args;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long `codex --version` may take.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

/// Check Codex, the homes and the archives
///
/// Each finding names the command that mends it. --fix does what is safe: modes of our own files,
/// lost sidecars, left-over temp files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager doctor
  codex-manager doctor --fix
  codex-manager doctor --json | jq '.checks[] | select(.status != \"ok\")'")]
pub struct DoctorArgs {
    /// Mend what can be mended safely
    #[arg(long)]
    fix: bool,
    /// With --fix: only say what would be mended
    #[arg(long)]
    dry_run: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    id: &'static str,
    status: Status,
    message: String,
    /// The command that mends it.
    fix: Option<String>,
}

/// The JSON document. Its keys are a contract.
#[derive(Serialize)]
struct DoctorJson {
    checks: Vec<Check>,
}

impl DoctorArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Something could not be mended.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let mut checks = Vec::new();
        if self.fix {
            checks.extend(
                Examination {
                    context,
                    checks: Vec::new(),
                }
                .mend(self.dry_run)?,
            );
        }
        let mut examination = Examination {
            context,
            checks: Vec::new(),
        };
        examination.codex();
        examination.codex_home();
        examination.manager_home();
        examination.archives();
        examination.left_overs();
        checks.append(&mut examination.checks);
        for check in &checks {
            show(&context.ui, check);
        }
        let worst = checks.iter().map(|c| c.status).max();
        context.ui.document("doctor", &DoctorJson { checks });
        Ok(if worst == Some(Status::Fail) {
            Outcome::FoundWanting
        } else {
            Outcome::Done
        })
    }
}

struct Examination<'a> {
    context: &'a Context,
    checks: Vec<Check>,
}

impl Examination<'_> {
    fn note(
        &mut self,
        id: &'static str,
        status: Status,
        message: impl Into<String>,
        fix: Option<&str>,
    ) {
        let fix = fix.map(Into::into);
        self.checks.push(Check {
            id,
            status,
            message: message.into(),
            fix,
        });
    }

    fn codex(&mut self) {
        let settings = &self.context.settings;
        match Program::find(settings.codex_bin.as_deref(), &self.context.env) {
            Err(e) => self.note(
                "codex.binary",
                Status::Warn,
                format!("{e}; live quota cannot be asked for"),
                Some("install Codex, or set codex.bin in config.toml"),
            ),
            Ok(program) => {
                let path = program.path().display().to_string();
                match program.version(&self.context.env, VERSION_PATIENCE) {
                    Some(version) => {
                        self.note(
                            "codex.binary",
                            Status::Ok,
                            format!("{version}: {path}"),
                            None,
                        );
                    }
                    None => self.note(
                        "codex.binary",
                        Status::Warn,
                        format!("does not say its version: {path}"),
                        Some("codex --version"),
                    ),
                }
            }
        }
    }

    fn codex_home(&mut self) {
        let home = self.context.settings.codex_home.clone();
        let shown = home.display().to_string();
        if !home.is_dir() {
            let fix = Some("codex-manager restore latest, or start codex once");
            return self.note("home", Status::Warn, format!("no Codex home: {shown}"), fix);
        }
        match fs::read_dir(&home) {
            Err(e) => self.note(
                "home",
                Status::Fail,
                format!("cannot be read ({e}): {shown}"),
                None,
            ),
            Ok(_) => match open_to_others(&home) {
                Some(mode) => {
                    let fix = format!("chmod 700 {shown}");
                    self.note(
                        "home",
                        Status::Warn,
                        format!("open to others (mode {mode:o}): {shown}"),
                        Some(&fix),
                    );
                }
                None => self.note("home", Status::Ok, shown, None),
            },
        }
        let config = CodexConfig::read(&home);
        match &config.problem {
            Some(problem) => self.note(
                "home.config",
                Status::Fail,
                format!("config.toml is not understood: {problem}"),
                Some("codex-manager restore latest --only config.toml"),
            ),
            None => self.note("home.config", Status::Ok, "config.toml is understood", None),
        }
        if config.store.reads_auth_json() {
            self.note(
                "home.store",
                Status::Ok,
                "logins are kept in auth.json",
                None,
            );
        } else {
            self.note(
                "home.store",
                Status::Warn,
                format!("logins are kept by cli_auth_credentials_store = \"{}\": they cannot be archived or switched", config.store.name()),
                Some("set cli_auth_credentials_store = \"file\" in config.toml, then codex login"),
            );
        }
        self.login(&home, config.store.reads_auth_json());
        if let Some(daemon) = daemon::find(&home) {
            self.note(
                "home.daemon",
                Status::Ok,
                format!(
                    "Codex's background daemon runs (PID {}): restore asks for --stop-daemon",
                    daemon.pid
                ),
                None,
            );
        }
    }

    fn login(&mut self, home: &Path, reads_auth_json: bool) {
        let path = home.join(AUTH_JSON);
        match AuthFile::read(&path) {
            Err(e) => self.note(
                "home.login",
                Status::Fail,
                format!("{e}: {}", e.source),
                None,
            ),
            Ok(AuthFile::Missing) if reads_auth_json => {
                self.note(
                    "home.login",
                    Status::Warn,
                    "nobody is signed in",
                    Some("codex login"),
                );
            }
            Ok(AuthFile::Missing) => {}
            Ok(_) if !reads_auth_json => self.note(
                "home.login",
                Status::Warn,
                "there is an auth.json, which Codex may not read: who is signed in is not known",
                None,
            ),
            Ok(AuthFile::Unreadable { reason, .. }) => self.note(
                "home.login",
                Status::Fail,
                format!("auth.json is {reason}: {}", path.display()),
                Some("codex-manager restore latest --only auth.json, or codex login"),
            ),
            Ok(AuthFile::Present(snapshot)) => {
                let who = snapshot.login.map(|l| l.identity.to_string());
                let linked = path.metadata().is_ok_and(|m| links(&m) > 1);
                if linked {
                    let fix = format!("cp -p {0} {0}.new && mv {0}.new {0}", path.display());
                    self.note("home.login", Status::Fail, "auth.json has a second hard link, through which Codex loses a renewed login", Some(&fix));
                } else if let Some(mode) = open_to_others(&path) {
                    let fix = format!("chmod 600 {}", path.display());
                    self.note(
                        "home.login",
                        Status::Warn,
                        format!("auth.json is open to others (mode {mode:o})"),
                        Some(&fix),
                    );
                } else {
                    let who = who.unwrap_or_else(|| "nobody".into());
                    self.note(
                        "home.login",
                        Status::Ok,
                        format!("signed in as {who}"),
                        None,
                    );
                }
            }
        }
    }

    fn manager_home(&mut self) {
        let home = self.context.settings.manager_home.clone();
        if !home.is_dir() {
            let fix = Some("codex-manager backup");
            return self.note(
                "manager.home",
                Status::Warn,
                format!("nothing has been kept yet: {}", home.display()),
                fix,
            );
        }
        let open = open_files(&home);
        if open.is_empty() {
            self.note("manager.home", Status::Ok, home.display().to_string(), None);
        } else {
            let message = format!(
                "{} files or folders are open to others, first {}",
                open.len(),
                open[0].display()
            );
            self.note(
                "manager.home",
                Status::Fail,
                message,
                Some("codex-manager doctor --fix"),
            );
        }
        match document::read::<InventoryFile>(&home.join(store::FILE_NAME)) {
            Err(e) => self.note("manager.inventory", Status::Fail, e.to_string(), None),
            Ok(Found::Damaged(detail)) => self.note(
                "manager.inventory",
                Status::Fail,
                format!("inventory.json is damaged: {detail}"),
                Some("codex-manager doctor --fix"),
            ),
            Ok(_) => self.note(
                "manager.inventory",
                Status::Ok,
                "inventory.json is good",
                None,
            ),
        }
        match cooldown::load(&home, &self.context.now(), self.context.settings.zone) {
            Err(e) => self.note("manager.cooldown", Status::Fail, e.to_string(), None),
            Ok(loaded) if !loaded.warnings.is_empty() => self.note(
                "manager.cooldown",
                Status::Fail,
                loaded.warnings.join("; "),
                Some("codex-manager status"),
            ),
            Ok(_) => self.note(
                "manager.cooldown",
                Status::Ok,
                "cooldown.json is good",
                None,
            ),
        }
    }

    fn archives(&mut self) {
        let records = match store::archives(&self.context.settings.manager_home) {
            Ok(records) => records,
            Err(e) => {
                return self.note("archives", Status::Fail, format!("{e}: {}", e.source), None);
            }
        };
        for record in &records {
            let Some(problem) = &record.problem else {
                continue;
            };
            let (id, fix) = if problem == catalog::NO_SIDECAR {
                ("archives.sidecar", "codex-manager doctor --fix".to_owned())
            } else {
                (
                    "archives.damaged",
                    format!("codex-manager verify {}", record.path),
                )
            };
            self.note(
                id,
                Status::Fail,
                format!("{}: {problem}", record.path),
                Some(&fix),
            );
        }
        let newest = store::newest(&records, |_| true);
        match newest {
            Some(newest) => {
                let at = newest.metadata.created_at.to_utc();
                let text =
                    crate::ui::time::full(&at, self.context.settings.zone, &self.context.now());
                let count = records.iter().filter(|r| r.archive.is_some()).count();
                self.note(
                    "archives",
                    Status::Ok,
                    format!("{count} archives, the newest of {text}"),
                    None,
                );
            }
            None => self.note(
                "archives",
                Status::Warn,
                "there is no archive",
                Some("codex-manager backup"),
            ),
        }
    }

    fn left_overs(&mut self) {
        let settings = &self.context.settings;
        let at_work = pending::folders(&settings.codex_home, &settings.manager_home)
            .iter()
            .any(|(folder, _)| folder.exists());
        if at_work {
            self.note(
                "restore",
                Status::Warn,
                "a restore is at work in another process",
                None,
            );
        } else {
            self.note("restore", Status::Ok, "no restore was interrupted", None);
        }
        let stray = stray(&settings.manager_home);
        if stray.is_empty() {
            self.note("temp", Status::Ok, "no stray temp files", None);
        } else {
            let message = format!(
                "{} stray temp files or folders, first {}",
                stray.len(),
                stray[0].display()
            );
            self.note(
                "temp",
                Status::Warn,
                message,
                Some("codex-manager doctor --fix"),
            );
        }
    }

    /// Does what is safe; each thing that was mended is a finding of its own.
    fn mend(mut self, dry_run: bool) -> Result<Vec<Check>, CommandError> {
        let settings = &self.context.settings;
        let home = settings.manager_home.clone();
        let codex_home = settings.codex_home.clone();
        let done = if dry_run { "would be" } else { "was" };
        for path in open_files(&home) {
            if !dry_run {
                make_private(&path)?;
            }
            self.note(
                "manager.home",
                Status::Ok,
                format!("{done} closed to others: {}", path.display()),
                None,
            );
        }
        for path in stray(&home) {
            if !dry_run {
                tree::remove(&path)?;
            }
            self.note(
                "temp",
                Status::Ok,
                format!("{done} removed: {}", path.display()),
                None,
            );
        }
        for record in store::archives(&home)? {
            if record.problem.as_deref() == Some(catalog::NO_SIDECAR) {
                let path = store::backups(&home).join(&record.path);
                if super::verify::repair_sidecar(&path, dry_run)? {
                    self.note(
                        "archives.sidecar",
                        Status::Ok,
                        format!("the sidecar {done} written again: {}", record.path),
                        None,
                    );
                }
            }
        }
        if !dry_run {
            for recovery in pending::recover_all(&codex_home, &home, self.context.local_now())? {
                if matches!(recovery, Recovery::Finished | Recovery::Undone) {
                    self.note(
                        "restore",
                        Status::Ok,
                        "an interrupted restore was settled",
                        None,
                    );
                }
            }
            if home.is_dir() && store::refresh(&home)?.is_some() {
                self.note(
                    "manager.inventory",
                    Status::Ok,
                    "inventory.json was made again",
                    None,
                );
            }
        }
        Ok(self.checks)
    }
}

/// Temp files and staging folders that nobody uses any more.
fn stray(manager_home: &Path) -> Vec<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the age of files is measured by the system's clock, as their times are"
    )]
    let now = SystemTime::now();
    let mut stray = staging::stale(&manager_home.join("tmp"));
    for folder in [manager_home.to_path_buf(), store::backups(manager_home)] {
        stray.extend(atomic::stale(&folder, now));
    }
    stray
}

/// Files and folders of the manager home that others may read.
fn open_files(manager_home: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(manager_home)
        .into_iter()
        .flatten()
        .filter(|e| !e.path_is_symlink())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| open_to_others(path).is_some())
        .collect()
}

/// The mode, if group or others may do anything.
fn open_to_others(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.metadata()
            .ok()
            .map(|m| m.mode() & 0o777)
            .filter(|mode| mode & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

fn make_private(path: &Path) -> Result<(), crate::io::IoError> {
    #[cfg(unix)]
    {
        use crate::io::IoContext;
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

fn links(meta: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.nlink()
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        1
    }
}

fn show(ui: &Ui, check: &Check) {
    let (style, word) = match check.status {
        Status::Ok => (Style::Good, "ok  "),
        Status::Warn => (Style::Warn, "warn"),
        Status::Fail => (Style::Bad, "fail"),
    };
    ui.line(format_args!(
        "{}  {:18} {}",
        ui.paint(style, word),
        check.id,
        check.message
    ));
    if let Some(fix) = &check.fix {
        ui.line(ui.paint(Style::Dim, format_args!("{:24} → {fix}", "")));
    }
}
