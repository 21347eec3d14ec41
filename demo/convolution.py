"""Convolutions of the bundled VAE by oneDNN, where torch would take its slow ones.

On a CPU torch takes oneDNN for one clip only beyond a size that models this small never reach.
Asked for by name the same convolutions are several times as fast; the last bits differ.
"""

import torch
from comfy.ldm.wan.vae import CausalConv3d
from torch import Tensor


class OneDnnConv3d(CausalConv3d):
    """The host's causal convolution, by oneDNN on a CPU in float32."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor, autopad=None) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return super()._conv_forward(x, weight, bias, autopad=autopad)
        if autopad == "causal_zero":  # the frames before the first are zeros: leave them out
            weight = weight[:, :, -x.shape[2] :]
        return torch.mkldnn_convolution(
            x, weight, bias, self.padding, self.stride, self.dilation, self.groups
        )


def use_onednn(model: torch.nn.Module) -> None:
    """Give all causal convolutions of `model` oneDNN, if this torch has it."""
    if torch.backends.mkldnn.is_available():
        for layer in model.modules():
            if type(layer) is CausalConv3d:
                layer.__class__ = OneDnnConv3d
