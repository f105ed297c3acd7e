//! Counts primes on all vCPUs that it has, and shows that they work at the same time and wake each other.
//!
//! The last line is `parallel: PASS` with the numbers; then the guest powers itself off. `up_to=N` on the command line
//! sets how far it looks (default 200000).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::channel::Channel;
use embassy_time::{Instant, Timer};
use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::cpus::{self, MAX_CPUS, StartError};
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::{Guest, hypercall, println};

/// Numbers that a vCPU takes at a time.
const PIECE: u64 = 1000;
/// Turns of the game that all vCPUs play.
const TURNS: u64 = 1000;

/// Where the next piece begins.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Whose turn it is, counted from 0.
static TURN: AtomicU64 = AtomicU64::new(0);
static RESULTS: Channel<CriticalSectionRawMutex, Share, MAX_CPUS> = Channel::new();

/// What one vCPU did.
struct Share {
    cpu: u32,
    primes: u64,
    pieces: u64,
    /// Whether an event that was sent to this vCPU came, and a timer of its own fired.
    woken: bool,
}

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), StartError> {
    let up_to = guest.arguments().parsed("up_to", 200_000u64);
    let cpus = guest.cpus().count() as u64 + 1;
    println!("parallel: {cpus} vCPUs");
    let start = Instant::now();
    let alone = (0..up_to).filter(|number| is_prime(*number)).count() as u64;
    let took = start.elapsed().as_micros();

    let start = Instant::now();
    for cpu in guest.cpus() {
        cpu.start(move |_| async move { RESULTS.send(work(up_to, cpus).await).await })?;
    }
    let mut shares = [const { None }; MAX_CPUS];
    shares[0] = Some(work(up_to, cpus).await);
    let together = start.elapsed().as_micros();
    for share in shares.iter_mut().take(guest.cpus().count() + 1).skip(1) {
        *share = Some(RESULTS.receive().await);
    }

    let mut good = true;
    let mut total = 0;
    for share in shares.iter().flatten() {
        println!("parallel: vCPU {} took {} pieces with {} primes", share.cpu, share.pieces, share.primes);
        good &= share.woken;
        total += share.primes;
    }
    println!("parallel: {took} us alone, {together} us together");
    let verdict = if good && total == alone { "PASS" } else { "FAIL" };
    println!("parallel: {verdict} cpus={cpus} primes={total} of={alone} turns={}", TURN.load(Ordering::SeqCst));
    Ok(())
}

/// The part of one vCPU: it plays its turns, which takes that all others play theirs, then takes pieces.
async fn work(up_to: u64, cpus: u64) -> Share {
    let cpu = cpus::current().0;
    let mut turn = TURN.load(Ordering::SeqCst);
    while turn < TURNS {
        if turn % cpus == u64::from(cpu) {
            TURN.store(turn + 1, Ordering::SeqCst);
        } else {
            // There may be one pCPU for all.
            hypercall::yield_now();
        }
        turn = TURN.load(Ordering::SeqCst);
    }
    let (mut primes, mut pieces) = (0, 0);
    loop {
        let from = NEXT.fetch_add(PIECE, Ordering::Relaxed);
        if from >= up_to {
            break;
        }
        primes += (from..up_to.min(from + PIECE)).filter(|number| is_prime(*number)).count() as u64;
        pieces += 1;
    }
    Share { cpu, primes, pieces, woken: is_woken().await }
}

/// Sends events to this vCPU and waits for them, and for a timer.
async fn is_woken() -> bool {
    let here = cpus::current();
    let woken = async {
        let own = EventChannel::bind_ipi()?;
        own.notify()?;
        own.notified().await;
        // One of two ends can be moved to this vCPU.
        let sender = EventChannel::alloc_unbound(DomId::SELF)?;
        let receiver = EventChannel::bind_interdomain(DomId::SELF, sender.port())?;
        receiver.deliver_to(here)?;
        sender.notify()?;
        receiver.notified().await;
        Timer::after_millis(5).await;
        Ok::<_, XenError>(cpus::current() == here)
    };
    woken.await.unwrap_or(false)
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
