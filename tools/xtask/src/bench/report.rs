//! `cargo xtask bench report`: the comparison with Xen and the history of the figures, as one picture.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use svg::Document;
use svg::node::element::{Group, Line, Polyline, Rectangle, Text, Title};

use super::record::{self, Record};
use super::table::{Figures, PATHS, Path, figure};
use crate::command;
use crate::paths::Paths;
use crate::ui;

/// Options of `cargo xtask bench report`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where the picture goes [default: docs/bench.svg]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Left edges of the columns and the size of what is in them, in pixels.
const TITLES: usize = 10;
const BARS: usize = 300;
const BARS_WIDTH: usize = 330;
const NUMBERS: usize = 645;
const HISTORY: usize = 900;
const HISTORY_WIDTH: usize = 150;
const WIDTH: usize = HISTORY + HISTORY_WIDTH + 15;
const HEAD: usize = 58;
const ROW: usize = 26;

/// Colours that are told apart on white by those who do not tell red from green.
const XEN: &str = "#b8bec8";
const OURS: &str = "#1f6feb";
const GOAL: &str = "#d9480f";

/// Draws the record and its history.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    let record: Record<f64> = Record::read(&record::kept(paths, record::PATHS))?;
    let history = history(paths)?;
    let file = options.output.clone().unwrap_or_else(|| paths.root().join("docs/bench.svg"));
    command::make_parent(&file)?;
    svg::save(&file, &picture(&record, &history)).with_context(|| format!("cannot write {}", file.display()))?;
    ui::say("bench", &format!("{} paths, {} records: {}", record.xenolith.len(), history.len(), file.display()));
    Ok(())
}

/// Xenolith's figures in each record that was ever committed, the oldest first, and in the one that stands there.
fn history(paths: &Paths) -> Result<Vec<Figures>> {
    let file = format!("tests/bench/{}", record::PATHS);
    let git = |words: &[&str]| -> Result<String> {
        let output = Command::new("git").arg("-C").arg(paths.root()).args(words).output().context("cannot run git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    };
    let mut history = Vec::new();
    for commit in git(&["log", "--reverse", "--format=%H", "--", &file])?.lines() {
        // A commit that removed the file, or one of another form, tells nothing.
        let text = git(&["show", &format!("{commit}:{file}")]).unwrap_or_default();
        history.extend(serde_json::from_str::<Record<f64>>(&text).map(|record| record.xenolith));
    }
    let now = Record::<f64>::read(&record::kept(paths, record::PATHS))?.xenolith;
    if history.last() != Some(&now) {
        history.push(now);
    }
    Ok(history)
}

fn picture(record: &Record<f64>, history: &[Figures]) -> Document {
    let rows = PATHS.iter().filter(|path| record.xenolith.contains_key(path.name));
    let height = HEAD + rows.clone().count() * ROW + 10;
    let document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "white"))
        .add(text(TITLES, 20, "Instructions on the paths through the hypervisor").set("font-weight", "bold"))
        .add(text(TITLES, 38, &format!("{}, {}, -icount shift=0", record.qemu, record.cpu)).set("fill", "#666"))
        .add(legend(BARS, XEN, "Xen"))
        .add(legend(BARS + 60, OURS, "Xenolith"))
        .add(legend(BARS + 150, GOAL, "goal"))
        .add(text(NUMBERS, 44, "Xen / Xenolith / goal (ratio)"))
        .add(text(HISTORY, 44, "each record since the first"));
    rows.enumerate()
        .fold(document, |document, (index, path)| document.add(row(path, HEAD + index * ROW, record, history)))
}

fn text(x: usize, y: usize, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

fn legend(x: usize, colour: &str, words: &str) -> Group {
    let square = Rectangle::new().set("x", x).set("y", 35).set("width", 10).set("height", 10).set("fill", colour);
    Group::new().add(square).add(text(x + 14, 44, words))
}

/// One path. Its bars are as long as their part of the longest among Xen's, Xenolith's and the goal.
fn row(path: &Path, y: usize, record: &Record<f64>, history: &[Figures]) -> Group {
    let (xen, ours) = (record.xen.get(path.name).copied(), record.xenolith.get(path.name).copied());
    let most = [xen, ours, path.goal].into_iter().flatten().fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| (value / most * BARS_WIDTH as f64).round();
    let bar = |value: Option<f64>, y: usize, colour: &str| {
        let width = value.map_or(0.0, length);
        Rectangle::new().set("x", BARS).set("y", y).set("width", width).set("height", 9).set("fill", colour)
    };
    let mut group = Group::new()
        .add(text(TITLES, y + 14, path.title))
        .add(bar(xen, y, XEN))
        .add(bar(ours, y + 10, OURS))
        .add(text(NUMBERS, y + 14, &numbers(xen, ours, path.goal)));
    if let Some(goal) = path.goal {
        let x = BARS as f64 + length(goal);
        let tick = Line::new().set("x1", x).set("x2", x).set("y1", y).set("y2", y + 20);
        group = group.add(tick.set("stroke", GOAL).set("stroke-width", 2));
    }
    group.add(course(path, y, history))
}

/// The figures as a person reads them.
fn numbers(xen: Option<f64>, ours: Option<f64>, goal: Option<f64>) -> String {
    let word = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let ratio = xen.zip(ours).filter(|(_, ours)| *ours > 0.0).map(|(xen, ours)| format!(" ({:.1}x)", xen / ours));
    format!("{} / {} / {}{}", word(xen), word(ours), word(goal), ratio.unwrap_or_default())
}

/// How Xenolith's figure went from record to record; its scale begins at zero.
fn course(path: &Path, y: usize, history: &[Figures]) -> Group {
    let values: Vec<f64> = history.iter().filter_map(|figures| figures.get(path.name).copied()).collect();
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let step = HISTORY_WIDTH as f64 / values.len().saturating_sub(1).max(1) as f64;
    let point = |(index, value): (usize, &f64)| {
        let (x, height) = (HISTORY as f64 + step * index as f64, value / most * 18.0);
        format!("{:.1},{:.1}", x, y as f64 + 19.0 - height)
    };
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    let ends = values
        .first()
        .zip(values.last())
        .map_or_else(String::new, |(first, last)| format!("{}: {} to {}", path.title, figure(*first), figure(*last)));
    let line = Polyline::new().set("points", points.join(" ")).set("fill", "none").set("stroke", OURS);
    Group::new().add(Title::new(ends)).add(line.set("stroke-width", 1.5))
}

#[cfg(test)]
mod tests {
    use super::{Figures, Record, numbers, picture};

    fn record(xen: f64, ours: f64) -> Record<f64> {
        let figures = |figure| Figures::from([("yield".to_owned(), figure)]);
        let [qemu, cpu, rustc] = [""; 3].map(str::to_owned);
        Record { qemu, cpu, rustc, about_xen: Vec::new(), xen: figures(xen), xenolith: figures(ours) }
    }

    #[test]
    fn the_numbers_stand_beside_their_ratio() {
        assert_eq!(numbers(Some(400.0), Some(100.0), Some(105.0)), "400 / 100 / 105 (4.0x)");
        assert_eq!(numbers(None, Some(0.0), None), "- / 0 / -");
    }

    #[test]
    fn the_picture_has_a_row_for_each_path_that_was_measured_and_its_course() {
        let history = [200.0, 150.0, 100.0].map(|figure| Figures::from([("yield".to_owned(), figure)]));
        let text = picture(&record(2000.0, 100.0), &history).to_string();
        assert!(text.contains("2000 / 100 / 300 (20.0x)"), "{text}");
        assert!(text.contains("points=\"900.0,"), "{text}");
        assert!(!text.contains("null hypercall"), "{text}");
    }
}
