//! What a machine vouches for: of what it wrote the version that is there, and files that both sides
//! have alike and no other machine vouches for. A folder that was filled by other means, or by a
//! machine that is no longer, is of use to further machines only when somebody says what is whole in it.

use super::apply::{ApplyError, ApplyRequest};
use super::config::SyncConfig;
use super::contents;
use super::identity;
use super::manifest::{self, ManifestEntry};
use super::plan::SyncPlan;
use super::remote_manifests::RemoteManifests;
use super::scan::{Side, Stat};
use super::state::{SyncState, SyncedFile};
use crate::codex::rollout;
use crate::io::{IoContext, IoError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Adds to `own` what nobody vouches for, and to the state what had to be read for that. A file that
/// has changed since is left for the next run.
pub(super) fn attest_unlisted(
    state: &mut SyncState,
    own: &mut BTreeMap<String, ManifestEntry>,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    let is_own = |last: &SyncedFile| {
        let written = own.get(&last.remote.path);
        written.is_some_and(|written| matches_last_sync(written, last))
    };
    let open = state.files.iter().filter(|(_, last)| !is_own(last));
    let mut open: Vec<String> = open.map(|(key, _)| key.clone()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let config = request.config;
    let others = identity::read_remote_manifests(config, state)?;
    let torn = incomplete_manifests(&others, config)?;
    let is_any_new = torn.iter().any(|word| !state.torn_manifests.contains(word));
    state.torn_manifests = torn;
    if is_any_new || !others.not_downloaded.is_empty() {
        // What is about to arrive may vouch for all of it, and know more of what came before. One that is
        // still as the run before found it is waited for no longer: its machine may be no more.
        return Ok(());
    }
    open.sort();
    for key in open {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        let listed = others.entries(&manifest::key_of(&last.remote.path));
        if listed
            .iter()
            .any(|written| matches_last_sync(written, last))
        {
            continue;
        }
        if !(request.keep_going)() {
            return Err(ApplyError::Interrupted);
        }
        let examined = match verify_remote(last, config) {
            // Removed meanwhile: the next run looks again.
            Err(e) if e.is_not_found() => None,
            examined => examined?,
        };
        if let Some(mut written) = examined {
            written.history = state.histories.get(&key).cloned().map(Box::new);
            own.insert(last.remote.path.clone(), written);
        }
    }
    Ok(())
}

/// Removes what neither side has any more: others would wait for it. What was deleted stays, for it tells which
/// texts are older.
pub(super) fn remove_forgotten(
    files: &mut BTreeMap<String, ManifestEntry>,
    plan: &SyncPlan,
    state: &SyncState,
    cloud: &Path,
) {
    let gone = plan
        .forgotten
        .iter()
        .filter(|key| !state.deleted.contains_key(*key));
    let gone: BTreeSet<String> = gone.map(|key| manifest::fold_name(key)).collect();
    if !gone.is_empty() {
        files.retain(|path, _| {
            !gone.contains(&manifest::key_of(path)) || cloud.join(path).symlink_metadata().is_ok()
        });
    }
}

/// The manifests that are not whole, each with how it looks.
fn incomplete_manifests(
    others: &RemoteManifests,
    config: &SyncConfig,
) -> Result<Vec<String>, IoError> {
    let mut torn = Vec::new();
    for name in &others.incomplete {
        let path = manifest::path_of_name(&config.cloud, name);
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
pub(super) fn match_cloud_folder(
    files: &mut BTreeMap<String, ManifestEntry>,
    earlier: Vec<(String, ManifestEntry)>,
    cloud: &Path,
) -> Vec<(String, ManifestEntry)> {
    let mut by_path: BTreeMap<String, Vec<ManifestEntry>> = BTreeMap::new();
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
        let may_be = |written: &ManifestEntry| size == Some(written.size);
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
fn matches_last_sync(written: &ManifestEntry, last: &SyncedFile) -> bool {
    let is_text = !last.remote.path.ends_with(rollout::ZST);
    let digest = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
    written.size == last.remote.stat.size && digest.is_none_or(|digest| digest == written.digest)
}

/// The version in the cloud folder, where it is still as the last sync left it and whole.
fn verify_remote(
    last: &mut SyncedFile,
    config: &SyncConfig,
) -> Result<Option<ManifestEntry>, IoError> {
    let local = config.file_path(Side::Local, &last.local.path);
    let remote = config.file_path(Side::Remote, &last.remote.path);
    if !last.is_unchanged(config)? {
        return Ok(None);
    }
    let text = |path: &Path| {
        let read = contents::read(path, None).at("read", path)?;
        Ok::<_, IoError>((read.len, read.digest))
    };
    let is_packed = last.remote.path.ends_with(rollout::ZST);
    let raw = match last.contents {
        Some((len, digest)) if !is_packed && len == last.remote.stat.size => digest,
        _ => contents::raw_digest(&remote).at("read", &remote)?,
    };
    if last.contents.is_none() {
        let found = text(&remote)?;
        if found == text(&local)? {
            last.contents = Some(found);
        } else if contents::torn_reason(&remote, false)
            .at("read", &remote)?
            .is_some()
        {
            // They only look alike, and that one may be half a file.
            return Ok(None);
        }
    }
    Ok(last.is_unchanged(config)?.then_some(ManifestEntry {
        size: last.remote.stat.size,
        mtime_ns: last.local.stat.mtime_ns,
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
        let version = |text: &str| ManifestEntry {
            size: text.len() as u64,
            mtime_ns: 5,
            digest: Sha256Digest::of(text.as_bytes()),
            history: None,
        };
        // What is there, what is vouched for then, and how many may yet turn up.
        for (remote, expected, open) in [
            (Some("new"), "new", 0),
            (Some("old"), "old", 0),
            (Some("older"), "older", 0),
            (Some("\0\0\0"), "new", 2),
            (Some("of another"), "new", 2),
            (None, "new", 2),
        ] {
            let cloud = tempfile::tempdir().unwrap();
            if let Some(text) = remote {
                std::fs::write(cloud.path().join("a"), text).unwrap();
            }
            let mut files = BTreeMap::from([("a".to_owned(), version("new"))]);
            let earlier = ["older", "old"].map(|text| ("a".to_owned(), version(text)));
            let left = match_cloud_folder(&mut files, earlier.to_vec(), cloud.path());
            assert_eq!(files["a"], version(expected), "{remote:?}");
            assert_eq!(left, earlier[..open], "{remote:?}");
        }
    }
}
