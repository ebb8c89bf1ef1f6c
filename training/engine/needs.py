"""Whether what is given is what a method needs. Importing this imports no torch."""

from collections.abc import Mapping, Sequence

from training.engine.registry import MethodCard

_TASKS = {"quality": "image quality", "classification": "classification"}
Named = Mapping[str, Sequence[tuple[str, str]]]  # (name, task) of each version, by role


class NotWhatIsNeeded(ValueError):
    """An input or the data is missing or of the wrong sort. ``field``: the input's role, or "edition"."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


def require_inputs(card: MethodCard, given: Named) -> None:
    """Check the inputs of a run; Raises NotWhatIsNeeded."""
    roles = {slot.role: slot for slot in card.inputs}
    for role in given:
        if role not in roles:
            known = ", ".join(roles) or "it has none"
            raise NotWhatIsNeeded(f'Method "{card.name}" has no input "{role}": {known}.', field=role)
    for role, slot in roles.items():
        versions = given.get(role, ())
        if not versions and slot.required:
            raise NotWhatIsNeeded(f'Method "{card.name}" needs "{role}" ({slot.title}): choose a version.', field=role)
        if len(versions) > 1 and not slot.many:
            raise NotWhatIsNeeded(
                f'Method "{card.name}" takes one "{role}", but {len(versions)} were given: choose one.', field=role
            )
        for name, task in versions:
            if slot.task is not None and task != slot.task:
                raise NotWhatIsNeeded(
                    f'"{name}" is for {_TASKS.get(task, task)}, but "{role}" of method "{card.name}" has to be for '
                    f"{_TASKS[slot.task]}: choose another version.",
                    field=role,
                )


def require_data(card: MethodCard, given: tuple[str, str, int] | None) -> None:
    """Check the data of a run; given: name, task and number of rows of the edition. Raises NotWhatIsNeeded."""
    if card.data is None:
        if given is not None:
            raise NotWhatIsNeeded(
                f'Method "{card.name}" learns without labels: leave the labelled set out.', field="edition"
            )
        return
    if given is None:
        raise NotWhatIsNeeded(
            f'Method "{card.name}" needs {_wanted(card)}: make a labelled set first, and choose it.',
            field="edition",
        )
    name, task, n_rows = given
    if card.data != "any" and task != card.data:
        raise NotWhatIsNeeded(
            f'"{name}" holds labels for {_TASKS.get(task, task)}, but method "{card.name}" needs {_wanted(card)}: '
            "choose another labelled set.",
            field="edition",
        )
    if not n_rows:
        raise NotWhatIsNeeded(f'"{name}" holds no labels: add a source to it first.', field="edition")


def require_one_task(
    card: MethodCard, inputs: Mapping[str, Sequence[tuple[str, str]]], data: tuple[str, str, int]
) -> None:
    """Check that labels and versions are for one task, where the method takes any. Raises NotWhatIsNeeded."""
    label, task, _ = data
    others = [(role, name) for role, given in inputs.items() for name, own in given if own != task]
    if card.data == "any" and others:
        role, name = others[0]
        raise NotWhatIsNeeded(
            f'"{label}" holds labels for {_TASKS.get(task, task)}, but "{name}" is for another task: choose others.',
            field=role,
        )


def _wanted(card: MethodCard) -> str:
    return "labels" if card.data in {None, "any"} else f"labels for {_TASKS[str(card.data)]}"
