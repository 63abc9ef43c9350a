//! Reads and validates a configuration.

use super::choices::{Compare, Compression, ConflictPolicy, DeletePolicy, EqualMtime, SessionMode};
use super::error::SyncConfigError;
use super::keys::KeyReader;
use super::overlap;
use super::paths::{self, ConfigContext, SyncPaths};
use super::settings::{
    BackupOptions, DecisionRules, SafetyOptions, ScopeOptions, SyncConfig, SyncPolicy,
};
use crate::codex::process::ProgramNames;
use crate::io::IoError;
use crate::io::beneath::{self, FollowedLinks};
use crate::io::file_open;
use crate::logging::LogSettings;
use crate::shutdown::{Confirmation, ShutdownSettings, Termination};
use crate::sync::scope;
use std::path::{Path, PathBuf};
use toml_edit::DocumentMut;

/// codexSync's name for a machine without `machine_id`.
const UNNAMED: &str = "unknown-machine";

impl SyncConfig {
    /// Reads and validates the configuration at `path`.
    pub fn read(path: &Path, context: &ConfigContext<'_>) -> Result<Self, SyncConfigError> {
        match file_open::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, context),
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

    /// Parses and validates `text`, the content of `path`.
    pub fn parse(
        path: &Path,
        text: &str,
        context: &ConfigContext<'_>,
    ) -> Result<Self, SyncConfigError> {
        let document: DocumentMut =
            text.parse()
                .map_err(|e: toml_edit::TomlError| SyncConfigError::NotToml {
                    path: path.to_path_buf(),
                    reason: e.message().to_owned(),
                })?;
        let mut reader = KeyReader::new(path, &document);
        let config = Self::from(&mut reader, context)?;
        overlap::check(&config, context.manager_home)?;
        Ok(Self {
            warnings: reader.warnings(),
            ..config
        })
    }

    fn from(r: &mut KeyReader<'_>, context: &ConfigContext<'_>) -> Result<Self, SyncConfigError> {
        r.require_value("sync", "mode", "cold")?;
        r.require_value("sync", "direction", "bidirectional")?;
        let machine = r.text("identity", "machine_id")?;
        let paths = SyncPaths::read(r, context)?;
        let file = r.text("logging", "file")?;
        let manifest = r.text("state", "manifest_file")?;
        for (table, key) in IGNORED {
            r.accept_ignored(table, key);
        }
        Ok(Self {
            path: r.path.to_path_buf(),
            machine_id: machine_name(machine.as_deref().unwrap_or(UNNAMED)),
            path_rules: paths::path_rules(r)?,
            scope: ScopeOptions {
                roots: roots(r)?,
                exclude: r.texts("filters", "exclude_globs")?.unwrap_or_default(),
                session_mode: r.choice("sync", "session_mode", SessionMode::All)?,
            },
            policy: policy(r)?,
            backup: BackupOptions {
                before_overwrite: r.flag("backup", "backup_before_overwrite", true)?,
                retention_days: r.number("backup", "retention_days", 30)?,
                max_backups: r.number("backup", "max_backups", 0)?,
                compression: r.choice("backup", "compression", Compression::None)?,
                folder: paths.backup_dir.clone(),
            },
            safety: SafetyOptions {
                dry_run_default: r.flag("sync", "dry_run_default", true)?,
                require_codex_stopped: r.flag("safety", "require_codex_stopped", true)?,
                fail_on_unknown: r.flag("safety", "fail_on_unknown", true)?,
                shutdown: shutdown(r)?,
            },
            logging: logging(r, file.map(|file| paths.absolute(&file)))?,
            codexsync_manifest: manifest.map(|file| paths.absolute(&file)),
            local: protected(paths.local, FollowedLinks::AT_TOP),
            cloud: protected(paths.cloud, FollowedLinks::NONE),
            warnings: Vec::new(),
        })
    }
}

fn protected(folder: PathBuf, links: FollowedLinks) -> PathBuf {
    beneath::protect(&folder, links);
    folder
}

fn policy(r: &mut KeyReader<'_>) -> Result<SyncPolicy, SyncConfigError> {
    let tolerance = r.number("sync", "time_tolerance_seconds", 0)?;
    Ok(SyncPolicy {
        rules: DecisionRules {
            compare: r.choice("sync", "compare", Compare::Mtime)?,
            equal_mtime: r.choice("sync", "equal_mtime_action", EqualMtime::Skip)?,
            conflict: r.choice("conflict", "policy", ConflictPolicy::ManualAbort)?,
            delete: r.choice("sync", "delete_policy", DeletePolicy::Never)?,
        },
        tolerance_nanos: i128::from(tolerance) * 1_000_000_000,
        report_conflicts: r.flag("conflict", "report_conflicts", true)?,
    })
}

/// Keys of codexSync that it does not read itself, or that only concern its implementation.
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

/// Replaces characters that are not allowed in file names on every system.
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
    // A name of dots only would be a folder.
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
            // An entry that includes everything makes the others redundant.
            None => return Ok(Vec::new()),
            Some(clean) if !roots.contains(&clean) => roots.push(clean),
            Some(_) => {}
        }
    }
    Ok(roots)
}

fn shutdown(r: &mut KeyReader<'_>) -> Result<ShutdownSettings, SyncConfigError> {
    const TABLE: &str = "process_detection";
    let defaults = ShutdownSettings::default();
    let mut codex: Vec<String> = Vec::new();
    let names = r.texts(TABLE, "process_names")?;
    for name in names.unwrap_or_else(|| vec!["codex.exe".into(), "codex".into()]) {
        let name = name.trim().to_lowercase();
        if !name.is_empty() && !codex.contains(&name) {
            codex.push(name);
        }
    }
    if codex.is_empty() {
        return Err(r.invalid(TABLE, "process_names", "must name at least one program"));
    }
    let background = r.background_names(TABLE)?;
    Ok(ShutdownSettings {
        names: ProgramNames {
            codex,
            background: background.unwrap_or(defaults.names.background),
        },
        grace_period: r.seconds(TABLE, "grace_period_seconds", defaults.grace_period)?,
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
        channel: r.choice(TABLE, "terminate_confirmation_mode", defaults.channel)?,
        terminate_timeout: r.seconds(
            TABLE,
            "terminate_timeout_seconds",
            defaults.terminate_timeout,
        )?,
    })
}

fn logging(r: &mut KeyReader<'_>, file: Option<PathBuf>) -> Result<LogSettings, SyncConfigError> {
    const TABLE: &str = "logging";
    const MEGABYTE: u64 = 1024 * 1024;
    let defaults = LogSettings::default();
    let megabytes = r.number(
        TABLE,
        "max_file_size_mb",
        defaults.max_file_bytes / MEGABYTE,
    )?;
    if megabytes == 0 {
        return Err(r.invalid(TABLE, "max_file_size_mb", "must be at least 1"));
    }
    let days = r.number(TABLE, "retention_days", defaults.retention_days.into())?;
    Ok(LogSettings {
        level: r.choice(TABLE, "level", defaults.level)?,
        file,
        format: r.choice(TABLE, "format", defaults.format)?,
        retention_days: u32::try_from(days).unwrap_or(u32::MAX),
        archive: r.choice(TABLE, "archive_mode", defaults.archive)?,
        max_file_bytes: megabytes * MEGABYTE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::environment::Environment;
    use crate::sync::config::PathRule;

    fn read(text: &str) -> Result<SyncConfig, SyncConfigError> {
        let mut env = Environment::default();
        env.current_dir = "/somewhere".into();
        env.home_dir = Some("/home/me".into());
        let context = ConfigContext {
            env: &env,
            codex_home: Path::new("/home/me/.codex"),
            manager_home: Path::new("/home/me/.codex-manager"),
        };
        SyncConfig::parse(Path::new("/etc/sync/config.toml"), text, &context)
    }

    #[test]
    fn absent_keys_have_the_defaults_of_codexsync() {
        let config = read("[paths]\ncloud_root_dir = \"cloud\"").unwrap();
        assert_eq!(config.policy.rules.compare, Compare::Mtime);
        assert_eq!(config.policy.rules.conflict, ConflictPolicy::ManualAbort);
        assert_eq!(config.scope.session_mode, SessionMode::All);
        assert!(config.safety.dry_run_default && config.scope.roots.is_empty());
        assert_eq!(config.backup.retention_days, 30);
        assert_eq!(config.machine_id, "unknown-machine");
        assert_eq!(config.cloud, Path::new("/etc/sync/cloud"));
        assert_eq!(config.local, Path::new("/home/me/.codex"));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn relative_paths_are_relative_to_the_workspace() {
        let config = read(
            "[paths]\nworkspace_root_dir = \"~/cs\"\nlocal_state_dir = \"./x/../codex\"\n\
             cloud_root_dir = \"${workspace_root}/cloud\"\nbackup_dir = \"bk\"",
        )
        .unwrap();
        assert_eq!(config.cloud, Path::new("/home/me/cs/cloud"));
        assert_eq!(config.backup.folder, Path::new("/home/me/cs/bk"));
        assert_eq!(config.local, Path::new("/home/me/cs/codex"));
    }

    #[test]
    fn invalid_values_are_refused_with_their_key() {
        for (text, key) in [
            ("", "paths.cloud_root_dir"),
            ("[paths]\ncloud_root_dir = 5", "paths.cloud_root_dir"),
            (
                "[paths]\ncloud_root_dir = \"~/.codex/x\"",
                "is inside the Codex home",
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
    fn unknown_keys_cause_a_warning() {
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
    fn path_rules_have_two_toml_forms() {
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
