import torch
from torch import nn

from lilliput.techniques import frozen_copy, full_precision, mlp, move_towards


def test_heads_have_no_norm_and_no_relu_after_the_last_layer():
    head = mlp(4, 8, 3)
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert head[0].bias is None and head[3].bias is not None
    assert [type(layer).__name__ for layer in mlp(4, 8, 3, norm=False)] == ["Linear", "ReLU", "Linear"]
    assert mlp(4, 8, 3, bias_last=False)[3].bias is None


def test_a_head_may_end_in_batch_norm_and_then_its_last_layer_has_no_bias():
    head = mlp(4, 8, 3, norm_last=True)
    assert [type(layer).__name__ for layer in head[3:]] == ["Linear", "BatchNorm1d"] and head[3].bias is None


def test_moving_all_the_way_is_copying():
    target, source = mlp(3, 4, 2), mlp(3, 4, 2)
    move_towards(target, source, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


def test_moving_leaves_buffers_alone():
    target, source = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source.running_mean += 1
    move_towards(target, source, 0.5)
    assert not target.running_mean.any()


def test_a_frozen_copy_has_no_gradients_and_the_modes_of_its_module():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval())
    copied = frozen_copy(module)
    assert not any(p.requires_grad for p in copied.parameters()) and all(p.requires_grad for p in module.parameters())
    assert copied.training and not copied[1].training
    assert copied[0].weight is not module[0].weight


def test_full_precision_makes_floats_of_half_precision_and_leaves_integers():
    kinds = full_precision(lambda *tensors: [t.dtype for t in tensors])
    assert kinds(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.long)) == [torch.float32, torch.long]
