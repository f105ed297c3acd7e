//! A guest that keeps its vCPU busy and counts what it gets done, for measuring who gets how much time, and when.
//!
//! It sleeps until 200 ms before the time `from=MS` of the machine's clock, and then works; from that time on it counts what it does
//! in each of `count=N` stretches of `window=MS`. With `first` it works 100 ms longer, which is before all others do: so however
//! they came to sleep, all that wake up are as far behind it as a sleeper may be, and what follows is the same each time. The clock is the physical counter, which is the same for all domains, so that the
//! stretches are. With `game=STEPS` it sleeps for a tick whenever it has done that many steps since it slept last, to
//! be asleep when somebody looks who runs. With `tick=MS` it sleeps instead, wakes up each so many milliseconds to do
//! little, and tells how late it was. With `now` it tells the time. Then it sleeps; its console keeps what it said.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod sys;

use pv_guest_lib::{BootInfo, entry, print, println};

entry!(main);

/// The most stretches.
const MOST: usize = 64;

/// How long before the first stretch all begin to work, and how much longer before that one does, in milliseconds.
const BEFORE: u64 = 200;
const FIRST: u64 = 100;

fn main(boot: BootInfo) -> ! {
    sys::compare_clocks();
    let has = |word: &str| boot.arguments().split_whitespace().any(|other| other == word);
    let number = |key: &str| {
        let value = boot.arguments().split_whitespace().find_map(|word| word.strip_prefix(key));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let ticks = |milliseconds: u64| milliseconds * sys::frequency() / 1000;
    if has("now") {
        println!("busy: now {} ms", sys::now() * 1000 / sys::frequency());
    } else {
        let from = ticks(number("from=").unwrap_or(0));
        sys::sleep_until(from.saturating_sub(ticks(BEFORE + if has("first") { FIRST } else { 0 })));
        let count = number("count=").map_or(1, |count| count.min(MOST as u64));
        match number("tick=") {
            Some(period) => tick(from, ticks(period), count),
            None => work(from, ticks(number("window=").unwrap_or(100)), count, number("game=")),
        }
    }
    loop {
        sys::sleep_until(u64::MAX);
    }
}

/// Works, and counts in stretches.
fn work(from: u64, window: u64, count: u64, game: Option<u64>) {
    let (mut done, mut rested, mut marks, mut passed) = (0, 0, [0; MOST + 1], 0);
    while passed <= count {
        let now = sys::now();
        while passed <= count && now >= from + passed * window {
            if let Some(mark) = usize::try_from(passed).ok().and_then(|at| marks.get_mut(at)) {
                *mark = done;
            }
            passed += 1;
        }
        sys::step();
        done += 1;
        if game.is_some_and(|steps| done - rested >= steps) {
            sys::sleep_until(now + 1);
            rested = done;
        }
    }
    print!("busy: work");
    for (before, after) in marks.iter().zip(marks.iter().skip(1)).take(usize::try_from(count).unwrap_or(0)) {
        print!(" {}", after - before);
    }
    println!(" end");
}

/// Wakes up each period, and tells how late.
fn tick(from: u64, period: u64, count: u64) {
    let (mut worst, mut all) = (0, 0);
    for n in 0..count {
        let at = from + n * period;
        sys::sleep_until(at);
        let late = sys::now().saturating_sub(at);
        worst = worst.max(late);
        all += late;
        sys::step();
    }
    let microseconds = |ticks: u64| ticks * 1_000_000 / sys::frequency();
    println!("busy: late worst {} us mean {} us end", microseconds(worst), microseconds(all / count.max(1)));
}
