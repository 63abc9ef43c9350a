//! `vault restore`: converts the selected part of a snapshot into an archive and restores that.

use super::connection::{ConnectionArgs, host};
use super::snapshot_choice::find_snapshot;
use crate::accounts::login_selection::AuthPolicy;
use crate::archive::entry::FileEntry;
use crate::archive::file_list::FileList;
use crate::archive::format::Compression;
use crate::archive::reader::ArchiveReader;
use crate::codex::home::AUTH_JSON;
use crate::commands::archive_choice::LATEST;
use crate::commands::losses::place::{CopyPlace, CopyPlaceKind};
use crate::commands::losses::search::LossSearch;
use crate::commands::restore::RestoreOptions;
use crate::commands::restore_report::describe;
use crate::commands::restore_session::ConversationSource;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::history::session_index;
use crate::io::quantity::pluralize;
use crate::io::staging::Staging;
use crate::io::{IoContext, Progress, atomic};
use crate::restore::needed_paths::needed_paths;
use crate::restore::plan::Selection;
use crate::vault::contents::SnapshotContents;
use crate::vault::materialize::materialize;
use crate::vault::restic::Restic;
use crate::vault::snapshot::{self, Snapshot};
use crate::vault::state;
use crate::vault::{VaultError, folder, staging_folder};
use clap::Args;
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// The number of bytes of a rollout in which its first line is searched. It has 10–25 kB.
const MAX_BEGINNING_BYTES: u64 = 4 << 20;

/// Restore a snapshot
///
/// Checks the snapshot, makes a safety backup and replaces the files like `restore`. The login of a
/// snapshot from another machine is not restored, because that machine may have renewed it since.
/// --auth newest or --auth archive restores it anyway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault restore latest
  codex-manager vault restore 64ae0aa1 --only sessions/2026/11
  codex-manager vault restore me@example.com --to ~/elsewhere
  codex-manager vault restore latest --session 01a1f78b --dry-run")]
pub(super) struct RestoreArgs {
    /// An id from `vault snapshots`, an account, or `latest` [default: latest]
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: Option<String>,
    #[command(flatten)]
    options: RestoreOptions,
}

impl RestoreArgs {
    pub(super) fn run(
        mut self,
        context: &Context,
        connection: &ConnectionArgs,
    ) -> Result<Outcome, CommandError> {
        self.options.destination(context)?;
        let restic = connection.open(context)?;
        let name = self.snapshot.as_deref().unwrap_or(LATEST);
        let snapshot = find_snapshot(context, &restic, name)?;
        let contents = SnapshotContents::read(&restic, &snapshot)?;
        let mut source = SnapshotSource {
            restic,
            snapshot,
            contents,
        };
        let selection = self.options.selection(&source, context)?;
        source.check_paths(&selection)?;
        if self.options.auth.is_none() && !is_from_this_machine(context, &source.snapshot) {
            self.options.auth = Some(AuthPolicy::Skip);
            explain_skipped_login(context, &source, &selection);
        }
        warn_of_other_program(context, &source);
        let id = source.snapshot.short_id().to_owned();
        let manifest = source.contents.manifest.clone();
        let listed = ArchiveReader::of_manifest(Path::new(&id), manifest);
        context.ui.note(describe(context, &listed, "snapshot"));
        if self.options.dry_run {
            // A plan needs no content, so nothing is downloaded and nothing written.
            return self
                .options
                .restore(context, &listed, selection, "vault restore", false);
        }
        self.options.check(context, &listed, &selection)?;
        drop(listed);
        if selection.is_partial() {
            let paths = needed_paths(&selection, source.files());
            source.contents.narrow(&paths);
        }
        let manager = &context.settings.manager_home;
        atomic::create_private_folder(manager)?;
        atomic::create_private_folder(&folder(manager))?;
        let staging = Staging::inside(&staging_folder(manager))?;
        // `restore` prints the file name as the name of the archive.
        let path = staging.path(&id);
        let bar = context.ui.bar("downloading", 0);
        source.download(staging.folder(), &path, &bar)?;
        drop(bar);
        let archive = ArchiveReader::open(&path)?;
        self.options
            .restore(context, &archive, selection, "vault restore", false)
    }
}

/// Adds the snapshots that this machine made of the Codex home, the newest first.
///
/// # Errors
/// There is no vault, or restic fails.
pub(in crate::commands) fn add_snapshots(
    search: &mut LossSearch,
    context: &Context,
) -> Result<(), CommandError> {
    let restic = ConnectionArgs::default().open(context)?;
    let mut snapshots = snapshot::list(&restic)?;
    let home = context.settings.codex_home.to_string_lossy();
    snapshots.retain(|found| {
        let is_of_home = found.tags.as_ref().is_some_and(|tags| tags.home == home);
        is_of_home && is_from_this_machine(context, found)
    });
    snapshots.sort_by_key(|snapshot| Reverse(snapshot.time));
    for snapshot in snapshots {
        let contents = SnapshotContents::read(&restic, &snapshot)?;
        let place = CopyPlace {
            name: snapshot.id.clone(),
            kind: CopyPlaceKind::Snapshot,
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

/// A snapshot as the source of a restore.
struct SnapshotSource {
    restic: Restic,
    snapshot: Snapshot,
    contents: SnapshotContents,
}

impl SnapshotSource {
    /// Fails if the snapshot has nothing at a path of `--only`.
    fn check_paths(&self, selection: &Selection) -> Result<(), CommandError> {
        let mut missing = selection.only.iter().filter(|p| !self.contents.has(p));
        match missing.next() {
            None => Ok(()),
            Some(path) => Err(self.snapshot.no_path(path.display()).into()),
        }
    }

    /// Makes an archive of the contents at `path` in `folder`.
    fn download(
        &self,
        folder: &Path,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), CommandError> {
        let (file, _) = materialize(
            &self.restic,
            &self.snapshot,
            &self.contents,
            folder,
            Compression::Fast,
            progress,
        )?;
        file.sync()?;
        file.publish_unsynced(path)?;
        Ok(())
    }

    /// Passes the content of a file to `read`.
    fn dump<T>(
        &self,
        path: &Path,
        read: impl FnMut(&mut dyn Read) -> Result<T, VaultError>,
    ) -> Result<T, CommandError> {
        let place = self.contents.rooted(path);
        Ok(self.restic.dump(&self.snapshot, &place, read)?)
    }
}

impl ConversationSource for SnapshotSource {
    fn files(&self) -> &FileList {
        &self.contents.manifest.files
    }

    fn beginning(&self, rollout: &FileEntry) -> Result<Vec<u8>, CommandError> {
        let path = rollout.path.as_path();
        self.dump(path, |stream| {
            let mut beginning = Vec::new();
            let mut stream = stream.take(MAX_BEGINNING_BYTES);
            stream.read_to_end(&mut beginning).at("read", path)?;
            Ok(beginning)
        })
    }

    fn extract(&self, entry: &FileEntry, mut to: &File) -> Result<(), CommandError> {
        let path = entry.path.as_path();
        self.dump(path, |mut stream| {
            io::copy(&mut stream, &mut to).at("write", path)?;
            Ok(())
        })
    }

    fn session_index(&self) -> Result<File, CommandError> {
        let name = Path::new(session_index::FILE_NAME);
        let mut file = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
        if self.contents.has(name) {
            self.dump(name, |mut stream| {
                Ok(io::copy(&mut stream, &mut file).at("read", name)?)
            })?;
            file.rewind().at("read", name)?;
        }
        Ok(file)
    }

    fn not_found(&self, wanted: &str) -> CommandError {
        self.snapshot.no_path(wanted).into()
    }
}

fn is_from_this_machine(context: &Context, snapshot: &Snapshot) -> bool {
    let Some(tags) = &snapshot.tags else {
        return false;
    };
    // Containers often share one host name. An import has no id.
    let state = state::read(&context.settings.manager_home);
    let known = state.ok().and_then(|state| state.machine);
    snapshot.host == host(context) && (tags.machine.is_none() || tags.machine == known)
}

/// Prints why the login is not restored, and how to sign in.
fn explain_skipped_login(context: &Context, source: &SnapshotSource, selection: &Selection) {
    let login = Path::new(AUTH_JSON);
    if !selection.wants(login) || !source.contents.has(login) {
        return;
    }
    let snapshot = &source.snapshot;
    let tags = snapshot.tags.as_ref();
    let login = match tags.and_then(|tags| tags.email.as_ref()) {
        Some(email) => format!("the login of {email}"),
        None => "the login".into(),
    };
    let machine = if snapshot.host == host(context) {
        format!(
            "another machine or manager home of the name {}",
            snapshot.host
        )
    } else {
        snapshot.host.clone()
    };
    context.ui.note(format_args!(
        "{login} is not restored: {machine} may have renewed it since, and a login works on one machine only; sign in here: codex-manager profile login NAME; if that machine is gone, add --auth archive"
    ));
}

fn warn_of_other_program(context: &Context, source: &SnapshotSource) {
    let (snapshot, contents) = (&source.snapshot, &source.contents);
    if snapshot.tags.is_some() {
        return;
    }
    let ui = &context.ui;
    ui.warn(format_args!(
        "another program made snapshot {}: only its files are restored, and nothing is removed",
        snapshot.short_id()
    ));
    if !contents.left_out.is_empty() {
        ui.warn(format_args!(
            "{} not restored (databases that may have been in use, links): {}; list the conversations again: codex-manager history repair",
            pluralize(contents.left_out.len(), "file"),
            contents.left_out.join(", ")
        ));
    }
}
