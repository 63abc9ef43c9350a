//! Completes the record of a launch that ended: binds its conversation, reads its usage.

use super::binding;
use super::record::{BoundConversation, LaunchRecord};
use super::registry::{LaunchRegistry, Launches};
use crate::codex::threads::live;
use crate::codex::{ARCHIVED_SESSIONS, DatabaseError, SESSIONS, threads};
use crate::history::thread_rollouts;
use crate::inventory::{CooldownFile, cooldown};
use crate::io::{DocumentError, Environment, Timestamp, Zone};
use crate::quota::SessionUsage;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The largest interval at which a system updates the clock of files.
const CLOCK_TICK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
pub(crate) struct LaunchEnd {
    /// The time at which Codex ended, or its end was noticed.
    pub at: Timestamp,
    /// The exit code of Codex, if known.
    pub exit_code: Option<i32>,
    /// The time of the last check of Codex's open files; `None` if the files were never checked. A conversation that
    /// began before this check and was not open is not of this launch. A later conversation may be of this launch:
    /// on a busy machine, a short run can open its rollout and end after the last check.
    pub last_check: Option<SystemTime>,
}

impl LaunchEnd {
    /// Returns true if a file time may be later than the last check of the open files. The clock of files may be a tick
    /// behind. False for an unknown time, unless the open files were never checked.
    fn may_be_after_check(&self, time: Option<SystemTime>) -> bool {
        let Some(last_check) = self.last_check else {
            return true;
        };
        time.is_some_and(|time| match last_check.duration_since(time) {
            Ok(time_before_check) => time_before_check <= CLOCK_TICK,
            // The time is later than the check.
            Err(_) => true,
        })
    }
}

/// Returns the time at which the rollout was created; on disks that do not record it, the time in the id of the
/// conversation. `None` if the file is missing, or if neither time is known.
fn read_creation_time(conversation: &BoundConversation) -> Option<SystemTime> {
    let meta = Path::new(&conversation.rollout_path).metadata().ok()?;
    let time_in_id =
        || thread_rollouts::parse_creation_time(&conversation.session_id).map(SystemTime::from);
    meta.created().ok().or_else(time_in_id)
}

/// Returns true if the registry records that another launch than `record` started the conversation.
fn was_started_by_other(launches: &Launches, record: &LaunchRecord, session_id: &str) -> bool {
    launches.iter_by_session(session_id).any(|launch| {
        let mut conversations = launch.binding.conversations.iter();
        // A launch that only resumed the conversation has a later start offset.
        launch.launch_id != record.launch_id
            && conversations.any(|c| c.session_id == session_id && c.start_offset == 0)
    })
}

/// Returns true if another launch may have started the conversation: it is unsettled, has the same account and home,
/// and began before the conversation was created. An id without a time excludes no launch.
fn may_be_started_by_other(launches: &Launches, record: &LaunchRecord, session_id: &str) -> bool {
    let created = thread_rollouts::parse_creation_time(session_id);
    launches.iter_unsettled().any(|launch| {
        launch.launch_id != record.launch_id
            && launch.run.codex_home == record.run.codex_home
            && launch.identity.is_same(&record.identity)
            && created.is_none_or(|created| created >= launch.run.started_at.to_utc())
    })
}

/// Completes the record of a launch that ended. `launches` are all launches of the registry.
///
/// The evidence, in this order:
/// 1. the conversations that Codex had open, which are in the record already;
/// 2. the conversation that the arguments name, if its rollout has grown and may have been written after the last check
///    of the open files;
/// 3. the conversation that was created after that check, in the folder of the launch and by its account, if there is
///    only one and no other launch may have started it.
///
/// If the open files were never checked, any time during the launch counts as after the check.
pub(crate) fn complete_record(record: &mut LaunchRecord, end: LaunchEnd, launches: &Launches) {
    if record.binding.conversations.is_empty() {
        match record.binding.resumed.clone() {
            Some(resumed) if has_grown_late(&resumed, end) => {
                record.binding.conversations.push(resumed);
            }
            _ => bind_created(record, end, launches),
        }
    }

    let since = record.run.started_at.to_utc();
    for conversation in &mut record.binding.conversations {
        update_archived_path(conversation, &record.run.codex_home);
        binding::fill_usage(conversation, since);
    }

    record.run.ended_at = Some(end.at);
    record.run.exit_code = end.exit_code;
    record.settled = true;
}

/// Returns true if the rollout has grown since the start of the launch, and may have been written after the last check
/// of the open files.
fn has_grown_late(conversation: &BoundConversation, end: LaunchEnd) -> bool {
    let meta = Path::new(&conversation.rollout_path).metadata();
    meta.is_ok_and(|meta| {
        meta.len() > conversation.start_offset && end.may_be_after_check(meta.modified().ok())
    })
}

/// Binds the conversation that was created during the launch, if only this launch can have created it. Otherwise
/// records the reason.
fn bind_created(record: &mut LaunchRecord, end: LaunchEnd, launches: &Launches) {
    if record.binding.resumed.is_some() || record.binding.unbound_because.is_some() {
        return;
    }

    let mut candidates = binding::find_conversations_created_until(record, end.at.to_utc());
    candidates.retain(|c| !was_started_by_other(launches, record, &c.session_id));
    candidates.retain(|conversation| end.may_be_after_check(read_creation_time(conversation)));

    let was_watched = end.last_check.is_some();
    let names_account =
        |c: &BoundConversation| binding::names_account(Path::new(&c.rollout_path), record);
    let has_failed = end.exit_code.is_some_and(|code| code != 0);
    let reason = match candidates.as_slice() {
        // A check of the open files would have shown a conversation. A Codex that failed probably opened none.
        [] if was_watched || has_failed || !record.binding.codex_chose => return,
        [] => "Codex itself chose the conversation".to_owned(),
        [conversation] if may_be_started_by_other(launches, record, &conversation.session_id) => {
            "another launch of this account ran at the same time".to_owned()
        }
        // If the files were checked, the conversation began after the last check: too late for another Codex.
        [conversation] if was_watched || names_account(conversation) => {
            record.binding.conversations = candidates;
            return;
        }
        [_] => "its rollout names no account, so another Codex may have made it".to_owned(),
        conversations => format!(
            "this account started {} conversations in this folder at the same time",
            conversations.len()
        ),
    };
    record.binding.unbound_because = Some(reason);
}

/// Updates the path of a conversation that was archived during the launch. Its file name stays the same.
fn update_archived_path(conversation: &mut BoundConversation, codex_home: &str) {
    let path = Path::new(&conversation.rollout_path);
    if path.exists() {
        return;
    }
    let Some(name) = path.file_name() else {
        return;
    };
    let archived_path = Path::new(codex_home).join(ARCHIVED_SESSIONS).join(name);
    if archived_path.exists() {
        conversation.rollout_path = archived_path.to_string_lossy().into_owned();
    }
}

/// Rewrites the rollout paths of conversations that ran in an isolated home to the real home.
///
/// # Errors
/// The database cannot be changed. Its paths then still lead through the links of the isolated home.
pub(crate) fn rebase_isolated_rollouts(
    record: &LaunchRecord,
    env: &Environment,
) -> Result<(), DatabaseError> {
    let Some(isolated) = record.run.isolated_home.as_deref().map(Path::new) else {
        return Ok(());
    };
    let real = Path::new(&record.run.codex_home);
    let Some(database) = threads::find_state_database(real, env) else {
        return Ok(());
    };

    for folder in [SESSIONS, ARCHIVED_SESSIONS] {
        // If the isolated home is removed, a path through its links leads nowhere, and Codex hides the conversation.
        live::rebase_rollout_paths(&database, &isolated.join(folder), &real.join(folder))?;
    }
    Ok(())
}

/// Returns the newest usage of a launch; `None` if no conversation of the launch has a token count.
pub fn find_newest_usage(record: &LaunchRecord) -> Option<SessionUsage> {
    let conversations = record.binding.conversations.iter();
    let newest = conversations.max_by_key(|conversation| conversation.last_token_count_at)?;
    Some(SessionUsage {
        rollout_path: newest.rollout_path.clone(),
        session_id: newest.session_id.clone(),
        captured_at: newest.last_token_count_at?,
        windows: newest.windows.clone(),
    })
}

/// Records the time of use of a launch's account, and its newest usage.
pub(crate) fn record_usage(file: &mut CooldownFile, record: &LaunchRecord) {
    file.record_use(&record.identity, record.run.started_at);
    let Some(usage) = find_newest_usage(record) else {
        return;
    };
    file.record_use(&record.identity, usage.captured_at);
    let account_entry = file.entry(&record.identity);
    let is_newer = |recorded: &SessionUsage| usage.captured_at > recorded.captured_at;
    if account_entry.session.as_ref().is_none_or(is_newer) {
        account_entry.session = Some(usage);
    }
}

/// Settles the launches whose codex-manager was killed before Codex ended. Each launch is settled only
/// once. Returns the updated registry, and warnings.
///
/// # Errors
/// The registry or `cooldown.json` cannot be read or written.
pub fn settle_ended(
    manager_home: &Path,
    env: &Environment,
    now: Timestamp,
    zone: Zone,
) -> Result<(Launches, Vec<String>), DocumentError> {
    let registry = LaunchRegistry::of(manager_home);
    let launches = registry.read()?;
    let mut settled = Vec::new();
    let mut warnings = Vec::new();

    for mut record in launches.iter_unsettled() {
        // Codex still runs, although the codex-manager that started it was killed.
        if record.is_running() {
            continue;
        }

        // Only the killed codex-manager knew the exit code and the time of the last check.
        let end = LaunchEnd {
            at: now,
            exit_code: None,
            last_check: None,
        };
        complete_record(&mut record, end, &launches);
        if let Err(e) = rebase_isolated_rollouts(&record, env) {
            warnings.push(format!(
                "Codex's list still names conversations by their path in the isolated home {}: {e}",
                record.home().display()
            ));
        }
        settled.push(record);
    }

    if settled.is_empty() {
        return Ok((launches, warnings));
    }

    // Another process may have settled a launch since the registry was read.
    let appended = registry.append_settled(settled)?;
    let ((), notes) = cooldown::update(manager_home, &now.to_utc(), zone, |file| {
        for record in &appended {
            record_usage(file, record);
        }
    })?;

    warnings.extend(notes);
    Ok((registry.read()?, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::Identity;
    use crate::launch::record::{CodexRun, ConversationBinding, ProcessId};
    use chrono::{TimeDelta, Utc};
    use std::fs;

    fn record(home: &Path) -> LaunchRecord {
        let wrapper = ProcessId {
            pid: 1,
            started: None,
        };
        LaunchRecord {
            launch_id: "20261121-a".into(),
            settled: false,
            schema: 1,
            profile: "work".into(),
            identity: Identity::from_email("a@x.com"),
            run: CodexRun {
                started_at: (Utc::now() - TimeDelta::seconds(1)).fixed_offset(),
                ended_at: None,
                exit_code: None,
                cwd: "/p".into(),
                working_root: None,
                args: Vec::new(),
                codex_home: home.to_str().unwrap().into(),
                isolated_home: None,
                wrapper,
                child: None,
            },
            auth_fingerprint: String::new(),
            binding: ConversationBinding::default(),
        }
    }

    #[test]
    fn a_conversation_that_began_after_the_last_check_is_bound() {
        let home = tempfile::tempdir().unwrap();
        let mut ended = record(home.path());
        let now = Utc::now();
        let digits = format!("{:012x}", now.timestamp_millis());
        let id = format!("{}-{}-7ef3-b0ee-5caab8d3b455", &digits[..8], &digits[8..]);
        let folder = home
            .path()
            .join(now.format("sessions/%Y/%m/%d").to_string());
        fs::create_dir_all(&folder).unwrap();
        let name = format!("rollout-{}-{id}.jsonl", now.format("%Y-%m-%dT%H-%M-%S"));
        let meta = format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n");
        fs::write(folder.join(name), meta).unwrap();
        let launches = Launches::default();
        let second = Duration::from_secs(1);
        let written = SystemTime::now();
        for (last_check, bound) in [(written + second, None), (written - second, Some(&*id))] {
            let end = LaunchEnd {
                at: (Utc::now() + TimeDelta::seconds(1)).fixed_offset(),
                exit_code: Some(0),
                last_check: Some(last_check),
            };
            complete_record(&mut ended, end, &launches);
            let found = ended.binding.conversations.first();
            assert_eq!(found.map(|c| &*c.session_id), bound);
        }
    }

    #[test]
    fn the_last_rollout_of_a_conversation_that_was_rewound_is_bound() {
        let home = tempfile::tempdir().unwrap();
        let mut ended = record(home.path());
        let now = Utc::now();
        let folder = home
            .path()
            .join(now.format("sessions/%Y/%m/%d").to_string());
        fs::create_dir_all(&folder).unwrap();
        let id = |ms: i64| {
            let digits = format!("{:012x}", now.timestamp_millis() + ms);
            format!("{}-{}-7ef3-b0ee-5caab8d3b455", &digits[..8], &digits[8..])
        };
        let thread = id(0);
        let last = format!("rollout-x-{thread}_{}.jsonl", id(9));
        let meta = format!(
            r#"{{"type":"session_meta","payload":{{"id":"{thread}","creator_user_id":"u"}}}}"#
        );
        // The order of the files in the folder is that of their creation, or arbitrary.
        for ms in [4, 8, 9, 2, 7, 3, 6, 5] {
            let name = format!("rollout-x-{thread}_{}.jsonl", id(ms));
            fs::write(folder.join(name), format!("{meta}\n")).unwrap();
        }
        fs::write(
            folder.join(format!("rollout-x-{thread}.jsonl")),
            meta + "\n",
        )
        .unwrap();
        ended.identity.user_id = Some("u".into());
        let end = LaunchEnd {
            at: (now + TimeDelta::seconds(1)).fixed_offset(),
            exit_code: Some(0),
            last_check: None,
        };
        complete_record(&mut ended, end, &Launches::default());
        let [bound] = &ended.binding.conversations[..] else {
            panic!("{:?}", ended.binding);
        };
        assert_eq!(Path::new(&bound.rollout_path), folder.join(last));
    }

    #[test]
    fn a_resume_that_failed_or_opened_no_conversation_ends_without_a_warning() {
        let home = tempfile::tempdir().unwrap();
        let launches = Launches::default();
        for (exit_code, last_check, is_unbound) in [
            (Some(1), None, false),
            (Some(0), Some(SystemTime::UNIX_EPOCH), false),
            (Some(0), None, true),
            (None, None, true),
        ] {
            let mut ended = record(home.path());
            ended.binding.codex_chose = true;
            let end = LaunchEnd {
                at: Utc::now().fixed_offset(),
                exit_code,
                last_check,
            };
            complete_record(&mut ended, end, &launches);
            let reason = ended.binding.unbound_because;
            assert_eq!(reason.is_some(), is_unbound, "{exit_code:?} {last_check:?}");
        }
    }

    #[test]
    fn a_conversation_that_was_resumed_later_was_still_started_by_another_launch() {
        let home = tempfile::tempdir().unwrap();
        let registry = LaunchRegistry::of(home.path());
        let killed = record(home.path());
        for (launch_id, start_offset) in [("20261121-b", 0), ("20261121-c", 100)] {
            let mut launch = record(home.path());
            launch.launch_id = launch_id.into();
            launch.binding.conversations = vec![BoundConversation {
                session_id: "s".into(),
                rollout_path: String::new(),
                start_offset,
                end_offset: None,
                first_token_count_at: None,
                last_token_count_at: None,
                windows: Vec::new(),
                hit_limit: false,
            }];
            registry.append(&launch).unwrap();
        }
        let launches = registry.read().unwrap();
        assert!(was_started_by_other(&launches, &killed, "s"));
        assert!(!was_started_by_other(&launches, &killed, "t"));
    }
}
