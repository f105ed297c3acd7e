//! Tests of who may use which sectors.

use std::ops::Range;
use std::rc::Rc;

use driver_api::Extent;

use super::Claims;

fn extent(sectors: Range<u64>) -> Extent {
    Extent { start: sectors.start, sectors: sectors.end - sectors.start }
}

#[test]
fn a_writer_has_its_sectors_alone_and_readers_share_them() {
    let claims = Rc::new(Claims::default());
    let take = |sectors, read_only, user| {
        Claims::take(&claims, &format!("of {user}"), ("vdb", vec![extent(sectors)]), read_only, user)
    };
    let reader = take(10..20, true, 1);
    assert!(reader.is_some());
    assert!(take(10..20, false, 2).is_none(), "a writer beside a reader");
    let other = take(15..30, true, 3);
    assert!(other.is_some(), "a reader beside a reader");
    drop(reader);
    assert!(take(19..20, false, 2).is_none(), "the other reader is still there");
    drop(other);
    let writer = take(10..20, false, 2);
    assert!(writer.is_some());
    assert!(take(19..21, true, 4).is_none(), "a reader beside a writer");
    assert!(take(20..21, false, 4).is_some(), "another part of the disk");
}

#[test]
fn a_whole_disk_is_all_its_parts_and_none_of_another_disks() {
    let claims = Rc::new(Claims::default());
    let part = Claims::take(&claims, "name 1", ("vdb", vec![extent(2048..4096), extent(9000..9001)]), false, 1);
    assert!(part.is_some());
    assert!(Claims::take(&claims, "name 2", ("vdb", vec![extent(0..u64::MAX)]), false, 2).is_none());
    assert!(Claims::take(&claims, "name 3", ("vdc", vec![extent(0..u64::MAX)]), false, 2).is_some());
}

#[test]
fn a_file_that_has_grown_has_its_new_sectors_alone_too() {
    let claims = Rc::new(Claims::default());
    let file =
        Claims::take(&claims, "name 4", ("vda", vec![extent(100..108)]), false, 1).expect("nobody else is there");
    file.replace(vec![extent(100..108), extent(200..208)]);
    assert!(Claims::take(&claims, "name 5", ("vda", vec![extent(204..205)]), true, 2).is_none());
    drop(file);
    assert!(Claims::take(&claims, "name 6", ("vda", vec![extent(204..205)]), true, 2).is_some());
}

#[test]
fn an_empty_file_has_one_writer_by_its_name_in_small_and_in_capital_letters() {
    let claims = Rc::new(Claims::default());
    let take = |name, user| Claims::take(&claims, name, ("vda", vec![]), false, user);
    let writer = take("/store/new.img", 1);
    assert!(writer.is_some());
    assert!(take("/store/NEW.img", 2).is_none());
    assert!(take("/store/other.img", 2).is_some());
}
