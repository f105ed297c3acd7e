//! Guests that break the rules on purpose: exhausted pools, a broken protocol, reused domids. After each, the store
//! serves others, and nothing is left when the guest is gone.

mod common;

use common::{World, header, message};
use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::XsOp;
use xenstore::{Error, Fault, Quotas, Reply, Request, Resource, TxId};

/// A world with a victim, whose attacker must leave no trace.
struct Scene {
    world: World,
    victim: xenstore::ConnId,
    attacker: xenstore::ConnId,
    nodes: usize,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let victim = world.guest(1);
        world.write(victim, "data", "precious").unwrap();
        let nodes = world.check();
        let attacker = world.guest(2);
        Self {
            world,
            victim,
            attacker,
            nodes,
        }
    }

    /// The victim is served and unharmed; after the attacker's end the node count is as before.
    fn check(mut self) {
        self.world.check();
        let reply = self.world.reply_to(self.victim, XsOp::Read, b"data\0");
        assert_eq!(reply.text(), "precious");
        self.world.store.domain_died(DomId(2));
        assert_eq!(self.world.check(), self.nodes);
    }

    fn flood(&mut self, request: impl Fn(usize) -> Vec<u8>) -> (usize, String) {
        for count in 0..100_000 {
            let replies = self.world.receive_all(self.attacker, &request(count));
            if let Some(error) = replies.iter().find(|reply| reply.op == XsOp::Error) {
                return (count, error.text().trim_end_matches('\0').to_owned());
            }
        }
        panic!("no limit was met");
    }
}

impl World {
    fn receive_all(&mut self, conn: xenstore::ConnId, bytes: &[u8]) -> Vec<common::Message> {
        assert_eq!(self.store.input(conn, bytes), Ok(bytes.len()));
        self.receive(conn)
    }
}

#[test]
fn nodes_are_limited_wherever_a_domain_makes_them() {
    let mut scene = Scene::new();
    scene.world.write(scene.world.dom0, "/open", "").unwrap();
    scene
        .world
        .set_perms(scene.world.dom0, "/open", "b0")
        .unwrap();
    let make = |count| {
        format!(
            "{}{count}\0",
            if count % 2 == 0 { "mine/" } else { "/open/" }
        )
    };
    let request = |count| message(XsOp::Mkdir, 0, TxId::NONE, make(count).as_bytes());
    let (made, error) = scene.flood(request);
    assert_eq!(
        (made, &*error),
        (998, "ENOSPC"),
        "its home and `mine` count too"
    );
    let at_once = scene
        .world
        .reply_to(scene.attacker, XsOp::Mkdir, b"/open/a/b/c/d\0");
    assert_eq!(at_once.text(), "ENOSPC\0");
    scene.world.write(scene.victim, "more", "").unwrap();
    scene.world.store.domain_died(DomId(2));
    assert!(
        scene
            .world
            .list(scene.world.dom0, "/open")
            .unwrap()
            .is_empty()
    );
    scene.world.rm(scene.world.dom0, "/open").unwrap();
    scene.world.rm(scene.victim, "more").unwrap();
    scene.check();
}

#[test]
fn watches_are_limited_and_go_with_their_domain() {
    let mut scene = Scene::new();
    let request = |count| {
        message(
            XsOp::Watch,
            0,
            TxId::NONE,
            format!("/x/{count}\0t\0").as_bytes(),
        )
    };
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
    let read = |count| {
        message(
            XsOp::Read,
            0,
            TxId::new(1),
            format!("a{count}\0").as_bytes(),
        )
    };
    let mut reads = 0;
    while scene.world.receive_all(scene.attacker, &read(reads))[0].text() == "ENOENT\0" {
        reads += 1;
    }
    assert!(reads <= 1024, "{reads} absent nodes were noted");
    let value = "v".repeat(2000);
    let write = message(
        XsOp::Write,
        0,
        TxId::new(2),
        format!("a\0{value}").as_bytes(),
    );
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
    assert_eq!(
        world.set_perms(attacker, "a", perms),
        Err(Error::OverQuota(Resource::Perms))
    );
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
        world
            .write(world.dom0, &format!("/local/domain/2/a/{count}"), "")
            .unwrap();
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
        assert_eq!(
            store.input(scene.attacker, &bytes[15..]),
            Err(Fault::Oversized { len })
        );
        assert_eq!(
            store.input(scene.attacker, &bytes),
            Err(Fault::Oversized { len })
        );
        scene
            .world
            .write(scene.world.dom0, "/local/domain/2/a", "")
            .unwrap();
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
    assert_eq!(
        scene
            .world
            .reply_to(scene.attacker, XsOp::Mkdir, b"a\0")
            .text(),
        "OK\0"
    );
    scene.check();
}

#[test]
fn half_messages_hold_up_nobody() {
    let mut scene = Scene::new();
    let bytes = message(XsOp::Write, 0, TxId::NONE, b"a\0value");
    for cut in 0..bytes.len() {
        scene
            .world
            .store
            .input(scene.attacker, &bytes[..cut])
            .unwrap();
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
    assert_eq!(
        world.mkdir(attacker, &deeper),
        Err(Error::OverQuota(Resource::Nodes))
    );
    assert_eq!(
        world.mkdir(attacker, &"a".repeat(2049)),
        Err(Error::BadPath)
    );
    assert_eq!(
        world.mkdir(attacker, &("/".to_owned() + &"a".repeat(3072))),
        Err(Error::BadPath)
    );
    world.write(attacker, &deep, "again").unwrap();
    scene.check();
}

#[test]
fn reset_watches_inside_a_transaction_ends_that_transaction() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    let tx = world.start(attacker);
    world.write_in(attacker, tx, "a", "1").unwrap();
    assert_eq!(
        world.send_in(attacker, XsOp::ResetWatches, tx, b"\0")[0].text(),
        "OK\0"
    );
    assert_eq!(
        world.send_in(attacker, XsOp::TransactionEnd, tx, b"T\0")[0].text(),
        "ENOENT\0"
    );
    assert_eq!(world.read(attacker, "a"), Err(Error::NoNode));
    scene.check();
}

#[test]
fn a_domain_that_dies_in_the_middle_leaves_no_watch_transaction_or_message() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    world.watch(attacker, "/local/domain/1/data", "t").unwrap();
    let tx = world.start(attacker);
    world.write_in(attacker, tx, "a", "1").unwrap();
    world.store.input(attacker, b"\x0b\0\0").unwrap();
    world.store.domain_died(DomId(2));
    assert_eq!(world.store.input(attacker, b"x"), Err(Fault::Closed));
    assert_eq!(world.read(attacker, "a"), Err(Error::NoConnection));
    world.write(scene.victim, "data", "precious").unwrap();
    assert!(world.store.output(attacker).is_empty());
    let heir = world.guest(2);
    assert_eq!(world.commit(heir, tx), Err(Error::NoTransaction));
    assert!(world.events(heir).is_empty());
    assert_eq!(world.reply_to(heir, XsOp::Read, b"a\0").text(), "ENOENT\0");
    scene.check();
}

#[test]
fn a_new_domain_inherits_no_right_of_the_old_one() {
    let mut scene = Scene::new();
    let (world, victim) = (&mut scene.world, scene.victim);
    world.write(victim, "shared", "secret").unwrap();
    world.set_perms(victim, "shared", "n1 r2").unwrap();
    world
        .set_perms(world.dom0, xenstore::RELEASE_DOMAIN, "n0 r2")
        .unwrap();
    let tx = world.start(victim);
    let perms = &common::perms("n1 r2");
    let share = Request::SetPerms {
        path: "data",
        perms,
    };
    world.store.request(victim, tx, share).unwrap();
    world.store.domain_died(DomId(2));
    let heir = world.guest(2);
    let foreign = "/local/domain/1/shared";
    assert_eq!(world.read(heir, foreign), Err(Error::AccessDenied));
    assert_eq!(world.get_perms(victim, "shared").unwrap(), "n1");
    assert_eq!(
        world
            .get_perms(world.dom0, xenstore::RELEASE_DOMAIN)
            .unwrap(),
        "n0"
    );
    assert_eq!(world.commit(victim, tx), Err(Error::Conflict));
    assert_eq!(
        world.read(heir, "/local/domain/1/data"),
        Err(Error::AccessDenied)
    );
    world.rm(victim, "shared").unwrap();
    scene.check();
}

#[test]
fn a_new_domain_owns_no_node_of_the_old_one() {
    let mut scene = Scene::new();
    let (world, victim) = (&mut scene.world, scene.victim);
    world.set_perms(victim, "data", "b1").unwrap();
    world
        .write(scene.attacker, "/local/domain/1/data/mine/deep", "x")
        .unwrap();
    world.watch_quietly(victim, "data/mine", "t");
    world.store.domain_died(DomId(2));
    assert_eq!(world.events(victim), ["data/mine t"]);
    assert!(world.list(victim, "data").unwrap().is_empty());
    scene.check();
}

#[test]
fn rights_cannot_be_laid_out_for_a_domain_that_does_not_exist_yet() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    world.write(attacker, "bait", "").unwrap();
    world.set_perms(attacker, "bait", "n2 b9 r1").unwrap();
    assert_eq!(world.get_perms(attacker, "bait").unwrap(), "n2 r1");
    let nine = world.guest(9);
    assert_eq!(
        world.read(nine, "/local/domain/2/bait"),
        Err(Error::AccessDenied)
    );
    world.store.domain_died(DomId(9));
    scene.check();
}

#[test]
fn what_the_toolstack_prepared_for_a_domain_never_introduced_goes_with_it() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    world.write(world.dom0, "/local/domain/9/x", "").unwrap();
    world
        .set_perms(world.dom0, "/local/domain/9", "n9")
        .unwrap();
    world.set_perms(world.dom0, "/local", "n0 r9").unwrap();
    world.store.domain_died(DomId(9));
    assert_eq!(world.get_perms(world.dom0, "/local").unwrap(), "n0");
    assert_eq!(world.list(world.dom0, "/local/domain").unwrap(), ["1", "2"]);
    scene.check();
}

#[test]
fn special_watches_and_the_root_survive_an_owner_that_dies() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    for path in ["/", xenstore::RELEASE_DOMAIN, xenstore::INTRODUCE_DOMAIN] {
        world.set_perms(world.dom0, path, "r2").unwrap();
    }
    world.store.domain_died(DomId(2));
    for path in ["/", xenstore::RELEASE_DOMAIN, xenstore::INTRODUCE_DOMAIN] {
        assert_eq!(world.get_perms(world.dom0, path).unwrap(), "r0");
    }
    scene.check();
}

#[test]
fn introducing_a_domain_twice_resets_it_and_another_page_is_refused() {
    let mut scene = Scene::new();
    let (world, attacker) = (&mut scene.world, scene.attacker);
    world.watch_quietly(attacker, "a", "t");
    world.actions();
    world.introduce(2).unwrap();
    assert_eq!(world.actions().len(), 1);
    world.write(world.dom0, "/local/domain/2/a", "").unwrap();
    assert!(world.events(attacker).is_empty());
    let port = hypercall_abi::ids::Port(1);
    let elsewhere = Request::Introduce {
        domid: DomId(2),
        gfn: hypercall_abi::ids::Gfn(1),
        port,
    };
    assert_eq!(
        world.ask(world.dom0, elsewhere),
        Err(Error::IntroducedElsewhere)
    );
    scene.check();
}

#[test]
fn dom0_is_bound_by_no_quota_but_by_the_size_of_a_message() {
    let none = Quotas {
        nodes: 0,
        node_bytes: 0,
        watches: 0,
        transactions: 0,
        ..Quotas::default()
    };
    let mut world = World::with(none);
    let dom0 = world.dom0;
    world.write(dom0, "/a", &"v".repeat(4000)).unwrap();
    world.watch_quietly(dom0, "/a", "t");
    let tx = world.start(dom0);
    world.commit(dom0, tx).unwrap();
    assert_eq!(
        world.write(dom0, "/a", &"v".repeat(4096)),
        Err(Error::TooLong)
    );
}

#[test]
fn ten_thousand_lives_of_a_domain_leave_the_store_as_it_was() {
    let mut world = World::new();
    world.write(world.dom0, "/local/domain", "").unwrap();
    let nodes = world.check();
    for _ in 0..10_000 {
        let guest = world.guest(5);
        world.watch(guest, "device", "t").unwrap();
        world.write(guest, "device/vbd/51712/state", "1").unwrap();
        let tx = world.start(guest);
        world.write_in(guest, tx, "device/x", "1").unwrap();
        world.store.domain_died(DomId(5));
        world.actions();
        while world.store.take_ready().is_some() {}
    }
    assert_eq!(world.check(), nodes);
    assert_eq!(
        world.ask(world.dom0, Request::IsDomainIntroduced { domid: DomId(5) }),
        Ok(Reply::Introduced(false))
    );
}
