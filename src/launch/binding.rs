//! Which conversations a launch ran: by the files that its process has open, else by what was created
//! in its time.

use super::record::{BoundConversation, LaunchRecord, ProcessId};
use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::rollout::{ConversationFile, ZST};
use crate::codex::token_count;
use crate::history::lines::{JsonlLine, LineReader};
use crate::history::rollout::{self, SessionMeta};
use crate::io::atomic::with_suffix;
use crate::io::file_open;
use crate::io::processes::{Process, ProcessTable};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The program whose open files count. The npm launcher may stay as its parent.
const CODEX: &str = "codex";

/// Codex names day folders by its local date, which differs from UTC by this much at most.
const ZONE_SPREAD: TimeDelta = TimeDelta::hours(14);

/// How far the clock may step between the launch and the id that Codex gives a conversation.
pub const CLOCK_STEP: TimeDelta = TimeDelta::seconds(1);

/// Watches the rollouts that a launched Codex has open.
#[derive(Debug)]
pub struct OpenRollouts {
    child: ProcessId,
    /// The process that is Codex itself, once it is known.
    codex: Option<ProcessId>,
    codex_home: PathBuf,
}

impl OpenRollouts {
    /// Those of `child`, the process that was started, or of the Codex below it.
    pub fn of(child: ProcessId, codex_home: &Path) -> Self {
        Self {
            child,
            codex: None,
            codex_home: codex_home.to_path_buf(),
        }
    }

    /// The rollouts that are open now, as paths in the Codex home. Empty where the system does not
    /// show the open files of a process.
    pub fn look(&mut self) -> Vec<PathBuf> {
        let table = ProcessTable::read();
        if self.codex.is_none_or(|codex| !codex.is_alive()) {
            self.codex = find_codex(&table, self.child);
        }
        let sessions = self.codex_home.join(SESSIONS);
        let (Some(codex), Ok(real)) = (self.codex, sessions.canonicalize()) else {
            return Vec::new();
        };
        let process = table.get(codex.pid);
        // For writing: when it starts, Codex also reads rollouts of others to fill its database.
        let open = process.map(|process| process.written_beneath(&[&real]));
        open.into_iter()
            .flatten()
            .filter(|path| ConversationFile::of(path).is_some_and(|file| file.id().is_some()))
            .filter_map(|path| Some(sessions.join(path.strip_prefix(&real).ok()?)))
            .collect()
    }
}

fn find_codex(table: &ProcessTable, child: ProcessId) -> Option<ProcessId> {
    let is_codex = |pid: u32| {
        let name = table.get(pid).and_then(Process::name);
        name.is_some_and(|name| name == OsStr::new(CODEX))
    };
    if !child.is_alive() {
        return None;
    }
    if is_codex(child.pid) {
        return Some(child);
    }
    // A Codex that the agent starts in turn is further below than the launcher's own.
    table
        .iter()
        .map(Process::pid)
        .filter(|pid| is_codex(*pid))
        .filter_map(|pid| {
            let distance = table
                .ancestors(pid)
                .iter()
                .position(|at| *at == child.pid)?;
            Some((distance, pid))
        })
        .min()
        .map(|(_, pid)| ProcessId::now(pid))
}

/// Whether a rollout is a conversation of the user's, and not one of a subagent.
fn is_main_thread(meta: &SessionMeta) -> bool {
    let source = meta.payload.get("source");
    source.is_none_or(|source| source.get("subagent").is_none())
        && meta.text("thread_source") != Some("subagent")
}

/// The open rollout at `path` as a conversation, from `start_offset` on. `None` for a subagent's, and
/// for one whose first line is not there yet.
pub fn conversation_at(path: &Path, start_offset: u64) -> Option<BoundConversation> {
    let meta = rollout::head(path).ok().flatten()?;
    is_main_thread(&meta).then(|| conversation(path, start_offset))?
}

fn conversation(path: &Path, start_offset: u64) -> Option<BoundConversation> {
    Some(BoundConversation {
        session_id: ConversationFile::of(path)?.id()?.to_owned(),
        rollout_path: path.to_string_lossy().into_owned(),
        start_offset,
        end_offset: None,
        first_token_count_at: None,
        last_token_count_at: None,
        windows: Vec::new(),
    })
}

/// The rollouts that were created between the start of a launch and `until`, in its folder and by its
/// account. Opens only those whose id says that they were created in that time.
pub fn created_during(record: &LaunchRecord, until: DateTime<Utc>) -> Vec<BoundConversation> {
    let sessions = Path::new(&record.codex_home).join(SESSIONS);
    let from = record.started_at.to_utc();
    let mut found: Vec<_> = days(from, until)
        .into_iter()
        .filter_map(|day| fs::read_dir(day_folder(&sessions, day)).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let file = ConversationFile::of(path);
            let created = file.as_ref().and_then(|f| f.id()).and_then(created_at);
            created.is_some_and(|at| at >= from - CLOCK_STEP && at <= until + CLOCK_STEP)
        })
        .filter(|path| {
            let meta = rollout::head(path).ok().flatten();
            meta.is_some_and(|meta| is_main_thread(&meta) && fits(&meta, record))
        })
        .filter_map(|path| conversation(&path, 0))
        .collect();
    found.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    found.dedup_by(|a, b| a.session_id == b.session_id);
    found
}

/// The account that created the rollout at `path`, where that is not the one of the launch: the user
/// signed in to another while Codex ran, or before it read the login.
pub fn other_creator(path: &Path, record: &LaunchRecord) -> Option<String> {
    let meta = rollout::head(path).ok().flatten()?;
    let written = meta.account().or_else(|| meta.text("creator_user_id"));
    (!is_by_account(&meta, record)).then(|| written.unwrap_or_default().to_owned())
}

fn is_by_account(meta: &SessionMeta, record: &LaunchRecord) -> bool {
    let agrees = |written: Option<&str>, known: Option<&String>| match (written, known) {
        (Some(written), Some(known)) => written == known,
        _ => true,
    };
    agrees(meta.account(), record.identity.account_id.as_ref())
        && agrees(
            meta.text("creator_user_id"),
            record.identity.user_id.as_ref(),
        )
}

/// Whether a rollout was made in the folder of the launch, by its account where it names one.
fn fits(meta: &SessionMeta, record: &LaunchRecord) -> bool {
    let is_same_folder = match (&record.working_root, meta.text("cwd")) {
        (Some(root), Some(cwd)) => is_same_folder(Path::new(root), Path::new(cwd)),
        _ => true,
    };
    is_same_folder && is_by_account(meta, record)
}

fn is_same_folder(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// When a conversation was created, by its id: a UUID of version 7 begins with milliseconds.
pub fn created_at(session_id: &str) -> Option<DateTime<Utc>> {
    let digits: String = session_id.chars().filter(|c| *c != '-').collect();
    if digits.as_bytes().get(12) != Some(&b'7') {
        return None;
    }
    let millis = i64::from_str_radix(digits.get(..12)?, 16).ok()?;
    DateTime::from_timestamp_millis(millis)
}

/// The local dates that any part of this span may have had.
fn days(from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<NaiveDate> {
    let first = (from - ZONE_SPREAD).date_naive();
    let last = (until + ZONE_SPREAD).date_naive();
    let next = |day: &NaiveDate| day.checked_add_days(Days::new(1));
    std::iter::successors(Some(first), next)
        .take_while(|day| *day <= last)
        .collect()
}

fn day_folder(sessions: &Path, day: NaiveDate) -> PathBuf {
    sessions.join(day.format("%Y/%m/%d").to_string())
}

/// The rollout of a conversation: in the day folder that its id names, else among the archived ones.
/// Lists at most four folders.
pub fn find_rollout(codex_home: &Path, session_id: &str) -> Option<PathBuf> {
    let created = created_at(session_id)?;
    let sessions = codex_home.join(SESSIONS);
    let folders = days(created, created)
        .into_iter()
        .map(|day| day_folder(&sessions, day))
        .chain([codex_home.join(ARCHIVED_SESSIONS)]);
    let mut files = folders
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    files.find(|path| {
        let file = ConversationFile::of(path);
        file.is_some_and(|file| {
            file.id()
                .is_some_and(|id| id.eq_ignore_ascii_case(session_id))
        })
    })
}

/// The conversation `session_id` as it stands before it goes on. `None` without a plain rollout.
pub fn resumed_conversation(codex_home: &Path, session_id: &str) -> Option<BoundConversation> {
    let path = find_rollout(codex_home, session_id)?;
    // Resuming a compressed rollout writes the plain file anew, so its bytes cannot be told apart
    // by their place; the times of the token counts still can.
    let is_plain = path.extension().is_none_or(|e| e != "zst");
    let length = path.metadata().map_or(0, |meta| meta.len());
    let plain = path.with_file_name(ConversationFile::of(&path)?.name);
    conversation(&plain, if is_plain { length } else { 0 })
}

/// Reads the token counts of a launch: those between its offsets that were written since it started.
/// A rollout that is gone or compressed leaves what is known as it is.
pub fn read_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) {
    // Unreadable figures are no reason to lose the binding.
    let _ = try_read_usage(conversation, since);
}

/// How much of the end of a running rollout is searched for its newest token count.
const TAIL_BYTES: u64 = 1 << 20;

/// The same for a launch that still runs, whose rollout may be large: only the newest figures, from the
/// last MiB.
pub fn read_latest_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) {
    let length = Path::new(&conversation.rollout_path).metadata();
    let length = length.map_or(0, |meta| meta.len());
    let start = length.saturating_sub(TAIL_BYTES);
    conversation.start_offset = conversation.start_offset.max(start);
    read_usage(conversation, since);
}

fn try_read_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) -> io::Result<()> {
    let path = Path::new(&conversation.rollout_path);
    if !path.exists() && with_suffix(path, ZST).exists() {
        return Ok(());
    }
    let mut file = file_open::open(path)?;
    let length = file.metadata()?.len();
    let end = conversation.end_offset.unwrap_or(length).min(length);
    file.seek(SeekFrom::Start(conversation.start_offset))?;
    let mut lines = LineReader::new(file.take(end.saturating_sub(conversation.start_offset)));
    while let Some(line) = lines.next_line()? {
        let JsonlLine::Whole(line) = line else {
            continue;
        };
        let Some(count) = token_count::parse(line) else {
            continue;
        };
        if count.at.to_utc() < since - CLOCK_STEP {
            continue;
        }
        conversation.first_token_count_at.get_or_insert(count.at);
        conversation.last_token_count_at = Some(count.at);
        if !count.windows.is_empty() {
            conversation.windows = count.windows;
        }
    }
    conversation.end_offset = Some(end);
    Ok(())
}

/// The user and workspace ids of whoever created a conversation, where its rollout names them.
pub fn creator(path: &Path) -> Option<(Option<String>, Option<String>)> {
    let meta = rollout::head(path).ok().flatten()?;
    let id = |key| {
        meta.payload
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (user, account) = (id("creator_user_id"), id("creator_account_id"));
    (user.is_some() || account.is_some()).then_some((user, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_version_7_says_when_the_conversation_was_created() {
        let at = created_at("01a1fd26-1481-7d60-a846-d943381f26dc").unwrap();
        assert_eq!(at.format("%Y-%m-%d %H:%M").to_string(), "2026-11-21 08:08");
        assert_eq!(created_at("01a1fd26-1481-4d60-a846-d943381f26dc"), None);
        assert_eq!(created_at("short"), None);
    }

    #[test]
    fn day_folders_cover_every_zone_and_no_more() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let noon = at("2026-11-21T12:00:00Z");
        let names: Vec<_> = days(noon, noon).iter().map(NaiveDate::to_string).collect();
        assert_eq!(names, ["2026-11-20", "2026-11-21", "2026-11-22"]);
    }

    #[test]
    fn usage_is_read_from_the_bytes_of_the_launch_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder
            .path()
            .join("rollout-x-01a1fd26-1481-7d60-a846-d943381f26dc.jsonl");
        let line = |minute: u32, used: u32| {
            format!(
                "{{\"timestamp\":\"2026-11-21T08:{minute:02}:00Z\",\"type\":\"event_msg\",\
                 \"payload\":{{\"type\":\"token_count\",\"rate_limits\":{{\"primary\":\
                 {{\"used_percent\":{used},\"window_minutes\":10080}}}}}}}}\n"
            )
        };
        let before = line(1, 10);
        let own = format!("{}{}", line(10, 20), line(11, 30));
        fs::write(&path, format!("{before}{own}{}", line(20, 90))).unwrap();
        let mut bound = conversation(&path, before.len() as u64).unwrap();
        bound.end_offset = Some((before.len() + own.len()) as u64);
        read_usage(&mut bound, "2026-11-21T08:09:00Z".parse().unwrap());
        let minute = |at: Option<crate::io::clock::Timestamp>| at.unwrap().format("%M").to_string();
        assert_eq!(minute(bound.first_token_count_at), "10");
        assert_eq!(minute(bound.last_token_count_at), "11");
        assert!((bound.windows[0].used_percent - 30.0).abs() < f64::EPSILON);
    }
}
