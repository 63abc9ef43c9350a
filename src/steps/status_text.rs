//! The text of Codex's `/status`, pasted into a file or standard input.

use crate::codex::status_text;
use crate::error::CommandError;
use crate::io::IoContext;
use crate::io::file_open;
use crate::io::progress::waiting_for_input;
use std::io::Read;
use std::path::Path;

/// The limit on the size of a status text, in bytes. Real ones are below 4 kB.
const MAX_STATUS_TEXT_BYTES: u64 = 1024 * 1024;

pub(crate) fn read_text(path: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        waiting_for_input(|| stdin.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    } else {
        file_open::open_given(path)
            .and_then(|file| file.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    };
    read.at("read", path)?;
    Ok(status_text::decode(&bytes))
}
