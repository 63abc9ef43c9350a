//! Sign-ins for tests: `auth.json`, `config.toml` and the environment with which the real Codex
//! connects to [`MockBackend`] only.
//!
//! [`auth_json`] is pure and needs no backend. Nothing in this module starts a process.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for the environment are the program's, not its tests'"
)]

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::mock_backend::{Account, MockBackend};

/// The name of the claim with account, user and plan.
pub(crate) const AUTH_CLAIM: &str = "https://api.openai.com/auth";
const PROFILE_CLAIM: &str = "https://api.openai.com/profile";

/// Variables that override the sign-in of a home. A Codex that inherits the environment must not get them.
pub(crate) const SIGN_IN_VARIABLES: [&str; 9] = [
    "OPENAI_API_KEY",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "OPENAI_BASE_URL",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_SPIFFE_AUDIENCE",
    "OPENAI_SPIFFE_ID",
];

/// A `ChatGPT` sign-in, as `auth.json` records it.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    /// E-mail in the id token.
    pub(crate) email: String,
    /// `ChatGPT` account (workspace) id, without dots.
    pub(crate) account_id: String,
    /// The `chatgpt_user_id` in the tokens.
    pub(crate) user_id: String,
    /// Plan name as the backend spells it: `free`, `plus`, `pro`, `team`…
    pub(crate) plan: String,
    /// The time at which both tokens were issued, in Unix seconds.
    pub(crate) issued_at: i64,
    /// Seconds from `issued_at` until the access token expires; negative means expired already.
    pub(crate) ttl_seconds: i64,
    /// Unix seconds of `last_refresh`; `None` leaves it null.
    pub(crate) last_refresh: Option<i64>,
    /// Family of the refresh token: every login starts a new one.
    pub(crate) family: String,
    /// Number of the refresh token in its family, from 1.
    pub(crate) generation: u64,
}

impl SignIn {
    /// Creates a sign-in of now, valid for ten days, with the first refresh token of family `f1`. All sign-ins of a test
    /// have one time of issue, so that two of one account are the same login.
    pub(crate) fn new(account_id: &str, email: &str) -> Self {
        // The test harness runs each test in its own thread.
        thread_local! {
            static NOW: i64 = unix_now();
        }
        let now = NOW.with(|now| *now);
        Self {
            email: email.to_owned(),
            account_id: account_id.to_owned(),
            user_id: default_user_id(account_id),
            plan: "plus".to_owned(),
            issued_at: now,
            ttl_seconds: 864_000,
            last_refresh: Some(now),
            family: "f1".to_owned(),
            generation: 1,
        }
    }

    /// Creates the sign-in `acct-alice`, `alice@example.com`, plan plus.
    pub(crate) fn alice() -> Self {
        Self::new("acct-alice", "alice@example.com")
    }

    /// Creates the sign-in `acct-bob`, `bob@example.com`, plan pro.
    pub(crate) fn bob() -> Self {
        Self::new("acct-bob", "bob@example.com").plan("pro")
    }

    /// Creates a sign-in to an account of the mock backend.
    pub(crate) fn to_account(account: &Account) -> Self {
        Self::new(&account.account_id, &account.email)
            .user_id(&account.user_id)
            .plan(&account.plan)
    }

    /// Sets the user id.
    #[must_use]
    pub(crate) fn user_id(mut self, user_id: &str) -> Self {
        user_id.clone_into(&mut self.user_id);
        self
    }

    /// Sets the subscription plan.
    #[must_use]
    pub(crate) fn plan(mut self, plan: &str) -> Self {
        plan.clone_into(&mut self.plan);
        self
    }

    /// Sets the lifetime of the access token, in seconds from `issued_at`.
    #[must_use]
    pub(crate) fn ttl_seconds(mut self, seconds: i64) -> Self {
        self.ttl_seconds = seconds;
        self
    }

    /// Sets the times of issue and of the last refresh, in Unix seconds.
    #[must_use]
    pub(crate) fn issued_at(mut self, unix_seconds: i64) -> Self {
        self.issued_at = unix_seconds;
        self.last_refresh = Some(unix_seconds);
        self
    }

    /// Sets `last_refresh` alone, in Unix seconds.
    #[must_use]
    pub(crate) fn last_refresh(mut self, unix_seconds: Option<i64>) -> Self {
        self.last_refresh = unix_seconds;
        self
    }

    /// Sets the family of the refresh token.
    #[must_use]
    pub(crate) fn family(mut self, family: &str) -> Self {
        family.clone_into(&mut self.family);
        self
    }

    /// Sets the number of the refresh token in its family.
    #[must_use]
    pub(crate) fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Makes the access token expired, so that the next Codex renews the login.
    pub(crate) fn with_expired_token(self) -> Self {
        self.issued_at(unix_now() - 1_000).ttl_seconds(990)
    }

    /// Returns the refresh token.
    pub(crate) fn refresh_token(&self) -> String {
        format!("rt.{}.{}.{}", self.account_id, self.family, self.generation)
    }

    /// Returns the pair `(id_token, access_token)`.
    pub(crate) fn tokens(&self) -> (String, String) {
        let auth = json!({
            "chatgpt_account_id": self.account_id,
            "chatgpt_plan_type": self.plan,
            "chatgpt_user_id": self.user_id,
            "user_id": self.user_id,
        });
        let base = json!({
            "iss": "https://auth.invalid",
            "sub": self.user_id,
            "iat": self.issued_at,
            "exp": self.issued_at + self.ttl_seconds,
            "jti": format!("{}-{}", self.family, self.generation),
            AUTH_CLAIM: auth,
        });
        let mut id_claims = base.clone();
        id_claims["aud"] = json!(["codex-test"]);
        id_claims["email"] = json!(self.email);
        id_claims["email_verified"] = json!(true);
        let mut access_claims = base;
        access_claims["aud"] = json!(["https://api.invalid/v1"]);
        access_claims[PROFILE_CLAIM] = json!({"email": self.email, "email_verified": true});
        (unsigned_jwt(&id_claims), unsigned_jwt(&access_claims))
    }
}

/// Returns the text of `auth.json` for a sign-in. Equal sign-ins give equal texts.
pub(crate) fn auth_json(sign_in: &SignIn) -> String {
    let (id_token, access_token) = sign_in.tokens();
    pretty(&json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token,
            "access_token": access_token,
            "refresh_token": sign_in.refresh_token(),
            "account_id": sign_in.account_id,
        },
        "last_refresh": sign_in.last_refresh.map(rfc3339),
    }))
}

/// Returns the text of `auth.json` for an API key. The mock backend accepts keys that start with `sk-`.
pub(crate) fn api_key_auth_json(key: &str) -> String {
    pretty(&json!({
        "auth_mode": "apikey",
        "OPENAI_API_KEY": key,
        "tokens": null,
        "last_refresh": null,
    }))
}

/// Writes or replaces `auth.json` (0600), as a user would without the manager.
pub(crate) fn write_auth(home: &Path, sign_in: &SignIn) {
    write_auth_text(home, &auth_json(sign_in));
}

/// Writes any text, such as a damaged login, as `auth.json` (0600).
pub(crate) fn write_auth_text(home: &Path, text: &str) {
    make_home(home);
    let path = home.join("auth.json");
    let staged = home.join(".auth.json.staged");
    let _ = fs::remove_file(&staged);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("write auth.json");
    fs::rename(&staged, &path).expect("rename to auth.json");
}

/// Creates a home that is signed in to the mock backend.
pub(crate) fn signed_in_home(home: &Path, backend: &MockBackend, sign_in: &SignIn) {
    make_home(home);
    write_config(
        home,
        &config_toml(&backend.base_url(), "/backend-api/codex"),
    );
    write_auth(home, sign_in);
}

/// Creates a home with an API key that the mock backend accepts.
pub(crate) fn api_key_home(home: &Path, backend: &MockBackend) {
    make_home(home);
    write_config(home, &config_toml(&backend.base_url(), "/v1"));
    write_auth_text(home, &api_key_auth_json("sk-test-0000"));
}

/// Creates a home for the mock backend without `auth.json`.
pub(crate) fn signed_out_home(home: &Path, backend: &MockBackend) {
    make_home(home);
    write_config(
        home,
        &config_toml(&backend.base_url(), "/backend-api/codex"),
    );
}

/// Returns a `config.toml` that restricts the real Codex to loopback.
///
/// `shell_snapshot` would start bash and a dozen other programs in each conversation, to record the environment.
///
/// Turns use a custom provider, because the built-in one sends `ChatGPT` turns to the https origin that
/// `wham/accounts/check` names and refuses a loopback origin (Codex 0.169). With `requires_openai_auth`
/// the custom provider also uses the tokens of `auth.json`.
pub(crate) fn config_toml(base_url: &str, api_path: &str) -> String {
    format!(
        r#"model_provider = "mock"
chatgpt_base_url = "{base_url}/backend-api"
cli_auth_credentials_store = "file"
check_for_update_on_startup = false

[model_providers.mock]
name = "mock"
base_url = "{base_url}{api_path}"
wire_api = "responses"
requires_openai_auth = true

[analytics]
enabled = false

[feedback]
enabled = false

[features]
apps = false
plugins = false
shell_snapshot = false

[otel]
exporter = "none"
metrics_exporter = "none"
trace_exporter = "none"
"#
    )
}

/// Returns the environment of the real Codex, except for `CODEX_HOME`.
///
/// The proxy detects connections that would leave loopback: an https request arrives at the mock as
/// `CONNECT`, is refused, and is listed by [`MockBackend::outside`]. The mock itself speaks plain
/// http, which is not proxied.
///
/// Codex (0.169) parses all certificate authorities of the system twice at each start, which is a third of its processor
/// time.
pub(crate) fn codex_env(backend: &MockBackend) -> Vec<(String, String)> {
    let base = backend.base_url();
    [
        (
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
            format!("{base}/oauth/token"),
        ),
        (
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE",
            format!("{base}/oauth/revoke"),
        ),
        ("HTTPS_PROXY", base),
        (
            "SSL_CERT_FILE",
            concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/root.pem").to_owned(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Returns the parsed `auth.json` of a home.
pub(crate) fn read_auth(home: &Path) -> Value {
    let text = fs::read_to_string(home.join("auth.json")).expect("read auth.json");
    serde_json::from_str(&text).expect("auth.json is JSON")
}

/// Returns the `auth.json` of a home with an expired access token, which the next Codex renews.
pub(crate) fn expired_auth(home: &Path) -> String {
    let mut auth = read_auth(home);
    let claims = jwt_claims(auth["tokens"]["id_token"].as_str().unwrap_or_default());
    let known = &claims[AUTH_CLAIM];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let due = SignIn::new(&text(&known["chatgpt_account_id"]), &text(&claims["email"]))
        .user_id(&text(&known["chatgpt_user_id"]))
        .plan(&text(&known["chatgpt_plan_type"]))
        .with_expired_token();
    let (id, access) = due.tokens();
    auth["tokens"]["id_token"] = json!(id);
    auth["tokens"]["access_token"] = json!(access);
    auth.to_string()
}

/// Returns the refresh token in a home.
pub(crate) fn read_refresh_token(home: &Path) -> String {
    read_auth(home)["tokens"]["refresh_token"]
        .as_str()
        .expect("auth.json has a refresh token")
        .to_owned()
}

/// Returns the unverified claims of a JWT; null if the text is not a JWT.
pub(crate) fn jwt_claims(token: &str) -> Value {
    token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|raw| serde_json::from_slice(&raw).ok())
        .unwrap_or(Value::Null)
}

/// Returns the user id of an account id: `acct-alice` → `user-alice`.
pub(crate) fn default_user_id(account_id: &str) -> String {
    format!("user-{}", account_id.trim_start_matches("acct-"))
}

/// Returns the time of the system clock in Unix seconds.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("seconds fit")
}

/// Formats Unix seconds as Codex does: `1763618400` as `2025-11-20T06:00:00.000000000Z`.
pub(crate) fn rfc3339(unix_seconds: i64) -> String {
    let at = chrono::DateTime::from_timestamp(unix_seconds, 0).expect("in range");
    at.format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

fn unsigned_jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // Codex does not verify the signature but requires three non-empty parts.
    format!(
        "{}.{}.{}",
        part(&json!({"alg": "none", "typ": "JWT"})),
        part(claims),
        URL_SAFE_NO_PAD.encode("unsigned")
    )
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value serialises")
}

fn make_home(home: &Path) {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .expect("create the Codex home");
}

fn write_config(home: &Path, text: &str) {
    fs::write(home.join("config.toml"), text).expect("write config.toml");
}
