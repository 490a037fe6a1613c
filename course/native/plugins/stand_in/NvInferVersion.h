// The course's stand-in for TensorRT's headers: the names that a plugin's source needs, and no more. Code that compiles
// with it compiles with TensorRT's own headers; what it makes can run in the course's examination only.
// COURSE_TENSORRT chooses whose API is shown: 8, 10 or 11.
#pragma once
#ifndef COURSE_TENSORRT
#define COURSE_TENSORRT 10
#endif
#define NV_TENSORRT_MAJOR COURSE_TENSORRT
#if COURSE_TENSORRT == 8
#define NV_TENSORRT_MINOR 6
#define NV_TENSORRT_PATCH 1
#elif COURSE_TENSORRT == 10
#define NV_TENSORRT_MINOR 16
#define NV_TENSORRT_PATCH 1
#elif COURSE_TENSORRT == 11
#define NV_TENSORRT_MINOR 1
#define NV_TENSORRT_PATCH 0
#else
#error "COURSE_TENSORRT is 8, 10 or 11"
#endif
#define NV_TENSORRT_BUILD 0
