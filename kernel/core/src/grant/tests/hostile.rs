//! Random calls with random structures: whatever comes, EL2 goes on, a victim keeps its pages, and no frame is lost.

use hypercall_abi::nr::MEMORY_OP;
use proptest::prelude::*;

use super::*;

/// Numbers that sit at the edges of fields: sizes, frames, addresses, counts, domids, and what overflows them.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        0u64..64,
        (0u64..20).prop_map(|n| FIRST + n),
        (0u64..20).prop_map(|n| GUEST_RAM + n * PAGE_SIZE),
        (0u64..20).prop_map(|n| SLOTS + n * PAGE_SIZE),
        Just(0x7FF0),
        Just(0x7FF0_0000_0001),
        (0u64..4, 0u64..12).prop_map(|(dom, low)| dom << 32 | low),
        (0u64..4, 0u64..12, 0u64..4).prop_map(|(dom, gref, flags)| dom | gref << 32 | flags << 48),
        Just(4096),
        Just(1 << 31),
        Just((1 << 32) + 1),
        Just((1 << 40) - PAGE_SIZE),
        Just(1 << 40),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn pointer() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0u64..12).prop_map(|n| GUEST_RAM + n * 8),
        1 => Just(GUEST_RAM + PAGE_SIZE - 4),
        1 => Just(GUEST_RAM + 16 * PAGE_SIZE - 12),
        1 => edge(),
    ]
}

#[derive(Clone, Debug)]
struct Wild {
    number: u32,
    command: u64,
    pointer: u64,
    count: u64,
    words: Vec<u64>,
}

fn wild() -> impl Strategy<Value = Wild> {
    let command = prop_oneof![8 => 0u64..30, 1 => (0u64..30, any::<u32>()).prop_map(|(c, p)| c | u64::from(p) << 6)];
    let count = prop_oneof![6 => 0u64..6, 1 => edge()];
    (prop::bool::ANY, command, pointer(), count, prop::collection::vec(edge(), 16)).prop_map(
        |(grants, command, pointer, count, words)| {
            let number = if grants { GRANT_TABLE_OP } else { MEMORY_OP };
            // Billions of elements are allowed, and take their time; a test has none.
            let count = if count & 0xFFFF_FFFF > 4096 && count & 1 << 31 == 0 { 1 << 31 } else { count };
            Wild { number, command, pointer, count, words }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_call_hurts_anyone_else(calls in prop::collection::vec(wild(), 1..60)) {
        let mut t = pair();
        for gref in 0..4 {
            grant(&t.a, gref, u64::from(gref), t.b.id, gref % 2 == 0);
        }
        poke(&t.a, GUEST_RAM + 8 * PAGE_SIZE, &0x1234_5678_9ABC_DEF0u64);
        let pages: Vec<Pa> = (0..16).map(|n| page(&t.a, n)).collect();
        for call in &calls {
            for (n, word) in call.words.iter().enumerate() {
                let at = GUEST_RAM + n as u64 * 8;
                // The attacker may have given this page away.
                if t.b.p2m.lookup(crate::addr::Ipa::new(at)).is_some() {
                    poke(&t.b, at, word);
                }
            }
            t.world.call(&t.b, call.number, &[call.command, call.pointer, call.count]);
        }
        prop_assert_eq!(peek::<u64>(&t.a, GUEST_RAM + 8 * PAGE_SIZE), 0x1234_5678_9ABC_DEF0);
        prop_assert_eq!(t.a.quota.owned(), 16);
        let b = t.b.clone();
        t.world.destroy(&b);
        for (n, frame) in (0u64..).zip(&pages) {
            prop_assert_eq!(page(&t.a, n), *frame);
            prop_assert_eq!(Fake::frames().references(*frame), 1);
        }
        for gref in 0..4 {
            prop_assert_eq!(flags(&t.a, gref) & !GTF_READONLY, GTF_PERMIT_ACCESS);
        }
        let a = t.a.clone();
        t.world.destroy(&a);
        let free = t.free;
        drop((a, b, t));
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}
