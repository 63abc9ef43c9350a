//! How the two versions of a plain file came to be, and what is told of the one that goes over.

use super::Planner;
use super::versions::Version;
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
type Known = (History, Sha256Digest);

/// What is known of where the versions of a file come from.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The version that both sides had at the last sync, or that is known to have been here since.
    base: Option<Known>,
    /// The text in the cloud folder, where it is another one.
    text_there: Option<Sha256Digest>,
    /// What is said of that.
    said_there: Option<History>,
}

impl Planner<'_> {
    /// All versions of a file that somebody vouches for: the others, this machine, and its own word of
    /// an earlier day where a client has brought that back.
    pub(super) fn vouched<'a>(
        &'a self,
        key: &str,
    ) -> Result<impl Iterator<Item = &'a Written>, IoError> {
        let others = self.manifests()?.of_others(key);
        Ok(others.iter().chain(self.own_versions(key)?))
    }

    /// What is said of a text of a file.
    pub(super) fn said(&self, key: &str, text: &Sha256Digest) -> Result<Option<History>, IoError> {
        let said = History::said(text, self.vouched(key)?);
        Ok(match said {
            Some(said) => Some(said),
            None => History::said(text, self.own_there(key)),
        })
    }

    /// What this machine's manifest says in the cloud folder, which may be of an earlier day.
    fn own_there(&self, key: &str) -> &[Written] {
        let read = || peers::own_there(&self.own_manifest());
        let own = self.own_there.get_or_init(read);
        own.get(&manifest::folded(key)).map_or(&[], Vec::as_slice)
    }

    /// The digest of a file of the cloud folder that nobody vouches for and that is known all the same: it
    /// was there before, whole, and something else has taken its place, here or elsewhere. One that is empty
    /// tells nothing where no other machine is: that a client has emptied it is likelier.
    pub(super) fn known_of_old(
        &self,
        key: &str,
        found: &Found,
    ) -> Result<Option<Sha256Digest>, IoError> {
        if found.stat.size == 0 && !self.has_others()? {
            return Ok(None);
        }
        let noted = self.state.histories.get(key);
        let told = self.vouched(key)?.filter_map(|w| w.history.as_deref());
        let mut newer = noted.into_iter().chain(told).peekable();
        let mut of_old = self.own_there(key).iter();
        let is_alike = |written: &&Written| written.size == found.stat.size;
        if newer.peek().is_none() && !of_old.clone().any(|written| is_alike(&written)) {
            return Ok(None);
        }
        let path = self.full(&Version::there(found).seen);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let is_it = newer.any(|history| history.is_over(&digest))
            || of_old.any(|written| written.digest == digest);
        Ok(is_it.then_some(digest))
    }

    /// Whether other machines say what they put there.
    fn has_others(&self) -> Result<bool, IoError> {
        Ok(self.state.has_peers || self.manifests()?.machines > 0)
    }

    /// Finds out which of two versions of a plain file came of the other. `taken` is the version here where
    /// a killed run took that from the cloud folder.
    pub(super) fn trace(
        &self,
        key: &str,
        facts: &mut Facts,
        (here, there): (Option<&Version>, Option<&Version>),
        last: Option<&Last>,
        taken: Option<&Written>,
    ) -> Result<Trace, IoError> {
        use Presence::{Changed, New, Unchanged};
        let mut trace = Trace::default();
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
        let text_there = match there.digest {
            Some(digest) => digest,
            None if here.is_none() && trace.base.is_none() => return Ok(trace),
            None => self.raw_digest(there)?,
        };
        trace.text_there = Some(text_there);
        trace.said_there = self.said(key, &text_there)?;
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
            if text == text_there {
                return Ok(trace);
            }
            if let Some(own) = self.put_there_from_here(key, &trace, &text_there)? {
                (facts.here, facts.there) = (Changed, Unchanged);
                trace.base = Some((own, text_there));
                return Ok(trace);
            }
            let said = self.said(key, &text)?;
            if let Some(said) = said.filter(|said| trace.is_past_base(said)) {
                let of_it = match &trace.said_there {
                    Some(there) => descent((there, &text_there), (&said, &text)),
                    None if said.is_over(&text_there) => Descent::Older,
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
            facts.descent = match &trace.said_there {
                Some(said) => descent((said, &text_there), (base, text)),
                None if base.is_over(&text_there) && self.has_others()? => Descent::Older,
                // Something has taken its place elsewhere, or, where nobody else is, here.
                None if there.digest.is_some() => Descent::Doubtful,
                None if self.request.accept_unlisted
                    && facts.newer == Newer::Here
                    && self.has_others()? =>
                {
                    Descent::Doubtful
                }
                None => Descent::Unknown,
            };
        }
        if facts.descent == Descent::Apart && facts.here == Unchanged {
            facts.descent = self.half_and_whole(&trace, here, there)?;
        }
        Ok(trace)
    }

    /// Of two first versions the one that is half of the other is the older one: it was taken where nobody
    /// had said anything yet.
    fn half_and_whole(
        &self,
        trace: &Trace,
        here: &Version,
        there: &Version,
    ) -> Result<Descent, IoError> {
        let is_first = |known: Option<(&History, &Sha256Digest)>| {
            known.is_some_and(|(history, text)| history.is_first(text))
        };
        let base = trace.base.as_ref().map(|(history, text)| (history, text));
        let said = trace.said_there.as_ref().zip(trace.text_there.as_ref());
        Ok(if !is_first(base) || !is_first(said) {
            Descent::Apart
        } else if self.is_half_of(there, here)? {
            Descent::Newer
        } else if self.is_half_of(here, there)? {
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
        (here, there): (Option<&Version>, Option<&Version>),
        last: Option<&Last>,
    ) -> Result<Option<Known>, IoError> {
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
    fn put_there_from_here(
        &self,
        key: &str,
        trace: &Trace,
        text_there: &Sha256Digest,
    ) -> Result<Option<History>, IoError> {
        let Some(own) = History::said(text_there, self.own_versions(key)?) else {
            return Ok(None);
        };
        let writer = &self.state.writer;
        let is_unnoted = match &trace.base {
            Some((base, _)) => own.lineage.count(writer) > base.lineage.count(writer),
            None => own.is_first(text_there),
        };
        Ok(is_unnoted.then_some(own))
    }

    /// What came before the version that goes to the cloud folder.
    pub(super) fn history_to_cloud(
        &self,
        key: &str,
        facts: Facts,
        trace: &Trace,
        here: &Version,
    ) -> Result<Option<Box<History>>, IoError> {
        let before = self.state.histories.get(key);
        let is_new_there = facts.there == Presence::Absent;
        let is_alone = before.is_none() && trace.base.is_none() && trace.text_there.is_none();
        if is_alone && !(is_new_there && self.has_deleted(key)?) {
            return Ok(None);
        }
        let text = self.raw_digest(here)?;
        let is_as_it_was = facts.here == Presence::Unchanged;
        let said = if is_as_it_was {
            None
        } else {
            let said = self.said(key, &text)?;
            said.filter(|said| trace.is_past_base(said))
        };
        let is_told = is_as_it_was || said.is_some();
        let base = trace.base.as_ref().map(|(base, _)| base).or(before);
        let mut history = said.or_else(|| base.cloned()).unwrap_or_default();
        let there = trace.said_there.as_ref();
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
        history = history.noting(trace.text_there, &text);
        let mut is_revived = false;
        if is_new_there {
            (history, is_revived) = self.after_deleted(key, history, &text)?;
        }
        if !is_told || overcomes || is_revived {
            let writer = &self.state.writer;
            let counts = self
                .vouched(key)?
                .map(|w| w.history().lineage.count(writer));
            let known = counts.max().unwrap_or(0);
            history.lineage = history.lineage.changed_by(writer, known);
        }
        Ok(self.worth_telling(key, history, &text))
    }

    /// What came before the version that comes here. Where nobody vouches for what is known of old, this
    /// machine does.
    pub(super) fn history_to_here(
        &mut self,
        key: &str,
        trace: &Trace,
        is_absent: bool,
        there: &Version,
    ) -> Option<Box<History>> {
        let before = self.state.histories.get(key);
        let base = trace.base.as_ref();
        let Some(text) = trace.text_there else {
            return before.cloned().map(Box::new);
        };
        let history = match (&trace.said_there, base.map(|(base, _)| base).or(before)) {
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
        let history = self.worth_telling(key, history.noting(replaced, &text), &text);
        if trace.said_there.is_none() && there.digest.is_some() {
            let written = Written {
                size: there.seen.stat.size,
                mtime_ns: there.mtime_ns,
                digest: text,
                history: history.clone(),
            };
            self.plan.vouched.push((there.seen.path.clone(), written));
        }
        history
    }

    /// What came before a version that both sides have got since the last sync, and whether others
    /// have to be told.
    pub(super) fn history_of_both(
        &self,
        key: &str,
        facts: Facts,
        trace: &Trace,
        text: &Sha256Digest,
    ) -> Result<(Option<Box<History>>, bool), IoError> {
        use Presence::Unchanged;
        let before = self.state.histories.get(key);
        let same_text = trace.base.as_ref().is_some_and(|(_, base)| base == text);
        if same_text || facts.here == Unchanged || facts.there == Unchanged {
            return Ok((before.cloned().map(Box::new), false));
        }
        let said = self.said(key, text)?;
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
        let history = self.worth_telling(key, history.noting(replaced, text), text);
        Ok((history, is_news))
    }

    /// Nothing is told of a first version, unless another one was known before.
    fn worth_telling(
        &self,
        key: &str,
        history: History,
        text: &Sha256Digest,
    ) -> Option<Box<History>> {
        let is_told = !history.is_first(text) || self.state.histories.contains_key(key);
        is_told.then(|| Box::new(history))
    }

    fn raw_digest(&self, version: &Version) -> Result<Sha256Digest, IoError> {
        let path = self.full(&version.seen);
        contents::raw_digest(&path).at("read", &path)
    }
}

impl Trace {
    /// Whether a version has changes in it that the last sync did not see.
    fn is_past_base(&self, said: &History) -> bool {
        let base = self.base.as_ref();
        base.is_none_or(|(base, _)| said.lineage > base.lineage)
    }
}
