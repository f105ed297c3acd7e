//! Dom0, the image: the control domain from its entry to its prompt.
//!
//! One vCPU, one executor. The parts know each other through the store and through what they are given here, so that
//! each could move to a domain of its own.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod backends;
mod consoles;
mod disks;
mod fdt;
mod hal;
mod messages;
mod notices;
mod shell;
mod store;
mod switch;
mod sys;
mod tasks;
mod terminal;
mod toolstack;
mod trace;
mod uart;

use alloc::rc::Rc;

use disks::Disks;
use hypercall_abi::control::PlatformInfo;
use hypercall_abi::ids::DomId;
use pl011::Pl011;
use pl031::Pl031;
use pv_guest_lib::executor::{self, Spawner};
use pv_guest_lib::irq::{Line, Mode};
use pv_guest_lib::{BootInfo, control, entry, heap, pages, time};
use shell::Shell;
use store::Hub;
use switch::Switch;
use tasks::Tasks;
use terminal::Terminal;
use toolstack::Toolstack;

/// Pages that stay in the pool for rings and grant tables; the heap gets the rest, up to [`HEAP_PAGES`] or half of all.
const POOL_PAGES: u64 = 4096;
/// The most pages of the heap, unless half of all are more: what guests make Dom0 keep for them is on it.
const HEAP_PAGES: u64 = 32 * 1024;

/// The interrupt of the serial line.
static UART_LINE: Line = Line::new();

entry!(main);

fn main(boot: BootInfo) -> ! {
    let free = pages::free_pages();
    let wanted = free.saturating_sub(POOL_PAGES).min(HEAP_PAGES.max(free / 2));
    if let Err(error) = heap::init(wanted) {
        panic!("dom0 has {free} free pages, too few for a heap: {error:?}");
    }
    let platform = match control::platform_info() {
        Ok(platform) => platform,
        Err(error) => panic!("this image is Xenolith's control domain and nothing else: {error}"),
    };
    open_window(&boot);
    executor::run(move |spawner| match root(spawner, boot, platform) {
        Ok(token) => spawner.spawn(token),
        Err(error) => panic!("the first task cannot start: {error:?}"),
    })
}

/// Makes the range reachable into which other domains' pages are mapped.
fn open_window(boot: &BootInfo) {
    if let Err(reason) = boot.window().ok_or("there is none").and_then(hal::open_window) {
        panic!("no window for grants: {reason}");
    }
}

/// Starts everything, in the order in which one needs the other.
#[embassy_executor::task]
async fn root(spawner: Spawner, boot: BootInfo, platform: PlatformInfo) {
    let tasks = Tasks::new(spawner);
    let uart = open_uart(&boot, &tasks);
    let terminal = Rc::new(Terminal::new(uart));
    tasks.spawn(messages::show(Rc::clone(&terminal)));
    tasks.spawn(start(boot, platform, terminal, Rc::clone(&tasks)));
}

async fn start(boot: BootInfo, platform: PlatformInfo, terminal: Rc<Terminal>, tasks: Rc<Tasks>) {
    set_clock(&boot);
    let hub = Hub::new(Rc::clone(&tasks));
    let disks = Rc::new(Disks::find(boot.fdt(), &tasks).await);
    let seed = time::now_us() ^ platform.uptime_ns.rotate_left(20) ^ platform.free_pages.rotate_left(40);
    let switch = Switch::find(boot.fdt(), &tasks, seed.rotate_left(7));
    let made = Toolstack::new(Rc::clone(&hub), disks, switch, Rc::clone(&tasks), platform.pcpus, seed);
    let (toolstack, store) = match made.and_then(|toolstack| Ok((toolstack, hub.client()?))) {
        Ok(made) => made,
        Err(error) => panic!("the store refuses its first connections: {}", error.wire_name()),
    };
    if let Err(error) = toolstack.introduce_dom0() {
        log::error!("dom0's own nodes: {error}");
    }
    tasks.spawn(Rc::clone(&toolstack.blocks).serve());
    tasks.spawn(Rc::clone(&toolstack.nets).serve());
    tasks.spawn(Rc::clone(&toolstack).follow());
    let pcpus = platform.pcpus;
    let free = platform.free_pages / 256;
    terminal
        .print(&alloc::format!("Dom0 is up: {pcpus} pCPUs, {free} MiB free for guests. `help` lists the commands.\n"))
        .await;
    let shell = Shell::new(toolstack, terminal, store);
    shell.set_up_networks().await;
    shell.run().await;
}

/// Has Dom0's own shared information page tell the time of the machine's clock, as those of guests will.
fn set_clock(boot: &BootInfo) {
    let Some(range) = fdt::rtc(boot.fdt()) else { return };
    let registers = hal::map_device(range).and_then(|()| sys::rtc_registers(range));
    let Some(now) = registers.and_then(|registers| Pl031::new(registers).now()) else { return };
    let set = control::lookup(DomId::DOM0).and_then(|own| {
        control::set_wall_clock(own.cap, now)?;
        control::drop_cap(own.cap)
    });
    if let Err(error) = set {
        log::warn!("the machine's clock cannot be told: {error}");
    }
}

/// Takes over the serial line. Without one there is nobody to talk to.
fn open_uart(boot: &BootInfo, tasks: &Tasks) -> Rc<Pl011<'static>> {
    let Some((range, intid)) = fdt::uart(boot.fdt()) else { panic!("the device tree has no PL011") };
    let opened = hal::map_device(range).and_then(|()| sys::uart_registers(range));
    let Some(registers) = opened else { panic!("the PL011's registers cannot be mapped") };
    let uart = match Pl011::new(registers, None) {
        Ok(uart) => Rc::new(uart),
        Err(error) => panic!("the PL011 cannot be set up: {error:?}"),
    };
    if let Err(error) = UART_LINE.bind(intid, Mode::Level) {
        panic!("the PL011's interrupt {intid}: {error:?}");
    }
    let waiting = Rc::clone(&uart);
    tasks.spawn(async move {
        loop {
            UART_LINE.wait().await;
            waiting.on_interrupt();
        }
    });
    uart
}
