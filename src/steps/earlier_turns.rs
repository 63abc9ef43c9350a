//! Lets Codex show the earlier turns of a rewound or forked conversation, which are in the rollouts that it continues.

use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::history::repair;
use codex_manager_core::history::repair_plan::RepairContext;
use std::collections::BTreeSet;
use std::path::Path;

/// Lets Codex read the rollouts that these conversations continue, unless Codex has read them already. Without this,
/// Codex would show only the turns of the newest rollout. On failure, prints a warning with the command that does this
/// later.
pub(crate) fn project_continued_rollouts(
    context: &Context,
    home: &Path,
    threads: &BTreeSet<String>,
) {
    let repair_context = RepairContext {
        home,
        manager_home: &context.settings.manager_home,
        env: &context.env,
    };
    let rollouts = repair::find_unprojected_rollouts(&repair_context, threads);
    if rollouts.is_empty() {
        return;
    }

    let project = || -> Result<()> {
        let program = context
            .find_codex()
            .map_err(|e| CommandError::failed("Codex was not found").because(e))?;
        context.note("Codex reads the earlier turns of rewound conversations");
        repair::project_continued_rollouts(&repair_context, &program, &rollouts)?;
        Ok(())
    };

    if let Err(error) = project() {
        context.ui.warn(format_args!(
            "Codex does not show the earlier turns of rewound conversations yet ({}); with Codex closed: codex-manager history \
             repair",
            error.to_one_line()
        ));
    }
}
