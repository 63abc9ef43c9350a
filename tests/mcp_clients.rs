//! `mcp` with its clients: the real Codex, by its commands and as a plugin, and the SDK of the protocol.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{PROGRAM, TestEnv};
use crate::support::faults::Dice;
use crate::support::lab::Lab;
use crate::support::mcp_client::McpClient;
use crate::support::mock_backend::ToolCall;
use crate::support::real_codex::Output;
use crate::support::tool_install::{installed_once, npm_install, tool_or_skip};
use crate::support::write_program;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The version of the SDK in the npm registry.
const SDK_VERSION: &str = "1.32.2";

/// Puts `codex-manager` where Codex finds it by its name. What Codex sends to the server is recorded.
fn install_manager(lab: &Lab) {
    let program = env!("CARGO_BIN_EXE_codex-manager");
    let log = lab.world.path("requests");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = mcp ] && tee -a '{}' | exec '{program}' \"$@\"\nexec '{program}' \"$@\"\n",
        log.display()
    );
    fs::create_dir_all(lab.world.path("bin")).expect("folder");
    write_program(&lab.world.path("bin/codex-manager"), &script);
}

/// Returns the messages that Codex sent to the server since the last call.
fn take_requests(lab: &Lab) -> Vec<Value> {
    let log = lab.world.path("requests");
    let text = fs::read_to_string(&log).expect("requests");
    fs::remove_file(log).expect("remove");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON")
}

/// Runs Codex as the user of the lab, in the folder `proj`.
fn codex(lab: &Lab, args: &[&str]) -> Output {
    let folder = lab.world.path("proj");
    fs::create_dir_all(&folder).expect("folder");
    let running = lab
        .codex
        .start_with(&lab.home(), &lab.backend, args, |command| {
            let bin = lab.world.path("bin");
            let path = format!("{}:{}", bin.display(), lab.codex.search_path());
            command
                .env("HOME", lab.world.path("home"))
                .env("PATH", path);
            command.current_dir(folder);
        });
    running.finish(Duration::from_secs(300)).expect_success()
}

fn say(lab: &Lab, sandbox: &str, prompt: &str) -> String {
    let output = codex(
        lab,
        &["exec", "--skip-git-repo-check", "-s", sandbox, prompt],
    );
    output.session_id().expect("an id").to_owned()
}

/// Makes the model call all tools in a turn. Returns their outputs.
fn call_all_tools(lab: &Lab, sandbox: &str, earlier: &str) -> Vec<String> {
    let call = |name, arguments| ToolCall {
        namespace: "mcp__codex_manager",
        name,
        arguments,
    };
    lab.backend.call_tools(&[
        call("search_conversations", json!({"query": "zebra"})),
        call("open_conversation", json!({"id": earlier, "turn": 1})),
        call("list_conversations", json!({"scope": "here"})),
    ]);
    say(lab, sandbox, "What did we decide?");
    lab.backend.call_tools(&[]);
    let turn = lab.backend.last_turn();
    let input = turn["input"]
        .as_array()
        .expect("the input of the model")
        .iter();
    let outputs = input.filter(|item| item["type"] == "function_call_output");
    outputs.map(|item| item["output"].to_string()).collect()
}

fn assert_tool_outputs(outputs: &[String], earlier: &str) {
    let [found, opened, listed] = outputs else {
        panic!("not three outputs: {outputs:?}");
    };
    for output in outputs {
        assert!(output.contains("quoted by codex-manager"), "{output}");
    }
    assert!(
        found.contains(earlier) && found.contains("turn\\\":1"),
        "{found}"
    );
    assert!(
        opened.contains("turn 1, ") && opened.contains("> The zebra question"),
        "{opened}"
    );
    assert!(listed.contains(earlier), "{listed}");
}

/// Codex 0.169.
#[test]
fn codex_adds_the_server_and_its_model_calls_each_tool_in_both_sandboxes() {
    let Some(lab) = Lab::new() else { return };
    install_manager(&lab);
    let earlier = say(&lab, "read-only", "The zebra question");
    let block = lab.manager(["hook", "mcp"]).code(0).stdout;
    let (comment, block) = block.split_once('\n').expect("a comment");
    let (_, command) = comment.split_once(": codex ").expect("a command");
    let words: Vec<_> = command.split(' ').collect();
    let _ = codex(&lab, &words);
    let config = fs::read_to_string(lab.home().join("config.toml")).expect("read");
    let servers = |text: &str| {
        let document: toml_edit::DocumentMut = text.parse().expect("TOML");
        document["mcp_servers"].to_string().replace([' ', '\n'], "")
    };
    assert_eq!(servers(&config), servers(block));
    let list = codex(&lab, &["mcp", "list"]).stdout;
    let line = list.lines().find(|line| line.starts_with("codex-manager "));
    assert!(line.is_some_and(|line| line.contains("enabled")), "{list}");
    for sandbox in ["read-only", "workspace-write"] {
        let outputs = call_all_tools(&lab, sandbox, &earlier);
        assert_tool_outputs(&outputs, &earlier);
    }
    // The conversations in which the model asked have the word only in its calls and their answers.
    let found = lab.manager(["find", "zebra", "--json"]).code(0).json();
    let hits = found["hits"].as_array().expect("hits");
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert_eq!(hits[0]["session_id"], *earlier);
    for request in take_requests(&lab) {
        if request["method"] == "initialize" {
            assert_eq!(request["params"]["protocolVersion"], "2025-06-18");
        }
        assert_ne!(request["method"], "server/discover");
    }
    // The newest version, which Codex speaks with two features that are off.
    for feature in ["mcp_2026_07_28", "mcp_connection_sharing"] {
        let _ = codex(&lab, &["features", "enable", feature]);
    }
    let outputs = call_all_tools(&lab, "read-only", &earlier);
    assert_tool_outputs(&outputs, &earlier);
    let requests = take_requests(&lab);
    let of = |method: &str| requests.iter().filter(|r| r["method"] == method).count();
    assert_eq!((of("server/discover") > 0, of("initialize")), (true, 0));
    let calls = requests.iter().filter(|r| r["method"] == "tools/call");
    let version = "io.modelcontextprotocol/protocolVersion";
    let versions: Vec<_> = calls.map(|r| &r["params"]["_meta"][version]).collect();
    assert_eq!(versions, ["2026-07-28"; 3]);
}

/// Codex 0.169.
#[test]
fn codex_installs_the_plugin_with_its_server_and_its_skill() {
    let Some(lab) = Lab::new() else { return };
    install_manager(&lab);
    let earlier = say(&lab, "read-only", "The zebra question");
    let config = lab.home().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, text.replace("plugins = false", "plugins = true")).expect("write");
    let folder = lab.world.path("plugin");
    let folder = folder.to_str().expect("UTF-8");
    let planned = lab
        .manager(["hook", "plugin", folder, "--dry-run"])
        .code(0)
        .stdout;
    assert!(!Path::new(folder).exists());
    let commands = lab.manager(["hook", "plugin", folder]).code(0).stdout;
    assert_eq!(planned, commands);
    // An update of the manager writes it again.
    let _ = lab.manager(["hook", "plugin", folder]).code(0);
    for command in commands.lines() {
        let command = command.replace(
            "[ROOT]",
            lab.world
                .path("")
                .to_str()
                .expect("UTF-8")
                .trim_end_matches('/'),
        );
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let _ = codex(&lab, &words);
    }
    let installed = codex(&lab, &["plugin", "list", "--json"]).stdout;
    let installed: Value = serde_json::from_str(&installed).expect("JSON");
    assert_eq!(
        installed["installed"][0]["pluginId"],
        "codex-manager@codex-manager"
    );
    assert_eq!(installed["installed"][0]["enabled"], true);
    let list = codex(&lab, &["mcp", "list"]).stdout;
    assert!(
        list.lines().any(|line| line.starts_with("codex-manager ")),
        "{list}"
    );
    let outputs = call_all_tools(&lab, "read-only", &earlier);
    assert_tool_outputs(&outputs, &earlier);
    // The model is told of the skill.
    let turn = lab.backend.last_turn().to_string();
    assert!(turn.contains("past-conversations: Search and read this user's past conversations"));
}

#[test]
fn hook_passes_the_homes_unless_they_are_the_default_and_overwrites_no_other_folder() {
    let mut env = TestEnv::new();
    env.set("CODEX_HOME", env.path("other home"));
    let block = env.run(["hook", "mcp"]).code(0).stdout;
    let (comment, block) = block.split_once('\n').expect("a comment");
    let command =
        "codex mcp add codex-manager -- codex-manager --codex-home '[ROOT]/other home' mcp";
    assert_eq!(comment, format!("# The same as: {command}"));
    let block: toml_edit::DocumentMut = block.parse().expect("TOML");
    let arguments = block["mcp_servers"]["codex-manager"]["args"]
        .as_array()
        .expect("a list");
    let arguments: Vec<_> = arguments
        .iter()
        .filter_map(toml_edit::Value::as_str)
        .collect();
    assert_eq!(arguments, ["--codex-home", "[ROOT]/other home", "mcp"]);
    env.unset("CODEX_HOME");
    let block = env.run(["hook", "mcp"]).code(0).stdout;
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mcp.md");
    assert!(
        fs::read_to_string(docs).expect("read").contains(&block),
        "{block}"
    );
    // The blocks for other clients start the same server.
    let docs = fs::read_to_string(docs).expect("read");
    let blocks: Vec<_> = docs.split("```json\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let block = block.split("```").next().expect("an end");
        let servers: Value = serde_json::from_str(block).expect("JSON");
        let server = servers.as_object().and_then(|all| all.values().next());
        let server = &server.expect("servers")["codex-manager"];
        assert_eq!(
            (&server["command"], &server["args"]),
            (&json!("codex-manager"), &json!(["mcp"]))
        );
    }
    env.write("used/file", "mine");
    let before = env.tree("used");
    let refused = env.run(["hook", "plugin", "used"]).code(5);
    assert!(
        refused.stderr.contains("the folder has other files"),
        "{refused}"
    );
    assert!(before == env.tree("used"));
    for args in [
        &["hook", "plugin"][..],
        &["hook", "mcp", "used"],
        &["hook", "mcp", "--wrap"],
    ] {
        let _ = env.run(args).code(4);
    }
}

/// Returns the folder of the SDK, installed once.
fn sdk() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let install = || {
        let sdk = |prefix: &Path| prefix.join("node_modules/@modelcontextprotocol/sdk/dist/esm");
        let place = installed_once(
            &format!("mcp-sdk-{SDK_VERSION}"),
            |prefix| sdk(prefix).join("client/stdio.js").is_file(),
            |prefix| npm_install(prefix, &format!("@modelcontextprotocol/sdk@{SDK_VERSION}")),
        )?;
        Ok(sdk(&place))
    };
    tool_or_skip("MCP SDK", FOUND.get_or_init(install)).map(PathBuf::as_path)
}

/// A client that checks each answer against the schema of the protocol.
const SDK_CLIENT: &str = r#"
import { Client } from "SDK/client/index.js";
import { StdioClientTransport } from "SDK/client/stdio.js";
const transport = new StdioClientTransport({ command: process.argv[2], args: ["mcp"], env: process.env });
const client = new Client({ name: "test", version: "1" });
const errors = [];
let wasAborted = false;
// The answer to an aborted request may be on its way.
client.onerror = (error) => wasAborted && String(error).includes("unknown message ID") || errors.push(String(error));
await client.connect(transport);
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const { tools } = await client.listTools();
const found = await call("search_conversations", { query: "needle", scope: "all" });
const opened = await call("open_conversation", JSON.parse(found.content[0].text.match(/open_conversation (.*)/)[1]));
const listed = await call("list_conversations", { scope: "all" });
const wrong = await call("search_conversations", {});
const unknown = await call("nothing", {}).then(() => null, (error) => error.code);
const many = await Promise.all(Array.from({ length: 50 }, () => call("search_conversations", { query: "needle", scope: "all" })));
const abort = new AbortController();
const aborted = call("search_conversations", { query: "nothing", scope: "all" }, { signal: abort.signal });
abort.abort();
wasAborted = await aborted.then(() => false, () => true);
const after = await call("search_conversations", { query: "needle", scope: "all" });
await client.ping();
console.log(JSON.stringify({
  version: transport.protocolVersion ?? transport._protocolVersion,
  server: client.getServerVersion(), instructions: client.getInstructions(),
  tools: tools.map((tool) => tool.name), found, opened, listed, wrong, unknown,
  equal: many.every((one) => one.content[0].text === found.content[0].text), wasAborted, after, errors,
}));
await client.close();
"#;

#[test]
fn the_mcp_sdk_accepts_every_answer() {
    let Some(sdk) = sdk() else { return };
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "About it", "The needle"));
    let script = SDK_CLIENT.replace("SDK", sdk.to_str().expect("UTF-8"));
    let script = env.write("client.mjs", script);
    let output = env
        .other_program("node")
        .arg(script)
        .arg(PROGRAM)
        .env("PATH", std::env::var_os("PATH").expect("PATH"))
        .output()
        .expect("start node");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let result: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    assert!(output.status.success(), "{stderr}");
    assert_eq!(result["errors"], json!([]), "{result}");
    assert_eq!(result["server"]["name"], "codex-manager");
    assert!(
        result["instructions"]
            .as_str()
            .expect("a text")
            .contains("search_conversations")
    );
    assert_eq!(
        result["tools"].as_array().map(Vec::len),
        Some(3),
        "{result}"
    );
    for key in ["found", "opened", "listed", "after"] {
        let text = result[key]["content"][0]["text"].as_str().expect("a text");
        assert!(
            text.contains(&id(1)) || text.contains("> The needle"),
            "{key}: {result}"
        );
    }
    assert_eq!(result["wrong"]["isError"], true, "{result}");
    assert_eq!(result["unknown"], -32602, "{result}");
    assert_eq!(
        (&result["equal"], &result["wasAborted"]),
        (&json!(true), &json!(true))
    );
}

/// Validates each `value` against `definition` of the official schema of `version`, and reports the failures; without
/// `definition`, reports whether the tools accept what `schema` accepts.
const SCHEMA_CHECK: &str = r#"
import { createRequire } from "node:module";
import fs from "node:fs";
const require = createRequire("SDK/client/index.js");
const [draft7, draft2020] = [require("ajv"), require("ajv/dist/2020")].map((module) => module.default ?? module);
const options = { strict: false, validateFormats: false, allErrors: true };
const cases = JSON.parse(fs.readFileSync(process.argv[2]));
const schemas = {};
const problems = [];
for (const { version, definition, schema, value, accepted } of cases) {
  if (schema) {
    const valid = new draft2020(options).compile(schema)(value);
    if (valid !== accepted) problems.push({ value, valid, accepted });
    continue;
  }
  const key = version === "2025-06-18" ? "definitions" : "$defs";
  schemas[version] ??= new (key === "$defs" ? draft2020 : draft7)(options)
    .addSchema(JSON.parse(fs.readFileSync(`${process.argv[3]}/${version}.json`)), version);
  const validate = schemas[version].getSchema(`${version}#/${key}/${definition}`);
  if (!validate(value)) problems.push({ version, definition, value, errors: validate.errors });
}
console.log(JSON.stringify(problems));
"#;

fn check_schemas(sdk: &Path, env: &TestEnv, cases: &[Value]) {
    let script = SCHEMA_CHECK.replace("SDK", sdk.to_str().expect("UTF-8"));
    let script = env.write("schemas.mjs", script);
    let cases = env.write("cases.json", json!(cases).to_string());
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mcp_schema");
    let mut node = Command::new("node");
    let output = node.arg(script).arg(cases).arg(schemas).output();
    let output = output.expect("start node");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let problems: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    assert_eq!(problems, json!([]), "{problems:#}");
}

#[test]
fn answers_match_the_official_schema_of_each_version() {
    let Some(sdk) = sdk() else { return };
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "About it", "The needle"));
    let mut client = McpClient::start(&env);
    let search =
        json!({"name": "search_conversations", "arguments": {"query": "needle", "scope": "all"}});
    let wrong = json!({"name": "search_conversations", "arguments": {}});
    let mut cases = Vec::new();
    let mut add = |version: &str, definition: &str, value: &Value| {
        cases.push(json!({"version": version, "definition": definition, "value": value}));
    };
    let mut plain = Vec::new();
    for (version, result, error) in [
        ("2025-06-18", "JSONRPCResponse", "JSONRPCError"),
        (
            "2025-11-25",
            "JSONRPCResultResponse",
            "JSONRPCErrorResponse",
        ),
    ] {
        for (definition, method, params) in [
            (
                "InitializeResult",
                "initialize",
                json!({"protocolVersion": version}),
            ),
            ("ListToolsResult", "tools/list", json!({})),
            ("CallToolResult", "tools/call", search.clone()),
            ("CallToolResult", "tools/call", wrong.clone()),
            ("EmptyResult", "ping", json!({})),
        ] {
            let answer = client.request(method, params);
            add(version, result, &answer);
            add(version, definition, &answer["result"]);
            plain.push(answer["result"].clone());
        }
        add(version, error, &client.request("resources/list", json!({})));
        add(version, error, &client.request("tools/call", json!({})));
    }
    assert_eq!(plain[1..5], plain[6..]);
    let version = "2026-07-28";
    let versioned = |mut params: Value, version: &str| {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {}});
        params
    };
    for (definition, method, params) in [
        ("DiscoverResultResponse", "server/discover", json!({})),
        ("ListToolsResultResponse", "tools/list", json!({})),
        ("CallToolResultResponse", "tools/call", search.clone()),
        ("CallToolResultResponse", "tools/call", wrong),
        ("JSONRPCErrorResponse", "subscriptions/listen", json!({})),
    ] {
        let answer = client.request(method, versioned(params, version));
        add(version, definition, &answer);
        let server = &answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert!(
            answer["error"].is_object() || server["name"] == "codex-manager",
            "{answer}"
        );
        if definition == "ListToolsResultResponse" {
            assert_eq!(answer["result"]["tools"], plain[1]["tools"]);
        }
    }
    let refused = client.request("tools/call", versioned(search, "2030-01-01"));
    add(version, "UnsupportedProtocolVersionError", &refused);
    let supported = json!(["2026-07-28", "2025-11-25", "2025-06-18"]);
    assert_eq!(
        refused["error"]["data"],
        json!({"requested": "2030-01-01", "supported": supported})
    );
    // Without what belongs to a version, and without a version.
    let incomplete = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": version}});
    for params in [incomplete, json!({})] {
        let refused = client.request("server/discover", params);
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        add(version, "JSONRPCErrorResponse", &refused);
    }
    client.send_bytes(b"no JSON\n");
    let unknown = client.receive();
    add(version, "JSONRPCErrorResponse", &unknown);
    add("2025-11-25", "JSONRPCErrorResponse", &unknown);
    assert!(client.close().success());
    check_schemas(sdk, &env, &cases);
}

/// Values out of a range are moved into it, and null is as if left out; clients that check do not send them.
#[test]
fn the_tools_accept_the_arguments_that_their_schemas_accept() {
    let Some(sdk) = sdk() else { return };
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "About it", "The needle"));
    let mut client = McpClient::start(&env);
    let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
    let values = json!([
        "x",
        "here",
        "all",
        "user",
        "",
        3,
        2500,
        -1,
        1.5,
        true,
        [],
        {},
        ["here"]
    ]);
    let values = values.as_array().expect("values");
    let mut dice = Dice::new();
    let mut cases = Vec::new();
    for round in 0..300 {
        let tool = &tools[round % 3];
        let properties = tool["inputSchema"]["properties"]
            .as_object()
            .expect("properties");
        let mut arguments = json!({});
        for name in properties.keys().map(String::as_str).chain(["other"]) {
            let value = &values[usize::try_from(dice.below(values.len() as u64)).unwrap()];
            let is_outside =
                name == "limit" && *value == 2500 || name == "max_chars" && *value == 3;
            if dice.below(3) == 0 && !is_outside {
                arguments[name] = value.clone();
            }
        }
        let answer = client.call(tool["name"].as_str().expect("a name"), arguments.clone());
        let accepted = !answer.text.starts_with("error: invalid arguments");
        cases
            .push(json!({"schema": tool["inputSchema"], "value": arguments, "accepted": accepted}));
    }
    assert!(client.close().success());
    check_schemas(sdk, &env, &cases);
}
