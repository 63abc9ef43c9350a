//! `sync init`: writes a commented configuration.

use super::shared::{self, config_context};
use crate::config;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::{atomic, machine};
use crate::sync::config::{SyncConfig, machine_name};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Write a commented configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex
  codex-manager sync init --output ~/sync.toml --force")]
pub(super) struct InitArgs {
    /// Path of the new file [default: sync.toml in the manager home]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that another program replicates
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print the configuration; write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct InitJson<'a> {
    path: &'a Path,
    dry_run: bool,
}

impl InitArgs {
    pub(super) fn run(self, context: &Context, default: &Path) -> Result<Outcome, CommandError> {
        let path = match &self.output {
            Some(path) => context.env.absolute(path),
            None => default.to_path_buf(),
        };
        let cloud = self.cloud.as_ref().map(|cloud| context.env.absolute(cloud));
        let text = template(
            cloud.as_deref(),
            &machine_name(&machine::name(&context.env).unwrap_or_else(|| "this-machine".into())),
        );
        // Validates before writing, so that no invalid file is created.
        SyncConfig::parse(&path, &text, &config_context(context))?;
        if path.exists() && !self.force {
            let message = format!("the configuration exists already: {}", path.display());
            return Err(
                CommandError::usage(message).hint("replace it with --force; nothing was changed")
            );
        }
        if self.dry_run {
            context.ui.line(text.trim_end());
        } else {
            atomic::create_private_folder(atomic::parent_of(&path))?;
            let target = config::file::target(&path)?;
            if path.is_symlink() {
                atomic::write_as_it_was(&target, text.as_bytes())?;
            } else {
                atomic::write(&target, text.as_bytes())?;
            }
            context.ui.prose(format_args!("wrote {}", path.display()));
            if cloud.is_none() {
                context
                    .ui
                    .note("next: set paths.cloud_root_dir in this file");
            }
            let preflight = shared::command(context, &path, "preflight");
            context.ui.note(format_args!("check it with: {preflight}"));
        }
        let json = InitJson {
            path: &path,
            dry_run: self.dry_run,
        };
        context.ui.document("sync init", &json);
        Ok(Outcome::Done)
    }
}

/// Returns the text of a new configuration. Longer than other functions, because it is one text.
fn template(cloud: Option<&Path>, machine: &str) -> String {
    let cloud = cloud.map_or("~/CloudFolder/codex".into(), Path::to_string_lossy);
    let cloud = toml_edit::Value::from(&*cloud).to_string();
    format!(
        r#"# codex-manager sync: copies Codex's state between machines through a folder that another program
# replicates. Tables and keys are those of codexSync; additions are marked (codex-manager).

[identity]
# The name of this machine in file names. Every machine needs its own.
machine_id = "{machine}"

[paths]
# The path of the replicated folder on this machine.
cloud_root_dir = {cloud}
# The Codex home. Default: the one that codex-manager uses.
# local_state_dir = "~/.codex"
# Folder for backups of overwritten files. Default: sync-backups in the manager home.
# backup_dir = "~/codex-sync-backups"
# Other paths may begin with ${{workspace_root}}.
# workspace_root_dir = "~/codex-sync"

# Project folders of another machine and their local counterparts. Only Codex's index is changed;
# conversations are never edited. (codex-manager)
# [[paths.map]]
# from = "/Users/me/work"
# to = "/home/me/work"

[targets]
# Synced paths, relative to the Codex home. [] is everything that may be synced. Logins, keys,
# databases, locks and sockets are never synced.
include_roots = [
  "sessions", "archived_sessions", "session_index.jsonl", "history.jsonl",
  "skills", "prompts", "AGENTS.md",
]

[filters]
# Globs of paths that are not synced. A glob matches the end of a path: "*.tmp" matches in every folder.
exclude_globs = ["*.tmp"]

[sync]
# three_way: compares contents; files that differ at the first sync are a conflict. (codex-manager)
# mtime, mtime_hash_fallback: the newer file wins at the first sync.
compare = "three_way"
# Times that differ by at most this many seconds are equal.
time_tolerance_seconds = 2
# In mtime modes, for differing files with equal times: skip, prefer_local, prefer_cloud, manual_abort.
equal_mtime_action = "skip"
# all, or last_date_only: only the latest day.
session_mode = "all"
# never: a deleted file is copied back from the other side. propagate: it is deleted on the other side too, after
# a backup, unless there are many deletions. (propagate: codex-manager)
delete_policy = "never"
# true: `sync run` without a flag only shows what it would do.
dry_run_default = true

[conflict]
# For files that changed on both sides: manual (they stay as they are until you decide with sync
# resolve; all others are synced; codex-manager), manual_abort (nothing is written until you decide),
# prefer_cloud, prefer_local, prefer_newer_mtime. Both versions of a conversation are always kept.
policy = "manual"
report_conflicts = true

[backup]
backup_before_overwrite = true
# none: each backup is a folder; zip: each backup is one file.
compression = "none"
# Limits for backups; only those of this program are removed. 0: no limit.
retention_days = 30
max_backups = 0

[safety]
# false: files are replaced while Codex runs. This can damage its index and its conversations.
require_codex_stopped = true
# true: refuse to write if running programs cannot be detected.
fail_on_unknown = true

[process_detection]
# Names of Codex programs. Any program with open files in the Codex home counts as Codex, whatever its name.
process_names = ["codex.exe", "codex"]
# How many seconds Codex gets to end by itself.
grace_period_seconds = 2
# true: a sync may end a running Codex after you agree, in a window (gui) or on the console.
allow_terminate_if_running = true
manual_terminate_confirmation = true
terminate_confirmation_mode = "gui"
terminate_timeout_seconds = 20
# Programs that are never ended, whatever the flags say.
background_process_names = {{ windows = ["codex-windows-sandbox"], macos = [], linux = [] }}

[logging]
# DEBUG, INFO, WARNING, ERROR.
level = "INFO"
# Default: logs in the manager home. The machine and the day are added to the name.
# file = "~/codex-sync/sync.log"
# text, json, logfmt.
format = "text"
max_file_size_mb = 10
# Days to keep logs; 0 keeps all. archive_mode: how logs of earlier days are stored (zip, text).
retention_days = 7
archive_mode = "zip"

[state]
# The manifest of codexSync. The first sync continues from it and never changes it.
# manifest_file = "~/codex-sync/manifest.json"

[scheduler]
# This table is ignored; use: codex-manager schedule install sync
"#
    )
}
