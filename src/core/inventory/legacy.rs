//! Finds and reads legacy `21apr_me@x.com_auth.json` files and merges their records into the
//! inventory. The files themselves are never changed.

use super::records::{FileStamp, InventoryFile, LegacyRecord, implies_quota_end};
use crate::archive::{
    AccountAuth, ArchiveError, ArchiveManifest, BackupMode, Compression, EntryName, FileEntry,
    InodeStamp, Metadata, PublishedArchive, names, pack,
};
use crate::codex::{AUTH_JSON, AuthSnapshot, Email, Identity};
use crate::io::hash::ContentDigest;
use crate::io::{
    FileLock, IoContext, IoError, OrdinaryPath, TempFile, Timestamp, Zone, atomic, document,
    file_open, hash, serialize_displayed,
};
use crate::quota::{LegacyName, LegacyOptions, legacy};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walkdir::WalkDir;

/// The largest file whose content is parsed. Real login files are below 10 kB. Of a larger file only the digest is
/// computed.
const MAX_PARSED_BYTES: u64 = 16 * 1024 * 1024;

/// The explanation of `session_start_at` in a legacy record.
const INFERENCE_BASIS: &str =
    "legacy filename day-month plus auth file mtime minus configured session duration";

/// A file that `normalize` does not record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SkippedLegacyFile {
    #[serde(serialize_with = "serialize_displayed")]
    pub path: PathBuf,
    pub reason: String,
    /// True if a record may be missing: the file has a legacy name but cannot be read, or a folder cannot be listed.
    #[serde(skip)]
    pub is_fault: bool,
}

#[derive(Debug, Clone, Default)]
pub struct LegacyScan {
    /// Regular files with legacy names, sorted by path.
    pub files: BTreeSet<PathBuf>,
    /// All other files, sorted by path, and folders that could not be listed.
    pub skipped: BTreeSet<SkippedLegacyFile>,
}

/// Lists the files of `places`, which are folders or single files. Does not follow links to
/// folders.
///
/// # Errors
/// One of `places` does not exist or cannot be listed. Subfolders that cannot be listed are
/// skipped.
pub fn scan_places(places: &[PathBuf], recursive: bool) -> Result<LegacyScan, IoError> {
    let mut scan = LegacyScan::default();
    for place in places {
        let is_folder = fs::metadata(place).at("read", place)?.is_dir();
        if !is_folder {
            scan.add_or_skip_file(canonicalize_parent(place));
            continue;
        }

        let folder = place.canonical().at("read", place)?;
        let max_depth = if recursive { usize::MAX } else { 1 };

        // WalkDir would report this as a skipped entry, but a given folder that cannot be listed is
        // an error.
        fs::read_dir(&folder).at("list", &folder)?;
        for entry in WalkDir::new(&folder).min_depth(1).max_depth(max_depth) {
            match entry {
                // A folder is left out silently, unless it has the name of a login file.
                Ok(entry) if entry.file_type().is_dir() && !is_legacy_name(entry.path()) => {}
                Ok(entry) => scan.add_or_skip_file(entry.into_path()),
                Err(e) => {
                    let io_error = e.io_error().map(ToString::to_string);
                    scan.skipped.insert(SkippedLegacyFile {
                        path: e.path().unwrap_or(&folder).to_path_buf(),
                        reason: io_error.unwrap_or_else(|| e.to_string()),
                        is_fault: true,
                    });
                }
            }
        }
    }

    Ok(scan)
}

/// Canonicalizes the folder of a path but not the last component, so that a link keeps its name.
fn canonicalize_parent(path: &Path) -> PathBuf {
    match (path.parent().map(OrdinaryPath::canonical), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}

fn is_legacy_name(path: &Path) -> bool {
    file_name_str(path).and_then(LegacyName::parse).is_some()
}

fn file_name_str(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

impl LegacyScan {
    fn add_or_skip_file(&mut self, path: PathBuf) {
        let has_legacy_name = is_legacy_name(&path);
        let reason = if has_legacy_name {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    self.files.insert(path);
                    return;
                }
                Ok(meta) if meta.is_dir() => "a folder".into(),
                Ok(_) => "not a regular file".into(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    "a broken symbolic link".into()
                }
                Err(e) => e.to_string(),
            }
        } else {
            explain_unrecognized_name(file_name_str(&path)).into()
        };

        self.skipped.insert(SkippedLegacyFile {
            path,
            reason,
            is_fault: has_legacy_name,
        });
    }
}

/// Returns the reason why a file with this name is no legacy file.
fn explain_unrecognized_name(name: Option<&str>) -> &'static str {
    match name {
        None => "a name that is not UTF-8",
        Some("auth.json") => {
            "the live login of Codex; save it with: codex-manager profile save NAME"
        }
        Some(name) if LegacyName::parse(&name.to_lowercase()).is_some() => {
            "the month or the ending _auth.json is not in lower case"
        }
        Some(_) => "not a legacy name (21apr_me@x.com_auth.json)",
    }
}

struct LegacyContent {
    stamp: FileStamp,
    /// The SHA-256 in hex.
    sha256: String,
    /// The content; `None` if it has more than [`MAX_PARSED_BYTES`].
    bytes: Option<Vec<u8>>,
}

fn read_content(path: &Path) -> Result<LegacyContent, IoError> {
    let mut file = file_open::open(path).at("open", path)?;
    let meta = file.metadata().at("read", path)?;
    let mut bytes = Vec::new();
    let mut limited = (&mut file).take(MAX_PARSED_BYTES);
    limited.read_to_end(&mut bytes).at("read", path)?;

    // A larger file holds no login, but its digest still tells whether it changes.
    let mut content = bytes.as_slice().chain(file);
    let (sha256, size) = hash::sha256_of_reader(&mut content).at("read", path)?;
    Ok(LegacyContent {
        stamp: FileStamp::of(&meta),
        sha256,
        bytes: (size <= MAX_PARSED_BYTES).then_some(bytes),
    })
}

/// Writes the login of a legacy file as an auth-only archive at `path`, with its sidecar, under the
/// lock `lock`. Returns `None` and writes nothing if the legacy file changed since it was recorded, if it has no
/// login of the account in its name, or if `path` exists.
///
/// If only the sidecar of `path` exists, it is replaced.
pub fn write_login_archive(
    record: &LegacyRecord,
    path: &Path,
    lock: &Path,
    created_at: Timestamp,
) -> Result<Option<PublishedArchive>, ArchiveError> {
    let Some((snapshot, identity)) = read_unchanged_login(record)? else {
        return Ok(None);
    };

    let (Some(sidecar_path), Ok(name)) = (
        names::sidecar_path(path),
        EntryName::from_path(Path::new(AUTH_JSON)),
    ) else {
        return Ok(None);
    };

    let backups = atomic::parent_of(path);
    atomic::create_private_folder(backups)?;
    let mut file = TempFile::create_in(backups)?;
    let archive_file = file.file().try_clone().at("write", file.path())?;
    let entry = FileEntry {
        path: name.clone(),
        size: snapshot.bytes.expose().len() as u64,
        mode: 0o600,
        mtime: record.file.mtime_ns,
        digest: None,
        stamp: InodeStamp::default(),
    };

    let (previous, name_table) = (None, Arc::default());
    let packed = pack::pack(
        archive_file,
        path,
        Compression::Default,
        previous,
        &name_table,
        |writer| {
            let added = writer.add_file(entry, &mut snapshot.bytes.expose())?;
            added.at("read", &record.source_path)?;
            let login = AccountAuth {
                path: name,
                digest: ContentDigest::of(snapshot.bytes.expose()),
                identity: Some(identity),
            };
            Ok::<_, ArchiveError>(build_login_manifest(record, login, created_at))
        },
    )?;

    // The lock protects only the new names in `backups/`, so it is taken after packing.
    let metadata = packed.to_sidecar();
    let _lock = FileLock::acquire(lock)?;
    // A file with this name already exists.
    if file.publish(path)?.is_err() {
        return Ok(None);
    }
    document::write(&sidecar_path, &metadata)?;

    Ok(Some(PublishedArchive {
        archive: path.to_path_buf(),
        sidecar: sidecar_path,
        metadata,
    }))
}

/// Returns the login of a legacy file and its account; `None` if the file changed since it was recorded, or holds no
/// login of the account in its name.
fn read_unchanged_login(
    record: &LegacyRecord,
) -> Result<Option<(AuthSnapshot, Identity)>, IoError> {
    let LegacyContent { sha256, bytes, .. } = read_content(Path::new(&record.source_path))?;
    let snapshot = bytes.and_then(|bytes| AuthSnapshot::parse(bytes).ok());
    let email = record.metadata.email.as_deref().map(Email::new);

    if sha256 == record.sha256
        && let Some(snapshot) = snapshot
        && let Some(login) = &snapshot.login
        && Some(&login.identity.email) == email.as_ref()
    {
        let identity = login.identity.clone();
        return Ok(Some((snapshot, identity)));
    }
    Ok(None)
}

/// Returns the manifest of an archive that holds only the login of `record`.
fn build_login_manifest(
    record: &LegacyRecord,
    login: AccountAuth,
    created_at: Timestamp,
) -> ArchiveManifest {
    ArchiveManifest {
        metadata: Metadata {
            captured_files: vec![AUTH_JSON.into()],
            created_at,
            ..record.metadata.clone()
        },
        account_auth: Some(login),
        // Only the login: a restore must not remove config.toml or rules.
        partial: true,
        ..ArchiveManifest::default()
    }
}

/// Returns the account of a login, or the reason why there is none.
fn parse_login_account(bytes: Option<Vec<u8>>) -> Result<Identity, String> {
    let bytes = bytes.ok_or_else(|| "too large for an auth.json".to_owned())?;
    let snapshot = AuthSnapshot::parse(bytes).map_err(|(_, reason)| reason)?;
    let login = snapshot.login.ok_or_else(|| "no login in it".to_owned())?;
    Ok(login.identity)
}

/// Reads a legacy file. The record has no archive name yet; [`merge_records`] sets it. Returns `None` if the file does
/// not have a legacy name.
///
/// # Errors
/// The file cannot be read.
pub fn read_record(
    path: &Path,
    options: &LegacyOptions,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<Option<LegacyRecord>, IoError> {
    let Some(filename) = file_name_str(path) else {
        return Ok(None);
    };
    let Some(legacy_name) = LegacyName::parse(filename) else {
        return Ok(None);
    };

    let LegacyContent {
        stamp,
        sha256,
        bytes,
    } = read_content(path)?;
    let inference = legacy::infer_quota(&legacy_name, &stamp.modified_at(), options, now, zone);

    // A file may be misnamed: a login of another account is never recorded under this one.
    let login = parse_login_account(bytes);
    let (identity, problem) = match &login {
        Ok(identity) if identity.email == Email::new(legacy_name.email) => (Some(identity), None),
        Ok(identity) => (None, Some(format!("holds a login of {identity}"))),
        Err(reason) => (None, Some(reason.clone())),
    };

    let observation =
        legacy::exhausted_observation(inference.quota_end_detected_at, inference.next_available_at);
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Some(LegacyRecord {
        source_path: path.to_string_lossy().into_owned(),
        file: stamp,
        sha256,
        archive_name: String::new(),
        metadata: Metadata {
            email: Some(legacy_name.email.to_owned()),
            account_id: identity.and_then(|i| i.account_id.clone()),
            user_id: identity.and_then(|i| i.user_id.clone()),
            session_start_at: Some(inference.session_start_at),
            next_available_at: Some(inference.next_available_at),
            reset_at: Some(inference.next_available_at),
            quota_end_detected_at: Some(inference.quota_end_detected_at),
            inferred_session_duration_seconds: Some(options.session_duration.num_seconds()),
            inference_basis: INFERENCE_BASIS.into(),
            legacy_auth_filename: Some(filename.to_owned()),
            legacy_quota_day_token: Some(legacy_name.date.to_owned()),
            legacy_year: Some(inference.legacy_year),
            validation_status: Some(inference.validation),
            source_codex_home: folder.to_string_lossy().into_owned(),
            created_at: zone.at(now),
            status_source: observation.source.name().into(),
            windows: observation.windows,
            mode: BackupMode::Auth,
            ..Metadata::default()
        },
        problem,
    }))
}

/// The result of [`merge_records`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LegacyMerge {
    /// All records of this run with their archive names, in the given order.
    pub records: Vec<LegacyRecord>,
    pub added: usize,
    /// The number of known records that changed.
    pub updated: usize,
    /// The number of known records without a change.
    pub unchanged: usize,
}

/// Merges `records` into the inventory. An unchanged file keeps its record, so a second run changes
/// nothing.
///
/// A known file keeps its archive name if the name fits the account and the start of the session. Any other file gets a
/// new name. No other legacy record has this name, and `is_taken` returns false for it.
pub fn merge_records(
    inventory: &mut InventoryFile,
    records: Vec<LegacyRecord>,
    is_taken: impl Fn(&LegacyRecord, &str) -> bool,
) -> LegacyMerge {
    let mut merged = LegacyMerge::default();
    let positions: HashMap<String, usize> = inventory
        .legacy
        .iter()
        .enumerate()
        .map(|(index, record)| (record.source_path.clone(), index))
        .collect();

    // Compared in lower case, because some file systems ignore case.
    let known_records = inventory.legacy.iter();
    let known_names = known_records.map(|record| record.archive_name.to_lowercase());
    let mut used_names: HashSet<String> = known_names.collect();

    for mut record in records {
        let known_position = positions.get(&record.source_path).copied();
        let stem = build_archive_stem(&record);
        let known_name = known_position.map(|index| inventory.legacy[index].archive_name.clone());
        let fitting_name = known_name.filter(|name| is_archive_name_of(&stem, name));
        record.archive_name = fitting_name.unwrap_or_else(|| {
            let is_free = |name: &String| {
                !used_names.contains(&name.to_lowercase()) && !is_taken(&record, name)
            };
            let mut numbered_names = (1..).map(|number| names::archive_name(&stem, number));
            // The numbers do not end, so one is free.
            numbered_names.find(is_free).unwrap_or_default()
        });
        used_names.insert(record.archive_name.to_lowercase());

        match known_position {
            Some(index) if is_same_except_creation(&inventory.legacy[index], &record) => {
                record.clone_from(&inventory.legacy[index]);
                merged.unchanged += 1;
            }
            Some(index) => {
                inventory.legacy[index].clone_from(&record);
                merged.updated += 1;
            }
            None => {
                inventory.legacy.push(record.clone());
                merged.added += 1;
            }
        }

        merged.records.push(record);
    }

    let all_records = &mut inventory.legacy;
    all_records.sort_by(|a, b| a.source_path.cmp(&b.source_path));
    merged
}

fn build_archive_stem(record: &LegacyRecord) -> String {
    let metadata = &record.metadata;
    names::stem(
        &metadata.session_start_at.unwrap_or(metadata.created_at),
        metadata.email.as_deref().unwrap_or(names::SIGNED_OUT),
    )
}

/// Returns true if `name` is the archive name of `stem`, with or without a number.
fn is_archive_name_of(stem: &str, name: &str) -> bool {
    let after_stem = name.strip_prefix(stem);
    let Some(suffix) = after_stem.and_then(|text| text.strip_suffix(names::ARCHIVE_SUFFIX)) else {
        return false;
    };
    let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    suffix.is_empty() || suffix.strip_prefix('-').is_some_and(is_number)
}

/// Returns true if two records are equal except for the time and version of their creation, and imply the same end of
/// quota.
fn is_same_except_creation(a: &LegacyRecord, b: &LegacyRecord) -> bool {
    let without_creation = |record: &LegacyRecord| {
        let mut record = record.clone();
        record.metadata.created_at = DateTime::default();
        record.metadata.manager_version.clear();
        record
    };
    without_creation(a) == without_creation(b)
        && implies_quota_end(&a.metadata) == implies_quota_end(&b.metadata)
}
