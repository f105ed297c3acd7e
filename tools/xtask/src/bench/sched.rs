//! `cargo xtask bench sched`: who gets how much of a pCPU, and how soon.

use anyhow::{Result, bail};
use clap::Args;
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::shares::{self, Figures};

use super::record;
use crate::build;
use crate::command;
use crate::paths::{Paths, write_if_changed};
use crate::setup;
use crate::store;
use crate::ui;

/// What is booted.
const IMAGES: &[(&str, &str)] = &[
    ("xenolith", "the hypervisor"),
    ("dom0", "the control domain"),
    ("busy", "test guest: keeps its vCPU busy"),
    ("hostile", "test guest: breaks one rule after the other"),
];

/// The figures, what they are in the words of the table, and the most that each may be.
const ROWS: &[(&str, &str, f64)] = &[
    ("share_off_in_300_ms", "weights 1:2:4, worst share of 300 ms, % off", 5.0),
    ("share_off_in_3_s", "weights 1:2:4, worst share of 3 s, % off", 1.0),
    ("gain_by_sleeping_before_the_tick", "gain of a guest that sleeps as its turn ends, %", 1.0),
    ("cap_of_25_most_in_100_ms", "cap of 25 %, most of 100 ms, %", 28.0),
    ("cap_of_25_in_2_s", "cap of 25 %, of 2 s, %", 25.5),
    ("wake_among_32_busy_worst_us", "wake-up among 32 busy vCPUs, worst, us", 400.0),
    ("wake_among_32_busy_mean_us", "wake-up among 32 busy vCPUs, mean, us", 400.0),
];

/// The same of the figures beside guests that hammer, of which each name goes on with what those do.
const HAMMERED: &[(&str, &str, f64)] = &[
    ("share_off_in_300_ms", "worst share of 300 ms, % off", 5.0),
    ("share_off_in_3_s", "worst share of 3 s, % off", 1.0),
    ("lost", "work lost by the worst off, %", 1.0),
    ("wake_worst_us", "wake-up, worst, us", 400.0),
];

/// The record of the figures.
const RECORD: &str = "sched.json";

/// Options of `cargo xtask bench sched`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Writes the figures into the record
    #[arg(long)]
    update: bool,
}

/// Measures, prints the table, and fails when a figure is above its bound.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    setup::qemu()?;
    build::images(paths, IMAGES)?;
    let spinner = ui::spinner("bench", "measuring the scheduler");
    let config = config(paths)?;
    let mut figures = shares::measure(&config)?;
    figures.extend(shares::measure_hammers(&config, true)?);
    spinner.finish_and_clear();
    print!("{}", table(&figures));
    let file = if options.update { record::kept(paths, RECORD) } else { paths.images().join("bench").join(RECORD) };
    command::make_parent(&file)?;
    std::fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    ui::say("bench", &format!("the figures are in {}", file.display()));
    match rows().find(|(name, _, most)| figures.get(name).is_none_or(|figure| figure > most)) {
        Some((name, _, most)) => bail!("{name} is not at most {most}"),
        None => Ok(()),
    }
}

/// All rows: the name of the figure, what it is, and the most that it may be.
fn rows() -> impl Iterator<Item = (String, String, f64)> {
    let whole = ROWS.iter().map(|(name, about, most)| ((*name).to_owned(), (*about).to_owned(), *most));
    let scenes = ["hammers"].into_iter().chain(shares::HAMMERS.map(|(name, _)| name));
    let beside = |scene| {
        let row = move |(name, about, most): &(&str, &str, f64)| {
            (format!("{name}_beside_{scene}"), format!("beside {scene}: {about}"), *most)
        };
        HAMMERED.iter().map(row)
    };
    whole.chain(scenes.flat_map(beside))
}

/// The usual machine with the measuring guest in its store.
fn config(paths: &Paths) -> Result<Config> {
    let folder = paths.images().join("sched-store");
    std::fs::create_dir_all(&folder)?;
    for (image, file, text) in [("busy", "busy.cfg", shares::CONFIG), ("hostile", "hammer.cfg", shares::HAMMER)] {
        store::copy(&paths.image(image), &folder.join(image))?;
        write_if_changed(&folder.join(file), text.as_bytes())?;
    }
    let disk = paths.image("sched-store.img");
    store::prepare(&folder, &disk)?;
    let mut config = Config::new(paths.image("xenolith"));
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: disk, snapshot: true });
    Ok(config)
}

fn table(figures: &Figures) -> String {
    let mut text = format!("{:<50} {:>8} {:>8}\n", "", "is", "at most");
    for (name, about, most) in rows() {
        let figure = figures.get(&name).map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        text += &format!("{about:<50} {figure:>8} {most:>8.1}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figures, rows, table};

    #[test]
    fn the_table_has_a_line_for_each_figure_and_a_dash_for_one_that_is_missing() {
        let figures: Figures = rows().skip(1).map(|(name, ..)| (name, 0.25)).collect();
        let text = table(&figures);
        assert_eq!(text.lines().count(), rows().count() + 1);
        assert_eq!(text.matches(" 0.2 ").count() + text.matches(" 0.3 ").count(), rows().count() - 1);
        assert!(text.lines().nth(1).is_some_and(|line| line.contains(" - ")));
    }
}
