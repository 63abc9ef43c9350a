//! Compares searching by the index with a model that knows every text and matches naively.
//!
//! Homes are generated: words with accents, code, emoji, Chinese and Japanese, all forms in which Codex
//! records a text, torn and damaged lines, compactions, forks of both kinds, compressed rollouts.

use super::evaluate::{self, HitOrder, SearchOptions};
use super::query;
use crate::conversations::event::Role;
use crate::conversations::index::{IndexSource, IndexStore, Thoroughness, refresh};
use crate::io::progress::Silent;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A small random number generator, so that failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (n as u64)).unwrap()
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn is_one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const WORDS: &[&str] = &[
    "parser",
    "Parser",
    "parse",
    "error",
    "Ärger",
    "arger",
    "café",
    "CAFÉ",
    "ＡＢＣ",
    "abc",
    "Straße",
    "naïve",
    "übung",
    "ΟΔΟΣ",
    "οδός",
    "привет",
    "Ёлка",
    "E0499",
    "x86",
    "42",
    "a",
    "и",
    "don't",
];
const CODE: &[&str] = &[
    "foo_bar.rs",
    "src/main.rs",
    "--flag",
    "std::io",
    "C++",
    "a->b",
    "foo.bar",
    "e-mail",
    "v1.2.3",
];
const SYMBOLS: &[&str] = &["🚀", "👍🏽", "✅", "→", "❤️"];
const UNSPACED: &[&str] = &[
    "日本語",
    "東京都庁",
    "ひらがな",
    "カタカナ版",
    "中文搜索引擎",
    "漢字",
    "한국어판",
    "ภาษาไทย",
];
const GLUE: &[&str] = &[" ", " ", " ", "\n", ", ", ". ", " (", ") ", "-", "/", "  "];

fn text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(8) {
        let part = match random.below(10) {
            0..=5 => *random.pick(WORDS),
            6..=7 => *random.pick(CODE),
            8 => *random.pick(SYMBOLS),
            _ => *random.pick(UNSPACED),
        };
        if part.chars().all(|c| c as u32 > 0x3000) && random.is_one_in(2) {
            text.push_str(random.pick::<&str>(UNSPACED));
        }
        text.push_str(part);
        text.push_str(random.pick::<&str>(GLUE));
    }
    text
}

/// A conversation of the model.
#[derive(Clone)]
struct Modeled {
    session: String,
    /// The texts that are found in it.
    texts: Vec<(Role, String)>,
    lines: Vec<String>,
    title: String,
    path: PathBuf,
    is_listed: bool,
    updated_ms: i64,
}

fn line(kind: &str, payload: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T06:00:00.000Z","ordinal":1,"type":"{kind}","payload":{payload}}}"#
    )
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Adds the lines of a message in one of the forms of Codex's versions.
fn message(random: &mut Random, role: Role, text: &str, lines: &mut Vec<String>) {
    let (name, event, item) = match role {
        Role::User => ("user", "user_message", "UserMessage"),
        _ => ("assistant", "agent_message", "AgentMessage"),
    };
    let text = json(text);
    let forms = [
        line(
            "response_item",
            &format!(
                r#"{{"type":"message","role":"{name}","content":[{{"type":"input_text","text":{text}}}]}}"#
            ),
        ),
        line(
            "event_msg",
            &format!(r#"{{"type":"{event}","message":{text}}}"#),
        ),
        line(
            "event_msg",
            &format!(
                r#"{{"type":"item_completed","item":{{"type":"{item}","content":[{{"type":"text","text":{text}}}]}}}}"#
            ),
        ),
    ];
    let [first, second, third] = forms;
    match random.below(4) {
        0 => lines.extend([first, second]),
        1 => lines.extend([third, first]),
        2 => lines.push(second),
        _ => lines.push(first),
    }
}

fn tool(random: &mut Random, text: &str, lines: &mut Vec<String>) {
    let number = random.below(1_000_000);
    let arguments = json(&format!("{{\"cmd\":{}}}", json(text)));
    lines.push(match random.below(4) {
        0 => line(
            "response_item",
            &format!(r#"{{"type":"function_call","name":"exec_command","arguments":{arguments},"call_id":"c{number}"}}"#),
        ),
        1 => line(
            "response_item",
            &format!(r#"{{"type":"function_call_output","call_id":"c{number}","output":{}}}"#, json(text)),
        ),
        2 => line(
            "response_item",
            &format!(r#"{{"type":"custom_tool_call","name":"apply_patch","input":{},"call_id":"c{number}"}}"#, json(text)),
        ),
        _ => line(
            "event_msg",
            &format!(r#"{{"type":"item_completed","item":{{"type":"FileChange","id":"c{number}","changes":{{{}:{{"type":"add"}}}}}}}}"#, json(text)),
        ),
    });
}

/// Adds a turn to a conversation, with noise that must not be found.
fn turn(random: &mut Random, conversation: &mut Modeled) {
    let lines = &mut conversation.lines;
    let question = text(random);
    message(random, Role::User, &question, lines);
    conversation.texts.push((Role::User, question));
    for _ in 0..random.below(5) {
        let text = text(random);
        match random.below(8) {
            0..=2 => {
                message(random, Role::Assistant, &text, lines);
                conversation.texts.push((Role::Assistant, text));
            }
            3..=4 => {
                tool(random, &text, lines);
                conversation.texts.push((Role::Tool, text));
            }
            5 => {
                lines.push(line(
                    "response_item",
                    &format!(r#"{{"type":"reasoning","summary":[{{"type":"summary_text","text":{}}}],"encrypted_content":"gAAA"}}"#, json(&text)),
                ));
                conversation.texts.push((Role::Assistant, text));
            }
            6 => lines.push(line(
                "compacted",
                &format!(r#"{{"message":{0},"replacement_history":[{{"type":"message","role":"user","content":[{{"text":{0}}}]}}]}}"#, json(&text)),
            )),
            _ => lines.push(match random.below(4) {
                0 => line(
                    "response_item",
                    &format!(r#"{{"type":"message","role":"developer","content":[{{"type":"input_text","text":{}}}]}}"#, json(&text)),
                ),
                1 => "{\"timestamp\":\"2026-11-20T06:00:00.000Z\",\"type\":\"event_msg\",\"payload\":{\"type\":\"user_mess".to_owned(),
                2 => line("world_state", &format!(r#"{{"full":{}}}"#, json(&text))),
                _ => String::new(),
            }),
        }
    }
}

/// A generated home and its model.
struct World {
    folder: tempfile::TempDir,
    conversations: Vec<Modeled>,
    /// True if Codex's database has a row for each.
    are_all_listed: bool,
}

impl World {
    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn database(&self) -> PathBuf {
        self.home().join("state_5.sqlite")
    }

    fn new(random: &mut Random, count: usize, are_all_listed: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            folder,
            conversations: Vec::new(),
            are_all_listed,
        };
        fs::create_dir_all(world.home().join("archived_sessions")).unwrap();
        let connection = Connection::open(world.database()).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT, title TEXT, cwd TEXT,
                 updated_at_ms INTEGER, archived INTEGER)",
            )
            .unwrap();
        for number in 0..count {
            world.add(random, number);
        }
        world
    }

    fn add(&mut self, random: &mut Random, number: usize) {
        let session = format!("01a1f78b-{number:04x}-7ef3-b0ee-5caab8d3b455");
        let name = format!("rollout-2026-11-20T06-00-00-{session}.jsonl");
        let path = if random.is_one_in(5) {
            self.home().join("archived_sessions").join(name)
        } else {
            self.home()
                .join(format!("sessions/2026/11/{:02}", 1 + random.below(9)))
                .join(name)
        };
        let mut conversation = Modeled {
            texts: Vec::new(),
            lines: Vec::new(),
            title: text(random).lines().next().unwrap().trim().to_owned(),
            path,
            is_listed: self.are_all_listed || !random.is_one_in(4),
            updated_ms: 1_795_000_000_000 + i64::try_from(number).unwrap(),
            session,
        };
        let original = self
            .conversations
            .iter()
            .rfind(|c| !c.texts.is_empty())
            .cloned();
        let mut base = String::new();
        match (random.below(6), original) {
            // A fork of older versions repeats the lines, newer ones only refer to them.
            (0, Some(original)) => {
                base = format!(r#","forked_from_id":"{}""#, original.session);
                conversation.lines = original.lines;
            }
            (1, Some(original)) => {
                base = format!(r#","history_base":{{"thread_id":"{}"}}"#, original.session);
            }
            _ => {}
        }
        let meta = format!(r#"{{"id":"{}","cwd":"/p"{base}}}"#, conversation.session);
        conversation.lines.insert(0, line("session_meta", &meta));
        for _ in 0..=random.below(4) {
            turn(random, &mut conversation);
        }
        self.write(random, &conversation);
        self.conversations.push(conversation);
    }

    fn write(&self, random: &mut Random, conversation: &Modeled) {
        fs::create_dir_all(conversation.path.parent().unwrap()).unwrap();
        let mut text = conversation.lines.join("\n");
        text.push('\n');
        if random.is_one_in(5) {
            text.push_str("{\"timestamp\":\"2026-11-20T06:0");
        }
        if random.is_one_in(6) {
            let bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
            fs::write(format!("{}.zst", conversation.path.display()), bytes).unwrap();
        } else {
            fs::write(&conversation.path, text).unwrap();
        }
        self.list(conversation);
    }

    fn list(&self, conversation: &Modeled) {
        let connection = Connection::open(self.database()).unwrap();
        connection
            .execute("DELETE FROM threads WHERE id=?1", [&conversation.session])
            .unwrap();
        if conversation.is_listed {
            let archived = conversation
                .path
                .starts_with(self.home().join("archived_sessions"));
            let insert = "INSERT INTO threads VALUES(?1, ?2, ?3, '/p', ?4, ?5)";
            let row = (
                &conversation.session,
                conversation.path.to_str(),
                &conversation.title,
                conversation.updated_ms,
                archived,
            );
            connection.execute(insert, row).unwrap();
        }
    }

    /// Appends to, deletes, archives and adds conversations.
    fn change(&mut self, random: &mut Random) {
        for number in 0..self.conversations.len() {
            let mut conversation = self.conversations[number].clone();
            let is_plain = conversation.path.exists();
            match random.below(6) {
                0 | 1 if is_plain => {
                    let known = conversation.lines.len();
                    turn(random, &mut conversation);
                    let mut text = fs::read_to_string(&conversation.path).unwrap();
                    if !text.ends_with('\n') {
                        text.push('\n');
                    }
                    for line in &conversation.lines[known..] {
                        text.push_str(line);
                        text.push('\n');
                    }
                    fs::write(&conversation.path, text).unwrap();
                    conversation.updated_ms += 10_000_000;
                    self.list(&conversation);
                    self.conversations[number] = conversation;
                }
                2 if is_plain && !self.has_copies(number) => {
                    let name = conversation.path.file_name().unwrap().to_owned();
                    let archived = self.home().join("archived_sessions").join(name);
                    fs::rename(&conversation.path, &archived).unwrap();
                    conversation.path = archived;
                    self.list(&conversation);
                    self.conversations[number] = conversation;
                }
                _ => {}
            }
        }
        let last = self.conversations.len() - 1;
        let gone: Vec<_> = (0..last)
            .filter(|i| i % 9 == 4 && !self.has_copies(*i))
            .collect();
        for number in gone.into_iter().rev() {
            let conversation = self.conversations.remove(number);
            let _ = fs::remove_file(&conversation.path);
            let _ = fs::remove_file(format!("{}.zst", conversation.path.display()));
            let connection = Connection::open(self.database()).unwrap();
            let delete = "DELETE FROM threads WHERE id=?1";
            connection.execute(delete, [&conversation.session]).unwrap();
        }
        let number = 1000 + random.below(60_000);
        self.add(random, number);
    }

    /// Returns true if a fork repeats this conversation: deleting it would bring the copies back.
    fn has_copies(&self, number: usize) -> bool {
        let mark = format!(
            "\"forked_from_id\":\"{}\"",
            self.conversations[number].session
        );
        self.conversations
            .iter()
            .any(|c| c.lines[0].contains(&mark))
    }
}

/// A term of a query: the text to type and its meaning.
#[derive(Debug, Clone)]
enum Meaning {
    Word(String),
    Prefix(String),
    Phrase(Vec<String>),
    Literal(String),
    Part(String),
}

/// Folds by a table of the letters that the generator uses.
fn naive_fold(text: &str) -> String {
    let mut folded = String::new();
    for c in text.chars() {
        let c = match c {
            'Ä' | 'ä' | 'Ａ' => 'a',
            'é' | 'É' => 'e',
            'ï' => 'i',
            'ü' | 'Ü' => 'u',
            'Ｂ' => 'b',
            'Ｃ' => 'c',
            'Ё' | 'ё' => 'е',
            'ό' => 'ο',
            'ς' | 'Σ' => 'σ',
            '\u{fe0f}' => ' ',
            other => other.to_lowercase().next().unwrap(),
        };
        folded.push(c);
    }
    folded
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !is_unspaced(c)
}

fn is_unspaced(c: char) -> bool {
    let c = c as u32;
    (0xe00..0xe80).contains(&c) || (0x3040..0xd7b0).contains(&c)
}

/// Splits into words: runs of letters, runs of text without blanks, and symbols.
fn naive_words(folded: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = 0;
    for c in folded.chars() {
        let class = match c {
            _ if is_unspaced(c) => 2,
            _ if is_letter(c) => 1,
            '🚀' | '👍' | '✅' | '→' | '❤' => 3,
            _ => 0,
        };
        match class {
            0 => {}
            1 | 2 if class == last => words.last_mut().unwrap().push(c),
            _ => words.push(c.to_string()),
        }
        last = class;
    }
    words
}

impl Meaning {
    fn holds(&self, text: &str) -> bool {
        let folded = naive_fold(text);
        let words = naive_words(&folded);
        match self {
            Self::Word(word) => words.contains(word),
            Self::Prefix(prefix) => words.iter().any(|word| word.starts_with(prefix)),
            Self::Part(part) => words.iter().any(|word| word.contains(part)),
            Self::Phrase(phrase) => words.windows(phrase.len()).any(|part| {
                let last = phrase.len() - 1;
                part.iter()
                    .zip(phrase)
                    .enumerate()
                    .all(|(i, (word, wanted))| {
                        let is_unspaced = wanted.chars().all(is_unspaced);
                        match i {
                            // The ends of a phrase may be parts of text without blanks.
                            0 if is_unspaced && last > 0 => word.ends_with(wanted),
                            _ if is_unspaced && i == last => word.starts_with(wanted),
                            _ => word == wanted,
                        }
                    })
            }),
            Self::Literal(literal) => {
                let letters: Vec<char> = folded.chars().collect();
                let wanted: Vec<char> = literal.chars().collect();
                letters.windows(wanted.len()).enumerate().any(|(at, part)| {
                    let before = at.checked_sub(1).map(|at| letters[at]);
                    let after = letters.get(at + wanted.len());
                    let joins = |inner: char, outer: Option<char>| {
                        is_letter(inner) && outer.is_some_and(is_letter)
                    };
                    part == wanted
                        && !joins(wanted[0], before)
                        && !joins(wanted[wanted.len() - 1], after.copied())
                })
            }
        }
    }
}

fn term(random: &mut Random, home: &World) -> (String, Meaning) {
    loop {
        match random.below(12) {
            0..=3 => {
                let word = *random.pick(WORDS);
                let folded = naive_fold(word);
                let words = naive_words(&folded);
                return match words.len() {
                    1 => (word.to_owned(), Meaning::Word(folded)),
                    _ => (word.to_owned(), Meaning::Literal(folded)),
                };
            }
            4 => {
                let word: String = random
                    .pick(WORDS)
                    .chars()
                    .take(2 + random.below(3))
                    .collect();
                if word.chars().all(is_letter) {
                    return (format!("{word}*"), Meaning::Prefix(naive_fold(&word)));
                }
            }
            5..=6 => {
                let code = *random.pick(CODE);
                if !code.starts_with('-') || random.is_one_in(2) {
                    return (code.to_owned(), Meaning::Literal(naive_fold(code)));
                }
            }
            7 => {
                let symbol = *random.pick(SYMBOLS);
                let first = symbol.chars().next().unwrap().to_string();
                return (first.clone(), Meaning::Word(first));
            }
            8..=9 => {
                let run: Vec<char> = random.pick(UNSPACED).chars().collect();
                let len = (2 + random.below(4)).min(run.len());
                let start = random.below(run.len() - len + 1);
                let mut part: Vec<char> = run[start..start + len].to_vec();
                if random.is_one_in(4) {
                    part.reverse();
                }
                let part: String = part.into_iter().collect();
                return (part.clone(), Meaning::Part(naive_fold(&part)));
            }
            _ => {
                let conversation = random.pick(&home.conversations);
                let (_, text) = random.pick(&conversation.texts);
                let words = naive_words(&naive_fold(text));
                let len = 2 + random.below(2);
                if words.len() >= len {
                    let start = random.below(words.len() - len + 1);
                    let mut phrase = words[start..start + len].to_vec();
                    if random.is_one_in(4) {
                        phrase.reverse();
                    }
                    let is_plain = phrase.iter().all(|word| word.chars().all(is_letter));
                    if is_plain {
                        return (format!("\"{}\"", phrase.join(" ")), Meaning::Phrase(phrase));
                    }
                }
            }
        }
    }
}

fn searched(store: &IndexStore, typed: &[String], role: Option<Role>) -> BTreeSet<String> {
    let query = query::parse(typed).unwrap();
    let options = SearchOptions {
        role,
        order: HitOrder::Best,
        limit: usize::MAX,
        accepts: &|_| true,
    };
    let hits = evaluate::search(store, &query, &options).unwrap();
    for hit in &hits {
        assert!(!hit.snippet.text.is_empty(), "{typed:?}: {hit:?}");
    }
    hits.into_iter()
        .map(|hit| hit.conversation.session)
        .collect()
}

fn compare(random: &mut Random, world: &World, store: &IndexStore, queries: usize) -> usize {
    let mut found = 0;
    for _ in 0..queries {
        let mut typed = Vec::new();
        let mut meanings = Vec::new();
        for i in 0..=random.below(3) {
            let (text, meaning) = term(random, world);
            let is_negated = i > 0 && random.is_one_in(4);
            typed.push(if is_negated { format!("!{text}") } else { text });
            meanings.push((meaning, is_negated));
        }
        let role = match random.below(8) {
            0 => Some(Role::User),
            1 => Some(Role::Tool),
            _ => None,
        };
        let matches = |conversation: &&Modeled| {
            let mut texts = conversation.texts.clone();
            if conversation.is_listed && !conversation.title.is_empty() {
                texts.push((Role::Title, conversation.title.clone()));
            }
            texts.retain(|(author, _)| role.is_none_or(|role| role == *author));
            meanings.iter().all(|(meaning, is_negated)| {
                texts.iter().any(|(_, text)| meaning.holds(text)) != *is_negated
            })
        };
        let expected = world.conversations.iter().filter(matches);
        let expected: BTreeSet<_> = expected.map(|c| c.session.clone()).collect();
        found += expected.len();
        let got = searched(store, &typed, role);
        if got != expected {
            let differing: Vec<_> = got.symmetric_difference(&expected).cloned().collect();
            let texts = world
                .conversations
                .iter()
                .filter(|c| differing.contains(&c.session));
            let texts: Vec<_> = texts
                .map(|c| (&c.session, &c.title, &c.texts, &c.path))
                .collect();
            panic!("{typed:?} {role:?}: found {got:?}, expected {expected:?}\n{texts:#?}");
        }
    }
    found
}

fn source<'a>(home: &'a Path, database: &'a Path, minutes: i64) -> IndexSource<'a> {
    let now = DateTime::<Utc>::from_timestamp_millis(1_795_176_000_000 + minutes * 60_000);
    IndexSource {
        home,
        database: Some(database),
        now: now.unwrap(),
    }
}

#[test]
fn a_thousand_random_queries_find_what_a_naive_model_finds() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut found = 0;
    for round in 0..5 {
        // Conversations without a row are only found by looking at all rollouts.
        let (are_all_listed, thoroughness) = match round % 2 {
            0 => (true, Thoroughness::Changes),
            _ => (false, Thoroughness::All),
        };
        let mut world = World::new(&mut random, 40, are_all_listed);
        let (home, database) = (world.home(), world.database());
        let path = world.folder.path().join("index/x.sqlite");
        let mut store = IndexStore::open(&path).unwrap();
        let all = Thoroughness::All;
        refresh(&mut store, source(&home, &database, 0), all, &Silent).unwrap();
        found += compare(&mut random, &world, &store, 100);
        for minutes in 1..=2 {
            world.change(&mut random);
            let now = source(&home, &database, minutes);
            let report = refresh(&mut store, now, thoroughness, &Silent).unwrap();
            assert_eq!(report.is_complete, thoroughness == Thoroughness::All);
            found += compare(&mut random, &world, &store, 50);
        }
    }
    assert!(found > 2000, "the queries find something: {found}");
}
