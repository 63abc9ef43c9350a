//! The rollouts that a thread consists of.
//!
//! A rewind (Esc Esc, `thread/revert` in Codex 0.169) begins another rollout of the thread. Its first line names its
//! base, which is the rollout that it continues, and the position in the base at which it branches off (`history_base`,
//! which has the id of a *rollout* under the key `thread_id`). A fork does the same in a thread of its own. Codex shows
//! the base up to that position, then the new rollout. Later lines of the base are shown nowhere, but their requests
//! count.

use super::files::{self, RolloutFile};
use super::id::ConversationId;
use super::rollout::{self, SessionMeta};
use crate::codex::rollout::{OrderedRolloutId, uuid_time_ms};
use crate::codex::{ARCHIVED_SESSIONS, RolloutName, SESSIONS, parse_rollout_id};
use crate::io::tree;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

/// The largest number of rollouts that continue each other. Damaged rollouts could form a cycle.
pub const MAX_ROLLOUTS: usize = 1000;

/// The largest offset of a local time from UTC. Codex names day folders by its local date.
const MAX_UTC_OFFSET: TimeDelta = TimeDelta::hours(14);

/// The part of a rollout that Codex shows, from the beginning of the rollout on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutSlice {
    pub path: PathBuf,
    /// The offset in the plain text at which the next rollout branches off; `None` for the whole rollout.
    pub end: Option<u64>,
}

impl RolloutSlice {
    pub(crate) fn whole(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            end: None,
        }
    }
}

/// The rollouts of one thread within a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPart {
    /// The id of the thread, as its file names have it.
    pub id: String,
    /// The rollouts of the thread, the oldest first.
    pub slices: Vec<RolloutSlice>,
}

/// A thread, preceded by the parts of other threads that it continues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadChain {
    /// The threads, the oldest first. The last one is the thread itself.
    pub parts: Vec<ThreadPart>,
    /// The id of the rollout that the first part continues, if that rollout is not on disk or cannot be read. The id of
    /// its thread, if the chain has [`MAX_ROLLOUTS`] without it.
    pub missing: Option<String>,
}

impl ThreadChain {
    /// Follows the rollouts of the thread `id` back from `newest`, the one that Codex continues.
    pub fn read(home: &Path, id: &str, newest: &Path) -> Self {
        let mut parts = vec![ThreadPart {
            id: id.to_owned(),
            slices: vec![RolloutSlice::whole(newest)],
        }];
        let mut missing = None;
        let mut oldest_head = rollout::read_head(newest).ok().flatten();
        let mut followed_paths = vec![newest.to_path_buf()];

        while let Some((base_id, end)) = oldest_head.as_ref().and_then(parse_base_id_and_end) {
            let found_path = find_rollout(home, &base_id)
                .and_then(|path| rollout::resolve_rollout_in_home(home, &path));
            // A base that cannot be read counts as missing, so that the newer rollouts are still shown.
            let base = found_path.and_then(|path| Some((rollout::read_head(&path).ok()?, path)));

            let Some((base_head, path)) = base else {
                missing = Some(base_id);
                break;
            };

            // Damaged rollouts may continue each other in a circle.
            if followed_paths.contains(&path) {
                break;
            }
            let name = RolloutName::parse(&path);
            let thread_id = name.as_ref().and_then(RolloutName::id).unwrap_or(&base_id);
            if followed_paths.len() >= MAX_ROLLOUTS {
                missing = Some(thread_id.to_owned());
                break;
            }

            oldest_head = base_head;
            followed_paths.push(path.clone());
            let slice = RolloutSlice { path, end };

            match parts.last_mut() {
                Some(part) if part.id.eq_ignore_ascii_case(thread_id) => part.slices.push(slice),
                _ => parts.push(ThreadPart {
                    id: thread_id.to_owned(),
                    slices: vec![slice],
                }),
            }
        }

        // The rollouts were followed back from the newest one.
        for part in &mut parts {
            part.slices.reverse();
        }
        parts.reverse();

        Self { parts, missing }
    }

    /// Returns the rollouts of the thread itself.
    pub fn rollouts(&self) -> &[RolloutSlice] {
        self.parts.last().map_or(&[], |part| &part.slices)
    }
}

fn parse_base_id_and_end(head: &SessionMeta) -> Option<(String, Option<u64>)> {
    Some((head.base_id()?, head.base_end_offset()))
}

/// All rollouts of each rewound thread, the oldest first. Other threads have a single rollout, and are left out.
#[derive(Debug, Default)]
pub(crate) struct RewoundThreads(HashMap<ConversationId, Vec<PathBuf>>);

impl RewoundThreads {
    /// Lists the rollouts of a home, without unreadable folders.
    pub(crate) fn read(home: &Path) -> Self {
        let (files, _unlistable) = files::find_readable(home);
        let mut threads: HashMap<ConversationId, Vec<PathBuf>> = HashMap::new();
        let mut first_rollouts = HashMap::new();
        for file in files {
            let Some(name) = RolloutName::parse(&file.relative) else {
                continue;
            };
            let Some(id) = name.id().map(ConversationId::of) else {
                continue;
            };

            if name.is_rewind() {
                threads.entry(id).or_default().push(file.path(home));
            } else {
                first_rollouts.entry(id).or_insert(file);
            }
        }

        // A thread that was not rewound has no entry, so its first rollout is left out.
        for (id, rollouts) in &mut threads {
            if let Some(first_rollout) = first_rollouts.remove(id) {
                rollouts.push(first_rollout.path(home));
            }
            rollouts.sort_by_key(|path| OrderedRolloutId::parse_name(path));
            rollouts.dedup_by_key(|path| parse_rollout_id(path));
        }

        Self(threads)
    }

    /// Returns the rollouts of a thread except `newest`, the one that Codex continues. For each, returns the offset up
    /// to which Codex shows it; 0 if Codex shows nothing of it.
    pub(crate) fn find_older_slices(&self, id: &str, newest: &Path) -> Vec<RolloutSlice> {
        let rollouts = self.0.get(&ConversationId::of(id)).into_iter().flatten();
        let mut older_slices: Vec<_> = rollouts
            .filter(|path| *path != newest)
            .map(|path| RolloutSlice {
                path: path.clone(),
                end: Some(0),
            })
            .collect();

        // Codex shows something of the rollouts that `newest` continues, so these get another end.
        let mut newer = newest.to_path_buf();
        // Bounded, because damaged rollouts may continue each other in a circle.
        for _ in 0..older_slices.len() {
            let head = rollout::read_head(&newer).ok().flatten();
            let Some((base, end)) = head.as_ref().and_then(parse_base_id_and_end) else {
                break;
            };

            let base_slice = older_slices
                .iter_mut()
                .find(|slice| parse_rollout_id(&slice.path).as_ref() == Some(&base));
            let Some(slice) = base_slice else { break };

            slice.end = end;
            newer.clone_from(&slice.path);
        }

        older_slices
    }
}

/// Returns the newest rollout of each thread, after the id of the thread in lower case. Codex continues this rollout if
/// no row names another one. Threads are in the order of their first files. If the newest rollout has two files,
/// returns the file in `sessions/`. Leaves out files without an id.
pub(crate) fn select_newest_of_each_thread(files: Vec<RolloutFile>) -> Vec<(String, RolloutFile)> {
    // The id decides first, because a killed Codex or a sync may leave only older rollouts of a thread unarchived.
    let rank = |file: &RolloutFile| {
        let id = OrderedRolloutId::parse_name(&file.relative);
        (id, !file.is_archived)
    };

    let mut positions: HashMap<ConversationId, usize> = HashMap::new();
    let mut newest: Vec<(String, RolloutFile)> = Vec::new();
    for file in files {
        let name = RolloutName::parse_any(&file.relative);
        let Some(id) = name.as_ref().and_then(RolloutName::id) else {
            continue;
        };

        match positions.entry(ConversationId::of(id)) {
            Entry::Vacant(entry) => {
                entry.insert(newest.len());
                newest.push((id.to_lowercase(), file));
            }
            Entry::Occupied(entry) => {
                let newest_so_far = &mut newest[*entry.get()].1;
                if rank(&file) > rank(newest_so_far) {
                    *newest_so_far = file;
                }
            }
        }
    }

    newest
}

/// Returns the rollout of a thread that Codex continues, if no row names it.
pub fn find_newest_rollout(home: &Path, id: &str) -> Option<PathBuf> {
    let (mut files, _unlistable) = files::find_with_documents(home);
    files.retain(|file| {
        let name = RolloutName::parse_any(&file.relative);
        let thread_id = name.as_ref().and_then(RolloutName::id);
        thread_id.is_some_and(|thread_id| thread_id.eq_ignore_ascii_case(id))
    });
    let (_thread_id, newest) = select_newest_of_each_thread(files).pop()?;
    Some(newest.path(home))
}

/// Returns the id of each thread of a home in lower case, with the rollout that Codex continues, if no row names it.
pub fn find_newest_rollouts(home: &Path) -> Vec<(String, PathBuf)> {
    let (files, _unlistable) = files::find_with_documents(home);
    let newest = select_newest_of_each_thread(files).into_iter();
    newest.map(|(id, file)| (id, file.path(home))).collect()
}

/// Finds a rollout by its id, in the day folders that match the time in the id, else in `archived_sessions/`. Lists at
/// most four folders. An id of Codex up to 0.34 has no time, so the whole home is listed.
pub fn find_rollout(home: &Path, rollout_id: &str) -> Option<PathBuf> {
    let has_id =
        |path: &Path| parse_rollout_id(path).is_some_and(|id| id.eq_ignore_ascii_case(rollout_id));
    let Some(created) = parse_creation_time(rollout_id) else {
        let (files, _unlistable) = files::find_readable(home);
        let file = files.into_iter().find(|file| has_id(&file.relative))?;
        return Some(file.path(home));
    };

    let folders = day_folders(home, created, created);
    // `archived_sessions/` has no day folders.
    let folders = folders.into_iter().chain([home.join(ARCHIVED_SESSIONS)]);

    let entries = folders.flat_map(|folder| tree::list_entries(&folder));
    entries.map(|entry| entry.path()).find(|path| has_id(path))
}

/// Returns the creation time in an id of a thread or rollout, which is a UUID of version 7; `None` for any other id.
/// Codex up to 0.34 gave other ids.
pub fn parse_creation_time(id: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(uuid_time_ms(id)?)
}

/// The assumed largest difference between the clocks of two machines, in milliseconds.
const MAX_CLOCK_ERROR_MS: i64 = 24 * 60 * 60 * 1000;

/// Returns false if the rollout at `path` was created more than [`MAX_CLOCK_ERROR_MS`] before `first_ms`, in
/// milliseconds since 1970. It then continues no rollout that was created at `first_ms` or later, and need not be read.
/// Returns true if a time is unknown.
pub fn may_continue(path: &Path, first_ms: Option<i64>) -> bool {
    let created_ms = parse_rollout_id(path).and_then(|id| uuid_time_ms(&id));
    match (created_ms, first_ms) {
        (Some(created_ms), Some(first_ms)) => created_ms >= first_ms - MAX_CLOCK_ERROR_MS,
        _ => true,
    }
}

/// Returns the day folders of all dates that a time in the range has in any time zone.
pub fn day_folders(home: &Path, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<PathBuf> {
    let sessions = home.join(SESSIONS);
    let first_day = (from - MAX_UTC_OFFSET).date_naive();
    let last_day = (until + MAX_UTC_OFFSET).date_naive();
    let next_day = |day: &NaiveDate| day.checked_add_days(Days::new(1));
    std::iter::successors(Some(first_day), next_day)
        .take_while(|day| *day <= last_day)
        .map(|day| sessions.join(day.format("%Y/%m/%d").to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_version_7_id_contains_the_creation_time() {
        let at = parse_creation_time("01a1fd26-1481-7d60-a846-d943381f26dc").unwrap();
        assert_eq!(at.format("%Y-%m-%d %H:%M").to_string(), "2026-11-21 08:08");
        assert_eq!(
            parse_creation_time("01a1fd26-1481-4d60-a846-d943381f26dc"),
            None
        );
        assert_eq!(parse_creation_time("short"), None);
    }

    #[test]
    fn day_folders_cover_exactly_all_time_zones() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let noon = at("2026-11-21T12:00:00Z");
        let days = ["2026/11/20", "2026/11/21", "2026/11/22"];
        let expected = days.map(|day| Path::new("/home/sessions").join(day));
        assert_eq!(day_folders(Path::new("/home"), noon, noon), expected);
    }

    const FIRST: &str = "01a20471-173b-7473-bfed-d3ac4957f9e9";
    const SECOND: &str = "01a20471-e6dd-7613-9612-d0b77e1e1a66";
    const THIRD: &str = "01a20471-ef54-7cd3-bf51-82eb8a211511";
    const FORK: &str = "01a20472-00fe-7840-aca0-96dcd7fa4a02";
    /// The id of a thread of Codex up to 0.34, which has no time.
    const OLD: &str = "c9e9da7a-486a-4153-9d2c-0b6a3b1c7d55";

    fn write(home: &Path, name: &str, id: &str, base: Option<(&str, u64)>) -> PathBuf {
        let folder = home.join("sessions/2026/11/22");
        fs::create_dir_all(&folder).unwrap();
        let base = base.map(|(id, end)| {
            format!(r#","history_base":{{"thread_id":"{id}","end_byte_offset":{end}}}"#)
        });
        let base = base.unwrap_or_default();
        let path = folder.join(format!("rollout-2026-11-22T18-07-30-{name}.jsonl"));
        let line = format!(r#"{{"type":"session_meta","payload":{{"id":"{id}"{base}}}}}"#);
        fs::write(&path, line + "\n").unwrap();
        path
    }

    #[test]
    fn a_chain_has_each_ancestor_rollout_up_to_its_rewind_or_fork() {
        for id in [FIRST, OLD] {
            let folder = tempfile::tempdir().unwrap();
            let home = folder.path();
            let first = write(home, id, id, None);
            let second = write(home, &format!("{id}_{SECOND}"), id, Some((id, 20)));
            let third = write(home, &format!("{id}_{THIRD}"), id, Some((id, 10)));
            let fork = write(home, FORK, FORK, Some((THIRD, 30)));
            let slice = |path: &Path, end| RolloutSlice {
                path: path.to_path_buf(),
                end,
            };
            let chain = ThreadChain::read(home, FORK, &fork);
            let parent = ThreadPart {
                id: id.to_owned(),
                slices: vec![slice(&first, Some(10)), slice(&third, Some(30))],
            };
            assert_eq!(chain.parts[0], parent, "the second rollout is hidden");
            assert_eq!(chain.rollouts(), [slice(&fork, None)]);
            assert_eq!(chain.missing, None);
            assert_eq!(find_rollout(home, id).as_ref(), Some(&first));
            assert_eq!(find_newest_rollout(home, id).as_ref(), Some(&third));
            let rewound = RewoundThreads::read(home);
            let shown = [slice(&first, Some(10)), slice(&second, Some(0))];
            assert_eq!(rewound.find_older_slices(id, &third), shown);
            assert!(rewound.find_older_slices(FORK, &fork).is_empty());
            fs::remove_file(first).unwrap();
            let chain = ThreadChain::read(home, FORK, &fork);
            assert_eq!(chain.missing.as_deref(), Some(id));
        }
    }

    #[test]
    fn following_rollouts_that_continue_each_other_terminates() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let first = write(home, FIRST, FIRST, Some((SECOND, 1)));
        write(home, &format!("{FIRST}_{SECOND}"), FIRST, Some((FIRST, 1)));
        assert_eq!(ThreadChain::read(home, FIRST, &first).rollouts().len(), 2);
    }
}
