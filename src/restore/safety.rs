//! The safety backup: an archive of everything that a restore will change.

use super::RestoreError;
use super::apply::RestoreRun;
use super::login::AuthJsonState;
use super::plan::RestoreTarget;
use crate::archive::ArchiveError;
use crate::archive::capture::{self, CaptureOptions};
use crate::archive::entry_name::EntryName;
use crate::archive::format::Compression;
use crate::archive::manifest::EXTERNAL_DATABASES_FOLDER;
use crate::archive::metadata::{BackupMode, Metadata, SAFETY_LABEL};
use crate::archive::names;
use crate::archive::path_note::PathNote;
use crate::archive::publish::{self, PublishedArchive};
use crate::archive::reuse::{PreviousArchive, ReuseOptions, VerifyReused};
use crate::archive::scope::{CaptureScope, HomeSubset};
use crate::codex::database;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{IoContext, Progress, atomic, tree};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

impl RestoreRun<'_> {
    /// Makes the safety backup. `None` if the request does not want one or nothing live changes.
    pub(super) fn safety_backup(
        &mut self,
        progress: &dyn Progress,
    ) -> Result<Option<PublishedArchive>, RestoreError> {
        let changes_none =
            self.plan.removed.is_empty() && self.plan.writes.without(&self.plan.added).is_empty();
        let replaces_login = self.plan.wants_login && self.folder.join(home::AUTH_JSON).exists();
        let replaced_outside = self.replaced_outside()?;
        let nothing_changes = changes_none && !replaces_login && replaced_outside.is_empty();
        if !self.request.safety_backup
            || self.plan.target == RestoreTarget::Elsewhere
            || nothing_changes
        {
            return Ok(None);
        }
        let archived = self.request.archive.metadata();
        let mut scope = CaptureScope::new(&self.folder, archived.mode);
        scope.include_tmp = self
            .plan
            .writes
            .iter()
            .any(|n| kind_of(n.as_path()) == HomeEntryKind::Tmp);
        scope.sqlite_home = self.outside.as_ref().map(|(folder, _)| folder.clone());
        scope.exclude_manager_home(self.request.manager_home);
        scope.undo_removes = self.plan.added.sorted();
        if self.plan.partial
            || self.plan.merge
            || self.request.archive.manifest().is_some_and(|m| m.partial)
        {
            scope.mode = BackupMode::Full;
            let mut only = self.plan.changes();
            let login = replaces_login.then(|| PathBuf::from(home::AUTH_JSON));
            let others = login.into_iter().chain(replaced_outside.iter().cloned());
            only.extend(others.filter_map(|path| EntryName::of_path(&path).ok()));
            scope.only = Some(HomeSubset::new(only));
        }
        let manager = self.request.manager_home;
        let (backups, tmp) = (manager.join("backups"), manager.join("tmp"));
        atomic::create_private_folder(&backups)?;
        let live = AuthJsonState::read(&self.folder.join(home::AUTH_JSON))?;
        let mut metadata = Metadata {
            created_at: self.request.now,
            source_codex_home: self.request.folder.display().to_string(),
            mode: scope.mode,
            label: Some(SAFETY_LABEL.into()),
            inference_basis: "time of creation: made before a restore".into(),
            ..Metadata::default()
        };
        let mut label = names::SIGNED_OUT.to_owned();
        if let Some(login) = live.login() {
            metadata.set_identity(&login.identity);
            metadata.plan.clone_from(&login.plan);
            label = login.identity.email.to_string();
        }
        // The archive that is restored often holds most of the files that it replaces.
        let options = ReuseOptions {
            verify: VerifyReused::All,
            rehash: false,
            compression: Compression::Fast,
        };
        let source = PreviousArchive::borrow(self.request.archive, options);
        let mut options = CaptureOptions {
            backups: &backups,
            tmp: &tmp,
            compression: Compression::Fast,
            source: source.as_ref(),
        };
        let captured = match capture::capture(&scope, &options, metadata.clone(), progress) {
            // For a partial restore, the other part of the archive may be damaged.
            Err(ArchiveError::Damaged { archive, .. })
                if archive == self.request.archive.path() =>
            {
                options.source = None;
                capture::capture(&scope, &options, metadata, progress)?
            }
            captured => captured?,
        };
        let mut unsaved = captured.skipped;
        let damaged = self.split_damaged(&mut unsaved, &captured.unreadable, &replaced_outside);
        // An unreadable login is kept in quarantine, not in an archive.
        unsaved.retain(|s| {
            s.path != Path::new(home::AUTH_JSON)
                && (replaced_outside
                    .iter()
                    .any(|path| path.starts_with(&s.path))
                    || self.would_be_lost(&s.path))
        });
        if !unsaved.is_empty() {
            // The files that stay in a folder must be linked, so the folder must be readable in any
            // case.
            let can_skip_backup = !unsaved.iter().any(|s| self.is_folder(&s.path));
            return Err(RestoreError::BackupIncomplete {
                items: unsaved,
                can_skip_backup,
            });
        }
        self.keep_damaged_databases(&damaged)?;
        let stem = names::stem(&self.request.now, &label);
        let published = publish::publish(
            captured.file,
            &captured.packed,
            &stem,
            &backups,
            &manager.join(".lock"),
        )?;
        Ok(Some(published))
    }

    /// Moves damaged databases, not merely unreadable ones, out of `unsaved` and returns them. Adds
    /// files outside of the home that are not databases, because the archive cannot include them.
    fn split_damaged(
        &self,
        unsaved: &mut Vec<PathNote>,
        unreadable: &HashSet<PathBuf>,
        replaced_outside: &[PathBuf],
    ) -> HashSet<PathBuf> {
        let mut damaged: HashSet<PathBuf> = unsaved
            .extract_if(.., |s| {
                (kind_of(&s.path) == HomeEntryKind::Database || replaced_outside.contains(&s.path))
                    && !self.is_folder(&s.path)
                    && !unreadable.contains(&s.path)
            })
            .map(|s| s.path)
            .collect();
        // Outside of the home, files that are not databases are not archived.
        let is_not_sqlite = |name: &&PathBuf| {
            let path = self.live_path(name);
            path.metadata().is_ok_and(|m| m.len() > 0)
                && database::begins_as_sqlite(&path).is_ok_and(|begins| !begins)
        };
        damaged.extend(replaced_outside.iter().filter(is_not_sqlite).cloned());
        damaged
    }

    /// Returns true if the restore would remove anything at `path`, which is not in the safety
    /// backup.
    fn would_be_lost(&self, path: &Path) -> bool {
        let changed_below = || {
            self.plan
                .changes()
                .iter()
                .any(|n| n.as_path().starts_with(path))
        };
        self.plan.changes_file(path) || (self.is_folder(path) && changed_below())
    }

    fn is_folder(&self, relative: &Path) -> bool {
        let live_path = self.folder.join(relative);
        live_path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    }

    /// Returns the databases outside of the home that are replaced, by their names in an archive.
    fn replaced_outside(&self) -> Result<Vec<PathBuf>, RestoreError> {
        let Some((folder, staging)) = &self.outside else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(staging).at("list", staging)? {
            let name = entry.at("list", staging)?.file_name();
            if folder.join(&name).exists() {
                names.push(Path::new(EXTERNAL_DATABASES_FOLDER).join(name));
            }
        }
        let removed = self.outside_removed.iter().filter_map(|p| p.file_name());
        names.extend(removed.map(|name| Path::new(EXTERNAL_DATABASES_FOLDER).join(name)));
        Ok(names)
    }

    /// Returns the live path of a file by its name in an archive.
    fn live_path(&self, name: &Path) -> PathBuf {
        match (&self.outside, name.strip_prefix(EXTERNAL_DATABASES_FOLDER)) {
            (Some((folder, _)), Ok(name)) => folder.join(name),
            _ => self.folder.join(name),
        }
    }

    /// Keeps each damaged live database under `db-backups`, where Codex keeps its own, so that the
    /// restore discards nothing.
    fn keep_damaged_databases(&mut self, damaged: &HashSet<PathBuf>) -> Result<(), RestoreError> {
        for relative in damaged {
            let live = self.live_path(relative);
            // Odd numbers for the home, even ones for databases outside of it: both may have a
            // database of the same name.
            let first = if relative.starts_with(EXTERNAL_DATABASES_FOLDER) {
                2
            } else {
                1
            };
            let second = self.request.now.timestamp();
            // The number also avoids the folder of another restore in the same second.
            let names = (first..).step_by(2).map(|n| format!("sqlite-{second}-{n}"));
            let is_free = |name: &String| {
                let place = self.folder.join(home::DB_BACKUPS).join(name);
                place.symlink_metadata().is_err()
            };
            let mut free = names.filter(is_free);
            let folder = free.next().unwrap_or_default();
            for live_path in std::iter::once(live.clone()).chain(home::database_sidecars(&live)) {
                if live_path.symlink_metadata().is_err() {
                    continue;
                }
                let kept = Path::new(home::DB_BACKUPS)
                    .join(&folder)
                    .join(live_path.file_name().unwrap_or_default());
                let staged = self.stage.staged_path(&kept);
                atomic::create_private_folder(atomic::parent_of(&staged))?;
                tree::share(&live_path, &staged)?;
            }
            self.notes.push(format!(
                "{} is damaged and not in the safety backup; it was kept in {}/{folder}",
                live.display(),
                home::DB_BACKUPS,
            ));
        }
        Ok(())
    }
}
