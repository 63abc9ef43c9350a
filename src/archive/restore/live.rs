//! The files that stand in a home now.

use crate::archive::reader::stays_inside;
use crate::archive::scan::mtime_ns_of;
use crate::codex::home::{Kind, kind_of};
use crate::io::{IoContext, IoError};
use std::fs;
use std::path::{Path, PathBuf};

/// One file or link of the live home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Relative to the home.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its size.
    pub size: u64,
    /// Its time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Whether an archive could hold it. A link out of the home, a socket, a pipe: its absence
    /// from an archive says nothing.
    pub is_capturable: bool,
}

/// Every file and link below `home`, ordered by path; a top-level link to a folder is followed,
/// others are not. What is transient is not looked into: no restore touches it. A home that does
/// not exist has none.
pub fn list(home: &Path) -> Result<Vec<LiveFile>, IoError> {
    let mut files = Vec::new();
    match fs::read_dir(home) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e).at("list", home),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.at("list", home)?;
                visit(
                    &entry.path(),
                    Path::new(&entry.file_name()),
                    true,
                    &mut files,
                )?;
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn visit(
    path: &Path,
    relative: &Path,
    follow: bool,
    files: &mut Vec<LiveFile>,
) -> Result<(), IoError> {
    let kind = kind_of(relative);
    if kind == Kind::Transient {
        return Ok(());
    }
    let meta = match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() && follow => path.metadata().unwrap_or(meta),
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("read", path),
    };
    if meta.is_dir() {
        for entry in fs::read_dir(path).at("list", path)? {
            let entry = entry.at("list", path)?;
            visit(
                &entry.path(),
                &relative.join(entry.file_name()),
                false,
                files,
            )?;
        }
    } else {
        files.push(LiveFile {
            path: relative.to_path_buf(),
            kind,
            size: meta.len(),
            mtime_ns: mtime_ns_of(&meta),
            is_capturable: is_capturable(path, relative, &meta),
        });
    }
    Ok(())
}

fn is_capturable(path: &Path, relative: &Path, meta: &fs::Metadata) -> bool {
    if !meta.is_symlink() {
        return meta.is_file();
    }
    fs::read_link(path).is_ok_and(|target| {
        let home = path.ancestors().nth(relative.components().count());
        stays_inside(relative, &target) || home.is_some_and(|home| target.starts_with(home))
    })
}
