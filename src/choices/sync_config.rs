//! The configuration of sync that the user names, and the replica that it describes.

use crate::context::Context;
use crate::error::Result;
use codex_manager_core::io::shell;
use codex_manager_core::sync::config::{ConfigContext, DeletePolicy, SyncConfig};
use codex_manager_core::sync::state::Replica;
use std::path::{Path, PathBuf};

/// Returns the path that the user gave, else that of the default configuration.
pub(crate) fn resolve_config_path(context: &Context, given_path: Option<&Path>) -> PathBuf {
    given_path.map_or_else(
        || default_config_path(context),
        |path| context.env.absolute(path),
    )
}

pub(crate) fn default_config_path(context: &Context) -> PathBuf {
    context.manager_path("sync.toml")
}

/// Returns the command line `codex-manager sync …` for the configuration at `path`.
pub(crate) fn format_sync_command(context: &Context, path: &Path, arguments: &str) -> String {
    if path == default_config_path(context) {
        format!("codex-manager sync {arguments}")
    } else {
        let config = shell::quote_if_needed(&path.to_string_lossy());
        format!("codex-manager sync -c {config} {arguments}")
    }
}

/// Reads the configuration and prints its warnings on stderr.
///
/// # Errors
/// The configuration is missing or invalid.
pub(crate) fn read_config(context: &Context, path: &Path) -> Result<SyncConfig> {
    let config = read_config_quietly(context, path)?;
    for warning in &config.warnings {
        context.ui.warn(warning);
    }
    Ok(config)
}

/// Reads the configuration without printing its warnings.
pub(crate) fn read_config_quietly(context: &Context, path: &Path) -> Result<SyncConfig> {
    Ok(SyncConfig::read(path, &config_context(context))?)
}

/// Returns the environment and the homes from which the paths in a configuration are resolved.
pub(crate) fn config_context(context: &Context) -> ConfigContext<'_> {
    ConfigContext {
        env: &context.env,
        codex_home: &context.settings.codex_home,
        manager_home: &context.settings.manager_home,
    }
}

/// Returns the replica of the home and the cloud folder in the configuration.
pub(crate) fn replica(context: &Context, config: &SyncConfig) -> Replica {
    Replica::of(&context.settings.manager_home, &config.local, &config.cloud)
}

/// Prints a note if sync is set up for this home such that it brings deleted conversations back.
pub(crate) fn note_if_sync_restores_deleted(context: &Context) {
    let path = default_config_path(context);
    if let Ok(config) = read_config_quietly(context, &path)
        && config.local == context.codex_home()
        && config.policy.rules.delete == DeletePolicy::Never
    {
        context.note(format_args!(
            "sync brings back what another machine has; to delete it everywhere, set delete_policy = \"propagate\" in {}",
            path.display()
        ));
    }
}
