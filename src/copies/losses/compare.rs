//! Compares one conversation with its copies.

use crate::copies::losses::live::LiveRollout;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind, SearchedPlace};
use crate::copies::losses::rollout_copy::{CopyContent, RolloutCopy};
use crate::error::{CommandError, Result};
use chrono::{DateTime, Utc};
use codex_manager_core::codex::{Relation, RolloutName, rollout};
use codex_manager_core::conversations::messages::{self, Message, MessageCounts};
use codex_manager_core::inventory::losses::AcceptedLosses;
use codex_manager_core::io::{ContentDigest, ContentHasher, IoContext, file_open, is_interrupted};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(crate) struct LostMessage {
    pub message: Message,
    pub rollout_id: String,
}

/// The messages that a conversation lacks. Each key is the index of a place, such as an archive, that has them.
pub(crate) type LostMessagesByPlace = BTreeMap<usize, Vec<LostMessage>>;

/// Identifies one of several equal lost messages in all copies: the id of the rollout, the digest of the message, and
/// the number of equal messages before it.
type LostOccurrence<'a> = (&'a str, u64, usize);

/// A conversation with the copies of its rollouts, and of the rollouts that it continues.
pub(crate) struct ComparedThread<'a> {
    pub live: &'a [LiveRollout],
    pub copies: Vec<&'a RolloutCopy>,
    /// The rollouts of deleted conversations that this one continues: the id of each, with the offset in its plain text
    /// at which this conversation continues it.
    pub bases: HashMap<String, u64>,
}

impl ComparedThread<'_> {
    /// Returns the end of the compared part of a copy's plain text, in bytes; `u64::MAX` for the whole text of unknown
    /// length.
    fn compared_len(&self, copy: &RolloutCopy) -> u64 {
        let len = copy.known_text_len().unwrap_or(u64::MAX);
        let cut = self.bases.get(&copy.rollout_id());
        cut.map_or(len, |cut| len.min(*cut))
    }

    /// Counts the messages of a live rollout; empty if the rollout is not live.
    fn count_live_messages(&self, rollout_id: &str) -> Result<MessageCounts> {
        let mut counts = MessageCounts::default();
        for rollout in self.live {
            let live_id = rollout.rollout_name.rollout_id();
            if live_id.is_some_and(|id| id.eq_ignore_ascii_case(rollout_id)) {
                counts.add(&messages::read_messages(&rollout.path).at("read", &rollout.path)?);
            }
        }
        Ok(counts)
    }
}

/// A conversation that lacks messages.
#[derive(Debug)]
pub(crate) struct Loss {
    /// The id of the conversation, in lower case.
    pub id: String,
    /// The newest live rollout.
    pub rollout_path: Option<PathBuf>,
    /// The index of the place with the most complete copy.
    pub place: usize,
    /// The messages of the most complete copy that the conversation lacks.
    pub messages: Vec<LostMessage>,
    /// The id of the conversation to restore from the place. If the place has only the rollouts that this conversation
    /// continues, the id is that of a deleted conversation.
    pub restored_id: String,
    lost_by_place: LostMessagesByPlace,
}

impl Loss {
    /// Creates the loss without the messages whose loss the user accepted; `None` if no message is left.
    pub(crate) fn from_lost_messages(
        id: String,
        mut lost_by_place: LostMessagesByPlace,
        accepted: &AcceptedLosses,
    ) -> Option<Self> {
        for messages in lost_by_place.values_mut() {
            messages.retain(|lost| !accepted.contains(&id, lost.message.dated_digest()));
        }

        // Of places with equally many lost messages, the first one counts.
        let (place, messages) = lost_by_place
            .iter()
            .max_by_key(|(place, messages)| (messages.len(), Reverse(**place)))?;
        if messages.is_empty() {
            return None;
        }
        Some(Self {
            restored_id: id.clone(),
            id,
            rollout_path: None,
            place: *place,
            messages: messages.clone(),
            lost_by_place: lost_by_place.clone(),
        })
    }

    /// Returns the time of the oldest missing message; `None` if no missing message has a time.
    pub(crate) fn first_lost_at(&self) -> Option<DateTime<Utc>> {
        let times = self.messages.iter().filter_map(|lost| lost.message.at);
        times.min()
    }

    /// Returns the digests of text and time of all messages that any copy has and the conversation lacks.
    pub(crate) fn dated_digests(&self) -> BTreeSet<u64> {
        let messages = self.lost_by_place.values().flatten();
        messages.map(|lost| lost.message.dated_digest()).collect()
    }

    /// Returns sets of the places that `is_wanted` selects, the newest place first in each set. If one place of each
    /// set is kept, each lost message that any of these places has can still be restored.
    pub(crate) fn find_needed_places(
        &self,
        places: &[SearchedPlace],
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Vec<Vec<CopyPlace>> {
        let mut candidates = Vec::new();
        for (index, messages) in &self.lost_by_place {
            let place = &places[*index].place;
            if is_wanted(&place.kind) {
                candidates.push((place, to_numbered_occurrences(messages)));
            }
        }
        let all_occurrences = candidates.iter().flat_map(|(_, occurrences)| occurrences);
        let mut uncovered: BTreeSet<LostOccurrence<'_>> = all_occurrences.copied().collect();

        let mut needed = Vec::new();
        while !uncovered.is_empty() {
            // A greedy set cover: the place with the most messages that no set covers yet comes next.
            let coverable = candidates.iter().map(|(_, set)| set & &uncovered);
            let covered = coverable.max_by_key(BTreeSet::len).unwrap_or_default();
            uncovered.retain(|occurrence| !covered.contains(occurrence));

            // Any place that has all of these messages can stay instead of the chosen one.
            let mut alternatives = Vec::new();
            for (place, occurrences) in &candidates {
                if occurrences.is_superset(&covered) {
                    alternatives.push(CopyPlace::clone(place));
                }
            }
            needed.push(alternatives);
        }
        needed
    }
}

fn to_numbered_occurrences(messages: &[LostMessage]) -> BTreeSet<LostOccurrence<'_>> {
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
    places: &[SearchedPlace],
) -> Result<LostMessagesByPlace> {
    let mut uncompared = thread.copies.clone();
    // A copy that is a prefix of a live rollout has no lost message.
    for rollout in thread.live {
        let _ = remove_prefixes(&mut uncompared, &rollout.rollout_name, &rollout.path)?;
    }

    let mut lost_by_place = LostMessagesByPlace::new();
    let mut live_counts: HashMap<String, MessageCounts> = HashMap::new();
    while !uncompared.is_empty() {
        let copy = uncompared.remove(0);
        let rollout_id = copy.rollout_id();
        if !live_counts.contains_key(&rollout_id) {
            live_counts.insert(rollout_id.clone(), thread.count_live_messages(&rollout_id)?);
        }

        let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let (path, restorable_from) = extract_copy(copy, places, folder.path())?;
        let copied_messages = messages::read_messages(&path).at("read", &path)?;

        // A copy that is a prefix of this one has the same messages up to its end, so it is not extracted.
        let prefixes = remove_prefixes(&mut uncompared, &copy.rollout_name, &path)?;
        let prefix_copies = prefixes.into_iter().map(|copy| (copy, &copy.places[..]));
        for (compared, place_indexes) in prefix_copies.chain([(copy, restorable_from)]) {
            // The messages of a base after the cut are not part of this thread.
            let len = thread.compared_len(compared);
            let compared_count = copied_messages.partition_point(|message| message.offset < len);
            let missing = live_counts[&rollout_id].find_missing(&copied_messages[..compared_count]);
            let missing = missing.into_iter().map(|message| LostMessage {
                message,
                rollout_id: rollout_id.clone(),
            });
            let missing: Vec<_> = missing.collect();
            for index in place_indexes {
                lost_by_place
                    .entry(*index)
                    .or_default()
                    .extend_from_slice(&missing);
            }
        }
    }
    Ok(lost_by_place)
}

/// Extracts a copy in an archive or snapshot into `folder`. If the newest source is damaged, tries the next one.
/// Returns the file, and the places from which the copy can be restored: the one that it was extracted from, and older
/// ones.
fn extract_copy<'a>(
    copy: &'a RolloutCopy,
    places: &[SearchedPlace],
    folder: &Path,
) -> Result<(PathBuf, &'a [usize])> {
    let entry = match &copy.content {
        CopyContent::File(path) => return Ok((path.clone(), &copy.places)),
        CopyContent::Entry(entry) => entry,
    };

    let name = entry.path.as_path().file_name().unwrap_or_default();
    let path = folder.join(name);

    let mut last_error = None;
    for (position, index) in copy.places.iter().enumerate() {
        let Some(source) = &places[*index].source else {
            continue;
        };
        let file = File::create(&path).at("create", &path)?;
        match source.extract(entry, &file) {
            // The places before this one are damaged, so the copy cannot be restored from them.
            Ok(()) => return Ok((path, &copy.places[position..])),
            Err(e) if is_interrupted() => return Err(e),
            Err(e) => last_error = Some(e),
        }
    }
    Err(last_error.unwrap_or_else(|| {
        CommandError::failed(format!(
            "no archive or snapshot has {}",
            entry.path.as_path().display()
        ))
    }))
}

/// Removes the copies of `rollout_name` from `copies` if the text of the file at `path` begins with their text. Returns
/// the removed copies.
fn remove_prefixes<'a>(
    copies: &mut Vec<&'a RolloutCopy>,
    rollout_name: &RolloutName,
    path: &Path,
) -> Result<Vec<&'a RolloutCopy>> {
    let is_of_rollout = |copy: &RolloutCopy| copy.rollout_name.name == rollout_name.name;
    let of_rollout = copies.iter().filter(|copy| is_of_rollout(copy));
    // The digest of a compressed copy is that of the compressed bytes, so it matches only a compressed file.
    let (compressed, plain): (Vec<_>, Vec<_>) =
        of_rollout.partition(|copy| copy.rollout_name.compressed);
    let digests_of = |copies: Vec<&&RolloutCopy>| -> Vec<SizedDigest> {
        let digests = copies.into_iter().filter_map(|copy| size_and_digest(copy));
        digests.collect()
    };

    // If a rollout cannot be decompressed to the end, its messages are compared instead.
    let open_text = || rollout::open_plain(path);
    let plain_prefixes = find_prefixes(open_text, digests_of(plain)).unwrap_or_default();
    let compressed_prefixes = if rollout_name.compressed {
        find_prefixes(|| file_open::open(path), digests_of(compressed)).at("read", path)?
    } else {
        Vec::new()
    };

    let is_prefix = |copy: &RolloutCopy| match &copy.content {
        CopyContent::File(copied_path) => matches!(
            rollout::compare(copied_path, path),
            Ok(Relation::Equal | Relation::SecondExtends)
        ),
        CopyContent::Entry(_) => size_and_digest(copy).is_some_and(|digest| {
            if copy.rollout_name.compressed {
                compressed_prefixes.contains(&digest)
            } else {
                plain_prefixes.contains(&digest)
            }
        }),
    };
    let is_removed = |copy: &mut &RolloutCopy| is_of_rollout(copy) && is_prefix(copy);
    Ok(copies.extract_if(.., is_removed).collect())
}

/// The size of a file in bytes, and the digest of its content.
type SizedDigest = (u64, ContentDigest);

fn size_and_digest(copy: &RolloutCopy) -> Option<SizedDigest> {
    match &copy.content {
        CopyContent::Entry(entry) => Some((entry.size, entry.digest?)),
        CopyContent::File(_) => None,
    }
}

/// Returns those of the `candidates` that are prefixes of the content of a reader, the shortest first. Reads as many
/// bytes as the longest candidate has, and opens the reader only if there are candidates.
fn find_prefixes<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    mut candidates: Vec<SizedDigest>,
) -> io::Result<Vec<SizedDigest>> {
    if candidates.is_empty() {
        return Ok(candidates);
    }

    let mut reader = open()?;
    candidates.sort_by_key(|(size, _)| *size);

    // Archives of older versions have SHA-256 digests, which match nothing here. Messages are compared instead.
    let mut hasher = ContentHasher::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut len = 0;
    let mut prefixes = Vec::new();
    for (size, digest) in candidates {
        while len < size {
            let missing_len = usize::try_from(size - len).unwrap_or(usize::MAX);
            let missing_len = missing_len.min(buffer.len());
            let read_len = reader.read(&mut buffer[..missing_len])?;
            // The file ends before this candidate, and all further ones are longer.
            if read_len == 0 {
                return Ok(prefixes);
            }
            hasher.update(&buffer[..read_len]);
            len += read_len as u64;
        }

        // The hasher continues after this candidate, so that one pass over the file serves all candidates.
        if hasher.digest() == digest {
            prefixes.push((size, digest));
        }
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixes_of_the_content_match() {
        let sized = |text: &str| (text.len() as u64, ContentDigest::of(text.as_bytes()));
        let candidates = ["abcdef", "abc", "abx", "abcdefg", ""].map(sized).to_vec();
        let found = find_prefixes(|| Ok("abcdef".as_bytes()), candidates).unwrap();
        let expected = [sized(""), sized("abc"), sized("abcdef")];
        assert_eq!(found, expected);
    }
}
