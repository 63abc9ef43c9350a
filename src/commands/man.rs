//! `man`: prints or writes manual pages, generated from the same text as `--help`.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::views::account::printable;
use crate::views::dry_run::would_be;
use clap::{Args, Command};
use clap_mangen::Man;
use codex_manager_core::io::progress::block_on_input;
use codex_manager_core::io::{IoContext, atomic, pluralize};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Show the manual page, or write one page per command
///
/// Opens the pager of man on a terminal; prints the page into a pipe.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager man
  codex-manager man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write the pages of all commands to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// With --dir: list the pages; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl ManArgs {
    /// Shows the page of the program, or writes the pages of all commands. `tree` is the clap definition of all
    /// commands.
    ///
    /// # Errors
    /// A page cannot be generated or written.
    pub(crate) fn run(self, context: &Context, tree: Command) -> Result<Outcome> {
        match &self.dir {
            None => show_page(tree, context)?,
            Some(dir) => write_pages(tree, &context.env.absolute(dir), self.dry_run, context)?,
        }
        Ok(Outcome::Done)
    }
}

fn show_page(tree: Command, context: &Context) -> Result<()> {
    let page = String::from_utf8_lossy(&render_page(tree)?).into_owned();
    if context.ui.writes_to_terminal() && show_with_man(&page, context).is_some() {
        return Ok(());
    }

    // A pipe, or a system without `man`, gets the source of the page.
    context.ui.line(page.trim_end());
    context.ui.document("man", &json!({ "page": page }));
    Ok(())
}

/// Writes one page for each command to `dir`.
fn write_pages(mut tree: Command, dir: &Path, dry_run: bool, context: &Context) -> Result<()> {
    // `build` gives the subcommands the names of their parents, which their pages need.
    tree.build();
    let mut pages = Vec::new();
    collect_pages(&tree, &mut pages)?;

    if !dry_run {
        std::fs::create_dir_all(dir).at("create folder", dir)?;
        for (name, page) in &pages {
            atomic::write_shared(&dir.join(name), page)?;
        }
    }

    let files: Vec<_> = pages.into_iter().map(|(name, _)| name).collect();
    let would_be_text = would_be(dry_run);
    let dir = dir.to_string_lossy();
    context.ui.prose(format_args!(
        "{} {would_be_text}written to {}",
        pluralize(files.len(), "page"),
        printable(&dir)
    ));
    let json = json!({ "dir": dir, "files": files, "dry_run": dry_run });
    context.ui.document("man", &json);
    Ok(())
}

/// Shows a page with the system's `man`, which formats it and opens a pager. Returns `None` if that is not
/// possible.
fn show_with_man(page: &str, context: &Context) -> Option<()> {
    let program = context.env.find_program(Path::new("man"))?;
    let page_file = tempfile::Builder::new()
        .prefix("codex-manager-")
        .suffix(".1")
        .tempfile_in(context.env.temp_dir());
    let mut page_file = page_file.ok()?;
    page_file.write_all(page.as_bytes()).ok()?;

    // The path of a file, because every `man` can show that.
    let mut command = context.env.command(&program);
    command.arg(page_file.path());
    // Ctrl-C is for the pager while it is open.
    let status = block_on_input(|| command.status()).ok()?;
    status.success().then_some(())
}

fn collect_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let man = Man::new(command.clone());
    pages.push((man.get_filename(), render_page(command.clone())?));
    // clap adds `help` to each command with subcommands.
    for subcommand in command.get_subcommands().filter(|c| c.get_name() != "help") {
        collect_pages(subcommand, pages)?;
    }
    Ok(())
}

fn render_page(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|e| CommandError::failed("cannot generate the manual page").because(e))?;
    Ok(page)
}
