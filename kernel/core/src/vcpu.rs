//! A virtual CPU: its saved state while it is not on a pCPU, and the few words that others may touch at any time.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::ids::{DomId, VcpuId};
use spin::mutex::SpinMutex;

use crate::addr::Pa;
use crate::context::{El1Context, FpContext, TrapFrame, VcpuInterface};
use crate::domain::Domain;
use crate::frame::FrameRef;
use crate::hw::{Hw, PcpuId, Ticks};
use crate::runstate::Accounting;
use crate::sched::Place;
use crate::vgic::VcpuGic;
use crate::vtimer::PhysicalTimer;

/// The vCPU waits for an interrupt or an event.
pub const BLOCKED: u32 = 1 << 0;
/// The vCPU has not been started, or has switched itself off (PSCI).
pub const OFFLINE: u32 = 1 << 1;
/// The domain is paused through a capability.
pub const PAUSED: u32 = 1 << 2;
/// The domain has shut down or is being destroyed.
pub const STOPPED: u32 = 1 << 3;

/// Registers of a vCPU that is not on a pCPU.
#[derive(Default)]
pub struct VcpuContext {
    /// General registers.
    pub frame: TrapFrame,
    /// EL1 system registers and the virtual timer.
    pub el1: El1Context,
    /// FP and SIMD.
    pub fp: FpContext,
    /// The GIC virtual CPU interface.
    pub interface: VcpuInterface,
}

/// A virtual CPU.
pub struct Vcpu<H: Hw> {
    /// Its index in the domain.
    pub id: VcpuId,
    /// The domain's id. The domain owns the vCPU, so there is no reference back; the pCPU that runs it holds both.
    pub domid: DomId,
    /// Its index among all vCPUs of the machine, for the timer queues.
    pub slot: u16,
    /// The saved registers. Guards itself; held only by the pCPU that switches the vCPU in or out, and by
    /// control calls on a vCPU that does not run.
    pub context: SpinMutex<VcpuContext>,
    /// Private interrupts and list registers.
    pub gic: VcpuGic,
    /// The emulated physical timer.
    pub ptimer: PhysicalTimer,
    /// Where the scheduler has it. Taken before the run queue's lock.
    pub place: SpinMutex<Place>,
    /// Reasons not to run (`BLOCKED` and its like); runnable when zero.
    hold: AtomicU32,
    /// The pCPU where it ran last.
    pub last_pcpu: AtomicU8,
    /// pCPUs that it may use, a bit each.
    pub affinity: AtomicU64,
    /// What the scheduling policy keeps.
    pub vruntime: AtomicU64,
    /// Time spent running and waiting.
    pub accounting: SpinMutex<Accounting>,
    /// Physical address of the vcpu_info; 0 while there is none.
    info: AtomicU64,
    /// The pin on the frame of the vcpu_info, for as long as the vCPU lives.
    pub info_frame: SpinMutex<Option<FrameRef>>,
    /// The port of `SCHEDOP_poll`, plus one; 0 when not polling.
    pub polling: AtomicU32,
    /// When a poll ends without an event (`Ticks`); 0 never.
    pub poll_until: AtomicU64,
    /// Ports of the virtual interrupts that each vCPU has for itself; 0 is none.
    pub virqs: [AtomicU32; 24],
    machine: core::marker::PhantomData<H>,
}

impl<H: Hw> Vcpu<H> {
    /// A vCPU that is offline.
    pub fn new(domid: DomId, id: VcpuId, slot: u16, gic: VcpuGic) -> Self {
        Vcpu {
            id,
            domid,
            slot,
            context: SpinMutex::new(VcpuContext::default()),
            gic,
            ptimer: PhysicalTimer::default(),
            place: SpinMutex::new(Place::Nowhere),
            hold: AtomicU32::new(OFFLINE),
            last_pcpu: AtomicU8::new(0),
            affinity: AtomicU64::new(u64::MAX),
            vruntime: AtomicU64::new(0),
            accounting: SpinMutex::new(Accounting::default()),
            info: AtomicU64::new(0),
            info_frame: SpinMutex::new(None),
            polling: AtomicU32::new(0),
            poll_until: AtomicU64::new(0),
            virqs: [const { AtomicU32::new(0) }; 24],
            machine: core::marker::PhantomData,
        }
    }

    /// Adds reasons not to run; returns those that held before. The pCPU where it runs must then be kicked.
    pub fn hold(&self, reasons: u32) -> u32 {
        // SeqCst: a vCPU that blocks sets its reason and then looks for pending interrupts, while a sender makes
        // an interrupt pending and then clears the reason. One of the two must see the other.
        self.hold.fetch_or(reasons, Ordering::SeqCst)
    }

    /// Takes back reasons not to run; returns those that held before.
    pub fn release(&self, reasons: u32) -> u32 {
        self.hold.fetch_and(!reasons, Ordering::SeqCst)
    }

    /// The reasons that hold it now; zero is runnable.
    pub fn held(&self) -> u32 {
        self.hold.load(Ordering::SeqCst)
    }

    /// Whether it has been started and has not switched itself off.
    pub fn is_online(&self) -> bool {
        self.held() & OFFLINE == 0
    }

    /// The pCPU where it runs now.
    pub fn running_on(&self) -> Option<PcpuId> {
        match *self.place.lock() {
            Place::Running(pcpu) => Some(pcpu),
            Place::Nowhere | Place::Queued(_) => None,
        }
    }

    /// Ends a poll, if one is under way; the caller then lets the vCPU run.
    pub fn end_poll(&self) {
        self.polling.store(0, Ordering::SeqCst);
        self.poll_until.store(0, Ordering::Relaxed);
    }

    /// Where the vcpu_info lies.
    pub fn info(&self) -> Option<Pa> {
        match self.info.load(Ordering::Acquire) {
            0 => None,
            pa => Some(Pa::new(pa)),
        }
    }

    /// Sets where the vcpu_info lies; the frame is pinned by `info_frame` or owned by the domain for good.
    pub fn set_info(&self, at: Pa) {
        self.info.store(at.raw(), Ordering::Release);
    }

    /// The earliest of its timers that no hardware watches while it runs.
    pub fn own_deadline(&self, domain: &Domain<H>) -> Option<Ticks> {
        let watchdog = if self.id == VcpuId(0) { domain.watchdogs.deadline() } else { None };
        [self.ptimer.deadline(), watchdog].into_iter().flatten().min()
    }

    /// When this vCPU wants to be woken although nobody sends it anything: the earliest of its timers. The domain's
    /// watchdogs count as timers of its first vCPU.
    pub fn deadline(&self, el1: &El1Context, domain: &Domain<H>) -> Option<Ticks> {
        let poll = Some(self.poll_until.load(Ordering::Relaxed)).filter(|at| *at != 0);
        [crate::vtimer::deadline(el1), self.own_deadline(domain), poll].into_iter().flatten().min()
    }
}
