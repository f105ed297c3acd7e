//! Where modules go for guests of all sizes, and what is said when they do not fit.

use super::*;

const MIB: u64 = 1 << 20;

fn kernel(size: u64) -> Region {
    Region::new(RAM0_BASE, size).unwrap()
}

#[test]
fn memory_up_to_three_gib_is_one_bank() {
    assert_eq!(ram_banks(3072).unwrap(), [Region::clamped(RAM0_BASE, 3 << 30)]);
}

#[test]
fn memory_beyond_three_gib_goes_to_a_second_bank_at_eight_gib() {
    let banks = ram_banks(3073).unwrap();
    assert_eq!(banks.len(), 2);
    assert_eq!((banks[1].start(), banks[1].size()), (Ipa::new(0x2_0000_0000), MIB));
}

#[test]
fn memory_beyond_both_banks_is_refused() {
    assert!(matches!(ram_banks(u64::MAX), Err(LayoutError::TooMuchMemory { .. })));
}

#[test]
fn modules_go_128_mib_into_ram_when_they_fit_there() {
    let layout = place(512, kernel(32 * MIB), Some(5 * MIB + 1), 3000).unwrap();
    let initrd = layout.initrd.unwrap();
    assert_eq!(initrd.start(), Ipa::new(0x4800_0000));
    assert_eq!(initrd.size(), 5 * MIB + 1);
    assert_eq!(layout.dtb.start(), Ipa::new(0x4800_0000 + 5 * MIB + PAGE));
}

#[test]
fn in_a_small_guest_modules_go_to_the_top_of_ram() {
    let layout = place(16, kernel(MIB), None, 4096).unwrap();
    assert_eq!(layout.dtb.end(), Ipa::new(0x4000_0000 + 16 * MIB));
    assert_eq!(layout.initrd, None);
}

#[test]
fn a_guest_of_one_mib_has_its_modules_at_the_top_too() {
    let layout = place(1, kernel(240 << 10), None, 9000).unwrap();
    assert_eq!(layout.dtb, Region::new(Ipa::new(0x400f_d000), 9000).unwrap());
}

#[test]
fn when_the_kernel_fills_the_top_modules_go_below_it() {
    let high = Region::new(Ipa::new(0x4000_0000 + 6 * MIB), 2 * MIB).unwrap();
    let layout = place(8, high, Some(MIB), 4096).unwrap();
    assert!(layout.dtb.end() <= high.start());
}

#[test]
fn too_little_memory_says_how_much_is_needed_and_that_is_enough() {
    let sizes = (kernel(30 * MIB), Some(9 * MIB), 4096);
    let Err(LayoutError::TooLittleMemory { memory_mib: 16, needed_mib }) = place(16, sizes.0, sizes.1, sizes.2) else {
        panic!("16 MiB cannot hold a 30 MiB kernel");
    };
    assert!(place(needed_mib, sizes.0, sizes.1, sizes.2).is_ok());
    assert!(place(needed_mib - 1, sizes.0, sizes.1, sizes.2).is_err());
}

#[test]
fn a_kernel_outside_ram_is_refused() {
    let low = Region::new(Ipa::new(0x8_0000), MIB).unwrap();
    assert_eq!(place(64, low, None, 4096), Err(LayoutError::KernelOutsideRam(low)));
}

#[test]
fn nothing_overlaps_for_any_size_that_fits() {
    for memory in 1..=300 {
        for initrd in [None, Some(1), Some(7 * MIB), Some(64 * MIB)] {
            let Ok(layout) = place(memory, kernel(3 * MIB), initrd, 8192) else {
                continue;
            };
            let parts = [Some(layout.kernel), layout.initrd, Some(layout.dtb)];
            let parts: Vec<Region> = parts.into_iter().flatten().collect();
            for (index, part) in parts.iter().enumerate() {
                assert!(layout.banks[0].contains(*part), "{memory} MiB: {part} outside RAM");
                assert!(parts[index + 1..].iter().all(|other| !part.overlaps(*other)), "{memory} MiB: overlap");
            }
        }
    }
}

#[test]
fn magic_pages_are_where_xen_puts_them() {
    assert_eq!(MagicPage::Console.gfn(), Gfn(0x39000));
    assert_eq!(MagicPage::Store.gfn(), Gfn(0x39001));
    assert_eq!(MagicPage::Vuart.ipa(), Ipa::new(0x3900_3000));
}

#[test]
fn extended_regions_start_behind_ram_and_end_with_the_address_space() {
    let regions = extended_regions(&ram_banks(512).unwrap());
    assert_eq!(regions[0].start(), Ipa::new(0x6000_0000));
    assert_eq!(regions[0].end(), Ipa::new(0x1_0000_0000));
    assert_eq!(regions[1].end().get(), 1 << GUEST_PHYS_BITS);
    let full = extended_regions(&ram_banks(3072).unwrap());
    assert_eq!(full.len(), 1, "a full first bank leaves no region there");
}
