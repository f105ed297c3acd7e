//! The few places where Dom0 turns addresses into memory.
#![allow(unsafe_code, reason = "registers, pages of other domains and memory for devices are raw addresses")]

use core::ops::Range;
use core::ptr::NonNull;

use driver_api::sys::Window;
use driver_api::{BusAddr, DmaMemory};
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::Copy;
use pl011::{PL011Registers, UniqueMmioPointer};
use pv_guest_lib::addr::{Ipa, IpaRange};
use pv_guest_lib::grant::MappedGrant;
use pv_guest_lib::{control, hypercall, pages};
use virtio_blk::Registers;
use virtio_blk::sys::MmioRegion;
use virtio_net::{BufferDirection, Hal, MmioTransport, PhysAddr, VirtIOHeader};

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
    // SAFETY: the range was taken from the page pool for good; it is mapped, page-aligned RAM that holds no object, and no other
    // window over it is left.
    unsafe {
        core::ptr::write_bytes(base.as_ptr(), 0, len);
        Window::new(base, len, BusAddr::new(range.start().raw()))
    }
}

/// Works on bytes of a bridge's memory where they lie; `BridgeMemory`, the only caller, lends them to one at a time.
pub fn with_bytes<R>(window: &Window, range: Range<usize>, work: impl FnOnce(&mut [u8]) -> R) -> R {
    let end = range.end.min(DmaMemory::len(window));
    let start = range.start.min(end);
    // SAFETY: the bytes lie in the window, which is memory of Dom0's that no device reaches. Only the hypervisor's copies write
    // there beside this thread, for as long as a call of this thread's lasts, and to places that wait for a frame: those are
    // not lent before the frame is there.
    work(unsafe { core::slice::from_raw_parts_mut(window.base().as_ptr().add(start), end - start) })
}

/// Makes grant copies whose own pages belong to memory for devices.
pub fn grant_copy(ops: &mut [Copy]) -> Result<(), XenError> {
    // SAFETY: the pages of this domain that back ends and bridges name are those of the memory for devices that they were
    // given (`window_over_ram`), in which no object lies.
    unsafe { hypercall::grant_copy(ops) }
}

/// Has a pCPU write its trace to memory for devices, or with none no more.
pub fn trace_ring(pcpu: u32, ring: Option<&Window>, pages: u64) -> Result<(), XenError> {
    let (at, pages) = ring.map_or((0, 0), |ring| (ring.base().as_ptr() as u64, pages));
    // SAFETY: windows that Dom0 makes over its own RAM (`window_over_ram`) are over pages in which no object lies, and
    // this one is kept for traces for good.
    unsafe { control::trace_ring(pcpu, Ipa::new(at), pages) }
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

/// The registers of the real-time clock, which `map_device` has made reachable.
pub fn rtc_registers(range: IpaRange) -> Option<UniqueMmioPointer<'static, pl031::Registers>> {
    let base = NonNull::new(range.start().raw() as *mut pl031::Registers)?;
    // SAFETY: the device tree names the range as a PL031; it is mapped as device memory, and this is called once.
    Some(unsafe { UniqueMmioPointer::new(base) })
}

/// The type of the device in a virtio-mmio slot, which `map_device` has made reachable; 0 for none. A [`MmioTransport`] would
/// tell too, but resets whatever is in the slot when it goes.
pub fn virtio_device_type(range: IpaRange) -> u32 {
    /// Where the type stands (VIRTIO 1.2, 4.2.2).
    const DEVICE_ID: usize = 0x008;
    virtio_registers(range).map_or(0, |registers| registers.read32(DEVICE_ID))
}

/// A virtio-mmio slot, which `map_device` has made reachable, with the device in it.
pub fn virtio_transport(range: IpaRange) -> Option<MmioTransport<'static>> {
    let header = NonNull::new(range.start().raw() as *mut VirtIOHeader)?;
    // SAFETY: the device tree names the range as a virtio-mmio device; it is mapped as device memory for good, and each
    // slot is taken once.
    unsafe { MmioTransport::new(header, usize::try_from(range.size()).unwrap_or(0)) }.ok()
}

/// Memory for the rings of `virtio-drivers`: Dom0's RAM lies at the same address for devices.
pub struct DirectMemory;

// SAFETY: pages come from the pool, zeroed and for good, so nothing else is ever there; addresses of RAM are the same for
// devices, so that sharing is naming.
unsafe impl Hal for DirectMemory {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // A ring takes a page or two while Dom0 starts, long before guests could have used the pool up.
        let Some(range) = pages::take(count as u64) else { panic!("dom0 has no memory for a network device") };
        let window = window_over_ram(range);
        (range.start().raw(), window.base())
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // The pool takes nothing back.
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.addr().get() as u64
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
