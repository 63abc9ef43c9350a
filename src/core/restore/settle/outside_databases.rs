//! Decides the folder of each restored database: in the home, or the folder outside of it that Codex uses.

use crate::archive::{ArchiveError, EntryName};
use crate::codex::threads::staged;
use crate::codex::{CodexConfig, DatabaseError, config, database, home};
use crate::history::rollout::resolve_in_session_folders;
use crate::io::{
    Environment, IoContext, IoError, OrdinaryPath, atomic, links, sharing, space, tree,
};
use crate::journal::{self, Transaction};
use crate::restore::error::RestoreError;
use crate::restore::plan::request::{RestoreRequest, RestoreTarget};
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::stage::staged_home::Stage;
use crate::restore::stage::workspace::Workspace;
use std::io;
use std::path::{Path, PathBuf};

/// The databases outside of the home that a restore replaces or removes.
#[derive(Debug, Default)]
pub(crate) struct OutsideDatabases {
    /// The folder of Codex's databases, if it is outside of the home.
    pub(crate) sqlite_home: Option<PathBuf>,
    /// True once the staging folder in that folder exists.
    is_staged: bool,
    /// The archived databases that are restored to that folder, with their staged paths.
    pub(crate) restored_files: Vec<(EntryName, PathBuf)>,
    /// The live databases in that folder that are removed.
    pub(crate) removed_paths: Vec<PathBuf>,
}

impl OutsideDatabases {
    /// Returns [`Self::sqlite_home`] and the staging folder in it; `None` as long as the staging folder does not exist.
    pub(crate) fn live_and_staging_folder(&self) -> Option<(&Path, PathBuf)> {
        if !self.is_staged {
            return None;
        }
        let folder = self.sqlite_home.as_deref()?;
        Some((folder, journal::staging_folder_within(folder)))
    }

    /// Returns the staging folder in `folder`, which is outside of the home. The first call creates both folders and
    /// adds the staging folder to the transaction.
    pub(crate) fn prepare_staging_in(
        &mut self,
        folder: &Path,
        transaction: &mut Transaction,
    ) -> Result<PathBuf, RestoreError> {
        let staging_folder = journal::staging_folder_within(folder);
        if !self.is_staged {
            atomic::create_unsynced_folder(folder)?;
            transaction.add_folder(&staging_folder)?;
            self.is_staged = true;
        }
        Ok(staging_folder)
    }
}

/// Moves the staged databases to the folder in which Codex will look for them: a folder outside of the home, if the
/// settings or the environment name one, or the home. For `--to`, keeps them in the target folder, and removes
/// `sqlite_home` from the restored config.toml.
///
/// # Errors
/// The home does not use the outside folder yet and the request does not allow it, another home uses the folder, or its
/// disk has too little space.
pub(crate) fn move_databases(work: &mut Workspace<'_>) -> Result<OutsideDatabases, RestoreError> {
    let (request, plan, stage) = (work.request, &mut work.plan, &work.stage);
    let transaction = &mut work.transaction;
    let mut outside = OutsideDatabases::default();
    let were_outside = plan.has_outside_databases();

    let config = stage.read_settings();
    if plan.target == RestoreTarget::Elsewhere {
        keep_databases_inside(request, stage, &config, &mut work.notes)?;
    } else {
        outside.sqlite_home = find_outside_folder(&config, &stage.home().live, request.env);
    }

    let Some(folder) = outside.sqlite_home.clone() else {
        if were_outside {
            move_outside_into_home(plan, stage)?;
        }
        return Ok(outside);
    };

    let databases = stage.database_files(plan).into_iter();
    let databases: Vec<_> = databases
        .filter(|(_, path)| database::may_be_sqlite(path))
        // A Codex that used databases outside of the archived home did not use the databases in the home.
        .filter(|(name, _)| !were_outside || name.is_manager_name())
        .collect();
    if databases.is_empty() {
        return Ok(outside);
    }

    check_home_uses_folder(&folder, &stage.home().live, request)?;
    // In a shared folder, the restore would replace the rows of the other home as well.
    if is_shared_folder(&folder, &stage.home().live, transaction.folder())? {
        return Err(RestoreError::SharedDatabases(folder));
    }
    check_space(&folder, transaction.folder(), &databases)?;

    let staging = outside.prepare_staging_in(&folder, transaction)?;
    for (name, path) in databases {
        let staged = staging.join(name.as_path().file_name().unwrap_or_default());
        move_file(&path, &staged)?;
        plan.drop_write(&name);
        outside.restored_files.push((name, staged));
    }

    Ok(outside)
}

/// Removes `sqlite_home` from the restored config.toml of `--to`, because the databases are restored into the target
/// folder. Adds a note about this, and about `CODEX_SQLITE_HOME`, which would have the same effect as the setting.
fn keep_databases_inside(
    request: &RestoreRequest<'_>,
    stage: &Stage,
    config: &CodexConfig,
    notes: &mut Vec<String>,
) -> Result<(), RestoreError> {
    if request.env.get("CODEX_SQLITE_HOME").is_some() {
        notes.push(
            "CODEX_SQLITE_HOME is set: unset it before you use the restored folder, or Codex uses the databases in \
             CODEX_SQLITE_HOME and continues the conversations of the old home"
                .into(),
        );
    }

    let staged_config = stage.home().staged.join(home::CONFIG_TOML);
    let is_outside = find_outside_folder(config, &stage.home().live, request.env).is_some();
    if config.sqlite_home.is_some() && is_outside && staged_config.exists() {
        remove_sqlite_home_setting(&staged_config)?;
        notes.push(
            "removed sqlite_home from config.toml: the databases are in the folder itself".into(),
        );
    }

    Ok(())
}

/// Prevents the settings in an archive from choosing a folder to write to: fails if neither the live config.toml nor
/// the environment names `folder`. A request may allow any folder.
fn check_home_uses_folder(
    folder: &Path,
    home: &Path,
    request: &RestoreRequest<'_>,
) -> Result<(), RestoreError> {
    // The default configuration shows the folder that the environment names.
    let is_in_use = [CodexConfig::read(home), CodexConfig::default()]
        .iter()
        .filter_map(|config| config.database_folder(home, request.env))
        .any(|path| links::resolve_links(&path) == folder);

    if is_in_use || request.may_write_outside {
        Ok(())
    } else {
        Err(RestoreError::OutsideDatabases(folder.to_path_buf()))
    }
}

/// Fails if `folder` is on another disk than `staging` and that disk has too little space for these databases. This
/// check is late because only the restored settings may name the folder.
fn check_space(
    folder: &Path,
    staging: &Path,
    databases: &[(EntryName, PathBuf)],
) -> Result<(), ArchiveError> {
    let mut existing_folders = folder.ancestors().filter(|path| path.is_dir());
    let nearest_folder = existing_folders.next().unwrap_or(folder);
    if space::is_same_file_system(nearest_folder, staging) {
        return Ok(());
    }

    let files = databases.iter().filter_map(|(_, p)| p.metadata().ok());
    let needed_bytes = files.map(|meta| meta.len()).sum();
    Ok(space::require_free_space(nearest_folder, needed_bytes)?)
}

/// Returns the folder of the databases by `config` or the environment, if it is outside of the home.
fn find_outside_folder(config: &CodexConfig, home: &Path, env: &Environment) -> Option<PathBuf> {
    let folder = links::resolve_links(&config.database_folder(home, env)?);
    Some(folder).filter(|folder| !folder.starts_with(links::resolve_links(home)))
}

/// Returns true if another home uses the databases in `folder`: the folder is a home itself, or a state database in it
/// has rows of conversations in another home. Copies each database to `scratch` to read the rows in its `-wal` too.
fn is_shared_folder(folder: &Path, home: &Path, scratch: &Path) -> Result<bool, RestoreError> {
    let home_markers = [home::AUTH_JSON, home::CONFIG_TOML, home::SESSIONS];
    if home_markers.iter().any(|name| folder.join(name).exists()) {
        return Ok(true);
    }

    let copy = scratch.join("shared.sqlite");
    for (name, _) in tree::list_if_exists(folder)? {
        let path = folder.join(name);
        let is_state = home::is_database_named(&path, home::STATE_DATABASE_PREFIX);
        if !is_state || !database::may_be_sqlite(&path) {
            continue;
        }

        let snapshot = database::write_snapshot(&path, &copy);
        let is_foreign = match snapshot {
            Ok(()) => has_foreign_rows(&staged::read_rollout_paths(&copy)?, home),
            // In a damaged database, the readable rows decide.
            Err(DatabaseError::Damaged { .. }) => {
                staged::read_rollout_paths(&path).is_ok_and(|rows| has_foreign_rows(&rows, home))
            }
            Err(e) => return Err(e.into()),
        };

        tree::remove(&copy)?;
        if is_foreign {
            return Ok(true);
        }
    }

    Ok(false)
}

/// Moves the staged databases that were outside of the archived home into the staged home.
fn move_outside_into_home(plan: &mut RestorePlan, stage: &Stage) -> Result<(), RestoreError> {
    let names = plan.writes.iter().filter(EntryName::is_manager_name);
    let names: Vec<_> = names.collect();
    for name in names {
        let file_name = name.as_path().file_name().unwrap_or_default();
        let staged = stage.staged_path(name.as_path());
        let staged_inside = stage.staged_path(Path::new(file_name));

        // The archived home may also have an older database of the same name, which Codex did not use.
        if staged_inside.symlink_metadata().is_ok() {
            tree::remove(&staged_inside)?;
        }

        move_file(&staged, &staged_inside)?;
        plan.writes.remove(name.as_path());
        if let Ok(inside_name) = EntryName::from_path(Path::new(file_name)) {
            if !stage.home().live.join(inside_name.as_path()).exists() {
                plan.added.insert(&inside_name);
            }
            plan.writes.insert(&inside_name);
            // The home may have the `-wal` of another database of this name.
            plan.remove_sidecars_of(&inside_name);
        }
    }

    Ok(())
}

/// Returns true if any of these rows of a state database belongs to a conversation outside of `home`. A row is an id
/// and the path of a rollout.
fn has_foreign_rows(rows: &[(String, String)], home: &Path) -> bool {
    rows.iter().any(|(_, path)| {
        let path = Path::new(path);
        // Codex writes the path as the user spelled the home, possibly through a link, or the resolved path below a
        // linked `sessions/`.
        let real_path = path.canonical_or_self();
        let is_below_home = path.starts_with(home) || real_path.starts_with(home);
        path.is_absolute() && !is_below_home && resolve_in_session_folders(home, path).is_none()
    })
}

/// Removes `sqlite_home` from a staged config.toml and keeps the rest of the text.
fn remove_sqlite_home_setting(path: &Path) -> Result<(), IoError> {
    let text = config::read_config_text(path).at("read", path)?;
    if let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() {
        document.remove("sqlite_home");
        atomic::write(path, document.to_string().as_bytes())?;
    }
    Ok(())
}

/// Moves a staged file; copies it if the paths are on different file systems.
fn move_file(from: &Path, to: &Path) -> Result<(), IoError> {
    match sharing::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            links::copy_file(from, to)?;
            sharing::remove_file(from).at("remove", from)
        }
        other => other.at("move", from),
    }
}
