//! The few places where Dom0 turns addresses into memory.
#![allow(unsafe_code, reason = "registers, pages of other domains and memory for devices are raw addresses")]

use core::ptr::NonNull;

use driver_api::BusAddr;
use driver_api::sys::Window;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::Copy;
use pl011::{PL011Registers, UniqueMmioPointer};
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::grant::MappedGrant;
use pv_guest_lib::hypercall;
use virtio_blk::sys::MmioRegion;

/// An access to a mapped grant that lives no longer than the mapping: the caller keeps the two together.
pub fn window_over(mapping: &MappedGrant) -> Window {
    let base = NonNull::new(mapping.ipa().raw() as *mut u8).unwrap_or(NonNull::dangling());
    // SAFETY: the page is mapped at this address (never null: the window lies behind RAM) as normal memory, no
    // reference to it exists, and `ForeignPage`, the only caller, drops the window together with the mapping.
    unsafe { Window::new(base, PAGE_SIZE, BusAddr::new(mapping.device_address())) }
}

/// Memory for a device; Dom0's RAM lies at the same address for devices.
pub fn window_over_ram(range: IpaRange) -> Window {
    let base = NonNull::new(range.start().raw() as *mut u8).unwrap_or(NonNull::dangling());
    let len = usize::try_from(range.size()).unwrap_or(0);
    // SAFETY: the range was taken from the page pool for good; it is mapped, page-aligned RAM that holds no object.
    unsafe {
        core::ptr::write_bytes(base.as_ptr(), 0, len);
        Window::new(base, len, BusAddr::new(range.start().raw()))
    }
}

/// Makes grant copies whose own pages belong to memory for devices.
pub fn grant_copy(ops: &mut [Copy]) -> Result<(), XenError> {
    // SAFETY: the pages of this domain that back ends and bridges name are those of the memory for devices that they were
    // given (`window_over_ram`), in which no object lies.
    unsafe { hypercall::grant_copy(ops) }
}

/// The registers of a virtio-mmio slot, which `map_device` has made reachable.
pub fn virtio_registers(range: IpaRange) -> Option<MmioRegion> {
    let base = NonNull::new(range.start().raw() as *mut u8)?;
    // SAFETY: the device tree names the range as a virtio-mmio device; it is mapped as device memory and each slot is
    // taken once.
    Some(unsafe { MmioRegion::new(base, usize::try_from(range.size()).unwrap_or(0)) })
}

/// The registers of the UART, which `map_device` has made reachable.
pub fn uart_registers(range: IpaRange) -> Option<UniqueMmioPointer<'static, PL011Registers>> {
    let base = NonNull::new(range.start().raw() as *mut PL011Registers)?;
    // SAFETY: the device tree names the range as a PL011; it is mapped as device memory, and this is called once.
    Some(unsafe { UniqueMmioPointer::new(base) })
}
