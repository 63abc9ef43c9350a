//! The disk usage of the manager home.

use super::report::ManagerUsage;
use std::collections::BTreeMap;
use std::path::Path;
use walkdir::WalkDir;

/// The usage of the manager home by top-level entry, largest first. The trash of archives is an entry
/// of its own.
pub(super) fn measure(manager_home: &Path) -> Vec<ManagerUsage> {
    let trash = Path::new("backups/.trash");
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for entry in WalkDir::new(manager_home)
        .follow_root_links(true)
        .into_iter()
        .flatten()
    {
        let relative = entry
            .path()
            .strip_prefix(manager_home)
            .unwrap_or(entry.path());
        let top = if relative.starts_with(trash) {
            Some(trash)
        } else {
            relative.iter().next().map(Path::new)
        };
        if let (Some(top), Ok(meta)) = (top, entry.metadata())
            && meta.is_file()
        {
            *sums.entry(top.display().to_string()).or_default() += meta.len();
        }
    }
    let usage = sums
        .into_iter()
        .map(|(name, bytes)| ManagerUsage { name, bytes });
    let mut usage: Vec<_> = usage.collect();
    usage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    usage
}
