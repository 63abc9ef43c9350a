//! `vault export`: makes an archive of a snapshot.

use crate::choices::snapshot_choice::find_snapshot;
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Style, bytes, object};
use crate::views::account::warn_unless_recorded;
use clap::Args;
use codex_manager_core::archive::{names, publish};
use codex_manager_core::inventory::archive_names::file_name;
use codex_manager_core::inventory::cooldown::LOCK_NAME;
use codex_manager_core::inventory::store;
use codex_manager_core::io::atomic;
use codex_manager_core::vault::contents::SnapshotContents;
use codex_manager_core::vault::materialize::materialize;
use std::path::PathBuf;

/// Make an archive of a snapshot
///
/// Writes a .tar.gz with its sidecar like `backup`, into backups/ or the folder of --to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault export latest
  codex-manager vault export 64ae0aa1 --to ~/usb")]
pub(super) struct VaultExportArgs {
    /// An id from `vault snapshots`, an account, or `latest`
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: String,
    /// The folder of the archive [default: backups/ of the manager home]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl VaultExportArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let restic = connection.open(context)?;
        let snapshot = find_snapshot(context, &restic, &self.snapshot)?;
        let mut contents = SnapshotContents::read(&restic, &snapshot)?;

        let manager_home = context.manager_home();
        let folder = match &self.to {
            Some(folder) => context.env.absolute(folder),
            None => context.backups(),
        };
        atomic::create_private_folder(manager_home)?;
        atomic::create_private_folder(&folder)?;

        let bar = context.ui.growing_bar("exporting");
        let compression = context.settings.preferences.compression;
        let result = materialize(
            &restic,
            &snapshot,
            &mut contents,
            &folder,
            compression,
            &bar,
        );
        drop(bar);
        let (file, packed) = result?;

        let metadata = &packed.manifest.metadata;
        let name_time = metadata.session_start_at.unwrap_or(metadata.created_at);
        let name_label = metadata.email.as_deref().unwrap_or(names::SIGNED_OUT);
        let stem = names::stem(&name_time, name_label);
        let published =
            publish::publish(file, &packed, &stem, &folder, &manager_home.join(LOCK_NAME))?;

        let mut is_recorded = true;
        if self.to.is_none() {
            // Not `note_archive`: an export does not count as a use of the account.
            let refreshed = store::refresh(manager_home);
            is_recorded = warn_unless_recorded(&context.ui, refreshed.err());
        }

        let name = file_name(&published.archive);
        let (ui, metadata) = (&context.ui, &published.metadata);
        ui.report(ui.paint(Style::Strong, &name));
        ui.report(format_args!(
            "snapshot {} in {}",
            snapshot.short_id(),
            bytes(metadata.archive_bytes)
        ));

        let json = object()
            .with("snapshot", &snapshot.id)
            .with("archive", &name)
            .with("path", &published.archive)
            .with("metadata_path", &published.sidecar)
            .with("files", metadata.files)
            .with("bytes", metadata.bytes)
            .with("archive_bytes", metadata.archive_bytes);
        ui.document("vault export", &json);
        Ok(Outcome::partial_if(!is_recorded))
    }
}
