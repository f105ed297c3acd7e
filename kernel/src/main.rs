//! Xenolith, the image: a list of what happens between the boot loader and the first guest.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use kernel_core::dom0;
use kernel_core::hw::Hw;
use kernel_hw::{Arm, KERNEL, boot, crash};

/// Called by the entry code with the MMU on. The first guest follows.
// SAFETY: the name is declared in kernel_hw::boot, with this signature.
#[unsafe(no_mangle)]
fn xenolith_main(fdt: &'static [u8]) {
    boot::find_console(fdt);
    KERNEL.log(format_args!("Xenolith {}", env!("CARGO_PKG_VERSION")));
    let mut machine = boot::discover(fdt);
    crash::or_stop(dom0::take_ram::<Arm>(&mut machine));
    boot::init_frames(&mut machine);
    let machine = KERNEL.machine.call_once(|| machine);
    boot::start_pcpus(machine);
    let (pcpus, pages) = (Arm::online(), Arm::frames().pages().0);
    KERNEL.log(format_args!("{pcpus} pCPUs, {} MiB free in {} banks", pages >> 8, machine.ram.len()));
    KERNEL.log(format_args!("command line: {}", machine.cmdline));
    if let Err(error) = KERNEL.start_dom0(crash::or_stop(dom0::vcpus(machine))) {
        crash::boot_error(format_args!("dom0 cannot be made: {error}"));
    }
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    crash::panic(info)
}
