//! Checks of Codex's databases.

use super::archives::has_archive;
use super::check::Check;
use crate::context::Context;
use codex_manager_core::codex::config::CodexConfig;
use codex_manager_core::codex::database::DatabaseError;
use codex_manager_core::codex::{database_view, home};
use codex_manager_core::inventory::remedies;
use codex_manager_core::io::file_open;
use codex_manager_core::io::quantity::pluralize;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The table with the completed migrations. Codex runs all migrations on a database without this table.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// Tables that the migrations create. Codex 0.169 does not start if a migrated database lacks one of them, because a
/// completed migration does not run again. It also does not start if they exist without [`MIGRATIONS_TABLE`], because
/// the migrations run again and cannot create existing tables.
const MIGRATED_TABLES: [&str; 2] = ["threads", "backfill_state"];

/// A fault of a database file, with its description.
enum DatabaseFault {
    /// The file cannot be read or is not a complete database. Codex moves it aside and creates a new one.
    Damaged(String),
    /// Codex does not start, and does not move the file aside.
    Blocking(String),
}

pub(super) fn run_checks(context: &Context, config: &CodexConfig) -> Vec<Check> {
    const ID: &str = "home.databases";
    let files = find_database_files(context, config);
    let faults = files
        .iter()
        .filter_map(|path| Some((path, find_fault(path)?)));
    let faults: Vec<_> = faults.collect();

    if faults.is_empty() {
        let message = match files.len() {
            0 => "there are no databases yet".to_owned(),
            n => format!("{} checked", pluralize(n, "database")),
        };
        return vec![Check::ok(ID, message)];
    }

    let to_check = |(path, fault): (&PathBuf, DatabaseFault)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (DatabaseFault::Damaged(description) | DatabaseFault::Blocking(description)) = &fault;
        let check = Check::fail(ID, format!("{description}: {}", path.display()))
            .because("Codex does not start, or loses its list of conversations");
        match fault {
            // Codex creates the database again from the conversations.
            DatabaseFault::Blocking(_) => check.fixed_by(remedies::format_rename_aside_command(path)),
            // The advice names no archive: all archives would have to be read to find an intact copy.
            DatabaseFault::Damaged(_) if has_archive(context) => check.advised(format!(
                "start codex, which moves it aside and creates a new one; or restore it from an older archive: codex-manager restore ARCHIVE --only {name}"
            )),
            DatabaseFault::Damaged(_) => {
                check.advised("start codex, which moves it aside and creates a new one")
            }
        }
    };

    faults.into_iter().map(to_check).collect()
}

/// Returns the paths of all databases in the home, in its folder `sqlite` and in the configured folder, sorted.
fn find_database_files(context: &Context, config: &CodexConfig) -> Vec<PathBuf> {
    let home = context.codex_home();
    let mut folders = vec![home.to_path_buf(), home.join("sqlite")];
    folders.extend(config.database_folder(home, &context.env));
    folders.sort();
    folders.dedup();

    let mut database_files: Vec<_> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "sqlite") && !path.is_dir())
        .collect();
    database_files.sort();
    database_files
}

/// Returns the fault of a database file that its length, its header or its list of tables shows.
fn find_fault(path: &Path) -> Option<DatabaseFault> {
    // The header up to the page size.
    let mut header = [0; 18];
    let file_len = file_open::open(path).and_then(|mut file| {
        let bytes = file.metadata()?.len();
        // SQLite treats an empty file as an empty database.
        if bytes > 0 {
            file.read_exact(&mut header)?;
        }
        Ok(bytes)
    });

    let truncated_fault = || Some(DatabaseFault::Damaged("truncated".to_owned()));
    match file_len {
        Ok(0) => None,
        Ok(bytes) if is_truncated(header, bytes) => truncated_fault(),
        Ok(_) => find_schema_fault(path),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => truncated_fault(),
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
            Some(DatabaseFault::Blocking("not a regular file".to_owned()))
        }
        Err(_) => Some(DatabaseFault::Damaged("not readable".to_owned())),
    }
}

/// Returns true if the length of a database, in bytes, is no multiple of the page size in its header. SQLite opens such
/// a file if the missing pages are not those of the schema.
fn is_truncated(header: [u8; 18], file_len: u64) -> bool {
    // The page size is in the bytes 16 and 17.
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        // The largest page does not fit in two bytes, so SQLite writes 1 for it.
        1 => 65_536,
        size => u64::from(size),
    };
    header.starts_with(b"SQLite format 3\0") && page_size > 0 && !file_len.is_multiple_of(page_size)
}

/// Returns the fault in the schema of a database. Reads the schema with the changes in the `-wal`, as Codex does at its
/// start.
fn find_schema_fault(path: &Path) -> Option<DatabaseFault> {
    match database_view::read_table_names(path) {
        Ok(tables) if home::is_database_named(path, home::STATE_DATABASE_PREFIX) => {
            let missing = find_missing_table(&tables)?;
            Some(DatabaseFault::Blocking(format!(
                "lacks the table {missing}"
            )))
        }
        Err(DatabaseError::Damaged { detail, .. }) => Some(DatabaseFault::Damaged(detail)),
        Err(DatabaseError::NotOfCodex { reason, .. }) => Some(DatabaseFault::Blocking(reason)),
        // Only the state database has these tables. A lock or a full disk proves nothing about the database.
        Ok(_) | Err(DatabaseError::Sqlite { .. }) => None,
    }
}

/// Returns a table that Codex needs to start and that is not among `tables`, the tables of a state database.
fn find_missing_table(tables: &[String]) -> Option<&'static str> {
    let has_table = |table: &str| tables.iter().any(|name| name == table);
    if has_table(MIGRATIONS_TABLE) {
        MIGRATED_TABLES.into_iter().find(|table| !has_table(table))
    } else if MIGRATED_TABLES.into_iter().any(has_table) {
        Some(MIGRATIONS_TABLE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each answer is that of Codex 0.169.
    #[test]
    fn a_state_database_needs_the_tables_that_migrations_rely_on() {
        let missing = |tables: &[&str]| {
            let tables: Vec<_> = tables.iter().map(|&table| table.to_owned()).collect();
            find_missing_table(&tables)
        };
        let [threads, backfill] = MIGRATED_TABLES;
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&["of another program"]), None);
        assert_eq!(missing(&[threads, MIGRATIONS_TABLE, backfill]), None);
        assert_eq!(missing(&[MIGRATIONS_TABLE, backfill]), Some(threads));
        assert_eq!(missing(&[threads, MIGRATIONS_TABLE]), Some(backfill));
        assert_eq!(missing(&[threads, backfill]), Some(MIGRATIONS_TABLE));
        assert_eq!(missing(&[threads]), Some(MIGRATIONS_TABLE));
    }

    #[test]
    fn a_truncated_database_is_found_by_its_length() {
        let mut head = *b"SQLite format 3\0\x10\0";
        assert!(!is_truncated(head, 8192));
        assert!(is_truncated(head, 8191));
        head[16..].copy_from_slice(&1_u16.to_be_bytes());
        assert!(!is_truncated(head, 65_536));
        assert!(!is_truncated([0; 18], 4096));
    }
}
