//! The facts about one file, from which its decision and its step are made.

use crate::sync::config::{DecisionRules, SyncRemote};
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::contents::TextDigest;
use crate::sync::decide::FileFacts;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::Notice;
use crate::sync::plan::file_plan::FilePlan;
use crate::sync::plan::sync_step::{MergeOp, NewConflictCopy};
use crate::sync::sides::{ObservedFile, Side};
use crate::sync::state::SyncedFile;

/// The result of reading the files of a group.
pub(crate) enum FileReading<'a> {
    /// The plan needs no comparison: the files are equal by size and time, or a file cannot be used.
    Planned(Box<FilePlan>),
    Compared(Box<ComparedFile<'a>>),
}

impl FileReading<'_> {
    pub(super) fn planned(plan: impl Into<FilePlan>) -> Self {
        Self::Planned(Box::new(plan.into()))
    }
}

/// A file with the version of each side, and all that a decision and a step need to know, so that neither reads a file
/// again.
#[derive(Debug)]
pub(crate) struct ComparedFile<'a> {
    pub(crate) key: &'a str,
    /// Relative path for output and JSON.
    pub(crate) path: String,
    /// The file as the state records it after the last sync.
    pub(crate) last: Option<&'a SyncedFile>,
    pub(crate) local: Option<FileVersion>,
    pub(crate) remote: Option<FileVersion>,
    pub(crate) facts: FileFacts,
    pub(crate) rules: DecisionRules,
    /// The kind of the remote side, for messages.
    pub(crate) remote_kind: SyncRemote,
    /// The text of the last sync, if known; once both sides are found equal, the text that they have now.
    pub(crate) synced_text: Option<TextDigest>,
    /// The reason not to copy the remote version over the local one yet.
    pub(crate) download_risk: Option<&'static str>,
    /// Ids of the deletions that creating the file in the cloud folder cancels.
    pub(crate) cancelled_deletions: Vec<String>,
    /// True if the version that a copy replaces is saved in a snapshot first.
    pub(crate) is_backed_up: bool,
    /// Files of the group that are a login, whatever their name.
    pub(crate) logins: Vec<ObservedFile>,
    /// The merge of a line-based file, if its versions diverged or clients made copies of it.
    pub(crate) merge: Option<LineMergeFacts>,
    /// Empty unless the file is a conversation.
    pub(crate) conversation: ConversationVersions,
    pub(crate) notices: Vec<Notice>,
}

impl ComparedFile<'_> {
    pub(crate) fn version_on(&self, side: Side) -> Option<&FileVersion> {
        side.select(&self.local, &self.remote).as_ref()
    }
}

/// The union of the lines of all versions, compared with the files of both sides.
#[derive(Debug)]
pub(crate) struct LineMergeFacts {
    pub(crate) op: MergeOp,
    /// Number of bytes that the op writes.
    pub(crate) bytes: u64,
    /// True if clients' copies are among the versions.
    pub(crate) has_client_copies: bool,
    /// True if an attested file changed between its check and the merge.
    pub(crate) is_outdated: bool,
}

/// The other files and versions of a conversation.
#[derive(Debug, Default)]
pub(crate) struct ConversationVersions {
    /// Files to remove: the main version or a conflict copy contains all their lines.
    pub(crate) duplicates: Vec<ObservedFile>,
    /// Diverged versions beside the main ones that get a conflict copy.
    pub(crate) diverged_copies: Vec<NewConflictCopy>,
    /// The conflict copy that each main version gets if it loses. Empty unless the main versions diverged.
    pub(crate) losing_copies: Vec<NewConflictCopy>,
    /// The remote file under the conversation's own name, which other machines read. The remote main version can be
    /// another file: a client's copy that has more lines.
    pub(crate) canonical_remote: Option<ObservedFile>,
    /// Names of listed versions that will never arrive, because Codex rewrote the conversation. They are beginnings of
    /// the former text and longer than the new text, so machines would wait for them.
    pub(crate) given_up_names: Vec<String>,
    /// The messages that only one main version has; `None` unless the main versions diverged and the file name has an
    /// id.
    pub(crate) conflicting: Option<ConflictingVersions>,
    /// True if the newest rollout of the thread is archived; `None` unless the thread was rewound.
    pub(crate) is_thread_archived: Option<bool>,
}
