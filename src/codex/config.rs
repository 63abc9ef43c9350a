//! The few keys of Codex's `config.toml` that decide where things are.

use crate::io::environment::Environment;
use std::path::{Path, PathBuf};

/// Where Codex keeps a login (`cli_auth_credentials_store`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialStore {
    /// auth.json. Codex's default.
    #[default]
    File,
    /// The system's keyring; auth.json is deleted on save.
    Keyring,
    /// The keyring where there is one, else auth.json.
    Auto,
    /// Memory alone.
    Ephemeral,
}

impl CredentialStore {
    /// The name that the configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Keyring => "keyring",
            Self::Auto => "auto",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// Whether Codex surely reads auth.json.
    pub fn reads_auth_json(self) -> bool {
        self == Self::File
    }
}

/// What the configuration of a home says.
#[derive(Debug, Clone)]
pub struct CodexConfig {
    /// Where logins are kept.
    pub store: CredentialStore,
    /// `sqlite_home`: where the databases are, if not in the home.
    pub sqlite_home: Option<PathBuf>,
    /// The provider of models, where one is named.
    pub model_provider: Option<String>,
    /// `[history].max_bytes`, or why there is no limit although something is set.
    pub history_max_bytes: Result<Option<u64>, String>,
    /// Why the file could not be understood, if so; the defaults stand in.
    pub problem: Option<String>,
}

impl Default for CodexConfig {
    fn default() -> Self {
        Self {
            store: CredentialStore::default(),
            sqlite_home: None,
            model_provider: None,
            history_max_bytes: Ok(None),
            problem: None,
        }
    }
}

impl CodexConfig {
    /// The folder that Codex looks for databases in, where it is told one: `sqlite_home` of this
    /// configuration of `home`, else `CODEX_SQLITE_HOME`. It may be the home itself.
    pub fn databases(&self, home: &Path, env: &Environment) -> Option<PathBuf> {
        let configured = self.sqlite_home.as_deref();
        configured
            .or_else(|| env.get("CODEX_SQLITE_HOME").map(Path::new))
            .map(|folder| home.join(env.absolute(folder)))
    }

    /// Reads `config.toml` of `home`. A missing file is the default; a broken one is too, with the
    /// problem named (Codex itself would not start with it).
    pub fn read(home: &Path) -> Self {
        let path = home.join("config.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(e) => {
                return Self {
                    problem: Some(e.to_string()),
                    ..Self::default()
                };
            }
        };
        match text.parse::<toml_edit::DocumentMut>() {
            Err(e) => Self {
                problem: Some(e.message().to_owned()),
                ..Self::default()
            },
            Ok(document) => Self {
                store: match document
                    .get("cli_auth_credentials_store")
                    .and_then(|i| i.as_str())
                {
                    Some("keyring") => CredentialStore::Keyring,
                    Some("auto") => CredentialStore::Auto,
                    Some("ephemeral") => CredentialStore::Ephemeral,
                    _ => CredentialStore::File,
                },
                sqlite_home: document
                    .get("sqlite_home")
                    .and_then(|i| i.as_str())
                    .filter(|s| !s.is_empty())
                    .map(PathBuf::from),
                model_provider: document
                    .get("model_provider")
                    .and_then(|i| i.as_str())
                    .map(str::to_owned),
                history_max_bytes: history_max_bytes(&document),
                problem: None,
            },
        }
    }
}

fn history_max_bytes(document: &toml_edit::DocumentMut) -> Result<Option<u64>, String> {
    let set = document.get("history").and_then(|t| t.get("max_bytes"));
    let Some(set) = set else { return Ok(None) };
    let limit = set.as_integer().and_then(|n| u64::try_from(n).ok());
    match limit.filter(|n| *n > 0) {
        Some(limit) => Ok(Some(limit)),
        None => Err(format!(
            "history.max_bytes is no positive whole number: {}",
            set.to_string().trim()
        )),
    }
}
