//! The help: commands by topic, examples before the global options, and `help global`.

use super::command::{Cli, GlobalArgs};
use clap::{Args, Command, CommandFactory};

/// The commands by topic, the most used first. A test compares it with the command tree.
pub const COMMANDS: &str = "\
Accounts:
  use           Switch the Codex home to another account; only auth.json changes
  accounts      Show all accounts, ready ones first, with their remaining quota
  login         Sign in to another account and save it as a profile
  current       Show the live account and the Codex programs that use the home
  launch        Start Codex under an account and record the conversation
  profile       Manage profiles: the saved logins of your accounts

Quota:
  recommend     Recommend the account to use now
  status        Show the quota of the live account, of another, or of all
  cooldown      Show all accounts, ready ones first; hold an account back
  list          List the accounts and their quota, like `accounts`
  usage         Show the tokens used, and what they would cost

Backups:
  backup        Archive the Codex home
  restore       Restore an archive into the Codex home
  list-backups  List archives, grouped by account
  verify        Check every byte and every database of archives
  diff          Show what the Codex home lost or gained since an archive
  prune         Move old archives to the trash
  vault         Keep encrypted, deduplicated snapshots elsewhere, with restic

Conversations:
  resume        Continue a conversation under the account to which it belongs
  sessions      List conversations
  find          Search the contents of conversations
  show          Show a conversation to read
  export        Export conversations as Markdown, HTML or JSON
  launches      List launches and their conversations
  mcp           Let agents search and read past conversations
  history       Find and repair conversations that Codex does not list
  storage       Show the disk usage of the Codex home, and reduce it

Sync:
  sync          Sync conversations through a cloud folder or the vault
  schedule      Run backup, sync and other jobs with the system's scheduler
  notify        Show news about accounts and backups on the desktop

Setup:
  doctor        Check Codex, the homes and the archives
  config        Show and change settings
  hook          Print shell code that shows the live account in the prompt
  completions   Print the script that completes commands, accounts and archives
  normalize     Import old login files such as `21apr_me@x.com_auth.json`
  man           Show the manual page, or write one page per command
  demo          Try backup, restore, switching, sync and search on a sample home
  help          Print the help of a command

Other names: ls = list, switch = use, backups = list-backups
";

/// The global options in one line each. A test compares it with the command tree.
pub const GLOBAL_OPTIONS: &str = "\
Global options (explained by: codex-manager help global):
      --codex-home <DIR>    The Codex home
      --manager-home <DIR>  The manager home, with archives and profiles
      --codex-bin <FILE>    The Codex program
      --timezone <ZONE>     The local time zone
      --json                Print one JSON document on stdout instead of text
  -q, --quiet               Print only errors and warnings
  -v, --verbose             Print files read and written, and programs started
      --color <WHEN>        When to use colour: auto, always, never
  -y, --yes                 Answer yes to every question";

/// Returns the tree of all commands, with the help in this order: description, arguments, examples, global options.
pub fn tree() -> Command {
    let usage = "{before-help}{about-with-newline}\n{usage-heading} {usage}\n\n";
    let top = format!("{usage}{COMMANDS}\nOptions:\n{{options}}{{after-help}}\n\n{GLOBAL_OPTIONS}");
    let inner = format!("{usage}{{all-args}}{{after-help}}\n\n{GLOBAL_OPTIONS}");
    let command = Cli::command().mut_args(|arg| {
        let is_global = arg.is_global_set();
        arg.hide_short_help(is_global).hide_long_help(is_global)
    });
    apply_template(command, &inner).help_template(top)
}

fn apply_template(command: Command, template: &str) -> Command {
    let template = template.to_owned();
    command
        .help_template(template.clone())
        .mut_subcommands(move |inner| apply_template(inner, &template))
}

/// Returns the complete help of the global options.
pub fn render_global_options() -> String {
    let command = GlobalArgs::augment_args(Command::new("codex-manager"))
        .disable_help_flag(true)
        .max_term_width(100)
        .help_template("{options}");
    let help = command.about(None).clone().render_long_help().to_string();
    format!(
        "Options of every command, before or after its name:\n\n{}",
        help.trim_end()
    )
}
