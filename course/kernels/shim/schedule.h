#pragma once
// What scheduler.cpp, warps.cpp and launch.cpp have in common.
#include "fibers.h"

namespace cucpu {
void queueAll(std::vector<int>& threads);       // these are ready now
void dispatch(int thread, Context& from);       // go on with another thread; -1: with the host
int next();                                     // the thread to go on with; -1: the block has ended
void wait();                                    // let others go on until somebody made this thread ready
Thread& arrive(const Where* where, Op op, u32 mask);    // the current thread now waits for others
void completeWarp(int waits);                   // end the warp operation that this thread waits in, if all have come
bool answerActiveMasks();                       // when nobody is ready; false: nobody asked
} // namespace cucpu
