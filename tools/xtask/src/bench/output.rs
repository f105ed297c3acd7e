//! Reads what the measuring guest prints.

use anyhow::{Context, Result, bail, ensure};

use super::table::Figures;

/// How the guest's lines begin.
const MARK: &str = "paths: ";

/// A line of the guest's output that is the last.
pub const END: &str = "paths: end";

/// Nanoseconds of a second, and so instructions: the machine makes one each.
const PER_SECOND: f64 = 1e9;

/// What the guest found out.
#[derive(Debug, Default)]
pub struct Output {
    /// Instructions of the paths that it measured.
    pub figures: Figures,
    /// What it says about paths that it could not measure.
    pub failures: Vec<String>,
}

impl Output {
    /// The figures, if all paths could be measured.
    pub fn complete(self) -> Result<Figures> {
        if !self.failures.is_empty() {
            bail!("{}", self.failures.join("\n"));
        }
        Ok(self.figures)
    }
}

/// Reads the lines `paths: NAME TICKS ROUNDS`; `paths: hz N` comes first.
pub fn read(text: &str) -> Result<Output> {
    let mut output = Output::default();
    let mut per_tick = None;
    let lines = text.lines().filter_map(|line| line.split_once(MARK).map(|(_, rest)| rest.trim()));
    for line in lines.filter(|line| *line != "end") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<f64>().ok();
        match words.as_slice() {
            ["hz", hz] => per_tick = number(hz).map(|hz| PER_SECOND / hz),
            [name, ticks, rounds] if number(ticks).is_some() && number(rounds).is_some() => {
                let per_tick = per_tick.context("the guest did not say how fast its clock is")?;
                let (ticks, rounds) = (number(ticks).unwrap_or_default(), number(rounds).unwrap_or(1.0));
                output.figures.insert((*name).to_owned(), rounded(ticks * per_tick / rounds));
            }
            [_, ..] => output.failures.push(line.to_owned()),
            [] => {}
        }
    }
    ensure!(!output.figures.is_empty(), "the guest printed no figures:\n{text}");
    if let (Some(busy), Some(plain)) =
        (output.figures.remove("null_hypercall_in_flight"), output.figures.get("null_hypercall"))
    {
        let extra = busy - plain;
        output.figures.insert("in_flight".to_owned(), extra);
    }
    Ok(output)
}

/// A path takes whole instructions; what is left is the part of a tick. The cost of a byte is less than one.
fn rounded(instructions: f64) -> f64 {
    if instructions < 10.0 { (instructions * 10_000.0).round() / 10_000.0 } else { instructions.round() }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn ticks_become_instructions_whatever_stands_before_the_mark() -> anyhow::Result<()> {
        let text =
            "paths: hz 62500000\r\n(d2) paths: null_hypercall 1600 256\nother\npaths: yield failed: why\npaths: end\n";
        let output = read(text)?;
        assert_eq!(output.figures.get("null_hypercall"), Some(&100.0));
        assert_eq!(output.failures, ["yield failed: why"]);
        Ok(())
    }

    #[test]
    fn the_extra_cost_of_an_interrupt_in_flight_is_a_difference() -> anyhow::Result<()> {
        let output =
            read("paths: hz 62500000\npaths: null_hypercall 1600 256\npaths: null_hypercall_in_flight 1616 256\n")?;
        assert_eq!(output.figures.get("in_flight"), Some(&1.0));
        Ok(())
    }

    #[test]
    fn a_console_without_figures_is_an_error() {
        assert!(read("nothing\n").is_err());
    }
}
