//! `vault snapshots`: lists the snapshots of the repository.

use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::snapshot_source::is_from_this_machine;
use crate::ui::{Cell, Column, Table, object};
use crate::views::account::{labels_by_workspace, local_rfc3339, printable};
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::archive::Metadata;
use codex_manager_core::vault::snapshot::{self, Snapshot};
use serde::Serialize;

const COLUMNS: [Column; 8] = [
    Column::new("ID"),
    Column::new("MADE").rank(1),
    Column::new("HOST").rank(3).shorten(8),
    Column::new("ACCOUNT").shorten(18),
    Column::new("KIND").rank(2).shorten(12),
    Column::new("LABEL").only_tsv(),
    Column::new("CONV").rank(1).number(),
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
    /// List only the snapshots of the machine with this host name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    table: TableArgs,
}

impl SnapshotsArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let restic = connection.open(context)?;
        let mut snapshots = snapshot::list_snapshots(&restic)?;
        if let Some(host) = &self.host {
            snapshots.retain(|snapshot| snapshot.host == *host);
        }

        match &self.host {
            Some(host) if snapshots.is_empty() => context.note(format_args!(
                "no snapshots of {}; list all: codex-manager vault snapshots",
                printable(host)
            )),
            _ => print_table(context, &snapshots),
        }
        let rows = snapshots.iter().map(|s| snapshot_json(context, s));
        let json = object()
            .with("repository", restic.location())
            .with("snapshots", rows.collect::<Vec<_>>());
        context.ui.document("vault snapshots", &json);
        Ok(Outcome::Done)
    }
}

/// Returns a snapshot in JSON. The keys are an interface.
fn snapshot_json<'a>(context: &Context, snapshot: &'a Snapshot) -> impl Serialize + use<'a> {
    let tags = snapshot.tags.as_ref();
    let metadata = tags.map(|tags| &tags.metadata);

    object()
        .with("id", &snapshot.id)
        .with("time", local_rfc3339(&snapshot.time, context))
        .with("host", &snapshot.host)
        .with("email", metadata.and_then(|m| m.email.as_ref()))
        .with("account_id", metadata.and_then(|m| m.account_id.as_ref()))
        .with("profile", tags.and_then(|tags| tags.profile.as_ref()))
        .with("mode", metadata.map(|m| m.mode.name()))
        .with("label", metadata.and_then(|m| m.label.as_ref()))
        .with(
            "conversations",
            metadata.and_then(Metadata::conversation_count),
        )
        .with("files", metadata.map(|m| m.files))
        .with("bytes", metadata.map(|m| m.bytes))
        .with("is_own", tags.is_some())
}

fn print_table(context: &Context, snapshots: &[Snapshot]) {
    let ui = &context.ui;
    if snapshots.is_empty() {
        ui.note("no snapshots; make one: codex-manager vault backup");
        return;
    }

    let (zone, now) = (context.zone(), context.now());
    let account_labels = labels_by_workspace(context);
    let rows = snapshots.iter().map(|snapshot| {
        // A snapshot that another program made has no tags.
        let metadata = snapshot.tags.as_ref().map(|tags| &tags.metadata);
        let mode = metadata.map(|m| m.mode.name());
        let label = metadata.and_then(|m| m.label.as_deref());
        let kind = match (mode, label) {
            (Some(mode), Some(label)) => format!("{mode} {label}"),
            (Some(mode), None) => mode.to_owned(),
            (None, _) => "other program".to_owned(),
        };

        let email = metadata.map(|m| m.email.as_deref().unwrap_or("signed out"));
        let account_label = metadata.and_then(|m| account_labels.get(m.account_id.as_ref()?));
        let account = account_label.map(String::as_str).or(email);

        [
            Cell::plain(snapshot.short_id()).value(&snapshot.id),
            Cell::time(Some(snapshot.time), zone, &now),
            Cell::plain(&snapshot.host),
            Cell::plain(account.unwrap_or_default()).value(email.unwrap_or_default()),
            Cell::plain(kind).value(mode.unwrap_or("other")),
            Cell::plain(label.unwrap_or_default()),
            metadata.map_or(Cell::plain(""), |m| Cell::count(m.conversation_count())),
            metadata.map_or(Cell::plain(""), |m| Cell::bytes(m.bytes)),
        ]
    });

    Table::with_rows(ui, COLUMNS, rows).print(ui);
    if snapshots.iter().any(|s| is_from_this_machine(context, s)) {
        ui.note("restore the newest one of this machine: codex-manager vault restore latest");
    }
}
