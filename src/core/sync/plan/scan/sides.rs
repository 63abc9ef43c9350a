//! Checks that both sides may be used, and lists them.

use crate::io::quantity::pluralize;
use crate::io::{IoContext, IoError, parallel};
use crate::sync::config::{DeletePolicy, SyncConfig};
use crate::sync::listed_versions::RemoteManifests;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::error::PlanError;
use crate::sync::plan::request::PlanRequest;
use crate::sync::scan::{self, SideListing};
use crate::sync::scope::{self, Scope};
use crate::sync::sides::Side;
use crate::sync::state::{Replica, StateDamage, SyncState};
use crate::sync::{codexsync, identity, manager_folder, manifest};
use std::path::Path;
use std::{fs, io};

/// Both sides as the scan found them, and the state of the last sync.
pub(crate) struct ScannedSides {
    pub(crate) scope: Scope,
    pub(crate) state: SyncState,
    pub(crate) local: SideListing,
    pub(crate) remote: SideListing,
    /// Content of the cloud folder before the scan.
    pub(crate) cloud_contents: CloudContents,
    /// True if this machine gets a new manifest name, because a clone of this machine wrote its manifest.
    pub(crate) is_renamed: bool,
    /// Manifests of the other machines.
    pub(crate) manifests: RemoteManifests,
    pub(crate) notices: Vec<Notice>,
}

/// Reads the state, lists both sides, and reads the manifests of the other machines.
///
/// # Errors
/// See [`PlanError`]: a side must not be used or cannot be read completely.
pub(crate) fn scan_sides(request: &PlanRequest<'_>) -> Result<ScannedSides, PlanError> {
    let config = request.config;
    let scope = Scope::build(config).map_err(PlanError::InvalidGlob)?;
    let mut state = request.replica.read()?;

    if !creates_cloud_folder(config, &state) {
        check_cloud_is_usable(config)?;
    }

    let cloud_contents = CloudContents::read(&config.cloud)?;
    if !state.files.is_empty() && !config.local.is_dir() {
        return Err(PlanError::NoCodexHome(config.local.clone()));
    }

    refuse_undownloaded_manifest(config, &state)?;
    let rename_warning = identity::rename_if_cloned(&mut state, config, request.replica)?;

    // The two sides are often on two disks, and listing them uses two processors.
    let (remote, local) = parallel::run_both(
        || scan::scan(&config.cloud, &scope, Side::Remote),
        || scan::scan(&config.local, &scope, Side::Local),
    );
    let (remote, local) = (remote?, local?);

    let is_first_sync = !state.file.exists && state.file.damage.is_none();
    if is_first_sync && let Some(manifest) = &config.codexsync_manifest {
        state.files = codexsync::import_synced_files(manifest, &local, &remote)?;
    }

    let manifests = identity::read_remote_manifests(config, &state)?;
    if manifests.manifest_count > 0 && !state.has_other_machines {
        state.has_other_machines = true;
        // Written before the run changes a file, so that a kill cannot lose the fact: from now on, files without
        // attestation are not trusted.
        state.file.needs_rewrite = true;
    }

    let is_renamed = rename_warning.is_some();

    let misspelled = scope::describe_misspelled_roots(config).into_iter();
    let misspelled = misspelled.map(|why| ("include_roots".to_owned(), why));
    let warnings = rename_warning.into_iter().chain(misspelled);
    let warnings = warnings.map(|(path, why)| NoticeList::Warning.notice(path, why));
    let notices = warnings
        .chain(list_manifest_notices(&manifests))
        .chain(check_state_damage(request, &state, cloud_contents)?)
        .chain(restored_home_notice(request, &state))
        .collect();

    Ok(ScannedSides {
        scope,
        state,
        local,
        remote,
        cloud_contents,
        is_renamed,
        manifests,
        notices,
    })
}

/// Returns the notices about manifests that are too large or not downloaded, and about versions that were omitted.
fn list_manifest_notices(manifests: &RemoteManifests) -> Vec<Notice> {
    let too_large = manifests.too_large.iter();
    let too_large = too_large.map(|path| {
        let why = "is too large for a manifest and is ignored; if none of your machines wrote it, remove it from the \
                   cloud folder";
        NoticeList::Skipped.notice(path, why)
    });
    let placeholders = manifests.not_downloaded.iter();
    let placeholders = placeholders.map(|name| {
        let why =
            "the manifest of another machine is not downloaded; have the cloud client download it";
        NoticeList::Waiting.notice(manager_folder::manifest_path(name), why)
    });
    let omitted = manifests.omitted_counts.iter().map(|(path, count)| {
        let entries = pluralize(*count, "entry");
        let why = format!(
            "other machines list too many versions; {entries} of their manifests are ignored"
        );
        NoticeList::Note.notice(path.clone(), why)
    });
    too_large.chain(placeholders).chain(omitted).collect()
}

/// Returns the warning about a damaged state.
///
/// # Errors
/// The header of the state is damaged, and the cloud folder contains no manifest. It may be unmounted, and without a
/// state no missing file would reveal that. With `--refill`, this is no error.
fn check_state_damage(
    request: &PlanRequest<'_>,
    state: &SyncState,
    cloud_contents: CloudContents,
) -> Result<Option<Notice>, PlanError> {
    let Some(damage) = state.file.damage.or(request.replica.initial_damage) else {
        return Ok(None);
    };

    let cloud = &request.config.cloud;
    let has_manifest = cloud_contents == CloudContents::Manifests;
    if damage == StateDamage::All && !request.refill && !has_manifest {
        return Err(PlanError::NoManifest(cloud.clone()));
    }

    let state_file = request.replica.committed_state_file();
    let why = format!(
        "{damage}: files that its readable part does not list are compared by content as in a first sync, never by time; \
         the next run keeps the damaged file as .damaged"
    );
    let notice = NoticeList::Warning.notice(state_file.to_string_lossy(), why);
    Ok(Some(notice))
}

/// Returns the note that the home was restored from an archive, if that keeps deletions from being copied.
fn restored_home_notice(request: &PlanRequest<'_>, state: &SyncState) -> Option<Notice> {
    let propagates = request.config.policy.rules.delete == DeletePolicy::Propagate;
    let keeps_files = state.restore_marker.is_some() && propagates;
    let home = request.config.root(Side::Local).to_string_lossy();
    let why = "was restored from an archive: files that it lacks are copied back and not deleted";
    keeps_files.then(|| NoticeList::Note.notice(home, why))
}

/// Content of a cloud folder, to distinguish a mounted folder from a bare mount point. A greater value is stronger
/// evidence of a mounted folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloudContents {
    /// The folder is empty or does not exist.
    #[default]
    Empty,
    /// The folder has entries, but no manifest of any machine.
    Files,
    /// The folder has at least one manifest.
    Manifests,
}

impl CloudContents {
    pub(crate) fn read(cloud: &Path) -> Result<Self, IoError> {
        if manifest::list_paths(cloud).next().is_some() {
            return Ok(Self::Manifests);
        }
        match fs::read_dir(cloud) {
            Ok(mut entries) => Ok(entries.next().map_or(Self::Empty, |_| Self::Files)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Empty),
            Err(e) => Err(e).at("list", cloud),
        }
    }
}

/// Returns true if the next run creates the cloud folder. A first sync does, but not in place of a dangling link, which
/// probably leads to an unmounted disk.
pub fn creates_cloud_folder(config: &SyncConfig, state: &SyncState) -> bool {
    let parent_exists = config.cloud.parent().is_some_and(Path::is_dir);
    let has_no_entry = || config.cloud.symlink_metadata().is_err();
    parent_exists && !state.file.exists && has_no_entry()
}

/// Checks that the cloud folder exists and that the folders of codex-manager in it are real folders.
///
/// # Errors
/// [`PlanError::NoCloud`], [`PlanError::NotAFolder`].
fn check_cloud_is_usable(config: &SyncConfig) -> Result<(), PlanError> {
    let cloud = &config.cloud;
    if !cloud.is_dir() {
        return Err(PlanError::NoCloud(cloud.clone()));
    }
    let unusable = manager_folder::find_unusable_folder(cloud);
    unusable.map_or(Ok(()), |path| Err(PlanError::NotAFolder(path)))
}

/// Checks that the cloud folder is mounted and is the one synced last, by this machine's manifest or by the files of
/// the last sync. For callers that write to the cloud folder without a plan, such as `sync restore`.
///
/// # Errors
/// See [`PlanError`].
pub(crate) fn check_cloud_identity(
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), PlanError> {
    check_cloud_is_usable(config)?;
    let cloud = &config.cloud;
    let state = replica.read()?;

    if state.file.damage == Some(StateDamage::All)
        && CloudContents::read(cloud)? != CloudContents::Manifests
    {
        return Err(PlanError::NoManifest(cloud.clone()));
    }
    refuse_undownloaded_manifest(config, &state)?;
    if identity::own_manifest_path(config, &state).exists() {
        return Ok(());
    }

    let last_synced = state.files.values();
    let missing_files = last_synced.filter(|last| !cloud.join(&last.remote.path).exists());
    match missing_files.count() {
        0 => Ok(()),
        missing => Err(PlanError::MostFilesMissing {
            missing,
            known: state.files.len(),
            cloud: cloud.clone(),
        }),
    }
}

/// Fails if this machine's manifest is a placeholder. It must not be overwritten, because a clone of this machine may
/// have written it. It must not count as absent either, because that would look like an unmounted folder.
fn refuse_undownloaded_manifest(config: &SyncConfig, state: &SyncState) -> Result<(), PlanError> {
    let own_manifest = identity::own_manifest_path(config, state);
    if scan::is_placeholder(&own_manifest) {
        return Err(PlanError::ManifestNotDownloaded(own_manifest));
    }
    Ok(())
}
