//! Versions that other machines list and that have not arrived.

use crate::io::hash::Sha256Digest;
use crate::io::quantity::pluralize;
use crate::sync::manifest::ManifestEntry;
use crate::sync::remote_manifests::ListedVersion;
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};
use std::collections::{BTreeSet, HashMap};

/// A version that another machine lists and that the cloud client has not delivered to this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndeliveredVersion {
    /// Name of the machine that lists the version.
    pub machine: String,
    /// Relative path in the cloud folder.
    pub path: String,
    /// True for conversations, false for other files.
    pub is_conversation: bool,
    /// True if this machine has no version of the file.
    pub is_new: bool,
}

impl UndeliveredVersion {
    /// Returns the reason that output prints after the path.
    pub fn reason(&self) -> String {
        let what = if self.is_new {
            "has it"
        } else {
            "has a newer version"
        };
        format!("{} {what}, which has not arrived yet", self.machine)
    }

    /// Returns one line for each machine: "desk has 3 conversations that have not arrived yet".
    pub fn by_machine(all: &[Self]) -> Vec<String> {
        let machines: BTreeSet<&str> = all.iter().map(|file| &*file.machine).collect();
        let lines = machines.into_iter().map(|machine| {
            let on_machine = all.iter().filter(|file| file.machine == machine);
            let (conversations, files): (Vec<_>, Vec<_>) =
                on_machine.partition(|file| file.is_conversation);
            let counts = [(conversations.len(), "conversation"), (files.len(), "file")];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, noun)| pluralize(count, noun)).collect();
            let verb = if conversations.len() + files.len() == 1 {
                "has"
            } else {
                "have"
            };
            format!(
                "{machine} has {} that {verb} not arrived yet",
                counts.join(" and ")
            )
        });
        lines.collect()
    }
}

/// Versions of one file that other machines list and that may not have arrived.
#[derive(Debug)]
pub(super) struct UndeliveredFile {
    /// Each with a flag: true if the version certainly has not arrived; false if a new remote file could be this
    /// version, which is read only when it is planned.
    pub(super) versions: Vec<(ManifestEntry, bool)>,
    /// True if this machine has no version of the file.
    pub(super) is_new: bool,
    /// True if the cloud folder has no version of the file either.
    pub(super) is_absent: bool,
}

/// Undelivered files by the key that manifests use, which ignores letter case.
pub(super) type UndeliveredFiles = HashMap<String, UndeliveredFile>;

impl UndeliveredFile {
    /// Returns true if this version possibly has not arrived.
    pub(super) fn may_include(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(listed, _)| listed.digest == version.entry.digest)
    }

    /// Returns true if this version certainly has not arrived.
    pub(super) fn is_certain(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(listed, certain)| *certain && listed.digest == version.entry.digest)
    }

    /// Returns true if a version certainly has not arrived, or is newer than `remote`, the digest of the remote file.
    pub(super) fn has_newer_than(&self, remote: Option<Sha256Digest>) -> bool {
        let is_newer_than_remote = |version: &ManifestEntry| {
            remote.is_some_and(|remote| {
                let (listed, of_remote) = (version.history(), Ancestry::first(&remote));
                causal_order((&listed, &version.digest), (&of_remote, &remote))
                    == CausalOrder::Newer
            })
        };
        let mut versions = self.versions.iter();
        versions.any(|(version, certain)| *certain || is_newer_than_remote(version))
    }
}
