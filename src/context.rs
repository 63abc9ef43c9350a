//! What a command is given: settings, clock, zone and environment. Nothing below reads them itself.

use crate::error::CommandError;
use crate::io::clock::{Clock, Timestamp, Zone};
pub use crate::io::environment::Environment;
use crate::ui::Ui;
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};

/// Where things are and how the user wants them, after flags, environment and `config.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Codex home: `--codex-home`, else `CODEX_HOME`, else `~/.codex`. Absolute.
    pub codex_home: PathBuf,
    /// The manager home: `--manager-home`, else `CODEX_MANAGER_HOME`, else `~/.codex-manager`.
    pub manager_home: PathBuf,
    /// The Codex program: `--codex-bin`, else `codex.bin` of the configuration; else searched on
    /// `PATH` when it is needed.
    pub codex_bin: Option<PathBuf>,
    /// The local zone.
    pub zone: Zone,
    /// Whether the user has said yes to everything.
    pub assume_yes: bool,
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
    /// `--yes`.
    pub assume_yes: bool,
}

impl Settings {
    /// Decides every setting: flags, then environment, then `config.toml`, then defaults.
    ///
    /// # Errors
    /// An unknown time zone, an unreadable or malformed `config.toml`, or no home folder at all.
    pub fn decide(flags: Flags, env: &Environment) -> Result<Self, CommandError> {
        let place = |flag: Option<PathBuf>, variable: &str, default: &str| {
            flag.or_else(|| env.get(variable).map(PathBuf::from))
                .map(|path| env.absolute(&path))
                .or_else(|| env.home_dir.as_ref().map(|home| home.join(default)))
                .ok_or_else(|| {
                    CommandError::usage(format!("no home folder is known; set {variable}"))
                })
        };
        let manager_home = place(flags.manager_home, "CODEX_MANAGER_HOME", ".codex-manager")?;
        let codex_home = place(flags.codex_home, "CODEX_HOME", ".codex")?;
        let config = ConfigFile::read(&manager_home.join("config.toml"))?;
        let zone = match flags.timezone.or(config.timezone) {
            Some(name) => Zone::named(&name).ok_or_else(|| {
                CommandError::usage(format!("unknown time zone: {name}"))
                    .hint("give an IANA name such as --timezone Europe/Berlin")
            })?,
            None => system_zone(env),
        };
        let codex_bin = flags
            .codex_bin
            .or_else(|| config.codex_bin.map(PathBuf::from))
            // A bare name is for PATH; anything with a separator is a path.
            .map(|bin| {
                if bin.components().count() > 1 {
                    env.absolute(&bin)
                } else {
                    bin
                }
            });
        Ok(Self {
            codex_home,
            manager_home,
            codex_bin,
            zone,
            assume_yes: flags.assume_yes,
        })
    }
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

/// The zone that `TZ` names, else the system's, else UTC.
fn system_zone(env: &Environment) -> Zone {
    if let Some(name) = env.text("TZ") {
        let name = name.trim_start_matches(':');
        let name = name.split_once("zoneinfo/").map_or(name, |(_, zone)| zone);
        if let Some(zone) = Zone::named(name) {
            return zone;
        }
    }
    iana_time_zone::get_timezone()
        .ok()
        .and_then(|name| Zone::named(&name))
        .unwrap_or(Zone::UTC)
}

/// The part of `config.toml` that the settings need. Unknown keys are left to `config`.
#[derive(Debug, Default)]
struct ConfigFile {
    timezone: Option<String>,
    codex_bin: Option<String>,
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, CommandError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => {
                return Err(
                    CommandError::usage(format!("cannot read: {}", path.display())).because(e),
                );
            }
        };
        let document = text.parse::<toml_edit::DocumentMut>().map_err(|e| {
            CommandError::usage(format!("not valid TOML: {}", path.display())).because(e)
        })?;
        let text_of = |table: Option<&str>, key: &str| {
            let item = match table {
                Some(table) => document.get(table).and_then(|t| t.get(key)),
                None => document.get(key),
            };
            match item {
                None => Ok(None),
                Some(item) => item.as_str().map(|s| Some(s.to_owned())).ok_or_else(|| {
                    CommandError::usage(format!("{key} must be text: {}", path.display()))
                }),
            }
        };
        Ok(Self {
            timezone: text_of(None, "timezone")?,
            codex_bin: text_of(Some("codex"), "bin")?,
        })
    }
}
