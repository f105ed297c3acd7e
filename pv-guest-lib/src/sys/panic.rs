//! The end of an image that broke one of its own rules: say so, and tell the hypervisor.

use core::panic::PanicInfo;

use hypercall_abi::sched::ShutdownReason;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let image = super::mmu::image_base();
    crate::console::print_urgently(format_args!("{info} [image at {image:#x}]\n"));
    super::hypercall::shutdown(ShutdownReason::Crash)
}
