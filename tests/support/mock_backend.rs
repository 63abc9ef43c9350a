//! A mock on loopback of the services that Codex CLI uses: turns (Responses API), usage, workspace
//! check, token refresh and revocation.
//!
//! A minimal HTTP/1.1 server on threads. The state is in this process, so a test changes figures
//! directly and waits for requests on a condition variable instead of sleeping. Dropping
//! [`MockBackend`] releases held turns, shuts the connections down, and joins every thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sign_in::{AUTH_CLAIM, SignIn, default_user_id, jwt_claims, unix_now};

/// Path ending of the usage endpoint, for [`Account::blackhole`].
pub(crate) const USAGE: &str = "/wham/usage";
/// Path ending of the workspace check that precedes every turn and answers `account/read`.
pub(crate) const ACCOUNTS_CHECK: &str = "/wham/accounts/check";
/// Path ending of the list of banked resets.
pub(crate) const RESET_CREDITS: &str = "/wham/rate-limit-reset-credits";
/// Path ending of a turn.
pub(crate) const RESPONSES: &str = "/responses";

/// The time of a window's reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reset {
    /// An absolute time in Unix seconds.
    At(i64),
    /// Seconds after the request that asks for it.
    InSeconds(i64),
}

/// A rate-limit window of the mock.
#[allow(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    /// 0 to 100. The usage endpoint rounds it, the headers of a turn do not.
    pub(crate) used_percent: f64,
    /// Length: 300 for five hours, 10080 for a week.
    pub(crate) window_minutes: i64,
    /// The time at which the window resets.
    pub(crate) reset: Reset,
}

impl Window {
    /// Creates a five-hour window that resets in two hours.
    pub(crate) fn five_hours(used_percent: f64) -> Self {
        Self {
            used_percent,
            window_minutes: 300,
            reset: Reset::InSeconds(7_200),
        }
    }

    /// Creates a weekly window that resets in three days.
    pub(crate) fn weekly(used_percent: f64) -> Self {
        Self {
            used_percent,
            window_minutes: 10_080,
            reset: Reset::InSeconds(259_200),
        }
    }

    /// Sets the time of the reset, in Unix seconds.
    #[must_use]
    pub(crate) fn reset_at(mut self, unix_seconds: i64) -> Self {
        self.reset = Reset::At(unix_seconds);
        self
    }

    /// Sets the time of the reset, in seconds after each request.
    #[must_use]
    pub(crate) fn reset_in_seconds(mut self, seconds: i64) -> Self {
        self.reset = Reset::InSeconds(seconds);
        self
    }

    fn resets_at(&self) -> i64 {
        match self.reset {
            Reset::At(at) => at,
            Reset::InSeconds(seconds) => unix_now() + seconds,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "a percentage")]
    fn usage_json(&self) -> Value {
        let at = self.resets_at();
        json!({
            "used_percent": self.used_percent.round() as i64,
            "limit_window_seconds": self.window_minutes * 60,
            "reset_after_seconds": (at - unix_now()).max(0),
            "reset_at": at,
        })
    }
}

/// A limit in addition to the main one: an entry of `additional_rate_limits`, which
/// `account/rateLimits/read` shows in `rateLimitsByLimitId` under its id.
#[derive(Clone, Debug)]
pub(crate) struct ExtraLimit {
    /// `metered_feature` on the wire, `limitId` in the app-server's answer.
    pub(crate) limit_id: String,
    /// `limit_name` on the wire, `limitName` in the app-server's answer.
    pub(crate) limit_name: String,
    /// The first window, if any.
    pub(crate) primary: Option<Window>,
    /// The second window, if any.
    pub(crate) secondary: Option<Window>,
}

/// The limit on spending of an account: `spend_control` of the usage endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpendControl {
    /// True if the server reports it as reached.
    pub(crate) reached: bool,
    /// The remaining individual limit in percent, and the Unix seconds of its reset.
    pub(crate) individual: Option<(u8, i64)>,
}

/// The data of an account, and its faults.
#[allow(clippy::struct_excessive_bools, reason = "each is a separate fault")]
#[allow(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The account id in `auth.json`, without dots.
    pub(crate) account_id: String,
    /// The `chatgpt_user_id` of the account.
    pub(crate) user_id: String,
    /// The email, which is also the name of the workspace.
    pub(crate) email: String,
    /// The subscription plan, such as "plus".
    pub(crate) plan: String,
    /// The first window; omitted if `None`.
    pub(crate) primary: Option<Window>,
    /// The second window; omitted if `None`.
    pub(crate) secondary: Option<Window>,
    /// Limits in addition to the main one.
    pub(crate) extra_limits: Vec<ExtraLimit>,
    /// The limit on spending; omitted if `None`.
    pub(crate) spend_control: Option<SpendControl>,
    /// The reached limit in the answer of the usage endpoint, such as `workspace_owner_credits_depleted`.
    pub(crate) reached_type: Option<&'static str>,
    /// `rate_limit_reset_credits` in the answer of the usage endpoint; omitted if `None`.
    pub(crate) reset_count: Option<Value>,
    /// Further rows in the answer of the workspace check.
    pub(crate) workspaces: Vec<Value>,
    /// Answers by the ends of their paths, for requests that nothing else answers.
    pub(crate) answers: BTreeMap<&'static str, Value>,
    /// The status of the usage endpoint's answers, for example 503.
    pub(crate) usage_status: Option<u16>,
    /// The status of the workspace check's answers. Every turn then fails.
    pub(crate) check_status: Option<u16>,
    /// Turns answer 429 `usage_limit_reached`.
    pub(crate) usage_limit: bool,
    /// Every authenticated request answers 401.
    pub force_401: bool,
    /// A refresh answers `refresh_token_expired`.
    pub(crate) refresh_expired: bool,
    /// A refresh answers `refresh_token_invalidated`.
    pub(crate) revoked: bool,
    /// The lifetime of the access tokens that a refresh returns.
    pub(crate) access_ttl_seconds: i64,
    /// The delay of the answer to a refresh. The token is spent at once.
    pub(crate) refresh_delay_ms: u64,
    /// The delay of every authenticated answer.
    pub(crate) delay_ms: u64,
    /// Turns stop after the beginning of their answer while this is true.
    pub(crate) hold_turns: bool,
    /// Requests with this path suffix are accepted and not answered until the entry is removed.
    pub(crate) blackhole: Vec<&'static str>,
    /// The text of the assistant's answers.
    pub(crate) reply: String,
}

impl Account {
    /// Creates a plus account with 10 % of five hours and 20 % of the week used.
    pub(crate) fn new(account_id: &str, email: &str) -> Self {
        Self {
            account_id: account_id.to_owned(),
            user_id: default_user_id(account_id),
            email: email.to_owned(),
            plan: "plus".to_owned(),
            primary: Some(Window::five_hours(10.0)),
            secondary: Some(Window::weekly(20.0)),
            extra_limits: Vec::new(),
            spend_control: None,
            reached_type: None,
            reset_count: None,
            workspaces: Vec::new(),
            answers: BTreeMap::new(),
            usage_status: None,
            check_status: None,
            usage_limit: false,
            force_401: false,
            refresh_expired: false,
            revoked: false,
            access_ttl_seconds: 864_000,
            refresh_delay_ms: 0,
            delay_ms: 0,
            hold_turns: false,
            blackhole: Vec::new(),
            reply: "Hello from the mock.".to_owned(),
        }
    }

    /// Creates `acct-alice`, plus, with 12 % and 91 % used.
    pub(crate) fn alice() -> Self {
        let mut alice = Self::new("acct-alice", "alice@example.com");
        alice.primary = Some(Window::five_hours(12.0));
        alice.secondary = Some(Window::weekly(91.0));
        alice
    }

    /// Creates `acct-bob`, pro, with 3 % and 25 % used.
    pub(crate) fn bob() -> Self {
        let mut bob = Self::new("acct-bob", "bob@example.com");
        "pro".clone_into(&mut bob.plan);
        bob.primary = Some(Window::five_hours(3.0));
        bob.secondary = Some(Window::weekly(25.0));
        bob
    }
}

/// A request to the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The method: `GET`, `POST`, `CONNECT`…
    pub(crate) method: String,
    /// The path without the query; for `CONNECT` the requested authority.
    pub(crate) path: String,
    /// The account in the header, else in the token's claim.
    pub(crate) account_id: Option<String>,
    /// The status of the answer; 0 if there was none.
    pub(crate) status: u16,
}

/// A tool call of the model.
#[derive(Clone, Debug)]
pub(crate) struct ToolCall {
    /// The namespace of the tool.
    pub(crate) namespace: &'static str,
    /// The name of the tool.
    pub(crate) name: &'static str,
    /// The arguments, a JSON object.
    pub(crate) arguments: Value,
}

/// A running mock backend.
pub(crate) struct MockBackend {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

/// One account of a running backend.
pub(crate) struct AccountHandle<'a> {
    shared: &'a Shared,
    account_id: String,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<String, Account>,
    revoke_family_on_reuse: bool,
    spent: BTreeSet<String>,
    revoked_families: BTreeSet<String>,
    revocations: Vec<String>,
    refreshes: Vec<(String, u16)>,
    reused: Vec<String>,
    requests: Vec<Request>,
    held: Vec<String>,
    signing_in: Option<String>,
    sign_ins: u64,
    turns: u64,
    /// The tool calls of the next turn; `calls_made` counts those that were sent.
    calls: Vec<ToolCall>,
    calls_made: usize,
    /// The body of the last turn.
    last_turn: Value,
    stopping: bool,
    connections: BTreeMap<u64, TcpStream>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl MockBackend {
    /// Starts on a free loopback port with [`Account::alice`] and [`Account::bob`].
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1")
    }

    /// Like [`Self::start`], at this loopback address.
    pub(crate) fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("bind a loopback port");
        let address = listener.local_addr().expect("the bound address");
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("mock-backend".to_owned())
            .spawn(move || accept(&listener, &for_thread))
            .expect("start the accept thread");
        let backend = Self {
            shared,
            address,
            acceptor: Some(acceptor),
        };
        backend.add(Account::alice());
        backend.add(Account::bob());
        backend
    }

    /// Returns `http://ADDRESS:PORT`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds or replaces an account.
    pub(crate) fn add(&self, account: Account) {
        self.shared.alter(|state| {
            state.accounts.insert(account.account_id.clone(), account);
        });
    }

    /// Returns the account with this id, which must exist.
    pub(crate) fn account(&self, account_id: &str) -> AccountHandle<'_> {
        assert!(
            self.shared.lock().accounts.contains_key(account_id),
            "the mock backend has no account {account_id}"
        );
        AccountHandle {
            shared: &self.shared,
            account_id: account_id.to_owned(),
        }
    }

    /// Makes the model call these tools, one after another, in the next turn that begins.
    pub(crate) fn call_tools(&self, calls: &[ToolCall]) {
        self.shared.alter(|state| {
            state.calls = calls.to_vec();
            state.calls_made = 0;
        });
    }

    /// Sets whether a reused refresh token also revokes its successors. Off by default.
    pub(crate) fn revoke_family_on_reuse(&self, revoke: bool) {
        self.shared
            .alter(|state| state.revoke_family_on_reuse = revoke);
    }

    /// Sets the account of later sign-ins with a device code. With `None` they stay pending.
    pub(crate) fn sign_in_as(&self, account_id: Option<&str>) {
        self.shared
            .alter(|state| state.signing_in = account_id.map(ToOwned::to_owned));
    }

    /// Returns every request so far, in the order of the answers.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Returns what Codex sent with the last turn.
    pub(crate) fn last_turn(&self) -> Value {
        self.shared.lock().last_turn.clone()
    }

    /// Returns the requests with this path suffix.
    pub(crate) fn requests_to(&self, path_end: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path.ends_with(path_end));
        requests
    }

    /// Drops the recorded requests; refreshes and spent tokens stay.
    pub(crate) fn forget_requests(&self) {
        self.shared.alter(|state| state.requests.clear());
    }

    /// Returns `(refresh token, status)` of every refresh so far.
    pub(crate) fn refreshes(&self) -> Vec<(String, u16)> {
        self.shared.lock().refreshes.clone()
    }

    /// Waits for a refresh with this token. Returns false after `limit`.
    #[must_use]
    pub(crate) fn wait_for_refresh(&self, limit: Duration, token: &str) -> bool {
        self.shared.wait_until(limit, |state| {
            state.refreshes.iter().any(|(asked, _)| asked == token)
        })
    }

    /// Returns every refresh token that was used again after it was spent. The real server would
    /// invalidate such a login.
    pub(crate) fn reused_tokens(&self) -> Vec<String> {
        self.shared.lock().reused.clone()
    }

    /// Returns every token that was revoked, as `codex logout` does.
    pub(crate) fn revocations(&self) -> Vec<String> {
        self.shared.lock().revocations.clone()
    }

    /// Returns `host:port` of every https connection that Codex attempted through the proxy of
    /// `codex_env`.
    pub(crate) fn outside(&self) -> Vec<String> {
        let connects = self.requests().into_iter();
        connects
            .filter(|request| request.method == "CONNECT")
            .map(|request| request.path)
            .collect()
    }

    /// Waits until `enough` accepts the requests so far. Returns false after `limit`.
    #[must_use]
    pub(crate) fn wait_for(&self, limit: Duration, enough: impl Fn(&[Request]) -> bool) -> bool {
        self.shared
            .wait_until(limit, |state| enough(&state.requests))
    }
}

impl Drop for MockBackend {
    fn drop(&mut self) {
        self.shared.alter(|state| {
            state.stopping = true;
            for connection in state.connections.values() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
        // The accept loop checks `stopping` after each connection, so it needs another one.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let ended = acceptor.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "the mock backend panicked"
            );
        }
    }
}

impl AccountHandle<'_> {
    /// Changes the account, and wakes held turns and blackholed requests.
    pub(crate) fn set(&self, alter: impl FnOnce(&mut Account)) {
        self.shared.alter(|state| {
            alter(
                state
                    .accounts
                    .get_mut(&self.account_id)
                    .expect("the account is known"),
            );
        });
    }

    /// Returns a copy of the account.
    pub(crate) fn get(&self) -> Account {
        self.shared.lock().accounts[&self.account_id].clone()
    }

    /// Makes turns stay open; see [`AccountHandle::wait_for_held_turn`].
    pub(crate) fn hold_turns(&self) {
        self.set(|account| account.hold_turns = true);
    }

    /// Finishes held turns; later ones are not held.
    pub(crate) fn release_turns(&self) {
        self.set(|account| account.hold_turns = false);
    }

    /// Waits until a turn is held. Returns false after `limit`.
    #[must_use]
    pub(crate) fn wait_for_held_turn(&self, limit: Duration) -> bool {
        self.shared
            .wait_until(limit, |state| state.held.contains(&self.account_id))
    }
}

impl State {
    /// Returns the next tool call, if the request contains the results of all earlier ones.
    fn next_call(&mut self, body: &[u8]) -> Option<ToolCall> {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        self.last_turn.clone_from(&request);
        let call = self.calls.get(self.calls_made)?.clone();
        let input = request["input"].as_array()?.iter();
        let results = input.filter(|item| item["type"] == "function_call_output");
        (results.count() == self.calls_made).then(|| {
            self.calls_made += 1;
            call
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alter<T>(&self, alter: impl FnOnce(&mut State) -> T) -> T {
        let result = alter(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `done` returns true or the backend stops. Returns the result of `done`.
    fn wait_until(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if done(&state) || state.stopping || left.is_zero() {
                return done(&state);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn record(&self, head: &Head, account_id: Option<&str>, status: u16) {
        self.alter(|state| {
            state.requests.push(Request {
                method: head.method.clone(),
                path: head.path.clone(),
                account_id: account_id.map(ToOwned::to_owned),
                status,
            });
        });
    }
}

/// The time limit of waits that an event or the end of the backend finishes.
const LONG: Duration = Duration::from_secs(86_400);

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut handlers: Vec<JoinHandle<()>> = Vec::new();
    for (id, stream) in (0..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        let Ok(for_drop) = stream.try_clone() else {
            continue;
        };
        let stopping = shared.alter(|state| {
            state.connections.insert(id, for_drop);
            state.stopping
        });
        if stopping {
            break;
        }
        handlers.retain(|handler| !handler.is_finished());
        let shared = Arc::clone(shared);
        handlers.push(thread::spawn(move || {
            // Codex may close the connection at any time; that is not a failure of the backend.
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
            shared.alter(|state| state.connections.remove(&id));
        }));
    }
    for handler in handlers {
        handler
            .join()
            .expect("a connection of the mock backend panicked");
    }
}

struct Head {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

impl Head {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }
}

/// Answers requests in sequence until the client disconnects.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let body = read_body(&mut reader, &head)?;
        match route(&head, &body, shared) {
            Routed::Answer(account_id, answer) => {
                shared.record(&head, account_id.as_deref(), answer.status);
                write_answer(stream, &answer)?;
            }
            Routed::Turn(account, headers) => {
                shared.record(&head, Some(&account.account_id), 200);
                let call = shared.alter(|state| state.next_call(&body));
                return write_turn(stream, &account, &headers, call.as_ref(), shared);
            }
            Routed::Blackhole(account_id) => {
                shared.record(&head, Some(&account_id), 0);
                let path = head.path.as_str();
                shared.wait_until(LONG, |state| {
                    state
                        .accounts
                        .get(&account_id)
                        .is_none_or(|account| !is_blackholed(account, path))
                });
                return Ok(());
            }
        }
    }
    Ok(())
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
            None => {
                return Ok(Some(Head {
                    method,
                    path,
                    headers,
                }));
            }
        }
    }
}

fn read_body(reader: &mut impl io::BufRead, head: &Head) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !head
        .header("transfer-encoding")
        .eq_ignore_ascii_case("chunked")
    {
        let length = head.header("content-length").parse().unwrap_or(0);
        reader.take(length).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        reader.take(size).read_to_end(&mut body)?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

enum Routed {
    Answer(Option<String>, Answer),
    Turn(Box<Account>, Vec<(String, String)>),
    Blackhole(String),
}

fn route(head: &Head, body: &[u8], shared: &Shared) -> Routed {
    let path = head.path.as_str();
    if head.method == "CONNECT" {
        return Routed::Answer(None, Answer::new(403, json!({"detail": "loopback only"})));
    }
    if let Some(answer) = answer_device_sign_in(head, body, shared) {
        return Routed::Answer(None, answer);
    }
    if path == "/oauth/token" || path == "/oauth/revoke" {
        let sent: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let answer = if path == "/oauth/token" {
            refresh(sent["refresh_token"].as_str().unwrap_or_default(), shared)
        } else {
            revoke(sent["token"].as_str().unwrap_or_default(), shared)
        };
        return Routed::Answer(None, answer);
    }

    let bearer = head
        .header("authorization")
        .trim_start_matches("Bearer ")
        .trim();
    let claims = jwt_claims(bearer);
    let account_id = match head.header("chatgpt-account-id") {
        "" => claims[AUTH_CLAIM]["chatgpt_account_id"]
            .as_str()
            .unwrap_or_default(),
        id => id,
    };
    let named = (!account_id.is_empty()).then(|| account_id.to_owned());
    if bearer.is_empty() {
        return Routed::Answer(named, Answer::new(401, json!({"detail": "Unauthorized"})));
    }
    let by_api_key = bearer.starts_with("sk-");
    let account = if by_api_key {
        let mut account = Account::new("api-key", "");
        (account.primary, account.secondary) = (None, None);
        account
    } else {
        let known = shared.lock().accounts.get(account_id).cloned();
        let live = claims["exp"].as_i64().is_some_and(|exp| exp > unix_now());
        match known.filter(|account| live && !account.force_401) {
            Some(account) => account,
            None => return Routed::Answer(named, token_expired()),
        }
    };
    if is_blackholed(&account, path) {
        return Routed::Blackhole(account.account_id);
    }
    if account.delay_ms > 0 {
        shared.wait_until(Duration::from_millis(account.delay_ms), |state| {
            state.stopping
        });
    }

    let answer = match head.method.as_str() {
        "GET" if path.ends_with(USAGE) => match account.usage_status {
            Some(status) => Answer::new(status, json!({"detail": "mock failure"})),
            None => Answer::new(200, usage(&account)),
        },
        "GET" if path.ends_with(ACCOUNTS_CHECK) => match account.check_status {
            Some(status) => Answer::new(status, json!({"detail": "mock failure"})),
            None => Answer::new(200, workspaces_json(&account)),
        },
        // With some providers Codex tries a WebSocket first, and falls back to HTTP.
        "GET" if path.ends_with(RESPONSES) => {
            Answer::new(426, json!({"detail": "upgrade required"}))
        }
        "POST" if path.ends_with(RESPONSES) => {
            let headers = if by_api_key {
                Vec::new()
            } else {
                rate_limit_headers(&account)
            };
            if !account.usage_limit {
                return Routed::Turn(Box::new(account), headers);
            }
            Answer {
                headers,
                ..Answer::new(429, usage_limit_reached(&account))
            }
        }
        "GET" if path.ends_with("/models") => {
            Answer::new(200, json!({"models": [], "data": [], "object": "list"}))
        }
        _ => {
            let mut answers = account.answers.iter();
            match answers.find(|(end, _)| path.ends_with(**end)) {
                Some((_, body)) => Answer::new(200, body.clone()),
                None => Answer::new(404, json!({"detail": "not found"})),
            }
        }
    };
    Routed::Answer(named, answer)
}

fn is_blackholed(account: &Account, path: &str) -> bool {
    account.blackhole.iter().any(|end| path.ends_with(end))
}

/// Answers the requests of `codex login --device-auth`: the code, its state, its tokens.
fn answer_device_sign_in(head: &Head, body: &[u8], shared: &Shared) -> Option<Answer> {
    const CODE: &str = "code-of-";
    let path = head.path.as_str();
    if path.ends_with("/deviceauth/usercode") {
        let code =
            json!({"device_auth_id": "device-1", "user_code": "ABCD-12345", "interval": "1"});
        return Some(Answer::new(200, code));
    }
    if path.ends_with("/deviceauth/token") {
        let who = shared.lock().signing_in.clone();
        return Some(match who {
            Some(who) => Answer::new(
                200,
                json!({
                    "authorization_code": format!("{CODE}{who}"),
                    "code_challenge": "challenge",
                    "code_verifier": "verifier",
                }),
            ),
            None => Answer::new(403, json!({"error": "authorization_pending"})),
        });
    }
    // The token request of a sign-in is a form; that of a refresh is JSON.
    let form = std::str::from_utf8(body).ok()?;
    let code = form.split('&').find_map(|pair| pair.strip_prefix("code="));
    let who = code
        .filter(|_| path == "/oauth/token")?
        .strip_prefix(CODE)?;
    shared.alter(|state| {
        state.sign_ins += 1;
        let account = state.accounts.get(who)?;
        let login = SignIn::to_account(account)
            .issued_at(unix_now())
            .family(&format!("login{}", state.sign_ins));
        let (id_token, access_token) = login.tokens();
        Some(Answer::new(
            200,
            json!({
                "id_token": id_token,
                "access_token": access_token,
                "refresh_token": login.refresh_token(),
            }),
        ))
    })
}

/// Spends a refresh token `rt.<account>.<family>.<n>`.
fn refresh(token: &str, shared: &Shared) -> Answer {
    let (answer, delay_ms) = shared.alter(|state| {
        let answer = try_refresh(token, state);
        state.refreshes.push((token.to_owned(), answer.status));
        let account = parse_refresh_token(token).and_then(|(id, _, _)| state.accounts.get(id));
        (
            answer,
            account.map_or(0, |account| account.refresh_delay_ms),
        )
    });
    shared.wait_until(Duration::from_millis(delay_ms), |state| state.stopping);
    answer
}

fn try_refresh(token: &str, state: &mut State) -> Answer {
    let invalidated = || refusal("refresh_token_invalidated", "Your session has ended.");
    let Some((account_id, family, generation)) = parse_refresh_token(token) else {
        return invalidated();
    };
    let Some(account) = state.accounts.get(account_id) else {
        return invalidated();
    };
    let family_key = family_key(account_id, family);
    if account.revoked || state.revoked_families.contains(&family_key) {
        return invalidated();
    }
    if account.refresh_expired {
        return refusal("refresh_token_expired", "Your refresh token has expired.");
    }
    if !state.spent.insert(token.to_owned()) {
        state.reused.push(token.to_owned());
        if state.revoke_family_on_reuse {
            state.revoked_families.insert(family_key);
        }
        return refusal(
            "refresh_token_reused",
            "Your refresh token was used before.",
        );
    }
    // One thread may answer several times, each with a login of its own time.
    let next = SignIn::to_account(account)
        .issued_at(unix_now())
        .family(family)
        .generation(generation + 1)
        .ttl_seconds(account.access_ttl_seconds);
    let (id_token, access_token) = next.tokens();
    Answer::new(
        200,
        json!({
            "id_token": id_token,
            "access_token": access_token,
            "refresh_token": next.refresh_token(),
            "token_type": "Bearer",
            "expires_in": account.access_ttl_seconds,
        }),
    )
}

fn revoke(token: &str, shared: &Shared) -> Answer {
    shared.alter(|state| {
        state.revocations.push(token.to_owned());
        if let Some((account_id, family, _)) = parse_refresh_token(token) {
            state
                .revoked_families
                .insert(family_key(account_id, family));
        }
    });
    Answer::new(200, json!({}))
}

fn parse_refresh_token(token: &str) -> Option<(&str, &str, u64)> {
    let mut parts = token.strip_prefix("rt.")?.split('.');
    let found = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}

fn family_key(account_id: &str, family: &str) -> String {
    format!("{account_id}.{family}")
}

fn refusal(code: &str, message: &str) -> Answer {
    let error = json!({
        "code": code,
        "message": message,
        "param": null,
        "type": "invalid_request_error",
    });
    Answer::new(401, json!({"error": error}))
}

fn token_expired() -> Answer {
    let message = "Provided authentication token is expired.";
    let error = json!({"code": "token_expired", "message": message});
    Answer::new(401, json!({"error": error, "status": 401}))
}

fn usage(account: &Account) -> Value {
    let extra: Vec<Value> = account
        .extra_limits
        .iter()
        .map(|limit| {
            json!({
                "limit_name": limit.limit_name,
                "metered_feature": limit.limit_id,
                "rate_limit": rate_limit(limit.primary, limit.secondary),
            })
        })
        .collect();
    json!({
        "account_id": account.account_id,
        "user_id": account.user_id,
        "email": account.email,
        "plan_type": account.plan,
        "rate_limit": rate_limit(account.primary, account.secondary),
        "additional_rate_limits": if extra.is_empty() { Value::Null } else { json!(extra) },
        "code_review_rate_limit": null,
        "credits": {
            "has_credits": false,
            "unlimited": false,
            "balance": "0",
            "approx_local_messages": [0, 0],
            "approx_cloud_messages": [0, 0],
        },
        "promo": null,
        "spend_control": account.spend_control.map(spend_control),
        "rate_limit_reset_credits": account.reset_count,
        "rate_limit_reached_type": account.reached_type.map(|reached| json!({"type": reached})),
    })
}

fn spend_control(control: SpendControl) -> Value {
    let individual = control.individual.map(|(left, reset_at)| {
        json!({
            "limit": "5000",
            "used": (50 * (100 - i64::from(left))).to_string(),
            "remaining": (50 * i64::from(left)).to_string(),
            "remaining_percent": left,
            "used_percent": 100 - left,
            "reset_at": reset_at,
            "reset_after_seconds": (reset_at - unix_now()).max(0),
        })
    });
    json!({"reached": control.reached, "individual_limit": individual})
}

fn rate_limit(primary: Option<Window>, secondary: Option<Window>) -> Value {
    let full = |window: Option<Window>| window.is_some_and(|it| it.used_percent >= 100.0);
    let reached = full(primary) || full(secondary);
    json!({
        "allowed": !reached,
        "limit_reached": reached,
        "primary_window": primary.map(|window| window.usage_json()),
        "secondary_window": secondary.map(|window| window.usage_json()),
    })
}

/// Returns the answer of the workspace check. Codex refuses every turn unless it lists the account
/// ("workspace routing discovery failed").
fn workspaces_json(account: &Account) -> Value {
    let row = json!({
        "id": account.account_id,
        "name": account.email,
        "plan_type": account.plan,
        "structure": "personal",
        "account_user_role": "account-owner",
        "account_routing_override": "NO_CONSTRAINT",
        "workspace_backend_origin": "https://chatgpt.com",
        "is_deactivated": false,
    });
    let rows: Vec<_> = [row]
        .into_iter()
        .chain(account.workspaces.clone())
        .collect();
    json!({
        "accounts": rows,
        "account_ordering": [account.account_id],
        "default_account_id": account.account_id,
    })
}

fn usage_limit_reached(account: &Account) -> Value {
    let resets_at = account
        .secondary
        .or(account.primary)
        .map(|window| window.resets_at());
    json!({"error": {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": account.plan,
        "resets_at": resets_at,
        "resets_in_seconds": resets_at.map(|at| (at - unix_now()).max(0)),
    }})
}

fn rate_limit_headers(account: &Account) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = [
        ("x-codex-active-limit", "codex"),
        ("x-codex-plan-type", &account.plan),
        ("x-codex-credits-has-credits", "False"),
        ("x-codex-credits-unlimited", "False"),
        ("x-codex-credits-balance", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for (name, window) in [
        ("primary", account.primary),
        ("secondary", account.secondary),
    ] {
        let Some(window) = window else { continue };
        let at = window.resets_at();
        let mut add = |what: &str, value: String| {
            headers.push((format!("x-codex-{name}-{what}"), value));
        };
        add("used-percent", window.used_percent.to_string());
        add("window-minutes", window.window_minutes.to_string());
        add("reset-at", at.to_string());
        add("reset-after-seconds", (at - unix_now()).max(0).to_string());
    }
    headers
}

fn write_answer(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    let body = answer.body.to_string();
    let mut text = format!("HTTP/1.1 {} Mock\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(
        text,
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes())
}

/// Streams a turn as server-sent events. The end of the connection ends the body.
fn write_turn(
    mut stream: &TcpStream,
    account: &Account,
    headers: &[(String, String)],
    call: Option<&ToolCall>,
    shared: &Shared,
) -> io::Result<()> {
    let number = shared.alter(|state| {
        state.turns += 1;
        state.turns
    });
    let (response_id, message_id) = (format!("resp_{number}"), format!("msg_{number}"));
    let item = |content: Value| match call {
        Some(call) => json!({
            "id": message_id,
            "type": "function_call",
            "call_id": format!("call_{number}"),
            "namespace": call.namespace,
            "name": call.name,
            "arguments": call.arguments.to_string(),
        }),
        None => json!({
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }),
    };
    let printed = json!([{"type": "output_text", "text": account.reply, "annotations": []}]);
    let opening = [
        json!({"type": "response.created", "response": {"id": response_id}}),
        json!({
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item(json!([])),
        }),
        json!({
            "type": "response.output_text.delta",
            "item_id": message_id,
            "output_index": 0,
            "content_index": 0,
            "delta": account.reply,
        }),
    ];
    let closing = [
        json!({
            "type": "response.output_item.done",
            "output_index": 0,
            "item": item(printed.clone()),
        }),
        json!({
            "type": "response.completed",
            "response": {
                "id": response_id,
                "status": "completed",
                "output": [item(printed)],
                "usage": {
                    "input_tokens": 1200,
                    "input_tokens_details": {"cached_tokens": 200},
                    "output_tokens": 34,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 1234,
                },
            },
        }),
    ];

    let mut head = "HTTP/1.1 200 Mock\r\n".to_owned();
    head += "content-type: text/event-stream\r\nconnection: close\r\n";
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    // A tool call has no text.
    let opening = if call.is_some() {
        &opening[..1]
    } else {
        &opening[..]
    };
    for event in opening {
        write_event(stream, event)?;
    }
    if account.hold_turns {
        let id = account.account_id.clone();
        shared.alter(|state| state.held.push(id.clone()));
        shared.wait_until(LONG, |state| {
            state
                .accounts
                .get(&id)
                .is_none_or(|account| !account.hold_turns)
        });
        shared.alter(|state| {
            if let Some(at) = state.held.iter().position(|held| *held == id) {
                state.held.remove(at);
            }
        });
    }
    for event in &closing {
        write_event(stream, event)?;
    }
    Ok(())
}

fn write_event(mut stream: &TcpStream, event: &Value) -> io::Result<()> {
    let kind = event["type"].as_str().unwrap_or_default();
    stream.write_all(format!("event: {kind}\ndata: {event}\n\n").as_bytes())
}
