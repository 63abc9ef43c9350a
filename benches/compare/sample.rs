//! Sample homes: the same bytes for the same shape on every machine.

use base64::Engine;
use codex_manager_core::accounts::profile::{LoginCopy, Profiles};
use codex_manager_core::archive::metadata::Metadata;
use codex_manager_core::archive::names;
use codex_manager_core::codex::auth::AuthSnapshot;
use codex_manager_core::codex::identity::Identity;
use codex_manager_core::codex::window::{CODEX_LIMIT, WEEKLY_MINUTES, Window};
use codex_manager_core::inventory::cooldown::{self, CooldownFile};
use codex_manager_core::inventory::store;
use codex_manager_core::io::clock::Timestamp;
use codex_manager_core::io::document;
use codex_manager_core::io::hash::ContentDigest;
use codex_manager_core::quota::account::{AccountEntry, LoginState};
use codex_manager_core::quota::window::{Observation, QuotaSource};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The time of every measured command, through `CODEX_MANAGER_NOW`.
pub(crate) const NOW: &str = "2026-11-20T08:00:00Z";

/// The size of a sample home.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The bytes of its conversations.
    pub(crate) bytes: u64,
    /// The number of conversations.
    pub(crate) sessions: u32,
    /// The seed of the random generator.
    pub(crate) seed: u64,
}

/// The share of a conversation's bytes that do not compress: encrypted reasoning in base64.
const NOISE_PERCENT: u64 = 15;

/// A splitmix64 generator, which gives the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &'a [impl AsRef<T>]) -> &'a T {
        let i = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of[i].as_ref()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}

const WORDS: &str = "the function returns error value result file path test module import struct \
    impl async await config session token account backup restore build cargo run check diff patch \
    apply line column src main lib utils parser";

/// Returns sentences from few words, so that the text compresses like transcripts of programs.
fn phrases(random: &mut Random) -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    (0..400)
        .map(|_| {
            let count = 6 + random.below(25);
            let picked: Vec<&str> = (0..count).map(|_| random.pick::<str>(&words)).collect();
            picked.join(" ")
        })
        .collect()
}

/// Writes a Codex home of that shape into the new folder `home`.
pub(crate) fn write_home(home: &Path, shape: Shape) -> std::io::Result<()> {
    let mut random = Random(shape.seed);
    let phrases = phrases(&mut random);
    fs::create_dir_all(home)?;
    write_small_files(home, &mut random)?;
    let per_session = shape.bytes / u64::from(shape.sessions.max(1));
    let mut history = BufWriter::new(File::create(home.join("history.jsonl"))?);
    let mut threads = Vec::new();
    for number in 0..shape.sessions {
        let (day, hour, minute) = (1 + number % 18, number / 18 % 24, number / 432 % 60);
        let id = random.uuid();
        let folder = home.join(format!("sessions/2026/11/{day:02}"));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!(
            "rollout-2026-11-{day:02}T{hour:02}-{minute:02}-00-{id}.jsonl"
        ));
        let file = BufWriter::with_capacity(256 * 1024, File::create(&path)?);
        let at = format!("2026-11-{day:02}T{hour:02}:{minute:02}");
        write_rollout(file, &id, &at, per_session, &phrases, &mut random)?;
        let title = random.pick::<str>(&phrases);
        let line = json!({"session_id": id, "ts": 1_700_000_000 + number, "text": title});
        writeln!(history, "{line}")?;
        threads.push((id, path.display().to_string(), title.to_owned()));
    }
    history.flush()?;
    write_state(&home.join("state_5.sqlite"), &threads).map_err(std::io::Error::other)
}

/// Writes a Codex home with this number of small files: four of five are conversations by day, the others
/// archived conversations and skills.
pub(crate) fn write_many(home: &Path, files: u32) -> std::io::Result<()> {
    let mut random = Random(1);
    fs::create_dir_all(home)?;
    write_small_files(home, &mut random)?;
    for number in 0..files {
        let (year, month, day) = (2023 + number % 3, 1 + number / 3 % 12, 1 + number / 36 % 28);
        let id = random.uuid();
        let rollout = format!("rollout-{year}-{month:02}-{day:02}T10-00-00-{id}.jsonl");
        let folder = match number % 20 {
            0 | 1 => "archived_sessions".to_owned(),
            2 | 3 => format!("skills/skill-{:05}/scripts", number / 200),
            _ => format!("sessions/{year}/{month:02}/{day:02}"),
        };
        let name = if number % 20 == 2 || number % 20 == 3 {
            format!("document-{number}.md")
        } else {
            rollout
        };
        let folder = home.join(folder);
        fs::create_dir_all(&folder)?;
        let line = json!({"type": "session_meta", "payload": {"id": id}});
        fs::write(folder.join(name), format!("{line}\n"))?;
    }
    Ok(())
}

fn write_small_files(home: &Path, random: &mut Random) -> std::io::Result<()> {
    let models = vec![json!({"slug": "gpt-5-codex", "display_name": "x".repeat(400)}); 20];
    fs::write(home.join("auth.json"), auth(1, random))?;
    fs::write(home.join("config.toml"), "model = \"gpt-5-codex\"\n")?;
    fs::write(home.join("installation_id"), random.uuid())?;
    fs::write(
        home.join("models_cache.json"),
        json!({ "models": models }).to_string(),
    )
}

/// Returns the auth.json of the account with this number.
fn auth(number: u32, random: &mut Random) -> String {
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let who = identity(number);
    let claims = json!({
        "chatgpt_account_id": who.account_id,
        "chatgpt_user_id": who.user_id,
        "chatgpt_plan_type": "plus",
    });
    let mut token = |payload: Value| {
        let head = json!({"alg": "RS256", "typ": "JWT"}).to_string();
        let signature = base64.encode(random.bytes(256));
        let payload = payload.to_string();
        format!(
            "{}.{}.{signature}",
            base64.encode(head),
            base64.encode(payload)
        )
    };
    let auth = json!({
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": token(json!({"email": who.email, "https://api.openai.com/auth": claims})),
            "access_token": token(json!({"exp": 1_796_000_000, "https://api.openai.com/auth": claims})),
            "refresh_token": format!("rt_SAMPLE{number}"),
            "account_id": who.account_id,
        },
        "last_refresh": "2026-11-19T10:00:00Z",
    });
    auth.to_string()
}

fn write_rollout(
    mut file: impl Write,
    id: &str,
    at: &str,
    bytes: u64,
    phrases: &[String],
    random: &mut Random,
) -> std::io::Result<()> {
    let instructions = phrases[..20].join(" ");
    let (mut written, mut noise, mut number) = (0, 0, 0_u64);
    let mut put = |kind: &str, number: u64, payload: Value| {
        let at = format!("{at}:{:02}.{:03}Z", number / 1000 % 60, number % 1000);
        let line = json!({"timestamp": at, "type": kind, "payload": payload}).to_string();
        writeln!(file, "{line}").map(|()| line.len() as u64 + 1)
    };
    written += put(
        "session_meta",
        0,
        json!({"id": id, "cwd": "/home/u/proj", "originator": "codex_cli_rs",
            "cli_version": "0.120.0", "instructions": instructions}),
    )?;
    while written < bytes {
        number += 1;
        written += if noise * 100 < NOISE_PERCENT * written {
            let random_bytes = random.bytes(match number % 3 {
                0 => 900,
                1 => 1800,
                _ => 3600,
            });
            let text = base64::engine::general_purpose::STANDARD.encode(random_bytes);
            noise += text.len() as u64;
            put(
                "response_item",
                number,
                json!({"type": "reasoning", "summary": [], "encrypted_content": text}),
            )?
        } else if number % 3 > 0 {
            let lines: Vec<&str> = (0..3 + random.below(38))
                .map(|_| random.pick::<str>(phrases))
                .collect();
            let output = json!({"output": lines.join("\n"), "metadata": {"exit_code": 0}});
            put(
                "response_item",
                number,
                json!({"type": "function_call_output",
                    "call_id": format!("call_{:024x}", random.next()),
                    "output": output.to_string()}),
            )?
        } else {
            put(
                "event_msg",
                number,
                json!({"type": "token_count", "info": {"total_token_usage": {
                    "input_tokens": random.below(1_000_000), "output_tokens": random.below(9999)}},
                    "rate_limits": {"primary": {"used_percent": 12.0, "window_minutes": 300}}}),
            )?
        };
    }
    file.flush()
}

/// Writes a database whose second half of rows is only in the WAL, as while Codex runs.
fn write_state(path: &Path, threads: &[(String, String, String)]) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "wal_autocheckpoint", 0)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    database.execute_batch(
        "create table threads (id text primary key, rollout_path text not null,
         created_at integer not null, updated_at integer not null, source text not null,
         model_provider text not null, cwd text not null, title text not null)",
    )?;
    let (folded, open) = threads.split_at(threads.len() / 2);
    for (rows, fold) in [(folded, true), (open, false)] {
        let transaction = database.transaction()?;
        for (id, rollout, title) in rows {
            transaction.execute(
                "insert into threads values (?, ?, 0, 0, 'cli', 'openai', '/home/u/proj', ?)",
                (id, rollout, title),
            )?;
        }
        transaction.commit()?;
        if fold {
            database.query_row("pragma wal_checkpoint(truncate)", (), |_| Ok(()))?;
        }
    }
    Ok(())
}

fn identity(number: u32) -> Identity {
    Identity {
        account_id: Some(format!("00000000-0000-4000-8000-{number:012}")),
        user_id: Some(format!("user-{number:08x}")),
        ..Identity::from_email(format!("user{number}@example.com"))
    }
}

fn observation(number: u32, at: Timestamp) -> Observation {
    let used = f64::from(number * 37 % 101);
    let window = |minutes, hours| Window {
        limit_id: CODEX_LIMIT.into(),
        minutes: Some(minutes),
        used_percent: used,
        resets_at: Some(at + chrono::Duration::hours(hours)),
    };
    Observation {
        source: QuotaSource::Live,
        observed_at: at - chrono::Duration::minutes(i64::from(number)),
        usage_allowed: None,
        spend_cap: None,
        reset_credits: None,
        windows: vec![
            window(300, 2),
            window(WEEKLY_MINUTES, 20 + i64::from(number * 11 % 140)),
        ],
    }
}

/// Writes a manager home that has a profile of each of `accounts` accounts and `archives` archives of
/// them.
pub(crate) fn write_manager(
    manager: &Path,
    accounts: u32,
    archives: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let now = Timestamp::parse_from_rfc3339(NOW)?;
    let backups = store::backups_folder(manager);
    fs::create_dir_all(&backups)?;
    let file = CooldownFile {
        accounts: (1..=accounts)
            .map(|number| AccountEntry {
                plan: Some("plus".into()),
                profile: Some(format!("user{number}")),
                login: LoginState::Ok,
                observation: Some(observation(number, now)),
                last_used_at: Some(now - chrono::Duration::hours(i64::from(number))),
                ..AccountEntry::new(identity(number))
            })
            .collect(),
    };
    document::write(&manager.join(cooldown::FILE_NAME), &file)?;
    let (profiles, mut random) = (Profiles::of(manager), Random(1));
    for number in 1..=accounts {
        let snapshot = AuthSnapshot::parse(auth(number, &mut random).into_bytes());
        let snapshot = snapshot.map_err(|(_, reason)| reason)?;
        let login = snapshot.login.clone().ok_or("no login")?;
        let name = format!("user{number}");
        profiles.save_as(
            &name,
            (&snapshot, &login),
            &manager.join("none"),
            LoginCopy::Ordinary,
            now,
        )?;
    }
    let content = [0_u8; 512];
    for number in 0..archives {
        let who = identity(1 + number % accounts.max(1));
        let start = now - chrono::Duration::hours(i64::from(number) * 3);
        let mut metadata = Metadata {
            session_start_at: Some(start),
            next_available_at: Some(start + chrono::Duration::days(7)),
            reset_at: Some(start + chrono::Duration::days(7)),
            plan: Some("plus".into()),
            inference_basis: "reset of the weekly window (10080 minutes) minus 7 days".into(),
            source_codex_home: "/home/u/.codex".into(),
            captured_files: ["auth.json", "config.toml", "sessions/", "state_5.sqlite"]
                .map(Into::into)
                .into(),
            created_at: start,
            windows: observation(number, start).windows,
            files: 67,
            bytes: 300_000_000,
            archive_bytes: content.len() as u64,
            archive_blake3: Some(ContentDigest::of(&content).bytes()),
            ..Metadata::default()
        };
        metadata.set_identity(&who);
        let stem = names::stem(&start, who.email.as_str());
        let archive = backups.join(names::archive_name(&stem, 1));
        fs::write(&archive, content)?;
        let sidecar = names::sidecar_path(&archive).ok_or("no archive's name")?;
        fs::write(&sidecar, document::encode(&sidecar, &metadata)?)?;
    }
    Ok(())
}

/// Writes a registry with this number of launches. A launch has three lines, and one line after the
/// registry was compacted.
pub(crate) fn write_launches(manager: &Path, home: &Path, count: u32) -> std::io::Result<()> {
    let mut text = Vec::new();
    for number in 0..count {
        let (day, second) = (1 + number / 1_000 % 28, number % 86_400);
        let id = format!("202609{day:02}T{second:06}000Z-{number:08x}");
        let session = format!("01a1fd26-{:04x}-7000-8000-{number:012}", number % 65_536);
        let identity = identity(1 + number % 20);
        let lines: &[bool] = if number < count / 2 {
            &[true]
        } else {
            &[false, false, true]
        };
        for settled in lines {
            let conversation = serde_json::json!({
                "session_id": session, "start_offset": 0, "end_offset": 90_000,
                "rollout_path": format!("{}/sessions/2026/09/{day:02}/rollout-2026-09-{day:02}T08-00-00-{session}.jsonl", home.display()),
                "first_token_count_at": "2026-09-01T08:00:00Z",
                "last_token_count_at": "2026-09-01T09:00:00Z",
                "windows": observation(number, at_noon()).windows,
            });
            let rest = serde_json::json!({
                "profile": format!("user{}", 1 + number % 20), "identity": identity,
                "started_at": "2026-09-01T08:00:00Z", "cwd": "/home/u/project",
                "working_root": "/home/u/project", "args": ["exec", "fix the tests"],
                "codex_home": home, "wrapper": {"pid": 1, "started": 1},
                "child": {"pid": 1, "started": 1}, "auth_fingerprint": "0".repeat(32),
                "conversations": [conversation],
            });
            let rest = rest.to_string();
            writeln!(
                text,
                "{{\"launch_id\":\"{id}\",\"settled\":{settled},\"schema\":1,{}",
                &rest[1..]
            )?;
        }
    }
    fs::write(manager.join("launches.jsonl"), text)
}

fn at_noon() -> Timestamp {
    Timestamp::parse_from_rfc3339(NOW).unwrap_or_default()
}

/// Appends a line to each of `count` conversations.
pub(crate) fn append_lines(home: &Path, count: u32) {
    use std::io::Write;
    let mut left = count;
    for entry in walk(&home.join("sessions")) {
        if left == 0 {
            return;
        }
        let line = format!("{{\"type\":\"event_msg\",\"payload\":\"{left}\"}}\n");
        let file = fs::OpenOptions::new().append(true).open(&entry);
        if file.and_then(|mut f| f.write_all(line.as_bytes())).is_ok() {
            left -= 1;
        }
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
