"""Many replicas of a network that are gone before their group's threads have done their work: a program."""

import sys

import torch
import torch.distributed as dist
from torch import nn

from bertpipe.training.parallel import replicate


def main() -> None:
    """Make replicas in a group of one process, and drop each just after the group."""
    for _ in range(int(sys.argv[1])):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        replica = replicate(nn.Linear(8, 8))
        replica(torch.ones(2, 8)).sum().backward()
        works = [dist.all_reduce(torch.ones(4), async_op=True) for _ in range(8)]
        del works
        dist.destroy_process_group()
        del replica
    print("all are gone")


if __name__ == "__main__":
    main()
