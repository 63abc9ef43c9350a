//! `--merge`: what exists only here is kept, and of two rollouts the longer one.

use super::RestoreError;
use super::plan::RestorePlan;
use super::rollouts::{Rollouts, conversation_of};
use super::stage::{Stage, set_attributes};
use crate::archive::entry_name::EntryName;
use crate::archive::name_table::NameSet;
use crate::archive::scan::mtime_ns_of;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout::{self, Relation};
use crate::io::{IoContext, IoError};
use crate::io::{file_open, long_path};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What a merge found.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Conversations that exist only here.
    pub(super) only_here: Rollouts,
    /// Conversations whose file here stays, those that exist only here among them.
    pub(super) kept: HashSet<String>,
}

/// Goes through the staged files and takes back what the live state has more of.
///
/// # Errors
/// Conversations that went on differently on both sides.
pub(super) fn merge(
    stage: &mut Stage,
    plan: &mut RestorePlan,
    home: &Path,
    live: &NameSet,
) -> Result<Merged, RestoreError> {
    let mut archived: HashMap<String, EntryName> = HashMap::new();
    for name in plan.writes.iter() {
        if let Some(conversation) = conversation_of(name.as_path()) {
            archived.insert(conversation.name, name);
        }
    }
    let mut merged = Merged {
        only_here: Rollouts::among(&NameSet::sharing(live.names())),
        ..Merged::default()
    };
    let mut diverged = Vec::new();
    for file in live.iter() {
        let path = file.as_path();
        let Some(conversation) = conversation_of(path) else {
            continue;
        };
        let id = conversation.id().unwrap_or(&conversation.name).to_owned();
        let Some(name) = archived.get(&conversation.name) else {
            merged.kept.insert(id.clone());
            merged.only_here.insert(&id, &file);
            continue;
        };
        let (here, staged) = (home.join(path), stage.place(name.as_path()));
        match long_path::with_both(&here, &staged, rollout::compare).at("compare", &here)? {
            // Nothing to win: the file that stands here stays, with its own name and inode.
            Relation::Equal | Relation::FirstExtends => {
                long_path::with(&staged, |staged| fs::remove_file(staged)).at("remove", &staged)?;
                plan.writes.remove(name.as_path());
                plan.added.remove(name.as_path());
                stage.rollouts.insert(&id, &file);
                merged.kept.insert(id);
                // Should it stand here a second time, there is nothing to compare with any more.
                archived.remove(&conversation.name);
            }
            Relation::SecondExtends if *name != file => {
                // One conversation, one file: the shorter one under the other name goes.
                plan.removed.insert(&file);
            }
            Relation::SecondExtends => {}
            Relation::Diverged => diverged.push(id),
        }
    }
    if !diverged.is_empty() {
        diverged.sort();
        return Err(RestoreError::Diverged(diverged));
    }
    for file in live.iter() {
        let staged = stage.place(file.as_path());
        let has_lines = matches!(
            kind_of(file.as_path()),
            HomeEntryKind::History | HomeEntryKind::SessionIndex
        );
        if has_lines && staged.symlink_metadata().is_ok_and(|m| m.is_file()) {
            unite_lines(&home.join(file.as_path()), &staged)?;
        }
    }
    Ok(merged)
}

/// Appends to `staged` the lines that only `live` has, in their order.
fn unite_lines(live: &Path, staged: &Path) -> Result<(), IoError> {
    let live_mtime_ns = mtime_ns_of(&live.metadata().at("read", live)?);
    // Digests and places, not lines: the files may be large, and so may each line.
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    let mut ends_whole = true;
    each_line(staged, &mut |line| {
        ends_whole = line.ends_whole;
        seen.insert(line.digest);
        Ok(())
    })?;
    let mut out = file_open::append_no_link(staged).at("write", staged)?;
    let mut source = file_open::open(live).at("read", live)?;
    let mut added = false;
    each_line(live, &mut |line| {
        if !seen.insert(line.digest) {
            return Ok(());
        }
        if !std::mem::replace(&mut ends_whole, line.ends_whole) {
            out.write_all(b"\n").at("write", staged)?;
        }
        added = true;
        source.seek(SeekFrom::Start(line.start)).at("read", live)?;
        io::copy(&mut (&mut source).take(line.len), &mut out).at("write", staged)?;
        Ok(())
    })?;
    drop(out);
    if added {
        set_attributes(staged, 0o600, live_mtime_ns)
    } else {
        Ok(())
    }
}

/// A line of a file: where it is, with its end, and the digest of it without.
struct Line {
    start: u64,
    len: u64,
    digest: [u8; 32],
    ends_whole: bool,
}

fn each_line(
    path: &Path,
    visit: &mut dyn FnMut(&Line) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut reader = BufReader::new(file_open::open(path).at("read", path)?);
    let mut start = 0;
    loop {
        let (mut hasher, mut len, mut ends_whole) = (Sha256::new(), 0, false);
        while !ends_whole {
            let bytes = reader.fill_buf().at("read", path)?;
            if bytes.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', bytes);
            hasher.update(&bytes[..end.unwrap_or(bytes.len())]);
            ends_whole = end.is_some();
            let used = end.map_or(bytes.len(), |end| end + 1);
            len += used as u64;
            reader.consume(used);
        }
        if len == 0 {
            return Ok(());
        }
        visit(&Line {
            start,
            len,
            digest: hasher.finalize().into(),
            ends_whole,
        })?;
        start += len;
    }
}
