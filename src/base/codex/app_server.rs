//! Probes: asks Codex itself for the account and the quota windows of a home.
//!
//! A private `codex app-server` ([`super::rpc`]) reads auth.json afresh and does not attach to a running daemon.
//!
//! A probe writes. Codex 0.169 creates its databases in the home. Before it answers `initialize` it
//! renews a login whose access token ends within about five minutes, and stores the new login in the
//! home's auth.json. If Codex were killed in that moment, the login would be lost: the old refresh
//! token is spent, and the new one is not stored yet. Codex holds no lock during the renewal, so the
//! probe decides by the age of the token and then waits longer. A Codex that takes longer still keeps
//! running; it is never killed.

mod rate_limits;
mod server_usage;
mod workspaces;

pub use self::rate_limits::AccountLimits;
pub use self::server_usage::{ModelEstimate, ServerUsage, ThreadEstimate};
pub use self::workspaces::{LoginWorkspace, parse_workspaces};

use super::auth::{AuthFile, text_field};
use super::home::AUTH_JSON;
use super::identity::{Email, Identity, LoginKind};
use super::program::{Program, ProgramError};
use super::redaction::printable;
use super::rpc::{Api, AppServer, Received, Reply, RpcError};
use crate::io::clock::Zone;
use crate::io::environment::Environment;
use crate::io::{is_interrupted, prefix_unless_empty};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The default time limit of a probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for Codex to renew a login. Longer than [`PROBE_TIMEOUT`], because a slow answer is
/// an inconvenience, but an interrupted renewal loses the login.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The time in which app-server has to end by itself after a failure, reserved at the end of the time limit.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// The time in which app-server has to end by itself after it has answered all questions.
const ANSWERED_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions<'a> {
    pub program: &'a Program,
    /// The home of the account. Codex writes into it.
    pub home: &'a Path,
    /// The environment of Codex. Variables that name another home or login are removed.
    pub env: &'a Environment,
    /// The current time, which decides whether the login is due for renewal.
    pub now: DateTime<Utc>,
    /// The zone of the times in the report.
    pub zone: Zone,
    /// The time limit for the whole probe, including the end of the child process. If a renewal is
    /// due, this time begins after the renewal.
    pub timeout: Duration,
    /// The time limit of a renewal; usually [`RENEWAL_TIMEOUT`].
    pub renewal_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProbeReport {
    /// The account. `None` if Codex reports no account, which it also does if it could not renew the
    /// login.
    pub account: Result<Option<ProbedAccount>, ProbeFailure>,
    pub limits: Result<AccountLimits, ProbeFailure>,
}

/// A request to app-server.
#[derive(Debug, Clone)]
pub struct Question {
    pub method: &'static str,
    pub params: Value,
    pub api: Api,
}

impl Question {
    pub fn new(method: &'static str, params: Value) -> Self {
        Self {
            method,
            params,
            api: Api::Stable,
        }
    }
}

impl ProbeReport {
    /// Returns true if the server no longer accepts the login: Codex could not renew it, and the
    /// server refuses the old token. A refused token alone proves nothing, it may have expired.
    pub fn is_login_revoked(&self) -> bool {
        let is_renewal_refused = match &self.account {
            Ok(account) => account.is_none(),
            // Codex renews a token that the server refuses before its expiry, and reports the refusal of the renewal.
            Err(ProbeFailure::Unauthorized(reason)) => reason.contains("your refresh token"),
            Err(_) => false,
        };
        is_renewal_refused && matches!(self.limits, Err(ProbeFailure::Unauthorized(_)))
    }
}

/// An account as Codex reports it. Every part may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedAccount {
    /// The kind of the login; `None` for a kind that is unknown to this program.
    pub kind: Option<LoginKind>,
    pub email: Option<String>,
    /// The subscription plan, such as "plus".
    pub plan: Option<String>,
    /// The user id (`chatgpt_user_id`).
    pub user_id: Option<String>,
    /// The workspace account id (`chatgpt_account_id`).
    pub account_id: Option<String>,
}

impl ProbedAccount {
    /// Returns the identity, if this is a ChatGPT login with an email.
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

/// The reason why a probe has no answer. The texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    #[error(transparent)]
    NoProgram(#[from] ProgramError),
    #[error("not signed in")]
    NotSignedIn,
    #[error("an API key has no quota windows")]
    ApiKey,
    /// The server refused the token (401).
    #[error("the server refused the login: {0}")]
    Unauthorized(String),
    /// The server asks for fewer requests (429).
    #[error("the server received too many requests: {0}")]
    RateLimited(String),
    /// The server failed: 5xx, or any other error status.
    #[error("the server failed: {0}")]
    Server(String),
    #[error("cannot reach the server: {0}")]
    Network(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Codex could not be started, or ended without an answer.
    #[error("codex app-server ended without an answer{}", prefix_unless_empty(": ", .0))]
    Crashed(String),
    /// Codex does not know the request, because it is older.
    #[error("this version of Codex does not report these figures")]
    Unsupported,
    /// An answer that this program cannot parse.
    #[error("codex app-server gave an unexpected answer: {0}")]
    Protocol(String),
    #[error("interrupted")]
    Interrupted,
}

/// Runs one probe. On return Codex and its process group have ended, except a Codex that is still renewing the login:
/// it keeps running until the renewal is complete.
///
/// Returns within the time limits of `options`. Codex may have replaced auth.json in the home, so the caller has to
/// read it again.
pub fn probe(options: &ProbeOptions) -> ProbeReport {
    // Codex must not renew the login for this request: only `initialize` has the longer time limit of a renewal.
    let params = json!({ "refreshToken": false });
    let [account, limits] = ask(
        options,
        [
            Question::new("account/read", params),
            Question::new("account/rateLimits/read", Value::Null),
        ],
    );

    ProbeReport {
        account: account.map(|result| parse_account(&result)),
        limits: limits.and_then(|result| AccountLimits::parse(&result, options.now, options.zone)),
    }
}

/// Sends all questions at once and returns the answers in the order of the questions. Ends Codex as [`probe`] does.
pub fn ask<const N: usize>(
    options: &ProbeOptions,
    questions: [Question; N],
) -> [Result<Value, ProbeFailure>; N] {
    let started = Instant::now();
    let server = match AppServer::start(options.program, options.home, options.env) {
        Ok(server) => server,
        Err(e) => {
            let failure = ProbeFailure::Crashed(printable(&e.to_string()));
            return questions.map(|_| Err(failure.clone()));
        }
    };

    let mut session = ProbeSession {
        server,
        replies: std::iter::repeat_with(|| None).take(N).collect(),
        is_renewing: is_renewal_due(options.home, &options.now),
        options,
        deadline: started + options.timeout,
    };

    let failure = session.collect_replies(&questions).err();
    // With its input closed Codex 0.169 ends within some 15 ms, unless a request is still pending.
    let exit_timeout = match failure {
        Some(_) => EXIT_TIMEOUT,
        None => ANSWERED_EXIT_TIMEOUT,
    };

    if session.is_renewing && matches!(failure, Some(ProbeFailure::TimedOut(_))) {
        // Codex may have spent the refresh token without having stored the new one, so it is not killed.
        session.server.child.detach();
    } else {
        let exit_deadline = session.deadline.min(Instant::now() + exit_timeout);
        session.server.child.finish(exit_deadline);
    }

    std::array::from_fn(|i| match (session.replies[i].take(), &failure) {
        // A reply that came before the failure is still an answer.
        (Some(reply), _) => reply.map_err(|error| to_probe_failure(&error)),
        (None, Some(failure)) => Err(failure.clone()),
        // Not reached: without a failure, all replies are there.
        (None, None) => Err(ProbeFailure::Protocol("no answer".into())),
    })
}

/// Returns true if Codex will renew the login of `home` when it starts.
fn is_renewal_due(home: &Path, now: &DateTime<Utc>) -> bool {
    AuthFile::read(&home.join(AUTH_JSON))
        .is_ok_and(|auth| auth.login().is_some_and(|login| login.is_renewal_due(now)))
}

struct ProbeSession<'a> {
    server: AppServer,
    /// The replies in the order of the questions.
    replies: Vec<Option<Reply>>,
    /// True while Codex may be spending the refresh token: it must not be killed then.
    is_renewing: bool,
    options: &'a ProbeOptions<'a>,
    /// The time at which the child process must have ended.
    deadline: Instant,
}

impl ProbeSession<'_> {
    /// Initializes app-server, sends the questions, and waits for all replies.
    fn collect_replies(&mut self, questions: &[Question]) -> Result<(), ProbeFailure> {
        // One experimental question needs the experimental API, which orders after the stable one.
        let apis = questions.iter().map(|question| question.api);
        self.initialize(apis.max().unwrap_or(Api::Stable))?;

        let mut request_ids = Vec::new();
        for question in questions {
            let sent = self.server.request(question.method, &question.params);
            request_ids.push(self.require_sent(sent)?);
        }

        // Replies may come in any order. Replies to other requests are ignored.
        while self.replies.iter().any(Option::is_none) {
            let (id, reply) = self.next_reply()?;
            if let Some(i) = request_ids.iter().position(|asked| *asked == id) {
                self.replies[i] = Some(reply);
            }
        }
        Ok(())
    }

    /// Initializes app-server, and waits for a renewal that is due.
    fn initialize(&mut self, api: Api) -> Result<(), ProbeFailure> {
        let sent = self.server.send_initialize(api);
        let initialize_id = self.require_sent(sent)?;

        if self.is_renewing {
            // Codex renews the login between the request `initialize` and its answer.
            let renewal_deadline = Instant::now() + self.options.renewal_timeout;
            self.deadline = self.deadline.max(renewal_deadline);
        }

        loop {
            match self.next_reply()? {
                (id, Ok(_)) if id == initialize_id => break,
                (id, Err(error)) if id == initialize_id => return Err(to_probe_failure(&error)),
                _ => {}
            }
        }

        if self.is_renewing {
            // The answer to `initialize` comes after the new login is stored.
            self.is_renewing = false;
            self.deadline = Instant::now() + self.options.timeout;
        }

        let sent = self.server.send_initialized();
        self.require_sent(sent)
    }

    /// Converts a failure to send a request to [`ProbeFailure::Crashed`]: Codex accepts requests until it ends.
    fn require_sent<T>(&mut self, result: io::Result<T>) -> Result<T, ProbeFailure> {
        result.map_err(|_| self.finish_crashed())
    }

    /// Waits for the next reply to any request. Other lines are skipped.
    fn next_reply(&mut self) -> Result<(u64, Reply), ProbeFailure> {
        loop {
            if is_interrupted() && !self.is_renewing {
                return Err(ProbeFailure::Interrupted);
            }

            // Reserves the end of the time limit, at most a fifth of it, for Codex to exit.
            let reserved = EXIT_TIMEOUT.min(self.options.timeout / 5);
            let reply_deadline = self.deadline.checked_sub(reserved);
            let reply_deadline = reply_deadline.unwrap_or(self.deadline);
            if Instant::now() >= reply_deadline {
                let limit = if self.is_renewing {
                    self.options.renewal_timeout
                } else {
                    self.options.timeout
                };
                return Err(ProbeFailure::TimedOut(limit));
            }

            match self.server.receive(reply_deadline) {
                Received::Nothing => {}
                Received::Closed => return Err(self.finish_crashed()),
                Received::Reply(id, reply) => return Ok((id, reply)),
            }
        }
    }

    /// Waits until a Codex that has closed its input or output has ended, and kills it after [`EXIT_TIMEOUT`]. Returns
    /// the failure with the reason from its standard error.
    fn finish_crashed(&mut self) -> ProbeFailure {
        let child = &mut self.server.child;
        child.finish(self.deadline.min(Instant::now() + EXIT_TIMEOUT));
        ProbeFailure::Crashed(printable(&find_crash_reason(&child.stderr())))
    }
}

/// Returns the first error line on the standard error of Codex, without its prefix. If there is none,
/// returns the last three lines before the backtrace.
fn find_crash_reason(stderr: &str) -> String {
    let lines: Vec<_> = stderr
        .lines()
        .take_while(|line| line.trim() != "Stack backtrace:")
        .filter(|line| !line.trim().is_empty())
        .collect();

    let error = lines.iter().find_map(|line| {
        line.strip_prefix("Error: ")
            .or_else(|| line.strip_prefix("error: "))
    });
    match error {
        Some(error) => error.to_owned(),
        None => lines[lines.len().saturating_sub(3)..].join("; "),
    }
}

/// Classifies an error of Codex 0.169 by its code and text. -32600 is about the login or the request. All other
/// errors have the code -32603, and the status and body of the failed request in their text.
fn to_probe_failure(error: &RpcError) -> ProbeFailure {
    let message = error.message.to_lowercase();
    let detail = printable(&error.message);

    if error.code == -32600 && message.contains("authentication required") {
        // "codex account authentication required" without a login, "chatgpt authentication required" with an API key.
        return if message.starts_with("chatgpt") {
            ProbeFailure::ApiKey
        } else {
            ProbeFailure::NotSignedIn
        };
    }

    // Codex answers an unknown request with "unknown variant" and the names of all known requests.
    if error.code == -32600 && message.contains("unknown variant") {
        return ProbeFailure::Unsupported;
    }

    // Codex writes the HTTP status after `failed: `.
    let status = message
        .split("failed: ")
        .filter_map(|after| after.get(..3)?.parse::<u16>().ok())
        .find(|status| (100..600).contains(status));
    match status {
        Some(401) => ProbeFailure::Unauthorized(detail),
        Some(429) => ProbeFailure::RateLimited(detail),
        Some(400..) => ProbeFailure::Server(detail),
        _ => classify_by_words(&message, error.code, detail),
    }
}

/// Classifies an error by the words of `message`, which is in lower case.
fn classify_by_words(message: &str, code: i64, detail: String) -> ProbeFailure {
    // Digits in a URL or within a longer number are no HTTP status.
    let is_no_url = |word: &&str| !word.contains("://");
    let words: Vec<_> = message.split_whitespace().filter(is_no_url).collect();
    let text_without_urls = words.join(" ");
    let is_status = |status: &str| {
        let mut words = text_without_urls.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word == status)
    };
    let mentions_any = |words: &[&str]| words.iter().any(|word| text_without_urls.contains(word));

    if is_status("401") || mentions_any(&["unauthorized", "token_expired", "refresh token"]) {
        ProbeFailure::Unauthorized(detail)
    } else if is_status("429") || mentions_any(&["too many requests"]) {
        ProbeFailure::RateLimited(detail)
    } else if mentions_any(&[
        "error sending request",
        "routing discovery",
        "timed out",
        "connect",
        "dns",
    ]) {
        ProbeFailure::Network(detail)
    } else if ["500", "502", "503", "504"].into_iter().any(is_status)
        || mentions_any(&["internal server error"])
    {
        ProbeFailure::Server(detail)
    } else {
        ProbeFailure::Protocol(format!("{detail} ({code})"))
    }
}

fn parse_account(result: &Value) -> Option<ProbedAccount> {
    let account = &result["account"];
    if !account.is_object() {
        return None;
    }
    Some(ProbedAccount {
        kind: match account["type"].as_str() {
            Some("chatgpt") => Some(LoginKind::Chatgpt),
            Some("apiKey") => Some(LoginKind::ApiKey),
            _ => None,
        },
        email: text_field(account, "email"),
        plan: text_field(account, "planType"),
        user_id: text_field(result, "userId"),
        account_id: text_field(&result["workspaceRouting"], "chatgptAccountId"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(message: &str) -> ProbeFailure {
        to_probe_failure(&RpcError {
            code: -32603,
            message: message.to_owned(),
        })
    }

    #[test]
    fn digits_in_a_url_are_not_read_as_a_status() {
        for port in ["40199", "42947", "401", "429", "50300"] {
            let output = format!(
                "failed to fetch codex rate limits: error sending request for url \
                 (http://127.0.0.1:{port}/backend-api/wham/usage)"
            );
            assert!(
                matches!(kind_of(&output), ProbeFailure::Network(_)),
                "{port}: {:?}",
                kind_of(&output)
            );
        }
    }

    #[test]
    fn a_status_is_recognized_anywhere_in_the_text() {
        let unauthorized = kind_of("GET http://127.0.0.1:42947/x failed: 401 Unauthorized");
        assert!(matches!(unauthorized, ProbeFailure::Unauthorized(_)));
        let limited = kind_of("the server output (429)");
        assert!(matches!(limited, ProbeFailure::RateLimited(_)));
        let server = kind_of("status 503, try again");
        assert!(matches!(server, ProbeFailure::Server(_)));
    }
}
