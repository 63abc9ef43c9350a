//! Reads the token prices of a run.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::file_open;
use crate::usage::prices::Prices;
use std::path::Path;

/// The limit on the size of a file of prices, in bytes.
const MAX_PRICES_BYTES: u64 = 1 << 20;

/// Reads the built-in prices, then overrides them with one file: `flag`, else the setting `usage.prices`, else
/// `prices.toml` in the manager home if it exists.
///
/// # Errors
/// The file cannot be read, or is not of the form of `prices.toml`.
pub(crate) fn read(flag: Option<&Path>, context: &Context) -> Result<Prices> {
    let prices = Prices::built_in()
        .map_err(|e| CommandError::failed("the prices in the program are damaged").because(e))?;
    let named = flag.or(context.settings.preferences.prices.as_deref());
    let default = context.manager_home().join("prices.toml");
    let path = named.map(|path| context.env.absolute(path));
    let Some(path) = path.or_else(|| default.exists().then_some(default)) else {
        return Ok(prices);
    };
    let text = file_open::read_small_to_string(&path, MAX_PRICES_BYTES)
        .map_err(|e| CommandError::usage(format!("cannot read {}", path.display())).because(e))?;
    prices.with_user_prices(&text).map_err(|e| {
        CommandError::usage(format!("not a valid price file: {}", path.display())).because(e)
    })
}
