//! Implements `--merge`: keeps conversations that only the home has, and the longer version of all others.

use super::staged_home::Stage;
use crate::archive::{EntryName, NameSet, parse_rollout_name, set_attributes};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout::{self, Relation};
use crate::conversations::messages::{self, RewrittenVersion};
use crate::io::disk_clock::modified_ns;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoContext, IoError, file_open, sharing};
use crate::restore::error::RestoreError;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::rollout_index::RolloutIndex;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Removes a staged rollout from the stage and the plan if its live version is equal or longer. Appends the
/// missing live lines to staged line-based files. Returns the rollouts whose live file stays. Does nothing unless the
/// plan is a merge into the home.
///
/// # Errors
/// [`RestoreError::Diverged`] if both versions of a conversation have turns that the other lacks.
pub(crate) fn merge(
    stage: &mut Stage,
    plan: &mut RestorePlan,
    live_names: &NameSet,
) -> Result<RolloutIndex, RestoreError> {
    if !plan.merge || plan.target != RestoreTarget::Home {
        return Ok(RolloutIndex::default());
    }

    let by_rollout = |name: EntryName| Some((parse_rollout_name(name.as_path())?.name, name));
    let mut archived_names: HashMap<_, _> = plan.writes.iter().filter_map(by_rollout).collect();

    // Empty, with the name table of the live files.
    let mut kept_rollouts =
        RolloutIndex::from_files(&NameSet::with_name_table(live_names.name_table()));
    let mut diverged_ids = Vec::new();

    for live_name in live_names.iter() {
        let path = live_name.as_path();
        let Some(rollout) = parse_rollout_name(path) else {
            continue;
        };

        let id = rollout.id().unwrap_or(&rollout.name);
        let Some(archived_name) = archived_names.get(&rollout.name) else {
            kept_rollouts.insert(id, &live_name);
            continue;
        };

        let live_path = stage.home().live.join(path);
        let staged_path = stage.staged_path(archived_name.as_path());
        match compare_versions(&live_path, &staged_path).at("compare", &live_path)? {
            // The staged file adds nothing. The live file stays, with its own name and inode.
            Relation::Equal | Relation::FirstExtends => {
                sharing::remove_file(&staged_path).at("remove", &staged_path)?;
                plan.drop_write(archived_name);
                stage.rollouts.replace(id, archived_name, &live_name);
                kept_rollouts.insert(id, &live_name);
                // The staged file is gone, so a second live file of the conversation is not compared.
                archived_names.remove(&rollout.name);
            }

            Relation::SecondExtends if *archived_name != live_name => {
                // A rollout must not exist twice, so the shorter live file at the other path is removed.
                plan.removed.insert(&live_name);
            }

            Relation::SecondExtends => {}
            Relation::Diverged => diverged_ids.push(id.to_owned()),
        }
    }

    if !diverged_ids.is_empty() {
        diverged_ids.sort();
        return Err(RestoreError::Diverged(diverged_ids));
    }

    merge_line_files(stage, live_names)?;
    Ok(kept_rollouts)
}

/// Compares the text of two versions of a rollout. A live version that Codex made by rewriting the staged one counts as
/// its extension.
fn compare_versions(live: &Path, staged: &Path) -> io::Result<Relation> {
    let relation = rollout::compare(live, staged)?;
    if relation == Relation::Diverged
        && let Some(RewrittenVersion::First | RewrittenVersion::Both) =
            messages::find_rewritten_version(live, staged)?
    {
        return Ok(Relation::FirstExtends);
    }
    Ok(relation)
}

/// Appends to each staged line-based file the lines that only the live version has.
fn merge_line_files(stage: &Stage, live_names: &NameSet) -> Result<(), IoError> {
    for file in live_names.iter() {
        let staged = stage.staged_path(file.as_path());
        let kind = kind_of(file.as_path());
        let has_lines = matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex);
        if has_lines && staged.symlink_metadata().is_ok_and(|m| m.is_file()) {
            append_missing_lines(&stage.home().live.join(file.as_path()), &staged)?;
        }
    }
    Ok(())
}

/// Appends to `staged` the lines that only `live` has, in their order, each once. If there are such lines, sets the
/// mode of `staged` to 0600 and its modification time to that of `live`.
fn append_missing_lines(live: &Path, staged: &Path) -> Result<(), IoError> {
    let live_mtime_ns = modified_ns(&live.metadata().at("read", live)?);

    // Stores digests instead of lines, because the file and each line may be large.
    let mut known_lines: HashSet<Sha256Digest> = HashSet::new();
    let mut is_terminated = true;
    visit_lines(staged, &mut |line| {
        is_terminated = line.is_terminated;
        known_lines.insert(line.digest);
        Ok(())
    })?;

    let mut staged_file = file_open::append_no_link(staged).at("write", staged)?;
    let mut live_file = file_open::open(live).at("read", live)?;
    let mut has_added = false;

    visit_lines(live, &mut |line| {
        if !known_lines.insert(line.digest) {
            return Ok(());
        }

        // Codex may have been killed while it wrote the last line. Another line must not be appended to that line.
        if !is_terminated {
            staged_file.write_all(b"\n").at("write", staged)?;
        }
        is_terminated = line.is_terminated;

        has_added = true;
        let start = SeekFrom::Start(line.start);
        live_file.seek(start).at("read", live)?;
        io::copy(&mut (&mut live_file).take(line.len), &mut staged_file).at("write", staged)?;
        Ok(())
    })?;

    // Closed first: Windows sets the time again when a written file is closed.
    drop(staged_file);
    if has_added {
        set_attributes(staged, 0o600, live_mtime_ns)?;
    }
    Ok(())
}

/// The position of a line in a file, and its digest.
struct LineSpan {
    start: u64,
    /// Length in bytes, including the newline.
    len: u64,
    /// SHA-256 of the line without the newline.
    digest: Sha256Digest,
    /// False for a last line without a newline.
    is_terminated: bool,
}

fn visit_lines(
    path: &Path,
    visit: &mut dyn FnMut(&LineSpan) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut reader = BufReader::new(file_open::open(path).at("read", path)?);
    let mut start = 0;

    loop {
        let (mut hasher, mut len, mut is_terminated) = (Hasher::default(), 0, false);
        // A line is hashed in parts, because it may be large.
        while !is_terminated {
            let bytes = reader.fill_buf().at("read", path)?;
            if bytes.is_empty() {
                break;
            }

            let newline = memchr::memchr(b'\n', bytes);
            hasher.update(&bytes[..newline.unwrap_or(bytes.len())]);
            is_terminated = newline.is_some();
            let consumed_len = newline.map_or(bytes.len(), |newline| newline + 1);
            len += consumed_len as u64;
            reader.consume(consumed_len);
        }

        if len == 0 {
            return Ok(());
        }
        visit(&LineSpan {
            start,
            len,
            digest: hasher.digest(),
            is_terminated,
        })?;

        start += len;
    }
}
