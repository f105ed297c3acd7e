//! Guests that break the rules on purpose: exhausted pools, a broken protocol. After each, the store serves others, and
//! nothing is left when the guest is gone.

mod common;

use common::scene::Scene;
use common::{World, header, message};
use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::XsOp;
use xenstore::{Error, Fault, Quotas, Resource, TxId};

#[test]
fn nodes_are_limited_wherever_a_domain_makes_them() {
    let mut scene = Scene::new();
    scene.world.write(scene.world.dom0, "/open", "").unwrap();
    scene.world.set_perms(scene.world.dom0, "/open", "b0").unwrap();
    let make = |count| format!("{}{count}\0", if count % 2 == 0 { "mine/" } else { "/open/" });
    let request = |count| message(XsOp::Mkdir, 0, TxId::NONE, make(count).as_bytes());
    let (made, error) = scene.flood(request);
    assert_eq!((made, &*error), (998, "ENOSPC"), "its home and `mine` count too");
    let at_once = scene.world.reply_to(scene.attacker, XsOp::Mkdir, b"/open/a/b/c/d\0");
    assert_eq!(at_once.text(), "ENOSPC\0");
    scene.world.write(scene.victim, "more", "").unwrap();
    scene.world.store.domain_died(DomId(2));
    assert!(scene.world.list(scene.world.dom0, "/open").unwrap().is_empty());
    scene.world.rm(scene.world.dom0, "/open").unwrap();
    scene.world.rm(scene.victim, "more").unwrap();
    scene.check();
}

#[test]
fn watches_are_limited_and_go_with_their_domain() {
    let mut scene = Scene::new();
    let request = |count| message(XsOp::Watch, 0, TxId::NONE, format!("/x/{count}\0t\0").as_bytes());
    let (set, error) = scene.flood(request);
    assert_eq!((set, &*error), (128, "E2BIG"));
    scene.check();
}

#[test]
fn transactions_are_limited_in_number_and_size() {
    let mut scene = Scene::new();
    let start = |_| message(XsOp::TransactionStart, 0, TxId::NONE, b"\0");
    let (open, error) = scene.flood(start);
    assert_eq!((open, &*error), (10, "ENOSPC"));
    let read = |count| message(XsOp::Read, 0, TxId::new(1), format!("a{count}\0").as_bytes());
    let mut reads = 0;
    while scene.world.receive_all(scene.attacker, &read(reads))[0].text() == "ENOENT\0" {
        reads += 1;
    }
    assert!(reads <= 1024, "{reads} absent nodes were noted");
    let value = "v".repeat(2000);
    let write = message(XsOp::Write, 0, TxId::new(2), format!("a\0{value}").as_bytes());
    let (writes, error) = scene.flood(|_| write.clone());
    assert_eq!(&*error, "ENOSPC");
    assert!(writes * 2000 <= 66_000, "{writes} values were kept");
    scene.check();
}

#[test]
fn a_nodes_size_and_permissions_are_limited() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    let too_large = Err(Error::OverQuota(Resource::NodeBytes));
    assert_eq!(world.write(attacker, "a", &"v".repeat(2049)), too_large);
    world.write(attacker, "a", &"v".repeat(2000)).unwrap();
    let perms = "n2 r0 r0 r0 r0 r0";
    assert_eq!(world.set_perms(attacker, "a", perms), Err(Error::OverQuota(Resource::Perms)));
    scene.check();
}

#[test]
fn requests_are_not_taken_while_replies_are_not_read() {
    let mut scene = Scene::new();
    let request = message(XsOp::Read, 0, TxId::NONE, b"/none\0");
    let flood = request.repeat(1000);
    let store = &mut scene.world.store;
    let taken = store.input(scene.attacker, &flood).unwrap();
    assert_eq!(taken, 20 * request.len());
    assert_eq!(store.input(scene.attacker, &flood), Ok(0));
    assert_eq!(store.accepts_input(scene.attacker), Ok(false));
    assert_eq!(scene.world.receive(scene.attacker).len(), 20);
    assert_eq!(scene.world.store.accepts_input(scene.attacker), Ok(true));
    scene.check();
}

#[test]
fn unread_events_are_merged_and_none_is_lost() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    world.watch_quietly(attacker, "a", "one");
    world.watch_quietly(attacker, "b", "two");
    for count in 0..900 {
        world.write(world.dom0, &format!("/local/domain/2/a/{count}"), "").unwrap();
    }
    world.write(world.dom0, "/local/domain/2/b/x", "").unwrap();
    let events = world.events(attacker);
    assert_eq!(events.len(), 258);
    assert_eq!(events[255..], ["a/255 one", "a one", "b two"]);
    world.write(world.dom0, "/local/domain/2/b/x", "").unwrap();
    assert_eq!(world.events(attacker), ["b/x two"]);
    scene.check();
}

#[test]
fn beyond_the_limit_each_watch_waits_once_until_it_is_read() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    for token in 0..100 {
        world.watch_quietly(attacker, "a", &token.to_string());
    }
    for _ in 0..2 {
        for count in 0..900 {
            world.write(world.dom0, &format!("/local/domain/2/a/{count}"), "").unwrap();
        }
        let events = world.events(attacker);
        assert_eq!(events.len(), 256 + 100);
        let mut merged: Vec<_> = events[256..].to_vec();
        merged.sort();
        merged.dedup();
        assert!(merged.len() == 100 && merged.iter().all(|event| event.starts_with("a ")), "{merged:?}");
    }
    scene.check();
}

#[test]
fn one_event_that_is_unread_is_not_queued_again() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    world.watch_quietly(attacker, "a", "t");
    for _ in 0..1000 {
        world.write(world.dom0, "/local/domain/2/a", "").unwrap();
    }
    assert_eq!(world.events(attacker), ["a t"]);
    scene.check();
}

#[test]
fn an_event_that_is_longer_than_a_message_is_left_out() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    let watch = format!("a\0{}\0", "t".repeat(4093));
    assert_eq!(world.send(attacker, XsOp::Watch, watch.as_bytes()).len(), 2);
    world.write(world.dom0, "/local/domain/2/a/b", "").unwrap();
    assert!(world.store.output(attacker).is_empty());
    assert_eq!(world.reply_to(attacker, XsOp::Mkdir, b"c\0").text(), "OK\0");
    scene.check();
}

#[test]
fn a_length_beyond_the_limit_ends_only_that_connection() {
    for len in [4097, 65536, 0x8000_0000, u32::MAX] {
        let mut scene = Scene::new();
        scene.world.watch_quietly(scene.attacker, "a", "t");
        let bytes = header(XsOp::Write.raw(), 0, 0, len);
        let store = &mut scene.world.store;
        assert_eq!(store.input(scene.attacker, &bytes[..15]), Ok(15));
        assert_eq!(store.input(scene.attacker, &bytes[15..]), Err(Fault::Oversized { len }));
        assert_eq!(store.input(scene.attacker, &bytes), Err(Fault::Oversized { len }));
        scene.world.write(scene.world.dom0, "/local/domain/2/a", "").unwrap();
        assert!(scene.world.store.output(scene.attacker).is_empty());
        scene.check();
    }
}

#[test]
fn a_broken_connection_works_again_after_a_reset() {
    let mut scene = Scene::new();
    let bytes = header(XsOp::Write.raw(), 0, 0, 5000);
    scene.world.store.input(scene.attacker, &bytes).unwrap_err();
    scene.world.store.reset(scene.attacker);
    assert_eq!(scene.world.reply_to(scene.attacker, XsOp::Mkdir, b"a\0").text(), "OK\0");
    scene.check();
}

#[test]
fn half_messages_hold_up_nobody() {
    let mut scene = Scene::new();
    let bytes = message(XsOp::Write, 0, TxId::NONE, b"a\0value");
    for cut in 0..bytes.len() {
        scene.world.store.input(scene.attacker, &bytes[..cut]).unwrap();
        scene.world.write(scene.victim, "other", "x").unwrap();
        assert!(scene.world.store.output(scene.attacker).is_empty());
        scene.world.store.reset(scene.attacker);
    }
    scene.world.rm(scene.victim, "other").unwrap();
    scene.check();
}

#[test]
fn long_and_deep_paths_are_bounded_and_torn_down() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    let deep = "a/".repeat(900) + "a";
    world.write(attacker, &deep, "bottom").unwrap();
    assert_eq!(world.read(attacker, &deep).unwrap(), "bottom");
    world.watch_quietly(attacker, &deep, "t");
    world.rm(attacker, "a").unwrap();
    assert_eq!(world.events(attacker), [format!("{deep} t")]);
    let deeper = "a/".repeat(1020) + "a";
    assert_eq!(world.mkdir(attacker, &deeper), Err(Error::OverQuota(Resource::Nodes)));
    assert_eq!(world.mkdir(attacker, &"a".repeat(2049)), Err(Error::BadPath));
    assert_eq!(world.mkdir(attacker, &("/".to_owned() + &"a".repeat(3072))), Err(Error::BadPath));
    world.write(attacker, &deep, "again").unwrap();
    scene.check();
}

#[test]
fn reset_watches_inside_a_transaction_ends_that_transaction() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    let tx = world.start(attacker);
    world.write_in(attacker, tx, "a", "1").unwrap();
    assert_eq!(world.send_in(attacker, XsOp::ResetWatches, tx, b"\0")[0].text(), "OK\0");
    assert_eq!(world.send_in(attacker, XsOp::TransactionEnd, tx, b"T\0")[0].text(), "ENOENT\0");
    assert_eq!(world.read(attacker, "a"), Err(Error::NoNode));
    scene.check();
}

#[test]
fn dom0_is_bound_by_no_quota_but_by_the_size_of_a_message() {
    let none = Quotas { nodes: 0, node_bytes: 0, watches: 0, transactions: 0, ..Quotas::default() };
    let mut world = World::with(none);
    let dom0 = world.dom0;
    world.write(dom0, "/a", &"v".repeat(4000)).unwrap();
    world.watch_quietly(dom0, "/a", "t");
    let tx = world.start(dom0);
    world.commit(dom0, tx).unwrap();
    assert_eq!(world.write(dom0, "/a", &"v".repeat(4096)), Err(Error::TooLong));
}
