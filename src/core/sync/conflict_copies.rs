//! Conflict copies: versions of conversations that diverged, stored under names that Codex does not read
//! until the user decides.
//!
//! A conflict copy is the file `<conversation>.<16 hex digits of the digest of its text>.fork` in the folder of the
//! state and in `.codex-manager/forks/` of the cloud folder. Conversation and content determine the name, so that
//! several machines that store the same version write the same file. The files are never changed.

use super::cloud_names;
use super::manager_folder::{self, CONFLICT_COPIES_FOLDER};
use super::sides::{Side, Stat};
use super::state::{SyncState, SyncedFile};
use super::{contents, rollouts, scan};
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, sharing, tree};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const EXTENSION: &str = ".fork";
const DIGEST_PREFIX_CHARS: usize = 16;
/// Number of hex digits of the path digest in the file name if the conversation has no id.
const PATH_DIGEST_CHARS: usize = 8;
/// Maximum length of the stem in such a file name. The whole name has to stay below 255 bytes, the limit of common file
/// systems.
const MAX_STEM_BYTES: usize = 120;

/// A conflict copy, on one side or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictCopy {
    /// File name, the same on both sides, in the form that the docs of this module give.
    pub name: String,
    pub local: Option<Stat>,
    /// Size and mtime of the remote file, if it is downloaded.
    pub remote: Option<Stat>,
    /// True if the remote file exists but is not downloaded to this machine.
    pub is_placeholder: bool,
}

impl ConflictCopy {
    /// Returns the side from which to read the copy: the cloud folder only if this machine lacks the file.
    pub(crate) fn source_side(&self) -> Side {
        if self.local.is_some() {
            Side::Local
        } else {
            Side::Remote
        }
    }

    /// Returns the part of the file name that identifies the conversation; see [`conversation_label`].
    pub fn conversation_label(&self) -> &str {
        parse_file_name(&self.name).map_or("", |(label, _)| label)
    }

    /// Returns true if the copy is a version of the file with this key.
    pub(crate) fn belongs_to(&self, key: &str) -> bool {
        rollouts::is_key(key) && conversation_label(key) == self.conversation_label()
    }

    /// Returns the conversation as of the last sync; `None` if the state does not have it.
    pub fn last_synced<'s>(&self, state: &'s SyncState) -> Option<&'s SyncedFile> {
        let mut files = state.files.iter();
        let (_, last) = files.find(|(key, _)| self.belongs_to(key))?;
        Some(last)
    }

    /// Returns the id of the conversation, if the file name has one.
    pub fn session_id(&self) -> Option<&str> {
        let (_, id) = rollout::split_uuid(rollouts::parse_stem(self.conversation_label())?)?;
        Some(id)
    }

    /// Returns the part of the file name that identifies the version: the first 16 hex digits of the digest.
    pub fn digest_prefix(&self) -> &str {
        parse_file_name(&self.name).map_or("", |(_, prefix)| prefix)
    }

    /// Returns true if the bytes of a file match the digest in the name of the copy.
    pub(crate) fn matches_digest_of(&self, file: &Path) -> io::Result<bool> {
        Ok(digest_prefix(&contents::read_raw_digest(file)?) == self.digest_prefix())
    }

    /// Returns the file name of the version of the same conversation with this digest.
    pub(crate) fn sibling_name(&self, digest: &Sha256Digest) -> String {
        format_name(self.conversation_label(), digest)
    }
}

/// The folders of the conflict copies of one replica.
#[derive(Debug, Clone, Default)]
pub struct ConflictCopyFolders {
    local: PathBuf,
    remote: PathBuf,
}

impl ConflictCopyFolders {
    pub(crate) fn of(state_folder: &Path, cloud: &Path) -> Self {
        Self {
            local: state_folder.join(CONFLICT_COPIES_FOLDER),
            remote: manager_folder::conflict_copies_folder(cloud),
        }
    }

    fn folder(&self, side: Side) -> &Path {
        side.select(&self.local, &self.remote)
    }

    pub fn path(&self, side: Side, name: &str) -> PathBuf {
        self.folder(side).join(name)
    }

    /// Removes a conflict copy from one side. A missing file is no error.
    pub(crate) fn remove(&self, side: Side, name: &str) -> Result<(), IoError> {
        let path = self.path(side, name);
        match sharing::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &path),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub struct ConflictCopies {
    pub folders: ConflictCopyFolders,
    /// The conflict copies by file name. A digest would not identify them, because two conversations may have the same
    /// text.
    pub all: BTreeMap<String, ConflictCopy>,
}

/// Returns the first 16 hex digits of a digest, as used in file names.
pub(crate) fn digest_prefix(digest: &Sha256Digest) -> String {
    digest.to_string()[..DIGEST_PREFIX_CHARS].to_owned()
}

/// Returns the file name of a version of the conversation with this key.
pub(crate) fn format_file_name(key: &str, digest: &Sha256Digest) -> String {
    format_name(&conversation_label(key), digest)
}

fn format_name(label: &str, digest: &Sha256Digest) -> String {
    format!("{label}.{}{EXTENSION}", digest_prefix(digest))
}

/// Returns the part of the file name of a conflict copy that identifies the conversation: the name of the rollout
/// without `.jsonl`. If the name has no id, adds a digest of the path, because files of the same name in two folders
/// are two conversations.
pub(crate) fn conversation_label(key: &str) -> String {
    let file = rollouts::file_name(key);
    let stem = file.strip_suffix(".jsonl").unwrap_or(file);
    if rollouts::id(key).is_some() {
        return stem.to_owned();
    }
    // The longest prefix that fits and does not end within a character.
    let mut lengths = (0..=MAX_STEM_BYTES.min(stem.len())).rev();
    let prefix_length = lengths.find(|length| stem.is_char_boundary(*length));
    let short_stem = &stem[..prefix_length.unwrap_or_default()];
    let path_digest = Sha256Digest::of(key.as_bytes()).to_string();
    format!("{short_stem}-{}", &path_digest[..PATH_DIGEST_CHARS])
}

pub(crate) fn is_copy_name(name: &str) -> bool {
    parse_file_name(name).is_some()
}

/// Splits the file name of a conflict copy into the label of the conversation and the beginning of the digest; `None`
/// for other names.
fn parse_file_name(name: &str) -> Option<(&str, &str)> {
    let (label, prefix) = name.strip_suffix(EXTENSION)?.rsplit_once('.')?;
    // Only lower case: on a case-insensitive disk, two spellings would be one file.
    let is_lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let has_digest = prefix.len() == DIGEST_PREFIX_CHARS && prefix.bytes().all(is_lower_hex);
    let is_printable = !label.chars().any(char::is_control);
    (has_digest && is_printable && !label.is_empty() && !label.starts_with('.'))
        .then_some((label, prefix))
}

impl ConflictCopies {
    pub(crate) fn path_of(&self, side: Side, copy: &ConflictCopy) -> PathBuf {
        self.folders.path(side, &copy.name)
    }

    /// Returns true if the conversation at this path has the text of the copy. Reads no copy that is not downloaded.
    pub fn has_text_of(&self, copy: &ConflictCopy, conversation: &Path) -> bool {
        let path = self.path_of(copy.source_side(), copy);
        let is_downloaded = copy.local.or(copy.remote).is_some();
        is_downloaded
            && rollout::compare(conversation, &path)
                .is_ok_and(|relation| relation == rollout::Relation::Equal)
    }

    /// Lists the conflict copies of both sides. Skips files that do not have the name of a conflict copy.
    pub fn read(state_folder: &Path, cloud: &Path) -> Result<Self, IoError> {
        let mut copies = Self {
            folders: ConflictCopyFolders::of(state_folder, cloud),
            all: BTreeMap::new(),
        };

        for side in [Side::Local, Side::Remote] {
            let folder = copies.folders.folder(side).to_path_buf();
            for (name, _) in tree::list_if_exists(&folder)? {
                copies.add_file(side, &folder.join(name))?;
            }
        }
        Ok(copies)
    }

    /// Adds the file at `path` if its name is that of a conflict copy.
    fn add_file(&mut self, side: Side, path: &Path) -> Result<(), IoError> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        // Some cloud clients, such as iCloud Drive, replace a file that is not downloaded by a placeholder with another
        // name.
        let target = match side {
            Side::Local => None,
            Side::Remote => cloud_names::placeholder_target(&file_name),
        };
        let is_client_placeholder = target.is_some();
        let name = target.unwrap_or_else(|| file_name.into_owned());

        // Anyone can write into the cloud folder, and another name could lead out of the folder.
        if !is_copy_name(&name) {
            return Ok(());
        }
        let Some(stat) = Stat::read(path)? else {
            return Ok(());
        };

        let copy = self.all.entry(name.clone()).or_insert(ConflictCopy {
            name,
            local: None,
            remote: None,
            is_placeholder: false,
        });
        if is_client_placeholder || (side == Side::Remote && scan::is_placeholder(path)) {
            copy.is_placeholder = true;
        } else {
            *side.select(&mut copy.local, &mut copy.remote) = Some(stat);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_identifies_conversation_and_version() {
        let digest = Sha256Digest::of(b"x");
        let key = "conversation:sessions/a/rollout-1.jsonl";
        let own = format_file_name(key, &digest);
        assert_eq!(
            parse_file_name(&own),
            Some((&*conversation_label(key), &*digest_prefix(&digest)))
        );
        assert!(own.starts_with("rollout-1-"), "{own}");
        let elsewhere = format_file_name("conversation:sessions/b/rollout-1.jsonl", &digest);
        assert_ne!(own, elsewhere);
        let long = format!("conversation:sessions/{}.jsonl", "\u{e9}".repeat(124));
        assert!(format_file_name(&long, &digest).len() < 255);
        for foreign in [
            "rollout-1.0123456789abcdef (1).fork",
            "rollout-1.0123.fork",
            ".0123456789abcdef.fork",
            "x.0123456789abcdef.fork.tmp",
        ] {
            assert_eq!(parse_file_name(foreign), None, "{foreign}");
        }
    }
}
