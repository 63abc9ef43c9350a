//! Reads and validates a configuration.

use super::keys::KEYS;
use super::overlap;
use super::paths::{ConfigContext, PathBase};
use super::settings::{
    BackupOptions, DecisionRules, PathRule, SafetyOptions, ScopeOptions, SessionMode, SyncConfig,
    SyncConfigError, SyncPolicy, SyncRemote,
};
use crate::codex::folder_key::{is_in_folder, is_same_folder};
use crate::codex::process::ProgramNames;
use crate::io::beneath::{self, FollowedLinks};
use crate::io::settings::{SettingKey, SettingValues, SettingsError, SettingsFile, ValueKind};
use crate::io::{IoContext, file_open};
use crate::logging::LogSettings;
use crate::shutdown::ShutdownSettings;
use crate::sync::scope;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// codexSync's name for a machine without `machine_id`.
const UNNAMED: &str = "unknown-machine";

impl SyncConfig {
    /// Reads and validates the configuration at `path`, as [`Self::parse`] does.
    pub fn read(path: &Path, context: &ConfigContext<'_>) -> Result<Self, SyncConfigError> {
        let text = match file_open::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(SyncConfigError::Missing(path.to_path_buf()));
            }
            text => text.at("read", path).map_err(SettingsError::from)?,
        };
        Self::parse(path, &text, context)
    }

    /// Parses and validates `text`, the content of `path`. Also protects the Codex home and the cloud folder of the
    /// configuration: from then on, [`beneath`] keeps paths inside them.
    pub fn parse(
        path: &Path,
        text: &str,
        context: &ConfigContext<'_>,
    ) -> Result<Self, SyncConfigError> {
        let mut file = SettingsFile::parse(path.to_path_buf(), text)?;
        let warnings = collect_warnings(&file);

        for name in file.value_names() {
            // All settings are in tables. A value outside of a table has a warning already. It is removed, because its
            // name could be that of a table.
            let is_outside = !name.contains('.');
            if is_outside || is_blank_text(&file, &name) {
                file.unset(&name);
            }
        }

        let config = Self::from_file(&file, context, warnings)?;
        overlap::check(&config, context.manager_home)?;
        Ok(config)
    }

    fn from_file(
        file: &SettingsFile,
        context: &ConfigContext<'_>,
        warnings: Vec<String>,
    ) -> Result<Self, SettingsError> {
        let values = SettingValues::validate(file, &KEYS)?;
        let paths = PathBase::new(file.path(), values, context);
        let codex_home = paths.resolve_setting("paths.local_state_dir");
        let codex_home = codex_home.unwrap_or_else(|| context.codex_home.to_path_buf());

        let remote: SyncRemote = values.choice("sync.remote");
        let cloud_folder = resolve_cloud_folder(file, &paths, context, remote)?;

        // A snapshot has everything that sync includes of a machine, so it cannot be limited to one day.
        if remote == SyncRemote::Vault
            && values.choice::<SessionMode>("sync.session_mode") != SessionMode::All
        {
            let why = "has to be \"all\" with sync.remote = \"vault\"";
            return Err(file.value_error("sync.session_mode", why));
        }

        beneath::protect(&codex_home, FollowedLinks::AT_TOP);
        beneath::protect(&cloud_folder, FollowedLinks::NONE);

        let backup_folder = paths.resolve_setting("paths.backup_dir");
        Ok(Self {
            path: file.path().to_path_buf(),
            machine_id: sanitize_machine_name(
                values.text("identity.machine_id").unwrap_or(UNNAMED),
            ),
            path_rules: parse_path_rules(file, values)?,
            scope: ScopeOptions {
                roots: parse_include_roots(file, values)?,
                exclude: values.get("filters.exclude_globs"),
                session_mode: values.choice("sync.session_mode"),
            },
            policy: parse_policy(values),
            backup: BackupOptions {
                before_overwrite: values.get("backup.backup_before_overwrite"),
                retention_days: values.get("backup.retention_days"),
                max_backups: values.get("backup.max_backups"),
                compression: values.choice("backup.compression"),
                folder: backup_folder.unwrap_or_else(|| context.manager_home.join("sync-backups")),
            },
            safety: SafetyOptions {
                dry_run_default: values.get("sync.dry_run_default"),
                require_codex_stopped: values.get("safety.require_codex_stopped"),
                fail_on_unknown: values.get("safety.fail_on_unknown"),
                shutdown: parse_shutdown(values),
            },
            logging: parse_logging(values, paths.resolve_setting("logging.file")),
            codexsync_manifest: paths.resolve_setting("state.manifest_file"),
            remote,
            keep_snapshots: values.get("sync.keep_snapshots"),
            local: codex_home,
            cloud: cloud_folder,
            warnings,
        })
    }
}

/// Returns the rules of `[[paths.map]]`. Each run applies them in order. A rule must not match the target of its own or
/// of a later rule, because each run would map that folder again.
fn parse_path_rules(
    file: &SettingsFile,
    values: SettingValues<'_>,
) -> Result<Vec<PathRule>, SettingsError> {
    let rules: Vec<PathRule> = values.get("paths.map");
    for (index, rule) in rules.iter().enumerate() {
        let matches_target = |other: &&PathRule| {
            let from = Path::new(&other.from);
            // A root is not mapped, and another spelling of a folder is mapped once.
            !other.from.trim_matches('/').is_empty()
                && is_in_folder(&rule.to, from)
                && !is_same_folder(&rule.to, from)
        };
        // A later rule may match the target: it maps the folder again in the same run.
        if let Some(other) = rules[..=index].iter().find(matches_target) {
            let why = format!(
                "{:?} is below {:?}, so each sync would map it again",
                rule.to, other.from
            );
            return Err(file.value_error("paths.map", &why));
        }
    }
    Ok(rules)
}

/// Returns the cloud folder, or the folder that stands in for it if the remote is the vault.
fn resolve_cloud_folder(
    file: &SettingsFile,
    paths: &PathBase<'_>,
    context: &ConfigContext<'_>,
    remote: SyncRemote,
) -> Result<PathBuf, SettingsError> {
    const KEY: &str = "paths.cloud_root_dir";
    match (remote, paths.resolve_setting(KEY)) {
        (SyncRemote::Folder, Some(cloud_folder)) => Ok(cloud_folder),
        (SyncRemote::Folder, None) => Err(file.value_error(KEY, "is missing")),
        (SyncRemote::Vault, None) => Ok(context.manager_home.join("sync").join("vault")),
        // Two remotes would each treat the files that the other one downloads as changes by the user.
        (SyncRemote::Vault, Some(_)) => {
            let why = "is set, but sync.remote is \"vault\"; a home syncs through a folder or through the vault";
            Err(file.value_error(KEY, why))
        }
    }
}

/// Returns true if the value of a text or choice is blank: codexSync treats such a value as an absent one.
fn is_blank_text(file: &SettingsFile, name: &str) -> bool {
    let is_text =
        |key: &SettingKey| matches!(key.kind, ValueKind::Text { .. } | ValueKind::Choice { .. });
    let text = file.get(name).and_then(toml_edit::Value::as_str);
    KEYS.iter().any(|key| key.name == name && is_text(key))
        && text.is_some_and(|text| text.trim().is_empty())
}

/// Returns a warning for each unknown key or table, and for `paths.temp_dir`, which users expect to have an effect.
fn collect_warnings(file: &SettingsFile) -> Vec<String> {
    let mut warnings = Vec::new();
    if file.get("paths.temp_dir").is_some() {
        // A rename replaces a file atomically only within one file system.
        let reason = "temporary files are written next to the files that they replace";
        warnings.push(format!("paths.temp_dir has no effect: {reason}"));
    }

    for name in file.value_names() {
        let table = name.split('.').next().unwrap_or_default();
        let is_inside = |outer: &str| {
            name.strip_prefix(outer)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let is_known = |key: &str| key == name || is_inside(key);
        // codexSync's template contains a table of remarks.
        if table != "assumptions" && !KEYS.iter().any(|key| is_known(key.name)) {
            let path = file.path().display();
            warnings.push(format!("unknown key {name}, which has no effect: {path}"));
        }
    }
    warnings
}

fn parse_policy(values: SettingValues<'_>) -> SyncPolicy {
    let tolerance: i64 = values.get("sync.time_tolerance_seconds");
    SyncPolicy {
        rules: DecisionRules {
            compare: values.choice("sync.compare"),
            equal_mtime: values.choice("sync.equal_mtime_action"),
            conflict: values.choice("conflict.policy"),
            delete: values.choice("sync.delete_policy"),
        },
        tolerance_nanos: i128::from(tolerance) * 1_000_000_000,
        report_conflicts: values.get("conflict.report_conflicts"),
    }
}

const MAX_MACHINE_NAME_CHARS: usize = 64;

/// Returns a machine name of at most [`MAX_MACHINE_NAME_CHARS`] ASCII letters, digits, `.`, `_` and `-`, which all
/// systems allow in file names. Each run of other characters becomes one `-`; `-` and `.` at both ends are removed
/// before a long name is cut. If nothing is left, returns codexSync's default name.
pub fn sanitize_machine_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars() {
        let is_allowed = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if is_allowed {
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
        name.chars().take(MAX_MACHINE_NAME_CHARS).collect()
    }
}

fn parse_include_roots(
    file: &SettingsFile,
    values: SettingValues<'_>,
) -> Result<Vec<String>, SettingsError> {
    let mut roots = Vec::new();
    for root in values.get::<Vec<String>>("targets.include_roots") {
        let normalized = scope::normalize_root(&root)
            .map_err(|problem| file.value_error("targets.include_roots", &problem))?;
        match normalized {
            // An entry that includes everything makes the others redundant.
            None => return Ok(Vec::new()),
            Some(normalized) if !roots.contains(&normalized) => roots.push(normalized),
            Some(_) => {}
        }
    }

    Ok(roots)
}

fn parse_shutdown(values: SettingValues<'_>) -> ShutdownSettings {
    let seconds = |name: &str| Duration::from_secs(values.get(name));

    let names_by_system: Option<BTreeMap<String, Vec<String>>> =
        values.get("process_detection.background_process_names");
    let background = match names_by_system {
        None => ShutdownSettings::default().names.background,
        // A system without a list has no such names.
        Some(mut names_by_system) => {
            let names = names_by_system.remove(std::env::consts::OS);
            normalize_program_names(names.unwrap_or_default())
        }
    };

    ShutdownSettings {
        names: ProgramNames {
            codex: normalize_program_names(values.get("process_detection.process_names")),
            background,
        },
        grace_period: seconds("process_detection.grace_period_seconds"),
        may_terminate: values.get("process_detection.allow_terminate_if_running"),
        needs_consent: values.get("process_detection.manual_terminate_confirmation"),
        channel: values.choice("process_detection.terminate_confirmation_mode"),
        terminate_timeout: seconds("process_detection.terminate_timeout_seconds"),
    }
}

/// Returns the names of programs in lower case, without blanks around them and without duplicates.
fn normalize_program_names(names: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        let name = name.trim().to_lowercase();
        if !name.is_empty() && !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

fn parse_logging(values: SettingValues<'_>, log_file: Option<PathBuf>) -> LogSettings {
    LogSettings {
        level: values.choice("logging.level"),
        file: log_file,
        format: values.choice("logging.format"),
        retention_days: values.get("logging.retention_days"),
        archive: values.choice("logging.archive_mode"),
        max_file_bytes: values.get::<u64>("logging.max_file_size_mb") * 1024 * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::environment::Environment;
    use crate::sync::config::{Compare, ConflictPolicy, PathRule};

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
        assert_eq!(config.logging, LogSettings::default());
        let shutdown = ShutdownSettings {
            names: config.safety.shutdown.names.clone(),
            ..ShutdownSettings::default()
        };
        assert_eq!(config.safety.shutdown, shutdown);
    }

    #[test]
    fn names_are_case_insensitive_and_blank_texts_are_absent() {
        let config = read(
            "[paths]\ncloud_root_dir = \"/c\"\nbackup_dir = \" \"\n\
             [sync]\ncompare = \" Three_Way \"\nmode = \"\"\n[logging]\nlevel = \"debug\"",
        )
        .unwrap();
        assert_eq!(config.policy.rules.compare, Compare::ThreeWay);
        assert_eq!(config.logging.level, crate::logging::Severity::Debug);
        let default = Path::new("/home/me/.codex-manager/sync-backups");
        assert_eq!(config.backup.folder, default);
    }

    #[test]
    fn blank_lists_and_booleans_are_refused_and_values_in_place_of_tables_cause_warnings() {
        let cloud = "[paths]\ncloud_root_dir = \"/c\"\n";
        assert!(read(&format!("{cloud}[targets]\ninclude_roots = \"\"")).is_err());
        assert!(read(&format!("{cloud}[safety]\nfail_on_unknown = \"\"")).is_err());
        for value in ["scheduler = false", "schema = 2", "schema = \"v1\""] {
            let config = read(&format!("{value}\n{cloud}")).unwrap();
            let name = value.split(' ').next().unwrap();
            let warning = format!("unknown key {name}, which has no effect: /etc/sync/config.toml");
            assert_eq!(config.warnings, [warning], "{value}");
        }
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
            (
                "[paths]\ncloud_root_dir = \"/c\"\nmap = [{from = \"/a/\", to = \"/a/old\"}]",
                "\"/a/old\" is below \"/a/\"",
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
            Err(SyncConfigError::Settings(SettingsError::Syntax { .. }))
        ));
    }

    #[test]
    fn unknown_keys_cause_a_warning() {
        let config = read(
            "top = 1\n[paths]\ncloud_root_dir = \"/c\"\nshadow = 1\n[new]\nx = 1\n\
             [assumptions]\ny = 1",
        )
        .unwrap();
        let expected = ["top", "paths.shadow", "new.x"]
            .map(|name| format!("unknown key {name}, which has no effect: /etc/sync/config.toml"));
        assert_eq!(config.warnings, expected);
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
