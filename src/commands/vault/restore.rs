//! `vault restore`: converts a snapshot into an archive and restores that.

use super::connection::{ConnectionArgs, host};
use super::snapshot_choice::find_snapshot;
use crate::accounts::login_selection::AuthPolicy;
use crate::archive::format::Compression;
use crate::codex::home::AUTH_JSON;
use crate::commands::archive_choice::LATEST;
use crate::commands::restore::RestoreOptions;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::quantity::pluralize;
use crate::io::staging::Staging;
use crate::io::{IoContext, atomic};
use crate::vault::contents::SnapshotContents;
use crate::vault::materialize::materialize;
use crate::vault::snapshot::Snapshot;
use clap::Args;
use std::path::Path;

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
        if self.options.auth.is_none() && !is_from_this_machine(context, &snapshot) {
            self.options.auth = Some(AuthPolicy::Skip);
            explain_skipped_login(context, &snapshot, &contents);
        }
        warn_of_other_program(context, &snapshot, &contents);
        // A dry run writes nothing into the manager home.
        let tmp = if self.options.dry_run {
            context.env.temp_dir()
        } else {
            let manager = &context.settings.manager_home;
            atomic::create_private_folder(manager)?;
            manager.join("tmp")
        };
        let staging = ScratchFolder::inside(&tmp, self.options.dry_run)?;
        let bar = context.ui.bar("downloading", 0);
        let (file, _) = materialize(
            &restic,
            &snapshot,
            &contents,
            staging.folder(),
            Compression::Fast,
            &bar,
        )?;
        drop(bar);
        // `restore` prints the file name as the name of the archive.
        let named = staging.folder().join(snapshot.short_id());
        file.sync()?;
        file.publish_unsynced(&named)?;
        self.options.restore(context, &named, "vault restore")
    }
}

/// The folder of the temporary archive.
enum ScratchFolder {
    /// A folder in the manager home.
    Staging(Staging),
    /// A folder in the system's folder for temporary files.
    Temp(tempfile::TempDir),
}

impl ScratchFolder {
    fn inside(tmp: &Path, is_dry_run: bool) -> Result<Self, CommandError> {
        if is_dry_run {
            return Ok(Self::Temp(
                tempfile::tempdir_in(tmp).at("create a folder in", tmp)?,
            ));
        }
        Ok(Self::Staging(Staging::inside(tmp)?))
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Staging(staging) => staging.folder(),
            Self::Temp(folder) => folder.path(),
        }
    }
}

fn is_from_this_machine(context: &Context, snapshot: &Snapshot) -> bool {
    snapshot.tags.is_some() && snapshot.host == host(context)
}

/// Prints why the login is not restored, and how to sign in.
fn explain_skipped_login(context: &Context, snapshot: &Snapshot, contents: &SnapshotContents) {
    let mut files = contents.manifest.files.iter();
    if !files.any(|file| file.path.as_path() == Path::new(AUTH_JSON)) {
        return;
    }
    let tags = snapshot.tags.as_ref();
    let login = match tags.and_then(|tags| tags.email.as_ref()) {
        Some(email) => format!("the login of {email}"),
        None => "the login".into(),
    };
    context.ui.note(format_args!(
        "{login} is not restored: {} may have renewed it since, and a login works on one machine only; sign in here: codex-manager profile login NAME",
        snapshot.host
    ));
}

fn warn_of_other_program(context: &Context, snapshot: &Snapshot, contents: &SnapshotContents) {
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
