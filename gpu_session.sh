#!/bin/bash
# Lanes on two GPUs; progress in /tmp/out/progress
source /tmp/gpu/env.sh; cd /tmp/gpu/main; mkdir -p /tmp/out
export PYTHONUNBUFFERED=1
nvidia-smi -L > /tmp/out/gpus.txt
go() { # go LANE NAME LIMIT CMD
  local lane=$1 name=$2 limit=$3; shift 3
  local begin=$(date +%s)
  timeout -k 5 $limit "$@" > /tmp/out/$name.log 2>&1; local rc=$?
  echo "$lane $name rc=$rc $(( $(date +%s) - begin )) s" >> /tmp/out/progress
}
lesson() { # lesson LANE STAGE NAME LIMIT
  go $1 $3 $4 python3.10 -m tools.gpu.run_lessons --out /tmp/out/$2_$3 solutions/$2/$3.py
}
lane0() {
  export CUDA_VISIBLE_DEVICES=0 XDG_CACHE_HOME=/tmp/cache0 COURSE_CACHE=/tmp/ccache0
  go 0 plugin 120 python3.10 -m tools.gpu.plugin_end_to_end --out /tmp/out/plugin
  go 0 m3a 260 python3.10 -m tools.gpu.grade s3.m3a --out /tmp/out/m3a
  go 0 m2a 260 python3.10 -m tools.gpu.grade s2.m2a --out /tmp/out/m2a
  go 0 graphs 140 python3.10 -m tools.gpu.graphs --out /tmp/out/graphs
  go 0 ways 120 python3.10 -m benchmarks.ways --out /tmp/out/ways --work /tmp/ways
}
lane1() { export CUDA_VISIBLE_DEVICES=1
  (export XDG_CACHE_HOME=/tmp/cacheA COURSE_CACHE=/tmp/ccacheA; lesson A stage2_quantizer 02_ptq_on_tensorrt 260; lesson A stage2_quantizer 05_calibration_set 260) &
  (export XDG_CACHE_HOME=/tmp/cacheB COURSE_CACHE=/tmp/ccacheB; for l in 02_cuda_kernels_1 03_cuda_kernels_2 04_the_plugin 05_integration 01_why_a_plugin 06_activation_milestone; do lesson B stage3_plugins $l 240; done) &
  (export XDG_CACHE_HOME=/tmp/cacheC COURSE_CACHE=/tmp/ccacheC; go C yolo 330 python3.10 -m benchmarks.yolo_int8 --out /tmp/out/yolo --work /tmp/yolow --size 320 --batch 8) &
  (export XDG_CACHE_HOME=/tmp/cacheD COURSE_CACHE=/tmp/ccacheD; lesson D stage2_quantizer 04_when_int8_is_wrong 200; lesson D stage2_quantizer 06_int8_milestone 320) &
  wait
  export XDG_CACHE_HOME=/tmp/cache1 COURSE_CACHE=/tmp/ccache1
  go 1 int8 400 python3.10 -m benchmarks.resnet50_int8 --out /tmp/out/int8 --work /tmp/int8work --level 1 --batches 1 8 256 --variants FP32 TF32 FP16 "Q/DQ good" "Q/DQ default" --seconds 6
}
lane0 & lane1 & wait
echo ALL DONE >> /tmp/out/progress
