//! `config`: lists and changes the settings of `config.toml`, and imports the home of an older tool.

mod import_python;

use self::import_python::ImportPythonArgs;
use crate::commands::account::printable;
use crate::config::file::{self, ConfigFile, ConfigFileError};
use crate::config::{self, FILE_NAME, KEYS, Setting, ValueKind};
use crate::context::{self, Context};
use crate::error::{CommandError, Outcome};
use crate::io::file_open;
use crate::io::staging::Staging;
use crate::io::{IoContext, atomic};
use crate::ui::Style;
use crate::ui::table::Table;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use toml_edit::Value;

/// Show and change settings
///
/// Settings are stored in config.toml of the manager home. Flags take precedence over the environment,
/// then come the file and the default. For the time zone the file takes precedence over TZ.
///
/// folders.PATH and trusted.PATH apply to a folder and everything below it. PATH is absolute or
/// begins with ~; the longest matching PATH wins. folders.PATH is the profile that launch uses there.
/// With trusted.PATH set to true, a .codex-account file there may name the profile.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:
  codex-manager config list
  codex-manager config set prune.keep_daily 7
  codex-manager config set backup.exclude '[\"logs_*.sqlite\", \"*.tmp\"]'
  codex-manager config set folders.~/clients/acme acme
  codex-manager config unset timezone"
)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    List(ConfigListArgs),
    Get(ConfigGetArgs),
    Set(ConfigSetArgs),
    Unset(ConfigUnsetArgs),
    Path(ConfigPathArgs),
    Edit(ConfigEditArgs),
    ImportPython(ImportPythonArgs),
}

/// List all settings with their values and where each value comes from
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config list
  codex-manager config list --json | jq '.settings[].key'")]
struct ConfigListArgs {}

/// Print the value of one setting
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config get timezone")]
struct ConfigGetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
}

/// Change a setting; comments in the file are kept
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config set timezone Europe/Berlin
  codex-manager config set prune.keep_within 14d
  codex-manager config set folders.~/clients/acme acme
  codex-manager config set trusted.~/work true")]
struct ConfigSetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
    /// The value to set
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// Show the change; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reset a setting to its default
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config unset timezone")]
struct ConfigUnsetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
    /// Show the change; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Print the path of config.toml
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config path")]
struct ConfigPathArgs {}

/// Edit config.toml in your editor; the result is saved only if it is valid
///
/// The editor is $VISUAL, else $EDITOR. An invalid result is kept beside the file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config edit
  EDITOR='code --wait' codex-manager config edit")]
struct ConfigEditArgs {
    /// Check the result; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// The source of a value, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum ValueOrigin {
    Flag,
    Environment,
    File,
    Default,
}

impl ValueOrigin {
    fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// A setting in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct SettingJson {
    key: String,
    value: Json,
    default: Json,
    origin: ValueOrigin,
}

#[derive(Debug, Serialize)]
struct SettingsJson {
    settings: Vec<SettingJson>,
    path: String,
}

#[derive(Debug, Serialize)]
struct SettingChangeJson {
    key: String,
    before: Json,
    after: Json,
    path: String,
    dry_run: bool,
}

impl ConfigArgs {
    /// # Errors
    /// An unknown setting, an invalid value, a file that is not TOML, or no editor. The file is unchanged
    /// then.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self.verb {
            ConfigCommand::List(ConfigListArgs {}) => list(context),
            ConfigCommand::Get(args) => get(context, &args.key),
            ConfigCommand::Set(args) => set(context, &args),
            ConfigCommand::Unset(args) => unset(context, &args),
            ConfigCommand::Path(ConfigPathArgs {}) => {
                let path = ConfigFile::path_in(&context.settings.manager_home);
                context.ui.line(path.display());
                context
                    .ui
                    .document("config path", &json!({ "path": path.to_string_lossy() }));
                Ok(Outcome::Done)
            }
            ConfigCommand::Edit(args) => edit(context, args.dry_run),
            ConfigCommand::ImportPython(args) => args.run(context),
        }
    }
}

fn list(context: &Context) -> Result<Outcome, CommandError> {
    let file = ConfigFile::read(&context.settings.manager_home)?;
    let ui = &context.ui;
    warn_about_unknown(context, &file);
    let keys: Vec<Setting> = KEYS.iter().map(Into::into).collect();
    let folders = file.folder_settings();
    let settings: Vec<_> = keys
        .iter()
        .chain(&folders)
        .map(|key| effective(key, &file, context))
        .collect();
    let mut table = Table::new(ui, &["KEY", "VALUE", "FROM", "FOR"]);
    let mut long = Vec::new();
    for (key, setting) in KEYS.iter().zip(&settings) {
        let style = match setting.origin {
            ValueOrigin::Default => Style::Dim,
            _ => Style::Plain,
        };
        let value = printable(&to_text(&setting.value));
        let cell = match setting.value {
            // The table wraps a list between its items.
            Json::Array(_) => value.clone(),
            _ => in_table(&value),
        };
        if cell != value {
            long.push((key.name.to_owned(), value));
        }
        let cells = [
            (Style::Plain, key.name.to_owned()),
            (style, cell),
            (style, setting.origin.name().to_owned()),
            (Style::Dim, key.about.to_owned()),
        ];
        table.row(ui, cells);
    }
    table.keep_whole(0);
    table.keep_words(1);
    ui.line(table.render());
    // Folder keys are paths, too long for a table of 80 columns.
    let folder_values = settings.iter().skip(KEYS.len());
    long.extend(folder_values.map(|s| (printable(&s.key), printable(&to_text(&s.value)))));
    for (name, value) in long {
        ui.line(format_args!("{name} = {value}"));
    }
    ui.note("change a setting: codex-manager config set KEY VALUE");
    let path = ConfigFile::path_in(&context.settings.manager_home);
    let path = path.to_string_lossy().into_owned();
    ui.document("config list", &SettingsJson { settings, path });
    // Invalid values are listed too, but the command fails, as all others do until they are fixed.
    file.values()?;
    Ok(Outcome::Done)
}

fn get(context: &Context, name: &str) -> Result<Outcome, CommandError> {
    let key = config::find(name)?;
    let file = ConfigFile::read(&context.settings.manager_home)?;
    let key = file.as_spelled(key, context.env.home_dir.as_deref());
    let setting = effective(&key, &file, context);
    context.ui.line(printable(&to_text(&setting.value)));
    context.ui.document("config get", &setting);
    Ok(Outcome::Done)
}

fn set(context: &Context, args: &ConfigSetArgs) -> Result<Outcome, CommandError> {
    let setting = config::find(&args.key)?;
    let kind = setting.key.kind;
    let value = kind.parse(&args.value).ok_or_else(|| {
        CommandError::usage(format!("invalid value for {}: {:?}", args.key, args.value))
            .hint(format!("expected {}; nothing was changed", kind.expected()))
    })?;
    let outcome = change(context, "config set", setting, args.dry_run, |file, key| {
        file.set(key, value)
    })?;
    let name = &args.value;
    let profile = context.manager_path("profiles").join(name);
    if matches!(kind, ValueKind::Profile) && !profile.join("profile.json").is_file() {
        context.ui.note(format_args!(
            "there is no profile {name} yet; create it with: codex-manager profile login {name}"
        ));
    }
    Ok(outcome)
}

fn unset(context: &Context, args: &ConfigUnsetArgs) -> Result<Outcome, CommandError> {
    let setting = config::find(&args.key)?;
    let dry_run = args.dry_run;
    change(context, "config unset", setting, dry_run, |file, key| {
        file.unset(key);
        Ok(())
    })
}

/// Changes one setting, or with `dry_run` only prints the change.
fn change(
    context: &Context,
    command: &str,
    setting: Setting,
    dry_run: bool,
    work: impl FnOnce(&mut ConfigFile, &Setting) -> Result<(), ConfigFileError>,
) -> Result<Outcome, CommandError> {
    let home = &context.settings.manager_home;
    let both = |file: &mut ConfigFile| {
        let setting = file.as_spelled(setting, context.env.home_dir.as_deref());
        let before = file.get(&setting).map_or(Json::Null, to_json);
        work(file, &setting)?;
        let after = file.get(&setting).map_or(Json::Null, to_json);
        Ok::<_, ConfigFileError>((setting, before, after))
    };
    let (setting, before, after) = if dry_run {
        file::target(&ConfigFile::path_in(home))?;
        both(&mut ConfigFile::read(home)?)?
    } else {
        file::update(home, both)?
    };
    let key = setting.name();
    let unset = match setting.folder {
        Some(_) => "not set",
        None => "the default",
    };
    let describe = |value: &Json| match value {
        Json::Null => unset.to_owned(),
        value => printable(&to_text(value)),
    };
    let name = printable(&key);
    let text = if before == after {
        format!(
            "{name} is {} already; nothing was changed",
            describe(&after)
        )
    } else {
        format!("{name}: {} → {}", describe(&before), describe(&after))
    };
    context.ui.prose(text);
    if dry_run {
        context.ui.note("dry run: nothing was written");
    }
    let path = ConfigFile::path_in(home).to_string_lossy().into_owned();
    context.ui.document(
        command,
        &SettingChangeJson {
            key,
            before,
            after,
            path,
            dry_run,
        },
    );
    Ok(Outcome::Done)
}

/// Returns the effective value of a setting and its source.
fn effective(setting: &Setting, file: &ConfigFile, context: &Context) -> SettingJson {
    let settings = &context.settings;
    let flags = &settings.flags;
    let key = setting.key;
    let in_file = file.get(setting);
    let variable = key
        .variable
        .is_some_and(|name| context.env.get(name).is_some());
    let by_flag = match key.name {
        "timezone" => flags.timezone.is_some(),
        "color" => flags.color.is_some(),
        "codex.home" => flags.codex_home.is_some(),
        "codex.bin" => flags.codex_bin.is_some(),
        _ => false,
    };
    // Every variable but TZ takes precedence over the file; TZ describes the machine.
    let origin = match (by_flag, variable, in_file) {
        (true, ..) => ValueOrigin::Flag,
        (_, _, Some(_)) if key.name == "timezone" => ValueOrigin::File,
        (_, true, _) if key.name != "timezone" || context::zone_of_tz(&context.env).is_some() => {
            ValueOrigin::Environment
        }
        (_, _, Some(_)) => ValueOrigin::File,
        _ => ValueOrigin::Default,
    };
    let default = config::default_of(key);
    let value = match (key.name, origin) {
        (_, ValueOrigin::File) => in_file.map_or(Json::Null, to_json),
        ("timezone", _) => json!(settings.zone.name()),
        ("color", _) => json!(settings.color.name()),
        ("codex.home", ValueOrigin::Flag | ValueOrigin::Environment) => {
            json!(settings.codex_home.to_string_lossy())
        }
        ("codex.bin", ValueOrigin::Flag) => {
            json!(settings.codex_bin.as_ref().map(|p| p.to_string_lossy()))
        }
        _ => default.clone(),
    };
    SettingJson {
        key: setting.name(),
        value,
        default,
        origin,
    }
}

/// Converts a value of the file to JSON.
fn to_json(value: &Value) -> Json {
    match value {
        Value::String(text) => json!(text.value()),
        Value::Integer(number) => json!(number.value()),
        Value::Float(number) => json!(number.value()),
        Value::Boolean(flag) => json!(flag.value()),
        Value::Array(list) => list.iter().map(to_json).collect(),
        other => json!(other.to_string().trim()),
    }
}

/// Shortens a value to the width of its column. The end is kept, because most long values are paths.
fn in_table(value: &str) -> String {
    const MAX_CHARS: usize = 16;
    match value.chars().count().checked_sub(MAX_CHARS) {
        None | Some(0) => value.to_owned(),
        Some(over) => format!("…{}", value.chars().skip(over + 1).collect::<String>()),
    }
}

/// Formats a value for people.
fn to_text(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) => text.clone(),
        Json::Array(list) => {
            let items: Vec<_> = list.iter().map(to_text).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}

fn warn_about_unknown(context: &Context, file: &ConfigFile) {
    for unknown in file.unknown() {
        context.ui.warn(format_args!(
            "{FILE_NAME}: {}",
            printable(&unknown.to_string())
        ));
    }
}

fn edit(context: &Context, dry_run: bool) -> Result<Outcome, CommandError> {
    let home = &context.settings.manager_home;
    let path = ConfigFile::path_in(home);
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| context.env.text(name))
        .ok_or_else(|| {
            let error = CommandError::usage("no editor is set");
            // `config set` cannot change a file that does not parse.
            if ConfigFile::read(home).is_ok() {
                error.hint(
                    "set EDITOR, or change a single setting: codex-manager config set KEY VALUE",
                )
            } else {
                error.hint(format!(
                    "set EDITOR, or fix or remove the file by hand: {}",
                    path.display()
                ))
            }
        })?;
    file::target(&path)?;
    let before = file::read_text(&path)?;
    let folder = EditFolder::new(context, dry_run)?;
    let copy = folder.path().join(FILE_NAME);
    atomic::write(&copy, before.as_bytes())?;
    open_editor(editor, &copy)?;
    let text = file_open::read_to_string(&copy).at("read", &copy)?;
    if text == before {
        context.ui.line("nothing was changed");
    } else {
        let checked = ConfigFile::parse(path.clone(), &text)
            .and_then(|file| file.values().map(|_| file))
            .map_err(CommandError::from);
        match checked {
            Ok(file) => {
                warn_about_unknown(context, &file);
                if !dry_run && !file::replace(home, &before, &file)? {
                    let conflict = CommandError::conflict(
                        "another command changed the settings in the meantime",
                    );
                    return Err(keep_rejected(&path, &copy, conflict)?);
                }
                let done = if dry_run { "is valid" } else { "was replaced" };
                context.ui.prose(format_args!("{} {done}", path.display()));
            }
            Err(e) if dry_run => return Err(e),
            Err(e) => return Err(keep_rejected(&path, &copy, e)?),
        }
    }
    let changed = text != before && !dry_run;
    context.ui.document(
        "config edit",
        &json!({ "path": path.to_string_lossy(), "changed": changed, "dry_run": dry_run }),
    );
    Ok(Outcome::Done)
}

/// The folder of the edited copy. In a dry run it is outside of the manager home, which stays unchanged.
enum EditFolder {
    Own { folder: PathBuf, _staging: Staging },
    Temporary(tempfile::TempDir),
}

impl EditFolder {
    fn new(context: &Context, dry_run: bool) -> Result<Self, CommandError> {
        if dry_run {
            let parent = context.env.temp_dir();
            let folder = tempfile::tempdir_in(&parent).at("create a folder in", &parent)?;
            return Ok(Self::Temporary(folder));
        }
        let staging = Staging::inside(&context.manager_path("tmp"))?;
        Ok(Self::Own {
            folder: staging.path(""),
            _staging: staging,
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Own { folder, .. } => folder,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// Saves a rejected text beside the file and adds its path to the error.
fn keep_rejected(
    path: &Path,
    copy: &Path,
    error: CommandError,
) -> Result<CommandError, CommandError> {
    let beside = path.with_file_name("config.rejected.toml");
    let text = file_open::read(copy).at("read", copy)?;
    atomic::write(&beside, &text)?;
    Ok(error.hint(format!(
        "the settings were not changed; your version is saved as {}",
        beside.display()
    )))
}

/// Runs the editor on `file` through the shell, because `EDITOR` may contain arguments.
fn open_editor(editor: &str, file: &Path) -> Result<(), CommandError> {
    let mut command = if cfg!(windows) {
        let mut words = editor.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or(editor));
        command.args(words);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{editor} \"$1\""), "sh"]);
        command
    };
    let status = command
        .arg(file)
        .status()
        .map_err(|e| CommandError::failed(format!("cannot run: {editor}")).because(e))?;
    if status.success() {
        Ok(())
    } else {
        Err(
            CommandError::failed(format!("the editor ended with {status}: {editor}"))
                .hint("the settings were not changed"),
        )
    }
}
