//! Which watches fire, with which path, and for whom.

mod common;

use common::World;
use hypercall_abi::ids::DomId;
use xenstore::{Error, INTRODUCE_DOMAIN, RELEASE_DOMAIN, Request};

#[test]
fn setting_a_watch_fires_it_once_even_where_nothing_is() {
    let mut world = World::new();
    let guest = world.guest(1);
    world.watch(guest, "none", "t").unwrap();
    world.watch(guest, "/local/domain/0/backend/vbd", "u").unwrap();
    assert_eq!(world.events(guest), ["none t", "/local/domain/0/backend/vbd u"]);
}

#[test]
fn a_change_fires_the_watches_on_it_and_above_with_its_own_path() {
    let mut world = World::new();
    let dom0 = world.dom0;
    for path in ["/", "/a", "/a/b", "/a/b/c", "/a/bc", "/b"] {
        world.watch_quietly(dom0, path, "t");
    }
    world.write(dom0, "/a/b", "1").unwrap();
    assert_eq!(world.events(dom0), ["/a/b t"; 3]);
    world.mkdir(dom0, "/a/b").unwrap();
    assert!(world.events(dom0).is_empty(), "mkdir of what exists changes nothing");
    world.set_perms(dom0, "/a/b", "r0").unwrap();
    assert_eq!(world.events(dom0), ["/a/b t"; 3]);
}

#[test]
fn removal_fires_below_with_the_watched_path_where_something_was() {
    let mut world = World::new();
    let dom0 = world.dom0;
    world.write(dom0, "/a/b/c", "1").unwrap();
    for (path, token) in [("/a", "up"), ("/a/b/c", "down"), ("/a/b/none", "none"), ("/a/b", "here")] {
        world.watch_quietly(dom0, path, token);
    }
    world.rm(dom0, "/a/b").unwrap();
    assert_eq!(world.events(dom0), ["/a/b up", "/a/b here", "/a/b/c down"]);
    world.rm(dom0, "/a/b").unwrap();
    assert!(world.events(dom0).is_empty(), "removing what is not there changes nothing");
}

#[test]
fn events_come_in_the_form_in_which_the_watch_was_set() {
    let mut world = World::new();
    let guest = world.guest(7);
    world.watch_quietly(guest, "device", "rel");
    world.watch_quietly(guest, "/local/domain/7/device", "abs");
    world.write(world.dom0, "/local/domain/7/device/vbd/51712/state", "4").unwrap();
    assert_eq!(world.events(guest), ["device/vbd/51712/state rel", "/local/domain/7/device/vbd/51712/state abs"]);
    world.rm(world.dom0, "/local/domain/7").unwrap();
    assert_eq!(world.events(guest), ["device rel", "/local/domain/7/device abs"]);
}

#[test]
fn the_same_watch_cannot_be_set_twice_and_is_gone_after_unwatch() {
    let mut world = World::new();
    let guest = world.guest(1);
    world.watch_quietly(guest, "a", "t");
    assert_eq!(world.watch(guest, "a", "t"), Err(Error::WatchExists));
    assert_eq!(world.watch(guest, "/local/domain/1/a", "t"), Err(Error::WatchExists));
    world.watch_quietly(guest, "a", "u");
    world.write(guest, "a", "1").unwrap();
    world.unwatch(guest, "a", "t").unwrap();
    assert_eq!(world.events(guest), ["a u"], "its unread event went with it");
    assert_eq!(world.unwatch(guest, "a", "t"), Err(Error::NoWatch));
}

#[test]
fn who_can_read_neither_the_node_nor_its_directory_is_not_told() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.write(one, "open/x", "").unwrap();
    world.set_perms(one, "open", "r1").unwrap();
    world.watch_quietly(two, "/local/domain/1", "t");
    world.write(one, "closed", "1").unwrap();
    assert!(world.events(two).is_empty());
    world.write(one, "open/x", "1").unwrap();
    assert_eq!(world.events(two), ["/local/domain/1/open/x t"]);
}

#[test]
fn who_loses_the_right_to_read_is_told_of_that_and_nothing_more() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.write(one, "a", "").unwrap();
    world.set_perms(one, "a", "n1 r2").unwrap();
    world.watch_quietly(two, "/local/domain/1/a", "t");
    world.set_perms(one, "a", "n1").unwrap();
    assert_eq!(world.events(two), ["/local/domain/1/a t"]);
    world.write(one, "a", "2").unwrap();
    world.rm(one, "a").unwrap();
    assert!(world.events(two).is_empty());
}

#[test]
fn special_watches_tell_dom0_of_domains_and_others_only_if_allowed() {
    let mut world = World::new();
    let dom0 = world.dom0;
    let guest = world.guest(1);
    for conn in [dom0, guest] {
        world.watch_quietly(conn, INTRODUCE_DOMAIN, "i");
        world.watch_quietly(conn, RELEASE_DOMAIN, "r");
    }
    world.watch_quietly(dom0, "/", "root");
    world.introduce(5).unwrap();
    assert_eq!(world.events(dom0), ["@introduceDomain i"]);
    world.store.domain_shut_down(DomId(5));
    world.store.domain_shut_down(DomId(5));
    assert_eq!(world.events(dom0), ["@releaseDomain r"]);
    world.ask(dom0, Request::Resume { domid: DomId(5) }).unwrap();
    world.store.domain_shut_down(DomId(5));
    assert_eq!(world.events(dom0), ["@releaseDomain r"]);
    assert!(world.events(guest).is_empty());
    world.set_perms(dom0, RELEASE_DOMAIN, "n0 r1").unwrap();
    assert_eq!(world.get_perms(guest, RELEASE_DOMAIN).unwrap(), "n0 r1");
    world.events(guest);
    world.events(dom0);
    world.store.domain_died(DomId(5));
    assert_eq!(world.events(dom0), ["@releaseDomain r"]);
    assert_eq!(world.events(guest), ["@releaseDomain r"]);
}

#[test]
fn a_special_name_is_not_a_node() {
    let mut world = World::new();
    let dom0 = world.dom0;
    assert_eq!(world.read(dom0, RELEASE_DOMAIN), Err(Error::BadPath));
    assert_eq!(world.write(dom0, RELEASE_DOMAIN, "x"), Err(Error::BadPath));
    assert_eq!(world.rm(dom0, RELEASE_DOMAIN), Err(Error::BadPath));
    assert_eq!(world.set_perms(dom0, "@other", "r0"), Err(Error::NoNode));
    world.watch_quietly(dom0, RELEASE_DOMAIN, "t");
    world.write(dom0, "/@releaseDomain", "an ordinary node").unwrap();
    assert!(world.events(dom0).is_empty());
    assert_eq!(world.list(dom0, "/").unwrap(), ["@releaseDomain"]);
}

#[test]
fn changes_in_a_transaction_fire_when_it_commits_and_not_when_it_is_dropped() {
    let mut world = World::new();
    let dom0 = world.dom0;
    let guest = world.guest(1);
    world.watch_quietly(dom0, "/local/domain/1", "t");
    for commits in [false, true] {
        let tx = world.start(guest);
        world.write_in(guest, tx, "a", "1").unwrap();
        world.write_in(guest, tx, "b", "2").unwrap();
        world.write_in(guest, tx, "a", "3").unwrap();
        assert!(world.events(dom0).is_empty());
        if commits {
            world.commit(guest, tx).unwrap();
            assert_eq!(world.events(dom0), ["/local/domain/1/a t", "/local/domain/1/b t"]);
        } else {
            world.abort(guest, tx).unwrap();
            assert!(world.events(dom0).is_empty());
        }
    }
}

#[test]
fn reset_watches_ends_the_callers_watches_and_transactions_alone() {
    let mut world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    world.watch_quietly(one, "a", "t");
    world.watch_quietly(two, "a", "t");
    let tx = world.start(one);
    world.ask(one, Request::ResetWatches).unwrap();
    world.write(one, "a", "1").unwrap();
    world.write(two, "a", "1").unwrap();
    assert!(world.events(one).is_empty());
    assert_eq!(world.events(two), ["a t"]);
    assert_eq!(world.commit(one, tx), Err(Error::NoTransaction));
}

#[test]
fn whoever_has_something_to_read_is_announced_once() {
    let mut world = World::new();
    let guest = world.guest(1);
    world.watch(guest, "a", "t").unwrap();
    world.write(world.dom0, "/local/domain/1/a", "1").unwrap();
    assert_eq!(world.store.take_ready(), Some(guest));
    assert_eq!(world.store.take_ready(), None);
    world.events(guest);
    world.write(world.dom0, "/local/domain/1/a", "2").unwrap();
    assert_eq!(world.store.take_ready(), Some(guest));
}
