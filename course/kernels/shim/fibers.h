// Switching between stacks. On x86-64 twelve instructions; elsewhere the C library's ucontext, which is slower.
#pragma once
#include "state.h"
#include <cstring>
#if defined(__x86_64__) && !defined(CUCPU_UCONTEXT)  // the macro: to try the other way
#define CUCPU_SWITCH 1
#else
#include <new>
#include <ucontext.h>
#endif

namespace cucpu {
#if defined(CUCPU_SWITCH)
extern "C" void cucpu_switch(void** save, void* load);
inline void swap(Context& from, const Context& to) { cucpu_switch(&from.sp, to.sp); }
inline void make(Context& context, char* stack, size_t bytes, void (*entry)())
{
    void** top = reinterpret_cast<void**>((uptr(stack) + bytes) & ~uptr(15));
    *--top = nullptr;                                   // the entry's return address: it never returns
    *--top = reinterpret_cast<void*>(entry);
    top -= 6;                                           // the registers that cucpu_switch pops
    std::memset(top, 0, 6 * sizeof(void*));
    context.sp = top;
}
#else
inline void swap(Context& from, const Context& to)
{
    ucontext_t here;
    from.sp = &here;
    swapcontext(&here, static_cast<ucontext_t*>(to.sp));
}
inline void make(Context& context, char* stack, size_t bytes, void (*entry)())
{
    auto* fresh = new (stack + kGuardPage) ucontext_t;  // at the far end of its own stack, behind the guard
    getcontext(fresh);
    fresh->uc_stack.ss_sp = stack + kGuardPage + sizeof *fresh;
    fresh->uc_stack.ss_size = bytes - kGuardPage - sizeof *fresh;
    fresh->uc_link = nullptr;
    makecontext(fresh, entry, 0);
    context.sp = fresh;
}
#endif
} // namespace cucpu
