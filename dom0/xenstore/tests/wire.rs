//! The bytes: forms of requests and replies, fragments, limits.

mod common;

use common::{World, header, message};
use hypercall_abi::xs_wire::{PAYLOAD_MAX, XsOp};
use xenstore::{ConnId, Fault, TxId};

fn world() -> (World, ConnId) {
    let mut world = World::new();
    let guest = world.guest(3);
    (world, guest)
}

#[test]
fn a_reply_carries_the_type_and_the_ids_of_its_request() {
    let (mut world, guest) = world();
    let reply = world.reply_to(guest, XsOp::Write, b"data/x\0a\0b");
    assert_eq!((reply.op, reply.req_id, reply.tx_id, reply.text()), (XsOp::Write, 77, 0, "OK\0"));
    let reply = world.reply_to(guest, XsOp::Read, b"data/x\0");
    assert_eq!(reply.payload, b"a\0b", "a value may hold NULs and has none at its end");
}

#[test]
fn an_error_is_the_name_of_an_errno() {
    let (mut world, guest) = world();
    for (op, payload, error) in [
        (XsOp::Read, &b"nothing\0"[..], "ENOENT\0"),
        (XsOp::Read, b"/local/domain/4/x\0", "EACCES\0"),
        (XsOp::Read, b"/local//domain\0", "EINVAL\0"),
        (XsOp::Read, b"no-nul", "EINVAL\0"),
        (XsOp::Read, b"", "EINVAL\0"),
        (XsOp::Read, b"two\0strings\0", "EINVAL\0"),
        (XsOp::Read, b"\xff\0", "EINVAL\0"),
        (XsOp::Write, b"no-nul", "EINVAL\0"),
        (XsOp::SetPerms, b"\0", "EINVAL\0"),
        (XsOp::SetPerms, b"/local/domain/3\0", "EINVAL\0"),
        (XsOp::SetPerms, b"/local/domain/3\0n3", "EINVAL\0"),
        (XsOp::SetPerms, b"/local/domain/3\0x3\0", "EINVAL\0"),
        (XsOp::SetPerms, b"/local/domain/3\0n0\0", "EPERM\0"),
        (XsOp::Rm, b"/\0", "EACCES\0"),
        (XsOp::TransactionEnd, b"T\0", "ENOENT\0"),
        (XsOp::Unwatch, b"a\0t\0", "ENOENT\0"),
        (XsOp::Watch, b"a\0", "EINVAL\0"),
        (XsOp::Introduce, b"4\x001\x001\0", "EACCES\0"),
        (XsOp::Release, b"3\0", "EACCES\0"),
        (XsOp::Control, b"check\0", "EACCES\0"),
        (XsOp::IsDomainIntroduced, b"3\0", "EACCES\0"),
        (XsOp::SetTarget, b"3\x000\0", "EACCES\0"),
        (XsOp::WatchEvent, b"a\0b\0", "ENOSYS\0"),
        (XsOp::Error, b"EIO\0", "ENOSYS\0"),
    ] {
        let reply = world.reply_to(guest, op, payload);
        assert_eq!((reply.op, reply.text()), (XsOp::Error, error), "{op:?} {payload:?}");
    }
}

#[test]
fn an_unknown_type_is_enosys_and_the_connection_goes_on() {
    let (mut world, guest) = world();
    for op in [20, 23, 0xFFFF, u32::MAX] {
        assert_eq!(world.store.input(guest, &header(op, 5, 0, 0)), Ok(16));
        let replies = world.receive(guest);
        assert_eq!((replies[0].op, replies[0].req_id), (XsOp::Error, 5));
        assert_eq!(replies[0].text(), "ENOSYS\0");
    }
    assert_eq!(world.reply_to(guest, XsOp::Mkdir, b"data\0").text(), "OK\0");
}

#[test]
fn lists_end_each_entry_with_a_nul() {
    let (mut world, guest) = world();
    world.write(guest, "d/one", "").unwrap();
    world.write(guest, "d/two", "").unwrap();
    assert_eq!(world.reply_to(guest, XsOp::Directory, b"d\0").text(), "one\0two\0");
    assert_eq!(world.reply_to(guest, XsOp::Directory, b"d/one\0").text(), "");
    assert_eq!(world.reply_to(guest, XsOp::SetPerms, b"d\0r3\0b0\0").text(), "OK\0");
    assert_eq!(world.reply_to(guest, XsOp::GetPerms, b"d\0").text(), "r3\0b0\0");
    assert_eq!(world.reply_to(guest, XsOp::GetDomainPath, b"3\0").text(), "/local/domain/3\0");
}

#[test]
fn dom0_introduces_and_releases_in_the_words_of_the_wire() {
    let mut world = World::new();
    let dom0 = world.dom0;
    assert_eq!(world.reply_to(dom0, XsOp::IsDomainIntroduced, b"9\0").text(), "F\0");
    assert_eq!(world.reply_to(dom0, XsOp::Introduce, b"9\x004096\x007\0").text(), "OK\0");
    assert_eq!(world.reply_to(dom0, XsOp::IsDomainIntroduced, b"9\0").text(), "T\0");
    assert_eq!(world.reply_to(dom0, XsOp::Resume, b"9\0").text(), "OK\0");
    assert_eq!(world.reply_to(dom0, XsOp::Release, b"9\0").text(), "OK\0");
    assert_eq!(world.reply_to(dom0, XsOp::Release, b"9\0").text(), "ENOENT\0");
    for bad in [&b"0\x001\x001\0"[..], b"32752\x001\x001\0", b"-1\x001\x001\0", b"9\x001\0"] {
        assert_eq!(world.reply_to(dom0, XsOp::Introduce, bad).text(), "EINVAL\0");
    }
}

#[test]
fn a_transaction_id_is_a_decimal_number_that_the_header_takes() {
    let (mut world, guest) = world();
    let id = world.reply_to(guest, XsOp::TransactionStart, b"\0");
    let tx = TxId::new(id.text().trim_end_matches('\0').parse().unwrap());
    assert_ne!(tx, TxId::NONE);
    let replies = world.send_in(guest, XsOp::Write, tx, b"x\x001");
    assert_eq!((replies[0].text(), replies[0].tx_id), ("OK\0", tx.raw()));
    let replies = world.send_in(guest, XsOp::TransactionStart, tx, b"\0");
    assert_eq!(replies[0].text(), "EBUSY\0");
    let replies = world.send_in(guest, XsOp::TransactionEnd, tx, b"maybe\0");
    assert_eq!(replies[0].text(), "EINVAL\0");
    let replies = world.send_in(guest, XsOp::TransactionEnd, tx, b"T\0");
    assert_eq!(replies[0].text(), "OK\0");
    assert_eq!(world.read(guest, "x").unwrap(), "1");
}

#[test]
fn a_watch_is_acknowledged_before_its_first_event() {
    let (mut world, guest) = world();
    let messages = world.send(guest, XsOp::Watch, b"device\0tok\0");
    assert_eq!((messages[0].op, messages[0].text()), (XsOp::Watch, "OK\0"));
    assert_eq!((messages[1].op, messages[1].req_id), (XsOp::WatchEvent, 0));
    assert_eq!(messages[1].text(), "device\0tok\0");
}

#[test]
fn a_change_is_acknowledged_before_the_event_it_causes() {
    let (mut world, guest) = world();
    world.send(guest, XsOp::Watch, b"device\0tok\0");
    let messages = world.send(guest, XsOp::Write, b"device/a\x001");
    assert_eq!((messages[0].op, messages[1].op), (XsOp::Write, XsOp::WatchEvent));
    assert_eq!(messages[1].text(), "device/a\0tok\0");
}

#[test]
fn requests_may_come_byte_by_byte_or_many_at_once() {
    let (mut world, guest) = world();
    let mut bytes = message(XsOp::Write, 1, TxId::NONE, b"a\x001");
    bytes.extend(message(XsOp::Write, 2, TxId::NONE, b"b\x002"));
    bytes.extend(message(XsOp::Read, 3, TxId::NONE, b"a\0"));
    for byte in &bytes {
        assert_eq!(world.store.input(guest, &[*byte]), Ok(1));
    }
    let slow = world.receive(guest);
    assert_eq!(world.store.input(guest, &bytes), Ok(bytes.len()));
    let fast = world.receive(guest);
    assert_eq!(slow, fast);
    assert_eq!(fast.iter().map(|reply| reply.req_id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(fast[2].payload, b"1");
}

#[test]
fn the_largest_payload_is_taken_and_one_byte_more_ends_the_connection() {
    let (mut world, guest) = world();
    let mut payload = b"data\0".to_vec();
    payload.resize(PAYLOAD_MAX, b'x');
    assert_eq!(world.reply_to(guest, XsOp::Write, &payload).text(), "ENOSPC\0");
    let bytes = header(XsOp::Write.raw(), 1, 0, 4097);
    assert_eq!(world.store.input(guest, &bytes), Err(Fault::Oversized { len: 4097 }));
    assert_eq!(world.store.input(guest, b"more"), Err(Fault::Oversized { len: 4097 }));
    assert!(world.store.output(guest).is_empty());
}

#[test]
fn a_long_directory_is_read_in_parts() {
    let (mut world, guest) = world();
    let names: Vec<String> = (0..500).map(|index| format!("a-rather-long-name-{index:04}")).collect();
    for name in &names {
        world.write(guest, &format!("d/{name}"), "").unwrap();
    }
    assert_eq!(world.reply_to(guest, XsOp::Directory, b"d\0").text(), "E2BIG\0");
    let (mut list, mut generations) = (Vec::new(), Vec::new());
    loop {
        let request = format!("d\0{}\0", list.len());
        let reply = world.reply_to(guest, XsOp::DirectoryPart, request.as_bytes()).payload;
        let end = reply.iter().position(|&byte| byte == 0).unwrap();
        generations.push(reply[..end].to_vec());
        let part = &reply[end + 1..];
        // An empty string, that is a second NUL, marks the end.
        if part.ends_with(b"\0\0") || part == b"\0" {
            list.extend_from_slice(&part[..part.len() - 1]);
            break;
        }
        list.extend_from_slice(part);
    }
    assert_eq!(list, names.iter().map(|name| format!("{name}\0")).collect::<String>().as_bytes());
    assert!(generations.len() > 1 && generations.windows(2).all(|pair| pair[0] == pair[1]));
    let past_the_end = world.reply_to(guest, XsOp::DirectoryPart, b"d\x0099999\0").payload;
    assert!(past_the_end.ends_with(b"\0\0"));
}

#[test]
fn the_generation_of_a_directory_changes_with_its_children() {
    let (mut world, guest) = world();
    world.write(guest, "d/one", "").unwrap();
    let mut part = || world.reply_to(guest, XsOp::DirectoryPart, b"d\x000\0").payload;
    let before = part();
    assert_eq!(before, part());
    world.write(guest, "d/two", "").unwrap();
    assert_ne!(before, world.reply_to(guest, XsOp::DirectoryPart, b"d\x000\0").payload);
}
