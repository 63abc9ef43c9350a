//! Access of other users to folders on Windows, where an access control list takes the place of a mode.
//!
//! Files and folders inherit the list of their folder, so only the topmost folder is checked and
//! restricted. The user's profile is restricted already.

#[cfg(windows)]
use super::ordinary_path::OrdinaryPath;
#[cfg(windows)]
use std::path::Path;

/// The trustees in the security descriptor definition language (SDDL) that stand for other users:
/// everyone, authenticated users, the groups Users and Guests, anonymous, interactive and network users.
#[cfg_attr(not(windows), allow(dead_code, reason = "asked on Windows only"))]
const OTHERS: [&str; 7] = ["WD", "AU", "BU", "AN", "BG", "IU", "NU"];

/// Returns true if an entry of the access list `sddl` allows anything to other users. An entry is
/// `(type;flags;rights;object;inherited object;trustee)`.
#[cfg_attr(not(windows), allow(dead_code, reason = "asked on Windows only"))]
fn allows_other_users(sddl: &str) -> bool {
    // The text before the first entry has the owner and the flags of the list.
    sddl.split('(').skip(1).any(|entry| {
        let fields = entry.trim_end_matches([')', '\r', '\n']).split(';');
        let fields: Vec<_> = fields.collect();
        // The type `A` allows, and the trustee is the sixth field.
        matches!(fields[..], ["A", _, _, _, _, trustee, ..] if OTHERS.contains(&trustee))
    })
}

/// Returns true if the access list of the folder allows anything to other users; false if the list cannot be read.
#[cfg(windows)]
pub fn is_open_to_others(folder: &Path) -> bool {
    let Ok(list_file) = tempfile::NamedTempFile::new().map(tempfile::NamedTempFile::into_temp_path)
    else {
        return false;
    };

    let save_result = run_icacls(folder, |command| command.arg("/save").arg(&list_file));
    let bytes = save_result.and_then(|()| super::file_open::read(&list_file));
    bytes.is_ok_and(|bytes| {
        // icacls writes UTF-16, the lower byte first.
        let units = bytes
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]));
        allows_other_users(&String::from_utf16_lossy(&units.collect::<Vec<_>>()))
    })
}

/// Restricts a folder, and entries that inherit from it, to its owner, the system and the
/// administrators.
///
/// # Errors
/// The list cannot be changed.
#[cfg(windows)]
pub fn restrict_to_owner(folder: &Path) -> std::io::Result<()> {
    // The owner, the system and the administrators, by their ids, because the names of groups are translated.
    let trusted = ["*S-1-3-4", "*S-1-5-18", "*S-1-5-32-544"];
    run_icacls(folder, |command| {
        // Full access, which files and folders inherit.
        let grants = trusted.map(|trustee| format!("{trustee}:(OI)(CI)F"));
        // Without inheritance first: an entry of the folder above would stay in force beside the
        // new ones.
        command.args(["/inheritance:r", "/grant:r"]).args(grants)
    })
}

/// Restricts a new private folder that is outside of the user's profile. If Windows refuses that, the folder keeps the
/// access list that it has inherited, which `doctor` reports.
#[cfg(windows)]
pub(super) fn restrict_new_folder(folder: &Path) {
    let profile = dirs::home_dir().and_then(|profile| profile.canonical().ok());
    let is_in_profile = |folder: std::path::PathBuf| profile.is_some_and(|p| folder.starts_with(p));
    if !folder.canonical().is_ok_and(is_in_profile) {
        let _ = restrict_to_owner(folder);
    }
}

#[cfg(windows)]
fn run_icacls(
    folder: &Path,
    add_options: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command,
) -> std::io::Result<()> {
    let mut command = std::process::Command::new("icacls.exe");
    let output = add_options(command.arg(folder)).output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(std::io::Error::other(message))
}

#[cfg(test)]
mod tests {
    use super::allows_other_users;

    #[test]
    fn an_access_list_shows_whether_others_have_access() {
        let private = "C:\\x\r\nD:PAI(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)\r\n";
        assert!(!allows_other_users(private));
        let user = "D:AI(A;OICIID;FA;;;S-1-5-21-1-2-3-1001)(A;ID;FA;;;SY)";
        assert!(!allows_other_users(user));
        assert!(!allows_other_users("D:(D;OICI;FA;;;WD)(A;;FA;;;SY)"));
        for trustee in ["WD", "AU", "BU"] {
            assert!(allows_other_users(&format!(
                "D:AI(A;;FA;;;SY)(A;OICIID;0x1301bf;;;{trustee})"
            )));
        }
    }
}
