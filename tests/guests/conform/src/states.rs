//! Inactive, pending, active, and both (IHI 0069H, section 4.1).

use crate::gic::{
    ACTIVATE, DEACTIVATE, DISABLE, ENABLE, GROUP, GROUP0, GROUP1, KINDS, NOTHING, PEND, SGI, SPI, UNPEND, bit, comes,
    comes_and_ends, dist, forward, has_group0, limit, lives, nothing_comes, raise, set, set_edge, set_priority, states,
};
use crate::{Outcome, Rule, interface, is, sys};

/// `ISR_EL1`: an IRQ is pending; a FIQ is.
pub const IRQ: u64 = 1 << 7;
pub const FIQ: u64 = 1 << 6;

pub const RULES: &[Rule] = &[
    ("where nothing is pending the acknowledge says 1023", nothing_comes),
    ("what is pended while disabled stays pending and comes once enabled", late_enable),
    ("taking makes it active, ending makes it idle", life),
    ("what is pended twice comes once", twice),
    ("what is pended while active comes after the end, and not before", again),
    ("clearing the pending bit takes it back", unpend),
    ("disabling takes it back and leaves it pending", disable),
    ("clearing the active bit lets it come again", deactivate),
    ("what is made active does not come until it is ended", activate),
    ("a distributor that forwards nothing keeps what is pending", distributor_off),
    ("a CPU interface that lets nothing through keeps what is pending", interface_off),
    ("a pending interrupt is seen in ISR_EL1 and in ICC_HPPIR1_EL1 before it is taken", seen),
    ("every interrupt id can be pended, taken and ended", every_id),
    ("all of them at once come once each", all_at_once),
    ("with ICC_CTLR_EL1.EOImode the end drops the priority, and ICC_DIR_EL1 ends", two_ends),
];

fn late_enable() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        set(PEND, irq);
        nothing_comes()?;
        states(irq, 1, 0)?;
        set(ENABLE, irq);
        comes_and_ends(irq)?;
    }
    Ok(())
}

fn life() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        lives(irq)?;
    }
    Ok(())
}

fn twice() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        raise(irq);
        comes_and_ends(irq)?;
        nothing_comes()?;
    }
    Ok(())
}

fn again() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        comes(irq)?;
        set(PEND, irq);
        states(irq, 1, 1)?;
        nothing_comes()?;
        interface::set_eoir1(irq);
        states(irq, 1, 0)?;
        comes_and_ends(irq)?;
        states(irq, 0, 0)?;
    }
    Ok(())
}

fn unpend() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        set(UNPEND, irq);
        states(irq, 0, 0)?;
        nothing_comes()?;
        // Pending and active.
        raise(irq);
        comes(irq)?;
        set(PEND, irq);
        set(UNPEND, irq);
        states(irq, 0, 1)?;
        interface::set_eoir1(irq);
        nothing_comes()?;
    }
    Ok(())
}

fn disable() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        set(DISABLE, irq);
        nothing_comes()?;
        states(irq, 1, 0)?;
        set(ENABLE, irq);
        comes(irq)?;
        // An active one is ended whether it is enabled or not.
        set(DISABLE, irq);
        states(irq, 0, 1)?;
        interface::set_eoir1(irq);
        states(irq, 0, 0)?;
    }
    Ok(())
}

fn deactivate() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        comes(irq)?;
        set(DEACTIVATE, irq);
        states(irq, 0, 0)?;
        // The running priority is the CPU interface's own matter.
        interface::set_eoir1(irq);
        raise(irq);
        comes_and_ends(irq)?;
    }
    Ok(())
}

fn activate() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        set(ACTIVATE, irq);
        states(irq, 0, 1)?;
        raise(irq);
        nothing_comes()?;
        states(irq, 1, 1)?;
        set(DEACTIVATE, irq);
        comes_and_ends(irq)?;
    }
    Ok(())
}

fn distributor_off() -> Outcome {
    for irq in KINDS {
        set_edge(irq, true);
        sys::store(dist(0), 0);
        raise(irq);
        nothing_comes()?;
        states(irq, 1, 0)?;
        sys::store(dist(0), forward());
        comes_and_ends(irq)?;
        // And when it was forwarded before.
        raise(irq);
        sys::store(dist(0), 0);
        nothing_comes()?;
        states(irq, 1, 0)?;
        sys::store(dist(0), forward());
        comes_and_ends(irq)?;
    }
    Ok(())
}

fn interface_off() -> Outcome {
    interface::set_enable1(false);
    raise(SPI);
    nothing_comes()?;
    is("ISR_EL1.I", sys::isr() & IRQ, 0)?;
    states(SPI, 1, 0)?;
    interface::set_enable1(true);
    comes_and_ends(SPI)
}

fn seen() -> Outcome {
    is("ISR_EL1.I", sys::isr() & IRQ, 0)?;
    is("ICC_HPPIR1_EL1", interface::hppir1(), NOTHING)?;
    raise(SGI);
    is("ICC_HPPIR1_EL1", interface::hppir1(), SGI)?;
    is("ISR_EL1.I", sys::isr() & IRQ, IRQ)?;
    states(SGI, 1, 0)?;
    comes(SGI)?;
    is("ISR_EL1.I", sys::isr() & IRQ, 0)?;
    interface::set_eoir1(SGI);
    Ok(())
}

fn every_id() -> Outcome {
    for irq in 0..limit() {
        raise(irq);
        comes_and_ends(irq)?;
        is("the active bit", bit(ACTIVATE, irq), 0)?;
        set(DISABLE, irq);
    }
    Ok(())
}

/// The word of a set in which the interrupt's bit is.
fn place(irq: u64) -> usize {
    usize::try_from(irq / 64).unwrap_or(usize::MAX)
}

fn all_at_once() -> Outcome {
    let mut left = [0u64; 16];
    for irq in 0..limit().min(1024) {
        raise(irq);
        if let Some(word) = left.get_mut(place(irq)) {
            *word |= 1 << (irq % 64);
        }
    }
    for _ in 0..limit() {
        let irq = crate::gic::take();
        interface::set_eoir1(irq);
        let word = left.get_mut(place(irq));
        is("whether what is taken was left", word.as_ref().map_or(0, |word| **word >> (irq % 64) & 1), 1)?;
        if let Some(word) = word {
            *word &= !(1 << (irq % 64));
        }
    }
    is("what is left", left.iter().fold(0, |all, word| all | word), 0)?;
    nothing_comes()
}

fn two_ends() -> Outcome {
    interface::set_two_ends(true);
    for irq in KINDS {
        set_edge(irq, true);
        raise(irq);
        comes(irq)?;
        interface::set_eoir1(irq);
        is("the running priority", interface::running() & 0xFF, 0xFF)?;
        states(irq, 0, 1)?;
        // Others of the same priority can come, and the same one cannot.
        set(PEND, irq);
        nothing_comes()?;
        raise(SGI + 1);
        comes(SGI + 1)?;
        interface::set_eoir1(SGI + 1);
        interface::set_dir(SGI + 1);
        interface::set_dir(irq);
        states(irq, 1, 0)?;
        comes(irq)?;
        interface::set_eoir1(irq);
        interface::set_dir(irq);
        states(irq, 0, 0)?;
    }
    Ok(())
}

pub fn group0() -> Outcome {
    if !has_group0() {
        return Ok(());
    }
    sys::store(dist(0), GROUP0 | GROUP1);
    sys::store(crate::gic::private(0, GROUP), !(1 << SGI));
    set_priority(SGI, 0x40);
    raise(SGI);
    nothing_comes()?;
    is("ISR_EL1 while group 0 is off", sys::isr() & (IRQ | FIQ), 0)?;
    sys::set_enable0(1);
    is("ISR_EL1", sys::isr() & (IRQ | FIQ), FIQ)?;
    let taken = sys::iar0();
    sys::set_eoir0(taken);
    sys::set_enable0(0);
    is("what is taken of group 0", taken, SGI)?;
    states(SGI, 0, 0)
}
