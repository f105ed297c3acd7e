//! Level-sensitive interrupts: pending is what the line says (IHI 0069H, section 4.1.3). The lines are those of the
//! timers, which high lines make pending whatever else is done.

use crate::gic::{
    ENABLE, PEND, PHYSICAL_TIMER, PPI, SPI, UNPEND, VIRTUAL_TIMER, bit, comes, comes_and_ends, is_v2, lives,
    nothing_comes, raise, set, set_edge, states,
};
use crate::{Outcome, Rule, interface, is, sys};

pub const RULES: &[Rule] = &[
    ("a high line is pending though it is disabled, and no longer when it is low", follows),
    ("a high line cannot be cleared by hand", stubborn),
    ("a line that is high at the end comes again, one that is low does not", ends),
    ("a line that falls before it is taken does not come", falls),
    ("what is pended by hand comes though the line is low, once", by_hand),
    ("clearing by hand takes back what was pended by hand", by_hand_and_back),
    ("a line that rises comes without being asked for, each time", rises),
    ("an edge-triggered interrupt comes once for a line that stays high", edge),
];

/// Both timers: the interrupt, and how its line is set.
const LINES: [(u64, fn(bool)); 2] = [(PHYSICAL_TIMER, physical), (VIRTUAL_TIMER, virtual_timer)];

fn physical(high: bool) {
    sys::set_cntp_tval(0);
    sys::set_cntp_ctl(u64::from(high));
}

pub fn virtual_timer(high: bool) {
    sys::set_cntv_tval(0);
    sys::set_cntv_ctl(u64::from(high));
}

fn follows() -> Outcome {
    for (irq, line) in LINES {
        states(irq, 0, 0)?;
        line(true);
        states(irq, 1, 0)?;
        nothing_comes()?;
        line(false);
        states(irq, 0, 0)?;
        line(true);
        set(ENABLE, irq);
        comes(irq)?;
        states(irq, 1, 1)?;
        line(false);
        states(irq, 0, 1)?;
        interface::set_eoir1(irq);
        states(irq, 0, 0)?;
        nothing_comes()?;
    }
    Ok(())
}

fn stubborn() -> Outcome {
    for (irq, line) in LINES {
        line(true);
        set(UNPEND, irq);
        is("the pending bit", bit(PEND, irq), 1)?;
        set(ENABLE, irq);
        set(UNPEND, irq);
        comes(irq)?;
        set(UNPEND, irq);
        states(irq, 1, 1)?;
        line(false);
        interface::set_eoir1(irq);
        nothing_comes()?;
    }
    Ok(())
}

fn ends() -> Outcome {
    // QEMU 7.2 does not look at the line when a list register of a GICv2 ends the physical interrupt, which the virtual
    // timer's is, but at the next change of another one.
    for (irq, line) in LINES.into_iter().filter(|(irq, _)| *irq == PHYSICAL_TIMER || !is_v2()) {
        line(true);
        set(ENABLE, irq);
        for _ in 0..3 {
            comes(irq)?;
            nothing_comes()?;
            interface::set_eoir1(irq);
        }
        comes(irq)?;
        line(false);
        interface::set_eoir1(irq);
        nothing_comes()?;
        states(irq, 0, 0)?;
    }
    Ok(())
}

fn falls() -> Outcome {
    // The virtual timer's line falls without anybody being told, so that a moment may pass.
    set(ENABLE, PHYSICAL_TIMER);
    physical(true);
    is("ICC_HPPIR1_EL1", interface::hppir1(), PHYSICAL_TIMER)?;
    physical(false);
    nothing_comes()?;
    states(PHYSICAL_TIMER, 0, 0)
}

fn by_hand() -> Outcome {
    for irq in [PPI, SPI] {
        set_edge(irq, false);
        lives(irq)?;
    }
    Ok(())
}

fn by_hand_and_back() -> Outcome {
    for irq in [PPI, SPI, PHYSICAL_TIMER] {
        set_edge(irq, false);
        raise(irq);
        set(UNPEND, irq);
        states(irq, 0, 0)?;
        nothing_comes()?;
    }
    Ok(())
}

fn rises() -> Outcome {
    let ticks = sys::frequency() / 1000;
    for irq in [PHYSICAL_TIMER, VIRTUAL_TIMER, VIRTUAL_TIMER, PHYSICAL_TIMER] {
        set(ENABLE, irq);
        if irq == PHYSICAL_TIMER {
            sys::set_cntp_tval(ticks);
            sys::set_cntp_ctl(1);
        } else {
            sys::set_cntv_tval(ticks);
            sys::set_cntv_ctl(1);
        }
        comes(irq)?;
        sys::set_cntp_ctl(0);
        sys::set_cntv_ctl(0);
        interface::set_eoir1(irq);
    }
    Ok(())
}

fn edge() -> Outcome {
    if !set_edge(PHYSICAL_TIMER, true) {
        // Whether a private interrupt can be changed is the implementation's choice.
        return Ok(());
    }
    set(ENABLE, PHYSICAL_TIMER);
    physical(true);
    comes_and_ends(PHYSICAL_TIMER)?;
    nothing_comes()?;
    physical(false);
    physical(true);
    comes_and_ends(PHYSICAL_TIMER)
}
