//! Groups the listings of both sides by key, before any decision. All forms of one conversation have one key; names
//! that a file system may treat as equal are joined or skipped.

use super::inputs::Planner;
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side, SideListing};
use crate::sync::state::{SideFile, SyncedFile};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

/// All files of one key. Conversations can have several on each side, other files at most one, except where names
/// differ only in Unicode form or letter case.
#[derive(Debug, Default)]
pub(super) struct FileGroup {
    pub(super) local: Vec<ListedFile>,
    pub(super) remote: Vec<ListedFile>,
    /// Copies in the cloud folder that a cloud client made of conflicting versions, under other names.
    pub(super) client_copies: Vec<ListedFile>,
    /// True if a file of the group is a placeholder whose content is not downloaded.
    pub(super) has_placeholder: bool,
    /// True if a link that is not followed is at or above the path on one side; the group is skipped.
    pub(super) is_blocked: bool,
}

impl FileGroup {
    /// Returns true if both sides are as the last sync left them, by path, size and time.
    pub(super) fn matches_last_sync(&self, last: &SyncedFile) -> bool {
        let same = |files: &[ListedFile], place: &SideFile| matches!(files, [one] if one.stat == place.stat && one.path == place.path);
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
    /// Groups the files of both sides by key. Temp files, notes and excluded entries of the listings go to the plan.
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
                // Nearly always the only file. The default growth to four would double the memory of a large plan.
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
            self.plan.notices.notes.extend(listing.notes);
            self.plan.notices.excluded.extend(listing.left_out);
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

    /// With `session_mode = "last_date_only"`, marks conversations of all other days with `companion`: they are synced
    /// only if a conversation of the latest day continues them. (The scan sets the same flag outside of the roots.)
    fn limit_to_last_date(&mut self, groups: &mut HashMap<String, FileGroup>) {
        if self.request.config.scope.session_mode == SessionMode::All {
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
                let why = "has no date folder, so all conversations are synced as with session_mode = \"all\"";
                self.plan
                    .notices
                    .warnings
                    .push(("sessions".into(), why.into()));
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

    /// Skips files such as `History.jsonl`, whose name differs from one of Codex's line-based files by letter case
    /// alone. Codex reads such a file only on a case-insensitive file system, where it takes the place of the real one.
    /// If the cloud folder has one, the real file is not copied there.
    fn drop_misspelled_line_files(&mut self, groups: &mut HashMap<String, FileGroup>) {
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
            let why = format!("differs from {real} by letter case alone; it is not synced");
            let has_no_remote_file =
                |group: &FileGroup| group.remote.is_empty() && group.client_copies.is_empty();
            if other.remote.is_empty() {
                self.plan.notices.excluded.push((key, why));
            } else if let Some(real_group) = groups
                .get_mut(&real)
                .filter(|group| has_no_remote_file(group))
            {
                // On a case-insensitive file system, a copy of the real file would replace the other one.
                real_group.is_blocked = true;
                self.plan.notices.skipped.push((
                    real,
                    format!(
                        "{key} is in its place in the cloud folder; rename or remove that file"
                    ),
                ));
            } else {
                self.plan.notices.notes.push((key, why));
            }
        }
    }

    /// Joins or skips files whose names differ only in letter case: a case-insensitive file system has one file for
    /// them.
    fn drop_case_clashes(&mut self, groups: &mut HashMap<String, FileGroup>) {
        self.drop_misspelled_line_files(groups);
        let mut folded: HashMap<String, Vec<String>> = HashMap::new();
        for key in groups.keys().filter(|key| !rollouts::is_key(key)) {
            let names = folded.entry(key.to_lowercase()).or_default();
            names.push(key.clone());
        }
        for keys in folded.into_values().filter(|keys| keys.len() > 1) {
            self.resolve_case_clash(groups, keys);
        }
    }

    /// Joins groups whose names differ only in letter case if each side has one spelling: that is one file. Skips them
    /// if a side has several.
    fn resolve_case_clash(&mut self, groups: &mut HashMap<String, FileGroup>, keys: Vec<String>) {
        let count_on = |side: fn(&FileGroup) -> &Vec<ListedFile>| {
            let has = |key: &&String| groups.get(*key).is_some_and(|g| !side(g).is_empty());
            keys.iter().filter(has).count()
        };
        if count_on(|g| &g.local) <= 1 && count_on(|g| &g.remote) <= 1 {
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
            let why = "differs from another name by letter case alone; rename one of them";
            self.plan.notices.skipped.push((key, why.into()));
        }
    }
}

/// Returns the key of a path in the state: for a conversation one key for all forms and folders, for other files the
/// path in Unicode NFC.
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

/// Returns the path of a group for output: that of the local file, else of the remote one.
pub(super) fn display_path(key: &str, group: &FileGroup) -> String {
    let found = group.local.first().or(group.remote.first());
    let path = found
        .or(group.client_copies.first())
        .map(|found| &found.path);
    path.map_or_else(|| key.to_owned(), Clone::clone)
}
