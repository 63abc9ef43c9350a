//! What a sync would do: computed by reading alone, and applied as it is shown.

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
use super::config::{Compare, ConflictPolicy, DeletePolicy, SessionMode, SyncConfig};
use super::conflict_copies::ConflictCopies;
use super::decide::DecisionRules;
use super::identity;
use super::ledger::Ledger;
use super::line_merge;
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

/// Why there is no plan. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// The cloud folder is not there.
    #[error("the cloud folder is not there: {}", .0.display())]
    NoCloud(PathBuf),
    /// A folder of ours in the cloud folder is a link.
    #[error("a link leads out of the cloud folder: {}", .0.display())]
    LinkInCloud(PathBuf),
    /// What is no folder stands where a folder of ours is to be.
    #[error("not a folder: {}", .0.display())]
    NotAFolder(PathBuf),
    /// Nothing tells that the cloud folder is the one that it was.
    #[error("the state of the last sync is damaged, and no machine has left a word in the cloud folder, which looks not mounted or not downloaded: {}", .0.display())]
    NoManifest(PathBuf),
    /// The cloud folder is another one than the one that the plan was made for.
    #[error("the cloud folder has nothing of what was in it when the plan was made, and looks not mounted any more: {}", .0.display())]
    Unmounted(PathBuf),
    /// The Codex home is not there, and it was.
    #[error("the Codex home is not there, and was at the last sync: {}", .0.display())]
    NoCodexHome(PathBuf),
    /// Much of what was in the cloud folder is not there.
    #[error("{missing} of {} {} missing in the cloud folder, which looks not mounted or not downloaded: {}", pluralize(*known, "file"), if *missing == 1 { "is" } else { "are" }, cloud.display())]
    MostFilesMissing {
        /// How many are missing.
        missing: usize,
        /// How many the last sync left there.
        known: usize,
        /// The folder.
        cloud: PathBuf,
    },
    /// See [`CodexSyncStateError`].
    #[error(transparent)]
    Takeover(#[from] CodexSyncStateError),
    /// What this machine said last is not on it.
    #[error("what this machine said last is not downloaded to it: {}", .0.display())]
    ManifestNotDownloaded(PathBuf),
    /// A glob that means nothing.
    #[error("filters.exclude_globs: {0}")]
    InvalidGlob(String),
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The configuration.
    pub config: &'a SyncConfig,
    /// The pair's state.
    pub replica: &'a Replica,
    /// Whether what is missing in the cloud folder is put back even if it is most of it.
    pub refill: bool,
    /// Whether files that no machine vouches for are taken as they are.
    pub accept_unlisted: bool,
    /// Whether deletions are sent on even if they are many.
    pub delete_many: bool,
    /// Who decides about one path, instead of `conflict.policy`.
    pub policy_override: Option<(&'a str, ConflictPolicy)>,
}

impl<'a> PlanRequest<'a> {
    /// One without any wishes.
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

/// Whether the cloud folder may be written to: it is there, unless `is_made` says that a first sync makes
/// it, and nothing of ours in it leads elsewhere.
///
/// # Errors
/// [`PlanError::NoCloud`], [`PlanError::LinkInCloud`], [`PlanError::NotAFolder`].
pub fn check_cloud(config: &SyncConfig, is_made: bool) -> Result<(), PlanError> {
    let cloud = &config.cloud;
    // A link that leads nowhere now, or a file, is nothing to be made a folder of.
    let is_free = || cloud.symlink_metadata().is_err();
    if !(cloud.is_dir() || is_made && is_free()) {
        return Err(PlanError::NoCloud(cloud.clone()));
    }
    match manifest::unusable_folder(cloud) {
        Some(link) if link.is_symlink() => Err(PlanError::LinkInCloud(link)),
        Some(taken) => Err(PlanError::NotAFolder(taken)),
        None => Ok(()),
    }
}

/// Whether the cloud folder is there and the one that the last sync left, as far as this machine's word
/// in it tells; for who puts files there without a plan.
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

/// Who cannot read what stands under this machine's name cannot tell whether another one wrote it: it is not
/// written over, and not taken for gone.
fn check_own_manifest(config: &SyncConfig, state: &SyncState) -> Result<(), PlanError> {
    let own = identity::own_manifest_path(config, state);
    if remote_manifests::is_placeholder(&own) {
        return Err(PlanError::ManifestNotDownloaded(own));
    }
    Ok(())
}

/// Makes the plan. Also returns the state that it was made from.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<(SyncPlan, SyncState), PlanError> {
    let config = request.config;
    let scope = Scope::of(config).map_err(PlanError::InvalidGlob)?;
    let mut state = request.replica.read()?;
    let parent = config.cloud.parent().is_some_and(Path::is_dir);
    check_cloud(config, parent && state.files.is_empty())?;
    let cloud_contents = CloudContents::read(&config.cloud)?;
    if !state.files.is_empty() && !config.local.is_dir() {
        return Err(PlanError::NoCodexHome(config.local.clone()));
    }
    check_own_manifest(config, &state)?;
    let renamed = identity::rename_if_cloned(&mut state, config, request.replica)?;
    // Two disks, or two processors.
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
            // What was known of a last sync and is known no more is not decided by times.
            compare: if state.has_gaps {
                Compare::ThreeWay
            } else {
                config.compare
            },
            equal_mtime: config.equal_mtime,
            conflict: config.conflict,
            delete: config.delete,
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
    // What goes makes room for what comes: a folder for a file of its name, and the other way round.
    let deletes = |step: &SyncStep| {
        matches!(
            step.action,
            SyncAction::DeleteLocal | SyncAction::DeleteCloud
        )
    };
    let order = |step: &SyncStep| !deletes(step);
    plan.steps
        .sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.path.cmp(&b.path)));
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

/// What this machine's ledger says, by key.
#[derive(Debug, Default)]
struct LedgerVersions {
    /// What it vouches for.
    files: HashMap<String, Vec<ManifestEntry>>,
    /// What it took from the cloud folder and may not have noted in the state.
    taken: HashMap<String, Vec<ManifestEntry>>,
}

struct Planner<'a> {
    request: &'a PlanRequest<'a>,
    rules: DecisionRules,
    state: &'a SyncState,
    manifests: OnceCell<RemoteManifests>,
    ledger: OnceCell<LedgerVersions>,
    /// What our manifest in the cloud folder says, by key.
    own_published: OnceCell<HashMap<String, Vec<ManifestEntry>>>,
    conflict_copies: ConflictCopies,
    /// Whether our manifest was there, but for the name that it has from now on.
    is_renamed: bool,
    /// With `session_mode = "last_date_only"`, the date that is synced.
    latest_date: Option<String>,
    /// Files that are waited for because no machine lists them as they are.
    unlisted: BTreeSet<String>,
    /// What other machines list and has not arrived.
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

    /// What all machines say; read when the first question needs it.
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

    /// A damaged state is named. Nothing tells then what is missing in the cloud folder: that somebody
    /// has left a word there has to do.
    fn check_state_damage(&mut self) -> Result<(), PlanError> {
        let Some(damage) = self.state.damage else {
            return Ok(());
        };
        let cloud = &self.request.config.cloud;
        let is_marked = || manifest::all_paths(cloud).next().is_some();
        if damage == StateDamage::All && !self.request.refill && !is_marked() {
            return Err(PlanError::NoManifest(cloud.clone()));
        }
        let file = self.request.replica.state_file();
        let what = match damage {
            StateDamage::All => "cannot be read".to_owned(),
            StateDamage::Lines(1) => "has a line that cannot be read".to_owned(),
            StateDamage::Lines(n) => format!("has {n} lines that cannot be read"),
        };
        let why = format!(
            "{what}: files that it does not know are compared as in a first sync, and no time decides \
             between them; the next run keeps it as .damaged"
        );
        self.plan
            .warnings
            .push((file.to_string_lossy().into_owned(), why));
        Ok(())
    }

    /// What this machine's ledger says.
    fn ledger(&self) -> Result<&LedgerVersions, IoError> {
        if let Some(read) = self.ledger.get() {
            return Ok(read);
        }
        let noted = Ledger::read(&self.request.replica.folder)?;
        let mut own = LedgerVersions::default();
        for (path, written) in noted.earlier.into_iter().chain(noted.files) {
            let of_key = own.files.entry(manifest::key_of(&path)).or_default();
            of_key.push(written);
        }
        for (path, written) in noted.downloaded {
            let of_key = own.taken.entry(manifest::key_of(&path)).or_default();
            of_key.push(written);
        }
        Ok(self.ledger.get_or_init(|| own))
    }

    /// The versions that this machine vouches for.
    fn ledger_versions(&self, key: &str) -> Result<&[ManifestEntry], IoError> {
        let own = self.ledger()?.files.get(&manifest::fold_name(key));
        Ok(own.map_or(&[], Vec::as_slice))
    }

    fn plan_all(
        &mut self,
        local: SideListing,
        remote: SideListing,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        self.check_state_damage()?;
        if self.state.restore_marker.is_some() && self.rules.delete == DeletePolicy::Propagate {
            let home = self.root(Side::Local).to_string_lossy().into_owned();
            let why = "was put back from an archive: what it lacks comes back, and is not deleted";
            self.plan.notes.push((home, why.to_owned()));
        }
        let groups = self.group_listings(local, remote);
        self.refuse_unmounted(&groups, scope)?;
        self.undelivered = self.find_undelivered(&groups)?;
        let all_days = self.request.config.session_mode == SessionMode::All;
        let (inside, outside): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(key, group)| {
            group.files().any(|found| !found.companion)
                || (all_days && self.state.files.contains_key(key))
        });
        let mut parents = Vec::new();
        for (key, group) in inside {
            self.plan_group_or_skip(&key, &group, (!outside.is_empty()).then_some(&mut parents))?;
        }
        // Parents travel with their children, and theirs with them.
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

    /// `parents` takes the id of the conversation that this one continues.
    fn plan_group(
        &mut self,
        key: &str,
        group: &FileGroup,
        parents: Option<&mut Vec<String>>,
    ) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        // Merges of two machines may have one size and one time; these two files are always read.
        if last.is_some_and(|last| group.matches_last_sync(last)) && !line_merge::is_mergeable(key)
        {
            self.plan.unchanged += 1;
            return Ok(());
        }
        if group.is_blocked {
            return Ok(());
        }
        if group.has_placeholder {
            let why = "it is not downloaded to this machine";
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

    /// The rules for one path.
    fn rules_for(&self, path: &str) -> DecisionRules {
        let mut rules = self.rules;
        if let Some((_, policy)) = self.request.policy_override
            && self.has_policy_override(path)
        {
            rules.conflict = policy;
        }
        rules
    }

    /// Whether it is this path that somebody decides about.
    fn has_policy_override(&self, path: &str) -> bool {
        self.request
            .policy_override
            .is_some_and(|(chosen, _)| chosen == path)
    }

    /// Whether the modes allow to call two files equal that only look so.
    fn trusts_mtime(&self) -> bool {
        self.rules.compare == Compare::Mtime
    }
}
