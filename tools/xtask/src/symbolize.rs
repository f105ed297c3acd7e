//! Turns the addresses of a crash into functions and lines.
//!
//! The hypervisor prints `image base 0x<address>` and frames as `  #<n> 0x<address>`; where it was loaded is
//! decided at boot, so the base is taken off before the ELF is asked.

use std::io::Read;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use object::{Object, ObjectSegment, ObjectSymbol};

use crate::paths::Paths;

/// Options of `cargo xtask symbolize`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A file with the console's text [default: stdin]
    file: Option<PathBuf>,
    /// The ELF that crashed [default: the hypervisor's]
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
}

/// Prints the text again, with what each frame is after its address.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    let text = match &options.file {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            text
        }
    };
    let elf = options.elf.clone().unwrap_or_else(|| paths.image("xenolith.elf"));
    let symbols = Symbols::open(&elf)?;
    print!("{}", resolve(&String::from_utf8_lossy(&text), |offset| symbols.frames(offset))?);
    Ok(())
}

/// Appends to each frame of `text` what `frames` knows of its offset from the image base.
fn resolve(text: &str, frames: impl Fn(u64) -> Vec<String>) -> Result<String> {
    let mut base = None;
    let mut out = String::new();
    let mut seen = 0;
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("image base ") {
            base = address(rest);
        }
        out.push_str(line.trim_end());
        out.push('\n');
        let Some(pc) = frame(line) else {
            continue;
        };
        seen += 1;
        let Some(base) = base else {
            bail!("a frame comes before the line `image base 0x...`");
        };
        for name in frames(pc.wrapping_sub(base)) {
            out.push_str(&format!("        {name}\n"));
        }
    }
    if seen == 0 {
        bail!("no line of the form `  #0 0x...` in the text");
    }
    Ok(out)
}

/// The address of a line `#<n> 0x<address>`, whatever stands before it.
fn frame(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once('#')?;
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    address(rest)
}

/// The hexadecimal number that a text begins with.
fn address(text: &str) -> Option<u64> {
    let digits = text.trim_start().strip_prefix("0x")?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, 16).ok()
}

/// The symbol at which the exception vectors begin.
const VECTORS: &str = "exception_vectors";

/// The instruction in the loop in which a pCPU waits for a lock, ISB (Arm ARM, C6.2), and the function of which it is.
const WAIT: u32 = 0xD503_3FDF;
const WAITS: &str = "spin_loop";

/// What an ELF knows about addresses.
pub struct Symbols {
    loader: Loader,
    base: u64,
    vectors: Option<u64>,
}

impl Symbols {
    /// Reads an ELF.
    pub fn open(elf: &Path) -> Result<Self> {
        let data = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let file = object::File::parse(data.as_slice()).with_context(|| format!("{}", elf.display()))?;
        let base = file.segments().map(|segment| segment.address()).min().context("the ELF has nothing to load")?;
        let loader = Loader::new(elf).map_err(|error| anyhow!("{}: {error}", elf.display()))?;
        let vectors = file.symbol_by_name(VECTORS).map(|symbol| symbol.address().wrapping_sub(base));
        Ok(Self { loader, base, vectors })
    }

    /// The offset of the exception vectors, if it has any.
    pub fn vectors(&self) -> Option<u64> {
        self.vectors
    }

    /// The function at an offset, the ones inlined there first, as `NAME at FILE:LINE`; the symbol alone when there are no
    /// lines.
    pub fn frames(&self, offset: u64) -> Vec<String> {
        let probe = self.base.wrapping_add(offset);
        let mut names = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(probe) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|function| function.demangle().ok().map(String::from));
                let place = frame
                    .location
                    .map(|location| format!("{}:{}", location.file.unwrap_or("?"), location.line.unwrap_or_default()));
                names.push(format!("{} at {}", name.as_deref().unwrap_or("?"), place.as_deref().unwrap_or("?")));
            }
        }
        if names.is_empty() {
            let symbol = self.loader.find_symbol(probe);
            names.push(symbol.map_or("?".to_owned(), |name| rustc_demangle::demangle(name).to_string()));
        }
        names
    }

    /// Where in `image`, which was made of this ELF, a pCPU waits for a lock, with the function that takes it.
    pub fn lock_waits(&self, image: &[u8]) -> Vec<(u64, String)> {
        let words = (0u64..).step_by(4).zip(image.as_chunks().0);
        let waits = words.filter(|(_, word)| u32::from_le_bytes(**word) == WAIT).filter_map(|(offset, _)| {
            let frames = self.frames(offset);
            frames
                .iter()
                .any(|frame| frame.contains(WAITS))
                .then(|| (offset, frames.last().cloned().unwrap_or_default()))
        });
        waits.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn frames_are_looked_up_relative_to_the_image_base() -> anyhow::Result<()> {
        let text = "panic\nimage base 0x40200000\n  #0 0x40201234\n  #1 0x40200010 (more)\n";
        let out = resolve(text, |offset| vec![format!("at {offset:#x}")])?;
        assert!(out.contains("#0 0x40201234\n        at 0x1234\n"), "{out}");
        assert!(out.contains("at 0x10\n"), "{out}");
        Ok(())
    }

    #[test]
    fn a_text_without_frames_or_without_a_base_is_an_error() {
        assert!(resolve("all is well\n", |_| Vec::new()).is_err());
        assert!(resolve("  #0 0x1000\n", |_| Vec::new()).is_err());
    }
}
