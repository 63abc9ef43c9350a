//! What is in an export. The manifest is its first entry, and the list of all others in their order.

use crate::accounts::profile_ops::check_name;
use crate::archive::entry_name::EntryName;
use crate::archive::names;
use crate::codex::home::AUTH_JSON;
use crate::inventory::{cooldown, observations, store};
use crate::io::clock::Timestamp;
use crate::io::document::Document;
use crate::io::hash::{self, Sha256Digest};
use serde::{Deserialize, Serialize};
use std::path::Component;

/// The name of the manifest in the export.
pub const NAME: &str = "export.json";

/// What the manifest calls the product.
pub const PRODUCT: &str = "codex-manager export";

/// `config.toml` of the manager home.
pub const CONFIG: &str = "config.toml";

/// The launch registry of the manager home.
pub const LAUNCHES: &str = "launches.jsonl";

/// The note of a profile.
pub const PROFILE_JSON: &str = "profile.json";

/// The folder of profiles.
pub const PROFILES: &str = "profiles";

/// The folder of archives.
pub const BACKUPS: &str = "backups";

/// The largest manifest that is read: room for more files than anybody has.
pub const MAX_MANIFEST_BYTES: u64 = 32 * 1024 * 1024;

/// The manifest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ExportManifest {
    /// [`PRODUCT`].
    pub product: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Which version made it.
    pub manager_version: String,
    /// Whether logins moved with it.
    pub with_logins: bool,
    /// Whether archives are in it.
    pub with_archives: bool,
    /// Everything else, in order.
    pub files: Vec<ExportFile>,
}

impl Document for ExportManifest {
    const SCHEMA: u64 = 1;
}

/// What tells an export from any other, by its manifest as it stands there: that names when it was made,
/// and the digest of every file.
pub fn id_of(manifest: &[u8]) -> String {
    hash::sha256(manifest)[..32].to_owned()
}

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportFile {
    /// Its path in the manager home.
    pub path: EntryName,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its content.
    pub sha256: Sha256Digest,
}

/// What a file of an export is, by its path. There are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportPart {
    /// `cooldown.json`.
    Cooldown,
    /// `inventory.json`.
    Inventory,
    /// `config.toml`.
    Config,
    /// `launches.jsonl`.
    Launches,
    /// What was seen of one account over time.
    Observations,
    /// `profile.json` of a profile.
    Profile(String),
    /// The login of a profile.
    Login(String),
    /// An archive, by its path below `backups/`.
    Archive(String),
    /// A sidecar, by its path below `backups/`.
    Sidecar(String),
}

impl ExportPart {
    /// What stands at this path of a manager home, if an export may hold it.
    pub fn of(path: &EntryName) -> Option<Self> {
        let parts: Vec<&str> = path
            .as_path()
            .components()
            .map(|component| match component {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect::<Option<_>>()?;
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

    /// The most bytes that such a file may have: all but archives are held in memory.
    pub fn max_bytes(&self) -> u64 {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Login(_) | Self::Profile(_) | Self::Sidecar(_) | Self::Config => MIB,
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
    fn nothing_else_than_what_we_write_is_part_of_an_export() {
        let part = |path: &str| {
            EntryName::parse(path.as_bytes())
                .ok()
                .and_then(|n| ExportPart::of(&n))
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
