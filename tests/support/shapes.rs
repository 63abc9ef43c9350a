//! Shapes of rollouts that real homes have and few versions of Codex write: forks with a copied past, parallel calls,
//! sums without the last request. A reader of the lines, which shares nothing with the program, has the expected facts.

use super::conversations::{Conversation, id, state, write};
use super::env::TestEnv;
use super::usage_lines::{Tokens, count, line};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;

/// One prompt, its request and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub at: DateTime<Utc>,
    pub prompt: String,
    pub total: u64,
    /// `None` in the versions that write only the sum.
    pub last: Option<u64>,
}

/// The tokens of a request with `input` tokens.
pub(crate) fn plain(input: u64) -> Tokens {
    [input, 0, 0, 0]
}

impl Exchange {
    /// Returns the lines, the prompt at [`Self::at`] and the rest 20 seconds later. For a copy, all have the same time.
    fn lines(&self, copied_at: Option<DateTime<Utc>>) -> Vec<String> {
        let prompt_at = copied_at.unwrap_or(self.at);
        let answer_at = copied_at.unwrap_or(self.at + TimeDelta::seconds(20));
        let item = |role: &str, text: &str| {
            json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}).to_string()
        };
        let event = |kind: &str, text: &str| json!({"type": kind, "message": text}).to_string();
        let answer = format!("answer to {}", self.prompt);
        vec![
            line(prompt_at, "response_item", &item("user", &self.prompt)),
            line(prompt_at, "event_msg", &event("user_message", &self.prompt)),
            count(answer_at, plain(self.total), self.last.map(plain), None),
            line(answer_at, "event_msg", &event("agent_message", &answer)),
            line(answer_at, "response_item", &item("assistant", &answer)),
        ]
    }
}

/// The mark of a fork, and the delay of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForkForm {
    /// 0.55: only the metadata of the original follow.
    SecondMeta,
    /// `forked_from_id` alone.
    Named,
    /// 0.144: a subagent with the history of its parent, which is written seconds after its creation.
    LateSubagent,
}

impl ForkForm {
    pub(crate) const ALL: [Self; 3] = [Self::SecondMeta, Self::Named, Self::LateSubagent];
}

fn meta(number: u32, created: DateTime<Utc>, at: DateTime<Utc>, more: &Value) -> String {
    let mut payload =
        json!({"id": id(number), "timestamp": created, "cwd": "/home/alice/proj", "source": "cli"});
    let fields = payload.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    line(at, "session_meta", &payload.to_string())
}

/// A conversation and the past that Codex copied into it.
#[derive(Debug, Clone)]
pub(crate) struct Shaped {
    pub number: u32,
    pub created: DateTime<Utc>,
    pub fork: Option<(ForkForm, u32)>,
    /// The ids of all conversations whose metadata follow: the original, then its own original.
    pub ancestors: Vec<u32>,
    pub past: Vec<Exchange>,
    pub own: Vec<Exchange>,
}

impl Shaped {
    pub(crate) fn new(number: u32, created: DateTime<Utc>, own: Vec<Exchange>) -> Self {
        Self {
            number,
            created,
            fork: None,
            ancestors: Vec::new(),
            past: Vec::new(),
            own,
        }
    }

    /// Returns a fork of the first `kept` exchanges, which this conversation shows.
    pub(crate) fn fork(
        &self,
        number: u32,
        form: ForkForm,
        created: DateTime<Utc>,
        kept: usize,
    ) -> Self {
        let shown = self.past.iter().chain(&self.own);
        let ancestors = std::iter::once(&self.number).chain(&self.ancestors);
        Self {
            fork: Some((form, self.number)),
            ancestors: ancestors.copied().collect(),
            past: shown.take(kept).cloned().collect(),
            ..Self::new(number, created, Vec::new())
        }
    }

    pub(crate) fn text(&self) -> String {
        let Some((form, original)) = self.fork else {
            let lines = self.own.iter().flat_map(|exchange| exchange.lines(None));
            let head = meta(self.number, self.created, self.created, &json!({}));
            return std::iter::once(head)
                .chain(lines)
                .map(|line| line + "\n")
                .collect();
        };
        let spawn =
            json!({"subagent": {"thread_spawn": {"parent_thread_id": id(original), "depth": 1}}});
        let (more, delay) = match form {
            ForkForm::SecondMeta => (json!({}), 0),
            ForkForm::Named => (json!({"forked_from_id": id(original)}), 0),
            ForkForm::LateSubagent => (
                json!({"forked_from_id": id(original), "source": spawn}),
                5078,
            ),
        };
        let begun = self.created + TimeDelta::milliseconds(delay);
        let mut lines = vec![meta(self.number, self.created, begun, &more)];
        // The copy of a fork of 0.55 begins seconds after the line of the fork itself.
        let copied_at = begun
            + TimeDelta::milliseconds(if form == ForkForm::SecondMeta {
                2334
            } else {
                1
            });
        if form != ForkForm::Named {
            let heads = self.ancestors.iter();
            lines.extend(heads.map(|number| {
                meta(
                    *number,
                    self.created - TimeDelta::days(1),
                    copied_at,
                    &json!({}),
                )
            }));
        }
        lines.extend(
            self.past
                .iter()
                .flat_map(|exchange| exchange.lines(Some(copied_at))),
        );
        lines.extend(self.own.iter().flat_map(|exchange| exchange.lines(None)));
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// Writes the rollout and the row.
    pub(crate) fn write(&self, env: &TestEnv) {
        self.write_text(env, 10, &self.text());
    }

    /// Writes a text as the rollout, and the row with a change `minutes` before now.
    pub(crate) fn write_text(&self, env: &TestEnv, minutes: i64, text: &str) {
        let path = write(env, &Conversation::new(self.number, minutes, "Title", ""));
        fs::write(path, text).expect("write");
        // The title comes from the rollout.
        let sql = "UPDATE threads SET title='', first_user_message='' WHERE id=?1";
        state(env).execute(sql, [id(self.number)]).expect("row");
    }
}

/// The facts of a rollout that only it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnFacts {
    pub prompts: Vec<String>,
    pub tokens: u64,
}

/// Reads the lines of a rollout. The past ends at the first pause of more than a second after the last metadata; a
/// request is the difference of two sums.
pub(crate) fn read_own(text: &str) -> OwnFacts {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let time = |line: &Value| -> DateTime<Utc> {
        line["timestamp"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time")
    };
    let heads = lines.iter().filter(|line| line["type"] == "session_meta");
    let heads: Vec<&Value> = heads.collect();
    let mut past_end = (heads.len() > 1 || heads[0]["payload"]["forked_from_id"].is_string())
        .then(|| time(heads[heads.len() - 1]));
    let (mut facts, mut total) = (OwnFacts::default(), 0);
    for line in &lines {
        past_end = past_end.filter(|end| time(line) - *end <= TimeDelta::seconds(1));
        let payload = &line["payload"];
        match payload["type"].as_str() {
            Some("user_message") if past_end.is_none() => {
                facts
                    .prompts
                    .push(payload["message"].as_str().expect("text").to_owned());
            }
            Some("token_count") => {
                let figure = |key: &str| payload["info"][key]["input_tokens"].as_u64();
                let sum = figure("total_token_usage").expect("a sum");
                let begins_again = figure("last_token_usage") == Some(sum) || sum < total;
                let used = if begins_again { sum } else { sum - total };
                facts.tokens += if past_end.is_none() { used } else { 0 };
                total = sum;
            }
            _ => {}
        }
    }
    facts
}

/// Returns the output of each call in a rollout, by the text of the call.
pub(crate) fn read_outputs(lines: &[Value]) -> HashMap<String, String> {
    let mut calls = HashMap::new();
    let mut outputs = HashMap::new();
    for line in lines {
        let payload = &line["payload"];
        let text = |key: &str| payload[key].as_str().map(str::to_owned);
        match (text("type").as_deref(), text("call_id")) {
            (Some("function_call"), Some(call)) => {
                let arguments: Value =
                    serde_json::from_str(&text("arguments").expect("arguments")).expect("JSON");
                calls.insert(
                    call,
                    arguments["cmd"].as_str().expect("a command").to_owned(),
                );
            }
            (Some("custom_tool_call"), Some(call)) => {
                calls.insert(call, text("input").expect("input"));
            }
            (Some("function_call_output" | "custom_tool_call_output"), Some(call)) => {
                let output = text("output").expect("an output");
                outputs.insert(calls[&call].clone(), output);
            }
            _ => {}
        }
    }
    outputs
}

/// The spellings of a folder of Windows in rows, in rollouts, and in WSL.
pub(crate) fn windows_spellings(drive: char, folders: &[&str]) -> Vec<String> {
    let (small, large) = (drive.to_ascii_lowercase(), drive.to_ascii_uppercase());
    let (back, forward) = (folders.join("\\"), folders.join("/"));
    vec![
        format!(r"\\?\{large}:\{back}"),
        format!(r"{large}:\{back}"),
        format!(r"{small}:\{back}"),
        format!("{large}:/{forward}"),
        format!(r"{small}:\{back}\"),
        format!("/mnt/{small}/{forward}"),
    ]
}
