"""Kernels that compute each sample of a batch by itself, as those of a CPU do not.

A product of 1 row and of 8 rows is summed in another order by the libraries of a CPU, so its last
bits differ. Under this mode they do not, and what is left to differ is ours.
"""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

BY_SAMPLE = {F.linear, F.conv3d, torch.conv3d}
BY_PRODUCT = {torch.bmm, torch.baddbmm}


class EachAlone(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in BY_SAMPLE and args[0].ndim > 1 and len(args[0]) > 1:
            first, *others = args
            return torch.cat([function(one, *others, **kwargs) for one in first.split(1)])
        if function in BY_PRODUCT:
            products = max(map(len, args))
            return torch.cat(
                [
                    function(
                        *(a if len(a) < products else a[i : i + 1].contiguous() for a in args),
                        **kwargs,
                    )
                    for i in range(products)
                ]
            )
        return function(*args, **kwargs)
