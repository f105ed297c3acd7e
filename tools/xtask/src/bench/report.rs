//! `cargo xtask bench report`: the comparison with Xen and the history of the figures, as one picture.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use svg::Document;
use svg::node::element::{Group, Line, Polyline, Rectangle, Text, Title};

use super::io;
use super::record::{self, Record};
use super::table::{self, Figures, PATHS};
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

/// Below a section, before the next one.
const GAP: usize = 14;

/// What the picture tells of a row.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    title: &'static str,
    goal: Option<f64>,
    /// Whether more is better.
    more: bool,
}

/// The rows of one record.
struct Section {
    title: &'static str,
    rows: Vec<Row>,
    record: Record<f64>,
    /// Xenolith's figures in each record, the oldest first.
    history: Vec<Figures>,
    /// How a figure is written.
    figure: fn(f64) -> String,
}

impl Section {
    /// The record `name` as it stands, of which `rows` tell.
    fn read(
        paths: &Paths,
        name: &str,
        title: &'static str,
        rows: impl Iterator<Item = Row>,
        figure: fn(f64) -> String,
    ) -> Result<Self> {
        let record = Record::read(&record::kept(paths, name))?;
        let history = history(paths, name, &record)?;
        Ok(Section { title, rows: rows.collect(), record, history, figure })
    }

    /// The rows that were measured.
    fn measured(&self) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter().filter(|row| self.record.xenolith.contains_key(row.name))
    }

    /// Its height in the picture.
    fn height(&self) -> usize {
        HEAD + self.measured().count() * ROW + GAP
    }
}

/// Draws the records and their history.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    let by_path = PATHS.iter().map(|&table::Path { name, title, goal }| Row { name, title, goal, more: false });
    let of_io = io::ROWS.iter().map(|&io::Row { name, title, goal, more, .. }| Row { name, title, goal, more });
    let sections = [
        Section::read(
            paths,
            record::PATHS,
            "Instructions on the paths through the hypervisor",
            by_path,
            table::figure,
        )?,
        Section::read(paths, record::IO, "Disks and networks of one Debian Linux", of_io, io::figure)?,
    ];
    let file = options.output.clone().unwrap_or_else(|| paths.root().join("docs/bench.svg"));
    command::make_parent(&file)?;
    svg::save(&file, &picture(&sections)).with_context(|| format!("cannot write {}", file.display()))?;
    for section in &sections {
        let (rows, records) = (section.measured().count(), section.history.len());
        ui::say("bench", &format!("{}: {rows} rows, {records} records: {}", section.title, file.display()));
    }
    Ok(())
}

/// Xenolith's figures in each record that was ever committed, the oldest first, and in the one that stands there.
fn history(paths: &Paths, name: &str, now: &Record<f64>) -> Result<Vec<Figures>> {
    let file = format!("tests/bench/{name}");
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
    if history.last() != Some(&now.xenolith) {
        history.push(now.xenolith.clone());
    }
    Ok(history)
}

fn picture(sections: &[Section]) -> Document {
    let height: usize = sections.iter().map(Section::height).sum();
    let document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "white"));
    let mut top = 0;
    sections.iter().fold(document, |document, section| {
        let group = part(section, top);
        top += section.height();
        document.add(group)
    })
}

/// One section, from `top` on.
fn part(section: &Section, top: usize) -> Group {
    let machine = format!("{}, {}, -icount shift=0", section.record.qemu, section.record.cpu);
    let group = Group::new()
        .add(text(TITLES, top + 20, section.title).set("font-weight", "bold"))
        .add(text(TITLES, top + 38, &machine).set("fill", "#666"))
        .add(legend(BARS, top, XEN, "Xen"))
        .add(legend(BARS + 60, top, OURS, "Xenolith"))
        .add(legend(BARS + 150, top, GOAL, "goal"))
        .add(text(NUMBERS, top + 44, "Xen / Xenolith / goal (ratio)"))
        .add(text(HISTORY, top + 44, "each record since the first"));
    let rows = section.measured().enumerate();
    rows.fold(group, |group, (index, row)| group.add(line(section, *row, top + HEAD + index * ROW)))
}

fn text(x: usize, y: usize, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

fn legend(x: usize, top: usize, colour: &str, words: &str) -> Group {
    let square = Rectangle::new().set("x", x).set("y", top + 35).set("width", 10).set("height", 10).set("fill", colour);
    Group::new().add(square).add(text(x + 14, top + 44, words))
}

/// One row. Its bars are as long as their part of the longest among Xen's, Xenolith's and the goal.
fn line(section: &Section, row: Row, y: usize) -> Group {
    let [xen, ours] = [&section.record.xen, &section.record.xenolith].map(|figures| figures.get(row.name).copied());
    let most = [xen, ours, row.goal].into_iter().flatten().fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| (value / most * BARS_WIDTH as f64).round();
    let bar = |value: Option<f64>, y: usize, colour: &str| {
        let width = value.map_or(0.0, length);
        Rectangle::new().set("x", BARS).set("y", y).set("width", width).set("height", 9).set("fill", colour)
    };
    let mut group = Group::new()
        .add(text(TITLES, y + 14, row.title))
        .add(bar(xen, y, XEN))
        .add(bar(ours, y + 10, OURS))
        .add(text(NUMBERS, y + 14, &numbers([xen, ours, row.goal], row.more, section.figure)));
    if let Some(goal) = row.goal {
        let x = BARS as f64 + length(goal);
        let tick = Line::new().set("x1", x).set("x2", x).set("y1", y).set("y2", y + 20);
        group = group.add(tick.set("stroke", GOAL).set("stroke-width", 2));
    }
    group.add(course(section, row, y))
}

/// Xen's figure, Xenolith's and the goal as a person reads them, and how many times better Xenolith does.
fn numbers([xen, ours, goal]: [Option<f64>; 3], more: bool, figure: fn(f64) -> String) -> String {
    let word = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let ratio = xen.zip(ours).filter(|(xen, ours)| *xen > 0.0 && *ours > 0.0);
    let ratio = ratio.map(|(xen, ours)| format!(" ({:.1}x)", if more { ours / xen } else { xen / ours }));
    format!("{} / {} / {}{}", word(xen), word(ours), word(goal), ratio.unwrap_or_default())
}

/// How Xenolith's figure went from record to record; its scale begins at zero.
fn course(section: &Section, row: Row, y: usize) -> Group {
    let figure = section.figure;
    let values: Vec<f64> = section.history.iter().filter_map(|figures| figures.get(row.name).copied()).collect();
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
        .map_or_else(String::new, |(first, last)| format!("{}: {} to {}", row.title, figure(*first), figure(*last)));
    let line = Polyline::new().set("points", points.join(" ")).set("fill", "none").set("stroke", OURS);
    Group::new().add(Title::new(ends)).add(line.set("stroke-width", 1.5))
}

#[cfg(test)]
mod tests {
    use super::{Figures, Record, Row, Section, numbers, picture, table};

    fn section(title: &'static str, more: bool) -> Section {
        let figures = |figure| Figures::from([("yield".to_owned(), figure)]);
        let [qemu, cpu, rustc] = [""; 3].map(str::to_owned);
        let (xen, xenolith) = (figures(2000.0), figures(100.0));
        let rows = ["yield", "hypercall"].map(|name| Row { name, title: name, goal: Some(300.0), more });
        Section {
            title,
            rows: rows.to_vec(),
            record: Record { qemu, cpu, rustc, about_xen: Vec::new(), xen, xenolith },
            history: [200.0, 150.0, 100.0].map(figures).to_vec(),
            figure: table::figure,
        }
    }

    #[test]
    fn the_numbers_stand_beside_how_many_times_better_it_is() {
        let figures = [Some(400.0), Some(100.0), Some(105.0)];
        assert_eq!(numbers(figures, false, table::figure), "400 / 100 / 105 (4.0x)");
        assert_eq!(numbers([Some(100.0), Some(250.0), None], true, table::figure), "100 / 250 / - (2.5x)");
        assert_eq!(numbers([None, Some(0.0), None], false, table::figure), "- / 0 / -");
    }

    #[test]
    fn the_picture_has_a_row_for_all_that_was_measured_and_its_course_section_after_section() {
        let text = picture(&[section("first", false), section("second", true)]).to_string();
        assert!(text.contains("2000 / 100 / 300 (20.0x)") && text.contains("2000 / 100 / 300 (0.1x)"), "{text}");
        assert_eq!(text.matches("points=\"900.0,").count(), 2, "{text}");
        assert!(text.find("first") < text.find("second"), "{text}");
        assert!(!text.contains("hypercall"), "{text}");
    }
}
