//! Drops steps that would copy a login under the name of a conversation or of a line-based file. The contents of such
//! files are not searched for tokens, because conversations quote them; but a file that is a login and nothing else is
//! not copied. Plain files are searched in `plain`.

use super::steps::Op;
use super::sync_plan::SyncPlan;
use crate::sync::config::SyncConfig;
use crate::sync::secrets;

/// Drops the steps that would copy a login, and warns of the files. Steps with unreadable files stay: copying them
/// fails with the reason.
pub(super) fn drop_login_copies(plan: &mut SyncPlan, config: &SyncConfig) {
    let warnings = &mut plan.notices.warnings;
    plan.steps.retain(|step| {
        let mut sources = step.ops.iter().flat_map(Op::sources);
        let login = sources.find(|seen| {
            let path = config.file_path(seen.side, &seen.path);
            secrets::is_login(&path).unwrap_or_default()
        });
        let why = "is not synced: it is a login under another name";
        warnings.extend(login.map(|seen| (seen.path.clone(), why.to_owned())));
        login.is_none()
    });
}
