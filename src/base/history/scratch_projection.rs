//! Has Codex project rollouts that conversations continue.
//!
//! Codex projects only the last rollout of a conversation, when it resumes the conversation. So each earlier rollout
//! is copied into a scratch home as a conversation of its own, with the id of the rollout in place of the id of the
//! conversation. Both ids have the same length, so all offsets stay. Codex opens the copy without a login and without
//! contacting a server (Codex 0.169).

use super::repair_plan::RepairContext;
use super::scratch_database::{ScratchDatabase, run_app_server};
use super::unreadable::ContinuedRollout;
use super::{HistoryError, rollout};
use crate::codex::config::{self, PROVIDER_KEYS};
use crate::codex::rollout::open_plain;
use crate::codex::{
    Program, Projections, RolloutCut, RolloutName, SESSIONS, database, projections, threads,
};
use crate::io::{Environment, IoContext as _, Staging, atomic};
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

/// The longest first line of a rollout, in bytes. The first line has the instructions.
const MAX_FIRST_LINE_BYTES: u64 = 4 << 20;

/// A database with projections that Codex has created.
pub(crate) struct ScratchProjections {
    pub(super) scratch: ScratchDatabase,
    /// The cuts that the projections in the database reach.
    pub(super) complete_rollouts: Vec<RolloutCut>,
}

/// Lets `program` project `rollouts` up to their cuts, except rollouts that Codex has projected already. Leaves out
/// rollouts that end before their cut, or that Codex refuses.
///
/// # Errors
/// A rollout cannot be read, a copy cannot be written, Codex cannot be started or projects no rollout, or the user
/// interrupts.
pub(crate) fn create_scratch_projections(
    context: &RepairContext<'_>,
    program: &Program,
    rollouts: &[ContinuedRollout],
) -> Result<ScratchProjections, HistoryError> {
    let staging = Staging::create_in(&context.manager_home.join("tmp"))?;
    let scratch = staging.path("home");
    let sessions = scratch.join(SESSIONS);
    for folder in [&scratch, &sessions] {
        atomic::create_private_folder(folder)?;
    }

    let config = scratch.join("config.toml");
    let settings = config::format_scratch_config(context.home, PROVIDER_KEYS);
    atomic::write(&config, settings.as_bytes())?;

    let mut cuts = Vec::new();
    for rollout in select_last_cuts(rollouts) {
        // Projected rollouts are copied as well, because Codex opens no rollout without the rollouts that it continues.
        match copy_as_own_conversation(&rollout, &sessions) {
            // One unusable rollout must not stop the repair of the others. The check after the repair reports it.
            Err(HistoryError::NotRebuilt(_)) => continue,
            copied => copied?,
        }
        if !rollout.is_projected {
            cuts.push(rollout.cut);
        }
    }

    run_app_server(&scratch, program, context.env, |send_request| {
        for cut in &cuts {
            let answer = send_request("thread/resume", &json!({"threadId": cut.rollout_id}));
            // Codex refuses some rollouts, such as those of subagents. The check after the repair reports them.
            if let Err(error @ HistoryError::Interrupted) = answer {
                return Err(error);
            }
        }
        Ok(())
    })?;

    let state = threads::find_state_database(&scratch, &Environment::default());
    let database = state.and_then(|state| Projections::read_beside(&state).database);
    let database =
        database.ok_or_else(|| HistoryError::NotRebuilt("it recorded no turns".into()))?;

    // Codex 0.169 leaves its `-wal` behind when it ends, and only the database file is copied later.
    database::checkpoint_wal(&database)?;
    projections::cut_projections(&database, &cuts)?;
    database::check_integrity(&database)?;

    let created = Projections::read_beside(&database);
    cuts.retain(|cut| created.reach(cut));

    Ok(ScratchProjections {
        scratch: ScratchDatabase {
            database,
            _staging: staging,
        },
        complete_rollouts: cuts,
    })
}

/// Returns each rollout once, with its last cut: several conversations may continue one rollout, at different places.
fn select_last_cuts(rollouts: &[ContinuedRollout]) -> impl Iterator<Item = ContinuedRollout> {
    let mut selected: HashMap<&str, ContinuedRollout> = HashMap::new();
    for rollout in rollouts {
        let last_so_far = selected
            .entry(&rollout.cut.rollout_id)
            .or_insert_with(|| rollout.clone());
        last_so_far.is_projected &= rollout.is_projected;
        if last_so_far.cut.offset < rollout.cut.offset {
            last_so_far.cut = rollout.cut.clone();
        }
    }
    selected.into_values()
}

/// Copies a rollout up to its cut, with the id of the rollout in place of the id of its conversation. Codex reads the
/// copy as a conversation with one rollout.
fn copy_as_own_conversation(rollout: &ContinuedRollout, folder: &Path) -> Result<(), HistoryError> {
    let source = &rollout.path;
    let unusable_error =
        || HistoryError::NotRebuilt(format!("cannot use the rollout {}", source.display()));

    let name = RolloutName::parse(source).ok_or_else(unusable_error)?;
    let rollout_id = &rollout.cut.rollout_id;
    let thread_id = name.id().ok_or_else(unusable_error)?;
    let id_position = name.name.find(thread_id).ok_or_else(unusable_error)?;
    let target = folder.join(format!("{}{rollout_id}.jsonl", &name.name[..id_position]));

    let mut reader = BufReader::new(open_plain(source).at("read", source)?);
    let mut first_line = Vec::new();
    let mut line_reader = reader.by_ref().take(MAX_FIRST_LINE_BYTES);
    let read_result = line_reader.read_until(b'\n', &mut first_line);
    read_result.at("read", source)?;
    let first_text = std::str::from_utf8(&first_line).map_err(|_| unusable_error())?;

    // A name without `.zst`, because the line is unpacked already.
    let base = rollout::parse_prefix(&first_line, Path::new("head.jsonl")).at("read", source)?;
    let base = base.and_then(|meta| meta.base_cut());

    let mut copied_line = first_text.to_owned();
    for key in ["id", "session_id"] {
        let field = |id: &str| format!("\"{key}\":\"{id}\"");
        // In the text and not as JSON: the projection stores byte offsets, so the line must keep its length.
        copied_line = copied_line.replacen(&field(thread_id), &field(rollout_id), 1);
    }

    // `replacen` may have replaced the id of the base instead.
    let keeps_base = base.is_none_or(|base| copied_line.contains(&base.rollout_id));
    if copied_line.len() != first_line.len() || !keeps_base {
        return Err(unusable_error());
    }

    let rest_bytes = rollout.cut.offset.saturating_sub(first_line.len() as u64);
    let mut file = atomic::TempFile::create_beside(&target)?;
    let written = file
        .file()
        .write_all(copied_line.as_bytes())
        .and_then(|()| io::copy(&mut reader.take(rest_bytes), file.file()));
    if written.at("write", &target)? < rest_bytes {
        return Err(unusable_error());
    }
    Ok(file.replace(&target)?)
}
