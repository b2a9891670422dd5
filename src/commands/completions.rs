//! `convpipe completions`: a script that completes commands and flags, and the ids of accounts and fans.
//!
//! The script that clap makes knows what can be typed. Around it stands a little of our own that asks `convpipe complete` what ids there are,
//! and completes as clap would where there are none.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, CommandError, Context, Exit};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
In bash, zsh and fish the ids of accounts (--account) and of fans (inspect-fan)
are completed too: accounts from the folder of the artifacts (auth.dir), fans
from Redis, the latest first. Redis is asked for at most 0.3 s; where it does
not answer, no ids are offered. The config is the one that the line names with
--config, or the one that is found.

Examples:
  source <(convpipe completions bash)
  convpipe completions zsh > ~/.zfunc/_convpipe
  convpipe completions fish > ~/.config/fish/completions/convpipe.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs `convpipe completions`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    context.output().bytes(script(args.shell).as_bytes())?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "convpipe", &mut script);
    // clap writes what our own definition says, which is UTF-8.
    let script = String::from_utf8(script).unwrap_or_default();
    match shell {
        Shell::Bash => script + BASH,
        // The name by which zsh calls it becomes ours.
        Shell::Zsh => script.replacen("\n_convpipe() {", &format!("{ZSH}\n_convpipe_words() {{"), 1),
        Shell::Fish => {
            let of_accounts = |line: &str| line.contains(" -l account ") && line.ends_with(" -r");
            let lines = script.lines().map(|line| match line.strip_suffix(" -r").filter(|_| of_accounts(line)) {
                Some(line) => format!("{line} -x -a '(__convpipe_ids)'\n"),
                None => format!("{line}\n"),
            });
            lines.chain([FISH.to_owned()]).collect()
        }
        _ => script,
    }
}

const BASH: &str = r#"
_convpipe_or_ids() {
    local ids
    ids="$(convpipe complete -- "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null)"
    if [[ -n "$ids" ]]; then
        COMPREPLY=($(compgen -W "$ids" -- "${COMP_WORDS[COMP_CWORD]}"))
    else
        _convpipe "$@"
    fi
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _convpipe_or_ids -o nosort -o bashdefault -o default convpipe
else
    complete -F _convpipe_or_ids -o bashdefault -o default convpipe
fi
"#;

const ZSH: &str = r#"
_convpipe() {
    local -a ids
    ids=(${(f)"$(convpipe complete -- "${(@)words[1,CURRENT]}" 2>/dev/null)"})
    if (( $#ids )); then
        compadd -V ids -a ids
    else
        _convpipe_words "$@"
    fi
}
"#;

const FISH: &str = r#"
function __convpipe_ids
    convpipe complete -- (commandline -opc) (commandline -ct) 2>/dev/null
end
complete -c convpipe -n "__fish_convpipe_using_subcommand inspect-fan" -f -k -a "(__convpipe_ids)"
complete -c convpipe -n "__fish_convpipe_using_subcommand auth-refresh; and __fish_seen_subcommand_from request" -f -a "(__convpipe_ids)"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is put into clap's scripts hangs on to how they look; the tests with real shells are skipped where there is none.
    #[test]
    fn every_script_asks_for_ids() {
        assert!(script(Shell::Bash).contains("complete -F _convpipe_or_ids"));
        let zsh = script(Shell::Zsh);
        assert_eq!((zsh.matches("\n_convpipe() {").count(), zsh.matches("\n_convpipe_words() {").count()), (1, 1));
        let fish = script(Shell::Fish);
        assert!(fish.lines().filter(|line| line.contains(" -l account ")).all(|line| line.ends_with("-a '(__convpipe_ids)'")));
        assert!(fish.contains("function __fish_convpipe_using_subcommand"));
    }
}
