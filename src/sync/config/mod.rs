//! `sync.toml`: what is synced, where to, and who decides.
//!
//! The tables and keys are those of codexSync, so that its `config.toml` works as it is; an absent
//! key has codexSync's default. What it does not know (`three_way`, `propagate`, `[[paths.map]]`) is
//! ours. A key that neither knows is named in [`SyncConfig::warnings`].

mod choices;
mod keys;
mod overlap;
mod paths;

pub use choices::{Compare, Compression, ConflictPolicy, DeletePolicy, EqualMtime, SessionMode};
pub use overlap::NamedFolder;
pub use paths::PathRule;

use self::keys::KeyReader;
use self::paths::SyncPaths;
use super::scope;
use crate::codex::process::ProgramNames;
use crate::io::IoError;
use crate::io::environment::Environment;
use crate::io::file_open;
use crate::logging::LogSettings;
use crate::shutdown::{Confirmation, ShutdownSettings, Termination};
use std::path::{Path, PathBuf};
use toml_edit::DocumentMut;

/// Why a configuration cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncConfigError {
    /// There is none.
    #[error("no configuration: {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is no TOML.
    #[error("not valid TOML ({reason}): {}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A value that means nothing.
    #[error("{key} {reason}: {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Table and key.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// Two folders that have to be apart.
    #[error("{inner} lies in {outer}: {}", path.display())]
    Overlap {
        /// The one.
        inner: Box<NamedFolder>,
        /// What it lies in.
        outer: Box<NamedFolder>,
        /// The file.
        path: PathBuf,
    },
}

/// `[backup]`.
#[derive(Debug, Clone, Copy)]
pub struct BackupOptions {
    /// Whether what will be overwritten is kept first.
    pub before_overwrite: bool,
    /// After how many days our own snapshots go; 0 keeps them.
    pub retention_days: u64,
    /// How many of our own snapshots stay; 0 is no limit.
    pub max_backups: u64,
    /// Their form.
    pub compression: Compression,
}

/// `[safety]`.
#[derive(Debug, Clone, Copy)]
pub struct SafetyOptions {
    /// Whether nothing is written while Codex runs.
    pub require_codex_stopped: bool,
    /// Whether not being able to tell whether it runs stops us too.
    pub fail_on_unknown: bool,
}

/// A configuration, checked and with every path absolute.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// The file it was read from.
    pub path: PathBuf,
    /// The name of this machine in names of files of ours: letters, digits, `.`, `_`, `-`.
    pub machine_id: String,
    /// See [`Compare`].
    pub compare: Compare,
    /// Times that differ by at most this are equal.
    pub tolerance_nanos: i128,
    /// See [`EqualMtime`].
    pub equal_mtime: EqualMtime,
    /// Whether `run` without a flag only shows what it would do.
    pub dry_run_default: bool,
    /// See [`DeletePolicy`].
    pub delete: DeletePolicy,
    /// See [`SessionMode`].
    pub session_mode: SessionMode,
    /// The Codex home.
    pub local: PathBuf,
    /// The folder that something else replicates.
    pub cloud: PathBuf,
    /// Where backups before overwriting go.
    pub backup_dir: PathBuf,
    /// See [`PathRule`].
    pub path_rules: Vec<PathRule>,
    /// Relative paths with `/`; empty: everything that may travel.
    pub roots: Vec<String>,
    /// Globs of what stays where it is.
    pub exclude: Vec<String>,
    /// See [`ConflictPolicy`].
    pub conflict: ConflictPolicy,
    /// Whether conflicts are listed.
    pub report_conflicts: bool,
    /// See [`BackupOptions`].
    pub backup: BackupOptions,
    /// See [`SafetyOptions`].
    pub safety: SafetyOptions,
    /// `[process_detection]`: who is Codex, and how it is closed.
    pub shutdown: ShutdownSettings,
    /// `[logging]`; without a file the manager's own log is taken.
    pub logging: LogSettings,
    /// codexSync's own state, taken over on the first sync.
    pub codexsync_manifest: Option<PathBuf>,
    /// Keys that mean nothing here.
    pub warnings: Vec<String>,
}

/// What a configuration is read against.
#[derive(Debug, Clone, Copy)]
pub struct ConfigContext<'a> {
    /// For `~`.
    pub env: &'a Environment,
    /// What `paths.local_state_dir` is when it is absent.
    pub codex_home: &'a Path,
    /// Where backups go when `paths.backup_dir` is absent.
    pub manager_home: &'a Path,
}

/// What codexSync calls a machine without a name.
const UNNAMED: &str = "unknown-machine";

impl SyncConfig {
    /// Reads the configuration at `path`.
    pub fn read(path: &Path, around: &ConfigContext<'_>) -> Result<Self, SyncConfigError> {
        match file_open::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, around),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(SyncConfigError::Missing(path.to_path_buf()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                Err(SyncConfigError::NotToml {
                    path: path.to_path_buf(),
                    reason: "not UTF-8".into(),
                })
            }
            Err(source) => Err(IoError {
                action: "read",
                path: path.to_path_buf(),
                source,
            }
            .into()),
        }
    }

    /// Parses `text`, the contents of `path`.
    pub fn parse(
        path: &Path,
        text: &str,
        around: &ConfigContext<'_>,
    ) -> Result<Self, SyncConfigError> {
        let document: DocumentMut =
            text.parse()
                .map_err(|e: toml_edit::TomlError| SyncConfigError::NotToml {
                    path: path.to_path_buf(),
                    reason: e.message().to_owned(),
                })?;
        let mut reader = KeyReader::new(path, &document);
        let config = Self::from(&mut reader, around)?;
        overlap::check(&config, around.manager_home)?;
        Ok(Self {
            warnings: reader.warnings(),
            ..config
        })
    }

    fn from(r: &mut KeyReader<'_>, around: &ConfigContext<'_>) -> Result<Self, SyncConfigError> {
        r.only("sync", "mode", "cold")?;
        r.only("sync", "direction", "bidirectional")?;
        let machine = r.text("identity", "machine_id")?;
        let tolerance = r.number("sync", "time_tolerance_seconds", 0)?;
        let paths = SyncPaths::read(r, around)?;
        let file = r.text("logging", "file")?;
        let manifest = r.text("state", "manifest_file")?;
        for (table, key) in IGNORED {
            r.ignore(table, key);
        }
        Ok(Self {
            path: r.path.to_path_buf(),
            machine_id: machine_name(machine.as_deref().unwrap_or(UNNAMED)),
            compare: r.choice("sync", "compare", Compare::Mtime)?,
            tolerance_nanos: i128::from(tolerance) * 1_000_000_000,
            equal_mtime: r.choice("sync", "equal_mtime_action", EqualMtime::Skip)?,
            dry_run_default: r.flag("sync", "dry_run_default", true)?,
            delete: r.choice("sync", "delete_policy", DeletePolicy::Never)?,
            session_mode: r.choice("sync", "session_mode", SessionMode::All)?,
            path_rules: paths::path_rules(r)?,
            roots: roots(r)?,
            exclude: r.texts("filters", "exclude_globs")?.unwrap_or_default(),
            conflict: r.choice("conflict", "policy", ConflictPolicy::ManualAbort)?,
            report_conflicts: r.flag("conflict", "report_conflicts", true)?,
            backup: BackupOptions {
                before_overwrite: r.flag("backup", "backup_before_overwrite", true)?,
                retention_days: r.number("backup", "retention_days", 30)?,
                max_backups: r.number("backup", "max_backups", 0)?,
                compression: r.choice("backup", "compression", Compression::None)?,
            },
            safety: SafetyOptions {
                require_codex_stopped: r.flag("safety", "require_codex_stopped", true)?,
                fail_on_unknown: r.flag("safety", "fail_on_unknown", true)?,
            },
            shutdown: shutdown(r)?,
            logging: logging(r, file.map(|file| paths.absolute(&file)))?,
            codexsync_manifest: manifest.map(|file| paths.absolute(&file)),
            local: paths.local,
            cloud: paths.cloud,
            backup_dir: paths.backup_dir,
            warnings: Vec::new(),
        })
    }
}

/// What codexSync has in its files and reads nothing from, or what is bound to how it works.
const IGNORED: &[(&str, &str)] = &[
    ("state", "data_version"),
    ("state", "lease_file"),
    ("state", "history_dir"),
    ("state", "lease_ttl_seconds"),
    ("scheduler", "enabled"),
    ("scheduler", "kind"),
    ("scheduler", "interval_minutes"),
    ("scheduler", "jitter_seconds"),
];

/// A name that is safe in names of files on every system.
pub fn machine_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars() {
        let keep = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if keep {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    // A name of dots alone would be a folder.
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() {
        UNNAMED.to_owned()
    } else {
        name.chars().take(64).collect()
    }
}

fn roots(r: &mut KeyReader<'_>) -> Result<Vec<String>, SyncConfigError> {
    let mut roots = Vec::new();
    for root in r.texts("targets", "include_roots")?.unwrap_or_default() {
        let clean = scope::normalize_root(&root)
            .map_err(|reason| r.invalid("targets", "include_roots", &reason))?;
        match clean {
            // One entry that means everything makes the others superfluous.
            None => return Ok(Vec::new()),
            Some(clean) if !roots.contains(&clean) => roots.push(clean),
            Some(_) => {}
        }
    }
    Ok(roots)
}

fn shutdown(r: &mut KeyReader<'_>) -> Result<ShutdownSettings, SyncConfigError> {
    const TABLE: &str = "process_detection";
    let usual = ShutdownSettings::default();
    let mut codex: Vec<String> = Vec::new();
    let given = r.texts(TABLE, "process_names")?;
    for name in given.unwrap_or_else(|| vec!["codex.exe".into(), "codex".into()]) {
        let name = name.trim().to_lowercase();
        if !name.is_empty() && !codex.contains(&name) {
            codex.push(name);
        }
    }
    if codex.is_empty() {
        return Err(r.invalid(TABLE, "process_names", "names no program"));
    }
    let background = r.background_names(TABLE)?;
    Ok(ShutdownSettings {
        names: ProgramNames {
            codex,
            background: background.unwrap_or(usual.names.background),
        },
        grace_period: r.seconds(TABLE, "grace_period_seconds", usual.grace_period)?,
        termination: if r.flag(TABLE, "allow_terminate_if_running", true)? {
            Termination::Allowed
        } else {
            Termination::Forbidden
        },
        confirmation: if r.flag(TABLE, "manual_terminate_confirmation", true)? {
            Confirmation::Required
        } else {
            Confirmation::Waived
        },
        channel: r.choice(TABLE, "terminate_confirmation_mode", usual.channel)?,
        terminate_timeout: r.seconds(
            TABLE,
            "terminate_timeout_seconds",
            usual.terminate_timeout,
        )?,
    })
}

fn logging(r: &mut KeyReader<'_>, file: Option<PathBuf>) -> Result<LogSettings, SyncConfigError> {
    const TABLE: &str = "logging";
    const MEGABYTE: u64 = 1024 * 1024;
    let usual = LogSettings::default();
    let megabytes = r.number(TABLE, "max_file_size_mb", usual.max_file_bytes / MEGABYTE)?;
    if megabytes == 0 {
        return Err(r.invalid(TABLE, "max_file_size_mb", "must be at least 1"));
    }
    let days = r.number(TABLE, "retention_days", usual.retention_days.into())?;
    Ok(LogSettings {
        level: r.choice(TABLE, "level", usual.level)?,
        file,
        format: r.choice(TABLE, "format", usual.format)?,
        retention_days: u32::try_from(days).unwrap_or(u32::MAX),
        archive: r.choice(TABLE, "archive_mode", usual.archive)?,
        max_file_bytes: megabytes * MEGABYTE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SyncConfig, SyncConfigError> {
        let mut env = Environment::default();
        env.current_dir = "/somewhere".into();
        env.home_dir = Some("/home/me".into());
        let around = ConfigContext {
            env: &env,
            codex_home: Path::new("/home/me/.codex"),
            manager_home: Path::new("/home/me/.codex-manager"),
        };
        SyncConfig::parse(Path::new("/etc/sync/config.toml"), text, &around)
    }

    #[test]
    fn an_absent_key_has_the_default_of_codexsync() {
        let config = read("[paths]\ncloud_root_dir = \"cloud\"").unwrap();
        assert_eq!(config.compare, Compare::Mtime);
        assert_eq!(config.conflict, ConflictPolicy::ManualAbort);
        assert_eq!(config.session_mode, SessionMode::All);
        assert!(config.dry_run_default && config.roots.is_empty());
        assert_eq!(config.backup.retention_days, 30);
        assert_eq!(config.machine_id, "unknown-machine");
        assert_eq!(config.cloud, Path::new("/etc/sync/cloud"));
        assert_eq!(config.local, Path::new("/home/me/.codex"));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn relative_paths_are_below_the_workspace() {
        let config = read(
            "[paths]\nworkspace_root_dir = \"~/cs\"\nlocal_state_dir = \"./x/../codex\"\n\
             cloud_root_dir = \"${workspace_root}/cloud\"\nbackup_dir = \"bk\"",
        )
        .unwrap();
        assert_eq!(config.cloud, Path::new("/home/me/cs/cloud"));
        assert_eq!(config.backup_dir, Path::new("/home/me/cs/bk"));
        assert_eq!(config.local, Path::new("/home/me/cs/codex"));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_key() {
        for (text, key) in [
            ("", "paths.cloud_root_dir"),
            ("[paths]\ncloud_root_dir = 5", "paths.cloud_root_dir"),
            (
                "[paths]\ncloud_root_dir = \"~/.codex/x\"",
                "lies in the Codex home",
            ),
            ("[sync]\nmode = \"hot\"", "sync.mode"),
            ("[sync]\ncompare = \"size\"", "sync.compare"),
            (
                "[sync]\ntime_tolerance_seconds = -1",
                "sync.time_tolerance_seconds",
            ),
            (
                "[targets]\ninclude_roots = [\"auth.json\"]",
                "targets.include_roots",
            ),
            (
                "[process_detection]\nprocess_names = [\"\"]",
                "process_names",
            ),
            (
                "[paths]\ncloud_root_dir = \"/c\"\nmap = [{from = \"/a\"}]",
                "paths.map",
            ),
        ] {
            let whole = if text.contains("[paths]") || text.is_empty() {
                text.to_owned()
            } else {
                format!("{text}\n[paths]\ncloud_root_dir = \"/c\"")
            };
            let error = read(&whole).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(matches!(
            read("[paths\n"),
            Err(SyncConfigError::NotToml { .. })
        ));
    }

    #[test]
    fn unknown_keys_are_named_and_change_nothing() {
        let config = read(
            "top = 1\n[paths]\ncloud_root_dir = \"/c\"\nshadow = 1\n[new]\nx = 1\n\
             [assumptions]\ny = 1",
        )
        .unwrap();
        assert_eq!(
            config.warnings,
            [
                "unknown key in the configuration: top",
                "unknown key in the configuration: paths.shadow",
                "unknown key in the configuration: new",
            ]
        );
    }

    #[test]
    fn rules_for_paths_have_two_spellings() {
        let rule = PathRule {
            from: "/Users/me".into(),
            to: "/home/me".into(),
        };
        for text in [
            "[paths]\ncloud_root_dir = \"/c\"\n[[paths.map]]\nfrom = \"/Users/me\"\nto = \"/home/me\"",
            "[paths]\ncloud_root_dir = \"/c\"\nmap = [{from = \"/Users/me\", to = \"/home/me\"}]",
        ] {
            assert_eq!(read(text).unwrap().path_rules, std::slice::from_ref(&rule));
        }
    }
}
