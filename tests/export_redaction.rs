//! No export contains a token of any form at any place.

use crate::support::conversations::{Conversation, assistant, state, tool_output, user, write};
use crate::support::env::TestEnv;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Returns `len` mixed letters and digits, different for each number.
fn random(number: usize, len: usize) -> String {
    let all = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zL";
    let start = number * 7 % all.len();
    all.chars()
        .cycle()
        .skip(start)
        .step_by(3)
        .take(len)
        .collect()
}

/// Returns one token of each form.
fn tokens() -> Vec<String> {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    vec![
        format!("sk-proj-{}_{}", random(1, 40), random(2, 30)),
        format!("sk-{}", random(3, 48)),
        format!("rt_{}.{}", random(4, 43), random(5, 20)),
        format!("ghp_{}", random(6, 36)),
        format!("github_pat_{}_{}", random(7, 22), random(8, 59)),
        format!("glpat-{}", random(9, 20)),
        "AKIAQ3EGRZ7K2N5MXW4T".to_owned(),
        format!("AIza{}", random(10, 35)),
        format!("xoxb-123456789012-{}", random(11, 24)),
        format!("AGE-SECRET-KEY-1{}", random(12, 58).to_uppercase()),
        format!(
            "{}.{}.{}",
            part("{\"alg\":\"RS256\"}"),
            part("{\"exp\":1}"),
            random(13, 43)
        ),
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----",
            random(14, 64),
            random(15, 40)
        ),
    ]
}

/// Returns texts that contain the token: plain, with escapes, and in base64.
fn hidden(token: &str) -> Vec<String> {
    let with = |escape: &dyn Fn(char) -> String| -> String {
        token
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_string()
                } else {
                    escape(c)
                }
            })
            .collect()
    };
    let base64 = STANDARD.encode(format!("user:{token}"));
    vec![
        token.to_owned(),
        with(&|c| format!("\\u{:04x}", u32::from(c))),
        with(&|c| format!("&#{};", u32::from(c))),
        with(&|c| format!("&#x{:X};", u32::from(c))),
        with(&|c| format!("%{:02X}", u32::from(c))),
        json!({"data": json!({"key": token}).to_string()}).to_string(),
        base64.clone(),
        json!({"data": base64}).to_string(),
        format!("https://u:{token}@host/?t={token}"),
    ]
}

fn call(name: &str, arguments: &Value) -> Value {
    json!({"timestamp": "2026-11-20T06:00:02.000Z", "type": "response_item", "payload":
        {"type": "function_call", "name": name, "call_id": "call_1", "arguments": arguments.to_string()}})
}

/// Writes a conversation with `secret` at all places. Returns the minimum number of redactions.
fn write_conversation(env: &TestEnv, secret: &str) {
    let mut conversation = Conversation::new(1, 60, "Begin", "Done.");
    let line = |kind: &str, payload: Value| json!({"timestamp": "2026-11-20T06:00:03Z", "type": kind, "payload": payload});
    conversation.lines.extend([
        user(&format!("use {secret} please")),
        assistant(&format!(
            "I used `{secret}`:\n```sh\nexport KEY=\"{secret}\"\n```\n[x](https://h/?k={secret})"
        )),
        call(
            "exec_command",
            &json!({"cmd": format!("curl -H 'Authorization: Bearer {secret}'")}),
        ),
        tool_output(&format!("KEY={secret}\n")),
        call("other", &json!({"key": secret})),
        tool_output(&json!({"output": format!("got {secret}")}).to_string()),
        line(
            "response_item",
            json!({"type": "custom_tool_call", "name": "apply_patch", "call_id": "p",
            "input": format!("*** Begin Patch\n*** Add File: .env\n+KEY={secret}\n*** End Patch")}),
        ),
        line(
            "response_item",
            json!({"type": "reasoning",
            "summary": [{"type": "summary_text", "text": format!("The key is {secret}")}]}),
        ),
        line(
            "event_msg",
            json!({"type": "item_completed", "item": {"type": "FileChange", "id": "f",
            "changes": {(format!("/p/{secret}/a.rs")): {"type": "add"}}}}),
        ),
        line(
            "compacted",
            json!({"message": format!("The user has {secret}"), "replacement_history": []}),
        ),
        line(
            "response_item",
            json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "An image"},
            {"type": "input_image", "image_url": format!("https://host/a.png?k={secret}")}]}),
        ),
    ]);
    let secret_line = secret.lines().next().unwrap_or_default();
    conversation.title = format!(
        "Title {}",
        if secret.contains('\n') {
            "x"
        } else {
            secret_line
        }
    );
    conversation.cwd = format!(
        "/home/alice/{}",
        if secret.contains('\n') { "x" } else { secret }
    );
    write(env, &conversation);
    let tool = "UPDATE threads SET name=title";
    state(env).execute(tool, []).expect("update");
}

/// Returns the parts of a token that reveal it.
fn parts(secret: &str, token: &str) -> Vec<String> {
    let mut parts: Vec<String> = token
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| part.len() >= 16)
        .map(str::to_owned)
        .collect();
    let base64 = STANDARD.encode(format!("user:{token}"));
    if secret.contains(&base64) {
        parts = vec![base64[8..24].to_owned()];
    }
    parts
}

#[test]
fn no_export_contains_a_token_in_any_form_at_any_place() {
    for token in tokens() {
        for secret in hidden(&token) {
            let env = TestEnv::new();
            write_conversation(&env, &secret);
            for format in ["md", "html", "json"] {
                let args = [
                    "export",
                    "01a1",
                    "--tools",
                    "--reasoning",
                    "--format",
                    format,
                ];
                let run = env.run(args).code(0);
                for part in parts(&secret, &token) {
                    assert!(
                        !run.stdout.contains(&part),
                        "{format}, {secret}: {part}\n{run}"
                    );
                }
                let count = run
                    .stderr
                    .split(' ')
                    .find_map(|word| word.parse::<usize>().ok());
                assert!(
                    count.is_some_and(|count| count >= 10),
                    "{format}, {secret}: {}",
                    run.stderr
                );
            }
        }
    }
}

#[test]
fn tokens_stay_on_request_and_redactions_are_counted() {
    let env = TestEnv::new();
    let token = &tokens()[3];
    write_conversation(&env, token);
    for format in ["md", "html", "json"] {
        let args = [
            "export",
            "01a1",
            "--tools",
            "--format",
            format,
            "--no-redact",
        ];
        let run = env.run(args).code(0);
        assert!(run.stdout.contains(token.as_str()), "{run}");
        assert!(!run.stderr.contains("redacted"), "{run}");
        let out = env.path(&format!("out.{format}"));
        let out = out.to_str().expect("text");
        let args = [
            "export", "01a1", "--tools", "--format", format, "--out", out, "--json",
        ];
        let document = env.run(args).code(0).json();
        let count = document["files"][0]["redacted"].as_u64();
        assert!(count.is_some_and(|count| count >= 10), "{document}");
    }
}
