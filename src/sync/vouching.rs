//! What a machine vouches for besides what it wrote: files that both sides have alike and no other
//! machine vouches for. A folder that was filled by other means, or by a machine that is no longer, is
//! of use to further machines only when somebody says what is whole in it.

use super::apply::{ApplyError, Work};
use super::contents;
use super::manifest::{self, Manifests, Written};
use super::scan::Stat;
use super::state::{Last, State};
use crate::codex::rollout;
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::path::Path;

/// Adds to `own` what nobody vouches for, and to the state what had to be read for that. A file that
/// has changed since is left for the next run.
pub(super) fn for_known(
    state: &mut State,
    own: &mut BTreeMap<String, Written>,
    work: &Work<'_>,
) -> Result<(), ApplyError> {
    let is_own = |last: &Last| {
        let written = own.get(&last.there.path);
        written.is_some_and(|written| is_it(written, last))
    };
    let open = state.files.iter().filter(|(_, last)| !is_own(last));
    let mut open: Vec<String> = open.map(|(key, _)| key.clone()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let config = work.config;
    let mine = manifest::path_of(&config.cloud, &config.machine_id, &state.writer);
    let others = Manifests::read(&config.cloud, &mine)?;
    if !others.incomplete.is_empty() {
        // What has not arrived may vouch for all of it.
        return Ok(());
    }
    open.sort();
    for key in open {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        let listed = others.of_others(&manifest::key_of(&last.there.path));
        if listed.iter().any(|written| is_it(written, last)) {
            continue;
        }
        if !(work.go_on)() {
            return Err(ApplyError::Interrupted);
        }
        if let Some(written) = examine(last, &config.local, &config.cloud)? {
            own.insert(last.there.path.clone(), written);
        }
    }
    Ok(())
}

/// Whether a version is, as far as can be told without reading, the file that the last sync left.
fn is_it(written: &Written, last: &Last) -> bool {
    let is_text = !last.there.path.ends_with(rollout::ZST);
    let digest = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
    written.size == last.there.stat.size && digest.is_none_or(|digest| digest == written.digest)
}

/// The version in the cloud folder, where it is still as the last sync left it and whole.
fn examine(last: &mut Last, local: &Path, cloud: &Path) -> Result<Option<Written>, IoError> {
    let (here, there) = (local.join(&last.here.path), cloud.join(&last.there.path));
    let is_still = || -> Result<bool, IoError> {
        let stats = (Stat::at(&here)?, Stat::at(&there)?);
        Ok(stats == (Some(last.here.stat), Some(last.there.stat)))
    };
    if !is_still()? {
        return Ok(None);
    }
    let text = |path: &Path| {
        let read = contents::read(path, None).at("read", path)?;
        Ok::<_, IoError>((read.len, read.digest))
    };
    let is_packed = last.there.path.ends_with(rollout::ZST);
    let raw = match last.contents {
        Some((len, digest)) if !is_packed && len == last.there.stat.size => digest,
        _ => contents::raw_digest(&there).at("read", &there)?,
    };
    if last.contents.is_none() {
        let found = text(&there)?;
        if found == text(&here)? {
            last.contents = Some(found);
        } else if contents::looks_torn(&there, false)
            .at("read", &there)?
            .is_some()
        {
            // They only look alike, and that one may be half a file.
            return Ok(None);
        }
    }
    Ok(is_still()?.then_some(Written {
        size: last.there.stat.size,
        mtime_ns: last.here.stat.mtime_ns,
        digest: raw,
    }))
}
