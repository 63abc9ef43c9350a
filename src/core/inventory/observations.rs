//! The history of each account's windows: `observations/<account>.json`, with at most [`MAX_SPANS`] spans.
//!
//! Separate from `cooldown.json`, which every shell prompt reads and which has to stay small.

use super::cooldown::LOCK_NAME;
use crate::archive::encode_label;
use crate::codex::{Identity, Window};
use crate::io::{Document, DocumentError, Timestamp, atomic, document, hash};
use crate::quota::window::SAME_WINDOW;
use crate::quota::{Observation, WindowHistory, reset_history};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The folder of the documents in the manager home.
pub const FOLDER: &str = "observations";

/// The number of spans kept for an account: two weeks at one observation an hour.
pub(crate) const MAX_SPANS: usize = 336;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ObservationsFile {
    /// The account; a file of another account is ignored.
    pub identity: Option<Identity>,
    /// The spans, oldest first.
    #[serde(default, rename = "looks")]
    pub spans: Vec<ObservationSpan>,
}

impl Document for ObservationsFile {}

/// An observation, and the time until which later observations had the same figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationSpan {
    /// The observation; its time is the start of the span.
    #[serde(flatten)]
    pub observation: Observation,
    /// The time at which the same figures were observed last.
    pub until: Timestamp,
}

impl ObservationsFile {
    /// Returns the course of each window over time.
    pub fn build_window_histories(&self) -> Vec<WindowHistory> {
        let spans = self.spans.iter();
        reset_history::build_window_histories(spans.map(|span| (&span.observation, span.until)))
    }

    /// Adds a span. If its predecessor has the same figures, the predecessor is extended instead; a span with other
    /// figures that begins within its predecessor is ignored. Beyond [`MAX_SPANS`] the oldest are removed.
    pub(crate) fn add_span(&mut self, span: ObservationSpan) {
        let position = self
            .spans
            .partition_point(|other| other.observation.observed_at <= span.observation.observed_at);

        if let Some(predecessor) = position.checked_sub(1).map(|i| &mut self.spans[i]) {
            if has_same_figures(&predecessor.observation, &span.observation) {
                predecessor.until = predecessor.until.max(span.until);
                return;
            }
            if span.observation.observed_at <= predecessor.until {
                return;
            }
        }

        self.spans.insert(position, span);
        let surplus = self.spans.len().saturating_sub(MAX_SPANS);
        self.spans.drain(..surplus);
    }
}

/// Returns true if two observations have the same source and figures, and the same resets up to the server's
/// jitter. Does not compare banked resets.
fn has_same_figures(a: &Observation, b: &Observation) -> bool {
    let is_same_reset = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= SAME_WINDOW,
        (None, None) => true,
        _ => false,
    };

    let is_equal_window = |a: &Window, b: &Window| {
        is_same_reset(a.resets_at, b.resets_at)
            && a.limit_id == b.limit_id
            && a.minutes == b.minutes
            && (a.used_percent - b.used_percent).abs() < f64::EPSILON
    };

    let cap_reset = |observation: &Observation| observation.spend_cap.and_then(|c| c.resets_at);
    let mut window_pairs = a.windows.iter().zip(&b.windows);

    a.source == b.source
        && a.usage_allowed == b.usage_allowed
        && a.spend_cap.map(|cap| cap.kind) == b.spend_cap.map(|cap| cap.kind)
        && is_same_reset(cap_reset(a), cap_reset(b))
        && a.windows.len() == b.windows.len()
        && window_pairs.all(|(a, b)| is_equal_window(a, b))
}

/// The number of hex digits in the name of a file, which distinguish accounts with the same email.
const ID_HASH_DIGITS: usize = 8;

/// Returns true if `name` has the extension and only the characters of a [`file_name`].
pub(crate) fn is_file_name(name: &str) -> bool {
    name.strip_suffix(".json")
        .is_some_and(|stem| !stem.is_empty() && encode_label(stem) == stem)
}

/// Returns the name of an account's file: `<email>-<8 hex digits of the hash of its ids>.json`.
pub fn file_name(identity: &Identity) -> String {
    let email = encode_label(&identity.email.key());
    let id_hash = &hash::sha256(identity.join_ids().as_bytes())[..ID_HASH_DIGITS];
    format!("{email}-{id_hash}.json")
}

pub(crate) fn file_path_of(manager_home: &Path, identity: &Identity) -> PathBuf {
    manager_home.join(FOLDER).join(file_name(identity))
}

/// Reads the observations of an account. A missing, damaged or unreadable file, or a file of another account, counts as
/// empty. Takes no lock.
///
/// # Errors
/// A newer version wrote the file.
pub fn load_observations(
    manager_home: &Path,
    identity: &Identity,
) -> Result<ObservationsFile, DocumentError> {
    let path = file_path_of(manager_home, identity);
    let state = document::read_or_damaged::<ObservationsFile>(&path)?;
    let is_of_account = |file: &ObservationsFile| {
        let account = file.identity.as_ref();
        account.is_some_and(|account| account.is_same(identity))
    };
    Ok(state.good().filter(is_of_account).unwrap_or_default())
}

/// Adds spans to an account's file, durable on return. Moves a damaged file aside and begins a new one.
///
/// # Errors
/// A newer version wrote the file, or it cannot be read or written.
pub(crate) fn add_spans(
    manager_home: &Path,
    identity: &Identity,
    spans: impl IntoIterator<Item = ObservationSpan>,
) -> Result<(), DocumentError> {
    let path = file_path_of(manager_home, identity);
    atomic::create_private_folder(atomic::parent_of(&path))?;
    let lock = manager_home.join(LOCK_NAME);
    document::update(&path, &lock, |file: &mut ObservationsFile| {
        file.identity.get_or_insert_with(|| identity.clone());
        spans.into_iter().for_each(|span| file.add_span(span));
    })
    .map(drop)
}
