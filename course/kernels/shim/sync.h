// Barriers, shuffles, votes, fences. rewrite.py adds the first argument: where the call stands.
#pragma once
namespace cucpu {
inline void syncThreads(const Where* where) { barrier(where, Reduce::none, false); }
inline int syncThreadsCount(const Where* where, int predicate) { return barrier(where, Reduce::count, predicate != 0); }
inline int syncThreadsAnd(const Where* where, int predicate) { return barrier(where, Reduce::all, predicate != 0); }
inline int syncThreadsOr(const Where* where, int predicate) { return barrier(where, Reduce::any, predicate != 0); }
inline void syncWarp(const Where* where, unsigned mask = 0xffffffffu) { warpBarrier(where, mask); }

// As nvcc's overloads: narrow integers become int; other types have no shuffle.
template <class T> using Promoted = std::conditional_t<std::is_integral<T>::value && sizeof(T) < 4, int, T>;
template <class T, class... Allowed> constexpr bool oneOf = (std::is_same<T, Allowed>::value || ...);
template <class T> Promoted<T> shuffled(const Where* where, unsigned mask, T given, int source)
{
    using P = Promoted<T>;
    static_assert(
        oneOf<P, int, unsigned, long, unsigned long, long long, unsigned long long, float, double, __half, __half2,
              __nv_bfloat16, __nv_bfloat162>,
        "a shuffle takes int, unsigned, long, float, double, __half, __half2, __nv_bfloat16 and __nv_bfloat162");
    P value = given, result;
    shuffle(where, mask, &value, &result, sizeof(P), source);
    return result;
}
inline int segment(int lane, int width) { return lane & ~(width - 1); }
template <class T> Promoted<T> shflDown(const Where* where, unsigned mask, T value, unsigned delta, int width = 32)
{
    int me = lane(), source = me + int(delta);
    return shuffled(where, mask, value, source < segment(me, width) + width ? source : me);
}
template <class T> Promoted<T> shflUp(const Where* where, unsigned mask, T value, unsigned delta, int width = 32)
{
    int me = lane(), source = me - int(delta);
    return shuffled(where, mask, value, source >= segment(me, width) ? source : me);
}
template <class T> Promoted<T> shflXor(const Where* where, unsigned mask, T value, int lanes, int width = 32)
{
    int me = lane(), source = me ^ lanes;
    return shuffled(where, mask, value, source < segment(me, width) + width ? source : me);
}
template <class T> Promoted<T> shfl(const Where* where, unsigned mask, T value, int source, int width = 32)
{
    return shuffled(where, mask, value, segment(lane(), width) + (source & (width - 1)));
}

inline unsigned ballot(const Where* where, unsigned mask, int predicate) { return vote(where, mask, predicate != 0); }
inline int any(const Where* where, unsigned mask, int predicate) { return vote(where, mask, predicate != 0) != 0; }
inline int all(const Where* where, unsigned mask, int predicate) { return vote(where, mask, predicate == 0) == 0; }
template <class T> unsigned matchAny(const Where* where, unsigned mask, T value)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "__match_any_sync takes values of 4 or 8 bytes");
    uint64_t mine = 0, values[32];
    std::memcpy(&mine, &value, sizeof value);
    unsigned lanes = gather(where, mask, mine, values), same = 0;
    for (int l = 0; l < 32; ++l) if (lanes >> l & 1 && values[l] == mine) same |= 1u << l;
    return same;
}
template <class F> unsigned reduced(const Where* where, unsigned mask, uint64_t value, F combine)
{
    uint64_t values[32], result = value;
    unsigned lanes = gather(where, mask, value, values);
    bool first = true;
    for (int l = 0; l < 32; ++l)
        if (lanes >> l & 1) { result = first ? values[l] : combine(result, values[l]); first = false; }
    return unsigned(result);
}
template <class T> T reduceAdd(const Where* where, unsigned mask, T value)
{ return T(reduced(where, mask, uint32_t(value), [](uint64_t a, uint64_t b) { return uint64_t(uint32_t(a + b)); })); }
template <class T> T reduceMin(const Where* where, unsigned mask, T value)
{ return T(reduced(where, mask, uint32_t(value), [](uint64_t a, uint64_t b) { return T(b) < T(a) ? b : a; })); }
template <class T> T reduceMax(const Where* where, unsigned mask, T value)
{ return T(reduced(where, mask, uint32_t(value), [](uint64_t a, uint64_t b) { return T(a) < T(b) ? b : a; })); }
inline unsigned reduceAnd(const Where* where, unsigned mask, unsigned value)
{ return reduced(where, mask, value, [](uint64_t a, uint64_t b) { return a & b; }); }
inline unsigned reduceOr(const Where* where, unsigned mask, unsigned value)
{ return reduced(where, mask, value, [](uint64_t a, uint64_t b) { return a | b; }); }
inline unsigned reduceXor(const Where* where, unsigned mask, unsigned value)
{ return reduced(where, mask, value, [](uint64_t a, uint64_t b) { return a ^ b; }); }
} // namespace cucpu

inline void __nanosleep(unsigned) { cucpu::nap(); }
