//! Measures who gets how much of a pCPU, and how soon, by what guests themselves get done (`tests/guests/busy`).
//!
//! The machine has one pCPU, and its clock counts instructions, eight nanoseconds each or two. All guests of a scene count in
//! the same stretches of the machine's clock, so that what one gets done in a stretch is its share of it. Until they begin all
//! are paused, and then asleep; what the host types comes before that, since its time is another one. So two runs give the same
//! figures, or nearly so beside guests that hammer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::config::Config;
use crate::machine::Machine;

/// What was measured, by name; shares in per cent, times in microseconds.
pub type Figures = BTreeMap<String, f64>;

/// The guest's configuration, which must be in the store as `busy.cfg`, with the image as `busy`.
pub const CONFIG: &str = "name = \"busy\"\nkernel = \"/store/busy\"\nmemory = 1\nvcpus = 1\n";

/// The configuration of the guest that hammers, which must be there as `hammer.cfg`, with the image as `hostile`.
pub const HAMMER: &str = "name = \"hammer\"\nkernel = \"/store/hostile\"\nmemory = 4\nvcpus = 2\n";

/// What guests do without end that keep the scheduler at work, and how many vCPUs want to run for that: those of the guest, and with
/// the store Dom0's, which is one among others.
const HAMMERS: &[(&str, u32)] =
    &[("yields", 1), ("polls", 1), ("interrupts", 2), ("past_timers", 1), ("on_and_off", 2), ("store", 2)];

/// The figures, what they are in words, and the most that each may be.
const ROWS: [(&str, &str, f64); 7] = [
    ("share_off_in_300_ms", "weights 1:2:4, worst share of 300 ms, % off", 5.0),
    ("share_off_in_3_s", "weights 1:2:4, worst share of 3 s, % off", 1.0),
    ("gain_by_sleeping_before_the_tick", "gain of a guest that sleeps as its turn ends, %", 1.0),
    ("cap_of_25_most_in_100_ms", "cap of 25 %, most of 100 ms, %", 28.0),
    ("cap_of_25_in_2_s", "cap of 25 %, of 2 s, %", 25.5),
    // A turn among 33 is 0.3 ms, and the hypervisor's own way comes to it.
    ("wake_among_32_busy_worst_us", "wake-up among 32 busy vCPUs, worst, us", 400.0),
    ("wake_among_32_busy_mean_us", "wake-up among 32 busy vCPUs, mean, us", 400.0),
];

/// The same of the figures beside guests that hammer, of which each name goes on with what those do.
const HAMMERED: [(&str, &str, f64); 4] = [
    ("share_off_in_300_ms", "worst share of 300 ms, % off", 5.0),
    ("share_off_in_3_s", "worst share of 3 s, % off", 1.0),
    ("lost", "work lost by the worst off, %", 1.0),
    ("wake_worst_us", "wake-up, worst, us", 400.0),
];

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
/// Virtual time that making a domain takes, at most, with what it does until it sleeps, in milliseconds.
const MAKING_MS: u64 = 300;

/// What there is to measure, beside all that hammer at once, and if `each`, beside one after the other too: the name of each
/// figure, what it is, and the most that it may be.
pub fn rows(each: bool) -> impl Iterator<Item = (String, String, f64)> {
    let whole = ROWS.map(|(name, about, most)| (name.to_owned(), about.to_owned(), most));
    let beside = |(scene, _): (&str, _)| {
        HAMMERED.map(|(name, about, most)| (format!("{name}_beside_{scene}"), format!("beside {scene}: {about}"), most))
    };
    whole.into_iter().chain(scenes(each).flat_map(beside))
}

/// Who hammers at once, by a name for all of them.
fn scenes(each: bool) -> impl Iterator<Item = (&'static str, &'static [(&'static str, u32)])> {
    let one_by_one = HAMMERS.chunks(1).filter(move |_| each).map(|one| (one[0].0, one));
    [("hammers", HAMMERS)].into_iter().chain(one_by_one)
}

/// Boots a machine like `config` and measures all there is but beside guests that hammer.
pub fn measure(config: &Config) -> Result<Figures> {
    let mut machine = boot(config, 3)?;
    let mut figures = Figures::new();
    let mut note = |name: &str, figure: f64| note(&mut figures, name, figure);

    let alone = weighted(&mut machine, &[])?;
    note("share_off_in_300_ms", alone.off_in_300_ms);
    note("share_off_in_3_s", alone.off_in_3_s);

    let mut guests = vec!["busy.cfg extra=\"window=1000 count=3 ".to_owned(); 7];
    guests.push(format!("busy.cfg extra=\"window=1000 count=3 game={GAME} "));
    let work = stretches(&scene(&mut machine, &guests, guests.len())?)?;
    let sums_of_game = sums(&work);
    let (game, honest) = sums_of_game.split_last().context("no guest")?;
    note("gain_by_sleeping_before_the_tick", (game / (honest.iter().sum::<f64>() / 7.0) - 1.0) * 100.0);

    let guests = [
        format!("busy.cfg cap={CAP} extra=\"window=100 count=20 "),
        "busy.cfg extra=\"window=100 count=20 ".to_owned(),
    ];
    let work = stretches(&scene(&mut machine, &guests, guests.len())?)?;
    let shares: Vec<f64> =
        work[0].iter().zip(&work[1]).map(|(capped, other)| capped / (capped + other) * 100.0).collect();
    note("cap_of_25_most_in_100_ms", shares.iter().copied().fold(0.0, f64::max));
    note("cap_of_25_in_2_s", shares.iter().sum::<f64>() / 20.0);

    let mut guests = vec!["busy.cfg extra=\"window=2000 count=1 ".to_owned(); BUSY];
    guests.insert(0, "busy.cfg extra=\"tick=37 count=50 ".to_owned());
    let said = scene(&mut machine, &guests, 1)?.concat();
    note("wake_among_32_busy_worst_us", lateness(&said, "worst")?);
    note("wake_among_32_busy_mean_us", lateness(&said, "mean")?);
    Ok(figures)
}

/// Boots a machine like `config` and measures beside guests that hammer: beside all of them at once, and if `each`, beside one
/// after the other. An instruction takes two nanoseconds there: with eight a switch would be so much of a turn that the
/// shares were about that.
pub fn measure_hammers(config: &Config, each: bool) -> Result<Figures> {
    let mut machine = boot(config, 1)?;
    let mut figures = Figures::new();
    let alone = weighted(&mut machine, &[])?;
    for (name, hammers) in scenes(each) {
        let beside = weighted(&mut machine, hammers)?;
        let mut note = |figure: &str, value: f64| note(&mut figures, &format!("{figure}_beside_{name}"), value);
        note("share_off_in_300_ms", beside.off_in_300_ms);
        note("share_off_in_3_s", beside.off_in_3_s);
        note("lost", beside.lost(&alone));
        note("wake_worst_us", beside.wake_us);
    }
    Ok(figures)
}

/// Boots a machine whose clock counts instructions of `1 << shift` nanoseconds.
fn boot(config: &Config, shift: u32) -> Result<Machine> {
    let mut config = config.clone();
    (config.smp, config.icount, config.icount_shift) = (1, true, shift);
    Machine::boot(&config)
}

fn note(figures: &mut Figures, name: &str, figure: f64) {
    // A zero is none below zero.
    figures.insert(name.to_owned(), (figure * 10.0).round() / 10.0 + 0.0);
}

/// What eight busy guests of weights 1:2:4 got.
struct Weighted {
    /// The worst share among them, in per cent of what it should be, of any 300 ms and of 3 s.
    off_in_300_ms: f64,
    off_in_3_s: f64,
    /// What each got done in 3 s.
    done: Vec<f64>,
    /// Weights of all vCPUs that want to run.
    weights: u32,
    /// The longest that a guest had to wait that wakes up now and then.
    wake_us: f64,
}

impl Weighted {
    /// How much less than its share of a pCPU, of which all is known from `alone`, a guest got at worst, in per cent.
    fn lost(&self, alone: &Self) -> f64 {
        let all: f64 = alone.done.iter().sum();
        let due = WEIGHTS.map(|weight| all * f64::from(weight) / f64::from(self.weights));
        self.done.iter().zip(due).map(|(done, due)| (1.0 - done / due) * 100.0).fold(f64::MIN, f64::max)
    }
}

/// Lets guests of all weights work beside others that hammer, and beside one that sleeps and wakes up.
fn weighted(machine: &mut Machine, hammers: &[(&str, u32)]) -> Result<Weighted> {
    let busy = WEIGHTS.map(|weight| format!("busy.cfg cpu_weight={} extra=\"window=300 count=10 ", weight * 256));
    let wakes = (!hammers.is_empty()).then(|| "busy.cfg extra=\"tick=37 count=80 ".to_owned());
    let hammering = hammers.iter().map(|(name, _)| format!("hammer.cfg extra=\"attack=hammers_{name} "));
    let mut guests: Vec<String> = busy.into_iter().chain(wakes).collect();
    let told = guests.len();
    guests.extend(hammering);
    let said = scene(machine, &guests, told)?;
    let (busy, wakes) = said.split_at(WEIGHTS.len());
    let work = stretches(busy)?;
    let all: u32 = WEIGHTS.iter().sum();
    let off = |stretch: &[f64]| {
        let fair = WEIGHTS.map(|weight| f64::from(weight) / f64::from(all));
        let done: f64 = stretch.iter().sum();
        stretch.iter().zip(fair).map(|(own, fair)| (own / done / fair - 1.0).abs() * 100.0).fold(0.0, f64::max)
    };
    let each = (0..10).map(|n| off(&work.iter().map(|work| work[n]).collect::<Vec<_>>()));
    let done = sums(&work);
    Ok(Weighted {
        off_in_300_ms: each.fold(0.0, f64::max),
        off_in_3_s: off(&done),
        done,
        weights: all + hammers.iter().map(|(_, vcpus)| vcpus).sum::<u32>(),
        wake_us: wakes.first().map_or(Ok(0.0), |said| lateness(said, "worst"))?,
    })
}

/// Runs guests at once, each of this file with these words of configuration, the last of which is left open for when to
/// begin; returns what the first `told` of them say.
fn scene(machine: &mut Machine, guests: &[String], told: usize) -> Result<Vec<String>> {
    let Begin { from, .. } = begin_after_making(machine, guests.len())?;
    let first = guests.iter().position(|guest| guest.contains("window=") && !guest.contains("cap="));
    for (n, guest) in guests.iter().enumerate() {
        let (file, words) = guest.split_once(' ').context("a guest has a file and words")?;
        let first = if first == Some(n) { "first " } else { "" };
        let create = format!("xl create -p /store/{file} name=busy{n} {words}{first}from={from}\"");
        let done = machine.sh_within(&create, LONG)?;
        ensure!(done.status == 0, "{create}: {done:?}");
    }
    // In one line, and no more until a guest has come to its end: where all sleep QEMU's clock jumps to when somebody wakes up.
    let all: String = (0..guests.len()).map(|n| format!("xl unpause busy{n}; ")).collect();
    machine.send(&format!("{all}xl console busy0\r"))?;
    let mut said = Vec::new();
    for n in 0..told {
        if n > 0 {
            machine.send(&format!("xl console busy{n}\r"))?;
        }
        machine.expect("busy: ", LONG)?;
        said.push(machine.expect(" end", LONG)?);
        machine.send("\x1d")?;
        machine.prompt(LONG)?;
    }
    for name in (0..guests.len()).map(|n| format!("busy{n}")) {
        // None has ended by itself.
        let done = machine.sh_within(&format!("xl destroy {name}"), LONG)?;
        ensure!(done.status == 0, "{name}: {done:?}");
    }
    Ok(said)
}

/// When guests that are made next begin.
pub(crate) struct Begin {
    /// The time of the machine's clock, in milliseconds, and when they begin: a whole second, for what has to do with the clock.
    pub(crate) now: u64,
    pub(crate) from: u64,
    /// The number of the first of them.
    pub(crate) domid: u16,
}

/// Asks the machine's clock when that many guests that are made next can begin.
pub(crate) fn begin_after_making(machine: &mut Machine, guests: usize) -> Result<Begin> {
    machine.send("xl create -c /store/busy.cfg name=clock \"extra='now'\"\r")?;
    machine.expect("busy: now ", LONG)?;
    let now: u64 = machine.expect(" ms", LONG)?.trim_end_matches(" ms").trim().parse()?;
    machine.send("\x1d")?;
    machine.prompt(LONG)?;
    let clock: u16 = machine.ok("xl domid clock")?.trim().parse().context("no number of a domain")?;
    machine.ok("xl destroy clock")?;
    Ok(Begin { now, from: (now + 1000 + MAKING_MS * guests as u64).next_multiple_of(1000), domid: clock + 1 })
}

/// How late a guest was that wakes up, in microseconds.
fn lateness(said: &str, which: &str) -> Result<f64> {
    let after = said.split_whitespace().skip_while(|word| *word != which).nth(1);
    after.and_then(|text| text.parse().ok()).with_context(|| format!("no latency: {said}"))
}

/// What each guest got done in each stretch.
fn stretches(said: &[String]) -> Result<Vec<Vec<f64>>> {
    said.iter().map(|said| counts(said)).collect()
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
