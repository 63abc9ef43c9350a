//! All forms of items in lines.

use super::{EventKind, LineParts, may_have_parts, parse, parse_token_count};

fn kinds(line: &str) -> Vec<EventKind> {
    let items = parse(line.as_bytes(), LineParts::INDEXED).unwrap_or_default();
    items.items.into_iter().map(|item| item.kind).collect()
}

fn line(kind: &str, payload: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-21T21:05:07.430Z","ordinal":1,"type":"{kind}","payload":{payload}}}"#
    )
}

fn tool(name: &str, text: &str) -> Vec<EventKind> {
    let (name, text) = (name.to_owned(), text.to_owned());
    vec![EventKind::ToolCall { name, text }]
}

#[test]
fn calls_of_shells_and_other_tools_are_read_in_all_forms() {
    for (payload, expected) in [
        (
            r#"{"type":"function_call","name":"exec_command","arguments":"{\"cmd\": \"ls -la\"}","call_id":"c"}"#,
            tool("exec_command", "ls -la"),
        ),
        (
            r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"bash\",\"-lc\",\"ls a\"]}"}"#,
            tool("shell", "ls a"),
        ),
        (
            r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"C:/Git/bin/bash.exe\",\"-lc\",\"ls a\"]}"}"#,
            tool("shell", "ls a"),
        ),
        (
            r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"ls\",\"a\"]}"}"#,
            tool("shell", "ls a"),
        ),
        (
            r#"{"type":"function_call","name":"other","arguments":"{\"x\":1}"}"#,
            tool("other", r#"{"x":1}"#),
        ),
        (
            r#"{"type":"local_shell_call","action":{"type":"exec","command":["ls","b"]}}"#,
            tool("local_shell_call", "ls b"),
        ),
        (
            r#"{"type":"custom_tool_call","name":"apply_patch","input":"*** Add File: x"}"#,
            tool("apply_patch", "*** Add File: x"),
        ),
        (
            r#"{"type":"web_search_call","action":{"type":"search","query":"how"}}"#,
            tool("web_search_call", "how"),
        ),
    ] {
        assert_eq!(
            kinds(&line("response_item", payload)),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn arguments_are_read_whole_unless_they_are_a_shell_command_with_known_options() {
    let text = |tool: &str, arguments: &str| {
        let arguments = serde_json::to_string(arguments).unwrap();
        let payload =
            format!(r#"{{"type":"function_call","name":"{tool}","arguments":{arguments}}}"#);
        match kinds(&line("response_item", &payload)).pop() {
            Some(EventKind::ToolCall { text, .. }) => text,
            other => panic!("{other:?}"),
        }
    };
    for shown_whole in [
        r#"{"command":"git","args":["push","--force"],"cwd":"/w"}"#,
        r#"{"command":"create","path":"/w/a.py","file_text":"print()"}"#,
        r#"{"cmd":"ls","command":"rm"}"#,
        r#"{"command":{"program":"ls"}}"#,
        r#"{"command":""}"#,
    ] {
        assert_eq!(text("shell", shown_whole), shown_whole);
    }
    let of_other_tool = r#"{"command":"reboot","timeout":9,"shell":"sh"}"#;
    assert_eq!(text("run_on_host", of_other_tool), of_other_tool);
    let options = r#"{"cmd":"ls","workdir":"/w","login":true,"yield_time_ms":1000,"max_output_tokens":9,
        "sandbox_permissions":"require_escalated","justification":"why","prefix_rule":["ls"]}"#;
    assert_eq!(text("exec_command", options), "ls");
    let words = r#"{"command":["grep","-c","x"],"timeout_ms":1}"#;
    assert_eq!(text("container.exec", words), "grep -c x");
}

#[test]
fn outputs_are_read_in_all_forms() {
    let output = |json: &str| {
        let payload = format!(r#"{{"type":"function_call_output","output":{json}}}"#);
        kinds(&line("response_item", &payload))
    };
    for json in [
        r#""text""#,
        r#""{\"output\":\"text\",\"metadata\":{\"exit_code\":0}}""#,
        r#""{\"output\":\"text\"}""#,
        r#"[{"type":"input_text","text":"text"},{"type":"input_image","image_url":"data:"}]"#,
        r#"{"content":"text","success":true}"#,
    ] {
        assert_eq!(
            output(json),
            [EventKind::ToolOutput("text".into())],
            "{json}"
        );
    }
    let printed = r#"{"output":"done","error":"no disk"}"#;
    let json = serde_json::to_string(printed).unwrap();
    assert_eq!(output(&json), [EventKind::ToolOutput(printed.into())]);
}

#[test]
fn completed_commands_and_file_changes_are_read() {
    let command = r#"{"type":"item_completed","item":{"type":"CommandExecution","id":"c","command":["/bin/bash","-lc","ls"],"aggregated_output":"x\n"}}"#;
    let mut expected = tool("exec_command", "ls");
    expected.push(EventKind::ToolOutput("x\n".into()));
    assert_eq!(kinds(&line("event_msg", command)), expected);
    let files = r#"{"type":"item_completed","item":{"type":"FileChange","id":"c","changes":{"/p/a.rs":{"type":"add","content":"x"}}}}"#;
    assert_eq!(
        kinds(&line("event_msg", files)),
        [EventKind::FilesTouched("/p/a.rs".into())]
    );
}

#[test]
fn instructions_and_damaged_lines_have_no_items() {
    for payload in [
        r#"{"type":"message","role":"developer","content":[{"type":"input_text","text":"x"}]}"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"}"#,
        r#"{"type":"message","role":7}"#,
        r#"{"type":"message","#,
    ] {
        assert_eq!(kinds(&line("response_item", payload)), [], "{payload}");
    }
    assert_eq!(parse(b"\xff\xfe", LineParts::INDEXED), None);
}

#[test]
fn an_item_may_be_a_message_of_the_user_unless_codex_inserted_it() {
    let item = |text: &str| {
        format!(
            r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}"#
        )
    };
    assert_eq!(kinds(&item("go")), [EventKind::User("go".into())]);
    let newer = line("response_item", &item("go"));
    assert_eq!(kinds(&newer), [EventKind::UserInput("go".into())]);
    for inserted in [
        "<environment_context>x",
        "# AGENTS.md instructions for /p",
        "<codex_internal_context source='goal'>",
        "<user_shell_command>ls",
        "<user_action>x",
        "<subagent_notification>x",
        " <some_new_context a=1>x</some_new_context>",
        "Side conversation boundary.",
    ] {
        assert_eq!(
            kinds(&item(inserted)),
            [EventKind::ModelInput],
            "{inserted}"
        );
    }
}

#[test]
fn tokens_and_contexts_are_read_if_selected() {
    let count = line(
        "event_msg",
        r#"{"type":"token_count","info":{"total_token_usage":{"input_tokens":10,"total_tokens":12},"last_token_usage":null},"rate_limits":null}"#,
    );
    let [EventKind::Tokens(tokens)] = &kinds(&count)[..] else {
        panic!("{:?}", kinds(&count));
    };
    assert_eq!(tokens.total.unwrap().input_tokens, 10);
    assert_eq!(parse(count.as_bytes(), LineParts::TEXTS), None);
    let context = line("turn_context", r#"{"cwd":"/p","model":"gpt-6"}"#);
    assert!(matches!(&kinds(&context)[..], [EventKind::TurnContext(_)]));
}

#[test]
fn lines_from_before_0_32_are_read_without_an_envelope() {
    let meta = r#"{"id":"01","timestamp":"2025-07-10T12:00:00Z","instructions":null,"git":{}}"#;
    let items = parse(meta.as_bytes(), LineParts::META).unwrap();
    assert!(items.at.is_some());
    let [EventKind::Meta(meta)] = &items
        .items
        .iter()
        .map(|i| i.kind.clone())
        .collect::<Vec<_>>()[..]
    else {
        panic!("{items:?}");
    };
    assert!(!meta.has_envelope);
    assert_eq!(meta.payload["id"], "01");
    let user = r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}"#;
    assert_eq!(kinds(user), [EventKind::User("hi".into())]);
    let call = r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"ls\"]}","call_id":"c"}"#;
    assert_eq!(kinds(call), tool("shell", "ls"));
    assert_eq!(kinds(r#"{"record_type":"state"}"#), []);
}

#[test]
fn a_line_without_wanted_parts_is_skipped() {
    let user = LineParts::USER_ITEMS.union(LineParts::USER_EVENTS);
    for (kind, payload, of_user) in [
        ("response_item", r#"{"type":"message","role":"user""#, true),
        (
            "response_item",
            r#"{"type":"message","role":"assistant""#,
            false,
        ),
        ("response_item", r#"{"type":"reasoning","x":"user""#, false),
        ("event_msg", r#"{"type":"user_message""#, true),
        (
            "event_msg",
            r#"{"type":"item_completed","item":{"type":"UserMessage""#,
            true,
        ),
        (
            "event_msg",
            r#"{"type":"item_completed","item":{"type":"AgentMessage""#,
            false,
        ),
        ("event_msg", r#"{"type":"token_count""#, false),
        ("event_msg", r#"{"turn_id":"1""#, true),
        ("session_meta", r#"{"id":"1""#, false),
        ("world_state", r#"{"type":"message""#, false),
    ] {
        let line = line(kind, payload);
        assert_eq!(may_have_parts(line.as_bytes(), user), of_user, "{line}");
        let is_read = kind != "world_state" && kind != "session_meta";
        assert_eq!(
            may_have_parts(line.as_bytes(), LineParts::INDEXED),
            is_read,
            "{line}"
        );
    }
}

#[test]
fn only_token_count_lines_have_windows() {
    let line = br#"{"timestamp":"2026-11-21T08:00:00.000Z","ordinal":16,"type":"event_msg","payload":{"type":"token_count","info":null,"rate_limits":{"limit_id":"codex","primary":{"used_percent":12.0,"window_minutes":300,"resets_at":1795161384},"secondary":{"used_percent":91.0,"window_minutes":10080,"resets_in_seconds":60},"credits":null}}}"#;
    let count = parse_token_count(line).unwrap();
    assert_eq!(count.windows.len(), 2);
    assert!(count.windows[1].is_weekly());
    let reset = count.windows[1].resets_at.unwrap();
    assert_eq!(reset - count.at, chrono::TimeDelta::seconds(60));
    // A reset time that no calendar has.
    let text = String::from_utf8_lossy(line).replace(":60}", ":8500000000000}");
    assert_eq!(
        parse_token_count(text.as_bytes()).unwrap().windows[1].resets_at,
        None
    );
    let api_key = br#"{"timestamp":"2026-11-21T08:00:00Z","type":"event_msg","payload":{"type":"token_count","rate_limits":{"primary":null,"secondary":null}}}"#;
    assert_eq!(parse_token_count(api_key).unwrap().windows, []);
    for other in [
        &br#"{"timestamp":"2026-11-21T08:00:00Z","type":"event_msg","payload":{"type":"user_message","message":"\"token_count\""}}"#[..],
        br#"{"timestamp":"x","payload":{"type":"token_count"}}"#,
        b"\"token_count\"",
        b"",
    ] {
        assert_eq!(parse_token_count(other), None);
    }
}

#[test]
fn an_answer_is_the_same_in_its_item_and_its_event() {
    let item = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        let payload = format!(
            r#"{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":{text}}}]}}"#
        );
        let texts = kinds(&line("response_item", &payload)).into_iter();
        let texts = texts.map(|kind| match kind {
            EventKind::Assistant(text) => text,
            other => panic!("{other:?}"),
        });
        texts.collect::<Vec<_>>()
    };
    let citation = "<oai-mem-citation>\n<citation_entries>\na|note=[b]\n</citation_entries>\n</oai-mem-citation>";
    assert_eq!(item(&format!("Done.\n\n{citation}")), ["Done.\n\n"]);
    assert_eq!(item(&format!("{citation}A{citation}B")), ["AB"]);
    let plan = "First:\n<proposed_plan>\n# Plan\n- do\n</proposed_plan>\nGo?";
    assert_eq!(item(plan), ["First:\n\nGo?", "# Plan\n- do"]);
    for text in [
        "a <oai-mem-citation> b",
        "the tag `<proposed_plan>` b </proposed_plan>",
    ] {
        assert_eq!(item(text), [text]);
    }
}
