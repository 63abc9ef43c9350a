//! `vault ls` and `vault cat`: list the files of a snapshot, and print one.

use crate::choices::snapshot_choice::find_snapshot;
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::{Cell, Column, Table, object};
use crate::views::account::time_json;
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::archive::format::MANIFEST_NAME;
use codex_manager_core::codex::kind_of;
use codex_manager_core::io::shell;
use codex_manager_core::sync::secrets::reason_to_refuse_name;
use codex_manager_core::vault::contents::{SnapshotNode, list_nodes};
use codex_manager_core::vault::snapshot::Snapshot;
use std::path::{Component, Path, PathBuf};

const COLUMNS: [Column; 3] = [
    Column::new("MODIFIED").rank(2),
    Column::new("SIZE").rank(1).number(),
    Column::new("PATH").shorten_middle(40),
];

/// The largest size of a file that `cat --json` prints. The whole text is in memory then.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// List the files of a snapshot
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault ls latest
  codex-manager vault ls 64ae0aa1 sessions/2026
  codex-manager vault ls latest --json | jq -r '.files[].path'")]
pub(super) struct LsArgs {
    /// An id from `vault snapshots`, an account, or `latest`
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: String,
    /// List only this file or folder, with everything below it
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
}

impl LsArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let restic = connection.open(context)?;
        let snapshot = find_snapshot(context, &restic, &self.snapshot)?;
        let listed_part = to_restic_path(self.path.as_deref().unwrap_or(Path::new("")));
        let manifest = to_restic_path(Path::new(MANIFEST_NAME));

        let files = list_nodes(&restic, &snapshot.id, |node| {
            let path = Path::new(&node.path);
            node.kind == "file" && path.starts_with(&listed_part) && path != manifest
        })?;

        if let Some(path) = &self.path
            && files.is_empty()
        {
            return Err(snapshot.no_path_error(path.display()).into());
        }

        print_files(context, &snapshot, &files);
        Ok(Outcome::Done)
    }
}

fn print_files(context: &Context, snapshot: &Snapshot, files: &[SnapshotNode]) {
    let ui = &context.ui;
    let (zone, now) = (context.zone(), context.now());

    if !ui.wants_json() {
        let rows = files.iter().map(|file| {
            [
                Cell::time(file.mtime.map(|at| at.to_utc()), zone, &now),
                Cell::bytes(file.size),
                Cell::plain(file.path.trim_start_matches('/')),
            ]
        });
        Table::with_rows(ui, COLUMNS, rows).print(ui);
    }

    let to_json = |file: &SnapshotNode| {
        object()
            .with("path", file.path.trim_start_matches('/').to_owned())
            .with("bytes", file.size)
            .with("modified_at", time_json(file.mtime, context))
    };
    let json = object()
        .with("snapshot", &snapshot.id)
        .with("files", files.iter().map(to_json).collect::<Vec<_>>());
    ui.document("vault ls", &json);
}

/// Print a file of a snapshot
///
/// Logins and keys, such as auth.json, .credentials.json, .env and copies of them, are not printed;
/// `vault restore --only PATH` restores them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault cat latest config.toml
  codex-manager vault cat 64ae0aa1 AGENTS.md > AGENTS.old.md")]
pub(super) struct CatArgs {
    /// An id from `vault snapshots`, an account, or `latest`
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: String,
    /// The file, relative to the Codex home
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

impl CatArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let shown_path = self.path.display().to_string();
        self.refuse_secret()?;

        let restic = connection.open(context)?;
        let snapshot = find_snapshot(context, &restic, &self.snapshot)?;
        let path = to_restic_path(&self.path);
        let is_named = |node: &SnapshotNode| node.kind == "file" && Path::new(&node.path) == path;
        let Some(node) = list_nodes(&restic, &snapshot.id, is_named)?.pop() else {
            return Err(snapshot.no_path_error(shown_path).into());
        };

        let ui = &context.ui;
        if ui.wants_json() && node.size > MAX_JSON_BYTES {
            return Err(
                CommandError::failed(format!("too large for --json: {shown_path}"))
                    .hint("print it without --json"),
            );
        }

        let mut json_bytes = Vec::new();
        restic.dump(&snapshot.id, node.path.as_ref(), |stream| {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    // If the read fails, restic fails too, and `dump` returns its error.
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(n) if ui.wants_json() => json_bytes.extend_from_slice(&buffer[..n]),
                    Ok(n) => ui.print_raw(&buffer[..n]),
                }
            }
        })?;

        let json = object()
            .with("snapshot", &snapshot.id)
            .with("path", shown_path)
            .with("bytes", node.size)
            .with("text", String::from_utf8(json_bytes).ok());
        ui.document("vault cat", &json);
        Ok(Outcome::Done)
    }

    /// Refuses a file at the path of a login or a key. Secrets must not reach stdout: a log or a screen share would
    /// keep them.
    fn refuse_secret(&self) -> Result<()> {
        // Paths in a snapshot have slashes, on Windows too.
        let names = self.path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        });
        let path = names.collect::<Vec<_>>().join("/");
        let is_secret = reason_to_refuse_name(&path.to_lowercase()).is_some();
        if !is_secret && !kind_of(&self.path).is_login() {
            return Ok(());
        }

        let message = format!("logins and keys are not printed: {}", self.path.display());
        let [snapshot, path] = [&*self.snapshot, &*path].map(shell::quote_if_needed);
        Err(CommandError::refused(message).hint(format!(
            "restore it: codex-manager vault restore {snapshot} --only {path}"
        )))
    }
}

/// Returns the absolute path by which restic names a path relative to the Codex home.
fn to_restic_path(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}
