"""What a trial takes of a node: the arithmetic of shares, with numbers that no machine here has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.host import GPU_CONTEXT, STREAMS, allocator_fraction
from sweep.probe import Probe
from sweep.resources import GRAIN, MARGIN, MOST_ON_A_GPU, WORKER, Cluster, Resources, Share, gpu_share, host_memory

GIB = 2**30
CPU_NODE = Share(16, 0, 64 * GIB)
GPU_NODE = Share(32, 2, 256 * GIB)
AUTO = Resources.model_validate("auto", strict=True)


def probe(host: int, gpu: int = 0, total: int = 0) -> Probe:
    return Probe("key", {}, host, gpu, total, 3, 0.1, 1e-4, 1e-5, {}, 0.0)


@pytest.mark.parametrize(
    ("share", "node", "times"),
    [
        (Share(1), CPU_NODE, 16),
        (Share(0.5), CPU_NODE, 32),
        (Share(1, 0, 5 * GIB), CPU_NODE, 12),
        (Share(1, 1), CPU_NODE, 0),
        (Share(1, 1), GPU_NODE, 2),
        (Share(1, 2), GPU_NODE, 1),
        (Share(1, 0.25), GPU_NODE, 8),
        (Share(1, 0.6), GPU_NODE, 2),  # one a GPU: what is left of the two makes no third
        (Share(8, 0.25), GPU_NODE, 4),
        (Share(1, 0.25, 100 * GIB), GPU_NODE, 2),
    ],
)
def test_the_scarcest_thing_decides_how_many_fit(share: Share, node: Share, times: int) -> None:
    assert share.times_in(node) == times


def test_auto_in_place_of_fields() -> None:
    assert Resources.model_validate("auto", strict=True) == Resources(probe=True)
    assert not Resources().probe
    with pytest.raises(ValueError, match="give auto, or the fields cpu, gpu, probe, together and graphs"):
        Resources.model_validate("atuo", strict=True)


def test_what_nobody_measured_has_a_gpu_where_there_is_any() -> None:
    for resources in (Resources(), AUTO):
        assert Cluster([CPU_NODE], resources).unmeasured == Share(1, 0)
        assert Cluster([CPU_NODE, GPU_NODE], resources).unmeasured == Share(1, 1)
        assert Cluster([CPU_NODE, GPU_NODE], resources).share_of(None) == Share(1, 1)
    assert (Cluster([CPU_NODE], AUTO).device, Cluster([GPU_NODE], AUTO).device) == ("cpu", "cuda")
    assert Cluster([CPU_NODE, GPU_NODE], Resources(gpu=0.0)).device == "cpu"


def test_what_was_asked_for_stays_what_a_trial_gets() -> None:
    where = Cluster([GPU_NODE], Resources(cpu=2, gpu=0.5))
    assert where.unmeasured == Share(2, 0.5)
    assert (where.slots, where.most_slots) == (4, 4)
    measured = Cluster([GPU_NODE], Resources(cpu=2, gpu=0.5, probe=True)).share_of(probe(2 * GIB, 70 * GIB, 80 * GIB))
    assert (measured.cpu, measured.gpu) == (2, 0.5)


def test_on_a_cpu_a_measured_trial_claims_memory_and_one_core() -> None:
    where = Cluster([CPU_NODE], AUTO)
    share = where.share_of(probe(10 * GIB))
    assert (share.cpu, share.gpu) == (1, 0)
    assert share.memory == host_memory(10 * GIB) == 12.5 * GIB  # 1.2 times ten, and a worker's own, in quarters
    assert where.num_at_once(share) == 5
    # What fitted its probe fits the largest node, whatever the margin comes to.
    assert where.share_of(probe(60 * GIB)).memory == 64 * GIB
    assert where.num_at_once(where.share_of(probe(60 * GIB))) == 1


def test_on_a_gpu_trials_are_packed_by_what_they_reserve() -> None:
    where = Cluster([GPU_NODE], AUTO)
    small, large = probe(3 * GIB, 1 * GIB, 80 * GIB), probe(3 * GIB, 25 * GIB, 80 * GIB)
    assert where.share_of(small).gpu == 1 / MOST_ON_A_GPU
    assert where.num_at_once(where.share_of(small)) == where.most_slots == 2 * MOST_ON_A_GPU
    assert where.share_of(large).gpu == 0.5
    assert where.share_of(probe(3 * GIB, 79 * GIB, 80 * GIB)).gpu == 1
    assert where.slots == 2


@given(needed=st.integers(2**20, 80 * GIB), total=st.integers(8 * GIB, 200 * GIB))
def test_shares_of_a_gpu_hold_what_was_measured_and_never_more_than_it_has(needed: int, total: int) -> None:
    share = gpu_share(needed, total)
    number = Share(1, share).times_in(Share(100, 1))
    assert 1 <= number <= MOST_ON_A_GPU
    # As Ray counts, in ten-thousandths, that many fit.
    assert share * 10_000 == int(share * 10_000)
    assert number * int(share * 10_000) <= 10_000
    allowed = allocator_fraction(share, total) * total
    if number > 1:
        assert number * (allowed + GPU_CONTEXT) <= total + 1
        assert allowed >= MARGIN * needed - total / 10_000
    else:
        assert allowed == total


def test_whole_gpus_are_not_limited() -> None:
    assert allocator_fraction(1.0, 80 * GIB) == allocator_fraction(2.0, 80 * GIB) == 1.0
    assert allocator_fraction(0.5, 80 * GIB) == pytest.approx(0.5 - GPU_CONTEXT / (80 * GIB))
    assert allocator_fraction(0.001, 80 * GIB) == 0.0


@given(needed=st.integers(2**20, 300 * GIB))
def test_claims_on_memory_leave_a_margin_and_are_few(needed: int) -> None:
    claim = host_memory(needed)
    assert MARGIN * needed + WORKER <= claim < MARGIN * needed + WORKER + GRAIN + 1
    assert claim % GRAIN == 0


def test_as_many_share_a_process_as_a_gpu_holds() -> None:
    """One context of CUDA for all; what is left is not worth another process's."""
    where, small = Cluster([GPU_NODE], AUTO), probe(GIB, 3 * GIB, 80 * GIB)
    assert where.share_together([small]) == where.share_of(small)
    assert where.share_together([small] * 20) == Share(1, 1.0, 20 * host_memory(GIB))
    assert where.share_together([small] * 4) == Share(1, 0.2, 4 * host_memory(GIB))
    assert where.share_together([small] * 21) is None
    large = probe(GIB, 30 * GIB, 80 * GIB)
    assert where.share_together([large] * 2) == Share(1, 1.0, 2 * host_memory(GIB))
    assert where.share_together([large] * 3) is None
    assert where.share_together([large, small, small, large]) == Share(1, 1.0, 4 * host_memory(GIB))
    assert where.share_together([small, None]) is None  # nobody knows


def test_on_a_cpu_and_unmeasured_each_has_its_own_process_unless_it_is_asked_for() -> None:
    assert Cluster([CPU_NODE], AUTO).share_together([probe(GIB)] * 2) is None
    assert Cluster([GPU_NODE], Resources()).share_together([None] * 2) is None
    asked = Resources(together=3)
    assert Cluster([CPU_NODE], asked).share_together([None] * 3) == Share(1)
    assert Cluster([CPU_NODE], asked).share_together([None] * 4) is None
    assert Cluster([GPU_NODE], asked).share_together([None] * 3) == Share(1, 1)
    assert Cluster([GPU_NODE], Resources(gpu=0.2, together=3)).share_together([None] * 3) == Share(1, 0.2 * 3)
    assert Cluster([GPU_NODE], Resources(gpu=2.0, together=3)).share_together([None] * 2) is None
    tight = Cluster([Share(16, 0, 4 * GIB)], Resources(probe=True, together=4))
    assert tight.share_together([probe(GIB)] * 2) == Share(1, 0, 2 * host_memory(GIB))
    assert tight.share_together([probe(GIB)] * 3) is None


def test_all_are_shared_out_among_devices() -> None:
    assert Cluster([CPU_NODE], Resources()).devices == 16
    assert Cluster([CPU_NODE, GPU_NODE, GPU_NODE], Resources()).devices == 4


def test_alone_is_with_no_other_on_the_device() -> None:
    cpu, gpu = Cluster([Share(0, 0, 999 * GIB), Share(32, 0, 8 * GIB), CPU_NODE], AUTO), Cluster([GPU_NODE], AUTO)
    # Not the node with the most cores, in whose memory it may have failed; nor a head, which takes no trial.
    assert cpu.alone(cpu.share_of(probe(GIB))) == CPU_NODE
    assert Cluster([Share(8)], AUTO).alone(Share(1)) == Share(8)
    packed = gpu.share_of(probe(3 * GIB, 1 * GIB, 80 * GIB))
    assert gpu.alone(packed) == Share(1, 1, packed.memory)
    assert gpu.alone(Share(1, 2)).gpu == 2


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(cpu=64), "a trial asks for 64 CPUs and 1 GPUs, but the largest node has 32 and 2; ask for less"),
        (Resources(gpu=3), "a trial asks for 1 CPUs and 3 GPUs"),
    ],
)
def test_what_fits_nowhere_is_a_sentence(resources: Resources, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Cluster([CPU_NODE, GPU_NODE], resources)


@pytest.mark.parametrize("together", [0, 33, "many"])
def test_as_many_share_a_process_as_have_a_stream_each(together: object) -> None:
    """PyTorch hands out the first stream again after 32."""
    with pytest.raises(ValueError, match="together"):
        Resources.model_validate({"together": together})
    assert Resources(together=32).together == STREAMS
