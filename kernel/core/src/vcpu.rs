//! A virtual CPU: its saved state while it is not on a pCPU, and the few words that others may touch at any time.

use hypercall_abi::arm::{PSR_GUEST64_INIT, SCTLR_GUEST_INIT, vcpu_affinity};
use hypercall_abi::control::DEFAULT_WEIGHT;
use hypercall_abi::ids::{DomId, VcpuId};

use crate::addr::Pa;
use crate::context::{DebugContext, El1Context, FpContext, TrapFrame};
use crate::evtchn::Queues;
use crate::frame::FrameRef;
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::runstate::{OFFLINE, PAUSED, Run};
use crate::sync::{AtomicU32, AtomicU64, Ordering, SpinMutex};
use crate::vgic::VcpuGic;
use crate::vtimer::{self, PhysicalTimer};

/// Registers of a vCPU that is not on a pCPU.
#[derive(Default)]
pub struct VcpuContext {
    /// General registers.
    pub frame: TrapFrame,
    /// System registers, the virtual timer, and the GIC's virtual CPU interface.
    pub el1: El1Context,
    /// FP and SIMD.
    pub fp: FpContext,
    /// Where the vCPU was on when they were saved, and may still be; not since it has started anew.
    pub fp_at: Option<PcpuId>,
    /// Breakpoints and watchpoints, also while the vCPU is on a pCPU.
    pub debug: DebugContext,
}

impl VcpuContext {
    /// Registers with which a vCPU starts at `pc` with `x0`: MMU off, and nothing of what it was before.
    pub fn at_start(id: VcpuId, pc: u64, x0: u64, counter_offset: u64) -> Self {
        let mut frame = TrapFrame { pc, pstate: PSR_GUEST64_INIT, ..TrapFrame::default() };
        frame.set_register(0, x0);
        let el1 = El1Context {
            sctlr_el1: SCTLR_GUEST_INIT,
            // Bit 31 is RES1.
            vmpidr_el2: 1 << 31 | u64::from(vcpu_affinity(id.0)),
            cntvoff_el2: counter_offset,
            ..El1Context::default()
        };
        VcpuContext { frame, el1, ..VcpuContext::default() }
    }
}

/// A virtual CPU. In this order, so that what is looked at most is near the start and the registers are behind it.
#[repr(C)]
pub struct Vcpu<H: Hw> {
    /// Its index in the domain.
    pub id: VcpuId,
    /// The domain's id. The domain owns the vCPU, so there is no reference back; the pCPU that runs it holds both.
    pub domid: DomId,
    /// Private interrupts and list registers.
    pub gic: VcpuGic,
    /// The emulated physical timer.
    pub ptimer: PhysicalTimer,
    /// pCPUs that it may use, a bit each. Relaxed, as the next two: who changes them takes the lock of `run` behind that and
    /// pokes the pCPU where it runs; a choice by an old value is looked at again under that lock, an old weight costs a turn.
    pub affinity: AtomicU64,
    /// pCPUs that it uses rather than others, a bit each.
    pub soft_affinity: AtomicU64,
    /// Its share of a pCPU in proportion to the others' there.
    pub weight: AtomicU32,
    /// What the scheduling policy keeps; `u64::MAX` when it comes from another pCPU. Relaxed, under locks of `run` or queues.
    pub vruntime: AtomicU64,
    /// Physical address of the vcpu_info; 0 while there is none. Sequential: a sender that sees the old one has made its port
    /// pending before it was replaced, and behind that the vCPU is told to look at all ports.
    info: AtomicU64,
    /// The pin on the frame of the vcpu_info, for as long as the vCPU lives.
    pub info_frame: SpinMutex<Option<FrameRef>>,
    /// The port of `SCHEDOP_poll`, plus one; 0 when not polling.
    pub polling: AtomicU32,
    /// When a poll ends without an event (`Ticks`), or [`NEVER`]. Relaxed: read behind the lock of `run`, under which it blocked.
    pub poll_until: AtomicU64,
    /// Its queues of events, if the domain uses the FIFO ABI. Nothing but the frame table's lock is taken under it.
    pub queues: SpinMutex<Queues>,
    /// Reasons not to run (`BLOCKED` and its like), which may change at any time: its state follows when its pCPU, if it has one,
    /// has noticed. Changed under the lock of `run`, but when it goes to sleep by itself. Sequential: a pCPU takes back the wish
    /// that it choose and then looks here, and who adds a reason does so and then pokes it; who goes to sleep says so and then
    /// looks at marks, and who wakes it marks and then takes that back.
    held: AtomicU32,
    /// How it stands with the scheduler, and its registers. Taken before a run queue's lock.
    pub run: SpinMutex<Run<H>>,
}

impl<H: Hw> Vcpu<H> {
    /// A vCPU that is offline.
    pub fn new(domid: DomId, id: VcpuId) -> Self {
        H::frames().vcpus.fetch_add(1, Ordering::Relaxed);
        Vcpu {
            id,
            domid,
            gic: VcpuGic::default(),
            ptimer: PhysicalTimer::default(),
            held: AtomicU32::new(OFFLINE | PAUSED),
            run: SpinMutex::new(Run::new(H::now())),
            affinity: AtomicU64::new(u64::MAX),
            soft_affinity: AtomicU64::new(u64::MAX),
            weight: AtomicU32::new(DEFAULT_WEIGHT),
            vruntime: AtomicU64::new(0),
            info: AtomicU64::new(0),
            info_frame: SpinMutex::new(None),
            queues: SpinMutex::default(),
            polling: AtomicU32::new(0),
            poll_until: AtomicU64::new(NEVER),
        }
    }

    /// The reasons that hold it now; zero is runnable.
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::SeqCst)
    }

    /// Holds it for `reasons`.
    pub fn add_reasons(&self, reasons: u32) {
        self.held.fetch_or(reasons, Ordering::SeqCst);
    }

    /// Takes back reasons; returns what is left of them. The caller has locked `run`, and sees to what follows.
    pub fn take_back(&self, reasons: u32) -> u32 {
        self.held.fetch_and(!reasons, Ordering::SeqCst) & !reasons
    }

    /// Whether it has been started and has not switched itself off.
    pub fn is_online(&self) -> bool {
        self.held() & OFFLINE == 0
    }

    /// The pCPU where it runs now.
    pub fn running_on(&self) -> Option<PcpuId> {
        self.run.lock().running_on()
    }

    /// From now on it belongs to this pCPU. What it has run on another one means nothing there.
    pub fn moves(&self, run: &mut Run<H>, to: PcpuId) {
        if run.pcpu != to {
            run.pcpu = to;
            self.vruntime.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Ends a poll, if one is under way; the caller then lets the vCPU run.
    pub fn end_poll(&self) {
        self.polling.store(0, Ordering::SeqCst);
        self.poll_until.store(NEVER, Ordering::Relaxed);
    }

    /// Where the vcpu_info lies.
    pub fn info(&self) -> Option<Pa> {
        Some(Pa::new(self.info.load(Ordering::SeqCst))).filter(|pa| pa.raw() != 0)
    }

    /// Sets where the vcpu_info lies; the frame is pinned by `info_frame` or owned by the domain for good.
    pub fn set_info(&self, at: Pa) {
        self.info.store(at.raw(), Ordering::SeqCst);
    }

    /// When it wants to be woken although nobody sends it anything: the earliest of its timers, and the end of a poll.
    pub fn deadline(&self, el1: &El1Context) -> Ticks {
        vtimer::deadline(el1).min(self.ptimer.deadline()).min(self.poll_until.load(Ordering::Relaxed))
    }
}

impl<H: Hw> Drop for Vcpu<H> {
    fn drop(&mut self) {
        H::frames().vcpus.fetch_sub(1, Ordering::Relaxed);
    }
}
