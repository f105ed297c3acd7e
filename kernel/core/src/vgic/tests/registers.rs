//! What the registers answer, at any offset and width.

use proptest::prelude::*;

use super::*;

#[test]
fn the_redistributors_describe_themselves() {
    let gic = Gic::new(18);
    assert_eq!(gic.read_redist(0, 0x8, 8), 0);
    assert_eq!(gic.read_redist(17, 0x8, 8), 0x101 << 32 | 17 << 8 | 1 << 4);
    assert_eq!(gic.read_redist(17, 0xC, 4), 0x101);
    assert_eq!(gic.read(0xFFE8, 4) >> 4 & 0xF, 3);
    assert!(gic.access(redist(18) + 8, 8, None).is_none());
    assert_eq!(gic.access(0x0302_0000 + 0x2_0000 + 0xC, 4, None), Some(1), "the second is behind the first");
    assert!(gic.access(0x0300_1000 + 0xFFFC, 4, None).is_some());
    for nothing in [0x0300_0FFC, 0x0301_1000, 0x0301_FFFC, 0x0402_0000, 0, u64::MAX - 3] {
        assert_eq!(gic.access(nothing, 4, None), None, "{nothing:#x}");
        assert_eq!(gic.access(nothing, 4, Some(1)), None, "{nothing:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_register_access_is_answered(
        accesses in proptest::collection::vec((0u64..0x2_0000, 0u32..4, any::<u64>(), any::<bool>()), 0..200),
    ) {
        let gic = Gic::new(3);
        link(&gic, 40);
        for (offset, size, value, private) in accesses {
            let size = 1u8 << size;
            let offset = offset & !u64::from(size - 1);
            if private {
                gic.access(redist(2) + offset, size, None).unwrap();
                gic.access(redist(2) + offset, size, Some(value)).unwrap();
            } else {
                gic.read(offset & 0xFFFF, size);
                gic.write(offset & 0xFFFF, size, value);
            }
            send_sgi(&gic.kernel, &gic.current(1), value, private);
            gic.enter(0);
        }
    }
}

#[test]
fn sgis_are_edges_whatever_is_written_and_ppis_are_what_was_written() {
    let gic = Gic::new(1);
    for (value, ppis) in [(0, 0), (u64::MAX, 0xAAAA_AAAA), (0x8000_0000, 0x8000_0000)] {
        gic.write_redist(0, 0x1_0C00, value);
        gic.write_redist(0, 0x1_0C04, value);
        assert_eq!(gic.read_redist(0, 0x1_0C00, 4), 0xAAAA_AAAA);
        assert_eq!(gic.read_redist(0, 0x1_0C04, 4), ppis);
    }
}
