//! Looks for bytes that make a [`Target`] fail: mutations of those that reached new branches, as LibAFL does it.
//!
//! Built by `cargo xtask fuzz`, which instruments our own crates and not this one. Bytes that fail are left in a folder, and the
//! message of the panic on stderr; each also fails with `--replay`.
#![deny(unsafe_code)]

mod sys;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use fuzz_targets::{TARGETS, Target};
use libafl::corpus::{Corpus, InMemoryCorpus, OnDiskCorpus};
use libafl::events::SimpleEventManager;
use libafl::executors::{ExitKind, InProcessExecutor};
use libafl::feedbacks::{CrashFeedback, MaxMapFeedback, TimeoutFeedback};
use libafl::generators::RandBytesGenerator;
use libafl::inputs::{BytesInput, HasTargetBytes};
use libafl::monitors::NopMonitor;
use libafl::mutators::{HavocScheduledMutator, havoc_mutations};
use libafl::observers::HitcountsIterableMapObserver;
use libafl::schedulers::QueueScheduler;
use libafl::stages::StdMutationalStage;
use libafl::state::{HasCorpus, HasExecutions, HasSolutions, StdState};
use libafl::{Fuzzer, StdFuzzer, feedback_or_fast};
use libafl_bolts::ToSlice;
use libafl_bolts::nonzero;
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::tuple_list;

/// A story that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Stories to begin with.
const FIRST: usize = 64;
/// How often it is said how far it is.
const REPORT: Duration = Duration::from_secs(5);

/// Looks for bytes that make a target fail.
#[derive(Debug, Parser)]
struct Options {
    /// What to try
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// Prints the targets and does nothing else
    #[arg(long)]
    list: bool,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to leave bytes that fail
    #[arg(long, default_value = "fuzz-crashes")]
    crashes: PathBuf,
    /// Runs only the bytes of this file
    #[arg(long)]
    replay: Option<PathBuf>,
    /// The seed of all chance, so that a run can be repeated
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.list {
        TARGETS.iter().for_each(|target| println!("{:<10} {}", target.name, target.about));
        return Ok(());
    }
    let name = options.target.unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.with_context(|| format!("there is no target {name}"))?;
    if let Some(file) = &options.replay {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        (target.run)(&bytes);
        println!("{}: holds", target.name);
        return Ok(());
    }
    search(target, &options.crashes, options.seed, Duration::from_secs(options.seconds))
        .map_err(|error| anyhow!("{}: {error}", target.name))
}

/// Searches until the time is up. A panic of the target ends the process, after its bytes have been saved.
fn search(target: &Target, crashes: &Path, seed: u64, time: Duration) -> Result<(), libafl::Error> {
    let observer = HitcountsIterableMapObserver::new(sys::branches());
    let mut feedback = MaxMapFeedback::new(&observer);
    let mut objective = feedback_or_fast!(CrashFeedback::new(), TimeoutFeedback::new());
    let solutions = OnDiskCorpus::new(crashes)?;
    let mut state =
        StdState::new(StdRand::with_seed(seed), InMemoryCorpus::new(), solutions, &mut feedback, &mut objective)?;
    let mut events = SimpleEventManager::new(NopMonitor::new());
    let mut fuzzer = StdFuzzer::new(QueueScheduler::new(), feedback, objective);
    let mut harness = |input: &BytesInput| {
        (target.run)(input.target_bytes().to_slice());
        ExitKind::Ok
    };
    let mut executor = InProcessExecutor::builder()
        .harness(&mut harness)
        .observers(tuple_list!(observer))
        .fuzzer(&mut fuzzer)
        .state(&mut state)
        .event_mgr(&mut events)
        .timeout(PATIENCE)
        .crashdump(false)
        .build()?;
    let mut generator = RandBytesGenerator::new(nonzero!(512));
    state.generate_initial_inputs_forced(&mut fuzzer, &mut executor, &mut generator, &mut events, FIRST)?;
    let mut stages = tuple_list!(StdMutationalStage::new(HavocScheduledMutator::new(havoc_mutations())));
    let (start, mut reported) = (Instant::now(), Instant::now());
    while start.elapsed() < time && state.solutions().is_empty() {
        fuzzer.fuzz_one(&mut stages, &mut executor, &mut state, &mut events)?;
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            report(target, start, *state.executions(), state.corpus().count());
        }
    }
    report(target, start, *state.executions(), state.corpus().count());
    Ok(())
}

fn report(target: &Target, start: Instant, runs: u64, kept: usize) {
    let seconds = start.elapsed().as_secs();
    println!("{}: {seconds} s, {runs} stories, {kept} that reached new branches", target.name);
}
