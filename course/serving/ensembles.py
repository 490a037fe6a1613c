"""An ensemble's wiring: every tensor that a step needs is there, made before it, of the right dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message


def problems(config: Message, others: Mapping[str, Message]) -> Iterator[tuple[str, str, str]]:
    """(field, cause, next step) for what is wrong.

    Args:
        config: the ensemble's configuration.
        others: name -> configuration of the repository's models.
    """
    known = {tensor.name: tensor.data_type for tensor in config.input}
    if not config.ensemble_scheduling.step:
        yield "ensemble_scheduling.step", "There is no step.", "Add a step for each model of the ensemble."
    made_later = {new for step in config.ensemble_scheduling.step for new in step.output_map.values()}
    for number, step in enumerate(config.ensemble_scheduling.step):
        field = f"ensemble_scheduling.step[{number}]"
        model = others.get(step.model_name)
        if model is None:
            yield (
                f"{field}.model_name",
                f'The repository has no model "{step.model_name}".',
                f"Use one of {', '.join(sorted(set(others) - {config.name})) or 'those that you add'}.",
            )
            continue
        yield from _map_problems(f"{field}.input_map", step.input_map, model.input, required=True)
        yield from _map_problems(f"{field}.output_map", step.output_map, model.output, required=False)
        dtypes = {tensor.name: tensor.data_type for tensor in model.input}
        for inside, outside in step.input_map.items():
            if outside not in known and outside not in made_later:
                yield (
                    f"{field}.input_map",
                    f'Nothing makes the tensor "{outside}".',
                    "Name an input of the ensemble or another step's output.",
                )
            elif inside in dtypes and known.get(outside, dtypes[inside]) != dtypes[inside]:
                yield (
                    f"{field}.input_map",
                    f'"{outside}" does not have the dtype of {step.model_name}\'s "{inside}".',
                    "Make both equal: an ensemble converts nothing.",
                )
        made = {tensor.name: tensor.data_type for tensor in model.output}
        known.update({outside: made[inside] for inside, outside in step.output_map.items() if inside in made})
    for number, tensor in enumerate(config.output):
        if tensor.name not in known:
            yield (
                f"output[{number}].name",
                f'No step makes "{tensor.name}".',
                "Let a step's output_map end there.",
            )


def _map_problems(field: str, mapping: Mapping[str, str], tensors: object, required: bool) -> Iterator[tuple]:
    names = [tensor.name for tensor in tensors]
    for key in mapping:
        if key not in names:
            yield field, f'The model has no tensor "{key}".', f"Its tensors are {', '.join(names)}."
    for name in names if required else ():
        if name not in mapping:
            yield field, f'The model\'s input "{name}" gets no tensor.', "Add it to the map."
