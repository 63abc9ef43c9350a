//! What the domain notes of its work, for a log where one is kept.
//!
//! The only place that names the crate `tracing`, beside `logging`, which listens. Where nobody
//! listens an event costs one look at a number.

pub use tracing::{debug, error, info, warn};
