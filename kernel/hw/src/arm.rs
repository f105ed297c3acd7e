//! The machine as the core's trait asks for it: each function in a line, done by the module that knows how.

use hypercall_abi::ids::DomId;
use kernel_core::addr::{GuestVa, Ipa, Pa};
use kernel_core::context::{El1Context, FpContext, VcpuInterface};
use kernel_core::frame::{FrameTable, OutOfFrames};
use kernel_core::hw::{Access, Hw, IntId, PcpuId, Ticks, Vttbr};

use crate::shared::Shared;
use crate::{atomic, boot, console, context, cpu, gic, interface, memory, percpu, psci, stage2, timer};

/// An AArch64 machine with EL2, GICv3 and generic timers.
#[derive(Clone, Copy, Debug)]
pub struct Arm;

/// Defines functions of the trait by those of the modules.
macro_rules! forward {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $to:path;)*) => {$(
        #[inline]
        fn $name($($argument: $type),*) $(-> $result)? {
            $to($($argument),*)
        }
    )*};
}

impl Hw for Arm {
    type Shared<T: Send + Sync + 'static> = Shared<T>;

    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Shared<T>, OutOfFrames> {
        Shared::new(boot::frames(), owner, value)
    }
    #[inline]
    fn pcpu() -> PcpuId {
        percpu::this().id
    }

    forward! {
        fn frames() -> &'static FrameTable = boot::frames;

        fn zero(at: Pa, bytes: u64) = memory::zero;
        fn read_bytes(at: Pa, into: &mut [u8]) = memory::read_bytes;
        fn write_bytes(at: Pa, from: &[u8]) = memory::write_bytes;
        fn copy(to: Pa, from: Pa, bytes: u64) = memory::copy;
        fn load32(at: Pa) -> u32 = atomic::load32;
        fn store32(at: Pa, value: u32) = atomic::store32;
        fn cas32(at: Pa, old: u32, new: u32) -> u32 = atomic::cas32;
        fn load64(at: Pa) -> u64 = atomic::load64;
        fn store64(at: Pa, value: u64) = atomic::store64;
        fn set_bits64(at: Pa, bits: u64) -> u64 = atomic::set_bits64;
        fn clear_bits64(at: Pa, bits: u64) -> u64 = atomic::clear_bits64;
        fn clean_to_poc(at: Pa, bytes: u64) = memory::clean_to_poc;
        fn zero_to_poc(at: Pa, bytes: u64) = memory::zero_to_poc;

        fn translate(va: GuestVa, access: Access) -> Option<Pa> = stage2::translate;
        fn fault_address() -> (GuestVa, Ipa) = stage2::fault_address;
        fn publish_tables() = stage2::publish;
        fn load_stage2(stage2: Vttbr) = stage2::load;
        fn invalidate(stage2: Vttbr, pages: impl Iterator<Item = Ipa>) = stage2::invalidate;
        fn invalidate_vmid(stage2: Vttbr) = stage2::invalidate_vmid;
        fn invalidate_all_vmids() = stage2::invalidate_all_vmids;

        fn online() -> usize = gic::online;
        fn kick(pcpu: PcpuId) = gic::kick;
        fn wait_for_interrupt() = cpu::wait_for_interrupt;
        fn now() -> Ticks = timer::now;
        fn frequency() -> u32 = timer::frequency;
        fn set_deadline(at: Option<Ticks>) = timer::set_deadline;

        fn acknowledge() -> Option<IntId> = gic::acknowledge;
        fn deactivate(intid: IntId) = gic::deactivate;
        fn enable_interrupt(intid: IntId, pcpu: PcpuId) = gic::enable;
        fn set_edge(intid: IntId, edge: bool) = gic::set_edge;
        fn disable_interrupt(intid: IntId) = gic::disable;
        fn set_active(intid: IntId, active: bool) = gic::set_active;

        fn list_registers() -> usize = interface::list_registers;
        fn read_lr(n: usize) -> u64 = interface::read_lr;
        fn write_lr(n: usize, value: u64) = interface::write_lr;
        fn empty_lrs() -> u32 = interface::empty_lrs;
        fn notify_underflow(on: bool) = interface::notify_underflow;
        fn save_interface(into: &mut VcpuInterface) = interface::save;
        fn load_interface(from: &VcpuInterface) = interface::load;

        fn save_el1(into: &mut El1Context) = context::save_el1;
        fn load_el1(from: &El1Context) = context::load_el1;
        fn save_fp(into: &mut FpContext) = context::save_fp;
        fn load_fp(from: &FpContext) = context::load_fp;
        fn id_register(encoding: u32) -> u64 = cpu::id_register;

        fn console(text: &[u8]) = console::write;
        fn power_off() -> ! = psci::system_off;
        fn restart() -> ! = psci::system_reset;
    }
}
