// A program for Linux as a guest: `debugger PLACE ROUNDS` debugs a child by the processor's own means, as gdb does with `watch`
// and `hbreak`. The child stores to eight words and comes through eight functions, round by round; only the store to word
// PLACE and the call of function PLACE may stop it, each once in a round, and it goes on from each by a single step.
//
// Several of them at once, each with another PLACE, see that none meets what is another's. It needs no library.

typedef unsigned int u32;
typedef unsigned long u64;

enum { SYS_EXIT = 93, SYS_KILL = 129, SYS_PTRACE = 117, SYS_GETPID = 172, SYS_WRITE = 64, SYS_CLONE = 220, SYS_WAIT4 = 260 };
enum { TRACEME = 0, CONT = 7, KILL = 8, SINGLESTEP = 9, GETSIGINFO = 0x4202, GETREGSET = 0x4204, SETREGSET = 0x4205 };
enum { NT_PRSTATUS = 1, NT_ARM_HW_BREAK = 0x402, NT_ARM_HW_WATCH = 0x403 };
enum { SIGTRAP = 5, SIGCHLD = 17, SIGSTOP = 19, TRAP_TRACE = 2, TRAP_HWBKPT = 4 };
// The control words, as the architecture has them: enabled for EL0; a breakpoint of four bytes, a watchpoint of eight for stores.
enum { BREAK = 0xF << 5 | 2 << 1 | 1, WATCH = 0xFF << 5 | 2 << 3 | 2 << 1 | 1 };
// What there is on every processor with this architecture's debug features that Xenolith runs on.
enum { BREAKPOINTS = 6, WATCHPOINTS = 4 };

static volatile u64 words[8];

// A function that has an address of its own, and does what nobody else's does.
#define PLACE(n) __attribute__((noinline)) static void place##n(void) { asm volatile("nop // " #n ::: "memory"); }
PLACE(0) PLACE(1) PLACE(2) PLACE(3) PLACE(4) PLACE(5) PLACE(6) PLACE(7)
static void (*const places[])(void) = {place0, place1, place2, place3, place4, place5, place6, place7};

static long system_call(long number, long a, long b, long c, long d) {
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    register long x4 asm("x4") = 0;
    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

static long child;
static u64 rounds;

__attribute__((noreturn)) static void leave(const char *why, long length) {
    system_call(SYS_WRITE, 1, (long)why, length, 0);
    if (child > 0) {
        system_call(SYS_PTRACE, KILL, child, 0, 0);
    }
    system_call(SYS_EXIT, 1, 0, 0, 0);
    __builtin_unreachable();
}

// Ends with what should have been so.
#define must(condition, what) ((condition) ? (void)0 : leave("debugger: " what "\n", sizeof "debugger: " what))

static long trace(long request, long address, void *data) {
    return system_call(SYS_PTRACE, request, child, address, (long)data);
}

// Reads or writes a set of registers; the number of bytes, or an error below 0.
static long registers(long request, long set, void *bytes, u64 length) {
    u64 vector[2] = {(u64)bytes, length};
    return trace(request, set, vector) < 0 ? -1 : (long)vector[1];
}

// Sets the first of the child's breakpoints or watchpoints, or clears it.
static void compare(long set, const volatile void *address, u32 control) {
    struct {
        u32 information, pad;
        u64 address;
        u32 control, pad2;
    } state = {0, 0, (u64)address, control, 0};
    must(registers(SETREGSET, set, &state, sizeof state) >= 0, "a breakpoint or watchpoint is refused");
}

// How many of them there are.
static u32 available(long set) {
    struct {
        u32 information, pad;
        struct {
            u64 address;
            u32 control, pad;
        } each[16];
    } state;
    must(registers(GETREGSET, set, &state, sizeof state) > 0, "there are no breakpoints or watchpoints");
    return state.information & 0xFF;
}

// Lets the child go on until it stops with SIGTRAP for this reason; returns the address that the signal names.
static u64 stops(long request, int reason) {
    int status = 0;
    struct {
        int signal, error, code, pad;
        u64 address, others[13];
    } why;
    must(trace(request, 0, 0) == 0, "the child cannot go on");
    must(system_call(SYS_WAIT4, child, (long)&status, 0, 0) == child, "the child cannot be waited for");
    must(status == (SIGTRAP << 8 | 0x7F), "the child has not stopped with a trap");
    must(trace(GETSIGINFO, 0, &why) == 0, "the signal says nothing");
    must(why.code == reason, "the trap has another reason");
    return why.address;
}

static u64 instruction(void) {
    u64 state[34] = {0};
    must(registers(GETREGSET, NT_PRSTATUS, state, sizeof state) > 0, "the child has no registers");
    return state[32];
}

// Goes on behind the instruction at which the child stands, which would stop it again.
static void step(long set, const volatile void *address, u32 control) {
    u64 before = instruction();
    compare(set, address, 0);
    stops(SINGLESTEP, TRAP_TRACE);
    must(instruction() == before + 4, "a single step leads elsewhere");
    compare(set, address, control);
}

static void debugged(void) {
    system_call(SYS_PTRACE, TRACEME, 0, 0, 0);
    system_call(SYS_KILL, system_call(SYS_GETPID, 0, 0, 0, 0), SIGSTOP, 0, 0);
    for (u64 round = 1; round <= rounds; round++) {
        for (int n = 0; n < 8; n++) {
            words[n] = round;
            places[n]();
        }
    }
    system_call(SYS_EXIT, 0, 0, 0, 0);
}

static void debug(u64 place) {
    const volatile void *word = &words[place], *code = (const void *)places[place];
    int status = 0;
    must(system_call(SYS_WAIT4, child, (long)&status, 0, 0) == child, "there is no child");
    must(available(NT_ARM_HW_BREAK) == BREAKPOINTS && available(NT_ARM_HW_WATCH) == WATCHPOINTS, "not all are there");
    compare(NT_ARM_HW_WATCH, word, WATCH);
    compare(NT_ARM_HW_BREAK, code, BREAK);
    for (u64 round = 0; round < rounds; round++) {
        must(stops(CONT, TRAP_HWBKPT) == (u64)word, "a watchpoint stops at another's word");
        step(NT_ARM_HW_WATCH, word, WATCH);
        must(stops(CONT, TRAP_HWBKPT) == (u64)code, "a breakpoint stops at another's instruction");
        must(instruction() == (u64)code, "a breakpoint stops elsewhere than it says");
        step(NT_ARM_HW_BREAK, code, BREAK);
    }
    must(trace(CONT, 0, 0) == 0 && system_call(SYS_WAIT4, child, (long)&status, 0, 0) == child, "the child is lost");
    must(status == 0, "the child does not end as it should");
}

static u64 number(const char *digits) {
    u64 value = 0;
    for (; *digits; digits++) {
        value = value * 10 + (u64)(*digits - '0');
    }
    return value;
}

// `stack` is as Linux makes it: the number of arguments, then where each is.
__attribute__((used)) static void run(const long *stack) {
    must(stack[0] == 3, "PLACE and ROUNDS are wanted");
    rounds = number((const char *)stack[3]);
    child = system_call(SYS_CLONE, SIGCHLD, 0, 0, 0);
    if (child == 0) {
        debugged();
    }
    debug(number((const char *)stack[2]) & 7);
    system_call(SYS_EXIT, 0, 0, 0, 0);
}

asm(".globl _start\n_start:\n    mov x0, sp\n    b run\n");
