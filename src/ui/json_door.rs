//! Writes JSON documents without secrets: every string passes the same search as printed text.

use super::Ui;
use codex_manager_core::codex::redaction::hide_logins;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};
use std::io::{self, Write};

/// Formats JSON like [`PrettyFormatter`], and hides secrets in strings. Names of fields stay as they are.
pub(super) struct JsonDoor<'a> {
    /// `None` if the document is not printed, so that nothing needs to be hidden.
    ui: Option<&'a Ui>,
    pretty: PrettyFormatter<'static>,
    /// The string that is being written, without escapes. `None` in the name of a field.
    text: Option<String>,
}

impl<'a> JsonDoor<'a> {
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self {
            ui: Some(ui),
            ..Self::open()
        }
    }

    pub(super) fn open() -> Self {
        Self {
            ui: None,
            pretty: PrettyFormatter::new(),
            text: Some(String::new()),
        }
    }
}

impl Formatter for JsonDoor<'_> {
    fn begin_string<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        match &mut self.text {
            Some(text) => text.clear(),
            None => self.pretty.begin_string(to)?,
        }
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        part: &str,
    ) -> io::Result<()> {
        match &mut self.text {
            Some(text) => text.push_str(part),
            None => self.pretty.write_string_fragment(to, part)?,
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match &mut self.text {
            Some(text) => text.push(unescape(&escape)),
            None => self.pretty.write_char_escape(to, escape)?,
        }
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        let Some(text) = &self.text else {
            return self.pretty.end_string(to);
        };
        let Some(ui) = self.ui else { return Ok(()) };
        let text = ui.hide_secrets(text);
        Ok(serde_json::to_writer(to, &hide_logins(&text))?)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.text = None;
        self.pretty.begin_object_key(to, is_first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.text = Some(String::new());
        self.pretty.end_object_key(to)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.begin_array(to)
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_array(to)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_array_value(to, is_first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(to)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.begin_object(to)
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_object(to)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(to)
    }
}

fn unescape(escape: &CharEscape) -> char {
    match escape {
        CharEscape::Quote => '"',
        CharEscape::ReverseSolidus => '\\',
        CharEscape::Solidus => '/',
        CharEscape::Backspace => '\u{8}',
        CharEscape::FormFeed => '\u{c}',
        CharEscape::LineFeed => '\n',
        CharEscape::CarriageReturn => '\r',
        CharEscape::Tab => '\t',
        CharEscape::AsciiControl(byte) => char::from(*byte),
    }
}
