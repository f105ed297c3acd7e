//! Moves a counted stream over TCP and says whether every byte arrived as it was sent, and how fast.
//!
//! Command line: `to=10.0.0.1` sends and ends; without it the guest receives, one stream after the other. `mib=N`
//! (default 16) is how much is sent, and the addresses are those of `net::stack`. A line ends each stream:
//! `netperf: PASS received=16777216 in 1234567 us, 13271 KiB/s`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod pattern;

use embassy_net::Ipv4Address;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_time::{Duration, Instant, Timer};
use pattern::Pattern;
use pv_guest_lib::net::NetError;
use pv_guest_lib::net::stack::{self, Stack, StackResources};
use pv_guest_lib::{Guest, println};
use static_cell::ConstStaticCell;

/// The port of iperf 2, for want of one of our own.
const PORT: u16 = 5001;
/// Bytes of a socket's buffer in the direction that matters: a full window without scaling.
const WINDOW: usize = 65535;
/// Bytes that are looked at at once.
const PIECE: usize = 4096;

static SOCKETS: ConstStaticCell<StackResources<3>> = ConstStaticCell::new(StackResources::new());
static BUFFER: ConstStaticCell<[u8; WINDOW]> = ConstStaticCell::new([0; WINDOW]);

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), NetError> {
    let arguments = guest.arguments();
    let target = arguments.value("to").map(|text| text.parse::<Ipv4Address>().map_err(|_| NetError::Argument));
    let bytes = arguments.parsed::<u64>("mib", 16) << 20;
    let stack = stack::start(&guest, SOCKETS.take()).await?;
    stack.wait_config_up().await;
    match target {
        Some(target) => source(stack, target?, bytes).await,
        None => sink(stack).await,
    }
    println!("netperf: {:?}", stack::stats());
    Ok(())
}

/// Sends the pattern.
async fn source(stack: Stack<'static>, target: Ipv4Address, bytes: u64) {
    let mut small = [0; 1024];
    let mut socket = TcpSocket::new(stack, &mut small, BUFFER.take());
    socket.set_timeout(Some(Duration::from_secs(30)));
    // The sink may not be up yet.
    let mut tries = 60;
    while let Err(error) = socket.connect((target, PORT)).await {
        if tries == 0 || error == ConnectError::NoRoute {
            println!("netperf: FAIL cannot connect: {error:?}");
            return;
        }
        tries -= 1;
        Timer::after_secs(1).await;
    }
    let start = Instant::now();
    let (mut pattern, mut left) = (Pattern::default(), bytes);
    while left > 0 {
        let put = socket.write_with(|room| {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            pattern.fill(&mut room[..now]);
            (now, now as u64)
        });
        match put.await {
            Ok(now) => left -= now,
            Err(error) => {
                println!("netperf: FAIL after {} bytes: {error:?}", bytes - left);
                return;
            }
        }
    }
    socket.close();
    let flushed = socket.flush().await;
    report(if flushed.is_ok() { "PASS" } else { "FAIL" }, "sent", bytes, start);
}

/// Receives streams and checks them.
async fn sink(stack: Stack<'static>) {
    let buffer = BUFFER.take();
    loop {
        let mut small = [0; 1024];
        let mut socket = TcpSocket::new(stack, buffer, &mut small);
        if socket.accept(PORT).await.is_err() {
            continue;
        }
        let start = Instant::now();
        let (mut pattern, mut bytes, mut wrong) = (Pattern::default(), 0, None);
        let mut piece = [0; PIECE];
        let outcome = loop {
            match socket.read(&mut piece).await {
                Ok(0) => break Ok(()),
                Ok(now) => {
                    if wrong.is_none() && !pattern.matches(&piece[..now]) {
                        wrong = Some(bytes);
                    }
                    bytes += now as u64;
                }
                Err(error) => break Err(error),
            }
        };
        let verdict = if outcome.is_ok() && wrong.is_none() && bytes > 0 { "PASS" } else { "FAIL" };
        if let Some(place) = wrong {
            println!("netperf: the stream is not what was sent, {place} bytes from its start or soon after");
        }
        report(verdict, "received", bytes, start);
        socket.close();
        // What is not confirmed within a moment the other side does not want.
        let _ = embassy_time::with_timeout(Duration::from_secs(1), socket.flush()).await;
    }
}

fn report(verdict: &str, what: &str, bytes: u64, start: Instant) {
    let micros = start.elapsed().as_micros().max(1);
    println!("netperf: {verdict} {what}={bytes} in {micros} us, {} KiB/s", bytes * 1_000_000 / 1024 / micros);
}
