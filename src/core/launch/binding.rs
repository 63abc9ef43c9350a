//! Finds the conversations of a launch by the files that Codex has open. On systems that do not list open
//! files, finds them by the rollouts that were created during the launch and name its account.

use super::record::{BoundConversation, LaunchRecord, ProcessId};
use crate::codex::rollout::{OrderedRolloutId, turn_hit_limit};
use crate::codex::{RolloutName, SESSIONS, ZST, rollout_lines};
use crate::history::{JsonlLine, LineReader, SessionMeta, rollout, thread_rollouts};
use crate::io::{OrdinaryPath, Process, ProcessTable, file_id, file_open, with_suffix};
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The name of the program with the open rollouts. The npm launcher may still run as its parent.
const CODEX: &str = "codex";

/// Lists the rollouts that a launched Codex has open.
#[derive(Debug)]
pub(crate) struct OpenRollouts {
    child: ProcessId,
    /// The process of Codex itself, once it is known.
    codex: Option<ProcessId>,
    codex_home: PathBuf,
}

impl OpenRollouts {
    /// Observes the started process `child`, or the Codex that it has started.
    pub(crate) fn of_process(child: ProcessId, codex_home: &Path) -> Self {
        Self {
            child,
            codex: None,
            codex_home: codex_home.to_path_buf(),
        }
    }

    /// Returns the paths in the Codex home of the rollouts that are open for writing now. `None` if no
    /// Codex runs, or the system does not show the open files of a process.
    pub(crate) fn list_open_rollouts(&mut self) -> Option<Vec<PathBuf>> {
        let table = ProcessTable::read();
        if self.codex.is_none_or(|codex| !codex.is_alive()) {
            // Searched again: npm's launcher needs a moment to start Codex, and Codex restarts itself after an update.
            self.codex = find_codex_started_by(&table, self.child);
        }

        let sessions = self.codex_home.join(SESSIONS);
        let process = table.get(self.codex?.pid)?;
        // If the folder is missing, no rollout is open.
        let real_sessions = sessions.canonical_or_self();

        // Only files open for writing: at its start Codex reads other rollouts to fill its database.
        let open_files = process.files_open_for_writing(&[&real_sessions])?;
        let rollouts = open_files
            .into_iter()
            .filter(|path| RolloutName::parse(path).is_some_and(|file| file.id().is_some()))
            .filter_map(|path| Some(sessions.join(path.strip_prefix(&real_sessions).ok()?)));
        Some(rollouts.collect())
    }
}

/// Returns the Codex that is `child` or that it started; `None` if there is none.
fn find_codex_started_by(table: &ProcessTable, child: ProcessId) -> Option<ProcessId> {
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

    // The closest descendant: a command of the agent may run another Codex further below.
    let distance = |pid: u32| table.ancestors(pid).iter().position(|id| *id == child.pid);
    let codex_pids = table.iter().map(Process::pid).filter(|pid| is_codex(*pid));
    let descendants = codex_pids.filter_map(|pid| Some((distance(pid)?, pid)));
    descendants.min().map(|(_, pid)| ProcessId::read(pid))
}

/// Returns the conversation of the open rollout at `path`, to which the launch writes from `start_offset` on.
/// `None` for a subagent or a side conversation, and while the first line is incomplete.
pub(crate) fn read_open_conversation(path: &Path, start_offset: u64) -> Option<BoundConversation> {
    if read_meta(path)?.is_child() {
        return None;
    }
    to_bound_conversation(path, start_offset)
}

fn read_meta(path: &Path) -> Option<SessionMeta> {
    rollout::read_head(path).ok().flatten()
}

/// Returns the creation time in the id of the rollout at `path`; `None` if the id has no time. A rewind begins a new
/// rollout, which is newer than its conversation.
pub(crate) fn parse_rollout_time(path: &Path) -> Option<DateTime<Utc>> {
    let name = RolloutName::parse(path)?;
    thread_rollouts::parse_creation_time(name.rollout_id()?)
}

fn to_bound_conversation(path: &Path, start_offset: u64) -> Option<BoundConversation> {
    Some(BoundConversation {
        session_id: RolloutName::parse(path)?.id()?.to_owned(),
        rollout_path: path.to_string_lossy().into_owned(),
        start_offset,
        ..BoundConversation::default()
    })
}

/// Finds the rollouts that were created between the start of a launch and `until`, in its folder and by its account.
/// Returns the last one of each conversation. Opens only rollouts with a creation time in that range, according to
/// their id.
pub(crate) fn find_conversations_created_until(
    record: &LaunchRecord,
    until: DateTime<Utc>,
) -> Vec<BoundConversation> {
    let started_at = record.run.started_at.to_utc();
    let codex_home = Path::new(&record.run.codex_home);
    let mut conversations = Vec::new();

    for folder in thread_rollouts::day_folders(codex_home, started_at, until) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let created = parse_rollout_time(&path);
            if created.is_none_or(|at| at < started_at || at > until) {
                continue;
            }
            if read_meta(&path).is_some_and(|meta| may_be_of_launch(&meta, record)) {
                // From offset 0 on, because the launch has created the rollout.
                conversations.extend(to_bound_conversation(&path, 0));
            }
        }
    }

    // A rewind during the launch begins another rollout of the same conversation. Codex continues the last one.
    conversations.sort_by_cached_key(|conversation: &BoundConversation| {
        let rollout = OrderedRolloutId::parse_name(Path::new(&conversation.rollout_path));
        (conversation.session_id.clone(), Reverse(rollout))
    });
    conversations.dedup_by(|a, b| a.session_id == b.session_id);
    conversations
}

/// Returns the id of the account that created the rollout at `path`, if it is not the account of the launch: the
/// workspace account id or, without it, the user id. `None` if the creator is unknown. The user may have signed in to
/// another account while Codex ran, or before Codex read the login.
pub(crate) fn find_other_creator(path: &Path, record: &LaunchRecord) -> Option<String> {
    let meta = read_meta(path)?;
    if may_be_by_account(&meta, record) {
        return None;
    }
    let creator = meta
        .creator_account_id()
        .or_else(|| meta.text("creator_user_id"));
    creator.map(str::to_owned)
}

/// Returns true if the rollout at `path` names the account of the launch as its creator. Codex up to 0.150
/// records no creator, so any Codex may have made such a rollout.
pub(crate) fn names_account(path: &Path, record: &LaunchRecord) -> bool {
    read_meta(path).is_some_and(|meta| {
        let has_known_id = pair_creator_ids(&meta, record).next().is_some();
        has_known_id && may_be_by_account(&meta, record)
    })
}

/// Returns true unless the rollout names a creator other than the account of the launch.
fn may_be_by_account(meta: &SessionMeta, record: &LaunchRecord) -> bool {
    pair_creator_ids(meta, record).all(|(creator_id, launch_id)| creator_id == launch_id)
}

/// Pairs the ids of the rollout's creator with those of the launch's account. Leaves out an id that either lacks.
fn pair_creator_ids<'a>(
    meta: &'a SessionMeta,
    record: &'a LaunchRecord,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let account = &record.identity;
    let account_ids = meta.creator_account_id().zip(account.account_id.as_deref());
    let user_ids = meta.text("creator_user_id").zip(account.user_id.as_deref());
    account_ids.into_iter().chain(user_ids)
}

/// Returns false for a subagent or a side conversation, and for a rollout that names another folder or account than the
/// launch.
fn may_be_of_launch(meta: &SessionMeta, record: &LaunchRecord) -> bool {
    if meta.is_child() {
        return false;
    }
    let is_same_folder = match (&record.run.working_root, meta.text("cwd")) {
        (Some(root), Some(cwd)) => file_id::is_same_folder(Path::new(root), Path::new(cwd)),
        _ => true,
    };
    is_same_folder && may_be_by_account(meta, record)
}

/// Returns the conversation `session_id` as it is before it is resumed. `None` if it has no rollout.
pub(crate) fn find_resumed_conversation(
    codex_home: &Path,
    session_id: &str,
) -> Option<BoundConversation> {
    let path = thread_rollouts::find_newest_rollout(codex_home, session_id)?;
    // To resume a compressed rollout, Codex first writes the plain file. So offsets cannot separate its
    // old bytes from new ones, but the times of the token counts can.
    let is_plain = path.extension().is_none_or(|e| e != "zst");
    let length = path.metadata().map_or(0, |meta| meta.len());
    let start_offset = if is_plain { length } else { 0 };
    let plain_path = path.with_file_name(RolloutName::parse(&path)?.name);
    to_bound_conversation(&plain_path, start_offset)
}

/// Reads the token counts that the launch wrote to the rollout since `since`, and whether the last turn hit a usage
/// limit. Only the bytes between the offsets of `conversation` count. Sets `end_offset` to the end of the rollout if it
/// is not set. Leaves `conversation` unchanged if the rollout is missing or compressed.
pub(crate) fn fill_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) {
    // The binding is more important than its figures, so an error is ignored.
    let _ = try_fill_usage(conversation, since);
}

/// The number of bytes at the end of a running rollout that are searched for the newest token counts.
const USAGE_TAIL_BYTES: u64 = 1 << 20;

/// Reads the newest token counts of a running launch. Reads only the last MiB, because a rollout may be
/// large. Moves `start_offset` there, so the result must not be recorded.
pub fn fill_latest_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) {
    let metadata = Path::new(&conversation.rollout_path).metadata();
    let length = metadata.map_or(0, |meta| meta.len());
    let start = length.saturating_sub(USAGE_TAIL_BYTES);
    conversation.start_offset = conversation.start_offset.max(start);
    fill_usage(conversation, since);
}

fn try_fill_usage(conversation: &mut BoundConversation, since: DateTime<Utc>) -> io::Result<()> {
    let path = Path::new(&conversation.rollout_path);
    // Codex has compressed the rollout. The offsets are positions in the plain file, so they cannot be used.
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
        if let Some(hit_limit) = turn_hit_limit(line) {
            conversation.hit_limit = hit_limit;
        }

        let Some(count) = rollout_lines::parse_token_count(line) else {
            continue;
        };
        // A resumed rollout can have token counts of earlier launches.
        if count.at.to_utc() < since {
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

/// The account that created a conversation. At least one of the ids is known.
pub struct RolloutCreator {
    pub user_id: Option<String>,
    /// The workspace account id.
    pub account_id: Option<String>,
}

/// Returns the creator of a conversation; `None` if its rollout has neither id.
pub fn read_creator(path: &Path) -> Option<RolloutCreator> {
    let meta = read_meta(path)?;
    let creator = RolloutCreator {
        user_id: meta.text("creator_user_id").map(str::to_owned),
        account_id: meta.creator_account_id().map(str::to_owned),
    };
    let is_named = creator.user_id.is_some() || creator.account_id.is_some();
    is_named.then_some(creator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_is_not_bound_to_side_conversations_and_subagents() {
        let folder = tempfile::tempdir().unwrap();
        let id = "01a1fd26-1481-7d60-a846-d943381f26dc";
        let path = folder.path().join(format!("rollout-x-{id}.jsonl"));
        for (fields, is_bound) in [
            (r#""source":"cli""#, true),
            (
                r#""source":"cli","thread_source":"user","forked_from_id":"x""#,
                true,
            ),
            (
                r#""source":"cli","forked_from_id":"x","attached_thread":true"#,
                false,
            ),
            (
                r#""source":{"subagent":"review"},"thread_source":"subagent""#,
                false,
            ),
            (
                r#""source":{"subagent":{"thread_spawn":{"parent_thread_id":"x"}}}"#,
                false,
            ),
        ] {
            let line = format!(r#"{{"type":"session_meta","payload":{{"id":"{id}",{fields}}}}}"#);
            fs::write(&path, line + "\n").unwrap();
            assert_eq!(
                read_open_conversation(&path, 0).is_some(),
                is_bound,
                "{fields}"
            );
        }
    }

    #[test]
    fn usage_is_read_only_from_the_bytes_of_the_launch() {
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
        let mut bound = to_bound_conversation(&path, before.len() as u64).unwrap();
        bound.end_offset = Some((before.len() + own.len()) as u64);
        fill_usage(&mut bound, "2026-11-21T08:09:00Z".parse().unwrap());
        let minute = |at: Option<crate::io::clock::Timestamp>| at.unwrap().format("%M").to_string();
        assert_eq!(minute(bound.first_token_count_at), "10");
        assert_eq!(minute(bound.last_token_count_at), "11");
        assert!((bound.windows[0].used_percent - 30.0).abs() < f64::EPSILON);
    }
}
