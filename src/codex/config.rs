//! The few keys of Codex's `config.toml` that decide where things are.

use super::auth::AuthFile;
use super::home::AUTH_JSON;
use crate::io::IoError;
use crate::io::environment::Environment;
use crate::io::file_open;
use std::path::{Path, PathBuf};

/// The key that says where Codex keeps a login.
pub const STORE_KEY: &str = "cli_auth_credentials_store";

/// No settings take more. What is larger is a file like any other: parsed it would take many times its
/// size of memory.
const MAX_BYTES: u64 = 1024 * 1024;

/// The text of a `config.toml`.
///
/// # Errors
/// It cannot be read, is no text, or is larger than settings are.
pub fn read_text(path: &Path) -> std::io::Result<String> {
    file_open::read_small_to_string(path, MAX_BYTES)
}

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

    /// That of a home. A configuration that is not spelled out or cannot be read is the default's.
    pub fn of(home: &Path) -> Self {
        let text = read_text(&home.join("config.toml"));
        // Most name no store, and prompts wait for the answer.
        if text.is_ok_and(|text| text.contains(STORE_KEY)) {
            CodexConfig::read(home).store
        } else {
            Self::File
        }
    }
}

/// The auth.json by which a home is signed in: none where Codex keeps its login elsewhere, or may do so,
/// and what lies there does not say who is.
///
/// # Errors
/// See [`AuthFile::read`].
pub fn read_login(home: &Path) -> Result<AuthFile, IoError> {
    let auth = AuthFile::read(&home.join(AUTH_JSON))?;
    Ok(if CredentialStore::of(home).reads_auth_json() {
        auth
    } else {
        AuthFile::Missing
    })
}

/// The settings by which a Codex reaches its servers, and what it tells them of itself.
const SERVER_KEYS: [&str; 9] = [
    "chatgpt_base_url",
    "openai_base_url",
    "model_provider",
    "model_providers",
    "check_for_update_on_startup",
    "analytics",
    "feedback",
    "features",
    "otel",
];

/// The keys of a configuration that decide how and where one signs in (0.169).
const SIGN_IN_KEYS: [&str; 5] = [
    "chatgpt_base_url",
    "forced_chatgpt_workspace_id",
    "forced_login_method",
    "analytics",
    "check_for_update_on_startup",
];

/// A `config.toml` for a scratch home that asks the servers of `home`, with its login in auth.json.
///
/// What would have effects elsewhere stays out: where databases are, who may sign in, tools.
pub fn scratch_config(home: &Path) -> String {
    with_keys_of(home, &SERVER_KEYS)
}

/// A `config.toml` with these keys of the one in `home`, and the login in auth.json. One that is
/// missing or broken has none.
fn with_keys_of(home: &Path, keys: &[&str]) -> String {
    let text = read_text(&home.join("config.toml")).unwrap_or_default();
    let known = text.parse::<toml_edit::DocumentMut>().unwrap_or_default();
    let mut config = toml_edit::DocumentMut::new();
    config[STORE_KEY] = toml_edit::value(CredentialStore::File.name());
    for key in keys {
        if let Some(item) = known.get(key) {
            config.insert(key, item.clone());
        }
    }
    config.to_string()
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
    pub fn database_folder(&self, home: &Path, env: &Environment) -> Option<PathBuf> {
        let configured = self.sqlite_home.as_deref();
        configured
            .or_else(|| env.get("CODEX_SQLITE_HOME").map(Path::new))
            .map(|folder| home.join(env.absolute(folder)))
    }

    /// A `config.toml` with which Codex signs in as it would in `home`, but always into auth.json.
    /// Of a file that is not understood nothing is taken.
    pub fn for_sign_in(home: &Path) -> String {
        with_keys_of(home, &SIGN_IN_KEYS)
    }

    /// Reads `config.toml` of `home`. A missing file is the default; a broken one is too, with the
    /// problem named (Codex itself would not start with it).
    pub fn read(home: &Path) -> Self {
        let path = home.join("config.toml");
        let text = match read_text(&path) {
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
                store: match document.get(STORE_KEY).and_then(|i| i.as_str()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_home_asks_the_same_servers_and_has_no_effects_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let text = "model_provider = \"p\"\nchatgpt_base_url = \"https://x\"\nsqlite_home = \"/data\"\n\
            forced_login_method = \"api\"\ncli_auth_credentials_store = \"keyring\"\n\
            [model_providers.p]\nbase_url = \"https://y\"\n[mcp_servers.z]\ncommand = \"z\"\n";
        crate::io::atomic::write(&home.path().join("config.toml"), text.as_bytes()).unwrap();
        let servers = scratch_config(home.path());
        for kept in [
            "model_provider = \"p\"",
            "https://x",
            "https://y",
            "= \"file\"",
        ] {
            assert!(servers.contains(kept), "{kept}: {servers}");
        }
        for dropped in ["sqlite_home", "forced", "mcp", "keyring"] {
            assert!(!servers.contains(dropped), "{dropped}: {servers}");
        }
        let scratch = tempfile::tempdir().unwrap();
        crate::io::atomic::write(&scratch.path().join("config.toml"), servers.as_bytes()).unwrap();
        assert!(CodexConfig::read(scratch.path()).problem.is_none());
        assert!(scratch_config(Path::new("/nonexistent")).contains("file"));
    }

    #[test]
    fn a_sign_in_takes_over_where_to_and_never_where_into() {
        let home = tempfile::tempdir().unwrap();
        let text = "model = \"x\"\ncli_auth_credentials_store = \"keyring\"\n\
            chatgpt_base_url = \"http://127.0.0.1:1\"\n[analytics]\nenabled = false\n[tui]\na = 1\n";
        std::fs::write(home.path().join("config.toml"), text).unwrap();
        let config = CodexConfig::for_sign_in(home.path());
        assert_eq!(
            config,
            "cli_auth_credentials_store = \"file\"\nchatgpt_base_url = \"http://127.0.0.1:1\"\n\
             [analytics]\nenabled = false\n"
        );
        std::fs::write(home.path().join("config.toml"), "= broken").unwrap();
        let config = CodexConfig::for_sign_in(home.path());
        assert_eq!(config, "cli_auth_credentials_store = \"file\"\n");
    }
}
