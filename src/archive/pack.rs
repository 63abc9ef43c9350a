//! Writing an archive: a tar stream cut into gzip members, the manifest in a member of its own,
//! and a footer that tells where that is.

use super::entry_name::EntryName;
use super::manifest::{
    AccountAuth, FileEntry, FolderEntry, LinkEntry, MANIFEST_NAME, Manifest, SCHEMA,
};
use super::metadata::Metadata;
use crate::io::hash::Hasher;
use libdeflater::{CompressionLvl, Compressor};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use tar::{EntryType, Header};

/// A member is closed at the end of a file once it holds this much of the tar stream.
const MEMBER_TARGET: usize = 1024 * 1024;

/// A member never holds more than this.
const MEMBER_MAX: usize = 4 * 1024 * 1024;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Compression {
    /// Larger and faster.
    Fast,
    /// The balance.
    #[default]
    Default,
    /// Smaller and slower.
    Best,
}

impl Compression {
    fn level(self) -> CompressionLvl {
        let level = match self {
            Self::Fast => 2,
            Self::Default => 6,
            Self::Best => 9,
        };
        CompressionLvl::new(level).unwrap_or_default()
    }
}

/// The footer: an empty gzip member whose extra field tells where the manifest's member is.
/// Any gzip program reads it as nothing.
pub mod footer {
    /// Its size in bytes.
    pub const LEN: usize = 10 + 2 + 4 + 17 + 2 + 8;

    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    const EXTRA: [u8; 7] = [21, 0, b'C', b'M', 17, 0, 1];
    const TAIL: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// Where the manifest's member is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Footer {
        /// Its first byte in the file.
        pub offset: u64,
        /// Its compressed length.
        pub len: u64,
    }

    impl Footer {
        /// The bytes at the end of the archive.
        pub fn encode(self) -> [u8; LEN] {
            let mut bytes = [0; LEN];
            bytes[..10].copy_from_slice(&HEAD);
            bytes[10..17].copy_from_slice(&EXTRA);
            bytes[17..25].copy_from_slice(&self.offset.to_le_bytes());
            bytes[25..33].copy_from_slice(&self.len.to_le_bytes());
            bytes[33..].copy_from_slice(&TAIL);
            bytes
        }

        /// Reads it back; `None` for anything else.
        pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
            let number = |from: usize| {
                let mut raw = [0; 8];
                raw.copy_from_slice(&bytes[from..from + 8]);
                u64::from_le_bytes(raw)
            };
            let known = bytes[..10] == HEAD && bytes[10..17] == EXTRA && bytes[33..] == TAIL;
            known.then(|| Self {
                offset: number(17),
                len: number(25),
            })
        }
    }
}

/// Cuts what is written to it into gzip members.
struct Members {
    out: File,
    level: Compression,
    compressor: Compressor,
    member: Vec<u8>,
    scratch: Vec<u8>,
    hasher: Hasher,
    written: u64,
}

impl Members {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn close_member(&mut self) -> io::Result<()> {
        if self.member.is_empty() {
            return Ok(());
        }
        self.scratch
            .resize(self.compressor.gzip_compress_bound(self.member.len()), 0);
        let n = self
            .compressor
            .gzip_compress(&self.member, &mut self.scratch)
            .map_err(|e| io::Error::other(format!("deflate: {e:?}")))?;
        self.member.clear();
        let packed = std::mem::take(&mut self.scratch);
        let result = self.put(&packed[..n]);
        self.scratch = packed;
        result
    }
}

impl Write for Members {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(MEMBER_MAX - self.member.len());
        self.member.extend_from_slice(&bytes[..take]);
        if self.member.len() == MEMBER_MAX {
            self.close_member()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a finished archive is.
#[derive(Debug)]
pub struct Packed {
    /// Its size.
    pub archive_bytes: u64,
    /// Its digest.
    pub archive_sha256: String,
    /// What is in it.
    pub manifest: Manifest,
}

/// What a manifest says besides the list of entries.
#[derive(Debug)]
pub struct Closing {
    /// Of the home and the account. `files` and `bytes` are filled in.
    pub metadata: Metadata,
    /// The login.
    pub account_auth: Option<AccountAuth>,
    /// What the user left out.
    pub excluded_globs: Vec<String>,
    /// See [`Manifest::skipped`].
    pub skipped: Vec<EntryName>,
    /// Top-level entries archived through a link.
    pub linked: Vec<EntryName>,
    /// See [`Manifest::partial`].
    pub partial: bool,
    /// See [`Manifest::undo_removes`].
    pub undo_removes: Vec<EntryName>,
}

/// An archive that is being written.
pub struct PackWriter {
    tar: tar::Builder<Members>,
    files: Vec<FileEntry>,
    folders: Vec<FolderEntry>,
    links: Vec<LinkEntry>,
    void: Vec<EntryName>,
}

impl PackWriter {
    /// Begins an archive in the empty file `out`.
    pub fn new(out: File, level: Compression) -> Self {
        let members = Members {
            out,
            level,
            compressor: Compressor::new(level.level()),
            member: Vec::with_capacity(MEMBER_MAX),
            scratch: Vec::new(),
            hasher: Hasher::default(),
            written: 0,
        };
        Self {
            tar: tar::Builder::new(members),
            files: Vec::new(),
            folders: Vec::new(),
            links: Vec::new(),
            void: Vec::new(),
        }
    }

    /// Adds a folder.
    pub fn add_folder(&mut self, folder: FolderEntry) -> io::Result<()> {
        let mut header = header(EntryType::Directory, 0, folder.mode, folder.mtime);
        self.tar
            .append_data(&mut header, with_slash(&folder.path), io::empty())?;
        self.folders.push(folder);
        Ok(())
    }

    /// Adds a link.
    pub fn add_link(&mut self, link: LinkEntry) -> io::Result<()> {
        let mut header = header(EntryType::Symlink, 0, 0o777, 0);
        self.tar
            .append_link(&mut header, link.path.as_path(), &link.target)?;
        self.links.push(link);
        Ok(())
    }

    /// Adds a file of `size` bytes read from `content`; `size` and `mtime` of the entry are the
    /// caller's, the digest is that of the bytes that were read.
    ///
    /// Returns the entry, or `None` when `content` ended early: what is in the tar then counts for
    /// nothing, and the manifest says so.
    pub fn add_file(
        &mut self,
        mut file: FileEntry,
        content: &mut dyn Read,
    ) -> io::Result<Option<&FileEntry>> {
        let mut header = header(EntryType::Regular, file.size, file.mode, file.mtime);
        let mut source = Padded {
            content,
            left: file.size,
            short: false,
            hasher: Hasher::default(),
        };
        self.tar
            .append_data(&mut header, file.path.as_path(), &mut source)?;
        let Padded { short, hasher, .. } = source;
        self.boundary()?;
        if short {
            self.void.push(file.path);
            return Ok(None);
        }
        file.sha256 = hasher.finish();
        self.files.push(file);
        Ok(self.files.last())
    }

    /// The files so far.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn boundary(&mut self) -> io::Result<()> {
        let members = self.tar.get_mut();
        if members.member.len() >= MEMBER_TARGET {
            members.close_member()
        } else {
            Ok(())
        }
    }

    /// Writes the manifest and the footer. The file is complete, but not yet durable.
    pub fn finish(mut self, closing: Closing) -> io::Result<(File, Packed)> {
        self.tar.get_mut().close_member()?;
        let offset = self.tar.get_mut().written;
        let mut metadata = closing.metadata;
        metadata.files = self.files.len() as u64;
        metadata.bytes = self.files.iter().map(|f| f.size).sum();
        let manifest = Manifest {
            schema: SCHEMA,
            metadata,
            account_auth: closing.account_auth,
            excluded_globs: closing.excluded_globs,
            skipped: closing.skipped,
            linked: closing.linked,
            partial: closing.partial,
            undo_removes: closing.undo_removes,
            folders: self.folders,
            links: self.links,
            void: self.void,
            files: self.files,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(io::Error::other)?;
        let mtime = manifest
            .metadata
            .created_at
            .timestamp_nanos_opt()
            .unwrap_or(0);
        let mut header = header(EntryType::Regular, bytes.len() as u64, 0o600, mtime);
        // The manifest is one member however long it is: a reader seeks to it. It may be cut at
        // MEMBER_MAX like any other; the footer's length covers all its members.
        self.tar.append_data(&mut header, MANIFEST_NAME, &*bytes)?;
        self.tar.finish()?;
        let mut members = self.tar.into_inner()?;
        members.close_member()?;
        let len = members.written - offset;
        members.put(&footer::Footer { offset, len }.encode())?;
        let Members {
            out,
            written,
            hasher,
            ..
        } = members;
        Ok((
            out,
            Packed {
                archive_bytes: written,
                archive_sha256: hasher.finish(),
                manifest,
            },
        ))
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn header(kind: EntryType, size: u64, mode: u32, mtime_ns: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode & 0o7777);
    header.set_mtime(u64::try_from(mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn with_slash(name: &EntryName) -> PathBuf {
    let mut text = name.as_path().as_os_str().to_owned();
    text.push("/");
    text.into()
}

/// Gives exactly `left` bytes: those of `content`, then zeros if it ends early.
struct Padded<'a> {
    content: &'a mut dyn Read,
    left: u64,
    short: bool,
    hasher: Hasher,
}

impl Read for Padded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..want];
        let mut n = if self.short {
            0
        } else {
            self.content.read(buffer)?
        };
        if n == 0 {
            self.short = true;
            buffer.fill(0);
            n = want;
        }
        self.hasher.update(&buffer[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}
