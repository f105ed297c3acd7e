//! Whom an interrupt reaches: software-generated ones by name, shared ones by their route (IHI 0069H, sections 2.2
//! and 12.9.22). The vCPUs are 0.0.0.0, which is this one, and 0.0.0.1.

use crate::gic::{
    ACTIVATE, ANY, ENABLE, GROUP, GROUP0, GROUP1, NOBODY, OTHERS, PEND, PPI, SGI, SPI, UNPEND, VIRTUAL_TIMER, bit,
    bits_of_other, comes, comes_and_ends, dist, has_group0, is_v2, nothing_comes, private, raise, route, send, set,
    set_of_other, soon, states, take_within,
};
use crate::{Outcome, Rule, interface, is, other, sys};

pub const RULES: &[Rule] = &[
    ("an SGI reaches the vCPU that it names", sgi_to_other),
    ("an SGI reaches its sender when it names it", sgi_to_self),
    ("an SGI reaches all that it names", sgi_to_both),
    ("an SGI to all others leaves the sender out", sgi_to_others),
    ("an SGI to affinities that nobody has reaches nobody", sgi_to_nobody),
    ("each of the 16 SGIs reaches the other vCPU as itself", sgi_numbers),
    ("an SGI to a vCPU that has it disabled waits there, and can be taken back there", sgi_waits),
    ("private interrupts of another vCPU are set through its redistributor", ppi_of_other),
    ("a shared interrupt goes where it is routed", spi_to_other),
    ("a pending shared interrupt follows its route", spi_follows),
    ("an active shared interrupt stays, and the next one goes where it is routed", spi_stays),
    ("a shared interrupt that is routed to nobody waits", spi_to_nobody),
    ("a shared interrupt that anybody may take is taken by one", spi_to_any),
];

/// Enables an SGI on both vCPUs.
fn enable(irq: u64) {
    set(ENABLE, irq);
    set_of_other(ENABLE, irq);
}

fn sgi_to_other() -> Outcome {
    enable(SGI);
    send(SGI, 0b10);
    nothing_comes()?;
    other::comes_and_ends(SGI)?;
    other::nothing_comes()
}

fn sgi_to_self() -> Outcome {
    enable(SGI);
    send(SGI, 0b01);
    comes_and_ends(SGI)?;
    other::nothing_comes()
}

fn sgi_to_both() -> Outcome {
    enable(SGI);
    send(SGI, 0b11);
    comes_and_ends(SGI)?;
    other::comes_and_ends(SGI)
}

fn sgi_to_others() -> Outcome {
    enable(SGI);
    // The list means nothing then.
    for list in [0, 0b11] {
        send(SGI, OTHERS | list);
        nothing_comes()?;
        other::comes_and_ends(SGI)?;
    }
    Ok(())
}

fn sgi_to_nobody() -> Outcome {
    enable(SGI);
    // Affinity 3, 2 and 1, and an affinity 0 that is not there.
    for target in [0b1100, 0, 1 << 48 | 0b11, 1 << 32 | 0b11, 1 << 16 | 0b11] {
        if is_v2() && target > 0xFF {
            break;
        }
        send(SGI, target);
        nothing_comes()?;
        other::nothing_comes()?;
        states(SGI, 0, 0)?;
    }
    Ok(())
}

fn sgi_numbers() -> Outcome {
    for irq in 0..16 {
        enable(irq);
        send(irq, 0b10);
        other::comes_and_ends(irq)?;
    }
    nothing_comes()
}

fn sgi_waits() -> Outcome {
    set(ENABLE, SGI);
    send(SGI, 0b10);
    other::nothing_comes()?;
    is("the pending bit here", bit(PEND, SGI), 0)?;
    is("the pending bit there", bits_of_other(PEND) >> SGI & 1, 1)?;
    set_of_other(ENABLE, SGI);
    other::comes(SGI)?;
    soon(|| is("the active bit there", bits_of_other(ACTIVATE) >> SGI & 1, 1))?;
    // Once more, and taken back.
    send(SGI, 0b10);
    set_of_other(UNPEND, SGI);
    other::end(SGI);
    other::nothing_comes()
}

pub fn sgi_group0() -> Outcome {
    if !has_group0() {
        return Ok(());
    }
    sys::store(dist(0), GROUP0 | GROUP1);
    sys::store(private(0, GROUP), !(1 << SGI));
    set(ENABLE, SGI);
    sys::set_enable0(1);
    sys::set_sgi0r(SGI << 24 | 0b01);
    let taken = sys::iar0();
    sys::set_eoir0(taken);
    sys::set_enable0(0);
    is("what is taken of group 0", taken, SGI)
}

fn ppi_of_other() -> Outcome {
    set_of_other(ENABLE, PPI);
    set_of_other(PEND, PPI);
    other::comes(PPI)?;
    soon(|| is("the active bit there", bits_of_other(ACTIVATE) >> PPI & 1, 1))?;
    states(PPI, 0, 0)?;
    other::end(PPI);
    soon(|| is("the active bit there", bits_of_other(ACTIVATE) >> PPI & 1, 0))?;
    nothing_comes()?;
    // A timer's that came while it was disabled and is cleared from here comes again, since its line is high.
    other::set_virtual_timer(true);
    set_of_other(UNPEND, VIRTUAL_TIMER);
    set_of_other(ENABLE, VIRTUAL_TIMER);
    other::comes(VIRTUAL_TIMER)?;
    other::set_virtual_timer(false);
    other::end(VIRTUAL_TIMER);
    other::nothing_comes()
}

fn spi_to_other() -> Outcome {
    for (to, irq) in [(1, SPI), (0, SPI + 1)] {
        route(irq, to);
        raise(irq);
        if to == 1 {
            nothing_comes()?;
            other::comes(irq)?;
            soon(|| states(irq, 0, 1))?;
            other::end(irq);
        } else {
            other::nothing_comes()?;
            comes_and_ends(irq)?;
        }
        soon(|| states(irq, 0, 0))?;
    }
    Ok(())
}

fn spi_follows() -> Outcome {
    // Both ways, so that each is on a pCPU and off it.
    raise(SPI);
    route(SPI, 1);
    nothing_comes()?;
    other::comes_and_ends(SPI)?;
    interface::set_pmr(0);
    raise(SPI);
    route(SPI, 0);
    interface::set_pmr(0xFF);
    comes_and_ends(SPI)
}

fn spi_stays() -> Outcome {
    raise(SPI);
    comes(SPI)?;
    route(SPI, 1);
    states(SPI, 0, 1)?;
    other::nothing_comes()?;
    interface::set_eoir1(SPI);
    // One that is pended before the end may use the old route or the new one; one that comes now, the new one.
    raise(SPI);
    nothing_comes()?;
    other::comes_and_ends(SPI)
}

fn spi_to_nobody() -> Outcome {
    route(SPI, NOBODY);
    raise(SPI);
    nothing_comes()?;
    other::nothing_comes()?;
    states(SPI, 1, 0)?;
    route(SPI, 1);
    other::comes_and_ends(SPI)
}

fn spi_to_any() -> Outcome {
    route(SPI, ANY);
    raise(SPI);
    if take_within(sys::frequency() / 50) == SPI {
        other::nothing_comes()?;
        interface::set_eoir1(SPI);
    } else {
        other::comes_and_ends(SPI)?;
    }
    soon(|| states(SPI, 0, 0))
}
