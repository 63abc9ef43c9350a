//! The safety backup: an archive of everything that a restore will change.

use super::RestoreError;
use super::apply::Work;
use super::login::Standing;
use super::plan::Target;
use crate::archive::ArchiveError;
use crate::archive::capture::{self, Workplace};
use crate::archive::entry_name::EntryName;
use crate::archive::format::Compression;
use crate::archive::manifest::OUTSIDE_DATABASES;
use crate::archive::metadata::{Metadata, Mode};
use crate::archive::names;
use crate::archive::publish::{self, Published};
use crate::archive::reuse::{ReuseOptions, Source, VerifyReused};
use crate::archive::scan::LeftOut;
use crate::archive::scope::{CaptureScope, Part};
use crate::codex::database;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{IoContext, Progress, atomic, tree};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The label of archives that are made before a restore.
pub const SAFETY_LABEL: &str = "safety";

impl Work<'_> {
    /// Archives what will change.
    pub(super) fn safety_backup(
        &mut self,
        progress: &dyn Progress,
    ) -> Result<Option<Published>, RestoreError> {
        let changes_none =
            self.plan.removed.is_empty() && self.plan.writes.without(&self.plan.added).is_empty();
        let replaces_login = self.plan.wants_login && self.folder.join(home::AUTH_JSON).exists();
        let replaced_outside = self.replaced_outside()?;
        let nothing = changes_none && !replaces_login && replaced_outside.is_empty();
        if !self.request.safety_backup || self.plan.target == Target::Elsewhere || nothing {
            self.keep_damaged_databases(&HashSet::new())?;
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
        scope.set_manager_home(self.request.manager_home);
        scope.undo_removes = self.plan.added.sorted();
        if self.plan.partial
            || self.plan.merge
            || self.request.archive.manifest().is_some_and(|m| m.partial)
        {
            scope.mode = Mode::Full;
            let mut only = self.plan.changes();
            let login = replaces_login.then(|| PathBuf::from(home::AUTH_JSON));
            let others = login.into_iter().chain(replaced_outside.iter().cloned());
            only.extend(others.filter_map(|path| EntryName::of_path(&path).ok()));
            scope.only = Some(Part::of(only));
        }
        let manager = self.request.manager_home;
        let (backups, tmp) = (manager.join("backups"), manager.join("tmp"));
        atomic::create_private_folder(&backups)?;
        let live = Standing::read(&self.folder.join(home::AUTH_JSON))?;
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
        // The archive that is being put back often holds most of what it replaces.
        let options = ReuseOptions {
            verify: VerifyReused::All,
            rehash: false,
            compression: Compression::Fast,
        };
        let source = Source::of(self.request.archive, options);
        let mut workplace = Workplace {
            backups: &backups,
            tmp: &tmp,
            compression: Compression::Fast,
            source: source.as_ref(),
        };
        let captured = match capture::capture(&scope, &workplace, metadata.clone(), progress) {
            // Of an archive that is put back in part, the other part may be damaged.
            Err(ArchiveError::Damaged { archive, .. })
                if archive == self.request.archive.path() =>
            {
                workplace.source = None;
                capture::capture(&scope, &workplace, metadata, progress)?
            }
            captured => captured?,
        };
        let mut unsaved = captured.skipped;
        let damaged = self.damaged(&mut unsaved, &captured.unreadable, &replaced_outside);
        // An unreadable login is kept beside the profiles, apart from archives.
        unsaved.retain(|s| {
            s.path != Path::new(home::AUTH_JSON)
                && (replaced_outside
                    .iter()
                    .any(|path| path.starts_with(&s.path))
                    || self.would_be_lost(&s.path))
        });
        if !unsaved.is_empty() {
            // What stays in a folder has to be carried over, and for that be read as well.
            let may_go_without = !unsaved.iter().any(|s| self.is_folder(&s.path));
            return Err(RestoreError::Unsaved {
                items: unsaved,
                may_go_without,
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

    /// Takes the databases that are damaged, not only unreadable, out of what is not in the safety backup.
    fn damaged(
        &self,
        unsaved: &mut Vec<LeftOut>,
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
        // What is no database is not archived from there.
        let is_foreign = |name: &&PathBuf| {
            let path = self.live_place(name);
            path.metadata().is_ok_and(|m| m.len() > 0)
                && database::begins_as_sqlite(&path).is_ok_and(|begins| !begins)
        };
        damaged.extend(replaced_outside.iter().filter(is_foreign).cloned());
        damaged
    }

    /// Whether something of what stands at `path` and is not in the safety backup would be gone.
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
        let here = self.folder.join(relative);
        here.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    }

    /// The databases outside the home that are replaced, by their names in an archive.
    fn replaced_outside(&self) -> Result<Vec<PathBuf>, RestoreError> {
        let Some((folder, staging)) = &self.outside else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(staging).at("list", staging)? {
            let name = entry.at("list", staging)?.file_name();
            if folder.join(&name).exists() {
                names.push(Path::new(OUTSIDE_DATABASES).join(name));
            }
        }
        let removed = self.outside_removed.iter().filter_map(|p| p.file_name());
        names.extend(removed.map(|name| Path::new(OUTSIDE_DATABASES).join(name)));
        Ok(names)
    }

    /// Where the live file with this name in an archive is.
    fn live_place(&self, name: &Path) -> PathBuf {
        match (&self.outside, name.strip_prefix(OUTSIDE_DATABASES)) {
            (Some((folder, _)), Ok(name)) => folder.join(name),
            _ => self.folder.join(name),
        }
    }

    /// A live database that is too damaged to be archived gets a name where Codex puts such ones, so
    /// that nothing is lost by replacing it.
    fn keep_damaged_databases(&mut self, damaged: &HashSet<PathBuf>) -> Result<(), RestoreError> {
        for relative in damaged {
            let live = self.live_place(relative);
            // One of the home may have the name of one outside.
            let first = if relative.starts_with(OUTSIDE_DATABASES) {
                2
            } else {
                1
            };
            let second = self.request.now.timestamp();
            // Nor must what another restore has kept in the same second be replaced.
            let names = (first..).step_by(2).map(|n| format!("sqlite-{second}-{n}"));
            let is_free = |name: &String| {
                let place = self.folder.join(home::DB_BACKUPS).join(name);
                place.symlink_metadata().is_err()
            };
            let mut free = names.filter(is_free);
            let folder = free.next().unwrap_or_default();
            for here in std::iter::once(live.clone()).chain(home::database_sidecars(&live)) {
                if here.symlink_metadata().is_err() {
                    continue;
                }
                let kept = Path::new(home::DB_BACKUPS)
                    .join(&folder)
                    .join(here.file_name().unwrap_or_default());
                let staged = self.stage.place(&kept);
                atomic::create_private_folder(atomic::parent_of(&staged))?;
                tree::share(&here, &staged)?;
            }
            self.notes.push(format!(
                "{} could not be archived; it was kept in {}/{folder}",
                live.display(),
                home::DB_BACKUPS,
            ));
        }
        Ok(())
    }
}
