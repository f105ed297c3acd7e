//! Start, command line, console, time and end.

use core::cell::Cell;

use embassy_time::{Duration, Timer};
use pv_guest_lib::executor::{self, Spawner};
use pv_guest_lib::shutdown::{self, ShutdownReason};
use pv_guest_lib::xenstore::{self, XenStore, XsError};
use pv_guest_lib::{BootInfo, console, entry, pages, suspend, time};

use super::bytes_mut;

entry!(main);

/// Reasons to end with (Xen public/sched.h, `SHUTDOWN_*`): power off.
pub const PV_SHUTDOWN_POWEROFF: u32 = 0;
/// Start the domain again.
pub const PV_SHUTDOWN_REBOOT: u32 = 1;
/// The domain crashed.
pub const PV_SHUTDOWN_CRASH: u32 = 3;
const _: () = {
    assert!(PV_SHUTDOWN_POWEROFF == ShutdownReason::Poweroff.raw());
    assert!(PV_SHUTDOWN_REBOOT == ShutdownReason::Reboot.raw());
    assert!(PV_SHUTDOWN_CRASH == ShutdownReason::Crash.raw());
};

/// What the functions of the other files need, once the guest runs.
#[derive(Clone, Copy)]
pub struct Context {
    pub spawner: Spawner,
    pub store: XenStore,
    pub arguments: &'static str,
}

struct Place(Cell<Option<Context>>);

// SAFETY: there is one vCPU, and no interrupt handler comes here.
unsafe impl Sync for Place {}

static CONTEXT: Place = Place(Cell::new(None));

unsafe extern "C" {
    /// The guest's own main. When it returns, the domain powers itself off.
    safe fn pv_main();
}

fn main(boot: BootInfo) -> ! {
    executor::run_blocking(|spawner| {
        let store = xenstore::start(spawner);
        CONTEXT.0.set(Some(Context { spawner, store, arguments: boot.arguments() }));
        pv_main();
    })
}

/// # Errors
/// [`XsError::NoStore`] before the guest's main was called, which C cannot see.
pub fn context() -> Result<Context, XsError> {
    CONTEXT.0.get().ok_or(XsError::NoStore)
}

/// Copies the command line (`extra` in xl.cfg) into the buffer, as much as fits, with a NUL behind it, and returns how
/// long it is.
///
/// # Safety
/// `buffer` must be null or have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_arguments(buffer: *mut u8, size: usize) -> usize {
    let line = context().map_or("", |context| context.arguments).as_bytes();
    // SAFETY: the caller's promise.
    let buffer = unsafe { bytes_mut(buffer, size) };
    let length = line.len().min(size.saturating_sub(1));
    if let (Some(place), Some(line)) = (buffer.get_mut(..length), line.get(..length)) {
        place.copy_from_slice(line);
    }
    if let Some(end) = buffer.get_mut(length) {
        *end = 0;
    }
    line.len()
}

/// Writes bytes to the console as they are; a line ends with "\r\n".
///
/// # Safety
/// `data` must have `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_console_write(data: *const u8, length: usize) {
    // SAFETY: the caller's promise.
    console::write(unsafe { super::bytes(data, length) });
}

/// Waits for input on the console and returns how many bytes were read, or -19 (ENODEV) without a console ring.
///
/// # Safety
/// `buffer` must have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_console_read(buffer: *mut u8, size: usize) -> i64 {
    // SAFETY: the caller's promise.
    let buffer = unsafe { bytes_mut(buffer, size) };
    let input = console::Input::open().ok_or(XsError::NoStore);
    crate::errors::length(input.map(|mut input| executor::block_on(input.read(buffer))))
}

/// Microseconds since the domain's time began.
#[unsafe(no_mangle)]
pub extern "C" fn pv_time_us() -> u64 {
    time::now_us()
}

/// Sleeps.
#[unsafe(no_mangle)]
pub extern "C" fn pv_sleep_us(microseconds: u64) {
    executor::block_on(Timer::after(Duration::from_micros(microseconds)));
}

/// Pages of 4096 bytes that nothing uses.
#[unsafe(no_mangle)]
pub extern "C" fn pv_free_pages() -> u64 {
    pages::free_pages()
}

/// Ends the domain; `reason` is one of `PV_SHUTDOWN_*`.
#[unsafe(no_mangle)]
pub extern "C" fn pv_shutdown(reason: u32) -> ! {
    shutdown::shutdown(ShutdownReason::from_raw(reason).unwrap_or(ShutdownReason::Crash))
}

/// Waits until the tool stack asks the domain to end, and returns the reason to end with, or an error. Meanwhile the domain
/// is suspended when the tool stack asks for that and no disk is open.
#[unsafe(no_mangle)]
pub extern "C" fn pv_shutdown_wait() -> i64 {
    let asked = context().and_then(|context| executor::block_on(suspend::awaited(&context.store)));
    asked.map_or_else(crate::errors::Number::number, |reason| i64::from(reason.raw()))
}
