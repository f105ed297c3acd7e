// A guest in C: opens its console, reads the store and its disk, handles an event, and ends when it is asked to.
//
// The last line before it waits is `c-hello: PASS`; a line above says what failed otherwise.

#include "pv_guest.h"

static void print(const char *text) {
    size_t length = 0;
    while (text[length] != 0) {
        length++;
    }
    pv_console_write((const uint8_t *)text, length);
}

static void print_number(uint64_t value) {
    char digits[21];
    size_t at = sizeof digits;
    digits[--at] = 0;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    print(&digits[at]);
}

// Says what failed, and returns whether it did.
static int failed(const char *what, int64_t status) {
    if (status >= 0) {
        return 0;
    }
    print("c-hello: FAIL ");
    print(what);
    print(": error ");
    print_number((uint64_t)-status);
    print("\r\n");
    return 1;
}

static int read_store(void) {
    uint8_t name[64];
    int64_t length = pv_store_read("name", name, sizeof name);
    if (failed("name in the store", length)) {
        return 0;
    }
    print("c-hello: my name is ");
    pv_console_write(name, (size_t)length);
    print("\r\n");
    return !failed("writing to the store", pv_store_write("data/c-hello", (const uint8_t *)"was here", 8));
}

// What a disk is given comes back.
static int use_disk(void) {
    static uint8_t wrote[8192], found[8192];
    struct pv_disk disk;
    if (failed("opening the disk", pv_disk_open(0, &disk))) {
        return 0;
    }
    print("c-hello: disk of ");
    print_number(disk.sectors);
    print(" sectors\r\n");
    for (size_t i = 0; i < sizeof wrote; i++) {
        wrote[i] = (uint8_t)(i * 7 + i / 256);
    }
    if (failed("writing", pv_disk_write(0, 8, wrote, sizeof wrote)) || failed("flushing", pv_disk_flush(0)) ||
        failed("reading", pv_disk_read(0, 8, found, sizeof found))) {
        return 0;
    }
    for (size_t i = 0; i < sizeof found; i++) {
        if (found[i] != wrote[i]) {
            return !failed("the disk holds something else", -5);
        }
    }
    // Behind its end there is nothing to be read.
    return pv_disk_read(0, disk.sectors, found, 512) == -22;
}

static int handle_event(void) {
    int64_t port = pv_event_loop();
    if (failed("allocating a port", port) || failed("sending", pv_event_send((uint32_t)port))) {
        return 0;
    }
    pv_event_wait((uint32_t)port);
    print("c-hello: an event on port ");
    print_number((uint64_t)port);
    print("\r\n");
    return !failed("closing the port", pv_event_close((uint32_t)port));
}

void pv_main(void) {
    uint64_t start = pv_time_us();
    pv_sleep_us(1000);
    int good = pv_time_us() - start >= 1000;
    good &= read_store();
    good &= use_disk();
    good &= handle_event();
    print(good ? "c-hello: PASS\r\n" : "c-hello: FAIL\r\n");
    int64_t reason = pv_shutdown_wait();
    pv_shutdown(failed("waiting for control/shutdown", reason) ? PV_SHUTDOWN_CRASH : (uint32_t)reason);
}
