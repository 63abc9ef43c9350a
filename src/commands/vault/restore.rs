//! `vault restore`: converts the selected part of a snapshot into an archive and restores that.

use crate::choices::snapshot_choice::find_snapshot;
use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::copies::source::ConversationSource as _;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::restore_options::RestoreOptions;
use crate::steps::snapshot_source::{SnapshotSource, is_from_this_machine};
use crate::views::account::owner_name;
use crate::views::restore_report::describe_archive;
use clap::Args;
use codex_manager_core::accounts::AuthPolicy;
use codex_manager_core::archive::ArchiveReader;
use codex_manager_core::codex::AUTH_JSON;
use codex_manager_core::inventory::archive_names::LATEST;
use codex_manager_core::io::pluralize;
use codex_manager_core::restore::needed_paths::needed_paths;
use codex_manager_core::restore::plan::{RestoreTarget, Selection};
use codex_manager_core::vault::contents::SnapshotContents;
use codex_manager_core::vault::create_staging;
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
pub(super) struct VaultRestoreArgs {
    /// An id from `vault snapshots`, an account, or `latest` [default: latest, after a question or with --yes]
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: Option<String>,
    #[command(flatten)]
    options: RestoreOptions,
}

impl VaultRestoreArgs {
    pub(super) fn run(mut self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        // Refuses an invalid --to before the repository is contacted.
        let (_folder, target) = self.options.destination(context)?;

        let restic = connection.open(context)?;
        let name = self.snapshot.as_deref().unwrap_or(LATEST);
        let snapshot = find_snapshot(context, &restic, name)?;
        let contents = SnapshotContents::read(&restic, &snapshot)?;
        let mut source = SnapshotSource {
            restic,
            snapshot,
            contents,
        };
        let selection = self.options.resolve_selection(&source, context)?;
        source.check_paths(&selection)?;

        if self.options.auth.is_none() && !is_from_this_machine(context, &source.snapshot) {
            self.options.auth = Some(AuthPolicy::Skip);
            explain_skipped_login(context, &source, &selection);
        }
        warn_of_other_program(context, &source);

        // The question and the checks come before the download, because they need only the manifest.
        let id = source.snapshot.short_id().to_owned();
        let manifest = source.contents.manifest.clone();
        let manifest_only = ArchiveReader::without_file(Path::new(&id), manifest);
        context.note(describe_archive(context, &manifest_only, "snapshot"));
        self.confirm_default_snapshot(context, &id, target)?;

        if self.options.dry_run {
            warn_of_left_out_files(context, &source);
            // A dry run needs only the manifest, so nothing is downloaded.
            return self
                .options
                .restore(context, &manifest_only, selection, "vault restore");
        }
        self.options
            .check_before_download(context, &manifest_only, &selection)?;
        // The copy of a large manifest needs memory, and is not needed any more.
        drop(manifest_only);

        if selection.is_partial() {
            let paths = needed_paths(&selection, source.files());
            source.contents.keep_files_at_or_below(&paths);
        }

        let staging = create_staging(context.manager_home())?;
        // `restore` prints the file name as the name of the archive.
        let staged_path = staging.path(&id);
        source.download(staging.folder(), &staged_path, context)?;
        warn_of_left_out_files(context, &source);
        let archive = ArchiveReader::open(&staged_path)?;
        self.options
            .restore(context, &archive, selection, "vault restore")
    }

    /// If the user named no snapshot, asks before `latest` is restored into the Codex home.
    fn confirm_default_snapshot(
        &self,
        context: &Context,
        id: &str,
        target: RestoreTarget,
    ) -> Result<()> {
        let replaces_home = target == RestoreTarget::Home && !self.options.dry_run;
        let asks_user = self.snapshot.is_none() && replaces_home;
        let question = format!("restore {id}, the newest snapshot?");
        if asks_user && !context.confirm(question) {
            let message = "the restore of the newest snapshot was not confirmed";
            return Err(CommandError::refused(message)
                .hint("name a snapshot, or add --yes; nothing was changed")
                .hint("list the snapshots: codex-manager vault snapshots"));
        }
        Ok(())
    }
}

/// Prints the reason why the login is not restored, and the command to sign in.
fn explain_skipped_login(context: &Context, source: &SnapshotSource, selection: &Selection) {
    let login_path = Path::new(AUTH_JSON);
    if !selection.wants(login_path) || !source.contents.manifest.has_path(login_path) {
        return;
    }

    let snapshot = &source.snapshot;
    let tags = snapshot.tags.as_ref();
    let login = match tags.and_then(|tags| owner_name(&tags.metadata, context)) {
        Some(owner) => format!("the login of {owner}"),
        None => "the login".into(),
    };
    let machine_text = if snapshot.host == host(context) {
        format!("another machine or manager home named {}", snapshot.host)
    } else {
        snapshot.host.clone()
    };

    context.note(format_args!(
        "{login} is not restored: {machine_text} may have renewed it since, and a login works on one machine only; sign in here: codex-manager profile login NAME; if that machine is gone, add --auth archive"
    ));
}

/// Warns if another program made the snapshot, because only a part of it is restored.
fn warn_of_other_program(context: &Context, source: &SnapshotSource) {
    if source.snapshot.tags.is_none() {
        context.ui.warn(format_args!(
            "another program made snapshot {}: only its files are restored, and nothing is removed",
            source.snapshot.short_id()
        ));
    }
}

/// Warns of files that are not restored. Only the download shows which files are databases.
fn warn_of_left_out_files(context: &Context, source: &SnapshotSource) {
    let contents = &source.contents;
    if !contents.left_out.is_empty() {
        context.ui.warn(format_args!(
            "{} not restored (databases that may have been in use, links): {}; afterwards, repair Codex's list of conversations: codex-manager history repair",
            pluralize(contents.left_out.len(), "file"),
            contents.left_out.join(", ")
        ));
    }
}
