from __future__ import annotations

import pytest
import torch

from capyra.engine.native.batch import PlacedImage, Run, StepBatch
from capyra.engine.native.blocks import NO_BLOCK
from capyra.engine.native.kv import CacheGroup, KvPool


def test_prefill_rows_come_first_and_logits_in_the_order_of_runs() -> None:
    batch = StepBatch.build(
        [Run([5, 6, 7], 14, [[3, 4]], logits_from=None), Run([8, 9], 0, [[9]], logits_from=0)],
        [Run([1], 33, [[0, 1, 2]]), Run([2, 3, 4], 4, [[7]], logits_from=-2)],
        [None],
    )
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert batch.positions.tolist() == [14, 15, 16, 0, 1, 33, 4, 5, 6]
    assert batch.prefill_rows == 5
    assert batch.logit_rows.tolist() == [3, 4, 5, 7, 8]
    assert batch.groups[0].slots.tolist() == [62, 63, 64, 144, 145, 33, 116, 117, 118]
    assert batch.long_rows is None


def test_a_window_looks_no_further_than_it_reaches() -> None:
    passed = [NO_BLOCK, NO_BLOCK, 5, 6]
    batch = StepBatch.build(
        [Run([1] * 4, 44, [passed])], [Run([1], 49, [[NO_BLOCK, *passed[1:]]])], [8]
    )
    (step,) = batch.groups
    (table,) = step.spans
    assert (table.blocks.tolist(), table.start) == ([5], 32)
    assert step.slots.tolist() == [92, 93, 94, 95, 97]
    assert step.decode is not None
    assert step.decode.blocks.tolist() == [[5, 6]]
    assert step.decode.seen.tolist() == [[10, 18]]


def test_rows_of_unequal_length_are_filled_up_with_their_own_blocks() -> None:
    batch = StepBatch.build([], [Run([1], 2, [[4]]), Run([1], 40, [[1, 2, 3]])], [None])
    table = batch.groups[0].decode
    assert table is not None
    assert table.blocks.tolist() == [[4, 4, 4], [1, 2, 3]]
    assert table.seen.tolist() == [[0, 3], [0, 41]]


def test_images_and_long_sequences_are_marked_row_by_row() -> None:
    features = torch.zeros(3, 8)
    batch = StepBatch.build(
        [Run([1] * 6, 10, [[0]], images=[PlacedImage(12, features)])],
        [Run([1], 9, [[1]], long=True)],
        [None],
    )
    assert batch.images == ((2, features),)
    assert batch.spans[0].images == ((2, 3),)
    assert batch.long_rows is not None
    assert batch.long_rows.tolist() == [False] * 6 + [True]
    with pytest.raises(AssertionError, match="whole"):
        StepBatch.build([Run([1] * 4, 10, [[0]], images=[PlacedImage(12, features)])], [], [None])


@pytest.fixture
def pool() -> KvPool:
    groups = (
        CacheGroup(None, (1,), 2 * 16 * 2 * 4 * 4),
        CacheGroup(8, (0, 2), 2 * 2 * 16 * 2 * 4 * 4),
    )
    return KvPool(groups, [3, 5], 2, 4, torch.float32)


def test_layers_get_the_blocks_of_their_group(pool: KvPool) -> None:
    assert [len(layer.k) for layer in pool.layers] == [5, 3, 5]
    assert pool.nbytes == sum(layer.k.nbytes + layer.v.nbytes for layer in pool.layers)


def test_what_is_written_is_read_copied_and_cleared(pool: KvPool) -> None:
    k = torch.randn(3, 2, 4)
    layer = pool.layers[0]
    layer.write(torch.tensor([17, 18, 64]), k, -k)
    read_k, read_v = layer.read(torch.tensor([4, 1]), torch.float32)
    assert torch.equal(read_k[[17, 18, 0]], k)
    assert torch.equal(read_v[[17, 18, 0]], -k)
    pool.copy(1, [1], [3])
    assert torch.equal(layer.k[3], layer.k[1])
    assert torch.equal(layer.v[3], layer.v[1])
    pool.clear(1, [1])
    assert not layer.k[1].any()
    assert layer.k[3].any()
    assert not pool.layers[2].k.any()
