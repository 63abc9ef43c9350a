//! The passphrase of an export, from a file or standard input.

use crate::context::Context;
use crate::error::Result;
use crate::io::IoContext;
use crate::io::progress::block_on_input;
use crate::io::secret::SecretBytes;
use crate::transfer::seal::Passphrase;
use std::io::{BufRead, Read};
use std::path::Path;

/// Reads the passphrase in the first line of a file, or of standard input for `-`.
pub(super) fn read_passphrase(file: &Path, context: &Context) -> Result<Passphrase> {
    if file != Path::new("-") {
        return Ok(Passphrase::read(&context.env.absolute(file))?);
    }
    let mut line = String::new();
    block_on_input(|| std::io::stdin().lock().take(1024).read_line(&mut line)).at("read", file)?;
    Ok(Passphrase::from_bytes(&SecretBytes::new(
        line.into_bytes(),
    ))?)
}
