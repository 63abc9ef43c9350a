//! Links that the scan does not follow. They block the files of the other side at and below their path: writing there
//! would follow the link, and counting those files as deleted would lose them.

use super::file_group::{FileGroup, key_of};
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::scan::{NOT_FOLLOWED, Side};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Selects, among links outside the scope, those that have a synced file below their path.
pub(crate) fn blocking_links(
    links: Vec<(Side, String)>,
    groups: &HashMap<String, FileGroup>,
) -> Vec<(Side, (String, &'static str))> {
    if links.is_empty() {
        return Vec::new();
    }
    let files = groups.values().flat_map(FileGroup::files);
    let folders: HashSet<&Path> = files
        .flat_map(|found| Path::new(&found.path).ancestors().skip(1))
        .collect();
    let is_in_way = |(_, path): &(Side, String)| folders.contains(Path::new(path));
    let blocking = links.into_iter().filter(is_in_way);
    blocking
        .map(|(side, path)| (side, (path, NOT_FOLLOWED)))
        .collect()
}

/// Blocks the groups at or below each link, and returns one notice for each link: as skipped if it blocks a group,
/// otherwise as excluded (local) or in a note (remote).
pub(crate) fn check_links(
    links: Vec<(Side, (String, &'static str))>,
    groups: &mut HashMap<String, FileGroup>,
) -> Vec<Notice> {
    let by_path: HashMap<&str, usize> = links
        .iter()
        .enumerate()
        .map(|(index, (_, (path, _)))| (&**path, index))
        .collect();
    // A path can differ in Unicode form from that of the other side, so the key is compared too.
    let by_key: HashMap<String, usize> = links
        .iter()
        .enumerate()
        .map(|(index, (_, (path, _)))| (key_of(path), index))
        .collect();
    let mut blocked_files = vec![0_usize; links.len()];
    for (key, group) in groups.iter_mut() {
        let below = group.files().find_map(|found| {
            let mut above = Path::new(&found.path).ancestors();
            above.find_map(|folder| by_path.get(folder.to_str()?).copied())
        });
        if let Some(index) = below.or_else(|| by_key.get(key).copied()) {
            group.is_blocked = true;
            blocked_files[index] += 1;
        }
    }
    let checked = links.into_iter().zip(blocked_files);
    let notices = checked.map(|((side, (path, why)), files)| {
        let list = match (files, side) {
            (0, Side::Local) => NoticeList::Excluded,
            (0, Side::Remote) => NoticeList::Note,
            _ => NoticeList::Skipped,
        };
        let why = match (files, side) {
            (0, _) => why.to_owned(),
            (_, Side::Local) => {
                format!("{why}; what the cloud folder has in its place stays there")
            }
            (_, Side::Remote) => {
                format!("{why}; what this machine has in its place stays here")
            }
        };
        list.notice(path, why)
    });
    notices.collect()
}
