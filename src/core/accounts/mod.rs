//! Profiles, and which copy of a login is its owner.
//!
//! A refresh token can be spent once, so at any time exactly one copy of a login is the owner: the
//! one in a Codex home, in a profile, in the scratch home of a probe, or in an export. All other copies are
//! history. Before a live auth.json is replaced, its login is saved to the profile of its account.
//!
//! I want to …
//!
//! - read profiles, or tell which home has a login → `profile`
//! - put a login into a profile → `save`; by a name that the user gave → `profile_ops`
//! - move a login for a while → `lease` (a probe), `isolated` (a launch); both lock accounts by `lease`
//! - make another account live → `switch`
//! - sign in to a new account → `new_login`
//! - remove profiles, or remember removed ones → `removed`
//! - tell the account of a running Codex → `running`
//! - keep the tokens of all logins out of a text → `stored_logins`

pub mod isolated;
pub mod lease;
mod login_copy;
pub mod login_selection;
pub mod new_login;
pub(crate) mod owner;
pub mod profile;
pub mod profile_ops;
pub mod removed;
pub mod running;
pub mod save;
pub mod source;
pub mod stored_logins;
pub mod switch;
pub mod switchers;

pub(crate) use isolated::IsolatedLogin;
pub use lease::{AccountLocks, LeaseError};
pub use login_selection::{AuthOutcome, AuthPolicy};
pub(crate) use login_selection::{LoginCandidates, LoginChoice, LoginDecision};
pub use new_login::LiveHomeUpdate;
pub(crate) use owner::OwnerLocation;
pub use profile::{LoginOwner, PendingMove, Profile, ProfileError, ProfileFile, Profiles};
pub use save::{SaveOutcome, SaveReport};
pub use switch::{DaemonPolicy, SwitchError, SwitchPlan, SwitchReport, SwitchRequest};
