//! `xl.cfg`: the text of a configuration becomes a [`DomainConfig`], or one line that names the culprit.
//!
//! Three steps in three files, so that each can be wrong in its own way only: `lexer` knows characters, `syntax`
//! knows assignments and lists, `domain` knows keys, types and ranges.

mod cpus;
mod domain;
mod error;
mod lexer;
mod limits;
mod pool;
mod read;
mod syntax;
#[cfg(test)]
mod tests;

pub use cpus::{Affinity, CpuSet};
pub(crate) use domain::check_name;
pub use domain::{Action, DomainConfig, Vuart};
pub use error::{ConfigError, Problem};
pub use limits::{MAX_EVENT_CHANNELS, MAX_GRANT_FRAMES, MAX_NAME_LEN, MAX_VCPUS};
pub use pool::PoolConfig;
pub use syntax::{RawConfig, Setting, Value};

/// What errors call the part of a configuration that was given as `key=value` after the file's name.
pub const COMMAND_LINE: &str = "command line";
