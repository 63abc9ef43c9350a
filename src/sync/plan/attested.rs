//! The versions of a file that machines attest, and the ancestry that they record.

use super::inputs::Planner;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::remote_manifests;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::version_vector::Ancestry;

impl Planner<'_> {
    /// Returns the versions of a file that other machines or this one attest.
    pub(super) fn attested_versions<'a>(
        &'a self,
        key: &str,
    ) -> Result<impl Iterator<Item = &'a ManifestEntry>, IoError> {
        let others = self.manifests()?.entries(key);
        Ok(others.iter().chain(self.ledger_versions(key)?))
    }

    /// Returns the merged ancestry of a text from all machines that attest it. If none does, this machine's manifest in
    /// the cloud folder counts, which can be an earlier one that a cloud client restored.
    pub(super) fn attested_ancestry(
        &self,
        key: &str,
        digest: &Sha256Digest,
    ) -> Result<Option<Ancestry>, IoError> {
        let attested = manifest::listed_ancestry(digest, self.attested_versions(key)?);
        Ok(match attested {
            Some(attested) => Some(attested),
            None => manifest::listed_ancestry(digest, self.own_published(key)),
        })
    }

    /// Returns the entries of a file in this machine's manifest in the cloud folder.
    fn own_published(&self, key: &str) -> &[ManifestEntry] {
        let read = || remote_manifests::read_own_entries(&self.own_manifest());
        let own = self.own_published.get_or_init(read);
        own.get(&manifest::fold_name(key))
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the digest of a remote file that no machine attests any more, if it is a complete earlier version: a
    /// known version replaced it, or an earlier manifest of this machine lists it. An empty file does not count if
    /// there are no other machines: a client more likely emptied it than restored it.
    pub(super) fn superseded_digest(
        &self,
        key: &str,
        found: &ListedFile,
    ) -> Result<Option<Sha256Digest>, IoError> {
        if found.stat.size == 0 && !self.has_other_machines()? {
            return Ok(None);
        }
        let recorded = self.state.histories.get(key);
        let attested = self
            .attested_versions(key)?
            .filter_map(|entry| entry.history.as_deref());
        let mut known_ancestries = recorded.into_iter().chain(attested).peekable();
        let mut published = self.own_published(key).iter();
        let has_same_size = |entry: &&ManifestEntry| entry.size == found.stat.size;
        if known_ancestries.peek().is_none()
            && !published.clone().any(|entry| has_same_size(&entry))
        {
            return Ok(None);
        }
        let path = self.request.config.file_path(Side::Remote, &found.path);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let is_known = known_ancestries.any(|history| history.replaces(&digest))
            || published.any(|entry| entry.digest == digest);
        Ok(is_known.then_some(digest))
    }

    /// Returns true if other machines write manifests, or did.
    pub(super) fn has_other_machines(&self) -> Result<bool, IoError> {
        Ok(self.state.has_other_machines || self.manifests()?.machines > 0)
    }

    /// Returns the ancestry of a text, from all manifests and the state.
    pub(super) fn ancestry_of(
        &self,
        key: &str,
        digest: &Sha256Digest,
    ) -> Result<Ancestry, IoError> {
        let last = self.state.files.get(key);
        let is_last = last.is_some_and(|last| last.contents.is_some_and(|(_, of)| of == *digest));
        let known = self.state.histories.get(key).filter(|_| is_last);
        let history = known.map(|history| history.with_explicit_vector(digest));
        Ok(match self.attested_ancestry(key, digest)? {
            Some(attested) => {
                history.map_or(attested.clone(), |history| history.merge(&attested, digest))
            }
            None => history.unwrap_or_else(|| Ancestry::first(digest)),
        })
    }
}
