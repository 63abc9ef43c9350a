//! How the two versions of a plain file came to be, and what is told of the one that goes over.

use super::Planner;
use super::versions::FileVersion;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::decide::{Facts, FileKind, Newer, Presence};
use crate::sync::lineage::{Descent, History, descent};
use crate::sync::manifest::{self, Written};
use crate::sync::peers;
use crate::sync::scan::Found;
use crate::sync::state::Last;

/// A version with the digest of its text.
type KnownVersion = (History, Sha256Digest);

/// What is known of where the versions of a file come from.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    /// The version that both sides had at the last sync, or that is known to have been here since.
    base: Option<KnownVersion>,
    /// The text in the cloud folder, where it is another one.
    remote_digest: Option<Sha256Digest>,
    /// What is said of that.
    remote_history: Option<History>,
}

impl Planner<'_> {
    /// All versions of a file that somebody vouches for: the others, this machine, and its own word of
    /// an earlier day where a client has brought that back.
    pub(super) fn attested_versions<'a>(
        &'a self,
        key: &str,
    ) -> Result<impl Iterator<Item = &'a Written>, IoError> {
        let others = self.manifests()?.of_others(key);
        Ok(others.iter().chain(self.ledger_versions(key)?))
    }

    /// What is said of a text of a file.
    pub(super) fn attested_history(
        &self,
        key: &str,
        text: &Sha256Digest,
    ) -> Result<Option<History>, IoError> {
        let said = History::said(text, self.attested_versions(key)?);
        Ok(match said {
            Some(said) => Some(said),
            None => History::said(text, self.own_published(key)),
        })
    }

    /// What this machine's manifest says in the cloud folder, which may be of an earlier day.
    fn own_published(&self, key: &str) -> &[Written] {
        let read = || peers::own_there(&self.own_manifest());
        let own = self.own_published.get_or_init(read);
        own.get(&manifest::folded(key)).map_or(&[], Vec::as_slice)
    }

    /// The digest of a file of the cloud folder that nobody vouches for and that is known all the same: it
    /// was there before, whole, and something else has taken its place, here or elsewhere. One that is empty
    /// tells nothing where no other machine is: that a client has emptied it is likelier.
    pub(super) fn superseded_digest(
        &self,
        key: &str,
        found: &Found,
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
        let is_alike = |written: &&Written| written.size == found.stat.size;
        if newer.peek().is_none() && !of_old.clone().any(|written| is_alike(&written)) {
            return Ok(None);
        }
        let path = self.full(&FileVersion::there(found).seen);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let is_it = newer.any(|history| history.is_over(&digest))
            || of_old.any(|written| written.digest == digest);
        Ok(is_it.then_some(digest))
    }

    /// Whether other machines say what they put there.
    fn has_other_machines(&self) -> Result<bool, IoError> {
        Ok(self.state.has_peers || self.manifests()?.machines > 0)
    }

    /// Finds out which of two versions of a plain file came of the other. `taken` is the version here where
    /// a killed run took that from the cloud folder.
    pub(super) fn trace(
        &self,
        key: &str,
        facts: &mut Facts,
        (here, there): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&Last>,
        taken: Option<&Written>,
    ) -> Result<Ancestry, IoError> {
        use Presence::{Changed, New, Unchanged};
        let mut trace = Ancestry::default();
        if facts.kind != FileKind::Plain || (facts.here, facts.there) == (Unchanged, Unchanged) {
            return Ok(trace);
        }
        trace.base = match taken {
            Some(taken) => Some((taken.history(), taken.digest)),
            None => self.base(key, *facts, (here, there), last)?,
        };
        let Some(there) = there.filter(|_| matches!(facts.there, Changed | New)) else {
            return Ok(trace);
        };
        let remote_digest = match there.digest {
            Some(digest) => digest,
            None if here.is_none() && trace.base.is_none() => return Ok(trace),
            None => self.raw_digest(there)?,
        };
        trace.remote_digest = Some(remote_digest);
        trace.remote_history = self.attested_history(key, &remote_digest)?;
        let Some(here) = here else {
            return Ok(trace);
        };
        if facts.relation == Some(crate::codex::rollout::Relation::Equal) {
            return Ok(trace);
        }
        // A damaged state may have known more of what is here than all that others say.
        let may_tell = trace.base.is_some() || !self.state.has_gaps;
        if may_tell && matches!(facts.here, Changed | New) {
            let text = self.raw_digest(here)?;
            if text == remote_digest {
                return Ok(trace);
            }
            if let Some(own) = self.history_of_killed_upload(key, &trace, &remote_digest)? {
                (facts.here, facts.there) = (Changed, Unchanged);
                trace.base = Some((own, remote_digest));
                return Ok(trace);
            }
            let said = self.attested_history(key, &text)?;
            if let Some(said) = said.filter(|said| trace.is_newer_than_base(said)) {
                let of_it = match &trace.remote_history {
                    Some(there) => descent((there, &remote_digest), (&said, &text)),
                    None if said.is_over(&remote_digest) => Descent::Older,
                    None => Descent::Unknown,
                };
                if matches!(of_it, Descent::Newer | Descent::Older) {
                    facts.descent = of_it;
                    (facts.here, facts.there) = (Unchanged, Changed);
                    trace.base = Some((said, text));
                    return Ok(trace);
                }
            }
        }
        if let Some((base, text)) = &trace.base {
            facts.descent = match &trace.remote_history {
                Some(said) => descent((said, &remote_digest), (base, text)),
                None if base.is_over(&remote_digest) && self.has_other_machines()? => {
                    Descent::Older
                }
                // Something has taken its place elsewhere, or, where nobody else is, here.
                None if there.digest.is_some() => Descent::Doubtful,
                None if self.request.accept_unlisted
                    && facts.newer == Newer::Here
                    && self.has_other_machines()? =>
                {
                    Descent::Doubtful
                }
                None => Descent::Unknown,
            };
        }
        if facts.descent == Descent::Apart && facts.here == Unchanged {
            facts.descent = self.order_by_prefix(&trace, here, there)?;
        }
        Ok(trace)
    }

    /// Of two first versions the one that is half of the other is the older one: it was taken where nobody
    /// had said anything yet.
    fn order_by_prefix(
        &self,
        trace: &Ancestry,
        here: &FileVersion,
        there: &FileVersion,
    ) -> Result<Descent, IoError> {
        let is_first = |known: Option<(&History, &Sha256Digest)>| {
            known.is_some_and(|(history, text)| history.is_first(text))
        };
        let base = trace.base.as_ref().map(|(history, text)| (history, text));
        let said = trace
            .remote_history
            .as_ref()
            .zip(trace.remote_digest.as_ref());
        Ok(if !is_first(base) || !is_first(said) {
            Descent::Apart
        } else if self.is_truncated_prefix(there, here)? {
            Descent::Newer
        } else if self.is_truncated_prefix(here, there)? {
            Descent::Older
        } else {
            Descent::Apart
        })
    }

    /// The version that the last sync left.
    fn base(
        &self,
        key: &str,
        facts: Facts,
        (here, there): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&Last>,
    ) -> Result<Option<KnownVersion>, IoError> {
        let Some(last) = last else {
            return Ok(None);
        };
        let as_it_was = here
            .filter(|_| facts.here == Presence::Unchanged)
            .or(there.filter(|_| facts.there == Presence::Unchanged));
        let text = match (last.contents, as_it_was) {
            (Some((_, digest)), _) => digest,
            (None, Some(version)) => self.raw_digest(version)?,
            (None, None) => return Ok(None),
        };
        let history = self.state.histories.get(key);
        let history = history.map_or_else(|| History::first(&text), |history| history.of(&text));
        Ok(Some((history, text)))
    }

    /// What came before the version in the cloud folder, where a run that was killed put it there from
    /// here: what is here now came after it.
    fn history_of_killed_upload(
        &self,
        key: &str,
        trace: &Ancestry,
        remote_digest: &Sha256Digest,
    ) -> Result<Option<History>, IoError> {
        let Some(own) = History::said(remote_digest, self.ledger_versions(key)?) else {
            return Ok(None);
        };
        let writer = &self.state.writer;
        let is_unnoted = match &trace.base {
            Some((base, _)) => own.lineage.count(writer) > base.lineage.count(writer),
            None => own.is_first(remote_digest),
        };
        Ok(is_unnoted.then_some(own))
    }

    /// What came before the version that goes to the cloud folder.
    pub(super) fn history_for_upload(
        &self,
        key: &str,
        facts: Facts,
        trace: &Ancestry,
        here: &FileVersion,
    ) -> Result<Option<Box<History>>, IoError> {
        let before = self.state.histories.get(key);
        let is_new_there = facts.there == Presence::Absent;
        let is_alone = before.is_none() && trace.base.is_none() && trace.remote_digest.is_none();
        if is_alone && !(is_new_there && self.has_deleted_version(key)?) {
            return Ok(None);
        }
        let text = self.raw_digest(here)?;
        let is_as_it_was = facts.here == Presence::Unchanged;
        let said = if is_as_it_was {
            None
        } else {
            let said = self.attested_history(key, &text)?;
            said.filter(|said| trace.is_newer_than_base(said))
        };
        let is_told = is_as_it_was || said.is_some();
        let base = trace.base.as_ref().map(|(base, _)| base).or(before);
        let mut history = said.or_else(|| base.cloned()).unwrap_or_default();
        let there = trace.remote_history.as_ref();
        // What is overcome is overcome by a decision that others have to learn of.
        let overcomes = there.is_some_and(|there| {
            facts.descent != Descent::Older && !there.lineage.is_in(&history.lineage)
        });
        if let Some(there) = there {
            history = history.with(there, &text);
        }
        if let Some((_, replaced)) = &trace.base {
            history = history.noting(Some(*replaced), &text);
        }
        history = history.noting(trace.remote_digest, &text);
        let mut is_revived = false;
        if is_new_there {
            (history, is_revived) = self.with_deleted_ancestors(key, history, &text)?;
        }
        if !is_told || overcomes || is_revived {
            let writer = &self.state.writer;
            let counts = self
                .attested_versions(key)?
                .map(|w| w.history().lineage.count(writer));
            let known = counts.max().unwrap_or(0);
            history.lineage = history.lineage.changed_by(writer, known);
        }
        Ok(self.history_to_publish(key, history, &text))
    }

    /// What came before the version that comes here. Where nobody vouches for what is known of old, this
    /// machine does.
    pub(super) fn history_for_download(
        &mut self,
        key: &str,
        trace: &Ancestry,
        is_absent: bool,
        there: &FileVersion,
    ) -> Option<Box<History>> {
        let before = self.state.histories.get(key);
        let base = trace.base.as_ref();
        let Some(text) = trace.remote_digest else {
            return before.cloned().map(Box::new);
        };
        let history = match (&trace.remote_history, base.map(|(base, _)| base).or(before)) {
            (Some(said), _) if is_absent => said.clone(),
            (Some(said), Some(base)) => said.clone().with(base, &text),
            (Some(said), None) => said.clone(),
            (None, Some(base)) => {
                let mut history = base.clone();
                history.lineage = history.lineage.replaced_by(&text);
                history
            }
            (None, None) => return None,
        };
        let replaced = base.map(|(_, text)| *text).filter(|_| !is_absent);
        let history = self.history_to_publish(key, history.noting(replaced, &text), &text);
        if trace.remote_history.is_none() && there.digest.is_some() {
            let written = Written {
                size: there.seen.stat.size,
                mtime_ns: there.mtime_ns,
                digest: text,
                history: history.clone(),
            };
            self.plan.attested.push((there.seen.path.clone(), written));
        }
        history
    }

    /// What came before a version that both sides have got since the last sync, and whether others
    /// have to be told.
    pub(super) fn history_for_equal(
        &self,
        key: &str,
        facts: Facts,
        trace: &Ancestry,
        text: &Sha256Digest,
    ) -> Result<(Option<Box<History>>, bool), IoError> {
        use Presence::Unchanged;
        let before = self.state.histories.get(key);
        let same_text = trace.base.as_ref().is_some_and(|(_, base)| base == text);
        if same_text || facts.here == Unchanged || facts.there == Unchanged {
            return Ok((before.cloned().map(Box::new), false));
        }
        let said = self.attested_history(key, text)?;
        let base = trace.base.as_ref().map(|(base, _)| base).or(before);
        let (mut history, is_news) = match (said, base) {
            (Some(said), Some(base)) if said.lineage.is_in(&base.lineage) => (base.clone(), true),
            (Some(said), Some(base)) => (said.with(base, text), false),
            (Some(said), None) => (said, false),
            (None, Some(base)) => (base.clone(), true),
            (None, None) => return Ok((None, false)),
        };
        if is_news {
            history.lineage = history.lineage.replaced_by(text);
        }
        let replaced = trace.base.as_ref().map(|(_, text)| *text);
        let history = self.history_to_publish(key, history.noting(replaced, text), text);
        Ok((history, is_news))
    }

    /// Nothing is told of a first version, unless another one was known before.
    fn history_to_publish(
        &self,
        key: &str,
        history: History,
        text: &Sha256Digest,
    ) -> Option<Box<History>> {
        let is_told = !history.is_first(text) || self.state.histories.contains_key(key);
        is_told.then(|| Box::new(history))
    }

    fn raw_digest(&self, version: &FileVersion) -> Result<Sha256Digest, IoError> {
        let path = self.full(&version.seen);
        contents::raw_digest(&path).at("read", &path)
    }
}

impl Ancestry {
    /// Whether a version has changes in it that the last sync did not see.
    fn is_newer_than_base(&self, said: &History) -> bool {
        let base = self.base.as_ref();
        base.is_none_or(|(base, _)| said.lineage > base.lineage)
    }
}
