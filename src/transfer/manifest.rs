//! The manifest of an export: its first entry, which lists all others in order.

use crate::accounts::profile_ops::check_name;
use crate::archive::{EntryName, Metadata, names};
use crate::codex::AUTH_JSON;
use crate::inventory::{cooldown, observations, store};
use crate::io::{Document, Sha256Digest, Timestamp, hash};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

/// The name of the manifest's entry.
pub(crate) const NAME: &str = "export.json";

/// The product name in the manifest.
pub(crate) const PRODUCT: &str = "codex-manager export";

/// `config.toml` of the manager home.
pub(crate) const CONFIG: &str = "config.toml";

/// The launch registry of the manager home.
pub(crate) const LAUNCHES: &str = "launches.jsonl";

/// The document of a profile, without its login.
pub(crate) const PROFILE_JSON: &str = "profile.json";

pub(crate) const PROFILES: &str = "profiles";

/// The folder of the archives.
pub(crate) const BACKUPS: &str = "backups";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ExportManifest {
    pub product: String,
    pub created_at: Option<Timestamp>,
    pub manager_version: String,
    /// True if logins moved into the export.
    pub with_logins: bool,
    /// True if the export contains archives.
    pub with_archives: bool,
    /// All other entries, in order.
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
pub(crate) struct ExportFile {
    /// The path in the manager home.
    pub path: EntryName,
    /// The length in bytes.
    pub size: u64,
    /// The digest of the content.
    pub sha256: Sha256Digest,
}

/// The kinds of files that an export may hold, by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExportPart {
    /// `cooldown.json`, the last observations.
    Cooldown,
    /// `inventory.json`, the records of legacy files.
    Inventory,
    /// `config.toml`, the settings of this program.
    Config,
    /// `launches.jsonl`, the launch registry.
    Launches,
    /// `observations/<account>.json`, the history of an account's windows.
    Observations,
    /// `profile.json` of a profile.
    Profile(String),
    /// `auth.json` of a profile.
    Login(String),
    /// An archive, by its path below `backups/`.
    Archive(String),
    /// A sidecar, by its path below `backups/`.
    Sidecar(String),
}

impl ExportPart {
    /// Returns the kind of the file at this path of a manager home, or `None` if an export may not
    /// hold it.
    pub(crate) fn from_path(path: &EntryName) -> Option<Self> {
        let parts = path.as_path().iter().map(OsStr::to_str);
        let parts: Vec<&str> = parts.collect::<Option<_>>()?;
        Some(match parts.as_slice() {
            [cooldown::FILE_NAME] => Self::Cooldown,
            [store::FILE_NAME] => Self::Inventory,
            [CONFIG] => Self::Config,
            [LAUNCHES] => Self::Launches,
            [observations::FOLDER, name] if observations::is_file_name(name) => Self::Observations,
            [PROFILES, name, file] if check_name(name).is_ok() => match *file {
                PROFILE_JSON => Self::Profile((*name).to_owned()),
                AUTH_JSON => Self::Login((*name).to_owned()),
                _ => return None,
            },
            [BACKUPS, name] if names::is_archive_name(name) => Self::Archive((*name).to_owned()),
            [BACKUPS, name] if names::is_sidecar_name(name) => Self::Sidecar((*name).to_owned()),
            _ => return None,
        })
    }

    /// Returns the size limit of such a file. Limited because all but archives are held in memory.
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
