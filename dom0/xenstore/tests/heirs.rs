//! Domains that die and whose number comes back: whoever comes next inherits nothing.

mod common;

use common::World;
use common::scene::Scene;
use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::XsOp;
use xenstore::{Error, Fault, Reply, Request};

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
    world.set_perms(world.dom0, xenstore::RELEASE_DOMAIN, "n0 r2").unwrap();
    let tx = world.start(victim);
    let perms = &common::perms("n1 r2");
    let share = Request::SetPerms { path: "data", perms };
    world.store.request(victim, tx, share).unwrap();
    world.store.domain_died(DomId(2));
    let heir = world.guest(2);
    let foreign = "/local/domain/1/shared";
    assert_eq!(world.read(heir, foreign), Err(Error::AccessDenied));
    assert_eq!(world.get_perms(victim, "shared").unwrap(), "n1");
    assert_eq!(world.get_perms(world.dom0, xenstore::RELEASE_DOMAIN).unwrap(), "n0");
    assert_eq!(world.commit(victim, tx), Err(Error::Conflict));
    assert_eq!(world.read(heir, "/local/domain/1/data"), Err(Error::AccessDenied));
    world.rm(victim, "shared").unwrap();
    scene.check();
}

#[test]
fn a_new_domain_owns_no_node_of_the_old_one() {
    let mut scene = Scene::new();
    let (world, victim) = (&mut scene.world, scene.victim);
    world.set_perms(victim, "data", "b1").unwrap();
    world.write(scene.attacker, "/local/domain/1/data/mine/deep", "x").unwrap();
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
    assert_eq!(world.read(nine, "/local/domain/2/bait"), Err(Error::AccessDenied));
    world.store.domain_died(DomId(9));
    scene.check();
}

#[test]
fn what_the_toolstack_prepared_for_a_domain_never_introduced_goes_with_it() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    world.write(world.dom0, "/local/domain/9/x", "").unwrap();
    world.set_perms(world.dom0, "/local/domain/9", "n9").unwrap();
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
    let elsewhere = Request::Introduce { domid: DomId(2), gfn: hypercall_abi::ids::Gfn(1), port };
    assert_eq!(world.ask(world.dom0, elsewhere), Err(Error::IntroducedElsewhere));
    scene.check();
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
    assert_eq!(world.ask(world.dom0, Request::IsDomainIntroduced { domid: DomId(5) }), Ok(Reply::Introduced(false)));
}
