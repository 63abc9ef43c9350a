//! The table of all settings of `sync.toml`. Names and defaults are those of codexSync.

use super::settings::{
    Compare, ConflictPolicy, DeletePolicy, EqualMtime, PathRule, SessionMode, SnapshotCompression,
};
use crate::io::settings::{SettingKey, ValueKind, parse_structure};
use crate::logging::{LogArchiving, LogFormat, Severity};
use crate::shutdown::PromptChannel;
use std::collections::BTreeMap;

const TEXTS: ValueKind = ValueKind::Texts {
    expected: "a list of strings",
    is_valid: |_| true,
};

/// codexSync has further modes, which this program does not have.
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

const NAMES_OF_SYSTEMS: ValueKind = ValueKind::Structure {
    expected: "a table of lists of names",
    is_valid: |value| parse_structure::<BTreeMap<String, Vec<String>>>(value).is_some(),
};

const RULES: ValueKind = ValueKind::Structure {
    expected: "a list of tables with from and to, both strings",
    is_valid: |value| {
        let is_complete = |rule: &PathRule| !rule.from.is_empty() && !rule.to.is_empty();
        parse_structure(value).is_some_and(|rules: Vec<PathRule>| rules.iter().all(is_complete))
    },
};

const fn key(name: &'static str, kind: ValueKind, default: &'static str) -> SettingKey {
    SettingKey::new(name, kind, default)
}

const fn text(name: &'static str) -> SettingKey {
    let kind = ValueKind::Text {
        expected: "a string",
        is_valid: |_| true,
    };
    key(name, kind, "")
}

/// A key that codexSync does not read itself, or that only concerns its implementation.
const fn ignored(name: &'static str) -> SettingKey {
    let kind = ValueKind::Structure {
        expected: "any value",
        is_valid: |_| true,
    };
    key(name, kind, "")
}

/// All flags of codexSync are true by default.
const fn flag(name: &'static str) -> SettingKey {
    key(name, ValueKind::Flag, "true")
}

const fn count(name: &'static str, default: &'static str) -> SettingKey {
    key(name, ValueKind::Count { min: 0 }, default)
}

const fn choice<T: clap::ValueEnum + Default>(name: &'static str) -> SettingKey {
    key(name, ValueKind::choice::<T>(), "")
}

pub(super) const KEYS: [SettingKey; 47] = [
    text("identity.machine_id"),
    text("paths.workspace_root_dir"),
    text("paths.local_state_dir"),
    text("paths.cloud_root_dir"),
    text("paths.backup_dir"),
    ignored("paths.temp_dir"),
    key("paths.map", RULES, ""),
    key("targets.include_roots", TEXTS, ""),
    key("filters.exclude_globs", TEXTS, ""),
    key("sync.mode", COLD, ""),
    key("sync.direction", BIDIRECTIONAL, ""),
    flag("sync.dry_run_default"),
    count("sync.time_tolerance_seconds", "0"),
    choice::<Compare>("sync.compare"),
    choice::<EqualMtime>("sync.equal_mtime_action"),
    choice::<DeletePolicy>("sync.delete_policy"),
    choice::<SessionMode>("sync.session_mode"),
    choice::<ConflictPolicy>("conflict.policy"),
    flag("conflict.report_conflicts"),
    flag("backup.backup_before_overwrite"),
    count("backup.retention_days", "30"),
    count("backup.max_backups", "0"),
    choice::<SnapshotCompression>("backup.compression"),
    flag("safety.require_codex_stopped"),
    flag("safety.fail_on_unknown"),
    key(
        "process_detection.process_names",
        PROGRAMS,
        "[\"codex.exe\", \"codex\"]",
    ),
    key(
        "process_detection.background_process_names",
        NAMES_OF_SYSTEMS,
        "",
    ),
    count("process_detection.grace_period_seconds", "2"),
    count("process_detection.terminate_timeout_seconds", "20"),
    flag("process_detection.allow_terminate_if_running"),
    flag("process_detection.manual_terminate_confirmation"),
    choice::<PromptChannel>("process_detection.terminate_confirmation_mode"),
    choice::<Severity>("logging.level"),
    text("logging.file"),
    choice::<LogFormat>("logging.format"),
    count("logging.retention_days", "7"),
    choice::<LogArchiving>("logging.archive_mode"),
    key(
        "logging.max_file_size_mb",
        ValueKind::Count { min: 1 },
        "10",
    ),
    text("state.manifest_file"),
    ignored("state.data_version"),
    ignored("state.lease_file"),
    ignored("state.history_dir"),
    ignored("state.lease_ttl_seconds"),
    ignored("scheduler.enabled"),
    ignored("scheduler.kind"),
    ignored("scheduler.interval_minutes"),
    ignored("scheduler.jitter_seconds"),
];
