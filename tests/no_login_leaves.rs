//! No command prints or sends a token of a login of this machine, or a secret of a conversation.

use crate::every_command::{assert_orderly_exit, leaves};
use crate::support::conversations::{Conversation, assistant, state, tool_output, user, write};
use crate::support::env::{Run, TestEnv};
use crate::support::mcp_client::McpClient;
use crate::support::profiles::save_alice_and_bob;
use crate::support::sample::{backup, bob, put, put_at};
use crate::support::sign_in::write_auth;
use crate::support::variables;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// The conversation that `every_command` names in its arguments.
const NUMBER: u32 = 0x4d30;
const ID: &str = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";

/// Part of a token that no output may have.
const PIECE: usize = 20;

/// Random values of the forms that tokens have, and of forms that no table knows.
struct Random(u64);

impl Random {
    fn text(&mut self, len: usize) -> String {
        let all = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(all[usize::try_from(self.0 >> 58).expect("6 bits")])
        };
        (0..len).map(|_| next()).collect()
    }

    fn jwt(&mut self) -> String {
        let claims = json!({"sub": self.text(30), "jti": self.text(40)}).to_string();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256"}"#),
            part(&claims),
            self.text(86)
        )
    }
}

/// Writes a login to every place of a home that can have one. Returns their tokens.
fn write_logins(env: &TestEnv, random: &mut Random) -> Vec<String> {
    let (codex, manager) = (env.codex_home(), env.manager_home());
    let mut tokens = Vec::new();
    let mut token = |text: String| {
        tokens.push(text.clone());
        text
    };
    let chatgpt = |id: String, access: String, refresh: String| {
        json!({"auth_mode": "chatgpt", "tokens": {"id_token": id, "access_token": access,
               "refresh_token": refresh, "account_id": "acct-x"}})
    };

    let live = fs::read_to_string(codex.join("auth.json")).expect("live");
    let mut live: Value = serde_json::from_str(&live).expect("JSON");
    live["tokens"]["refresh_token"] = token(format!("q{}", random.text(90))).into();
    live["agent_identity"] = json!({"agent_private_key": token(random.text(64))});
    write_auth_at(&codex.join("auth.json"), &live);

    let legacy = json!({"OPENAI_API_KEY": token(random.text(48))});
    write_auth_at(&codex.join("21apr_old@example.com_auth.json"), &legacy);
    let list = json!({"schemaVersion": 1, "sessions": [{"token": token(random.text(40))}]});
    write_auth_at(&codex.join("account-sessions.json"), &list);
    let session = chatgpt(random.jwt(), token(random.jwt()), token(random.text(50)));
    write_auth_at(&codex.join("account-sessions/1/auth.json"), &session);

    let older = chatgpt(random.jwt(), token(random.jwt()), token(random.text(90)));
    write_auth_at(&manager.join("profiles/work/history/old.json"), &older);
    let key = json!({"bedrock_api_key": {"api_key": token(random.text(60)), "region": "x"}});
    write_auth_at(&manager.join("profiles/.isolated/k/home/auth.json"), &key);
    let access = json!({"personal_access_token": token(random.text(44))});
    write_auth_at(&manager.join("profiles/.probes/k/auth.json"), &access);
    let torn = format!(
        r#"{{"tokens": {{"refresh_token": "{}"#,
        token(random.text(70))
    );
    put(env, "22apr_torn@example.com_auth.json", torn);
    tokens
}

fn write_auth_at(path: &Path, auth: &Value) {
    let folder = path.parent().expect("a folder");
    put_at(folder, path.file_name().expect("a name"), auth.to_string());
}

/// Writes `secret` to all places of a home whose texts commands show or send.
fn write_texts(env: &TestEnv, secret: &str) {
    let line = |kind: &str, payload: Value| json!({"timestamp": "2026-11-20T06:00:03Z", "type": kind, "payload": payload});
    let tokens = json!({"input_tokens": 9, "output_tokens": 1, "total_tokens": 10});
    let mut conversation = Conversation::new(NUMBER, 60, "one", "two");
    conversation.title = format!("one title {secret}");
    conversation.cwd = format!("/home/alice/{secret}");
    conversation.lines.extend([
        user(&format!("one {secret} please")),
        assistant(&format!("I used one `{secret}`")),
        line(
            "response_item",
            json!({"type": "function_call", "name": "exec_command", "call_id": "c",
            "arguments": json!({"cmd": format!("curl -H 'x: {secret}'")}).to_string()}),
        ),
        tool_output(&format!("one {secret}\n")),
        line(
            "response_item",
            json!({"type": "reasoning",
            "summary": [{"type": "summary_text", "text": format!("one is {secret}")}]}),
        ),
        line("turn_context", json!({"cwd": "/w", "model": secret})),
        line(
            "event_msg",
            json!({"type": "token_count", "info": {"total_token_usage": tokens, "last_token_usage": tokens}}),
        ),
        line(
            "compacted",
            json!({"message": format!("one {secret}"), "replacement_history": []}),
        ),
    ]);
    write(env, &conversation);
    let row = "UPDATE threads SET git_branch=?1, first_user_message=?1, name=title, model=?1";
    state(env).execute(row, [secret]).expect("update");

    let mut unlisted = conversation.clone();
    unlisted.number += 1;
    put(env, unlisted.relative(), unlisted.text());
    put(
        env,
        "history.jsonl",
        json!({"session_id": ID, "ts": 1, "text": secret}).to_string() + "\n",
    );
    put(
        env,
        "session_index.jsonl",
        json!({"id": ID, "thread_name": secret}).to_string() + "\n",
    );
    put(env, "AGENTS.md", format!("be brief: {secret}\n"));
    put(env, "prompts/a.md", format!("use {secret}\n"));
    put(env, "skills/mine/SKILL.md", format!("# {secret}\n"));
    put(env, "rules/default.rules", format!("allow {secret}\n"));
    put(env, "memories/raw.md", format!("know {secret}\n"));
    put(env, "notes.txt", format!("{secret}\n"));
    put(
        env,
        ".codex-global-state.json",
        json!({"text": secret}).to_string(),
    );
    put(env, format!("notes/{}.txt", secret.replace(' ', "/")), "x");
}

/// A secret as it is in the texts, and the parts of it that no output may have.
struct Planted {
    text: String,
    parts: Vec<String>,
}

impl Planted {
    /// A token in pieces, with blanks between them. Its end is shorter than a piece and is left out.
    fn in_pieces(token: &str) -> Self {
        let pieces = token.as_bytes().chunks_exact(PIECE);
        let parts: Vec<_> = pieces
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect();
        let text = parts.join(" ");
        Self { text, parts }
    }

    fn whole(token: &str) -> Self {
        let Self { parts, .. } = Self::in_pieces(token);
        let text = token.to_owned();
        Self { text, parts }
    }

    #[track_caller]
    fn assert_not_in(&self, what: &str, output: &str) {
        // All tokens have the header of a JWT in common, which is no secret.
        let is_header = |part: &&String| part.starts_with("eyJ");
        for part in self.parts.iter().filter(|part| !is_header(part)) {
            let plain = output.replace("\x1b[33m", "").replace("\x1b[0m", "");
            assert!(
                !plain.contains(part.as_str()),
                "{what} has {part} of {}: {output}",
                self.text
            );
        }
    }

    fn assert_hidden(&self, what: &str, run: &Run) {
        self.assert_not_in(what, &format!("{}{}", run.stdout, run.stderr));
    }
}

/// Creates two profiles, a home and a cloud folder.
fn world() -> TestEnv {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    put(&env, "config.toml", "model = \"gpt-5\"\n");
    put(
        &env,
        "installation_id",
        "11111111-2222-3333-4444-555555555555",
    );
    fs::create_dir_all(env.path("home/cloud")).unwrap();
    let sync = "[sync]\ndry_run_default = false\n[paths]\ncloud_root_dir = \"~/cloud\"\n";
    env.write("home/.codex-manager/sync.toml", sync);
    env.set("EDITOR", "true");
    env
}

/// Runs all commands and formats that print or send texts, and checks their outputs.
fn assert_nothing_leaves(env: &TestEnv, planted: &Planted) {
    backup(env, &[]);
    let formats: [&[&str]; 3] = [&["--yes"], &["--yes", "--json"], &["--yes", "--verbose"]];
    for leaf in leaves() {
        for format in formats {
            let what = format!("{} {format:?}", leaf.words.join(" "));
            let run = env.run(leaf.with(format));
            assert_orderly_exit(&what, &run);
            planted.assert_hidden(&what, &run);
        }
    }
    for words in MORE_COMMANDS {
        let args: Vec<_> = words.split(' ').collect();
        planted.assert_hidden(words, &env.run(args));
    }
    let page = env.path("page.html");
    for report in [
        "storage",
        "usage projects",
        "usage models",
        "usage sessions",
    ] {
        let args = report.split(' ').chain(["--html"]).chain(page.to_str());
        planted.assert_hidden(report, &env.run(args).code(0));
        planted.assert_not_in(report, &fs::read_to_string(&page).unwrap());
        fs::remove_file(&page).unwrap();
    }
    for format in ["md", "html", "json"] {
        let out = env.path(&format!("out.{format}"));
        let args = [
            "export",
            ID,
            "--tools",
            "--reasoning",
            "--format",
            format,
            "--out",
        ];
        let run = env.run(args.into_iter().chain(out.to_str())).code(0);
        planted.assert_hidden("export", &run);
        planted.assert_not_in(format, &fs::read_to_string(&out).unwrap());
        fs::remove_file(out).unwrap();
    }
    assert_answers_hide(env, planted);
    assert_sync_holds_back(env, planted);
}

/// Options that show more than the defaults.
const MORE_COMMANDS: [&str; 25] = [
    "find one -C 5",
    "find one -C 5 --json",
    "find one --format tsv",
    "find one --color always",
    "find --regex one.* -C 2",
    "find --exact one",
    "find title",
    "find alice",
    "find one --archives",
    "find one --role tool",
    "sessions --format tsv",
    "sessions --color always",
    "sessions --all",
    "show one",
    "show 01a1f78b-4d30 --tools --reasoning",
    "show 01a1f78b-4d30 --tools --json",
    "show 01a1f78b-4d30 --max-bytes 300",
    "show nothing-of-this-name",
    "usage --by conversation",
    "usage --by conversation --json",
    "usage sessions --json",
    "history check --verbose",
    "history losses --json",
    "storage --json",
    "sync run --dry-run --verbose",
];

fn assert_answers_hide(env: &TestEnv, planted: &Planted) {
    let mut client = McpClient::start(env);
    for (tool, arguments) in [
        (
            "search_conversations",
            json!({"query": "one", "scope": "all"}),
        ),
        ("open_conversation", json!({"id": ID})),
        ("open_conversation", json!({"id": ID, "turn": 2})),
        ("list_conversations", json!({"scope": "all"})),
        ("open_conversation", json!({"id": planted.text})),
    ] {
        let answer = client.call(tool, arguments);
        planted.assert_not_in(tool, &answer.text);
    }
    client.close();
}

/// Conversations are synced as they are, with what was typed and printed in them; other files with a secret are not.
fn assert_sync_holds_back(env: &TestEnv, planted: &Planted) {
    let run = env.run(["sync", "run", "--apply", "--yes"]);
    planted.assert_hidden("sync run", &run);
    for entry in WalkDir::new(env.path("home/cloud")).into_iter().flatten() {
        let path = entry.path().to_string_lossy().into_owned();
        let is_conversation = [
            "sessions/",
            "history.jsonl",
            "session_index",
            ".codex-manager",
        ];
        if entry.file_type().is_file() && !is_conversation.iter().any(|part| path.contains(part)) {
            let text = fs::read(entry.path()).unwrap();
            planted.assert_not_in(&path, &String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn no_output_has_a_token_of_a_login_of_this_machine() {
    let seed = variables::seed();
    println!("seed {seed}");
    let mut random = Random(seed);
    let env = world();
    let tokens = write_logins(&env, &mut random);
    // One text has all of them, so that each command is run once for all.
    for to_planted in [Planted::whole, Planted::in_pieces] {
        let all: Vec<_> = tokens.iter().map(|token| to_planted(token)).collect();
        let planted = Planted {
            text: all
                .iter()
                .map(|planted| &*planted.text)
                .collect::<Vec<_>>()
                .join(" "),
            parts: all.into_iter().flat_map(|planted| planted.parts).collect(),
        };
        write_texts(&env, &planted.text);
        assert_nothing_leaves(&env, &planted);
    }
}

#[test]
fn every_command_that_shows_conversations_hides_secrets_by_their_form() {
    let mut random = Random(variables::seed());
    let env = world();
    let planted = Planted::whole(&format!("ghp_{}", random.text(36).replace(['-', '_'], "x")));
    write_texts(&env, &planted.text);
    assert_nothing_leaves(&env, &planted);

    for words in [
        "find one",
        "find one --json",
        "sessions --json",
        "show 01a1f78b-4d30",
    ] {
        let args = words.split(' ').chain(["--no-redact"]);
        let run = env.run(args).code(0);
        assert!(run.stdout.contains(&planted.text), "{run}");
    }
}

#[test]
fn a_token_is_hidden_once_its_login_is_stored_and_shown_before() {
    let mut random = Random(variables::seed());
    let token = random.text(60);
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &bob());
    write_texts(&env, &format!("my {token}"));
    let show = || env.run(["show", ID]).code(0).stdout;
    assert!(show().contains(&token));
    let auth = json!({"OPENAI_API_KEY": token});
    // The second is of a sign-in that was killed.
    for home in ["home/.codex", "home/.codex-manager/tmp/login-x/home"] {
        let path = env.path(home).join("auth.json");
        write_auth_at(&path, &auth);
        assert!(!show().contains(&token[..PIECE]), "{home}: {}", show());
        fs::remove_file(path).unwrap();
    }
}
