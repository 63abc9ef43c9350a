//! Reads the logins that other account switchers keep. Never changes the files of these programs.
//!
//! The layouts are those of their sources:
//! - `Loongphy/codex-auth` 23a75f1: `src/registry/common.zig`
//! - `farion1231/cc-switch` 5ca9459: `src-tauri/src/database/schema.rs`, `app_config.rs`
//! - `Dicklesworthstone/coding_agent_account_manager` 1589a72: `internal/authfile/authfile.go`,
//!   `internal/profile/profile.go`
//! - `xjoker/codex-switch` c6a2567: `src/auth.rs`

use crate::codex::connection::{self, Access};
use crate::codex::{AUTH_JSON, AuthFile};
use crate::io::{Environment, IoError, file_open, tree};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A program that switches accounts of Codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switcher {
    /// The program codex-auth of Loongphy.
    CodexAuth,
    /// The app cc-switch; keys of other providers are left out.
    CcSwitch,
    /// The coding agent account manager.
    Caam,
    /// The program codex-switch of xjoker.
    CodexSwitch,
}

#[derive(Debug)]
pub struct SwitcherLogin {
    /// The name of the login in the switcher; empty if the login has no name there.
    pub name: String,
    pub auth: AuthFile,
    pub path: PathBuf,
    /// The Codex home whose auth.json is this file, if the switcher runs Codex in such a home.
    pub home: Option<PathBuf>,
}

/// The reason why the logins of a switcher cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SwitcherError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot read the database: {}", path.display())]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("not a list of providers ({reason}): {}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

impl Switcher {
    /// Returns the folder in which the switcher keeps its logins by default.
    pub fn default_folder(self, codex_home: &Path, env: &Environment) -> Option<PathBuf> {
        let below_home = |name: &str| env.home_dir.as_ref().map(|home| home.join(name));
        let below_variable = |name: &str, folder| Some(PathBuf::from(env.get(name)?).join(folder));
        match self {
            Self::CodexAuth => Some(codex_home.join("accounts")),
            Self::CcSwitch => below_home(".cc-switch"),
            Self::Caam => below_variable("CAAM_HOME", "data")
                .or_else(|| below_variable("XDG_DATA_HOME", "caam"))
                .or_else(|| below_home(".local/share/caam")),
            Self::CodexSwitch => below_home(".codex-switch"),
        }
    }

    /// Reads the logins in a folder of the switcher, sorted by name. Empty if there is no such folder.
    ///
    /// # Errors
    /// A list of the switcher cannot be read. An unreadable login is an [`AuthFile::Unreadable`].
    pub fn read_logins(self, folder: &Path) -> Result<Vec<SwitcherLogin>, SwitcherError> {
        let no_subdir = None;
        let mut logins = match self {
            Self::CodexAuth => read_codex_auth(folder)?,
            Self::CcSwitch => read_cc_switch(folder)?,
            Self::Caam => {
                let mut caam_logins = read_folders(&folder.join("vault/codex"), no_subdir)?;
                // Names with `_` are copies that caam makes by itself.
                caam_logins.retain(|login| !login.name.starts_with('_'));
                let profiles = folder.join("profiles/codex");
                caam_logins.extend(read_folders(&profiles, Some("codex_home"))?);
                caam_logins
            }
            Self::CodexSwitch => read_folders(&folder.join("profiles"), no_subdir)?,
        };

        logins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(logins)
    }
}

/// Reads `<name>/auth.json` for each name in `folder`. With `subdir`, reads `<name>/<subdir>/auth.json`, the file of a
/// Codex home.
fn read_folders(folder: &Path, subdir: Option<&str>) -> Result<Vec<SwitcherLogin>, SwitcherError> {
    let mut logins = Vec::new();
    for (name, _) in tree::list_if_exists(folder)? {
        let login_folder = folder.join(&name);
        let home = subdir.map(|subdir| login_folder.join(subdir));
        let path = home.as_ref().unwrap_or(&login_folder).join(AUTH_JSON);
        logins.push(SwitcherLogin {
            name: name.to_string_lossy().into_owned(),
            auth: read_auth(&path),
            path,
            home,
        });
    }

    logins.retain(|login| !matches!(login.auth, AuthFile::Missing));
    Ok(logins)
}

fn read_auth(path: &Path) -> AuthFile {
    AuthFile::read(path).unwrap_or_else(|e| AuthFile::from_read_error(&e))
}

/// Reads `<key>.auth.json`, and the names of the logins from `registry.json`.
fn read_codex_auth(folder: &Path) -> Result<Vec<SwitcherLogin>, SwitcherError> {
    let registry = file_open::read(folder.join("registry.json")).unwrap_or_default();
    // Without a registry the logins have no names.
    let registry: Value = serde_json::from_slice(&registry).unwrap_or_default();

    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let accounts = registry["accounts"].as_array().into_iter().flatten();
    let names_by_stem: HashMap<String, &str> = accounts
        .filter_map(|account| {
            let key = account["account_key"].as_str()?;
            // codex-auth encodes a key with characters that it does not use in file names.
            let file_stem = if key.chars().all(is_safe) {
                key.to_owned()
            } else {
                URL_SAFE_NO_PAD.encode(key)
            };
            Some((file_stem, account["alias"].as_str()?))
        })
        .collect();

    let mut logins = Vec::new();
    for (name, _) in tree::list_if_exists(folder)? {
        let file_name = name.to_string_lossy();
        if let Some(file_stem) = file_name.strip_suffix(".auth.json") {
            let login_name = names_by_stem.get(file_stem).copied().unwrap_or_default();
            logins.push(SwitcherLogin {
                name: login_name.to_owned(),
                auth: read_auth(&folder.join(&name)),
                path: folder.join(&name),
                home: None,
            });
        }
    }

    Ok(logins)
}

/// Reads the providers of Codex in `cc-switch.db`, or in the `config.json` of versions before 3.8.
fn read_cc_switch(folder: &Path) -> Result<Vec<SwitcherLogin>, SwitcherError> {
    let mut path = folder.join("cc-switch.db");
    let providers = if path.exists() {
        query_names_and_settings(&path).map_err(|source| SwitcherError::Database {
            path: path.clone(),
            source,
        })?
    } else {
        path = folder.join("config.json");
        read_names_and_settings(&path)?
    };

    let mut logins = Vec::new();
    for (name, settings) in providers {
        let auth = &settings["auth"];
        // Without tokens, `auth` is empty or has the key of another provider.
        if auth["tokens"].is_object() {
            let bytes = serde_json::to_vec_pretty(auth).unwrap_or_default();
            logins.push(SwitcherLogin {
                name,
                auth: AuthFile::parse(bytes),
                path: path.clone(),
                home: None,
            });
        }
    }

    Ok(logins)
}

fn read_names_and_settings(path: &Path) -> Result<Vec<(String, Value)>, SwitcherError> {
    let Some(bytes) = file_open::read_if_exists(path)? else {
        return Ok(Vec::new());
    };
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| SwitcherError::Damaged {
        path: path.to_path_buf(),
        reason: e.to_string(),
    })?;

    let providers = config["codex"]["providers"].as_object();
    let read_name = |provider: &Value| provider["name"].as_str().unwrap_or_default().to_owned();
    Ok(providers
        .into_iter()
        .flatten()
        .map(|(_, p)| (read_name(p), p["settingsConfig"].clone()))
        .collect())
}

fn query_names_and_settings(path: &Path) -> rusqlite::Result<Vec<(String, Value)>> {
    // Without `ReadInPlace`, SQLite could create a `-shm` file beside the database of the other program.
    let database = connection::open(path, Access::ReadInPlace)?;

    let sql = "SELECT name, settings_config FROM providers WHERE app_type = 'codex'";
    let mut query = database.prepare(sql)?;
    let rows = query.query_map([], |row| {
        let settings: String = row.get(1)?;
        // Settings that are not JSON have no login.
        let settings = serde_json::from_str(&settings).unwrap_or_default();
        Ok((row.get(0)?, settings))
    })?;
    rows.collect()
}
