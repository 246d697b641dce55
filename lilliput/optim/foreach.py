"""Arithmetic on many tensors by one call, which on a GPU is one kernel instead of one a tensor.

torch has these functions under private names alone, and runs its own optimisers by them: here is the one place that
uses them.
"""

import torch

add = torch._foreach_add
add_ = torch._foreach_add_
lerp_ = torch._foreach_lerp_
mul_ = torch._foreach_mul_
norm = torch._foreach_norm
sub_ = torch._foreach_sub_
