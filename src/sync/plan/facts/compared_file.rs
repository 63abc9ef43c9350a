//! All that is known of one file: the input of its decision and of its step.

use crate::io::hash::Sha256Digest;
use crate::sync::config::{DecisionRules, SyncRemote};
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::decide::FileFacts;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::Notice;
use crate::sync::plan::file_plan::FilePlan;
use crate::sync::sides::{ObservedFile, Side};
use crate::sync::state::SyncedFile;

/// A group of files after its contents were read.
pub(crate) enum FileReading<'a> {
    /// The files are equal by size and time, or cannot be used.
    Settled(Box<FilePlan>),
    Compared(Box<ComparedFile<'a>>),
}

/// A file with the version that represents each side. No file has to be read again to decide about it or to plan its
/// step.
#[derive(Debug)]
pub(crate) struct ComparedFile<'a> {
    pub(crate) key: &'a str,
    /// Relative path that output and JSON show.
    pub(crate) path: String,
    /// The file as the state records it after the last sync.
    pub(crate) last: Option<&'a SyncedFile>,
    pub(crate) local: Option<FileVersion>,
    pub(crate) remote: Option<FileVersion>,
    pub(crate) facts: FileFacts,
    pub(crate) rules: DecisionRules,
    /// The store of the remote version, for messages.
    pub(crate) remote_kind: SyncRemote,
    /// Length and digest of the text that both sides have, if known.
    pub(crate) contents: Option<(u64, Sha256Digest)>,
    /// The reason not to copy the remote version over the local one yet.
    pub(crate) download_risk: Option<&'static str>,
    /// Ids of the deletions that creating the file in the cloud folder cancels.
    pub(crate) cancelled_deletions: Vec<String>,
    /// True if the version that a copy replaces goes to a snapshot.
    pub(crate) is_backed_up: bool,
    /// Copies of a login under another name.
    pub(crate) logins: Vec<ObservedFile>,
    /// The merge of a line-based file whose versions diverged, or of which clients made copies.
    pub(crate) merge: Option<LineMergeFacts>,
    /// Known only for conversations.
    pub(crate) conversation: ConversationVersions,
    pub(crate) notices: Vec<Notice>,
}

impl ComparedFile<'_> {
    pub(crate) fn version(&self, side: Side) -> Option<&FileVersion> {
        match side {
            Side::Local => self.local.as_ref(),
            Side::Remote => self.remote.as_ref(),
        }
    }
}

/// The union of the lines of all versions, compared with the files of both sides.
#[derive(Debug)]
pub(crate) struct LineMergeFacts {
    /// The files to merge, each with the digest of the bytes that were read.
    pub(crate) versions: Vec<(ObservedFile, Sha256Digest)>,
    /// The sides that lack lines.
    pub(crate) changed: Vec<MergedSide>,
    /// True if both sides have the same lines afterwards; false if the local file lacks old prompts.
    pub(crate) is_one_text: bool,
    /// True if clients' copies are among the versions.
    pub(crate) has_client_copies: bool,
    /// True if an attested file changed between its check and the merge.
    pub(crate) is_outdated: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct MergedSide {
    pub(crate) side: Side,
    /// Index of the first merged line that the side keeps.
    pub(crate) first: usize,
    pub(crate) bytes: u64,
}

/// The other files and versions of a conversation.
#[derive(Debug, Default)]
pub(crate) struct ConversationVersions {
    /// Files to remove: the main version or a conflict copy contains all their lines.
    pub(crate) duplicates: Vec<ObservedFile>,
    /// Diverged versions beside the main ones that get a conflict copy.
    pub(crate) diverged: Vec<NewConflictCopy>,
    /// The conflict copy that each main version gets if it loses. Empty unless they diverged.
    pub(crate) losers: Vec<NewConflictCopy>,
    /// The remote file under the conversation's own name, which other machines read; the remote main version can also
    /// be a client's copy that has more lines.
    pub(crate) canonical: Option<ObservedFile>,
    /// Names of the listed versions that are given up because Codex rewrote the conversation: they are beginnings of
    /// the former text, and longer than the new one, so machines would wait for them.
    pub(crate) given_up: Vec<String>,
    /// The messages that only one main version has, if the main versions diverged and their name has an id.
    pub(crate) versions: Option<ConflictingVersions>,
}

/// A version that gets a conflict copy.
#[derive(Debug, Clone)]
pub(crate) struct NewConflictCopy {
    pub(crate) from: ObservedFile,
    /// File name of the conflict copy.
    pub(crate) name: String,
    /// Digest of the uncompressed text.
    pub(crate) digest: Sha256Digest,
}
