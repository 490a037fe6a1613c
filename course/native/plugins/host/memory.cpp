// What ends the learner's code in the middle (AddressSanitizer, an exception that no one may see, an assert), and what
// memory it leaves behind.
#include "host.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <link.h>
#include <typeinfo>
#include <unwind.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
// GCC installs no header for this one.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*taken)(const volatile void*, size_t),
                                                         void (*givenBack)(const volatile void*));
#endif

namespace host {
const char* method = "";
bool learnersCode = false;

// ---------------------------------------------------------------- whose memory it was
struct Piece { uintptr_t begin, end; const char* what; bool gone; };
static std::vector<Piece> pieces;
void remember(const void* begin, size_t bytes, const char* what)
{ pieces.push_back({uintptr_t(begin), uintptr_t(begin) + bytes, what, false}); }
void forget(const void* begin)
{
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece)
        if (piece->begin == uintptr_t(begin)) { piece->gone = true; return; }
}
// gone: whether the memory has been given back. The last piece counts: memory is used again.
[[maybe_unused]] static const char* whatWas(uintptr_t address, bool gone)
{
    for (uintptr_t near : {0, 64})              // an overflow hits what lies beside the piece
        for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece)
            if (piece->gone == gone && address + near >= piece->begin && address < piece->end + near) return piece->what;
    return "";
}

// ---------------------------------------------------------------- where: addresses of this library as lines
static uintptr_t imageBegin, imageEnd;
static int onImage(dl_phdr_info* info, size_t, void*)
{
    uintptr_t begin = ~uintptr_t(0), end = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            begin = std::min(begin, from);
            end = std::max(end, from + info->dlpi_phdr[i].p_memsz);
        }
    if (uintptr_t(&imageBegin) < begin || uintptr_t(&imageBegin) >= end) return 0;
    imageBegin = begin;
    imageEnd = end;
    return 1;
}
static bool ours(uintptr_t pc) { return pc >= imageBegin && pc < imageEnd; }
static std::string place(uintptr_t pc)
{
#if defined(__SANITIZE_ADDRESS__)
    char line[1000];
    __sanitizer_symbolize_pc(reinterpret_cast<void*>(pc), "%f|%s|%l", line, sizeof line);
    return line;
#else
    return "||" + std::to_string(pc - imageBegin);
#endif
}
static std::string places(const std::vector<uintptr_t>& stack)     // of this library; calls, so one byte back
{
    std::string list;
    for (uintptr_t pc : stack)
        if (ours(pc)) list += (list.empty() ? "" : ",") + quoted(place(pc - 1));
    return "[" + list + "]";
}
static std::vector<uintptr_t> stackHere()
{
    std::vector<uintptr_t> stack;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* list) {
            static_cast<std::vector<uintptr_t>*>(list)->push_back(_Unwind_GetIP(context));
            return static_cast<std::vector<uintptr_t>*>(list)->size() < 64 ? _URC_NO_REASON : _URC_END_OF_STACK;
        },
        &stack);
    return stack;
}

// ---------------------------------------------------------------- what ends the process
static Json ended(const char* how)
{
    learnersCode = false;
    return Json().str("ended", how).str("method", method);
}
[[noreturn]] static void onTerminate()
{
    Json json = ended("exception");
    std::string what, type;
    if (const std::type_info* info = abi::__cxa_current_exception_type()) {
        int status = 0;
        char* name = abi::__cxa_demangle(info->name(), nullptr, nullptr, &status);
        type = name ? name : info->name();
        try { throw; }
        catch (const std::exception& error) { what = error.what(); }
        catch (...) {}
    }
    lastWords(json.str("type", type).str("what", what).raw("places", places(stackHere())).end());
}
#if defined(__SANITIZE_ADDRESS__)
static void onError(const char* report)
{
    lastWords(ended("memory")
                  .str("report", std::string(report).substr(0, 6000))
                  .str("memory", whatWas(uintptr_t(__asan_get_report_address()), std::strstr(report, "use-after-free")))
                  .end());
}
#endif

// ---------------------------------------------------------------- memory that stays
// A table and not a container: it is filled while memory is being taken.
struct Block { uintptr_t address; size_t bytes; uint32_t number; };
constexpr size_t kBlocks = 1 << 16;
static Block blocks[kBlocks];
static uint32_t taken = 0;
static Block* find(uintptr_t address, bool empty)
{
    for (size_t i = 0, at = address / 16 * 0x9e3779b97f4a7c15ull >> 48; i < 256; ++i, at = (at + 1) % kBlocks)
        if (blocks[at].address == address || (empty && !blocks[at].address)) return &blocks[at];
    return nullptr;
}
[[maybe_unused]] static void onTaken(const volatile void* address, size_t bytes)
{
    if (!learnersCode || cucpu_on_device()) return;
    if (Block* block = find(uintptr_t(address), true)) *block = {uintptr_t(address), bytes, ++taken};
}
[[maybe_unused]] static void onGivenBack(const volatile void* address)
{
    if (Block* block = find(uintptr_t(address), false)) block->number = 0;     // its place stays: others lie behind it
}
} // namespace host

using namespace host;
extern "C" {
void plug_watch()
{
    dl_iterate_phdr(onImage, nullptr);
    std::set_terminate(onTerminate);
#if defined(__SANITIZE_ADDRESS__)
    __asan_set_error_report_callback(onError);
    __sanitizer_install_malloc_and_free_hooks(onTaken, onGivenBack);
    // Host code cannot read memory of the device. The simulated GPU can: it is not compiled with AddressSanitizer.
    cucpu_on_allocation([](void* memory, size_t bytes) { __asan_poison_memory_region(memory, bytes); });
#endif
}
unsigned plug_mark() { return taken; }          // what is taken from now on has a higher number
// Memory that the learner's code took after the mark, holds still, and took itself (not the simulated GPU for it).
const char* plug_kept(unsigned mark)
{
    static std::string list;
    list.clear();
#if defined(__SANITIZE_ADDRESS__)
    for (auto& block : blocks) {
        if (!block.address || block.number <= mark) continue;
        uintptr_t stack[64];
        int thread = 0;
        size_t depth = __asan_get_alloc_stack(reinterpret_cast<void*>(block.address),
                                              reinterpret_cast<void**>(stack), 64, &thread);
        std::vector<uintptr_t> frames(stack, stack + depth);
        if (std::none_of(frames.begin(), frames.end(), ours)) continue;
        list += (list.empty() ? "" : ",") + Json().num("bytes", (long long)block.bytes).raw("places", places(frames)).end();
    }
#else
    (void)mark;
#endif
    list = "[" + list + "]";
    return list.c_str();
}

// The learner's class calls these instead of the C library's (objcopy --redefine-sym).
void plug_assert_fail(const char* expression, const char* file, unsigned line, const char*)
{
    lastWords(ended("assert").str("what", expression).str("file", file).num("line", line).end());
}
// AddressSanitizer looks at these three only where it may look at all of them, and the simulated GPU copies in memory
// that is closed to the host.
#if defined(__SANITIZE_ADDRESS__)
static void look(const void* memory, size_t bytes, bool write)
{
    if (void* bad = bytes ? __asan_region_is_poisoned(const_cast<void*>(memory), bytes) : nullptr) {
        (void)bad;
        __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0), __builtin_frame_address(0),
                            bad, write, bytes);
    }
}
#else
static void look(const void*, size_t, bool) {}
#endif
void* plug_memcpy(void* to, const void* from, size_t bytes)
{
    look(from, bytes, false);
    look(to, bytes, true);
    return std::memcpy(to, from, bytes);
}
void* plug_memmove(void* to, const void* from, size_t bytes)
{
    look(from, bytes, false);
    look(to, bytes, true);
    return std::memmove(to, from, bytes);
}
void* plug_memset(void* to, int value, size_t bytes)
{
    look(to, bytes, true);
    return std::memset(to, value, bytes);
}
}
