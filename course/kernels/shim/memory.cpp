// Device memory: one reserved range of addresses, in which every buffer stands alone between guards.
#include "state.h"
#include <cstring>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

namespace cucpu {
uptr arena = 0, sharedArena = 0;
// The learner's file makes variables before main, in an order of the linker's: ours must be there first.
#define CUCPU_FIRST __attribute__((init_priority(101)))
std::vector<Region*> regions CUCPU_FIRST;
std::vector<SharedVariable*> sharedVariables CUCPU_FIRST;
Region dynamicRegion CUCPU_FIRST;
static u32 regionOfStep[kArenaBytes / kArenaStep];      // id + 1 of the region that holds or guards this step
static u16 variableOfGranule[kStaticSharedBytes / 16];  // index + 1 of the __shared__ variable
static uptr arenaNext = 0;
static unsigned sharedNext = 0;
static std::vector<Region*> sharedRegions CUCPU_FIRST;              // one a variable
static std::vector<std::pair<uptr, uptr>> moduleData CUCPU_FIRST;

static void* reserve(size_t bytes, int protection)
{
    void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) { writeReply("{\"failed\":\"no memory\"}"); _exit(4); }
    return p;
}
static Cell* newCells(size_t count, size_t& mapped)     // zeroed by the system when they are touched
{
    mapped = count * sizeof(Cell);
    void* cells = reserve(mapped, PROT_READ | PROT_WRITE);
    if (mapped >= 2 << 20) madvise(cells, mapped, MADV_HUGEPAGE);
    return static_cast<Cell*>(cells);
}
static size_t cellCount(const Region& region) { return (region.bytes >> region.shift) + 1; }

// Half the size of a cell (or a quarter), for accesses narrower than it; what is known is copied to the parts.
void refine(Region& region, int shift)
{
    size_t count = cellCount(region), mapped = 0;
    int from = region.shift;
    region.shift = shift;
    Cell* cells = newCells(cellCount(region), mapped);
    for (size_t i = 0; i < cellCount(region); ++i) {
        size_t source = i >> (from - shift);
        if (source < count && (region.cells[source].write.stamp || region.cells[source].read.stamp))
            cells[i] = region.cells[source];
    }
    munmap(region.cells, region.mapped);
    region.cells = cells;
    region.mapped = mapped;
}
void resetCells(Region& region)
{
    if (!checked) return;
    if (region.cells) munmap(region.cells, region.mapped);
    region.shift = 2;
    region.cells = newCells(cellCount(region), region.mapped);
}

// ---------------------------------------------------------------- global memory
Region* allocate(const char* name, size_t bytes)
{
    initialise();
    size_t body = (bytes + kArenaStep - 1) / kArenaStep * kArenaStep + (bytes ? 0 : kArenaStep),
           all = body + 2 * kArenaStep;
    if (arenaNext + all > arena + kArenaBytes) return nullptr;
    auto* region = new Region;
    uptr begin = arenaNext;
    arenaNext += all - kArenaStep;                      // the last guard is the next one's first
    mprotect(reinterpret_cast<void*>(begin + kArenaStep), body, PROT_READ | PROT_WRITE);
    region->base = (begin + kArenaStep + body - bytes) & ~uptr(255);     // ends at a guard; cudaMalloc aligns to 256
    std::memset(reinterpret_cast<void*>(begin + kArenaStep), 0xff, body);  // NaN as a float
    region->name = name; region->bytes = bytes; region->id = int(regions.size());
    regions.push_back(region);
    for (u64 step = (begin - arena) / kArenaStep, end = step + all / kArenaStep - 1; step < end; ++step)
        regionOfStep[step] = u32(region->id + 1);
    if (R.allocated) R.allocated(reinterpret_cast<void*>(region->base), bytes);
    return region;
}
Region* findGlobal(uptr address)
{
    u32 id = regionOfStep[(address - arena) / kArenaStep];
    return id ? regions[id - 1] : nullptr;
}
void* deviceVariable(const void* initial, size_t bytes, const char* name, bool constant)
{
    Region* region = allocate(name, bytes);
    std::memcpy(reinterpret_cast<void*>(region->base), initial, bytes);
    region->initialised = true;                         // zero, where the source gives no value
    region->device = true;
    region->writable = !constant;
    region->space = constant ? Space::constant : Space::global;
    if (!constant) resetCells(*region);
    return reinterpret_cast<void*>(region->base);
}
bool isDevice(uptr address)
{ return address - arena < kArenaBytes || address - sharedArena < kStaticSharedBytes + kDynamicSharedBytes; }

// ---------------------------------------------------------------- shared memory
SharedVariable::SharedVariable(size_t bytes_, size_t alignment_, const char* name_, const char* file_, int line_)
    : bytes(bytes_), alignment(alignment_ < 16 ? 16 : alignment_), name(name_), file(file_), line(line_), lastLaunch(0)
{
    initialise();
    constexpr unsigned redZone = 128;
    offset = unsigned((sharedNext + alignment - 1) / alignment * alignment);
    sharedNext = unsigned((offset + bytes + redZone + 15) / 16 * 16);
    if (sharedNext > kStaticSharedBytes) {
        writeReply("{\"failed\":\"too much __shared__ memory in one file\"}");
        _exit(4);
    }
    sharedVariables.push_back(this);
    auto* region = new Region;
    region->name = name; region->space = Space::shared; region->base = sharedArena + offset; region->bytes = bytes;
    region->id = -int(sharedVariables.size());
    resetCells(*region);
    sharedRegions.push_back(region);
    // red zone too
    for (unsigned g = offset / 16; g < sharedNext / 16; ++g) variableOfGranule[g] = u16(sharedVariables.size());
}
void* SharedVariable::address()
{
    if (lastLaunch != R.launchIndex && R.current) {     // first use in this launch: it counts against the limit
        lastLaunch = R.launchIndex;
        R.staticBytes += bytes;
        size_t limit = R.staticBytes > kDefaultShared ? kDefaultShared : R.sharedLimit;
        size_t used = R.staticBytes > kDefaultShared ? R.staticBytes : R.staticBytes + R.dynamicBytes;
        if (used > limit) {
            if (firstTime("shared limit" + R.kernel))
                add(Json()
                        .str("kind", "invalid-launch")
                        .str("kernel", R.kernel)
                        .str("file", R.launchFile)
                        .num("line", R.launchLine)
                        .str("because", R.staticBytes > kDefaultShared ? "static shared" : "static and dynamic shared")
                        .num("value", used)
                        .num("limit", limit)
                        .num("static", R.staticBytes)
                        .num("dynamic", R.dynamicBytes)
                        .end());
            abortLaunch(cudaErrorInvalidValue);
        }
    }
    return reinterpret_cast<void*>(sharedArena + offset);
}
constexpr size_t kDynamicAt = kStaticSharedBytes + 16;  // aligned to 16 bytes and to no more
void* dynamicShared() { initialise(); return reinterpret_cast<void*>(sharedArena + kDynamicAt); }
Region* findShared(uptr address)
{
    size_t at = address - sharedArena;
    if (at >= kStaticSharedBytes) return &dynamicRegion;
    u16 index = variableOfGranule[at / 16];
    return index ? sharedRegions[index - 1] : nullptr;
}
void beginLaunchMemory(size_t bytes)
{
    R.dynamicBytes = bytes;
    R.staticBytes = 0;
    dynamicRegion.name = "extern __shared__";
    dynamicRegion.space = Space::shared; dynamicRegion.id = -32768;
    dynamicRegion.base = sharedArena + kDynamicAt;
    if (bytes != dynamicRegion.bytes || !dynamicRegion.cells) {
        dynamicRegion.bytes = bytes;
        resetCells(dynamicRegion);
    }
}
void fillShared()
{
    for (SharedVariable* variable : sharedVariables)
        if (variable->lastLaunch == R.launchIndex)
            std::memset(reinterpret_cast<void*>(sharedArena + variable->offset), 0xff, variable->bytes);
    if (R.dynamicBytes) std::memset(reinterpret_cast<void*>(dynamicRegion.base), 0xff, R.dynamicBytes);
}

// ---------------------------------------------------------------- for reports and for the host's copies
Region* nearest(uptr address)
{
    Region* best = nullptr;
    u64 least = 1 << 20;                                // farther away it is no neighbour
    auto look = [&](Region* region) {
        u64 distance = address < region->base ? region->base - address : address - (region->base + region->bytes);
        if (address >= region->base && address < region->base + region->bytes) distance = 0;
        if (distance < least) { least = distance; best = region; }
    };
    if (address - arena < kArenaBytes) for (Region* region : regions) look(region);
    else {
        for (Region* region : sharedRegions) look(region);
        if (dynamicRegion.bytes) look(&dynamicRegion);
    }
    return best;
}
bool isModuleData(uptr address)
{
    for (auto& part : moduleData) if (address >= part.first && address < part.second) return true;
    return false;
}
void hostWrote(uptr address, size_t bytes)              // cudaMemcpy, cudaMemset
{
    if (address - arena >= kArenaBytes) return;
    Region* region = findGlobal(address);
    if (!region || !region->cells) return;
    if ((address - region->base) & ((1 << region->shift) - 1) || bytes & ((1 << region->shift) - 1)) refine(*region, 0);
    Cell* cell = region->cells + ((address - region->base) >> region->shift);
    for (size_t i = 0; i < bytes >> region->shift; ++i) { cell[i] = Cell(); cell[i].write.stamp = 1; }
}
// Whether a copy stays inside its buffer. A host address is taken as it is.
bool hostRange(const void* pointer, size_t bytes, const char* what, bool write)
{
    uptr address = uptr(pointer);
    if (!bytes || address - arena >= kArenaBytes) return true;
    Region* region = findGlobal(address);
    if (region && !region->freed && address >= region->base && address + bytes <= region->base + region->bytes)
        return true;
    if (!region) region = nearest(address);
    if (firstTime(std::string(what) + (region ? region->name : ""))) {
        Json json;
        json.str("kind", "out-of-bounds")
            .str("what", what)
            .str("access", write ? "write" : "read")
            .num("size", bytes)
            .str("space", "global");
        if (region)
            json.str("buffer", region->name)
                .num("offset", (long long)(address - region->base))
                .num("bytes", region->bytes)
                .num("freed", region->freed);
        add(json.end());
    }
    return false;
}

static int onImage(dl_phdr_info* info, size_t, void*)   // this shared library's own data
{
    std::vector<std::pair<uptr, uptr>> parts;
    bool mine = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        auto& header = info->dlpi_phdr[i];
        if (header.p_type != PT_LOAD) continue;
        uptr begin = info->dlpi_addr + header.p_vaddr;
        parts.push_back({begin, begin + header.p_memsz});
        mine |= uptr(&R) >= begin && uptr(&R) < begin + header.p_memsz;
    }
    if (!mine) return 0;
    moduleData = parts;
    R.imageBase = info->dlpi_addr;
    return 1;
}
void initialise()
{
    if (arena) return;
    arena = uptr(reserve(kArenaBytes + kArenaStep, PROT_NONE));
    arena = arenaNext = (arena + kArenaStep - 1) / kArenaStep * kArenaStep;
    sharedArena = uptr(reserve(kStaticSharedBytes + kDynamicSharedBytes, PROT_READ | PROT_WRITE));
    R.stacks = uptr(reserve(size_t(kMaxThreads) * kStackBytes, PROT_READ | PROT_WRITE));
    for (int i = 0; i < kMaxThreads; ++i)
        mprotect(reinterpret_cast<void*>(R.stacks + i * kStackBytes), kGuardPage, PROT_NONE);
    R.fibers.reserve(kMaxThreads + 1);                  // contexts must not move while a thread runs
    dl_iterate_phdr(onImage, nullptr);
}
} // namespace cucpu
