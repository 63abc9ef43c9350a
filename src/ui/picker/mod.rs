//! Lets the user choose from a list on the terminal, with a fuzzy filter.
//!
//! The picker draws below the cursor on stderr, because stdout is for data, and erases itself at the end. The terminal
//! is also restored after a panic and on SIGTERM.

mod layout;
mod listing;
mod options;
mod screen;
mod state;
mod title_filter;
mod view;
mod worker;

use self::layout::{PickerLayout, percent_of};
use self::listing::PickerListing;
use self::screen::InlineScreen;
use self::state::{PickerAction, PickerState};
use self::view::PickerView;
use self::worker::Worker;
use super::{Ui, terminal_size};
use crate::error::{CommandError, Result};
use codex_manager_core::io::progress::is_interrupted;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui_core::layout::Rect;
use std::io;
use std::time::Duration;

pub(crate) use self::options::{
    ContentAnswer, ContentMatch, ContentQuery, KeyEffect, Picked, PickerEntries, PickerItem,
    PickerKey, PickerOptions, PickerScope, PreviewQuery,
};
pub(crate) use self::screen::{is_open, restore_terminal};
pub(crate) use self::worker::Task;

/// The interval at which an interrupt is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The interval at which an answer of a worker is noticed.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// The maximum height of a picker without a preview, in lines.
const MAX_HEIGHT: u16 = 20;

/// The height of a picker with a preview, in percent of the terminal.
const PREVIEW_HEIGHT_PERCENT: u16 = 60;

/// The least height of a picker with a preview, in lines. In a smaller terminal the picker fills the terminal.
const MIN_PREVIEW_HEIGHT: u16 = 30;

/// The lines around the items: the filter above, the keys below.
const FRAME_HEIGHT: u16 = 2;

pub(crate) struct Picker<'a> {
    /// The question, shown before the filter.
    pub question: &'a str,
    /// The entries, in the order in which they are listed.
    pub items: Vec<PickerItem>,
    /// The position of the entry that is selected at first, in the list with the initial scope and filter.
    pub default: usize,
    pub options: PickerOptions,
}

struct Workers {
    all_entries: Option<Worker<(), Result<PickerListing, String>>>,
    preview: Option<Worker<PreviewQuery, Vec<(super::Style, String)>>>,
    contents: Option<Worker<ContentQuery, ContentAnswer>>,
}

/// The reason why the wait for an event ended.
enum WakeReason {
    Interrupted,
    Terminal(Event),
    /// An answer arrived, or more entries were filtered.
    StateChanged,
    /// This process was stopped, and a shell has used the terminal in the meantime.
    Continued,
}

impl Picker<'_> {
    /// Returns the choice of the user. Returns `None` without asking if there is no terminal, or if there is nothing to
    /// choose: no entry, and no key with [`KeyEffect::Leave`].
    ///
    /// # Errors
    /// The user cancelled, a signal ended the command, or the terminal cannot be used.
    pub(crate) fn run(self, ui: &Ui) -> Result<Option<Picked>> {
        let mut keys = self.options.keys.iter();
        let is_usable = !self.items.is_empty() || keys.any(|key| key.effect == KeyEffect::Leave);
        if !ui.can_pick || !is_usable {
            return Ok(None);
        }
        match self.run_on_terminal(ui.color_err) {
            Ok(Some(picked)) => Ok(Some(picked)),
            // The user cancelled, so no message is needed.
            Ok(None) => Err(CommandError::cancelled().silence()),
            Err(e) => Err(CommandError::failed("cannot use the terminal").because(e)),
        }
    }

    fn run_on_terminal(mut self, colored: bool) -> io::Result<Option<Picked>> {
        let mut workers = Workers::start(&mut self.options);
        let has_preview = workers.preview.is_some();
        let scopes = std::mem::take(&mut self.options.scopes);
        let mut state = PickerState::new(self.items, self.default, scopes, self.options.scope);
        state.set_initial_query(std::mem::take(&mut self.options.query));
        state.set_notice(self.options.notice.take());

        // The height stays the same when more entries arrive.
        let entry_count = state.entry_count();
        let mut screen = InlineScreen::open()?;
        // `wait_for_input` fails if the terminal is gone. From the call of `has_event` on, a change of the size is an
        // event.
        screen::wait_for_input(Duration::ZERO)?;
        screen::has_event()?;
        let mut shown_area = Rect::default();

        loop {
            // Read each time, because an answer may be drawn before crossterm reports a change of the size.
            let area = compute_picker_area(entry_count, has_preview)?;
            if area != shown_area {
                screen.reserve_lines(area.height)?;
                shown_area = area;
            }

            let layout = PickerLayout::new(area, &self.options, state.has_scopes(), has_preview);
            workers.request_missing(&mut state, layout.preview.is_some());
            state.set_visible_rows(layout.list.height.into());

            let view = PickerView {
                state: &state,
                question: self.question,
                options: &self.options,
                layout,
                colored,
            };
            let (frame, cursor) = view.render();
            screen.draw(frame, cursor)?;

            match workers.wait_for_event(&mut state)? {
                WakeReason::Interrupted => return Ok(None),
                // Draws everything again, because the terminal may have wrapped the lines anew.
                WakeReason::Continued | WakeReason::Terminal(Event::Resize(..)) => {
                    shown_area = Rect::default();
                }
                WakeReason::Terminal(Event::Paste(text)) => state.paste(&text),
                // Windows, and terminals with the kitty protocol, report the release of a key too.
                WakeReason::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    match state.handle_key(key, &self.options.keys) {
                        PickerAction::Stay => {}
                        PickerAction::Copy(id) => screen::copy_to_clipboard(&id)?,
                        PickerAction::Choose(picked) => return Ok(Some(picked)),
                        PickerAction::Cancel => return Ok(None),
                    }
                }
                WakeReason::StateChanged | WakeReason::Terminal(_) => {}
            }
        }
    }
}

impl Workers {
    /// Starts the workers of the tasks in `options`.
    fn start(options: &mut PickerOptions) -> Self {
        let all_entries = options.all_entries.take().and_then(|mut load| {
            Worker::start(Box::new(move |request: &()| {
                load(request).map(|(items, scopes)| PickerListing::new(items, scopes))
            }))
        });
        Self {
            all_entries,
            preview: options.preview.take().and_then(Worker::start),
            contents: options.contents.take().and_then(Worker::start),
        }
    }

    /// Requests what the state lacks: all entries, the matches in contents, and the preview if it is shown.
    fn request_missing(&mut self, state: &mut PickerState, shows_preview: bool) {
        if let Some(all_entries) = &mut self.all_entries {
            all_entries.request(&());
        }

        if let Some(contents) = &mut self.contents {
            let query = state.content_query();
            if query.text.trim().is_empty() {
                contents.ignore_answer();
            } else {
                contents.request(&query);
            }
        }

        state.set_awaiting_entries(self.are_waiting_for_entries());
        if shows_preview
            && let Some(preview) = &mut self.preview
            && let Some(query) = state.preview_query()
        {
            preview.request(&query);
        }
    }

    fn are_waiting_for_entries(&self) -> bool {
        self.all_entries.as_ref().is_some_and(Worker::is_waiting)
            || self.contents.as_ref().is_some_and(Worker::is_waiting)
    }

    /// Passes the answers of the workers to the state. Returns false if there are none.
    fn take_answers(&mut self, state: &mut PickerState) -> bool {
        let all_entries = self.all_entries.as_mut().and_then(Worker::poll_answer);
        let preview = self.preview.as_mut().and_then(Worker::poll_answer);
        let contents = self.contents.as_mut().and_then(Worker::poll_answer);
        let has_answer = all_entries.is_some() || preview.is_some() || contents.is_some();

        // The preview is set first, because the other answers may select another entry.
        if let Some((query, paragraphs)) = preview {
            state.set_preview(query, paragraphs);
        }
        if let Some((_, answer)) = contents {
            state.set_content_matches(answer.matches);
            if answer.notice.is_some() {
                state.set_notice(answer.notice);
            }
        }

        match all_entries {
            Some(((), Ok(listing))) => state.replace_entries(listing),
            Some(((), Err(problem))) => state.set_notice(Some(problem)),
            None => {}
        }

        has_answer
    }

    /// Waits for a key, an answer, or an interrupt. Passes answers to the state. While the state has entries to filter,
    /// filters some of them instead of waiting.
    fn wait_for_event(&mut self, state: &mut PickerState) -> io::Result<WakeReason> {
        loop {
            if is_interrupted() {
                return Ok(WakeReason::Interrupted);
            }

            // Fails if the terminal is gone, for which crossterm 0.29 reports no event and no error.
            screen::wait_for_input(Duration::ZERO)?;
            if screen::set_modes_after_stop()? {
                return Ok(WakeReason::Continued);
            }
            if self.take_answers(state) {
                return Ok(WakeReason::StateChanged);
            }
            if screen::has_event()? {
                return Ok(WakeReason::Terminal(event::read()?));
            }

            if state.is_filtering() {
                state.filter_more();
                return Ok(WakeReason::StateChanged);
            }

            let is_waiting = self.are_waiting_for_entries()
                || self.preview.as_ref().is_some_and(Worker::is_waiting);
            // Waits in intervals, because on some systems a signal does not end the wait.
            screen::wait_for_input(if is_waiting {
                ANSWER_INTERVAL
            } else {
                POLL_INTERVAL
            })?;
        }
    }
}

/// Returns the area for `entry_count` entries at the current size of the terminal.
fn compute_picker_area(entry_count: usize, has_preview: bool) -> io::Result<Rect> {
    let size = terminal_size(&io::stderr());
    let (columns, lines) = size.map_or_else(crossterm::terminal::size, Ok)?;
    let item_lines = u16::try_from(entry_count).unwrap_or(u16::MAX);
    let natural_height = if has_preview {
        percent_of(lines, PREVIEW_HEIGHT_PERCENT).max(MIN_PREVIEW_HEIGHT)
    } else {
        item_lines.saturating_add(FRAME_HEIGHT).min(MAX_HEIGHT)
    };
    let height = natural_height.min(lines).max(FRAME_HEIGHT + 1);
    // Nothing is written to the last column, where terminals differ in when they begin the next line.
    Ok(Rect::new(0, 0, columns.saturating_sub(1).max(1), height))
}
