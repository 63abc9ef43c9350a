//! Checks that the cloud folder may be used: it is mounted, and its folders are real folders.

use crate::io::{IoContext, IoError};
use crate::sync::config::SyncConfig;
use crate::sync::identity;
use crate::sync::manager_folder;
use crate::sync::manifest;
use crate::sync::plan::error::PlanError;
use crate::sync::scan;
use crate::sync::state::{Replica, StateDamage, SyncState};
use std::path::Path;
use std::{fs, io};

/// Content of a cloud folder, as far as it distinguishes a mounted folder from a bare mount point. A later value in
/// this order is stronger evidence of a mounted folder.
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
    /// Examines the folder as it is now.
    pub(crate) fn read(cloud: &Path) -> Result<Self, IoError> {
        if manifest::all_paths(cloud).next().is_some() {
            return Ok(Self::Manifests);
        }
        match fs::read_dir(cloud) {
            Ok(mut entries) => Ok(entries.next().map_or(Self::Empty, |_| Self::Files)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Empty),
            Err(e) => Err(e).at("list", cloud),
        }
    }
}

/// Checks that the cloud folder exists and that the folders of codex-manager in it are real folders. With
/// `may_create`, the cloud folder may be absent, because a first sync creates it.
///
/// # Errors
/// [`PlanError::NoCloud`], [`PlanError::LinkInCloud`], [`PlanError::NotAFolder`].
pub(crate) fn check_cloud(config: &SyncConfig, may_create: bool) -> Result<(), PlanError> {
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
pub(crate) fn check_cloud_identity(
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), PlanError> {
    check_cloud(config, false)?;
    let cloud = &config.cloud;
    let state = replica.read()?;
    if state.file.damage == Some(StateDamage::All) && manifest::all_paths(cloud).next().is_none() {
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
pub(crate) fn check_own_manifest(config: &SyncConfig, state: &SyncState) -> Result<(), PlanError> {
    let own = identity::own_manifest_path(config, state);
    if scan::is_placeholder(&own) {
        return Err(PlanError::ManifestNotDownloaded(own));
    }
    Ok(())
}
