"""Going on from the newest checkpoint, in all processes."""

from collections.abc import Callable, Mapping
from typing import Any

from bertpipe.model.bert import Bert
from bertpipe.training.checkpoint import Checkpoints, Restored
from bertpipe.training.distributed.world import World


def restore(
    checkpoints: Checkpoints, bert: Bert, world: World, *, resume: bool, on_note: Callable[[str], None]
) -> Restored | None:
    """Return the newest undamaged state, its weights in the network of each process; None where there is none.

    The leader reads it; the others get what it read, but for the optimizer's memory, which is theirs in parts perhaps.

    Args:
        checkpoints: of the run.
        bert: the network.
        world: the processes that train together.
        resume: whether there is to be a state; without, all of the run's are removed.
        on_note: told of each damaged checkpoint.
    """
    with world.together():
        restored = _newest(checkpoints, bert, resume=resume, on_note=on_note) if world.leads else None
    return _spread(restored, bert, world)


def _newest(checkpoints: Checkpoints, bert: Bert, *, resume: bool, on_note: Callable[[str], None]) -> Restored | None:
    if not resume:
        checkpoints.clear()
        return None
    checkpoints.tidy()
    return checkpoints.load_newest(bert, on_note=on_note)


def _spread(restored: Restored | None, bert: Bert, world: World) -> Restored | None:
    if world.share.size == 1:
        return restored
    found = world.told(None if restored is None else (restored.step, restored.records))
    if found is None:
        return None
    for tensor in bert.state_dict().values():
        tensor.copy_(world.scattered(tensor if world.leads else None, like=tensor))
    step, records = found
    return Restored(step, records, {} if restored is None else restored.optimizer)


def remark_on(records: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return a remark on a state of other settings of the machine, on which the result depends a little."""
    before = records["machine"]
    names = sorted({*before, *machine})
    then_and_now = [(name, before.get(name, "-"), machine.get(name, "-")) for name in names]
    said = [f"{name} {then} until there and {now} now" for name, then, now in then_and_now if then != now]
    return f"; {', '.join(said)}: results may differ in rounding, and in what dropout draws" if said else ""
