//! What a machine vouches for: of what it wrote the version that is there, and files that both sides
//! have alike and no other machine vouches for. A folder that was filled by other means, or by a
//! machine that is no longer, is of use to further machines only when somebody says what is whole in it.

use super::apply::{ApplyError, ApplyRequest};
use super::config::SyncConfig;
use super::contents;
use super::identity;
use super::manifest::{self, Written};
use super::peers::Manifests;
use super::plan::SyncPlan;
use super::scan::{Side, Stat};
use super::state::{Last, State};
use crate::codex::rollout;
use crate::io::{IoContext, IoError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Adds to `own` what nobody vouches for, and to the state what had to be read for that. A file that
/// has changed since is left for the next run.
pub(super) fn for_known(
    state: &mut State,
    own: &mut BTreeMap<String, Written>,
    request: &ApplyRequest<'_>,
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
    let config = request.config;
    let others = identity::others(config, state)?;
    let torn = torn_words(&others, config)?;
    let is_any_new = torn.iter().any(|word| !state.torn.contains(word));
    state.torn = torn;
    if is_any_new || !others.not_here.is_empty() {
        // What is about to arrive may vouch for all of it, and know more of what came before. One that is
        // still as the run before found it is waited for no longer: its machine may be no more.
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
        if !(request.keep_going)() {
            return Err(ApplyError::Interrupted);
        }
        let examined = match examine(last, config) {
            // Removed meanwhile: the next run looks again.
            Err(e) if e.is_not_found() => None,
            examined => examined?,
        };
        if let Some(mut written) = examined {
            written.history = state.histories.get(&key).cloned().map(Box::new);
            own.insert(last.there.path.clone(), written);
        }
    }
    Ok(())
}

/// Removes what neither side has any more: others would wait for it. What was deleted stays, for it tells which
/// texts are older.
pub(super) fn drop_gone(
    files: &mut BTreeMap<String, Written>,
    plan: &SyncPlan,
    state: &State,
    cloud: &Path,
) {
    let gone = plan
        .forgotten
        .iter()
        .filter(|key| !state.deleted.contains_key(*key));
    let gone: BTreeSet<String> = gone.map(|key| manifest::folded(key)).collect();
    if !gone.is_empty() {
        files.retain(|path, _| {
            !gone.contains(&manifest::key_of(path)) || cloud.join(path).symlink_metadata().is_ok()
        });
    }
}

/// The manifests that are not whole, each with how it looks.
fn torn_words(others: &Manifests, config: &SyncConfig) -> Result<Vec<String>, IoError> {
    let mut torn = Vec::new();
    for name in &others.incomplete {
        let path = manifest::place_of(&config.cloud, name);
        if let Some(Stat { size, mtime_ns }) = Stat::at(&path)? {
            torn.push(format!("{name} {size} {mtime_ns}"));
        }
    }
    torn.sort();
    Ok(torn)
}

/// Makes `files` say what is in the cloud folder where this machine noted several versions of a file: a
/// run that was killed has noted one that it did not come to put there. Returns the earlier versions of
/// which any may yet turn up, as nothing that was noted is there now.
pub(super) fn for_what_is_there(
    files: &mut BTreeMap<String, Written>,
    earlier: Vec<(String, Written)>,
    cloud: &Path,
) -> Vec<(String, Written)> {
    let mut by_path: BTreeMap<String, Vec<Written>> = BTreeMap::new();
    for (path, written) in earlier {
        by_path.entry(path).or_default().push(written);
    }
    let mut open = Vec::new();
    for (path, versions) in by_path {
        let Some(last) = files.get_mut(&path) else {
            continue;
        };
        let full = cloud.join(&path);
        // What cannot be looked at is none of them.
        let size = Stat::at(&full).ok().flatten().map(|stat| stat.size);
        let may_be = |written: &Written| size == Some(written.size);
        if may_be(last) && !versions.iter().any(may_be) {
            continue;
        }
        let any = may_be(last) || versions.iter().any(may_be);
        let digest = any.then(|| contents::raw_digest(&full).ok()).flatten();
        if Some(last.digest) == digest {
            continue;
        }
        match versions.iter().find(|w| Some(w.digest) == digest) {
            Some(found) => *last = found.clone(),
            None => open.extend(versions.into_iter().map(|written| (path.clone(), written))),
        }
    }
    open
}

/// Whether a version is, as far as can be told without reading, the file that the last sync left.
fn is_it(written: &Written, last: &Last) -> bool {
    let is_text = !last.there.path.ends_with(rollout::ZST);
    let digest = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
    written.size == last.there.stat.size && digest.is_none_or(|digest| digest == written.digest)
}

/// The version in the cloud folder, where it is still as the last sync left it and whole.
fn examine(last: &mut Last, config: &SyncConfig) -> Result<Option<Written>, IoError> {
    let here = config.place(Side::Here, &last.here.path);
    let there = config.place(Side::There, &last.there.path);
    if !last.is_still(config)? {
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
    Ok(last.is_still(config)?.then_some(Written {
        size: last.there.stat.size,
        mtime_ns: last.here.stat.mtime_ns,
        digest: raw,
        history: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    #[test]
    fn a_version_that_was_noted_and_never_put_there_is_not_vouched_for() {
        let version = |text: &str| Written {
            size: text.len() as u64,
            mtime_ns: 5,
            digest: Sha256Digest::of(text.as_bytes()),
            history: None,
        };
        // What is there, what is vouched for then, and how many may yet turn up.
        for (there, expected, open) in [
            (Some("new"), "new", 0),
            (Some("old"), "old", 0),
            (Some("older"), "older", 0),
            (Some("\0\0\0"), "new", 2),
            (Some("of another"), "new", 2),
            (None, "new", 2),
        ] {
            let cloud = tempfile::tempdir().unwrap();
            if let Some(text) = there {
                std::fs::write(cloud.path().join("a"), text).unwrap();
            }
            let mut files = BTreeMap::from([("a".to_owned(), version("new"))]);
            let earlier = ["older", "old"].map(|text| ("a".to_owned(), version(text)));
            let left = for_what_is_there(&mut files, earlier.to_vec(), cloud.path());
            assert_eq!(files["a"], version(expected), "{there:?}");
            assert_eq!(left, earlier[..open], "{there:?}");
        }
    }
}
