// A program for Dom0 on Xen: `resume DOMID` lets a suspended domain go on, which `xl` cannot on Arm; `resume DOMID cancel` says
// to it besides that the suspension was cancelled, as libxenguest does on x86: the call that suspended it returns 1.
//
// It needs no library: Linux passes the hypercall on (`/dev/xen/privcmd`), and the domctl is that of Xen 4.17.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { SYS_OPENAT = 56, SYS_IOCTL = 29, SYS_EXIT = 93, AT_FDCWD = -100, O_RDWR = 2 };
enum { IOCTL_PRIVCMD_HYPERCALL = 0x305000, HYPERVISOR_DOMCTL = 36 };
enum { DOMCTL_SETVCPUCONTEXT = 12, DOMCTL_GETVCPUCONTEXT = 13, DOMCTL_RESUMEDOMAIN = 27, DOMCTL_VERSION = 0x15 };

// Memory that is there when the hypervisor looks: initialised, and in one page.
static struct {
    u32 command, version;
    u16 domain, pad[3];
    // Of the calls about a vCPU's registers: which one, and where they are.
    u64 vcpu, context;
    u8 arguments[112];
} domctl __attribute__((aligned(4096))) = {DOMCTL_RESUMEDOMAIN, DOMCTL_VERSION, 0, {0}, 0, 0, {0}};

// Likewise: a vCPU's flags, and its registers from x0 on.
static struct {
    u64 flags, x0, others[510];
} context __attribute__((aligned(4096))) = {1, 0, {0}};

static struct {
    u64 number, arguments[5];
} call = {HYPERVISOR_DOMCTL, {0}};

static long system_call(long number, long a, long b, long c, long d) {
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

// Makes a call about the domain; 0 if it was done.
static long control(long file, u32 command) {
    domctl.command = command;
    call.arguments[0] = (u64)&domctl;
    return system_call(SYS_IOCTL, file, IOCTL_PRIVCMD_HYPERCALL, (long)&call, 0);
}

// Has the first vCPU find 1 as the answer to the call that suspended it.
static long cancel(long file) {
    context.flags = 0;
    domctl.context = (u64)&context;
    long failed = control(file, DOMCTL_GETVCPUCONTEXT);
    context.x0 = 1;
    return failed ? failed : control(file, DOMCTL_SETVCPUCONTEXT);
}

// `stack` is as Linux makes it: the number of arguments, then where each is.
__attribute__((used)) static void run(const long *stack) {
    u16 domain = 0;
    for (const char *digit = stack[0] > 1 ? (const char *)stack[2] : ""; *digit; digit++) {
        domain = (u16)(domain * 10 + (*digit - '0'));
    }
    domctl.domain = domain;
    long file = system_call(SYS_OPENAT, AT_FDCWD, (long)"/dev/xen/privcmd", O_RDWR, 0);
    long failed = file < 0 || (stack[0] > 2 && cancel(file)) || control(file, DOMCTL_RESUMEDOMAIN);
    system_call(SYS_EXIT, failed ? 1 : 0, 0, 0, 0);
}

asm(".globl _start\n_start:\n    mov x0, sp\n    b run\n");
