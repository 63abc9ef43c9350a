//! The content of a state: the files of the last sync, and the facts that later runs need.

use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::io::random_id::random_id;
use crate::sync::config::SyncConfig;
use crate::sync::contents::TextDigest;
use crate::sync::file_kind::FileKind;
use crate::sync::sides::{Side, Stat};
use std::collections::{BTreeSet, HashMap};

/// Maximum number of published manifests that the state remembers. A cloud client may restore an older one, and a kill
/// may have prevented the newest one from being written.
const MAX_PUBLISHED: usize = 8;
/// Maximum number of former contents of a plain file that the state remembers.
const MAX_REPLACED: usize = 8;

/// A file on one side, as the last sync left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideFile {
    /// Path relative to the root of the side.
    pub path: String,
    pub stat: Stat,
}

impl SideFile {
    pub(crate) fn new(path: &str, stat: Stat) -> Self {
        Self {
            path: path.to_owned(),
            stat,
        }
    }

    /// Returns true if path, size and mtime are unchanged since the last sync.
    pub(crate) fn matches(&self, path: &str, stat: Stat) -> bool {
        self.stat == stat && self.path == path
    }
}

/// A file as both sides had it after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedFile {
    pub local: SideFile,
    pub remote: SideFile,
    /// `None` if the text was not read.
    pub text: Option<TextDigest>,
}

impl SyncedFile {
    pub(crate) fn file_on(&self, side: Side) -> &SideFile {
        side.select(&self.local, &self.remote)
    }

    pub(crate) fn text_digest(&self) -> Option<Sha256Digest> {
        self.text.map(|text| text.digest)
    }

    /// Returns true if size and mtime on both sides equal those of the last sync.
    pub(crate) fn is_unchanged(&self, config: &SyncConfig) -> Result<bool, IoError> {
        let stat = |side, path: &str| Stat::read(&config.file_path(side, path));
        let is_local_same = stat(Side::Local, &self.local.path)? == Some(self.local.stat);
        Ok(is_local_same && stat(Side::Remote, &self.remote.path)? == Some(self.remote.stat))
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SyncState {
    /// Synced files, by key.
    pub files: HashMap<String, SyncedFile>,
    /// Facts shared with all machines: resolutions about versions of conversations ([`crate::sync::resolutions`]),
    /// and the ids of deletions that were cancelled because the file was created again.
    pub resolutions: BTreeSet<String>,
    /// Deletions that this machine requests from the others, by key.
    pub deleted: HashMap<String, Deletion>,
    /// Digests of the contents that plain files on this machine had before the present one, by key, the newest last; at
    /// most [`MAX_REPLACED`] for each file. A cloud client may restore these contents.
    pub replaced: HashMap<String, Vec<Sha256Digest>>,
    /// The manifests that this machine published.
    pub own: OwnManifests,
    pub file: StateFile,
    /// True once another machine has written a manifest. From then on sync waits for files to be attested.
    pub has_other_machines: bool,
    /// Digest of the notes of the last complete run; a run prints its notes only if they differ.
    pub notes_digest: Option<Sha256Digest>,
    /// True if files may have been synced that the state does not list: after damage of the state or a restore of the
    /// home, until a run has processed all files and found no conflict. Until then, mtimes do not decide which side is
    /// newer.
    pub has_gaps: bool,
    /// Marker of a restore of the home from an archive. Files missing since then do not count as deleted.
    pub restore_marker: Option<String>,
}

/// The manifests of this machine in the cloud folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnManifests {
    /// The suffix of this machine's manifest name; see [`crate::sync::manifest`].
    pub writer: String,
    /// End digests of the manifests that this machine published last, the newest last.
    pub published_digests: Vec<Sha256Digest>,
    /// End digests of manifests that this machine wrote under other names. Their entries count, but sync
    /// never waits for these machines.
    pub former_digests: Vec<Sha256Digest>,
}

/// The condition in which the state file was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateFile {
    /// True if a state file existed.
    pub exists: bool,
    /// The next write keeps a copy of the damaged file.
    pub damage: Option<StateDamage>,
    /// True if the file has to be rewritten before lines are appended.
    pub needs_rewrite: bool,
}

/// A deletion that is requested from other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Digest of the deleted content; no other content is deleted.
    pub digest: String,
    /// Random id that distinguishes the deletion from an earlier one of the same file.
    pub id: String,
}

impl Deletion {
    pub(crate) fn with_random_id(digest: String) -> Self {
        Self {
            digest,
            id: random_id(),
        }
    }
}

/// The unreadable part of a state file, as a clause after the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateDamage {
    /// The header of the file is damaged.
    #[error("cannot be read")]
    All,
    #[error("has unreadable lines")]
    Lines,
}

impl SyncState {
    /// Returns the digests of the contents that this machine had of a plain file before the present one.
    pub(crate) fn replaced_digests(&self, key: &str) -> &[Sha256Digest] {
        self.replaced.get(key).map_or(&[], Vec::as_slice)
    }

    /// Records a file that both sides have, and withdraws a deletion of the file. The state remembers the former
    /// contents of a plain file: the content of the last record, and `replaced_digest`, the content that the sync
    /// overwrote on one side.
    pub(crate) fn record_synced(
        &mut self,
        key: &str,
        file: SyncedFile,
        replaced_digest: Option<Sha256Digest>,
    ) {
        let present_digest = file.text_digest();
        self.deleted.remove(key);
        let last = self.files.insert(key.to_owned(), file);

        if FileKind::from_key(key) != FileKind::Plain {
            return;
        }

        let last_digest = last.as_ref().and_then(SyncedFile::text_digest);
        for former_digest in [last_digest, replaced_digest].into_iter().flatten() {
            let former_digests = self.replaced.entry(key.to_owned()).or_default();
            former_digests.retain(|digest| *digest != former_digest);
            former_digests.push(former_digest);
            let excess = former_digests.len().saturating_sub(MAX_REPLACED);
            former_digests.drain(..excess);
        }

        // The present content is no former one.
        if let Some(former_digests) = self.replaced.get_mut(key) {
            former_digests.retain(|digest| Some(*digest) != present_digest);
            if former_digests.is_empty() {
                self.replaced.remove(key);
            }
        }
    }

    /// Gives this machine's manifest a new name with a random suffix of 8 hex digits. The manifests published so far
    /// become former manifests.
    pub(crate) fn rename_manifest(&mut self) {
        random_id()[..8].clone_into(&mut self.own.writer);
        // A cloud client may restore any of them later, so all of them count as this machine's manifests.
        for end_digest in std::mem::take(&mut self.own.published_digests) {
            if !self.own.former_digests.contains(&end_digest) {
                self.own.former_digests.push(end_digest);
            }
        }
        self.file.needs_rewrite = true;
    }
}

impl OwnManifests {
    /// Records the end digest of a manifest that is about to be published, so that it counts as this
    /// machine's own.
    pub(crate) fn record_digest_to_publish(&mut self, end_digest: Sha256Digest) {
        if self.published_digests.last() == Some(&end_digest) {
            return;
        }
        self.published_digests
            .retain(|earlier| *earlier != end_digest);
        self.published_digests.push(end_digest);
        let excess = self.published_digests.len().saturating_sub(MAX_PUBLISHED);
        self.published_digests.drain(..excess);
    }
}
