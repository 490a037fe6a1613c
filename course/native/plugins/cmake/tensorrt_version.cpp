// Writes into the library for which TensorRT it was built. `course.native.plugin.load` reads it before it loads: the
// classes of another major version lie differently in memory, and the first call would crash.
#include <NvInferVersion.h>
#define COURSE_TEXT_OF(number) #number
#define COURSE_TEXT(number) COURSE_TEXT_OF(number)
extern "C" __attribute__((visibility("default"), used)) const char course_plugin_built_for[] =
    "course-plugin-built-for-tensorrt=" COURSE_TEXT(NV_TENSORRT_MAJOR) "." COURSE_TEXT(NV_TENSORRT_MINOR) "." COURSE_TEXT(
        NV_TENSORRT_PATCH) ";";
