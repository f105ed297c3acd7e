//! Measures who gets how much of a pCPU, and how soon, by what guests themselves get done (`tests/guests/busy`).
//!
//! The machine has one pCPU, and its clock counts instructions, eight nanoseconds each. All guests of a scene count in
//! the same stretches of the machine's clock, so that what one gets done in a stretch is its share of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::config::Config;
use crate::machine::Machine;

/// What was measured, by name; shares in per cent, times in microseconds.
pub type Figures = BTreeMap<String, f64>;

/// The guest's configuration, which must be in the store as `busy.cfg`, with the image as `busy`.
pub const CONFIG: &str = "name = \"busy\"\nkernel = \"/store/busy\"\nmemory = 1\nvcpus = 1\n";

/// Weights of the busy guests, in units of the default one.
const WEIGHTS: [u32; 8] = [1, 2, 4, 1, 2, 4, 1, 2];
/// Steps after which a guest sleeps that games the tick: 50 us before its turn of 1.25 ms ends.
const GAME: u32 = 1150;
/// The cap of the guest that has one, in per cent.
const CAP: u32 = 25;
/// Busy guests beside one that wakes up.
const BUSY: usize = 32;

/// Time for a step on a busy host.
const LONG: Duration = Duration::from_secs(180);
/// Virtual time that making a domain takes, at most, in milliseconds.
const MAKING_MS: u64 = 300;

/// Boots a machine like `config` and measures all there is.
pub fn measure(config: &Config) -> Result<Figures> {
    let mut config = config.clone();
    (config.smp, config.icount, config.icount_shift) = (1, true, 3);
    let mut machine = Machine::boot(&config)?;
    let mut figures = Figures::new();
    let mut note = |name: &str, figure: f64| figures.insert(name.to_owned(), (figure * 10.0).round() / 10.0);

    let guests = WEIGHTS.map(|weight| format!("cpu_weight={} extra=\"window=300 count=10 ", weight * 256));
    let work = scene(&mut machine, &guests)?.iter().map(|said| counts(said)).collect::<Result<Vec<_>>>()?;
    let off = |stretch: &[f64]| {
        let fair = WEIGHTS.map(|weight| f64::from(weight) / f64::from(WEIGHTS.iter().sum::<u32>()));
        let all: f64 = stretch.iter().sum();
        stretch.iter().zip(fair).map(|(done, fair)| (done / all / fair - 1.0).abs() * 100.0).fold(0.0, f64::max)
    };
    let each = (0..10).map(|n| off(&work.iter().map(|work| work[n]).collect::<Vec<_>>()));
    note("share_off_in_300_ms", each.fold(0.0, f64::max));
    note("share_off_in_3_s", off(&sums(&work)));

    let mut guests = vec!["extra=\"window=1000 count=3 ".to_owned(); 7];
    guests.push(format!("extra=\"window=1000 count=3 game={GAME} "));
    let work = scene(&mut machine, &guests)?.iter().map(|said| counts(said)).collect::<Result<Vec<_>>>()?;
    let sums_of_game = sums(&work);
    let (game, honest) = sums_of_game.split_last().context("no guest")?;
    note("gain_by_sleeping_before_the_tick", (game / (honest.iter().sum::<f64>() / 7.0) - 1.0) * 100.0);

    let guests = [format!("cap={CAP} extra=\"window=100 count=20 "), "extra=\"window=100 count=20 ".to_owned()];
    let work = scene(&mut machine, &guests)?.iter().map(|said| counts(said)).collect::<Result<Vec<_>>>()?;
    let shares: Vec<f64> =
        work[0].iter().zip(&work[1]).map(|(capped, other)| capped / (capped + other) * 100.0).collect();
    note("cap_of_25_most_in_100_ms", shares.iter().copied().fold(0.0, f64::max));
    note("cap_of_25_in_2_s", shares.iter().sum::<f64>() / 20.0);

    let mut guests = vec!["extra=\"window=1 count=1 ".to_owned(); BUSY];
    guests.insert(0, "extra=\"tick=37 count=50 ".to_owned());
    let said = scene(&mut machine, &guests)?;
    let words: Vec<&str> = said[0].split_whitespace().collect();
    let after = |word| words.iter().skip_while(|other| **other != word).nth(1).and_then(|text| text.parse().ok());
    note("wake_among_32_busy_worst_us", after("worst").context("no latency")?);
    note("wake_among_32_busy_mean_us", after("mean").context("no latency")?);
    Ok(figures)
}

/// Runs guests at once, each with these words of configuration, the last of which is left open for when to begin;
/// returns what the first ones say, all of them if there are few.
fn scene(machine: &mut Machine, guests: &[String]) -> Result<Vec<String>> {
    machine.send("xl create -c /store/busy.cfg name=clock \"extra='now'\"\r")?;
    machine.expect("busy: now ", LONG)?;
    let now: u64 = machine.expect(" ms", LONG)?.trim_end_matches(" ms").trim().parse()?;
    machine.send("\x1d")?;
    machine.prompt(LONG)?;
    let from = now + 1000 + MAKING_MS * guests.len() as u64;
    for (n, words) in guests.iter().enumerate() {
        let create = format!("xl create -p /store/busy.cfg name=busy{n} {words}from={from}\"");
        let done = machine.sh_within(&create, LONG)?;
        ensure!(done.status == 0, "{create}: {done:?}");
    }
    for n in 0..guests.len() {
        machine.sh_within(&format!("xl unpause busy{n}"), LONG)?;
    }
    let mut said = Vec::new();
    for n in 0..guests.len().min(WEIGHTS.len()) {
        machine.send(&format!("xl console busy{n}\r"))?;
        machine.expect("busy: ", LONG)?;
        said.push(machine.expect(" end", LONG)?);
        machine.send("\x1d")?;
        machine.prompt(LONG)?;
    }
    for name in (0..guests.len()).map(|n| format!("busy{n}")).chain(["clock".to_owned()]) {
        machine.sh_within(&format!("xl destroy {name}"), LONG)?;
    }
    Ok(said)
}

/// What a guest got done in each stretch.
fn counts(said: &str) -> Result<Vec<f64>> {
    let words = said.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    let counts: Vec<f64> = words.collect();
    ensure!(counts.iter().any(|count| *count > 0.0), "a guest got nothing done: {said}");
    Ok(counts)
}

fn sums(work: &[Vec<f64>]) -> Vec<f64> {
    work.iter().map(|stretches| stretches.iter().sum()).collect()
}
