//! What a command is given: settings, clock, zone and environment. Nothing below reads them itself.

use crate::config::file::ConfigFile;
use crate::config::{ConfigValues, Preferences};
use crate::error::CommandError;
use crate::io::clock::{Clock, Timestamp, Zone};
pub use crate::io::environment::Environment;
use crate::ui::{ColorChoice, Ui};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};

/// Where things are and how the user wants them, after flags, environment and `config.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Codex home: `--codex-home`, else `CODEX_HOME`, else `codex.home` of the configuration,
    /// else `~/.codex`. Absolute.
    pub codex_home: PathBuf,
    /// The manager home: `--manager-home`, else `CODEX_MANAGER_HOME`, else `~/.codex-manager`.
    pub manager_home: PathBuf,
    /// The Codex program: `--codex-bin`, else `codex.bin` of the configuration; else searched on
    /// `PATH` when it is needed.
    pub codex_bin: Option<PathBuf>,
    /// The local zone.
    pub zone: Zone,
    /// Whether that was set, by a flag or in the file.
    pub zone_is_set: bool,
    /// Whether the user has said yes to everything.
    pub assume_yes: bool,
    /// What the configuration says of commands.
    pub(crate) preferences: Preferences,
    /// When to use colour, if somebody said so.
    pub color: ColorChoice,
    /// Keys of the configuration that mean nothing.
    pub unknown_keys: Vec<String>,
    /// What was said on the command line.
    pub flags: Flags,
}

/// Everything that a command may use of the world around it.
#[derive(Debug)]
pub struct Context {
    /// Paths and choices.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
    /// The process's environment.
    pub env: Environment,
    /// Where output goes.
    pub ui: Ui,
}

impl Context {
    /// The current instant.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The current instant in the local zone.
    pub fn local_now(&self) -> Timestamp {
        self.settings.zone.at(&self.now())
    }

    /// The file or folder `name` of the manager home.
    pub fn manager_path(&self, name: &str) -> PathBuf {
        self.settings.manager_home.join(name)
    }
}

/// What the global flags say, before the environment and the configuration are asked.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--codex-home`.
    pub codex_home: Option<PathBuf>,
    /// `--manager-home`.
    pub manager_home: Option<PathBuf>,
    /// `--codex-bin`.
    pub codex_bin: Option<PathBuf>,
    /// `--timezone`.
    pub timezone: Option<String>,
    /// `--color`.
    pub color: Option<ColorChoice>,
    /// `--yes`.
    pub assume_yes: bool,
}

impl Settings {
    /// Decides every setting: flags, then environment, then `config.toml`, then defaults.
    ///
    /// # Errors
    /// An unknown time zone, an unreadable or malformed `config.toml`, or no home folder at all.
    pub fn resolve(flags: Flags, env: &Environment) -> Result<Self, CommandError> {
        let manager_home = manager_home(&flags, env)?;
        let file = ConfigFile::read(&manager_home)?;
        let unknown_keys = file.unknown().iter().map(ToString::to_string).collect();
        let resolved = Self::with(flags, env, file.values()?)?;
        Ok(Self {
            unknown_keys,
            ..resolved
        })
    }

    /// The same as if there were no `config.toml`: for what mends one that is broken.
    ///
    /// # Errors
    /// An unknown time zone, or no home folder at all.
    pub fn without_file(flags: Flags, env: &Environment) -> Result<Self, CommandError> {
        Self::with(flags, env, ConfigValues::default())
    }

    fn with(flags: Flags, env: &Environment, file: ConfigValues) -> Result<Self, CommandError> {
        let manager_home = manager_home(&flags, env)?;
        let codex_home = place(
            flags.codex_home.as_ref(),
            "CODEX_HOME",
            file.codex_home,
            ".codex",
            env,
        )?;
        let set_zone = flags.timezone.as_ref().or(file.timezone.as_ref());
        let zone_is_set = set_zone.is_some();
        let zone = match set_zone {
            Some(name) => Zone::named(name).ok_or_else(|| {
                CommandError::usage(format!("unknown time zone: {name}"))
                    .hint("give an IANA name such as --timezone Europe/Berlin")
            })?,
            None => system_zone(env),
        };
        let codex_bin = flags
            .codex_bin
            .clone()
            .or(file.codex_bin)
            // A bare name is for PATH; anything with a separator is a path.
            .map(|bin| {
                if bin.components().count() > 1 {
                    env.absolute(&bin)
                } else {
                    bin
                }
            });
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
            assume_yes: flags.assume_yes,
            preferences: file.preferences,
            color,
            unknown_keys: Vec::new(),
            flags,
        })
    }
}

fn manager_home(flags: &Flags, env: &Environment) -> Result<PathBuf, CommandError> {
    let flag = flags.manager_home.as_ref();
    place(flag, "CODEX_MANAGER_HOME", None, ".codex-manager", env)
}

/// A folder: by a flag, a variable, the configuration, or a name in the user's home.
fn place(
    flag: Option<&PathBuf>,
    variable: &str,
    configured: Option<PathBuf>,
    default: &str,
    env: &Environment,
) -> Result<PathBuf, CommandError> {
    flag.cloned()
        .or_else(|| env.get(variable).map(PathBuf::from))
        .or(configured)
        .map(|path| env.absolute(&path))
        .or_else(|| env.home_dir.as_ref().map(|home| home.join(default)))
        .ok_or_else(|| CommandError::usage(format!("no home folder is known; set {variable}")))
}

/// The clock of the run: `CODEX_MANAGER_NOW` (RFC 3339) fixes it.
///
/// # Errors
/// The variable is set to something else.
pub fn clock(env: &Environment) -> Result<Clock, CommandError> {
    match env.text("CODEX_MANAGER_NOW") {
        None => Ok(Clock::System),
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map(|at| Clock::Fixed(at.to_utc()))
            .map_err(|e| {
                CommandError::usage(format!("CODEX_MANAGER_NOW is no RFC 3339 time: {text}"))
                    .because(e)
            }),
    }
}

/// The zone that `TZ` names.
pub fn zone_of_tz(env: &Environment) -> Option<Zone> {
    zone_named_by(env.text("TZ")?)
}

/// The same of its text: a name, or the file of a zone, which may be a link.
pub fn zone_named_by(tz: &str) -> Option<Zone> {
    let name = tz.trim_start_matches(':');
    let of_file = |path: &str| {
        let (_, zone) = path.split_once("zoneinfo/")?;
        Zone::named(zone)
    };
    Zone::named(name).or_else(|| of_file(name)).or_else(|| {
        let path = Path::new(name);
        let real = path.is_absolute().then(|| path.canonicalize().ok())??;
        of_file(&real.to_string_lossy())
    })
}

/// The zone that `TZ` names, else the system's, else UTC.
fn system_zone(env: &Environment) -> Zone {
    if let Some(zone) = zone_of_tz(env) {
        return zone;
    }
    iana_time_zone::get_timezone()
        .ok()
        .and_then(|name| Zone::named(&name))
        .unwrap_or(Zone::UTC)
}
