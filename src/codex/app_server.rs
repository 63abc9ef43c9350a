//! Asking Codex itself for the account and the quota windows of a home.
//!
//! A private `codex app-server` speaks JSON lines over its standard streams: requests
//! `{"id","method","params"}`, replies `{"id","result"}` or `{"id","error":{"code","message"}}`, and
//! notifications in between. It reads auth.json afresh and does not attach to a running daemon.
//!
//! Such a probe is no mere look. Codex 0.169 creates its databases in the home, and it renews a
//! login whose access token ends within about five minutes before it answers `initialize`; the new
//! login then stands in the home's auth.json. Killed in that moment, the login would be lost: its
//! refresh token spent, the new one nowhere. Codex holds no lock meanwhile, so we go by the age of
//! the token and wait longer; beyond that it is left alone, never killed.

mod rate_limits;

pub use self::rate_limits::AccountLimits;

use super::auth::AuthFile;
use super::home::AUTH_JSON;
use super::identity::{Email, Identity, LoginKind};
use super::program::{Program, ProgramError};
use super::redaction::printable;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::clock::Zone;
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a probe may take, unless the caller knows better.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long Codex may take to renew a login. Longer than the deadline on purpose: a slow answer is
/// a nuisance, a lost login is lost.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long app-server may take to end by itself, out of the deadline; four times that when it
/// has answered everything.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a wait looks whether the user wants to stop.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(50);

const INITIALIZE_ID: u64 = 0;
const ACCOUNT_ID: u64 = 1;
const LIMITS_ID: u64 = 2;

/// What to ask, and how.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions<'a> {
    /// The program.
    pub program: &'a Program,
    /// The home whose account is asked about. Codex writes into it.
    pub home: &'a Path,
    /// The environment that Codex is given, except for what would name another home or login.
    pub env: &'a Environment,
    /// The current instant, to know whether the login is due to be renewed.
    pub now: DateTime<Utc>,
    /// The zone that times are given in.
    pub zone: Zone,
    /// For everything, the end of the child included. Where the login is due to be renewed it
    /// counts from the end of that.
    pub timeout: Duration,
    /// How long that may take by itself; usually [`RENEWAL_TIMEOUT`].
    pub renewal_timeout: Duration,
}

/// What Codex answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeReport {
    /// The account; `None` where Codex says there is none, which it also says of a login that it
    /// could not renew.
    pub account: Result<Option<ProbedAccount>, ProbeFailure>,
    /// Its windows.
    pub limits: Result<AccountLimits, ProbeFailure>,
}

impl ProbeReport {
    fn failed(failure: ProbeFailure) -> Self {
        Self {
            account: Err(failure.clone()),
            limits: Err(failure),
        }
    }

    /// Whether the server no longer takes the login: Codex could not renew it, and the token it
    /// has is refused. A refused token alone is no such proof.
    pub fn is_login_revoked(&self) -> bool {
        self.account == Ok(None) && matches!(self.limits, Err(ProbeFailure::Unauthorized(_)))
    }
}

/// An account as Codex names it. Nothing of it is sure to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedAccount {
    /// How it is signed in; `None` for a way this program does not know.
    pub kind: Option<LoginKind>,
    /// Its email.
    pub email: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// Its user id.
    pub user_id: Option<String>,
    /// Its workspace account id.
    pub account_id: Option<String>,
}

impl ProbedAccount {
    /// Who it is, if it is a ChatGPT login with an email.
    pub fn identity(&self) -> Option<Identity> {
        if self.kind != Some(LoginKind::Chatgpt) {
            return None;
        }
        Some(Identity {
            email: Email::new(self.email.clone()?),
            account_id: self.account_id.clone(),
            user_id: self.user_id.clone(),
            kind: LoginKind::Chatgpt,
        })
    }
}

/// Why Codex could not say. The texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// There is no Codex.
    #[error(transparent)]
    NoProgram(#[from] ProgramError),
    /// The home has no login.
    #[error("not signed in")]
    NotSignedIn,
    /// The login is an API key.
    #[error("an API key has no quota windows")]
    ApiKey,
    /// The server refused the token (401).
    #[error("the server refused the login: {0}")]
    Unauthorized(String),
    /// The server asked to be left alone for now (429).
    #[error("the server limits how often it is asked: {0}")]
    RateLimited(String),
    /// The server failed (5xx, or a status that is not named here).
    #[error("the server failed: {0}")]
    Server(String),
    /// The server was not reached.
    #[error("the server was not reached: {0}")]
    Network(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Codex ended without an answer.
    #[error("codex app-server ended without an answer{}", after_colon(.0))]
    Crashed(String),
    /// Codex answered something else than was asked.
    #[error("codex app-server gave an answer that is not understood: {0}")]
    Protocol(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

fn after_colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// Asks the Codex of `options` once. The program and all it started in its process group are gone
/// when this returns, unless it is still is_renewing the login: then it is left to finish that.
///
/// The answer waits for the deadline at most; see [`ProbeOptions::timeout`]. What Codex wrote into
/// the home meanwhile stays: read auth.json again afterwards.
pub fn probe(options: &ProbeOptions) -> ProbeReport {
    let started = Instant::now();
    let mut command = options.program.command(options.home, options.env);
    command.arg("app-server");
    let child = match ChildGroup::spawn(&mut command) {
        Ok(child) => child,
        Err(e) => return ProbeReport::failed(ProbeFailure::Crashed(printable(&e.to_string()))),
    };
    let mut session = ProbeSession {
        child,
        account: None,
        limits: None,
        is_renewing: is_renewal_due(options.home, &options.now),
        timeout: options.timeout,
        renewal_timeout: options.renewal_timeout,
        deadline: started + options.timeout,
    };
    let failure = session.run().err();
    // With its input closed Codex 0.169 ends within some 15 ms, unless a request is still pending.
    let grace = if failure.is_some() {
        EXIT_TIMEOUT
    } else {
        EXIT_TIMEOUT * 4
    };
    if session.is_renewing && matches!(failure, Some(ProbeFailure::TimedOut(_))) {
        session.child.leave();
    } else {
        let end = session.deadline.min(Instant::now() + grace);
        session.child.finish(end);
    }
    let answer = |reply: Option<Reply>| match (reply, &failure) {
        (Some(reply), _) => reply.map_err(|error| classify(&error)),
        (None, Some(failure)) => Err(failure.clone()),
        (None, None) => Err(ProbeFailure::Protocol("no answer".into())),
    };
    ProbeReport {
        account: answer(session.account).map(|result| account_of(&result)),
        limits: answer(session.limits)
            .and_then(|result| AccountLimits::read(&result, options.now, options.zone)),
    }
}

/// Whether Codex will renew the login of `home` when it starts.
fn is_renewal_due(home: &Path, now: &DateTime<Utc>) -> bool {
    AuthFile::read(&home.join(AUTH_JSON))
        .is_ok_and(|auth| auth.login().is_some_and(|login| login.is_renewal_due(now)))
}

/// What came back for one request: its result, or its error.
type Reply = Result<Value, RpcError>;

#[derive(Debug)]
struct RpcError {
    code: i64,
    message: String,
}

struct ProbeSession {
    child: ChildGroup,
    account: Option<Reply>,
    limits: Option<Reply>,
    /// Codex may be spending the refresh token right now.
    is_renewing: bool,
    timeout: Duration,
    renewal_timeout: Duration,
    /// When the child must be gone.
    deadline: Instant,
}

impl ProbeSession {
    fn run(&mut self) -> Result<(), ProbeFailure> {
        let info = json!({
            "name": "codex-manager",
            "title": "codex-manager",
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.request(INITIALIZE_ID, "initialize", &json!({ "clientInfo": info }))?;
        if self.is_renewing {
            self.deadline = self.deadline.max(Instant::now() + self.renewal_timeout);
        }
        loop {
            let (id, reply) = self.next_reply()?;
            if id != INITIALIZE_ID {
                continue;
            }
            match reply {
                Ok(_) => break,
                Err(error) => return Err(classify(&error)),
            }
        }
        if self.is_renewing {
            self.is_renewing = false;
            self.deadline = Instant::now() + self.timeout;
        }
        self.send(&json!({ "method": "initialized" }))?;
        self.request(
            ACCOUNT_ID,
            "account/read",
            &json!({ "refreshToken": false }),
        )?;
        self.send(&json!({ "id": LIMITS_ID, "method": "account/rateLimits/read" }))?;
        while self.account.is_none() || self.limits.is_none() {
            match self.next_reply()? {
                (ACCOUNT_ID, reply) if self.account.is_none() => self.account = Some(reply),
                (LIMITS_ID, reply) if self.limits.is_none() => self.limits = Some(reply),
                _ => {}
            }
        }
        Ok(())
    }

    fn request(&mut self, id: u64, method: &str, params: &Value) -> Result<(), ProbeFailure> {
        self.send(&json!({ "id": id, "method": method, "params": params }))
    }

    fn send(&mut self, message: &Value) -> Result<(), ProbeFailure> {
        match self.child.send(&message.to_string()) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.crashed()),
        }
    }

    /// The next reply to some request. Anything else that comes is passed over.
    fn next_reply(&mut self) -> Result<(u64, Reply), ProbeFailure> {
        loop {
            if is_interrupted() && !self.is_renewing {
                return Err(ProbeFailure::Interrupted);
            }
            let limit = self
                .deadline
                .checked_sub(EXIT_TIMEOUT.min(self.timeout / 5));
            let limit = limit.unwrap_or(self.deadline);
            let now = Instant::now();
            if now >= limit {
                return Err(ProbeFailure::TimedOut(self.timeout));
            }
            match self
                .child
                .read_line(limit.min(now + INTERRUPT_POLL_INTERVAL))
            {
                ChildOutput::TimedOut => {}
                ChildOutput::Closed => return Err(self.crashed()),
                ChildOutput::Line(line) => {
                    if let Some(reply) = reply_of(&line) {
                        return Ok(reply);
                    }
                }
            }
        }
    }

    /// Codex ended; what it said on standard error is the reason.
    fn crashed(&mut self) -> ProbeFailure {
        self.child
            .finish(self.deadline.min(Instant::now() + EXIT_TIMEOUT));
        let text = self.child.stderr();
        let lines: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        ProbeFailure::Crashed(printable(&last.join("; ")))
    }
}

/// A line as a reply: an object with a number as id, without a method, with a result or an error.
fn reply_of(line: &[u8]) -> Option<(u64, Reply)> {
    let mut message: Value = serde_json::from_slice(line).ok()?;
    let id = message.get("id")?.as_u64()?;
    if message.get("method").is_some() {
        return None;
    }
    if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
        let reply = RpcError {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(0),
            message: text(error, "message").unwrap_or_else(|| error.to_string()),
        };
        return Some((id, Err(reply)));
    }
    Some((id, Ok(message.get_mut("result")?.take())))
}

/// Tells the kinds of failure apart by what Codex 0.169 says. -32600 is about the login, all else
/// comes as -32603 with the status and body of the failed request in its text.
fn classify(error: &RpcError) -> ProbeFailure {
    let said = error.message.to_lowercase();
    let detail = printable(&error.message);
    if error.code == -32600 && said.contains("authentication required") {
        return if said.starts_with("chatgpt") {
            ProbeFailure::ApiKey
        } else {
            ProbeFailure::NotSignedIn
        };
    }
    let status = said
        .split("failed: ")
        .filter_map(|rest| rest.get(..3)?.parse::<u16>().ok())
        .find(|status| (100..600).contains(status));
    match status {
        Some(401) => return ProbeFailure::Unauthorized(detail),
        Some(429) => return ProbeFailure::RateLimited(detail),
        Some(400..) => return ProbeFailure::Server(detail),
        _ => {}
    }
    // Neither the digits of an address nor those within a longer number are a status.
    let plain: Vec<_> = said
        .split_whitespace()
        .filter(|w| !w.contains("://"))
        .collect();
    let plain = plain.join(" ");
    let is_status = |code: &str| {
        plain
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| word == code)
    };
    let says = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    if is_status("401") || says(&["unauthorized", "token_expired", "refresh token"]) {
        ProbeFailure::Unauthorized(detail)
    } else if is_status("429") || says(&["too many requests"]) {
        ProbeFailure::RateLimited(detail)
    } else if says(&[
        "error sending request",
        "routing discovery",
        "timed out",
        "connect",
        "dns",
    ]) {
        ProbeFailure::Network(detail)
    } else if ["500", "502", "503", "504"].into_iter().any(is_status)
        || says(&["internal server error"])
    {
        ProbeFailure::Server(detail)
    } else {
        ProbeFailure::Protocol(format!("{detail} ({})", error.code))
    }
}

fn account_of(result: &Value) -> Option<ProbedAccount> {
    let account = result
        .get("account")
        .filter(|account| account.is_object())?;
    Some(ProbedAccount {
        kind: match account.get("type").and_then(Value::as_str) {
            Some("chatgpt") => Some(LoginKind::Chatgpt),
            Some("apiKey") => Some(LoginKind::ApiKey),
            _ => None,
        },
        email: text(account, "email"),
        plan: text(account, "planType"),
        user_id: text(result, "userId"),
        account_id: result
            .get("workspaceRouting")
            .and_then(|routing| text(routing, "chatgptAccountId")),
    })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(message: &str) -> ProbeFailure {
        classify(&RpcError {
            code: -32603,
            message: message.to_owned(),
        })
    }

    #[test]
    fn an_address_is_no_status() {
        for port in ["40199", "42947", "401", "429", "50300"] {
            let said = format!(
                "failed to fetch codex rate limits: error sending request for url \
                 (http://127.0.0.1:{port}/backend-api/wham/usage)"
            );
            assert!(
                matches!(kind_of(&said), ProbeFailure::Network(_)),
                "{port}: {:?}",
                kind_of(&said)
            );
        }
    }

    #[test]
    fn a_status_is_told_wherever_it_stands() {
        let unauthorized = kind_of("GET http://127.0.0.1:42947/x failed: 401 Unauthorized");
        assert!(matches!(unauthorized, ProbeFailure::Unauthorized(_)));
        let limited = kind_of("the server said (429)");
        assert!(matches!(limited, ProbeFailure::RateLimited(_)));
        let server = kind_of("status 503, try again");
        assert!(matches!(server, ProbeFailure::Server(_)));
    }
}
