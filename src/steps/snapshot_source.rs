//! Snapshots as sources of conversations.

use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::copies::losses::place::{CopyBackup, CopyPlace, CopyPlaceKind};
use crate::copies::losses::search::LossSearch;
use crate::copies::source::ConversationSource;
use crate::error::{CommandError, Result};
use codex_manager_core::archive::{Compression, FileEntry, FileList};
use codex_manager_core::io::IoContext;
use codex_manager_core::restore::plan::Selection;
use codex_manager_core::vault::VaultError;
use codex_manager_core::vault::contents::SnapshotContents;
use codex_manager_core::vault::materialize::materialize;
use codex_manager_core::vault::restic::Restic;
use codex_manager_core::vault::snapshot::{self, Snapshot};
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The maximum number of bytes that are read to find the first line of a rollout, which has 10–25 kB.
const MAX_BEGINNING_BYTES: u64 = 4 << 20;

/// Adds all snapshots that this machine made of the Codex home to `search`, the newest first.
///
/// # Errors
/// There is no vault, or restic fails.
pub(crate) fn add_all_snapshots(search: &mut LossSearch, context: &Context) -> Result<()> {
    let restic = ConnectionArgs::default().open(context)?;
    let snapshots = snapshot::list_snapshots(&restic)?;
    add_snapshots(search, &restic, snapshots, context)
}

/// Adds each of the `snapshots` to `search` if this machine made it of the Codex home. The newest snapshot is first.
///
/// # Errors
/// restic fails.
pub(crate) fn add_snapshots(
    search: &mut LossSearch,
    restic: &Restic,
    mut snapshots: Vec<Snapshot>,
    context: &Context,
) -> Result<()> {
    snapshots.retain(|snapshot| is_of_this_home(context, snapshot));

    // A search names the first snapshot with the lost messages. The newest one lacks the fewest other messages.
    snapshots.sort_by_key(|snapshot| Reverse(snapshot.time));
    let machine = context.machine();
    for snapshot in snapshots {
        let contents = SnapshotContents::read(restic, &snapshot)?;
        // Snapshots of other machines were removed above.
        let metadata = snapshot.tags.as_ref().map(|tags| &tags.metadata);
        let place = CopyPlace {
            name: snapshot.id.clone(),
            kind: CopyPlaceKind::Snapshot,
            backup: metadata.map(|metadata| CopyBackup::new(metadata, machine.as_deref())),
        };
        let source = SnapshotSource {
            restic: restic.clone(),
            snapshot,
            contents,
        };
        search.add_source(place, Box::new(source));
    }
    Ok(())
}

pub(crate) struct SnapshotSource {
    pub(crate) restic: Restic,
    pub(crate) snapshot: Snapshot,
    pub(crate) contents: SnapshotContents,
}

impl SnapshotSource {
    /// Fails if the snapshot has nothing at a path of `--only`.
    pub(crate) fn check_paths(&self, selection: &Selection) -> Result<()> {
        let manifest = &self.contents.manifest;
        let mut missing = selection.only.iter().filter(|p| !manifest.has_path(p));
        match missing.next() {
            None => Ok(()),
            Some(path) => Err(self.snapshot.no_path_error(path.display()).into()),
        }
    }

    /// Downloads the contents into a new archive in `folder`, then renames the archive to `path`, which must not exist.
    pub(crate) fn download(&mut self, folder: &Path, path: &Path, context: &Context) -> Result<()> {
        let (file, _description) = materialize(
            &self.restic,
            &self.snapshot,
            &mut self.contents,
            folder,
            Compression::Fast,
            &context.ui.growing_bar("downloading"),
        )?;
        // The content is durable before the rename. The rename itself is not synced: a power failure loses only a copy.
        file.sync()?;
        file.publish_unsynced(path)?;
        Ok(())
    }

    /// Streams the content of the file at `path` in the snapshot to `read`.
    fn stream_file<T>(
        &self,
        path: &Path,
        read: impl FnMut(&mut dyn Read) -> Result<T, VaultError>,
    ) -> Result<T> {
        let restic_path = self.contents.to_restic_path(path);
        Ok(self.restic.dump(&self.snapshot.id, &restic_path, read)?)
    }
}

impl ConversationSource for SnapshotSource {
    fn files(&self) -> &FileList {
        &self.contents.manifest.files
    }

    fn read_beginning(&self, rollout: &FileEntry) -> Result<Vec<u8>> {
        let path = rollout.path.as_path();
        self.stream_file(path, |stream| {
            let mut beginning = Vec::new();
            let mut stream = stream.take(MAX_BEGINNING_BYTES);
            stream.read_to_end(&mut beginning).at("read", path)?;
            Ok(beginning)
        })
    }

    fn extract(&self, entry: &FileEntry, mut to: &File) -> Result<()> {
        let path = entry.path.as_path();
        self.stream_file(path, |mut stream| {
            io::copy(&mut stream, &mut to).at("write", path)?;
            Ok(())
        })
    }

    fn to_not_found_error(&self, wanted: &str) -> CommandError {
        self.snapshot.no_path_error(wanted).into()
    }
}

/// Returns true if this machine made the snapshot, of the Codex home of the command.
pub(crate) fn is_of_this_home(context: &Context, snapshot: &Snapshot) -> bool {
    let tags = snapshot.tags.as_ref();
    let is_of_home = tags.is_some_and(|tags| tags.metadata.records_home(context.codex_home()));
    is_of_home && is_from_this_machine(context, snapshot)
}

/// Returns true if this machine made the snapshot.
pub(crate) fn is_from_this_machine(context: &Context, snapshot: &Snapshot) -> bool {
    let Some(tags) = &snapshot.tags else {
        return false;
    };
    // Containers often share one host name, so the machine id decides too. A snapshot of an imported archive has the id
    // of the machine that made the archive, unless an older version made or imported it.
    let machine = context.machine();
    snapshot.host == host(context) && !tags.metadata.is_from_other_machine(machine.as_deref())
}
