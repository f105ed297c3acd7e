//! Random bytes and almost-right messages: nothing panics, the tree stays whole, others are served.

mod common;

use common::{World, header};
use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::XsOp;
use proptest::prelude::*;

/// Payloads that are close to right, so that they get past the parser.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "",
        "/",
        "a",
        "a/b",
        "/a",
        "/local/domain/1",
        "/local/domain/2/x",
        "@releaseDomain",
        "@x",
        "T",
        "F",
        "n1",
        "b2",
        "r1",
        "0",
        "1",
        "2",
        "99999999999",
        "-1",
        "check",
        "//",
        "a/",
        "token",
    ]);
    prop_oneof![
        4 => prop::collection::vec(word, 0..5).prop_map(|words| {
            words.iter().flat_map(|word| word.bytes().chain([0])).collect()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => prop::collection::vec(any::<u8>(), 4000..4097),
    ]
}

/// A message whose header tells the truth about its length.
fn honest() -> impl Strategy<Value = Vec<u8>> {
    (0..24_u32, any::<u32>(), 0..4_u32, payload()).prop_map(|(op, req_id, tx, payload)| {
        let mut bytes = header(op, req_id, tx, payload.len().try_into().unwrap());
        bytes.extend(payload);
        bytes
    })
}

fn portion() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => honest(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_guests_send_the_store_stays_whole_and_serves_others(
        portions in prop::collection::vec((0..3_u16, portion(), any::<bool>()), 0..60)
    ) {
        let mut world = World::new();
        let victim = world.guest(1);
        world.write(victim, "data", "precious").unwrap();
        let mut guests = [world.guest(2), world.guest(3), world.guest(4)];
        for (guest, bytes, reads) in portions {
            let conn = guests[usize::from(guest)];
            match world.store.input(conn, &bytes) {
                Ok(taken) => prop_assert!(taken <= bytes.len()),
                Err(_) => world.store.reset(conn),
            }
            if reads {
                world.receive(conn);
            }
            world.check();
        }
        prop_assert_eq!(world.reply_to(victim, XsOp::Read, b"data\0").payload, b"precious");
        for (index, guest) in guests.iter_mut().enumerate() {
            let domid = u16::try_from(index).unwrap() + 2;
            world.store.domain_died(DomId(domid));
            *guest = world.guest(domid);
            prop_assert_eq!(world.list(*guest, "/local/domain/1"), Err(xenstore::Error::AccessDenied));
        }
        world.check();
    }
}
