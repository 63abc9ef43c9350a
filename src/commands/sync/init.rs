//! `sync init`: a configuration with a remark on every key.

use super::shared::{self, config_context};
use crate::config;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::{atomic, machine};
use crate::sync::config::{SyncConfig, machine_name};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Write a configuration with a remark on every key
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex
  codex-manager sync init --output ~/sync.toml --force")]
pub(super) struct InitArgs {
    /// Where to write it [default: sync.toml in the manager home]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that something else replicates
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Show the configuration; write nothing
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
        // What would be refused is not written.
        SyncConfig::parse(&path, &text, &config_context(context))?;
        if path.exists() && !self.force {
            let message = format!("there is a configuration already: {}", path.display());
            return Err(
                CommandError::usage(message).hint("--force replaces it; nothing was changed")
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
                context.ui.note("next: set paths.cloud_root_dir in it");
            }
            let preflight = shared::command(context, &path, "preflight");
            context.ui.note(format_args!("then: {preflight}"));
        }
        let json = InitJson {
            path: &path,
            dry_run: self.dry_run,
        };
        context.ui.document("sync init", &json);
        Ok(Outcome::Done)
    }
}

fn template(cloud: Option<&Path>, machine: &str) -> String {
    let cloud = cloud.map_or("~/CloudFolder/codex".into(), Path::to_string_lossy);
    let cloud = toml_edit::Value::from(&*cloud).to_string();
    format!(
        r#"# codex-manager sync: Codex's state between machines, through a folder that something else
# replicates. The tables and keys are those of codexSync; what only codex-manager knows says so.

[identity]
# The name of this machine in names of files. Every machine needs its own.
machine_id = "{machine}"

[paths]
# The folder that is replicated, as this machine has it.
cloud_root_dir = {cloud}
# The Codex home. Default: the one that codex-manager uses.
# local_state_dir = "~/.codex"
# Where files go before they are overwritten. Default: sync-backups in the manager home.
# backup_dir = "~/codex-sync-backups"
# Other paths may begin with ${{workspace_root}}.
# workspace_root_dir = "~/codex-sync"

# Project folders of another machine and what they are here; in Codex's index alone, conversations
# are never edited. (codex-manager)
# [[paths.map]]
# from = "/Users/me/work"
# to = "/home/me/work"

[targets]
# What is synced, below the Codex home. [] is everything that may travel. Logins, keys, databases,
# locks and sockets never do.
include_roots = [
  "sessions", "archived_sessions", "session_index.jsonl", "history.jsonl",
  "skills", "prompts", "AGENTS.md",
]

[filters]
# Globs, matched from the right.
exclude_globs = ["*.tmp"]

[sync]
# three_way: contents decide, and two that differ at the first sync are a conflict. (codex-manager)
# mtime, mtime_hash_fallback: the newer one counts at the first sync.
compare = "three_way"
# Times that differ by at most this are equal.
time_tolerance_seconds = 2
# With mtime modes, for differing files of one time: skip, prefer_local, prefer_cloud, manual_abort.
equal_mtime_action = "skip"
# all, or last_date_only: the latest day alone.
session_mode = "all"
# never: a deleted file comes back from the other side. propagate: it goes there too, after a backup
# and a few at a time. (propagate: codex-manager)
delete_policy = "never"
# Whether `sync run` without a flag only shows what it would do.
dry_run_default = true

[conflict]
# What changed on both sides: manual (it stays as it is until you decide with sync resolve; all else is
# synced; codex-manager), manual_abort (nothing is written until then), prefer_cloud, prefer_local,
# prefer_newer_mtime. Of a conversation both versions are kept, whatever this says.
policy = "manual"
report_conflicts = true

[backup]
backup_before_overwrite = true
# none: folders; zip: one file each.
compression = "none"
# Only snapshots of this program are ever removed. 0: no limit.
retention_days = 30
max_backups = 0

[safety]
# false: files are replaced while Codex runs. Its index and its conversations may suffer.
require_codex_stopped = true
# Whether a home that cannot be told to be unused counts as used.
fail_on_unknown = true

[process_detection]
# Programs that are Codex. Who has files of the home open counts, whatever the name.
process_names = ["codex.exe", "codex"]
# How long Codex may take to end by itself.
grace_period_seconds = 2
# Whether Codex may be ended, with your consent: asked for in a window (gui) or on the console.
allow_terminate_if_running = true
manual_terminate_confirmation = true
terminate_confirmation_mode = "gui"
terminate_timeout_seconds = 20
# These are never ended, whatever the flags say.
background_process_names = {{ windows = ["codex-windows-sandbox"], macos = [], linux = [] }}

[logging]
# DEBUG, INFO, WARNING, ERROR.
level = "INFO"
# Default: logs in the manager home. Machine and day are put into the name.
# file = "~/codex-sync/sync.log"
# text, json, logfmt.
format = "text"
max_file_size_mb = 10
# Days; 0 keeps them all. zip, text: what becomes of those of other days.
retention_days = 7
archive_mode = "zip"

[state]
# What codexSync wrote at its last sync: the first one here goes on from it. It is only read.
# manifest_file = "~/codex-sync/manifest.json"

[scheduler]
# Nothing here is read: codex-manager schedule install sync.
"#
    )
}
