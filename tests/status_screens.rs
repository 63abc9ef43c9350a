//! `/status` of the real Codex, in terminals of every width: the text that users paste.

use crate::shells::has;
use crate::support::env::TestEnv;
use crate::support::mock_backend::{Account, ExtraLimit, MockBackend, SpendControl, Window};
use crate::support::pauses::poll;
use crate::support::processes;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, signed_in_home, unix_now};
use codex_manager_core::codex::process::find_holders;
use codex_manager_core::codex::status_text::{self, StatusText};
use codex_manager_core::codex::window::{CapKind, SpendCap, Window as Shown};
use codex_manager_core::io::clock::{Timestamp, Zone};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The zone of the terminal. It differs from the zone of the test machines.
const ZONE: &str = "Asia/Kolkata";

/// The time limit of a screen. After it, Codex is started again.
const SCREEN_LIMIT: Duration = Duration::from_secs(30);

/// The number of concurrent terminals.
const WORKERS: usize = 8;

/// An account, and the limits that its `/status` has to show.
struct Case {
    home: PathBuf,
    email: &'static str,
    windows: Vec<Shown>,
    spend_cap: Option<SpendCap>,
    /// Part of the last row of the table.
    end: &'static str,
}

fn at(unix_seconds: i64) -> Timestamp {
    let at = chrono::DateTime::from_timestamp(unix_seconds, 0).expect("a time");
    Zone::named(ZONE).expect("a zone").at(&at)
}

fn shown(limit_id: &str, minutes: Option<u32>, used_percent: f64, resets_at: i64) -> Shown {
    Shown {
        limit_id: limit_id.into(),
        minutes,
        used_percent,
        resets_at: Some(at(resets_at)),
    }
}

/// Returns a window, and its form in the text, which does not name unusual lengths.
fn window(limit_id: &str, minutes: i64, used: f64, resets_at: i64) -> (Window, Shown) {
    let window = Window {
        window_minutes: minutes,
        ..Window::weekly(used).reset_at(resets_at)
    };
    let named = [300, 10_080].contains(&minutes);
    let minutes = u32::try_from(minutes).ok().filter(|_| named);
    (window, shown(limit_id, minutes, used, resets_at))
}

/// Signs an account in at a separate home.
fn case(env: &TestEnv, backend: &MockBackend, account: &Account, case: Case) -> Case {
    backend.add(account.clone());
    signed_in_home(&case.home, backend, &SignIn::to_account(account));
    let home = case.home.canonicalize().expect("the home");
    assert!(home.starts_with(env.path("home").canonicalize().expect("the home")));
    Case { home, ..case }
}

/// Sets up a plain account with little left, which the footer warns of.
fn plain(env: &TestEnv, backend: &MockBackend, minute: i64) -> Case {
    let (primary, five_hours) = window("codex", 300, 12.0, minute + 7_200);
    let (secondary, weekly) = window("codex", 10_080, 91.0, minute + 3 * 86_400);
    let mut account = Account::alice();
    (account.primary, account.secondary) = (Some(primary), Some(secondary));
    let expected = Case {
        home: env.path("home/plain"),
        email: "alice@example.com",
        windows: vec![five_hours, weekly],
        spend_cap: None,
        end: "9%",
    };
    case(env, backend, &account, expected)
}

/// Sets up a second limit with a heading, which makes the column of labels wider.
fn named(env: &TestEnv, backend: &MockBackend, minute: i64) -> Case {
    let (primary, five_hours) = window("codex", 300, 12.0, minute + 7_200);
    let (secondary, weekly) = window("codex", 10_080, 91.0, minute + 3 * 86_400);
    let name = "GPT-5.3-Codex-Spark";
    let (own_primary, own_five_hours) = window(name, 300, 3.0, minute + 14_400);
    let (own_secondary, own_weekly) = window(name, 10_080, 50.0, minute + 6 * 86_400);
    let mut account = Account::bob();
    (account.primary, account.secondary) = (Some(primary), Some(secondary));
    account.extra_limits = vec![ExtraLimit {
        limit_id: "codex_spark".into(),
        limit_name: name.into(),
        primary: Some(own_primary),
        secondary: Some(own_secondary),
    }];
    let expected = Case {
        home: env.path("home/named"),
        email: "bob@example.com",
        windows: vec![five_hours, weekly, own_five_hours, own_weekly],
        spend_cap: None,
        end: "50%",
    };
    case(env, backend, &account, expected)
}

/// Windows of unusual length, and a limit on spending that is used up.
fn capped(env: &TestEnv, backend: &MockBackend, minute: i64) -> Case {
    let (primary, first) = window("codex", 2_880, 12.0, minute + 7_200);
    let (secondary, second) = window("codex", 20_160, 50.0, minute + 8 * 86_400);
    let reset = minute + 9 * 86_400;
    let mut account = Account::new("acct-carol", "carol.of-a-long.name@subdomain.example.com");
    (account.primary, account.secondary) = (Some(primary), Some(secondary));
    account.spend_control = Some(SpendControl {
        reached: true,
        individual: Some((0, reset)),
    });
    let expected = Case {
        home: env.path("home/capped"),
        email: "carol.of-a-long.name@subdomain.example.com",
        windows: vec![first, second],
        spend_cap: Some(SpendCap {
            kind: CapKind::SpendLimit,
            resets_at: Some(at(reset)),
        }),
        end: "0%",
    };
    case(env, backend, &account, expected)
}

/// A private tmux server. Dropping it ends the server and all its programs.
struct Tmux {
    socket: PathBuf,
    codex: PathBuf,
    environment: Command,
}

impl Tmux {
    fn run(&self, args: &[&str]) -> String {
        let environment = self.environment.get_envs();
        let variables: HashMap<_, _> = environment
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let search_path = variables.get(OsStr::new("PATH")).copied();
        let mut tmux = processes::command_without_variables(OsStr::new("tmux"), search_path);
        tmux.envs(variables)
            .args(["-f", "/dev/null", "-S"])
            .arg(&self.socket)
            .args(args)
            // Codex asks whether it may trust any other folder.
            .current_dir(self.environment.get_current_dir().expect("a folder"));
        let done = tmux.output().expect("tmux");
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    /// Waits until the screen of a terminal satisfies `is_wanted`. Returns the screen; on timeout, an error with it.
    fn wait(&self, terminal: &str, is_wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let screen = || self.run(&["capture-pane", "-p", "-t", terminal]);
        let wanted = poll(SCREEN_LIMIT, || {
            Some(screen()).filter(|screen| is_wanted(screen))
        });
        wanted.ok_or_else(|| format!("{terminal}:\n{}", screen()))
    }

    /// Starts Codex in a new terminal.
    fn open(&self, terminal: &str, case: &Case) -> Result<(), String> {
        let home = case.home.display();
        let codex = self.codex.display();
        let start = format!(
            "CODEX_HOME='{home}' exec '{codex}' --no-daemon -c tui.animations=false -c features.shell_snapshot=false"
        );
        let size = ["-x", "100", "-y", "120"];
        self.run(&[&["new-session", "-d", "-s", terminal], &size[..], &[&start]].concat());
        // The last line of the greeting shows that the session is open.
        self.wait(terminal, |screen| screen.contains("/review"))?;
        Ok(())
    }

    /// Types a command at the prompt of Codex.
    fn enter(&self, terminal: &str, command: &str) -> Result<(), String> {
        self.run(&["send-keys", "-t", terminal, "-l", command]);
        // Codex treats fast keys as pasted text, and Enter as a line end in it.
        let typed = format!("› {command}");
        self.wait(terminal, |screen| screen.contains(&typed))?;
        self.run(&["send-keys", "-t", terminal, "Enter"]);
        Ok(())
    }

    /// Returns the screen of `/status` in a terminal of the given width.
    fn status(&self, terminal: &str, case: &Case, columns: usize) -> Result<String, String> {
        let width = columns.to_string();
        self.run(&["resize-window", "-t", terminal, "-x", &width, "-y", "120"]);
        let is_early = |screen: &str| screen.contains("available yet");
        loop {
            self.enter(terminal, "/status")?;
            let screen = self.wait(terminal, |s| is_early(s) || has_table(s, case.end))?;
            self.enter(terminal, "/clear")?;
            self.wait(terminal, |s| !is_early(s) && !s.contains("Session:"))?;
            // Directly after its start Codex has not queried the server.
            if !is_early(&screen) {
                return Ok(screen);
            }
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .output();
    }
}

/// Returns true if the table is complete.
fn has_table(screen: &str, end: &str) -> bool {
    let (_, table) = screen.split_once("Session:").unwrap_or_default();
    let (table, _) = table.split_once("› Ask Codex").unwrap_or_default();
    // The figure of the last row, and the bracket after its reset.
    let row = table.split_whitespace().skip_while(|word| *word != end);
    row.into_iter().any(|word| word.ends_with(')'))
}

fn check(case: &Case, columns: usize, screen: &str) -> Result<(), String> {
    let zone = Zone::named(ZONE).expect("a zone");
    let read = status_text::parse(screen, chrono::Utc::now(), zone);
    let expected = StatusText {
        email: Some(case.email.into()),
        windows: case.windows.clone(),
        spend_cap: case.spend_cap,
        plan: read.as_ref().ok().and_then(|read| read.plan.clone()),
        unreadable_account: None,
    };
    if read.as_ref() == Ok(&expected) {
        return Ok(());
    }
    Err(format!("{columns} columns: {read:#?}\n{screen}"))
}

#[test]
fn status_screens_of_every_width_are_parsed() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    if !has("tmux") {
        return;
    }
    let env = TestEnv::new();
    let backend = MockBackend::start();
    // Screens show whole minutes.
    let minute = unix_now() / 60 * 60;
    let cases = [
        named(&env, &backend, minute),
        plain(&env, &backend, minute),
        capped(&env, &backend, minute),
    ];
    let mut environment = codex.command(&env.codex_home(), &backend, &env.path("home"));
    environment
        .env("TZ", ZONE)
        .env("TERM", "xterm-256color")
        .env("LANG", "C.UTF-8")
        .env("SHELL", "/bin/sh");
    let tmux = Tmux {
        socket: env.path("tmux"),
        codex: codex.native().to_path_buf(),
        environment,
    };
    // Keeps the server up between two screens.
    tmux.run(&["new-session", "-d", "-s", "idle", "exec sleep 3600"]);
    let every = (36..=120).map(|columns| (&cases[0], columns));
    // Screens with a heading have a wider column of labels.
    let others = (36..=60).step_by(3).map(|columns| (&cases[1], columns));
    let capped = (36..=120).step_by(4).map(|columns| (&cases[2], columns));
    let screens: Vec<_> = every.chain(others).chain(capped).collect();
    let next = AtomicUsize::new(0);
    let work = &|worker: usize| {
        let mut wrong = Vec::new();
        // A change of the width is faster than a start of Codex.
        let mut open: Option<&str> = None;
        while let Some((case, columns)) = screens.get(next.fetch_add(1, Ordering::Relaxed)) {
            let terminal = format!("{worker}-{}", case.end.trim_end_matches('%'));
            if open.replace(case.end) != Some(case.end) {
                tmux.open(&terminal, case).expect("an open session");
            }
            let screen = tmux.status(&terminal, case, *columns).or_else(|_| {
                // Rarely, Codex draws no prompt after a change of the width.
                tmux.run(&["kill-session", "-t", &terminal]);
                tmux.open(&terminal, case)?;
                tmux.status(&terminal, case, *columns)
            });
            let screen = screen.expect("a screen of /status");
            wrong.extend(check(case, *columns, &screen).err());
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker"))
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(tmux);
    for case in &cases {
        let holders = find_holders(&case.home, &[]);
        let pids: Vec<u32> = holders.iter().filter_map(|holder| holder.pid).collect();
        let left = processes::wait_for_end(&pids, Duration::from_secs(10));
        assert_eq!(left, [] as [u32; 0], "processes still run");
    }
}
