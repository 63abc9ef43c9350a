//! The scan: checks that both sides may be used, and lists them.

use super::cloud_check::{CloudContents, check_cloud, check_own_manifest};
use super::file_group::key_of;
use super::stat_cache;
use crate::io::parallel;
use crate::sync::codexsync;
use crate::sync::config::DeletePolicy;
use crate::sync::identity;
use crate::sync::manager_folder;
use crate::sync::manifest;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::error::PlanError;
use crate::sync::plan::request::PlanRequest;
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::scan::{self, SideListing};
use crate::sync::scope::{self, Scope};
use crate::sync::sides::Side;
use crate::sync::state::{StateDamage, SyncState};
use std::path::Path;

/// Both sides as the scan found them, and the state of the last sync.
pub(crate) struct ScannedSides {
    pub(crate) scope: Scope,
    pub(crate) state: SyncState,
    pub(crate) local: SideListing,
    pub(crate) remote: SideListing,
    /// Content of the cloud folder before the scan.
    pub(crate) cloud_contents: CloudContents,
    /// True if this machine gets a new manifest name, because a clone wrote its manifest.
    pub(crate) is_renamed: bool,
    /// Manifests of the other machines.
    pub(crate) manifests: RemoteManifests,
    pub(crate) notices: Vec<Notice>,
}

/// Reads the state and lists both sides.
pub(crate) fn scan_sides(request: &PlanRequest<'_>) -> Result<ScannedSides, PlanError> {
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
    let is_first = !state.file.exists && state.file.damage.is_none();
    if let (true, Some(manifest)) = (is_first, &config.codexsync_manifest) {
        state.files = codexsync::import_state(manifest, &local, &remote, key_of)?;
    }
    let manifests = identity::read_remote_manifests(config, &state)?;
    stat_cache::recheck_stats(&mut state, &remote, &manifests, config);
    let is_renamed = renamed.is_some();
    let warnings = renamed.into_iter().chain(scope::misspelled_roots(config));
    let warnings = warnings.map(|(path, why)| NoticeList::Warning.notice(path, why));
    let notices = warnings
        .chain(manifest_notices(&manifests))
        .chain(damage_notice(request, &state)?)
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

/// Returns the notices about manifests that cannot be used.
fn manifest_notices(manifests: &RemoteManifests) -> Vec<Notice> {
    let refused = manifests.refused.iter();
    let refused = refused.map(|(path, why)| NoticeList::Skipped.notice(path, why));
    let placeholders = manifests.not_downloaded.iter();
    let placeholders = placeholders.map(|name| {
        let why =
            "the manifest of another machine is not downloaded; have the cloud client download it";
        NoticeList::Waiting.notice(manager_folder::display_name(name), why)
    });
    refused.chain(placeholders).collect()
}

/// Returns the warning about a damaged state. If it is lost completely, missing files cannot reveal an unmounted cloud
/// folder any more, so the folder must contain at least one manifest.
fn damage_notice(
    request: &PlanRequest<'_>,
    state: &SyncState,
) -> Result<Option<Notice>, PlanError> {
    let Some(damage) = state.file.damage else {
        return Ok(None);
    };
    let cloud = &request.config.cloud;
    let has_manifest = || manifest::all_paths(cloud).next().is_some();
    if damage == StateDamage::All && !request.refill && !has_manifest() {
        return Err(PlanError::NoManifest(cloud.clone()));
    }
    let file = request.replica.state_file();
    let what = match damage {
        StateDamage::All => "cannot be read".to_owned(),
        StateDamage::Lines(1) => "has a line that cannot be read".to_owned(),
        StateDamage::Lines(n) => format!("has {n} lines that cannot be read"),
    };
    let why = format!(
        "{what}: files that it does not know are compared by content as in a first sync, never by time; \
         the next run keeps the damaged file as .damaged"
    );
    Ok(Some(
        NoticeList::Warning.notice(file.to_string_lossy(), why),
    ))
}

/// Returns the note that the home was restored from an archive, if that keeps deletions from being copied.
fn restored_home_notice(request: &PlanRequest<'_>, state: &SyncState) -> Option<Notice> {
    let propagates = request.config.policy.rules.delete == DeletePolicy::Propagate;
    let is_restored = state.restore_marker.is_some() && propagates;
    let home = request.config.root(Side::Local).to_string_lossy();
    let why = "was restored from an archive: files that it lacks are copied back and not deleted";
    is_restored.then(|| NoticeList::Note.notice(home, why))
}
