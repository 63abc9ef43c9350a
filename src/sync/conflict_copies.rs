//! Versions of conversations that went on differently: kept under a name that Codex does not read,
//! until somebody decides.
//!
//! `<conversation>.<16 hex of the digest of its text>.fork`, in the folder of the state and in
//! `.codex-manager/forks/` of the cloud folder. The conversation and the contents make the name, so that
//! several machines that keep the same version write the same file; none is ever changed.

use super::cloud_names;
use super::manifest::MANAGER_FOLDER;
use super::remote_manifests;
use super::rollouts;
use super::scan::{Side, Stat};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of forks, on either side.
pub const FOLDER: &str = "forks";
const EXTENSION: &str = ".fork";
const DIGEST_PREFIX_CHARS: usize = 16;
/// How much of the digest of a path stands in the name, and how many bytes of the file's own name at most:
/// the whole has to be a name that every disk takes.
const PATH_DIGEST_CHARS: usize = 8;
const STEM_BYTES: usize = 120;

/// A kept version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictCopy {
    /// Its file name.
    pub name: String,
    /// Its size here, where it is here.
    pub local: Option<Stat>,
    /// The same in the cloud folder.
    pub remote: Option<Stat>,
    /// Whether it is in the cloud folder and not downloaded to this machine.
    pub is_placeholder: bool,
}

impl ConflictCopy {
    /// What [`label`] gives for its conversation.
    pub fn conversation(&self) -> &str {
        parse(&self.name).map_or("", |(conversation, _)| conversation)
    }

    /// What tells it from other versions of its conversation: the beginning of its digest.
    pub fn digest_prefix(&self) -> &str {
        parse(&self.name).map_or("", |(_, mark)| mark)
    }

    /// The name of another version of the same conversation.
    pub fn sibling_name(&self, digest: &Sha256Digest) -> String {
        format_name(self.conversation(), digest)
    }
}

/// All kept versions of one pair.
#[derive(Debug, Default)]
pub struct ConflictCopies {
    /// By name: two conversations may have the same text.
    pub all: BTreeMap<String, ConflictCopy>,
}

/// The folder on one side.
pub fn folder(side: Side, state: &Path, cloud: &Path) -> PathBuf {
    match side {
        Side::Local => state.join(FOLDER),
        Side::Remote => cloud.join(MANAGER_FOLDER).join(FOLDER),
    }
}

/// The beginning of a digest that names a fork.
pub fn digest_prefix(digest: &Sha256Digest) -> String {
    digest.to_string()[..DIGEST_PREFIX_CHARS].to_owned()
}

/// The file name of a version of the conversation of this key.
pub fn file_name(key: &str, digest: &Sha256Digest) -> String {
    format_name(&conversation_label(key), digest)
}

fn format_name(label: &str, digest: &Sha256Digest) -> String {
    format!("{label}.{}{EXTENSION}", digest_prefix(digest))
}

/// What names of forks have for the conversation of this key: the name of its file without `.jsonl`, and
/// where no id is in that the beginning of the digest of its place: two files of one name in two folders
/// are two conversations.
pub fn conversation_label(key: &str) -> String {
    let file = rollouts::file_name(key);
    let stem = file.strip_suffix(".jsonl").unwrap_or(file);
    if rollouts::id(key).is_some() {
        return stem.to_owned();
    }
    let mut ends = (0..=STEM_BYTES.min(stem.len())).rev();
    let end = ends.find(|end| stem.is_char_boundary(*end));
    let begin = &stem[..end.unwrap_or_default()];
    let place = Sha256Digest::of(key.as_bytes()).to_string();
    format!("{begin}-{}", &place[..PATH_DIGEST_CHARS])
}

/// Whether a fork can have this name.
pub fn is_file_name(name: &str) -> bool {
    parse(name).is_some()
}

fn parse(name: &str) -> Option<(&str, &str)> {
    let (conversation, mark) = name.strip_suffix(EXTENSION)?.rsplit_once('.')?;
    let fits = mark.len() == DIGEST_PREFIX_CHARS
        && mark
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let plain = !conversation.chars().any(char::is_control);
    (fits && plain && !conversation.is_empty() && !conversation.starts_with('.'))
        .then_some((conversation, mark))
}

impl ConflictCopies {
    /// Lists both sides. Names that do not follow the grammar are nobody's.
    pub fn read(state: &Path, cloud: &Path) -> Result<Self, IoError> {
        let mut copies = Self::default();
        for side in [Side::Local, Side::Remote] {
            let folder = folder(side, state, cloud);
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).at("list", &folder),
            };
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let stands_for =
                    cloud_names::placeholder_target(&name).filter(|_| side == Side::Remote);
                let is_stand_in = stands_for.is_some();
                let name = stands_for.unwrap_or(name);
                if parse(&name).is_none() {
                    continue;
                }
                let Some(stat) = Stat::at(&entry.path())? else {
                    continue;
                };
                let fork = copies.all.entry(name.clone()).or_insert(ConflictCopy {
                    name,
                    local: None,
                    remote: None,
                    is_placeholder: false,
                });
                if is_stand_in
                    || side == Side::Remote && remote_manifests::is_placeholder(&entry.path())
                {
                    fork.is_placeholder = true;
                    continue;
                }
                match side {
                    Side::Local => fork.local = Some(stat),
                    Side::Remote => fork.remote = Some(stat),
                }
            }
        }
        Ok(copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_version_it_is_and_which() {
        let digest = Sha256Digest::of(b"x");
        let key = "conversation:sessions/a/rollout-1.jsonl";
        let own = file_name(key, &digest);
        assert_eq!(
            parse(&own),
            Some((&*conversation_label(key), &*digest_prefix(&digest)))
        );
        assert!(own.starts_with("rollout-1-"), "{own}");
        let elsewhere = file_name("conversation:sessions/b/rollout-1.jsonl", &digest);
        assert_ne!(own, elsewhere);
        let long = format!("conversation:sessions/{}.jsonl", "\u{e9}".repeat(124));
        assert!(file_name(&long, &digest).len() < 255);
        for foreign in [
            "rollout-1.0123456789abcdef (1).fork",
            "rollout-1.0123.fork",
            ".0123456789abcdef.fork",
            "x.0123456789abcdef.fork.tmp",
        ] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }
}
