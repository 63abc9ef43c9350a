//! Restores chosen files of a snapshot of sync into a folder, by `restic restore --include`.

use super::error::VaultError;
use super::restic::Restic;
use crate::io::{IoContext, tree};
use crate::sync::snapshots::HOME;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

/// Maximum number of patterns of one command line: few enough for paths of 500 bytes. Windows allows 32,767 characters,
/// other systems at least 256 KiB for arguments and variables together.
const MAX_PATTERNS: usize = if cfg!(windows) { 50 } else { 300 };

/// Restores the files `wanted_paths` of the snapshot `id` of sync to the same paths below [`HOME`] in `folder`,
/// readable only by the user. `all_paths` has the paths of all files below [`HOME`] in the snapshot.
///
/// `folder` must be private, with nothing in it but other versions of these files, which are replaced. Files of the
/// snapshot that are not in `all_paths` are restored too, if all listed files of their folder are wanted. A wanted
/// file that the snapshot does not have is no error. The digests are not checked. Takes no lock.
///
/// # Errors
/// restic fails, the disk is full, or one of the paths is a link or special file in the snapshot.
pub fn restore_files<'a>(
    restic: &Restic,
    id: &str,
    all_paths: impl IntoIterator<Item = &'a str>,
    wanted_paths: &BTreeSet<&'a str>,
    folder: &Path,
) -> Result<(), VaultError> {
    let cover = find_cover(all_paths, wanted_paths).into_iter();
    let patterns = cover.map(|path| escape_pattern(&format!("/{HOME}/{path}")));
    let patterns: Vec<_> = patterns.collect();

    for batch in patterns.chunks(MAX_PATTERNS) {
        let mut args = vec!["restore", "--no-lock", "--target", ".", id];
        args.extend(batch.iter().flat_map(|pattern| ["--include", pattern]));
        restic.run_writing_into(folder, &args)?;
    }

    refuse_links_and_special_files(id, folder)?;
    Ok(tree::make_private(folder)?)
}

/// Returns the smallest set of paths that covers all `wanted_paths` and no other file of `all_paths`. A folder covers
/// every file below it; `""` covers all files.
fn find_cover<'a>(
    all_paths: impl IntoIterator<Item = &'a str>,
    wanted_paths: &BTreeSet<&'a str>,
) -> BTreeSet<&'a str> {
    let mut unwanted_counts: HashMap<&str, usize> = HashMap::new();
    for path in all_paths {
        let is_wanted = wanted_paths.contains(path);
        for folder in folders_above(path) {
            *unwanted_counts.entry(folder).or_default() += usize::from(!is_wanted);
        }
    }

    let has_only_wanted = |folder: &&str| unwanted_counts.get(folder) == Some(&0);
    let find_cover_of = |path: &&'a str| folders_above(path).find(has_only_wanted).unwrap_or(path);
    wanted_paths.iter().map(find_cover_of).collect()
}

/// Returns the folders above a path, from the top: `""` is the first.
fn folders_above(path: &str) -> impl Iterator<Item = &str> {
    let slash_positions = path.match_indices('/').map(|(end, _)| end);
    std::iter::once("").chain(slash_positions.map(|end| &path[..end]))
}

/// Returns the pattern of restic that matches `path` alone. Escapes by character classes, because a backslash is a
/// separator on Windows.
fn escape_pattern(path: &str) -> String {
    let mut pattern = String::new();
    // The cover `""`, which stands for the whole home, gives a path with a slash at its end.
    for c in path.trim_end_matches('/').chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            '\\' => pattern.push_str("[\\\\]"),
            _ => pattern.push(c),
        }
    }
    pattern
}

/// Fails if `folder` has an entry other than a file or folder: reading through a link could leave the folder.
fn refuse_links_and_special_files(id: &str, folder: &Path) -> Result<(), VaultError> {
    for entry in walkdir::WalkDir::new(folder).min_depth(1) {
        let entry = entry.map_err(io::Error::from).at("list", folder)?;
        if !entry.file_type().is_dir() && !entry.file_type().is_file() {
            let detail = format!("{} is not a file", entry.path().display());
            return Err(VaultError::damaged_snapshot(id, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_restored_as_a_whole_only_if_all_its_files_are_wanted() {
        let all = ["history.jsonl", "s/1/a", "s/1/b", "s/2/c", "s/2/d", "s/e"];
        let find_cover = |wanted: &[&'static str]| {
            let wanted = wanted.iter().copied().collect();
            find_cover(all, &wanted).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(find_cover(&all), [""]);
        assert_eq!(find_cover(&all[1..]), ["s"]);
        assert_eq!(find_cover(&["s/1/a", "s/1/b", "s/2/c"]), ["s/1", "s/2/c"]);
        assert_eq!(find_cover(&[]), [""; 0]);
    }

    #[test]
    fn special_characters_of_patterns_are_escaped() {
        assert_eq!(escape_pattern("/home/a[b]*?\\"), "/home/a[[]b][*][?][\\\\]");
        assert_eq!(escape_pattern("/home/"), "/home");
    }
}
