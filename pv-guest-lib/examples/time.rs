//! Waiting, the executor with two tasks, and the time of day.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_time::{Duration, Instant, Ticker, Timer};
use pv_guest_lib::{Guest, println, time};

#[pv_guest_lib::main]
async fn main(guest: Guest) {
    if let Ok(task) = tick() {
        guest.spawner().spawn(task);
    }
    let start = Instant::now();
    Timer::after_millis(350).await;
    println!("waited {} ms", start.elapsed().as_millis());
    match time::wall_clock() {
        Some(now) => println!("{} s since 1970", now.as_secs()),
        None => println!("the hypervisor does not know what time it is"),
    }
}

#[embassy_executor::task]
async fn tick() {
    let mut ticker = Ticker::every(Duration::from_millis(100));
    loop {
        ticker.next().await;
        println!("tick");
    }
}
