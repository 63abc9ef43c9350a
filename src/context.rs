//! The context of a command: settings, clock, environment and output. Modules below `commands` get
//! these values as arguments and never read the process's environment or clock themselves.

use crate::config::file::ConfigFile;
use crate::config::{ColorChoice, ConfigValues, FILE_NAME, Preferences};
use crate::error::{CommandError, Outcome, Result};
use crate::ui::Ui;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use codex_manager_core::accounts::profile::Profiles;
use codex_manager_core::accounts::stored_logins::add_stored_logins;
use codex_manager_core::codex::program::{Program, ProgramError};
use codex_manager_core::codex::redaction::known_values;
use codex_manager_core::codex::threads;
use codex_manager_core::inventory::good_texts::HomeArchives;
use codex_manager_core::inventory::losses::{self, KnownGoneById};
use codex_manager_core::inventory::records::ArchiveRecord;
use codex_manager_core::inventory::store;
use codex_manager_core::io::beneath::{self, FollowedLinks};
use codex_manager_core::io::clock::{Clock, Timestamp, Zone};
pub(crate) use codex_manager_core::io::environment::Environment;
use codex_manager_core::io::{IoError, OrdinaryPath, user};
use codex_manager_core::vault::state;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// All settings of a run, resolved from flags, environment and `config.toml`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The Codex home: `--codex-home`, else `CODEX_HOME`, else `codex.home` of the configuration,
    /// else `~/.codex`. Absolute.
    pub codex_home: PathBuf,
    /// The manager home: `--manager-home`, else `CODEX_MANAGER_HOME`, else `~/.codex-manager`.
    pub manager_home: PathBuf,
    /// The Codex program: `--codex-bin`, else `codex.bin` of the configuration; else searched on
    /// `PATH` when it is needed.
    pub codex_bin: Option<PathBuf>,
    /// The zone in which times are shown and days are counted.
    pub zone: Zone,
    /// True if `--timezone` or `config.toml` sets the zone; false if it comes from `TZ` or the system.
    pub zone_is_set: bool,
    /// True with `--yes`: every question is answered with yes.
    pub assume_yes: bool,
    /// Defaults of commands from `config.toml`.
    pub(crate) preferences: Preferences,
    /// When to use colour: `--color`, else `NO_COLOR`, else the configuration.
    pub color: ColorChoice,
    /// Messages about unknown keys in `config.toml`.
    pub unknown_keys: Vec<String>,
    /// The global flags as given on the command line.
    pub flags: Flags,
}

/// Everything that a command may use besides its own arguments.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// All settings, resolved from flags, environment and `config.toml`.
    pub settings: Settings,
    /// The system's clock, or the fixed time of `CODEX_MANAGER_NOW`.
    pub clock: Clock,
    /// The process's environment variables and current folder.
    pub env: Environment,
    /// Prints results, notes and warnings.
    pub ui: Ui,
    /// Runs another command; see [`Context::run`].
    pub runner: Runner,
    /// True if a start of Codex has to ask before it changes the live account: the user picked a conversation, not an
    /// account.
    pub asks_before_switch: bool,
}

/// Parses words like a command line and runs the command.
pub(crate) type Runner = fn(&[OsString], &Context) -> Result<Outcome>;

/// The time for which gone conversations are reported if their copies are not kept.
const REPORTED_ABSENCE: TimeDelta = TimeDelta::days(90);

impl Context {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns the current instant in the local zone.
    pub(crate) fn local_now(&self) -> Timestamp {
        self.settings.zone.at(&self.now())
    }

    /// Returns the time since when a conversation must be gone at least, so that its last copy is kept; `None` if
    /// `prune.keep_gone` is 0.
    pub(crate) fn oldest_kept_absence(&self) -> Option<DateTime<Utc>> {
        let days = self.settings.preferences.keep_gone_days;
        let span = TimeDelta::days(days.into());
        // A number of days beyond the calendar keeps the copies for ever.
        let oldest = || {
            self.now()
                .checked_sub_signed(span)
                .unwrap_or(DateTime::<Utc>::MIN_UTC)
        };
        (days > 0).then(oldest)
    }

    /// Returns the recorded conversations of the Codex home that only copies have, as long as their last copy is kept;
    /// if `prune.keep_gone` is 0, for [`REPORTED_ABSENCE`].
    pub(crate) fn recorded_gone(&self) -> KnownGoneById {
        let oldest = self.oldest_kept_absence();
        let oldest = oldest.unwrap_or_else(|| self.now() - REPORTED_ABSENCE);
        losses::read_gone(self.manager_home(), self.codex_home(), oldest)
    }

    /// Runs another command in this context, as a user would type it. `words` begin with the verb.
    ///
    /// # Errors
    /// The errors of the command.
    pub(crate) fn run(&self, words: &[OsString]) -> Result<Outcome> {
        (self.runner)(words, self)
    }

    /// Returns the commands that restore damaged texts of the Codex home; see [`HomeArchives::suggest_restores`].
    pub(crate) fn suggest_restores<'t>(
        &self,
        texts: impl Iterator<Item = &'t Path>,
    ) -> HashMap<PathBuf, String> {
        // Other commands report archives that cannot be listed.
        let records = self.archives().unwrap_or_default();
        HomeArchives {
            records: &records,
            backups: &self.backups(),
            home: self.codex_home(),
            machine: self.machine().as_deref(),
        }
        .suggest_restores(texts)
    }

    /// Returns this context for a start of Codex that asks before it changes the live account.
    pub(crate) fn asking_before_switch(&self) -> Self {
        Self {
            asks_before_switch: true,
            ..self.clone()
        }
    }

    /// Prints a note on stderr; see [`Ui::note`].
    pub(crate) fn note(&self, text: impl Display) {
        self.ui.note(text);
    }

    /// Prints a warning on stderr; see [`Ui::warn`].
    pub(crate) fn warn(&self, text: impl Display) {
        self.ui.warn(text);
    }

    /// Warns of keys of `config.toml` that have no effect.
    pub(crate) fn warn_of_unknown_keys(&self, keys: &[impl Display]) {
        for key in keys {
            self.warn(format_args!("{FILE_NAME}: {key}"));
        }
    }

    /// Returns true if the user answers the question with yes, or `--yes` is given. Without a terminal, only `--yes`
    /// counts.
    pub(crate) fn confirm(&self, question: impl Display) -> bool {
        self.settings.assume_yes || self.ui.confirm(question) == Some(true)
    }

    /// Asks for confirmation before `objects` are deleted permanently, such as "2 archives, 3 MiB"; `--yes` skips the
    /// question.
    ///
    /// # Errors
    /// The user declines, or there is no terminal.
    pub(crate) fn confirm_deletion(&self, objects: &str) -> Result<()> {
        if self.confirm(format_args!("delete {objects} permanently?")) {
            return Ok(());
        }
        let message = format!("a permanent deletion needs confirmation: {objects}");
        Err(CommandError::refused(message)
            .hint("delete them permanently with --yes; nothing was changed"))
    }

    pub(crate) fn zone(&self) -> Zone {
        self.settings.zone
    }

    pub(crate) fn codex_home(&self) -> &Path {
        &self.settings.codex_home
    }

    /// Returns the flag, variable or setting that names the Codex home, if that folder does not exist; `None` for the
    /// default home. Codex creates only the default home.
    pub(crate) fn name_of_missing_home(&self) -> Option<&'static str> {
        let settings = &self.settings;
        let name = if settings.flags.codex_home.is_some() {
            "--codex-home"
        } else if self.env.get("CODEX_HOME").is_some() {
            "CODEX_HOME"
        } else {
            let default_home = self.env.home_dir.as_ref()?.join(".codex");
            if settings.codex_home == default_home {
                return None;
            }
            "the setting codex.home"
        };
        (!settings.codex_home.exists()).then_some(name)
    }

    pub(crate) fn manager_home(&self) -> &Path {
        &self.settings.manager_home
    }

    /// Returns the id of this machine and manager home; `None` if there is none yet, or if it cannot be read.
    pub(crate) fn machine(&self) -> Option<String> {
        state::read(&self.settings.manager_home).ok()?.machine
    }

    /// Finds the Codex program of the settings.
    ///
    /// # Errors
    /// No Codex is installed, or the named file is not a program.
    pub(crate) fn find_codex(&self) -> Result<Program, ProgramError> {
        Program::find(self.settings.codex_bin.as_deref(), &self.env)
    }

    /// Returns the path of the state database, in which Codex lists the conversations, if it exists.
    pub(crate) fn state_database(&self) -> Option<PathBuf> {
        threads::find_state_database(&self.settings.codex_home, &self.env)
    }

    pub(crate) fn profiles(&self) -> Profiles {
        Profiles::of(&self.settings.manager_home)
    }

    /// Returns the folder of the archives.
    pub(crate) fn backups(&self) -> PathBuf {
        store::backups_folder(&self.settings.manager_home)
    }

    /// Lists the archives; see [`store::list_archives`].
    ///
    /// # Errors
    /// The folder of the archives cannot be read.
    pub(crate) fn archives(&self) -> Result<Vec<ArchiveRecord>, IoError> {
        store::list_archives(&self.settings.manager_home)
    }

    /// Returns the path of `name` in the manager home.
    pub(crate) fn manager_path(&self, name: &str) -> PathBuf {
        self.settings.manager_home.join(name)
    }
}

/// The flags that every command accepts, as given on the command line. The paths may be relative.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Flags {
    /// The Codex home [default: `$CODEX_HOME`, else ~/.codex]
    #[arg(long, global = true, value_name = "DIR")]
    pub codex_home: Option<PathBuf>,
    /// The manager home, with archives and profiles [default: `$CODEX_MANAGER_HOME`, else ~/.codex-manager]
    #[arg(long, global = true, value_name = "DIR")]
    pub manager_home: Option<PathBuf>,
    /// The Codex program [default: codex.bin of config.toml, else `codex` on PATH]
    #[arg(long, global = true, value_name = "FILE")]
    pub codex_bin: Option<PathBuf>,
    /// The local time zone as an IANA name [default: config.toml, else `$TZ`, else the system's]
    #[arg(long, global = true, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Print one JSON document on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Leave out notes, progress, and reports of what was done
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print each file that is read or written, and each program that is started. A run with a log writes its steps to
    /// the log
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colour [default: color of config.toml, else auto]
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<ColorChoice>,
    /// Keep secrets in texts of conversations, instead of `[redacted]`; logs and the answers of `mcp` never have them
    #[arg(long, global = true)]
    pub no_redact: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Write a log of this run to logs/ of the manager home (for scheduled jobs)
    #[arg(long, global = true, hide = true)]
    pub log: bool,
}

impl Settings {
    /// Resolves every setting: flags first, then environment, `config.toml`, defaults. Protects both homes from links
    /// for the rest of the process (`beneath::protect`), and lets the tokens of their logins be found in all output.
    ///
    /// # Errors
    /// An unknown time zone, an unreadable or malformed `config.toml`, or no home folder at all.
    pub(crate) fn resolve(flags: Flags, env: &Environment) -> Result<Self> {
        let manager_home = resolve_manager_home(&flags, env)?;
        let file = ConfigFile::read(&manager_home)?;
        let mut settings = Self::from_sources(flags, env, file.validate()?)?;
        let unknown_keys = file.unknown_keys();
        settings.unknown_keys = unknown_keys.iter().map(ToString::to_string).collect();
        Ok(settings)
    }

    /// Resolves every setting without reading `config.toml`, for commands that repair an invalid one.
    ///
    /// # Errors
    /// An unknown time zone, or no home folder at all.
    pub(crate) fn resolve_without_file(flags: Flags, env: &Environment) -> Result<Self> {
        Self::from_sources(flags, env, ConfigFile::default().validate()?)
    }

    fn from_sources(flags: Flags, env: &Environment, file: ConfigValues) -> Result<Self> {
        let manager_home = resolve_manager_home(&flags, env)?;
        let codex_home = resolve_home(
            flags.codex_home.as_ref(),
            "CODEX_HOME",
            file.codex_home,
            ".codex",
            env,
        )?;
        let codex_home = follow_link_of_user(codex_home)?;

        // Links at the top of both homes are followed, in the manager home also links to files: they may lead to
        // another disk.
        beneath::protect(&manager_home, FollowedLinks::TO_FILES);
        beneath::protect(&codex_home, FollowedLinks::AT_TOP);

        let homes = (codex_home.clone(), manager_home.clone());
        known_values::set_logins(move |values| add_stored_logins(&homes.0, &homes.1, values));

        let given_zone = flags.timezone.as_ref().or(file.timezone.as_ref());
        let zone_is_set = given_zone.is_some();
        let zone = match given_zone {
            Some(name) => Zone::named(name).ok_or_else(|| {
                CommandError::usage(format!("unknown time zone: {name}"))
                    .hint("give an IANA name such as --timezone Europe/Berlin")
            })?,
            None => find_default_zone(env),
        };

        let codex_bin = flags.codex_bin.as_ref().or(file.codex_bin.as_ref());
        let codex_bin = codex_bin.map(|bin| env.absolute_program(bin));

        let color = match flags.color {
            Some(color) => color,
            None if env.get("NO_COLOR").is_some() => ColorChoice::Never,
            None => file.preferences.color,
        };

        Ok(Self {
            codex_home,
            manager_home,
            codex_bin,
            zone,
            zone_is_set,
            assume_yes: flags.yes,
            preferences: file.preferences,
            color,
            unknown_keys: Vec::new(),
            flags,
        })
    }
}

/// Returns the target of the Codex home if it is a link of a user and this process is root, so that the user cannot
/// redirect the link after this check. Else returns the home itself.
///
/// # Errors
/// Root must not follow the link.
fn follow_link_of_user(codex_home: PathBuf) -> Result<PathBuf> {
    // Without the separator at the end, with which the system would follow a link.
    let link: PathBuf = codex_home.components().collect();
    let meta = link.symlink_metadata().ok();
    let is_of_user = meta.is_some_and(|m| m.is_symlink() && user::other_owner(&m).is_some());
    if !is_of_user || !user::is_root() {
        return Ok(codex_home);
    }
    match user::real_path(&link) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!("{e}: {}", link.display());
            let hint = "run the command as that user; nothing was changed";
            Err(CommandError::refused(message).hint(hint))
        }
        // The commands report a broken link.
        target => Ok(target.unwrap_or(codex_home)),
    }
}

fn resolve_manager_home(flags: &Flags, env: &Environment) -> Result<PathBuf> {
    let flag = flags.manager_home.as_ref();
    // config.toml is in the manager home, so it cannot name it.
    let (variable, configured) = ("CODEX_MANAGER_HOME", None);
    resolve_home(flag, variable, configured, ".codex-manager", env)
}

/// Returns a home folder: from the flag, else `variable`, else the configuration, else `default_name` in
/// the user's home. Always absolute.
fn resolve_home(
    given_path: Option<&PathBuf>,
    variable: &str,
    configured: Option<PathBuf>,
    default_name: &str,
    env: &Environment,
) -> Result<PathBuf> {
    given_path
        .cloned()
        .or_else(|| env.get(variable).map(PathBuf::from))
        .or(configured)
        .map(|path| env.absolute(&path))
        .or_else(|| env.home_dir.as_ref().map(|home| home.join(default_name)))
        .ok_or_else(|| CommandError::usage(format!("cannot find your home folder; set {variable}")))
}

/// Returns the clock of the run: the time in `CODEX_MANAGER_NOW` (RFC 3339), else the system's.
///
/// # Errors
/// `CODEX_MANAGER_NOW` is not an RFC 3339 time.
pub(crate) fn read_clock(env: &Environment) -> Result<Clock> {
    match env.text("CODEX_MANAGER_NOW") {
        None => Ok(Clock::System),
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map(|at| Clock::Fixed(at.to_utc()))
            .map_err(|e| {
                CommandError::usage(format!("CODEX_MANAGER_NOW is not an RFC 3339 time: {text}"))
                    .because(e)
            }),
    }
}

/// Returns the zone named by `TZ`, if the variable is set and the zone is known.
pub(crate) fn read_tz_zone(env: &Environment) -> Option<Zone> {
    parse_tz_zone(env.text("TZ")?)
}

/// Parses a value of `TZ`: an IANA name, or the path of a zone file, which may be a symbolic link.
pub(crate) fn parse_tz_zone(tz: &str) -> Option<Zone> {
    // POSIX allows a colon before the name of a zone file.
    let name = tz.trim_start_matches(':');
    let zone_at = |path: &str| {
        let (_, zone) = path.split_once("zoneinfo/")?;
        Zone::named(zone)
    };
    if let Some(zone) = Zone::named(name).or_else(|| zone_at(name)) {
        return Some(zone);
    }
    let path = Path::new(name);
    if !path.is_absolute() {
        return None;
    }
    let real_path = path.canonical().ok()?;
    zone_at(&real_path.to_string_lossy())
}

/// Returns the zone named by `TZ`, else the system's, else UTC.
fn find_default_zone(env: &Environment) -> Zone {
    if let Some(zone) = read_tz_zone(env) {
        return zone;
    }
    iana_time_zone::get_timezone()
        .ok()
        .and_then(|name| Zone::named(&name))
        .unwrap_or(Zone::UTC)
}
