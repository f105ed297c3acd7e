//! Reading, writing, listing, removing; permissions.

mod common;

use common::World;
use hypercall_abi::ids::DomId;
use xenstore::{Error, Request};

#[test]
fn writing_makes_the_missing_parents_with_empty_values() {
    let mut world = World::new();
    world.write(world.dom0, "/a/b/c", "v").unwrap();
    assert_eq!(world.read(world.dom0, "/a/b/c").unwrap(), "v");
    assert_eq!(world.read(world.dom0, "/a/b").unwrap(), "");
    assert_eq!(world.list(world.dom0, "/a").unwrap(), ["b"]);
    assert_eq!(world.list(world.dom0, "/").unwrap(), ["a"]);
}

#[test]
fn mkdir_leaves_an_existing_value() {
    let mut world = World::new();
    world.write(world.dom0, "/a", "v").unwrap();
    world.mkdir(world.dom0, "/a").unwrap();
    assert_eq!(world.read(world.dom0, "/a").unwrap(), "v");
}

#[test]
fn removing_takes_the_subtree_and_needs_only_a_parent() {
    let mut world = World::new();
    let nodes = world.check();
    world.write(world.dom0, "/a/b/c", "v").unwrap();
    world.write(world.dom0, "/a/d", "v").unwrap();
    world.rm(world.dom0, "/a/b").unwrap();
    assert_eq!(world.list(world.dom0, "/a").unwrap(), ["d"]);
    world.rm(world.dom0, "/a/b").unwrap();
    assert_eq!(world.rm(world.dom0, "/a/b/c"), Err(Error::NoNode));
    assert_eq!(world.rm(world.dom0, "/"), Err(Error::RootStays));
    world.rm(world.dom0, "/a").unwrap();
    assert_eq!(world.check(), nodes);
}

#[test]
fn a_domain_reads_and_writes_where_the_permissions_let_it() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.write(one, "shared", "x").unwrap();
    assert_eq!(world.read(two, "/local/domain/1/shared"), Err(Error::AccessDenied));
    world.set_perms(one, "shared", "n1 r2").unwrap();
    assert_eq!(world.read(two, "/local/domain/1/shared").unwrap(), "x");
    assert_eq!(world.write(two, "/local/domain/1/shared", "y"), Err(Error::AccessDenied));
    world.set_perms(one, "shared", "n1 b2").unwrap();
    world.write(two, "/local/domain/1/shared", "y").unwrap();
    assert_eq!(world.read(one, "shared").unwrap(), "y");
    assert_eq!(world.read(world.dom0, "/local/domain/1/shared").unwrap(), "y");
}

#[test]
fn what_is_absent_is_told_only_to_who_may_read_above_it() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    assert_eq!(world.read(one, "none/at/all"), Err(Error::NoNode));
    assert_eq!(world.read(two, "/local/domain/1/none"), Err(Error::AccessDenied));
    assert_eq!(world.rm(two, "/local/domain/1/none"), Err(Error::AccessDenied));
}

#[test]
fn a_new_node_has_its_parents_permissions_and_its_makers_ownership() {
    let mut world = World::new();
    let (one, _two) = (world.guest(1), world.guest(2));
    world.set_perms(world.dom0, "/local/domain/2", "n2 b1").unwrap();
    world.write(one, "/local/domain/2/made/by/one", "x").unwrap();
    assert_eq!(world.get_perms(world.dom0, "/local/domain/2/made/by").unwrap(), "n1 b1");
    world.write(world.dom0, "/local/domain/2/by-dom0", "x").unwrap();
    assert_eq!(world.get_perms(world.dom0, "/local/domain/2/by-dom0").unwrap(), "n2 b1");
}

#[test]
fn only_the_owner_sets_permissions_and_only_dom0_the_owner() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.write(one, "x", "").unwrap();
    world.set_perms(one, "x", "b1 b2").unwrap();
    assert_eq!(world.set_perms(two, "/local/domain/1/x", "b2"), Err(Error::AccessDenied));
    assert_eq!(world.set_perms(one, "x", "b2"), Err(Error::OwnerFixed));
    assert_eq!(world.set_perms(one, "none", "b1"), Err(Error::NoNode));
    world.set_perms(world.dom0, "/local/domain/1/x", "n2").unwrap();
    assert_eq!(world.read(one, "x"), Err(Error::AccessDenied));
    world.check();
}

#[test]
fn a_domain_has_the_rights_of_its_target_until_the_target_dies() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.write(one, "secret", "x").unwrap();
    let path = "/local/domain/1/secret";
    assert_eq!(world.read(two, path), Err(Error::AccessDenied));
    let aim = Request::SetTarget { domid: DomId(2), target: DomId(1) };
    world.ask(world.dom0, aim).unwrap();
    assert_eq!(world.read(two, path).unwrap(), "x");
    world.store.domain_died(DomId(1));
    let one = world.guest(1);
    world.write(one, "secret", "y").unwrap();
    assert_eq!(world.read(two, path), Err(Error::AccessDenied));
    assert_eq!(world.ask(one, aim), Err(Error::AccessDenied));
    let nobody = Request::SetTarget { domid: DomId(2), target: DomId(9) };
    assert_eq!(world.ask(world.dom0, nobody), Err(Error::NoDomain));
}

#[test]
fn dom0s_relative_paths_are_below_its_home() {
    let mut world = World::new();
    world.write(world.dom0, "backend/x", "1").unwrap();
    assert_eq!(world.read(world.dom0, "/local/domain/0/backend/x").unwrap(), "1");
}
