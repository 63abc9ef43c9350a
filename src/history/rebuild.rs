//! Making `session_index.jsonl` and `history.jsonl` again from the rollouts and the table of
//! threads.
//!
//! [`plan`] reads and writes nothing; [`apply`] keeps a copy of each file and replaces it under the
//! lock that Codex takes. What Codex has appended in between is carried over.

use super::files::{self, Folders, RolloutFile};
use super::names::{self, IndexEntry, SessionIndex};
use super::prompts::{self, HistoryEntry};
use super::rollout::{self, Depth, Scan, canonical_id, first_line};
use super::stamp::Stamp;
use super::{Head, HistoryError, Skipped, for_each_file, heads};
use crate::codex::threads::{ThreadRow, ThreadTable};
use crate::io::lock::FileLock;
use crate::io::regular;
use crate::io::{IoContext, Progress, atomic};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Which files are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// `session_index.jsonl`.
    SessionIndex,
    /// `history.jsonl`.
    History,
    /// Both.
    Both,
}

impl Only {
    fn wants_index(self) -> bool {
        self != Self::History
    }

    fn wants_history(self) -> bool {
        self != Self::SessionIndex
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions {
    /// Which files.
    pub only: Only,
    /// How many conversations, the most recent ones; `None` for all.
    pub max_threads: Option<usize>,
    /// Whether rollouts without a row count.
    pub include_orphans: bool,
    /// The limit of `history.jsonl`.
    pub max_bytes: Option<u64>,
}

/// Where the list of conversations comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The table of threads.
    Database,
    /// The rollouts alone: there is no usable database, or it has no rows.
    Rollouts,
}

/// A file as it will be.
#[derive(Debug)]
pub struct PlannedFile {
    /// Its name in the home.
    pub name: &'static str,
    /// How many lines it will have.
    pub lines: usize,
    bytes: Vec<u8>,
    /// How long the present one was when it was read.
    read_bytes: u64,
}

/// What a rebuild would do.
#[derive(Debug)]
pub struct RebuildPlan {
    /// Where the conversations come from.
    pub source: Source,
    /// How many conversations are restored.
    pub refreshed: usize,
    /// How many conversations the limit leaves out.
    pub beyond_limit: usize,
    /// How many names are kept of conversations that are not restored.
    pub names_kept: usize,
    /// How many conversations have no line because somebody gave their title to another.
    pub titles_taken: usize,
    /// How many prompts the history will have.
    pub history_entries: usize,
    /// How many the limit takes.
    pub history_trimmed: usize,
    /// How many lines of the present history no rollout backs.
    pub history_dropped: usize,
    /// How many lines of the present history are of conversations beyond the limit.
    pub history_beyond_limit: usize,
    /// How many rollouts have no row.
    pub orphans_skipped: usize,
    /// How many rollouts have no id.
    pub without_id: usize,
    /// How many conversations have no time at all.
    pub without_time: usize,
    /// How many lines of rollouts, index and history are broken.
    pub bad_lines: u64,
    /// The limit of the history.
    pub max_bytes: Option<u64>,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
    /// The files.
    pub files: Vec<PlannedFile>,
}

/// A conversation while it is put together.
struct Conversation<'a> {
    id: String,
    row: Option<&'a ThreadRow>,
    files: Vec<&'a RolloutFile>,
    created: Option<Stamp>,
    updated: Option<Stamp>,
    title: Option<String>,
    scans: Vec<Scan>,
}

impl Conversation<'_> {
    fn row_updated(&self) -> Option<Stamp> {
        self.row
            .and_then(|row| row.updated_ms)
            .and_then(Stamp::of_millis)
    }

    /// The later of what rollout and row say; else when it was made.
    fn settle_time(&mut self, last: Option<Stamp>) {
        let created = self
            .row
            .and_then(|row| row.created_ms)
            .and_then(Stamp::of_millis);
        let created = created.or_else(|| self.created.clone());
        self.updated = Stamp::later(last, self.row_updated()).or(created);
    }

    /// What somebody called it, with whether that is sure: a line of the index that says no more
    /// than the first message was made by a rebuild.
    fn given_name(&self, index: &SessionIndex) -> Option<String> {
        if let Some(name) = self.row.and_then(ThreadRow::given_name) {
            return Some(name.to_owned());
        }
        let line = index.get(&self.id)?;
        let is_derived = line.thread_name == self.id
            || self.derived_titles().any(|title| title == line.thread_name);
        (!is_derived).then(|| line.thread_name.clone())
    }

    fn derived_titles(&self) -> impl Iterator<Item = String> + '_ {
        let row = self.row.into_iter();
        let of_row = row.flat_map(|row| {
            [
                Some(row.title.clone()),
                first_line(&row.title),
                first_line(&row.first_user_message),
            ]
        });
        of_row.chain([self.title.clone()]).flatten()
    }

    fn name(&self, index: &SessionIndex) -> String {
        let not_blank = |text: &String| !text.trim().is_empty();
        let of_row = self.row.map(|row| row.name.clone()).filter(not_blank);
        of_row
            .or_else(|| self.given_name(index))
            .or_else(|| self.row.map(|row| row.title.clone()).filter(not_blank))
            .or_else(|| first_line(&self.row?.first_user_message))
            .or_else(|| self.title.clone())
            .unwrap_or_else(|| self.id.clone())
    }
}

/// Plans a rebuild of the files of `home`. `table` is what the state database says, if there is one
/// that can be used.
///
/// # Errors
/// Folders that cannot be listed, or the user stopped it. Single rollouts that cannot be read are
/// skipped and named in the plan.
pub fn plan(
    home: &Path,
    table: Option<&ThreadTable>,
    options: RebuildOptions,
    progress: &dyn Progress,
) -> Result<RebuildPlan, HistoryError> {
    let index_path = home.join(names::FILE_NAME);
    let history_path = home.join(prompts::FILE_NAME);
    let index_bytes = length(&index_path);
    let history_bytes = length(&history_path);
    let index = SessionIndex::read(home)?;
    let files = files::find(home, Folders::Sessions)?;
    let mut skipped = Vec::new();
    let paths: Vec<&Path> = files.iter().map(|f| f.path.as_path()).collect();
    let found = heads(&paths, &mut skipped)?;
    let mut gathered = gather(&files, found, table, options.include_orphans);
    let beyond = limit(
        &mut gathered.conversations,
        options.max_threads,
        &mut skipped,
    )?;
    let needs_scan = |c: &Conversation<'_>| options.only.wants_history() || !has_title(c, &index);
    scan(
        &mut gathered.conversations,
        needs_scan,
        &mut skipped,
        progress,
    )?;
    let mut conversations = gathered.conversations;
    let before = conversations.len();
    conversations.retain(|c| c.updated.is_some());
    let without_time = before - conversations.len();
    let mut bad_lines: u64 = conversations
        .iter()
        .flat_map(|c| c.scans.iter().map(|s| s.bad_lines))
        .sum();
    let mut plan = RebuildPlan {
        source: gathered.source,
        refreshed: conversations.len(),
        beyond_limit: beyond.len(),
        names_kept: 0,
        titles_taken: 0,
        history_entries: 0,
        history_trimmed: 0,
        history_dropped: 0,
        history_beyond_limit: 0,
        orphans_skipped: gathered.orphans,
        without_id: gathered.without_id,
        without_time,
        bad_lines: 0,
        max_bytes: options.max_bytes,
        skipped,
        files: Vec::new(),
    };
    if options.only.wants_index() {
        bad_lines += index.bad_lines;
        let entries = index_entries(&conversations, &beyond, &index, &mut plan);
        plan.files.push(PlannedFile {
            name: names::FILE_NAME,
            lines: entries.len(),
            bytes: names::render(&entries),
            read_bytes: index_bytes,
        });
    }
    if options.only.wants_history() {
        let beyond: HashSet<&str> = beyond.iter().map(|c| c.id.as_str()).collect();
        let entries = history_entries(&mut conversations);
        let backed: HashSet<(&str, &str)> = entries
            .iter()
            .map(|e| (e.session_id.as_str(), e.text.as_str()))
            .collect();
        bad_lines += prompts::read(home, |line| {
            let text = line.text.trim_end_matches(['\n', '\r']);
            if backed.contains(&(line.session_id.as_str(), text)) {
            } else if beyond.contains(line.session_id.as_str()) {
                plan.history_beyond_limit += 1;
            } else {
                plan.history_dropped += 1;
            }
        })?;
        let rendered = prompts::render(&entries, options.max_bytes);
        plan.history_entries = rendered.entries;
        plan.history_trimmed = rendered.trimmed;
        plan.files.push(PlannedFile {
            name: prompts::FILE_NAME,
            lines: rendered.entries,
            bytes: rendered.bytes,
            read_bytes: history_bytes,
        });
    }
    plan.bad_lines = bad_lines;
    Ok(plan)
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

fn has_title(conversation: &Conversation<'_>, index: &SessionIndex) -> bool {
    conversation.row.is_some_and(|row| {
        !row.title.trim().is_empty() || first_line(&row.first_user_message).is_some()
    }) || conversation.given_name(index).is_some()
}

struct Gathered<'a> {
    source: Source,
    conversations: Vec<Conversation<'a>>,
    orphans: usize,
    without_id: usize,
}

/// The conversations that are sources, each with its files.
fn gather<'a>(
    files: &'a [RolloutFile],
    heads: Vec<Head>,
    table: Option<&'a ThreadTable>,
    include_orphans: bool,
) -> Gathered<'a> {
    let rows = table.map_or(&[][..], |table| &table.rows);
    let live: Vec<_> = rows.iter().filter(|row| !row.archived).collect();
    let archived: HashSet<String> = rows
        .iter()
        .filter(|row| row.archived)
        .map(|row| canonical_id(&row.id))
        .collect();
    let source = if live.is_empty() {
        Source::Rollouts
    } else {
        Source::Database
    };
    let new = |id: String, row| Conversation {
        id,
        row,
        files: Vec::new(),
        created: None,
        updated: None,
        title: None,
        scans: Vec::new(),
    };
    let mut found: HashMap<String, Conversation<'a>> = HashMap::new();
    for row in live {
        let id = canonical_id(&row.id);
        found
            .entry(id.clone())
            .or_insert_with(|| new(id, Some(row)));
    }
    let (mut orphans, mut without_id) = (0, 0);
    for (file, head) in files.iter().zip(heads) {
        let meta = match head {
            Head::Conversation(meta) => meta,
            Head::Nothing => {
                without_id += 1;
                continue;
            }
            Head::Unread => continue,
        };
        if archived.contains(&meta.id) {
            continue;
        }
        let is_orphan =
            source == Source::Database && found.get(&meta.id).is_none_or(|c| c.row.is_none());
        if is_orphan && !include_orphans {
            orphans += 1;
            continue;
        }
        let conversation = found
            .entry(meta.id.clone())
            .or_insert_with(|| new(meta.id.clone(), None));
        conversation.files.push(file);
        conversation.created = conversation.created.take().or_else(|| meta.created());
    }
    let mut conversations: Vec<_> = found.into_values().collect();
    conversations.sort_by(|a, b| a.id.cmp(&b.id));
    Gathered {
        source,
        conversations,
        orphans,
        without_id,
    }
}

/// Keeps the `max` most recent; the others, with their times, are returned. Only the ends of
/// rollouts are read for that, and nothing where all fit.
fn limit<'a>(
    conversations: &mut Vec<Conversation<'a>>,
    max: Option<usize>,
    skipped: &mut Vec<Skipped>,
) -> Result<Vec<Conversation<'a>>, HistoryError> {
    let Some(max) = max.filter(|max| conversations.len() > *max) else {
        return Ok(Vec::new());
    };
    let files: Vec<(usize, &RolloutFile)> = conversations
        .iter()
        .enumerate()
        .flat_map(|(i, c)| c.files.iter().map(move |file| (i, *file)))
        .collect();
    let paths: Vec<&Path> = files.iter().map(|(_, f)| f.path.as_path()).collect();
    let stamps = for_each_file(&paths, skipped, rollout::last_stamp)?;
    let mut last: Vec<Option<Stamp>> = vec![None; conversations.len()];
    for ((i, _), stamp) in files.iter().zip(stamps) {
        last[*i] = Stamp::later(last[*i].take(), stamp.flatten());
    }
    for (conversation, last) in conversations.iter_mut().zip(last) {
        conversation.settle_time(last);
    }
    conversations.sort_by(newest_first);
    Ok(conversations.split_off(max))
}

fn newest_first(a: &Conversation<'_>, b: &Conversation<'_>) -> std::cmp::Ordering {
    let at = |c: &Conversation<'_>| c.updated.as_ref().map(|stamp| stamp.at);
    (at(b), &b.id).cmp(&(at(a), &a.id))
}

fn scan(
    conversations: &mut [Conversation<'_>],
    needs_scan: impl Fn(&Conversation<'_>) -> bool,
    skipped: &mut Vec<Skipped>,
    progress: &dyn Progress,
) -> Result<(), HistoryError> {
    let (mut whole, mut ends) = (Vec::new(), Vec::new());
    for (i, conversation) in conversations.iter().enumerate() {
        let list = if needs_scan(conversation) {
            &mut whole
        } else {
            &mut ends
        };
        list.extend(
            conversation
                .files
                .iter()
                .map(|file| (i, file.path.as_path())),
        );
    }
    let paths = |list: &[(usize, &'_ Path)]| -> Vec<PathBuf> {
        list.iter().map(|(_, path)| path.to_path_buf()).collect()
    };
    let (whole_paths, end_paths) = (paths(&whole), paths(&ends));
    let owners = |list: &[(usize, &Path)]| -> Vec<usize> { list.iter().map(|(i, _)| *i).collect() };
    let (whole_owners, end_owners) = (owners(&whole), owners(&ends));
    progress.expect_bytes(whole_paths.iter().map(|path| length(path)).sum());
    let whole_paths: Vec<&Path> = whole_paths.iter().map(PathBuf::as_path).collect();
    let end_paths: Vec<&Path> = end_paths.iter().map(PathBuf::as_path).collect();
    let scans = for_each_file(&whole_paths, skipped, |path| {
        rollout::scan(path, Depth::Messages, |bytes| progress.add_bytes(bytes))
    })?;
    let stamps = for_each_file(&end_paths, skipped, rollout::last_stamp)?;
    let mut last: Vec<Option<Stamp>> = vec![None; conversations.len()];
    for (i, scan) in whole_owners.into_iter().zip(scans) {
        let Some(mut scan) = scan else { continue };
        scan.meta = None;
        last[i] = Stamp::later(last[i].take(), scan.last.clone());
        let conversation = &mut conversations[i];
        conversation.title = conversation.title.take().or_else(|| scan.title.clone());
        conversation.scans.push(scan);
    }
    for (i, stamp) in end_owners.into_iter().zip(stamps) {
        last[i] = Stamp::later(last[i].take(), stamp.flatten());
    }
    for (conversation, last) in conversations.iter_mut().zip(last) {
        conversation.settle_time(last);
    }
    Ok(())
}

/// The lines of the new index, newest first.
fn index_entries(
    conversations: &[Conversation<'_>],
    beyond: &[Conversation<'_>],
    index: &SessionIndex,
    plan: &mut RebuildPlan,
) -> Vec<IndexEntry> {
    let entry = |c: &Conversation<'_>, name: String| {
        let stamp = c.updated.clone()?;
        Some((
            stamp.at,
            IndexEntry {
                id: c.id.clone(),
                thread_name: name,
                updated_at: stamp.text,
            },
        ))
    };
    let mut kept: Vec<(DateTime<Utc>, IndexEntry)> = Vec::new();
    let restored: HashSet<&str> = conversations.iter().map(|c| c.id.as_str()).collect();
    for conversation in beyond {
        if let Some(name) = conversation.row.and_then(ThreadRow::given_name)
            && let Some(entry) = entry(conversation, name.to_owned())
        {
            kept.push(entry);
        }
    }
    let kept_ids: HashSet<String> = kept.iter().map(|(_, entry)| entry.id.clone()).collect();
    let by_id: HashMap<&str, &Conversation<'_>> =
        beyond.iter().map(|c| (c.id.as_str(), c)).collect();
    for line in index.entries() {
        if restored.contains(line.id.as_str()) || kept_ids.contains(&line.id) {
            continue;
        }
        let known = by_id.get(line.id.as_str());
        let stamp = known
            .and_then(|c| c.updated.clone())
            .or_else(|| line.stamp());
        if let Some(stamp) = stamp {
            let mut line = line.clone();
            line.updated_at = stamp.text;
            kept.push((stamp.at, line));
        }
    }
    plan.names_kept = kept.len();
    // A title that nobody chose must not lead `resume NAME` away from what somebody called so.
    let mut given: HashSet<String> = kept.iter().map(|(_, e)| e.thread_name.clone()).collect();
    let names: Vec<_> = conversations.iter().map(|c| c.given_name(index)).collect();
    given.extend(names.iter().flatten().cloned());
    let mut entries = kept;
    for (conversation, given_name) in conversations.iter().zip(names) {
        let name = conversation.name(index);
        if given_name.is_none() && given.contains(&name) {
            plan.titles_taken += 1;
            continue;
        }
        entries.extend(entry(conversation, name));
    }
    entries.sort_by(|(a, x), (b, y)| (b, &y.id).cmp(&(a, &x.id)));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn history_entries(conversations: &mut [Conversation<'_>]) -> Vec<HistoryEntry> {
    let mut entries = Vec::new();
    for conversation in conversations {
        for scan in &mut conversation.scans {
            entries.extend(scan.messages.drain(..).map(|message| HistoryEntry {
                session_id: conversation.id.clone(),
                ts: message.ts,
                text: message.text,
            }));
        }
    }
    prompts::arrange(entries)
}

/// A file as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuiltFile {
    /// The file.
    pub path: PathBuf,
    /// How many lines it has.
    pub lines: usize,
    /// Whether it was, or would be, written: it is not where it already says the same.
    pub written: bool,
    /// The copy of what was there before.
    pub backup: Option<PathBuf>,
}

/// What [`apply`] would do to each file.
pub fn preview(home: &Path, plan: &RebuildPlan) -> Result<Vec<RebuiltFile>, HistoryError> {
    let of = |file: &PlannedFile| {
        let path = home.join(file.name);
        Ok(RebuiltFile {
            written: !says_already(&path, [&file.bytes, &[]])?,
            path,
            lines: file.lines,
            backup: None,
        })
    };
    plan.files.iter().map(of).collect()
}

/// Whether the file holds these parts, one behind the other.
fn says_already(path: &Path, parts: [&[u8]; 2]) -> Result<bool, HistoryError> {
    let mut file = match regular::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e).at("read", path).map_err(Into::into),
    };
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if length(path) != len as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; 64 << 10];
    for chunk in parts.iter().flat_map(|part| part.chunks(64 << 10)) {
        let present = &mut buffer[..chunk.len()];
        match file.read_exact(present) {
            Ok(()) if present == chunk => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e).at("read", path).map_err(Into::into),
        }
    }
    Ok(true)
}

/// Writes the planned files: first a copy of what is there, `<file>.bak.<time>`, unless
/// `keep_copies` is false, then the new one in one rename, under the lock that Codex takes.
///
/// # Errors
/// Codex holds the lock too long, or a file was replaced since it was read. Files that are done
/// stay done.
pub fn apply(
    home: &Path,
    plan: &RebuildPlan,
    keep_copies: bool,
    now: DateTime<Utc>,
) -> Result<Vec<RebuiltFile>, HistoryError> {
    let mut done = Vec::new();
    for file in &plan.files {
        let path = home.join(file.name);
        // Codex locks the index beside it, and the history itself.
        let lock = match file.name {
            names::FILE_NAME => Some(home.join(names::LOCK_NAME)),
            _ => path.exists().then(|| path.clone()),
        };
        let _held = lock
            .map(|lock| FileLock::exclusive_within(&lock, names::PATIENCE))
            .transpose()?;
        let present = length(&path);
        if present < file.read_bytes {
            return Err(HistoryError::Changed(path));
        }
        let mut appended = Vec::new();
        if present > file.read_bytes {
            let mut opened = regular::open(&path).at("read", &path)?;
            opened
                .seek(SeekFrom::Start(file.read_bytes))
                .and_then(|_| opened.read_to_end(&mut appended))
                .at("read", &path)?;
        }
        let parts: [&[u8]; 2] = [&file.bytes, &appended];
        let written = !says_already(&path, parts)?;
        let mut backup = None;
        if written {
            if keep_copies && path.exists() {
                let suffix = now.format(".bak.%Y%m%dT%H%M%SZ").to_string();
                backup = Some(atomic::keep_copy(&path, &suffix)?);
            }
            let mut temp = atomic::TempFile::beside(&path)?;
            for part in parts {
                temp.file().write_all(part).at("write", &path)?;
            }
            temp.replace(&path)?;
        }
        done.push(RebuiltFile {
            path,
            lines: file.lines,
            written,
            backup,
        });
    }
    Ok(done)
}
