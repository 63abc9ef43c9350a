//! Reads the token prices.

use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::io::file_open;
use codex_manager_core::usage::prices::Prices;
use std::path::Path;

/// Maximum size of a price file.
const MAX_PRICES_BYTES: u64 = 1 << 20;

/// Returns the built-in prices, overridden by the prices of one file. That file is `given_path` if there is one, else
/// the file of the setting `usage.prices`, else `prices.toml` in the manager home if it exists.
///
/// # Errors
/// The file cannot be read, or is not a valid price file.
pub(crate) fn read_prices(given_path: Option<&Path>, context: &Context) -> Result<Prices> {
    let prices = Prices::built_in()
        .map_err(|e| CommandError::failed("the prices in the program are damaged").because(e))?;

    let named_path = given_path.or(context.settings.preferences.prices.as_deref());
    let default_path = context.manager_home().join("prices.toml");
    let path = match named_path {
        Some(path) => context.env.absolute(path),
        None if default_path.exists() => default_path,
        None => return Ok(prices),
    };

    let text = file_open::read_small_to_string(&path, MAX_PRICES_BYTES)
        .map_err(|e| CommandError::usage(format!("cannot read {}", path.display())).because(e))?;
    prices.with_user_prices(&text).map_err(|e| {
        CommandError::usage(format!("not a valid price file: {}", path.display())).because(e)
    })
}
