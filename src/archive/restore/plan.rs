//! What a restore would write, remove and leave alone. Pure: from the archive's list and the
//! home's list.

use super::RestoreError;
use super::live::LiveFiles;
use super::rollouts::conversation_of;
use crate::archive::check::Below;
use crate::archive::entry_name::EntryName;
use crate::archive::manifest::OUTSIDE_DATABASES;
use crate::archive::metadata::Mode;
use crate::archive::name_table::NameSet;
use crate::archive::reader::{Archive, Listing};
use crate::archive::scope::Excludes;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::codex::rollout::ConversationFile;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// Which part of an archive is wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--only`: paths relative to the home, and what is below them.
    pub only: Vec<PathBuf>,
    /// `--session`: names of rollouts, see [`ConversationFile::name`].
    pub conversations: Vec<String>,
}

impl Selection {
    /// Whether it is less than everything.
    pub fn is_partial(&self) -> bool {
        !self.only.is_empty() || !self.conversations.is_empty()
    }

    fn wants(&self, path: &Path) -> bool {
        !self.is_partial()
            || self.only.iter().any(|p| path.starts_with(p))
            || ConversationFile::of(path).is_some_and(|c| self.conversations.contains(&c.name))
    }
}

/// Where an archive is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Into the Codex home.
    Home,
    /// Into a folder that nothing stands in.
    Elsewhere,
}

/// What would happen.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    /// Into what.
    pub target: Target,
    /// Files of the archive that are put back; auth.json is decided apart.
    pub writes: NameSet,
    /// Files among them where none stands now.
    pub added: NameSet,
    /// Files that go: captured kinds that the archive lacks, and what stands beside databases
    /// that are replaced.
    pub removed: NameSet,
    /// Whether the archive's login is part of what is wanted.
    pub wants_login: bool,
    /// Whether only a part of the archive is put back.
    pub partial: bool,
    /// Whether conversations that exist only here are kept.
    pub merge: bool,
    /// The bytes that are written.
    pub bytes: u64,
}

/// Decides. `live` is empty when the target is elsewhere; its names are kept where those of the
/// archive are.
///
/// # Errors
/// Nothing in the archive fits the selection.
pub fn plan_restore(
    archive: &Archive,
    target: Target,
    selection: &Selection,
    merge: bool,
    live: &LiveFiles,
) -> Result<RestorePlan, RestoreError> {
    let contents = archive.contents();
    if let Some(missing) = selection.only.iter().find(|p| !holds(contents, p)) {
        return Err(RestoreError::NotFound(missing.display().to_string()));
    }
    let standing = &live.names;
    let manifest = archive.manifest();
    let links = contents.links.iter().map(|l| (l.path.clone(), 0));
    let files = contents.files.iter().map(|f| (f.path, f.size));
    let none = || NameSet::sharing(contents.files.names());
    let mut plan = RestorePlan {
        target,
        writes: none(),
        added: none(),
        removed: none(),
        wants_login: false,
        partial: selection.is_partial(),
        merge,
        bytes: 0,
    };
    for (name, size) in files.chain(links) {
        let path = name.as_path();
        let kind = kind_of(path);
        if !selection.wants(path) {
            continue;
        }
        match kind {
            HomeEntryKind::Auth => {
                plan.wants_login = true;
                plan.bytes = plan.bytes.saturating_add(size);
                continue;
            }
            // Bound to one installation, or the user's own original: put back only where there is
            // none.
            HomeEntryKind::InstallationId | HomeEntryKind::LegacyAuth
                if standing.contains(path) =>
            {
                continue;
            }
            // Named by foreign archives alone; a `-wal` there is folded into its database.
            HomeEntryKind::Transient if !name.is_own() => continue,
            _ => {}
        }
        plan.bytes = plan.bytes.saturating_add(size);
        let is_sidecar = kind == HomeEntryKind::DatabaseSidecar;
        if !is_sidecar && !name.is_own() && !standing.contains(path) {
            plan.added.insert(&name);
        }
        plan.writes.insert(&name);
    }
    if target == Target::Home {
        let globs = manifest
            .map(|m| m.excluded_globs.clone())
            .unwrap_or_default();
        // They compiled when the archive was made; ones that do not any more protect nothing.
        let excludes = Excludes::new(&globs).unwrap_or_default();
        let exact = !plan.partial && !merge && manifest.is_none_or(|m| !m.partial);
        let undone: HashSet<&Path> = manifest
            .iter()
            .flat_map(|m| &m.undo_removes)
            .map(EntryName::as_path)
            .collect();
        let skipped: HashSet<&Path> = manifest
            .iter()
            .flat_map(|m| &m.skipped)
            .map(EntryName::as_path)
            .collect();
        let mut kept = contents.files.name_set();
        kept.extend(contents.links.iter().map(|l| l.path.clone()));
        for name in standing.without(&kept).iter() {
            let (path, kind) = (name.as_path(), kind_of(name.as_path()));
            let lacking = exact
                && removes(archive.metadata().mode, kind)
                && !live.uncapturable.contains(path)
                && !path.ancestors().any(|above| skipped.contains(above))
                && !excludes.matches(path);
            let undo = !plan.partial
                && undone.contains(path)
                && !matches!(kind, HomeEntryKind::Auth | HomeEntryKind::LegacyAuth);
            if lacking || undo {
                plan.removed.insert(&name);
            }
        }
        if !merge {
            plan.remove_other_forms(standing);
        }
        plan.remove_what_is_in_the_way(standing);
        plan.remove_beside_databases(standing);
    }
    let is_empty = plan.writes.is_empty() && plan.removed.is_empty() && !plan.wants_login;
    if is_empty && selection.is_partial() {
        let what = selection.conversations.first().cloned();
        return Err(RestoreError::NotFound(
            what.unwrap_or_else(|| "anything".into()),
        ));
    }
    Ok(plan)
}

impl RestorePlan {
    /// One conversation, one file: what stands of a conversation that is put back under another
    /// name (archived or compressed since) goes.
    fn remove_other_forms(&mut self, standing: &NameSet) {
        let conversation = |name: &EntryName| Some(conversation_of(name.as_path())?.name);
        // By a hash first: the names of all would take more than everything else.
        let hashes = RandomState::new();
        let written: HashSet<u64> = self
            .writes
            .iter()
            .filter_map(|name| Some(hashes.hash_one(conversation(&name)?)))
            .collect();
        let mut other: HashMap<String, Vec<EntryName>> = HashMap::new();
        for name in standing.without(&self.writes).iter() {
            if let Some(of) = conversation(&name)
                && written.contains(&hashes.hash_one(&of))
            {
                other.entry(of).or_default().push(name);
            }
        }
        if other.is_empty() {
            return;
        }
        for name in self.writes.iter() {
            let same = conversation(&name).and_then(|of| other.remove(&of));
            self.removed.extend(same.into_iter().flatten());
        }
    }

    /// The `-wal`, `-shm` and `-journal` of every database that is replaced or removed.
    fn remove_beside_databases(&mut self, standing: &NameSet) {
        let changed = self.writes.iter().chain(self.removed.iter());
        let beside: Vec<_> = changed
            .filter(|name| kind_of(name.as_path()) == HomeEntryKind::Database)
            .flat_map(|name| home::database_sidecars(name.as_path()))
            .filter(|path| standing.contains(path))
            .filter_map(|path| EntryName::of_path(&path).ok())
            .collect();
        self.removed.extend(beside);
    }

    /// Live files where a folder of the archive has to be, and those in a folder where one of its
    /// files has to be: saved and removed like all that is replaced.
    fn remove_what_is_in_the_way(&mut self, standing: &NameSet) {
        let (mut in_file, mut in_live) = (Below::new(&self.writes), Below::new(standing));
        let mut gone: Vec<EntryName> = standing
            .iter()
            .filter(|name| in_file.has(name.as_path()))
            .collect();
        for name in self.writes.iter().filter(|n| in_live.has(n.as_path())) {
            let above = name.as_path().ancestors().skip(1);
            let standing = above.filter(|path| standing.contains(path));
            gone.extend(standing.filter_map(|path| EntryName::of_path(path).ok()));
        }
        self.removed.extend(gone);
    }

    /// Whether this live file will be replaced or removed.
    pub fn changes_file(&self, path: &Path) -> bool {
        self.removed.contains(path) || (self.writes.contains(path) && !self.added.contains(path))
    }

    /// Whether something at `folder` or below it is written or removed.
    pub fn changes_below(&self, folder: &Path) -> bool {
        let mut changed = self.writes.iter().chain(self.removed.iter());
        changed.any(|name| name.as_path().starts_with(folder))
    }

    /// The live files that will be replaced or removed.
    pub fn changes(&self) -> NameSet {
        let mut changes = self.writes.without(&self.added);
        changes.extend(self.removed.iter());
        changes
    }

    /// Whether a database that lay outside the archived home is put back.
    pub fn has_outside_databases(&self) -> bool {
        let mut written = self.writes.iter();
        written.any(|n| n.as_path().starts_with(OUTSIDE_DATABASES))
    }
}

/// Whether a file of this kind goes when an archive of this mode lacks it.
fn removes(mode: Mode, kind: HomeEntryKind) -> bool {
    match kind {
        // Never by absence: the login has rules of its own, the id stays, the rest is the user's
        // or not known.
        HomeEntryKind::Auth
        | HomeEntryKind::InstallationId
        | HomeEntryKind::LegacyAuth
        | HomeEntryKind::Unknown
        | HomeEntryKind::Tmp
        | HomeEntryKind::Transient
        | HomeEntryKind::DatabaseSidecar => false,
        _ => match mode {
            Mode::Full => true,
            Mode::Auth => kind.is_account(),
            Mode::Sessions => kind.is_conversation(),
        },
    }
}

fn holds(contents: Listing<'_>, path: &Path) -> bool {
    let folders = contents.folders.iter().map(|f| &f.path);
    let mut others = folders.chain(contents.links.iter().map(|l| &l.path));
    others.any(|name| name.as_path().starts_with(path))
        || contents
            .files
            .iter()
            .any(|file| file.path.as_path().starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_removes_captured_kinds_and_nothing_else() {
        for (path, full, auth, sessions) in [
            ("sessions/2026/11/01/r.jsonl", true, false, true),
            ("archived_sessions/r.jsonl", true, false, true),
            ("state_5.sqlite", true, false, true),
            ("skills/mine/SKILL.md", true, false, false),
            ("config.toml", true, true, false),
            ("rules/x.rules", true, true, false),
            ("AGENTS.md", true, false, false),
            ("auth.json", false, false, false),
            ("installation_id", false, false, false),
            ("21apr_a@b.c_auth.json", false, false, false),
            ("notes.txt", false, false, false),
            ("skills/.system/x", false, false, false),
            ("packages/x", false, false, false),
            ("tmp/x", false, false, false),
        ] {
            let kind = kind_of(Path::new(path));
            assert_eq!(removes(Mode::Full, kind), full, "{path}");
            assert_eq!(removes(Mode::Auth, kind), auth, "{path}");
            assert_eq!(removes(Mode::Sessions, kind), sessions, "{path}");
        }
    }
}
