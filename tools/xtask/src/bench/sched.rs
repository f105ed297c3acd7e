//! `cargo xtask bench sched`: who gets how much of a pCPU, and how soon.

use anyhow::{Result, bail};
use clap::Args;
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::shares::{self, Figures, rows};

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
    match rows(true).find(|(name, _, most)| figures.get(name).is_none_or(|figure| figure > most)) {
        Some((name, _, most)) => bail!("{name} is not at most {most}"),
        None => Ok(()),
    }
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
    for (name, about, most) in rows(true) {
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
        let figures: Figures = rows(true).skip(1).map(|(name, ..)| (name, 0.25)).collect();
        let text = table(&figures);
        assert_eq!(text.lines().count(), rows(true).count() + 1);
        assert_eq!(text.matches(" 0.2 ").count() + text.matches(" 0.3 ").count(), rows(true).count() - 1);
        assert!(text.lines().nth(1).is_some_and(|line| line.contains(" - ")));
    }
}
