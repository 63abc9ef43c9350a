//! Logins under the name of a conversation or of a file of lines. What is in those is not looked through
//! for tokens, since people write of tokens in them; a file that is a login and nothing else stays.

use super::{Op, SyncPlan};
use crate::sync::config::SyncConfig;
use crate::sync::secrets;

/// Takes the steps out of a plan that would copy a login, and names the files. What cannot be read is not
/// copied either: whoever tries says why.
pub(super) fn drop_login_copies(plan: &mut SyncPlan, config: &SyncConfig) {
    let warnings = &mut plan.warnings;
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
