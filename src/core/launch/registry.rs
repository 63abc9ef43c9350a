//! Reads and writes `launches.jsonl`. Each line is a state of a launch; the last line of a launch id
//! counts.
//!
//! Lines are appended under a lock and fsynced. A line that a crash cut off is skipped, and the next
//! append begins a new line. [`LaunchRegistry::compact`] drops superseded lines.

use super::record::{LaunchRecord, SCHEMA};
use crate::inventory::cooldown::LOCK_NAME;
use crate::io::json_lines::JsonLines;
use crate::io::{FileLock, IoError, atomic, file_open};
use memchr::{memchr, memmem};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The name of the registry in the manager home.
pub const FILE_NAME: &str = "launches.jsonl";

/// The beginning of a line that this program writes; the launch id follows.
const LINE_START: &[u8] = b"{\"launch_id\":\"";

/// The closing quote of the launch id and the field `settled`, in a line that this program writes.
const ID_END_AND_SETTLED: &[u8] = b"\",\"settled\":true,";
const ID_END_AND_UNSETTLED: &[u8] = b"\",\"settled\":false,";

/// The field after `settled`, in a line of [`SCHEMA`].
const SCHEMA_FIELD: &[u8] = b"\"schema\":1,";

/// The file is compacted only if it has more superseded lines than this.
const MIN_SUPERSEDED_TO_COMPACT: usize = 1_000;

#[derive(Debug, Clone)]
pub struct LaunchRegistry {
    path: PathBuf,
    lock_path: PathBuf,
}

impl LaunchRegistry {
    /// Returns the registry of `manager_home`. The file need not exist.
    pub fn of(manager_home: &Path) -> Self {
        Self {
            path: manager_home.join(FILE_NAME),
            lock_path: manager_home.join(LOCK_NAME),
        }
    }

    /// Appends the state of a launch and fsyncs it.
    ///
    /// # Errors
    /// The line cannot be written. A partial line may remain, which readers skip.
    pub(crate) fn append(&self, record: &LaunchRecord) -> Result<(), IoError> {
        let _lock = self.lock()?;
        self.append_locked(std::slice::from_ref(record))
    }

    /// Appends the settled records of launches, except for launches that another process has settled
    /// since they were read. Returns the appended records.
    ///
    /// # Errors
    /// See [`LaunchRegistry::append`].
    pub(crate) fn append_settled(
        &self,
        mut records: Vec<LaunchRecord>,
    ) -> Result<Vec<LaunchRecord>, IoError> {
        let _lock = self.lock()?;
        // Read again under the lock, because another command may have settled the same launch.
        let unsettled_ids: HashSet<_> =
            self.read()?.iter_unsettled().map(|r| r.launch_id).collect();
        records.retain(|record| unsettled_ids.contains(&record.launch_id));
        if !records.is_empty() {
            self.append_locked(&records)?;
        }
        Ok(records)
    }

    fn lock(&self) -> Result<FileLock, IoError> {
        atomic::create_private_folder(atomic::parent_of(&self.path))?;
        FileLock::acquire(&self.lock_path)
    }

    fn append_locked(&self, records: &[LaunchRecord]) -> Result<(), IoError> {
        let is_new = !self.path.exists();
        let mut file = JsonLines::open_or_create(self.path.clone())?;
        records.iter().try_for_each(|record| file.push(record))?;
        if is_new {
            file.sync_with_name()
        } else {
            file.sync()
        }
    }

    /// Drops superseded lines once there are more than a thousand of them, and more of them than launches. Keeps
    /// lines that this version cannot parse.
    ///
    /// # Errors
    /// The file cannot be read or replaced; it is unchanged then.
    pub(crate) fn compact(&self) -> Result<(), IoError> {
        let needs_compaction = |launches: &Launches| {
            launches.superseded > launches.len().max(MIN_SUPERSEDED_TO_COMPACT)
        };

        // First checked without the lock, because nearly every call ends here.
        if !needs_compaction(&self.read()?) {
            return Ok(());
        }

        let _lock = FileLock::acquire(&self.lock_path)?;
        let launches = self.read()?;
        let mut ranges: Vec<_> = launches.lines.iter().map(|line| &line.range).collect();
        ranges.extend(&launches.unreadable);
        // In the order of the file, so that a newer version finds its own lines as it wrote them.
        ranges.sort_by_key(|range| range.start);

        let mut text = Vec::new();
        for range in ranges {
            text.extend_from_slice(&launches.bytes[range.clone()]);
            text.push(b'\n');
        }
        atomic::write(&self.path, &text)
    }

    /// Reads all launches, without a lock. A missing file has no launches.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Launches, IoError> {
        let bytes = file_open::read_if_exists(&self.path)?;
        Ok(Launches::index_lines(bytes.unwrap_or_default()))
    }
}

/// An index of the last line of each launch. Lines are parsed on demand, so that listing the newest of
/// ten thousand launches parses only a few.
#[derive(Debug, Default)]
pub struct Launches {
    bytes: Vec<u8>,
    /// Sorted by launch id, and so by time.
    lines: Vec<IndexedLine>,
    /// The lines that this version cannot parse.
    unreadable: Vec<Range<usize>>,
    /// The number of lines that a later line of the same launch replaces.
    superseded: usize,
}

#[derive(Debug, Clone)]
struct IndexedLine {
    range: Range<usize>,
    is_settled: bool,
}

impl Launches {
    fn index_lines(bytes: Vec<u8>) -> Self {
        let mut last_lines: BTreeMap<Cow<'_, [u8]>, IndexedLine> = BTreeMap::new();
        let mut unreadable = Vec::new();
        let mut line_count = 0;
        let mut start = 0;

        while start < bytes.len() {
            let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
            let line = &bytes[start..end];
            let range = start..end;
            start = end + 1;

            if line.trim_ascii().is_empty() {
                continue;
            }
            line_count += 1;

            match parse_own_head(line).or_else(|| parse_foreign_head(line)) {
                Some((id, is_settled)) => {
                    // Only the last line of a launch counts, so a later line replaces an earlier one.
                    last_lines.insert(id, IndexedLine { range, is_settled });
                }
                None => unreadable.push(range),
            }
        }

        let lines: Vec<_> = last_lines.into_values().collect();
        Self {
            superseded: line_count - lines.len() - unreadable.len(),
            bytes,
            lines,
            unreadable,
        }
    }

    fn parse_record(&self, line: &IndexedLine) -> Option<LaunchRecord> {
        serde_json::from_slice(&self.bytes[line.range.clone()]).ok()
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the number of lines that this version cannot parse.
    pub fn count_unreadable_lines(&self) -> usize {
        self.unreadable.len()
    }

    /// Iterates over the launches, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = LaunchRecord> {
        let newest_lines = self.lines.iter().rev();
        newest_lines.filter_map(|line| self.parse_record(line))
    }

    /// Iterates over the launches that are not settled, the oldest first.
    pub fn iter_unsettled(&self) -> impl Iterator<Item = LaunchRecord> {
        let unsettled_lines = self.lines.iter().filter(|line| !line.is_settled);
        unsettled_lines.filter_map(|line| self.parse_record(line))
    }

    /// Returns the newest launch that ran the conversation with this id.
    pub fn find_by_session(&self, session_id: &str) -> Option<LaunchRecord> {
        self.iter_by_session(session_id).next()
    }

    /// Iterates over the launches that ran the conversation with this id, the newest first.
    pub(crate) fn iter_by_session(&self, session_id: &str) -> impl Iterator<Item = LaunchRecord> {
        // Most lines name other conversations, and a search in the bytes is much cheaper than the parser.
        let finder = memmem::Finder::new(session_id.as_bytes());
        let newest_lines = self.lines.iter().rev();
        newest_lines.filter_map(move |line| {
            finder.find(&self.bytes[line.range.clone()])?;
            self.parse_record(line)
                .filter(|record| record.has_conversation(session_id))
        })
    }
}

/// Returns the launch id and `settled` of a line that this program has written, without parsing the rest. `None` for
/// any other line. The id is borrowed, because this program writes it without escapes.
fn parse_own_head(line: &[u8]) -> Option<(Cow<'_, [u8]>, bool)> {
    let from_id = line.strip_prefix(LINE_START)?;
    let id_len = memchr(b'"', from_id)?;
    let (id, from_id_end) = from_id.split_at(id_len);
    let (later_fields, is_settled) = match from_id_end.strip_prefix(ID_END_AND_SETTLED) {
        Some(later_fields) => (later_fields, true),
        None => (from_id_end.strip_prefix(ID_END_AND_UNSETTLED)?, false),
    };
    let has_plain_id = id.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let is_complete = later_fields.starts_with(SCHEMA_FIELD) && later_fields.ends_with(b"}");
    (is_complete && has_plain_id).then_some((Cow::Borrowed(id), is_settled))
}

/// Returns the launch id and `settled` of a line with another order of fields, which another program has written.
/// `None` if the line has no launch id or a newer schema.
fn parse_foreign_head(line: &[u8]) -> Option<(Cow<'_, [u8]>, bool)> {
    #[derive(Deserialize)]
    struct LineHead {
        launch_id: String,
        #[serde(default)]
        settled: bool,
        #[serde(default)]
        schema: u64,
    }
    let head: LineHead = serde_json::from_slice(line).ok()?;
    let id = Cow::Owned(head.launch_id.into_bytes());
    (head.schema <= SCHEMA).then_some((id, head.settled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::Identity;
    use crate::launch::record::{CodexRun, ConversationBinding, ProcessId};
    use std::fs;

    fn record(id: &str, settled: bool) -> LaunchRecord {
        LaunchRecord {
            launch_id: id.into(),
            settled,
            schema: SCHEMA,
            profile: "work".into(),
            identity: Identity::from_email("a@x.com"),
            run: CodexRun {
                started_at: "2026-11-21T08:00:00+00:00".parse().unwrap(),
                ended_at: None,
                exit_code: None,
                cwd: "/p".into(),
                working_root: Some("/p".into()),
                args: Vec::new(),
                codex_home: "/c".into(),
                isolated_home: None,
                wrapper: ProcessId {
                    pid: 1,
                    started: None,
                },
                child: None,
            },
            auth_fingerprint: String::new(),
            binding: ConversationBinding::default(),
        }
    }

    fn ids(launches: impl Iterator<Item = LaunchRecord>) -> Vec<String> {
        launches.map(|record| record.launch_id).collect()
    }

    #[test]
    fn a_line_has_all_fields_on_one_level_in_a_fixed_order() {
        let line = serde_json::to_string(&record("20260101-a", false)).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"launch_id":"20260101-a","settled":false,"schema":1,"profile":"work","#,
                r#""identity":{"email":"a@x.com","account_id":null,"user_id":null,"kind":"chatgpt"},"#,
                r#""started_at":"2026-11-21T08:00:00Z","ended_at":null,"exit_code":null,"#,
                r#""cwd":"/p","working_root":"/p","args":[],"codex_home":"/c","isolated_home":null,"#,
                r#""wrapper":{"pid":1,"started":null},"child":null,"auth_fingerprint":"","#,
                r#""resumed":null,"codex_chose":false,"conversations":[],"unbound_because":null}"#,
            )
        );
    }

    #[test]
    fn the_last_line_of_a_launch_counts_in_any_field_order_and_unreadable_lines_are_skipped() {
        let home = tempfile::tempdir().unwrap();
        let registry = LaunchRegistry::of(home.path());
        assert!(registry.read().unwrap().is_empty());
        registry.append(&record("20260101-a", false)).unwrap();
        registry.append(&record("20260102-b", false)).unwrap();
        registry.append(&record("20260101-a", true)).unwrap();
        // A crash cut the next line off; another program wrote one in its own order.
        let mut text = fs::read_to_string(&registry.path).unwrap();
        text.push_str("{\"launch_id\":\"20260103-c\",\"settled\":fal");
        fs::write(&registry.path, &text).unwrap();
        registry.append(&record("20260104-d", true)).unwrap();
        let mut foreign = serde_json::to_value(record("20260102-b", true)).unwrap();
        foreign["profile"] = "other".into();
        let mut text = fs::read_to_string(&registry.path).unwrap();
        text = format!("{text}{foreign}\n");
        text.push_str("{\"launch_id\":\"20260105-e\",\"settled\":true,\"schema\":2}\n");
        fs::write(&registry.path, text).unwrap();
        let launches = registry.read().unwrap();
        assert_eq!(
            ids(launches.newest_first()),
            ["20260104-d", "20260102-b", "20260101-a"]
        );
        assert_eq!(launches.newest_first().nth(1).unwrap().profile, "other");
        assert!(ids(launches.iter_unsettled()).is_empty());
        assert_eq!(
            launches.count_unreadable_lines(),
            2,
            "the torn line and the newer schema"
        );
    }

    #[test]
    fn settle_skips_launches_that_are_settled_meanwhile() {
        let home = tempfile::tempdir().unwrap();
        let registry = LaunchRegistry::of(home.path());
        registry.append(&record("20260101-a", false)).unwrap();
        registry.append(&record("20260102-b", false)).unwrap();
        let late: Vec<_> = registry.read().unwrap().iter_unsettled().collect();
        let mut own = record("20260101-a", true);
        own.run.exit_code = Some(3);
        registry.append(&own).unwrap();
        let late = late
            .into_iter()
            .map(|r| LaunchRecord { settled: true, ..r });
        let appended = registry.append_settled(late.collect()).unwrap();
        assert_eq!(ids(appended.into_iter()), ["20260102-b"]);
        let launches = registry.read().unwrap();
        assert_eq!(
            launches.newest_first().nth(1).unwrap().run.exit_code,
            Some(3)
        );
        assert!(ids(launches.iter_unsettled()).is_empty());
    }

    #[test]
    fn compaction_keeps_last_lines_and_unreadable_lines() {
        let home = tempfile::tempdir().unwrap();
        let registry = LaunchRegistry::of(home.path());
        registry.append(&record("20260101-a", false)).unwrap();
        let mut text = fs::read_to_string(&registry.path).unwrap();
        text.push_str("torn\n");
        fs::write(&registry.path, &text).unwrap();
        registry.compact().unwrap();
        assert_eq!(
            fs::read_to_string(&registry.path).unwrap(),
            text,
            "few lines stay"
        );
        let many: Vec<_> = (0..=MIN_SUPERSEDED_TO_COMPACT)
            .map(|_| record("20260102-b", false))
            .collect();
        registry.append_locked(&many).unwrap();
        registry.append(&record("20260102-b", true)).unwrap();
        registry.compact().unwrap();
        let after = fs::read_to_string(&registry.path).unwrap();
        assert_eq!(after.lines().count(), 3, "{after}");
        let launches = registry.read().unwrap();
        assert_eq!(ids(launches.newest_first()), ["20260102-b", "20260101-a"]);
        assert_eq!(ids(launches.iter_unsettled()), ["20260101-a"]);
        assert_eq!(launches.count_unreadable_lines(), 1);
    }

    #[test]
    fn launch_id_and_settled_are_read_from_the_beginning_of_a_whole_line_only() {
        let line = serde_json::to_vec(&record("20260101-a", false)).unwrap();
        assert_eq!(
            parse_own_head(&line),
            Some((Cow::Borrowed(&b"20260101-a"[..]), false))
        );
        let line = serde_json::to_vec(&record("20260101-a", true)).unwrap();
        assert_eq!(
            parse_own_head(&line),
            Some((Cow::Borrowed(&b"20260101-a"[..]), true))
        );
        assert_eq!(parse_own_head(&line[..line.len() - 1]), None);
    }
}
