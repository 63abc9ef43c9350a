//! What was seen of each account's windows over time: `observations/<account>.json`, bounded.
//!
//! Apart from `cooldown.json`, which is read for every prompt and has to stay small.

use super::cooldown::LOCK_NAME;
use crate::archive::names::safe_label;
use crate::codex::identity::Identity;
use crate::codex::window::Window;
use crate::io::atomic;
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document, DocumentError, DocumentState};
use crate::io::hash;
use crate::quota::drift::{self, Course};
use crate::quota::window::{Observation, SAME_WINDOW};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The folder in the manager home.
pub const FOLDER: &str = "observations";

/// How many looks of one account are kept: at one an hour, two weeks.
pub const MAX_SPANS: usize = 336;

/// What was seen of one account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ObservationsFile {
    /// Whose.
    pub identity: Option<Identity>,
    /// The looks, the oldest first.
    #[serde(default)]
    pub looks: Vec<ObservationSpan>,
}

impl Document for ObservationsFile {
    const SCHEMA: u64 = 1;
}

/// Figures, and how long they were the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationSpan {
    /// What was seen, first at the time that it carries.
    #[serde(flatten)]
    pub seen: Observation,
    /// When the same was seen last.
    pub until: Timestamp,
}

impl ObservationsFile {
    /// What became of each window.
    pub fn courses(&self) -> Vec<Course> {
        drift::courses(self.looks.iter().map(|look| (&look.seen, look.until)))
    }

    /// Adds a look. One that shows the same as its neighbour only makes that last longer. The oldest
    /// go when there are too many.
    pub fn add(&mut self, look: ObservationSpan) {
        let at = self
            .looks
            .partition_point(|known| known.seen.observed_at <= look.seen.observed_at);
        if let Some(before) = at.checked_sub(1).map(|i| &mut self.looks[i])
            && (look.seen.observed_at <= before.until || is_same(&before.seen, &look.seen))
        {
            // A look in the middle of a known one says nothing new.
            if is_same(&before.seen, &look.seen) {
                before.until = before.until.max(look.until);
            }
            return;
        }
        self.looks.insert(at, look);
        let surplus = self.looks.len().saturating_sub(MAX_SPANS);
        self.looks.drain(..surplus);
    }
}

/// Whether two looks show the same: figures, and resets but for the server's jitter.
fn is_same(a: &Observation, b: &Observation) -> bool {
    let is_same_reset = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= SAME_WINDOW,
        (None, None) => true,
        _ => false,
    };
    let alike = |a: &Window, b: &Window| {
        is_same_reset(a.resets_at, b.resets_at)
            && a.limit_id == b.limit_id
            && a.minutes == b.minutes
            && (a.used_percent - b.used_percent).abs() < f64::EPSILON
    };
    a.source == b.source
        && a.usage_allowed == b.usage_allowed
        && a.spend_cap.map(|cap| cap.kind) == b.spend_cap.map(|cap| cap.kind)
        && is_same_reset(
            a.spend_cap.and_then(|cap| cap.resets_at),
            b.spend_cap.and_then(|cap| cap.resets_at),
        )
        && a.windows.len() == b.windows.len()
        && a.windows.iter().zip(&b.windows).all(|(a, b)| alike(a, b))
}

/// Whether `name` has the form of [`file_name`].
pub fn is_file_name(name: &str) -> bool {
    name.strip_suffix(".json")
        .is_some_and(|stem| !stem.is_empty() && safe_label(stem) == stem)
}

/// The name of an account's file: its email, and what tells accounts of one email apart.
pub fn file_name(identity: &Identity) -> String {
    let ids = format!(
        "{}\n{}",
        identity.account_id.as_deref().unwrap_or_default(),
        identity.user_id.as_deref().unwrap_or_default()
    );
    let email = safe_label(&identity.email.key());
    format!("{email}-{}.json", &hash::sha256(ids.as_bytes())[..8])
}

/// Where the looks at an account are kept.
pub fn path_of(manager_home: &Path, identity: &Identity) -> PathBuf {
    manager_home.join(FOLDER).join(file_name(identity))
}

/// The looks at an account; none where there are none or they are damaged. Takes no lock.
///
/// # Errors
/// A newer version wrote them, or the file system refuses.
pub fn load(manager_home: &Path, identity: &Identity) -> Result<ObservationsFile, DocumentError> {
    let found = document::read::<ObservationsFile>(&path_of(manager_home, identity))?;
    let file = found.good().unwrap_or_default();
    let is_own = |other: &Identity| other.is_same(identity);
    Ok(if file.identity.as_ref().is_some_and(is_own) {
        file
    } else {
        ObservationsFile::default()
    })
}

/// Adds looks at an account; returns how many of them were new. A damaged file is moved aside.
///
/// # Errors
/// A newer version wrote the file, or the file system refuses.
pub fn add(
    manager_home: &Path,
    identity: &Identity,
    looks: impl IntoIterator<Item = ObservationSpan>,
) -> Result<usize, DocumentError> {
    let path = path_of(manager_home, identity);
    atomic::create_private_folder(atomic::parent_of(&path))?;
    let fresh = |_: &DocumentState<ObservationsFile>| ObservationsFile::default();
    let updated = document::update(&path, &manager_home.join(LOCK_NAME), fresh, |file| {
        file.identity.get_or_insert_with(|| identity.clone());
        let before = file.looks.len();
        looks.into_iter().for_each(|look| file.add(look));
        file.looks.len().saturating_sub(before)
    })?;
    Ok(updated.value)
}

/// Notes one look.
///
/// # Errors
/// Those of [`add`].
pub fn note(
    manager_home: &Path,
    identity: &Identity,
    seen: &Observation,
) -> Result<(), DocumentError> {
    if seen.windows.is_empty() {
        return Ok(());
    }
    let look = ObservationSpan {
        seen: seen.clone(),
        until: seen.observed_at,
    };
    add(manager_home, identity, [look]).map(|_| ())
}
