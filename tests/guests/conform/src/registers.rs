//! What the registers say and hold (IHI 0069H, sections 12.2, 12.9 and 12.11).

use crate::gic::{
    ACTIVATE, CONFIG, DISABLE, ENABLE, GROUP, GROUP0, GROUP1, PEND, PRIORITY, ROUTE, SGI, bit, bits_of_other, dist,
    forward, has_group0, has_groups, is_v2, limit, nothing_comes, private, redist, set, set_of_other,
};
use crate::{Outcome, Rule, is, routes, states, sys};

/// Of what a GICv2 does not have, or has in another way.
pub const V3_RULES: &[Rule] = &[
    ("both kinds of frames say that this is a GICv3", revision),
    ("a redistributor has the affinity of its vCPU, and the last one says so", affinities),
    ("the CPU interface is in system registers", system_registers),
    ("no write is said to be pending", writes),
    ("the distributor has nothing for private interrupts", private_in_distributor),
    ("a route holds its affinity in one access or two", routes),
    ("an interrupt of group 0 is a FIQ and is taken by its own register", states::group0),
    ("an SGI of group 0 is sent by its own register", routes::sgi_group0),
];

pub const RULES: &[Rule] = &[
    ("GICD_CTLR holds the enable, and affinity routing is on", control),
    ("every interrupt can be enabled and disabled by ones, zeros change nothing", enables),
    ("what is beyond the last interrupt reads as zero", beyond),
    ("the last four numbers are no interrupts", last_word),
    ("priorities are bytes of four bits or more, by bytes and by words", priorities),
    ("SGIs are edges for ever, shared interrupts what is written", triggers),
    ("each vCPU has its own private interrupts", banks),
    ("the group of each interrupt is held where there is one security state", groups),
];

fn revision() -> Outcome {
    for frame in [dist(0), redist(0, 0), redist(1, 0)] {
        is("PIDR2.ArchRev", sys::load(frame + 0xFFE8) >> 4 & 0xF, 3)?;
    }
    Ok(())
}

fn affinities() -> Outcome {
    let mpidr = sys::affinity();
    for (cpu, affinity) in [(0, mpidr >> 8 & 0xFF00_0000 | mpidr & 0xFF_FFFF), (1, 1)] {
        let typer = sys::load_double(redist(cpu, 8));
        is("GICR_TYPER.Affinity_Value", typer >> 32, affinity)?;
        is("GICR_TYPER by its halves", sys::load(redist(cpu, 12)) << 32 | sys::load(redist(cpu, 8)), typer)?;
        is("GICR_TYPER.Last", typer >> 4 & 1, cpu)?;
    }
    Ok(())
}

fn system_registers() -> Outcome {
    is("ICC_SRE_EL1.SRE", sys::sre() & 1, 1)
}

fn control() -> Outcome {
    for value in [0, forward()] {
        sys::store(dist(0), value);
        is("GICD_CTLR.EnableGrp", sys::load(dist(0)) & forward(), value)?;
        is("GICD_CTLR.ARE", sys::load(dist(0)) >> 4 & 1, u64::from(!is_v2()))?;
    }
    if has_group0() {
        sys::store(dist(0), GROUP0 | GROUP1);
        is("GICD_CTLR.EnableGrp0", sys::load(dist(0)) & GROUP0, GROUP0)?;
    }
    Ok(())
}

fn writes() -> Outcome {
    is("GICD_CTLR.RWP", sys::load(dist(0)) >> 31, 0)?;
    is("GICR_CTLR.RWP", sys::load(redist(0, 0)) >> 3 & 1, 0)?;
    is("GICR_WAKER", sys::load(redist(0, 0x14)) & 6, 0)
}

fn enables() -> Outcome {
    for irq in 0..limit() {
        for (register, enabled) in [(DISABLE, 0), (ENABLE, 1)] {
            set(register, irq);
            is("the enable bit", bit(ENABLE, irq), enabled)?;
            is("the enable bit of the clearing register", bit(DISABLE, irq), enabled)?;
        }
    }
    for word in 1..limit() / 32 {
        sys::store(dist(ENABLE) + word * 4, 0);
        sys::store(dist(DISABLE) + word * 4, 0);
        is("32 enables", sys::load(dist(ENABLE) + word * 4), 0xFFFF_FFFF)?;
    }
    Ok(())
}

fn beyond() -> Outcome {
    for word in limit().div_ceil(32)..32 {
        for register in [ENABLE, PRIORITY + word * 28, CONFIG + word * 4] {
            sys::store(dist(register) + word * 4, u64::MAX);
            is("a register beyond", sys::load(dist(register) + word * 4), 0)?;
        }
    }
    Ok(())
}

fn last_word() -> Outcome {
    for register in [ENABLE, PEND, ACTIVATE] {
        sys::store(dist(register) + 124, 0xF << 28);
        is("the bits of numbers from 1020 on", sys::load(dist(register) + 124) >> 28, 0)?;
    }
    nothing_comes()
}

fn private_in_distributor() -> Outcome {
    // Targets and the registers of SGIs belong to the older way of routing.
    for register in [GROUP, ENABLE, 0x200, 0x300, PRIORITY, 0x800, 0x820, CONFIG, CONFIG + 4, 0xF00, 0xF10, 0xF20] {
        sys::store(dist(register), u64::MAX);
        is("a register of the distributor", sys::load(dist(register)), 0)?;
    }
    Ok(())
}

fn priorities() -> Outcome {
    for irq in 0..limit() {
        let at = if irq < 32 { private(0, PRIORITY) } else { dist(PRIORITY) } + irq;
        sys::store_byte(at, 0xFF);
        is("the upper bits of a priority", sys::load_byte(at) & 0xF0, 0xF0)?;
        sys::store_byte(at, 0x50);
        is("a priority", sys::load_byte(at), 0x50)?;
    }
    for at in [private(0, PRIORITY), dist(PRIORITY) + 32] {
        sys::store(at, 0x4030_2010);
        sys::store_byte(at + 2, 0xA0);
        is("four priorities", sys::load(at), 0x40A0_2010)?;
    }
    Ok(())
}

fn triggers() -> Outcome {
    for value in [0, u64::MAX] {
        sys::store(private(0, CONFIG), value);
        is("ICFGR of SGIs", sys::load(private(0, CONFIG)) & 0xAAAA_AAAA, 0xAAAA_AAAA)?;
        for word in 2..limit() / 16 {
            sys::store(dist(CONFIG) + word * 4, value);
            is("ICFGR", sys::load(dist(CONFIG) + word * 4) & 0xAAAA_AAAA, value & 0xAAAA_AAAA)?;
        }
    }
    Ok(())
}

fn routes() -> Outcome {
    for irq in 32..limit() {
        let at = dist(ROUTE) + irq * 8;
        sys::store_double(at, 1);
        is("a route", sys::load_double(at), 1)?;
        sys::store(at, 0);
        sys::store(at + 4, 0);
        is("a route by its halves", sys::load(at + 4) << 32 | sys::load(at), 0)?;
    }
    Ok(())
}

fn banks() -> Outcome {
    set_of_other(ENABLE, SGI);
    is("the enable of the first vCPU", bit(ENABLE, SGI), 0)?;
    is("the enable of the second vCPU", bits_of_other(ENABLE), 1 << SGI)?;
    if !is_v2() {
        sys::store_byte(private(1, PRIORITY) + SGI, 0x30);
    }
    is("the priority at the first vCPU", sys::load_byte(private(0, PRIORITY) + SGI), 0x80)
}

fn groups() -> Outcome {
    for at in [private(0, GROUP), dist(GROUP) + 4] {
        for value in [0x1234_5678, 0xFFFF_FFFF] {
            sys::store(at, value);
            is("32 groups", sys::load(at), if has_groups() { value } else { 0 })?;
        }
    }
    Ok(())
}
