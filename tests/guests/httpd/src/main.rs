//! An HTTP server that tells of itself: `GET /` is a page for a person, `GET /stats` is `name value` lines for a program.
//!
//! The command line has the addresses of `net::stack`. It ends when `control/shutdown` asks it to.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use embassy_time::Instant;
use heapless::String;
use picoserve::response::IntoResponse;
use picoserve::routing::{PathRouter, get};
use picoserve::{Config, Router, Server};
use pv_guest_lib::net::NetError;
use pv_guest_lib::net::stack::{self, Stack, StackResources};
use pv_guest_lib::shutdown::{self, ShutdownReason};
use pv_guest_lib::{Guest, pages, println, time};
use static_cell::ConstStaticCell;

/// Connections at once. Each has a socket of its own that listens, since the stack keeps no queue of connections: one
/// that finds no socket is refused.
const CONNECTIONS: usize = 64;
const PORT: u16 = 80;

static SOCKETS: ConstStaticCell<StackResources<{ CONNECTIONS + 2 }>> = ConstStaticCell::new(StackResources::new());
static CONFIG: Config = Config::const_default().close_connection_after_response();
static REQUESTS: AtomicU32 = AtomicU32::new(0);

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<ShutdownReason, NetError> {
    let stack = stack::start(&guest, SOCKETS.take()).await?;
    for number in 0..CONNECTIONS {
        if let Ok(task) = serve(number, stack) {
            guest.spawner().spawn(task);
        }
    }
    stack.wait_config_up().await;
    if let Some(config) = stack.config_v4() {
        println!("httpd: http://{}:{PORT}/", config.address.address());
    }
    Ok(shutdown::awaited(&guest.store()).await?)
}

/// One connection after the other.
#[embassy_executor::task(pool_size = CONNECTIONS)]
async fn serve(number: usize, stack: Stack<'static>) {
    let app = app();
    let (mut receive, mut send, mut request) = ([0; 1024], [0; 2048], [0; 1024]);
    let server = Server::new(&app, &CONFIG, &mut request);
    // It listens for as long as the guest lives.
    match server.listen_and_serve(number, stack, PORT, &mut receive, &mut send).await {}
}

fn app() -> Router<impl PathRouter> {
    Router::new().route("/", get(page)).route("/stats", get(numbers))
}

/// What the server knows of itself.
fn statistics() -> [(&'static str, u64); 9] {
    let net = stack::stats();
    [
        ("requests", u64::from(REQUESTS.fetch_add(1, Ordering::Relaxed)) + 1),
        ("uptime_ms", Instant::now().as_millis()),
        ("unix_s", time::wall_clock().map_or(0, |time| time.as_secs())),
        ("free_kib", pages::free_pages() * 4),
        ("rx_frames", net.rx_frames),
        ("rx_bytes", net.rx_bytes),
        ("rx_bad", net.rx_bad),
        ("tx_frames", net.tx_frames),
        ("tx_bytes", net.tx_bytes),
    ]
}

async fn page() -> impl IntoResponse {
    let mut text = String::<1024>::new();
    // All of it fits.
    let _ = text.push_str("<!doctype html><title>httpd</title><h1>A guest of Xenolith's library</h1><table>");
    for (name, value) in statistics() {
        let _ = write!(text, "<tr><td>{name}<td>{value}");
    }
    let _ = text.push_str("</table>\n");
    ([("Content-Type", "text/html")], text)
}

async fn numbers() -> impl IntoResponse {
    let mut text = String::<512>::new();
    for (name, value) in statistics() {
        // All of it fits.
        let _ = writeln!(text, "{name} {value}");
    }
    text
}
