//! Reads `auth.json`. The bytes are kept verbatim; they are parsed only for the account and the age of
//! its login.
//!
//! Format as Codex 0.169 writes it: `{"auth_mode","OPENAI_API_KEY","tokens":{"id_token",
//! "access_token","refresh_token","account_id"},"last_refresh"}`, or one of `personal_access_token`,
//! `agent_identity`, `bedrock_api_key` and `bedrock_access_keys` instead of the tokens. Codex drops unknown keys when
//! it renews the login, so codex-manager cannot store anything in this file.

use super::identity::{Email, Identity, LoginKind};
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, IoError, file_open, hash};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The largest auth.json that is read, in bytes. Real ones are below 10 kB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The age of a login. Codex writes `last_refresh` at every renewal; the token times break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Freshness {
    /// `last_refresh` of auth.json, by the clock of the machine.
    pub last_refresh: Option<DateTime<Utc>>,
    /// `iat` of the access token, else of the id token, by the clock of the server.
    pub issued_at: Option<DateTime<Utc>>,
    /// `exp` of the access token, by the clock of the server.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The accepted difference between `last_refresh`, by the clock of the machine, and the times of the
/// tokens, by the clock of the server. If `last_refresh` is further ahead, the machine's clock was
/// wrong.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::hours(1);

impl Freshness {
    /// Compares two logins; the newer one is `Greater`. An absent time is older than any time.
    pub fn compare(&self, other: &Self) -> Ordering {
        let sort_key = |login: &Self| {
            (
                login.renewed_at(),
                login.issued_at,
                login.expires_at,
                login.last_refresh,
            )
        };
        sort_key(self).cmp(&sort_key(other))
    }

    /// Returns true if the clock of the machine was ahead when Codex wrote `last_refresh`: the tokens
    /// of that renewal are more than an hour older.
    fn was_clock_ahead(&self) -> bool {
        let times = self.last_refresh.zip(self.issued_at);
        times.is_some_and(|(refreshed, issued)| refreshed - issued > CLOCK_TOLERANCE)
    }

    /// Returns the time of the last renewal: `last_refresh`, or the time of its tokens if the clock of
    /// the machine was ahead or behind.
    pub fn renewed_at(&self) -> Option<DateTime<Utc>> {
        if self.was_clock_ahead() {
            self.issued_at
        } else {
            self.last_refresh.max(self.issued_at)
        }
    }

    /// Returns true if this login is newer than `other`; see [`Freshness::compare`].
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Greater
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub identity: Identity,
    /// The plan that the id token names.
    pub plan: Option<String>,
    pub freshness: Freshness,
}

/// The remaining lifetime of an access token below which a renewal is expected. Codex 0.169 renews
/// below five minutes; the extra minute allows for the start of Codex.
const RENEWAL_MARGIN: TimeDelta = TimeDelta::minutes(6);

impl Login {
    /// Returns true if Codex will renew the login at its next start, or is renewing it now. True also if the expiry of
    /// the access token is unknown.
    pub fn is_renewal_due(&self, now: &DateTime<Utc>) -> bool {
        let ends_soon = |at: DateTime<Utc>| at - now < RENEWAL_MARGIN;
        self.identity.kind.is_renewable() && self.freshness.expires_at.is_none_or(ends_soon)
    }
}

/// The bytes of one auth.json, and the login in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSnapshot {
    pub bytes: SecretBytes,
    /// The login; `None` if the file is a JSON object without one, such as `{}`.
    pub login: Option<Login>,
}

/// The result of reading an auth.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFile {
    /// No file: signed out, or the login is in the keyring.
    Missing,
    /// A file that is no auth.json: empty, filled with NUL bytes, truncated, not JSON.
    Unreadable {
        /// The content, which the caller has to save before it replaces the file.
        bytes: SecretBytes,
        reason: String,
    },
    /// A valid file, with or without a login.
    Present(AuthSnapshot),
}

impl AuthFile {
    /// Converts a read error to [`AuthFile::Unreadable`] without bytes, for callers that only need the
    /// login.
    pub fn from_read_error(error: &IoError) -> Self {
        Self::Unreadable {
            bytes: SecretBytes::new(Vec::new()),
            reason: match error.source.raw_os_error() {
                // The message of the system, such as a missing permission.
                Some(_) => format!("not readable ({})", error.source),
                None => error.source.to_string(),
            },
        }
    }

    /// Reads `path`. Follows a link, as Codex does.
    ///
    /// # Errors
    /// The path cannot be read, or is no regular file of a plausible size; see
    /// [`AuthFile::cannot_be_login`].
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let bytes = match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::Missing),
            Err(e) => return Err(e).at("read", path),
            Ok(meta) if !meta.is_file() => {
                return Err(invalid_data_error("not a regular file")).at("read", path);
            }
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(invalid_data_error("too large for a login")).at("read", path);
            }
            Ok(_) => file_open::read(path).at("read", path)?,
        };
        Ok(Self::parse(bytes))
    }

    pub fn parse(bytes: Vec<u8>) -> Self {
        match AuthSnapshot::parse(bytes) {
            Ok(snapshot) => Self::Present(snapshot),
            Err((bytes, reason)) => Self::Unreadable { bytes, reason },
        }
    }

    /// Returns true if [`AuthFile::read`] failed because the path can never be a login: a folder, a
    /// pipe, a file that is far too large. After any other error the next read may succeed.
    pub fn cannot_be_login(error: &IoError) -> bool {
        // An error of the system has an OS code; an error that `read` creates has no code.
        error.source.kind() == ErrorKind::InvalidData && error.source.raw_os_error().is_none()
    }

    pub fn login(&self) -> Option<&Login> {
        self.snapshot().and_then(|snapshot| snapshot.login.as_ref())
    }

    /// Returns the bytes of the file; `None` if the file is missing.
    pub fn bytes(&self) -> Option<&SecretBytes> {
        match self {
            Self::Present(snapshot) => Some(&snapshot.bytes),
            Self::Unreadable { bytes, .. } => Some(bytes),
            Self::Missing => None,
        }
    }

    pub fn snapshot(&self) -> Option<&AuthSnapshot> {
        match self {
            Self::Present(snapshot) => Some(snapshot),
            Self::Missing | Self::Unreadable { .. } => None,
        }
    }
}

fn invalid_data_error(reason: &'static str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, reason)
}

impl AuthSnapshot {
    /// Parses the bytes of an auth.json. The error has the bytes, and a reason that never quotes them.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, (SecretBytes, String)> {
        let reason = if bytes.is_empty() {
            "empty"
        } else if bytes.iter().all(|b| *b == 0) {
            "filled with NUL bytes"
        } else {
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(auth) if auth.is_object() => {
                    let login = choose_login(&auth);
                    return Ok(Self {
                        bytes: SecretBytes::new(bytes),
                        login,
                    });
                }
                Ok(_) => "not a JSON object",
                // serde's own message may quote the file: tokens must not be printed.
                Err(e) if e.is_eof() => "truncated JSON",
                Err(_) => "not JSON",
            }
        };
        Err((SecretBytes::new(bytes), reason.to_owned()))
    }

    /// Returns the age of the login. Without a login, the default, which is older than any.
    pub fn freshness(&self) -> Freshness {
        let login = self.login.as_ref();
        login.map(|login| login.freshness).unwrap_or_default()
    }

    /// Returns true if every field is null, so that there is no login of any kind.
    pub fn is_signed_out(&self) -> bool {
        let auth: Value = serde_json::from_slice(self.bytes.expose()).unwrap_or_default();
        // `parse` accepts only objects.
        let fields = auth.as_object();
        fields.is_none_or(|fields| fields.values().all(Value::is_null))
    }

    /// Returns a digest that identifies this login among all logins of its account and reveals no token. It is the
    /// digest of the refresh token, which changes at every renewal. Without a refresh token, it is the digest of the
    /// whole file.
    pub fn fingerprint(&self) -> String {
        let auth: Value = serde_json::from_slice(self.bytes.expose()).unwrap_or_default();
        let token = text_field(&auth["tokens"], "refresh_token");
        // A digest of the whole file would change if Codex wrote the same login with another layout.
        let secret = token.as_ref().map_or(self.bytes.expose(), String::as_bytes);
        // Half a digest tells logins apart, and a token cannot be found from it.
        hash::sha256(secret)[..32].to_owned()
    }
}

/// Chooses the login that `auth_mode` names, as Codex 0.171 does. Without a mode, every secret except that of an agent
/// precedes the tokens of a browser login. Early versions stored an API key beside the tokens; Codex bills that key.
fn choose_login(auth: &Value) -> Option<Login> {
    let to_login = |(kind, _, secret): &LoginSecret| Login {
        identity: Identity::from_secret(*kind, secret.as_bytes()),
        plan: None,
        freshness: Freshness::default(),
    };

    let mode = auth.get("auth_mode").and_then(Value::as_str);
    let secrets = list_secrets(auth);
    let precedes_tokens = |(kind, secret_mode, _): &&LoginSecret| match mode {
        Some(mode) => mode == *secret_mode,
        None => *kind != LoginKind::Agent,
    };
    if let Some(first) = secrets.iter().find(precedes_tokens) {
        return Some(to_login(first));
    }

    let tokens = auth.get("tokens").filter(|tokens| tokens.is_object());
    if let Some(login) = tokens.and_then(|tokens| parse_named_login(auth, tokens)) {
        return Some(login);
    }
    // In the mode `chatgpt` Codex uses the tokens alone.
    if mode != Some("chatgpt")
        && let Some(secret) = secrets.first()
    {
        return Some(to_login(secret));
    }
    parse_undecoded_login(auth, tokens?)
}

/// The kind, the `auth_mode` and the text of a secret that is a login by itself.
type LoginSecret = (LoginKind, &'static str, String);

/// Returns the secrets that are logins by themselves, in the order in which Codex 0.169 chooses without a mode.
fn list_secrets(auth: &Value) -> Vec<LoginSecret> {
    use LoginKind::{AccessToken, Agent, ApiKey, BedrockKey};
    let top_level = |name: &str| text_field(auth, name);
    let nested = |key: &str, name: &str| text_field(&auth[key], name);

    let access_token = top_level("personal_access_token");
    let api_key = nested("bedrock_api_key", "api_key");
    let access_key_id = nested("bedrock_access_keys", "access_key_id");
    // Not the whole record of an agent: the id of its task changes.
    let agent =
        top_level("agent_identity").or_else(|| nested("agent_identity", "agent_runtime_id"));

    let secrets = [
        (AccessToken, "personalAccessToken", access_token),
        (BedrockKey, "bedrockApiKey", api_key),
        (BedrockKey, "bedrockAccessKeys", access_key_id),
        (ApiKey, "apikey", top_level("OPENAI_API_KEY")),
        (Agent, "agentIdentity", agent),
    ];

    let secrets = secrets.into_iter();
    secrets
        .filter_map(|(kind, mode, secret)| Some((kind, mode, secret?)))
        .collect()
}

/// Returns the login of tokens whose id token names the account.
fn parse_named_login(auth: &Value, tokens: &Value) -> Option<Login> {
    let id_claims = read_claims(tokens, "id_token")?;
    let access_claims = read_claims(tokens, "access_token").unwrap_or(Value::Null);
    Some(Login {
        identity: parse_identity(auth, tokens, &id_claims, &access_claims)?,
        plan: text_field(openai_claims(&id_claims), "chatgpt_plan_type"),
        freshness: parse_freshness(auth, &access_claims, &id_claims),
    })
}

/// Returns the login of tokens whose id token names no account.
fn parse_undecoded_login(auth: &Value, tokens: &Value) -> Option<Login> {
    let access_claims = read_claims(tokens, "access_token").unwrap_or(Value::Null);
    let account_claims = openai_claims(&access_claims);
    let user_id =
        text_field(account_claims, "chatgpt_user_id").or_else(|| text_field(&access_claims, "sub"));

    // The ids stay the same when Codex renews the tokens. One of them alone does not identify an account.
    let ids = text_field(tokens, "account_id").zip(user_id);
    let joined_ids = ids.map(|(account_id, user_id)| format!("{account_id}\n{user_id}"));
    let any_token = || {
        let names = ["refresh_token", "access_token", "id_token"];
        names.into_iter().find_map(|name| text_field(tokens, name))
    };
    let secret = joined_ids.or_else(any_token)?;

    Some(Login {
        identity: Identity::from_secret(LoginKind::UndecodedToken, secret.as_bytes()),
        plan: None,
        freshness: parse_freshness(auth, &access_claims, &Value::Null),
    })
}

fn parse_freshness(auth: &Value, access_claims: &Value, id_claims: &Value) -> Freshness {
    let time_claim = |claims: &Value, name: &str| {
        let seconds = claims.get(name).and_then(Value::as_i64);
        seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0))
    };
    let last_refresh = text_field(auth, "last_refresh");
    let refreshed_at = last_refresh.and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
    Freshness {
        last_refresh: refreshed_at.map(|at| at.to_utc()),
        issued_at: time_claim(access_claims, "iat").or_else(|| time_claim(id_claims, "iat")),
        expires_at: time_claim(access_claims, "exp"),
    }
}

fn parse_identity(
    auth: &Value,
    tokens: &Value,
    id_claims: &Value,
    access_claims: &Value,
) -> Option<Identity> {
    let profile_email =
        |claims: &Value| text_field(&claims["https://api.openai.com/profile"], "email");
    let email = text_field(id_claims, "email")
        .or_else(|| profile_email(id_claims))
        .or_else(|| profile_email(access_claims))
        .or_else(|| text_field(access_claims, "email"))
        .or_else(|| text_field(auth, "email"))?;

    let account_claims = openai_claims(id_claims);
    Some(Identity {
        email: Email::new(email),
        account_id: text_field(tokens, "account_id")
            .or_else(|| text_field(account_claims, "chatgpt_account_id")),
        user_id: text_field(account_claims, "chatgpt_user_id")
            .or_else(|| text_field(account_claims, "user_id")),
        kind: LoginKind::Chatgpt,
    })
}

/// Returns the claims of a token; `None` if the token is missing or cannot be decoded.
fn read_claims(tokens: &Value, name: &str) -> Option<Value> {
    decode_claims(tokens.get(name)?.as_str()?)
}

fn openai_claims(claims: &Value) -> &Value {
    &claims["https://api.openai.com/auth"]
}

/// Returns the text of a field, unless it is empty.
pub(super) fn text_field(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|t| !t.is_empty())
        .map(Into::into)
}

/// Decodes the claims of a JWT without checking its signature. Codex does not check it either, because
/// the file belongs to the user.
pub(crate) fn decode_claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    // JWTs have no padding, but some programs that write them add it.
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn login(auth: &Value) -> Option<Login> {
        let bytes = serde_json::to_vec(auth).unwrap();
        AuthSnapshot::parse(bytes).unwrap().login
    }

    fn label(auth: &Value) -> String {
        login(auth).map_or_else(String::new, |login| login.identity.to_string())
    }

    #[test]
    fn each_kind_of_login_has_a_label_of_its_kind_with_and_without_auth_mode() {
        let bedrock = json!({"api_key": "ABSK", "region": "us-east-1"});
        let keys =
            json!({"access_key_id": "AKIA", "secret_access_key": "s", "region": "us-east-1"});
        let agent = |task: &str| json!({"agent_runtime_id": "r", "agent_private_key": "k", "task_id": task});
        for (mode, name, secret, beginning) in [
            (
                "personalAccessToken",
                "personal_access_token",
                json!("at-1"),
                "access-token-",
            ),
            ("bedrockApiKey", "bedrock_api_key", bedrock, "bedrock-key-"),
            (
                "bedrockAccessKeys",
                "bedrock_access_keys",
                keys,
                "bedrock-key-",
            ),
            ("agentIdentity", "agent_identity", json!("x.y.z"), "agent-"),
            ("agentIdentity", "agent_identity", agent("1"), "agent-"),
            ("apikey", "OPENAI_API_KEY", json!("sk-1"), "api-key-"),
        ] {
            let with_mode = label(&json!({"auth_mode": mode, name: secret}));
            assert_eq!(
                with_mode.strip_prefix(beginning).map(str::len),
                Some(6),
                "{name}"
            );
            assert_eq!(label(&json!({name: secret})), with_mode);
        }
        let of_task = |task| label(&json!({"agent_identity": agent(task)}));
        assert_eq!(of_task("1"), of_task("2"));
        assert_eq!(login(&json!({})), None);
        assert_eq!(login(&json!({"auth_mode": "chatgpt", "tokens": {}})), None);
    }

    #[test]
    fn an_access_token_precedes_an_api_key_unless_auth_mode_is_apikey() {
        let auth = json!({"OPENAI_API_KEY": "sk-1", "personal_access_token": "at-1"});
        assert!(label(&auth).starts_with("access-token-"));
        let auth =
            json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-1", "agent_identity": "x.y.z"});
        assert!(label(&auth).starts_with("api-key-"));
    }

    #[test]
    fn an_api_key_beside_tokens_is_the_login_unless_auth_mode_is_chatgpt() {
        let claims = URL_SAFE_NO_PAD.encode(json!({"email": "a@x.com"}).to_string());
        let tokens = json!({"id_token": format!("h.{claims}.s"), "refresh_token": "rt-1"});
        let auth = |mode: Option<&str>| json!({"auth_mode": mode, "OPENAI_API_KEY": "sk-1", "tokens": tokens});
        assert!(label(&auth(Some("apikey"))).starts_with("api-key-"));
        assert_eq!(label(&auth(Some("chatgpt"))), "a@x.com");
        assert!(label(&auth(None)).starts_with("api-key-"));
    }

    #[test]
    fn a_login_with_an_unreadable_id_token_stays_the_same_only_with_account_and_user_id() {
        let access = |time: u32| {
            let claims = json!({"sub": "user", "iat": time});
            let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
            format!("h.{claims}.s")
        };
        let auth = |account: &str, time: u32| {
            json!({"OPENAI_API_KEY": "sk-1", "auth_mode": "chatgpt", "tokens": {
                "id_token": format!("opaque-{time}"), "access_token": access(time),
                "refresh_token": format!("rt-{time}"), "account_id": account,
            }})
        };
        let (old, new) = (login(&auth("a", 1)).unwrap(), login(&auth("a", 2)).unwrap());
        assert_eq!(old.identity.kind, LoginKind::UndecodedToken);
        assert!(old.identity.is_same(&new.identity));
        assert!(new.freshness.is_newer_than(&old.freshness));
        assert!(
            !old.identity
                .is_same(&login(&auth("b", 1)).unwrap().identity)
        );
        let bare = |token: &str| json!({"tokens": {"id_token": "x", "refresh_token": token}});
        assert_ne!(label(&bare("rt-1")), label(&bare("rt-2")));
    }
}
