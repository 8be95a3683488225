"""Where a process computes: its GPU, its threads, and how many processes there are to be."""

import dataclasses

import pytest
import torch

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import Params
from bertpipe.model import device as module
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.flops import published_peak_flops
from bertpipe.training.distributed.launch import processes_to_train_in


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let PyTorch say that it sees two GPUs, and return which one is chosen."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    return chosen


def test_each_process_of_a_machine_has_its_gpu(two_gpus: list[int]) -> None:
    assert [pick_device("auto", local_rank=rank) for rank in (0, 1)] == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert two_gpus == [0, 1]
    assert pick_device("cpu", local_rank=5) == torch.device("cpu")


def test_more_processes_than_gpus_are_refused(two_gpus: list[int]) -> None:
    with pytest.raises(ParamsError, match=r"sees 2 GPU\(s\) here, and there are more processes on this machine: start"):
        pick_device("auto", local_rank=2)
    assert two_gpus == []


def test_the_processes_of_a_machine_part_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(module, "cores", lambda: 8)
    assert [set_up_cpu("auto", processes=count) for count in (1, 3, 8, 20)] == [8, 2, 1, 1] == asked
    assert set_up_cpu(5, processes=4) == 5


@pytest.mark.usefixtures("two_gpus")
def test_auto_trains_in_one_process_for_each_gpu(tiny: Params) -> None:
    def asked(**changes: object) -> int:
        return processes_to_train_in(dataclasses.replace(tiny.runtime, **changes))  # type: ignore[arg-type]

    assert asked(processes="auto", device="auto") == 2
    assert asked(processes="auto", device="cpu") == 1
    assert asked(processes=3, device="cpu") == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_one_process_without_a_gpu(tiny: Params) -> None:
    assert processes_to_train_in(dataclasses.replace(tiny.runtime, processes="auto", device="auto")) == 1


@pytest.mark.usefixtures("two_gpus")
def test_mfu_is_of_what_the_maker_states() -> None:
    assert published_peak_flops(torch.device("cuda"), torch.bfloat16) == 989e12
    assert published_peak_flops(torch.device("cuda"), torch.float32) is None
    assert published_peak_flops(torch.device("cpu"), torch.bfloat16) is None


def test_a_gpu_that_is_not_known_has_no_stated_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Another 9000")
    assert published_peak_flops(torch.device("cuda"), torch.bfloat16) is None
