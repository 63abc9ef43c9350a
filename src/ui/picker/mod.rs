//! Lets the user choose from a list on the terminal, with a fuzzy filter.
//!
//! Draws below the cursor on stderr and removes itself at the end, so stdout stays data. The terminal is
//! restored also after a panic and on SIGTERM.

mod item;
mod options;
pub mod screen;
mod state;
mod view;
mod worker;

use self::screen::InlineScreen;
use self::state::{PickerAction, PickerState};
use self::view::PickerView;
use self::worker::Worker;
use super::Ui;
use crate::error::{CommandError, Result};
use crate::io::progress::is_interrupted;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui_core::layout::Rect;
use std::io;
use std::time::Duration;

pub use self::item::PickerItem;
pub use self::options::{
    ContentMatch, ContentQuery, KeyEffect, Picked, PickerKey, PickerOptions, PickerScope,
};
pub(crate) use self::screen::{is_open, restore_terminal};
pub use self::worker::Task;

/// The interval at which an interrupt is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The interval at which an answer of a worker is noticed.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// The most lines that a picker without a preview takes of the terminal.
const MAX_HEIGHT: u16 = 20;

/// The share of the terminal that a picker with a preview takes, in percent.
const PREVIEW_HEIGHT_PERCENT: u16 = 60;

/// The lines around the items: the filter above, the keys below.
const FRAME_HEIGHT: u16 = 2;

/// A question with the entries to choose from.
pub struct Picker<'a> {
    /// The question, shown before the filter.
    pub question: &'a str,
    /// The entries, in the order in which they are listed.
    pub items: Vec<PickerItem>,
    /// The index of the entry that is selected first, in the first scope.
    pub default: usize,
    /// The keys, scopes and other additions to the list.
    pub options: PickerOptions,
}

/// The workers of an open picker.
struct Workers {
    preview: Option<Worker<String, Vec<(super::Style, String)>>>,
    contents: Option<Worker<ContentQuery, Vec<ContentMatch>>>,
}

/// An event that an open picker waits for.
enum Wake {
    Interrupted,
    Terminal(Event),
    Answered,
}

impl Picker<'_> {
    /// Returns the choice; `None` if there is no terminal or no entry.
    ///
    /// # Errors
    /// The user cancelled, or a signal ended the command.
    pub fn run(self, ui: &Ui) -> Result<Option<Picked>> {
        if !ui.can_pick || self.items.is_empty() {
            return Ok(None);
        }
        match self.choose(ui.color_err) {
            Ok(Some(picked)) => Ok(Some(picked)),
            Ok(None) => Err(CommandError::cancelled()),
            Err(e) => Err(CommandError::failed("cannot use the terminal").because(e)),
        }
    }

    fn choose(mut self, colored: bool) -> io::Result<Option<Picked>> {
        let mut workers = Workers {
            preview: self.options.preview.take().and_then(Worker::start),
            contents: self.options.contents.take().and_then(Worker::start),
        };
        let has_preview = workers.preview.is_some();
        let scopes = std::mem::take(&mut self.options.scopes);
        let mut state = PickerState::new(self.items, self.default, scopes, self.options.scope);
        let total = state.total();
        let mut area = picker_area(total, has_preview)?;
        let mut screen = InlineScreen::open(area.height)?;
        // From here on, a change of the size is an event. Before the first call it would be lost.
        event::poll(Duration::ZERO)?;
        loop {
            state.show_rows(usize::from(area.height.saturating_sub(FRAME_HEIGHT)));
            workers.request(&mut state, view::fits_preview(area, has_preview));
            let view = PickerView {
                state: &state,
                question: self.question,
                options: &self.options,
                area,
                has_preview,
                is_searching: workers.contents.as_ref().is_some_and(Worker::is_waiting),
                colored,
            };
            let (frame, cursor) = view.render();
            screen.draw(frame, cursor)?;
            let event = match workers.wait(&mut state)? {
                Wake::Interrupted => return Ok(None),
                Wake::Terminal(event) => event,
                Wake::Answered => continue,
            };
            match event {
                // Windows, and terminals with the kitty protocol, report the release of a key too.
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    match state.press(key, &self.options.keys) {
                        PickerAction::Stay => {}
                        PickerAction::Copy(id) => screen.copy(&id)?,
                        PickerAction::Choose(picked) => return Ok(Some(picked)),
                        PickerAction::Cancel => return Ok(None),
                    }
                }
                Event::Resize(..) => {
                    area = picker_area(total, has_preview)?;
                    screen.resize(area.height)?;
                }
                _ => {}
            }
        }
    }
}

impl Workers {
    /// Requests what the state lacks: matches in contents, and the preview if it is shown.
    fn request(&mut self, state: &mut PickerState, shows_preview: bool) {
        if let Some(contents) = &mut self.contents {
            let query = state.content_query();
            if query.text.trim().is_empty() {
                contents.forget();
            } else {
                contents.request(&query);
            }
        }
        if let Some(preview) = self.preview.as_mut().filter(|_| shows_preview)
            && let Some(item) = state.selected()
        {
            preview.request(&item.id);
        }
    }

    /// Waits for a key, an answer, or an interrupt. Answers go to the state.
    fn wait(&mut self, state: &mut PickerState) -> io::Result<Wake> {
        loop {
            if is_interrupted() {
                return Ok(Wake::Interrupted);
            }
            screen::wait_for_input(Duration::ZERO)?;
            let mut has_answer = false;
            if let Some(paragraphs) = self.preview.as_mut().and_then(Worker::poll_answer) {
                state.set_preview(paragraphs);
                has_answer = true;
            }
            if let Some(matches) = self.contents.as_mut().and_then(Worker::poll_answer) {
                state.set_content_matches(matches);
                has_answer = true;
            }
            if has_answer {
                return Ok(Wake::Answered);
            }
            if event::poll(Duration::ZERO)? {
                return Ok(Wake::Terminal(event::read()?));
            }
            let is_waiting = self.preview.as_ref().is_some_and(Worker::is_waiting)
                || self.contents.as_ref().is_some_and(Worker::is_waiting);
            // Waits in intervals: a signal does not end the wait on all systems.
            screen::wait_for_input(if is_waiting {
                ANSWER_INTERVAL
            } else {
                POLL_INTERVAL
            })?;
        }
    }
}

/// Returns the area for `items` entries at the current size of the terminal.
fn picker_area(items: usize, has_preview: bool) -> io::Result<Rect> {
    let (columns, lines) = crossterm::terminal::size()?;
    let wanted = u16::try_from(items).unwrap_or(u16::MAX);
    let wanted = if has_preview {
        let share = u32::from(lines) * u32::from(PREVIEW_HEIGHT_PERCENT) / 100;
        u16::try_from(share).unwrap_or(u16::MAX)
    } else {
        wanted.saturating_add(FRAME_HEIGHT).min(MAX_HEIGHT)
    };
    let height = wanted.min(lines.saturating_sub(1)).max(FRAME_HEIGHT + 1);
    // Nothing is written to the last column, where terminals differ in when they begin the next line.
    Ok(Rect::new(0, 0, columns.saturating_sub(1).max(1), height))
}
