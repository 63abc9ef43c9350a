//! The scan: checks that both sides may be used, and lists them.

use super::cloud_check::{check_cloud, check_own_manifest};
use super::cloud_contents::CloudContents;
use super::error::PlanError;
use super::groups::key_of;
use super::request::PlanRequest;
use super::stat_cache;
use crate::io::parallel;
use crate::sync::codexsync;
use crate::sync::identity;
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::scan::{self, Side, SideListing};
use crate::sync::scope::Scope;
use crate::sync::state::SyncState;
use std::path::Path;

/// Both sides as the scan found them, and the state of the last sync.
pub(super) struct ScannedSides {
    pub(super) scope: Scope,
    pub(super) state: SyncState,
    pub(super) local: SideListing,
    pub(super) remote: SideListing,
    /// Content of the cloud folder before the scan.
    pub(super) cloud_contents: CloudContents,
    /// The warning for the manifest of a clone, if this machine gets a new manifest name.
    pub(super) renamed: Option<(String, String)>,
    /// Manifests of other machines, if they were read already.
    pub(super) manifests: Option<RemoteManifests>,
}

impl ScannedSides {
    /// Reads the state and lists both sides.
    pub(super) fn read(request: &PlanRequest<'_>) -> Result<Self, PlanError> {
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
        let manifests = stat_cache::recheck_stats(&mut state, &remote, config);
        Ok(Self {
            scope,
            state,
            local,
            remote,
            cloud_contents,
            renamed,
            manifests,
        })
    }
}
