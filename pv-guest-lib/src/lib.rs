//! Everything between a Rust `main` and the Xen ABI on Arm: start-up, hypercalls, events, grants, XenStore.
//!
//! An image that links this crate is an arm64 `Image` that any loader of the boot protocol can start: as a
//! domain on Xenolith or Xen, or as the control domain itself. The crate is the runtime (an async executor on the
//! boot vCPU, and on others with the feature `smp`) and the front ends; see the README for a guest in ten lines.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[allow(unsafe_code)]
mod sys;

pub mod addr;
pub mod arguments;
pub mod balloon;
pub mod blk;
pub mod boot;
pub mod console;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "smp")]
pub mod cpus;
pub mod evtchn;
pub mod executor;
pub mod fdt;
pub mod grant;
pub mod guest;
pub mod irq;
pub mod mmu;
pub mod net;
pub mod shared;
pub mod shutdown;
pub mod suspend;
pub mod time;
pub mod xenbus;
pub mod xenstore;

pub use boot::BootInfo;
pub use guest::Guest;
pub use hypercall_abi as abi;
pub use pv_guest_macros::main;
#[cfg(feature = "alloc")]
pub use sys::heap;
pub use sys::{hypercall, pages};

/// Not for use by name: what the exported macros reach for.
#[doc(hidden)]
pub mod __private {
    pub use crate::console::print;
    pub use crate::guest::start;
}

/// Names the function that the image starts with: `fn main(boot: BootInfo) -> !`. Most guests are better off with
/// [`main`](macro@main), which brings the executor and the store.
///
/// It runs on the boot vCPU with the MMU on, the stack guarded and interrupts masked until
/// [`executor::run`] takes over.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn pv_guest_main(boot: $crate::BootInfo) -> ! {
            let main: fn($crate::BootInfo) -> ! = $main;
            main(boot)
        }
    };
}

/// The entry of a guest with an async main; what [`main`](macro@main) adds to it.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    ($main:ident) => {
        const _: () = {
            fn start(boot: $crate::BootInfo) -> ! {
                $crate::__private::start(boot, $main)
            }
            $crate::entry!(start);
        };
    };
}
