//! A generated Codex home, and a model of the texts that its conversations contain.

use super::modeled::Modeled;
use super::random::Random;
use super::rollout_lines::{line, turn};
use super::texts::text;
use crate::history::session_index::{self, IndexEntry};
use rusqlite::Connection;
use std::fs;
use std::path::PathBuf;

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) conversations: Vec<Modeled>,
    /// True if Codex's database has a row for each conversation.
    are_all_listed: bool,
}

impl World {
    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.home().join("state_5.sqlite")
    }

    pub(super) fn new(random: &mut Random, count: usize, are_all_listed: bool) -> Self {
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

    pub(super) fn add(&mut self, random: &mut Random, number: usize) {
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
            title: one_line(random),
            name: None,
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
        if random.is_one_in(4) {
            self.give_name(random, &mut conversation);
        }
        self.conversations.push(conversation);
    }

    /// Gives a conversation a name by a line in `session_index.jsonl`, as Codex names older conversations.
    fn give_name(&self, random: &mut Random, conversation: &mut Modeled) {
        let name = one_line(random);
        let entry = IndexEntry {
            id: conversation.session.clone(),
            thread_name: name.clone(),
            updated_at: "2026-11-20T06:00:00Z".into(),
        };
        let path = self.home().join(session_index::FILE_NAME);
        let before = fs::read(&path).unwrap_or_default();
        fs::write(path, session_index::append_entries(before, &[entry])).unwrap();
        // Codex ignores a line without a name.
        if !name.is_empty() {
            conversation.name = Some(name);
        }
    }

    pub(super) fn write(&self, random: &mut Random, conversation: &Modeled) {
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

    pub(super) fn list(&self, conversation: &Modeled) {
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
    pub(super) fn change(&mut self, random: &mut Random) {
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
                3 => {
                    self.give_name(random, &mut conversation);
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

    /// Returns true if a fork repeats this conversation. Then its texts are still found after it is deleted.
    pub(super) fn has_copies(&self, number: usize) -> bool {
        let mark = format!(
            "\"forked_from_id\":\"{}\"",
            self.conversations[number].session
        );
        self.conversations
            .iter()
            .any(|c| c.lines[0].contains(&mark))
    }
}

/// Returns a random text for a title or a name.
fn one_line(random: &mut Random) -> String {
    text(random).lines().next().unwrap().trim().to_owned()
}
