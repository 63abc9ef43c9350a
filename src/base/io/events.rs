//! Log events of the domain.
//!
//! Only this module and `logging`, which subscribes, name the crate `tracing`. Without a subscriber
//! an event costs one comparison.

pub use tracing::{debug, error, info, trace, warn};
