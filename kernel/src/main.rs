//! Xenolith, the image: a list of what happens between the boot loader and the first guest.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use kernel_core::addr::Pa;
use kernel_core::hw::Hw;
use kernel_core::machine::Range;
use kernel_hw::fdt::Dom0View;
use kernel_hw::{Arm, KERNEL, boot, crash};

/// Address space of Dom0's grant table and shared pages: as much as Xen gives a guest (Xen public/arch-arm.h).
const GRANT_REGION: u64 = 16 << 20;

/// Called by the entry code with the MMU on and, if the FDT names one, a console.
// SAFETY: the name is declared in kernel_hw::boot, with this signature.
#[unsafe(no_mangle)]
fn xenolith_main(fdt: Range) -> ! {
    KERNEL.log(format_args!("Xenolith {}", env!("CARGO_PKG_VERSION")));
    let mut found = boot::discover(fdt);
    boot::init_frames(&mut found.machine);
    boot::start_pcpus(&found);
    let (pcpus, pages) = (Arm::online(), Arm::frames().total_pages());
    KERNEL.log(format_args!("{pcpus} pCPUs, {} MiB free in {} banks", pages >> 8, found.machine.ram.len()));
    KERNEL.log(format_args!("command line: {}", found.machine.cmdline));
    KERNEL.set_machine(found.machine);
    match KERNEL.build_dom0() {
        Ok(dom0) => {
            // The grant table's region lies behind the window for mapped grants.
            let grants = Range { start: Pa::new(dom0.window.raw()).add(dom0.window_size), size: GRANT_REGION };
            let arguments = KERNEL.machine().map_or("", |machine| &machine.dom0_args);
            boot::write_dom0_fdt(fdt, dom0.fdt, dom0.fdt_room, &Dom0View { ram: dom0.ram, arguments, grants });
            KERNEL.log(format_args!("dom0: {} MiB at {}, entry {}", dom0.ram.size >> 20, dom0.ram.start, dom0.entry));
        }
        Err(error) => crash::boot_error(format_args!("{error}")),
    }
    if let Err(error) = KERNEL.start_dom0() {
        crash::boot_error(format_args!("{error}"));
    }
    boot::run()
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    crash::panic(info)
}
