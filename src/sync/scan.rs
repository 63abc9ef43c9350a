//! What lies on one side: the files that are synced, with size and time. Reads no contents.

use super::cloud_names::{self, CloudName};
use super::rollouts;
use super::travel::{self, Scope, Take};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::atomic::{self, TEMP_PREFIX};
use crate::io::{IoContext, IoError};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The Codex home of this machine.
    Here,
    /// The cloud folder, as this machine has it.
    There,
}

/// Size and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes on the disk's account.
    pub size: u64,
    /// The modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Stat {
    /// A time that no file has.
    pub const NEVER: i64 = i64::MIN;

    /// Of an existing file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            mtime_ns: mtime_ns(meta),
        }
    }

    /// Of the regular file at `path`; `None` when there is none.
    pub fn at(path: &Path) -> Result<Option<Self>, IoError> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(Self::of(&meta))),
            Ok(_) => Ok(None),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e).at("look at", path),
        }
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(unix)]
fn mtime_ns(meta: &Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt;
    meta.mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(meta.mtime_nsec())
}

#[cfg(not(unix))]
fn mtime_ns(meta: &Metadata) -> i64 {
    let since = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).ok();
    let at = meta.modified().ok().and_then(since).unwrap_or_default();
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether the bytes of a file are not on this machine: opening it would download it.
pub(super) fn is_dataless(meta: &Metadata) -> bool {
    #[cfg(target_os = "macos")]
    {
        use std::os::macos::fs::MetadataExt;
        const SF_DATALESS: u32 = 0x4000_0000;
        meta.st_flags() & SF_DATALESS != 0
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::MetadataExt;
        const OFFLINE_OR_RECALL: u32 = 0x1000 | 0x4_0000 | 0x40_0000;
        meta.file_attributes() & OFFLINE_OR_RECALL != 0
    }
    #[cfg(not(any(target_os = "macos", windows)))]
    {
        let _ = meta;
        false
    }
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the side's root, with `/`.
    pub path: String,
    /// Size and time.
    pub stat: Stat,
    /// See [`Take::Companion`].
    pub companion: bool,
}

/// All of one side.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files under their own names.
    pub files: Vec<Found>,
    /// Copies that a client made of a conflict, each with the path that it is a copy of.
    pub copies: Vec<(String, Found)>,
    /// Paths of files that are not downloaded.
    pub stand_ins: Vec<String>,
    /// What is left alone in the cloud folder, and why.
    pub notes: Vec<(String, String)>,
    /// What somebody has in the home that does not travel, and why.
    pub left_out: Vec<(String, String)>,
    /// Links that are not followed, and why: what they lead to is nobody's, and what the other side has
    /// at or below their place cannot come.
    pub links: Vec<(String, &'static str)>,
    /// Links that are not synced under their own name. What is below that name may be all the same, as
    /// when a folder was moved and a link left in its place.
    pub other_links: Vec<String>,
    /// Temp files of ours that a killed run left.
    pub temps: Vec<PathBuf>,
}

/// Why a link stands for nothing.
pub const NOT_FOLLOWED: &str = "a link is not followed";

/// Walks one side. A root that is not there is an empty listing; a folder that cannot be read is an
/// error: what is in it must not be taken for absent.
pub fn scan(root: &Path, scope: &Scope, side: Side) -> Result<Listing, IoError> {
    let mut walk = Walk {
        root,
        scope,
        side,
        listing: Listing::default(),
        folders: Vec::new(),
    };
    for start in scope.starts() {
        walk.start(root, start)?;
    }
    while let Some((folder, relative)) = walk.folders.pop() {
        walk.folder(&folder, &relative)?;
    }
    if side == Side::There {
        walk.beside(root, &scope.starts())?;
    }
    Ok(walk.listing)
}

struct Walk<'a> {
    root: &'a Path,
    scope: &'a Scope,
    side: Side,
    listing: Listing,
    folders: Vec<(PathBuf, String)>,
}

impl Walk<'_> {
    fn note(&mut self, path: &str, why: &str) {
        let list = match self.side {
            Side::Here => &mut self.listing.left_out,
            Side::There => &mut self.listing.notes,
        };
        list.push((path.to_owned(), why.to_owned()));
    }

    /// Looks at where a walk begins, and at every step of the way to it.
    fn start(&mut self, root: &Path, start: &str) -> Result<(), IoError> {
        let mut path = root.to_path_buf();
        let steps = start.match_indices('/').map(|(at, _)| at);
        for end in steps.chain([start.len()]).filter(|end| *end > 0) {
            let relative = &start[..end];
            path = root.join(relative);
            match fs::symlink_metadata(&path) {
                Err(e) if is_absent(&e) => return Ok(()),
                Err(e) => return Err(e).at("look at", &path),
                Ok(meta) if meta.is_symlink() && !self.goes_through(&path, relative)? => {
                    return Ok(());
                }
                Ok(_) => {}
            }
        }
        self.one(path, start.to_owned())
    }

    /// A file or a folder, or what a link leads to.
    fn one(&mut self, path: PathBuf, relative: String) -> Result<(), IoError> {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => self.folders.push((path, relative)),
            Ok(meta) => self.file(relative, || path, &meta),
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e).at("look at", &path),
        }
        Ok(())
    }

    /// Whether a link is gone through: somebody's own home may have `sessions` on another disk, and
    /// AGENTS.md among other settings; a link in a folder that others write to leads anywhere.
    fn goes_through(&mut self, path: &Path, relative: &str) -> Result<bool, IoError> {
        let why = if self.side == Side::There || !self.scope.follows(relative) {
            NOT_FOLLOWED
        } else if let Some(why) = travel::why_not_followed(atomic::parent_of(path), path) {
            why
        } else {
            match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => return Ok(true),
                Ok(meta) if meta.is_file() => {
                    // The copy that replaces it is made beside it.
                    if let Ok(real) = path.canonicalize() {
                        let temps = atomic::stale(atomic::parent_of(&real), UNIX_EPOCH);
                        self.listing.temps.extend(temps);
                    }
                    return Ok(true);
                }
                Ok(_) => "a link to what is no file is not followed",
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(e).at("look at", path);
                }
                Err(_) => "a link that leads nowhere",
            }
        };
        self.listing.links.push((relative.to_owned(), why));
        Ok(false)
    }

    fn folder(&mut self, folder: &Path, relative: &str) -> Result<(), IoError> {
        let entries = match fs::read_dir(folder) {
            // A client has removed it since its own folder was listed; a side that is gone is an error.
            Err(e) if is_absent(&e) && self.root.is_dir() => return Ok(()),
            entries => entries.at("list", folder)?,
        };
        for entry in entries {
            let entry = entry.at("list", folder)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let shown = entry.path().to_string_lossy().escape_debug().to_string();
                self.note(&shown, "its name is no text");
                continue;
            };
            if name.chars().any(char::is_control) {
                let shown = entry.path().to_string_lossy().escape_debug().to_string();
                self.note(&shown, "its name has control characters");
                continue;
            }
            let path = if relative.is_empty() {
                name.to_owned()
            } else {
                let mut path = String::with_capacity(relative.len() + 1 + name.len());
                path.push_str(relative);
                path.push('/');
                path.push_str(name);
                path
            };
            let kind = entry.file_type().at("look at", folder)?;
            if kind.is_dir() {
                if cloud_names::is_scratch(name) {
                    self.scratch(&path, &entry.path());
                } else if self.scope.enters(&path) {
                    self.folders.push((entry.path(), path));
                }
            } else if kind.is_symlink() {
                let is_taken = self.scope.takes(&path) == Take::Yes;
                if !is_taken || cloud_names::is_scratch(name) {
                    self.listing.other_links.push(path);
                } else if self.goes_through(&entry.path(), &path)? {
                    self.one(entry.path(), path)?;
                }
            } else if kind.is_file() {
                match entry.metadata() {
                    Ok(meta) => self.file(path, || entry.path(), &meta),
                    // It went away between the listing and the look.
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(e).at("look at", entry.path()),
                }
            }
            // Sockets, pipes and devices are nobody's state.
        }
        Ok(())
    }

    /// What clients put beside the roots themselves: copies of them, stand-ins for them, and temp files
    /// of ours.
    fn beside(&mut self, root: &Path, starts: &[&str]) -> Result<(), IoError> {
        let folders = starts.iter().filter(|start| !start.is_empty());
        let folders: BTreeSet<&str> = folders.map(|start| rollouts::folder(start)).collect();
        for relative in folders {
            let real =
                |part: &Path| fs::symlink_metadata(root.join(part)).is_ok_and(|m| m.is_dir());
            let mut parts = Path::new(relative).ancestors();
            if !parts.all(|part| part.as_os_str().is_empty() || real(part)) {
                continue;
            }
            let folder = root.join(relative);
            let entries = match fs::read_dir(&folder) {
                Err(e) if is_absent(&e) => continue,
                entries => entries.at("list", &folder)?,
            };
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                let name = entry.file_name();
                let plain = |name: &&str| !name.chars().any(char::is_control);
                let Some(name) = name.to_str().filter(plain) else {
                    continue;
                };
                let path = if relative.is_empty() {
                    name.to_owned()
                } else {
                    format!("{relative}/{name}")
                };
                if !starts.contains(&&*path) {
                    self.one_beside(&entry, path, starts)?;
                }
            }
        }
        Ok(())
    }

    fn one_beside(
        &mut self,
        entry: &fs::DirEntry,
        path: String,
        starts: &[&str],
    ) -> Result<(), IoError> {
        let kind = entry.file_type().at("look at", entry.path())?;
        let named = cloud_names::of(&path);
        let is_ours = entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX);
        let stands_for = matches!(named, CloudName::Copy(_) | CloudName::StandIn(_));
        if kind.is_file() && (is_ours || stands_for) {
            return match entry.metadata() {
                Ok(meta) => {
                    self.file(path, || entry.path(), &meta);
                    Ok(())
                }
                Err(e) if is_absent(&e) => Ok(()),
                Err(e) => Err(e).at("look at", entry.path()),
            };
        }
        let begins = |start: &&str| {
            let stem = start.rsplit_once('.').map_or(*start, |(stem, _)| stem);
            !stem.is_empty() && path.starts_with(stem)
        };
        let maybe = cloud_names::maybe_copy_of(&path);
        let is_copy = (named == CloudName::Foreign && starts.iter().any(begins))
            || maybe.is_some_and(|real| starts.contains(&&*real));
        if is_copy && !kind.is_symlink() {
            self.note(
                &path,
                "looks like a copy that a cloud client made; left alone",
            );
        }
        Ok(())
    }

    fn file(&mut self, path: String, full: impl FnOnce() -> PathBuf, meta: &Metadata) {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if name.starts_with(TEMP_PREFIX) {
            self.listing.temps.push(full());
            return;
        }
        let named = cloud_names::of(&path);
        if named == CloudName::Scratch {
            if self.side == Side::Here {
                self.scratch(&path, &full());
            }
            return;
        }
        let real = match &named {
            CloudName::Copy(real) | CloudName::StandIn(real) => real,
            _ => &path,
        };
        let take = self.scope.takes(real);
        if take == Take::No {
            // Said only where it is named: a whole home is full of what stays.
            if self.side == Side::There
                && let Some(why) = self.scope.keeps(real)
            {
                let why = if travel::stays(real).is_some() {
                    "it never travels, and does not belong in this folder"
                } else {
                    why
                };
                self.note(&path, why);
            } else if kind_of(Path::new(real)) == HomeEntryKind::UserContent
                && let Some(why) = travel::stays(real)
            {
                self.note(&path, why);
            }
            return;
        }
        let found = Found {
            stat: Stat::of(meta),
            companion: take == Take::Companion,
            path,
        };
        match (named, self.side) {
            (CloudName::Own, _) if is_dataless(meta) => self.listing.stand_ins.push(found.path),
            (CloudName::Own, _) => self.listing.files.push(found),
            (CloudName::Copy(real), Side::There) if !is_dataless(meta) => {
                self.listing.copies.push((real, found));
            }
            (CloudName::StandIn(real), Side::There) => self.listing.stand_ins.push(real),
            (CloudName::Scratch, _) => {}
            (CloudName::StandIn(_), Side::Here) => {
                let why = "its name is one of stand-ins for files that are not downloaded";
                self.note(&found.path, why);
            }
            _ => self.note(&found.path, "a copy that a cloud client made of a conflict"),
        }
    }

    /// Names what somebody calls as clients call what is theirs: in the cloud folder it would be taken
    /// for that. What systems and clients do put into any folder is not worth a word.
    fn scratch(&mut self, path: &str, full: &Path) {
        if self.side == Side::Here
            && self.scope.takes(path) == Take::Yes
            && !cloud_names::is_junk(full)
        {
            let is_ours = home::is_manager_name(full.file_name().unwrap_or_default());
            self.note(
                path,
                if is_ours {
                    "its name is one that codex-manager keeps for itself"
                } else {
                    "its name is one that clients give to scratch files"
                },
            );
        }
    }
}
