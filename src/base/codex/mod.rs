//! The formats and the behaviour of Codex, as observed on Codex CLI 0.169. Contains no policy of
//! codex-manager.
//!
//! Formats change between versions, so the modules parse what they need and keep the rest verbatim.
//! Each quirk has a test, against the real Codex where it can be reproduced there.
//!
//! I want to …
//!
//! - know what a file of the home is → [`home`]; read a login → [`auth`], a setting → [`config`]
//! - start Codex → [`program`]; ask it → [`rpc`]: [`app_server`] for an account, [`thread_list`] for conversations
//! - know who uses a home → [`process`], [`daemon`], [`writer_lock`]
//! - read a database → [`database_view`], [`automations`]; rows of conversations → [`threads`]; turns → [`projections`]
//! - read another kind of line in rollouts → the table in [`rollout_lines`]
//! - compare folders of conversations → [`folder_key`]
//! - know what of a message the user wrote, or the title that it makes → [`user_request`]
//! - recognize another secret → `redaction/forms.txt`

pub mod app_server;
pub mod arguments;
pub mod auth;
pub mod automations;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod database;
pub mod database_view;
pub mod folder_key;
pub mod home;
pub mod identity;
pub mod login_lock;
pub(crate) mod login_storage;
pub mod process;
pub mod program;
pub mod projections;
pub mod redaction;
pub mod rollout;
pub mod rollout_lines;
pub mod rpc;
pub mod sign_in;
pub mod status_text;
pub mod text_damage;
pub mod thread_list;
pub mod threads;
pub(crate) mod user_request;
pub mod window;
pub(crate) mod writer_lock;

pub use config::{CodexConfig, CredentialStore, read_login, read_possible_identity};
pub use home::{
    ARCHIVED_SESSIONS, AUTH_JSON, CONFIG_TOML, HomeEntryKind, SESSIONS, SQLITE_FOLDER,
    THREAD_LOCKS, is_database_named, is_versioned_database, kind_of,
};
pub(crate) use home::{DB_BACKUPS, HISTORY_DATABASE_PREFIX, database_sidecars};
pub use process::{Holder, HomeProcess, HomeUsage, ProcessRole, ProgramNames, find_codex};
pub use rollout::{Relation, RolloutName, ZST, parse_rollout_id};

pub use app_server::{
    AccountLimits, ProbeFailure, ProbeOptions, ProbeReport, ProbedAccount, Question,
};
pub use arguments::{Arguments, InvocationMode};
pub use auth::{AuthFile, AuthSnapshot, Freshness, Login};
pub use daemon::{Daemon, DaemonError};
pub use database::DatabaseError;
pub use identity::{Email, Identity, LoginKind};
pub use login_lock::LoginLock;
pub use login_storage::{
    LoginStorageError, check_login_of, check_login_replaceable, check_login_storage,
};
pub use program::{Program, ProgramError};
pub use projections::{Projections, RolloutCut};
pub use rollout_lines::LineParts;
pub(crate) use rollout_lines::{
    EventKind, ItemOrigin, LineContent, LineItem, SessionMetaLine, TurnContext, TurnCounter,
    UserItems, UserItemsProbe, is_placeholder,
};
pub use rpc::{AppServer, AppServerError};
pub use status_text::{StatusText, StatusTextError};
pub(crate) use threads::RowValues;
pub(crate) use threads::staged::UnmatchedRows;
pub use threads::{ListedThread, ThreadFilter, ThreadRow};
pub use window::{ResetCredits, SpendCap, Window};
pub(crate) use writer_lock::WriterLock;
