//! `vault snapshots`: lists the snapshots of the repository.

use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time::{bytes, rfc3339};
use crate::vault::snapshot::{self, Snapshot};
use crate::views::table_format::TableArgs;
use clap::Args;
use serde::Serialize;

const COLUMNS: [Column; 7] = [
    Column::new("ID"),
    Column::new("MADE").rank(1),
    Column::new("HOST").rank(3).shorten(8),
    Column::new("ACCOUNT").shorten(18),
    Column::new("KIND").rank(2).shorten(12),
    Column::new("LABEL").only_tsv(),
    Column::new("SIZE").rank(4).number(),
];

/// List the snapshots in the vault
///
/// Lists the snapshots of all machines that share the vault, and those that other programs made in
/// the same repository.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault snapshots
  codex-manager vault snapshots --host laptop
  codex-manager vault snapshots --json | jq -r '.snapshots[].id'")]
pub(super) struct SnapshotsArgs {
    /// List only the snapshots of this machine
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    table: TableArgs,
}

/// The JSON document. Its keys are an interface.
#[derive(Serialize)]
struct SnapshotsJson {
    repository: String,
    snapshots: Vec<SnapshotJson>,
}

#[derive(Serialize)]
struct SnapshotJson {
    id: String,
    time: String,
    host: String,
    email: Option<String>,
    account_id: Option<String>,
    profile: Option<String>,
    mode: Option<&'static str>,
    label: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
    is_own: bool,
}

impl SnapshotsArgs {
    pub(super) fn run(
        self,
        context: &Context,
        connection: &ConnectionArgs,
    ) -> Result<Outcome, CommandError> {
        let context = &self.table.apply(context)?;
        let restic = connection.open(context)?;
        let mut snapshots = snapshot::list(&restic)?;
        if let Some(host) = &self.host {
            snapshots.retain(|snapshot| snapshot.host == *host);
        }
        show(context, &snapshots);
        let rows = snapshots.into_iter().map(|s| row(context, s)).collect();
        context.ui.document(
            "vault snapshots",
            &SnapshotsJson {
                repository: restic.location(),
                snapshots: rows,
            },
        );
        Ok(Outcome::Done)
    }
}

fn row(context: &Context, snapshot: Snapshot) -> SnapshotJson {
    let tags = snapshot.tags.as_ref();
    SnapshotJson {
        time: rfc3339(&snapshot.time, context.settings.zone),
        email: tags.and_then(|tags| tags.email.clone()),
        account_id: tags.and_then(|tags| tags.account_id.clone()),
        profile: tags.and_then(|tags| tags.profile.clone()),
        mode: tags.map(|tags| tags.mode.name()),
        label: tags.and_then(|tags| tags.label.clone()),
        files: tags.map(|tags| tags.files),
        bytes: tags.map(|tags| tags.bytes),
        is_own: tags.is_some(),
        id: snapshot.id,
        host: snapshot.host,
    }
}

fn show(context: &Context, snapshots: &[Snapshot]) {
    let ui = &context.ui;
    if snapshots.is_empty() {
        ui.note("no snapshots; make one: codex-manager vault backup");
        return;
    }
    let mut table = Table::new(ui, COLUMNS);
    let (zone, now) = (context.settings.zone, context.now());
    for snapshot in snapshots {
        let tags = snapshot.tags.as_ref();
        let mode = tags.map(|tags| tags.mode.name());
        let label = tags.and_then(|tags| tags.label.as_deref());
        let kind = match (mode, label) {
            (Some(mode), Some(label)) => format!("{mode} {label}"),
            (Some(mode), None) => mode.to_owned(),
            (None, _) => "other program".to_owned(),
        };
        let account = tags.map(|tags| tags.email.as_deref().unwrap_or("signed out"));
        let size = tags.map(|tags| tags.bytes);
        table.row([
            Cell::plain(snapshot.short_id()).value(&snapshot.id),
            Cell::time(Some(snapshot.time), zone, &now),
            Cell::plain(&snapshot.host),
            Cell::plain(account.unwrap_or_default()),
            Cell::plain(kind).value(mode.unwrap_or("other")),
            Cell::plain(label.unwrap_or_default()),
            Cell::plain(size.map(bytes).unwrap_or_default())
                .value(size.map(|size| size.to_string()).unwrap_or_default()),
        ]);
    }
    table.print(ui);
    ui.note("restore one: codex-manager vault restore ID");
}
