//! Versions of conversations that went on differently: kept under a name that Codex does not read,
//! until somebody decides.
//!
//! `<conversation>.<16 hex of the digest of its text>.fork`, in the folder of the state and in
//! `.codex-manager/forks/` of the cloud folder. The contents make the name, so that several machines
//! that keep the same version write the same file; none is ever changed.

use super::manifest::OURS;
use super::rollouts;
use super::scan::{Side, Stat};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of forks, on either side.
pub const FOLDER: &str = "forks";
const EXTENSION: &str = ".fork";
const DIGEST_CHARS: usize = 16;

/// A kept version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Its file name.
    pub name: String,
    /// Its size here, where it is here.
    pub here: Option<Stat>,
    /// The same in the cloud folder.
    pub there: Option<Stat>,
}

impl Fork {
    /// The name of the conversation's file without `.jsonl`.
    pub fn conversation(&self) -> &str {
        parse(&self.name).map_or("", |(conversation, _)| conversation)
    }

    /// What tells it from others: the beginning of its digest.
    pub fn mark(&self) -> &str {
        parse(&self.name).map_or("", |(_, mark)| mark)
    }
}

/// All kept versions of one pair, by their mark.
#[derive(Debug, Default)]
pub struct Forks {
    /// See [`Fork::mark`].
    pub all: BTreeMap<String, Fork>,
}

/// The folder on one side.
pub fn folder(side: Side, state: &Path, cloud: &Path) -> PathBuf {
    match side {
        Side::Here => state.join(FOLDER),
        Side::There => cloud.join(OURS).join(FOLDER),
    }
}

/// The beginning of a digest that names a fork.
pub fn mark(digest: &Sha256Digest) -> String {
    digest.to_string()[..DIGEST_CHARS].to_owned()
}

/// The file name of a version of the conversation of this key.
pub fn name(key: &str, digest: &Sha256Digest) -> String {
    let file = rollouts::file_name(key);
    let stem = file.strip_suffix(".jsonl").unwrap_or(file);
    format!("{stem}.{}{EXTENSION}", mark(digest))
}

fn parse(name: &str) -> Option<(&str, &str)> {
    let (conversation, mark) = name.strip_suffix(EXTENSION)?.rsplit_once('.')?;
    let fits = mark.len() == DIGEST_CHARS
        && mark
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let plain = !conversation.chars().any(char::is_control);
    (fits && plain && !conversation.is_empty() && !conversation.starts_with('.'))
        .then_some((conversation, mark))
}

impl Forks {
    /// Lists both sides. Names that do not follow the grammar are nobody's.
    pub fn read(state: &Path, cloud: &Path) -> Result<Self, IoError> {
        let mut forks = Self::default();
        for side in [Side::Here, Side::There] {
            let folder = folder(side, state, cloud);
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).at("list", &folder),
            };
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some((_, mark)) = parse(&name) else {
                    continue;
                };
                let Some(stat) = Stat::at(&entry.path())? else {
                    continue;
                };
                let mark = mark.to_owned();
                let fork = forks.all.entry(mark).or_insert(Fork {
                    name,
                    here: None,
                    there: None,
                });
                match side {
                    Side::Here => fork.here = Some(stat),
                    Side::There => fork.there = Some(stat),
                }
            }
        }
        Ok(forks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_version_it_is_and_which() {
        let digest = Sha256Digest::of(b"x");
        let name = name("conversation:sessions/a/rollout-1.jsonl", &digest);
        assert_eq!(parse(&name), Some(("rollout-1", &*mark(&digest))));
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
