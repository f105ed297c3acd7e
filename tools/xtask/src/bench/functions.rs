//! Where the instructions of a path are: the list from which a shorter path is made.

use anyhow::{Context, Result};

use super::{watch::Trace, xenolith};
use crate::paths::Paths;
use crate::symbolize::Symbols;

/// Bytes of the exception vectors, and what they are aligned to (Arm ARM, D1.3.1).
const VECTORS_SIZE: u64 = 0x800;

/// Prints the functions of a path in the order in which they are executed, each with its instructions in a row.
pub fn show(paths: &Paths, cpu: &str, name: &str) -> Result<()> {
    let symbols = Symbols::open(&paths.image("xenolith.elf"))?;
    let trace = xenolith::follow(paths, cpu)?;
    let path = trace.get(name).with_context(|| format!("no path {name}; there are {}", names(&trace)))?;
    let (first, _) = path.first().context("nothing is executed at EL2 on this path")?;
    let vectors = symbols.vectors().context("the hypervisor has no vectors")?;
    let base = first / VECTORS_SIZE * VECTORS_SIZE - vectors;
    let mut runs: Vec<(String, u64)> = Vec::new();
    for (pc, _) in path {
        let function = function(&symbols.frames(pc.wrapping_sub(base)));
        match runs.last_mut() {
            Some((last, count)) if *last == function => *count += 1,
            _ => runs.push((function, 1)),
        }
    }
    for (function, count) in &runs {
        println!("{count:>6}  {function}");
    }
    println!("{:>6}  in all", path.len());
    Ok(())
}

/// The names of the paths.
fn names(trace: &Trace) -> String {
    trace.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The function that an instruction was compiled into, whatever was inlined there.
fn function(frames: &[String]) -> String {
    let frame = frames.last().map_or("?", String::as_str);
    frame.split(" at ").next().unwrap_or(frame).to_owned()
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn what_is_inlined_counts_for_the_function_around_it() {
        let frames = ["<Option<T>>::map at a.rs:1", "kernel_core::evtchn::send at b.rs:2"];
        assert_eq!(function(&frames.map(str::to_owned)), "kernel_core::evtchn::send");
        assert_eq!(function(&["memcpy".to_owned()]), "memcpy");
    }
}
