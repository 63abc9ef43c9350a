//! `config list`, `get`, `set` and `unset`: the values of settings.

use crate::config::file::ConfigFile;
use crate::config::{self, KEYS, Setting, file_access};
use crate::context::{self, Context};
use crate::error::{CommandError, Outcome, Result};
use crate::ui::{Cell, Column, Style, Table, object, variant_name};
use crate::views::account::printable;
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::io::settings::{SettingKey, SettingsError, choice_name, parse_value};
use codex_manager_core::io::shell;
use serde::Serialize;
use serde_json::{Value as Json, json};
use toml_edit::Value;

const COLUMNS: [Column; 4] = [
    Column::new("KEY"),
    Column::new("VALUE"),
    Column::new("FROM").rank(1),
    Column::new("FOR").rank(2).wrap(15),
];

/// List all settings with their values and where each value comes from
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config list
  codex-manager config list --json | jq '.settings[].key'")]
pub(super) struct ConfigListArgs {
    #[command(flatten)]
    table: TableArgs,
}

/// Print the value of one setting
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config get timezone")]
pub(super) struct ConfigGetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
}

/// Change a setting; comments in the file are kept
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config set timezone Europe/Berlin
  codex-manager config set prune.keep_within 14d
  codex-manager config set folders.~/clients/acme acme")]
pub(super) struct ConfigSetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
    /// The value to set
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// Show the change; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Reset a setting to its default
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config unset timezone")]
pub(super) struct ConfigUnsetArgs {
    /// The name of the setting
    #[arg(value_name = "KEY")]
    key: String,
    /// Show the change; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The source of a value, in order of precedence. Only `TZ` comes after the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum ValueOrigin {
    Flag,
    Environment,
    File,
    Default,
}

/// A setting in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct SettingJson {
    key: String,
    value: Json,
    default: Json,
    origin: ValueOrigin,
}

pub(super) fn print_settings(context: &Context, args: &ConfigListArgs) -> Result<Outcome> {
    let context = &args.table.apply(context)?;
    let file = ConfigFile::read(context.manager_home())?;
    let ui = &context.ui;
    context.warn_of_unknown_keys(&file.unknown_keys());

    let settings: Vec<Setting> = KEYS
        .iter()
        .map(|key| Setting { key, folder: None })
        .chain(file.folder_settings())
        .collect();
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| read_effective_setting(setting, &file, context))
        .collect();

    let mut table = Table::new(ui, COLUMNS);
    let mut lines_below_table = Vec::new();
    for (Setting { key, folder }, row) in settings.iter().zip(&rows) {
        let value = printable(&format_value(&row.value));
        // The names of folder settings have paths, which are too long for a table of 80 columns.
        if folder.is_some() && !ui.wants_tsv() {
            lines_below_table.push((printable(&row.key), value));
            continue;
        }
        let style = match row.origin {
            ValueOrigin::Default => Style::Dim,
            _ => Style::Plain,
        };
        let short_value = if ui.is_terminal() {
            shorten_for_table(&value)
        } else {
            value.clone()
        };
        if short_value != value {
            lines_below_table.push((row.key.clone(), value.clone()));
        }
        table.add_row([
            Cell::plain(row.key.clone()),
            Cell::new(style, short_value).value(value),
            Cell::new(style, variant_name(row.origin)),
            Cell::new(Style::Dim, key.about),
        ]);
    }
    table.print(ui);
    for (name, value) in lines_below_table {
        ui.line(format_args!("{name} = {value}"));
    }

    ui.note("change a setting: codex-manager config set KEY VALUE");
    let path = ConfigFile::path_in(context.manager_home());
    let path = path.to_string_lossy().into_owned();
    let json = object().with("settings", rows).with("path", path);
    ui.document("config list", &json);

    // The list includes invalid values, but the command fails like all other commands until they are corrected.
    file.validate()?;
    Ok(Outcome::Done)
}

pub(super) fn print_setting(context: &Context, args: &ConfigGetArgs) -> Result<Outcome> {
    let setting = config::find_setting(&args.key)?;
    let file = ConfigFile::read(context.manager_home())?;
    let setting = file.with_spelling_of_file(setting, context.env.home_dir.as_deref());
    let row = read_effective_setting(&setting, &file, context);
    context.ui.line(printable(&format_value(&row.value)));
    context.ui.document("config get", &row);
    Ok(Outcome::Done)
}

pub(super) fn set_setting(context: &Context, args: &ConfigSetArgs) -> Result<Outcome> {
    let setting = config::find_setting(&args.key)?;
    let kind = setting.key.kind;
    let value = kind.parse(&args.value).ok_or_else(|| {
        CommandError::usage(format!("invalid value for {}: {:?}", args.key, args.value))
            .hint(format!("expected {}; nothing was changed", kind.describe()))
    })?;

    let is_folder_setting = setting.key.name == "folders";
    let outcome = change_setting(context, "config set", setting, args.dry_run, |file, key| {
        file.set(key, value)
    })?;

    let profile_folder = context.manager_path("profiles").join(&args.value);
    if is_folder_setting && !profile_folder.join("profile.json").is_file() {
        let name = shell::quote_if_needed(&args.value);
        context.note(format_args!(
            "there is no profile {name} yet; create it with: codex-manager profile login {name}"
        ));
    }
    Ok(outcome)
}

pub(super) fn unset_setting(context: &Context, args: &ConfigUnsetArgs) -> Result<Outcome> {
    let setting = config::find_setting(&args.key)?;
    let dry_run = args.dry_run;
    change_setting(context, "config unset", setting, dry_run, |file, key| {
        file.unset(key);
        Ok(())
    })
}

/// Changes one setting, or with `dry_run` only prints the change.
fn change_setting(
    context: &Context,
    command: &str,
    setting: Setting,
    dry_run: bool,
    edit: impl FnOnce(&mut ConfigFile, &Setting) -> Result<(), SettingsError>,
) -> Result<Outcome> {
    let home = context.manager_home();
    let edit_and_compare = |file: &mut ConfigFile| {
        let setting = file.with_spelling_of_file(setting, context.env.home_dir.as_deref());
        let before = file.get(&setting).map_or(Json::Null, to_json);
        edit(file, &setting)?;
        let after = file.get(&setting).map_or(Json::Null, to_json);
        Ok::<_, SettingsError>((setting, before, after))
    };

    // A dry run changes a copy in memory, and refuses a link without a target as the real run does.
    let (setting, before, after) = if dry_run {
        file_access::resolve_link_target(&ConfigFile::path_in(home))?;
        edit_and_compare(&mut ConfigFile::read(home)?)?
    } else {
        file_access::update(home, edit_and_compare)?
    };

    let key = setting.name();
    let describe = |value: &Json| match value {
        Json::Null if setting.folder.is_some() => "not set".to_owned(),
        Json::Null => "the default".to_owned(),
        value => printable(&format_value(value)),
    };
    let name = printable(&key);
    let new_text = describe(&after);
    context.ui.prose(if before == after {
        format!("{name} is already {new_text}; nothing was changed")
    } else {
        format!("{name}: {} → {new_text}", describe(&before))
    });

    let path = ConfigFile::path_in(home).to_string_lossy().into_owned();
    let json = object()
        .with("key", key)
        .with("before", before)
        .with("after", after)
        .with("path", path)
        .with("dry_run", dry_run);
    context.ui.document(command, &json);
    Ok(Outcome::Done)
}

/// Returns the effective value of a setting and its source.
fn read_effective_setting(setting: &Setting, file: &ConfigFile, context: &Context) -> SettingJson {
    let settings = &context.settings;
    let key = setting.key;
    let value_in_file = file.get(setting);
    let origin = find_origin(key, value_in_file.is_some(), context);

    let default = key.default_value().as_ref().map_or(Json::Null, to_json);
    // Only these settings have a flag, a variable, or a default that depends on the machine.
    let value = match (key.name, origin) {
        (_, ValueOrigin::File) => value_in_file.map_or(Json::Null, to_json),
        ("timezone", _) => json!(settings.zone.name()),
        ("color", _) => json!(choice_name(&settings.color)),
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

/// Returns the source of the value of `key`: a flag, the environment, the file or the default.
fn find_origin(key: &SettingKey, is_in_file: bool, context: &Context) -> ValueOrigin {
    let flags = &context.settings.flags;
    let is_set_by_flag = match key.name {
        "timezone" => flags.timezone.is_some(),
        "color" => flags.color.is_some(),
        "codex.home" => flags.codex_home.is_some(),
        "codex.bin" => flags.codex_bin.is_some(),
        _ => false,
    };
    let is_from_environment = if key.name == "timezone" {
        // TZ describes the machine, not codex-manager, so a value in the file takes precedence over it. A TZ that names
        // no known zone is ignored.
        !is_in_file && context::read_tz_zone(&context.env).is_some()
    } else {
        key.variable
            .is_some_and(|name| context.env.get(name).is_some())
    };

    if is_set_by_flag {
        ValueOrigin::Flag
    } else if is_from_environment {
        ValueOrigin::Environment
    } else if is_in_file {
        ValueOrigin::File
    } else {
        ValueOrigin::Default
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Array(list) => list.iter().map(to_json).collect(),
        // No setting has such a value, but the file may.
        Value::Datetime(_) | Value::InlineTable(_) => json!(value.to_string().trim()),
        value => parse_value(value).unwrap_or_default(),
    }
}

/// Shortens a value to 16 characters by dropping its beginning, because most long values are paths.
fn shorten_for_table(value: &str) -> String {
    const MAX_CHARS: usize = 16;
    match value.chars().count().checked_sub(MAX_CHARS) {
        None | Some(0) => value.to_owned(),
        // One character more is dropped for the `…`.
        Some(excess) => format!("…{}", value.chars().skip(excess + 1).collect::<String>()),
    }
}

/// Formats a value for people.
fn format_value(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) => text.clone(),
        Json::Array(list) => {
            let items: Vec<_> = list.iter().map(format_value).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}
