//! Compares one conversation with its copies.

use crate::codex::{Relation, RolloutName, rollout};
use crate::conversations::{Message, MessageCounts, messages};
use crate::copies::losses::live::LiveRollout;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind};
use crate::copies::losses::prefix::{self, Mark};
use crate::copies::losses::rollout_copy::{CopyContent, CopyOrigin, RolloutCopy};
use crate::error::CommandError;
use crate::inventory::AcceptedLosses;
use crate::io::IoContext;
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The messages that a conversation lacks, by the number of the place that has them.
pub(crate) type LostMessages = BTreeMap<usize, Vec<Message>>;

/// A conversation that lacks messages.
#[derive(Debug)]
pub(crate) struct Loss {
    /// The id of the thread, in lower case.
    pub id: String,
    /// The newest live rollout.
    pub rollout_path: Option<PathBuf>,
    /// The number of the place with the fullest copy.
    pub place: usize,
    /// The messages that the fullest copy has and the conversation lacks.
    pub messages: Vec<Message>,
    lost: LostMessages,
}

impl Loss {
    /// Returns `None` if nothing is missed but what was accepted.
    pub(crate) fn of(
        id: String,
        mut lost: LostMessages,
        accepted: &AcceptedLosses,
    ) -> Option<Self> {
        for messages in lost.values_mut() {
            messages.retain(|message| !accepted.has(&id, message.digest));
        }
        let (place, messages) = lost
            .iter()
            .max_by_key(|(place, messages)| (messages.len(), Reverse(**place)))?;
        (!messages.is_empty()).then(|| Self {
            id,
            rollout_path: None,
            place: *place,
            messages: messages.clone(),
            lost: lost.clone(),
        })
    }

    /// Returns the time of the first message that is missing.
    pub(crate) fn first_lost(&self) -> Option<DateTime<Utc>> {
        self.messages.iter().filter_map(|message| message.at).min()
    }

    /// Returns the digests of all messages that any copy has and the conversation lacks.
    pub(crate) fn digests(&self) -> BTreeSet<u64> {
        let messages = self.lost.values().flatten();
        messages.map(|message| message.digest).collect()
    }

    /// Returns sets of names of places of which each must keep one, so that no message is gone; in each set the newest
    /// first.
    pub(crate) fn needed_names(
        &self,
        places: &[CopyPlace],
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Vec<Vec<String>> {
        let lost = self.lost.iter();
        let lost = lost.map(|(place, lost)| (&places[*place], lost));
        let wanted = lost.filter(|(place, _)| is_wanted(&place.kind));
        let places: Vec<(&str, BTreeSet<u64>)> = wanted
            .map(|(place, lost)| (&*place.name, lost.iter().map(|m| m.digest).collect()))
            .collect();
        let mut missed: BTreeSet<u64> = places.iter().flat_map(|(_, has)| has).copied().collect();
        let mut needed = Vec::new();
        // A greedy set cover: the smallest cover takes exponential time, and one place more only keeps an archive more.
        while !missed.is_empty() {
            let missed_in = places.iter().map(|(_, has)| has & &missed);
            let Some(best) = missed_in.max_by_key(BTreeSet::len) else {
                break;
            };
            let able = places.iter().filter(|(_, has)| has.is_superset(&best));
            needed.push(able.map(|(name, _)| (*name).to_owned()).collect());
            missed.retain(|digest| !best.contains(digest));
        }
        needed
    }
}

/// Returns the messages that the copies have and no live rollout of the thread has.
///
/// # Errors
/// A live rollout or a copy cannot be read, or the user interrupts.
pub(crate) fn thread(
    live: &[LiveRollout],
    copies: &[RolloutCopy],
    sources: &[Option<CopyOrigin>],
) -> Result<LostMessages, CommandError> {
    let mut left: Vec<&RolloutCopy> = copies.iter().collect();
    for rollout in live {
        // Most copies are an earlier state of the rollout. Their digests show that without unpacking an
        // archive.
        let _ = take_beginnings(&mut left, &rollout.file, &rollout.path)?;
    }
    let mut lost = LostMessages::new();
    if left.is_empty() {
        return Ok(lost);
    }
    let mut held = MessageCounts::default();
    for rollout in live {
        // All rollouts of the thread together: a migration or a rewind spreads its messages over several.
        held.add(&messages::read(&rollout.path).at("read", &rollout.path)?);
    }
    while !left.is_empty() {
        let copy = left.remove(0);
        let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let path = content(copy, sources, folder.path())?;
        let found = messages::read(&path).at("read", &path)?;
        // Shorter versions are not extracted.
        let shorter = take_beginnings(&mut left, &copy.file, &path)?;
        for copy in shorter.into_iter().chain([copy]) {
            let end = copy.text_len().unwrap_or(u64::MAX);
            let end = found.partition_point(|message| message.offset < end);
            let missing = held.missing(&found[..end]);
            for place in &copy.places {
                lost.entry(*place).or_default().extend(&missing);
            }
        }
    }
    Ok(lost)
}

/// Returns the path of a copy, which is extracted into `folder` if it is in an archive.
fn content(
    copy: &RolloutCopy,
    sources: &[Option<CopyOrigin>],
    folder: &Path,
) -> Result<PathBuf, CommandError> {
    let entry = match &copy.content {
        CopyContent::File(path) => return Ok(path.clone()),
        CopyContent::Entry(entry) => entry,
    };
    let name = entry.path.as_path().file_name().unwrap_or_default();
    let path = folder.join(name);
    let file = std::fs::File::create_new(&path).at("create", &path)?;
    let sources = copy.places.iter().filter_map(|place| sources.get(*place));
    if let Some(source) = sources.flatten().next() {
        source.extract(entry, &file)?;
    }
    Ok(path)
}

/// Takes out the copies of the rollout `file` that the file at `path` begins with.
fn take_beginnings<'a>(
    copies: &mut Vec<&'a RolloutCopy>,
    file: &RolloutName,
    path: &Path,
) -> Result<Vec<&'a RolloutCopy>, CommandError> {
    let marks = |compressed: bool| -> Vec<Mark> {
        let wanted = RolloutName {
            compressed,
            ..file.clone()
        };
        let same = copies.iter().filter(|copy| copy.file == wanted);
        same.filter_map(|copy| mark(copy)).collect()
    };
    // A rollout that cannot be decompressed to the end has the text before the damage.
    let plain = prefix::in_text(path, marks(false)).unwrap_or_default();
    let compressed = if file.compressed {
        prefix::in_bytes(path, marks(true)).at("read", path)?
    } else {
        Vec::new()
    };
    let is_beginning = |copy: &mut &RolloutCopy| {
        let marks = if copy.file.compressed {
            &compressed
        } else {
            &plain
        };
        copy.file.name == file.name
            && match &copy.content {
                CopyContent::Entry(_) => mark(copy).is_some_and(|mark| marks.contains(&mark)),
                CopyContent::File(copy) => matches!(
                    rollout::compare(copy, path),
                    Ok(Relation::Equal | Relation::SecondExtends)
                ),
            }
    };
    Ok(copies.extract_if(.., is_beginning).collect())
}

fn mark(copy: &RolloutCopy) -> Option<Mark> {
    match &copy.content {
        CopyContent::Entry(entry) => Some((entry.size, entry.sha256?)),
        CopyContent::File(_) => None,
    }
}
