//! Conversations of the kinds that Codex lists in a special way.

use super::lab::{Lab, open};
use super::mock_backend::ToolCall;
use super::real_codex::AppServer;
use serde_json::{Value, json};
use std::path::Path;

const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The ids of conversations of a home.
pub(crate) struct ConversationKinds {
    pub(crate) plain: String,
    /// Begins with an image, and has a second message.
    pub(crate) image: String,
    /// Begins with a goal, and has no message.
    pub(crate) goal: String,
    /// Has no message, only a command of the user.
    pub(crate) command: String,
    /// The parent of `subagent`.
    pub(crate) spawner: String,
    pub(crate) subagent: String,
    /// A side conversation of `plain`.
    pub(crate) side: String,
    /// A fork of `plain` without a turn of its own.
    pub(crate) fork: String,
    /// A review, whose parent is recorded in its rollout only.
    pub(crate) review: String,
}

impl ConversationKinds {
    /// Creates one conversation of each kind in `home`. The last one that changed is the subagent or its parent.
    pub(crate) fn create(lab: &Lab, home: &Path) -> Self {
        let mut server = lab.codex.experimental_app_server(home, &lab.backend);
        let text = |text: &str| json!({"type": "text", "text": text});

        let plain = start(&mut server);
        say(&mut server, &plain, text("plain"));
        let image = start(&mut server);
        say(&mut server, &image, json!({"type": "image", "url": IMAGE}));
        say(&mut server, &image, text("what is it"));

        let goal = start(&mut server);
        // Codex would continue an active goal turn after turn.
        let objective = "Make it fast\nand small";
        let params = json!({"threadId": goal, "objective": objective, "status": "paused"});
        ask(&mut server, "thread/goal/set", params);

        let command = start(&mut server);
        let params = json!({"threadId": command, "command": "true"});
        ask(&mut server, "thread/shellCommand", params);
        server.wait_for_turn(&command);

        let params =
            json!({"threadId": plain, "attachToSource": true, "threadSource": "tui_side_chat"});
        let side = id_of(&ask(&mut server, "thread/fork", params));
        say(&mut server, &side, text("aside"));
        let fork = id_of(&ask(&mut server, "thread/fork", json!({"threadId": plain})));

        let reviewed = start(&mut server);
        say(&mut server, &reviewed, text("reviewed"));
        let target = json!({"type": "custom", "instructions": "review it"});
        let params = json!({"threadId": reviewed, "target": target});
        ask(&mut server, "review/start", params);
        server.wait_for_turn(&reviewed);
        drop(server);

        let call = |name, arguments| ToolCall {
            namespace: "collaboration",
            name,
            arguments,
        };
        let task = json!({"task_name": "helper", "message": "help", "fork_turns": "none"});
        lab.backend
            .call_tools(&[call("spawn_agent", task), call("wait_agent", json!({}))]);
        let spawner = lab.say_in(home, "spawner");
        lab.backend.call_tools(&[]);

        let database = open(&home.join("state_5.sqlite"));
        let find = |condition: &str| {
            let sql = format!("SELECT id FROM threads WHERE source LIKE '%{condition}%'");
            let id = database.query_row(&sql, [], |row| row.get(0));
            id.expect("a row")
        };
        Self {
            subagent: find("thread_spawn"),
            review: find("\"review\""),
            plain,
            image,
            goal,
            command,
            spawner,
            side,
            fork,
        }
    }
}

fn ask(server: &mut AppServer, method: &str, params: Value) -> Value {
    let answer = server.request(method, params);
    answer.unwrap_or_else(|e| panic!("{method}: {e}"))
}

fn id_of(answer: &Value) -> String {
    answer["thread"]["id"].as_str().expect("an id").to_owned()
}

fn start(server: &mut AppServer) -> String {
    id_of(&ask(server, "thread/start", json!({})))
}

fn say(server: &mut AppServer, id: &str, part: Value) {
    let params = json!({"threadId": id, "input": vec![part]});
    ask(server, "turn/start", params);
    server.wait_for_turn(id);
}
