//! `cargo xtask trace`: what a trace of `xl trace` tells, as a summary and as a picture for Perfetto.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use qemu_tests::trace::{Trace, chrome, summarise};

use crate::ui;

/// Options of `cargo xtask trace`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The file that `xl trace` wrote, taken out of `/store`'s image; with --store, its path in there, as `/store/...`
    file: PathBuf,
    /// Read the file out of this image of `/store`
    #[arg(long, value_name = "IMAGE")]
    store: Option<PathBuf>,
    /// Where the JSON for ui.perfetto.dev and chrome://tracing goes [default: none is made]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the summary, and writes the JSON.
pub fn command(options: &Options) -> Result<()> {
    let name = options.file.display();
    let bytes = match &options.store {
        Some(image) => qemu_tests::files::read(image, &options.file.to_string_lossy())?,
        None => std::fs::read(&options.file).with_context(|| format!("cannot read {name}"))?,
    };
    let trace = Trace::read(&bytes).with_context(|| format!("{name}"))?;
    ui::print(&summarise(&trace))?;
    if let Some(json) = &options.json {
        let text = serde_json::to_vec(&chrome(&trace))?;
        std::fs::write(json, text).with_context(|| format!("cannot write {}", json.display()))?;
    }
    Ok(())
}
