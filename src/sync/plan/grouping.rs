//! Which files of both sides are one: groups by key, before anything is decided about them.

use super::Planner;
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side, SideListing};
use crate::sync::state::{SideFile, SyncedFile};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

/// All files of one key.
#[derive(Debug, Default)]
pub(super) struct FileGroup {
    pub(super) local: Vec<ListedFile>,
    pub(super) remote: Vec<ListedFile>,
    pub(super) client_copies: Vec<ListedFile>,
    /// Whether a file of it is not downloaded.
    pub(super) has_placeholder: bool,
    /// Whether a link is in its way on a side.
    pub(super) is_blocked: bool,
}

impl FileGroup {
    /// Whether both sides are as the last sync left them.
    pub(super) fn matches_last_sync(&self, last: &SyncedFile) -> bool {
        let same = |found: &[ListedFile], place: &SideFile| matches!(found, [one] if one.stat == place.stat && one.path == place.path);
        self.client_copies.is_empty()
            && !self.has_placeholder
            && same(&self.local, &last.local)
            && same(&self.remote, &last.remote)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &ListedFile> {
        self.local
            .iter()
            .chain(&self.remote)
            .chain(&self.client_copies)
    }
}

impl Planner<'_> {
    /// What both sides have, by key. What belongs to no file goes to the plan.
    pub(super) fn group_listings(
        &mut self,
        local: SideListing,
        remote: SideListing,
    ) -> HashMap<String, FileGroup> {
        let mut groups: HashMap<String, FileGroup> =
            HashMap::with_capacity(local.files.len().max(remote.files.len()));
        let (mut links, mut other_links) = (Vec::new(), Vec::new());
        for (side, listing) in [(Side::Local, local), (Side::Remote, remote)] {
            for found in listing.files {
                let group = groups.entry(key_of(&found.path)).or_default();
                let list = match side {
                    Side::Local => &mut group.local,
                    Side::Remote => &mut group.remote,
                };
                // Nearly always there is one: room for more would be half of all memory.
                list.reserve_exact(1);
                list.push(found);
            }
            for (real, found) in listing.client_copies {
                groups
                    .entry(key_of(&real))
                    .or_default()
                    .client_copies
                    .push(found);
            }
            for path in listing.placeholders {
                groups.entry(key_of(&path)).or_default().has_placeholder = true;
            }
            self.plan.leftover_temps.extend(listing.temp_files);
            self.plan.notes.extend(listing.notes);
            self.plan.excluded.extend(listing.left_out);
            links.extend(listing.links.into_iter().map(|link| (side, link)));
            other_links.extend(listing.unsynced_links.into_iter().map(|path| (side, path)));
        }
        links.extend(Self::blocking_links(other_links, &groups));
        if !links.is_empty() {
            self.check_links(links, &mut groups);
        }
        self.limit_to_last_date(&mut groups);
        self.drop_case_clashes(&mut groups);
        groups
    }

    /// `session_mode = "last_date_only"`: conversations of other days count as outside the roots.
    fn limit_to_last_date(&mut self, groups: &mut HashMap<String, FileGroup>) {
        if self.request.config.session_mode == SessionMode::All {
            return;
        }
        let dates = groups
            .values()
            .flat_map(FileGroup::files)
            .filter_map(|found| rollouts::date(&found.path));
        let Some(latest) = dates.max() else {
            let any = groups
                .values()
                .flat_map(FileGroup::files)
                .any(|found| found.path.starts_with("sessions/"));
            if any {
                let why = "has no folder of a date, so session_mode is all";
                self.plan.warnings.push(("sessions".into(), why.into()));
            }
            return;
        };
        self.latest_date = Some(latest.clone());
        for group in groups.values_mut() {
            let of_other_day = |found: &ListedFile| {
                found.path.starts_with("sessions/")
                    && rollouts::date(&found.path).as_deref() != Some(&*latest)
            };
            let is_of_latest =
                |found: &ListedFile| rollouts::date(&found.path).as_deref() == Some(&*latest);
            if group.files().any(of_other_day) && !group.files().any(is_of_latest) {
                let sides = group.local.iter_mut().chain(&mut group.remote);
                for found in sides.chain(&mut group.client_copies) {
                    found.companion = true;
                }
            }
        }
    }

    /// What is called as one of Codex's files of lines but for letter case is none: Codex reads it only on a
    /// disk that ignores case, where it stands in the place of that one. It is left alone, and what would be
    /// put beside it in the cloud folder stays here.
    fn drop_misspelled_lines(&mut self, groups: &mut HashMap<String, FileGroup>) {
        let of_codex = |key: &str| {
            let lower = key.to_lowercase();
            (lower != key && line_merge::is_mergeable(&lower)).then_some(lower)
        };
        let keys = groups
            .keys()
            .filter_map(|key| Some((key.clone(), of_codex(key)?)));
        for (key, real) in keys.collect::<Vec<_>>() {
            let Some(other) = groups.remove(&key) else {
                continue;
            };
            let why = format!("differs from {real} by letter case alone: it is left alone");
            let is_alone =
                |group: &FileGroup| group.remote.is_empty() && group.client_copies.is_empty();
            if other.remote.is_empty() {
                self.plan.excluded.push((key, why));
            } else if let Some(alone) = groups.get_mut(&real).filter(|group| is_alone(group)) {
                // Where case is ignored, it would take that one's place.
                alone.is_blocked = true;
                self.plan.skipped.push((
                    real,
                    format!("{key} is in its place in the cloud folder: rename or remove that"),
                ));
            } else {
                self.plan.notes.push((key, why));
            }
        }
    }

    /// Names that a disk which ignores letter case cannot hold both are left alone.
    fn drop_case_clashes(&mut self, groups: &mut HashMap<String, FileGroup>) {
        self.drop_misspelled_lines(groups);
        let mut folded: HashMap<String, Vec<String>> = HashMap::new();
        for key in groups.keys().filter(|key| !rollouts::is_key(key)) {
            let names = folded.entry(key.to_lowercase()).or_default();
            names.push(key.clone());
        }
        for keys in folded.into_values().filter(|keys| keys.len() > 1) {
            self.resolve_case_clash(groups, keys);
        }
    }

    fn resolve_case_clash(&mut self, groups: &mut HashMap<String, FileGroup>, keys: Vec<String>) {
        let on = |side: fn(&FileGroup) -> &Vec<ListedFile>| {
            let has = |key: &&String| groups.get(*key).is_some_and(|g| !side(g).is_empty());
            keys.iter().filter(has).count()
        };
        if on(|g| &g.local) <= 1 && on(|g| &g.remote) <= 1 {
            // One spelling on each side: one file, as it is for a disk that ignores case.
            let mut whole = FileGroup::default();
            for key in &keys {
                if let Some(part) = groups.remove(key) {
                    whole.local.extend(part.local);
                    whole.remote.extend(part.remote);
                    whole.client_copies.extend(part.client_copies);
                    whole.has_placeholder |= part.has_placeholder;
                    whole.is_blocked |= part.is_blocked;
                }
            }
            let key = keys.iter().find(|key| self.state.files.contains_key(*key));
            let key = key.or(keys.iter().min()).cloned().unwrap_or_default();
            groups.insert(key, whole);
            return;
        }
        for key in keys {
            groups.remove(&key);
            let why = "differs from another name by letter case alone";
            self.plan.skipped.push((key, why.into()));
        }
    }
}

/// The key of a path: one for all forms and places of a conversation, and for a name in both forms of
/// Unicode.
pub(super) fn key_of(path: &str) -> String {
    if let Some(key) = rollouts::key(path) {
        return key;
    }
    if path.is_ascii() {
        path.to_owned()
    } else {
        path.nfc().collect()
    }
}

/// The path that people know a file by.
pub(super) fn display_path(key: &str, group: &FileGroup) -> String {
    let found = group.local.first().or(group.remote.first());
    let path = found
        .or(group.client_copies.first())
        .map(|found| &found.path);
    path.map_or_else(|| key.to_owned(), Clone::clone)
}
