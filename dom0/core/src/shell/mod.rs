//! Dom0's shell: a line of text becomes a typed [`Command`], keys become a line.
//!
//! Nothing is executed here. The names, options and messages are those of Xen's `xl` and `xenstore-*` tools, since
//! people and scripts know them.

mod bridge;
mod command;
mod complete;
mod cpus;
pub mod editor;
mod help;
mod numbers;
mod options;
mod parse;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod usage;
mod words;
mod xl;

pub use command::{Bridge, Command, ConsoleKind, DomainRef, Pool, Store, Target, Trace, Xl};
pub use complete::{Completion, completion};
pub use help::{help, xl_help};
pub use parse::parse;
pub use table::Source;
pub use usage::UsageError;
pub use words::{Unclosed, commands, split};
