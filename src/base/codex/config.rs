//! Reads the keys of Codex's `config.toml` that decide where logins, databases and servers are.

use super::arguments::Arguments;
use super::auth::AuthFile;
use super::home::{AUTH_JSON, CONFIG_TOML};
use super::identity::Identity;
use crate::io::environment::Environment;
use crate::io::settings::describe_toml_error;
use crate::io::{IoError, file_open};
use smart_default::SmartDefault;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The key that selects the store in which Codex keeps a login.
pub(crate) const STORE_KEY: &str = "cli_auth_credentials_store";

/// The largest `config.toml` that is read, in bytes. Parsing takes many times the size of the file in
/// memory, and no real settings are larger.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads the text of a `config.toml`.
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is larger than 1 MiB.
pub fn read_config_text(path: &Path) -> std::io::Result<String> {
    file_open::read_small_to_string(path, MAX_BYTES)
}

/// The store in which Codex keeps a login (`cli_auth_credentials_store`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum CredentialStore {
    /// The file auth.json; Codex's default.
    #[default]
    File,
    /// The system's keyring; auth.json is deleted on save.
    Keyring,
    /// The keyring if the system has one, else auth.json.
    Auto,
    /// Memory only; the login ends with the process.
    Ephemeral,
}

impl CredentialStore {
    /// Returns the value of `cli_auth_credentials_store`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the reason why a change of auth.json may have no effect, for another store than the file.
    pub fn auth_json_problem(self) -> String {
        let setting = format!("{STORE_KEY} = \"{}\"", self.name());
        match self {
            // Codex 0.171 also writes auth.json if the system has no keyring.
            Self::Auto => {
                format!("Codex reads auth.json only if it finds no login in a keyring ({setting})")
            }
            _ => format!("Codex does not store its login in auth.json ({setting})"),
        }
    }

    /// Returns the advice to make Codex use auth.json of `home`.
    pub fn advise_file_store(self, home: &Path) -> String {
        let file = home.join(CONFIG_TOML);
        let setting = format!("set {STORE_KEY} = \"file\" in {}", file.display());
        match self {
            // Without a keyring, the login is in auth.json already.
            Self::Auto => format!(
                "{setting}; then sign in only if codex login status prints \"Not logged in\""
            ),
            _ => format!("{setting} and sign in again"),
        }
    }

    /// Returns true if Codex certainly reads auth.json. False for `auto`, which depends on the system.
    pub fn always_reads_auth_json(self) -> bool {
        self == Self::File
    }

    /// Returns true if Codex reads auth.json, or may read it.
    pub fn may_read_auth_json(self) -> bool {
        matches!(self, Self::File | Self::Auto)
    }

    /// Returns the store with this name; the default for any other name, which Codex refuses.
    fn from_name(name: &str) -> Self {
        name.parse().unwrap_or_default()
    }

    /// Returns the store that the arguments of Codex set in place of that in `config.toml`.
    pub fn from_arguments(arguments: &[OsString]) -> Option<Self> {
        let name = Arguments::parse(arguments).config_override(STORE_KEY)?;
        Some(Self::from_name(&name))
    }

    /// Reads the store of a home. A missing key and an unreadable file mean the default.
    pub fn read(home: &Path) -> Self {
        let config = read_config_text(&home.join(CONFIG_TOML));
        // Shell prompts wait for this, and most files do not contain the key: skip the TOML parser.
        if config.is_ok_and(|text| text.contains(STORE_KEY)) {
            CodexConfig::read(home).store
        } else {
            Self::File
        }
    }
}

/// Reads the auth.json by which a home is signed in. Returns [`AuthFile::Missing`] if Codex stores, or may store, its
/// login elsewhere: an auth.json in such a home does not identify the account.
///
/// # Errors
/// See [`AuthFile::read`].
pub fn read_login(home: &Path) -> Result<AuthFile, IoError> {
    let auth = AuthFile::read(&home.join(AUTH_JSON))?;
    Ok(if CredentialStore::read(home).always_reads_auth_json() {
        auth
    } else {
        AuthFile::Missing
    })
}

/// Returns the account of the login in auth.json if Codex reads that file, or may read it. `None` also if the file
/// cannot be read.
pub fn read_possible_identity(home: &Path) -> Option<Identity> {
    let auth = AuthFile::read(&home.join(AUTH_JSON)).ok()?;
    let login = auth.login()?;
    let may_be_used = CredentialStore::read(home).may_read_auth_json();
    may_be_used.then(|| login.identity.clone())
}

/// The keys that decide which servers Codex contacts, and the telemetry that it sends.
pub const SERVER_KEYS: &str = "chatgpt_base_url openai_base_url model_provider model_providers \
    check_for_update_on_startup analytics feedback features otel";

/// The key that defines model providers. Codex opens no conversation of a provider that it does not know.
pub(crate) const PROVIDER_KEYS: &str = "model_providers";
/// The keys that decide how and where Codex 0.169 signs in.
pub(crate) const SIGN_IN_KEYS: &str = "chatgpt_base_url forced_chatgpt_workspace_id forced_login_method analytics \
    check_for_update_on_startup";

/// Returns a `config.toml` for a scratch home. It stores the login in auth.json, and has the values of `keys` in the
/// `config.toml` of `home`. A missing or invalid file has no values. `keys` are separated by blanks.
///
/// Keys with effects outside of a scratch home, such as the folder of the databases or tools, must not be in `keys`.
pub fn format_scratch_config(home: &Path, keys: &str) -> String {
    let text = read_config_text(&home.join(CONFIG_TOML)).unwrap_or_default();
    let home_config = text.parse::<toml_edit::DocumentMut>().unwrap_or_default();

    let mut config = toml_edit::DocumentMut::new();
    // Even if the home uses the keyring, because this program has to read the login in the scratch home.
    config[STORE_KEY] = toml_edit::value(CredentialStore::File.name());

    for key in keys.split(' ') {
        if let Some(item) = home_config.get(key) {
            config.insert(key, item.clone());
        }
    }

    config.to_string()
}

/// The settings of a home that this program uses.
#[derive(Debug, Clone, SmartDefault)]
pub struct CodexConfig {
    pub store: CredentialStore,
    /// `sqlite_home`: the folder of the databases; `None` for the home itself.
    pub sqlite_home: Option<PathBuf>,
    pub model_provider: Option<String>,
    /// `[history].max_bytes`; `Err` with the reason if the value is invalid, so that no limit applies.
    #[default(Ok(None))]
    pub history_max_bytes: Result<Option<u64>, String>,
    /// The reason why the file could not be read or parsed; all other fields have their defaults then.
    pub problem: Option<String>,
}

impl CodexConfig {
    /// Returns the configured folder of Codex's databases: `sqlite_home`, else `CODEX_SQLITE_HOME`. `None` if neither
    /// is set. `home` is the home of this configuration; the folder may be the home itself.
    pub fn database_folder(&self, home: &Path, env: &Environment) -> Option<PathBuf> {
        // Codex 0.169 takes a relative path in config.toml from the home, but a relative variable from the current
        // folder.
        let from_config = self.sqlite_home.as_deref().map(|folder| {
            if folder.starts_with("~") {
                env.absolute(folder)
            } else {
                home.join(folder)
            }
        });
        let from_variable = || Some(env.absolute(Path::new(env.get("CODEX_SQLITE_HOME")?)));
        from_config.or_else(from_variable)
    }

    /// Reads `config.toml` of `home`. A missing file means the defaults. An unreadable or invalid file means the
    /// defaults with `problem` set; Codex itself would not start with it.
    pub fn read(home: &Path) -> Self {
        Self::read_file(&home.join(CONFIG_TOML))
    }

    /// Same as [`read`](Self::read), for a `config.toml` at any path.
    pub fn read_file(path: &Path) -> Self {
        match read_config_text(path) {
            Ok(text) => Self::parse(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(e) => Self::with_problem(e.to_string()),
        }
    }

    /// Parses the text of a `config.toml`. An invalid one means the defaults, with `problem` set.
    pub fn parse(text: &str) -> Self {
        let document: toml_edit::DocumentMut = match text.parse() {
            Ok(document) => document,
            Err(e) => return Self::with_problem(describe_toml_error(text, &e)),
        };

        let string_value = |key: &str| document.get(key).and_then(|item| item.as_str());
        Self {
            store: string_value(STORE_KEY)
                .map(CredentialStore::from_name)
                .unwrap_or_default(),
            sqlite_home: string_value("sqlite_home")
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
            model_provider: string_value("model_provider").map(str::to_owned),
            history_max_bytes: parse_history_max_bytes(&document),
            problem: None,
        }
    }

    fn with_problem(problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }
}

fn parse_history_max_bytes(document: &toml_edit::DocumentMut) -> Result<Option<u64>, String> {
    let value = document.get("history").and_then(|t| t.get("max_bytes"));
    let Some(value) = value else {
        return Ok(None);
    };

    let limit = value.as_integer().and_then(|n| u64::try_from(n).ok());
    match limit.filter(|n| *n > 0) {
        Some(limit) => Ok(Some(limit)),
        None => Err(format!(
            "history.max_bytes is not a positive whole number: {}",
            value.to_string().trim()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_home_keeps_the_provider_and_drops_mcp_servers_and_the_keyring() {
        let home = tempfile::tempdir().unwrap();
        let text = "model_provider = \"p\"\nchatgpt_base_url = \"https://x\"\nsqlite_home = \"/data\"\n\
            forced_login_method = \"api\"\ncli_auth_credentials_store = \"keyring\"\n\
            [model_providers.p]\nbase_url = \"https://y\"\n[mcp_servers.z]\ncommand = \"z\"\n";
        crate::io::atomic::write(&home.path().join("config.toml"), text.as_bytes()).unwrap();
        let servers = format_scratch_config(home.path(), SERVER_KEYS);
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
        assert!(format_scratch_config(Path::new("/nonexistent"), SERVER_KEYS).contains("file"));
    }

    #[test]
    fn a_relative_sqlite_home_is_below_the_home_and_a_relative_variable_below_the_current_folder() {
        let home = Path::new("/codex");
        let mut env = Environment::default().with("CODEX_SQLITE_HOME", "of-variable");
        env.current_dir = "/current".into();
        env.home_dir = Some("/me".into());
        for (sqlite_home, expected) in [
            (Some("databases"), "/codex/databases"),
            (Some("~/databases"), "/me/databases"),
            (Some("/databases"), "/databases"),
            (None, "/current/of-variable"),
        ] {
            let config = CodexConfig {
                sqlite_home: sqlite_home.map(PathBuf::from),
                ..CodexConfig::default()
            };
            let folder = config.database_folder(home, &env);
            assert_eq!(folder.as_deref(), Some(Path::new(expected)));
        }
    }

    #[test]
    fn the_config_of_a_sign_in_has_the_users_servers_but_not_the_credential_store() {
        let home = tempfile::tempdir().unwrap();
        let text = "model = \"x\"\ncli_auth_credentials_store = \"keyring\"\n\
            chatgpt_base_url = \"http://127.0.0.1:1\"\n[analytics]\nenabled = false\n[tui]\na = 1\n";
        std::fs::write(home.path().join("config.toml"), text).unwrap();
        let config = format_scratch_config(home.path(), SIGN_IN_KEYS);
        assert_eq!(
            config,
            "cli_auth_credentials_store = \"file\"\nchatgpt_base_url = \"http://127.0.0.1:1\"\n\
             [analytics]\nenabled = false\n"
        );
        std::fs::write(home.path().join("config.toml"), "= broken").unwrap();
        let config = format_scratch_config(home.path(), SIGN_IN_KEYS);
        assert_eq!(config, "cli_auth_credentials_store = \"file\"\n");
    }
}
