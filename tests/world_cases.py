"""What happens between processes: a program that each of them runs."""

import os
import signal
import subprocess
import sys
import time

import torch

from bertpipe.core.errors import BertpipeError, DataError
from bertpipe.training.distributed.world import World, init_distributed

TIMEOUT_S = 2.0


def messages(world: World) -> None:
    """Send every kind of message once."""
    me = world.dp.rank
    print("total", world.all_reduce_sum(torch.tensor([1.0, 10.0 * me])).tolist())
    print("highest", world.all_reduce_max(torch.tensor([5 - me, me])).tolist())
    print("told", world.broadcast({"from": me}))
    given = torch.tensor([3.0, 4.0]) if world.is_main else None
    print("scattered", world.broadcast_or_shard(given, like=torch.zeros(2)).tolist())
    world.assert_equal("weights", {"step": 3, "weights": "same"}, advice="look")
    with world.together():
        print("together")


def differs(world: World) -> None:
    """Let the second process have other facts."""
    world.assert_equal("params", {"same": 1, "seed": world.dp.rank}, advice="give all the same")


def fails(world: World) -> None:
    """Let the second process fail where all have to succeed."""
    with world.together():
        if world.dp.rank == 1:
            raise DataError("train.parquet is damaged")


def leader_fails(world: World) -> None:
    """Let the first process fail in the midst of what the second waits for."""
    with world.together():
        if world.is_main:
            raise DataError("the disk is full")
        world.assert_equal("weights", {"step": 1}, advice="look")


def hangs(world: World) -> None:
    """Let the second process not answer."""
    if world.dp.rank == 1:
        time.sleep(TIMEOUT_S + 7)
        return
    world.all_reduce_sum(torch.zeros(1))


def freezes(world: World) -> None:
    """Let the first process, which keeps the store of all, stand still like a machine that froze."""
    if world.is_main:
        me = os.getpid()
        subprocess.Popen(["sh", "-c", f"sleep {TIMEOUT_S + 8}; kill -CONT {me}"])
        os.kill(me, signal.SIGSTOP)
        os._exit(0)
    world.all_reduce_sum(torch.zeros(1))


def ends(world: World) -> None:
    """Let the second process end."""
    if world.dp.rank == 1:
        os._exit(0)
    world.all_reduce_sum(torch.zeros(1))


def first_ends(world: World) -> None:
    """Let the first process end."""
    if world.is_main:
        os._exit(0)
    world.all_reduce_sum(torch.zeros(1))


CASES = (messages, differs, fails, leader_fails, hangs, freezes, ends, first_ends)


def main() -> None:
    """Run the named cases, one after the other, and print what comes of each."""
    try:
        with init_distributed("cpu", timeout_s=TIMEOUT_S) as world:
            for name in sys.argv[1:]:
                print(f"-- {name}")
                try:
                    next(case for case in CASES if case.__name__ == name)(world)
                except BertpipeError as error:
                    print(f"{type(error).__name__}, shown {error.shown}: {error}")
    except BertpipeError as error:
        print(f"{type(error).__name__}, shown {error.shown}: {error}")
