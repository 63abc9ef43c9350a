//! The table of all settings of `sync.toml`. Names and defaults are those of codexSync, except for the keys that only
//! this program has.

use super::settings::{
    Compare, ConflictPolicy, DeletePolicy, EqualMtime, PathRule, SessionMode, SnapshotCompression,
    SyncRemote,
};
use crate::io::settings::{SettingKey, ValueKind, parse_value};
use crate::logging::{LogArchiving, LogFormat, Severity};
use crate::shutdown::PromptChannel;
use std::collections::BTreeMap;

const TEXTS: ValueKind = ValueKind::Texts {
    expected: "a list of strings",
    is_valid: |_| true,
};

/// The only mode of codexSync that this program supports.
const COLD: ValueKind = ValueKind::Text {
    expected: "\"cold\"",
    is_valid: |text| text == "cold",
};

const BIDIRECTIONAL: ValueKind = ValueKind::Text {
    expected: "\"bidirectional\"",
    is_valid: |text| text == "bidirectional",
};

const PROGRAMS: ValueKind = ValueKind::Texts {
    expected: "a list with at least one name of a program",
    is_valid: |names| names.iter().any(|name| !name.trim().is_empty()),
};

const NAMES_BY_SYSTEM: ValueKind = ValueKind::Structure {
    expected: "a table of lists of names",
    is_valid: |value| parse_value::<BTreeMap<String, Vec<String>>>(value).is_some(),
};

const RULES: ValueKind = ValueKind::Structure {
    expected: "a list of tables with from and to, both strings",
    is_valid: |value| {
        let is_complete = |rule: &PathRule| !rule.from.is_empty() && !rule.to.is_empty();
        parse_value(value).is_some_and(|rules: Vec<PathRule>| rules.iter().all(is_complete))
    },
};

const fn text_key(name: &'static str) -> SettingKey {
    let kind = ValueKind::Text {
        expected: "a string",
        is_valid: |_| true,
    };
    SettingKey::new(name, kind, "")
}

/// Creates a key of codexSync that has no effect in this program. Each value is valid.
const fn ignored_key(name: &'static str) -> SettingKey {
    let kind = ValueKind::Structure {
        expected: "any value",
        is_valid: |_| true,
    };
    SettingKey::new(name, kind, "")
}

/// Creates a flag, which is true by default, like all flags of codexSync.
const fn flag_key(name: &'static str) -> SettingKey {
    SettingKey::new(name, ValueKind::Flag, "true")
}

const fn count_key(name: &'static str, default: &'static str) -> SettingKey {
    SettingKey::new(name, ValueKind::Count { min: 0 }, default)
}

const fn choice_key<T: clap::ValueEnum + Default>(name: &'static str) -> SettingKey {
    SettingKey::new(name, ValueKind::choice::<T>(), "")
}

pub(super) const KEYS: [SettingKey; 49] = [
    text_key("identity.machine_id"),
    text_key("paths.workspace_root_dir"),
    text_key("paths.local_state_dir"),
    text_key("paths.cloud_root_dir"),
    text_key("paths.backup_dir"),
    ignored_key("paths.temp_dir"),
    SettingKey::new("paths.map", RULES, ""),
    SettingKey::new("targets.include_roots", TEXTS, ""),
    SettingKey::new("filters.exclude_globs", TEXTS, ""),
    SettingKey::new("sync.mode", COLD, ""),
    SettingKey::new("sync.direction", BIDIRECTIONAL, ""),
    choice_key::<SyncRemote>("sync.remote"),
    SettingKey::new("sync.keep_snapshots", ValueKind::Count { min: 1 }, "10"),
    flag_key("sync.dry_run_default"),
    count_key("sync.time_tolerance_seconds", "0"),
    choice_key::<Compare>("sync.compare"),
    choice_key::<EqualMtime>("sync.equal_mtime_action"),
    choice_key::<DeletePolicy>("sync.delete_policy"),
    choice_key::<SessionMode>("sync.session_mode"),
    choice_key::<ConflictPolicy>("conflict.policy"),
    flag_key("conflict.report_conflicts"),
    flag_key("backup.backup_before_overwrite"),
    count_key("backup.retention_days", "30"),
    count_key("backup.max_backups", "0"),
    choice_key::<SnapshotCompression>("backup.compression"),
    flag_key("safety.require_codex_stopped"),
    flag_key("safety.fail_on_unknown"),
    SettingKey::new(
        "process_detection.process_names",
        PROGRAMS,
        "[\"codex.exe\", \"codex\"]",
    ),
    SettingKey::new(
        "process_detection.background_process_names",
        NAMES_BY_SYSTEM,
        "",
    ),
    count_key("process_detection.grace_period_seconds", "2"),
    count_key("process_detection.terminate_timeout_seconds", "20"),
    flag_key("process_detection.allow_terminate_if_running"),
    flag_key("process_detection.manual_terminate_confirmation"),
    choice_key::<PromptChannel>("process_detection.terminate_confirmation_mode"),
    choice_key::<Severity>("logging.level"),
    text_key("logging.file"),
    choice_key::<LogFormat>("logging.format"),
    count_key("logging.retention_days", "7"),
    choice_key::<LogArchiving>("logging.archive_mode"),
    SettingKey::new(
        "logging.max_file_size_mb",
        ValueKind::Count { min: 1 },
        "10",
    ),
    text_key("state.manifest_file"),
    ignored_key("state.data_version"),
    ignored_key("state.lease_file"),
    ignored_key("state.history_dir"),
    ignored_key("state.lease_ttl_seconds"),
    ignored_key("scheduler.enabled"),
    ignored_key("scheduler.kind"),
    ignored_key("scheduler.interval_minutes"),
    ignored_key("scheduler.jitter_seconds"),
];
