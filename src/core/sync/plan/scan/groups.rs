//! Groups the listings of both sides by key, before any decision. All forms of one conversation have one key. Names
//! which a file system may treat as equal are joined or skipped.

use crate::codex::kind_of;
use crate::sync::config::{SessionMode, SyncConfig};
use crate::sync::file_group::{FileGroup, state_key};
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::scan::{FORBIDDEN, ListedFile, SideListing, UnfollowedLink};
use crate::sync::sides::Side;
use crate::sync::state::SyncState;
use crate::sync::{line_merge, rollouts};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(crate) struct Groups {
    pub(crate) by_key: HashMap<String, FileGroup>,
    /// With `session_mode = "last_date_only"`, the date that is synced.
    pub(crate) latest_date: Option<String>,
    pub(crate) notices: Vec<Notice>,
    /// Temp files that killed runs left.
    pub(crate) leftover_temps: Vec<PathBuf>,
}

pub(crate) fn group_files(
    config: &SyncConfig,
    state: &SyncState,
    local: SideListing,
    remote: SideListing,
) -> Groups {
    let mut groups: HashMap<String, FileGroup> =
        HashMap::with_capacity(local.files.len().max(remote.files.len()));
    let mut links = Vec::new();
    let (mut notices, mut leftover_temps) = (Vec::new(), Vec::new());

    for (side, listing) in [(Side::Local, local), (Side::Remote, remote)] {
        for listed_file in listing.files {
            let group = groups.entry(state_key(&listed_file.path)).or_default();
            let files_of_side = side.select(&mut group.local, &mut group.remote);
            // Nearly always the only file. `push` alone would reserve four, and double the memory of a large plan.
            files_of_side.reserve_exact(1);
            files_of_side.push(listed_file);
        }

        for (original, listed_file) in listing.client_copies {
            let group = groups.entry(state_key(&original)).or_default();
            group.client_copies.push(listed_file);
        }
        for placeholder in listing.placeholders {
            let group = groups.entry(state_key(&placeholder.path)).or_default();
            group.placeholders.push(placeholder);
        }

        leftover_temps.extend(listing.temp_files);
        notices.extend(listing.notices);
        links.extend(listing.links);
    }

    if !links.is_empty() {
        let remote_place = config.remote.describe_place();
        notices.extend(block_linked_groups(remote_place, links, &mut groups));
    }

    let latest_date = mark_older_days_as_companions(config, &mut groups, &mut notices);
    resolve_case_clashes(state, &mut groups, &mut notices);
    Groups {
        by_key: groups,
        latest_date,
        notices,
        leftover_temps,
    }
}

/// With `session_mode = "last_date_only"`, marks the conversations below `sessions/` of all days but the latest one as
/// companions: they are synced only if a planned conversation continues them. Returns the latest day; `None` in the
/// other mode, or without date folders, which adds a warning.
fn mark_older_days_as_companions(
    config: &SyncConfig,
    groups: &mut HashMap<String, FileGroup>,
    notices: &mut Vec<Notice>,
) -> Option<String> {
    if config.scope.session_mode == SessionMode::All {
        return None;
    }

    let date_of = |listed_file: &ListedFile| rollouts::parse_date(&listed_file.path);
    // Placeholders count too. Otherwise an older day would be synced until the latest one is downloaded.
    let all_files = groups.values().flat_map(FileGroup::files_and_placeholders);
    let Some(latest) = all_files.filter_map(date_of).max() else {
        let mut files = groups.values().flat_map(FileGroup::files);
        if files.any(|listed_file| listed_file.path.starts_with("sessions/")) {
            let why = "has no date folder, so all conversations are synced as with session_mode = \"all\"";
            notices.push(NoticeList::Warning.notice("sessions", why));
        }
        return None;
    };

    let is_of_latest = |listed_file: &ListedFile| date_of(listed_file).as_deref() == Some(&*latest);
    for group in groups.values_mut() {
        let is_in_sessions = |listed_file: &ListedFile| listed_file.path.starts_with("sessions/");
        let files = || group.files_and_placeholders();
        // One file of the latest day, on either side, is enough.
        if files().any(is_in_sessions) && !files().any(is_of_latest) {
            let files = group.local.iter_mut().chain(&mut group.remote);
            let files = files.chain(&mut group.client_copies);
            for listed_file in files.chain(&mut group.placeholders) {
                listed_file.companion = true;
            }
        }
    }
    Some(latest)
}

/// Joins or skips files whose names differ only in letter case: on a case-insensitive file system they are one file.
fn resolve_case_clashes(
    state: &SyncState,
    groups: &mut HashMap<String, FileGroup>,
    notices: &mut Vec<Notice>,
) {
    let mut by_lower_case: HashMap<String, Vec<String>> = HashMap::new();
    for key in groups.keys().filter(|key| !rollouts::is_key(key)) {
        let keys = by_lower_case.entry(key.to_lowercase()).or_default();
        keys.push(key.clone());
    }
    for keys in by_lower_case.into_values().filter(|keys| keys.len() > 1) {
        resolve_case_clash(state, groups, &keys, notices);
    }
}

/// Joins groups whose names differ only in letter case if each side has one spelling: then they are one file. Skips the
/// groups if a side has several spellings, or if Codex reads only one of the names, as with `History.jsonl`.
fn resolve_case_clash(
    state: &SyncState,
    groups: &mut HashMap<String, FileGroup>,
    keys: &[String],
    notices: &mut Vec<Notice>,
) {
    let spellings: Vec<_> = keys.iter().filter_map(|key| groups.get(key)).collect();
    let local_spellings = spellings.iter().filter(|group| !group.local.is_empty());
    let remote_spellings = spellings.iter().filter(|group| !group.remote.is_empty());
    let is_one_file = local_spellings.count() <= 1 && remote_spellings.count() <= 1;
    let codex_reads_one_name = keys.iter().any(|key| line_merge::is_mergeable(key));
    if is_one_file && !codex_reads_one_name {
        let mut joined = FileGroup::default();
        for key in keys {
            if let Some(group) = groups.remove(key) {
                joined.local.extend(group.local);
                joined.remote.extend(group.remote);
                joined.client_copies.extend(group.client_copies);
                joined.placeholders.extend(group.placeholders);
                joined.is_blocked |= group.is_blocked;
            }
        }

        // The spelling of the last sync stays. Without one, all machines choose the same spelling.
        let key = keys.iter().find(|key| state.files.contains_key(*key));
        let key = key.or(keys.iter().min()).cloned().unwrap_or_default();
        groups.insert(key, joined);
        return;
    }

    for key in keys {
        if let Some(group) = groups.get_mut(key) {
            group.is_blocked = true;
        }
        let why = "differs from another name by letter case alone; rename one of them";
        notices.push(NoticeList::Skipped.notice(key, why));
    }
}

/// Blocks the groups at or below each link: a write to such a path would follow the link, and the files of the other
/// side would count as deleted. Returns a notice for each link that blocks a file or is at a synced path.
/// `remote_place` describes the place of the remote in messages.
fn block_linked_groups(
    remote_place: &str,
    links: Vec<UnfollowedLink>,
    groups: &mut HashMap<String, FileGroup>,
) -> Vec<Notice> {
    // By key, because the paths of the two sides can differ in Unicode form.
    let indexed_links = links.iter().enumerate();
    let with_keys = indexed_links.map(|(index, link)| (state_key(&link.path), index));
    let index_by_key: HashMap<String, usize> = with_keys.collect();

    // A conversation without a local file may be in a folder that cannot be listed, also if another machine has archived
    // it since.
    let hides_conversations = |link: &UnfollowedLink| {
        link.why == FORBIDDEN && kind_of(Path::new(&link.path)).is_rollout_folder()
    };
    let hiding_folder = links.iter().position(hides_conversations);

    let mut blocked_files = vec![0_usize; links.len()];
    for (key, group) in groups.iter_mut() {
        let may_be_hidden = rollouts::is_key(key) && group.local.is_empty();
        let link_above = group.files_and_placeholders().find_map(|listed_file| {
            let mut ancestors = Path::new(&listed_file.path).ancestors();
            ancestors.find_map(|folder| index_by_key.get(&state_key(folder.to_str()?)).copied())
        });
        if let Some(index) = link_above.or(hiding_folder.filter(|_| may_be_hidden)) {
            group.is_blocked = true;
            blocked_files[index] += 1;
        }
    }

    let links_with_counts = links.into_iter().zip(blocked_files);
    let notices = links_with_counts.filter_map(|(link, file_count)| {
        if file_count == 0 {
            let list = NoticeList::of_unsynced(link.side);
            return link.is_synced.then(|| list.notice(link.path, link.why));
        }
        let other_place = link.side.select(remote_place, "on this machine");
        let why = format!(
            "{}; the file at this path {other_place} is left unchanged",
            link.why
        );
        Some(NoticeList::Skipped.notice(link.path, why))
    });
    notices.collect()
}
