//! The JSON documents of commands.

use super::json_door::JsonDoor;
use super::output::record_output_error;
use super::{JsonFields, JsonObject, Ui, object};
use crate::error::{CommandError, Result};
use codex_manager_core::codex::redaction::hide_logins;
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::marker::PhantomData;

/// The document around the result of a command.
#[derive(Serialize)]
struct JsonEnvelope<'a, T> {
    schema: u32,
    command: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

fn write_json_document(document: &impl Serialize, ui: &Ui) -> io::Result<()> {
    let mut to = io::BufWriter::new(io::stdout().lock());
    write_json(&mut to, JsonDoor::new(ui), document)?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Writes a document. The writer is a trait object, so that the code for a document is compiled only once.
fn write_json(
    to: &mut dyn Write,
    door: JsonDoor<'_>,
    document: &impl Serialize,
) -> serde_json::Result<()> {
    document.serialize(&mut serde_json::Serializer::with_formatter(to, door))
}

/// Returns an item of a document as JSON, without secrets.
pub(super) fn format_item(item: &impl Serialize, ui: &Ui) -> Result<String> {
    let mut json = Vec::new();
    write_json(&mut json, JsonDoor::new(ui), item)
        .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

impl Ui {
    /// Prints the JSON document of a command, `{"schema":1,"command":…,…}`, in JSON mode.
    pub(crate) fn document(&self, command: &str, body: &impl Serialize) {
        if !self.json {
            return;
        }

        let document = JsonEnvelope {
            schema: 1,
            command,
            body,
        };

        // The first serialization finds errors, so that half a document is never printed. Its text is not kept, because
        // a document may be long.
        let serialized =
            write_json(&mut io::sink(), JsonDoor::open(), &document).map_err(io::Error::from);
        record_output_error(serialized.and_then(|()| write_json_document(&document, self)));
    }

    /// Prints the JSON document of a list, `{"schema":1,"command":…,"<key>":[…]}`, in JSON mode.
    pub(crate) fn list_document(&self, command: &str, key: &str, items: &[impl Serialize]) {
        self.document(command, &BTreeMap::from([(key, items)]));
    }

    /// Like [`Ui::list_document`], for items that are read while they are printed: `read_items` calls the given
    /// function with each item, until the function returns false. The fields of `summary` follow the list.
    ///
    /// # Errors
    /// `read_items` fails. The document is incomplete then.
    pub(crate) fn stream_list_document<T: Serialize>(
        &self,
        command: &str,
        key: &'static str,
        summary: JsonObject<impl JsonFields>,
        read_items: impl FnOnce(&mut dyn FnMut(&T) -> bool) -> Result<()>,
    ) -> Result<()> {
        if !self.json {
            return Ok(());
        }

        let stream = ItemStream::<_, T> {
            read_items: Cell::new(Some(read_items)),
            error: Cell::new(None),
            item: PhantomData,
        };
        let document = JsonEnvelope {
            schema: 1,
            command,
            body: &object().with(key, &stream).and(summary),
        };
        let written = write_json_document(&document, self);
        // If the items cannot be read, the output fails only because of that.
        if let Some(error) = stream.error.into_inner() {
            return Err(error);
        }
        record_output_error(written);
        Ok(())
    }

    /// Prints a JSON value without the envelope in JSON mode, such as `null` for an empty result.
    pub(crate) fn print_bare_json(&self, value: &serde_json::Value) {
        if self.json {
            record_output_error(writeln!(io::stdout().lock(), "{value}"));
        }
    }
}

/// Prints an error as one line of JSON on stderr: stdout has only the documents of commands that succeed.
pub(crate) fn print_json_error(error: &CommandError) {
    let document = serde_json::json!({
        "schema": 1,
        "error": {
            "message": error.to_string(),
            "causes": error.causes(),
            "hints": error.hints,
            "exit_code": error.kind as u8,
        },
    });
    // In one write, so that other output does not split the message.
    let _ = io::stderr().write_all(hide_logins(&format!("{document}\n")).as_bytes());
}

/// A list of items that are read during its serialization, so it can be serialized only once.
struct ItemStream<F, T> {
    read_items: Cell<Option<F>>,
    /// The error of `read_items`, if it failed during the serialization.
    error: Cell<Option<CommandError>>,
    item: PhantomData<fn(&T)>,
}

impl<F, T> Serialize for ItemStream<F, T>
where
    F: FnOnce(&mut dyn FnMut(&T) -> bool) -> Result<()>,
    T: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut write_error = None;
        let mut write_item = |item: &T| {
            write_error = list.serialize_element(item).err();
            write_error.is_none()
        };

        if let Some(read_items) = self.read_items.take()
            && let Err(e) = read_items(&mut write_item)
        {
            self.error.set(Some(e));
            return Err(S::Error::custom("incomplete"));
        }
        write_error.map_or_else(|| list.end(), Err)
    }
}
