//! `recommend`: names the account to use now. Takes the quotas from `cooldown.json` and never queries Codex, because it
//! runs in shell prompts.

use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::best_login::{
    describe_missing_login, note_first_without_login, recheck_chosen_login,
};
use crate::steps::home_checks::check_credential_store;
use crate::steps::recommend_template::{Template, format_reason};
use crate::steps::switch_account::SwitchArgs;
use crate::ui::text_width::{columns, pad_end};
use crate::ui::{Style, object, windows};
use crate::views::account::{
    account_json, full_time, label, printable, read_known_accounts, state_style,
};
use crate::views::folder_account::{note_folder_account, read_folder_profile};
use crate::views::week_pace::format_exhaustion_hint;
use clap::Args;
use codex_manager_core::codex::CredentialStore;
use codex_manager_core::inventory::accounts::recheck_profile_logins;
use codex_manager_core::io::signals;
use codex_manager_core::quota::recommend::{RankedAccount, Ranking, Strategy, rank_accounts};
use codex_manager_core::quota::state::AccountState;
use codex_manager_core::quota::{Account, LoginState};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;

/// The time limit of `--format` in seconds, for a home on a disk that does not respond.
const PROMPT_TIMEOUT_SECONDS: u64 = 1;

const HELP: &str = "\
Fields of --format:
  {email} {profile} {account_id} {label}    the account; label is the profile, else the email
  {state} {login}                           ready, unknown or cooldown; ok, archived, none, unknown
  {reason}                                  why this account is recommended
  {next_available_at} {next_in}             RFC 3339; \"in 3 d 4 h\", or \"now\"
  {weekly_left} {weekly_used} {5h_left}     whole percentages, empty if unknown
  {prompt}                                  the live account, and a better one if there is one:
                                            \"work 12 % → personal 88 %\"
  {resets} {resets_until}                   the number of banked resets, empty if unknown; the day on which
                                            the next one expires
  {week_pace}                               \"on pace\", \"exhausted on Fri\"; empty if unknown
  {today_tokens} {today_cost}               \"1.20M\", \"$3.40\": use of today, of all accounts, as of
                                            the last find or usage; empty if unknown
  {{ }}                                     literal braces

Examples:
  codex-manager recommend
  codex-manager recommend --format '{email} {next_in}'
  codex-manager recommend --strategy expiring-first --explain
  codex-manager recommend --use --ready-only";

/// Recommend the account to use now
///
/// Ready accounts rank before unknown ones, and those before accounts in cooldown. Among the ready
/// ones, those with a saved login come first, then those with an archived login, then those without
/// one. Among equals --strategy decides; the default is the least recently used account.
#[derive(Debug, Default, Args)]
#[command(after_help = HELP)]
pub(crate) struct RecommendArgs {
    /// Print only this text with its {fields} filled in. For prompts: prints nothing if it takes more
    /// than a second
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "explain")]
    format: Option<String>,
    /// The order of several ready accounts [default: `recommend.strategy` of config.toml, else lru]
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<Strategy>,
    /// List all accounts with their rank and the reason for it
    #[arg(long)]
    explain: bool,
    /// Exit with 5 if no account is ready, instead of naming the one that is ready next
    #[arg(long)]
    ready_only: bool,
    /// Recommend API keys too, which are billed by use
    #[arg(long)]
    include_api_key: bool,
    /// Switch to the best account with a saved login. The output is that of `use`
    #[arg(long = "use", conflicts_with_all = ["format", "explain"])]
    switch: bool,
    /// With --use: stop Codex's background daemon, which keeps the old account
    #[arg(long, requires = "switch")]
    stop_daemon: bool,
    /// With --use: show what would be done; write nothing
    #[arg(short = 'n', long, requires = "switch")]
    dry_run: bool,
}

impl RecommendArgs {
    /// Parses `recommend` and `recommend --format TEMPLATE`, as prompts run it. clap would take a third of the run
    /// time. Returns `None` for other command lines.
    pub(crate) fn parse_prompt(words: &[OsString]) -> Option<Self> {
        let (verb, options) = words.split_first()?;
        let template = match options {
            [] => None,
            [flag, template] if flag == "--format" => Some(template.to_str()?.to_owned()),
            _ => return None,
        };
        let is_option = template.as_ref().is_some_and(|text| text.starts_with('-'));
        (verb == "recommend" && !is_option).then(|| Self {
            format: template,
            ..Self::default()
        })
    }

    pub(crate) fn prints_for_prompt(&self) -> bool {
        self.format.is_some()
    }

    /// # Errors
    /// No account can be recommended, the template is invalid, `cooldown.json` cannot be read, or with `--use` the
    /// switch fails.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let template = self.format.as_deref().map(Template::parse).transpose()?;
        let Some(template) = template else {
            let no_template = None;
            return self.recommend(no_template, context);
        };
        // A home on a network disk may hang, and the shell would show no prompt.
        signals::end_process_after(PROMPT_TIMEOUT_SECONDS);
        self.recommend(Some(&template), context)
            .map_err(CommandError::silence)
    }

    /// Prints the recommended account, in the form of `template` if there is one. With `--use`, switches to it instead;
    /// with `--explain`, prints all accounts in order.
    fn recommend(self, template: Option<&Template>, context: &Context) -> Result<Outcome> {
        let mut accounts = read_known_accounts(context)?;
        // Checking a login reads its file, so only accounts that will be shown are checked.
        if self.explain || context.ui.wants_json() {
            recheck_profile_logins(context.manager_home(), &mut accounts);
        } else {
            let shows_better = template.is_some_and(Template::shows_better_account);
            self.recheck_shown_candidates(&mut accounts, shows_better, context);
        }

        let ranking = self.rank(&accounts, context);
        let best = self.best_candidate(&ranking);
        let Some(best) = best.filter(|best| !self.ready_only || best.is_ready()) else {
            // With `--json`, `null` is the document of this outcome.
            context.ui.print_bare_json(&Value::Null);
            return Err(no_account_error(&self, &ranking, context));
        };

        if self.switch {
            return self.switch_to(best, &ranking, context);
        }

        // The document is built only for `--json`, because that takes longer than all other steps after reading the
        // accounts.
        if context.ui.wants_json() {
            print_json(best, &ranking, context);
        }

        if let Some(template) = template {
            context.ui.line(template.fill_in(best, &ranking, context));
        } else if self.explain {
            print_ranking(&ranking, context);
        } else {
            print_best(best, &ranking, context);
        }
        if template.is_none() {
            note_folder_account(&accounts, context);
        }
        Ok(Outcome::Done)
    }

    fn switch_to(
        &self,
        best: &RankedAccount<'_>,
        ranking: &Ranking<'_>,
        context: &Context,
    ) -> Result<Outcome> {
        note_first_without_login(ranking, best, context);
        context.note(format_args!(
            "{}: {}",
            label(best.account),
            format_reason(best, ranking, context)
        ));
        check_credential_store(context)?;
        let switch_args = SwitchArgs::for_recommend(self.stop_daemon, self.dry_run);
        switch_args.run(&best.account.entry.identity, context)
    }

    /// Ranks the accounts. The options of the command line take precedence over `config.toml`.
    fn rank<'a>(&self, accounts: &'a [Account], context: &Context) -> Ranking<'a> {
        let preferences = &context.settings.preferences;
        let strategy = self.strategy.unwrap_or(preferences.strategy);
        let include_api_key = self.include_api_key || preferences.include_api_key;
        rank_accounts(accounts, strategy, include_api_key, &context.now())
    }

    /// Checks the login of the best account. If the template `shows_better`, also checks the login of the best
    /// account that is better than the live one.
    fn recheck_shown_candidates(
        &self,
        accounts: &mut [Account],
        shows_better: bool,
        context: &Context,
    ) {
        recheck_chosen_login(accounts, context, |accounts| {
            let ranking = self.rank(accounts, context);
            let best = self.best_candidate(&ranking)?;
            accounts.iter().position(|a| a == best.account)
        });

        if shows_better {
            recheck_chosen_login(accounts, context, |accounts| {
                let ranking = self.rank(accounts, context);
                let better = ranking.find_better()?;
                accounts.iter().position(|a| a == better.account)
            });
        }
    }

    /// Returns the best account; with `--use` the best one with a saved login.
    fn best_candidate<'r, 'a>(&self, ranking: &'r Ranking<'a>) -> Option<&'r RankedAccount<'a>> {
        let mut candidates = ranking.candidates.iter();
        candidates.find(|c| !self.switch || c.account.login == LoginState::Ok)
    }
}

/// Returns the reason why an account ranks below accounts with a saved login; `None` if its own login is saved or
/// unknown, or if the account is excluded.
fn login_rank_note(account: &Account) -> Option<&'static str> {
    match account.login {
        LoginState::Archived => Some("login only in an archive or in an old login file"),
        LoginState::None => Some("no saved login"),
        _ => None,
    }
}

/// Returns the error for "no account to recommend".
fn no_account_error(
    args: &RecommendArgs,
    ranking: &Ranking<'_>,
    context: &Context,
) -> CommandError {
    match ranking.candidates.first() {
        Some(best) if args.switch && (best.is_ready() || !args.ready_only) => {
            // Accounts can be recommended, but `--use` needs one with a saved login.
            let message = "cannot switch: no account with a saved login can be recommended";
            CommandError::refused(message).hint(format!(
                "the best account is {}; save its login: codex-manager profile save NAME --from FILE",
                label(best.account)
            ))
        }
        Some(best) => {
            let next_note = match best.verdict.next_available_at {
                Some(at) if args.ready_only => {
                    let name = label(best.account);
                    format!("; next: {name}, {}", full_time(&at, context))
                }
                _ => String::new(),
            };
            CommandError::refused(format!("no account is ready{next_note}"))
                .hint("list all accounts: codex-manager accounts")
        }
        None if ranking.excluded.is_empty() => {
            let error = CommandError::refused("no account is known yet");
            // A prompt shows no hints, and must not wait for the list of archives.
            if args.format.is_some() {
                return error;
            }
            error.hint_each(suggest_login(context))
        }
        None => {
            CommandError::refused("no account can be recommended: every login has expired or moved")
                .hint("list all accounts: codex-manager accounts")
        }
    }
}

fn print_json(best: &RankedAccount<'_>, ranking: &Ranking<'_>, context: &Context) {
    let candidates = ranking.candidates.iter();
    let candidates = candidates.map(|c| candidate_json(c, ranking, context));
    let document = object()
        .with("recommended", candidate_json(best, ranking, context))
        .with("candidates", candidates.collect::<Vec<_>>())
        .with("strategy", ranking.strategy)
        .with("folder_profile", read_folder_profile(context));
    context.ui.document("recommend", &document);
}

/// Returns a candidate in JSON: its account, and the reason for its rank.
fn candidate_json<'a>(
    candidate: &RankedAccount<'a>,
    ranking: &Ranking<'_>,
    context: &Context,
) -> impl Serialize + use<'a> {
    account_json(candidate.account, &candidate.verdict, context)
        .with("reason", format_reason(candidate, ranking, context))
}

fn print_best(best: &RankedAccount<'_>, ranking: &Ranking<'_>, context: &Context) {
    let ui = &context.ui;
    let entry = &best.account.entry;
    let email = printable(entry.identity.email.as_str());
    let name = match &entry.profile {
        Some(profile) => format!("{} ({email})", printable(profile)),
        None => email,
    };
    ui.prose(ui.paint(state_style(best.verdict.state), name));
    ui.prose(format_args!("  {}", format_reason(best, ranking, context)));

    let live = ranking.live().filter(|live| live.is_ready());
    if let Some(live) = live.filter(|live| !std::ptr::eq(live.account, best.account)) {
        let left_note = live.weekly_left.map_or(String::new(), |left| {
            format!("; {left:.0} % of the weekly quota left")
        });
        let name = label(live.account);
        ui.prose(format_args!(
            "  {name}, the live account, is ready too{left_note}"
        ));
    }

    let credential_store = CredentialStore::read(context.codex_home());
    match best.account.login {
        LoginState::Ok if best.account.current => {
            ui.note("it is already the live account");
            let is_key = entry.identity.kind.is_billed_by_use();
            if best.verdict.state == AccountState::Unknown && !is_key {
                ui.note("query its quota: codex-manager status");
            }
        }
        LoginState::Ok if !credential_store.always_reads_auth_json() => ui.note(format_args!(
            "cannot switch to it: {}",
            credential_store.auth_json_problem()
        )),
        LoginState::Ok => ui.note(format_args!(
            "switch to it: codex-manager use {}",
            label(best.account)
        )),
        _ => ui.note(describe_missing_login(best.account, context)),
    }
}

/// Prints one line per account; excluded accounts come last.
fn print_ranking(ranking: &Ranking<'_>, context: &Context) {
    // The width of the rank and the spaces around it.
    const MARGIN: usize = 6;
    // A longer name would leave too little width for the reasons.
    const MAX_NAME_WIDTH: usize = 40;

    let ui = &context.ui;
    let all_accounts = || ranking.candidates.iter().chain(&ranking.excluded);
    let name_widths = all_accounts().map(|c| columns(&label(c.account)));
    let longest = name_widths.max().unwrap_or(0);

    let max_width = MAX_NAME_WIDTH.min((ui.width() / 2).saturating_sub(MARGIN));
    // Below a longer name, the reasons get the whole width.
    let indent = if longest > max_width { 0 } else { longest };
    let name_width = longest.min(max_width);

    for (i, candidate) in all_accounts().enumerate() {
        let name = pad_end(&label(candidate.account), name_width);
        let (rank, style) = if i < ranking.candidates.len() {
            (format!("{}.", i + 1), state_style(candidate.verdict.state))
        } else {
            ("-".into(), Style::Dim)
        };

        let mut notes = vec![format_reason(candidate, ranking, context)];
        notes.extend(login_rank_note(candidate.account).map(str::to_owned));
        notes.extend(format_exhaustion_hint(
            candidate.account,
            &candidate.verdict,
            context,
        ));
        let observation = candidate.account.entry.observation.as_ref();
        notes.extend(observation.and_then(|observation| {
            windows::format_resets(observation, context.zone(), &context.now())
        }));

        let line = format!("{rank:>3} {}  {}", ui.paint(style, name), notes.join("; "));
        ui.print_hanging(MARGIN + indent, line);
    }
}
