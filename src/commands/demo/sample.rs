//! Sample data: a Codex home with a few conversations, and files of old logins. All accounts and tokens
//! are fictitious.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use codex_manager_core::codex::connection::{self, Access};
use codex_manager_core::io::{IoContext, IoError, atomic};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The beginning of the ids of all conversations. A digit follows.
const ID_START: &str = "0199a213-81c0-7800-8aa1-bbab2a035a5";

/// Writes a Codex home like that of Codex 0.169: login, settings, three conversations, the database of
/// threads.
pub(super) fn write_codex_home(home: &Path, now: DateTime<Utc>) -> Result<(), IoError> {
    let write_file = |name: &str, text: &str| write_private(&home.join(name), text.as_bytes());
    sign_in(home, "you", now - Duration::hours(3))?;
    write_file(
        "config.toml",
        "model = \"gpt-5-codex\"\nmodel_reasoning_effort = \"high\"\n",
    )?;
    write_file("AGENTS.md", "Prefer small commits.\n")?;
    write_file(
        "skills/review/SKILL.md",
        "# Review\nRead the whole change first.\n",
    )?;

    let mut history = String::new();
    let mut rows = Vec::new();
    for (days_ago, last_digit, topic) in [
        (3, 3, "parse the config"),
        (2, 1, "fix the flaky test"),
        (1, 2, "write the release notes"),
    ] {
        let at = now - Duration::days(days_ago);
        let id = format!("{ID_START}{last_digit}");
        let rollout_name = format!(
            "sessions/{}/rollout-{}-{id}.jsonl",
            at.format("%Y/%m/%d"),
            at.format("%Y-%m-%dT%H-%M-%S")
        );

        write_file(&rollout_name, &format_rollout(&id, topic, at))?;
        // Otherwise all conversations would seem to be of today.
        set_mtime(&home.join(&rollout_name), at)?;
        let prompt = json!({"session_id": id, "ts": at.timestamp(), "text": topic});
        let _ = writeln!(history, "{prompt}");
        rows.push((id, home.join(rollout_name), topic, at));
    }

    write_file("history.jsonl", &history)?;
    write_thread_database(&home.join("state_5.sqlite"), &rows)
}

/// Replaces the login by that of `<user>@example.com`.
pub(super) fn sign_in(home: &Path, user: &str, at: DateTime<Utc>) -> Result<(), IoError> {
    let email = format!("{user}@example.com");
    write_private(
        &home.join("auth.json"),
        format_auth_json(&email, user, at).as_bytes(),
    )
}

/// Writes login files as users created them by hand: `21apr_me@x.com_auth.json`. The date in the name
/// is the day of the next quota; the mtime is the time at which the quota was exhausted.
pub(super) fn write_legacy_dumps(folder: &Path, now: DateTime<Utc>) -> Result<(), IoError> {
    let dumps = [
        ("work@example.com", Duration::days(6), "work"),
        ("client@example.com", Duration::hours(20), "client"),
        ("old@example.com", Duration::days(30), "old"),
    ];

    for (email, exhausted_ago, user) in dumps {
        let exhausted_at = now - exhausted_ago;
        // The same rule as in `normalize`: the window began two hours before, and lasts a week.
        let available_at = exhausted_at - Duration::hours(2) + Duration::days(7);
        let day = available_at.format("%-d%b").to_string().to_lowercase();
        let path = folder.join(format!("{day}_{email}_auth.json"));
        let auth_json = format_auth_json(email, user, exhausted_at);
        write_private(&path, auth_json.as_bytes())?;
        set_mtime(&path, exhausted_at)?;
    }
    write_private(&folder.join("notes.txt"), b"not a login\n")
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    atomic::create_private_folder(atomic::parent_of(path))?;
    atomic::write(path, bytes)
}

fn set_mtime(path: &Path, at: DateTime<Utc>) -> Result<(), IoError> {
    let times = FileTimes::new().set_modified(SystemTime::from(at));
    File::options()
        .write(true)
        .open(path)
        .and_then(|f| f.set_times(times))
        .at("set the time of", path)
}

fn format_auth_json(email: &str, user: &str, refreshed_at: DateTime<Utc>) -> String {
    let claims = json!({
        "email": email,
        "iat": refreshed_at.timestamp(),
        "exp": (refreshed_at + Duration::days(10)).timestamp(),
        "https://api.openai.com/auth": {
            "chatgpt_account_id": format!("acct-{user}"),
            "chatgpt_user_id": format!("user-{user}"),
            "chatgpt_plan_type": "plus",
        },
    });

    // The token is a JWT with a made-up signature, which codex-manager does not check.
    let encode_part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.{}",
        encode_part(&json!({"alg": "none"})),
        encode_part(&claims),
        encode_part(&json!("made up"))
    );

    let auth = json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": token,
            "access_token": token,
            "refresh_token": format!("made-up-{user}"),
            "account_id": format!("acct-{user}"),
        },
        "last_refresh": refreshed_at.to_rfc3339(),
    });
    format!("{auth:#}\n")
}

fn format_rollout(id: &str, topic: &str, at: DateTime<Utc>) -> String {
    let mut text = String::new();
    let mut add_line = |ordinal: i64, kind: &str, payload: Value| {
        let timestamp = (at + Duration::seconds(ordinal)).to_rfc3339();
        let event =
            json!({"timestamp": timestamp, "ordinal": ordinal, "type": kind, "payload": payload});
        let _ = writeln!(text, "{event}");
    };

    add_line(
        0,
        "session_meta",
        json!({"id": id, "cwd": "/home/you/project", "originator": "codex_cli"}),
    );
    add_line(
        1,
        "event_msg",
        json!({"type": "user_message", "message": topic}),
    );

    for n in 2..200 {
        let thought = format!("Step {n} of \"{topic}\": read, change, run the tests, look again.");
        add_line(
            n,
            "response_item",
            json!({"type": "message", "role": "assistant", "text": thought}),
        );
    }
    text
}

fn write_thread_database(
    path: &Path,
    rows: &[(String, PathBuf, &str, DateTime<Utc>)],
) -> Result<(), IoError> {
    let create_and_fill = || -> rusqlite::Result<()> {
        let connection = connection::open(path, Access::Create)?;
        // Like the database of Codex, it has a WAL: without the WAL, the file may lack every table.
        connection.execute_batch(
            "PRAGMA journal_mode=WAL;
             CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY);
             CREATE TABLE backfill_state (id INTEGER PRIMARY KEY);
             CREATE TABLE threads (id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
                 title TEXT NOT NULL, updated_at INTEGER NOT NULL);",
        )?;

        for (id, rollout, title, at) in rows {
            connection.execute(
                "INSERT INTO threads VALUES (?1, ?2, ?3, ?4)",
                (id, rollout.to_string_lossy(), title, at.timestamp()),
            )?;
        }
        connection.close().map_err(|(_connection, e)| e)
    };

    create_and_fill()
        .map_err(std::io::Error::other)
        .at("create the database", path)
}
