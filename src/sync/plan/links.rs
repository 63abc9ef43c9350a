//! Links that are not followed, and what they are in the way of.

use super::{FileGroup, Planner, key_of};
use crate::sync::scan::{NOT_FOLLOWED, Side};
use std::collections::{HashMap, HashSet};
use std::path::Path;

impl Planner<'_> {
    /// Of links that are not synced under their own name: those that something synced is below.
    pub(super) fn blocking_links(
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
        let of_them = links.into_iter().filter(is_in_way);
        of_them
            .map(|(side, path)| (side, (path, NOT_FOLLOWED)))
            .collect()
    }

    /// A link that is not followed keeps what the other side has at or below its place from coming: that
    /// is said once for each link. One in nobody's way is left out, or noted.
    pub(super) fn check_links(
        &mut self,
        links: Vec<(Side, (String, &'static str))>,
        groups: &mut HashMap<String, FileGroup>,
    ) {
        let places: HashMap<&str, usize> = links
            .iter()
            .enumerate()
            .map(|(index, (_, (path, _)))| (&**path, index))
            .collect();
        let by_key: HashMap<String, usize> = links
            .iter()
            .enumerate()
            .map(|(index, (_, (path, _)))| (key_of(path), index))
            .collect();
        let mut in_way = vec![0_usize; links.len()];
        for (key, group) in groups.iter_mut() {
            let below = group.files().find_map(|found| {
                let mut above = Path::new(&found.path).ancestors();
                above.find_map(|folder| places.get(folder.to_str()?).copied())
            });
            if let Some(index) = below.or_else(|| by_key.get(key).copied()) {
                group.is_blocked = true;
                in_way[index] += 1;
            }
        }
        for ((side, (path, why)), files) in links.into_iter().zip(in_way) {
            let list = match (files, side) {
                (0, Side::Local) => &mut self.plan.excluded,
                (0, Side::Remote) => &mut self.plan.notes,
                _ => &mut self.plan.skipped,
            };
            let why = match (files, side) {
                (0, _) => why.to_owned(),
                (_, Side::Local) => {
                    format!("{why}; in the cloud folder it is no link, and stays there")
                }
                (_, Side::Remote) => format!("{why}; here it is no link, and stays here"),
            };
            list.push((path, why));
        }
    }
}
