//! A device that is not split: its registers, from the device tree, and its interrupt to await. This one is the
//! PL011 that `vuart = "sbsa_uart"` gives a domain.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::abi::arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPL011_SPI};
use pv_guest_lib::addr::{Ipa, IpaRange};
use pv_guest_lib::irq::{Line, Mode};
use pv_guest_lib::{Guest, mmu, println};

static LINE: Line = Line::new();

#[pv_guest_lib::main]
async fn main(_guest: Guest) {
    let Some(range) = IpaRange::new(Ipa::new(GUEST_PL011_BASE), GUEST_PL011_SIZE) else { return };
    if let Err(error) = mmu::map_device(range) {
        return println!("the registers cannot be mapped: {error}");
    }
    if let Err(error) = LINE.bind(GUEST_VPL011_SPI, Mode::Level) {
        return println!("the interrupt cannot be bound: {error}");
    }
    println!(
        "a driver takes the registers from {} on, and serves one `LINE.wait().await` after the other",
        range.start()
    );
}
