//! The plan of a sync: which file is copied, merged, renamed or removed, and why. Planning only reads;
//! [`apply`](crate::sync::apply) then performs exactly the steps that were shown.
//!
//! [`plan`] runs these phases in this order:
//!
//! 1. **Scan.** Checks that the cloud folder may be used ([`check_cloud`], `check_own_manifest`) and lists both sides
//!    ([`scan`](crate::sync::scan)). `stat_cache` finds remote files that changed although size and time did not.
//!    `grouping` puts all files of one key into a `FileGroup`: a conversation has one key in all its forms (`.jsonl`,
//!    `.jsonl.zst`, archived), other files have their path. `links` blocks groups behind a link that is not followed.
//! 2. **Guard against a wrong folder.** `mass_change_guard::refuse_unmounted` fails if the cloud folder lacks so many
//!    known files that it is probably not mounted. `undelivered` lists the versions of other machines' manifests that
//!    the cloud client has not delivered.
//! 3. **Facts and decision, for each group.** `versions` checks that a remote file arrived completely and compares each
//!    side with the last sync. `deletions` and `ancestry` correct these facts: deletions of other machines, and which
//!    version of a plain file descends from the other. [`decide`](crate::sync::decide) is the one table that maps facts
//!    to a decision.
//! 4. **Steps.** `conversation` and `plain` turn the decision into a [`SyncStep`] with its [`Op`]s, a [`Conflict`], or
//!    an entry of one of the lists of [`SyncPlan`]. `conflict_reasons` words the conflicts. `pending_conflicts` plans
//!    the conflict copies after all conversations.
//! 5. **Guards over all steps.** `mass_change_guard::hold_mass_deletions` holds back many deletions at once.
//!    `incomplete_files` names the machine that has the newest version of each file that the sync waits for.
//!    `secret_filter` drops steps that would copy a login. `path_conflicts` drops steps whose target is blocked by a
//!    folder. Finally the steps are sorted, deletions first.
//!
//! A file that cannot be planned (unreadable, incomplete, ambiguous) is listed in `skipped` or `waiting` and does not
//! stop the others. Only a problem that makes all decisions unreliable is a [`PlanError`].

mod ancestry;
mod conflict_reasons;
mod conversation;
mod deletions;
mod grouping;
mod incomplete_files;
mod links;
mod mass_change_guard;
mod path_conflicts;
mod pending_conflicts;
mod plain;
mod secret_filter;
mod stat_cache;
mod steps;
mod undelivered;
mod versions;

use grouping::{FileGroup, display_path, key_of};
pub use steps::{
    CloudContents, Conflict, CopyOp, MergeTarget, ObservedFile, Op, Placement, StateUpdate,
    SyncAction, SyncPlan, SyncStep,
};
pub use undelivered::UndeliveredVersion;

use super::codexsync::{self, CodexSyncStateError};
use super::config::DecisionRules;
use super::config::{Compare, ConflictPolicy, DeletePolicy, SessionMode, SyncConfig};
use super::conflict_copies::ConflictCopies;
use super::identity;
use super::ledger::Ledger;
use super::line_merge;
use super::manager_folder;
use super::manifest::{self, ManifestEntry};
use super::remote_manifests::{self, RemoteManifests};
use super::rollouts;
use super::scan::{self, Side, SideListing};
use super::scope::{self, Scope};
use super::state::{Replica, StateDamage, StateError, SyncState};
use crate::io::IoError;
use crate::io::parallel;
use crate::io::quantity::pluralize;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use undelivered::UndeliveredFiles;

/// Errors that prevent a plan. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file or folder that all decisions depend on cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The state of the last sync cannot be used; see [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// The cloud folder does not exist.
    #[error("the cloud folder does not exist: {}", .0.display())]
    NoCloud(PathBuf),
    /// `.codex-manager`, or a folder in it, is a link: writing to it would leave the cloud folder.
    #[error("a link leads out of the cloud folder: {}", .0.display())]
    LinkInCloud(PathBuf),
    /// `.codex-manager`, or an entry that has to be a folder in it, is a file.
    #[error("not a folder: {}", .0.display())]
    NotAFolder(PathBuf),
    /// The state is unreadable and the cloud folder has no manifest, so nothing shows that it is mounted.
    #[error("the state of the last sync is damaged and the cloud folder contains no manifest; it seems unmounted or not fully downloaded: {}", .0.display())]
    NoManifest(PathBuf),
    /// The cloud folder lost its manifests, or all its content, after the plan was made.
    #[error("the cloud folder no longer contains what it did when the plan was made; it seems unmounted: {}", .0.display())]
    Unmounted(PathBuf),
    /// The Codex home does not exist, although the state of the last sync lists files in it.
    #[error("the Codex home does not exist, but did at the last sync: {}", .0.display())]
    NoCodexHome(PathBuf),
    /// The cloud folder lacks most known files, or any known file together with this machine's manifest.
    #[error("{missing} of {} {} missing in the cloud folder; it seems unmounted or not fully downloaded: {}", pluralize(*known, "file"), if *missing == 1 { "is" } else { "are" }, cloud.display())]
    MostFilesMissing {
        /// Number of known files that the cloud folder lacks.
        missing: usize,
        /// Number of files that the last sync left in the cloud folder.
        known: usize,
        /// Path of the cloud folder.
        cloud: PathBuf,
    },
    /// The state of codexSync cannot be imported; see [`CodexSyncStateError`].
    #[error(transparent)]
    CodexSyncImport(#[from] CodexSyncStateError),
    /// This machine's manifest is a placeholder of the cloud client.
    #[error("this machine's manifest is not downloaded to it: {}", .0.display())]
    ManifestNotDownloaded(PathBuf),
    /// A glob of the configuration cannot be parsed.
    #[error("filters.exclude_globs: {0}")]
    InvalidGlob(String),
}

/// The configuration and the flags that [`plan`] works from.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The configuration of this sync.
    pub config: &'a SyncConfig,
    /// The stored state for this pair of Codex home and cloud folder.
    pub replica: &'a Replica,
    /// `--refill`: restores files that the cloud folder lacks, even if it lacks most of them.
    pub refill: bool,
    /// `--accept-unlisted`: uses remote files that no machine attests.
    pub accept_unlisted: bool,
    /// `--delete-many`: copies deletions to the other side, however many.
    pub delete_many: bool,
    /// `sync resolve`: the policy for this one path, instead of `conflict.policy`.
    pub policy_override: Option<(&'a str, ConflictPolicy)>,
}

impl<'a> PlanRequest<'a> {
    /// Creates a request without flags.
    pub fn new(config: &'a SyncConfig, replica: &'a Replica) -> Self {
        Self {
            config,
            replica,
            refill: false,
            accept_unlisted: false,
            delete_many: false,
            policy_override: None,
        }
    }
}

/// Checks that the cloud folder exists and that the folders of codex-manager in it are real folders. With
/// `may_create`, the cloud folder may be absent, because a first sync creates it.
///
/// # Errors
/// [`PlanError::NoCloud`], [`PlanError::LinkInCloud`], [`PlanError::NotAFolder`].
pub fn check_cloud(config: &SyncConfig, may_create: bool) -> Result<(), PlanError> {
    let cloud = &config.cloud;
    // A dangling link counts as taken: it probably leads to an unmounted disk, and creating its target would be wrong.
    let is_free = || cloud.symlink_metadata().is_err();
    if !(cloud.is_dir() || may_create && is_free()) {
        return Err(PlanError::NoCloud(cloud.clone()));
    }
    match manager_folder::unusable_folder(cloud) {
        Some(link) if link.is_symlink() => Err(PlanError::LinkInCloud(link)),
        Some(taken) => Err(PlanError::NotAFolder(taken)),
        None => Ok(()),
    }
}

/// Checks that the cloud folder is mounted and is the one synced last, using this machine's manifest. For callers
/// that write to the cloud folder without a plan, as `sync restore` does.
///
/// # Errors
/// Those of [`check_cloud`], [`PlanError::NoManifest`], [`PlanError::MostFilesMissing`].
pub fn check_cloud_identity(config: &SyncConfig, replica: &Replica) -> Result<(), PlanError> {
    check_cloud(config, false)?;
    let cloud = &config.cloud;
    let state = replica.read()?;
    if state.damage == Some(StateDamage::All) && manifest::all_paths(cloud).next().is_none() {
        return Err(PlanError::NoManifest(cloud.clone()));
    }
    check_own_manifest(config, &state)?;
    if identity::own_manifest_path(config, &state).exists() {
        return Ok(());
    }
    let known = state.files.values();
    let missing = known.filter(|last| !cloud.join(&last.remote.path).exists());
    match missing.count() {
        0 => Ok(()),
        missing => Err(PlanError::MostFilesMissing {
            missing,
            known: state.files.len(),
            cloud: cloud.clone(),
        }),
    }
}

/// Fails if this machine's manifest is a placeholder. A clone of this machine may have written it, which only its
/// content shows, so it must not be overwritten; and it is not absent either, which would look like an unmounted folder.
fn check_own_manifest(config: &SyncConfig, state: &SyncState) -> Result<(), PlanError> {
    let own = identity::own_manifest_path(config, state);
    if scan::is_placeholder(&own) {
        return Err(PlanError::ManifestNotDownloaded(own));
    }
    Ok(())
}

/// Makes the plan, and returns it with the state that it is based on; [`apply`](crate::sync::apply::apply) needs both.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<(SyncPlan, SyncState), PlanError> {
    let config = request.config;
    let scope = Scope::of(config).map_err(PlanError::InvalidGlob)?;
    let mut state = request.replica.read()?;
    let parent_exists = config.cloud.parent().is_some_and(Path::is_dir);
    check_cloud(config, parent_exists && state.files.is_empty())?;
    let cloud_contents = CloudContents::read(&config.cloud)?;
    if !state.files.is_empty() && !config.local.is_dir() {
        return Err(PlanError::NoCodexHome(config.local.clone()));
    }
    check_own_manifest(config, &state)?;
    let renamed = identity::rename_if_cloned(&mut state, config, request.replica)?;
    // The two sides are often on two disks, and listing them uses two processors.
    let (remote, local) = parallel::both(
        || scan::scan(&config.cloud, &scope, Side::Remote),
        || scan::scan(&config.local, &scope, Side::Local),
    );
    let (remote, local) = (remote?, local?);
    let is_first = !state.exists && state.damage.is_none();
    if let (true, Some(manifest)) = (is_first, &config.codexsync_manifest) {
        state.files = codexsync::import_state(manifest, &local, &remote, key_of)?;
    }
    let manifests = stat_cache::recheck_stats(&mut state, &remote, config);
    let mut planner = Planner {
        request,
        rules: DecisionRules {
            // The damaged state may have known which side changed. Times would guess, and a wrong guess overwrites
            // the newer version; the three-way comparison reports a conflict instead.
            compare: if state.has_gaps {
                Compare::ThreeWay
            } else {
                config.policy.rules.compare
            },
            ..config.policy.rules
        },
        state: &state,
        manifests: manifests.map_or_else(OnceCell::new, OnceCell::from),
        ledger: OnceCell::new(),
        own_published: OnceCell::new(),
        conflict_copies: ConflictCopies::read(&request.replica.folder, &config.cloud)?,
        is_renamed: renamed.is_some(),
        latest_date: None,
        unlisted: BTreeSet::new(),
        undelivered: UndeliveredFiles::new(),
        plan: SyncPlan::default(),
    };
    planner.plan.warnings.extend(renamed);
    planner
        .plan
        .warnings
        .extend(scope::misspelled_roots(config));
    planner.plan_all(local, remote, &scope)?;
    planner.report_incomplete(&scope)?;
    let mut plan = planner.plan;
    plan.is_complete = true;
    plan.cloud_contents = cloud_contents;
    secret_filter::drop_login_copies(&mut plan, config);
    path_conflicts::drop_blocked_steps(&mut plan, config);
    // Deletions first: where a folder became a file or a file a folder, the old name must be free.
    let deletes = |step: &SyncStep| {
        matches!(
            step.action,
            SyncAction::DeleteLocal | SyncAction::DeleteCloud
        )
    };
    // `false` sorts before `true`.
    let is_no_deletion = |step: &SyncStep| !deletes(step);
    plan.steps.sort_by(|a, b| {
        is_no_deletion(a)
            .cmp(&is_no_deletion(b))
            .then_with(|| a.path.cmp(&b.path))
    });
    plan.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    for list in [
        &mut plan.waiting,
        &mut plan.skipped,
        &mut plan.warnings,
        &mut plan.notes,
        &mut plan.excluded,
    ] {
        list.sort();
    }
    Ok((plan, state))
}

/// Entries of this machine's ledger, by key as in manifests.
#[derive(Debug, Default)]
struct LedgerVersions {
    /// Versions that this machine attests.
    attested: HashMap<String, Vec<ManifestEntry>>,
    /// Versions that a killed run may have downloaded without recording them in the state; the newest one last.
    downloaded: HashMap<String, Vec<ManifestEntry>>,
}

/// Builds the plan. Holds the inputs that all groups share; each module of this folder adds the methods for its own
/// rules.
struct Planner<'a> {
    request: &'a PlanRequest<'a>,
    rules: DecisionRules,
    state: &'a SyncState,
    /// Manifests of other machines, read at first use: a sync without changes does not need them.
    manifests: OnceCell<RemoteManifests>,
    /// This machine's ledger, read at first use.
    ledger: OnceCell<LedgerVersions>,
    /// Entries of this machine's manifest in the cloud folder, by key, read at first use.
    own_published: OnceCell<HashMap<String, Vec<ManifestEntry>>>,
    conflict_copies: ConflictCopies,
    /// True if this machine gets a new manifest name in this run, so its manifest does not exist yet.
    is_renamed: bool,
    /// With `session_mode = "last_date_only"`, the date that is synced.
    latest_date: Option<String>,
    /// Paths in `plan.waiting` whose present content no machine attests; `--accept-unlisted` could use them.
    unlisted: BTreeSet<String>,
    /// Versions that other machines list and that are not in the cloud folder yet.
    undelivered: UndeliveredFiles,
    plan: SyncPlan,
}

impl Planner<'_> {
    fn root(&self, side: Side) -> &Path {
        self.request.config.root(side)
    }

    fn full(&self, seen: &ObservedFile) -> PathBuf {
        self.request.config.file_path(seen.side, &seen.path)
    }

    /// Returns the manifests of all other machines.
    fn manifests(&self) -> Result<&RemoteManifests, IoError> {
        if let Some(read) = self.manifests.get() {
            return Ok(read);
        }
        let read = identity::read_remote_manifests(self.request.config, self.state)?;
        Ok(self.manifests.get_or_init(|| read))
    }

    fn own_manifest(&self) -> PathBuf {
        identity::own_manifest_path(self.request.config, self.state)
    }

    /// Warns of a damaged state. If it is lost completely, missing files cannot reveal an unmounted cloud folder any
    /// more, so the folder must contain at least one manifest.
    fn check_state_damage(&mut self) -> Result<(), PlanError> {
        let Some(damage) = self.state.damage else {
            return Ok(());
        };
        let cloud = &self.request.config.cloud;
        let has_manifest = || manifest::all_paths(cloud).next().is_some();
        if damage == StateDamage::All && !self.request.refill && !has_manifest() {
            return Err(PlanError::NoManifest(cloud.clone()));
        }
        let file = self.request.replica.state_file();
        let what = match damage {
            StateDamage::All => "cannot be read".to_owned(),
            StateDamage::Lines(1) => "has a line that cannot be read".to_owned(),
            StateDamage::Lines(n) => format!("has {n} lines that cannot be read"),
        };
        let why = format!(
            "{what}: files that it does not know are compared by content as in a first sync, never by time; \
             the next run keeps the damaged file as .damaged"
        );
        self.plan
            .warnings
            .push((file.to_string_lossy().into_owned(), why));
        Ok(())
    }

    /// Returns the ledger of this machine.
    fn ledger(&self) -> Result<&LedgerVersions, IoError> {
        if let Some(read) = self.ledger.get() {
            return Ok(read);
        }
        let contents = Ledger::read(&self.request.replica.folder)?;
        let mut own = LedgerVersions::default();
        for (path, entry) in contents.earlier.into_iter().chain(contents.files) {
            let of_key = own.attested.entry(manifest::key_of(&path)).or_default();
            of_key.push(entry);
        }
        for (path, entry) in contents.downloaded {
            let of_key = own.downloaded.entry(manifest::key_of(&path)).or_default();
            of_key.push(entry);
        }
        Ok(self.ledger.get_or_init(|| own))
    }

    /// Returns the versions of a file that this machine attests.
    fn ledger_versions(&self, key: &str) -> Result<&[ManifestEntry], IoError> {
        let own = self.ledger()?.attested.get(&manifest::fold_name(key));
        Ok(own.map_or(&[], Vec::as_slice))
    }

    /// Runs phases 2 to 4 and the guard against mass deletions; see the module documentation.
    fn plan_all(
        &mut self,
        local: SideListing,
        remote: SideListing,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        self.check_state_damage()?;
        if self.state.restore_marker.is_some() && self.rules.delete == DeletePolicy::Propagate {
            let home = self.root(Side::Local).to_string_lossy().into_owned();
            let why =
                "was restored from an archive: files that it lacks are copied back and not deleted";
            self.plan.notes.push((home, why.to_owned()));
        }
        let groups = self.group_listings(local, remote);
        self.refuse_unmounted(&groups, scope)?;
        self.undelivered = self.find_undelivered(&groups)?;
        let all_days = self.request.config.scope.session_mode == SessionMode::All;
        // A companion is a conversation outside of the roots or of another day; see `ListedFile::companion`. If all
        // days are synced, one that was synced before stays synced.
        let (inside, outside): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(key, group)| {
            group.files().any(|found| !found.companion)
                || (all_days && self.state.files.contains_key(key))
        });
        let mut parents = Vec::new();
        for (key, group) in inside {
            self.plan_group_or_skip(&key, &group, (!outside.is_empty()).then_some(&mut parents))?;
        }
        // A conversation cannot be resumed without those that it continues, so these are synced too, recursively, even
        // if they are companions.
        let mut by_id = HashMap::new();
        if !parents.is_empty() {
            by_id.extend(outside.iter().filter_map(|(key, group)| {
                let id = rollouts::id(key)?;
                Some((id, (key, group)))
            }));
        }
        while let Some(id) = parents.pop() {
            if let Some((key, group)) = by_id.remove(&id) {
                self.plan_group_or_skip(key, group, Some(&mut parents))?;
            }
        }
        self.plan_pending_conflicts()?;
        self.hold_mass_deletions();
        Ok(())
    }

    /// Plans one group. Adds the id of the conversation that this one continues to `parents`.
    fn plan_group(
        &mut self,
        key: &str,
        group: &FileGroup,
        parents: Option<&mut Vec<String>>,
    ) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        // Merges on two machines can have equal size and time but different lines, so line-based files are always read.
        if last.is_some_and(|last| group.matches_last_sync(last)) && !line_merge::is_mergeable(key)
        {
            self.plan.unchanged += 1;
            return Ok(());
        }
        if group.is_blocked {
            return Ok(());
        }
        if group.has_placeholder {
            let why = "is not downloaded to this machine";
            self.plan
                .waiting
                .push((display_path(key, group), why.into()));
            return Ok(());
        }
        if rollouts::is_key(key) {
            if let Some(parents) = parents {
                for (side, list) in [(Side::Local, &group.local), (Side::Remote, &group.remote)] {
                    let full = list.iter().map(|found| self.root(side).join(&found.path));
                    parents.extend(full.filter_map(|path| rollouts::parent(&path)));
                }
            }
            self.plan_conversation(key, group)
        } else if line_merge::is_mergeable(key) {
            self.plan_line_file(key, group)
        } else {
            self.plan_plain_file(key, group)
        }
    }

    /// Returns the decision rules for one path, with the policy that `sync resolve` gives for it.
    fn rules_for(&self, path: &str) -> DecisionRules {
        let mut rules = self.rules;
        if let Some((_, policy)) = self.request.policy_override
            && self.has_policy_override(path)
        {
            rules.conflict = policy;
        }
        rules
    }

    /// Returns true if `sync resolve` decides about this path.
    fn has_policy_override(&self, path: &str) -> bool {
        self.request
            .policy_override
            .is_some_and(|(resolved, _)| resolved == path)
    }

    /// Returns true if files with equal size and time count as equal without reading them.
    fn trusts_mtime(&self) -> bool {
        self.rules.compare == Compare::Mtime
    }
}
