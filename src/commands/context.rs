//! What every command is given: what was typed globally, the config, the output.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};

use super::exit::{CommandError, Exit};
use super::output::{ColorChoice, Output};
use crate::config::{self, Environment, Loaded, LogConfig, Origin, Override, Sources};
use crate::runtime::telemetry::{self, Logs};

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Config file, instead of $CONVPIPE_CONFIG, ./convpipe.yaml, ./.convpipe/convpipe.yaml, the user's and the machine's.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Whether there are colours; auto: on a terminal, unless NO_COLOR is set or TERM is dumb.
    #[arg(long, value_name = "auto|always|never", global = true, value_enum, default_value_t, hide_possible_values = true)]
    pub color: ColorChoice,
    /// Log more: -v what convpipe does in detail, -vv everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to log: `warn`, `debug`, or a filter such as `info,convpipe::ws=debug`.
    #[arg(long, value_name = "FILTER", global = true, conflicts_with = "verbose")]
    pub log: Option<String>,
    /// Show foreign text as it came, escape sequences included.
    #[arg(long, global = true)]
    pub allow_escape_sequences: bool,
}

impl Globals {
    /// What the global options say of config keys.
    fn overrides(&self) -> Vec<Override> {
        let filter = |flag, value: &str| vec![Override { key: "log.filter", flag, value: value.to_owned() }];
        match (&self.log, self.verbose) {
            (Some(value), _) => filter("--log", value),
            (None, 0) => Vec::new(),
            (None, 1) => filter("--verbose", "info,convpipe=debug"),
            (None, _) => filter("--verbose", "trace"),
        }
    }
}

/// What a command works with. The config is loaded when it is first asked for, so that a command that needs none works without.
pub struct Context {
    globals: Globals,
    environment: Environment,
    output: Output,
    loaded: OnceCell<Loaded>,
    /// The file that says where Redis is, if one does.
    redis_file: RefCell<Option<PathBuf>>,
}

impl Context {
    /// Ready for a command; nothing is read yet.
    #[must_use]
    pub fn new(globals: Globals, environment: Environment) -> Self {
        let output = Output::new(globals.color, &environment, globals.allow_escape_sequences);
        Self { globals, environment, output, loaded: OnceCell::new(), redis_file: RefCell::default() }
    }

    /// Where to print.
    #[must_use]
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// The environment of the process.
    #[must_use]
    pub const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What was typed globally.
    #[must_use]
    pub const fn globals(&self) -> &Globals {
        &self.globals
    }

    /// The config, loaded once.
    ///
    /// # Errors
    /// With [`Exit::Config`], naming every problem and its place.
    pub fn config(&self) -> Result<&Loaded, CommandError> {
        match self.loaded.get() {
            Some(loaded) => Ok(loaded),
            None => {
                let loaded = self.config_with(Vec::new())?;
                Ok(self.loaded.get_or_init(|| loaded))
            }
        }
    }

    /// The config with what the flags of one command say of single keys. Loaded anew with every call.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub fn config_with(&self, own: Vec<Override>) -> Result<Loaded, CommandError> {
        let overrides: Vec<Override> = self.globals.overrides().into_iter().chain(own).collect();
        let sources = Sources { file: self.globals.config.as_deref(), overrides: &overrides, ..Sources::new(&self.environment) };
        let loaded = config::load(&sources)?;
        let is_of_file = matches!(loaded.origins.get("redis.url"), Some(Origin::File { .. }));
        self.redis_file.replace(loaded.file.clone().filter(|_| is_of_file));
        Ok(loaded)
    }

    /// The config of a file that the command chooses itself, with what it says of single keys.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub fn config_from(&self, file: &Path, own: Vec<Override>) -> Result<Loaded, CommandError> {
        let overrides: Vec<Override> = self.globals.overrides().into_iter().chain(own).collect();
        Ok(config::load(&Sources { file: Some(file), overrides: &overrides, ..Sources::new(&self.environment) })?)
    }

    /// What to say where Redis is looked for as a `dev` wrote it that does not run any more; `None` where somebody else says where it is.
    #[must_use]
    pub fn abandoned_dev(&self) -> Option<String> {
        let file = self.redis_file.borrow();
        let file = file.as_deref().filter(|file| super::dev::is_abandoned(file))?;
        let (name, dir) = (file.display(), file.parent().unwrap_or(file).display());
        Some(format!(
            "{name} was written by a `convpipe dev` that is not running any more: start `convpipe dev` again, with --keep to go on with what is there, or remove {dir}"
        ))
    }

    /// Starts the log of a daemon, on stderr.
    ///
    /// # Errors
    /// With [`Exit::Config`], where the filter cannot be read.
    pub fn start_logging(&self, config: &LogConfig) -> Result<Logs, CommandError> {
        Ok(telemetry::init(config)?)
    }

    /// Runs a command's asynchronous part to its end, on a runtime of its own.
    ///
    /// # Errors
    /// The command's own, or [`Exit::TryLater`] where the machine has no threads left for a runtime.
    pub fn block_on<T>(&self, command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::new(Exit::TryLater, "cannot start the runtime").caused_by(&error))?;
        runtime.block_on(command)
    }

    /// The end of the process: hands what is buffered to the reader, tells the error, and gives the code.
    #[must_use]
    pub fn conclude(&self, outcome: Result<Exit, CommandError>) -> Exit {
        let flushed = self.output.flush();
        let error = match (outcome, flushed) {
            (Ok(exit), Ok(())) => return exit,
            (Err(error), _) | (Ok(_), Err(error)) => error,
        };
        let error = match self.abandoned_dev().filter(|_| error.is_of_redis()) {
            Some(hint) => error.hint(hint),
            None => error,
        };
        error.lines(|tone, text| self.output.note_tone(tone, text)).iter().for_each(|line| self.output.note(line));
        error.exit()
    }
}
