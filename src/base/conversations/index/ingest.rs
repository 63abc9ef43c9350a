//! Writes the words of rollouts into the index.
//!
//! One thread reads blocks of lines, several threads parse them and split their texts into words
//! ([`super::rollout_blocks`]), and one thread writes. Memory holds a few blocks, however large a rollout is.

use super::plan::{IngestTask, NOT_INDEXED, ShownFields, UnreadPart, format_project};
use super::rollout_blocks::{
    IngestStep, ParsedBlock, ParsedLine, ParsedText, RolloutEnd, parse_step, read_rollouts,
};
use super::store::{IndexError, IndexStore};
use super::text_spans::{
    NEXT_TEXT, NewSpan, TextPosition, delete_conversation_texts, delete_matching_texts,
    delete_turns_after,
};
use super::text_words::{TextWords, WordBuffer};
use super::usage_ingest::ConversationUsage;
use super::word_runs::merge_runs;
use crate::codex::rollout_lines::{EventKind, Role};
use crate::codex::user_request::find_title;
use crate::conversations::copied_texts::CopiedTexts;
use crate::conversations::reader_state::ReaderState;
use crate::history::SkippedFile;
use crate::io::parallel;
use crate::io::progress::Progress;
use rusqlite::params;

/// The number of blocks that are in memory at the same time. It is small, because a single line may have 16 MiB.
const MAX_BLOCKS: usize = 8;

/// The changes are committed after this many bytes of rollouts, which is every few seconds.
const COMMIT_BYTES: u64 = 256 << 20;

/// The buffered words are written when they take this many bytes of memory.
const BUFFER_BYTES: usize = 40 << 20;

#[derive(Debug, Default)]
pub struct RefreshReport {
    /// The number of conversations whose rollouts were read.
    pub conversations_read: usize,
    /// True if the update compared all rollouts of the home with the index.
    pub is_complete: bool,
    /// The rollouts and folders that could not be read.
    pub skipped: Vec<SkippedFile>,
    /// The reason why the index was not updated; `None` after an update.
    pub problem: Option<IndexError>,
}

/// Performs `tasks`. If a task fails, the index keeps what was committed before, and the next update does the remaining
/// tasks.
pub(super) fn ingest(
    store: &mut IndexStore,
    tasks: Vec<IngestTask>,
    progress: &dyn Progress,
) -> Result<RefreshReport, IndexError> {
    let mut writer = Writer::new(store);
    writer.begin_transaction()?;

    let result = parallel::run_ordered(
        MAX_BLOCKS,
        parse_step,
        |step| writer.write_step(step, progress),
        |submitter| {
            for task in tasks {
                if !read_rollouts(task, &|step| submitter.submit(step).is_ok())? {
                    break;
                }
            }
            Ok(())
        },
    );

    writer.commit_or_roll_back(result)
}

/// The conversation whose rollouts are being read.
struct OpenConversation {
    task: Box<IngestTask>,
    id: i64,
    state: ReaderState,
    /// The first line of the first request, which is the title if the conversation has no other.
    title: Option<String>,
    copies: CopiedTexts,
    /// True if texts were skipped because they are copies.
    has_copies: bool,
    usage: ConversationUsage,
}

impl OpenConversation {
    /// Forgets a title that comes from the first message, because this message is read again or was rolled back.
    fn clear_derived_title(&mut self) {
        self.title = None;
        if self.task.derives_title {
            self.task.shown.title.clear();
        }
    }
}

struct Writer<'a> {
    store: &'a mut IndexStore,
    open_conversation: Option<OpenConversation>,
    report: RefreshReport,
    /// The number of bytes of rollouts since the last commit.
    uncommitted_bytes: u64,
    words: WordBuffer,
    /// The number that the next text gets.
    next_text: i64,
    span: NewSpan,
}

impl<'a> Writer<'a> {
    fn new(store: &'a mut IndexStore) -> Self {
        Self {
            store,
            open_conversation: None,
            report: RefreshReport::default(),
            uncommitted_bytes: 0,
            words: WordBuffer::default(),
            next_text: 0,
            span: NewSpan::default(),
        }
    }

    fn execute_batch(&self, sql: &str) -> Result<(), IndexError> {
        self.store.run(|connection| connection.execute_batch(sql))
    }

    fn begin_transaction(&mut self) -> Result<(), IndexError> {
        // IMMEDIATE takes the write lock now. A transaction that has read first cannot wait for the lock, and fails.
        self.execute_batch("BEGIN IMMEDIATE")?;
        // Another process may have added texts since the last commit.
        self.next_text = self.store.read_meta(NEXT_TEXT)?.unwrap_or(0);
        Ok(())
    }

    fn commit_and_merge_runs(&mut self) -> Result<(), IndexError> {
        self.store
            .run(|connection| self.words.write_run(connection))?;
        self.store.set_meta(NEXT_TEXT, self.next_text)?;
        self.execute_batch("COMMIT")?;
        // Each commit adds a run. The merge has transactions of its own.
        merge_runs(self.store)
    }

    /// Commits if `result` is a success, and otherwise rolls back.
    fn commit_or_roll_back(
        mut self,
        result: Result<(), IndexError>,
    ) -> Result<RefreshReport, IndexError> {
        match result.and_then(|()| self.commit_and_merge_runs()) {
            Ok(()) => Ok(self.report),
            Err(e) => {
                // The rollback fails if SQLite has already rolled back.
                let _ = self.execute_batch("ROLLBACK");
                Err(e)
            }
        }
    }

    fn write_step(
        &mut self,
        step: IngestStep<ParsedBlock>,
        progress: &dyn Progress,
    ) -> Result<(), IndexError> {
        let result = match step {
            IngestStep::Begin(task) => self.begin_conversation(task),
            IngestStep::Unreadable(task, reason) => self.skip_unreadable(&task, reason),
            IngestStep::Lines(block) => {
                progress.add_bytes(block.bytes_read);
                self.write_block(block)
            }
            IngestStep::End(end) => self.finish_conversation(end),
        };
        result.map_err(IndexError::in_index_at(&self.store.path))?;

        // A commit between conversations lets an interrupted first update keep the conversations that it has read.
        if self.open_conversation.is_none() && self.uncommitted_bytes >= COMMIT_BYTES {
            self.uncommitted_bytes = 0;
            self.commit_and_merge_runs()?;
            self.begin_transaction()?;
        }

        Ok(())
    }

    fn write_block(&mut self, block: ParsedBlock) -> rusqlite::Result<()> {
        self.uncommitted_bytes += block.bytes_read;

        // `block.words` refers to each text by its index in the block. At this index, `write_line` stores the text's
        // number.
        let mut text_numbers = vec![None; block.words.text_count];
        // An error leaves `self.open_conversation` empty, because the transaction is rolled back.
        let Some(mut conversation) = self.open_conversation.take() else {
            return Ok(());
        };
        conversation.state.user_items = block.user_items;
        for line in block.lines {
            self.write_line(&mut conversation, line, &mut text_numbers)?;
        }
        self.open_conversation = Some(conversation);

        self.words.add_words(&block.words, &text_numbers);
        if self.words.memory_bytes >= BUFFER_BYTES {
            self.words.write_run(&self.store.connection)?;
        }

        Ok(())
    }

    /// Reports a rollout that cannot be opened, and keeps the texts that the index has of its conversation. Marks the
    /// conversation to be read again, because the stamp of the rollout does not change when its permissions do.
    fn skip_unreadable(&mut self, task: &IngestTask, reason: String) -> rusqlite::Result<()> {
        let id = self.find_or_insert_conversation(task)?;
        self.store_and_index_shown_fields(id, task)?;
        let path = task.candidate.path.clone();
        self.report.skipped.push(SkippedFile { path, reason });
        let sql = "UPDATE conversation SET size=?2 WHERE id=?1";
        self.store.execute(sql, params![id, NOT_INDEXED])
    }

    fn find_or_insert_conversation(&self, task: &IngestTask) -> rusqlite::Result<i64> {
        if let Some(old_row) = &task.old_row {
            return Ok(old_row.id);
        }

        let candidate = &task.candidate;
        let path = candidate.path.to_string_lossy();
        // The row has no stamp until the rollout is read to its end, so that a rollout is read again after a failure.
        self.store.execute(
            "INSERT INTO conversation(session, path, file, size, mtime) VALUES(?1, ?2, '', ?3, 0)",
            params![candidate.session, path, NOT_INDEXED],
        )?;
        Ok(self.store.connection.last_insert_rowid())
    }

    fn begin_conversation(&mut self, task: Box<IngestTask>) -> rusqlite::Result<()> {
        let id = self.find_or_insert_conversation(&task)?;
        if task.unread_part == UnreadPart::Nothing {
            // Only the shown fields have changed, so neither lines nor a step `End` follow.
            return self.store_and_index_shown_fields(id, &task);
        }
        let is_read_anew = task.unread_part == UnreadPart::Everything;

        if is_read_anew && task.old_row.is_some() {
            // Also after a failed read, which may have stored some texts.
            delete_conversation_texts(self.store, id)?;
        }

        let continued_row = task.old_row.as_ref().filter(|_| task.is_continued());
        let state = continued_row.map(|row| row.state.clone());

        let copies = CopiedTexts::open(task.parent.as_ref());

        // A new conversation with one rollout has no list of paths to store.
        if is_read_anew && (task.old_row.is_some() || !task.older_slices.is_empty()) {
            self.set_rollout_paths(id, &task)?;
        }

        let mut conversation = OpenConversation {
            id,
            usage: ConversationUsage::begin(self.store, &task, id)?,
            state: state.unwrap_or_default(),
            title: None,
            copies,
            has_copies: false,
            task,
        };
        if is_read_anew {
            conversation.clear_derived_title();
        }
        self.open_conversation = Some(conversation);
        Ok(())
    }

    /// Stores the paths of the rollouts of a rewound conversation, because a place has only the number of its
    /// rollout. The column is NULL for a conversation with one rollout.
    fn set_rollout_paths(&self, id: i64, task: &IngestTask) -> rusqlite::Result<()> {
        let newest_path = &task.candidate.path;
        let older_paths = task.older_slices.iter().map(|slice| &slice.path);
        let all_paths = older_paths.chain([newest_path]);
        let paths: Vec<_> = all_paths.map(|path| path.to_string_lossy()).collect();
        let rollouts = (paths.len() > 1).then(|| serde_json::to_string(&paths).unwrap_or_default());
        let sql = "UPDATE conversation SET rollouts=?2 WHERE id=?1";
        self.store.execute(sql, params![id, rollouts])
    }

    /// Stores the fields that lists display. Indexes the words of the title, the folder and the branch.
    fn store_and_index_shown_fields(&mut self, id: i64, task: &IngestTask) -> rusqlite::Result<()> {
        let shown = &task.shown;
        self.store.execute(
            "UPDATE conversation SET path=?2, title=?3, cwd=?4, branch=?5, updated=?6, archived=?7, \
             listed=?8, child=?9 WHERE id=?1",
            params![
                id,
                task.candidate.path.to_string_lossy(),
                shown.title,
                shown.cwd,
                shown.branch,
                shown.updated_ms,
                shown.archived,
                shown.listed,
                shown.is_child,
            ],
        )?;

        let format_title_text = |shown: &ShownFields| {
            let project = format_project(&shown.cwd, &shown.branch);
            format!("{}\n{project}", shown.title)
        };

        let old_row = task.old_row.as_ref();
        let old_text = old_row.map(|row| format_title_text(&row.shown));
        let new_text = format_title_text(shown);

        // Reading a conversation anew deletes all its texts, so even the same title is indexed again.
        let is_read_anew = task.unread_part == UnreadPart::Everything;
        if is_read_anew || old_text.is_none_or(|old_text| old_text != new_text) {
            self.index_title(id, &new_text)?;
        }

        // A span has texts of one conversation only, and the next task is of another one.
        self.write_span(id)
    }

    /// Replaces the indexed words of the title, the folder and the branch by those of `title_text`.
    fn index_title(&mut self, id: i64, title_text: &str) -> rusqlite::Result<()> {
        delete_matching_texts(self.store, id, |role, _| role == Role::Title)?;
        let mut words = TextWords::default();
        if words.add_text(title_text).is_some() {
            let position = None;
            let number = self.assign_text_number(id, Role::Title, position)?;
            self.words.add_words(&words.into_lists(), &[Some(number)]);
        }
        Ok(())
    }

    fn write_span(&mut self, conversation_id: i64) -> rusqlite::Result<()> {
        self.next_text = self
            .span
            .write(self.store, conversation_id, self.next_text)?;
        Ok(())
    }

    /// Records the role and the place of a text, and returns its number.
    fn assign_text_number(
        &mut self,
        conversation_id: i64,
        role: Role,
        position: Option<TextPosition>,
    ) -> rusqlite::Result<i64> {
        if self.span.is_full() {
            self.write_span(conversation_id)?;
        }
        let number = self.next_text;
        self.next_text += 1;
        self.span.push(role, position);
        Ok(number)
    }

    /// Stores the events of a line. Writes the number of each stored text to `text_numbers`, at its index in the block.
    fn write_line(
        &mut self,
        conversation: &mut OpenConversation,
        line: ParsedLine,
        text_numbers: &mut [Option<i64>],
    ) -> rusqlite::Result<()> {
        let events = conversation
            .state
            .convert_line(line.items, line.place.offset);
        for (event, parsed_text) in events.into_iter().zip(line.texts) {
            let Some(event) = event else {
                continue;
            };

            if let EventKind::RolledBack(_) = event.kind {
                // The span may have texts of the rolled-back turns, and only written texts can be deleted.
                self.write_span(conversation.id)?;
                delete_turns_after(self.store, conversation.id, event.turn)?;
                if event.turn == 0 {
                    conversation.clear_derived_title();
                }
                continue;
            }

            // This item turned out to be no message of the user.
            if let EventKind::UserInput(_) = event.kind {
                continue;
            }

            // Only events without a text report usage.
            let Some(ParsedText { role, index }) = parsed_text else {
                conversation.usage.add_event(self.store, &event)?;
                continue;
            };

            // A search should not find these texts twice.
            if conversation.copies.consume(&event) {
                conversation.has_copies = true;
                continue;
            }

            if let EventKind::User(text) = &event.kind
                && conversation.title.is_none()
            {
                conversation.title = find_title(text);
            }

            if let Some(index) = index {
                let position = TextPosition {
                    turn: event.turn,
                    place: line.place,
                };
                text_numbers[index as usize] =
                    Some(self.assign_text_number(conversation.id, role, Some(position))?);
            }
        }
        Ok(())
    }

    fn finish_conversation(&mut self, end: Result<RolloutEnd, String>) -> rusqlite::Result<()> {
        let Some(mut conversation) = self.open_conversation.take() else {
            return Ok(());
        };

        self.report.conversations_read += 1;

        let end = match end {
            Ok(end) => end,
            Err(reason) => {
                let path = conversation.task.candidate.path.clone();
                self.report.skipped.push(SkippedFile { path, reason });
                // The next walk reads the conversation from its beginning.
                conversation.task.stamp.size = NOT_INDEXED;
                RolloutEnd::default()
            }
        };

        let parent_id = match &conversation.task.parent {
            Some(parent) if conversation.has_copies => Some(parent.origin.id.clone()),
            _ => None,
        };

        if conversation.task.shown.title.is_empty() {
            conversation.task.shown.title = conversation.title.take().unwrap_or_default();
        }

        let usage_state = conversation.usage.finish(self.store)?;
        self.store_and_index_shown_fields(conversation.id, &conversation.task)?;

        let stamp = &conversation.task.stamp;
        let file = serde_json::to_string(&stamp.file_id).unwrap_or_default();
        // `parent` and `cut` describe the indexed part, so they are kept if only the lines after it were read.
        self.store.execute(
            "UPDATE conversation SET file=?2, size=?3, mtime=?4, end=?5, tail=?6, \
             state=?7, parent=coalesce(?8, CASE WHEN ?9 THEN parent END), usage=?10, \
             cut=coalesce(?11, CASE WHEN ?9 THEN cut END) WHERE id=?1",
            params![
                conversation.id,
                file,
                stamp.size,
                stamp.mtime_ns,
                end.place.to_number(),
                end.tail,
                conversation.state.to_bytes(),
                parent_id,
                conversation.task.is_continued(),
                usage_state,
                end.damaged_rollout
                    .and_then(|number| i64::try_from(number).ok()),
            ],
        )
    }
}
