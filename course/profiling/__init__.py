"""Where time and memory go: readers of trtexec's and TensorRT's logs, times per layer, allocations during a run.

trtexec.read_log(text)             the performance summary of a trtexec run
verbose.read_build_log(lines)      what a build fused, which tactics it tried, what memory it planned
layer_times.measure(engine, ...)   milliseconds per layer, as trtexec --dumpProfile prints them
allocations.trace(engine, ...)     memory that an engine takes while it runs
"""
