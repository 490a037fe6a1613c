"""The steps of one inference by hand, as data: which must come before which, and what happens where one does not.

A step is a verb and a tensor, such as "allocate image"; "execute" and "wait" stand alone. Nothing is run here:
the rules are those of an asynchronous stream, checked against the tensors that the network really has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course.engine.types import TensorSpec
from course.errors import CourseError

VERBS = ("set_shape", "allocate", "set_address", "copy_to_gpu", "execute", "copy_to_host", "wait", "read")
_ALONE = ("execute", "wait")


class StepError(CourseError):
    """A step is missing or comes too late."""


def check_steps(
    steps: Sequence[str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    words: Mapping[str, str] | None = None,
) -> int:
    """Check that the steps, in this order, run the network and read every output. Any right order passes.

    Args:
        steps: such as ["allocate image", ..., "wait", "read features"].
        inputs, outputs: of the network; a -1 in an input's shape makes "set_shape" necessary.
        words: verb here -> how the caller's steps say it, if otherwise.

    Returns: how many of the waits were not needed.

    Raises:
        StepError: the first mistake: what is missing or too late, what would happen, what to do.
    """
    words = {verb: (words or {}).get(verb, verb) for verb in VERBS}
    done = [_split(step, words, [spec.name for spec in (*inputs, *outputs)]) for step in steps]
    place = {}
    for index, step in enumerate(done):
        place.setdefault(step, index)  # the first time counts

    def say(verb: str, name: str = "") -> str:
        return f'"{words[verb]} {name}"'.replace(' "', '"')

    def need(first: tuple[str, str], then: tuple[str, str], else_what: str) -> None:
        if first not in place:
            raise StepError(f"{say(*first)} is missing.", else_what, f"Put it before {say(*then)}.")
        if then in place and place[first] > place[then]:
            raise StepError(
                f"{say(*first)} comes after {say(*then)}.", else_what, f"Move {say(*first)} up, before {say(*then)}."
            )

    run = ("execute", "")
    if run not in place:
        raise StepError(
            f"{say('execute')} is missing.",
            "Without it the GPU computes nothing.",
            "Put it after all addresses are set.",
        )
    for spec in (*inputs, *outputs):
        need(
            ("allocate", spec.name),
            ("set_address", spec.name),
            f"There is no GPU memory for {spec.name!r} yet, so there is no address to give.",
        )
        need(
            ("set_address", spec.name),
            run,
            f"The context does not know where {spec.name!r} lies, inputs and outputs alike, and refuses to run.",
        )
    for spec in inputs:
        if -1 in spec.shape:
            need(
                ("set_shape", spec.name),
                run,
                f"{spec.name!r} has an open dimension, so the context does not know its size and refuses to run.",
            )
        copied = ("copy_to_gpu", spec.name)
        need(("allocate", spec.name), copied, f"There is no GPU memory to copy {spec.name!r} to.")
        need(copied, run, f"The engine would compute with whatever lay in the GPU memory of {spec.name!r} before.")
    needed = set()
    for spec in outputs:
        back, read = ("copy_to_host", spec.name), ("read", spec.name)
        need(run, back, f"The copy would bring back what lay in the GPU memory of {spec.name!r} before the run.")
        need(back, read, f"{spec.name!r} is in GPU memory, where NumPy cannot read.")
        if read not in place:
            raise StepError(
                f"{say(*read)} is missing.",
                "The answer is computed, and nobody looks at it.",
                f"End with {say(*read)}.",
            )
        wait = next((i for i, step in enumerate(done) if step == ("wait", "") and place[back] < i < place[read]), None)
        if wait is None:
            raise StepError(
                f"There is no {say('wait')} between {say(*back)} and {say(*read)}.",
                "An asynchronous copy only joins the queue: Python goes on at once, and would read memory "
                "that is not filled yet.",
                f"Put {say('wait')} between the two.",
            )
        needed.add(wait)
    return sum(step == ("wait", "") for step in done) - len(needed)


def _split(step: str, words: Mapping[str, str], names: Sequence[str]) -> tuple[str, str]:
    said, _, name = str(step).strip().partition(" ")
    verb = next((verb for verb, word in words.items() if word == said), None)
    name = name.strip()
    if verb is None:
        raise StepError(
            f"There is no step {step!r}.",
            f"The steps are {', '.join(words.values())}.",
            "Write one of them, a space, and the tensor's name.",
        )
    if verb in _ALONE:
        return verb, ""
    if name not in names:
        raise StepError(
            f"The step {step!r} names no tensor of this network.",
            f"It has {', '.join(names)}.",
            "Write the step, a space, and one of these names.",
        )
    return verb, name
