// What the loader calls (course/kernels/loader.py, through ctypes), and what happens when a kernel crashes or hangs.
#include "state.h"
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <sys/time.h>
#include <ctime>
#include <ucontext.h>
#include <unistd.h>

namespace cucpu {
extern jmp_buf hostExit;

struct Exported { std::string name, parameters, types; Export::Call call; int variant; };
static std::vector<Exported> exports __attribute__((init_priority(101)));
Export::Export(const char* name, const char* parameters, const char* types, Call call, int variant)
{
    exports.push_back({name, parameters, types, call, variant});
}

static u32 programCounter(void* context)
{
#if defined(__x86_64__)
    return u32(uptr(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]) - R.imageBase);
#else
    (void)context;
    return R.lastPc;
#endif
}
// The process cannot go on: say what is known and leave. Called in a signal's context, on a stack of its own.
[[noreturn]] static void lastWords(const char* kind, int signal, void* address, void* context)
{
    Json json;
    json.str("kind", kind).num("signal", signal).here();
    if (R.current && R.lastWhere) json.raw("last", Json().where(R.lastWhere).end());
    json.site("pc", programCounter(context)).site("last_pc", checked ? R.lastPc : 0);
    if (address) {
        u64 at = uptr(address);
        bool overflow = R.current && at - R.ownStack < kGuardPage;
        Region* region = isDevice(at) ? nearest(at) : nullptr;
        if (overflow) json.str("space", "stack");
        else if (region)
            json.str("buffer", region->name).num("offset", (long long)(at - region->base)).num("bytes", region->bytes);
        else if (at < 4096) json.str("space", "null");
    }
    R.pending.active = false;
    R.sticky = cudaErrorLaunchFailure;
    add(json.end());
    writeReply(reportJson());
    _exit(3);
}
static void onFault(int signal, siginfo_t* info, void* context)
{
    lastWords("crash", signal, signal == SIGSEGV || signal == SIGBUS ? info->si_addr : nullptr, context);
}
static void onTimer(int signal, siginfo_t*, void* context) { lastWords("timeout", signal, nullptr, context); }
} // namespace cucpu

using namespace cucpu;
// The library hides all else.
#pragma GCC visibility push(default)
extern "C" {
// order: 0 forward, 1 reversed, other: seed of random orders. seconds: time limit, 0 for none. undefined: the byte that
// fills the result of a shuffle that has none.
void cucpu_begin(unsigned order, double seconds, size_t sharedLimit, int replyFile, int undefined)
{
    initialise();
    setvbuf(stdout, nullptr, _IOLBF, 0);                // what a kernel printed before it crashed is worth seeing
    R.order = order; R.sharedLimit = sharedLimit; R.replyFile = replyFile; R.undefined = undefined;
    static char stack[128 << 10];
    stack_t alternative{};
    alternative.ss_sp = stack; alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action{};
    action.sa_flags = SA_ONSTACK | SA_SIGINFO;
    action.sa_sigaction = onFault;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(signal, &action, nullptr);
    action.sa_sigaction = onTimer;
    sigaction(SIGALRM, &action, nullptr);
    itimerval timer{};
    timer.it_value.tv_sec = time_t(seconds);
    timer.it_value.tv_usec = suseconds_t((seconds - double(time_t(seconds))) * 1e6);
    setitimer(ITIMER_REAL, &timer, nullptr);
}
// flags: 1 holds values, 2 kernels may write it, 4 an output: all of it must be written.
void* cucpu_buffer(const char* name, size_t bytes, const void* values, int flags)
{
    Region* region = allocate(name, bytes);
    if (!region) return nullptr;
    if (values) std::memcpy(reinterpret_cast<void*>(region->base), values, bytes);
    region->initialised = flags & 1; region->writable = flags & 2; region->output = flags & 4;
    if (region->writable) resetCells(*region);
    return reinterpret_cast<void*>(region->base);
}
void cucpu_trace(u64 capacity, int file)
{
    void* p = mmap(nullptr, capacity * sizeof(Trace), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (p != MAP_FAILED) { R.trace = static_cast<Trace*>(p); R.traceCapacity = capacity; }
}
const char* cucpu_exports()
{
    static std::string text;
    text.clear();
    for (auto& e : exports)
        if (!e.variant) text += std::string(e.name) + "\t" + e.parameters + "\t" + e.types + "\n";
    return text.c_str();
}
// 0 done, 1 ended by a finding in host code, 2 no such function. *nanoseconds: how long the call took.
int cucpu_call(const char* name, int variant, const u64* slots, int64_t* result, u64* nanoseconds)
{
    for (auto& e : exports) {
        if (e.name != name || e.variant != variant) continue;
        if (setjmp(hostExit)) { R.sticky = cudaErrorUnknown; return 1; }
        timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        *result = e.call(slots);
        clock_gettime(CLOCK_MONOTONIC, &b);
        *nanoseconds = u64(b.tv_sec - a.tv_sec) * 1000000000u + u64(b.tv_nsec) - u64(a.tv_nsec);
        return 0;
    }
    return 2;
}
// For code around the launchers, which calls them itself (course/native/plugins/host).
// Call it; 1 if a finding in the launcher's host code ended it.
int cucpu_guarded(void (*call)(void*), void* context)
{
    if (setjmp(hostExit)) { R.sticky = cudaErrorUnknown; return 1; }
    call(context);
    return 0;
}
// Is called with every new piece of device memory.
void cucpu_on_allocation(void (*allocated)(void*, size_t)) { R.allocated = allocated; }
// From now on every launch is refused, as by a GPU that cannot run it.
void cucpu_fail_launches(int on) { R.failing = on; }
// Record launches and calls of the runtime from now on; those so far are forgotten.
void cucpu_note_calls() { R.noting = true; R.calls.clear(); }
const char* cucpu_calls()
{
    static std::string text;
    text.clear();
    for (auto& call : R.calls)
        text += (text.empty() ? "" : ",")
                + Json()
                      .str("name", call.name)
                      .num("stream", (long long)uptr(call.stream))
                      .str("kernel", call.kernel)
                      .str("file", call.file)
                      .num("line", call.line)
                      .end();
    text = "[" + text + "]";
    return text.c_str();
}
// Whether a kernel runs now, and not host code.
int cucpu_on_device() { return R.current != nullptr; }
const char* cucpu_findings()
{
    static std::string text;
    text = findingsJson();
    return text.c_str();
}
const char* cucpu_report()
{
    static std::string text;
    text = reportJson();
    return text.c_str();
}
}
#pragma GCC visibility pop
