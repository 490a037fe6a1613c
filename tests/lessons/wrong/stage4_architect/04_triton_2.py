# %% batch-join | the network never ran with more rows
joined = one_by_one

# %% batch-join | had 3 rows and got
joined = one_by_one.replace("        return [self.answer(pb_utils.get_input_tensor_by_name(each, \"x\").as_numpy()) for each in requests]",
"""        import numpy as np
        x = np.concatenate([pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests])
        (y,) = self.session.run(None, {"x": x})
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", y[n:n + 1])]) for n in range(len(requests))]""")

# %% batch-join | of them failed
joined = one_by_one.replace("        return [self.answer(pb_utils.get_input_tensor_by_name(each, \"x\").as_numpy()) for each in requests]",
"""        import numpy as np
        x = np.concatenate([pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests])
        return [self.answer(x)]""")

# %% batch-join | got another one's rows
from course.exercises.stage4_architect.triton_2 import JOINED
joined = JOINED.replace("np.concatenate(parts)", "np.concatenate(parts)[::-1]")

# %% batch-limits | makes it wait for others that do not come
limits = """
backend: "python"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
dynamic_batching { max_queue_delay_microseconds: 100000
  default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 200000 timeout_action: REJECT } }
"""

# %% batch-limits | each was a call of its own
limits = BASE

# %% batch-limits | none was refused because the queue was full
limits = BASE.replace("size: 32", "size: 16") + "dynamic_batching { default_queue_policy { default_timeout_microseconds: 200000 } }"

# %% batch-limits | none at all, keeps a request
limits = BASE.replace("size: 32", "size: 16") + "dynamic_batching { default_queue_policy { max_queue_size: 64 } }"

# %% batch-limits | The unit is microseconds
limits = BASE.replace("size: 32", "size: 16") + "dynamic_batching { default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 200 } }"

# %% batch-limits | Did you mean max_queue_size
limits = BASE + "dynamic_batching { default_queue_policy { max_queue: 64 } }"

# %% batch-misses | You say that batch 1 has no graph
def misses(stats):
    ms = {row["batch_size"]: row["compute_infer"]["ns"] for row in stats["model_stats"][0]["batch_stats"]}
    return {size for size in ms if any(ms[size] > 1.3 * ms[larger] for larger in ms if larger > size)}

# %% batch-misses | You say that batch 3 has no graph
def misses(stats):
    return {row["batch_size"] for row in stats["model_stats"][0]["batch_stats"]} - {1, 2, 4, 8}

# %% batch-misses | You say that batch
def misses(stats):
    ms = {row["batch_size"]: row["compute_infer"]["ns"] / row["compute_infer"]["count"] / row["batch_size"]
          for row in stats["model_stats"][0]["batch_stats"]}
    return {size for size in ms if any(ms[size] > 1.3 * ms[larger] for larger in ms if larger > size)}

# %% batch-misses | A set of batch sizes was asked for
def misses(stats):
    return 3
