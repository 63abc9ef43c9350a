//! Restores chosen files of a snapshot into a folder, by `restic restore --include`.

use super::error::VaultError;
use super::restic::Restic;
use crate::io::{IoContext, tree};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Maximum size of the patterns of one command line. Windows allows 32,767 characters, other systems at least 256 KiB
/// for arguments and variables together.
const MAX_PATTERN_BYTES: usize = if cfg!(windows) { 24 << 10 } else { 160 << 10 };

/// Restores the `wanted` files of the snapshot `id` to the same paths below `root` in `folder`, readable only by the
/// user. `all` has the paths of all files below the snapshot's folder `root`.
///
/// `folder` must be private, with nothing in it but other versions of these files, which are replaced. Files of the
/// snapshot that are not in `all` are restored too, if all listed files of their folder are wanted. A wanted file that
/// the snapshot does not have is no error. Takes no lock.
///
/// # Errors
/// restic fails, the disk is full, or one of the paths is a link or special file in the snapshot.
pub(super) fn restore<'a>(
    restic: &Restic,
    id: &str,
    root: &str,
    all: impl IntoIterator<Item = &'a str>,
    wanted: &BTreeSet<&'a str>,
    folder: &Path,
) -> Result<(), VaultError> {
    let patterns: Vec<_> = cover(all, wanted)
        .into_iter()
        .map(|path| escape(&format!("/{root}/{path}")))
        .collect();
    let mut remaining = &patterns[..];
    while !remaining.is_empty() {
        let mut bytes = 0;
        let fits = |pattern: &&String| {
            bytes += pattern.len() + "--include".len() + 2;
            bytes <= MAX_PATTERN_BYTES
        };
        let count = remaining.iter().take_while(fits).count().max(1);
        let (batch, others) = remaining.split_at(count);
        let mut args = vec!["restore", "--no-lock", "--target", ".", id];
        args.extend(batch.iter().flat_map(|pattern| ["--include", pattern]));
        restic.run_writing(folder, &args)?;
        remaining = others;
    }
    check_kinds(id, folder)?;
    Ok(tree::make_private(folder)?)
}

/// Returns the smallest set of paths with exactly the `wanted` files of `all` at or below them; `""` stands for all
/// files.
fn cover<'a>(
    all: impl IntoIterator<Item = &'a str>,
    wanted: &BTreeSet<&'a str>,
) -> BTreeSet<&'a str> {
    // The number of other files in each folder.
    let mut others: HashMap<&str, usize> = HashMap::new();
    for path in all {
        for folder in folders_of(path) {
            *others.entry(folder).or_default() += usize::from(!wanted.contains(path));
        }
    }
    let covers = |folder: &&str| others.get(folder) == Some(&0);
    let tree_of = |path: &&'a str| folders_of(path).find(covers).unwrap_or(path);
    wanted.iter().map(tree_of).collect()
}

/// Returns the folders above a path, from the top: `""` is the first.
fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(end, _)| end);
    std::iter::once("").chain(ends.map(|end| &path[..end]))
}

/// Returns the pattern of restic that matches `path` alone. Escapes by character classes, because a backslash is a
/// separator on Windows.
fn escape(path: &str) -> String {
    let mut pattern = String::new();
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
fn check_kinds(id: &str, folder: &Path) -> Result<(), VaultError> {
    for (name, kind) in tree::list(folder).at("list", folder)? {
        let path = folder.join(name);
        if kind.is_dir() {
            check_kinds(id, &path)?;
        } else if !kind.is_file() {
            return Err(VaultError::damaged(
                id,
                format!("{} is not a file", path.display()),
            ));
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
        let cover = |wanted: &[&'static str]| {
            let wanted = wanted.iter().copied().collect();
            cover(all, &wanted).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(cover(&all), [""]);
        assert_eq!(cover(&all[1..]), ["s"]);
        assert_eq!(cover(&["s/1/a", "s/1/b", "s/2/c"]), ["s/1", "s/2/c"]);
        assert_eq!(cover(&[]), [""; 0]);
    }

    #[test]
    fn special_characters_of_patterns_are_escaped() {
        assert_eq!(escape("/home/a[b]*?\\"), "/home/a[[]b][*][?][\\\\]");
        assert_eq!(escape("/home/"), "/home");
    }
}
