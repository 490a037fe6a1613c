"""Milestones of stage 4, the architect."""

from __future__ import annotations

from autograder.artifacts.repository import Repository
from autograder.checks.base import Ramp
from autograder.checks.service_answers import ServiceAnswers
from autograder.checks.service_batches import ServiceBatches
from autograder.checks.service_faults import ServiceFaults
from autograder.checks.service_goodput import ServiceGoodput
from autograder.checks.service_graphs import ServiceGraphs
from autograder.milestones.declare import Check, Milestone
from autograder.tasks.image_files import ImageFiles

REPOSITORY = "m4a/repository"

# The GPU's thresholds rest on two gradings of the course's solution on an H200: docs/results/h200/m4a and its lesson's page.
GRAPHS = Ramp(zero=1.0, full=1.06, dead_band=0.02)
"""p50 at one client without graphs over that with them: 1.085 (95 % interval 1.068 to 1.110) and 1.114 (1.082 to 1.157), so the lower
end of both is above `full`. A service that replays no graph gets nothing, however fast it is: launches are counted."""
GPU_LADDER = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
"""Rates in multiples of what the naive service answers, 202 requests/s in the first. The solution bore 8 times that, where the ladder
ended then; in a closed loop it answered 3 857 and 4 360 requests/s, about where one load generator and one relay end."""
GPU_GOODPUT = Ramp(zero=1.5, full=6.0)
"""Over the naive service: the solution bore 6.6 and 9.4 times its traffic. An engine that takes requests one
by one answers 1 080 to 1 290 a second (docs/results/h200/serving), up to 5.2 times the naive service: so all points need batches, too."""

SERVICE = Milestone(
    id="s4.m4a",
    stage="stage4_architect",
    notebook="06_service_milestone",
    grade_id="m-s4-m4a",
    title="A service for image files",
    task=ImageFiles(),
    artifacts=(Repository(REPOSITORY),),
    limits_s={"build": 600.0, "run": 300.0, "all": 900.0},
    checks=(
        Check(
            id="answers",
            title="Right answers, alone and under load",
            points=5,
            lanes={"cpu": ServiceAnswers(), "gpu": ServiceAnswers(seconds=1.5, under_load=3000)},
            on_fail="The service does not answer as the network does.",
            hints=(
                "Which preprocessing was the network trained with, to the last division?",
                "Under load, execute gets several requests. Which response belongs to which?",
                "Resize to 224 x 224 bilinearly, RGB, minus the mean, over the deviation, channels first; responses in the "
                "order of the requests.",
            ),
        ),
        Check(
            id="batches",
            title="Batches form, and a single client does not pay for them",
            points=4,
            lanes={"cpu": ServiceBatches(), "gpu": ServiceBatches(clients=32, seconds=2.0, images=3000, files=3000)},
            needs=("answers",),
            on_fail="Requests do not share executions as they could.",
            hints=(
                "Who joins requests to a batch: your model.py, or Triton before it calls you?",
                "Two fields of config.pbtxt are needed: one allows batches, one switches them on.",
                "max_batch_size above 1 and a dynamic_batching without a queue delay; then one session.run for all images.",
            ),
        ),
        Check(
            id="goodput",
            title="More traffic in time than the naive service",
            points=6,
            lanes={
                "cpu": ServiceGoodput(Ramp(zero=1.1, full=1.5)),
                "gpu": ServiceGoodput(GPU_GOODPUT, seconds=2.0, ladder=GPU_LADDER, start=2.0),
            },
            needs=("answers",),
            on_fail="It bears hardly more traffic than the naive service.",
            hints=(
                "How many of the machine's cores does the naive service use while it computes?",
                "What happens to a request's wait when the queue in front of the model is long?",
                "Two instances with one thread each, or one with two threads; no queue delay; a short queue.",
            ),
        ),
        Check(
            id="graphs",
            title="CUDA graphs, and what one client gains by them",
            points=4,
            lanes={"gpu": ServiceGraphs(GRAPHS)},
            needs=("answers",),
            on_fail="CUDA graphs do not shorten the wait of a single client as they can.",
            hints=(
                "How many launches does the GPU get for one image, and how many could it be?",
                "Count what a request does on the GPU outside of the graph: copies, resizing, normalising, allocations.",
                "Record the copy, the preprocessing and TensorRT's enqueue in one graph for each batch size, at fixed addresses; "
                "per request only fill the pinned input, replay, wait, and read the pinned output.",
            ),
        ),
        Check(
            id="faults",
            title="It survives what goes wrong",
            points=5,
            lanes={"cpu": ServiceFaults(), "gpu": ServiceFaults(seconds=1.5)},
            needs=("answers",),
            on_fail="A fault reaches requests that it should not reach.",
            hints=(
                "One broken file: who else gets an error?",
                "Twice the traffic: where do the requests wait, and for how long?",
                "Catch the error of each file by itself; give the queue a size and a time, and reject what is over.",
            ),
        ),
    ),
)

MILESTONES = (SERVICE,)
