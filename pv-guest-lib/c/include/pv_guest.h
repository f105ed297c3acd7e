// What a guest in C links: libpv_guest.a, from the same code as pv-guest-lib (see docs/porting.md). This header is made
// from it by cargo xtask header.
//
// The guest defines pv_main, which is called once with interrupts on. Functions that wait let the library's own tasks run
// and sleep meanwhile. There is one vCPU and one thread of control. A number below 0 is an error: the negative of one of
// Xen's error numbers (public/errno.h), as a hypercall returns it.

#ifndef PV_GUEST_H
#define PV_GUEST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- Start, command line, console, time and end.

// Reasons to end with (Xen public/sched.h, SHUTDOWN_*): power off.
#define PV_SHUTDOWN_POWEROFF ((uint32_t)0)

// Start the domain again.
#define PV_SHUTDOWN_REBOOT ((uint32_t)1)

// The domain crashed.
#define PV_SHUTDOWN_CRASH ((uint32_t)3)

// The guest's own main. When it returns, the domain powers itself off.
void pv_main(void);

// Copies the command line (extra in xl.cfg) into the buffer, as much as fits, with a NUL behind it, and returns how
// long it is.
//
// buffer must be null or have size bytes.
size_t pv_arguments(uint8_t *buffer, size_t size);

// Writes bytes to the console as they are; a line ends with "\r\n".
//
// data must have length bytes.
void pv_console_write(const uint8_t *data, size_t length);

// Waits for input on the console and returns how many bytes were read, or -19 (ENODEV) without a console ring.
//
// buffer must have size bytes.
int64_t pv_console_read(uint8_t *buffer, size_t size);

// Microseconds since the domain's time began.
uint64_t pv_time_us(void);

// Sleeps.
void pv_sleep_us(uint64_t microseconds);

// Pages of 4096 bytes that nothing uses.
uint64_t pv_free_pages(void);

// Ends the domain; reason is one of PV_SHUTDOWN_*.
__attribute__((noreturn)) void pv_shutdown(uint32_t reason);

// Waits until the tool stack asks the domain to end, and returns the reason to end with, or an error. Meanwhile the domain
// is suspended when the tool stack asks for that and no disk is open.
int64_t pv_shutdown_wait(void);

// ---- XenStore.

// Reads a node of the store, relative to the domain's directory or from the root, and returns its length.
//
// path must be a C string, buffer have size bytes.
int64_t pv_store_read(const char *path, uint8_t *buffer, size_t size);

// Writes a node of the store, which is made when it is missing.
//
// path must be a C string, value have size bytes.
int64_t pv_store_write(const char *path, const uint8_t *value, size_t size);

// Waits until a node of the store, or one below it, changes. What changes before the call is not waited for.
//
// path must be a C string.
int64_t pv_store_wait(const char *path);

// ---- Disks.

// What the back end says of a disk.
struct pv_disk {
    // Size in units of 512 bytes.
    uint64_t sectors;
    // Bytes of a sector; what is read and written is a multiple of it.
    uint32_t sector_size;
    // 1 when writes are refused, else 0.
    uint32_t read_only;
};

// Opens the disk number index, from 0, and fills in what it is.
//
// info must be null or point to a structure to be written.
int64_t pv_disk_open(uint32_t index, struct pv_disk *info);

// Reads length bytes from the 512-byte sector sector on.
//
// buffer must have length bytes.
int64_t pv_disk_read(uint32_t index, uint64_t sector, uint8_t *buffer, size_t length);

// Writes length bytes from the 512-byte sector sector on.
//
// data must have length bytes.
int64_t pv_disk_write(uint32_t index, uint64_t sector, const uint8_t *data, size_t length);

// Waits until what was written is on the disk itself.
int64_t pv_disk_flush(uint32_t index);

// ---- Event channels, by the numbers of their ports.

// Allocates a port that the domain remote may bind to; returns its number.
int64_t pv_event_listen(uint16_t remote);

// Connects to a port that the domain remote has allocated for this one; returns the number of the port here.
int64_t pv_event_connect(uint16_t remote, uint32_t port);

// Allocates a port that the domain sends to itself; returns its number.
int64_t pv_event_loop(void);

// Notifies the other end.
int64_t pv_event_send(uint32_t port);

// Waits for a notification that came since the last wait ended. One wait for a port at a time.
void pv_event_wait(uint32_t port);

// Closes a port.
int64_t pv_event_close(uint32_t port);

#ifdef __cplusplus
}
#endif

#endif
