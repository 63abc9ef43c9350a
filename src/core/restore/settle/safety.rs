//! Makes the safety backup: an archive of everything that a restore will replace or remove.

use super::outside_databases::OutsideDatabases;
use super::replaced_links;
use crate::archive::metadata::SAFETY_LABEL;
use crate::archive::{
    ArchiveError, BackupMode, CaptureOptions, CaptureScope, CapturedHome, Compression,
    EXTERNAL_DATABASES_FOLDER, EntryName, HomeSubset, Metadata, PathNote, PreviousArchive,
    PublishedArchive, ReuseOptions, VerifyReused, capture, names, publish,
};
use crate::codex::{AuthFile, HomeEntryKind, database, home, kind_of};
use crate::io::{IoContext, IoError, Progress, Timestamp, atomic, links, tree};
use crate::restore::error::RestoreError;
use crate::restore::plan::request::{RestoreRequest, RestoreTarget};
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::stage::staged_home::Stage;
use crate::restore::stage::workspace::Workspace;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Makes the safety backup. Returns `None` if the request does not ask for one, the target is not the home, or nothing
/// has to be saved. The backup lists the files that the restore adds, so that restoring the backup removes them.
/// Damaged databases, which a backup leaves out, are copied to `db-backups` in the new state.
///
/// # Errors
/// [`RestoreError::BackupIncomplete`] if a file that the restore replaces or removes cannot be saved; or the archive
/// cannot be written.
pub(crate) fn make_backup(
    work: &mut Workspace<'_>,
    outside: &OutsideDatabases,
    progress: &dyn Progress,
) -> Result<Option<PublishedArchive>, RestoreError> {
    let (request, plan, stage) = (work.request, &work.plan, &work.stage);
    let home = &stage.home().live;
    let safety = SafetyBackup {
        request,
        plan,
        home,
        outside,
        replaced_outside: list_replaced_outside(outside)?,
        stage,
        replaces_login: plan.wants_login && home.join(home::AUTH_JSON).exists(),
    };

    let is_wanted = request.safety_backup && plan.target == RestoreTarget::Home;
    if !is_wanted || !safety.is_needed() {
        return Ok(None);
    }

    let manager_home = request.manager_home;
    let backups = manager_home.join("backups");
    atomic::create_private_folder(&backups)?;

    let scope = safety.build_scope();
    let (metadata, label) = safety.build_metadata(&scope);
    let mut captured = safety.capture(&scope, metadata, &backups, progress)?;

    // A damaged database is copied within the home instead. Any other unsaved file ends the restore.
    let unsaved = std::mem::take(&mut captured.skipped);
    let damaged = safety.check_unsaved(unsaved, &captured.unreadable_databases)?;
    for relative in &damaged {
        let live = safety.live_path(relative);
        let copy_folder = stage_copy_of_damaged_database(&live, stage, &request.now)?;
        work.notes.push(format!(
            "{} is damaged and not in the safety backup; it was kept in {}",
            live.display(),
            home.join(copy_folder).display(),
        ));
    }

    let published = publish::publish(
        captured.file,
        &captured.packed,
        &names::stem(&request.now, &label),
        &backups,
        &manager_home.join(".lock"),
    )?;
    Ok(Some(published))
}

/// The parts of a restore that decide what its safety backup contains.
struct SafetyBackup<'a> {
    request: &'a RestoreRequest<'a>,
    plan: &'a RestorePlan,
    /// The path of the live home, without symbolic links.
    home: &'a Path,
    outside: &'a OutsideDatabases,
    /// The names that the databases outside of the home have in an archive, if they are replaced or removed.
    replaced_outside: Vec<PathBuf>,
    replaces_login: bool,
    stage: &'a Stage,
}

impl SafetyBackup<'_> {
    /// Returns true if the restore replaces or removes anything live, or is partial and adds files.
    fn is_needed(&self) -> bool {
        !self.plan.removed.is_empty()
            || !self.plan.writes.without(&self.plan.added).is_empty()
            || self.replaces_login
            || !self.replaced_outside.is_empty()
            // A restore of the backup removes the added files again.
            || (self.plan.partial && !self.plan.added.is_empty())
    }

    fn build_scope(&self) -> CaptureScope {
        let archive = self.request.archive;
        let mut scope = CaptureScope::new(self.home, archive.metadata().mode);

        let writes_any = |kind| {
            let mut writes = self.plan.writes.iter();
            writes.any(|name| kind_of(name.as_path()) == kind)
        };
        scope.without_logins = self.request.safety_without_logins;
        scope.include_tmp = writes_any(HomeEntryKind::Tmp);
        scope.include_worktrees = writes_any(HomeEntryKind::Worktrees);

        let staging = self.outside.live_and_staging_folder();
        scope.sqlite_home = staging.map(|(folder, _)| folder.to_path_buf());
        scope.exclude_manager_home(self.request.manager_home);
        scope.undo_removes = self.plan.added.to_sorted_names();
        scope.replaced_links = replaced_links::list(self.plan, self.stage, self.replaces_login);

        // If the whole home is not replaced, the backup has only the files that the restore changes, of every kind.
        if self.plan.partial || self.plan.merge || archive.contents().partial {
            scope.mode = BackupMode::Full;
            let mut only = self.plan.replaced_and_removed();
            let login = self.replaces_login.then(|| PathBuf::from(home::AUTH_JSON));
            let unplanned = login.into_iter().chain(self.replaced_outside.clone());
            only.extend(unplanned.filter_map(|path| EntryName::from_path(&path).ok()));
            scope.only = Some(HomeSubset::new(only));
        }

        scope
    }

    /// Returns the metadata of the backup, and the label of the account in its file name.
    fn build_metadata(&self, scope: &CaptureScope) -> (Metadata, String) {
        // A restore that keeps auth.json also keeps an entry that cannot be read.
        let live = AuthFile::read(&self.home.join(home::AUTH_JSON)).ok();
        let mut metadata = Metadata {
            created_at: self.request.now,
            source_codex_home: self.request.folder.display().to_string(),
            machine: self.request.machine.clone(),
            mode: scope.mode,
            holds_changes_only: scope.only.is_some(),
            label: Some(SAFETY_LABEL.into()),
            inference_basis: "time of creation: made before a restore".into(),
            ..Metadata::default()
        };

        let Some(login) = live.as_ref().and_then(AuthFile::login) else {
            return (metadata, names::SIGNED_OUT.to_owned());
        };

        metadata.set_identity(&login.identity);
        metadata.plan.clone_from(&login.plan);
        (metadata, login.identity.email.to_string())
    }

    fn capture(
        &self,
        scope: &CaptureScope,
        metadata: Metadata,
        backups: &Path,
        progress: &dyn Progress,
    ) -> Result<CapturedHome, ArchiveError> {
        let reuse = ReuseOptions {
            verify: VerifyReused::All,
            rehash: false,
            compression: Compression::Fast,
        };

        // The restored archive often has most of the live files, so the backup reuses its content.
        let equal_rollouts = self.stage.equal_rollouts.clone();
        let previous = PreviousArchive::open(self.request.archive, reuse, equal_rollouts);

        let options = CaptureOptions {
            backups,
            tmp: &self.request.manager_home.join("tmp"),
            compression: Compression::Fast,
            // A partial restore has not read the whole archive, and the unread part may be damaged.
            previous: previous.as_ref().filter(|_| !self.plan.partial),
        };

        capture::capture(scope, &options, metadata, progress)
    }

    /// Checks the files `unsaved`, which the safety backup could not include. Returns the files that the caller has to
    /// copy: damaged databases, and files in the place of databases outside of the home.
    ///
    /// # Errors
    /// The restore would replace or remove one of the other files.
    fn check_unsaved(
        &self,
        mut unsaved: Vec<PathNote>,
        unreadable: &HashSet<PathBuf>,
    ) -> Result<HashSet<PathBuf>, RestoreError> {
        let damaged = self.split_damaged(&mut unsaved, unreadable);
        // An unreadable login is kept in quarantine, not in an archive.
        unsaved.retain(|note| {
            let is_login = note.path == Path::new(home::AUTH_JSON);
            let mut outside_paths = self.replaced_outside.iter();
            let has_outside = outside_paths.any(|path| path.starts_with(&note.path));
            !is_login && (has_outside || self.would_be_lost(&note.path))
        });

        if !unsaved.is_empty() {
            return Err(RestoreError::BackupIncomplete { items: unsaved });
        }
        Ok(damaged)
    }

    /// Moves the damaged databases out of `unsaved` and returns them; an unreadable database may be sound and stays.
    /// Also returns files in the place of databases outside of the home, because an archive does not include them.
    fn split_damaged(
        &self,
        unsaved: &mut Vec<PathNote>,
        unreadable: &HashSet<PathBuf>,
    ) -> HashSet<PathBuf> {
        let mut damaged: HashSet<PathBuf> = unsaved
            .extract_if(.., |note| {
                let path = &note.path;
                let is_outside = self.replaced_outside.contains(path);
                let is_database = is_outside || database::is_database(&self.live_path(path));
                is_database && !self.is_live_folder(path) && !unreadable.contains(path)
            })
            .map(|note| note.path)
            .collect();

        let is_not_sqlite = |name: &&PathBuf| {
            let path = self.live_path(name);
            path.metadata().is_ok_and(|m| m.len() > 0)
                && database::has_sqlite_header(&path).is_ok_and(|has_header| !has_header)
        };
        damaged.extend(self.replaced_outside.iter().filter(is_not_sqlite).cloned());
        damaged
    }

    /// Returns true if the restore would replace or remove the file at `path`, or anything in the folder at `path`.
    fn would_be_lost(&self, path: &Path) -> bool {
        let changed_names = self.plan.replaced_and_removed();
        let is_in_folder = |name: EntryName| name.as_path().starts_with(path);
        changed_names.contains(path)
            || (self.is_live_folder(path) && changed_names.iter().any(is_in_folder))
    }

    fn is_live_folder(&self, relative: &Path) -> bool {
        let live_path = self.home.join(relative);
        live_path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    }

    /// Returns the live path of the file that has this name in an archive.
    fn live_path(&self, name: &Path) -> PathBuf {
        let folder = &self.outside.sqlite_home;
        match (folder, name.strip_prefix(EXTERNAL_DATABASES_FOLDER)) {
            (Some(folder), Ok(name)) => folder.join(name),
            _ => self.home.join(name),
        }
    }
}

/// Returns the archive names of the databases outside of the home that are replaced or removed.
fn list_replaced_outside(outside: &OutsideDatabases) -> Result<Vec<PathBuf>, RestoreError> {
    let Some((live, staged)) = outside.live_and_staging_folder() else {
        return Ok(Vec::new());
    };

    let staged_entries = tree::list(&staged).at("list", &staged)?.into_iter();
    let staged_names = staged_entries.map(|(name, _)| name);
    let replaced_names = staged_names.filter(|name| live.join(name).exists());
    let removed_names = outside.removed_paths.iter().filter_map(|p| p.file_name());
    Ok(replaced_names
        .chain(removed_names.map(OsString::from))
        .map(|name| Path::new(EXTERNAL_DATABASES_FOLDER).join(name))
        .collect())
}

/// Stages a copy of the damaged database `live` in a new folder of `db-backups`, in which Codex keeps damaged databases
/// too. Returns the path of the new folder, relative to the home.
fn stage_copy_of_damaged_database(
    live: &Path,
    stage: &Stage,
    now: &Timestamp,
) -> Result<PathBuf, RestoreError> {
    let second = now.timestamp();
    // The number avoids the folders of another restore in the same second and of a database with the same name.
    let mut numbered_folders =
        (1..).map(|number| Path::new(home::DB_BACKUPS).join(format!("sqlite-{second}-{number}")));

    let is_free = |name: &PathBuf| {
        let live_copy = stage.home().live.join(name);
        live_copy.symlink_metadata().is_err() && !stage.staged_path(name).exists()
    };
    // The numbers do not end, so one is free.
    let folder = numbered_folders.find(is_free).unwrap_or_default();

    for path in std::iter::once(live.to_path_buf()).chain(home::database_sidecars(live)) {
        if path.symlink_metadata().is_err() {
            continue;
        }
        let staged = stage.staged_path(&folder.join(path.file_name().unwrap_or_default()));
        atomic::create_unsynced_folder(atomic::parent_of(&staged))?;
        copy_entry(&path, &staged)?;
    }

    Ok(folder)
}

/// Copies a file, link or folder. Makes no hard link, because the exchange would take the new link for a write to the
/// live file.
fn copy_entry(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.symlink_metadata().at("inspect", from)?;

    if meta.is_file() {
        return links::copy_file(from, to);
    }
    if !meta.is_dir() {
        return links::link_or_copy_entry(from, &meta, to);
    }

    atomic::create_unsynced_folder(to)?;
    for (name, _) in tree::list(from).at("list", from)? {
        copy_entry(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
