// The runtime's own state. One operating-system thread runs everything, so nothing here is locked.
#pragma once
#include "where.h"
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" { extern uint3 threadIdx, blockIdx; extern dim3 blockDim, gridDim; }

#define CUCPU_COLD __attribute__((noinline, cold))

namespace cucpu {
using u8 = uint8_t; using u16 = uint16_t; using u32 = uint32_t; using u64 = uint64_t; using uptr = uintptr_t;

constexpr int kMaxThreads = 1024;               // of a block
constexpr size_t kStackBytes = 128 << 10;       // of one CUDA thread, guard page included
constexpr size_t kGuardPage = 4096;
constexpr size_t kDefaultShared = 48 << 10;     // without cudaFuncSetAttribute
constexpr u32 kFirstStamp = 2;                  // 0: never; 1: written by the host

// ---------------------------------------------------------------- who accessed a place last
// A stamp numbers the intervals between barriers, over all blocks and launches. Within an interval, `clock` counts a
// thread's __syncwarp.
struct Access {
    u32 stamp = 0;
    u32 thread : 10, clock : 22;
    u32 pc : 30, write : 1, relaxed : 1;        // relaxed: an atomic, or a volatile access of global memory
    Access() : thread(0), clock(0), pc(0), write(0), relaxed(0) {}
};
struct Cell { Access write, read, otherRead; };

// What a thread knows of other blocks and threads through __threadfence and atomics.
struct Known { u32 before = 0; std::map<u32, std::pair<u32, u32>> threads; };   // thread -> (stamp, clock)
struct Knowledge { std::map<u32, Known> blocks; };                              // first stamp of the block -> what
using KnowledgePtr = std::shared_ptr<const Knowledge>;

// ---------------------------------------------------------------- memory
enum class Space : u8 { global, shared, constant };
struct Region {
    std::string name;
    Space space = Space::global;
    uptr base = 0;
    size_t bytes = 0;
    int shift = 2;                              // log2 of the bytes of a cell
    bool initialised = false, writable = true, output = false, freed = false, device = false;
    int id = 0;
    Cell* cells = nullptr;
    size_t mapped = 0;
};

// ---------------------------------------------------------------- threads
enum class State : u8 { fresh, ready, waiting, done };
enum class Op : u8 { none, barrier, warpBarrier, shuffle, vote, gather, active };
struct Context { void* sp; };
struct Thread {
    uint3 index;
    State state;
    Op op;
    Reduce reduce;
    bool predicate;
    int fiber, sourceLane;
    unsigned size;
    u32 mask, clock, clockStamp;
    const Where* where;
    alignas(16) char value[16];
    alignas(16) char result[16];
    uint64_t* values;
    u32 seen[32];                               // clocks of the warp's lanes; valid if clockStamp is the current stamp
    KnowledgePtr knows, released;
};
struct Warp { u32 waiting, done; bool asking; };

struct LaunchRecord { u32 first, index; int stream; std::map<int, u32> before; std::string kernel; };
struct BlockStart { u32 stamp, block; };

struct ApiCall { const char* name; cudaStream_t stream; std::string kernel; const char* file; int line; };

struct Pending {                                // a write after an unordered write: a race unless the value is the same
    bool active = false;
    uptr address; u32 bytes; char old[64];
    std::string key, text;
};

struct Trace { u64 offset; u32 block, pc; u16 thread, region; u8 size, flags; u16 launch; };

struct Runtime {
    // scheduler
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<Context> fibers;
    std::vector<int> freeFibers, ready;
    Context host{};
    Thread* current = nullptr;                  // nullptr: host code runs
    uptr ownStack = 0, stacks = 0;
    int count = 0, done = 0, atBarrier = 0, naps = 0;
    u32 order = 0;                              // 0 forward, 1 reversed, other: seed
    std::mt19937 random;
    void (*run)(void*) = nullptr; void* context = nullptr;
    bool aborted = false;

    // time, for happens-before
    u32 stamp = kFirstStamp, launchFirst = kFirstStamp, blockFirst = kFirstStamp, orderedBefore = kFirstStamp;
    bool fences = false, knowledge = false;
    std::vector<BlockStart> blocks;             // of every launch
    std::vector<LaunchRecord> launches;
    std::unordered_map<uptr, KnowledgePtr> synchronised;
    Pending pending;

    // the launch
    std::string kernel; const char* launchFile = ""; int launchLine = 0;
    size_t dynamicBytes = 0, staticBytes = 0, sharedLimit = 99 << 10;
    bool sharedReported = false;
    u32 launchIndex = 0;

    // result
    std::vector<std::string> findings;
    std::map<std::string, int> seen;
    cudaError_t error = cudaSuccess, sticky = cudaSuccess;
    u64 accesses = 0, switches = 0;
    u32 lastPc = 0; const Where* lastWhere = nullptr;
    int replyFile = -1, undefined = 0xff;

    // for the code around the launchers (a plugin's class)
    bool noting = false, failing = false;       // record calls of the runtime; refuse every launch
    std::vector<ApiCall> calls;
    void (*allocated)(void*, size_t) = nullptr;
    uptr imageBase = 0;

    // record of accesses
    Trace* trace = nullptr; u64 traceCapacity = 0, traceCount = 0;
};
extern Runtime R;
extern bool checked;  // the learner's file calls access() for every load and store; it says so itself

enum AccessFlags : u32 { kRead = 0, kWrite = 1, kAtomic = 2, kVolatile = 4, kUnaligned = 8 };

// scheduler.cpp
[[noreturn]] void abortLaunch(cudaError_t error);
[[noreturn]] void abortHost();
int laneOf(const Thread& thread);
inline u32 idOf(const Thread& thread) { return u32(&thread - R.threads.data()); }

// report.cpp
void note(const char* name, cudaStream_t stream = nullptr);  // a call of the runtime, if somebody records them

// streams.cpp
void orderLaunch(cudaStream_t stream);
bool launchesOrdered(u32 stamp);

// memory.cpp
constexpr u64 kArenaBytes = 1ull << 36, kArenaStep = 1 << 16;
extern uptr arena, sharedArena;
constexpr size_t kStaticSharedBytes = 1 << 20, kDynamicSharedBytes = 256 << 10;
Region* allocate(const char* name, size_t bytes);
Region* findGlobal(uptr address);               // the region or one whose guard this is; nullptr: none
Region* findShared(uptr address);
Region* nearest(uptr address);
bool isDevice(uptr address);
bool isModuleData(uptr address);
void refine(Region& region, int shift);
void resetCells(Region& region);
void beginLaunchMemory(size_t dynamicBytes);
void fillShared();                              // NaN in all that is shared, at the start of a block
void hostWrote(uptr address, size_t bytes);
bool hostRange(const void* address, size_t bytes, const char* what, bool write);
void initialise();
extern std::vector<Region*> regions;
extern std::vector<SharedVariable*> sharedVariables;
extern Region dynamicRegion;

// checker.cpp
void access(uptr address, u32 bytes, u32 flags, void* returnAddress);
void settlePending();
KnowledgePtr join(const KnowledgePtr& a, const KnowledgePtr& b);

// report.cpp
struct Json {                                   // an object, written field by field
    std::string text;
    Json& raw(const char* key, const std::string& value);
    Json& str(const char* key, const std::string& value);
    Json& num(const char* key, long long value);
    Json& here();                               // kernel, thread and block that run now
    Json& site(const char* key, u32 pc);
    Json& where(const Where* where);
    std::string end() const { return "{" + text + "}"; }
};
std::string quoted(const std::string& text);
std::string triple(const uint3& value);
uint3 threadIndex(u32 thread);
uint3 blockIndex(u32 linear);
u32 blockOfStamp(u32 stamp);
bool firstTime(const std::string& key);         // counts, and says whether this finding is a new one
void add(const std::string& json);
std::string findingsJson();
std::string reportJson();
void writeReply(const std::string& text);

} // namespace cucpu
