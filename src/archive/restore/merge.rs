//! `--merge`: what exists only here is kept, and of two rollouts the longer one.

use super::RestoreError;
use super::live::LiveFile;
use super::plan::RestorePlan;
use super::stage::{Stage, set_attributes};
use crate::archive::entry_name::EntryName;
use crate::codex::home::Kind;
use crate::codex::rollout::{self, ConversationFile, Relation};
use crate::io::{IoContext, IoError};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// What a merge found.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Conversations that exist only here: id → path relative to the home.
    pub(super) only_here: HashMap<String, PathBuf>,
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
    live: &[LiveFile],
) -> Result<Merged, RestoreError> {
    let mut archived: HashMap<String, EntryName> = HashMap::new();
    for name in &plan.writes {
        if let Some(conversation) = conversation_of(name.as_path()) {
            archived.insert(conversation.name, name.clone());
        }
    }
    let mut merged = Merged::default();
    let mut diverged = Vec::new();
    for file in live.iter().filter(|f| f.kind.is_rollout_folder()) {
        let Some(conversation) = conversation_of(&file.path) else {
            continue;
        };
        let id = conversation.id().unwrap_or(&conversation.name).to_owned();
        let Some(name) = archived.get(&conversation.name) else {
            merged.kept.insert(id.clone());
            merged.only_here.insert(id, file.path.clone());
            continue;
        };
        let (here, staged) = (home.join(&file.path), stage.place(name.as_path()));
        match rollout::compare(&here, &staged).at("compare", &here)? {
            // Nothing to win: the file that stands here stays, with its own name and inode.
            Relation::Equal | Relation::FirstExtends => {
                fs::remove_file(&staged).at("remove", &staged)?;
                plan.writes.remove(name);
                plan.added.remove(name);
                merged.kept.insert(id.clone());
                if let Ok(here) = EntryName::of_path(&file.path) {
                    stage.rollouts.insert(id, here);
                }
            }
            Relation::SecondExtends if name.as_path() != file.path => {
                // One conversation, one file: the shorter one under the other name goes.
                plan.removed.insert(file.path.clone());
            }
            Relation::SecondExtends => {}
            Relation::Diverged => diverged.push(id),
        }
    }
    if !diverged.is_empty() {
        diverged.sort();
        return Err(RestoreError::Diverged(diverged));
    }
    for file in live
        .iter()
        .filter(|f| matches!(f.kind, Kind::History | Kind::SessionIndex))
    {
        let staged = stage.place(&file.path);
        if staged.is_file() {
            unite_lines(&home.join(&file.path), &staged, file.mtime_ns)?;
        }
    }
    Ok(merged)
}

fn conversation_of(path: &Path) -> Option<ConversationFile> {
    crate::codex::home::kind_of(path)
        .is_rollout_folder()
        .then(|| ConversationFile::of(path))
        .flatten()
}

/// Appends to `staged` the lines that only `live` has, in their order.
fn unite_lines(live: &Path, staged: &Path, live_mtime_ns: i64) -> Result<(), IoError> {
    // Digests, not lines: the files may be large.
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    let mut ends_whole = true;
    each_line(staged, &mut |line| {
        ends_whole = line.ends_with(b"\n");
        seen.insert(digest(line));
        Ok(())
    })?;
    let mut out = fs::OpenOptions::new()
        .append(true)
        .open(staged)
        .at("write", staged)?;
    let mut added = false;
    each_line(live, &mut |line| {
        if !seen.insert(digest(line)) {
            return Ok(());
        }
        if !std::mem::replace(&mut ends_whole, line.ends_with(b"\n")) {
            out.write_all(b"\n").at("write", staged)?;
        }
        added = true;
        out.write_all(line).at("write", staged)
    })?;
    drop(out);
    if added {
        set_attributes(staged, 0o600, live_mtime_ns)
    } else {
        Ok(())
    }
}

fn each_line(
    path: &Path,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut reader = BufReader::new(File::open(path).at("read", path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).at("read", path)? == 0 {
            return Ok(());
        }
        visit(&line)?;
    }
}

fn digest(line: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(line.strip_suffix(b"\n").unwrap_or(line)).into()
}
