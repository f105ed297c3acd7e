//! The machine as the core's trait asks for it: each function in a line, done by the module that knows how.

use hypercall_abi::ids::DomId;
use kernel_core::addr::{GuestVa, Ipa, Pa};
use kernel_core::context::{El1Context, FpContext, VcpuInterface};
use kernel_core::frame::{FrameTable, OutOfFrames};
use kernel_core::hw::{Access, Hw, IntId, PcpuId, Ticks, Vttbr};

use crate::shared::Shared;
use crate::{atomic, boot, console, cpu, el1, fp, gic, interface, memory, percpu, psci, stage2, sysreg, timer};

/// An AArch64 machine with EL2, GICv3 and generic timers.
#[derive(Clone, Copy, Debug)]
pub struct Arm;

impl Hw for Arm {
    type Shared<T: Send + Sync + 'static> = Shared<T>;

    fn frames() -> &'static FrameTable {
        boot::frames()
    }
    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Shared<T>, OutOfFrames> {
        Shared::new(boot::frames(), owner, value)
    }
    fn same<T: Send + Sync + 'static>(a: &Shared<T>, b: &Shared<T>) -> bool {
        Shared::same(a, b)
    }

    fn zero(at: Pa, bytes: u64) {
        memory::zero(at, bytes);
    }
    fn read_bytes(at: Pa, into: &mut [u8]) {
        memory::read_bytes(at, into);
    }
    fn write_bytes(at: Pa, from: &[u8]) {
        memory::write_bytes(at, from);
    }
    fn copy(to: Pa, from: Pa, bytes: u64) {
        memory::copy(to, from, bytes);
    }
    #[inline]
    fn load32(at: Pa) -> u32 {
        atomic::load32(at)
    }
    #[inline]
    fn store32(at: Pa, value: u32) {
        atomic::store32(at, value);
    }
    #[inline]
    fn cas32(at: Pa, old: u32, new: u32) -> u32 {
        atomic::cas32(at, old, new)
    }
    #[inline]
    fn load64(at: Pa) -> u64 {
        atomic::load64(at)
    }
    #[inline]
    fn store64(at: Pa, value: u64) {
        atomic::store64(at, value);
    }
    #[inline]
    fn set_bits64(at: Pa, bits: u64) -> u64 {
        atomic::set_bits64(at, bits)
    }
    #[inline]
    fn clear_bits64(at: Pa, bits: u64) -> u64 {
        atomic::clear_bits64(at, bits)
    }
    fn clean_to_poc(at: Pa, bytes: u64) {
        memory::clean_to_poc(at, bytes);
    }
    fn zero_to_poc(at: Pa, bytes: u64) {
        memory::zero_to_poc(at, bytes);
    }

    #[inline]
    fn translate(va: GuestVa, access: Access) -> Option<Pa> {
        stage2::translate(va, access)
    }
    fn publish_tables() {
        stage2::publish();
    }
    #[inline]
    fn load_stage2(stage2: Vttbr) {
        stage2::load(stage2);
    }
    fn invalidate(stage2: Vttbr, from: Ipa, pages: u64) {
        stage2::invalidate(stage2, from, pages);
    }
    fn invalidate_vmid(stage2: Vttbr) {
        stage2::invalidate_vmid(stage2);
    }
    fn invalidate_all_vmids() {
        stage2::invalidate_all_vmids();
    }

    #[inline]
    fn pcpu() -> PcpuId {
        percpu::this().id
    }
    fn online() -> usize {
        gic::online()
    }
    fn kick(pcpu: PcpuId) {
        gic::kick(pcpu);
    }
    fn wait_for_interrupt() {
        // What this pCPU wrote is complete before it sleeps (Arm ARM, D1.7.2).
        sysreg::barrier!("dsb sy");
        sysreg::barrier!("wfi");
    }
    #[inline]
    fn now() -> Ticks {
        timer::now()
    }
    #[inline]
    fn frequency() -> u32 {
        timer::frequency()
    }
    #[inline]
    fn set_deadline(at: Option<Ticks>) {
        timer::set_deadline(at);
    }

    #[inline]
    fn acknowledge() -> Option<IntId> {
        gic::acknowledge()
    }
    #[inline]
    fn drop_priority(intid: IntId) {
        gic::drop_priority(intid);
    }
    #[inline]
    fn deactivate(intid: IntId) {
        gic::deactivate(intid);
    }
    fn enable_interrupt(intid: IntId, pcpu: PcpuId) {
        gic::enable(intid, pcpu);
    }
    fn disable_interrupt(intid: IntId) {
        gic::disable(intid);
    }
    fn set_active(intid: IntId, active: bool) {
        gic::set_active(intid, active);
    }

    #[inline]
    fn list_registers() -> usize {
        interface::list_registers()
    }
    #[inline]
    fn read_lr(n: usize) -> u64 {
        interface::read_lr(n)
    }
    #[inline]
    fn write_lr(n: usize, value: u64) {
        interface::write_lr(n, value);
    }
    #[inline]
    fn empty_lrs() -> u32 {
        interface::empty_lrs()
    }
    #[inline]
    fn notify_underflow(on: bool) {
        interface::notify_underflow(on);
    }
    #[inline]
    fn save_interface(into: &mut VcpuInterface) {
        interface::save(into);
    }
    #[inline]
    fn load_interface(from: &VcpuInterface) {
        interface::load(from);
    }

    #[inline]
    fn save_el1(into: &mut El1Context) {
        el1::save(into);
    }
    #[inline]
    fn load_el1(from: &El1Context) {
        el1::load(from);
    }
    fn save_fp(into: &mut FpContext) {
        fp::save(into);
    }
    fn load_fp(from: &FpContext) {
        fp::load(from);
    }
    #[inline]
    fn trap_fp(on: bool) {
        cpu::trap_fp(on);
    }
    fn id_register(encoding: u32) -> u64 {
        cpu::id_register(encoding)
    }
    fn pend_serror() {
        el1::pend_serror();
    }

    fn console(text: &[u8]) {
        console::write(text);
    }
    fn power_off() -> ! {
        psci::system_off()
    }
    fn restart() -> ! {
        psci::system_reset()
    }
}
