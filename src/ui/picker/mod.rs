//! Lets the user choose from a list on the terminal, with a fuzzy filter.
//!
//! Draws below the cursor on stderr and removes itself at the end, so stdout stays data. The terminal is
//! restored also after a panic and on SIGTERM.

mod item;
pub mod screen;
mod state;
mod view;

use self::screen::InlineScreen;
use self::state::{PickerAction, PickerState};
use super::Ui;
use crate::error::CommandError;
use crate::io::progress::is_interrupted;
use crossterm::event::{self, Event, KeyEventKind};
use ratatui_core::layout::Rect;
use std::io;
use std::time::Duration;

pub use self::item::PickerItem;
pub(crate) use self::screen::{is_open, restore_terminal};

/// The interval at which an interrupt is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The most lines that the picker takes of the terminal.
const MAX_HEIGHT: u16 = 20;

/// The lines around the items: the filter above, the keys below.
const FRAME_HEIGHT: u16 = 2;

/// A question with the entries to choose from.
#[derive(Debug, Clone)]
pub struct Picker<'a> {
    /// The question, shown before the filter.
    pub question: &'a str,
    /// The entries, in the order in which they are listed.
    pub items: Vec<PickerItem>,
    /// The index of the entry that is selected first.
    pub default: usize,
}

impl Picker<'_> {
    /// Returns the id of the chosen entry; `None` if there is no terminal or no entry.
    ///
    /// # Errors
    /// The user cancelled, or a signal ended the command.
    pub fn run(self, ui: &Ui) -> Result<Option<String>, CommandError> {
        if !ui.can_pick || self.items.is_empty() {
            return Ok(None);
        }
        match self.choose(ui.color_err) {
            Ok(Some(id)) => Ok(Some(id)),
            Ok(None) => Err(CommandError::cancelled()),
            Err(e) => Err(CommandError::failed("cannot use the terminal").because(e)),
        }
    }

    fn choose(self, colored: bool) -> io::Result<Option<String>> {
        let mut state = PickerState::new(self.items, self.default);
        let mut area = area_for(state.total())?;
        let mut screen = InlineScreen::open(area.height)?;
        loop {
            let rows = area.height.saturating_sub(FRAME_HEIGHT);
            state.show_rows(usize::from(rows));
            let (frame, cursor) = view::render(&state, self.question, area, colored);
            screen.draw(frame, cursor)?;
            // Waits in intervals: a signal does not end the wait on all systems.
            let event = loop {
                if is_interrupted() {
                    return Ok(None);
                }
                if event::poll(POLL_INTERVAL)? {
                    break event::read()?;
                }
            };
            match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                    PickerAction::Stay => {}
                    PickerAction::Choose(id) => return Ok(Some(id)),
                    PickerAction::Cancel => return Ok(None),
                },
                Event::Resize(..) => {
                    area = area_for(state.total())?;
                    screen.resize(area.height)?;
                }
                _ => {}
            }
        }
    }
}

/// Returns the lines and columns for `items` entries in the terminal of now.
fn area_for(items: usize) -> io::Result<Rect> {
    let (columns, lines) = crossterm::terminal::size()?;
    let wanted = u16::try_from(items).unwrap_or(u16::MAX);
    let height = wanted
        .saturating_add(FRAME_HEIGHT)
        .min(MAX_HEIGHT)
        .min(lines.saturating_sub(1))
        .max(FRAME_HEIGHT + 1);
    // Nothing is written to the last column, where terminals differ in when they begin the next line.
    Ok(Rect::new(0, 0, columns.saturating_sub(1).max(1), height))
}
