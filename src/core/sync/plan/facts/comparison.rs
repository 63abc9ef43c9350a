//! Compares the versions of a file: each side with the last sync, the two sides with each other, and both with the
//! records of all machines.

use super::compared_file::{ComparedFile, ConversationVersions};
use super::fact_reader::FactReader;
use crate::codex::rollout::{Relation, ZST};
use crate::io::{IoContext, IoError};
use crate::sync::config::{Compare, DecisionRules, DeletePolicy};
use crate::sync::conflict_copies;
use crate::sync::decide::{FileFacts, FormerVersion, Presence};
use crate::sync::file_kind::FileKind;
use crate::sync::file_version::{FileVersion, VersionRelation};
use crate::sync::rollouts;
use crate::sync::secrets::{self, FileSecret};
use crate::sync::sides::Side;
use crate::sync::state::SyncedFile;

impl<'a> FactReader<'a> {
    /// Compares the versions of the two sides, and reads all that the decision and the step need to know about them.
    pub(super) fn compare_versions(
        &self,
        key: &'a str,
        path: String,
        kind: FileKind,
        local: Option<FileVersion>,
        remote: Option<FileVersion>,
    ) -> Result<ComparedFile<'a>, IoError> {
        let last = self.records.last_synced(key);
        let deletions = self.records.pending_deletions(key);
        let cancelled_deletions = match remote {
            Some(_) => Vec::new(),
            // A step that creates the remote file cancels them.
            None => deletions.map(|deletion| deletion.id.clone()).collect(),
        };

        let mut file = ComparedFile {
            facts: FileFacts {
                kind,
                local: compare_with_last_sync(local.as_ref(), last)?,
                remote: compare_with_last_sync(remote.as_ref(), last)?,
                relation: None,
                is_rewritten: false,
                newer: None,
                former: FormerVersion::No,
                is_excluded: local.is_none() && self.is_excluded_locally(key),
                deletion_requested: false,
                is_continued: false,
                is_being_resolved: self.request.decides(&path),
            },
            rules: self.rules_for(&path, kind),
            remote_kind: self.config.remote,
            cancelled_deletions,
            is_backed_up: self.config.backup.before_overwrite,
            synced_text: last.and_then(|last| last.text),
            logins: Vec::new(),
            download_risk: None,
            merge: None,
            conversation: ConversationVersions::default(),
            notices: Vec::new(),
            key,
            path,
            last,
            local,
            remote,
        };

        self.compare_sides(&mut file)?;
        if kind == FileKind::Plain {
            self.correct_facts_by_known_versions(&mut file)?;
        }
        self.restrict_deletions_to_last_text(&mut file)?;
        self.add_content_facts(&mut file)?;
        Ok(file)
    }

    /// Returns the decision rules for one path. `sync resolve` overrides the policy for its path; line-based files are
    /// never deleted.
    fn rules_for(&self, path: &str, kind: FileKind) -> DecisionRules {
        let mut rules = self.rules;
        if let Some((resolved, policy)) = self.request.policy_override
            && resolved == path
        {
            rules.conflict = policy;
        }
        if kind == FileKind::Lines {
            rules.delete = DeletePolicy::Never;
        }
        rules
    }

    /// Returns the side with the later mtime; `None` within the configured tolerance.
    pub(super) fn newer_side(&self, local: &FileVersion, remote: &FileVersion) -> Option<Side> {
        let difference_ns = i128::from(local.mtime_ns) - i128::from(remote.mtime_ns);
        if difference_ns.abs() <= self.config.policy.tolerance_nanos {
            None
        } else if difference_ns > 0 {
            Some(Side::Local)
        } else {
            Some(Side::Remote)
        }
    }

    /// Adds the relation of the two sides to the facts. A local file from an interrupted download counts as unchanged.
    fn compare_sides(&self, file: &mut ComparedFile<'_>) -> Result<(), IoError> {
        if self.is_interrupted_download(file)? {
            (file.facts.local, file.facts.remote) = (Presence::Unchanged, Presence::Changed);
        }

        let (Some(local), Some(remote)) = (&file.local, &file.remote) else {
            return Ok(());
        };

        let facts = &mut file.facts;
        facts.newer = self.newer_side(local, remote);
        let is_unchanged = facts.is_unchanged();
        let is_line_file = facts.kind == FileKind::Lines;
        // Two machines can merge different lines into files of equal size and time, so these are always compared.
        if is_line_file || (!is_unchanged && self.must_compare(*facts, local, remote)) {
            let compared = self.read_relation(file.key, local, remote, facts.is_being_resolved)?;
            (facts.relation, facts.is_rewritten) = (Some(compared.relation), compared.is_rewritten);
        }

        if is_line_file && is_unchanged && facts.relation != Some(Relation::Equal) {
            (facts.local, facts.remote) = (Presence::Changed, Presence::Changed);
        }
        Ok(())
    }

    /// Compares the contents of both sides. A conversation that Codex rewrote counts as diverged if the user decides
    /// about it (`is_being_resolved`) or dropped the rewritten version. Otherwise the rewritten version would win, and
    /// Codex could not open rollouts that continue the old one.
    fn read_relation(
        &self,
        key: &str,
        local: &FileVersion,
        remote: &FileVersion,
        is_being_resolved: bool,
    ) -> Result<VersionRelation, IoError> {
        let compared = local.compare_to(remote)?;
        if compared.is_rewritten
            && let Some(side) = Side::of_extending(compared.relation)
            && (is_being_resolved || self.is_dropped(key, side.select(local, remote))?)
        {
            return Ok(VersionRelation {
                relation: Relation::Diverged,
                is_rewritten: false,
            });
        }
        Ok(compared)
    }

    /// Returns true if the user decided to drop this version of a conversation.
    fn is_dropped(&self, key: &str, version: &FileVersion) -> Result<bool, IoError> {
        let text = version.read_text_digest()?;
        let name = conflict_copies::format_file_name(key, &text.digest);
        Ok(self.records.may_drop(&name))
    }

    /// Returns true if an interrupted run downloaded the local file, and both sides look changed since the last sync.
    fn is_interrupted_download(&self, file: &ComparedFile<'_>) -> Result<bool, IoError> {
        let is_changed = |presence| matches!(presence, Presence::New | Presence::Changed);
        let have_both_changed = is_changed(file.facts.local) && is_changed(file.facts.remote);
        let Some(local) = file.local.as_ref().filter(|_| have_both_changed) else {
            return Ok(false);
        };

        let downloads = self.records.downloaded_versions(file.key)?;
        let size = local.observed.stat.size;
        if downloads.iter().all(|entry| entry.size != size) {
            return Ok(false);
        }
        let digest = local.read_raw_digest()?;
        Ok(downloads.iter().any(|entry| entry.digest == digest))
    }

    /// Returns true if the contents have to be compared. On the first sync of a plain file, `sync.compare` can let size
    /// and time decide instead.
    fn must_compare(&self, facts: FileFacts, local: &FileVersion, remote: &FileVersion) -> bool {
        let is_first_sync_of_plain_file =
            facts.kind == FileKind::Plain && facts.local == Presence::New;
        let same_size = local.observed.stat.size == remote.observed.stat.size;
        let stats_decide = match self.rules.compare {
            Compare::ThreeWay => false,
            Compare::Mtime => true,
            Compare::MtimeHashFallback => !same_size || facts.newer.is_some(),
        };
        !(is_first_sync_of_plain_file && stats_decide)
    }

    /// Corrects the facts about a plain file whose remote version changed. The remote file did not change if a killed
    /// run of this machine uploaded it. Otherwise the remote version may be older than the local one.
    fn correct_facts_by_known_versions(&self, file: &mut ComparedFile<'_>) -> Result<(), IoError> {
        use Presence::{Absent, Changed, Unchanged};
        let facts = file.facts;
        let (Some(local), Some(remote)) = (&file.local, &file.remote) else {
            return Ok(());
        };
        if matches!(facts.remote, Absent | Unchanged) || facts.relation == Some(Relation::Equal) {
            return Ok(());
        }

        let replaced_digests = self.records.state.replaced_digests(file.key);
        let own_versions = self.records.own_versions(file.key)?;
        // Reads the file only if there is a known version to compare it with.
        let digest = if replaced_digests.is_empty() && own_versions.is_empty() {
            None
        } else {
            Some(remote.read_raw_digest()?)
        };
        let was_replaced = digest.is_some_and(|digest| replaced_digests.contains(&digest));
        let last_digest = file.last.and_then(SyncedFile::text_digest);
        let is_of_last_sync = digest.is_some() && digest == last_digest;
        let is_own = own_versions.iter().any(|own| Some(own.digest) == digest);
        // This machine uploaded the version after the last sync, in a run that was killed before it recorded this.
        let is_unrecorded_upload = is_own && !was_replaced && !is_of_last_sync;
        if facts.local != Unchanged && is_unrecorded_upload {
            // After the upload, the user edited the local file.
            (file.facts.local, file.facts.remote) = (Changed, Unchanged);
        } else if file.last.is_some() {
            file.facts.former = self.find_former_version(local, remote, was_replaced)?;
        }
        Ok(())
    }

    /// Looks for evidence that the remote version is older than the local one. `was_replaced` is true if this machine
    /// once had the remote version and replaced it.
    fn find_former_version(
        &self,
        local: &FileVersion,
        remote: &FileVersion,
        was_replaced: bool,
    ) -> Result<FormerVersion, IoError> {
        if remote.attested_digest.is_some() {
            // The mtimes decide too: a user who returns to an old text writes it later. A truncated copy can be
            // attested by a machine that found it before any manifest had arrived.
            let is_older = remote.mtime_ns < local.mtime_ns
                && (was_replaced || remote.is_truncated_copy_of(local)?);
            return Ok(if is_older {
                FormerVersion::Older
            } else {
                FormerVersion::No
            });
        }

        let looks_older = || self.newer_side(local, remote) == Some(Side::Local);
        let has_other_machines = self.records.state.has_other_machines;
        Ok(match (was_replaced, has_other_machines) {
            (true, true) => FormerVersion::Older,
            // Without other machines, only the user or the cloud client can have brought the replaced version back.
            (true, false) => FormerVersion::Unlisted,
            // `--accept-unlisted` uses versions that no machine lists.
            (false, true) if self.request.accept_unlisted && looks_older() => {
                FormerVersion::Unlisted
            }
            (false, _) => FormerVersion::No,
        })
    }

    /// With `delete_policy = "propagate"`, lets a deletion apply only to exactly the text that was deleted. A file that
    /// was edited or created again since then stays.
    fn restrict_deletions_to_last_text(&self, file: &mut ComparedFile<'_>) -> Result<(), IoError> {
        if self.rules.delete != DeletePolicy::Propagate {
            return Ok(());
        }

        match (&file.local, &file.remote) {
            (None, Some(_)) if file.facts.is_excluded => {}
            (None, Some(remote)) if file.facts.remote == Presence::Unchanged => {
                let has_deleted_text = self.has_deleted_text(file.last, remote)?;
                if !has_deleted_text {
                    // A changed file is copied back instead of deleted.
                    file.facts.remote = Presence::Changed;
                }
            }
            (Some(local), None) if file.facts.local == Presence::Unchanged => {
                let mut deletions = self.records.pending_deletions(file.key).peekable();
                if deletions.peek().is_some() {
                    let text_digest = local.read_text_digest()?.digest.to_string();
                    file.facts.deletion_requested =
                        deletions.any(|deletion| deletion.digest == text_digest);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns true if `remote` is known to have the last synced text of a file that is missing in the home. Returns
    /// false if a restore may be the reason that the file is missing.
    fn has_deleted_text(
        &self,
        last: Option<&SyncedFile>,
        remote: &FileVersion,
    ) -> Result<bool, IoError> {
        // If the home was restored from an archive, the archive may never have contained the file.
        if self.records.state.restore_marker.is_some() {
            return Ok(false);
        }
        // If equality was inferred from mtimes only, the deleted content is unknown, so the remote file is kept.
        let Some(last_digest) = last.and_then(SyncedFile::text_digest) else {
            return Ok(false);
        };
        Ok(remote.read_text_digest()?.digest == last_digest)
    }

    /// Reads the facts that only the contents show: digests, the risk of a download, and secrets.
    fn add_content_facts(&self, file: &mut ComparedFile<'_>) -> Result<(), IoError> {
        let FileFacts { kind, relation, .. } = file.facts;
        let is_unchanged = file.facts.is_unchanged();
        if is_unchanged || relation == Some(Relation::Equal) {
            let needs_digest =
                !is_unchanged || (kind == FileKind::Rollout && file.synced_text.is_none());
            if needs_digest && let (Some(local), Some(_)) = (&file.local, &file.remote) {
                // The state gets the digest, so that a later run recognizes this text whatever its mtime is.
                file.synced_text = Some(local.read_text_digest()?);
            }
            return Ok(());
        }

        if let (Some(local), Some(remote)) = (&mut file.local, &mut file.remote) {
            if kind != FileKind::Rollout && file.facts.remote != Presence::Unchanged {
                let is_first_sync = file.last.is_none();
                file.download_risk =
                    self.folder
                        .find_download_risk(local, remote, kind, is_first_sync)?;
            }

            if kind == FileKind::Plain {
                // The state remembers the version that loses, because a cloud client may restore it.
                local.raw_digest = Some(local.read_raw_digest()?);
                remote.raw_digest = Some(remote.read_raw_digest()?);
            }
        }

        if kind == FileKind::Rollout
            && let Some(remote) = &mut file.remote
            && rollouts::is_of_other_conversation(&file.path, &remote.full_path)
        {
            remote.secret = Some(FileSecret::OtherConversation);
        }

        // Prompts and conversations are not searched: a quoted secret would keep them from the other machines.
        if kind == FileKind::Plain {
            // `--allow-secrets` applies to secrets in a text, not to a file that is a login or a key as a whole.
            let is_allowed = self.request.allow_secrets.contains(&file.path);
            let is_withheld =
                |secret: &FileSecret| !is_allowed || matches!(secret, FileSecret::Whole(_));
            for version in [&mut file.local, &mut file.remote].into_iter().flatten() {
                let path = &version.full_path;
                let secret = secrets::find_secret_in_file(path).at("read", path)?;
                version.secret = secret.filter(is_withheld);
            }
        }
        Ok(())
    }
}

/// Compares one side with the last sync: by size and time, and by content if these differ.
fn compare_with_last_sync(
    version: Option<&FileVersion>,
    last: Option<&SyncedFile>,
) -> Result<Presence, IoError> {
    let Some(version) = version else {
        return Ok(Presence::Absent);
    };
    let Some(last) = last else {
        return Ok(Presence::New);
    };

    let stat = version.observed.stat;
    if stat == last.file_on(version.observed.side).stat {
        return Ok(Presence::Unchanged);
    }

    if let Some(text) = last.text {
        // A file with another length has other contents, and is not read. The length of a compressed file says nothing
        // about its text.
        let may_be_equal = stat.size == text.len || version.observed.path.ends_with(ZST);
        if may_be_equal && version.read_text_digest()?.digest == text.digest {
            return Ok(Presence::Unchanged);
        }
    }
    Ok(Presence::Changed)
}
