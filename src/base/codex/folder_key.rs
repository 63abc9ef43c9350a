//! Compares the folders of conversations, which Codex spells in several ways.
//!
//! On Windows, Codex's rows have `\\?\C:\x`, rollouts of the same folder `C:\x` or `c:\x`, and WSL names it `/mnt/c/x`.
//! A home is synced to other systems, so the rules are the same on each.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// Returns the text that all spellings of a folder share: `c:/x` for a folder on a drive of Windows, `//server/x` for
/// one of the network, and the path itself for any other folder. It has `/` between its parts and none at the end,
/// except after a root.
pub fn folder_key(folder: &str) -> String {
    let plain = without_verbatim_prefix(folder);
    if let Some((drive, path)) = split_drive(&plain) {
        return format!(
            "{}:/{}",
            drive.to_ascii_lowercase(),
            join_parts(path, &['/', '\\'])
        );
    }
    let path = plain.strip_prefix(r"\\");
    match path.map(|path| join_parts(path, &['/', '\\'])) {
        Some(network_path) => format!("//{network_path}"),
        None if plain.starts_with('/') => format!("/{}", join_parts(&plain, &['/'])),
        None => join_parts(&plain, &['/']),
    }
}

/// Removes the prefix by which Windows takes a path as it is, without a limit on its length.
fn without_verbatim_prefix(path: &str) -> Cow<'_, str> {
    let plain = path.strip_prefix(r"\\?\");
    match plain.map(|plain| (plain, plain.strip_prefix(r"UNC\"))) {
        Some((_, Some(network_path))) => format!(r"\\{network_path}").into(),
        Some((plain, None)) => plain.into(),
        None => path.into(),
    }
}

/// Splits a path on a drive of Windows, as Windows or WSL names it; `None` for any other path.
fn split_drive(path: &str) -> Option<(char, &str)> {
    let of_wsl = path.strip_prefix("/mnt/");
    let mut chars = of_wsl.unwrap_or(path).chars();
    let drive = chars.next().filter(char::is_ascii_alphabetic)?;
    let rest = chars.as_str();
    let rest = if of_wsl.is_some() {
        Some(rest).filter(|_| drive.is_ascii_lowercase())
    } else {
        rest.strip_prefix(':')
    };
    rest.filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\']))
        .map(|rest| (drive, rest))
}

fn join_parts(path: &str, separators: &[char]) -> String {
    let parts = path.split(separators);
    let parts: Vec<_> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// Returns the key of a folder with a separator at its end, with which the keys of all folders below it begin.
pub(super) fn key_prefix(folder: &str) -> String {
    format!("{}/", folder_key(folder).trim_end_matches('/'))
}

/// Returns true if `path` is `folder` or below it.
pub fn is_in_folder(path: &str, folder: &Path) -> bool {
    let key = folder_key(path);
    !key.is_empty() && format!("{key}/").starts_with(&key_prefix(&folder.to_string_lossy()))
}

pub fn is_same_folder(path: &str, folder: &Path) -> bool {
    folder_key(path) == folder_key(&folder.to_string_lossy())
}

/// Returns true for an absolute path of Windows, on any system.
pub fn is_windows_path(path: &str) -> bool {
    path.starts_with(r"\\") || (!path.starts_with('/') && split_drive(path).is_some())
}

/// Returns the last part of a path; `None` for a root.
pub fn folder_name(path: &str) -> Option<&str> {
    let separators: &[char] = if is_windows_path(path) {
        &['/', '\\']
    } else {
        &['/']
    };
    let mut parts = path.trim_end_matches(separators).rsplit(separators);
    parts
        .next()
        .filter(|name| !name.is_empty() && !name.ends_with(':'))
}

/// The spellings of folders in a report, which names each folder once.
#[derive(Default)]
pub(crate) struct FolderSpellings(HashMap<String, String>);

impl FolderSpellings {
    /// Returns the first spelling of this folder, without the prefix `\\?\`.
    pub(crate) fn unify(&mut self, folder: &str) -> &str {
        let first = || without_verbatim_prefix(folder).into_owned();
        self.0.entry(folder_key(folder)).or_insert_with(first)
    }
}

/// Defines the SQL function `folder_key` on a connection.
pub(super) fn define_function(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("folder_key", 1, flags, |context| {
        // A folder is NULL or no text in a damaged row.
        Ok(folder_key(context.get_raw(0).as_str().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_folder_have_one_key_and_other_folders_have_others() {
        for (key, spellings) in [
            (
                "c:/",
                &["C:\\", "c:/", r"\\?\C:\", "/mnt/c", "/mnt/c/", "C:"][..],
            ),
            (
                "c:/Users/u",
                &[
                    r"C:\Users\u",
                    r"c:\Users\u\",
                    "C:/Users/u",
                    r"\\?\c:\Users\u",
                    r"C:\Users/u",
                    "/mnt/c/Users/u",
                ],
            ),
            ("//nas/team/x", &[r"\\nas\team\x", r"\\?\UNC\nas\team\x\"]),
            ("/srv/x", &["/srv/x", "/srv/x/", "/srv//x", "/srv/./x"]),
            ("/mnt/data/x", &["/mnt/data/x"]),
            ("/mnt/C/x", &["/mnt/C/x"]),
            (r"/srv/a\b", &[r"/srv/a\b"]),
            ("/", &["/"]),
            ("", &[""]),
        ] {
            for spelling in spellings {
                assert_eq!(folder_key(spelling), key, "{spelling}");
            }
        }
    }

    #[test]
    fn a_folder_contains_itself_and_what_is_below_it_in_any_spelling() {
        for (path, folder, expected) in [
            (r"\\?\C:\w\p", r"c:\w", true),
            (r"C:\w", "/mnt/c/w/", true),
            (r"C:\work", r"C:\w", false),
            (r"D:\w", "D:", true),
            ("/w/p", "/", true),
            ("/wx", "/w", false),
            ("", "/", false),
        ] {
            assert_eq!(
                is_in_folder(path, Path::new(folder)),
                expected,
                "{path} {folder}"
            );
        }
    }

    #[test]
    fn the_name_of_a_folder_is_its_last_part_on_every_system() {
        for (path, name) in [
            (r"\\?\C:\w\shop", Some("shop")),
            ("c:/w/shop/", Some("shop")),
            ("/w/shop", Some("shop")),
            (r"/w/a\b", Some(r"a\b")),
            (r"C:\", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(folder_name(path), name, "{path}");
        }
    }
}
