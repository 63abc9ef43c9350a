//! What is known of one version of a file: whether it has arrived whole, and whether it has changed.

use super::{FileGroup, ObservedFile, PlanError, Planner};
use crate::codex::rollout::{self, Relation};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::decide::{FileFacts, NewerSide, Presence};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::read_failure;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::{Deletion, SideFile, SyncedFile};
use std::path::Path;

/// A version of a file that may be used.
#[derive(Debug, Clone)]
pub(super) struct FileVersion {
    /// Where it is.
    pub(super) seen: ObservedFile,
    /// Its true time.
    pub(super) mtime_ns: i64,
    /// Its bytes, where somebody vouches for them.
    pub(super) digest: Option<Sha256Digest>,
}

impl FileVersion {
    /// One that lies here: what is here and not blanked is whole.
    pub(super) fn local(found: &ListedFile) -> Self {
        Self::found(Side::Local, found)
    }

    /// One in the cloud folder that is taken as it looks.
    pub(super) fn remote(found: &ListedFile) -> Self {
        Self::found(Side::Remote, found)
    }

    fn found(side: Side, found: &ListedFile) -> Self {
        Self {
            mtime_ns: found.stat.mtime_ns,
            seen: ObservedFile {
                side,
                path: found.path.clone(),
                stat: found.stat,
            },
            digest: None,
        }
    }
}

/// Whether a file of the cloud folder may be used.
#[derive(Debug)]
pub(super) enum DownloadState {
    /// It may.
    Complete(FileVersion),
    /// Not yet, and why.
    Incomplete(&'static str),
}

/// Why a file is waited for whose text is gone: no flag takes it.
pub(super) const ZERO_FILLED: &str = "zeros stand where its text was";

impl Planner<'_> {
    /// One file that cannot be read is left alone; the others are none the worse for it.
    pub(super) fn plan_group_or_skip(
        &mut self,
        key: &str,
        group: &FileGroup,
        parents: Option<&mut Vec<String>>,
    ) -> Result<(), PlanError> {
        match self.plan_group(key, group, parents) {
            Err(PlanError::Io(e)) => {
                let roots = [Side::Local, Side::Remote].map(|side| self.root(side));
                let of_side = roots.iter().find_map(|root| e.path.strip_prefix(root).ok());
                let is_led_to = |found: &&ListedFile| {
                    self.request.config.file_path(Side::Local, &found.path) == e.path
                };
                let linked = || {
                    group
                        .local
                        .iter()
                        .find(is_led_to)
                        .map(|f| Path::new(&f.path))
                };
                let of_side = of_side.or_else(linked);
                let ours = self.root(Side::Remote).join(manifest::MANAGER_FOLDER);
                let Some(relative) = of_side.filter(|_| !e.path.starts_with(ours)) else {
                    // Without what machines say, nothing can be decided.
                    return Err(e.into());
                };
                let path = relative.to_string_lossy().replace('\\', "/");
                self.plan
                    .skipped
                    .push((path, read_failure::reason(&e.source)));
                Ok(())
            }
            done => done,
        }
    }

    /// Judges a file of the cloud folder: a file that is as the last sync left it is whole, and so is
    /// one that a machine vouches for. For the rest it depends on who else writes there.
    pub(super) fn download_state(
        &self,
        key: &str,
        found: &ListedFile,
        of_lines: bool,
        last: Option<&SyncedFile>,
    ) -> Result<DownloadState, IoError> {
        let seen = ObservedFile {
            side: Side::Remote,
            path: found.path.clone(),
            stat: found.stat,
        };
        let whole = |mtime_ns, digest| {
            Ok(DownloadState::Complete(FileVersion {
                seen: seen.clone(),
                mtime_ns,
                digest,
            }))
        };
        if let Some(last) = last
            && is_as_last_synced(found, &last.remote)
        {
            return whole(last.local.stat.mtime_ns, None);
        }
        let path = self.full(&seen);
        // Whoever vouches for it: text that is gone is nobody's newer version.
        if contents::is_zero_filled(&path, of_lines, true).at("read", &path)? {
            return Ok(DownloadState::Incomplete(ZERO_FILLED));
        }
        let manifests = self.manifests()?;
        let others = manifests.entries(key);
        let own = self.ledger_versions(key)?;
        let known = || others.iter().chain(own);
        if known().any(|version| version.size == found.stat.size) {
            let digest = contents::raw_digest(&path).at("read", &path)?;
            let of_it = |version: &&ManifestEntry| version.digest == digest;
            if let Some(version) = known().find(of_it) {
                return whole(version.mtime_ns, Some(digest));
            }
        }
        if !of_lines && let Some(digest) = self.superseded_digest(key, found)? {
            return whole(found.stat.mtime_ns, Some(digest));
        }
        if self.request.accept_unlisted {
            return whole(found.stat.mtime_ns, None);
        }
        if let Some(why) = contents::torn_reason(&path, of_lines).at("read", &path)? {
            return Ok(DownloadState::Incomplete(why));
        }
        let was_more = last.is_some_and(|last| last.remote.stat.size > 0) || !others.is_empty();
        if found.stat.size == 0 && was_more {
            return Ok(DownloadState::Incomplete("it is empty, and was not"));
        }
        if manifests.machines == 0 && !self.state.has_other_machines {
            // Nobody else vouches for anything: a tool that mirrors files, or a person.
            if !of_lines && let Some(why) = contents::truncation_reason(&path).at("read", &path)? {
                return Ok(DownloadState::Incomplete(why));
            }
            return whole(found.stat.mtime_ns, None);
        }
        if of_lines && extends_attested_version(&path, found.stat.size, known())? {
            return whole(found.stat.mtime_ns, None);
        }
        Ok(DownloadState::Incomplete(if others.is_empty() {
            "no machine has said yet that it is whole"
        } else {
            "it is not yet what another machine wrote"
        }))
    }

    /// Whether a file that would be waited for holds nothing that is not here: then it may be used, for
    /// nothing can be lost by it. The beginning of what is here counts where all that other machines vouch
    /// for is in that, too, or in another file of the cloud folder: a client has brought an earlier version back, or this machine wrote it and has
    /// forgotten that. Else it may be a part of what they wrote.
    pub(super) fn adds_nothing(
        &self,
        key: &str,
        group: &FileGroup,
        found: &ListedFile,
        of_lines: bool,
    ) -> Result<bool, IoError> {
        let remote = FileVersion::remote(found).seen;
        for own in group.local.iter().map(|own| FileVersion::local(own).seen) {
            let is_in_it = if of_lines {
                self.has_complete_lines(&remote)?
                    && match self.relation(&own, &remote)? {
                        Relation::Equal => true,
                        Relation::FirstExtends => {
                            // Copies that clients made of it are versions, too.
                            let beside = group.remote.iter().chain(&group.client_copies);
                            let beside = beside.filter(|file| file.path != found.path);
                            let beside = beside.map(|file| FileVersion::remote(file).seen);
                            let files: Vec<_> = std::iter::once(own).chain(beside).collect();
                            self.contain_all_attested(key, &files)?
                        }
                        Relation::SecondExtends | Relation::Diverged => false,
                    }
            } else {
                let digest = |seen| {
                    let path = self.full(seen);
                    contents::raw_digest(&path).at("read", &path)
                };
                own.stat.size == remote.stat.size && digest(&own)? == digest(&remote)?
            };
            if is_in_it {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether each version that other machines vouch for is one of these files, or the beginning of one. A
    /// packed one is known again where the last sync left it: what has been here since goes on from that.
    fn contain_all_attested(&self, key: &str, files: &[ObservedFile]) -> Result<bool, IoError> {
        let begins_with = |len, digest| {
            for path in files.iter().map(|seen| self.full(seen)) {
                let contents = contents::read(&path, Some(len)).at("read", &path)?;
                if contents.prefix_digest == Some(digest) {
                    return Ok::<_, IoError>(true);
                }
            }
            Ok(false)
        };
        let last = self.state.files.get(key);
        for version in self.manifests()?.entries(key) {
            if begins_with(version.size, version.digest)? {
                continue;
            }
            let as_left = last
                .filter(|last| last.remote.path.ends_with(rollout::ZST))
                .filter(|last| last.remote.stat.size == version.size)
                .and_then(|last| last.contents);
            let has_it = match as_left {
                Some((len, digest)) => begins_with(len, digest)?,
                None => false,
            };
            if !has_it {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a version is another one that was cut in the midst of a line: half of it, for nobody ends a
    /// text there.
    pub(super) fn is_truncated_prefix(
        &self,
        whole: &FileVersion,
        half: &FileVersion,
    ) -> Result<bool, IoError> {
        let size = half.seen.stat.size;
        if size == 0 || size >= whole.seen.stat.size {
            return Ok(false);
        }
        let path = self.full(&half.seen);
        if contents::ends_with_newline(&path).at("read", &path)? {
            return Ok(false);
        }
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let path = self.full(&whole.seen);
        let mut file = file_open::open(&path).at("open", &path)?;
        let contents = contents::read_from(&mut file, Some(size)).at("read", &path)?;
        Ok(contents.prefix_digest == Some(digest))
    }

    /// Leaves a file alone that has changed here into what a power cut leaves; whether it did.
    pub(super) fn skips_zero_filled(
        &mut self,
        found: &ListedFile,
        of_lines: bool,
        last: Option<&SyncedFile>,
    ) -> Result<bool, IoError> {
        if last.is_some_and(|last| is_as_last_synced(found, &last.local)) {
            return Ok(false);
        }
        let path = self.root(Side::Local).join(&found.path);
        // What no sync has seen may be all of a home: it is read when it is copied.
        let is_blanked =
            contents::is_zero_filled(&path, of_lines, last.is_some()).at("read", &path)?;
        if is_blanked {
            let why = "zeros stand where its text was, as after a power cut; once it is removed or \
                       mended here, it is synced again";
            self.plan.skipped.push((found.path.clone(), why.into()));
        }
        Ok(is_blanked)
    }

    /// Whether a side has changed since the last sync, by its looks and, where these differ, by what
    /// it holds.
    pub(super) fn presence(
        &self,
        version: Option<&FileVersion>,
        last: Option<&SyncedFile>,
    ) -> Result<Presence, IoError> {
        let Some(version) = version else {
            return Ok(Presence::Absent);
        };
        let Some(last) = last else {
            return Ok(Presence::New);
        };
        let place = match version.seen.side {
            Side::Local => &last.local,
            Side::Remote => &last.remote,
        };
        if version.seen.stat == place.stat {
            return Ok(Presence::Unchanged);
        }
        if let Some((len, digest)) = last.contents {
            let path = self.full(&version.seen);
            // A length that differs is a change; only packed files have another length than theirs.
            let may_be =
                version.seen.stat.size == len || path.extension().is_some_and(|e| e == "zst");
            if may_be && contents::read(&path, None).at("read", &path)?.digest == digest {
                return Ok(Presence::Unchanged);
            }
        }
        Ok(Presence::Changed)
    }

    /// Sees to it that a version here which a killed run took from the cloud folder is not taken for
    /// one that somebody wrote here: only the cloud folder has gone on since. Returns it.
    pub(super) fn check_interrupted_download(
        &self,
        key: &str,
        facts: &mut FileFacts,
        local: Option<&FileVersion>,
    ) -> Result<Option<&ManifestEntry>, IoError> {
        let is_news = |presence| matches!(presence, Presence::New | Presence::Changed);
        let Some(local) = local.filter(|_| is_news(facts.local) && is_news(facts.remote)) else {
            return Ok(None);
        };
        let size = local.seen.stat.size;
        let taken = self.ledger()?.downloaded.get(&manifest::fold_name(key));
        let alike = taken.into_iter().flatten().filter(|t| t.size == size);
        if alike.clone().next().is_none() {
            return Ok(None);
        }
        let path = self.full(&local.seen);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        // The one taken last.
        let taken = alike.rev().find(|taken| taken.digest == digest);
        if taken.is_some() {
            (facts.local, facts.remote) = (Presence::Unchanged, Presence::Changed);
        }
        Ok(taken)
    }

    /// Deletions of a file that others ask for and nothing has overtaken.
    pub(super) fn open_deletions(
        &self,
        key: &str,
    ) -> Result<impl Iterator<Item = &Deletion>, IoError> {
        let asked = self.manifests()?.deletions(key);
        Ok(asked.filter(|deletion| !self.state.resolutions.contains(&deletion.id)))
    }

    /// To be called for what goes to the cloud folder where it is absent: whoever deleted it before
    /// did not mean this one, even if it is the same again.
    pub(super) fn cancel_pending_deletions(&mut self, key: &str) -> Result<(), IoError> {
        let asked = self.open_deletions(key)?;
        let ids: Vec<String> = asked.map(|deletion| deletion.id.clone()).collect();
        if !ids.is_empty() {
            self.plan.cancelled_deletions.insert(key.to_owned(), ids);
        }
        Ok(())
    }

    /// How two versions relate, by their text.
    pub(super) fn relation(
        &self,
        first: &ObservedFile,
        second: &ObservedFile,
    ) -> Result<Relation, IoError> {
        let (first, second) = (self.full(first), self.full(second));
        rollout::compare(&first, &second).map_err(|source| {
            // The one that cannot be read is the one to be named.
            let is_second = contents::read(&second, None).is_err();
            IoError {
                action: "read",
                path: if is_second { second } else { first },
                source,
            }
        })
    }

    /// Which of two versions is newer.
    pub(super) fn newer(&self, local: &FileVersion, remote: &FileVersion) -> NewerSide {
        let apart = i128::from(local.mtime_ns) - i128::from(remote.mtime_ns);
        if apart.abs() <= self.request.config.tolerance_nanos {
            NewerSide::Neither
        } else if apart > 0 {
            NewerSide::Local
        } else {
            NewerSide::Remote
        }
    }

    /// Whether size and time alone say that two versions which no sync has seen are the same.
    pub(super) fn stats_are_equal(&self, local: &FileVersion, remote: &FileVersion) -> bool {
        let same_size = local.seen.stat.size == remote.seen.stat.size;
        same_size && self.trusts_mtime() && self.newer(local, remote) == NewerSide::Neither
    }

    /// The digest of a version's text.
    pub(super) fn text_digest(&self, seen: &ObservedFile) -> Result<(u64, Sha256Digest), IoError> {
        let path = self.full(seen);
        let contents = contents::read(&path, None).at("read", &path)?;
        Ok((contents.len, contents.digest))
    }
}

/// Whether a file looks as it did after the last sync.
pub(super) fn is_as_last_synced(found: &ListedFile, place: &SideFile) -> bool {
    found.stat == place.stat && found.path == place.path
}

/// Whether the file is a version that somebody vouches for with whole lines behind it: appended to by
/// somebody who vouches for nothing, and not half of anything.
fn extends_attested_version<'a>(
    path: &Path,
    size: u64,
    known: impl Iterator<Item = &'a ManifestEntry>,
) -> Result<bool, IoError> {
    for version in known.filter(|version| version.size > 0 && version.size < size) {
        let mut file = file_open::open(path).at("open", path)?;
        let contents = contents::read_from(&mut file, Some(version.size)).at("read", path)?;
        if contents.prefix_digest == Some(version.digest) {
            return Ok(true);
        }
    }
    Ok(false)
}
