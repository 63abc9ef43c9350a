//! How the two versions of a plain file came to be, and what is told of the one that goes over.

use super::Planner;
use super::versions::FileVersion;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::decide::{FileFacts, FileKind, NewerSide, Presence};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::remote_manifests;
use crate::sync::scan::ListedFile;
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};

/// A version with the digest of its text.
type KnownVersion = (Ancestry, Sha256Digest);

/// What is known of where the versions of a file come from.
#[derive(Debug, Default)]
pub(super) struct AncestryFacts {
    /// The version that both sides had at the last sync, or that is known to have been here since.
    base: Option<KnownVersion>,
    /// The text in the cloud folder, where it is another one.
    remote_digest: Option<Sha256Digest>,
    /// What is said of that.
    remote_history: Option<Ancestry>,
}

impl Planner<'_> {
    /// All versions of a file that somebody vouches for: the others, this machine, and its own word of
    /// an earlier day where a client has brought that back.
    pub(super) fn attested_versions<'a>(
        &'a self,
        key: &str,
    ) -> Result<impl Iterator<Item = &'a ManifestEntry>, IoError> {
        let others = self.manifests()?.entries(key);
        Ok(others.iter().chain(self.ledger_versions(key)?))
    }

    /// What is said of a text of a file.
    pub(super) fn attested_history(
        &self,
        key: &str,
        text: &Sha256Digest,
    ) -> Result<Option<Ancestry>, IoError> {
        let said = Ancestry::from_entries(text, self.attested_versions(key)?);
        Ok(match said {
            Some(said) => Some(said),
            None => Ancestry::from_entries(text, self.own_published(key)),
        })
    }

    /// What this machine's manifest says in the cloud folder, which may be of an earlier day.
    fn own_published(&self, key: &str) -> &[ManifestEntry] {
        let read = || remote_manifests::read_own_entries(&self.own_manifest());
        let own = self.own_published.get_or_init(read);
        own.get(&manifest::fold_name(key))
            .map_or(&[], Vec::as_slice)
    }

    /// The digest of a file of the cloud folder that nobody vouches for and that is known all the same: it
    /// was there before, whole, and something else has taken its place, here or elsewhere. One that is empty
    /// tells nothing where no other machine is: that a client has emptied it is likelier.
    pub(super) fn superseded_digest(
        &self,
        key: &str,
        found: &ListedFile,
    ) -> Result<Option<Sha256Digest>, IoError> {
        if found.stat.size == 0 && !self.has_other_machines()? {
            return Ok(None);
        }
        let noted = self.state.histories.get(key);
        let told = self
            .attested_versions(key)?
            .filter_map(|w| w.history.as_deref());
        let mut newer = noted.into_iter().chain(told).peekable();
        let mut of_old = self.own_published(key).iter();
        let is_alike = |written: &&ManifestEntry| written.size == found.stat.size;
        if newer.peek().is_none() && !of_old.clone().any(|written| is_alike(&written)) {
            return Ok(None);
        }
        let path = self.full(&FileVersion::remote(found).seen);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let is_it = newer.any(|history| history.replaces(&digest))
            || of_old.any(|written| written.digest == digest);
        Ok(is_it.then_some(digest))
    }

    /// Whether other machines say what they put there.
    fn has_other_machines(&self) -> Result<bool, IoError> {
        Ok(self.state.has_other_machines || self.manifests()?.machines > 0)
    }

    /// Finds out which of two versions of a plain file came of the other. `taken` is the version here where
    /// a killed run took that from the cloud folder.
    pub(super) fn trace(
        &self,
        key: &str,
        facts: &mut FileFacts,
        (local, remote): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&SyncedFile>,
        taken: Option<&ManifestEntry>,
    ) -> Result<AncestryFacts, IoError> {
        use Presence::{Changed, New, Unchanged};
        let mut trace = AncestryFacts::default();
        if facts.kind != FileKind::Plain || (facts.local, facts.remote) == (Unchanged, Unchanged) {
            return Ok(trace);
        }
        trace.base = match taken {
            Some(taken) => Some((taken.history(), taken.digest)),
            None => self.base(key, *facts, (local, remote), last)?,
        };
        let Some(remote) = remote.filter(|_| matches!(facts.remote, Changed | New)) else {
            return Ok(trace);
        };
        let remote_digest = match remote.digest {
            Some(digest) => digest,
            None if local.is_none() && trace.base.is_none() => return Ok(trace),
            None => self.raw_digest(remote)?,
        };
        trace.remote_digest = Some(remote_digest);
        trace.remote_history = self.attested_history(key, &remote_digest)?;
        let Some(local) = local else {
            return Ok(trace);
        };
        if facts.relation == Some(crate::codex::rollout::Relation::Equal) {
            return Ok(trace);
        }
        // A damaged state may have known more of what is here than all that others say.
        let may_tell = trace.base.is_some() || !self.state.has_gaps;
        if may_tell && matches!(facts.local, Changed | New) {
            let text = self.raw_digest(local)?;
            if text == remote_digest {
                return Ok(trace);
            }
            if let Some(own) = self.history_of_killed_upload(key, &trace, &remote_digest)? {
                (facts.local, facts.remote) = (Changed, Unchanged);
                trace.base = Some((own, remote_digest));
                return Ok(trace);
            }
            let said = self.attested_history(key, &text)?;
            if let Some(said) = said.filter(|said| trace.is_newer_than_base(said)) {
                let of_it = match &trace.remote_history {
                    Some(remote) => causal_order((remote, &remote_digest), (&said, &text)),
                    None if said.replaces(&remote_digest) => CausalOrder::Older,
                    None => CausalOrder::Unknown,
                };
                if matches!(of_it, CausalOrder::Newer | CausalOrder::Older) {
                    facts.causal_order = of_it;
                    (facts.local, facts.remote) = (Unchanged, Changed);
                    trace.base = Some((said, text));
                    return Ok(trace);
                }
            }
        }
        if let Some((base, text)) = &trace.base {
            facts.causal_order = match &trace.remote_history {
                Some(said) => causal_order((said, &remote_digest), (base, text)),
                None if base.replaces(&remote_digest) && self.has_other_machines()? => {
                    CausalOrder::Older
                }
                // Something has taken its place elsewhere, or, where nobody else is, here.
                None if remote.digest.is_some() => CausalOrder::OlderUnattested,
                None if self.request.accept_unlisted
                    && facts.newer == NewerSide::Local
                    && self.has_other_machines()? =>
                {
                    CausalOrder::OlderUnattested
                }
                None => CausalOrder::Unknown,
            };
        }
        if facts.causal_order == CausalOrder::Concurrent && facts.local == Unchanged {
            facts.causal_order = self.order_by_prefix(&trace, local, remote)?;
        }
        Ok(trace)
    }

    /// Of two first versions the one that is half of the other is the older one: it was taken where nobody
    /// had said anything yet.
    fn order_by_prefix(
        &self,
        trace: &AncestryFacts,
        local: &FileVersion,
        remote: &FileVersion,
    ) -> Result<CausalOrder, IoError> {
        let is_first = |known: Option<(&Ancestry, &Sha256Digest)>| {
            known.is_some_and(|(history, text)| history.is_first(text))
        };
        let base = trace.base.as_ref().map(|(history, text)| (history, text));
        let said = trace
            .remote_history
            .as_ref()
            .zip(trace.remote_digest.as_ref());
        Ok(if !is_first(base) || !is_first(said) {
            CausalOrder::Concurrent
        } else if self.is_truncated_prefix(remote, local)? {
            CausalOrder::Newer
        } else if self.is_truncated_prefix(local, remote)? {
            CausalOrder::Older
        } else {
            CausalOrder::Concurrent
        })
    }

    /// The version that the last sync left.
    fn base(
        &self,
        key: &str,
        facts: FileFacts,
        (local, remote): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&SyncedFile>,
    ) -> Result<Option<KnownVersion>, IoError> {
        let Some(last) = last else {
            return Ok(None);
        };
        let as_it_was = local
            .filter(|_| facts.local == Presence::Unchanged)
            .or(remote.filter(|_| facts.remote == Presence::Unchanged));
        let text = match (last.contents, as_it_was) {
            (Some((_, digest)), _) => digest,
            (None, Some(version)) => self.raw_digest(version)?,
            (None, None) => return Ok(None),
        };
        let history = self.state.histories.get(key);
        let history = history.map_or_else(
            || Ancestry::first(&text),
            |history| history.with_explicit_vector(&text),
        );
        Ok(Some((history, text)))
    }

    /// What came before the version in the cloud folder, where a run that was killed put it there from
    /// here: what is here now came after it.
    fn history_of_killed_upload(
        &self,
        key: &str,
        trace: &AncestryFacts,
        remote_digest: &Sha256Digest,
    ) -> Result<Option<Ancestry>, IoError> {
        let Some(own) = Ancestry::from_entries(remote_digest, self.ledger_versions(key)?) else {
            return Ok(None);
        };
        let writer = &self.state.writer;
        let is_unnoted = match &trace.base {
            Some((base, _)) => own.vector.count(writer) > base.vector.count(writer),
            None => own.is_first(remote_digest),
        };
        Ok(is_unnoted.then_some(own))
    }

    /// What came before the version that goes to the cloud folder.
    pub(super) fn history_for_upload(
        &self,
        key: &str,
        facts: FileFacts,
        trace: &AncestryFacts,
        local: &FileVersion,
    ) -> Result<Option<Box<Ancestry>>, IoError> {
        let before = self.state.histories.get(key);
        let is_new_there = facts.remote == Presence::Absent;
        let is_alone = before.is_none() && trace.base.is_none() && trace.remote_digest.is_none();
        if is_alone && !(is_new_there && self.has_deleted_version(key)?) {
            return Ok(None);
        }
        let text = self.raw_digest(local)?;
        let is_as_it_was = facts.local == Presence::Unchanged;
        let said = if is_as_it_was {
            None
        } else {
            let said = self.attested_history(key, &text)?;
            said.filter(|said| trace.is_newer_than_base(said))
        };
        let is_told = is_as_it_was || said.is_some();
        let base = trace.base.as_ref().map(|(base, _)| base).or(before);
        let mut history = said.or_else(|| base.cloned()).unwrap_or_default();
        let remote = trace.remote_history.as_ref();
        // What is overcome is overcome by a decision that others have to learn of.
        let overcomes = remote.is_some_and(|remote| {
            facts.causal_order != CausalOrder::Older
                && !remote.vector.is_included_in(&history.vector)
        });
        if let Some(remote) = remote {
            history = history.merge(remote, &text);
        }
        if let Some((_, replaced)) = &trace.base {
            history = history.record_replaced(Some(*replaced), &text);
        }
        history = history.record_replaced(trace.remote_digest, &text);
        let mut is_revived = false;
        if is_new_there {
            (history, is_revived) = self.with_deleted_ancestors(key, history, &text)?;
        }
        if !is_told || overcomes || is_revived {
            let writer = &self.state.writer;
            let counts = self
                .attested_versions(key)?
                .map(|w| w.history().vector.count(writer));
            let known = counts.max().unwrap_or(0);
            history.vector = history.vector.increment(writer, known);
        }
        Ok(self.history_to_publish(key, history, &text))
    }

    /// What came before the version that comes here. Where nobody vouches for what is known of old, this
    /// machine does.
    pub(super) fn history_for_download(
        &mut self,
        key: &str,
        trace: &AncestryFacts,
        is_absent: bool,
        remote: &FileVersion,
    ) -> Option<Box<Ancestry>> {
        let before = self.state.histories.get(key);
        let base = trace.base.as_ref();
        let Some(text) = trace.remote_digest else {
            return before.cloned().map(Box::new);
        };
        let history = match (&trace.remote_history, base.map(|(base, _)| base).or(before)) {
            (Some(said), _) if is_absent => said.clone(),
            (Some(said), Some(base)) => said.clone().merge(base, &text),
            (Some(said), None) => said.clone(),
            (None, Some(base)) => {
                let mut history = base.clone();
                history.vector = history.vector.increment_unknown(&text);
                history
            }
            (None, None) => return None,
        };
        let replaced = base.map(|(_, text)| *text).filter(|_| !is_absent);
        let history = self.history_to_publish(key, history.record_replaced(replaced, &text), &text);
        if trace.remote_history.is_none() && remote.digest.is_some() {
            let written = ManifestEntry {
                size: remote.seen.stat.size,
                mtime_ns: remote.mtime_ns,
                digest: text,
                history: history.clone(),
            };
            self.plan.attested.push((remote.seen.path.clone(), written));
        }
        history
    }

    /// What came before a version that both sides have got since the last sync, and whether others
    /// have to be told.
    pub(super) fn history_for_equal(
        &self,
        key: &str,
        facts: FileFacts,
        trace: &AncestryFacts,
        text: &Sha256Digest,
    ) -> Result<(Option<Box<Ancestry>>, bool), IoError> {
        use Presence::Unchanged;
        let before = self.state.histories.get(key);
        let same_text = trace.base.as_ref().is_some_and(|(_, base)| base == text);
        if same_text || facts.local == Unchanged || facts.remote == Unchanged {
            return Ok((before.cloned().map(Box::new), false));
        }
        let said = self.attested_history(key, text)?;
        let base = trace.base.as_ref().map(|(base, _)| base).or(before);
        let (mut history, is_news) = match (said, base) {
            (Some(said), Some(base)) if said.vector.is_included_in(&base.vector) => {
                (base.clone(), true)
            }
            (Some(said), Some(base)) => (said.merge(base, text), false),
            (Some(said), None) => (said, false),
            (None, Some(base)) => (base.clone(), true),
            (None, None) => return Ok((None, false)),
        };
        if is_news {
            history.vector = history.vector.increment_unknown(text);
        }
        let replaced = trace.base.as_ref().map(|(_, text)| *text);
        let history = self.history_to_publish(key, history.record_replaced(replaced, text), text);
        Ok((history, is_news))
    }

    /// Nothing is told of a first version, unless another one was known before.
    fn history_to_publish(
        &self,
        key: &str,
        history: Ancestry,
        text: &Sha256Digest,
    ) -> Option<Box<Ancestry>> {
        let is_told = !history.is_first(text) || self.state.histories.contains_key(key);
        is_told.then(|| Box::new(history))
    }

    fn raw_digest(&self, version: &FileVersion) -> Result<Sha256Digest, IoError> {
        let path = self.full(&version.seen);
        contents::raw_digest(&path).at("read", &path)
    }
}

impl AncestryFacts {
    /// Whether a version has changes in it that the last sync did not see.
    fn is_newer_than_base(&self, said: &Ancestry) -> bool {
        let base = self.base.as_ref();
        base.is_none_or(|(base, _)| said.vector > base.vector)
    }
}
