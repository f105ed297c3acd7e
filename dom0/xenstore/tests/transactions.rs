//! Transactions: isolation, conflicts and only those, parking.

mod common;

use common::World;
use hypercall_abi::ids::DomId;
use xenstore::{ConnId, Error, Request, TxId};

fn world() -> (World, ConnId, TxId) {
    let mut world = World::new();
    for node in ["/d/a", "/d/b", "/e/x"] {
        world.write(world.dom0, node, "0").unwrap();
    }
    let other = world.dom0;
    world.dom0 = world.store.connect(xenstore::ConnKind::Local).unwrap();
    let tx = world.start(world.dom0);
    (world, other, tx)
}

#[test]
fn a_transaction_sees_its_own_changes_and_nobody_elses() {
    let (mut world, other, tx) = world();
    let dom0 = world.dom0;
    world.write_in(dom0, tx, "/d/a", "mine").unwrap();
    assert_eq!(world.read(other, "/d/a").unwrap(), "0");
    assert_eq!(world.read_in(dom0, tx, "/d/a").unwrap(), "mine");
    world.write(other, "/d/new", "1").unwrap();
    world.rm(other, "/e").unwrap();
    assert_eq!(world.list_in(dom0, tx, "/d").unwrap(), ["a", "b"]);
    assert_eq!(world.read_in(dom0, tx, "/e/x").unwrap(), "0");
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let (mut world, other, tx) = world();
    let nodes = world.check();
    world.write_in(world.dom0, tx, "/x/y/z", "1").unwrap();
    world.abort(world.dom0, tx).unwrap();
    assert_eq!(world.check(), nodes);
    assert_eq!(world.read(other, "/x"), Err(Error::NoNode));
    assert_eq!(world.read_in(world.dom0, tx, "/d/a"), Err(Error::NoTransaction));
}

/// Runs `inside` in a transaction, then `outside` beside it, and says whether the commit was refused.
fn conflicts(inside: impl FnOnce(&mut World, ConnId, TxId), outside: impl FnOnce(&mut World, ConnId)) -> bool {
    let (mut world, other, tx) = world();
    let dom0 = world.dom0;
    inside(&mut world, dom0, tx);
    outside(&mut world, other);
    let outcome = world.commit(dom0, tx);
    world.check();
    match outcome {
        Ok(_) => false,
        Err(Error::Conflict) => true,
        Err(error) => panic!("{error}"),
    }
}

fn reads(path: &'static str) -> impl FnOnce(&mut World, ConnId, TxId) {
    move |world, conn, tx| drop(world.read_in(conn, tx, path))
}

fn lists(path: &'static str) -> impl FnOnce(&mut World, ConnId, TxId) {
    move |world, conn, tx| drop(world.list_in(conn, tx, path))
}

fn writes_in(path: &'static str) -> impl FnOnce(&mut World, ConnId, TxId) {
    move |world, conn, tx| drop(world.write_in(conn, tx, path, "in").unwrap())
}

fn removes_in(path: &'static str) -> impl FnOnce(&mut World, ConnId, TxId) {
    move |world, conn, tx| drop(world.store.request(conn, tx, Request::Rm { path }).unwrap())
}

fn writes(path: &'static str) -> impl FnOnce(&mut World, ConnId) {
    move |world, conn| drop(world.write(conn, path, "out").unwrap())
}

fn removes(path: &'static str) -> impl FnOnce(&mut World, ConnId) {
    move |world, conn| drop(world.rm(conn, path).unwrap())
}

#[test]
fn what_was_read_or_written_and_changed_outside_is_a_conflict() {
    assert!(conflicts(reads("/d/a"), writes("/d/a")), "a value read");
    assert!(conflicts(writes_in("/d/a"), writes("/d/a")), "a value written");
    assert!(conflicts(reads("/d/a"), removes("/d")), "a node that went with its parent");
    assert!(conflicts(reads("/d/none"), writes("/d/none")), "a node found absent");
    assert!(conflicts(reads("/d/none/x"), writes("/d/none")), "the way to a node found absent");
    assert!(conflicts(writes_in("/n/x"), writes("/n/x")), "a node made twice");
    assert!(conflicts(writes_in("/d/n"), removes("/d")), "a node made in what was removed");
    assert!(conflicts(lists("/d"), writes("/d/none")), "a list that grew");
    assert!(conflicts(lists("/d"), removes("/d/b")), "a list that shrank");
    assert!(conflicts(removes_in("/d"), writes("/d/a")), "a node changed in what was removed");
    assert!(conflicts(removes_in("/d"), writes("/d/none")), "a node made in what was removed");
    let perms = |world: &mut World, conn| drop(world.set_perms(conn, "/d/a", "r0").unwrap());
    assert!(conflicts(reads("/d/a"), perms), "permissions");
    let again = |world: &mut World, conn| {
        world.rm(conn, "/d/a").unwrap();
        world.write(conn, "/d/a", "0").unwrap();
    };
    assert!(conflicts(reads("/d/a"), again), "the same value in another node");
    let mkdir_then_list = |world: &mut World, conn, tx| {
        world.write_in(conn, tx, "/d/c", "").unwrap();
        world.list_in(conn, tx, "/d").unwrap();
    };
    assert!(conflicts(mkdir_then_list, writes("/d/none")), "a list that it changed itself first");
}

#[test]
fn what_was_not_used_may_change_outside() {
    assert!(!conflicts(reads("/d/a"), writes("/d/b")), "a sibling");
    assert!(!conflicts(reads("/d"), writes("/d/none")), "a child of a node whose value was read");
    assert!(!conflicts(reads("/d/a"), writes("/d")), "the parent's value");
    assert!(!conflicts(writes_in("/d/n"), writes("/d/m")), "two new children of one node");
    assert!(!conflicts(lists("/d"), writes("/d/a")), "the value of a listed child");
    assert!(!conflicts(removes_in("/d/a"), writes("/d/m")), "a sibling of what was removed");
    assert!(!conflicts(reads("/d/none"), writes("/e/none")), "another absent node");
}

#[test]
fn a_commit_makes_every_change_in_order() {
    let (mut world, other, tx) = world();
    let dom0 = world.dom0;
    removes_in("/d")(&mut world, dom0, tx);
    writes_in("/d/c/x")(&mut world, dom0, tx);
    removes_in("/d/c/x")(&mut world, dom0, tx);
    writes_in("/d/c/y")(&mut world, dom0, tx);
    world.write(other, "/unrelated", "").unwrap();
    world.commit(dom0, tx).unwrap();
    assert_eq!(world.list(other, "/d").unwrap(), ["c"]);
    assert_eq!(world.list(other, "/d/c").unwrap(), ["y"]);
    world.check();
}

#[test]
fn of_two_transactions_over_one_node_the_second_fails() {
    let (mut world, other, first) = world();
    let dom0 = world.dom0;
    let second = world.start(other);
    for (conn, tx) in [(dom0, first), (other, second)] {
        let value = world.read_in(conn, tx, "/d/a").unwrap();
        world.write_in(conn, tx, "/d/a", &(value + "+")).unwrap();
    }
    world.commit(other, second).unwrap();
    assert_eq!(world.commit(dom0, first), Err(Error::Conflict));
    assert_eq!(world.read(dom0, "/d/a").unwrap(), "0+");
}

#[test]
fn a_transaction_belongs_to_its_connection() {
    let (mut world, other, tx) = world();
    assert_eq!(world.read_in(other, tx, "/d/a"), Err(Error::NoTransaction));
    assert_eq!(world.commit(other, tx), Err(Error::NoTransaction));
}

/// More changes than an open transaction keeps its copy through.
fn churn(world: &mut World, conn: ConnId) {
    for round in 0..2000 {
        world.write(conn, "/churn", &round.to_string()).unwrap();
    }
}

#[test]
fn a_transaction_outlives_any_number_of_unrelated_changes() {
    let (mut world, other, tx) = world();
    let dom0 = world.dom0;
    writes_in("/d/a")(&mut world, dom0, tx);
    writes_in("/d/n/m")(&mut world, dom0, tx);
    churn(&mut world, other);
    assert_eq!(world.read_in(dom0, tx, "/d/a").unwrap(), "in");
    assert_eq!(world.list_in(dom0, tx, "/d").unwrap(), ["a", "b", "n"]);
    churn(&mut world, other);
    world.commit(dom0, tx).unwrap();
    assert_eq!(world.list(other, "/d/n").unwrap(), ["m"]);
    world.check();
}

#[test]
fn a_conflict_is_found_however_long_ago_it_was() {
    let (mut world, other, tx) = world();
    let dom0 = world.dom0;
    reads("/d/a")(&mut world, dom0, tx);
    writes("/d/a")(&mut world, other);
    churn(&mut world, other);
    writes_in("/d/b")(&mut world, dom0, tx);
    assert_eq!(world.commit(dom0, tx), Err(Error::Conflict));
    assert_eq!(world.read(other, "/d/b").unwrap(), "0");
}

#[test]
fn a_commit_that_hits_a_quota_changes_nothing() {
    let mut world = World::with(xenstore::Quotas { nodes: 5, ..Default::default() });
    let guest = world.guest(1);
    world.watch_quietly(world.dom0, "/local/domain/1", "t");
    let tx = world.start(guest);
    for name in ["a", "b", "c", "d"] {
        world.write_in(guest, tx, name, "").unwrap();
    }
    assert!(world.write_in(guest, tx, "e", "").is_err());
    world.write(guest, "x", "").unwrap();
    world.events(world.dom0);
    assert_eq!(world.commit(guest, tx), Err(Error::OverQuota(xenstore::Resource::Nodes)));
    assert_eq!(world.list(guest, "/local/domain/1").unwrap(), ["x"]);
    assert!(world.events(world.dom0).is_empty());
    world.check();
    world.store.domain_died(DomId(1));
    world.check();
}
