//! Compares the settings and the user's files of a home with those of an archive.

use crate::error::{CommandError, Result};
use crate::ui::{Cell, Style, variant_name};
use codex_manager_core::archive::scan::HomeScan;
use codex_manager_core::archive::{ArchiveReader, FileEntry, file_extract};
use codex_manager_core::codex::{CONFIG_TOML, HomeEntryKind, config, database, kind_of};
use codex_manager_core::io::{ContentDigest, ContentHasher, IoContext, file_open};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::Path;
use toml_edit::{DocumentMut, Item, TomlError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    Removed,
    Changed,
    Added,
}

impl Change {
    /// Compares the archived version with the live one. `None` if they are equal.
    pub(super) fn between<T: PartialEq>(archived: Option<T>, live: Option<T>) -> Option<Self> {
        match (archived, live) {
            (Some(_), None) => Some(Self::Removed),
            (None, Some(_)) => Some(Self::Added),
            (archived, live) => (archived != live).then_some(Self::Changed),
        }
    }

    pub(super) fn to_cell(self) -> Cell {
        let style = match self {
            Self::Removed => Style::Warn,
            Self::Changed => Style::Plain,
            Self::Added => Style::Good,
        };
        Cell::new(style, variant_name(self))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ContentKind {
    /// A key of `config.toml`.
    Setting,
    McpServer,
    Skill,
    Prompt,
    /// A task that Codex Desktop runs at times.
    Automation,
    /// Another file of the user, such as `AGENTS.md` or a rule.
    File,
}

impl ContentKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::McpServer => "MCP server",
            Self::Skill => "skill",
            Self::Prompt => "prompt",
            Self::Automation => "automation",
            Self::File => "file",
        }
    }
}

/// A change, in JSON. Its keys are a contract.
#[derive(Debug, Serialize)]
pub(super) struct DiffedContent {
    pub kind: ContentKind,
    pub name: String,
    pub change: Change,
}

/// The versions of the content of an archive or a home, by kind and name.
type Versions<T> = BTreeMap<(ContentKind, String), T>;

/// Returns the keys of `config.toml` that differ between the archive and the home. A missing file counts as empty.
///
/// # Errors
/// One of the files cannot be read or parsed.
pub(super) fn compare_settings(archive: &ArchiveReader, home: &Path) -> Result<Vec<DiffedContent>> {
    let mut archived_text = String::new();
    let mut archived_file = file_extract::extract_to_temp_file(archive, HomeEntryKind::Config)?;
    archived_file
        .read_to_string(&mut archived_text)
        .at("read the archived", CONFIG_TOML)?;
    let archived = parse_settings(&archived_text, "the archived config.toml")?;

    let path = home.join(CONFIG_TOML);
    let current_text = match config::read_config_text(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => Err(e).at("read", &path)?,
    };
    let current = parse_settings(&current_text, &path.display().to_string())?;
    Ok(compare_versions(&archived, &current))
}

/// Returns the skills, prompts and other files of the user that differ between the archive and the home.
///
/// # Errors
/// The home or the archive cannot be read.
pub(super) fn compare_files(
    archive: &ArchiveReader,
    home_scan: &HomeScan,
    home: &Path,
) -> Result<Vec<DiffedContent>> {
    let archived = select_content_files(archive.contents().files.iter());
    let live_files = home_scan.files.iter();
    let current = select_content_files(live_files.chain(home_scan.databases.iter().cloned()));

    let read_archived_version = |file: &FileEntry| Ok((file.size, file.digest));
    let read_home_version = |file: &FileEntry| {
        let archived = archived.iter().find(|other| other.path == file.path);
        let path = home.join(file.path.as_path());
        let is_database = home_scan
            .databases
            .iter()
            .any(|other| other.path == file.path);
        if is_database {
            read_database_version(file, archived, &path)
        } else {
            read_version(file, archived, &path)
        }
    };

    Ok(compare_versions(
        &group_by_name(&archived, read_archived_version)?,
        &group_by_name(&current, read_home_version)?,
    ))
}

/// The size and the digest of a file. Archives of the Python tool have no digests, so only sizes are compared.
type DiffedVersion = (u64, Option<ContentDigest>);

/// Returns the version of a file in the home. If size and time are equal, takes the digest of the archived file instead
/// of reading the file. If the archived file has no digest, returns none either, so only sizes are compared.
fn read_version(
    file: &FileEntry,
    archived: Option<&FileEntry>,
    path: &Path,
) -> Result<DiffedVersion> {
    let archived_digest = archived.and_then(|archived| archived.digest);
    let needs_no_reading = |archived: &FileEntry| {
        archived.digest.is_none() || (archived.size, archived.mtime) == (file.size, file.mtime)
    };
    if archived.is_some_and(needs_no_reading) {
        return Ok((file.size, archived_digest));
    }

    hash_version(archived_digest, path)
}

/// Returns the version of a database in the home. An archive has a snapshot of it, so a snapshot is compared. If none can
/// be made, compares the file.
fn read_database_version(
    file: &FileEntry,
    archived: Option<&FileEntry>,
    path: &Path,
) -> Result<DiffedVersion> {
    let folder = tempfile::tempdir().at("create a temp folder for", path)?;
    let snapshot = folder.path().join("snapshot");
    if database::write_snapshot(path, &snapshot).is_err() {
        return read_version(file, None, path);
    }
    hash_version(archived.and_then(|archived| archived.digest), &snapshot)
}

/// Returns the size and the digest of the file at `path`. Only digests of the algorithm of `archived_digest` can be
/// compared with it.
fn hash_version(archived_digest: Option<ContentDigest>, path: &Path) -> Result<DiffedVersion> {
    let hasher = archived_digest.map_or_else(ContentHasher::default, |digest| digest.hasher());
    let mut reader = file_open::open(path).at("read", path)?;
    let (digest, size) = hasher.hash(&mut reader).at("read", path)?;
    Ok((size, Some(digest)))
}

fn compare_versions<T: PartialEq>(
    archived: &Versions<T>,
    live: &Versions<T>,
) -> Vec<DiffedContent> {
    let names: BTreeSet<_> = archived.keys().chain(live.keys()).collect();
    let changes = names.into_iter().filter_map(|key| {
        let change = Change::between(archived.get(key), live.get(key))?;
        let (kind, name) = key.clone();
        Some(DiffedContent { kind, name, change })
    });
    changes.collect()
}

/// Returns the keys of a `config.toml` with their values. All keys of an MCP server together are one value. Errors name
/// the file `file_name`.
fn parse_settings(text: &str, file_name: &str) -> Result<Versions<String>> {
    let document: DocumentMut = text.parse().map_err(|e: TomlError| {
        let problem = e.message().trim_end();
        CommandError::failed(format!("cannot parse {file_name}: {problem}"))
    })?;
    let mut settings = Versions::new();
    for (key, item) in document.iter() {
        add_settings(&mut settings, key, item);
    }
    Ok(settings)
}

/// Adds the values below `item`, each by its dotted name. An MCP server is one value.
fn add_settings(settings: &mut Versions<String>, name: &str, item: &Item) {
    // A server is compared as a whole: one of its keys alone says nothing, and the values may be secrets.
    if let Some(server_name) = name.strip_prefix("mcp_servers.") {
        let key = (ContentKind::McpServer, server_name.to_owned());
        settings.insert(key, item.to_string());
        return;
    }

    if let Some(table) = item.as_table_like() {
        for (key, item) in table.iter() {
            add_settings(settings, &format!("{name}.{key}"), item);
        }
    } else {
        let value = item.to_string().trim().to_owned();
        settings.insert((ContentKind::Setting, name.to_owned()), value);
    }
}

fn select_content_files(files: impl Iterator<Item = FileEntry>) -> Vec<FileEntry> {
    let is_content = |file: &FileEntry| {
        let kind = kind_of(file.path.as_path());
        matches!(kind, HomeEntryKind::UserContent | HomeEntryKind::Rules)
    };
    files.filter(is_content).collect()
}

/// Groups files by skill, prompt or path, because a skill has several files.
fn group_by_name(
    files: &[FileEntry],
    version: impl Fn(&FileEntry) -> Result<DiffedVersion>,
) -> Result<Versions<BTreeMap<String, DiffedVersion>>> {
    let mut groups: Versions<BTreeMap<String, DiffedVersion>> = Versions::new();
    for file in files {
        let path = file.path.as_path().display().to_string();
        let components: Vec<_> = path.split(['/', '\\']).collect();
        let key = match components.as_slice() {
            ["skills", name, _, ..] => (ContentKind::Skill, (*name).to_owned()),
            ["prompts", name] => (ContentKind::Prompt, (*name).to_owned()),
            _ => (ContentKind::File, path.clone()),
        };
        groups.entry(key).or_default().insert(path, version(file)?);
    }
    Ok(groups)
}
