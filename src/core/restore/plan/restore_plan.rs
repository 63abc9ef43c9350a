//! Decides which files a restore writes, removes and keeps, by comparing the list of the archive with the list of the
//! home. Writes no files, and reads only the headers of live databases and of their logs.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use crate::accounts::AuthPolicy;
use crate::archive::{
    ArchiveReader, BackupMode, EXTERNAL_DATABASES_FOLDER, EntryName, Excludes, NameSet,
    parse_rollout_name,
};
use crate::codex::{HomeEntryKind, database, home, kind_of};
use crate::restore::error::RestoreError;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// The changes that a restore would make.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    pub target: RestoreTarget,
    /// The files and links of the archive that are written, without auth.json; see [`Self::wants_login`]. The settle
    /// phase adds the databases and the session index of the home that it changes.
    pub writes: NameSet,
    /// The files among `writes` that the home does not have.
    pub added: NameSet,
    /// The live files that are removed, such as files that the home did not have when the archive was made. Also the
    /// `-wal`, `-shm` and `-journal` of replaced or removed databases, even if they do not exist.
    pub removed: NameSet,
    /// The sidecar files of databases among `removed`.
    removed_sidecars: NameSet,
    /// True if the archive's login is part of the selection.
    pub wants_login: bool,
    /// True if only a selection of the archive is restored.
    pub partial: bool,
    /// True if conversations that only the home has are kept (`--merge`).
    pub merge: bool,
}

/// Computes the plan of `request`. `live` has to store its names in the name table of the archive; for
/// [`RestoreTarget::Elsewhere`] it is empty.
///
/// # Errors
/// With `--only`: the archive lacks one of the paths, or nothing would be changed.
pub(crate) fn plan_restore(
    request: &RestoreRequest<'_>,
    live: &LiveFiles,
) -> Result<RestorePlan, RestoreError> {
    let (archive, selection, merge) = (request.archive, &request.selection, request.merge);
    let contents = archive.contents();
    if let Some(missing) = selection.only.iter().find(|p| !contents.has_path(p)) {
        return Err(RestoreError::NotFound {
            name: missing.display().to_string(),
            archive: archive.path().to_path_buf(),
        });
    }

    let empty_set = || NameSet::with_name_table(contents.files.name_table());
    let mut plan = RestorePlan {
        target: request.target,
        writes: empty_set(),
        added: empty_set(),
        removed: empty_set(),
        removed_sidecars: empty_set(),
        wants_login: false,
        partial: selection.is_partial(),
        merge,
    };

    plan.add_archived_entries(request, &live.names);
    if request.target == RestoreTarget::Home {
        plan.plan_removal_of_absent_files(archive, live);
        // A merge compares both files of a rollout after the archive is unpacked, and keeps the longer one.
        if !merge {
            plan.plan_removal_of_other_rollout_files(&live.names);
        }
        plan.plan_removal_of_path_conflicts(&live.names);
        plan.plan_removal_of_sidecars(&request.folder, &live.names);
    }

    let is_empty = plan.writes.is_empty() && plan.removed.is_empty() && !plan.wants_login;
    match selection.only.first() {
        Some(path) if is_empty => Err(RestoreError::NothingToRestore(path.clone())),
        _ => Ok(plan),
    }
}

impl RestorePlan {
    /// Adds the selected files and links of the archive, without its logins if the request leaves them out.
    fn add_archived_entries(&mut self, request: &RestoreRequest<'_>, live_names: &NameSet) {
        let contents = request.archive.contents();
        let links = contents.links.iter().map(|l| l.path.clone());
        let files = contents.files.iter().map(|f| f.path);

        for name in files.chain(links) {
            let path = name.as_path();
            let kind = kind_of(path);
            let is_live = live_names.contains(path);
            let is_skipped_login = request.auth == AuthPolicy::Skip && kind.is_login();
            let is_wanted = request.selection.wants_of(&contents.files, path) && !is_skipped_login;
            if !is_wanted || !may_be_restored(kind, &name, is_live) {
                continue;
            }

            if kind == HomeEntryKind::Auth {
                self.wants_login = true;
                continue;
            }

            // An archived `-wal` belongs to the archived database. It is applied before the exchange and never
            // goes live itself.
            let is_sidecar = kind == HomeEntryKind::DatabaseSidecar;
            if !is_sidecar && !name.is_manager_name() && !is_live {
                self.added.insert(&name);
            }
            self.writes.insert(&name);
        }
    }

    /// Plans the removal of live files that the archive would have if they had existed when it was made. For a safety
    /// backup, also plans the removal of the files that its restore added.
    fn plan_removal_of_absent_files(&mut self, archive: &ArchiveReader, live: &LiveFiles) {
        let contents = archive.contents();

        // If a glob of the archive is no longer valid, the excluded files are unknown, so no absent file is removed.
        let excludes = Excludes::compile(&contents.excluded_globs).ok();

        let restores_all = !self.partial && !self.merge;
        // A partial archive lacks files on purpose, so its gaps prove nothing.
        let removes_absent = restores_all && !contents.partial;

        let [undo_removes, skipped] = [&contents.undo_removes, &contents.skipped]
            .map(|names| names.iter().map(EntryName::as_path).collect::<HashSet<_>>());

        let mut archived = contents.files.name_set();
        archived.extend(contents.links.iter().map(|l| l.path.clone()));

        for name in live.names.without(&archived).iter() {
            let (path, kind) = (name.as_path(), kind_of(name.as_path()));
            let was_absent = removes_absent
                && removes_if_absent(archive.metadata().mode, kind)
                && !live.not_archivable.contains(path)
                && !path.ancestors().any(|above| skipped.contains(above))
                && excludes.as_ref().is_some_and(|globs| !globs.matches(path));

            let was_added_by_restore =
                restores_all && undo_removes.contains(path) && !kind.is_login();

            if was_absent || was_added_by_restore {
                self.removed.insert(&name);
            }
        }
    }

    /// Plans the removal of live files that are other files of the written rollouts. Codex has archived, unarchived or
    /// compressed such a rollout since the backup, and a rollout must not exist twice.
    fn plan_removal_of_other_rollout_files(&mut self, live_names: &NameSet) {
        let rollout_name = |name: &EntryName| Some(parse_rollout_name(name.as_path())?.name);

        // Compares hashes first, because a set of all names would need more memory than the rest of the plan.
        let hashes = RandomState::new();
        let written_hashes: HashSet<u64> = self
            .writes
            .iter()
            .filter_map(|name| Some(hashes.hash_one(rollout_name(&name)?)))
            .collect();

        // The live files that the plan does not write, by the name of the rollout. A written rollout has the same hash,
        // and so probably the same name.
        let mut candidates: HashMap<String, Vec<EntryName>> = HashMap::new();
        for name in live_names.without(&self.writes).iter() {
            if let Some(rollout) = rollout_name(&name)
                && written_hashes.contains(&hashes.hash_one(&rollout))
            {
                candidates.entry(rollout).or_default().push(name);
            }
        }

        if candidates.is_empty() {
            return;
        }

        // Two rollouts can have one hash, so the names decide.
        for name in self.writes.iter() {
            let rollout = rollout_name(&name);
            let other_files = rollout.and_then(|rollout| candidates.remove(&rollout));
            self.removed.extend(other_files.unwrap_or_default());
        }
    }

    /// Plans the removal of the `-wal`, `-shm` and `-journal` of every database that is replaced or removed. Lists them
    /// even if they do not exist, because SQLite may create them later. Other programs than Codex choose the names of
    /// their databases, so the content of the live file decides.
    fn plan_removal_of_sidecars(&mut self, home: &Path, live_names: &NameSet) {
        let changed = self.writes.iter().chain(self.removed.iter());
        let mut sidecars = self.find_logs_of_lost_databases(home, live_names);
        for name in changed.filter(|name| !name.is_manager_name()) {
            let path = name.as_path();
            let is_of_codex = kind_of(path) == HomeEntryKind::Database;
            let is_live_database = || {
                let may_be = live_names.contains(path) && home::may_be_database(path);
                may_be && database::may_be_sqlite(&home.join(path))
            };
            if !is_of_codex && !is_live_database() {
                continue;
            }

            // Beside a new database, the home can only have sidecars of an earlier one.
            let is_new = self.added.contains(path);
            let paths = home::database_sidecars(path).into_iter();
            let removed = paths.filter(|path| {
                // The log in an archive of an older version belongs to the database in it.
                let belongs_to_archived = !is_of_codex && self.writes.contains(path);
                !belongs_to_archived && (!is_new || live_names.contains(path))
            });
            sidecars.extend(removed.filter_map(|path| EntryName::from_path(&path).ok()));
        }
        self.remove_sidecars(sidecars);
    }

    /// Returns the live logs beside files that are replaced or removed. The database may be lost or damaged while its
    /// log is intact, so the content of the log decides.
    fn find_logs_of_lost_databases(&self, home: &Path, live_names: &NameSet) -> Vec<EntryName> {
        let is_stale = |name: &EntryName| {
            let log = name.as_path();
            home::database_of_sidecar(log).is_some_and(|database| {
                (self.writes.contains(&database) || self.removed.contains(&database))
                    && !self.writes.contains(log)
                    && database::begins_like_log(&home.join(log))
            })
        };
        live_names.iter().filter(is_stale).collect()
    }

    /// Plans the removal of live files where the archive has a folder, and of live files below a path where the archive
    /// has a file.
    fn plan_removal_of_path_conflicts(&mut self, live_names: &NameSet) {
        let is_below_written = |name: &EntryName| self.writes.contains_ancestor_of(name.as_path());
        let mut conflicting: Vec<_> = live_names.iter().filter(is_below_written).collect();

        for name in self.writes.iter() {
            let above = name.as_path().ancestors().skip(1);
            let live_files_above = above.filter(|path| live_names.contains(path));
            conflicting.extend(live_files_above.filter_map(|path| EntryName::from_path(path).ok()));
        }

        self.removed.extend(conflicting);
    }

    /// Adds the removal of the `-wal`, `-shm` and `-journal` of a database in the home, whether they exist or not.
    pub(crate) fn remove_sidecars_of(&mut self, database: &EntryName) {
        let sidecars = home::database_sidecars(database.as_path()).into_iter();
        self.remove_sidecars(
            sidecars
                .filter_map(|path| EntryName::from_path(&path).ok())
                .collect(),
        );
    }

    fn remove_sidecars(&mut self, sidecars: Vec<EntryName>) {
        self.removed.extend(sidecars.iter().cloned());
        self.removed_sidecars.extend(sidecars);
    }

    /// Returns the removed files without the sidecar files of databases, because their databases are replaced.
    pub fn removed_files(&self) -> NameSet {
        self.removed.without(&self.removed_sidecars)
    }

    /// Takes a file out of the files that are written.
    pub(crate) fn drop_write(&mut self, name: &EntryName) {
        self.writes.remove(name.as_path());
        self.added.remove(name.as_path());
    }

    /// Returns true if anything at `folder` or below it is written or removed.
    pub(crate) fn changes_below(&self, folder: &Path) -> bool {
        let mut changed = self.writes.iter().chain(self.removed.iter());
        changed.any(|name| name.as_path().starts_with(folder))
    }

    pub fn replaced_and_removed(&self) -> NameSet {
        let mut names = self.writes.without(&self.added);
        names.extend(self.removed.iter());
        names
    }

    /// Returns true if the plan writes a database that was outside of the archived home.
    pub(crate) fn has_outside_databases(&self) -> bool {
        let mut written = self.writes.iter();
        written.any(|n| n.as_path().starts_with(EXTERNAL_DATABASES_FOLDER))
    }
}

/// Returns true if an archived entry of this kind is restored. `is_live` is true if the home has a file of its name.
fn may_be_restored(kind: HomeEntryKind, name: &EntryName, is_live: bool) -> bool {
    match kind {
        // Restored only if the home has no such file. The id is bound to one installation, a legacy login is the
        // user's own original, and a session that was renewed after the backup has spent the archived one.
        HomeEntryKind::InstallationId
        | HomeEntryKind::LegacyAuth
        | HomeEntryKind::AccountSessions => !is_live,
        // The databases that were outside of the archived home have names of the manager. Other transient files are
        // only in archives of the Python tool.
        HomeEntryKind::Transient => name.is_manager_name(),
        _ => true,
    }
}

/// Returns true if a live file of this kind is removed when an archive of this mode lacks it.
fn removes_if_absent(mode: BackupMode, kind: HomeEntryKind) -> bool {
    match kind {
        // Never removed because of absence: the login has its own rules, the id stays, the rest
        // belongs to the user or is unknown.
        HomeEntryKind::Auth
        | HomeEntryKind::AccountSessions
        | HomeEntryKind::InstallationId
        | HomeEntryKind::LegacyAuth
        | HomeEntryKind::Unknown
        | HomeEntryKind::Tmp
        | HomeEntryKind::Worktrees
        | HomeEntryKind::Transient
        | HomeEntryKind::DatabaseSidecar => false,
        _ => mode.includes(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_from_the_archive_removes_only_captured_kinds() {
        for (path, full, auth, sessions) in [
            ("sessions/2026/11/01/r.jsonl", true, false, true),
            ("archived_sessions/r.jsonl", true, false, true),
            ("state_5.sqlite", true, false, true),
            ("skills/mine/SKILL.md", true, false, false),
            ("config.toml", true, true, false),
            ("rules/x.rules", true, true, false),
            ("AGENTS.md", true, false, false),
            ("auth.json", false, false, false),
            ("account-sessions/1/auth.json", false, false, false),
            ("installation_id", false, false, false),
            ("21apr_a@b.c_auth.json", false, false, false),
            ("notes.txt", false, false, false),
            ("skills/.system/x", false, false, false),
            ("packages/x", false, false, false),
            ("tmp/x", false, false, false),
            ("worktrees/a/x", false, false, false),
        ] {
            let kind = kind_of(Path::new(path));
            assert_eq!(removes_if_absent(BackupMode::Full, kind), full, "{path}");
            assert_eq!(removes_if_absent(BackupMode::Auth, kind), auth, "{path}");
            assert_eq!(
                removes_if_absent(BackupMode::Sessions, kind),
                sessions,
                "{path}"
            );
        }
    }
}
