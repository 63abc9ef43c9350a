//! Compares one conversation with its copies.

use crate::codex::rollout::{self, Relation, RolloutName};
use crate::conversations::messages::{self, Message, MessageCounts};
use crate::copies::losses::live::LiveRollout;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind};
use crate::copies::losses::prefix::{self, Mark};
use crate::copies::losses::rollout_copy::{CopyContent, CopyOrigin, RolloutCopy};
use crate::error::CommandError;
use crate::inventory::losses::AcceptedLosses;
use crate::io::{IoContext, file_open};
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A message that a rollout of a conversation lacks.
#[derive(Debug, Clone)]
pub(crate) struct LostMessage {
    pub message: Message,
    pub rollout_id: String,
}

/// The messages that a conversation lacks, by the number of the place that has them.
pub(crate) type LostMessages = BTreeMap<usize, Vec<LostMessage>>;

/// A lost message as several copies have it: its rollout, its digest, and the number of equal ones before it.
type LostOccurrence<'a> = (&'a str, u64, usize);

/// A conversation with the copies of what Codex shows of it.
pub(crate) struct ComparedThread<'a> {
    pub live: &'a [LiveRollout],
    pub copies: Vec<&'a RolloutCopy>,
    /// The rollouts of deleted conversations that it continues, with the offsets up to which it does.
    pub bases: HashMap<String, u64>,
}

impl ComparedThread<'_> {
    /// Returns the offset in the plain text of a copy up to which its messages are compared.
    fn end_of(&self, copy: &RolloutCopy) -> u64 {
        let len = copy.text_len().unwrap_or(u64::MAX);
        let cut = self.bases.get(&copy.rollout_id());
        cut.map_or(len, |cut| len.min(*cut))
    }

    /// Counts the messages of a live rollout.
    fn count_live(&self, rollout_id: &str) -> Result<MessageCounts, CommandError> {
        let mut counts = MessageCounts::default();
        for rollout in self.live {
            let id = rollout.file.rollout_id();
            if id.is_some_and(|id| id.eq_ignore_ascii_case(rollout_id)) {
                counts.add(&messages::read(&rollout.path).at("read", &rollout.path)?);
            }
        }
        Ok(counts)
    }
}

/// A conversation that lacks messages.
#[derive(Debug)]
pub(crate) struct Loss {
    /// The id of the thread, in lower case.
    pub id: String,
    /// The newest live rollout.
    pub rollout_path: Option<PathBuf>,
    /// The number of the place with the most complete copy.
    pub place: usize,
    /// The messages of the most complete copy that the conversation lacks.
    pub messages: Vec<LostMessage>,
    /// The id of the conversation to restore: a deleted one if the place has no other.
    pub restored_id: String,
    lost: LostMessages,
}

impl Loss {
    /// Creates the loss of the messages in `lost` that the user did not accept. Returns `None` if there are none.
    pub(crate) fn from_lost(
        id: String,
        mut lost: LostMessages,
        accepted: &AcceptedLosses,
    ) -> Option<Self> {
        for messages in lost.values_mut() {
            messages.retain(|lost| !accepted.contains(&id, lost.message.dated_digest()));
        }
        let (place, messages) = lost
            .iter()
            .max_by_key(|(place, messages)| (messages.len(), Reverse(**place)))?;
        (!messages.is_empty()).then(|| Self {
            restored_id: id.clone(),
            id,
            rollout_path: None,
            place: *place,
            messages: messages.clone(),
            lost: lost.clone(),
        })
    }

    /// Returns the time of the first message that is missing.
    pub(crate) fn first_lost(&self) -> Option<DateTime<Utc>> {
        self.messages
            .iter()
            .filter_map(|lost| lost.message.at)
            .min()
    }

    /// Returns the digests, with their times, of all messages that any copy has and the conversation lacks.
    pub(crate) fn dated_digests(&self) -> BTreeSet<u64> {
        let messages = self.lost.values().flatten();
        messages.map(|lost| lost.message.dated_digest()).collect()
    }

    /// Returns sets of places of which each must keep one, so that no message is gone; in each set the newest first.
    pub(crate) fn needed_places(
        &self,
        places: &[CopyPlace],
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Vec<Vec<CopyPlace>> {
        let wanted = self
            .lost
            .iter()
            .map(|(place, lost)| (&places[*place], lost));
        let wanted = wanted.filter(|(place, _)| is_wanted(&place.kind));
        let places: Vec<_> = wanted
            .map(|(place, lost)| (place, number_occurrences(lost)))
            .collect();
        let mut missed: BTreeSet<LostOccurrence<'_>> =
            places.iter().flat_map(|(_, has)| has).copied().collect();
        let mut needed = Vec::new();
        while !missed.is_empty() {
            let best = places
                .iter()
                .map(|(_, has)| has & &missed)
                .max_by_key(BTreeSet::len);
            let Some(best) = best.filter(|best| !best.is_empty()) else {
                break;
            };
            let able = places.iter().filter(|(_, has)| has.is_superset(&best));
            needed.push(able.map(|(place, _)| CopyPlace::clone(place)).collect());
            missed.retain(|lost| !best.contains(lost));
        }
        needed
    }
}

fn number_occurrences(messages: &[LostMessage]) -> BTreeSet<LostOccurrence<'_>> {
    let mut occurrences = BTreeSet::new();
    let mut counts: HashMap<(&str, u64), usize> = HashMap::new();
    for lost in messages {
        let (rollout_id, digest) = (lost.rollout_id.as_str(), lost.message.digest);
        let count = counts.entry((rollout_id, digest)).or_default();
        occurrences.insert((rollout_id, digest, *count));
        *count += 1;
    }
    occurrences
}

/// Returns the messages that the copies have and the live rollouts lack.
///
/// A copy is compared with the rollout of its id only: another rollout of the thread may have an equal message, such
/// as "continue", in its own turns.
///
/// # Errors
/// A live rollout or a copy cannot be read, or the user interrupts.
pub(crate) fn find_lost_messages(
    thread: &ComparedThread<'_>,
    sources: &[Option<CopyOrigin>],
) -> Result<LostMessages, CommandError> {
    let mut left = thread.copies.clone();
    for rollout in thread.live {
        let _ = take_beginnings(&mut left, &rollout.file, &rollout.path)?;
    }
    let mut lost = LostMessages::new();
    let mut counts: HashMap<String, MessageCounts> = HashMap::new();
    while !left.is_empty() {
        let copy = left.remove(0);
        let rollout_id = copy.rollout_id();
        if !counts.contains_key(&rollout_id) {
            counts.insert(rollout_id.clone(), thread.count_live(&rollout_id)?);
        }
        let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let path = extract_copy(copy, sources, folder.path())?;
        let found = messages::read(&path).at("read", &path)?;
        // Shorter versions are not extracted.
        let shorter = take_beginnings(&mut left, &copy.file, &path)?;
        for copy in shorter.into_iter().chain([copy]) {
            let end = thread.end_of(copy);
            let end = found.partition_point(|message| message.offset < end);
            let missing = counts[&rollout_id].find_missing(&found[..end]);
            let missing = missing.into_iter().map(|message| LostMessage {
                message,
                rollout_id: rollout_id.clone(),
            });
            let missing: Vec<_> = missing.collect();
            for place in &copy.places {
                lost.entry(*place).or_default().extend_from_slice(&missing);
            }
        }
    }
    Ok(lost)
}

/// Returns the path of a copy. Extracts it into `folder` if it is in an archive.
fn extract_copy(
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

/// Removes the copies of the rollout `file` from `copies` that are a prefix of the file at `path`, or equal to it, and
/// returns them.
fn take_beginnings<'a>(
    copies: &mut Vec<&'a RolloutCopy>,
    file: &RolloutName,
    path: &Path,
) -> Result<Vec<&'a RolloutCopy>, CommandError> {
    let marks = |of_compressed: bool| -> Vec<Mark> {
        let same = copies
            .iter()
            .filter(|copy| copy.file.name == file.name && copy.file.compressed == of_compressed);
        same.filter_map(|copy| size_and_digest(copy)).collect()
    };
    // A rollout that cannot be decompressed to the end has the text before the damage.
    let text = || rollout::open_plain(path);
    let plain = prefix::match_marks(text, marks(false)).unwrap_or_default();
    let compressed = if file.compressed {
        prefix::match_marks(|| file_open::open(path), marks(true)).at("read", path)?
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
                CopyContent::Entry(_) => {
                    size_and_digest(copy).is_some_and(|mark| marks.contains(&mark))
                }
                CopyContent::File(copy) => matches!(
                    rollout::compare(copy, path),
                    Ok(Relation::Equal | Relation::SecondExtends)
                ),
            }
    };
    Ok(copies.extract_if(.., is_beginning).collect())
}

fn size_and_digest(copy: &RolloutCopy) -> Option<Mark> {
    match &copy.content {
        CopyContent::Entry(entry) => Some((entry.size, entry.digest?)),
        CopyContent::File(_) => None,
    }
}
