//! The turns and messages of the user that the real Codex shows, compared with those of the manager.

use crate::support::lab::Lab;
use crate::support::pauses::wait_until;
use crate::support::real_codex::AppServer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn text(words: &str) -> Value {
    json!({"type": "text", "text": words})
}

fn image() -> Value {
    json!({"type": "image", "url": PIXEL})
}

/// A conversation in an app-server.
struct Talk {
    server: AppServer,
    id: String,
}

impl Talk {
    fn start(lab: &Lab) -> Self {
        let mut server = lab.codex.app_server(&lab.home(), &lab.backend);
        let params = json!({"cwd": lab.world.path("."), "approvalPolicy": "never", "sandbox": "danger-full-access"});
        let started = server.request("thread/start", params).expect("a thread");
        let id = started["thread"]["id"].as_str().expect("an id").to_owned();
        Self { server, id }
    }

    fn ask(&mut self, method: &str, mut params: Value) -> Value {
        params["threadId"] = json!(self.id);
        let answer = self.server.request(method, params);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn turns(&mut self) -> Vec<Value> {
        let params = json!({"threadId": self.id, "includeTurns": true});
        // Before the first turn, Codex answers with an error.
        let read = self
            .server
            .request("thread/read", params)
            .unwrap_or_default();
        read["thread"]["turns"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until there are at least `count` turns, and the last one has ended.
    fn wait_for_turns(&mut self, count: usize) -> Vec<Value> {
        let mut turns = Vec::new();
        wait_until("the end of a turn", || {
            turns = self.turns();
            turns.len() >= count
                && turns
                    .last()
                    .is_some_and(|turn| turn["status"] == "completed")
        });
        turns
    }

    /// Gives Codex a goal for at least this number of turns.
    fn pursue_goal(&mut self, turns: usize) {
        let goal = json!({"objective": "Harvest the orchard"});
        let _ = self.ask("thread/goal/set", goal);
        let _ = self.wait_for_turns(turns);
        let _ = self.ask("thread/goal/clear", json!({}));
    }

    /// Inserts a text in the user's name.
    fn insert(&mut self, words: &str) {
        let content = json!([{"type": "input_text", "text": words}]);
        let items = json!([{"type": "message", "role": "user", "content": content}]);
        let _ = self.ask("thread/inject_items", json!({"items": items}));
    }

    fn say(&mut self, input: &[Value]) {
        let count = self.turns().len();
        let _ = self.ask("turn/start", json!({"input": input}));
        let _ = self.wait_for_turns(count + 1);
    }
}

/// Returns the messages of the user with the numbers of their turns, as Codex shows them.
fn messages_in_codex(turns: &[Value]) -> Vec<(u64, String)> {
    let mut messages = Vec::new();
    for (number, turn) in (1..).zip(turns) {
        for item in turn["items"].as_array().expect("items") {
            if item["type"] == "userMessage" {
                let parts = item["content"].as_array().expect("parts");
                let words = parts.iter().find_map(|part| part["text"].as_str());
                messages.push((number, words.unwrap_or("[Image]").to_owned()));
            }
        }
    }
    messages
}

/// Returns the messages of the user in the output of `show --json`.
fn messages_shown(shown: &Value) -> Vec<(u64, String)> {
    let entries = shown["turns"].as_array().expect("turns").iter();
    let of_user = entries.filter(|entry| entry["role"] == "user");
    let messages = of_user.map(|entry| {
        let text = entry["text"].as_str().expect("a text").trim().to_owned();
        (entry["turn"].as_u64().expect("a number"), text)
    });
    messages.collect()
}

fn answered_turns(turns: &[Value]) -> BTreeSet<u64> {
    let is_answered = |turn: &Value| {
        let mut items = turn["items"].as_array().expect("items").iter();
        items.any(|item| item["type"] == "agentMessage")
    };
    let numbered = (1..).zip(turns).filter(|(_, turn)| is_answered(turn));
    numbered.map(|(number, _)| number).collect()
}

/// Asserts that all readers have the turns and messages of Codex.
fn assert_same_turns(lab: &Lab, id: &str, turns: &[Value]) {
    let shown = lab.manager(["show", id, "--json"]).code(0).json();
    let messages = messages_in_codex(turns);
    assert_eq!(messages_shown(&shown), messages, "{shown}");
    let entries = shown["turns"].as_array().expect("turns").iter();
    let answers = entries.filter(|entry| entry["role"] == "assistant");
    let answered: BTreeSet<_> = answers.filter_map(|entry| entry["turn"].as_u64()).collect();
    assert_eq!(answered, answered_turns(turns), "{shown}");

    let exported = lab.manager(["export", id, "--format", "json"]).code(0);
    assert_eq!(messages_shown(&exported.json()), messages, "{exported}");
    for exact in [&[][..], &["--exact"]] {
        for (turn, words) in &messages {
            // A hit of a conversation names one of equal messages.
            let is_repeated = |(other, text): &(u64, String)| other != turn && text == words;
            if messages.iter().any(is_repeated) {
                continue;
            }
            let find = ["find", words.as_str(), "--role", "user", "--json"];
            let found = lab.manager([&find, exact].concat()).code(0).json();
            let hits = found["hits"].as_array().expect("hits").iter();
            let hit_turns: Vec<_> = hits.filter_map(|hit| hit["turn"].as_u64()).collect();
            assert!(hit_turns.contains(turn), "{words}: {found}");
        }
    }
}

#[test]
fn messages_of_images_are_turns() {
    let Some(lab) = Lab::new() else { return };
    let mut talk = Talk::start(&lab);
    talk.say(&[image()]);
    talk.say(&[text("what is the orchard")]);
    talk.say(&[image()]);
    talk.say(&[text("look at the plums"), image()]);
    talk.say(&[text("farewell")]);
    let turns = talk.turns();
    assert_eq!(messages_in_codex(&turns)[0], (1, "[Image]".to_owned()));
    let id = talk.id.clone();
    drop(talk);
    assert_same_turns(&lab, &id, &turns);

    let page = lab.world.path("page.html");
    let page_text = page.to_str().expect("text");
    let _ = lab
        .manager(["export", &id, "--format", "html", "--out", page_text])
        .code(0);
    let html = std::fs::read_to_string(&page).expect("a page");
    let place = |words: &str| {
        html.find(words)
            .unwrap_or_else(|| panic!("{words}: {html}"))
    };
    assert_eq!(html.matches("<img").count(), 3, "{html}");
    let after_plums = &html[place("look at the plums")..place("farewell")];
    assert_eq!(after_plums.matches("<img").count(), 1, "{after_plums}");
}

#[test]
fn texts_that_codex_inserts_are_not_the_users_words() {
    let Some(lab) = Lab::new() else { return };
    let mut talk = Talk::start(&lab);
    talk.pursue_goal(2);
    let count = talk.wait_for_turns(2).len();
    let _ = talk.ask("thread/shellCommand", json!({"command": "echo pears"}));
    let _ = talk.wait_for_turns(count + 1);
    talk.say(&[text("count the apples")]);
    talk.insert("Side conversation boundary.\nEverything before is history.");
    talk.say(&[text("count the plums")]);
    let turns = talk.turns();
    let id = talk.id.clone();
    drop(talk);

    assert_same_turns(&lab, &id, &turns);
    for inserted in [
        "codex_internal_context",
        "user_shell_command",
        "boundary",
        "environment_context",
    ] {
        for exact in [&[][..], &["--exact"]] {
            let find = ["find", inserted, "--role", "user", "--json"];
            let found = lab.manager([&find, exact].concat());
            assert!(
                found.json()["hits"].as_array().is_none_or(Vec::is_empty),
                "{found}"
            );
        }
        let shown = lab.manager(["show", &id]).code(0);
        assert!(!shown.stdout.contains(inserted), "{shown}");
    }
    let listed = lab.manager(["sessions", "--json"]).code(0).json();
    assert_eq!(
        listed["sessions"][0]["title"], "count the apples",
        "{listed}"
    );
}

#[test]
fn a_goal_without_a_message_is_listed_by_its_objective() {
    let Some(lab) = Lab::new() else { return };
    let mut talk = Talk::start(&lab);
    talk.pursue_goal(1);
    let id = talk.id.clone();
    drop(talk);
    let listed = lab.manager(["sessions", "--json"]).code(0).json();
    assert_eq!(
        listed["sessions"][0]["title"], "Harvest the orchard",
        "{listed}"
    );
    let shown = lab
        .manager(["show", "Harvest the orchard", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&shown["id"], &shown["title"]),
        (&json!(id), &json!("Harvest the orchard"))
    );
    let found = lab.manager(["find", "harvest", "--json"]).code(0).json();
    assert_eq!(found["hits"][0]["title"], "Harvest the orchard", "{found}");
}

#[test]
fn a_legacy_conversation_that_0_171_continues_has_its_turns() {
    let Some(lab) = Lab::new() else { return };
    let id = "01a1f78b-0001-7ef3-b0ee-5caab8d3b455";
    let _ = crate::support::lab::write_legacy(&lab.home(), id, "count the apples", "x");
    let mut server = lab.codex.app_server(&lab.home(), &lab.backend);
    let resumed = server.request("thread/resume", json!({"threadId": id}));
    assert!(resumed.is_ok(), "{resumed:?}");
    let mut talk = Talk {
        server,
        id: id.to_owned(),
    };
    talk.say(&[image()]);
    let _ = talk.ask("thread/shellCommand", json!({"command": "echo pears"}));
    let _ = talk.wait_for_turns(3);
    talk.insert("Words of an unknown feature.");
    talk.say(&[text("count the plums")]);
    let turns = talk.turns();
    drop(talk);
    assert_same_turns(&lab, id, &turns);
}
