//! The generic ring of the split drivers (Xen public/io/ring.h): header layout and index arithmetic.
//!
//! Indices are private counters that run freely modulo 2^32; the shared page holds published copies of them.
//! Everything here is a pure function of values that the caller has read *once*, so that a peer that rewrites
//! its index in between cannot make two checks see different numbers.

/// Offset of `req_prod`, u32, written by the front end.
pub const REQ_PROD: usize = 0;
/// Offset of `req_event`, u32, written by the back end: notify when `req_prod` reaches this.
pub const REQ_EVENT: usize = 4;
/// Offset of `rsp_prod`, u32, written by the back end.
pub const RSP_PROD: usize = 8;
/// Offset of `rsp_event`, u32, written by the front end: notify when `rsp_prod` reaches this.
pub const RSP_EVENT: usize = 12;
/// Offset of the first slot.
pub const SLOTS: usize = 64;

/// A peer's index that cannot be true: the peer is broken or hostile and the device is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOverflow;

/// The number of slots of `slot_size` bytes in a ring of `pages` pages: the largest power of two that fits.
///
/// Returns 0 when not even one slot fits or the sizes make no sense.
#[must_use]
pub const fn slots(pages: usize, slot_size: usize) -> u32 {
    let Some(bytes) = pages.checked_mul(crate::PAGE_SIZE) else { return 0 };
    if slot_size == 0 || bytes < SLOTS + slot_size {
        return 0;
    }
    let fit = (bytes - SLOTS) / slot_size;
    let capped = if fit > 1 << 16 { 1 << 16 } else { fit };
    1 << capped.ilog2()
}

/// Byte offset of the slot that `index` names; `slots` is a power of two.
#[must_use]
pub const fn slot_offset(index: u32, slots: u32, slot_size: usize) -> usize {
    SLOTS + (index & slots.wrapping_sub(1)) as usize * slot_size
}

/// Front end: requests that can still be put (`RING_FREE_REQUESTS`).
#[must_use]
pub const fn free_requests(slots: u32, req_prod_pvt: u32, rsp_cons: u32) -> u32 {
    slots.saturating_sub(req_prod_pvt.wrapping_sub(rsp_cons))
}

/// Front end: responses to be read, given the back end's `rsp_prod`.
///
/// # Errors
/// [`RingOverflow`] when the back end claims to have answered more than was asked.
pub const fn unconsumed_responses(rsp_prod: u32, rsp_cons: u32, req_prod_pvt: u32) -> Result<u32, RingOverflow> {
    let ready = rsp_prod.wrapping_sub(rsp_cons);
    if ready > req_prod_pvt.wrapping_sub(rsp_cons) {
        return Err(RingOverflow);
    }
    Ok(ready)
}

/// Back end: requests to be read, given the front end's `req_prod`; never more than there is room to answer.
///
/// # Errors
/// [`RingOverflow`] when the front end claims more requests than the ring has room for
/// (`RING_REQUEST_PROD_OVERFLOW`).
pub const fn unconsumed_requests(
    slots: u32,
    req_prod: u32,
    req_cons: u32,
    rsp_prod_pvt: u32,
) -> Result<u32, RingOverflow> {
    if req_prod.wrapping_sub(rsp_prod_pvt) > slots {
        return Err(RingOverflow);
    }
    let ready = req_prod.wrapping_sub(req_cons);
    let room = slots.saturating_sub(req_cons.wrapping_sub(rsp_prod_pvt));
    Ok(if ready < room { ready } else { room })
}

/// Either producer, after publishing `new` where `old` stood, and after a full barrier: whether the peer's
/// event index lies in what was published, so that it must be notified.
#[must_use]
pub const fn must_notify(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

/// Either consumer, when it has found nothing: the event index to publish before it looks once more
/// (`RING_FINAL_CHECK_FOR_*`), with a full barrier between the two.
#[must_use]
pub const fn final_check_event(cons: u32) -> u32 {
    cons.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_of_block_slots_holds_thirty_two() {
        assert_eq!(slots(1, 112), 32);
        assert_eq!(slots(0, 112), 0);
        assert_eq!(slots(1, 0), 0);
        assert_eq!(slots(1, 5000), 0);
    }

    #[test]
    fn a_full_ring_takes_no_request_even_across_the_wrap() {
        assert_eq!(free_requests(32, 10, 10u32.wrapping_sub(32)), 0);
        assert_eq!(free_requests(32, 3, u32::MAX), 28);
    }

    #[test]
    fn a_back_end_that_answers_more_than_was_asked_is_caught() {
        assert_eq!(unconsumed_responses(5, 2, 6), Ok(3));
        assert_eq!(unconsumed_responses(7, 2, 6), Err(RingOverflow));
        assert_eq!(unconsumed_responses(1, 2, 6), Err(RingOverflow));
    }

    #[test]
    fn a_front_end_that_produces_beyond_the_ring_is_caught() {
        assert_eq!(unconsumed_requests(32, 32, 0, 0), Ok(32));
        assert_eq!(unconsumed_requests(32, 33, 0, 0), Err(RingOverflow));
        assert_eq!(unconsumed_requests(32, u32::MAX, 0, 0), Err(RingOverflow));
    }

    #[test]
    fn requests_wait_until_their_answers_have_room() {
        assert_eq!(unconsumed_requests(32, 40, 39, 8), Ok(1));
        assert_eq!(unconsumed_requests(32, 40, 40, 8), Ok(0));
    }

    #[test]
    fn a_peer_is_notified_exactly_when_its_event_index_is_passed() {
        assert!(must_notify(0, 1, 1));
        assert!(!must_notify(1, 2, 1));
        assert!(must_notify(u32::MAX, 2, 1));
        assert!(!must_notify(0, 3, 4));
    }

    #[test]
    fn the_event_index_asks_for_the_next_item() {
        assert_eq!(final_check_event(u32::MAX), 0);
    }
}
