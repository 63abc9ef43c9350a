//! The manifest of an export. It is the first entry of the export, and lists all other entries in order.

use crate::accounts::profile_ops::check_profile_name;
use crate::archive::{EntryName, Metadata, names};
use crate::codex::AUTH_JSON;
use crate::inventory::{cooldown, observations, store};
use crate::io::{Document, Sha256Digest, Timestamp, hash};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

/// The entry name of the manifest.
pub(crate) const MANIFEST_ENTRY: &str = "export.json";

/// The value of `product` in every manifest. It distinguishes an export from other tar files.
pub(crate) const PRODUCT: &str = "codex-manager export";

pub(crate) const CONFIG: &str = "config.toml";

pub(crate) const LAUNCHES: &str = "launches.jsonl";

pub(crate) const PROFILE_JSON: &str = "profile.json";

pub(crate) const PROFILES: &str = "profiles";

pub(crate) const BACKUPS: &str = "backups";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ExportManifest {
    pub product: String,
    pub created_at: Option<Timestamp>,
    pub manager_version: String,
    /// True if the export may contain logins.
    pub with_logins: bool,
    /// True if the export may contain archives.
    pub with_archives: bool,
    /// All entries except the manifest, in the order of the export.
    pub files: Vec<ExportFile>,
}

impl Document for ExportManifest {
    const SCHEMA: u64 = 1;
    const MAX_BYTES: u64 = 32 * 1024 * 1024;
}

/// Returns the id of an export: 32 hex digits of the digest of its manifest, which contains the
/// time and the digests of all files.
pub(crate) fn export_id(manifest: &[u8]) -> String {
    hash::sha256(manifest)[..32].to_owned()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportFile {
    /// The path in the manager home.
    pub path: EntryName,
    /// The length in bytes.
    pub size: u64,
    pub sha256: Sha256Digest,
}

/// A kind of file that an export may contain. The path of a file determines its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExportPart {
    /// `cooldown.json`, the last observations.
    Cooldown,
    /// `inventory.json`, the records of legacy files.
    Inventory,
    /// `config.toml`, the settings of codex-manager.
    Config,
    /// `launches.jsonl`, the launch registry.
    Launches,
    /// `observations/<account>.json`, the history of an account's windows.
    Observations,
    /// `profile.json` of the profile with this name.
    Profile(String),
    /// `auth.json` of the profile with this name.
    Login(String),
    /// The archive with this file name in `backups/`.
    Archive(String),
    /// The sidecar with this file name in `backups/`.
    Sidecar(String),
}

impl ExportPart {
    /// Returns the kind of the file at a path in the manager home, or `None` if an export must not contain the file.
    pub(crate) fn from_path(path: &EntryName) -> Option<Self> {
        let parts = path.as_path().iter().map(OsStr::to_str);
        let parts: Vec<&str> = parts.collect::<Option<_>>()?;

        Some(match parts.as_slice() {
            [cooldown::FILE_NAME] => Self::Cooldown,
            [store::FILE_NAME] => Self::Inventory,
            [CONFIG] => Self::Config,
            [LAUNCHES] => Self::Launches,
            [observations::FOLDER, name] if observations::is_file_name(name) => Self::Observations,
            [PROFILES, name, file] if check_profile_name(name).is_ok() => match *file {
                PROFILE_JSON => Self::Profile((*name).to_owned()),
                AUTH_JSON => Self::Login((*name).to_owned()),
                _ => return None,
            },
            [BACKUPS, name] if names::is_archive_name(name) => Self::Archive((*name).to_owned()),
            [BACKUPS, name] if names::is_sidecar_name(name) => Self::Sidecar((*name).to_owned()),
            _ => return None,
        })
    }

    /// Returns the size limit of a file of this kind, in bytes. An import holds all files except archives in memory.
    pub(crate) fn max_bytes(&self) -> u64 {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Sidecar(_) => Metadata::MAX_BYTES,
            Self::Login(_) | Self::Profile(_) | Self::Config => MIB,
            Self::Observations => 4 * MIB,
            Self::Cooldown | Self::Inventory | Self::Launches => 64 * MIB,
            Self::Archive(_) => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_an_export_writes_are_accepted() {
        let part = |path: &str| {
            EntryName::parse(path.as_bytes())
                .ok()
                .and_then(|n| ExportPart::from_path(&n))
        };
        let archive = "2026-11-17-155500-me@x.com-codex.tar.gz";
        assert_eq!(part("cooldown.json"), Some(ExportPart::Cooldown));
        assert_eq!(
            part("profiles/work/auth.json"),
            Some(ExportPart::Login("work".into()))
        );
        assert_eq!(
            part(&format!("backups/{archive}")),
            Some(ExportPart::Archive(archive.into()))
        );
        for bad in [
            "../cooldown.json",
            "/cooldown.json",
            "profiles/../work/auth.json",
            "profiles/.trash/auth.json",
            "profiles/work/history/x.json",
            "profiles/a b/auth.json",
            "backups/x.tar.gz",
            "backups/.trash/2026-11-17-155500-me@x.com-codex.tar.gz",
            ".lock",
            "profiles/.switch.json",
            "tmp/x",
            "observations/../x.json",
        ] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
